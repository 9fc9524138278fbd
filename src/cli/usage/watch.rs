//! The same again, whenever it has changed.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::{Asked, Form, state_root};
use crate::clock::Timestamp;
use crate::usage::{Index, Seen};
use crate::{Error, ErrorKind, Result, show};

/// Looks are so far apart at least.
const LOOK_MS: u64 = 2_000;
/// A look takes no more than this part of the time.
const SHARE: u64 = 30;
/// Lines of a table that are no rows of it: the head, the total, two lines below, and the
/// one the cursor is on.
const OTHER_LINES: usize = 5;

/// Tells it until somebody ends it, or nobody reads it any more.
pub(super) fn watch(asked: &Asked) -> Result<()> {
    let root = state_root()?;
    let mut index = Index::open(&root, &asked.dirs)?;
    let runs = asked.view.is_of_runs().then_some(root.as_path());
    let is_screen = asked.form == Form::Table && io::stdout().is_terminal();
    let mut last = None;
    loop {
        let begun = Timestamp::now();
        let seen = asked.seen(&mut index, runs)?;
        // How much had to be read is no news.
        let now = Seen { bytes_read: 0, ..seen.clone() };
        if last.as_ref() != Some(&now) {
            let (clear, lines) = match is_screen {
                true => ("\x1b[H\x1b[2J", show::size().1.saturating_sub(OTHER_LINES).max(1)),
                false => ("", usize::MAX),
            };
            if !write(&format!("{clear}{}", asked.told(&seen, lines)?))? {
                return Ok(());
            }
            last = Some(now);
        }
        let took_ms = Timestamp::now().boot_ms.saturating_sub(begun.boot_ms);
        std::thread::sleep(Duration::from_millis(LOOK_MS.max(took_ms.saturating_mul(SHARE))));
    }
}

/// False: nobody reads it any more.
fn write(text: &str) -> Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(err) => Err(Error::io(ErrorKind::Internal, "cannot write to standard output", err)),
    }
}
