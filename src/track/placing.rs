//! Where the log of a task goes: into a file of its own, or in the place of one that says
//! less of the same.

use std::io;

use super::folder::Folder;
use super::names;
use super::record::TaskLog;
use super::tracker::{Pending, Tracker};

/// A record whose task log is written.
pub(super) struct Placed {
    pub(super) pending: Pending,
    /// The name of the task log, without its ending.
    pub(super) stem: String,
    /// What is missing of that log; `None` if it says more than the record does.
    pub(super) missing: Option<Vec<String>>,
    /// Logs that are gone, since this one says all that they did.
    pub(super) gone: Vec<String>,
}

impl Tracker {
    /// Writes the task log of a record. Once more, it changes nothing.
    pub(super) fn place(&self, folder: &Folder, pending: Pending) -> Result<Placed, Unplaced> {
        match write(folder, &pending) {
            Ok((stem, missing, gone)) => Ok(Placed { pending, stem, missing, gone }),
            Err(err) => Err(Unplaced { pending: Box::new(pending), err }),
        }
    }
}

/// A record whose task log could not be written, and why.
pub(super) struct Unplaced {
    pub(super) pending: Box<Pending>,
    pub(super) err: io::Error,
}

type Written = (String, Option<Vec<String>>, Vec<String>);

fn write(folder: &Folder, pending: &Pending) -> io::Result<Written> {
    let Some(log) = pending.log() else {
        return Err(io::Error::other("it was not compared with what is recorded"));
    };
    let stem = pending.stem();
    let mut log = log.clone();
    let mut missing = pending.notes.clone();
    let suffix = match log.unix_ms() {
        Some(_) => log.print(),
        // Nobody can tell whether it is the same as another.
        None => uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(),
    };
    if log.unix_ms().is_some() {
        let others = named_alike(folder, &stem)?;
        let says_more = |there: &TaskLog| there.covers(&log) && !log.covers(there);
        if let Some((stem, _)) = others.iter().find(|(_, there)| says_more(there)) {
            return Ok((stem.clone(), None, Vec::new()));
        }
        let mut less = others.into_iter().filter(|(_, there)| log.covers(there));
        if let Some((stem, first)) = less.next() {
            let rest: Vec<(String, TaskLog)> = less.collect();
            let wanted = log.user_request_summary.take();
            let known = [&first].into_iter().chain(rest.iter().map(|(_, there)| there));
            let known = known.filter_map(|there| there.user_request_summary.clone()).next();
            if wanted.is_none() && known.is_some() {
                missing.retain(|note| !note.starts_with("user_request_summary is missing"));
            }
            let is_equal = first.covers(&log);
            log.user_request_summary = wanted.or(known);
            if !is_equal
                || first.user_request_summary.is_none() && log.user_request_summary.is_some()
            {
                folder.write(names::TASKS, &format!("{stem}.json"), &log.to_bytes())?;
            }
            for (gone, _) in &rest {
                folder.remove(names::TASKS, &format!("{gone}.json"))?;
            }
            return Ok((stem, Some(missing), rest.into_iter().map(|(gone, _)| gone).collect()));
        }
    }
    let bytes = log.to_bytes();
    for stem in [stem.clone(), format!("{stem}-{suffix}")] {
        if folder.create(names::TASKS, &format!("{stem}.json"), &bytes)? {
            return Ok((stem, Some(missing), Vec::new()));
        }
    }
    Err(io::Error::other("other files have the names of its task log"))
}

/// The task logs of this name, or this name and a few digits.
fn named_alike(folder: &Folder, stem: &str) -> io::Result<Vec<(String, TaskLog)>> {
    let is_digits = |rest: &str| {
        rest.strip_prefix('-').is_some_and(|digits| {
            digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    let is_alike = |name: &str| {
        let rest = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(".json"));
        rest.is_some_and(|rest| rest.is_empty() || is_digits(rest))
    };
    let names = folder.list(names::TASKS, is_alike)?;
    let Some(reader) = folder.reader(names::TASKS)? else { return Ok(Vec::new()) };
    let log = |name: String| {
        let log = TaskLog::from_bytes(&reader.read(&name).ok()??)?;
        Some((name.strip_suffix(".json")?.to_owned(), log))
    };
    // Without digits first: it sorts after the others.
    let mut logs: Vec<(String, TaskLog)> = names.into_iter().filter_map(log).collect();
    logs.sort_by_key(|(stem, _)| stem.len());
    Ok(logs)
}
