//! The grammar that decides whether a task file is open, done or blocked.
//!
//! Pure: bytes in, facts out. The grammar is CommonMark cut down to what the
//! question needs and is written down in `dev-docs/TASK_FILE.md`; the two must
//! say the same. Where CommonMark and caution differ, the reading that leaves
//! a task open wins: a run that goes on too long is bounded by its budgets, a
//! run that ends too early has silently lost work.

mod scan;
mod syntax;

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use scan::Scan;

/// Largest task file that is read. A list a session can work through is far
/// smaller; more is a mistake or an attack.
pub const MAX_TASK_FILE_BYTES: u64 = 1024 * 1024;

/// Why bytes are not a task file at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
pub enum TaskFileError {
    /// Nothing but white space.
    Empty,
    /// More than [`MAX_TASK_FILE_BYTES`].
    TooLarge {
        /// Size of what was given.
        bytes: u64,
    },
    /// Not UTF-8.
    NotUtf8 {
        /// Offset of the first bad byte.
        offset: u64,
    },
    /// A NUL byte: binary data, or a file with a hole left by a crash.
    HasNul {
        /// Offset of the first NUL.
        offset: u64,
    },
}

impl fmt::Display for TaskFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskFileError::Empty => f.write_str("is empty"),
            TaskFileError::TooLarge { bytes } => {
                write!(f, "has {bytes} bytes, more than the {MAX_TASK_FILE_BYTES} allowed")
            }
            TaskFileError::NotUtf8 { offset } => {
                write!(f, "is not UTF-8 text (first bad byte at offset {offset})")
            }
            TaskFileError::HasNul { offset } => {
                write!(f, "holds a NUL byte at offset {offset}, so it is not text")
            }
        }
    }
}

impl std::error::Error for TaskFileError {}

/// One checkbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Line number, from 1.
    pub line: u32,
    /// How many list items enclose this one.
    pub depth: u32,
    /// What stands between the brackets, as written.
    pub mark: String,
    /// True for `x` and `X` alone.
    pub ticked: bool,
    /// The text after the box, without comments, trimmed.
    pub text: String,
}

impl Item {
    /// True if the mark is neither a tick nor blank: counted as open, and
    /// worth telling a person about.
    pub fn has_unknown_mark(&self) -> bool {
        !self.ticked && !self.mark.trim().is_empty()
    }
}

/// What the `Status:` lines say together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// Every status line says `done`.
    Done {
        /// The last of them.
        line: u32,
    },
    /// At least one says `blocked`.
    Blocked {
        /// The first of them.
        line: u32,
        /// What follows the word, or else the next line of text.
        reason: Option<String>,
    },
    /// Something else, or `done` contradicted by another status line.
    Other {
        /// The last line that says neither.
        line: u32,
        /// Its value as written.
        value: String,
        /// The line of a `Status: done` that this one contradicts.
        contradicts: Option<u32>,
    },
}

/// What makes a task file done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoneBy {
    /// All checkboxes are ticked, and there is at least one.
    Checkboxes,
    /// A `Status: done` line.
    StatusLine,
}

/// The answer the grammar exists for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Work is left, or nothing says that none is.
    Open,
    /// Done.
    Done {
        /// What says so.
        by: DoneBy,
    },
    /// A person is needed. Wins over done.
    Blocked {
        /// The reason, if one was given.
        reason: Option<String>,
    },
}

/// A task file, read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFile {
    /// The checkboxes, in order.
    pub items: Vec<Item>,
    /// How many are ticked.
    pub ticked: u32,
    /// How many there are.
    pub total: u32,
    /// What the status lines say, if there are any.
    pub status: Option<Status>,
    /// Line of the fence or comment that is never closed, if it hides a
    /// checkbox that is not ticked. Keeps the file from being done by its
    /// checkboxes: it is probably half-written.
    pub unclosed_at: Option<u32>,
    /// SHA-256 of the bytes, in hex. Done counts only when two reads agree.
    pub digest: String,
}

impl TaskFile {
    /// Reads a task file. Never panics, whatever the bytes.
    pub fn parse(bytes: &[u8]) -> Result<TaskFile, TaskFileError> {
        let size = bytes.len() as u64;
        if size > MAX_TASK_FILE_BYTES {
            return Err(TaskFileError::TooLarge { bytes: size });
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|e| TaskFileError::NotUtf8 { offset: e.valid_up_to() as u64 })?;
        if let Some(offset) = text.find('\0') {
            return Err(TaskFileError::HasNul { offset: offset as u64 });
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim().is_empty() {
            return Err(TaskFileError::Empty);
        }
        let mut scan = Scan::default();
        for (index, line) in syntax::lines(text).enumerate() {
            scan.line(index as u32 + 1, line);
        }
        Ok(scan.finish(digest(bytes)))
    }

    /// Open, done or blocked.
    pub fn state(&self) -> State {
        match &self.status {
            Some(Status::Blocked { reason, .. }) => State::Blocked { reason: reason.clone() },
            Some(Status::Done { .. }) => State::Done { by: DoneBy::StatusLine },
            _ if self.total > 0 && self.ticked == self.total && self.unclosed_at.is_none() => {
                State::Done { by: DoneBy::Checkboxes }
            }
            _ => State::Open,
        }
    }

    /// True if [`TaskFile::state`] is done.
    pub fn is_done(&self) -> bool {
        matches!(self.state(), State::Done { .. })
    }

    /// The checkboxes that are not ticked.
    pub fn open_items(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| !item.ticked)
    }

    /// What keeps the file open although it may look done: one sentence each,
    /// for `doctor` and for the session. Empty for a plain list of tasks.
    pub fn oddities(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.total == 0 && self.status.is_none() {
            out.push(String::from(
                "has neither a checkbox (`- [ ] task`) nor a `Status: done` line, so it can never be done",
            ));
        }
        for item in self.items.iter().filter(|item| item.has_unknown_mark()) {
            out.push(format!(
                "line {}: [{}] counts as open; only [x] is ticked",
                item.line, item.mark
            ));
        }
        if let Some(Status::Other { line, contradicts: Some(done), .. }) = &self.status {
            out.push(format!("line {done} says done, but the status on line {line} does not"));
        }
        if let Some(line) = self.unclosed_at {
            out.push(format!(
                "the code fence or comment opened on line {line} is never closed and hides open checkboxes"
            ));
        }
        out
    }
}

/// SHA-256 in lower-case hex.
pub fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests;
