//! Where the `claude` CLI is, and how to get it: a given path, a private
//! install of the pinned version, or one on `PATH`.
//!
//! The npm package is a small wrapper; the CLI itself is a native binary in an
//! optional dependency named after platform and C library
//! (`@anthropic-ai/claude-code-linux-x64`, `…-musl`). The wrapper's postinstall
//! links that binary over a placeholder. Install scripts do not run everywhere,
//! so they are not asked to: the platform package's binary is used directly.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// The version the demo and the tests install.
pub const PINNED_VERSION: &str = crate::doctor::TESTED_CLI_VERSION;

/// The npm package of the CLI.
const PACKAGE: &str = "@anthropic-ai/claude-code";
/// `claude --version` takes 20 ms warm; a cold disk under load gets this long.
const VERSION_TIMEOUT: Duration = Duration::from_secs(30);
/// Lines of npm's output shown when it fails.
const NPM_TAIL_LINES: usize = 8;

/// Where a CLI was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The caller named it.
    Given,
    /// On `PATH`.
    Path,
    /// The private install of [`PINNED_VERSION`].
    Private,
}

/// A CLI that answered `--version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cli {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// What it says it is, `2.1.329` for one.
    pub version: String,
    /// Where it was found.
    pub origin: Origin,
}

/// The CLI the caller named; an error if it does not work.
pub fn given(program: &Path) -> Result<Cli> {
    check(program, Origin::Given).ok_or_else(|| {
        Error::new(
            ErrorKind::NeedsPerson,
            format!("{} is not a working claude CLI", program.display()),
        )
        .hint("it must be executable and answer `--version`")
    })
}

/// The first working `claude` on `path`, a `PATH` value.
pub fn on_path(path: Option<&OsStr>) -> Option<Cli> {
    programs_named("claude", path).find_map(|program| check(&program, Origin::Path))
}

/// The private install under `dir`, if it is there and works.
pub fn private(dir: &Path) -> Option<Cli> {
    working_in(&dir.join(PINNED_VERSION))
}

/// The private install under `dir`, made with npm (looked up on `path`) if it
/// is not there. Several processes may ask at once: one installs, the others
/// wait for it. A half-finished install is never used.
pub fn private_or_install(dir: &Path, path: Option<&OsStr>) -> Result<Cli> {
    if let Some(cli) = private(dir) {
        return Ok(cli);
    }
    let failed = |what: &str, err| {
        Error::io(
            ErrorKind::NeedsPerson,
            format!("cannot {what} for the claude CLI in {}", dir.display()),
            err,
        )
    };
    fs::create_dir_all(dir).map_err(|err| failed("make the folder", err))?;
    let lock =
        File::create(dir.join(".install.lock")).map_err(|err| failed("make the lock", err))?;
    lock.lock().map_err(|err| failed("take the lock", err))?;
    // Whoever held the lock before may have installed it.
    if let Some(cli) = private(dir) {
        return Ok(cli);
    }
    remove_leftovers(dir).map_err(|err| failed("clear the folder", err))?;
    let npm = programs_named("npm", path).next().ok_or_else(no_npm)?;
    let staging = tempfile::Builder::new()
        .prefix(".staging-")
        .tempdir_in(dir)
        .map_err(|err| failed("make a staging folder", err))?;
    run_npm(&npm, staging.path(), path)?;
    if working_in(staging.path()).is_none() {
        return Err(Error::new(
            ErrorKind::NeedsPerson,
            format!(
                "npm installed {PACKAGE}@{PINNED_VERSION}, but no binary in it runs on this machine"
            ),
        )
        .hint("check that optional dependencies are not switched off (`npm config get omit`)"));
    }
    let target = dir.join(PINNED_VERSION);
    fs::rename(staging.path(), &target)
        .map_err(|err| failed("move the install into place", err))?;
    // It has moved: there is nothing left to delete at the old name.
    let _ = staging.keep();
    working_in(&target)
        .ok_or_else(|| Error::internal(format!("{} stopped working when moved", target.display())))
}

/// What the demo uses: `given`, else `PATH`, else the private install.
pub fn for_demo(chosen: Option<&Path>, dir: &Path, path: Option<&OsStr>) -> Result<Cli> {
    match chosen {
        Some(program) => given(program),
        None => on_path(path).map_or_else(|| private_or_install(dir, path), Ok),
    }
}

/// What the tests use: `given`, else the pinned version and no other.
pub fn for_tests(chosen: Option<&Path>, dir: &Path, path: Option<&OsStr>) -> Result<Cli> {
    match chosen {
        Some(program) => given(program),
        None => private_or_install(dir, path),
    }
}

fn no_npm() -> Error {
    Error::new(ErrorKind::NeedsPerson, "neither a working claude CLI nor npm was found on PATH")
        .hint(format!("install Claude Code, for instance with `npm install -g {PACKAGE}`"))
        .hint("or install Node.js with npm: longhaul then fetches a private copy itself")
}

/// Removes what an install that was killed, or a ruined one, left behind.
/// Called with the lock held.
fn remove_leftovers(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == PINNED_VERSION || name.to_string_lossy().starts_with(".staging-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn run_npm(npm: &Path, prefix: &Path, path: Option<&OsStr>) -> Result<()> {
    let mut command = Command::new(npm);
    command.args([
        "install",
        "--no-fund",
        "--no-audit",
        "--ignore-scripts",
        "--include=optional",
        "--prefix",
    ]);
    command
        .arg(prefix)
        .arg(format!("{PACKAGE}@{PINNED_VERSION}"))
        .current_dir(prefix)
        .stdin(Stdio::null());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = command.output().map_err(|err| {
        Error::new(ErrorKind::NeedsPerson, format!("cannot run {}", npm.display())).caused_by(err)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(NPM_TAIL_LINES)..].join("\n  ");
    let message =
        format!("npm could not install {PACKAGE}@{PINNED_VERSION} ({}):\n  {tail}", output.status);
    Err(Error::new(ErrorKind::NeedsPerson, message)
        .hint("this step alone needs the network; afterwards everything runs offline")
        .hint("a claude CLI on PATH is used instead if there is one"))
}

/// The working CLI of an npm prefix; the pinned version or none.
fn working_in(prefix: &Path) -> Option<Cli> {
    let scope = prefix.join("node_modules/@anthropic-ai");
    let mut candidates: Vec<PathBuf> = fs::read_dir(&scope)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|package| {
            package.file_name().is_some_and(|n| n.to_string_lossy().starts_with("claude-code-"))
        })
        .map(|package| package.join("claude"))
        .collect();
    candidates.sort();
    candidates.push(scope.join("claude-code/bin/claude.exe"));
    candidates
        .iter()
        .filter_map(|program| check(program, Origin::Private))
        .find(|cli| cli.version == PINNED_VERSION)
}

fn programs_named(name: &str, path: Option<&OsStr>) -> impl Iterator<Item = PathBuf> {
    let folders: Vec<PathBuf> =
        path.map(|p| std::env::split_paths(p).collect()).unwrap_or_default();
    let name = name.to_owned();
    folders
        .into_iter()
        .filter(|folder| folder.is_absolute())
        .map(move |folder| folder.join(&name))
        .filter(|file| {
            file.metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

/// Asks a program for its version, in an empty home; `None` if it is not a CLI.
fn check(program: &Path, origin: Origin) -> Option<Cli> {
    let program = std::path::absolute(program).ok()?;
    let home = tempfile::tempdir().ok()?;
    let mut child = Command::new(&program)
        .arg("--version")
        .env_clear()
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stdout.read_to_string(&mut text);
        let _ = sender.send(text);
    });
    let text = receiver.recv_timeout(VERSION_TIMEOUT);
    if text.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().ok()?;
    let version = version_in(&text.ok()?)?;
    status.success().then_some(Cli { program, version, origin })
}

/// `2.1.329 (Claude Code)` -> `2.1.329`.
fn version_in(text: &str) -> Option<String> {
    let version = text.trim().strip_suffix("(Claude Code)")?.trim();
    let numeric = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = version.split('.').collect();
    (parts.len() == 3 && numeric(parts[0]) && numeric(parts[1])).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    /// Written by another process: a descriptor open for writing here could
    /// leak into a child that another test forks, and make the script "busy".
    fn script(file: &Path, text: &str) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$2" && chmod 755 "$2""#;
        let status = Command::new("sh").args(["-c", write, "sh", text]).arg(file).status().unwrap();
        assert!(status.success());
    }

    /// A `PATH` with `dir` first, so that the scripts find their tools.
    fn path_with(dir: &Path) -> OsString {
        let mut path = dir.as_os_str().to_owned();
        path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        path
    }

    /// An npm that counts its calls and lays out a package which runs.
    fn fake_npm(bin: &Path, calls: &Path) {
        let body = format!(
            r#"echo call >> {calls}
while [ "$1" != --prefix ]; do shift; done
p="$2/node_modules/@anthropic-ai/claude-code-linux-x64"
mkdir -p "$p" && printf '#!/bin/sh\necho "{PINNED_VERSION} (Claude Code)"\n' > "$p/claude" && chmod +x "$p/claude""#,
            calls = calls.display()
        );
        script(&bin.join("npm"), &body);
    }

    #[test]
    fn only_claude_codes_version_line_is_a_version() {
        assert_eq!(version_in("2.1.329 (Claude Code)\n").as_deref(), Some("2.1.329"));
        for other in ["", "2.1.329", "v20.0.0", "x.y.z (Claude Code)", "2.1 (Claude Code)"] {
            assert_eq!(version_in(other), None, "{other}");
        }
    }

    #[test]
    fn path_is_searched_past_programs_that_do_not_work() {
        let dir = tempfile::tempdir().unwrap();
        script(&dir.path().join("broken/claude"), "exit 1");
        script(&dir.path().join("good/claude"), "echo '2.0.1 (Claude Code)'");
        let path = std::env::join_paths([
            dir.path().join("none"),
            dir.path().join("broken"),
            dir.path().join("good"),
        ]);
        let cli = on_path(Some(&path.unwrap())).unwrap();
        assert_eq!((cli.program, cli.version.as_str()), (dir.path().join("good/claude"), "2.0.1"));
    }

    #[test]
    fn many_at_once_install_once() {
        let dir = tempfile::tempdir().unwrap();
        let (calls, bin, to) =
            (dir.path().join("calls"), dir.path().join("bin"), dir.path().join("to"));
        fake_npm(&bin, &calls);
        let path = path_with(&bin);
        let found: Vec<Cli> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| private_or_install(&to, Some(&path)).unwrap()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(
            found.iter().all(|cli| cli.version == PINNED_VERSION
                && cli.program.starts_with(to.join(PINNED_VERSION)))
        );
        assert_eq!(fs::read_to_string(&calls).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_half_or_ruined_install_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (calls, bin, to) =
            (dir.path().join("calls"), dir.path().join("bin"), dir.path().join("to"));
        fake_npm(&bin, &calls);
        let ruined =
            to.join(PINNED_VERSION).join("node_modules/@anthropic-ai/claude-code-linux-x64/claude");
        script(&ruined, "exit 127");
        fs::create_dir_all(to.join(".staging-old/node_modules")).unwrap();
        assert_eq!(private(&to), None);
        private_or_install(&to, Some(&path_with(&bin))).unwrap();
        assert!(private(&to).is_some());
        assert!(!to.join(".staging-old").exists());
    }

    #[test]
    fn without_npm_the_error_says_what_to_install() {
        let dir = tempfile::tempdir().unwrap();
        let err = for_demo(None, &dir.path().join("to"), Some(dir.path().as_os_str())).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::NeedsPerson);
        assert!(
            err.render().contains("npm install -g @anthropic-ai/claude-code"),
            "{}",
            err.render()
        );
    }

    #[test]
    fn npms_own_words_are_shown_when_it_fails() {
        let dir = tempfile::tempdir().unwrap();
        script(&dir.path().join("bin/npm"), "echo 'npm error network is unreachable' >&2; exit 1");
        let to = dir.path().join("to");
        let err = private_or_install(&to, Some(&path_with(&dir.path().join("bin")))).unwrap_err();
        assert!(err.message().contains("network is unreachable"), "{err}");
        assert!(private(&to).is_none());
    }
}
