//! Memory and CPU of longhaul while a session works: the supervisor and the
//! keeper by looking at them, the short-lived sinks by counting their starts
//! and measuring one.

use std::fs;
use std::io::Write;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use longhaul::demo::api::{Reply, Request, Role, Script, Usage};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::process::{self, Cpu, megabytes};
use super::world::{Run, World, longhaul};

/// Between two looks at the processes.
const PERIOD: Duration = Duration::from_millis(200);
/// Until the session has started and settled down.
const SETTLE: Duration = Duration::from_secs(5);
/// Enough starts of a sink for its CPU time to show in 10 ms ticks.
const SINKS: u32 = 300;

/// What the session does and what longhaul shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Situation {
    /// Short tool steps one after the other; events to a pipe.
    WorkingPipe,
    /// The same; the panel on a terminal.
    WorkingPanel,
    /// One long tool call; events to a pipe.
    LongToolPipe,
    /// The same; the panel on a terminal.
    LongToolPanel,
}

impl Situation {
    pub const ALL: [Situation; 4] =
        [Self::WorkingPipe, Self::WorkingPanel, Self::LongToolPipe, Self::LongToolPanel];

    pub fn name(self) -> &'static str {
        match self {
            Self::WorkingPipe => "steps every 2 s, --json to a pipe",
            Self::WorkingPanel => "steps every 2 s, panel on a terminal",
            Self::LongToolPipe => "one long tool, --json to a pipe",
            Self::LongToolPanel => "one long tool, panel on a terminal",
        }
    }

    fn is_panel(self) -> bool {
        matches!(self, Self::WorkingPanel | Self::LongToolPanel)
    }

    fn is_long_tool(self) -> bool {
        matches!(self, Self::LongToolPipe | Self::LongToolPanel)
    }
}

#[derive(Debug)]
pub struct Measured {
    pub situation: Situation,
    /// Sums over longhaul's processes at each look, MB.
    pub resident_mb: Vec<f64>,
    pub proportional_mb: Vec<f64>,
    pub anonymous_mb: Vec<f64>,
    /// Supervisor and keeper at the last look, MB resident.
    pub supervisor_mb: f64,
    pub keeper_mb: f64,
    /// Share of a core, percent, of each.
    pub supervisor_percent: f64,
    pub keeper_percent: f64,
    pub wakeups_per_s: f64,
    /// Starts of a sink per second.
    pub sinks_per_s: f64,
}

/// One `__sink`, started as the CLI does.
#[derive(Debug)]
pub struct Sink {
    pub cpu_ms: f64,
    pub peak_mb: f64,
}

/// A session with room to spare: an answer comes slowly, a tool takes a while.
struct Worker(Situation);

impl Script for Worker {
    fn reply(&self, request: &Request) -> Reply {
        let answers = request.turns.iter().filter(|t| t.role == Role::Assistant).count() as u64;
        let usage = Usage::of_context(20_000 + 500 * answers, 500, 100);
        if request.side {
            return Reply::side(usage);
        }
        // `sleep` alone is refused by the CLI.
        let command = if self.0.is_long_tool() {
            "timeout 600 tail -f /dev/null"
        } else {
            "echo step >> work.log; timeout 1 tail -f /dev/null; cat dev-docs/tasks.md"
        };
        let input = serde_json::json!({
            "command": command, "description": "Work on the task", "timeout": 600_000,
        });
        let mut reply = Reply::tool("Bash", input, usage)
            .saying("Looking at the next page before writing it, sentence by sentence. ".repeat(4));
        reply.chunk_delay = Duration::from_millis(40);
        reply
    }
}

pub fn measure(situation: Situation, during: Duration) -> Measured {
    let world = World::new(Worker(situation));
    let cli = fs::canonicalize(&world.demo.cli.program).unwrap();
    let run =
        if situation.is_panel() { world.run_on_terminal(&[]) } else { world.run_to_pipe(&[]) };
    run.wait_for_cli(&cli, Duration::from_millis(20)).unwrap();
    let wanted = if situation.is_long_tool() { 1 } else { 2 };
    let answered = world
        .demo
        .api
        .wait_for(Duration::from_secs(60), |r| !r.side && r.index_in_session + 1 >= wanted);
    assert!(answered.is_some(), "the session did not work\n{}", run.said());
    std::thread::sleep(SETTLE);
    watch(situation, &run, during)
}

fn watch(situation: Situation, run: &Run, during: Duration) -> Measured {
    let own = longhaul();
    let keeper = *process::children(run.pid)
        .iter()
        .find(|child| process::program(**child).is_some_and(|exe| exe == own))
        .unwrap();
    let starts = Starts::of(&own);
    let (begin, first) = (Instant::now(), [process::cpu(run.pid), process::cpu(keeper)]);
    let woken = process::switches(run.pid) + process::switches(keeper);
    let mut sums: [Vec<f64>; 3] = Default::default();
    let mut sinks = 0;
    while begin.elapsed() < during {
        std::thread::sleep(PERIOD);
        let mut sum = [0.0; 3];
        for memory in process::running(run.pid, &own).into_iter().filter_map(process::memory) {
            let parts = [memory.resident_kib, memory.proportional_kib, memory.anonymous_kib];
            sum.iter_mut().zip(parts).for_each(|(sum, kib)| *sum += megabytes(kib));
        }
        sums.iter_mut().zip(sum).for_each(|(all, sum)| all.push(sum));
        sinks += starts.since_last();
    }
    let seconds = begin.elapsed().as_secs_f64();
    assert!(run.is_alive(), "the run ended early\n{}", run.said());
    let last = [process::cpu(run.pid), process::cpu(keeper)];
    let percent = |of: usize| {
        let (first, last): (Cpu, Cpu) = (first[of].unwrap(), last[of].unwrap());
        (last.own_ms - first.own_ms) / seconds / 10.0
    };
    let mb = |pid| megabytes(process::memory(pid).unwrap_or_default().resident_kib);
    let [resident_mb, proportional_mb, anonymous_mb] = sums;
    Measured {
        situation,
        resident_mb,
        proportional_mb,
        anonymous_mb,
        supervisor_mb: mb(run.pid),
        keeper_mb: mb(keeper),
        supervisor_percent: percent(0),
        keeper_percent: percent(1),
        wakeups_per_s: (process::switches(run.pid) + process::switches(keeper) - woken) as f64
            / seconds,
        sinks_per_s: f64::from(sinks) / seconds,
    }
}

/// Counts how often a program is started: each `exec` opens its file.
struct Starts(std::os::fd::OwnedFd);

impl Starts {
    fn of(program: &Path) -> Self {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        // The end of each start is asked for as well, lest two openings in a
        // row be merged into one event.
        inotify::add_watch(&fd, program, WatchFlags::OPEN | WatchFlags::CLOSE_NOWRITE).unwrap();
        Self(fd)
    }

    fn since_last(&self) -> u32 {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut count = 0;
        while let Ok(event) = reader.next() {
            count += u32::from(event.events().contains(ReadFlags::OPEN));
        }
        count
    }
}

/// What one report costs: a shell, as the CLI uses it, and the sink in it.
pub fn measure_sink() -> Sink {
    let root = tempfile::tempdir().unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind(root.path().join("sink.sock")).unwrap();
    let input =
        fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/sink/statusline.json"))
            .unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut peak_kib = 0;
    let start = || {
        let mut child = Command::new(longhaul())
            .args(["__sink", "statusline"])
            .arg(root.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&input).unwrap();
        (child, stdin)
    };
    let (mut child, stdin) = start();
    // It waits for the end of its input.
    std::thread::sleep(Duration::from_millis(200));
    peak_kib = process::peak_kib(child.id()).unwrap_or(0).max(peak_kib);
    drop(stdin);
    assert!(child.wait().unwrap().success());
    let before_ms = process::cpu(std::process::id()).unwrap().waited_ms;
    for _ in 0..SINKS {
        let (mut child, stdin) = start();
        drop(stdin);
        assert!(child.wait().unwrap().success());
        assert!(socket.recv(&mut buffer).unwrap() > 0, "the sink sent nothing");
    }
    let after_ms = process::cpu(std::process::id()).unwrap().waited_ms;
    Sink { cpu_ms: (after_ms - before_ms) / f64::from(SINKS), peak_mb: megabytes(peak_kib) }
}
