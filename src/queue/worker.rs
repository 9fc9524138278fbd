//! A worker as its dispatcher sees it: a process, what it prints, how it ended.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::control::{self, Request};
use crate::error::{Error, Result};

/// A thread that waits for an answer needs no more.
const ASKING_STACK_BYTES: usize = 128 << 10;

/// How a worker is started, but for its project and its run.
#[derive(Debug, Clone)]
pub struct Command {
    /// The program: this one.
    pub program: PathBuf,
    /// Arguments before those of the run.
    pub before: Vec<OsString>,
    /// Arguments after them.
    pub after: Vec<OsString>,
    /// Its standard output is ours: the terminal. Otherwise its lines are told.
    pub inherits_output: bool,
}

/// What workers bring.
#[derive(Debug)]
pub enum Happened {
    /// A line on standard output.
    Line {
        /// The run.
        run_id: Uuid,
        /// Without its end.
        text: String,
    },
    /// A run answered, or did not.
    Answered {
        /// The run.
        run_id: Uuid,
        /// What it was asked.
        request: Request,
        /// What it said; `None`: it does not listen, or refuses.
        answer: Option<String>,
    },
    /// The process is gone, and all its lines were told.
    Ended {
        /// The run.
        run_id: Uuid,
        /// As a shell would show it.
        code: u8,
    },
}

/// A worker that was started.
#[derive(Debug)]
pub struct Worker {
    /// Where it works.
    pub project: PathBuf,
    /// Its process id.
    pub pid: u32,
    /// Names the process, and no other that has its number later.
    handle: std::os::fd::OwnedFd,
}

impl Worker {
    /// Starts the worker of a run; needs a tokio runtime. `after` is the run before it,
    /// whose settings must still stand.
    ///
    /// # Errors
    /// No process is to be had.
    pub fn start(
        command: &Command,
        run_id: Uuid,
        project: &Path,
        after: Option<Uuid>,
        tell: mpsc::UnboundedSender<Happened>,
    ) -> Result<Self> {
        let failed = |e: std::io::Error| Error::internal("cannot start a worker").caused_by(e);
        let mut process = tokio::process::Command::new(&command.program);
        process
            .args(&command.before)
            .arg("--project")
            .arg(project)
            .arg("--run-id")
            .arg(run_id.to_string())
            .arg("--parent")
            .arg(std::process::id().to_string())
            .args(after.map(|run_id| format!("--after={run_id}")))
            .args(&command.after)
            .stdin(Stdio::null())
            // A Ctrl-C is for the dispatcher, which passes it on once.
            .process_group(0);
        if !command.inherits_output {
            process.stdout(Stdio::piped());
        }
        let mut child = process.spawn().map_err(failed)?;
        let id = child.id().ok_or_else(|| Error::internal("a worker has no process id"))?;
        let raw = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
        let raw = raw.ok_or_else(|| Error::internal("a worker has no process id"))?;
        let handle = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(err) => {
                // Nobody would hear how it ends.
                let _ = child.start_kill();
                return Err(failed(err.into()));
            }
        };
        let output = child.stdout.take();
        tokio::spawn(follow(child, output, run_id, tell));
        Ok(Self { project: project.to_owned(), pid: id, handle })
    }

    /// Asks its run, which keeps its socket in `state`, and tells the answer: one that is
    /// stopped holds nobody up. False if there is no thread to be had.
    pub fn ask(
        run_id: Uuid,
        state: PathBuf,
        request: Request,
        tell: mpsc::UnboundedSender<Happened>,
    ) -> bool {
        let ask = move || {
            let answer = control::ask(&state, request).ok().flatten();
            let _ = tell.send(Happened::Answered { run_id, request, answer });
        };
        std::thread::Builder::new().stack_size(ASKING_STACK_BYTES).spawn(ask).is_ok()
    }

    /// Sends it a signal; nothing happens if it is gone.
    pub fn signal(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            let _ = pidfd_send_signal(&self.handle, signal);
        }
    }
}

/// Tells what it prints, and then how it ended.
async fn follow(
    mut child: Child,
    output: Option<ChildStdout>,
    run_id: Uuid,
    tell: mpsc::UnboundedSender<Happened>,
) {
    if let Some(output) = output {
        let mut lines = BufReader::new(output).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let text = String::from_utf8_lossy(&line).into_owned();
            // Nobody listens any more when the dispatcher is ending.
            let _ = tell.send(Happened::Line { run_id, text });
        }
    }
    let code = match child.wait().await {
        Ok(status) => code_of(status),
        Err(_) => 70,
    };
    let _ = tell.send(Happened::Ended { run_id, code });
}

fn code_of(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 70,
    };
    u8::try_from(code).unwrap_or(70)
}
