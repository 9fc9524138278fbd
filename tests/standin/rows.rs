//! The transcript, in rows of the shapes the real CLI writes: see
//! `tests/data/transcripts/`. Each row is one write.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use uuid::Uuid;

/// The release whose rows these are.
pub const VERSION: &str = "2.1.329";

/// What a reply used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub input: u64,
    pub cache_write: u64,
    pub cache_read: u64,
    pub output: u64,
}

impl Usage {
    /// A reply in a context of so many tokens, of which `fresh` are new.
    pub fn of_context(tokens: u64, fresh: u64, output: u64) -> Self {
        let input = tokens.min(10);
        let cache_write = fresh.min(tokens) - input;
        Self { input, cache_write, cache_read: tokens - input - cache_write, output }
    }

    fn json(&self, output: u64) -> Value {
        json!({
            "input_tokens": self.input,
            "cache_creation_input_tokens": self.cache_write,
            "cache_read_input_tokens": self.cache_read,
            "output_tokens": output,
            "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
            "service_tier": "standard",
            "cache_creation": {
                "ephemeral_1h_input_tokens": 0,
                "ephemeral_5m_input_tokens": self.cache_write,
            },
            "inference_geo": "", "iterations": [], "speed": "standard",
        })
    }

    fn add(&mut self, other: &Usage) {
        self.input += other.input;
        self.cache_write += other.cache_write;
        self.cache_read += other.cache_read;
        self.output += other.output;
    }

    /// At the list prices of claude-haiku-4-5.
    fn cost_usd(&self) -> f64 {
        let millionths = self.input as f64
            + self.cache_write as f64 * 1.25
            + self.cache_read as f64 * 0.1
            + self.output as f64 * 5.0;
        millionths / 1e6
    }
}

/// One session's record.
pub struct Transcript {
    path: PathBuf,
    file: Option<File>,
    session: String,
    cwd: String,
    model: String,
    /// The row before.
    parent: Option<Uuid>,
    replies: u64,
    /// What the CLI will bill.
    total: Usage,
}

impl Transcript {
    pub fn new(config_dir: &Path, cwd: &Path, session: &str, model: &str) -> Self {
        let cwd = cwd.to_string_lossy().into_owned();
        let slug: String =
            cwd.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = config_dir.join("projects").join(slug).join(format!("{session}.jsonl"));
        Self {
            path,
            file: None,
            session: session.to_owned(),
            cwd,
            model: model.to_owned(),
            parent: None,
            replies: 0,
            total: Usage::default(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replies so far, those of subagents included.
    pub fn replies(&self) -> u64 {
        self.replies
    }

    pub fn cost_usd(&self) -> f64 {
        self.total.cost_usd()
    }

    /// Any bytes, as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        let path = &self.path;
        let file = self.file.get_or_insert_with(|| {
            fs::create_dir_all(path.parent().expect("a folder")).expect("the transcript's folder");
            File::options().append(true).create(true).open(path).expect("the transcript")
        });
        file.write_all(bytes).expect("the transcript");
    }

    /// A row that is no part of the conversation.
    pub fn quiet(&mut self, kind: &str, fields: Value) {
        let line = self.quiet_line(kind, &fields);
        self.raw((line + "\n").as_bytes());
    }

    fn quiet_line(&self, kind: &str, fields: &Value) -> String {
        format!("{{\"type\":\"{kind}\",{}\"sessionId\":\"{}\"}}", inside(fields), self.session)
    }

    /// A row of the conversation.
    pub fn row(&mut self, fields: Value) {
        let line = self.line(fields, None);
        self.raw((line + "\n").as_bytes());
    }

    fn line(&mut self, fields: Value, agent: Option<&str>) -> String {
        let parent = self.parent.map_or("null".into(), |uuid| format!("\"{uuid}\""));
        let uuid = Uuid::new_v4();
        self.parent = Some(uuid);
        let (side, agent) = match agent {
            Some(id) => (true, format!("\"agentId\":\"{id}\",")),
            None => (false, String::new()),
        };
        format!(
            "{{\"parentUuid\":{parent},\"isSidechain\":{side},{agent}{fields}\"uuid\":\"{uuid}\",\
             \"timestamp\":\"{stamp:.3}\",\"userType\":\"external\",\"entrypoint\":\"cli\",\
             \"cwd\":{cwd},\"sessionId\":\"{session}\",\"version\":\"{VERSION}\",\"gitBranch\":\"HEAD\"}}",
            fields = inside(&fields),
            stamp = jiff::Timestamp::now(),
            cwd = Value::from(self.cwd.as_str()),
            session = self.session,
        )
    }

    /// What was typed or given on the command line.
    pub fn prompt(&mut self, text: &str, source: &str) {
        let content = if text.chars().count() > 800 {
            format!("\n\n<pasted_content id=\"5b27\">\n{text}\n</pasted_content id=\"5b27\">\n")
        } else {
            text.to_owned()
        };
        self.row(json!({
            "type": "user",
            "message": {"role": "user", "content": content},
            "permissionMode": "default",
            "origin": {"kind": "human"},
            "promptSource": source,
        }));
    }

    /// The rows of one reply: one for each block, the same id in each, and an
    /// output count that grows.
    pub fn reply(&mut self, blocks: &[Value], usage: Usage) -> Vec<String> {
        self.reply_lines(blocks, usage, None)
    }

    fn reply_lines(&mut self, blocks: &[Value], usage: Usage, agent: Option<&str>) -> Vec<String> {
        self.replies += 1;
        self.total.add(&usage);
        let (id, request) = (Uuid::new_v4().simple(), Uuid::new_v4());
        let stop = if blocks.iter().any(|block| block["type"] == "tool_use") {
            "tool_use"
        } else {
            "end_turn"
        };
        let last = blocks.len() - 1;
        let rows = blocks.iter().enumerate().map(|(index, block)| {
            let output = if index == last { usage.output } else { 1 };
            self.line(
                json!({
                    "message": {
                        "id": format!("msg_{id}"), "type": "message", "role": "assistant",
                        "model": self.model, "content": [block],
                        "stop_reason": stop, "stop_sequence": null, "usage": usage.json(output),
                    },
                    "apiBlockIndex": index,
                    "requestId": format!("req_{id}"),
                    "requestRef": request.to_string(),
                    "requestedModel": self.model,
                    "type": "assistant",
                }),
                agent,
            )
        });
        rows.collect()
    }

    /// A tool's result.
    pub fn result(&mut self, tool_use_id: &str, text: &str) {
        self.row(json!({
            "type": "user",
            "message": {"role": "user", "content": [
                {"tool_use_id": tool_use_id, "type": "tool_result", "content": text, "is_error": false}
            ]},
        }));
    }

    /// One reply of a subagent, in a file of its own.
    pub fn subagent(&mut self, tokens: u64) {
        let agent = &Uuid::new_v4().simple().to_string()[..17];
        let folder = self.path.with_extension("").join("subagents");
        fs::create_dir_all(&folder).expect("the subagents' folder");
        let parent = self.parent.take();
        let prompt = json!({"type": "user", "message": {"role": "user", "content": "SUBTASK"}});
        let mut lines = vec![self.line(prompt, Some(agent))];
        let said = json!({"type": "text", "text": "sub done"});
        let usage = Usage::of_context(tokens, tokens, 20);
        lines.extend(self.reply_lines(&[said], usage, Some(agent)));
        self.parent = parent;
        let file = folder.join(format!("agent-{agent}.jsonl"));
        fs::write(file, lines.join("\n") + "\n").expect("a subagent's file");
    }

    /// The turn is over.
    pub fn turn_duration(&mut self) {
        self.row(json!({
            "type": "system", "subtype": "turn_duration", "durationMs": 10, "messageCount": 4,
            "isMeta": false,
        }));
    }

    /// The request failed.
    pub fn api_error(&mut self, error: &str, status: Option<u16>, text: &str) {
        self.row(json!({
            "type": "assistant",
            "message": {
                "id": Uuid::new_v4().to_string(), "model": "<synthetic>", "role": "assistant",
                "stop_reason": "stop_sequence", "stop_sequence": "", "type": "message",
                "usage": Usage::default().json(0),
                "content": [{"type": "text", "text": text}],
            },
            "requestId": format!("req_{}", Uuid::new_v4().simple()),
            "error": error,
            "isApiErrorMessage": true,
            "apiErrorStatus": status,
        }));
    }

    /// The bill, as a session that ends politely leaves it.
    pub fn cost_state(&mut self) {
        let total = self.total;
        let cost_usd = total.cost_usd();
        let by_model = json!({&self.model: {
            "inputTokens": total.input, "outputTokens": total.output,
            "cacheReadInputTokens": total.cache_read,
            "cacheCreationInputTokens": total.cache_write,
            "webSearchRequests": 0, "costUSD": cost_usd,
        }});
        let by_model = if self.replies > 0 { by_model } else { json!({}) };
        self.quiet(
            "cost-state",
            json!({"totalCostUSD": cost_usd, "modelUsage": by_model, "hasUnknownModelCost": false}),
        );
    }

    /// Lines as two writers or a crash leave them. None holds usage that does
    /// not stand whole elsewhere.
    pub fn damage(&mut self) {
        let mode = self.quiet_line("mode", &json!({"mode": "normal"}));
        let again = fs::read(&self.path).unwrap_or_default();
        let reply = again.split(|byte| *byte == b'\n').rfind(|line| {
            let is_reply = line.windows(18).any(|part| part == b"\"type\":\"assistant\"");
            is_reply && !line.is_empty()
        });
        self.raw(format!("{}\n", &mode[..mode.len() / 2]).as_bytes());
        self.raw(format!("{}{mode}{mode}\n", &mode[..20]).as_bytes());
        self.raw(b"\0\0\0\0\0\0\0\0\n\r\n\n");
        self.raw(b"{\"type\":\"from-the-future\",\"x\":1}\n");
        if let Some(reply) = reply {
            // A replay of history.
            self.raw(&[reply, b"\n"].concat());
        }
    }
}

/// The fields of an object without its braces, each with a comma behind it.
fn inside(fields: &Value) -> String {
    let object = fields.as_object().expect("an object");
    object.iter().map(|(name, value)| format!("{}:{value},", Value::from(name.as_str()))).collect()
}
