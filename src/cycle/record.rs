//! One cycle as the report shows it, and the totals of the run.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::event::Exit;
use super::failure::Class;
use super::pressure::{Gauge, WindowSource};
use super::state::EndReason;
use crate::clock::Timestamp;

pub use crate::models::TokenCounts as Tokens;

/// What a session used, from its own transcripts (subagents included).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spend {
    /// Tokens.
    pub tokens: Tokens,
    /// Priced by `config/models.toml`, dollars.
    pub cost_usd: f64,
    /// Tokens of models without a price.
    pub unpriced_tokens: u64,
    /// Dollars for those at the dearest known price; for budgets only.
    pub unpriced_ceiling_usd: f64,
    /// Responses counted.
    pub responses: u64,
    /// Transcript rows that could not be read.
    pub bad_rows: u64,
}

/// Who stated a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostSource {
    /// The CLI's closing `cost-state` row.
    CostState,
    /// The CLI's statusline, while the session lives.
    Statusline,
    /// Tokens of the transcript times the table's prices.
    Transcript,
}

/// Failures of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureCount {
    /// How many.
    pub count: u32,
    /// Pauses after them, milliseconds.
    pub paused_ms: u64,
}

/// A pause after a failure, by longhaul or by the CLI itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// What failed.
    pub class: Class,
    /// Failures in a row.
    pub attempt: u32,
    /// How long it is.
    pub after_ms: u64,
    /// When it began.
    pub since: Timestamp,
}

impl Pause {
    /// What is left of it, by the time of day: the clock of the boot may be another.
    pub fn left_ms(&self, now: Timestamp) -> u64 {
        let over_unix_ms = self.since.plus_ms(self.after_ms).unix_ms;
        u64::try_from(over_unix_ms.saturating_sub(now.unix_ms)).unwrap_or(0).min(self.after_ms)
    }
}

/// A wait for a usage limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitRecord {
    /// Which limit, in a word.
    pub reason: String,
    /// When it began.
    pub since: Timestamp,
    /// Until when it was to last, Unix milliseconds.
    pub until_unix_ms: i64,
    /// When it was over, if it is.
    pub ended: Option<Timestamp>,
}

/// A warning that no other part of a report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The cycle in which it was told; 0 before the first.
    pub cycle: u32,
    /// What was told.
    pub text: String,
}

/// What the CLI itself says a session cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// Dollars.
    pub cost_usd: f64,
    /// Where it said so.
    pub source: CostSource,
}

/// How the hand-over of a cycle went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointStatus {
    /// None was asked for.
    None,
    /// Asked for, not (yet) proven.
    Requested,
    /// Proven on the files.
    Verified,
    /// Not proven; longhaul wrote `dev-docs/handoff.md`.
    Handoff,
    /// Neither.
    Failed,
}

impl CheckpointStatus {
    /// The word in reports.
    pub fn as_str(&self) -> &'static str {
        match self {
            CheckpointStatus::None => "none",
            CheckpointStatus::Requested => "requested",
            CheckpointStatus::Verified => "verified",
            CheckpointStatus::Handoff => "handoff",
            CheckpointStatus::Failed => "failed",
        }
    }
}

/// The hand-over of a cycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// How it went.
    pub status: CheckpointStatus,
    /// Files that changed after the request.
    pub files: Vec<String>,
    /// Where the copy lies, below the state directory.
    pub folder: Option<String>,
    /// What went wrong, if anything.
    pub trouble: Option<String>,
}

/// One cycle: one session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CycleRecord {
    /// From 1.
    pub cycle: u32,
    /// The session's id.
    pub session_id: Uuid,
    /// Its process, once it ran.
    pub pid: Option<u32>,
    /// When it was launched.
    pub started_at: Timestamp,
    /// When it was gone.
    pub ended_at: Option<Timestamp>,
    /// Why.
    pub end_reason: Option<EndReason>,
    /// How.
    pub exit: Option<Exit>,
    /// Newest model seen.
    pub model: Option<String>,
    /// Context readings.
    pub gauge: Gauge,
    /// What it used.
    pub spend: Spend,
    /// The CLI's own word on the cost.
    pub bill: Option<Bill>,
    /// Boxes ticked when it began.
    pub tasks_done_before: u32,
    /// Boxes ticked when it ended.
    pub tasks_done_after: u32,
    /// All boxes when it ended.
    pub tasks_total: u32,
    /// The hand-over.
    pub checkpoint: CheckpointRecord,
    /// Prompts to go on.
    pub nudges: u32,
    /// Compactions by the CLI.
    pub compactions: u32,
    /// Did it leave any work?
    pub progress: bool,
    /// Processes ended with it.
    pub killed: u32,
    /// Processes that outlived it.
    pub survivors: u32,
    /// The git ref that holds the work tree as the cycle found it.
    pub git_ref: Option<String>,
    /// The commit that it names.
    pub git_commit: Option<String>,
    /// The window the peak is measured against.
    pub window: Option<(u64, WindowSource)>,
}

impl CycleRecord {
    /// A cycle about to be launched.
    pub fn new(cycle: u32, session_id: Uuid, now: Timestamp, tasks: (u32, u32)) -> Self {
        Self {
            cycle,
            session_id,
            pid: None,
            started_at: now,
            ended_at: None,
            end_reason: None,
            exit: None,
            model: None,
            gauge: Gauge::default(),
            spend: Spend::default(),
            bill: None,
            tasks_done_before: tasks.0,
            tasks_done_after: tasks.0,
            tasks_total: tasks.1,
            checkpoint: CheckpointRecord {
                status: CheckpointStatus::None,
                files: Vec::new(),
                folder: None,
                trouble: None,
            },
            nudges: 0,
            compactions: 0,
            progress: false,
            killed: 0,
            survivors: 0,
            git_ref: None,
            git_commit: None,
            window: None,
        }
    }

    /// The cost and who stated it. The CLI's closing bill is final, since it
    /// also holds requests that no transcript shows; while the session lives
    /// its statusline may be ahead of or behind the transcript, so the larger
    /// of the two counts.
    pub fn cost(&self) -> (f64, CostSource) {
        match self.bill {
            Some(bill) if bill.source == CostSource::CostState => (bill.cost_usd, bill.source),
            Some(bill) if bill.cost_usd > self.spend.cost_usd => (bill.cost_usd, bill.source),
            Some(_) | None => (self.spend.cost_usd, CostSource::Transcript),
        }
    }

    /// What the budget must assume: unknown models at the dearest known price.
    pub fn cost_ceiling_usd(&self) -> f64 {
        let computed = self.spend.cost_usd + self.spend.unpriced_ceiling_usd;
        self.cost().0.max(computed)
    }
}
