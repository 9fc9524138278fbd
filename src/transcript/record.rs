//! What one row of a transcript can say.

use serde::Serialize;

/// Longest text of one message that is kept, in bytes.
pub const MAX_ASSISTANT_TEXT_BYTES: usize = 32 * 1024;
/// Longest prompt that is kept, in bytes.
pub const MAX_PROMPT_BYTES: usize = 64 * 1024;
/// Longest one-line summary of a tool call, in characters.
pub const MAX_SUMMARY_CHARS: usize = 120;
/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// When it was written, Unix milliseconds.
    pub unix_ms: Option<i64>,
    /// It belongs to a subagent or a side question, not to the main thread.
    pub sidechain: bool,
    /// What it says.
    pub body: Body,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A block of a model's reply, or an error in its place.
    Assistant(Box<Assistant>),
    /// Something sent to the model.
    User(User),
    /// Text typed while a turn runs was put into the queue.
    Enqueued(String),
    /// Queued text was handed to the model in mid-turn.
    QueuedCommand(String),
    /// A turn ended; subagents may still run in the background.
    TurnDuration {
        /// Subagents still at work.
        background_agents: u64,
    },
    /// The conversation was compacted.
    CompactBoundary {
        /// `auto` or `manual`.
        trigger: String,
        /// Context before, in tokens.
        pre_tokens: Option<u64>,
        /// Context after, in tokens.
        post_tokens: Option<u64>,
    },
    /// The CLI's own bill.
    CostState(CostState),
    /// The conversation goes on in another session.
    ContinuedIn(String),
    /// A known row without meaning here.
    Quiet,
    /// A row type this version does not know.
    Unknown,
}

/// An assistant row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assistant {
    /// `message.id`.
    pub message_id: Option<String>,
    /// `requestId`.
    pub request_id: Option<String>,
    /// The CLI's own reference for the request.
    pub request_ref: Option<String>,
    /// Another session made the request: this row came along with a fork.
    pub is_copy: bool,
    /// The model that answered.
    pub model: String,
    /// The model that was asked for, which is the one billed.
    pub requested_model: Option<String>,
    /// Usage of the whole response, repeated in each of its rows.
    pub usage: Option<Usage>,
    /// The response was received to its end.
    pub finished: bool,
    /// It asks for no tool: the turn, or the subagent, is at its end.
    pub ends_turn: bool,
    /// Which block of the response this row holds.
    pub block: u64,
    /// Characters of text, thinking and tool input in this row, as JavaScript counts.
    pub visible_chars: u64,
    /// The texts of this row.
    pub text: String,
    /// The tool calls of this row.
    pub tools: Vec<ToolCall>,
    /// Set when the row stands for a failed request.
    pub api_error: Option<ApiError>,
}

/// A failed request, as an assistant row tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// `rate_limit`, `server_error`, `authentication_failed`, …
    pub error: String,
    /// HTTP status, if there was one.
    pub status: Option<u16>,
    /// The usage limit that was reached, if that is what it says.
    pub limit: Option<QuotaLimit>,
}

/// A usage limit of a subscription, as a row tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuotaLimit {
    /// Which: `five_hour`, `seven_day` …; `usage_limit` if it does not say.
    pub which: String,
    /// When it begins anew, Unix time in seconds.
    pub resets_at_s: Option<i64>,
}

/// A tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Its id, which the result repeats.
    pub id: String,
    /// The tool.
    pub name: String,
    /// One line for display, without control characters.
    pub summary: String,
    /// The file it names.
    pub file: Option<String>,
    /// It exists to change that file.
    pub changes_files: bool,
}

/// A user row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct User {
    /// A prompt typed by a person or by longhaul.
    pub prompt: Option<String>,
    /// The turn was interrupted.
    pub interrupted: bool,
    /// Results of tool calls: id, and whether it failed.
    pub results: Vec<(String, bool)>,
}

/// Token usage as the row states it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Uncached prompt tokens.
    pub input: u64,
    /// Generated tokens.
    pub output: u64,
    /// All cache writes.
    pub cache_write: u64,
    /// Cache writes for one hour, a part of `cache_write`.
    pub cache_write_1h: u64,
    /// Cache reads.
    pub cache_read: u64,
    /// Server-side web searches.
    pub web_searches: u64,
    /// `speed: "fast"`.
    pub fast: bool,
    /// `inference_geo: "us"`.
    pub us_inference: bool,
    /// Requests another model answered on the way, billed by themselves.
    pub advisors: Vec<(String, Usage)>,
    /// Numbers that were negative, too large or not numbers, taken as 0.
    pub bad_numbers: u64,
}

impl Usage {
    /// Context in use: everything that was sent.
    pub fn prompt_tokens(&self) -> u64 {
        self.input.saturating_add(self.cache_write).saturating_add(self.cache_read)
    }
}

/// The bill the CLI keeps for a session.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CostState {
    /// The sum, in dollars.
    pub total_cost_usd: f64,
    /// By model.
    pub models: Vec<ModelBill>,
    /// Part of the sum was charged at a guessed price.
    pub has_unknown_model_cost: bool,
}

/// What one model cost, as the CLI counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ModelBill {
    /// Model as requested.
    pub model: String,
    /// Uncached prompt tokens.
    pub input: u64,
    /// Generated tokens.
    pub output: u64,
    /// Cache reads.
    pub cache_read: u64,
    /// Cache writes of both lives.
    pub cache_write: u64,
    /// Dollars.
    pub cost_usd: f64,
}
