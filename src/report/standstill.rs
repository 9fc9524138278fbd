//! What a run stands still for, and until when: the same in `status --json`, in
//! `status` and on the live panel. Empty while it goes forward.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{Moment, words};
use crate::clock::Timestamp;
use crate::cycle::failure::Class;
use crate::cycle::liveness::HangStep;
use crate::cycle::{Snapshot, record, snapshot};
use crate::text;

/// Everything that holds a run up at one moment; more than one thing may.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Standstill {
    /// The usage limit that is waited for; null when none is.
    pub waiting: Option<Waiting>,
    /// The failure that is tried again; null when none is.
    pub retrying: Option<Retrying>,
    /// The hang that was told and lasts; null when there is none.
    pub hang: Option<Hang>,
    /// The pause a person asked for; null when nobody did.
    pub pause: Option<Pause>,
}

/// A wait for a usage limit, in the words of the event `waiting`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// Which limit: `five_hour`, `seven_day`, `usage_limit` …
    pub reason: String,
    /// Until when.
    pub until: Moment,
}

/// A pause after a failure, in the words of the event `retrying`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retrying {
    /// What failed.
    pub class: Class,
    /// Failures in a row, from 1.
    pub attempt: u32,
    /// The whole pause.
    pub after_seconds: f64,
    /// When it is over.
    pub until: Moment,
}

/// A hang, in the words of the event `hang`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hang {
    /// What decided: the last sign of life, or `tool`.
    pub signal: String,
    /// How long nothing has moved by now.
    pub seconds: u64,
    /// The step taken last.
    pub step: HangStep,
    /// The step that comes next if nothing moves …
    pub next_step: HangStep,
    /// … and when.
    pub next_at: Moment,
}

/// A pause a person asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// Since when nothing new is started.
    pub since: Moment,
    /// Why.
    pub reason: String,
}

impl Standstill {
    /// What holds the run up at `now`.
    pub fn of(view: &Snapshot<'_>, now: Timestamp) -> Self {
        Self {
            waiting: view.waiting(now).map(|(reason, until_unix_ms)| Waiting {
                reason: reason.to_owned(),
                until: Moment { unix_ms: until_unix_ms },
            }),
            retrying: view.retrying().map(|pause| Retrying::of(&pause)),
            hang: view.hang(now).map(|hang| Hang {
                signal: hang.signal.to_owned(),
                seconds: hang.flat_ms / 1_000,
                step: hang.step,
                next_step: hang.next,
                next_at: now.plus_ms(hang.next_in_ms).into(),
            }),
            pause: view
                .paused_since()
                .map(|since| Pause { since: since.into(), reason: snapshot::PAUSED_BY.to_owned() }),
        }
    }

    /// Name and words of each thing, for a person, with times local to `zone`.
    pub fn rows(&self, now: Timestamp, zone: &TimeZone) -> Vec<(&'static str, String)> {
        let rows = [
            self.waiting.as_ref().map(|wait| ("waits", wait.words(now, zone))),
            self.retrying.as_ref().map(|retry| ("retries", retry.words(now, zone))),
            self.hang.as_ref().map(|hang| ("hangs", hang.words(now, zone))),
            self.pause.as_ref().map(|pause| ("paused", pause.words(now, zone))),
        ];
        rows.into_iter().flatten().collect()
    }
}

impl Waiting {
    /// `five-hour limit, until 02:55 (in 1 h 12 min)`
    fn words(&self, now: Timestamp, zone: &TimeZone) -> String {
        let limit = words::limit(&self.reason);
        let limit = limit.strip_prefix("the ").unwrap_or(limit);
        format!("{limit}, until {}", point(self.until, now, zone))
    }
}

impl Retrying {
    fn of(pause: &record::Pause) -> Self {
        Self {
            class: pause.class,
            attempt: pause.attempt,
            after_seconds: pause.after_ms as f64 / 1_000.0,
            until: pause.since.plus_ms(pause.after_ms).into(),
        }
    }

    /// `API overloaded, attempt 3, goes on at 02:55 (in 45 s)`
    fn words(&self, now: Timestamp, zone: &TimeZone) -> String {
        let failed = words::class(self.class);
        match self.until.unix_ms > now.unix_ms {
            true => format!(
                "{failed}, attempt {}, goes on at {}",
                self.attempt,
                point(self.until, now, zone)
            ),
            false => format!("{failed}, attempt {}, is being tried now", self.attempt),
        }
    }
}

impl Hang {
    /// `for 12 min (last sign: transcript); interrupted at 03:10 (in 8 min)`
    fn words(&self, now: Timestamp, zone: &TimeZone) -> String {
        let flat = text::about(self.seconds.saturating_mul(1_000));
        let what = match self.signal.as_str() {
            "tool" => format!("for {flat} in a tool call"),
            sign => format!("for {flat} (last sign: {sign})"),
        };
        let next = match self.next_step {
            HangStep::Warn => "warned of",
            HangStep::Interrupt => "interrupted",
            HangStep::End => "ended",
        };
        format!("{what}; {next} at {}", point(self.next_at, now, zone))
    }
}

impl Pause {
    /// `since 02:40 (12 min ago), by …; … goes on`
    fn words(&self, now: Timestamp, zone: &TimeZone) -> String {
        let ago_ms = u64::try_from(now.unix_ms - self.since.unix_ms).unwrap_or(0);
        let since = text::near(self.since.unix_ms, now.unix_ms, zone);
        let reason = &self.reason;
        format!("since {since} ({} ago), {reason}; `longhaul resume` goes on", text::about(ago_ms))
    }
}

/// `02:55 (in 1 h 12 min)`
fn point(at: Moment, now: Timestamp, zone: &TimeZone) -> String {
    let left_ms = u64::try_from(at.unix_ms.saturating_sub(now.unix_ms)).unwrap_or(0);
    let time = text::near(at.unix_ms, now.unix_ms, zone);
    match left_ms {
        0 => format!("{time} (now)"),
        ms => format!("{time} (in {})", text::about(ms)),
    }
}
