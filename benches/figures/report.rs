//! The figures beside their targets: a table for a person, JSON for a program.

use std::fmt::Write as _;
use std::fs;

use serde::Serialize;

use super::statistics::Summary;
use super::{cycles, load, queue, statusline};

/// The row across the threshold written -> the request written to the pty.
const REACTION_MEDIAN_MS: f64 = 50.0;
/// The old CLI gone -> the new one running.
const CHANGE_MEDIAN_MS: f64 = 100.0;
/// All processes of longhaul together, at their largest; 10^6 bytes.
const RESIDENT_MB: f64 = 12.0;
/// Of one core, while a session works.
const CPU_PERCENT: f64 = 0.5;
/// Each call of the queue, and each command of it, however long the queue is.
const QUEUE_MEDIAN_MS: f64 = 10.0;
/// What a full queue may add to the memory of a process; 10^6 bytes.
const QUEUE_GROWTH_MB: f64 = 4.0;
/// From the start of the process to its end: the CLI waits for it.
const STATUSLINE_MEDIAN_MS: f64 = 5.0;

#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    unit: &'static str,
    #[serde(flatten)]
    summary: Summary,
    /// What is held against the target, and the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Target {
    of: &'static str,
    value: f64,
    at_most: f64,
    met: bool,
}

/// The machine, since a figure means nothing without it.
#[derive(Debug, Serialize)]
struct Machine {
    cores: usize,
    kernel: String,
    /// Load averages before and after: other work on the cores shows here.
    load_before: String,
    load_after: String,
}

#[derive(Debug, Serialize)]
pub struct Figures {
    longhaul: &'static str,
    claude: &'static str,
    date: String,
    machine: Machine,
    figures: Vec<Figure>,
}

impl Figures {
    pub fn begin() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            longhaul: env!("CARGO_PKG_VERSION"),
            claude: longhaul::demo::install::PINNED_VERSION,
            date: longhaul::clock::Timestamp::now().rfc3339(),
            machine: Machine {
                cores: std::thread::available_parallelism().map_or(0, usize::from),
                kernel: kernel.trim().to_owned(),
                load_before: load_average(),
                load_after: String::new(),
            },
            figures: Vec::new(),
        }
    }

    pub fn end(&mut self) {
        self.machine.load_after = load_average();
    }

    fn add(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        samples: impl IntoIterator<Item = f64>,
    ) -> &mut Figure {
        let summary = Summary::of(samples);
        self.figures.push(Figure { name: name.into(), unit, summary, target: None });
        self.figures.last_mut().unwrap()
    }

    pub fn cycles(&mut self, measured: &cycles::Measured) {
        self.add("reaction: row written -> text in the pty", "ms", measured.reaction_ms.clone())
            .median_at_most(REACTION_MEDIAN_MS);
        self.add("  the bench's own watcher on the same rows", "ms", measured.watcher_ms.clone());
        self.add("  text in the pty -> taken in by the CLI", "ms", measured.taken_in_ms.clone());
        self.add("session change: old CLI gone -> new one runs", "ms", measured.change_ms.clone())
            .median_at_most(CHANGE_MEDIAN_MS);
        self.add(
            "resident, all together: the whole of that run",
            "MB",
            measured.resident_mb.clone(),
        )
        .max_at_most(RESIDENT_MB);
    }

    pub fn sink(&mut self, sink: &load::Sink) {
        self.add("one report of the CLI (a sink): CPU", "ms", [sink.cpu_ms]);
        self.add("  its memory while it lives", "MB", [sink.peak_mb]);
    }

    pub fn load(&mut self, measured: &load::Measured, sink: &load::Sink) {
        let name = measured.situation.name();
        self.add(format!("resident, all together: {name}"), "MB", measured.resident_mb.clone())
            .max_at_most(RESIDENT_MB);
        // Looking every so often meets a sink by chance only: here one counts.
        let with_sink = measured.supervisor_mb + measured.keeper_mb + sink.peak_mb;
        self.add("  while one sink runs, resident", "MB", [with_sink]).max_at_most(RESIDENT_MB);
        self.add("  supervisor, resident", "MB", [measured.supervisor_mb]);
        self.add("  keeper, resident", "MB", [measured.keeper_mb]);
        self.add("  shared pages counted once", "MB", measured.proportional_mb.clone());
        self.add("  private and no file's", "MB", measured.anonymous_mb.clone());
        let sinks_percent = measured.sinks_per_s * sink.cpu_ms / 10.0;
        let all = measured.supervisor_percent + measured.keeper_percent + sinks_percent;
        self.add(format!("CPU, all together: {name}"), "%", [all]).max_at_most(CPU_PERCENT);
        self.add("  supervisor", "%", [measured.supervisor_percent]);
        self.add("  keeper", "%", [measured.keeper_percent]);
        self.add("  sinks", "%", [sinks_percent]);
        self.add("  sinks started", "/s", [measured.sinks_per_s]);
        self.add("  wake-ups", "/s", [measured.wakeups_per_s]);
    }

    pub fn queue(&mut self, measured: &queue::Measured) {
        let tasks = longhaul::text::grouped(u64::from(measured.tasks));
        for (name, samples_ms) in &measured.calls_ms {
            self.add(format!("queue of {tasks}: {name}"), "ms", samples_ms.clone())
                .median_at_most(QUEUE_MEDIAN_MS);
        }
        for (name, samples_ms) in &measured.commands_ms {
            self.add(format!("  the command: {name}"), "ms", samples_ms.clone());
        }
        self.add("  memory added by all of these calls", "MB", [measured.growth_mb])
            .max_at_most(QUEUE_GROWTH_MB);
        self.add("  filling it, a task", "ms", [measured.fill_ms]);
        self.add("  the file", "MB", [measured.file_mb]);
    }

    pub fn statusline(&mut self, measured: &statusline::Measured) {
        for (name, samples_ms) in [
            ("status line", &measured.fresh_ms),
            ("  that has the day's cost made anew", &measured.stale_ms),
            ("  where nothing can be kept", &measured.bare_ms),
        ] {
            self.add(name, "ms", samples_ms.clone()).median_at_most(STATUSLINE_MEDIAN_MS);
        }
        self.add("  for comparison: longhaul --version", "ms", measured.version_ms.clone());
    }

    pub fn all_met(&self) -> bool {
        self.figures.iter().filter_map(|figure| figure.target).all(|target| target.met)
    }

    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap()
    }

    pub fn table(&self) -> String {
        let width = self.figures.iter().map(|f| f.name.len()).max().unwrap_or(0);
        let mut text = format!(
            "longhaul {} with Claude Code {}, {}\n{} cores, Linux {}; load {} before, {} after\n\n",
            self.longhaul,
            self.claude,
            self.date,
            self.machine.cores,
            self.machine.kernel,
            self.machine.load_before,
            self.machine.load_after,
        );
        let _ = writeln!(
            text,
            "{:width$}  {:>4}  {:>8} {:>8} {:>8} {:>8}",
            "", "n", "median", "p95", "max", "target"
        );
        for Figure { name, unit, summary, target } in &self.figures {
            let _ = write!(
                text,
                "{name:width$}  {:>4}  {:>8.2} {:>8.2} {:>8.2} ",
                summary.count, summary.median, summary.p95, summary.max
            );
            let _ = match target {
                Some(Target { of, at_most, met, .. }) => {
                    let word = if *met { "met" } else { "MISSED" };
                    writeln!(text, "{at_most:>8} {unit}  {of} {word}")
                }
                None => writeln!(text, "{:>8} {unit}", ""),
            };
        }
        text
    }
}

impl Figure {
    fn median_at_most(&mut self, at_most: f64) {
        self.hold("median", self.summary.median, at_most);
    }

    fn max_at_most(&mut self, at_most: f64) {
        self.hold("max", self.summary.max, at_most);
    }

    fn hold(&mut self, of: &'static str, value: f64, at_most: f64) {
        self.target = Some(Target { of, value, at_most, met: value <= at_most });
    }
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(1).collect()
}
