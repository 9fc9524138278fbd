//! What stands in the tracker's folder: the logs of days, the figures of reviews.

use std::io;

use jiff::civil::Date;

use super::daily::Day;
use super::folder::Folder;
use super::names;
use super::record::TaskLog;
use super::review::{Figures, Last};

/// Task logs that are read; of more, the newest.
const MAX_LOGS: usize = 200_000;

/// A text in the folder itself; `None`: there is none.
pub(super) fn read_text(folder: &Folder, name: &str) -> io::Result<Option<String>> {
    let bytes = folder.read("", name)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The logs of a day.
pub(super) fn read_day(folder: &Folder, day: Date) -> io::Result<Day> {
    read_period(folder, day, day)
}

/// The logs of these days, the oldest first.
pub(super) fn read_period(folder: &Folder, since: Date, until: Date) -> io::Result<Day> {
    let mut names = folder.task_files(|day| (since..=until).contains(&day))?;
    let surplus = names.len().saturating_sub(MAX_LOGS);
    names.drain(..surplus);
    let mut day = Day::default();
    let Some(reader) = folder.reader(names::TASKS)? else { return Ok(day) };
    for name in names {
        match reader.read(&name) {
            Ok(Some(bytes)) => match TaskLog::from_bytes(&bytes) {
                Some(log) => day.logs.push(log),
                None => day.unreadable.push(name),
            },
            Ok(None) => {}
            Err(_) => day.unreadable.push(name),
        }
    }
    Ok(day)
}

/// What a review on `today` compares with: the last one before; for a review of that day
/// that is made again, the same as it had.
pub(super) fn last_review(folder: &Folder, today: Date) -> Option<Last> {
    let is_wanted = |name: &str| names::day_of_review_figures(name).is_some_and(|day| day <= today);
    let names = folder.list(names::REPORTS, is_wanted).ok()?;
    let newest = names.iter().rev().find_map(|name| {
        let bytes = folder.read(names::REPORTS, name).ok()??;
        let figures: Figures = serde_json::from_slice(&bytes).ok()?;
        Some((names::day_of_review_figures(name)?, figures))
    });
    let (day, figures) = newest?;
    figures.into_last(day, today)
}
