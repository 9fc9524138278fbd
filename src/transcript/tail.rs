//! Reads a growing file line by line, each line once: the only part of this
//! room that touches a file.
//!
//! A line counts when its newline is there. Where reading stands is kept as
//! (device, inode, offset) with the last bytes before the offset, so that a
//! file that was replaced, cut, or cut and written again is noticed and read
//! anew. What is buffered is at most one unfinished line, up to a cap.
//!
//! What that promises (`tests/faults/tailer.rs` holds it to it):
//! - of a file that only grows, each line once, whole, in order;
//! - of one that takes the place of another, all from its beginning, after the
//!   rest of the other if that was kept open; the other's unfinished line is dropped;
//! - of one cut or written anew in place, all from its beginning, if it is
//!   shorter than what was read or the last 64 bytes of that have changed. Else
//!   it counts as grown. Lost is what was cut off before anybody polled.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use crate::clock::Timestamp;

/// Longer lines are skipped and counted.
pub const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;
/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// What lies further back than this behind the end of a file is not read: no
/// session writes that much, but a single `truncate` makes a file of terabytes.
const MAX_BEHIND_BYTES: u64 = 2 << 30;
/// How much before the end reading goes on in such a file.
const KEPT_BEHIND_BYTES: u64 = 16 << 20;
/// How many bytes before the offset must still be the same.
const MARK_BYTES: usize = 64;
/// A file that changed this recently is looked at again, even if its size and
/// times are the same: on many file systems two changes soon after each other
/// bear the same time.
const SETTLE_MS: i64 = 2_000;

/// What reading brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole line, without its newline.
    Line(&'a [u8]),
    /// A line was too long and is left out.
    Skipped,
    /// The file was replaced or cut: what follows is read from its beginning.
    Restarted,
}

/// A file that is being written by somebody else.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// Kept open so that the inode cannot be given to another file.
    file: Option<File>,
    keep_open: bool,
    id: Option<(u64, u64)>,
    offset: u64,
    /// When the file was last changed, if that was long enough before the last
    /// poll for any further change to show.
    at_rest: Option<(i64, u64)>,
    /// The last bytes before `offset`.
    mark: Vec<u8>,
    partial: Vec<u8>,
    /// The line that is being read is too long; what comes up to its end is dropped.
    skipping: bool,
    max_line_bytes: usize,
}

impl Tail {
    /// Follows `path`, which need not exist yet, and keeps it open.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            keep_open: true,
            id: None,
            offset: 0,
            at_rest: None,
            mark: Vec::new(),
            partial: Vec::new(),
            skipping: false,
            max_line_bytes: MAX_LINE_BYTES,
        }
    }

    /// Follows `path` without keeping it open between polls, for files of
    /// which there can be hundreds.
    pub fn closing(path: PathBuf) -> Self {
        Self { keep_open: false, ..Self::new(path) }
    }

    /// The file that is followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the unfinished line that are kept.
    pub fn held_bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// Leaves out the unfinished line, however it goes on.
    pub fn give_up_line(&mut self, mut each: impl FnMut(Event<'_>)) {
        if !self.partial.is_empty() {
            self.skipping = true;
            self.partial = Vec::new();
            each(Event::Skipped);
        }
    }

    /// Gives what is new to `each`. One `stat` if nothing changed lately. After an
    /// error the next call goes on where this one stood.
    ///
    /// `budget` is how many bytes may be read; what is read is taken off it. At
    /// zero the rest waits for the next call.
    pub fn poll(&mut self, budget: &mut u64, mut each: impl FnMut(Event<'_>)) -> io::Result<()> {
        // Before the stat: what changes behind it is then later than this.
        let now_ms = Timestamp::now().unix_ms;
        let at_path = match rustix::fs::stat(&self.path) {
            Ok(stat) => Some(stat),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => None,
            Err(err) => return Err(err.into()),
        };
        let Some(stat) = at_path else {
            // Unlinked: what is still open may still grow.
            return self.drain(budget, &mut each);
        };
        if self.id != Some(identity(&stat)) {
            self.drain(budget, &mut each)?;
            if *budget == 0 {
                return Ok(());
            }
            self.switch(&mut each)?;
        } else if stat.st_size as u64 == self.offset && self.at_rest == Some(changed(&stat)) {
            return Ok(());
        }
        self.at_rest = None;
        self.drain(budget, &mut each)?;
        let age_ms = now_ms.saturating_sub(stat.st_ctime.saturating_mul(1000));
        self.at_rest = (age_ms > SETTLE_MS).then_some(changed(&stat));
        if !self.keep_open {
            self.file = None;
        }
        Ok(())
    }

    /// Takes what stands behind the last newline as a line, for a file whose
    /// writer is gone.
    pub fn finish(&mut self, mut each: impl FnMut(Event<'_>)) {
        if !self.partial.is_empty() && !self.skipping {
            each(Event::Line(&self.partial));
        }
        self.partial = Vec::new();
    }

    /// Opens what now stands at the path and starts at its beginning.
    fn switch(&mut self, each: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        let file = match open(&self.path) {
            Ok(file) => file,
            // Gone again since the stat: the next poll will see.
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(err) => return Err(err),
        };
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let message = format!("{} is not a regular file", self.path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if self.id.is_some() {
            each(Event::Restarted);
        }
        self.id = Some(identity(&stat));
        self.file = Some(file);
        self.rewind();
        Ok(())
    }

    fn rewind(&mut self) {
        self.offset = 0;
        self.mark.clear();
        self.partial = Vec::new();
        self.skipping = false;
    }

    /// Reads up to where the file ends now, within `budget`.
    fn drain(&mut self, budget: &mut u64, each: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        let Some(file) = self.reopened()? else {
            return Ok(());
        };
        let end = rustix::fs::fstat(&file)?.st_size as u64;
        let result = self.read_to(&file, end, budget, each);
        self.file = Some(file);
        result
    }

    /// The open file; opened again if it was closed and is still the same.
    fn reopened(&mut self) -> io::Result<Option<File>> {
        if let Some(file) = self.file.take() {
            return Ok(Some(file));
        }
        let Some(id) = self.id else { return Ok(None) };
        match open(&self.path) {
            Ok(file) if identity(&rustix::fs::fstat(&file)?) == id => Ok(Some(file)),
            Ok(_) => Ok(None),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    fn read_to(
        &mut self,
        file: &File,
        end: u64,
        budget: &mut u64,
        each: &mut impl FnMut(Event<'_>),
    ) -> io::Result<()> {
        let mut chunk = vec![0; MARK_BYTES + CHUNK_BYTES];
        if end < self.offset || !self.mark_stands(file, &mut chunk)? {
            each(Event::Restarted);
            self.rewind();
        }
        if end - self.offset > MAX_BEHIND_BYTES {
            self.leap(end - KEPT_BEHIND_BYTES, each);
        }
        while self.offset < end && *budget > 0 {
            let want = CHUNK_BYTES.min(usize::try_from(end - self.offset).unwrap_or(CHUNK_BYTES));
            let got = file.read_at(&mut chunk[..want], self.offset)?;
            if got == 0 {
                break;
            }
            *budget = budget.saturating_sub(got as u64);
            let new = &chunk[..got];
            self.offset += got as u64;
            self.remember(new);
            self.take(new, each);
        }
        Ok(())
    }

    /// Goes on at `offset`, with the first line that begins behind it.
    fn leap(&mut self, offset: u64, each: &mut impl FnMut(Event<'_>)) {
        if !self.skipping {
            each(Event::Skipped);
        }
        self.skipping = true;
        self.partial = Vec::new();
        self.mark.clear();
        self.offset = offset;
    }

    fn mark_stands(&self, file: &File, buffer: &mut [u8]) -> io::Result<bool> {
        let mark = &mut buffer[..self.mark.len()];
        match file.read_exact_at(mark, self.offset - mark.len() as u64) {
            Ok(()) => Ok(*mark == *self.mark),
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(err) => Err(err),
        }
    }

    fn remember(&mut self, new: &[u8]) {
        let keep = &new[new.len().saturating_sub(MARK_BYTES)..];
        let old = self.mark.len().min(MARK_BYTES - keep.len());
        self.mark.drain(..self.mark.len() - old);
        self.mark.extend_from_slice(keep);
    }

    fn take(&mut self, mut new: &[u8], each: &mut impl FnMut(Event<'_>)) {
        while let Some(at) = new.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = (&new[..at], &new[at + 1..]);
            new = rest;
            if self.fits(line.len(), each) {
                if self.partial.is_empty() {
                    each(Event::Line(line));
                } else {
                    self.partial.extend_from_slice(line);
                    each(Event::Line(&self.partial));
                }
            }
            self.skipping = false;
            self.partial.clear();
            self.partial.shrink_to(CHUNK_BYTES);
        }
        if self.fits(new.len(), each) {
            self.partial.extend_from_slice(new);
        }
    }

    /// Whether the line may grow by `more`; drops it when it may not.
    fn fits(&mut self, more: usize, each: &mut impl FnMut(Event<'_>)) -> bool {
        if !self.skipping && self.partial.len() + more > self.max_line_bytes {
            self.skipping = true;
            self.partial = Vec::new();
            each(Event::Skipped);
        }
        !self.skipping
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Unlike the time of modification, this one cannot be set back.
fn changed(stat: &Stat) -> (i64, u64) {
    (stat.st_ctime, stat.st_ctime_nsec)
}

/// Opens for reading; does not follow a link in the last place, does not block
/// on a pipe and does not hand the descriptor to children.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd: OwnedFd = rustix::fs::open(path, flags, Mode::empty())?;
    Ok(File::from(fd))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// What a tail said: lines, and `None` where it started again.
    fn read(tail: &mut Tail) -> Vec<Option<String>> {
        let mut heard = Vec::new();
        tail.poll(&mut u64::MAX.clone(), |event| match event {
            Event::Line(line) => heard.push(Some(String::from_utf8(line.to_vec()).unwrap())),
            Event::Restarted => heard.push(None),
            Event::Skipped => heard.push(Some("SKIPPED".into())),
        })
        .unwrap();
        heard
    }

    fn append(path: &Path, bytes: &[u8]) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
    }

    #[derive(Debug, Clone)]
    enum Op {
        Append(Vec<u8>),
        Truncate,
        Replace(Vec<u8>),
        Unlink,
        Poll,
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        // Few different bytes, so that lines are often the same.
        proptest::collection::vec(
            prop_oneof![3 => Just(b'a'), 1 => Just(b'b'), 2 => Just(b'\n')],
            0..20,
        )
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => text().prop_map(Op::Append),
            1 => Just(Op::Truncate),
            1 => text().prop_map(Op::Replace),
            1 => Just(Op::Unlink),
            6 => Just(Op::Poll),
        ]
    }

    /// One file from its birth to its end, and how far it was read.
    #[derive(Debug, Default)]
    struct Life {
        content: Vec<u8>,
        read_to: usize,
        line_start: usize,
    }

    impl Life {
        fn new_lines(&mut self) -> Vec<Option<String>> {
            let mut lines = Vec::new();
            while let Some(len) = self.content[self.line_start..].iter().position(|b| *b == b'\n') {
                let line = &self.content[self.line_start..self.line_start + len];
                lines.push(Some(String::from_utf8(line.to_vec()).unwrap()));
                self.line_start += len + 1;
            }
            self.read_to = self.content.len();
            lines
        }
    }

    proptest! {
        /// Against a model: every line once, whatever happens to the file
        /// between polls. After a cut, reading starts again.
        #[test]
        fn every_line_is_read_once(ops in proptest::collection::vec(op(), 0..40)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("t");
            let mut tail = Tail::new(path.clone());
            // The life that is open, and the one at the path if it is another.
            let (mut open, mut at_path): (Option<Life>, Option<Life>) = (None, None);
            let mut on_disk = false;
            let mut same = true;
            for op in ops.into_iter().chain([Op::Poll]) {
                match op {
                    Op::Append(bytes) => {
                        append(&path, &bytes);
                        if !on_disk {
                            (on_disk, at_path, same) = (true, Some(Life::default()), false);
                        }
                        let life = if same { open.as_mut() } else { at_path.as_mut() };
                        life.unwrap().content.extend(bytes);
                    }
                    Op::Truncate => {
                        if !on_disk { continue }
                        fs::write(&path, b"").unwrap();
                        if same {
                            // Read to the end first: what is cut unread is lost.
                            let life = open.as_mut().unwrap();
                            let had = life.read_to > 0;
                            prop_assert_eq!(read(&mut tail), if had { vec![None] } else { vec![] });
                            *life = Life::default();
                        } else {
                            at_path = Some(Life::default());
                        }
                    }
                    Op::Replace(bytes) => {
                        let other = dir.path().join("other");
                        fs::write(&other, &bytes).unwrap();
                        fs::rename(&other, &path).unwrap();
                        at_path = Some(Life { content: bytes, ..Life::default() });
                        (on_disk, same) = (true, false);
                    }
                    Op::Unlink => {
                        if on_disk { fs::remove_file(&path).unwrap(); }
                        on_disk = false;
                        at_path = None;
                        same = false;
                    }
                    Op::Poll => {
                        let mut expected = open.as_mut().map(Life::new_lines).unwrap_or_default();
                        if on_disk && !same {
                            if open.is_some() { expected.push(None); }
                            open = at_path.take();
                            same = true;
                            expected.extend(open.as_mut().unwrap().new_lines());
                        }
                        prop_assert_eq!(read(&mut tail), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn a_file_cut_and_written_past_the_old_end_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        for mut tail in [Tail::new(path.clone()), Tail::closing(path.clone())] {
            fs::write(&path, "one\ntwo\npart").unwrap();
            assert_eq!(read(&mut tail), [Some("one".into()), Some("two".into())]);
            fs::write(&path, "other\nlines\nand more\n").unwrap();
            let lines = ["other", "lines", "and more"].map(|line| Some(line.to_owned()));
            assert_eq!(read(&mut tail), [&[None], &lines[..]].concat());
            assert_eq!(read(&mut tail), []);
        }
    }

    #[test]
    fn as_many_other_bytes_under_the_same_time_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        for mut tail in [Tail::new(path.clone()), Tail::closing(path.clone())] {
            fs::write(&path, "one\n").unwrap();
            assert_eq!(read(&mut tail), [Some("one".into())]);
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, "two\n").unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
            assert_eq!(read(&mut tail), [None, Some("two".into())]);
        }
    }

    #[test]
    fn a_long_line_is_skipped_and_the_next_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let mut tail = Tail { max_line_bytes: 1000, ..Tail::new(path.clone()) };
        append(&path, &[b'x'; 900]);
        assert_eq!(read(&mut tail), []);
        append(&path, &[b'x'; 200]);
        assert_eq!(read(&mut tail), [Some("SKIPPED".into())]);
        append(&path, &[b'x'; 5000]);
        assert_eq!(read(&mut tail), []);
        append(&path, b"\nnext\n");
        assert_eq!(read(&mut tail), [Some("next".into())]);
        assert!(tail.partial.capacity() <= CHUNK_BYTES);
    }

    #[test]
    fn a_line_over_many_chunks_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let mut tail = Tail::new(path.clone());
        let line = "y".repeat(3 * CHUNK_BYTES + 7);
        append(&path, format!("{line}\nz\n").as_bytes());
        assert_eq!(read(&mut tail), [Some(line), Some("z".into())]);
        assert!(tail.partial.capacity() <= CHUNK_BYTES);
    }

    #[test]
    fn links_pipes_and_folders_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        fs::write(dir.path().join("file"), "x\n").unwrap();
        std::os::unix::fs::symlink(dir.path().join("file"), &path).unwrap();
        assert!(Tail::new(path.clone()).poll(&mut u64::MAX.clone(), |_| {}).is_err());
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(Tail::new(path.clone()).poll(&mut u64::MAX.clone(), |_| {}).is_err());
        assert!(Tail::new(dir.path().to_path_buf()).poll(&mut u64::MAX.clone(), |_| {}).is_err());
    }

    #[test]
    fn what_a_deleted_file_still_gets_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let mut writer = fs::File::create(&path).unwrap();
        let mut tail = Tail::new(path.clone());
        writer.write_all(b"one\n").unwrap();
        assert_eq!(read(&mut tail), [Some("one".into())]);
        fs::remove_file(&path).unwrap();
        writer.write_all(b"two\n").unwrap();
        assert_eq!(read(&mut tail), [Some("two".into())]);
    }

    #[test]
    fn a_poll_reads_no_more_than_its_budget_and_the_next_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let line = "x".repeat(999);
        let lines = 500;
        append(&path, format!("{line}\n").repeat(lines).as_bytes());
        for mut tail in [Tail::new(path.clone()), Tail::closing(path.clone())] {
            let (mut heard, mut polls) = (0, 0);
            while heard < lines {
                let mut budget = 100_000;
                tail.poll(&mut budget, |event| {
                    assert_eq!(event, Event::Line(line.as_bytes()));
                    heard += 1;
                })
                .unwrap();
                polls += 1;
                assert!(polls < 20, "{heard}");
            }
            assert!(polls >= 3, "{polls}");
            assert_eq!(read(&mut tail), []);
        }
    }

    #[test]
    fn the_middle_of_a_monstrous_file_is_left_out_and_what_follows_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        append(&path, b"one\n");
        let mut tail = Tail::new(path.clone());
        assert_eq!(read(&mut tail), [Some("one".into())]);
        // Sparse: it takes no room.
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        append(&path, b"\ntwo\n");
        let mut budget = 64 << 20;
        let mut heard = Vec::new();
        tail.poll(&mut budget, |event| heard.push(format!("{event:?}"))).unwrap();
        assert_eq!(heard, ["Skipped".to_owned(), format!("{:?}", Event::Line(b"two"))]);
        append(&path, b"three\n");
        assert_eq!(read(&mut tail), [Some("three".into())]);
    }
}
