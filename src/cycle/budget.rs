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

    pub(super) fn plus(self, other: Money) -> Money {
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
    /// Which attempt at the task of the queue; 0: of none.
    pub attempt: u32,
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
    /// Which attempt at the task in hand.
    attempt: u32,
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

    /// A task is taken in hand, of which earlier runs spent that, and told up to
    /// `told_percent` of this very budget. Of what they should have told, the highest mark
    /// is still due: a budget that was set or lowered since is news.
    pub(super) fn begin_task(
        &mut self,
        params: &BudgetParams,
        (task, attempt): (&str, u32),
        spent: Money,
        told_percent: u16,
    ) {
        self.attempt = attempt;
        let (scope, period) = (Scope::Task, Some(task.to_owned()));
        self.told.retain(|(of, whose, _)| (*of, whose) != (scope, &period));
        let budget_usd = params.of(scope);
        let standing = Standing { scope, period: period.clone(), spent: Some(spent), budget_usd };
        let reached: Vec<u16> = standing.reached(&params.warn_percent).collect();
        let highest = reached.last().copied();
        let is_known = |percent: &u16| *percent <= told_percent || Some(*percent) != highest;
        let known = reached.into_iter().filter(is_known);
        self.told.extend(known.map(|percent| (scope, period.clone(), percent)));
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
            attempt: if standing.scope == Scope::Task { self.attempt } else { 0 },
            percent,
            spent,
            budget_usd,
            is_highest: Some(percent) == highest,
        };
        fresh.into_iter().map(mark).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    const MARKS: [u16; 3] = [50, 80, 100];

    fn params() -> BudgetParams {
        let (task_usd, day_usd, month_usd) = (20.0, 50.0, 200.0);
        BudgetParams { task_usd, day_usd, month_usd, warn_percent: MARKS.into() }
    }

    /// What happens to a run.
    #[derive(Debug, Clone)]
    enum Step {
        /// It spends so many cents.
        Spends(u32),
        /// Somebody else does.
        OthersSpend(u32),
        /// The account is read.
        Read,
        /// It cannot be.
        Fails,
        /// The next day comes.
        Midnight,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..2_000_u32).prop_map(Step::Spends),
            2 => (0..4_000_u32).prop_map(Step::OthersSpend),
            3 => Just(Step::Read),
            1 => Just(Step::Fails),
            1 => Just(Step::Midnight),
        ]
    }

    fn money(cents: u32) -> Money {
        Money { usd: f64::from(cents) / 100.0, unpriced_usd: 0.0 }
    }

    proptest! {
        /// Beside an account that knows everything at once: nothing is told that it does
        /// not show, nothing twice, each budget's marks in rising order, and after a
        /// reading nothing is missing.
        #[test]
        fn marks_are_those_of_an_account_that_knows_all(
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let mut budgets = Budgets::default();
            let (mut own, mut day_cents, mut month_cents, mut day) = (0_u32, 0_u32, 0_u32, 1_u8);
            let mut told = BTreeSet::new();
            for step in steps {
                let is_read = matches!(step, Step::Read);
                match step {
                    Step::Spends(cents) => {
                        own += cents;
                        (day_cents, month_cents) = (day_cents + cents, month_cents + cents);
                    }
                    Step::OthersSpend(cents) => {
                        (day_cents, month_cents) = (day_cents + cents, month_cents + cents);
                    }
                    Step::Midnight => (day, day_cents) = (day + 1, 0),
                    Step::Fails => budgets.read(None, money(own)),
                    Step::Read => {
                        let reading = Reading {
                            day: format!("2026-11-{day:02}"),
                            day_ends_unix_ms: i64::from(day) + 1,
                            month_ends_unix_ms: 1_000,
                            day_spent: money(day_cents),
                            month_spent: money(month_cents),
                        };
                        budgets.read(Some(reading), money(own));
                    }
                }
                let all = [(Scope::Task, own), (Scope::Day, day_cents), (Scope::Month, month_cents)];
                let total = money(own);
                let whole = Own { total, task: Some((None, total)) };
                let marks = budgets.marks(&params(), whole, i64::from(day));
                for scope in Scope::ALL {
                    let of: Vec<&Mark> = marks.iter().filter(|mark| mark.scope == scope).collect();
                    prop_assert!(of.is_sorted_by_key(|mark| mark.percent));
                    prop_assert_eq!(of.iter().filter(|mark| mark.is_highest).count(), of.len().min(1));
                }
                for mark in marks {
                    let (_, cents) = all.iter().find(|(scope, _)| *scope == mark.scope).unwrap();
                    let usd = f64::from(*cents) / 100.0;
                    prop_assert!(mark.spent.usd <= usd + 1e-9, "{mark:?}, and {usd} are spent");
                    let key = (format!("{:?}", mark.scope), mark.period.clone(), mark.percent);
                    prop_assert!(told.insert(key), "twice: {mark:?}");
                }
                for (scope, cents) in all {
                    if scope != Scope::Task && !is_read {
                        continue;
                    }
                    let budget_usd = params().of(scope).unwrap();
                    for percent in MARKS {
                        // A cent on either side is not what this is about.
                        let due = f64::from(cents) / 100.0 > budget_usd * f64::from(percent) / 100.0 + 1e-6;
                        let is_told = told.iter().any(|(of, period, n)| {
                            let day_of = period.as_deref().is_none_or(|p| {
                                p.len() == 7 || p == format!("2026-11-{day:02}")
                            });
                            *of == format!("{scope:?}") && *n == percent && day_of
                        });
                        prop_assert!(!due || is_told, "{scope:?} {percent} is missing");
                    }
                }
            }
        }
    }
}
