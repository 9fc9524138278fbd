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

use std::path::Path;

pub use input::Session;
pub use line::{Today, line};
pub use rate::{Pace, forget_old};

use crate::usage::Now;
use crate::usage::now::begin_refresh;

/// What is older is fetched anew, beside.
const FRESH_MS: u64 = 30_000;
/// What is older is marked as such.
const STALE_MS: u64 = 60_000;

/// What all sessions spent today, as the small file of the account says; `None` where it
/// does not tell of today.
pub fn today(state_dir: &Path, dirs: &[std::path::PathBuf], now_unix_ms: i64) -> Option<Today> {
    if dirs.is_empty() {
        return None;
    }
    let found = Now::read(state_dir, dirs);
    let age_ms = found.as_ref().map_or(u64::MAX, |now| now.age_ms(now_unix_ms));
    let day = found.and_then(|now| now.day(now_unix_ms));
    if age_ms > FRESH_MS || day.is_none() {
        begin_refresh(state_dir, dirs, now_unix_ms);
    }
    day.map(|spent| Today { spent, is_stale: age_ms > STALE_MS })
}

/// How fast the session spends, remembered below `state_dir`.
pub fn pace(state_dir: Option<&Path>, session: &Session, now_unix_ms: i64) -> Option<Pace> {
    rate::pace(state_dir, session, now_unix_ms)
}
