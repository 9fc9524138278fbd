//! A door for fuzzing: the quick reader of transcripts beside the careful one.

use std::collections::BTreeMap;

use memchr::memmem;

use super::reading::Reader;
use crate::models::{Models, TokenCounts, Usd};
use crate::transcript::Ledger;
use crate::transcript::parse::{self, Damage};
use crate::transcript::part::{Key, SharedNames, Told, counted};
use crate::transcript::record::Body;

/// What a transcript comes to.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    responses: u64,
    tokens: TokenCounts,
    usd: f64,
    unpriced_tokens: u64,
    unidentified_rows: u64,
}

/// Reads a transcript of these bytes in both ways.
///
/// # Panics
/// The two disagree.
pub fn row(bytes: &[u8]) {
    assert_eq!(at_a_glance(bytes), carefully(bytes), "the quick reader and the careful one");
}

fn at_a_glance(bytes: &[u8]) -> Sum {
    let (names, models) = (SharedNames::default(), Models::builtin());
    let reading = Reader::new(&names).read(bytes).unwrap_or_default();
    let mut messages: BTreeMap<Key, Vec<Told<'_>>> = BTreeMap::new();
    for part in &reading.parts {
        messages.entry(part.message).or_default().push(Told { file: 0, part });
    }
    let mut sum = Sum { unidentified_rows: reading.unidentified_rows, ..Sum::default() };
    let (mut cost, names) = (Usd::default(), names.all());
    for (_, part) in messages.values().flat_map(|told| counted(told, &names)) {
        for bill in part.bills() {
            sum.responses += u64::from(bill.is_response);
            sum.tokens.add(&bill.billable.tokens);
            let name = names.get(bill.model.0 as usize).map_or("", String::as_str);
            match models.price(name, bill.unix_ms, &bill.billable) {
                Some(price) => cost = cost.plus(price),
                None => sum.unpriced_tokens += bill.billable.tokens.total(),
            }
        }
    }
    sum.usd = cost.as_f64();
    sum
}

fn carefully(bytes: &[u8]) -> Sum {
    let (mut ledger, mut damage) = (Ledger::new(), Damage::default());
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let last = lines.pop().unwrap_or_default();
    let mut read = |line: &[u8], ledger: &mut Ledger| {
        let line = line.trim_ascii();
        let looks_whole = matches!(line, [b'{', .., b'}']);
        // This is passed over, though a key could be written in escapes.
        if looks_whole && memmem::find(line, b"\"usage\"").is_none() {
            return;
        }
        parse::rows(line, &mut damage, |row| {
            if let Body::Assistant(assistant) = &row.body {
                ledger.count(&row, assistant);
            }
        });
    };
    lines.iter().for_each(|line| read(line, &mut ledger));
    let unidentified_rows = ledger.unidentified().rows;
    if parse::is_whole(last) {
        read(last, &mut ledger);
    }
    let cost = ledger.cost(Models::builtin());
    Sum {
        responses: ledger.responses(),
        tokens: *ledger.total(),
        usd: cost.usd,
        unpriced_tokens: cost.unpriced_tokens,
        unidentified_rows,
    }
}
