//! Whether a session left any trace in the project outside its checkpoint
//! files: what tells a cycle that works from one that only talks.
//!
//! With git the question is cheap and knows what is ignored: did a commit come
//! in, is there a modified or untracked file newer than the start. Without git
//! the tree is walked, bounded, without the folders that builds fill.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::clock::{self, Timestamp};
use crate::devdocs::git::{self, Problem};

/// Entries looked at before the answer is "unknown".
const MAX_ENTRIES: usize = 50_000;
/// Folders that tools fill as they run, which is no progress.
const NOT_WORK: [&str; 7] =
    [".git", "target", "node_modules", ".venv", "__pycache__", ".claude", ".jj"];
/// File times are taken from a coarser clock than ours and may lie this much
/// before it, even for a file written later.
const FILE_CLOCK_SLACK_MS: i64 = 20;

/// The project at the start of a cycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// When it was taken, milliseconds since the Unix epoch.
    pub unix_ms: i64,
    /// What was checked out then.
    pub head: Head,
}

/// What is checked out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Head {
    /// No work tree of git, or no git.
    NoRepository,
    /// A repository without a commit.
    Unborn,
    /// A commit.
    At {
        /// Its id.
        id: String,
    },
    /// Git did not say.
    Unknown {
        /// Why, as a clause.
        why: String,
    },
}

/// The first trace found, if any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Another commit is checked out, and it differs in a file that counts.
    Commit {
        /// The commit now.
        head: String,
        /// One file that differs.
        path: PathBuf,
    },
    /// A file was written, or removed.
    File {
        /// Which.
        path: PathBuf,
    },
    /// No trace.
    Nothing,
    /// Not found out: the tree is too large, or git did not answer.
    Unknown {
        /// Why, as a clause.
        why: String,
    },
}

/// A trace if there is one, or why that was not found out.
type Found = Result<Option<Change>, String>;

/// Takes the marker of a cycle that starts now.
pub async fn mark(root: &Path) -> Marker {
    Marker { unix_ms: Timestamp::now().unix_ms, head: head(root).await }
}

/// Looks for a trace since `marker`, other than in `excluded` (files or
/// folders relative to `root`: the checkpoint files and the handoff). A commit
/// of nothing but those is no trace. Dropping the future ends the search.
pub async fn changed_since(root: &Path, marker: &Marker, excluded: &[PathBuf]) -> Change {
    let question = Question {
        root: root.to_owned(),
        since_unix_ms: marker.unix_ms.saturating_sub(FILE_CLOCK_SLACK_MS),
        excluded: excluded.to_owned(),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let _stop = StopOnDrop(question.stop.clone());
    let now = head(root).await;
    let no_git = matches!(now, Head::NoRepository | Head::Unknown { .. })
        || matches!(marker.head, Head::Unknown { .. });
    let found = if no_git {
        walk(question).await
    } else {
        match commits(&question, &marker.head, &now).await {
            Ok(None) => files(question).await,
            found => found,
        }
    };
    match found {
        Ok(found) => found.unwrap_or(Change::Nothing),
        Err(why) => Change::Unknown { why },
    }
}

/// The commit checked out, if there is one.
async fn head(root: &Path) -> Head {
    let inside = git::run(root, &git::args(&["rev-parse", "--is-inside-work-tree"], &[])).await;
    match inside {
        Ok(inside) if inside.ok() && inside.stdout.starts_with(b"true") => {}
        Ok(_) | Err(Problem::NoGit) => return Head::NoRepository,
        Err(problem) => {
            return Head::Unknown { why: problem.to_string() };
        }
    }
    let words = ["rev-parse", "--verify", "--quiet", "HEAD^{commit}"];
    match git::run(root, &git::args(&words, &[])).await {
        Ok(head) if head.ok() => {
            Head::At { id: String::from_utf8_lossy(&head.stdout).trim().to_owned() }
        }
        Ok(_) => Head::Unborn,
        Err(problem) => Head::Unknown { why: problem.to_string() },
    }
}

/// A commit since `before` that changes a file that counts.
async fn commits(question: &Question, before: &Head, now: &Head) -> Found {
    let Head::At { id: head } = now else {
        return Ok(None);
    };
    let words = match before {
        _ if before == now => return Ok(None),
        Head::At { id } => {
            let diff = ["diff", "--name-only", "--relative", "--no-renames", "--no-ext-diff", "-z"];
            [&diff[..], &[id, head]].concat()
        }
        _ => vec!["ls-tree", "-r", "--name-only", "-z", head],
    };
    let differs = git::run(&question.root, &git::args(&words, &[])).await;
    let differs = differs.map_err(|problem| problem.to_string())?;
    if !differs.ok() && !differs.cut {
        return Err(format!("git cannot compare the commits: {}", differs.stderr));
    }
    let path = differs.paths().find(|path| question.counts(path));
    Ok(path.map(|path| Change::Commit { head: head.clone(), path }))
}

/// A file that git lists as modified or untracked, and that is new.
async fn files(question: Question) -> Found {
    let words = ["ls-files", "--modified", "--others", "--exclude-standard", "-z"];
    // The session may have named programs in .git/config just to have them run here.
    let off = git::switched_off(&question.root, git::Filters::All).await;
    let off = off.map_err(|problem| problem.to_string())?;
    let call = git::Call::new(&question.root, git::args(&words, &[])).settings(off);
    let listed = call.run().await.map_err(|problem| problem.to_string())?;
    if !listed.ok() && !listed.cut {
        return Err(format!("git ls-files failed: {}", listed.stderr));
    }
    let look = move || {
        let paths: Vec<_> = listed.paths().collect();
        question.look(&paths).or_else(|| listed.cut.then(too_large))
    };
    tokio::task::spawn_blocking(look).await.map_err(|err| err.to_string())
}

async fn walk(question: Question) -> Found {
    let walk = move || question.walk(Path::new(""), &mut 0);
    tokio::task::spawn_blocking(walk).await.map_err(|err| err.to_string())
}

/// Tells the walking thread that nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct Question {
    root: PathBuf,
    since_unix_ms: i64,
    excluded: Vec<PathBuf>,
    stop: Arc<AtomicBool>,
}

impl Question {
    fn counts(&self, path: &Path) -> bool {
        !path.starts_with(".claude") && !self.excluded.iter().any(|e| path.starts_with(e))
    }

    /// True if the file was written, renamed or had its mode changed since.
    fn is_new(&self, meta: &Metadata) -> bool {
        let mtime = clock::file_unix_ms(meta.mtime(), meta.mtime_nsec());
        let ctime = clock::file_unix_ms(meta.ctime(), meta.ctime_nsec());
        mtime.max(ctime) >= self.since_unix_ms
    }

    /// Looks at what git lists as modified or untracked.
    fn look(&self, paths: &[PathBuf]) -> Option<Change> {
        let mut seen = 0;
        for path in paths.iter().filter(|path| self.counts(path)) {
            seen += 1;
            if seen > MAX_ENTRIES || self.stop.load(Ordering::Relaxed) {
                return Some(too_large());
            }
            let found = match std::fs::symlink_metadata(self.root.join(path)) {
                // A repository in the repository, which git does not look into.
                Ok(meta) if meta.is_dir() => self.walk(path, &mut seen),
                Ok(meta) => self.is_new(&meta).then(|| Change::File { path: path.clone() }),
                // Removed: the nearest folder that is left was changed by it.
                Err(_) => {
                    let left = path
                        .ancestors()
                        .skip(1)
                        .find_map(|folder| std::fs::symlink_metadata(self.root.join(folder)).ok());
                    let removed = left.is_some_and(|folder| self.is_new(&folder));
                    removed.then(|| Change::File { path: path.clone() })
                }
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Walks the folder `from`; links are not followed.
    fn walk(&self, from: &Path, seen: &mut usize) -> Option<Change> {
        let mut folders = vec![from.to_owned()];
        while let Some(folder) = folders.pop() {
            // A folder that vanished or is closed to us holds no trace we can name.
            let Ok(entries) = std::fs::read_dir(self.root.join(&folder)) else {
                continue;
            };
            for entry in entries.flatten() {
                *seen += 1;
                if *seen > MAX_ENTRIES || self.stop.load(Ordering::Relaxed) {
                    return Some(too_large());
                }
                let path = folder.join(entry.file_name());
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_dir() {
                    let work = NOT_WORK.iter().all(|name| entry.file_name() != *name);
                    if work && self.counts(&path) {
                        folders.push(path);
                    }
                } else if meta.is_file() && self.counts(&path) && self.is_new(&meta) {
                    return Some(Change::File { path });
                }
            }
        }
        None
    }
}

fn too_large() -> Change {
    Change::Unknown { why: format!("there are more than {MAX_ENTRIES} files to look at") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devdocs::git::tests::{block_on, git, planted, repository};

    const HOUR_MS: i64 = 3_600_000;

    fn excluded() -> Vec<PathBuf> {
        vec!["dev-docs/plan.md".into(), "dev-docs/tasks.md".into()]
    }

    /// The answer for a cycle that started `ago_ms` before now. Tests shift
    /// the start instead of waiting, since ctime cannot be set.
    fn change(root: &Path, head: Head, ago_ms: i64) -> Change {
        let marker = Marker { unix_ms: Timestamp::now().unix_ms - ago_ms, head };
        block_on(changed_since(root, &marker, &excluded()))
    }

    fn file(path: &str) -> Change {
        Change::File { path: path.into() }
    }

    #[test]
    fn in_a_repository_a_modified_untracked_or_removed_file_counts() {
        let dir = repository();
        let root = dir.path();
        let head = block_on(mark(root)).head;
        assert!(matches!(head, Head::At { .. }));
        let change = |ago_ms| change(root, head.clone(), ago_ms);
        assert_eq!(change(HOUR_MS), Change::Nothing, "clean, although all files are new");
        std::fs::write(root.join("dev-docs/plan.md"), "changed").unwrap();
        std::fs::create_dir(root.join(".claude")).unwrap();
        std::fs::write(root.join(".claude/settings.local.json"), "{}").unwrap();
        assert_eq!(change(HOUR_MS), Change::Nothing, "checkpoint files do not count");
        std::fs::write(root.join("new.rs"), "x").unwrap();
        assert_eq!(change(HOUR_MS), file("new.rs"));
        assert_eq!(change(-HOUR_MS), Change::Nothing, "older than the start");
        std::fs::write(root.join(".gitignore"), "*\n").unwrap();
        assert_eq!(change(HOUR_MS), Change::Nothing, "ignored");
        std::fs::write(root.join("code.rs"), "changed").unwrap();
        assert_eq!(change(HOUR_MS), file("code.rs"));
        std::fs::remove_file(root.join("code.rs")).unwrap();
        assert_eq!(change(HOUR_MS), file("code.rs"));
    }

    #[test]
    fn no_filter_of_the_repository_runs() {
        let dir = repository();
        let root = dir.path();
        let (program, trace) = planted(root);
        git(root, &["config", "filter.evil.clean", &program]);
        std::fs::write(root.join(".git/info/attributes"), "* filter=evil\n").unwrap();
        let head = block_on(mark(root)).head;
        // Of the same size: only its bytes tell.
        std::fs::write(root.join("code.rs"), "edoc").unwrap();
        assert_eq!(change(root, head, HOUR_MS), file("code.rs"));
        assert!(!trace.exists(), "{}", std::fs::read_to_string(&trace).unwrap());
    }

    #[test]
    fn a_commit_counts_if_it_changes_more_than_the_checkpoint() {
        let dir = repository();
        let root = dir.path();
        let before = block_on(mark(root)).head;
        let commit = |path: &str| {
            std::fs::write(root.join(path), "changed").unwrap();
            git(root, &["add", "."]);
            git(root, &["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "m"]);
        };
        commit("dev-docs/plan.md");
        assert_eq!(change(root, before.clone(), -HOUR_MS), Change::Nothing);
        commit("code.rs");
        let Head::At { id: head } = block_on(mark(root)).head else { panic!("no commit") };
        let expected = Change::Commit { head, path: "code.rs".into() };
        assert_eq!(change(root, before, -HOUR_MS), expected);
        assert!(matches!(change(root, Head::NoRepository, -HOUR_MS), Change::Commit { .. }));
    }

    #[test]
    fn what_git_cannot_compare_is_unknown_and_what_it_did_not_say_is_walked() {
        let dir = repository();
        let gone = || Head::At { id: "0123456789012345678901234567890123456789".into() };
        assert!(matches!(change(dir.path(), gone(), -HOUR_MS), Change::Unknown { .. }));
        let silent = || Head::Unknown { why: "it took too long".into() };
        assert_eq!(change(dir.path(), silent(), HOUR_MS), file("code.rs"));
        assert_eq!(change(dir.path(), silent(), -HOUR_MS), Change::Nothing);
    }

    #[test]
    fn without_git_the_tree_is_walked() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for path in ["dev-docs/plan.md", "target/debug/x", "a/node_modules/x", ".claude/x"] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        std::os::unix::fs::symlink("/", root.join("link")).unwrap();
        assert_eq!(change(root, Head::NoRepository, HOUR_MS), Change::Nothing);
        std::fs::write(root.join("a/code.rs"), "x").unwrap();
        assert_eq!(change(root, Head::NoRepository, HOUR_MS), file("a/code.rs"));
        assert_eq!(change(root, Head::NoRepository, -HOUR_MS), Change::Nothing);
    }

    #[test]
    fn a_file_that_came_with_an_old_time_counts() {
        let dir = tempfile::tempdir().unwrap();
        let unpacked = std::fs::File::create(dir.path().join("f")).unwrap();
        unpacked.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(change(dir.path(), Head::NoRepository, HOUR_MS), file("f"));
    }

    #[test]
    fn a_walk_is_bounded_and_can_be_stopped() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "x").unwrap();
        let question = |stop| Question {
            root: dir.path().to_owned(),
            since_unix_ms: i64::MAX,
            excluded: vec![],
            stop: Arc::new(AtomicBool::new(stop)),
        };
        assert_eq!(question(false).walk(Path::new(""), &mut 0), None);
        assert_eq!(
            question(false).walk(Path::new(""), &mut MAX_ENTRIES.clone()),
            Some(too_large())
        );
        assert_eq!(question(true).walk(Path::new(""), &mut 0), Some(too_large()));
    }

    #[test]
    fn times_at_the_ends_stay_there() {
        assert_eq!(clock::file_unix_ms(i64::MAX, 999_999_999), i64::MAX);
        assert_eq!(clock::file_unix_ms(i64::MIN, 0), i64::MIN);
        assert_eq!(clock::file_unix_ms(-1, 500_000_000), -500);
        let end = Timestamp { unix_ms: 9, boot_ms: 9 }.plus_ms(u64::MAX);
        assert_eq!(end, Timestamp { unix_ms: i64::MAX, boot_ms: u64::MAX });
        assert_eq!(end.rfc3339(), "unknown");
    }

    #[test]
    fn a_missing_project_is_nothing() {
        assert_eq!(
            change(Path::new("/nonexistent/project"), Head::NoRepository, HOUR_MS),
            Change::Nothing
        );
    }
}
