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
        raise(&mut self.tokens, &other.tokens);
        self.cost_micro_usd = self.cost_micro_usd.max(other.cost_micro_usd);
    }

    fn key(&self) -> (Option<&Path>, &str) {
        (self.agent.as_deref(), &self.model)
    }
}

impl Parts {
    /// Takes in what another reading says: of each figure the larger.
    fn raise(&mut self, other: &Parts) {
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

    /// All tokens, and all that has a price.
    fn total(&self) -> (TokenCounts, u64) {
        let mut total = (TokenCounts::default(), 0_u64);
        for part in &self.0 {
            total.0.add(&part.tokens);
            total.1 = total.1.saturating_add(part.cost_micro_usd.unwrap_or(0));
        }
        total
    }
}

/// What of a session is recorded: by part as told last, and all together. The parts alone
/// would not do: a response may move to another agent or model when more of it is read,
/// and what is recorded of it under the old name stays recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    parts: Parts,
    /// The most of each kind that was ever told.
    tokens: TokenCounts,
    cost_micro_usd: u64,
}

impl Known {
    /// Takes in an order that is recorded, or waits to be.
    pub(super) fn learn(&mut self, parts: &Parts) {
        let (tokens, cost_micro_usd) = parts.total();
        let mut all = tokens;
        raise(&mut all, &self.tokens);
        if all == tokens {
            self.parts = parts.clone();
        } else if all != self.tokens {
            // Neither came after the other. Rather too little than twice.
            self.parts.raise(parts);
        }
        self.tokens = all;
        self.cost_micro_usd = self.cost_micro_usd.max(cost_micro_usd);
    }

    /// What is new in `parts`, never more than they are together; and how many tokens
    /// are recorded already, under another agent or model.
    fn news_in(&self, parts: &Parts) -> (Parts, u64) {
        let before: BTreeMap<_, &Part> = self.parts.0.iter().map(|old| (old.key(), old)).collect();
        let mut news = parts.clone();
        for part in &mut news.0 {
            let key = (part.agent.as_deref(), part.model.as_str());
            if let Some(old) = before.get(&key).copied() {
                part.tokens.subtract(&old.tokens);
                let old_micro_usd = old.cost_micro_usd.unwrap_or(0);
                part.cost_micro_usd =
                    part.cost_micro_usd.map(|cost| cost.saturating_sub(old_micro_usd));
            }
        }
        let ((mut most, most_micro_usd), (mut moved, micro_usd)) = (parts.total(), news.total());
        most.subtract(&self.tokens);
        moved.subtract(&most);
        let mut moved_micro_usd =
            micro_usd.saturating_sub(most_micro_usd.saturating_sub(self.cost_micro_usd));
        let count = moved.total();
        // What has a new name is what may have had another.
        let mut places: Vec<usize> = (0..news.0.len()).collect();
        places.sort_by_key(|at| before.contains_key(&parts.0[*at].key()));
        for at in places {
            let part = &mut news.0[at];
            let told = part.tokens;
            part.tokens.subtract(&moved);
            moved.subtract(&told);
            if let Some(cost) = &mut part.cost_micro_usd {
                let told = *cost;
                *cost = told.saturating_sub(moved_micro_usd);
                moved_micro_usd = moved_micro_usd.saturating_sub(told);
            }
        }
        news.0.retain(|part| !part.tokens.is_zero());
        (news, count)
    }
}

fn raise(own: &mut TokenCounts, other: &TokenCounts) {
    own.input = own.input.max(other.input);
    own.output = own.output.max(other.output);
    own.cache_write_5m = own.cache_write_5m.max(other.cache_write_5m);
    own.cache_write_1h = own.cache_write_1h.max(other.cache_write_1h);
    own.cache_read = own.cache_read.max(other.cache_read);
}

impl Order {
    /// The log of what is new since `recorded`, `None` if nothing is; and how many tokens
    /// are recorded already, under another agent or model. `kind_of` tells the kind of a
    /// subagent by its transcript.
    pub(super) fn log(
        &self,
        recorded: &Known,
        kind_of: impl Fn(&Path) -> Option<String>,
    ) -> Option<(TaskLog, u64)> {
        let mut entries: BTreeMap<(bool, String, String), LogEntry> = BTreeMap::new();
        let (news, moved) = recorded.news_in(&self.parts);
        for part in news.0 {
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
        let log = TaskLog {
            task_id: Some(self.task_id.clone()),
            timestamp: Some(clock::rfc3339(self.unix_ms)),
            user_request_summary: self.summary.clone(),
            totals: Totals::of(Some(&entries)),
            entries: Some(entries),
            source: Some(self.source.clone()),
        };
        Some((log, moved))
    }
}

fn add(entry: &mut LogEntry, part: &Part) {
    let TokenCounts { input, output, cache_write_5m, cache_write_1h, cache_read } = part.tokens;
    let written = cache_write_5m.saturating_add(cache_write_1h);
    let sent = input.saturating_add(written);
    let put = |sum: &mut Option<u64>, more: u64| {
        *sum = Some(sum.unwrap_or(0).saturating_add(more));
    };
    put(&mut entry.input_tokens, sent);
    put(&mut entry.output_tokens, output);
    put(&mut entry.total_tokens, sent.saturating_add(output));
    put(&mut entry.cache_write_tokens, written);
    put(&mut entry.cache_read_tokens, cache_read);
    // Of one model, so all of them have a price or none.
    if let Some(micro_usd) = part.cost_micro_usd {
        let usd = entry.estimated_cost.unwrap_or(0.0) + micro_usd as f64 / 1e6;
        entry.estimated_cost = Some(text::to_micros(usd));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(agent: usize, model: usize, figure: u64) -> Part {
        Part {
            agent: (agent > 0).then(|| PathBuf::from(format!("/x/agent-{agent}.jsonl"))),
            model: format!("model-{model}"),
            tokens: TokenCounts { input: figure, output: figure * 2, ..TokenCounts::default() },
            cost_micro_usd: Some(figure * 3),
        }
    }

    /// Responses of these figures, each where it belongs.
    fn parts(responses: &[(usize, usize, u64)]) -> Parts {
        let mut sums: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        for (agent, model, figure) in responses {
            *sums.entry((*agent, *model)).or_default() += figure;
        }
        Parts(sums.into_iter().map(|((agent, model), sum)| part(agent, model, sum)).collect())
    }

    #[test]
    fn what_moved_to_another_model_is_taken_from_what_has_a_new_name() {
        let mut known = Known::default();
        known.learn(&parts(&[(0, 0, 40), (1, 0, 100)]));
        let (news, moved) = known.news_in(&parts(&[(0, 0, 50), (1, 1, 100)]));
        assert_eq!((news, moved), (parts(&[(0, 0, 10)]), 300));
        known.learn(&parts(&[(0, 0, 50), (1, 1, 100)]));
        let (news, moved) = known.news_in(&parts(&[(0, 0, 50), (1, 1, 170)]));
        assert_eq!((news, moved), (parts(&[(1, 1, 70)]), 0));
    }

    proptest! {
        #[test]
        fn whatever_moves_where_together_it_is_recorded_once(
            steps in prop::collection::vec((0..3_usize, 0..2_usize, 1..50_u64, any::<bool>()), 1..20)
        ) {
            let mut responses: Vec<(usize, usize, u64)> = Vec::new();
            let (mut known, mut recorded, mut last) =
                (Known::default(), (TokenCounts::default(), 0), Parts::default());
            for (agent, model, figure, is_move) in steps {
                match responses.last_mut().filter(|_| is_move) {
                    Some(response) => (response.0, response.1) = (agent, model),
                    None => responses.push((agent, model, figure)),
                }
                let told = parts(&responses);
                // One that came before comes once more.
                known.learn(&last);
                let (news, _) = known.news_in(&told);
                known.learn(&told);
                let (tokens, cost) = news.total();
                recorded.0.add(&tokens);
                recorded.1 += cost;
                prop_assert_eq!(recorded, told.total());
                last = told;
            }
        }
    }
}
