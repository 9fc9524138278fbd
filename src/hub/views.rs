//! What tasks and results look like in answers. Every field is there in every
//! answer; what is not known, or not yet, is `null`.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock;
use crate::queue::files::Size;
use crate::queue::store::Counts;
use crate::queue::{Priority, Task, TaskResult, TaskState};

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StateWord {
    Queued,
    InProgress,
    Done,
    Error,
    Cancelled,
    Blocked,
}

impl From<TaskState> for StateWord {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Queued => StateWord::Queued,
            TaskState::InProgress => StateWord::InProgress,
            TaskState::Done => StateWord::Done,
            TaskState::Error => StateWord::Error,
            TaskState::Cancelled => StateWord::Cancelled,
            TaskState::Blocked => StateWord::Blocked,
        }
    }
}

/// A task.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct TaskView {
    pub task_id: String,
    /// What is to be done.
    description: String,
    /// What helps to do it.
    #[schema(required)]
    context: Option<String>,
    /// As it was given: a word, or a number from -1000 to 1000.
    #[schema(value_type = PriorityView)]
    priority: Priority,
    #[schema(required)]
    pub batch_id: Option<String>,
    /// Its place in the batch, from 1.
    #[schema(required)]
    pub batch_position: Option<u32>,
    /// The real path of the folder it works in.
    project: String,
    /// The command that must exit with 0 before done counts.
    #[schema(required)]
    verify: Option<String>,
    /// Tasks that must be done before.
    after: Vec<String>,
    #[schema(required)]
    model: Option<String>,
    /// Most that it may cost, US dollars.
    #[schema(required)]
    budget_usd: Option<f64>,
    pub status: StateWord,
    /// Was it cancelled while in progress, and has not ended yet?
    pub is_cancelling: bool,
    /// From 1; grows with each retry.
    attempt: u32,
    /// The run that works on it, or did last.
    #[schema(required)]
    run_id: Option<String>,
    /// What the runs of this attempt have spent, US dollars.
    spent_usd: f64,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339.
    updated_at: String,
    /// When this attempt was taken up; RFC 3339.
    #[schema(required)]
    started_at: Option<String>,
}

/// A word, or a number.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is there for the document alone")]
enum PriorityView {
    Word(String),
    Number(i32),
}

impl From<&Task> for TaskView {
    fn from(task: &Task) -> Self {
        Self {
            task_id: task.id.to_string(),
            description: task.description.clone(),
            context: task.context.clone(),
            priority: task.priority,
            batch_id: task.batch_id.as_ref().map(ToString::to_string),
            batch_position: task.batch_position,
            project: task.project.display().to_string(),
            verify: task.verify.clone(),
            after: task.after.iter().map(ToString::to_string).collect(),
            model: task.model.clone(),
            budget_usd: task.budget_usd,
            status: task.state.into(),
            is_cancelling: task.is_cancelling,
            attempt: task.attempt,
            run_id: task.run_id.map(|id| id.to_string()),
            spent_usd: task.spent_usd,
            created_at: clock::rfc3339(task.created_unix_ms),
            updated_at: clock::rfc3339(task.updated_unix_ms),
            started_at: task.started_unix_ms.map(clock::rfc3339),
        }
    }
}

/// Tokens of a task, as far as they are known.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(super) struct TokensView {
    /// Uncached input.
    #[schema(required)]
    input: Option<u64>,
    /// Output, thinking included.
    #[schema(required)]
    output: Option<u64>,
    /// Written to the cache.
    #[schema(required)]
    cache_write: Option<u64>,
    /// Read from the cache.
    #[schema(required)]
    cache_read: Option<u64>,
}

/// What the verify command said.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct VerifyView {
    command: String,
    /// Did it exit with 0? `null`: it never ran.
    #[schema(required)]
    passed: Option<bool>,
}

/// What the batch saved or cost.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct SharingView {
    /// Did the task begin in a session that was already at work?
    is_shared: bool,
    /// Context that a session of its own would have loaded first.
    saved_tokens: u64,
    /// Read from the cache because the tasks before stood in the context.
    extra_cache_read_tokens: u64,
}

/// The result of a task; of one that is not over, what is known of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ResultView {
    pub task_id: String,
    pub status: StateWord,
    #[schema(required)]
    batch_id: Option<String>,
    /// Its place in the batch, from 1.
    #[schema(required)]
    batch_position: Option<u32>,
    /// When a run first took it up; RFC 3339.
    #[schema(required)]
    started_at: Option<String>,
    /// RFC 3339.
    #[schema(required)]
    ended_at: Option<String>,
    /// Time supervised.
    #[schema(required)]
    execution_time_seconds: Option<f64>,
    tokens: TokensView,
    /// US dollars at list prices.
    #[schema(required)]
    cost_usd: Option<f64>,
    /// Sessions that worked on it.
    #[schema(required)]
    sessions: Option<u32>,
    /// What the sessions did, a line a tool call.
    #[schema(required)]
    actions_taken: Option<Vec<String>>,
    /// The last words of its last session.
    #[schema(required)]
    output: Option<String>,
    /// What went wrong.
    #[schema(required)]
    errors: Option<Vec<String>>,
    /// What the verify command said, if there is one.
    #[schema(required)]
    verify: Option<VerifyView>,
    /// What a person should know besides.
    #[schema(required)]
    warnings: Option<Vec<String>>,
    /// Tokens of models without a known price; in no cost.
    #[schema(required)]
    unpriced_tokens: Option<u64>,
    /// What the batch saved or cost.
    #[schema(required)]
    sharing: Option<SharingView>,
    /// Which attempt, from 1.
    attempt: u32,
    project: String,
    /// The runs that worked on it.
    runs: Vec<String>,
}

impl From<TaskResult> for ResultView {
    fn from(result: TaskResult) -> Self {
        let (tokens, sharing) = (result.tokens, result.sharing);
        Self {
            task_id: result.task_id.to_string(),
            status: result.status.into(),
            batch_id: result.batch_id.map(|id| id.to_string()),
            batch_position: result.batch_position,
            started_at: result.started_at,
            ended_at: result.ended_at,
            execution_time_seconds: Some(result.execution_time_seconds),
            tokens: TokensView {
                input: Some(tokens.input),
                output: Some(tokens.output),
                cache_write: Some(tokens.cache_write),
                cache_read: Some(tokens.cache_read),
            },
            cost_usd: Some(result.cost_usd),
            sessions: Some(result.sessions),
            actions_taken: Some(result.actions_taken),
            output: Some(result.output),
            errors: Some(result.errors),
            verify: result.verify.map(|v| VerifyView { command: v.command, passed: v.passed }),
            warnings: Some(result.warnings),
            unpriced_tokens: Some(result.unpriced_tokens),
            sharing: Some(SharingView {
                is_shared: sharing.is_shared,
                saved_tokens: sharing.saved_tokens,
                extra_cache_read_tokens: sharing.extra_cache_read_tokens,
            }),
            attempt: result.attempt,
            project: result.project.display().to_string(),
            runs: result.runs.iter().map(ToString::to_string).collect(),
        }
    }
}

impl ResultView {
    /// What there is to say of a task that has no result (yet).
    pub fn pending(task: &Task) -> Self {
        Self {
            task_id: task.id.to_string(),
            status: task.state.into(),
            batch_id: task.batch_id.as_ref().map(ToString::to_string),
            batch_position: task.batch_position,
            started_at: task.started_unix_ms.map(clock::rfc3339),
            ended_at: None,
            execution_time_seconds: None,
            tokens: TokensView::default(),
            cost_usd: None,
            sessions: None,
            actions_taken: None,
            output: None,
            errors: None,
            verify: None,
            warnings: None,
            unpriced_tokens: None,
            sharing: None,
            attempt: task.attempt,
            project: task.project.display().to_string(),
            runs: task.run_id.iter().map(ToString::to_string).collect(),
        }
    }
}

/// How many tasks there are in each state.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(super) struct CountsView {
    queued: u64,
    /// Of those queued: nothing stands in their way.
    ready: u64,
    in_progress: u64,
    done: u64,
    error: u64,
    cancelled: u64,
    blocked: u64,
}

impl From<Counts> for CountsView {
    fn from(counts: Counts) -> Self {
        Self {
            queued: counts.queued,
            ready: counts.ready,
            in_progress: counts.in_progress,
            done: counts.done,
            error: counts.error,
            cancelled: counts.cancelled,
            blocked: counts.blocked,
        }
    }
}

/// Results by the id of their task.
pub(super) type Results = BTreeMap<String, ResultView>;

/// How much there is to read in the queue's files.
#[derive(Serialize, ToSchema)]
pub(super) struct SizeView {
    lines: u64,
    bytes: u64,
    /// A token for four bytes: rather too few.
    estimated_tokens: u64,
}

impl From<Size> for SizeView {
    fn from(size: Size) -> Self {
        let Size { lines, bytes, estimated_tokens } = size;
        Self { lines, bytes, estimated_tokens }
    }
}
