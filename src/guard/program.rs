//! The CLI's program file: is it still the one the run began with?
//!
//! An update in mid-run first takes the file away and then puts another in its
//! place. Nothing is run to find out: the file is looked at, and its version is
//! read from its path or from the package it lies in.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::claude_json::{Json, read_regular};
use crate::text::safe;

/// Folders above the program in which its package may be described.
const PACKAGE_FOLDERS: usize = 4;
/// A package.json is a page.
const PACKAGE_MAX_BYTES: u64 = 1 << 20;
/// What the name of the CLI's packages contains.
const PACKAGE: &str = "claude-code";

/// A program file, as it lies there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// How it is started.
    pub path: PathBuf,
    /// The file behind all links.
    pub real: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified_s: i64,
    modified_ns: i64,
    /// Its version, where path or package tell.
    pub version: Option<String>,
}

/// What a look at the program found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// The same as before.
    Same,
    /// It cannot be started. While an update replaces it that is so for a
    /// moment.
    Missing {
        /// Why, as a clause.
        why: String,
    },
    /// Another file is there.
    Updated(Box<Update>),
}

/// One program in the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The old one's version, if known.
    pub from: Option<String>,
    /// The new one's.
    pub to: Option<String>,
    /// The new one, to compare with from here on.
    pub identity: Identity,
}

impl Update {
    /// In words, a sentence without a full stop.
    pub fn sentence(&self) -> String {
        let name = |version: &Option<String>| match version {
            Some(version) => safe(version).into_owned(),
            None => "an unknown version".into(),
        };
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if from == to => {
                format!("the CLI was installed anew during the run, the same version {}", safe(to))
            }
            (None, None) => "the CLI's program was replaced during the run".into(),
            (from, to) => {
                format!("the CLI was updated during the run, from {} to {}", name(from), name(to))
            }
        }
    }
}

impl Identity {
    /// Looks at `program`, an absolute path.
    ///
    /// # Errors
    ///
    /// Why it cannot be started, as a clause.
    pub fn of(program: &Path) -> Result<Identity, String> {
        let shown = program.display();
        let gone = |err: std::io::Error| match err.kind() {
            std::io::ErrorKind::NotFound => format!("{shown} does not exist"),
            _ => format!("{shown} cannot be used: {err}"),
        };
        let real = fs::canonicalize(program).map_err(gone)?;
        let meta = fs::metadata(&real).map_err(gone)?;
        if !meta.is_file() {
            return Err(format!("{shown} is not a file"));
        }
        rustix::fs::access(&real, rustix::fs::Access::EXEC_OK)
            .map_err(|_| format!("{shown} is not executable"))?;
        if meta.size() == 0 {
            return Err(format!("{shown} is empty"));
        }
        Ok(Identity {
            path: program.to_owned(),
            version: version(&real),
            real,
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified_s: meta.mtime(),
            modified_ns: meta.mtime_nsec(),
        })
    }

    /// Looks again.
    pub fn check(&self) -> Program {
        match Identity::of(&self.path) {
            Err(why) => Program::Missing { why },
            Ok(now) if now == *self => Program::Same,
            Ok(now) => Program::Updated(Box::new(Update {
                from: self.version.clone(),
                to: now.version.clone(),
                identity: now,
            })),
        }
    }
}

/// The version of the program, without running it: the file's own name as the
/// native installer gives it, or the package.json of the package around it.
fn version(real: &Path) -> Option<String> {
    let name = real.file_name()?.to_str()?;
    if is_version(name) {
        return Some(name.to_owned());
    }
    let mut folders = real.ancestors().skip(1).take(PACKAGE_FOLDERS);
    folders.find_map(|folder| {
        let bytes = read_regular(&folder.join("package.json"), PACKAGE_MAX_BYTES).ok()??;
        let package = Json::parse(&bytes);
        package.text(&["name"]).filter(|name| name.contains(PACKAGE))?;
        package.text(&["version"]).filter(|version| is_version(version)).map(str::to_owned)
    })
}

/// `2.1.329`, perhaps with something behind.
fn is_version(text: &str) -> bool {
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = numbers.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.len() <= 64 && parts.len() == 3 && parts.iter().all(is_number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn install(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, path).unwrap();
    }

    #[test]
    fn an_update_of_the_native_installer_is_named_with_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let versions = dir.path().join("share/claude/versions");
        install(&versions.join("2.1.329"), "old");
        install(&versions.join("2.1.330"), "new");
        let link = dir.path().join("claude");
        symlink(versions.join("2.1.329"), &link).unwrap();
        let identity = Identity::of(&link).unwrap();
        assert_eq!(identity.check(), Program::Same);
        let json = serde_json::to_string(&identity).unwrap();
        assert_eq!(serde_json::from_str::<Identity>(&json).unwrap(), identity);
        fs::remove_file(&link).unwrap();
        let Program::Missing { why } = identity.check() else { panic!() };
        assert!(why.contains("does not exist"), "{why}");
        symlink(versions.join("2.1.330"), &link).unwrap();
        let Program::Updated(update) = identity.check() else { panic!() };
        assert_eq!(
            update.sentence(),
            "the CLI was updated during the run, from 2.1.329 to 2.1.330"
        );
        assert_eq!(update.identity.check(), Program::Same);
    }

    #[test]
    fn an_update_of_the_package_is_named_too() {
        let dir = tempfile::tempdir().unwrap();
        let package = dir.path().join("node_modules/@anthropic-ai/claude-code");
        let program = package.join("bin/claude.exe");
        let describe = |version: &str| {
            let text = format!(r#"{{"name":"@anthropic-ai/claude-code","version":"{version}"}}"#);
            fs::write(package.join("package.json"), text).unwrap();
        };
        install(&program, "old");
        describe("2.1.329");
        fs::write(dir.path().join("package.json"), r#"{"name":"mine","version":"9.9.9"}"#).unwrap();
        let identity = Identity::of(&program).unwrap();
        assert_eq!(identity.version.as_deref(), Some("2.1.329"));
        install(&program, "old");
        let Program::Updated(update) = identity.check() else { panic!() };
        assert!(update.sentence().contains("the same version 2.1.329"));
        // A script that starts the rest of its package need not change itself.
        describe("2.2.0");
        let Program::Updated(update) = update.identity.check() else { panic!() };
        assert!(update.sentence().ends_with("from 2.1.329 to 2.2.0"));
        fs::remove_file(package.join("package.json")).unwrap();
        let Program::Updated(update) = update.identity.check() else { panic!() };
        assert!(update.sentence().ends_with("from 2.2.0 to an unknown version"));
    }

    #[test]
    fn a_program_in_the_middle_of_its_update_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("claude");
        install(&program, "program");
        let identity = Identity::of(&program).unwrap();
        assert_eq!(identity.version, None);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(identity.check(), Program::Missing { .. }));
        install(&program, "");
        assert!(matches!(identity.check(), Program::Missing { .. }));
        fs::remove_file(&program).unwrap();
        fs::create_dir(&program).unwrap();
        assert!(matches!(identity.check(), Program::Missing { .. }));
    }

    #[test]
    fn versions_look_like_versions() {
        for yes in ["2.1.329", "3.0.0-beta.1", "0.0.1+build"] {
            assert!(is_version(yes), "{yes}");
        }
        for no in ["", "claude", "2.1", "2.1.x", "2..1", "2.1.3.4", "v2.1.3"] {
            assert!(!is_version(no), "{no}");
        }
    }
}
