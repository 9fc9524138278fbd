//! From the bytes of a transcript to the responses it tells of.
//!
//! Only whole lines are taken for good; the last one, if it has no newline yet, is
//! looked at and read again the next time. Since what is told again changes nothing,
//! it does not matter how often a line is read, nor in which pieces a file grew.

use std::collections::HashMap;
use std::io::{self, Read};

use memchr::{memchr, memmem, memrchr};
use serde::de::IgnoredAny;

use super::glance::{self, Found, Glance, Reply};
use crate::models::TokenCounts;
use crate::transcript::parse::{self, Damage};
use crate::transcript::part::{Key, Name, Part, SharedNames, Telling, digest};
use crate::transcript::record::{Assistant, Body, Row};
use crate::transcript::tail::MAX_LINE_BYTES;

/// As much is read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Lines up to that are looked at whole.
const SHORT_LINE_BYTES: usize = 256;

/// What a transcript tells of.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reading {
    /// Its responses, in the order of their first rows.
    pub(super) parts: Vec<Part>,
    /// The first session, agent and directory that its rows name.
    pub(super) session: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) cwd: Option<String>,
    /// Usage in rows without any id: it cannot be told from a repetition.
    pub(super) unidentified_rows: u64,
    pub(super) unidentified: TokenCounts,
    pub(super) damage: Damage,
    /// Bytes of whole lines.
    pub(super) whole_bytes: u64,
}

impl Reading {
    /// Pieces of lines that are no rows, and lines that are too long for any.
    pub(super) fn bad_rows(&self) -> u64 {
        self.damage.bad_rows + self.damage.skipped_lines
    }
}

/// Reads transcripts, one after the other.
pub(super) struct Reader<'n> {
    names: &'n SharedNames,
    known: HashMap<Vec<u8>, Name>,
    finder: memmem::Finder<'static>,
    buffer: Vec<u8>,
    places: HashMap<(Key, Option<Key>), usize>,
    /// Ids of the row before: most rows repeat them.
    last: (Vec<u8>, Vec<u8>, usize),
    /// Bytes read from files.
    pub(super) read_bytes: u64,
}

impl<'n> Reader<'n> {
    /// Models get their numbers from `names`.
    pub(super) fn new(names: &'n SharedNames) -> Self {
        Self {
            names,
            known: HashMap::new(),
            finder: memmem::Finder::new(b"\"usage\""),
            buffer: Vec::new(),
            places: HashMap::new(),
            last: (Vec::new(), Vec::new(), usize::MAX),
            read_bytes: 0,
        }
    }

    /// Reads what stands in `file` from where it is, to its end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read(&mut self, mut file: impl Read) -> io::Result<Reading> {
        let mut reading = Reading::default();
        self.places.clear();
        self.last.2 = usize::MAX;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(buffer.len().max(CHUNK_BYTES), 0);
        let (mut held, mut is_skipping) = (0, false);
        loop {
            if held == buffer.len() {
                if held >= MAX_LINE_BYTES {
                    reading.damage.skipped_lines += u64::from(!is_skipping);
                    reading.whole_bytes += held as u64;
                    (held, is_skipping) = (0, true);
                } else {
                    buffer.resize(buffer.len() * 2, 0);
                }
            }
            let count = match file.read(&mut buffer[held..]) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            self.read_bytes += count as u64;
            let fresh = held;
            held += count;
            if count == 0 {
                if !is_skipping {
                    self.last_line(&buffer[..held], &mut reading);
                }
                break;
            }
            let Some(end) = memrchr(b'\n', &buffer[fresh..held]).map(|end| fresh + end + 1) else {
                continue;
            };
            let mut lines = &buffer[..end];
            if is_skipping {
                // Up to the end of the line that is too long.
                let rest = memchr(b'\n', lines).map_or(end, |at| at + 1);
                (lines, is_skipping) = (&lines[rest..], false);
            }
            self.lines(lines, &mut reading);
            reading.whole_bytes += end as u64;
            buffer.copy_within(end..held, 0);
            held -= end;
        }
        buffer.truncate(CHUNK_BYTES);
        buffer.shrink_to(CHUNK_BYTES);
        self.buffer = buffer;
        Ok(reading)
    }

    fn lines(&mut self, mut lines: &[u8], reading: &mut Reading) {
        while let Some(end) = memchr(b'\n', lines) {
            self.line(&lines[..end], reading);
            lines = &lines[end + 1..];
        }
    }

    fn line(&mut self, line: &[u8], reading: &mut Reading) {
        let line = line.trim_ascii();
        if let [b'{', .., b'}'] = line {
            if self.finder.find(line).is_none() {
                // Whose it is, the first rows tell, which have no usage.
                if reading.cwd.is_none() {
                    note(&glance::glance(line), reading);
                }
                if is_plausible(line) {
                    return;
                }
            } else if memchr(0, line).is_none() && self.glance(line, reading) {
                return;
            }
        }
        if !line.is_empty() {
            self.carefully(line, reading);
        }
    }

    /// The last line, which may still be written: it counts if it is whole. What would
    /// count again when it has its end waits for that.
    fn last_line(&mut self, line: &[u8], reading: &mut Reading) {
        if !parse::is_whole(line) {
            return;
        }
        let (damage, rows, tokens) =
            (reading.damage, reading.unidentified_rows, reading.unidentified);
        self.line(line, reading);
        (reading.damage, reading.unidentified_rows, reading.unidentified) = (damage, rows, tokens);
    }

    /// False if the line cannot be told at a glance.
    fn glance(&mut self, line: &[u8], reading: &mut Reading) -> bool {
        let seen = glance::glance(line);
        note(&seen, reading);
        match seen.found {
            Found::Nothing => true,
            Found::Odd => false,
            Found::Reply(reply) => {
                self.reply(&reply, reading);
                true
            }
        }
    }

    fn reply(&mut self, reply: &Reply<'_>, reading: &mut Reading) {
        let Some(id) = reply.message.or(reply.request) else {
            return unidentified(reading, &reply.amounts.tokens(reply.amounts.output));
        };
        let model = (reply.requested.is_some(), self.name(reply.requested.unwrap_or(reply.model)));
        let request = reply.request.unwrap_or_default();
        let is_again = self.last.2 != usize::MAX && self.last.0 == id && self.last.1 == request;
        let keys = match is_again {
            true => {
                let part = &reading.parts[self.last.2];
                (part.message, part.request)
            }
            false => (digest(id), reply.request.map(digest)),
        };
        let part = Part {
            message: keys.0,
            request: keys.1,
            unix_ms: reply.unix_ms,
            model,
            amounts: reply.amounts,
            is_main: reply.request.is_some() && !reply.is_side,
            is_copy: reply.is_copy,
            is_finished: true,
            rest: None,
        };
        let at = self.put(part, reading);
        if !is_again {
            self.last.0.clear();
            self.last.0.extend_from_slice(id);
            self.last.1.clear();
            self.last.1.extend_from_slice(request);
            self.last.2 = at;
        }
    }

    fn put(&mut self, part: Part, reading: &mut Reading) -> usize {
        let next = reading.parts.len();
        let at = *self.places.entry((part.message, part.request)).or_insert(next);
        match reading.parts.get_mut(at) {
            Some(known) => {
                // The common case needs no names.
                if known.model == part.model && known.rest.is_none() && part.rest.is_none() {
                    known.merge(&part, &[]);
                } else {
                    known.merge(&part, &self.names.all());
                }
            }
            None => reading.parts.push(part),
        }
        at
    }

    fn name(&mut self, name: &[u8]) -> Name {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let number = self.names.of(&String::from_utf8_lossy(name));
        self.known.insert(name.to_owned(), number);
        number
    }

    /// A line that is damaged, or in another manner than usual.
    fn carefully(&mut self, line: &[u8], reading: &mut Reading) {
        let mut damage = std::mem::take(&mut reading.damage);
        let mut rows = Vec::new();
        parse::rows(line, &mut damage, |row| rows.push(row));
        reading.damage = damage;
        for row in rows {
            if let Body::Assistant(assistant) = &row.body {
                self.assistant(&row, assistant, reading);
            }
        }
    }

    fn assistant(&mut self, row: &Row, assistant: &Assistant, reading: &mut Reading) {
        match Telling::of(row, assistant, |model| self.name(model.as_bytes())) {
            Telling::Nothing => {}
            Telling::Unidentified(tokens) => unidentified(reading, &tokens),
            Telling::Of(part) => {
                self.put(part, reading);
                self.last.2 = usize::MAX;
            }
        }
    }
}

/// Is a line in braces likely to be JSON? Short ones are looked at whole; of long ones, which
/// are most of a transcript, only the first sign.
fn is_plausible(line: &[u8]) -> bool {
    match line.len() {
        0..=SHORT_LINE_BYTES => serde_json::from_slice::<IgnoredAny>(line).is_ok(),
        _ => matches!(line[1..].trim_ascii_start().first(), Some(b'"' | b'}')),
    }
}

/// Notes whose transcript it is, as the first row says that says so.
fn note(seen: &Glance<'_>, reading: &mut Reading) {
    let told = [
        (&mut reading.session, seen.session),
        (&mut reading.agent, seen.agent),
        (&mut reading.cwd, seen.cwd),
    ];
    for (known, json) in told {
        if known.is_none()
            && let Some(json) = json
            && let Ok(text) = serde_json::from_str::<String>(&String::from_utf8_lossy(json))
        {
            *known = Some(text).filter(|text| !text.is_empty());
        }
    }
}

fn unidentified(reading: &mut Reading, tokens: &TokenCounts) {
    reading.unidentified_rows += 1;
    reading.unidentified.add(tokens);
}
