//! A task log: what one request said, with its totals, as the file of the task holds it.
//! Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::input::{self, Input};
use super::matching;
use crate::models::{Models, TokenCounts};
use crate::text;

/// What stands for a name that was not told.
pub const UNAVAILABLE: &str = "unavailable";

/// A task log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskLog {
    /// The task.
    pub task_id: Option<String>,
    /// When, as it was told.
    pub timestamp: Option<String>,
    /// What was wanted.
    pub user_request_summary: Option<String>,
    /// Who used what.
    pub entries: Option<Vec<LogEntry>>,
    /// The sums of what is known.
    #[serde(default)]
    pub totals: Totals,
    /// The session it tells of, if a run wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// Which part of which run a log tells of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The run.
    pub run_id: String,
    /// Its cycle.
    pub cycle: u32,
    /// The session of that cycle.
    pub session_id: String,
}

/// What one agent used of one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Who.
    pub agent: Option<String>,
    /// Which model.
    pub model: Option<String>,
    /// Tokens that were sent; of a run: input and cache writes.
    pub input_tokens: Option<u64>,
    /// Tokens that were generated.
    pub output_tokens: Option<u64>,
    /// Input and output, if a total was told.
    pub total_tokens: Option<u64>,
    /// Dollars, as told.
    pub estimated_cost: Option<f64>,
    /// Another total that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated_total_tokens: Option<u64>,
    /// Within `input_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// Beside `input_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    /// Dollars by the price table, where none were told: worked out, not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_price_usd: Option<f64>,
}

/// Sums over the entries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Of the entries whose total is known, told or as the sum of input and output; `None`
    /// if that is none.
    pub total_tokens: Option<u64>,
    /// The same by model.
    pub by_model: BTreeMap<String, u64>,
    /// The same by agent.
    pub by_agent: BTreeMap<String, u64>,
    /// Of the entries whose cost was told; `None` if that is none.
    pub estimated_cost: Option<f64>,
    /// The sums above that are not all: an entry said nothing of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial: Vec<String>,
    /// What the price table says to the entries without a cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_price_usd: Option<f64>,
}

impl TaskLog {
    /// The log of a request. `now_unix_ms` is for prices alone, where no time was told.
    pub fn of(input: &Input, now_unix_ms: i64, models: &Models) -> Self {
        let unix_ms = input.unix_ms.unwrap_or(now_unix_ms);
        let entries = input.entries.as_ref().map(|entries| {
            entries.iter().map(|entry| LogEntry::of(entry, unix_ms, models)).collect::<Vec<_>>()
        });
        let totals = Totals::of(entries.as_deref());
        Self {
            task_id: input.task_id.clone(),
            timestamp: input.timestamp.clone(),
            user_request_summary: input.user_request_summary.clone(),
            entries,
            totals,
            source: None,
        }
    }

    /// When, Unix milliseconds.
    pub fn unix_ms(&self) -> Option<i64> {
        self.timestamp.as_deref().and_then(input::unix_ms_of)
    }

    /// Eight hexadecimal digits of task, time and entries.
    pub fn print(&self) -> String {
        let parts = (&self.task_id, self.unix_ms(), &self.entries, &self.source);
        let bytes = serde_json::to_vec(&parts).unwrap_or_default();
        Sha256::digest(&bytes).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The same with dollars as they are compared: what JSON gives back may differ in the
    /// last digit.
    pub(super) fn rounded(mut self) -> Self {
        for entry in self.entries.iter_mut().flatten() {
            entry.estimated_cost = entry.estimated_cost.map(text::to_micros);
            entry.list_price_usd = entry.list_price_usd.map(text::to_micros);
        }
        self.totals = Totals::of(self.entries.as_deref());
        self
    }

    /// Does it say all that `older` does about the same task and instant? Then it takes
    /// its place. One without a time takes no other's; one without a task, or of a run,
    /// which tells what is new alone, only that of its equal. What was wanted is not looked
    /// at.
    pub(super) fn covers(&self, older: &Self) -> bool {
        let is_about_same = self.unix_ms().is_some()
            && self.unix_ms() == older.unix_ms()
            && self.task_id == older.task_id
            && self.source == older.source;
        let entries = || match (&older.entries, &self.entries) {
            _ if self.source.is_some() => self.entries == older.entries,
            (None, None) => true,
            (None, Some(_)) => self.task_id.is_some(),
            (Some(_), None) => false,
            (Some(old), Some(new)) => {
                let may_grow = self.task_id.is_some() || old.len() == new.len();
                may_grow
                    && matching::covers(new, old)
                    && (self.task_id.is_some() || matching::covers(old, new))
            }
        };
        is_about_same && entries()
    }

    /// The bytes of its file.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Text of others stands in it, and somebody may show it on a terminal.
        let text = text::json(self, true).expect("it holds nothing that JSON cannot");
        format!("{text}\n").into_bytes()
    }

    /// Reads a file. The totals are worked out again: they are what the entries say.
    /// `None` if it is no task log, or holds numbers that no log of ours does.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let mut log: TaskLog = serde_json::from_value(value.clone()).ok()?;
        let list_prices = log.entries.iter().flatten().map(|entry| entry.list_price_usd);
        let list_prices: Vec<Option<f64>> = list_prices.collect();
        let checked = input::of_log(value)?;
        let entries = checked.entries.map(|entries| {
            let priced = entries.iter().zip(list_prices);
            priced.map(|(entry, price)| LogEntry::with_price(entry, price)).collect::<Vec<_>>()
        });
        // What is out of bounds is not counted by anybody who reads the file.
        log.totals = Totals::of(entries.as_deref());
        log.entries = entries;
        log.task_id = checked.task_id;
        log.timestamp = checked.timestamp;
        log.user_request_summary = checked.user_request_summary;
        Some(log)
    }
}

impl LogEntry {
    fn of(entry: &input::Entry, unix_ms: i64, models: &Models) -> Self {
        let plain = Self::with_price(entry, None);
        let model = entry.model.as_deref().filter(|_| entry.estimated_cost.is_none());
        let price = model.and_then(|model| plain.price_as(model, unix_ms, models));
        Self::with_price(entry, price)
    }

    fn with_price(entry: &input::Entry, list_price_usd: Option<f64>) -> Self {
        let is_amount = |usd: &f64| usd.is_finite() && *usd >= 0.0;
        Self {
            agent: entry.agent.clone(),
            model: entry.model.clone(),
            input_tokens: entry.input_tokens,
            output_tokens: entry.output_tokens,
            total_tokens: entry.total_tokens,
            estimated_cost: entry.estimated_cost,
            stated_total_tokens: entry.stated_total_tokens,
            cache_write_tokens: entry.cache_write_tokens,
            cache_read_tokens: entry.cache_read_tokens,
            list_price_usd: list_price_usd.filter(is_amount).map(text::to_micros),
        }
    }
}

/// Is `new` the same, or told where `old` was not?
fn says_same<T: PartialEq>(old: &Option<T>, new: &Option<T>) -> bool {
    old.is_none() || old == new
}

impl LogEntry {
    /// What counts for it in sums: its total, or input and output where none was told.
    pub fn counted_tokens(&self) -> Option<u64> {
        let sum = || Some(self.input_tokens?.saturating_add(self.output_tokens?));
        self.total_tokens.or_else(sum)
    }

    /// What its tokens come to at the price of `model`, as one request; `None` if the model
    /// or a count is not known.
    pub(super) fn price_as(&self, model: &str, unix_ms: i64, models: &Models) -> Option<f64> {
        let written = self.cache_write_tokens.unwrap_or(0);
        let counts = TokenCounts {
            input: self.input_tokens?.saturating_sub(written),
            output: self.output_tokens?,
            cache_write_5m: written,
            cache_write_1h: 0,
            cache_read: self.cache_read_tokens.unwrap_or(0),
        };
        models.cost(model, unix_ms, &counts)
    }

    /// Is it the same, or the same but for what `older` was not told?
    pub(super) fn completes(&self, older: &Self) -> bool {
        says_same(&older.agent, &self.agent)
            && says_same(&older.model, &self.model)
            && says_same(&older.input_tokens, &self.input_tokens)
            && says_same(&older.output_tokens, &self.output_tokens)
            && says_same(&older.total_tokens, &self.total_tokens)
            && says_same(&older.estimated_cost, &self.estimated_cost)
            && says_same(&older.cache_read_tokens, &self.cache_read_tokens)
            && says_same(&older.cache_write_tokens, &self.cache_write_tokens)
    }
}

impl Totals {
    pub(super) fn of(entries: Option<&[LogEntry]>) -> Self {
        let mut totals = Totals::default();
        let Some(entries) = entries else {
            totals.partial = vec!["total_tokens".into(), "estimated_cost".into()];
            return totals;
        };
        let (mut lacks_tokens, mut lacks_cost) = (false, false);
        for entry in entries {
            match entry.counted_tokens() {
                Some(tokens) => {
                    let sum = totals.total_tokens.get_or_insert(0);
                    *sum = sum.saturating_add(tokens);
                    let named = |name: &Option<String>| {
                        name.clone().unwrap_or_else(|| UNAVAILABLE.to_owned())
                    };
                    let model = totals.by_model.entry(named(&entry.model)).or_default();
                    *model = model.saturating_add(tokens);
                    let agent = totals.by_agent.entry(named(&entry.agent)).or_default();
                    *agent = agent.saturating_add(tokens);
                }
                None => lacks_tokens = true,
            }
            match entry.estimated_cost {
                Some(usd) => *totals.estimated_cost.get_or_insert(0.0) += usd,
                None => lacks_cost = true,
            }
            if let Some(usd) = entry.list_price_usd {
                *totals.list_price_usd.get_or_insert(0.0) += usd;
            }
        }
        let rounded = |sum: Option<f64>| sum.map(text::to_micros);
        totals.estimated_cost = rounded(totals.estimated_cost);
        totals.list_price_usd = rounded(totals.list_price_usd);
        for (lacks, name) in [(lacks_tokens, "total_tokens"), (lacks_cost, "estimated_cost")] {
            if lacks {
                totals.partial.push(name.into());
            }
        }
        totals
    }
}
