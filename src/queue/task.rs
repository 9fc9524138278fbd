//! A task, its states and its result. Pure.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::refusal::{Code, Refusal};

/// Longest id of a task or batch, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Names a task. ASCII letters, digits and `_ - . : @ +`; it stands in URLs, in
/// file names and in a comment of the task file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TaskId(String);

/// Stands where a batch's id is wanted for one that is not there yet. No batch is called
/// so; [`super::NewBatch`] makes an id up.
pub const NEW_BATCH: &str = "new";

/// Names a batch; as a task's id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct BatchId(String);

fn check_id(what: &str, text: &str) -> Result<(), Refusal> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_-.:@+".contains(c);
    if text.is_empty() {
        return Err(Refusal::new(Code::InvalidId, format!("{what} is empty")));
    }
    if text.len() > MAX_ID_BYTES {
        let message = format!("{what} has {} bytes, more than {MAX_ID_BYTES}", text.len());
        return Err(Refusal::new(Code::InvalidId, message));
    }
    // `--` would end the comment that marks the task in the task file.
    if !text.chars().all(is_allowed) || text.starts_with(['.', '-']) || text.contains("--") {
        let message = format!(
            "{what} {} may hold ASCII letters, digits and _ - . : @ + only, not begin with . or -, \
             and not hold two - in a row",
            crate::text::safe(text)
        );
        return Err(Refusal::new(Code::InvalidId, message));
    }
    Ok(())
}

impl TaskId {
    /// The id that `text` names.
    ///
    /// # Errors
    /// [`Code::InvalidId`].
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        check_id("the task id", text).map(|()| Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl BatchId {
    /// The id that `text` names.
    ///
    /// # Errors
    /// [`Code::InvalidId`]; so also for [`NEW_BATCH`], which is no id.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text == NEW_BATCH {
            let message = format!(
                "the batch id must be one here: {NEW_BATCH} asks `longhaul task` and the hub to \
                 make one up where a task is added or changed"
            );
            return Err(Refusal::new(Code::InvalidId, message));
        }
        Self::stored(text)
    }

    /// The id of a batch that is there. One of long ago may be called [`NEW_BATCH`].
    ///
    /// # Errors
    /// [`Code::InvalidId`].
    pub fn stored(text: &str) -> Result<Self, Refusal> {
        check_id("the batch id", text).map(|()| Self(text.to_owned()))
    }

    /// `batch_YYYYMMDD_HHMMSS`, by the local clock.
    pub fn generate(unix_ms: i64, zone: &jiff::tz::TimeZone) -> Self {
        Self(crate::text::local(unix_ms, zone, "batch_%Y%m%d_%H%M%S"))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// As it is kept in results.
impl<'de> Deserialize<'de> for BatchId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::stored(&text).map_err(serde::de::Error::custom)
    }
}

/// How urgent a task is: a word or a number; the higher goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// -10
    Low,
    /// 0
    #[default]
    Normal,
    /// 0, the seed's other word for it.
    Medium,
    /// 10
    High,
    /// 20
    Urgent,
    /// 20
    Critical,
    /// As given, -1000 to 1000.
    Number(i32),
}

/// Largest number a priority may be, either way.
pub const MAX_PRIORITY: i32 = 1_000;

impl Priority {
    const WORDS: [Priority; 6] = [
        Priority::Low,
        Priority::Normal,
        Priority::Medium,
        Priority::High,
        Priority::Urgent,
        Priority::Critical,
    ];

    /// By this tasks are ordered, higher first.
    pub fn rank(self) -> i32 {
        match self {
            Priority::Low => -10,
            Priority::Normal | Priority::Medium => 0,
            Priority::High => 10,
            Priority::Urgent | Priority::Critical => 20,
            Priority::Number(number) => number,
        }
    }

    fn word(self) -> Option<&'static str> {
        match self {
            Priority::Low => Some("low"),
            Priority::Normal => Some("normal"),
            Priority::Medium => Some("medium"),
            Priority::High => Some("high"),
            Priority::Urgent => Some("urgent"),
            Priority::Critical => Some("critical"),
            Priority::Number(_) => None,
        }
    }

    /// The priority that `text` names: a word in any case, or a number.
    ///
    /// # Errors
    /// [`Code::InvalidParameter`].
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let lower = text.trim().to_ascii_lowercase();
        let word = Self::WORDS.into_iter().find(|p| p.word() == Some(lower.as_str()));
        match (word, lower.parse::<i32>()) {
            (Some(priority), _) => Ok(priority),
            (None, Ok(number)) if (-MAX_PRIORITY..=MAX_PRIORITY).contains(&number) => {
                Ok(Priority::Number(number))
            }
            (None, _) => {
                let message = format!(
                    "the priority {} is none of low, normal, medium, high, urgent, critical, nor a \
                     number from -{MAX_PRIORITY} to {MAX_PRIORITY}",
                    crate::text::quoted(text)
                );
                Err(Refusal::new(Code::InvalidParameter, message))
            }
        }
    }
}

impl Priority {
    /// The priority that a value of JSON names, wherever it stands. 5.0 and "5" are 5.
    ///
    /// # Errors
    /// [`Code::InvalidParameter`].
    pub fn of_json(value: &serde_json::Value) -> Result<Self, Refusal> {
        match value {
            serde_json::Value::String(word) => Self::parse(word),
            serde_json::Value::Number(number) if number.is_f64() => {
                // The text of 5.0 is "5" then.
                Self::parse(&number.as_f64().unwrap_or(f64::NAN).to_string())
            }
            serde_json::Value::Number(number) => Self::parse(&number.to_string()),
            _ => {
                let message = "the priority must be a word or a number";
                Err(Refusal::new(Code::InvalidParameter, message))
            }
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.word(), self) {
            (Some(word), _) => f.write_str(word),
            (None, priority) => write!(f, "{}", priority.rank()),
        }
    }
}

/// As a word, or as a number where it was given as one.
impl Serialize for Priority {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.word() {
            Some(word) => to.serialize_str(word),
            None => to.serialize_i32(self.rank()),
        }
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        Self::of_json(&value).map_err(serde::de::Error::custom)
    }
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for its turn.
    Queued,
    /// A run works on it.
    InProgress,
    /// Done, read twice, and its verify command agrees.
    Done,
    /// Its run ended otherwise.
    Error,
    /// Somebody did not want it any more.
    Cancelled,
    /// A person is needed, or a task it waits for did not end done.
    Blocked,
}

impl TaskState {
    /// All of them.
    pub const ALL: [TaskState; 6] = [
        TaskState::Queued,
        TaskState::InProgress,
        TaskState::Done,
        TaskState::Error,
        TaskState::Cancelled,
        TaskState::Blocked,
    ];

    /// The word in answers and files.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Queued => "queued",
            TaskState::InProgress => "in_progress",
            TaskState::Done => "done",
            TaskState::Error => "error",
            TaskState::Cancelled => "cancelled",
            TaskState::Blocked => "blocked",
        }
    }

    /// The state of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Is it over, with a result? (`retry` begins it anew.)
    pub fn is_over(self) -> bool {
        match self {
            TaskState::Queued | TaskState::InProgress => false,
            TaskState::Done | TaskState::Error | TaskState::Cancelled | TaskState::Blocked => true,
        }
    }
}

/// A task about to be accepted: checked as far as it can be without the store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// `None`: the store gives it `task_YYYYMMDD_HHMMSS_<n>`.
    pub id: Option<TaskId>,
    /// What is to be done; not blank.
    pub description: String,
    /// What helps to do it.
    pub context: Option<String>,
    /// How urgent it is.
    pub priority: Priority,
    /// Tasks of one batch share a chain of sessions, in the order they were added.
    pub batch_id: Option<BatchId>,
    /// The real path of the folder to work in.
    pub project: PathBuf,
    /// Must exit with 0 before done counts (`sh -c`); instead of `task.verify`.
    pub verify: Option<String>,
    /// Tasks that must be done before.
    pub after: Vec<TaskId>,
    /// The model of its sessions; instead of the CLI's own choice.
    pub model: Option<String>,
    /// Most that it may cost, dollars at list prices.
    pub budget_usd: Option<f64>,
}

/// A task in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its place in the order of acceptance.
    pub seq: u64,
    /// Its id.
    pub id: TaskId,
    /// As in [`NewTask`].
    pub description: String,
    /// As in [`NewTask`].
    pub context: Option<String>,
    /// As in [`NewTask`].
    pub priority: Priority,
    /// As in [`NewTask`].
    pub batch_id: Option<BatchId>,
    /// Its place in the batch, from 1 in the order of acceptance.
    pub batch_position: Option<u32>,
    /// As in [`NewTask`].
    pub project: PathBuf,
    /// As in [`NewTask`].
    pub verify: Option<String>,
    /// As in [`NewTask`].
    pub after: Vec<TaskId>,
    /// As in [`NewTask`].
    pub model: Option<String>,
    /// As in [`NewTask`].
    pub budget_usd: Option<f64>,
    /// Where it stands.
    pub state: TaskState,
    /// Somebody wants it ended; its run was told or will be.
    pub is_cancelling: bool,
    /// From 1; grows with each retry. Each attempt has at most one result.
    pub attempt: u32,
    /// The run that works on it, or did last.
    pub run_id: Option<Uuid>,
    /// What earlier runs of this attempt spent, dollars.
    pub spent_usd: f64,
    /// When it was accepted, Unix milliseconds.
    pub created_unix_ms: i64,
    /// When it was changed last, Unix milliseconds.
    pub updated_unix_ms: i64,
    /// When a run first took this attempt up, Unix milliseconds.
    pub started_unix_ms: Option<i64>,
}

/// Tokens of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskTokens {
    /// Uncached input.
    pub input: u64,
    /// Output, thinking included.
    pub output: u64,
    /// Written to the cache, of both lifetimes.
    pub cache_write: u64,
    /// Read from the cache.
    pub cache_read: u64,
}

impl TaskTokens {
    /// The sum of both, kind by kind.
    pub fn plus(self, other: TaskTokens) -> TaskTokens {
        TaskTokens {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            cache_read: self.cache_read.saturating_add(other.cache_read),
        }
    }
}

/// What the verify command said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyResult {
    /// The command.
    pub command: String,
    /// Did it exit with 0? `None`: it never ran.
    pub passed: Option<bool>,
}

/// What a batch saved or cost, measured on the run's own sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharing {
    /// Did the task begin in a session that was already at work?
    pub is_shared: bool,
    /// Context of the chain's sessions at their first reply, tokens: what a session
    /// of its own would have loaded before the task.
    pub saved_tokens: u64,
    /// What was read from the cache because the tasks before stood in the context.
    pub extra_cache_read_tokens: u64,
}

/// The one result of an attempt at a task, written by longhaul alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Which task.
    pub task_id: TaskId,
    /// How it ended.
    pub status: TaskState,
    /// Of which batch.
    pub batch_id: Option<BatchId>,
    /// Its place in the batch, from 1.
    pub batch_position: Option<u32>,
    /// When a run first took it up; RFC 3339. `None`: none did.
    pub started_at: Option<String>,
    /// When it ended; RFC 3339.
    pub ended_at: Option<String>,
    /// Time supervised, seconds; what lay between two runs does not count.
    pub execution_time_seconds: f64,
    /// The tokens it added.
    pub tokens: TaskTokens,
    /// What they cost, dollars at list prices.
    pub cost_usd: f64,
    /// Tokens of models without a known price; in no cost.
    pub unpriced_tokens: u64,
    /// Sessions that worked on it.
    pub sessions: u32,
    /// What the sessions did, a line a tool call, the oldest left out if many.
    pub actions_taken: Vec<String>,
    /// The last words of its last session.
    pub output: String,
    /// What went wrong.
    pub errors: Vec<String>,
    /// What a person should know besides.
    pub warnings: Vec<String>,
    /// What the verify command said, if there is one.
    pub verify: Option<VerifyResult>,
    /// What the batch saved.
    pub sharing: Sharing,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The project.
    pub project: PathBuf,
    /// The runs that worked on it.
    pub runs: Vec<Uuid>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_priority_is_a_word_or_a_whole_number_in_bounds() {
        for value in [json!(5), json!(5.0), json!("5"), json!(" 5 ")] {
            assert_eq!(Priority::of_json(&value).unwrap(), Priority::Number(5), "{value}");
            assert_eq!(serde_json::from_value::<Priority>(value).unwrap(), Priority::Number(5));
        }
        assert_eq!(Priority::of_json(&json!("Urgent")).unwrap(), Priority::Urgent);
        let bad = [
            json!(5.5),
            json!(1001),
            json!(-1001),
            json!(i32::MIN),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(1e300),
            json!("soon"),
            json!(""),
            json!([5]),
            json!(null),
        ];
        for value in bad {
            let refusal = Priority::of_json(&value).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidParameter, "{value}");
        }
    }
}
