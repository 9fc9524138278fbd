//! What the tracker answers. Pure.

use std::path::Path;

use serde::Serialize;

use super::daily::DayTotal;
use super::input::Refused;
use super::record::TaskLog;
use super::review::Review;
use super::sums::{self, Sum};
use crate::advice::Basis;
use crate::error::{Error, ErrorKind};
use crate::text::{self, Usd};

/// The answer to a request that was done.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To a log.
    Recorded(Recorded),
    /// To a review.
    Report(Report),
}

/// A log was recorded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recorded {
    /// `recorded`
    pub status: &'static str,
    /// The task, as told.
    pub task_id: Option<String>,
    /// One or two sentences, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Kept, and written by the next call: others were recording.
    #[serde(skip_serializing_if = "is_false")]
    pub pending: bool,
    /// Records that had waited and are written now.
    #[serde(skip_serializing_if = "is_zero")]
    pub reconciled: u64,
}

/// A review was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `report_generated`
    pub status: &'static str,
    /// From the project on, with a slash before it.
    pub report_path: String,
    /// What would cost less.
    pub recommendations: Vec<Recommendation>,
    /// Records that had waited and are written now.
    #[serde(skip_serializing_if = "is_zero")]
    pub reconciled: u64,
}

/// What would cost less.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recommendation {
    /// `model_selection`, `context_reuse` or `delegation_reduction`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What was found, with its figures.
    pub description: String,
    /// A diff, or an instruction.
    pub proposed_change: String,
    /// Tokens at stake in the period; null where nobody can tell.
    pub tokens: Option<u64>,
    /// Dollars at stake in the period; null where nobody can tell, and without a price.
    pub cost_usd: Option<Usd>,
    /// How sure both are.
    pub basis: Basis,
}

/// A request that was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// `error`
    pub status: &'static str,
    /// The task, if it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Why.
    pub error: Why,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// The day of a log that was told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Day {
    /// With the log.
    Known(DayTotal),
    /// The log is written; why the day is not known stands in the errors.
    Unknown,
    /// The log waits.
    Waits,
}

impl Recorded {
    pub(super) fn of(log: &TaskLog, day: Day, wants_summary: bool) -> Self {
        Self {
            status: "recorded",
            task_id: log.task_id.clone(),
            summary: wants_summary.then(|| summary(log, day)),
            pending: matches!(day, Day::Waits),
            reconciled: 0,
        }
    }
}

/// One sentence about the log and one about its day.
fn summary(log: &TaskLog, day: Day) -> String {
    let sum = Sum::of(log);
    let task = log.task_id.as_deref().unwrap_or("The task");
    let mut agents: Vec<(&String, &u64)> = log.totals.by_agent.iter().collect();
    agents.sort_by_key(|(_, tokens)| std::cmp::Reverse(**tokens));
    let most = agents.first().filter(|_| agents.len() > 1);
    let most = most.map_or_else(String::new, |(name, tokens)| {
        format!(", most of them by {} ({})", text::safe(name), text::grouped(**tokens))
    });
    let first = format!(
        "{} used {}, {}{most}.",
        text::safe(task),
        sum.tokens_in_words(),
        sum.cost.in_words()
    );
    match day {
        Day::Known(DayTotal { tasks, sum }) => format!(
            "{first} The day so far: {}, {}, {}.",
            text::count(tasks, "task", "tasks"),
            sum.tokens_in_words(),
            sum.cost.in_words()
        ),
        Day::Unknown => format!("{first} The summary of the day could not be made."),
        Day::Waits => format!("{first} It is written with the next call: others were recording."),
    }
}

impl Report {
    pub(super) fn of(path: &Path, review: Review, reconciled: u64) -> Self {
        let recommendations = review.advice.into_iter().map(|advice| Recommendation {
            kind: advice.topic.tracker_type(),
            description: advice.description,
            proposed_change: advice.proposed_change,
            tokens: advice.tokens,
            cost_usd: advice.cost_usd.map(Usd),
            basis: advice.basis,
        });
        Self {
            status: "report_generated",
            report_path: format!("/{}", sums::slashed(path)),
            recommendations: recommendations.collect(),
            reconciled,
        }
    }
}

impl Failed {
    /// Of a request that was refused.
    pub fn refused(refused: &Refused) -> Self {
        let error = Why { code: refused.code, message: refused.message.clone() };
        Self { status: "error", task_id: refused.task_id.clone(), error }
    }

    /// Of one that failed.
    pub fn of(error: &Error, task_id: Option<String>) -> Self {
        let code = match error.kind() {
            ErrorKind::Disk => "not_written",
            ErrorKind::Usage => "invalid_configuration",
            ErrorKind::State | ErrorKind::Locked => "state",
            ErrorKind::NeedsPerson | ErrorKind::Authentication | ErrorKind::Internal => "internal",
        };
        let mut message = error.to_string();
        for hint in error.hints() {
            message.push_str("; ");
            message.push_str(hint);
        }
        Self { status: "error", task_id, error: Why { code, message } }
    }
}
