//! Archiving, and what it saves whoever reads the files.

use std::path::Path;

use serde::Serialize;

use super::place::{Folder, QUEUE, RESULTS};
use super::{Patience, Place, Synced, sync};
use crate::queue::store::{Result, Store};

/// Bytes of JSON that make about one token.
///
/// English text has about four characters a token; JSON with its punctuation and
/// identifiers has somewhat fewer, so the estimate is a low one. Only the API counts
/// exactly, and it is not asked for this.
const BYTES_PER_TOKEN: u64 = 4;

/// How much there is to read in queue and results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Lines.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
    /// About how many tokens a session loads that reads them: bytes / 4.
    pub estimated_tokens: u64,
}

impl Size {
    fn of(place: &Place<'_>) -> Self {
        let mut size = Size::default();
        let folder = Folder::open(place.project, place.folder).ok().flatten();
        for name in [QUEUE, RESULTS] {
            // What cannot be read is told by the sync.
            let file = folder.as_ref().and_then(|folder| folder.read(name).ok().flatten());
            size = size.plus(file.map(|file| Size::of_text(&file.bytes)).unwrap_or_default());
        }
        size
    }

    fn of_text(bytes: &[u8]) -> Self {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let open_line = u64::from(bytes.last().is_some_and(|last| *last != b'\n'));
        let bytes = bytes.len() as u64;
        Self { lines: lines + open_line, bytes, estimated_tokens: bytes.div_ceil(BYTES_PER_TOKEN) }
    }

    fn plus(self, other: Size) -> Size {
        Size {
            lines: self.lines + other.lines,
            bytes: self.bytes + other.bytes,
            estimated_tokens: self.estimated_tokens + other.estimated_tokens,
        }
    }
}

/// What was archived, and what that saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reduction {
    /// Results that were moved to the archive.
    pub moved: u64,
    /// The project's queue and results before.
    pub before: Size,
    /// The same afterwards.
    pub after: Size,
    /// What the syncs had to say.
    pub synced: Vec<Synced>,
}

impl Reduction {
    /// What was saved, for a person.
    pub fn sentence(&self) -> String {
        use crate::text::{count, tokens};
        let (before, after) = (self.before, self.after);
        format!(
            "queue and results to read: {} -> {}, about {} -> {} tokens (estimated: a token is \
             {BYTES_PER_TOKEN} bytes)",
            count(before.lines, "line", "lines"),
            count(after.lines, "line", "lines"),
            tokens(before.estimated_tokens),
            tokens(after.estimated_tokens)
        )
    }
}

/// What is archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutoff {
    /// Results older than this, milliseconds (`queue.archive_after`).
    pub age_ms: u64,
    /// But for the newest so many (`queue.keep_recent`).
    pub keep_recent: u32,
}

/// Moves old results of a project to the archive and writes its files, if it has any,
/// anew.
///
/// # Errors
/// As [`sync`].
pub fn archive(
    store: &mut dyn Store,
    project: &Path,
    folder: Option<&Path>,
    state_root: &Path,
    now_unix_ms: i64,
    cutoff: Cutoff,
) -> Result<Reduction> {
    let place = folder.map(|folder| Place { project, folder, state_root });
    let mut reduction = Reduction::default();
    let mut measure = |store: &mut dyn Store| -> Result<Size> {
        let Some(place) = &place else { return Ok(Size::default()) };
        reduction.synced.push(sync(store, *place, now_unix_ms, Patience::Wait)?);
        Ok(Size::of(place))
    };
    // What is still to be taken over or shown is no merit of the archive.
    let before = measure(store)?;
    let age_ms = i64::try_from(cutoff.age_ms).unwrap_or(i64::MAX);
    let before_unix_ms = now_unix_ms.saturating_sub(age_ms);
    let moved = store.archive(project, before_unix_ms, cutoff.keep_recent)?;
    let after = measure(store)?;
    Ok(Reduction { moved, before, after, ..reduction })
}
