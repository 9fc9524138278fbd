//! Where tokens and money went, in all transcripts of this machine, whether longhaul
//! ran the sessions or not.
//!
//! | file | knows |
//! |---|---|
//! | `glance` | the usage of one line, without looking into anything else; pure |
//! | `reading` | the responses that one transcript tells of |
//! | `fetch` | reading many of them side by side |
//! | `index` | what was counted before |
//! | `owners` | which sessions are of which run and task |
//! | `places` | where transcripts are |
//! | `account` | what all transcripts come to |
//! | `view` | that by days, sessions, models, … |
//! | `spent` | what of it is of today and of this month |
//! | `now` | that in a small file, for whoever must not wait |
//! | `responses` | each response that counts, by itself |
//! | `fuzz` | whether the readers agree on any bytes |

mod account;
mod fetch;
#[doc(hidden)]
pub mod fuzz;
mod glance;
mod index;
pub mod now;
mod owners;
mod places;
mod reading;
pub(crate) mod responses;
mod spent;
#[cfg(test)]
mod tests;
mod view;

pub use account::Account;
pub use index::{Index, Repriced};
pub use now::{Now, refresh};
pub use owners::Owners;
pub(crate) use owners::sessions_of;
pub(crate) use places::{agent_type, open};
pub use places::{config_dirs, dirs_of_environment};
pub use spent::{Amount, Spent};
pub use view::{Line, Only, Seen, Sums, View};

use std::path::PathBuf;

use crate::models::Models;
#[cfg(test)]
pub(crate) use places::tests as places_tests;

/// What all transcripts below these directories come to, out of the index below
/// `state_root`. If that cannot be had, all of them are read, and the error says why:
/// what the CLI has deleted is not in the account then.
pub fn account(
    state_root: crate::Result<PathBuf>,
    dirs: &[PathBuf],
    models: &Models,
) -> (Account, Option<crate::Error>) {
    let index = state_root.and_then(|root| Index::open(&root, dirs));
    match index.and_then(|mut index| index.account(models)) {
        Ok(account) => (account, None),
        Err(err) => (Account::of(dirs, models), Some(err)),
    }
}

pub(crate) use crate::transcript::part::SYNTHETIC_MODEL;

/// What stands in place of a model in rows the CLI makes up itself.
const SYNTHETIC: &[u8] = SYNTHETIC_MODEL.as_bytes();
