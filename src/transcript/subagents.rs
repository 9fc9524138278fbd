//! The files of a session's subagents: found by listing folders that changed,
//! read for their usage only.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::parse;
use super::record::{Body, Row};
use super::tail::{Event, Tail};
use super::usage::Ledger;
use crate::clock::Timestamp;

/// More files than any session has.
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
    /// The file at which the last poll had no budget left.
    cut_short_at: Option<PathBuf>,
    /// There are more files or folders than are followed.
    overflows: bool,
    /// It was said that something here cannot be read.
    is_told: bool,
}

/// One subagent's file.
#[derive(Debug)]
struct Agent {
    tail: Tail,
    /// The ledger's number for it, once it was read.
    number: Option<u32>,
    /// It could not be read at the last poll; it is tried again at the next.
    is_unreadable: bool,
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
    /// It is there and cannot be listed.
    is_unreadable: bool,
}

impl Subagents {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            folders: vec![Folder::new(root)],
            files: BTreeMap::new(),
            cut_short_at: None,
            overflows: false,
            is_told: false,
        }
    }

    /// Are there more files or folders than are followed? What the others say
    /// nobody reads.
    pub(super) fn overflows(&self) -> bool {
        self.overflows
    }

    /// The folders that exist.
    pub(super) fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().filter(|folder| folder.exists).map(|folder| folder.path.as_path())
    }

    /// Reads what is new, at most `budget` bytes. Where the budget ended the last
    /// poll this one goes on: a file that grows without end keeps no other waiting.
    pub(super) fn poll(&mut self, budget: &mut u64, ledger: &mut Ledger) {
        self.discover();
        let mut held_bytes = 0_usize;
        let mut unreadable = self.folders.iter().filter(|folder| folder.is_unreadable).count();
        let first = self.cut_short_at.take().unwrap_or_default();
        let (behind, ahead): (Vec<_>, Vec<_>) =
            self.files.iter_mut().partition(|(path, _)| **path <= first);
        for (path, agent) in ahead.into_iter().chain(behind) {
            // Without a budget nothing is new, so nothing more is held either.
            if *budget > 0 {
                ledger.read_agent(&mut agent.number, path);
                agent.read(budget, ledger);
                ledger.read_main();
                if *budget == 0 {
                    self.cut_short_at = Some(path.clone());
                }
            }
            unreadable += usize::from(agent.is_unreadable);
            held_bytes = held_bytes.saturating_add(agent.tail.held_bytes());
            if held_bytes > MAX_HELD_BYTES {
                held_bytes -= agent.tail.held_bytes();
                let Agent { tail, answered, number, .. } = agent;
                ledger.read_agent(number, path);
                tail.give_up_line(|event| take(event, ledger, answered));
                ledger.read_main();
            }
        }
        ledger.damage.unreadable_files = unreadable as u64;
        if unreadable > 0 && !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(unreadable, "files of subagents cannot be read; trying again");
        }
    }

    /// Bytes kept of unfinished lines.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.files.values().map(|agent| agent.tail.held_bytes()).sum()
    }

    pub(super) fn finish(&mut self, ledger: &mut Ledger) {
        for (path, Agent { tail, answered, number, .. }) in &mut self.files {
            ledger.read_agent(number, path);
            tail.finish(|event| take(event, ledger, answered));
        }
        ledger.read_main();
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
        self.overflows = false;
        let mut at = 0;
        while at < self.folders.len() {
            if self.folders[at].changed() {
                self.list(at);
            }
            at += 1;
        }
    }

    fn list(&mut self, at: usize) {
        let entries = match fs::read_dir(&self.folders[at].path) {
            Ok(entries) => entries,
            Err(err) => return self.folders[at].failed(err.kind()),
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let path = entry.path();
            if kind.is_dir() {
                self.follow_folder(at, path);
            } else if path.extension().is_some_and(|ext| ext == "jsonl") {
                // Whatever it is: of a link or a pipe it shows when it is read.
                self.follow_file(at, path);
            }
        }
    }

    fn follow_folder(&mut self, parent: usize, path: PathBuf) {
        if self.folders.iter().any(|folder| folder.path == path) {
            return;
        }
        if self.folders.len() < MAX_FOLDERS {
            self.folders.push(Folder::new(path));
            return;
        }
        // Made and removed, they do not use up the room of others.
        let vacant = (1..self.folders.len()).find(|&at| !self.folders[at].exists && at != parent);
        match vacant {
            // Looked at with the next poll, if its turn is over.
            Some(at) => self.folders[at] = Folder::new(path),
            None => self.overflow(parent),
        }
    }

    fn follow_file(&mut self, parent: usize, path: PathBuf) {
        if self.files.contains_key(&path) {
            return;
        }
        if self.files.len() >= MAX_FILES && !self.overflows {
            // What a file that is gone has said is counted.
            self.files.retain(|path, _| path.symlink_metadata().is_ok());
        }
        if self.files.len() >= MAX_FILES {
            return self.overflow(parent);
        }
        let tail = Tail::closing(path.clone());
        let agent =
            Agent { tail, number: None, is_unreadable: false, grew_at: None, answered: false };
        self.files.insert(path, agent);
    }

    /// The folder is listed again at the next poll: there may be room by then.
    fn overflow(&mut self, folder: usize) {
        self.overflows = true;
        self.folders[folder].listed = None;
    }
}

impl Agent {
    fn read(&mut self, budget: &mut u64, ledger: &mut Ledger) {
        let before = *budget;
        let Self { tail, answered, .. } = self;
        let result = tail.poll(budget, |event| take(event, ledger, answered));
        // It is not supervision that fails with it, only its count.
        self.is_unreadable = result.is_err();
        if *budget < before {
            self.grew_at = Some(Timestamp::now());
        }
    }
}

impl Folder {
    fn new(path: PathBuf) -> Self {
        Self { path, listed: None, exists: false, is_unreadable: false }
    }

    /// Does it have to be listed?
    fn changed(&mut self) -> bool {
        let stat = match rustix::fs::stat(&self.path) {
            Ok(stat) => stat,
            Err(err) => {
                self.failed(err.kind());
                return false;
            }
        };
        self.exists = true;
        self.is_unreadable = false;
        let changed = (stat.st_mtime, stat.st_mtime_nsec as i64);
        if self.listed == Some(changed) {
            return false;
        }
        let age_ms = Timestamp::now().unix_ms.saturating_sub(changed.0.saturating_mul(1000));
        self.listed = (age_ms > 2 * SETTLE_MS).then_some(changed);
        true
    }

    /// It cannot be listed, and is tried again at the next poll.
    fn failed(&mut self, kind: io::ErrorKind) {
        let is_gone = matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        self.exists = !is_gone;
        self.is_unreadable = !is_gone;
        self.listed = None;
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
