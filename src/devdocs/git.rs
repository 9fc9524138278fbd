//! Git as a child process, for a repository that is not trusted.
//!
//! Hooks, signing, the file-system monitor, transports, prompts and background
//! maintenance are off, and the environment is a short one: nothing of the
//! caller's decides which repository is meant. Filters have names of the
//! configuration's own choosing: see `switched_off`. Nothing that goes wrong here is fatal to a run: a commit is a
//! convenience on top of the copy in the state directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest run of one git command. A commit of three files takes milliseconds;
/// this is for a slow disk.
const GIT_TIMEOUT_MS: u64 = 30_000;
/// Most of a command's output that is kept.
const MAX_OUTPUT_BYTES: u64 = 8 * 1024 * 1024;
/// Most of its complaints that are kept.
const MAX_STDERR_BYTES: u64 = 16 * 1024;

/// How long to go on while somebody else, mostly the session's own git, holds
/// the index.
#[derive(Debug, Clone, Copy)]
struct Patience {
    tries: u32,
    wait_ms: u64,
}

/// Three seconds: a commit of the session's is over by then.
const PATIENCE: Patience = Patience { tries: 10, wait_ms: 300 };

/// Settings that win over the repository's own.
const HARDENING: [&str; 11] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "commit.gpgSign=false",
    "credential.helper=",
    // Git would look into them with filters of their own.
    "diff.ignoreSubmodules=all",
    "status.submoduleSummary=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "core.quotePath=false",
    "advice.addIgnoredFile=false",
];

/// Events for which our commands would run a hook. Newer gits take hooks from
/// the configuration too, and those are not found by `core.hooksPath`.
const HOOK_EVENTS: [&str; 8] = [
    "commit-msg",
    "post-commit",
    "post-index-change",
    "post-rewrite",
    "pre-auto-gc",
    "pre-commit",
    "prepare-commit-msg",
    "reference-transaction",
];

/// Variables that may pass: what any program needs, who commits, and which
/// configuration is the person's. Every other one is dropped.
const PASSED: [&str; 18] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "XDG_CONFIG_HOME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "EMAIL",
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CEILING_DIRECTORIES",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    "GIT_EXEC_PATH",
];

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum CommitOutcome {
    /// Committed.
    Committed {
        /// The commit.
        id: String,
        /// The files in it.
        files: Vec<PathBuf>,
    },
    /// The files are as in the last commit, or ignored.
    NothingToCommit {
        /// Those that git ignores.
        ignored: Vec<PathBuf>,
    },
    /// The project is in no work tree of git.
    NotARepository,
    /// There is no `git`.
    NoGit,
    /// Somebody held the index the whole time.
    Busy,
    /// Git did not end in time, and was killed.
    TimedOut,
    /// Git said no.
    Refused {
        /// Its words, shortened.
        message: String,
    },
}

/// What one git command did.
#[derive(Debug)]
pub(crate) struct Output {
    /// Exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output, whole unless `cut`.
    pub(crate) stdout: Vec<u8>,
    /// Start of standard error.
    pub(crate) stderr: String,
    /// There was more output than is kept; the command was cut short.
    pub(crate) cut: bool,
}

impl Output {
    pub(crate) fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// NUL-separated paths; of a cut output, only the whole ones.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let end = self.stdout.iter().rposition(|byte| *byte == 0).unwrap_or(0);
        let records = self.stdout[..end].split(|byte| *byte == 0);
        records.filter(|r| !r.is_empty()).map(|r| PathBuf::from(OsStr::from_bytes(r)))
    }

    /// Why it failed, in git's words, shortened.
    pub(crate) fn complaint(&self) -> String {
        match self.stderr.lines().find(|line| !line.trim().is_empty()) {
            Some(line) => line.chars().take(300).collect(),
            None => format!("git ended with {:?} and said nothing", self.code),
        }
    }

    pub(crate) fn first_line(&self) -> String {
        String::from_utf8_lossy(&self.stdout).lines().next().unwrap_or_default().trim().to_owned()
    }
}

/// Why a git command did not run to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    NoGit,
    TimedOut,
    Io(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::NoGit => f.write_str("there is no git"),
            Problem::TimedOut => f.write_str("git did not answer in time"),
            Problem::Io(message) => write!(f, "git failed: {message}"),
        }
    }
}

impl From<Problem> for CommitOutcome {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::NoGit => CommitOutcome::NoGit,
            Problem::TimedOut => CommitOutcome::TimedOut,
            Problem::Io(message) => CommitOutcome::Refused { message },
        }
    }
}

/// A key of git's configuration, and its value.
pub(crate) type Setting = (OsString, String);

/// One git command, about to be run in a folder.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    root: &'a Path,
    args: Vec<OsString>,
    settings: Vec<Setting>,
    variables: Vec<(&'static str, OsString)>,
    input: Option<File>,
}

impl<'a> Call<'a> {
    /// Git with these arguments, in `root`.
    pub(crate) fn new(root: &'a Path, args: Vec<OsString>) -> Self {
        Self { root, args, settings: Vec::new(), variables: Vec::new(), input: None }
    }

    /// Settings for this command, over the repository's own.
    pub(crate) fn settings(mut self, settings: impl IntoIterator<Item = Setting>) -> Self {
        self.settings.extend(settings);
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Gives it a file to read as standard input.
    pub(crate) fn input(mut self, input: File) -> Self {
        self.input = Some(input);
        self
    }

    /// The command line and environment; of `environment`, longhaul's own, little
    /// is passed on.
    fn command(
        self,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> std::process::Command {
        let mut command = std::process::Command::new("git");
        command.env_clear();
        command.envs(environment.filter(|(name, _)| PASSED.iter().any(|kept| *name == **kept)));
        command
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("GIT_EDITOR", "true")
            .env("GIT_ASKPASS", "true")
            // No name of a transport: nothing here needs one.
            .env("GIT_ALLOW_PROTOCOL", "none")
            // Reading must not take the lock that the session's own git may want.
            .env("GIT_OPTIONAL_LOCKS", "0")
            // In a partial clone a missing object would be fetched.
            .env("GIT_NO_LAZY_FETCH", "1")
            .envs(self.variables)
            .arg("--no-pager");
        let events = HOOK_EVENTS.map(|event| format!("hook.{event}.enabled=false"));
        for setting in HARDENING.map(str::to_owned).into_iter().chain(events) {
            command.args(["-c", &setting]);
        }
        // A key of the repository's choosing may hold a "=", so not with "-c".
        command.env("GIT_CONFIG_COUNT", self.settings.len().to_string());
        for (number, (key, value)) in self.settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        command.args(self.args).current_dir(self.root);
        command.stdin(self.input.map_or_else(Stdio::null, Stdio::from));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it. If this future is dropped or time is up, git is killed, with
    /// what it started in its process group.
    pub(crate) async fn run(self) -> Result<Output, Problem> {
        let mut command = self.command(std::env::vars_os());
        command.process_group(0);
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn().map_err(|err| match err.kind() {
            // The folder may be missing too, but then there is nothing to commit either.
            std::io::ErrorKind::NotFound => Problem::NoGit,
            _ => Problem::Io(err.to_string()),
        })?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Problem::Io(String::from("git has no output")));
        };
        let work = async {
            let read = async |pipe: &mut (dyn AsyncRead + Send + Unpin), most| {
                let mut bytes = Vec::new();
                pipe.take(most).read_to_end(&mut bytes).await.map(|_| bytes)
            };
            // Each pipe is closed as soon as enough is read, so that a command with
            // more to say ends instead of waiting for a reader.
            let (out, err) =
                tokio::try_join!(async { read(&mut { stdout }, MAX_OUTPUT_BYTES).await }, async {
                    read(&mut { stderr }, MAX_STDERR_BYTES).await
                },)?;
            let cut = out.len() as u64 == MAX_OUTPUT_BYTES;
            let code = child.wait().await?.code();
            let stderr = String::from_utf8_lossy(&err).trim().to_owned();
            Ok::<_, std::io::Error>(Output { code, stdout: out, stderr, cut })
        };
        match tokio::time::timeout(Duration::from_millis(GIT_TIMEOUT_MS), work).await {
            Ok(done) => {
                let output = done.map_err(|err| Problem::Io(err.to_string()))?;
                group.ended();
                Ok(output)
            }
            Err(_) => Err(Problem::TimedOut),
        }
    }
}

/// A git command and what it started, such as a filter; killed when dropped
/// before it ended.
struct Group(Option<Pid>);

impl Group {
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Runs git in `root`, as [`Call::run`] does.
pub(crate) async fn run(root: &Path, args: &[OsString]) -> Result<Output, Problem> {
    Call::new(root, args.to_vec()).run().await
}

/// Which filters are switched off. Hooks always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filters {
    /// All: the bytes are taken as they lie there.
    All,
    /// Those that the repository's own configuration speaks of, which a session can
    /// write; and git refuses the files that they are for. What is committed raw may
    /// be what a filter was to encrypt.
    OfTheRepository,
}

/// Settings that switch off the programs that the configuration names.
pub(crate) async fn switched_off(root: &Path, filters: Filters) -> Result<Vec<Setting>, Problem> {
    const SCOPE: &str = "--show-scope";
    const NAMES: [&str; 5] = ["config", "--null", SCOPE, "--name-only", "--get-regexp"];
    const PROGRAMS: &str = r"^(hook|filter)\.";
    let mut words = [&NAMES[..], &[PROGRAMS]].concat();
    let mut named = run(root, &args(&words, &[])).await?;
    // A git older than 2.26 does not tell whose setting it is.
    let has_scopes = named.code != Some(129);
    if !has_scopes {
        words.retain(|word| *word != SCOPE);
        named = run(root, &args(&words, &[])).await?;
    }
    match named.code {
        _ if named.cut => return Err(Problem::Io("its configuration names too much".into())),
        // It names none.
        Some(0 | 1) => {}
        _ => return Err(Problem::Io(named.complaint())),
    }
    let mut off = std::collections::BTreeSet::new();
    let mut told = named.paths();
    while let Some(mut key) = told.next() {
        let mut is_persons = false;
        if has_scopes {
            is_persons = key.as_os_str() == "global" || key.as_os_str() == "system";
            let Some(next) = told.next() else { break };
            key = next;
        }
        let key = key.as_os_str().as_bytes();
        let Some(dot) = key.iter().rposition(|byte| *byte == b'.') else { continue };
        let name = &key[..dot];
        let settings: &[(&str, &str)] = match (name.starts_with(b"hook."), filters) {
            (true, _) => &[("enabled", "false"), ("event", "")],
            (false, Filters::All) => {
                &[("clean", ""), ("smudge", ""), ("process", ""), ("required", "false")]
            }
            (false, Filters::OfTheRepository) if is_persons => &[],
            (false, Filters::OfTheRepository) => {
                &[("clean", ""), ("smudge", ""), ("process", ""), ("required", "true")]
            }
        };
        for (setting, value) in settings {
            let key = [name, b".", setting.as_bytes()].concat();
            off.insert((OsStr::from_bytes(&key).to_owned(), (*value).to_owned()));
        }
    }
    Ok(off.into_iter().collect())
}

/// Arguments from words and paths; the paths stand after `--`.
pub(crate) fn args(words: &[&str], paths: &[PathBuf]) -> Vec<OsString> {
    let mut args: Vec<OsString> = words.iter().map(OsString::from).collect();
    if !paths.is_empty() {
        args.push("--".into());
        args.extend(paths.iter().map(OsString::from));
    }
    args
}

/// Commits the present content of `files`, and of nothing else: what the
/// person has staged stays staged. Files that do not exist are left out.
pub async fn commit_checkpoint(root: &Path, files: &[PathBuf], message: &str) -> CommitOutcome {
    match commit(root, files, message, PATIENCE).await {
        Ok(outcome) => outcome,
        Err(problem) => problem.into(),
    }
}

async fn commit(
    root: &Path,
    files: &[PathBuf],
    message: &str,
    patience: Patience,
) -> Result<CommitOutcome, Problem> {
    let inside = run(root, &args(&["rev-parse", "--is-inside-work-tree"], &[])).await?;
    if !inside.ok() && inside.stderr.contains("dubious ownership") {
        return Ok(refused(&inside));
    }
    if inside.first_line() != "true" {
        return Ok(CommitOutcome::NotARepository);
    }
    let is_file = |path: &&PathBuf| {
        std::fs::symlink_metadata(root.join(path)).is_ok_and(|meta| meta.is_file())
    };
    let files: Vec<PathBuf> = files.iter().filter(is_file).cloned().collect();
    if files.is_empty() {
        return Ok(CommitOutcome::NothingToCommit { ignored: Vec::new() });
    }
    let off = switched_off(root, Filters::OfTheRepository).await?;
    let words = args(&["ls-files", "-z", "-m", "-o", "--exclude-standard"], &files);
    let changed = Call::new(root, words).settings(off.iter().cloned()).run().await?;
    if !changed.ok() {
        return Ok(refused(&changed));
    }
    let words = ["diff", "--cached", "--name-only", "--relative", "--no-renames", "-z"];
    let staged = run(root, &args(&words, &files)).await?;
    let mut touched: Vec<PathBuf> = changed.paths().chain(staged.paths()).collect();
    touched.sort();
    touched.dedup();
    if touched.is_empty() {
        let words = ["ls-files", "-z", "-o", "-i", "--exclude-standard"];
        let ignored = run(root, &args(&words, &files)).await?.paths().collect();
        return Ok(CommitOutcome::NothingToCommit { ignored });
    }
    // A file that git does not know cannot be named to `commit --only`.
    let add = args(&["add", "--intent-to-add"], &touched);
    let added = run_unlocked(root, patience, &add, &off).await?;
    if let Some(outcome) = failure(&added) {
        return Ok(outcome);
    }
    let mut words = identity(root).await?;
    words.extend(["commit", "--only", "--no-verify", "--no-gpg-sign", "--quiet"]);
    words.extend(["--cleanup=whitespace", "-m", message]);
    let committed = run_unlocked(root, patience, &args(&words, &touched), &off).await?;
    if let Some(outcome) = failure(&committed) {
        return Ok(outcome);
    }
    let id = run(root, &args(&["rev-parse", "HEAD"], &[])).await?.first_line();
    Ok(CommitOutcome::Committed { id, files: touched })
}

/// The lines of `git status --short`, at most `most`; empty without a
/// repository or when git fails.
pub async fn short_status(root: &Path, most: usize) -> Vec<String> {
    let words = ["status", "--short", "--untracked-files=normal", "--ignore-submodules=all"];
    // The session may have named programs in .git/config just to have them run here.
    let Ok(off) = switched_off(root, Filters::All).await else {
        return Vec::new();
    };
    let Ok(output) = Call::new(root, args(&words, &[])).settings(off).run().await else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout).lines().take(most).map(str::to_owned).collect()
}

/// Runs a command that writes the index, again while the index is locked.
async fn run_unlocked(
    root: &Path,
    patience: Patience,
    args: &[OsString],
    settings: &[Setting],
) -> Result<Output, Problem> {
    let mut tries = 1;
    loop {
        let output = Call::new(root, args.to_vec()).settings(settings.to_vec()).run().await?;
        if tries >= patience.tries || !is_locked(&output) {
            return Ok(output);
        }
        tries += 1;
        tokio::time::sleep(Duration::from_millis(patience.wait_ms)).await;
    }
}

fn is_locked(output: &Output) -> bool {
    !output.ok() && output.stderr.contains(".lock': File exists")
}

fn failure(output: &Output) -> Option<CommitOutcome> {
    if output.ok() {
        return None;
    }
    Some(if is_locked(output) { CommitOutcome::Busy } else { refused(output) })
}

fn refused(output: &Output) -> CommitOutcome {
    CommitOutcome::Refused { message: output.complaint() }
}

/// Settings for a committer where the person has none, so that the commit does
/// not fail on a fresh machine.
async fn identity(root: &Path) -> Result<Vec<&'static str>, Problem> {
    let mut words = Vec::new();
    for (key, variables, setting) in [
        ("user.name", ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"], "user.name=longhaul"),
        (
            "user.email",
            ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"],
            "user.email=longhaul@localhost",
        ),
    ] {
        let set = variables.iter().all(|name| std::env::var_os(name).is_some());
        if !set && run(root, &args(&["config", "--get", key], &[])).await?.first_line().is_empty() {
            words.extend(["-c", setting]);
        }
    }
    Ok(words)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::clock::Timestamp;

    /// A repository with one commit.
    pub(crate) fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q", "-b", "main"]);
        std::fs::create_dir(dir.path().join("dev-docs")).unwrap();
        std::fs::write(dir.path().join("dev-docs/plan.md"), "plan").unwrap();
        std::fs::write(dir.path().join("code.rs"), "code").unwrap();
        git(dir.path(), &["add", "."]);
        git(dir.path(), &["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "first"]);
        dir
    }

    pub(crate) fn git(root: &Path, words: &[&str]) -> String {
        let mut command = Call::new(root, args(words, &[])).command(std::env::vars_os());
        let output = command.env("GIT_ALLOW_PROTOCOL", "file").output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn commit_files(root: &Path, files: &[&str]) -> CommitOutcome {
        let files: Vec<_> = files.iter().map(PathBuf::from).collect();
        block_on(commit_checkpoint(root, &files, "longhaul: checkpoint\n\n# cycle 2"))
    }

    #[test]
    fn only_the_files_named_are_committed_and_staged_work_stays_staged() {
        let dir = repository();
        let root = dir.path();
        std::fs::write(root.join("code.rs"), "staged").unwrap();
        git(root, &["add", "code.rs"]);
        std::fs::write(root.join("dev-docs/plan.md"), "new plan").unwrap();
        std::fs::write(root.join("dev-docs/tasks.md"), "- [ ] a").unwrap();
        let outcome =
            commit_files(root, &["dev-docs/plan.md", "dev-docs/tasks.md", "dev-docs/none.md"]);
        let CommitOutcome::Committed { id, files } = outcome else { panic!("{outcome:?}") };
        assert_eq!(id, git(root, &["rev-parse", "HEAD"]).trim());
        assert_eq!(files.len(), 2);
        let shown = git(root, &["show", "--name-only", "--format=%B", "HEAD"]);
        let lines: Vec<_> = shown.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(
            lines,
            ["longhaul: checkpoint", "# cycle 2", "dev-docs/plan.md", "dev-docs/tasks.md"]
        );
        assert_eq!(git(root, &["status", "--porcelain"]), "M  code.rs\n");
        let again = commit_files(root, &["dev-docs/plan.md"]);
        assert_eq!(again, CommitOutcome::NothingToCommit { ignored: vec![] });
    }

    #[test]
    fn a_repository_below_its_root_and_one_without_commits_work() {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q"]);
        let root = dir.path().join("sub");
        std::fs::create_dir(&root).unwrap();
        // A name that git would take for a pattern.
        std::fs::write(root.join("*.md"), "x").unwrap();
        std::fs::write(root.join("other.md"), "x").unwrap();
        let outcome = commit_files(&root, &["*.md"]);
        let CommitOutcome::Committed { files, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(files, [PathBuf::from("*.md")]);
        std::fs::write(root.join("b.md"), "x").unwrap();
        git(&root, &["add", "b.md"]);
        let outcome = commit_files(&root, &["b.md"]);
        assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
    }

    #[test]
    fn hooks_and_signing_of_the_repository_do_not_run() {
        let dir = repository();
        let root = dir.path();
        let trace = root.join("trace");
        let hook = format!("#!/bin/sh\necho $0 >> {}\nexit 1\n", trace.display());
        for name in ["pre-commit", "prepare-commit-msg", "commit-msg", "post-commit"] {
            use std::os::unix::fs::PermissionsExt;
            let path = root.join(".git/hooks").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &hook).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let program = root.join(".git/hooks/pre-commit");
        for key in ["gpg.program", "core.fsmonitor", "core.editor"] {
            git(root, &["config", key, program.to_str().unwrap()]);
        }
        git(root, &["config", "commit.gpgSign", "true"]);
        std::fs::write(root.join("dev-docs/plan.md"), "new").unwrap();
        let outcome = commit_files(root, &["dev-docs/plan.md"]);
        assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
        assert!(!trace.exists(), "{}", std::fs::read_to_string(&trace).unwrap());
    }

    #[test]
    fn programs_that_the_configuration_names_are_switched_off() {
        let dir = repository();
        for (key, value) in [
            ("hook.my.lint.command", "x"),
            ("hook.my.lint.event", "pre-commit"),
            ("hook.a=b.command", "x"),
            ("filter.lfs.clean", "x"),
            ("other.key", "x"),
        ] {
            git(dir.path(), &["config", key, value]);
        }
        let off = |filters| {
            let off = block_on(switched_off(dir.path(), filters)).unwrap();
            let text = |(key, value): Setting| format!("{}={value}", key.to_str().unwrap());
            off.into_iter().map(text).collect::<Vec<_>>()
        };
        // Filters of whoever runs this test are listed as well.
        for (filters, required) in [(Filters::OfTheRepository, true), (Filters::All, false)] {
            let off = off(filters);
            let required = format!("filter.lfs.required={required}");
            for setting in
                ["hook.my.lint.enabled=false", "hook.a=b.event=", "filter.lfs.clean=", &required]
            {
                assert!(off.iter().any(|off| off == setting), "{setting}: {off:?}");
            }
        }
    }

    /// A program that leaves a trace, as `program` in a repository's `.git`; gives its
    /// path and the trace's.
    pub(crate) fn planted(root: &Path) -> (String, PathBuf) {
        let (program, trace) = (root.join(".git/program"), root.join(".git/trace"));
        let script = format!("#!/bin/sh\necho \"$0 $*\" >> {}\ncat\n", trace.display());
        // Written by another process: see the tests of doctor.
        let made = std::process::Command::new("sh")
            .args(["-c", "printf %s \"$2\" > \"$1\"; chmod 755 \"$1\"", "sh"])
            .arg(&program)
            .arg(script)
            .status();
        assert!(made.unwrap().success());
        (program.to_str().unwrap().to_owned(), trace)
    }

    #[test]
    fn nothing_that_the_repository_names_runs_in_a_commit_or_a_status() {
        let dir = repository();
        let root = dir.path();
        let (program, trace) = planted(root);
        // A repository within, with programs of its own, that is a submodule.
        let inner = root.join("inner");
        std::fs::create_dir(&inner).unwrap();
        git(&inner, &["init", "-q"]);
        std::fs::write(inner.join("f"), "x").unwrap();
        git(&inner, &["add", "."]);
        git(&inner, &["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "first"]);
        std::fs::write(inner.join(".gitattributes"), "* filter=own\n").unwrap();
        std::fs::write(inner.join("f"), "y").unwrap();
        git(&inner, &["config", "filter.own.clean", &program]);
        git(&inner, &["config", "core.fsmonitor", &program]);
        let id = git(&inner, &["rev-parse", "HEAD"]);
        git(
            root,
            &["update-index", "--add", "--cacheinfo", &format!("160000,{},inner", id.trim())],
        );
        std::fs::write(root.join(".git/info/attributes"), "*.rs filter=evil diff=evil\n").unwrap();
        for key in [
            "filter.evil.clean",
            "diff.evil.textconv",
            "diff.evil.command",
            "diff.external",
            "core.pager",
            "core.askPass",
            "core.sshCommand",
            "core.fsmonitor",
            "core.editor",
            "credential.helper",
            "gpg.program",
            "alias.commit",
            "core.alternateRefsCommand",
        ] {
            git(root, &["config", key, &program]);
        }
        std::fs::write(root.join("code.rs"), "new").unwrap();
        std::fs::write(root.join("dev-docs/plan.md"), "new").unwrap();
        assert_eq!(block_on(short_status(root, 9))[0], " M code.rs");
        let outcome = commit_files(root, &["dev-docs/plan.md"]);
        assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
        // What it is for is not committed without it.
        let CommitOutcome::Refused { message } = commit_files(root, &["code.rs"]) else {
            panic!("committed raw")
        };
        assert!(message.contains("filter 'evil'"), "{message}");
        assert!(!trace.exists(), "{}", std::fs::read_to_string(&trace).unwrap());
    }

    #[test]
    fn what_cannot_be_committed_is_an_outcome() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "x").unwrap();
        assert_eq!(commit_files(dir.path(), &["f"]), CommitOutcome::NotARepository);

        let dir = repository();
        std::fs::write(dir.path().join(".gitignore"), "*.tmp\n").unwrap();
        std::fs::write(dir.path().join("f.tmp"), "x").unwrap();
        let ignored = vec![PathBuf::from("f.tmp")];
        assert_eq!(
            commit_files(dir.path(), &["f.tmp"]),
            CommitOutcome::NothingToCommit { ignored }
        );
    }

    #[test]
    fn a_held_index_is_reported_after_some_tries() {
        let dir = repository();
        std::fs::write(dir.path().join(".git/index.lock"), "").unwrap();
        std::fs::write(dir.path().join("dev-docs/plan.md"), "new").unwrap();
        let files = [PathBuf::from("dev-docs/plan.md")];
        let patience = Patience { tries: 2, wait_ms: 1 };
        let outcome = block_on(commit(dir.path(), &files, "m", patience)).unwrap();
        assert_eq!(outcome, CommitOutcome::Busy);
        std::fs::remove_file(dir.path().join(".git/index.lock")).unwrap();
        let outcome = commit_files(dir.path(), &["dev-docs/plan.md"]);
        assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
    }

    #[test]
    fn a_person_without_a_name_gets_one() {
        let dir = repository();
        git(dir.path(), &["config", "user.name", ""]);
        git(dir.path(), &["config", "user.email", ""]);
        std::fs::write(dir.path().join("dev-docs/plan.md"), "new").unwrap();
        let outcome = commit_files(dir.path(), &["dev-docs/plan.md"]);
        assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
        let author = git(dir.path(), &["log", "-1", "--format=%an <%ae>"]);
        assert_eq!(author.trim(), "longhaul <longhaul@localhost>");
    }

    #[test]
    fn a_flood_of_output_is_cut_and_does_not_hang() {
        let dir = repository();
        let size = MAX_OUTPUT_BYTES as usize * 2;
        std::fs::write(dir.path().join("big"), vec![b'x'; size]).unwrap();
        git(dir.path(), &["add", "big"]);
        let output = block_on(run(dir.path(), &args(&["show", ":big"], &[]))).unwrap();
        assert!(output.cut && !output.ok());
        assert_eq!(output.stdout.len() as u64, MAX_OUTPUT_BYTES);
    }

    #[test]
    fn what_git_started_ends_with_it() {
        let dir = repository();
        let told = dir.path().join("pid");
        let alias = format!("!echo $$ > {0}.new; mv {0}.new {0}; sleep 3600", told.display());
        block_on(async {
            let hanging = Call::new(dir.path(), args(&["hang"], &[]))
                .settings([("alias.hang".into(), alias)]);
            let mut hanging = Box::pin(hanging.run());
            while !told.exists() {
                let tick = tokio::time::sleep(Duration::from_millis(5));
                tokio::select! {
                    _ = &mut hanging => panic!("it ended"),
                    () = tick => {}
                }
            }
        });
        let pid = std::fs::read_to_string(&told).unwrap();
        // Orphaned and dead, it waits for whoever reaps it.
        let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        let started = Timestamp::now();
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Timestamp::now().ms_since(started) < 20_000, "it lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_status_is_short() {
        let dir = repository();
        std::fs::write(dir.path().join("code.rs"), "new").unwrap();
        std::fs::write(dir.path().join("other.rs"), "new").unwrap();
        assert_eq!(block_on(short_status(dir.path(), 9)), [" M code.rs", "?? other.rs"]);
        assert_eq!(block_on(short_status(dir.path(), 1)).len(), 1);
        assert!(block_on(short_status(Path::new("/"), 9)).is_empty());
    }

    #[test]
    fn little_of_the_environment_is_passed_on() {
        let variables =
            ["GIT_DIR", "GIT_INDEX_FILE", "GIT_SSH", "GIT_AUTHOR_NAME", "HOME", "SECRET"]
                .map(|name| (OsString::from(name), OsString::from("x")));
        let command = Call::new(Path::new("/"), Vec::new()).command(variables.into_iter());
        let given: Vec<_> = command
            .get_envs()
            .filter(|(_, value)| *value == Some(OsStr::new("x")))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(given, ["GIT_AUTHOR_NAME", "HOME"]);
        let count = command.get_envs().find(|(name, _)| *name == "GIT_CONFIG_COUNT");
        assert_eq!(count.and_then(|(_, value)| value), Some(OsStr::new("0")), "set anew");
    }
}
