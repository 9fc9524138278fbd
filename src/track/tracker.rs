//! Records what comes, in order: what waits first, then what is new; the task log, the
//! summary of its day, and what there is to say of errors.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Recorded, Report};
use super::daily::Day;
use super::errors::{self, Kind, Line, Status};
use super::feed::{Order, Parts};
use super::folder::Folder;
use super::input::{Input, Mode};
use super::logs::{last_review, read_day, read_period, read_text};
use super::names;
use super::record::TaskLog;
use super::review::{self, Period};
use super::spool::Spool;
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
/// So many of them may fail in one call.
const MAX_FAILURES: u32 = 5;
/// The rules of the agent that gives out work, in projects that have one.
const LEAD: &str = "build-lead.md";
/// The tracker's folder below the state of a project.
const STATE_FOLDER: &str = "track";

/// Records the usage of one project.
#[derive(Debug)]
pub struct Tracker {
    project: PathBuf,
    /// Relative to the project.
    folder: PathBuf,
    spool: Spool,
    now: Timestamp,
    models: &'static Models,
    patience: Duration,
}

/// A record that waits to be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pending {
    what: What,
    /// Its time, or when it came if it told none.
    unix_ms: i64,
    /// What was noted of it.
    notes: Vec<String>,
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
    /// What of which session is recorded with it.
    pub(super) fn of_session(&self) -> Option<(&str, &Parts)> {
        match &self.what {
            What::New(log, parts) => {
                log.source.as_ref().map(|source| (source.session_id.as_str(), parts))
            }
            What::Log(_) | What::Order(_) => None,
        }
    }

    fn stem(&self) -> String {
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

/// A record that was written.
struct Written {
    /// The name of the task log, without its ending.
    stem: String,
    day: Day,
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
        })
    }

    /// The same at another time, for tests.
    #[cfg(test)]
    pub(super) fn at(mut self, unix_ms: i64) -> Self {
        self.now.unix_ms = unix_ms;
        self.patience = Duration::from_millis(300);
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
        let unix_ms = order.unix_ms;
        let what = What::Order(order);
        self.put(Pending { what, unix_ms, notes: Vec::new(), why: None }).map(drop)
    }

    /// Notes in the errors of today that a request could not be understood.
    pub fn note_refused(&self, message: &str) {
        let Ok(_lock) = self.lock() else { return };
        let Ok(folder) = self.folder() else { return };
        let line = Line::new(Kind::Failure, Status::Noted, &self.now.rfc3339(), message);
        if let Err(err) = self.note(&folder, self.today(), &[line]) {
            tracing::warn!(%err, "what was refused is not noted");
        }
    }

    fn log(&self, input: &Input, wants_summary: bool) -> Result<Recorded> {
        let log = TaskLog::of(input, self.now.unix_ms, self.models);
        let pending = Pending {
            unix_ms: input.unix_ms.unwrap_or(self.now.unix_ms),
            notes: input.notes.clone(),
            why: None,
            what: What::Log(log.clone()),
        };
        let (written, reconciled) = self.put(pending)?;
        let day = written.as_ref().map(|written| written.day.total());
        let mut recorded = Recorded::of(&log, day, wants_summary);
        recorded.pending = written.is_none();
        recorded.reconciled = reconciled;
        Ok(recorded)
    }

    /// Records, after what waited; or puts it by. Gives what was written, and how many
    /// that waited are recorded now.
    fn put(&self, mut pending: Pending) -> Result<(Option<Written>, u64)> {
        let _lock = match self.lock() {
            Ok(lock) => lock,
            Err(Denied::Held(_)) => {
                let waited = self.patience.as_secs();
                pending.why = Some(format!("skipped: others were recording for {waited} s"));
                self.spool.keep(self.now.unix_ms, &pending)?;
                return Ok((None, 0));
            }
            Err(Denied::Io(err)) => {
                return Err(Error::io(ErrorKind::State, "cannot use the tracker's lock", err));
            }
        };
        let reconciled = self.reconcile();
        let Some(pending) = self.settled(pending) else { return Ok((None, reconciled)) };
        // Of a session's record it must be known what it holds, whatever happens.
        let name = match pending.of_session() {
            Some(_) => Some(self.spool.keep(self.now.unix_ms, &pending)?),
            None => None,
        };
        match self.write(&pending) {
            Ok(written) => {
                if let Some(name) = name {
                    self.end(&name, &pending)?;
                }
                Ok((Some(written), reconciled))
            }
            Err(err) => Err(self.put_by(pending, name, err)),
        }
    }

    /// Keeps what could not be written.
    fn put_by(&self, mut pending: Pending, name: Option<String>, err: io::Error) -> Error {
        let why = format!("cannot be written: {err}");
        let line = Line::new(Kind::Failure, Status::Pending, &pending.stem(), &why);
        let day = names::day_of(pending.unix_ms);
        if let Ok(folder) = self.folder()
            && let Err(err) = self.note(&folder, day, &[line])
        {
            tracing::debug!(%err, "the failure is noted when it is over");
        }
        pending.why = Some(why);
        let kept = match name {
            Some(name) => self.spool.save(&name, &pending),
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

    /// What of an order is new; `None` if nothing is.
    fn settled(&self, pending: Pending) -> Option<Pending> {
        let What::Order(order) = &pending.what else { return Some(pending) };
        let recorded = self.spool.recorded(&order.source.session_id);
        let log = order.log(&recorded, usage::agent_type)?.rounded();
        let unpriced = log.entries.iter().flatten().filter(|entry| entry.estimated_cost.is_none());
        let notes = unpriced.map(|entry| {
            let model = entry.model.as_deref().unwrap_or_default();
            format!("the model {model} has no known price; its cost is recorded as null")
        });
        let notes = notes.collect();
        Some(Pending { notes, what: What::New(log, order.parts.clone()), ..pending })
    }

    /// Records what waits, the oldest first, as far as it can be.
    fn reconcile(&self) -> u64 {
        let (mut count, mut failures) = (0, 0);
        let began = Timestamp::now();
        for name in self.spool.names().into_iter().take(MAX_RECONCILED) {
            let is_late = Timestamp::now().ms_since(began) > RECONCILE_MS;
            // One that never can be written must not keep the others.
            if is_late || failures == MAX_FAILURES {
                break;
            }
            let Some(pending) = self.spool.load(&name) else {
                self.spool.put_aside(&name);
                continue;
            };
            let done = match self.settled(pending.rounded()) {
                None => self.spool.remove(&name).map_err(io::Error::other),
                Some(pending) => self.take_up(&name, &pending),
            };
            match done {
                Ok(()) => count += 1,
                Err(err) => {
                    tracing::debug!(%err, "what waits to be recorded waits on");
                    failures += 1;
                }
            }
        }
        count
    }

    fn take_up(&self, name: &str, pending: &Pending) -> io::Result<()> {
        // From here on it is known what it holds.
        self.spool.save(name, pending).map_err(io::Error::other)?;
        let written = self.write(pending)?;
        let folder = self.folder()?;
        let (day, stem) = (names::day_of(pending.unix_ms), pending.stem());
        if let Some(why) = &pending.why {
            let failed = Line::new(Kind::Failure, Status::Pending, &stem, why);
            let how = format!("recorded as tasks/{}.json at {}", written.stem, self.now.rfc3339());
            let recovered = Line::new(Kind::Recovery, Status::Noted, &stem, &how);
            self.note(&folder, day, &[failed, recovered])?;
            self.resolve(&folder, day, &stem, Status::Pending)?;
        }
        self.end(name, pending).map_err(io::Error::other)
    }

    /// It is recorded.
    fn end(&self, name: &str, pending: &Pending) -> Result<()> {
        if let Some((session_id, parts)) = pending.of_session() {
            self.spool.note(session_id, parts)?;
        }
        self.spool.remove(name)
    }

    /// Writes the task log, the summary of its day, and what is noted. Once more, it
    /// changes nothing.
    fn write(&self, pending: &Pending) -> io::Result<Written> {
        let (What::Log(log) | What::New(log, _)) = &pending.what else {
            return Err(io::Error::other("it was not compared with what is recorded"));
        };
        let folder = self.folder()?;
        let day = names::day_of(pending.unix_ms);
        let stem = self.write_log(&folder, &pending.stem(), day, log)?;
        let logs = read_day(&folder, day)?;
        let summary = logs.render(day);
        let name = names::summary(day);
        if folder.read("", &name).ok().flatten().as_deref() != Some(summary.as_bytes()) {
            folder.write("", &name, summary.as_bytes())?;
        }
        let missing = pending
            .notes
            .iter()
            .map(|note| Line::new(Kind::MissingData, Status::Open, &stem, note));
        let unusual = logs.anomalies_of(log);
        let unusual =
            unusual.iter().map(|what| Line::new(Kind::Anomaly, Status::Noted, &stem, what));
        let lines: Vec<Line> = missing.chain(unusual).collect();
        if !lines.is_empty() {
            self.note(&folder, day, &lines)?;
        }
        Ok(Written { stem, day: logs })
    }

    /// Gives the name under which it stands, without its ending.
    fn write_log(
        &self,
        folder: &Folder,
        stem: &str,
        day: Date,
        log: &TaskLog,
    ) -> io::Result<String> {
        let suffix = match log.unix_ms() {
            Some(_) => log.print(),
            // Nobody can tell whether it is the same as another.
            None => uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(),
        };
        let stems = [stem.to_owned(), format!("{stem}-{suffix}")];
        for stem in &stems {
            let name = format!("{stem}.json");
            let there = folder.read(names::TASKS, &name).ok().flatten();
            let Some(there) = there.and_then(|bytes| TaskLog::from_bytes(&bytes)) else { continue };
            if there.is_same(log) || there.completes(log) {
                return Ok(stem.clone());
            }
            if log.completes(&there) {
                folder.write(names::TASKS, &name, &log.to_bytes())?;
                self.resolve(folder, day, stem, Status::Open)?;
                return Ok(stem.clone());
            }
        }
        let bytes = log.to_bytes();
        for stem in stems {
            if folder.create(names::TASKS, &format!("{stem}.json"), &bytes)? {
                return Ok(stem);
            }
        }
        Err(io::Error::other("other files have the names of its task log"))
    }

    fn note(&self, folder: &Folder, day: Date, lines: &[Line]) -> io::Result<()> {
        let name = names::errors(day);
        let old = read_text(folder, &name)?;
        let new = errors::with(old.as_deref(), day, lines);
        if old.as_ref() == Some(&new) {
            return Ok(());
        }
        folder.write("", &name, new.as_bytes())
    }

    fn resolve(&self, folder: &Folder, day: Date, about: &str, status: Status) -> io::Result<()> {
        let name = names::errors(day);
        let Some(old) = read_text(folder, &name)? else { return Ok(()) };
        match errors::resolved(&old, about, status, &self.now.rfc3339()) {
            Some(new) => folder.write("", &name, new.as_bytes()),
            None => Ok(()),
        }
    }

    fn review(
        &self,
        input: &Input,
        days: u32,
        advised: impl FnOnce(Date, Date) -> Advised,
    ) -> Result<Report> {
        let reconciled = self.lock().map_or(0, |_lock| self.reconcile());
        let until = names::day_of(input.unix_ms.unwrap_or(self.now.unix_ms));
        let since = until.saturating_sub(jiff::Span::new().days(i64::from(days) - 1));
        let period = Period { since, until, days };
        let cannot = |what: &str, err: io::Error| {
            let shown = self.project.join(&self.folder);
            Error::new(ErrorKind::Disk, format!("{what} below {}", shown.display())).caused_by(err)
        };
        let folder = self.folder().map_err(|err| cannot("usage cannot be read", err))?;
        let logs = read_period(&folder, since, until);
        let logs = logs.map_err(|err| cannot("usage cannot be read", err))?;
        let advised = advised(since, until);
        let last = last_review(&folder, until);
        let review = review::of(period, &logs, &advised, last.as_ref(), self.rules());
        let write = || {
            let _lock = self.lock().map_err(|_| io::Error::other("others are recording"))?;
            folder.write(names::REPORTS, &names::review(until), review.markdown.as_bytes())?;
            let figures = serde_json::to_string_pretty(&review.figures)? + "\n";
            folder.write(names::REPORTS, &names::review_figures(until), figures.as_bytes())
        };
        if let Err(err) = write() {
            let error = cannot("the review cannot be written", err);
            let line = Line::new(Kind::Failure, Status::Noted, "review_period", &error.to_string());
            let _ = self.note(&folder, self.today(), &[line]);
            return Err(error);
        }
        let path = self.folder.join(names::REPORTS).join(names::review(until));
        Ok(Report::of(&path, review, reconciled))
    }

    /// The file with the rules by which the project's agents work.
    fn rules(&self) -> &'static str {
        let folders = ["claude/agents", ".claude/agents"].map(|path| self.project.join(path));
        let is_there = |name: &str| folders.iter().any(|folder| folder.join(name).is_file());
        if is_there(LEAD) { LEAD } else { "CLAUDE.md" }
    }

    fn folder(&self) -> io::Result<Folder> {
        Folder::open(&self.project, &self.folder)
    }

    fn today(&self) -> Date {
        names::day_of(self.now.unix_ms)
    }

    /// One records at a time; the lock is the tracker's own.
    fn lock(&self) -> std::result::Result<ProjectLock, Denied> {
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
