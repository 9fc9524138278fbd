//! Where tokens and money went, in all transcripts of this machine, whether longhaul
//! ran the sessions or not.
//!
//! | file | knows |
//! |---|---|
//! | `glance` | the usage of one line, without looking into anything else; pure |
//! | `reading` | the responses that one transcript tells of |
//! | `places` | where transcripts are |
//! | `account` | what all transcripts come to |
//! | `view` | that by days, sessions, models, … |
//! | `spent` | that against what a person wants to spend |
//! | `responses` | each response that counts, by itself |
//! | `part` | what counts of several tellings, and of which file it is; pure |

mod account;
mod glance;
mod part;
mod places;
mod reading;
pub(crate) mod responses;
mod spent;
#[cfg(test)]
mod tests;
mod view;

pub use account::Account;
pub use places::config_dirs;
pub use spent::{Amount, Spent};
pub use view::{Line, Only, Seen, Sums, View};

pub(crate) use crate::transcript::usage::SYNTHETIC_MODEL;

/// What stands in place of a model in rows the CLI makes up itself.
const SYNTHETIC: &[u8] = SYNTHETIC_MODEL.as_bytes();
