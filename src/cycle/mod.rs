//! The decisions: a pure, synchronous state machine.
//!
//! ```text
//! Event + now ──> Machine::step ──> Vec<Action>
//! ```
//!
//! Nothing in here knows tokio, files, the environment, a clock or chance: the
//! driver tells the time with each event, and performs the actions in order.
//! The same `step` serves the live run, the recovery after a crash (replaying
//! the journal) and the reports, so what is told in the morning is what was
//! decided at night.
//!
//! | file | knows |
//! |---|---|
//! | `params` | what the person configured, as far as decisions need it |
//! | `event` | what can happen |
//! | `action` | what can be done, and what is told to the outside |
//! | `state` | where a run can stand, with the data each state owns |
//! | `failure` | what can go wrong, and what is done about each kind |
//! | `liveness` | is a session alive in its turn? |
//! | `rates` | how fast the run spends |
//! | `budget` | what a person wants to spend, and which marks of it were told |
//! | `judge` | is the task done? the two reads, the verify command, progress |
//! | `pressure` | how full a context is, and who said so |
//! | `assignment` | a task of the queue in hand: what was given, what it added |
//! | `record` | one cycle as the report shows it; totals of the run |
//! | `machine/` | the state x event table, a file for each subject |
//! | `snapshot` | what status, display and report may see |

pub mod action;
pub mod assignment;
pub mod budget;
pub mod event;
pub mod failure;
#[cfg(test)]
mod failures_doc;
pub mod judge;
pub mod liveness;
pub mod machine;
#[cfg(test)]
mod nights;
pub mod params;
pub mod pressure;
pub mod rates;
pub mod record;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod scenarios_budget;
#[cfg(test)]
mod scenarios_night;
#[cfg(test)]
mod scenarios_queue;
#[cfg(test)]
pub(crate) mod sim;
pub mod snapshot;
pub mod state;
#[cfg(test)]
mod states_doc;
#[cfg(test)]
mod story;

pub use action::{Action, Notice, Timer};
pub use event::{Command, Event, SessionReport};
pub use machine::Machine;
pub use params::Params;
pub use snapshot::Snapshot;
pub use state::{EndReason, Outcome, State};
