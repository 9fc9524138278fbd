//! Sums over task logs that know what they lack, and the words for them. Pure.

use super::record::{LogEntry, TaskLog, UNAVAILABLE};
use crate::text;

/// What some entries come to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sum {
    pub(super) input: Count,
    pub(super) output: Count,
    pub(super) total: Count,
    pub(super) cost: Money,
}

/// Tokens, as far as they were told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) tokens: u64,
    pub(super) is_known: bool,
    pub(super) is_partial: bool,
}

/// Dollars, as far as they were told.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Money {
    pub(super) usd: f64,
    /// By the price table, where none were told.
    pub(super) list_usd: f64,
    pub(super) is_known: bool,
    has_list: bool,
    pub(super) is_partial: bool,
}

impl Count {
    fn add(&mut self, tokens: Option<u64>) {
        match tokens {
            Some(tokens) => {
                self.tokens = self.tokens.saturating_add(tokens);
                self.is_known = true;
            }
            None => self.is_partial = true,
        }
    }

    fn merge(&mut self, other: &Count) {
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.is_known |= other.is_known;
        self.is_partial |= other.is_partial;
    }

    /// `50000`; `50000 +?` if it is not all; `unavailable`.
    pub(super) fn plain(&self) -> String {
        self.said(self.tokens.to_string())
    }

    /// The same with thousands set apart.
    pub(super) fn grouped(&self) -> String {
        self.said(text::grouped(self.tokens))
    }

    fn said(&self, digits: String) -> String {
        match (self.is_known, self.is_partial) {
            (true, false) => digits,
            (true, true) => format!("{digits} +?"),
            (false, true) => UNAVAILABLE.into(),
            (false, false) => "0".into(),
        }
    }
}

impl Money {
    fn add(&mut self, entry: &LogEntry) {
        match (entry.estimated_cost, entry.list_price_usd) {
            (Some(usd), _) => {
                self.usd += usd;
                self.is_known = true;
            }
            (None, Some(usd)) => {
                self.list_usd += usd;
                self.has_list = true;
            }
            (None, None) => self.is_partial = true,
        }
    }

    fn merge(&mut self, other: &Money) {
        self.usd += other.usd;
        self.list_usd += other.list_usd;
        self.is_known |= other.is_known;
        self.has_list |= other.has_list;
        self.is_partial |= other.is_partial;
    }

    /// Told and worked out together: what things are ordered by.
    pub(super) fn about_usd(&self) -> f64 {
        self.usd + self.list_usd
    }

    /// For a sentence: `$1.95`, `at least $1.95`, `at an unknown cost`.
    pub(super) fn in_words(&self) -> String {
        let said = self.said();
        match said.strip_suffix(" +?") {
            Some(least) => format!("at least {least}"),
            None if said == UNAVAILABLE => "at an unknown cost".into(),
            None => said,
        }
    }

    /// `$1.95`; what the price table says beside it as `~$0.30`; ` +?` if there is more.
    pub(super) fn said(&self) -> String {
        let mut parts = Vec::new();
        if self.is_known || (!self.has_list && !self.is_partial) {
            parts.push(text::usd(self.usd));
        }
        if self.has_list {
            parts.push(format!("~{}", text::usd(self.list_usd)));
        }
        if parts.is_empty() {
            return UNAVAILABLE.into();
        }
        let said = parts.join(" + ");
        if self.is_partial { format!("{said} +?") } else { said }
    }
}

impl Sum {
    /// For a sentence: `33,000 tokens`, `at least 33,000 tokens`; of what has no total, the
    /// part that is known.
    pub(super) fn tokens_in_words(&self) -> String {
        let number = |count: &Count| text::grouped(count.tokens);
        match (self.total.is_known, self.total.is_partial) {
            (_, false) => format!("{} tokens", number(&self.total)),
            (true, true) => format!("at least {} tokens", number(&self.total)),
            (false, true) => match (self.input.is_known, self.output.is_known) {
                (true, false) => format!("{} input tokens (output unknown)", number(&self.input)),
                (false, true) => format!("{} output tokens (input unknown)", number(&self.output)),
                (true, true) => {
                    let (input, output) = (number(&self.input), number(&self.output));
                    format!("at least {input} input and {output} output tokens")
                }
                (false, false) => "an unknown number of tokens".into(),
            },
        }
    }

    pub(super) fn add(&mut self, entry: &LogEntry) {
        self.input.add(entry.input_tokens);
        self.output.add(entry.output_tokens);
        self.total.add(entry.counted_tokens());
        self.cost.add(entry);
    }

    pub(super) fn merge(&mut self, other: &Sum) {
        self.input.merge(&other.input);
        self.output.merge(&other.output);
        self.total.merge(&other.total);
        self.cost.merge(&other.cost);
    }

    /// Of a whole log. One without entries lacks everything.
    pub(super) fn of(log: &TaskLog) -> Self {
        let mut sum = Sum::default();
        match &log.entries {
            Some(entries) if !entries.is_empty() => {
                entries.iter().for_each(|entry| sum.add(entry));
            }
            _ => sum.add(&LogEntry::default()),
        }
        sum
    }
}

/// Sums by a key, the largest first: by cost, then tokens, then key.
pub(super) fn ranked<K: Ord + Clone>(sums: impl IntoIterator<Item = (K, Sum)>) -> Vec<(K, Sum)> {
    let mut list: Vec<(K, Sum)> = sums.into_iter().collect();
    list.sort_by(|(one, a), (two, b)| {
        let cost = b.cost.about_usd().total_cmp(&a.cost.about_usd());
        cost.then(b.total.tokens.cmp(&a.total.tokens)).then_with(|| one.cmp(two))
    });
    list
}

/// A name, or that it was not told.
pub(super) fn name_of(name: Option<&String>) -> String {
    name.cloned().unwrap_or_else(|| UNAVAILABLE.into())
}

/// Foreign text for a line of Markdown: on one line, harmless on a terminal, and nothing
/// in it means anything to Markdown.
pub(super) fn plain(foreign: &str) -> String {
    let words: Vec<&str> = foreign.split_whitespace().collect();
    let mut out = String::with_capacity(foreign.len() + 8);
    for c in text::safe(&words.join(" ")).chars() {
        // Of brackets only what makes a link.
        let is_link = matches!(c, '(' | '[' | ':') && out.ends_with(']');
        if is_link || matches!(c, '\\' | '|' | '`' | '*' | '<') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The same, cut to so many columns.
pub(super) fn clipped(foreign: &str, columns: usize) -> String {
    let words: Vec<&str> = foreign.split_whitespace().collect();
    plain(&text::clip(&words.join(" "), columns))
}

/// A path with slashes between its parts.
pub(super) fn slashed(path: &std::path::Path) -> String {
    let parts: Vec<_> =
        path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    parts.join("/")
}
