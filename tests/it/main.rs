//! Integration tests: the real binary and the real CLI against the scripted
//! Messages API; one behaviour a file, named as a sentence.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

mod a_question_nobody_hears_ends_the_run;
mod budgets_end_the_run;
mod checkpoint_is_proven_not_believed;
mod checkpoints_are_committed_when_asked;
mod cli_speaks_to_the_scripted_api;
mod configuration_reaches_the_session;
mod demo_worker_goes_by_the_files;
mod docs;
mod done_needs_the_verify_command_to_agree;
mod idle_sessions_are_told_to_go_on;
mod keeper;
mod lab_leaves_nothing_behind;
mod percentages_and_costs_are_the_clis_own;
mod sessions_cycle_until_the_task_is_done;
mod sink;
mod support;
mod task_file_says_how_the_run_ends;
mod threshold_is_met_wherever_it_comes;
