//! Opening things beneath a folder, and nowhere else, whatever the tree holds.
//!
//! Where the kernel has `openat2`, symbolic links are followed as long as they
//! stay beneath the root (people do link their notes). Without it (old kernel,
//! or a sandbox that forbids the call) every link is refused.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

/// Tries when the kernel reports that a path was renamed while it was resolved.
const RESOLVE_TRIES: u32 = 8;
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the root folder itself; links are followed, since a person named it.
pub(crate) fn open_root(root: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, root, FOLDER, Mode::empty())
}

/// True if `path` is relative and names something below where it starts.
pub(crate) fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        && path.components().any(|part| matches!(part, Component::Normal(_)))
}

/// Opens `path` beneath `root`. `XDEV` means that it leads outside, `LOOP`
/// that a link is in the way.
pub(crate) fn open(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    if !is_plain(path) {
        return Err(Errno::XDEV);
    }
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..RESOLVE_TRIES {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOSYS | Errno::PERM) => return open_by_steps(root, path, flags),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// [`open`] for kernels without `openat2`: one component at a time, no links.
fn open_by_steps(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut parts =
        path.components().filter(|part| matches!(part, Component::Normal(_))).peekable();
    let mut folder = None;
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let flags = if last { flags } else { FOLDER };
        let at = folder.as_ref().unwrap_or(root);
        let opened =
            rustix::fs::openat(at, part.as_os_str(), flags | OFlags::NOFOLLOW, Mode::empty());
        let opened = match opened {
            // With O_DIRECTORY a link is reported as "not a directory".
            Err(Errno::NOTDIR) if is_link(at, part.as_os_str()) => Err(Errno::LOOP),
            other => other,
        }?;
        if last {
            return Ok(opened);
        }
        folder = Some(opened);
    }
    Err(Errno::INVAL)
}

fn is_link(at: &OwnedFd, name: &OsStr) -> bool {
    rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink())
}

/// Opens the folder `path` beneath `root`, creating what is missing of it.
pub(crate) fn open_or_create_folder(
    root: &OwnedFd,
    path: &Path,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let mut folder = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    let mut so_far = std::path::PathBuf::new();
    for part in path.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        so_far.push(name);
        match rustix::fs::mkdirat(&folder, name, mode) {
            Ok(()) => rustix::fs::fsync(&folder)?,
            Err(Errno::EXIST) => {}
            Err(err) => return Err(err),
        }
        folder = open(root, &so_far, FOLDER)?;
    }
    Ok(folder)
}

/// Opens the folder `path` beneath `root`, following no link at all; with a mode
/// what is missing of it is created. Also says whether its last part is new.
/// `LOOP` means that a link is in the way.
pub(crate) fn open_folder_without_links(
    root: &OwnedFd,
    path: &Path,
    create: Option<Mode>,
) -> Result<(OwnedFd, bool), Errno> {
    if !is_plain(path) {
        return Err(Errno::XDEV);
    }
    let mut folder = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    let mut is_new = false;
    for part in path.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        is_new = false;
        if let Some(mode) = create {
            match rustix::fs::mkdirat(&folder, name, mode) {
                Ok(()) => {
                    rustix::fs::fsync(&folder)?;
                    is_new = true;
                }
                Err(Errno::EXIST) => {}
                Err(err) => return Err(err),
            }
        }
        let flags = FOLDER | OFlags::NOFOLLOW;
        folder = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
            // With O_DIRECTORY a link is reported as "not a directory".
            Err(Errno::NOTDIR) if is_link(&folder, name) => Err(Errno::LOOP),
            other => other,
        }?;
    }
    Ok((folder, is_new))
}

/// Writes `name` in `folder` so that a crash leaves the old file or the new
/// one: a temporary file, fsync, rename, fsync of the folder. A symbolic link
/// of that name is replaced, not followed.
pub(crate) fn write_atomically(
    folder: &OwnedFd,
    name: &OsStr,
    bytes: &[u8],
    mode: Mode,
) -> io::Result<()> {
    let temporary = fill_temporary(folder, name, bytes, mode, Umask::Holds)?;
    let renamed = rustix::fs::renameat_with(folder, &temporary, folder, name, RenameFlags::empty());
    if renamed.is_err() {
        let _ = rustix::fs::unlinkat(folder, &temporary, AtFlags::empty());
    }
    renamed?;
    Ok(rustix::fs::fsync(folder)?)
}

/// [`write_atomically`], as long as `name` still holds `expected` (`None`: is not there):
/// nobody's change is written over. False if it holds something else; then it stays.
pub(crate) fn replace_atomically(
    folder: &OwnedFd,
    name: &OsStr,
    bytes: &[u8],
    mode: Mode,
    expected: Option<&[u8]>,
) -> io::Result<bool> {
    // Those of a file that is there were chosen by somebody.
    let umask = if expected.is_some() { Umask::Ignored } else { Umask::Holds };
    let temporary = fill_temporary(folder, name, bytes, mode, umask)?;
    let replaced = match expected {
        Some(expected) => exchange(folder, &temporary, name, expected),
        None => appear(folder, &temporary, name),
    };
    if !matches!(replaced, Ok(Gone::Renamed)) {
        let _ = rustix::fs::unlinkat(folder, &temporary, AtFlags::empty());
    }
    if matches!(replaced, Ok(Gone::Renamed | Gone::Exchanged)) {
        rustix::fs::fsync(folder)?;
    }
    Ok(!matches!(replaced?, Gone::Not))
}

/// Where a temporary file went.
enum Gone {
    /// Under the name.
    Renamed,
    /// Under the name; what stood there has the temporary name now.
    Exchanged,
    /// Nowhere.
    Not,
}

fn appear(folder: &OwnedFd, temporary: &OsStr, name: &OsStr) -> io::Result<Gone> {
    let rename = |flags| rustix::fs::renameat_with(folder, temporary, folder, name, flags);
    match rename(RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Gone::Renamed),
        Err(Errno::EXIST) => Ok(Gone::Not),
        // A file system that does not know the flag.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rename(RenameFlags::empty())?;
            Ok(Gone::Renamed)
        }
        Err(err) => Err(err.into()),
    }
}

fn exchange(
    folder: &OwnedFd,
    temporary: &OsStr,
    name: &OsStr,
    expected: &[u8],
) -> io::Result<Gone> {
    let rename = |flags| rustix::fs::renameat_with(folder, temporary, folder, name, flags);
    if !holds(folder, name, expected)? {
        return Ok(Gone::Not);
    }
    // Exchanged rather than replaced: what somebody wrote since the look above is in our
    // hands then, and is put back.
    match rename(RenameFlags::EXCHANGE) {
        Ok(()) if holds(folder, temporary, expected)? => Ok(Gone::Exchanged),
        Ok(()) => {
            rename(RenameFlags::EXCHANGE)?;
            Ok(Gone::Not)
        }
        Err(Errno::NOENT) => Ok(Gone::Not),
        Err(Errno::INVAL | Errno::NOSYS) => {
            rename(RenameFlags::empty())?;
            Ok(Gone::Renamed)
        }
        Err(err) => Err(err.into()),
    }
}

fn holds(folder: &OwnedFd, name: &OsStr, expected: &[u8]) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT | Errno::LOOP) => return Ok(false),
        Err(err) => return Err(err.into()),
    };
    let mut bytes = Vec::with_capacity(expected.len() + 1);
    file.take(expected.len() as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes == expected)
}

/// Does the umask of this process hold for the permissions of a new file?
#[derive(Clone, Copy)]
enum Umask {
    Holds,
    Ignored,
}

/// A new file beside `name` with these bytes, on the disk; gives its name.
fn fill_temporary(
    folder: &OwnedFd,
    name: &OsStr,
    bytes: &[u8],
    mode: Mode,
    umask: Umask,
) -> io::Result<OsString> {
    let mut temporary = OsStr::new(".").to_owned();
    temporary.push(name);
    temporary.push(format!(".{}.tmp", uuid::Uuid::new_v4().simple()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, &temporary, flags, mode)?;
    let mut file = std::fs::File::from(file);
    let chosen = match umask {
        Umask::Holds => Ok(()),
        Umask::Ignored => rustix::fs::fchmod(&file, mode).map_err(io::Error::from),
    };
    let written = chosen.and_then(|()| file.write_all(bytes)).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = rustix::fs::unlinkat(folder, &temporary, AtFlags::empty());
    }
    written.map(|()| temporary)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_changed_meanwhile_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let folder = open_root(dir.path()).unwrap();
        let replace = |new: &str, expected: Option<&str>| {
            let expected = expected.map(str::as_bytes);
            let mode = Mode::RUSR | Mode::WUSR;
            replace_atomically(&folder, OsStr::new("f"), new.as_bytes(), mode, expected).unwrap()
        };
        let read = || std::fs::read_to_string(dir.path().join("f")).unwrap();
        assert!(!replace("x", Some("a")), "it is not there");
        assert!(replace("a", None));
        assert!(!replace("b", None), "it is there");
        assert!(replace("b", Some("a")));
        assert!(!replace("c", Some("a")));
        assert!(!replace("c", Some("bb")));
        assert_eq!(read(), "b");
        // Somebody writes between the look and the exchange.
        let temporary =
            fill_temporary(&folder, OsStr::new("f"), b"c", Mode::RUSR, Umask::Holds).unwrap();
        std::fs::write(dir.path().join("f"), "theirs").unwrap();
        assert!(matches!(exchange(&folder, &temporary, OsStr::new("f"), b"b"), Ok(Gone::Not)));
        assert_eq!(read(), "theirs");
    }

    #[test]
    fn the_walk_without_openat2_refuses_links_and_finds_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/f"), "x").unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        symlink("f", dir.path().join("a/g")).unwrap();
        let root = open_root(dir.path()).unwrap();
        let try_open =
            |path: &str| open_by_steps(&root, Path::new(path), OFlags::RDONLY).map(|_| ());
        assert_eq!(try_open("a/f"), Ok(()));
        assert_eq!(try_open("./a/./f"), Ok(()));
        assert_eq!(try_open("b/f"), Err(Errno::LOOP));
        assert_eq!(try_open("a/g"), Err(Errno::LOOP));
        assert_eq!(try_open("a/none"), Err(Errno::NOENT));
        assert_eq!(try_open("a/f/x"), Err(Errno::NOTDIR));
    }

    #[test]
    fn no_link_is_followed_where_none_may_be() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("f"), "x").unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        let root = open_root(dir.path()).unwrap();
        let try_open = |path: &str, mode| {
            open_folder_without_links(&root, Path::new(path), mode).map(|(_, is_new)| is_new)
        };
        assert_eq!(try_open("a", None), Ok(false));
        assert_eq!(try_open("a/c/d", None), Err(Errno::NOENT));
        assert_eq!(try_open("a/c/d", Some(Mode::RWXU)), Ok(true));
        assert_eq!(try_open("a/c/d", Some(Mode::RWXU)), Ok(false));
        for create in [None, Some(Mode::RWXU)] {
            assert_eq!(try_open("b", create), Err(Errno::LOOP));
            assert_eq!(try_open("b/c", create), Err(Errno::LOOP));
            assert_eq!(try_open("f", create), Err(Errno::NOTDIR));
            assert_eq!(try_open("../x", create), Err(Errno::XDEV));
        }
    }

    #[test]
    fn folders_are_created_beneath_the_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        let root = open_root(dir.path()).unwrap();
        open_or_create_folder(&root, Path::new("x/y"), Mode::RWXU).unwrap();
        assert!(dir.path().join("x/y").is_dir());
        let refused = open_or_create_folder(&root, Path::new("out/z"), Mode::RWXU);
        assert_eq!(refused.map(|_| ()), Err(Errno::XDEV));
        assert!(!outside.path().join("z").exists());
    }
}
