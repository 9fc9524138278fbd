//! What must be true when a run is over, from the ledger, the files and the
//! transcripts alone. Only what it is compared with comes from longhaul.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::ledger::What;

use super::Arena;

/// What a finished run amounts to.
#[derive(Debug, Default)]
pub struct Audit {
    pub sessions: usize,
    pub tokens: u64,
    pub replies: u64,
}

const KINDS: [(&str, &str); 4] = [
    ("input", "input_tokens"),
    ("output", "output_tokens"),
    ("cache_write_5m", "cache_creation_input_tokens"),
    ("cache_read", "cache_read_input_tokens"),
];

/// Holds the report of the finished run against what really happened.
pub fn audit(arena: &Arena) -> Audit {
    let ledger = arena.ledger();
    let dump = || arena.dump();
    let seen = |what: What| ledger.iter().filter(move |entry| entry.what == what);

    assert_eq!(seen(What::Overlap).count(), 0, "two at once\n{}", dump());
    assert_eq!(seen(What::Leftover).count(), 0, "something of the last was there\n{}", dump());
    let tasks = fs::read_to_string(arena.project().join("dev-docs/tasks.md")).unwrap();
    assert_eq!(tasks.matches("- [ ]").count(), 0, "tasks lost\n{tasks}\n{}", dump());
    let ticks: Vec<u64> = seen(What::Tick).map(|entry| entry.n).collect();
    let mut expected = 1;
    for tick in ticks {
        // A kill between the tick and its note leaves a gap, never a repetition.
        assert!(tick >= expected, "a task was done twice\n{}", dump());
        expected = tick + 1;
    }

    let report = main_report(arena);
    assert_eq!(report["outcome"], "done", "{report:#}");
    let mut audit = Audit::default();
    let mut told = BTreeSet::new();
    for (index, cycle) in report["cycles"].as_array().unwrap().iter().enumerate() {
        assert_eq!(cycle["cycle"], index + 1, "{report:#}");
        assert_eq!(cycle["survivors"], 0, "{report:#}");
        let session = cycle["session_id"].as_str().unwrap();
        assert!(told.insert(session), "a session twice: {report:#}");
        let starts = seen(What::Start).filter(|entry| entry.session == session).count();
        assert!(starts <= 1, "cycle {} was launched {starts} times\n{}", index + 1, dump());
        let replies = seen(What::Reply).filter(|entry| entry.session == session);
        let replies = replies.map(|entry| entry.n).max().unwrap_or(0);
        let path = arena.home.transcript(&arena.project(), session);
        let used = used(&path);
        for ((name, _), count) in KINDS.iter().zip(used.tokens) {
            assert_eq!(
                cycle["usage"][*name],
                count,
                "{name} of {}\n{report:#}\n{}",
                path.display(),
                dump()
            );
        }
        assert_eq!(cycle["responses"], used.responses, "{report:#}");
        // What the stand-in noted as written is there, so nothing is lost on the way.
        assert!(used.responses >= replies, "{replies} noted, {} found\n{}", used.responses, dump());
        if starts == 0 {
            let reason = &cycle["end_reason"];
            let is_explained = reason == "supervisor_lost" || reason == "dead_start";
            assert!(is_explained && used.responses == 0, "never began: {cycle:#}\n{}", dump());
        }
        audit.sessions += 1;
        audit.replies += used.responses;
        audit.tokens += used.tokens.iter().sum::<u64>();
    }
    for entry in seen(What::Start) {
        assert!(told.contains(entry.session.as_str()), "a cycle was lost: {entry:?}\n{report:#}");
    }
    assert_eq!(report["totals"]["tokens"], audit.tokens, "{report:#}");
    assert_eq!(report["totals"]["sessions"], audit.sessions, "{report:#}");
    audit
}

/// The report on the run with the sessions. A longhaul that outlived its wrapper
/// may have finished it, and the next one found nothing left to do.
fn main_report(arena: &Arena) -> Value {
    loop {
        let report = arena.report();
        let runs = arena.runs();
        if !report["cycles"].as_array().unwrap().is_empty() || runs.len() <= 1 {
            return report;
        }
        assert_eq!(report["outcome"], "done", "a second run that did nothing: {report:#}");
        let idle = runs.last().unwrap();
        let aside = arena.path(&format!("idle-{}", runs.len()));
        fs::rename(idle, aside).unwrap();
    }
}

struct Used {
    /// In the order of [`KINDS`].
    tokens: [u64; 4],
    responses: u64,
}

/// The sum over a session's files: each message once, its greatest figures.
fn used(main: &Path) -> Used {
    let mut files = vec![main.to_owned()];
    let below = fs::read_dir(main.with_extension("").join("subagents"));
    files.extend(below.into_iter().flatten().flatten().map(|entry| entry.path()));
    let mut messages: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    for file in files {
        let bytes = fs::read(file).unwrap_or_default();
        for line in bytes.split(|byte| *byte == b'\n') {
            let Ok(row) = serde_json::from_slice::<Value>(line) else { continue };
            let message = &row["message"];
            if message["usage"].is_null() || message["model"] == "<synthetic>" {
                continue;
            }
            let id = message["id"].as_str().unwrap().to_owned();
            let sums = messages.entry(id).or_default();
            for (sum, (_, field)) in sums.iter_mut().zip(KINDS) {
                *sum = (*sum).max(message["usage"][field].as_u64().unwrap());
            }
        }
    }
    let mut tokens = [0; 4];
    for sums in messages.values() {
        for (sum, more) in tokens.iter_mut().zip(sums) {
            *sum += more;
        }
    }
    Used { tokens, responses: messages.len() as u64 }
}

/// Tokens of all sessions that ever wrote a transcript here, in the order input,
/// output, written to the cache, read from it.
pub fn tokens_of_all_sessions(arena: &Arena) -> [u64; 4] {
    let folder = arena.home.transcript(&arena.project(), "x");
    let folder = folder.parent().unwrap();
    let mut sum = [0; 4];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|kind| kind == "jsonl") {
            for (sum, more) in sum.iter_mut().zip(used(&entry.path()).tokens) {
                *sum += more;
            }
        }
    }
    sum
}
