//! One JSON object per line and event, as `dev-docs/EVENTS.md` promises.

use serde::Serialize;

use super::Teller;
use super::outlet::Outlet;
use crate::clock::Timestamp;
use crate::cycle::pressure::{Pressure, WindowSource};
use crate::cycle::{EndReason, Notice, Snapshot};
use crate::report::status::{CostOrigin, cost_origin};
use crate::text::{self, Usd};

/// Writes events.
pub struct Json {
    outlet: Outlet,
    /// Events that found no room since the last one that did.
    lost: u64,
}

impl Json {
    /// Writes into `outlet`.
    pub fn new(outlet: Outlet) -> Self {
        Self { outlet, lost: 0 }
    }
}

impl Teller for Json {
    fn tell(&mut self, at: Timestamp, notice: &Notice, view: &Snapshot<'_>) {
        if self.outlet.is_silent() {
            return;
        }
        let mut lines = String::new();
        if self.lost > 0 {
            let n = text::count(self.lost, "event was", "events were");
            let text = format!("{n} left out because the reader of standard output did not read");
            lines = line(at, &Notice::Warning { text }, view);
        }
        lines.push_str(&line(at, notice, view));
        if self.outlet.offer(&lines) {
            self.lost = 0;
        } else {
            self.lost += 1;
        }
    }

    fn tick(&mut self, _: Timestamp, _: &Snapshot<'_>) {}

    fn tick_ms(&self) -> Option<u64> {
        None
    }

    fn finish(&mut self, _: Timestamp, _: &Snapshot<'_>) {
        self.outlet.drain();
    }
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    ts: String,
    run_id: String,
    cycle: u32,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Empty {},
    Resumed {
        lost_cycle: Option<u32>,
        killed: u32,
    },
    Session {
        session_id: String,
        pid: u32,
        model: Option<&'a str>,
    },
    Context {
        tokens: u64,
        window: u64,
        percent: u64,
        window_source: WindowSource,
    },
    Request {
        attempt: u32,
        reason: EndReason,
    },
    Delivered {
        attempt: u32,
    },
    Proven {
        files: &'a [String],
    },
    Failed {
        reason: &'a str,
    },
    Handoff {
        trouble: Option<&'a str>,
    },
    Nudged {
        count: u32,
    },
    Tasks {
        done: u32,
        total: u32,
    },
    Verified {
        passed: bool,
    },
    Waiting {
        reason: &'a str,
        ms: u64,
    },
    Activity {
        summary: &'a str,
    },
    Spent {
        tokens: u64,
        cost_usd: Usd,
        cost_source: Option<CostOrigin>,
    },
    Ended {
        reason: EndReason,
        exit: Option<i32>,
        killed: u32,
        survivors: u32,
    },
    Text {
        text: &'a str,
    },
    Finished {
        outcome: &'static str,
        exit_code: u8,
        message: String,
    },
}

/// The event's line, with its line break.
pub fn line(at: Timestamp, notice: &Notice, view: &Snapshot<'_>) -> String {
    let (event, body) = encode(notice, view);
    let line = Line {
        event,
        ts: at.rfc3339(),
        run_id: view.run_id().to_string(),
        cycle: view.cycle(),
        body,
    };
    // Serialising plain data into a string cannot fail.
    let mut line = text::json(&line, false).unwrap_or_default();
    line.push('\n');
    line
}

fn encode<'a>(notice: &'a Notice, view: &Snapshot<'_>) -> (&'static str, Body<'a>) {
    match notice {
        Notice::RunStarted => ("run_started", Body::Empty {}),
        Notice::RunResumed { lost_cycle, killed } => (
            "run_resumed",
            Body::Resumed {
                lost_cycle: *lost_cycle,
                killed: *killed,
            },
        ),
        Notice::SessionStarted {
            session_id,
            pid,
            model,
        } => (
            "session_started",
            Body::Session {
                session_id: session_id.to_string(),
                pid: *pid,
                model: model.as_deref(),
            },
        ),
        Notice::Context(pressure) => ("context", context(pressure)),
        Notice::ThresholdReached(pressure) => ("threshold_reached", context(pressure)),
        Notice::CheckpointRequested { attempt, reason } => (
            "checkpoint_requested",
            Body::Request {
                attempt: *attempt,
                reason: *reason,
            },
        ),
        Notice::CheckpointDelivered { attempt } => {
            let attempt = *attempt;
            ("checkpoint_delivered", Body::Delivered { attempt })
        }
        Notice::CheckpointVerified { files } => ("checkpoint_verified", Body::Proven { files }),
        Notice::CheckpointFailed { reason } => ("checkpoint_failed", Body::Failed { reason }),
        Notice::HandoffWritten { trouble } => {
            let trouble = trouble.as_deref();
            ("handoff_written", Body::Handoff { trouble })
        }
        Notice::Nudged { count } => ("nudged", Body::Nudged { count: *count }),
        Notice::Tasks { done, total } => {
            let (done, total) = (*done, *total);
            ("tasks", Body::Tasks { done, total })
        }
        Notice::Verified { passed } => ("verified", Body::Verified { passed: *passed }),
        Notice::Waiting { reason, ms } => ("waiting", Body::Waiting { reason, ms: *ms }),
        Notice::Activity { summary } => ("activity", Body::Activity { summary }),
        Notice::Spent { tokens, cost_usd } => (
            "spent",
            Body::Spent {
                tokens: *tokens,
                cost_usd: Usd(*cost_usd),
                cost_source: cost_origin(view),
            },
        ),
        Notice::SessionEnded {
            reason,
            exit,
            killed,
            survivors,
        } => (
            "session_ended",
            Body::Ended {
                reason: *reason,
                exit: exit.shell_code(),
                killed: *killed,
                survivors: *survivors,
            },
        ),
        Notice::Warning { text } => ("warning", Body::Text { text }),
        Notice::Obeyed { text } => ("obeyed", Body::Text { text }),
        Notice::RunFinished { outcome } => (
            "run_finished",
            Body::Finished {
                outcome: outcome.as_str(),
                exit_code: outcome.exit_code(),
                message: outcome.sentence(),
            },
        ),
    }
}

fn context<'a>(pressure: &Pressure) -> Body<'a> {
    Body::Context {
        tokens: pressure.tokens,
        window: pressure.window,
        percent: pressure.percent(),
        window_source: pressure.source,
    }
}
