//! From values to a response; every error in one shape:
//! `{"status": "error", "error": {"code": …, "message": …}}`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::queue::{Code, QueueError, Refusal};

/// A request that was done.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    body: String,
}

impl Answer {
    /// `200` with this as JSON.
    pub fn ok(body: &impl Serialize) -> Result<Self, Failure> {
        Self::with(StatusCode::OK, body)
    }

    /// This status with this as JSON.
    pub fn with(status: StatusCode, body: &impl Serialize) -> Result<Self, Failure> {
        // It may be read on a terminal: nothing in it may steer one.
        let body = crate::text::json(body, false)
            .map_err(|e| Failure::internal(format!("the answer cannot be written: {e}")))?;
        Ok(Self { status, body: body + "\n" })
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let head = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            // Results are nobody's to keep, and no page's to show as anything else.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        (self.status, head, self.body).into_response()
    }
}

/// A request that was not done.
#[derive(Debug)]
pub(super) struct Failure {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    task_id: Option<String>,
    besides: Besides,
}

/// What an error says besides, in a header.
#[derive(Debug, Clone, Copy)]
enum Besides {
    Nothing,
    /// Nothing more can be asked on this connection.
    Close,
    /// The token is wanted.
    WantsBearer,
}

/// What came of a request.
pub(super) type Outcome<T = Answer> = Result<T, Failure>;

/// An error, as it is answered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorAnswer {
    /// Always `error`.
    status: ErrorWord,
    /// The task, where one was meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    task_id: Option<String>,
    error: ErrorBody,
}

/// Why.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorBody {
    /// For programs; does not change.
    code: &'static str,
    /// For people.
    message: String,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ErrorWord {
    Error,
}

/// The word of a request that was done.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SuccessWord {
    Success,
}

impl Failure {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), task_id: None, besides: Besides::Nothing }
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// Said of this task, unless it is said of one already.
    pub fn about(self, id: impl Into<String>) -> Self {
        if self.task_id.is_some() { self } else { self.of_task(id) }
    }

    /// Said of this task.
    pub fn of_task(mut self, id: impl Into<String>) -> Self {
        self.task_id = Some(id.into());
        self
    }

    /// And the connection ends.
    pub fn and_close(self) -> Self {
        Self { besides: Besides::Close, ..self }
    }

    /// The token is wanted.
    pub fn unauthorized(message: &str) -> Self {
        let failure = Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
        Self { besides: Besides::WantsBearer, ..failure }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = ErrorAnswer {
            status: ErrorWord::Error,
            task_id: self.task_id,
            error: ErrorBody { code: self.code, message: self.message },
        };
        let mut response = match Answer::with(self.status, &body) {
            Ok(answer) => answer.into_response(),
            // Texts and words alone: it cannot fail.
            Err(_) => self.status.into_response(),
        };
        let (name, value) = match self.besides {
            Besides::Nothing => return response,
            Besides::Close => (header::CONNECTION, "close"),
            Besides::WantsBearer => (header::WWW_AUTHENTICATE, "Bearer"),
        };
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response
    }
}

/// The status of each code of the queue.
pub(super) fn status_of(code: Code) -> StatusCode {
    match code {
        Code::MalformedJson
        | Code::MissingParameter
        | Code::InvalidParameter
        | Code::UnknownParameter
        | Code::InvalidId
        | Code::ControlCharacters
        | Code::TooLong => StatusCode::BAD_REQUEST,
        Code::UnknownTask => StatusCode::NOT_FOUND,
        // Well said, but it does not fit what there is.
        Code::TaskExists
        | Code::WrongState
        | Code::UnknownDependency
        | Code::DependencyCycle
        | Code::BatchProject
        | Code::InvalidProject => StatusCode::CONFLICT,
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::new(status_of(refusal.code), refusal.code.as_str(), refusal.message)
    }
}

impl From<QueueError> for Failure {
    fn from(err: QueueError) -> Self {
        match err {
            QueueError::Refused(refusal) => refusal.into(),
            QueueError::Failed(err) => {
                tracing::error!(%err, "the queue's store failed");
                let message = format!("the queue's store failed: {err}");
                Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "store_failed", message)
            }
        }
    }
}
