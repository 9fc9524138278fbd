//! Which table of their own a person has in use, for processes that they did not start:
//! a status line of an editor knows nothing of what a shell exports.
//!
//! What is priced once keeps its price, so such a process rather prices nothing than by a
//! table that may be the wrong one.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Models, OWN, own_table};
use crate::clock;
use crate::error::{Error, Result};
use crate::state_dir::{self, FILE_MODE};

/// Longer than a path can be, in JSON.
const FILE_MAX_BYTES: u64 = 64 << 10;
/// Whoever saves a file is done with it after this long.
const SAVED_MS: u64 = 2_000;

/// Remembers below `state_dir`, which is there, whose prices this process uses: for those
/// that are told nothing. What cannot be noted is not.
pub fn remember(state_dir: &Path) {
    note(state_dir, OWN.get().map(|(_, path)| path.as_path()));
}

fn note(state_dir: &Path, table: Option<&Path>) {
    let file = file(state_dir);
    // The working directory of the others is another one.
    let table = table.and_then(|path| std::path::absolute(path).ok());
    if remembered(state_dir) == table {
        return;
    }
    match table.and_then(|path| serde_json::to_vec(&path).ok()) {
        Some(text) => drop(state_dir::write_unsynced(&file, &text, FILE_MODE)),
        None => drop(fs::remove_file(&file)),
    }
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("models-path.json")
}

fn remembered(state_dir: &Path) -> Option<PathBuf> {
    state_dir::read_small_json(&file(state_dir), FILE_MAX_BYTES)
}

/// As [`Models::use_own`], for a process that nobody watches: where its environment names
/// no table, it takes the one that is remembered below `state_dir`, while that is there.
///
/// # Errors
/// As there; and a table that was saved a moment ago may not be whole.
pub fn use_own_beside(
    env: impl Fn(&str) -> Option<OsString>,
    state_dir: &Path,
    now_unix_ms: i64,
) -> Result<()> {
    if let Some(own) = beside(env, state_dir, now_unix_ms)? {
        let _ = OWN.set(own);
    }
    Ok(())
}

fn beside(
    env: impl Fn(&str) -> Option<OsString>,
    state_dir: &Path,
    now_unix_ms: i64,
) -> Result<Option<(Models, PathBuf)>> {
    let usual = own_table(env);
    let is_named = |(path, is_named): &(PathBuf, bool)| *is_named && path.is_absolute();
    let known = remembered(state_dir).filter(|_| !usual.as_ref().is_some_and(is_named));
    let known = known.filter(|path| !matches!(path.try_exists(), Ok(false)));
    let Some((path, must_be)) = known.map(|path| (path, true)).or(usual) else { return Ok(None) };
    if let Ok(meta) = fs::metadata(&path) {
        let saved = clock::file_unix_ms(meta.mtime(), meta.mtime_nsec());
        if now_unix_ms.abs_diff(saved) < SAVED_MS {
            let shown = path.display();
            return Err(Error::usage(format!("the prices in {shown} were saved this moment")));
        }
    }
    Ok(Models::of_file(&path, must_be)?.map(|models| (models, path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_795_213_587_000;
    const TABLE: &str = "[[model]]\nid = \"opus\"\n[[model.price]]\ninput = 7.0\noutput = 0.0\n\
        cache_write_5m = 0.0\ncache_write_1h = 0.0\ncache_read = 0.0\n";

    struct Place(tempfile::TempDir);

    impl Place {
        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// Saves a table, so many milliseconds ago.
        fn save(&self, name: &str, text: &str, age_ms: u64) {
            let path = self.at(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(NOW_MS - age_ms);
            fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        }

        /// Which table is taken, with that in `LONGHAUL_MODELS`.
        fn taken(&self, named: Option<&str>) -> Result<Option<PathBuf>> {
            let env = |name: &str| match name {
                "LONGHAUL_MODELS" => named.map(OsString::from),
                "HOME" => Some(self.0.path().into()),
                _ => None,
            };
            let own = beside(env, self.0.path(), NOW_MS.cast_signed())?;
            Ok(own.map(|(_, path)| path))
        }
    }

    #[test]
    fn what_a_shell_named_holds_for_those_that_are_told_nothing() {
        let place = Place(tempfile::tempdir().unwrap());
        let usual = ".config/longhaul/models.toml";
        assert_eq!(place.taken(None).unwrap(), None);
        place.save("shell.toml", TABLE, 9_000);
        note(place.0.path(), Some(&place.at("shell.toml")));
        assert_eq!(place.taken(None).unwrap(), Some(place.at("shell.toml")));
        place.save(usual, TABLE, 9_000);
        assert_eq!(place.taken(None).unwrap(), Some(place.at("shell.toml")), "as in the shell");
        place.save("mine.toml", TABLE, 9_000);
        let mine = place.at("mine.toml").display().to_string();
        assert_eq!(place.taken(Some(&mine)).unwrap(), Some(place.at("mine.toml")));
        // What a shell meant by a relative name is remembered; here it is another file.
        assert_eq!(place.taken(Some("x.toml")).unwrap(), Some(place.at("shell.toml")));
        fs::remove_file(place.at("shell.toml")).unwrap();
        assert_eq!(place.taken(None).unwrap(), Some(place.at(usual)));
        note(place.0.path(), None);
        assert!(!place.at("models-path.json").exists());
        fs::remove_file(place.at(usual)).unwrap();
        assert_eq!(place.taken(None).unwrap(), None);
        assert!(place.taken(Some("/not/there")).is_err() && place.taken(Some("x.toml")).is_err());
    }

    #[test]
    fn a_table_that_is_being_saved_or_wrong_prices_nothing() {
        let place = Place(tempfile::tempdir().unwrap());
        let usual = ".config/longhaul/models.toml";
        for text in ["", TABLE, &TABLE[..40]] {
            place.save(usual, text, 1_000);
            assert!(place.taken(None).is_err(), "{text}");
        }
        place.save(usual, &TABLE[..40], 9_000);
        assert!(place.taken(None).is_err());
        // All of it commented out, for example.
        place.save(usual, "", 9_000);
        assert_eq!(place.taken(None).unwrap(), Some(place.at(usual)));
        // The one that is remembered is no better.
        place.save("shell.toml", &TABLE[..40], 9_000);
        note(place.0.path(), Some(&place.at("shell.toml")));
        assert!(place.taken(None).is_err());
    }
}
