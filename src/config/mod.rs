//! Configuration: layers as typed become one validated [`Config`]; the conversion is here and nowhere else.
//!
//! Three layers, the later wins: `config/default.toml` (compiled in, the only
//! place where defaults live), `longhaul.toml` of the project or `--config
//! FILE`, and `--set section.key=value`. `layers` reads them and knows which
//! keys exist, `setting` turns one value into one type and words the
//! complaint, `build` puts the [`Config`] together.

mod build;
mod duration;
mod keys;
mod layers;
mod observe;
mod setting;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::cycle::budget::BudgetParams;
use crate::{Error, Result};

pub use duration::{format_duration, parse_duration};
pub use keys::{KeyDoc, key_docs};
pub use observe::{InputKind, Observe};

/// `config/default.toml`: every key, its default and a comment.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// The name of the configuration file in a project.
pub const FILE_NAME: &str = "longhaul.toml";

/// The validated configuration of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The CLI and its surroundings.
    pub claude: Claude,
    /// When a session is full.
    pub context: Context,
    /// What a session is told, and how long it may take to start and exit.
    pub session: Session,
    /// How state is handed over.
    pub checkpoint: Checkpoint,
    /// What done means.
    pub task: Task,
    /// Limits.
    pub limits: Limits,
    /// `[budget]`: what a person is warned of.
    pub budget: BudgetParams,
    /// When a session counts as hung.
    pub hang: Hang,
    /// Who answers when a person is asked.
    pub permissions: Permissions,
    /// How the person is told.
    pub notify: Notify,
    /// `[queue]`
    pub queue: Queue,
    /// `[track]`
    pub track: Track,
    /// `[hub]`
    pub hub: Hub,
    /// `[observe]`
    pub observe: Observe,
    /// Where all that was written.
    pub places: Places,
}

/// Where keys were written that do not have their default, for complaints that can
/// be made only later. Two configurations that say the same are equal, wherever they
/// say it.
#[derive(Debug, Clone, Default)]
pub struct Places(BTreeMap<String, String>);

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Places {
    /// The file and line, or `--set`.
    pub fn of(&self, key: &str) -> &str {
        self.0.get(key).map_or("config/default.toml", String::as_str)
    }
}

/// `[claude]`
#[derive(Debug, Clone, PartialEq)]
pub struct Claude {
    /// Name or path of the CLI.
    pub command: String,
    /// Arguments for every session (config first, then those after `--`).
    pub args: Vec<String>,
    /// Extra variables for the child.
    pub env: BTreeMap<String, String>,
    /// Variables passed on although they decide who pays.
    pub pass_env: Vec<String>,
    /// Answer the trust dialog with yes.
    pub trust_workspace: bool,
    /// Allow `--dangerously-skip-permissions`.
    pub allow_bypass: bool,
    /// Go on when a session changed what the CLI runs by itself.
    pub allow_settings_changes: bool,
}

/// `[context]`
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// 1..=100 percent of the window.
    pub threshold_percent: f64,
    /// Absolute threshold, if set.
    pub threshold_tokens: Option<u64>,
    /// Window size, if set.
    pub window_tokens: Option<u64>,
}

/// `[session]`
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// First prompt.
    pub init_prompt: String,
    /// Prompt after a turn that ended with work left.
    pub continue_prompt: String,
    /// Prompts in a row without progress before the session is cycled.
    pub max_nudges: u32,
    /// Longest wait for the first reply.
    pub start_timeout_ms: u64,
    /// Longest wait after SIGTERM.
    pub exit_timeout_ms: u64,
}

/// `[checkpoint]`
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The request.
    pub prompt: String,
    /// Relative paths in the project.
    pub files: Vec<PathBuf>,
    /// Longest wait for one request.
    pub timeout_ms: u64,
    /// Longest wait when stopping.
    pub stop_timeout_ms: u64,
    /// Commit after each checkpoint.
    pub git_commit: bool,
    /// Keep the work tree of each cycle below `refs/longhaul/`.
    pub git_refs: bool,
}

/// `[task]`
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Relative path of the task file.
    pub file: PathBuf,
    /// Shell command that proves done.
    pub verify: Option<String>,
    /// Longest run of that command.
    pub verify_timeout_ms: u64,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Sessions in one run.
    pub max_sessions: u32,
    /// Duration of the run.
    pub max_ms: u64,
    /// All tokens, of all kinds.
    pub max_tokens: u64,
    /// Dollars.
    pub max_cost_usd: f64,
    /// Sessions in a row without progress.
    pub no_progress_cycles: u32,
    /// Longest wait for a usage limit or for the API, in one piece.
    pub max_wait_ms: u64,
    /// Share of the quota that is not touched, 0 to 100.
    pub quota_reserve_percent: f64,
    /// Tokens of all kinds in any minute.
    pub tokens_per_minute: u64,
    /// Dollars in any hour.
    pub cost_usd_per_hour: f64,
    /// Subagents at work at once.
    pub max_subagents: u32,
    /// Memory of the tree at which the session is cycled, MiB.
    pub tree_memory_soft_mb: u64,
    /// Memory of the tree at which the session is ended, MiB.
    pub tree_memory_hard_mb: u64,
    /// Free space below which the run stops, MiB.
    pub disk_floor_mb: u64,
    /// Most that the run's temporary files may take, MiB.
    pub scratch_mb: u64,
    /// Most that one session and all below it may write to disks, MiB.
    pub written_mb: u64,
}

/// `[hang]`: how long nothing may move. Each step is at most the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Hang {
    /// The person is told.
    pub warn_ms: u64,
    /// Esc is pressed.
    pub interrupt_ms: u64,
    /// The session is ended.
    pub end_ms: u64,
    /// With a tool call in flight: Esc is pressed.
    pub tool_ms: u64,
}

/// `[permissions]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Who decides.
    pub policy: PermissionPolicy,
}

/// Who decides when the CLI asks for a permission, or the session asks a person
/// anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermissionPolicy {
    /// No: the session is told to decide by itself, and to note it.
    Deny,
    /// Nobody: the run stops.
    Stop,
    /// This command: it gets the hook's JSON on standard input and answers `allow`,
    /// `deny` or `{"decision": …, "message": …}`.
    Command(Vec<String>),
}

/// `[notify]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// A command that gets JSON on standard input; empty = none.
    pub command: Vec<String>,
    /// Where JSON is POSTed to.
    pub webhook: Option<String>,
    /// What is told.
    pub on: Vec<Occasion>,
}

/// `[queue]`
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Projects that are worked on at the same time.
    pub parallel: u32,
    /// The folder of the queue's files, relative to each project; `None`: no files.
    pub files: Option<PathBuf>,
    /// Results that stay out of the archive however old they are.
    pub keep_recent: u32,
    /// Age at which a result moves to the archive, milliseconds.
    pub archive_after_ms: u64,
    /// Are results moved by themselves?
    pub auto_cleanup: bool,
    /// Context loaded by a task above which a person is warned, tokens.
    pub warn_input_tokens: u64,
    /// Most that all tasks of 24 hours may cost, dollars.
    pub max_cost_usd_per_day: f64,
}

/// `[track]`
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// The folder of the records of usage, relative to each project; `None`: none are kept.
    pub folder: Option<PathBuf>,
}

/// `[hub]`
#[derive(Debug, Clone, PartialEq)]
pub struct Hub {
    /// Where it listens.
    pub address: SocketAddr,
    /// May anybody on this machine change things without the token?
    pub allow_unauthenticated_loopback: bool,
    /// Does `assign_task` begin to work unless it says `auto_execute: false`?
    pub auto_execute: bool,
    /// Largest body of a request, KiB.
    pub max_body_kb: u64,
}

/// What is worth a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The run cannot go on without a person.
    NeedsPerson,
    /// The run waits for a limit.
    Waiting,
    /// 50, 80 or 100 % of a budget are spent.
    Budget,
    /// The task is done.
    Finished,
    /// The run ended otherwise.
    Failed,
}

impl Occasion {
    /// All of them.
    pub const ALL: [Occasion; 5] = [
        Occasion::NeedsPerson,
        Occasion::Waiting,
        Occasion::Budget,
        Occasion::Finished,
        Occasion::Failed,
    ];

    /// The word in `notify.on` and in notifications.
    pub fn as_str(self) -> &'static str {
        match self {
            Occasion::NeedsPerson => "needs_person",
            Occasion::Waiting => "waiting",
            Occasion::Budget => "budget",
            Occasion::Finished => "finished",
            Occasion::Failed => "failed",
        }
    }
}

impl Config {
    /// The defaults alone.
    pub fn defaults() -> Config {
        build::config(&layers::Settings::defaults()).expect("default.toml is checked by a test")
    }

    /// Reads the configuration of a run in `project`: the defaults, then
    /// `longhaul.toml` there (if there is one) or `file`, then each of `set`
    /// (`section.key=value`) in order.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Usage`], naming the file and line or the flag, for
    /// a file that cannot be read, an unknown key, a wrong type or a value out
    /// of range.
    pub fn load(project: &Path, file: Option<&Path>, set: &[String]) -> Result<Config> {
        let mut settings = layers::Settings::defaults();
        let own = project.join(FILE_NAME);
        let text = match file {
            Some(path) => Some((path, layers::read_file(path)?.ok_or_else(|| missing(path))?)),
            None => layers::read_file(&own)?.map(|text| (own.as_path(), text)),
        };
        if let Some((path, text)) = text {
            settings.add_file(&path.display().to_string(), &text)?;
        }
        for flag in set {
            settings.add_flag(flag)?;
        }
        build::config(&settings)
    }

    /// Reads configuration from text; `name` stands for the file in messages.
    pub fn from_text(name: &str, text: &str, set: &[String]) -> Result<Config> {
        let mut settings = layers::Settings::defaults();
        settings.add_file(name, text)?;
        for flag in set {
            settings.add_flag(flag)?;
        }
        build::config(&settings)
    }
}

fn missing(path: &Path) -> Error {
    Error::usage(format!("there is no configuration file at {}", path.display())).hint(
        "`--config` names a file; without it `longhaul.toml` of the project is used if it is there",
    )
}

#[cfg(test)]
mod tests;
