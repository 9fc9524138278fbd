//! Where a run can stand, with the data each state owns.

use serde::{Deserialize, Serialize};

use super::failure::Class;
use super::judge::Judge;
use crate::clock;

/// Where the run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// A session was launched; the model has not answered yet.
    Starting,
    /// A turn runs.
    Working,
    /// The turn ended; is the task done, and if not, what next?
    Judging {
        /// The question in hand.
        judge: Judge,
    },
    /// The task of the queue in hand is done; the session is idle until the next one
    /// is known.
    Turnover,
    /// Paused by a person, the session idle.
    Held,
    /// The API failed; the session is idle until a timer has passed.
    Cooling {
        /// Failures in a row.
        attempt: u32,
        /// What failed.
        class: Class,
        /// The end of the wait by the wall clock, Unix milliseconds, where a server
        /// or a person stated it.
        until_unix_ms: Option<i64>,
    },
    /// A checkpoint was asked for.
    Checkpointing {
        /// Of which ask, and how far it is.
        ask: Ask,
    },
    /// The session was told to end.
    Ending {
        /// SIGKILL was sent.
        surely: bool,
    },
    /// No session is alive; what next?
    Between {
        /// What is being found out.
        step: Between,
    },
    /// The run is over.
    Finished {
        /// How.
        outcome: Outcome,
    },
}

impl State {
    /// The question in hand, if the state has one.
    pub fn judge(&self) -> Option<&Judge> {
        match self {
            State::Judging { judge } | State::Between { step: Between::Judging { judge } } => {
                Some(judge)
            }
            State::Between {
                step:
                    Between::Keeping
                    | Between::Briefing
                    | Between::Backoff { .. }
                    | Between::Preparing
                    | Between::Turnover
                    | Between::Held,
            }
            | State::Starting
            | State::Working
            | State::Turnover
            | State::Held
            | State::Cooling { .. }
            | State::Checkpointing { .. }
            | State::Ending { .. }
            | State::Finished { .. } => None,
        }
    }

    /// The same, to be answered.
    pub fn judge_mut(&mut self) -> Option<&mut Judge> {
        match self {
            State::Judging { judge } | State::Between { step: Between::Judging { judge } } => {
                Some(judge)
            }
            State::Between {
                step:
                    Between::Keeping
                    | Between::Briefing
                    | Between::Backoff { .. }
                    | Between::Preparing
                    | Between::Turnover
                    | Between::Held,
            }
            | State::Starting
            | State::Working
            | State::Turnover
            | State::Held
            | State::Cooling { .. }
            | State::Checkpointing { .. }
            | State::Ending { .. }
            | State::Finished { .. } => None,
        }
    }

    /// The state's name, for displays and the state table.
    pub fn name(&self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Working => "working",
            State::Judging { .. } => "judging",
            State::Turnover => "turnover",
            State::Held => "held",
            State::Cooling { .. } => "cooling",
            State::Checkpointing { .. } => "checkpointing",
            State::Ending { .. } => "ending",
            State::Between { .. } => "between",
            State::Finished { .. } => "finished",
        }
    }
}

/// One request for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// 1 or 2.
    pub attempt: u32,
    /// What was typed.
    pub text: String,
    /// How far it is.
    pub phase: AskPhase,
    /// Enter presses and retypes so far.
    pub retries: u32,
    /// This request or the one before it reached the model.
    pub heard: bool,
}

/// How far a request for a checkpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskPhase {
    /// Typed; the transcript does not show it yet.
    Typed,
    /// In the CLI's queue: the turn in progress has not seen it yet.
    Queued,
    /// In the conversation: the model works on it.
    Heard,
    /// Esc was pressed because the deadline passed; the turn should end.
    Interrupting,
    /// The turn ended; the files are being compared.
    Proving,
    /// Proven; the copy is being made.
    Keeping,
}

/// What is being found out while no session is alive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Between {
    /// The session is gone, and its proven checkpoint is still being copied.
    Keeping,
    /// longhaul's own brief is being written.
    Briefing,
    /// Is the task done?
    Judging {
        /// The question in hand.
        judge: Judge,
    },
    /// Waiting before the next launch.
    Backoff {
        /// The end of the wait by the wall clock, Unix milliseconds, when it is for a
        /// usage limit.
        until_unix_ms: Option<i64>,
    },
    /// Looking at all that must hold before a launch.
    Preparing,
    /// Asking for the next task of the queue.
    Turnover,
    /// Paused by a person.
    Held,
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Its context reached the threshold.
    Threshold,
    /// The task file says done (and the verify command agrees).
    Done,
    /// The task file says blocked.
    Blocked,
    /// It went on without progress.
    NoProgress,
    /// A budget is spent.
    Budget,
    /// A signal or `longhaul stop`.
    Stopped,
    /// `longhaul cycle`.
    Operator,
    /// It waits for a person.
    NeedsPerson,
    /// The API refused the login.
    Authentication,
    /// The API failed again and again.
    ApiFailure,
    /// The context is full ("prompt is too long").
    ContextFull,
    /// The CLI was about to compact the context.
    Compaction,
    /// In its turn nothing moved.
    Hang,
    /// It used more memory than it may.
    Memory,
    /// The wait for a limit would be too long.
    Limit,
    /// Too little room on a disk.
    Disk,
    /// No reply ever came.
    DeadStart,
    /// It exited by itself.
    Exited,
    /// longhaul itself was killed.
    SupervisorLost,
}

impl EndReason {
    /// The word in events and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            EndReason::Threshold => "threshold",
            EndReason::Done => "done",
            EndReason::Blocked => "blocked",
            EndReason::NoProgress => "no_progress",
            EndReason::Budget => "budget",
            EndReason::Stopped => "stopped",
            EndReason::Operator => "operator",
            EndReason::NeedsPerson => "needs_person",
            EndReason::Authentication => "authentication",
            EndReason::ApiFailure => "api_failure",
            EndReason::ContextFull => "context_full",
            EndReason::Compaction => "compaction",
            EndReason::Hang => "hang",
            EndReason::Memory => "memory",
            EndReason::Limit => "limit",
            EndReason::Disk => "disk",
            EndReason::DeadStart => "dead_start",
            EndReason::Exited => "exited",
            EndReason::SupervisorLost => "supervisor_lost",
        }
    }
}

/// Which budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// `limits.max_sessions`
    Sessions,
    /// `limits.max_hours`
    Hours,
    /// `limits.max_tokens`
    Tokens,
    /// `limits.max_cost_usd`
    Cost,
    /// `limits.tokens_per_minute`
    TokenRate,
    /// `limits.cost_usd_per_hour`
    CostRate,
    /// `limits.max_subagents`
    Subagents,
    /// `limits.scratch_mb`
    Scratch,
    /// `limits.written_mb`
    Written,
    /// `limits.quota_reserve_percent`
    Quota,
    /// The budget of the queue's task.
    Task,
}

impl Budget {
    /// The key that sets it.
    pub fn key(self) -> &'static str {
        match self {
            Budget::Sessions => "limits.max_sessions",
            Budget::Hours => "limits.max_hours",
            Budget::Tokens => "limits.max_tokens",
            Budget::Cost => "limits.max_cost_usd",
            Budget::TokenRate => "limits.tokens_per_minute",
            Budget::CostRate => "limits.cost_usd_per_hour",
            Budget::Subagents => "limits.max_subagents",
            Budget::Scratch => "limits.scratch_mb",
            Budget::Written => "limits.written_mb",
            Budget::Quota => "limits.quota_reserve_percent",
            Budget::Task => "of the task",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The task is done.
    Done,
    /// A person has to do something.
    NeedsPerson {
        /// What.
        why: String,
    },
    /// A budget is spent.
    Budget {
        /// Which.
        which: Budget,
    },
    /// Too many sessions in a row without progress.
    NoProgress,
    /// The API refused the login.
    Authentication {
        /// Its words.
        why: String,
    },
    /// The wait for a usage limit, or for the API, is past its deadline.
    LimitPast {
        /// What was waited for.
        why: String,
        /// When it would have been over, Unix milliseconds, if that is known.
        resets_unix_ms: Option<i64>,
    },
    /// Too little room on a disk.
    Disk {
        /// Where, and how much.
        why: String,
    },
    /// A signal or `longhaul stop`.
    Stopped {
        /// The signal (`longhaul stop` counts as TERM).
        signal: i32,
    },
}

impl Outcome {
    /// The word in events and reports.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::NeedsPerson { .. } => "needs_person",
            Outcome::Budget { .. } => "budget",
            Outcome::NoProgress => "no_progress",
            Outcome::Authentication { .. } => "authentication",
            Outcome::LimitPast { .. } => "limit",
            Outcome::Disk { .. } => "disk",
            Outcome::Stopped { .. } => "stopped",
        }
    }

    /// The documented exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Outcome::Done => 0,
            Outcome::NeedsPerson { .. } => 10,
            Outcome::Budget { .. } => 20,
            Outcome::NoProgress => 21,
            Outcome::Authentication { .. } => 30,
            Outcome::LimitPast { .. } => 31,
            Outcome::Disk { .. } => 51,
            Outcome::Stopped { signal } => {
                128_u8.saturating_add(u8::try_from(*signal).unwrap_or(0))
            }
        }
    }

    /// One sentence for a person.
    pub fn sentence(&self) -> String {
        match self {
            Outcome::Done => "the task file says done".into(),
            Outcome::NeedsPerson { why } => format!("a person is needed: {why}"),
            Outcome::Budget { which } => match which {
                Budget::Sessions | Budget::Hours | Budget::Tokens | Budget::Cost | Budget::Task => {
                    format!("the budget {} is spent", which.key())
                }
                Budget::TokenRate
                | Budget::CostRate
                | Budget::Subagents
                | Budget::Scratch
                | Budget::Written => {
                    format!("the session was ended because it went over {}", which.key())
                }
                Budget::Quota => format!(
                    "only the part of the subscription's quota is left that {} keeps for you",
                    which.key()
                ),
            },
            Outcome::NoProgress => {
                "too many sessions in a row made no progress (limits.no_progress_cycles)".into()
            }
            Outcome::Authentication { why } => format!("the API refused the login: {why}"),
            Outcome::LimitPast { why, resets_unix_ms } => {
                let until = resets_unix_ms.map(|ms| format!(" until {}", clock::rfc3339(ms)));
                let until = until.unwrap_or_default();
                format!("the wait would be longer than limits.max_wait_hours: {why}{until}")
            }
            Outcome::Disk { why } => format!("too little room on a disk: {why}"),
            Outcome::Stopped { signal } => format!("stopped (signal {signal})"),
        }
    }
}
