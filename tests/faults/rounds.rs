//! Many rounds of one test, each from a seed of its own.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// SplitMix64: small, fast, and the same everywhere.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to `n` − 1.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Is this the long run?
pub fn is_long() -> bool {
    std::env::var_os("LONGHAUL_TORTURE").is_some_and(|value| value == "long")
}

/// Runs `round` with `few` seeds, in the long run with `many`. The few are the
/// same every time; the many are new ones. `LONGHAUL_SEED` runs that one alone.
pub fn rounds(test: &str, few: u64, many: u64, round: impl Fn(&mut Rng) + Sync) {
    if let Some(seed) = std::env::var("LONGHAUL_SEED").ok().and_then(|seed| seed.parse().ok()) {
        round(&mut Rng::new(seed));
        return;
    }
    let count = if is_long() { many } else { few };
    let first = if is_long() { RandomState::new().build_hasher().finish() >> 1 } else { 1 };
    let next = AtomicU64::new(0);
    let failed = Mutex::new(None);
    let worker = || {
        while failed.lock().unwrap().is_none() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return;
            }
            let seed = first + at;
            if catch_unwind(AssertUnwindSafe(|| round(&mut Rng::new(seed)))).is_err() {
                *failed.lock().unwrap() = Some(seed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, Into::into) {
            scope.spawn(worker);
        }
    });
    if let Some(seed) = *failed.lock().unwrap() {
        panic!("replay: LONGHAUL_SEED={seed} cargo test --test faults {test} -- --exact");
    }
    println!("{test}: {count} rounds, none failed");
}
