//! What the person configured, as far as decisions need it.

use serde::{Deserialize, Serialize};

use super::budget::BudgetParams;
use crate::config::PermissionPolicy;

/// The policy of one run. It is written into the journal, so that a replay
/// decides as the run did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// Share of the window at which a checkpoint is asked for, in percent.
    pub threshold_percent: f64,
    /// The same in tokens, if set; whichever comes first.
    pub threshold_tokens: Option<u64>,
    /// The window in tokens, if the person set it.
    pub window_tokens: Option<u64>,
    /// First prompt of every session.
    pub init_prompt: String,
    /// Typed when a turn ends with work left.
    pub continue_prompt: String,
    /// Typed at the threshold.
    pub checkpoint_prompt: String,
    /// Prompts in a row without progress before a session is cycled.
    pub max_nudges: u32,
    /// Longest wait for the first reply.
    pub start_timeout_ms: u64,
    /// Longest wait between SIGTERM and SIGKILL.
    pub exit_timeout_ms: u64,
    /// Longest wait for one checkpoint request.
    pub checkpoint_timeout_ms: u64,
    /// The same when the run is stopping.
    pub stop_timeout_ms: u64,
    /// Does done need a verify command to agree?
    pub verify: bool,
    /// Sessions in one run.
    pub max_sessions: u32,
    /// Duration of the run, milliseconds.
    pub max_ms: u64,
    /// Tokens of all kinds.
    pub max_tokens: u64,
    /// Dollars.
    pub max_cost_usd: f64,
    /// Sessions in a row without progress before the run stops.
    pub no_progress_cycles: u32,
    /// Longest wait for a usage limit or for the API, in one piece.
    pub max_wait_ms: u64,
    /// Share of the subscription's quota that is not touched, percent.
    pub quota_reserve_percent: f64,
    /// Tokens of all kinds in any minute.
    pub tokens_per_minute: u64,
    /// Dollars in any hour.
    pub cost_usd_per_hour: f64,
    /// Subagents at work at once.
    pub max_subagents: u32,
    /// Memory of the tree at which a checkpoint is asked for, MiB.
    pub tree_memory_soft_mb: u64,
    /// Memory of the tree at which the session is ended, MiB.
    pub tree_memory_hard_mb: u64,
    /// Free space below which the run stops, MiB.
    pub disk_floor_mb: u64,
    /// Most that the run's temporary files may take, MiB.
    pub scratch_mb: u64,
    /// Most that one session may write to disks, MiB.
    #[serde(default = "no_limit")]
    pub written_mb: u64,
    /// When a session counts as hung.
    pub hang: HangParams,
    /// What to do when a person is asked.
    pub permissions: Answering,
    /// The run works off tasks of the queue instead of the task file as it is.
    #[serde(default)]
    pub queue: bool,
    /// Context loaded by a task of the queue above which a person is warned, tokens.
    #[serde(default = "no_limit")]
    pub warn_input_tokens: u64,
    /// What is told of spending.
    #[serde(default)]
    pub budget: BudgetParams,
}

/// How long nothing may move in a turn, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HangParams {
    /// The person is told.
    pub warn_ms: u64,
    /// Esc is pressed.
    pub interrupt_ms: u64,
    /// The session is ended.
    pub end_ms: u64,
    /// With a tool call in flight: Esc is pressed.
    pub tool_ms: u64,
}

/// What to do when a question to a person reaches the screen. While the CLI's
/// hooks work none does: they answer by the same policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answering {
    /// Decline, and tell the session to decide by itself.
    Deny,
    /// End the run.
    Stop,
}

/// Of a journal from before there was one.
fn no_limit() -> u64 {
    u64::MAX
}

impl From<&crate::config::Config> for Params {
    fn from(c: &crate::config::Config) -> Self {
        Self {
            threshold_percent: c.context.threshold_percent,
            threshold_tokens: c.context.threshold_tokens,
            window_tokens: c.context.window_tokens,
            init_prompt: c.session.init_prompt.clone(),
            continue_prompt: c.session.continue_prompt.clone(),
            checkpoint_prompt: c.checkpoint.prompt.clone(),
            max_nudges: c.session.max_nudges,
            start_timeout_ms: c.session.start_timeout_ms,
            exit_timeout_ms: c.session.exit_timeout_ms,
            checkpoint_timeout_ms: c.checkpoint.timeout_ms,
            stop_timeout_ms: c.checkpoint.stop_timeout_ms,
            verify: c.task.verify.is_some(),
            max_sessions: c.limits.max_sessions,
            max_ms: c.limits.max_ms,
            max_tokens: c.limits.max_tokens,
            max_cost_usd: c.limits.max_cost_usd,
            no_progress_cycles: c.limits.no_progress_cycles,
            max_wait_ms: c.limits.max_wait_ms,
            quota_reserve_percent: c.limits.quota_reserve_percent,
            tokens_per_minute: c.limits.tokens_per_minute,
            cost_usd_per_hour: c.limits.cost_usd_per_hour,
            max_subagents: c.limits.max_subagents,
            tree_memory_soft_mb: c.limits.tree_memory_soft_mb,
            tree_memory_hard_mb: c.limits.tree_memory_hard_mb,
            disk_floor_mb: c.limits.disk_floor_mb,
            scratch_mb: c.limits.scratch_mb,
            written_mb: c.limits.written_mb,
            hang: HangParams {
                warn_ms: c.hang.warn_ms,
                interrupt_ms: c.hang.interrupt_ms,
                end_ms: c.hang.end_ms,
                tool_ms: c.hang.tool_ms,
            },
            permissions: match c.permissions.policy {
                PermissionPolicy::Deny | PermissionPolicy::Command(_) => Answering::Deny,
                PermissionPolicy::Stop => Answering::Stop,
            },
            queue: false,
            warn_input_tokens: c.queue.warn_input_tokens,
            budget: c.budget.clone(),
        }
    }
}
