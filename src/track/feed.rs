//! What a run tells the tracker of one of its sessions: all that the session used so far.
//! The tracker records what is new of it, so that an order may be lost, or come twice. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::{LogEntry, Source, TaskLog, Totals};
use crate::clock;
use crate::models::TokenCounts;
use crate::text;

/// The agent that is no subagent.
pub const MAIN: &str = "main";
/// A subagent whose kind nobody tells.
const SUBAGENT: &str = "subagent";

/// What a session used by the end of a cycle, or of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Which session.
    pub source: Source,
    /// The task it was used for since the order before.
    pub task_id: String,
    /// What that is about.
    pub summary: Option<String>,
    /// When, Unix milliseconds.
    pub unix_ms: i64,
    /// All that the session used so far.
    pub parts: Parts,
}

/// What a session used, by subagent and model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts(pub Vec<Part>);

/// What one agent of a session used of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The transcript of the subagent; `None`: the main thread.
    pub agent: Option<PathBuf>,
    /// The model that is billed.
    pub model: String,
    /// Tokens.
    pub tokens: TokenCounts,
    /// Millionths of a dollar at list price; `None`: the model has none.
    pub cost_micro_usd: Option<u64>,
}

impl Part {
    fn raise(&mut self, other: &Part) {
        let (own, other_tokens) = (&mut self.tokens, &other.tokens);
        own.input = own.input.max(other_tokens.input);
        own.output = own.output.max(other_tokens.output);
        own.cache_write_5m = own.cache_write_5m.max(other_tokens.cache_write_5m);
        own.cache_write_1h = own.cache_write_1h.max(other_tokens.cache_write_1h);
        own.cache_read = own.cache_read.max(other_tokens.cache_read);
        self.cost_micro_usd = self.cost_micro_usd.max(other.cost_micro_usd);
    }

    fn key(&self) -> (Option<&Path>, &str) {
        (self.agent.as_deref(), &self.model)
    }
}

impl Parts {
    /// Takes in what another reading says: of each figure the larger.
    pub(super) fn raise(&mut self, other: &Parts) {
        let mut places: BTreeMap<(Option<PathBuf>, String), usize> = BTreeMap::new();
        for (at, part) in self.0.iter().enumerate() {
            places.insert((part.agent.clone(), part.model.clone()), at);
        }
        for theirs in &other.0 {
            match places.get(&(theirs.agent.clone(), theirs.model.clone())) {
                Some(at) => self.0[*at].raise(theirs),
                None => self.0.push(theirs.clone()),
            }
        }
    }

    /// What is more than `before`.
    fn since(&self, before: &Parts) -> Parts {
        let before: BTreeMap<_, &Part> = before.0.iter().map(|old| (old.key(), old)).collect();
        let rest = self.0.iter().map(|part| {
            let mut rest = part.clone();
            if let Some(old) = before.get(&part.key()) {
                rest.tokens.subtract(&old.tokens);
                let old_micro_usd = old.cost_micro_usd.unwrap_or(0);
                rest.cost_micro_usd =
                    part.cost_micro_usd.map(|cost| cost.saturating_sub(old_micro_usd));
            }
            rest
        });
        Parts(rest.filter(|part| !part.tokens.is_zero()).collect())
    }
}

impl Order {
    /// The log of what is new since `recorded`; `None` if nothing is. `kind_of` tells the
    /// kind of a subagent by its transcript.
    pub(super) fn log(
        &self,
        recorded: &Parts,
        kind_of: impl Fn(&Path) -> Option<String>,
    ) -> Option<TaskLog> {
        let mut entries: BTreeMap<(bool, String, String), LogEntry> = BTreeMap::new();
        for part in self.parts.since(recorded).0 {
            let agent = match &part.agent {
                None => MAIN.to_owned(),
                Some(file) => kind_of(file).unwrap_or_else(|| SUBAGENT.to_owned()),
            };
            let key = (part.agent.is_some(), agent.clone(), part.model.clone());
            let entry = entries.entry(key).or_insert_with(|| LogEntry {
                agent: Some(agent),
                model: Some(part.model.clone()),
                ..LogEntry::default()
            });
            add(entry, &part);
        }
        if entries.is_empty() {
            return None;
        }
        let entries: Vec<LogEntry> = entries.into_values().collect();
        Some(TaskLog {
            task_id: Some(self.task_id.clone()),
            timestamp: Some(clock::rfc3339(self.unix_ms)),
            user_request_summary: self.summary.clone(),
            totals: Totals::of(Some(&entries)),
            entries: Some(entries),
            source: Some(self.source.clone()),
        })
    }
}

fn add(entry: &mut LogEntry, part: &Part) {
    let TokenCounts { input, output, cache_write_5m, cache_write_1h, cache_read } = part.tokens;
    let written = cache_write_5m.saturating_add(cache_write_1h);
    let sent = input.saturating_add(written);
    let raise = |sum: &mut Option<u64>, more: u64| {
        *sum = Some(sum.unwrap_or(0).saturating_add(more));
    };
    raise(&mut entry.input_tokens, sent);
    raise(&mut entry.output_tokens, output);
    raise(&mut entry.total_tokens, sent.saturating_add(output));
    raise(&mut entry.cache_write_tokens, written);
    raise(&mut entry.cache_read_tokens, cache_read);
    // Of one model, so all of them have a price or none.
    if let Some(micro_usd) = part.cost_micro_usd {
        let usd = entry.estimated_cost.unwrap_or(0.0) + micro_usd as f64 / 1e6;
        entry.estimated_cost = Some(text::to_micros(usd));
    }
}
