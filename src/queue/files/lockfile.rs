//! `execute_queue.lock`: tells scripts that look for it that the queue is being
//! worked off. Nothing depends on it. The lock that counts is the kernel's on a file
//! in the state directory, so whoever removes this one does no harm, and one that was
//! left behind stands in nobody's way.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::place::{Folder, LOCK, Replaced};
use crate::error::{Error, ErrorKind, Result};
use crate::queue::QUEUE_LOCK;

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The process.
    pub pid: u32,
    /// Since when; RFC 3339.
    pub created_at: String,
}

fn cannot(what: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::State, format!("cannot {what} {LOCK}: {why}"))
}

/// Writes it into `<project>/<folder>`, which is made if need be.
///
/// # Errors
/// Why it cannot be written. The work can go on without.
pub fn write(project: &Path, folder: &Path, pid: u32, now_unix_ms: i64) -> Result<()> {
    let folder = Folder::make(project, folder).map_err(|why| cannot("write", why))?;
    let lock = Lock { pid, created_at: crate::clock::rfc3339(now_unix_ms) };
    let text = serde_json::to_string(&lock).map_err(|why| cannot("write", why))? + "\n";
    for _ in 0..super::TRIES {
        let standing = folder.read(LOCK).map_err(|why| cannot("write", why))?;
        match folder.replace(LOCK, text.as_bytes(), standing.as_ref()) {
            Ok(Replaced::Yes) => return Ok(()),
            Ok(Replaced::Changed) => {}
            Err(err) => {
                return Err(Error::io(ErrorKind::State, format!("cannot write {LOCK}"), err));
            }
        }
    }
    Err(cannot("write", "it changes all the time"))
}

/// Removes one that was left behind: nobody works the queue off, by the lock that
/// counts. What is no lock of ours stays.
///
/// # Errors
/// Why it cannot be looked at or removed, which does no harm.
pub(super) fn remove_stale(project: &Path, folder: &Path, state_root: &Path) -> Result<()> {
    if std::fs::symlink_metadata(project.join(folder).join(LOCK)).is_err()
        || crate::lock::is_held(&state_root.join(QUEUE_LOCK))?.is_some()
    {
        return Ok(());
    }
    let folder = Folder::open(project, folder).map_err(|why| cannot("remove", why))?;
    let Some(folder) = folder else { return Ok(()) };
    let file = folder.read(LOCK).map_err(|why| cannot("remove", why))?;
    if file.is_some_and(|file| serde_json::from_slice::<Lock>(&file.bytes).is_ok()) {
        folder.remove(LOCK).map_err(|why| cannot("remove", why))?;
    }
    Ok(())
}

/// Removes it if it is the one that process `pid` wrote.
///
/// # Errors
/// Why it cannot be removed, which does no harm.
pub fn remove(project: &Path, folder: &Path, pid: u32) -> Result<()> {
    let folder = Folder::open(project, folder).map_err(|why| cannot("remove", why))?;
    let Some(folder) = folder else {
        return Ok(());
    };
    let file = folder.read(LOCK).map_err(|why| cannot("remove", why))?;
    let lock = file.and_then(|file| serde_json::from_slice::<Lock>(&file.bytes).ok());
    if lock.is_some_and(|lock| lock.pid == pid) {
        folder.remove(LOCK).map_err(|why| cannot("remove", why))?;
    }
    Ok(())
}
