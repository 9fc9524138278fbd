//! Commands as typed: one file a command, and the way from a result to an exit code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::session;

pub mod doctor;
pub mod init;
pub mod print;
pub mod target;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

/// Keeps a long task going on Claude Code through as many sessions as it takes
#[derive(Debug, Parser)]
#[command(name = "longhaul")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write what a project needs for its first run, overwriting nothing
    Init(init::InitArgs),
    /// Say what would stop a run, and how to mend it
    Doctor(doctor::DoctorArgs),
}

/// Runs the program; the exit code is the documented one.
pub fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Init(args) => init::run(&args).map(|()| 0),
        Command::Doctor(args) => doctor::run(&args),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(err) => {
            // Nobody may be there to read it; the exit code says enough.
            let _ = writeln!(std::io::stderr(), "{}", err.render());
            ExitCode::from(err.kind().exit_code())
        }
    }
}
