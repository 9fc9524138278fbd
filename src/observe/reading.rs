//! From transcripts to threads: the responses that count, as `usage` tells them, joined
//! with what was done in each.
//!
//! Rows may come twice, in any order, torn or spliced: what is found twice is kept once,
//! and a line that is no whole row is left to the careful reader of `transcript::parse`.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::raw::{RawBlock, RawInput, RawMessage, RawRow};
use super::shell;
use super::thread::{Call, Effect, Output, Prompt, Step, Thread, Words};
use super::verdict;
use crate::models::Models;
use crate::text;
use crate::transcript::json::{array, is_true, number, object, string};
use crate::transcript::parse::{self, Damage};
use crate::transcript::part::digest;
use crate::transcript::record::{Assistant, Body, Row, User};
use crate::transcript::tail::MAX_LINE_BYTES;
use crate::usage;
use crate::usage::responses::{self, OwnResponses, Response, ResponseKey};
use memchr::memmem;

/// As much is read at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// So much of the beginning and of the end of a turn's last words is kept, characters.
const WORDS_CHARS: usize = 400;
/// Longest title of a prompt, columns.
const TITLE_COLUMNS: usize = 100;
/// Longest error that is kept, columns.
const ERROR_COLUMNS: usize = 160;
/// Longest path that is kept, in bytes.
const PATH_MAX: usize = 4_096;
/// In place of a kind of agent, for rows of a subagent in its session's own file.
pub(crate) const SIDE: &str = "sidechain";

/// Tools that change no file.
const LOOKING_TOOLS: &[&str] = &[
    "AskUserQuestion",
    "BashOutput",
    "ExitPlanMode",
    "Glob",
    "Grep",
    "LS",
    "LSP",
    "ListMcpResourcesTool",
    "NotebookRead",
    "Read",
    "ReadMcpResourceTool",
    "TaskCreate",
    "TaskGet",
    "TaskList",
    "TaskOutput",
    "TaskUpdate",
    "TodoRead",
    "TodoWrite",
    "ToolSearch",
    "WebFetch",
    "WebSearch",
];
/// Tools that are there to change files.
const CHANGING_TOOLS: &[&str] = &["Edit", "MultiEdit", "NotebookEdit", "Write"];

/// All threads of a time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads {
    /// By path.
    pub list: Vec<Thread>,
    /// What was wrong with the transcripts.
    pub damage: Damage,
}

/// Files of a project that are kept for the next session and are no work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    files: Vec<String>,
    /// With a slash at the end.
    folders: Vec<String>,
}

impl Notes {
    /// These, relative to a project.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let files = files.into_iter().map(|file| file.to_string_lossy().into_owned());
        Self { files: files.collect(), folders: Vec::new() }
    }

    /// And whatever is below these folders, relative to a project.
    pub fn and_below(mut self, folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let folders = folders.into_iter().map(|folder| format!("{}/", folder.to_string_lossy()));
        self.folders.extend(folders);
        self
    }

    /// Is it one of them, wherever the project is?
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_start_matches("./");
        let is_whole = |before: &str| before.is_empty() || before.ends_with('/');
        self.files.iter().any(|note| path.strip_suffix(note.as_str()).is_some_and(is_whole))
            || self.folders.iter().any(|folder| {
                path.match_indices(folder.as_str()).any(|(at, _)| is_whole(&path[..at]))
            })
    }
}

/// Reads the transcripts below these directories that were written to since then. With a
/// project, those that worked there or below.
pub(crate) fn threads(
    config_dirs: &[PathBuf],
    since_unix_ms: i64,
    project: Option<&Path>,
    notes: &Notes,
    models: &Models,
) -> Threads {
    let (files, damage) = responses::since(config_dirs, since_unix_ms, models);
    threads_of(files, damage, project, notes, models)
}

/// The threads of these files.
fn threads_of(
    files: Vec<OwnResponses>,
    damage: Damage,
    project: Option<&Path>,
    notes: &Notes,
    models: &Models,
) -> Threads {
    let mut threads = Threads { list: Vec::new(), damage };
    let mut reader = Reader {
        notes,
        models,
        known: HashSet::new(),
        finder: memmem::Finder::new(b"\"message\""),
    };
    for own in files {
        if project.is_some_and(|project| !Path::new(&own.project).starts_with(project)) {
            continue;
        }
        let path = own.path.clone();
        match usage::open(&path).and_then(|file| reader.read(own, file)) {
            Ok(found) => threads.list.extend(found),
            Err(_) => threads.damage.unreadable_files += 1,
        }
    }
    threads
}

/// The same for the same bytes, within one process.
pub(crate) fn hash_of(bytes: impl AsRef<[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.as_ref().hash(&mut hasher);
    hasher.finish()
}

struct Reader<'n> {
    notes: &'n Notes,
    models: &'n Models,
    /// Paths and names seen so far: most come again.
    known: HashSet<Arc<str>>,
    finder: memmem::Finder<'static>,
}

/// What is gathered of one file.
#[derive(Default)]
struct Gathered {
    places: HashMap<ResponseKey, usize>,
    /// By step, then by the call's name.
    calls: Vec<HashMap<u64, Call>>,
    outputs: HashMap<u64, (Output, Option<Box<str>>)>,
    prompts: BTreeSet<Prompt>,
    words: BTreeSet<Words>,
    bad_rows: u64,
}

impl Reader<'_> {
    /// The thread of a file; a second one where subagents wrote into their session's file.
    fn read(&mut self, own: OwnResponses, file: File) -> io::Result<Vec<Thread>> {
        let mut gathered = Gathered::default();
        for (at, response) in own.responses.iter().enumerate() {
            gathered.places.insert(response.key, at);
        }
        gathered.calls.resize_with(own.responses.len(), HashMap::new);
        let mut lines = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut line = Vec::new();
        while next_line(&mut lines, &mut line)? {
            self.line(line.trim_ascii(), &mut gathered);
        }
        Ok(gathered.threads(own, self.models))
    }

    fn line(&mut self, line: &[u8], gathered: &mut Gathered) {
        if self.finder.find(line).is_none() {
            return;
        }
        let whole = std::str::from_utf8(line).ok();
        if whole.is_some_and(|text| self.row(text, gathered).is_some()) {
            return;
        }
        let mut damage = Damage::default();
        parse::rows(line, &mut damage, |row| self.salvaged(&row, gathered));
        gathered.bad_rows += damage.bad_rows;
    }

    /// `None` if it is not one whole row.
    fn row(&mut self, text: &str, gathered: &mut Gathered) -> Option<()> {
        let raw: RawRow<'_> = serde_json::from_str(text).ok()?;
        let kind = string(raw.kind)?;
        let unix_ms = string(raw.timestamp)
            .and_then(|stamp| stamp.parse::<jiff::Timestamp>().ok())
            .map(jiff::Timestamp::as_millisecond);
        let Some(message) = object::<RawMessage<'_>>(raw.message) else { return Some(()) };
        match kind.as_str() {
            "assistant" if !is_true(raw.is_api_error_message) => {
                self.assistant(&raw, &message, unix_ms, gathered);
            }
            "user" => {
                let is_result = user(&message, gathered);
                if !is_result && !is_true(raw.is_sidechain) {
                    let mut damage = Damage::default();
                    parse::rows(text.as_bytes(), &mut damage, |row| prompt(&row, gathered));
                }
            }
            _ => {}
        }
        Some(())
    }

    fn assistant(
        &mut self,
        raw: &RawRow<'_>,
        message: &RawMessage<'_>,
        unix_ms: Option<i64>,
        gathered: &mut Gathered,
    ) {
        let request = string(raw.request_id).or_else(|| string(raw.request_ref));
        let key = key(string(message.id).as_deref(), request.as_deref());
        let Some(at) = key.and_then(|key| gathered.places.get(&key).copied()) else { return };
        let block = number(raw.api_block_index).unwrap_or(0);
        let mut said = String::new();
        for (place, content) in array(message.content).into_iter().zip(0..) {
            let Some(part) = object::<RawBlock<'_>>(Some(place)) else { continue };
            match string(part.kind).as_deref() {
                Some("text") => said.push_str(&string(part.text).unwrap_or_default()),
                Some("tool_use") => {
                    let call = self.call(&part, block.saturating_mul(1_000) + content);
                    gathered.calls[at].entry(call.id).or_insert(call);
                }
                _ => {}
            }
        }
        let ends = string(message.stop_reason).is_some_and(|why| why != "tool_use");
        if ends && !is_true(raw.is_sidechain) {
            gathered.say(unix_ms, &said);
        }
    }

    fn call(&mut self, part: &RawBlock<'_>, block: u64) -> Call {
        let id = string(part.id).unwrap_or_default();
        let tool = string(part.name).unwrap_or_default();
        let input = object::<RawInput<'_>>(part.input);
        let field = |pick: fn(&RawInput<'_>) -> Option<String>| input.as_ref().and_then(pick);
        let file = field(|i| string(i.file_path).or_else(|| string(i.notebook_path)));
        let command = field(|i| string(i.command));
        let agent = field(|i| string(i.subagent_type));
        let bounds = input.as_ref().map_or([None; 3], |i| [i.offset, i.limit, i.pages]);
        let range = bounds.map(|raw| raw.map_or("", |raw| raw.get())).join(",");
        let effect = match (tool.as_str(), &command) {
            ("Bash", Some(command)) => shell::effect(command, |path| self.notes.has(path)),
            _ => self.effect(&tool, file.as_deref()),
        };
        let what = match &command {
            Some(command) if tool == "Bash" => Some(shell::head(command)),
            _ => agent,
        };
        let subjects: Vec<u64> = match (&command, tool.as_str()) {
            (Some(command), "Bash") => shell::subjects(command).iter().map(hash_of).collect(),
            (None, "Agent" | "Task") => vec![hash_of(&tool)],
            _ if CHANGING_TOOLS.contains(&tool.as_str()) => {
                file.iter().map(|file| hash_of(format!("file {file}"))).collect()
            }
            _ => Vec::new(),
        };
        Call {
            id: hash_of(&id),
            block,
            effect,
            is_check: tool == "Bash" && command.as_deref().is_some_and(shell::is_check),
            file: file.filter(|file| file.len() <= PATH_MAX).map(|file| self.shared(&file)),
            part: hash_of(&range),
            what: what.map(|what| self.shared(&text::clip(&what, TITLE_COLUMNS))),
            tool: self.shared(&tool),
            subjects: subjects.into(),
            output: None,
            error: None,
        }
    }

    fn effect(&self, tool: &str, file: Option<&str>) -> Effect {
        if CHANGING_TOOLS.contains(&tool) {
            return match file.is_some_and(|file| self.notes.has(file)) {
                true => Effect::Notes,
                false => Effect::Changes,
            };
        }
        match LOOKING_TOOLS.contains(&tool) {
            true => Effect::Looks,
            false => Effect::May,
        }
    }

    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.known.insert(new.clone());
        new
    }

    /// A row out of a damaged line, of which less is known.
    fn salvaged(&mut self, row: &Row, gathered: &mut Gathered) {
        match &row.body {
            Body::Assistant(assistant) => self.salvaged_reply(row, assistant, gathered),
            Body::User(User { results, .. }) => {
                for (id, is_error) in results {
                    let output = Output { is_error: *is_error, ..Output::default() };
                    gathered.put_output(hash_of(id), output, None);
                }
                if !row.sidechain {
                    prompt(row, gathered);
                }
            }
            _ => {}
        }
    }

    fn salvaged_reply(&mut self, row: &Row, assistant: &Assistant, gathered: &mut Gathered) {
        let request = assistant.request_id.as_deref().or(assistant.request_ref.as_deref());
        let key = key(assistant.message_id.as_deref(), request);
        let Some(at) = key.and_then(|key| gathered.places.get(&key).copied()) else { return };
        for (call, place) in assistant.tools.iter().zip(0..) {
            let id = hash_of(&call.id);
            let file = call.file.as_deref();
            let made = Call {
                id,
                block: assistant.block.saturating_mul(1_000) + place,
                effect: self.effect(&call.name, file),
                file: file.map(|file| self.shared(file)),
                part: 0,
                what: None,
                is_check: false,
                tool: self.shared(&call.name),
                subjects: Box::default(),
                output: None,
                error: None,
            };
            gathered.calls[at].entry(id).or_insert(made);
        }
        if assistant.ends_turn && !row.sidechain {
            gathered.say(row.unix_ms, &assistant.text);
        }
    }
}

/// One line, without what is beyond the longest that is read. False at the end.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let max = MAX_LINE_BYTES as u64;
    if io::Read::take(&mut *lines, max).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.len() as u64 == max && !line.ends_with(b"\n") {
        line.clear();
        line.shrink_to(BUFFER_BYTES);
        lines.skip_until(b'\n')?;
    }
    Ok(true)
}

fn key(message: Option<&str>, request: Option<&str>) -> Option<ResponseKey> {
    let id = message.or(request)?;
    Some((digest(id), request.map(digest)))
}

/// Takes the results in a user row. True if there are any.
fn user(message: &RawMessage<'_>, gathered: &mut Gathered) -> bool {
    let mut is_result = false;
    for part in array(message.content) {
        let Some(part) = object::<RawBlock<'_>>(Some(part)) else { continue };
        if string(part.kind).as_deref() != Some("tool_result") {
            continue;
        }
        is_result = true;
        let Some(id) = string(part.tool_use_id) else { continue };
        let said = match string(part.content) {
            Some(said) => said,
            None => {
                let blocks = array(part.content).into_iter();
                let texts = blocks.filter_map(|block| object::<RawBlock<'_>>(Some(block)));
                texts.filter_map(|block| string(block.text)).collect::<Vec<_>>().join("\n")
            }
        };
        let (is_error, failure) = (is_true(part.is_error), verdict::failure(&said));
        let output = Output {
            chars: said.chars().count() as u64,
            hash: hash_of(&said),
            is_error,
            tells_failure: failure.is_some(),
            ..Output::default()
        };
        let is_failed = is_error || failure.is_some();
        let error = is_failed.then(|| error_words(&said, failure.as_deref()));
        gathered.put_output(hash_of(&id), output, error.flatten());
    }
    is_result
}

/// Why a call failed, harmless and short: its first line, and of a command what it ends with or
/// says that failed. `None`: somebody refused the call, so that it did not fail.
fn error_words(said: &str, failure: Option<&str>) -> Option<Box<str>> {
    const REFUSED: &[&str] =
        &["The user doesn't want", "[Request interrupted", "Cancelled", "User rejected"];
    let said = said.trim().trim_start_matches("<tool_use_error>");
    let said = said.trim_end_matches("</tool_use_error>");
    if REFUSED.iter().any(|refused| said.starts_with(refused)) {
        return None;
    }
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("it failed");
    let is_command = first.starts_with("Exit code ");
    let more = failure.or_else(|| lines.next_back().filter(|_| is_command));
    let words = match more.filter(|more| *more != first) {
        Some(more) if is_command => format!("{first}: {more}"),
        Some(more) => more.to_owned(),
        None => first.to_owned(),
    };
    Some(text::clip(&text::safe(&words), ERROR_COLUMNS).into())
}

fn prompt(row: &Row, gathered: &mut Gathered) {
    let (Body::User(User { prompt: Some(said), .. }), Some(unix_ms)) = (&row.body, row.unix_ms)
    else {
        return;
    };
    let words: Vec<&str> = said.split_whitespace().collect();
    let said = words.join(" ");
    gathered.prompts.insert(Prompt {
        unix_ms,
        hash: hash_of(&said),
        chars: said.chars().count() as u64,
        title: text::clip(&said, TITLE_COLUMNS).into_owned(),
    });
}

impl Gathered {
    /// Of several tellings, the longest stands.
    fn put_output(&mut self, id: u64, output: Output, error: Option<Box<str>>) {
        let known = self.outputs.entry(id).or_default();
        let told = (output, error);
        if *known < told {
            *known = told;
        }
    }

    fn say(&mut self, unix_ms: Option<i64>, said: &str) {
        let said = said.trim();
        let (Some(unix_ms), false) = (unix_ms, said.is_empty()) else { return };
        let count = said.chars().count();
        let text = match count > 2 * WORDS_CHARS {
            true => {
                let head: String = said.chars().take(WORDS_CHARS).collect();
                let tail: String = said.chars().skip(count - WORDS_CHARS).collect();
                format!("{head}\n…\n{tail}")
            }
            false => said.to_owned(),
        };
        self.words.insert(Words { unix_ms, text });
    }

    fn threads(mut self, own: OwnResponses, models: &Models) -> Vec<Thread> {
        let (mut main, mut side) = (Vec::new(), Vec::new());
        for (response, calls) in own.responses.into_iter().zip(std::mem::take(&mut self.calls)) {
            let of_side = own.agent.is_none() && !response.is_main;
            let step = self.step(response, calls, models);
            if of_side { side.push(step) } else { main.push(step) }
        }
        let mut thread = Thread {
            path: own.path,
            session: own.session,
            agent: own.agent,
            project: own.project,
            is_continuation: own.is_continuation,
            steps: main,
            prompts: self.prompts.into_iter().collect(),
            words: self.words.into_iter().collect(),
            bad_rows: self.bad_rows,
        };
        thread.weigh();
        let mut threads = Vec::new();
        if !side.is_empty() {
            let mut other = Thread {
                steps: side,
                agent: Some(SIDE.to_owned()),
                prompts: Vec::new(),
                words: Vec::new(),
                bad_rows: 0,
                ..thread.clone_head()
            };
            other.weigh();
            threads.push(other);
        }
        threads.insert(0, thread);
        threads
    }

    fn step(&self, response: Response, calls: HashMap<u64, Call>, models: &Models) -> Step {
        let mut calls: Vec<Call> = calls.into_values().collect();
        calls.sort_unstable_by_key(|call| (call.block, call.id));
        for call in &mut calls {
            if let Some((output, error)) = self.outputs.get(&call.id) {
                (call.output, call.error) = (Some(*output), error.clone());
            }
        }
        let mut tokens = response.billable.tokens;
        tokens.add(&response.advisors.tokens);
        let own_unpriced = match response.price {
            Some(_) => 0,
            None => response.billable.tokens.total(),
        };
        let cost = response.price.unwrap_or_default().plus(response.advisors.price);
        let mut step = Step {
            unix_ms: response.unix_ms,
            model: response.model,
            billable: response.billable,
            tokens,
            cost_usd: cost.as_f64(),
            unpriced_tokens: own_unpriced + response.advisors.unpriced_tokens,
            read_usd: 0.0,
            calls,
        };
        step.read_usd = step.price_of_a_read(models);
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::fixture::{Rows, Tokens, Tree};
    use crate::usage::places_tests::{make_pipe, without_waiting};

    #[test]
    fn nobody_waits_for_a_transcript_that_became_a_pipe() {
        let tree = Tree::new();
        let rows = Rows::new("s1").prompt(0, "Go").says(1, Tokens(1, 0, 0, 1), "Ok.");
        let path = tree.write("s1.jsonl", &rows.rows);
        let models = Models::builtin();
        let (files, damage) = responses::since(&tree.places().config_dirs, i64::MIN, models);
        assert_eq!((files.len(), damage.unreadable_files), (1, 0));
        make_pipe(&path);
        let found =
            without_waiting(move || threads_of(files, damage, None, &Notes::default(), models));
        assert_eq!((found.list.len(), found.damage.unreadable_files), (0, 1));
    }
}
