//! What would cost less: recommendations with the numbers behind them.
//!
//! Whoever finds one says what was measured, so that the next review can tell whether
//! it paid.
//!
//! | file | finds |
//! |---|---|
//! | `handoff` | what sessions use before their first change |
//! | `reread` | files read again unchanged, also by sibling subagents |
//! | `cheaper` | threads that only looked, on a dear model |
//! | `fan_out` | the share of subagents |
//! | `cache` | prompts written to the cache again |
//! | `batching` | tasks that could have shared a session |
//! | `output` | output that fills the context |
//! | `seen` | what all of them look at |
//! | `agents` | the files that define kinds of agents |
//!
//! All that find something are pure: threads, as `observe::reading` reads them, and prices in,
//! figures out.

pub(crate) mod agents;
mod batching;
mod cache;
mod cheaper;
mod fan_out;
mod handoff;
mod output;
mod reread;
mod seen;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Observe};
use crate::models::Models;
use crate::observe::thread::Thread;
use crate::observe::{Execution, Places, Span, Watched};
use crate::text;

use agents::AgentFiles;
use seen::Seen;

/// What a recommendation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// What a session reads before its first change.
    Handoff,
    /// Files that are read again and again.
    Reread,
    /// Work that a cheaper model does as well.
    CheaperModel,
    /// Subagents.
    FanOut,
    /// Prompts that were written to the cache again instead of read from it.
    CacheMisses,
    /// Tasks that could share one session.
    Batching,
    /// Output of commands that fills the context.
    OversizedOutput,
}

impl Topic {
    /// The type of the usage-tracker's answers it counts as.
    pub fn tracker_type(self) -> &'static str {
        match self {
            Topic::CheaperModel => "model_selection",
            Topic::FanOut | Topic::Batching => "delegation_reduction",
            Topic::Handoff | Topic::Reread | Topic::CacheMisses | Topic::OversizedOutput => {
                "context_reuse"
            }
        }
    }
}

/// How sure the figures of a recommendation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// They stand in transcripts.
    Measured,
    /// They are worked out from what stands there.
    Estimated,
}

/// A figure that a recommendation is to lower, whether it was bad enough to give one or
/// not: the next review compares it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// What it is about.
    pub topic: Topic,
    /// The same from review to review: the topic, and what it is about (a path, a
    /// model), as `reread:src/lib.rs`.
    pub key: String,
    /// How much of it, in `unit`.
    pub value: f64,
    /// What `value` counts: "tokens per cycle".
    pub unit: String,
}

/// A recommendation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// What it is about.
    pub topic: Topic,
    /// The [`Measure`] that tells whether it paid.
    pub key: String,
    /// What was found, with its figures, in one or two sentences.
    pub description: String,
    /// A diff, or an instruction that can be carried out as it stands.
    pub proposed_change: String,
    /// Tokens at stake in the period; `None`: nobody can tell.
    pub tokens: Option<u64>,
    /// Dollars at list prices at stake in the period; `None`: nobody can tell, or it is all of
    /// models without a price.
    pub cost_usd: Option<f64>,
    /// How sure the two are.
    pub basis: Basis,
    /// Where it can be seen: session, path, count.
    pub evidence: Vec<String>,
}

/// What a period shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Advised {
    /// All figures, also those that are fine.
    pub measures: Vec<Measure>,
    /// What would cost less, the most at stake first.
    pub advice: Vec<Advice>,
}

/// What the sessions of a time show, those of one project or of all: what would cost less,
/// and the figures by which the next look tells whether it paid.
pub fn advise(
    places: &Places,
    span: Span,
    project: Option<&Path>,
    config: &Config,
    models: &Models,
) -> Advised {
    let watched = Watched::read(places, span.from_unix_ms, project, config, models);
    let tasks = watched.executions(span, config.observe.input);
    let agents = AgentFiles::of(watched.threads(), &places.config_dirs);
    of_threads(watched.threads(), &tasks, &agents, span, &config.observe, models)
}

/// What threads, and executions for tasks of the queue, show of a time.
pub(crate) fn of_threads(
    threads: &[Thread],
    tasks: &[Execution],
    agents: &AgentFiles,
    span: Span,
    config: &Observe,
    models: &Models,
) -> Advised {
    let seen = Seen { threads, tasks, agents, span, config, models };
    let mut advised = Advised::default();
    handoff::look(&seen, &mut advised);
    reread::look(&seen, &mut advised);
    cheaper::look(&seen, &mut advised);
    fan_out::look(&seen, &mut advised);
    cache::look(&seen, &mut advised);
    batching::look(&seen, &mut advised);
    output::look(&seen, &mut advised);
    advised.measures.sort_by(|a, b| (a.topic, &a.key).cmp(&(b.topic, &b.key)));
    advised.advice.sort_by(Advice::by_stake);
    advised
}

impl Advice {
    /// The most dollars first, then the most tokens.
    pub fn by_stake(&self, other: &Self) -> Ordering {
        let usd = |advice: &Self| advice.cost_usd.unwrap_or(0.0);
        usd(other)
            .total_cmp(&usd(self))
            .then_with(|| other.tokens.cmp(&self.tokens))
            .then_with(|| self.key.cmp(&other.key))
    }

    /// `1,000 tokens, $0.42`, without dollars where there are none; `None`: nobody can tell.
    pub fn stake_words(&self, between: &str) -> Option<String> {
        let tokens = self.tokens.map(|tokens| format!("{} tokens", text::grouped(tokens)));
        let parts: Vec<String> = tokens.into_iter().chain(self.cost_usd.map(text::usd)).collect();
        (!parts.is_empty()).then(|| parts.join(between))
    }
}
