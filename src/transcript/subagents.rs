//! The files of a session's subagents: found by listing folders that changed,
//! read for their usage only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::parse;
use super::record::{Body, Row};
use super::tail::{Event, Tail};
use super::usage::Ledger;
use crate::clock::Timestamp;

/// More files than any session has; what comes after them is not read.
const MAX_FILES: usize = 10_000;
/// More nested folders than any session has.
const MAX_FOLDERS: usize = 1_000;
/// Unfinished lines kept, of all files together.
const MAX_HELD_BYTES: usize = 64 << 20;
/// A subagent whose file has not grown for this long is not at work, as far as
/// floods are concerned.
const AT_WORK_MS: u64 = 120_000;
/// A folder that changed this recently is listed again: its time of change is
/// too coarse to show a second change right after the first.
const SETTLE_MS: i64 = 1_000;

/// The subagent files of one session.
#[derive(Debug)]
pub(super) struct Subagents {
    folders: Vec<Folder>,
    files: BTreeMap<PathBuf, Agent>,
}

/// One subagent's file.
#[derive(Debug)]
struct Agent {
    /// `None`: it cannot be read, and is read no more.
    tail: Option<Tail>,
    /// When it last had something new.
    grew_at: Option<Timestamp>,
    /// Its newest row is an answer that asks for no tool.
    answered: bool,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Time of change (seconds, nanoseconds) when it was last listed at rest.
    listed: Option<(i64, i64)>,
    exists: bool,
}

impl Subagents {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            folders: vec![Folder { path: root, listed: None, exists: false }],
            files: BTreeMap::new(),
        }
    }

    /// The folders that exist.
    pub(super) fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().filter(|folder| folder.exists).map(|folder| folder.path.as_path())
    }

    /// Reads what is new, at most `budget` bytes.
    pub(super) fn poll(&mut self, budget: &mut u64, ledger: &mut Ledger) {
        self.discover();
        let mut held_bytes = 0_usize;
        for agent in self.files.values_mut() {
            let Agent { tail: file, grew_at, answered } = agent;
            let Some(tail) = file else { continue };
            let before = *budget;
            // Without a budget nothing is new, so nothing more is held either.
            if *budget > 0 && tail.poll(budget, |event| take(event, ledger, answered)).is_err() {
                // It is not supervision that fails with it, only its count.
                ledger.damage.unreadable_files += 1;
                *file = None;
                continue;
            }
            if *budget < before {
                *grew_at = Some(Timestamp::now());
            }
            held_bytes = held_bytes.saturating_add(tail.held_bytes());
            if held_bytes > MAX_HELD_BYTES {
                held_bytes -= tail.held_bytes();
                tail.give_up_line(|event| take(event, ledger, answered));
            }
        }
    }

    /// Bytes kept of unfinished lines.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.files.values().filter_map(|agent| agent.tail.as_ref()).map(Tail::held_bytes).sum()
    }

    pub(super) fn finish(&mut self, ledger: &mut Ledger) {
        for Agent { tail, answered, .. } in self.files.values_mut() {
            if let Some(tail) = tail {
                tail.finish(|event| take(event, ledger, answered));
            }
        }
    }

    /// How many are at work. One that waits for a long tool call counts for as
    /// long as its file grew lately: what floods grows.
    pub(super) fn at_work(&self, now: Timestamp) -> u32 {
        let is_at_work = |agent: &&Agent| {
            !agent.answered && agent.grew_at.is_some_and(|at| now.ms_since(at) < AT_WORK_MS)
        };
        u32::try_from(self.files.values().filter(is_at_work).count()).unwrap_or(u32::MAX)
    }

    fn discover(&mut self) {
        let mut at = 0;
        while at < self.folders.len() {
            if self.folders[at].changed() {
                self.list(at);
            }
            at += 1;
        }
    }

    fn list(&mut self, at: usize) {
        let Ok(entries) = fs::read_dir(&self.folders[at].path) else {
            return;
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let path = entry.path();
            if kind.is_dir() {
                let known = self.folders.iter().any(|folder| folder.path == path);
                if !known && self.folders.len() < MAX_FOLDERS {
                    self.folders.push(Folder { path, listed: None, exists: false });
                }
            } else if kind.is_file()
                && path.extension().is_some_and(|ext| ext == "jsonl")
                && self.files.len() < MAX_FILES
            {
                self.files.entry(path).or_insert_with_key(|path| Agent {
                    tail: Some(Tail::closing(path.clone())),
                    grew_at: None,
                    answered: false,
                });
            }
        }
    }
}

impl Folder {
    fn changed(&mut self) -> bool {
        let Ok(stat) = rustix::fs::stat(&self.path) else {
            self.exists = false;
            self.listed = None;
            return false;
        };
        self.exists = true;
        let changed = (stat.st_mtime, stat.st_mtime_nsec as i64);
        if self.listed == Some(changed) {
            return false;
        }
        let age_ms = Timestamp::now().unix_ms.saturating_sub(changed.0.saturating_mul(1000));
        self.listed = (age_ms > 2 * SETTLE_MS).then_some(changed);
        true
    }
}

fn take(event: Event<'_>, ledger: &mut Ledger, answered: &mut bool) {
    match event {
        Event::Line(line) => {
            let mut damage = ledger.damage;
            parse::rows(line, &mut damage, |row| {
                let row = Row { sidechain: true, ..row };
                match &row.body {
                    Body::Assistant(assistant) => {
                        *answered = assistant.ends_turn || assistant.api_error.is_some();
                        ledger.count(&row, assistant);
                    }
                    Body::User(_) => *answered = false,
                    _ => {}
                }
            });
            ledger.damage = damage;
        }
        Event::Skipped => ledger.damage.skipped_lines += 1,
        Event::Restarted => {}
    }
}
