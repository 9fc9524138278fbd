//! What became of the tasks, and which exit code says it.

use super::{Dispatcher, NAMED_MAX, Tally};
use crate::cycle::Outcome;
use crate::queue::store::Result;
use crate::queue::task::TaskState;

impl Dispatcher {
    pub(super) fn tally(&mut self) -> Result<Tally> {
        let mut tally = Tally::default();
        for id in std::mem::take(&mut self.taken) {
            let Some(task) = self.store.task(&id)? else { continue };
            match task.state {
                TaskState::Done => tally.done += 1,
                TaskState::Error => tally.error += 1,
                TaskState::Blocked => tally.blocked += 1,
                TaskState::Cancelled => tally.cancelled += 1,
                TaskState::Queued | TaskState::InProgress => tally.left += 1,
            }
            if task.state != TaskState::Done && tally.not_done.len() < NAMED_MAX {
                tally.not_done.push((id, task.state));
            }
        }
        let blocked = self.store.counts(None)?.blocked;
        let blocked = blocked.saturating_sub(self.blocked_before);
        tally.blocked_behind = blocked.saturating_sub(tally.blocked);
        Ok(tally)
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
