//! Commands as typed.

use std::process::ExitCode;

use crate::session;

/// Runs the program; the exit code is the documented one.
pub fn main() -> ExitCode {
    // Before anything else: these two must stay small and quick.
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(arg) if arg == session::KEEPER_COMMAND => return session::keeper_main(),
        Some(arg) if arg == session::SINK_COMMAND => return session::sink_main(args),
        _ => {}
    }
    ExitCode::SUCCESS
}
