//! Reads many transcripts side by side, each from where its last reading ended.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::places;
use super::reading::{Reader, Reading};
use crate::transcript::part::digest;
use crate::transcript::part::{Key, SharedNames};

/// So many bytes at the beginning, and before the end of a reading, must be as they were for
/// the rest to be taken as appended.
const ENDS_BYTES: usize = 256;
/// More threads would wait for the disk, and take memory.
const MAX_THREADS: usize = 8;

/// How far a transcript was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Bytes of whole lines that were taken in.
    pub(super) bytes: u64,
    /// The digest of the first and the last of them.
    pub(super) ends: Key,
}

/// A transcript to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Errand<'a> {
    pub(super) path: &'a Path,
    /// Its size, more or less.
    pub(super) bytes: u64,
    /// `None`: from the beginning.
    pub(super) from: Option<Mark>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) reading: Reading,
    pub(super) mark: Mark,
    /// It was read from the beginning, since what was read before is not there any more.
    pub(super) is_whole: bool,
}

/// Reads them, the largest first, and gives them in their order (`None`: it cannot be
/// read), and how many bytes that took.
pub(super) fn all(errands: &[Errand<'_>], names: &SharedNames) -> (Vec<Option<Fetched>>, u64) {
    let rest =
        |errand: &Errand<'_>| errand.bytes - errand.from.map_or(0, |at| at.bytes.min(errand.bytes));
    let mut order: Vec<usize> = (0..errands.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(rest(&errands[at])));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut reader = Reader::new(names);
        let mut done: Vec<(usize, Option<Fetched>)> = Vec::new();
        while let Some(&at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((at, fetch(&errands[at], &mut reader).ok()));
        }
        (done, reader.read_bytes)
    };
    let work = &work;
    let all = std::thread::scope(|scope| {
        // A few small ones are read before a thread is there.
        let others = cores.min(MAX_THREADS).min(errands.len().div_ceil(8));
        let others: Vec<_> = (1..others).map(|_| scope.spawn(work)).collect();
        let mut all = vec![work()];
        all.extend(others.into_iter().map(|other| other.join().expect("a reader does not panic")));
        all
    });
    let mut fetched: Vec<Option<Fetched>> = Vec::new();
    fetched.resize_with(errands.len(), || None);
    let mut bytes = 0;
    for (done, read_bytes) in all {
        bytes += read_bytes;
        for (at, what) in done {
            fetched[at] = what;
        }
    }
    (fetched, bytes)
}

fn fetch(errand: &Errand<'_>, reader: &mut Reader<'_>) -> io::Result<Fetched> {
    let mut file = places::open(errand.path)?;
    let is_grown = |from: &Mark| ends(&file, from.bytes).is_ok_and(|ends| ends == from.ends);
    let from = errand.from.filter(is_grown).map_or(0, |from| from.bytes);
    file.seek(SeekFrom::Start(from))?;
    let reading = reader.read(&file)?;
    let bytes = from + reading.whole_bytes;
    let mark = Mark { bytes, ends: ends(&file, bytes)? };
    Ok(Fetched { reading, mark, is_whole: from == 0 })
}

/// The digest of the first bytes, and of the last before `end`.
fn ends(file: &File, end: u64) -> io::Result<Key> {
    let mut both = [0; 2 * ENDS_BYTES];
    let count = end.min(ENDS_BYTES as u64);
    let (first, last) = both[..2 * count as usize].split_at_mut(count as usize);
    file.read_exact_at(first, 0)?;
    file.read_exact_at(last, end - count)?;
    Ok(digest(&both[..2 * count as usize]))
}
