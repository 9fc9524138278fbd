//! The proof of a checkpoint: what the files were when it was asked for, what
//! they are now, and what is missing.
//!
//! [`Snapshot::take`] looks at the disk and keeps facts, not content;
//! [`prove`] is pure and compares two such looks.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::read::{ReadProblem, read_content};
use super::task_file::{MAX_TASK_FILE_BYTES, State, TaskFile, TaskFileError, digest};

/// Largest checkpoint file that is read, other than the task file. Notes that
/// a session reads at its start are far smaller, or they would fill its context.
pub const MAX_NOTES_BYTES: u64 = 8 * 1024 * 1024;

/// What one checkpoint file was at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum FileState {
    /// Read whole.
    Present {
        /// SHA-256 of its bytes, in hex.
        sha256: String,
        /// Its size.
        bytes: u64,
        /// Last modified, milliseconds since the Unix epoch.
        mtime_unix_ms: i64,
        /// What its bytes are.
        content: Content,
    },
    /// Not there.
    Absent,
    /// There, but not readable as a file.
    Unreadable {
        /// Why.
        problem: ReadProblem,
    },
}

/// What the bytes of a checkpoint file are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    /// UTF-8 text with something in it.
    Text,
    /// Nothing but white space.
    Blank,
    /// Not UTF-8.
    NotUtf8,
    /// A task file that parses.
    Tasks {
        /// Ticked checkboxes.
        ticked: u32,
        /// All checkboxes.
        total: u32,
        /// True if its status says done or blocked.
        settled: bool,
    },
    /// A task file that does not parse.
    BadTasks {
        /// Why.
        error: TaskFileError,
    },
}

/// One file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path relative to the project.
    pub path: PathBuf,
    /// What it was.
    pub state: FileState,
}

/// The checkpoint files at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// One entry for each file asked about, in that order.
    pub files: Vec<Entry>,
}

impl Snapshot {
    /// Looks at `files` beneath `root`; `task_file` is parsed as such if it is
    /// among them. Reads the disk, so it may block on a slow one.
    pub fn take(root: &Path, files: &[PathBuf], task_file: &Path) -> Snapshot {
        let look = |path: &PathBuf| Entry {
            path: path.clone(),
            state: look(root, path, path == task_file),
        };
        Snapshot { files: files.iter().map(look).collect() }
    }

    /// Takes over from `now` what was written before `heard_unix_ms`, when the
    /// request reached the model: a tool that was at work then did that, and
    /// it says nothing about the checkpoint. A change for the worse is not
    /// taken over, and neither is one from after that moment, since `now` may
    /// have been taken late.
    pub fn settle(&mut self, now: &Snapshot, heard_unix_ms: i64) {
        for Entry { path, state } in &now.files {
            let is_earlier = matches!(state, FileState::Present { mtime_unix_ms, .. }
                if *mtime_unix_ms < heard_unix_ms);
            if is_earlier
                && shortfall(path, self.get(path), state).is_none()
                && let Some(entry) = self.files.iter_mut().find(|entry| entry.path == *path)
            {
                entry.state = state.clone();
            }
        }
    }

    /// Ticked and all checkboxes of the task file, if it was read.
    pub fn task_counts(&self) -> Option<(u32, u32)> {
        self.files.iter().find_map(|entry| match &entry.state {
            FileState::Present { content: Content::Tasks { ticked, total, .. }, .. } => {
                Some((*ticked, *total))
            }
            _ => None,
        })
    }

    /// The state of `path`; absent if it was not asked about.
    pub fn get(&self, path: &Path) -> &FileState {
        let found = self.files.iter().find(|entry| entry.path == path);
        found.map_or(&FileState::Absent, |entry| &entry.state)
    }
}

fn look(root: &Path, path: &Path, is_task_file: bool) -> FileState {
    let cap = if is_task_file { MAX_TASK_FILE_BYTES } else { MAX_NOTES_BYTES };
    let read = match read_content(root, path, cap) {
        Ok(read) => read,
        Err(ReadProblem::Missing) => return FileState::Absent,
        Err(problem) => return FileState::Unreadable { problem },
    };
    let content = match std::str::from_utf8(&read.bytes) {
        _ if is_task_file => task_content(&read.bytes),
        Err(_) => Content::NotUtf8,
        Ok(text) if is_blank(text) => Content::Blank,
        Ok(_) => Content::Text,
    };
    FileState::Present {
        sha256: digest(&read.bytes),
        bytes: read.bytes.len() as u64,
        mtime_unix_ms: read.mtime_unix_ms,
        content,
    }
}

/// True for what leaves a reader with nothing: white space, marks of byte
/// order, and the NULs that a crash of the machine can leave.
fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || matches!(c, '\u{feff}' | '\0'))
}

fn task_content(bytes: &[u8]) -> Content {
    match TaskFile::parse(bytes) {
        Ok(file) => Content::Tasks {
            ticked: file.ticked,
            total: file.total,
            settled: matches!(file.state(), State::Blocked { .. } | State::Done { .. }),
        },
        Err(TaskFileError::Empty) => Content::Blank,
        Err(error) => Content::BadTasks { error },
    }
}

/// Whether a checkpoint was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "proof", rename_all = "snake_case")]
pub enum Proof {
    /// It was.
    Verified {
        /// The files whose content changed since the request.
        changed: Vec<PathBuf>,
    },
    /// Something is missing.
    Failed {
        /// What; never empty.
        missing: Vec<Shortfall>,
    },
}

/// One thing that is missing from a checkpoint. Its `Display` is a phrase that
/// goes into the second request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "shortfall", rename_all = "snake_case")]
pub enum Shortfall {
    /// The content of every file is what it was.
    NothingChanged {
        /// The files that were looked at.
        files: Vec<PathBuf>,
    },
    /// A file that was there is gone.
    Deleted {
        /// Which.
        path: PathBuf,
    },
    /// Nothing but white space.
    Blank {
        /// Which.
        path: PathBuf,
    },
    /// Not UTF-8 text.
    NotUtf8 {
        /// Which.
        path: PathBuf,
    },
    /// Not readable as a file.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: ReadProblem,
    },
    /// The task file does not parse.
    BadTasks {
        /// Which.
        path: PathBuf,
        /// Why.
        error: TaskFileError,
    },
    /// The task file had checkboxes and has none now.
    TasksLost {
        /// Which.
        path: PathBuf,
        /// How many there were.
        before: u32,
    },
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shortfall::NothingChanged { files } => match files.as_slice() {
                [only] => write!(f, "{} has not changed since the request", only.display()),
                files => {
                    let names: Vec<_> = files.iter().map(|p| p.display().to_string()).collect();
                    write!(f, "none of {} has changed since the request", names.join(", "))
                }
            },
            Shortfall::Deleted { path } => write!(f, "{} has been deleted", path.display()),
            Shortfall::Blank { path } => write!(f, "{} is empty", path.display()),
            Shortfall::NotUtf8 { path } => write!(f, "{} is not UTF-8 text", path.display()),
            Shortfall::Unreadable { path, problem } => write!(f, "{} {problem}", path.display()),
            Shortfall::BadTasks { path, error } => write!(f, "{} {error}", path.display()),
            Shortfall::TasksLost { path, before } => {
                let boxes = if *before == 1 { "checkbox" } else { "checkboxes" };
                write!(f, "{} has lost its {before} {boxes}", path.display())
            }
        }
    }
}

/// Compares the files at the request with the files now.
///
/// Verified means: the content of at least one file changed; every file that
/// was there still is; and every file that is there now can be read, is UTF-8,
/// is not blank and, for the task file, parses and still has checkboxes if it
/// had some (or says done or blocked). A file that was absent may stay so.
pub fn prove(at_request: &Snapshot, now: &Snapshot) -> Proof {
    let mut changed = Vec::new();
    let mut missing = Vec::new();
    for Entry { path, state } in &now.files {
        let before = at_request.get(path);
        if let Some(shortfall) = shortfall(path, before, state) {
            missing.push(shortfall);
        } else if content_changed(before, state) {
            changed.push(path.clone());
        }
    }
    if changed.is_empty() && !touched(at_request, now) {
        let files = now.files.iter().map(|entry| entry.path.clone()).collect();
        missing.insert(0, Shortfall::NothingChanged { files });
    }
    if missing.is_empty() { Proof::Verified { changed } } else { Proof::Failed { missing } }
}

fn shortfall(path: &Path, before: &FileState, now: &FileState) -> Option<Shortfall> {
    let path = path.to_owned();
    let content = match now {
        FileState::Absent if *before == FileState::Absent => return None,
        FileState::Absent => return Some(Shortfall::Deleted { path }),
        FileState::Unreadable { problem } => {
            return Some(Shortfall::Unreadable { path, problem: problem.clone() });
        }
        FileState::Present { content, .. } => content,
    };
    match content {
        Content::Blank => Some(Shortfall::Blank { path }),
        Content::NotUtf8 => Some(Shortfall::NotUtf8 { path }),
        Content::BadTasks { error } => Some(Shortfall::BadTasks { path, error: error.clone() }),
        Content::Tasks { total: 0, settled: false, .. } => match before {
            FileState::Present { content: Content::Tasks { total: before @ 1.., .. }, .. } => {
                Some(Shortfall::TasksLost { path, before: *before })
            }
            _ => None,
        },
        Content::Tasks { .. } | Content::Text => None,
    }
}

fn content_changed(before: &FileState, now: &FileState) -> bool {
    match (before, now) {
        (FileState::Present { sha256: before, .. }, FileState::Present { sha256: now, .. }) => {
            before != now
        }
        (_, FileState::Present { .. }) => true,
        _ => false,
    }
}

/// True if any file changed, though perhaps for the worse: then "nothing
/// changed" would be an untrue thing to tell the session.
fn touched(at_request: &Snapshot, now: &Snapshot) -> bool {
    now.files.iter().any(|entry| {
        let before = at_request.get(&entry.path);
        content_changed(before, &entry.state)
            || std::mem::discriminant(before) != std::mem::discriminant(&entry.state)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "dev-docs/plan.md";
    const TASKS: &str = "dev-docs/tasks.md";

    struct Project(tempfile::TempDir);

    impl Project {
        fn new() -> Project {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("dev-docs")).unwrap();
            let project = Project(dir);
            project.write(PLAN, "plan");
            project.write(TASKS, "- [ ] a\n- [x] b\n");
            project
        }

        fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
            std::fs::write(self.0.path().join(path), bytes).unwrap();
        }

        fn remove(&self, path: &str) {
            std::fs::remove_file(self.0.path().join(path)).unwrap();
        }

        fn look(&self) -> Snapshot {
            let files = ["dev-docs/SUMMARY.md", PLAN, TASKS].map(PathBuf::from);
            Snapshot::take(self.0.path(), &files, Path::new(TASKS))
        }
    }

    /// What is said after `change`, as the session is told.
    fn told(change: impl FnOnce(&Project)) -> Vec<String> {
        let project = Project::new();
        let before = project.look();
        change(&project);
        match prove(&before, &project.look()) {
            Proof::Verified { changed } => {
                changed.iter().map(|p| format!("ok {}", p.display())).collect()
            }
            Proof::Failed { missing } => missing.iter().map(Shortfall::to_string).collect(),
        }
    }

    #[test]
    fn a_changed_file_or_a_new_one_is_a_checkpoint() {
        assert_eq!(told(|p| p.write(PLAN, "new plan")), ["ok dev-docs/plan.md"]);
        assert_eq!(told(|p| p.write("dev-docs/SUMMARY.md", "s")), ["ok dev-docs/SUMMARY.md"]);
        assert_eq!(told(|p| p.write(TASKS, "Status: blocked")), ["ok dev-docs/tasks.md"]);
    }

    #[test]
    fn what_a_tool_at_work_wrote_before_the_request_was_heard_is_none() {
        let project = Project::new();
        let mut baseline = project.look();
        project.write(TASKS, "- [x] a\n- [x] b\n");
        let heard = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
        let heard_ms = heard.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
        let late = |path: &str| {
            let file = std::fs::File::options().append(true).open(project.0.path().join(path));
            file.unwrap().set_modified(heard).unwrap();
        };
        project.write(PLAN, "");
        baseline.settle(&project.look(), heard_ms);
        let Proof::Failed { missing } = prove(&baseline, &project.look()) else { panic!() };
        assert_eq!(missing, [Shortfall::Blank { path: PLAN.into() }]);

        project.write(PLAN, "plan");
        let Proof::Failed { missing } = prove(&baseline, &project.look()) else { panic!() };
        assert!(matches!(missing[..], [Shortfall::NothingChanged { .. }]), "{missing:?}");

        // Written after it was heard, but before longhaul came to look.
        project.write(TASKS, "- [x] a\n- [ ] c\n");
        late(TASKS);
        baseline.settle(&project.look(), heard_ms);
        assert_eq!(
            prove(&baseline, &project.look()),
            Proof::Verified { changed: vec![TASKS.into()] }
        );
    }

    #[test]
    fn rewriting_the_same_bytes_is_none() {
        let same = "none of dev-docs/SUMMARY.md, dev-docs/plan.md, dev-docs/tasks.md has changed since the request";
        assert_eq!(told(|_| {}), [same]);
        assert_eq!(told(|p| p.write(PLAN, "plan")), [same]);
    }

    #[test]
    fn each_shortfall_is_named() {
        let said = |phrase: &str| vec![phrase.to_owned()];
        assert_eq!(told(|p| p.write(PLAN, " \n")), said("dev-docs/plan.md is empty"));
        assert_eq!(told(|p| p.write(PLAN, [0xff])), said("dev-docs/plan.md is not UTF-8 text"));
        assert_eq!(told(|p| p.remove(PLAN)), said("dev-docs/plan.md has been deleted"));
        assert_eq!(told(|p| p.write(TASKS, "")), said("dev-docs/tasks.md is empty"));
        assert_eq!(
            told(|p| p.write(TASKS, "all gone")),
            said("dev-docs/tasks.md has lost its 2 checkboxes")
        );
        assert_eq!(
            told(|p| p.write(TASKS, "- [x] a\0")),
            said("dev-docs/tasks.md holds a NUL byte at offset 7, so it is not text")
        );
        assert_eq!(
            told(|p| {
                p.remove(PLAN);
                std::fs::create_dir(p.0.path().join(PLAN)).unwrap();
            }),
            said("dev-docs/plan.md is a directory, not a file")
        );
    }

    #[test]
    fn one_good_change_does_not_excuse_a_ruined_file() {
        let told = told(|p| {
            p.write(PLAN, "new");
            p.write(TASKS, "\n");
        });
        assert_eq!(told, ["dev-docs/tasks.md is empty"]);
    }

    #[test]
    fn snapshots_and_proofs_survive_the_journal() {
        let project = Project::new();
        let before = project.look();
        assert_eq!(before.task_counts(), Some((1, 2)));
        project.write(PLAN, [0xff]);
        project.remove(TASKS);
        let now = project.look();
        for snapshot in [&before, &now] {
            let json = serde_json::to_string(snapshot).unwrap();
            assert_eq!(&serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
        }
        let proof = prove(&before, &now);
        let json = serde_json::to_string(&proof).unwrap();
        assert_eq!(serde_json::from_str::<Proof>(&json).unwrap(), proof);
    }
}
