//! What became of the tasks, and which exit code says it.

use std::collections::BTreeSet;

use super::{BLOCKED_LOOKED_AT, Dispatcher, NAMED_MAX, Tally};
use crate::cycle::Outcome;
use crate::queue::store::{Filter, Result};
use crate::queue::task::{TaskId, TaskState};

impl Dispatcher {
    pub(super) fn tally(&mut self) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut failed: BTreeSet<TaskId> = BTreeSet::new();
        for id in self.taken.clone() {
            let Some(task) = self.store.task(&id)? else { continue };
            match task.state {
                TaskState::Done => tally.done += 1,
                TaskState::Error => tally.error += 1,
                TaskState::Blocked => tally.blocked += 1,
                TaskState::Cancelled => tally.cancelled += 1,
                TaskState::Queued | TaskState::InProgress => tally.left += 1,
            }
            if task.state.is_over() && task.state != TaskState::Done {
                failed.insert(id.clone());
            }
            if task.state != TaskState::Done && tally.not_done.len() < NAMED_MAX {
                tally.not_done.push((id, task.state));
            }
        }
        if !failed.is_empty() {
            tally.blocked_behind = self.blocked_behind(failed)?;
        }
        Ok(tally)
    }

    /// How many tasks that were not taken are blocked because they wait for one of these,
    /// or for one that does.
    fn blocked_behind(&mut self, mut failed: BTreeSet<TaskId>) -> Result<u64> {
        let states = vec![TaskState::Blocked];
        let filter = Filter { states, limit: BLOCKED_LOOKED_AT, ..Filter::default() };
        let mut blocked = self.store.list(&filter)?;
        blocked.retain(|task| !self.taken.contains(&task.id));
        let all = blocked.len();
        loop {
            let before = blocked.len();
            blocked.retain(|task| {
                let is_behind = task.after.iter().any(|id| failed.contains(id));
                if is_behind {
                    failed.insert(task.id.clone());
                }
                !is_behind
            });
            if blocked.len() == before {
                return Ok((all - before) as u64);
            }
        }
    }

    pub(super) fn exit_code(&self, tally: &Tally) -> u8 {
        if self.signals.0 > 0 {
            return Outcome::Stopped { signal: self.signals.1 }.exit_code();
        }
        if let Some(code) = self.halted {
            return code;
        }
        if tally.error > 0 {
            return 1;
        }
        if tally.blocked > 0 {
            return Outcome::NeedsPerson { why: String::new() }.exit_code();
        }
        if let Some(code) = self.codes.iter().find(|code| **code != 0) {
            return *code;
        }
        if tally.cancelled > 0 {
            return Outcome::Stopped { signal: 15 }.exit_code();
        }
        0
    }
}
