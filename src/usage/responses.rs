//! The responses that count, each one by itself with its price, by the transcript it
//! belongs to: for whoever asks more than sums.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::account::{Said, Source};
use super::places::{self, Transcript};
use super::reading::Reader;
use crate::models::{Billable, Models, TokenCounts, Usd};
use crate::transcript::parse::Damage;
use crate::transcript::part::Key;
use crate::transcript::part::{Part, SharedNames, by_message, counted};

/// What names a response: its message and its request.
pub(crate) type ResponseKey = (Key, Option<Key>);

/// A response that counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Response {
    /// What names it.
    pub(crate) key: ResponseKey,
    /// Its earliest row, Unix milliseconds.
    pub(crate) unix_ms: Option<i64>,
    /// The model that is billed.
    pub(crate) model: Arc<str>,
    /// What it is billed for, its advisors aside.
    pub(crate) billable: Billable,
    /// Its list price; `None`: of a model without one.
    pub(crate) price: Option<Usd>,
    /// What other models answered on the way.
    pub(crate) advisors: Advisors,
    /// It stands in the main thread.
    pub(crate) is_main: bool,
}

/// Requests that other models answered on the way to a response.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Advisors {
    /// Their tokens.
    pub(crate) tokens: TokenCounts,
    /// Their list price.
    pub(crate) price: Usd,
    /// Tokens of those without one.
    pub(crate) unpriced_tokens: u64,
}

/// A transcript with the responses that are its own.
#[derive(Debug, Clone)]
pub(crate) struct OwnResponses {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its session.
    pub(crate) session: String,
    /// The kind of its agent, or its id; `None`: the main thread.
    pub(crate) agent: Option<String>,
    /// The directory it worked in.
    pub(crate) project: String,
    /// In the order of time.
    pub(crate) responses: Vec<Response>,
    /// It tells as well of responses that another transcript told of first: it goes on
    /// with the conversation of that one.
    pub(crate) is_continuation: bool,
}

/// The transcripts below these directories that were written to since `since_unix_ms`,
/// by path, and what was wrong with them.
///
/// What an older file told of first has an older time than that, so leaving it out
/// changes nothing for responses since then.
pub(crate) fn since(
    config_dirs: &[PathBuf],
    since_unix_ms: i64,
    models: &Models,
) -> (Vec<OwnResponses>, Damage) {
    let listing = places::transcripts(config_dirs);
    let mut transcripts = listing.list;
    transcripts.retain(|listed| listed.print.mtime_ns.div_euclid(1_000_000) >= since_unix_ms);
    let (files, mut damage) = of(transcripts, models);
    damage.unreadable_files += listing.unreadable_folders;
    (files, damage)
}

/// Those of transcripts that were listed.
pub(super) fn of(transcripts: Vec<Transcript>, models: &Models) -> (Vec<OwnResponses>, Damage) {
    let names = SharedNames::default();
    let mut reader = Reader::new(&names);
    let (mut damage, mut files, mut parts) = (Damage::default(), Vec::new(), Vec::new());
    for Transcript { path, .. } in transcripts {
        let Ok(reading) = places::open(&path).and_then(|file| reader.read(file)) else {
            damage.unreadable_files += 1;
            continue;
        };
        damage.add(&reading.damage);
        let said = Said::of(&path, &reading);
        let Source { path, session, agent, project, .. } = Source::of(path, said);
        files.push(OwnResponses {
            path,
            session,
            agent,
            project,
            responses: Vec::new(),
            is_continuation: false,
        });
        parts.push(reading.parts);
    }
    share_out(&mut files, &parts, &names.all(), models);
    (files, damage)
}

fn share_out(files: &mut [OwnResponses], parts: &[Vec<Part>], names: &[String], models: &Models) {
    let shared: Vec<Arc<str>> = names.iter().map(|name| Arc::from(name.as_str())).collect();
    let told = by_message(parts);
    for of_message in told.chunk_by(|a, b| a.part.message == b.part.message) {
        let counts = counted(of_message, names);
        let owners: HashSet<u32> = match of_message {
            [_] => HashSet::new(),
            _ => counts.iter().map(|(owner, _)| *owner).collect(),
        };
        for other in of_message.iter().filter(|_| of_message.len() > 1) {
            if other.part.is_main && !owners.contains(&other.file) {
                files[other.file as usize].is_continuation = true;
            }
        }
        for (owner, part) in counts {
            files[owner as usize].responses.push(response(&part, &shared, models));
        }
    }
    for file in files {
        file.responses.sort_by_key(|response| (response.unix_ms, response.key));
        file.responses.shrink_to_fit();
    }
}

fn response(part: &Part, names: &[Arc<str>], models: &Models) -> Response {
    let mut own = None;
    let mut advisors = Advisors::default();
    for bill in part.bills() {
        let model = names.get(bill.model.0 as usize).cloned().unwrap_or_else(|| "unknown".into());
        let price = models.price(&model, bill.unix_ms, &bill.billable);
        if bill.is_response {
            own = Some((model, bill.billable, price));
            continue;
        }
        advisors.tokens.add(&bill.billable.tokens);
        match price {
            Some(price) => advisors.price = advisors.price.plus(price),
            None => advisors.unpriced_tokens += bill.billable.tokens.total(),
        }
    }
    let (model, billable, price) = own.expect("the response itself is the first of its bills");
    Response {
        key: (part.message, part.request),
        unix_ms: part.unix_ms,
        model,
        billable,
        price,
        advisors,
        is_main: part.is_main || part.request.is_none(),
    }
}
