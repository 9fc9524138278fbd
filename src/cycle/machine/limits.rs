//! Usage limits and failing APIs: waiting, trying again, and giving up waiting.

use super::{LOOK_AT_CLOCK_MS, Machine};
use crate::clock::{self, Timestamp};
use crate::cycle::action::{Notice, Timer};
use crate::cycle::event::{Quota, UsageLimit};
use crate::cycle::failure::{
    API_FAILURES, CONTINUES_WITHIN_MS, Class, LIMIT_MARGIN_MS, REFUSALS, SAME_RESET_MS,
};
use crate::cycle::liveness::Sign;
use crate::cycle::record::WaitRecord;
use crate::cycle::state::{Between, Budget, EndReason, Outcome, State};

/// The CLI's own attempts take about three minutes, and are not longhaul's waiting.
const OWN_ATTEMPTS_MS: u64 = 600_000;
/// An end of a wait that moves by no more is not told again.
const SAME_UNTIL_MS: u64 = 1_000;
/// A subscription used up to this counts as used up.
const USED_UP_PERCENT: f64 = 99.0;

/// Milliseconds until that time of day, if it is still to come.
pub(super) fn left_ms(now: Timestamp, until_unix_ms: Option<i64>) -> Option<u64> {
    // Whoever writes a time into a transcript can write any.
    let left = until_unix_ms?.saturating_sub(now.unix_ms);
    u64::try_from(left).ok().filter(|ms| *ms > 0)
}

impl Machine {
    /// Until when a usage limit holds, margin included; `None` once it is over.
    pub(super) fn limit_until_ms(&self, now: Timestamp) -> Option<i64> {
        let limit = self.limit.as_ref()?;
        let margin_ms = if limit.continues { CONTINUES_WITHIN_MS } else { LIMIT_MARGIN_MS };
        let until = limit.resets_unix_ms?.saturating_add(margin_ms);
        (until > now.unix_ms).then_some(until)
    }

    /// Would a wait of `more_ms` from now on be longer than the person allows?
    pub(super) fn is_past_waiting(&self, now: Timestamp, more_ms: u64) -> bool {
        self.outage_ms(now).saturating_add(more_ms) > self.params.max_wait_ms
    }

    /// How long the API has given no reply.
    fn outage_ms(&self, now: Timestamp) -> u64 {
        let elapsed_ms = self.elapsed_ms(now);
        elapsed_ms.saturating_sub(self.outage_since_ms.unwrap_or(elapsed_ms))
    }

    pub(super) fn begin_outage(&mut self, now: Timestamp) {
        let elapsed_ms = self.elapsed_ms(now);
        self.outage_since_ms.get_or_insert(elapsed_ms);
    }

    /// The model answered: whatever was waited for is over.
    pub(super) fn api_answers(&mut self, now: Timestamp) {
        self.failures_in_a_row = 0;
        self.api_failures_in_a_row = 0;
        self.dead_starts_in_a_row = 0;
        self.hung_in_a_row = 0;
        self.declined_in_a_row = 0;
        self.replied_since_pause = true;
        self.outage_since_ms = None;
        self.book_cli_retries();
        self.limit = None;
        self.end_wait(now);
    }

    /// Attempts of the CLI's own that came to an end without an error row.
    pub(super) fn book_cli_retries(&mut self) {
        if let Some(class) = self.cli_retries.take() {
            self.fail(class);
        }
    }

    /// Tells until when is waited, and again whenever that becomes another time:
    /// somebody plans the morning by it.
    fn begin_wait(&mut self, now: Timestamp, reason: &str, until_unix_ms: i64) {
        let is_known = self.limit_until_ms(now).is_some();
        // Told again after a restart.
        let is_untold = std::mem::take(&mut self.is_wait_untold);
        let open = self.waits.last_mut().filter(|w| w.ended.is_none());
        let moved_ms = open.as_ref().map_or(u64::MAX, |w| w.until_unix_ms.abs_diff(until_unix_ms));
        if moved_ms <= SAME_UNTIL_MS && !is_untold {
            return;
        }
        let reason = reason.to_owned();
        match open {
            // The reset is known better, or has passed and it is tried now and then:
            // one wait.
            Some(open) if moved_ms <= SAME_RESET_MS || !is_known => {
                open.until_unix_ms = until_unix_ms;
            }
            _ => {
                self.end_wait(now);
                let reason = reason.clone();
                self.waits.push(WaitRecord { reason, since: now, until_unix_ms, ended: None });
            }
        }
        self.tell(Notice::Waiting { reason, until_unix_ms });
    }

    pub(super) fn end_wait(&mut self, now: Timestamp) {
        if let Some(wait) = self.waits.last_mut() {
            wait.ended.get_or_insert(now);
        }
    }

    /// The limit was reached, or is known to be; the CLI may try by itself.
    pub(super) fn on_limited(&mut self, now: Timestamp, limit: UsageLimit) {
        self.note_limit(now, limit);
        let Some(until) = self.limit_until_ms(now) else { return };
        let Some(ms) = left_ms(now, Some(until)) else { return };
        if self.verdict.is_some() {
            // The run ends anyway, and why is settled.
            return;
        }
        match &self.state {
            State::Starting | State::Working | State::Checkpointing { .. } => {}
            State::Cooling { class: Class::UsageLimit, .. } => {
                // Known better now.
                return self.wait_for_limit(now);
            }
            State::Cooling { .. }
            | State::Judging { .. }
            | State::Turnover
            | State::Held
            | State::Ending { .. }
            | State::Between { .. }
            | State::Finished { .. } => return,
        }
        if self.is_past_waiting(now, ms) {
            return self.give_up_waiting(now);
        }
        let reason = self.limit_word();
        self.begin_wait(now, &reason, until);
    }

    pub(super) fn note_limit(&mut self, now: Timestamp, limit: UsageLimit) {
        let near = |a: i64, b: i64| a.abs_diff(b) <= SAME_RESET_MS;
        let is_known = match (&self.limit, limit.resets_unix_ms) {
            (Some(old), Some(new)) => old.resets_unix_ms.is_some_and(|old| near(old, new)),
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.begin_outage(now);
        if is_known {
            // The menu at a limit says no more than that nobody goes on by itself.
            let is_menu = limit.resets_unix_ms.is_none() && !limit.continues;
            // The time that was known has passed, and the limit holds: the new one counts.
            let is_over = self.limit_until_ms(now).is_none();
            let Some(known) = &mut self.limit else { return };
            if is_menu {
                known.continues = false;
            } else if is_over && limit.resets_unix_ms.is_some_and(|at| at > now.unix_ms) {
                *known = limit;
            }
            return;
        }
        self.fail(Class::UsageLimit);
        self.limit = Some(limit);
    }

    fn limit_word(&self) -> String {
        self.limit.as_ref().map_or_else(|| "usage_limit".into(), |l| l.which.clone())
    }

    /// A request failed at the limit, and the session is idle.
    pub(super) fn wait_for_limit(&mut self, now: Timestamp) {
        self.begin_outage(now);
        self.cli_retries = None;
        let until = self.limit_until_ms(now);
        if until.is_none() {
            self.failures_in_a_row += 1;
        }
        let attempt = self.failures_in_a_row.max(1);
        let until = until.unwrap_or_else(|| {
            // No time is known, or it has passed and the limit still holds.
            let pause_ms = Class::UsageLimit.pause_ms(self.run_id, attempt);
            now.unix_ms.saturating_add(i64::try_from(pause_ms).unwrap_or(i64::MAX))
        });
        let ms = left_ms(now, Some(until)).unwrap_or(0);
        if self.is_past_waiting(now, ms) {
            return self.give_up_waiting(now);
        }
        let reason = self.limit_word();
        self.begin_wait(now, &reason, until);
        let until_unix_ms = Some(until);
        self.enter(State::Cooling { attempt, class: Class::UsageLimit, until_unix_ms });
        self.timer(Timer::Cool, ms.min(LOOK_AT_CLOCK_MS));
    }

    /// The same while no session is alive. True if there is something to wait for.
    pub(super) fn waits_between(&mut self, now: Timestamp) -> bool {
        let until = self.limit_until_ms(now);
        let Some((until, ms)) = until.zip(left_ms(now, until)) else {
            // Where no reset is known, a fresh session is as good a try as any.
            self.end_wait(now);
            return false;
        };
        self.begin_outage(now);
        if self.is_past_waiting(now, ms) {
            self.give_up_waiting(now);
            return true;
        }
        let reason = self.limit_word();
        self.begin_wait(now, &reason, until);
        self.enter(State::Between { step: Between::Backoff { until_unix_ms: Some(until) } });
        self.timer(Timer::Backoff, ms.min(LOOK_AT_CLOCK_MS));
        true
    }

    /// Waiting longer is more than the person allows: the run ends.
    pub(super) fn give_up_waiting(&mut self, now: Timestamp) {
        let holds = self.limit_until_ms(now).is_some();
        let (why, resets_unix_ms) = match &self.limit {
            Some(limit) => {
                let why = format!("the limit ({}) holds", limit.which);
                (why, limit.resets_unix_ms.filter(|_| holds))
            }
            None => ("the API gives no reply".into(), None),
        };
        self.settle(Outcome::LimitPast { why, resets_unix_ms });
        match &self.state {
            State::Between { .. } => self.finish_with_verdict(now),
            State::Ending { .. } | State::Finished { .. } => {}
            State::Starting
            | State::Working
            | State::Turnover
            | State::Held
            | State::Judging { .. }
            | State::Cooling { .. }
            | State::Checkpointing { .. } => self.end_unless_keeping(EndReason::Limit),
        }
    }

    /// A turn failed by the API, after the CLI's own attempts; the session is idle.
    pub(super) fn on_api_error(&mut self, now: Timestamp, class: Class) {
        // The row says what it was; the screen's first words are vague.
        self.cli_retries = None;
        self.fail(class);
        self.failures_in_a_row += 1;
        self.api_failures_in_a_row += 1;
        let attempt = self.failures_in_a_row;
        let most = match class {
            Class::Refused | Class::OutputLimit => REFUSALS,
            _ => API_FAILURES,
        };
        if class.is_outage() {
            self.begin_outage(now);
        }
        if self.api_failures_in_a_row > most {
            self.failed = Some(class);
            return self.end_session(EndReason::ApiFailure);
        }
        let ms = class.pause_ms(self.run_id, attempt);
        if class.is_outage() && self.is_past_waiting(now, ms) {
            return self.give_up_waiting(now);
        }
        self.pause_after(class, attempt);
        self.enter(State::Cooling { attempt, class, until_unix_ms: None });
        self.timer(Timer::Cool, ms);
    }

    /// The CLI tries a request again by itself.
    pub(super) fn on_cli_retries(
        &mut self,
        now: Timestamp,
        class: Class,
        attempt: u32,
        after_ms: u64,
    ) {
        match &self.state {
            State::Starting | State::Working | State::Checkpointing { .. } => {}
            State::Cooling { .. }
            | State::Judging { .. }
            | State::Turnover
            | State::Held
            | State::Ending { .. }
            | State::Between { .. }
            | State::Finished { .. } => return,
        }
        if class.is_outage() {
            self.begin_outage(now);
            // Whoever wants no waiting still wants what failed once to be tried again.
            let waits = self.params.max_wait_ms > 0;
            let is_over = if waits {
                self.is_past_waiting(now, after_ms)
            } else {
                self.outage_ms(now).saturating_add(after_ms) > OWN_ATTEMPTS_MS
            };
            if self.verdict.is_none() && is_over {
                return self.give_up_waiting(now);
            }
        }
        self.cli_retries = Some(class);
        self.on_sign(now, Sign::Retry);
        self.tell_pause(class, attempt, after_ms);
    }

    /// How much of the subscription is used.
    pub(super) fn on_quota(
        &mut self,
        now: Timestamp,
        five_hour: Option<Quota>,
        seven_day: Option<Quota>,
    ) {
        let limits = [("five_hour", five_hour), ("seven_day", seven_day)];
        let used_up = limits.iter().find_map(|(which, quota)| {
            let quota = (*quota)?;
            (quota.used_percent >= USED_UP_PERCENT).then(|| UsageLimit {
                which: (*which).to_owned(),
                resets_unix_ms: quota.resets_unix_ms,
                continues: true,
            })
        });
        self.used_up = used_up;
        let reserve = self.params.quota_reserve_percent;
        let touched = limits.iter().find_map(|(name, quota)| {
            let quota = (*quota)?;
            (quota.used_percent >= 100.0 - reserve).then_some((name, quota))
        });
        let Some((name, quota)) = touched.filter(|_| reserve > 0.0 && self.verdict.is_none())
        else {
            return;
        };
        let which = Budget::Quota;
        let resets = quota.resets_unix_ms.map(|ms| format!(", until {}", clock::rfc3339(ms)));
        let text = format!(
            "{:.0} % of the quota ({name}) is used{}; {} keeps {reserve} % for you",
            quota.used_percent,
            resets.unwrap_or_default(),
            which.key()
        );
        self.warn(text);
        self.wind_down(now, Outcome::Budget { which }, EndReason::Budget);
    }
}
