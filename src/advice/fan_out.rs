//! Subagents: how many, what share of the tokens they use, and what it costs that each of
//! them begins with a prompt of its own.

use super::seen::{Found, NAMED_MAX, Seen, Stake, at};
use super::{Advised, Basis, Topic};
use crate::models::TokenCounts;
use crate::text;

pub(super) fn look(seen: &Seen<'_>, advised: &mut Advised) {
    let (mut all, mut of_agents, mut agents) = (0_u64, 0_u64, 0_u64);
    let mut starts = Stake::default();
    let mut evidence: Vec<(u64, String)> = Vec::new();
    for thread in seen.threads {
        let used = thread.steps.iter().filter(|step| seen.has(step)).map(|step| step.fresh());
        let used = used.fold(0, u64::saturating_add);
        all = all.saturating_add(used);
        if thread.agent.is_none() || used == 0 {
            continue;
        }
        agents += 1;
        of_agents = of_agents.saturating_add(used);
        evidence.push((used, format!("{} tokens, {}", text::grouped(used), at(thread))));
        if let Some(first) = thread.steps.first().filter(|step| seen.has(step)) {
            let prompt = TokenCounts { output: 0, ..first.billable.tokens };
            let fresh = prompt.prompt().saturating_sub(prompt.cache_read);
            let usd = first.cost_with(seen.models, prompt);
            starts.add(Stake::of(fresh, usd, first.has_unpriced()));
        }
    }
    let percent = if all == 0 { 0.0 } else { of_agents as f64 * 100.0 / all as f64 };
    advised.measure(Topic::FanOut, "fan_out", percent, "percent of tokens, cache reads aside");
    advised.measure(Topic::FanOut, "fan_out:subagents", agents as f64, "subagents");
    if agents < 2 || percent <= seen.config.fan_out_percent {
        return;
    }
    evidence.sort_by(|a, b| b.cmp(a));
    advised.recommend(Found {
        topic: Topic::FanOut,
        key: "fan_out".to_owned(),
        description: format!(
            "{} used {percent:.0} % of all tokens (cache reads aside); each began with a prompt of its \
             own, which is what is at stake.",
            text::count(agents, "subagent", "subagents")
        ),
        proposed_change: "--- a/CLAUDE.md\n+++ b/CLAUDE.md\n@@\n+- Use a subagent only for a search \
                          over many files whose results you need and not the files; read single \
                          files yourself, and give one subagent several questions."
            .to_owned(),
        stake: starts,
        basis: Basis::Measured,
        evidence: evidence.into_iter().take(NAMED_MAX).map(|(_, words)| words).collect(),
    });
}
