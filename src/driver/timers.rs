//! The deadlines the machine asked for: one per kind, a later one replaces it.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::cycle::{Event, Timer};

/// Deadlines on the boot clock.
#[derive(Debug, Default)]
pub struct Timers {
    set: BTreeMap<Timer, (u64, u64)>,
}

impl Timers {
    /// Sets or replaces one.
    pub fn set(&mut self, now: Timestamp, timer: Timer, epoch: u64, after_ms: u64) {
        self.set.insert(timer, (now.boot_ms.saturating_add(after_ms), epoch));
    }

    /// Takes one that has passed, the earliest first.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<Event> {
        let (timer, (_, epoch)) = self
            .set
            .iter()
            .filter(|(_, (due_ms, _))| *due_ms <= now.boot_ms)
            .min_by_key(|(_, (due_ms, _))| *due_ms)
            .map(|(t, d)| (*t, *d))?;
        self.set.remove(&timer);
        Some(Event::Deadline { timer, epoch })
    }

    /// Milliseconds until the next, if there is one.
    pub fn due_in_ms(&self, now: Timestamp) -> Option<u64> {
        self.set.values().map(|(due_ms, _)| due_ms.saturating_sub(now.boot_ms)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot_ms: u64) -> Timestamp {
        Timestamp { unix_ms: 0, boot_ms }
    }

    #[test]
    fn the_earliest_comes_first_and_a_later_setting_replaces() {
        let mut timers = Timers::default();
        timers.set(at(0), Timer::Exit, 1, 50);
        timers.set(at(0), Timer::Delivery, 2, 10);
        timers.set(at(0), Timer::Exit, 3, 5);
        assert_eq!(timers.due_in_ms(at(1)), Some(4));
        assert_eq!(timers.pop_due(at(20)), Some(Event::Deadline { timer: Timer::Exit, epoch: 3 }));
        assert_eq!(
            timers.pop_due(at(20)),
            Some(Event::Deadline { timer: Timer::Delivery, epoch: 2 })
        );
        assert_eq!((timers.pop_due(at(20)), timers.due_in_ms(at(20))), (None, None));
    }
}
