//! A notice in one line of words, and how much it matters. Not safe for a
//! terminal yet: whoever writes it makes it so.

use jiff::tz::TimeZone;

use crate::cycle::assignment::{Assignment, End};
use crate::cycle::liveness::HangStep;
use crate::cycle::{Notice, Outcome, Snapshot};
use crate::report::words;
use crate::text;

/// How a line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// How things go.
    Plain,
    /// A step forward.
    Good,
    /// Worth a look.
    Warn,
    /// Something was lost, or a person is needed.
    Bad,
}

/// The line of a notice that belongs into a log; none for readings that come
/// all the time (context, spent, activity), which each display shows its own way.
pub fn line(notice: &Notice, view: &Snapshot<'_>) -> Option<(Tone, String)> {
    let cycle = view.cycle();
    Some(match notice {
        Notice::RunStarted => (Tone::Plain, format!("run {} begins", view.run_id())),
        Notice::RunResumed { lost_cycle, killed } => resumed(view, *lost_cycle, *killed),
        Notice::SessionStarted { session_id, pid, model } => {
            let model = model.as_deref().unwrap_or("model not known yet");
            let words = format!("session {cycle} began: {model}, pid {pid}, id {session_id}");
            (Tone::Plain, words)
        }
        Notice::Budget(mark) if mark.is_highest => (Tone::Warn, mark.sentence()),
        // A higher one says it better.
        Notice::Budget(_) => return None,
        Notice::Context(_) | Notice::Spent { .. } | Notice::Activity { .. } => return None,
        Notice::ThresholdReached(pressure) => {
            (Tone::Plain, format!("threshold reached: context {}", words::pressure(pressure)))
        }
        Notice::CheckpointRequested { attempt: 1, reason } => {
            (Tone::Plain, format!("checkpoint asked for ({})", words::end_reason(*reason)))
        }
        Notice::CheckpointRequested { attempt, reason: _ } => {
            (Tone::Warn, format!("checkpoint asked for again (request {attempt})"))
        }
        Notice::CheckpointDelivered { attempt: _ } => {
            (Tone::Plain, "the session has the request".into())
        }
        Notice::CheckpointVerified { files } => {
            (Tone::Good, format!("checkpoint verified: {}", files.join(", ")))
        }
        Notice::CheckpointFailed { reason } => (Tone::Bad, format!("no checkpoint: {reason}")),
        Notice::HandoffWritten { trouble: None } => {
            (Tone::Warn, "longhaul wrote dev-docs/handoff.md from the transcript".into())
        }
        Notice::HandoffWritten { trouble: Some(trouble) } => {
            (Tone::Bad, format!("dev-docs/handoff.md could not be written: {trouble}"))
        }
        Notice::Nudged { count } => {
            (Tone::Plain, format!("the turn ended with work left; told to go on ({count})"))
        }
        Notice::Tasks { done, total } => (Tone::Good, format!("tasks: {done} of {total} done")),
        Notice::TaskStarted { task_id, batch_id, batch_position, title, .. } => {
            let batch = match (batch_id, batch_position) {
                (Some(batch), Some(n)) => format!(" ({n} of batch {batch})"),
                _ => String::new(),
            };
            (Tone::Plain, format!("task {task_id}{batch}: {title}"))
        }
        Notice::TaskFinished { assignment } => task_finished(assignment),
        Notice::Verified { passed: true } => (Tone::Good, "the verify command passed".into()),
        Notice::Verified { passed: false } => (Tone::Warn, "the verify command failed".into()),
        Notice::Waiting { reason, until_unix_ms } => {
            let until = text::local(*until_unix_ms, &TimeZone::system(), "%a %H:%M:%S");
            (Tone::Warn, format!("{} is reached; waiting until {until}", words::limit(reason)))
        }
        Notice::Retrying { class, attempt, after_ms } => {
            let failed = words::class(*class);
            let pause = text::span(after_ms.next_multiple_of(1_000));
            let words = format!("{failed} ({attempt}); going on in {pause}");
            (Tone::Warn, words)
        }
        Notice::Dialog { kind, answer, what } => {
            (Tone::Warn, format!("the CLI asked ({kind}): {what}; the answer was: {answer}"))
        }
        Notice::Hang { signal, flat_ms, step } => {
            let then = match step {
                HangStep::Warn => "the session may hang",
                HangStep::Interrupt => "the turn is interrupted",
                HangStep::End => "the session is ended",
            };
            let flat = text::span(*flat_ms);
            let words = match signal.as_str() {
                "tool" => format!("a tool call has not come back for {flat}: {then}"),
                sign => format!("nothing has moved for {flat} (last: {sign}): {then}"),
            };
            (Tone::Warn, words)
        }
        Notice::NeedsPerson { reason, screen: _ } => {
            (Tone::Bad, format!("a person is needed: {reason}"))
        }
        Notice::SessionEnded { reason, exit, killed, survivors } => {
            let mut words = format!(
                "session {cycle} ended: {} ({})",
                words::end_reason(*reason),
                words::exit(*exit)
            );
            if *killed > 0 {
                let n = text::count((*killed).into(), "process", "processes");
                words.push_str(&format!(", {n} of it had to be ended"));
            }
            match survivors {
                0 => (Tone::Plain, words),
                n => (Tone::Bad, format!("{words}, {n} OUTLIVED IT")),
            }
        }
        Notice::Warning { text } => (Tone::Warn, format!("warning: {text}")),
        Notice::Obeyed { text } => (Tone::Plain, format!("by command: {text}")),
        Notice::RunFinished { outcome } => finished(outcome),
    })
}

fn resumed(view: &Snapshot<'_>, lost_cycle: Option<u32>, killed: u32) -> (Tone, String) {
    let mut words = format!("run {} goes on after an interruption", view.run_id());
    if let Some(cycle) = lost_cycle {
        words.push_str(&format!("; session {cycle} was lost"));
    }
    if killed > 0 {
        let n = text::count(killed.into(), "process", "processes");
        words.push_str(&format!(" and {n} of it had to be ended"));
    }
    (Tone::Warn, words)
}

fn task_finished(task: &Assignment) -> (Tone, String) {
    let (tone, word) = match &task.end {
        Some(End::Done) | None => (Tone::Good, "is done".to_owned()),
        Some(End::Error { why }) => (Tone::Bad, format!("failed: {why}")),
        Some(End::Blocked { why }) => (Tone::Bad, format!("is blocked: {why}")),
        Some(End::Cancelled) => (Tone::Warn, "is cancelled".to_owned()),
        Some(End::Released { why }) => (Tone::Warn, format!("goes back to the queue: {why}")),
    };
    let words = format!(
        "task {} {word} ({}, {} tokens, {}, {})",
        task.given.task_id,
        text::span(task.added.elapsed_ms),
        text::tokens(task.added.tokens.total()),
        text::usd(task.added.cost_usd),
        text::count(task.sessions.into(), "session", "sessions"),
    );
    (tone, words)
}

fn finished(outcome: &Outcome) -> (Tone, String) {
    let tone = match outcome {
        Outcome::Done => Tone::Good,
        Outcome::Budget { .. }
        | Outcome::NoProgress
        | Outcome::LimitPast { .. }
        | Outcome::Stopped { .. } => Tone::Warn,
        Outcome::NeedsPerson { .. } | Outcome::Authentication { .. } | Outcome::Disk { .. } => {
            Tone::Bad
        }
    };
    let words =
        format!("the run is over: {} (exit code {})", outcome.sentence(), outcome.exit_code());
    (tone, words)
}
