//! Records what comes, in order: what is new first, then what waits; of each the task log,
//! then the summary of its day and what there is to say of errors. The log is what counts:
//! whatever hinders the others is noted where it can be, and made good by the next log.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Day as DayTold, Recorded};
use super::daily::Day;
use super::errors::{Edit, Kind, Line, Status};
use super::feed::{Order, Parts};
use super::folder::Folder;
use super::input::{Input, Mode};
use super::logs::{Limit, read_period};
use super::names;
use super::placing::{Placed, Unplaced};
use super::record::TaskLog;
use super::saying::unreadable;
use super::spool::{Spool, Unread};
use crate::advice::Advised;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{Denied, ProjectLock};
use crate::models::Models;
use crate::state_dir::ProjectState;
use crate::usage;

/// How long a request waits for its turn; then it is put by.
const PATIENCE: Duration = Duration::from_secs(2);
/// Records that waited and are taken up in one call.
const MAX_RECONCILED: usize = 200;
/// What they may take of a call, milliseconds; the rest waits for the next.
const RECONCILE_MS: u64 = 1_000;
/// So many of them may fail in one call; then all others go before them.
const MAX_FAILURES: u32 = 5;
/// What the summaries of days may take of a call, milliseconds.
const SUMMARIES_MS: u64 = 5_000;
/// The tracker's folder below the state of a project.
const STATE_FOLDER: &str = "track";

/// Records the usage of one project.
#[derive(Debug)]
pub struct Tracker {
    pub(super) project: PathBuf,
    /// Relative to the project.
    pub(super) folder: PathBuf,
    pub(super) spool: Spool,
    pub(super) now: Timestamp,
    models: &'static Models,
    patience: Duration,
    summaries_ms: u64,
}

/// A record that waits to be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pending {
    what: What,
    /// Its time, or when it came if it told none.
    unix_ms: i64,
    /// What was noted of it.
    pub(super) notes: Vec<String>,
    /// Why it waits; `None`: nothing was in the way so far.
    why: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// As it was told.
    Log(TaskLog),
    /// Of a run, not yet compared with what is recorded.
    Order(Order),
    /// Of a run: what is new, and what of its session is recorded with it.
    New(TaskLog, Parts),
}

impl Pending {
    fn of(order: Order) -> Self {
        let unix_ms = order.unix_ms;
        Self { what: What::Order(order), unix_ms, notes: Vec::new(), why: None }
    }

    /// What of which session is recorded with it.
    pub(super) fn of_session(&self) -> Option<(&str, &Parts)> {
        match &self.what {
            What::New(log, parts) => {
                log.source.as_ref().map(|source| (source.session_id.as_str(), parts))
            }
            What::Log(_) | What::Order(_) => None,
        }
    }

    pub(super) fn log(&self) -> Option<&TaskLog> {
        match &self.what {
            What::Log(log) | What::New(log, _) => Some(log),
            What::Order(_) => None,
        }
    }

    pub(super) fn stem(&self) -> String {
        let id = match &self.what {
            What::Log(log) | What::New(log, _) => log.task_id.as_deref(),
            What::Order(order) => Some(order.task_id.as_str()),
        };
        names::task_stem(self.unix_ms, id)
    }

    fn rounded(mut self) -> Self {
        self.what = match self.what {
            What::Log(log) => What::Log(log.rounded()),
            What::New(log, parts) => What::New(log.rounded(), parts),
            What::Order(order) => What::Order(order),
        };
        self
    }
}

impl Tracker {
    /// The tracker of `project` (its real path), which writes below `folder` in it and
    /// keeps what it must below `state_root`.
    ///
    /// # Errors
    /// The state cannot be used.
    pub fn open(state_root: &Path, project: &Path, folder: &Path) -> Result<Self> {
        let state = ProjectState::open(state_root, project)?;
        Self::in_state(state.dir(), project, folder)
    }

    /// The same, with the folder of the project's state.
    ///
    /// # Errors
    /// As [`Tracker::open`].
    pub fn in_state(state: &Path, project: &Path, folder: &Path) -> Result<Self> {
        Ok(Self {
            project: project.to_owned(),
            folder: folder.to_owned(),
            spool: Spool::open(state.join(STATE_FOLDER))?,
            now: Timestamp::now(),
            models: Models::in_force(),
            patience: PATIENCE,
            summaries_ms: SUMMARIES_MS,
        })
    }

    /// The same at another time, for tests.
    #[cfg(test)]
    pub(super) fn at(mut self, unix_ms: i64) -> Self {
        self.now.unix_ms = unix_ms;
        self.patience = Duration::from_millis(300);
        self
    }

    /// One that has no time for summaries.
    #[cfg(test)]
    pub(super) fn in_a_hurry(mut self) -> Self {
        self.summaries_ms = 0;
        self
    }

    #[cfg(test)]
    pub(super) fn lock_file(&self) -> PathBuf {
        self.spool.lock_file()
    }

    /// Does what a request asks for. `advised` is asked for the days of a review, and
    /// only then.
    ///
    /// # Errors
    /// [`ErrorKind::Disk`] if the project's folder cannot be written: what was to be
    /// recorded waits then, and is recorded with the next request that can be.
    pub fn take(
        &self,
        input: &Input,
        advised: impl FnOnce(Date, Date) -> Advised,
    ) -> Result<Answer> {
        match input.mode {
            Mode::ReviewPeriod { days } => self.review(input, days, advised).map(Answer::Report),
            Mode::LogOnly => self.log(input, false).map(Answer::Recorded),
            Mode::LogAndSummarize => self.log(input, true).map(Answer::Recorded),
        }
    }

    /// Records what is new of a session.
    ///
    /// # Errors
    /// As [`Tracker::take`].
    pub fn feed(&self, order: Order) -> Result<()> {
        self.feed_kept(order, None)
    }

    /// The same; `kept` is the name under which [`Tracker::keep`] keeps the order.
    ///
    /// # Errors
    /// As [`Tracker::take`].
    pub fn feed_kept(&self, order: Order, kept: Option<String>) -> Result<()> {
        let session_id = order.source.session_id.clone();
        let pending = Pending::of(order);
        let name = match kept {
            Some(name) => name,
            None => self.spool.keep(self.now.unix_ms, &pending)?,
        };
        let _lock = match self.lock() {
            Ok(lock) => lock,
            Err(Denied::Held(_)) => return Ok(()),
            Err(Denied::Io(err)) => return Err(lock_failed(err)),
        };
        if let Some(Pending { what: What::Order(_), .. }) = self.load(&name)? {
            // What it is about may be known better by now.
            self.spool.save(&name, &pending)?;
        }
        self.settle_session(&session_id, &name)?;
        // Gone: nothing was new, or others have recorded it.
        if let Some(pending) = self.load(&name)? {
            self.write(pending, Some(&name))?;
        }
        self.reconcile();
        Ok(())
    }

    /// Keeps an order until it is recorded, by [`Tracker::feed_kept`] with the name that is
    /// given, or by whatever is recorded next. Waits for no lock.
    ///
    /// # Errors
    /// The state cannot be written, or too much waits already.
    pub fn keep(&self, order: Order) -> Result<String> {
        self.spool.keep(self.now.unix_ms, &Pending::of(order))
    }

    /// Notes in the errors of today that a request could not be understood.
    pub fn note_refused(&self, message: &str) {
        let at = self.now.rfc3339();
        self.tell(self.today(), Edit::line(Kind::Failure, Status::Noted, &at, message));
    }

    fn log(&self, input: &Input, wants_summary: bool) -> Result<Recorded> {
        let log = TaskLog::of(input, self.now.unix_ms, self.models);
        let pending = Pending {
            unix_ms: input.unix_ms.unwrap_or(self.now.unix_ms),
            notes: input.notes.clone(),
            why: None,
            what: What::Log(log.clone()),
        };
        let (day, reconciled) = self.put(pending)?;
        let mut recorded = Recorded::of(&log, day, wants_summary);
        recorded.reconciled = reconciled;
        Ok(recorded)
    }

    /// Records a log and then what waited, or puts the log by. Gives how many that waited
    /// are recorded now.
    fn put(&self, mut pending: Pending) -> Result<(DayTold, u64)> {
        let _lock = match self.lock() {
            Ok(lock) => lock,
            Err(Denied::Held(_)) => {
                let waited = self.patience.as_secs();
                pending.why = Some(format!("skipped: others were recording for {waited} s"));
                self.spool.keep(self.now.unix_ms, &pending)?;
                return Ok((DayTold::Waits, 0));
            }
            Err(Denied::Io(err)) => return Err(lock_failed(err)),
        };
        let day = self.write(pending, None)?;
        Ok((day.map_or(DayTold::Unknown, |day| DayTold::Known(day.total())), self.reconcile()))
    }

    /// Writes what is kept under `name`, if it is, and puts it by if that fails.
    fn write(&self, pending: Pending, name: Option<&str>) -> Result<Option<Day>> {
        let folder = match self.folder() {
            Ok(folder) => folder,
            Err(err) => return Err(self.put_by(pending, name, err)),
        };
        let placed = match self.place(&folder, pending) {
            Ok(placed) => placed,
            Err(Unplaced { pending, err }) => return Err(self.put_by(*pending, name, err)),
        };
        let day = names::day_of(placed.pending.unix_ms);
        let limit = Limit::of_days(Timestamp::now(), self.summaries_ms);
        let summed = self.sum_up(&folder, day, std::slice::from_ref(&placed), limit);
        if let Some(name) = name {
            self.end(name, &placed.pending)?;
        }
        Ok(summed)
    }

    /// Keeps what could not be written.
    fn put_by(&self, mut pending: Pending, name: Option<&str>, err: io::Error) -> Error {
        let why = format!("cannot be written: {err}");
        let edit = Edit::line(Kind::Failure, Status::Pending, &pending.stem(), &why);
        let day = names::day_of(pending.unix_ms);
        if let Ok(folder) = self.folder()
            && let Err(err) = self.edit(&folder, day, [&edit])
        {
            tracing::debug!(%err, "the failure is noted when it is over");
        }
        pending.why = Some(why);
        let kept = match name {
            Some(name) => self.spool.save(name, &pending),
            None => self.spool.keep(self.now.unix_ms, &pending).map(drop),
        };
        let shown = self.project.join(&self.folder);
        let what = format!("usage cannot be recorded below {}", shown.display());
        let error = Error::new(ErrorKind::Disk, what).caused_by(err);
        match kept {
            Ok(()) => {
                error.hint("it is kept, and recorded with the next call that can write there")
            }
            Err(lost) => error.hint(format!("and it cannot be kept either: {lost}")),
        }
    }

    fn load(&self, name: &str) -> Result<Option<Pending>> {
        self.spool.load(name).map_err(|unread| {
            let (Unread::Failed(err) | Unread::Damaged(err)) = unread;
            Error::io(ErrorKind::State, format!("cannot read the pending record {name}"), err)
        })
    }

    /// Compares the orders of a session up to `last` with what is recorded, in the order
    /// in which they came: what was used for which task must not depend on when it is
    /// written.
    fn settle_session(&self, session_id: &str, last: &str) -> Result<()> {
        for name in self.spool.names().iter().take_while(|name| name.as_str() <= last) {
            // One that cannot be read is the next reconciliation's.
            let Ok(Some(pending)) = self.spool.load(name) else { continue };
            match &pending.what {
                What::Order(order) if order.source.session_id == session_id => {}
                _ => continue,
            }
            match self.settled(pending)? {
                // From here on it is known what it holds.
                Some(pending) => self.spool.save(name, &pending)?,
                None => self.spool.remove(name)?,
            }
        }
        Ok(())
    }

    /// What of an order is new; `None` if nothing is.
    fn settled(&self, pending: Pending) -> Result<Option<Pending>> {
        let What::Order(order) = &pending.what else { return Ok(Some(pending)) };
        let recorded = self.spool.recorded(&order.source.session_id)?;
        let Some((log, moved)) = order.log(&recorded, usage::agent_type) else { return Ok(None) };
        let log = log.rounded();
        let unpriced = log.entries.iter().flatten().filter(|entry| entry.estimated_cost.is_none());
        let notes = unpriced.map(|entry| {
            let model = entry.model.as_deref().unwrap_or_default();
            format!("the model {model} has no known price; its cost is recorded as null")
        });
        let moved = (moved > 0).then(|| {
            format!(
                "{moved} tokens are recorded already, under another agent or model, and are not \
                 recorded again"
            )
        });
        let notes = notes.chain(moved).collect();
        Ok(Some(Pending { notes, what: What::New(log, order.parts.clone()), ..pending }))
    }

    /// Records what waits, the oldest first, as far as it can be.
    pub(super) fn reconcile(&self) -> u64 {
        let names = self.spool.names();
        let Ok(folder) = self.folder() else { return 0 };
        let mut days: BTreeMap<Date, (Vec<String>, Vec<Placed>)> = BTreeMap::new();
        let (mut count, mut failures) = (0, 0);
        let began = Timestamp::now();
        for name in names.into_iter().take(MAX_RECONCILED) {
            let is_late = Timestamp::now().ms_since(began) > RECONCILE_MS;
            if is_late || failures == MAX_FAILURES {
                break;
            }
            match self.take_up(&folder, &name) {
                Ok(None) => {}
                Ok(Some(placed)) => {
                    let day = days.entry(names::day_of(placed.pending.unix_ms)).or_default();
                    day.0.push(name);
                    day.1.push(placed);
                }
                Err(err) => {
                    tracing::debug!(%err, "what waits to be recorded waits on");
                    // One that never can be written must not keep the others.
                    self.spool.put_last(&name, self.now.unix_ms);
                    failures += 1;
                }
            }
        }
        let limit = Limit::of_days(Timestamp::now(), self.summaries_ms);
        for (day, (names, placed)) in days {
            self.sum_up(&folder, day, &placed, limit);
            for (name, placed) in names.iter().zip(&placed) {
                match self.end(name, &placed.pending) {
                    Ok(()) => count += 1,
                    Err(err) => tracing::warn!(%err, "what is recorded waits on"),
                }
            }
        }
        self.say_what_waits(&folder);
        folder.sweep(self.now.unix_ms);
        count
    }

    /// Writes the task log of what waits; `None` if nothing of it was new, or it cannot be
    /// read and never will be.
    fn take_up(&self, folder: &Folder, name: &str) -> io::Result<Option<Placed>> {
        let pending = match self.spool.load(name) {
            Ok(Some(pending)) => pending,
            Ok(None) => return Ok(None),
            Err(Unread::Failed(err)) => return Err(err),
            Err(Unread::Damaged(err)) => {
                let aside = self.spool.put_aside(name)?;
                let what = format!(
                    "what waited to be recorded is damaged ({err}); it is put aside as {}, and \
                     what it told of is not recorded",
                    aside.display()
                );
                let edit = Edit::line(Kind::Failure, Status::Noted, name, &what);
                self.say(folder, self.today(), &edit);
                return Ok(None);
            }
        };
        let Some(pending) = self.settled(pending.rounded()).map_err(io::Error::other)? else {
            return self.spool.remove(name).map(|()| None).map_err(io::Error::other);
        };
        // From here on it is known what it holds.
        self.spool.save(name, &pending).map_err(io::Error::other)?;
        self.place(folder, pending).map(Some).map_err(|unplaced| unplaced.err)
    }

    /// It is recorded.
    fn end(&self, name: &str, pending: &Pending) -> Result<()> {
        if let Some((session_id, parts)) = pending.of_session() {
            self.spool.note(session_id, parts)?;
        }
        self.spool.remove(name)
    }

    /// Makes the summary of a day that has these logs now, and says what there is to say
    /// of them. Once more, it changes nothing. `None`: the day could not be read.
    fn sum_up(&self, folder: &Folder, day: Date, placed: &[Placed], limit: Limit) -> Option<Day> {
        let mut edit = Edit::default();
        for placed in placed {
            self.tell_of(placed, &mut edit);
        }
        let logs = read_period(folder, day, day, limit);
        if let Ok(logs) = &logs {
            for placed in placed.iter().filter(|placed| placed.missing.is_some()) {
                let log = placed.pending.log();
                let unusual = log.map(|log| logs.anomalies_of(log)).unwrap_or_default();
                let line = |w| Line::new(Kind::Anomaly, Status::Noted, &placed.stem, w);
                edit.lines.extend(unusual.iter().map(|what| line(what)));
            }
            edit.lines.extend(unreadable(&logs.unreadable));
        }
        let name = names::summary(day);
        let made = logs.as_ref().map_err(ToString::to_string).and_then(|logs| {
            let summary = logs.render(day);
            if folder.read("", &name).ok().flatten().as_deref() == Some(summary.as_bytes()) {
                return Ok(());
            }
            folder.write("", &name, summary.as_bytes()).map_err(|err| err.to_string())
        });
        match made {
            Ok(()) => edit.written.push(name),
            Err(why) => {
                tracing::warn!(why, "the summary of a day is not made");
                let what = format!("the summary of the day is not made: {why}");
                edit.lines.push(Line::new(Kind::Failure, Status::Pending, &name, &what));
            }
        }
        self.say(folder, day, &edit);
        logs.ok()
    }

    /// What a record lacks, and that it waited.
    fn tell_of(&self, placed: &Placed, edit: &mut Edit) {
        let Placed { pending, stem, missing, gone } = placed;
        edit.open.extend(missing.iter().map(|missing| (stem.clone(), missing.clone())));
        edit.open.extend(gone.iter().map(|gone| (gone.clone(), Vec::new())));
        if let Some(why) = &pending.why {
            let about = pending.stem();
            edit.lines.push(Line::new(Kind::Failure, Status::Pending, &about, why));
            let how = format!("recorded as {}/{stem}.json at {}", names::TASKS, self.now.rfc3339());
            edit.lines.push(Line::new(Kind::Recovery, Status::Noted, &about, &how));
            edit.written.push(about);
        }
    }

    pub(super) fn folder(&self) -> io::Result<Folder> {
        Folder::open(&self.project, &self.folder)
    }

    pub(super) fn today(&self) -> Date {
        names::day_of(self.now.unix_ms)
    }

    /// One records at a time; the lock is the tracker's own.
    pub(super) fn lock(&self) -> std::result::Result<ProjectLock, Denied> {
        let began = Timestamp::now();
        loop {
            match ProjectLock::take(&self.spool.lock_file()) {
                Err(Denied::Held(_))
                    if u128::from(Timestamp::now().ms_since(began)) < self.patience.as_millis() => {
                }
                other => return other,
            }
        }
    }
}

fn lock_failed(err: io::Error) -> Error {
    Error::io(ErrorKind::State, "cannot use the tracker's lock", err)
}
