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

/// How rows begin. Blocks within a row can look the same, but what follows a
/// block does not end with it.
const ROW_STARTS: &[&str] = &[
    "{\"type\"",
    "{\"parentUuid\"",
    "{\"isSidechain\"",
    "{\"sessionId\"",
];

/// What was wrong with the lines read so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Pieces that are no row.
    pub bad_rows: u64,
    /// Rows found whole in a damaged line.
    pub salvaged_rows: u64,
    /// Rows of a type this version does not know.
    pub unknown_rows: u64,
    /// Subagent files that cannot be read.
    pub unreadable_files: u64,
    /// Lines longer than anything that is read.
    pub skipped_lines: u64,
    /// Usage numbers that cannot be token counts, taken as 0.
    pub bad_numbers: u64,
}

/// Reads the rows of one line, without its newline, in their order.
pub fn rows(line: &[u8], damage: &mut Damage, mut each: impl FnMut(Row)) {
    let line = line.trim_ascii();
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

fn piece(bytes: &[u8], damage: &mut Damage, each: &mut impl FnMut(Row)) {
    let text = String::from_utf8_lossy(bytes);
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
    let behind = &text[skip..];
    ROW_STARTS
        .iter()
        .filter_map(|start| behind.find(start))
        .min()
        .map(|at| at + skip)
}

fn deliver(row: Row, damage: &mut Damage, each: &mut impl FnMut(Row)) {
    match &row.body {
        Body::Unknown => damage.unknown_rows += 1,
        Body::Assistant(assistant) => {
            damage.bad_numbers += assistant
                .usage
                .as_ref()
                .map_or(0, |usage| usage.bad_numbers);
        }
        _ => {}
    }
    each(row);
}
