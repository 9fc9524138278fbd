//! What lies in the project, and in the person's own folder, of everything the CLI executes or obeys unasked:
//! digests of its parts, never its values.
//!
//! All of it is a session's to write, so it is bounded: one budget of files and
//! bytes for everything together. Where folders hold more, the largest is not
//! compared, and says so. Reading can take as long as the session likes (a
//! file system that never answers), so it is done in [`super::lookout`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::headers;
use super::memo::{Entry, Kept, Kind, Memo};
use crate::claude_json::{
    Json, OLD_GLOBAL, Places, git_root, main_work_tree, project_servers, project_settings,
    read_regular, trust_chain,
};
use crate::state_dir::{FILE_MODE, write_atomic};
use crate::text::safe;
use crate::{Error, ErrorKind, Result};

/// Settings are a page of text.
const MAX_BYTES: u64 = 1 << 20;
/// The CLI's own file grows with the history of all projects.
const GLOBAL_MAX_BYTES: u64 = 64 << 20;

/// How much is looked at in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Budget {
    /// Files that are read.
    files: usize,
    /// Their bytes.
    bytes: u64,
    /// Entries of folders, whether they are read or not.
    entries: usize,
}

const BUDGET: Budget = Budget { files: 2_000, bytes: 16 << 20, entries: 20_000 };

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

/// Keys of the person's own settings that execute something or give power. The
/// CLI and the person's other sessions write the rest as they go.
const POWERS: [&str; 24] = [
    "additionalMarketplaces",
    "agent",
    "allowedHttpHookUrls",
    "allowedMcpServers",
    "apiKeyHelper",
    "autoMode",
    "awsAuthRefresh",
    "awsCredentialExport",
    "deniedMcpServers",
    "disableAllHooks",
    "enabledPlugins",
    "env",
    "extraKnownMarketplaces",
    "fileSuggestion",
    "gcpAuthRefresh",
    "hooks",
    "httpHookAllowedEnvVars",
    "otelHeadersHelper",
    "permissions",
    "processWrapper",
    "proxyAuthHelper",
    "sandbox",
    "statusLine",
    "subagentStatusLine",
];
/// The CLI puts it into `env` by itself, where its own file says `autoUpdates`.
const OWN_VARIABLE: &str = "DISABLE_AUTOUPDATER";

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
pub(super) const HEADERS: [&str; 3] = ["commands", "agents", "skills"];

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The real path of the project.
    project: PathBuf,
    /// longhaul's configuration, if it lies in the project.
    config: Option<PathBuf>,
    /// Where the CLI keeps its own.
    places: Places,
}

impl Subject {
    /// `project` by its real path; `config_file` is what `--config` named.
    pub fn new(project: &Path, config_file: Option<&Path>, places: &Places) -> Subject {
        let config = match config_file {
            None => Some(project.join(crate::config::FILE_NAME)),
            Some(given) => {
                let real = fs::canonicalize(given).unwrap_or_else(|_| given.to_owned());
                real.starts_with(project).then_some(real)
            }
        };
        Subject { project: project.to_owned(), config, places: places.clone() }
    }

    /// longhaul's configuration lies in the project, where a session can write it.
    pub(super) fn holds_config(&self) -> bool {
        self.config.is_some()
    }

    /// The person's own settings.
    fn person_settings(&self) -> PathBuf {
        self.places.config_dir.join("settings.json")
    }

    fn name_of(&self, path: &Path) -> String {
        safe(&path.strip_prefix(&self.project).unwrap_or(path).to_string_lossy()).into_owned()
    }
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

/// All that one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub(super) files: State,
    /// The name of longhaul's configuration, if it lies in the project.
    pub(super) own: Option<String>,
}

/// What is being read just now, for whoever waits for it.
#[derive(Debug, Clone, Default)]
pub struct Spot(Arc<Mutex<String>>);

impl Spot {
    /// This is read now.
    pub fn set(&self, name: &str) {
        let mut spot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        name.clone_into(&mut spot);
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Looks, and remembers what it read.
#[derive(Debug)]
pub struct Looker {
    subject: Subject,
    memo: Memo,
    spot: Spot,
    budget: Budget,
    /// The CLI's own file as last read sound: another CLI may be writing it, and
    /// whether it is damaged is looked at elsewhere.
    global: (Found, Approvals),
}

/// How closely it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What did not change by its times is not read again.
    Changed,
    /// Everything is read.
    Thorough,
}

/// A folder whose files are looked at.
struct Folder {
    name: String,
    dir: PathBuf,
    /// What of a file counts.
    relevant: fn(Vec<u8>) -> Option<Vec<u8>>,
    /// Only files of Markdown count.
    markdown: bool,
}

/// What lies in one.
#[derive(Default)]
struct Listed {
    entries: usize,
    bytes: u64,
    files: Vec<(PathBuf, fs::Metadata)>,
    /// What cannot be looked at, and why.
    odd: Vec<(PathBuf, String)>,
}

impl Looker {
    /// One that has seen nothing yet.
    pub fn new(subject: Subject) -> Looker {
        let (memo, spot) = (Memo::default(), Spot::default());
        let global = (Found::Missing, Approvals::default());
        Looker { subject, memo, spot, budget: BUDGET, global }
    }

    /// Where it tells what it reads.
    pub fn spot(&self) -> Spot {
        self.spot.clone()
    }

    /// Looks at everything. Takes as long as the file systems take.
    pub fn look(&mut self, depth: Depth) -> Sight {
        self.memo.begin(depth == Depth::Thorough);
        let subject = self.subject.clone();
        let project = subject.project.as_path();
        let mut state = State::new();
        let mut approvals = Approvals::default();
        let mut left = self.budget;
        for path in project_settings(project) {
            let (found, own) = self.file(&path, &mut left, read_settings);
            approvals.merge(own);
            state.insert(subject.name_of(&path), found);
        }
        let path = subject.person_settings();
        // They are the project's where the home is the project.
        state.entry(subject.name_of(&path)).or_insert_with(|| {
            let (found, own) = self.file(&path, &mut left, read_person_settings);
            approvals.merge(own);
            found
        });
        let (found, own) = self.global();
        approvals.merge(own);
        state.insert(subject.name_of(&subject.places.global_file), found);
        // The CLI would take it in the place of its own file.
        let old = subject.places.config_dir.join(OLD_GLOBAL);
        if old != subject.places.global_file {
            let (found, _) = self.file(&old, &mut left, read_json);
            state.insert(subject.name_of(&old), found);
        }
        state.insert(APPROVALS.into(), Found::Read { parts: approvals.parts() });
        for path in project_servers(project) {
            let (found, _) = self.file(&path, &mut left, read_json);
            state.insert(subject.name_of(&path), found);
        }
        if let Some(path) = &subject.config {
            let (found, _) = self.file(path, &mut left, read_toml);
            state.insert(subject.name_of(path), found);
        }
        let folders = folders(&subject);
        state.extend(self.folders(folders, left));
        Sight { files: state, own: subject.config.as_deref().map(|path| subject.name_of(path)) }
    }

    /// One file of settings; what it takes is taken from `left`.
    fn file(
        &mut self,
        path: &Path,
        left: &mut Budget,
        read: fn(&Path) -> (Found, Approvals),
    ) -> (Found, Approvals) {
        self.spot.set(&self.subject.name_of(path));
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(err) if is_nothing(&err) => return (Found::Missing, Approvals::default()),
            Err(err) => return (unreadable(&err), Approvals::default()),
        };
        left.files = left.files.saturating_sub(1);
        left.bytes = left.bytes.saturating_sub(meta.len().min(MAX_BYTES));
        let look = || {
            let (found, approvals) = read(path);
            Kept::Settings(found, approvals)
        };
        match self.memo.recall(path, &meta, look) {
            Kept::Settings(found, approvals) => (found, approvals),
            Kept::Part(_) | Kept::Entries(..) => read(path),
        }
    }

    /// Servers, allowed tools and old approvals in the CLI's own file.
    fn global(&mut self) -> (Found, Approvals) {
        let (path, project) = (self.subject.places.global_file.clone(), &self.subject.project);
        self.spot.set(&path.to_string_lossy());
        let Ok(meta) = fs::metadata(&path) else { return self.global.clone() };
        let before = self.global.clone();
        let read = || {
            let (found, approvals) = match read_regular(&path, GLOBAL_MAX_BYTES) {
                Ok(Some(bytes)) => read_global(&Json::parse(&bytes), project).unwrap_or(before),
                Ok(None) | Err(_) => before,
            };
            Kept::Settings(found, approvals)
        };
        if let Kept::Settings(found, approvals) = self.memo.recall(&path, &meta, read) {
            self.global = (found, approvals);
        }
        self.global.clone()
    }

    /// The folders within what is left of the budget. While they hold more, the
    /// largest is not looked at.
    fn folders(&mut self, folders: Vec<Folder>, left: Budget) -> State {
        let mut state = State::new();
        let mut all: Vec<(Folder, Listed)> = Vec::new();
        for folder in folders {
            match self.list(&folder) {
                Ok(Some(listed)) => all.push((folder, listed)),
                Ok(None) => drop(state.insert(folder.name, Found::Missing)),
                Err(why) => drop(state.insert(folder.name, Found::Unusable { why })),
            }
            while let Some(largest) = largest_beyond(&all, left) {
                let (folder, _) = all.swap_remove(largest);
                state.insert(folder.name, Found::Unusable { why: too_much(self.budget) });
            }
        }
        for (folder, listed) in all {
            self.spot.set(&folder.name);
            let name = |path: &Path| unique_name(path.strip_prefix(&folder.dir).unwrap_or(path));
            let odd = listed.odd.into_iter().map(|(path, why)| (name(&path), why));
            let mut parts: BTreeMap<String, String> = odd.collect();
            for (path, meta) in listed.files {
                if let Some(digest) = self.part(&path, &meta, folder.relevant) {
                    parts.insert(name(&path), digest);
                }
            }
            state.insert(folder.name, Found::Read { parts });
        }
        state
    }

    /// What of a file counts.
    fn part(
        &mut self,
        path: &Path,
        meta: &fs::Metadata,
        relevant: fn(Vec<u8>) -> Option<Vec<u8>>,
    ) -> Option<String> {
        let most = self.budget.bytes;
        let read = || match read_regular(path, most) {
            Ok(Some(bytes)) => relevant(bytes).map(|bytes| digest(&bytes)),
            Ok(None) => None,
            Err(why) => Some(why),
        };
        match self.memo.recall(path, meta, || Kept::Part(read())) {
            Kept::Part(part) => part,
            Kept::Settings(..) | Kept::Entries(..) => read(),
        }
    }

    /// The files below a folder that count; `None` if there is no such folder.
    /// Links are followed, as the CLI does.
    fn list(&mut self, folder: &Folder) -> Result<Option<Listed>, String> {
        self.spot.set(&folder.name);
        let mut listed = Listed::default();
        let mut dirs = vec![folder.dir.clone()];
        while let Some(dir) = dirs.pop() {
            let entries = match self.entries(&dir, folder.markdown) {
                Ok((entries, seen)) => {
                    listed.entries += seen;
                    entries
                }
                Err(err) if is_nothing(&err) && dir == folder.dir => return Ok(None),
                Err(err) if is_nothing(&err) => continue,
                Err(err) => return Err(format!("it cannot be read: {err}")),
            };
            for Entry { name, kind } in entries.iter() {
                let path = dir.join(name);
                if *kind == Kind::Folder {
                    dirs.push(path);
                    continue;
                }
                let counts = !folder.markdown || is_markdown(&path);
                match fs::metadata(&path) {
                    Ok(meta) if meta.is_dir() => dirs.push(path),
                    Ok(meta) if counts => {
                        listed.bytes = listed.bytes.saturating_add(meta.len());
                        listed.files.push((path, meta));
                    }
                    // A link into nothing, or gone meanwhile.
                    Err(err) if is_nothing(&err) => {}
                    Err(err) if counts => {
                        listed.odd.push((path, format!("it cannot be read: {err}")));
                    }
                    Ok(_) | Err(_) => {}
                }
                if is_beyond(listed.files.len(), listed.bytes, 0, self.budget) {
                    return Err(too_much(self.budget));
                }
            }
            if is_beyond(0, 0, listed.entries + dirs.len(), self.budget) {
                return Err(too_much(self.budget));
            }
        }
        Ok(Some(listed))
    }

    /// The entries of a folder that may matter, and how many it has in all.
    fn entries(&mut self, dir: &Path, markdown: bool) -> io::Result<(Arc<[Entry]>, usize)> {
        let meta = fs::metadata(dir)?;
        let most = self.budget.entries;
        let mut failed = None;
        let read = || match read_entries(dir, markdown, most) {
            Ok((entries, seen)) => Kept::Entries(entries.into(), seen),
            Err(err) => {
                failed = Some(err);
                Kept::Part(None)
            }
        };
        let kept = self.memo.recall(dir, &meta, read);
        match (kept, failed) {
            (Kept::Entries(entries, seen), _) => Ok((entries, seen)),
            (_, Some(err)) => Err(err),
            (Kept::Settings(..) | Kept::Part(_), None) => {
                read_entries(dir, markdown, most).map(|(entries, seen)| (entries.into(), seen))
            }
        }
    }
}

/// What the CLI takes from whole folders.
fn folders(subject: &Subject) -> Vec<Folder> {
    let folder = |dir: PathBuf, relevant, markdown| Folder {
        name: subject.name_of(&dir),
        dir,
        relevant,
        markdown,
    };
    let mut folders = vec![folder(subject.project.join(HOOK_FILES), Some, false)];
    let mut above: Vec<PathBuf> =
        claude_folders(subject).into_iter().map(|dir| dir.join(".claude")).collect();
    if !above.contains(&subject.places.config_dir) {
        above.push(subject.places.config_dir.clone());
    }
    for dir in above {
        folders.extend(HEADERS.map(|name| folder(dir.join(name), header, true)));
    }
    folders
}

fn read_entries(dir: &Path, markdown: bool, most: usize) -> io::Result<(Vec<Entry>, usize)> {
    let mut entries = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        seen += 1;
        if seen > most {
            break;
        }
        let kind = match entry.file_type()? {
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_file() => Kind::File,
            _ => Kind::Unclear,
        };
        let name = entry.file_name();
        if kind != Kind::File || !markdown || is_markdown(Path::new(&name)) {
            entries.push(Entry { name, kind });
        }
    }
    Ok((entries, seen))
}

/// The largest of those that are together beyond the budget.
fn largest_beyond(all: &[(Folder, Listed)], left: Budget) -> Option<usize> {
    let sum = |of: fn(&Listed) -> u64| all.iter().map(|(_, listed)| of(listed)).sum::<u64>();
    let most = |of: fn(&Listed) -> u64| {
        all.iter().enumerate().max_by_key(|(_, (_, listed))| of(listed)).map(|(place, _)| place)
    };
    let files = |listed: &Listed| listed.files.len() as u64;
    let entries = |listed: &Listed| listed.entries as u64;
    if sum(files) > left.files as u64 {
        most(files)
    } else if sum(|listed| listed.bytes) > left.bytes {
        most(|listed| listed.bytes)
    } else if sum(entries) > left.entries as u64 {
        most(entries)
    } else {
        None
    }
}

fn is_beyond(files: usize, bytes: u64, entries: usize, budget: Budget) -> bool {
    files > budget.files || bytes > budget.bytes || entries > budget.entries
}

/// The same words whatever there is too much of: more of it is no new change.
fn too_much(budget: Budget) -> String {
    format!(
        "it holds too much to be compared: at most {} files and {} MiB are, in all folders \
         together",
        budget.files,
        budget.bytes >> 20
    )
}

fn is_nothing(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn unreadable(err: &io::Error) -> Found {
    Found::Unusable { why: format!("it cannot be read: {err}") }
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("md"))
}

/// No two files share one.
fn unique_name(path: &Path) -> String {
    match path.to_str() {
        Some(name) => name.to_owned(),
        None => path.as_os_str().as_bytes().escape_ascii().to_string(),
    }
}

/// Which shared servers start unasked.
#[derive(Debug, Clone, Default)]
pub(super) struct Approvals {
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

    fn merge(&mut self, other: Approvals) {
        self.all |= other.all;
        self.enabled.extend(other.enabled);
        self.disabled.extend(other.disabled);
    }

    fn parts(&self) -> BTreeMap<String, String> {
        let all = self.all.then(|| ENABLE_ALL.to_owned());
        let enabled = self.enabled.iter().map(|name| format!("{name} approved"));
        let disabled = self.disabled.iter().map(|name| format!("{name} rejected"));
        all.into_iter().chain(enabled).chain(disabled).map(|name| (name, String::new())).collect()
    }
}

fn read_settings(path: &Path) -> (Found, Approvals) {
    let (mut found, mut json) = read(path, parse_json);
    let mut approvals = Approvals::default();
    approvals.add(json.as_ref());
    if let Some(Value::Object(map)) = &mut json {
        map.retain(|key, _| !LOOKS.contains(&&**key) && !APPROVAL_KEYS.contains(&&**key));
        found = Found::Read { parts: parts(&Value::Object(std::mem::take(map))) };
    }
    (found, approvals)
}

fn read_person_settings(path: &Path) -> (Found, Approvals) {
    let (mut found, mut json) = read(path, parse_json);
    let mut approvals = Approvals::default();
    approvals.add(json.as_ref());
    if let Some(Value::Object(map)) = &mut json {
        map.retain(|key, _| POWERS.contains(&&**key));
        if let Some(Value::Object(env)) = map.get_mut("env") {
            env.remove(OWN_VARIABLE);
        }
        found = Found::Read { parts: parts(&Value::Object(std::mem::take(map))) };
    }
    (found, approvals)
}

/// What counts of the CLI's own file; `None` if it is not sound.
fn read_global(json: &Json, project: &Path) -> Option<(Found, Approvals)> {
    let Json::Object(_) = json else { return None };
    let mut approvals = Approvals::default();
    let mut counts = serde_json::Map::new();
    if let Some(servers) = json.at(&["mcpServers"]) {
        counts.insert("mcpServers".into(), servers.clone());
    }
    for dir in trust_chain(project) {
        let dir = dir.to_string_lossy();
        let at = |key| json.at(&["projects", &dir, key]);
        approvals.add(json.at(&["projects", &dir]));
        for key in ["mcpServers", "allowedTools"] {
            // What is empty has no effect, and the CLI writes it for each project.
            let is_empty = |value: &&Value| {
                value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(serde_json::Map::is_empty)
            };
            if let Some(value) = at(key).filter(|value| !is_empty(value)) {
                counts.insert(format!("{key} for {dir}"), value.clone());
            }
        }
    }
    Some((Found::Read { parts: parts(&Value::Object(counts)) }, approvals))
}

fn read_json(path: &Path) -> (Found, Approvals) {
    (read(path, parse_json).0, Approvals::default())
}

fn read_toml(path: &Path) -> (Found, Approvals) {
    (read(path, parse_toml).0, Approvals::default())
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

/// What gives power in the header of a command, an agent or a skill.
fn header(bytes: Vec<u8>) -> Option<Vec<u8>> {
    let power = headers::power(&String::from_utf8_lossy(&bytes));
    (!power.is_empty()).then(|| power.into_bytes())
}

/// The folders whose `.claude` the CLI may take commands, agents and skills from:
/// the project, and those above. It stops at the root of the git repository, but
/// a session can take that root away.
fn claude_folders(subject: &Subject) -> Vec<PathBuf> {
    let above = subject.project.ancestors().filter(|dir| dir.parent().is_some());
    let mut folders: Vec<PathBuf> = above.map(Path::to_path_buf).collect();
    let main = git_root(&subject.project).and_then(main_work_tree);
    folders.extend(main.filter(|main| !folders.contains(main)));
    folders
}

/// Copies what can be read, as it lies: below `project/` and `above/`.
pub(super) fn copy_originals(copies: &Path, looker: &mut Looker) -> Result<()> {
    let subject = looker.subject.clone();
    let project = subject.project.as_path();
    let mut files = project_settings(project);
    files.extend(project_servers(project));
    files.extend(subject.config.clone());
    files.push(subject.person_settings());
    let own = subject.places.config_dir.as_path();
    let mut left = looker.budget;
    for folder in folders(&subject)
        .into_iter()
        .filter(|folder| folder.dir.starts_with(project) || folder.dir.starts_with(own))
    {
        let Ok(Some(listed)) = looker.list(&folder) else { continue };
        if is_beyond(listed.files.len(), listed.bytes, 0, left) {
            continue;
        }
        left.files -= listed.files.len();
        left.bytes -= listed.bytes;
        files.extend(listed.files.into_iter().map(|(path, _)| path));
    }
    for path in files {
        looker.spot.set(&subject.name_of(&path));
        let Ok(Some(bytes)) = read_regular(&path, looker.budget.bytes) else { continue };
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct World {
        _dir: tempfile::TempDir,
        project: PathBuf,
        looker: Looker,
    }

    impl World {
        fn new(budget: Budget) -> World {
            let dir = tempfile::tempdir().unwrap();
            let project = fs::canonicalize(dir.path()).unwrap();
            let home = project.join("home");
            let places = Places { global_file: home.join(".claude.json"), config_dir: home };
            let looker = Looker { budget, ..Looker::new(Subject::new(&project, None, &places)) };
            World { _dir: dir, project, looker }
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.project.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// Many files that give power.
        fn fill(&self, folder: &str, files: usize, bytes: usize) {
            for n in 0..files {
                let text = format!("---\nhooks: {}\n---\n", "x".repeat(bytes));
                self.write(&format!("{folder}/{n}.md"), &text);
            }
        }

        /// Times of long ago, so that what was read counts as settled. The clock of
        /// a change cannot be set: the look is made to happen later.
        fn look_later(&mut self, depth: Depth) -> (State, usize) {
            self.looker.memo.later_ms = 60_000;
            let files = self.looker.look(depth).files;
            (files, self.looker.memo.read())
        }

        #[track_caller]
        fn too_large(&mut self) -> Vec<String> {
            let files = self.looker.look(Depth::Thorough).files;
            let is_too_large = |found: &Found| matches!(found, Found::Unusable { why } if why.contains("too much"));
            let too_large = files.into_iter().filter(|(_, found)| is_too_large(found));
            too_large.map(|(name, _)| name).collect()
        }
    }

    const SMALL: Budget = Budget { files: 10, bytes: 1_000, entries: 30 };

    #[test]
    fn of_folders_that_hold_too_much_together_the_largest_is_named() {
        let mut world = World::new(SMALL);
        world.fill(".claude/commands", 6, 1);
        world.fill(".claude/skills/a", 3, 1);
        assert_eq!(world.too_large(), Vec::<String>::new());
        world.fill(".claude/agents", 2, 1);
        assert_eq!(world.too_large(), [".claude/commands"]);
        // Whichever is read first.
        world.fill(".claude/skills/b", 5, 1);
        assert_eq!(world.too_large(), [".claude/skills"]);
        world.fill(".claude/hooks", 12, 1);
        assert_eq!(world.too_large(), [".claude/hooks", ".claude/skills"]);
    }

    #[test]
    fn bytes_and_entries_count_as_well_and_what_is_not_read_is_not_either() {
        let mut world = World::new(SMALL);
        world.fill(".claude/commands", 1, 600);
        world.write(".claude/skills/a/data.bin", &"x".repeat(5_000));
        assert_eq!(world.too_large(), Vec::<String>::new());
        world.fill(".claude/agents", 1, 500);
        assert_eq!(world.too_large(), [".claude/commands"]);
        for n in 0..40 {
            world.write(&format!(".claude/skills/a/{n}.txt"), "");
        }
        assert_eq!(world.too_large(), [".claude/commands", ".claude/skills"]);
    }

    #[test]
    fn deep_trees_and_links_in_circles_come_to_an_end() {
        let mut world = World::new(SMALL);
        let deep: PathBuf = std::iter::repeat_n("d", 50).collect();
        fs::create_dir_all(world.project.join(".claude/agents").join(deep)).unwrap();
        assert_eq!(world.too_large(), [".claude/agents"]);
        fs::create_dir_all(world.project.join(".claude/commands")).unwrap();
        for name in ["one", "two", "three"] {
            symlink(".", world.project.join(".claude/commands").join(name)).unwrap();
        }
        assert_eq!(world.too_large(), [".claude/agents", ".claude/commands"]);
    }

    #[test]
    fn what_did_not_change_is_not_read_again() {
        let mut world = World::new(BUDGET);
        world.fill(".claude/commands", 5, 1);
        world.write(".claude/settings.json", r#"{"model":"opus"}"#);
        let (first, read) = world.look_later(Depth::Changed);
        // Five files, their folder and the settings.
        assert_eq!(read, 7);
        assert_eq!(world.look_later(Depth::Changed), (first.clone(), 0));
        assert_eq!(world.look_later(Depth::Thorough), (first.clone(), 7));
        world.write(".claude/commands/3.md", "---\nhooks: y\n---\n");
        let (second, read) = world.look_later(Depth::Changed);
        assert_eq!(read, 1);
        assert_ne!(second, first);
        world.write(".claude/commands/new.md", "---\nhooks: y\n---\n");
        let (third, read) = world.look_later(Depth::Changed);
        assert_eq!(read, 2, "the folder and the file");
        assert_ne!(third, second);
        // What is in the same place by another name's times is another file.
        let path = world.project.join(".claude/commands/1.md");
        fs::remove_file(&path).unwrap();
        symlink("2.md", &path).unwrap();
        assert_eq!(world.look_later(Depth::Changed).1, 2);
    }

    #[test]
    fn what_was_just_written_is_read_again_for_its_times_may_not_tell() {
        let mut world = World::new(BUDGET);
        world.fill(".claude/commands", 2, 1);
        for _ in 0..2 {
            world.looker.look(Depth::Changed);
            assert_eq!(world.looker.memo.read(), 3);
        }
    }

    #[test]
    fn two_names_that_are_no_text_do_not_hide_each_other() {
        use std::os::unix::ffi::OsStrExt;
        let mut world = World::new(BUDGET);
        fs::create_dir_all(world.project.join(HOOK_FILES)).unwrap();
        for name in [b"a\xff", b"a\xfe"] {
            let name = std::ffi::OsStr::from_bytes(name);
            fs::write(world.project.join(HOOK_FILES).join(name), "x").unwrap();
        }
        let files = world.looker.look(Depth::Thorough).files;
        assert_eq!(files[HOOK_FILES].parts().len(), 2);
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let mut world = World::new(BUDGET);
        let hooks = world.project.join(HOOK_FILES);
        fs::create_dir_all(&hooks).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, hooks.join("fifo"), rustix::fs::Mode::RWXU).unwrap();
        symlink("round", hooks.join("round")).unwrap();
        symlink("/dev/zero", hooks.join("zero")).unwrap();
        symlink("absent", hooks.join("nothing")).unwrap();
        let files = world.looker.look(Depth::Thorough).files;
        let parts = files[HOOK_FILES].parts();
        assert_eq!(parts["fifo"], "it is not a regular file");
        assert_eq!(parts["zero"], "it is not a regular file");
        assert!(parts["round"].contains("it cannot be read"), "{parts:?}");
        assert_eq!(parts.len(), 3);
    }

    /// `cargo test --lib --release cost_of_a_look -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    #[expect(clippy::print_stderr, reason = "the figures")]
    fn cost_of_a_look() {
        use rustix::time::{ClockId, clock_gettime};
        let now_us = || {
            let now = clock_gettime(ClockId::Monotonic);
            now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
        };
        for files in [0, 30, 1_990] {
            let mut world = World::new(BUDGET);
            world.write(".claude/settings.json", r#"{"permissions":{"allow":["Bash(ls)"]}}"#);
            world.write(".claude/settings.local.json", r#"{"permissions":{"allow":["Read"]}}"#);
            world.write(".mcp.json", r#"{"mcpServers":{}}"#);
            world.write("home/.claude.json", &format!(r#"{{"x":"{}"}}"#, "y".repeat(200_000)));
            world.fill(".claude/commands", files, 4_000);
            for depth in [Depth::Thorough, Depth::Changed] {
                world.look_later(depth);
                let mut times: Vec<i64> = (0..50)
                    .map(|_| {
                        let begun = now_us();
                        world.look_later(depth);
                        now_us() - begun
                    })
                    .collect();
                times.sort_unstable();
                eprintln!(
                    "{files} files, {depth:?}: median {} us, largest {} us",
                    times[25], times[49]
                );
            }
        }
    }
}
