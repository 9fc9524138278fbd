//! What status, display and report may see: derived from the machine, never kept.

use serde::Serialize;
use uuid::Uuid;

use super::assignment::{Assignment, Totals};
use super::budget::Standing;
use super::failure::Class;
use super::liveness::{Hang, HangStep};
use super::machine::Machine;
use super::pressure::Pressure;
use super::record::{CycleRecord, FailureCount, Pause, WaitRecord};
use super::state::{AskPhase, Between, Outcome, State};
use crate::clock::Timestamp;

/// Why a run is paused; only a command can do it.
pub const PAUSED_BY: &str = "by `longhaul pause`";

/// One consistent view of a run.
#[derive(Debug, Clone)]
pub struct Snapshot<'a> {
    machine: &'a Machine,
}

/// Boxes ticked of all, now and when the run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TaskCount {
    /// Ticked when the run began, if it was ever read.
    pub done_at_start: Option<u32>,
    /// Ticked now.
    pub done: u32,
    /// All.
    pub total: u32,
}

impl<'a> Snapshot<'a> {
    /// The view of `machine`.
    pub fn of(machine: &'a Machine) -> Self {
        Self { machine }
    }

    /// The run's id.
    pub fn run_id(&self) -> Uuid {
        self.machine.run_id
    }

    /// When it began.
    pub fn started_at(&self) -> Timestamp {
        self.machine.started_at
    }

    /// When it ended.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.machine.ended_at
    }

    /// The time of the newest event.
    pub fn last_event_at(&self) -> Timestamp {
        self.machine.last_now
    }

    /// Milliseconds supervised so far.
    pub fn elapsed_ms(&self) -> u64 {
        self.machine.elapsed_ms(self.machine.last_now)
    }

    /// Milliseconds supervised at `now`; stands still once the run is over.
    pub fn elapsed_ms_at(&self, now: Timestamp) -> u64 {
        self.machine.elapsed_ms(self.machine.ended_at.unwrap_or(now))
    }

    /// The state's name.
    pub fn state(&self) -> &'static str {
        self.machine.state.name()
    }

    /// Did a person pause it?
    pub fn paused(&self) -> bool {
        self.machine.paused.is_some()
    }

    /// Since when a person wants nothing new started.
    pub fn paused_since(&self) -> Option<Timestamp> {
        self.machine.paused.filter(|_| self.outcome().is_none())
    }

    /// The usage limit that holds at `now`: which, and until when (Unix milliseconds).
    pub fn waiting(&self, now: Timestamp) -> Option<(&'a str, i64)> {
        let open = self.machine.waits.last().filter(|wait| wait.ended.is_none())?;
        let until = match &self.machine.state {
            State::Cooling { class: Class::UsageLimit, until_unix_ms: Some(until), .. }
            | State::Between { step: Between::Backoff { until_unix_ms: Some(until) } } => *until,
            State::Finished { .. } => return None,
            _ => open.until_unix_ms,
        };
        (until > now.unix_ms).then_some((open.reason.as_str(), until))
    }

    /// The failure that is tried again: by longhaul after a pause, or by the CLI itself.
    pub fn retrying(&self) -> Option<Pause> {
        self.machine.retrying()
    }

    /// The hang that was told, while it lasts.
    pub fn hang(&self, now: Timestamp) -> Option<Hang> {
        self.machine.hang(now)
    }

    /// How it ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.machine.outcome()
    }

    /// What the run will end with, once the session is down.
    pub fn verdict(&self) -> Option<&Outcome> {
        self.machine.verdict.as_ref()
    }

    /// All cycles, the live one last.
    pub fn cycles(&self) -> impl Iterator<Item = &'a CycleRecord> {
        self.machine.past.iter().chain(self.machine.live.as_ref())
    }

    /// The number of the newest cycle; 0 before the first.
    pub fn cycle(&self) -> u32 {
        self.cycles().last().map_or(0, |c| c.cycle)
    }

    /// Is a session alive?
    pub fn alive(&self) -> bool {
        self.machine.alive
    }

    /// The live session's context.
    pub fn pressure(&self) -> Option<Pressure> {
        self.machine
            .live
            .as_ref()
            .filter(|_| self.machine.alive)?
            .gauge
            .pressure(&self.machine.params)
    }

    /// Boxes ticked.
    pub fn tasks(&self) -> TaskCount {
        TaskCount {
            done_at_start: self.machine.tasks_done_at_start,
            done: self.machine.tasks_done,
            total: self.machine.tasks_total,
        }
    }

    /// Tasks of the queue that the run had in hand, in order.
    pub fn assignments(&self) -> &'a [Assignment] {
        self.machine.assignments()
    }

    /// What limits are measured by at `now`: the whole run, or the task of the queue
    /// in hand.
    pub fn measured(&self, now: Timestamp) -> Totals {
        self.machine.measured_at(now)
    }

    /// How far the budgets are spent at `now`: of the task, the day, the month.
    pub fn budgets(&self, now: Timestamp) -> [Standing; 3] {
        self.machine.standings(now)
    }

    /// Tokens of the whole run.
    pub fn tokens(&self) -> u64 {
        self.machine.tokens_total()
    }

    /// Dollars of the whole run.
    pub fn cost_usd(&self) -> f64 {
        self.machine.cost_total_usd()
    }

    /// The last tool used, in one line.
    pub fn last_activity(&self) -> &'a str {
        &self.machine.last_activity
    }

    /// Failures by class.
    pub fn failures(&self) -> impl Iterator<Item = (Class, FailureCount)> + use<'a> {
        self.machine.failures.iter().map(|(class, count)| (*class, *count))
    }

    /// Waits for usage limits.
    pub fn waits(&self) -> &'a [WaitRecord] {
        &self.machine.waits
    }

    /// What a person was needed for, and what the screen showed.
    pub fn asked(&self) -> Option<(&'a str, &'a str)> {
        self.machine.asked.as_ref().map(|(reason, screen)| (reason.as_str(), screen.as_str()))
    }

    /// Warnings that nothing else in the report says, with their cycles; 0 is
    /// before the first.
    pub fn noted(&self) -> impl Iterator<Item = (u32, &'a str)> + use<'a> {
        self.machine.noted.iter().map(|noted| (noted.cycle, noted.text.as_str()))
    }

    /// Reports of sessions that were already gone.
    pub fn stale_reports(&self) -> u64 {
        self.machine.stale_reports
    }

    /// The policy of the run.
    pub fn params(&self) -> &'a super::params::Params {
        &self.machine.params
    }

    /// What is going on, in one sentence.
    pub fn explain(&self) -> String {
        let why = self.machine.reason.map_or("", |r| r.as_str());
        match &self.machine.state {
            State::Starting => self.turn_words("waiting for the session's first reply"),
            State::Working => self.turn_words("the session works"),
            State::Judging { judge } if judge.is_verifying() => {
                "the task file says done; the verify command runs".into()
            }
            State::Judging { .. } => "the turn ended; reading the task file".into(),
            State::Turnover => "a task of the queue is done; taking the next".into(),
            State::Held => "paused; the session is idle".into(),
            State::Cooling { class: Class::UsageLimit, .. } => {
                "waiting for a usage limit to be reset".into()
            }
            State::Cooling { attempt, class, .. } => format!(
                "the API failed ({}); going on after a pause (failure {attempt})",
                class.as_str()
            ),
            State::Checkpointing { ask } => {
                let what = match ask.phase {
                    AskPhase::Typed => "typed",
                    AskPhase::Queued => "waiting for the next tool boundary",
                    AskPhase::Heard => "being written",
                    AskPhase::Interrupting => "not answered in time; the turn was interrupted",
                    AskPhase::Proving => "being checked",
                    AskPhase::Keeping => "being copied",
                };
                format!("checkpoint ({why}), request {}: {what}", ask.attempt)
            }
            State::Ending { surely: false } => format!("the session is being ended ({why})"),
            State::Ending { surely: true } => format!("the session is being killed ({why})"),
            State::Between { step } => match step {
                Between::Keeping => "copying the checkpoint".into(),
                Between::Briefing => "writing dev-docs/handoff.md".into(),
                Between::Judging { judge } if judge.is_verifying() => {
                    "the verify command runs".into()
                }
                Between::Judging { .. } => "between sessions: reading the task file".into(),
                Between::Backoff { until_unix_ms: None } => {
                    "the last session failed; waiting before the next".into()
                }
                Between::Backoff { until_unix_ms: Some(_) } => {
                    "waiting for a usage limit to be reset".into()
                }
                Between::Preparing => "looking at the project before the next session".into(),
                Between::Turnover => "taking the next task from the queue".into(),
                Between::Held => "paused between sessions".into(),
            },
            State::Finished { outcome } => outcome.sentence(),
        }
    }

    /// A turn in words; what stands in its way goes before what it does when all is well.
    fn turn_words(&self, well: &str) -> String {
        let now = self.machine.last_now;
        let words = match self.hang(now).map(|hang| hang.step) {
            Some(HangStep::Warn) => "nothing moves in the session's turn: it may hang",
            Some(HangStep::Interrupt | HangStep::End) => {
                "nothing moved in the session's turn: it was interrupted"
            }
            None if self.waiting(now).is_some() => {
                "a usage limit is reached; the CLI waits for it by itself"
            }
            None if self.machine.cli_retries.is_some() => {
                "the API fails; the CLI tries again by itself"
            }
            None => well,
        };
        words.to_owned()
    }
}
