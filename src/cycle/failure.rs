//! What can go wrong in a night, and what is done about each kind of it.
//!
//! The policies are data, so that `dev-docs/FAILURES.md` can be made of them and
//! each row be tested. A pause grows with each failure in a row up to its cap and
//! is shortened by up to a half, so that runs that failed together do not come
//! back together.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The session ended, or was ended, without one assistant row.
    DeadStart,
    /// The session's process ended by itself after it had worked.
    Crash,
    /// The kernel ended it for want of memory, or it used more than it may.
    OutOfMemory,
    /// The API refused the login.
    Authentication,
    /// HTTP 429 that is no usage limit.
    RateLimit,
    /// The five-hour or weekly limit of the subscription.
    UsageLimit,
    /// HTTP 5xx, 529 among them.
    Overloaded,
    /// No answer of the API: refused, reset, or a stream that stands still.
    Connection,
    /// The API refuses this request whatever is done (HTTP 400, 404, 413).
    Refused,
    /// A reply was cut off at the most that one may hold.
    OutputLimit,
    /// "Prompt is too long".
    ContextFull,
    /// In a turn nothing moved for too long.
    Hang,
    /// Something unknown waits on the screen.
    UnknownDialog,
    /// The CLI asked for a permission.
    PermissionPrompt,
    /// The model asked a question.
    Question,
    /// The CLI's program is gone.
    CliMissing,
    /// The CLI's program is another one.
    CliUpdated,
    /// The CLI's `~/.claude.json` cannot be read.
    ConfigCorrupt,
    /// What runs by itself in the project is not what the person started with.
    SettingsChanged,
}

/// What bounds the attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// This many in a row.
    Times(u32),
    /// `limits.max_wait_hours` in one piece, then exit code 31.
    MaxWait,
    /// `limits.no_progress_cycles` sessions without progress, then exit code 21.
    NoProgress,
    /// It does not repeat by itself.
    None,
}

/// What is done about a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How it shows.
    pub seen: &'static str,
    /// What longhaul does.
    pub answer: &'static str,
    /// The first pause, milliseconds; 0 = none.
    pub first_ms: u64,
    /// No pause is longer.
    pub cap_ms: u64,
    /// What bounds it.
    pub bound: Bound,
    /// What comes at the bound.
    pub then: &'static str,
}

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;

/// Failures of the API in a row before a fresh session tries.
pub const API_FAILURES: u32 = 8;
/// Sessions in a row that never answered, before a person is needed.
pub const DEAD_STARTS: u32 = 3;
/// Looks for a program that is gone: an update may be putting it back.
pub const MISSING_LOOKS: u32 = 12;
/// Requests refused in a row before a fresh session tries.
pub const REFUSALS: u32 = 2;
/// Added to the reset of a usage limit: the clocks differ a little.
pub const LIMIT_MARGIN_MS: i64 = 15_000;

/// Two resets closer together than this are the same: texts give minutes.
pub const SAME_RESET_MS: u64 = 120_000;
/// The CLI of a subscriber goes on by itself 30 to 90 s after the reset. Only
/// when it does not is it told to: two prompts would be one too many.
pub const CONTINUES_WITHIN_MS: i64 = 120_000;

impl Class {
    /// Every class.
    pub const ALL: [Class; 19] = [
        Class::DeadStart,
        Class::Crash,
        Class::OutOfMemory,
        Class::Authentication,
        Class::RateLimit,
        Class::UsageLimit,
        Class::Overloaded,
        Class::Connection,
        Class::Refused,
        Class::OutputLimit,
        Class::ContextFull,
        Class::Hang,
        Class::UnknownDialog,
        Class::PermissionPrompt,
        Class::Question,
        Class::CliMissing,
        Class::CliUpdated,
        Class::ConfigCorrupt,
        Class::SettingsChanged,
    ];

    /// The word in events and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::DeadStart => "dead_start",
            Class::Crash => "crash",
            Class::OutOfMemory => "out_of_memory",
            Class::Authentication => "authentication",
            Class::RateLimit => "rate_limit",
            Class::UsageLimit => "usage_limit",
            Class::Overloaded => "overloaded",
            Class::Connection => "connection",
            Class::Refused => "refused",
            Class::OutputLimit => "output_limit",
            Class::ContextFull => "context_full",
            Class::Hang => "hang",
            Class::UnknownDialog => "unknown_dialog",
            Class::PermissionPrompt => "permission_prompt",
            Class::Question => "question",
            Class::CliMissing => "cli_missing",
            Class::CliUpdated => "cli_updated",
            Class::ConfigCorrupt => "config_corrupt",
            Class::SettingsChanged => "settings_changed",
        }
    }

    /// Does it pass by itself, without anybody's doing? Then a session that never
    /// got an answer is not the session's failure.
    pub fn is_outage(self) -> bool {
        match self {
            Class::RateLimit | Class::UsageLimit | Class::Overloaded | Class::Connection => true,
            Class::DeadStart
            | Class::Crash
            | Class::OutOfMemory
            | Class::Authentication
            | Class::Refused
            | Class::OutputLimit
            | Class::ContextFull
            | Class::Hang
            | Class::UnknownDialog
            | Class::PermissionPrompt
            | Class::Question
            | Class::CliMissing
            | Class::CliUpdated
            | Class::ConfigCorrupt
            | Class::SettingsChanged => false,
        }
    }

    /// What is done about it.
    pub fn policy(self) -> Policy {
        let once = |seen, answer, then| Policy {
            seen,
            answer,
            first_ms: 0,
            cap_ms: 0,
            bound: Bound::None,
            then,
        };
        match self {
            Class::DeadStart => Policy {
                seen: "the session ended, or showed nothing until `session.start_timeout`, \
                       without one assistant row",
                answer: "a fresh session after a pause",
                first_ms: SECOND_MS,
                cap_ms: 5 * MINUTE_MS,
                bound: Bound::Times(DEAD_STARTS),
                then: "exit 10, with what the screen showed",
            },
            Class::Crash => Policy {
                seen: "the CLI's process ended by itself after it had answered",
                answer: "longhaul's own brief, then a fresh session after a pause",
                first_ms: SECOND_MS,
                cap_ms: 5 * MINUTE_MS,
                bound: Bound::NoProgress,
                then: "exit 21",
            },
            Class::OutOfMemory => Policy {
                seen: "SIGKILL while the kernel's count of OOM kills rose, or more memory than \
                       `limits.tree_memory_hard_mb`",
                answer: "longhaul's own brief, then a fresh session that is told of it, after a pause",
                first_ms: 5 * SECOND_MS,
                cap_ms: 5 * MINUTE_MS,
                bound: Bound::NoProgress,
                then: "exit 21",
            },
            Class::Authentication => once(
                "an error row `authentication_failed`, `oauth_org_not_allowed`, `account_on_hold`, \
                 `verification_required` or `cloud_credential_error`, HTTP 401 or 403",
                "never tried again: the session is ended",
                "exit 30",
            ),
            Class::RateLimit => Policy {
                seen: "an error row `rate_limit` without a usage limit, after the CLI's own attempts",
                answer: "told to go on in the same session after a pause; a fresh session after \
                         more than 8 failures in a row",
                first_ms: 15 * SECOND_MS,
                cap_ms: 10 * MINUTE_MS,
                bound: Bound::MaxWait,
                then: "exit 31",
            },
            Class::UsageLimit => Policy {
                seen: "an error row with `quotaLimits`, else one whose words are those of a limit, \
                       the statusline's `rate_limits`, or the text of the limit on the screen",
                answer: "the session is kept and told to go on 15 s after the limit is reset, or, \
                         if the CLI says it will do so itself, after 120 s; \
                         where no time is given, tried after a pause. One that was being \
                         asked for its checkpoint is ended with longhaul's own brief",
                first_ms: MINUTE_MS,
                cap_ms: 30 * MINUTE_MS,
                bound: Bound::MaxWait,
                then: "exit 31; at once when the reset lies beyond it",
            },
            Class::Overloaded => Policy {
                seen: "an error row `server_error` or HTTP 5xx, after the CLI's own attempts",
                answer: "told to go on in the same session after a pause; a fresh session after \
                         more than 8 failures in a row",
                first_ms: 5 * SECOND_MS,
                cap_ms: 5 * MINUTE_MS,
                bound: Bound::MaxWait,
                then: "exit 31",
            },
            Class::Connection => Policy {
                seen: "an error row `server_error` or `unknown` without an HTTP status, after the \
                       CLI's own attempts",
                answer: "told to go on in the same session after a pause; a fresh session after \
                         more than 8 failures in a row",
                first_ms: 5 * SECOND_MS,
                cap_ms: 5 * MINUTE_MS,
                bound: Bound::MaxWait,
                then: "exit 31",
            },
            Class::Refused => Policy {
                seen: "an error row with HTTP 400, 404, 413 or the like, or one that names no failure \
                       known here",
                answer: "told to go on in the same session after a pause; a fresh session after \
                         more than 2 in a row; exit 10 at once for an unknown model or an empty account",
                first_ms: 5 * SECOND_MS,
                cap_ms: MINUTE_MS,
                bound: Bound::NoProgress,
                then: "exit 21",
            },
            Class::OutputLimit => Policy {
                seen: "an error row `max_output_tokens`, after the CLI's own attempts",
                answer: "told to go on in the same session after a pause; a fresh session after \
                         more than 2 in a row without any part of a reply, or when nothing comes of it",
                first_ms: 5 * SECOND_MS,
                cap_ms: MINUTE_MS,
                bound: Bound::NoProgress,
                then: "exit 21",
            },
            Class::ContextFull => once(
                "an error row `invalid_request`, \"prompt is too long\", or `max_output_tokens`, \
                 \"context window limit\"",
                "longhaul's own brief, then a fresh session at once",
                "exit 21 after `limits.no_progress_cycles` sessions without progress",
            ),
            Class::Hang => Policy {
                seen: "a turn in which nothing moved for `hang.interrupt`, or a tool call for \
                       `hang.tool`",
                answer: "Esc, and told to go on; ended and replaced when that does not help, \
                         the next turn hangs as well without a reply in between, or it never \
                         gave a reply",
                first_ms: 5 * SECOND_MS,
                cap_ms: 5 * MINUTE_MS,
                bound: Bound::NoProgress,
                then: "exit 21",
            },
            Class::UnknownDialog => once(
                "a screen that waits for a choice or a key and is none of those known",
                "nothing is pressed; the session is ended within 60 s",
                "exit 10, with the screen's text",
            ),
            Class::PermissionPrompt => once(
                "the CLI's PermissionRequest hook; a prompt on the screen where hooks are off",
                "by `permissions.policy`: declined with the word to decide by itself, put to a \
                 command, or the end of the run",
                "exit 10 (`stop`)",
            ),
            Class::Question => once(
                "the same hook for AskUserQuestion and the like",
                "by `permissions.policy`, as above",
                "exit 10 (`stop`)",
            ),
            Class::CliMissing => Policy {
                seen: "before a launch the CLI's program is not there or cannot be run",
                answer: "looked for again after a pause: an update may be putting it back",
                first_ms: 3 * SECOND_MS,
                cap_ms: MINUTE_MS,
                bound: Bound::Times(MISSING_LOOKS),
                then: "exit 10",
            },
            Class::CliUpdated => once(
                "before a launch the CLI's program is another file",
                "a warning; the run goes on with it",
                "",
            ),
            Class::ConfigCorrupt => once(
                "before a launch the CLI's `~/.claude.json` is no JSON, read several times",
                "nothing is launched: the CLI would start from nothing or overwrite it",
                "exit 10, naming the copies there are",
            ),
            Class::SettingsChanged => once(
                "before a launch, or while a session lives, hooks, env or helpers of the project \
                 or of the person differ from the start",
                "the session is ended and nothing is launched, unless \
                 `claude.allow_settings_changes`",
                "exit 10, naming what changed",
            ),
        }
    }

    /// The pause before attempt number `attempt` (from 1) after a failure, in
    /// milliseconds: doubled each time, capped, and less up to a half of it. The
    /// shortening follows from the run, so that a replay pauses as the run did.
    pub fn pause_ms(self, run_id: Uuid, attempt: u32) -> u64 {
        let Policy { first_ms, cap_ms, .. } = self.policy();
        let doubled = first_ms.saturating_mul(1_u64 << attempt.saturating_sub(1).min(20));
        let full_ms = doubled.min(cap_ms);
        let mark = format!("{} {attempt}", self.as_str());
        let dice = Uuid::new_v5(&run_id, mark.as_bytes()).as_u128() % 1_000;
        full_ms - full_ms * dice as u64 / 2_000
    }
}

/// What kind of failure an error row of the CLI is, apart from usage limits and
/// a full context, which show elsewhere.
pub fn of_error_row(error: &str, status: Option<u16>) -> Class {
    match (error, status) {
        (
            "authentication_failed"
            | "oauth_org_not_allowed"
            | "account_on_hold"
            | "verification_required"
            | "cloud_credential_error",
            _,
        )
        | (_, Some(401 | 403)) => Class::Authentication,
        ("max_output_tokens", _) => Class::OutputLimit,
        ("rate_limit", _) | (_, Some(429)) => Class::RateLimit,
        ("server_error" | "overloaded", Some(_)) | ("overloaded", None) | (_, Some(500..=599)) => {
            Class::Overloaded
        }
        (_, Some(408 | 409 | 425 | 499)) => Class::Connection,
        // The CLI had no answer that it could name.
        ("server_error" | "unknown", None) => Class::Connection,
        (_, _) => Class::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_grows_to_its_cap_and_is_never_cut_by_more_than_a_half() {
        for class in Class::ALL {
            let policy = class.policy();
            for run in 0..20 {
                for attempt in 1..40 {
                    let full = policy.first_ms.saturating_mul(1 << (attempt - 1).min(30));
                    let full = full.min(policy.cap_ms);
                    let ms = class.pause_ms(Uuid::from_u128(run), attempt);
                    assert!(ms * 2 >= full && ms <= full, "{class:?} {attempt}: {ms} of {full}");
                }
            }
        }
    }

    #[test]
    fn runs_that_failed_together_do_not_come_back_together() {
        let pauses: std::collections::BTreeSet<u64> =
            (0..50).map(|run| Class::Overloaded.pause_ms(Uuid::from_u128(run), 5)).collect();
        assert!(pauses.len() > 30, "{pauses:?}");
    }

    #[test]
    fn words_are_those_of_the_journal_and_each_class_is_listed_once() {
        for (at, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
            assert_eq!(Class::ALL.iter().position(|c| *c == class), Some(at));
            assert!(!class.policy().seen.is_empty() && !class.policy().answer.is_empty());
        }
    }

    #[test]
    fn error_rows_of_the_cli_find_their_class() {
        for (error, status, class) in [
            ("authentication_failed", Some(401), Class::Authentication),
            ("unknown", Some(403), Class::Authentication),
            ("rate_limit", Some(429), Class::RateLimit),
            ("server_error", Some(529), Class::Overloaded),
            ("server_error", Some(500), Class::Overloaded),
            ("unknown", Some(502), Class::Overloaded),
            ("server_error", None, Class::Connection),
            ("model_not_found", Some(404), Class::Refused),
            ("invalid_request", Some(413), Class::Refused),
            ("invalid_request", None, Class::Refused),
            ("unknown", Some(400), Class::Refused),
            ("billing_error", Some(400), Class::Refused),
            ("unknown", None, Class::Connection),
            // All that the CLI's own schema names, as they come without a status.
            ("authentication_failed", None, Class::Authentication),
            ("oauth_org_not_allowed", None, Class::Authentication),
            ("account_on_hold", None, Class::Authentication),
            ("verification_required", None, Class::Authentication),
            ("cloud_credential_error", None, Class::Authentication),
            ("billing_error", None, Class::Refused),
            ("rate_limit", None, Class::RateLimit),
            ("overloaded", None, Class::Overloaded),
            ("model_not_found", None, Class::Refused),
            ("max_output_tokens", None, Class::OutputLimit),
            ("max_output_tokens", Some(200), Class::OutputLimit),
            ("a word of a later release", None, Class::Refused),
        ] {
            assert_eq!(of_error_row(error, status), class, "{error} {status:?}");
        }
    }
}
