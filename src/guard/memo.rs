//! What was read of a file, for as long as the file stays as it is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::look::{Approvals, Found};
use crate::clock::Timestamp;

/// A file that was changed less than this ago is read again: another change in
/// the same tick of its file system's clock would not show in its times.
const SETTLED_MS: i64 = 3_000;

/// A larger folder is read each time.
const MAX_ENTRIES: usize = 2_000;

/// By what a file or folder counts as unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn of(meta: &Metadata) -> Identity {
        Identity {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    fn has_settled(&self, now_unix_ms: i64) -> bool {
        let before_s = now_unix_ms.saturating_sub(SETTLED_MS) / 1_000;
        self.changed.0 < before_s && self.modified.0 < before_s
    }
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: OsString,
    pub kind: Kind,
}

/// What an entry is, as its folder says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// A link, or something that only a look at it tells.
    Unclear,
}

/// What is remembered of one path.
#[derive(Debug, Clone)]
pub(super) enum Kept {
    /// A file of settings.
    Settings(Found, Approvals),
    /// What of a file counts: a digest, if anything does.
    Part(Option<String>),
    /// The entries of a folder that matter, and the number of all.
    Entries(Arc<[Entry]>, usize),
}

/// What was read in the last look.
#[derive(Debug, Default)]
pub(super) struct Memo {
    before: BTreeMap<PathBuf, (Identity, Kept)>,
    now: BTreeMap<PathBuf, (Identity, Kept)>,
    now_unix_ms: i64,
    /// How many were read, and not remembered.
    read: usize,
    /// A test's clock is ahead by this.
    #[cfg(test)]
    pub later_ms: i64,
}

impl Memo {
    /// A new look begins. A thorough one remembers nothing: what was written
    /// through a mapping of memory may not show in a file's times.
    pub fn begin(&mut self, thorough: bool) {
        self.before = std::mem::take(&mut self.now);
        if thorough {
            self.before.clear();
        }
        self.now_unix_ms = Timestamp::now().unix_ms;
        #[cfg(test)]
        {
            self.now_unix_ms += self.later_ms;
        }
        self.read = 0;
    }

    /// What is remembered of `path`, if `meta` says that it is unchanged; else what
    /// `read` finds out. `meta` must have been taken before.
    pub fn recall(&mut self, path: &Path, meta: &Metadata, read: impl FnOnce() -> Kept) -> Kept {
        let identity = Identity::of(meta);
        let kept = match self.before.remove(path) {
            Some((before, kept)) if before == identity => kept,
            _ => {
                self.read += 1;
                read()
            }
        };
        let is_large = matches!(&kept, Kept::Entries(entries, _) if entries.len() > MAX_ENTRIES);
        if identity.has_settled(self.now_unix_ms) && !is_large {
            self.now.insert(path.to_owned(), (identity, kept.clone()));
        }
        kept
    }

    /// How many were read in this look.
    #[cfg(test)]
    pub fn read(&self) -> usize {
        self.read
    }
}
