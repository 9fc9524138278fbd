//! Where longhaul keeps what must survive: outside the project, for the owner alone.
//!
//! `<root>/projects/<slug>-<hash8>/` belongs to one project, named in its
//! `project.json` together with the format of everything beside it.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, Result, damaged};

/// The format of the state this program writes; it reads this and older ones.
pub const FORMAT_VERSION: u32 = 1;

/// Folders are for the owner alone.
const DIR_MODE: u32 = 0o700;
/// Files are for the owner alone.
pub const FILE_MODE: u32 = 0o600;
/// Permission bits that let somebody else write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// A project.json is a few lines; more is not ours.
const PROJECT_FILE_MAX_BYTES: u64 = 64 * 1024;
/// The part of the project's name kept readable in its state folder.
const SLUG_MAX_CHARS: usize = 40;

/// The place of the state as the environment says it: `$LONGHAUL_STATE_DIR`,
/// else `$XDG_STATE_HOME/longhaul`, else `~/.local/state/longhaul`. Nothing is
/// created or checked. Empty values count as unset; a relative
/// `XDG_STATE_HOME` is ignored, as its specification demands.
///
/// # Errors
///
/// [`ErrorKind::Usage`] when `LONGHAUL_STATE_DIR` is relative, or when neither
/// it nor a home is known.
pub fn locate(env: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let path = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = path("LONGHAUL_STATE_DIR") {
        if dir.is_relative() {
            return Err(Error::usage(format!("LONGHAUL_STATE_DIR is relative: {}", dir.display()))
                .hint("give an absolute path, so that every command finds the same state"));
        }
        return Ok(dir);
    }
    if let Some(dir) = path("XDG_STATE_HOME").filter(|dir| dir.is_absolute()) {
        return Ok(dir.join("longhaul"));
    }
    path("HOME")
        .filter(|dir| dir.is_absolute())
        .map(|home| home.join(".local/state/longhaul"))
        .ok_or_else(|| {
            Error::usage("no place for the state: HOME is not set to an absolute path")
                .hint("set HOME or LONGHAUL_STATE_DIR")
        })
}

/// Checks `root` as a place for the state of `project` (its real path)
/// without creating anything; what does not exist yet is judged by where it
/// would be.
///
/// # Errors
///
/// [`ErrorKind::Usage`] when it lies in the project, [`ErrorKind::State`] when
/// it is no directory, belongs to somebody else or others can write to it.
pub fn check(root: &Path, project: &Path) -> Result<()> {
    let real = real_path(root).map_err(|err| cannot("find", root, err))?;
    if real.starts_with(project) {
        return Err(Error::usage(format!(
            "the state directory {} lies inside the project {}, where the session could write to it",
            real.display(),
            project.display()
        ))
        .hint("set LONGHAUL_STATE_DIR to a directory outside the project"));
    }
    match fs::metadata(&real) {
        Ok(meta) => check_private(&real, &meta),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(cannot("read", &real, err)),
    }
}

fn check_private(dir: &Path, meta: &fs::Metadata) -> Result<()> {
    let shown = dir.display();
    if !meta.is_dir() {
        return Err(Error::new(
            ErrorKind::State,
            format!("the state directory {shown} is not a directory"),
        )
        .hint("move it away, or set LONGHAUL_STATE_DIR"));
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me {
        return Err(Error::new(
            ErrorKind::State,
            format!(
                "the state directory {shown} belongs to user id {}, and longhaul runs as {me}",
                meta.uid()
            ),
        )
        .hint("run longhaul as its owner, or set LONGHAUL_STATE_DIR"));
    }
    let mode = meta.mode() & 0o777;
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(Error::new(
            ErrorKind::State,
            format!("the state directory {shown} can be written by others (mode {mode:04o})"),
        )
        .hint(format!("chmod 700 {shown}")));
    }
    Ok(())
}

/// The real path of something of which the last parts may not exist yet.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let mut rest: Vec<&std::ffi::OsStr> = Vec::new();
    let mut at = path;
    loop {
        match fs::canonicalize(at) {
            Ok(mut real) => {
                rest.iter().rev().for_each(|name| real.push(name));
                return Ok(real);
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let (Some(name), Some(parent)) = (at.file_name(), at.parent()) else {
                    return Err(err);
                };
                rest.push(name);
                at = parent;
            }
            Err(err) => return Err(err),
        }
    }
}

/// Creates `root` (mode 0700) if need be and checks it as [`check`] does.
///
/// # Errors
///
/// As [`check`]; and [`ErrorKind::Disk`] when the disk is full or read-only.
pub fn prepare(root: &Path, project: &Path) -> Result<PathBuf> {
    check(root, project)?;
    make_dir(root)?;
    check(root, project)?;
    fs::canonicalize(root).map_err(|err| cannot("find", root, err))
}

/// As [`prepare`], for what belongs to no single project.
///
/// # Errors
///
/// As [`prepare`].
pub fn prepare_root(root: &Path) -> Result<PathBuf> {
    make_dir(root)?;
    let real = fs::canonicalize(root).map_err(|err| cannot("find", root, err))?;
    let meta = fs::metadata(&real).map_err(|err| cannot("read", &real, err))?;
    check_private(&real, &meta).map(|()| real)
}

/// Creates a directory and its parents, those that are new with mode 0700.
fn make_dir(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(dir)
        .map_err(|err| cannot("create", dir, err))
}

fn cannot(verb: &str, path: &Path, err: io::Error) -> Error {
    Error::io(ErrorKind::State, format!("cannot {verb} {}", path.display()), err)
        .hint("longhaul keeps its state there; LONGHAUL_STATE_DIR names another place")
}

/// The state of one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectState {
    dir: PathBuf,
}

/// `project.json`
#[derive(Debug, Serialize, Deserialize)]
struct ProjectFile {
    format: u32,
    project: String,
}

impl ProjectState {
    /// Where the state of `project` (its real path) is, below `root`.
    pub fn dir_of(root: &Path, project: &Path) -> PathBuf {
        let slug: String = project
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_else(|| "root".into())
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
            .take(SLUG_MAX_CHARS)
            .collect();
        let digest = Sha256::digest(project.as_os_str().as_bytes());
        let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        root.join("projects").join(format!("{slug}-{hash}"))
    }

    /// Opens the state of `project` (its real path), creating what is missing.
    ///
    /// # Errors
    ///
    /// As [`prepare`]; and [`ErrorKind::State`] when the state was written by a
    /// newer longhaul, is unreadable, or belongs to another project.
    pub fn open(root: &Path, project: &Path) -> Result<ProjectState> {
        let root = prepare(root, project)?;
        let dir = Self::dir_of(&root, project);
        make_dir(&dir)?;
        for part in [root.join("projects"), dir.clone()] {
            let meta = fs::symlink_metadata(&part).map_err(|err| cannot("read", &part, err))?;
            check_private(&part, &meta)?;
        }
        let state = ProjectState { dir };
        if !state.check_format(project)? {
            let file =
                ProjectFile { format: FORMAT_VERSION, project: project.display().to_string() };
            let mut text = serde_json::to_vec_pretty(&file)
                .map_err(|err| Error::internal("cannot write project.json").caused_by(err))?;
            text.push(b'\n');
            write_atomic(&state.dir.join(PROJECT_FILE), &text, FILE_MODE)?;
        }
        Ok(state)
    }

    /// Opens the state of `project` for reading; `None` if there never was a run.
    ///
    /// # Errors
    ///
    /// As [`ProjectState::open`].
    pub fn open_existing(root: &Path, project: &Path) -> Result<Option<ProjectState>> {
        check(root, project)?;
        let real = real_path(root).map_err(|err| cannot("find", root, err))?;
        let state = ProjectState { dir: Self::dir_of(&real, project) };
        Ok(state.check_format(project)?.then_some(state))
    }

    /// The folder; everything in it is this project's.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether project.json is there and of a format this program reads.
    fn check_format(&self, project: &Path) -> Result<bool> {
        let path = self.dir.join(PROJECT_FILE);
        let shown = path.display();
        let unreadable = |why: &str| {
            let to = self.dir.with_extension("given-up");
            damaged::refuse(&path, format!("the state file {shown} {why}"), &self.dir, &to)
        };
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(err) => return Err(cannot("read", &path, err)),
        };
        if !meta.is_file() || meta.len() > PROJECT_FILE_MAX_BYTES {
            return Err(unreadable("is not what longhaul writes"));
        }
        let bytes = fs::read(&path).map_err(|err| cannot("read", &path, err))?;
        let value: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|err| unreadable("is not valid JSON").caused_by(err))?;
        // The format is read on its own: a newer file may look different otherwise.
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        let format = format.ok_or_else(|| unreadable("names no format"))?;
        if format > u64::from(FORMAT_VERSION) {
            return Err(Error::new(
                ErrorKind::State,
                format!(
                    "the state in {} was written by a newer longhaul (format {format}; this one reads up to {FORMAT_VERSION})",
                    self.dir.display()
                ),
            )
            .hint("use that newer longhaul, or set LONGHAUL_STATE_DIR to start apart from it"));
        }
        let file: ProjectFile = serde_json::from_value(value)
            .map_err(|err| unreadable("is not what longhaul writes").caused_by(err))?;
        if file.project != project.display().to_string() {
            return Err(unreadable(&format!(
                "belongs to another project, {}",
                file.project.escape_debug()
            )));
        }
        Ok(true)
    }
}

/// The JSON of a small file of ours that can be made anew; `None` where there is none of
/// this shape, where it is larger than `max_bytes`, or where it is no plain file: a pipe
/// or a link that somebody put there is neither waited for nor followed.
pub fn read_small_json<T: DeserializeOwned>(file: &Path, max_bytes: u64) -> Option<T> {
    let plain = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let opened = File::options().read(true).custom_flags(plain).open(file).ok()?;
    let meta = opened.metadata().ok()?;
    if !meta.is_file() || meta.len() > max_bytes {
        return None;
    }
    // It may grow under the reader.
    serde_json::from_str(&io::read_to_string(opened.take(max_bytes)).ok()?).ok()
}

/// The file that names the project and the format.
const PROJECT_FILE: &str = "project.json";

/// Replaces `path` as a whole: afterwards it holds the old bytes or the new
/// ones, also after a power cut. `mode` is what the file ends with.
///
/// # Errors
///
/// [`ErrorKind::Disk`] when the disk is full or failing, else [`ErrorKind::State`].
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace(path, bytes, mode, Durable::Yes)
}

/// The same, but a power cut may leave the old bytes, or none: for what can be made anew.
///
/// # Errors
///
/// As [`write_atomic`].
pub fn write_unsynced(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace(path, bytes, mode, Durable::No)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Durable {
    Yes,
    No,
}

fn replace(path: &Path, bytes: &[u8], mode: u32, durable: Durable) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A name of its own in the same folder, removed again if anything fails.
    let temp = dir.join(format!(".new-{}", uuid::Uuid::new_v4().simple()));
    let fill = || -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(FILE_MODE).open(&temp)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        if durable == Durable::Yes {
            file.sync_all()?;
        }
        fs::rename(&temp, path)
    };
    let write = || -> io::Result<()> {
        fill().inspect_err(|_| drop(fs::remove_file(&temp)))?;
        match durable {
            Durable::Yes => File::open(dir)?.sync_all(),
            Durable::No => Ok(()),
        }
    };
    write()
        .map_err(|err| Error::io(ErrorKind::State, format!("cannot write {}", path.display()), err))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
    }

    struct Place {
        _keep: tempfile::TempDir,
        root: PathBuf,
        project: PathBuf,
    }

    fn place() -> Place {
        let keep = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(keep.path()).unwrap();
        let project = base.join("my project");
        fs::create_dir(&project).unwrap();
        Place { _keep: keep, root: base.join("state/longhaul"), project }
    }

    #[test]
    fn the_environment_decides_in_order() {
        let all = [("LONGHAUL_STATE_DIR", "/s"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(locate(env(&all)).unwrap(), PathBuf::from("/s"));
        assert_eq!(locate(env(&all[1..])).unwrap(), PathBuf::from("/x/longhaul"));
        assert_eq!(locate(env(&all[2..])).unwrap(), PathBuf::from("/h/.local/state/longhaul"));
        let empty = [("LONGHAUL_STATE_DIR", ""), ("XDG_STATE_HOME", "rel"), ("HOME", "/h")];
        assert_eq!(locate(env(&empty)).unwrap(), PathBuf::from("/h/.local/state/longhaul"));
        assert_eq!(locate(env(&[])).unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(
            locate(env(&[("LONGHAUL_STATE_DIR", "rel")])).unwrap_err().kind(),
            ErrorKind::Usage
        );
    }

    #[test]
    fn opening_creates_private_folders_and_reopens_them() {
        let Place { root, project, _keep } = place();
        assert_eq!(ProjectState::open_existing(&root, &project).unwrap(), None);
        assert!(!root.exists(), "looking creates nothing");
        let state = ProjectState::open(&root, &project).unwrap();
        for dir in [&root, &root.join("projects"), state.dir()] {
            assert_eq!(fs::metadata(dir).unwrap().mode() & 0o777, 0o700, "{}", dir.display());
        }
        let file = state.dir().join(PROJECT_FILE);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(state.dir().file_name().unwrap().to_str().unwrap().starts_with("my-project-"));
        assert_eq!(ProjectState::open(&root, &project).unwrap(), state);
        assert_eq!(ProjectState::open_existing(&root, &project).unwrap(), Some(state));
    }

    #[test]
    fn two_projects_of_one_name_do_not_meet() {
        let one = ProjectState::dir_of(Path::new("/s"), Path::new("/a/app"));
        let two = ProjectState::dir_of(Path::new("/s"), Path::new("/b/app"));
        assert_ne!(one, two);
    }

    #[test]
    fn a_place_inside_the_project_is_refused_also_through_a_symlink() {
        let Place { root, project, _keep } = place();
        for inside in [project.clone(), project.join("state"), project.join("a/b/c")] {
            let err = ProjectState::open(&inside, &project).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Usage);
            assert!(err.message().contains("lies inside the project"), "{err}");
        }
        let link = root.parent().unwrap().with_file_name("link");
        symlink(&project, &link).unwrap();
        assert_eq!(prepare(&link.join("state"), &project).unwrap_err().kind(), ErrorKind::Usage);
        assert!(!project.join("state").exists());
    }

    #[test]
    fn a_place_others_can_write_to_is_refused() {
        let Place { root, project, _keep } = place();
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&root, Permissions::from_mode(0o770)).unwrap();
        let err = ProjectState::open(&root, &project).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::State);
        assert!(
            err.render().contains("mode 0770") && err.render().contains("chmod 700"),
            "{}",
            err.render()
        );
        fs::remove_dir(&root).unwrap();
        fs::write(&root, "").unwrap();
        let err = ProjectState::open(&root, &project).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::State);
    }

    #[test]
    fn newer_and_damaged_state_is_refused_and_left_alone() {
        let Place { root, project, _keep } = place();
        let state = ProjectState::open(&root, &project).unwrap();
        let file = state.dir().join(PROJECT_FILE);
        for (text, words) in [
            (r#"{"format":2,"other":[]}"#, "newer longhaul (format 2"),
            ("", "not valid JSON"),
            (r#"{"format":1"#, "not valid JSON"),
            (r#"{"project":"/x"}"#, "names no format"),
            (r#"{"format":1,"project":"/x"}"#, "another project"),
        ] {
            fs::write(&file, text).unwrap();
            for outcome in [
                ProjectState::open(&root, &project).map(|_| ()),
                ProjectState::open_existing(&root, &project).map(|_| ()),
            ] {
                let err = outcome.unwrap_err();
                assert_eq!(err.kind(), ErrorKind::State);
                assert!(err.message().contains(words), "{err}");
            }
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
    }

    #[test]
    fn an_atomic_write_replaces_the_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_atomic(&path, b"long long text", 0o600).unwrap();
        write_atomic(&path, b"short", 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        // A directory in the way: an error, and again nothing left beside it.
        let taken = dir.path().join("d");
        fs::create_dir_all(taken.join("x")).unwrap();
        assert_eq!(write_atomic(&taken, b"x", 0o600).unwrap_err().kind(), ErrorKind::State);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn only_a_small_plain_file_of_the_shape_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let read = |name: &str| read_small_json::<Vec<u8>>(&at(name), 8);
        fs::write(at("fits"), "[1, 2 ]\n").unwrap();
        assert_eq!(read("fits"), Some(vec![1, 2]));
        fs::write(at("large"), "[1, 2  ]\n").unwrap();
        fs::write(at("other"), "{}").unwrap();
        fs::create_dir(at("folder")).unwrap();
        symlink(at("fits"), at("link")).unwrap();
        // Whoever opens this as a plain file waits for a writer.
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
        for odd in ["none", "large", "other", "folder", "link", "pipe"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }
}
