//! What one line of a task file is: pure recognisers without any state.

/// What one status line says.
#[derive(Debug)]
pub(super) enum Said {
    Done,
    Blocked(Option<String>),
    Other(String),
}

/// Columns of indentation, beyond the enclosing list item, that make code.
pub(super) const CODE_INDENT_COLUMNS: usize = 4;
/// Columns between two tab stops.
const TAB_COLUMNS: usize = 4;
/// CommonMark's limit for the digits of an ordered list marker.
const MAX_MARKER_DIGITS: usize = 9;

/// Lines without their ends; LF, CRLF and CR all end one.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return (!text.is_empty()).then_some(text);
        };
        let width = if text[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&text[end + width..]);
        Some(&text[..end])
    })
}

/// The column after leading blanks, counted from `column`, and the rest of the
/// line without blanks at its end.
pub(super) fn split_indent(line: &str, mut column: usize) -> (usize, &str) {
    let text = line.trim_start_matches([' ', '\t']);
    for blank in line[..line.len() - text.len()].bytes() {
        column += if blank == b'\t' { TAB_COLUMNS - column % TAB_COLUMNS } else { 1 };
    }
    (column, text.trim_end())
}

/// If `text`, which stands at `column`, starts with a list marker: the column
/// and the text of the item's content.
pub(super) fn marker(text: &str, column: usize) -> Option<(usize, &str)> {
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
    if content - end > CODE_INDENT_COLUMNS { Some((end + 1, "")) } else { Some((content, text)) }
}

/// If `text` starts with a checkbox: what is between the brackets, and the rest.
pub(super) fn checkbox(text: &str) -> Option<(&str, &str)> {
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

pub(super) fn is_tick(mark: &str) -> bool {
    matches!(mark, "x" | "X")
}

/// The length of the code fence that `text` opens, if it does.
pub(super) fn fence_length(text: &str) -> Option<usize> {
    let mark = text.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = text.chars().take_while(|c| *c == mark).count();
    // Backticks in the info string make it inline code.
    let inline = mark == '`' && text[length..].contains('`');
    (length >= 3 && !inline).then_some(length)
}

pub(super) fn is_heading(text: &str) -> bool {
    let level = text.bytes().take_while(|b| *b == b'#').count();
    (1..=6).contains(&level) && matches!(text.as_bytes().get(level), None | Some(b' ' | b'\t'))
}

pub(super) fn is_thematic_break(text: &str) -> bool {
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
pub(super) fn without_comments(text: &str) -> String {
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
pub(super) fn leaves_comment_open(text: &str) -> bool {
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
pub(super) fn status(text: &str) -> Option<Said> {
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
    let word = value.find(|c: char| !c.is_alphanumeric()).unwrap_or(value.len());
    if !value[..word].eq_ignore_ascii_case("blocked") {
        return Some(Said::Other(value.to_owned()));
    }
    let reason = value[word..]
        .trim_start_matches(|c: char| c.is_whitespace() || ":-–—,;.*_".contains(c))
        .trim();
    Some(Said::Blocked((!reason.is_empty()).then(|| reason.to_owned())))
}
