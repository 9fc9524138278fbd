//! The queue's files in the projects that are worked on: synced while the queue is
//! run, tidied when a task has ended. What goes wrong with them is told, and holds
//! nothing up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::{self, Cutoff, Patience, Place, Synced, lockfile};
use super::store::{Filter, Result, Store};
use super::task::TaskState;
use crate::config::{Config, Queue};

/// Projects with tasks are looked for this often.
const PROJECTS_EVERY_MS: u64 = 30_000;
/// Tasks that are looked through for their projects.
const TASKS_LOOKED_AT: u32 = 500;

/// The files of several projects.
#[derive(Debug)]
pub struct Faces {
    state_root: PathBuf,
    /// `--config` and `--set`, which hold for every project.
    config_file: Option<PathBuf>,
    set: Vec<String>,
    /// Each project and its `[queue]`; `None`: its configuration cannot be used.
    projects: BTreeMap<PathBuf, Option<Queue>>,
    looked_ms: Option<u64>,
    /// Projects in which `execute_queue.lock` was written.
    locked: Vec<PathBuf>,
    /// Problems told already, so that one that lasts is told once.
    told: Vec<String>,
}

/// What a person should hear.
pub type Heard = Vec<(PathBuf, String)>;

impl Faces {
    /// Of `home` and of every project that has tasks.
    pub fn new(state_root: &Path, home: &Path, config_file: Option<&Path>, set: &[String]) -> Self {
        let mut faces = Self {
            state_root: state_root.to_owned(),
            config_file: config_file.map(Path::to_owned),
            set: set.to_vec(),
            projects: BTreeMap::new(),
            looked_ms: None,
            locked: Vec::new(),
            told: Vec::new(),
        };
        faces.know(home);
        faces
    }

    fn know(&mut self, project: &Path) {
        if !self.projects.contains_key(project) {
            let config = Config::load(project, self.config_file.as_deref(), &self.set);
            self.projects.insert(project.to_owned(), config.ok().map(|config| config.queue));
        }
    }

    /// Takes over what was edited, and shows what has changed. Cheap when nothing has.
    ///
    /// # Errors
    /// The store fails.
    pub fn sync(
        &mut self,
        store: &mut dyn Store,
        now_unix_ms: i64,
        now_boot_ms: u64,
    ) -> Result<Heard> {
        self.find_projects(store, now_boot_ms)?;
        let mut heard = Heard::new();
        for (project, queue) in &self.projects {
            let Some(folder) = queue.as_ref().and_then(|queue| queue.files.as_deref()) else {
                continue;
            };
            // One that was moved away has no files.
            if !project.is_dir() {
                continue;
            }
            let place = Place { project, folder, state_root: &self.state_root };
            let synced = files::sync(store, place, now_unix_ms, Patience::Later)?;
            hear(&mut heard, project, &synced);
        }
        // One that lasts is told once; when it is gone it may come again.
        heard.retain(|(_, text)| !self.told.contains(text));
        self.told.extend(heard.iter().map(|(_, text)| text.clone()));
        let excess = self.told.len().saturating_sub(100);
        self.told.drain(..excess);
        Ok(heard)
    }

    fn find_projects(&mut self, store: &mut dyn Store, now_boot_ms: u64) -> Result<()> {
        let is_due =
            self.looked_ms.is_none_or(|at| now_boot_ms.saturating_sub(at) >= PROJECTS_EVERY_MS);
        if is_due {
            self.looked_ms = Some(now_boot_ms);
            let states = vec![TaskState::Queued, TaskState::InProgress];
            let filter = Filter { states, limit: TASKS_LOOKED_AT, ..Filter::default() };
            for task in store.list(&filter)? {
                self.know(&task.project);
            }
        }
        Ok(())
    }

    /// Moves old results to the archive, where `queue.auto_cleanup` says so. Gives what
    /// that saved, if it moved any.
    ///
    /// # Errors
    /// The store fails.
    pub fn tidy(
        &mut self,
        store: &mut dyn Store,
        project: &Path,
        now_unix_ms: i64,
    ) -> Result<Option<String>> {
        self.know(project);
        let Some(Some(queue)) = self.projects.get(project) else { return Ok(None) };
        if !queue.auto_cleanup {
            return Ok(None);
        }
        let cutoff = Cutoff { age_ms: queue.archive_after_ms, keep_recent: queue.keep_recent };
        let folder = queue.files.as_deref();
        let done = files::archive(store, project, folder, &self.state_root, now_unix_ms, cutoff)?;
        let moved = crate::text::count(done.moved, "result was", "results were");
        Ok((done.moved > 0).then(|| format!("{moved} archived; {}", done.sentence())))
    }

    /// Shows in a project that the queue is being worked off.
    pub fn lock(&mut self, project: &Path, now_unix_ms: i64) {
        self.know(project);
        let Some(folder) = self.folder(project) else { return };
        if self.locked.iter().any(|locked| locked == project) {
            return;
        }
        match lockfile::write(project, &folder, std::process::id(), now_unix_ms) {
            Ok(()) => self.locked.push(project.to_owned()),
            Err(err) => tracing::warn!(%err, "no lock file"),
        }
    }

    /// Nobody works the queue off any more.
    pub fn unlock(&mut self) {
        for project in std::mem::take(&mut self.locked) {
            let Some(folder) = self.folder(&project) else { continue };
            if let Err(err) = lockfile::remove(&project, &folder, std::process::id()) {
                tracing::warn!(%err, "the lock file stays");
            }
        }
    }

    fn folder(&self, project: &Path) -> Option<PathBuf> {
        self.projects.get(project)?.as_ref()?.files.clone()
    }
}

fn hear(heard: &mut Heard, project: &Path, synced: &Synced) {
    for line in synced.taken.to_vec() {
        heard.push((project.to_owned(), format!("taken over from {}: {line}", files::QUEUE)));
    }
    for line in synced.notes.to_vec().into_iter().chain(synced.problems.to_vec()) {
        heard.push((project.to_owned(), line));
    }
}
