//! A home of its own for the CLI: everything a virgin CLI would ask about is
//! answered beforehand, and nothing it writes lands anywhere else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::transcript::slug;

/// A made-up key: the scripted API looks at none.
const API_KEY: &str = "sk-ant-scripted-0000000000000000000000000000";
/// The CLI remembers the last 20 characters of a key that was approved.
const APPROVED_KEY_CHARS: usize = 20;

/// Variables that would lead the CLI away from this home, this key or this
/// API. An empty value switches them off even where the parent has them set.
const SWITCHED_OFF: [&str; 5] = [
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_CUSTOM_HEADERS",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
];

/// A private home for the CLI.
#[derive(Debug, Clone)]
pub struct PrivateHome {
    dir: PathBuf,
    tmp: PathBuf,
}

impl PrivateHome {
    /// Makes `root/home` and `root/tmp`, onboarding done and the made-up key
    /// approved, no folder trusted. Keep `root` short: the CLI opens a socket
    /// under `tmp`, and a socket's path is bounded to 107 bytes.
    pub fn create(root: &Path) -> Result<Self> {
        let root = absolute(root)?;
        let home = Self { dir: root.join("home"), tmp: root.join("tmp") };
        for dir in [&home.config_dir(), &home.tmp] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(|err| failed("make the folder", dir, err))?;
        }
        let approved = &API_KEY[API_KEY.len() - APPROVED_KEY_CHARS..];
        home.write_state(&json!({
            "hasCompletedOnboarding": true,
            "theme": "dark",
            "customApiKeyResponses": { "approved": [approved], "rejected": [] },
            "projects": {},
        }))?;
        Ok(home)
    }

    /// Accepts the trust dialog for `project`.
    pub fn trust(&self, project: &Path) -> Result<()> {
        let project = absolute(project)?;
        let file = self.state_file();
        let text = fs::read_to_string(&file).map_err(|err| failed("read", &file, err))?;
        let mut state: Value = serde_json::from_str(&text).map_err(|err| {
            Error::new(ErrorKind::State, format!("{} is not JSON", file.display())).caused_by(err)
        })?;
        state["projects"][project.to_string_lossy().as_ref()]["hasTrustDialogAccepted"] =
            json!(true);
        self.write_state(&state)
    }

    /// The home directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The CLI's folder for temporary files.
    pub fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// The CLI's configuration folder.
    pub fn config_dir(&self) -> PathBuf {
        self.dir.join(".claude")
    }

    /// The transcript of a session that ran in `project`.
    pub fn transcript(&self, project: &Path, session_id: &str) -> PathBuf {
        let project = fs::canonicalize(project).unwrap_or_else(|_| project.to_owned());
        let folder = self.config_dir().join("projects").join(slug(&project));
        folder.join(format!("{session_id}.jsonl"))
    }

    /// The variables that lead the CLI here and to the API at `base_url`; the
    /// whole of `claude.env` for a run against the scripted API. `TMPDIR` is
    /// not among them: see [`PrivateHome::tmp`].
    pub fn env(&self, base_url: &str) -> BTreeMap<String, String> {
        let mut env: BTreeMap<String, String> =
            SWITCHED_OFF.iter().map(|name| ((*name).to_owned(), String::new())).collect();
        let inside = |name: &str| self.dir.join(name).to_string_lossy().into_owned();
        let pairs = [
            ("HOME", self.dir.to_string_lossy().into_owned()),
            ("CLAUDE_CONFIG_DIR", inside(".claude")),
            ("XDG_CACHE_HOME", inside(".cache")),
            ("XDG_CONFIG_HOME", inside(".config")),
            ("XDG_DATA_HOME", inside(".local/share")),
            ("XDG_STATE_HOME", inside(".local/state")),
            ("ANTHROPIC_BASE_URL", base_url.to_owned()),
            ("ANTHROPIC_API_KEY", API_KEY.to_owned()),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
            ("DISABLE_AUTOUPDATER", "1".to_owned()),
            // Lets the permission check be skipped even as root.
            ("IS_SANDBOX", "1".to_owned()),
            // A proxy meant for the outside must not be asked for loopback.
            ("NO_PROXY", "127.0.0.1,localhost".to_owned()),
            ("no_proxy", "127.0.0.1,localhost".to_owned()),
        ];
        env.extend(pairs.map(|(name, value)| (name.to_owned(), value)));
        env
    }

    fn state_file(&self) -> PathBuf {
        // With CLAUDE_CONFIG_DIR set, the CLI looks here and not in HOME.
        self.config_dir().join(".claude.json")
    }

    fn write_state(&self, state: &Value) -> Result<()> {
        let file = self.state_file();
        fs::write(&file, state.to_string()).map_err(|err| failed("write", &file, err))
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).map_err(|err| failed("make the folder", path, err))?;
    fs::canonicalize(path).map_err(|err| failed("resolve", path, err))
}

fn failed(what: &str, path: &Path, err: std::io::Error) -> Error {
    Error::io(ErrorKind::NeedsPerson, format!("cannot {what} {}", path.display()), err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_added_to_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        let home = PrivateHome::create(root.path()).unwrap();
        let project = root.path().join("project");
        home.trust(&project).unwrap();
        home.trust(&root.path().join("other")).unwrap();
        let state: Value =
            serde_json::from_str(&fs::read_to_string(home.state_file()).unwrap()).unwrap();
        assert_eq!(state["hasCompletedOnboarding"], true);
        let project = fs::canonicalize(project).unwrap();
        assert_eq!(state["projects"][project.to_str().unwrap()]["hasTrustDialogAccepted"], true);
        assert_eq!(state["projects"].as_object().unwrap().len(), 2);
    }

    #[test]
    fn every_folder_variable_points_inside() {
        let root = tempfile::tempdir().unwrap();
        let home = PrivateHome::create(root.path()).unwrap();
        let env = home.env("http://127.0.0.1:1");
        for name in [
            "HOME",
            "CLAUDE_CONFIG_DIR",
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
            "XDG_DATA_HOME",
            "XDG_STATE_HOME",
        ] {
            assert!(Path::new(&env[name]).starts_with(home.dir()), "{name}");
        }
        assert_eq!(env["ANTHROPIC_AUTH_TOKEN"], "");
    }

    #[test]
    fn a_transcript_is_named_after_the_real_path() {
        let root = tempfile::tempdir().unwrap();
        let home = PrivateHome::create(root.path()).unwrap();
        let file = home.transcript(Path::new("/no such/pro_ject.v2"), "id");
        assert!(file.ends_with("projects/-no-such-pro-ject-v2/id.jsonl"), "{}", file.display());
    }
}
