//! What would stop a run, or surprise its owner, found before it starts.
//!
//! Each check is a function from `Patient` to findings; the order here is
//! the order they are shown in, and the first error is the one `run` refuses
//! with, in the same words.

mod account;
mod arguments;
mod docs;
mod machine;
mod program;
mod settings;
mod wallet;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::claude_json::{Env, Json, Places};
use crate::config::Config;
use crate::{Error, ErrorKind};

pub use program::{find_decider, find_program};

/// The release of the CLI this program is tested with.
pub const TESTED_CLI_VERSION: &str = "2.1.329";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// A run starts, and may end otherwise than wished.
    Warning,
    /// A run is refused.
    Error,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A stable name for machines.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is, in a line.
    pub title: String,
    /// More about it; may be empty.
    pub detail: String,
    /// How to mend it; empty when there is nothing to mend.
    pub mend: String,
    /// What a run would end with; only errors have one.
    pub exit: Option<ErrorKind>,
}

impl Finding {
    fn new(id: &'static str, severity: Severity, title: impl Into<String>) -> Finding {
        Finding {
            id,
            severity,
            title: title.into(),
            detail: String::new(),
            mend: String::new(),
            exit: None,
        }
    }

    fn ok(id: &'static str, title: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Ok, title)
    }

    fn note(id: &'static str, title: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Note, title)
    }

    fn warning(id: &'static str, title: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Warning, title)
    }

    fn error(id: &'static str, exit: ErrorKind, title: impl Into<String>) -> Finding {
        Finding { exit: Some(exit), ..Finding::new(id, Severity::Error, title) }
    }

    fn detail(mut self, detail: impl Into<String>) -> Finding {
        self.detail = detail.into();
        self
    }

    fn mend(mut self, mend: impl Into<String>) -> Finding {
        self.mend = mend.into();
        self
    }

    /// An error of ours in the words of a finding.
    fn of_error(id: &'static str, err: &Error) -> Finding {
        let mut detail = String::new();
        let mut cause = std::error::Error::source(err);
        while let Some(err) = cause {
            detail = err.to_string();
            cause = err.source();
        }
        Finding::error(id, err.kind(), err.message()).detail(detail).mend(err.hints().join("; "))
    }
}

/// What is examined.
struct Patient<'a> {
    config: &'a Config,
    /// The real path of the project.
    project: &'a Path,
    /// The environment of longhaul.
    own_env: &'a Env,
    /// The environment a session will see.
    child_env: Env,
    /// Whose rights a session will have.
    is_root: bool,
    /// Where the CLI keeps its files; `None` without a home.
    places: Option<Places>,
    /// `.claude.json`.
    global: Json,
    /// The settings files that apply, the weakest first.
    settings: Vec<settings::Layer>,
}

/// Examines everything a run of `config` in `project` (its real path) needs.
/// Runs `claude --version`; changes nothing, but a copy of damaged state is put aside.
pub fn examine(config: &Config, project: &Path, env: &Env) -> Vec<Finding> {
    examine_as(config, project, env, rustix::process::geteuid().is_root())
}

fn examine_as(config: &Config, project: &Path, env: &Env, is_root: bool) -> Vec<Finding> {
    let child_env = env.for_child(config);
    let places = Places::of(&child_env);
    let global = places.as_ref().map_or(Json::Missing, |places| Json::read(&places.global_file));
    let settings = settings::layers(project, places.as_ref());
    let patient =
        Patient { config, project, own_env: env, child_env, is_root, places, global, settings };
    let mut findings = Vec::new();
    for check in [
        program::check,
        arguments::check,
        account::check,
        settings::check,
        docs::check,
        machine::check,
        wallet::check,
    ] {
        findings.extend(check(&patient));
    }
    findings
}

/// Is there a command that `session.init_prompt` names?
pub fn has_init_command(config: &Config, project: &Path, env: &Env) -> bool {
    let places = Places::of(&env.for_child(config));
    docs::has_init_command(config, project, places.as_ref())
}

impl Finding {
    /// Is it about what the task file says?
    pub fn is_about_task_file(&self) -> bool {
        self.id == docs::TASK_FILE
    }
}

/// The error a run is refused with: the first one found.
pub fn refuse(findings: &[Finding]) -> Option<Error> {
    let mut errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let finding = errors.next()?;
    let mut message = finding.title.clone();
    if !finding.detail.is_empty() {
        message.push_str(": ");
        message.push_str(&finding.detail);
    }
    let mut err = Error::new(finding.exit.unwrap_or(ErrorKind::Usage), message);
    if !finding.mend.is_empty() {
        err = err.hint(finding.mend.clone());
    }
    let others = errors.count();
    Some(match others {
        0 => err,
        _ => err.hint(format!("{others} more to mend; `longhaul doctor` shows all")),
    })
}

/// `path` as a person writes it: below home with `~`.
fn shown(path: &Path, env: &Env) -> String {
    let short = env.get("HOME").and_then(|home| path.strip_prefix(PathBuf::from(home)).ok());
    match short {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}

/// All of a secret that is ever shown: its last four characters.
fn masked(secret: &str) -> String {
    let chars: Vec<char> = secret.trim().chars().collect();
    // Of a short one even that would be too much.
    if chars.len() < 12 {
        return "…".into();
    }
    format!("…{}", chars[chars.len() - 4..].iter().collect::<String>())
}

#[cfg(test)]
mod tests;
