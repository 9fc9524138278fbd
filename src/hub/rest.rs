//! `/api/v1`: the queue as resources; and `/healthz`.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Hub;
use super::actions::{self, ArchivedAnswer, Executed};
use super::answer::{Answer, ErrorAnswer, Failure, Outcome, SuccessWord};
use super::ask::{Asked, Fields, Id, Json, MaybeJson};
use super::calls::{ArchiveParams, ResultsQuery, TaskChange, TaskDrafts, TaskPath, TasksQuery};
use super::desk::{self, MAX_TASKS, Wanted};
use super::gate::{MayChange, MayRead};
use super::views::{CountsView, ResultView, TaskView};
use crate::queue::store::Filter;
use crate::queue::{Code, Refusal, Store, Task, TaskId};

/// Tasks in an answer if the request does not say how many.
const DEFAULT_LIMIT: u32 = 100;

/// A task.
#[derive(Serialize, ToSchema)]
pub(super) struct OneTask {
    status: SuccessWord,
    task_id: String,
    task: TaskView,
}

impl OneTask {
    fn answer(task: &Task) -> Outcome {
        let (status, task) = (SuccessWord::Success, TaskView::from(task));
        Answer::ok(&Self { status, task_id: task.task_id.clone(), task })
    }
}

/// Whatever is wrong with a request, it was about this task.
fn about<T>(id: &TaskId, outcome: Outcome<T>) -> Outcome<T> {
    outcome.map_err(|failure| failure.about(id.as_str()))
}

/// Tasks, those in progress first, then by priority and age.
#[derive(Serialize, ToSchema)]
pub(super) struct Tasks {
    status: SuccessWord,
    tasks: Vec<TaskView>,
    /// How many are here: fewer than `limit` also where they are large.
    count: usize,
    /// How many there are of the kind that was asked for.
    total: u64,
    limit: u32,
    offset: u32,
}

/// Tasks that were accepted, in the order they were given.
#[derive(Serialize, ToSchema)]
pub(super) struct Accepted {
    status: SuccessWord,
    /// The task, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    task_id: Option<String>,
    tasks: Vec<TaskView>,
}

/// Tasks: in progress, then queued by priority and age, then those that are over
#[utoipa::path(
    get, path = "/api/v1/tasks", tag = "tasks", operation_id = "list_tasks",
    params(TasksQuery),
    security((), ("token" = [])),
    responses((status = 200, description = "The tasks", body = Tasks)),
)]
pub(super) async fn list_tasks(
    State(hub): State<Hub>,
    _: MayRead,
    Asked(mut asked): Asked,
) -> Outcome {
    let states = asked.text("state")?.map(|text| desk::states_of(&text)).transpose()?;
    let Wanted { project, batch_id, limit, offset } = Wanted::of(&mut asked, DEFAULT_LIMIT)?;
    asked.end()?;
    let states = states.unwrap_or_default();
    let page = hub.tasks(Filter { states, project, batch_id, limit, offset }).await?;
    Answer::ok(&Tasks {
        status: SuccessWord::Success,
        tasks: page.items.iter().map(TaskView::from).collect(),
        count: page.items.len(),
        total: page.total,
        limit: page.limit,
        offset: page.offset,
    })
}

/// Accepts a task, or several: all or none
#[utoipa::path(
    post, path = "/api/v1/tasks", tag = "tasks", operation_id = "add_tasks",
    request_body = TaskDrafts,
    security(("token" = [])),
    responses(
        (status = 201, description = "Accepted", body = Accepted),
        (status = 409, description = "Does not fit what there is: id, dependencies, batch, project", body = ErrorAnswer),
        (status = 415, description = "The body is not declared as JSON", body = ErrorAnswer),
    ),
)]
pub(super) async fn add_tasks(State(hub): State<Hub>, _: MayChange, Json(body): Json) -> Outcome {
    let (given, is_list) = match body {
        Value::Array(list) => (list, true),
        one => (vec![one], false),
    };
    if given.is_empty() {
        return Err(Refusal::new(Code::MissingParameter, "the list holds no task").into());
    }
    if given.len() > MAX_TASKS {
        let message = format!("the list holds {} tasks, more than {MAX_TASKS}", given.len());
        return Err(Refusal::new(Code::TooLong, message).into());
    }
    let mut drafts = Vec::with_capacity(given.len());
    for (index, one) in given.into_iter().enumerate() {
        let read = |value| match value {
            Value::Object(_) => Fields::of("a task", Some(value))?.draft(),
            _ => Err(Refusal::new(Code::InvalidParameter, "a task must be a JSON object")),
        };
        let said = |refusal: Refusal| match is_list {
            true => refusal.of(format_args!("task {} of the list", index + 1)),
            false => refusal,
        };
        drafts.push(read(one).map_err(said)?);
    }
    let accepted = hub.add(drafts).await?;
    let tasks: Vec<TaskView> = accepted.iter().map(TaskView::from).collect();
    let task_id = tasks.first().filter(|_| !is_list).map(|task| task.task_id.clone());
    let body = Accepted { status: SuccessWord::Success, task_id, tasks };
    Answer::with(StatusCode::CREATED, &body)
}

/// One task
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}", tag = "tasks", operation_id = "get_task",
    params(TaskPath),
    security((), ("token" = [])),
    responses(
        (status = 200, description = "The task", body = OneTask),
        (status = 404, description = "No task has that id", body = ErrorAnswer),
    ),
)]
pub(super) async fn get_task(State(hub): State<Hub>, Id(id): Id, may: Outcome<MayRead>) -> Outcome {
    about(&id, may)?;
    OneTask::answer(&hub.task(id).await?)
}

/// Changes a task that is queued or blocked
#[utoipa::path(
    patch, path = "/api/v1/tasks/{id}", tag = "tasks", operation_id = "change_task",
    params(TaskPath),
    request_body = TaskChange,
    security(("token" = [])),
    responses(
        (status = 200, description = "The task as it is now", body = OneTask),
        (status = 404, description = "No task has that id", body = ErrorAnswer),
        (status = 409, description = "Does not fit what there is: its state, dependencies, batch", body = ErrorAnswer),
        (status = 415, description = "The body is not declared as JSON", body = ErrorAnswer),
    ),
)]
pub(super) async fn change_task(
    State(hub): State<Hub>,
    Id(id): Id,
    may: Outcome<MayChange>,
    body: Outcome<Json>,
) -> Outcome {
    about(&id, may)?;
    let edit = match about(&id, body)?.0 {
        body @ Value::Object(_) => Fields::of("the body", Some(body)).and_then(desk::edit_of),
        _ => Err(Refusal::new(Code::InvalidParameter, "the body must be a JSON object")),
    };
    let edit = about(&id, edit.map_err(Failure::from))?;
    OneTask::answer(&hub.edit(id, edit).await?)
}

/// Cancels a task: at once, or soon if it is in progress
#[utoipa::path(
    delete, path = "/api/v1/tasks/{id}", tag = "tasks", operation_id = "delete_task",
    params(TaskPath),
    security(("token" = [])),
    responses(
        (status = 200, description = "The task as it is now", body = OneTask),
        (status = 404, description = "No task has that id", body = ErrorAnswer),
        (status = 409, description = "It is over", body = ErrorAnswer),
    ),
)]
pub(super) async fn delete_task(state: State<Hub>, id: Id, may: Outcome<MayChange>) -> Outcome {
    cancel_task(state, id, may).await
}

/// Cancels a task: at once, or soon if it is in progress
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/cancel", tag = "tasks", operation_id = "cancel_task",
    params(TaskPath),
    security(("token" = [])),
    responses(
        (status = 200, description = "The task as it is now", body = OneTask),
        (status = 404, description = "No task has that id", body = ErrorAnswer),
        (status = 409, description = "It is over", body = ErrorAnswer),
    ),
)]
pub(super) async fn cancel_task(
    State(hub): State<Hub>,
    Id(id): Id,
    may: Outcome<MayChange>,
) -> Outcome {
    about(&id, may)?;
    let task = hub.change(id, |store: &mut dyn Store, now, id| store.cancel(now, id)).await?;
    OneTask::answer(&task)
}

/// Queues a task that ended in error, blocked or cancelled once more
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/retry", tag = "tasks", operation_id = "retry_task",
    params(TaskPath),
    security(("token" = [])),
    responses(
        (status = 200, description = "The task as it is now", body = OneTask),
        (status = 404, description = "No task has that id", body = ErrorAnswer),
        (status = 409, description = "It is not over, or is done, or waits for one that did not end done", body = ErrorAnswer),
    ),
)]
pub(super) async fn retry_task(
    State(hub): State<Hub>,
    Id(id): Id,
    may: Outcome<MayChange>,
) -> Outcome {
    about(&id, may)?;
    let task = hub.change(id, |store: &mut dyn Store, now, id| store.retry(now, id)).await?;
    OneTask::answer(&task)
}

/// The result of a task.
#[derive(Serialize, ToSchema)]
pub(super) struct OneResult {
    status: SuccessWord,
    task_id: String,
    result: ResultView,
}

/// The result of a task, or where it stands
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}/result", tag = "results", operation_id = "get_result",
    params(TaskPath),
    security((), ("token" = [])),
    responses(
        (status = 200, description = "The result; `null` is what is not known yet", body = OneResult),
        (status = 404, description = "No task has that id", body = ErrorAnswer),
    ),
)]
pub(super) async fn get_result(
    State(hub): State<Hub>,
    Id(id): Id,
    may: Outcome<MayRead>,
) -> Outcome {
    about(&id, may)?;
    let result = hub.result(id).await?;
    let task_id = result.task_id.clone();
    Answer::ok(&OneResult { status: SuccessWord::Success, task_id, result })
}

/// Results, the newest last.
#[derive(Serialize, ToSchema)]
pub(super) struct ResultList {
    status: SuccessWord,
    results: Vec<ResultView>,
    /// How many are here: fewer than `limit` also where they are large.
    count: usize,
    /// How many there are of the kind that was asked for.
    total: u64,
    limit: u32,
    offset: u32,
}

/// Results, the newest last
#[utoipa::path(
    get, path = "/api/v1/results", tag = "results", operation_id = "list_results",
    params(ResultsQuery),
    security((), ("token" = [])),
    responses((status = 200, description = "The results", body = ResultList)),
)]
pub(super) async fn list_results(
    State(hub): State<Hub>,
    _: MayRead,
    Asked(asked): Asked,
) -> Outcome {
    let page = hub.results(actions::result_filter(asked)?).await?;
    Answer::ok(&ResultList {
        status: SuccessWord::Success,
        count: page.items.len(),
        results: page.items,
        total: page.total,
        limit: page.limit,
        offset: page.offset,
    })
}

/// The queue as a whole.
#[derive(Serialize, ToSchema)]
pub(super) struct QueueView {
    status: SuccessWord,
    tasks: CountsView,
    /// Is it being worked off, by whomever?
    running: bool,
    /// How the last run of the queue ended that was begun from here.
    #[schema(required)]
    last_exit_code: Option<i32>,
}

/// How many tasks there are, and whether they are being worked on
#[utoipa::path(
    get, path = "/api/v1/queue", tag = "queue", operation_id = "get_queue",
    security((), ("token" = [])),
    responses((status = 200, description = "The queue", body = QueueView)),
)]
pub(super) async fn get_queue(State(hub): State<Hub>, _: MayRead) -> Outcome {
    let tasks = hub.counts().await?.into();
    Answer::ok(&QueueView {
        status: SuccessWord::Success,
        tasks,
        running: hub.0.runner.is_running(),
        last_exit_code: hub.0.runner.last_exit_code(),
    })
}

/// Has the queue worked off, unless it is being worked off
#[utoipa::path(
    post, path = "/api/v1/queue/run", tag = "queue", operation_id = "run_queue",
    security(("token" = [])),
    responses(
        (status = 200, description = "It is; or there is nothing to do", body = Executed),
        (status = 503, description = "It cannot be, now", body = ErrorAnswer),
    ),
)]
pub(super) async fn run_queue(State(hub): State<Hub>, _: MayChange) -> Outcome {
    Answer::ok(&Executed::of(hub.execute().await?)?)
}

/// Moves old results to the archive
#[utoipa::path(
    post, path = "/api/v1/archive", tag = "results", operation_id = "archive",
    request_body = Option<ArchiveParams>,
    security(("token" = [])),
    responses(
        (status = 200, description = "Moved", body = ArchivedAnswer),
        (status = 415, description = "The body is not declared as JSON", body = ErrorAnswer),
    ),
)]
pub(super) async fn archive(
    State(hub): State<Hub>,
    _: MayChange,
    MaybeJson(body): MaybeJson,
) -> Outcome {
    let fields = Fields::of("the body", body)?;
    actions::archive_results(&hub, fields).await
}

/// Is all well?
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    status: SuccessWord,
    /// Of longhaul.
    version: &'static str,
    /// `ok`: it can be read.
    store: &'static str,
    /// Is the queue being worked off?
    running: bool,
}

/// Is all well?
#[utoipa::path(
    get, path = "/healthz", tag = "health", operation_id = "health",
    responses(
        (status = 200, description = "It is", body = Health),
        (status = 503, description = "The queue's store cannot be read", body = ErrorAnswer),
    ),
)]
pub(super) async fn healthz(State(hub): State<Hub>) -> Outcome {
    hub.with_store(|store| store.version()).await.map_err(|mut failure| {
        failure.status = StatusCode::SERVICE_UNAVAILABLE;
        failure
    })?;
    Answer::ok(&Health {
        status: SuccessWord::Success,
        version: env!("CARGO_PKG_VERSION"),
        store: "ok",
        running: hub.0.runner.is_running(),
    })
}
