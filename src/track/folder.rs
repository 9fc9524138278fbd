//! The tracker's folder in a project: read and written by whoever works there, so
//! nothing in it is trusted. No link is followed, nothing blocks, nothing is read without
//! a limit, and what somebody else put there is not written over.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::names;
use crate::clock::file_unix_ms;
use crate::devdocs::beneath;

/// Largest file that is read.
pub(super) const MAX_FILE_BYTES: u64 = 8 << 20;
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
/// What a folder that longhaul made keeps out of the project's history.
const IGNORED: &str = "# Written by longhaul, which made this folder for records of usage.
# Remove this file to keep them in the project's history.
*
";

const IGNORE_FILE: &str = ".gitignore";
/// A temporary file of this age, milliseconds, is nobody's any more.
const TEMPORARY_MS: i64 = 10 * 60_000;

/// The open folder.
#[derive(Debug)]
pub(super) struct Folder {
    root: OwnedFd,
    /// Relative to the project.
    path: PathBuf,
}

impl Folder {
    /// Opens the folder `path` of `project`, which need not be there yet.
    pub(super) fn open(project: &Path, path: &Path) -> io::Result<Self> {
        Ok(Self { root: beneath::open_root(project)?, path: path.to_owned() })
    }

    /// A folder in it, or itself for `""`; `None`: it is not there.
    fn existing(&self, sub: &str) -> io::Result<Option<OwnedFd>> {
        match beneath::open_folder_without_links(&self.root, &self.path.join(sub), None) {
            Ok((fd, _)) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(err) => Err(named(err)),
        }
    }

    fn made(&self, sub: &str) -> io::Result<OwnedFd> {
        let make = |path: &Path| {
            beneath::open_folder_without_links(&self.root, path, Some(FOLDER_MODE)).map_err(named)
        };
        let (fd, is_new) = make(&self.path)?;
        let name = OsStr::new(IGNORE_FILE);
        // Before anything else: so who finds none beside records has removed it.
        if is_new || is_without(&fd, name)? && is_bare(&fd)? {
            // Whether it was there already does not matter.
            beneath::replace_atomically(&fd, name, IGNORED.as_bytes(), FILE_MODE, None)?;
        }
        match sub {
            "" => Ok(fd),
            sub => make(&self.path.join(sub)).map(|(fd, _)| fd),
        }
    }

    /// The names in `sub` that are wanted, in order.
    pub(super) fn list(
        &self,
        sub: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> io::Result<Vec<String>> {
        let Some(fd) = self.existing(sub)? else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().to_str()
                && is_wanted(name)
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The names of the task logs whose day is wanted.
    pub(super) fn task_files(
        &self,
        is_wanted: impl Fn(jiff::civil::Date) -> bool,
    ) -> io::Result<Vec<String>> {
        self.list(names::TASKS, |name| names::day_of_task_file(name).is_some_and(&is_wanted))
    }

    /// Opens a folder in it to read many files there.
    pub(super) fn reader(&self, sub: &str) -> io::Result<Option<Reader>> {
        Ok(self.existing(sub)?.map(Reader))
    }

    /// Reads a file; `None`: there is none.
    pub(super) fn read(&self, sub: &str, name: &str) -> io::Result<Option<Vec<u8>>> {
        match self.existing(sub)? {
            Some(fd) => Reader(fd).read(name),
            None => Ok(None),
        }
    }

    /// Replaces a file as a whole.
    pub(super) fn write(&self, sub: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        beneath::write_atomically(&self.made(sub)?, OsStr::new(name), bytes, FILE_MODE)
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, sub: &str, name: &str) -> io::Result<()> {
        let Some(fd) = self.existing(sub)? else { return Ok(()) };
        match rustix::fs::unlinkat(&fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(rustix::fs::fsync(&fd)?),
            Err(err) => Err(named(err)),
        }
    }

    /// Removes the temporary files of calls that died.
    pub(super) fn sweep(&self, now_unix_ms: i64) {
        for sub in ["", names::TASKS, names::REPORTS] {
            let names = self.list(sub, is_temporary).unwrap_or_default();
            let Ok(Some(fd)) = self.existing(sub) else { continue };
            for name in names {
                let Ok(stat) = rustix::fs::statat(&fd, &*name, AtFlags::SYMLINK_NOFOLLOW) else {
                    continue;
                };
                let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                let changed_at = file_unix_ms(stat.st_mtime, stat.st_mtime_nsec as i64);
                if is_file && now_unix_ms.saturating_sub(changed_at) > TEMPORARY_MS {
                    let _ = rustix::fs::unlinkat(&fd, &*name, AtFlags::empty());
                }
            }
        }
    }

    /// Writes a new file; false if there is one of that name, which stays.
    pub(super) fn create(&self, sub: &str, name: &str, bytes: &[u8]) -> io::Result<bool> {
        beneath::replace_atomically(&self.made(sub)?, OsStr::new(name), bytes, FILE_MODE, None)
    }
}

/// Is it a name under which a file of ours is written before it has its own?
fn is_temporary(name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
    let Some((file, digits)) = inner.and_then(|inner| inner.rsplit_once('.')) else {
        return false;
    };
    let is_uuid = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_ours = file == IGNORE_FILE || file.starts_with("usage-") || file.starts_with("errors-");
    is_uuid && is_ours
}

fn is_without(folder: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(false),
        Err(Errno::NOENT) => Ok(true),
        Err(err) => Err(err.into()),
    }
}

/// Is there nothing in it but what a call left that died while it made the folder?
fn is_bare(folder: &OwnedFd) -> io::Result<bool> {
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let is_own = std::str::from_utf8(name).is_ok_and(is_temporary);
        if !matches!(name, b"." | b"..") && !is_own {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A folder that is read.
pub(super) struct Reader(OwnedFd);

impl Reader {
    /// As [`Folder::read`].
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let flags =
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.0, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(err) => return Err(named(err)),
        };
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no file"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(1 << 16));
        std::fs::File::from(file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes")));
        }
        Ok(Some(bytes))
    }
}

/// What the kernel's short words mean here.
fn named(err: Errno) -> io::Error {
    match err {
        Errno::LOOP => io::Error::other("a symbolic link is in the way"),
        Errno::NOTDIR => io::Error::other("a file is in the way of the folder"),
        other => other.into(),
    }
}
