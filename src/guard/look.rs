//! What lies in the project of everything the CLI executes or obeys unasked:
//! digests of its parts, never its values.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::headers;
use crate::claude_json::{
    Json, git_root, project_servers, project_settings, read_regular, trust_chain,
};
use crate::state_dir::{FILE_MODE, write_atomic};
use crate::text::safe;
use crate::{Error, ErrorKind, Result};

/// Settings are a page of text.
const MAX_BYTES: u64 = 1 << 20;
/// Most files looked at in one folder of `.claude`.
const MAX_FILES: usize = 512;

/// Keys that change nothing but looks.
const LOOKS: [&str; 12] = [
    "$schema",
    "theme",
    "verbose",
    "editorMode",
    "prefersReducedMotion",
    "showMessageTimestamps",
    "showTurnDuration",
    "spinnerTipsEnabled",
    "spinnerVerbs",
    "syntaxHighlightingDisabled",
    "terminalProgressBarEnabled",
    "terminalTitleFromRename",
];

/// Approvals of shared servers: compared by their effect, in all files together.
const ENABLE_ALL: &str = "enableAllProjectMcpServers";
const ENABLED: &str = "enabledMcpjsonServers";
const DISABLED: &str = "disabledMcpjsonServers";
const APPROVAL_KEYS: [&str; 3] = [ENABLE_ALL, ENABLED, DISABLED];
/// What stands for that.
pub(super) const APPROVALS: &str = "MCP server approvals";
/// What stands for the folder.
pub(super) const HOOK_FILES: &str = ".claude/hooks";
/// Folders of files with a header.
pub(super) const HEADERS: [&str; 3] = [".claude/commands", ".claude/agents", ".claude/skills"];

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The real path of the project.
    pub project: &'a Path,
    /// The configuration file given by `--config`, if one was.
    pub config_file: Option<&'a Path>,
    /// The CLI's `.claude.json`.
    pub global: &'a Json,
}

/// One file as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(super) enum Found {
    /// There is none.
    Missing,
    /// It was read: digests of its parts by their names.
    Read { parts: BTreeMap<String, String> },
    /// It is not what it should be; a digest of its bytes.
    Garbled { digest: String },
    /// It cannot be read; why.
    Unusable { why: String },
}

impl Found {
    /// The parts that have an effect.
    pub(super) fn parts(&self) -> BTreeMap<&str, &str> {
        match self {
            Found::Read { parts } => {
                parts.iter().map(|(name, digest)| (name.as_str(), digest.as_str())).collect()
            }
            Found::Missing | Found::Garbled { .. } | Found::Unusable { .. } => BTreeMap::new(),
        }
    }

    pub(super) fn is_readable(&self) -> bool {
        matches!(self, Found::Missing | Found::Read { .. })
    }
}

/// All files, by the name they are shown with.
pub(super) type State = BTreeMap<String, Found>;

/// Where longhaul's configuration is, if it lies in the project.
pub(super) fn config_path(subject: Subject<'_>) -> Option<PathBuf> {
    let Some(given) = subject.config_file else {
        return Some(subject.project.join(crate::config::FILE_NAME));
    };
    let real = fs::canonicalize(given).unwrap_or_else(|_| given.to_owned());
    real.starts_with(subject.project).then_some(real)
}

pub(super) fn config_name(subject: Subject<'_>) -> Option<String> {
    config_path(subject).map(|path| name_of(subject.project, &path))
}

fn name_of(project: &Path, path: &Path) -> String {
    safe(&path.strip_prefix(project).unwrap_or(path).to_string_lossy()).into_owned()
}

pub(super) fn observe(subject: Subject<'_>) -> State {
    let project = subject.project;
    let mut state = State::new();
    let mut approvals = Approvals::default();
    for path in project_settings(project) {
        let (mut found, mut json) = read(&path, parse_json);
        approvals.add(json.as_ref());
        if let Some(Value::Object(map)) = &mut json {
            map.retain(|key, _| !LOOKS.contains(&&**key) && !APPROVAL_KEYS.contains(&&**key));
            found = Found::Read { parts: parts(&Value::Object(map.clone())) };
        }
        state.insert(name_of(project, &path), found);
    }
    for dir in trust_chain(project) {
        approvals.add(subject.global.at(&["projects", &dir.to_string_lossy()]));
    }
    state.insert(APPROVALS.into(), Found::Read { parts: approvals.parts() });
    for path in project_servers(project) {
        state.insert(name_of(project, &path), read(&path, parse_json).0);
    }
    state.insert(HOOK_FILES.into(), folder(&project.join(HOOK_FILES), |_, bytes| Some(bytes)));
    for dir in claude_folders(project) {
        for name in HEADERS {
            let path = dir.join(name);
            state.insert(name_of(project, &path), folder(&path, header));
        }
    }
    if let Some(path) = config_path(subject) {
        state.insert(name_of(project, &path), read(&path, parse_toml).0);
    }
    state
}

/// Which shared servers start unasked.
#[derive(Default)]
struct Approvals {
    all: bool,
    enabled: BTreeSet<String>,
    disabled: BTreeSet<String>,
}

impl Approvals {
    fn add(&mut self, layer: Option<&Value>) {
        let Some(layer) = layer else { return };
        self.all |= layer.get(ENABLE_ALL).and_then(Value::as_bool) == Some(true);
        for (key, set) in [(ENABLED, &mut self.enabled), (DISABLED, &mut self.disabled)] {
            let names = layer.get(key).and_then(Value::as_array).into_iter().flatten();
            set.extend(names.filter_map(Value::as_str).map(str::to_owned));
        }
    }

    fn parts(&self) -> BTreeMap<String, String> {
        let all = self.all.then(|| ENABLE_ALL.to_owned());
        let enabled = self.enabled.iter().map(|name| format!("{name} approved"));
        let disabled = self.disabled.iter().map(|name| format!("{name} rejected"));
        all.into_iter().chain(enabled).chain(disabled).map(|name| (name, String::new())).collect()
    }
}

/// Reads a file; its content as well if it is what it should be.
fn read(path: &Path, parse: fn(&[u8]) -> Option<Value>) -> (Found, Option<Value>) {
    match read_regular(path, MAX_BYTES) {
        Ok(None) => (Found::Missing, None),
        Err(why) => (Found::Unusable { why }, None),
        Ok(Some(bytes)) => match parse(&bytes) {
            Some(value) => (Found::Read { parts: parts(&value) }, Some(value)),
            None => (Found::Garbled { digest: digest(&bytes) }, None),
        },
    }
}

fn parse_json(bytes: &[u8]) -> Option<Value> {
    match Json::parse(bytes) {
        Json::Object(map) => Some(Value::Object(map)),
        // No settings to the CLI, and no mistake.
        Json::Empty => Some(Value::Object(serde_json::Map::new())),
        Json::Missing | Json::Bad(_) => None,
    }
}

fn parse_toml(bytes: &[u8]) -> Option<Value> {
    let table: toml::Table = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    serde_json::to_value(table).ok()
}

/// Digests of the values, one or two levels deep, by their keys as a JSON
/// array: a key may hold any character. What is empty has no effect.
fn parts(value: &Value) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut put = |keys: &[&str], value: &Value| {
        out.insert(Value::from(keys).to_string(), digest(value.to_string().as_bytes()));
    };
    for (key, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Object(inner) => {
                inner.iter().for_each(|(name, value)| put(&[key, name], value));
            }
            other => put(&[key], other),
        }
    }
    out
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files below a folder: digests of what `relevant` makes of each. Links are
/// followed, as the CLI does.
fn folder(dir: &Path, relevant: fn(&Path, Vec<u8>) -> Option<Vec<u8>>) -> Found {
    let mut parts = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound && folder == dir => {
                return Found::Missing;
            }
            Err(err) => return Found::Unusable { why: format!("it cannot be read: {err}") },
        };
        for entry in entries.flatten() {
            seen += 1;
            if seen > MAX_FILES {
                return Found::Unusable { why: format!("it holds more than {MAX_FILES} files") };
            }
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let digest = match read_regular(&path, MAX_BYTES) {
                Ok(Some(bytes)) => relevant(&path, bytes).map(|bytes| digest(&bytes)),
                Ok(None) => None,
                Err(why) => Some(why),
            };
            let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
            parts.extend(digest.map(|digest| (name, digest)));
        }
    }
    Found::Read { parts }
}

/// What gives power in the header of a command, an agent or a skill.
fn header(path: &Path, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let markdown = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("md"));
    let power = headers::power(&String::from_utf8_lossy(&bytes));
    (markdown && !power.is_empty()).then(|| power.into_bytes())
}

/// The folders whose `.claude` the CLI takes commands, agents and skills from:
/// the project, and those above within its git repository.
fn claude_folders(project: &Path) -> Vec<&Path> {
    let root = git_root(project).unwrap_or(project);
    project.ancestors().take_while(|dir| dir.starts_with(root)).collect()
}

/// Copies what can be read, as it lies: below `project/` and `above/`.
pub(super) fn copy_originals(copies: &Path, subject: Subject<'_>) -> Result<()> {
    let project = subject.project;
    let mut files = project_settings(project);
    files.extend(project_servers(project));
    files.extend(config_path(subject));
    for name in HEADERS.into_iter().chain([HOOK_FILES]) {
        let dir = project.join(name);
        if let Found::Read { parts } = folder(&dir, |_, bytes| Some(bytes)) {
            files.extend(parts.keys().map(|name| dir.join(name)));
        }
    }
    for path in files {
        let Ok(Some(bytes)) = read_regular(&path, MAX_BYTES) else { continue };
        let copy = match path.strip_prefix(project) {
            Ok(inside) => copies.join("project").join(inside),
            Err(_) => copies.join("above").join(path.strip_prefix("/").unwrap_or(&path)),
        };
        let folder = copy.parent().unwrap_or(copies);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|err| {
            Error::io(ErrorKind::State, format!("cannot create {}", folder.display()), err)
        })?;
        write_atomic(&copy, &bytes, FILE_MODE)?;
    }
    Ok(())
}
