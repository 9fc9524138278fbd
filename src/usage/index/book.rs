//! Taking in what transcripts tell: what they come to changes by the difference that it
//! makes.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;

use super::super::account::{Cell, CellKey, Cells, count};
use super::prices::Prices;
use super::rows::{self, Stored};
use crate::transcript::part::{Key, Part, Told, by_message};

/// The cells, as they are changed within one transaction.
pub(super) struct Book<'a, 'm> {
    pub(super) db: &'a Connection,
    pub(super) names: &'a [String],
    pub(super) prices: Prices<'m>,
    /// Numbers of files, by their first paths: known once they are asked for.
    ranks: Option<Ranks>,
    /// What is added to each cell, and what is taken out of it.
    changes: HashMap<CellKey, (Cell, Cell)>,
}

struct Ranks {
    of: HashMap<u32, u32>,
    files: Vec<u32>,
}

impl<'a, 'm> Book<'a, 'm> {
    pub(super) fn new(db: &'a Connection, names: &'a [String], prices: Prices<'m>) -> Self {
        Self { db, names, prices, ranks: None, changes: HashMap::new() }
    }

    /// Takes in what files tell, into an index that holds nothing yet.
    pub(super) fn fill(&mut self, parts: &[Vec<Part>], now_no: i64) -> rusqlite::Result<Cells> {
        let told = by_message(parts);
        let mut put = self.db.prepare(&put_response())?;
        let mut cells = Cells::default();
        for of_message in told.chunk_by(|a, b| a.part.message == b.part.message) {
            count(of_message, self.names, self.prices.now(), |key, cell, _| {
                cells.entry(key).or_default().add(&cell);
            });
            for told in of_message {
                let stored = Stored { file: told.file, part: told.part.clone(), prices: now_no };
                rows::put(&mut put, &stored)?;
            }
        }
        self.put_cells(&cells)?;
        Ok(cells)
    }

    /// Has what was priced by a table that nobody can read any more (a newer longhaul may
    /// have written it) priced by the one in force; true: everything is to be counted anew.
    pub(super) fn give_up_lost_tables(&mut self, now_no: i64) -> rusqlite::Result<bool> {
        let lost = self.prices.lost(self.db)?;
        let mut changed = 0;
        for no in &lost {
            let update = "UPDATE responses SET prices = ?1 WHERE prices = ?2";
            changed += self.db.execute(update, [now_no, *no])?;
        }
        Ok(changed > 0)
    }

    /// Takes in what files tell. Parts of one message may be of several files.
    pub(super) fn take(
        &mut self,
        mut parts: Vec<(u32, Part)>,
        now_no: i64,
    ) -> rusqlite::Result<()> {
        parts.sort_by_key(|(_, part)| part.message);
        for of_message in parts.chunk_by(|a, b| a.1.message == b.1.message) {
            self.take_message(of_message[0].1.message, of_message, now_no)?;
        }
        self.settle()
    }

    /// Prices what had no price before, where the table in force has one.
    pub(super) fn price_the_unpriced(&mut self, now_no: i64) -> rusqlite::Result<()> {
        let unpriced: HashSet<u32> = self
            .db
            .prepare("SELECT DISTINCT model FROM cells WHERE unpriced_tokens > 0")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let name = |model: &u32| self.names.get(*model as usize).map_or("", String::as_str);
        let now_known = |model: &&u32| self.prices.now().knows(name(model));
        let models: Vec<u32> = unpriced.iter().filter(now_known).copied().collect();
        for model in models {
            // Advisors stand in `rest`.
            let messages: Vec<Key> = self
                .db
                .prepare_cached(
                    "SELECT DISTINCT message FROM responses WHERE model = ?1 OR rest IS NOT NULL",
                )?
                .query_map([model], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for message in messages {
                self.take_message(message, &[], now_no)?;
            }
        }
        self.settle()
    }

    /// What counts for one of `files`, response by response, with its time.
    pub(super) fn of_files(
        &mut self,
        files: &HashSet<u32>,
        mut each: impl FnMut(CellKey, Cell, i64),
    ) -> rusqlite::Result<()> {
        let mut messages: HashSet<Key> = HashSet::new();
        let mut all = self.db.prepare("SELECT message, file FROM responses")?;
        let mut all = all.query([])?;
        while let Some(row) = all.next()? {
            if files.contains(&row.get(1)?) {
                messages.insert(row.get(0)?);
            }
        }
        for message in messages {
            let told = self.told(message)?;
            let Some(first) = told.first() else { continue };
            self.count(&told, first.prices, |key, cell, unix_ms| {
                if files.contains(&key.file) {
                    each(key, cell, unix_ms);
                }
            })?;
        }
        Ok(())
    }

    /// All that is told of a message.
    fn told(&self, message: Key) -> rusqlite::Result<Vec<Stored>> {
        self.db
            .prepare_cached(&format!(
                "SELECT {} FROM responses WHERE message = ?1",
                rows::RESPONSE
            ))?
            .query_map([message], rows::stored)?
            .collect()
    }

    /// Counts everything anew; `prices`: by that table, else each by its own.
    pub(super) fn rebuild(&mut self, prices: Option<i64>) -> rusqlite::Result<()> {
        if let Some(no) = prices {
            self.db.execute("UPDATE responses SET prices = ?1", [no])?;
        }
        self.db.execute("DELETE FROM cells", [])?;
        let mut cells = Cells::default();
        let db = self.db;
        let mut all = db.prepare(&format!(
            "SELECT {} FROM responses ORDER BY message, request, file",
            rows::RESPONSE
        ))?;
        let mut all = all.query_map([], rows::stored)?;
        let mut of_message: Vec<Stored> = Vec::new();
        loop {
            let next = all.next().transpose()?;
            let is_other = |stored: &Stored| stored.part.message != of_message[0].part.message;
            if !of_message.is_empty() && next.as_ref().is_none_or(is_other) {
                let no = of_message[0].prices;
                self.count(&of_message, no, |key, cell, _| {
                    cells.entry(key).or_default().add(&cell)
                })?;
                of_message.clear();
            }
            match next {
                Some(stored) => of_message.push(stored),
                None => break,
            }
        }
        self.put_cells(&cells)
    }

    fn take_message(
        &mut self,
        message: Key,
        parts: &[(u32, Part)],
        now_no: i64,
    ) -> rusqlite::Result<()> {
        let mut told = self.told(message)?;
        let before = told.clone();
        let names = self.names;
        for (file, part) in parts {
            let is_it =
                |known: &&mut Stored| known.file == *file && known.part.request == part.request;
            match told.iter_mut().find(is_it) {
                Some(known) => known.part.merge(part, names),
                None => told.push(Stored { file: *file, part: part.clone(), prices: now_no }),
            }
        }
        let no = self.table_of(&before, &told, now_no)?;
        told.iter_mut().for_each(|stored| stored.prices = no);
        if told == before {
            return Ok(());
        }
        let mut changes = std::mem::take(&mut self.changes);
        if let Some(first) = before.first() {
            let minus = |key, cell: Cell, _| changes.entry(key).or_default().1.add(&cell);
            self.count(&before, first.prices, minus)?;
        }
        self.count(&told, no, |key, cell, _| changes.entry(key).or_default().0.add(&cell))?;
        self.changes = changes;
        let mut put = self.db.prepare_cached(&put_response())?;
        for stored in told.iter().filter(|stored| !before.contains(stored)) {
            rows::put(&mut put, stored)?;
        }
        Ok(())
    }

    /// The table that a message is priced by: the one in force when it was first told of,
    /// or else the first that has its price.
    fn table_of(
        &mut self,
        before: &[Stored],
        told: &[Stored],
        now_no: i64,
    ) -> rusqlite::Result<i64> {
        let no = before.first().map_or(now_no, |first| first.prices);
        if no == now_no {
            return Ok(no);
        }
        let names = self.names;
        let then = self.prices.table(self.db, no)?;
        let is_priced = told
            .iter()
            .flat_map(|stored| stored.part.models())
            .all(|model| names.get(model.0 as usize).is_some_and(|name| then.knows(name)));
        Ok(if is_priced { no } else { now_no })
    }

    /// What counts of all that is told of a message.
    fn count(
        &mut self,
        told: &[Stored],
        prices: i64,
        mut each: impl FnMut(CellKey, Cell, i64),
    ) -> rusqlite::Result<()> {
        let models = self.prices.table(self.db, prices)?;
        if let [only] = told {
            count(&[Told { file: only.file, part: &only.part }], self.names, models, each);
            return Ok(());
        }
        let ranks = match &self.ranks {
            Some(ranks) => ranks,
            None => self.ranks.insert(Ranks::of(self.db)?),
        };
        let rank = |file: u32| ranks.of.get(&file).copied().unwrap_or(u32::MAX);
        let told: Vec<Told<'_>> = told
            .iter()
            .map(|stored| Told { file: rank(stored.file), part: &stored.part })
            .collect();
        count(&told, self.names, models, |key, cell, unix_ms| {
            let file = ranks.files.get(key.file as usize).copied().unwrap_or(u32::MAX);
            each(CellKey { file, ..key }, cell, unix_ms);
        });
        Ok(())
    }

    /// Writes the changes of the cells.
    fn settle(&mut self) -> rusqlite::Result<()> {
        let mut get = self.db.prepare_cached(&format!(
            "SELECT {} FROM cells WHERE file = ?1 AND slot = ?2 AND model = ?3",
            rows::CELL
        ))?;
        let mut put = self.db.prepare_cached(&put_cell())?;
        let mut drop = self
            .db
            .prepare_cached("DELETE FROM cells WHERE file = ?1 AND slot = ?2 AND model = ?3")?;
        for (key, (plus, minus)) in std::mem::take(&mut self.changes) {
            let place = (key.file, rows::slot(key.slot), key.model.0);
            let known = get.query_map(place, rows::cell)?.next().transpose()?;
            let mut cell = known.map(|(_, cell)| cell).unwrap_or_default();
            cell.add(&plus);
            cell.subtract(&minus);
            match cell == Cell::default() {
                true => std::mem::drop(drop.execute(place)?),
                false => rows::put_cell(&mut put, &key, &cell)?,
            }
        }
        Ok(())
    }

    fn put_cells(&self, cells: &Cells) -> rusqlite::Result<()> {
        let mut sorted: Vec<_> = cells.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| **key);
        let mut put = self.db.prepare(&put_cell())?;
        for (key, cell) in sorted {
            rows::put_cell(&mut put, key, cell)?;
        }
        Ok(())
    }
}

impl Ranks {
    fn of(db: &Connection) -> rusqlite::Result<Self> {
        let files: Vec<u32> = db
            .prepare("SELECT no FROM files ORDER BY first_path, no")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Self { of: files.iter().copied().zip(0..).collect(), files })
    }
}

pub(super) fn put_response() -> String {
    let places = (1..=14).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ");
    format!("INSERT OR REPLACE INTO responses ({}) VALUES ({places})", rows::RESPONSE)
}

fn put_cell() -> String {
    let places = (1..=12).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ");
    format!("INSERT OR REPLACE INTO cells ({}) VALUES ({places})", rows::CELL)
}
