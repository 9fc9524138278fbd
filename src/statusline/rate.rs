//! How fast a session spends, in dollars an hour.
//!
//! What it spent in the last ten minutes, pauses included: from the newest of its lines
//! that is at least so old, or from its first. Before the first minute is over, and where
//! nothing can be remembered, it is the session's cost over its whole life. Each line
//! leaves what it saw in a file of a few hundred bytes for the next.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::input::Session;
use crate::clock;
use crate::state_dir::{self, FILE_MODE};

/// What "lately" is.
const WINDOW_MS: i64 = 600_000;
/// A shorter time says nothing about an hour.
const SHORTEST_MS: i64 = 60_000;
/// Lines closer together than this are remembered as one.
const GRAIN_MS: i64 = 20_000;
/// A file of longer than this ago is of a session that is over.
const FORGET_MS: i64 = 24 * 3_600_000;
/// Larger than a memory can become.
const FILE_MAX_BYTES: u64 = 16 << 10;
/// Files looked at when old ones are thrown away.
const LOOK_AT_FILES: usize = 10_000;
const MS_PER_HOUR: f64 = 3_600_000.0;

/// How fast a session spends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Dollars an hour.
    pub usd_per_hour: f64,
}

/// What lines of a session saw, in the order of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Memory {
    /// Unix milliseconds, and dollars by then.
    seen: Vec<(i64, f64)>,
}

impl Memory {
    /// A line is drawn; gives what the session spent since the time that counts, and that
    /// time in milliseconds.
    fn see(&mut self, now_unix_ms: i64, cost_usd: f64) -> Option<(f64, i64)> {
        let fits = |(at, usd): &(i64, f64)| *at <= now_unix_ms && *usd <= cost_usd;
        if !self.seen.iter().all(fits) {
            // The clock was set back, or the session's bill began anew.
            self.seen.clear();
        }
        // Of those beyond the window, the newest is where the window begins.
        let old = self.seen.iter().filter(|(at, _)| now_unix_ms - at >= WINDOW_MS).count();
        self.seen.drain(..old.saturating_sub(1));
        let since = self.seen.first().copied();
        let last = self.seen.last().map(|(at, _)| *at);
        if last.is_none_or(|at| now_unix_ms - at >= GRAIN_MS) {
            self.seen.push((now_unix_ms, cost_usd));
        }
        since.map(|(at, usd)| (cost_usd - usd, now_unix_ms - at))
    }
}

pub(super) fn pace(state_dir: Option<&Path>, session: &Session, now_unix_ms: i64) -> Option<Pace> {
    let cost_usd = session.cost_usd?;
    let lately = state_dir.and_then(|dir| {
        let file = file(dir, session.session_id.as_deref()?)?;
        let before = read(&file);
        let mut memory = before.clone().unwrap_or_default();
        let lately = memory.see(now_unix_ms, cost_usd);
        if before.as_ref() != Some(&memory) {
            write(&file, &memory);
        }
        lately
    });
    let whole = session.duration_ms.and_then(|ms| i64::try_from(ms).ok());
    lately
        .filter(|(_, ms)| *ms >= SHORTEST_MS)
        .or(whole.map(|ms| (cost_usd, ms)))
        .filter(|(_, ms)| *ms >= SHORTEST_MS)
        .map(|(usd, ms)| Pace { usd_per_hour: usd * MS_PER_HOUR / ms as f64 })
}

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("statusline")
}

/// The file of a session; none for an id that is no name for a file.
fn file(state_dir: &Path, session_id: &str) -> Option<PathBuf> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let fits = (1..=64).contains(&session_id.len()) && session_id.chars().all(is_plain);
    fits.then(|| folder(state_dir).join(format!("{session_id}.json")))
}

fn read(file: &Path) -> Option<Memory> {
    let plain = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let opened = File::options().read(true).custom_flags(plain).open(file).ok()?;
    let meta = opened.metadata().ok()?;
    if !meta.is_file() || meta.len() > FILE_MAX_BYTES {
        return None;
    }
    serde_json::from_str(&std::io::read_to_string(opened).ok()?).ok()
}

/// What cannot be remembered is not.
fn write(file: &Path, memory: &Memory) {
    let Ok(text) = serde_json::to_vec(memory) else { return };
    if state_dir::write_unsynced(file, &text, FILE_MODE).is_err()
        && let Some(folder) = file.parent()
        && fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).is_ok()
    {
        let _ = state_dir::write_unsynced(file, &text, FILE_MODE);
    }
}

/// Throws away what was remembered of sessions that are over.
pub fn forget_old(state_dir: &Path, now_unix_ms: i64) {
    let Ok(entries) = fs::read_dir(folder(state_dir)) else { return };
    for entry in entries.take(LOOK_AT_FILES).flatten() {
        let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
        let touched = clock::file_unix_ms(meta.mtime(), meta.mtime_nsec());
        if meta.is_file() && now_unix_ms.saturating_sub(touched) > FORGET_MS {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: i64 = 60_000;

    fn session(cost_usd: f64, minutes: u64) -> Session {
        Session {
            session_id: Some("a-1".into()),
            cost_usd: Some(cost_usd),
            duration_ms: Some(minutes * 60_000),
            ..Session::default()
        }
    }

    fn rate(dir: &Path, at: i64, session: &Session) -> Option<f64> {
        pace(Some(dir), session, at).map(|pace| (pace.usd_per_hour * 1e6).round() / 1e6)
    }

    #[test]
    fn it_is_what_was_spent_in_the_last_ten_minutes() {
        let dir = tempfile::tempdir().unwrap();
        // Ten dollars by the time of the first line, in two hours: only the average is known.
        assert_eq!(rate(dir.path(), 0, &session(10.0, 120)), Some(5.0));
        // A dollar a minute from then on.
        assert_eq!(rate(dir.path(), 5 * MIN, &session(15.0, 125)), Some(60.0));
        assert_eq!(rate(dir.path(), 10 * MIN, &session(20.0, 130)), Some(60.0));
        // Then nothing for a while: since the line that is ten minutes old.
        assert_eq!(rate(dir.path(), 20 * MIN, &session(20.0, 140)), Some(0.0));
        assert_eq!(rate(dir.path(), 25 * MIN, &session(22.5, 145)), Some(10.0));
    }

    #[test]
    fn a_minute_is_the_least_that_tells() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(rate(dir.path(), 0, &session(0.5, 0)), None);
        assert_eq!(rate(dir.path(), 30_000, &session(0.6, 0)), None);
        assert_eq!(rate(dir.path(), 2 * MIN, &session(0.7, 2)), Some(6.0));
        assert_eq!(pace(None, &session(1.0, 60), 0), Some(Pace { usd_per_hour: 1.0 }));
        assert_eq!(pace(None, &Session::default(), 0), None);
    }

    #[test]
    fn a_clock_or_a_bill_that_goes_back_begins_anew() {
        let mut memory = Memory { seen: vec![(10 * MIN, 5.0)] };
        assert_eq!(memory.see(9 * MIN, 6.0), None);
        assert_eq!(memory.see(12 * MIN, 1.0), None);
        assert_eq!(memory.see(14 * MIN, 2.0), Some((1.0, 2 * MIN)));
    }

    #[test]
    fn what_is_remembered_stays_small_and_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        for at in 0..5_000 {
            rate(dir.path(), at * 1_000, &session(at as f64, 1));
        }
        let file = folder(dir.path()).join("a-1.json");
        assert!(fs::metadata(&file).unwrap().len() < 1_500);
        let touched = fs::metadata(&file).unwrap();
        let touched = clock::file_unix_ms(touched.mtime(), 0);
        forget_old(dir.path(), touched + FORGET_MS / 2);
        assert!(file.exists());
        forget_old(dir.path(), touched + FORGET_MS + 2_000);
        assert!(!file.exists());
    }

    #[test]
    fn an_id_names_no_file_elsewhere() {
        for id in ["", "..", "../x", "a/b", "a\0", "é", &"x".repeat(65)] {
            assert_eq!(super::file(Path::new("/s"), id), None, "{id:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(folder(dir.path())).unwrap();
        for odd in ["", "{", "null", r#"{"seen":[[1]]}"#] {
            fs::write(folder(dir.path()).join("a-1.json"), odd).unwrap();
            assert_eq!(rate(dir.path(), 0, &session(1.0, 60)), Some(1.0), "{odd}");
        }
    }
}
