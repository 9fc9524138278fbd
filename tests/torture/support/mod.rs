//! What the tests share: places to run in, the oracle, chance, counts.

mod arena;
mod chance;
mod oracle;
mod running;

use std::time::Duration;

pub use arena::Arena;
pub use chance::{Dice, Seed, count, share};
pub use oracle::{Audit, audit, tokens_of_all_sessions};
pub use running::{Running, kill, wait_for, wait_until};

/// No fact a test waits for takes this long on a loaded two-core machine.
pub const DEADLINE: Duration = Duration::from_secs(120);
/// Within this time nothing of a session or a run may live on.
pub const GONE_WITHIN: Duration = Duration::from_secs(5);
