//! longhaul keeps a long task going on Claude Code through as many sessions as it takes.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod claude_json;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod cycle;
pub mod demo;
pub mod devdocs;
pub mod doctor;
pub mod driver;
pub mod error;
pub mod journal;
pub mod lock;
pub mod models;
pub mod report;
pub mod runs;
pub mod session;
pub mod show;
pub mod signals;
pub mod state_dir;
pub mod text;
pub mod transcript;
pub mod verify;
pub mod workspace;

pub use error::{Error, ErrorKind, Result};
