//! Which transcripts have to be read, and from where. Pure.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::super::fetch::Mark;
use super::super::places::{Print, Transcript};

/// A transcript that was read before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) no: u32,
    pub(super) path: PathBuf,
    /// As it was when it was opened.
    pub(super) print: Print,
    pub(super) mark: Mark,
}

/// What is to be done about a transcript that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Errand {
    /// Its place among those that were found.
    pub(super) found: usize,
    /// Its number, if it was read before.
    pub(super) known: Option<u32>,
    /// `None`: from the beginning.
    pub(super) from: Option<Mark>,
    /// So much of what will be read was read before: the beginning of a line that had no end.
    pub(super) again_bytes: u64,
    /// If nothing of it is as it was, it is another file and not that one.
    pub(super) may_be_new: bool,
}

/// What is to be done about all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) read: Vec<Errand>,
    /// Those that are as they were, at another place.
    pub(super) moved: Vec<(u32, PathBuf)>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.read.is_empty() && self.moved.is_empty()
    }

    /// Leaves out what goes beyond so many bytes; true if that is nothing.
    pub(super) fn cut(&mut self, found: &[Transcript], most_bytes: u64) -> bool {
        let mut left = most_bytes;
        let is_within = |errand: &Errand| {
            let from = errand.from.map_or(0, |mark| mark.bytes);
            let is_within = left > 0;
            left = left.saturating_sub(found[errand.found].print.bytes.saturating_sub(from));
            is_within
        };
        let within = self.read.iter().map(is_within).filter(|is_within| *is_within).count();
        let is_all = within == self.read.len();
        self.read.truncate(within);
        is_all
    }
}

/// A transcript is the one that was at its path; if there was none, the one that had its
/// inode and is not at its own path any more. Only appended bytes are read, where the
/// file grew; where it shrank, was exchanged or changed at the same length, all of it.
pub(super) fn plan(known: &[Known], found: &[Transcript]) -> Plan {
    let at_path: HashMap<&Path, &Known> =
        known.iter().map(|known| (known.path.as_path(), known)).collect();
    let places: HashSet<&Path> = found.iter().map(|found| found.path.as_path()).collect();
    let gone = known.iter().filter(|known| !places.contains(known.path.as_path()));
    let by_inode: HashMap<(u64, u64), &Known> =
        gone.map(|known| ((known.print.dev, known.print.ino), known)).collect();
    let mut plan = Plan::default();
    for (number, found) in found.iter().enumerate() {
        let print = found.print;
        let inode = (print.dev, print.ino);
        let here = at_path.get(found.path.as_path()).copied();
        let Some(known) = here.or_else(|| by_inode.get(&inode).copied()) else {
            plan.read.push(Errand {
                found: number,
                known: None,
                from: None,
                again_bytes: 0,
                may_be_new: false,
            });
            continue;
        };
        let is_moved = here.is_none();
        if known.print == print {
            if is_moved {
                plan.moved.push((known.no, found.path.clone()));
            }
            continue;
        }
        let is_grown =
            (known.print.dev, known.print.ino) == inode && print.bytes > known.print.bytes;
        plan.read.push(Errand {
            found: number,
            known: Some(known.no),
            from: Some(known.mark).filter(|_| is_grown),
            again_bytes: known.print.bytes.saturating_sub(known.mark.bytes),
            may_be_new: is_moved,
        });
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(ino: u64, bytes: u64, mtime_ns: i64) -> Print {
        Print { dev: 1, ino, bytes, mtime_ns }
    }

    fn known(no: u32, path: &str, print: Print) -> Known {
        Known { no, path: path.into(), print, mark: Mark { bytes: print.bytes, ends: [7; 16] } }
    }

    /// What becomes of `found`: its number, from where it is read.
    fn told(known: &[Known], found: &[(&str, Print)]) -> Vec<(Option<u32>, Option<u64>, bool)> {
        let found: Vec<Transcript> = found
            .iter()
            .map(|(path, print)| Transcript { path: path.into(), print: *print })
            .collect();
        let read = plan(known, &found).read;
        read.iter().map(|to| (to.known, to.from.map(|at| at.bytes), to.may_be_new)).collect()
    }

    #[test]
    fn only_what_changed_is_read_and_of_what_grew_only_the_rest() {
        let then = [known(0, "/a", print(10, 100, 5)), known(1, "/b", print(11, 100, 5))];
        let same = ("/b", print(11, 100, 5));
        assert_eq!(told(&then, &[("/a", print(10, 100, 5)), same]), []);
        assert_eq!(told(&then, &[("/a", print(10, 130, 6)), same]), [(Some(0), Some(100), false)]);
        // Shorter; changed at its length; another file at its place.
        for print in [print(10, 90, 6), print(10, 100, 6), print(12, 130, 6)] {
            assert_eq!(told(&then, &[("/a", print), same]), [(Some(0), None, false)]);
        }
        assert_eq!(told(&then, &[same, ("/c", print(13, 1, 1))]), [(None, None, false)]);
    }

    #[test]
    fn much_is_read_in_slices() {
        let found: Vec<Transcript> = [("/a", 60), ("/b", 60), ("/c", 60)]
            .into_iter()
            .map(|(path, bytes)| Transcript { path: path.into(), print: print(bytes, bytes, 1) })
            .collect();
        let mut all = plan(&[], &found);
        assert!(all.cut(&found, 1_000) && all.read.len() == 3);
        assert!(!all.cut(&found, 100) && all.read.len() == 2);
        assert!(!all.cut(&found, 1) && all.read.len() == 1);
    }

    #[test]
    fn a_transcript_that_moved_is_the_same_and_an_inode_may_serve_again() {
        let then = [known(0, "/a", print(10, 100, 5)), known(1, "/b", print(11, 100, 5))];
        let moved = Transcript { path: "/x".into(), print: print(10, 100, 5) };
        let other = Transcript { path: "/b".into(), print: print(11, 100, 5) };
        let plan = plan(&then, &[moved, other]);
        assert_eq!((plan.moved, plan.read), (vec![(0, "/x".into())], vec![]));
        assert_eq!(told(&then, &[("/x", print(10, 120, 6))]), [(Some(0), Some(100), true)]);
        assert_eq!(told(&then, &[("/x", print(10, 20, 6))]), [(Some(0), None, true)]);
        // A hard link to what is still at its place is not found twice; a new one beside
        // it is another file.
        let both = [("/a", print(10, 100, 5)), ("/x", print(12, 100, 5))];
        assert_eq!(told(&then, &both), [(None, None, false)]);
    }
}
