//! A task as somebody wrote it down, and what makes it acceptable. Pure, but for
//! the look whether the project is a folder.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::refusal::{Code, Refusal};
use super::task::{BatchId, NewTask, Priority, TaskId};

/// Longest description and context, bytes. Every session of the task reads them.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Longest verify command, bytes.
pub const MAX_COMMAND_BYTES: usize = 16 * 1024;
/// Longest name of a model, bytes.
pub const MAX_MODEL_BYTES: usize = 200;
/// Most tasks that one may wait for.
pub const MAX_AFTER: usize = 100;
/// Largest budget of one task, dollars.
pub const MAX_BUDGET_USD: f64 = 1_000_000.0;

/// A task as given: a JSON line, the parameters of a request, the options of a
/// command. Names are those of the seed where it has one.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// The id.
    #[serde(default, alias = "task_id")]
    pub id: Option<String>,
    /// What is to be done.
    #[serde(default)]
    pub description: Option<String>,
    /// What helps.
    #[serde(default)]
    pub context: Option<serde_json::Value>,
    /// How urgent.
    #[serde(default)]
    pub priority: Option<Priority>,
    /// The batch.
    #[serde(default, alias = "batch")]
    pub batch_id: Option<String>,
    /// The project's folder.
    #[serde(default, alias = "project_dir", alias = "project_directory", alias = "directory")]
    pub project: Option<PathBuf>,
    /// The verify command.
    #[serde(default, alias = "verify_command")]
    pub verify: Option<String>,
    /// What must be done before: an id or a list of ids.
    #[serde(default, alias = "depends_on", alias = "dependencies")]
    pub after: Option<OneOrMany>,
    /// The model.
    #[serde(default)]
    pub model: Option<String>,
    /// The budget in dollars.
    #[serde(default, alias = "budget", alias = "max_cost_usd")]
    pub budget_usd: Option<f64>,
}

/// One text or several.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    pub fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

impl Draft {
    /// Checks it; `default_project` is where it belongs if it does not say.
    ///
    /// # Errors
    /// What is wrong, with its code.
    pub fn check(self, default_project: &Path) -> Result<NewTask, Refusal> {
        let id = self.id.as_deref().map(TaskId::parse).transpose()?;
        let Some(description) = self.description else {
            return Err(Refusal::new(Code::MissingParameter, "the description is missing"));
        };
        Ok(NewTask {
            id,
            description: description_of(description)?,
            context: self.context.map(context_of).transpose()?.flatten(),
            priority: self.priority.unwrap_or_default(),
            batch_id: self.batch_id.as_deref().map(BatchId::parse).transpose()?,
            project: project_of(self.project.as_deref().unwrap_or(default_project))?,
            verify: self.verify.map(verify_of).transpose()?.flatten(),
            after: after_of(self.after.map(OneOrMany::into_vec).unwrap_or_default())?,
            model: self.model.map(model_of).transpose()?.flatten(),
            budget_usd: self.budget_usd.map(budget_of).transpose()?,
        })
    }
}

/// A text without control characters other than tab and line ends, which become LF.
fn text_of(what: &str, text: String, max_bytes: usize) -> Result<String, Refusal> {
    if text.len() > max_bytes {
        let message = format!("the {what} has {} bytes, more than {max_bytes}", text.len());
        return Err(Refusal::new(Code::TooLong, message));
    }
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let bad = text.chars().find(|c| !matches!(c, '\n' | '\t') && crate::text::is_hazard(*c));
    if let Some(bad) = bad {
        let message = format!("the {what} holds the control character U+{:04X}", u32::from(bad));
        return Err(Refusal::new(Code::ControlCharacters, message));
    }
    Ok(text)
}

/// What a description must be.
///
/// # Errors
/// Blank, too long, or with control characters.
pub fn description_of(text: String) -> Result<String, Refusal> {
    let text = text_of("description", text, MAX_TEXT_BYTES)?;
    if text.trim().is_empty() {
        return Err(Refusal::new(Code::InvalidParameter, "the description is blank"));
    }
    Ok(text)
}

/// What a context must be: a text, or JSON, which is kept as its text. Blank is none.
///
/// # Errors
/// Too long, or with control characters.
pub fn context_of(value: serde_json::Value) -> Result<Option<String>, Refusal> {
    match value {
        serde_json::Value::String(text) => context_of_text(text),
        other => context_in(&other),
    }
}

/// As [`context_of`].
///
/// # Errors
/// As [`context_of`].
pub fn context_in(value: &serde_json::Value) -> Result<Option<String>, Refusal> {
    match value {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) => context_of_text(text.clone()),
        other => context_of_text(bounded_json(other)?),
    }
}

fn context_of_text(text: String) -> Result<Option<String>, Refusal> {
    let text = text_of("context", text, MAX_TEXT_BYTES)?;
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

/// JSON for people, as long as it is no longer than a context may be: what is nested
/// deeply takes a hundred times its bytes for being indented.
fn bounded_json(value: &serde_json::Value) -> Result<String, Refusal> {
    struct Bounded(Vec<u8>);
    impl std::io::Write for Bounded {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.len() + bytes.len() > MAX_TEXT_BYTES {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut text = Bounded(Vec::new());
    let written = serde_json::to_writer_pretty(&mut text, value).ok();
    written.and_then(|()| String::from_utf8(text.0).ok()).ok_or_else(|| {
        let message =
            format!("the context has, as indented JSON, more than {MAX_TEXT_BYTES} bytes");
        Refusal::new(Code::TooLong, message)
    })
}

/// What a verify command must be. Blank is none.
///
/// # Errors
/// Too long, or with control characters.
pub fn verify_of(text: String) -> Result<Option<String>, Refusal> {
    let text = text_of("verify command", text, MAX_COMMAND_BYTES)?;
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

/// What a model's name must be. Blank is none.
///
/// # Errors
/// Too long, or no name: it becomes an argument of the CLI.
pub fn model_of(text: String) -> Result<Option<String>, Refusal> {
    let name = text_of("model", text, MAX_MODEL_BYTES)?.trim().to_owned();
    if name.starts_with('-') || name.contains(char::is_whitespace) {
        let message = format!("{} is no name of a model", crate::text::quoted(&name));
        return Err(Refusal::new(Code::InvalidParameter, message));
    }
    Ok(Some(name).filter(|name| !name.is_empty()))
}

/// What a budget must be.
///
/// # Errors
/// Not above 0, or beyond all reason.
pub fn budget_of(usd: f64) -> Result<f64, Refusal> {
    if usd.is_finite() && usd > 0.0 && usd <= MAX_BUDGET_USD {
        return Ok(usd);
    }
    let message = format!("the budget must be above 0 and at most {MAX_BUDGET_USD} dollars");
    Err(Refusal::new(Code::InvalidParameter, message))
}

/// Ids of the tasks to wait for, each once.
///
/// # Errors
/// An id that cannot be one, or too many.
pub fn after_of(ids: Vec<String>) -> Result<Vec<TaskId>, Refusal> {
    if ids.len() > MAX_AFTER {
        let message = format!("waits for {} tasks, more than {MAX_AFTER}", ids.len());
        return Err(Refusal::new(Code::TooLong, message));
    }
    let mut after = Vec::with_capacity(ids.len());
    for id in ids {
        let id = TaskId::parse(&id)?;
        if !after.contains(&id) {
            after.push(id);
        }
    }
    Ok(after)
}

/// The real path of a project.
///
/// # Errors
/// It is no folder.
pub fn project_of(given: &Path) -> Result<PathBuf, Refusal> {
    let refuse = |why: String| {
        let shown = given.display().to_string();
        let message = format!("the project {} {why}", crate::text::quoted(&shown));
        Refusal::new(Code::InvalidProject, message)
    };
    let real = given.canonicalize().map_err(|e| refuse(format!("cannot be used: {e}")))?;
    if !real.is_dir() {
        return Err(refuse("is no folder".into()));
    }
    if real.to_str().is_none() {
        return Err(refuse("has a name that is not UTF-8".into()));
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn nested(depth: usize, inner: Value) -> Value {
        (0..depth).fold(inner, |inner, _| json!([inner]))
    }

    #[test]
    fn a_context_of_json_is_kept_as_its_text_as_far_as_there_is_room() {
        let text = |value: Value| context_of(value).unwrap().unwrap();
        assert_eq!(text(json!({"a": [1]})), "{\n  \"a\": [\n    1\n  ]\n}");
        let just = json!(["x".repeat(MAX_TEXT_BYTES - "[\n  \"\"\n]".len())]);
        assert_eq!(text(just.clone()).len(), MAX_TEXT_BYTES);
        assert_eq!(context_in(&just), context_of(just));
        let more = json!(["x".repeat(MAX_TEXT_BYTES - "[\n  \"\"\n]".len() + 1)]);
        // A few kilobytes that would be megabytes.
        let deep = nested(100, Value::Array(vec![json!(0); 5_000]));
        assert!(deep.to_string().len() < MAX_TEXT_BYTES);
        for long in [more, deep] {
            let refusal = context_of(long).unwrap_err();
            assert_eq!(refusal.code, Code::TooLong);
            assert!(refusal.message.contains("as indented JSON, more than 65536"), "not counted");
        }
    }
}
