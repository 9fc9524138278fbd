//! Reads a row field by field.
//!
//! The format is internal to Claude Code and changes with every release, so
//! nothing in it is relied on: what is not asked for is skipped without a
//! copy, and what is not as expected is left out.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::json::{Raw, array, dollars, even_null, fields, is_true, number, object, string, word};
use super::record::{
    ApiError, Assistant, Body, CostState, MAX_ASSISTANT_TEXT_BYTES, ModelBill, QuotaLimit, Row,
    ToolCall, Usage, User,
};
use super::wording::{one_line, prompt_text, truncate};

/// Row types that are known and say nothing to longhaul.
const QUIET_TYPES: &[&str] = &[
    "agent-color",
    "agent-name",
    "agent-setting",
    "ai-title",
    "api-request",
    "api-request-blob",
    "api-request-resumed",
    "api-request-shape",
    "artifact-autoreact-ledger",
    "artifact-comment-monitor",
    "atis-latch",
    "attribution-snapshot",
    "bridge-session",
    "content-replacement",
    "custom-title",
    "data-flow-incomplete",
    "data-flow-records",
    "derived-from",
    "dev-mods",
    "ended-by-model",
    "file-history-delta",
    "file-history-snapshot",
    "fork-context-ref",
    "frame-link",
    "history-suppression",
    "hybrid-organization",
    "isolation-latch",
    "last-prompt",
    "memory-mode",
    "mode",
    "observer-ref",
    "permission-mode",
    "pr-link",
    "progress",
    "relocated",
    "repl-mode",
    "resume-head-vouch",
    "session-owner",
    "summary",
    "tag",
    "tools-used",
    "worktree-state",
];

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
    session_id: Raw<'a>,
    #[serde(borrow)]
    request_session_id: Raw<'a>,
    #[serde(borrow)]
    forked_from: Raw<'a>,
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
    api_error: Raw<'a>,
    #[serde(borrow)]
    quota_limits: Raw<'a>,
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
    continued_in_session_id: Raw<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawQuota<'a> {
    #[serde(borrow)]
    resets_at: Raw<'a>,
    #[serde(borrow)]
    rate_limit_type: Raw<'a>,
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
    #[serde(borrow, default, deserialize_with = "even_null")]
    stop_reason: Raw<'a>,
}

#[derive(Deserialize)]
struct RawBlock<'a> {
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(borrow)]
    thinking: Raw<'a>,
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
        let raw: RawRow<'_> = fields(text)?;
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
                string(self.continued_in_session_id).map_or(Body::Quiet, Body::ContinuedIn)
            }
            _ if QUIET_TYPES.contains(&kind) => Body::Quiet,
            _ => Body::Unknown,
        }
    }

    fn assistant(&self) -> Assistant {
        let mut row = Assistant {
            request_id: word(self.request_id),
            request_ref: word(self.request_ref),
            is_copy: self.is_copy(),
            requested_model: word(self.requested_model),
            block: number(self.api_block_index).unwrap_or(0),
            ..Assistant::default()
        };
        if is_true(self.is_api_error_message) {
            row.api_error = Some(ApiError {
                error: string(self.error).unwrap_or_else(|| "unknown".into()),
                status: number(self.api_error_status).and_then(|code| u16::try_from(code).ok()),
                limit: self.quota_limit(),
            });
        }
        let Some(message) = object::<RawMessage<'_>>(self.message) else {
            return row;
        };
        row.message_id = word(message.id);
        row.model = string(message.model).unwrap_or_default();
        row.usage = message.usage.and_then(Usage::read);
        let stop_reason = string(message.stop_reason);
        row.ends_turn =
            stop_reason.as_ref().is_some_and(|why| why != "tool_use" && why != "pause_turn");
        // Null says that it was cut off; rows without the field do not know.
        row.finished = stop_reason.is_some() || message.stop_reason.is_none();
        for block in blocks(message.content) {
            row.take_block(&block);
        }
        row
    }

    /// Whose the request was, as the CLI itself looks it up.
    fn is_copy(&self) -> bool {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Origin<'a> {
            #[serde(borrow)]
            session_id: Raw<'a>,
        }
        let origin = || object::<Origin<'_>>(self.forked_from).and_then(|o| string(o.session_id));
        let of = string(self.request_session_id).or_else(origin);
        of.is_some_and(|of| Some(of) != string(self.session_id))
    }

    /// `quotaLimits` holds the reset; older and odd rows only the word.
    fn quota_limit(&self) -> Option<QuotaLimit> {
        let quota = object::<RawQuota<'_>>(self.quota_limits);
        if quota.is_none() && string(self.api_error).as_deref() != Some("usage_limit_reached") {
            return None;
        }
        let which = quota.as_ref().and_then(|q| string(q.rate_limit_type));
        let resets_at_s = quota.and_then(|q| number(q.resets_at));
        Some(QuotaLimit {
            which: which.map_or_else(|| "usage_limit".into(), |which| one_line(&which)),
            resets_at_s: resets_at_s.and_then(|s| i64::try_from(s).ok()),
        })
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
        row.interrupted = texts.iter().any(|text| text.starts_with("[Request interrupted by user"));
        let typed = object::<Origin<'_>>(self.origin)
            .and_then(|origin| string(origin.kind))
            .is_none_or(|kind| kind == "human");
        let echo = texts.first().is_some_and(|text| text.starts_with("<local-command-"));
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
                    trigger: meta.as_ref().and_then(|m| string(m.trigger)).unwrap_or_default(),
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
        let mut models: Vec<ModelBill> = object::<BTreeMap<String, RawBill<'_>>>(self.model_usage)
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
            Some("thinking") => {
                let thinking = string(block.thinking).unwrap_or_default();
                self.visible_chars += thinking.encode_utf16().count() as u64;
            }
            Some("tool_use") => {
                let name = string(block.name).unwrap_or_default();
                let input_chars = block.input.map_or(0, |raw| raw.get().encode_utf16().count());
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
            [i.file_path, i.notebook_path, i.description, i.command, i.pattern, i.path]
                .into_iter()
                .chain([i.url, i.query, i.skill, i.prompt])
                .find_map(|raw| string(raw).filter(|text| !text.trim().is_empty()))
        });
        let summary = match detail {
            Some(detail) => one_line(&format!("{name}: {detail}")),
            None => one_line(&name),
        };
        let changes_files =
            matches!(name.as_str(), "Write" | "Edit" | "MultiEdit" | "NotebookEdit");
        ToolCall { id: string(block.id).unwrap_or_default(), name, summary, file, changes_files }
    }
}

impl Usage {
    fn read(raw: &serde_json::value::RawValue) -> Option<Usage> {
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
            #[serde(borrow)]
            ephemeral_5m_input_tokens: Raw<'a>,
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
        let split = object::<Split<'_>>(raw.cache_creation);
        let tools = object::<ServerTools<'_>>(raw.server_tool_use);
        let mut usage = Usage {
            input: count(raw.input_tokens),
            output: count(raw.output_tokens),
            cache_write: count(raw.cache_creation_input_tokens),
            cache_write_1h: count(split.as_ref().and_then(|split| split.ephemeral_1h_input_tokens)),
            cache_read: count(raw.cache_read_input_tokens),
            web_searches: count(tools.and_then(|tools| tools.web_search_requests)),
            fast: string(raw.speed).as_deref() == Some("fast"),
            us_inference: string(raw.inference_geo).as_deref() == Some("us"),
            ..Usage::default()
        };
        let short = count(split.and_then(|split| split.ephemeral_5m_input_tokens));
        if usage.cache_write == 0 {
            // The sum may be left out where its parts are told.
            usage.cache_write = short.saturating_add(usage.cache_write_1h);
        }
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

fn blocks<'a>(raw: Raw<'a>) -> Vec<RawBlock<'a>> {
    if raw.is_none_or(|raw| !raw.get().starts_with('[')) {
        return Vec::new();
    }
    array(raw).into_iter().filter_map(|block| object(Some(block))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::record::MAX_SUMMARY_CHARS;
    use super::*;

    fn body(text: &str) -> Body {
        Row::read(text).unwrap().body
    }

    fn call(name: &str, input: &str) -> ToolCall {
        let row = format!(
            r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","id":"t","name":"{name}","input":{input}}}]}}}}"#
        );
        let Body::Assistant(mut reply) = body(&row) else { panic!("{row}") };
        reply.tools.remove(0)
    }

    #[test]
    fn a_tool_call_fits_one_plain_line() {
        let cases = [
            ("Bash", r#"{"command":"ls","description":"List"}"#, "Bash: List"),
            ("Bash", r#"{"command":"a\n\tb\u001b[31m  c"}"#, "Bash: a b [31m c"),
            ("Write", r#"{"file_path":"/p/a.rs","content":"x"}"#, "Write: /p/a.rs"),
            ("Grep", r#"{"pattern":"foo","path":"/p"}"#, "Grep: foo"),
            ("TaskList", "{}", "TaskList"),
            ("Odd", "7", "Odd"),
        ];
        for (name, input, summary) in cases {
            assert_eq!(call(name, input).summary, summary);
        }
        let long = call("Bash", &format!(r#"{{"command":"{}"}}"#, "ä".repeat(500))).summary;
        assert_eq!(long.chars().count(), MAX_SUMMARY_CHARS);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn tools_that_change_files_name_them() {
        for (name, field) in
            [("Write", "file_path"), ("Edit", "file_path"), ("NotebookEdit", "notebook_path")]
        {
            let call = call(name, &format!(r#"{{"{field}":"/p/a"}}"#));
            assert!(call.changes_files, "{name}");
            assert_eq!(call.file.as_deref(), Some("/p/a"), "{name}");
        }
        let read = call("Read", r#"{"file_path":"/p/a"}"#);
        assert_eq!((read.changes_files, read.file.as_deref()), (false, Some("/p/a")));
    }

    #[test]
    fn only_what_was_typed_is_a_prompt() {
        let prompt = |fields: &str, content: &str| {
            let row = format!(r#"{{"type":"user",{fields}"message":{{"content":{content}}}}}"#);
            let Body::User(user) = body(&row) else { panic!("{row}") };
            user.prompt
        };
        let text =
            r#"[{"type":"text","text":"one"},{"type":"image"},{"type":"text","text":"two"}]"#;
        assert_eq!(prompt("", text).as_deref(), Some("one\ntwo"));
        assert_eq!(prompt(r#""origin":{"kind":"human"},"#, r#""x""#).as_deref(), Some("x"));
        assert_eq!(prompt(r#""origin":{"kind":"task-notification"},"#, r#""x""#), None);
        assert_eq!(prompt(r#""isMeta":true,"#, r#""x""#), None);
        assert_eq!(prompt(r#""isCompactSummary":true,"#, r#""x""#), None);
        assert_eq!(prompt("", r#""<local-command-stdout>x</local-command-stdout>""#), None);
        assert_eq!(prompt("", r#"[{"type":"tool_result","tool_use_id":"t"}]"#), None);
        assert_eq!(prompt("", r#"[{"type":"text","text":"[Request interrupted by user]"}]"#), None);
    }

    #[test]
    fn prompts_are_given_as_they_were_typed() {
        let typed = |text: &str| prompt_text(text.to_owned());
        assert_eq!(
            typed("see\n\n<pasted_content id=\"5b27\">\na\nb\n</pasted_content id=\"5b27\">\n!"),
            "seea\nb!"
        );
        assert_eq!(typed("a <pasted_content id=\"1\"> b"), "a <pasted_content id=\"1\"> b");
        assert_eq!(
            typed(
                "<command-name>/x</command-name>\n<command-message>x</command-message>\n<command-args>1 2</command-args>"
            ),
            "/x 1 2"
        );
        let quoted = "what is <command-name>/x</command-name>?";
        assert_eq!(typed(quoted), quoted);
    }

    #[test]
    fn a_conversation_that_moves_says_where() {
        let row = r#"{"type":"continued-in","timestamp":"2026-11-20T10:00:00.000Z","sessionId":"a","continuedInSessionId":"b"}"#;
        assert_eq!(body(row), Body::ContinuedIn("b".into()));
    }

    #[test]
    fn the_queue_tells_prompts_from_reports_of_subagents() {
        let queued = |content: &str| {
            body(&format!(
                r#"{{"type":"queue-operation","operation":"enqueue","content":{content}}}"#
            ))
        };
        assert_eq!(queued(r#""hi""#), Body::Enqueued("hi".into()));
        assert_eq!(queued(r#"[{"type":"text","text":"hi"}]"#), Body::Enqueued("hi".into()));
        assert_eq!(queued(r#""<task-notification>x""#), Body::Quiet);
    }
}
