//! longhaul keeps a long task going on Claude Code through as many sessions as it takes.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cli;
pub mod clock;
pub mod config;
pub mod cycle;
pub mod demo;
pub mod devdocs;
pub mod error;
pub mod models;
pub mod report;
pub mod session;
pub mod show;
pub mod text;
pub mod transcript;

pub use error::{Error, ErrorKind, Result};
