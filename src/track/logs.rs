//! What stands in the tracker's folder: the logs of days, the figures of reviews.

use std::io;

use jiff::civil::Date;

use super::daily::Day;
use super::folder::Folder;
use super::names;
use super::record::TaskLog;
use super::review::{Figures, Last};
use crate::clock::Timestamp;

/// Task logs that are read; of more, the newest.
const MAX_LOGS: usize = 200_000;
/// Of one day, all together.
const MAX_DAY_BYTES: u64 = 64 << 20;
/// Of the days of a review, all together.
const MAX_PERIOD_BYTES: u64 = 256 << 20;
/// What reading them may take, milliseconds.
const MAX_PERIOD_MS: u64 = 60_000;

/// What reading the logs of some days may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) began: Timestamp,
    pub(super) limit_ms: u64,
    /// Of all logs together.
    pub(super) bytes: u64,
}

impl Limit {
    /// For the summary of a day.
    pub(super) fn of_days(began: Timestamp, limit_ms: u64) -> Self {
        Self { began, limit_ms, bytes: MAX_DAY_BYTES }
    }

    /// For a review.
    pub(super) fn of_period() -> Self {
        let began = Timestamp::now();
        Self { began, limit_ms: MAX_PERIOD_MS, bytes: MAX_PERIOD_BYTES }
    }

    fn check(&self, read_bytes: u64) -> io::Result<()> {
        if read_bytes > self.bytes {
            let mib = self.bytes >> 20;
            return Err(io::Error::other(format!("the task logs have more than {mib} MiB")));
        }
        if Timestamp::now().ms_since(self.began) >= self.limit_ms {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "reading the task logs takes too long",
            ));
        }
        Ok(())
    }
}

/// A text in the folder itself; `None`: there is none.
pub(super) fn read_text(folder: &Folder, name: &str) -> io::Result<Option<String>> {
    let bytes = folder.read("", name)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The logs of these days, the oldest first.
///
/// # Errors
/// The folder cannot be read, or not within `limit`: half of a day is no day.
pub(super) fn read_period(
    folder: &Folder,
    since: Date,
    until: Date,
    limit: Limit,
) -> io::Result<Day> {
    let mut names = folder.task_files(|day| (since..=until).contains(&day))?;
    let surplus = names.len().saturating_sub(MAX_LOGS);
    names.drain(..surplus);
    let mut day = Day::default();
    let Some(reader) = folder.reader(names::TASKS)? else { return Ok(day) };
    let mut read_bytes = 0_u64;
    for name in names {
        limit.check(read_bytes)?;
        match reader.read(&name) {
            Ok(Some(bytes)) => {
                read_bytes = read_bytes.saturating_add(bytes.len() as u64);
                match TaskLog::from_bytes(&bytes) {
                    Some(log) => day.logs.push(log),
                    None => day.unreadable.push(name),
                }
            }
            Ok(None) => {}
            Err(_) => day.unreadable.push(name),
        }
    }
    Ok(day)
}

/// What a review on `today` compares with: the last one before; for a review of that day
/// that is made again, the same as it had. Also the names of newer figures that cannot be
/// read.
pub(super) fn last_review(folder: &Folder, today: Date) -> (Option<Last>, Vec<String>) {
    let is_wanted = |name: &str| names::day_of_review_figures(name).is_some_and(|day| day <= today);
    let names = folder.list(names::REPORTS, is_wanted).unwrap_or_default();
    let mut damaged = Vec::new();
    for name in names.into_iter().rev() {
        let Some(day) = names::day_of_review_figures(&name) else { continue };
        let read = |bytes: Vec<u8>| serde_json::from_slice::<Figures>(&bytes).ok();
        match folder.read(names::REPORTS, &name).ok().flatten().and_then(read) {
            Some(figures) => return (figures.into_last(day, today), damaged),
            None => damaged.push(name),
        }
    }
    (None, damaged)
}
