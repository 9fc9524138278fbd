//! Reaction and session change: one run of many short sessions, each of which
//! crosses the threshold in the middle of a turn.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use longhaul::demo::api::{Reply, Request, Role, Script, Usage};

use super::process;
use super::transcripts::Watcher;
use super::world::{World, longhaul, wait_for_end};

const THRESHOLD_TOKENS: u64 = 30_000;
/// How often it is looked for the next CLI once the last one is gone: often
/// enough for a figure in milliseconds, seldom enough to leave the cores alone.
const LOOK: Duration = Duration::from_micros(250);
/// Between two looks at the memory.
const SAMPLE: Duration = Duration::from_millis(100);

/// Samples of one run.
#[derive(Debug, Default)]
pub struct Measured {
    /// The row written -> the text written to the pty.
    pub reaction_ms: Vec<f64>,
    /// The watcher's own delay: the row written -> found by the bench.
    pub watcher_ms: Vec<f64>,
    /// The text written -> the CLI's row that it took it in.
    pub taken_in_ms: Vec<f64>,
    /// The old CLI gone -> the new one running.
    pub change_ms: Vec<f64>,
    /// Memory of all of longhaul at each look through the whole run, sinks
    /// included when one was met; 10^6 bytes.
    pub resident_mb: Vec<f64>,
}

/// Works until it is asked for a checkpoint; the second answer of a session
/// crosses the threshold while the turn goes on.
struct Worker;

impl Script for Worker {
    fn reply(&self, request: &Request) -> Reply {
        let answers = request.turns.iter().filter(|t| t.role == Role::Assistant).count() as u64;
        let usage = Usage::of_context(20_000 * (answers + 1), 20_000, 100);
        if request.side {
            return Reply::side(usage);
        }
        let said = request.turns.iter().rposition(longhaul::demo::api::Turn::is_said).unwrap_or(0);
        let is_request = |text: &String| text.starts_with("CHECKPOINT");
        if !request.turns.get(said).is_some_and(|turn| turn.texts.iter().any(is_request)) {
            // No two sessions alike, so that no timer can run in step with them.
            let latency = Duration::from_millis(60 + u64::from(request.session_index) * 37 % 300);
            return Reply::bash("echo step >> work.log; sleep 0.4", usage)
                .saying("working")
                .after(latency);
        }
        if request.turns[said..].iter().any(|turn| !turn.tool_uses.is_empty()) {
            return Reply::text("Written down.", usage);
        }
        let files = "dev-docs/PROJECT_SUMMARY.md dev-docs/plan.md dev-docs/tasks.md";
        let session = request.session_index;
        Reply::bash(format!("for f in {files}; do echo 'Checkpoint {session}.' >> $f; done"), usage)
    }
}

pub fn measure(sessions: u32) -> Measured {
    let world = World::new(Worker);
    let watcher = Watcher::start(world.transcripts(), THRESHOLD_TOKENS);
    let cli = fs::canonicalize(&world.demo.cli.program).unwrap();
    let run = world.run_to_pipe(&[
        &format!("context.threshold_tokens={THRESHOLD_TOKENS}"),
        &format!("limits.max_sessions={sessions}"),
        "limits.no_progress_cycles=1000",
    ]);
    let sampler = Sampler::start(run.pid);
    let mut measured = Measured::default();
    let mut gone_us = None;
    while let Some(pid) = run.wait_for_cli(&cli, LOOK) {
        let running_us = process::boot_us();
        if let Some(gone_us) = gone_us {
            measured.change_ms.push(ms_between(gone_us, running_us));
        }
        gone_us = Some(wait_for_end(pid));
    }
    let (code, said) = run.finish();
    assert!(code == Some(20), "the run should end with its sessions spent, not {code:?}\n{said}");
    measured.resident_mb = sampler.finish();
    let seen = watcher.finish();
    let log = world.log();
    let written: Vec<u64> = log.lines().filter_map(text_written_us).collect();
    for session in seen {
        let Some(crossed_us) = session.crossed_us else { continue };
        let first = written.iter().copied().find(|us| *us >= crossed_us);
        let Some(text_us) = first else { panic!("a crossing without a request\n{log}") };
        measured.reaction_ms.push(ms_between(crossed_us, text_us));
        measured.watcher_ms.push(ms_between(crossed_us, session.found_us));
        if let Some(enqueued_us) = session.enqueued_us {
            measured.taken_in_ms.push(ms_between(text_us, enqueued_us));
        }
    }
    assert!(measured.reaction_ms.len() == sessions as usize, "not every session crossed\n{said}");
    measured
}

/// Looks at the memory of a run beside everything else.
struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<f64>>,
}

impl Sampler {
    fn start(supervisor: u32) -> Self {
        let own = longhaul();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let all = process::running(supervisor, &own);
                let kib = all.into_iter().filter_map(process::memory).map(|m| m.resident_kib).sum();
                // None is left once the run is over.
                samples.extend(Some(process::megabytes(kib)).filter(|mb| *mb > 0.0));
                std::thread::sleep(SAMPLE);
            }
            samples
        });
        Self { stop, thread }
    }

    fn finish(self) -> Vec<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The moment in `… text written to the pty id=0 text_written_us=123`.
fn text_written_us(line: &str) -> Option<u64> {
    let (_, number) = line.split_once("text_written_us=")?;
    number.split_whitespace().next()?.parse().ok()
}

fn ms_between(from_us: u64, to_us: u64) -> f64 {
    (to_us as f64 - from_us as f64) / 1000.0
}
