//! `longhaul statusline`: a line for people's own sessions, drawn in milliseconds.

use crate::cli::print::print;
use crate::clock::Timestamp;
use crate::session::sink;
use crate::show::look::Look;
use crate::state_dir;
use crate::statusline::{Session, line, look};
use crate::usage::dirs_of_environment;

/// The subcommand, for the short way to it.
pub const STATUSLINE_COMMAND: &str = "statusline";

const AFTER_HELP: &str = "\
Put it into ~/.claude/settings.json, and Claude Code draws the line after each reply:

    \"statusLine\": {\"type\": \"command\", \"command\": \"longhaul statusline\"}

It shows the model, how full the context is, the cost of the session and of all sessions
of today, dollars an hour over the last ten minutes, and for subscribers how much of the
limits is used. What is not known is shown as a dash; what is old, with ~ before it; with
+ behind it, there is more of models without a known price. `longhaul run` has a status
line of its own and does not disturb this one.";

/// Columns where the CLI does not say.
const COLUMNS: usize = 160;
/// It draws the line with two columns on either side free.
const MARGIN: usize = 4;
/// Where that would be too much to lose.
const NARROW: usize = 24;

/// Arguments of `longhaul statusline`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct StatuslineArgs {}

/// Draws the line of the session that standard input tells of. Whatever is wrong, it is
/// a line, and no error: the CLI would show nothing at all.
pub fn run() {
    let session = Session::of(&sink::read_input());
    let now = Timestamp::now().unix_ms;
    let state = state_dir::locate(|name| std::env::var_os(name)).ok();
    // Never in the project, not even where the person put the state there.
    let state = state.filter(|dir| !session.folders.iter().any(|folder| dir.starts_with(folder)));
    let dirs = dirs_of_environment();
    let known = look(state.as_deref(), &dirs, &session, now);
    let columns = columns(std::env::var("COLUMNS").ok().as_deref());
    let row = line(&session, known.today, known.pace, columns);
    // Nobody is there to be told of a failure.
    let _ = print(&format!("{}\n", row.paint(columns, Look::of_line())));
}

/// Columns that the CLI leaves of those it says its terminal has.
fn columns(said: Option<&str>) -> usize {
    let said = said.and_then(|said| said.trim().parse().ok()).filter(|n| *n > 0);
    match said.unwrap_or(COLUMNS) {
        few @ 1..NARROW => few,
        columns => columns - MARGIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_width_that_is_none_is_not_taken() {
        let said = [None, Some(""), Some("0"), Some("-3"), Some("x"), Some("80 ")];
        assert_eq!(said.map(columns), [156, 156, 156, 156, 156, 76]);
        assert_eq!(columns(Some("10")), 10);
    }
}
