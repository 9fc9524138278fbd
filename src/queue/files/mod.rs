//! The seed's files as a living face of the queue: `<project>/data/` shows the
//! project's tasks and results, and what a person or script changes in the queue
//! file there is taken over.
//!
//! | file | knows |
//! |---|---|
//! | `place` | the folder in the project: foreign ground |
//! | `shape` | what the files look like |
//! | `judge` | what a changed entry asks for, and whether it may be had; pure |
//! | `memory` | what longhaul wrote there before |
//! | `take` | from the queue file into the store |
//! | `leftover` | what else lies beside the queue file and may hold an edit |
//! | `writer` | whether somebody has a file open for writing |
//! | `show` | from the store into the files |
//! | `reduction` | archiving, and what it saves |
//! | `import` | a queue that the seed's own programs left |
//! | `lockfile` | `execute_queue.lock`, for those who look at it |
//!
//! `dev-docs/QUEUE_FILES.md` is for those who write to the files.

pub mod import;
mod judge;
mod leftover;
pub mod lockfile;
mod memory;
mod place;
pub mod reduction;
mod shape;
mod show;
mod take;
mod writer;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;

use std::path::Path;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::devdocs::read::ReadProblem;
use crate::error::Error;

use super::store::{Result, Store};
use memory::{Memory, SeenFile};
use place::{Folder, Print};

pub use place::{ARCHIVE, LOCK, MAX_READ_BYTES, QUEUE, RESULTS};
pub use reduction::{Cutoff, Reduction, Size, archive};

/// Lines of each kind that are told; the rest is counted.
const MAX_LINES: usize = 20;
/// Times that somebody may be quicker than we are.
const TRIES: u32 = 5;
/// A file that was changed this shortly before it was looked at may have been
/// changed once more within the same tick of its clock.
const FILE_CLOCK_GRAIN_MS: i64 = 50;

/// Where the files of a project are.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The real path of the project.
    pub project: &'a Path,
    /// The folder in it (`queue.files`).
    pub folder: &'a Path,
    /// The state directory's root, which exists and was checked.
    pub state_root: &'a Path,
}

/// What to do about a queue file that may be half written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Wait a moment (300 ms) and look again.
    Wait,
    /// Leave it for the next time.
    Later,
}

/// Lines for a person; only the first few are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    lines: Vec<String>,
    more: u64,
}

impl Lines {
    fn push(&mut self, line: impl Into<String>) {
        if self.lines.len() < MAX_LINES {
            self.lines.push(line.into());
        } else {
            self.more += 1;
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.lines.len() as u64 + self.more
    }

    /// There were none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines, and how many were left out.
    pub fn to_vec(&self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        self.lines.iter().cloned().chain(more).collect()
    }
}

/// What came of it. The texts hold foreign words; `text::safe` before a terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    /// What was taken over into the store.
    pub taken: Lines,
    /// What a person may want to know.
    pub notes: Lines,
    /// What could not be taken over or written, and why. The same again each time
    /// as long as it lasts, but for edits that were put aside.
    pub problems: Lines,
    /// The files are another queue's, and were left to it.
    is_foreign: bool,
    /// The queue file may be half written: look again.
    is_unsettled: bool,
}

/// Takes over what somebody changed in the queue file, and writes the files anew if
/// they should say something else. Cheap if nothing happened. A project without
/// tasks gets no files.
///
/// # Errors
/// Only what the store or the state directory cannot do. What is wrong in the
/// project, also that its disk is full, is among the problems.
pub fn sync(
    store: &mut dyn Store,
    place: Place<'_>,
    now_unix_ms: i64,
    patience: Patience,
) -> Result<Synced> {
    let mut synced = Synced::default();
    // Two paths to one folder would be two faces that take each other's words back.
    if std::fs::canonicalize(place.project).is_ok_and(|real| real != place.project) {
        synced.problems.push("its folder is a link by now: its files are left alone");
        return Ok(synced);
    }
    let queue_id = store.id()?;
    let Some(memory) = Memory::open(&place, queue_id)? else {
        synced.problems.push("the queue's files are held by another process for too long");
        return Ok(synced);
    };
    let mut sync = Sync { store, queue_id, place, now_unix_ms, patience, memory, synced };
    sync.run()?;
    sync.memory.save()?;
    Ok(sync.synced)
}

struct Sync<'a> {
    store: &'a mut dyn Store,
    queue_id: Uuid,
    place: Place<'a>,
    now_unix_ms: i64,
    patience: Patience,
    memory: Memory,
    synced: Synced,
}

impl Sync<'_> {
    fn run(&mut self) -> Result<()> {
        let folder = match Folder::open(self.place.project, self.place.folder) {
            Ok(folder) => folder,
            Err(problem) => {
                self.cannot_read(None, &problem);
                return Ok(());
            }
        };
        let version = self.store.version()?;
        let is_shown = self.memory.last.store_version == Some(version);
        let is_as_left = self.is_as_left(folder.as_ref());
        if self.memory.last.is_foreign && is_as_left {
            self.tell_foreign();
            return Ok(());
        }
        if !self.memory.last.is_foreign {
            self.remove_stale_lock();
        }
        if is_shown && is_as_left {
            return Ok(());
        }
        let folder = match folder {
            Some(folder) => folder,
            None if !self.has_anything()? => {
                self.memory.last.store_version = Some(version);
                return Ok(());
            }
            None => match Folder::make(self.place.project, self.place.folder) {
                Ok(folder) => folder,
                Err(problem) => {
                    self.cannot_read(None, &problem);
                    return Ok(());
                }
            },
        };
        self.all_files(&folder)
    }

    fn remove_stale_lock(&self) {
        let Place { project, folder, state_root } = self.place;
        if let Err(err) = lockfile::remove_stale(project, folder, state_root) {
            tracing::debug!(%err, "a lock file stays");
        }
    }

    fn all_files(&mut self, folder: &Folder) -> Result<()> {
        // Before anything is touched: what lies beside another queue's file is its own.
        self.memory.last.is_foreign = self.is_foreign_file(folder);
        if self.memory.last.is_foreign {
            let last = &mut self.memory.last;
            last.store_version = None;
            let files = [
                (QUEUE, &mut last.queue),
                (RESULTS, &mut last.results),
                (ARCHIVE, &mut last.archive),
            ];
            for (name, seen) in files {
                Self::look(folder, name, seen);
            }
            self.tell_foreign();
            return Ok(());
        }
        let mut is_whole = self.leftovers(folder)?;
        // Many a project has such a folder: without tasks nothing is put there.
        if !self.has_anything()? && matches!(folder.print(QUEUE), Ok(None)) {
            self.memory.last.store_version = Some(self.store.version()?);
            Self::look(folder, QUEUE, &mut self.memory.last.queue);
            return Ok(());
        }
        is_whole &= self.queue_file(folder)?;
        if self.synced.is_unsettled || self.synced.is_foreign {
            return Ok(());
        }
        // Asked before anything is read: what changes meanwhile is shown next time.
        let version = self.store.version()?;
        is_whole &= self.result_files(folder)?;
        self.memory.last.store_version = is_whole.then_some(version);
        Ok(())
    }

    /// Takes over and shows the queue. False if it is not shown as it should be.
    fn queue_file(&mut self, folder: &Folder) -> Result<bool> {
        for _ in 0..TRIES {
            let file = match folder.read(QUEUE) {
                Ok(file) => file,
                Err(problem) => {
                    self.cannot_read(Some(QUEUE), &problem);
                    return Ok(false);
                }
            };
            match self.take_over(folder, file.as_ref())? {
                take::Taken::All => {}
                take::Taken::Unsettled => {
                    self.synced.is_unsettled = true;
                    if self.patience == Patience::Wait {
                        let path = folder.name(QUEUE);
                        let note = "is being written just now, and looked at the next time";
                        self.synced.notes.push(format!("{} {note}", path.display()));
                    }
                    return Ok(false);
                }
                take::Taken::Again => continue,
                // It came this moment.
                take::Taken::Foreign => return Ok(false),
                take::Taken::Failed => return Ok(false),
            }
            match self.show_queue(folder, file.as_ref())? {
                show::Shown::Yes => return Ok(true),
                show::Shown::Changed => {}
                show::Shown::Failed => return Ok(false),
            }
        }
        self.synced.is_unsettled = true;
        Ok(false)
    }

    /// Is everything as it was left?
    fn is_as_left(&self, folder: Option<&Folder>) -> bool {
        let last = &self.memory.last;
        let files = [(QUEUE, &last.queue), (RESULTS, &last.results), (ARCHIVE, &last.archive)];
        last.kept.is_empty()
            && files.into_iter().all(|(name, seen)| {
                let now = folder.map_or(Ok(None), |folder| folder.print(name));
                now.is_ok_and(|now| now == seen.print) && is_trusted(seen)
            })
    }

    fn cannot_read(&mut self, name: Option<&str>, problem: &ReadProblem) {
        let path = name.map_or(self.place.folder.to_owned(), |name| self.place.folder.join(name));
        let what = if name.is_some() { "" } else { "the folder of the queue's files, " };
        self.synced.problems.push(format!("{what}{}: it {problem}", path.display()));
    }

    fn cannot(&mut self, what: &str, err: std::io::Error) {
        let folder = self.place.folder.display();
        self.synced.problems.push(format!("cannot {what} in {folder}: {err}"));
    }

    fn tell_state(&mut self, err: &Error) {
        self.synced.problems.push(err.to_string());
    }

    /// Notes what stands in a file now.
    fn look(folder: &Folder, name: &str, seen: &mut SeenFile) {
        seen.print = folder.print(name).unwrap_or(None);
        seen.seen_unix_ms = Timestamp::now().unix_ms;
    }
}

/// Would a change since then show?
fn is_trusted(seen: &SeenFile) -> bool {
    let changed = |print: Print| print.changed_unix_ms();
    seen.print.is_none_or(|print| {
        (changed(print).saturating_add(FILE_CLOCK_GRAIN_MS)) < seen.seen_unix_ms
    })
}
