//! What the project's dev-docs say and hold: the task-file grammar, the proof
//! of a checkpoint, its durable copies, and the brief longhaul writes itself.
//!
//! `task_file`, `proof::prove` and `handoff::render` are pure. Everything that
//! touches the project goes through `beneath`, because an agent can put
//! anything there: a symlink out of the tree, a FIFO, a gigabyte.

pub(crate) mod beneath;
pub mod git;
pub mod handoff;
pub mod keep;
pub mod proof;
pub mod read;
pub mod section;

pub mod task_file;
pub mod templates;
