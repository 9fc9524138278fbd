//! The grammar that decides whether a task file is open, done or blocked.
//!
//! Pure: bytes in, facts out. The grammar is CommonMark cut down to what the
//! question needs and is written down in `dev-docs/TASK_FILE.md`; the two must
//! say the same. Where CommonMark and caution differ, the reading that leaves
//! a task open wins: a run that goes on too long is bounded by its budgets, a
//! run that ends too early has silently lost work.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Largest task file that is read. A list a session can work through is far
/// smaller; more is a mistake or an attack.
pub const MAX_TASK_FILE_BYTES: u64 = 1024 * 1024;

/// Columns of indentation, beyond the enclosing list item, that make code.
const CODE_INDENT_COLUMNS: usize = 4;
/// Columns between two tab stops.
const TAB_COLUMNS: usize = 4;
/// CommonMark's limit for the digits of an ordered list marker.
const MAX_MARKER_DIGITS: usize = 9;

/// Lists opened on one line. Nobody writes two; without a bound, a line of
/// nothing but markers takes quadratic time.
const MAX_MARKERS_PER_LINE: u32 = 8;

/// Why bytes are not a task file at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
pub enum TaskFileError {
    /// Nothing but white space.
    Empty,
    /// More than [`MAX_TASK_FILE_BYTES`].
    TooLarge {
        /// Size of what was given.
        bytes: u64,
    },
    /// Not UTF-8.
    NotUtf8 {
        /// Offset of the first bad byte.
        offset: u64,
    },
    /// A NUL byte: binary data, or a file with a hole left by a crash.
    HasNul {
        /// Offset of the first NUL.
        offset: u64,
    },
}

impl fmt::Display for TaskFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskFileError::Empty => f.write_str("is empty"),
            TaskFileError::TooLarge { bytes } => {
                write!(
                    f,
                    "has {bytes} bytes, more than the {MAX_TASK_FILE_BYTES} allowed"
                )
            }
            TaskFileError::NotUtf8 { offset } => {
                write!(f, "is not UTF-8 text (first bad byte at offset {offset})")
            }
            TaskFileError::HasNul { offset } => {
                write!(f, "holds a NUL byte at offset {offset}, so it is not text")
            }
        }
    }
}

impl std::error::Error for TaskFileError {}

/// One checkbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Line number, from 1.
    pub line: u32,
    /// How many list items enclose this one.
    pub depth: u32,
    /// What stands between the brackets, as written.
    pub mark: String,
    /// True for `x` and `X` alone.
    pub ticked: bool,
    /// The text after the box, without comments, trimmed.
    pub text: String,
}

impl Item {
    /// True if the mark is neither a tick nor blank: counted as open, and
    /// worth telling a person about.
    pub fn has_unknown_mark(&self) -> bool {
        !self.ticked && !self.mark.trim().is_empty()
    }
}

/// What the `Status:` lines say together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// Every status line says `done`.
    Done {
        /// The last of them.
        line: u32,
    },
    /// At least one says `blocked`.
    Blocked {
        /// The first of them.
        line: u32,
        /// What follows the word, or else the next line of text.
        reason: Option<String>,
    },
    /// Something else, or `done` contradicted by another status line.
    Other {
        /// The last line that says neither.
        line: u32,
        /// Its value as written.
        value: String,
        /// The line of a `Status: done` that this one contradicts.
        contradicts: Option<u32>,
    },
}

/// What makes a task file done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoneBy {
    /// All checkboxes are ticked, and there is at least one.
    Checkboxes,
    /// A `Status: done` line.
    StatusLine,
}

/// The answer the grammar exists for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Work is left, or nothing says that none is.
    Open,
    /// Done.
    Done {
        /// What says so.
        by: DoneBy,
    },
    /// A person is needed. Wins over done.
    Blocked {
        /// The reason, if one was given.
        reason: Option<String>,
    },
}

/// A task file, read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFile {
    /// The checkboxes, in order.
    pub items: Vec<Item>,
    /// How many are ticked.
    pub ticked: u32,
    /// How many there are.
    pub total: u32,
    /// What the status lines say, if there are any.
    pub status: Option<Status>,
    /// Line of the fence or comment that is never closed, if it hides a
    /// checkbox that is not ticked. Keeps the file from being done by its
    /// checkboxes: it is probably half-written.
    pub unclosed_at: Option<u32>,
    /// SHA-256 of the bytes, in hex. Done counts only when two reads agree.
    pub digest: String,
}

impl TaskFile {
    /// Reads a task file. Never panics, whatever the bytes.
    pub fn parse(bytes: &[u8]) -> Result<TaskFile, TaskFileError> {
        let size = bytes.len() as u64;
        if size > MAX_TASK_FILE_BYTES {
            return Err(TaskFileError::TooLarge { bytes: size });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| TaskFileError::NotUtf8 {
            offset: e.valid_up_to() as u64,
        })?;
        if let Some(offset) = text.find('\0') {
            return Err(TaskFileError::HasNul {
                offset: offset as u64,
            });
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim().is_empty() {
            return Err(TaskFileError::Empty);
        }
        let mut scan = Scan::default();
        for (index, line) in lines(text).enumerate() {
            scan.line(index as u32 + 1, line);
        }
        Ok(scan.finish(digest(bytes)))
    }

    /// Open, done or blocked.
    pub fn state(&self) -> State {
        match &self.status {
            Some(Status::Blocked { reason, .. }) => State::Blocked {
                reason: reason.clone(),
            },
            Some(Status::Done { .. }) => State::Done {
                by: DoneBy::StatusLine,
            },
            _ if self.total > 0 && self.ticked == self.total && self.unclosed_at.is_none() => {
                State::Done {
                    by: DoneBy::Checkboxes,
                }
            }
            _ => State::Open,
        }
    }

    /// True if [`TaskFile::state`] is done.
    pub fn is_done(&self) -> bool {
        matches!(self.state(), State::Done { .. })
    }

    /// The checkboxes that are not ticked.
    pub fn open_items(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| !item.ticked)
    }

    /// What keeps the file open although it may look done: one sentence each,
    /// for `doctor` and for the session. Empty for a plain list of tasks.
    pub fn oddities(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.total == 0 && self.status.is_none() {
            out.push(String::from(
                "has neither a checkbox (`- [ ] task`) nor a `Status: done` line, so it can never be done",
            ));
        }
        for item in self.items.iter().filter(|item| item.has_unknown_mark()) {
            out.push(format!(
                "line {}: [{}] counts as open; only [x] is ticked",
                item.line, item.mark
            ));
        }
        if let Some(Status::Other {
            line,
            contradicts: Some(done),
            ..
        }) = &self.status
        {
            out.push(format!(
                "line {done} says done, but the status on line {line} does not"
            ));
        }
        if let Some(line) = self.unclosed_at {
            out.push(format!(
                "the code fence or comment opened on line {line} is never closed and hides open checkboxes"
            ));
        }
        out
    }
}

/// SHA-256 in lower-case hex.
pub fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// Lines without their ends; LF, CRLF and CR all end one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return (!text.is_empty()).then_some(text);
        };
        let width = if text[end..].starts_with("\r\n") {
            2
        } else {
            1
        };
        rest = Some(&text[end + width..]);
        Some(&text[..end])
    })
}

/// A block that hides its lines until it is closed.
#[derive(Debug)]
enum Hidden {
    Fence {
        mark: char,
        length: usize,
        indent: usize,
    },
    Comment,
}

#[derive(Debug)]
struct HiddenBlock {
    kind: Hidden,
    opened_at: u32,
    holds_open_box: bool,
}

/// One status line as found.
#[derive(Debug)]
enum Said {
    Done,
    Blocked(Option<String>),
    Other(String),
}

/// The state carried from line to line.
#[derive(Debug, Default)]
struct Scan {
    items: Vec<Item>,
    said: Vec<(u32, Said)>,
    hidden: Option<HiddenBlock>,
    /// Column where the text of each enclosing list item starts, ascending.
    lists: Vec<usize>,
    /// The line before was blank, or there is none.
    after_blank: bool,
    /// The paragraph going on belongs to a block quote.
    in_quote: bool,
    /// The paragraph going on holds a comment that is not closed yet.
    in_inline_comment: bool,
    /// The line before is a `Status: blocked` without a reason.
    wants_reason: bool,
    /// Some line was seen.
    started: bool,
}

impl Scan {
    fn line(&mut self, number: u32, line: &str) {
        let after_blank = !self.started || self.after_blank;
        self.started = true;
        self.after_blank = false;
        let wants_reason = std::mem::take(&mut self.wants_reason);

        if self.hidden.is_some() {
            self.hidden_line(line);
            return;
        }
        let (indent, text) = split_indent(line, 0);
        if text.is_empty() {
            self.after_blank = true;
            self.end_paragraph();
            return;
        }
        let enclosing = self.lists.partition_point(|column| *column <= indent);
        let beyond = indent - enclosing.checked_sub(1).map_or(0, |at| self.lists[at]);
        if beyond >= CODE_INDENT_COLUMNS && (after_blank || self.lists.is_empty()) {
            self.leave_lists(indent);
            return;
        }
        let interrupts = is_thematic_break(text)
            || is_heading(text)
            || beyond < CODE_INDENT_COLUMNS && self.opens_hidden(number, indent, text);
        if interrupts {
            self.leave_lists(indent);
            self.end_paragraph();
        } else if text.starts_with('>') {
            self.leave_lists(indent);
            self.end_paragraph();
            self.in_quote = true;
        } else if let Some(content) = marker(text, indent) {
            self.end_paragraph();
            self.list_item(number, indent, content);
        } else {
            if after_blank {
                self.leave_lists(indent);
            }
            self.paragraph_line(number, indent, text, wants_reason);
        }
    }

    /// A line inside a fence or comment: only its end matters.
    fn hidden_line(&mut self, line: &str) {
        let Some(block) = &mut self.hidden else {
            return;
        };
        let (indent, text) = split_indent(line, 0);
        let closes = match &block.kind {
            Hidden::Comment => line.contains("-->"),
            Hidden::Fence {
                mark,
                length,
                indent: opened,
            } => {
                let run = text.chars().take_while(|c| c == mark).count();
                run >= *length
                    && text[run..].trim().is_empty()
                    && indent < opened + CODE_INDENT_COLUMNS
            }
        };
        if closes {
            self.hidden = None;
            return;
        }
        let mut rest = (indent, text);
        while let Some(next) = marker(rest.1, rest.0) {
            rest = next;
        }
        block.holds_open_box |=
            rest.1 != text && checkbox(rest.1).is_some_and(|(mark, _)| !is_tick(mark));
    }

    /// Notes the start of a fence or of a comment that begins its line.
    fn opens_hidden(&mut self, number: u32, indent: usize, text: &str) -> bool {
        let kind = if let Some(length) = fence_length(text) {
            let mark = if text.starts_with('~') { '~' } else { '`' };
            Hidden::Fence {
                mark,
                length,
                indent,
            }
        } else if text.starts_with("<!--") {
            // `<!-->` is a whole comment, so the end may overlap the start.
            if text[2..].contains("-->") {
                return true;
            }
            Hidden::Comment
        } else {
            return false;
        };
        self.hidden = Some(HiddenBlock {
            kind,
            opened_at: number,
            holds_open_box: false,
        });
        true
    }

    /// A list item: `content` is its text and the column where that starts.
    fn list_item(&mut self, number: u32, indent: usize, content: (usize, &str)) {
        self.leave_lists(indent);
        let (mut column, mut text) = content;
        self.lists.push(column);
        // `- 1. [ ] task` is a list in a list.
        for _ in 1..MAX_MARKERS_PER_LINE {
            let Some(inner) = marker(text, column).filter(|_| !is_thematic_break(text)) else {
                break;
            };
            (column, text) = inner;
            self.lists.push(column);
        }
        if let Some((mark, rest)) = checkbox(text) {
            self.in_inline_comment = leaves_comment_open(rest);
            self.items.push(Item {
                line: number,
                depth: self.lists.len() as u32 - 1,
                mark: mark.to_owned(),
                ticked: is_tick(mark),
                text: without_comments(rest).trim().to_owned(),
            });
        } else if text.starts_with('>') {
            self.in_quote = true;
        } else if !self.opens_hidden(number, column, text) {
            self.in_inline_comment = leaves_comment_open(text);
        }
    }

    /// A line of plain text, which may be a status line.
    fn paragraph_line(&mut self, number: u32, indent: usize, text: &str, wants_reason: bool) {
        let hidden = self.in_quote || self.in_inline_comment;
        self.in_inline_comment = if self.in_inline_comment {
            text.split_once("-->")
                .is_none_or(|(_, rest)| leaves_comment_open(rest))
        } else {
            leaves_comment_open(text)
        };
        if hidden {
            return;
        }
        let own_line = indent < CODE_INDENT_COLUMNS
            && self.lists.first().is_none_or(|column| indent < *column);
        let text = without_comments(text);
        if let Some(said) = own_line.then(|| status(&text)).flatten() {
            self.wants_reason = matches!(said, Said::Blocked(None));
            self.said.push((number, said));
        } else if wants_reason && let Some((_, Said::Blocked(reason))) = self.said.last_mut() {
            *reason = Some(text.trim().to_owned()).filter(|reason| !reason.is_empty());
        }
    }

    /// Ends the list items whose text starts to the right of `indent`.
    fn leave_lists(&mut self, indent: usize) {
        while self.lists.pop_if(|column| *column > indent).is_some() {}
    }

    fn end_paragraph(&mut self) {
        self.in_quote = false;
        self.in_inline_comment = false;
    }

    fn finish(self, digest: String) -> TaskFile {
        let ticked = self.items.iter().filter(|item| item.ticked).count() as u32;
        let total = self.items.len() as u32;
        let unclosed_at = self
            .hidden
            .filter(|block| block.holds_open_box)
            .map(|block| block.opened_at);
        let status = agree(self.said);
        TaskFile {
            items: self.items,
            ticked,
            total,
            status,
            unclosed_at,
            digest,
        }
    }
}

/// What several status lines say together: blocked wins, done must be unanimous.
fn agree(said: Vec<(u32, Said)>) -> Option<Status> {
    let mut done = None;
    let mut other = None;
    for (line, said) in said {
        match said {
            Said::Blocked(reason) => return Some(Status::Blocked { line, reason }),
            Said::Done => done = Some(line),
            Said::Other(value) => other = Some((line, value)),
        }
    }
    match (other, done) {
        (Some((line, value)), contradicts) => Some(Status::Other {
            line,
            value,
            contradicts,
        }),
        (None, Some(line)) => Some(Status::Done { line }),
        (None, None) => None,
    }
}

/// The column after leading blanks, counted from `column`, and the rest of the
/// line without blanks at its end.
fn split_indent(line: &str, mut column: usize) -> (usize, &str) {
    let text = line.trim_start_matches([' ', '\t']);
    for blank in line[..line.len() - text.len()].bytes() {
        column += if blank == b'\t' {
            TAB_COLUMNS - column % TAB_COLUMNS
        } else {
            1
        };
    }
    (column, text.trim_end())
}

/// If `text`, which stands at `column`, starts with a list marker: the column
/// and the text of the item's content.
fn marker(text: &str, column: usize) -> Option<(usize, &str)> {
    let width = match text.as_bytes().first()? {
        b'-' | b'*' | b'+' => 1,
        _ => {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let closed = matches!(text.as_bytes().get(digits), Some(b'.' | b')'));
            if !(1..=MAX_MARKER_DIGITS).contains(&digits) || !closed {
                return None;
            }
            digits + 1
        }
    };
    let rest = &text[width..];
    let end = column + width;
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return None;
    }
    let (content, text) = split_indent(rest, end);
    if text.is_empty() {
        return Some((end + 1, ""));
    }
    // Five blanks or more: the item starts with indented code.
    if content - end > CODE_INDENT_COLUMNS {
        Some((end + 1, ""))
    } else {
        Some((content, text))
    }
}

/// If `text` starts with a checkbox: what is between the brackets, and the rest.
fn checkbox(text: &str) -> Option<(&str, &str)> {
    let (mark, rest) = text.strip_prefix('[')?.split_once(']')?;
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return None;
    }
    let inner = mark.trim_matches([' ', '\t']);
    let single = inner.chars().nth(1).is_none();
    // A mark such as a check mark with its variation selector.
    let symbol = !inner.is_ascii() && inner.chars().count() <= 3 && !inner.contains('[');
    (single || symbol).then_some((mark, rest))
}

fn is_tick(mark: &str) -> bool {
    matches!(mark, "x" | "X")
}

/// The length of the code fence that `text` opens, if it does.
fn fence_length(text: &str) -> Option<usize> {
    let mark = text.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = text.chars().take_while(|c| *c == mark).count();
    // Backticks in the info string make it inline code.
    let inline = mark == '`' && text[length..].contains('`');
    (length >= 3 && !inline).then_some(length)
}

fn is_heading(text: &str) -> bool {
    let level = text.bytes().take_while(|b| *b == b'#').count();
    (1..=6).contains(&level) && matches!(text.as_bytes().get(level), None | Some(b' ' | b'\t'))
}

fn is_thematic_break(text: &str) -> bool {
    let Some(mark) = text.chars().next().filter(|c| matches!(c, '-' | '*' | '_')) else {
        return false;
    };
    let mut count = 0;
    text.chars().all(|c| {
        count += usize::from(c == mark);
        c == mark || c == ' ' || c == '\t'
    }) && count >= 3
}

/// `text` without the comments that start and end in it.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<!--") {
        let Some((_, behind)) = after.split_once("-->") else {
            break;
        };
        out.push_str(before);
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// True if `text` starts a comment that does not end in it.
fn leaves_comment_open(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("<!--") {
        match after.split_once("-->") {
            Some((_, behind)) => rest = behind,
            None => return true,
        }
    }
    false
}

/// Reads `Status: value`, with emphasis around key, value or both.
fn status(text: &str) -> Option<Said> {
    const EMPHASIS: [char; 2] = ['*', '_'];
    let (key, value) = text.split_once(':')?;
    let key = key.trim().trim_matches(EMPHASIS);
    if !key.eq_ignore_ascii_case("status") {
        return None;
    }
    let value = value.trim().trim_matches(EMPHASIS).trim();
    if value.is_empty() {
        return None;
    }
    if value.eq_ignore_ascii_case("done") {
        return Some(Said::Done);
    }
    let word = value
        .find(|c: char| !c.is_alphanumeric())
        .unwrap_or(value.len());
    if !value[..word].eq_ignore_ascii_case("blocked") {
        return Some(Said::Other(value.to_owned()));
    }
    let reason = value[word..]
        .trim_start_matches(|c: char| c.is_whitespace() || ":-–—,;.*_".contains(c))
        .trim();
    Some(Said::Blocked(
        (!reason.is_empty()).then(|| reason.to_owned()),
    ))
}

#[cfg(test)]
mod tests;
