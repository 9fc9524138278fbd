//! Output of commands and searches that fills the context: the part beyond a bound, written
//! once and read by every request after it.

use std::collections::BTreeMap;

use super::seen::{Found, NAMED_MAX, Seen, Stake, at};
use super::{Advised, Basis, Topic};
use crate::observe::thread::CHARS_PER_TOKEN;
use crate::text;

/// Tools that have a topic of their own, or answer with as much as was asked for.
const OTHERS: &[&str] = &["Agent", "Edit", "MultiEdit", "NotebookEdit", "Read", "Task", "Write"];

#[derive(Default)]
struct Group {
    times: u64,
    largest: u64,
    requests: u64,
    stake: Stake,
    evidence: Vec<(u64, String)>,
}

pub(super) fn look(seen: &Seen<'_>, advised: &mut Advised) {
    let bound = seen.config.output_tokens;
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    for thread in seen.threads {
        for (place, step) in thread.steps.iter().enumerate().filter(|(_, step)| seen.has(step)) {
            for call in step.calls.iter().filter(|call| !OTHERS.contains(&&*call.tool)) {
                let tokens = call.output.map_or(0, |output| output.tokens);
                let Some(beyond) = tokens.checked_sub(bound).filter(|beyond| *beyond > 0) else {
                    continue;
                };
                let carried = thread.carried(place, beyond, seen.models);
                let requests = carried.requests;
                let what = call.what.as_deref().unwrap_or_default().to_owned();
                let group = groups.entry((call.tool.to_string(), what)).or_default();
                group.times += 1;
                group.largest = group.largest.max(tokens);
                group.requests += requests;
                group.stake.add(Stake::of(beyond, carried.usd, carried.has_unpriced));
                let words = format!(
                    "{} tokens, carried by {}, {}",
                    text::grouped(tokens),
                    text::count(requests, "request", "requests"),
                    at(thread)
                );
                group.evidence.push((tokens, words));
            }
        }
    }
    let all: u64 = groups.values().map(|group| group.stake.tokens).sum();
    let unit = "tokens beyond observe.output_tokens";
    advised.measure(Topic::OversizedOutput, "oversized_output", all as f64, unit);
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|a, b| b.1.stake.usd.total_cmp(&a.1.stake.usd).then_with(|| a.0.cmp(&b.0)));
    for ((tool, what), group) in groups {
        tell(bound, &tool, &what, group, advised);
    }
}

fn tell(bound: u64, tool: &str, what: &str, mut group: Group, advised: &mut Advised) {
    let name = if what.is_empty() { tool.to_owned() } else { format!("{tool} {what}") };
    let key = format!("oversized_output:{name}");
    let unit = "tokens beyond observe.output_tokens";
    advised.measure(Topic::OversizedOutput, &key, group.stake.tokens as f64, unit);
    let proposed_change = match tool {
        "Bash" => format!(
            "--- a/longhaul.toml\n+++ b/longhaul.toml\n@@\n [claude]\n+env = {{ \
             BASH_MAX_OUTPUT_LENGTH = \"{}\" }}\n--- a/CLAUDE.md\n+++ b/CLAUDE.md\n@@\n+- Run `{what}` \
             with its output in a file, and look at the end of it: `{what} ... > out.log 2>&1; tail \
             -n 50 out.log`.",
            bound * CHARS_PER_TOKEN
        ),
        "Grep" | "Glob" => format!(
            "--- a/CLAUDE.md\n+++ b/CLAUDE.md\n@@\n+- Call {tool} with a narrower pattern or path; with \
             Grep ask for files first (output_mode files_with_matches) and set head_limit."
        ),
        _ => format!(
            "--- a/CLAUDE.md\n+++ b/CLAUDE.md\n@@\n+- Ask {tool} for less at a time: its answers came to \
             {} tokens.",
            text::grouped(group.largest)
        ),
    };
    group.evidence.sort_by(|a, b| b.cmp(a));
    advised.recommend(Found {
        topic: Topic::OversizedOutput,
        key,
        description: format!(
            "The output of {name} was larger than {} tokens {} (up to {}); the part beyond was carried \
             by {}.",
            text::grouped(bound),
            text::count(group.times, "time", "times"),
            text::grouped(group.largest),
            text::count(group.requests, "request", "requests")
        ),
        proposed_change,
        stake: group.stake,
        basis: Basis::Estimated,
        evidence: group.evidence.into_iter().take(NAMED_MAX).map(|(_, words)| words).collect(),
    });
}
