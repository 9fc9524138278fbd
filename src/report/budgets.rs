//! How far budgets are spent, for status and display.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::cycle::Snapshot;
use crate::cycle::budget::{Scope, Standing};
use crate::text;
use crate::usage::Amount;
use crate::usage::now::Now;

/// From this share of a budget on it is worth a look, percent.
const NEAR_PERCENT: u64 = 80;

/// All budgets of a run. One that is off is told as long as what is spent is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BudgetsView {
    /// The task of the queue in hand, else the run's own.
    pub task: Option<BudgetView>,
    /// Today, of all sessions of this machine; null without a budget of day or month.
    pub day: Option<BudgetView>,
    /// This month, of the same.
    pub month: Option<BudgetView>,
}

/// How far one is spent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BudgetView {
    /// The task of the queue, the day, the month; null for the run's own task.
    pub period: Option<String>,
    /// Dollars; null: not known now.
    pub spent_usd: Option<f64>,
    /// The part of them for models without a known price, at the dearest one.
    pub unpriced_usd: Option<f64>,
    /// Dollars; null: off.
    pub budget_usd: Option<f64>,
    /// Whole percent spent.
    pub percent: Option<u64>,
}

impl BudgetsView {
    /// Those of a run at `now`.
    pub fn of(view: &Snapshot<'_>, now: Timestamp) -> Self {
        let [task, day, month] = view.budgets(now);
        let seen = |standing: Standing| {
            let is_told = standing.budget_usd.is_some() || standing.spent.is_some();
            is_told.then(|| BudgetView::of(standing))
        };
        Self { task: seen(task), day: seen(day), month: seen(month) }
    }

    /// Those of a run that is over, and whether they are of now: day and month as `read`
    /// has them, if that is of the day of `now_unix_ms`. What the run saw itself of that
    /// day may be more than was read since.
    pub fn renewed(mut self, read: Option<&Now>, now_unix_ms: i64) -> (Self, bool) {
        let Some((read, spent)) = read.and_then(|read| Some((read, read.day(now_unix_ms)?))) else {
            return (self, false);
        };
        if let Some(day) = &mut self.day {
            day.renew(&read.day, spent);
        }
        if let (Some(view), Some(month)) = (&mut self.month, read.day.get(..7)) {
            view.renew(month, read.spent.month);
        }
        (self, true)
    }

    fn all(&self) -> impl Iterator<Item = (Scope, &BudgetView)> {
        let views = [&self.task, &self.day, &self.month];
        Scope::ALL.into_iter().zip(views).filter_map(|(scope, view)| Some((scope, view.as_ref()?)))
    }

    /// `task $1.20 of $5.00 (24 %) · today $8.10 of $10.00 (81 %)`; `None` where the
    /// person has set no budget.
    pub fn words(&self) -> Option<String> {
        self.all().find(|(_, view)| view.budget_usd.is_some())?;
        let part = |(scope, view): (Scope, &BudgetView)| {
            // The task's own figure stands elsewhere.
            (scope != Scope::Task || view.budget_usd.is_some()).then(|| view.words(scope))
        };
        let parts: Vec<String> = self.all().filter_map(part).collect();
        Some(parts.join(" · "))
    }

    /// The greatest percentage.
    pub fn worst_percent(&self) -> u64 {
        self.all().filter_map(|(_, view)| view.percent).max().unwrap_or(0)
    }

    /// Is one of them nearly spent?
    pub fn is_near(&self) -> bool {
        self.worst_percent() >= NEAR_PERCENT
    }
}

impl BudgetView {
    fn of(standing: Standing) -> Self {
        Self {
            percent: standing.percent(),
            spent_usd: standing.spent.map(|spent| text::to_micros(spent.usd)),
            unpriced_usd: standing.spent.map(|spent| text::to_micros(spent.unpriced_usd)),
            budget_usd: standing.budget_usd,
            period: standing.period,
        }
    }

    fn renew(&mut self, period: &str, read: Amount) {
        let is_same = self.period.as_deref() == Some(period);
        let usd = text::to_micros(read.bound_usd());
        if is_same && self.spent_usd.is_some_and(|spent| spent >= usd) {
            return;
        }
        self.period = Some(period.to_owned());
        self.spent_usd = Some(usd);
        self.unpriced_usd = Some(text::to_micros(read.unpriced_bound_usd));
        self.percent = self.budget_usd.map(|budget| (usd * 100.0 / budget).floor() as u64);
    }

    fn words(&self, scope: Scope) -> String {
        let name = match scope {
            Scope::Task => "task",
            Scope::Day => "today",
            Scope::Month => "month",
        };
        let mut words = match self.spent_usd {
            Some(usd) => format!("{name} {}", text::usd(usd)),
            None => format!("{name} not known"),
        };
        if let Some(usd) = self.budget_usd {
            words.push_str(&format!(" of {}", text::usd(usd)));
        }
        if let Some(percent) = self.percent {
            words.push_str(&format!(" ({percent} %)"));
        }
        if let Some(usd) = self.unpriced_usd.filter(|usd| *usd > 0.0) {
            words.push_str(&format!(", {} of it unpriced", text::usd(usd)));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::budget::{BudgetParams, Money, Reading};
    use crate::cycle::{Event, Params};
    use crate::report::staged::{self, Stage};
    use crate::usage::Spent;

    fn stage(task_usd: f64, day_usd: f64) -> Stage {
        let budget = BudgetParams { task_usd, day_usd, month_usd: 0.0, warn_percent: vec![50] };
        let mut stage = Stage::new(Params { budget, ..staged::params() });
        stage.begin(0, 2).session(7, 200_000, 1_000).spend(1.2);
        stage
    }

    fn read(stage: &mut Stage, day_usd: f64, unpriced_usd: f64) {
        let reading = Reading {
            day: "2027-01-15".into(),
            day_ends_unix_ms: i64::MAX,
            month_ends_unix_ms: i64::MAX,
            day_spent: Money { usd: day_usd, unpriced_usd },
            month_spent: Money { usd: 90.0, unpriced_usd: 0.0 },
        };
        stage.step(Event::SpendingRead { reading: Some(reading) });
    }

    fn words(stage: &Stage) -> Option<String> {
        BudgetsView::of(&stage.view(), stage.now).words()
    }

    #[test]
    fn each_is_told_with_what_is_known_of_it() {
        let mut stage = stage(5.0, 10.0);
        let unknown = "task $1.20 of $5.00 (24 %) · today not known of $10.00";
        assert_eq!(words(&stage).as_deref(), Some(unknown));
        read(&mut stage, 8.1, 0.5);
        let known = "task $1.20 of $5.00 (24 %) · today $8.10 of $10.00 (81 %), $0.50 of it \
                     unpriced · month $90.00";
        assert_eq!(words(&stage).as_deref(), Some(known));
        let view = BudgetsView::of(&stage.view(), stage.now);
        assert!(view.is_near() && view.worst_percent() == 81);
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["day"]["period"], "2027-01-15");
        assert_eq!(json["month"]["budget_usd"], serde_json::Value::Null);
        assert_eq!(serde_json::from_value::<BudgetsView>(json).unwrap(), view);
    }

    #[test]
    fn after_a_run_the_day_is_as_it_was_read_since() {
        let mut stage = stage(0.0, 10.0);
        read(&mut stage, 8.1, 0.0);
        let ended = BudgetsView::of(&stage.view(), stage.now);
        let amount = |cost_usd| Amount { cost_usd, unpriced_bound_usd: 0.0 };
        let renewed = |day: &str, day_usd: f64, now: i64| {
            let read = Now {
                format: 1,
                at_unix_ms: 0,
                dirs: Vec::new(),
                day: day.into(),
                day_starts_unix_ms: 0,
                day_ends_unix_ms: 1_000,
                month_ends_unix_ms: 1_000,
                spent: Spent { day: amount(day_usd), month: amount(95.0) },
            };
            let (view, is_now) = ended.clone().renewed(Some(&read), now);
            (view.words().unwrap(), is_now)
        };
        let words = |day: &str, is_now| (format!("today {day} · month $95.00"), is_now);
        assert_eq!(renewed("2027-01-15", 757.3, 5), words("$757.30 of $10.00 (7573 %)", true));
        assert_eq!(
            renewed("2027-01-15", 2.0, 5),
            words("$8.10 of $10.00 (81 %)", true),
            "seen more"
        );
        assert_eq!(renewed("2027-01-16", 2.0, 5), words("$2.00 of $10.00 (20 %)", true));
        let old = ("today $8.10 of $10.00 (81 %) · month $90.00".into(), false);
        assert_eq!(renewed("2027-01-15", 9.0, 1_000), old, "of another day");
        assert_eq!(ended.clone().renewed(None, 5), (ended, false));
    }

    #[test]
    fn without_a_budget_there_is_no_line_and_the_task_in_json_all_the_same() {
        let stage = stage(0.0, 0.0);
        assert_eq!(words(&stage), None);
        let view = BudgetsView::of(&stage.view(), stage.now);
        assert_eq!(view.task.unwrap().spent_usd, Some(1.2));
        assert_eq!((view.day, view.month), (None, None));
    }
}
