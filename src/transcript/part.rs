//! A response as one file tells of it, and what of several tellings counts. Pure.
//!
//! Claude Code writes a response as one row for each block, each with the usage of the
//! whole; rows grow, come again after a resume or a fork, and stand in the files of
//! parent and subagent. The CLI's own bill was compared for each of these:
//!
//! - a response is known by message id and request id, the greatest of each number stands;
//! - cache writes without a lifetime are five-minute ones;
//! - the requested model, where a row names it;
//! - error rows and `<synthetic>` rows count nothing;
//! - advisor iterations as requests of their own, never at the fast rate;
//! - for a response that was cut off, a third of a token per character, if no row has more
//!   than the placeholder it began with.
//!
//! A message that the main thread has from one request, or from none, is one response: what
//! files of subagents have of it under other requests are copies. If the main thread has it
//! from several, this server's message ids do not identify anything and the requests do.
//! What counts belongs to the file that told of it first.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::record::{Assistant, Row, Usage};
use crate::models::{Billable, TokenCounts};

/// What stands in place of a model in rows the CLI makes up itself.
pub(crate) const SYNTHETIC_MODEL: &str = "<synthetic>";

/// Characters the CLI takes for one token when it has to estimate.
const CHARS_PER_ESTIMATED_TOKEN: u64 = 3;

/// A response begins with so many output tokens at most, whatever it will have in the end.
const PLACEHOLDER_MAX_TOKENS: u64 = 8;

/// What has more requests under one message id than that is no message and its copies.
pub(crate) const COPIES_MAX: usize = 256;

/// What names a message or a request: the beginning of its SHA-256.
pub(crate) type Key = [u8; 16];

/// The name of a model, by its number among all names seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(pub(crate) u32);

/// The names of models seen so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    numbers: HashMap<String, Name>,
    names: Vec<String>,
}

impl Names {
    /// The number of a name. An empty one is `unknown`.
    pub(crate) fn of(&mut self, name: &str) -> Name {
        let name = if name.is_empty() { "unknown" } else { name };
        if let Some(known) = self.numbers.get(name) {
            return *known;
        }
        let new = Name(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), new);
        new
    }

    /// All of them, in the order of their numbers.
    pub(crate) fn all(&self) -> &[String] {
        &self.names
    }

    /// The name of that number.
    pub(crate) fn name(&self, name: Name) -> &str {
        self.names.get(name.0 as usize).map_or("unknown", String::as_str)
    }
}

/// [`Names`] that several threads add to.
#[derive(Debug, Default)]
pub(crate) struct SharedNames(Mutex<Names>);

impl SharedNames {
    /// As [`Names::of`].
    pub(crate) fn of(&self, name: &str) -> Name {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).of(name)
    }

    /// As [`Names::all`], at this moment.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).names.clone()
    }
}

/// What a request used, as the rows state it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) input: u64,
    pub(crate) output: u64,
    /// Of both lives.
    pub(crate) cache_write: u64,
    pub(crate) cache_write_1h: u64,
    pub(crate) cache_read: u64,
    pub(crate) web_searches: u64,
    pub(crate) is_fast: bool,
    pub(crate) is_us: bool,
}

impl From<&Usage> for Amounts {
    fn from(usage: &Usage) -> Self {
        Self {
            input: usage.input,
            output: usage.output,
            cache_write: usage.cache_write,
            cache_write_1h: usage.cache_write_1h,
            cache_read: usage.cache_read,
            web_searches: usage.web_searches,
            is_fast: usage.fast,
            is_us: usage.us_inference,
        }
    }
}

impl Amounts {
    fn grow(&mut self, other: &Amounts) {
        self.input = self.input.max(other.input);
        self.output = self.output.max(other.output);
        self.cache_write = self.cache_write.max(other.cache_write);
        self.cache_write_1h = self.cache_write_1h.max(other.cache_write_1h);
        self.cache_read = self.cache_read.max(other.cache_read);
        self.web_searches = self.web_searches.max(other.web_searches);
        self.is_fast |= other.is_fast;
        self.is_us |= other.is_us;
    }

    pub(crate) fn tokens(&self, output: u64) -> TokenCounts {
        let long = self.cache_write_1h.min(self.cache_write);
        TokenCounts {
            input: self.input,
            output,
            cache_write_5m: self.cache_write - long,
            cache_write_1h: long,
            cache_read: self.cache_read,
        }
    }
}

/// What few responses have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Requests another model answered on the way.
    pub(crate) advisors: Vec<(Name, Amounts)>,
    /// Characters by block, as long as it is not finished.
    pub(crate) chars: Vec<(u64, u64)>,
}

/// A response as one file tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) message: Key,
    /// `None`: its rows name none.
    pub(crate) request: Option<Key>,
    /// The earliest row, Unix milliseconds.
    pub(crate) unix_ms: Option<i64>,
    /// The name to bill, and whether it is the one that was asked for.
    pub(crate) model: (bool, Name),
    pub(crate) amounts: Amounts,
    /// It stands in the main thread, under its request.
    pub(crate) is_main: bool,
    /// All its rows say that another session made the request.
    pub(crate) is_copy: bool,
    /// It was received to its end.
    pub(crate) is_finished: bool,
    pub(crate) rest: Option<Box<Rest>>,
}

/// What a row says of a response.
#[derive(Debug)]
pub(crate) enum Telling {
    /// It speaks of no response, or of one that costs nothing.
    Nothing,
    /// It has usage and no id: that cannot be told from a repetition.
    Unidentified(TokenCounts),
    /// It speaks of this one.
    Of(Part),
}

impl Telling {
    /// Of a row. `name` gives models their numbers.
    pub(crate) fn of(row: &Row, assistant: &Assistant, mut name: impl FnMut(&str) -> Name) -> Self {
        let bears_usage = assistant.api_error.is_none() && assistant.model != SYNTHETIC_MODEL;
        let Some(usage) = assistant.usage.as_ref().filter(|_| bears_usage) else {
            return Telling::Nothing;
        };
        let amounts = Amounts::from(usage);
        let request = assistant.request_id.as_deref().or(assistant.request_ref.as_deref());
        let Some(id) = assistant.message_id.as_deref().or(request) else {
            return Telling::Unidentified(amounts.tokens(amounts.output));
        };
        let model = assistant.requested_model.as_ref().unwrap_or(&assistant.model);
        let model = (assistant.requested_model.is_some(), name(model));
        let advisors = usage.advisors.iter();
        let rest = Rest {
            advisors: advisors.map(|(model, usage)| (name(model), usage.into())).collect(),
            chars: match assistant.finished {
                true => Vec::new(),
                false => vec![(assistant.block, assistant.visible_chars)],
            },
        };
        Telling::Of(Part {
            message: digest(id),
            request: request.map(digest),
            unix_ms: row.unix_ms,
            model,
            amounts,
            is_main: request.is_some() && !row.sidechain,
            is_copy: assistant.is_copy,
            is_finished: assistant.finished,
            rest: (rest != Rest::default()).then(|| Box::new(rest)),
        })
    }
}

impl Part {
    /// Takes in another telling of the same response.
    pub(crate) fn merge(&mut self, other: &Part, names: &[String]) {
        self.unix_ms = match (self.unix_ms, other.unix_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let rank = |(is_requested, name): (bool, Name)| (is_requested, names.get(name.0 as usize));
        if rank(other.model) > rank(self.model) {
            self.model = other.model;
        }
        self.amounts.grow(&other.amounts);
        self.is_main |= other.is_main;
        self.is_copy &= other.is_copy;
        self.is_finished |= other.is_finished;
        if let Some(more) = &other.rest {
            self.rest.get_or_insert_default().merge(more, names);
        }
        if self.is_finished
            && let Some(rest) = &mut self.rest
        {
            rest.chars = Vec::new();
            if rest.advisors.is_empty() {
                self.rest = None;
            }
        }
    }

    /// The models that its bills name.
    pub(crate) fn models(&self) -> impl Iterator<Item = Name> {
        let advisors = self.rest.iter().flat_map(|rest| &rest.advisors).map(|(name, _)| *name);
        std::iter::once(self.model.1).chain(advisors)
    }

    /// The output that is billed: of what was cut off and has no more than the placeholder
    /// it began with, an estimate.
    fn output(&self) -> u64 {
        let told = self.amounts.output;
        if told > PLACEHOLDER_MAX_TOKENS {
            return told;
        }
        let chars = self.rest.iter().flat_map(|rest| &rest.chars).map(|(_, chars)| chars);
        let chars: u64 = chars.fold(0, |sum, chars| sum.saturating_add(*chars));
        let estimated =
            (chars.saturating_mul(2) + CHARS_PER_ESTIMATED_TOKEN) / (2 * CHARS_PER_ESTIMATED_TOKEN);
        told.max(estimated)
    }

    /// What is billed for it: itself, and the requests of its advisors.
    pub(crate) fn bills(&self) -> impl Iterator<Item = Bill> {
        // A row without a time is priced as of the newest price.
        let unix_ms = self.unix_ms.unwrap_or(i64::MAX);
        let own = Bill {
            model: self.model.1,
            unix_ms,
            is_response: true,
            billable: Billable {
                tokens: self.amounts.tokens(self.output()),
                web_searches: self.amounts.web_searches,
                fast: self.amounts.is_fast,
                us_inference: self.amounts.is_us,
            },
        };
        let advisors = self.rest.iter().flat_map(|rest| &rest.advisors);
        std::iter::once(own).chain(advisors.map(move |(model, amounts)| Bill {
            model: *model,
            unix_ms,
            is_response: false,
            billable: Billable {
                tokens: amounts.tokens(amounts.output),
                web_searches: amounts.web_searches,
                fast: false,
                us_inference: self.amounts.is_us,
            },
        }))
    }
}

impl Rest {
    fn merge(&mut self, other: &Rest, names: &[String]) {
        let word = |name: Name| names.get(name.0 as usize);
        for (at, (name, amounts)) in other.advisors.iter().enumerate() {
            match self.advisors.get_mut(at) {
                Some((kept_name, kept)) => {
                    kept.grow(amounts);
                    if word(*name) > word(*kept_name) {
                        *kept_name = *name;
                    }
                }
                None => self.advisors.push((*name, *amounts)),
            }
        }
        for (block, chars) in &other.chars {
            match self.chars.iter_mut().find(|(other, _)| other == block) {
                Some((_, kept)) => *kept = (*kept).max(*chars),
                None => self.chars.push((*block, *chars)),
            }
        }
    }
}

/// What one request is billed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bill {
    pub(crate) model: Name,
    /// Unix milliseconds; `i64::MAX` where its rows tell none.
    pub(crate) unix_ms: i64,
    /// It is the response itself, and not a request on its way.
    pub(crate) is_response: bool,
    pub(crate) billable: Billable,
}

/// A response with the file it belongs to.
#[derive(Debug)]
struct Owned {
    /// When that file told of it first, whether as a copy, whether not in the main
    /// thread, and the file: the least has it. Forks and the files of subagents repeat
    /// rows with the times they had.
    owner: (i64, bool, bool, u32),
    part: Part,
}

impl Owned {
    /// What is told of one response, by one file at least.
    fn of(told: &[&Told<'_>], names: &[String]) -> Self {
        let one = |told: &Told<'_>| {
            let (part, file) = (told.part, told.file);
            let unix_ms = part.unix_ms.unwrap_or(i64::MAX);
            Self { owner: (unix_ms, part.is_copy, !part.is_main, file), part: part.clone() }
        };
        let mut owned = one(told[0]);
        told[1..].iter().for_each(|told| owned.take_in(&one(told), names));
        owned
    }

    fn take_in(&mut self, other: &Owned, names: &[String]) {
        self.owner = self.owner.min(other.owner);
        self.part.merge(&other.part, names);
    }

    fn counted(self) -> (u32, Part) {
        (self.owner.3, self.part)
    }
}

/// A part with the file that tells of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    /// The file, and its place among all files by path.
    pub(crate) file: u32,
    pub(crate) part: &'a Part,
}

/// What files tell, message by message; `parts[file]` are those of a file.
pub(crate) fn by_message(parts: &[Vec<Part>]) -> Vec<Told<'_>> {
    let mut told: Vec<Told<'_>> = parts
        .iter()
        .zip(0..)
        .flat_map(|(parts, file)| parts.iter().map(move |part| Told { file, part }))
        .collect();
    told.sort_unstable_by_key(|told| (told.part.message, told.part.request, told.file));
    told
}

/// What counts of all that is told of one message, and of which file: each response
/// once, as the greatest of what is told of it, for the file that told of it first.
pub(crate) fn counted(told: &[Told<'_>], names: &[String]) -> Vec<(u32, Part)> {
    if let [only] = told {
        return vec![(only.file, only.part.clone())];
    }
    // Sorted, since somebody may put thousands of requests under one message.
    let mut told: Vec<&Told<'_>> = told.iter().collect();
    told.sort_by_key(|told| told.part.request);
    let responses = told.chunk_by(|a, b| a.part.request == b.part.request);
    let responses: Vec<Owned> = responses.map(|told| Owned::of(told, names)).collect();
    let main = responses.iter().filter(|response| response.part.is_main).count();
    let named = responses.iter().filter(|response| response.part.request.is_some()).count();
    if main <= 1 && named <= COPIES_MAX {
        let one = responses.into_iter().reduce(|mut one, other| {
            one.take_in(&other, names);
            one
        });
        return one.map(Owned::counted).into_iter().collect();
    }
    let (mut counted, bare): (Vec<Owned>, Vec<Owned>) = responses
        .into_iter()
        .filter(|response| response.part.request.is_none() || response.part.is_main || main != 1)
        .partition(|response| response.part.request.is_some());
    // Rows that name no request are of the only one there is.
    if let [only] = &mut counted[..] {
        bare.iter().for_each(|bare| only.take_in(bare, names));
    }
    counted.into_iter().map(Owned::counted).collect()
}

/// What names a message or a request.
pub(crate) fn digest(id: impl AsRef<[u8]>) -> Key {
    let hash = Sha256::digest(id.as_ref());
    let mut short = Key::default();
    short.copy_from_slice(&hash[..16]);
    short
}
