//! Prompts that were written to the cache again although they had stood there: after a
//! pause longer than the cache lives, after a change of the model, or because the prompt
//! was changed at its beginning.

use std::collections::BTreeMap;

use super::seen::{Found, NAMED_MAX, Seen, Stake, at};
use super::{Advised, Basis, Topic};
use crate::models::TokenCounts;
use crate::observe::thread::{Step, Thread};
use crate::text;

/// Lives of the cache.
const SHORT_MS: i64 = 5 * 60 * 1_000;
const LONG_MS: i64 = 60 * 60 * 1_000;
/// What is written again in passing, tokens: not every block of a prompt is cached alike.
const NOISE_TOKENS: u64 = 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    OverHour,
    OverFiveMinutes,
    ModelSwitch,
    PromptChanged,
}

impl Cause {
    const ALL: [Cause; 4] =
        [Cause::OverHour, Cause::OverFiveMinutes, Cause::ModelSwitch, Cause::PromptChanged];

    fn key(self) -> &'static str {
        match self {
            Cause::OverHour => "cache_misses:pause_over_1h",
            Cause::OverFiveMinutes => "cache_misses:pause_over_5m",
            Cause::ModelSwitch => "cache_misses:model_switch",
            Cause::PromptChanged => "cache_misses:prompt_changed",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Cause::OverHour => "after a pause of more than an hour",
            Cause::OverFiveMinutes => "after a pause of more than five minutes",
            Cause::ModelSwitch => "after the model was changed within a session",
            Cause::PromptChanged => {
                "without a pause: something at the beginning of the prompt changed"
            }
        }
    }

    fn change(self) -> &'static str {
        match self {
            Cause::OverHour => {
                "End a session before you leave it for an hour (`longhaul cycle` asks it for a \
                 checkpoint first), and go on in a fresh one: that loads less than the old context."
            }
            Cause::OverFiveMinutes => {
                "Let what takes more than five minutes (builds, whole test suites) run at the end of a \
                 turn, or in the background while the session goes on; answer a waiting session \
                 within five minutes or begin a fresh one."
            }
            Cause::ModelSwitch => {
                "Do not change the model within a session: begin a fresh one, or give the work to a \
                 subagent with that model."
            }
            Cause::PromptChanged => {
                "Leave alone within a session what the prompt begins with: MCP servers, tools and \
                 their permissions, CLAUDE.md, output styles. `longhaul cycle` begins a fresh one."
            }
        }
    }
}

#[derive(Default)]
struct Sums {
    times: u64,
    stake: Stake,
    evidence: Vec<(u64, String)>,
}

pub(super) fn look(seen: &Seen<'_>, advised: &mut Advised) {
    let mut by_cause: BTreeMap<Cause, Sums> = BTreeMap::new();
    for thread in seen.threads {
        for place in 1..thread.steps.len() {
            let step = &thread.steps[place];
            let Some((cause, tokens)) = miss(thread, place).filter(|_| seen.has(step)) else {
                continue;
            };
            let used = step.billable.tokens;
            let usd =
                step.cost_with(seen.models, used) - step.cost_with(seen.models, read(used, tokens));
            let sums = by_cause.entry(cause).or_default();
            sums.times += 1;
            sums.stake.add(Stake::of(tokens, usd, step.has_unpriced()));
            let when = step.unix_ms.map_or_else(String::new, crate::clock::rfc3339);
            let words = format!("{} tokens at {when}, {}", text::grouped(tokens), at(thread));
            sums.evidence.push((tokens, words));
        }
    }
    for cause in Cause::ALL {
        let mut sums = by_cause.remove(&cause).unwrap_or_default();
        let tokens = sums.stake.tokens as f64;
        advised.measure(Topic::CacheMisses, cause.key(), tokens, "tokens written again");
        if sums.stake.tokens <= seen.config.cache_miss_tokens {
            continue;
        }
        sums.evidence.sort_by(|a, b| b.cmp(a));
        advised.recommend(Found {
            topic: Topic::CacheMisses,
            key: cause.key().to_owned(),
            description: format!(
                "Prompts were written to the cache {} although they had stood there, {}; the \
                 difference to reading them is at stake.",
                text::count(sums.times, "time", "times"),
                cause.words()
            ),
            proposed_change: cause.change().to_owned(),
            stake: sums.stake,
            basis: Basis::Measured,
            evidence: sums.evidence.into_iter().take(NAMED_MAX).map(|(_, words)| words).collect(),
        });
    }
}

/// What the step at `place` wrote to the cache that the one before had put or found there.
fn miss(thread: &Thread, place: usize) -> Option<(Cause, u64)> {
    if thread.begins_anew(place) {
        return None;
    }
    let (before, step) = (&thread.steps[place - 1], &thread.steps[place]);
    let (was, is) = (before.billable.tokens, step.billable.tokens);
    let written = |tokens: TokenCounts| tokens.cache_write_5m.saturating_add(tokens.cache_write_1h);
    let expected = was.cache_read.saturating_add(written(was));
    let again = expected.saturating_sub(is.cache_read).min(written(is));
    (again >= NOISE_TOKENS).then(|| (cause(before, step), again))
}

fn cause(before: &Step, step: &Step) -> Cause {
    let gap_ms = match (before.unix_ms, step.unix_ms) {
        (Some(before), Some(now)) => now.saturating_sub(before),
        _ => 0,
    };
    let lives_long =
        before.billable.tokens.cache_write_1h > 0 || step.billable.tokens.cache_write_1h > 0;
    if before.model != step.model {
        return Cause::ModelSwitch;
    }
    match gap_ms {
        _ if gap_ms > LONG_MS => Cause::OverHour,
        _ if gap_ms > SHORT_MS && !lives_long => Cause::OverFiveMinutes,
        _ => Cause::PromptChanged,
    }
}

/// The same tokens with so many of the written ones read instead.
fn read(used: TokenCounts, tokens: u64) -> TokenCounts {
    let short = used.cache_write_5m.min(tokens);
    let long = used.cache_write_1h.min(tokens - short);
    TokenCounts {
        cache_write_5m: used.cache_write_5m - short,
        cache_write_1h: used.cache_write_1h - long,
        cache_read: used.cache_read.saturating_add(short + long),
        ..used
    }
}
