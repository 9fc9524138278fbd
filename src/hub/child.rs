//! Works off the queue in a process of its own, `longhaul queue run`: on a leash (it
//! ends when its standard input does), in a process group of its own, with its output
//! in a file that does not grow for ever.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use super::{Runner, Started};
use crate::lock;
use crate::queue::QUEUE_LOCK;

/// Where its output goes, below the state directory.
const LOG_FILE: &str = "queue.log";
/// Where the log was before.
const OLD_LOG_FILE: &str = "queue.log.1";
/// Runs in a row that were cut off and begun again.
const CUT_OFF_MAX: u32 = 3;
/// Before one that was cut off is begun again.
const CUT_OFF_PAUSE: Duration = Duration::from_millis(200);
/// A log of this size begins anew; one older is kept.
const MAX_LOG_BYTES: u64 = 8 << 20;

/// Runs the queue, once at a time.
pub struct QueueChild(Arc<Inner>);

struct Inner {
    program: PathBuf,
    arguments: Vec<OsString>,
    directory: PathBuf,
    root: PathBuf,
    state: Mutex<State>,
    is_running: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// Not reaped yet.
    pid: Option<Pid>,
    /// It ends when this goes.
    leash: Option<ChildStdin>,
    /// Somebody asked for a run while one was under way: it may have looked at the
    /// queue for the last time already.
    is_wanted_again: bool,
    /// Runs that were cut off since one ended by itself.
    cut_off_in_a_row: u32,
    is_ending: bool,
    last_exit_code: Option<i32>,
}

impl QueueChild {
    /// Will run `program` with these arguments in `directory`; `root` is the state
    /// directory.
    pub fn new(
        program: impl Into<PathBuf>,
        arguments: Vec<OsString>,
        directory: &Path,
        root: &Path,
    ) -> Self {
        Self(Arc::new(Inner {
            program: program.into(),
            arguments,
            directory: directory.to_owned(),
            root: root.to_owned(),
            state: Mutex::default(),
            is_running: watch::Sender::new(false),
        }))
    }

    /// Begins nothing any more; passes the signal on to what runs.
    pub fn end(&self, number: i32) {
        let mut state = self.0.lock();
        state.is_ending = true;
        let signal = Signal::from_named_raw(number).unwrap_or(Signal::TERM);
        if let Some(pid) = state.pid {
            // It is not reaped yet, so the number is still its own.
            if let Err(err) = kill_process(pid, signal) {
                tracing::warn!(%err, "the run of the queue cannot be told to stop");
            }
        }
    }

    /// Waits until nothing runs.
    pub async fn ended(&self) {
        // The sender is ours: it cannot be gone.
        let _ = self.0.is_running.subscribe().wait_for(|is_running| !is_running).await;
    }
}

impl Runner for QueueChild {
    fn start(&self) -> Started {
        Inner::start(&self.0)
    }

    fn is_running(&self) -> bool {
        self.0.lock().pid.is_some() || matches!(lock::is_held(&self.0.lock_file()), Ok(Some(_)))
    }

    fn last_exit_code(&self) -> Option<i32> {
        self.0.lock().last_exit_code
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join(QUEUE_LOCK)
    }

    fn start(self: &Arc<Self>) -> Started {
        let mut state = self.lock();
        if state.is_ending {
            return Started::Refused("longhaul serve is ending".into());
        }
        if state.pid.is_some() {
            state.is_wanted_again = true;
            return Started::AlreadyRunning;
        }
        match lock::is_held(&self.lock_file()) {
            Ok(Some(_)) => return Started::AlreadyRunning,
            Ok(None) => {}
            Err(err) => return Started::Refused(err.to_string()),
        }
        match self.spawn() {
            Ok(mut child) => {
                state.pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
                state.leash = child.stdin.take();
                state.is_wanted_again = false;
                self.is_running.send_replace(true);
                tokio::spawn(Arc::clone(self).reap(child));
                Started::Started
            }
            Err(err) => Started::Refused(format!("the run of the queue cannot be started: {err}")),
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let log = Log::open(&self.root)?;
        let (output, input) = io::pipe()?;
        // Ends when the last of the writing ends is closed.
        std::thread::Builder::new()
            .name("queue-log".into())
            .stack_size(64 << 10)
            .spawn(move || log.fill(output))?;
        Command::new(&self.program)
            .args(&self.arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(input.try_clone()?)
            .stderr(input)
            // Ctrl-C is for the hub, which passes it on.
            .process_group(0)
            .spawn()
    }

    async fn reap(self: Arc<Self>, mut child: Child) {
        let status = child.wait().await;
        let code = status.as_ref().ok().copied().and_then(code_of);
        if let Err(err) = status {
            tracing::error!(%err, "the run of the queue cannot be waited for");
        }
        let is_cut_off = code.is_some_and(is_cut_off);
        let (is_wanted, goes_on) = {
            let mut state = self.lock();
            (state.pid, state.leash, state.last_exit_code) = (None, None, code);
            state.cut_off_in_a_row = if is_cut_off { state.cut_off_in_a_row + 1 } else { 0 };
            // Who ended it by a signal did not want it.
            let is_wanted = std::mem::take(&mut state.is_wanted_again);
            let is_wanted = is_wanted && code.is_some_and(|code| code < 128);
            (is_wanted, is_cut_off && state.cut_off_in_a_row <= CUT_OFF_MAX)
        };
        if goes_on {
            // Its tasks are in progress, and nobody is at them.
            tracing::warn!(code, "the run of the queue was cut off; it is begun again");
            tokio::time::sleep(CUT_OFF_PAUSE).await;
        }
        if is_wanted || goes_on {
            self.start();
        }
        if self.lock().pid.is_none() {
            self.is_running.send_replace(false);
        }
    }
}

/// Did a run end in a way that no person asks for: shot (by the kernel, when memory ran
/// out), aborted, at fault?
fn is_cut_off(code: i32) -> bool {
    let signals = [Signal::KILL, Signal::ABORT, Signal::SEGV, Signal::BUS, Signal::ILL];
    signals.iter().any(|signal| code == 128 + signal.as_raw())
}

/// As a shell would say it.
fn code_of(status: ExitStatus) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| Some(128 + status.signal()?))
}

/// The output of the runs.
struct Log {
    root: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    fn open(root: &Path) -> io::Result<Self> {
        // A pipe in its place must not make anybody wait, nor a link lead elsewhere.
        let plain = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
        let path = root.join(LOG_FILE);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags(plain)
            .open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { root: root.to_owned(), file, bytes })
    }

    /// Takes all there is, whatever becomes of the file: a run must not wait for it.
    fn fill(mut self, mut output: io::PipeReader) {
        let mut bytes = vec![0; 16 << 10];
        let mut is_broken = false;
        while let Ok(count @ 1..) = output.read(&mut bytes) {
            if let Err(err) = self.write(&bytes[..count])
                && !std::mem::replace(&mut is_broken, true)
            {
                tracing::warn!(%err, "the output of the queue's run cannot be kept");
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.bytes >= MAX_LOG_BYTES {
            std::fs::rename(self.root.join(LOG_FILE), self.root.join(OLD_LOG_FILE))?;
            *self = Self::open(&self.root)?;
        }
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn sh(script: &str, root: &Path) -> QueueChild {
        QueueChild::new("sh", vec!["-c".into(), script.into()], root, root)
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn one_runs_at_a_time_and_ends_with_its_leash() {
        let root = tempfile::tempdir().unwrap();
        block_on(async {
            let child = sh("cat; exit 143", root.path());
            assert!(!child.is_running());
            assert_eq!(child.start(), Started::Started);
            assert!(child.is_running());
            assert_eq!(child.start(), Started::AlreadyRunning);
            child.0.lock().leash = None;
            child.ended().await;
            assert!(!child.is_running());
            // Somebody stopped it: it is not begun again, although that was asked for before.
            assert_eq!(child.last_exit_code(), Some(143));
        });
    }

    #[test]
    fn what_is_wanted_meanwhile_is_begun_after_it() {
        let root = tempfile::tempdir().unwrap();
        block_on(async {
            let child = sh("echo run >>runs; test -e more || { : >more; cat; }", root.path());
            assert_eq!(child.start(), Started::Started);
            assert_eq!(child.start(), Started::AlreadyRunning);
            child.0.lock().leash = None;
            child.ended().await;
            let runs = std::fs::read_to_string(root.path().join("runs")).unwrap();
            assert_eq!(runs, "run\nrun\n");
        });
    }

    #[test]
    fn one_that_was_cut_off_goes_on_a_few_times() {
        let root = tempfile::tempdir().unwrap();
        block_on(async {
            let child = sh("echo run >>runs; kill -9 $$", root.path());
            assert_eq!(child.start(), Started::Started);
            child.ended().await;
            let runs = std::fs::read_to_string(root.path().join("runs")).unwrap();
            assert_eq!(runs.lines().count(), 1 + CUT_OFF_MAX as usize);
            assert_eq!(child.last_exit_code(), Some(137));
        });
    }

    #[test]
    fn at_the_end_it_is_told_and_waited_for_and_nothing_begins() {
        let root = tempfile::tempdir().unwrap();
        block_on(async {
            let child =
                sh("trap 'exit 143' TERM; echo ready; while :; do sleep 0.01; done", root.path());
            assert_eq!(child.start(), Started::Started);
            let log = root.path().join(LOG_FILE);
            while std::fs::read_to_string(&log).unwrap() != "ready\n" {
                tokio::task::yield_now().await;
            }
            assert_eq!(std::fs::metadata(&log).unwrap().mode() & 0o777, 0o600);
            child.end(15);
            child.ended().await;
            assert_eq!(child.last_exit_code(), Some(143));
            assert!(matches!(child.start(), Started::Refused(_)));
        });
    }

    #[test]
    fn a_run_of_somebody_else_counts() {
        let root = tempfile::tempdir().unwrap();
        let lock = lock::ProjectLock::take(&root.path().join(QUEUE_LOCK)).unwrap();
        block_on(async {
            let child = sh("exit 0", root.path());
            assert!(child.is_running());
            assert_eq!(child.start(), Started::AlreadyRunning);
            drop(lock);
            assert_eq!(child.start(), Started::Started);
            child.ended().await;
        });
    }

    #[test]
    fn the_log_does_not_grow_for_ever() {
        let root = tempfile::tempdir().unwrap();
        let mut log = Log::open(root.path()).unwrap();
        let line = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            log.write(&line).unwrap();
        }
        let size = |name: &str| std::fs::metadata(root.path().join(name)).unwrap().len();
        assert_eq!((size(LOG_FILE), size(OLD_LOG_FILE)), (4 << 20, MAX_LOG_BYTES));
    }

    #[test]
    fn a_program_that_is_not_there_is_said() {
        let root = tempfile::tempdir().unwrap();
        block_on(async {
            let child = QueueChild::new("/no/such/program", vec![], root.path(), root.path());
            assert!(matches!(child.start(), Started::Refused(why) if why.contains("started")));
            assert!(!child.is_running());
        });
    }
}
