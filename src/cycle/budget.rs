//! What a person wants to spend on the task, today and this month, what of it is
//! spent, and which of their marks were told.
//!
//! The task is what the run itself counts. Day and month are of all sessions of the
//! machine, as a [`Reading`] from outside told them, and with it whatever this run has
//! spent since: so the newest reply counts at once, however old the reading is.

use serde::{Deserialize, Serialize};

use crate::text;

/// `[budget]`: 0 = off.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BudgetParams {
    /// Dollars for the task of the queue, or of the run.
    pub task_usd: f64,
    /// Dollars for a day of all sessions.
    pub day_usd: f64,
    /// Dollars for a month of all sessions.
    pub month_usd: f64,
    /// Marks that are told, percent, rising.
    pub warn_percent: Vec<u16>,
}

impl BudgetParams {
    /// The budget of a scope, if it has one.
    pub fn of(&self, scope: Scope) -> Option<f64> {
        let usd = match scope {
            Scope::Task => self.task_usd,
            Scope::Day => self.day_usd,
            Scope::Month => self.month_usd,
        };
        (usd > 0.0).then_some(usd)
    }

    /// Does anything need what other sessions spend?
    pub fn needs_reading(&self) -> bool {
        [Scope::Day, Scope::Month].into_iter().any(|scope| self.of(scope).is_some())
    }
}

/// What a budget is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The task of the queue in hand, over all its runs; else the run's own.
    Task,
    /// All sessions of this machine since midnight.
    Day,
    /// All sessions of this machine since midnight of the first.
    Month,
}

impl Scope {
    /// All of them, in the order in which they are told.
    pub const ALL: [Scope; 3] = [Scope::Task, Scope::Day, Scope::Month];

    /// The key that sets its budget.
    pub fn key(self) -> &'static str {
        match self {
            Scope::Task => "budget.task_usd",
            Scope::Day => "budget.day_usd",
            Scope::Month => "budget.month_usd",
        }
    }
}

/// Dollars at list prices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Money {
    /// All of it; tokens of models without a price count at the dearest one known.
    pub usd: f64,
    /// The part of it that those tokens are.
    pub unpriced_usd: f64,
}

impl Money {
    /// What was added since `earlier`. A closing bill may be below what the rows of its
    /// session added up to: nothing is taken back.
    fn since(self, earlier: Money) -> Money {
        Money {
            usd: (self.usd - earlier.usd).max(0.0),
            unpriced_usd: (self.unpriced_usd - earlier.unpriced_usd).max(0.0),
        }
    }

    fn plus(self, other: Money) -> Money {
        Money { usd: self.usd + other.usd, unpriced_usd: self.unpriced_usd + other.unpriced_usd }
    }
}

/// What all sessions of this machine have spent, as a process of ours found it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The day in the time zone of the machine, `2026-11-21`.
    pub day: String,
    /// When it is over, Unix milliseconds.
    pub day_ends_unix_ms: i64,
    /// When its month is over.
    pub month_ends_unix_ms: i64,
    /// Spent on that day.
    pub day_spent: Money,
    /// Spent in that month.
    pub month_spent: Money,
}

/// How far a budget is spent at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// What it is for.
    pub scope: Scope,
    /// The task of the queue, the day, the month; `None` for the run's own task, and
    /// while nothing is known.
    pub period: Option<String>,
    /// Spent, if that is known.
    pub spent: Option<Money>,
    /// The budget, if there is one.
    pub budget_usd: Option<f64>,
}

impl Standing {
    /// Whole percent of the budget that are spent.
    pub fn percent(&self) -> Option<u64> {
        let (spent, budget_usd) = (self.spent?, self.budget_usd?);
        Some((spent.usd * 100.0 / budget_usd).floor() as u64)
    }

    /// The marks that are reached, rising.
    fn reached<'a>(&self, marks: &'a [u16]) -> impl Iterator<Item = u16> + use<'a> {
        let spent = self.spent.zip(self.budget_usd);
        marks.iter().copied().filter(move |percent| {
            spent.is_some_and(|(spent, usd)| spent.usd >= usd * f64::from(*percent) / 100.0)
        })
    }
}

/// A mark of a budget that was reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// What the budget is for.
    pub scope: Scope,
    /// As in [`Standing`].
    pub period: Option<String>,
    /// The mark.
    pub percent: u16,
    /// Spent.
    pub spent: Money,
    /// The budget, dollars.
    pub budget_usd: f64,
    /// No higher mark was reached by the same reply: it says all there is to say.
    pub is_highest: bool,
}

impl Mark {
    /// It in one sentence.
    pub fn sentence(&self) -> String {
        let whose = match (self.scope, &self.period) {
            (Scope::Task, Some(task)) => format!("the budget of task {task}"),
            (Scope::Task, None) => "the run's budget for its task".into(),
            (Scope::Day, _) => "today's budget of all sessions".into(),
            (Scope::Month, _) => "this month's budget of all sessions".into(),
        };
        let unpriced = match self.spent.unpriced_usd {
            usd if usd > 0.0 => format!(
                " ({} of it for models without a known price, counted at the dearest one)",
                text::usd(usd)
            ),
            _ => String::new(),
        };
        format!(
            "{} % of {whose} ({}) is spent: {} of {}{unpriced}",
            self.percent,
            self.scope.key(),
            text::usd(self.spent.usd),
            text::usd(self.budget_usd)
        )
    }
}

/// The budgets of a run: what was read, and what was told.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Budgets {
    /// The newest reading, and what this run had spent when it came.
    reading: Option<(Reading, Money)>,
    told: Vec<(Scope, Option<String>, u16)>,
}

/// The run's own part: what it spent in all, and on the task in hand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Own {
    /// In all.
    pub(super) total: Money,
    /// The task of the queue, with what its earlier runs spent; `None` where it is
    /// between two of them.
    pub(super) task: Option<(Option<String>, Money)>,
}

impl Budgets {
    /// A reading came, or none could be had: then nothing is known of day and month.
    pub(super) fn read(&mut self, reading: Option<Reading>, total: Money) {
        self.reading = reading.map(|reading| (reading, total));
    }

    /// The task in hand begins with that spent: its earlier runs told of it.
    pub(super) fn begin_task(&mut self, params: &BudgetParams, task: String, spent: Money) {
        let (scope, period) = (Scope::Task, Some(task));
        let budget_usd = params.of(scope);
        let standing = Standing { scope, period, spent: Some(spent), budget_usd };
        self.reach(params, standing);
    }

    /// The configuration is another one: what was told of a budget that changed says
    /// nothing about the new one.
    pub(super) fn reconfigure(&mut self, before: &BudgetParams, now: &BudgetParams) {
        self.told.retain(|(scope, ..)| before.of(*scope) == now.of(*scope));
    }

    /// How far each budget is spent at `now_unix_ms`.
    pub(super) fn standings(
        &self,
        params: &BudgetParams,
        own: Own,
        now_unix_ms: i64,
    ) -> [Standing; 3] {
        let since = |end: fn(&Reading) -> i64| {
            let (reading, then) = self.reading.as_ref()?;
            let is_over = now_unix_ms >= end(reading);
            (!is_over).then(|| (reading, own.total.since(*then)))
        };
        let day = since(|r| r.day_ends_unix_ms)
            .map(|(r, own)| (Some(r.day.clone()), r.day_spent.plus(own)));
        let month = since(|r| r.month_ends_unix_ms)
            .map(|(r, own)| (r.day.get(..7).map(str::to_owned), r.month_spent.plus(own)));
        let standing = |scope, known: Option<(Option<String>, Money)>| {
            let (period, spent) = known.unzip();
            Standing { scope, period: period.flatten(), spent, budget_usd: params.of(scope) }
        };
        [
            standing(Scope::Task, own.task.clone()),
            standing(Scope::Day, day),
            standing(Scope::Month, month),
        ]
    }

    /// Marks that are reached and were not told yet, each budget's in rising order.
    pub(super) fn marks(&mut self, params: &BudgetParams, own: Own, now_unix_ms: i64) -> Vec<Mark> {
        let standings = self.standings(params, own, now_unix_ms);
        standings.into_iter().flat_map(|standing| self.reach(params, standing)).collect()
    }

    fn reach(&mut self, params: &BudgetParams, standing: Standing) -> Vec<Mark> {
        let (Some(spent), Some(budget_usd)) = (standing.spent, standing.budget_usd) else {
            return Vec::new();
        };
        let mut fresh = Vec::new();
        for percent in standing.reached(&params.warn_percent) {
            let told = (standing.scope, standing.period.clone(), percent);
            if !self.told.contains(&told) {
                self.told.push(told);
                fresh.push(percent);
            }
        }
        let highest = fresh.last().copied();
        let mark = |percent| Mark {
            scope: standing.scope,
            period: standing.period.clone(),
            percent,
            spent,
            budget_usd,
            is_highest: Some(percent) == highest,
        };
        fresh.into_iter().map(mark).collect()
    }
}
