//! The secret of the hub: 256 bits from the kernel, made once, kept in a file that
//! only its owner can read, and compared without telling by the time it takes.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// Its file below the state directory.
pub const TOKEN_FILE: &str = "hub.token";
const TOKEN_BYTES: usize = 32;
const TOKEN_DIGITS: usize = 2 * TOKEN_BYTES;

/// What a program must show to change anything. Its `Debug` does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// The token kept in `dir` (which exists and is private); made if there is none.
    ///
    /// # Errors
    /// The file holds something else, or others can read it.
    pub fn of(dir: &Path) -> Result<Self> {
        let path = dir.join(TOKEN_FILE);
        if let Some(token) = read(&path)? {
            return Ok(token);
        }
        let failed = |e| Error::io(ErrorKind::State, format!("cannot write {}", path.display()), e);
        // Whole or not at all, for the owner alone, and never in the place of another.
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
        let fresh = fresh()?;
        writeln!(file, "{}", fresh.0).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        match file.persist_noclobber(&path) {
            Ok(_) => Ok(fresh),
            Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => {
                read(&path)?.ok_or_else(|| bad(&path, "vanished"))
            }
            Err(e) => Err(failed(e.error)),
        }
    }

    /// In hexadecimal digits, as a client sends it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is it this one? The time taken does not depend on where they differ.
    pub fn is(&self, given: &[u8]) -> bool {
        let (own, given) = (Sha256::digest(self.0.as_bytes()), Sha256::digest(given));
        let differing = own.iter().zip(given).fold(0_u8, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(differing) == 0
    }
}

fn fresh() -> Result<Token> {
    let mut bytes = [0; TOKEN_BYTES];
    let mut filled = 0;
    while filled < TOKEN_BYTES {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())
            .map_err(|e| Error::internal("the kernel gives no random numbers").caused_by(e))?;
    }
    Ok(Token(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

fn bad(path: &Path, why: &str) -> Error {
    let shown = path.display();
    Error::new(ErrorKind::State, format!("the token of the hub in {shown} {why}")).hint(
        "remove the file: the next `longhaul serve` makes a new token, which clients must be told",
    )
}

fn read(path: &Path) -> Result<Option<Token>> {
    // A pipe in its place must not make anybody wait.
    let plain = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(plain).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(bad(path, "cannot be read").caused_by(e)),
    };
    let meta = file.metadata().map_err(|e| bad(path, "cannot be read").caused_by(e))?;
    if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(bad(path, "is not a file of yours"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(bad(path, "can be read by others"));
    }
    let mut text = String::new();
    file.take(1024)
        .read_to_string(&mut text)
        .map_err(|e| bad(path, "cannot be read").caused_by(e))?;
    let digits = text.trim_end();
    if digits.len() != TOKEN_DIGITS || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad(path, "is not what longhaul writes"));
    }
    Ok(Some(Token(digits.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let token = Token::of(dir.path()).unwrap();
        assert_eq!(token.as_str().len(), 64);
        assert_eq!(Token::of(dir.path()).unwrap(), token);
        let meta = fs::metadata(dir.path().join(TOKEN_FILE)).unwrap();
        assert_eq!(meta.mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Token::of(other.path()).unwrap(), token);
        assert!(!format!("{token:?}").contains(token.as_str()));
    }

    #[test]
    fn only_the_whole_of_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let token = Token::of(dir.path()).unwrap();
        let text = token.as_str().as_bytes();
        assert!(token.is(text));
        for given in [&text[..63], &[text, b"0"].concat(), b"", b"\0", &[0; 64]] {
            assert!(!token.is(given));
        }
    }

    #[test]
    fn a_file_that_is_no_token_of_ours_is_refused_and_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TOKEN_FILE);
        for (text, mode, words) in [
            ("", 0o600, "is not what"),
            ("secret\n", 0o600, "is not what"),
            (&*"0".repeat(64), 0o644, "read by others"),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let err = Token::of(dir.path()).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::State);
            assert!(err.message().contains(words), "{err}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert_eq!(Token::of(dir.path()).unwrap_err().kind(), ErrorKind::State);
    }
}
