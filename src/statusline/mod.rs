//! One line for the CLI's own status line: `longhaul statusline`.
//!
//! The CLI starts it after each reply and waits for it, so it opens no transcript and
//! parses no configuration: it reads what the CLI hands over and two small files.
//!
//! | file | knows |
//! |---|---|
//! | `input` | what the CLI tells, tolerant |
//! | `rate` | how fast a session spends, and what is remembered for it |
//! | `line` | the line, for so many columns; pure |

mod input;
mod line;
mod rate;

use std::path::{Path, PathBuf};

pub use input::Session;
pub use line::{Today, line};
pub use rate::{Pace, forget_old};

use crate::usage::Now;
use crate::usage::now::begin_refresh;
use rate::Memory;

/// What is older is fetched anew, beside.
const FRESH_MS: u64 = 30_000;
/// What is older is marked as such.
const STALE_MS: u64 = 60_000;

/// What is known beyond the session itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Known {
    /// What all sessions spent today; `None` where nothing tells of today.
    pub today: Option<Today>,
    /// How fast this one spends.
    pub pace: Option<Pace>,
}

/// Looks into the small files below `state_dir`, remembers what the session has spent by
/// now, and has the account of `dirs` looked at where that is due.
pub fn look(
    state_dir: Option<&Path>,
    dirs: &[PathBuf],
    session: &Session,
    now_unix_ms: i64,
) -> Known {
    let Some(state_dir) = state_dir else {
        return Known { pace: rate::whole_life(session), ..Known::default() };
    };
    let mut memory = Memory::of(state_dir, session);
    let found = Now::read(state_dir, dirs).filter(|_| !dirs.is_empty());
    let age_ms = found.as_ref().map_or(u64::MAX, |now| now.age_ms(now_unix_ms));
    let today = found.as_ref().and_then(|now| {
        let mut spent = now.day(now_unix_ms)?;
        // Its newest replies are in no account yet.
        spent.cost_usd += memory.since(session, now.at_unix_ms);
        Some(Today { spent, is_stale: age_ms > STALE_MS })
    });
    let is_due = !dirs.is_empty() && (age_ms > FRESH_MS || today.is_none());
    let pace = memory.see(session, now_unix_ms, is_due);
    memory.keep();
    if is_due {
        begin_refresh(state_dir, dirs, now_unix_ms);
    }
    Known { today, pace }
}
