//! The usage tracker: who used how many tokens of which model for which task, in files of
//! the project that people and agents read.
//!
//! ```text
//! JSON ──> input ──> record ──┐                        ┌─> tasks/usage-….json
//! a run ──> feeder ──> feed ──┴─> tracker (lock, spool) ┼─> usage-….md (daily)
//!                                   │                  ├─> errors-….md
//!                                   └─> review, paid ──┴─> reports/usage-review-….md
//! ```
//!
//! | file | knows |
//! |---|---|
//! | `input` | what a request says, and what it lacks |
//! | `record` | the log of a task, with its totals |
//! | `matching` | whether a log says all that another does |
//! | `names` | days, and names of files |
//! | `sums` | sums that know what they lack |
//! | `daily` | the summary of a day |
//! | `models` | rules of thumb: cheaper models, too many agents |
//! | `findings`, `review`, `paid` | the review of a period, and whether the last one paid |
//! | `errors` | the file of what went wrong |
//! | `folder` | the project's folder, which is not trusted |
//! | `logs` | reading the logs of days, and the last review |
//! | `spool` | what waits, and what of each session is recorded |
//! | `feed` | what is new of a session |
//! | `feeder` | the way from a run to a process that takes its orders |
//! | `tracker` | what is done in which order |
//! | `placing` | where the log of a task goes, and which it takes the place of |
//! | `saying` | telling of errors, now or when it can be |
//! | `reviewing` | making a review |
//! | `answer` | what is answered |
//!
//! It shares no lock and no thread with supervision.

mod answer;
mod daily;
mod errors;
mod feed;
mod feeder;
mod findings;
mod folder;
mod input;
mod logs;
mod matching;
mod models;
mod names;
mod paid;
mod placing;
mod record;
mod review;
mod reviewing;
mod saying;
mod spool;
mod sums;
mod tracker;

pub use answer::{Answer, Failed, Recommendation, Recorded, Report, Why};
pub use feed::{Order, Part, Parts};
pub use feeder::{FEED_COMMAND, Feeder, Place, feed_main};
pub use input::{Entry, Input, MAX_INPUT_BYTES, Mode, Refused, parse, parse_value};
pub use record::{LogEntry, Source, TaskLog, Totals};
pub use tracker::Tracker;

#[cfg(test)]
mod tests;
