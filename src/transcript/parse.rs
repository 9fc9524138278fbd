//! From the bytes of one line to its rows, and what was wrong with it. Pure.
//!
//! Lines are damaged in the wild in a few ways, mostly by two writers or by a
//! crash: a torn row with the next one behind it, two rows without a newline
//! between them, runs of NUL bytes. What is whole is used; what is not is
//! counted. A damaged line never ends the reading.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::record::{Body, Row};

/// How many places in a damaged line are tried as the start of a row, which
/// bounds the work a hostile line can cause.
const MAX_SALVAGE_STARTS: usize = 64;

/// How rows begin, as the CLI writes them and in other orders. Blocks within a row can
/// look the same, but what follows a block does not end with it.
const ROW_STARTS: &[&str] = &[
    "type\"",
    "parentUuid\"",
    "isSidechain\"",
    "sessionId\"",
    "agentId\"",
    "cwd\"",
    "gitBranch\"",
    "message\"",
    "requestId\"",
    "timestamp\"",
    "uuid\"",
    "version\"",
];
/// Some editors begin a file with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What was wrong with the lines read so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Pieces that are no row.
    pub bad_rows: u64,
    /// Rows found whole in a damaged line.
    pub salvaged_rows: u64,
    /// Rows of a type this version does not know.
    pub unknown_rows: u64,
    /// Files and folders of subagents that could not be read at the last look.
    pub unreadable_files: u64,
    /// Lines longer than anything that is read.
    pub skipped_lines: u64,
    /// Usage numbers that cannot be token counts, taken as 0.
    pub bad_numbers: u64,
}

impl Damage {
    /// Adds what was wrong elsewhere.
    pub fn add(&mut self, other: &Damage) {
        self.bad_rows += other.bad_rows;
        self.salvaged_rows += other.salvaged_rows;
        self.unknown_rows += other.unknown_rows;
        self.unreadable_files += other.unreadable_files;
        self.skipped_lines += other.skipped_lines;
        self.bad_numbers += other.bad_numbers;
    }
}

/// Reads the rows of one line, without its newline, in their order.
pub fn rows(line: &[u8], damage: &mut Damage, mut each: impl FnMut(Row)) {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
    if line.is_empty() {
        return;
    }
    if !line.contains(&0) {
        piece(line, damage, &mut each);
        return;
    }
    for part in line.split(|&byte| byte == 0) {
        let part = part.trim_ascii();
        if !part.is_empty() {
            piece(part, damage, &mut each);
        }
    }
    // The NULs stand where something else was.
    damage.bad_rows += 1;
}

/// Is this an object and nothing else?
pub(crate) fn is_whole(line: &[u8]) -> bool {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
    let text = without_controls(String::from_utf8_lossy(line));
    text.starts_with('{') && serde_json::from_str::<&RawValue>(&text).is_ok()
}

/// Control characters are no JSON, not even in texts; here they cost a character.
fn without_controls(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.bytes().any(|byte| byte < b' ') {
        true => Cow::Owned(text.replace(|c: char| c < ' ', " ")),
        false => text,
    }
}

fn piece(bytes: &[u8], damage: &mut Damage, each: &mut impl FnMut(Row)) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(row) = Row::read(&text) {
        deliver(row, damage, each);
        return;
    }
    let text = without_controls(text);
    if let Some(row) = Row::read(&text) {
        deliver(row, damage, each);
        return;
    }
    let found = salvage(text, damage, each);
    damage.salvaged_rows += found;
}

/// Takes a line apart that is not one row. Returns how many rows were in it.
fn salvage(text: Cow<'_, str>, damage: &mut Damage, each: &mut impl FnMut(Row)) -> u64 {
    let mut rest: &str = &text;
    let mut found = 0;
    let mut starts = 0;
    loop {
        // Whole values first: `{…}{…}`.
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let mut used = 0;
        while let Some(Ok(value)) = values.next() {
            // The rest of a torn string, up to the first quote of the next row, is
            // a value too; it would take that row's brace with it.
            if !value.get().starts_with('{') {
                break;
            }
            match Row::read(value.get()) {
                Some(row) => {
                    deliver(row, damage, each);
                    found += 1;
                }
                None => damage.bad_rows += 1,
            }
            used = values.byte_offset();
        }
        rest = rest[used..].trim_ascii_start();
        if rest.is_empty() {
            return found;
        }
        // Then a torn row: go on where the rest of the line is whole again.
        damage.bad_rows += 1;
        loop {
            let Some(next) = next_start(rest).filter(|_| starts < MAX_SALVAGE_STARTS) else {
                return found;
            };
            starts += 1;
            rest = &rest[next..];
            if begins_a_row(rest) {
                break;
            }
        }
    }
}

/// A row begins here when a whole value does that has a type rows have, and
/// nothing but another row stands behind it.
fn begins_a_row(text: &str) -> bool {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let Some(Ok(value)) = values.next() else {
        return false;
    };
    let behind = text[values.byte_offset()..].trim_ascii_start();
    (behind.is_empty() || behind.starts_with('{'))
        && Row::read(value.get()).is_some_and(|row| row.body != Body::Unknown)
}

fn next_start(text: &str) -> Option<usize> {
    let skip = text.chars().next()?.len_utf8();
    text[skip..].match_indices("{\"").map(|(at, _)| at + skip).find(|at| {
        let key = &text[at + 2..];
        ROW_STARTS.iter().any(|start| key.starts_with(start))
    })
}

fn deliver(row: Row, damage: &mut Damage, each: &mut impl FnMut(Row)) {
    match &row.body {
        Body::Unknown => damage.unknown_rows += 1,
        Body::Assistant(assistant) => {
            damage.bad_numbers += assistant.usage.as_ref().map_or(0, |usage| usage.bad_numbers);
        }
        _ => {}
    }
    each(row);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROW: &str = r#"{"type":"user","timestamp":"2026-11-20T10:00:00.000Z","message":{"role":"user","content":"héllo"}}"#;
    const REPLY: &str = r#"{"parentUuid":null,"isSidechain":false,"message":{"id":"m","model":"x","content":[{"type":"text","text":"a {\"type\": b"}],"usage":{"input_tokens":3}},"requestId":"r","type":"assistant"}"#;

    fn read(line: impl AsRef<[u8]>) -> (Vec<Row>, Damage) {
        let (mut found, mut damage) = (Vec::new(), Damage::default());
        rows(line.as_ref(), &mut damage, |row| found.push(row));
        (found, damage)
    }

    fn bodies(line: impl AsRef<[u8]>) -> Vec<Body> {
        read(line).0.into_iter().map(|row| row.body).collect()
    }

    #[test]
    fn a_whole_row_is_read_with_or_without_spaces_and_carriage_return() {
        let plain = bodies(ROW);
        assert!(
            matches!(&plain[..], [Body::User(user)] if user.prompt.as_deref() == Some("héllo"))
        );
        let spaced = format!("  {}\r", ROW.replace("\":", "\" : ").replace(",\"", " , \""));
        assert_eq!(bodies(&spaced)[0], plain[0]);
        assert_eq!(read("  \r"), (vec![], Damage::default()));
    }

    #[test]
    fn two_rows_without_a_newline_are_both_read() {
        let (found, damage) = read(format!("{ROW}{REPLY}{ROW}"));
        assert_eq!(found.len(), 3);
        assert_eq!((damage.bad_rows, damage.salvaged_rows), (0, 3));
    }

    #[test]
    fn what_stands_behind_a_torn_row_is_saved() {
        for torn in [20, 60, 90, REPLY.len() - 40, REPLY.len() - 1] {
            let line = format!("{}{ROW}", &REPLY[..torn]);
            let (found, damage) = read(&line);
            assert_eq!(found.len(), 1, "{line}");
            assert!(matches!(found[0].body, Body::User(_)), "{line}");
            assert_eq!((damage.bad_rows, damage.salvaged_rows), (1, 1), "{line}");
        }
    }

    #[test]
    fn the_end_of_a_torn_string_does_not_eat_the_next_row() {
        for end in ["\"the end ", "\0\"the end ", "7", "null ", "[1] "] {
            let (found, damage) = read(format!("{end}{ROW}"));
            assert!(matches!(found[..], [Row { body: Body::User(_), .. }]), "{end:?}");
            assert_eq!(damage.salvaged_rows, 1, "{end:?}");
        }
    }

    #[test]
    fn a_torn_row_alone_is_counted() {
        for torn in 1..REPLY.len() {
            let (found, damage) = read(&REPLY[..torn]);
            assert_eq!((found.len(), damage.bad_rows), (0, 1), "{torn}");
        }
    }

    #[test]
    fn runs_of_nul_do_not_hide_rows() {
        let (found, damage) = read(format!("\0\0\0{ROW}\0\0{}", &REPLY[..50]));
        assert_eq!((found.len(), damage.bad_rows), (1, 2));
    }

    #[test]
    fn invalid_utf8_costs_a_character_and_not_the_row() {
        let mut line = ROW.as_bytes().to_vec();
        line[ROW.find('é').unwrap()] = 0xff;
        let (found, damage) = read(&line);
        assert!(matches!(&found[0].body, Body::User(user) if user.prompt.is_some()));
        assert_eq!(damage, Damage::default());
    }

    #[test]
    fn half_a_surrogate_costs_a_character_and_not_the_text() {
        let found = bodies(ROW.replace('é', "\\ud83d"));
        let Body::User(user) = &found[0] else { panic!("{found:?}") };
        let prompt = user.prompt.as_deref().unwrap();
        assert!(prompt.starts_with('h') && prompt.ends_with("llo"), "{prompt}");
    }

    #[test]
    fn what_other_writers_do_costs_no_row() {
        let twice = REPLY.replace("\"usage\":{", "\"usage\":{\"input_tokens\":9},\"usage\":{");
        let rows = [
            format!("\u{feff}{REPLY}"),
            REPLY.replace("a {", "a\u{e}\t {"),
            REPLY.replace("\"requestId\":", "\"requestId\":\"old\",\"requestId\":"),
            twice,
        ];
        for row in rows {
            let (found, damage) = read(&row);
            assert_eq!(damage, Damage::default(), "{row}");
            let [Row { body: Body::Assistant(reply), .. }] = &found[..] else { panic!("{row}") };
            let usage = reply.usage.as_ref().map(|usage| usage.input);
            assert_eq!((usage, reply.request_id.as_deref()), (Some(3), Some("r")), "{row}");
        }
        let nameless = REPLY.replace("\"r\"", "\"\"").replace("\"id\":\"m\"", "\"id\":\"\"");
        let [Body::Assistant(reply)] = &bodies(&nameless)[..] else { panic!("{nameless}") };
        assert_eq!((&reply.message_id, &reply.request_id), (&None, &None));
    }

    #[test]
    fn a_row_of_a_fork_says_that_another_session_asked() {
        let row = |more: &str| {
            let row =
                REPLY.replace("\"requestId\"", &format!("\"sessionId\":\"s\",{more}\"requestId\""));
            let [Body::Assistant(reply)] = &bodies(&row)[..] else { panic!("{row}") };
            reply.is_copy
        };
        assert!(row(r#""requestSessionId":"t","#));
        assert!(row(r#""forkedFrom":{"sessionId":"t"},"#));
        assert!(!row(r#""requestSessionId":"s","forkedFrom":{"sessionId":"t"},"#));
        assert!(!row(""));
    }

    #[test]
    fn deep_nesting_and_wrong_types_are_harmless() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let odd = [
            format!(r#"{{"type":"user","message":{deep}}}"#),
            format!(
                r#"{{"type":"assistant","extra":{deep},"message":{{"content":7,"usage":[]}}}}"#
            ),
            r#"{"type":"user","message":"text","isMeta":"yes","origin":1}"#.into(),
            r#"{"type":"system","subtype":7}"#.into(),
            r#"{"type":"attachment","attachment":null}"#.into(),
            r#"{"type":"cost-state","modelUsage":[1],"totalCostUSD":1e999}"#.into(),
        ];
        for line in odd {
            let (found, damage) = read(&line);
            assert_eq!((found.len(), damage.bad_rows), (1, 0), "{}", &line[..60.min(line.len())]);
        }
        for no_row in ["[]", "7", "null", "{}", r#"{"type":7}"#, &deep] {
            let (found, damage) = read(no_row);
            assert_eq!(
                (found.len(), damage.bad_rows),
                (0, 1),
                "{}",
                &no_row[..9.min(no_row.len())]
            );
        }
    }

    #[test]
    fn unknown_types_are_counted() {
        let (found, damage) = read(r#"{"type":"from-the-future","x":1}"#);
        assert_eq!(found[0].body, Body::Unknown);
        assert_eq!((damage.bad_rows, damage.unknown_rows), (0, 1));
    }

    #[test]
    fn numbers_that_are_no_counts_are_taken_as_zero_and_counted() {
        for number in ["-5", "1e300", "1e999", "99999999999999999999", "\"7\"", "null", "[]"] {
            let usage = format!("\"input_tokens\":{number},\"output_tokens\":2");
            let (found, damage) = read(REPLY.replace("\"input_tokens\":3", &usage));
            let Body::Assistant(reply) = &found[0].body else { panic!("{found:?}") };
            let usage = reply.usage.as_ref().unwrap();
            assert_eq!((usage.input, usage.output), (0, 2), "{number}");
            assert_eq!(damage.bad_numbers, u64::from(number != "null"), "{number}");
        }
    }

    #[test]
    fn a_hostile_line_yields_nothing() {
        let (found, damage) = read("{\"type\"".repeat(200_000));
        assert_eq!((found.len(), damage.salvaged_rows), (0, 0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            read(&bytes);
        }

        /// Whatever is cut out of a line of rows, the rows behind it are found.
        #[test]
        fn a_hole_costs_only_what_it_touches(start in 0_usize..500, len in 1_usize..60) {
            let line = format!("{REPLY}{REPLY}{ROW}{ROW}").into_bytes();
            let last = line.len() - ROW.len();
            let start = start.min(last - 1);
            let end = (start + len).min(last);
            let touched = [0, REPLY.len(), 2 * REPLY.len()]
                .into_iter()
                .zip([REPLY.len(), 2 * REPLY.len(), last])
                .filter(|&(from, to)| start < to && from < end)
                .count();
            let holed = [&line[..start], &line[end..]].concat();
            let found = bodies(&holed);
            prop_assert!(matches!(found.last(), Some(Body::User(_))));
            prop_assert!(found.len() >= 4 - touched, "{} of {touched}", found.len());
        }
    }
}
