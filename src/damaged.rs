//! A file of the state that cannot be read: it stays as it is, a copy of it is put
//! aside before anybody tries to mend it, and the person is told how to start afresh.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::state_dir::FILE_MODE;
use crate::text::shell_word;
use crate::{Error, ErrorKind};

/// More is no journal of a night, and would fill the disk.
const COPY_MAX_BYTES: u64 = 256 << 20;
/// A file that changes while it is damaged is copied no more often.
const COPIES_MAX: usize = 8;
/// Hex digits of the digest that name a copy.
const DIGEST_CHARS: usize = 12;

/// The refusal (exit 50) of the damaged state file `file`. Whoever moves the folder
/// `unit` to `to` starts afresh. A copy is put aside as `<file>.damaged-<digest>`
/// unless there is one of these very bytes; that there is none changes nothing.
pub fn refuse(file: &Path, message: impl Into<String>, unit: &Path, to: &Path) -> Error {
    let kept = match put_aside(file) {
        Ok(copy) => format!("a copy of it as it was found is {}", copy.display()),
        Err(err) => format!("no copy of it could be put aside ({err})"),
    };
    let (unit, to) = (unit.display().to_string(), to.display().to_string());
    Error::new(ErrorKind::State, message)
        .hint(format!("nothing was started, and the file was left as it is; {kept}"))
        .hint(format!(
            "to give it up and start afresh: `mv {} {}` (keep it: it is the only record)",
            shell_word(&unit),
            shell_word(&to)
        ))
}

/// Copies `file` to `<file>.damaged-<digest>` beside it, for the owner alone.
fn put_aside(file: &Path) -> io::Result<PathBuf> {
    let other = |why: &str| io::Error::other(why.to_owned());
    let digest = copy_to(file, &mut io::sink())?;
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
        return Err(other("it has no name"));
    };
    let prefix = format!("{}.damaged-", name.to_string_lossy());
    let copy = folder.join(format!("{prefix}{digest}"));
    if fs::symlink_metadata(&copy).is_ok_and(|meta| meta.is_file()) {
        return Ok(copy);
    }
    let is_copy = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&prefix);
    if fs::read_dir(folder)?.filter_map(Result::ok).filter(is_copy).count() >= COPIES_MAX {
        return Err(other("there are enough of them"));
    }
    let temp = folder.join(format!(".new-{}", uuid::Uuid::new_v4().simple()));
    let fill = || -> io::Result<()> {
        let mut aside = File::options().write(true).create_new(true).mode(FILE_MODE).open(&temp)?;
        if copy_to(file, &mut aside)? != digest {
            return Err(other("it is being changed"));
        }
        aside.sync_all()?;
        fs::rename(&temp, &copy)?;
        File::open(folder)?.sync_all()
    };
    fill().inspect_err(|_| drop(fs::remove_file(&temp)))?;
    Ok(copy)
}

/// Writes what `file` holds, and gives the first digits of its digest.
fn copy_to(file: &Path, out: &mut impl Write) -> io::Result<String> {
    use rustix::fs::OFlags;
    // A pipe in its place must not make anybody wait, and a link lead nowhere.
    let plain = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let file = File::options().read(true).custom_flags(plain).open(file)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut rest = file.take(COPY_MAX_BYTES + 1);
    let mut hash = Sha256::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hash.update(&buffer[..n]);
                out.write_all(&buffer[..n])?;
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    if rest.limit() == 0 {
        return Err(io::Error::other("it is larger than 256 MiB"));
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(hex[..DIGEST_CHARS].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn copies(folder: &Path) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.retain(|path| path.to_str().unwrap().contains(".damaged-"));
        all.sort();
        all
    }

    fn refused(file: &Path) -> Error {
        refuse(file, "it is damaged", file.parent().unwrap(), Path::new("/it's/kept"))
    }

    #[test]
    fn a_copy_is_put_aside_once_and_the_original_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal");
        fs::write(&file, "abc").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let before = fs::metadata(&file).unwrap();
        let err = refused(&file);
        // The digest of `abc`.
        let copy = dir.path().join("journal.damaged-ba7816bf8f01");
        assert_eq!(copies(dir.path()), std::slice::from_ref(&copy));
        assert_eq!(fs::read(&copy).unwrap(), b"abc");
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o600);
        assert!(err.hints()[0].contains(copy.to_str().unwrap()), "{}", err.render());
        assert!(err.hints()[1].contains(r"'/it'\''s/kept'`"), "{}", err.render());
        assert_eq!(err.kind(), ErrorKind::State);
        refused(&file);
        assert_eq!(copies(dir.path()).len(), 1, "these bytes are kept");
        let after = fs::metadata(&file).unwrap();
        assert_eq!((after.ino(), after.mode(), after.mtime_nsec()), {
            (before.ino(), before.mode(), before.mtime_nsec())
        });
        for n in 0..20 {
            fs::write(&file, format!("{n}")).unwrap();
            refused(&file);
        }
        assert_eq!(copies(dir.path()).len(), COPIES_MAX);
        assert!(refused(&file).render().contains("enough"), "{}", refused(&file).render());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1 + COPIES_MAX, "nothing half made");
    }

    #[test]
    fn what_is_no_file_is_refused_without_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("elsewhere"), "secret").unwrap();
        symlink(at("elsewhere"), at("link")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), kind, mode, 0).unwrap();
        File::create(at("large")).unwrap().set_len(COPY_MAX_BYTES + 1).unwrap();
        for name in ["link", "folder", "pipe", "large", "missing"] {
            let err = refused(&at(name));
            assert_eq!(err.kind(), ErrorKind::State);
            assert!(err.hints()[0].contains("no copy"), "{name}: {}", err.render());
        }
        assert_eq!(copies(dir.path()), Vec::<PathBuf>::new());
    }
}
