//! How much room is left where files are written, and how much a folder takes.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatVfs};

/// Folders within folders that are still looked into.
const DEPTH_MAX: usize = 32;

/// `st_blocks` counts in these, whatever the file system's own blocks are.
const BLOCK_BYTES: u64 = 512;

const BYTES_PER_MB: u64 = 1 << 20;

/// Room on the disk that holds a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// MiB that this user can still write; 0 also when no more files can be made.
    pub free_mb: u64,
    /// MiB in all.
    pub size_mb: u64,
    /// The path it was asked for.
    pub path: PathBuf,
}

/// What a folder takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FolderSize {
    /// MiB on the disk: holes in files are not counted, and a file with several
    /// names once.
    pub mb: u64,
    /// Files and folders counted.
    pub entries: usize,
    /// False when there is more than was counted: too many entries, too deep,
    /// or not readable.
    pub is_whole: bool,
}

/// The room where `path` lies; `None` when its file system does not say. A path
/// that is not there yet, or any more, stands for the nearest folder above it
/// that is.
pub fn room(path: &Path) -> Option<Room> {
    let there = path.ancestors().find(|at| at.exists())?;
    let (free_mb, size_mb) = room_in(&rustix::fs::statvfs(there).ok()?)?;
    Some(Room { free_mb, size_mb, path: path.to_owned() })
}

fn room_in(stat: &StatVfs) -> Option<(u64, u64)> {
    // No size at all: one that is made of nothing, or does not tell.
    if stat.f_blocks == 0 {
        return None;
    }
    let size_mb = stat.f_blocks.saturating_mul(stat.f_frsize) / BYTES_PER_MB;
    // Where files are not limited in number (btrfs), both are 0.
    if stat.f_files > 0 && stat.f_favail == 0 {
        return Some((0, size_mb));
    }
    Some((stat.f_bavail.saturating_mul(stat.f_frsize) / BYTES_PER_MB, size_mb))
}

/// The room that `folder` takes on its disk, itself included.
///
/// The files nearest to the top are counted first, at most `max_entries`: the
/// call blocks for some 10 µs for each. Links are not followed, and neither are
/// other disks mounted within. A folder that is not there takes nothing.
pub fn folder_mb(folder: &Path, max_entries: usize) -> FolderSize {
    let mut count = Count { bytes: 0, entries: 0, max_entries, seen: HashSet::new() };
    let mut is_whole = true;
    let mut folders = VecDeque::from([(folder.to_owned(), 0)]);
    let mut disk = None;
    while let Some((path, depth)) = folders.pop_front() {
        match count.add_folder(&path, &mut disk) {
            Ok(below) if depth < DEPTH_MAX => {
                folders.extend(below.into_iter().map(|name| (path.join(name), depth + 1)));
            }
            Ok(below) => is_whole &= below.is_empty(),
            Err(Stop::Gone) => {}
            Err(Stop::Unreadable) => is_whole = false,
            Err(Stop::Full) => {
                is_whole = false;
                break;
            }
        }
    }
    FolderSize { mb: count.bytes / BYTES_PER_MB, entries: count.entries, is_whole }
}

/// Why a folder was not counted to its end.
enum Stop {
    /// It is no longer there, or something else is.
    Gone,
    Unreadable,
    /// No more entries may be counted.
    Full,
}

impl From<rustix::io::Errno> for Stop {
    fn from(errno: rustix::io::Errno) -> Self {
        use rustix::io::Errno;
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Stop::Gone,
            _ => Stop::Unreadable,
        }
    }
}

struct Count {
    bytes: u64,
    entries: usize,
    max_entries: usize,
    /// Inodes of files that have several names.
    seen: HashSet<u64>,
}

impl Count {
    /// Counts the folder and the files in it, and gives the folders in it.
    /// `disk` is that of the first folder.
    fn add_folder(&mut self, path: &Path, disk: &mut Option<u64>) -> Result<Vec<PathBuf>, Stop> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if *disk.get_or_insert(stat.st_dev) != stat.st_dev {
            return Ok(Vec::new());
        }
        self.add(stat.st_blocks as u64)?;
        let mut below = Vec::new();
        let mut dir = Dir::read_from(&fd)?;
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            // Counted when its turn comes.
            if entry.file_type() == FileType::Directory {
                below.push(PathBuf::from(name));
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            // Some file systems do not say in the list what an entry is.
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                below.push(PathBuf::from(name));
            } else if stat.st_nlink == 1 || self.seen.insert(stat.st_ino) {
                self.add(stat.st_blocks as u64)?;
            }
        }
        Ok(below)
    }

    fn add(&mut self, blocks: u64) -> Result<(), Stop> {
        if self.entries >= self.max_entries {
            return Err(Stop::Full);
        }
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(blocks.saturating_mul(BLOCK_BYTES));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    const PLENTY: usize = 100_000;

    fn write_mb(path: &Path, mb: usize) {
        fs::write(path, vec![7; mb << 20]).unwrap();
        // The blocks of a file are known once they are on the disk.
        File::open(path).unwrap().sync_all().unwrap();
    }

    #[test]
    fn a_folder_takes_what_its_files_take_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b/c")).unwrap();
        write_mb(&at("top"), 1);
        write_mb(&at("a/b/c/deep"), 2);
        fs::hard_link(at("top"), at("a/again")).unwrap();
        File::create(at("a/sparse")).unwrap().set_len(1 << 40).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        write_mb(&elsewhere.path().join("big"), 4);
        symlink(elsewhere.path(), at("a/link")).unwrap();
        symlink(at("a"), at("a/b/loop")).unwrap();

        let size = folder_mb(dir.path(), PLENTY);
        // Four folders, three files, two links.
        assert_eq!(size, FolderSize { mb: 3, entries: 9, is_whole: true });
        let link = at("a/link");
        assert_eq!(folder_mb(&link, PLENTY), FolderSize { mb: 0, entries: 0, is_whole: true });
    }

    #[test]
    fn what_lies_on_top_is_counted_before_the_limit_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        for folder in 0..10 {
            let folder = dir.path().join(folder.to_string());
            fs::create_dir_all(folder.join("sub")).unwrap();
            write_mb(&folder.join("large"), 1);
            for file in 0..20 {
                fs::write(folder.join("sub").join(file.to_string()), "").unwrap();
            }
        }
        // The folder itself, ten in it, and the large file in each of those.
        let size = folder_mb(dir.path(), 21);
        assert_eq!(size, FolderSize { mb: 10, entries: 21, is_whole: false });
        let size = folder_mb(dir.path(), PLENTY);
        assert_eq!((size.entries, size.is_whole), (231, true));
    }

    #[test]
    fn the_depth_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut at = dir.path().to_owned();
        (0..DEPTH_MAX).for_each(|_| at.push("d"));
        fs::create_dir_all(&at).unwrap();
        assert!(folder_mb(dir.path(), PLENTY).is_whole);
        fs::create_dir(at.join("too-deep")).unwrap();
        assert!(!folder_mb(dir.path(), PLENTY).is_whole);
    }

    #[test]
    fn what_is_not_there_takes_nothing_and_has_the_room_of_what_is_above() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("not/there");
        assert_eq!(folder_mb(&gone, PLENTY), FolderSize { is_whole: true, ..Default::default() });
        let room = room(&gone).unwrap();
        assert_eq!(room.path, gone);
        assert!(room.free_mb > 0 && room.size_mb >= room.free_mb, "{room:?}");
    }

    #[test]
    fn what_is_made_of_nothing_says_nothing() {
        assert_eq!(room(Path::new("/proc/self")), None);
    }

    #[test]
    fn a_disk_on_which_no_file_can_be_made_has_no_room() {
        let mut stat = rustix::fs::statvfs("/proc").unwrap();
        (stat.f_blocks, stat.f_bavail, stat.f_frsize) = (9_000, 1_000, 1 << 20);
        (stat.f_files, stat.f_favail) = (50, 3);
        assert_eq!(room_in(&stat), Some((1_000, 9_000)));
        stat.f_favail = 0;
        assert_eq!(room_in(&stat), Some((0, 9_000)));
        stat.f_files = 0;
        assert_eq!(room_in(&stat), Some((1_000, 9_000)), "no fixed number of files");
    }
}
