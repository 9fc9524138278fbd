//! The words for people that display, status and report share.

use super::status::CostOrigin;
use crate::cycle::event::Exit;
use crate::cycle::failure::Class;
use crate::cycle::pressure::{Pressure, WindowSource};
use crate::cycle::record::CheckpointStatus;
use crate::cycle::{EndReason, Outcome};
use crate::text;

/// Why a session ended, in few words.
pub fn end_reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Threshold => "context full enough",
        EndReason::Done => "task done",
        EndReason::Blocked => "task blocked",
        EndReason::NoProgress => "no progress",
        EndReason::Budget => "budget spent",
        EndReason::Stopped => "stopped",
        EndReason::Operator => "cycled by hand",
        EndReason::NeedsPerson => "asked for a person",
        EndReason::Authentication => "login refused",
        EndReason::ApiFailure => "API kept failing",
        EndReason::ContextFull => "context overflowed",
        EndReason::Compaction => "compaction held",
        EndReason::Hang => "hung",
        EndReason::Memory => "too much memory",
        EndReason::Limit => "usage limit",
        EndReason::Disk => "disk nearly full",
        EndReason::DeadStart => "never answered",
        EndReason::Exited => "exited by itself",
        EndReason::SupervisorLost => "longhaul was killed",
    }
}

/// What failed, in few words.
pub fn class(class: Class) -> &'static str {
    match class {
        Class::DeadStart => "a session never answered",
        Class::Crash => "the CLI crashed",
        Class::OutOfMemory => "out of memory",
        Class::Authentication => "login refused",
        Class::RateLimit => "rate limited",
        Class::UsageLimit => "usage limit",
        Class::Overloaded => "API overloaded",
        Class::Connection => "no connection to the API",
        Class::Refused => "request refused",
        Class::OutputLimit => "reply cut off at its longest",
        Class::ContextFull => "context overflowed",
        Class::Hang => "a turn hung",
        Class::UnknownDialog => "unknown dialog",
        Class::PermissionPrompt => "permission asked",
        Class::Question => "question asked",
        Class::CliMissing => "the CLI was missing",
        Class::CliUpdated => "the CLI changed",
        Class::ConfigCorrupt => "the CLI's configuration was corrupt",
        Class::SettingsChanged => "the project's settings changed",
    }
}

/// Which usage limit.
pub fn limit(reason: &str) -> &str {
    match reason {
        "five_hour" => "the five-hour limit",
        "seven_day" => "the weekly limit",
        "usage_limit" => "a usage limit",
        other => other,
    }
}

/// How a process ended.
pub fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(number) => format!("signal {number}"),
        Exit::Unknown => "exit not seen".into(),
    }
}

/// Where the size of a window came from; follows the word "window".
pub fn window_source(source: WindowSource) -> &'static str {
    match source {
        WindowSource::Config => "from the configuration",
        WindowSource::Statusline => "from the CLI",
        WindowSource::Models => "from the model table",
        WindowSource::Guess => "is a guess",
    }
}

/// A context reading: `71 % (142k of 200k tokens, window from the CLI)`.
pub fn pressure(p: &Pressure) -> String {
    format!(
        "{} % ({} of {} tokens, window {})",
        p.percent(),
        text::tokens(p.tokens),
        text::tokens(p.window),
        window_source(p.source)
    )
}

/// Whose figure a cost is; follows the amount.
pub fn cost_origin(origin: Option<CostOrigin>) -> &'static str {
    match origin {
        Some(CostOrigin::Cli) => " by the CLI's own count",
        Some(CostOrigin::Transcript) => " computed from the transcripts",
        Some(CostOrigin::Mixed) => " (partly the CLI's count, partly computed)",
        None => "",
    }
}

/// What an execution or a task cost: never only "$0.00" where `unpriced_tokens` of its
/// `tokens` are of models without a known list price. A sum that stands there although all
/// of them are, is the CLI's guess.
pub fn cost(usd: f64, unpriced_tokens: u64, tokens: u64) -> String {
    match unpriced_tokens {
        0 => text::usd(usd),
        _ if usd <= 0.0 => "unpriced".to_owned(),
        n if n >= tokens => format!("{}, a guess of the CLI", text::usd(usd)),
        _ => format!("{}, partly unpriced", text::usd(usd)),
    }
}

/// How a hand-over went, in one or two words.
pub fn checkpoint(status: &CheckpointStatus) -> &'static str {
    match status {
        CheckpointStatus::None => "-",
        CheckpointStatus::Requested => "not proven",
        CheckpointStatus::Verified => "verified",
        CheckpointStatus::Handoff => "handoff",
        CheckpointStatus::Failed => "FAILED",
    }
}

/// Boxes ticked: `7 of 12 (+4 in this run)`.
pub fn tasks(at_start: Option<u32>, done: u32, total: u32) -> String {
    let Some(at_start) = at_start else {
        return "the task file has not been read yet".into();
    };
    let change = match i64::from(done) - i64::from(at_start) {
        0 => "none in this run".into(),
        n => format!("{n:+} in this run"),
    };
    format!("{done} of {total} ({change})")
}

/// How a run ended, in one word or two.
pub fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::NeedsPerson { .. } => "a person is needed",
        Outcome::Budget { .. } => "budget spent",
        Outcome::NoProgress => "no progress",
        Outcome::Authentication { .. } => "login refused",
        Outcome::LimitPast { .. } => "usage limit",
        Outcome::Disk { .. } => "disk nearly full",
        Outcome::Stopped { .. } => "stopped",
    }
}

/// The status of a task of the queue.
pub fn task_status(status: &'static str) -> &'static str {
    match status {
        "in_progress" => "in progress",
        "queued" => "back in the queue",
        other => other,
    }
}
