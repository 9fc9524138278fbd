//! What the person configured, as far as decisions need it.

use serde::{Deserialize, Serialize};

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
        }
    }
}
