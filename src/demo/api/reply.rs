//! What a script answers: content blocks with a usage, a failure, or silence.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

/// One content block of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// Plain text.
    Text(String),
    /// A thinking block.
    Thinking(String),
    /// A tool call; the CLI runs it and sends the result with its next request.
    ToolUse {
        /// The tool's name, `Bash` for one.
        name: String,
        /// Its input, as the tool's schema wants it.
        input: Value,
    },
}

/// The tokens an answer claims to have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Uncached input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Tokens written to the five-minute cache.
    pub cache_write_5m_tokens: u64,
    /// Tokens written to the one-hour cache.
    pub cache_write_1h_tokens: u64,
    /// Tokens read from the cache.
    pub cache_read_tokens: u64,
}

impl Usage {
    /// A usage whose context (input + cache writes + cache reads) is exactly
    /// `tokens`: a few uncached, up to `fresh_tokens` written, the rest read.
    pub fn of_context(tokens: u64, fresh_tokens: u64, output_tokens: u64) -> Self {
        let input_tokens = tokens.min(10);
        let cache_write_5m_tokens = fresh_tokens.min(tokens - input_tokens);
        Self {
            input_tokens,
            output_tokens,
            cache_write_5m_tokens,
            cache_write_1h_tokens: 0,
            cache_read_tokens: tokens - input_tokens - cache_write_5m_tokens,
        }
    }

    /// Tokens of context in use: everything but the output.
    pub fn context_tokens(self) -> u64 {
        self.input_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
            + self.cache_read_tokens
    }

    /// The `usage` object of the Messages API.
    pub(super) fn to_json(self, output_tokens: u64) -> Value {
        json!({
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": self.cache_write_5m_tokens + self.cache_write_1h_tokens,
            "cache_read_input_tokens": self.cache_read_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_write_5m_tokens,
                "ephemeral_1h_input_tokens": self.cache_write_1h_tokens,
            },
            "output_tokens": output_tokens,
            "service_tier": "standard",
        })
    }
}

/// An HTTP error instead of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// HTTP status.
    pub status: u16,
    /// Extra response headers.
    pub headers: Vec<(String, String)>,
    /// The JSON body.
    pub body: Value,
}

/// Holds answers back until it is opened; clones share one state.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets every held and every later answer through.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the gate is open.
    pub(super) async fn passed(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// One answer to one request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The content; empty with `failure`.
    pub blocks: Vec<Block>,
    /// What it claims to have used.
    pub usage: Usage,
    /// `None`: `tool_use` if a block is a tool call, else `end_turn`.
    pub stop_reason: Option<String>,
    /// Latency before the first byte.
    pub before: Duration,
    /// Held back until this opens, after `before`.
    pub gate: Option<Gate>,
    /// Pause between the pieces of the stream; text then comes in small pieces.
    pub chunk_delay: Duration,
    /// An HTTP error instead of an answer.
    pub failure: Option<Failure>,
    /// Response headers of an answer; those of a failure stand in it.
    pub headers: Vec<(String, String)>,
    /// Never answers; the connection stays open.
    pub hang: bool,
    /// Sends only this many pieces of the stream, then cuts the connection.
    pub cut_after: Option<usize>,
}

impl Reply {
    /// An answer of these blocks.
    pub fn new(blocks: Vec<Block>, usage: Usage) -> Self {
        Self {
            blocks,
            usage,
            stop_reason: None,
            before: Duration::ZERO,
            gate: None,
            chunk_delay: Duration::ZERO,
            failure: None,
            headers: Vec::new(),
            hang: false,
            cut_after: None,
        }
    }

    /// A text that ends the turn.
    pub fn text(text: impl Into<String>, usage: Usage) -> Self {
        Self::new(vec![Block::Text(text.into())], usage)
    }

    /// One tool call.
    pub fn tool(name: &str, input: Value, usage: Usage) -> Self {
        Self::new(vec![Block::ToolUse { name: name.to_owned(), input }], usage)
    }

    /// A shell command through the `Bash` tool.
    pub fn bash(command: impl Into<String>, usage: Usage) -> Self {
        let command: String = command.into();
        Self::tool("Bash", json!({ "command": command, "description": "Work on the task" }), usage)
    }

    /// The short answer to a side request (a title, say).
    pub fn side(usage: Usage) -> Self {
        Self::text(r#"{"title": "Work on the task"}"#, usage)
    }

    /// An HTTP error with the API's error body.
    pub fn failure(status: u16, kind: &str, message: &str) -> Self {
        let body = json!({ "type": "error", "error": { "type": kind, "message": message } });
        let mut reply = Self::new(Vec::new(), Usage::default());
        reply.failure = Some(Failure { status, headers: Vec::new(), body });
        reply
    }

    /// 529: the service is overloaded; the CLI retries.
    pub fn overloaded() -> Self {
        Self::failure(529, "overloaded_error", "Overloaded")
    }

    /// 500: the service failed; the CLI retries.
    pub fn server_error() -> Self {
        Self::failure(500, "api_error", "Internal server error")
    }

    /// 401: the key is refused.
    pub fn unauthorized() -> Self {
        Self::failure(401, "authentication_error", "invalid x-api-key")
    }

    /// 400: the conversation no longer fits.
    pub fn prompt_too_long(tokens: u64, maximum_tokens: u64) -> Self {
        let message = format!("prompt is too long: {tokens} tokens > {maximum_tokens} maximum");
        Self::failure(400, "invalid_request_error", &message)
    }

    /// 429 of a subscription limit (`five_hour`, `seven_day`) that ends at
    /// `reset_unix_s`.
    pub fn usage_limit(claim: &str, reset_unix_s: i64) -> Self {
        let message =
            "This request would exceed your account's rate limit. Please try again later.";
        Self::failure(429, "rate_limit_error", message)
            .header("anthropic-ratelimit-unified-status", "rejected")
            .header("anthropic-ratelimit-unified-reset", &reset_unix_s.to_string())
            .header("anthropic-ratelimit-unified-representative-claim", claim)
    }

    /// No answer, ever.
    pub fn hang() -> Self {
        let mut reply = Self::new(Vec::new(), Usage::default());
        reply.hang = true;
        reply
    }

    /// Adds a response header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let headers = match &mut self.failure {
            Some(failure) => &mut failure.headers,
            None => &mut self.headers,
        };
        headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds latency before the first byte.
    pub fn after(mut self, before: Duration) -> Self {
        self.before = before;
        self
    }

    /// Holds the answer back until `gate` opens.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Puts a text before the other blocks.
    pub fn saying(mut self, text: impl Into<String>) -> Self {
        self.blocks.insert(0, Block::Text(text.into()));
        self
    }

    pub(super) fn stop_reason(&self) -> &str {
        match &self.stop_reason {
            Some(reason) => reason,
            None if self.blocks.iter().any(|b| matches!(b, Block::ToolUse { .. })) => "tool_use",
            None => "end_turn",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_context_adds_up_to_the_context() {
        for (tokens, fresh) in [(0, 0), (5, 100), (20_000, 4_000), (140_000, 500_000)] {
            let usage = Usage::of_context(tokens, fresh, 50);
            assert_eq!(usage.context_tokens(), tokens);
            assert_eq!(usage.output_tokens, 50);
        }
    }

    #[test]
    fn a_tool_call_stops_for_its_result_and_a_text_ends_the_turn() {
        assert_eq!(Reply::bash("ls", Usage::default()).stop_reason(), "tool_use");
        assert_eq!(Reply::text("done", Usage::default()).stop_reason(), "end_turn");
    }
}
