//! Marks of budgets: told once, and nothing else happens. What ends a run are limits.

use super::Machine;
use crate::clock::Timestamp;
use crate::cycle::action::Notice;
use crate::cycle::assignment::{Given, Totals};
use crate::cycle::budget::{Money, Own, Reading, Standing};
use crate::cycle::record::Noted;

impl Machine {
    /// What all sessions of the machine have spent is known, or cannot be.
    pub(super) fn on_spending_read(&mut self, now: Timestamp, reading: Option<Reading>) {
        let total = money(&self.totals());
        self.budgets.read(reading, total);
        self.tell_budgets(now);
    }

    /// How far the budgets are spent at `now`.
    pub(in crate::cycle) fn standings(&self, now: Timestamp) -> [Standing; 3] {
        self.budgets.standings(&self.params.budget, self.own(), now.unix_ms)
    }

    pub(super) fn tell_budgets(&mut self, now: Timestamp) {
        let own = self.own();
        for mark in self.budgets.marks(&self.params.budget, own, now.unix_ms) {
            if mark.is_highest {
                self.note(mark.sentence());
            }
            self.tell(Notice::Budget(mark));
        }
    }

    /// A task of the queue was given.
    pub(super) fn begin_budget(&mut self, given: &Given) {
        let spent = before(given);
        let task = (given.task_id.as_str(), given.attempt);
        self.budgets.begin_task(&self.params.budget, task, spent, given.told_percent);
    }

    fn own(&self) -> Own {
        let totals = self.totals();
        let total = money(&totals);
        let task = match self.assignment() {
            Some(task) => {
                let spent = before(&task.given).plus(money(&task.added(&totals)));
                Some((Some(task.given.task_id.clone()), spent))
            }
            None if self.params.queue => None,
            None => Some((None, total)),
        };
        Own { total, task }
    }

    /// Keeps a sentence for the report.
    pub(super) fn note(&mut self, text: String) {
        let cycle = self.cycles().last().map_or(0, |c| c.cycle);
        let noted = Noted { cycle, text };
        if self.noted.len() < super::NOTED_MAX && !self.noted.contains(&noted) {
            self.noted.push(noted);
        }
    }
}

/// What earlier runs of the task spent.
fn before(given: &Given) -> Money {
    Money { usd: given.spent_usd + given.unpriced_usd, unpriced_usd: given.unpriced_usd }
}

fn money(totals: &Totals) -> Money {
    Money { usd: totals.cost_ceiling_usd, unpriced_usd: totals.unpriced_ceiling_usd }
}
