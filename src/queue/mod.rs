//! The task queue: what a task is, where the tasks are kept, and who runs them.
//!
//! ```text
//! longhaul task / hub / data/*.json ──> Draft ──> Store (SQLite, the truth)
//!                                                   │ claim
//! longhaul queue run: dispatcher ── one worker a project: a supervised run
//!                                                   │ settle: one result a task
//!                                        results, archive, data/*.json
//! ```
//!
//! | file | knows |
//! |---|---|
//! | `chain` | a run of the queue: the task in its hand, and the way back to the store |
//! | `dispatch` | which task goes to which worker, and what becomes of it |
//! | `worker` | one worker, as its dispatcher sees it |
//! | `task` | a task, its states, its result; ids, priorities |
//! | `batch` | the ids of batches that are not there yet |
//! | `draft` | a task as somebody wrote it down, and what makes it acceptable |
//! | `refusal` | why something was not done, in words and in a code |
//! | `faces` | those of the projects that are being worked on |
//! | `store` | what the queue's engine can do |
//! | `sqlite` | that engine: SQLite |
//! | `order` | do tasks wait for each other? |
//! | `outcome` | from what the runs did to the one result |
//! | `files` | the seed's files in each project: shown, and their edits taken over |
//!
//! A task belongs to the store from the moment it is accepted. Every change of
//! its state is one transaction of the store; the files below `data/` and the
//! hub are faces of it.

/// The lock of whoever works off the queue, in the state directory.
pub const QUEUE_LOCK: &str = "queue.lock";

/// The queue's files in a project, in the folder `queue.files`.
pub const FILE_NAMES: [&str; 4] = [
    "claude_task_queue.json",
    "claude_task_results.json",
    "claude_task_queue_archive.json",
    "execute_queue.lock",
];

pub mod batch;
pub mod chain;
pub mod dispatch;
pub mod draft;
pub mod faces;
pub mod files;
#[cfg(test)]
mod model;
mod order;
mod outcome;
pub mod refusal;
pub mod sqlite;
pub mod store;
pub mod task;
pub mod worker;

pub use batch::NewBatch;
pub use draft::Draft;
pub use refusal::{Code, QueueError, Refusal};
pub use sqlite::SqliteStore;
pub use store::{Store, Taken};
pub use task::{BatchId, NewTask, Priority, Task, TaskId, TaskResult, TaskState};
