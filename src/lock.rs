//! One run per project: an advisory lock that the kernel frees when its holder
//! dies in any way, so there is never a stale one to remove by hand.
//!
//! The file stays; only the lock on it counts. What is written into it (pid,
//! start time) is for the person who is told "locked", never for the decision.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// Who holds a lock, as they wrote it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
}

/// The lock of one project; freed on drop and by the kernel on death.
#[derive(Debug)]
pub struct ProjectLock {
    file: File,
}

/// Why there is no lock.
#[derive(Debug)]
pub enum Denied {
    /// Another run holds it.
    Held(Option<Holder>),
    /// The file cannot be used.
    Io(std::io::Error),
}

impl ProjectLock {
    /// Takes the lock or says who holds it; never waits.
    pub fn take(path: &Path) -> std::result::Result<Self, Denied> {
        // std opens with O_CLOEXEC: a child that inherited the descriptor would
        // hold the lock beyond our death.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(Denied::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let holder = Read::by_ref(&mut file)
                    .take(4096)
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| serde_json::from_str(&text).ok());
                return Err(Denied::Held(holder));
            }
            Err(TryLockError::Error(e)) => return Err(Denied::Io(e)),
        }
        let holder = Holder { pid: std::process::id(), since: Timestamp::now() };
        let line = serde_json::to_string(&holder).unwrap_or_default();
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(line.as_bytes()))
            .map_err(Denied::Io)?;
        Ok(Self { file })
    }
}

impl Drop for ProjectLock {
    fn drop(&mut self) {
        // A child between fork and exec may still share the descriptor.
        let _ = self.file.unlock();
    }
}

impl Denied {
    /// As the error a second run exits with.
    pub fn into_error(self, project: &Path) -> Error {
        match self {
            Denied::Held(holder) => {
                let who = match holder {
                    Some(h) => format!("process {}, since {}", h.pid, h.since.rfc3339()),
                    None => "a process that left no name".into(),
                };
                Error::new(
                    ErrorKind::Locked,
                    format!("another run holds the project {} ({who})", project.display()),
                )
                .hint("see it with `longhaul status`, end it with `longhaul stop`")
            }
            Denied::Io(e) => Error::io(
                ErrorKind::State,
                format!("cannot use the lock of the project {}", project.display()),
                e,
            ),
        }
    }
}

/// Is the lock at `path` held by anybody?
pub fn is_held(path: &Path) -> Result<Option<Option<Holder>>> {
    if !path.exists() {
        return Ok(None);
    }
    match ProjectLock::take(path) {
        Ok(_lock) => Ok(None),
        Err(Denied::Held(holder)) => Ok(Some(holder)),
        Err(Denied::Io(e)) => Err(Error::io(ErrorKind::State, "cannot read the lock", e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = ProjectLock::take(&path).unwrap();
        let Err(Denied::Held(Some(holder))) = ProjectLock::take(&path) else {
            panic!("the second taker got in, or was told nothing")
        };
        assert_eq!(holder.pid, std::process::id());
        drop(lock);
        ProjectLock::take(&path).unwrap();
    }
}
