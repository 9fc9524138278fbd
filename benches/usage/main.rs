//! `longhaul usage` beside ccusage, on the same transcripts, in one run.
//!
//! ```text
//! cargo bench --bench usage                            the tables; exit 1 if a target is missed
//! cargo bench --bench usage -- --sessions 100 --megabytes 65    a quick look
//! cargo bench --bench usage -- --golden                where they differ, trap by trap
//! ```
//!
//! The transcripts are made here, with totals that are known; a program that does not
//! find them is not measured. ccusage is the pinned release from npm, its own native
//! binary and not the wrapper around it, offline.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod corpus;
mod golden;
#[path = "../../tests/golden/corpus.rs"]
mod traps;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use corpus::Totals;
use serde_json::Value;

/// The release that is compared with.
const CCUSAGE: &str = "20.0.24";
/// Transcripts that grow between two runs.
const GROWING: u32 = 10;
/// So often every session appends a response while they are followed.
const TAIL_ROUNDS: u32 = 30;
const TAIL_EVERY: Duration = Duration::from_secs(1);
/// Its native binary within the npm package.
const NATIVE: &str = "node_modules/@ccusage/ccusage-linux-x64/bin/ccusage";

/// Measures `longhaul usage` beside ccusage.
#[derive(Debug, Parser)]
struct Arguments {
    /// Transcripts
    #[arg(long, default_value_t = 1_000)]
    sessions: u32,
    /// Megabytes of all of them
    #[arg(long, default_value_t = 650)]
    megabytes: u64,
    /// Times that each program runs
    #[arg(long, default_value_t = 7)]
    runs: u32,
    /// Measure this binary and not the one just built
    #[arg(long, value_name = "FILE")]
    longhaul: Option<PathBuf>,
    /// Leave the transcripts there afterwards, and say where
    #[arg(long)]
    keep: bool,
    /// Compare what both find on the golden corpus, and measure nothing
    #[arg(long)]
    golden: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// A program as it is run.
struct Program<'a> {
    name: &'a str,
    path: &'a Path,
    args: &'a [&'a str],
}

/// One run.
struct Run {
    elapsed: Duration,
    /// Largest resident set, kilobytes, as last seen.
    peak_kb: u64,
    said: Value,
}

impl Program<'_> {
    fn run(&self, config_dir: &Path, home: &Path) -> Run {
        let output = home.join("said.json");
        let begun = Instant::now();
        let mut child = Command::new(self.path)
            .args(self.args)
            .env_clear()
            .env("HOME", home)
            .env("CLAUDE_CONFIG_DIR", config_dir)
            .env("LONGHAUL_STATE_DIR", home.join("state"))
            .stdin(Stdio::null())
            .stdout(fs::File::create(&output).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak_kb = 0;
        let exit = loop {
            if let Ok(text) = fs::read_to_string(&status) {
                let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
                peak_kb = kb.unwrap_or(0).max(peak_kb);
            }
            if let Some(exit) = child.try_wait().unwrap() {
                break exit;
            }
            std::thread::sleep(Duration::from_micros(500));
        };
        let elapsed = begun.elapsed();
        assert!(exit.success(), "{} failed", self.name);
        let said = serde_json::from_slice(&fs::read(&output).unwrap()).unwrap();
        Run { elapsed, peak_kb, said }
    }
}

fn median<T: Ord + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// The totals of an answer, by whatever names its program gives them.
fn totals(said: &Value, names: [&str; 4]) -> Totals {
    let of = |name: &str| said["totals"][name].as_u64().unwrap_or(0);
    let [input, output, write, read] = names.map(of);
    Totals { input, output, cache_write: write, cache_read: read }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join("usage-bench");
    let home = room.join("home");
    fs::create_dir_all(&home).unwrap();
    let theirs = ccusage(&room);
    if arguments.golden {
        let ours = arguments.longhaul.unwrap_or_else(|| env!("CARGO_BIN_EXE_longhaul").into());
        return match golden::compare(&ours, &theirs) {
            Ok(()) => ExitCode::SUCCESS,
            Err(wrong) => {
                eprintln!("{wrong}");
                ExitCode::FAILURE
            }
        };
    }
    let config_dir = room.join(format!("corpus-{}-{}", arguments.sessions, arguments.megabytes));
    eprintln!("making {} transcripts of {} MB", arguments.sessions, arguments.megabytes);
    let known = corpus::make(&config_dir, arguments.sessions, arguments.megabytes * 1_000_000);
    let ours = arguments.longhaul.unwrap_or_else(|| env!("CARGO_BIN_EXE_longhaul").into());
    let ours = Program { name: "longhaul", path: &ours, args: &["usage", "daily", "--json"] };
    let args = ["claude", "daily", "--offline", "--json"];
    let theirs = Program { name: "ccusage", path: &theirs, args: &args };
    // Both have it in the page cache then.
    forget(&home);
    let first = ours.run(&config_dir, &home);
    let our_names = ["input", "output", "cache_write_5m", "cache_read"];
    assert_eq!(totals(&first.said, our_names), known, "longhaul finds what is there");
    let first = theirs.run(&config_dir, &home);
    let names = ["inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens"];
    assert_eq!(totals(&first.said, names), known, "ccusage finds what is there");
    let mut known = known;
    let [mut cold, mut warm, mut grown, mut other] = [const { Vec::new() }; 4];
    for round in 0..arguments.runs.max(1) {
        forget(&home);
        cold.push(ours.run(&config_dir, &home));
        warm.push(ours.run(&config_dir, &home));
        let read = |run: &Run| run.said["bytes_read"].as_u64();
        assert_eq!(warm.last().and_then(read), Some(0), "nothing is read twice");
        let appended = corpus::append(&config_dir, round, GROWING, &mut known);
        grown.push(ours.run(&config_dir, &home));
        assert_eq!(grown.last().and_then(read), Some(appended), "only what was appended is read");
        other.push(theirs.run(&config_dir, &home));
        for (run, names) in [(grown.last(), our_names), (other.last(), names)] {
            assert_eq!(run.map(|run| totals(&run.said, names)), Some(known));
        }
    }
    let tail = tail(&ours, &config_dir, &home, arguments.sessions, &mut known);
    match arguments.keep {
        true => eprintln!("{}", config_dir.display()),
        false => drop(fs::remove_dir_all(&config_dir)),
    }
    let time = |runs: &[Run]| median(runs.iter().map(|run| run.elapsed.as_micros())) as f64 / 1e3;
    let memory = |runs: &[Run]| median(runs.iter().map(|run| run.peak_kb)) as f64 / 1e3;
    println!("| | longhaul | ccusage {CCUSAGE} | ratio | held to |");
    println!("|---|---|---|---|---|");
    let (their_ms, their_mb) = (time(&other), memory(&other));
    let mut is_met = true;
    let mut line = |what: &str, unit: &str, our: f64, their: f64, ratio: f64, most: f64| {
        let held = match most.is_finite() {
            true => format!("{ratio}, {most} {unit}"),
            false => format!("{ratio}"),
        };
        println!("| {what} | {our:.1} {unit} | {their:.0} {unit} | {:.1} | {held} |", their / our);
        is_met &= their / our >= ratio && our <= most;
    };
    line("cold, no index: time", "ms", time(&cold), their_ms, 3.0, f64::INFINITY);
    line("cold, no index: memory", "MB", memory(&cold), their_mb, 4.0, f64::INFINITY);
    line("warm: time", "ms", time(&warm), their_ms, 50.0, 20.0);
    let what = format!("warm, {GROWING} have grown: time");
    line(&what, "ms", time(&grown), their_ms, 50.0, f64::INFINITY);
    println!();
    println!("| {} sessions, each appending | measured | held to |", arguments.sessions);
    println!("|---|---|---|");
    println!("| responses appended in a second | {:.0} | |", tail.appended_per_s);
    println!("| share of a core | {:.1} % | 5 % |", tail.core_percent);
    println!("| memory, peak | {:.1} MB | 50 MB |", tail.peak_mb);
    is_met &= tail.core_percent < 5.0 && tail.peak_mb < 50.0;
    match is_met {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// What it takes to follow live sessions.
struct Tail {
    appended_per_s: f64,
    core_percent: f64,
    peak_mb: f64,
}

/// Has every session append a response again and again while `longhaul usage --watch` is
/// told to follow, and waits until it has told of the last of them.
fn tail(
    program: &Program<'_>,
    config_dir: &Path,
    home: &Path,
    sessions: u32,
    known: &mut Totals,
) -> Tail {
    let mut child = Command::new(program.path)
        .args(["usage", "daily", "--json", "--watch"])
        .env_clear()
        .env("HOME", home)
        .env("CLAUDE_CONFIG_DIR", config_dir)
        .env("LONGHAUL_STATE_DIR", home.join("state"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    // The first look is none of the following.
    next();
    let (cpu_before, begun) = (cpu_ms(child.id()), Instant::now());
    for round in 0..TAIL_ROUNDS {
        corpus::append(config_dir, 100 + round, sessions, known);
        let wanted = TAIL_EVERY * (round + 1);
        std::thread::sleep(wanted.saturating_sub(begun.elapsed()));
    }
    let appending = begun.elapsed();
    while totals(&next(), ["input", "output", "cache_write_5m", "cache_read"]) != *known {}
    let (elapsed, cpu) = (begun.elapsed(), cpu_ms(child.id()) - cpu_before);
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kb: f64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    Tail {
        appended_per_s: f64::from(sessions * TAIL_ROUNDS) / appending.as_secs_f64(),
        core_percent: cpu as f64 / elapsed.as_millis() as f64 * 100.0,
        peak_mb: peak_kb / 1e3,
    }
}

/// CPU time of a process so far, in user mode and in the kernel.
fn cpu_ms(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 =
        after.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
    ticks * 10
}

/// Removes what longhaul remembers.
fn forget(home: &Path) {
    let _ = fs::remove_dir_all(home.join("state"));
}

/// The native binary of ccusage, installed below `room` if it is not there.
fn ccusage(room: &Path) -> PathBuf {
    let place = room.join(format!("ccusage-{CCUSAGE}"));
    let binary = place.join(NATIVE);
    if !binary.exists() {
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("package.json"), "{\"private\": true}").unwrap();
        let package = format!("ccusage@{CCUSAGE}");
        let npm = ["install", "--no-audit", "--no-fund", "--ignore-scripts", &package];
        let done = Command::new("npm").args(npm).current_dir(&place).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    binary
}
