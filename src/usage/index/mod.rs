//! What was counted before, in SQLite below the state directory: only appended bytes are
//! read, and what was counted stays when the CLI deletes a transcript.
//!
//! | file | knows |
//! |---|---|
//! | `known` | which transcripts have to be read, and from where; pure |
//! | `book` | what that changes |
//! | `adopt` | what other indexes know of the same directories |
//! | `prices` | the tables that something was priced by |
//! | `rows` | from rows to what is counted, and back |
//! | `schema.sql` | the tables |
//!
//! There is one for each set of configuration directories: a response that two sets tell
//! of belongs to another transcript in each of them.

mod adopt;
mod book;
mod known;
mod prices;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use self::book::Book;
use self::known::{Known, Plan};
use self::prices::Prices;
use super::account::{Account, CellKey, Cells, Said, Source, in_order};
use super::fetch::{self, Fetched};
use super::owners::{Owner, Owners};
use super::places::{self, Listing, Transcript};
use crate::database::Kind;
use crate::models::{Models, Usd};
use crate::transcript::part::{Part, SharedNames};
use crate::{Result, state_dir};

/// By these rules the cells are counted. Another number: all of them are counted anew.
const RULES: i64 = 2;
/// So much is read in one transaction: whoever is ended on the way has got on all the
/// same, and nobody has to wait for longer.
const SLICE_BYTES: u64 = 1 << 30;

const INDEX: Kind = Kind {
    what: "usage index",
    application_id: 0x6c68_6175,
    format: 1,
    make: |db| db.execute_batch(include_str!("schema.sql")),
    upgrade: |_| Ok(()),
    // The transcripts are still there after a power cut.
    set_up: "PRAGMA synchronous = NORMAL;",
    busy_timeout: Duration::from_secs(10),
};

/// What was counted before.
#[derive(Debug)]
pub struct Index {
    db: Connection,
    path: PathBuf,
    dirs: Vec<PathBuf>,
}

/// What pricing everything anew has changed, in US dollars.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Repriced {
    /// By the tables that were in force when it was counted.
    pub before_usd: f64,
    /// By the table in force.
    pub after_usd: f64,
}

impl Index {
    /// Opens the index of these configuration directories below `state_root`; what is
    /// missing is made.
    ///
    /// # Errors
    /// [`crate::ErrorKind::State`]: it is damaged, of a newer longhaul, of somebody else,
    /// and was left as it is. [`crate::ErrorKind::Disk`]: the disk is full or failing.
    pub fn open(state_root: &Path, dirs: &[PathBuf]) -> Result<Self> {
        let root = state_dir::prepare_root(state_root)?;
        let path = root.join(name(dirs));
        INDEX.create(&path)?;
        Ok(Self { db: INDEX.open(&path)?, path, dirs: dirs.to_vec() })
    }

    /// What all transcripts come to, those that are gone with them: first, what was
    /// appended is taken in.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn account(&mut self, models: &Models) -> Result<Account> {
        self.bring_up(models).map_err(|err| INDEX.explain(&self.path, err))
    }

    /// [`Index::account`], with the tasks and runs that sessions are of.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn account_of_tasks(&mut self, models: &Models, owners: &Owners) -> Result<Account> {
        let brought = self.account(models)?;
        let path = self.path.clone();
        let explain = |err| INDEX.explain(&path, err);
        // Another process may add to it at any moment: all is of one.
        let tx = self.db.transaction().map_err(explain)?;
        let mut account = account(&tx).map_err(explain)?;
        account.bytes_read = brought.bytes_read;
        account.unreadable_files = brought.unreadable_files;
        account.unreadable_folders = brought.unreadable_folders;
        let several = account.own(owners);
        split(&tx, &mut account, &several, models).map_err(explain)?;
        Ok(account)
    }

    /// Prices everything by `models`, also what had a price before.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn reprice(&mut self, models: &Models) -> Result<Repriced> {
        self.account(models)?;
        let path = self.path.clone();
        let explain = |err| INDEX.explain(&path, err);
        let now_unix_ms = crate::clock::Timestamp::now().unix_ms;
        let tx = self.write().map_err(explain)?;
        let reprice = || -> rusqlite::Result<Repriced> {
            let names = names(&tx)?.all();
            let before_usd = cost(&tx)?;
            let mut book = Book::new(&tx, &names, Prices::of(&tx, models)?);
            let no = book.prices.number(&tx, now_unix_ms)?;
            book.rebuild(Some(no))?;
            let after_usd = cost(&tx)?;
            tx.execute(
                "INSERT INTO repricings (at_unix_ms, prices, before_usd, after_usd)
                 VALUES (?1, ?2, ?3, ?4)",
                params![now_unix_ms, no, before_usd, after_usd],
            )?;
            Ok(Repriced { before_usd, after_usd })
        };
        let repriced = reprice().map_err(explain)?;
        tx.commit().map_err(explain)?;
        Ok(repriced)
    }

    fn write(&mut self) -> rusqlite::Result<Transaction<'_>> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute("UPDATE meta SET changes = changes + 1", [])?;
        Ok(tx)
    }

    fn bring_up(&mut self, models: &Models) -> rusqlite::Result<Account> {
        let Listing { list: mut found, mut unreadable_folders } = places::transcripts(&self.dirs);
        let then = {
            let tx = self.db.transaction()?;
            let then = changes(&tx)?;
            let plan = known::plan(&known(&tx)?, &found);
            let is_priced = Prices::of(&tx, models)?.are_as_before(&tx)?;
            if plan.is_empty() && is_priced && then.rules == RULES {
                return Ok(Account { unreadable_folders, ..account(&tx)? });
            }
            then
        };
        let (dirs, mut bytes_read) = (self.dirs.clone(), 0);
        let mut changes_then = then.changes;
        loop {
            let tx = self.write()?;
            // Another process may have read meanwhile what this one has just seen.
            changes_then += 1;
            if changes(&tx)?.changes != changes_then {
                changes_then = changes(&tx)?.changes;
                Listing { list: found, unreadable_folders } = places::transcripts(&dirs);
            }
            let (mut account, is_all) = take_in(&tx, &dirs, &found, models)?;
            tx.commit()?;
            account.bytes_read += bytes_read;
            account.unreadable_folders = unreadable_folders;
            bytes_read = account.bytes_read;
            if is_all {
                return Ok(account);
            }
        }
    }
}

/// The name of the file for these directories, whatever their order.
fn name(dirs: &[PathBuf]) -> String {
    let real = |dir: &PathBuf| std::fs::canonicalize(dir).unwrap_or_else(|_| dir.clone());
    let mut dirs: Vec<PathBuf> = dirs.iter().map(real).collect();
    dirs.sort();
    dirs.dedup();
    format!("usage-{}.db", places::short_name(&dirs))
}

struct Changes {
    rules: i64,
    changes: i64,
}

fn changes(db: &Connection) -> rusqlite::Result<Changes> {
    db.prepare_cached("SELECT rules, changes FROM meta")?
        .query_row([], |row| Ok(Changes { rules: row.get(0)?, changes: row.get(1)? }))
}

fn known(db: &Connection) -> rusqlite::Result<Vec<Known>> {
    let mut all = db.prepare_cached(&format!("SELECT {} FROM files ORDER BY no", rows::KNOWN))?;
    all.query_map([], rows::known)?.collect()
}

/// The names of models, by their numbers.
fn names(db: &Connection) -> rusqlite::Result<SharedNames> {
    let names = SharedNames::default();
    let mut all = db.prepare_cached("SELECT name FROM models ORDER BY no")?;
    let mut all = all.query([])?;
    while let Some(row) = all.next()? {
        names.of(row.get_ref(0)?.as_str()?);
    }
    Ok(names)
}

fn cost(db: &Connection) -> rusqlite::Result<f64> {
    let mut sum = Usd::default();
    let mut all = db.prepare(&format!("SELECT {} FROM cells", rows::CELL))?;
    for cell in all.query_map([], rows::cell)? {
        sum = sum.plus(cell?.1.cost);
    }
    Ok(sum.as_f64())
}

/// Gives each of several tasks its part of a transcript, as if it were one of its own.
fn split(
    db: &Connection,
    account: &mut Account,
    several: &HashMap<u32, Owner>,
    models: &Models,
) -> rusqlite::Result<()> {
    if several.is_empty() {
        return Ok(());
    }
    let files: HashSet<u32> = several.keys().copied().collect();
    let mut cells: Cells =
        account.cells.drain(..).filter(|(key, _)| !files.contains(&key.file)).collect();
    let mut places: HashMap<(u32, usize), u32> = HashMap::new();
    let sources = &mut account.sources;
    let names = names(db)?.all();
    let mut book = Book::new(db, &names, Prices::of(db, models)?);
    book.of_files(&files, |key, cell, unix_ms| {
        let owner = &several[&key.file];
        let Some(task) = owner.task_at(unix_ms) else { return };
        let file = *places.entry((key.file, task)).or_insert_with(|| {
            let work = Some(owner.tasks[task].clone());
            sources.push(Source { work, ..sources[key.file as usize].clone() });
            sources.len() as u32 - 1
        });
        cells.entry(CellKey { file, ..key }).or_default().add(&cell);
    })?;
    account.cells = in_order(cells);
    Ok(())
}

/// Reads what is new, or a part of it, and gives what all comes to, and whether it is all.
fn take_in(
    tx: &Transaction<'_>,
    dirs: &[PathBuf],
    found: &[Transcript],
    models: &Models,
) -> rusqlite::Result<(Account, bool)> {
    if changes(tx)?.rules == 0 {
        let path = PathBuf::from(tx.path().unwrap_or_default());
        adopt::adopt(tx, &adopt::others(&path), dirs, models)?;
    }
    let then = known(tx)?;
    let mut plan = known::plan(&then, found);
    let is_all = plan.cut(found, SLICE_BYTES);
    let names = names(tx)?;
    let names_before = names.all().len();
    let errands: Vec<_> = plan.read.iter().map(|to| found[to.found].errand(to.from)).collect();
    let (fetched, bytes_read) = fetch::all(&errands, &names);
    let bytes_read = bytes_read.saturating_sub(again_bytes(&plan, &fetched));
    let names = names.all();
    for (no, name) in names.iter().enumerate().skip(names_before) {
        tx.execute("INSERT INTO models (no, name) VALUES (?1, ?2)", params![no as i64, name])?;
    }
    let unreadable_files = fetched.iter().filter(|fetched| fetched.is_none()).count() as u64;
    let parts = note(tx, &then, &plan, found, fetched)?;
    let now_unix_ms = crate::clock::Timestamp::now().unix_ms;
    let prices = Prices::of(tx, models)?;
    let (is_priced, is_empty) = (prices.are_as_before(tx)?, then.is_empty());
    let mut book = Book::new(tx, &names, prices);
    let now_no = book.prices.number(tx, now_unix_ms)?;
    let mut cells = None;
    if ![0, RULES].contains(&changes(tx)?.rules) || book.give_up_lost_tables(now_no)? {
        book.rebuild(None)?;
    }
    if is_empty {
        // All of them are new, and numbered as they were found.
        let parts: Vec<Vec<Part>> = parts.into_iter().map(|(_, parts)| parts).collect();
        cells = Some(book.fill(&parts, now_no)?);
    } else {
        let of_file = |(no, parts): (u32, Vec<Part>)| parts.into_iter().map(move |part| (no, part));
        book.take(parts.into_iter().flat_map(of_file).collect(), now_no)?;
    }
    if !is_priced && !is_empty {
        book.price_the_unpriced(now_no)?;
    }
    let dirs: Vec<_> = dirs.iter().map(|dir| dir.to_string_lossy()).collect();
    tx.execute(
        "UPDATE meta SET rules = ?1, prices = ?2, dirs = ?3",
        params![RULES, now_no, dirs.join(", ")],
    )?;
    let mut account = match cells {
        Some(cells) => Account { cells: in_order(cells), ..sources(tx)? },
        None => account(tx)?,
    };
    (account.bytes_read, account.unreadable_files) = (bytes_read, unreadable_files);
    Ok((account, is_all))
}

/// Notes how far each file was read, and gives what it tells with its number.
fn note(
    tx: &Transaction<'_>,
    then: &[Known],
    plan: &Plan,
    found: &[Transcript],
    fetched: Vec<Option<Fetched>>,
) -> rusqlite::Result<Vec<(u32, Vec<Part>)>> {
    for (no, path) in &plan.moved {
        tx.execute(
            "UPDATE files SET path = ?2 WHERE no = ?1",
            params![no, rows::path_bytes(path)],
        )?;
    }
    let mut next = then.last().map_or(0, |last| last.no + 1);
    let mut parts = Vec::new();
    for (errand, fetched) in plan.read.iter().zip(fetched) {
        let Some(fetched) = fetched else { continue };
        // At another place, and nothing of it is as it was: its inode serves again.
        let is_other = errand.may_be_new && fetched.is_whole;
        let no = errand.known.filter(|_| !is_other).unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        note_read(tx, no, &found[errand.found], &fetched)?;
        parts.push((no, fetched.reading.parts));
    }
    Ok(parts)
}

/// How much of what was read had been read before.
fn again_bytes(plan: &Plan, fetched: &[Option<Fetched>]) -> u64 {
    let of_file = |(errand, fetched): (&known::Errand, &Option<Fetched>)| {
        let is_whole = fetched.as_ref().is_none_or(|fetched| fetched.is_whole);
        // Of one without a single whole line all is read again.
        let is_grown = errand.from.is_some_and(|mark| !is_whole || mark.bytes == 0);
        if is_grown { errand.again_bytes } else { 0 }
    };
    plan.read.iter().zip(fetched).map(of_file).sum()
}

/// Notes how far a transcript was read; one that is known keeps what it said first.
fn note_read(
    tx: &Transaction<'_>,
    no: u32,
    found: &Transcript,
    fetched: &Fetched,
) -> rusqlite::Result<()> {
    let (print, reading) = (&found.print, &fetched.reading);
    let said = Said::of(&found.path, reading);
    // What was counted of bytes that were read again is not added to.
    let kept = i64::from(!fetched.is_whole);
    tx.prepare_cached(
        "INSERT INTO files (no, path, first_path, dev, ino, bytes, mtime_ns, read_bytes, tail,
             session, cwd, agent_type, bad_rows, unidentified_rows)
         VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (no) DO UPDATE SET path = ?2, dev = ?3, ino = ?4, bytes = ?5,
             mtime_ns = ?6, read_bytes = ?7, tail = ?8, session = coalesce(session, ?9),
             cwd = coalesce(cwd, ?10), agent_type = coalesce(agent_type, ?11),
             bad_rows = ?14 * bad_rows + ?12, unidentified_rows = ?14 * unidentified_rows + ?13",
    )?
    .execute(params![
        no,
        rows::path_bytes(&found.path),
        print.dev.cast_signed(),
        print.ino.cast_signed(),
        print.bytes.cast_signed(),
        print.mtime_ns,
        fetched.mark.bytes.cast_signed(),
        fetched.mark.ends,
        said.session,
        said.cwd,
        said.agent_type,
        reading.bad_rows().cast_signed(),
        reading.unidentified_rows.cast_signed(),
        kept,
    ])
    .map(drop)
}

/// What is in the index.
fn account(db: &Connection) -> rusqlite::Result<Account> {
    let mut all =
        db.prepare_cached(&format!("SELECT {} FROM cells ORDER BY file, slot, model", rows::CELL))?;
    let cells = all.query_map([], rows::cell)?.collect::<rusqlite::Result<_>>()?;
    Ok(Account { cells, ..sources(db)? })
}

/// What is in the index, but for the cells. Files are numbered from 0 without gaps.
fn sources(db: &Connection) -> rusqlite::Result<Account> {
    let mut account = Account { models: names(db)?.all(), ..Account::default() };
    let mut all = db.prepare_cached(
        "SELECT path, session, cwd, agent_type, bad_rows, unidentified_rows FROM files ORDER BY no",
    )?;
    let mut all = all.query([])?;
    while let Some(row) = all.next()? {
        let path = rows::path(row.get_ref(0)?.as_blob()?);
        let said = Said { session: row.get(1)?, cwd: row.get(2)?, agent_type: row.get(3)? };
        account.files += 1;
        account.sources.push(Source::of(path, said));
        account.bad_rows += row.get::<_, i64>(4)?.cast_unsigned();
        account.unidentified_rows += row.get::<_, i64>(5)?.cast_unsigned();
    }
    account.give_subagents_their_projects();
    Ok(account)
}
