//! What the machine does, one behaviour a test.

use super::action::{Action, Notice, Timer};
use super::event::{Command, Event, Exit, QuestionKind, SessionReport, TaskSays, TurnEnd};
use super::pressure::WindowSource;
use super::record::{Bill, CheckpointStatus, CostSource, Spend, Tokens};
use super::snapshot::Snapshot;
use super::state::{AskPhase, Between, Budget, EndReason, Outcome, State};
use super::story::{Story, asked, places, story, story_with, working, working_with};

const STOPPED: Outcome = Outcome::Stopped { signal: 15 };
const BACKOFF: Between = Between::Backoff { until_unix_ms: None };
const ALL_COMMANDS: [Command; 5] =
    [Command::Pause, Command::Resume, Command::Cycle, Command::Stop, Command::StopNow];

fn spend(input: u64, cost_usd: f64) -> Spend {
    Spend {
        tokens: Tokens { input, ..Tokens::default() },
        cost_usd,
        responses: 1,
        ..Spend::default()
    }
}

fn spends(s: &mut Story, spend: Spend) -> &mut Story {
    s.report(SessionReport::Spent { spend })
}

fn is_launch(action: &Action) -> bool {
    matches!(action, Action::Launch { .. })
}

fn is_type(action: &Action) -> bool {
    matches!(action, Action::Type { .. })
}

/// Each place but the last, which is final.
fn unfinished() -> impl Iterator<Item = (&'static str, Story)> {
    places().into_iter().filter(|(_, s)| !s.is("finished"))
}

// ---- in every state ---------------------------------------------------------

#[test]
fn places_cover_every_state_and_stand_where_they_say() {
    let mut seen = Vec::new();
    for (place, story) in places() {
        let name = story.m.state().name();
        assert!(place.starts_with(name), "{place} is {:?}", story.m.state());
        seen.push(name);
    }
    for name in [
        "starting",
        "working",
        "judging",
        "held",
        "cooling",
        "checkpointing",
        "ending",
        "between",
        "finished",
    ] {
        assert!(seen.contains(&name), "{name}");
    }
}

#[test]
fn every_state_has_a_way_out_by_deadlines_alone() {
    for (place, mut s) in unfinished() {
        s.silence();
        let hours = s.m.elapsed_ms(s.m.last_now);
        assert!(hours <= s.m.params.max_ms + 900_000, "{place}: {hours}");
    }
}

#[test]
fn the_first_signal_ends_the_run_from_every_state_in_bounded_time() {
    for (place, mut s) in unfinished().filter(|(p, _)| *p != "ending, task done") {
        let before = s.m.elapsed_ms(s.m.last_now);
        let launched = s.count(is_launch);
        s.signal(2).silence();
        let took = s.m.elapsed_ms(s.m.last_now) - before;
        assert_eq!(s.count(is_launch), launched, "{place} launched");
        // A session that cannot even be killed needs a person, whoever asked.
        match s.m.outcome() {
            Some(Outcome::Stopped { signal: 2 } | Outcome::NeedsPerson { .. }) => {}
            other => panic!("{place}: {other:?}"),
        }
        assert!(took < 600_000, "{place}: {took} ms");
    }
}

#[test]
fn the_second_signal_ends_the_session_at_once_in_every_state() {
    for (place, mut s) in unfinished() {
        s.signal(15);
        let lives = s.m.is_alive();
        let in_polite_end = matches!(s.m.state(), State::Ending { surely: false });
        let in_sure_end = matches!(s.m.state(), State::Ending { surely: true });
        s.signal(15);
        if !lives || in_sure_end {
            continue;
        }
        let wanted = match in_polite_end {
            true => Action::EndSurely,
            false => Action::EndPolitely,
        };
        assert!(s.did(&wanted), "{place}: {:?}", s.last);
        if !in_polite_end {
            // Set twice, and the later one counts.
            let exit = s.last.iter().rev().find_map(|a| match a {
                Action::SetTimer { timer: Timer::Exit, after_ms, .. } => Some(*after_ms),
                _ => None,
            });
            assert_eq!(exit, Some(2_000), "{place}");
        }
    }
}

#[test]
fn stop_now_is_the_second_signal() {
    for (place, mut s) in unfinished() {
        let lives = s.m.is_alive();
        s.person(Command::StopNow);
        if lives {
            s.stands_in("ending");
        }
        assert!(s.count(is_launch) <= 1, "{place}");
        assert!(s.m.verdict.is_some() || s.is("finished"), "{place}: {:?}", s.m.state());
    }
}

#[test]
fn a_crash_in_every_state_goes_on_with_the_next_cycle() {
    for (place, mut s) in unfinished() {
        let cycles = s.m.cycles().count();
        let alive = s.m.is_alive();
        let launches_before = s.count(is_launch);
        s.recovers();
        assert!(!s.m.is_alive(), "{place}");
        let lost = s.told(|n| matches!(n, Notice::RunResumed { lost_cycle: Some(_), .. }));
        assert_eq!(lost, alive, "{place}");
        if s.between() == Some(&Between::Keeping) {
            assert!(s.did(&Action::KeepCheckpoint { cycle: 1 }), "{place}");
            s.kept();
        }
        if s.between() == Some(&Between::Briefing) {
            s.brief_written();
        }
        if s.between() == Some(&Between::Turnover) {
            s.is_given(Some("t1"), Some("t2"));
        }
        s.reads_open().weighs(true);
        while matches!(s.between(), Some(Between::Backoff { .. })) {
            s.deadline(Timer::Backoff);
        }
        if s.between() == Some(&Between::Preparing) {
            s.prepared(None);
        }
        s.stands_in("starting");
        assert_eq!(s.m.cycles().count(), cycles + 1, "{place}");
        assert_eq!(s.count(is_launch), launches_before + 1, "{place}");
    }
}

#[test]
fn an_exit_in_every_live_state_is_the_end_of_the_session_and_never_its_repetition() {
    for (place, mut s) in unfinished().filter(|(_, s)| s.m.is_alive()) {
        let verifying = place == "judging, verifying";
        s.exits();
        assert!(!s.m.is_alive(), "{place}");
        assert_eq!(s.did(&Action::CancelVerify), verifying, "{place}");
        let told = s.told(|n| matches!(n, Notice::SessionEnded { .. }));
        assert!(told, "{place}");
        let before = s.m.clone();
        let stale = before.stale_reports;
        s.exits();
        assert!(s.last.is_empty(), "{place}: twice");
        assert_eq!(s.m.stale_reports, stale + 1);
    }
}

#[test]
fn a_report_of_an_older_cycle_changes_nothing_in_any_state() {
    let reports = [
        SessionReport::TurnEnded { end: TurnEnd::Completed },
        SessionReport::Exited {
            exit: Exit::Code(0),
            killed: 0,
            survivors: 0,
            screen: String::new(),
            out_of_memory: None,
        },
        SessionReport::AsksPerson {
            kind: QuestionKind::Unknown,
            what: "x".into(),
            screen: String::new(),
        },
        SessionReport::Spent { spend: spend(9, 9.0) },
    ];
    for (place, mut s) in places() {
        for report in &reports {
            let state = s.m.state().clone();
            let tokens = s.m.tokens_total();
            s.event(Event::Session { cycle: 0, report: report.clone() });
            assert!(s.last.is_empty(), "{place}");
            assert_eq!((s.m.state(), s.m.tokens_total()), (&state, tokens));
        }
    }
}

#[test]
fn a_deadline_of_an_older_state_is_void_in_every_state() {
    for (place, mut s) in places() {
        for timer in [
            Timer::Start,
            Timer::Delivery,
            Timer::Checkpoint,
            Timer::Interrupt,
            Timer::Reread,
            Timer::Exit,
            Timer::Gone,
            Timer::Answer,
            Timer::Backoff,
            Timer::Cool,
        ] {
            let state = s.m.state().clone();
            s.event(Event::Deadline { timer, epoch: 1 });
            assert!(s.last.is_empty(), "{place} {timer:?}: {:?}", s.last);
            assert_eq!(s.m.state(), &state);
        }
    }
}

#[test]
fn an_answer_nobody_waits_for_changes_no_state() {
    for (place, story) in places() {
        type Answer = fn(&mut Story) -> &mut Story;
        let answers: [(&str, &[&str], Answer); 4] = [
            ("kept", &["checkpointing, keeping", "between, keeping"], |s| s.kept()),
            ("brief", &["between, briefing"], |s| s.brief_written()),
            ("proof", &["checkpointing, proving"], |s| s.proves(&[])),
            ("verify", &["judging, verifying", "between, verifying"], |s| s.verify_ends(true)),
        ];
        for (name, wanted_in, answer) in answers {
            let mut s = story.clone();
            let state = s.m.state().clone();
            answer(&mut s);
            let changed = s.m.state() != &state;
            assert_eq!(changed, wanted_in.contains(&place), "{name} in {place}");
        }
    }
}

#[test]
fn nothing_moves_a_run_that_is_over() {
    let (_, over) = places().pop().expect("places");
    for command in ALL_COMMANDS {
        assert!(over.clone().and(|s| s.person(command)).last.is_empty());
    }
    let mut s = over.clone();
    s.signal(2).recovers();
    assert!(s.last.is_empty());
    s.ends_with(&Outcome::Done, 0);
}

#[test]
fn a_spent_budget_ends_the_run_from_every_state_without_another_session() {
    for (place, mut s) in unfinished().filter(|(_, s)| s.m.is_alive() && s.m.verdict.is_none()) {
        spends(&mut s, spend(1, 1_000.0));
        assert!(s.m.verdict.is_some(), "{place}");
        s.silence();
        assert_eq!(s.count(is_launch), 1, "{place}");
    }
}

#[test]
fn a_question_to_a_person_ends_the_run_from_every_live_state() {
    for (place, mut s) in unfinished().filter(|(_, s)| s.m.is_alive() && s.m.verdict.is_none()) {
        s.asks_person();
        let waits_for_copy = place == "checkpointing, keeping";
        let already_ending = place.starts_with("ending");
        assert_eq!(s.did(&Action::EndPolitely), !waits_for_copy && !already_ending, "{place}");
        assert_eq!(s.count(is_type), places_typed(place), "{place} typed");
    }
}

/// Texts typed on the way to a place.
fn places_typed(place: &str) -> usize {
    places().into_iter().find(|(p, _)| *p == place).map_or(0, |(_, s)| s.count(is_type))
}

// ---- the main job -------------------------------------------------------------

#[test]
fn a_run_begins_by_reading_the_task_file() {
    let s = story();
    assert!(s.told(|n| *n == Notice::RunStarted));
    assert!(s.did(&Action::ReadTask));
    assert_eq!(s.launched(), 0);
}

#[test]
fn a_full_session_checkpoints_and_a_fresh_one_takes_over() {
    let mut s = working();
    s.replies(139_999).stands_in("working");
    s.replies(140_000).stands_in("checkpointing");
    assert!(s.told(|n| matches!(n, Notice::ThresholdReached(p) if p.percent() == 70)));
    assert!(s.did(&Action::TakeBaseline));
    let baseline = s.last.iter().position(|a| *a == Action::TakeBaseline);
    let typed = s.last.iter().position(is_type);
    assert!(baseline < typed, "the baseline is taken before the request");
    s.arrives(true);
    assert!(s.told(|n| matches!(n, Notice::CheckpointDelivered { attempt: 1 })));
    // The turn that was under way ends; the request starts the next one.
    s.turn_ends().stands_in("checkpointing");
    assert!(!s.did(&Action::Prove));
    s.arrives(false);
    assert!(s.did(&Action::SettleBaseline), "what came before it was heard proves nothing");
    s.turn_ends();
    assert!(s.did(&Action::Prove));
    s.proves(&[]);
    assert!(s.told(|n| matches!(n, Notice::CheckpointVerified { .. })));
    assert!(s.did(&Action::KeepCheckpoint { cycle: 1 }));
    assert!(!s.did(&Action::EndPolitely), "not before the copy is made");
    s.kept();
    assert!(s.did(&Action::EndPolitely));
    s.exits();
    assert!(s.did(&Action::ReadTask));
    s.reads_open().weighs(true).stands_in("starting");
    assert_eq!(s.prompt(), "/session-init");
    assert_eq!(s.m.past[0].checkpoint.status, CheckpointStatus::Verified);
    assert_eq!(s.m.past[0].end_reason, Some(EndReason::Threshold));
    assert_ne!(s.m.past[0].session_id, s.m.live().expect("live").session_id);
}

#[test]
fn a_first_reply_above_the_threshold_is_asked_for_a_checkpoint_at_once() {
    let mut s = story();
    s.launches().is_full().stands_in("checkpointing");
}

#[test]
fn sessions_that_are_born_full_and_tick_nothing_end_as_no_progress() {
    let mut s = story();
    for cycle in 0..10 {
        if s.is("finished") {
            assert!((3..=5).contains(&cycle), "{cycle}");
            break;
        }
        s.launches().is_full().checkpoints().exits().reads_open();
        s.weighs(true);
    }
    s.ends_with(&Outcome::NoProgress, 21);
}

#[test]
fn a_threshold_in_tokens_counts_when_it_comes_first() {
    let mut s = working_with(|p| p.threshold_tokens = Some(50_000));
    s.replies(49_999).stands_in("working");
    s.replies(50_000).stands_in("checkpointing");
}

#[test]
fn a_window_that_turns_out_smaller_makes_the_session_full() {
    let mut s = working();
    s.replies(90_000).stands_in("working");
    s.report(SessionReport::Window { tokens: 100_000 });
    s.stands_in("checkpointing");
    let pressure = Snapshot::of(&s.m).pressure().expect("known");
    assert_eq!(pressure.source, WindowSource::Statusline);
    assert_eq!(pressure.percent(), 90);
}

#[test]
fn a_window_that_turns_out_larger_lets_the_session_work_on() {
    let mut s = working();
    s.report(SessionReport::Window { tokens: 1_000_000 });
    s.replies(650_000).stands_in("working");
    s.report(SessionReport::Window { tokens: 1_000_000 });
    assert!(s.last.is_empty(), "the same window is no news");
    s.report(SessionReport::Window { tokens: 0 });
    assert!(s.last.is_empty(), "nought is no window");
}

#[test]
fn a_session_found_full_while_it_is_judged_is_checkpointed_not_nudged() {
    let mut s = working();
    s.turn_ends().is_full().stands_in("judging");
    s.reads_open().weighs(true).stands_in("checkpointing");
}

#[test]
fn a_session_found_full_while_it_cools_is_checkpointed_after() {
    let mut s = working();
    s.turn_fails("server_error", 529, "overloaded");
    s.report(SessionReport::Window { tokens: 25_000 });
    s.stands_in("cooling").deadline(Timer::Cool);
    s.stands_in("checkpointing");
}

// ---- delivery -----------------------------------------------------------------

#[test]
fn a_request_that_does_not_show_is_entered_again_then_typed_again() {
    let mut s = working();
    s.is_full().deadline(Timer::Delivery);
    assert!(s.did(&Action::PressEnter));
    s.deadline(Timer::Delivery);
    assert!(s.did(&Action::ClearInput) && s.last.iter().any(is_type));
    s.arrives(false);
    assert_eq!(s.phase(), Some(AskPhase::Heard));
    s.deadline(Timer::Delivery);
    assert!(s.last.is_empty(), "it arrived");
}

#[test]
fn a_request_that_never_shows_ends_the_session_with_a_brief() {
    let mut s = working();
    s.is_full();
    for _ in 0..5 {
        s.deadline(Timer::Delivery);
    }
    assert!(s.told(|n| matches!(n, Notice::CheckpointFailed { .. })));
    s.stands_in("ending").exits();
    let why = "takes no input";
    let brief =
        |a: &Action| matches!(a, Action::WriteHandoff { cycle: 1, why: w } if w.contains(why));
    assert!(s.last.iter().any(brief), "{:?}", s.last);
}

#[test]
fn a_nudge_that_never_shows_ends_the_session_with_a_brief() {
    let mut s = working();
    s.is_nudged();
    for _ in 0..5 {
        s.stands_in("working").deadline(Timer::Delivery);
    }
    s.stands_in("ending").exits();
    assert_eq!(s.reason(), Some(EndReason::NoProgress));
    assert_eq!(s.between(), Some(&Between::Briefing));
}

#[test]
fn a_typed_text_is_known_again_by_what_it_says() {
    for (shown, is_it) in [
        ("CHECKPOINT now", true),
        ("CHECKPOINT\n  now\n", true),
        ("CHECKPOINT", false),
        ("CHECKPOINT now please", false),
        ("", false),
    ] {
        let mut s = working();
        s.is_full().report(SessionReport::PromptArrived { text: shown.into(), queued: false });
        assert_eq!(s.phase() == Some(AskPhase::Heard), is_it, "{shown:?}");
    }
}

#[test]
fn a_turn_that_ends_before_the_nudge_arrived_is_not_judged() {
    let mut s = working();
    s.is_nudged().turn_ends().stands_in("working");
    s.arrives(false).turn_ends().stands_in("judging");
}

// ---- the checkpoint refused ------------------------------------------------------

#[test]
fn a_checkpoint_that_proves_nothing_is_asked_for_once_more_naming_what_is_missing() {
    let mut s = asked();
    s.turn_ends().proves(&["plan.md is empty", "tasks.md did not change"]);
    s.stands_in("checkpointing");
    assert!(s.typed().contains("plan.md is empty; tasks.md did not change"));
    assert!(s.typed().contains("second request"));
    s.arrives(false).turn_ends().proves(&["plan.md is empty"]);
    assert!(s.told(
        |n| matches!(n, Notice::CheckpointFailed { reason } if reason == "plan.md is empty")
    ));
    s.stands_in("ending").exits();
    assert_eq!(s.between(), Some(&Between::Briefing));
    s.brief_written();
    assert!(s.told(|n| matches!(n, Notice::HandoffWritten { trouble: None })));
    let status = &s.m.live().expect("live").checkpoint.status;
    assert_eq!(*status, CheckpointStatus::Handoff);
}

#[test]
fn a_second_request_that_is_answered_counts() {
    let mut s = asked();
    s.turn_ends().proves(&["nothing changed"]).checkpoints().exits();
    assert!(s.did(&Action::ReadTask), "no brief is needed");
}

#[test]
fn a_request_that_is_not_answered_is_interrupted_and_asked_again_then_given_up() {
    let mut s = asked();
    s.deadline(Timer::Checkpoint);
    assert!(s.did(&Action::PressEscape));
    s.report(SessionReport::TurnEnded { end: TurnEnd::Interrupted });
    assert!(s.typed().contains("second request"));
    s.arrives(false).deadline(Timer::Checkpoint);
    assert!(!s.did(&Action::PressEscape), "once is enough");
    s.stands_in("ending").exits();
    assert_eq!(s.between(), Some(&Between::Briefing));
}

#[test]
fn an_escape_that_does_nothing_does_not_hold_the_run() {
    let mut s = asked();
    s.deadline(Timer::Checkpoint).deadline(Timer::Interrupt);
    assert!(s.typed().contains("second request"));
    s.arrives(true).deadline(Timer::Checkpoint);
    s.stands_in("ending");
}

#[test]
fn a_checkpoint_that_was_finished_as_escape_was_pressed_is_proven() {
    let mut s = asked();
    s.deadline(Timer::Checkpoint).turn_ends();
    assert!(s.did(&Action::Prove));
    s.deadline(Timer::Interrupt);
    assert!(s.last.is_empty(), "the turn ended");
    s.proves(&[]).kept().stands_in("ending");
}

#[test]
fn a_context_that_is_full_while_a_checkpoint_is_asked_for_ends_the_asking() {
    let mut s = asked();
    s.turn_fails("invalid_request", 400, "Prompt is too long");
    s.stands_in("ending").exits();
    assert_eq!(s.between(), Some(&Between::Briefing));
}

#[test]
fn an_exit_before_the_proof_is_handed_over_by_a_brief() {
    let mut s = asked();
    s.turn_ends().exits();
    assert_eq!(s.between(), Some(&Between::Briefing));
    s.proves(&[]);
    assert!(s.last.is_empty(), "too late");
}

#[test]
fn an_exit_during_the_copy_waits_for_it_before_the_next_session() {
    let mut s = asked();
    s.turn_ends().proves(&[]).exits();
    assert_eq!(s.between(), Some(&Between::Keeping));
    assert_eq!(s.reason(), Some(EndReason::Threshold));
    s.kept();
    assert!(s.did(&Action::ReadTask));
    let kept = s.m.live().and_then(|c| c.checkpoint.folder.as_deref());
    assert_eq!(kept, Some("checkpoints/1"));
}

#[test]
fn a_copy_that_cannot_be_made_is_told_and_names_no_folder() {
    let mut s = asked();
    s.turn_ends()
        .proves(&[])
        .event(Event::CheckpointKept { folder: String::new(), trouble: Some("disk full".into()) });
    assert!(s.told(|n| matches!(n, Notice::Warning { text } if text == "disk full")));
    s.stands_in("ending");
    let checkpoint = &s.m.live().expect("live").checkpoint;
    assert_eq!(checkpoint.folder, None);
    assert_eq!(checkpoint.status, CheckpointStatus::Verified);
}

#[test]
fn a_copy_that_never_ends_does_not_hold_the_run_and_is_booked_to_nobody_else() {
    let mut s = asked();
    s.turn_ends().proves(&[]).deadline(Timer::Answer);
    assert!(s.told(|n| matches!(n, Notice::Warning { text } if text.contains("copy"))));
    s.stands_in("ending").exits();
    s.launches().kept();
    assert_eq!(s.m.live().expect("live").checkpoint.folder, None);
    assert_eq!(s.m.past[0].checkpoint.status, CheckpointStatus::Verified);
}

#[test]
fn a_brief_that_comes_late_is_booked_to_nobody_else() {
    let mut s = working();
    s.exits().deadline(Timer::Answer);
    assert!(s.told(|n| matches!(n, Notice::HandoffWritten { trouble: Some(_) })));
    s.launches().brief_written();
    let status = &s.m.live().expect("live").checkpoint.status;
    assert_eq!(*status, CheckpointStatus::None);
    assert_eq!(s.m.past[0].checkpoint.status, CheckpointStatus::Failed);
}

#[test]
fn a_proof_that_never_comes_is_no_proof() {
    let mut s = asked();
    s.turn_ends().deadline(Timer::Answer);
    assert!(s.typed().contains("second request"));
}

// ---- done ------------------------------------------------------------------------

#[test]
fn done_needs_two_equal_reads() {
    let mut s = working();
    s.turn_ends().reads_done().stands_in("judging");
    s.deadline(Timer::Reread);
    s.boxes = (3, 4);
    s.reads_done().stands_in("judging");
    s.deadline(Timer::Reread).reads_done().stands_in("ending");
    s.exits().reads_done();
    s.ends_with(&Outcome::Done, 0);
}

#[test]
fn a_done_that_is_open_at_the_second_read_is_open() {
    let mut s = working();
    s.turn_ends().reads_done().deadline(Timer::Reread).reads_open();
    s.weighs(true).stands_in("working");
}

#[test]
fn a_read_nobody_asked_for_is_not_the_second_one() {
    let mut s = working();
    s.turn_ends().reads_done().reads_done().stands_in("judging");
    s.deadline(Timer::Reread).reads_done().stands_in("ending");
}

#[test]
fn a_task_file_that_never_stands_still_does_not_hold_the_run() {
    let mut s = working();
    s.turn_ends();
    for n in 0..1_000 {
        s.boxes = (n % 4, 4);
        s.reads_done();
        let next = s.next_timer();
        s.deadline(next);
        if !s.is("judging") {
            break;
        }
    }
    s.stands_in("working");
    assert!(s.typed().contains("cannot be read"));
}

#[test]
fn done_counts_only_when_the_verify_command_agrees() {
    let mut s = working_with(|p| p.verify = true);
    s.turn_ends().reads_done_twice();
    assert!(s.did(&Action::RunVerify));
    s.verify_ends(false);
    assert!(s.told(|n| *n == Notice::Verified { passed: false }));
    s.weighs(true).stands_in("working");
    assert!(s.typed().contains("1 test failed"));
    s.arrives(false).turn_ends().reads_done_twice().verify_ends(true);
    s.stands_in("ending").exits().reads_done();
    s.ends_with(&Outcome::Done, 0);
}

#[test]
fn what_the_verify_command_said_is_told_to_the_next_session_and_to_no_later_one() {
    let mut s = working_with(|p| p.verify = true);
    s.exits().brief_written().reads_done_twice().verify_ends(false);
    s.weighs(true).deadline(Timer::Backoff);
    assert!(s.prompt().starts_with("/session-init "));
    assert!(s.prompt().contains("1 test failed"));
    s.replies(1_000).exits().brief_written().reads_open().weighs(true);
    s.deadline(Timer::Backoff);
    assert!(!s.prompt().contains("1 test failed"));
}

#[test]
fn a_session_after_a_brief_is_told_to_read_it_and_one_after_a_checkpoint_is_not() {
    let mut s = working();
    s.exits().brief_written().reads_open().weighs(true).deadline(Timer::Backoff);
    assert!(s.prompt().starts_with("/session-init "));
    assert!(s.prompt().contains("dev-docs/handoff.md"));
    s.replies(1_000).is_full().arrives(false).turn_ends().checkpoints().exits();
    s.reads_open().weighs(true);
    assert_eq!(s.prompt(), "/session-init");
}

#[test]
fn old_words_of_the_verify_command_are_not_told_again() {
    let mut s = working_with(|p| p.verify = true);
    s.person(Command::Pause).turn_ends().reads_done_twice();
    s.verify_ends(false).weighs(true).stands_in("held");
    s.person(Command::Resume).reads_done_twice().verify_ends(false);
    s.weighs(true).stands_in("working").arrives(false);
    s.is_nudged();
    assert_eq!(s.typed(), "go on with the next open task");
}

#[test]
fn a_verify_command_that_always_fails_ends_as_no_progress() {
    let mut s = story_with(|p| p.verify = true);
    for _ in 0..200 {
        if s.is("finished") {
            break;
        }
        if s.is("between") {
            s.launches().replies(1_000).turn_ends();
        }
        s.reads_done_twice().verify_ends(false).weighs(false);
        if s.is("checkpointing") {
            s.arrives(false).turn_ends().proves(&["x"]);
            s.arrives(false).turn_ends().proves(&["x"]);
            s.exits().brief_written().reads_done_twice();
            s.verify_ends(false).weighs(false);
            if s.is("starting") {
                s.replies(1_000).turn_ends();
            }
        } else if s.is("working") {
            s.arrives(false).turn_ends();
        }
    }
    s.ends_with(&Outcome::NoProgress, 21);
}

#[test]
fn a_verify_command_is_cancelled_when_the_session_is_ended_under_it() {
    type Blow = fn(&mut Story) -> &mut Story;
    let blows: [(&str, Blow); 5] = [
        ("exit", |s| s.exits()),
        ("signal", |s| s.signal(2)),
        ("stop now", |s| s.person(Command::StopNow)),
        ("cycle", |s| s.person(Command::Cycle)),
        ("login", |s| s.turn_fails("authentication_failed", 401, "no")),
    ];
    for (name, blow) in blows {
        let mut s = working_with(|p| p.verify = true);
        s.turn_ends().reads_done_twice();
        blow(&mut s);
        assert!(s.did(&Action::CancelVerify), "{name}");
        s.verify_ends(true);
        assert!(s.last.is_empty(), "{name}: its word counts no more");
    }
}

#[test]
fn a_task_that_is_done_before_the_first_session_needs_none() {
    let mut s = story();
    s.reads_done_twice();
    s.ends_with(&Outcome::Done, 0);
    assert_eq!(s.launched(), 0);
}

#[test]
fn a_task_that_gets_done_during_the_checkpoint_ends_the_run_after_it() {
    let mut s = asked();
    s.boxes = (4, 4);
    s.turn_ends().proves(&[]).kept().exits().reads_done_twice();
    s.ends_with(&Outcome::Done, 0);
    assert_eq!(s.launched(), 1);
}

#[test]
fn a_budget_spent_on_a_task_that_is_done_ends_as_done() {
    let mut s = working();
    spends(&mut s, spend(1, 200.0)).checkpoints().exits();
    s.reads_done_twice();
    s.ends_with(&Outcome::Done, 0);
}

#[test]
fn a_blocked_task_needs_a_person_with_the_reason_of_the_file() {
    let reason = "which licence?".to_owned();
    let blocked = TaskSays::Blocked { reason };
    let mut s = working();
    s.turn_ends().reads(blocked.clone()).deadline(Timer::Reread);
    s.reads(blocked.clone()).stands_in("ending");
    s.exits().reads(blocked.clone());
    s.needs_person("which licence?");
    let mut s = story();
    s.reads(blocked.clone()).deadline(Timer::Reread).reads(blocked);
    s.needs_person("which licence?");
    assert_eq!(s.launched(), 0);
}

#[test]
fn a_task_file_that_cannot_be_read_is_never_relaunched_on() {
    let mut s = story();
    s.cannot_read().deadline(Timer::Reread).cannot_read();
    s.deadline(Timer::Reread).cannot_read().weighs(true);
    s.needs_person("it is a directory");
    assert_eq!(s.launched(), 0);
}

#[test]
fn a_session_is_told_when_the_task_file_cannot_be_read() {
    let mut s = working();
    s.turn_ends().cannot_read().deadline(Timer::Reread).cannot_read();
    s.deadline(Timer::Reread).cannot_read().weighs(true);
    s.stands_in("working");
    assert!(s.typed().contains("it is a directory"));
}

// ---- nudging and progress ------------------------------------------------------------

#[test]
fn a_session_without_progress_is_told_to_go_on_so_often_and_then_cycled() {
    let mut s = working();
    for count in 1..=3 {
        s.is_nudged().stands_in("working");
        assert!(s.told(|n| *n == Notice::Nudged { count }));
        s.arrives(false);
    }
    s.is_nudged().stands_in("checkpointing");
    s.checkpoints().exits();
    assert_eq!(s.reason(), Some(EndReason::NoProgress));
}

#[test]
fn a_checkpoint_seen_in_the_task_file_while_the_session_ends_is_no_progress() {
    let mut s = working();
    for _ in 1..=3 {
        s.is_nudged().arrives(false);
    }
    s.is_nudged().checkpoints().stands_in("ending");
    // The file says more than before, and no box more is ticked.
    s.boxes = (0, 5);
    s.reads_open().exits().reads_open().weighs(false);
    assert_eq!(s.m.past[0].end_reason, Some(EndReason::NoProgress));
    assert!(!s.m.past[0].progress);
}

#[test]
fn progress_gives_a_session_its_nudges_back() {
    let mut s = working();
    for _ in 0..20 {
        s.turn_ends().reads_open().weighs(true).stands_in("working");
        s.arrives(false);
    }
    s.boxes = (1, 4);
    for _ in 0..2 {
        s.is_nudged().arrives(false);
    }
    s.boxes = (2, 4);
    s.turn_ends().reads_open().weighs(false);
    assert!(s.told(|n| *n == Notice::Nudged { count: 1 }), "a box was ticked");
    assert!(s.told(|n| *n == Notice::Nudged { count: 1 }));
}

#[test]
fn so_many_sessions_without_progress_end_the_run() {
    let mut s = story();
    s.reads_open().weighs(false);
    for _ in 0..3 {
        s.stands_in("starting").replies(1_000).exits().brief_written();
        s.reads_open().weighs(false);
        if !s.is("finished") {
            s.deadline(Timer::Backoff);
        }
    }
    s.ends_with(&Outcome::NoProgress, 21);
    assert_eq!(s.launched(), 3);
}

#[test]
fn a_cycle_that_is_judged_again_after_a_pause_counts_once() {
    let mut s = working();
    s.person(Command::Pause).exits().brief_written();
    for _ in 0..10 {
        s.reads_open().weighs(false).stands_in("between");
        s.person(Command::Resume).person(Command::Pause);
    }
    s.person(Command::Resume);
    s.reads_open().weighs(false).deadline(Timer::Backoff);
    s.stands_in("starting");
}

// ---- dead starts, errors, questions -----------------------------------------------------

#[test]
fn dead_starts_need_a_person_with_the_screen() {
    let mut s = story();
    for n in 0..3 {
        if n > 0 {
            s.deadline(Timer::Backoff);
        } else {
            s.reads_open().weighs(false);
        }
        s.stands_in("starting").deadline(Timer::Start);
        s.stands_in("ending").exits_with("Select login method:");
        assert_eq!(s.reason(), Some(EndReason::DeadStart));
        assert!(s.did(&Action::ReadTask), "there is nothing to write a brief from");
        s.reads_open().weighs(false);
    }
    s.needs_person("Select login method:");
    assert_eq!(s.launched(), 3);
}

#[test]
fn a_cli_that_cannot_be_started_needs_a_person_with_the_reason() {
    let mut s = story();
    s.reads_open().weighs(false);
    for _ in 0..3 {
        s.report(SessionReport::SpawnFailed { message: "claude: permission denied".into() });
        s.reads_open().weighs(false);
        if s.is("between") {
            s.deadline(Timer::Backoff);
        }
    }
    s.needs_person("claude: permission denied");
}

#[test]
fn two_dead_starts_and_then_a_reply_are_forgotten() {
    let mut s = story();
    s.launches().exits_with("x");
    s.launches().exits_with("x");
    s.launches().replies(1_000).exits().brief_written();
    s.launches().exits_with("x");
    s.reads_open().weighs(true).deadline(Timer::Backoff);
    s.stands_in("starting");
}

#[test]
fn a_first_turn_without_a_reply_is_a_dead_start_in_the_end() {
    let mut s = story();
    s.launches();
    for _ in 0..3 {
        s.is_nudged().stands_in("working").arrives(false);
    }
    s.is_nudged().stands_in("ending").exits_with("Unknown command: /session-init");
    assert_eq!(s.reason(), Some(EndReason::DeadStart));
    // Or it never even ends the turn it was told to do.
    let mut s = story();
    s.launches().is_nudged().arrives(false).deadline(Timer::Start);
    s.stands_in("ending").exits_with("");
    assert_eq!(s.reason(), Some(EndReason::DeadStart));
}

#[test]
fn a_reply_while_a_dead_start_is_ended_makes_it_a_session_with_a_brief() {
    let mut s = story();
    s.launches().deadline(Timer::Start).replies(1_000).exits();
    assert_eq!(s.reason(), Some(EndReason::NoProgress));
    assert_eq!(s.between(), Some(&Between::Briefing));
}

#[test]
fn a_refused_login_ends_the_run_with_its_own_code() {
    for (error, status) in [("authentication_failed", 401), ("other", 403)] {
        let mut s = story();
        s.launches().turn_fails(error, status, "Please run /login");
        s.stands_in("ending").exits().reads_open();
        let why = "Please run /login".to_owned();
        s.ends_with(&Outcome::Authentication { why }, 30);
    }
}

#[test]
fn a_refused_login_does_not_change_why_a_run_is_stopping() {
    let mut s = working();
    s.signal(15).arrives(false).turn_fails("authentication_failed", 401, "no");
    s.stands_in("ending").exits().brief_written().reads_open();
    s.ends_with(&STOPPED, 143);
}

#[test]
fn a_prompt_that_is_too_long_cycles_the_session_with_a_brief() {
    let mut s = working();
    s.turn_fails("invalid_request", 400, "Prompt is too long");
    s.stands_in("ending").exits();
    assert_eq!(s.reason(), Some(EndReason::ContextFull));
    assert_eq!(s.between(), Some(&Between::Briefing));
    s.brief_written().reads_open().weighs(true).stands_in("starting");
}

#[test]
fn an_api_that_fails_for_ever_ends_the_run() {
    let mut s = story();
    s.launches().replies(1_000);
    for _ in 0..1_000 {
        match s.m.state().name() {
            "starting" | "working" => {
                if s.count(is_type) > 0 && s.is("working") {
                    s.arrives(false);
                }
                s.turn_fails("server_error", 529, "overloaded")
            }
            "cooling" => s.deadline(Timer::Cool),
            "ending" => s.exits(),
            "between" => match s.between() {
                Some(Between::Briefing) => s.brief_written(),
                Some(Between::Backoff { .. }) => s.deadline(Timer::Backoff),
                _ => s.reads_open().weighs(false),
            },
            _ => break,
        };
    }
    let waited = s.m.elapsed_ms(s.m.last_now);
    assert!(matches!(s.m.outcome(), Some(Outcome::LimitPast { .. })), "{:?}", s.m.outcome());
    assert!((20_000_000..=21_600_000).contains(&waited), "{waited}");
}

#[test]
fn pauses_after_api_failures_double_and_are_bounded() {
    let mut s = working();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        s.turn_fails("server_error", 529, "overloaded").stands_in("cooling");
        for action in &s.last {
            if let Action::Tell(Notice::Retrying { after_ms: ms, .. }) = action {
                pauses.push(*ms);
            }
        }
        s.deadline(Timer::Cool).arrives(false);
    }
    let full = [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000];
    for (ms, full) in std::iter::zip(&pauses, full) {
        assert!(*ms <= full && ms * 2 >= full, "{pauses:?}");
    }
    assert_eq!(pauses.len(), full.len());
    s.turn_fails("server_error", 529, "overloaded").stands_in("ending");
    s.exits();
    assert_eq!(s.reason(), Some(EndReason::ApiFailure));
}

#[test]
fn a_reply_forgives_the_failures_before_it() {
    let mut s = working();
    s.works = true;
    for _ in 0..30 {
        s.turn_fails("server_error", 529, "overloaded").stands_in("cooling");
        s.deadline(Timer::Cool).arrives(false).replies(21_000);
    }
    s.stands_in("working");
}

#[test]
fn a_permission_prompt_needs_a_person() {
    let mut s = working();
    s.asks_person().stands_in("ending").exits().brief_written();
    s.reads_open();
    s.needs_person("do you accept?");
}

#[test]
fn a_permission_prompt_during_the_copy_waits_for_the_copy() {
    let mut s = asked();
    s.turn_ends().proves(&[]).asks_person();
    assert!(s.last.iter().all(|a| matches!(a, Action::Tell(Notice::NeedsPerson { .. }))));
    s.kept().stands_in("ending").exits().reads_open();
    s.needs_person("do you accept?");
}

#[test]
fn a_compaction_is_told_and_counted() {
    let mut s = working();
    s.report(SessionReport::Compacted { trigger: "auto".into() });
    assert!(s.told(|n| matches!(n, Notice::Warning { .. })));
    assert_eq!(s.m.live().expect("live").compactions, 1);
}

// ---- budgets --------------------------------------------------------------------------------

#[test]
fn a_spent_budget_asks_for_a_checkpoint_and_ends_the_run() {
    let unpriced = Spend { unpriced_tokens: 5, unpriced_ceiling_usd: 100.0, ..spend(1, 0.0) };
    for (spend, which) in [
        (spend(1, 100.0), Budget::Cost),
        (unpriced, Budget::Cost),
        (spend(500_000_000, 0.0), Budget::Tokens),
    ] {
        let mut s = working();
        spends(&mut s, spend).stands_in("checkpointing");
        s.checkpoints().exits().reads_open().weighs(true);
        s.ends_with(&Outcome::Budget { which }, 20);
        assert_eq!(s.m.past[0].checkpoint.status, CheckpointStatus::Verified);
    }
}

#[test]
fn a_bill_of_the_cli_counts_against_the_budget() {
    let mut s = working();
    let bill = |cost_usd, source| SessionReport::Billed { bill: Bill { cost_usd, source } };
    s.report(bill(99.0, CostSource::Statusline)).stands_in("working");
    s.report(bill(101.0, CostSource::Statusline)).stands_in("checkpointing");
}

#[test]
fn the_closing_bill_is_final() {
    let mut s = working();
    let bill = |cost_usd, source| SessionReport::Billed { bill: Bill { cost_usd, source } };
    s.report(bill(2.0, CostSource::CostState));
    s.report(bill(1.0, CostSource::Statusline));
    spends(&mut s, spend(1, 1.5));
    assert!((s.m.cost_total_usd() - 2.0).abs() < 1e-9);
}

#[test]
fn the_last_session_of_the_budget_is_the_last() {
    let mut s = story_with(|p| p.max_sessions = 2);
    for _ in 0..2 {
        s.launches().is_full().checkpoints().exits();
    }
    s.reads_open().weighs(true);
    let which = Budget::Sessions;
    s.ends_with(&Outcome::Budget { which }, 20);
    assert_eq!(s.launched(), 2);
}

#[test]
fn the_hours_end_the_run_with_a_checkpoint() {
    let mut s = working();
    s.deadline(Timer::Run).stands_in("checkpointing");
    s.checkpoints().exits().reads_open().weighs(true);
    let which = Budget::Hours;
    s.ends_with(&Outcome::Budget { which }, 20);
}

#[test]
fn the_hours_before_a_crash_count_and_those_after_it_do_not() {
    let mut s = working();
    s.passes(30_000_000).replies(21_000);
    s.passes(500_000_000).recovers();
    let left = s.last.iter().find_map(|a| match a {
        Action::SetTimer { timer: Timer::Run, after_ms, .. } => Some(*after_ms),
        _ => None,
    });
    let left = left.expect("the hours go on");
    assert!((5_990_000..=6_000_000).contains(&left), "{left}");
}

#[test]
fn a_run_recovered_with_its_hours_spent_ends_unless_the_task_is_done() {
    let spent = |s: &mut Story| {
        s.recovers_with(|p| p.max_ms = 1, None).deadline(Timer::Run);
        s.brief_written();
    };
    let mut s = working();
    spent(&mut s);
    s.reads_open().weighs(true);
    let which = Budget::Hours;
    s.ends_with(&Outcome::Budget { which }, 20);
    let mut s = working();
    spent(&mut s);
    s.reads_done_twice();
    s.ends_with(&Outcome::Done, 0);
}

#[test]
fn a_second_reason_to_hurry_does_not_push_the_deadline_back() {
    let mut s = working();
    spends(&mut s, spend(1, 100.0)).arrives(false);
    s.signal(15);
    let sets = |a: &Action| matches!(a, Action::SetTimer { timer: Timer::Checkpoint, .. });
    assert!(!s.last.iter().any(sets));
}

// ---- people ----------------------------------------------------------------------------------

#[test]
fn a_pause_holds_an_idle_session_and_a_resume_judges_it_anew() {
    let mut s = working();
    s.person(Command::Pause).stands_in("working");
    s.turn_ends().reads_open().weighs(true).stands_in("held");
    s.person(Command::Resume).stands_in("judging");
    s.reads_open().weighs(false).stands_in("working");
}

#[test]
fn a_pause_during_a_checkpoint_holds_the_next_launch_until_the_resume() {
    let mut s = asked();
    s.person(Command::Pause).turn_ends().proves(&[]).kept().exits();
    s.reads_open().weighs(true);
    assert_eq!(s.between(), Some(&Between::Held));
    s.person(Command::Resume).reads_open().weighs(true).stands_in("starting");
    let mut s = asked();
    s.person(Command::Pause).person(Command::Resume).turn_ends();
    s.proves(&[]).kept().exits().reads_open().weighs(true);
    s.stands_in("starting");
}

#[test]
fn a_pause_outlasts_every_wait() {
    let mut s = working();
    s.exits().brief_written().reads_open().weighs(true);
    s.person(Command::Pause).deadline(Timer::Backoff);
    assert_eq!(s.between(), Some(&Between::Held));
    let mut s = working();
    s.turn_fails("server_error", 529, "overloaded");
    s.person(Command::Pause).deadline(Timer::Cool).stands_in("held");
}

#[test]
fn a_cycle_checkpoints_once_however_often_it_is_said() {
    let mut s = working();
    s.person(Command::Cycle).stands_in("checkpointing");
    s.person(Command::Cycle);
    assert!(!s.last.iter().any(is_type));
    s.checkpoints().person(Command::Cycle).stands_in("ending").exits();
    assert_eq!(s.reason(), Some(EndReason::Operator));
    s.person(Command::Cycle).reads_open().weighs(true).stands_in("starting");
    assert_eq!(s.launched(), 2);
}

#[test]
fn a_cycle_ends_a_session_that_cannot_be_asked() {
    let mut s = story();
    s.launches().person(Command::Cycle).stands_in("ending");
    let mut s = working();
    s.turn_fails("server_error", 529, "overloaded");
    s.person(Command::Cycle).stands_in("ending");
}

#[test]
fn every_command_is_answered_while_the_run_lives() {
    for (place, story) in unfinished() {
        for command in ALL_COMMANDS {
            let s = story.clone().and(|s| s.person(command));
            let obeyed = |n: &Notice| matches!(n, Notice::Obeyed { .. });
            assert!(s.told(obeyed), "{command:?} in {place}");
        }
    }
}

#[test]
fn a_stop_checkpoints_then_ends_session_and_run() {
    let mut s = working();
    s.person(Command::Stop).stands_in("checkpointing");
    s.checkpoints().exits().reads_open();
    s.ends_with(&STOPPED, 143);
}

#[test]
fn a_stop_asks_once_and_waits_only_its_own_short_time() {
    let mut s = asked();
    s.signal(15);
    let short = |a: &Action| {
        matches!(a, Action::SetTimer { timer: Timer::Checkpoint, after_ms: 60_000, .. })
    };
    assert!(s.last.iter().any(short));
    s.turn_ends().proves(&["nothing changed"]);
    s.stands_in("ending").exits().brief_written().reads_open();
    s.ends_with(&STOPPED, 143);
    let mut s = working();
    s.signal(1).arrives(false).deadline(Timer::Checkpoint);
    s.stands_in("ending").exits().brief_written().reads_open();
    s.ends_with(&Outcome::Stopped { signal: 1 }, 129);
}

#[test]
fn a_signal_between_sessions_ends_the_run_at_once() {
    let mut s = story();
    s.signal(2);
    s.ends_with(&Outcome::Stopped { signal: 2 }, 130);
}

#[test]
fn a_signal_while_the_brief_is_written_waits_for_it() {
    let mut s = working();
    s.exits().signal(2).stands_in("between");
    s.brief_written().reads_open();
    s.ends_with(&Outcome::Stopped { signal: 2 }, 130);
}

#[test]
fn a_task_found_done_stays_done_whatever_comes_after() {
    let mut s = working();
    s.turn_ends().reads_done_twice().signal(2);
    s.exits().reads_done();
    s.ends_with(&Outcome::Done, 0);
}

// ---- the end of a session ------------------------------------------------------------------------

#[test]
fn a_session_that_does_not_exit_is_killed_and_then_needs_a_person() {
    let mut s = asked();
    s.turn_ends().proves(&[]).kept().deadline(Timer::Exit);
    assert!(s.did(&Action::EndSurely));
    s.deadline(Timer::Gone).reads_open();
    s.needs_person("could not be ended");
}

#[test]
fn survivors_are_told() {
    let mut s = working();
    s.report(SessionReport::Exited {
        exit: Exit::Signal(9),
        killed: 2,
        survivors: 1,
        screen: String::new(),
        out_of_memory: None,
    });
    assert!(s.told(|n| matches!(n, Notice::SessionEnded { killed: 2, survivors: 1, .. })));
    assert!(s.told(|n| matches!(n, Notice::Warning { .. })));
}

#[test]
fn survivors_of_a_verify_command_count_like_those_of_a_session() {
    let mut s = working();
    s.event(Event::VerifyEnded { passed: true, tail: String::new(), survivors: 2 });
    assert!(s.told(|n| matches!(n, Notice::Warning { .. })));
    s.report(SessionReport::Exited {
        exit: Exit::Signal(9),
        killed: 0,
        survivors: 1,
        screen: String::new(),
        out_of_memory: None,
    });
    assert_eq!(s.m.cycles().map(|c| c.survivors).sum::<u32>(), 3);
}

#[test]
fn an_exit_by_itself_is_briefed_and_followed_after_a_pause() {
    let mut s = working();
    s.exits();
    assert_eq!(s.reason(), Some(EndReason::Exited));
    s.brief_written().reads_open().weighs(true);
    assert_eq!(s.between(), Some(&BACKOFF));
    s.deadline(Timer::Backoff).stands_in("starting");
}

#[test]
fn a_brief_that_cannot_be_written_does_not_hold_the_run() {
    let mut s = working();
    s.exits().event(Event::HandoffWritten { trouble: Some("disk full".into()) });
    let checkpoint = &s.m.live().expect("live").checkpoint;
    assert_eq!(checkpoint.status, CheckpointStatus::Failed);
    assert_eq!(checkpoint.trouble.as_deref(), Some("disk full"));
    s.reads_open().weighs(true);
    assert_eq!(s.between(), Some(&BACKOFF));
}

// ---- recovery ------------------------------------------------------------------------------------

#[test]
fn a_recovered_run_counts_what_the_lost_session_spent() {
    let mut s = working();
    spends(&mut s, spend(100, 1.0));
    s.recovers_with(|_| {}, Some(spend(150, 1.5)));
    assert_eq!(s.m.tokens_total(), 150);
    s.brief_written().reads_open().weighs(true).stands_in("starting");
    assert_eq!(s.m.past[0].end_reason, Some(EndReason::SupervisorLost));
    assert_eq!(s.m.tokens_total(), 150);
}

#[test]
fn a_lost_session_whose_reply_only_its_record_knows_leaves_a_brief() {
    let lost = |spend| {
        let (_, mut s) = places().into_iter().find(|(place, _)| *place == "starting").unwrap();
        s.recovers_with(|_| {}, spend);
        s.m.state().clone()
    };
    let briefing = State::Between { step: Between::Briefing };
    assert_eq!(lost(Some(spend(150, 1.5))), briefing);
    assert_ne!(lost(None), briefing, "there is nothing to tell");
}

#[test]
fn a_recovered_run_goes_by_the_new_configuration() {
    let mut s = working();
    s.recovers_with(|p| p.max_sessions = 1, None);
    s.brief_written().reads_open().weighs(true);
    let which = Budget::Sessions;
    s.ends_with(&Outcome::Budget { which }, 20);
}

#[test]
fn a_recovered_run_forgets_the_stop_and_the_pause_of_the_lost_process() {
    let mut s = working();
    s.person(Command::Pause).signal(15).recovers().brief_written();
    s.reads_open().weighs(true).stands_in("starting");
    // One signal is the first again.
    s.replies(1_000).signal(15).stands_in("checkpointing");
}

#[test]
fn a_recovered_run_that_had_ended_its_session_as_done_reads_again() {
    let mut s = working();
    s.turn_ends().reads_done_twice().exits().recovers();
    assert_eq!(s.between(), Some(&Between::Briefing));
    s.brief_written().reads_done_twice();
    s.ends_with(&Outcome::Done, 0);
}

#[test]
fn being_killed_is_not_held_against_the_sessions_but_counts_as_launches() {
    let mut s = story();
    for _ in 0..200 {
        if s.is("finished") {
            break;
        }
        if s.is("between") {
            s.reads_open().weighs(false);
        }
        if s.is("starting") {
            s.recovers();
        }
    }
    s.ends_with(&Outcome::Budget { which: Budget::Sessions }, 20);
}

#[test]
fn a_recovery_with_nothing_alive_launches_no_lost_cycle() {
    let mut s = story();
    s.recovers();
    let nothing = |n: &Notice| matches!(n, Notice::RunResumed { lost_cycle: None, .. });
    assert!(s.told(nothing));
    s.reads_open().weighs(true).stands_in("starting");
    assert_eq!(Snapshot::of(&s.m).cycle(), 1);
}
