//! Files that are read again although they are as they were: by the same thread while its
//! context still holds them, by sibling subagents, and by later sessions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::seen::{Found, NAMED_MAX, Seen, Stake, at, below};
use super::{Advised, Basis, Topic};
use crate::observe::thread::Thread;
use crate::text;

/// Files whose figures are kept for the next look: far more than are advised on, since one
/// that is missing there counts as not read again.
const MEASURES_MAX: usize = 200;

/// Who had read it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Before {
    /// The same thread, in the same context.
    Self_,
    /// Another thread of the same session.
    Sibling,
    /// Another session, or the same one before its context began anew.
    Earlier,
}

/// What was read: project, file, part and content.
type What<'a> = (&'a str, &'a str, (u64, u64));

/// A whole reading of a file, or of a part of it.
struct Reading<'a> {
    unix_ms: i64,
    thread: usize,
    step: usize,
    /// Which context of the thread, counted from its first.
    context: usize,
    file: &'a str,
    what: (u64, u64),
    tokens: u64,
    is_measured: bool,
}

/// What reading one file again came to.
#[derive(Default)]
struct Again<'a> {
    times: u64,
    by_itself: u64,
    stake: Stake,
    is_estimated: bool,
    threads: BTreeSet<usize>,
    project: &'a str,
}

/// Who has read the same before: as much is kept as there are readers, however often each
/// of them read it.
#[derive(Default)]
struct Readers<'a> {
    /// Threads with their contexts.
    contexts: HashSet<(usize, usize)>,
    /// By session, one thread of it, and whether there is another one.
    sessions: HashMap<&'a str, (usize, bool)>,
}

impl<'a> Readers<'a> {
    fn add(&mut self, session: &'a str, (thread, context): (usize, usize)) {
        self.contexts.insert((thread, context));
        let (known, has_other) = self.sessions.entry(session).or_insert((thread, false));
        *has_other |= *known != thread;
    }

    /// The nearest of them to a thread of that session.
    fn before(&self, session: &str, (thread, context): (usize, usize)) -> Option<Before> {
        if self.contexts.contains(&(thread, context)) {
            return Some(Before::Self_);
        }
        let others = self.sessions.get(session);
        if others.is_some_and(|(known, has_other)| *known != thread || *has_other) {
            return Some(Before::Sibling);
        }
        (!self.contexts.is_empty()).then_some(Before::Earlier)
    }
}

pub(super) fn look(seen: &Seen<'_>, advised: &mut Advised) {
    let readings = readings(seen.threads);
    let mut known: HashMap<What<'_>, Readers<'_>> = HashMap::new();
    let mut files: BTreeMap<&str, Again<'_>> = BTreeMap::new();
    let mut siblings = Again::default();
    let (mut all, mut again) = (0_u64, 0_u64);
    for reading in &readings {
        let thread = &seen.threads[reading.thread];
        let earlier = known.entry((&thread.project, reading.file, reading.what)).or_default();
        let (session, at) = (thread.session.as_str(), (reading.thread, reading.context));
        let before = earlier.before(session, at);
        earlier.add(session, at);
        if !seen.span.has(reading.unix_ms) {
            continue;
        }
        all += 1;
        let Some(before) = before else { continue };
        let sums = match before {
            Before::Sibling => &mut siblings,
            Before::Self_ | Before::Earlier => {
                again += 1;
                files.entry(reading.file).or_default()
            }
        };
        let carried = thread.carried(reading.step, reading.tokens, seen.models);
        sums.times += 1;
        sums.by_itself += u64::from(before == Before::Self_);
        sums.stake.add(Stake::of(reading.tokens, carried.usd, carried.has_unpriced));
        sums.is_estimated |= !reading.is_measured;
        sums.threads.insert(reading.thread);
        sums.project = &thread.project;
    }
    let rate = if all == 0 { 0.0 } else { again as f64 * 100.0 / all as f64 };
    advised.measure(Topic::Reread, "reread", rate, "percent of all reads");
    tell_files(seen, files, advised);
    tell_siblings(seen, &siblings, advised);
}

/// All readings that came back, in the order of time.
fn readings(threads: &[Thread]) -> Vec<Reading<'_>> {
    let mut found = Vec::new();
    for (place, thread) in threads.iter().enumerate() {
        let mut context = 0;
        for (step_at, step) in thread.steps.iter().enumerate() {
            context += usize::from(thread.begins_anew(step_at));
            for call in step.calls.iter().filter(|call| &*call.tool == "Read") {
                let (Some(file), Some(output)) = (call.file.as_deref(), call.output) else {
                    continue;
                };
                if output.is_error || output.chars == 0 {
                    continue;
                }
                found.push(Reading {
                    unix_ms: step.unix_ms.unwrap_or(i64::MIN),
                    thread: place,
                    step: step_at,
                    context,
                    file,
                    what: (call.part, output.hash),
                    tokens: output.tokens,
                    is_measured: output.is_measured,
                });
            }
        }
    }
    found.sort_by_key(|reading| (reading.unix_ms, reading.thread, reading.step));
    found
}

fn tell_files(seen: &Seen<'_>, files: BTreeMap<&str, Again<'_>>, advised: &mut Advised) {
    let mut files: Vec<(&str, Again<'_>)> = files.into_iter().collect();
    files.sort_by_key(|(file, again)| (std::cmp::Reverse(again.stake.tokens), *file));
    for (file, again) in files.iter().take(MEASURES_MAX) {
        let key = format!("reread:{file}");
        advised.measure(Topic::Reread, &key, again.stake.tokens as f64, "tokens read again");
    }
    let worth = files.iter().filter(|(_, again)| again.stake.tokens > seen.config.reread_tokens);
    for (file, again) in worth.take(NAMED_MAX) {
        let short = below(file, again.project);
        let where_from = match (again.by_itself, again.times - again.by_itself) {
            (n, 0) => format!("{} in a session that had it in its context", times(n)),
            (0, n) => format!("{} in a session after one that had read it", times(n)),
            (a, b) => format!("{} in a session that had it, {} in a later one", times(a), times(b)),
        };
        let each = again.stake.tokens / again.times.max(1);
        let proposed_change = match again.by_itself * 2 >= again.times {
            true => format!(
                "--- a/CLAUDE.md\n+++ b/CLAUDE.md\n@@\n+- {short} is long ({} tokens): read the lines \
                 you need (offset and limit), and do not read it again while nobody changed it.",
                text::grouped(each)
            ),
            false => format!(
                "--- a/dev-docs/PROJECT_SUMMARY.md\n+++ b/dev-docs/PROJECT_SUMMARY.md\n@@\n\
                 +- {short}: (what a fresh session needs of it, in a few lines instead of {} tokens)",
                text::grouped(each)
            ),
        };
        advised.recommend(Found {
            topic: Topic::Reread,
            key: format!("reread:{file}"),
            description: format!("{short} was read again unchanged: {where_from}."),
            proposed_change,
            stake: again.stake,
            basis: if again.is_estimated { Basis::Estimated } else { Basis::Measured },
            evidence: evidence(seen, again),
        });
    }
}

fn tell_siblings(seen: &Seen<'_>, siblings: &Again<'_>, advised: &mut Advised) {
    const KEY: &str = "fan_out:duplicate_reads";
    advised.measure(
        Topic::FanOut,
        KEY,
        siblings.stake.tokens as f64,
        "tokens read by a second thread of a session",
    );
    if siblings.stake.tokens <= seen.config.reread_tokens {
        return;
    }
    advised.recommend(Found {
        topic: Topic::FanOut,
        key: KEY.to_owned(),
        description: format!(
            "Subagents read {} what their session, or another subagent of it, had read.",
            times(siblings.times)
        ),
        proposed_change:
            "--- a/CLAUDE.md\n+++ b/CLAUDE.md\n@@\n+- Tell a subagent in its prompt what \
                          you know of the files already, with path and lines; do not give two \
                          subagents the same files to read."
                .to_owned(),
        stake: siblings.stake,
        basis: if siblings.is_estimated { Basis::Estimated } else { Basis::Measured },
        evidence: evidence(seen, siblings),
    });
}

fn evidence(seen: &Seen<'_>, again: &Again<'_>) -> Vec<String> {
    again.threads.iter().take(NAMED_MAX).map(|thread| at(&seen.threads[*thread])).collect()
}

fn times(n: u64) -> String {
    text::count(n, "time", "times")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reader_is_kept_once_however_often_it_reads() {
        let mut readers = Readers::default();
        for _ in 0..50_000 {
            readers.add("s", (0, 0));
        }
        assert_eq!((readers.contexts.len(), readers.sessions.len()), (1, 1));
    }

    proptest! {
        /// As if each reading before were looked at.
        #[test]
        fn the_nearest_reader_counts(all in proptest::collection::vec((0_usize..6, 0_usize..3), 0..12)) {
            // Two threads a session.
            let session = |thread: usize| ["a", "b", "c"][thread / 2];
            let mut readers = Readers::default();
            for (at, (thread, context)) in all.iter().copied().enumerate() {
                let who = |other: &(usize, usize)| match *other {
                    other if other == (thread, context) => Before::Self_,
                    (other, _) if other == thread => Before::Earlier,
                    (other, _) if session(other) == session(thread) => Before::Sibling,
                    _ => Before::Earlier,
                };
                let expected = all[..at].iter().map(who).min();
                prop_assert_eq!(readers.before(session(thread), (thread, context)), expected);
                readers.add(session(thread), (thread, context));
            }
        }
    }
}
