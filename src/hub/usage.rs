//! What agents tell of their usage, over HTTP: the usage tracker's requests and answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::ToSchema;

use super::Hub;
use super::answer::{Answer, ErrorAnswer, Failure, Outcome};
use super::ask::Json;
use super::calls::TrackParams;
use super::gate::MayChange;
use crate::error::{Error, ErrorKind};
use crate::queue::{TaskId, draft};
use crate::track::{self, Input, Mode, Refused};

/// How long a log waits for those before it.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// Records usage. Called on a thread for blocking work.
pub trait Bookkeeper: Send + Sync {
    /// Does what a request for `project` (its real path) asks for.
    ///
    /// # Errors
    /// The project's configuration or folder cannot be used.
    fn take(&self, project: &Path, input: &Input) -> crate::Result<track::Answer>;

    /// Notes in the project's errors that a request could not be understood.
    fn note_refused(&self, project: &Path, message: &str);
}

/// The answer to a review, or to a log.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is there for the document alone")]
pub(super) enum TrackAnswer {
    // First: what follows task ids from answers looks at the first of several kinds, and
    // the id of a log is free text, which names no task of the queue.
    Reviewed(Reviewed),
    Recorded(Recorded),
}

/// A log was recorded.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is there for the document alone")]
pub(super) struct Recorded {
    status: RecordedWord,
    /// The task, as told; `null` if none was.
    #[schema(required)]
    task_id: Option<String>,
    /// Of `log_and_summarize`: one or two sentences.
    #[schema(nullable = false)]
    summary: Option<String>,
    /// It is kept, and written with the next request: others were recording.
    #[schema(nullable = false)]
    pending: Option<bool>,
    /// Records that had waited and are written now.
    #[schema(nullable = false)]
    reconciled: Option<u64>,
}

/// A review was written.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is there for the document alone")]
pub(super) struct Reviewed {
    status: ReviewedWord,
    /// Its file, from the project on.
    report_path: String,
    recommendations: Vec<RecommendationView>,
    /// Records that had waited and are written now.
    #[schema(nullable = false)]
    reconciled: Option<u64>,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for the document alone")]
enum RecordedWord {
    Recorded,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for the document alone")]
enum ReviewedWord {
    ReportGenerated,
}

/// What would cost less.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is there for the document alone")]
pub(super) struct RecommendationView {
    #[schema(pattern = "^(model_selection|context_reuse|delegation_reduction)$")]
    r#type: String,
    description: String,
    proposed_change: String,
    /// At stake in the period; null where nobody can tell.
    #[schema(required)]
    tokens: Option<u64>,
    /// At stake in the period; null where nobody can tell, and of models without a price.
    #[schema(required)]
    cost_usd: Option<f64>,
    #[schema(pattern = "^(measured|estimated)$")]
    basis: String,
}

/// Records what a task used, or reviews what tasks used
///
/// The request and the answer of `longhaul track`.
#[utoipa::path(
    post, path = "/api/v1/track", tag = "usage", operation_id = "track",
    request_body = TrackParams,
    security(("token" = [])),
    responses(
        (status = 200, description = "Recorded, or reviewed", body = TrackAnswer),
        (status = 409, description = "The project is no folder, or tracks nothing", body = ErrorAnswer),
        (status = 415, description = "The body is not declared as JSON", body = ErrorAnswer),
        (status = 503, description = "It cannot be written now, and is kept (`not_written`); or others are at it, and nothing was done (`busy`)", body = ErrorAnswer),
    ),
)]
pub(super) async fn track(
    State(hub): State<Hub>,
    _: MayChange,
    body: Result<Json, Failure>,
) -> Outcome {
    let body = match body {
        Ok(Json(body)) => body,
        Err(failure) => {
            note_unread(&hub, failure.message.clone()).await;
            return Err(failure);
        }
    };
    let task_id = body["task_id"].as_str().filter(|id| TaskId::parse(id).is_ok());
    let task_id = task_id.map(str::to_owned);
    take(&hub, body).await.map_err(|failure| match task_id {
        Some(id) => failure.about(id),
        None => failure,
    })
}

/// A body that cannot be read tells nothing of its project: it stands in the errors of the
/// hub's own.
async fn note_unread(hub: &Hub, message: String) {
    let Some(books) = hub.0.books.get().cloned() else { return };
    let own = hub.settings().default_project.clone();
    let Ok(permit) = hub.0.desks.turn().await else {
        tracing::warn!(message, "what was refused is not noted: others are recording");
        return;
    };
    let work = move || {
        let _permit = permit;
        if let Ok(project) = draft::project_of(&own) {
            books.note_refused(&project, &message);
        }
    };
    if let Err(err) = tokio::task::spawn_blocking(work).await {
        tracing::warn!(%err, "what was refused is not noted");
    }
}

/// Does what `params` say, for the project they name or the hub's own.
pub(super) async fn take(hub: &Hub, mut params: Value) -> Outcome {
    let mut wrong = None;
    let project = match params.as_object_mut().and_then(|fields| fields.remove("project")) {
        None | Some(Value::Null) => None,
        Some(Value::String(path)) => Some(PathBuf::from(path)),
        Some(_) => {
            let message = "the parameter `project` must be a text".to_owned();
            wrong = Some(Refused { code: "invalid_parameter", message, task_id: None });
            None
        }
    };
    let parsed = match wrong {
        Some(wrong) => Err(wrong),
        None => track::parse_value(params),
    };
    let Some(books) = hub.0.books.get().cloned() else {
        let message = "this hub records no usage";
        let idle = Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not_recorded", message);
        return Err(parsed.map_or_else(refused, |_| idle));
    };
    let own = hub.settings().default_project.clone();
    let permit = hub.0.desks.permit(&parsed).await?;
    let work = move || {
        // Whoever asked may be gone long before it is done.
        let _permit = permit;
        record(books.as_ref(), &own, project, parsed)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => Answer::ok(&answer?),
        Err(err) => Err(Failure::internal(format!("the tracker's thread failed: {err}"))),
    }
}

fn busy(message: &str) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
}

/// How many requests are at work at a time: one review, which reads much, and besides
/// one log, which must not wait for it. More would take the threads that the queue needs.
pub(super) struct Desks {
    review: Arc<Semaphore>,
    log: Arc<Semaphore>,
}

impl Default for Desks {
    fn default() -> Self {
        Self { review: Arc::new(Semaphore::new(1)), log: Arc::new(Semaphore::new(1)) }
    }
}

impl Desks {
    /// A review goes at once or not at all; a log waits a little for its turn.
    async fn permit(
        &self,
        parsed: &Result<Input, Refused>,
    ) -> Result<OwnedSemaphorePermit, Failure> {
        let mode = parsed.as_ref().map(|input| input.mode);
        if let Ok(Mode::ReviewPeriod { .. }) = mode {
            let permit = Arc::clone(&self.review).try_acquire_owned();
            return permit
                .map_err(|_| busy("another review is being made: ask again when it is done"));
        }
        self.turn().await
    }

    /// The next turn of a log.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let turn = Arc::clone(&self.log).acquire_owned();
        match tokio::time::timeout(LOG_PATIENCE, turn).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                Err(busy("others are recording: nothing was recorded, tell it again"))
            }
        }
    }
}

fn record(
    books: &dyn Bookkeeper,
    own: &Path,
    project: Option<PathBuf>,
    parsed: Result<Input, Refused>,
) -> Outcome<track::Answer> {
    let project = project.map_or_else(|| own.to_owned(), |given| own.join(given));
    let project = draft::project_of(&project).map_err(Failure::from)?;
    match parsed {
        Ok(input) => books.take(&project, &input).map_err(|err| failed(&err)),
        Err(why) => {
            books.note_refused(&project, &why.message);
            Err(refused(why))
        }
    }
}

fn refused(refused: Refused) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, refused.code, refused.message)
}

fn failed(err: &Error) -> Failure {
    let status = match err.kind() {
        ErrorKind::Disk | ErrorKind::Locked => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Usage => StatusCode::CONFLICT,
        ErrorKind::State
        | ErrorKind::NeedsPerson
        | ErrorKind::Authentication
        | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let why = track::Failed::of(err, None).error;
    Failure::new(status, why.code, why.message)
}

/// What records usage, from now on.
pub(super) type Books = Arc<dyn Bookkeeper>;
