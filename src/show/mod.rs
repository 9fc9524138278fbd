//! The display of a running run. Everything here reads the snapshot and the
//! notices; nothing here can delay, change or fail the run.
//!
//! | file | knows |
//! |---|---|
//! | `outlet` | how to write without ever waiting or failing |
//! | `line` | a notice in one line of words, and how much it matters |
//! | `json` | a notice as one JSON object (`dev-docs/EVENTS.md`) |
//! | `plain` | a log for a file: one line per notice that matters |
//! | `panel` | the few lines of state at the bottom of a terminal |
//! | `live` | drawing that panel in place, with the log scrolling above it |
//! | `look` | what the terminal can do: size, colour, glyphs, foreground |

mod json;
mod line;
mod live;
pub mod look;
mod outlet;
pub mod panel;
mod plain;

pub use look::size;

use std::fs::File;
use std::io::{IsTerminal as _, Write, stdout};
use std::os::fd::AsFd as _;

use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::cycle::{Notice, Snapshot};
use crate::error::Error;

/// Tells a person or a program what goes on.
pub trait Teller {
    /// Something happened; `view` is the run after it.
    fn tell(&mut self, at: Timestamp, notice: &Notice, view: &Snapshot<'_>);

    /// Time passed; to be called every [`Teller::tick_ms`].
    fn tick(&mut self, _now: Timestamp, _view: &Snapshot<'_>) {}

    /// How often `tick` is wanted, milliseconds; `None` if never, so that
    /// nobody wakes up for it.
    fn tick_ms(&self) -> Option<u64> {
        None
    }

    /// longhaul cannot go on: the last word of a run without an end of its own.
    /// People read the error on standard error, so only programs are told.
    fn give_up(&mut self, _at: Timestamp, _view: &Snapshot<'_>, _err: &Error) {}

    /// The last word. Waits for what is still on its way, two seconds at most.
    fn finish(&mut self, now: Timestamp, view: &Snapshot<'_>);
}

/// The teller for standard output: events for `--json`, a live panel for a
/// terminal that can redraw, plain lines for everything else. `group` is a process
/// group that may draw there in the place of ours.
pub fn teller(json: bool, group: Option<i64>) -> Box<dyn Teller> {
    let outlet = outlet::Outlet::new(sink());
    if json {
        return Box::new(json::Json::new(outlet));
    }
    let zone = TimeZone::system();
    match look::Look::of_environment() {
        Some(look) if stdout().is_terminal() => {
            Box::new(live::Live::new(outlet, look, zone).for_group(group))
        }
        Some(_) | None => Box::new(plain::Plain::new(outlet, zone)),
    }
}

/// Lines for standard output, of which whoever reads them may hold up none.
pub struct Lines(outlet::Outlet);

impl Lines {
    /// To standard output.
    pub fn to_stdout() -> Self {
        Self(outlet::Outlet::new(sink()))
    }

    /// Writes a text as soon as it can be. False: too much waits already, and it is left
    /// out.
    pub fn say(&self, text: &str) -> bool {
        self.0.offer(text)
    }

    /// Waits for what is still on its way, two seconds at most.
    pub fn finish(&self) {
        self.0.drain();
    }
}

/// Standard output without a buffer in between: one text, one write.
fn sink() -> Box<dyn Write + Send> {
    match stdout().as_fd().try_clone_to_owned() {
        Ok(fd) => Box::new(File::from(fd)),
        Err(_) => Box::new(stdout()),
    }
}
