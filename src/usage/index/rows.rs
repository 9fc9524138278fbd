//! Between what is counted and the rows of the index.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Row, Statement, params};
use serde::{Deserialize, Serialize};

use super::super::account::{Cell, CellKey};
use super::super::fetch::Mark;
use super::super::places::Print;
use super::known::Known;
use crate::models::{TokenCounts, Usd};
use crate::transcript::part::{Amounts, Key, Name, Part, Rest};

/// A response as a file tells of it, and the table it was priced by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    pub(super) file: u32,
    pub(super) part: Part,
    pub(super) prices: i64,
}

pub(super) const RESPONSE: &str = "message, request, file, unix_ms, model, flags, input, output,
    cache_write, cache_write_1h, cache_read, web_searches, rest, prices";
pub(super) const CELL: &str = "file, slot, model, input, output, cache_write_5m, cache_write_1h,
    cache_read, cost, unpriced_tokens, unpriced_bound, responses";
pub(super) const KNOWN: &str = "no, path, dev, ino, bytes, mtime_ns, read_bytes, tail";

const IS_REQUESTED: i64 = 1;
const IS_MAIN: i64 = 2;
const IS_FINISHED: i64 = 4;
const IS_FAST: i64 = 8;
const IS_US: i64 = 16;
const IS_COPY: i64 = 32;

/// What few responses have, as text.
#[derive(Serialize, Deserialize)]
struct RestText {
    advisors: Vec<(u32, [u64; 6])>,
    chars: Vec<(u64, u64)>,
}

impl RestText {
    fn of(rest: &Rest) -> Self {
        let advisor = |(name, used): &(Name, Amounts)| (name.0, numbers(used));
        Self { advisors: rest.advisors.iter().map(advisor).collect(), chars: rest.chars.clone() }
    }

    fn rest(self) -> Rest {
        let advisor = |(name, used)| (Name(name), amounts(used, 0));
        Rest { advisors: self.advisors.into_iter().map(advisor).collect(), chars: self.chars }
    }
}

fn numbers(used: &Amounts) -> [u64; 6] {
    [
        used.input,
        used.output,
        used.cache_write,
        used.cache_write_1h,
        used.cache_read,
        used.web_searches,
    ]
}

fn amounts(numbers: [u64; 6], flags: i64) -> Amounts {
    let [input, output, cache_write, cache_write_1h, cache_read, web_searches] = numbers;
    Amounts {
        input,
        output,
        cache_write,
        cache_write_1h,
        cache_read,
        web_searches,
        is_fast: flags & IS_FAST != 0,
        is_us: flags & IS_US != 0,
    }
}

/// Writes it, over the one that is there.
pub(super) fn put(statement: &mut Statement<'_>, stored: &Stored) -> rusqlite::Result<()> {
    let part = &stored.part;
    let flag = |is: bool, flag: i64| if is { flag } else { 0 };
    let flags = flag(part.model.0, IS_REQUESTED)
        | flag(part.is_main, IS_MAIN)
        | flag(part.is_copy, IS_COPY)
        | flag(part.is_finished, IS_FINISHED)
        | flag(part.amounts.is_fast, IS_FAST)
        | flag(part.amounts.is_us, IS_US);
    let rest = part.rest.as_deref().map(RestText::of);
    let rest = rest.map(|rest| serde_json::to_string(&rest).expect("numbers have a JSON"));
    let request: &[u8] = part.request.as_ref().map_or(&[], |request| request);
    let [input, output, write, long, read, searches] = numbers(&part.amounts).map(u64::cast_signed);
    statement
        .execute(params![
            part.message,
            request,
            stored.file,
            part.unix_ms,
            part.model.1.0,
            flags,
            input,
            output,
            write,
            long,
            read,
            searches,
            rest,
            stored.prices
        ])
        .map(drop)
}

/// From a row with the columns [`RESPONSE`].
pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let flags: i64 = row.get(5)?;
    let mut numbers = [0; 6];
    for (at, number) in numbers.iter_mut().enumerate() {
        *number = row.get::<_, i64>(6 + at)?.cast_unsigned();
    }
    let rest: Option<Json<RestText>> = row.get(12)?;
    let MaybeKey(request) = row.get(1)?;
    let part = Part {
        message: row.get(0)?,
        request,
        unix_ms: row.get(3)?,
        model: (flags & IS_REQUESTED != 0, Name(row.get(4)?)),
        amounts: amounts(numbers, flags),
        is_main: flags & IS_MAIN != 0,
        is_copy: flags & IS_COPY != 0,
        is_finished: flags & IS_FINISHED != 0,
        rest: rest.map(|Json(text)| Box::new(text.rest())),
    };
    Ok(Stored { file: row.get(2)?, part, prices: row.get(13)? })
}

/// A key, or nothing.
struct MaybeKey(Option<Key>);

impl FromSql for MaybeKey {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_blob()? {
            [] => Ok(MaybeKey(None)),
            bytes => Key::try_from(bytes).map(|key| MaybeKey(Some(key))).map_err(|_| {
                FromSqlError::InvalidBlobSize { expected_size: 16, blob_size: bytes.len() }
            }),
        }
    }
}

/// A value as JSON.
struct Json<T>(T);

impl<T: for<'a> Deserialize<'a>> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Json).map_err(FromSqlError::other)
    }
}

/// The number of a slot in the index.
pub(super) fn slot(slot: Option<i64>) -> i64 {
    slot.unwrap_or(i64::MIN)
}

fn money(usd: Usd) -> i64 {
    i64::try_from(usd.as_pico()).unwrap_or(i64::MAX)
}

/// Writes a cell, over the one that is there.
pub(super) fn put_cell(
    statement: &mut Statement<'_>,
    key: &CellKey,
    cell: &Cell,
) -> rusqlite::Result<()> {
    let tokens = &cell.tokens;
    statement
        .execute(params![
            key.file,
            slot(key.slot),
            key.model.0,
            tokens.input.cast_signed(),
            tokens.output.cast_signed(),
            tokens.cache_write_5m.cast_signed(),
            tokens.cache_write_1h.cast_signed(),
            tokens.cache_read.cast_signed(),
            money(cell.cost),
            cell.unpriced_tokens.cast_signed(),
            money(cell.unpriced_bound),
            cell.responses.cast_signed(),
        ])
        .map(drop)
}

/// From a row with the columns [`CELL`].
pub(super) fn cell(row: &Row<'_>) -> rusqlite::Result<(CellKey, Cell)> {
    let at: i64 = row.get(1)?;
    let key = CellKey {
        file: row.get(0)?,
        slot: Some(at).filter(|at| *at != slot(None)),
        model: Name(row.get(2)?),
    };
    let number = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
    let cell = Cell {
        tokens: TokenCounts {
            input: number(3)?,
            output: number(4)?,
            cache_write_5m: number(5)?,
            cache_write_1h: number(6)?,
            cache_read: number(7)?,
        },
        cost: Usd::from_pico(number(8)?.into()),
        unpriced_tokens: number(9)?,
        unpriced_bound: Usd::from_pico(number(10)?.into()),
        responses: number(11)?,
    };
    Ok((key, cell))
}

/// From a row with the columns [`KNOWN`].
pub(super) fn known(row: &Row<'_>) -> rusqlite::Result<Known> {
    let number = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
    let print =
        Print { dev: number(2)?, ino: number(3)?, bytes: number(4)?, mtime_ns: row.get(5)? };
    Ok(Known {
        no: row.get(0)?,
        path: path(row.get_ref(1)?.as_blob()?),
        print,
        mark: Mark { bytes: number(6)?, ends: row.get(7)? },
    })
}

pub(super) fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

pub(super) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
