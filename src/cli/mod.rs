//! Commands as typed.

pub mod doctor;
pub mod init;
pub mod print;
pub mod target;

/// Runs the program; the exit code is the documented one.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
