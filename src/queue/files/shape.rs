//! The shapes of the files: what longhaul writes, and what it can make of a queue
//! file that somebody else wrote. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::queue::draft;
use crate::queue::task::{Priority, Task, TaskResult};

/// Most entries that are looked at.
pub const MAX_ENTRIES: usize = 20_000;
/// Longest entry that is looked into, bytes: description and context at their
/// longest, written with escapes.
const MAX_ENTRY_BYTES: usize = 1 << 20;

/// More than the names and short fields of an entry take.
const ENTRY_BYTES: usize = 2_048;

/// What somebody else may change of an entry.
pub(super) const TAKEN: [&str; 4] = ["description", "context", "priority", "batch_id"];
/// What is shown and not taken over.
pub(super) const SHOWN: [&str; 7] =
    ["created_at", "started_at", "attempt", "after", "verify", "model", "budget_usd"];
/// Other names that the id has in an entry.
pub(super) const ID_NAMES: [&str; 2] = ["task_id", "id"];
/// Where the task stands.
pub(super) const STATUS: &str = "status";

/// One task as the queue file shows it.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    description: &'a str,
    context: Option<&'a str>,
    priority: Priority,
    batch_id: Option<&'a str>,
    status: &'static str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    attempt: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    after: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verify: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_usd: Option<f64>,
}

impl<'a> Entry<'a> {
    pub(super) fn of(task: &'a Task) -> Self {
        Self {
            description: &task.description,
            context: task.context.as_deref(),
            priority: task.priority,
            batch_id: task.batch_id.as_ref().map(|id| id.as_str()),
            status: task.state.as_str(),
            created_at: crate::clock::rfc3339(task.created_unix_ms),
            started_at: task.started_unix_ms.map(crate::clock::rfc3339),
            attempt: task.attempt,
            after: task.after.iter().map(|id| id.as_str()).collect(),
            verify: task.verify.as_deref(),
            model: task.model.as_deref(),
            budget_usd: task.budget_usd,
        }
    }
}

/// A JSON object in the order of its list.
struct Ordered<'a, T>(&'a [(String, T)]);

impl<T: Serialize> Serialize for Ordered<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Renders a file; `omitted` tells how many there are besides.
pub(super) fn render<T: Serialize>(file: &T) -> Vec<u8> {
    let text = crate::text::json(file, true).expect("strings, numbers and maps of them are JSON");
    let mut bytes = text.into_bytes();
    bytes.push(b'\n');
    bytes
}

/// The queue file, of the queue of that id.
pub(super) fn queue_file(tasks: &[Task], omitted: u64, revision: u64, queue_id: Uuid) -> Vec<u8> {
    #[derive(Serialize)]
    struct File<'a> {
        tasks: Ordered<'a, Entry<'a>>,
        #[serde(skip_serializing_if = "is_zero")]
        omitted: u64,
        revision: u64,
        queue_id: Uuid,
    }
    let entries: Vec<_> = tasks.iter().map(|t| (t.id.to_string(), Entry::of(t))).collect();
    render(&File { tasks: Ordered(&entries), omitted, revision, queue_id })
}

fn by_id(results: &[TaskResult]) -> Vec<(String, &TaskResult)> {
    results.iter().map(|result| (result.task_id.to_string(), result)).collect()
}

/// The results file.
pub(super) fn results_file(results: &[TaskResult], omitted: u64) -> Vec<u8> {
    #[derive(Serialize)]
    struct File<'a> {
        #[serde(skip_serializing_if = "is_zero")]
        omitted: u64,
        results: Ordered<'a, &'a TaskResult>,
    }
    render(&File { omitted, results: Ordered(&by_id(results)) })
}

/// The archive.
pub(super) fn archive_file(tasks: &[Task], results: &[TaskResult], omitted: u64) -> Vec<u8> {
    #[derive(Serialize)]
    struct File<'a> {
        #[serde(skip_serializing_if = "is_zero")]
        omitted: u64,
        tasks: Ordered<'a, Entry<'a>>,
        results: Ordered<'a, &'a TaskResult>,
    }
    let entries: Vec<_> = tasks.iter().map(|t| (t.id.to_string(), Entry::of(t))).collect();
    render(&File { omitted, tasks: Ordered(&entries), results: Ordered(&by_id(results)) })
}

/// At most how many bytes a task takes in the file: an escape makes three of one,
/// since control characters were refused but for the line feed and the tab.
pub(super) fn bytes_of_entry(task: &Task) -> usize {
    let texts = [Some(&task.description), task.context.as_ref(), task.verify.as_ref()];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let ids: usize = task.after.iter().map(|id| id.as_str().len() + 16).sum();
    3 * texts + ids + ENTRY_BYTES
}

/// How many bytes a value takes in a file.
pub(super) fn bytes_of<T: Serialize>(value: &T) -> usize {
    render(value).len()
}

/// A queue file as somebody wrote it.
#[derive(Debug, Default)]
pub(super) struct Theirs {
    /// Which version of the file they began with, if they kept that.
    pub(super) revision: Option<u64>,
    /// Whose file they began with, if they kept that.
    pub(super) queue_id: Option<Uuid>,
    /// In the order of the file; an id may come twice.
    pub(super) entries: Vec<(String, Box<RawValue>)>,
    /// What stands beside `tasks` and means nothing.
    pub(super) unknown: Vec<(String, Box<RawValue>)>,
}

impl Theirs {
    /// Reads a file.
    ///
    /// # Errors
    /// Why it is no queue file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err("it is empty".into());
        }
        let file: TopLevel = serde_json::from_slice(bytes).map_err(|err| err.to_string())?;
        let Some(Entries(entries)) = file.tasks else {
            return Err("it has no \"tasks\"".into());
        };
        let TopLevel { revision, queue_id, unknown, .. } = file;
        Ok(Self { revision, queue_id, entries, unknown })
    }
}

#[derive(Default)]
struct TopLevel {
    tasks: Option<Entries<MAX_ENTRIES>>,
    revision: Option<u64>,
    queue_id: Option<Uuid>,
    unknown: Vec<(String, Box<RawValue>)>,
}

impl<'de> Deserialize<'de> for TopLevel {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = TopLevel;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with \"tasks\"")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TopLevel, A::Error> {
                let mut file = TopLevel::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "tasks" if file.tasks.is_some() => {
                            return Err(de::Error::custom("it has \"tasks\" twice"));
                        }
                        "tasks" => file.tasks = Some(map.next_value()?),
                        "revision" => {
                            let raw: Box<RawValue> = map.next_value()?;
                            file.revision = raw.get().parse().ok();
                        }
                        "queue_id" => {
                            let raw: Box<RawValue> = map.next_value()?;
                            file.queue_id = serde_json::from_str(raw.get()).ok();
                        }
                        // What was left out is not for them to say.
                        "omitted" => drop(map.next_value::<de::IgnoredAny>()?),
                        _ => file.unknown.push((key, map.next_value()?)),
                    }
                    if file.unknown.len() > MAX_ENTRIES {
                        return Err(de::Error::custom("it has too many keys"));
                    }
                }
                Ok(file)
            }
        }
        from.deserialize_map(Reader)
    }
}

/// A JSON object in its order, of at most so many entries.
pub(super) struct Entries<const MAX: usize>(pub(super) Vec<(String, Box<RawValue>)>);

impl<'de, const MAX: usize> Deserialize<'de> for Entries<MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader<const MAX: usize>;
        impl<'de, const MAX: usize> Visitor<'de> for Reader<MAX> {
            type Value = Entries<MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tasks by their id (`longhaul task import` takes lists)")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                    if entries.len() > MAX {
                        let message = format!("it has more than {MAX} tasks");
                        return Err(de::Error::custom(message));
                    }
                }
                Ok(Entries(entries))
            }
        }
        from.deserialize_map(Reader::<MAX>)
    }
}

/// The fields of one entry.
///
/// # Errors
/// Why it is none.
pub(super) fn fields(entry: &RawValue) -> Result<Map<String, Value>, String> {
    let bytes = entry.get().len();
    if bytes > MAX_ENTRY_BYTES {
        return Err(format!("the entry has {bytes} bytes, more than {MAX_ENTRY_BYTES}"));
    }
    serde_json::from_str(entry.get()).map_err(|_| "the entry is no JSON object".into())
}

/// A digest of each field that an entry has, by which two versions of it are
/// compared. Null, blank and missing are the same, and so are two ways to write
/// one value.
pub(super) type Marks = BTreeMap<String, String>;

/// Hex digits of the digest of a field.
const MARK_CHARS: usize = 32;

/// The marks of an entry.
pub(super) fn marks(fields: &Map<String, Value>) -> Marks {
    let known = TAKEN.iter().chain(&SHOWN).chain([&STATUS]);
    let known = known.filter_map(|name| {
        let value = fields.get(*name).unwrap_or(&Value::Null);
        canonical(name, value).map(|text| ((*name).to_owned(), short_digest(text.as_bytes())))
    });
    known.collect()
}

/// The marks that the entry of a task has, as longhaul shows it.
pub(super) fn marks_of(task: &Task) -> Marks {
    match serde_json::to_value(Entry::of(task)) {
        Ok(Value::Object(fields)) => marks(&fields),
        _ => Marks::new(),
    }
}

fn canonical(name: &str, value: &Value) -> Option<String> {
    let written = match (name, value) {
        ("priority", Value::Null) => return Some(Priority::default().to_string()),
        ("priority", given) => match Priority::of_json(given) {
            Ok(priority) => priority.to_string(),
            Err(_) => given.to_string(),
        },
        ("context", given) => {
            draft::context_in(given).unwrap_or_else(|_| Some(given.to_string())).unwrap_or_default()
        }
        (_, Value::Null) => return None,
        (_, Value::String(text)) => text.replace("\r\n", "\n").replace('\r', "\n"),
        (_, Value::Number(number)) => match number.as_f64() {
            Some(number) => number.to_string(),
            None => number.to_string(),
        },
        (_, Value::Array(list)) if list.is_empty() => return None,
        (_, other) => other.to_string(),
    };
    Some(written).filter(|text| !text.trim().is_empty())
}

fn short_digest(bytes: &[u8]) -> String {
    let mut hex = digest(bytes);
    hex.truncate(MARK_CHARS);
    hex
}

/// SHA-256 in hex.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
