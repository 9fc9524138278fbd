//! What may be asked, as types: the document is made of them. What is really read
//! from a request goes through [`super::ask`], which says more exactly what is wrong;
//! a test holds the two together.
#![expect(dead_code, reason = "these types are there for the document alone")]

use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{IntoParams, PartialSchema, ToSchema};

/// The one tool there is.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
enum ToolName {
    ClaudeAssistant,
}

/// A call of a tool: one of the actions of `claude_assistant`.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum ToolCall {
    AssignTask(AssignTask),
    ExecuteQueue(ExecuteQueue),
    GetTaskResult(GetTaskResult),
    GetAllResults(GetAllResults),
    GetRecentTasks(GetRecentTasks),
    CancelTask(CancelTask),
    UpdateTask(UpdateTask),
    Archive(Archive),
    TrackUsage(TrackUsage),
}

/// Defines calls that need parameters, and those that do not.
macro_rules! call {
    ($call:ident, $word:ident, $($action:ident)|+, needs $params:ty) => {
        call!(@word $word, $($action)|+);
        #[derive(ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $call {
            tool_name: ToolName,
            action: $word,
            params: $params,
        }
    };
    ($call:ident, $word:ident, $($action:ident)|+, takes $params:ty) => {
        call!(@word $word, $($action)|+);
        #[derive(ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $call {
            tool_name: ToolName,
            action: $word,
            params: Option<$params>,
        }
    };
    (@word $word:ident, $($action:ident)|+) => {
        #[derive(ToSchema)]
        #[serde(rename_all = "snake_case")]
        enum $word { $($action),+ }
    };
}

call!(AssignTask, AssignTaskWord, AssignTask, needs AssignParams);
call!(ExecuteQueue, ExecuteQueueWord, ExecuteQueue, takes NoParams);
call!(GetTaskResult, GetTaskResultWord, GetTaskResult, needs TaskParams);
call!(GetAllResults, GetAllResultsWord, GetAllResults, takes ResultsParams);
call!(GetRecentTasks, GetRecentTasksWord, GetRecentTasks, takes RecentParams);
call!(CancelTask, CancelTaskWord, CancelTask, needs TaskParams);
call!(UpdateTask, UpdateTaskWord, UpdateTask, needs UpdateParams);
call!(Archive, ArchiveWord, Archive | ArchiveTasks, takes ArchiveParams);
call!(TrackUsage, TrackUsageWord, TrackUsage, needs TrackParams);

/// No parameters.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct NoParams {}

/// A task that is there.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct TaskParams {
    #[schema(inline, schema_with = super::openapi::id)]
    task_id: String,
}

/// A part of the results.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct ResultsParams {
    /// The folder of a project; a relative path begins at that of the hub.
    project: Option<String>,
    #[schema(schema_with = super::openapi::optional_id)]
    batch_id: Option<String>,
    /// Those in the archive, or those that are not (the default).
    archived: Option<bool>,
    /// Most of them; the newest are taken first.
    #[schema(minimum = 0, maximum = 1000)]
    limit: Option<u32>,
    /// So many of the newest are left out.
    #[schema(minimum = 0, maximum = 4_294_967_295_u32)]
    offset: Option<u32>,
}

/// How many tasks.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct RecentParams {
    /// Most of them; default is `queue.keep_recent`.
    #[schema(minimum = 0, maximum = 1000)]
    limit: Option<u32>,
}

/// Which results move to the archive.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ArchiveParams {
    /// Those older than this, such as `7d` or `12h`; default is `queue.archive_after`.
    #[schema(pattern = "^[0-9]{1,4}[dhms]$")]
    older_than: Option<String>,
    /// But for the newest so many; default is `queue.keep_recent`.
    #[schema(minimum = 0, maximum = 1_000_000)]
    keep_recent: Option<u32>,
}

/// What was used, to be recorded, or the days of a review. What is missing or cannot be is
/// recorded as `null`, and noted; other fields are let be.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum TrackParams {
    Entries(EntriesUsage),
    Task(TaskUsage),
    Review(UsageReview),
}

/// What was used, whether the task is known or not.
#[derive(ToSchema)]
pub(super) struct EntriesUsage {
    #[schema(schema_with = super::openapi::log_mode)]
    mode: Option<String>,
    #[schema(schema_with = super::openapi::any_task, required = false)]
    task_id: Value,
    /// ISO 8601; without an offset it is UTC, and without one it is now.
    #[schema(required = false)]
    timestamp: Value,
    /// What was wanted: a text of two to four lines.
    #[schema(required = false)]
    user_request_summary: Value,
    /// Who used what.
    #[schema(max_items = 5000)]
    entries: Vec<TrackEntry>,
    /// The folder of the project; a relative path begins at that of the hub, the default.
    project: Option<String>,
}

/// A task of which is not known what it used.
#[derive(ToSchema)]
pub(super) struct TaskUsage {
    #[schema(schema_with = super::openapi::log_mode)]
    mode: Option<String>,
    #[schema(schema_with = super::openapi::tracked_task)]
    task_id: String,
    /// ISO 8601; without an offset it is UTC, and without one it is now.
    #[schema(required = false)]
    timestamp: Value,
    /// What was wanted: a text of two to four lines.
    #[schema(required = false)]
    user_request_summary: Value,
    #[schema(schema_with = super::openapi::no_entries, required = false)]
    entries: Value,
    /// The folder of the project; a relative path begins at that of the hub, the default.
    project: Option<String>,
}

/// A look back over some days.
#[derive(ToSchema)]
pub(super) struct UsageReview {
    mode: ReviewMode,
    /// Its last day, ISO 8601; default is today.
    #[schema(required = false)]
    timestamp: Value,
    /// How many; default is 7.
    #[schema(minimum = 1, maximum = 3650)]
    days: Option<u32>,
    /// The folder of the project; a relative path begins at that of the hub, the default.
    project: Option<String>,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
enum ReviewMode {
    ReviewPeriod,
}

/// What one agent used of one model.
struct TrackEntry;

impl PartialSchema for TrackEntry {
    fn schema() -> RefOr<Schema> {
        super::openapi::track_entry()
    }
}

impl ToSchema for TrackEntry {}

/// A task to be accepted.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskDraft {
    /// Generated if left out.
    #[schema(schema_with = super::openapi::optional_id)]
    task_id: Option<String>,
    #[schema(schema_with = super::openapi::description)]
    description: String,
    #[schema(schema_with = super::openapi::context)]
    context: Option<String>,
    #[schema(schema_with = super::openapi::priority)]
    priority: Option<i32>,
    /// `new`: a batch that is not there yet.
    #[schema(schema_with = super::openapi::optional_id)]
    batch_id: Option<String>,
    /// The folder to work in; a relative path begins at that of the hub, the default.
    project: Option<String>,
    #[schema(schema_with = super::openapi::command)]
    verify: Option<String>,
    #[schema(schema_with = super::openapi::after)]
    after: Option<Vec<String>>,
    #[schema(schema_with = super::openapi::model)]
    model: Option<String>,
    #[schema(schema_with = super::openapi::budget)]
    budget_usd: Option<f64>,
}

/// A task to be accepted, and whether work is to begin.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct AssignParams {
    /// Generated if left out.
    #[schema(schema_with = super::openapi::optional_id)]
    task_id: Option<String>,
    #[schema(schema_with = super::openapi::description)]
    description: String,
    #[schema(schema_with = super::openapi::context)]
    context: Option<String>,
    #[schema(schema_with = super::openapi::priority)]
    priority: Option<i32>,
    /// `new`: a batch that is not there yet.
    #[schema(schema_with = super::openapi::optional_id)]
    batch_id: Option<String>,
    /// The folder to work in; a relative path begins at that of the hub, the default.
    project: Option<String>,
    #[schema(schema_with = super::openapi::command)]
    verify: Option<String>,
    #[schema(schema_with = super::openapi::after)]
    after: Option<Vec<String>>,
    #[schema(schema_with = super::openapi::model)]
    model: Option<String>,
    #[schema(schema_with = super::openapi::budget)]
    budget_usd: Option<f64>,
    /// Work off the queue now? Default is `hub.auto_execute`.
    auto_execute: Option<bool>,
}

/// What is to be changed; `null` takes a field away.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(min_properties = 1)]
pub(super) struct TaskChange {
    #[schema(schema_with = super::openapi::description)]
    description: Option<String>,
    #[schema(schema_with = super::openapi::context)]
    context: Option<String>,
    #[schema(schema_with = super::openapi::priority)]
    priority: Option<i32>,
    /// `new`: a batch that is not there yet.
    #[schema(schema_with = super::openapi::optional_id)]
    batch_id: Option<String>,
    #[schema(schema_with = super::openapi::command)]
    verify: Option<String>,
    #[schema(schema_with = super::openapi::after)]
    after: Option<Vec<String>>,
    #[schema(schema_with = super::openapi::model)]
    model: Option<String>,
    #[schema(schema_with = super::openapi::budget)]
    budget_usd: Option<f64>,
}

/// What is to be changed of which task; at least one field besides the id.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(min_properties = 2)]
struct UpdateParams {
    #[schema(schema_with = super::openapi::id)]
    task_id: String,
    #[schema(schema_with = super::openapi::description)]
    description: Option<String>,
    #[schema(schema_with = super::openapi::context)]
    context: Option<String>,
    #[schema(schema_with = super::openapi::priority)]
    priority: Option<i32>,
    /// `new`: a batch that is not there yet.
    #[schema(schema_with = super::openapi::optional_id)]
    batch_id: Option<String>,
    #[schema(schema_with = super::openapi::command)]
    verify: Option<String>,
    #[schema(schema_with = super::openapi::after)]
    after: Option<Vec<String>>,
    #[schema(schema_with = super::openapi::model)]
    model: Option<String>,
    #[schema(schema_with = super::openapi::budget)]
    budget_usd: Option<f64>,
}

/// One task, or several: all are accepted or none.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum TaskDrafts {
    One(Box<TaskDraft>),
    Many(TaskList),
}

/// Several tasks.
#[derive(ToSchema)]
#[schema(min_items = 1, max_items = 1000)]
pub(super) struct TaskList(Vec<TaskDraft>);

/// A task in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct TaskPath {
    /// The task.
    #[param(schema_with = super::openapi::id)]
    id: String,
}

/// Which tasks.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TasksQuery {
    /// Of these states, with commas between them.
    #[param(schema_with = super::openapi::states)]
    state: Option<String>,
    /// Of this project: its folder; a relative path begins at that of the hub.
    #[param(nullable = false)]
    project: Option<String>,
    /// Of this batch.
    #[param(schema_with = super::openapi::id)]
    batch_id: Option<String>,
    /// Most of them; default 100.
    #[param(nullable = false, minimum = 0, maximum = 1000)]
    limit: Option<u32>,
    /// So many are left out.
    #[param(nullable = false, minimum = 0, maximum = 4_294_967_295_u32)]
    offset: Option<u32>,
}

/// Which results.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ResultsQuery {
    /// Of this project: its folder; a relative path begins at that of the hub.
    #[param(nullable = false)]
    project: Option<String>,
    /// Of this batch.
    #[param(schema_with = super::openapi::id)]
    batch_id: Option<String>,
    /// Those in the archive, or those that are not (the default).
    #[param(nullable = false)]
    archived: Option<bool>,
    /// Most of them, the newest; default 1000.
    #[param(nullable = false, minimum = 0, maximum = 1000)]
    limit: Option<u32>,
    /// So many of the newest are left out.
    #[param(nullable = false, minimum = 0, maximum = 4_294_967_295_u32)]
    offset: Option<u32>,
}
