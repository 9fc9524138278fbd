//! A SQLite file of the state: made at one stroke, opened only if it is ours.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::state_dir::FILE_MODE;
use crate::{Error, ErrorKind, Result, damaged};

/// What the log may keep of the disk once it was written back.
const LOG_MAX_BYTES: i64 = 16 << 20;

/// What such a file is for, and how it is made.
#[derive(Debug)]
pub struct Kind {
    /// What people call it: "queue".
    pub what: &'static str,
    /// Marks a database as one of these.
    pub application_id: u32,
    /// The format that this program writes, from 1.
    pub format: u32,
    /// Makes the tables of an empty one.
    pub make: fn(&Connection) -> rusqlite::Result<()>,
    /// Brings one of an older format to the present one. It may have been brought there
    /// by another process meanwhile.
    pub upgrade: fn(&Connection) -> rusqlite::Result<()>,
    /// Statements for each connection, besides those that all have in common.
    pub set_up: &'static str,
    /// How long to wait for another process that is writing.
    pub busy_timeout: Duration,
}

/// Device and inode of a file.
pub type Identity = (u64, u64);

/// Which file `path` is; `None`: there is none.
pub fn identity(path: &Path) -> Option<Identity> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

impl Kind {
    /// Opens the file `path`, which must be there.
    ///
    /// # Errors
    /// [`ErrorKind::State`]: it is damaged, of a newer longhaul, of somebody else, and
    /// was left as it is. [`ErrorKind::Disk`]: the disk is full or failing.
    pub fn open(&self, path: &Path) -> Result<Connection> {
        self.check_private(path)?;
        let explain = |err| self.explain(path, err);
        let db = Connection::open_with_flags(path, flags()).map_err(explain)?;
        db.busy_timeout(self.busy_timeout).map_err(explain)?;
        self.check_ours(path, &db)?;
        self.set_up(&db).map_err(explain)?;
        Ok(db)
    }

    /// One that is gone when it is closed. `path` is named in errors.
    ///
    /// # Errors
    /// [`ErrorKind::State`]: there is no room for it.
    pub fn in_memory(&self, path: &Path) -> Result<Connection> {
        let make = || -> rusqlite::Result<Connection> {
            let db = Connection::open_in_memory()?;
            (self.make)(&db)?;
            self.set_up(&db)?;
            Ok(db)
        };
        make().map_err(|err| self.explain(path, err))
    }

    /// Makes an empty one at `path` if there is nothing.
    ///
    /// # Errors
    /// As [`Kind::open`].
    pub fn create(&self, path: &Path) -> Result<()> {
        if fs::symlink_metadata(path).is_ok() {
            return Ok(());
        }
        // Under another name, and moved when it is whole: nobody ever sees half of one.
        let name = format!(".new-{}", uuid::Uuid::new_v4().simple());
        let temp = path.with_file_name(name);
        let made = self.fill(&temp).and_then(|()| self.publish(&temp, path));
        if made.is_err() {
            let _ = fs::remove_file(&temp);
        }
        made
    }

    fn fill(&self, temp: &Path) -> Result<()> {
        File::options()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(temp)
            .map_err(|err| self.cannot("create", temp, err))?;
        let write = || -> rusqlite::Result<()> {
            let db = Connection::open_with_flags(temp, flags())?;
            db.execute_batch(&format!(
                "PRAGMA synchronous = FULL;
                 BEGIN; PRAGMA application_id = {}; PRAGMA user_version = {};",
                self.application_id, self.format
            ))?;
            (self.make)(&db)?;
            db.execute_batch("COMMIT; PRAGMA journal_mode = WAL;")?;
            db.close().map_err(|(_, err)| err)
        };
        write().map_err(|err| self.explain(temp, err))
    }

    fn publish(&self, temp: &Path, path: &Path) -> Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, temp, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // Another process was quicker, and its file is as good.
            Err(rustix::io::Errno::EXIST) => drop(fs::remove_file(temp)),
            Err(err) => return Err(self.cannot("create", path, err.into())),
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        File::open(folder)
            .and_then(|dir| dir.sync_all())
            .map_err(|err| self.cannot("create", path, err))
    }

    fn set_up(&self, db: &Connection) -> rusqlite::Result<()> {
        db.execute_batch(&format!(
            "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY;
             PRAGMA journal_size_limit = {LOG_MAX_BYTES}; {}",
            self.set_up
        ))?;
        db.query_row("SELECT count(*) FROM meta", [], |row| row.get::<_, i64>(0)).map(drop)
    }

    /// Is it out of the reach of others? Only looked at, not opened: when a process
    /// closes a file, it loses all its locks on it, those of its other connections too.
    fn check_private(&self, path: &Path) -> Result<()> {
        let (what, shown) = (self.what, path.display());
        let meta = fs::symlink_metadata(path).map_err(|err| self.cannot("read", path, err))?;
        if !meta.is_file() {
            return Err(self.refuse(path, "is no file"));
        }
        let me = rustix::process::geteuid().as_raw();
        if meta.uid() != me || meta.mode() & 0o022 != 0 {
            let message = format!("the {what} {shown} can be written by others");
            return Err(Error::new(ErrorKind::State, message)
                .hint(format!("it must be yours alone: `chmod 600 {shown}`")));
        }
        if meta.mode() & 0o777 != FILE_MODE {
            // The log and the index beside it are made as this one is.
            fs::set_permissions(path, Permissions::from_mode(FILE_MODE))
                .map_err(|err| self.cannot("protect", path, err))?;
        }
        Ok(())
    }

    /// Is it ours, and of a format we know? What is not stays as it is, also its log.
    fn check_ours(&self, path: &Path, db: &Connection) -> Result<()> {
        let explain = |err| self.explain(path, err);
        let number = |pragma: &str| -> Result<u32> {
            db.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0))
                .map(|number| number as u32)
                .map_err(explain)
        };
        let keep_log = |keep| {
            db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map_err(explain)
        };
        keep_log(true)?;
        if number("application_id")? != self.application_id {
            return Err(self.refuse(path, "is not what longhaul writes"));
        }
        let format = number("user_version")?;
        if format > self.format {
            let message = format!(
                "the {} {} was written by a newer longhaul (format {format}; this one reads up \
                 to {})",
                self.what,
                path.display(),
                self.format
            );
            return Err(Error::new(ErrorKind::State, message).hint(
                "use that newer longhaul, or set LONGHAUL_STATE_DIR to start apart from it",
            ));
        }
        if format == 0 {
            return Err(self.refuse(path, "names no format"));
        }
        if format < self.format {
            (self.upgrade)(db).map_err(explain)?;
        }
        keep_log(false).map(drop)
    }

    fn refuse(&self, path: &Path, why: &str) -> Error {
        let message = format!("the {} {} {why}", self.what, path.display());
        damaged::refuse(path, message, path, &given_up(path))
    }

    fn cannot(&self, verb: &str, path: &Path, err: io::Error) -> Error {
        Error::io(ErrorKind::State, format!("cannot {verb} {}", path.display()), err).hint(format!(
            "longhaul keeps its {} there; LONGHAUL_STATE_DIR names another place",
            self.what
        ))
    }

    /// What an error of SQLite means to a person.
    pub fn explain(&self, path: &Path, err: rusqlite::Error) -> Error {
        use rusqlite::ErrorCode as Sql;
        let (what, shown) = (self.what, path.display());
        let Some(code) = err.sqlite_error_code() else {
            return Error::new(ErrorKind::State, format!("the {what} {shown} cannot be read"))
                .caused_by(err);
        };
        match code {
            Sql::NotADatabase => self.refuse(path, "is not what longhaul writes").caused_by(err),
            Sql::DatabaseCorrupt => self.refuse(path, "is damaged").caused_by(err),
            // The file itself could be opened a moment ago: it is the log beside it.
            Sql::DiskFull | Sql::SystemIoFailure | Sql::ReadOnly | Sql::CannotOpen => {
                Error::new(ErrorKind::Disk, format!("cannot read or write {shown}")).caused_by(err)
            }
            Sql::DatabaseBusy | Sql::DatabaseLocked => Error::new(
                ErrorKind::State,
                format!(
                    "another process has kept the {what} {shown} for {} s",
                    self.busy_timeout.as_secs()
                ),
            )
            .caused_by(err)
            .hint("try again; if it stays so, something else than longhaul has it open"),
            Sql::ConstraintViolation | Sql::ApiMisuse | Sql::ParameterOutOfRange => {
                Error::internal(format!("a change of the {what} {shown} makes no sense"))
                    .caused_by(err)
            }
            _ => Error::new(ErrorKind::State, format!("the {what} {shown} cannot be used"))
                .caused_by(err)
                .hint(format!(
                    "longhaul keeps its {what} there; LONGHAUL_STATE_DIR names another place"
                )),
        }
    }
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
}

fn given_up(path: &Path) -> PathBuf {
    path.with_extension("db.given-up")
}
