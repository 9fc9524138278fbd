//! The workspace is not trusted: what is looked at before each launch, and what
//! is kept of it.
//!
//! - [`settings`]: did a session change what the CLI executes or obeys unasked?
//! - [`lookout`]: looking where a session can keep one waiting.
//! - [`global`]: can the CLI read its own `.claude.json`?
//! - [`program`]: is the CLI still the program the run began with?
//! - [`worktree`]: the work tree of each cycle as a git ref, to be had back.
//!
//! Nothing here decides what to do about it; that is the machine's.

pub mod global;
mod headers;
mod look;
pub mod lookout;
mod memo;
pub mod program;
pub mod settings;
pub mod worktree;
