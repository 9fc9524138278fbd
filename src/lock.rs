//! One run per project: an advisory lock that the kernel frees when its holder
//! dies in any way, so there is never a stale one to remove by hand.
//!
//! The file stays; only the lock on it counts. What is written into it (pid,
//! start time) is for the person who is told "locked", never for the decision.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// How often a lock that is held is tried.
const TRIES: u32 = 20;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(10);

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
    /// Takes the lock or says who holds it, within a fraction of a second.
    pub fn take(path: &Path) -> std::result::Result<Self, Denied> {
        // std opens with O_CLOEXEC: a child that inherited the descriptor would
        // hold the lock beyond our death.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // What a link points at would be emptied.
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(Denied::Io)?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Self::sign(file),
                Err(TryLockError::Error(e)) => return Err(Denied::Io(e)),
                Err(TryLockError::WouldBlock) => {}
            }
            // Its holder may be dying this very moment, may not have signed yet,
            // or is somebody who only looks at it.
            std::thread::sleep(PAUSE);
        }
        Err(Denied::Held(living_holder(&mut file)))
    }

    fn sign(mut file: File) -> std::result::Result<Self, Denied> {
        let holder = Holder { pid: std::process::id(), since: Timestamp::now() };
        let line = serde_json::to_string(&holder).unwrap_or_default();
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(line.as_bytes()))
            .map_err(Denied::Io)?;
        Ok(Self { file })
    }
}

/// The process named in the file, if it is alive: the name of an earlier holder
/// stands there until the next has written its own.
fn living_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(4096).read_to_string(&mut text).ok()?;
    let holder: Holder = serde_json::from_str(&text).ok()?;
    Path::new("/proc").join(holder.pid.to_string()).exists().then_some(holder)
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
                let who = who(holder);
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

/// The holder in words.
pub fn who(holder: Option<Holder>) -> String {
    match holder {
        Some(h) => format!("process {}, since {}", h.pid, h.since.rfc3339()),
        None => "a process that left no name".into(),
    }
}

/// Is the lock at `path` held by anybody? Looks only: nothing is written, and a
/// run that starts at this moment is not turned away.
pub fn is_held(path: &Path) -> Result<Option<Option<Holder>>> {
    let what = || format!("cannot read the lock {}", path.display());
    let failed = |e| Error::io(ErrorKind::State, what(), e);
    // A pipe in its place must not make anybody wait.
    let plain = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let mut file = match OpenOptions::new().read(true).custom_flags(plain).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(living_holder(&mut file))),
        Err(TryLockError::Error(e)) => Err(failed(e)),
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
        assert_eq!(is_held(&path).unwrap(), Some(Some(holder)));
        drop(lock);
        assert_eq!(is_held(&path).unwrap(), None);
        ProjectLock::take(&path).unwrap();
    }

    #[test]
    fn a_child_that_lives_on_does_not_hold_it_beyond_our_death() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mut lock = ProjectLock::take(&path).unwrap();
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        // What the kernel does at our death: it closes the file, nobody unlocks it.
        drop(std::mem::replace(&mut lock.file, File::open("/dev/null").unwrap()));
        let again = ProjectLock::take(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(again.is_ok(), "{again:?}");
    }

    #[test]
    fn a_link_is_no_lock_and_what_it_points_at_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("lock"), dir.path().join("other"));
        std::fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(matches!(ProjectLock::take(&path), Err(Denied::Io(_))));
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
    }

    #[test]
    fn one_who_only_looks_turns_nobody_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        // The name of a holder that is long gone.
        std::fs::write(&path, r#"{"pid":4194999,"since":{"unix_ms":0,"boot_ms":0}}"#).unwrap();
        let looking = File::open(&path).unwrap();
        looking.try_lock_shared().unwrap();
        let taker = std::thread::spawn({
            let path = path.clone();
            move || ProjectLock::take(&path).is_ok()
        });
        std::thread::sleep(PAUSE * 2);
        looking.unlock().unwrap();
        assert!(taker.join().unwrap());
    }
}
