//! The last net below the loop: if it does not come round any more, nobody looks
//! at budgets, limits or signals while the session goes on. A file system that
//! never answers can do that, and a session can bring one about.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Between two looks. Sleeping stands still while the machine is suspended, so a
/// machine that slept is no loop that hangs.
const LOOK: Duration = Duration::from_secs(5);
/// Looks in a row without a round before longhaul ends itself: a minute.
const LOOKS: u32 = 12;

/// Counts the rounds of the loop.
#[derive(Debug, Clone, Default)]
pub struct Rounds(Arc<AtomicU64>);

impl Rounds {
    /// The loop came round.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on somebody watches. When the loop stands still for a minute,
    /// longhaul ends with the code of its own faults: with it goes the leash, and
    /// the keeper ends the session. The next run takes it up. The watch is over
    /// when this is dropped.
    pub fn watch(&self) -> Watching {
        let over = Arc::new(AtomicU64::new(0));
        let (rounds, is_over) = (self.clone(), Arc::clone(&over));
        let watch = move || {
            let mut stall = Stall::default();
            while is_over.load(Ordering::Relaxed) == 0 {
                std::thread::sleep(LOOK);
                if stall.look(rounds.0.load(Ordering::Relaxed))
                    && is_over.load(Ordering::Relaxed) == 0
                {
                    end();
                }
            }
        };
        // Without a thread there is no watch; the run is worth more.
        let started =
            std::thread::Builder::new().name("watchdog".into()).stack_size(64 << 10).spawn(watch);
        if let Err(err) = started {
            tracing::warn!(%err, "nobody watches over the loop");
        }
        Watching(over)
    }
}

/// Ends the watch when dropped.
#[derive(Debug)]
pub struct Watching(Arc<AtomicU64>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.store(1, Ordering::Relaxed);
    }
}

/// How long the loop has stood still.
#[derive(Debug, Default)]
struct Stall {
    rounds: u64,
    looks: u32,
}

impl Stall {
    /// True when it has stood still for too long.
    fn look(&mut self, rounds: u64) -> bool {
        if rounds != self.rounds {
            *self = Stall { rounds, looks: 0 };
            return false;
        }
        self.looks += 1;
        self.looks >= LOOKS
    }
}

#[expect(clippy::exit, reason = "the thread that could return to main hangs")]
fn end() {
    tracing::error!("the loop has not come round for a minute; ending, and with it the session");
    std::process::exit(i32::from(crate::ErrorKind::Internal.exit_code()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_for_a_minute_is_noticed_and_no_other() {
        let mut stall = Stall::default();
        assert!((1..100).all(|round| !stall.look(round)));
        assert_eq!((1..100).position(|_| stall.look(99)), Some(LOOKS as usize - 1));
        let mut stall = Stall::default();
        assert!((1..100_u64).all(|look| !stall.look(1 + look / u64::from(LOOKS - 1))));
    }
}
