//! What a run of the queue does, one behaviour a test.

use super::action::{Action, Notice};
use super::assignment::End;
use super::event::{Command, TaskSays};
use super::state::{Budget, Outcome};
use super::story::{Story, queued, story_with};

fn ends(story: &Story) -> Vec<(&str, Option<&End>)> {
    let tasks = story.m.assignments().iter();
    tasks.map(|task| (task.given.task_id.as_str(), task.end.as_ref())).collect()
}

fn settled(story: &Story) -> Vec<String> {
    let ids = story.all.iter().filter_map(|action| match action {
        Action::SettleTask { assignment } => Some(assignment.given.task_id.clone()),
        _ => None,
    });
    ids.collect()
}

fn takes(story: &Story) -> bool {
    story.last.iter().any(|action| matches!(action, Action::TakeTask { .. }))
}

/// The task in hand is ticked, and read so twice.
fn is_done(story: &mut Story) -> &mut Story {
    story.turn_ends().reads_done_twice()
}

#[test]
fn the_first_session_is_told_the_task() {
    let s = queued();
    let prompt = s.all.iter().find_map(|action| match action {
        Action::Launch { prompt, .. } => Some(prompt.as_str()),
        _ => None,
    });
    assert_eq!(prompt, Some("/session-init do t1"));
}

#[test]
fn without_a_task_nothing_is_launched() {
    let mut s = story_with(|p| p.queue = true);
    assert!(takes(&s));
    s.is_given(None, None);
    assert_eq!(s.m.outcome(), Some(&Outcome::Done));
    assert_eq!(s.launched(), 0);
}

#[test]
fn the_next_task_goes_to_the_live_session() {
    let mut s = queued();
    is_done(&mut s);
    assert!(takes(&s), "{:?}", s.last);
    s.is_given(Some("t1"), Some("t2"));
    assert_eq!(s.typed(), "do t2");
    assert_eq!(settled(&s), ["t1"]);
    assert_eq!(ends(&s), [("t1", Some(&End::Done)), ("t2", None)]);
    is_done(s.arrives(false).replies(30_000)).is_given(Some("t2"), None).exits();
    assert_eq!(s.m.outcome(), Some(&Outcome::Done));
    assert_eq!((settled(&s), s.launched()), (vec!["t1".to_owned(), "t2".to_owned()], 1));
    let shared: Vec<_> = s.m.assignments().iter().map(|t| (t.is_shared, t.sessions)).collect();
    assert_eq!(shared, [(false, 1), (true, 1)]);
}

#[test]
fn a_task_that_needs_a_fresh_session_after_all_saves_nothing() {
    let mut s = queued();
    s.replies(20_000);
    is_done(&mut s).is_given(Some("t1"), Some("t2"));
    let saved = |s: &Story| (s.m.assignments()[1].is_shared, s.m.assignments()[1].saved_tokens);
    assert_eq!(saved(&s), (true, 20_000));
    s.arrives(false).is_full().checkpoints().exits().reads_open().weighs(true);
    assert_eq!((s.launched(), saved(&s)), (2, (true, 0)));
}

#[test]
fn the_last_task_is_booked_with_the_bill_of_its_session() {
    let mut s = queued();
    is_done(&mut s).is_given(Some("t1"), None);
    assert_eq!(settled(&s), Vec::<String>::new(), "its session has not written its bill yet");
    s.bills(2.5).exits();
    assert_eq!(settled(&s), ["t1"]);
    assert_eq!(s.m.assignments()[0].added.cost_usd, 2.5);
}

#[test]
fn a_full_session_is_cycled_before_it_gets_the_next_task() {
    let mut s = queued();
    s.m.params.threshold_tokens = Some(25_000);
    s.turn_ends().replies(26_000).reads_done_twice().is_given(Some("t1"), Some("t2"));
    assert!(s.typed().starts_with("CHECKPOINT"));
    s.arrives(false).turn_ends().proves(&[]).kept().exits().reads_open().weighs(true);
    assert_eq!(s.launched(), 2);
    let Some(Action::Launch { prompt, .. }) =
        s.all.iter().rfind(|action| matches!(action, Action::Launch { .. }))
    else {
        panic!("no launch")
    };
    assert_eq!(prompt, "/session-init do t2");
    assert!(!s.m.assignments()[1].is_shared, "it began in a session of its own");
}

#[test]
fn a_task_that_takes_several_sessions_is_told_again_in_each() {
    let mut s = queued();
    s.is_full().checkpoints().exits().reads_open().weighs(true);
    let prompts: Vec<_> = s
        .all
        .iter()
        .filter_map(|action| match action {
            Action::Launch { prompt, .. } => Some(prompt.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(prompts, ["/session-init do t1", "/session-init do t1"]);
    assert_eq!(s.m.assignments()[0].sessions, 2);
}

#[test]
fn a_turn_that_ends_early_is_told_to_go_on_with_its_task() {
    let mut s = queued();
    s.is_nudged();
    assert_eq!(s.typed(), "go on with t1");
}

#[test]
fn a_blocked_task_ends_the_run_and_no_other() {
    let mut s = queued();
    let blocked = || TaskSays::Blocked { reason: "no key".into() };
    s.turn_ends().reads(blocked()).deadline(super::Timer::Reread).reads(blocked()).exits();
    s.reads(blocked());
    let why = "the task file says blocked: no key".to_owned();
    assert_eq!(ends(&s), [("t1", Some(&End::Blocked { why }))]);
}

#[test]
fn what_a_stopped_run_had_in_hand_goes_back_to_the_queue() {
    let mut s = queued();
    s.signal(15).signal(15).exits().brief_written().reads_open();
    assert_eq!(s.m.outcome(), Some(&Outcome::Stopped { signal: 15 }));
    let why = "stopped (signal 15)".to_owned();
    assert_eq!(ends(&s), [("t1", Some(&End::Released { why }))]);
}

#[test]
fn a_cancelled_task_ends_its_session_at_once() {
    let mut s = queued();
    s.person(Command::CancelTask).exits().brief_written().reads_open();
    assert_eq!(ends(&s), [("t1", Some(&End::Cancelled))]);
    assert_eq!(s.m.outcome(), Some(&Outcome::Stopped { signal: 15 }));
}

#[test]
fn a_task_that_is_taken_up_is_told_again() {
    let mut s = queued();
    s.recovers();
    let told = |a: &&Action| matches!(a, Action::Tell(Notice::TaskStarted { task_id, .. }) if task_id == "t1");
    assert_eq!(s.all.iter().filter(told).count(), 2);
}

#[test]
fn a_task_given_after_a_stop_goes_back_untouched() {
    let mut s = queued();
    is_done(&mut s).signal(15).is_given(Some("t1"), Some("t2")).exits().reads_open();
    let why = "stopped (signal 15)".to_owned();
    assert_eq!(ends(&s), [("t1", Some(&End::Done)), ("t2", Some(&End::Released { why }))]);
    assert_eq!(s.m.outcome(), Some(&Outcome::Stopped { signal: 15 }));
    assert!(s.m.assignments()[1].added.tokens.is_zero());
}

#[test]
fn a_task_ends_with_its_own_budget() {
    let mut s = queued();
    s.m.assignments[0].given.budget_usd = Some(1.0);
    s.costs(1.1);
    assert_eq!(s.m.verdict, Some(Outcome::Budget { which: Budget::Task }));
    s.arrives(false).turn_ends().proves(&[]).kept().exits().reads_open().weighs(true);
    assert!(matches!(s.m.assignments()[0].end, Some(End::Error { .. })));
}

#[test]
fn limits_of_a_run_count_anew_for_each_task() {
    let mut s = queued();
    s.m.params.max_cost_usd = 1.0;
    s.costs(0.9);
    is_done(&mut s).is_given(Some("t1"), Some("t2"));
    s.arrives(false).replies(30_000).costs(1.8);
    assert_eq!(s.m.verdict, None);
    s.costs(2.0);
    assert_eq!(s.m.verdict, Some(Outcome::Budget { which: Budget::Cost }));
}

#[test]
fn a_run_killed_between_two_tasks_asks_for_the_same_one() {
    let mut s = queued();
    is_done(&mut s).recovers().brief_written();
    assert!(takes(&s), "{:?}", s.last);
    s.is_given(Some("t1"), Some("t2")).reads_open().weighs(true);
    assert_eq!(ends(&s), [("t1", Some(&End::Done)), ("t2", None)]);
    s.is_given(Some("t1"), Some("t2"));
    assert_eq!(s.m.assignments().len(), 2, "an answer that comes twice gives no task twice");
}

#[test]
fn a_paused_run_holds_the_next_task_back() {
    let mut s = queued();
    is_done(&mut s).person(Command::Pause).is_given(Some("t1"), Some("t2"));
    assert!(s.is("held"));
    s.person(Command::Resume).reads_open().weighs(false);
    assert_eq!(s.typed(), "do t2");
}

#[test]
fn a_task_that_loads_much_is_told_once() {
    let mut s = story_with(|p| (p.queue, p.warn_input_tokens) = (true, 35_000));
    s.is_given(None, Some("t1")).reads_open().weighs(true).replies(36_000).replies(37_000);
    let told = |s: &Story| {
        s.all.iter().filter(|a| matches!(a, Action::Tell(Notice::Warning { .. }))).count()
    };
    assert_eq!(told(&s), 1);
    // The next one in the same session is measured by what comes to it.
    is_done(&mut s).is_given(Some("t1"), Some("t2")).arrives(false).replies(40_000);
    assert_eq!(told(&s), 1);
    assert_eq!(s.m.assignments()[0].warnings.len(), 1);
}

#[test]
fn what_a_batch_saves_is_measured_on_its_own_sessions() {
    let mut s = queued();
    s.replies(50_000);
    is_done(&mut s).is_given(Some("t1"), Some("t2"));
    s.arrives(false).replies(51_000).replies(52_000);
    let task = &s.m.assignments()[1];
    assert_eq!(task.saved_tokens, 20_000, "what the session had at its first reply");
    assert_eq!(task.extra_cache_read_tokens, 2 * 30_000, "twice what stood there from before");
}
