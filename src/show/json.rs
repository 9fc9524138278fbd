//! One JSON object per line and event, as `dev-docs/EVENTS.md` promises.

use serde::Serialize;

use super::Teller;
use super::outlet::Outlet;
use crate::clock::{self, Timestamp};
use crate::cycle::assignment::{Assignment, End};
use crate::cycle::budget::Scope;
use crate::cycle::failure::Class;
use crate::cycle::pressure::{Pressure, WindowSource};
use crate::cycle::{EndReason, Notice, Snapshot};
use crate::error::Error;
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

    fn give_up(&mut self, at: Timestamp, view: &Snapshot<'_>, err: &Error) {
        let body = Body::Finished {
            outcome: "failed",
            exit_code: err.kind().exit_code(),
            message: err.to_string(),
        };
        self.outlet.offer(&written(at, "run_finished", body, view));
        self.outlet.drain();
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
    TaskStarted {
        task_id: &'a str,
        attempt: u32,
        batch_id: Option<&'a str>,
        batch_position: Option<u32>,
        title: &'a str,
    },
    TaskFinished(Box<TaskFinished<'a>>),
    Waiting {
        reason: &'a str,
        until: String,
    },
    Retrying {
        class: Class,
        attempt: u32,
        after_seconds: f64,
    },
    Dialog {
        kind: &'a str,
        answer: &'a str,
        question: &'a str,
    },
    Hang {
        signal: &'a str,
        seconds: u64,
        step: &'static str,
    },
    Asked {
        reason: &'a str,
        screen: &'a str,
    },
    Activity {
        summary: &'a str,
    },
    Spent {
        tokens: u64,
        cost_usd: Usd,
        cost_source: Option<CostOrigin>,
    },
    Budget {
        scope: Scope,
        period: Option<&'a str>,
        percent: u16,
        spent_usd: Usd,
        unpriced_usd: Usd,
        budget_usd: Usd,
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

/// What a run did for a task of the queue.
#[derive(Serialize)]
struct TaskFinished<'a> {
    task_id: &'a str,
    status: &'static str,
    reason: Option<&'a str>,
    attempt: u32,
    batch_id: Option<&'a str>,
    batch_position: Option<u32>,
    execution_time_seconds: f64,
    tokens: TaskTokens,
    cost_usd: Usd,
    sessions: u32,
    verified: Option<bool>,
    shared_session: bool,
    saved_tokens: u64,
    extra_cache_read_tokens: u64,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct TaskTokens {
    input: u64,
    output: u64,
    cache_write: u64,
    cache_read: u64,
}

impl<'a> TaskFinished<'a> {
    fn of(task: &'a Assignment) -> Self {
        let used = &task.added.tokens;
        Self {
            task_id: &task.given.task_id,
            status: task.end.as_ref().map_or("in_progress", End::as_str),
            reason: task.end.as_ref().and_then(End::why),
            attempt: task.given.attempt,
            batch_id: task.given.batch_id.as_deref(),
            batch_position: task.given.batch_position,
            execution_time_seconds: task.added.elapsed_ms as f64 / 1_000.0,
            tokens: TaskTokens {
                input: used.input,
                output: used.output,
                cache_write: used.cache_write_5m.saturating_add(used.cache_write_1h),
                cache_read: used.cache_read,
            },
            cost_usd: Usd(task.added.cost_usd),
            sessions: task.sessions,
            verified: task.verified,
            shared_session: task.is_shared,
            saved_tokens: task.saved_tokens,
            extra_cache_read_tokens: task.extra_cache_read_tokens,
            warnings: &task.warnings,
        }
    }
}

/// The event's line, with its line break.
pub fn line(at: Timestamp, notice: &Notice, view: &Snapshot<'_>) -> String {
    let (event, body) = encode(notice, view);
    written(at, event, body, view)
}

fn written(at: Timestamp, event: &'static str, body: Body<'_>, view: &Snapshot<'_>) -> String {
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
        Notice::RunResumed { lost_cycle, killed } => {
            ("run_resumed", Body::Resumed { lost_cycle: *lost_cycle, killed: *killed })
        }
        Notice::SessionStarted { session_id, pid, model } => (
            "session_started",
            Body::Session {
                session_id: session_id.to_string(),
                pid: *pid,
                model: model.as_deref(),
            },
        ),
        Notice::Context(pressure) => ("context", context(pressure)),
        Notice::ThresholdReached(pressure) => ("threshold_reached", context(pressure)),
        Notice::CheckpointRequested { attempt, reason } => {
            ("checkpoint_requested", Body::Request { attempt: *attempt, reason: *reason })
        }
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
        Notice::TaskStarted { task_id, attempt, batch_id, batch_position, title } => (
            "task_started",
            Body::TaskStarted {
                task_id,
                attempt: *attempt,
                batch_id: batch_id.as_deref(),
                batch_position: *batch_position,
                title,
            },
        ),
        Notice::TaskFinished { assignment } => {
            ("task_finished", Body::TaskFinished(Box::new(TaskFinished::of(assignment))))
        }
        Notice::Verified { passed } => ("verified", Body::Verified { passed: *passed }),
        Notice::Waiting { reason, until_unix_ms } => {
            ("waiting", Body::Waiting { reason, until: clock::rfc3339(*until_unix_ms) })
        }
        Notice::Retrying { class, attempt, after_ms } => {
            let after_seconds = *after_ms as f64 / 1_000.0;
            ("retrying", Body::Retrying { class: *class, attempt: *attempt, after_seconds })
        }
        Notice::Dialog { kind, answer, what } => {
            ("dialog", Body::Dialog { kind, answer, question: what })
        }
        Notice::Hang { signal, flat_ms, step } => {
            let (seconds, step) = (flat_ms / 1_000, step.as_str());
            ("hang", Body::Hang { signal, seconds, step })
        }
        Notice::NeedsPerson { reason, screen } => ("needs_person", Body::Asked { reason, screen }),
        Notice::Activity { summary } => ("activity", Body::Activity { summary }),
        Notice::Spent { tokens, cost_usd } => (
            "spent",
            Body::Spent {
                tokens: *tokens,
                cost_usd: Usd(*cost_usd),
                cost_source: cost_origin(view),
            },
        ),
        Notice::Budget(mark) => (
            "budget",
            Body::Budget {
                scope: mark.scope,
                period: mark.period.as_deref(),
                percent: mark.percent,
                spent_usd: Usd(mark.spent.usd),
                unpriced_usd: Usd(mark.spent.unpriced_usd),
                budget_usd: Usd(mark.budget_usd),
            },
        ),
        Notice::SessionEnded { reason, exit, killed, survivors } => (
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::Outcome;
    use crate::cycle::budget::{Mark, Money};
    use crate::cycle::event::Exit;
    use crate::cycle::liveness::HangStep;
    use crate::report::staged;
    use uuid::Uuid;

    /// Which notice this is. A notice added later does not compile until it
    /// has a seat here, and fails until it is in `all`.
    fn seat(notice: &Notice) -> usize {
        match notice {
            Notice::RunStarted => 0,
            Notice::RunResumed { .. } => 1,
            Notice::SessionStarted { .. } => 2,
            Notice::Context(_) => 3,
            Notice::ThresholdReached(_) => 4,
            Notice::CheckpointRequested { .. } => 5,
            Notice::CheckpointDelivered { .. } => 6,
            Notice::CheckpointVerified { .. } => 7,
            Notice::CheckpointFailed { .. } => 8,
            Notice::HandoffWritten { .. } => 9,
            Notice::Nudged { .. } => 10,
            Notice::Tasks { .. } => 11,
            Notice::Verified { .. } => 12,
            Notice::TaskStarted { .. } => 24,
            Notice::TaskFinished { .. } => 25,
            Notice::Waiting { .. } => 13,
            Notice::Activity { .. } => 14,
            Notice::Spent { .. } => 15,
            Notice::SessionEnded { .. } => 16,
            Notice::Warning { .. } => 17,
            Notice::Obeyed { .. } => 18,
            Notice::RunFinished { .. } => 19,
            Notice::Retrying { .. } => 20,
            Notice::Dialog { .. } => 21,
            Notice::Hang { .. } => 22,
            Notice::NeedsPerson { .. } => 23,
            Notice::Budget(_) => 26,
        }
    }

    #[test]
    fn the_list_has_every_notice() {
        let seats: std::collections::BTreeSet<usize> = all().iter().map(seat).collect();
        assert!(seats.into_iter().eq(0..27));
    }

    fn all() -> Vec<Notice> {
        let pressure =
            Pressure { tokens: 142_000, window: 200_000, source: WindowSource::Statusline };
        vec![
            Notice::RunStarted,
            Notice::RunResumed { lost_cycle: Some(3), killed: 2 },
            Notice::SessionStarted { session_id: Uuid::nil(), pid: 4711, model: None },
            Notice::Context(pressure),
            Notice::ThresholdReached(pressure),
            Notice::CheckpointRequested { attempt: 1, reason: EndReason::Threshold },
            Notice::CheckpointDelivered { attempt: 1 },
            Notice::CheckpointVerified { files: vec!["dev-docs/tasks.md".into()] },
            Notice::CheckpointFailed { reason: "nothing \u{1b}[2J changed".into() },
            Notice::HandoffWritten { trouble: None },
            Notice::Nudged { count: 2 },
            Notice::Tasks { done: 3, total: 9 },
            Notice::Verified { passed: false },
            Notice::TaskStarted {
                task_id: "t1".into(),
                attempt: 1,
                batch_id: Some("b".into()),
                batch_position: Some(2),
                title: "do it".into(),
            },
            Notice::TaskFinished { assignment: Box::new(staged::task()) },
            Notice::Waiting { reason: "five_hour".into(), until_unix_ms: 1_800_000_090_000 },
            Notice::Retrying { class: Class::Overloaded, attempt: 2, after_ms: 7_250 },
            Notice::Dialog {
                kind: "permission".into(),
                answer: "deny".into(),
                what: "Bash: rm".into(),
            },
            Notice::Hang { signal: "tool".into(), flat_ms: 1_200_900, step: HangStep::Interrupt },
            Notice::NeedsPerson { reason: "r".into(), screen: "a\nb".into() },
            Notice::Activity { summary: "Bash: \u{202e}ls\u{9b}31m\n".into() },
            Notice::Spent { tokens: 12, cost_usd: 0.1 + 0.2 },
            Notice::Budget(Mark {
                scope: Scope::Day,
                period: Some("2026-11-21".into()),
                attempt: 0,
                percent: 80,
                spent: Money { usd: 8.1, unpriced_usd: 0.25 },
                budget_usd: 10.0,
                is_highest: true,
            }),
            Notice::SessionEnded {
                reason: EndReason::Threshold,
                exit: Exit::Signal(15),
                killed: 1,
                survivors: 0,
            },
            Notice::SessionEnded {
                reason: EndReason::SupervisorLost,
                exit: Exit::Unknown,
                killed: 0,
                survivors: 0,
            },
            Notice::Warning { text: "w".into() },
            Notice::Obeyed { text: "o".into() },
            Notice::RunFinished { outcome: Outcome::Stopped { signal: 15 } },
        ]
    }

    #[test]
    fn every_event_is_written_as_promised() {
        let stage = staged::mid_night();
        let lines: String =
            all().iter().map(|notice| line(stage.now, notice, &stage.view())).collect();
        let head = format!(
            r#""ts":"{}","run_id":"1a2b3c4d-0000-4000-8000-000000000001","cycle":2"#,
            stage.now.rfc3339()
        );
        assert_eq!(lines.matches(&head).count(), all().len());
        insta::assert_snapshot!(lines.replace(&head, "HEAD"), @r#"
        {"event":"run_started",HEAD}
        {"event":"run_resumed",HEAD,"lost_cycle":3,"killed":2}
        {"event":"session_started",HEAD,"session_id":"00000000-0000-0000-0000-000000000000","pid":4711,"model":null}
        {"event":"context",HEAD,"tokens":142000,"window":200000,"percent":71,"window_source":"statusline"}
        {"event":"threshold_reached",HEAD,"tokens":142000,"window":200000,"percent":71,"window_source":"statusline"}
        {"event":"checkpoint_requested",HEAD,"attempt":1,"reason":"threshold"}
        {"event":"checkpoint_delivered",HEAD,"attempt":1}
        {"event":"checkpoint_verified",HEAD,"files":["dev-docs/tasks.md"]}
        {"event":"checkpoint_failed",HEAD,"reason":"nothing \u001b[2J changed"}
        {"event":"handoff_written",HEAD,"trouble":null}
        {"event":"nudged",HEAD,"count":2}
        {"event":"tasks",HEAD,"done":3,"total":9}
        {"event":"verified",HEAD,"passed":false}
        {"event":"task_started",HEAD,"task_id":"t1","attempt":1,"batch_id":"b","batch_position":2,"title":"do it"}
        {"event":"task_finished",HEAD,"task_id":"t1","status":"error","reason":"no","attempt":1,"batch_id":null,"batch_position":null,"execution_time_seconds":1.5,"tokens":{"input":1,"output":2,"cache_write":7,"cache_read":5},"cost_usd":0.25,"sessions":2,"verified":false,"shared_session":false,"saved_tokens":0,"extra_cache_read_tokens":0,"warnings":[]}
        {"event":"waiting",HEAD,"reason":"five_hour","until":"2027-01-15T08:01:30.000Z"}
        {"event":"retrying",HEAD,"class":"overloaded","attempt":2,"after_seconds":7.25}
        {"event":"dialog",HEAD,"kind":"permission","answer":"deny","question":"Bash: rm"}
        {"event":"hang",HEAD,"signal":"tool","seconds":1200,"step":"interrupt"}
        {"event":"needs_person",HEAD,"reason":"r","screen":"a\nb"}
        {"event":"activity",HEAD,"summary":"Bash: \u202els\u009b31m\n"}
        {"event":"spent",HEAD,"tokens":12,"cost_usd":0.3,"cost_source":"cli"}
        {"event":"budget",HEAD,"scope":"day","period":"2026-11-21","percent":80,"spent_usd":8.1,"unpriced_usd":0.25,"budget_usd":10.0}
        {"event":"session_ended",HEAD,"reason":"threshold","exit":143,"killed":1,"survivors":0}
        {"event":"session_ended",HEAD,"reason":"supervisor_lost","exit":null,"killed":0,"survivors":0}
        {"event":"warning",HEAD,"text":"w"}
        {"event":"obeyed",HEAD,"text":"o"}
        {"event":"run_finished",HEAD,"outcome":"stopped","exit_code":143,"message":"stopped (signal 15)"}
        "#);
    }

    #[test]
    fn every_event_is_documented_with_every_field() {
        let doc = include_str!("../../dev-docs/EVENTS.md");
        let stage = staged::mid_night();
        for notice in all() {
            let written = line(stage.now, &notice, &stage.view());
            let value: serde_json::Value = serde_json::from_str(&written).unwrap();
            let fields = value.as_object().unwrap();
            let event = fields["event"].as_str().unwrap();
            let section = doc.split("\n### ").find(|s| s.starts_with(&format!("`{event}`\n")));
            let section = section.unwrap_or_else(|| panic!("{event} is not in EVENTS.md"));
            for field in fields.keys() {
                let is_common = ["event", "ts", "run_id", "cycle"].contains(&field.as_str());
                assert!(
                    is_common || section.contains(&format!("| `{field}` |")),
                    "{event}.{field} is not in EVENTS.md"
                );
            }
        }
    }

    #[test]
    fn a_reader_that_slept_is_told_how_much_it_missed() {
        let stage = staged::mid_night();
        let view = stage.view();
        let (outlet, let_through, written) = super::super::outlet::tests::sleepy();
        let mut json = Json::new(outlet);
        let big = Notice::Activity { summary: "x".repeat(300_000) };
        let mut told = 0;
        while json.lost < 2 {
            json.tell(stage.now, &big, &view);
            told += 1;
        }
        for _ in 0..2 * told {
            let_through.send(()).unwrap();
        }
        json.outlet.drain();
        json.tell(stage.now, &Notice::RunStarted, &view);
        json.finish(stage.now, &view);
        drop(json);
        let all: Vec<u8> = written.into_iter().flatten().collect();
        let all = String::from_utf8(all).unwrap();
        let lines: Vec<serde_json::Value> =
            all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), told - 2 + 2);
        let warning = &lines[lines.len() - 2];
        assert_eq!(warning["event"], "warning");
        assert!(warning["text"].as_str().unwrap().starts_with("2 events were left out"));
        assert_eq!(lines[lines.len() - 1]["event"], "run_started");
    }

    #[test]
    fn before_the_first_session_the_cycle_is_0() {
        let stage = staged::Stage::new(staged::params());
        let written = line(stage.now, &Notice::RunStarted, &stage.view());
        assert_eq!(
            written,
            concat!(
                r#"{"event":"run_started","ts":"2027-01-15T08:00:00.000Z","#,
                r#""run_id":"1a2b3c4d-0000-4000-8000-000000000001","cycle":0}"#,
                "\n"
            )
        );
    }
}
