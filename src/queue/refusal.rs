//! Why something was not done: a code for programs, a sentence for people.

use std::fmt;

use crate::error::Error;

/// What a request was refused for. The words are part of the interface of the
/// hub and do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The text is no JSON.
    MalformedJson,
    /// Something that is needed is not there.
    MissingParameter,
    /// Something has the wrong type or no meaning.
    InvalidParameter,
    /// A parameter that nobody knows.
    UnknownParameter,
    /// An id of a task or batch that cannot be one.
    InvalidId,
    /// A text with control characters.
    ControlCharacters,
    /// A text that is too long.
    TooLong,
    /// A task of that id was accepted before.
    TaskExists,
    /// No task has that id.
    UnknownTask,
    /// A task waits for one that nobody knows.
    UnknownDependency,
    /// Tasks wait for each other.
    DependencyCycle,
    /// A batch over two projects.
    BatchProject,
    /// The project is no folder.
    InvalidProject,
    /// The task's state does not allow it.
    WrongState,
}

impl Code {
    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::MalformedJson => "malformed_json",
            Code::MissingParameter => "missing_parameter",
            Code::InvalidParameter => "invalid_parameter",
            Code::UnknownParameter => "unknown_parameter",
            Code::InvalidId => "invalid_id",
            Code::ControlCharacters => "control_characters",
            Code::TooLong => "too_long",
            Code::TaskExists => "task_exists",
            Code::UnknownTask => "unknown_task",
            Code::UnknownDependency => "unknown_dependency",
            Code::DependencyCycle => "dependency_cycle",
            Code::BatchProject => "batch_project",
            Code::InvalidProject => "invalid_project",
            Code::WrongState => "wrong_state",
        }
    }
}

/// A request that was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people: what is wrong, and what would be right.
    pub message: String,
    /// Which of several it was said of, from 0.
    pub index: Option<usize>,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), index: None }
    }

    /// The same, said of the one at `index`.
    pub fn at(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }

    /// The same, said of one of several, such as a line of the input.
    pub fn of(mut self, which: impl fmt::Display) -> Self {
        self.message = format!("{which}: {}", self.message);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What can come of a request to the queue.
#[derive(Debug)]
pub enum QueueError {
    /// It makes no sense; nothing was changed.
    Refused(Refusal),
    /// The store failed.
    Failed(Error),
}

impl From<Refusal> for QueueError {
    fn from(refusal: Refusal) -> Self {
        QueueError::Refused(refusal)
    }
}

impl From<Error> for QueueError {
    fn from(err: Error) -> Self {
        QueueError::Failed(err)
    }
}

/// At the command line a refused request is wrong usage (exit 64).
impl From<QueueError> for Error {
    fn from(err: QueueError) -> Self {
        match err {
            QueueError::Refused(refusal) => Error::usage(refusal.message),
            QueueError::Failed(err) => err,
        }
    }
}
