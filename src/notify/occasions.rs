//! Which events of a run are worth telling a person, and in which words. Pure.

use serde::{Serialize, Serializer};

use super::Notification;
use crate::clock::Timestamp;
use crate::config::Occasion;
use crate::cycle::budget::Scope;
use crate::cycle::state::Budget;
use crate::cycle::{Notice, Outcome, Snapshot};
use crate::error::{Error, ErrorKind};
use crate::report::words;
use crate::text;

/// Percent of a budget at which a person hears of it, descending.
const MARKS: [u16; 3] = [100, 80, 50];

/// What a notice is to a person who is not watching: `None` for most of them,
/// and for an end that the person brought about.
pub fn from_notice(at: Timestamp, notice: &Notice, view: &Snapshot<'_>) -> Option<Notification> {
    let new = |occasion, text| Notification::new(occasion, text, at, view.cycle());
    match notice {
        Notice::RunFinished { outcome } => {
            let occasion = match outcome {
                Outcome::Done => Occasion::Finished,
                // Told when it was known, with the screen.
                Outcome::NeedsPerson { .. } => return None,
                Outcome::Budget { .. }
                | Outcome::NoProgress
                | Outcome::Authentication { .. }
                | Outcome::LimitPast { .. }
                | Outcome::Disk { .. } => Occasion::Failed,
                Outcome::Stopped { .. } => return None,
            };
            let text = format!("{} ({})", outcome.sentence(), totals(view));
            Some(Notification { exit_code: Some(outcome.exit_code()), ..new(occasion, text) })
        }
        Notice::NeedsPerson { reason, screen } => {
            let text = format!("a person is needed: {reason} ({})", totals(view));
            let screen = Some(screen.clone()).filter(|s| !s.trim().is_empty());
            let exit_code = Some(ErrorKind::NeedsPerson.exit_code());
            Some(Notification { screen, exit_code, ..new(Occasion::NeedsPerson, text) })
        }
        // A wait whose end has moved was told when it began.
        Notice::Waiting { .. } if view.waits().last().is_some_and(|w| w.since != at) => None,
        Notice::Waiting { reason, until_unix_ms } => {
            let left_ms = u64::try_from(until_unix_ms.saturating_sub(at.unix_ms)).unwrap_or(0);
            let limit = words::limit(reason);
            let text =
                format!("{limit} is reached; waiting {} and then going on", text::span(left_ms));
            let until_unix_ms = Some(*until_unix_ms);
            Some(Notification { until_unix_ms, ..new(Occasion::Waiting, text) })
        }
        Notice::Budget(mark) if mark.is_highest => Some(Notification {
            budget: Some(BudgetMark {
                budget: Marked::Warning(mark.scope),
                percent: mark.percent,
                spent: text::to_micros(mark.spent.usd),
                limit: mark.budget_usd,
            }),
            ..new(Occasion::Budget, mark.sentence())
        }),
        // A higher one, reached by the same reply, is told.
        Notice::Budget(_)
        | Notice::RunStarted
        | Notice::RunResumed { .. }
        | Notice::SessionStarted { .. }
        | Notice::Context(_)
        | Notice::ThresholdReached(_)
        | Notice::CheckpointRequested { .. }
        | Notice::CheckpointDelivered { .. }
        | Notice::CheckpointVerified { .. }
        | Notice::CheckpointFailed { .. }
        | Notice::HandoffWritten { .. }
        | Notice::Nudged { .. }
        | Notice::Tasks { .. }
        | Notice::Verified { .. }
        | Notice::TaskStarted { .. }
        | Notice::TaskFinished { .. }
        | Notice::Activity { .. }
        | Notice::Spent { .. }
        | Notice::SessionEnded { .. }
        | Notice::Warning { .. }
        | Notice::Retrying { .. }
        | Notice::Dialog { .. }
        | Notice::Hang { .. }
        | Notice::Obeyed { .. } => None,
    }
}

/// longhaul itself cannot go on (a full disk, a fault of its own).
pub fn from_error(at: Timestamp, err: &Error, view: &Snapshot<'_>) -> Notification {
    let text = format!("longhaul gave up: {err} ({})", totals(view));
    let exit_code = Some(err.kind().exit_code());
    Notification { exit_code, ..Notification::new(Occasion::Failed, text, at, view.cycle()) }
}

fn totals(view: &Snapshot<'_>) -> String {
    let (tasks, sessions) = (view.tasks(), u64::from(view.cycle()));
    format!(
        "{} of {} done, {}, {}",
        tasks.done,
        text::count(u64::from(tasks.total), "task", "tasks"),
        text::count(sessions, "session", "sessions"),
        text::usd(view.cost_usd())
    )
}

/// A budget that has passed a mark.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BudgetMark {
    /// Which; the name of its key in JSON.
    #[serde(serialize_with = "by_key", rename = "key")]
    pub budget: Marked,
    /// The mark: of a limit 50, 80 or 100.
    pub percent: u16,
    /// Spent: sessions ended, hours, tokens or dollars.
    pub spent: f64,
    /// The limit, in the same unit.
    pub limit: f64,
}

/// What a mark belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// What ends the run when it is spent: `[limits]`.
    Limit(Budget),
    /// What only warns: `[budget]`.
    Warning(Scope),
}

fn by_key<S: Serializer>(marked: &Marked, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match marked {
        Marked::Limit(budget) => budget.key(),
        Marked::Warning(scope) => scope.key(),
    })
}

impl BudgetMark {
    /// The mark of a limit in words; one that only warns has its own.
    fn sentence(&self, budget: Budget) -> String {
        let Self { percent, spent, limit, .. } = self;
        let amounts = match budget {
            Budget::Sessions => format!("{spent:.0} of {limit:.0} sessions"),
            Budget::Hours => format!("{spent:.1} of {limit:.1} hours"),
            Budget::Tokens => {
                format!("{} of {} tokens", text::tokens(*spent as u64), text::tokens(*limit as u64))
            }
            Budget::Cost | Budget::Task => {
                format!("{} of {}", text::usd(*spent), text::usd(*limit))
            }
            // Not spent but kept to, or not.
            Budget::TokenRate
            | Budget::CostRate
            | Budget::Subagents
            | Budget::Scratch
            | Budget::Written
            | Budget::Quota => format!("{spent:.0} of {limit:.0}"),
        };
        format!("{percent} % of {} is spent: {amounts}", budget.key())
    }
}

/// The highest mark each budget of a run has passed: each is told once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BudgetMarks {
    passed: [u16; 5],
    /// The task of the queue that they belong to, by its number in the run.
    task: usize,
}

impl BudgetMarks {
    /// Marks that stand now are known: after an interruption they are not told again.
    pub fn catch_up(&mut self, at: Timestamp, view: &Snapshot<'_>) {
        self.look(at, view);
    }

    /// What is to be told about the budgets now.
    pub fn look(&mut self, at: Timestamp, view: &Snapshot<'_>) -> Vec<Notification> {
        let params = view.params();
        let live = u32::from(view.alive());
        let used = view.measured(at);
        if std::mem::replace(&mut self.task, view.assignments().len()) != self.task {
            self.passed = Default::default();
        }
        let own_usd = view.assignments().last().and_then(|task| task.given.budget_usd);
        let hours = |ms: u64| ms as f64 / 3_600_000.0;
        let now = [
            // A session is spent when it is over: one of one is not all at its start.
            (
                Budget::Sessions,
                f64::from(used.sessions.saturating_sub(live)),
                f64::from(params.max_sessions),
            ),
            (Budget::Hours, hours(used.elapsed_ms), hours(params.max_ms)),
            (Budget::Tokens, used.tokens.total() as f64, params.max_tokens as f64),
            // As the budget counts: what has no price at the dearest one.
            (Budget::Cost, used.cost_ceiling_usd, params.max_cost_usd),
            (Budget::Task, used.cost_ceiling_usd, own_usd.unwrap_or(0.0)),
        ];
        now.into_iter()
            .filter_map(|(budget, spent, limit)| Some((budget, self.note(budget, spent, limit)?)))
            .map(|(budget, mark)| Notification {
                budget: Some(mark),
                ..Notification::new(Occasion::Budget, mark.sentence(budget), at, view.cycle())
            })
            .collect()
    }

    /// The highest mark that is passed now and was not before.
    pub fn note(&mut self, budget: Budget, spent: f64, limit: f64) -> Option<BudgetMark> {
        let seat = &mut self.passed[match budget {
            Budget::Sessions => 0,
            Budget::Hours => 1,
            Budget::Tokens => 2,
            Budget::Cost => 3,
            Budget::Task => 4,
            Budget::TokenRate
            | Budget::CostRate
            | Budget::Subagents
            | Budget::Scratch
            | Budget::Written
            | Budget::Quota => return None,
        }];
        let percent = MARKS.into_iter().find(|mark| spent >= limit * f64::from(*mark) / 100.0)?;
        // A limit that is no limit, or spending that is not known, passes nothing.
        if percent <= *seat || limit.is_nan() || limit <= 0.0 {
            return None;
        }
        *seat = percent;
        Some(BudgetMark { budget: Marked::Limit(budget), percent, spent, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::Params;
    use crate::cycle::event::{Exit, SessionReport, UsageLimit};
    use crate::report::staged::{self, Stage};
    use proptest::prelude::*;

    /// Everything a staged run would have told, in order.
    fn told(stage: &Stage) -> Vec<Notification> {
        let mut marks = BudgetMarks::default();
        let mut all = Vec::new();
        for (at, notice, machine) in &stage.told {
            let view = Snapshot::of(machine);
            all.extend(marks.look(*at, &view));
            all.extend(from_notice(*at, notice, &view));
        }
        all
    }

    fn shown(stage: &Stage) -> Vec<(&'static str, String, Option<u8>)> {
        told(stage).into_iter().map(|n| (n.occasion.as_str(), n.text, n.exit_code)).collect()
    }

    fn finished(outcome: Outcome) -> Option<Notification> {
        let stage = staged::good_night();
        from_notice(stage.now, &Notice::RunFinished { outcome }, &stage.view())
    }

    #[test]
    fn a_good_night_says_once_that_it_is_done() {
        assert_eq!(
            shown(&staged::good_night()),
            [(
                "finished",
                "the task file says done (12 of 12 tasks done, 3 sessions, $10.46)".to_owned(),
                Some(0)
            )]
        );
    }

    #[test]
    fn each_end_has_its_occasion_and_one_that_was_asked_for_none() {
        let occasion = |outcome| finished(outcome).map(|n| (n.occasion, n.exit_code.unwrap()));
        let why = || "it asks something".to_owned();
        assert_eq!(occasion(Outcome::Done), Some((Occasion::Finished, 0)));
        assert_eq!(occasion(Outcome::NeedsPerson { why: why() }), None, "told before, by itself");
        assert_eq!(
            occasion(Outcome::LimitPast { why: why(), resets_unix_ms: None }),
            Some((Occasion::Failed, 31))
        );
        assert_eq!(occasion(Outcome::Disk { why: why() }), Some((Occasion::Failed, 51)));
        assert_eq!(occasion(Outcome::Budget { which: Budget::Cost }), Some((Occasion::Failed, 20)));
        assert_eq!(occasion(Outcome::NoProgress), Some((Occasion::Failed, 21)));
        assert_eq!(occasion(Outcome::Authentication { why: why() }), Some((Occasion::Failed, 30)));
        for signal in [1, 2, 15] {
            assert_eq!(occasion(Outcome::Stopped { signal }), None);
        }
        let stage = staged::good_night();
        let asks = Notice::NeedsPerson { reason: why(), screen: "> 1. Yes".into() };
        let asks = from_notice(stage.now, &asks, &stage.view()).unwrap();
        assert!(asks.text.starts_with("a person is needed: it asks something ("), "{}", asks.text);
        assert_eq!((asks.exit_code, asks.screen.as_deref()), (Some(10), Some("> 1. Yes")));
    }

    #[test]
    fn giving_up_is_a_failure_with_its_code() {
        let stage = staged::mid_night();
        let err = Error::new(crate::ErrorKind::Disk, "the journal cannot be written");
        let told = from_error(stage.now, &err, &stage.view());
        assert_eq!((told.occasion, told.exit_code), (Occasion::Failed, Some(51)));
        assert!(told.text.contains("the journal cannot be written"), "{}", told.text);
        assert_eq!(told.cycle, 2);
    }

    #[test]
    fn waits_are_told_with_their_end() {
        let stage = staged::mid_night();
        let until_unix_ms = stage.now.unix_ms + 7_500_000;
        let notice = Notice::Waiting { reason: "five_hour".into(), until_unix_ms };
        let told = from_notice(stage.now, &notice, &stage.view()).unwrap();
        assert_eq!(told.occasion, Occasion::Waiting);
        assert_eq!(told.text, "the five-hour limit is reached; waiting 2h 05m and then going on");
        assert_eq!(told.until_unix_ms, Some(stage.now.unix_ms + 7_500_000));
    }

    #[test]
    fn a_wait_whose_end_has_moved_is_no_news() {
        let mut stage = staged::mid_night();
        let limit = |ms: i64| UsageLimit {
            which: "five_hour".into(),
            resets_unix_ms: Some(ms),
            continues: false,
        };
        let resets = stage.now.unix_ms + 7_500_000;
        stage.report(SessionReport::Limited { limit: limit(resets) });
        let notice = Notice::Waiting { reason: "five_hour".into(), until_unix_ms: resets };
        let began = stage.view().waits().last().unwrap().since;
        assert!(from_notice(began, &notice, &stage.view()).is_some());
        assert!(from_notice(began.plus_ms(60_000), &notice, &stage.view()).is_none());
    }

    #[test]
    fn budgets_are_told_at_their_marks_and_not_again_after_a_restart() {
        let params = Params { max_cost_usd: 5.0, max_sessions: 1_000, ..staged::params() };
        let mut stage = Stage::new(params);
        stage.begin(0, 2).session(7, 200_000, 1_000).spend(2.6);
        let cost: Vec<_> = told(&stage)
            .into_iter()
            .filter(|n| n.budget.is_some_and(|b| b.budget == Marked::Limit(Budget::Cost)))
            .collect();
        assert_eq!(cost.len(), 1);
        assert_eq!(cost[0].text, "50 % of limits.max_cost_usd is spent: $2.60 of $5.00");
        assert_eq!(cost[0].occasion, Occasion::Budget);
        let mut after = BudgetMarks::default();
        after.catch_up(stage.now, &stage.view());
        assert_eq!(after.look(stage.now, &stage.view()), []);
        stage.spend(4.1);
        let texts: Vec<_> = after.look(stage.now, &stage.view());
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert_eq!(texts[0].budget.unwrap().percent, 80);
    }

    #[test]
    fn a_session_counts_when_it_is_over() {
        let mut stage = Stage::new(Params { max_sessions: 2, ..staged::params() });
        stage.begin(0, 2).session(7, 200_000, 1_000);
        let mut marks = BudgetMarks::default();
        assert_eq!(marks.look(stage.now, &stage.view()), []);
        stage.exited(Exit::Code(1), 0, 0);
        let told = marks.look(stage.now, &stage.view());
        assert_eq!(told[0].text, "50 % of limits.max_sessions is spent: 1 of 2 sessions");
    }

    #[test]
    fn a_jump_over_several_marks_is_told_as_the_highest() {
        let mut marks = BudgetMarks::default();
        assert_eq!(marks.note(Budget::Tokens, 49.9, 100.0), None);
        assert_eq!(marks.note(Budget::Tokens, 93.0, 100.0).unwrap().percent, 80);
        assert_eq!(marks.note(Budget::Tokens, 60.0, 100.0), None);
        assert_eq!(marks.note(Budget::Tokens, 400.0, 100.0).unwrap().percent, 100);
        assert_eq!(marks.note(Budget::Cost, 1.0, 2.0).unwrap().percent, 50, "each for itself");
        for (spent, limit) in [(f64::NAN, 1.0), (1.0, f64::NAN), (0.0, 0.0), (1.0, -1.0)] {
            assert_eq!(BudgetMarks::default().note(Budget::Hours, spent, limit), None);
        }
        let json = serde_json::to_string(&BudgetMarks::default().note(Budget::Cost, 1.0, 2.0));
        assert_eq!(
            json.unwrap(),
            r#"{"key":"limits.max_cost_usd","percent":50,"spent":1.0,"limit":2.0}"#
        );
    }

    proptest! {
        /// Against the plain rule: a mark is told at the first moment at which
        /// what is spent has reached it, unless a higher one is told then.
        #[test]
        fn marks_are_told_once_each_in_rising_order(steps in prop::collection::vec(0.0..30.0_f64, 0..40)) {
            let mut marks = BudgetMarks::default();
            let (mut spent, mut highest) = (0.0, 0);
            for step in steps {
                spent += step;
                let due = MARKS.into_iter().find(|m| spent >= f64::from(*m)).unwrap_or(0);
                let told = marks.note(Budget::Cost, spent, 100.0).map(|m| m.percent);
                prop_assert_eq!(told, (due > highest).then_some(due));
                highest = highest.max(due);
            }
        }
    }
}
