//! What the CLI sent, read tolerantly: who asks (session, main or side), and
//! what is new since the last answer.
//!
//! The shapes differ by model. Older models get Claude Code's own remarks as
//! `<system-reminder>` blocks in user messages, and a message typed in the
//! middle of a turn inside the tool result's text; newer ones get remarks as
//! messages with the role `system`, and such a message as a text block after
//! the tool result. Both are brought to one form here.

use serde_json::Value;

use crate::clock::Timestamp;

/// Claude Code puts this before a message that was typed while a turn ran.
const QUEUED_PREFIX: &str = "The user sent a new message while you were working:\n";
/// … and this after it.
const QUEUED_SUFFIX: &str = "\n\nThis is how Claude Code surfaces";

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The person, or a tool's result.
    User,
    /// The model.
    Assistant,
    /// Claude Code's own remarks.
    System,
}

/// A tool call in the conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolUse {
    /// The call's id, which its result names.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its input.
    pub input: Value,
}

/// A tool's result in the conversation, without Claude Code's remarks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// The id of the call.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Whether the tool failed or was refused.
    pub is_error: bool,
}

/// One message of the conversation, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// Texts, without Claude Code's remarks; a message that was queued while
    /// a turn ran stands here without its wrapper.
    pub texts: Vec<String>,
    /// Tool calls (assistant).
    pub tool_uses: Vec<ToolUse>,
    /// Tool results (user).
    pub tool_results: Vec<ToolResult>,
}

impl Turn {
    /// Whether the person says something in it.
    pub fn is_said(&self) -> bool {
        self.role != Role::Assistant && !self.texts.is_empty()
    }
}

/// One `POST /v1/messages`.
#[derive(Debug, Clone)]
pub struct Request {
    /// The CLI's session id; empty if it named none.
    pub session_id: String,
    /// The model asked for.
    pub model: String,
    /// A request without tools, beside the conversation (a title, say).
    pub side: bool,
    /// Number of the request within its session, from 0, counted apart for
    /// side requests. A retry counts.
    pub index_in_session: u32,
    /// Order of the session's first appearance, from 0.
    pub session_index: u32,
    /// What the person said since the last answer, joined by blank lines.
    pub new_user_text: String,
    /// Whether some of it was queued while a turn ran.
    pub queued: bool,
    /// Tool results since the last answer.
    pub tool_results: Vec<ToolResult>,
    /// The whole conversation.
    pub turns: Vec<Turn>,
    /// When it came.
    pub at: Timestamp,
    /// The body as sent.
    pub body: Value,
}

impl Request {
    /// Reads a body; the two indexes are filled in by the log.
    pub(in crate::demo) fn parse(session_header: Option<&str>, body: Value) -> Self {
        let session_id = match session_header {
            Some(id) => id.to_owned(),
            None => session_of_metadata(&body).unwrap_or_default(),
        };
        let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
        let mut queued = Vec::with_capacity(messages.len());
        let mut turns = Vec::with_capacity(messages.len());
        for message in messages {
            let (turn, had_queued) = read_message(message);
            turns.push(turn);
            queued.push(had_queued);
        }
        let new = turns.iter().rposition(|t| t.role == Role::Assistant).map_or(0, |last| last + 1);
        let new_user_text = turns[new..]
            .iter()
            .flat_map(|turn| turn.texts.iter())
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n\n");
        Self {
            session_id,
            model: body["model"].as_str().unwrap_or_default().to_owned(),
            side: body["tools"].as_array().is_none_or(Vec::is_empty),
            index_in_session: 0,
            session_index: 0,
            new_user_text,
            queued: queued[new..].iter().any(|q| *q),
            tool_results: turns[new..].iter().flat_map(|turn| turn.tool_results.clone()).collect(),
            turns,
            at: Timestamp::now(),
            body,
        }
    }

    /// All tool calls of the conversation with their results, oldest first.
    pub fn finished_tools(&self) -> Vec<(&ToolUse, &ToolResult)> {
        let results: Vec<&ToolResult> = self.turns.iter().flat_map(|t| &t.tool_results).collect();
        self.turns
            .iter()
            .flat_map(|t| &t.tool_uses)
            .filter_map(|call| results.iter().find(|r| r.id == call.id).map(|r| (call, *r)))
            .collect()
    }
}

fn session_of_metadata(body: &Value) -> Option<String> {
    let user: Value = serde_json::from_str(body["metadata"]["user_id"].as_str()?).ok()?;
    user["session_id"].as_str().map(str::to_owned)
}

fn read_message(message: &Value) -> (Turn, bool) {
    let role = match message["role"].as_str() {
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => Role::User,
    };
    let mut turn =
        Turn { role, texts: Vec::new(), tool_uses: Vec::new(), tool_results: Vec::new() };
    let mut queued = false;
    match &message["content"] {
        Value::String(text) => queued |= take_text(&mut turn, text),
        Value::Array(blocks) => {
            for block in blocks {
                queued |= read_block(&mut turn, block);
            }
        }
        _ => {}
    }
    (turn, queued)
}

fn read_block(turn: &mut Turn, block: &Value) -> bool {
    match block["type"].as_str() {
        Some("text") => take_text(turn, block["text"].as_str().unwrap_or_default()),
        Some("tool_use") => {
            turn.tool_uses.push(ToolUse {
                id: block["id"].as_str().unwrap_or_default().to_owned(),
                name: block["name"].as_str().unwrap_or_default().to_owned(),
                input: block["input"].clone(),
            });
            false
        }
        Some("tool_result") => {
            let (text, remarks) = split_reminders(&result_text(&block["content"]));
            turn.tool_results.push(ToolResult {
                id: block["tool_use_id"].as_str().unwrap_or_default().to_owned(),
                text,
                is_error: block["is_error"].as_bool().unwrap_or(false),
            });
            take_queued(turn, &remarks)
        }
        _ => false,
    }
}

fn result_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            blocks.iter().filter_map(|b| b["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// Adds what a person said in `text` to the turn; true if it was queued.
fn take_text(turn: &mut Turn, text: &str) -> bool {
    let (said, mut remarks) = split_reminders(text);
    if turn.role == Role::Assistant {
        turn.texts.push(text.to_owned());
        return false;
    }
    if turn.role == Role::System || said.starts_with(QUEUED_PREFIX) {
        remarks.push(said);
    } else if !said.is_empty() {
        turn.texts.push(said);
    }
    take_queued(turn, &remarks)
}

fn take_queued(turn: &mut Turn, remarks: &[String]) -> bool {
    let mut found = false;
    for remark in remarks {
        let Some((_, rest)) = remark.split_once(QUEUED_PREFIX) else { continue };
        let said = rest.split_once(QUEUED_SUFFIX).map_or(rest, |(said, _)| said);
        turn.texts.push(said.trim().to_owned());
        found = true;
    }
    found
}

/// Separates a text from the `<system-reminder>` blocks in it.
fn split_reminders(text: &str) -> (String, Vec<String>) {
    const OPEN: &str = "<system-reminder>";
    const CLOSE: &str = "</system-reminder>";
    let mut said = String::new();
    let mut remarks = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let Some((remark, after)) = after.split_once(CLOSE) else { break };
        said.push_str(before);
        remarks.push(remark.trim().to_owned());
        rest = after;
    }
    said.push_str(rest);
    (said.trim().to_owned(), remarks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const WRAPPED: &str = "The user sent a new message while you were working:\nCHECKPOINT: now\n\nThis is how Claude Code surfaces messages the user sends mid-turn.";

    fn request(messages: Value) -> Request {
        let body = json!({ "model": "claude-haiku-4-5", "tools": [{ "name": "Bash" }], "messages": messages });
        Request::parse(Some("s-1"), body)
    }

    fn after_a_tool_call(last: Value) -> Request {
        let call =
            json!({ "type": "tool_use", "id": "t1", "name": "Bash", "input": { "command": "ls" } });
        request(json!([
            { "role": "user", "content": [{ "type": "text", "text": "go" }] },
            { "role": "assistant", "content": [call] },
            { "role": "user", "content": last },
        ]))
    }

    #[test]
    fn a_message_queued_in_a_tool_result_is_told_from_the_result() {
        let content = format!(
            "a.txt\n\n<system-reminder>\n{WRAPPED}\n</system-reminder>\n\n<system-reminder>\n<total_tokens>1</total_tokens>\n</system-reminder>"
        );
        let got = after_a_tool_call(
            json!([{ "type": "tool_result", "tool_use_id": "t1", "content": content }]),
        );
        assert_eq!(got.new_user_text, "CHECKPOINT: now");
        assert!(got.queued);
        assert_eq!(
            got.tool_results,
            [ToolResult { id: "t1".into(), text: "a.txt".into(), is_error: false }]
        );
        assert_eq!(got.finished_tools()[0].0.input["command"], "ls");
    }

    #[test]
    fn a_message_queued_beside_a_tool_result_is_unwrapped() {
        let got = after_a_tool_call(json!([
            { "type": "tool_result", "tool_use_id": "t1", "content": [{ "type": "text", "text": "a.txt" }], "is_error": true },
            { "type": "text", "text": WRAPPED },
        ]));
        assert_eq!(got.new_user_text, "CHECKPOINT: now");
        assert!(got.queued && got.tool_results[0].is_error);
    }

    #[test]
    fn remarks_are_not_what_the_person_said() {
        let got = request(json!([
            { "role": "user", "content": [
                { "type": "text", "text": "<system-reminder>\nbe good\n</system-reminder>" },
                { "type": "text", "text": "start now" } ] },
            { "role": "system", "content": "# Environment" },
        ]));
        assert_eq!(got.new_user_text, "start now");
        assert!(!got.queued && !got.side);
    }

    #[test]
    fn the_session_comes_from_metadata_when_no_header_names_it() {
        let body = json!({ "model": "m", "messages": [], "metadata": { "user_id": "{\"session_id\":\"s-2\"}" } });
        let got = Request::parse(None, body);
        assert_eq!(got.session_id, "s-2");
        assert!(got.side);
    }
}
