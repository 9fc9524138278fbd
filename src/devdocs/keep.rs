//! Durable copies of checkpoints, outside the tree the agent can write.
//!
//! A copy is a folder `cycle-NNN` with the files at their relative paths and a
//! manifest. It is built under a temporary name, made durable and renamed, so
//! a copy that can be seen is whole; an older copy is never overwritten.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, RenameFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

use super::beneath;
use super::proof::{Content, FileState, MAX_NOTES_BYTES, Snapshot};
use super::read::{ReadProblem, read_project_file};
use super::task_file::digest;

const MANIFEST: &str = "manifest.json";
const UNFINISHED: &str = ".unfinished";
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Copies of one cycle: a checkpoint, a second one after a crash, a handoff.
/// Far more is a loop elsewhere, and must not fill the disk.
const MAX_COPIES_PER_CYCLE: u32 = 100;

/// One file of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Path relative to the project, and to the copy's folder.
    pub path: PathBuf,
    /// SHA-256 of the bytes copied, in hex.
    pub sha256: String,
    /// How many bytes.
    pub bytes: u64,
}

/// A file that is not in the copy although it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Path relative to the project.
    pub path: PathBuf,
    /// Why.
    pub problem: ReadProblem,
}

/// A copy of the checkpoint files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The cycle it was taken in.
    pub cycle: u32,
    /// Its folder.
    pub folder: PathBuf,
    /// What it holds.
    pub files: Vec<KeptFile>,
    /// What could not be read. A missing file is listed here too.
    pub left_out: Vec<LeftOut>,
}

/// Copies `files` from the project into a new folder in `checkpoints`, which
/// is created if need be. The copy is durable when this returns.
///
/// # Errors
/// Only for the state directory: `Disk` when it is full or failing, else
/// `State`. What is wrong in the project is in [`Kept::left_out`].
pub fn keep(root: &Path, files: &[PathBuf], checkpoints: &Path, cycle: u32) -> Result<Kept> {
    copy(root, files, checkpoints, cycle).map_err(|err| {
        let what =
            format!("cannot copy the checkpoint of cycle {cycle} to {}", checkpoints.display());
        Error::io(ErrorKind::State, what, err).hint(
            "free space or mend the permissions there, or set LONGHAUL_STATE_DIR to another folder",
        )
    })
}

fn copy(root: &Path, files: &[PathBuf], checkpoints: &Path, cycle: u32) -> io::Result<Kept> {
    create_private_folders(checkpoints)?;
    let state = beneath::open_root(checkpoints)?;
    let unfinished = checkpoints.join(UNFINISHED);
    // One left by a crash is not a copy.
    match std::fs::remove_dir_all(&unfinished) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let folder = beneath::open_or_create_folder(&state, Path::new(UNFINISHED), Mode::RWXU)?;
    let mut kept = Kept { cycle, folder: PathBuf::new(), files: Vec::new(), left_out: Vec::new() };
    for path in files {
        match read_project_file(root, path, MAX_NOTES_BYTES) {
            Ok(bytes) => {
                write(&folder, path, &bytes)?;
                let (sha256, size) = (digest(&bytes), bytes.len() as u64);
                kept.files.push(KeptFile { path: path.clone(), sha256, bytes: size });
            }
            Err(problem) => kept.left_out.push(LeftOut { path: path.clone(), problem }),
        }
    }
    let manifest = serde_json::to_vec_pretty(&kept).map_err(io::Error::other)?;
    write(&folder, Path::new(MANIFEST), &manifest)?;
    kept.folder = publish(&state, checkpoints, cycle)?;
    Ok(kept)
}

/// Writes one file of the copy, creating its folders.
fn write(folder: &OwnedFd, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().unwrap_or(Path::new(""));
    let parent = beneath::open_or_create_folder(folder, parent, Mode::RWXU)?;
    beneath::write_atomically(&parent, name, bytes, FILE_MODE)
}

/// Gives the finished copy its name, the first that is free.
fn publish(state: &OwnedFd, checkpoints: &Path, cycle: u32) -> io::Result<PathBuf> {
    for copy in 1..=MAX_COPIES_PER_CYCLE {
        let name = match copy {
            1 => format!("cycle-{cycle:03}"),
            _ => format!("cycle-{cycle:03}-{copy}"),
        };
        let renamed =
            rustix::fs::renameat_with(state, UNFINISHED, state, &name, RenameFlags::NOREPLACE);
        match renamed {
            Ok(()) => {
                rustix::fs::fsync(state)?;
                return Ok(checkpoints.join(name));
            }
            Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Err(io::Error::other(format!("cycle {cycle} has {MAX_COPIES_PER_CYCLE} copies already")))
}

/// `mkdir -p` with 0700, made durable.
fn create_private_folders(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Ok(()),
        Err(rustix::io::Errno::NOENT) => {
            let parent = path.parent().ok_or(io::ErrorKind::NotFound)?;
            create_private_folders(parent)?;
            rustix::fs::mkdir(path, Mode::RWXU)?;
        }
        Err(err) => return Err(err.into()),
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = rustix::fs::openat(
        CWD,
        parent.unwrap_or(Path::new(".")),
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    Ok(rustix::fs::fsync(&parent)?)
}

impl Kept {
    /// Reads the manifest of the copy in `folder`.
    ///
    /// # Errors
    /// `State` if there is none or it cannot be read.
    pub fn load(folder: &Path) -> Result<Kept> {
        let path = folder.join(MANIFEST);
        let what = || format!("cannot read the checkpoint copy {}", path.display());
        let failed = |err| Error::io(ErrorKind::State, what(), err);
        // A pipe in its place must not make anybody wait.
        if !std::fs::metadata(&path).map_err(failed)?.is_file() {
            return Err(Error::new(ErrorKind::State, what()));
        }
        let bytes = std::fs::read(&path).map_err(failed)?;
        let kept: Kept = serde_json::from_slice(&bytes)
            .map_err(|err| Error::new(ErrorKind::State, what()).caused_by(err))?;
        Ok(Kept { folder: folder.to_owned(), ..kept })
    }
}

/// The files that the last good copy holds with content and that are now gone,
/// blank or unreadable: what the report tells a person to take back.
pub fn ruined(last_good: &Kept, now: &Snapshot) -> Vec<PathBuf> {
    let lost = |file: &&KeptFile| {
        file.bytes > 0
            && now.files.iter().any(|entry| {
                entry.path == file.path
                    && match &entry.state {
                        FileState::Absent | FileState::Unreadable { .. } => true,
                        FileState::Present { content, .. } => {
                            !matches!(content, Content::Text | Content::Tasks { .. })
                        }
                    }
            })
    };
    last_good.files.iter().filter(lost).map(|file| file.path.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files() -> Vec<PathBuf> {
        ["dev-docs/plan.md", "dev-docs/tasks.md", "dev-docs/handoff.md"].map(PathBuf::from).into()
    }

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("dev-docs")).unwrap();
        std::fs::write(dir.path().join("dev-docs/plan.md"), "plan").unwrap();
        std::fs::write(dir.path().join("dev-docs/tasks.md"), "- [ ] a").unwrap();
        dir
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_copy_holds_what_can_be_read_and_says_what_is_left_out() {
        let (project, state) = (project(), tempfile::tempdir().unwrap());
        let checkpoints = state.path().join("run/checkpoints");
        let kept = keep(project.path(), &files(), &checkpoints, 7).unwrap();
        assert_eq!(kept.folder, checkpoints.join("cycle-007"));
        assert_eq!(kept.files.len(), 2);
        assert_eq!(kept.files[0].sha256, digest(b"plan"));
        let missing = LeftOut { path: "dev-docs/handoff.md".into(), problem: ReadProblem::Missing };
        assert_eq!(kept.left_out, [missing]);
        assert_eq!(std::fs::read(kept.folder.join("dev-docs/plan.md")).unwrap(), b"plan");
        assert_eq!(mode(&kept.folder.join("dev-docs/plan.md")), 0o600);
        for folder in [&state.path().join("run"), &checkpoints, &kept.folder] {
            assert_eq!(mode(folder), 0o700);
        }
        assert_eq!(Kept::load(&kept.folder).unwrap(), kept);
    }

    #[test]
    fn an_older_copy_is_never_overwritten() {
        let (project, state) = (project(), tempfile::tempdir().unwrap());
        let first = keep(project.path(), &files(), state.path(), 1).unwrap();
        std::fs::write(project.path().join("dev-docs/plan.md"), "").unwrap();
        // What a crash in the middle of a copy leaves.
        std::fs::create_dir(state.path().join(UNFINISHED)).unwrap();
        std::fs::write(state.path().join(UNFINISHED).join("junk"), "x").unwrap();
        let second = keep(project.path(), &files(), state.path(), 1).unwrap();
        assert_eq!(second.folder, state.path().join("cycle-001-2"));
        assert!(!second.folder.join("junk").exists());
        assert_eq!(std::fs::read(first.folder.join("dev-docs/plan.md")).unwrap(), b"plan");
    }

    #[test]
    fn what_a_later_session_ruined_is_found() {
        let (project, state) = (project(), tempfile::tempdir().unwrap());
        let kept = keep(project.path(), &files(), state.path(), 1).unwrap();
        let look = || Snapshot::take(project.path(), &files(), Path::new("dev-docs/tasks.md"));
        assert_eq!(ruined(&kept, &look()), Vec::<PathBuf>::new());
        std::fs::write(project.path().join("dev-docs/plan.md"), "\n").unwrap();
        std::fs::remove_file(project.path().join("dev-docs/tasks.md")).unwrap();
        assert_eq!(ruined(&kept, &look()), files()[..2]);
    }

    #[test]
    fn a_state_directory_that_cannot_be_written_is_an_error_with_its_path() {
        let project = project();
        let state = tempfile::NamedTempFile::new().unwrap();
        let err = keep(project.path(), &files(), &state.path().join("c"), 1).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::State);
        assert!(err.message().contains(state.path().to_str().unwrap()));
        let full = Error::io(ErrorKind::State, "x", rustix::io::Errno::NOSPC.into());
        assert_eq!(full.kind(), ErrorKind::Disk);
    }
}
