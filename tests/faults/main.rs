//! Faults, injected by the thousand: what the disk, a crash or another program
//! can do to a transcript and to the state, against models and exact promises.
//!
//! `cargo test --test faults` runs as much as fits in a minute or two each;
//! `LONGHAUL_TORTURE=long` the whole. Each failure prints the line that replays it.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod place;
mod rounds;
mod state_files;
mod tailer;
