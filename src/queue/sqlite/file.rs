//! The file of the queue: made at one stroke, opened only if it is ours.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::state_dir::{self, FILE_MODE};
use crate::{Error, ErrorKind, Result, damaged};

/// Its name below the state directory.
pub(super) const NAME: &str = "queue.db";
/// Marks a database as a queue of longhaul.
const APPLICATION_ID: u32 = 0x6c68_6171;
/// The format that this program writes.
const FORMAT: u32 = 2;
/// How long to wait for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// What the log may keep of the disk once it was written back.
const LOG_MAX_BYTES: i64 = 16 << 20;

/// Opens the queue below `root`, which must be there.
pub(super) fn open(root: &Path) -> Result<Connection> {
    let path = root.join(NAME);
    check_private(&path)?;
    let db = Connection::open_with_flags(&path, flags()).map_err(|err| explain(&path, err))?;
    db.busy_timeout(BUSY_TIMEOUT).map_err(|err| explain(&path, err))?;
    check_ours(&path, &db)?;
    set_up(&db).map_err(|err| explain(&path, err))?;
    Ok(db)
}

/// Device and inode of a file.
pub(super) type Identity = (u64, u64);

/// Which file is the queue below `root`; `None`: there is none.
pub(super) fn identity(root: &Path) -> Option<Identity> {
    let meta = fs::symlink_metadata(root.join(NAME)).ok()?;
    Some((meta.dev(), meta.ino()))
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
    let make = || -> rusqlite::Result<Connection> {
        let db = Connection::open_in_memory()?;
        make_tables(&db)?;
        set_up(&db)?;
        Ok(db)
    };
    make().map_err(|err| explain(root, err))
}

/// Makes an empty queue below `root` if there is none.
pub(super) fn create(root: &Path) -> Result<()> {
    let path = root.join(NAME);
    if fs::symlink_metadata(&path).is_ok() {
        return Ok(());
    }
    // Under another name, and moved when it is whole: nobody ever sees half of one.
    let temp = root.join(format!(".new-{}", uuid::Uuid::new_v4().simple()));
    let made = fill(&temp).and_then(|()| publish(&temp, &path));
    if made.is_err() {
        let _ = fs::remove_file(&temp);
    }
    made
}

fn fill(temp: &Path) -> Result<()> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(temp)
        .map_err(|err| cannot("create", temp, err))?;
    let write = || -> rusqlite::Result<()> {
        let db = Connection::open_with_flags(temp, flags())?;
        db.execute_batch(&format!(
            "PRAGMA synchronous = FULL;
             BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT};"
        ))?;
        make_tables(&db)?;
        db.execute_batch("COMMIT; PRAGMA journal_mode = WAL;")?;
        db.close().map_err(|(_, err)| err)
    };
    write().map_err(|err| explain(temp, err))
}

fn make_tables(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(include_str!("schema.sql"))?;
    name_queue(db)
}

fn name_queue(db: &Connection) -> rusqlite::Result<()> {
    let id = uuid::Uuid::new_v4().to_string();
    db.execute("UPDATE meta SET queue_id = ?1", [id]).map(drop)
}

fn publish(temp: &Path, path: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, temp, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // Another process was quicker, and its queue is as good.
        Err(rustix::io::Errno::EXIST) => drop(fs::remove_file(temp)),
        Err(err) => return Err(cannot("create", path, err.into())),
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|dir| dir.sync_all()).map_err(|err| cannot("create", path, err))
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
}

fn set_up(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;
         PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = {LOG_MAX_BYTES};"
    ))?;
    db.query_row("SELECT changes FROM meta", [], |row| row.get::<_, i64>(0)).map(drop)
}

/// Is it out of the reach of others? Only looked at, not opened: when a process closes
/// a file, it loses all its locks on it, those of its other connections too.
fn check_private(path: &Path) -> Result<()> {
    let shown = path.display();
    let meta = fs::symlink_metadata(path).map_err(|err| cannot("read", path, err))?;
    if !meta.is_file() {
        return Err(refuse(path, "is no file"));
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me || meta.mode() & 0o022 != 0 {
        let message = format!("the queue {shown} can be written by others");
        return Err(Error::new(ErrorKind::State, message)
            .hint(format!("it must be yours alone: `chmod 600 {shown}`")));
    }
    if meta.mode() & 0o777 != FILE_MODE {
        // The log and the index beside it are made as this one is.
        fs::set_permissions(path, Permissions::from_mode(FILE_MODE))
            .map_err(|err| cannot("protect", path, err))?;
    }
    Ok(())
}

/// Is it ours, and of a format we know? What is not stays as it is, also its log.
fn check_ours(path: &Path, db: &Connection) -> Result<()> {
    let number = |pragma: &str| -> Result<u32> {
        db.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0))
            .map(|number| number as u32)
            .map_err(|err| explain(path, err))
    };
    let keep_log = |keep| {
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
            .map_err(|err| explain(path, err))
    };
    keep_log(true)?;
    if number("application_id")? != APPLICATION_ID {
        return Err(refuse(path, "is not what longhaul writes"));
    }
    match number("user_version")? {
        FORMAT => keep_log(false).map(drop),
        1 => {
            add_queue_id(db).map_err(|err| explain(path, err))?;
            keep_log(false).map(drop)
        }
        format if format > FORMAT => {
            let message = format!(
                "the queue {} was written by a newer longhaul (format {format}; this one reads up \
                 to {FORMAT})",
                path.display()
            );
            Err(Error::new(ErrorKind::State, message)
                .hint("use that newer longhaul, or set LONGHAUL_STATE_DIR to start apart from it"))
        }
        _ => Err(refuse(path, "names no format")),
    }
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

fn refuse(path: &Path, why: &str) -> Error {
    let message = format!("the queue {} {why}", path.display());
    damaged::refuse(path, message, path, &given_up(path))
}

fn given_up(path: &Path) -> PathBuf {
    path.with_extension("db.given-up")
}

fn cannot(verb: &str, path: &Path, err: io::Error) -> Error {
    Error::io(ErrorKind::State, format!("cannot {verb} {}", path.display()), err)
        .hint("longhaul keeps its queue there; LONGHAUL_STATE_DIR names another place")
}

/// What an error of SQLite means to a person.
pub(super) fn explain(path: &Path, err: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as Sql;
    let shown = path.display();
    let Some(code) = err.sqlite_error_code() else {
        return Error::new(ErrorKind::State, format!("the queue {shown} cannot be read"))
            .caused_by(err);
    };
    match code {
        Sql::NotADatabase => refuse(path, "is not what longhaul writes").caused_by(err),
        Sql::DatabaseCorrupt => refuse(path, "is damaged").caused_by(err),
        // The file itself could be opened a moment ago: it is the log beside it.
        Sql::DiskFull | Sql::SystemIoFailure | Sql::ReadOnly | Sql::CannotOpen => {
            Error::new(ErrorKind::Disk, format!("cannot read or write {shown}")).caused_by(err)
        }
        Sql::DatabaseBusy | Sql::DatabaseLocked => Error::new(
            ErrorKind::State,
            format!("another process has kept the queue {shown} for {} s", BUSY_TIMEOUT.as_secs()),
        )
        .caused_by(err)
        .hint("try again; if it stays so, something else than longhaul has it open"),
        Sql::ConstraintViolation | Sql::ApiMisuse | Sql::ParameterOutOfRange => {
            Error::internal(format!("a change of the queue {shown} makes no sense")).caused_by(err)
        }
        _ => Error::new(ErrorKind::State, format!("the queue {shown} cannot be used"))
            .caused_by(err)
            .hint("longhaul keeps its queue there; LONGHAUL_STATE_DIR names another place"),
    }
}

/// The state directory, made if need be, and checked.
pub(super) fn prepare(root: &Path) -> Result<PathBuf> {
    state_dir::prepare_root(root)
}
