//! Errors that nothing made good: a call that failed, and no later one did the same with
//! success. Pure.

use std::collections::BTreeMap;

use super::execution::Check;
use super::thread::{Call, Effect, Step, Thread};
use crate::report::Moment;

/// What went wrong in a time and stayed so.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Standing {
    /// The errors, in the order of time, those of `last_check` aside.
    pub errors: Vec<String>,
    /// The last test or check.
    pub last_check: Option<Check>,
    /// Its error, if it failed.
    pub check_error: Option<String>,
}

/// Of the calls that threads made in a time.
pub(super) fn of(threads: &[&&Thread], in_time: &impl Fn(Option<i64>) -> bool) -> Standing {
    let mut calls: Vec<(&Step, &Call)> = Vec::new();
    for step in threads.iter().flat_map(|thread| &thread.steps) {
        if in_time(step.unix_ms) {
            calls.extend(step.calls.iter().map(|call| (step, call)));
        }
    }
    // Of what was asked for at the same time the order is that of the reply.
    calls.sort_by_key(|(step, call)| (step.unix_ms, call.block));
    let mut open: BTreeMap<usize, &Call> = BTreeMap::new();
    let mut last_check = None;
    for (at, (step, call)) in calls.iter().enumerate().filter(|(_, (_, c))| c.output.is_some()) {
        if call.is_check {
            last_check = Some((at, *step, *call));
        }
        if !call.has_failed() {
            open.retain(|_, failed| !makes_good(call, failed));
        } else if call.error.is_some() && !call.subjects.is_empty() {
            // Of the same failing again, the last time is told.
            open.retain(|_, failed| !is_same(call, failed));
            open.insert(at, call);
        }
    }
    let mut standing = Standing::default();
    if let Some((at, step, call)) = last_check {
        standing.last_check = Some(Check {
            command: name(call).to_owned(),
            at: step.unix_ms.map(|unix_ms| Moment { unix_ms }),
            failed: call.has_failed(),
        });
        standing.check_error = open.remove(&at).map(words);
    }
    standing.errors = open.into_values().map(words).collect();
    standing
}

/// Does a call that did not fail make good that another one had failed?
fn makes_good(call: &Call, failed: &Call) -> bool {
    // A script may have done what a tool could not.
    let may_be_another_way = failed.file.is_some()
        && &*call.tool == "Bash"
        && (call.effect == Effect::Changes || (call.effect == Effect::May && !call.is_check));
    is_same(call, failed) || may_be_another_way
}

fn is_same(call: &Call, other: &Call) -> bool {
    call.subjects.iter().any(|subject| other.subjects.contains(subject))
}

fn name(call: &Call) -> &str {
    call.what.as_deref().unwrap_or(&call.tool)
}

fn words(call: &Call) -> String {
    let error = call.error.as_deref().unwrap_or("it failed");
    match call.file.as_deref() {
        Some(file) => {
            let file = crate::text::safe(file);
            format!("{} of {file}: {error}", call.tool)
        }
        None => format!("`{}`: {error}", crate::text::safe(name(call))),
    }
}
