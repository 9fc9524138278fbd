//! Text for people: makes foreign text harmless on a terminal, measures and
//! cuts it by columns, and writes counts, money, spans and times of day.
//!
//! Foreign text is everything that longhaul did not write itself: task files,
//! model names, tool summaries, error texts of the API. It is never dropped in
//! silence: what could steer a terminal is shown as an escape.

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::tz::TimeZone;
use serde::Serialize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Could this character steer a terminal, turn the reading direction, break a
/// line or hide? Joiners stay, since emoji and some scripts need them.
pub fn is_hazard(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{00AD}'
                | '\u{061C}'
                | '\u{180E}'
                | '\u{200B}'
                | '\u{200E}'
                | '\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}'
                | '\u{FEFF}'
                | '\u{FFF9}'..='\u{FFFB}'
                | '\u{E0000}'..='\u{E007F}'
        )
}

/// The text on one line, with every hazard shown as an escape: `\n`, `\t`,
/// `\r`, or `\u{1b}` and the like.
pub fn safe(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hazard) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hazard(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Foreign text made harmless inside a prompt: the CLI takes `@path` at the
/// beginning of a word for a request of the person to attach that file, wherever
/// it lies, and reads it without asking. A blank takes that meaning away.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut begins_word = true;
    for c in text.chars() {
        out.push(c);
        if c == '@' && begins_word {
            out.push(' ');
        }
        // What is left out when it is typed does not separate, nor join.
        if !is_hazard(c) || c.is_whitespace() {
            begins_word = c.is_whitespace();
        }
    }
    out
}

/// Columns the text takes on a terminal; where terminals differ, the larger.
pub fn width(text: &str) -> usize {
    let by_char = text.chars().map(|c| c.width().unwrap_or(0)).sum();
    text.width().max(by_char)
}

/// The text cut to `columns`, with an ellipsis if something was cut.
pub fn clip(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    // The bound is for text that is nothing but combining marks.
    for c in text.chars().take(columns.saturating_mul(8)) {
        out.push(c);
        if width(&out) >= columns {
            out.pop();
            break;
        }
    }
    while width(&out) >= columns.max(1) {
        out.pop();
    }
    if columns > 0 {
        out.push('…');
    }
    Cow::Owned(out)
}

/// Which side a table cell leans to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Figures.
    Right,
}

/// The text, filled with blanks to `columns`.
pub fn pad(text: &str, columns: usize, side: Side) -> String {
    let blanks = " ".repeat(columns.saturating_sub(width(text)));
    match side {
        Side::Left => format!("{text}{blanks}"),
        Side::Right => format!("{blanks}{text}"),
    }
}

/// Breaks the text into lines of at most `columns`, at blanks where it can;
/// lines after the first begin with `indent` blanks. Nothing is lost but the
/// blanks at which it breaks.
pub fn wrap(text: &str, columns: usize, indent: usize) -> Vec<String> {
    let indent = if indent + 10 > columns { 0 } else { indent };
    let columns = columns.max(2);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut is_fresh = true;
    for word in text.split(' ') {
        let gap = usize::from(!is_fresh);
        if width(&line) + gap + width(word) <= columns {
            if gap == 1 {
                line.push(' ');
            }
            line.push_str(word);
            is_fresh = false;
            continue;
        }
        if !is_fresh {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
        }
        // A word longer than a line is broken where the line ends.
        for c in word.chars() {
            if width(&line) + c.width().unwrap_or(0) > columns {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            }
            line.push(c);
        }
        is_fresh = false;
    }
    lines.push(line);
    lines
}

/// Tokens in few characters: `999`, `12.3k`, `124k`, `1.53M`.
pub fn tokens(count: u64) -> String {
    let scaled = |unit: f64| count as f64 / unit;
    match count {
        0..1_000 => count.to_string(),
        1_000..99_950 => format!("{:.1}k", scaled(1e3)),
        99_950..999_500 => format!("{:.0}k", scaled(1e3)),
        999_500..99_950_000 => format!("{:.2}M", scaled(1e6)),
        99_950_000..999_500_000 => format!("{:.0}M", scaled(1e6)),
        _ => format!("{:.2}G", scaled(1e9)),
    }
}

/// A whole number with its thousands set apart: `1,234,567`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Dollars and cents; less than a cent but more than nothing is `<$0.01`.
pub fn usd(dollars: f64) -> String {
    if !dollars.is_finite() {
        return "unknown".into();
    }
    if dollars > 0.0 && dollars < 0.01 {
        return "<$0.01".into();
    }
    // Adding zero turns -0 into 0.
    format!("${:.2}", dollars.max(0.0) + 0.0)
}

/// Dollars as reports and events carry them: six decimals, never `-0`, and
/// null for what is no number.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd)]
pub struct Usd(pub f64);

impl Serialize for Usd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(to_micros(self.0))
    }
}

/// Dollars rounded to a millionth, never `-0`.
pub fn to_micros(usd: f64) -> f64 {
    // Adding zero turns -0 into 0.
    (usd * 1e6).round() / 1e6 + 0.0
}

/// A span of time in words that fit a line: `7s`, `4m 05s`, `2h 14m`, `1d 03h`.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days}d {:02}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h {:02}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m {:02}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

/// A running clock: `0:07`, `4:05`, `2:14:31`.
pub fn stopwatch(ms: u64) -> String {
    let seconds = ms / 1000;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{rest:02}")
    } else {
        format!("{minutes}:{rest:02}")
    }
}

/// A local time by a `strftime` pattern; `unknown` for a time beyond the calendar.
pub fn local(unix_ms: i64, zone: &TimeZone, pattern: &str) -> String {
    match jiff::Timestamp::from_millisecond(unix_ms) {
        Ok(ts) => ts.to_zoned(zone.clone()).strftime(pattern).to_string(),
        Err(_) => "unknown".into(),
    }
}

/// A moment for somebody who reads it later: `Sat 2026-11-21 02:55 CET`.
pub fn moment(unix_ms: i64, zone: &TimeZone) -> String {
    local(unix_ms, zone, "%a %Y-%m-%d %H:%M %Z")
}

/// A moment for somebody who reads it now: `02:55`, with the day where that would
/// be the wrong one to think of.
pub fn near(unix_ms: i64, now_unix_ms: i64, zone: &TimeZone) -> String {
    const HOUR_MS: u64 = 3_600_000;
    let pattern = match unix_ms.abs_diff(now_unix_ms) / HOUR_MS {
        0..20 => "%H:%M",
        20..144 => "%a %H:%M",
        _ => "%Y-%m-%d %H:%M",
    };
    local(unix_ms, zone, pattern)
}

/// A span of time said as a person would: `45 s`, `12 min`, `1 h 12 min`, `2 days`.
pub fn about(ms: u64) -> String {
    if ms < 100_000 {
        return format!("{} s", ms.div_ceil(1_000));
    }
    let minutes = (ms + 30_000) / 60_000;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours @ 0..48, 0) => format!("{hours} h"),
        (hours @ 0..48, minutes) => format!("{hours} h {minutes} min"),
        (hours, _) => format!("{} days", (hours + 12) / 24),
    }
}

/// A word as a shell reads it back, quoted where it has to be.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// One or many: `1 task`, `3 tasks`.
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

/// The value as JSON in which every hazard is written as `\uXXXX`: the same
/// value to a parser, harmless to a terminal.
pub fn json<T: Serialize>(value: &T, pretty: bool) -> serde_json::Result<String> {
    let plain =
        if pretty { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? };
    // Outside of strings JSON is ASCII, and inside serde_json has already
    // escaped what is below U+0020; the line breaks of pretty JSON stay.
    let is_hazard_in_json = |c: char| c != '\n' && is_hazard(c);
    if !plain.chars().any(is_hazard_in_json) {
        return Ok(plain);
    }
    let mut out = String::with_capacity(plain.len() + 32);
    for c in plain.chars() {
        if is_hazard_in_json(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_attaches_no_file_and_keeps_addresses() {
        let said = "@/etc/passwd me@example.org\n@\"a b\" \u{1b}@x \u{200b}@y (@z)";
        let expected = "@ /etc/passwd me@example.org\n@ \"a b\" \u{1b}@ x \u{200b}@ y (@z)";
        assert_eq!(quoted(said), expected);
        assert_eq!(quoted("@@x"), "@ @x");
    }
    use proptest::prelude::*;

    #[test]
    fn what_steers_a_terminal_is_shown() {
        assert_eq!(safe("plain täxt 漢字 👩‍💻"), "plain täxt 漢字 👩‍💻");
        assert_eq!(
            safe("a\x1b[2J\u{9b}31m\u{202e}gpj\n\r\t\u{7f}\u{feff}\u{e0041}"),
            "a\\u{1b}[2J\\u{9b}31m\\u{202e}gpj\\n\\r\\t\\u{7f}\\u{feff}\\u{e0041}"
        );
    }

    #[test]
    fn figures_read_easily() {
        assert_eq!(
            [0, 999, 1_000, 12_345, 99_949, 99_950, 124_400, 999_499].map(tokens),
            ["0", "999", "1.0k", "12.3k", "99.9k", "100k", "124k", "999k"]
        );
        assert_eq!(
            [999_500, 1_530_000, 99_949_999, 500_000_000].map(tokens),
            ["1.00M", "1.53M", "99.95M", "500M"]
        );
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, -0.0, 0.004, 0.01, 4.306, f64::NAN].map(usd),
            ["$0.00", "$0.00", "<$0.01", "$0.01", "$4.31", "unknown"]
        );
        assert_eq!(
            [0, 7_999, 245_000, 8_071_000, 97_200_000].map(span),
            ["0s", "7s", "4m 05s", "2h 14m", "1d 03h"]
        );
        assert_eq!([7_000, 245_000, 8_071_000].map(stopwatch), ["0:07", "4:05", "2:14:31"]);
        assert_eq!(
            (count(1, "task", "tasks"), count(0, "task", "tasks")),
            ("1 task".into(), "0 tasks".into())
        );
    }

    #[test]
    fn dollars_are_rounded_and_never_minus_zero() {
        let written = |d: f64| serde_json::to_string(&Usd(d)).unwrap();
        assert_eq!(
            [0.1 + 0.2, -0.0, -1e-9, 1.234_567_89, f64::NAN].map(written),
            ["0.3", "0.0", "0.0", "1.234568", "null"]
        );
    }

    #[test]
    fn moments_are_as_exact_as_a_person_needs_them() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        // 2027-01-15 08:00 UTC
        let now = 1_800_000_000_000;
        assert_eq!(moment(now, &zone), "Fri 2027-01-15 09:00 CET");
        let hours = |n: i64| near(now + n * 3_600_000, now, &zone);
        assert_eq!([0, 19, -19].map(hours), ["09:00", "04:00", "14:00"]);
        assert_eq!([20, 143, 144].map(hours), ["Sat 05:00", "Thu 08:00", "2027-01-21 09:00"]);
        assert_eq!(
            [0, 1, 99_000, 100_000, 719_999, 3_600_000, 4_320_000, 86_400_000, 200_000_000]
                .map(about),
            ["0 s", "1 s", "99 s", "2 min", "12 min", "1 h", "1 h 12 min", "24 h", "2 days"]
        );
    }

    #[test]
    fn times_are_local_to_the_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(local(1_800_000_000_000, &zone, "%Y-%m-%d %H:%M:%S"), "2027-01-15 10:00:00");
        assert_eq!(local(i64::MAX, &zone, "%H"), "unknown");
    }

    #[test]
    fn long_text_is_wrapped_at_blanks_and_cut_with_an_ellipsis() {
        assert_eq!(
            wrap("09:00:00  one two three four", 20, 10),
            ["09:00:00  one two", "          three four"]
        );
        assert_eq!(wrap("abcdefgh", 3, 0), ["abc", "def", "gh"]);
        assert_eq!(
            (clip("漢字漢字", 5), clip("abc", 3), clip("abcd", 3), clip("ab", 0)),
            ("漢字…".into(), "abc".into(), "ab…".into(), "".into())
        );
    }

    proptest! {
        #[test]
        fn nothing_foreign_stays_hazardous(text in any::<String>()) {
            prop_assert!(!safe(&text).chars().any(is_hazard));
            let written = json(&text, false).unwrap();
            prop_assert!(!written.chars().any(is_hazard));
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }

        #[test]
        fn nothing_is_wider_than_its_room(text in any::<String>(), columns in 2_usize..60, indent in 0_usize..20) {
            let text = safe(&text).into_owned();
            prop_assert!(width(&clip(&text, columns)) <= columns);
            let lines = wrap(&text, columns, indent);
            let longest = lines.iter().map(|l| width(l)).max();
            prop_assert!(longest <= Some(columns), "{lines:?}");
            let squeeze = |s: &str| s.replace(' ', "");
            prop_assert_eq!(squeeze(&lines.concat()), squeeze(&text));
        }
    }
}
