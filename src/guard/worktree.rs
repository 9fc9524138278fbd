//! The project's work tree of each cycle as a git ref, so that a ruined tree
//! can be had back: `refs/longhaul/<run id>/<cycle>`.
//!
//! The commit is made beside everything the person and the session use: a copy
//! of the index outside the project, no hook, no filter, no signature, no
//! reflog. HEAD, index, stash and files stay as they are. Only the project's
//! own folder is read; in a larger repository the rest is as in the index.
//! Ignored files, repositories within the repository and files that cannot be
//! read are left out.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, OFlags};
use serde::{Deserialize, Serialize};

use crate::devdocs::git::{Call, Filters, Output, Problem, Setting, args, switched_off};
use crate::session::sweep::RUN_VARIABLE;

/// Where the refs are.
const REFS: &str = "refs/longhaul";
/// Longest time for one of them.
const KEEP_TIMEOUT_MS: u64 = 60_000;
/// Most that is added to the repository at a time.
const MAX_BYTES: u64 = 512 << 20;
/// Most files that are added at a time.
const MAX_FILES: usize = 50_000;
/// The index of a million files is smaller.
const MAX_INDEX_BYTES: u64 = 256 << 20;
/// Runs whose refs stay.
const RUNS_KEPT: usize = 5;

/// A whole index of our own, no reflog, and no complaint about line ends.
const SETTINGS: [(&str, &str); 3] =
    [("core.splitIndex", "false"), ("core.logAllRefUpdates", "false"), ("core.safecrlf", "false")];

/// Who made the commits.
const IDENTITY: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "longhaul"),
    ("GIT_AUTHOR_EMAIL", "longhaul@localhost"),
    ("GIT_COMMITTER_NAME", "longhaul"),
    ("GIT_COMMITTER_EMAIL", "longhaul@localhost"),
];

/// The work tree of one cycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The ref's name.
    pub ref_name: String,
    /// The commit it names.
    pub commit: String,
    /// Files, and repositories within the repository, that are not in it: at
    /// most a few, relative to the project.
    pub left_out: Vec<PathBuf>,
}

impl Kept {
    /// The command that brings deleted and changed files of the project back.
    pub fn restore_command(&self) -> String {
        restore_command(&self.ref_name)
    }
}

/// The command that brings deleted and changed files back, to be given in the
/// project's folder. Files that came later stay.
pub fn restore_command(ref_name: &str) -> String {
    format!("git restore --source={ref_name} --worktree -- .")
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// There is a ref now.
    Kept(Kept),
    /// The project is in no work tree of git, or there is no git.
    NoRepository,
    /// There is a repository, and no ref.
    Skipped {
        /// Why, as a clause.
        why: String,
    },
}

/// Whose tree it is.
#[derive(Debug, Clone, Copy)]
pub struct Cycle<'a> {
    /// The project.
    pub project: &'a Path,
    /// The run's id; what git starts is marked with it.
    pub run_id: &'a str,
    /// The cycle, from 1.
    pub cycle: u32,
    /// A private folder outside the project, for the copy of the index.
    pub scratch: &'a Path,
}

/// How much may be added.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    bytes: u64,
    files: usize,
}

/// Keeps the work tree as it is. Takes a minute at most; dropped, it leaves
/// nothing behind but unreachable objects.
pub async fn keep(cycle: Cycle<'_>) -> Outcome {
    let bounds = Bounds { bytes: MAX_BYTES, files: MAX_FILES };
    let kept = keep_within(cycle, bounds);
    match tokio::time::timeout(Duration::from_millis(KEEP_TIMEOUT_MS), kept).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(why)) => Outcome::Skipped { why },
        Err(_) => {
            Outcome::Skipped { why: format!("it took longer than {} s", KEEP_TIMEOUT_MS / 1000) }
        }
    }
}

async fn keep_within(cycle: Cycle<'_>, bounds: Bounds) -> Result<Outcome, String> {
    let Some(seed) = index_of(cycle.project).await? else {
        return Ok(Outcome::NoRepository);
    };
    let private = tempfile::Builder::new()
        .prefix("index-")
        .tempdir_in(cycle.scratch)
        .map_err(|err| format!("no room for a copy of the index: {err}"))?;
    let off = switched_off(cycle.project, Filters::All).await;
    let mut settings = off.map_err(|problem| problem.to_string())?;
    settings.extend(SETTINGS.map(|(key, value)| (key.into(), value.into())));
    let index = Index { cycle, settings, file: private.path().join("index"), bounds };
    let (copied, file) = (seed.clone(), index.file.clone());
    blocking(move || copy_index(&copied, &file)).await??;
    let tree = match index.tree().await {
        // An index that was ruined, or points at objects that are gone.
        Err(_) if index.restart().await => index.tree().await,
        tree => tree,
    }?;
    let commit = index.commit(&tree.id).await?;
    let ref_name = format!("{REFS}/{}/{}", cycle.run_id, cycle.cycle);
    index.git(&["update-ref", "--no-deref", &ref_name, &commit]).await?;
    Ok(Outcome::Kept(Kept { ref_name, commit, left_out: tree.left_out }))
}

/// The path of the index; `None` without a work tree.
async fn index_of(project: &Path) -> Result<Option<PathBuf>, String> {
    let words = ["rev-parse", "--is-inside-work-tree", "--git-path", "index"];
    let told = match Call::new(project, args(&words, &[])).run().await {
        Err(Problem::NoGit) => return Ok(None),
        told => told.map_err(|problem| problem.to_string())?,
    };
    if !told.ok() {
        // Git refuses a repository of another user, which is no "there is none".
        let refused = told.stderr.contains("dubious ownership");
        return if refused { Err(told.complaint()) } else { Ok(None) };
    }
    match told.stdout.strip_prefix(b"true\n") {
        Some(path) => {
            let path = path.strip_suffix(b"\n").unwrap_or(path);
            Ok(Some(project.join(std::ffi::OsStr::from_bytes(path))))
        }
        None => Ok(None),
    }
}

/// Copies the index with its time: git takes entries as young as the index
/// itself for possibly changed. No index is an empty one.
fn copy_index(from: &Path, to: &Path) -> Result<(), String> {
    let copy = || -> io::Result<()> {
        let mut read = File::options();
        // What a session put in its place is neither followed nor waited for.
        read.read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
        let file = match read.open(from) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if meta.len() > MAX_INDEX_BYTES {
            return Err(io::Error::other(format!("it has {} MiB", meta.len() >> 20)));
        }
        let mut copy = File::create_new(to)?;
        io::copy(&mut file.take(MAX_INDEX_BYTES), &mut copy)?;
        copy.set_modified(meta.modified()?)
    };
    copy().map_err(|err| format!("the index cannot be copied: {err}"))
}

/// The copy of the index, on its way to a tree.
struct Index<'a> {
    cycle: Cycle<'a>,
    settings: Vec<Setting>,
    file: PathBuf,
    bounds: Bounds,
}

/// A tree that was written.
struct Tree {
    id: String,
    left_out: Vec<PathBuf>,
}

impl Index<'_> {
    fn call(&self, words: &[&str]) -> Call<'_> {
        let call = Call::new(self.cycle.project, args(words, &[]))
            .settings(self.settings.iter().cloned())
            .variable("GIT_INDEX_FILE", &self.file)
            .variable(RUN_VARIABLE, self.cycle.run_id);
        IDENTITY.iter().fold(call, |call, (name, value)| call.variable(name, *value))
    }

    async fn git(&self, words: &[&str]) -> Result<Output, String> {
        done(self.call(words).run().await)
    }

    /// Runs it on a list of paths.
    async fn git_on(&self, words: &[&str], paths: &[PathBuf]) -> Result<(), String> {
        if paths.is_empty() {
            return Ok(());
        }
        let list = || -> io::Result<File> {
            let mut file = tempfile::tempfile_in(self.cycle.scratch)?;
            let mut out = io::BufWriter::new(&file);
            for path in paths {
                out.write_all(path.as_os_str().as_bytes())?;
                out.write_all(b"\0")?;
            }
            out.flush()?;
            drop(out);
            io::Seek::rewind(&mut file)?;
            Ok(file)
        };
        let list = list().map_err(|err| format!("no room for a list of files: {err}"))?;
        done(self.call(words).input(list).run().await).map(|_| ())
    }

    /// Begins again from the last commit; false if that is no way either.
    async fn restart(&self) -> bool {
        let _ = fs::remove_file(&self.file);
        match self.head().await {
            Ok(Some(head)) => self.git(&["read-tree", &head]).await.is_ok(),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Brings the copy up to what lies in the project, and writes it.
    async fn tree(&self) -> Result<Tree, String> {
        let words = ["ls-files", "-z", "--modified", "--others", "--exclude-standard"];
        let listed = self.git(&words).await?;
        if listed.cut {
            return Err("there are too many new and changed files".into());
        }
        let mut paths: Vec<PathBuf> = listed.paths().collect();
        paths.sort();
        paths.dedup();
        let (project, bounds) = (self.cycle.project.to_owned(), self.bounds);
        let sorted = blocking(move || sort_out(&project, paths, bounds)).await??;
        let gone = ["update-index", "-z", "--force-remove", "--stdin"];
        self.git_on(&gone, &sorted.gone).await?;
        let there = ["update-index", "-z", "--add", "--remove", "--replace", "--stdin"];
        self.git_on(&there, &sorted.there).await?;
        let id = self.git(&["write-tree"]).await?.first_line();
        if self.git(&["rev-parse", "--quiet", "--verify", &format!("{id}:./")]).await.is_err() {
            return Err("git ignores the whole project".into());
        }
        Ok(Tree { id, left_out: sorted.left_out })
    }

    async fn head(&self) -> Result<Option<String>, String> {
        let words = ["rev-parse", "--verify", "--quiet", "HEAD^{commit}"];
        let head = self.call(&words).run().await.map_err(|problem| problem.to_string())?;
        Ok(head.ok().then(|| head.first_line()))
    }

    async fn commit(&self, tree: &str) -> Result<String, String> {
        let message = format!("longhaul: cycle {} of run {}", self.cycle.cycle, self.cycle.run_id);
        let mut words = vec!["commit-tree", "--no-gpg-sign", "-m", &message, tree];
        let head = self.head().await?;
        if let Some(head) = &head {
            words.extend(["-p", head]);
        }
        Ok(self.git(&words).await?.first_line())
    }
}

fn done(output: Result<Output, Problem>) -> Result<Output, String> {
    match output {
        Ok(output) if output.ok() || output.cut => Ok(output),
        Ok(output) => Err(output.complaint()),
        Err(problem) => Err(problem.to_string()),
    }
}

/// New and changed paths, by what is to be done with them.
#[derive(Debug, Default)]
struct Sorted {
    there: Vec<PathBuf>,
    gone: Vec<PathBuf>,
    left_out: Vec<PathBuf>,
}

/// Most names of files that were left out.
const LEFT_OUT_NAMED: usize = 20;

/// Looks at each path, and refuses more than `bounds`.
fn sort_out(project: &Path, paths: Vec<PathBuf>, bounds: Bounds) -> Result<Sorted, String> {
    let mut sorted = Sorted::default();
    let mut bytes: u64 = 0;
    for path in paths {
        let full = project.join(&path);
        // Git names a repository within the repository with a slash behind it.
        let nested = path.as_os_str().as_bytes().ends_with(b"/");
        match fs::symlink_metadata(&full) {
            Err(_) => sorted.gone.push(path),
            Ok(_) if is_beyond_a_link(project, &path) => sorted.gone.push(path),
            Ok(_) if nested => leave_out(&mut sorted, path),
            Ok(meta) if meta.is_file() => {
                if rustix::fs::accessat(CWD, &full, Access::READ_OK, AtFlags::EACCESS).is_err() {
                    leave_out(&mut sorted, path);
                    continue;
                }
                bytes = bytes.saturating_add(meta.len());
                sorted.there.push(path);
            }
            Ok(_) => sorted.there.push(path),
        }
        if sorted.there.len() > bounds.files {
            return Err(format!("more than {} files are new or changed", bounds.files));
        }
        if bytes > bounds.bytes {
            return Err(format!("more than {} MiB are new or changed", bounds.bytes >> 20));
        }
    }
    Ok(sorted)
}

fn leave_out(sorted: &mut Sorted, path: PathBuf) {
    if sorted.left_out.len() < LEFT_OUT_NAMED {
        sorted.left_out.push(path);
    }
}

/// Whether a folder on the way to `path` is a symbolic link now.
fn is_beyond_a_link(project: &Path, path: &Path) -> bool {
    let folders = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
    folders
        .into_iter()
        .any(|folder| project.join(folder).symlink_metadata().is_ok_and(|meta| meta.is_symlink()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|err| err.to_string())
}

/// Deletes the refs of old runs: those of the newest five (by date of commit)
/// and of `run_id` stay. Gives the number deleted. Without a repository there
/// is nothing to do.
///
/// # Errors
///
/// Why git could not, as a clause.
pub async fn forget_old(project: &Path, run_id: &str, scratch: &Path) -> Result<usize, String> {
    if index_of(project).await?.is_none() {
        return Ok(0);
    }
    let format = "--format=%(committerdate:unix) %(refname)";
    let listed = Call::new(project, args(&["for-each-ref", format, REFS], &[])).run().await;
    let listed = done(listed)?;
    let old = old_refs(&String::from_utf8_lossy(&listed.stdout), run_id);
    if old.is_empty() {
        return Ok(0);
    }
    let orders = || -> io::Result<File> {
        let mut file = tempfile::tempfile_in(scratch)?;
        for name in &old {
            writeln!(file, "delete {name}")?;
        }
        io::Seek::rewind(&mut file)?;
        Ok(file)
    };
    let orders = orders().map_err(|err| format!("no room for a list of refs: {err}"))?;
    let words = args(&["update-ref", "--no-deref", "--stdin"], &[]);
    let off = switched_off(project, Filters::All).await.map_err(|problem| problem.to_string())?;
    done(Call::new(project, words).settings(off).input(orders).run().await)?;
    Ok(old.len())
}

/// The refs to delete, of lines of "date name". Names that longhaul does not
/// give are somebody else's.
fn old_refs(listed: &str, run_id: &str) -> Vec<String> {
    let mut runs: BTreeMap<&str, (i64, Vec<&str>)> = BTreeMap::new();
    for line in listed.lines() {
        let Some((date, name)) = line.split_once(' ') else { continue };
        let own = name.strip_prefix(REFS).and_then(|rest| rest.strip_prefix('/'));
        let Some((run, cycle)) = own.and_then(|rest| rest.split_once('/')) else { continue };
        if uuid::Uuid::parse_str(run).is_err() || cycle.parse::<u32>().is_err() || run == run_id {
            continue;
        }
        let (newest, names) = runs.entry(run).or_insert((i64::MIN, Vec::new()));
        *newest = (*newest).max(date.parse().unwrap_or(i64::MIN));
        names.push(name);
    }
    let mut runs: Vec<_> = runs.into_values().collect();
    runs.sort_by_key(|(newest, _)| std::cmp::Reverse(*newest));
    runs.into_iter().skip(RUNS_KEPT - 1).flat_map(|(_, names)| names).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::devdocs::git::tests::{block_on, git, planted, repository};

    const RUN: &str = "6f1c0a52-9d0e-4f6c-8a3b-1f2e3d4c5b6a";

    fn keep_now(project: &Path) -> Outcome {
        let scratch = tempfile::tempdir().unwrap();
        let outcome =
            block_on(keep(Cycle { project, run_id: RUN, cycle: 3, scratch: scratch.path() }));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left behind");
        outcome
    }

    #[track_caller]
    fn kept(project: &Path) -> Kept {
        match keep_now(project) {
            Outcome::Kept(kept) => kept,
            other => panic!("{other:?}"),
        }
    }

    fn files(project: &Path, kept: &Kept) -> Vec<String> {
        let listed = git(project, &["ls-tree", "-r", "--name-only", "--full-tree", &kept.commit]);
        listed.lines().map(str::to_owned).collect()
    }

    fn content(project: &Path, kept: &Kept, path: &str) -> String {
        git(project, &["show", &format!("{}:{path}", kept.ref_name)])
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn commit(root: &Path, message: &str) {
        git(root, &["add", "-A"]);
        let name = ["-c", "user.name=t", "-c", "user.email=t@t"];
        git(root, &[&name[..], &["commit", "-qm", message]].concat());
    }

    /// Everything that the person or a session could notice.
    fn notice(root: &Path) -> Vec<String> {
        let index = root.join(git(root, &["rev-parse", "--git-path", "index"]).trim());
        let bytes = fs::read(index).unwrap_or_default();
        let mut seen = vec![String::from_utf8_lossy(&bytes).into_owned()];
        for words in [
            &["status", "--porcelain=v2", "--branch", "--ignored"][..],
            &["reflog", "--all"],
            &["stash", "list"],
            &["branch", "-a"],
        ] {
            seen.push(git(root, words));
        }
        seen
    }

    #[test]
    fn a_ruined_tree_can_be_had_back_and_nobody_notices_the_keeping() {
        let dir = repository();
        let root = dir.path();
        write(root, ".gitignore", "*.log\n");
        write(root, "gone.rs", "gone");
        commit(root, "second");
        write(root, "code.rs", "staged");
        git(root, &["add", "code.rs"]);
        write(root, "code.rs", "work");
        write(root, "new/mod.rs", "untracked");
        write(root, "big.log", "ignored");
        symlink("code.rs", root.join("link")).unwrap();
        fs::set_permissions(root.join("new/mod.rs"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(root.join("gone.rs")).unwrap();
        let before = notice(root);
        let kept = kept(root);
        assert_eq!(notice(root), before);
        assert_eq!(kept.ref_name, format!("refs/longhaul/{RUN}/3"));
        assert_eq!(git(root, &["rev-parse", &kept.ref_name]).trim(), kept.commit);
        assert_eq!(
            files(root, &kept),
            [".gitignore", "code.rs", "dev-docs/plan.md", "link", "new/mod.rs"]
        );
        assert_eq!(content(root, &kept, "code.rs"), "work");
        let told = git(root, &["log", "-1", "--format=%an <%ae> %cn <%ce> %P", &kept.commit]);
        let head = git(root, &["rev-parse", "HEAD"]);
        let who = "longhaul <longhaul@localhost>";
        assert_eq!(told, format!("{who} {who} {head}"));

        // The ruin, and the command of the page on running.
        write(root, "code.rs", "ruined");
        fs::remove_dir_all(root.join("new")).unwrap();
        fs::remove_dir_all(root.join("dev-docs")).unwrap();
        write(root, "later.rs", "later");
        let restored = std::process::Command::new("sh")
            .args(["-c", &kept.restore_command()])
            .current_dir(root)
            .status();
        assert!(restored.unwrap().success());
        assert_eq!(fs::read_to_string(root.join("code.rs")).unwrap(), "work");
        assert_eq!(fs::read_to_string(root.join("new/mod.rs")).unwrap(), "untracked");
        let mode = fs::metadata(root.join("new/mod.rs")).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
        assert_eq!(fs::read_to_string(root.join("dev-docs/plan.md")).unwrap(), "plan");
        assert_eq!(fs::read_to_string(root.join("later.rs")).unwrap(), "later");
        assert_eq!(git(root, &["show", ":code.rs"]), "staged", "what was staged stays staged");
    }

    #[test]
    fn the_page_on_running_gives_the_commands_that_work() {
        let page = include_str!("../../dev-docs/RUNNING.md");
        assert!(page.contains(&restore_command("refs/longhaul/…/3")));
        assert!(page.contains("git branch rescued refs/longhaul/…/3 "));
        let dir = repository();
        write(dir.path(), "new", "1");
        let kept = kept(dir.path());
        git(dir.path(), &["branch", "rescued", &kept.ref_name]);
        assert!(page.contains("git show --stat refs/longhaul/…/3 "));
        let shown = git(dir.path(), &["show", "--name-only", "--format=", &kept.ref_name]);
        assert_eq!(shown, "new\n");
    }

    #[test]
    fn a_second_ref_of_a_cycle_replaces_the_first() {
        let dir = repository();
        let first = kept(dir.path());
        write(dir.path(), "code.rs", "more");
        let second = kept(dir.path());
        assert_eq!(first.ref_name, second.ref_name);
        assert_ne!(first.commit, second.commit);
        assert_eq!(content(dir.path(), &second, "code.rs"), "more");
    }

    #[test]
    fn a_repository_without_commits_and_a_detached_head_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q"]);
        write(dir.path(), "a", "1");
        let unborn = kept(dir.path());
        assert_eq!(files(dir.path(), &unborn), ["a"]);
        assert_eq!(git(dir.path(), &["log", "-1", "--format=%P", &unborn.commit]).trim(), "");

        let dir = repository();
        git(dir.path(), &["checkout", "-q", "--detach"]);
        write(dir.path(), "b", "1");
        assert_eq!(files(dir.path(), &kept(dir.path())), ["b", "code.rs", "dev-docs/plan.md"]);
    }

    #[test]
    fn a_merge_in_progress_is_kept_and_goes_on() {
        let dir = repository();
        let root = dir.path();
        git(root, &["checkout", "-qb", "other"]);
        write(root, "code.rs", "theirs");
        commit(root, "theirs");
        git(root, &["checkout", "-q", "main"]);
        write(root, "code.rs", "ours");
        commit(root, "ours");
        let merge = std::process::Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@t", "merge", "-q", "other"])
            .current_dir(root)
            .output();
        assert!(!merge.unwrap().status.success(), "a conflict");
        let before = notice(root);
        let kept = kept(root);
        assert_eq!(notice(root), before);
        assert!(root.join(".git/MERGE_HEAD").exists());
        assert!(content(root, &kept, "code.rs").contains("<<<<<<<"));
    }

    #[test]
    fn a_linked_work_tree_and_a_folder_of_a_larger_repository_are_kept() {
        let dir = repository();
        let root = dir.path();
        let elsewhere = tempfile::tempdir().unwrap();
        let linked = elsewhere.path().join("linked");
        git(root, &["worktree", "add", "-q", linked.to_str().unwrap()]);
        write(&linked, "only-here", "x");
        assert!(files(&linked, &kept(&linked)).contains(&"only-here".to_owned()));

        write(root, "sub/in.rs", "in");
        write(root, "code.rs", "changed outside of the project");
        let kept = kept(&root.join("sub"));
        assert_eq!(files(root, &kept), ["code.rs", "dev-docs/plan.md", "sub/in.rs"]);
        assert_eq!(content(root, &kept, "code.rs"), "code");
        write(root, ".gitignore", "sub/\n");
        git(root, &["rm", "-rq", "--cached", "--ignore-unmatch", "sub"]);
        let Outcome::Skipped { why } = keep_now(&root.join("sub")) else { panic!() };
        assert_eq!(why, "git ignores the whole project");
    }

    #[test]
    fn a_sparse_checkout_keeps_what_is_not_checked_out() {
        let dir = repository();
        let root = dir.path();
        write(root, "far/away.rs", "away");
        commit(root, "far");
        git(root, &["sparse-checkout", "set", "dev-docs"]);
        assert!(!root.join("far").exists());
        write(root, "dev-docs/plan.md", "changed");
        let kept = kept(root);
        assert!(files(root, &kept).contains(&"far/away.rs".to_owned()));
        assert_eq!(content(root, &kept, "dev-docs/plan.md"), "changed");
    }

    #[test]
    fn submodules_stay_commits_and_other_repositories_are_left_out() {
        let dir = repository();
        let root = dir.path();
        let library = repository();
        let from = library.path().to_str().unwrap();
        git(root, &["-c", "protocol.file.allow=always", "submodule", "add", "-q", from, "lib"]);
        commit(root, "submodule");
        write(root, "lib/code.rs", "changed within");
        git(root, &["init", "-q", "nested"]);
        write(root, "nested/x", "x");
        let kept = kept(root);
        let tree = git(root, &["ls-tree", &kept.commit, "lib"]);
        assert!(tree.starts_with("160000 commit"), "{tree}");
        assert!(!files(root, &kept).iter().any(|file| file.starts_with("nested")));
        assert_eq!(kept.left_out, [PathBuf::from("nested/")]);
    }

    #[test]
    fn no_program_of_the_repository_runs() {
        let dir = repository();
        let root = dir.path();
        let (program, trace) = planted(root);
        let text = program.as_str();
        for hook in ["post-index-change", "reference-transaction", "pre-commit"] {
            fs::create_dir_all(root.join(".git/hooks")).unwrap();
            symlink(&program, root.join(".git/hooks").join(hook)).unwrap();
        }
        for key in ["core.fsmonitor", "gpg.program", "core.editor"] {
            git(root, &["config", key, text]);
        }
        for driver in ["evil", "two words", "dotted.name", "long", "a=b"] {
            git(root, &["config", &format!("filter.{driver}.clean"), text]);
            git(root, &["config", &format!("filter.{driver}.required"), "true"]);
        }
        git(root, &["config", "filter.long.process", text]);
        git(root, &["config", "commit.gpgSign", "true"]);
        write(root, ".gitattributes", "*.rs filter=evil\n*.md filter=long\n*.sh filter=a=b\n");
        write(root, ".git/info/attributes", "*.txt filter=dotted.name\n");
        for file in ["a.rs", "b.md", "c.txt", "d.sh"] {
            write(root, file, "raw\r\n");
        }
        let kept = kept(root);
        for file in ["a.rs", "b.md", "c.txt", "d.sh"] {
            assert_eq!(content(root, &kept, file), "raw\r\n");
        }
        assert!(!trace.exists(), "{}", fs::read_to_string(&trace).unwrap());
    }

    #[test]
    fn files_of_lfs_are_kept_as_pointers_until_they_change() {
        let dir = repository();
        let root = dir.path();
        write(root, ".gitattributes", "*.bin filter=lfs -text\n");
        // What its filter made of the file when it was added.
        write(root, "a.bin", "pointer");
        write(root, "b.bin", "pointer");
        commit(root, "pointers");
        let index = root.join(".git/index");
        let checked_out = fs::read(&index).unwrap();
        for (key, value) in [("clean", "git-lfs clean"), ("required", "true")] {
            git(root, &["config", &format!("filter.lfs.{key}"), value]);
        }
        write(root, "b.bin", "many new bytes");
        let kept = kept(root);
        assert_eq!(content(root, &kept, "a.bin"), "pointer");
        assert_eq!(content(root, &kept, "b.bin"), "many new bytes");
        assert_eq!(fs::read(&index).unwrap(), checked_out);
    }

    #[test]
    fn a_repository_that_cannot_be_written_says_so() {
        let dir = repository();
        let root = dir.path();
        // The owner of the machine may write where no mode allows it.
        write(root, ".git/refs/longhaul", "in the way");
        let Outcome::Skipped { why } = keep_now(root) else { panic!("kept") };
        assert!(why.contains("cannot lock ref"), "{why}");
        fs::remove_file(root.join(".git/refs/longhaul")).unwrap();
        write(root, ".git/refs/longhaul.lock", "");
        kept(root);
    }

    #[test]
    fn an_index_that_is_none_is_neither_copied_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("index"), dir.path().join("copy"));
        File::create(&from).unwrap().set_len(MAX_INDEX_BYTES + 1).unwrap();
        assert!(copy_index(&from, &to).unwrap_err().contains("256 MiB"));
        fs::rename(&from, dir.path().join("large")).unwrap();
        std::os::unix::fs::symlink("large", &from).unwrap();
        assert!(copy_index(&from, &to).is_err());
        fs::remove_file(&from).unwrap();
        rustix::fs::mkfifoat(CWD, &from, rustix::fs::Mode::RWXU).unwrap();
        assert!(copy_index(&from, &to).unwrap_err().contains("regular"));
        assert!(!to.exists());
    }

    #[test]
    fn files_and_folders_may_take_each_others_place() {
        let dir = repository();
        let root = dir.path();
        for path in ["file", "folder/x", "linked/x", "same/x", "copy/x"] {
            write(root, path, path);
        }
        commit(root, "before");
        fs::remove_file(root.join("file")).unwrap();
        write(root, "file/inside", "inside");
        fs::remove_dir_all(root.join("folder")).unwrap();
        write(root, "folder", "a file now");
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "x", "secret");
        fs::remove_dir_all(root.join("linked")).unwrap();
        symlink(outside.path(), root.join("linked")).unwrap();
        write(root, "copy/x", "same/x");
        fs::remove_dir_all(root.join("same")).unwrap();
        symlink("copy", root.join("same")).unwrap();
        write(root, "a\nb", "odd name");
        rustix::fs::mkfifoat(CWD, root.join("fifo"), rustix::fs::Mode::RWXU).unwrap();
        let kept = kept(root);
        let listed = git(root, &["ls-tree", "-rz", "--name-only", &kept.commit]);
        let listed: Vec<_> = listed.split_terminator('\0').collect();
        assert_eq!(
            listed,
            [
                "a\nb",
                "code.rs",
                "copy/x",
                "dev-docs/plan.md",
                "file/inside",
                "folder",
                "linked",
                "same"
            ]
        );
    }

    #[test]
    fn a_locked_split_or_ruined_index_is_no_obstacle() {
        let dir = repository();
        let root = dir.path();
        write(root, "code.rs", "work");
        write(root, ".git/index.lock", "");
        assert_eq!(content(root, &kept(root), "code.rs"), "work");
        fs::remove_file(root.join(".git/index.lock")).unwrap();
        git(root, &["update-index", "--split-index"]);
        assert_eq!(content(root, &kept(root), "code.rs"), "work");
        for ruin in ["", "DIRC and then nothing that makes sense at all"] {
            write(root, ".git/index", ruin);
            let kept = kept(root);
            assert_eq!(files(root, &kept), ["code.rs", "dev-docs/plan.md"]);
            assert_eq!(content(root, &kept, "code.rs"), "work");
            assert_eq!(fs::read_to_string(root.join(".git/index")).unwrap(), ruin);
        }
    }

    #[test]
    fn too_much_is_not_kept_and_says_so() {
        let dir = repository();
        let root = dir.path();
        write(root, "a", "12345");
        write(root, "b", "12345");
        let scratch = tempfile::tempdir().unwrap();
        let cycle = Cycle { project: root, run_id: RUN, cycle: 1, scratch: scratch.path() };
        for (bytes, files, words) in [
            (9, 9, Err("more than 0 MiB are new or changed")),
            (10, 1, Err("more than 1 files are new or changed")),
            (10, 2, Ok(())),
        ] {
            let outcome = block_on(keep_within(cycle, Bounds { bytes, files })).map(|_| ());
            assert_eq!(outcome, words.map_err(str::to_owned));
        }
        fs::File::create(root.join("huge")).unwrap().set_len(MAX_BYTES + 1).unwrap();
        let Outcome::Skipped { why } = keep_now(root) else { panic!() };
        assert_eq!(why, "more than 512 MiB are new or changed");
        let gone = Cycle { scratch: Path::new("/nonexistent"), ..cycle };
        let Outcome::Skipped { why } = block_on(keep(gone)) else { panic!() };
        assert!(why.contains("no room"), "{why}");
    }

    #[test]
    fn without_a_work_tree_there_is_nothing_to_keep() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(keep_now(dir.path()), Outcome::NoRepository);
        git(dir.path(), &["init", "-q", "--bare"]);
        assert_eq!(keep_now(dir.path()), Outcome::NoRepository);
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(block_on(forget_old(dir.path(), RUN, scratch.path())), Ok(0));
    }

    fn run(number: u32) -> String {
        uuid::Uuid::from_u128(u128::from(number)).to_string()
    }

    #[test]
    fn refs_of_the_last_five_runs_stay() {
        let dir = repository();
        let root = dir.path();
        let scratch = tempfile::tempdir().unwrap();
        for number in 1..=7 {
            let date = format!("{} +0000", 1_000_000_000 + number);
            let words = ["-c", "user.name=t", "-c", "user.email=t@t", "commit-tree", "-m", "x"];
            let made = std::process::Command::new("git")
                .args(words)
                .arg("HEAD^{tree}")
                .current_dir(root)
                .env("GIT_COMMITTER_DATE", date)
                .output()
                .unwrap();
            let id = String::from_utf8(made.stdout).unwrap();
            for cycle in 1..=2 {
                let name = format!("{REFS}/{}/{cycle}", run(number));
                git(root, &["update-ref", &name, id.trim()]);
            }
        }
        for foreign in ["refs/longhaul/mine/1", "refs/longhaul/x", "refs/heads/longhaul"] {
            git(root, &["update-ref", foreign, "HEAD"]);
        }
        // The oldest is the one that runs now.
        assert_eq!(block_on(forget_old(root, &run(1), scratch.path())), Ok(4));
        let left = git(root, &["for-each-ref", "--format=%(refname)", "refs/longhaul"]);
        let mut expected: Vec<String> = [1, 4, 5, 6, 7]
            .into_iter()
            .flat_map(|number| [1, 2].map(|cycle| format!("{REFS}/{}/{cycle}", run(number))))
            .collect();
        expected.extend(["refs/longhaul/mine/1", "refs/longhaul/x"].map(str::to_owned));
        assert_eq!(left.lines().collect::<Vec<_>>(), expected);
        assert_eq!(block_on(forget_old(root, &run(1), scratch.path())), Ok(0));
    }

    #[test]
    fn a_file_written_in_the_same_tick_as_the_index_is_seen() {
        for _ in 0..20 {
            let dir = repository();
            write(dir.path(), "code.rs", "edoc");
            assert_eq!(content(dir.path(), &kept(dir.path()), "code.rs"), "edoc");
        }
    }
}
