//! What could not be recorded yet, and how much of each session is: files in the
//! tracker's own folder below the state directory.
//!
//! A pending file is written before the project's files and removed after them, so that
//! death at any moment leaves either nothing to do or something that can be done again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::errors::Edit;
use super::feed::{Known, Parts};
use super::tracker::Pending;
use crate::error::{Error, ErrorKind, Result};
use crate::state_dir;

/// Entries that may wait; more are refused.
const MAX_PENDING: usize = 2_000;
/// Things to be said that may wait; what is said after them is lost.
const MAX_SAID: usize = 500;
/// The folder of what is to be said.
const SAID: &str = "said";
/// Largest file here.
const MAX_BYTES: u64 = 16 << 20;
/// Sessions that are remembered; the oldest go first.
const MAX_SESSIONS: usize = 500;
const FOLDER_MODE: u32 = 0o700;

/// The tracker's folder of one project in the state directory.
#[derive(Debug, Clone)]
pub(super) struct Spool(PathBuf);

impl Spool {
    /// Opens it; `dir` is made if need be.
    pub(super) fn open(dir: PathBuf) -> Result<Self> {
        for dir in [dir.clone(), dir.join("pending"), dir.join("sessions"), dir.join(SAID)] {
            use std::os::unix::fs::DirBuilderExt;
            fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&dir).map_err(
                |err| Error::io(ErrorKind::State, format!("cannot create {}", dir.display()), err),
            )?;
        }
        Ok(Self(dir))
    }

    /// The lock of whoever records.
    pub(super) fn lock_file(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The names of what waits, the oldest first.
    pub(super) fn names(&self) -> Vec<String> {
        names_in(&self.0.join("pending"))
    }

    /// What waits under a name; `None` if nothing does any more.
    ///
    /// # Errors
    /// It cannot be read, now or ever: [`Unread`] says which.
    pub(super) fn load(&self, name: &str) -> std::result::Result<Option<Pending>, Unread> {
        read(&self.0.join("pending").join(name))
    }

    /// Keeps a log until it is recorded. Gives its name.
    ///
    /// # Errors
    /// The disk fails, or too much waits already.
    pub(super) fn keep(&self, now_unix_ms: i64, pending: &Pending) -> Result<String> {
        if self.names().len() >= MAX_PENDING {
            return Err(Error::new(
                ErrorKind::State,
                format!("{MAX_PENDING} records of usage wait already"),
            )
            .hint("the errors file in the project's usage folder says why they wait"));
        }
        let name = name_at(now_unix_ms);
        self.save(&name, pending).map(|()| name)
    }

    /// Lets all others that wait go before it.
    pub(super) fn put_last(&self, name: &str, now_unix_ms: i64) {
        // Those of one call stay in order.
        let fields: Vec<&str> = name.rsplitn(3, '-').take(2).collect();
        let tail: Vec<&str> = fields.into_iter().rev().collect();
        let new = format!("{now_unix_ms:015}-{}", tail.join("-"));
        let dir = self.0.join("pending");
        if let Err(err) = fs::rename(dir.join(name), dir.join(new)) {
            tracing::warn!(%err, "a pending record of usage cannot be put last");
        }
    }

    /// Writes what waits under a name.
    pub(super) fn save(&self, name: &str, pending: &Pending) -> Result<()> {
        write(&self.0.join("pending").join(name), pending)
    }

    /// It is recorded.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.0.join("pending").join(name);
        match fs::remove_file(&path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(ErrorKind::State, format!("cannot remove {}", path.display()), err))
            }
            _ => Ok(()),
        }
    }

    /// One that nobody can read is out of the way. Gives where it is.
    pub(super) fn put_aside(&self, name: &str) -> io::Result<PathBuf> {
        let to = self.0.join(format!("unreadable-{name}"));
        fs::rename(self.0.join("pending").join(name), &to).map(|()| to)
    }

    /// Keeps what is to be said of a day until the errors file takes it.
    ///
    /// # Errors
    /// The disk fails, or too much waits already.
    pub(super) fn keep_said(&self, now_unix_ms: i64, day: Date, edit: &Edit) -> Result<()> {
        let dir = self.0.join(SAID);
        let names = names_in(&dir);
        if names.len() >= MAX_SAID {
            let message = format!("{MAX_SAID} things to be said of usage wait already");
            return Err(Error::new(ErrorKind::State, message));
        }
        // After those of the day, also within a millisecond, or if the clock was put back.
        let begin = format!("{day}-");
        let ms_of = |name: &String| name.strip_prefix(&begin)?.split('-').next()?.parse().ok();
        let last: Option<i64> = names.iter().filter_map(ms_of).max();
        let at = last.map_or(now_unix_ms, |last| now_unix_ms.max(last.saturating_add(1)));
        write(&dir.join(format!("{begin}{}", name_at(at))), edit)
    }

    /// The days of which something waits to be said.
    pub(super) fn days_said(&self) -> BTreeSet<Date> {
        let names = names_in(&self.0.join(SAID));
        names.iter().filter_map(|name| name.get(..10)?.parse().ok()).collect()
    }

    /// What waits to be said of a day, the oldest first, by name. `Err` says why it cannot
    /// be read, now or ever.
    pub(super) fn said(&self, day: Date) -> Vec<(String, std::result::Result<Edit, Unread>)> {
        let dir = self.0.join(SAID);
        let begin = format!("{day}-");
        let names = names_in(&dir).into_iter().filter(|name| name.starts_with(&begin));
        let read = names.filter_map(|name| match read(&dir.join(&name)) {
            Ok(edit) => Some((name, Ok(edit?))),
            Err(unread) => Some((name, Err(unread))),
        });
        read.collect()
    }

    /// It is said.
    pub(super) fn forget_said(&self, name: &str) {
        if let Err(err) = fs::remove_file(self.0.join(SAID).join(name)) {
            tracing::warn!(%err, "what is said of usage waits on");
        }
    }

    /// What of a session is recorded, or waits to be.
    ///
    /// # Errors
    /// It is not known: what cannot be read is not nothing.
    pub(super) fn recorded(&self, session_id: &str) -> Result<Known> {
        let mut known = self.noted(session_id)?;
        for name in self.names() {
            let pending = match self.load(&name) {
                Ok(pending) => pending,
                // It will be put aside; whose it was nobody can tell any more.
                Err(Unread::Damaged(_)) => continue,
                Err(Unread::Failed(err)) => return Err(unread(&name, err)),
            };
            if let Some((id, waiting)) = pending.as_ref().and_then(Pending::of_session)
                && id == session_id
            {
                known.learn(waiting);
            }
        }
        Ok(known)
    }

    fn noted(&self, session_id: &str) -> Result<Known> {
        let path = self.session_file(session_id);
        match read(&path) {
            Ok(known) => Ok(known.unwrap_or_default()),
            Err(Unread::Failed(err) | Unread::Damaged(err)) => {
                Err(unread(&path.display().to_string(), err)
                    .hint("what the session used waits until it can be, or is removed"))
            }
        }
    }

    /// So much of the session is recorded.
    pub(super) fn note(&self, session_id: &str, parts: &Parts) -> Result<()> {
        let mut all = self.noted(session_id)?;
        all.learn(parts);
        write(&self.session_file(session_id), &all)?;
        self.forget_old();
        Ok(())
    }

    fn session_file(&self, session_id: &str) -> PathBuf {
        let plain: String = session_id
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .take(64)
            .collect();
        self.0.join("sessions").join(format!("{plain}.json"))
    }

    fn forget_old(&self) {
        let dir = self.0.join("sessions");
        let names = names_in(&dir);
        if names.len() <= MAX_SESSIONS {
            return;
        }
        let mut by_age = BTreeMap::new();
        for name in names {
            let changed = fs::metadata(dir.join(&name)).and_then(|meta| meta.modified());
            if let Ok(changed) = changed {
                by_age.insert((changed, name.clone()), name);
            }
        }
        let surplus = by_age.len().saturating_sub(MAX_SESSIONS / 2);
        for name in by_age.into_values().take(surplus) {
            let _ = fs::remove_file(dir.join(name));
        }
    }
}

/// In the order in which they came.
fn name_at(now_unix_ms: i64) -> String {
    format!("{now_unix_ms:015}-{}.json", uuid::Uuid::new_v4().simple())
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(std::result::Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter(|name| name.ends_with(".json") && !name.starts_with('.')).collect();
    names.sort_unstable();
    names
}

/// Why a file that is there says nothing.
#[derive(Debug)]
pub(super) enum Unread {
    /// The disk fails: another time it may be read.
    Failed(io::Error),
    /// It holds something else, or far too much, and will for ever.
    Damaged(io::Error),
}

fn unread(what: &str, err: io::Error) -> Error {
    Error::io(ErrorKind::State, format!("cannot read what is recorded in {what}"), err)
}

/// `None`: there is no such file.
fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> std::result::Result<Option<T>, Unread> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(Unread::Failed(err)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Unread::Failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        let large = format!("it has more than {MAX_BYTES} bytes");
        return Err(Unread::Damaged(io::Error::other(large)));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|err| Unread::Damaged(err.into()))
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value)
        .map_err(|err| Error::internal("a record of usage cannot be written").caused_by(err))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::internal("a record of usage is too large to be kept"));
    }
    state_dir::write_atomic(path, &bytes, state_dir::FILE_MODE)
}
