//! longhaul keeps a long task going on Claude Code through as many sessions as it takes.
//!
//! # Theory of operation
//!
//! A session of the `claude` CLI forgets: its context window fills up. So a
//! long task is cut into *cycles*, one session each. longhaul starts a session
//! in a terminal of its own, reads in the transcript how full its context is,
//! and at a threshold asks it to write its state into the project's `dev-docs`.
//! When the files prove that it did, the session is ended and the next one
//! begins by reading them. A *run* goes on until the task file says done, or
//! until one of a few bounded reasons to stop comes up.
//!
//! ```text
//! outside -> Event -> cycle::Machine::step -> Action -> outside
//!                 \-> journal (before the action)
//! ```
//!
//! Decisions are made in one place, [`cycle`], by a pure state machine that is
//! told the time. Everything else translates ([`driver`], [`transcript`],
//! [`devdocs`]), performs ([`driver`], [`session`]) or shows ([`mod@show`],
//! [`report`]). The [`journal`] holds the events; replayed through the same
//! machine they give back the run after a crash, and the report in the morning.
//!
//! Between longhaul and each CLI stands a [`session::Keeper`], a small process
//! on a leash: however longhaul ends, it ends the CLI and all that is below it.
//!
//! # Where to find what
//!
//! | room | knows |
//! |---|---|
//! | [`cli`] | the commands as typed; from a result to an exit code |
//! | [`config`], [`error`], [`clock`], [`text`] | what all others stand on |
//! | [`cycle`] | what to do next |
//! | [`driver`] | the one loop: events in, actions out |
//! | [`session`] | one live CLI: terminal, typing, settings, reports, its end |
//! | [`transcript`], [`models`] | what a session did, used and cost |
//! | [`usage`], [`observe`], [`advice`] | where tokens went, what was odd about it, what would cost less |
//! | [`track`] | what was used for which task, in files of the project |
//! | [`reset_time`] | when a usage limit ends, and which one it is |
//! | [`devdocs`], [`workspace`], [`verify`] | what the project says: done? proven? any work? |
//! | [`journal`], [`runs`], [`state_dir`], [`lock`], `damaged` | what survives, and where; what cannot be read any more |
//! | [`memory`], [`disk`] | what longhaul itself takes, and what is left |
//! | [`control`], [`signals`] | what a person wants |
//! | [`mod@notify`] | telling a person who is not there |
//! | [`mod@show`], [`report`] | what a person sees |
//! | [`usage`], [`advice`], [`statusline`] | where tokens and money went; what of it is shown at once |
//! | [`doctor`], [`claude_json`] | what would stop a run before it starts |
//! | [`guard`] | what must not change under a run, and what is kept of the work tree |
//! | [`hub`] | the queue over HTTP |
//! | [`demo`] | the scripted Messages API, which the tests use too |
//!
//! `dev-docs/ARCHITECTURE.md` has the invariants and where each is watched.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod advice;
pub mod claude_json;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod cycle;
mod damaged;
pub mod database;
pub mod demo;
pub mod devdocs;
pub mod disk;
pub mod doctor;
pub mod driver;
pub mod error;
pub mod guard;
pub mod hub;
pub mod journal;
pub mod lock;
pub mod memory;
pub mod models;
pub mod notify;
pub mod observe;
pub mod queue;
pub mod report;
pub mod reset_time;
pub mod runs;
pub mod session;
pub mod show;
pub mod signals;
pub mod state_dir;
pub mod statusline;
pub mod text;
pub mod track;
pub mod transcript;
pub mod usage;
pub mod verify;
pub mod workspace;

pub use error::{Error, ErrorKind, Result};

/// This very program, even when its file has been replaced since it started.
pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";
