//! A log for a file or a pipe, to be read in the morning: one line per notice
//! that matters, readings now and then.

use jiff::tz::TimeZone;

use super::Teller;
use super::line;
use super::outlet::Outlet;
use crate::clock::Timestamp;
use crate::cycle::pressure::Pressure;
use crate::cycle::{Notice, Snapshot};
use crate::report::status::cost_origin;
use crate::report::words;
use crate::text;

/// A context line at the latest after this long …
const CONTEXT_EVERY_MS: u64 = 300_000;
/// … or when it has moved this many percent points.
const CONTEXT_STEP_PERCENT: u64 = 10;
/// A line on tokens and cost after this long.
const SPENT_EVERY_MS: u64 = 600_000;
/// A foreign text longer than this is cut; the journal has all of it.
const LONGEST: usize = 1_000;

/// Writes a log.
pub struct Plain {
    outlet: Outlet,
    throttle: Throttle,
    zone: TimeZone,
    lost: u64,
}

/// When readings were last written.
#[derive(Debug, Default)]
struct Throttle {
    /// Cycle, percent and moment.
    context: Option<(u32, u64, Timestamp)>,
    spent: Option<Timestamp>,
}

impl Plain {
    /// Writes into `outlet`, with times local to `zone`.
    pub fn new(outlet: Outlet, zone: TimeZone) -> Self {
        Self {
            outlet,
            throttle: Throttle::default(),
            zone,
            lost: 0,
        }
    }
}

impl Teller for Plain {
    fn tell(&mut self, at: Timestamp, notice: &Notice, view: &Snapshot<'_>) {
        if self.outlet.is_silent() {
            return;
        }
        let Some(words) = self.throttle.words(at, notice, view) else {
            return;
        };
        let mut lines = String::new();
        if self.lost > 0 {
            let n = text::count(self.lost, "line was", "lines were");
            lines = stamped(
                at,
                view,
                &format!("({n} left out: nobody read)"),
                &self.zone,
            );
        }
        lines.push_str(&stamped(at, view, &words, &self.zone));
        if self.outlet.offer(&lines) {
            self.lost = 0;
        } else {
            self.lost += 1;
        }
    }

    fn tick(&mut self, _: Timestamp, _: &Snapshot<'_>) {}

    fn tick_ms(&self) -> Option<u64> {
        None
    }

    fn finish(&mut self, _: Timestamp, _: &Snapshot<'_>) {
        self.outlet.drain();
    }
}

fn stamped(at: Timestamp, view: &Snapshot<'_>, words: &str, zone: &TimeZone) -> String {
    let time = text::local(at.unix_ms, zone, "%Y-%m-%d %H:%M:%S");
    let words = text::safe(words);
    let words = text::clip(&words, LONGEST);
    format!("{time} [{}] {words}\n", view.cycle())
}

impl Throttle {
    fn words(&mut self, at: Timestamp, notice: &Notice, view: &Snapshot<'_>) -> Option<String> {
        match notice {
            Notice::Context(pressure) => self.context_words(at, pressure, view.cycle()),
            Notice::ThresholdReached(pressure) => {
                self.context = Some((view.cycle(), pressure.percent(), at));
                line::line(notice, view).map(|(_, words)| words)
            }
            Notice::Spent { tokens, cost_usd } => {
                // The first reading says nothing yet; it starts the clock.
                let last = *self.spent.get_or_insert(at);
                if at.ms_since(last) < SPENT_EVERY_MS {
                    return None;
                }
                self.spent = Some(at);
                Some(format!(
                    "spent so far: {}{}, {} tokens",
                    text::usd(*cost_usd),
                    words::cost_origin(cost_origin(view)),
                    text::tokens(*tokens)
                ))
            }
            Notice::RunStarted
            | Notice::RunResumed { .. }
            | Notice::SessionStarted { .. }
            | Notice::CheckpointRequested { .. }
            | Notice::CheckpointDelivered { .. }
            | Notice::CheckpointVerified { .. }
            | Notice::CheckpointFailed { .. }
            | Notice::HandoffWritten { .. }
            | Notice::Nudged { .. }
            | Notice::Tasks { .. }
            | Notice::Verified { .. }
            | Notice::Waiting { .. }
            | Notice::Activity { .. }
            | Notice::SessionEnded { .. }
            | Notice::Warning { .. }
            | Notice::Obeyed { .. }
            | Notice::RunFinished { .. } => line::line(notice, view).map(|(_, words)| words),
        }
    }

    fn context_words(&mut self, at: Timestamp, pressure: &Pressure, cycle: u32) -> Option<String> {
        let percent = pressure.percent();
        let is_due = match self.context {
            Some((same, last, when)) if same == cycle => {
                percent.abs_diff(last) >= CONTEXT_STEP_PERCENT
                    || (percent != last && at.ms_since(when) >= CONTEXT_EVERY_MS)
            }
            Some(_) | None => true,
        };
        if !is_due {
            return None;
        }
        self.context = Some((cycle, percent, at));
        Some(format!("context {}", words::pressure(pressure)))
    }
}
