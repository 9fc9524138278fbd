//! What a session used: each response counted once, however often and in
//! whatever order its rows are read. Pure.
//!
//! A response is written as one row per content block, each repeating the
//! usage of the whole; rows may come again (a replay, a file read anew, the
//! same message in the parent's and a subagent's file) and later ones may have
//! grown. So a response is identified by `(message.id, requestId)` and the
//! greatest value of each field stands.
//!
//! What the CLI bills, found by feeding it known usage, and followed here:
//! - the model that was requested, not the one that answered;
//! - one-hour writes up to the total of cache writes, the rest as five-minute;
//! - advisor iterations as requests of their own, never at the fast rate;
//! - for a response that was cut off, a third of a token per character.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::parse::Damage;
use super::record::{Assistant, Row, Usage};
use crate::models::{Billable, Models, TokenCounts, Usd};

/// What stands in place of a model in rows the CLI makes up itself.
pub const SYNTHETIC_MODEL: &str = "<synthetic>";

/// Characters the CLI takes for one token when it has to estimate.
const CHARS_PER_ESTIMATED_TOKEN: u64 = 3;

/// What a session, or several, used.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    messages: HashMap<Digest128, Message>,
    names: BTreeSet<Arc<str>>,
    total: TokenCounts,
    by_model: BTreeMap<Arc<str>, TokenCounts>,
    /// The files of subagents; what is read now is of the file with this number, 0 being
    /// the main one.
    agents: Vec<PathBuf>,
    agent: u32,
    responses: u64,
    unidentified: Unidentified,
    pub(super) damage: Damage,
}

/// Usage in rows without any id: it cannot be told from a repetition, so it is
/// kept apart from the totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Unidentified {
    /// Rows.
    pub rows: u64,
    /// Their tokens, repetitions included.
    pub tokens: TokenCounts,
}

/// What the responses of a [`Ledger`] cost at list price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Dollars for the responses of known models.
    pub usd: f64,
    /// Tokens of unknown models, which `usd` leaves out.
    pub unpriced_tokens: u64,
    /// `usd` and, for the unpriced tokens, the dearest price known: what a
    /// budget should count.
    pub at_most_usd: f64,
}

/// What one agent used of one model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share<'a> {
    /// The subagent's file; `None`: the main thread.
    pub agent: Option<&'a Path>,
    /// The model that is billed.
    pub model: &'a str,
    /// Tokens.
    pub tokens: TokenCounts,
    /// Dollars at list price; `None`: the model is unknown.
    pub usd: Option<Usd>,
}

/// The beginning of the SHA-256 of an id.
pub(crate) type Digest128 = [u8; 16];

/// The responses that share a message id, by request: normally just one.
///
/// A subagent's file can repeat messages of its parent under request ids of
/// its own. So where the main thread has the message, the copies elsewhere do
/// not count; unless the main thread has it from several requests, for then
/// this server's message ids do not identify anything and the requests do.
#[derive(Debug, Clone, Default)]
struct Message {
    responses: Vec<(Option<Digest128>, Response)>,
}

#[derive(Debug, Clone, Default)]
struct Response {
    /// Seen in the main thread under its request.
    main: bool,
    /// The file it was seen in first: see [`Ledger::agent`].
    agent: u32,
    unix_ms: Option<i64>,
    /// The name to bill, and whether it is the requested one.
    model: Option<(bool, Arc<str>)>,
    usage: Usage,
    /// Requests another model answered on the way.
    advisors: Vec<(Arc<str>, Usage)>,
    finished: bool,
    /// Visible characters by block, as long as the response is not finished.
    partial: Vec<(u64, u64)>,
}

/// What one request is billed for.
struct Bill<'a> {
    model: &'a Arc<str>,
    unix_ms: i64,
    billable: Billable,
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a row. True if it speaks of a response not seen before, or seen
    /// only outside the main thread.
    pub fn count(&mut self, row: &Row, assistant: &Assistant) -> bool {
        let Some(usage) = assistant.usage.as_ref().filter(|_| bears_usage(assistant)) else {
            return false;
        };
        let request = assistant.request_id.as_deref().or(assistant.request_ref.as_deref());
        let Some(id) = assistant.message_id.as_deref().or(request) else {
            self.unidentified.rows += 1;
            self.unidentified.tokens.add(&tokens(usage, usage.output));
            return false;
        };
        let name = assistant.requested_model.as_ref().unwrap_or(&assistant.model);
        let model = (assistant.requested_model.is_some(), self.intern(name));
        let request = request.map(digest);
        let id = digest(id);
        let advisors: Vec<_> =
            usage.advisors.iter().map(|(name, usage)| (self.intern(name), usage)).collect();

        let mut message = self.messages.remove(&id).unwrap_or_default();
        let known = message.get(request).map(|response| response.main);
        message.counted().iter().for_each(|response| self.take_out(response));
        let mut new = Response::of(row, assistant, usage, model, advisors);
        new.agent = self.agent;
        message.take_in(request, new);
        message.counted().iter().for_each(|response| self.put_in(response));
        let is_main = message.get(request).is_some_and(|response| response.main);
        self.messages.insert(id, message);
        known.is_none_or(|was_main| is_main && !was_main)
    }

    /// Tokens of all responses.
    pub fn total(&self) -> &TokenCounts {
        &self.total
    }

    /// Tokens by billed model.
    pub fn by_model(&self) -> impl Iterator<Item = (&str, &TokenCounts)> {
        self.by_model.iter().map(|(model, tokens)| (&**model, tokens))
    }

    /// How many different responses were counted.
    pub fn responses(&self) -> u64 {
        self.responses
    }

    /// Usage that could not be attributed to a response.
    pub fn unidentified(&self) -> Unidentified {
        self.unidentified
    }

    /// What was wrong with the rows.
    pub fn damage(&self) -> Damage {
        self.damage
    }

    /// Prices every response by itself, at its own time.
    pub fn cost(&self, models: &Models) -> Cost {
        let mut priced = Usd::default();
        let mut bound = Usd::default();
        let mut unpriced_tokens: u64 = 0;
        let counted: Vec<Cow<'_, Response>> =
            self.messages.values().flat_map(Message::counted).collect();
        for bill in counted.iter().flat_map(|response| response.bills()) {
            match models.price(bill.model, bill.unix_ms, &bill.billable) {
                Some(price) => priced = priced.plus(price),
                None => {
                    bound = bound.plus(models.dearest_price(&bill.billable));
                    unpriced_tokens = unpriced_tokens.saturating_add(bill.billable.tokens.total());
                }
            }
        }
        Cost { usd: priced.as_f64(), unpriced_tokens, at_most_usd: priced.plus(bound).as_f64() }
    }

    /// What each agent used of each model, priced.
    pub fn shares(&self, models: &Models) -> Vec<Share<'_>> {
        let mut shares = BTreeMap::new();
        for response in self.messages.values().flat_map(Message::counted) {
            let agent = (response.agent as usize).checked_sub(1);
            let agent = agent.and_then(|at| self.agents.get(at)).map(PathBuf::as_path);
            for bill in response.bills() {
                let price = models.price(bill.model, bill.unix_ms, &bill.billable);
                let model = self.names.get(bill.model).map_or("unknown", |model| &**model);
                let tokens = TokenCounts::default();
                let share = shares.entry((agent, model)).or_insert(Share {
                    agent,
                    model,
                    tokens,
                    usd: None,
                });
                share.tokens.add(&bill.billable.tokens);
                // Of one model, so all of it has a price or none.
                share.usd = price.map(|price| price.plus(share.usd.unwrap_or_default()));
            }
        }
        shares.into_values().collect()
    }

    /// What is counted from now on is of the main file.
    pub(super) fn read_main(&mut self) {
        self.agent = 0;
    }

    /// What is counted from now on is of the file with this number. One that has none
    /// gets one.
    pub(super) fn read_agent(&mut self, number: &mut Option<u32>, file: &Path) {
        self.agent = *number.get_or_insert_with(|| {
            self.agents.push(file.to_owned());
            u32::try_from(self.agents.len()).unwrap_or(0)
        });
    }

    fn put_in(&mut self, response: &Response) {
        self.responses += 1;
        for bill in response.bills() {
            self.total.add(&bill.billable.tokens);
            self.by_model.entry(bill.model.clone()).or_default().add(&bill.billable.tokens);
        }
    }

    fn take_out(&mut self, response: &Response) {
        self.responses -= 1;
        for bill in response.bills() {
            self.total.subtract(&bill.billable.tokens);
            if let Some(sum) = self.by_model.get_mut(bill.model) {
                sum.subtract(&bill.billable.tokens);
                if sum.is_zero() {
                    self.by_model.remove(bill.model);
                }
            }
        }
    }

    fn intern(&mut self, name: &str) -> Arc<str> {
        let name = if name.is_empty() { "unknown" } else { name };
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        self.names.insert(new.clone());
        new
    }
}

impl Message {
    fn get(&self, request: Option<Digest128>) -> Option<&Response> {
        self.responses.iter().find(|(r, _)| *r == request).map(|(_, response)| response)
    }

    fn take_in(&mut self, request: Option<Digest128>, new: Response) {
        match self.responses.iter_mut().find(|(r, _)| *r == request) {
            Some((_, known)) => known.take_in(&new),
            None => {
                self.responses.reserve_exact(1);
                self.responses.push((request, new));
            }
        }
    }

    /// The responses that count. Rows that name no request are of the only one there is.
    fn counted(&self) -> Vec<Cow<'_, Response>> {
        let main = self.responses.iter().filter(|(_, response)| response.main).count();
        let named = self.responses.iter().filter(|(request, _)| request.is_some());
        let counts = |response: &&Response| response.main || main != 1;
        let mut counted: Vec<Cow<'_, Response>> =
            named.map(|(_, response)| response).filter(counts).map(Cow::Borrowed).collect();
        if let Some(bare) = self.get(None) {
            match &mut counted[..] {
                [] => counted.push(Cow::Borrowed(bare)),
                [only] => only.to_mut().take_in(bare),
                _ => {}
            }
        }
        counted
    }
}

impl Response {
    /// As one row tells of it.
    fn of(
        row: &Row,
        assistant: &Assistant,
        usage: &Usage,
        model: (bool, Arc<str>),
        advisors: Vec<(Arc<str>, &Usage)>,
    ) -> Self {
        let named = assistant.request_id.is_some() || assistant.request_ref.is_some();
        let advisors = advisors.into_iter().map(|(name, usage)| (name, usage.clone()));
        Self {
            main: named && !row.sidechain,
            unix_ms: row.unix_ms,
            model: Some(model),
            usage: usage.clone(),
            advisors: advisors.collect(),
            finished: assistant.finished,
            agent: 0,
            partial: match assistant.finished {
                true => Vec::new(),
                false => vec![(assistant.block, assistant.visible_chars)],
            },
        }
    }

    /// Takes in what else is told of it.
    fn take_in(&mut self, other: &Response) {
        if other.main && !self.main {
            self.agent = other.agent;
        }
        self.main |= other.main;
        self.unix_ms = match (self.unix_ms, other.unix_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.model = self.model.take().max(other.model.clone());
        grow(&mut self.usage, &other.usage);
        for (at, (name, usage)) in other.advisors.iter().enumerate() {
            match self.advisors.get_mut(at) {
                Some((kept_name, kept)) => {
                    grow(kept, usage);
                    if name > kept_name {
                        *kept_name = name.clone();
                    }
                }
                None => self.advisors.push((name.clone(), usage.clone())),
            }
        }
        self.finished |= other.finished;
        if self.finished {
            self.partial = Vec::new();
            return;
        }
        for (block, chars) in &other.partial {
            match self.partial.iter_mut().find(|(known, _)| known == block) {
                Some((_, kept)) => *kept = (*kept).max(*chars),
                None => self.partial.push((*block, *chars)),
            }
        }
    }

    /// The request itself and those of its advisors.
    fn bills(&self) -> impl Iterator<Item = Bill<'_>> {
        // A row without a time is priced as of the newest price.
        let unix_ms = self.unix_ms.unwrap_or(i64::MAX);
        let own = self.model.iter().map(move |(_, model)| Bill {
            model,
            unix_ms,
            billable: Billable {
                tokens: tokens(&self.usage, self.output()),
                web_searches: self.usage.web_searches,
                fast: self.usage.fast,
                us_inference: self.usage.us_inference,
            },
        });
        own.chain(self.advisors.iter().map(move |(model, usage)| Bill {
            model,
            unix_ms,
            billable: Billable {
                tokens: tokens(usage, usage.output),
                web_searches: usage.web_searches,
                fast: false,
                us_inference: self.usage.us_inference,
            },
        }))
    }

    fn output(&self) -> u64 {
        let chars: u64 = self.partial.iter().map(|(_, chars)| chars).sum();
        self.usage
            .output
            .max((2 * chars + CHARS_PER_ESTIMATED_TOKEN) / (2 * CHARS_PER_ESTIMATED_TOKEN))
    }
}

fn bears_usage(assistant: &Assistant) -> bool {
    assistant.api_error.is_none() && assistant.model != SYNTHETIC_MODEL
}

/// Keeps the greater of each field.
fn grow(kept: &mut Usage, other: &Usage) {
    kept.input = kept.input.max(other.input);
    kept.output = kept.output.max(other.output);
    kept.cache_write = kept.cache_write.max(other.cache_write);
    kept.cache_write_1h = kept.cache_write_1h.max(other.cache_write_1h);
    kept.cache_read = kept.cache_read.max(other.cache_read);
    kept.web_searches = kept.web_searches.max(other.web_searches);
    kept.fast |= other.fast;
    kept.us_inference |= other.us_inference;
}

fn tokens(usage: &Usage, output: u64) -> TokenCounts {
    let long = usage.cache_write_1h.min(usage.cache_write);
    TokenCounts {
        input: usage.input,
        output,
        cache_write_5m: usage.cache_write - long,
        cache_write_1h: long,
        cache_read: usage.cache_read,
    }
}

pub(crate) fn digest(id: impl AsRef<[u8]>) -> Digest128 {
    let hash = Sha256::digest(id.as_ref());
    let mut short = Digest128::default();
    short.copy_from_slice(&hash[..16]);
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::record::{ApiError, Body};
    use super::*;

    #[derive(Debug, Clone)]
    struct Line {
        id: Option<u8>,
        request: Option<u8>,
        sidechain: bool,
        finished: bool,
        block: u64,
        chars: u64,
        counts: [u64; 5],
    }

    impl Line {
        /// What groups it; without a message id the request stands for it.
        fn group(&self) -> Option<u8> {
            self.id.or(self.request.map(|request| 100 + request))
        }
    }

    fn line() -> impl Strategy<Value = Line> {
        let some = proptest::option::weighted;
        let ids = (some(0.95, 0..6_u8), some(0.9, 0..3_u8));
        let flags = (any::<bool>(), proptest::bool::weighted(0.8), 0..3_u64, 0..900_u64);
        (ids, flags, proptest::array::uniform5(0..1000_u64)).prop_map(|(ids, flags, counts)| Line {
            id: ids.0,
            request: ids.1,
            sidechain: flags.0,
            finished: flags.1,
            block: flags.2,
            chars: flags.3,
            counts,
        })
    }

    fn count(ledger: &mut Ledger, line: &Line) {
        let usage = Usage {
            input: line.counts[0],
            output: line.counts[1],
            cache_write: line.counts[2],
            cache_write_1h: line.counts[3],
            cache_read: line.counts[4],
            ..Usage::default()
        };
        let request = line.request.map(|id| format!("req_{id}"));
        let assistant = Assistant {
            message_id: line.group().filter(|_| line.id.is_some()).map(|id| format!("msg_{id}")),
            request_id: request,
            model: "claude-opus-5-5".into(),
            finished: line.finished,
            block: line.block,
            visible_chars: line.chars,
            usage: Some(usage),
            ..Assistant::default()
        };
        let row = Row { unix_ms: Some(0), sidechain: line.sidechain, body: Body::Quiet };
        ledger.count(&row, &assistant);
    }

    fn ledger<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Ledger {
        let mut ledger = Ledger::new();
        lines.into_iter().for_each(|line| count(&mut ledger, line));
        ledger
    }

    /// The rules, told by looking at all rows at once.
    fn reference(lines: &[Line]) -> (u64, TokenCounts) {
        let mut keys: Vec<(u8, Option<u8>)> =
            lines.iter().filter_map(|line| Some((line.group()?, line.request))).collect();
        keys.sort_unstable();
        keys.dedup();
        let of = |id: u8, request: Option<u8>| {
            lines.iter().filter(move |l| l.group() == Some(id) && l.request == request)
        };
        let in_main = |id, request: Option<u8>| of(id, request).any(|line| !line.sidechain);
        let mut sum = (0, TokenCounts::default());
        let mut ids: Vec<u8> = keys.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        for id in ids {
            let mut named: Vec<Option<u8>> =
                keys.iter().filter(|key| key.0 == id && key.1.is_some()).map(|key| key.1).collect();
            if named.iter().filter(|request| in_main(id, **request)).count() == 1 {
                named.retain(|request| in_main(id, *request));
            }
            // Rows without a request are of the only one, or are all there is.
            let bare: Vec<&Line> = of(id, None).collect();
            let mut responses: Vec<Vec<&Line>> =
                named.iter().map(|request| of(id, *request).collect()).collect();
            match &mut responses[..] {
                [] => responses.push(bare),
                [only] => only.extend(bare),
                _ => {}
            }
            for told in responses {
                let max = |field: usize| told.iter().map(|l| l.counts[field]).max().unwrap_or(0);
                let mut output = max(1);
                if !told.iter().any(|line| line.finished) {
                    let block = |b| told.iter().filter(|l| l.block == b).map(|l| l.chars).max();
                    let chars: u64 = (0..3).filter_map(block).sum();
                    output = output.max((chars as f64 / 3.0).round() as u64);
                }
                let long = max(3).min(max(2));
                sum.0 += 1;
                sum.1.add(&TokenCounts {
                    input: max(0),
                    output,
                    cache_write_5m: max(2) - long,
                    cache_write_1h: long,
                    cache_read: max(4),
                });
            }
        }
        sum
    }

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(
            (lines, shuffled) in proptest::collection::vec(line(), 0..40)
                .prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle())),
        ) {
            let (responses, total) = reference(&lines);
            let once = ledger(&lines);
            prop_assert_eq!(once.responses(), responses);
            prop_assert_eq!(once.total(), &total);
            let again = ledger(shuffled.iter().chain(&lines).chain(shuffled.iter().rev()));
            prop_assert_eq!(again.responses(), responses);
            prop_assert_eq!(again.total(), &total);
            let models = Models::builtin();
            prop_assert_eq!(again.cost(models), once.cost(models));
            let by_model: u64 = again.by_model().map(|(_, tokens)| tokens.total()).sum();
            prop_assert_eq!(by_model, total.total());
        }
    }

    #[test]
    fn failed_and_made_up_rows_count_nothing() {
        let row = Row { unix_ms: None, sidechain: false, body: Body::Quiet };
        let counted = Assistant {
            message_id: Some("m".into()),
            usage: Some(Usage { input: 5, ..Usage::default() }),
            ..Assistant::default()
        };
        let api_error = Some(ApiError { error: "x".into(), status: None, limit: None });
        let failed = Assistant { api_error, ..counted.clone() };
        let made_up = Assistant { model: SYNTHETIC_MODEL.into(), ..counted.clone() };
        let mut ledger = Ledger::new();
        assert!(!ledger.count(&row, &failed));
        assert!(!ledger.count(&row, &made_up));
        assert_eq!((ledger.responses(), ledger.total().total()), (0, 0));
        assert!(ledger.count(&row, &counted));
        assert_eq!((ledger.responses(), ledger.total().total()), (1, 5));
    }

    #[test]
    fn rows_without_any_id_stand_apart() {
        let line = Line {
            id: None,
            request: None,
            sidechain: false,
            finished: true,
            block: 0,
            chars: 0,
            counts: [1, 2, 0, 0, 0],
        };
        let ledger = ledger([&line, &line]);
        assert_eq!(ledger.responses(), 0);
        assert_eq!((ledger.unidentified().rows, ledger.unidentified().tokens.total()), (2, 6));
    }
}
