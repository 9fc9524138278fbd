//! The figures longhaul is held to, measured on the release binary and the real
//! Claude Code CLI against the scripted Messages API: nothing is simulated but
//! the model's answers. The queue and the status line are measured by themselves.
//!
//! ```text
//! cargo bench --bench figures                    the table; exit 1 if a target is missed
//! cargo bench --bench figures -- --json          the same as one JSON object
//! cargo bench --bench figures -- --sessions 6 --seconds 15     a quick look
//! ```
//!
//! `dev-docs/FIGURES.md` says how each figure is taken and what was found.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod cycles;
mod load;
mod process;
mod queue;
mod report;
mod statistics;
mod statusline;
mod transcripts;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Measures reaction, session change, memory, CPU, the queue and the status line.
#[derive(Debug, Parser)]
struct Arguments {
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Sessions whose threshold is crossed, one crossing each
    #[arg(long, default_value_t = 22, value_parser = clap::value_parser!(u32).range(2..=200))]
    sessions: u32,
    /// How long memory and CPU are watched in each situation
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=600))]
    seconds: u64,
    /// Tasks in the queue that is measured
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    tasks: u32,
    /// Only the figures whose name contains this
    #[arg(long)]
    only: Option<Part>,
    /// Measure this binary and not the one just built
    #[arg(long, value_name = "FILE")]
    longhaul: Option<std::path::PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part that can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Reaction and session change.
    Cycles,
    /// Memory and CPU.
    Load,
    /// The task queue.
    Queue,
    /// The line for people's own sessions.
    Statusline,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench {
        println!("the figures take minutes and are measured by `cargo bench --bench figures`");
        return ExitCode::SUCCESS;
    }
    if let Some(program) = arguments.longhaul.clone() {
        world::choose(program);
    }
    let wants = |part| arguments.only.is_none_or(|only| only == part);
    let mut figures = report::Figures::begin();
    if wants(Part::Cycles) {
        eprintln!("reaction and session change: {} sessions …", arguments.sessions);
        figures.cycles(&cycles::measure(arguments.sessions));
    }
    if wants(Part::Load) {
        let sink = load::measure_sink();
        figures.sink(&sink);
        for situation in load::Situation::ALL {
            eprintln!("memory and CPU: {}, {} s …", situation.name(), arguments.seconds);
            let during = Duration::from_secs(arguments.seconds);
            figures.load(&load::measure(situation, during), &sink);
        }
    }
    if wants(Part::Queue) {
        eprintln!("the queue: {} tasks …", arguments.tasks);
        figures.queue(&queue::measure(arguments.tasks));
    }
    if wants(Part::Statusline) {
        eprintln!("the status line …");
        figures.statusline(&statusline::measure());
    }
    figures.end();
    if arguments.json {
        println!("{}", figures.json());
    } else {
        print!("{}", figures.table());
    }
    if figures.all_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
