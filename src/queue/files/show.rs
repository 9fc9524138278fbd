//! From the store into the files.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::judge::BaseEntry;
use super::memory::{Base, SeenFile, Shelf};
use super::place::{ARCHIVE, Folder, QUEUE, RESULTS, Replaced, Seen};
use super::{Sync, shape};
use crate::queue::store::{Filter, Result, ResultFilter, Store};
use crate::queue::task::{Task, TaskResult, TaskState};

/// Most tasks that the queue file shows: every session that reads it pays for them.
const MAX_TASKS: u32 = 200;
/// Most results that the results file shows.
const MAX_RESULTS: u32 = 500;
/// Most results that the archive shows.
const MAX_ARCHIVED: u32 = 1_000;
/// Contents that a file may have because they were about to be written.
const MAX_INTENTS: usize = 4;
/// Larger a file does not become, bytes, however few it shows then; it is read again.
const MAX_WRITTEN_BYTES: usize = 8 << 20;

/// What became of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// It says what it should.
    Yes,
    /// Somebody changed it meanwhile.
    Changed,
    /// It could not be written; the problem was told.
    Failed,
}

impl Sync<'_> {
    /// Has the project anything to show?
    pub(super) fn has_anything(&mut self) -> Result<bool> {
        let filter =
            Filter { project: Some(self.place.project.to_owned()), limit: 1, ..Filter::default() };
        Ok(!self.store.list(&filter)?.is_empty())
    }

    /// Writes the queue file if it should say something else than `file` does.
    pub(super) fn show_queue(&mut self, folder: &Folder, file: Option<&Seen>) -> Result<Shown> {
        let (tasks, omitted) = self.open_tasks()?;
        let standing = file.map(|file| shape::digest(&file.bytes));
        let known = self.memory.last.revision;
        let as_known = known.map(|known| shape::queue_file(&tasks, omitted, known, self.queue_id));
        if standing.is_some() && standing == as_known.map(|bytes| shape::digest(&bytes)) {
            Self::look(folder, QUEUE, &mut self.memory.last.queue);
            return Ok(Shown::Yes);
        }
        // What could not be written the last time is remembered already.
        let pending = self.memory.candidates().pop().filter(|base| Some(base.revision) != known);
        let pending = pending.and_then(|base| {
            let bytes = shape::queue_file(&tasks, omitted, base.revision, self.queue_id);
            (shape::digest(&bytes) == base.digest).then_some((base.revision, bytes))
        });
        let (revision, bytes) = match pending {
            Some(pending) => pending,
            None => self.new_version(&tasks, omitted)?,
        };
        match folder.replace_but_keep(QUEUE, &bytes, file) {
            Ok((Replaced::Yes, old)) => {
                if let Some((name, digest)) = old.zip(standing) {
                    self.keep(name, digest, known);
                }
                self.memory.last.revision = Some(revision);
                Self::look(folder, QUEUE, &mut self.memory.last.queue);
                Ok(Shown::Yes)
            }
            Ok((Replaced::Changed, _)) => Ok(Shown::Changed),
            Err(err) => {
                self.cannot(&format!("write {QUEUE}"), err);
                Ok(Shown::Failed)
            }
        }
    }

    /// A version that is remembered before it appears: what is in the file can always
    /// be compared.
    fn new_version(&mut self, tasks: &[Task], omitted: u64) -> Result<(u64, Vec<u8>)> {
        let revision = self.memory.next_revision(self.now_unix_ms);
        let bytes = shape::queue_file(tasks, omitted, revision, self.queue_id);
        let entries = tasks.iter().map(|task| (task.id.to_string(), BaseEntry::of(task)));
        let entries: BTreeMap<String, BaseEntry> = entries.collect();
        self.memory.keep(&Base::new(revision, shape::digest(&bytes), entries))?;
        Ok((revision, bytes))
    }

    /// The tasks that are not over, in the order they will be run, and how many more
    /// there are.
    fn open_tasks(&mut self) -> Result<(Vec<Task>, u64)> {
        let project = self.place.project;
        let mut tasks = self.store.list(&Filter {
            states: vec![TaskState::InProgress, TaskState::Queued],
            project: Some(project.to_owned()),
            limit: MAX_TASKS,
            ..Filter::default()
        })?;
        keep_within(&mut tasks, shape::bytes_of_entry);
        let counts = self.store.counts(Some(project))?;
        let omitted = (counts.queued + counts.in_progress).saturating_sub(tasks.len() as u64);
        Ok((tasks, omitted))
    }

    /// Writes results and archive if they should say something else. False if that
    /// failed.
    pub(super) fn result_files(&mut self, folder: &Folder) -> Result<bool> {
        let mut seen = std::mem::take(&mut self.memory.last.results);
        let is_shown = self.results(folder, &mut seen);
        self.memory.last.results = seen;
        let mut seen = std::mem::take(&mut self.memory.last.archive);
        let is_kept = self.archive(folder, &mut seen);
        self.memory.last.archive = seen;
        Ok(is_shown? & is_kept?)
    }

    fn results(&mut self, folder: &Folder, seen: &mut SeenFile) -> Result<bool> {
        let shelf = shelf(self.store, self.place.project, false)?;
        // As long as there are no results, somebody's own from before may stay.
        let is_free = matches!(folder.print(RESULTS), Ok(None));
        let is_wanted = shelf.total > 0 || is_free || !seen.digests.is_empty();
        if !is_wanted || is_as_left(folder, RESULTS, &shelf, seen) {
            return Ok(true);
        }
        let (results, omitted) =
            newest(self.store, self.place.project, &shelf, false, MAX_RESULTS)?;
        let bytes = shape::results_file(&results, omitted);
        let is_shown = self.result_file(folder, RESULTS, &bytes, seen)?;
        seen.shelf = is_shown.then_some(shelf);
        Ok(is_shown)
    }

    fn archive(&mut self, folder: &Folder, seen: &mut SeenFile) -> Result<bool> {
        let shelf = shelf(self.store, self.place.project, true)?;
        let is_wanted = shelf.total > 0 || !seen.digests.is_empty();
        if !is_wanted || is_as_left(folder, ARCHIVE, &shelf, seen) {
            return Ok(true);
        }
        let (results, omitted) =
            newest(self.store, self.place.project, &shelf, true, MAX_ARCHIVED)?;
        let mut tasks = Vec::new();
        for result in &results {
            tasks.extend(self.store.task(&result.task_id)?);
        }
        let bytes = shape::archive_file(&tasks, &results, omitted);
        let is_shown = self.result_file(folder, ARCHIVE, &bytes, seen)?;
        seen.shelf = is_shown.then_some(shelf);
        Ok(is_shown)
    }

    /// A file that longhaul alone writes: somebody else's is moved out of the way.
    fn result_file(
        &mut self,
        folder: &Folder,
        name: &str,
        bytes: &[u8],
        seen: &mut SeenFile,
    ) -> Result<bool> {
        let wanted = shape::digest(bytes);
        let print = match folder.print(name) {
            Ok(print) => print,
            Err(problem) => {
                self.cannot_read(Some(name), &problem);
                return Ok(false);
            }
        };
        let is_as_left = print == seen.print && super::is_trusted(seen);
        if is_as_left && print.is_some() && seen.digests == [wanted.clone()] {
            return Ok(true);
        }
        let standing = match folder.read(name) {
            Ok(file) => file,
            // Too large to be ours: moved, not read.
            Err(crate::devdocs::read::ReadProblem::TooLarge { .. }) => {
                return Ok(
                    self.move_aside(folder, name) && self.write(folder, name, bytes, None, seen)
                );
            }
            Err(problem) => {
                self.cannot_read(Some(name), &problem);
                return Ok(false);
            }
        };
        let digest = standing.as_ref().map(|file| shape::digest(&file.bytes));
        if digest.as_ref() == Some(&wanted) {
            seen.digests = vec![wanted];
            Self::look(folder, name, seen);
            return Ok(true);
        }
        let is_foreign = digest.is_some_and(|digest| !seen.digests.contains(&digest));
        let standing = standing.filter(|_| !is_foreign);
        if is_foreign && !self.move_aside(folder, name) {
            return Ok(false);
        }
        Ok(self.write(folder, name, bytes, standing.as_ref(), seen))
    }

    fn move_aside(&mut self, folder: &Folder, name: &str) -> bool {
        match folder.move_aside(name, self.now_unix_ms) {
            Ok(to) => {
                let name = folder.name(name);
                let line = format!(
                    "{}: results are written by longhaul alone; what stood there was put aside as {}",
                    name.display(),
                    to.display()
                );
                self.synced.problems.push(line);
                true
            }
            Err(err) => {
                self.cannot(&format!("put {name} aside"), err);
                false
            }
        }
    }

    fn write(
        &mut self,
        folder: &Folder,
        name: &str,
        bytes: &[u8],
        standing: Option<&Seen>,
        seen: &mut SeenFile,
    ) -> bool {
        // Written down before: after a crash in between it must not pass for
        // somebody else's.
        let wanted = shape::digest(bytes);
        seen.digests.retain(|digest| *digest != wanted);
        seen.digests.push(wanted);
        let old = seen.digests.len().saturating_sub(MAX_INTENTS);
        seen.digests.drain(..old);
        let intent = seen.clone();
        let slot = if name == RESULTS {
            &mut self.memory.last.results
        } else {
            &mut self.memory.last.archive
        };
        *slot = intent;
        if let Err(err) = self.memory.save() {
            self.tell_state(&err);
            return false;
        }
        match folder.replace(name, bytes, standing) {
            Ok(Replaced::Yes) => {
                seen.digests.drain(..seen.digests.len() - 1);
                Self::look(folder, name, seen);
                true
            }
            // Next time.
            Ok(Replaced::Changed) => false,
            Err(err) => {
                self.cannot(&format!("write {name}"), err);
                false
            }
        }
    }
}

/// Keeps so many from the beginning that they fit a file.
fn keep_within<T>(items: &mut Vec<T>, bytes: impl Fn(&T) -> usize) {
    let mut room = MAX_WRITTEN_BYTES;
    let fits = items.iter().take_while(|item| {
        let size = bytes(item);
        let has_room = size <= room;
        room = room.saturating_sub(size);
        has_room
    });
    let fits = fits.count();
    items.truncate(fits);
}

fn is_as_left(folder: &Folder, name: &str, shelf: &Shelf, seen: &SeenFile) -> bool {
    let is_there = seen.print.is_some() && folder.print(name) == Ok(seen.print);
    is_there && super::is_trusted(seen) && seen.shelf.as_ref() == Some(shelf)
}

fn results_of(project: &Path, archived: bool, limit: u32) -> ResultFilter {
    ResultFilter {
        project: Some(project.to_owned()),
        archived: Some(archived),
        limit,
        ..ResultFilter::default()
    }
}

/// Which results there are.
fn shelf(store: &mut dyn Store, project: &Path, archived: bool) -> Result<Shelf> {
    let filter = results_of(project, archived, 1);
    let Some(newest) = store.results(&filter)?.pop() else {
        return Ok(Shelf::default());
    };
    let total = store.count_results(&filter)?;
    Ok(Shelf { total, newest: Some((newest.task_id.to_string(), newest.attempt)) })
}

/// The newest results, of each task the last one, the newest last; and how many more
/// there are.
fn newest(
    store: &mut dyn Store,
    project: &Path,
    shelf: &Shelf,
    archived: bool,
    limit: u32,
) -> Result<(Vec<TaskResult>, u64)> {
    let mut results = store.results(&results_of(project, archived, limit))?;
    let found = results.len() as u64;
    let mut ids = HashSet::new();
    results.reverse();
    results.retain(|result| ids.insert(result.task_id.clone()));
    let replaced = found - results.len() as u64;
    keep_within(&mut results, shape::bytes_of);
    results.reverse();
    let omitted = shelf.total.saturating_sub(replaced + results.len() as u64);
    Ok((results, omitted))
}
