//! The tables of prices that something was priced by.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, OptionalExtension, params};

use crate::models::{Models, Texts};

/// The table in force, and those that were.
pub(super) struct Prices<'m> {
    now: &'m Models,
    /// `None`: nothing was priced by it yet.
    now_no: Option<i64>,
    /// A table that cannot be read any more is `None`.
    before: HashMap<i64, Option<Models>>,
}

impl<'m> Prices<'m> {
    /// `now` among those that the index knows.
    pub(super) fn of(db: &Connection, now: &'m Models) -> rusqlite::Result<Self> {
        let texts = now.texts();
        let now_no = db
            .prepare_cached("SELECT no FROM prices WHERE own = ?1 AND builtin = ?2")?
            .query_row(params![texts.own, texts.builtin], |row| row.get(0))
            .optional()?;
        Ok(Self { now, now_no, before: HashMap::new() })
    }

    /// Was the table in force in force when the index was last brought up to date?
    pub(super) fn are_as_before(&self, db: &Connection) -> rusqlite::Result<bool> {
        let then: i64 =
            db.prepare_cached("SELECT prices FROM meta")?.query_row([], |row| row.get(0))?;
        Ok(self.now_no == Some(then))
    }

    /// The number of the table in force; a new one is noted.
    pub(super) fn number(&mut self, db: &Connection, now_unix_ms: i64) -> rusqlite::Result<i64> {
        if let Some(no) = self.now_no {
            return Ok(no);
        }
        let texts = self.now.texts();
        db.execute(
            "INSERT INTO prices (builtin, own, since_unix_ms) VALUES (?1, ?2, ?3)",
            params![texts.builtin, texts.own, now_unix_ms],
        )?;
        let no = db.last_insert_rowid();
        self.now_no = Some(no);
        Ok(no)
    }

    /// The table `no`; the one in force, where that cannot be had any more.
    pub(super) fn table(&mut self, db: &Connection, no: i64) -> rusqlite::Result<&Models> {
        if self.now_no == Some(no) {
            return Ok(self.now);
        }
        let table = match self.before.entry(no) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let texts = db
                    .prepare_cached("SELECT builtin, own FROM prices WHERE no = ?1")?
                    .query_row([no], |row| Ok(Texts { builtin: row.get(0)?, own: row.get(1)? }))
                    .optional()?;
                place.insert(texts.and_then(|texts| Models::of(texts).ok()))
            }
        };
        Ok(table.as_ref().unwrap_or(self.now))
    }

    /// Tables that were in force and cannot be read any more.
    pub(super) fn lost(&mut self, db: &Connection) -> rusqlite::Result<Vec<i64>> {
        let all: Vec<i64> = db
            .prepare_cached("SELECT no FROM prices")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let mut lost = Vec::new();
        for no in all {
            self.table(db, no)?;
            if matches!(self.before.get(&no), Some(None)) {
                lost.push(no);
            }
        }
        Ok(lost)
    }

    /// The table in force.
    pub(super) fn now(&self) -> &'m Models {
        self.now
    }
}
