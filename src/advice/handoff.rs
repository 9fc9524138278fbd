//! What a session uses before its first change: the price of starting afresh.
//!
//! The first change is the first call of Edit, Write, MultiEdit or NotebookEdit, or of a
//! command that plainly changes files, other than the files kept for the next session.
//! The responses before it count, cache reads aside.

use std::collections::{BTreeMap, BTreeSet};

use super::seen::{Found, NAMED_MAX, Seen, Stake, at, below};
use super::{Advised, Basis, Topic};
use crate::observe::thread::Thread;
use crate::text;

/// What one session used before its first change.
pub(super) fn of_thread(thread: &Thread) -> Option<Stake> {
    let change = thread.first_change().filter(|_| !thread.is_continuation)?;
    let mut stake = Stake::default();
    for step in &thread.steps[..change] {
        stake.add(Stake::of(step.fresh(), step.cost_usd, step.has_unpriced()));
    }
    Some(stake)
}

#[derive(Default)]
struct Project<'a> {
    sessions: u64,
    stake: Stake,
    again: BTreeMap<&'a str, u64>,
    evidence: Vec<(u64, String)>,
}

pub(super) fn look(seen: &Seen<'_>, advised: &mut Advised) {
    let mut main: Vec<&Thread> =
        seen.threads.iter().filter(|t| t.agent.is_none() && !t.steps.is_empty()).collect();
    main.sort_by_key(|thread| (thread.steps[0].unix_ms, &thread.session));
    let mut before: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut projects: BTreeMap<&str, Project<'_>> = BTreeMap::new();
    for thread in main {
        let known = before.insert(&thread.project, reads(thread, thread.steps.len()));
        let Some(stake) = of_thread(thread).filter(|_| seen.has(&thread.steps[0])) else {
            continue;
        };
        let project = projects.entry(&thread.project).or_default();
        project.sessions += 1;
        project.stake.add(stake);
        let words = format!("{} tokens, {}", text::grouped(stake.tokens), at(thread));
        project.evidence.push((stake.tokens, words));
        let change = thread.first_change().unwrap_or(0);
        for file in reads(thread, change).intersection(&known.unwrap_or_default()) {
            *project.again.entry(file).or_default() += 1;
        }
    }
    for (name, project) in projects {
        tell(seen, name, project, advised);
    }
}

fn reads(thread: &Thread, until: usize) -> BTreeSet<&str> {
    let calls = thread.steps[..until].iter().flat_map(|step| &step.calls);
    calls.filter(|call| &*call.tool == "Read").filter_map(|call| call.file.as_deref()).collect()
}

fn tell(seen: &Seen<'_>, name: &str, mut project: Project<'_>, advised: &mut Advised) {
    let key = format!("handoff:{name}");
    let mean = project.stake.tokens as f64 / project.sessions as f64;
    advised.measure(Topic::Handoff, &key, mean, "tokens per session");
    if project.sessions < 2 || mean <= seen.config.handoff_tokens as f64 {
        return;
    }
    let mut again: Vec<(&str, u64)> = project.again.into_iter().collect();
    again.sort_by_key(|(file, times)| (std::cmp::Reverse(*times), *file));
    let files: Vec<String> =
        again.iter().take(NAMED_MAX).map(|(file, _)| below(file, name)).collect();
    let read_again = match again.len() {
        0 => String::new(),
        n => format!(
            "; {} had been read by the session before, too: {}",
            text::count(n as u64, "file", "files"),
            files.join(", ")
        ),
    };
    let proposed_change = match files.is_empty() {
        true => "In dev-docs/tasks.md, name under the next open box the files and functions it is \
                 about, so that a fresh session goes there at once."
            .to_owned(),
        false => format!(
            "--- a/.claude/commands/session-init.md\n+++ b/.claude/commands/session-init.md\n@@\n\
             +dev-docs/PROJECT_SUMMARY.md says what these files hold (add a line or two on each if it\n\
             +does not yet); do not read them before you change them: {}",
            files.join(", ")
        ),
    };
    project.evidence.sort_by(|a, b| b.cmp(a));
    advised.recommend(Found {
        topic: Topic::Handoff,
        key,
        description: format!(
            "Sessions in {name} use {} tokens before their first change (mean of {}, cache reads \
             aside){read_again}.",
            text::grouped(mean.round() as u64),
            text::count(project.sessions, "session", "sessions")
        ),
        proposed_change,
        stake: project.stake,
        basis: Basis::Measured,
        evidence: project.evidence.into_iter().take(NAMED_MAX).map(|(_, words)| words).collect(),
    });
}
