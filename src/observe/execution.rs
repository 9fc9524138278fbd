//! What an execution is: a spell of a task, else a cycle of a run, else what a session did
//! that somebody ran by hand.

use serde::Serialize;

use crate::config::InputKind;
use crate::models::TokenCounts;
use crate::report::Moment;
use crate::text::{self, Usd};

/// Tokens by kind, cache writes of both lives together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Used {
    /// Prompt tokens neither written to the cache nor read from it.
    pub input: u64,
    /// Generated tokens.
    pub output: u64,
    /// Prompt tokens written to the cache.
    pub cache_write: u64,
    /// Prompt tokens read from the cache.
    pub cache_read: u64,
}

impl Used {
    /// The same, kind by kind.
    pub fn of(tokens: &TokenCounts) -> Self {
        Self {
            input: tokens.input,
            output: tokens.output,
            cache_write: tokens.cache_write_5m.saturating_add(tokens.cache_write_1h),
            cache_read: tokens.cache_read,
        }
    }

    /// What counts as input.
    pub fn counted_input(&self, kind: InputKind) -> u64 {
        match kind {
            InputKind::Uncached => self.input.saturating_add(self.cache_write),
            InputKind::All => {
                self.input.saturating_add(self.cache_write).saturating_add(self.cache_read)
            }
            InputKind::Plain => self.input,
        }
    }

    /// Adds `other`, kind by kind.
    pub fn add(&mut self, other: &Used) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
    }
}

/// What sort of execution it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What one run did for one task of the queue.
    Task,
    /// One session of a run of the task file.
    Cycle,
    /// What a session did on the day that no run of longhaul started.
    Session,
}

/// A reading of the verify command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// When it ended.
    pub at: Moment,
    /// Did it exit with 0?
    pub passed: bool,
}

/// What is known of the work of an execution, beside what it used. `None` is "not known",
/// and nothing is judged by it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Evidence {
    /// It was claimed that the work is done, and where.
    pub claim: Option<String>,
    /// The words of that claim, if it was made in words.
    pub claim_words: Option<String>,
    /// What is claimed cannot be done without changing a file.
    pub claims_changes: bool,
    /// Readings of the verify command, in order.
    pub verify: Vec<Verified>,
    /// The verify command.
    pub verify_command: Option<String>,
    /// Open and all boxes of the task file at the end.
    pub boxes: Option<(u32, u32)>,
    /// Calls that changed files other than those kept for the next session; `None`: its
    /// transcript is not there, or a call may have changed files unseen.
    pub changes: Option<u64>,
    /// Files that were changed by tools made for it, sorted.
    pub changed_files: Vec<String>,
    /// The last test or check that was run: what, when, and whether it failed.
    pub last_check: Option<Check>,
    /// What went wrong: calls that failed and were never made good, and how it ended.
    pub errors: Vec<String>,
    /// So many of them, the first, are calls that were never made good, the last check aside.
    #[serde(skip)]
    pub standing: usize,
}

/// A test or a check that a session ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its first words.
    pub command: String,
    /// When the session asked for it.
    pub at: Option<Moment>,
    /// Did it fail?
    pub failed: bool,
}

/// An execution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Execution {
    /// The same from day to day.
    pub id: String,
    /// What sort it is.
    pub kind: Kind,
    /// The directory it worked in.
    pub project: String,
    /// What it was to do, in a line.
    pub title: String,
    /// The task.
    pub task_id: Option<String>,
    /// Which attempt at it.
    pub attempt: Option<u32>,
    /// The run.
    pub run_id: Option<String>,
    /// Its sessions.
    pub sessions: Vec<String>,
    /// When it began.
    pub started_at: Moment,
    /// When it ended; `None`: it has not, as far as is known.
    pub ended_at: Option<Moment>,
    /// How long it took.
    pub duration_ms: u64,
    /// Its tokens.
    pub usage: Used,
    /// What counts as input of them.
    pub input: u64,
    /// Input and output.
    pub tokens: u64,
    /// Input for each token of output; `None` without output.
    pub ratio: Option<f64>,
    /// Dollars at list prices; `None`: all of it is of models without one.
    pub cost_usd: Option<Usd>,
    /// Tokens of models without a price.
    pub unpriced_tokens: u64,
    /// How it ended: of a task its state, of a cycle the reason; `None`: nobody says.
    pub outcome: Option<String>,
    /// Did it end in an error?
    pub failed: bool,
    /// What is known of its work.
    pub evidence: Evidence,
    /// Where all that stands.
    pub sources: Vec<String>,
    /// How the run that it is of failed, if it is not among its own errors.
    #[serde(skip)]
    pub why_failed: Option<String>,
    /// What it was to do: the same for the same work. `None`: not comparable.
    #[serde(skip)]
    pub work: Option<Work>,
    /// When it was last heard of, Unix milliseconds: by that it belongs to a day.
    #[serde(skip)]
    pub heard_unix_ms: i64,
}

/// What makes two executions the same work, and in which words that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Equal names are equal work.
    pub name: String,
    /// "the task t1", "the same prompt".
    pub words: String,
}

impl Execution {
    /// Nothing is known of it.
    pub(super) fn blank() -> Self {
        let never = Moment { unix_ms: 0 };
        Self {
            id: String::new(),
            kind: Kind::Session,
            project: String::new(),
            title: String::new(),
            task_id: None,
            attempt: None,
            run_id: None,
            sessions: Vec::new(),
            started_at: never,
            ended_at: None,
            duration_ms: 0,
            usage: Used::default(),
            input: 0,
            tokens: 0,
            ratio: None,
            cost_usd: Some(Usd(0.0)),
            unpriced_tokens: 0,
            outcome: None,
            failed: false,
            evidence: Evidence::default(),
            sources: Vec::new(),
            why_failed: None,
            work: None,
            heard_unix_ms: 0,
        }
    }

    /// What it cost, for people: what has no price is never told as nothing.
    pub(super) fn cost_words(&self) -> String {
        let usd = self.cost_usd.map_or(0.0, |usd| usd.0);
        cost_words(usd, self.unpriced_tokens, &self.usage, self.kind == Kind::Session)
    }

    /// Sets the sums that follow from usage.
    pub fn count(&mut self, kind: InputKind) {
        self.input = self.usage.counted_input(kind);
        self.tokens = self.input.saturating_add(self.usage.output);
        self.ratio = ratio(self.input, self.usage.output);
    }
}

/// Dollars as they are told: what has no price is not for nothing.
pub(super) fn told_usd(usd: f64, unpriced_tokens: u64) -> Option<Usd> {
    (usd > 0.0 || unpriced_tokens == 0).then_some(Usd(usd))
}

/// `$1.50`, `$1.50 + unpriced`, `unpriced`. Of what a run did, `$1.50` may be the CLI's own
/// bill, which has a guess for models without a price in it: nothing comes on top.
pub(super) fn cost_words(usd: f64, unpriced: u64, used: &Used, is_list_price: bool) -> String {
    let all = used.counted_input(InputKind::All).saturating_add(used.output);
    match is_list_price && unpriced > 0 && usd > 0.0 {
        true => format!("{} + unpriced", text::usd(usd)),
        false => crate::report::words::cost(usd, unpriced, all),
    }
}

/// Input for each token of output.
pub fn ratio(input: u64, output: u64) -> Option<f64> {
    (output > 0).then(|| input as f64 / output as f64)
}
