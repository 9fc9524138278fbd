//! What the queue's engine can do. SQLite is the one there is; whoever needs a
//! shared one implements this trait.
//!
//! Each call is one transaction: all of it is on the disk when it returns, or
//! nothing of it is. Times are given by the caller, in Unix milliseconds.
//!
//! # States
//!
//! ```text
//!             claim               settle: done, error, blocked
//!  queued ───────────> in_progress ──────────────────> over, with one result
//!    ^  └─ cancel ─> cancelled │                          │ retry: attempt + 1
//!    └──── unclaim, settle: released (a stop, a limit) <──┘
//! ```
//!
//! A task whose `after` names one that ended in `error`, `blocked` or `cancelled`
//! is `blocked` at once, with a result that says so, and so are those that wait
//! for it; a retry of the culprit queues them again (attempt + 1), those at least that
//! wait for nothing else that failed. A task that is added, or edited, to wait for such
//! a one is accepted and blocked at once, in the same way. Tasks of a batch are run in
//! the order they were added: one is ready when those before it are over, however they
//! ended. Tasks wait for each other also where one waits for a later one of its batch.
//! A batch belongs to the project of its first task for ever.
//!
//! A blocked task that is cancelled had its result: the cancelling is an attempt of its
//! own (attempt + 1), so that the newest result always says what the state says.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::refusal::{QueueError, Refusal};
use super::task::{
    BatchId, NewTask, Priority, Sharing, Task, TaskId, TaskResult, TaskState, TaskTokens,
    VerifyResult,
};

/// `Result` with [`QueueError`].
pub type Result<T, E = QueueError> = std::result::Result<T, E>;

/// The engine of a queue.
pub trait Store: Send {
    /// Accepts tasks, all or none, in the given order. One may wait for another that
    /// comes later. Gives them as they stand.
    ///
    /// # Errors
    /// `task_exists`, `unknown_dependency`, `dependency_cycle`, `batch_project`; each
    /// says which of the tasks it means ([`super::Refusal::index`]).
    fn add_all(&mut self, now_unix_ms: i64, tasks: Vec<NewTask>, keep: Keep) -> Result<Vec<Task>>;

    /// Accepts what can be had of these tasks, and says of each of the others why it
    /// cannot. They are taken in the given order, but one that waits for a later one is
    /// taken after that. The answers are in the given order.
    fn add_each(
        &mut self,
        now_unix_ms: i64,
        tasks: Vec<NewTask>,
        keep: Keep,
    ) -> Result<Vec<Result<Task, Refusal>>>;

    /// [`Store::add_all`], and they stay.
    fn add(&mut self, now_unix_ms: i64, tasks: Vec<NewTask>) -> Result<Vec<Task>> {
        self.add_all(now_unix_ms, tasks, Keep::Tasks)
    }

    /// One task.
    fn task(&mut self, id: &TaskId) -> Result<Option<Task>>;

    /// Tasks: in progress first, then queued ones by
    /// priority and acceptance, then those that are over, the newest first.
    fn list(&mut self, filter: &Filter) -> Result<Vec<Task>>;

    /// How many there are in each state.
    fn counts(&mut self, project: Option<&Path>) -> Result<Counts>;

    /// Was there ever a batch of that id? One that all its tasks were moved out of still
    /// belongs to its project.
    fn has_batch(&mut self, id: &BatchId) -> Result<bool>;

    /// Changes a task that is queued, or blocked (which it remains).
    ///
    /// # Errors
    /// `unknown_task`, `wrong_state`, and as for `add`.
    fn edit(&mut self, now_unix_ms: i64, id: &TaskId, change: &Change) -> Result<Task>;

    /// A queued or blocked task is cancelled at once; one in progress is marked, and
    /// its run settles it as cancelled. Cancelling twice is no error.
    ///
    /// # Errors
    /// `unknown_task`, `wrong_state` (done or error).
    fn cancel(&mut self, now_unix_ms: i64, id: &TaskId) -> Result<Task>;

    /// Queues a task that ended in error, blocked or cancelled once more.
    ///
    /// # Errors
    /// `unknown_task`, `wrong_state` (also when it waits for one that is itself over and
    /// not done).
    fn retry(&mut self, now_unix_ms: i64, id: &TaskId) -> Result<Task>;

    /// Takes the next task that is ready, in none of the `busy` projects, for the run
    /// `run_id`. By priority, then by acceptance.
    fn claim(
        &mut self,
        now_unix_ms: i64,
        run_id: Uuid,
        busy: &[PathBuf],
        only: Option<&Path>,
    ) -> Result<Option<Task>>;

    /// The next task of the batch of `current`, which the run `run_id` has in hand,
    /// taken for the same run; the order within a batch counts `current` as over. The
    /// same one again if it was taken already. `None` where the batch is through, its
    /// next one waits for something that is not done (`current` itself, if it is named
    /// in `after` and not settled), wants another model, or `current` has no batch or
    /// is not the run's.
    fn next_in_batch(
        &mut self,
        now_unix_ms: i64,
        run_id: Uuid,
        current: &TaskId,
    ) -> Result<Option<Task>>;

    /// Nothing of that run ever began: its tasks are queued again. Gives them.
    fn unclaim(&mut self, now_unix_ms: i64, run_id: Uuid) -> Result<Vec<Task>>;

    /// Books what a run did for a task, and ends or releases the task. Booking the
    /// same again changes nothing: a spell is known by task, attempt, run and the time
    /// it began; and so does booking for a task that this run has not in hand. Gives
    /// the result of the spell's attempt if it is over now (or was).
    fn settle(&mut self, now_unix_ms: i64, spell: &Spell) -> Result<Option<TaskResult>>;

    /// All tasks in progress, in the order they were taken.
    fn in_progress(&mut self) -> Result<Vec<Task>>;

    /// The result of the newest attempt that has one.
    fn result(&mut self, id: &TaskId) -> Result<Option<TaskResult>>;

    /// Results, the newest last.
    fn results(&mut self, filter: &ResultFilter) -> Result<Vec<TaskResult>>;

    /// The tasks accepted last, the newest first.
    fn recent(&mut self, limit: u32) -> Result<Vec<Task>>;

    /// The projects of all tasks, in the order of their first.
    fn projects(&mut self) -> Result<Vec<PathBuf>>;

    /// How many tasks satisfy the filter, its limit and offset aside.
    fn count_tasks(&mut self, filter: &Filter) -> Result<u64>;

    /// How many results satisfy the filter, its limit and offset aside.
    fn count_results(&mut self, filter: &ResultFilter) -> Result<u64>;

    /// Moves results of one project that ended before `before_unix_ms` to the archive,
    /// but for its newest `keep_recent`. Gives how many were moved. (How long results
    /// stay is for each project to say.)
    fn archive(&mut self, project: &Path, before_unix_ms: i64, keep_recent: u32) -> Result<u64>;

    /// Dollars that all results and spells that ended since then cost, tokens without a
    /// price at the dearest there is.
    fn spent_since(&mut self, since_unix_ms: i64) -> Result<f64>;

    /// Dollars, at the dearest price, that the tokens without one cost which earlier runs
    /// of this attempt at the task used; nothing, once the attempt has its result.
    fn unpriced_usd(&mut self, id: &TaskId) -> Result<f64>;

    /// When each run took up each task, in that order; tasks in progress with them.
    fn taken(&mut self) -> Result<Vec<Taken>>;

    /// Which queue this is: no other has that id.
    fn id(&mut self) -> Result<Uuid>;

    /// A number that is another one after each change by whoever.
    fn version(&mut self) -> Result<u64>;
}

/// A run took up a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Unix milliseconds.
    pub from_unix_ms: i64,
    /// The run.
    pub run_id: Uuid,
    /// The task.
    pub task_id: TaskId,
    /// Its batch.
    pub batch_id: Option<BatchId>,
}

/// What stays of an attempt to add tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The tasks that were accepted.
    Tasks,
    /// Nothing: somebody wants to know what would happen.
    Nothing,
}

/// Which tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of these states; empty: all.
    pub states: Vec<TaskState>,
    /// Of this project.
    pub project: Option<PathBuf>,
    /// Of this batch.
    pub batch_id: Option<BatchId>,
    /// Most of them.
    pub limit: u32,
    /// Those before are left out.
    pub offset: u32,
}

/// Which results.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResultFilter {
    /// Of this project.
    pub project: Option<PathBuf>,
    /// Of this batch.
    pub batch_id: Option<BatchId>,
    /// Those in the archive (true), those that are not (false), or both.
    pub archived: Option<bool>,
    /// The newest so many.
    pub limit: u32,
    /// So many of the newest are left out.
    pub offset: u32,
}

/// How many tasks there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Waiting.
    pub queued: u64,
    /// Of these: nothing stands in their way.
    pub ready: u64,
    /// At work.
    pub in_progress: u64,
    /// Done.
    pub done: u64,
    /// Ended in error.
    pub error: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Blocked.
    pub blocked: u64,
}

impl Counts {
    /// How many are in this state.
    pub fn of(&self, state: TaskState) -> u64 {
        match state {
            TaskState::Queued => self.queued,
            TaskState::InProgress => self.in_progress,
            TaskState::Done => self.done,
            TaskState::Error => self.error,
            TaskState::Cancelled => self.cancelled,
            TaskState::Blocked => self.blocked,
        }
    }
}

/// What is to be changed of a task; `None` stays as it is, an inner `None` goes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// See [`NewTask`].
    pub description: Option<String>,
    /// See [`NewTask`].
    pub context: Option<Option<String>>,
    /// See [`NewTask`].
    pub priority: Option<Priority>,
    /// See [`NewTask`].
    pub batch_id: Option<Option<BatchId>>,
    /// See [`NewTask`].
    pub verify: Option<Option<String>>,
    /// See [`NewTask`].
    pub after: Option<Vec<TaskId>>,
    /// See [`NewTask`].
    pub model: Option<Option<String>>,
    /// See [`NewTask`].
    pub budget_usd: Option<Option<f64>>,
}

/// What one run did for one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spell {
    /// The task.
    pub task_id: TaskId,
    /// Which attempt.
    pub attempt: u32,
    /// The run.
    pub run_id: Uuid,
    /// When the run took it up, Unix milliseconds.
    pub started_unix_ms: i64,
    /// When it was done with it, Unix milliseconds.
    pub ended_unix_ms: i64,
    /// Time supervised, milliseconds.
    pub elapsed_ms: u64,
    /// The tokens it added.
    pub tokens: TaskTokens,
    /// What they cost, dollars at list prices.
    pub cost_usd: f64,
    /// Tokens of models without a known price.
    pub unpriced_tokens: u64,
    /// What those cost at the dearest price, dollars.
    #[serde(default)]
    pub unpriced_usd: f64,
    /// Sessions that worked on it.
    pub sessions: u32,
    /// What they did.
    pub actions: Vec<String>,
    /// Their last words.
    pub output: String,
    /// What went wrong on the way.
    pub errors: Vec<String>,
    /// What a person should know besides.
    pub warnings: Vec<String>,
    /// What the verify command said, if there is one.
    pub verify: Option<VerifyResult>,
    /// What the batch saved.
    pub sharing: Sharing,
    /// How it ended.
    pub end: SpellEnd,
}

/// How a run was done with a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum SpellEnd {
    /// It is done.
    Done,
    /// It failed for good, as long as nobody retries it.
    Error {
        /// Why.
        why: String,
    },
    /// A person is needed.
    Blocked {
        /// What for.
        why: String,
    },
    /// It goes back to the queue (or is cancelled, if that is wanted): the run was
    /// stopped, or ran into what stands in every task's way.
    Released {
        /// Why.
        why: String,
    },
}
