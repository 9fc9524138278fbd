//! The walk over the lines of a task file: which blocks are open, what counts.

use super::syntax::{
    CODE_INDENT_COLUMNS, Said, checkbox, fence_length, is_heading, is_thematic_break, is_tick,
    leaves_comment_open, marker, split_indent, status, without_comments,
};
use super::{Item, Status, TaskFile};

/// Lists opened on one line. Nobody writes two; without a bound, a line of
/// nothing but markers takes quadratic time.
const MAX_MARKERS_PER_LINE: u32 = 8;

/// A block that hides its lines until it is closed.
#[derive(Debug)]
enum Hidden {
    Fence { mark: char, length: usize, indent: usize },
    Comment,
}

#[derive(Debug)]
struct HiddenBlock {
    kind: Hidden,
    opened_at: u32,
    holds_open_box: bool,
}

/// The state carried from line to line.
#[derive(Debug, Default)]
pub(super) struct Scan {
    items: Vec<Item>,
    said: Vec<(u32, Said)>,
    hidden: Option<HiddenBlock>,
    /// Column where the text of each enclosing list item starts, ascending.
    lists: Vec<usize>,
    /// The line before was blank.
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
    pub(super) fn line(&mut self, number: u32, line: &str) {
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
            Hidden::Fence { mark, length, indent: opened } => {
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
            Hidden::Fence { mark, length, indent }
        } else if text.starts_with("<!--") {
            // `<!-->` is a whole comment, so the end may overlap the start.
            if text[2..].contains("-->") {
                return true;
            }
            Hidden::Comment
        } else {
            return false;
        };
        self.hidden = Some(HiddenBlock { kind, opened_at: number, holds_open_box: false });
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
            text.split_once("-->").is_none_or(|(_, rest)| leaves_comment_open(rest))
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

    pub(super) fn finish(self, digest: String) -> TaskFile {
        let ticked = self.items.iter().filter(|item| item.ticked).count() as u32;
        let total = self.items.len() as u32;
        let unclosed_at =
            self.hidden.filter(|block| block.holds_open_box).map(|block| block.opened_at);
        let status = agree(self.said);
        TaskFile { items: self.items, ticked, total, status, unclosed_at, digest }
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
        (Some((line, value)), contradicts) => Some(Status::Other { line, value, contradicts }),
        (None, Some(line)) => Some(Status::Done { line }),
        (None, None) => None,
    }
}
