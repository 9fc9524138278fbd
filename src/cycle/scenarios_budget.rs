//! What is told of budgets, one behaviour a test.

use super::action::{Action, Notice};
use super::budget::Scope;
use super::event::{Event, SessionReport};
use super::params::Params;
use super::record::Spend;
use super::state::{Budget, Outcome};
use super::story::{Before, Story, queued, story_with, working_with};

fn budget(scope: Scope, usd: f64) -> impl FnOnce(&mut Params) {
    move |p| {
        match scope {
            Scope::Task => p.budget.task_usd = usd,
            Scope::Day => p.budget.day_usd = usd,
            Scope::Month => p.budget.month_usd = usd,
        }
        p.budget.warn_percent = vec![50, 80, 100];
    }
}

/// Scope, period and percent, as told so far; those that people see have a `!`.
fn told(s: &Story) -> Vec<String> {
    let marks = s.all.iter().filter_map(|action| match action {
        Action::Tell(Notice::Budget(mark)) => {
            let period = mark.period.as_deref().unwrap_or("-");
            let seen = if mark.is_highest { "!" } else { "" };
            Some(format!("{:?} {period} {}{seen}", mark.scope, mark.percent))
        }
        _ => None,
    });
    marks.collect()
}

fn spent_usd(s: &Story, scope: Scope) -> Option<f64> {
    let now = s.now();
    let mut standings = s.m.standings(now).into_iter();
    standings.find(|standing| standing.scope == scope)?.spent.map(|spent| spent.usd)
}

#[test]
fn each_mark_of_the_task_is_told_once() {
    let mut s = working_with(budget(Scope::Task, 10.0));
    s.costs(4.99);
    assert_eq!(told(&s), [""; 0]);
    s.costs(5.0).costs(5.1).costs(7.99);
    assert_eq!(told(&s), ["Task - 50!"]);
    s.costs(8.0).costs(10.0).costs(30.0);
    assert_eq!(told(&s), ["Task - 50!", "Task - 80!", "Task - 100!"]);
    assert!(s.m.outcome().is_none() && s.m.is_alive(), "a budget warns and ends nothing");
    assert_eq!(spent_usd(&s, Scope::Task), Some(30.0));
}

#[test]
fn a_jump_over_several_marks_tells_each_and_shows_people_the_highest() {
    let mut s = working_with(budget(Scope::Task, 10.0));
    s.costs(9.0);
    assert_eq!(told(&s), ["Task - 50", "Task - 80!"]);
    let noted: Vec<_> = s.m.noted.iter().map(|noted| noted.text.as_str()).collect();
    let sentence =
        "80 % of the run's budget for its task (budget.task_usd) is spent: $9.00 of $10.00";
    assert_eq!(noted, [sentence], "the report says it once");
}

#[test]
fn what_ends_the_run_comes_after_what_warns() {
    let mut s = working_with(|p| {
        budget(Scope::Task, 5.0)(p);
        p.max_cost_usd = 5.0;
    });
    s.costs(5.0);
    let notices: Vec<_> =
        s.last.iter().filter(|action| matches!(action, Action::Tell(_))).collect();
    let at = |of: fn(&Notice) -> bool| {
        notices.iter().position(|action| matches!(action, Action::Tell(notice) if of(notice)))
    };
    let (mark, end) = (
        at(|n| matches!(n, Notice::Budget(_))).unwrap(),
        at(|n| matches!(n, Notice::Warning { .. })).unwrap(),
    );
    assert!(mark < end, "{notices:?}");
    assert_eq!(s.m.verdict, Some(Outcome::Budget { which: Budget::Cost }));
}

#[test]
fn day_and_month_are_of_all_sessions_and_of_this_one_up_to_now() {
    let mut s = working_with(|p| {
        budget(Scope::Day, 10.0)(p);
        budget(Scope::Month, 100.0)(p);
    });
    s.costs(3.0);
    assert_eq!((spent_usd(&s, Scope::Day), told(&s).len()), (None, 0), "nobody knows yet");
    // The three dollars are among them.
    s.reads_spending("2026-11-21", 4.0, 49.0);
    assert_eq!((spent_usd(&s, Scope::Day), told(&s).len()), (Some(4.0), 0));
    s.costs(4.0);
    assert_eq!(told(&s), ["Day 2026-11-21 50!", "Month 2026-11 50!"]);
    // The next reading has them as well; nothing counts twice.
    s.reads_spending("2026-11-21", 5.0, 50.0);
    assert_eq!((spent_usd(&s, Scope::Day), spent_usd(&s, Scope::Month)), (Some(5.0), Some(50.0)));
    s.reads_spending("2026-11-21", 12.0, 57.0);
    let day = ["Day 2026-11-21 80", "Day 2026-11-21 100!"];
    assert_eq!(told(&s)[2..], day);
}

#[test]
fn at_midnight_the_day_begins_anew_and_the_month_goes_on() {
    let mut s = working_with(|p| {
        budget(Scope::Day, 10.0)(p);
        budget(Scope::Month, 100.0)(p);
    });
    s.reads_spending("2026-11-30", 6.0, 60.0);
    assert_eq!(told(&s), ["Day 2026-11-30 50!", "Month 2026-11 50!"]);
    s.passes(86_400_000).costs(1.0);
    assert_eq!(spent_usd(&s, Scope::Day), None, "yesterday's figure is not today's");
    assert_eq!(spent_usd(&s, Scope::Month), Some(61.0));
    s.reads_spending("2026-12-01", 5.0, 5.0);
    assert_eq!(told(&s)[2..], ["Day 2026-12-01 50!"]);
    s.reads_spending("2026-12-01", 8.0, 50.0);
    assert_eq!(told(&s)[3..], ["Day 2026-12-01 80!", "Month 2026-12 50!"]);
}

#[test]
fn what_cannot_be_read_is_unknown_and_nothing_else() {
    let mut s = working_with(budget(Scope::Day, 10.0));
    s.reads_spending("2026-11-21", 6.0, 6.0);
    let before = s.m.state().clone();
    s.event(Event::SpendingRead { reading: None });
    assert_eq!((spent_usd(&s, Scope::Day), s.last.len()), (None, 0));
    assert_eq!(s.m.state(), &before);
    s.reads_spending("2026-11-21", 7.0, 7.0);
    assert_eq!(told(&s), ["Day 2026-11-21 50!"], "it was told before");
}

#[test]
fn nothing_follows_from_it_wherever_the_run_stands() {
    for (place, mut s) in super::story::places() {
        s.m.params.budget.day_usd = 10.0;
        s.m.params.budget.warn_percent = vec![50];
        let before = (s.m.state().clone(), s.m.epoch);
        s.reads_spending("2026-11-21", 50.0, 50.0);
        assert_eq!((s.m.state().clone(), s.m.epoch), before, "{place}");
        assert!(s.last.iter().all(|action| matches!(action, Action::Tell(_))), "{place}");
    }
}

#[test]
fn a_run_that_is_taken_up_tells_nothing_twice() {
    let mut s = working_with(|p| {
        budget(Scope::Task, 10.0)(p);
        budget(Scope::Day, 10.0)(p);
    });
    s.reads_spending("2026-11-21", 3.5, 3.5).costs(5.0);
    assert_eq!(told(&s), ["Task - 50!", "Day 2026-11-21 50", "Day 2026-11-21 80!"]);
    let spend = Spend { cost_usd: 8.5, responses: 2, ..Spend::default() };
    s.recovers_with(|_| {}, Some(spend));
    // What the lost session spent after the last word of it counts.
    assert_eq!(told(&s)[3..], ["Task - 80!", "Day 2026-11-21 100!"]);
    s.reads_spending("2026-11-21", 14.0, 14.0);
    assert_eq!(told(&s).len(), 5);
}

#[test]
fn a_budget_that_was_changed_meanwhile_is_another_one() {
    let mut s = working_with(budget(Scope::Task, 10.0));
    s.costs(6.0);
    let spend = Spend { cost_usd: 11.0, responses: 2, ..Spend::default() };
    s.recovers_with(|p| p.budget.task_usd = 20.0, Some(spend));
    assert_eq!(told(&s), ["Task - 50!", "Task - 50!"]);
}

#[test]
fn a_task_of_the_queue_is_counted_over_all_its_runs() {
    let mut s = queued();
    s.m.params.budget.task_usd = 10.0;
    s.m.params.budget.warn_percent = vec![50, 80, 100];
    s.costs(5.0);
    assert_eq!(told(&s), ["Task t1 50!"]);
    // The next task of the batch begins with nothing, although the run has spent five;
    // an earlier run of it was told of its six.
    let before = Before { spent_usd: 6.0, told_percent: 50, ..Before::default() };
    s.turn_ends().reads_done_twice().is_given_with(Some("t1"), Some("t2"), before);
    assert_eq!(spent_usd(&s, Scope::Task), Some(6.0));
    s.arrives(false).costs(6.0);
    assert_eq!(told(&s).len(), 1);
    s.costs(7.5);
    assert_eq!(told(&s)[1..], ["Task t2 80!"]);
}

#[test]
fn a_budget_that_earlier_runs_of_the_task_did_not_know_is_told_once() {
    for (told_percent, expected) in
        [(0, &["Task t1 100!"][..]), (80, &["Task t1 100!"]), (100, &[])]
    {
        let mut s = story_with(|p| {
            p.queue = true;
            budget(Scope::Task, 10.0)(p);
        });
        let before = Before { spent_usd: 15.0, told_percent, ..Before::default() };
        s.is_given_with(None, Some("t1"), before);
        assert_eq!(told(&s), expected, "{told_percent} % was told");
        s.reads_open().weighs(true);
        s.report(SessionReport::Spawned { pid: 4711 }).costs(1.0);
        assert_eq!(told(&s), expected, "and not again, nor what is below it");
    }
}

#[test]
fn a_task_without_a_price_goes_on_from_what_earlier_runs_spent_at_the_dearest() {
    let mut s = story_with(|p| {
        p.queue = true;
        budget(Scope::Task, 10.0)(p);
    });
    s.is_given_with(
        None,
        Some("t1"),
        Before { spent_usd: 1.0, unpriced_usd: 3.0, ..Before::default() },
    );
    let spent = s.m.standings(s.now())[0].spent.unwrap();
    assert_eq!((spent.usd, spent.unpriced_usd, told(&s).len()), (4.0, 3.0, 0));
    s.reads_open().weighs(true).report(SessionReport::Spawned { pid: 4711 });
    let spend = Spend { unpriced_ceiling_usd: 4.5, responses: 1, ..Spend::default() };
    s.report(SessionReport::Spent { spend });
    assert_eq!(told(&s), ["Task t1 50", "Task t1 80!"]);
}

#[test]
fn between_two_tasks_of_the_queue_nothing_is_told_of_a_task() {
    let mut s = story_with(|p| {
        p.queue = true;
        budget(Scope::Task, 1.0)(p);
    });
    assert_eq!(spent_usd(&s, Scope::Task), None);
    s.is_given(None, Some("t1"));
    assert_eq!(spent_usd(&s, Scope::Task), Some(0.0));
}

#[test]
fn tokens_without_a_price_count_at_the_dearest_and_this_is_told() {
    let mut s = working_with(budget(Scope::Task, 10.0));
    let spend =
        Spend { cost_usd: 2.0, unpriced_ceiling_usd: 3.5, responses: 1, ..Spend::default() };
    s.report(SessionReport::Spent { spend });
    let Some(Action::Tell(Notice::Budget(mark))) =
        s.all.iter().find(|action| matches!(action, Action::Tell(Notice::Budget(_))))
    else {
        panic!("nothing told")
    };
    assert_eq!((mark.spent.usd, mark.spent.unpriced_usd), (5.5, 3.5));
    let sentence = mark.sentence();
    assert!(
        sentence.ends_with(
            "$5.50 of $10.00 ($3.50 of it for models without a known price, counted at the dearest \
         one)"
        ),
        "{sentence}"
    );
}

#[test]
fn without_marks_or_budgets_nothing_is_told() {
    let mut s = working_with(|_| {});
    s.reads_spending("2026-11-21", 1e6, 1e6).costs(99.0);
    assert_eq!(told(&s), [""; 0]);
    let mut s = working_with(|p| p.budget.day_usd = 1.0);
    s.reads_spending("2026-11-21", 1e6, 1e6);
    assert_eq!(told(&s), [""; 0]);
}
