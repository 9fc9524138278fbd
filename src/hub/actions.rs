//! `POST /execute_task`: one tool, `claude_assistant`, and its actions, in the
//! request shape of the seed system that existing scripts use.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::answer::{Answer, ErrorAnswer, Failure, Outcome, SuccessWord};
use super::ask::{Fields, Json};
use super::calls::ToolCall;
use super::desk::{self, MAX_LIMIT, Wanted};
use super::gate::{Credentials, MayChange};
use super::views::{ResultView, Results, SizeView, StateWord, TaskView};
use super::{Hub, Started, usage};
use crate::queue::store::ResultFilter;
use crate::queue::{Refusal, Store, TaskId};

const TOOL: &str = "claude_assistant";

/// Each action: its name, what it does, the parameters it needs and those it takes.
const ACTIONS: [(&str, &str, &[&str], &[&str]); 9] = [
    ("assign_task", "accept a task", &["description"], &TASK_PARAMS),
    ("execute_queue", "work off the queue", &[], &[]),
    ("get_task_result", "the result of a task, or where it stands", &["task_id"], &[]),
    (
        "get_all_results",
        "results by task",
        &[],
        &["project", "batch_id", "archived", "limit", "offset"],
    ),
    ("get_recent_tasks", "the tasks accepted last", &[], &["limit"]),
    ("cancel_task", "cancel a task", &["task_id"], &[]),
    (
        "update_task",
        "change a task that is queued",
        &["task_id"],
        &[
            "description",
            "context",
            "priority",
            "batch_id",
            "verify",
            "after",
            "model",
            "budget_usd",
        ],
    ),
    ("archive", "move old results to the archive", &[], &["older_than", "keep_recent"]),
    (
        "track_usage",
        "record what a task used, or review what tasks used",
        &[],
        &["mode", "task_id", "timestamp", "user_request_summary", "entries", "days", "project"],
    ),
];

const TASK_PARAMS: [&str; 10] = [
    "task_id",
    "context",
    "priority",
    "batch_id",
    "project",
    "verify",
    "after",
    "model",
    "budget_usd",
    "auto_execute",
];

/// The same under another name.
const ALIASES: [(&str, &str); 1] = [("archive_tasks", "archive")];

/// What an action came to; `track_usage` has answers of its own.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is there for the document alone")]
enum ToolAnswer {
    // First, for what [`usage::TrackAnswer`] says.
    Track(usage::TrackAnswer),
    Action(Box<ActionAnswer>),
}

/// What an action came to. `status` is `already_running` where work was wanted that
/// is being done; what else is there depends on the action.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is there for the document alone")]
struct ActionAnswer {
    status: ActionWord,
    /// The task, where one is meant.
    #[schema(nullable = false)]
    task_id: Option<String>,
    #[schema(nullable = false)]
    task_status: Option<StateWord>,
    batch_id: Option<String>,
    #[schema(nullable = false)]
    result: Option<ResultView>,
    #[schema(nullable = false)]
    results: Option<Results>,
    #[schema(nullable = false)]
    tasks: Option<Vec<TaskView>>,
    #[schema(nullable = false)]
    task_count: Option<u64>,
    #[schema(nullable = false)]
    message: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ActionWord {
    Success,
    AlreadyRunning,
}

/// Does what a tool call says
///
/// Actions that change anything need the token: assign_task, execute_queue,
/// cancel_task, update_task, archive, track_usage.
#[utoipa::path(
    post,
    path = "/execute_task",
    tag = "tool",
    operation_id = "execute_task",
    request_body = ToolCall,
    security((), ("token" = [])),
    responses(
        (status = 200, description = "Done, or being done", body = ToolAnswer),
        (status = 401, description = "The token is needed", body = ErrorAnswer),
        (status = 404, description = "No task has that id", body = ErrorAnswer),
        (status = 409, description = "Does not fit what there is: id, state, dependencies, batch, project", body = ErrorAnswer),
        (status = 415, description = "The body is not declared as JSON", body = ErrorAnswer),
        (status = 503, description = "The queue cannot be worked off now, or usage not be recorded (`not_written`: it is kept; `busy`: nothing was done)", body = ErrorAnswer),
    )
)]
pub(super) async fn execute_task(
    State(hub): State<Hub>,
    credentials: Credentials,
    Json(body): Json,
) -> Outcome {
    let params = body.get("params");
    let task_id = params.and_then(|params| params["task_id"].as_str());
    let task_id = task_id.filter(|id| TaskId::parse(id).is_ok()).map(str::to_owned);
    // Whatever is wrong with a request, it was about that task.
    act(&hub, credentials, body).await.map_err(|failure| match task_id {
        Some(id) => failure.about(id),
        None => failure,
    })
}

async fn act(hub: &Hub, credentials: Credentials, body: Value) -> Outcome {
    let mut call = Fields::of("the body", Some(body))?;
    let tool = call.needed_text("tool_name")?;
    let action = call.needed_text("action")?;
    let mut params = call.value("params");
    call.end()?;
    if tool != TOOL {
        let message = format!("the tool {} is unknown; there is {TOOL}", shown(&tool));
        return Err(Failure::new(StatusCode::BAD_REQUEST, "unknown_tool", message));
    }
    let action = ALIASES.iter().find(|(alias, _)| *alias == action).map_or(&*action, |(_, a)| a);
    let may_change = || credentials.may_change();
    let given = if action == "track_usage" { params.take() } else { None };
    let params = || Fields::of("the parameter `params`", params);
    match action {
        "assign_task" => assign_task(hub, may_change()?, params()?).await,
        "execute_queue" => execute_queue(hub, may_change()?, params()?).await,
        "get_task_result" => {
            credentials.may_read()?;
            get_task_result(hub, params()?).await
        }
        "get_all_results" => {
            credentials.may_read()?;
            get_all_results(hub, params()?).await
        }
        "get_recent_tasks" => {
            credentials.may_read()?;
            get_recent_tasks(hub, params()?).await
        }
        "cancel_task" => cancel_task(hub, may_change()?, params()?).await,
        "update_task" => update_task(hub, may_change()?, params()?).await,
        "archive" => archive(hub, may_change()?, params()?).await,
        "track_usage" => track_usage(hub, may_change()?, given).await,
        other => {
            let names: Vec<&str> = ACTIONS.iter().map(|(name, ..)| *name).collect();
            let message =
                format!("the action {} is unknown; there are {}", shown(other), names.join(", "));
            Err(Failure::new(StatusCode::BAD_REQUEST, "unknown_action", message))
        }
    }
}

fn shown(name: &str) -> String {
    format!("`{}`", crate::text::clip(&crate::text::safe(name), 60))
}

#[derive(Serialize)]
struct Assigned {
    status: SuccessWord,
    task_id: TaskId,
    task_status: StateWord,
    batch_id: Option<String>,
    batch_position: Option<u32>,
    message: String,
    /// What became of the wish that it be worked on at once.
    execution: Option<Execution>,
}

#[derive(Serialize)]
struct Execution {
    status: &'static str,
    message: String,
}

async fn assign_task(hub: &Hub, _: MayChange, mut params: Fields) -> Outcome {
    let execute = params.flag("auto_execute")?.unwrap_or(hub.settings().auto_execute);
    let named = params.id_if_any();
    let draft = params.draft()?;
    let accepted = hub.add(vec![draft]).await.map_err(|failure| match named {
        Some(id) => failure.of_task(id),
        None => failure,
    })?;
    let Some(task) = accepted.into_iter().next() else {
        return Err(Failure::internal("the store accepted nothing"));
    };
    let execution = if execute { Some(execution(hub.execute().await)) } else { None };
    let view = TaskView::from(&task);
    Answer::ok(&Assigned {
        status: SuccessWord::Success,
        task_id: task.id.clone(),
        task_status: view.status,
        batch_id: view.batch_id,
        batch_position: view.batch_position,
        message: format!("task {} is {}", task.id, task.state.as_str().replace('_', " ")),
        execution,
    })
}

/// The task was accepted, whatever becomes of this.
fn execution(outcome: Outcome<(Started, u64)>) -> Execution {
    let (status, message) = match outcome {
        Ok((Started::Started, _)) => ("started", "the queue is being worked off".into()),
        Ok((Started::AlreadyRunning, _)) => {
            ("already_running", "the queue is being worked off already".into())
        }
        Ok((Started::Refused(why), _)) => ("error", why),
        Err(failure) => ("error", failure.message),
    };
    Execution { status, message }
}

/// That the queue is being worked off.
#[derive(Serialize, ToSchema)]
pub(super) struct Executed {
    status: ActionWord,
    /// Tasks that are queued or in progress.
    task_count: u64,
    message: String,
}

impl Executed {
    /// What to say of it.
    pub fn of((started, open): (Started, u64)) -> Outcome<Self> {
        let tasks = crate::text::count(open, "task", "tasks");
        let (status, message) = match started {
            Started::Started if open == 0 => {
                (ActionWord::Success, "no task is queued: there is nothing to do".into())
            }
            Started::Started => {
                (ActionWord::Success, format!("the queue is being worked off: {tasks}"))
            }
            Started::AlreadyRunning => {
                let message = format!("the queue is being worked off already: {tasks}");
                (ActionWord::AlreadyRunning, message)
            }
            Started::Refused(why) => {
                return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not_started", why));
            }
        };
        Ok(Self { status, task_count: open, message })
    }
}

async fn execute_queue(hub: &Hub, _: MayChange, params: Fields) -> Outcome {
    params.end()?;
    Answer::ok(&Executed::of(hub.execute().await?)?)
}

#[derive(Serialize)]
struct WithResult {
    status: SuccessWord,
    task_id: TaskId,
    result: ResultView,
}

async fn get_task_result(hub: &Hub, mut params: Fields) -> Outcome {
    let task_id = params.task_id()?;
    params.end()?;
    let result = hub.result(task_id.clone()).await?;
    Answer::ok(&WithResult { status: SuccessWord::Success, task_id, result })
}

#[derive(Serialize)]
struct AllResults {
    status: SuccessWord,
    results: Results,
    /// Results looked at for this answer: the next ones are at `offset` + `count`.
    count: usize,
    total: u64,
    limit: u32,
    offset: u32,
}

/// Takes out which results are wanted.
pub(super) fn result_filter(mut params: Fields) -> Result<ResultFilter, Refusal> {
    let Wanted { project, batch_id, limit, offset } = Wanted::of(&mut params, MAX_LIMIT)?;
    let archived = Some(params.flag("archived")?.unwrap_or(false));
    params.end()?;
    Ok(ResultFilter { project, batch_id, archived, limit, offset })
}

async fn get_all_results(hub: &Hub, params: Fields) -> Outcome {
    let page = hub.results(result_filter(params)?).await?;
    let count = page.items.len();
    // Of a task with several attempts the newest result stays.
    let results = page.items.into_iter().map(|result| (result.task_id.clone(), result)).collect();
    let (total, limit, offset) = (page.total, page.limit, page.offset);
    let status = SuccessWord::Success;
    Answer::ok(&AllResults { status, results, count, total, limit, offset })
}

#[derive(Serialize)]
struct RecentTasks {
    status: SuccessWord,
    tasks: Vec<TaskView>,
    task_count: usize,
}

async fn get_recent_tasks(hub: &Hub, mut params: Fields) -> Outcome {
    let limit = params.number("limit", MAX_LIMIT)?;
    params.end()?;
    let limit = limit.unwrap_or(hub.settings().keep_recent.min(MAX_LIMIT));
    let tasks: Vec<TaskView> = hub.recent(limit).await?.iter().map(TaskView::from).collect();
    let task_count = tasks.len();
    Answer::ok(&RecentTasks { status: SuccessWord::Success, tasks, task_count })
}

#[derive(Serialize)]
struct Changed {
    status: SuccessWord,
    task_id: TaskId,
    task_status: StateWord,
    batch_id: Option<String>,
    /// In progress, and told to end.
    is_cancelling: bool,
    message: String,
}

impl Changed {
    fn of(task: &crate::queue::Task, message: String) -> Self {
        Self {
            status: SuccessWord::Success,
            task_id: task.id.clone(),
            task_status: task.state.into(),
            batch_id: task.batch_id.as_ref().map(ToString::to_string),
            is_cancelling: task.is_cancelling,
            message,
        }
    }
}

async fn cancel_task(hub: &Hub, _: MayChange, mut params: Fields) -> Outcome {
    let id = params.task_id()?;
    params.end()?;
    let task = hub.change(id, |store: &mut dyn Store, now, id| store.cancel(now, id)).await?;
    let message = if task.is_cancelling {
        format!("task {} is in progress and will be ended", task.id)
    } else {
        format!("task {} is cancelled", task.id)
    };
    Answer::ok(&Changed::of(&task, message))
}

async fn update_task(hub: &Hub, _: MayChange, mut params: Fields) -> Outcome {
    let id = params.task_id()?;
    let edit = desk::edit_of(params)?;
    let task = hub.edit(id, edit).await?;
    let message = format!("task {} is changed", task.id);
    Answer::ok(&Changed::of(&task, message))
}

/// Results that moved.
#[derive(Serialize, ToSchema)]
pub(super) struct ArchivedAnswer {
    status: SuccessWord,
    /// Results that were moved.
    archived: u64,
    keep_recent: u32,
    /// What there was to read in queue and results of the hub's project.
    before: SizeView,
    /// What there is now.
    after: SizeView,
    message: String,
}

async fn track_usage(hub: &Hub, _: MayChange, params: Option<Value>) -> Outcome {
    let given = params.filter(|params| !params.is_null());
    usage::take(hub, given.unwrap_or_else(|| Value::Object(Default::default()))).await
}

async fn archive(hub: &Hub, _: MayChange, params: Fields) -> Outcome {
    archive_results(hub, params).await
}

/// Moves old results to the archive, and says how many.
pub(super) async fn archive_results(hub: &Hub, params: Fields) -> Outcome {
    let archived = hub.archive(params).await?;
    let done = &archived.done;
    let moved = crate::text::count(done.moved, "result", "results");
    Answer::ok(&ArchivedAnswer {
        status: SuccessWord::Success,
        archived: done.moved,
        keep_recent: archived.keep_recent,
        before: done.before.into(),
        after: done.after.into(),
        message: format!("{moved} moved to the archive; {}", done.sentence()),
    })
}

/// What the hub can do.
#[derive(Serialize, ToSchema)]
struct SupportedActions {
    status: SuccessWord,
    tools: Vec<ToolView>,
}

#[derive(Serialize, ToSchema)]
struct ToolView {
    name: &'static str,
    actions: Vec<ActionView>,
}

#[derive(Serialize, ToSchema)]
struct ActionView {
    name: &'static str,
    description: &'static str,
    /// Parameters that must be there.
    required_params: &'static [&'static str],
    /// Parameters that may be there.
    optional_params: &'static [&'static str],
    /// Other names of it.
    aliases: Vec<&'static str>,
}

/// What may be asked of `/execute_task`
#[utoipa::path(
    get,
    path = "/get_supported_actions",
    tag = "tool",
    operation_id = "get_supported_actions",
    responses((status = 200, description = "Tools and their actions", body = SupportedActions))
)]
pub(super) async fn get_supported_actions() -> Outcome {
    let actions = ACTIONS
        .iter()
        .map(|&(name, description, required_params, optional_params)| ActionView {
            name,
            description,
            required_params,
            optional_params,
            aliases: ALIASES.iter().filter(|(_, of)| *of == name).map(|(a, _)| *a).collect(),
        })
        .collect();
    let tools = vec![ToolView { name: TOOL, actions }];
    Answer::ok(&SupportedActions { status: SuccessWord::Success, tools })
}
