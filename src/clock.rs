//! The only place that reads a clock.
//!
//! Deadlines run on `CLOCK_BOOTTIME`, which goes on while the machine is
//! suspended and is not moved by NTP or by a person; wall time is for display
//! and for the journal. `std::time::Instant` is neither suspend-aware nor
//! serialisable, so it is not used for decisions.

use serde::{Deserialize, Serialize};

/// A moment, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// Wall clock, milliseconds since the Unix epoch.
    pub unix_ms: i64,
    /// `CLOCK_BOOTTIME`, milliseconds since boot.
    pub boot_ms: u64,
}

impl Timestamp {
    /// Reads both clocks.
    pub fn now() -> Self {
        let wall = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self {
            unix_ms: wall.tv_sec * 1000 + wall.tv_nsec / 1_000_000,
            boot_ms: (boot.tv_sec as u64) * 1000 + (boot.tv_nsec as u64) / 1_000_000,
        }
    }

    /// Milliseconds from `earlier` to `self` on the boot clock; 0 if it ran
    /// backwards, which means the machine was rebooted in between.
    pub fn ms_since(self, earlier: Timestamp) -> u64 {
        self.boot_ms.saturating_sub(earlier.boot_ms)
    }

    /// The same moment shifted by `ms` on both clocks.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self {
            unix_ms: self.unix_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)),
            boot_ms: self.boot_ms.saturating_add(ms),
        }
    }

    /// RFC 3339 in UTC with milliseconds, as the events and reports carry it.
    pub fn rfc3339(self) -> String {
        rfc3339(self.unix_ms)
    }
}

/// The Unix time in milliseconds of a file's time, which can be set to any.
pub fn file_unix_ms(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000)
}

/// RFC 3339 in UTC, with milliseconds, of a Unix time in milliseconds.
pub fn rfc3339(unix_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(unix_ms) {
        Ok(ts) => format!("{ts:.3}"),
        Err(_) => String::from("unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Where the process in the namespace writes what it read.
    const ANSWER: &str = "LONGHAUL_TEST_CLOCK_ANSWER";

    /// The kernel can have the boot clock of a namespace run ahead of the
    /// monotonic one, as eight hours of sleep would.
    #[test]
    fn the_time_a_machine_slept_has_passed() {
        if let Some(answer) = std::env::var_os(ANSWER) {
            return std::fs::write(answer, Timestamp::now().boot_ms.to_string()).unwrap();
        }
        let slept_ms = 8 * 60 * 60 * 1_000;
        let answer = tempfile::NamedTempFile::new().unwrap();
        let before = Timestamp::now();
        let said = Command::new("unshare")
            .args(["--user", "--map-root-user", "--fork", "--time", "--boottime", "28800"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "clock::tests::the_time_a_machine_slept_has_passed"])
            .env(ANSWER, answer.path())
            .output();
        let text = std::fs::read_to_string(answer.path()).unwrap();
        if text.is_empty() {
            // Not every machine lets everybody have namespaces.
            let is_needed = std::env::var_os("LONGHAUL_NEEDS_UNSHARE").is_some();
            return assert!(!is_needed, "no time namespace: {said:?}");
        }
        let there = Timestamp { unix_ms: 0, boot_ms: text.parse().unwrap() };
        let passed_ms = there.ms_since(before);
        assert!((slept_ms..slept_ms + 600_000).contains(&passed_ms), "{passed_ms} ms");
    }
}
