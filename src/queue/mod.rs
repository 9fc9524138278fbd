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
//! | `task` | a task, its states, its result; ids, priorities |
//! | `draft` | a task as somebody wrote it down, and what makes it acceptable |
//! | `refusal` | why something was not done, in words and in a code |
//! | `store` | what the queue's engine can do |
//! | `sqlite` | that engine: SQLite |
//! | `order` | do tasks wait for each other? |
//! | `outcome` | from what the runs did to the one result |
//!
//! A task belongs to the store from the moment it is accepted. Every change of
//! its state is one transaction of the store; the files below `data/` and the
//! hub are faces of it.

pub mod draft;
#[cfg(test)]
mod model;
mod order;
mod outcome;
pub mod refusal;
pub mod sqlite;
pub mod store;
pub mod task;

pub use draft::Draft;
pub use refusal::{Code, QueueError, Refusal};
pub use sqlite::SqliteStore;
pub use store::Store;
pub use task::{BatchId, NewTask, Priority, Task, TaskId, TaskResult, TaskState};
