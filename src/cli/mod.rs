//! Commands as typed: one file a command, and the way from a result to an exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};
use signal_hook::consts::signal::SIGXFSZ;

use crate::control::Request;
use crate::error::{Error, Result};
use crate::models::Models;
use crate::usage::now::{SPENT_COMMAND, spent_main};
use crate::{notify, session};

pub mod ask;
mod asker;
mod begin;
pub mod demo;
pub mod doctor;
pub mod init;
pub mod observe;
pub mod print;
pub mod queue;
pub mod run;
pub mod serve;
pub mod statusline;
pub mod target;
pub mod task;
pub mod track;
pub mod usage;
pub mod worker;

/// Keeps a long task going on Claude Code through as many sessions as it takes.
#[derive(Debug, Parser)]
#[command(name = "longhaul", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lay out longhaul.toml, dev-docs and the session-init command (never overwrites)
    Init(init::InitArgs),
    /// Check everything a run needs, and say how to mend what is missing
    Doctor(doctor::DoctorArgs),
    /// Supervise sessions until the task file says done
    Run(run::RunArgs),
    /// Show where the live run stands, or how the last one ended
    Status(ask::AskArgs),
    /// Start nothing new after the present turn
    Pause(ask::AskArgs),
    /// Go on after a pause
    Resume(ask::AskArgs),
    /// Ask for a checkpoint now and go on in a fresh session
    Cycle(ask::AskArgs),
    /// Ask for a checkpoint, then end the session and the run
    Stop(ask::StopArgs),
    /// Tell what the run did, what it cost and why it ended
    Report(ask::ReportArgs),
    /// Listen for other programs: they add tasks and read results
    Serve(serve::ServeArgs),
    /// Put tasks into the queue, list, change, cancel and archive them
    Task(task::TaskArgs),
    /// Work off the task queue
    Queue(queue::QueueArgs),
    /// One run of the queue; started by `queue run`
    #[command(name = worker::WORKER_COMMAND, hide = true)]
    Worker(worker::WorkerArgs),
    /// Tell where tokens and money went, in all transcripts of this machine
    Usage(usage::UsageArgs),
    /// Draw one line for Claude Code's own status line: context, cost, burn rate
    Statusline(statusline::StatuslineArgs),
    /// Record what a task used, or review what tasks used: JSON in, JSON out
    Track(track::TrackArgs),
    /// Tell what was odd about the executions of a day, and what would cost less
    Observe(observe::ObserveArgs),
    /// Watch the main job offline: the real CLI, a scripted API, no account, no cost
    Demo(demo::DemoArgs),
}

impl Command {
    /// Prices must be known before it begins.
    fn is_about_money(&self) -> bool {
        use Command::{Doctor, Observe, Queue, Run, Serve, Track, Usage, Worker};
        matches!(self, Doctor(_) | Observe(_) | Queue(_) | Run(_))
            || matches!(self, Serve(_) | Track(_) | Usage(_) | Worker(_))
    }
}

/// Is there a `--help` among what follows the subcommand?
fn asks_for_help() -> bool {
    std::env::args_os().skip(2).any(|arg| arg == "--help" || arg == "-h")
}

/// Runs the program; the exit code is the documented one.
pub fn main() -> ExitCode {
    // Before anything else: these must stay small and quick.
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(arg) if arg == session::KEEPER_COMMAND => {
            return session::keeper_main(session::Holds::Session);
        }
        Some(arg) if arg == session::COMMAND_KEEPER_COMMAND => {
            return session::keeper_main(session::Holds::Command);
        }
        Some(arg) if arg == session::SINK_COMMAND => return session::sink_main(args),
        Some(arg) if arg == notify::COURIER_COMMAND => return notify::courier_main(),
        // Whatever else it is given: of an error the CLI would show nothing at all.
        Some(arg) if arg == statusline::STATUSLINE_COMMAND && !asks_for_help() => {
            statusline::run();
            return ExitCode::SUCCESS;
        }
        Some(arg) if arg == SPENT_COMMAND => return spent_main(args),
        Some(arg) if arg == crate::track::FEED_COMMAND => return crate::track::feed_main(),
        _ => {}
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let is_error = e.use_stderr();
            let _ = e.print();
            return ExitCode::from(if is_error { 64 } else { 0 });
        }
    };
    end_on_panic();
    if matches!(cli.command, Command::Usage(_) | Command::Observe(_) | Command::Track(_)) {
        // A file that may not grow any more (`ulimit -f`) is an error like a full disk, and
        // not the end. (A run ends with the signal, as it does with every other.)
        let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    }
    match perform(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(err) => {
            print::complain(&err.render());
            ExitCode::from(err.kind().exit_code())
        }
    }
}

/// A panic, in whatever thread, ends longhaul with the documented code. The
/// kernel then lets go of the leash, and the keeper ends the session.
fn end_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        say(info);
        let err = Error::internal("longhaul met a fault of its own and gave up")
            .hint("the run's journal is kept; `longhaul run` takes the run up again");
        print::complain(&err.render());
        end_with(err.kind().exit_code());
    }));
}

#[expect(clippy::exit, reason = "there is no way back out of a panic hook")]
fn end_with(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

/// For what lives as long as a night: one thread, and little memory held by the others.
fn event_loop() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_stack_size(256 << 10)
        .build()
        .map_err(|e| Error::internal("cannot start the event loop").caused_by(e))
}

fn perform(command: Command) -> Result<u8> {
    if command.is_about_money() {
        Models::use_own(|name| std::env::var_os(name))?;
    }
    match command {
        Command::Init(args) => init::run(&args).map(|()| 0),
        Command::Doctor(args) => doctor::run(&args),
        Command::Run(args) => run::run(args),
        Command::Status(args) => ask::status(&args),
        Command::Pause(args) => ask::tell(&args, Request::Pause),
        Command::Resume(args) => ask::tell(&args, Request::Resume),
        Command::Cycle(args) => ask::tell(&args, Request::Cycle),
        Command::Stop(args) => ask::stop(&args),
        Command::Report(args) => ask::report(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Task(args) => task::run(args),
        Command::Queue(args) => queue::run(args),
        Command::Worker(args) => worker::run(args),
        Command::Usage(args) => usage::run(&args).map(|()| 0),
        Command::Statusline(_) => {
            statusline::run();
            Ok(0)
        }
        Command::Track(args) => track::run(&args),
        Command::Observe(args) => observe::run(&args).map(|()| 0),
        Command::Demo(args) => demo::run(&args),
    }
}
