//! The hub: the queue over HTTP, for other programs on this machine.
//!
//! ```text
//! connection ── door (how many, how slow) ── gate (Host, Origin, size of the body)
//!     ├─ POST /execute_task ── actions ─┐
//!     └─ /api/v1/… ─────────── rest ────┴── desk ── Store, Runner
//! ```
//!
//! | file | knows |
//! |---|---|
//! | `door` | connections: how many at once, how long each may take |
//! | `peer` | who is at the other end of one, and whose turn it is |
//! | `gate` | who may ask: Host, Origin, token; how large a body may be |
//! | `token` | the secret of the hub, and where it is kept |
//! | `ask` | from a request to values: JSON, query, path |
//! | `answer` | from values to a response; every error in one shape |
//! | `views` | what tasks and results look like in answers |
//! | `calls` | what may be asked of `/execute_task`, for the OpenAPI document |
//! | `desk` | what the hub does with the queue, whichever way it was asked |
//! | `actions` | `/execute_task`: one tool, its actions |
//! | `rest` | `/api/v1` and `/healthz` |
//! | `usage` | the usage tracker's requests |
//! | `child` | who works off the queue: a process of its own |
//! | `openapi` | the document: what the handlers say, and what holds for all of them |
//!
//! It knows its router and its state, not who listens: the command composes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::tz::TimeZone;

use crate::config::Config;
use crate::queue::files::{Cutoff, Reduction};
use crate::queue::{QueueError, Store};

mod actions;
mod answer;
mod ask;
mod calls;
mod child;
mod desk;
pub mod door;
mod gate;
mod openapi;
mod peer;
mod rest;
mod token;
mod usage;
mod views;

#[cfg(test)]
mod tests;

pub use child::QueueChild;
pub use openapi::{document, router};
pub use peer::Peer;
pub use token::{TOKEN_FILE, Token};
pub use usage::Bookkeeper;

/// What came of the wish that the queue be worked off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// It is being worked off from now on.
    Started,
    /// Somebody does already.
    AlreadyRunning,
    /// It cannot be; in words for a person.
    Refused(String),
}

/// Who works off the queue.
pub trait Runner: Send + Sync {
    /// Begins, unless somebody does already. Called within the hub's runtime.
    fn start(&self) -> Started;
    /// Is the queue being worked off, by whomever?
    fn is_running(&self) -> bool;
    /// The exit code of the last one that this runner started, if it has ended.
    fn last_exit_code(&self) -> Option<i32> {
        None
    }
}

/// What the hub goes by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The project of a task that names none; its real path.
    pub default_project: PathBuf,
    /// Does `assign_task` begin to work unless it says otherwise?
    pub auto_execute: bool,
    /// May a peer on loopback change things without the token?
    pub allow_unauthenticated_loopback: bool,
    /// Where it listens.
    pub address: SocketAddr,
    /// Largest body, bytes.
    pub max_body_bytes: usize,
    /// Longest time that a body may take to arrive, milliseconds.
    pub body_timeout_ms: u64,
    /// So many newest results stay out of the archive, and are the recent ones.
    pub keep_recent: u32,
    /// Age at which a result moves to the archive, milliseconds.
    pub archive_after_ms: u64,
    /// For the names of batches.
    pub zone: TimeZone,
}

/// Longest time that a body may take to arrive, milliseconds.
const BODY_TIMEOUT_MS: u64 = 10_000;

impl Settings {
    /// As configured, for a hub that listens on `address`.
    pub fn of(config: &Config, default_project: PathBuf, address: SocketAddr) -> Self {
        let max_body_bytes = config.hub.max_body_kb.saturating_mul(1024);
        Self {
            default_project,
            auto_execute: config.hub.auto_execute,
            allow_unauthenticated_loopback: config.hub.allow_unauthenticated_loopback,
            address,
            max_body_bytes: usize::try_from(max_body_bytes).unwrap_or(usize::MAX),
            body_timeout_ms: BODY_TIMEOUT_MS,
            keep_recent: config.queue.keep_recent,
            archive_after_ms: config.queue.archive_after_ms,
            zone: TimeZone::system(),
        }
    }
}

/// Shows the queue somewhere else, and takes over what was changed there. Called on a
/// thread for blocking work.
pub trait Mirror: Send {
    /// Takes over and shows.
    fn reflect(&mut self, store: &mut dyn Store);

    /// Archives results of a project, and says what there is to read of it.
    ///
    /// # Errors
    /// The store fails.
    fn archive(
        &mut self,
        store: &mut dyn Store,
        project: &Path,
        cutoff: Cutoff,
    ) -> Result<Reduction, QueueError>;
}

/// The hub's state, shared by all connections.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    store: Arc<Mutex<Queue>>,
    runner: Arc<dyn Runner>,
    token: Token,
    settings: Settings,
    books: OnceLock<usage::Books>,
    desks: usage::Desks,
}

/// The store, and where it is shown besides.
struct Queue {
    store: Box<dyn Store>,
    mirror: Option<Box<dyn Mirror>>,
}

impl Queue {
    fn reflect(&mut self) {
        if let Some(mirror) = &mut self.mirror {
            mirror.reflect(self.store.as_mut());
        }
    }
}

impl Hub {
    /// A hub on this queue.
    pub fn new(
        store: Box<dyn Store>,
        runner: Arc<dyn Runner>,
        token: Token,
        settings: Settings,
    ) -> Self {
        let store = Arc::new(Mutex::new(Queue { store, mirror: None }));
        let (books, desks) = (OnceLock::new(), usage::Desks::default());
        Self(Arc::new(Inner { store, runner, token, settings, books, desks }))
    }

    /// From now on `mirror` is called after each change that came through the hub, before
    /// it is answered, and whenever [`Hub::reflect`] is.
    pub fn set_mirror(&self, mirror: Box<dyn Mirror>) {
        self.lock().mirror = Some(mirror);
    }

    /// From now on `books` records what is told of usage; the first stays.
    pub fn set_bookkeeper(&self, books: Arc<dyn Bookkeeper>) {
        let _ = self.0.books.set(books);
    }

    /// Calls the mirror now: others change the queue, too.
    pub async fn reflect(&self) {
        let hub = self.clone();
        let done = tokio::task::spawn_blocking(move || hub.lock().reflect()).await;
        if let Err(err) = done {
            tracing::error!(%err, "the queue could not be mirrored");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic ends the program; in tests the store is as sound as before.
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }
}
