//! Where the CLI keeps its settings, and what is in there: `.claude.json`,
//! `settings.json` and `.credentials.json`. Reads only, never writes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::Config;
use crate::session::env::is_passed_on;

/// `.claude.json` grows with the history of all projects; beyond this it is not read.
const FILE_MAX_BYTES: u64 = 64 << 20;

/// The characters of a key by which the CLI remembers an answer about it.
const KEY_TAIL_CHARS: usize = 20;

/// An environment: names and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env(BTreeMap<OsString, OsString>);

impl Env {
    /// The environment of this process.
    pub fn of_process() -> Env {
        Env(std::env::vars_os().collect())
    }

    /// An environment of these alone.
    pub fn of<K: Into<OsString>, V: Into<OsString>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Env {
        Env(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// The value of `name`, unless it is unset or empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// What a session gets to see of this environment.
    pub fn for_child(&self, config: &Config) -> Env {
        let mut child = self.clone();
        child.0.retain(|name, _| is_passed_on(name, &config.claude.pass_env));
        for (name, value) in &config.claude.env {
            child.0.insert(name.into(), value.into());
        }
        child
    }

    /// All pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.0.iter()
    }
}

/// Whether the CLI reads this value of a switch such as `CLAUDE_CODE_USE_BEDROCK` as on.
pub fn is_on(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}

/// In the config directory: what the CLI once used, and takes in the place of
/// `.claude.json` where it is there.
pub const OLD_GLOBAL: &str = ".config.json";

/// Where the CLI looks for its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// `~/.claude`, or `CLAUDE_CONFIG_DIR`.
    pub config_dir: PathBuf,
    /// `~/.claude.json`, or `.claude.json` inside `CLAUDE_CONFIG_DIR`; an old
    /// `.config.json` in the config directory comes before both.
    pub global_file: PathBuf,
}

impl Places {
    /// The places for a CLI with this environment; `None` if it has no home.
    pub fn of(env: &Env) -> Option<Places> {
        let (config_dir, global_file) = match env.get("CLAUDE_CONFIG_DIR") {
            Some(dir) => (PathBuf::from(dir), PathBuf::from(dir).join(".claude.json")),
            None => {
                let home = PathBuf::from(env.get("HOME")?);
                (home.join(".claude"), home.join(".claude.json"))
            }
        };
        let old = config_dir.join(OLD_GLOBAL);
        let global_file = if old.is_file() { old } else { global_file };
        Some(Places { config_dir, global_file })
    }
}

/// A JSON file as found.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// There is none.
    Missing,
    /// There is nothing in it.
    Empty,
    /// It cannot be used; why.
    Bad(String),
    /// An object.
    Object(serde_json::Map<String, Value>),
}

impl Json {
    /// Reads a JSON object.
    pub fn read(path: &Path) -> Json {
        match read_regular(path, FILE_MAX_BYTES) {
            Ok(None) => Json::Missing,
            Ok(Some(bytes)) => Json::parse(&bytes),
            Err(why) => Json::Bad(why),
        }
    }

    /// Reads a JSON object from bytes.
    pub fn parse(bytes: &[u8]) -> Json {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.trim_ascii().is_empty() {
            return Json::Empty;
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Json::Object(map),
            Ok(_) => Json::Bad("it holds no JSON object".into()),
            // The error names line and column, never the text.
            Err(err) if err.is_eof() => Json::Bad("it is cut off: the JSON does not end".into()),
            Err(err) => Json::Bad(format!(
                "it is not valid JSON (line {}, column {})",
                err.line(),
                err.column()
            )),
        }
    }

    /// The value at a path of keys.
    pub fn at(&self, keys: &[&str]) -> Option<&Value> {
        let Json::Object(map) = self else { return None };
        let (first, rest) = keys.split_first()?;
        rest.iter().try_fold(map.get(*first)?, |value, key| value.get(key))
    }

    /// The text at a path of keys, unless it is empty.
    pub fn text(&self, keys: &[&str]) -> Option<&str> {
        self.at(keys).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Whether `true` stands at a path of keys.
    pub fn is_true(&self, keys: &[&str]) -> bool {
        self.at(keys).and_then(Value::as_bool) == Some(true)
    }
}

/// The bytes of a regular file; `None` if there is none. Never waits on a FIFO.
pub fn read_regular(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, String> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => std::fs::File::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(err) => return Err(format!("it cannot be read: {err}")),
    };
    let meta = file.metadata().map_err(|err| format!("it cannot be read: {err}"))?;
    if meta.is_dir() {
        return Err("it is a directory".into());
    }
    if !meta.is_file() {
        return Err("it is not a regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|err| format!("it cannot be read: {err}"))?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!("it is larger than {max_bytes} bytes"));
    }
    Ok(Some(bytes))
}

/// The directories whose trust covers `project`: itself and its parents, up to
/// the root of its git repository if it is in one, and the main work tree of a
/// linked one.
pub fn trust_chain(project: &Path) -> Vec<PathBuf> {
    let root = git_root(project);
    let mut chain = Vec::new();
    for dir in project.ancestors() {
        chain.push(dir.to_path_buf());
        if Some(dir) == root {
            break;
        }
    }
    chain.extend(root.and_then(main_work_tree));
    chain
}

/// The main work tree, if `root` is one made by `git worktree add`.
pub fn main_work_tree(root: &Path) -> Option<PathBuf> {
    let pointer = read_regular(&root.join(".git"), 4096).ok()??;
    let git_dir = std::str::from_utf8(&pointer).ok()?.strip_prefix("gitdir:")?.trim();
    let git_dir = std::fs::canonicalize(root.join(git_dir)).ok()?;
    // <main>/.git/worktrees/<name>
    let common = git_dir.parent().filter(|dir| dir.ends_with(".git/worktrees"))?;
    Some(common.parent()?.parent()?.to_path_buf())
}

/// The settings files that come with `project`, the weakest first: its own, and
/// the local one of its git repository, whose hooks run too when the project is
/// a folder or a linked work tree of it.
pub fn project_settings(project: &Path) -> Vec<PathBuf> {
    const LOCAL: &str = ".claude/settings.local.json";
    let root = git_root(project);
    let above = [root.and_then(main_work_tree), root.map(Path::to_path_buf)];
    let mut files = vec![project.join(".claude/settings.json")];
    files.extend(above.into_iter().flatten().filter(|dir| dir != project).map(|d| d.join(LOCAL)));
    files.push(project.join(LOCAL));
    files
}

/// Where the CLI looks for servers it shares with the project: there, and in
/// every folder above but the root of the file system.
pub fn project_servers(project: &Path) -> Vec<PathBuf> {
    let folders = project.ancestors().filter(|dir| dir.parent().is_some());
    folders.map(|dir| dir.join(".mcp.json")).collect()
}

/// The nearest directory above with a `.git` in it.
pub fn git_root(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|dir| dir.join(".git").symlink_metadata().is_ok())
}

/// Whether the CLI would start in `project` without the trust dialog.
pub fn is_trusted(global: &Json, project: &Path) -> bool {
    trust_chain(project).iter().any(|dir| {
        let key = dir.to_string_lossy();
        global.is_true(&["projects", &key, "hasTrustDialogAccepted"])
    })
}

/// What a person has once said about an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAnswer {
    /// Use it.
    Approved,
    /// Do not use it: the CLI goes on as if there were none.
    Rejected,
    /// Never asked: the CLI asks at its start, and Enter means no.
    NeverAsked,
}

/// What `.claude.json` says about `key`.
pub fn key_answer(global: &Json, key: &str) -> KeyAnswer {
    let key = key.trim();
    let tail: String = {
        let chars: Vec<char> = key.chars().collect();
        chars[chars.len().saturating_sub(KEY_TAIL_CHARS)..].iter().collect()
    };
    let holds = |list: &str| {
        global
            .at(&["customApiKeyResponses", list])
            .and_then(Value::as_array)
            .is_some_and(|items| items.iter().any(|item| item.as_str() == Some(&tail)))
    };
    if holds("approved") {
        KeyAnswer::Approved
    } else if holds("rejected") {
        KeyAnswer::Rejected
    } else {
        KeyAnswer::NeverAsked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_json_object_say_why() {
        assert_eq!(Json::parse(b""), Json::Empty);
        assert_eq!(Json::parse(b" \n"), Json::Empty);
        assert_eq!(
            Json::parse(b"{\"a\":tr"),
            Json::Bad("it is cut off: the JSON does not end".into())
        );
        assert_eq!(
            Json::parse(b"{\"a\":x}"),
            Json::Bad("it is not valid JSON (line 1, column 6)".into())
        );
        assert_eq!(Json::parse(b"[]"), Json::Bad("it holds no JSON object".into()));
        assert_eq!(Json::read(Path::new("/")), Json::Bad("it is a directory".into()));
        assert_eq!(Json::read(Path::new("/nonexistent/x")), Json::Missing);
    }

    #[test]
    fn places_follow_the_environment() {
        let home = Places::of(&Env::of([("HOME", "/h")])).unwrap();
        assert_eq!(home.global_file, PathBuf::from("/h/.claude.json"));
        let moved = Places::of(&Env::of([("HOME", "/h"), ("CLAUDE_CONFIG_DIR", "/c")])).unwrap();
        assert_eq!(
            moved,
            Places { config_dir: "/c".into(), global_file: "/c/.claude.json".into() }
        );
        assert_eq!(Places::of(&Env::of([("HOME", "")])), None);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".claude")).unwrap();
        std::fs::write(dir.path().join(".claude/.config.json"), "{}").unwrap();
        let old = Places::of(&Env::of([("HOME", dir.path())])).unwrap();
        assert_eq!(old.global_file, dir.path().join(".claude/.config.json"));
    }

    #[test]
    fn trust_of_a_parent_counts_up_to_the_git_root() {
        let dir = tempfile::tempdir().unwrap();
        let (above, repo) = (dir.path(), dir.path().join("repo"));
        let sub = repo.join("a/b");
        std::fs::create_dir_all(&sub).unwrap();
        let trusting = |dir: &Path| {
            Json::parse(serde_json::json!({"projects": {dir.to_str().unwrap(): {"hasTrustDialogAccepted": true}}}).to_string().as_bytes())
        };
        for dir in [above, &repo, &sub] {
            assert!(is_trusted(&trusting(dir), &sub), "{}", dir.display());
        }
        assert!(!is_trusted(&trusting(&sub), &repo), "trust does not go upwards");
        std::fs::create_dir(repo.join(".git")).unwrap();
        assert!(!is_trusted(&trusting(above), &sub), "a git root ends the search");
        assert!(is_trusted(&trusting(&repo), &sub));
        let linked = above.join("linked");
        std::fs::create_dir_all(repo.join(".git/worktrees/linked")).unwrap();
        std::fs::create_dir(&linked).unwrap();
        std::fs::write(linked.join(".git"), "gitdir: ../repo/.git/worktrees/linked\n").unwrap();
        let repo = std::fs::canonicalize(repo).unwrap();
        assert!(
            is_trusted(&trusting(&repo), &linked),
            "a linked work tree is trusted with its main one"
        );
        let local = ".claude/settings.local.json";
        assert_eq!(
            project_settings(&linked),
            [linked.join(".claude/settings.json"), repo.join(local), linked.join(local)]
        );
    }

    #[test]
    fn settings_and_servers_of_the_folders_above_apply() {
        let dir = tempfile::tempdir().unwrap();
        let (repo, sub) = (dir.path().join("repo"), dir.path().join("repo/a"));
        std::fs::create_dir_all(repo.join(".git")).unwrap();
        std::fs::create_dir(&sub).unwrap();
        let (shared, local) = (".claude/settings.json", ".claude/settings.local.json");
        assert_eq!(project_settings(&sub), [sub.join(shared), repo.join(local), sub.join(local)]);
        assert_eq!(project_settings(&repo), [repo.join(shared), repo.join(local)]);
        let found = project_servers(Path::new("/a/b"));
        assert_eq!(found, [PathBuf::from("/a/b/.mcp.json"), "/a/.mcp.json".into()]);
    }

    #[test]
    fn a_key_is_known_by_its_last_twenty_characters() {
        let key = "sk-ant-0123456789-abcdefghijklmnopqrst";
        let global = |list: &str| {
            Json::parse(
                serde_json::json!({"customApiKeyResponses": {list: ["abcdefghijklmnopqrst"]}})
                    .to_string()
                    .as_bytes(),
            )
        };
        assert_eq!(key_answer(&global("approved"), key), KeyAnswer::Approved);
        assert_eq!(key_answer(&global("rejected"), key), KeyAnswer::Rejected);
        assert_eq!(key_answer(&Json::Missing, key), KeyAnswer::NeverAsked);
        assert_eq!(key_answer(&global("approved"), "short"), KeyAnswer::NeverAsked);
    }

    #[test]
    fn a_child_sees_only_the_billing_variables_it_is_given() {
        let own = Env::of([
            ("ANTHROPIC_API_KEY", "stray"),
            ("ANTHROPIC_AUTH_TOKEN", "stray"),
            ("PATH", "/bin"),
        ]);
        let mut config = Config::defaults();
        let child = own.for_child(&config);
        assert_eq!(
            (child.get("ANTHROPIC_API_KEY"), child.text("PATH")),
            (None, Some("/bin".into()))
        );
        config.claude.pass_env = vec!["ANTHROPIC_API_KEY".into()];
        config.claude.env.insert("ANTHROPIC_AUTH_TOKEN".into(), "given".into());
        let child = own.for_child(&config);
        assert_eq!(child.text("ANTHROPIC_API_KEY"), Some("stray".into()));
        assert_eq!(child.text("ANTHROPIC_AUTH_TOKEN"), Some("given".into()));
    }
}
