//! The CLI's own `.claude.json`, before it is launched: a CLI that finds it
//! damaged asks a person what to do, and the offered answer is to exit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::claude_json::{Json, Places, read_regular};
use crate::state_dir::{FILE_MODE, write_atomic};
use crate::{Error, ErrorKind, Result};

/// Tries before the file counts as damaged: another CLI may be writing it.
const TRIES: u32 = 5;
/// Between two of them. All together a little more than a second.
const WAIT_MS: u64 = 300;
/// As much of the file as is read.
const MAX_BYTES: u64 = 64 << 20;
/// Its copy in the run's folder.
const COPY: &str = "claude.json";
/// Where the CLI keeps its backups, below its folder.
const BACKUPS: &str = "backups";
/// Most files looked at there.
const MAX_BACKUPS: usize = 1000;

/// Puts a copy of a sound `.claude.json` into the run's folder, for the owner
/// alone; of one that is missing or damaged there is no copy. It holds what the
/// file holds, a login's name and sometimes a key: [`discard_copy`] when the
/// run is over.
///
/// # Errors
///
/// The copy cannot be written.
pub fn keep_copy(places: &Places, run_dir: &Path) -> Result<()> {
    match read_regular(&places.global_file, MAX_BYTES) {
        Ok(Some(bytes)) if matches!(Json::parse(&bytes), Json::Object(_)) => {
            write_atomic(&run_dir.join(COPY), &bytes, FILE_MODE)
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Removes the copy of [`keep_copy`].
pub fn discard_copy(run_dir: &Path) {
    // A copy that stays is the owner's alone.
    let _ = std::fs::remove_file(run_dir.join(COPY));
}

/// Reads `.claude.json`, again for about a second while it is damaged; the
/// caller's thread waits.
///
/// # Errors
///
/// [`ErrorKind::NeedsPerson`] when it stays so: missing, empty, cut off, or no
/// JSON object. The hints name what it can be restored from.
pub fn check(places: &Places, run_dir: &Path) -> Result<()> {
    check_within(places, run_dir, TRIES, || std::thread::sleep(Duration::from_millis(WAIT_MS)))
}

fn check_within(places: &Places, run_dir: &Path, tries: u32, mut wait: impl FnMut()) -> Result<()> {
    let mut tried = 1;
    loop {
        let why = match Json::read(&places.global_file) {
            Json::Object(_) => return Ok(()),
            Json::Missing => "it is gone".into(),
            Json::Empty => "it is empty".into(),
            Json::Bad(why) => why,
        };
        if tried >= tries {
            return Err(damaged(places, run_dir, &why));
        }
        tried += 1;
        wait();
    }
}

fn damaged(places: &Places, run_dir: &Path, why: &str) -> Error {
    let file = places.global_file.display();
    let mut err = Error::new(
        ErrorKind::NeedsPerson,
        format!("the CLI's {file} is damaged: {why}; the CLI would ask a person what to do"),
    );
    for (whose, path) in [
        ("the CLI's own backup", newest_backup(places)),
        ("a copy from the start of this run", sound(run_dir.join(COPY))),
    ] {
        if let Some(path) = path {
            err = err.hint(format!("{whose}: {}", copy_command(&path, &places.global_file)));
        }
    }
    if err.hints().is_empty() {
        err = err.hint("start `claude` once by hand and follow it to its prompt");
    }
    err.hint("then `longhaul run` goes on where it was")
}

/// A shell command that puts `from` in the place of `to`.
pub fn copy_command(from: &Path, to: &Path) -> String {
    let word = |path: &Path| format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"));
    format!("cp -f {} {}", word(from), word(to))
}

/// The newest backup of the CLI that can be used: `<name>.backup.<time>`.
pub fn newest_backup(places: &Places) -> Option<PathBuf> {
    let name = places.global_file.file_name()?.to_str()?;
    let listing = std::fs::read_dir(places.config_dir.join(BACKUPS)).ok()?;
    let mut backups: Vec<(u64, PathBuf)> = listing
        .flatten()
        .take(MAX_BACKUPS)
        .filter_map(|entry| {
            let stamp = entry.file_name();
            let stamp = stamp.to_str()?.strip_prefix(name)?.strip_prefix(".backup.")?;
            Some((stamp.parse().ok()?, entry.path()))
        })
        .collect();
    backups.sort();
    backups.into_iter().rev().find_map(|(_, path)| sound(path))
}

fn sound(path: PathBuf) -> Option<PathBuf> {
    matches!(Json::read(&path), Json::Object(_)).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    struct World {
        _dir: tempfile::TempDir,
        places: Places,
        run: PathBuf,
    }

    fn world() -> World {
        let dir = tempfile::Builder::new().prefix("it's").tempdir().unwrap();
        let places = Places {
            config_dir: dir.path().join(".claude"),
            global_file: dir.path().join(".claude.json"),
        };
        let run = dir.path().join("run");
        fs::create_dir_all(places.config_dir.join(BACKUPS)).unwrap();
        fs::create_dir(&run).unwrap();
        fs::write(&places.global_file, r#"{"a":1}"#).unwrap();
        World { _dir: dir, places, run }
    }

    impl World {
        fn check(&self) -> Result<()> {
            check_within(&self.places, &self.run, 2, || {})
        }

        fn holds(&self, key: &str) -> bool {
            Json::read(&self.places.global_file).at(&[key]).is_some()
        }
    }

    #[test]
    fn damage_needs_a_person_and_names_what_there_is() {
        let world = world();
        world.check().unwrap();
        keep_copy(&world.places, &world.run).unwrap();
        let copy = world.run.join(COPY);
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o600);
        let backups = world.places.config_dir.join(BACKUPS);
        for (name, text) in [
            (".claude.json.backup.900", r#"{"old":1}"#),
            (".claude.json.backup.1000", r#"{"newer":1}"#),
            (".claude.json.backup.1001", "{cut"),
            (".claude.json.corrupted.2000", r#"{"x":1}"#),
            ("other.json.backup.3000", r#"{"x":1}"#),
        ] {
            fs::write(backups.join(name), text).unwrap();
        }
        for (text, words) in
            [("", "it is empty"), ("{\"a\":", "cut off"), ("[]", "no JSON object"), ("x", "line 1")]
        {
            fs::write(&world.places.global_file, text).unwrap();
            let err = world.check().unwrap_err();
            assert_eq!(err.kind(), ErrorKind::NeedsPerson);
            assert!(err.message().contains(words), "{err}");
            let hints = err.hints().join("\n");
            assert!(hints.contains(".claude.json.backup.1000'"), "{hints}");
            assert!(hints.contains("run/claude.json'"), "{hints}");
        }
        fs::remove_file(&world.places.global_file).unwrap();
        assert!(world.check().unwrap_err().message().contains("it is gone"));
        // The hint is a command that works.
        let err = world.check().unwrap_err();
        let command = err.hints()[0].split_once(": ").unwrap().1.to_owned();
        assert!(
            std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success()
        );
        world.check().unwrap();
        assert!(world.holds("newer"));
    }

    #[test]
    fn a_damaged_file_is_not_copied_and_a_copy_can_be_discarded() {
        let world = world();
        keep_copy(&world.places, &world.run).unwrap();
        fs::write(&world.places.global_file, "{cut").unwrap();
        keep_copy(&world.places, &world.run).unwrap();
        assert_eq!(fs::read_to_string(world.run.join(COPY)).unwrap(), r#"{"a":1}"#);
        discard_copy(&world.run);
        assert!(!world.run.join(COPY).exists());
        let hints = world.check().unwrap_err().hints().join("\n");
        assert!(hints.contains("by hand"), "{hints}");
    }

    #[test]
    fn one_that_is_being_written_is_waited_for() {
        let world = world();
        fs::write(&world.places.global_file, "{\"a\":").unwrap();
        let mut waited = 0;
        let checked = check_within(&world.places, &world.run, u32::MAX, || {
            waited += 1;
            if waited == 2 {
                fs::write(&world.places.global_file, r#"{"a":2}"#).unwrap();
            }
        });
        checked.unwrap();
        assert_eq!(waited, 2);
    }
}
