//! A private world to measure in: temporary project, home and state, the
//! scripted API, the pinned CLI, and the built `longhaul`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use longhaul::demo::api::Script;
use longhaul::demo::install;
use longhaul::demo::project::Demo;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

use super::process;

/// Another binary than the one cargo built with this program.
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();
/// Nothing here takes this long on a busy two-core machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// Has another binary measured, to compare two builds.
pub fn choose(program: PathBuf) {
    CHOSEN.set(program).expect("chosen once");
}

/// The real path of the binary that is measured.
pub fn longhaul() -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_longhaul"));
    fs::canonicalize(CHOSEN.get_or_init(built)).unwrap()
}

pub struct World {
    pub demo: Demo,
    root: TempDir,
}

impl World {
    pub fn new(script: impl Script + 'static) -> Self {
        let chosen = std::env::var_os("LONGHAUL_TEST_CLAUDE").map(PathBuf::from);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("claude-cli");
        let path = std::env::var_os("PATH");
        let cli = install::for_tests(chosen.as_deref(), &dir, path.as_deref())
            .unwrap_or_else(|err| panic!("the figures need the claude CLI\n{}", err.render()));
        // Short, since the CLI binds a socket below it.
        let root = tempfile::Builder::new().prefix("lh-figures-").tempdir_in("/tmp").unwrap();
        let demo = Demo::prepare(&fs::canonicalize(root.path()).unwrap(), cli, script).unwrap();
        Self { demo, root }
    }

    /// The folder of the project's transcripts, made so that it can be watched
    /// before the CLI makes it.
    pub fn transcripts(&self) -> PathBuf {
        let file = self.demo.home.transcript(&self.demo.project_dir, "none");
        let folder = file.parent().unwrap().to_owned();
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// longhaul's own log of the one run.
    pub fn log(&self) -> String {
        let mut open = vec![self.root.path().join("state")];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                if entry.file_name() == "longhaul.log" {
                    return fs::read_to_string(entry.path()).unwrap();
                }
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                }
            }
        }
        panic!("the run left no log");
    }

    fn arguments(&self, set: &[&str]) -> Vec<String> {
        let mut arguments = vec!["run".to_owned()];
        let own = self.demo.settings().into_iter().map(|(key, value)| format!("{key}={value}"));
        for setting in own.chain(set.iter().map(|s| (*s).to_owned())) {
            arguments.extend(["--set".to_owned(), setting]);
        }
        arguments
    }

    fn environment(&self) -> Vec<(&'static str, std::ffi::OsString)> {
        vec![
            ("PATH", std::env::var_os("PATH").unwrap()),
            ("HOME", self.demo.home.dir().into()),
            ("TMPDIR", self.demo.home.tmp().into()),
            ("TERM", "xterm-256color".into()),
            ("LANG", "C.UTF-8".into()),
            ("LONGHAUL_STATE_DIR", self.root.path().join("state").into()),
        ]
    }

    /// Starts a run whose events go to a pipe.
    pub fn run_to_pipe(&self, set: &[&str]) -> Run {
        let mut command = Command::new(longhaul());
        command
            .args(self.arguments(set))
            .arg("--json")
            .current_dir(&self.demo.project_dir)
            .env_clear()
            .envs(self.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers = [keep(BufReader::new(stdout), &said), keep(BufReader::new(stderr), &said)];
        let pid = child.id();
        let waiter = std::thread::spawn(move || child.wait().unwrap().code());
        Run { pid, said, readers: readers.into(), waiter: Some(waiter) }
    }

    /// Starts a run that draws its panel on a terminal.
    pub fn run_on_terminal(&self, set: &[&str]) -> Run {
        let size = PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(longhaul());
        command.args(self.arguments(set));
        command.cwd(&self.demo.project_dir);
        command.env_clear();
        for (name, value) in self.environment() {
            command.env(name, value);
        }
        let mut child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let pid = child.process_id().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let reader = keep(BufReader::new(pair.master.try_clone_reader().unwrap()), &said);
        let waiter = std::thread::spawn(move || {
            let _master = pair.master;
            child.wait().ok().map(|status| status.exit_code() as i32)
        });
        Run { pid, said, readers: vec![reader], waiter: Some(waiter) }
    }
}

fn keep(from: impl BufRead + Send + 'static, said: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let said = Arc::clone(said);
    let mut from = from;
    std::thread::spawn(move || {
        let mut bytes = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            said.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    })
}

/// A running longhaul; told to end when dropped.
pub struct Run {
    pub pid: u32,
    said: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    waiter: Option<JoinHandle<Option<i32>>>,
}

impl Run {
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub fn is_alive(&self) -> bool {
        self.waiter.as_ref().is_some_and(|waiter| !waiter.is_finished())
    }

    /// Waits for the CLI below this run, looking every `pause`. `None` when
    /// the run is over.
    pub fn wait_for_cli(&self, cli: &Path, pause: Duration) -> Option<u32> {
        let own = longhaul();
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(pid) = process::cli_below(self.pid, &own, cli) {
                return Some(pid);
            }
            if !self.is_alive() {
                return None;
            }
            assert!(Instant::now() < deadline, "no CLI came\n{}", self.said());
            std::thread::sleep(pause);
        }
    }

    /// Waits for the end; the exit code.
    pub fn finish(mut self) -> (Option<i32>, String) {
        let code = self.waiter.take().unwrap().join().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        (code, self.said())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        if let Some(pid) = Pid::from_raw(self.pid as i32) {
            for _ in 0..2 {
                if !waiter.is_finished() {
                    let _ = kill_process(pid, Signal::TERM);
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
        let _ = waiter.join();
    }
}

/// Waits until a process has ended and gives the moment, on the boot clock.
pub fn wait_for_end(pid: u32) -> u64 {
    let handle = pidfd_open(Pid::from_raw(pid as i32).unwrap(), PidfdFlags::empty());
    let Ok(handle) = handle else { return process::boot_us() };
    let timeout = Timespec { tv_sec: DEADLINE.as_secs() as i64, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout)).unwrap();
    assert!(ready == 1, "process {pid} did not end");
    process::boot_us()
}
