//! `longhaul queue run`: which task goes to which worker, and what becomes of it.
//!
//! A worker is a process that supervises one run: one chain of sessions for one
//! task, or for the tasks of one batch. It writes down the results itself; when it
//! has ended, in whatever way, the run's journal says what is still to be booked.
//! So nothing depends on this process living longer than its workers, and nothing
//! on their telling it anything.
//!
//! Here: what is begun, and what happens. `booking`: what the end of a worker means.
//! `looking`: what others changed. `limit`: a usage limit, shared by all. `ending`: the tally and the exit code.

mod booking;
mod ending;
mod limit;
mod looking;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use uuid::Uuid;

use self::limit::Limit;
use super::chain;
use super::faces::Faces;
use super::refusal::QueueError;
use super::store::{Result, Store};
use super::task::{TaskId, TaskState};
use super::worker::{Command, Happened, Worker};
use crate::clock::Timestamp;
use crate::control::Request;
use crate::cycle::Outcome;
use crate::cycle::state::Budget;

/// How often the queue is looked at for what others changed.
const LOOK_MS: u64 = 1_000;
/// Starts of a run that died without an end before its project is left alone.
const STARTS_MAX: u32 = 3;
/// With `--watch`, a project whose run could not begin is tried again after this.
const REFUSED_AGAIN_MS: u64 = 60_000;
/// A keeper whose worker died has ended everything within this time.
const ORPHANS_MS: u64 = 30_000;
/// Tasks that failed here are named at the end, so many at most.
const NAMED_MAX: usize = 20;
/// Of so many blocked tasks is found out what they wait for.
const BLOCKED_LOOKED_AT: u32 = 10_000;

/// What is to be done, and with what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The state directory.
    pub state_root: PathBuf,
    /// Projects at the same time.
    pub parallel: usize,
    /// Tasks of this project alone.
    pub only: Option<PathBuf>,
    /// Wait for more when there is none left.
    pub watch: bool,
    /// Most that the tasks of 24 hours may cost, dollars.
    pub max_cost_usd_per_day: f64,
    /// How a worker is started.
    pub worker: Command,
}

/// What is told on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A line that a worker wrote to its standard output.
    Line {
        /// Its project.
        project: PathBuf,
        /// The line, without its end.
        text: String,
    },
    /// A person should know.
    Warning {
        /// The project it is about, if it is about one.
        project: Option<PathBuf>,
        /// What.
        text: String,
    },
    /// Worth a line.
    Note {
        /// The project it is about.
        project: PathBuf,
        /// What.
        text: String,
    },
}

/// What became of the tasks that were taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ended done.
    pub done: u64,
    /// Ended in error.
    pub error: u64,
    /// Wait for a person.
    pub blocked: u64,
    /// Were cancelled on the way.
    pub cancelled: u64,
    /// Went back to the queue, or are in progress still.
    pub left: u64,
    /// Became blocked because they wait for one that failed; they were not taken.
    pub blocked_behind: u64,
    /// Those that did not end done, not all of them if many.
    pub not_done: Vec<(TaskId, TaskState)>,
}

/// Works off a queue.
pub struct Dispatcher {
    plan: Plan,
    store: Box<dyn Store>,
    faces: Faces,
    workers: BTreeMap<Uuid, Worker>,
    happened: mpsc::UnboundedReceiver<Happened>,
    tell: mpsc::UnboundedSender<Happened>,
    told: Box<dyn FnMut(Told)>,
    /// Runs that were cut off and are to be taken up.
    cut_off: Vec<(Uuid, PathBuf)>,
    starts: BTreeMap<Uuid, u32>,
    /// Workers in a row, in each project, that died before their run began.
    early_deaths: BTreeMap<PathBuf, u32>,
    /// The newest run in each project that began under this process.
    last_run: BTreeMap<PathBuf, Uuid>,
    /// Projects that are left alone, until then (boot clock).
    aside: BTreeMap<PathBuf, u64>,
    /// Signals so far, and the first of them.
    signals: (u32, i32),
    /// Nothing more is begun: the exit code that says why.
    halted: Option<u8>,
    /// What else the exit code must say.
    codes: Vec<u8>,
    taken: BTreeSet<TaskId>,
    /// Runs that were told to end because their task was cancelled.
    cancelled: BTreeSet<Uuid>,
    limit: Limit,
    /// Questions that runs have not answered yet.
    asked: BTreeSet<(Uuid, Request)>,
    /// When others' changes were looked for last (boot clock); `None`: it is time.
    looked_ms: Option<u64>,
    /// Until then (boot clock) something may fall to this process from a worker that was
    /// killed.
    orphans_until_ms: u64,
    version: Option<u64>,
    over_budget: bool,
    /// Runs that have ended and are not booked yet, with how their workers ended.
    unbooked: Vec<(Uuid, PathBuf, Option<u8>)>,
    /// What the store said last, while it fails.
    trouble: Option<String>,
}

impl Dispatcher {
    /// Takes over the queue. The caller holds its lock.
    pub fn new(
        plan: Plan,
        store: Box<dyn Store>,
        faces: Faces,
        told: Box<dyn FnMut(Told)>,
    ) -> Self {
        let (tell, happened) = mpsc::unbounded_channel();
        Self {
            plan,
            store,
            faces,
            workers: BTreeMap::new(),
            happened,
            tell,
            told,
            cut_off: Vec::new(),
            starts: BTreeMap::new(),
            early_deaths: BTreeMap::new(),
            last_run: BTreeMap::new(),
            aside: BTreeMap::new(),
            signals: (0, 0),
            halted: None,
            codes: Vec::new(),
            taken: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            limit: Limit::default(),
            asked: BTreeSet::new(),
            looked_ms: None,
            orphans_until_ms: 0,
            version: None,
            over_budget: false,
            unbooked: Vec::new(),
            trouble: None,
        }
    }

    /// Works until the queue is drained, or for ever with `watch`; a signal ends it
    /// once the runs have ended. Gives the exit code and what became of the tasks.
    ///
    /// # Errors
    /// The store fails. Workers that live end with this process.
    pub async fn run(
        mut self,
        mut signals: mpsc::UnboundedReceiver<i32>,
    ) -> crate::Result<(u8, Tally)> {
        self.sync()?;
        self.take_up()?;
        loop {
            let done = self.look().and_then(|has_looked| match has_looked {
                true => self.fill(),
                false => Ok(()),
            });
            self.bear(done)?;
            if self.workers.is_empty() && self.is_through() {
                // What was written into a file just now is still of this queue.
                self.sync()?;
                self.fill()?;
                if self.workers.is_empty() && self.unbooked.is_empty() {
                    break;
                }
            }
            tokio::select! {
                Some(number) = signals.recv() => self.on_signal(number),
                Some(happened) = self.happened.recv() => self.on_happened(happened),
                () = tokio::time::sleep(std::time::Duration::from_millis(LOOK_MS)) => {}
            }
        }
        self.sync()?;
        self.faces.unlock();
        let tally = self.tally()?;
        Ok((self.exit_code(&tally), tally))
    }

    /// The store fails: what lives goes on, and nothing is begun. With nothing alive it
    /// is the end.
    fn bear(&mut self, done: Result<()>) -> Result<()> {
        match done {
            Err(QueueError::Failed(err)) if !self.workers.is_empty() => {
                let text = err.to_string();
                if self.trouble.replace(text.clone()) != Some(text.clone()) {
                    self.warn(None, format!("nothing is begun for now: {text}"));
                }
                Ok(())
            }
            Ok(()) => {
                self.trouble = None;
                Ok(())
            }
            other => other,
        }
    }

    /// Nothing more will be begun.
    fn is_through(&self) -> bool {
        let is_stopped = self.signals.0 > 0 || self.halted.is_some();
        let waits = self.limit.until(Timestamp::now().unix_ms).is_some();
        let is_left_alone = |(_, project): &(Uuid, PathBuf)| self.aside.contains_key(project);
        let waits = waits || !self.unbooked.is_empty();
        is_stopped || (self.cut_off.iter().all(is_left_alone) && !self.plan.watch && !waits)
    }

    /// Tasks in progress are those of an earlier process: their runs are booked if
    /// they ended, taken up if they were cut off, and were never begun otherwise.
    fn take_up(&mut self) -> Result<()> {
        let mut runs: BTreeMap<Uuid, PathBuf> = BTreeMap::new();
        for task in self.store.in_progress()? {
            match task.run_id {
                Some(run_id) => {
                    runs.insert(run_id, task.project);
                }
                None => tracing::warn!(%task.id, "in progress without a run"),
            }
        }
        for (run_id, project) in runs {
            if self.is_wanted(&project) {
                self.settle_run(run_id, &project, None)?;
            }
        }
        Ok(())
    }

    fn is_wanted(&self, project: &Path) -> bool {
        self.plan.only.as_ref().is_none_or(|only| only == project)
    }

    /// Starts workers as long as there is work and room.
    fn fill(&mut self) -> Result<()> {
        while self.may_begin()? {
            let Some((run_id, project)) = self.next()? else { break };
            let starts = self.starts.entry(run_id).or_default();
            *starts += 1;
            let after = self.last_run.get(&project).copied();
            let tell = self.tell.clone();
            match Worker::start(&self.plan.worker, run_id, &project, after, tell) {
                Ok(worker) => {
                    self.faces.lock(&project, Timestamp::now().unix_ms);
                    self.workers.insert(run_id, worker);
                }
                Err(err) => {
                    self.warn(Some(&project), format!("a worker could not be started: {err}"));
                    // As one that died at once: the run may have begun long ago.
                    self.unbooked.push((run_id, project, Some(err.kind().exit_code())));
                    break;
                }
            }
        }
        Ok(())
    }

    fn may_begin(&mut self) -> Result<bool> {
        if self.signals.0 > 0 || self.halted.is_some() || self.workers.len() >= self.plan.parallel {
            return Ok(false);
        }
        let now = Timestamp::now();
        if self.limit.until(now.unix_ms).is_some() {
            return Ok(false);
        }
        let spent_usd = self.store.spent_since(now.unix_ms - chain::DAY_MS)?;
        let is_over = spent_usd >= self.plan.max_cost_usd_per_day;
        if is_over && !self.over_budget {
            let text = format!(
                "the tasks of the last 24 hours cost {}: nothing more is begun \
                 (queue.max_cost_usd_per_day = {})",
                crate::text::usd(spent_usd),
                self.plan.max_cost_usd_per_day
            );
            self.warn(None, text);
            if !self.plan.watch {
                self.halted = Some(Outcome::Budget { which: Budget::Cost }.exit_code());
            }
        }
        self.over_budget = is_over;
        Ok(!is_over)
    }

    /// A run that was cut off, else the next task.
    fn next(&mut self) -> Result<Option<(Uuid, PathBuf)>> {
        let now = Timestamp::now();
        self.aside.retain(|_, until_ms| *until_ms > now.boot_ms);
        let mut busy: Vec<PathBuf> = self.workers.values().map(|w| w.project.clone()).collect();
        busy.extend(self.aside.keys().cloned());
        if let Some(at) = self.cut_off.iter().position(|(_, project)| !busy.contains(project)) {
            return Ok(Some(self.cut_off.remove(at)));
        }
        // Those that wait to be taken up hold their projects.
        busy.extend(self.cut_off.iter().map(|(_, project)| project.clone()));
        let run_id = Uuid::new_v4();
        let only = self.plan.only.clone();
        let task = self.store.claim(now.unix_ms, run_id, &busy, only.as_deref())?;
        Ok(task.map(|task| {
            self.taken.insert(task.id);
            (run_id, task.project)
        }))
    }

    fn on_signal(&mut self, number: i32) {
        self.signals.0 += 1;
        if self.signals.0 == 1 {
            self.signals.1 = number;
        }
        for worker in self.workers.values() {
            worker.signal(number);
        }
    }

    fn on_happened(&mut self, happened: Happened) {
        match happened {
            Happened::Line { run_id, text } => {
                if let Some(worker) = self.workers.get(&run_id) {
                    let project = worker.project.clone();
                    (self.told)(Told::Line { project, text });
                }
            }
            Happened::Ended { run_id, code } => {
                let Some(worker) = self.workers.remove(&run_id) else { return };
                self.limit.ended(run_id);
                self.cancelled.remove(&run_id);
                self.unbooked.push((run_id, worker.project, Some(code)));
                self.looked_ms = None;
            }
            Happened::Answered { run_id, request, answer } => {
                self.on_answer(run_id, request, answer);
            }
        }
    }

    fn warn(&mut self, project: Option<&Path>, text: String) {
        (self.told)(Told::Warning { project: project.map(Path::to_owned), text });
    }
}
