//! Where things stand on the screen: the conversation, the input line, and
//! what stands in place of the input line.

/// The mark in front of the option Enter would take, of the input line, and of
/// a prompt in the conversation.
pub(super) const POINTER: char = '❯';

/// Shorter runs of line characters are no rule.
const RULE_MIN_CHARS: usize = 3;

/// A screen, cut into its parts.
pub(super) struct Layout<'a> {
    lines: Vec<&'a str>,
    part: Part,
}

enum Part {
    /// The rules above and below the input line, by index.
    Input { top: usize, bottom: usize },
    /// Below this rule, or the picture of the first start, stands something that is no input line.
    Below { rule: usize },
    /// There is no rule: a view of its own, or one too long for the screen.
    Whole,
}

impl<'a> Layout<'a> {
    pub(super) fn of(screen: &'a str) -> Self {
        let lines: Vec<&str> = screen.lines().collect();
        let picture_end = end_of_picture(&lines);
        let ends_above = |at: &usize| is_rule(lines[*at]) || picture_end == Some(*at);
        let mut rules = (0..lines.len()).rev().filter(ends_above);
        let part = match (rules.next(), rules.next()) {
            (Some(bottom), Some(top)) if is_input(lines[top], &lines[top + 1..bottom]) => {
                Part::Input { top, bottom }
            }
            // The last options of a question stand below a rule of their own.
            (Some(lower), upper) if begins_amid_options(&lines[lower + 1..]) => {
                upper.map_or(Part::Whole, |rule| Part::Below { rule })
            }
            (Some(rule), _) => Part::Below { rule },
            (None, _) => Part::Whole,
        };
        Self { lines, part }
    }

    pub(super) fn is_blank(&self) -> bool {
        self.lines.iter().all(|line| line.trim().is_empty())
    }

    /// The lines below the input line; `None` when there is no input line.
    pub(super) fn footer(&self) -> Option<&[&'a str]> {
        match self.part {
            Part::Input { bottom, .. } => Some(&self.lines[bottom + 1..]),
            Part::Below { .. } | Part::Whole => None,
        }
    }

    /// The conversation, with the spinner at its end.
    pub(super) fn above(&self) -> &[&'a str] {
        match self.part {
            Part::Input { top: end, .. } | Part::Below { rule: end } => &self.lines[..end],
            Part::Whole => &self.lines,
        }
    }

    /// What stands where the input line would be, or the whole screen.
    pub(super) fn block(&self) -> &[&'a str] {
        match self.part {
            Part::Input { .. } => &[],
            Part::Below { rule } => &self.lines[rule + 1..],
            Part::Whole => &self.lines,
        }
    }

    /// Whether the block begins below a rule. If not, it may have parts of a
    /// conversation in it.
    pub(super) fn is_bounded(&self) -> bool {
        matches!(self.part, Part::Below { .. })
    }

    /// The first line with words in the block.
    pub(super) fn heading(&self) -> Option<&'a str> {
        let is_frame = |c: char| c.is_whitespace() || ('─'..='╿').contains(&c) || c == '|';
        let has_words = |line: &&str| line.chars().any(char::is_alphanumeric);
        self.block().iter().map(|line| line.trim_matches(is_frame)).find(has_words)
    }
}

/// A rule over the screen's width, which may carry a name. `▔` is above menus.
fn is_rule(line: &str) -> bool {
    ['─', '▔'].iter().any(|&dash| line.chars().take_while(|c| *c == dash).count() >= RULE_MIN_CHARS)
}

/// The last line of the picture that the first start paints above what it asks.
fn end_of_picture(lines: &[&str]) -> Option<usize> {
    let first = lines.iter().find(|line| !line.trim().is_empty())?;
    let is_frame = |line: &&str| line.starts_with("....") && line.ends_with('.');
    first.starts_with("Welcome to Claude Code").then(|| lines.iter().rposition(is_frame))?
}

/// Whether these lines, found below this rule and above another, are an input
/// line: `!` stands there for a command of the shell. Of a long text only the
/// end is shown, and the rule says how much is not: `─── ↑ 46 more ───`.
fn is_input(rule: &str, lines: &[&str]) -> bool {
    let is_cut = rule.contains(" ↑ ") && rule.contains(" more ");
    is_cut || lines.first().is_some_and(|line| line.starts_with([POINTER, '!']))
}

/// Whether these lines are the end of a question's options, which has a rule of
/// its own above it.
fn begins_amid_options(lines: &[&str]) -> bool {
    let Some(first) = lines.iter().find(|line| !line.trim().is_empty()) else { return false };
    let bare = first.trim().trim_start_matches(POINTER).trim_start();
    option(first).is_some_and(|option| option.number > 1) || bare == "Chat about this"
}

/// A numbered option of a dialog.
pub(super) struct Choice<'a> {
    pub(super) number: u32,
    pub(super) is_selected: bool,
    pub(super) label: &'a str,
}

/// This line as a numbered option: `❯ 1. Yes`.
pub(super) fn option(line: &str) -> Option<Choice<'_>> {
    let line = line.trim();
    let bare = line.strip_prefix(POINTER);
    let (number, label) = bare.unwrap_or(line).trim_start().split_once('.')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| number.parse().ok())??;
    Some(Choice { number, is_selected: bare.is_some(), label: label.trim() })
}

/// Blank cells in front of the first sign.
pub(super) fn indent(line: &str) -> usize {
    line.chars().take_while(|c| c.is_whitespace()).count()
}

/// The text without blanks and line breaks: a narrow terminal or a new release
/// wraps it elsewhere.
pub(super) fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}
