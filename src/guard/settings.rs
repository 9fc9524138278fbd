//! What the person started with, of everything the CLI executes or obeys
//! without asking; and what is different before a later launch.
//!
//! Compared are, by their effect and not by their bytes:
//!
//! - `.claude/settings.json` and `.claude/settings.local.json` of the project
//!   (the local one of its git repository too), key by key; the keys that only
//!   change looks are left out;
//! - the approvals of shared MCP servers as they work together. The CLI moves
//!   old ones from `.claude.json` to the local settings by itself, which
//!   changes nothing;
//! - `.mcp.json` of the project and the folders above;
//! - the files of `.claude/hooks/`;
//! - the headers of `.claude/commands`, `.claude/agents` and `.claude/skills`,
//!   as far as they give power: `allowed-tools`, `hooks`, `mcpServers`; in the
//!   project and in the person's own folder;
//! - of the person's own `settings.json` the keys that execute something or give
//!   power, and of `.claude.json` the servers, and the tools allowed in this
//!   project: the CLI writes the rest of both all the time;
//! - longhaul's own configuration, where it lies in the project.
//!
//! Not compared: `CLAUDE.md` and the texts of commands, agents and skills, which
//! are the session's working material, installed plugins, and scripts elsewhere
//! that a hook happens to call.
//!
//! Only digests are kept to compare with, and values are never shown: they may
//! be secrets. The person's files themselves are copied beside, to be had back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::look::{APPROVALS, Found, HEADERS, HOOK_FILES, State, copy_originals};
pub use super::look::{Depth, Looker, Sight, Subject};
use crate::claude_json::read_regular;
use crate::state_dir::{FILE_MODE, write_atomic};
use crate::text::safe;
use crate::{Error, ErrorKind, Result, damaged};

/// The file in the run's folder.
const FILE: &str = "started-with.json";
/// The folder with the copies.
const COPIES: &str = "started-with";
/// Its format.
const FORMAT: u32 = 1;
/// Most of what is kept of [`FILE`].
const STATE_MAX_BYTES: u64 = 16 << 20;
/// Most keys named for one file.
const MAX_NAMED: usize = 5;
/// Most of each.
const MAX_NAME_CHARS: usize = 80;

/// Whether changes are allowed, and by whose word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// `claude.allow_settings_changes` is not set.
    No,
    /// The project's own configuration says so. That counts only if it said so
    /// when the run began: a session can write that file.
    ByProject,
    /// The person says so: `--set`, or a file outside the project.
    ByPerson,
}

impl Allowed {
    /// Whose word the configuration's `value` is. `set` holds what was given
    /// with `--set`.
    pub fn of(value: bool, set: &[String], subject: &Subject) -> Allowed {
        let by_flag = |flag: &String| {
            flag.split_once('=')
                .is_some_and(|(key, _)| key.trim() == "claude.allow_settings_changes")
        };
        if !value {
            Allowed::No
        } else if set.iter().any(by_flag) || !subject.holds_config() {
            Allowed::ByPerson
        } else {
            Allowed::ByProject
        }
    }
}

/// What is written into the run's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Baseline {
    format: u32,
    /// Whether the project's configuration allowed changes when this was taken.
    allowed: bool,
    files: State,
}

/// What changed in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The file, relative to the project if it lies there.
    pub file: String,
    /// What, in words and without values.
    pub what: String,
}

/// What is different, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    list: Vec<Change>,
    copies: PathBuf,
}

impl Changes {
    /// File by file.
    pub fn list(&self) -> &[Change] {
        &self.list
    }

    /// All in one sentence without a full stop.
    pub fn sentence(&self) -> String {
        let list: Vec<String> =
            self.list.iter().map(|change| format!("{} ({})", change.file, change.what)).collect();
        format!(
            "settings that the CLI obeys unasked were changed during the run: {}",
            list.join("; ")
        )
    }

    /// What the person can do, a line each.
    pub fn hints(&self) -> Vec<String> {
        vec![
            format!("what you started with lies in {}", self.copies.display()),
            "put it back, or accept the change with `--set claude.allow_settings_changes=true`; \
             then `longhaul run` goes on"
                .into(),
        ]
    }

    /// The error of a run that is refused because of them.
    pub fn into_error(self) -> Error {
        let err = Error::new(ErrorKind::NeedsPerson, self.sentence());
        self.hints().into_iter().fold(err, Error::hint)
    }
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is different, or nothing that was not told before.
    Same,
    /// Something is, and the run goes on. What is there now is compared with
    /// from here on.
    Allowed(Changes),
    /// longhaul's own configuration is: this run goes by the one it was started
    /// with, but one that is taken up again would not. Told once.
    Later(Changes),
    /// A person must look at it.
    Refused(Changes),
}

/// When it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A run that was cut off is taken up, with the configuration of now.
    /// To be done before anything that this configuration names is started.
    TakenUp,
    /// A session is about to be launched.
    Launch,
    /// A session lives, and obeys changes at once. A file may be found half
    /// written then: only what differs at two looks running is told.
    Session,
}

/// Watches over the settings of one run.
#[derive(Debug)]
pub struct Watch {
    run_dir: PathBuf,
    baseline: Baseline,
    /// The configuration of which it was told already that it is another.
    told: Option<State>,
    /// The last look at a live session found something.
    suspected: bool,
}

impl Watch {
    /// Takes what the person starts with and writes it into the run's folder,
    /// with copies of the files. To be called before the run's journal is made,
    /// so that a run that can be taken up always has it.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn begin(run_dir: &Path, looker: &mut Looker, allowed: Allowed) -> Result<Watch> {
        let files = looker.look(Depth::Thorough).files;
        let baseline = Baseline { format: FORMAT, allowed: allowed != Allowed::No, files };
        copy_originals(&run_dir.join(COPIES), looker)?;
        let watch = Watch { run_dir: run_dir.to_owned(), baseline, told: None, suspected: false };
        watch.save()?;
        Ok(watch)
    }

    /// Reads what a run began with; `None` if it has no such file.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::State`] when it cannot be read.
    pub fn resume(run_dir: &Path) -> Result<Option<Watch>> {
        let path = run_dir.join(FILE);
        let damaged = |why: String| {
            let project = run_dir.parent().and_then(Path::parent).unwrap_or(run_dir);
            let message = format!("{} cannot be used: {why}", path.display());
            damaged::refuse(&path, message, run_dir, &project.join(""))
        };
        let Some(bytes) = read_regular(&path, STATE_MAX_BYTES).map_err(damaged)? else {
            return Ok(None);
        };
        let baseline: Baseline =
            serde_json::from_slice(&bytes).map_err(|err| damaged(err.to_string()))?;
        if baseline.format != FORMAT {
            return Err(damaged(format!("its format is {}", baseline.format)));
        }
        Ok(Some(Watch { run_dir: run_dir.to_owned(), baseline, told: None, suspected: false }))
    }

    /// Compares what is there now with what the run began with.
    ///
    /// # Errors
    ///
    /// The new state, if it is allowed, cannot be written.
    pub fn check(&mut self, sight: Sight, allowed: Allowed, moment: Moment) -> Result<Verdict> {
        let Sight { files: now, own } = sight;
        let mut changes = compare(&self.baseline.files, &now);
        let mut later = Vec::new();
        if moment != Moment::TakenUp {
            (later, changes) =
                changes.into_iter().partition(|change| Some(&change.file) == own.as_ref());
        }
        let suspected = std::mem::replace(&mut self.suspected, !changes.is_empty());
        if moment == Moment::Session && !suspected {
            return Ok(Verdict::Same);
        }
        let of = |list| Changes { list, copies: self.run_dir.join(COPIES) };
        if changes.is_empty() {
            // It matters to a run that is taken up: told before the next launch.
            let is_told = self.told.as_ref() == Some(&now) || moment == Moment::Session;
            if later.is_empty() || is_told {
                return Ok(Verdict::Same);
            }
            self.told = Some(now);
            return Ok(Verdict::Later(of(later)));
        }
        let counts = match allowed {
            Allowed::No => false,
            Allowed::ByProject => self.baseline.allowed,
            Allowed::ByPerson => true,
        };
        if !counts {
            return Ok(Verdict::Refused(of(changes)));
        }
        let verdict = Verdict::Allowed(of(changes));
        let before = own.as_ref().and_then(|own| self.baseline.files.remove_entry(own));
        self.baseline.files = now;
        // One that nobody has taken up yet is not accepted by the way.
        if moment != Moment::TakenUp {
            self.baseline.files.extend(before);
        }
        self.save()?;
        Ok(verdict)
    }

    /// Was something different when it was last looked?
    pub fn suspects(&self) -> bool {
        self.suspected
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.baseline)
            .map_err(|err| Error::internal("cannot write the settings' state").caused_by(err))?;
        write_atomic(&self.run_dir.join(FILE), &text, FILE_MODE)
    }
}

fn compare(before: &State, now: &State) -> Vec<Change> {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let missing = Found::Missing;
    let of = |state: &'_ State, name: &String| state.get(name).cloned().unwrap_or(missing.clone());
    names
        .into_iter()
        .filter_map(|name| {
            let what = difference(name, &of(before, name), &of(now, name))?;
            Some(Change { file: name.clone(), what })
        })
        .collect()
}

/// What is different, in words.
fn difference(file: &str, before: &Found, now: &Found) -> Option<String> {
    if before == now {
        return None;
    }
    match now {
        Found::Garbled { .. } => {
            return Some(if before.is_readable() {
                "it is damaged now".into()
            } else {
                "it is damaged in another way".into()
            });
        }
        Found::Unusable { why } => return Some(safe(why).into_owned()),
        Found::Missing if !before.parts().is_empty() => return Some("it is gone".into()),
        Found::Missing | Found::Read { .. } => {}
    }
    let (old, new) = (before.parts(), now.parts());
    let differing = old.keys().chain(new.keys()).filter(|name| old.get(*name) != new.get(*name));
    let differing: BTreeSet<&str> = differing.copied().collect();
    if differing.is_empty() {
        // It was unreadable, and is without effect now.
        return (!before.is_readable()).then(|| "it was damaged and is not any more".into());
    }
    let words: BTreeSet<String> = differing.iter().map(|name| in_words(file, name)).collect();
    let mut words: Vec<String> = words.into_iter().collect();
    if words.len() > MAX_NAMED {
        let more = words.len() - MAX_NAMED;
        words.truncate(MAX_NAMED);
        words.push(format!("{more} more"));
    }
    let created = if *before == Found::Missing { "new file: " } else { "" };
    Some(format!("{created}{}", words.join(", ")))
}

/// A changed part as a person would call it.
fn in_words(file: &str, part: &str) -> String {
    let keys: Vec<String> = serde_json::from_str(part).unwrap_or_default();
    let (key, name) = match &keys[..] {
        [key, name] => (key.as_str(), name.as_str()),
        [key] => (key.as_str(), ""),
        _ => (part, ""),
    };
    let called = match key {
        _ if file == HOOK_FILES || file == APPROVALS => part.to_owned(),
        _ if HEADERS.iter().any(|folder| Path::new(file).ends_with(folder)) => {
            format!("the header of {part}")
        }
        "mcpServers" => format!("MCP server {name}"),
        "hooks" => format!("hooks of {name}"),
        "env" => format!("environment variable {name}"),
        "permissions" => format!("permissions: {name}"),
        "sandbox" => format!("sandbox: {name}"),
        "enabledPlugins" | "extraKnownMarketplaces" | "additionalMarketplaces" => {
            format!("plugins: {name}")
        }
        "apiKeyHelper"
        | "proxyAuthHelper"
        | "awsAuthRefresh"
        | "awsCredentialExport"
        | "gcpAuthRefresh"
        | "otelHeadersHelper"
        | "statusLine"
        | "subagentStatusLine"
        | "fileSuggestion" => format!("the program of {key}"),
        _ => keys.join("."),
    };
    let short: String = called.chars().take(MAX_NAME_CHARS).collect();
    safe(&short).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use serde_json::{Value, json};

    use super::*;
    use crate::claude_json::Places;

    const LOCAL: &str = ".claude/settings.local.json";
    const SHARED: &str = ".claude/settings.json";

    struct World {
        dir: tempfile::TempDir,
        project: PathBuf,
        run: PathBuf,
        places: Places,
        config_file: Option<PathBuf>,
    }

    impl World {
        fn new() -> World {
            let dir = tempfile::tempdir().unwrap();
            let base = fs::canonicalize(dir.path()).unwrap();
            let (project, run) = (base.join("project"), base.join("run"));
            fs::create_dir_all(project.join(".claude")).unwrap();
            fs::create_dir(&run).unwrap();
            let config_dir = base.join("home/.claude");
            fs::create_dir_all(&config_dir).unwrap();
            let places = Places { config_dir, global_file: base.join("home/.claude.json") };
            World { dir, project, run, places, config_file: None }
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.project.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn subject(&self) -> Subject {
            Subject::new(&self.project, self.config_file.as_deref(), &self.places)
        }

        fn looker(&self) -> Looker {
            Looker::new(self.subject())
        }

        fn look(&self) -> Sight {
            self.looker().look(Depth::Thorough)
        }

        fn begin(&self) -> Watch {
            Watch::begin(&self.run, &mut self.looker(), Allowed::No).unwrap()
        }

        fn check(&self, watch: &mut Watch) -> Verdict {
            watch.check(self.look(), Allowed::No, Moment::Launch).unwrap()
        }

        /// What is refused, in words, for a watch that was put down meanwhile.
        #[track_caller]
        fn refused(&self) -> String {
            let mut watch = Watch::resume(&self.run).unwrap().unwrap();
            match self.check(&mut watch) {
                Verdict::Refused(changes) => changes.sentence(),
                other => panic!("{other:?}"),
            }
        }

        #[track_caller]
        fn same(&self) {
            let mut watch = Watch::resume(&self.run).unwrap().unwrap();
            assert_eq!(self.check(&mut watch), Verdict::Same);
        }
    }

    #[test]
    fn every_kind_of_change_is_named_and_no_value_is() {
        let secret = "sk-very-secret";
        for (file, before, after, words) in [
            (SHARED, "", r#"{"hooks":{"Stop":[{"hooks":["sk-very-secret"]}]}}"#, "hooks of Stop"),
            (LOCAL, "{}", r#"{"apiKeyHelper":"sk-very-secret"}"#, "the program of apiKeyHelper"),
            (
                LOCAL,
                r#"{"env":{"A":"1","B":"1"}}"#,
                r#"{"env":{"A":"1","B":"sk-very-secret","C":""}}"#,
                "environment variable B, environment variable C",
            ),
            (
                SHARED,
                r#"{"permissions":{"allow":["Read"],"deny":["Bash"]}}"#,
                r#"{"permissions":{"allow":["Read","sk-very-secret"]}}"#,
                "permissions: allow, permissions: deny",
            ),
            (SHARED, r#"{"model":"opus"}"#, r#"{"model":"sk-very-secret"}"#, "model"),
            (SHARED, r#"{"enabledPlugins":{"a@b":true}}"#, "{}", "plugins: a@b"),
            (
                SHARED,
                r#"{"some":{"new":{"deep":1}}}"#,
                r#"{"some":{"new":{"deep":2}}}"#,
                "some.new",
            ),
            (
                ".mcp.json",
                r#"{"mcpServers":{"db":{"command":"a"}}}"#,
                r#"{"mcpServers":{"db":{"command":"sk-very-secret"}}}"#,
                "MCP server db",
            ),
            (SHARED, r#"{"model":"opus"}"#, "{sk-very-secret", "it is damaged now"),
            (".claude/hooks/lint.sh", "a", "sk-very-secret", "lint.sh"),
            (
                ".claude/commands/team/go.md",
                "---\ndescription: a\n---\nGo.",
                "---\nallowed-tools: Bash(sk-very-secret)\n---\nGo.",
                "the header of team/go.md",
            ),
            (
                ".claude/agents/a.md",
                "---\nhooks: a\n---\n",
                "---\nhooks: b\n---\n",
                "the header of a.md",
            ),
            (
                LOCAL,
                r#"{"enabledMcpjsonServers":["a"]}"#,
                r#"{"enabledMcpjsonServers":["a","b"],"disabledMcpjsonServers":["a"]}"#,
                "MCP server approvals (a rejected, b approved)",
            ),
            (LOCAL, "{}", r#"{"enableAllProjectMcpServers":true}"#, "enableAllProjectMcpServers"),
        ] {
            let world = World::new();
            world.write(file, before);
            world.begin();
            world.same();
            world.write(file, after);
            let told = world.refused();
            assert!(told.contains(words), "{told}");
            assert!(!told.contains(secret), "{told}");
            world.write(file, before);
            world.same();
        }
    }

    #[test]
    fn what_has_no_effect_is_no_change() {
        let world = World::new();
        world.write(SHARED, r#"{"model":"opus","env":{"A":"1","B":"2"},"theme":"dark"}"#);
        world.begin();
        world.write(
            SHARED,
            "{\n \"env\": {\"B\":\"2\", \"A\":\"1\"},\n \"model\": \"opus\", \"hooks\": {}}",
        );
        world.write(LOCAL, "");
        world.write(".mcp.json", r#"{"mcpServers":{}}"#);
        world.write("CLAUDE.md", "obey");
        world.write(".claude/commands/x.md", "---\ndescription: x\n---\nx");
        world.write(".claude/agents/x.md", "---\nname: x\ntools: Bash\n---\nx");
        world.write(".claude/skills/x/notes.txt", "---\nhooks: x\n---\n");
        fs::create_dir(world.project.join(HOOK_FILES)).unwrap();
        world.same();
    }

    #[test]
    fn a_key_cannot_hide_behind_another() {
        let world = World::new();
        world.write(SHARED, r#"{"hooks":{"Stop":1}}"#);
        world.begin();
        for hiding in [
            r#"{"hooks":{"Stop":2},"hooks.Stop":1}"#,
            r#"{"hooks":{"Stop":2},"[\"hooks\",\"Stop\"]":1}"#,
            r#"{"hooks.Stop":1,"hooks":{"Stop":2}}"#,
            r#"{"hooks":{"Stop":1},"hooks":{"Stop":2}}"#,
        ] {
            world.write(SHARED, hiding);
            assert!(world.refused().contains("hooks of Stop"), "{hiding}");
        }
    }

    #[test]
    fn what_gives_power_in_the_persons_own_files_counts_and_nothing_else() {
        let world = World::new();
        let project = world.project.to_str().unwrap().to_owned();
        let own = world.places.config_dir.clone();
        let settings = |value: Value| fs::write(own.join("settings.json"), value.to_string());
        let global = |value: Value| fs::write(&world.places.global_file, value.to_string());
        settings(json!({"model": "opus", "hooks": {"Stop": []}})).unwrap();
        global(json!({"numStartups": 1, "mcpServers": {"mine": {"command": "x"}}})).unwrap();
        world.begin();
        // What the CLI itself writes in a session.
        let empty = json!({"allowedTools": [], "mcpServers": {}, "history": ["x"]});
        let entries = json!({&project: empty, "/elsewhere": {"allowedTools": ["Bash"]}});
        let mine = json!({"mine": {"command": "x"}});
        global(json!({"numStartups": 2, "mcpServers": &mine, "projects": entries})).unwrap();
        settings(json!({"model": "sonnet", "hooks": {"Stop": []}, "feedbackSurveyState": {},
            "env": {"DISABLE_AUTOUPDATER": "1"}}))
        .unwrap();
        world.same();
        global(json!({"mcpServers": &mine, "projects": {&project: {"allowedTools": ["Bash"]}}}))
            .unwrap();
        assert!(world.refused().contains("allowedTools for "), "{}", world.refused());
        let servers = json!({"evil": {"command": "x"}});
        global(json!({"mcpServers": &mine, "projects": {&project: {"mcpServers": servers}}}))
            .unwrap();
        assert!(world.refused().contains("mcpServers for "), "{}", world.refused());
        global(json!({"mcpServers": {"mine": {"command": "y"}}})).unwrap();
        assert!(world.refused().contains(".claude.json (MCP server mine)"), "{}", world.refused());
        global(json!({"mcpServers": &mine})).unwrap();
        world.same();
        settings(json!({"hooks": {"Stop": ["x"]}, "env": {"X": "1"}, "apiKeyHelper": "x"}))
            .unwrap();
        let told = world.refused();
        assert!(
            told.contains("environment variable X, hooks of Stop, the program of apiKeyHelper")
        );
        settings(json!({"hooks": {"Stop": []}})).unwrap();
        for folder in ["commands", "agents", "skills/one"] {
            let path = own.join(folder).join("x.md");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "---\ndescription: x\n---\n").unwrap();
            world.same();
            fs::write(&path, "---\nhooks: x\n---\n").unwrap();
            assert!(world.refused().contains("the header of "), "{folder}");
            fs::remove_file(&path).unwrap();
        }
        world.same();
    }

    #[test]
    fn a_moment_in_which_the_clis_own_file_is_not_sound_is_no_change() {
        let world = World::new();
        let text = json!({"mcpServers": {"mine": {"command": "x"}}}).to_string();
        fs::write(&world.places.global_file, &text).unwrap();
        let mut watch = world.begin();
        let mut looker = world.looker();
        for text in [&*text, "", "{\"mcp", &*text] {
            fs::write(&world.places.global_file, text).unwrap();
            let sight = looker.look(Depth::Thorough);
            let verdict = watch.check(sight, Allowed::No, Moment::Launch).unwrap();
            assert_eq!(verdict, Verdict::Same, "{text:?}");
        }
    }

    #[test]
    fn what_takes_the_place_of_the_clis_own_file_is_a_change() {
        let world = World::new();
        world.begin();
        let old = world.places.config_dir.join(".config.json");
        fs::write(&old, r#"{"mcpServers":{"x":{"command":"x"}}}"#).unwrap();
        assert!(world.refused().contains(".config.json"), "{}", world.refused());
    }

    #[test]
    fn commands_above_count_also_where_there_is_no_repository() {
        let world = World::new();
        world.begin();
        let above = world.project.parent().unwrap().join(".claude/commands");
        fs::create_dir_all(&above).unwrap();
        fs::write(above.join("go.md"), "---\nallowed-tools: Bash\n---\n").unwrap();
        assert!(world.refused().contains("the header of go.md"), "{}", world.refused());
    }

    #[test]
    fn approvals_that_the_cli_moves_by_itself_are_no_change() {
        let world = World::new();
        let project = world.project.to_str().unwrap().to_owned();
        let entry = |entry: Value| {
            let text = json!({"projects": {&project: entry}}).to_string();
            fs::write(&world.places.global_file, text).unwrap();
        };
        entry(json!({"enabledMcpjsonServers": ["a"], "enableAllProjectMcpServers": true}));
        world.begin();
        entry(json!({}));
        world.write(LOCAL, r#"{"enabledMcpjsonServers":["a"],"enableAllProjectMcpServers":true}"#);
        world.same();
        world.write(LOCAL, r#"{"enabledMcpjsonServers":["a", "b"]}"#);
        assert!(world.refused().contains("b approved"));
    }

    #[test]
    fn settings_and_servers_above_the_project_count() {
        let world = World::new();
        let above = world.dir.path();
        fs::create_dir_all(above.join(".git")).unwrap();
        world.begin();
        fs::write(above.join(".mcp.json"), r#"{"mcpServers":{"up":{}}}"#).unwrap();
        assert!(world.refused().contains("MCP server up"));
        fs::remove_file(above.join(".mcp.json")).unwrap();
        fs::create_dir_all(above.join(".claude")).unwrap();
        fs::write(above.join(LOCAL), r#"{"hooks":{"Stop":1}}"#).unwrap();
        assert!(world.refused().contains("hooks of Stop"));
    }

    #[test]
    fn odd_files_are_states_of_their_own() {
        let world = World::new();
        world.write("elsewhere.json", r#"{"model":"opus"}"#);
        world.write(SHARED, r#"{"model":"opus"}"#);
        world.begin();
        let path = world.project.join(SHARED);
        let replace = |make: &dyn Fn()| {
            let _ = fs::remove_file(&path);
            let _ = fs::remove_dir(&path);
            make();
        };
        replace(&|| {});
        assert!(world.refused().contains("it is gone"));
        replace(&|| fs::create_dir(&path).unwrap());
        assert!(world.refused().contains("it is a directory"));
        replace(&|| {
            rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        });
        assert!(world.refused().contains("not a regular file"));
        replace(&|| fs::File::create(&path).unwrap().set_len(1 << 30).unwrap());
        assert!(world.refused().contains("larger than"));
        replace(&|| symlink("settings.json", &path).unwrap());
        assert!(world.refused().contains("cannot be read"));
        // What the CLI would read behind a link is what counts.
        replace(&|| symlink("../elsewhere.json", &path).unwrap());
        world.same();
        world.write("elsewhere.json", r#"{"model":"haiku"}"#);
        assert!(world.refused().contains("model"));
    }

    #[test]
    fn the_same_damage_is_no_change_and_another_one_is() {
        let world = World::new();
        world.write(".mcp.json", "{damaged");
        fs::create_dir(world.project.join(LOCAL)).unwrap();
        world.begin();
        world.same();
        world.write(".mcp.json", "{damaged differently");
        assert!(world.refused().contains("in another way"));
        world.write(".mcp.json", "{}");
        assert!(world.refused().contains("not any more"));
        fs::remove_file(world.project.join(".mcp.json")).unwrap();
        assert!(world.refused().contains("not any more"));
    }

    #[test]
    fn an_allowed_change_is_told_once_and_compared_with_from_then_on() {
        let world = World::new();
        let mut watch = world.begin();
        world.write(SHARED, r#"{"model":"opus"}"#);
        let check = |watch: &mut Watch, allowed| {
            watch.check(world.look(), allowed, Moment::Launch).unwrap()
        };
        assert!(matches!(check(&mut watch, Allowed::ByProject), Verdict::Refused(_)));
        let Verdict::Allowed(changes) = check(&mut watch, Allowed::ByPerson) else { panic!() };
        assert_eq!(changes.list()[0].file, SHARED);
        assert_eq!(changes.list()[0].what, "new file: model");
        assert_eq!(check(&mut watch, Allowed::No), Verdict::Same);
        world.same();

        // Allowed by the project when the run began.
        let world = World::new();
        let mut watch = Watch::begin(&world.run, &mut world.looker(), Allowed::ByProject).unwrap();
        world.write(SHARED, r#"{"model":"opus"}"#);
        let verdict = watch.check(world.look(), Allowed::ByProject, Moment::Launch).unwrap();
        assert!(matches!(verdict, Verdict::Allowed(_)));
    }

    #[test]
    fn the_own_configuration_matters_when_a_run_is_taken_up() {
        let world = World::new();
        let own = "longhaul.toml";
        world.write(own, "[limits]\nmax_hours = 8\n");
        let mut watch = world.begin();
        let evil = "[claude]\nallow_settings_changes = true\n[limits]\nmax_hours = 8 # as before\n";
        world.write(own, evil);
        world.write(SHARED, "{}");
        let Verdict::Later(changes) = world.check(&mut watch) else { panic!() };
        assert_eq!(changes.list()[0].what, "claude.allow_settings_changes");
        assert_eq!(world.check(&mut watch), Verdict::Same, "told once");
        let taken_up = |allowed| {
            let mut watch = Watch::resume(&world.run).unwrap().unwrap();
            watch.check(world.look(), allowed, Moment::TakenUp).unwrap()
        };
        assert!(matches!(taken_up(Allowed::ByProject), Verdict::Refused(_)));
        // An allowed change of other settings at night does not accept this one.
        world.write(SHARED, r#"{"model":"opus"}"#);
        let verdict = watch.check(world.look(), Allowed::ByPerson, Moment::Launch).unwrap();
        let Verdict::Allowed(changes) = verdict else { panic!() };
        assert_eq!(changes.list().len(), 1);
        let Verdict::Refused(changes) = taken_up(Allowed::No) else { panic!() };
        assert_eq!(changes.list()[0].file, own);
        assert!(matches!(taken_up(Allowed::ByPerson), Verdict::Allowed(_)));
        assert_eq!(taken_up(Allowed::No), Verdict::Same);
    }

    #[test]
    fn in_a_live_session_only_what_stays_different_is_told() {
        let world = World::new();
        world.write(SHARED, r#"{"hooks":{"Stop":1},"theme":"dark"}"#);
        let mut watch = world.begin();
        let mut look = |text: &str| {
            world.write(SHARED, text);
            watch.check(world.look(), Allowed::No, Moment::Session).unwrap()
        };
        // Somebody writes the file anew, bit by bit.
        assert_eq!(look(""), Verdict::Same);
        assert_eq!(look(r#"{"hooks":{"Stop":1}}"#), Verdict::Same);
        assert_eq!(look(r#"{"hooks":"#), Verdict::Same);
        assert!(matches!(look(r#"{"hooks":{"Stop":2}}"#), Verdict::Refused(_)));
    }

    #[test]
    fn whose_word_it_is() {
        let mut world = World::new();
        let set = ["claude.allow_settings_changes=true".to_owned()];
        assert_eq!(Allowed::of(false, &set, &world.subject()), Allowed::No);
        assert_eq!(Allowed::of(true, &set, &world.subject()), Allowed::ByPerson);
        assert_eq!(Allowed::of(true, &[], &world.subject()), Allowed::ByProject);
        for (inside, word) in [(true, Allowed::ByProject), (false, Allowed::ByPerson)] {
            let base = if inside { world.project.clone() } else { world.run.clone() };
            fs::write(base.join("own.toml"), "").unwrap();
            world.config_file = Some(base.join("own.toml"));
            assert_eq!(Allowed::of(true, &[], &world.subject()), word);
        }
    }

    #[test]
    fn the_persons_files_are_kept_for_the_owner_alone() {
        let world = World::new();
        world.write(SHARED, r#"{"env":{"KEY":"secret"}}"#);
        world.write(".claude/hooks/a/lint.sh", "lint");
        world.write(".claude/commands/session-init.md", "go");
        world.write("longhaul.toml", "[limits]\n");
        world.begin();
        let copies = world.run.join(COPIES).join("project");
        for (file, text) in [
            (SHARED, r#"{"env":{"KEY":"secret"}}"#),
            (".claude/commands/session-init.md", "go"),
            (".claude/hooks/a/lint.sh", "lint"),
            ("longhaul.toml", "[limits]\n"),
        ] {
            assert_eq!(fs::read_to_string(copies.join(file)).unwrap(), text);
            assert_eq!(fs::metadata(copies.join(file)).unwrap().mode() & 0o777, 0o600);
        }
        let state = world.run.join(FILE);
        assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&state).unwrap().contains("secret"));
        world.write(SHARED, "{}");
        let mut watch = Watch::resume(&world.run).unwrap().unwrap();
        let Verdict::Refused(changes) = world.check(&mut watch) else { panic!() };
        let err = changes.into_error();
        assert_eq!(err.kind(), ErrorKind::NeedsPerson);
        assert!(err.render().contains(world.run.join(COPIES).to_str().unwrap()));
    }

    #[test]
    fn a_damaged_state_is_an_error_and_none_is_told() {
        let world = World::new();
        assert!(Watch::resume(&world.run).unwrap().is_none());
        for damage in ["", "{}", r#"{"format":2,"allowed":false,"files":{}}"#] {
            fs::write(world.run.join(FILE), damage).unwrap();
            assert_eq!(Watch::resume(&world.run).unwrap_err().kind(), ErrorKind::State);
        }
    }

    #[test]
    fn a_flood_of_hook_files_or_keys_is_bounded() {
        let world = World::new();
        world.begin();
        let many: serde_json::Map<String, Value> =
            (0..100).map(|n| (format!("key{n:03}\u{1b}{}", "x".repeat(500)), json!(1))).collect();
        world.write(SHARED, &Value::Object(many).to_string());
        let told = world.refused();
        assert!(told.contains("95 more") && told.len() < 1000, "{told}");
        assert!(!told.contains('\u{1b}'));
        world.write(SHARED, "{}");
    }

    #[test]
    fn a_folder_that_holds_too_much_is_a_change_unless_it_did_so_from_the_start() {
        let fill = |world: &World, files: std::ops::Range<usize>| {
            for n in files {
                world.write(&format!(".claude/hooks/{n}"), "x");
            }
        };
        let world = World::new();
        fill(&world, 0..3);
        world.begin();
        fill(&world, 3..2_100);
        let told = world.refused();
        assert!(told.contains(".claude/hooks (it holds too much to be compared"), "{told}");
        assert!(told.contains("2000 files and 16 MiB"), "{told}");

        let world = World::new();
        fill(&world, 0..2_100);
        world.begin();
        fill(&world, 2_100..2_200);
        world.same();
        // The others are compared all the same.
        world.write(".claude/commands/new.md", "---\nallowed-tools: Bash\n---\n");
        assert!(world.refused().contains("the header of new.md"));
    }
}
