//! What the tracker is told: one JSON object, taken as far as it can be. What is missing
//! or cannot be is `None` and noted; it is never made up. Pure.

use serde_json::{Map, Value};

use crate::text;

/// Most bytes that are read of one request.
pub const MAX_INPUT_BYTES: usize = 4 << 20;
/// Most entries of one request.
pub const MAX_ENTRIES: usize = 5_000;
/// Most tokens of one entry: ten thousand times the largest window.
const MAX_TOKENS: u64 = 10_000_000_000;
/// Most dollars of one entry.
const MAX_COST_USD: f64 = 1_000_000.0;
/// Most days that a review looks back.
pub const MAX_DAYS: u32 = 3_650;
/// Days that a review looks back if it is not told.
pub const DEFAULT_DAYS: u32 = 7;
const MAX_ID_CHARS: usize = 256;
const MAX_NAME_CHARS: usize = 128;
const MAX_SUMMARY_CHARS: usize = 4_000;
/// Notes that are kept of one request; the rest is counted.
const MAX_NOTES: usize = 50;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Record; say nothing more.
    LogOnly,
    /// Record, and say it in a sentence.
    LogAndSummarize,
    /// Look back over so many days.
    ReviewPeriod {
        /// From 1 to 3,650, today included.
        days: u32,
    },
}

/// A request as far as it could be understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// What is asked for.
    pub mode: Mode,
    /// The task.
    pub task_id: Option<String>,
    /// As it was written, and it is a time.
    pub timestamp: Option<String>,
    /// The same, Unix milliseconds.
    pub unix_ms: Option<i64>,
    /// Two to four lines.
    pub user_request_summary: Option<String>,
    /// Who used what; `None`: not told.
    pub entries: Option<Vec<Entry>>,
    /// What was missing, or wrong, in words.
    pub notes: Vec<String>,
}

/// What one agent used of one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    /// Who.
    pub agent: Option<String>,
    /// Which model.
    pub model: Option<String>,
    /// Tokens that were sent.
    pub input_tokens: Option<u64>,
    /// Tokens that were generated.
    pub output_tokens: Option<u64>,
    /// Both together, if a total was told: their sum, or what was told where one of the two
    /// is not known.
    pub total_tokens: Option<u64>,
    /// A total that was said and is another.
    pub stated_total_tokens: Option<u64>,
    /// Dollars.
    pub estimated_cost: Option<f64>,
    /// Beside `input_tokens`: read from the cache.
    pub cache_read_tokens: Option<u64>,
    /// Within `input_tokens`: written to the cache.
    pub cache_write_tokens: Option<u64>,
}

/// Why nothing can be done with a request, as a sentence without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// For programs: `malformed_json`, `invalid_parameter`, `missing_parameter`, `too_long`.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// The task it was about, if that could be read.
    pub task_id: Option<String>,
}

/// Reads a request. Never panics, whatever the bytes are.
///
/// # Errors
/// It is not one JSON object, asks for nothing that there is, or says nothing at all.
pub fn parse(bytes: &[u8]) -> Result<Input, Refused> {
    let refuse = |code, message: String| Refused { code, message, task_id: None };
    if bytes.len() > MAX_INPUT_BYTES {
        let message = format!("the request has more than {MAX_INPUT_BYTES} bytes");
        return Err(refuse("too_long", message));
    }
    // Some programs write one before it.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|err| refuse("malformed_json", format!("the request is not JSON: {err}")))?;
    parse_value(value)
}

/// [`parse`] for what was taken apart already.
///
/// # Errors
/// As [`parse`].
pub fn parse_value(value: Value) -> Result<Input, Refused> {
    let Value::Object(mut fields) = value else {
        let message = "the request must be one JSON object".into();
        return Err(Refused { code: "invalid_parameter", message, task_id: None });
    };
    let mut notes = Notes::default();
    let task_id = task_id_of(&mut fields, &mut notes)?;
    let refuse = |refused: Refused| Refused { task_id: task_id.clone(), ..refused };
    let input = read(fields, task_id.clone(), notes).map_err(refuse)?;
    let is_log = !matches!(input.mode, Mode::ReviewPeriod { .. });
    if is_log && input.task_id.is_none() && input.entries.is_none() {
        let message = "the request names neither a task nor entries: there is nothing to record";
        let message = message.to_owned();
        return Err(Refused { code: "missing_parameter", message, task_id: None });
    }
    Ok(input)
}

/// What a task log says, which was a request once: as far as it holds what a request may.
pub(super) fn of_log(value: Value) -> Option<Input> {
    let Value::Object(mut fields) = value else { return None };
    fields.remove("mode");
    let mut notes = Notes::default();
    let task_id = task_id_of(&mut fields, &mut notes).ok()?;
    read(fields, task_id, notes).ok()
}

/// A number is taken as its text. Nothing is cut: an id that is changed is another one.
fn task_id_of(
    fields: &mut Map<String, Value>,
    notes: &mut Notes,
) -> Result<Option<String>, Refused> {
    if let Some(value @ Value::Number(_)) = fields.get_mut("task_id") {
        *value = Value::String(value.to_string());
    }
    let is_long = |id: &str| id.chars().nth(MAX_ID_CHARS).is_some();
    if fields.get("task_id").and_then(Value::as_str).is_some_and(is_long) {
        let message = format!("the task_id has more than {MAX_ID_CHARS} characters");
        return Err(Refused { code: "too_long", message, task_id: None });
    }
    Ok(text_of(fields, "task_id", "task_id", MAX_ID_CHARS, notes))
}

fn read(
    mut fields: Map<String, Value>,
    task_id: Option<String>,
    mut notes: Notes,
) -> Result<Input, Refused> {
    let mode = mode_of(&mut fields, &mut notes)?;
    let is_review = matches!(mode, Mode::ReviewPeriod { .. });
    let said = fields.get("timestamp").is_some_and(|value| !value.is_null());
    let (timestamp, unix_ms) = match fields.remove("timestamp") {
        Some(Value::String(text)) => match unix_ms_of(&text) {
            Some(unix_ms) => (Some(text), Some(unix_ms)),
            None => (None, None),
        },
        _ => (None, None),
    };
    if timestamp.is_none() && said {
        notes.add("timestamp is not an ISO 8601 time; recorded as null".into());
    }
    if is_review {
        // Nothing else is wanted for it.
        return Ok(Input {
            mode,
            task_id,
            timestamp,
            unix_ms,
            user_request_summary: None,
            entries: None,
            notes: Vec::new(),
        });
    }
    if task_id.is_none() && !notes.is_about("task_id") {
        notes.missing("task_id");
    }
    if timestamp.is_none() && !said {
        notes.missing("timestamp");
    }
    let summary = "user_request_summary";
    let user_request_summary =
        wanted_text(&mut fields, summary, summary, MAX_SUMMARY_CHARS, &mut notes);
    let entries = entries_of(fields.remove("entries"), &mut notes)?;
    let notes = notes.end();
    Ok(Input { mode, task_id, timestamp, unix_ms, user_request_summary, entries, notes })
}

fn mode_of(fields: &mut Map<String, Value>, notes: &mut Notes) -> Result<Mode, Refused> {
    const WORDS: &str = "log_only, log_and_summarize, review_period";
    let refuse = |message| Refused { code: "invalid_parameter", message, task_id: None };
    match fields.remove("mode") {
        None | Some(Value::Null) => {
            notes.add("mode is missing; taken for log_only".into());
            Ok(Mode::LogOnly)
        }
        Some(Value::String(word)) => match word.as_str() {
            "log_only" => Ok(Mode::LogOnly),
            "log_and_summarize" => Ok(Mode::LogAndSummarize),
            "review_period" => {
                days_of(fields.remove("days")).map(|days| Mode::ReviewPeriod { days })
            }
            other => {
                let shown = text::clip(&text::safe(other), 60).into_owned();
                Err(refuse(format!("the mode `{shown}` is unknown; there are {WORDS}")))
            }
        },
        Some(_) => Err(refuse(format!("the mode must be one of {WORDS}"))),
    }
}

fn days_of(value: Option<Value>) -> Result<u32, Refused> {
    let days = match &value {
        None | Some(Value::Null) => Some(u64::from(DEFAULT_DAYS)),
        Some(value) => whole(value),
    };
    let days = days.and_then(|days| u32::try_from(days).ok());
    days.filter(|days| (1..=MAX_DAYS).contains(days)).ok_or_else(|| Refused {
        code: "invalid_parameter",
        message: format!("`days` must be a whole number from 1 to {MAX_DAYS}"),
        task_id: None,
    })
}

fn entries_of(value: Option<Value>, notes: &mut Notes) -> Result<Option<Vec<Entry>>, Refused> {
    let list = match value {
        Some(Value::Array(list)) => list,
        None | Some(Value::Null) => {
            notes.missing("entries");
            return Ok(None);
        }
        Some(_) => {
            notes.add("entries is not a list; recorded as null".into());
            return Ok(None);
        }
    };
    if list.len() > MAX_ENTRIES {
        let message = format!("there are {} entries, more than {MAX_ENTRIES}", list.len());
        return Err(Refused { code: "too_long", message, task_id: None });
    }
    if list.is_empty() {
        notes.add("entries is empty".into());
    }
    Ok(Some(list.into_iter().enumerate().map(|(at, value)| entry_of(at, value, notes)).collect()))
}

fn entry_of(at: usize, value: Value, notes: &mut Notes) -> Entry {
    let Value::Object(mut fields) = value else {
        notes.add(format!("entries[{at}] is not an object; its fields are recorded as null"));
        return Entry::default();
    };
    let named = |name: &str| format!("entries[{at}].{name}");
    let mut name = |field: &str, fields: &mut Map<String, Value>| {
        wanted_text(fields, field, &named(field), MAX_NAME_CHARS, notes)
    };
    let (agent, model) = (name("agent", &mut fields), name("model", &mut fields));
    let input_tokens = tokens_of(&mut fields, "input_tokens", &named("input_tokens"), notes, true);
    let output_tokens =
        tokens_of(&mut fields, "output_tokens", &named("output_tokens"), notes, true);
    let sum = input_tokens.zip(output_tokens).map(|(input, output)| input + output);
    let stated = tokens_of(&mut fields, "total_tokens", &named("total_tokens"), notes, true);
    let other = stated.filter(|stated| sum.is_some_and(|sum| sum != *stated));
    if let (Some(sum), Some(stated)) = (sum, other) {
        notes.add(format!(
            "entries[{at}].total_tokens is {stated}, but input and output are {sum} together; \
             {sum} is recorded"
        ));
    }
    let estimated_cost = cost_of(&mut fields, &named("estimated_cost"), notes);
    let mut extra = |name: &str| tokens_of(&mut fields, name, &named(name), notes, false);
    Entry {
        agent,
        model,
        input_tokens,
        output_tokens,
        total_tokens: stated.map(|stated| sum.unwrap_or(stated)),
        stated_total_tokens: other.or_else(|| extra("stated_total_tokens")),
        estimated_cost,
        cache_read_tokens: extra("cache_read_tokens"),
        cache_write_tokens: extra("cache_write_tokens"),
    }
}

fn tokens_of(
    fields: &mut Map<String, Value>,
    field: &str,
    name: &str,
    notes: &mut Notes,
    is_wanted: bool,
) -> Option<u64> {
    match fields.remove(field) {
        None | Some(Value::Null) => {
            if is_wanted {
                notes.missing(name);
            }
            None
        }
        Some(value) => {
            let count = whole(&value).filter(|count| *count <= MAX_TOKENS);
            if count.is_none() {
                notes.add(format!(
                    "{name} is no number of tokens (0 to {MAX_TOKENS}); recorded as null"
                ));
            }
            count
        }
    }
}

fn cost_of(fields: &mut Map<String, Value>, name: &str, notes: &mut Notes) -> Option<f64> {
    match fields.remove("estimated_cost") {
        None | Some(Value::Null) => {
            notes.missing(name);
            None
        }
        Some(value) => {
            let usd = value.as_f64().filter(|usd| (0.0..=MAX_COST_USD).contains(usd));
            if usd.is_none() {
                notes.add(format!("{name} is no amount of dollars; recorded as null"));
            }
            usd.map(text::to_micros)
        }
    }
}

/// A whole number, also one written as `12000.0`.
fn whole(value: &Value) -> Option<u64> {
    let exact = value.as_u64();
    exact.or_else(|| {
        let number = value.as_f64()?;
        let is_whole = number.fract() == 0.0 && (0.0..=9e15).contains(&number);
        is_whole.then_some(number as u64)
    })
}

fn wanted_text(
    fields: &mut Map<String, Value>,
    field: &str,
    name: &str,
    max_chars: usize,
    notes: &mut Notes,
) -> Option<String> {
    if fields.get(field).is_none_or(Value::is_null) {
        notes.missing(name);
    }
    text_of(fields, field, name, max_chars, notes)
}

fn text_of(
    fields: &mut Map<String, Value>,
    field: &str,
    name: &str,
    max_chars: usize,
    notes: &mut Notes,
) -> Option<String> {
    match fields.remove(field) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.trim().is_empty() => {
            notes.add(format!("{name} is empty; recorded as null"));
            None
        }
        Some(Value::String(mut text)) => {
            let end = text.char_indices().nth(max_chars - 1).map(|(end, _)| end);
            if let Some(end) = end.filter(|_| text.chars().nth(max_chars).is_some()) {
                text.truncate(end);
                text.push('…');
                notes.add(format!("{name} has more than {max_chars} characters; it is cut"));
            }
            Some(text)
        }
        Some(_) => {
            notes.add(format!("{name} is not text; recorded as null"));
            None
        }
    }
}

/// The Unix milliseconds of an ISO 8601 time; one without an offset is UTC, and so is a
/// day without a time.
pub(super) fn unix_ms_of(text: &str) -> Option<i64> {
    let text = text.trim();
    let utc = |civil: jiff::civil::DateTime| {
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    };
    let at = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at,
        Err(_) => utc(text.parse().ok()?)?,
    };
    let unix_ms = at.as_millisecond();
    // File names have four digits for the year.
    let year = at.to_zoned(jiff::tz::TimeZone::UTC).year();
    (1970..=9999).contains(&year).then_some(unix_ms)
}

/// What is noted, within bounds.
#[derive(Default)]
struct Notes {
    list: Vec<String>,
    left_out: u64,
}

impl Notes {
    fn add(&mut self, note: String) {
        if self.list.len() < MAX_NOTES {
            self.list.push(note);
        } else {
            self.left_out += 1;
        }
    }

    fn missing(&mut self, name: &str) {
        self.add(format!("{name} is missing; recorded as null"));
    }

    fn is_about(&self, name: &str) -> bool {
        self.list.iter().any(|note| note.starts_with(name))
    }

    fn end(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.list.push(format!("and {} more", self.left_out));
        }
        self.list
    }
}
