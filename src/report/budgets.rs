//! How far budgets are spent, for status and display.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::cycle::Snapshot;
use crate::cycle::budget::{Scope, Standing};
use crate::text;

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
    fn without_a_budget_there_is_no_line_and_the_task_in_json_all_the_same() {
        let stage = stage(0.0, 0.0);
        assert_eq!(words(&stage), None);
        let view = BudgetsView::of(&stage.view(), stage.now);
        assert_eq!(view.task.unwrap().spent_usd, Some(1.2));
        assert_eq!((view.day, view.month), (None, None));
    }
}
