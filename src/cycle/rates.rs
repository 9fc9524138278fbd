//! How fast a run spends. A total sees too late what happens in minutes: a
//! session that fans out spends a night's budget before anybody looks. Pure.

use std::collections::VecDeque;

/// The minute in which tokens are counted.
const MINUTE_MS: u64 = 60_000;
/// The hour in which dollars are counted.
const HOUR_MS: u64 = 3_600_000;
/// Samples closer together than this are one: the memory stays bounded.
const GRAIN_MS: u64 = 1_000;

/// Totals at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    at_ms: u64,
    tokens: u64,
    cost_usd: f64,
}

/// The totals of the last hour.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates {
    samples: VecDeque<Sample>,
}

/// What was spent lately.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens in the last minute.
    pub tokens_per_minute: u64,
    /// Dollars in the last hour.
    pub cost_usd_per_hour: f64,
}

impl Rates {
    /// Begins anew: what was spent until now is no news, however suddenly it
    /// became known.
    pub fn restart(&mut self, at_ms: u64, tokens: u64, cost_usd: f64) {
        self.samples.clear();
        self.samples.push_back(Sample { at_ms, tokens, cost_usd });
    }

    /// Takes the totals at `at_ms` (milliseconds supervised) in.
    pub fn take(&mut self, at_ms: u64, tokens: u64, cost_usd: f64) -> Rate {
        let now = Sample { at_ms, tokens, cost_usd };
        while self.samples.len() > 1 && self.samples[1].at_ms + HOUR_MS <= at_ms {
            self.samples.pop_front();
        }
        let is_dense = self.samples.back().is_some_and(|last| at_ms < last.at_ms + GRAIN_MS)
            && self.samples.len() > 1;
        let rate = Rate {
            tokens_per_minute: self.since(now, MINUTE_MS).map_or(0, |(then, span_ms)| {
                let spent = tokens.saturating_sub(then.tokens);
                (spent as f64 * MINUTE_MS as f64 / span_ms as f64) as u64
            }),
            cost_usd_per_hour: self.since(now, HOUR_MS).map_or(0.0, |(then, span_ms)| {
                (cost_usd - then.cost_usd).max(0.0) * HOUR_MS as f64 / span_ms as f64
            }),
        };
        if is_dense {
            // The older of two close ones stands: the window is never too short.
            return rate;
        }
        self.samples.push_back(now);
        rate
    }

    /// The newest sample that is at least a window old, else the oldest there is,
    /// and over which span what came since is to be taken: the window, or longer
    /// when nothing was heard for longer (a machine that slept reads hours at once).
    fn since(&self, now: Sample, window_ms: u64) -> Option<(Sample, u64)> {
        let old = self.samples.iter().rev().find(|s| s.at_ms + window_ms <= now.at_ms);
        let then = *old.or(self.samples.front())?;
        Some((then, now.at_ms.saturating_sub(then.at_ms).max(window_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_shows_at_once_and_is_forgotten_after_its_window() {
        let mut rates = Rates::default();
        rates.restart(0, 0, 0.0);
        assert_eq!(rates.take(10_000, 5_000, 2.0).tokens_per_minute, 5_000);
        assert_eq!(rates.take(10_000, 5_000, 2.0).cost_usd_per_hour, 2.0);
        assert_eq!(rates.take(69_000, 5_000, 2.0).tokens_per_minute, 4_347);
        assert_eq!(rates.take(71_000, 5_000, 2.0).tokens_per_minute, 0);
        assert_eq!(rates.take(3_000_000, 6_000, 3.0).cost_usd_per_hour, 3.0);
        assert!(rates.take(3_700_000, 6_000, 3.0).cost_usd_per_hour < 1.1);
    }

    #[test]
    fn what_came_in_a_long_silence_is_spread_over_it() {
        let mut rates = Rates::default();
        rates.restart(0, 0, 0.0);
        rates.take(1_000, 100, 0.0);
        // Ten minutes asleep; then all at once.
        assert_eq!(rates.take(601_000, 10_100, 0.0).tokens_per_minute, 1_000);
    }

    proptest! {
        /// Against all samples, kept without end.
        #[test]
        fn never_more_than_was_spent_since_the_window_began(
            steps in proptest::collection::vec((1_u64..20_000, 0_u64..5_000), 1..200),
        ) {
            let mut rates = Rates::default();
            rates.restart(0, 0, 0.0);
            let (mut at, mut tokens) = (0, 0);
            let mut all = vec![(0, 0)];
            for (gap, more) in steps {
                at += gap;
                tokens += more;
                let rate = rates.take(at, tokens, tokens as f64);
                // Of two samples closer than a grain only the older is kept.
                let old = all.iter().rev().find(|(t, _)| t + MINUTE_MS <= at);
                let floor = old.and_then(|(old, _)| {
                    all.iter().rev().find(|(t, _)| t + GRAIN_MS <= *old)
                });
                let most = tokens - floor.map_or(0, |(_, n)| *n);
                prop_assert!(rate.tokens_per_minute <= most, "{} > {most}", rate.tokens_per_minute);
                // A window's worth of spending within less than it shows in full.
                let inside = all.iter().find(|(t, _)| t + MINUTE_MS > at);
                if let Some((_, n)) = inside && at < MINUTE_MS {
                    prop_assert!(rate.tokens_per_minute >= tokens - n);
                }
                all.push((at, tokens));
            }
        }
    }
}
