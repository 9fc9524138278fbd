//! Runs the person's verify command and keeps the end of what it prints.

use std::io::PipeWriter;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// How much of the output the session is shown.
const TAIL_BYTES: usize = 4 << 10;

/// Becomes the command, with a watcher beside it in the process group: should
/// longhaul be killed, the kernel closes its end of the leash, the watcher's
/// read ends, and the group with it. A watcher that is no child of the command's
/// shell does not hold up a `wait` in it.
const ON_A_LEASH: &str = r#"
exec 3<&0 </dev/null
{ read -r _; kill -KILL 0; } <&3 >/dev/null 2>&1 &
exec 3<&-
exec sh -c "$1"
"#;

/// What a verify command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// It exited with 0.
    pub passed: bool,
    /// The end of its output (standard output and error, as they came), with
    /// how it ended as the last line when it failed.
    pub tail: String,
}

/// Runs `command` by `sh -c` in `project`, in a process group of its own. When
/// the future is dropped, `timeout_ms` has passed, or this process dies in
/// whatever way, the whole group is killed.
pub async fn run(
    project: &Path,
    command: &str,
    env: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    timeout_ms: u64,
) -> Verdict {
    match start(project, command, env) {
        Ok((group, output)) => follow(group, output, timeout_ms).await,
        Err(e) => {
            Verdict { passed: false, tail: format!("the verify command cannot be started: {e}") }
        }
    }
}

/// The shell and all its children; killed as a group when dropped.
struct Group {
    child: Child,
    pid: Option<Pid>,
    /// Never written to; closed by our death.
    _leash: PipeWriter,
}

impl Drop for Group {
    fn drop(&mut self) {
        // Background children of the command may outlive the shell.
        if let Some(pid) = self.pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

fn start(
    project: &Path,
    command: &str,
    env: Vec<(std::ffi::OsString, std::ffi::OsString)>,
) -> std::io::Result<(Group, tokio::net::unix::pipe::Receiver)> {
    let (reader, writer) = std::io::pipe()?;
    let (held, leash) = std::io::pipe()?;
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", ON_A_LEASH, "sh", command])
        .current_dir(project)
        .env_clear()
        .envs(env)
        .stdin(held)
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let child = Command::from(shell).spawn()?;
    let pid = child.id().and_then(|id| Pid::from_raw(id as i32));
    let output = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into())?;
    Ok((Group { child, pid, _leash: leash }, output))
}

async fn follow(
    mut group: Group,
    mut output: tokio::net::unix::pipe::Receiver,
    timeout_ms: u64,
) -> Verdict {
    let mut tail = Vec::new();
    let mut chunk = vec![0; 8 << 10];
    let ended = {
        let wait = async {
            let mut open = true;
            loop {
                tokio::select! {
                    read = output.read(&mut chunk), if open => match read {
                        Ok(n) if n > 0 => keep_tail(&mut tail, &chunk[..n]),
                        Ok(_) | Err(_) => open = false,
                    },
                    // A background child may hold the pipe: the shell's end decides.
                    status = group.child.wait() => break status,
                }
            }
        };
        tokio::time::timeout(Duration::from_millis(timeout_ms), wait).await
    };
    // What was printed just before the end.
    while let Ok(n) = output.try_read(&mut chunk) {
        if n == 0 {
            break;
        }
        keep_tail(&mut tail, &chunk[..n]);
    }
    let how = match ended {
        Ok(Ok(status)) if status.success() => {
            return Verdict { passed: true, tail: String::new() };
        }
        Ok(Ok(status)) => format!("[the verify command ended with {status}]"),
        Ok(Err(e)) => format!("[the verify command was lost: {e}]"),
        Err(_) => format!(
            "[the verify command did not end within {} s and was killed]",
            timeout_ms / 1000
        ),
    };
    let text = String::from_utf8_lossy(&tail);
    Verdict { passed: false, tail: format!("{}\n{how}", text.trim_end()) }
}

fn keep_tail(tail: &mut Vec<u8>, more: &[u8]) {
    tail.extend_from_slice(more);
    if tail.len() > TAIL_BYTES {
        tail.drain(..tail.len() - TAIL_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_now(command: &str, timeout_ms: u64) -> Verdict {
        let env = std::env::vars_os().filter(|(k, _)| k == "PATH").collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&std::env::temp_dir(), command, env, timeout_ms))
    }

    #[test]
    fn zero_passes_and_anything_else_shows_its_end() {
        assert!(run_now("true", 10_000).passed);
        let verdict = run_now("seq 1 5000; echo broken >&2; exit 3", 10_000);
        assert!(!verdict.passed);
        assert!(
            verdict.tail.contains("5000\nbroken\n[the verify command ended with exit status: 3]"),
            "{}",
            verdict.tail
        );
        assert!(verdict.tail.len() < TAIL_BYTES + 100);
    }

    #[test]
    fn a_background_child_that_holds_the_pipe_does_not_hold_us() {
        assert!(run_now("sleep 600 & exit 0", 10_000).passed);
    }

    #[test]
    fn the_command_does_not_notice_its_leash() {
        let verdict =
            run_now("sleep 0 & wait; cat; echo \"[$1]\"; readlink /proc/self/fd/3; exit 1", 10_000);
        assert_eq!(verdict.tail, "[]\n[the verify command ended with exit status: 1]");
    }

    #[test]
    fn one_that_never_ends_is_killed_with_all_its_children() {
        let verdict = run_now("sleep 600 & sleep 600", 50);
        assert!(!verdict.passed && verdict.tail.contains("did not end within"));
    }
}
