//! Small transcripts made by hand, for the tests of this room and of `advice`.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::reading::{Notes, Threads, threads};
use super::{Places, Span};
use crate::models::Models;

/// Midnight of 2026-11-20, UTC, in Unix milliseconds.
pub(crate) const MIDNIGHT: i64 = 1_795_132_800_000;
/// That day.
pub(crate) const DAY: Span = Span { from_unix_ms: MIDNIGHT, until_unix_ms: MIDNIGHT + 86_400_000 };
/// What most sessions work in.
pub(crate) const PROJECT: &str = "/home/p";

/// A configuration directory and a state directory.
pub(crate) struct Tree(pub(crate) tempfile::TempDir);

impl Tree {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn places(&self) -> Places {
        Places {
            config_dirs: vec![self.0.path().join("claude")],
            state_root: self.0.path().join("state"),
        }
    }

    /// Writes a transcript below the projects.
    pub(crate) fn write(&self, name: &str, rows: &[Value]) -> PathBuf {
        let path = self.0.path().join("claude/projects/-home-p").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text: String = rows.iter().map(|row| row.to_string() + "\n").collect();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn threads(&self) -> Threads {
        let notes = Notes::new([PathBuf::from("dev-docs/tasks.md")]);
        threads(&self.places().config_dirs, i64::MIN, None, &notes, Models::builtin())
    }
}

/// Tokens of a response: input, written for five minutes, read, output.
#[derive(Clone, Copy)]
pub(crate) struct Tokens(pub u64, pub u64, pub u64, pub u64);

/// The rows of a transcript in the making.
pub(crate) struct Rows {
    name: String,
    model: &'static str,
    is_side: bool,
    replies: u32,
    calls: u32,
    pub(crate) rows: Vec<Value>,
}

impl Rows {
    pub(crate) fn new(name: &str) -> Self {
        let (name, model) = (name.to_owned(), "claude-opus-5-5");
        Self { name, model, is_side: false, replies: 0, calls: 0, rows: Vec::new() }
    }

    pub(crate) fn agent(name: &str) -> Self {
        Self { is_side: true, ..Self::new(name) }
    }

    pub(crate) fn model(mut self, model: &'static str) -> Self {
        self.model = model;
        self
    }

    fn row(&self, at_s: i64, kind: &str, message: Value) -> Value {
        json!({
            "type": kind, "timestamp": crate::clock::rfc3339(MIDNIGHT + at_s * 1_000),
            "isSidechain": self.is_side, "cwd": PROJECT, "message": message,
        })
    }

    pub(crate) fn prompt(mut self, at_s: i64, text: &str) -> Self {
        self.rows.push(self.row(at_s, "user", json!({"role": "user", "content": text})));
        self
    }

    /// A reply without calls, which ends the turn.
    pub(crate) fn says(self, at_s: i64, used: Tokens, text: &str) -> Self {
        self.reply(at_s, used, &[json!({"type": "text", "text": text})], "end_turn")
    }

    /// A reply with calls, each with its result: tool, input, what came back, failed?
    pub(crate) fn calls(
        mut self,
        at_s: i64,
        used: Tokens,
        calls: &[(&str, Value, String, bool)],
    ) -> Self {
        let mut results = Vec::new();
        let mut blocks = Vec::new();
        for (tool, input, output, failed) in calls {
            self.calls += 1;
            let id = format!("toolu_{}_{}", self.name, self.calls);
            blocks.push(json!({"type": "tool_use", "id": id, "name": tool, "input": input}));
            results.push(json!({
                "type": "tool_result", "tool_use_id": id, "content": output, "is_error": failed,
            }));
        }
        self = self.reply(at_s, used, &blocks, "tool_use");
        for result in results {
            self.rows.push(self.row(at_s, "user", json!({"role": "user", "content": [result]})));
        }
        self
    }

    /// One row for each block, each with the usage of all.
    fn reply(mut self, at_s: i64, used: Tokens, blocks: &[Value], stop: &str) -> Self {
        self.replies += 1;
        let (message, request) = (
            format!("msg_{}_{}", self.name, self.replies),
            format!("req_{}_{}", self.name, self.replies),
        );
        for (block, place) in blocks.iter().zip(0..) {
            let mut row = self.row(
                at_s,
                "assistant",
                json!({
                    "id": message, "model": self.model, "content": [block], "stop_reason": stop,
                    "usage": {
                        "input_tokens": used.0, "cache_creation_input_tokens": used.1,
                        "cache_read_input_tokens": used.2, "output_tokens": used.3,
                    },
                }),
            );
            row["requestId"] = json!(request);
            row["apiBlockIndex"] = json!(place);
            self.rows.push(row);
        }
        self
    }
}

/// A reading of a file, with so many characters of it.
pub(crate) fn read(file: &str, chars: usize) -> (&'static str, Value, String, bool) {
    ("Read", json!({"file_path": format!("{PROJECT}/{file}")}), "x".repeat(chars), false)
}

/// A change of a file.
pub(crate) fn edit(file: &str) -> (&'static str, Value, String, bool) {
    let input =
        json!({"file_path": format!("{PROJECT}/{file}"), "old_string": "a", "new_string": "b"});
    ("Edit", input, "ok".to_owned(), false)
}

/// A command, what it printed, and whether it failed.
pub(crate) fn bash(
    command: &str,
    output: &str,
    failed: bool,
) -> (&'static str, Value, String, bool) {
    ("Bash", json!({"command": command}), output.to_owned(), failed)
}
