//! The queue in SQLite: one file for all projects, opened by several processes at once.
//!
//! | file | knows |
//! |---|---|
//! | `file` | making and opening the file; whose and of which format it is |
//! | `schema.sql` | the tables |
//! | `rows` | from rows to tasks |
//! | `accept` | adding and editing, and what makes no sense |
//! | `flow` | claiming and giving back |
//! | `ends` | how a task ends, and what that means for those that wait for it |
//! | `lists` | many tasks, results, counts, the archive |
//!
//! Each call of the trait is one transaction; those that write take the lock before
//! they read. What is ready is known before anybody asks (`waits_for`, `behind`),
//! and whatever has an order has an index in that order, so that no call gets slower
//! with the length of the queue (`scale`). Statements name the index, or the order of
//! a join, where SQLite would guess otherwise: it knows nothing of how many rows there
//! are.

mod accept;
#[cfg(test)]
mod against_model;
mod ends;
mod file;
mod flow;
mod lists;
mod rows;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use uuid::Uuid;

use super::refusal::{QueueError, Refusal};
use super::store::{Change, Counts, Filter, Keep, Result, ResultFilter, Spell, Store, Taken};
use super::task::{BatchId, NewTask, Task, TaskId, TaskResult};
use crate::{Error, ErrorKind};

/// The queue below a state directory.
#[derive(Debug)]
pub struct SqliteStore {
    db: Connection,
    root: PathBuf,
    /// Which file it is; `None`: it is in memory.
    file: Option<crate::database::Identity>,
}

/// What can go wrong within a transaction.
#[derive(Debug)]
enum Trouble {
    Sql(rusqlite::Error),
    Refused(Refusal),
    /// A row that does not say what it should.
    Damaged(String),
}

type Outcome<T> = std::result::Result<T, Trouble>;

impl From<rusqlite::Error> for Trouble {
    fn from(err: rusqlite::Error) -> Self {
        Trouble::Sql(err)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Trouble::Refused(refusal)
    }
}

impl SqliteStore {
    /// Opens the queue below `state_root`; what is missing is made.
    ///
    /// # Errors
    /// [`ErrorKind::State`]: it is damaged, of a newer longhaul, of somebody else, and
    /// was left as it is. [`ErrorKind::Disk`]: the disk is full or failing.
    pub fn open(state_root: &Path) -> crate::Result<Self> {
        let root = file::prepare(state_root)?;
        file::create(&root)?;
        Self::open_at(root)
    }

    /// Opens the queue below `state_root`; `None` if there never was one. Makes nothing.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open_existing(state_root: &Path) -> crate::Result<Option<Self>> {
        let there = std::fs::symlink_metadata(state_root.join(file::NAME));
        if there.is_err_and(|err| err.kind() == std::io::ErrorKind::NotFound) {
            return Ok(None);
        }
        Self::open_at(file::prepare(state_root)?).map(Some)
    }

    fn open_at(root: PathBuf) -> crate::Result<Self> {
        let db = file::open(&root)?;
        Ok(Self { db, file: file::identity(&root), root })
    }

    /// A queue without any tasks, which nobody keeps.
    ///
    /// # Errors
    /// [`ErrorKind::State`]: there is no room for one.
    pub fn of_nobody(state_root: &Path) -> crate::Result<Self> {
        Ok(Self { db: file::in_memory(state_root)?, root: state_root.to_owned(), file: None })
    }

    fn write<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Outcome<T>) -> Result<T> {
        self.write_if(Keep::Tasks, work)
    }

    fn write_if<T>(
        &mut self,
        keep: Keep,
        work: impl FnOnce(&Transaction<'_>) -> Outcome<T>,
    ) -> Result<T> {
        self.check_file()?;
        let db = &mut self.db;
        let perform = || -> Outcome<T> {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let before = tx.total_changes();
            let value = work(&tx)?;
            if keep == Keep::Nothing {
                tx.rollback()?;
                return Ok(value);
            }
            if tx.total_changes() != before {
                tx.execute("UPDATE meta SET changes = changes + 1", [])?;
            }
            tx.commit()?;
            Ok(value)
        };
        perform().map_err(|trouble| explain(&self.root, trouble))
    }

    /// Is it still the file of that name? What is written to one that was removed is lost.
    fn check_file(&self) -> Result<()> {
        match self.file.is_some() && self.file != file::identity(&self.root) {
            true => Err(file::gone(&self.root).into()),
            false => Ok(()),
        }
    }

    fn read<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Outcome<T>) -> Result<T> {
        self.check_file()?;
        let db = &mut self.db;
        let perform = || -> Outcome<T> {
            let tx = db.transaction_with_behavior(TransactionBehavior::Deferred)?;
            work(&tx)
        };
        perform().map_err(|trouble| explain(&self.root, trouble))
    }
}

fn explain(root: &Path, trouble: Trouble) -> QueueError {
    let path = root.join(file::NAME);
    match trouble {
        Trouble::Refused(refusal) => refusal.into(),
        Trouble::Sql(err) => file::QUEUE.explain(&path, err).into(),
        Trouble::Damaged(what) => {
            let message =
                format!("the queue {} holds what longhaul does not write", path.display());
            Error::new(ErrorKind::State, message).caused_by(what).into()
        }
    }
}

impl Store for SqliteStore {
    fn add_all(&mut self, now_unix_ms: i64, tasks: Vec<NewTask>, keep: Keep) -> Result<Vec<Task>> {
        let root = self.root.clone();
        self.write_if(keep, |tx| accept::add(tx, &root, now_unix_ms, &tasks))
    }

    fn add_each(
        &mut self,
        now_unix_ms: i64,
        tasks: Vec<NewTask>,
        keep: Keep,
    ) -> Result<Vec<Result<Task, Refusal>>> {
        let root = self.root.clone();
        self.write_if(keep, |tx| accept::add_each(tx, &root, now_unix_ms, &tasks))
    }

    fn task(&mut self, id: &TaskId) -> Result<Option<Task>> {
        self.read(|tx| Ok(rows::find(tx, id)?.map(|row| row.task)))
    }

    fn list(&mut self, filter: &Filter) -> Result<Vec<Task>> {
        self.read(|tx| lists::list(tx, filter))
    }

    fn counts(&mut self, project: Option<&Path>) -> Result<Counts> {
        self.read(|tx| lists::counts(tx, project))
    }

    fn edit(&mut self, now_unix_ms: i64, id: &TaskId, change: &Change) -> Result<Task> {
        self.write(|tx| accept::edit(tx, now_unix_ms, id, change))
    }

    fn cancel(&mut self, now_unix_ms: i64, id: &TaskId) -> Result<Task> {
        self.write(|tx| ends::cancel(tx, now_unix_ms, id))
    }

    fn retry(&mut self, now_unix_ms: i64, id: &TaskId) -> Result<Task> {
        self.write(|tx| ends::retry(tx, now_unix_ms, id))
    }

    fn claim(
        &mut self,
        now_unix_ms: i64,
        run_id: Uuid,
        busy: &[PathBuf],
        only: Option<&Path>,
    ) -> Result<Option<Task>> {
        self.write(|tx| flow::claim(tx, now_unix_ms, run_id, busy, only))
    }

    fn next_in_batch(
        &mut self,
        now_unix_ms: i64,
        run_id: Uuid,
        current: &TaskId,
    ) -> Result<Option<Task>> {
        self.write(|tx| flow::next_in_batch(tx, now_unix_ms, run_id, current))
    }

    fn unclaim(&mut self, now_unix_ms: i64, run_id: Uuid) -> Result<Vec<Task>> {
        self.write(|tx| flow::unclaim(tx, now_unix_ms, run_id))
    }

    fn settle(&mut self, now_unix_ms: i64, spell: &Spell) -> Result<Option<TaskResult>> {
        self.write(|tx| ends::settle(tx, now_unix_ms, spell))
    }

    fn in_progress(&mut self) -> Result<Vec<Task>> {
        self.read(lists::in_progress)
    }

    fn result(&mut self, id: &TaskId) -> Result<Option<TaskResult>> {
        self.read(|tx| lists::result(tx, id))
    }

    fn results(&mut self, filter: &ResultFilter) -> Result<Vec<TaskResult>> {
        self.read(|tx| lists::results(tx, filter))
    }

    fn recent(&mut self, limit: u32) -> Result<Vec<Task>> {
        self.read(|tx| lists::recent(tx, limit))
    }

    fn projects(&mut self) -> Result<Vec<PathBuf>> {
        self.read(lists::projects)
    }

    fn count_tasks(&mut self, filter: &Filter) -> Result<u64> {
        self.read(|tx| lists::count_tasks(tx, filter))
    }

    fn has_batch(&mut self, id: &BatchId) -> Result<bool> {
        self.read(|tx| accept::has_batch(tx, id))
    }

    fn count_results(&mut self, filter: &ResultFilter) -> Result<u64> {
        self.read(|tx| lists::count_results(tx, filter))
    }

    fn archive(&mut self, project: &Path, before_unix_ms: i64, keep_recent: u32) -> Result<u64> {
        self.write(|tx| lists::archive(tx, project, before_unix_ms, keep_recent))
    }

    fn spent_since(&mut self, since_unix_ms: i64) -> Result<f64> {
        self.read(|tx| {
            let sql = "SELECT coalesce(sum(cost_usd), 0.0) FROM spells WHERE ended_unix_ms >= ?1";
            Ok(tx.query_row(sql, [since_unix_ms], |row| row.get(0))?)
        })
    }

    fn unpriced_usd(&mut self, id: &TaskId) -> Result<f64> {
        self.read(|tx| ends::unpriced_usd(tx, id))
    }

    fn taken(&mut self) -> Result<Vec<Taken>> {
        self.read(|tx| lists::taken(tx))
    }

    fn id(&mut self) -> Result<Uuid> {
        self.read(|tx| {
            let id: String = tx.query_row("SELECT queue_id FROM meta", [], |row| row.get(0))?;
            Uuid::parse_str(&id).map_err(|_| Trouble::Damaged("its id is no UUID".into()))
        })
    }

    fn version(&mut self) -> Result<u64> {
        self.read(|tx| {
            let changes: i64 = tx.query_row("SELECT changes FROM meta", [], |row| row.get(0))?;
            Ok(changes.unsigned_abs())
        })
    }
}
