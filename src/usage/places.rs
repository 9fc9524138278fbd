//! Where transcripts are.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::fetch::{Errand, Mark};
use crate::transcript::part::digest;

/// Folders are looked into so deep below `projects`.
const MAX_DEPTH: u32 = 8;
/// The folder of a session's subagents.
const SUBAGENTS: &str = "subagents";
/// What is told beside a transcript of its agent is no longer than that.
const META_MAX_BYTES: u64 = 64 << 10;

/// A transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transcript {
    pub(super) path: PathBuf,
    pub(super) print: Print,
}

impl Transcript {
    /// To read it, from where it was read up to.
    pub(super) fn errand(&self, from: Option<Mark>) -> Errand<'_> {
        Errand { path: &self.path, bytes: self.print.bytes, from }
    }
}

/// What a file is called that is about these directories: hex digits, the same in each
/// process.
pub(super) fn short_name(dirs: &[PathBuf]) -> String {
    let text: Vec<u8> =
        dirs.iter().flat_map(|dir| [dir.as_os_str().as_bytes(), b"\0"].concat()).collect();
    digest(text).iter().take(8).fold(String::new(), |name, byte| format!("{name}{byte:02x}"))
}

/// By this one sees whether a file is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) bytes: u64,
    /// Since 1970.
    pub(super) mtime_ns: i64,
}

impl Print {
    pub(super) fn of(meta: &fs::Metadata) -> Self {
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            bytes: meta.len(),
            mtime_ns: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
        }
    }
}

/// The configuration directories of Claude Code: those that `CLAUDE_CONFIG_DIR` lists
/// with commas between, else `~/.claude` and `~/.config/claude`.
pub fn config_dirs(config_dir: Option<&str>, home: Option<&Path>) -> Vec<PathBuf> {
    let named = config_dir.into_iter().flat_map(|list| list.split(','));
    let named: Vec<PathBuf> =
        named.map(str::trim).filter(|dir| !dir.is_empty()).map(PathBuf::from).collect();
    if !named.is_empty() {
        return named;
    }
    home.into_iter().flat_map(|home| [home.join(".claude"), home.join(".config/claude")]).collect()
}

/// The configuration directories of this process, as absolute paths.
pub fn dirs_of_environment() -> Vec<PathBuf> {
    let listed = std::env::var("CLAUDE_CONFIG_DIR").ok();
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let dirs = config_dirs(listed.as_deref(), home.as_deref());
    dirs.into_iter().map(|dir| std::path::absolute(&dir).unwrap_or(dir)).collect()
}

/// All transcripts below these directories, by the bytes of their paths. A file that is reached in two ways
/// is one. What cannot be read is left out.
pub(super) fn transcripts(config_dirs: &[PathBuf]) -> Listing {
    let mut found = Found::default();
    for dir in config_dirs {
        found.look(&dir.join("projects"), 0);
    }
    // Byte by byte, as the index has them: `s.jsonl` before `s/subagents/…`.
    found.listing.list.sort_unstable_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
    found.listing
}

/// The transcripts that were found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) list: Vec<Transcript>,
    /// Folders that could not be looked into.
    pub(super) unreadable_folders: u64,
}

#[derive(Default)]
struct Found {
    listing: Listing,
    /// Files and folders, by device and inode.
    seen: HashSet<(u64, u64)>,
}

impl Found {
    fn look(&mut self, dir: &Path, depth: u32) {
        let Ok(meta) = fs::metadata(dir) else { return };
        if depth > MAX_DEPTH || !meta.is_dir() || !self.seen.insert((meta.dev(), meta.ino())) {
            return;
        }
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries.filter_map(Result::ok),
            Err(err) => {
                let is_gone = err.kind() == std::io::ErrorKind::NotFound;
                self.listing.unreadable_folders += u64::from(!is_gone);
                return;
            }
        };
        let kind = |entry: fs::DirEntry| Some((entry.file_type().ok()?, entry.path()));
        let mut entries: Vec<_> = entries.filter_map(kind).collect();
        // What lies there before what is linked: a file is known by the first of its names.
        entries.sort_unstable_by(|(a, x), (b, y)| (a.is_symlink(), x).cmp(&(b.is_symlink(), y)));
        for (kind, path) in entries {
            let is_folder = kind.is_dir() || kind.is_symlink();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                self.take(path);
            } else if is_folder {
                self.look(&path, depth + 1);
            }
        }
    }

    fn take(&mut self, path: PathBuf) {
        let Ok(meta) = fs::metadata(&path) else { return };
        if meta.is_file() && self.seen.insert((meta.dev(), meta.ino())) {
            self.listing.list.push(Transcript { path, print: Print::of(&meta) });
        }
    }
}

/// The session a path speaks of, and its agent: `<session>.jsonl`, or
/// `<session>/subagents/agent-<agent>.jsonl`; older ones have `agent-<agent>.jsonl` beside
/// the sessions, which names none.
pub(super) fn session_of(path: &Path) -> (Option<String>, Option<String>) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut above = path.ancestors().skip(1);
    let subagents = above.find(|dir| dir.file_name().is_some_and(|name| name == SUBAGENTS));
    let session = subagents.and_then(Path::parent).and_then(Path::file_name);
    let agent = stem.strip_prefix("agent-").map(str::to_owned);
    match session {
        Some(session) => (Some(session.to_string_lossy().into_owned()), agent.or(Some(stem))),
        None if agent.is_some() => (None, agent),
        None => (Some(stem), None),
    }
}

/// Opens a transcript, or what lies beside it. What was a file when it was listed may be a
/// pipe by now, and nobody is to wait for a writer that never comes.
///
/// # Errors
/// It cannot be opened, or is no regular file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
    }
}

/// The kind of a subagent, as the file beside its transcript tells it.
pub(crate) fn agent_type(path: &Path) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        agent_type: String,
    }
    let mut bytes = Vec::new();
    let file = open(&path.with_extension("meta.json")).ok()?;
    file.take(META_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    let meta = serde_json::from_slice::<Meta>(&bytes).ok()?;
    Some(meta.agent_type).filter(|name| !name.is_empty())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_directories_are_those_the_cli_uses() {
        let home = Path::new("/h");
        let default = [PathBuf::from("/h/.claude"), PathBuf::from("/h/.config/claude")];
        assert_eq!(config_dirs(None, Some(home)), default);
        assert_eq!(config_dirs(Some(" "), Some(home)), default);
        let two = [PathBuf::from("/a"), PathBuf::from("/b")];
        assert_eq!(config_dirs(Some("/a, /b,"), Some(home)), two);
        assert_eq!(config_dirs(None, None), Vec::<PathBuf>::new());
    }

    /// What `work` gives; a panic if it waits for a writer of a pipe.
    pub(crate) fn without_waiting<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(work()));
        told.recv_timeout(std::time::Duration::from_secs(20)).expect("nobody waits for a pipe")
    }

    /// A pipe without a writer in the place of a file.
    pub(crate) fn make_pipe(path: &Path) {
        _ = fs::remove_file(path);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }

    #[test]
    fn nobody_waits_for_what_became_a_pipe_after_it_was_listed() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = vec![dir.path().to_owned()];
        let path = dir.path().join("projects/-p/x.jsonl");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{}\n").unwrap();
        let listed = transcripts(&dirs).list;
        assert_eq!(listed.len(), 1);
        make_pipe(&path);
        make_pipe(&path.with_extension("meta.json"));
        assert_eq!(transcripts(&dirs).list, [], "a pipe is not listed");
        let all = listed.clone();
        let (told, read) = without_waiting(move || {
            let names = crate::transcript::part::SharedNames::default();
            let errands: Vec<Errand<'_>> = all.iter().map(|found| found.errand(None)).collect();
            let (fetched, _) = super::super::fetch::all(&errands, &names);
            let models = crate::models::Models::builtin();
            let (told, damage) = super::super::responses::of(all, models);
            ((told.len(), damage.unreadable_files), fetched.iter().flatten().count())
        });
        assert_eq!((told, read), ((0, 1), 0));
        assert_eq!(without_waiting(move || agent_type(&path)), None);
        assert!(open(dir.path()).is_err(), "a folder is no transcript");
    }

    #[test]
    fn each_transcript_is_found_once() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("projects/-p");
        fs::create_dir_all(project.join("s1/subagents/workflows/w")).unwrap();
        for name in [
            "s1.jsonl",
            "s1/subagents/agent-7.jsonl",
            "s1/subagents/workflows/w/agent-8.jsonl",
            "x.txt",
        ] {
            fs::write(project.join(name), "x").unwrap();
        }
        symlink(&project, dir.path().join("projects/again")).unwrap();
        symlink("..", project.join("loop")).unwrap();
        let dirs = [dir.path().to_owned(), dir.path().to_owned()];
        let found = transcripts(&dirs).list;
        let of: Vec<_> = found.iter().map(|found| session_of(&found.path)).collect();
        let agent = |id: &str| (Some("s1".to_owned()), Some(id.to_owned()));
        assert_eq!(of.len(), 3, "{found:?}");
        for wanted in [(Some("s1".to_owned()), None), agent("7"), agent("8")] {
            assert!(of.contains(&wanted), "{of:?}");
        }
        assert_eq!(session_of(Path::new("/p/agent-9.jsonl")), (None, Some("9".into())));
    }
}
