//! What longhaul remembers of the files it wrote into a project, out of the reach
//! of a session: below the state directory, in `queue-files/<project>/<folder and queue>/`.
//!
//! Each version of the queue file carries a number, and what stood in it is written
//! down before it appears in the project. So an edit is always compared with the
//! version it was made from, also one by a script that read the file long ago, and
//! also after a crash at any moment. `seen.json` only saves work; it may be lost.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::Place;
use super::judge::BaseEntry;
use super::place::Print;
use super::shape::digest;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{Denied, ProjectLock};
use crate::state_dir::{self, FILE_MODE, ProjectState};

/// Versions of the queue file that are remembered.
const MAX_BASES: usize = 32;
/// Larger is no file of ours.
const MAX_BYTES: u64 = 64 << 20;
/// Tries to get the lock, each a fifth of a second.
const LOCK_TRIES: u32 = 25;
/// Hex digits of the digest that name a folder.
const FOLDER_CHARS: usize = 8;
const FORMAT: u32 = 1;

/// One version of the queue file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Base {
    pub(super) format: u32,
    pub(super) revision: u64,
    /// SHA-256 of its bytes.
    pub(super) digest: String,
    pub(super) entries: BTreeMap<String, BaseEntry>,
}

impl Base {
    pub(super) fn new(revision: u64, digest: String, entries: BTreeMap<String, BaseEntry>) -> Self {
        Self { format: FORMAT, revision, digest, entries }
    }
}

/// A file of ours when it was looked at last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SeenFile {
    /// What stood there; `None`: nothing.
    pub(super) print: Option<Print>,
    /// When that was looked at, Unix milliseconds.
    pub(super) seen_unix_ms: i64,
    /// Digests of what longhaul wrote there last, or was about to.
    pub(super) digests: Vec<String>,
    /// Which results it shows.
    #[serde(default)]
    pub(super) shelf: Option<Shelf>,
}

/// Results by their number and the newest of them. Each is written once, so that as
/// long as this is the same they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shelf {
    pub(super) total: u64,
    pub(super) newest: Option<(String, u32)>,
}

/// A file that could not be understood and may be half written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unsettled {
    pub(super) digest: String,
    pub(super) since: crate::clock::Timestamp,
}

/// An old version of the queue file that stays beside it as long as somebody has it
/// open for writing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Its name in the folder.
    pub(super) name: String,
    /// Of what was taken over from it so far.
    pub(super) digest: String,
    /// The version that had stood there.
    pub(super) revision: Option<u64>,
    /// Since when, Unix milliseconds.
    pub(super) since_unix_ms: i64,
}

/// What was found at the end of the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastLook {
    pub(super) format: u32,
    /// [`crate::queue::Store::version`] of what the files show.
    pub(super) store_version: Option<u64>,
    /// The version of the queue file that is known to have stood there.
    pub(super) revision: Option<u64>,
    pub(super) queue: SeenFile,
    pub(super) results: SeenFile,
    pub(super) archive: SeenFile,
    /// The queue file was another queue's.
    #[serde(default)]
    pub(super) is_foreign: bool,
    pub(super) unsettled: Option<Unsettled>,
    #[serde(default)]
    pub(super) kept: Vec<Kept>,
}

/// The memory of one project, held by one process at a time.
pub(super) struct Memory {
    dir: PathBuf,
    pub(super) last: LastLook,
    saved: LastLook,
    _lock: ProjectLock,
}

impl Memory {
    /// Opens what a queue remembers of a project's folder; `None`: another process is at
    /// it and does not come to an end.
    pub(super) fn open(place: &Place<'_>, queue_id: Uuid) -> Result<Option<Self>> {
        let name = ProjectState::dir_of(place.state_root, place.project);
        let name = name.file_name().expect("it ends with the name of the project");
        // What stood in one folder says nothing of the files in another; nor does what the
        // queue showed there that was lost, or put out of the way, and begun anew.
        let key = [queue_id.as_bytes(), place.folder.as_os_str().as_bytes()].concat();
        let mut of_folder = digest(&key);
        of_folder.truncate(FOLDER_CHARS);
        let dir = place.state_root.join("queue-files").join(name).join(of_folder);
        let cannot = |err: io::Error| {
            Error::io(ErrorKind::State, format!("cannot use {}", dir.display()), err)
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(cannot)?;
        let mut tries = 0;
        let lock = loop {
            match ProjectLock::take(&dir.join("lock")) {
                Ok(lock) => break lock,
                Err(Denied::Held(_)) if tries < LOCK_TRIES => tries += 1,
                Err(Denied::Held(_)) => return Ok(None),
                Err(Denied::Io(err)) => return Err(cannot(err)),
            }
        };
        let last: LastLook = load(&dir.join("seen.json")).unwrap_or_default();
        let last = if last.format == FORMAT { last } else { LastLook::default() };
        let last = LastLook { format: FORMAT, ..last };
        Ok(Some(Self { dir, saved: last.clone(), last, _lock: lock }))
    }

    /// The version of that number, if it is remembered.
    pub(super) fn base(&self, revision: u64) -> Option<Base> {
        let base: Base = load(&self.base_path(revision))?;
        (base.format == FORMAT && base.revision == revision).then_some(base)
    }

    /// Those that may stand in the file if nobody touched it: the one that is known
    /// to, and any that was about to. The oldest first.
    pub(super) fn candidates(&self) -> Vec<Base> {
        let revisions = self.revisions();
        let from = match self.last.revision {
            Some(known) => revisions.iter().position(|revision| *revision >= known),
            None => Some(revisions.len().saturating_sub(2)),
        };
        let revisions = &revisions[from.unwrap_or(revisions.len())..];
        revisions.iter().filter_map(|revision| self.base(*revision)).collect()
    }

    /// A number for the next version. It begins with the time, so that a memory that
    /// begins anew does not give a number twice.
    pub(super) fn next_revision(&self, now_unix_ms: i64) -> u64 {
        let newest = self.revisions().last().copied().max(self.last.revision).unwrap_or(0);
        u64::try_from(now_unix_ms).unwrap_or(0).max(newest + 1)
    }

    /// Remembers a version that is about to be written.
    pub(super) fn keep(&self, base: &Base) -> Result<()> {
        let bytes = serde_json::to_vec(base).map_err(|err| {
            Error::internal("a version of the queue file cannot be written down").caused_by(err)
        })?;
        state_dir::write_unsynced(&self.base_path(base.revision), &bytes, FILE_MODE)?;
        let revisions = self.revisions();
        let spare = revisions.len().saturating_sub(MAX_BASES);
        for old in revisions[..spare].iter().filter(|old| Some(**old) != self.last.revision) {
            // One more or less does not matter.
            let _ = fs::remove_file(self.base_path(*old));
        }
        Ok(())
    }

    /// Writes down what was seen, if it is something else than before.
    pub(super) fn save(&mut self) -> Result<()> {
        if self.last == self.saved {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&self.last).map_err(|err| {
            Error::internal("what was seen of the queue's files cannot be written down")
                .caused_by(err)
        })?;
        state_dir::write_unsynced(&self.dir.join("seen.json"), &bytes, FILE_MODE)?;
        self.saved = self.last.clone();
        Ok(())
    }

    fn base_path(&self, revision: u64) -> PathBuf {
        self.dir.join(format!("base-{revision}.json"))
    }

    /// The numbers of all versions remembered, in order.
    fn revisions(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().filter_map(io::Result::ok);
        let revision = |entry: fs::DirEntry| {
            let name = entry.file_name();
            name.to_str()?.strip_prefix("base-")?.strip_suffix(".json")?.parse().ok()
        };
        let mut revisions: Vec<u64> = entries.filter_map(revision).collect();
        revisions.sort_unstable();
        revisions
    }
}

fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    if fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?.len() > MAX_BYTES {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
