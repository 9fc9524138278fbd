//! How long an attempt may take, and how long to wait before the next.

use std::time::Duration;

/// How long to keep at it. There is one attempt more than pauses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// Pauses after each failed attempt; jitter of a quarter is added or taken.
    pub pauses: Vec<Duration>,
    /// Longest pause a server can ask for.
    pub longest: Duration,
    /// One run of the person's command; then it is killed.
    pub command: Duration,
    /// One POST: name, connection, TLS and answer.
    pub webhook: Duration,
}

impl Default for Patience {
    /// Five attempts over about three minutes; six when a server asks for patience.
    fn default() -> Self {
        Self {
            pauses: [2, 8, 32, 128].map(Duration::from_secs).to_vec(),
            longest: Duration::from_secs(60),
            command: Duration::from_secs(30),
            webhook: Duration::from_secs(10),
        }
    }
}

impl Patience {
    /// The pause after failed attempt number `attempt` (from 0); `None`: that was
    /// the last one. The server's wish counts up to a bound, and jitter never
    /// goes below it. `chance` is anything between 0 and 1.
    pub(super) fn pause(
        &self,
        attempt: usize,
        asked_ms: Option<u64>,
        chance: f64,
    ) -> Option<Duration> {
        let own = self.pauses.get(attempt)?.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0);
        let asked = Duration::from_millis(asked_ms.unwrap_or(0)).min(self.longest);
        Some(own.max(asked))
    }
}

/// A number between 0 and 1; a half where the kernel has none to give.
pub(super) fn chance() -> f64 {
    let mut byte = [0x80_u8];
    let _ = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK);
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_attempts_with_growing_pauses_and_an_end() {
        let patience = Patience::default();
        for chance in [0.0, 0.5, 1.0] {
            let pauses: Vec<Duration> =
                (0..).map_while(|n| patience.pause(n, None, chance)).collect();
            assert_eq!(pauses.len(), 4);
            assert!(pauses.is_sorted());
            let total: Duration = pauses.iter().sum();
            assert!((120..=220).contains(&total.as_secs()), "{total:?}");
        }
    }

    #[test]
    fn jitter_moves_a_pause_by_a_quarter_at_most() {
        let patience = Patience::default();
        let ms = |chance| patience.pause(1, None, chance).unwrap().as_millis();
        assert_eq!([ms(0.0), ms(0.5), ms(1.0), ms(9.0)], [6_000, 8_000, 10_000, 10_000]);
        let chances: Vec<f64> = (0..64).map(|_| chance()).collect();
        assert!(chances.iter().all(|c| (0.0..=1.0).contains(c)));
        assert!(chances.iter().any(|c| *c != chances[0]), "it never changes");
    }

    #[test]
    fn what_the_server_asks_for_counts_up_to_a_bound_even_for_ever() {
        let patience = Patience::default();
        let secs = |asked_ms| patience.pause(0, Some(asked_ms), 0.0).unwrap().as_secs_f64();
        assert_eq!(secs(0), 1.5);
        assert_eq!(secs(20_000), 20.0);
        assert_eq!(secs(u64::MAX), 60.0);
        let longest: Duration = (0..).map_while(|n| patience.pause(n, Some(u64::MAX), 1.0)).sum();
        assert!(longest < Duration::from_secs(6 * 60), "{longest:?}");
    }
}
