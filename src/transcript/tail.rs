//! Reads a growing file line by line, each line once: the only part of this
//! room that touches a file.
//!
//! A line counts when its newline is there. Where reading stands is kept as
//! (device, inode, offset) with the last bytes before the offset, so that a
//! file that was replaced, cut, or cut and written again is noticed and read
//! anew. What is buffered is at most one unfinished line, up to a cap.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

/// Longer lines are skipped and counted.
pub const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;
/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How many bytes before the offset must still be the same.
const MARK_BYTES: usize = 64;

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
            mark: Vec::new(),
            partial: Vec::new(),
            skipping: false,
            max_line_bytes: MAX_LINE_BYTES,
        }
    }

    /// Follows `path` without keeping it open between polls, for files of
    /// which there can be hundreds.
    pub fn closing(path: PathBuf) -> Self {
        Self {
            keep_open: false,
            ..Self::new(path)
        }
    }

    /// The file that is followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives what is new to `each`. One `stat` if nothing changed. After an
    /// error the next call goes on where this one stood.
    pub fn poll(&mut self, mut each: impl FnMut(Event<'_>)) -> io::Result<()> {
        let at_path = match rustix::fs::stat(&self.path) {
            Ok(stat) => Some(stat),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => None,
            Err(err) => return Err(err.into()),
        };
        let Some(stat) = at_path else {
            // Unlinked: what is still open may still grow.
            return self.drain(&mut each);
        };
        if self.id != Some(identity(&stat)) {
            self.drain(&mut each)?;
            self.switch(&mut each)?;
        } else if stat.st_size as u64 == self.offset {
            return Ok(());
        }
        self.drain(&mut each)?;
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

    /// Reads up to where the file ends now.
    fn drain(&mut self, each: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        let Some(file) = self.reopened()? else {
            return Ok(());
        };
        let end = rustix::fs::fstat(&file)?.st_size as u64;
        let result = self.read_to(&file, end, each);
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
        each: &mut impl FnMut(Event<'_>),
    ) -> io::Result<()> {
        if end == self.offset {
            return Ok(());
        }
        let mut chunk = vec![0; MARK_BYTES + CHUNK_BYTES];
        if end < self.offset || !self.mark_stands(file, &mut chunk)? {
            each(Event::Restarted);
            self.rewind();
        }
        while self.offset < end {
            let want = CHUNK_BYTES.min(usize::try_from(end - self.offset).unwrap_or(CHUNK_BYTES));
            let got = file.read_at(&mut chunk[..want], self.offset)?;
            if got == 0 {
                break;
            }
            let new = &chunk[..got];
            self.offset += got as u64;
            self.remember(new);
            self.take(new, each);
        }
        Ok(())
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

/// Opens for reading; does not follow a link in the last place, does not block
/// on a pipe and does not hand the descriptor to children.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd: OwnedFd = rustix::fs::open(path, flags, Mode::empty())?;
    Ok(File::from(fd))
}
