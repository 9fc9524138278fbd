//! A usage limit that one run waits for, and what that means for the others: all runs
//! share one login. Pure.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::control::Request;
use crate::report::status::StatusView;

/// What a limit is told of by the screen, and then by its row, may differ by this.
const SAME_LIMIT_MS: i64 = 120_000;

/// What of a run's status says whether it goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stand {
    is_paused: bool,
    waits_until_unix_ms: Option<i64>,
}

impl From<&StatusView> for Stand {
    fn from(view: &StatusView) -> Self {
        let waiting = view.standstill.waiting.as_ref();
        Self {
            is_paused: view.paused,
            waits_until_unix_ms: waiting.map(|waiting| waiting.until.unix_ms),
        }
    }
}

/// The limit, and the runs that pause because of it.
#[derive(Debug, Default)]
pub(super) struct Limit {
    until_unix_ms: i64,
    /// Runs that wait for it themselves.
    waiting: BTreeSet<Uuid>,
    paused: BTreeSet<Uuid>,
}

impl Limit {
    /// When it is over, if it holds.
    pub(super) fn until(&self, now_unix_ms: i64) -> Option<i64> {
        Some(self.until_unix_ms).filter(|until| *until > now_unix_ms)
    }

    /// Hears where a run stands. True if it waits for a limit that is news. Where the last
    /// one that waited goes on, the limit is over, whatever was told of its end.
    pub(super) fn hear(&mut self, run_id: Uuid, stand: Stand) -> bool {
        let Some(until_unix_ms) = stand.waits_until_unix_ms else {
            if self.waiting.remove(&run_id) && self.waiting.is_empty() {
                self.until_unix_ms = 0;
            }
            return false;
        };
        self.waiting.insert(run_id);
        let is_news = until_unix_ms > self.until_unix_ms.saturating_add(SAME_LIMIT_MS);
        self.until_unix_ms = self.until_unix_ms.max(until_unix_ms);
        is_news
    }

    /// What is to be asked of a run that stands like this. One that a person paused, or
    /// that waits itself, is left alone.
    pub(super) fn request(&self, run_id: Uuid, stand: Stand, now_unix_ms: i64) -> Option<Request> {
        let holds = self.until(now_unix_ms).is_some();
        let is_ours = self.paused.contains(&run_id);
        let runs_free = !stand.is_paused && stand.waits_until_unix_ms.is_none();
        match (holds, is_ours) {
            (true, false) if runs_free => Some(Request::Pause),
            (false, true) => Some(Request::Resume),
            (true | false, true | false) => None,
        }
    }

    /// A run obeyed.
    pub(super) fn obeyed(&mut self, run_id: Uuid, request: Request) {
        match request {
            Request::Pause => drop(self.paused.insert(run_id)),
            _ => drop(self.paused.remove(&run_id)),
        }
    }

    /// A run has ended. What it waited for holds all the same.
    pub(super) fn ended(&mut self, run_id: Uuid) {
        self.paused.remove(&run_id);
        self.waiting.remove(&run_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Stand = Stand { is_paused: false, waits_until_unix_ms: None };
    const PAUSED: Stand = Stand { is_paused: true, waits_until_unix_ms: None };

    fn waits(until_unix_ms: i64) -> Stand {
        Stand { is_paused: false, waits_until_unix_ms: Some(until_unix_ms) }
    }

    #[test]
    fn all_pause_until_the_reset_and_go_on_after_it() {
        let [first, second, late] = [1, 2, 3].map(Uuid::from_u128);
        let mut limit = Limit::default();
        assert_eq!(limit.request(second, FREE, 0), None);
        assert!(limit.hear(first, waits(1_000_000)));
        assert!(!limit.hear(first, waits(1_000_000)), "told once");
        assert!(!limit.hear(first, waits(1_060_000)), "the same limit, told more exactly");
        assert_eq!(limit.request(first, waits(1_060_000), 5), None, "it waits by itself");
        assert_eq!(limit.request(second, FREE, 5), Some(Request::Pause));
        limit.obeyed(second, Request::Pause);
        assert_eq!(limit.request(second, PAUSED, 6), None);
        assert_eq!(limit.request(late, FREE, 1_059_999), Some(Request::Pause));
        limit.obeyed(late, Request::Pause);
        limit.ended(late);
        assert_eq!(limit.until(1_060_000), None);
        assert_eq!(limit.request(second, PAUSED, 1_060_000), Some(Request::Resume));
        limit.obeyed(second, Request::Resume);
        assert_eq!(limit.request(second, FREE, 1_060_001), None);
        assert_eq!(limit.request(late, PAUSED, 1_060_001), None);
        assert!(limit.hear(first, waits(9_000_000)), "the next limit is news");
    }

    #[test]
    fn it_is_over_when_the_last_that_waited_goes_on() {
        let [first, second, other] = [1, 2, 3].map(Uuid::from_u128);
        let mut limit = Limit::default();
        limit.hear(first, waits(1_000));
        limit.hear(second, waits(1_000));
        limit.hear(other, FREE);
        limit.hear(first, FREE);
        assert_eq!(limit.until(0), Some(1_000));
        limit.hear(second, FREE);
        assert_eq!(limit.until(0), None);
        // One that ended says nothing of the limit.
        limit.hear(first, waits(1_000));
        limit.ended(first);
        limit.hear(other, FREE);
        assert_eq!(limit.until(0), Some(1_000));
    }

    #[test]
    fn what_a_person_paused_stays_so() {
        let run = Uuid::from_u128(1);
        let mut limit = Limit::default();
        limit.hear(Uuid::from_u128(2), waits(1_000));
        assert_eq!(limit.request(run, PAUSED, 5), None);
        assert_eq!(limit.request(run, PAUSED, 1_000), None);
    }
}
