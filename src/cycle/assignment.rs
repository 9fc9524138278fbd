//! A task of the queue as a run has it in hand: what was given, and what it
//! added to the run's totals.
//!
//! A run of the queue works off one task after the other, in one chain of
//! sessions. What a task used is the difference between two readings of the
//! run's totals, so that nothing is counted twice and nothing falls between two
//! tasks.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::failure::Class;
use super::record::Tokens;
use super::state::{Budget, Outcome};
use crate::clock::Timestamp;

/// Tool calls that a task's result tells; of more, the newest.
const ACTIONS_MAX: usize = 100;
/// Longest of them, in characters.
const ACTION_CHARS: usize = 200;

/// A task as it is handed to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// Its id.
    pub task_id: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Its batch.
    pub batch_id: Option<String>,
    /// Its place in the batch, from 1.
    pub batch_position: Option<u32>,
    /// Its first line, for displays.
    pub title: String,
    /// What the session is told.
    pub prompt: String,
    /// What a session is told when it stopped before the task was done.
    pub continue_prompt: String,
    /// The command that must agree before done counts.
    pub verify: Option<String>,
    /// What is left of the task's own budget, dollars.
    pub budget_usd: Option<f64>,
    /// What earlier runs spent on it, dollars at known prices.
    #[serde(default)]
    pub spent_usd: f64,
    /// What they spent besides on models without a price, at the dearest there is.
    #[serde(default)]
    pub unpriced_usd: f64,
    /// The highest mark of `budget.task_usd`, as it is now, that they told; 0: none.
    #[serde(default)]
    pub told_percent: u16,
}

/// The run's totals at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// Tokens.
    pub tokens: Tokens,
    /// Dollars.
    pub cost_usd: f64,
    /// Dollars as budgets must assume them.
    pub cost_ceiling_usd: f64,
    /// What of those is for tokens without a price.
    pub unpriced_ceiling_usd: f64,
    /// Tokens of models without a price.
    pub unpriced_tokens: u64,
    /// Sessions launched.
    pub sessions: u32,
    /// Milliseconds supervised.
    pub elapsed_ms: u64,
    /// Failures by class.
    pub failures: BTreeMap<Class, u32>,
}

impl Totals {
    /// What was added since `earlier`.
    pub fn since(&self, earlier: &Totals) -> Totals {
        let mut tokens = self.tokens;
        tokens.subtract(&earlier.tokens);
        let before = |class: &Class| earlier.failures.get(class).copied().unwrap_or(0);
        let failures = self.failures.iter().filter_map(|(class, count)| {
            let new = count.saturating_sub(before(class));
            (new > 0).then_some((*class, new))
        });
        Totals {
            tokens,
            // The closing bill of a session may be below what its rows added up to.
            cost_usd: (self.cost_usd - earlier.cost_usd).max(0.0),
            cost_ceiling_usd: (self.cost_ceiling_usd - earlier.cost_ceiling_usd).max(0.0),
            unpriced_ceiling_usd: (self.unpriced_ceiling_usd - earlier.unpriced_ceiling_usd)
                .max(0.0),
            unpriced_tokens: self.unpriced_tokens.saturating_sub(earlier.unpriced_tokens),
            sessions: self.sessions.saturating_sub(earlier.sessions),
            elapsed_ms: self.elapsed_ms.saturating_sub(earlier.elapsed_ms),
            failures: failures.collect(),
        }
    }
}

/// How a run was done with a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It is done.
    Done,
    /// It failed.
    Error {
        /// Why.
        why: String,
    },
    /// A person is needed for it.
    Blocked {
        /// What for.
        why: String,
    },
    /// Somebody did not want it any more.
    Cancelled,
    /// It goes back to the queue: what ended the run is not of its making.
    Released {
        /// What ended the run.
        why: String,
    },
}

impl End {
    /// What the run's end means for the task it had in hand.
    pub(super) fn of(outcome: &Outcome, has_worked: bool) -> Self {
        let why = outcome.sentence();
        match outcome {
            Outcome::Done => End::Done,
            // Spent by an earlier run: the next one could do no more.
            Outcome::Budget { which: Budget::Task } => End::Error { why },
            // Nothing of it was begun, so there is nothing about it that a person
            // has to look at.
            Outcome::NeedsPerson { .. } | Outcome::Budget { .. } | Outcome::NoProgress
                if !has_worked =>
            {
                End::Released { why }
            }
            Outcome::NeedsPerson { why } => End::Blocked { why: why.clone() },
            Outcome::Budget { which: Budget::Quota } => End::Released { why },
            Outcome::Budget { .. } | Outcome::NoProgress => End::Error { why },
            Outcome::Authentication { .. }
            | Outcome::LimitPast { .. }
            | Outcome::Disk { .. }
            | Outcome::Stopped { .. } => End::Released { why },
        }
    }

    /// The word in events.
    pub fn as_str(&self) -> &'static str {
        match self {
            End::Done => "done",
            End::Error { .. } => "error",
            End::Blocked { .. } => "blocked",
            End::Cancelled => "cancelled",
            End::Released { .. } => "queued",
        }
    }

    /// Why, unless it is done.
    pub fn why(&self) -> Option<&str> {
        match self {
            End::Done | End::Cancelled => None,
            End::Error { why } | End::Blocked { why } | End::Released { why } => Some(why),
        }
    }
}

/// A task in a run's hand, or one that was.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The task.
    pub given: Given,
    /// When it was given.
    pub started_at: Timestamp,
    /// When the run was done with it.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub end: Option<End>,
    /// What it added, once it has ended.
    pub added: Totals,
    /// Sessions that worked on it.
    pub sessions: u32,
    /// It began in a session that was already at work.
    pub is_shared: bool,
    /// What a session of its own would have loaded first, tokens: the context at
    /// their first reply of the sessions that the run started so far.
    pub saved_tokens: u64,
    /// What was read from the cache because the tasks before stood in the context.
    pub extra_cache_read_tokens: u64,
    /// What the verify command said last.
    pub verified: Option<bool>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Tool calls, the newest last.
    pub actions: VecDeque<String>,
    /// Earlier ones that were left out.
    pub actions_left_out: u64,
    /// The task file says blocked: a person is needed for this task, not for the run.
    pub is_declared_blocked: bool,
    /// Somebody does not want it any more.
    pub(super) is_cancelled: bool,
    /// The task file says done; the run finds out what is next.
    pub(super) is_done: bool,
    /// The run's totals when it began.
    pub(super) mark: Totals,
    /// What stands in the live session's context from before, tokens.
    pub(super) carried_tokens: u64,
    /// The reply of the live session that was looked at last, by its context.
    pub(super) last_context: Option<u64>,
    /// A session has answered to it.
    pub(super) has_reply: bool,
    /// It was told that the task loaded much.
    pub(super) is_load_told: bool,
}

impl Assignment {
    /// A task just given.
    pub(crate) fn new(given: Given, now: Timestamp, mark: Totals) -> Self {
        Self {
            given,
            started_at: now,
            ended_at: None,
            end: None,
            added: Totals::default(),
            sessions: 0,
            is_shared: false,
            saved_tokens: 0,
            extra_cache_read_tokens: 0,
            verified: None,
            warnings: Vec::new(),
            actions: VecDeque::new(),
            actions_left_out: 0,
            is_declared_blocked: false,
            is_cancelled: false,
            is_done: false,
            mark,
            carried_tokens: 0,
            last_context: None,
            has_reply: false,
            is_load_told: false,
        }
    }

    /// What it added, by the run's totals of now.
    pub(super) fn added(&self, now: &Totals) -> Totals {
        now.since(&self.mark)
    }

    /// A tool was used.
    pub(super) fn acted(&mut self, summary: &str) {
        if self.actions.len() >= ACTIONS_MAX {
            self.actions.pop_front();
            self.actions_left_out += 1;
        }
        self.actions.push_back(summary.chars().take(ACTION_CHARS).collect());
    }

    /// What went wrong on the way, and did not end it.
    pub fn failures(&self) -> impl Iterator<Item = (Class, u32)> + '_ {
        self.added.failures.iter().map(|(class, count)| (*class, *count))
    }
}
