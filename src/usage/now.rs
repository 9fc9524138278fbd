//! What was spent today and this month, in a small file for whoever must not wait.
//!
//! A status line is drawn in milliseconds and a supervisor holds little memory: neither
//! reads transcripts. A process of its own does ([`spent_main`]), and leaves here what it
//! found. The file says of which day it speaks, so that nobody takes it for another.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, Zoned};
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};
use serde::{Deserialize, Serialize};

use super::places;
use super::spent::{Amount, Spent};
use crate::OWN_PROGRAM;
use crate::clock::{self, Timestamp};
use crate::error::{Error, Result};
use crate::models::{self, Models};
use crate::state_dir::{self, FILE_MODE};
use crate::statusline;

/// The hidden subcommand: `__spent [--detached] <state directory> <config directory>…`.
pub const SPENT_COMMAND: &str = "__spent";

/// Its first argument where nobody waits for the answer.
const DETACHED: &str = "--detached";
/// The format of the file.
const FORMAT: u32 = 1;
/// Larger than the file can become by what stands in it.
const FILE_MAX_BYTES: u64 = 64 << 10;
/// How much the process gives way to others.
const NICENESS: i32 = 15;
/// It may take so long, a full disk's worth of transcripts included.
pub const SPENT_LIMIT: Duration = Duration::from_secs(120);
/// After one was begun, nobody begins another so soon, whatever became of it.
const BEGIN_AGAIN_MS: i64 = 10_000;

/// What was spent, of which day, and when it was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Now {
    /// The file's format.
    pub format: u32,
    /// When the transcripts were begun to be read, Unix milliseconds.
    pub at_unix_ms: i64,
    /// The configuration directories.
    pub dirs: Vec<String>,
    /// The day in the zone of this machine, `2026-11-21`.
    pub day: String,
    /// When that day began, Unix milliseconds.
    pub day_starts_unix_ms: i64,
    /// When it is over.
    pub day_ends_unix_ms: i64,
    /// When its month is over.
    pub month_ends_unix_ms: i64,
    /// What was spent.
    pub spent: Spent,
}

/// What all sessions have spent today and this month, from their transcripts below `dirs`
/// and from the index below `state_dir`. What cannot be read is left out.
///
/// # Errors
/// Whose prices are in use cannot be told: what is counted keeps its price, so nothing is.
pub fn refresh(
    state_dir: &Path,
    dirs: &[PathBuf],
    now_unix_ms: i64,
    zone: &TimeZone,
) -> Result<Spent> {
    models::use_own_beside(|name| std::env::var_os(name), state_dir, now_unix_ms)?;
    let (account, _) = super::account(Ok(state_dir.to_owned()), dirs, Models::in_force());
    Ok(account.spent(now_unix_ms, zone))
}

impl Now {
    fn of(dirs: &[PathBuf], now_unix_ms: i64, zone: &TimeZone, spent: Spent) -> Self {
        let now = Instant::from_millisecond(now_unix_ms).unwrap_or_default();
        let today = Zoned::new(now, zone.clone()).date();
        let start = |day: std::result::Result<jiff::civil::Date, jiff::Error>| {
            let start = day.and_then(|day| day.to_zoned(zone.clone()));
            start.map_or(i64::MAX, |at| at.timestamp().as_millisecond())
        };
        Self {
            format: FORMAT,
            at_unix_ms: now_unix_ms,
            dirs: names(dirs),
            day: today.to_string(),
            day_starts_unix_ms: start(Ok(today)),
            day_ends_unix_ms: start(today.tomorrow()),
            month_ends_unix_ms: start(today.last_of_month().tomorrow()),
            spent,
        }
    }

    /// The file below `state_dir`; `None` where there is none of this format, or of these
    /// directories.
    pub fn read(state_dir: &Path, dirs: &[PathBuf]) -> Option<Self> {
        let now: Self = state_dir::read_small_json(&file(state_dir, dirs), FILE_MAX_BYTES)?;
        (now.format == FORMAT && now.dirs == names(dirs)).then_some(now)
    }

    fn write(&self, state_dir: &Path, dirs: &[PathBuf]) -> Result<()> {
        let mut text = serde_json::to_vec(self)
            .map_err(|err| Error::internal("what was spent cannot be written").caused_by(err))?;
        text.push(b'\n');
        state_dir::write_unsynced(&file(state_dir, dirs), &text, FILE_MODE)
    }

    /// What was spent on the day of `now_unix_ms`, if this tells of that day.
    pub fn day(&self, now_unix_ms: i64) -> Option<Amount> {
        let is_today = (self.day_starts_unix_ms..self.day_ends_unix_ms).contains(&now_unix_ms);
        is_today.then_some(self.spent.day)
    }

    /// How old it is; one from the future is as old as can be.
    pub fn age_ms(&self, now_unix_ms: i64) -> u64 {
        u64::try_from(now_unix_ms.saturating_sub(self.at_unix_ms)).unwrap_or(u64::MAX)
    }
}

fn names(dirs: &[PathBuf]) -> Vec<String> {
    dirs.iter().map(|dir| dir.to_string_lossy().into_owned()).collect()
}

/// `usage-now.json`; with directories that were named, one of their own for each set of
/// them, so that two sessions do not take turns at one file.
fn file(state_dir: &Path, dirs: &[PathBuf]) -> PathBuf {
    let is_usual = match dirs {
        [a, b] => a.ends_with(".claude") && b.ends_with(".config/claude"),
        _ => false,
    };
    if is_usual {
        return state_dir.join("usage-now.json");
    }
    state_dir.join(format!("usage-now-{}.json", places::short_name(dirs)))
}

/// Held by the process that reads.
fn lock_file(state_dir: &Path, dirs: &[PathBuf]) -> PathBuf {
    file(state_dir, dirs).with_extension("lock")
}

/// The arguments for a process that somebody waits for: it prints the file's line.
pub fn attended(state_dir: &Path, dirs: &[PathBuf]) -> Vec<OsString> {
    let dirs = dirs.iter().map(|dir| dir.clone().into_os_string());
    [SPENT_COMMAND.into(), state_dir.into()].into_iter().chain(dirs).collect()
}

/// Has the file made anew by a process that nobody waits for, unless one was begun a
/// moment ago.
pub fn begin_refresh(state_dir: &Path, dirs: &[PathBuf], now_unix_ms: i64) {
    if !may_begin(state_dir, dirs, now_unix_ms) {
        return;
    }
    let mut args = attended(state_dir, dirs);
    args.insert(1, DETACHED.into());
    // One that cannot be started is tried again by a later status line.
    let _ = Command::new(OWN_PROGRAM)
        .args(args)
        // A project is not kept from being unmounted.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}

/// Was none begun a moment ago? That one is begun now is noted before it starts: it may
/// find another at work, fail, or be ended by its limit, and lines are drawn many times a
/// second. Where it cannot be noted, what it finds could not be kept either.
fn may_begin(state_dir: &Path, dirs: &[PathBuf], now_unix_ms: i64) -> bool {
    let begun = fs::symlink_metadata(lock_file(state_dir, dirs)).map(|meta| {
        use std::os::unix::fs::MetadataExt;
        clock::file_unix_ms(meta.mtime(), meta.mtime_nsec())
    });
    let is_young = |begun: i64| (0..BEGIN_AGAIN_MS).contains(&now_unix_ms.saturating_sub(begun));
    !begun.is_ok_and(is_young)
        && state_dir::prepare_root(state_dir).is_ok()
        && lock(state_dir, dirs).is_some_and(|lock| note_beginning(&lock))
}

/// The lock's time says when somebody began.
fn note_beginning(lock: &File) -> bool {
    let now = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    futimens(lock, &now).is_ok()
}

/// Runs `__spent …` with the arguments after the subcommand: reads, writes the file, and
/// prints it on one line. It ends by itself in bounded time.
pub fn spent_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args = args.peekable();
    let is_detached = args.next_if(|arg| arg == DETACHED).is_some();
    let Some(state_dir) = args.next().map(PathBuf::from) else { return ExitCode::FAILURE };
    let dirs: Vec<PathBuf> = args.map(PathBuf::from).collect();
    if is_detached {
        let _ = rustix::process::setsid();
    } else {
        // Whoever waits for it is gone: then nobody reads the answer.
        let _ =
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    }
    let _ = rustix::process::nice(NICENESS);
    let found = within(SPENT_LIMIT, move || find(&state_dir, &dirs, is_detached));
    let Some(now) = found else { return ExitCode::FAILURE };
    if !is_detached && let Ok(line) = serde_json::to_string(&now) {
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    ExitCode::SUCCESS
}

/// What comes of it in that time: a part of the truth would pass for all of it.
fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Option<T> + Send + 'static,
) -> Option<T> {
    let (done, end) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = done.send(work());
    });
    end.recv_timeout(limit).ok().flatten()
}

fn find(state_dir: &Path, dirs: &[PathBuf], is_detached: bool) -> Option<Now> {
    let asked = Timestamp::now().unix_ms;
    let zone = TimeZone::system();
    let is_writable = state_dir::prepare_root(state_dir).is_ok();
    let lock = is_writable.then(|| lock(state_dir, dirs)).flatten();
    match &lock {
        Some(lock) if is_detached => {
            lock.try_lock().ok()?;
        }
        // Another one reads at this moment: what it finds does for both.
        Some(lock) => {
            let _ = lock.lock();
        }
        // Nobody could be told.
        None if is_detached => return None,
        None => {}
    }
    let at = Timestamp::now().unix_ms;
    // Begun while this one waited. One from the future is of a clock that was wrong.
    let is_fresh = |now: &Now| (asked..=at).contains(&now.at_unix_ms);
    if let Some(fresh) = Now::read(state_dir, dirs).filter(is_fresh) {
        return Some(fresh);
    }
    if let Some(lock) = &lock {
        note_beginning(lock);
    }
    let spent = refresh(state_dir, dirs, at, &zone).ok()?;
    if is_writable {
        statusline::forget_old(state_dir, at);
    }
    let now = Now::of(dirs, at, &zone, spent);
    if is_writable {
        // An answer is an answer all the same.
        let _ = now.write(state_dir, dirs);
    }
    Some(now)
}

fn lock(state_dir: &Path, dirs: &[PathBuf]) -> Option<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(lock_file(state_dir, dirs))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn ms(stamp: &str) -> i64 {
        stamp.parse::<Instant>().unwrap().as_millisecond()
    }

    fn dirs(of: &[&str]) -> Vec<PathBuf> {
        of.iter().map(PathBuf::from).collect()
    }

    fn now_of(stamp: &str, name: &str) -> Now {
        let spent =
            Spent { day: Amount { cost_usd: 1.0, ..Amount::default() }, ..Spent::default() };
        Now::of(&dirs(&["/c"]), ms(stamp), &zone(name), spent)
    }

    #[test]
    fn it_speaks_of_one_day_in_the_zone_of_the_machine() {
        let now = now_of("2026-10-31T23:30:00Z", "Europe/Berlin");
        assert_eq!(now.day, "2026-11-01");
        assert_eq!(now.day_starts_unix_ms, ms("2026-10-31T23:00:00Z"));
        assert_eq!(now.day_ends_unix_ms, ms("2026-11-01T23:00:00Z"));
        assert_eq!(now.month_ends_unix_ms, ms("2026-11-30T23:00:00Z"));
        for (at, is_told) in [
            ("2026-10-31T22:59:59Z", false),
            ("2026-10-31T23:00:00Z", true),
            ("2026-11-01T22:59:59Z", true),
            ("2026-11-01T23:00:00Z", false),
        ] {
            assert_eq!(now.day(ms(at)).is_some(), is_told, "{at}");
        }
        // A day of 25 hours, and one of 23.
        let hours = |stamp| {
            let now = now_of(stamp, "Europe/Berlin");
            (now.day_ends_unix_ms - now.day_starts_unix_ms) / 3_600_000
        };
        assert_eq!((hours("2026-10-25T12:00:00Z"), hours("2026-03-29T12:00:00Z")), (25, 23));
        let last = now_of("2026-12-31T12:00:00Z", "UTC");
        assert_eq!(last.day_ends_unix_ms, last.month_ends_unix_ms);
    }

    #[test]
    fn it_is_read_back_for_the_same_directories_alone() {
        let state = tempfile::tempdir().unwrap();
        let of = dirs(&["/c"]);
        let now = now_of("2026-11-21T12:00:00Z", "UTC");
        now.write(state.path(), &of).unwrap();
        assert_eq!(Now::read(state.path(), &of), Some(now.clone()));
        assert_eq!(Now::read(state.path(), &dirs(&["/d"])), None);
        assert_eq!((now.age_ms(now.at_unix_ms + 5), now.age_ms(now.at_unix_ms - 1)), (5, u64::MAX));
        let path = file(state.path(), &of);
        let newer = serde_json::to_string(&now).unwrap().replace("\"format\":1", "\"format\":2");
        std::fs::write(&path, newer).unwrap();
        assert_eq!(Now::read(state.path(), &of), None);
        std::fs::write(&path, vec![b' '; 1 << 20]).unwrap();
        assert_eq!(Now::read(state.path(), &of), None);
    }

    #[test]
    fn each_set_of_directories_has_its_file_and_the_usual_one_its_name() {
        let name = |of: &[&str]| file(Path::new("/s"), &dirs(of)).display().to_string();
        let usual = name(&["/home/me/.claude", "/home/me/.config/claude"]);
        assert_eq!(usual, "/s/usage-now.json");
        let others = [name(&["/c"]), name(&["/c", "/d"]), name(&["/cd"]), name(&["/d", "/c"])];
        let all: std::collections::BTreeSet<_> = others.iter().collect();
        assert!(all.len() == 4 && !others.contains(&usual), "{others:?}");
    }

    #[test]
    fn what_was_found_is_what_the_transcripts_say() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("c/projects/-p");
        std::fs::create_dir_all(&folder).unwrap();
        let at = crate::clock::rfc3339(Timestamp::now().unix_ms);
        let row = format!(
            r#"{{"type":"assistant","sessionId":"s","timestamp":"{at}","requestId":"r","message":{{"id":"m","type":"message","role":"assistant","model":"claude-opus-5-5","content":[],"usage":{{"input_tokens":0,"output_tokens":100000,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}}}}}}"#
        );
        std::fs::write(folder.join("s.jsonl"), format!("{row}\n")).unwrap();
        let (state, of) = (place.path().join("state"), [place.path().join("c")]);
        let found = find(&state, &of, false).unwrap();
        assert_eq!((found.spent.day.cost_usd, found.spent.month.cost_usd), (2.0, 2.0));
        assert_eq!(Now::read(&state, &of), Some(found));
        // While another one reads, one that nobody waits for leaves it to that.
        let held = lock(&state, &of).unwrap();
        held.lock().unwrap();
        assert_eq!(find(&state, &of, true), None);
        // Where nothing can be written, an answer is still an answer.
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(find(&file, &of, false).is_some() && find(&file, &of, true).is_none());
    }

    #[test]
    fn a_reading_from_the_future_is_read_anew() {
        let place = tempfile::tempdir().unwrap();
        let (state, of) = (place.path().join("state"), [place.path().join("c")]);
        let before = Timestamp::now().unix_ms;
        let spent =
            Spent { day: Amount { cost_usd: 9.0, ..Amount::default() }, ..Spent::default() };
        // The clock was a day ahead, once.
        let ahead = Now::of(&of, before + 86_400_000, &TimeZone::system(), spent);
        state_dir::prepare_root(&state).unwrap();
        ahead.write(&state, &of).unwrap();
        let found = find(&state, &of, false).unwrap();
        assert_eq!(found.spent.day.cost_usd, 0.0);
        assert!((before..before + 86_400_000).contains(&found.at_unix_ms), "{found:?}");
        assert_eq!(Now::read(&state, &of), Some(found));
    }

    #[test]
    fn one_is_begun_at_a_time_whatever_becomes_of_it() {
        let place = tempfile::tempdir().unwrap();
        let (state, of) = (place.path().join("state"), dirs(&["/c"]));
        let may_begin = |state: &Path| super::may_begin(state, &of, Timestamp::now().unix_ms);
        assert!(may_begin(&state));
        // It did not come so far as to begin: another is not tried with each line.
        assert!(!may_begin(&state));
        // Nor while one reads that began long ago.
        let held = lock(&state, &of).unwrap();
        held.lock().unwrap();
        held.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(may_begin(&state) && !may_begin(&state));
        // Where nothing can be kept, there is nothing to be found.
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(!may_begin(&file));
    }

    #[test]
    fn what_takes_too_long_says_nothing() {
        let (_keep, never) = mpsc::channel::<u8>();
        assert_eq!(within(Duration::ZERO, move || never.recv().ok()), None);
        assert_eq!(within(SPENT_LIMIT, || Some(7)), Some(7));
        assert_eq!(within(SPENT_LIMIT, || None::<u8>), None);
    }
}
