//! What `longhaul demo` runs on: a temporary project, a private home, the
//! scripted API, and the settings that put them together.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::api::{Api, Script};
use super::home::PrivateHome;
use super::install::Cli;
use super::scenario::{PAGES, TASKS_FILE};
use crate::error::{Error, ErrorKind, Result};

/// The model the demo names: its window is 200,000 tokens.
pub const MODEL: &str = "claude-haiku-4-5";
/// That window.
pub const WINDOW_TOKENS: u64 = 200_000;

const SUMMARY: &str = "# Project summary\n\nA small guide to the solar system, one page a body, in pages/.\nA page has a title and a paragraph.\n";
const PLAN: &str = "# Plan\n\nOne page after the other, in the order of dev-docs/tasks.md: write it, check it, tick it off.\n\nProgress: nothing yet.\n";
const SESSION_INIT: &str = "Read dev-docs/PROJECT_SUMMARY.md, dev-docs/plan.md and dev-docs/tasks.md. Go on with the next open task in dev-docs/tasks.md and tick it off when it is done. Stop when all are ticked.\n";

/// Everything the demo needs, up and running; the API stops when it is dropped.
#[derive(Debug)]
pub struct Demo {
    /// The temporary project.
    pub project_dir: PathBuf,
    /// The CLI's home.
    pub home: PrivateHome,
    /// The scripted API.
    pub api: Api,
    /// The CLI that will be run.
    pub cli: Cli,
}

impl Demo {
    /// Lays out project and home under `root` and starts the API, where
    /// `worker` answers.
    pub fn prepare(root: &Path, cli: Cli, worker: impl Script + 'static) -> Result<Self> {
        let home = PrivateHome::create(root)?;
        let project_dir = root.join("project");
        lay_out(&project_dir)?;
        home.trust(&project_dir)?;
        let api = Api::start(Arc::new(worker))?;
        Ok(Self { project_dir, home, api, cli })
    }

    /// Configuration for the run as `section.key` and a TOML value, in the
    /// form `--set` takes them.
    pub fn settings(&self) -> Vec<(String, String)> {
        // The demo's own tools are allowed by name: nothing is bypassed.
        let args = ["--model", MODEL, "--allowedTools=Bash,Edit,Read,Write"].map(toml::Value::from);
        let env: toml::Table = self
            .home
            .env(&self.api.base_url())
            .into_iter()
            .map(|(k, v)| (k, toml::Value::from(v)))
            .collect();
        let program = self.cli.program.to_string_lossy().into_owned();
        [
            ("claude.command", toml::Value::from(program)),
            ("claude.args", toml::Value::from(args.to_vec())),
            ("claude.env", toml::Value::from(env)),
            ("task.file", toml::Value::from(TASKS_FILE)),
            ("limits.max_sessions", toml::Value::from(12)),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_string()))
        .to_vec()
    }
}

/// Writes the dev-docs and the session-init command.
pub(super) fn lay_out(project: &Path) -> Result<()> {
    let tasks: String = (1..)
        .zip(PAGES)
        .map(|(number, (name, _))| format!("- [ ] {number}. Write pages/{name}.md\n"))
        .collect();
    let tasks = format!("# Tasks\n\n{tasks}\nNext step: task 1.\n");
    let files = [
        ("dev-docs/PROJECT_SUMMARY.md", SUMMARY),
        ("dev-docs/plan.md", PLAN),
        (TASKS_FILE, tasks.as_str()),
        (".claude/commands/session-init.md", SESSION_INIT),
    ];
    for (name, text) in files {
        let file = project.join(name);
        let parent = file.parent().unwrap_or(project);
        fs::create_dir_all(parent).and_then(|()| fs::write(&file, text)).map_err(|err| {
            Error::io(ErrorKind::NeedsPerson, format!("cannot write {}", file.display()), err)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::install::Origin;
    use super::super::scenario::Worker;
    use super::*;

    #[test]
    fn the_settings_are_toml_and_lead_to_the_api() {
        let root = tempfile::tempdir().unwrap();
        let cli =
            Cli { program: "/x y/claude".into(), version: "0.0.0".into(), origin: Origin::Given };
        let demo = Demo::prepare(root.path(), cli, Worker::for_window(WINDOW_TOKENS, "CHECKPOINT"))
            .unwrap();
        let lines: String =
            demo.settings().iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let read: toml::Table = lines.parse().unwrap();
        assert_eq!(read["claude"]["command"].as_str(), Some("/x y/claude"));
        assert_eq!(
            read["claude"]["env"]["ANTHROPIC_BASE_URL"].as_str(),
            Some(demo.api.base_url().as_str())
        );
        let tasks = fs::read_to_string(demo.project_dir.join(TASKS_FILE)).unwrap();
        assert_eq!(tasks.matches("- [ ] ").count(), PAGES.len());
    }
}
