//! Reading a file of the project that somebody else writes.
//!
//! The path may be missing, a folder, a FIFO that would block for ever, a
//! gigabyte, or a link to a secret elsewhere; each is a [`ReadProblem`].

use std::fmt;
use std::io::Read;
use std::path::Path;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::beneath;
use super::task_file::{MAX_TASK_FILE_BYTES, TaskFile, TaskFileError};

/// Why a file of the project could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
pub enum ReadProblem {
    /// Neither it nor, perhaps, its folder exists.
    Missing,
    /// A directory.
    IsDirectory,
    /// Neither file nor directory.
    NotRegular {
        /// What it is, with its article.
        kind: String,
    },
    /// Larger than the cap.
    TooLarge {
        /// Its size, or one more than the cap if it grew while it was read.
        bytes: u64,
        /// The cap.
        cap: u64,
    },
    /// The path is absolute, holds `..`, or a link leads out of the project.
    Outside,
    /// A symbolic link loop, or a link on a kernel that cannot check where it leads.
    Link,
    /// Not readable for this user.
    Permission,
    /// Anything else.
    Io {
        /// The system's own words.
        message: String,
    },
}

impl fmt::Display for ReadProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadProblem::Missing => f.write_str("is missing"),
            ReadProblem::IsDirectory => f.write_str("is a directory, not a file"),
            ReadProblem::NotRegular { kind } => write!(f, "is {kind}, not a file"),
            ReadProblem::TooLarge { bytes, cap } => {
                write!(f, "has {bytes} bytes, more than the {cap} allowed")
            }
            ReadProblem::Outside => f.write_str("lies or leads outside the project"),
            ReadProblem::Link => {
                f.write_str("is reached through a symbolic link that cannot be followed")
            }
            ReadProblem::Permission => f.write_str("cannot be read: permission denied"),
            ReadProblem::Io { message } => write!(f, "cannot be read: {message}"),
        }
    }
}

impl std::error::Error for ReadProblem {}

impl From<Errno> for ReadProblem {
    fn from(err: Errno) -> Self {
        match err {
            Errno::NOENT | Errno::NOTDIR => ReadProblem::Missing,
            Errno::ISDIR => ReadProblem::IsDirectory,
            Errno::XDEV => ReadProblem::Outside,
            Errno::LOOP => ReadProblem::Link,
            Errno::ACCESS | Errno::PERM => ReadProblem::Permission,
            // Opening a socket.
            Errno::NXIO => ReadProblem::NotRegular { kind: String::from("a socket or a device") },
            other => ReadProblem::Io { message: std::io::Error::from(other).to_string() },
        }
    }
}

/// A file as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// All its bytes.
    pub bytes: Vec<u8>,
    /// When it was last modified, milliseconds since the Unix epoch.
    pub mtime_unix_ms: i64,
}

/// Reads `relative` beneath `project_root`, at most `cap` bytes. Never blocks
/// on a FIFO and never reads outside the project.
pub fn read_project_file(
    project_root: &Path,
    relative: &Path,
    cap: u64,
) -> Result<Vec<u8>, ReadProblem> {
    read_content(project_root, relative, cap).map(|content| content.bytes)
}

/// [`read_project_file`] with the time of the last change.
pub fn read_content(
    project_root: &Path,
    relative: &Path,
    cap: u64,
) -> Result<Content, ReadProblem> {
    let root = beneath::open_root(project_root)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = beneath::open(&root, relative, flags)?;
    let stat = rustix::fs::fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(ReadProblem::IsDirectory),
        other => {
            return Err(ReadProblem::NotRegular { kind: kind_of(other).to_owned() });
        }
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size > cap {
        return Err(ReadProblem::TooLarge { bytes: size, cap });
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // One byte more than the cap shows that the file grew meanwhile.
    std::fs::File::from(file)
        .take(cap.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|err| ReadProblem::Io { message: err.to_string() })?;
    if bytes.len() as u64 > cap {
        return Err(ReadProblem::TooLarge { bytes: bytes.len() as u64, cap });
    }
    let mtime_unix_ms = crate::clock::file_unix_ms(stat.st_mtime, stat.st_mtime_nsec as i64);
    Ok(Content { bytes, mtime_unix_ms })
}

/// Why there is no task file to go by. Such a task file is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", content = "problem", rename_all = "snake_case")]
pub enum TaskProblem {
    /// It cannot be read.
    Read(ReadProblem),
    /// It can be read but is not one.
    Parse(TaskFileError),
}

impl fmt::Display for TaskProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskProblem::Read(problem) => problem.fmt(f),
            TaskProblem::Parse(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TaskProblem {}

/// Reads and parses the task file at `relative` beneath `project_root`.
pub fn read_task_file(project_root: &Path, relative: &Path) -> Result<TaskFile, TaskProblem> {
    let bytes = read_project_file(project_root, relative, MAX_TASK_FILE_BYTES)
        .map_err(TaskProblem::Read)?;
    TaskFile::parse(&bytes).map_err(TaskProblem::Parse)
}

pub(crate) fn kind_of(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Symlink => "a symbolic link",
        _ => "something unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(root: &Path, path: &str) -> Result<Vec<u8>, ReadProblem> {
        read_project_file(root, Path::new(path), 10)
    }

    #[test]
    fn each_hostile_path_is_a_problem_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::fs::create_dir(root.join("d")).unwrap();
        std::fs::write(root.join("d/ok"), "0123456789").unwrap();
        std::fs::write(root.join("big"), "0123456789a").unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("fifo"),
            FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("sock")).unwrap();
        symlink(outside.path(), root.join("absolute")).unwrap();
        symlink("../../../../etc/passwd", root.join("up")).unwrap();
        symlink("d/ok", root.join("inside")).unwrap();
        symlink("d", root.join("e")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("gone", root.join("dangling")).unwrap();

        assert_eq!(read(root, "d/ok").unwrap(), b"0123456789");
        assert_eq!(read(root, "inside").unwrap(), b"0123456789");
        assert_eq!(read(root, "e/ok").unwrap(), b"0123456789");
        assert_eq!(read(root, "none"), Err(ReadProblem::Missing));
        assert_eq!(read(root, "d/ok/x"), Err(ReadProblem::Missing));
        assert_eq!(read(root, "dangling"), Err(ReadProblem::Missing));
        assert_eq!(read(root, "d"), Err(ReadProblem::IsDirectory));
        assert_eq!(read(root, "big"), Err(ReadProblem::TooLarge { bytes: 11, cap: 10 }));
        assert_eq!(read(root, "fifo"), Err(ReadProblem::NotRegular { kind: "a FIFO".into() }));
        assert!(matches!(read(root, "sock"), Err(ReadProblem::NotRegular { .. })));
        assert_eq!(read(root, "loop"), Err(ReadProblem::Link));
        let absolute = outside.path().to_str().unwrap();
        for path in ["absolute", "up", absolute, "../x", "d/../d/ok", ".", ""] {
            assert_eq!(read(root, path), Err(ReadProblem::Outside), "{path}");
        }
    }

    #[test]
    fn a_task_file_that_is_none_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let read = || read_task_file(dir.path(), Path::new("tasks.md"));
        assert_eq!(read().unwrap_err().to_string(), "is missing");
        std::fs::write(dir.path().join("tasks.md"), "\n").unwrap();
        assert_eq!(read(), Err(TaskProblem::Parse(TaskFileError::Empty)));
        for problem in [read().unwrap_err(), TaskProblem::Read(ReadProblem::Missing)] {
            let json = serde_json::to_string(&problem).unwrap();
            assert_eq!(serde_json::from_str::<TaskProblem>(&json).unwrap(), problem);
        }
        std::fs::write(dir.path().join("tasks.md"), "- [x] a").unwrap();
        assert!(read().unwrap().is_done());
    }

    #[test]
    fn a_sparse_gigabyte_is_refused_unread() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join("f")).unwrap();
        file.set_len(1 << 30).unwrap();
        assert_eq!(read(dir.path(), "f"), Err(ReadProblem::TooLarge { bytes: 1 << 30, cap: 10 }));
    }

    #[test]
    fn files_of_the_kernel_that_claim_no_size_are_capped_while_read() {
        assert!(matches!(
            read_project_file(Path::new("/proc/self"), Path::new("environ"), 0),
            Err(ReadProblem::TooLarge { bytes: 1, cap: 0 })
        ));
    }
}
