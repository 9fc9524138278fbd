//! One live CLI: the room it lives in and everything said to and by it.
//!
//! - [`Keeper`]: longhaul's handle on a keeper process, which holds the pty,
//!   the CLI and the leash ([`keeper_main`]).
//! - [`mod@settings`] and [`mod@env`]: what the CLI is started with.
//! - [`sink`]: what its statusline and hooks report.
//! - [`permission`]: what it is told when it asks a person.
//! - [`screen`]: what its screen means.
//! - [`dialog`]: what its screen may ask, and the one answer to it.
//! - [`waiting`]: whether it waits for a person, by its own note.
//! - [`vitals`]: how much memory and CPU time its tree uses.
//! - [`oom`]: whether it was killed for want of memory.
//! - [`sweep`]: making sure that nothing of it lives on.

mod cgroup;
pub mod dialog;
pub mod env;
mod keeper;
mod limits;
pub mod oom;
pub mod permission;
mod room;
pub mod screen;
pub mod secrets;
pub mod settings;
pub mod sink;
pub mod sweep;
mod terminal;
pub mod vitals;
pub mod waiting;
pub mod wire;

pub use keeper::{COMMAND_KEEPER_COMMAND, KEEPER_COMMAND, Keeper};
pub use limits::{FILE_MAX_BYTES, OOM_SCORE_RISE};
pub use room::{Holds, LEASH_GRACE_MS, keeper_main};
pub use sink::{SINK_COMMAND, sink_main};
pub use terminal::ENTER_DELAY_MS;
pub use wire::{COLS, Ending, KeeperCommand, KeeperEvent, Key, LAST_SCREEN, Launch, ROWS};
