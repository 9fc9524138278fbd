//! The folder of the queue's files in a project: read and written by whoever
//! works there, so nothing in it is trusted. No link is followed, nothing blocks,
//! nothing is read without a limit, and what stands in the way is never removed.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::writer::{self, Writer};
use crate::devdocs::beneath;
use crate::devdocs::read::{ReadProblem, kind_of};

/// The queue.
pub const QUEUE: &str = "claude_task_queue.json";
/// The results.
pub const RESULTS: &str = "claude_task_results.json";
/// What was archived.
pub const ARCHIVE: &str = "claude_task_queue_archive.json";
/// Says that somebody works on the queue.
pub const LOCK: &str = "execute_queue.lock";
/// Largest file that is read, bytes.
pub const MAX_READ_BYTES: u64 = 16 << 20;

/// Files set aside in one folder; more are a loop elsewhere, and must not fill the disk.
const MAX_PUT_ASIDE: usize = 100;
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
const PLAIN: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);
/// What a folder that longhaul made keeps out of the project's history.
const IGNORED: &str = "# Written by longhaul, which made this folder for its task queue.
/.gitignore
/claude_task_queue.json
/claude_task_results.json
/claude_task_queue_archive.json
/execute_queue.lock
/claude_task_*.rejected-*.json
/.claude_task_*.tmp
/.execute_queue.lock.*.tmp
";

/// By this one sees that a file is still the one that was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Print {
    dev: u64,
    ino: u64,
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
}

impl Print {
    fn of(stat: &rustix::fs::Stat) -> Self {
        let ns = |seconds: i64, part: i64| i128::from(seconds) * 1_000_000_000 + i128::from(part);
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }

    /// When its bytes or its name were changed last, Unix milliseconds.
    pub(super) fn changed_unix_ms(&self) -> i64 {
        let latest = self.mtime_ns.max(self.ctime_ns);
        i64::try_from(latest / 1_000_000).unwrap_or(i64::MAX)
    }

    /// The same file with the same bytes? (Renaming it moves its ctime.)
    fn is_same_content(&self, other: &Print) -> bool {
        Self { ctime_ns: 0, ..*self } == Self { ctime_ns: 0, ..*other }
    }
}

/// A file as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) bytes: Vec<u8>,
    pub(super) print: Print,
    mode: u32,
}

/// What became of an attempt to replace a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    /// It holds the new bytes.
    Yes,
    /// Somebody changed it in the meantime; it was left as it is.
    Changed,
}

/// How a file got its place.
#[derive(Debug, PartialEq, Eq)]
enum Put {
    /// What stood there has the temporary name now.
    Exchanged,
    /// Nothing stood there, or it is gone.
    Renamed,
    /// It did not.
    Changed,
}

/// The open folder.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    /// Relative to the project, for messages.
    path: PathBuf,
}

impl Folder {
    /// Opens `<project>/<path>`; `Ok(None)` if it is not there.
    pub(super) fn open(project: &Path, path: &Path) -> Result<Option<Self>, ReadProblem> {
        let root = beneath::open_root(project)?;
        match beneath::open_folder_without_links(&root, path, None) {
            Ok((fd, _)) => Ok(Some(Self { fd, path: path.to_owned() })),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR) => Err(not_a_folder()),
            Err(err) => Err(err.into()),
        }
    }

    /// Opens it, and makes it if need be, with a `.gitignore` for what longhaul
    /// puts there.
    pub(super) fn make(project: &Path, path: &Path) -> Result<Self, ReadProblem> {
        let root = beneath::open_root(project)?;
        match beneath::open_folder_without_links(&root, path, Some(FOLDER_MODE)) {
            Ok((fd, is_new)) => {
                let folder = Self { fd, path: path.to_owned() };
                if is_new {
                    folder.create(".gitignore", IGNORED.as_bytes())?;
                }
                Ok(folder)
            }
            Err(Errno::NOTDIR) => Err(not_a_folder()),
            Err(err) => Err(err.into()),
        }
    }

    /// The path of a file in it, relative to the project.
    pub(super) fn name(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What stands there now; `None`: nothing.
    pub(super) fn print(&self, name: &str) -> Result<Option<Print>, ReadProblem> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => check_kind(&stat).map(|()| Some(Print::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(err) => Err(err.into()),
        }
    }

    /// Reads a file; `None`: there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Seen>, ReadProblem> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | PLAIN;
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(err) => return Err(err.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        check_kind(&stat)?;
        let print = Print::of(&stat);
        let too_large = |bytes| ReadProblem::TooLarge { bytes, cap: MAX_READ_BYTES };
        if print.size > MAX_READ_BYTES {
            return Err(too_large(print.size));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(print.size).unwrap_or(0));
        // One byte more than the cap shows that the file grew meanwhile.
        std::fs::File::from(file)
            .take(MAX_READ_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|err| ReadProblem::Io { message: err.to_string() })?;
        if bytes.len() as u64 > MAX_READ_BYTES {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(Some(Seen { bytes, print, mode: stat.st_mode & 0o777 }))
    }

    /// Replaces `name` as a whole if it is still what was `expected` there: nobody's
    /// change is written over. The permissions stay.
    pub(super) fn replace(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<&Seen>,
    ) -> io::Result<Replaced> {
        let (replaced, old) = self.replace_but_keep(name, bytes, expected)?;
        if let Some(old) = old {
            self.remove(&old)?;
        }
        Ok(replaced)
    }

    /// As [`Folder::replace`], but the old file stays beside the new one if somebody has
    /// it open and can still write to it; with its name there.
    pub(super) fn replace_but_keep(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<&Seen>,
    ) -> io::Result<(Replaced, Option<String>)> {
        let mode = expected.map_or(FILE_MODE, |seen| Mode::from_raw_mode(seen.mode));
        let temporary = temporary_name(name);
        self.fill(&temporary, bytes, Some(mode), Durable::No)?;
        let put = self.put_in_place(&temporary, name, expected);
        if matches!(put, Ok(Put::Exchanged)) && self.writer(&temporary) != Writer::None {
            return Ok((Replaced::Yes, Some(temporary)));
        }
        if !matches!(put, Ok(Put::Renamed)) {
            let _ = rustix::fs::unlinkat(&self.fd, &temporary, AtFlags::empty());
        }
        let replaced = if put? == Put::Changed { Replaced::Changed } else { Replaced::Yes };
        Ok((replaced, None))
    }

    /// Who writes to a file in the folder?
    pub(super) fn writer(&self, name: &str) -> Writer {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | PLAIN;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(file) => writer::of(file.as_fd()),
            Err(_) => Writer::Unknown,
        }
    }

    fn put_in_place(
        &self,
        temporary: &str,
        name: &str,
        expected: Option<&Seen>,
    ) -> Result<Put, Errno> {
        let rename = |flags| rustix::fs::renameat_with(&self.fd, temporary, &self.fd, name, flags);
        let stat = |name: &str| rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        let Some(expected) = expected else {
            return match rename(RenameFlags::NOREPLACE) {
                Ok(()) => Ok(Put::Renamed),
                Err(Errno::EXIST) => Ok(Put::Changed),
                // A file system that does not know the flag.
                Err(Errno::INVAL | Errno::NOSYS) => match stat(name) {
                    Err(Errno::NOENT) => {
                        rename(RenameFlags::empty())?;
                        Ok(Put::Renamed)
                    }
                    _ => Ok(Put::Changed),
                },
                Err(err) => Err(err),
            };
        };
        let is_expected = |stat: Result<rustix::fs::Stat, Errno>| {
            stat.is_ok_and(|stat| Print::of(&stat).is_same_content(&expected.print))
        };
        if !is_expected(stat(name)) {
            return Ok(Put::Changed);
        }
        // Exchanged rather than replaced: what somebody wrote since the look above
        // is in our hands then, and is put back.
        match rename(RenameFlags::EXCHANGE) {
            Ok(()) if is_expected(stat(temporary)) => Ok(Put::Exchanged),
            Ok(()) => {
                rename(RenameFlags::EXCHANGE)?;
                Ok(Put::Changed)
            }
            Err(Errno::NOENT) => Ok(Put::Changed),
            Err(Errno::INVAL | Errno::NOSYS) => {
                rename(RenameFlags::empty())?;
                Ok(Put::Renamed)
            }
            Err(err) => Err(err),
        }
    }

    /// Sets `bytes` down beside `name` as `<stem>.rejected-<time>.json`, durably.
    /// Gives its path relative to the project.
    pub(super) fn put_aside(&self, name: &str, bytes: &[u8], unix_ms: i64) -> io::Result<PathBuf> {
        let mut free = self.free_name(name, unix_ms)?;
        loop {
            match self.fill(&free.next(), bytes, None, Durable::Yes) {
                Ok(()) => return Ok(self.name(&free.last())),
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                Err(err) => return Err(err),
            }
        }
    }

    /// Moves a file out of the way, whatever its size, under the same kind of name.
    pub(super) fn move_aside(&self, name: &str, unix_ms: i64) -> io::Result<PathBuf> {
        let mut free = self.free_name(name, unix_ms)?;
        loop {
            let to = free.next();
            let fd = &self.fd;
            match rustix::fs::renameat_with(fd, name, fd, &to, RenameFlags::NOREPLACE) {
                Ok(()) => break,
                Err(Errno::EXIST) => {}
                Err(Errno::INVAL | Errno::NOSYS) => {
                    // A second name cannot take another's place either.
                    match rustix::fs::linkat(fd, name, fd, &to, AtFlags::empty()) {
                        Ok(()) => {
                            rustix::fs::unlinkat(fd, name, AtFlags::empty())?;
                            break;
                        }
                        Err(Errno::EXIST) => {}
                        Err(err) => return Err(err.into()),
                    }
                }
                Err(err) => return Err(err.into()),
            }
        }
        self.sync()?;
        Ok(self.name(&free.last()))
    }

    fn free_name(&self, name: &str, unix_ms: i64) -> io::Result<FreeName> {
        let stem = name.trim_end_matches(".json");
        let is_aside = |entry: &rustix::fs::DirEntry| {
            let name = entry.file_name().to_bytes();
            name.windows(b".rejected-".len()).any(|part| part == b".rejected-")
        };
        let all = rustix::fs::Dir::read_from(&self.fd)?;
        if all.filter_map(Result::ok).filter(is_aside).count() >= MAX_PUT_ASIDE {
            let what = format!("there are {MAX_PUT_ASIDE} files put aside already; remove some");
            return Err(io::Error::other(what));
        }
        let utc = jiff::tz::TimeZone::UTC;
        let time = crate::text::local(unix_ms, &utc, "%Y%m%dT%H%M%SZ");
        Ok(FreeName { stem: format!("{stem}.rejected-{time}"), copy: 0 })
    }

    /// Removes a file if it is one.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    /// What a crash between two steps of [`Folder::replace`] left behind, and what
    /// [`Folder::replace_but_keep`] kept. Temporary files of others are not ours.
    pub(super) fn leftovers(&self, name: &str) -> io::Result<Vec<String>> {
        let names = rustix::fs::Dir::read_from(&self.fd)?.filter_map(Result::ok);
        let names = names.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        Ok(names.filter(|found| is_temporary_name(found, name)).collect())
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), ReadProblem> {
        match self.fill(name, bytes, None, Durable::No) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(|err| ReadProblem::Io { message: err.to_string() }),
        }
    }

    /// Writes a new file; nothing of it stays if that fails.
    fn fill(
        &self,
        name: &str,
        bytes: &[u8],
        mode: Option<Mode>,
        durable: Durable,
    ) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | PLAIN;
        let file = rustix::fs::openat(&self.fd, name, flags, FILE_MODE)?;
        let mut file = std::fs::File::from(file);
        let fill = |file: &mut std::fs::File| {
            file.write_all(bytes)?;
            if let Some(mode) = mode {
                rustix::fs::fchmod(&*file, mode)?;
            }
            if durable == Durable::No {
                return Ok(());
            }
            file.sync_all()?;
            Ok(rustix::fs::fsync(&self.fd)?)
        };
        fill(&mut file).inspect_err(|_| {
            let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
        })
    }

    fn sync(&self) -> Result<(), Errno> {
        rustix::fs::fsync(&self.fd)
    }
}

/// Must it outlive a power cut? What the store shows can be shown again; what somebody
/// else wrote cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durable {
    Yes,
    No,
}

/// `<stem>.json`, `<stem>-2.json` …
struct FreeName {
    stem: String,
    copy: u32,
}

impl FreeName {
    fn next(&mut self) -> String {
        self.copy += 1;
        self.last()
    }

    fn last(&self) -> String {
        match self.copy {
            0 | 1 => format!("{}.json", self.stem),
            copy => format!("{}-{copy}.json", self.stem),
        }
    }
}

fn temporary_name(name: &str) -> String {
    format!(".{name}.{}.tmp", uuid::Uuid::new_v4().simple())
}

fn is_temporary_name(found: &str, name: &str) -> bool {
    let middle =
        || found.strip_prefix('.')?.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".tmp");
    let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    middle().is_some_and(|id| id.len() == 32 && id.bytes().all(is_hex))
}

fn not_a_folder() -> ReadProblem {
    ReadProblem::Io { message: "a part of its path is not a folder".into() }
}

fn check_kind(stat: &rustix::fs::Stat) -> Result<(), ReadProblem> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(ReadProblem::IsDirectory),
        FileType::Symlink => Err(ReadProblem::Link),
        other => Err(ReadProblem::NotRegular { kind: kind_of(other).to_owned() }),
    }
}
