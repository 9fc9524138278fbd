//! Integration tests: the real binary and the real CLI against the scripted
//! Messages API; one behaviour a file, named as a sentence.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

mod a_bad_configuration_starts_nothing;
mod a_bad_task_file_is_told_and_never_relaunched;
mod a_damaged_transcript_does_not_stop_a_run;
mod a_disk_that_cannot_be_written_ends_the_run;
mod a_killed_run_is_taken_up_again;
mod a_lost_temporary_folder_is_made_anew;
mod a_new_user_gets_from_init_to_done;
mod a_person_is_notified;
mod a_person_steers_the_live_run;
mod a_question_nobody_hears_ends_the_run;
mod a_run_needs_no_terminal;
mod a_run_refuses_in_the_words_of_doctor;
mod a_signal_ends_the_run_politely;
mod api_failures_end_or_delay_a_run;
mod budgets_end_the_run;
mod checkpoint_is_proven_not_believed;
mod checkpoints_are_committed_when_asked;
mod cli_speaks_to_the_scripted_api;
mod configuration_reaches_the_session;
mod damaged_or_newer_state_is_left_as_it_is;
mod demo_worker_goes_by_the_files;
mod docs;
mod done_needs_the_verify_command_to_agree;
mod idle_sessions_are_told_to_go_on;
mod keeper;
mod lab_leaves_nothing_behind;
mod nobody_answers_a_permission_prompt;
mod odd_places_do_not_matter;
mod one_run_holds_a_project;
mod percentages_and_costs_are_the_clis_own;
mod sessions_cycle_until_the_task_is_done;
mod sink;
mod support;
mod task_file_says_how_the_run_ends;
mod the_demo_leaves_nothing_behind;
mod the_night_script_goes_by_the_exit_code;
mod the_state_stays_out_of_the_project;
mod threshold_is_met_wherever_it_comes;
