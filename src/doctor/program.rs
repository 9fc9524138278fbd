//! The CLI: is it there, does it run, which release is it?

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::{Finding, Patient, TESTED_CLI_VERSION, shown};
use crate::claude_json::Env;
use crate::clock::Timestamp;
use crate::config::{Config, PermissionPolicy, Places};
use crate::{Error, ErrorKind, Result};

/// The oldest release that is not warned about.
const OLDEST_CLI: [u64; 3] = [2, 1, 200];
/// `claude --version` takes about 10 ms; a wrapper may be slower.
const VERSION_TIMEOUT_MS: u64 = 10_000;
/// The answer is one line.
const VERSION_MAX_BYTES: u64 = 4096;
const INSTALL: &str = "install it with `npm install -g @anthropic-ai/claude-code`, or name its path in claude.command";

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = cli(patient);
    findings.extend(search_path(patient));
    findings.extend(helpers(patient));
    findings
}

/// What the person wants started in the night, beside the CLI.
fn helpers(patient: &Patient<'_>) -> Vec<Finding> {
    let config = patient.config;
    let notify = check_notify_command(config, patient.own_env);
    let decider = match &config.permissions.policy {
        PermissionPolicy::Command(argv) => {
            find_decider(argv, &config.places, patient.own_env).map(|_| ())
        }
        PermissionPolicy::Deny | PermissionPolicy::Stop => Ok(()),
    };
    let refused = [("notify", notify), ("permissions", decider)].into_iter();
    refused.filter_map(|(id, ok)| ok.err().map(|err| Finding::of_error(id, &err))).collect()
}

/// The PATH of the session, by which longhaul finds git and the shell as well.
fn search_path(patient: &Patient<'_>) -> Option<Finding> {
    let id = "path";
    let Some(path) = patient.child_env.get("PATH") else {
        return Some(
            Finding::error(id, ErrorKind::Usage, "PATH is empty")
                .detail("neither the session nor longhaul would find a command")
                .mend("set PATH (cron and systemd have a short one, or none), or claude.env.PATH"),
        );
    };
    let inside = |dir: &PathBuf| dir.is_relative() || dir.starts_with(patient.project);
    let inside: Vec<String> = std::env::split_paths(path)
        .filter(inside)
        .map(|dir| if dir.as_os_str().is_empty() { ".".into() } else { dir.display().to_string() })
        .collect();
    if inside.is_empty() {
        return None;
    }
    Some(
        Finding::note(
            id,
            format!("PATH leads into the project: {}", inside.join(", ").escape_debug()),
        )
        .detail("a program that a session puts there is found by longhaul too")
        .mend("take it out of PATH for the night, or put it last"),
    )
}

fn cli(patient: &Patient<'_>) -> Vec<Finding> {
    let command = &patient.config.claude.command;
    let path = match find_program(command, patient.project, &patient.child_env) {
        Ok(path) => path,
        Err(err) => return vec![Finding::of_error("cli", &err)],
    };
    let place = shown(&path, &patient.child_env);
    match version(&path, patient.project, &patient.child_env) {
        Ok(line) => vec![judge(&place, &line)],
        // A program that cannot be run at all is an error; one that only does not
        // tell its version may still work, and a dead start is dealt with.
        Err(Unversioned::CannotRun(err)) => vec![Finding::of_error("cli", &err)],
        Err(Unversioned::Silent(why)) => {
            vec![
                Finding::warning("cli", format!("{place} does not say which Claude Code it is"))
                    .detail(why)
                    .mend("check that claude.command names the Claude Code CLI"),
            ]
        }
    }
}

/// Why there is no version.
enum Unversioned {
    CannotRun(Error),
    Silent(String),
}

fn judge(place: &str, line: &str) -> Finding {
    let tested = format!("longhaul is tested with {TESTED_CLI_VERSION}");
    let number = line.split_whitespace().next().unwrap_or("");
    let parts: Option<Vec<u64>> = number.split('.').map(|part| part.parse().ok()).collect();
    let Some(parts) = parts.filter(|parts| parts.len() == 3) else {
        return Finding::warning("cli", format!("{place} does not say which Claude Code it is"))
            .detail(format!(
                "`--version` printed \"{}\"",
                line.chars().take(80).collect::<String>()
            ))
            .mend("check that claude.command names the Claude Code CLI");
    };
    let title = format!("Claude Code {number} at {place}");
    if parts.as_slice() < OLDEST_CLI.as_slice() {
        return Finding::warning("cli", title)
            .detail(format!("it is old; {tested}"))
            .mend("update it: `claude update`");
    }
    if number != TESTED_CLI_VERSION {
        return Finding::note("cli", title).detail(tested);
    }
    Finding::ok("cli", title)
}

/// Whether the person's command for notifications can be started at all: better
/// said now than at three in the night.
///
/// # Errors
///
/// [`ErrorKind::Usage`] when it cannot be run.
fn check_notify_command(config: &Config, env: &Env) -> Result<()> {
    let Some(program) = config.notify.command.first() else { return Ok(()) };
    let found = if program.contains('/') {
        runnable(Path::new(program))
    } else {
        let mut dirs = std::env::split_paths(env.get("PATH").unwrap_or_default());
        match dirs.any(|dir| runnable(&dir.join(program)).is_ok()) {
            true => Ok(()),
            false => Err("is not on PATH"),
        }
    };
    found.map_err(|why| {
        let shown = program.escape_debug();
        let place = config.places.of("notify.command");
        Error::usage(format!("{place}: `notify.command`: `{shown}` {why}"))
            .hint("give the program by its full path, and then its arguments")
    })
}

/// `argv`, the person's command that decides about permissions, by its full path: the
/// session can put another one of the same name into `PATH`, but not before the run.
///
/// # Errors
///
/// [`ErrorKind::Usage`] when there is none, or it cannot be run.
pub fn find_decider(argv: &[String], places: &Places, env: &Env) -> Result<Vec<String>> {
    let wrong = |why: String| {
        let place = places.of("permissions.command");
        Err(Error::usage(format!("{place}: `permissions.command` {why}"))
            .hint("give the program by its full path, outside the project, and then its arguments"))
    };
    let Some((program, rest)) = argv.split_first() else { return wrong("is empty".into()) };
    let shown = program.escape_debug().to_string();
    let path = if program.starts_with('/') {
        PathBuf::from(program)
    } else if program.contains('/') {
        return wrong(format!("`{shown}` is neither a full path nor a name on PATH"));
    } else {
        let dirs = std::env::split_paths(env.get("PATH").unwrap_or_default());
        let found = dirs.filter(|dir| dir.is_absolute()).map(|dir| dir.join(program));
        match found.into_iter().find(|path| runnable(path).is_ok()) {
            Some(path) => path,
            None => return wrong(format!("`{shown}` is not on PATH")),
        }
    };
    if let Err(why) = runnable(&path) {
        return wrong(format!("`{shown}` {why}"));
    }
    let path = path.to_string_lossy().into_owned();
    Ok(std::iter::once(path).chain(rest.iter().cloned()).collect())
}

/// The path of the CLI: `command` as a path (relative to the project), or
/// looked up on the PATH of `env`.
///
/// # Errors
///
/// [`ErrorKind::Usage`] when there is none, or it cannot be run.
pub fn find_program(command: &str, project: &Path, env: &Env) -> Result<PathBuf> {
    if command.contains('/') {
        let path = match (command.strip_prefix("~/"), env.get("HOME")) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => project.join(command),
        };
        return match runnable(&path) {
            Ok(()) => Ok(path),
            Err(why) => {
                Err(Error::usage(format!("the Claude Code CLI {} {why}", path.display()))
                    .hint(INSTALL))
            }
        };
    }
    let mut seen = None;
    for dir in std::env::split_paths(env.get("PATH").unwrap_or_default()) {
        let path = project.join(dir).join(command);
        match runnable(&path) {
            Ok(()) => return Ok(path),
            Err(why) if path.exists() => seen = seen.or(Some(format!("{} {why}", path.display()))),
            Err(_) => {}
        }
    }
    let why = seen.map_or_else(String::new, |seen| format!(" ({seen})"));
    Err(Error::usage(format!(
        "the Claude Code CLI `{}` is not on PATH{why}",
        command.escape_debug()
    ))
    .hint(INSTALL))
}

fn runnable(path: &Path) -> std::result::Result<(), &'static str> {
    let Ok(meta) = std::fs::metadata(path) else {
        return Err("does not exist");
    };
    if meta.is_dir() {
        return Err("is a directory");
    }
    if !meta.is_file() {
        return Err("is not a file");
    }
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(|_| "is not executable")
}

/// What `--version` prints. The CLI gets the environment of a session, since a
/// wrapper may need its home; asked for its version it writes nothing there.
fn version(path: &Path, project: &Path, env: &Env) -> std::result::Result<String, Unversioned> {
    let fail = |why: &str| Unversioned::Silent(format!("`--version` {why}"));
    let mut child = Command::new(path)
        .arg("--version")
        .current_dir(project)
        .env_clear()
        .envs(env.iter())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|err| {
            let what = format!("cannot run {}", path.display());
            Unversioned::CannotRun(Error::io(ErrorKind::Usage, what, err).hint(INSTALL))
        })?;
    let stdout = child.stdout.take().expect("stdout was piped");
    let exited = wait(&mut child, VERSION_TIMEOUT_MS);
    // Before it is reaped its number is still its own: whatever it left behind ends with it.
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait().map_err(|err| fail(&format!("was lost ({err})")))?;
    if exited.is_none() {
        return Err(fail("did not end within 10 s"));
    }
    let line = what_is_there(File::from(std::os::fd::OwnedFd::from(stdout)));
    if !status.success() {
        return Err(fail(&format!("failed ({status})")));
    }
    Ok(line)
}

/// Waits for the end of `child`; `None` when it takes longer.
fn wait(child: &mut Child, timeout_ms: u64) -> Option<()> {
    let pid = Pid::from_raw(child.id().cast_signed())?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let started = Timestamp::now();
    loop {
        let left_ms =
            timeout_ms.checked_sub(Timestamp::now().ms_since(started)).filter(|ms| *ms > 0)?;
        let wait = Timespec {
            tv_sec: (left_ms / 1000) as i64,
            tv_nsec: ((left_ms % 1000) * 1_000_000) as i64,
        };
        let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&wait)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Some(()),
            Err(_) => return None,
        }
    }
}

/// What a pipe holds now: a child of the CLI that keeps it open is not waited for.
fn what_is_there(pipe: File) -> String {
    if rustix::io::ioctl_fionbio(&pipe, true).is_err() {
        return String::new();
    }
    let mut bytes = Vec::new();
    let _ = pipe.take(VERSION_MAX_BYTES).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).lines().next().unwrap_or("").trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn releases_are_judged() {
        for (line, severity) in [
            ("2.1.329 (Claude Code)", Severity::Ok),
            ("2.1.330 (Claude Code)", Severity::Note),
            ("3.0.0", Severity::Note),
            ("2.1.199 (Claude Code)", Severity::Warning),
            ("1.9.999", Severity::Warning),
            ("", Severity::Warning),
            ("claude v5", Severity::Warning),
        ] {
            assert_eq!(judge("/bin/claude", line).severity, severity, "{line}");
        }
    }
}
