//! The file of the queue.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::database::{self, Kind};
use crate::{Error, ErrorKind, Result, state_dir};

/// Its name below the state directory.
pub(super) const NAME: &str = "queue.db";

/// How it is made and opened.
pub(super) const QUEUE: Kind = Kind {
    what: "queue",
    application_id: 0x6c68_6171,
    format: FORMAT,
    make: make_tables,
    upgrade: add_queue_id,
    set_up: "PRAGMA synchronous = FULL;",
    busy_timeout: Duration::from_secs(30),
};
const FORMAT: u32 = 2;

/// Opens the queue below `root`, which must be there.
pub(super) fn open(root: &Path) -> Result<Connection> {
    QUEUE.open(&root.join(NAME))
}

/// Which file is the queue below `root`; `None`: there is none.
pub(super) fn identity(root: &Path) -> Option<database::Identity> {
    database::identity(&root.join(NAME))
}

/// What is written to a file without a name is lost when the last process closes it.
pub(super) fn gone(root: &Path) -> Error {
    let path = root.join(NAME);
    let message = format!("the queue {} was removed or replaced while in use", path.display());
    Error::new(ErrorKind::State, message)
        .hint("nothing was changed; start again, with the queue that is there now or a new one")
}

/// A queue that is gone when it is closed.
pub(super) fn in_memory(root: &Path) -> Result<Connection> {
    QUEUE.in_memory(root)
}

/// Makes an empty queue below `root` if there is none.
pub(super) fn create(root: &Path) -> Result<()> {
    QUEUE.create(&root.join(NAME))
}

fn make_tables(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(include_str!("schema.sql"))?;
    name_queue(db)
}

fn name_queue(db: &Connection) -> rusqlite::Result<()> {
    let id = uuid::Uuid::new_v4().to_string();
    db.execute("UPDATE meta SET queue_id = ?1", [id]).map(drop)
}

/// Format 1 had no `queue_id`.
fn add_queue_id(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch("BEGIN IMMEDIATE")?;
    let format = db.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))?;
    // Another process may have been quicker.
    if format == 1 {
        db.execute_batch("ALTER TABLE meta ADD COLUMN queue_id TEXT NOT NULL DEFAULT ''")?;
        name_queue(db)?;
        db.execute_batch(&format!("PRAGMA user_version = {FORMAT}"))?;
    }
    db.execute_batch("COMMIT")
}

/// The state directory, made if need be, and checked.
pub(super) fn prepare(root: &Path) -> Result<PathBuf> {
    state_dir::prepare_root(root)
}
