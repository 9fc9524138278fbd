//! Integration tests: the real CLI against the scripted Messages API.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

mod cli_speaks_to_the_scripted_api;
mod demo_worker_goes_by_the_files;
mod lab_leaves_nothing_behind;
mod support;
