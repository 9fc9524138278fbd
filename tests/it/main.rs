//! Integration tests: the real binary and the real CLI against the scripted
//! Messages API; one behaviour a file, named as a sentence.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

mod a_killed_run_is_taken_up_again;
mod a_signal_ends_the_run_politely;
mod cli_speaks_to_the_scripted_api;
mod demo_worker_goes_by_the_files;
mod keeper;
mod lab_leaves_nothing_behind;
mod sink;
mod support;
