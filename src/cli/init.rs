//! `longhaul init`: what a project needs for its first run, never overwriting.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::print::{harmless, print};
use super::target::project_dir;
use crate::claude_json::Env;
use crate::config::{Config, DEFAULT_TOML};
use crate::devdocs::templates;
use crate::{Error, ErrorKind, Result, doctor};

/// The files that `--task` seeds.
const HOLDS_TASK: [&str; 2] = ["dev-docs/plan.md", "dev-docs/tasks.md"];

/// The command that `session.init_prompt` names by default.
const SESSION_INIT: &str = ".claude/commands/session-init.md";

/// `longhaul init`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct InitArgs {
    /// The project (default: the current directory)
    #[arg(long, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// What is to be done; goes into dev-docs/plan.md and dev-docs/tasks.md
    #[arg(long, value_name = "TEXT")]
    pub task: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What became of each file.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Scaffolded {
    /// The real path of the project.
    pub project: PathBuf,
    /// Files that are new.
    pub created: Vec<PathBuf>,
    /// Files that were there and were left as they are.
    pub left_alone: Vec<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// [`ErrorKind::Usage`] when the project cannot be used or `--task` would be lost.
pub fn run(args: &InitArgs) -> Result<()> {
    let done = scaffold(args.project.as_deref(), args.task.as_deref())?;
    if args.json {
        let text = serde_json::to_string(&done)
            .map_err(|err| Error::internal("cannot write the outcome as JSON").caused_by(err))?;
        return print(&format!("{text}\n"));
    }
    print(&told(&done, args.task.is_some()))
}

fn told(done: &Scaffolded, has_task: bool) -> String {
    let mut out = String::new();
    for path in &done.created {
        out.push_str(&format!("created     {}\n", path.display()));
    }
    for path in &done.left_alone {
        out.push_str(&format!("left alone  {}\n", path.display()));
    }
    let project = harmless(&done.project.display().to_string());
    out.push_str(&format!("\nNext, in {project}:\n"));
    if !has_task && done.created.iter().any(|path| path.ends_with("tasks.md")) {
        out.push_str("  write the tasks into dev-docs/tasks.md, one `- [ ]` line each\n");
    }
    out.push_str("  longhaul doctor    is everything in place?\n");
    out.push_str("  longhaul run       start\n");
    out
}

/// Creates what is missing in `project`. Everything is checked before anything
/// is written.
///
/// # Errors
///
/// [`ErrorKind::Usage`], or [`ErrorKind::Disk`] when the disk is full.
pub fn scaffold(project: Option<&Path>, task: Option<&str>) -> Result<Scaffolded> {
    // The text of the task is judged here, before anything else.
    let pieces = templates::scaffold(DEFAULT_TOML, task)?;
    let project = project_dir(project)?;
    let root = openat(CWD, &project, DIR_FLAGS, Mode::empty())
        .map_err(|err| cannot("open", &project, err))?;
    let mut missing = Vec::new();
    let mut done = Scaffolded { project, ..Scaffolded::default() };
    for piece in pieces {
        if !is_there(root.as_fd(), Path::new(piece.path))? {
            missing.push(piece);
            continue;
        }
        if task.is_some() && HOLDS_TASK.contains(&piece.path) {
            return Err(Error::usage(format!("{} exists; --task would be lost", piece.path))
                .hint("nothing was written; add the task to that file, or move it away"));
        }
        done.left_alone.push(piece.path.into());
    }
    for piece in missing {
        let path = Path::new(piece.path);
        if create(root.as_fd(), path, piece.content.as_bytes())? {
            done.created.push(path.into());
        } else {
            done.left_alone.push(path.into());
        }
    }
    Ok(done)
}

/// Creates what a task of the queue needs and is missing: the command that sessions
/// begin with, and the notes they keep. Nothing else is touched.
///
/// # Errors
///
/// As [`scaffold`].
pub fn complete(project: &Path, config: &Config, env: &Env) -> Result<()> {
    let root = openat(CWD, project, DIR_FLAGS, Mode::empty())
        .map_err(|err| cannot("open", project, err))?;
    let lacks_command = config.session.init_prompt == "/session-init"
        && !doctor::has_init_command(config, project, env);
    let is_wanted = |path: &str| {
        let is_note = config.checkpoint.files.iter().any(|file| file == Path::new(path));
        let is_command = path == SESSION_INIT && lacks_command;
        // The task file gets the task itself.
        (is_note && Path::new(path) != config.task.file) || is_command
    };
    for piece in templates::scaffold(DEFAULT_TOML, None)? {
        if is_wanted(piece.path) && !is_there(root.as_fd(), Path::new(piece.path))? {
            create(root.as_fd(), Path::new(piece.path), piece.content.as_bytes())?;
        }
    }
    Ok(())
}

const DIR_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn cannot(verb: &str, path: &Path, err: Errno) -> Error {
    Error::io(ErrorKind::Usage, format!("cannot {verb} {}", path.display()), err.into())
}

/// Whether `path` is a file already; anything in the way that is no plain
/// file or folder is an error, symbolic links too: writing through them would
/// leave the project.
fn is_there(root: std::os::fd::BorrowedFd<'_>, path: &Path) -> Result<bool> {
    for part in path
        .ancestors()
        .filter(|part| !part.as_os_str().is_empty())
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        let kind = match statat(root, part, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => return Ok(false),
            Err(err) => return Err(cannot("look at", part, err)),
        };
        let expected = if part == path { FileType::RegularFile } else { FileType::Directory };
        let shown = part.display();
        match kind {
            kind if kind == expected => {}
            // Somebody's own link to a file is read, never written.
            FileType::Symlink if part == path => {}
            FileType::Symlink => {
                return Err(Error::usage(format!(
                    "{shown} is a symbolic link, and init writes only inside the project"
                ))
                .hint("create the files behind it yourself, or replace the link by a directory"));
            }
            _ if part == path => {
                return Err(Error::usage(format!("{shown} is in the way: it is not a file")));
            }
            _ => {
                return Err(Error::usage(format!("{shown} is in the way: it is not a directory")));
            }
        }
    }
    Ok(true)
}

/// Creates the file with its folders; false if it has appeared meanwhile.
fn create(root: std::os::fd::BorrowedFd<'_>, path: &Path, bytes: &[u8]) -> Result<bool> {
    let mut dir: OwnedFd = root
        .try_clone_to_owned()
        .map_err(|err| Error::io(ErrorKind::Internal, "cannot duplicate a file descriptor", err))?;
    if let Some(parent) = path.parent() {
        for name in parent.components() {
            match mkdirat(&dir, name.as_os_str(), Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(err) => return Err(cannot("create", parent, err)),
            }
            dir = openat(&dir, name.as_os_str(), DIR_FLAGS, Mode::empty())
                .map_err(|err| cannot("open", parent, err))?;
        }
    }
    let name = path.file_name().expect("every piece has a file name");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = match openat(&dir, name, flags, Mode::from_raw_mode(0o666)) {
        Ok(fd) => File::from(fd),
        Err(Errno::EXIST) => return Ok(false),
        Err(err) => return Err(cannot("create", path, err)),
    };
    if let Err(err) = file.write_all(bytes).and_then(|()| file.sync_all()) {
        // Half a file would be left alone by the next init.
        let _ = unlinkat(&dir, name, AtFlags::empty());
        return Err(Error::io(ErrorKind::Usage, format!("cannot write {}", path.display()), err));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::Config;

    fn read(dir: &Path, path: &str) -> String {
        fs::read_to_string(dir.join(path)).unwrap()
    }

    #[test]
    fn scaffolds_once_and_then_leaves_everything_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = scaffold(Some(dir.path()), Some("Port the parser\nto Rust")).unwrap();
        assert_eq!(first.created.len(), 5);
        assert!(first.left_alone.is_empty());
        assert!(read(dir.path(), "dev-docs/plan.md").contains("Port the parser\nto Rust\n"));
        let tasks = read(dir.path(), "dev-docs/tasks.md");
        assert!(tasks.contains("\n- [ ] ") && !tasks.contains("- [x]"), "{tasks}");
        fs::write(dir.path().join("dev-docs/plan.md"), "mine").unwrap();
        let second = scaffold(Some(dir.path()), None).unwrap();
        assert!(second.created.is_empty());
        assert_eq!(second.left_alone.len(), 5);
        assert_eq!(read(dir.path(), "dev-docs/plan.md"), "mine");
    }

    #[test]
    fn the_written_configuration_changes_nothing_until_a_key_is_uncommented() {
        let text = templates::scaffold(DEFAULT_TOML, None).unwrap()[0].content.clone();
        assert_eq!(Config::from_text("f", &text, &[]).unwrap(), Config::defaults());
        for doc in crate::config::key_docs() {
            let (_, key) = doc.key.split_once('.').unwrap();
            assert!(text.contains(&format!("\n#{key} = {}", doc.default)), "{}", doc.key);
        }
        let changed = text.replace("#max_hours = 10", "max_hours = 3");
        assert_eq!(Config::from_text("f", &changed, &[]).unwrap().limits.max_ms, 3 * 3_600_000);
    }

    #[test]
    fn a_task_that_would_be_lost_stops_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("dev-docs")).unwrap();
        fs::write(dir.path().join("dev-docs/tasks.md"), "- [ ] old\n").unwrap();
        let err = scaffold(Some(dir.path()), Some("new")).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Usage);
        assert_eq!(err.message(), "dev-docs/tasks.md exists; --task would be lost");
        assert!(!dir.path().join("longhaul.toml").exists());
        assert_eq!(read(dir.path(), "dev-docs/tasks.md"), "- [ ] old\n");
    }

    #[test]
    fn nothing_is_written_through_a_symbolic_link() {
        for linked in ["dev-docs", ".claude"] {
            let dir = tempfile::tempdir().unwrap();
            let outside = tempfile::tempdir().unwrap();
            symlink(outside.path(), dir.path().join(linked)).unwrap();
            let err = scaffold(Some(dir.path()), None).unwrap_err();
            assert!(err.message().contains("is a symbolic link"), "{err}");
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
            assert!(!dir.path().join("longhaul.toml").exists());
        }
        let dir = tempfile::tempdir().unwrap();
        symlink("/nonexistent/away", dir.path().join("longhaul.toml")).unwrap();
        let done = scaffold(Some(dir.path()), None).unwrap();
        assert_eq!(done.left_alone, [PathBuf::from("longhaul.toml")]);
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dev-docs"), "").unwrap();
        let err = scaffold(Some(dir.path()), None).unwrap_err();
        assert_eq!(err.message(), "dev-docs is in the way: it is not a directory");
        fs::remove_file(dir.path().join("dev-docs")).unwrap();
        fs::create_dir_all(dir.path().join("dev-docs/tasks.md")).unwrap();
        let err = scaffold(Some(dir.path()), None).unwrap_err();
        assert_eq!(err.message(), "dev-docs/tasks.md is in the way: it is not a file");
        for missing in [dir.path().join("none"), dir.path().join("longhaul.toml/x")] {
            assert_eq!(scaffold(Some(&missing), None).unwrap_err().kind(), ErrorKind::Usage);
        }
        for task in ["", " \n", "a\u{1b}b"] {
            assert_eq!(
                scaffold(Some(dir.path()), Some(task)).unwrap_err().kind(),
                ErrorKind::Usage
            );
        }
    }
}
