//! Runs the person's verify command and keeps the end of what it prints.
//!
//! It runs below a keeper of its own, which has a leash to longhaul and adopts
//! every orphan: whatever the command started and detached ends with it, also
//! when longhaul itself is killed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;

use crate::session::sweep::KILL_LIMIT_MS;
use crate::session::{COLS, Ending, Keeper, KeeperCommand, KeeperEvent, Launch, ROWS};

/// How much of the output the session is shown.
const TAIL_BYTES: usize = 4 << 10;

/// Longest wait for the keeper to end the command: its rounds and time to spare.
const END_LIMIT: Duration = Duration::from_millis(KILL_LIMIT_MS + 2_000);

/// What a verify command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// It exited with 0.
    pub passed: bool,
    /// The end of its output (standard output and error, as they came), with
    /// how it ended as the last line when it failed.
    pub tail: String,
    /// Processes it left behind that could not be ended.
    pub survivors: u32,
}

/// A command to verify by.
#[derive(Debug, Clone)]
pub struct Verification<'a> {
    /// Where it runs; the real path.
    pub project: &'a Path,
    /// What `sh -c` is given.
    pub command: &'a str,
    /// Its whole environment. With [`crate::session::sweep::RUN_VARIABLE`] in it
    /// the next longhaul waits for what a killed one left.
    pub env: Vec<(OsString, OsString)>,
    /// When it is ended.
    pub timeout_ms: u64,
    /// The run's temporary folder, removed if longhaul dies meanwhile.
    pub scratch: Option<PathBuf>,
}

impl Verification<'_> {
    /// Runs it. When it has ended, `timeout_ms` has passed, the future is dropped or
    /// this process dies in whatever way, all that it started is ended.
    pub async fn run(self) -> Verdict {
        self.run_by(None).await
    }

    /// As [`Verification::run`], below a keeper of another copy of this program.
    pub async fn run_by(self, program: Option<&Path>) -> Verdict {
        let timeout_ms = self.timeout_ms;
        match self.start(program) {
            Ok((keeper, output)) => follow(keeper, output, timeout_ms).await,
            Err(e) => failed(format!("the verify command cannot be started: {e}")),
        }
    }

    fn start(self, program: Option<&Path>) -> crate::Result<(Keeper, Receiver)> {
        let pipe = |err| crate::Error::internal("no pipe is to be had").caused_by(err);
        let (reader, writer) = std::io::pipe().map_err(pipe)?;
        let output = Receiver::from_owned_fd(reader.into()).map_err(pipe)?;
        let launch = Launch {
            program: "sh".into(),
            args: vec!["-c".into(), self.command.into()],
            env: self.env,
            cwd: self.project.to_owned(),
            scratch: self.scratch,
            rows: ROWS,
            cols: COLS,
        };
        Ok((Keeper::spawn_command(program, &launch, writer)?, output))
    }
}

fn failed(tail: String) -> Verdict {
    Verdict { passed: false, tail, survivors: 0 }
}

/// How a command ended.
#[derive(Debug, Default)]
struct End {
    exit: Option<(Option<i32>, Option<i32>)>,
    survivors: u32,
    /// Why it is not known, or never began.
    trouble: Option<String>,
}

async fn follow(mut keeper: Keeper, mut output: Receiver, timeout_ms: u64) -> Verdict {
    let (mut tail, mut end) = (Vec::new(), End::default());
    let whole = attend(&mut keeper, &mut output, &mut tail, &mut end);
    let in_time = tokio::time::timeout(Duration::from_millis(timeout_ms), whole).await.is_ok();
    let is_late = !in_time && end.exit.is_none();
    if !in_time {
        // A keeper that is gone tells of it; one that is full is none that reads.
        let _ = keeper.send(&KeeperCommand::End(Ending::Kill));
        let rest = attend(&mut keeper, &mut output, &mut tail, &mut end);
        if tokio::time::timeout(END_LIMIT, rest).await.is_err() {
            end.trouble.get_or_insert_with(|| "its keeper does not answer".into());
        }
    }
    take_rest(&output, &mut tail);
    let how = match (is_late, &end) {
        (true, _) => {
            format!("did not end within {} s and was killed", timeout_ms / 1000)
        }
        (_, End { exit: Some((Some(0), _)), survivors, .. }) => {
            return Verdict { passed: true, tail: String::new(), survivors: *survivors };
        }
        (_, End { exit: Some((Some(code), _)), .. }) => format!("ended with exit status: {code}"),
        (_, End { exit: Some((_, Some(signal))), .. }) => format!("ended by signal {signal}"),
        (_, End { trouble: Some(why), .. }) => format!("was lost: {why}"),
        (_, _) => "was lost".to_owned(),
    };
    let text = String::from_utf8_lossy(&tail);
    let tail = format!("{}\n[the verify command {how}]", text.trim_end());
    Verdict { passed: false, tail, survivors: end.survivors }
}

/// Takes in what is printed until the keeper has ended everything.
async fn attend(keeper: &mut Keeper, output: &mut Receiver, tail: &mut Vec<u8>, end: &mut End) {
    use tokio::io::AsyncReadExt;
    let mut chunk = vec![0; 8 << 10];
    let mut open = true;
    loop {
        let event = tokio::select! {
            read = output.read(&mut chunk), if open => {
                match read {
                    Ok(n) if n > 0 => keep_tail(tail, &chunk[..n]),
                    Ok(_) | Err(_) => open = false,
                }
                continue;
            }
            event = keeper.next() => event,
        };
        match event {
            KeeperEvent::Exited { code, signal } => end.exit = Some((code, signal)),
            KeeperEvent::Swept { survivors, .. } => {
                end.survivors = survivors;
                return;
            }
            KeeperEvent::SpawnFailed { message } | KeeperEvent::Lost { message } => {
                end.trouble = Some(message);
                return;
            }
            KeeperEvent::Spawned { .. }
            | KeeperEvent::Submitted { .. }
            | KeeperEvent::Withheld { .. }
            | KeeperEvent::Screen { .. } => {}
        }
    }
}

/// What was printed just before the end.
fn take_rest(output: &Receiver, tail: &mut Vec<u8>) {
    let mut chunk = vec![0; 8 << 10];
    // A survivor may hold the pipe and print for ever.
    for _ in 0..MAX_RESTS {
        match output.try_read(&mut chunk) {
            Ok(n) if n > 0 => keep_tail(tail, &chunk[..n]),
            Ok(_) | Err(_) => return,
        }
    }
}

/// A pipe holds 64 KiB.
const MAX_RESTS: usize = 16;

fn keep_tail(tail: &mut Vec<u8>, more: &[u8]) {
    tail.extend_from_slice(more);
    if tail.len() > TAIL_BYTES {
        tail.drain(..tail.len() - TAIL_BYTES);
    }
}
