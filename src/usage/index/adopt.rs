//! A new index begins with what others know of its directories: transcripts that are gone
//! stay in the account when a directory is added to the list, or left out of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::INDEX;
use super::book::Book;
use super::prices::Prices;
use super::rows::{self, Stored};
use crate::models::Models;
use crate::transcript::part::{Name, Names};

/// No more indexes are looked into, those that were used last first.
const MOST_OTHERS: usize = 16;

/// The other indexes beside `path`.
pub(super) fn others(path: &Path) -> Vec<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let is_other = |other: &PathBuf| {
        let name = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
        other != path && name.starts_with("usage-") && name.ends_with(".db")
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut others: Vec<_> = entries
        .filter(|entry| is_other(&entry.path()))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    others.sort();
    others.into_iter().rev().take(MOST_OTHERS).map(|(_, path)| path).collect()
}

/// Takes over what `others` know of transcripts below `dirs`. One that cannot be read is
/// left out.
pub(super) fn adopt(
    tx: &Transaction<'_>,
    others: &[PathBuf],
    dirs: &[PathBuf],
    models: &Models,
) -> rusqlite::Result<()> {
    let mut below: Vec<PathBuf> = Vec::new();
    for dir in dirs {
        below.push(dir.join("projects"));
        below.extend(std::fs::canonicalize(dir).map(|real| real.join("projects")));
    }
    let is_ours = |path: &Path| below.iter().any(|dir| path.starts_with(dir));
    let mut names = Names::default();
    let mut adopted = false;
    for other in others {
        let Ok(other) = INDEX.open(other) else { continue };
        adopted |= adopt_from(tx, &other, &is_ours, &mut names)?;
    }
    if !adopted {
        return Ok(());
    }
    for (no, name) in names.all().iter().enumerate() {
        tx.execute("INSERT INTO models (no, name) VALUES (?1, ?2)", params![no as i64, name])?;
    }
    Book::new(tx, names.all(), Prices::of(tx, models)?).rebuild(None)
}

fn adopt_from(
    tx: &Transaction<'_>,
    other: &Connection,
    is_ours: &impl Fn(&Path) -> bool,
    names: &mut Names,
) -> rusqlite::Result<bool> {
    let files = adopt_files(tx, other, is_ours)?;
    if files.is_empty() {
        return Ok(false);
    }
    let theirs = super::names(other)?.all();
    let numbers: Vec<Name> = theirs.iter().map(|name| names.of(name)).collect();
    let number = |name: Name| numbers.get(name.0 as usize).copied().unwrap_or(name);
    let prices = adopt_prices(tx, other)?;
    let mut put = tx.prepare(&super::book::put_response())?;
    let mut all = other.prepare(&format!("SELECT {} FROM responses", rows::RESPONSE))?;
    for stored in all.query_map([], rows::stored)? {
        let Stored { file, mut part, prices: no } = stored?;
        let Some(file) = files.get(&file) else { continue };
        part.model.1 = number(part.model.1);
        let advisors = part.rest.iter_mut().flat_map(|rest| &mut rest.advisors);
        advisors.for_each(|(model, _)| *model = number(*model));
        let prices = prices.get(&no).copied().unwrap_or(no);
        rows::put(&mut put, &Stored { file: *file, part, prices })?;
    }
    Ok(true)
}

/// New numbers of their transcripts, by their old ones.
fn adopt_files(
    tx: &Transaction<'_>,
    other: &Connection,
    is_ours: &impl Fn(&Path) -> bool,
) -> rusqlite::Result<HashMap<u32, u32>> {
    let mut numbers = HashMap::new();
    for known in super::known(other)? {
        let path = rows::path_bytes(&known.path);
        let count: u32 = tx.query_row("SELECT count(*) FROM files", [], |row| row.get(0))?;
        let is_there = tx
            .prepare_cached("SELECT 1 FROM files WHERE path = ?1")?
            .query_row([path], |_| Ok(()))
            .optional()?;
        if !is_ours(&known.path) || is_there.is_some() {
            continue;
        }
        let columns = "path, first_path, dev, ino, bytes, mtime_ns, read_bytes, tail, session,
             cwd, agent_type, bad_rows, unidentified_rows";
        let mut row =
            other.prepare_cached(&format!("SELECT {columns} FROM files WHERE no = ?1"))?;
        let values: Vec<rusqlite::types::Value> =
            row.query_row([known.no], |row| (0..13).map(|at| row.get(at)).collect())?;
        let mut all = vec![rusqlite::types::Value::from(count)];
        all.extend(values);
        tx.prepare_cached(&format!(
            "INSERT INTO files (no, {columns})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
        ))?
        .execute(rusqlite::params_from_iter(all))?;
        numbers.insert(known.no, count);
    }
    Ok(numbers)
}

/// New numbers of their tables of prices, by their old ones.
fn adopt_prices(tx: &Transaction<'_>, other: &Connection) -> rusqlite::Result<HashMap<i64, i64>> {
    let mut numbers = HashMap::new();
    let mut all = other.prepare("SELECT no, builtin, own, since_unix_ms FROM prices")?;
    let mut all = all.query([])?;
    while let Some(row) = all.next()? {
        let (no, since): (i64, i64) = (row.get(0)?, row.get(3)?);
        let (builtin, own): (String, String) = (row.get(1)?, row.get(2)?);
        let known = tx
            .query_row(
                "SELECT no FROM prices WHERE builtin = ?1 AND own = ?2",
                params![builtin, own],
                |row| row.get(0),
            )
            .optional()?;
        let number = match known {
            Some(number) => number,
            None => {
                tx.execute(
                    "INSERT INTO prices (builtin, own, since_unix_ms) VALUES (?1, ?2, ?3)",
                    params![builtin, own, since],
                )?;
                tx.last_insert_rowid()
            }
        };
        numbers.insert(no, number);
    }
    Ok(numbers)
}
