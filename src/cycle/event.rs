//! What can happen. Edges translate the outside into these and decide nothing.

use serde::{Deserialize, Serialize};

use super::action::Timer;
use super::assignment::Given;
use super::budget::Reading;
use super::failure::Class;
use super::liveness::Sign;
use super::params::Params;
use super::record::{Bill, Spend};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins; nothing has been launched yet.
    Started,
    /// longhaul died in an earlier process and takes the run up again. What
    /// was alive is gone; the transcripts have been read to their end.
    Recovered {
        /// The configuration as it is now.
        params: Box<Params>,
        /// Final spend of the session that was lost, if one was live.
        spend: Option<Spend>,
        /// Its own bill, if it could still write one.
        bill: Option<Bill>,
        /// Processes of it that were still there and had to be ended.
        killed: u32,
    },
    /// All that must hold before a session is launched was looked at.
    Prepared {
        /// Why nothing may be launched.
        refusal: Option<Refusal>,
        /// What a person should know all the same.
        warnings: Vec<Warning>,
    },
    /// The work tree was kept in git as the cycle found it.
    TreeKept {
        /// The cycle.
        cycle: u32,
        /// The ref that holds it.
        git_ref: Option<String>,
        /// The commit that it names.
        commit: Option<String>,
        /// Why there is none; `None` as well where the project has no git.
        trouble: Option<String>,
    },
    /// How much room there is on the disks that matter.
    Disks {
        /// One for each place.
        rooms: Vec<DiskRoom>,
    },
    /// What all sessions of this machine have spent was read.
    SpendingRead {
        /// What; `None`: it cannot be told.
        reading: Option<Reading>,
    },
    /// A report about the session of one cycle.
    Session {
        /// The cycle it speaks of; reports of an older one are ignored.
        cycle: u32,
        /// What it says.
        report: SessionReport,
    },
    /// The task file was read.
    TaskRead {
        /// What it says.
        reading: TaskReading,
    },
    /// The verify command ended.
    VerifyEnded {
        /// Did it exit with 0?
        passed: bool,
        /// The end of its output, for the session (empty when it passed).
        tail: String,
        /// Processes it left behind that could not be ended.
        #[serde(default)]
        survivors: u32,
    },
    /// The next task of the queue was taken, and stands in the task file.
    TaskGiven {
        /// The task that was in hand when it was asked for.
        after: Option<String>,
        /// The task; `None` where there is none.
        task: Option<Box<Given>>,
        /// Why none could be had, where that is a fault.
        trouble: Option<String>,
    },
    /// Whether the project shows work done since the asked moment.
    ProgressWeighed {
        /// A commit, a changed file outside the checkpoint files.
        changed: bool,
    },
    /// The checkpoint files were compared with what they were at the request.
    Proof {
        /// Files that changed since the request.
        changed: Vec<String>,
        /// What is missing, as short phrases; empty when proven.
        shortfalls: Vec<String>,
        /// Digest over all checkpoint files.
        digest: String,
    },
    /// The proven checkpoint was copied (and committed, if configured).
    CheckpointKept {
        /// Where the copy lies; empty if it could not be made.
        folder: String,
        /// What could not be done (a failed commit), for the report.
        trouble: Option<String>,
    },
    /// longhaul's own brief was written.
    HandoffWritten {
        /// Why not, if it could not be.
        trouble: Option<String>,
    },
    /// A person's command through the control socket.
    Operator {
        /// What they want.
        command: Command,
    },
    /// INT, TERM or HUP reached longhaul.
    Signal {
        /// The signal's number.
        number: i32,
    },
    /// A deadline passed.
    Deadline {
        /// Which.
        timer: Timer,
        /// The epoch of the state that set it; an older one is ignored.
        epoch: u64,
    },
}

/// Room on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRoom {
    /// MiB that can still be written.
    pub free_mb: u64,
    /// MiB in all.
    pub size_mb: u64,
    /// Where.
    pub place: String,
}

/// Why a launch is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind of failure it is.
    pub class: Class,
    /// What is wrong and what to do, for a person.
    pub why: String,
}

/// What a person should know before a launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What kind of failure it is, if it is one.
    pub class: Option<Class>,
    /// One sentence.
    pub text: String,
}

/// What the CLI says about a usage limit that was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageLimit {
    /// Which limit, in a word: `five_hour`, `seven_day` …
    pub which: String,
    /// When it begins anew, Unix milliseconds, if that is known.
    pub resets_unix_ms: Option<i64>,
    /// The CLI will go on by itself some time after that.
    pub continues: bool,
}

/// Use of a subscription's limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    /// How much is used, percent.
    pub used_percent: f64,
    /// When it begins anew, Unix milliseconds.
    pub resets_unix_ms: Option<i64>,
}

/// What a question to a person is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionKind {
    /// May this tool run?
    Permission,
    /// The model asks something.
    Question,
    /// One of the dialogs that come before or between turns, by name.
    Known,
    /// Something unknown waits.
    Unknown,
}

/// What is said about one live session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum SessionReport {
    /// The CLI runs.
    Spawned {
        /// Its process id.
        pid: u32,
    },
    /// The CLI could not be started.
    SpawnFailed {
        /// Why.
        message: String,
    },
    /// The CLI said (SessionStart hook) that it is ready.
    Ready {
        /// The model it uses.
        model: Option<String>,
    },
    /// The window size as the CLI's statusline states it.
    Window {
        /// Tokens.
        tokens: u64,
    },
    /// The newest main-thread assistant row.
    Context {
        /// Input + cache writes + cache reads.
        tokens: u64,
        /// The model that answered.
        model: String,
        /// The window `config/models.toml` has for that model.
        table_window: Option<u64>,
    },
    /// What the session used so far, from its transcripts.
    Spent {
        /// Totals.
        spend: Spend,
    },
    /// What the CLI itself says the session cost (statusline, cost-state).
    Billed {
        /// The bill.
        bill: Bill,
    },
    /// A prompt shows in the transcript.
    PromptArrived {
        /// Its text.
        text: String,
        /// Still in the CLI's queue (true), or in the conversation (false).
        queued: bool,
    },
    /// A question stands on the screen, so that a text is not typed for now.
    TypingHeld,
    /// The model used a tool.
    Tool {
        /// Names the call; comes back when it ends.
        id: String,
        /// One line for display.
        summary: String,
    },
    /// A tool call came back.
    ToolEnded {
        /// That of the call.
        id: String,
    },
    /// A sign of life.
    Alive {
        /// Which.
        sign: Sign,
    },
    /// What the session and all below it take.
    Vitals {
        /// Memory, MiB.
        memory_mb: u64,
        /// Subagents at work.
        subagents: u32,
        /// The run's temporary files, MiB.
        scratch_mb: u64,
        /// What they wrote to disks since the session began, MiB.
        #[serde(default)]
        written_mb: u64,
    },
    /// How much of the subscription's limits is used.
    QuotaUsed {
        /// Of the five hours.
        five_hour: Option<Quota>,
        /// Of the week.
        seven_day: Option<Quota>,
    },
    /// The CLI waits for a usage limit, or will be told so by its next request.
    Limited {
        /// Which and until when.
        limit: UsageLimit,
    },
    /// A request failed and the CLI tries it again by itself.
    Retrying {
        /// Why.
        class: Class,
        /// Which attempt, from 1.
        attempt: u32,
        /// After how long, milliseconds.
        after_ms: u64,
    },
    /// A question to a person was answered in the person's place.
    Answered {
        /// In a word: `trust`, `permission`, `question` …
        kind: String,
        /// What was asked.
        what: String,
        /// In a word: `yes`, `deny`, `allow`.
        answer: String,
    },
    /// The CLI was about to compact the context and was kept from it.
    CompactionHeld,
    /// It replied, and none of its hooks has called: nobody puts its questions to
    /// `permissions.command`.
    HooksSilent,
    /// Its transcript cannot be read any more.
    RecordLost {
        /// Why, for a person.
        why: String,
    },
    /// It changed what the CLI obeys unasked, which the CLI does at once.
    SettingsChanged {
        /// What, for a person.
        why: String,
        /// Does the person allow it?
        #[serde(default)]
        allowed: bool,
    },
    /// A turn ended. Whatever the transcript holds from before that moment has
    /// been reported first: a hook may be faster than the file.
    TurnEnded {
        /// How.
        end: TurnEnd,
    },
    /// The CLI waits for a person.
    AsksPerson {
        /// What kind of question it is.
        kind: QuestionKind,
        /// What it asks.
        what: String,
        /// What the terminal shows, if it was looked at.
        screen: String,
    },
    /// The context was compacted by the CLI.
    Compacted {
        /// Why, in the CLI's word.
        trigger: String,
    },
    /// The session's process is gone, with everything below it; its
    /// transcript has been read to the end.
    Exited {
        /// How it ended.
        exit: Exit,
        /// Processes below it that had to be ended.
        killed: u32,
        /// Processes that could not be ended.
        survivors: u32,
        /// The last screen.
        screen: String,
        /// What tells that the kernel ended it for want of memory.
        out_of_memory: Option<String>,
    },
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum TurnEnd {
    /// The model ended it.
    Completed,
    /// Esc ended it.
    Interrupted,
    /// The API failed, after the CLI's own retries.
    ApiError {
        /// `rate_limit`, `server_error`, `authentication_failed`, `invalid_request` …
        error: String,
        /// HTTP status.
        status: Option<u16>,
        /// The text shown.
        text: String,
        /// The usage limit it speaks of, if it does.
        limit: Option<UsageLimit>,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody saw how (the keeper was lost).
    Unknown,
}

impl Exit {
    /// The code a shell would show, if known.
    pub fn shell_code(self) -> Option<i32> {
        match self {
            Exit::Code(code) => Some(code),
            Exit::Signal(number) => Some(128 + number),
            Exit::Unknown => None,
        }
    }
}

/// What one read of the task file said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TaskReading {
    /// It could be read.
    Read {
        /// Digest of the bytes: two equal reads make a fact.
        digest: String,
        /// What it says.
        says: TaskSays,
        /// Ticked boxes.
        ticked: u32,
        /// All boxes.
        total: u32,
    },
    /// It could not be read, or makes no sense.
    Unreadable {
        /// Why, for a person.
        problem: String,
    },
}

/// What a readable task file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum TaskSays {
    /// Work is left.
    Open,
    /// All done.
    Done,
    /// A person is needed.
    Blocked {
        /// As the file gives it.
        reason: String,
    },
}

/// What a person can ask of a live run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Start nothing new after the present turn.
    Pause,
    /// Go on.
    Resume,
    /// Checkpoint now and go on in a fresh session.
    Cycle,
    /// Checkpoint, end the session, end the run.
    Stop,
    /// End the session and the run at once.
    StopNow,
    /// The same, since the queue's task in hand is not wanted any more.
    CancelTask,
}
