//! `longhaul usage` beside ccusage, on the same transcripts, in one run.
//!
//! ```text
//! cargo bench --bench usage                            the table; exit 1 if a target is missed
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
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use corpus::Totals;
use serde_json::Value;

/// The release that is compared with.
const CCUSAGE: &str = "20.0.24";
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
    let first = ours.run(&config_dir, &home);
    let names = ["input", "output", "cache_write_5m", "cache_read"];
    assert_eq!(totals(&first.said, names), known, "longhaul finds what is there");
    let first = theirs.run(&config_dir, &home);
    let names = ["inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens"];
    assert_eq!(totals(&first.said, names), known, "ccusage finds what is there");
    let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..arguments.runs.max(1) {
        for (program, runs) in [&ours, &theirs].into_iter().zip(&mut runs) {
            runs.push(program.run(&config_dir, &home));
        }
    }
    let [ours, theirs] = runs.map(|runs| {
        let ms = median(runs.iter().map(|run| run.elapsed.as_millis()));
        (ms, median(runs.iter().map(|run| run.peak_kb)))
    });
    let _ = fs::remove_dir_all(&config_dir);
    println!("| cold, no index | longhaul | ccusage {CCUSAGE} | ratio | held to |");
    println!("|---|---|---|---|---|");
    let faster = theirs.0 as f64 / ours.0.max(1) as f64;
    println!("| time, median | {} ms | {} ms | {faster:.1} | 3 |", ours.0, theirs.0);
    let smaller = theirs.1 as f64 / ours.1.max(1) as f64;
    println!("| memory, peak | {} kB | {} kB | {smaller:.1} | 4 |", ours.1, theirs.1);
    match faster >= 3.0 && smaller >= 4.0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
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
