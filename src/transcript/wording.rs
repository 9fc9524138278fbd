//! Texts as people see them: what was typed, and one line for display.

use super::record::{MAX_PROMPT_BYTES, MAX_SUMMARY_CHARS};

/// The prompt as it was typed: a slash command is spelled out in tags, and
/// long text arrives wrapped as pasted content.
pub(super) fn prompt_text(text: String) -> String {
    if let Some(command) = slash_command(&text) {
        return command;
    }
    const OPEN: &str = "<pasted_content";
    const CLOSE: &str = "</pasted_content";
    let mut typed = String::new();
    let mut rest = text.as_str();
    while let Some((before, tagged)) = rest.split_once(OPEN) {
        // Both tags carry an id: `<pasted_content id="5b27">`.
        let Some((_, tagged)) = tagged.split_once('>') else {
            break;
        };
        let Some((pasted, behind)) = tagged.split_once(CLOSE) else {
            break;
        };
        let Some((_, behind)) = behind.split_once('>') else {
            break;
        };
        typed.push_str(before.trim_end_matches('\n'));
        typed.push_str(pasted.trim_matches('\n'));
        rest = behind.trim_start_matches('\n');
    }
    let mut typed = if typed.is_empty() { text } else { typed + rest };
    truncate(&mut typed, MAX_PROMPT_BYTES);
    typed
}

fn slash_command(text: &str) -> Option<String> {
    let tagged = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(inner, _)| inner.trim())
    };
    let starts = text.starts_with("<command-message>") || text.starts_with("<command-name>");
    let name = tagged("command-name").filter(|_| starts)?;
    let mut command = match tagged("command-args").filter(|args| !args.is_empty()) {
        Some(args) => format!("{name} {args}"),
        None => name.to_owned(),
    };
    truncate(&mut command, MAX_PROMPT_BYTES);
    Some(command)
}

/// One line without control characters, at most [`MAX_SUMMARY_CHARS`] long.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_SUMMARY_CHARS) {
        None => line,
        Some(_) => line.chars().take(MAX_SUMMARY_CHARS - 1).chain(['…']).collect(),
    }
}

pub(super) fn truncate(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes));
        text.shrink_to_fit();
    }
}
