//! Chance that can be repeated, and how often it is tempted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Splitmix64: the same numbers for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % limit
    }

    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

/// The seed of one trial; a panic while it lives prints how to repeat it.
pub struct Seed {
    test: &'static str,
    value: u64,
}

impl Seed {
    /// The seed of the `index`th trial of a test.
    pub fn of(test: &'static str, base: u64, index: u64) -> Self {
        Self { test, value: base.wrapping_add(index) }
    }

    /// As the person chose it, or any.
    pub fn base() -> u64 {
        match std::env::var("LONGHAUL_TORTURE_SEED") {
            Ok(text) => text.parse().expect("LONGHAUL_TORTURE_SEED is a number"),
            Err(_) => uuid::Uuid::new_v4().as_u128() as u64 >> 16,
        }
    }

    pub fn dice(&self) -> Dice {
        Dice(self.value)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "replay: LONGHAUL_TORTURE_SEED={} cargo test --test torture {}",
                self.value, self.test
            );
        }
    }
}

/// How many: `ci` by default, `long` in the long run, or as the person says.
pub fn count(ci: u64, long: u64) -> u64 {
    match std::env::var("LONGHAUL_TORTURE").as_deref() {
        Err(_) => ci,
        Ok("long") => long,
        Ok(text) => text.parse().expect("LONGHAUL_TORTURE is `long` or a number"),
    }
}

/// Does trials 0, 1, 2 … in some threads until `done` says so, or one fails.
pub fn share(threads: usize, done: impl Fn(u64) -> bool + Sync, trial: impl Fn(u64) + Sync) {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let guard = FailGuard(&failed);
                while !failed.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if done(index) {
                        break;
                    }
                    trial(index);
                }
                drop(guard);
            });
        }
    });
}

struct FailGuard<'a>(&'a AtomicBool);

impl Drop for FailGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
