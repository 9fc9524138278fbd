//! The torture suite: longhaul and a misbehaving stand-in for the CLI, and an
//! oracle that asks neither. One behaviour a file, named as a sentence.
//!
//! `LONGHAUL_TORTURE=long` takes the counts of the long run, a number takes that
//! many; `LONGHAUL_TORTURE_SEED` repeats what a failure printed. The counts and
//! their last result stand in `dev-docs/reliability.md`.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

#[path = "../standin/ledger.rs"]
#[allow(dead_code, reason = "the stand-in writes, the suite reads")]
mod ledger;
#[path = "../standin/procfs.rs"]
mod procfs;
#[path = "../standin/script.rs"]
#[allow(dead_code, reason = "the suite needs the shapes only")]
mod script;
mod support;

mod a_queue_shot_at_any_moment_loses_no_task;
mod a_run_shot_at_any_moment_is_carried_to_its_end;
mod a_spinner_is_no_sign_of_life;
mod every_exit_is_told_as_it_was;
mod no_tree_outlives_its_session;
mod nothing_is_begun_before_it_is_noted;
mod of_many_longhauls_one_wins;
mod the_stand_in_misbehaves_as_told;
mod the_stand_in_passes_for_the_cli;
