//! The transcript room: what a session's own record says about it.
//!
//! ```text
//! tail (bytes) -> parse (lines) -> read (fields) -> record (rows)
//!                                                     |-> facts -> the cycle
//!                                                     `-> usage -> budgets, report
//! ```
//!
//! Only `tail` and the folder listing here touch the file system. Nothing of
//! a transcript is kept but totals and where reading stands.

pub mod facts;
pub(crate) mod json;
pub mod parse;
pub(crate) mod part;
mod read;
pub mod record;
mod subagents;
pub mod tail;
pub mod usage;
mod wording;

use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::clock::Timestamp;

pub use facts::{Arrival, Fact, Seen, TurnEnd};
pub use record::{CostState, ModelBill, QuotaLimit};
pub use usage::{Cost, Ledger, Unidentified};

use facts::MainThread;
use subagents::Subagents;
use tail::Tail;

/// Most that one poll reads: more is left for the next, so that no transcript,
/// however large it is made, keeps longhaul from hearing a signal.
const POLL_BYTES: u64 = 16 << 20;
/// The part of it that the subagents' files get however much the main file brings.
const SUBAGENTS_SHARE: u64 = 4;
/// Most that the last read of a transcript reads.
const FINISH_BYTES: u64 = 2 << 30;
/// Longer names of project folders are cut and get a hash.
const MAX_SLUG_CHARS: usize = 200;

/// The transcript of one session: its main file and those of its subagents.
#[derive(Debug)]
pub struct SessionTranscript {
    /// `<config dir>/projects`, to search in while the file is not found.
    projects: Option<PathBuf>,
    session_id: String,
    main: Tail,
    subagents: Subagents,
    thread: MainThread,
    ledger: Ledger,
    /// Facts read before an error cut a poll short; the next one tells them.
    untold: Vec<Seen>,
    /// The last poll did not come to the end of what is there.
    is_behind: bool,
    /// Bytes read so far.
    read_bytes: ReadBytes,
}

/// Bytes read so far: what grows is alive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadBytes {
    /// Of the main file.
    pub main: u64,
    /// Of the subagents' files.
    pub subagents: u64,
}

impl SessionTranscript {
    /// The transcript of `session_id`, started in `project_dir_real`, the
    /// project folder with all links resolved.
    pub fn new(config_dir: &Path, project_dir_real: &Path, session_id: Uuid) -> Self {
        let projects = config_dir.join("projects");
        let path = projects.join(slug(project_dir_real)).join(format!("{session_id}.jsonl"));
        Self { projects: Some(projects), ..Self::with_path(path) }
    }

    /// The transcript at `path`, when the CLI itself told where it is.
    pub fn with_path(path: PathBuf) -> Self {
        Self {
            projects: None,
            session_id: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            subagents: Subagents::new(path.with_extension("").join("subagents")),
            main: Tail::new(path),
            thread: MainThread::default(),
            ledger: Ledger::new(),
            untold: Vec::new(),
            is_behind: false,
            read_bytes: ReadBytes::default(),
        }
    }

    /// The main file, which may not exist yet.
    pub fn path(&self) -> &Path {
        self.main.path()
    }

    /// The folders in which a change means there may be something to read.
    /// Those that exist now; the list grows with the session.
    pub fn watch_dirs(&self) -> Vec<PathBuf> {
        let existing = self.main.path().ancestors().skip(1).find(|dir| dir.is_dir());
        let mut dirs: Vec<PathBuf> = existing.map(Path::to_path_buf).into_iter().collect();
        let session_dir = self.main.path().with_extension("");
        if session_dir.is_dir() {
            dirs.push(session_dir);
        }
        dirs.extend(self.subagents.dirs().map(Path::to_path_buf));
        dirs
    }

    /// Reads what is new and says what it means for the main thread, in file
    /// order. With nothing new: a `stat` of each known file and folder.
    ///
    /// The main file goes first: what a subagent's file repeats of it then
    /// never counts, not even for a moment; unless the main file grows faster
    /// than it is read.
    pub fn poll(&mut self) -> io::Result<Vec<Seen>> {
        self.read(POLL_BYTES)
    }

    /// Did the last poll leave something unread that was there already?
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    fn read(&mut self, mut budget: u64) -> io::Result<Vec<Seen>> {
        self.find();
        let Self { main, subagents, thread, ledger, untold, read_bytes, .. } = self;
        let all = budget;
        let result = main.poll(&mut budget, |event| thread.take(event, ledger, untold));
        let share = budget.max(all / SUBAGENTS_SHARE);
        let mut left = share;
        subagents.poll(&mut left, ledger);
        read_bytes.main = read_bytes.main.saturating_add(all - budget);
        read_bytes.subagents = read_bytes.subagents.saturating_add(share - left);
        self.is_behind = budget == 0 || left == 0;
        result.map(|()| std::mem::take(untold))
    }

    /// Like [`SessionTranscript::poll`], for the last time: the process is
    /// gone, so a last line without a newline is as whole as it will get.
    pub fn finish(&mut self) -> io::Result<Vec<Seen>> {
        let mut seen = self.read(FINISH_BYTES)?;
        let Self { main, subagents, thread, ledger, .. } = self;
        main.finish(|event| thread.take(event, ledger, &mut seen));
        subagents.finish(ledger);
        Ok(seen)
    }

    /// How much was read so far.
    pub fn read_bytes(&self) -> ReadBytes {
        self.read_bytes
    }

    /// Subagents at work: their files grew lately, and do not end with an answer.
    pub fn subagents_at_work(&self) -> u32 {
        self.subagents.at_work(Timestamp::now())
    }

    /// Has the session more files than anybody reads? It then spends unseen.
    pub fn overflows(&self) -> bool {
        self.subagents.overflows()
    }

    /// What the session used so far, subagents included.
    pub fn usage(&self) -> &Ledger {
        &self.ledger
    }

    /// Looks for the file under another project folder when it is not where
    /// it is expected: how the CLI names that folder is its own business.
    fn find(&mut self) {
        let Some(projects) = &self.projects else {
            return;
        };
        if self.main.path().exists() {
            self.projects = None;
            return;
        }
        let name = format!("{}.jsonl", self.session_id);
        let Ok(folders) = std::fs::read_dir(projects) else {
            return;
        };
        let found = folders.flatten().map(|folder| folder.path().join(&name)).find(|p| p.is_file());
        if let Some(path) = found {
            *self = Self::with_path(path);
        }
    }
}

/// The folder name the CLI makes of a path: every UTF-16 unit that is no ASCII
/// letter or digit becomes a dash; a long name is cut and gets a hash.
pub(crate) fn slug(project_dir: &Path) -> String {
    let path = project_dir.to_string_lossy();
    let slug: String = path
        .encode_utf16()
        .map(|unit| match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii_alphanumeric() => char::from(byte),
            _ => '-',
        })
        .collect();
    if slug.len() <= MAX_SLUG_CHARS {
        return slug;
    }
    let hash = path
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    format!("{}-{}", &slug[..MAX_SLUG_CHARS], base36(hash.unsigned_abs()))
}

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.extend(char::from_digit(number % 36, 36));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests;
