//! The laboratory of the integration tests: a temporary project, a private
//! home, the scripted API, the pinned CLI, and the built `longhaul`.
//!
//! Tests wait for facts (an event, a request, the end of a process) with a
//! deadline; the deadline is only ever reached by a failure.
#![allow(dead_code, unused_imports)]

mod after;
mod lab;
mod night;
mod paced;
mod process;
mod queue;
mod run;
mod statusline;
mod story;
mod terminal;
mod transcript;
mod worker;

use std::time::Duration;

pub use after::{GONE_WITHIN, endless, finisher, first_then, ticks_at_once, told};
pub use lab::Lab;
pub use night::{NIGHT, failures, first_step, question, ticks_once, troubled, unix_ms};
pub use paced::Paced;
pub use process::{Survivor, wait_for_end, with_argument, with_variable};
pub use queue::task_of;
pub use run::{Finished, Run};
pub use story::{Story, said};
pub use terminal::Terminal;
pub use worker::{Checkpoint, TICK_ALL, Worker};

/// No fact a test waits for takes this long on a loaded two-core machine.
pub const DEADLINE: Duration = Duration::from_secs(60);
