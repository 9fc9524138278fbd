//! What a night can bring, one behaviour a test: limits, failing APIs, hangs,
//! questions, floods, and what stands in the way of a launch.

use super::action::{Action, Notice, Timer};
use super::event::{
    Command, DiskRoom, Event, Exit, QuestionKind, Refusal, SessionReport, TurnEnd, UsageLimit,
    Warning,
};
use super::failure::{API_FAILURES, Class, LIMIT_MARGIN_MS, MISSING_LOOKS, REFUSALS};
use super::liveness::{HangStep, Sign};
use super::params::Answering;
use super::record::{CheckpointStatus, Spend, Tokens};
use super::snapshot::Snapshot;
use super::state::{Between, Budget, EndReason, Outcome, State};
use super::story::{Story, asked, places, story, story_with, working, working_with};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const STOPPED: Outcome = Outcome::Stopped { signal: 15 };

fn hours(n: i64) -> i64 {
    n * HOUR as i64
}

fn is_waiting(n: &Notice) -> bool {
    matches!(n, Notice::Waiting { .. })
}

fn is_needs_person(n: &Notice) -> bool {
    matches!(n, Notice::NeedsPerson { .. })
}

/// The session is gone, a brief is written, and work is left.
fn is_followed(s: &mut Story, progress: bool) -> &mut Story {
    s.exits();
    if s.between() == Some(&Between::Briefing) {
        s.brief_written();
    }
    if !s.is("finished") {
        s.reads_open();
    }
    if !s.is("finished") {
        s.weighs(progress);
    }
    s
}

/// The run ends as soon as the session is gone.
fn is_over(s: &mut Story) -> &mut Story {
    s.stands_in("ending").exits();
    if s.between() == Some(&Between::Briefing) {
        s.brief_written();
    }
    if !s.is("finished") {
        s.reads_open();
    }
    if !s.is("finished") {
        // A spent budget may still meet a finished task.
        s.weighs(false);
    }
    s.stands_in("finished")
}

/// The first launch, or the end of the pause before the next.
fn launch_again(s: &mut Story) -> &mut Story {
    match s.launched() {
        0 => s.launches(),
        _ => s.waits_for("starting"),
    }
}

fn code(s: &Story) -> Option<u8> {
    s.m.outcome().map(Outcome::exit_code)
}

// ---- usage limits ----------------------------------------------------------------

/// The menu at a limit: the CLI of a subscriber that does not go on by itself.
#[test]
fn a_cli_that_asks_what_to_do_is_not_given_the_time_to_go_on_by_itself() {
    let mut s = working();
    let resets = s.now().unix_ms + hours(2);
    let limit = |resets_unix_ms, continues| UsageLimit {
        which: "five_hour".into(),
        resets_unix_ms,
        continues,
    };
    let end = TurnEnd::ApiError {
        error: "rate_limit".into(),
        status: Some(429),
        text: "You've hit your limit".into(),
        limit: Some(limit(Some(resets), true)),
    };
    s.report(SessionReport::TurnEnded { end }).stands_in("cooling");
    let limit = limit(None, false);
    s.report(SessionReport::Limited { limit });
    let until_unix_ms = resets + LIMIT_MARGIN_MS;
    let told = Notice::Waiting { reason: "five_hour".into(), until_unix_ms };
    assert!(s.told(|n| *n == told), "told anew: it is over earlier: {:?}", s.last);
    s.waits_for("working");
    assert!(s.now().unix_ms - resets <= LIMIT_MARGIN_MS + 1_000);
    assert_eq!((s.failures(Class::UsageLimit), s.times_told(is_waiting)), (1, 2));
    assert_eq!(Snapshot::of(&s.m).waits().len(), 1);
}

#[test]
fn a_limit_in_an_error_row_is_waited_for_and_the_same_session_goes_on() {
    let mut s = working();
    s.is_limited(hours(2)).stands_in("cooling");
    let resets = s.now().unix_ms - 10 + hours(2);
    let until_unix_ms = resets + LIMIT_MARGIN_MS;
    let told = Notice::Waiting { reason: "five_hour".into(), until_unix_ms };
    assert!(s.told(|n| *n == told), "{:?}", s.last);
    s.waits_for("working");
    let late = s.now().unix_ms - until_unix_ms;
    assert!((0..=1_000).contains(&late), "{late}");
    assert_eq!((s.launched(), s.prompts()), (1, 1));
    assert_eq!(s.typed(), s.m.params.continue_prompt);
    assert_eq!(s.failures(Class::UsageLimit), 1);
    assert!(Snapshot::of(&s.m).waits()[0].ended.is_none(), "over when a reply comes");
    s.arrives(false).replies(21_000);
    let waits = Snapshot::of(&s.m).waits();
    assert_eq!((waits.len(), waits[0].reason.as_str()), (1, "five_hour"));
    assert_eq!(waits[0].until_unix_ms, until_unix_ms);
    assert_eq!(waits[0].ended, Some(s.now()));
}

#[test]
fn a_limit_on_the_screen_is_left_to_a_cli_that_tries_by_itself() {
    let mut s = working();
    s.tries_again(Class::RateLimit, 1).tells_limit(hours(2)).stands_in("working");
    assert!(s.told(is_waiting));
    s.sits_for(2 * HOUR);
    assert_eq!((s.prompts(), s.hang_steps()), (0, vec![]), "{:?}", s.m.state());
    s.replies(21_000).stands_in("working");
    assert!(Snapshot::of(&s.m).waits()[0].ended.is_some());
    s.turn_ends().stands_in("judging");
}

#[test]
fn a_cli_that_does_not_go_on_after_the_reset_is_woken_within_the_bound_of_a_hang() {
    let mut s = working();
    s.tells_limit(hours(2)).sits_for(2 * HOUR);
    s.sits_for(s.m.params.hang.interrupt_ms + MINUTE);
    assert!(s.count(|a| *a == Action::PressEscape) == 1, "{:?}", s.hang_steps());
    s.interrupted().reads_open().weighs(false).stands_in("working");
    assert_eq!(s.launched(), 1);
}

#[test]
fn a_limit_only_the_statusline_knows_of_is_waited_for() {
    let mut s = working();
    s.has_used(99.4, hours(3)).stands_in("working");
    assert!(!s.told(is_waiting), "as long as requests are answered nothing is waited for");
    s.turn_fails("rate_limit", 429, "429").stands_in("cooling");
    assert!(s.told(is_waiting));
    let before = s.now();
    s.waits_for("working");
    assert!(s.now().ms_since(before) >= 3 * HOUR, "{}", s.now().ms_since(before));
    // Negative: with quota left the same row is a rate limit.
    let mut s = working();
    s.has_used(60.0, hours(3)).turn_fails("rate_limit", 429, "429").stands_in("cooling");
    assert!(!s.told(is_waiting));
    assert_eq!((s.failures(Class::RateLimit), s.failures(Class::UsageLimit)), (1, 0));
}

#[test]
fn a_row_without_a_time_keeps_the_time_that_is_known() {
    let mut s = working();
    s.tells_limit(hours(2)).is_limited_for_unknown_time().stands_in("cooling");
    let before = s.now();
    s.waits_for("working");
    assert!(s.now().ms_since(before) >= 2 * HOUR);
    assert_eq!(s.failures(Class::UsageLimit), 1, "one limit, heard of twice");
}

/// Meets the limit again with each prompt, until something else comes; how long
/// each pause was.
fn probes(s: &mut Story, meet: impl Fn(&mut Story)) -> Vec<u64> {
    let mut pauses = Vec::new();
    for _ in 0..1_000 {
        meet(s);
        if !s.is("cooling") {
            return pauses;
        }
        let before = s.now();
        s.waits_for("working");
        pauses.push(s.now().ms_since(before));
        s.arrives(false);
    }
    panic!("probed for ever");
}

#[test]
fn a_limit_without_a_time_is_probed_with_pauses_that_grow_and_given_up_within_the_bound() {
    for reset in [None, Some(-60_000)] {
        let mut s = working();
        let begun = s.now();
        let pauses = probes(&mut s, |s| {
            match reset {
                None => s.is_limited_for_unknown_time(),
                Some(ms) => s.is_limited(ms),
            };
        });
        let policy = Class::UsageLimit.policy();
        for (n, ms) in pauses.iter().enumerate() {
            let full = policy.first_ms.saturating_mul(1 << n.min(20)).min(policy.cap_ms);
            assert!(ms * 2 >= full && *ms <= full + 2 * SECOND, "{reset:?} {n}: {pauses:?}");
        }
        is_over(&mut s);
        assert_eq!(code(&s), Some(31));
        let waited = s.now().ms_since(begun);
        let max = s.m.params.max_wait_ms;
        assert!(waited <= max && waited + policy.cap_ms >= max, "{waited}");
        assert_eq!(s.launched(), 1);
    }
}

#[test]
fn a_reset_that_is_moved_is_waited_for_anew() {
    for moved_to in [1, 4] {
        let mut s = working();
        s.is_limited(hours(3)).sits_for(MINUTE).tells_limit(hours(moved_to)).stands_in("cooling");
        assert!(s.told(is_waiting), "{moved_to}");
        let before = s.now();
        s.waits_for("working");
        let waited = s.now().ms_since(before) as i64 - hours(moved_to);
        assert!((0..=60_000).contains(&waited), "{moved_to}: {waited}");
        assert_eq!(s.prompts(), 1);
    }
}

#[test]
fn a_limit_told_again_and_again_is_one_limit_one_wait_and_one_attempt() {
    let mut s = working();
    s.is_limited(hours(2));
    let resets = s.now().unix_ms - 10 + hours(2);
    for _ in 0..30 {
        let left = resets - s.now().unix_ms;
        s.tells_limit(left).stands_in("cooling");
    }
    assert_eq!(s.times_told(is_waiting), 1);
    assert_eq!(s.failures(Class::UsageLimit), 1);
    assert!(
        matches!(s.m.state(), State::Cooling { attempt: 1, .. }),
        "waiting is no attempt: {:?}",
        s.m.state()
    );
    // What comes after it begins with the first pauses, and in the same session.
    s.waits_for("working").arrives(false).overloads().stands_in("cooling");
    assert_eq!(s.launched(), 1);
}

#[test]
fn a_limit_that_holds_still_after_its_reset_is_probed_at_most_once_for_each_pause() {
    let mut s = working();
    s.is_limited(hours(1));
    let resets = s.now().unix_ms - 10 + hours(1);
    s.waits_for("working").arrives(false);
    let left = resets - s.now().unix_ms;
    assert!(left < 0);
    s.is_limited(left).stands_in("cooling");
    let first = Class::UsageLimit.policy().first_ms;
    assert!(s.set_for(Timer::Cool).is_some_and(|ms| ms * 2 >= first), "{:?}", s.last);
    assert_eq!((s.prompts(), s.failures(Class::UsageLimit)), (1, 1));
}

/// Meets the limit again and again, as `meet` has it; each time until when the last
/// word was that it waits, and when it went on.
fn told_and_true(s: &mut Story, times: usize, meet: impl Fn(&mut Story)) -> Vec<(i64, i64)> {
    let mut seen = Vec::new();
    let mut told = None;
    for _ in 0..times {
        meet(s);
        s.stands_in("cooling");
        for action in &s.last {
            if let Action::Tell(Notice::Waiting { until_unix_ms, .. }) = action {
                told = Some(*until_unix_ms);
            }
        }
        s.waits_for("working");
        seen.push((told.unwrap(), s.now().unix_ms));
        s.arrives(false);
    }
    seen
}

#[test]
fn until_when_it_waits_is_told_truly_each_time() {
    // The reset has passed; or it comes a little later than was said.
    for again in [-30_000, 60_000, 90_000] {
        let mut s = working();
        let mut seen = told_and_true(&mut s, 1, |s| {
            s.is_limited(hours(1));
        });
        seen.extend(told_and_true(&mut s, 4, |s| {
            s.is_limited(again);
        }));
        for (n, (told, true_ms)) in seen.iter().enumerate() {
            let late = true_ms - told;
            assert!(
                (0..=1_100).contains(&late),
                "{again}, wait {n}: {late} ms after what was told"
            );
        }
        assert_eq!(s.launched(), 1);
    }
}

#[test]
fn the_wall_clock_decides_when_a_wait_is_over_however_it_is_set() {
    for jump in [hours(-3), hours(-1), -60_000, 60_000, hours(1), hours(3)] {
        for between in [false, true] {
            let mut s = working();
            s.is_limited(hours(2));
            let until = s.now().unix_ms - 10 + hours(2) + LIMIT_MARGIN_MS;
            if between {
                s.exits().brief_written().reads_open().weighs(true).stands_in("between");
            }
            s.sits_for(30 * MINUTE).clock_is_moved(jump);
            let jumped_past = s.now().unix_ms > until;
            let before = s.now();
            s.waits_for(if between { "starting" } else { "working" });
            let late = s.now().unix_ms - until;
            if jumped_past {
                assert!(s.now().ms_since(before) <= 60_000, "{jump}: waited on");
            } else {
                assert!((0..=60_000).contains(&late), "{jump}, between {between}: {late} ms late");
            }
        }
    }
}

#[test]
fn a_machine_that_slept_through_the_reset_goes_on_when_it_wakes() {
    let mut s = working();
    s.is_limited(hours(2)).sits_for(MINUTE).passes(5 * HOUR);
    let woke = s.now();
    s.waits_for("working");
    assert!(s.now().ms_since(woke) <= 60_000);
    assert_eq!(s.prompts(), 1);
}

#[test]
fn a_clock_set_back_for_a_day_does_not_make_the_wait_longer_than_allowed() {
    for between in [false, true] {
        let mut s = working();
        let begun = s.now();
        s.is_limited(hours(2));
        if between {
            s.exits().brief_written().reads_open().weighs(true).stands_in("between");
        }
        s.sits_for(MINUTE).clock_is_moved(hours(-24));
        if between {
            s.waits_for("finished");
        } else {
            is_over(s.waits_for("ending"));
        }
        assert_eq!(code(&s), Some(31), "{:?}", s.m.state());
        let (took, max) = (s.now().ms_since(begun), s.m.params.max_wait_ms);
        assert!(took >= max && took <= max + MINUTE, "{took}");
        assert_eq!((s.launched(), s.prompts()), (1, 0));
    }
}

#[test]
fn a_wait_longer_than_allowed_ends_the_run_at_once_with_a_brief() {
    let mut s = working();
    let max = s.m.params.max_wait_ms as i64;
    s.is_limited(max + 60_000).stands_in("ending");
    assert!(!s.told(is_waiting), "nothing is waited for");
    s.exits();
    assert_eq!(s.between(), Some(&Between::Briefing));
    s.brief_written().reads_open().weighs(false).stands_in("finished");
    assert_eq!((code(&s), s.reason()), (Some(31), Some(EndReason::Limit)));
    assert_eq!(
        s.m.past.last().map(|c| c.checkpoint.status.clone()),
        Some(CheckpointStatus::Handoff)
    );
    match s.m.outcome() {
        Some(outcome @ Outcome::LimitPast { .. }) => {
            let why = outcome.sentence();
            assert!(why.contains("five_hour") && why.contains("2027-"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    // Negative: a minute less is waited for.
    let mut s = working();
    s.is_limited(max - LIMIT_MARGIN_MS - 1_000).stands_in("cooling");
    // Also when only the screen tells of it.
    let mut s = working();
    s.tells_limit(max + 60_000).stands_in("ending");
    assert_eq!((is_over(&mut s).prompts(), code(&s)), (0, Some(31)));
}

#[test]
fn waits_in_one_piece_add_up_and_a_reply_between_them_begins_anew() {
    let mut s = working();
    s.is_limited(hours(4)).waits_for("working").arrives(false);
    s.is_limited(hours(4)).stands_in("ending");
    let mut s = working();
    s.is_limited(hours(4)).waits_for("working").arrives(false).replies(21_000);
    s.is_limited(hours(4)).stands_in("cooling");
}

#[test]
fn a_cli_that_goes_on_by_itself_during_the_wait_is_let_go_on() {
    let mut s = working();
    s.is_limited(hours(2)).sits_for(HOUR).replies(21_000).stands_in("working");
    assert_eq!(s.prompts(), 0, "nothing is typed into a turn that runs");
    assert!(Snapshot::of(&s.m).waits()[0].ended.is_some());
    s.calls("b").sits_for(HOUR / 4);
    assert_eq!(s.prompts(), 0, "the deadline of the wait is void");
    // Its turn has a clock of its own.
    s.report(SessionReport::ToolEnded { id: "b".into() }).shows(Sign::Transcript);
    s.sits_for(s.m.params.hang.interrupt_ms + MINUTE);
    assert_eq!(s.hang_steps(), [HangStep::Warn, HangStep::Interrupt]);
}

#[test]
fn longhaul_killed_during_the_wait_waits_again_and_launches_nothing_before_the_reset() {
    for _ in 0..2 {
        let mut s = working();
        s.is_limited(hours(2));
        let until = s.now().unix_ms - 10 + hours(2) + LIMIT_MARGIN_MS;
        s.sits_for(10 * MINUTE).recovers().brief_written().reads_open().weighs(false);
        s.stands_in("between");
        assert_eq!(s.between(), Some(&Between::Backoff { until_unix_ms: Some(until) }));
        s.sits_for(10 * MINUTE).recovers().reads_open().weighs(false).stands_in("between");
        assert_eq!(s.launched(), 1);
        s.waits_for("starting");
        let late = s.now().unix_ms - until;
        assert!((0..=60_000).contains(&late), "{late}");
        assert_eq!(s.launched(), 2);
        assert_eq!(Snapshot::of(&s.m).waits().len(), 1, "one wait, however often it is taken up");
        s.replies(20_000);
        assert!(Snapshot::of(&s.m).waits()[0].ended.is_some());
        assert_eq!(s.m.no_progress_in_a_row, 0);
    }
}

#[test]
fn a_limit_that_was_reset_while_longhaul_was_gone_is_not_waited_for() {
    let mut s = working();
    s.is_limited(hours(2)).passes(9 * HOUR).recovers().brief_written();
    s.reads_open().weighs(false).stands_in("starting");
}

#[test]
fn whoever_allows_no_waiting_is_told_at_once() {
    let no_wait = || working_with(|p| p.max_wait_ms = 0);
    let limited = no_wait().and(|s| s.is_limited(90 * SECOND as i64));
    let on_screen = no_wait().and(|s| s.tells_limit(90 * SECOND as i64));
    let no_time = no_wait().and(Story::is_limited_for_unknown_time);
    // What the CLI gets over by itself is no wait; what it gives up is.
    let failed = no_wait().and(|s| {
        for attempt in 1..4 {
            s.tries_again(Class::Overloaded, attempt).stands_in("working");
        }
        s.replies(22_000).tries_again(Class::Overloaded, 1).stands_in("working").overloads()
    });
    // Nor does it try for ever.
    let endless = no_wait().and(|s| {
        for attempt in 1..1_000 {
            if !s.is("working") {
                break;
            }
            s.sits_for(MINUTE).tries_again(Class::Overloaded, attempt);
        }
        s
    });
    for mut s in [limited, on_screen, no_time, failed, endless] {
        s.stands_in("ending").exits().brief_written().reads_open().weighs(true);
        assert_eq!(s.m.past[0].end_reason, Some(EndReason::Limit));
        assert_eq!(s.m.outcome().map(Outcome::exit_code), Some(31), "{:?}", s.m.state());
        assert!(Snapshot::of(&s.m).waits().is_empty() && !s.told(is_waiting));
    }
}

#[test]
fn a_wait_that_goes_on_after_a_restart_is_told_again_and_counts_once() {
    // The session was idle, nobody lived, or no time is known.
    let idle = working().and(|s| s.is_limited(hours(2)));
    let between =
        working().and(|s| s.is_limited(hours(2)).exits().brief_written().reads_open().weighs(true));
    for mut s in [idle, between] {
        let told = |s: &Story| s.times_told(is_waiting);
        assert_eq!(told(&s), 1);
        for restart in 2..5 {
            s.passes(MINUTE).recovers();
            if s.between() == Some(&Between::Briefing) {
                s.brief_written();
            }
            s.reads_open().weighs(true).stands_in("between");
            assert_eq!(told(&s), restart, "told to whoever listens now");
            s.sits_for(10 * MINUTE);
            assert_eq!(told(&s), restart, "and no more than once");
        }
        assert_eq!(Snapshot::of(&s.m).waits().len(), 1);
        assert_eq!(s.failures(Class::UsageLimit), 1);
    }
    let mut s = working();
    s.is_limited_for_unknown_time().recovers().brief_written().reads_open().weighs(true);
    s.stands_in("starting").replies(1_000);
    assert_eq!(Snapshot::of(&s.m).waits().len(), 1, "it was over before it was told again");
    s.is_limited_for_unknown_time();
    assert_eq!((s.times_told(is_waiting), Snapshot::of(&s.m).waits().len()), (2, 2));
}

#[test]
fn a_restart_does_not_cut_a_pause_short() {
    // After the API failed in the live session, and after a session that failed.
    let cooling = working().and(Story::overloads);
    let crashed = working().and(|s| s.exits().brief_written().reads_open().weighs(true));
    for (class, mut s) in [(Class::Overloaded, cooling), (Class::Crash, crashed)] {
        let pause = |n: &Notice| match n {
            Notice::Retrying { class: of, attempt: 1, after_ms } if *of == class => Some(*after_ms),
            _ => None,
        };
        let told = |s: &Story| -> Vec<u64> {
            let notices = s.all.iter().filter_map(|action| match action {
                Action::Tell(notice) => pause(notice),
                _ => None,
            });
            notices.collect()
        };
        let whole_ms = told(&s)[0];
        let paused_ms = s.m.failures[&class].paused_ms;
        s.passes(100).recovers();
        if s.between() == Some(&Between::Briefing) {
            s.brief_written();
        }
        s.reads_open().weighs(true);
        assert_eq!(s.between(), Some(&Between::Backoff { until_unix_ms: None }), "{class:?}");
        let left_ms = told(&s)[1];
        assert!((1..whole_ms - 100).contains(&left_ms), "{left_ms} of {whole_ms}");
        assert_eq!(s.failures(class), 1);
        assert_eq!(s.m.failures[&class].paused_ms, paused_ms, "booked once");
        // The clock of another boot tells nothing; what is over is over.
        s.passes(left_ms).recovers().reads_open().weighs(true).stands_in("starting");
        assert_eq!(told(&s).len(), 2);
    }
}

#[test]
fn a_pause_during_the_wait_holds_after_it_and_a_resume_goes_on() {
    let mut s = working();
    s.is_limited(hours(2)).person(Command::Pause).waits_for("held");
    assert_eq!(s.prompts(), 0);
    s.sits_for(HOUR).stands_in("held");
    s.person(Command::Resume).reads_open().weighs(false).stands_in("working");
    // Resumed before the reset, it is as if nobody had paused.
    let mut s = working();
    s.is_limited(hours(2)).person(Command::Pause).sits_for(MINUTE).person(Command::Resume);
    s.stands_in("cooling").waits_for("working");
    // And between sessions.
    let mut s = working();
    s.is_limited(hours(2)).exits().brief_written().reads_open().weighs(true);
    s.person(Command::Pause).sits_for(3 * HOUR);
    assert_eq!((s.between(), s.launched()), (Some(&Between::Held), 1));
    s.person(Command::Resume).reads_open().weighs(true).stands_in("starting");
}

#[test]
fn a_stop_during_the_wait_ends_the_run_without_a_prompt() {
    for second in [false, true] {
        let mut s = working();
        s.is_limited(hours(2)).person(Command::Stop).stands_in("ending");
        if second {
            s.signal(15);
            assert!(s.did(&Action::EndSurely));
        }
        s.exits().brief_written().reads_open();
        s.ends_with(&STOPPED, 143);
        assert_eq!(s.prompts(), 0);
    }
    let mut s = working();
    s.is_limited(hours(2)).exits().brief_written().reads_open().weighs(true).signal(15);
    s.ends_with(&STOPPED, 143);
    assert!(Snapshot::of(&s.m).waits()[0].ended.is_some(), "nothing waits in a run that is over");
}

#[test]
fn a_cycle_during_the_wait_replaces_the_session_but_not_before_the_reset() {
    let mut s = working();
    s.is_limited(hours(2)).person(Command::Cycle).stands_in("ending");
    s.exits().brief_written().reads_open().weighs(true).stands_in("between");
    let before = s.now();
    s.waits_for("starting");
    assert!(s.now().ms_since(before) >= 2 * HOUR - MINUTE);
}

#[test]
fn a_limit_met_in_mid_checkpoint_is_waited_for_between_sessions() {
    let mut s = asked();
    s.is_limited(hours(2)).stands_in("ending");
    assert!(s.told(|n| matches!(n, Notice::CheckpointFailed { .. })));
    s.exits().brief_written().reads_open().weighs(true).stands_in("between");
    assert!(s.told(is_waiting));
    let before = s.now();
    s.waits_for("starting");
    assert!(s.now().ms_since(before) >= 2 * HOUR - MINUTE);
    assert_eq!((s.launched(), s.prompts()), (2, 1));
    assert_eq!(s.m.past[0].end_reason, Some(EndReason::Threshold));
}

#[test]
fn a_limit_met_in_mid_checkpoint_is_known_by_the_statusline_as_well() {
    let mut s = working();
    s.has_used(100.0, hours(2)).is_full().arrives(false);
    s.turn_fails("rate_limit", 429, "429").stands_in("ending");
    s.exits().brief_written().reads_open().weighs(true).stands_in("between");
    assert!(s.told(is_waiting));
    assert_eq!((s.launched(), s.prompts()), (1, 1));
}

#[test]
fn a_limit_told_while_the_run_is_stopping_does_not_change_how_it_ends() {
    let mut s = working();
    s.person(Command::Stop).stands_in("checkpointing").tells_limit(hours(30));
    assert!(!s.told(is_waiting));
    s.waits_for("ending");
    is_over(&mut s);
    assert_eq!(s.m.outcome(), Some(&STOPPED));
}

#[test]
fn a_limit_at_the_first_request_of_a_session_is_no_dead_start() {
    let mut s = story();
    s.launches().is_limited(hours(2)).stands_in("cooling").waits_for("working");
    s.arrives(false).is_limited(hours(1)).waits_for("working").arrives(false);
    s.replies(20_000);
    assert_eq!((s.launched(), s.failures(Class::DeadStart)), (1, 0));
    // Nor when the CLI waits for it by itself.
    let mut s = story();
    s.launches().tells_limit(hours(2)).sits_for(2 * HOUR).stands_in("starting");
    s.replies(20_000).stands_in("working");
    assert_eq!(s.launched(), 1);
}

#[test]
fn only_what_is_left_of_the_quota_for_the_person_ends_the_run_with_a_checkpoint() {
    let mut s = working_with(|p| p.quota_reserve_percent = 20.0);
    s.has_used(79.9, hours(3)).stands_in("working");
    s.has_used(80.0, hours(3)).stands_in("checkpointing").checkpoints();
    is_over(&mut s);
    s.ends_with(&Outcome::Budget { which: Budget::Quota }, 20);
    assert_eq!(s.m.past[0].checkpoint.status, CheckpointStatus::Verified);
    // Without a reserve it is used to the end.
    let mut s = working();
    s.has_used(100.0, hours(3)).stands_in("working");
}

// ---- failing APIs -----------------------------------------------------------------

#[test]
fn a_rate_limit_that_is_no_usage_limit_is_followed_by_a_pause_in_the_same_session() {
    let mut s = working();
    s.turn_fails("rate_limit", 429, "slow down").stands_in("cooling");
    let ms = s.set_for(Timer::Cool).expect("a pause");
    let first = Class::RateLimit.policy().first_ms;
    assert!(ms <= first && ms * 2 >= first, "{ms}");
    s.deadline(Timer::Cool).stands_in("working");
    assert_eq!((s.launched(), s.prompts()), (1, 1));
    assert!(Snapshot::of(&s.m).waits().is_empty());
}

#[test]
fn a_storm_of_overload_pauses_ever_longer_across_sessions_and_ends_at_the_bound() {
    let mut s = working();
    let begun = s.now();
    let mut pauses = Vec::new();
    let mut in_session = 0;
    while !s.is("finished") {
        match s.m.state().name() {
            "cooling" => {
                s.deadline(Timer::Cool).stands_in("working").arrives(false);
            }
            "starting" | "working" => {
                in_session += 1;
                s.overloads();
                assert!(in_session <= API_FAILURES + 1, "{in_session} failures in one session");
            }
            "ending" => {
                in_session = 0;
                is_followed(&mut s, false);
            }
            _ => {
                s.waits_for("starting");
            }
        }
        for action in &s.last {
            if let Action::Tell(Notice::Retrying { class: Class::Overloaded, after_ms, .. }) =
                action
            {
                pauses.push(*after_ms);
            }
        }
        assert!(pauses.len() < 1_000);
    }
    let policy = Class::Overloaded.policy();
    for (n, ms) in pauses.iter().enumerate() {
        let full = policy.first_ms.saturating_mul(1 << n.min(20)).min(policy.cap_ms);
        assert!(*ms * 2 >= full && *ms <= full, "pause {n} of {full}: {pauses:?}");
    }
    assert_eq!(code(&s), Some(31), "{:?}", s.m.outcome());
    let took = s.now().ms_since(begun);
    let max = s.m.params.max_wait_ms;
    assert!(took <= max + MINUTE && took + policy.cap_ms + MINUTE >= max, "{took} of {max}");
    assert!(s.launched() > 2, "a fresh session after {API_FAILURES} failures");
    assert_eq!(s.m.no_progress_in_a_row, 1, "only the session that had worked can be blamed");
}

#[test]
fn sessions_without_a_reply_are_no_progress_when_there_is_no_outage() {
    let mut s = story();
    for _ in 0..30 {
        match s.m.state().name() {
            "starting" | "working" => s.turn_fails("unknown", 400, "no"),
            "cooling" => s.deadline(Timer::Cool).arrives(false),
            "ending" => is_followed(&mut s, false),
            "finished" => break,
            _ if s.launched() == 0 => s.launches(),
            _ => s.waits_for("starting"),
        };
    }
    s.ends_with(&Outcome::NoProgress, 21);
    assert_eq!(s.launched() as u32, s.m.params.no_progress_cycles);
}

#[test]
fn a_session_that_replied_and_did_nothing_counts_also_in_an_outage() {
    let mut s = working();
    for _ in 0..=API_FAILURES {
        s.overloads();
        if s.is("cooling") {
            s.deadline(Timer::Cool).arrives(false);
        }
    }
    is_followed(&mut s, false);
    assert_eq!(s.m.no_progress_in_a_row, 1);
}

#[test]
fn retries_of_the_cli_are_told_and_counted_once_a_request() {
    let mut s = working();
    for attempt in 1..=10 {
        s.tries_again(Class::Overloaded, attempt);
        assert!(s.told(|n| matches!(n, Notice::Retrying { attempt: a, .. } if *a == attempt)));
    }
    s.overloads().stands_in("cooling");
    assert_eq!(s.failures(Class::Overloaded), 1);
    s.deadline(Timer::Cool).arrives(false).replies(21_000);
    s.tries_again(Class::Overloaded, 1).replies(22_000);
    assert_eq!(s.failures(Class::Overloaded), 2);
    // What its screen calls it at first is vague; the row knows.
    s.tries_again(Class::Overloaded, 1).turn_fails("rate_limit", 429, "slow down");
    assert_eq!((s.failures(Class::Overloaded), s.failures(Class::RateLimit)), (2, 1));
    assert_eq!(s.launched(), 1);
}

#[test]
fn a_silent_api_is_waited_for_and_is_no_dead_start() {
    let mut s = story().and(|s| s.launches());
    for attempt in 1..20 {
        s.tries_again(Class::Connection, attempt);
        for _ in 0..3 {
            s.deadline(Timer::Start).stands_in("starting");
        }
    }
    // A fresh session meets the same silence, and says nothing of it.
    let mut s = working();
    s.overloads().exits().brief_written().reads_open().weighs(true);
    s.waits_for("starting").deadline(Timer::Start).stands_in("starting");
    assert_eq!(s.failures(Class::DeadStart), 0);
}

#[test]
fn a_turn_that_fails_for_ever_after_one_reply_is_bounded_by_progress() {
    let mut s = working();
    for _ in 0..100 {
        match s.m.state().name() {
            "working" => s.replies(30_000).turn_fails("invalid_request", 400, "image too large"),
            "cooling" => s.deadline(Timer::Cool),
            _ => break,
        };
    }
    s.stands_in("checkpointing");
    assert!(s.prompts() <= s.m.params.max_nudges as usize + 1, "{}", s.prompts());
}

#[test]
fn a_task_that_was_done_when_the_limit_came_is_done() {
    let mut s = working();
    s.is_limited(i64::MAX / 4).stands_in("ending").exits().brief_written();
    s.reads_done_twice();
    s.ends_with(&Outcome::Done, 0);
    // And one that is waited for is looked at before anything is typed.
    let mut s = working();
    s.is_limited(10_000);
    let typed = s.prompts();
    s.event_of(Timer::Cool).stands_in("judging").reads_done_twice().stands_in("ending");
    assert_eq!(s.prompts(), typed);
}

#[test]
fn a_pause_by_a_person_is_no_wait_for_the_api() {
    let mut s = working();
    s.person(Command::Pause).overloads().exits().brief_written().reads_open().weighs(true);
    let long_ms = s.m.params.max_wait_ms + 1_000;
    s.stands_in("between").passes(long_ms);
    s.person(Command::Resume).reads_open().weighs(true);
    assert_eq!(s.m.outcome(), None, "{:?}", s.m.state());
}

#[test]
fn an_api_that_fails_in_mid_checkpoint_is_booked_and_the_next_session_waits() {
    let mut s = asked();
    s.overloads().stands_in("checkpointing").arrives(false).overloads().stands_in("ending");
    assert_eq!(s.failures(Class::Overloaded), 2);
    s.exits().brief_written().reads_open().weighs(true);
    assert!(matches!(s.between(), Some(Between::Backoff { until_unix_ms: None })));
}

#[test]
fn a_cli_that_goes_on_by_itself_is_left_to_it_from_its_own_prompt_on() {
    let mut s = working();
    s.is_limited(60_000).stands_in("cooling");
    let text = "Your claude.ai usage limit has reset. Continue the task".to_owned();
    s.report(SessionReport::PromptArrived { text, queued: true }).stands_in("working");
}

#[test]
fn a_question_in_the_way_of_a_text_is_found_out_before_the_session_is_given_up() {
    let mut s = working();
    s.is_nudged().report(SessionReport::TypingHeld);
    for _ in 0..10 {
        s.deadline(Timer::Delivery).stands_in("working");
        assert!(!s.did(&Action::PressEnter) && !s.did(&Action::ClearInput));
    }
    s.asks(QuestionKind::Unknown, "what?").stands_in("ending");
    // One that is found out by nobody holds the session for so long.
    let mut s = working();
    s.is_nudged().report(SessionReport::TypingHeld);
    for _ in 0..20 {
        if s.is("working") {
            s.deadline(Timer::Delivery);
        }
    }
    s.stands_in("ending");
}

#[test]
fn a_reset_at_the_end_of_time_is_a_time_like_any_other() {
    let limit = |resets_unix_ms| UsageLimit {
        which: "five_hour".into(),
        resets_unix_ms: Some(resets_unix_ms),
        continues: false,
    };
    let times = [i64::MAX, -9_000_000_000_000_000_000, 9_000_000_000_000_000_000, i64::MIN];
    for (first, second) in times.iter().flat_map(|a| times.iter().map(move |b| (*a, *b))) {
        let mut s = working();
        s.report(SessionReport::Limited { limit: limit(first) });
        s.report(SessionReport::Limited { limit: limit(second) });
        let used = |resets_unix_ms| {
            Some(super::event::Quota { used_percent: 100.0, resets_unix_ms: Some(resets_unix_ms) })
        };
        s.report(SessionReport::QuotaUsed { five_hour: used(first), seven_day: used(second) });
        // One that is past for ever is no reason to end; one in ages is.
        let is_past = first < 0 && second < 0;
        assert_eq!(s.is("working"), is_past, "{first} {second}");
    }
    let mut s = working();
    s.is_limited(60_000).stands_in("cooling");
    s.report(SessionReport::Limited { limit: limit(i64::MIN) }).stands_in("cooling");
}

#[test]
fn a_session_whose_record_is_gone_is_ended() {
    for mut s in [working(), asked(), story().and(|s| s.launches())] {
        let why = "it is a link".into();
        s.report(SessionReport::RecordLost { why }).stands_in("ending");
        is_over(&mut s);
        assert_eq!(code(&s), Some(10));
    }
}

#[test]
fn a_cli_that_tries_again_for_ever_is_not_waited_for_longer_than_allowed() {
    let mut s = working();
    let begun = s.now();
    for attempt in 1..1_000 {
        s.shows(Sign::Transcript).tries_again(Class::Overloaded, attempt);
        if s.is("ending") {
            break;
        }
        s.sits_for(5 * MINUTE);
    }
    is_over(&mut s);
    assert_eq!(code(&s), Some(31));
    assert!(s.now().ms_since(begun) <= s.m.params.max_wait_ms + 5 * MINUTE);
}

#[test]
fn a_first_request_the_cli_still_tries_is_no_dead_start() {
    let mut s = story();
    s.launches().tries_again(Class::Overloaded, 1);
    s.sits_for(3 * s.m.params.start_timeout_ms).stands_in("starting");
    s.overloads().stands_in("cooling");
    assert_eq!(s.failures(Class::DeadStart), 0);
    // Without a word it is one.
    let mut s = story();
    let start_timeout_ms = s.m.params.start_timeout_ms;
    s.launches().sits_for(start_timeout_ms + SECOND);
    assert!(!s.is("starting"));
}

#[test]
fn a_refused_login_is_tried_exactly_once_in_every_state_a_session_has() {
    for (error, status) in
        [("authentication_failed", 401), ("unknown", 403), ("oauth_org_not_allowed", 403)]
    {
        for (place, mut s) in places().into_iter().filter(|(_, s)| s.m.is_alive()) {
            if place.starts_with("ending") || s.m.verdict.is_some() {
                continue;
            }
            let (launched, prompts) = (s.launched(), s.prompts());
            s.turn_fails(error, status, "log in again");
            if s.is("checkpointing") {
                s.kept();
            }
            is_over(&mut s);
            assert_eq!(code(&s), Some(30), "{place}");
            assert_eq!((s.launched(), s.prompts()), (launched, prompts), "{place}");
            assert_eq!(s.failures(Class::Authentication), 1, "{place}");
        }
    }
}

#[test]
fn a_refused_request_is_tried_again_then_in_a_fresh_session() {
    let mut s = working();
    for _ in 0..REFUSALS {
        s.turn_fails("unknown", 400, "bad request").stands_in("cooling");
        s.deadline(Timer::Cool).arrives(false);
    }
    s.turn_fails("unknown", 400, "bad request").stands_in("ending");
    is_followed(&mut s, true).stands_in("between").waits_for("starting");
    assert_eq!(s.m.past[0].end_reason, Some(EndReason::ApiFailure));
    assert_eq!(s.launched(), 2);
}

#[test]
fn an_unknown_model_or_an_empty_account_needs_a_person_at_once() {
    for (error, status) in [("model_not_found", 404), ("billing_error", 400)] {
        let mut s = working();
        s.turn_fails(error, status, "there is no such thing").stands_in("ending");
        is_over(&mut s);
        s.needs_person("there is no such thing");
        assert_eq!((s.launched(), s.prompts()), (1, 0));
        assert_eq!(s.times_told(is_needs_person), 1);
    }
}

#[test]
fn no_answer_at_all_is_a_failed_connection() {
    let mut s = working();
    let end = TurnEnd::ApiError {
        error: "unknown".into(),
        status: None,
        text: "Connection error".into(),
        limit: None,
    };
    s.report(SessionReport::TurnEnded { end }).stands_in("cooling");
    assert_eq!(s.failures(Class::Connection), 1);
    s.waits_for("working");
    assert_eq!(s.launched(), 1);
}

// ---- hangs ---------------------------------------------------------------------------

#[test]
fn a_turn_in_which_nothing_moves_is_told_then_interrupted_then_ended() {
    let mut s = working();
    let begun = s.now();
    let hang = s.m.params.hang;
    s.sits_for(hang.interrupt_ms + SECOND);
    assert_eq!(s.hang_steps(), [HangStep::Warn, HangStep::Interrupt]);
    assert!(s.count(|a| *a == Action::PressEscape) == 1);
    s.sits_for(hang.end_ms - hang.interrupt_ms).stands_in("ending");
    assert!(s.now().ms_since(begun) <= hang.end_ms + 2 * SECOND);
    is_followed(&mut s, true).stands_in("between");
    assert_eq!((s.reason(), s.failures(Class::Hang)), (Some(EndReason::Hang), 1));
    s.waits_for("starting");
}

#[test]
fn an_esc_that_helps_keeps_the_session_and_tells_it_why() {
    let mut s = working();
    s.sits_for(s.m.params.hang.interrupt_ms + SECOND).interrupted();
    s.reads_open().weighs(false).stands_in("working");
    assert!(s.typed().contains("Nothing moved in your last turn for 20 min"), "{}", s.typed());
    assert!(s.typed().contains(&s.m.params.continue_prompt));
    s.arrives(false).replies(21_000);
    assert_eq!(s.launched(), 1);
    s.turn_ends().reads_open().weighs(false);
    assert_eq!(s.typed(), s.m.params.continue_prompt, "told once");
}

#[test]
fn a_session_that_hangs_again_after_esc_is_ended_at_once() {
    let mut s = working();
    let hang = s.m.params.hang;
    s.sits_for(hang.interrupt_ms + SECOND).interrupted();
    s.reads_open().weighs(false).arrives(false);
    let begun = s.now();
    s.sits_for(hang.interrupt_ms + SECOND).stands_in("ending");
    assert!(s.now().ms_since(begun) <= hang.interrupt_ms + 2 * SECOND);
    assert_eq!(s.count(|a| *a == Action::PressEscape), 1);
    // With a reply between them each has its Esc.
    let mut s = working();
    for n in 1..4 {
        s.sits_for(hang.interrupt_ms + SECOND).interrupted().reads_open().weighs(true);
        s.arrives(false).replies(21_000);
        assert_eq!(s.count(|a| *a == Action::PressEscape), n);
    }
}

/// Esc would take its first prompt back.
#[test]
fn a_session_without_any_reply_is_ended_instead_of_interrupted() {
    let mut s = story_with(|p| p.start_timeout_ms = HOUR);
    let hang = s.m.params.hang;
    s.launches().sits_for(hang.interrupt_ms + SECOND).stands_in("ending");
    assert_eq!(s.hang_steps(), [HangStep::Warn, HangStep::End]);
    assert_eq!(s.count(|a| *a == Action::PressEscape), 0);
    is_followed(&mut s, false).waits_for("starting");
    assert_eq!(s.m.past[0].end_reason, Some(EndReason::Hang));
    assert_eq!((s.launched(), s.failures(Class::Hang)), (2, 1));
}

#[test]
fn a_tool_call_in_flight_has_a_limit_of_its_own() {
    let mut s = working();
    let hang = s.m.params.hang;
    s.calls("build").sits_for(hang.end_ms - SECOND);
    assert_eq!(s.hang_steps(), [], "40 minutes of a build are no hang");
    s.sits_for(hang.tool_ms - hang.end_ms + 2 * SECOND);
    assert_eq!(s.hang_steps(), [HangStep::Warn, HangStep::Interrupt]);
    assert!(s.all.iter().any(
        |a| matches!(a, Action::Tell(Notice::Hang { signal, .. }) if signal.as_str() == "tool")
    ));
    s.interrupted().reads_open().weighs(false);
    assert!(
        s.typed().contains("Your last tool call did not come back for 60 min"),
        "{}",
        s.typed()
    );
    // When it comes back, the turn's own limit holds again.
    let mut s = working();
    s.calls("build").sits_for(10 * MINUTE).shows(Sign::Transcript);
    s.report(SessionReport::ToolEnded { id: "build".into() });
    s.sits_for(hang.interrupt_ms + SECOND);
    assert_eq!(s.hang_steps(), [HangStep::Warn, HangStep::Interrupt]);
}

#[test]
fn every_sign_of_life_starts_the_clock_anew() {
    for sign in
        [Sign::Transcript, Sign::Subagent, Sign::Statusline, Sign::Hook, Sign::Stream, Sign::Cpu]
    {
        let mut s = working();
        for _ in 0..5 {
            s.sits_for(9 * MINUTE).shows(sign);
        }
        assert_eq!(s.hang_steps(), [], "{sign:?}");
    }
}

#[test]
fn what_waits_for_a_limit_or_is_idle_does_not_hang() {
    let mut s = working();
    s.tells_limit(hours(5)).sits_for(5 * HOUR);
    assert_eq!(s.hang_steps(), []);
    let mut s = working();
    s.is_limited(hours(5)).sits_for(5 * HOUR);
    assert_eq!(s.hang_steps(), []);
    let mut s = working();
    s.person(Command::Pause).turn_ends().reads_open().weighs(true).stands_in("held");
    s.sits_for(5 * HOUR);
    assert_eq!(s.hang_steps(), []);
}

#[test]
fn a_machine_that_slept_in_mid_turn_gives_the_session_time_whatever_was_done_before() {
    let hang = super::sim::params().hang;
    // Before any step, after the warning, in a tool call, and in one warned about.
    for (in_tool, quiet) in [(false, 5), (false, 11), (true, 20), (true, 31), (true, 39)] {
        let mut s = working();
        if in_tool {
            s.calls("build");
        }
        s.sits_for(quiet * MINUTE).passes(8 * HOUR);
        let woke = s.now();
        let rest = if in_tool { 40 - quiet } else { 9 };
        s.sits_for(rest * MINUTE);
        assert!(!s.hang_steps().contains(&HangStep::Interrupt), "{in_tool} {quiet}: a false Esc");
        s.shows(Sign::Transcript).replies(21_000).stands_in("working");
        // One that stays dead is found all the same.
        let mut s = working();
        if in_tool {
            s.calls("build");
        }
        s.sits_for(quiet * MINUTE).passes(8 * HOUR).sits_for(hang.tool_ms + hang.end_ms);
        assert_eq!(s.hang_steps(), [HangStep::Warn, HangStep::Interrupt, HangStep::End]);
        assert!(s.now().ms_since(woke) <= 2 * HOUR);
    }
}

#[test]
fn the_time_a_machine_slept_is_no_wait() {
    let mut s = working_with(|p| p.max_ms = 100 * HOUR);
    for _ in 0..3 {
        s.overloads().stands_in("cooling").passes(8 * HOUR).waits_for("working").arrives(false);
    }
    s.tries_again(Class::Overloaded, 1).stands_in("working");
    assert_eq!(s.launched(), 1);
    // Awake, so long an outage ends the run.
    let mut s = working();
    let max_wait_ms = s.m.params.max_wait_ms;
    s.overloads().waits_for("working").arrives(false);
    for _ in 0..max_wait_ms / MINUTE {
        s.shows(Sign::Transcript).sits_for(MINUTE);
    }
    s.tries_again(Class::Overloaded, 1).stands_in("ending");
}

#[test]
fn a_machine_that_slept_at_the_start_gives_the_session_its_time_again() {
    let mut s = story();
    s.launches().passes(8 * HOUR).shows(Sign::Statusline).deadline(Timer::Start);
    s.stands_in("starting");
    let start_timeout_ms = s.m.params.start_timeout_ms;
    assert_eq!(s.set_for(Timer::Start), Some(start_timeout_ms));
    s.deadline(Timer::Start).stands_in("ending");
}

#[test]
fn a_machine_that_slept_in_mid_checkpoint_gives_the_session_its_time_again() {
    let mut s = asked();
    s.passes(8 * HOUR).deadline(Timer::Checkpoint).stands_in("checkpointing");
    assert!(!s.did(&Action::PressEscape));
    s.deadline(Timer::Checkpoint);
    assert!(s.did(&Action::PressEscape));
    // A run that is stopping does not wait.
    let mut s = working();
    s.signal(15).arrives(false).passes(8 * HOUR).deadline(Timer::Checkpoint).stands_in("ending");
}

// ---- questions -----------------------------------------------------------------------

#[test]
fn a_permission_prompt_is_declined_and_the_session_told_to_decide() {
    for kind in [QuestionKind::Permission, QuestionKind::Question] {
        let mut s = working();
        s.asks(kind, "may I rm -rf /?").stands_in("working");
        assert!(s.did(&Action::PressEscape));
        assert!(s.told(
            |n| matches!(n, Notice::Dialog { answer, what, .. } if answer == "deny" && what.contains("rm -rf"))
        ));
        s.interrupted().reads_open().weighs(false).stands_in("working");
        let typed = s.typed();
        assert!(typed.contains("your question was declined"), "{typed}");
        assert!(typed.contains("may I rm -rf /?") && typed.contains("PROJECT_SUMMARY"), "{typed}");
        assert_eq!(s.times_told(is_needs_person), 0);
        s.arrives(false).replies(21_000).asks(kind, "and now?").stands_in("working");
    }
}

#[test]
fn a_question_that_esc_does_not_close_needs_a_person_after_three() {
    let mut s = working();
    for n in 1..=3 {
        s.asks(QuestionKind::Permission, "may I?").stands_in("working");
        assert_eq!(s.count(|a| *a == Action::PressEscape), n);
    }
    s.asks(QuestionKind::Permission, "may I?").stands_in("ending");
    is_over(&mut s);
    s.needs_person("may I?");
    assert_eq!(s.count(|a| *a == Action::PressEscape), 3);
    assert_eq!(s.times_told(is_needs_person), 1);
}

#[test]
fn by_the_policy_stop_a_question_ends_the_run_with_the_screen() {
    let mut s = working_with(|p| p.permissions = Answering::Stop);
    s.asks(QuestionKind::Permission, "may I?").stands_in("ending");
    assert!(!s.did(&Action::PressEscape));
    assert!(s.told(
        |n| matches!(n, Notice::NeedsPerson { screen, .. } if screen == "the screen asks: may I?")
    ));
    is_over(&mut s);
    s.needs_person("may I?");
    let asked = Snapshot::of(&s.m).asked();
    assert_eq!(asked, Some(("the CLI asks may I?", "the screen asks: may I?")));
}

#[test]
fn an_unknown_dialog_is_never_answered_and_needs_a_person_at_once_in_every_state() {
    for (place, mut s) in places().into_iter().filter(|(_, s)| s.m.is_alive()) {
        if place.starts_with("ending") || s.m.verdict.is_some() {
            continue;
        }
        let pressed = |s: &Story| {
            s.count(|a| matches!(a, Action::PressEscape | Action::PressEnter | Action::Type { .. }))
        };
        let before = pressed(&s);
        s.asks(QuestionKind::Unknown, "press a key");
        s.asks(QuestionKind::Unknown, "press a key");
        if s.is("checkpointing") {
            s.kept();
        }
        is_over(&mut s);
        s.needs_person("press a key");
        assert_eq!(pressed(&s), before, "{place}: something was pressed");
        assert_eq!(s.times_told(is_needs_person), 1, "{place}");
        assert_eq!(Snapshot::of(&s.m).asked().map(|a| a.1), Some("the screen asks: press a key"));
    }
}

#[test]
fn what_the_configuration_answers_is_told_and_goes_on() {
    let mut s = story();
    let answered = SessionReport::Answered {
        kind: "trust".into(),
        what: "do you trust this folder?".into(),
        answer: "yes".into(),
    };
    s.launches().report(answered).stands_in("starting");
    assert!(s.told(|n| matches!(n, Notice::Dialog { kind, .. } if kind == "trust")));
    assert_eq!(s.m.failures.values().map(|f| f.count).sum::<u32>(), 0);
    s.replies(20_000).report(SessionReport::Answered {
        kind: "permission".into(),
        what: "Bash".into(),
        answer: "deny".into(),
    });
    assert_eq!(s.failures(Class::PermissionPrompt), 1);
    s.stands_in("working");
}

#[test]
fn a_person_is_told_once_why_also_by_dead_starts_and_blocked_tasks() {
    let mut s = story();
    for _ in 0..3 {
        launch_again(&mut s).exits_with("Welcome! Log in?").reads_open();
        if !s.is("finished") {
            s.weighs(false);
        }
    }
    s.needs_person("Log in?");
    assert_eq!(s.times_told(is_needs_person), 1);
    assert_eq!(Snapshot::of(&s.m).asked().map(|a| a.1), Some("Welcome! Log in?"));
    let mut s = working();
    let says = super::event::TaskSays::Blocked { reason: "needs a key".into() };
    s.turn_ends().reads(says.clone()).deadline(Timer::Reread).reads(says);
    is_over(&mut s);
    s.needs_person("needs a key");
    assert_eq!(s.times_told(is_needs_person), 1);
}

#[test]
fn the_last_words_of_another_session_explain_nothing() {
    // What stands in the way between sessions is on no screen.
    let mut s = looking();
    s.prepared(None).exits_with("Welcome! Log in?").reads_open().weighs(false);
    s.waits_for("between").deadline(Timer::Backoff);
    s.prepared(refusal(Class::SettingsChanged)).needs_person("it is not as it was");
    assert_eq!(Snapshot::of(&s.m).asked(), Some(("it is not as it was", "")));
    // Nor is it there when the last of three showed nothing.
    let mut s = story();
    for screen in ["", "", "Welcome! Log in?"].into_iter().rev() {
        launch_again(&mut s);
        assert_eq!(Snapshot::of(&s.m).last_activity(), "", "{screen:?}");
        s.exits_with(screen).reads_open();
        if !s.is("finished") {
            s.weighs(false);
        }
    }
    s.needs_person("the last thing seen: nothing");
    assert_eq!(Snapshot::of(&s.m).asked().map(|a| a.1), Some(""));
}

#[test]
fn what_a_lost_process_asked_for_is_asked_for_again() {
    let mut s = working();
    s.asks(QuestionKind::Unknown, "press a key").recovers().brief_written().reads_open();
    assert_eq!(Snapshot::of(&s.m).asked(), None, "a fresh session may not be asked that again");
    s.weighs(true).waits_for("starting");
    s.replies(20_000).asks(QuestionKind::Unknown, "press a key");
    assert!(s.told(is_needs_person));
}

// ---- floods --------------------------------------------------------------------------

#[test]
fn much_memory_is_handed_over_and_too_much_ends_the_session_at_once() {
    let mut s = working();
    let (soft, hard) = (s.m.params.tree_memory_soft_mb, s.m.params.tree_memory_hard_mb);
    s.takes(soft - 1, 0, 0).stands_in("working");
    s.takes(soft, 0, 0).stands_in("checkpointing").checkpoints().exits();
    assert_eq!(s.reason(), Some(EndReason::Memory));
    s.reads_open().weighs(true).stands_in("starting");
    s.replies(20_000).takes(hard, 0, 0).stands_in("ending");
    assert!(s.set_for(Timer::Exit).expect("set") <= 2_000);
    s.takes(hard, 0, 0).stands_in("ending");
    assert_eq!(s.failures(Class::OutOfMemory), 1);
    let view = Snapshot::of(&s.m);
    let noted: Vec<_> = view.noted().collect();
    assert_eq!(noted.iter().map(|(cycle, _)| *cycle).collect::<Vec<_>>(), [1, 2]);
    assert!(noted[1].1.contains(&format!("{hard} MB of memory")), "{noted:?}");
    is_followed(&mut s, true).stands_in("between").deadline(Timer::Backoff);
    s.stands_in("starting");
    assert!(s.prompt().contains("too much memory"), "{}", s.prompt());
}

#[test]
fn a_session_the_kernel_ended_for_memory_is_followed_by_one_that_is_told() {
    let mut s = working();
    s.report(SessionReport::Exited {
        exit: Exit::Signal(9),
        killed: 3,
        survivors: 0,
        screen: String::new(),
        out_of_memory: Some("oom_kill rose by 1".into()),
    });
    assert!(s.told(|n| matches!(n, Notice::Warning { text } if text.contains("oom_kill"))));
    s.brief_written().reads_open().weighs(true).deadline(Timer::Backoff);
    assert!(s.prompt().contains("too much memory"));
    assert_eq!((s.failures(Class::OutOfMemory), s.failures(Class::Crash)), (1, 0));
}

fn spends(s: &mut Story, input: u64, cost_usd: f64) -> &mut Story {
    let tokens = Tokens { input, ..Tokens::default() };
    s.report(SessionReport::Spent {
        spend: Spend { tokens, cost_usd, responses: 1, ..Spend::default() },
    })
}

/// The tree is ended within ten seconds, whatever state it was in, and the run
/// with it.
fn is_breached(place: &str, mut s: Story, which: Budget) {
    let begun = s.now();
    s.stands_in("ending");
    assert!(s.set_for(Timer::Exit).is_none_or(|ms| ms <= 2_000), "{place}: {:?}", s.last);
    s.sits_for(10 * SECOND);
    assert!(
        s.count(|a| *a == Action::EndSurely) >= 1 && s.now().ms_since(begun) <= 10 * SECOND,
        "{place}"
    );
    s.exits();
    if s.between() == Some(&Between::Keeping) {
        s.kept();
    }
    if s.between() == Some(&Between::Briefing) {
        s.brief_written();
    }
    if !s.is("finished") {
        s.reads_open().weighs(false);
    }
    s.ends_with(&Outcome::Budget { which }, 20);
}

#[test]
fn a_flood_ends_the_tree_within_ten_seconds_in_every_state() {
    for at in 0..places().len() {
        for kind in 0..5 {
            let (place, mut s) = places().swap_remove(at);
            if !s.m.is_alive() || place.starts_with("ending") {
                continue;
            }
            s.m.params.tokens_per_minute = 1_000_000;
            s.m.params.cost_usd_per_hour = 20.0;
            let which = match kind {
                0 => {
                    s.takes(1, s.m.params.max_subagents + 1, 0);
                    Budget::Subagents
                }
                1 => {
                    s.takes(1, 0, s.m.params.scratch_mb + 1);
                    Budget::Scratch
                }
                2 if s.m.verdict.is_none() => {
                    // Over a long silence before it, it would be spread.
                    spends(&mut s, 10, 0.0).passes(61 * SECOND);
                    spends(&mut s, 1_100_000, 0.0);
                    Budget::TokenRate
                }
                3 if s.m.verdict.is_none() => {
                    spends(&mut s, 10, 20.5);
                    Budget::CostRate
                }
                4 => {
                    s.has_written(s.m.params.written_mb + 1);
                    Budget::Written
                }
                _ => continue,
            };
            is_breached(place, s, which);
        }
    }
}

#[test]
fn what_stays_within_its_rates_goes_on() {
    let mut s = working_with(|p| {
        p.tokens_per_minute = 1_000_000;
        p.cost_usd_per_hour = 20.0;
    });
    for minute in 1..=180_u64 {
        spends(&mut s, minute * 990_000, minute as f64 * 0.3).stands_in("working");
        s.takes(1, s.m.params.max_subagents, s.m.params.scratch_mb).stands_in("working");
        s.has_written(s.m.params.written_mb).stands_in("working");
        s.shows(Sign::Transcript).sits_for(MINUTE);
    }
}

#[test]
fn the_floor_of_a_disk_goes_by_its_size_unless_it_was_set() {
    let looks = |set_mb, size_mb, free_mb| {
        let mut s = working_with(|p| p.disk_floor_mb = set_mb);
        let room = DiskRoom { free_mb, size_mb, place: "/state".into() };
        s.event(Event::Disks { rooms: vec![room] });
        s.is("ending")
    };
    assert!(looks(0, 500_000, 1_023) && !looks(0, 500_000, 1_024));
    assert!(looks(0, 200, 9) && !looks(0, 200, 10));
    assert!(looks(5_000, 6_000, 4_999) && !looks(5_000, 6_000, 5_000));
}

#[test]
fn a_full_disk_ends_the_run_in_every_state_and_launches_nothing() {
    for (place, mut s) in places().into_iter().filter(|(_, s)| !s.is("finished")) {
        let launched = s.launched();
        s.has_free(s.m.params.disk_floor_mb);
        assert!(!matches!(s.m.verdict, Some(Outcome::Disk { .. })), "{place}: at the floor");
        if place == "ending, task done" {
            continue;
        }
        s.has_free(10).has_free(9).silence();
        // A session that cannot even be killed needs a person, whatever else.
        let ended = code(&s);
        assert!(
            ended == Some(51) || s.reason().is_none() || ended == Some(10),
            "{place}: {ended:?}"
        );
        assert_eq!(s.launched(), launched, "{place}");
        let looks = launched + usize::from(place == "between, preparing");
        assert_eq!(s.count(|a| matches!(a, Action::Prepare)), looks, "{place}");
    }
    for lead in [asked(), working(), story().and(|s| s.launches())] {
        let mut s = lead;
        s.has_free(10);
        is_over(&mut s);
        assert_eq!(code(&s), Some(51));
        let Some(Outcome::Disk { why }) = s.m.outcome() else { panic!() };
        assert!(why.contains("10 MB are free at /state"), "{why}");
    }
}

#[test]
fn a_compaction_that_was_held_is_answered_with_a_checkpoint() {
    let mut s = working();
    s.report(SessionReport::CompactionHeld).stands_in("checkpointing");
    let asked =
        |n: &Notice| matches!(n, Notice::CheckpointRequested { reason: EndReason::Compaction, .. });
    assert!(s.told(asked));
    s.report(SessionReport::CompactionHeld);
    assert_eq!(s.times_told(asked), 1);
    s.checkpoints().exits();
    assert_eq!(s.reason(), Some(EndReason::Compaction));
}

// ---- before a launch -----------------------------------------------------------------

fn refusal(class: Class) -> Option<Refusal> {
    Some(Refusal { class, why: "it is not as it was".into() })
}

/// Stands before the first launch; the test answers the look.
fn looking() -> Story {
    let mut s = story();
    s.looks().reads_open().weighs(true).stands_in("between");
    assert!(s.did(&Action::Prepare));
    s
}

#[test]
fn a_program_that_comes_back_is_waited_for() {
    let mut s = looking();
    for n in 1..MISSING_LOOKS {
        s.prepared(refusal(Class::CliMissing)).stands_in("between");
        assert!(s.told(|t| matches!(t, Notice::Retrying { attempt, .. } if *attempt == n)));
        s.deadline(Timer::Backoff);
        assert!(s.did(&Action::Prepare));
    }
    s.prepared(None).stands_in("starting");
    assert_eq!(s.failures(Class::CliMissing), MISSING_LOOKS - 1);
}

#[test]
fn a_program_that_never_comes_back_needs_a_person() {
    let mut s = looking();
    for _ in 1..MISSING_LOOKS {
        s.prepared(refusal(Class::CliMissing)).deadline(Timer::Backoff);
    }
    s.prepared(refusal(Class::CliMissing)).needs_person("it is not as it was");
    assert_eq!(s.launched(), 0);
    assert_eq!(s.count(|a| *a == Action::Prepare) as u32, MISSING_LOOKS);
    assert_eq!(s.times_told(is_needs_person), 1);
}

#[test]
fn changed_settings_and_an_unreadable_configuration_launch_nothing() {
    for class in [Class::SettingsChanged, Class::ConfigCorrupt] {
        let mut s = looking();
        s.prepared(refusal(class)).needs_person("it is not as it was");
        assert_eq!((s.launched(), s.failures(class)), (0, 1));
        assert_eq!(s.times_told(is_needs_person), 1);
    }
}

#[test]
fn settings_changed_by_the_live_session_end_it_unless_that_is_allowed() {
    let changed = |allowed| SessionReport::SettingsChanged { why: "hooks".into(), allowed };
    let mut s = working();
    s.report(changed(true)).stands_in("working");
    assert_eq!(s.times_told(|n| matches!(n, Notice::Warning { .. })), 1);
    assert_eq!(s.failures(Class::SettingsChanged), 1);
    s.report(changed(false)).stands_in("ending");
    is_over(&mut s);
    s.needs_person("hooks");
}

#[test]
fn one_change_of_settings_that_several_looks_find_counts_once() {
    let changed = |why: &str| SessionReport::SettingsChanged { why: why.into(), allowed: false };
    let is_warning = |n: &Notice| matches!(n, Notice::Warning { .. });
    let mut s = working();
    s.report(changed("hooks")).stands_in("ending");
    // The last look at what the session left.
    s.report(changed("hooks"));
    assert_eq!((s.failures(Class::SettingsChanged), s.times_told(is_warning)), (1, 0));
    s.report(changed("hooks and env"));
    assert_eq!((s.failures(Class::SettingsChanged), s.times_told(is_warning)), (2, 1));
    is_over(&mut s);
    // The last look first, and the one before the next launch.
    let mut s = working();
    s.looks().is_full().checkpoints().report(changed("hooks"));
    s.exits().reads_open().weighs(true);
    let refused = Refusal { class: Class::SettingsChanged, why: "hooks".into() };
    s.prepared(Some(refused)).needs_person("hooks");
    assert_eq!((s.failures(Class::SettingsChanged), s.times_told(is_warning)), (1, 1));
}

#[test]
fn warnings_before_a_launch_are_told_and_the_run_goes_on() {
    let mut s = looking();
    let warnings = vec![
        Warning { class: Some(Class::CliUpdated), text: "another file".into() },
        Warning { class: None, text: "a proxy is set".into() },
    ];
    s.event(Event::Prepared { refusal: None, warnings }).stands_in("starting");
    assert_eq!(s.times_told(|n| matches!(n, Notice::Warning { .. })), 2);
    assert_eq!(s.failures(Class::CliUpdated), 1);
}

#[test]
fn a_pause_during_the_look_holds_the_launch() {
    let mut s = looking();
    s.person(Command::Pause).prepared(None);
    assert_eq!((s.between(), s.launched()), (Some(&Between::Held), 0));
    s.person(Command::Resume).reads_open().weighs(true);
    assert!(s.did(&Action::Prepare), "what was seen before the pause is old");
    s.prepared(None).stands_in("starting");
}

#[test]
fn a_clock_set_back_during_the_look_makes_the_limit_hold_again() {
    let mut s = working();
    s.looks().is_limited(hours(1)).exits().brief_written().reads_open().weighs(true);
    s.deadline(Timer::Backoff);
    while s.between() != Some(&Between::Preparing) {
        s.deadline(Timer::Backoff);
    }
    s.clock_is_moved(hours(-1)).prepared(None).stands_in("between");
    assert_eq!(s.launched(), 1);
    assert!(matches!(s.between(), Some(Between::Backoff { until_unix_ms: Some(_) })));
}

#[test]
fn a_stop_during_the_look_ends_the_run_and_a_look_that_never_ends_needs_a_person() {
    let mut s = looking();
    s.signal(15);
    s.ends_with(&STOPPED, 143);
    let mut s = looking();
    s.deadline(Timer::Answer).needs_person("took longer");
    assert_eq!(s.launched(), 0);
}

#[test]
fn a_tree_is_kept_before_each_launch_and_booked_to_its_own_cycle() {
    let mut s = story();
    s.launches();
    assert_eq!(s.count(|a| *a == Action::KeepTree { cycle: 1 }), 1);
    s.is_full().checkpoints().exits().reads_open().weighs(true).stands_in("starting");
    let keep = s.last.iter().position(|a| *a == Action::KeepTree { cycle: 2 });
    let launch = s.last.iter().position(|a| matches!(a, Action::Launch { .. }));
    assert!(keep.is_some() && keep < launch, "{:?}", s.last);
    let kept = |cycle: u32| Event::TreeKept {
        cycle,
        git_ref: Some(format!("refs/longhaul/{cycle}")),
        commit: Some(format!("{cycle}{cycle}")),
        trouble: None,
    };
    // The one of the first cycle comes late.
    s.event(kept(2)).event(kept(1));
    let refs: Vec<_> = s.m.cycles().map(|c| c.git_ref.clone().unwrap_or_default()).collect();
    assert_eq!(refs, ["refs/longhaul/1", "refs/longhaul/2"]);
    let commits: Vec<_> = s.m.cycles().map(|c| c.git_commit.clone().unwrap_or_default()).collect();
    assert_eq!(commits, ["11", "22"]);
    let trouble = Some("git is broken".to_owned());
    s.event(Event::TreeKept { cycle: 2, git_ref: None, commit: None, trouble });
    assert!(s.told(|n| matches!(n, Notice::Warning { text } if text == "git is broken")));
    let gone = Event::TreeKept { cycle: 2, git_ref: None, commit: None, trouble: None };
    s.event(gone.clone()).event(gone);
    let view = Snapshot::of(&s.m);
    let noted: Vec<_> = view.noted().collect();
    assert_eq!(noted[0], (2, "git is broken"));
    assert!(noted[1].1.contains("no git repository any more"), "{noted:?}");
    assert_eq!(noted.len(), 2, "the same once: {noted:?}");
}

// ---- what is seen in the morning -----------------------------------------------------

#[test]
fn failures_pauses_and_waits_stand_in_the_snapshot() {
    let mut s = working();
    s.overloads().deadline(Timer::Cool).arrives(false).replies(21_000);
    s.is_limited(hours(1)).waits_for("working").arrives(false).replies(22_000);
    s.is_limited(hours(2)).waits_for("working").arrives(false).replies(23_000);
    let snapshot = Snapshot::of(&s.m);
    let failures: Vec<_> = snapshot.failures().map(|(class, f)| (class, f.count)).collect();
    assert_eq!(failures, [(Class::UsageLimit, 2), (Class::Overloaded, 1)]);
    let paused =
        snapshot.failures().find(|(c, _)| *c == Class::Overloaded).map(|(_, f)| f.paused_ms);
    assert_eq!(paused, Some(Class::Overloaded.pause_ms(s.m.run_id(), 1)));
    assert_eq!(snapshot.waits().len(), 2);
    for wait in snapshot.waits() {
        let ended = wait.ended.expect("over");
        assert!(
            ended.unix_ms >= wait.until_unix_ms && ended.unix_ms <= wait.until_unix_ms + 60_000
        );
    }
}

#[test]
fn a_pause_after_a_failure_is_no_wait_and_a_wait_is_no_progress() {
    let mut s = story_with(|p| p.no_progress_cycles = 2);
    s.launches().replies(20_000).is_limited(hours(2)).waits_for("working");
    s.arrives(false).replies(21_000).is_nudged().stands_in("working");
    assert_eq!(s.m.no_progress_in_a_row, 0);
    assert!(s.m.live().is_some_and(|c| !c.progress));
}

#[test]
fn that_no_hook_calls_is_told_once_in_a_run() {
    let mut s = working();
    s.report(SessionReport::HooksSilent).stands_in("working");
    let is_it = |n: &Notice| matches!(n, Notice::Warning { text } if text.contains("command"));
    assert!(s.told(is_it));
    s.report(SessionReport::HooksSilent);
    assert_eq!(s.times_told(is_it), 1);
}

#[test]
fn a_reply_that_was_cut_off_is_no_dead_connection() {
    let cut = |text: &str| SessionReport::TurnEnded {
        end: TurnEnd::ApiError {
            error: "max_output_tokens".into(),
            status: None,
            text: text.into(),
            limit: None,
        },
    };
    let mut s = working();
    s.report(cut("API Error: Claude's response exceeded the 32000 output token maximum."));
    s.stands_in("cooling");
    assert_eq!((s.failures(Class::OutputLimit), s.failures(Class::Connection)), (1, 0));
    let mut s = working();
    s.report(cut("API Error: The model has reached its context window limit."));
    s.stands_in("ending");
    assert_eq!((s.failures(Class::ContextFull), s.failures(Class::OutputLimit)), (1, 0));
}

#[test]
fn a_row_without_a_time_takes_that_of_the_statusline() {
    let mut s = working();
    s.has_used(99.4, hours(3)).is_limited_for_unknown_time().stands_in("cooling");
    let before = s.now();
    s.waits_for("working");
    assert!(s.now().ms_since(before) >= 3 * HOUR, "{}", s.now().ms_since(before));
}
