//! What was executed on a day, and what was odd about it: `longhaul observe`.
//!
//! | file | knows |
//! |---|---|
//! | `journals` | what runs of longhaul tell |
//! | `reading` | what transcripts tell; `thread` is one of them, `raw` the fields of its rows, `shell` what a command does, `checks` which of them test something, `verdict` whether their output says that they failed |
//! | `standing` | errors that nothing made good; pure |
//! | `gather` | the executions of all that, none of them twice; pure |
//! | `execution` | what an execution is |
//! | `claims` | do the last words of a session claim that work is done? `admissions`: or do they admit that something is open? pure |
//! | `anomaly` | the five anomalies; pure |
//! | `day` | all of it for a day |
//! | `human`, `markdown` | that for people |

mod admissions;
mod anomaly;
mod checks;
mod claims;
mod day;
mod execution;
#[cfg(test)]
pub(crate) mod fixture;
mod gather;
mod human;
mod journals;
mod markdown;
mod raw;
pub(crate) mod reading;
mod shell;
mod standing;
#[cfg(test)]
mod tests;
pub(crate) mod thread;
mod verdict;

pub use anomaly::{Anomaly, AnomalyKind, Severity};
pub(crate) use day::Watched;
pub use day::{Day, Places, Totals, observe};
pub use execution::{Check, Evidence, Execution, Kind, Used, Verified, Work};
pub use gather::{Span, day_span};
pub use reading::Notes;
