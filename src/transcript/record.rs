//! What one row of a transcript can say, read with tolerance.
//!
//! The format is internal to Claude Code and changes with every release, so a
//! row is read field by field: a field that is missing or of another type is
//! as good as absent, and what is not asked for is skipped without a copy.

use std::fmt;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Longest text of one message that is kept, in bytes.
pub const MAX_ASSISTANT_TEXT_BYTES: usize = 32 * 1024;
/// Longest prompt that is kept, in bytes.
pub const MAX_PROMPT_BYTES: usize = 64 * 1024;
/// Longest one-line summary of a tool call, in characters.
pub const MAX_SUMMARY_CHARS: usize = 120;
/// Counts above this are damage, not tokens.
const MAX_COUNT: f64 = 1e12;

/// Row types that are known and say nothing to longhaul.
const QUIET_TYPES: &[&str] = &[
    "agent-name",
    "agent-setting",
    "ai-title",
    "api-request",
    "api-request-blob",
    "api-request-shape",
    "atis-latch",
    "attribution-snapshot",
    "bridge-session",
    "content-replacement",
    "custom-title",
    "file-history-delta",
    "file-history-snapshot",
    "last-prompt",
    "mode",
    "permission-mode",
    "pr-link",
    "progress",
    "summary",
    "tag",
    "tools-used",
    "worktree-state",
];

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
    /// The model that answered.
    pub model: String,
    /// The model that was asked for, which is the one billed.
    pub requested_model: Option<String>,
    /// Usage of the whole response, repeated in each of its rows.
    pub usage: Option<Usage>,
    /// The response was received to its end.
    pub finished: bool,
    /// Which block of the response this row holds.
    pub block: u64,
    /// Characters of text and tool input in this row, as JavaScript counts.
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
        self.input
            .saturating_add(self.cache_write)
            .saturating_add(self.cache_read)
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

type Raw<'a> = Option<&'a RawValue>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRow<'a> {
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    subtype: Raw<'a>,
    #[serde(borrow)]
    timestamp: Raw<'a>,
    #[serde(borrow)]
    is_sidechain: Raw<'a>,
    #[serde(borrow)]
    is_meta: Raw<'a>,
    #[serde(borrow)]
    is_compact_summary: Raw<'a>,
    #[serde(borrow)]
    origin: Raw<'a>,
    #[serde(borrow)]
    request_id: Raw<'a>,
    #[serde(borrow)]
    request_ref: Raw<'a>,
    #[serde(borrow)]
    requested_model: Raw<'a>,
    #[serde(borrow)]
    api_block_index: Raw<'a>,
    #[serde(borrow)]
    is_api_error_message: Raw<'a>,
    #[serde(borrow)]
    api_error_status: Raw<'a>,
    #[serde(borrow)]
    error: Raw<'a>,
    #[serde(borrow)]
    message: Raw<'a>,
    #[serde(borrow)]
    operation: Raw<'a>,
    #[serde(borrow)]
    content: Raw<'a>,
    #[serde(borrow)]
    attachment: Raw<'a>,
    #[serde(borrow)]
    pending_background_agent_count: Raw<'a>,
    #[serde(borrow)]
    compact_metadata: Raw<'a>,
    #[serde(borrow, rename = "totalCostUSD")]
    total_cost_usd: Raw<'a>,
    #[serde(borrow)]
    model_usage: Raw<'a>,
    #[serde(borrow)]
    has_unknown_model_cost: Raw<'a>,
    #[serde(borrow)]
    session_id: Raw<'a>,
    #[serde(borrow)]
    continued_in: Raw<'a>,
}

#[derive(Deserialize)]
struct RawMessage<'a> {
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    model: Raw<'a>,
    #[serde(borrow)]
    content: Raw<'a>,
    #[serde(borrow)]
    usage: Raw<'a>,
    #[serde(borrow)]
    stop_reason: Raw<'a>,
}

#[derive(Deserialize)]
struct RawBlock<'a> {
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    name: Raw<'a>,
    #[serde(borrow)]
    input: Raw<'a>,
    #[serde(borrow)]
    tool_use_id: Raw<'a>,
    #[serde(borrow)]
    is_error: Raw<'a>,
}

#[derive(Deserialize)]
struct RawInput<'a> {
    #[serde(borrow)]
    description: Raw<'a>,
    #[serde(borrow)]
    command: Raw<'a>,
    #[serde(borrow)]
    file_path: Raw<'a>,
    #[serde(borrow)]
    notebook_path: Raw<'a>,
    #[serde(borrow)]
    path: Raw<'a>,
    #[serde(borrow)]
    pattern: Raw<'a>,
    #[serde(borrow)]
    url: Raw<'a>,
    #[serde(borrow)]
    query: Raw<'a>,
    #[serde(borrow)]
    skill: Raw<'a>,
    #[serde(borrow)]
    prompt: Raw<'a>,
}

#[derive(Deserialize)]
struct RawUsage<'a> {
    #[serde(borrow)]
    input_tokens: Raw<'a>,
    #[serde(borrow)]
    output_tokens: Raw<'a>,
    #[serde(borrow)]
    cache_creation_input_tokens: Raw<'a>,
    #[serde(borrow)]
    cache_read_input_tokens: Raw<'a>,
    #[serde(borrow)]
    cache_creation: Raw<'a>,
    #[serde(borrow)]
    server_tool_use: Raw<'a>,
    #[serde(borrow)]
    speed: Raw<'a>,
    #[serde(borrow)]
    inference_geo: Raw<'a>,
    #[serde(borrow)]
    iterations: Raw<'a>,
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    model: Raw<'a>,
}

impl Row {
    /// Reads one row. `None` if `text` is not a JSON object with a `type`.
    pub(super) fn read(text: &str) -> Option<Row> {
        let raw: RawRow<'_> = serde_json::from_str(text).ok()?;
        let kind = string(raw.kind)?;
        Some(Row {
            unix_ms: string(raw.timestamp)
                .and_then(|stamp| stamp.parse::<jiff::Timestamp>().ok())
                .map(jiff::Timestamp::as_millisecond),
            sidechain: is_true(raw.is_sidechain),
            body: raw.body(&kind),
        })
    }
}

impl RawRow<'_> {
    fn body(&self, kind: &str) -> Body {
        match kind {
            "assistant" => Body::Assistant(Box::new(self.assistant())),
            "user" => Body::User(self.user()),
            "system" => self.system(),
            "queue-operation" => match string(self.operation).as_deref() {
                Some("enqueue") => queued(self.content).map_or(Body::Quiet, Body::Enqueued),
                _ => Body::Quiet,
            },
            "attachment" => self.attachment(),
            "cost-state" => Body::CostState(self.cost_state()),
            "continued-in" => {
                let other = string(self.continued_in).or_else(|| string(self.session_id));
                other.map_or(Body::Quiet, Body::ContinuedIn)
            }
            _ if QUIET_TYPES.contains(&kind) => Body::Quiet,
            _ => Body::Unknown,
        }
    }

    fn assistant(&self) -> Assistant {
        let mut row = Assistant {
            request_id: string(self.request_id),
            request_ref: string(self.request_ref),
            requested_model: string(self.requested_model).filter(|model| !model.is_empty()),
            block: number(self.api_block_index).unwrap_or(0),
            ..Assistant::default()
        };
        if is_true(self.is_api_error_message) {
            row.api_error = Some(ApiError {
                error: string(self.error).unwrap_or_else(|| "unknown".into()),
                status: number(self.api_error_status).and_then(|code| u16::try_from(code).ok()),
            });
        }
        let Some(message) = object::<RawMessage<'_>>(self.message) else {
            return row;
        };
        row.message_id = string(message.id);
        row.model = string(message.model).unwrap_or_default();
        row.usage = message.usage.and_then(Usage::read);
        row.finished = string(message.stop_reason).is_some();
        for block in blocks(message.content) {
            row.take_block(&block);
        }
        row
    }

    fn user(&self) -> User {
        let mut row = User::default();
        let Some(message) = object::<RawMessage<'_>>(self.message) else {
            return row;
        };
        let mut texts = Vec::new();
        if let Some(text) = string(message.content) {
            texts.push(text);
        }
        for block in blocks(message.content) {
            match string(block.kind).as_deref() {
                Some("text") => texts.extend(string(block.text)),
                Some("tool_result") => {
                    row.results
                        .extend(string(block.tool_use_id).map(|id| (id, is_true(block.is_error))));
                }
                _ => {}
            }
        }
        row.interrupted = texts
            .iter()
            .any(|text| text.starts_with("[Request interrupted by user"));
        let typed = object::<Origin<'_>>(self.origin)
            .and_then(|origin| string(origin.kind))
            .is_none_or(|kind| kind == "human");
        let echo = texts
            .first()
            .is_some_and(|text| text.starts_with("<local-command-"));
        let sent_by_cli =
            echo || !typed || is_true(self.is_meta) || is_true(self.is_compact_summary);
        if !texts.is_empty() && !row.interrupted && row.results.is_empty() && !sent_by_cli {
            row.prompt = Some(prompt_text(texts.join("\n")));
        }
        row
    }

    fn system(&self) -> Body {
        match string(self.subtype).as_deref() {
            Some("turn_duration") => Body::TurnDuration {
                background_agents: number(self.pending_background_agent_count).unwrap_or(0),
            },
            Some("compact_boundary") => {
                let meta = object::<CompactMetadata<'_>>(self.compact_metadata);
                let of =
                    |pick: fn(&CompactMetadata<'_>) -> Option<u64>| meta.as_ref().and_then(pick);
                Body::CompactBoundary {
                    trigger: meta
                        .as_ref()
                        .and_then(|m| string(m.trigger))
                        .unwrap_or_default(),
                    pre_tokens: of(|meta| number(meta.pre_tokens)),
                    post_tokens: of(|meta| number(meta.post_tokens)),
                }
            }
            _ => Body::Quiet,
        }
    }

    fn attachment(&self) -> Body {
        #[derive(Deserialize)]
        struct Attachment<'a> {
            #[serde(borrow, rename = "type")]
            kind: Raw<'a>,
            #[serde(borrow)]
            prompt: Raw<'a>,
        }
        match object::<Attachment<'_>>(self.attachment) {
            Some(attachment) if string(attachment.kind).as_deref() == Some("queued_command") => {
                queued(attachment.prompt).map_or(Body::Quiet, Body::QueuedCommand)
            }
            _ => Body::Quiet,
        }
    }

    fn cost_state(&self) -> CostState {
        let mut models: Vec<ModelBill> =
            object::<std::collections::BTreeMap<String, RawBill<'_>>>(self.model_usage)
                .unwrap_or_default()
                .into_iter()
                .map(|(model, bill)| ModelBill {
                    model,
                    input: number(bill.input_tokens).unwrap_or(0),
                    output: number(bill.output_tokens).unwrap_or(0),
                    cache_read: number(bill.cache_read_input_tokens).unwrap_or(0),
                    cache_write: number(bill.cache_creation_input_tokens).unwrap_or(0),
                    cost_usd: dollars(bill.cost_usd),
                })
                .collect();
        models.sort_by(|a, b| a.model.cmp(&b.model));
        CostState {
            total_cost_usd: dollars(self.total_cost_usd),
            models,
            has_unknown_model_cost: is_true(self.has_unknown_model_cost),
        }
    }
}

#[derive(Deserialize)]
struct Origin<'a> {
    #[serde(borrow)]
    kind: Raw<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CompactMetadata<'a> {
    #[serde(borrow)]
    trigger: Raw<'a>,
    #[serde(borrow)]
    pre_tokens: Raw<'a>,
    #[serde(borrow)]
    post_tokens: Raw<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBill<'a> {
    #[serde(borrow)]
    input_tokens: Raw<'a>,
    #[serde(borrow)]
    output_tokens: Raw<'a>,
    #[serde(borrow)]
    cache_read_input_tokens: Raw<'a>,
    #[serde(borrow)]
    cache_creation_input_tokens: Raw<'a>,
    #[serde(borrow, rename = "costUSD")]
    cost_usd: Raw<'a>,
}

impl Assistant {
    fn take_block(&mut self, block: &RawBlock<'_>) {
        match string(block.kind).as_deref() {
            Some("text") => {
                let text = string(block.text).unwrap_or_default();
                self.visible_chars += text.encode_utf16().count() as u64;
                if !self.text.is_empty() {
                    self.text.push('\n');
                }
                self.text.push_str(&text);
                truncate(&mut self.text, MAX_ASSISTANT_TEXT_BYTES);
            }
            Some("tool_use") => {
                let name = string(block.name).unwrap_or_default();
                let input_chars = block
                    .input
                    .map_or(0, |raw| raw.get().encode_utf16().count());
                self.visible_chars += (name.encode_utf16().count() + input_chars) as u64;
                self.tools.push(ToolCall::read(block, name));
            }
            _ => {}
        }
    }
}

impl ToolCall {
    fn read(block: &RawBlock<'_>, name: String) -> ToolCall {
        let input = object::<RawInput<'_>>(block.input);
        let field = |pick: fn(&RawInput<'_>) -> Option<String>| input.as_ref().and_then(pick);
        let file = field(|i| string(i.file_path).or_else(|| string(i.notebook_path)));
        let detail = field(|i| {
            [
                i.file_path,
                i.notebook_path,
                i.description,
                i.command,
                i.pattern,
                i.path,
            ]
            .into_iter()
            .chain([i.url, i.query, i.skill, i.prompt])
            .find_map(|raw| string(raw).filter(|text| !text.trim().is_empty()))
        });
        let summary = match detail {
            Some(detail) => one_line(&format!("{name}: {detail}")),
            None => one_line(&name),
        };
        let changes_files = matches!(
            name.as_str(),
            "Write" | "Edit" | "MultiEdit" | "NotebookEdit"
        );
        ToolCall {
            id: string(block.id).unwrap_or_default(),
            name,
            summary,
            file,
            changes_files,
        }
    }
}

impl Usage {
    fn read(raw: &RawValue) -> Option<Usage> {
        let raw: RawUsage<'_> = object(Some(raw))?;
        let mut usage = Usage::from_counts(&raw);
        for iteration in array(raw.iterations) {
            let Some(part) = object::<RawUsage<'_>>(Some(iteration)) else {
                continue;
            };
            let advisor = string(part.kind).as_deref() == Some("advisor_message");
            if let Some(model) = string(part.model).filter(|_| advisor) {
                let counts = Usage::from_counts(&part);
                usage.bad_numbers += counts.bad_numbers;
                usage.advisors.push((model, counts));
            }
        }
        Some(usage)
    }

    fn from_counts(raw: &RawUsage<'_>) -> Usage {
        #[derive(Deserialize)]
        struct Split<'a> {
            #[serde(borrow)]
            ephemeral_1h_input_tokens: Raw<'a>,
        }
        #[derive(Deserialize)]
        struct ServerTools<'a> {
            #[serde(borrow)]
            web_search_requests: Raw<'a>,
        }
        let mut bad_numbers = 0;
        let mut count = |raw: Raw<'_>| {
            number(raw).unwrap_or_else(|| {
                bad_numbers += u64::from(raw.is_some());
                0
            })
        };
        let long = object::<Split<'_>>(raw.cache_creation);
        let tools = object::<ServerTools<'_>>(raw.server_tool_use);
        let mut usage = Usage {
            input: count(raw.input_tokens),
            output: count(raw.output_tokens),
            cache_write: count(raw.cache_creation_input_tokens),
            cache_write_1h: count(long.and_then(|split| split.ephemeral_1h_input_tokens)),
            cache_read: count(raw.cache_read_input_tokens),
            web_searches: count(tools.and_then(|tools| tools.web_search_requests)),
            fast: string(raw.speed).as_deref() == Some("fast"),
            us_inference: string(raw.inference_geo).as_deref() == Some("us"),
            ..Usage::default()
        };
        usage.bad_numbers = bad_numbers;
        usage
    }
}

/// Text out of the queue; what subagents report there is not a prompt.
fn queued(raw: Raw<'_>) -> Option<String> {
    let text = string(raw).or_else(|| {
        let texts: Vec<String> = blocks(raw).iter().filter_map(|b| string(b.text)).collect();
        (!texts.is_empty()).then(|| texts.join("\n"))
    })?;
    (!text.starts_with("<task-notification>")).then(|| prompt_text(text))
}

/// The prompt as it was typed: a slash command is spelled out in tags, and
/// long text arrives wrapped as pasted content.
fn prompt_text(text: String) -> String {
    if let Some(command) = slash_command(&text) {
        return command;
    }
    const OPEN: &str = "<pasted_content";
    const CLOSE: &str = "</pasted_content";
    let mut typed = String::new();
    let mut rest = text.as_str();
    while let Some((before, tagged)) = rest.split_once(OPEN) {
        // Both tags carry an id: `<pasted_content id="5b27">`.
        let Some((_, tagged)) = tagged.split_once('>') else {
            break;
        };
        let Some((pasted, behind)) = tagged.split_once(CLOSE) else {
            break;
        };
        let Some((_, behind)) = behind.split_once('>') else {
            break;
        };
        typed.push_str(before.trim_end_matches('\n'));
        typed.push_str(pasted.trim_matches('\n'));
        rest = behind.trim_start_matches('\n');
    }
    let mut typed = if typed.is_empty() { text } else { typed + rest };
    truncate(&mut typed, MAX_PROMPT_BYTES);
    typed
}

fn slash_command(text: &str) -> Option<String> {
    let tagged = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>"))
            .map(|(inner, _)| inner.trim())
    };
    let starts = text.starts_with("<command-message>") || text.starts_with("<command-name>");
    let name = tagged("command-name").filter(|_| starts)?;
    let mut command = match tagged("command-args").filter(|args| !args.is_empty()) {
        Some(args) => format!("{name} {args}"),
        None => name.to_owned(),
    };
    truncate(&mut command, MAX_PROMPT_BYTES);
    Some(command)
}

/// One line without control characters, at most [`MAX_SUMMARY_CHARS`] long.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_SUMMARY_CHARS) {
        None => line,
        Some(_) => line
            .chars()
            .take(MAX_SUMMARY_CHARS - 1)
            .chain(['…'])
            .collect(),
    }
}

fn truncate(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes));
        text.shrink_to_fit();
    }
}

fn object<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

fn array<'a>(raw: Raw<'a>) -> Vec<&'a RawValue> {
    object(raw).unwrap_or_default()
}

fn blocks<'a>(raw: Raw<'a>) -> Vec<RawBlock<'a>> {
    if raw.is_none_or(|raw| !raw.get().starts_with('[')) {
        return Vec::new();
    }
    array(raw)
        .into_iter()
        .filter_map(|block| object(Some(block)))
        .collect()
}

fn is_true(raw: Raw<'_>) -> bool {
    raw.is_some_and(|raw| raw.get() == "true")
}

/// A count: whole, not negative, within reason. JSON has no NaN; fractions are
/// cut off.
fn number(raw: Raw<'_>) -> Option<u64> {
    let text = raw?.get();
    let value: f64 = match text.parse::<u64>() {
        Ok(whole) if (whole as f64) <= MAX_COUNT => return Some(whole),
        _ => text.parse().ok()?,
    };
    (0.0..=MAX_COUNT).contains(&value).then_some(value as u64)
}

fn dollars(raw: Raw<'_>) -> f64 {
    raw.and_then(|raw| raw.get().parse::<f64>().ok())
        .filter(|usd| usd.is_finite())
        .unwrap_or(0.0)
}

/// A JSON string, even with unpaired surrogates, which JavaScript writes when
/// it cuts text in the middle of a character.
fn string(raw: Raw<'_>) -> Option<String> {
    struct Lossy;
    impl Visitor<'_> for Lossy {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<String, E> {
            Ok(String::from_utf8_lossy(bytes).into_owned())
        }
    }
    let text = raw?.get();
    if !text.starts_with('"') {
        return None;
    }
    serde_json::Deserializer::from_str(text)
        .deserialize_bytes(Lossy)
        .ok()
}
