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
