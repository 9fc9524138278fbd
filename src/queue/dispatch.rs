//! `longhaul queue run`: which task goes to which worker, and what becomes of it.
//!
//! A worker is a process that supervises one run: one chain of sessions for one
//! task, or for the tasks of one batch. It writes down the results itself; when it
//! has ended, in whatever way, the run's journal says what is still to be booked.
//! So nothing depends on this process living longer than its workers, and nothing
//! on their telling it anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use uuid::Uuid;

use super::chain;
use super::faces::Faces;
use super::refusal::QueueError;
use super::store::{Result, Store};
use super::task::{Task, TaskId, TaskState};
use super::worker::{Command, Happened, Worker};
use crate::clock::Timestamp;
use crate::control::{self, Request};
use crate::cycle::state::Budget;
use crate::cycle::{Machine, Outcome};
use crate::error::ErrorKind;
use crate::journal;
use crate::report::status::StatusView;
use crate::runs::RunFolder;
use crate::session::sweep;
use crate::state_dir::ProjectState;

/// How often the queue is looked at for what others changed.
const LOOK_MS: u64 = 1_000;
/// Starts of a run that died without an end before its project is left alone.
const STARTS_MAX: u32 = 3;
/// With `--watch`, a project whose run could not begin is tried again after this.
const REFUSED_AGAIN_MS: u64 = 60_000;
/// What a limit is told of by the screen, and then by its row, may differ by this.
const SAME_LIMIT_MS: i64 = 120_000;
/// A keeper whose worker died has ended everything within this time.
const ORPHANS_MS: u64 = 30_000;
/// Tasks that failed here are named at the end, so many at most.
const NAMED_MAX: usize = 20;

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
    /// Those that did not end done, by name, not all of them if many.
    pub named: Vec<String>,
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
    looked_ms: u64,
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

/// A usage limit that one run waits for, and the runs that wait because of it.
#[derive(Debug, Default)]
struct Limit {
    until_unix_ms: i64,
    paused: BTreeSet<Uuid>,
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
            looked_ms: 0,
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
            let looked = self.look();
            self.bear(looked)?;
            let filled = self.fill();
            self.bear(filled)?;
            if self.workers.is_empty() && self.is_through() {
                // What was written into a file just now is still of this queue.
                self.sync()?;
                self.fill()?;
                if self.workers.is_empty() {
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
        let waits = self.limit.until_unix_ms > Timestamp::now().unix_ms;
        let is_left_alone = |(_, project): &(Uuid, PathBuf)| self.aside.contains_key(project);
        let waits = waits || !self.unbooked.is_empty();
        is_stopped || (self.cut_off.iter().all(is_left_alone) && !self.plan.watch && !waits)
    }

    // ---- what an earlier process left ------------------------------------------

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

    // ---- work ------------------------------------------------------------------

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
                    self.store.unclaim(Timestamp::now().unix_ms, run_id)?;
                    self.set_aside(&project, err.kind().exit_code());
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
        if self.limit.until_unix_ms > now.unix_ms {
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

    // ---- what happens ----------------------------------------------------------

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
                self.limit.paused.remove(&run_id);
                self.cancelled.remove(&run_id);
                self.unbooked.push((run_id, worker.project, Some(code)));
                self.looked_ms = 0;
            }
        }
    }

    /// Runs that have ended are booked; one that cannot be is tried again.
    fn book(&mut self) -> Result<()> {
        while let Some((run_id, project, code)) = self.unbooked.last().cloned() {
            self.settle_run(run_id, &project, code)?;
            self.unbooked.pop();
        }
        Ok(())
    }

    /// Books what the run's journal says, whoever wrote it. `code` is how the worker
    /// ended; `None`: it was of an earlier process.
    fn settle_run(&mut self, run_id: Uuid, project: &Path, code: Option<u8>) -> Result<()> {
        let state = ProjectState::dir_of(&self.plan.state_root, project);
        let told = match RunFolder::find(&state, run_id)? {
            Some(run) => match journal::read(&run.journal()) {
                Ok(told) => Some(told),
                Err(err) => {
                    self.warn(Some(project), err.render());
                    self.set_aside(project, err.kind().exit_code());
                    return Ok(());
                }
            },
            None => None,
        };
        let now = Timestamp::now().unix_ms;
        let Some(told) = told else {
            // It never began: refused by what stands in the project, or killed before.
            self.store.unclaim(now, run_id)?;
            if let Some(code) = code {
                self.on_not_begun(project, code);
            }
            return Ok(());
        };
        self.early_deaths.remove(project);
        if code.is_some() {
            self.last_run.insert(project.to_owned(), run_id);
        }
        for task in told.machine.assignments() {
            if let Some(spell) = chain::spell(run_id, task, "")? {
                self.taken.insert(spell.task_id.clone());
                self.store.settle(spell.ended_unix_ms, &spell)?;
            }
        }
        if let Some(saved) = self.faces.tidy(self.store.as_mut(), project, now)? {
            (self.told)(Told::Note { project: project.to_owned(), text: saved });
        }
        if told.machine.outcome().is_none() && !project.is_dir() {
            return self.give_up_project(run_id, project, &told.machine);
        }
        match told.machine.outcome() {
            Some(outcome) => {
                self.starts.remove(&run_id);
                // Taken for it, and never put before a session.
                self.store.unclaim(now, run_id)?;
                let last = told.machine.assignments().last();
                let is_of_the_task = last.is_some_and(|task| task.is_declared_blocked);
                let was_cancelled = self.was_cancelled(&told.machine)?;
                self.weigh(project, outcome, is_of_the_task, was_cancelled);
            }
            None => self.on_cut_off(run_id, project, code),
        }
        Ok(())
    }

    /// A worker ended before its run began: it was refused, or shot.
    fn on_not_begun(&mut self, project: &Path, code: u8) {
        let deaths = self.early_deaths.entry(project.to_owned()).or_default();
        *deaths += 1;
        if !is_refusal(code) && *deaths < STARTS_MAX {
            return;
        }
        let code = if is_refusal(code) { code } else { ErrorKind::Internal.exit_code() };
        self.warn(Some(project), format!("left alone: its run could not begin (exit code {code})"));
        self.set_aside(project, code);
    }

    /// The run has an end. What does it mean for the others?
    fn weigh(
        &mut self,
        project: &Path,
        outcome: &Outcome,
        is_of_the_task: bool,
        was_cancelled: bool,
    ) {
        let code = outcome.exit_code();
        match outcome {
            Outcome::Done | Outcome::NoProgress => {}
            Outcome::Budget { which: Budget::Quota } => self.halt(code, outcome),
            Outcome::Budget { .. } => {}
            Outcome::NeedsPerson { .. } if is_of_the_task => {}
            Outcome::NeedsPerson { why } => {
                let why = why.clone();
                self.warn(Some(project), format!("left alone from now on: {why}"));
                self.set_aside(project, code);
            }
            // What stands in the way of this one stands in the way of all.
            Outcome::Authentication { .. } | Outcome::LimitPast { .. } | Outcome::Disk { .. } => {
                self.halt(code, outcome);
            }
            Outcome::Stopped { .. } if was_cancelled || self.signals.0 > 0 => {}
            Outcome::Stopped { .. } => {
                let text = "its run was stopped: left alone from now on".to_owned();
                self.warn(Some(project), text);
                self.set_aside(project, code);
            }
        }
    }

    /// Did somebody cancel the task that the run had in hand last?
    fn was_cancelled(&mut self, machine: &Machine) -> Result<bool> {
        let Some(last) = machine.assignments().last() else { return Ok(false) };
        let Ok(id) = TaskId::parse(&last.given.task_id) else { return Ok(false) };
        Ok(self.store.task(&id)?.is_some_and(|task| task.state == TaskState::Cancelled))
    }

    /// The folder is gone, so the run cannot be taken up: its tasks go back.
    fn give_up_project(&mut self, run_id: Uuid, project: &Path, machine: &Machine) -> Result<()> {
        let why = "its project is no folder any more";
        if let Some(task) = machine.abandoned(why)
            && let Some(spell) = chain::spell(run_id, &task, "")?
        {
            self.taken.insert(spell.task_id.clone());
            self.store.settle(spell.ended_unix_ms, &spell)?;
        }
        self.store.unclaim(Timestamp::now().unix_ms, run_id)?;
        self.warn(Some(project), format!("left alone from now on: {why}"));
        self.set_aside(project, ErrorKind::Usage.exit_code());
        Ok(())
    }

    fn halt(&mut self, code: u8, outcome: &Outcome) {
        self.warn(None, format!("nothing more is begun: {}", outcome.sentence()));
        self.halted.get_or_insert(code);
    }

    /// The run has no end: its process was killed, or gave up.
    fn on_cut_off(&mut self, run_id: Uuid, project: &Path, code: Option<u8>) {
        let starts = self.starts.get(&run_id).copied().unwrap_or(0);
        self.orphans_until_ms = Timestamp::now().boot_ms.saturating_add(ORPHANS_MS);
        match code {
            Some(code) if code == ErrorKind::Disk.exit_code() => {
                let text = "nothing more is begun: the disk is full or failing".to_owned();
                self.warn(None, text);
                self.halted.get_or_insert(ErrorKind::Disk.exit_code());
            }
            Some(code) if is_refusal(code) => {
                self.warn(Some(project), "its run cannot be taken up now".into());
                self.set_aside(project, code);
            }
            Some(_) if starts >= STARTS_MAX => {
                let text = format!("its run died {starts} times: left alone from now on");
                self.warn(Some(project), text);
                self.set_aside(project, ErrorKind::Internal.exit_code());
            }
            Some(_) | None => {}
        }
        // Whenever the project is looked at again, this comes first.
        self.cut_off.push((run_id, project.to_owned()));
    }

    fn set_aside(&mut self, project: &Path, code: u8) {
        self.codes.push(code);
        // Nothing was spent on one that could not begin.
        let is_locked_or_wrong =
            [ErrorKind::Locked, ErrorKind::Usage].iter().any(|kind| kind.exit_code() == code);
        let may_change = self.plan.watch && is_locked_or_wrong;
        let until_ms = match may_change {
            true => Timestamp::now().boot_ms.saturating_add(REFUSED_AGAIN_MS),
            false => u64::MAX,
        };
        self.aside.insert(project.to_owned(), until_ms);
    }

    fn warn(&mut self, project: Option<&Path>, text: String) {
        (self.told)(Told::Warning { project: project.map(Path::to_owned), text });
    }

    // ---- looking ---------------------------------------------------------------

    /// What others changed: a task was cancelled, a run waits for a limit.
    fn look(&mut self) -> Result<()> {
        self.book()?;
        let now = Timestamp::now();
        if now.boot_ms.saturating_sub(self.looked_ms) < LOOK_MS {
            return Ok(());
        }
        self.looked_ms = now.boot_ms;
        if now.boot_ms < self.orphans_until_ms {
            let own: Vec<u32> = self.workers.values().map(|worker| worker.pid).collect();
            let swept = sweep::end_orphans(&own);
            if swept.killed > 0 {
                tracing::warn!(?swept, "a worker that died left processes");
            }
        }
        self.sync()?;
        let version = self.store.version()?;
        if self.version.replace(version) != Some(version) {
            self.end_cancelled()?;
        }
        if self.plan.parallel > 1 {
            self.share_limit(now);
        }
        Ok(())
    }

    /// The files of the projects.
    fn sync(&mut self) -> Result<()> {
        let now = Timestamp::now();
        let heard = self.faces.sync(self.store.as_mut(), now.unix_ms, now.boot_ms)?;
        for (project, text) in heard {
            self.warn(Some(&project), text);
        }
        Ok(())
    }

    fn end_cancelled(&mut self) -> Result<()> {
        for task in self.store.in_progress()? {
            let Task { is_cancelling: true, run_id: Some(run_id), project, .. } = task else {
                continue;
            };
            if self.workers.contains_key(&run_id) && self.cancelled.insert(run_id) {
                // One that does not listen yet is asked again at the next look.
                if !self.ask(&project, Request::CancelTask) {
                    self.cancelled.remove(&run_id);
                    self.version = None;
                }
            }
        }
        Ok(())
    }

    fn ask(&self, project: &Path, request: Request) -> bool {
        let folder = ProjectState::dir_of(&self.plan.state_root, project);
        matches!(control::ask(&folder, request), Ok(Some(_)))
    }

    /// All runs share one login: what one waits for, the others would run into.
    fn share_limit(&mut self, now: Timestamp) {
        let mut until_unix_ms = self.limit.until_unix_ms;
        let mut waits_itself = BTreeSet::new();
        let mut by_person = BTreeSet::new();
        for (run_id, worker) in &self.workers {
            let folder = ProjectState::dir_of(&self.plan.state_root, &worker.project);
            let Ok(Some(answer)) = control::ask(&folder, Request::Status) else { continue };
            let Ok(view) = serde_json::from_str::<StatusView>(&answer) else { continue };
            if view.paused {
                by_person.insert(*run_id);
            }
            if let Some(wait) = view.standstill.waiting {
                waits_itself.insert(*run_id);
                until_unix_ms = until_unix_ms.max(wait.until.unix_ms);
            }
        }
        if until_unix_ms > self.limit.until_unix_ms.saturating_add(SAME_LIMIT_MS) {
            let at = crate::text::local(until_unix_ms, &jiff::tz::TimeZone::system(), "%a %H:%M");
            let text = format!("a usage limit holds until {at}: nothing is begun, all runs pause");
            self.warn(None, text);
        }
        self.limit.until_unix_ms = until_unix_ms;
        let holds = until_unix_ms > now.unix_ms;
        let ids: Vec<(Uuid, PathBuf)> =
            self.workers.iter().map(|(id, w)| (*id, w.project.clone())).collect();
        for (run_id, project) in ids {
            let is_paused = self.limit.paused.contains(&run_id);
            if holds
                && !is_paused
                && !waits_itself.contains(&run_id)
                && !by_person.contains(&run_id)
                && self.ask(&project, Request::Pause)
            {
                self.limit.paused.insert(run_id);
            } else if !holds && is_paused && self.ask(&project, Request::Resume) {
                self.limit.paused.remove(&run_id);
            }
        }
    }

    // ---- the end ---------------------------------------------------------------

    fn tally(&mut self) -> Result<Tally> {
        let mut tally = Tally::default();
        for id in std::mem::take(&mut self.taken) {
            let Some(task) = self.store.task(&id)? else { continue };
            match task.state {
                TaskState::Done => tally.done += 1,
                TaskState::Error => tally.error += 1,
                TaskState::Blocked => tally.blocked += 1,
                TaskState::Cancelled => tally.cancelled += 1,
                TaskState::Queued | TaskState::InProgress => tally.left += 1,
            }
            if task.state != TaskState::Done && tally.named.len() < NAMED_MAX {
                tally.named.push(format!("{id}: {}", task.state.as_str()));
            }
        }
        Ok(tally)
    }

    fn exit_code(&self, tally: &Tally) -> u8 {
        if self.signals.0 > 0 {
            return Outcome::Stopped { signal: self.signals.1 }.exit_code();
        }
        if let Some(code) = self.halted {
            return code;
        }
        if tally.error > 0 {
            return 1;
        }
        if tally.blocked > 0 {
            return Outcome::NeedsPerson { why: String::new() }.exit_code();
        }
        if let Some(code) = self.codes.iter().find(|code| **code != 0) {
            return *code;
        }
        if tally.cancelled > 0 {
            return Outcome::Stopped { signal: 15 }.exit_code();
        }
        0
    }
}

/// A run that was refused with this code will be refused again.
fn is_refusal(code: u8) -> bool {
    use ErrorKind::{Authentication, Locked, NeedsPerson, State, Usage};
    [NeedsPerson, Authentication, Locked, State, Usage].iter().any(|kind| kind.exit_code() == code)
}
