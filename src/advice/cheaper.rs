//! Sessions and subagents on a dear model that only read and searched: what the very same
//! tokens come to at the price of a cheap one.

use std::collections::{BTreeMap, BTreeSet};

use super::agents::{AgentFile, is_name};
use super::seen::{Found, NAMED_MAX, Seen, Stake, at};
use super::{Advised, Basis, Topic};
use crate::models::TokenCounts;
use crate::observe::reading::SIDE;
use crate::observe::thread::{Effect, Step, Thread};
use crate::text;

#[derive(Default)]
struct Group {
    threads: u64,
    projects: BTreeSet<String>,
    /// They are named by an id, and not by a kind.
    has_no_kind: bool,
    stake: Stake,
    evidence: Vec<(u64, String)>,
}

pub(super) fn look(seen: &Seen<'_>, advised: &mut Advised) {
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    for thread in seen.threads.iter().filter(|thread| only_looks(thread)) {
        let mut of_thread: BTreeMap<&str, Stake> = BTreeMap::new();
        let mut is_too_large = false;
        for step in thread.steps.iter().filter(|step| seen.has(step)) {
            let (saved, fits) = saved(seen, step);
            is_too_large |= !fits;
            let stake = Stake::of(step.billable.tokens.total(), saved, false);
            of_thread.entry(&step.model).or_default().add(stake);
        }
        if is_too_large {
            continue;
        }
        for (model, stake) in of_thread.into_iter().filter(|(_, stake)| stake.usd > 0.0) {
            let who = thread.agent.clone().unwrap_or_else(|| "main".to_owned());
            let group = groups.entry((model.to_owned(), who)).or_default();
            group.threads += 1;
            group.projects.insert(thread.project.clone());
            group.has_no_kind |= has_no_kind(thread);
            group.stake.add(stake);
            let micros = (stake.usd * 1e6) as u64;
            group.evidence.push((micros, format!("{}, {}", text::usd(stake.usd), at(thread))));
        }
    }
    let mut total = 0.0;
    for ((model, who), group) in groups {
        total += group.stake.usd;
        tell(seen, &model, &who, group, advised);
    }
    advised.measure(Topic::CheaperModel, "cheaper_model", total, "dollars at stake");
}

/// Is it named by its id, since nothing tells its kind?
fn has_no_kind(thread: &Thread) -> bool {
    let Some(name) = &thread.agent else { return false };
    let stem = thread.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem.strip_prefix("agent-") == Some(name) || name == SIDE
}

/// A diff of a file of the project; what to write into one of the person.
fn change_of_file(file: &AgentFile, who: &str, cheap: &str) -> String {
    if !file.is_of_project {
        return format!("Write into the head of {}:\nmodel: {cheap}", file.path.display());
    }
    let before = match (&file.model_line, &file.name_line) {
        (Some(model), _) => format!("-{model}"),
        (None, Some(name)) => format!(" {name}"),
        (None, None) => " ---".to_owned(),
    };
    format!(
        "--- a/.claude/agents/{who}.md\n+++ b/.claude/agents/{who}.md\n@@\n{before}\n+model: {cheap}"
    )
}

/// It used tools, and none that changes anything or might.
fn only_looks(thread: &Thread) -> bool {
    let mut calls = thread.steps.iter().flat_map(|step| &step.calls).peekable();
    calls.peek().is_some() && calls.all(|call| call.effect == Effect::Looks)
}

/// Dollars that the cheap model would have saved, and whether its window would have held
/// the prompt.
fn saved(seen: &Seen<'_>, step: &Step) -> (f64, bool) {
    let cheap = &seen.config.cheap_model;
    let used = step.billable.tokens;
    let fits = seen.models.window(cheap).is_some_and(|window| used.prompt() <= window);
    let at = step.unix_ms.unwrap_or(i64::MAX);
    let price = |model: &str| seen.models.price(model, at, &step.billable).map(|usd| usd.as_f64());
    match (price(&step.model), price(cheap)) {
        (Some(paid), Some(cheap)) => (paid - cheap, fits || used == TokenCounts::default()),
        _ => (0.0, fits),
    }
}

fn tell(seen: &Seen<'_>, model: &str, who: &str, mut group: Group, advised: &mut Advised) {
    let key = format!("cheaper_model:{model}:{who}");
    advised.measure(Topic::CheaperModel, &key, group.stake.usd, "dollars at stake");
    if group.stake.usd <= seen.config.cheap_model_usd {
        return;
    }
    let cheap = &seen.config.cheap_model;
    let (subject, proposed_change) = match who {
        "main" => (
            text::count(group.threads, "session", "sessions"),
            format!(
                "Start sessions that only answer questions with `claude --model {cheap}`, and tasks of \
                 the queue that only find something out with `longhaul task add --model {cheap}`."
            ),
        ),
        _ if is_name(who) && !group.has_no_kind => (
            format!("{} ({who})", text::count(group.threads, "subagent", "subagents")),
            match group.projects.iter().find_map(|project| seen.agents.get(project, who)) {
                Some(file) => change_of_file(file, who, cheap),
                None => format!(
                    "When you start the subagent {who} only to read and search, ask for the model \
                     with it: `model: {cheap}` in the call of the Agent tool."
                ),
            },
        ),
        _ => (
            text::count(group.threads, "subagent", "subagents"),
            format!(
                "When you start a subagent only to read and search, ask for the model with it: \
                 `model: {cheap}` in the call of the Agent tool."
            ),
        ),
    };
    group.evidence.sort_by(|a, b| b.cmp(a));
    advised.recommend(Found {
        topic: Topic::CheaperModel,
        key,
        description: format!(
            "{subject} on {model} only read and searched; at the price of {cheap} the same tokens \
             cost that much less."
        ),
        proposed_change,
        stake: group.stake,
        basis: Basis::Estimated,
        evidence: group.evidence.into_iter().take(NAMED_MAX).map(|(_, words)| words).collect(),
    });
}
