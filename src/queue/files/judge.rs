//! What an entry that somebody changed in the queue file asks for, and whether it
//! may be had. Pure.
//!
//! Three versions are compared, field by field: what longhaul wrote into the file
//! (the base), what stands there now (theirs), and the task in the store (ours). Only
//! where theirs differs from the base is there an edit. Where ours says the same
//! already it has been made, so that it does not matter if longhaul dies between
//! making an edit and writing that down.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::shape::{self, ID_NAMES, Marks, SHOWN, STATUS, TAKEN};
use crate::queue::draft::{self, Draft};
use crate::queue::refusal::{Code, Refusal};
use crate::queue::store::Change;
use crate::queue::task::{BatchId, NewTask, Priority, Task, TaskId, TaskState};

/// The folder a task belongs to is the one whose file names it.
const PROJECT: &str = "project";
/// Decide what runs, with which rights and at what price.
const NEVER_SET: [&str; 4] = ["after", "verify", "model", "budget_usd"];

/// An entry as longhaul wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BaseEntry {
    /// Which attempt at the task it showed.
    pub(super) attempt: u32,
    /// Its fields.
    pub(super) marks: Marks,
}

impl BaseEntry {
    /// The entry of a task as it stands.
    pub(super) fn of(task: &Task) -> Self {
        Self { attempt: task.attempt, marks: shape::marks_of(task) }
    }
}

/// What is known of an entry's id.
pub(super) struct Known<'a> {
    /// As longhaul wrote it into the version of the file that they changed.
    pub(super) base: Option<&'a BaseEntry>,
    /// As it stands.
    pub(super) task: Option<&'a Task>,
    /// Where the file is.
    pub(super) project: &'a Path,
    /// Was it made from another version than the last one?
    pub(super) is_stale: bool,
}

/// What is to be done about an entry.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It asks for nothing, or for what is done already.
    Nothing,
    /// Nothing is done, and a person should know.
    Told(String),
    /// A new task.
    Add(Box<NewTask>),
    /// Another description, context, priority or batch.
    Change(Box<Change>),
    /// It is not wanted any more.
    Cancel,
}

/// Judges an entry of the file: what is to be done, and all that cannot be had. An
/// entry is taken as a whole or not at all, but one that is not wanted any more is
/// cancelled whatever else it says.
pub(super) fn judge(
    id: &TaskId,
    fields: &Map<String, Value>,
    known: &Known<'_>,
) -> (Verdict, Vec<Refusal>) {
    let mut wrong = strange_fields(id, fields, known.project);
    let verdict = match known.base {
        Some(base) => changed(id, fields, base, known, &mut wrong),
        None => new(id, fields, known, &mut wrong),
    };
    let is_taken = wrong.is_empty() || verdict == Verdict::Cancel;
    (if is_taken { verdict } else { Verdict::Nothing }, wrong)
}

/// Judges that an entry is gone.
pub(super) fn judge_removed(id: &TaskId, base: &BaseEntry, task: Option<&Task>) -> Verdict {
    match task {
        None => Verdict::Nothing,
        // Somebody tidied up.
        Some(task) if task.state.is_over() && task.state != TaskState::Blocked => Verdict::Nothing,
        Some(task) => cancel(id, base, task),
    }
}

fn refuse(code: Code, message: String) -> Refusal {
    Refusal::new(code, message)
}

fn strange_fields(id: &TaskId, fields: &Map<String, Value>, project: &Path) -> Vec<Refusal> {
    let mut wrong = Vec::new();
    for (name, value) in fields {
        let name = name.as_str();
        if ID_NAMES.contains(&name) {
            if value.as_str() != Some(id.as_str()) {
                let message = format!("the field {name} is not the id {id} that the entry has");
                wrong.push(refuse(Code::InvalidParameter, message));
            }
        } else if name == PROJECT {
            if value.as_str().map(Path::new) != Some(project) {
                wrong.push(not_to_be_set(name));
            }
        } else if !TAKEN.contains(&name) && !SHOWN.contains(&name) && name != STATUS {
            let message = format!("nobody knows the field {}", crate::text::safe(name));
            wrong.push(refuse(Code::UnknownParameter, message));
        }
    }
    wrong
}

fn not_to_be_set(field: &str) -> Refusal {
    let message = format!(
        "{field} cannot be set in this file, which a session can write: use `longhaul task`"
    );
    refuse(Code::InvalidParameter, message)
}

fn is_cancelled(word: &str) -> bool {
    matches!(word, "cancelled" | "canceled")
}

fn new(
    id: &TaskId,
    fields: &Map<String, Value>,
    known: &Known<'_>,
    wrong: &mut Vec<Refusal>,
) -> Verdict {
    let marks = shape::marks(fields);
    let status = match fields.get(STATUS) {
        None | Some(Value::Null) => TaskState::Queued.as_str(),
        Some(Value::String(word)) => word,
        Some(_) => "",
    };
    if let Some(task) = known.task {
        let ours = shape::marks_of(task);
        let is_same = TAKEN.iter().all(|field| ours.get(*field) == marks.get(*field));
        if is_same && task.state.is_over() {
            return Verdict::Told(over_again(id, task.state));
        }
        // Made from it before, or shown in a version of the file nobody remembers.
        if is_same && (status == task.state.as_str() || status == TaskState::Queued.as_str()) {
            return Verdict::Nothing;
        }
        let message = format!(
            "there is a task {id} already ({}); choose another id, or change the entry that \
             longhaul wrote",
            task.state.as_str()
        );
        wrong.push(refuse(Code::TaskExists, message));
        return Verdict::Nothing;
    }
    if status != TaskState::Queued.as_str() {
        wrong.push(refuse(Code::InvalidParameter, no_new_status(status)));
    }
    let never = NEVER_SET.iter().filter(|field| marks.contains_key(**field));
    wrong.extend(never.map(|field| not_to_be_set(field)));
    match draft_of(id, fields).and_then(|draft| draft.check(known.project)) {
        Ok(task) => Verdict::Add(Box::new(task)),
        Err(refusal) => {
            wrong.push(refusal);
            Verdict::Nothing
        }
    }
}

fn over_again(id: &TaskId, state: TaskState) -> String {
    let state = state.as_str();
    format!("the task {id} is over ({state}) and not run again; `longhaul task retry {id}` does")
}

fn no_new_status(status: &str) -> String {
    let status = crate::text::safe(status);
    let advice = match TaskState::parse(&status) {
        Some(TaskState::InProgress) => "`longhaul task import` takes tasks whose session died",
        _ => "results are written by longhaul alone",
    };
    format!("a new task is queued, not {status:?}; {advice}")
}

fn draft_of(id: &TaskId, fields: &Map<String, Value>) -> Result<Draft, Refusal> {
    let get = |name: &str| fields.get(name).filter(|value| !value.is_null());
    Ok(Draft {
        id: Some(id.as_str().to_owned()),
        description: get("description").map(|value| text_in("description", value)).transpose()?,
        context: get("context").cloned(),
        priority: get("priority").map(priority_in).transpose()?,
        batch_id: get("batch_id")
            .map(|value| text_in("batch_id", value))
            .transpose()?
            .filter(|text| !text.trim().is_empty()),
        ..Draft::default()
    })
}

fn text_in(field: &str, value: &Value) -> Result<String, Refusal> {
    match value {
        Value::String(text) => Ok(text.clone()),
        _ => Err(refuse(Code::InvalidParameter, format!("{field} must be a text"))),
    }
}

/// A priority that may be had here: one project's session must not get before all that
/// the person put first.
fn priority_in(value: &Value) -> Result<Priority, Refusal> {
    let priority = Priority::of_json(value)?;
    let most = Priority::Critical;
    if priority.rank() > most.rank() {
        let message = format!(
            "a priority above {} ({most}) cannot be set in this file, which a session can write: \
             use `longhaul task`",
            most.rank()
        );
        return Err(refuse(Code::InvalidParameter, message));
    }
    Ok(priority)
}

fn changed(
    id: &TaskId,
    fields: &Map<String, Value>,
    base: &BaseEntry,
    known: &Known<'_>,
    wrong: &mut Vec<Refusal>,
) -> Verdict {
    let theirs = shape::marks(fields);
    let differs = |field: &str| theirs.get(field) != base.marks.get(field);
    let ours = known.task.map(shape::marks_of).unwrap_or_default();
    // Left out is not changed: scripts write back what they know. Nor is what the
    // queue says too.
    let is_set = |field: &str| {
        theirs.contains_key(field) && differs(field) && theirs.get(field) != ours.get(field)
    };
    wrong.extend(SHOWN.iter().filter(|field| is_set(field)).map(|field| not_to_be_set(field)));
    let word = fields.get(STATUS).and_then(Value::as_str).unwrap_or("");
    let wants_cancel = is_set(STATUS) && is_cancelled(word);
    if is_set(STATUS) && !wants_cancel {
        wrong.push(refuse(Code::InvalidParameter, no_such_status(word)));
    }
    let edited: Vec<&str> = TAKEN.into_iter().filter(|field| differs(field)).collect();
    let Some(task) = known.task else {
        if wants_cancel || !edited.is_empty() {
            wrong.push(refuse(Code::UnknownTask, format!("there is no task {id} any more")));
        }
        return Verdict::Nothing;
    };
    if wants_cancel {
        return cancel(id, base, task);
    }
    let open: Vec<&str> =
        edited.into_iter().filter(|field| ours.get(*field) != theirs.get(*field)).collect();
    if open.is_empty() {
        let is_told = known.is_stale && task.state.is_over();
        return if is_told { Verdict::Told(over_again(id, task.state)) } else { Verdict::Nothing };
    }
    if !matches!(task.state, TaskState::Queued | TaskState::Blocked) {
        let message = format!(
            "the task {id} is {} and cannot be changed any more",
            task.state.as_str().replace('_', " ")
        );
        wrong.push(refuse(Code::WrongState, message));
        return Verdict::Nothing;
    }
    let both = open.iter().filter(|field| ours.get(**field) != base.marks.get(**field));
    for field in both {
        let message =
            format!("{field} of the task {id} was changed in the queue as well, which stands");
        wrong.push(refuse(Code::WrongState, message));
    }
    match change_of(fields, &open) {
        Ok(change) => Verdict::Change(Box::new(change)),
        Err(refusal) => {
            wrong.push(refusal);
            Verdict::Nothing
        }
    }
}

fn no_such_status(word: &str) -> String {
    match TaskState::parse(word) {
        Some(TaskState::Queued | TaskState::InProgress) => {
            "longhaul takes a task up again by itself: only \"cancelled\" can be set here".into()
        }
        Some(_) => {
            "results are written by longhaul alone: only \"cancelled\" can be set here".into()
        }
        None => format!(
            "{:?} is no status of a task: only \"cancelled\" can be set here",
            crate::text::safe(word)
        ),
    }
}

fn cancel(id: &TaskId, base: &BaseEntry, task: &Task) -> Verdict {
    if task.attempt != base.attempt {
        let message = format!("the task {id} was begun anew since; it was not cancelled");
        return Verdict::Told(message);
    }
    match task.state {
        TaskState::Cancelled => Verdict::Nothing,
        TaskState::Done | TaskState::Error => {
            let state = task.state.as_str();
            Verdict::Told(format!("the task {id} is over ({state}): nothing to cancel"))
        }
        TaskState::InProgress if task.is_cancelling => Verdict::Nothing,
        TaskState::Queued | TaskState::InProgress | TaskState::Blocked => Verdict::Cancel,
    }
}

fn change_of(fields: &Map<String, Value>, open: &[&str]) -> Result<Change, Refusal> {
    let mut change = Change::default();
    for field in open {
        let value = fields.get(*field).filter(|value| !value.is_null());
        match *field {
            "description" => {
                let Some(value) = value else {
                    let message = "the description is missing";
                    return Err(refuse(Code::MissingParameter, message.into()));
                };
                let text = draft::description_of(text_in("description", value)?)?;
                change.description = Some(text);
            }
            "context" => {
                change.context = Some(value.map(draft::context_in).transpose()?.flatten());
            }
            "priority" => {
                change.priority = Some(value.map(priority_in).transpose()?.unwrap_or_default());
            }
            _ => {
                let text = value.map(|value| text_in("batch_id", value)).transpose()?;
                let text = text.filter(|text| !text.trim().is_empty());
                change.batch_id = Some(text.as_deref().map(BatchId::parse).transpose()?);
            }
        }
    }
    Ok(change)
}
