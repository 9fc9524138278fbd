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
        Self { outlet, throttle: Throttle::default(), zone, lost: 0 }
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
            lines = stamped(at, view, &format!("({n} left out: nobody read)"), &self.zone);
        }
        lines.push_str(&stamped(at, view, &words, &self.zone));
        if self.outlet.offer(&lines) {
            self.lost = 0;
        } else {
            self.lost += 1;
        }
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
            Notice::Context(pressure) => self.context_words(at, pressure, view),
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
            | Notice::TaskStarted { .. }
            | Notice::TaskFinished { .. }
            | Notice::Waiting { .. }
            | Notice::Retrying { .. }
            | Notice::Dialog { .. }
            | Notice::Hang { .. }
            | Notice::NeedsPerson { .. }
            | Notice::Activity { .. }
            | Notice::Budget(_)
            | Notice::SessionEnded { .. }
            | Notice::Warning { .. }
            | Notice::Obeyed { .. }
            | Notice::RunFinished { .. } => line::line(notice, view).map(|(_, words)| words),
        }
    }

    fn context_words(
        &mut self,
        at: Timestamp,
        pressure: &Pressure,
        view: &Snapshot<'_>,
    ) -> Option<String> {
        let (cycle, percent) = (view.cycle(), pressure.percent());
        // The line on the threshold says it already.
        let is_told = view.state() == "checkpointing";
        let is_due = match self.context {
            Some((same, last, when)) if same == cycle => {
                percent.abs_diff(last) >= CONTEXT_STEP_PERCENT
                    || (percent != last && at.ms_since(when) >= CONTEXT_EVERY_MS)
            }
            Some(_) | None => true,
        };
        if is_told || !is_due {
            return None;
        }
        self.context = Some((cycle, percent, at));
        Some(format!("context {}", words::pressure(pressure)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::staged::{self, Stage};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log(stage: &Stage) -> String {
        let sink = Shared::default();
        let mut plain = Plain::new(Outlet::new(Box::new(sink.clone())), TimeZone::UTC);
        for (at, notice, machine) in &stage.told {
            plain.tell(*at, notice, &Snapshot::of(machine));
        }
        plain.finish(stage.now, &stage.view());
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_night_can_be_read_in_the_morning() {
        insta::assert_snapshot!(log(&staged::bad_night()), @r"
        2027-01-15 08:00:00 [0] run 1a2b3c4d-0000-4000-8000-000000000001 begins
        2027-01-15 08:00:00 [0] tasks: 2 of 12 done
        2027-01-15 08:00:00 [1] session 1 began: claude-opus-4-5, pid 4000, id 955ae9b3-d123-558d-8563-9443f3818d2c
        2027-01-15 08:00:04 [1] context 9 % (18.0k of 200k tokens, window from the CLI)
        2027-01-15 08:50:04 [1] warning: the CLI compacted the context (auto) before a checkpoint
        2027-01-15 08:50:04 [1] threshold reached: context 75 % (150k of 200k tokens, window from the CLI)
        2027-01-15 08:50:04 [1] checkpoint asked for (context full enough)
        2027-01-15 08:50:07 [1] the session has the request
        2027-01-15 08:50:07 [1] checkpoint asked for again (request 2)
        2027-01-15 08:50:10 [1] the session has the request
        2027-01-15 08:50:10 [1] no checkpoint: dev-docs/tasks.md did not change
        2027-01-15 08:50:11 [1] session 1 ended: context full enough (signal 9), 3 processes of it had to be ended, 1 OUTLIVED IT
        2027-01-15 08:50:11 [1] warning: 1 process(es) of the session could not be ended
        2027-01-15 08:50:11 [1] longhaul wrote dev-docs/handoff.md from the transcript
        2027-01-15 08:50:11 [1] tasks: 3 of 12 done
        2027-01-15 08:50:12 [2] session 2 began: claude-opus-4-5, pid 4001, id b3e59d93-5b9c-59db-b216-84dc274c0f8a
        2027-01-15 08:50:16 [2] context 9 % (18.0k of 200k tokens, window from the model table)
        2027-01-15 08:50:16 [2] session 2 ended: exited by itself (exit code 1)
        2027-01-15 08:50:16 [2] dev-docs/handoff.md could not be written: No space left on device
        2027-01-15 08:50:16 [2] the CLI crashed (1); going on in 1s
        ");
    }

    #[test]
    fn readings_are_told_now_and_then() {
        let stage = staged::mid_night();
        let view = stage.view();
        let mut throttle = Throttle::default();
        let mut told = Vec::new();
        for minute in 0..21_u64 {
            let at = stage.now.plus_ms(minute * 60_000);
            let pressure = Pressure {
                tokens: 20_000 + minute * 2_000,
                window: 200_000,
                source: crate::cycle::pressure::WindowSource::Models,
            };
            let spent = Notice::Spent { tokens: 1_000 * minute, cost_usd: minute as f64 };
            for notice in [Notice::Context(pressure), spent] {
                if let Some(words) = throttle.words(at, &notice, &view) {
                    told.push(format!("{minute:>2} {words}"));
                }
            }
        }
        // A jump is told at once.
        let jump = Notice::Context(Pressure {
            tokens: 90_000,
            window: 200_000,
            source: crate::cycle::pressure::WindowSource::Models,
        });
        told.extend(throttle.words(stage.now.plus_ms(1_200_001), &jump, &view));
        assert!(throttle.words(stage.now.plus_ms(1_200_002), &jump, &view).is_none());
        insta::assert_snapshot!(told.join("\n"), @r"
         0 context 10 % (20.0k of 200k tokens, window from the model table)
         5 context 15 % (30.0k of 200k tokens, window from the model table)
        10 context 20 % (40.0k of 200k tokens, window from the model table)
        10 spent so far: $10.00 by the CLI's own count, 10.0k tokens
        15 context 25 % (50.0k of 200k tokens, window from the model table)
        20 context 30 % (60.0k of 200k tokens, window from the model table)
        20 spent so far: $20.00 by the CLI's own count, 20.0k tokens
        context 45 % (90.0k of 200k tokens, window from the model table)
        ");
    }
}
