//! A task as JSON, and as text for people.

use std::path::Path;

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::clock::rfc3339;
use crate::queue::{Task, TaskResult};
use crate::report;
use crate::text::{self, Side, clip, pad, safe, width};

/// A task as commands print it in JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskView {
    /// Its id.
    pub task_id: String,
    /// `queued`, `in_progress`, `done`, `error`, `cancelled`, `blocked`.
    pub status: &'static str,
    /// What is to be done.
    pub description: String,
    /// What helps.
    pub context: Option<String>,
    /// A word, or a number.
    pub priority: crate::queue::Priority,
    /// Its batch.
    pub batch_id: Option<String>,
    /// Its place in the batch, from 1.
    pub batch_position: Option<u32>,
    /// The real path of the project.
    pub project: String,
    /// The verify command.
    pub verify: Option<String>,
    /// What it waits for.
    pub after: Vec<String>,
    /// The model.
    pub model: Option<String>,
    /// The budget, dollars.
    pub budget_usd: Option<f64>,
    /// It is in progress, and somebody wants it ended.
    pub is_cancelling: bool,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The run that works on it, or did last.
    pub run_id: Option<String>,
    /// What the runs of this attempt have spent, dollars.
    pub spent_usd: f64,
    /// When it was accepted; RFC 3339.
    pub created_at: String,
    /// When it was changed last; RFC 3339.
    pub updated_at: String,
    /// When a run first took this attempt up; RFC 3339.
    pub started_at: Option<String>,
}

impl TaskView {
    /// The view of a task.
    pub fn of(task: &Task) -> Self {
        Self {
            task_id: task.id.to_string(),
            status: task.state.as_str(),
            description: task.description.clone(),
            context: task.context.clone(),
            priority: task.priority,
            batch_id: task.batch_id.as_ref().map(ToString::to_string),
            batch_position: task.batch_position,
            project: task.project.display().to_string(),
            verify: task.verify.clone(),
            after: task.after.iter().map(ToString::to_string).collect(),
            model: task.model.clone(),
            budget_usd: task.budget_usd,
            is_cancelling: task.is_cancelling,
            attempt: task.attempt,
            run_id: task.run_id.map(|id| id.to_string()),
            spent_usd: text::to_micros(task.spent_usd),
            created_at: rfc3339(task.created_unix_ms),
            updated_at: rfc3339(task.updated_unix_ms),
            started_at: task.started_unix_ms.map(rfc3339),
        }
    }
}

/// Columns that the description may take.
const DESCRIPTION_COLUMNS: usize = 60;
/// Columns that the end of the project's path may take.
const PROJECT_COLUMNS: usize = 24;
/// Columns that an id may take.
const ID_COLUMNS: usize = 40;

/// The tasks as a table, with a line end after each row.
pub(super) fn table(tasks: &[Task]) -> String {
    let heads = ["ID", "STATUS", "PRIORITY", "BATCH", "PROJECT", "DESCRIPTION"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(tasks.iter().map(|task| {
        let status = if task.is_cancelling { "cancelling" } else { task.state.as_str() };
        let batch = match (&task.batch_id, task.batch_position) {
            (Some(id), Some(position)) => format!("{} #{position}", clip(id.as_str(), ID_COLUMNS)),
            _ => "-".to_owned(),
        };
        let first_line = task.description.trim().lines().next().unwrap_or_default();
        [
            clip(task.id.as_str(), ID_COLUMNS).into_owned(),
            status.to_owned(),
            task.priority.to_string(),
            batch,
            project(&task.project),
            clip(&safe(first_line), DESCRIPTION_COLUMNS).into_owned(),
        ]
    }));
    let columns: [usize; 6] =
        std::array::from_fn(|at| rows.iter().map(|row| width(&row[at])).max().unwrap_or(0));
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(columns).map(|(cell, columns)| pad(cell, columns, Side::Left));
        let line = cells.collect::<Vec<_>>().join("  ");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The end of a path, which tells projects apart.
fn project(path: &Path) -> String {
    let shown = path.display().to_string();
    let shown = safe(&shown);
    let mut tail = String::new();
    for part in shown.rsplit('/').filter(|part| !part.is_empty()) {
        if !tail.is_empty() && width(part) + 1 + width(&tail) > PROJECT_COLUMNS {
            return clip(&tail, PROJECT_COLUMNS).into_owned();
        }
        tail = if tail.is_empty() { part.to_owned() } else { format!("{part}/{tail}") };
    }
    clip(&format!("/{tail}"), PROJECT_COLUMNS).into_owned()
}

/// Everything about one task, for people.
pub(super) fn details(task: &Task, result: Option<&TaskResult>, zone: &TimeZone) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: &str| field(&mut out, key, value);
    line("task", task.id.as_str());
    let status = task.state.as_str();
    let cancelling = if task.is_cancelling { ", to be cancelled" } else { "" };
    line("status", &format!("{status}{cancelling}"));
    line("description", &task.description);
    if let Some(context) = &task.context {
        line("context", context);
    }
    line("priority", &task.priority.to_string());
    if let (Some(batch), Some(position)) = (&task.batch_id, task.batch_position) {
        line("batch", &format!("{batch}, number {position}"));
    }
    line("project", &task.project.display().to_string());
    for (key, value) in [("verify", &task.verify), ("model", &task.model)] {
        if let Some(value) = value {
            line(key, value);
        }
    }
    if !task.after.is_empty() {
        let ids: Vec<&str> = task.after.iter().map(|id| id.as_str()).collect();
        line("after", &ids.join(", "));
    }
    if let Some(usd) = task.budget_usd {
        line("budget", &text::usd(usd));
    }
    line("attempt", &task.attempt.to_string());
    line("added", &text::moment(task.created_unix_ms, zone));
    if let Some(started) = task.started_unix_ms {
        line("taken up", &text::moment(started, zone));
    }
    if let Some(run) = task.run_id {
        line("run", &run.to_string());
    }
    if let Some(result) = result {
        out.push('\n');
        result_details(&mut out, result);
    }
    out
}

fn result_details(out: &mut String, result: &TaskResult) {
    let mut line = |key: &str, value: &str| field(out, key, value);
    line("result", &format!("{} (attempt {})", result.status.as_str(), result.attempt));
    if let Some(ended) = &result.ended_at {
        line("ended", ended);
    }
    let tokens = &result.tokens;
    line(
        "tokens",
        &format!(
            "input {}, output {}, cache write {}, cache read {}",
            text::grouped(tokens.input),
            text::grouped(tokens.output),
            text::grouped(tokens.cache_write),
            text::grouped(tokens.cache_read)
        ),
    );
    line("cost", &cost(result));
    let took = std::time::Duration::try_from_secs_f64(result.execution_time_seconds)
        .map_or(0, |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    line("took", &text::span(took));
    line("sessions", &result.sessions.to_string());
    if let Some(verify) = &result.verify {
        let word = match verify.passed {
            Some(true) => "passed",
            Some(false) => "failed",
            None => "never ran",
        };
        line("verify", &format!("{word}: {}", verify.command));
    }
    for (key, lines) in [
        ("actions", &result.actions_taken),
        ("errors", &result.errors),
        ("warnings", &result.warnings),
    ] {
        if !lines.is_empty() {
            line(key, &lines.join("\n"));
        }
    }
    if !result.output.trim().is_empty() {
        line("output", &result.output);
    }
}

/// With what is to be said of tokens of models without a known list price.
fn cost(result: &TaskResult) -> String {
    let used = &result.tokens;
    let parts = [used.input, used.output, used.cache_write, used.cache_read];
    let tokens = parts.into_iter().fold(0, u64::saturating_add);
    let words = report::words::cost(result.cost_usd, result.unpriced_tokens, tokens);
    match result.unpriced_tokens {
        0 => words,
        n => format!("{words} ({} tokens of models without a known list price)", text::grouped(n)),
    }
}

/// Columns of the keys.
const KEY_COLUMNS: usize = 13;

/// A key with its value; further lines of the value stand below the first.
fn field(out: &mut String, key: &str, value: &str) {
    let mut key = key;
    for part in value.lines() {
        out.push_str(pad(key, KEY_COLUMNS, Side::Left).as_str());
        out.push_str(&safe(part));
        out.push('\n');
        key = "";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_known_by_its_end() {
        for (path, shown) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/home/me/code/parser", "/home/me/code/parser"),
            ("/home/somebody/code/projects/parser", "code/projects/parser"),
            ("/x/a-very-long-name-of-a-project", "a-very-long-name-of-a-p…"),
        ] {
            assert_eq!(project(Path::new(path)), shown);
        }
    }

    #[test]
    fn further_lines_stand_below_the_first_and_steer_nothing() {
        let mut out = String::new();
        field(&mut out, "output", "one\n\u{1b}[2Jtwo");
        assert_eq!(out, "output       one\n             \\u{1b}[2Jtwo\n");
    }
}
