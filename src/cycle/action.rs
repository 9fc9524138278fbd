//! What can be done, and what is told to the outside.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::assignment::Assignment;
use super::budget::Mark;
use super::event::Exit;
use super::failure::Class;
use super::liveness::HangStep;
use super::pressure::Pressure;
use super::state::{EndReason, Outcome};
use crate::clock::Timestamp;

/// One thing for the driver to do. The driver performs them in order and
/// reports back with events.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Look at all that must hold before a session is launched.
    Prepare,
    /// Keep the work tree in git as this cycle finds it.
    KeepTree {
        /// Cycle number.
        cycle: u32,
    },
    /// Start the session of this cycle.
    Launch {
        /// Cycle number, from 1.
        cycle: u32,
        /// The id the session gets.
        session_id: Uuid,
        /// Its first prompt.
        prompt: String,
    },
    /// Remember what the checkpoint files are now.
    TakeBaseline,
    /// The request reached the model: what the files became before that moment
    /// belongs to the work that was under way, and proves nothing.
    SettleBaseline,
    /// Type this text and submit it.
    Type {
        /// The text.
        text: String,
    },
    /// Press Enter: the text stands in the input line and was not taken.
    PressEnter,
    /// Clear the input line.
    ClearInput,
    /// Press Esc: interrupt the turn.
    PressEscape,
    /// Ask the CLI to end (SIGTERM).
    EndPolitely,
    /// End everything of the session (SIGKILL).
    EndSurely,
    /// Read the task file.
    ReadTask,
    /// Run the verify command. The driver ends it at `task.verify_timeout` and
    /// reports in any case.
    RunVerify,
    /// Stop a verify command that still runs.
    CancelVerify,
    /// Take the next task of the queue, if there is one, and put it into the task
    /// file in the place of the one that is done.
    TakeTask {
        /// The one that is done; `None` at the beginning.
        after: Option<String>,
    },
    /// Write down what became of a task of the queue.
    SettleTask {
        /// The task, with all that it added.
        assignment: Box<Assignment>,
    },
    /// Look for work done since that moment.
    WeighProgress {
        /// From when on.
        since: Timestamp,
    },
    /// Compare the checkpoint files with the baseline.
    Prove,
    /// Copy the checkpoint (and commit it, if configured). Asked for again when
    /// longhaul died in between.
    KeepCheckpoint {
        /// Of this cycle.
        cycle: u32,
    },
    /// Write the brief from the transcript.
    WriteHandoff {
        /// Of this cycle.
        cycle: u32,
        /// Why there is no checkpoint.
        why: String,
    },
    /// Report `Deadline { timer, epoch }` after this many milliseconds.
    SetTimer {
        /// Which.
        timer: Timer,
        /// The epoch to send back.
        epoch: u64,
        /// From now.
        after_ms: u64,
    },
    /// Tell the outside.
    Tell(Notice),
}

impl Action {
    /// Does this change anything outside longhaul? Then the journal must be
    /// durable before it is done.
    pub fn is_external(&self) -> bool {
        match self {
            Action::Launch { .. }
            | Action::Type { .. }
            | Action::PressEnter
            | Action::ClearInput
            | Action::PressEscape
            | Action::EndPolitely
            | Action::EndSurely
            | Action::RunVerify
            | Action::KeepCheckpoint { .. }
            | Action::KeepTree { .. }
            | Action::WriteHandoff { .. }
            | Action::TakeTask { .. }
            | Action::SettleTask { .. }
            | Action::Tell(Notice::RunFinished { .. }) => true,
            Action::Prepare
            | Action::TakeBaseline
            | Action::SettleBaseline
            | Action::ReadTask
            | Action::CancelVerify
            | Action::WeighProgress { .. }
            | Action::Prove
            | Action::SetTimer { .. }
            | Action::Tell(_) => false,
        }
    }
}

/// Every deadline there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timer {
    /// The first reply of a session.
    Start,
    /// A typed text must show in the transcript.
    Delivery,
    /// One checkpoint request.
    Checkpoint,
    /// After Esc: the turn should have ended.
    Interrupt,
    /// The second read of the task file.
    Reread,
    /// SIGTERM to SIGKILL.
    Exit,
    /// SIGKILL to giving up on a report.
    Gone,
    /// longhaul's own work on files must report: reading, comparing, copying,
    /// briefing.
    Answer,
    /// Pause before the next launch after a failure.
    Backoff,
    /// Pause before going on after an API failure.
    Cool,
    /// A look at the clock of the turn; valid in every state.
    Hang,
    /// The whole run; set once, valid in every state.
    Run,
}

/// What is told: one event line of `run --json` each.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// The run begins.
    RunStarted,
    /// An interrupted run goes on.
    RunResumed {
        /// The cycle that was lost, if one was live.
        lost_cycle: Option<u32>,
        /// Processes of it that still lived.
        killed: u32,
    },
    /// A session works.
    SessionStarted {
        /// Its id.
        session_id: Uuid,
        /// Its process.
        pid: u32,
        /// Its model, if known.
        model: Option<String>,
    },
    /// The context grew or its window became known.
    Context(Pressure),
    /// The threshold is reached.
    ThresholdReached(Pressure),
    /// The request was typed.
    CheckpointRequested {
        /// First or second.
        attempt: u32,
        /// Why.
        reason: EndReason,
    },
    /// The request shows in the transcript.
    CheckpointDelivered {
        /// First or second.
        attempt: u32,
    },
    /// The files prove it.
    CheckpointVerified {
        /// What changed.
        files: Vec<String>,
    },
    /// There is none.
    CheckpointFailed {
        /// Why.
        reason: String,
    },
    /// longhaul wrote the brief itself.
    HandoffWritten {
        /// Why it could not, if so.
        trouble: Option<String>,
    },
    /// The session was told to go on.
    Nudged {
        /// How often in a row without progress.
        count: u32,
    },
    /// Tasks ticked, as read.
    Tasks {
        /// Ticked.
        done: u32,
        /// All.
        total: u32,
    },
    /// A task of the queue is in hand.
    TaskStarted {
        /// Its id.
        task_id: String,
        /// Which attempt, from 1.
        attempt: u32,
        /// Its batch.
        batch_id: Option<String>,
        /// Its place in the batch, from 1.
        batch_position: Option<u32>,
        /// Its first line.
        title: String,
    },
    /// The run is done with a task of the queue.
    TaskFinished {
        /// The task, with all that it added.
        assignment: Box<Assignment>,
    },
    /// The verify command ended.
    Verified {
        /// With 0?
        passed: bool,
    },
    /// Waiting for a usage limit.
    Waiting {
        /// What for, in a word: `five_hour`, `seven_day`, `usage_limit` …
        reason: String,
        /// Until then, Unix milliseconds.
        until_unix_ms: i64,
    },
    /// Going on after a failure.
    Retrying {
        /// What failed.
        class: Class,
        /// Failures in a row.
        attempt: u32,
        /// The pause.
        after_ms: u64,
    },
    /// A question to a person was answered in the person's place.
    Dialog {
        /// In a word.
        kind: String,
        /// In a word.
        answer: String,
        /// What was asked.
        what: String,
    },
    /// In a turn nothing moves.
    Hang {
        /// What decided: the last sign of life, or `tool`.
        signal: String,
        /// How long nothing moved.
        flat_ms: u64,
        /// What is done.
        step: HangStep,
    },
    /// A person has to do something; the run ends.
    NeedsPerson {
        /// What.
        reason: String,
        /// What the terminal shows.
        screen: String,
    },
    /// A tool was used.
    Activity {
        /// One line.
        summary: String,
    },
    /// Tokens and dollars so far, of the whole run.
    Spent {
        /// All tokens.
        tokens: u64,
        /// Dollars.
        cost_usd: f64,
    },
    /// A mark of a budget was reached.
    Budget(Mark),
    /// The session is gone.
    SessionEnded {
        /// Why.
        reason: EndReason,
        /// How.
        exit: Exit,
        /// Processes ended with it.
        killed: u32,
        /// Processes left.
        survivors: u32,
    },
    /// Something a person should know.
    Warning {
        /// The text.
        text: String,
    },
    /// The person's command was taken.
    Obeyed {
        /// What happens now.
        text: String,
    },
    /// The run is over.
    RunFinished {
        /// How.
        outcome: Outcome,
    },
}
