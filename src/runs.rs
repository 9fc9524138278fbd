//! The folders of a project's runs, below its state folder.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// The id of a run stands in this much of its journal.
const HEAD_BYTES: u64 = 64 << 10;

/// One run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder of a new run. Its name sorts by start time.
    pub fn create(project_state: &Path, run_id: Uuid, started_at: Timestamp) -> Result<Self> {
        let stamp: String =
            started_at.rfc3339().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let short = &run_id.simple().to_string()[..8];
        let path = project_state.join("runs").join(format!("{stamp}-{short}"));
        make_private(&path)?;
        Ok(Self { path })
    }

    /// The newest run that has a journal.
    pub fn newest(project_state: &Path) -> Result<Option<Self>> {
        let runs = project_state.join("runs");
        let listing = match std::fs::read_dir(&runs) {
            Ok(listing) => listing,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(cannot("read", &runs, e)),
        };
        let mut newest: Option<PathBuf> = None;
        for entry in listing {
            let path = entry.map_err(|e| cannot("read", &runs, e))?.path();
            let journal = path.join("journal");
            match std::fs::symlink_metadata(&journal) {
                // One that is there and cannot be read is for its reader to refuse.
                Ok(_) if newest.as_ref().is_none_or(|n| *n < path) => newest = Some(path),
                Ok(_) => {}
                Err(e) if is_missing(&e) => {}
                Err(e) => return Err(cannot("look at", &journal, e)),
            }
        }
        Ok(newest.map(|path| Self { path }))
    }

    /// The run `run_id`, if it has a journal.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn find(project_state: &Path, run_id: Uuid) -> Result<Option<Self>> {
        let runs = project_state.join("runs");
        let short = format!("-{}", &run_id.simple().to_string()[..8]);
        let listing = match std::fs::read_dir(&runs) {
            Ok(listing) => listing,
            Err(e) if is_missing(&e) => return Ok(None),
            Err(e) => return Err(cannot("read", &runs, e)),
        };
        for entry in listing {
            let path = entry.map_err(|e| cannot("read", &runs, e))?.path();
            let is_it =
                path.file_name().is_some_and(|n| n.as_encoded_bytes().ends_with(short.as_bytes()));
            if is_it && begins_with(&path.join("journal"), run_id) {
                return Ok(Some(Self { path }));
            }
        }
        Ok(None)
    }

    /// All runs of all projects below the state directory: by project, then by start. What
    /// cannot be read or is no folder is left out.
    pub fn all(state_root: &Path) -> Vec<Self> {
        let folders = |dir: PathBuf| {
            let entries = std::fs::read_dir(dir).into_iter().flatten();
            let paths = entries.filter_map(std::result::Result::ok).map(|e| e.path());
            let mut folders: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
            folders.sort_unstable();
            folders
        };
        let projects = folders(state_root.join("projects")).into_iter();
        let runs = projects.flat_map(|project| folders(project.join("runs")));
        runs.map(|path| Self { path }).collect()
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What happened.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Copies of the proven checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// longhaul's own log.
    pub fn log(&self) -> PathBuf {
        self.path.join("longhaul.log")
    }
}

/// Does the journal's first line name this run? A journal that cannot be read counts:
/// it is for its reader to refuse.
fn begins_with(journal: &Path, run_id: Uuid) -> bool {
    use std::io::Read as _;
    let mut head = Vec::new();
    let read = std::fs::File::open(journal)
        .and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head).map(|_| ()));
    match read {
        Ok(()) => {
            let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let name = run_id.to_string();
            line.windows(name.len()).any(|part| part == name.as_bytes())
        }
        Err(e) => !is_missing(&e),
    }
}

fn is_missing(e: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(e.kind(), NotFound | NotADirectory)
}

fn make_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| cannot("create", path, e))
}

fn cannot(verb: &str, path: &Path, e: std::io::Error) -> Error {
    Error::io(ErrorKind::State, format!("cannot {verb} {}", path.display()), e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_runs_are_the_folders_by_project_and_start() {
        let state = tempfile::tempdir().unwrap();
        let projects = state.path().join("projects");
        let names = ["b/runs/2-x", "b/runs/1-x", "a/runs/3-x", "a/other/1-x"];
        for name in names {
            std::fs::create_dir_all(projects.join(name)).unwrap();
        }
        std::fs::write(projects.join("a/runs/note"), "x").unwrap();
        std::fs::write(projects.join("note"), "x").unwrap();
        let all = RunFolder::all(state.path());
        let found: Vec<&Path> =
            all.iter().map(|run| run.path().strip_prefix(&projects).unwrap()).collect();
        assert_eq!(found, ["a/runs/3-x", "b/runs/1-x", "b/runs/2-x"].map(Path::new));
        assert_eq!(RunFolder::all(&state.path().join("nowhere")), []);
    }
}
