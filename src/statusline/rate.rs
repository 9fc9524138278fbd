//! How fast a session spends, in dollars an hour.
//!
//! What it spent in the last ten minutes, pauses included: from the newest of its lines
//! that is at least so old, or from its first. Before the first minute is over, and where
//! nothing can be remembered, it is the session's cost over its whole life. Each line
//! leaves what it saw in a file of a few hundred bytes for the next.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::input::Session;
use crate::clock;
use crate::state_dir::{self, FILE_MODE, read_small_json};

/// What "lately" is.
const WINDOW_MS: i64 = 600_000;
/// Longer ago than this was another sitting.
const LONG_MS: i64 = 3_600_000;
/// A shorter time says nothing about an hour.
const SHORTEST_MS: i64 = 60_000;
/// Lines closer together than this are remembered as one.
const GRAIN_MS: i64 = 20_000;
/// What happens so close together happens at once.
const SAME_MS: i64 = 2_000;
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

/// Over the whole life of the session.
pub(super) fn whole_life(session: &Session) -> Option<Pace> {
    let ms = i64::try_from(session.duration_ms?).ok()?;
    Pace::of(session.cost_usd?, ms)
}

impl Pace {
    fn of(usd: f64, ms: i64) -> Option<Self> {
        (ms >= SHORTEST_MS).then(|| Self { usd_per_hour: usd * MS_PER_HOUR / ms as f64 })
    }
}

/// What lines of a session saw, in the order of time: Unix milliseconds, and dollars by
/// then.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    seen: Vec<(i64, f64)>,
}

/// What is remembered of a session, and where.
#[derive(Debug, Default)]
pub(super) struct Memory {
    file: Option<PathBuf>,
    before: Option<Seen>,
    seen: Seen,
}

impl Memory {
    /// That of the session; nothing, where it has no name for a file.
    pub(super) fn of(state_dir: &Path, session: &Session) -> Self {
        let file = session.session_id.as_deref().and_then(|id| file(state_dir, id));
        let before: Option<Seen> =
            file.as_deref().and_then(|file| read_small_json(file, FILE_MAX_BYTES));
        Self { file, seen: before.clone().unwrap_or_default(), before }
    }

    /// What the session spent after `from_unix_ms`, at least. By what its lines saw alone:
    /// the bill of one that was resumed has what it spent days ago.
    pub(super) fn since(&self, session: &Session, from_unix_ms: i64) -> f64 {
        let Some(cost_usd) = session.cost_usd else { return 0.0 };
        let later = self.seen.seen.iter().find(|(at, _)| *at + SAME_MS >= from_unix_ms);
        later.map_or(0.0, |(_, usd)| (cost_usd - usd).max(0.0))
    }

    /// A line is drawn, and gets to know how fast the session spends. It is remembered, if
    /// the last one was not a moment ago, or `surely`.
    pub(super) fn see(
        &mut self,
        session: &Session,
        now_unix_ms: i64,
        surely: bool,
    ) -> Option<Pace> {
        let cost_usd = session.cost_usd?;
        let lately = self.seen.see(now_unix_ms, cost_usd, surely);
        lately.and_then(|(usd, ms)| Pace::of(usd, ms)).or_else(|| whole_life(session))
    }

    /// Leaves it for the next line. What cannot be remembered is not.
    pub(super) fn keep(&self) {
        if let Some(file) =
            self.file.as_deref().filter(|_| self.before.as_ref() != Some(&self.seen))
        {
            write(file, &self.seen);
        }
    }
}

impl Seen {
    /// What the session spent since the time that counts, and that time in milliseconds.
    fn see(&mut self, now_unix_ms: i64, cost_usd: f64, surely: bool) -> Option<(f64, i64)> {
        let fits = |(at, usd): &(i64, f64)| *at <= now_unix_ms && *usd <= cost_usd;
        if !self.seen.iter().all(fits) {
            // The clock was set back, or the session's bill began anew.
            self.seen.clear();
        }
        // After a long pause nothing from before it says how fast it goes now.
        self.seen.retain(|(at, _)| now_unix_ms - at < LONG_MS);
        // Of those beyond the window, the newest is where the window begins.
        let old = self.seen.iter().filter(|(at, _)| now_unix_ms - at >= WINDOW_MS).count();
        self.seen.drain(..old.saturating_sub(1));
        let since = self.seen.first().copied();
        let last_ms = self.seen.last().map_or(i64::MAX, |(at, _)| now_unix_ms - at);
        if last_ms >= GRAIN_MS || (surely && last_ms >= SAME_MS) {
            self.seen.push((now_unix_ms, cost_usd));
        }
        since.map(|(at, usd)| (cost_usd - usd, now_unix_ms - at))
    }
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

fn write(file: &Path, seen: &Seen) {
    let Ok(text) = serde_json::to_vec(seen) else { return };
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
        let mut memory = Memory::of(dir, session);
        let pace = memory.see(session, at, false);
        memory.keep();
        pace.map(|pace| (pace.usd_per_hour * 1e6).round() / 1e6)
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
        // The next day only the average is known again.
        assert_eq!(rate(dir.path(), 900 * MIN, &session(24.5, 147)), Some(10.0));
    }

    #[test]
    fn a_minute_is_the_least_that_tells() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(rate(dir.path(), 0, &session(0.5, 0)), None);
        assert_eq!(rate(dir.path(), 30_000, &session(0.6, 0)), None);
        assert_eq!(rate(dir.path(), 2 * MIN, &session(0.7, 2)), Some(6.0));
        assert_eq!(whole_life(&session(1.0, 60)), Some(Pace { usd_per_hour: 1.0 }));
        assert_eq!(whole_life(&Session::default()), None);
    }

    #[test]
    fn a_clock_or_a_bill_that_goes_back_begins_anew() {
        let mut memory = Seen { seen: vec![(10 * MIN, 5.0)] };
        assert_eq!(memory.see(9 * MIN, 6.0, false), None);
        assert_eq!(memory.see(12 * MIN, 1.0, false), None);
        assert_eq!(memory.see(14 * MIN, 2.0, false), Some((1.0, 2 * MIN)));
    }

    #[test]
    fn what_no_account_has_yet_is_known_from_the_lines_since() {
        let mut memory = Memory::default();
        let now = 100 * MIN;
        assert_eq!(memory.since(&session(3.0, 5), now - 10 * MIN), 0.0, "nothing is remembered");
        // The line that had it looked at saw two dollars, the one before it one.
        memory.seen.seen =
            vec![(now - 11 * MIN, 1.0), (now - 10 * MIN - 500, 2.0), (now - MIN, 2.5)];
        assert_eq!(memory.since(&session(3.0, 60), now - 10 * MIN), 1.0);
        // Looked at for somebody else in between: what came after the next line.
        assert_eq!(memory.since(&session(3.0, 60), now - 5 * MIN), 0.5);
        assert_eq!(memory.since(&session(0.5, 60), now - 5 * MIN), 0.0);
        assert_eq!(memory.since(&Session::default(), now - 5 * MIN), 0.0);
    }

    #[test]
    fn a_line_that_has_the_account_looked_at_is_remembered_for_it() {
        let mut seen = Seen::default();
        for (at, surely) in [(0, false), (5_000, false), (6_000, true), (7_000, true)] {
            seen.see(at, 1.0, surely);
        }
        let times: Vec<i64> = seen.seen.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [0, 6_000]);
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
