//! Configuration: `Raw` as typed, `Config` as validated; the conversion is here and nowhere else.

use std::collections::BTreeMap;
use std::path::PathBuf;

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
    /// Budgets.
    pub limits: Limits,
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
}
