//! From the rows of the main file to facts about the main thread. Pure.

use serde::Serialize;

use super::parse;
use super::part::SYNTHETIC_MODEL;
use super::record::{ApiError, Assistant, Body, CostState, QuotaLimit, Row, User};
use super::tail::Event;
use super::usage::Ledger;

/// A fact with the time of its row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seen {
    /// When the CLI wrote the row, Unix milliseconds, if it says so. The row of a
    /// prompt taken out of the queue bears the time of its typing: there it is
    /// the newest time before it in the file.
    pub unix_ms: Option<i64>,
    /// What it says.
    pub fact: Fact,
}

/// Something the transcript says about the main thread.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Fact {
    /// Text that was typed reached the session.
    PromptArrived {
        /// As typed: a slash command as `/name args`, pasted text unwrapped.
        text: String,
        /// On which way.
        how: Arrival,
    },
    /// How full the context is, as of the newest reply.
    Context {
        /// Input, cache writes and cache reads.
        tokens: u64,
        /// The model as requested, with `[1m]` where that was asked for.
        model: String,
    },
    /// What the model said, cut at 32 KiB.
    AssistantText {
        /// Its words.
        text: String,
    },
    /// A tool call.
    ToolUse {
        /// Repeated by its result.
        id: String,
        /// The tool.
        name: String,
        /// One line, at most 120 characters, no control characters.
        summary: String,
        /// The file it names.
        file: Option<String>,
        /// It exists to change that file.
        changes_files: bool,
    },
    /// A tool call came back.
    ToolResult {
        /// The call's id.
        id: String,
        /// It failed or was refused or interrupted.
        is_error: bool,
    },
    /// The turn is over.
    TurnEnded(TurnEnd),
    /// The CLI's own bill for the session so far; the last one stands.
    CostState(CostState),
    /// The conversation was compacted; until the next reply its context size
    /// is not known better than this.
    Compacted {
        /// `auto` or `manual`.
        trigger: String,
        /// Tokens before.
        pre_tokens: Option<u64>,
        /// Tokens after.
        post_tokens: Option<u64>,
    },
    /// The conversation goes on in another session.
    Moved {
        /// Its id.
        session_id: String,
    },
}

/// How a prompt arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Arrival {
    /// Typed while a turn runs: it waits in the queue.
    Queued,
    /// As a prompt of its own.
    Prompt,
    /// Out of the queue, to the model, in mid-turn.
    MidTurn,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum TurnEnd {
    /// By itself.
    Completed {
        /// Subagents still at work; when one ends, it starts a new turn.
        background_agents: u64,
    },
    /// With Esc.
    Interrupted,
    /// A request failed for good.
    ApiError {
        /// `rate_limit`, `server_error`, `authentication_failed`, …
        error: String,
        /// HTTP status.
        status: Option<u16>,
        /// What the person sees.
        text: String,
        /// The usage limit that was reached, if that is what failed it.
        limit: Option<QuotaLimit>,
    },
}

/// Where the main thread stands, as far as it takes to read on.
#[derive(Debug, Default)]
pub(super) struct MainThread {
    /// Ids of the response the last row was of.
    newest_response: Option<(Option<String>, Option<String>)>,
    newest_context: Option<(u64, String)>,
    newest_ms: Option<i64>,
    /// The file is read anew: facts up to then were told before.
    told_until_ms: Option<i64>,
}

impl MainThread {
    /// Counts and interprets what the tail of the main file brings.
    pub(super) fn take(&mut self, event: Event<'_>, ledger: &mut Ledger, seen: &mut Vec<Seen>) {
        match event {
            Event::Line(line) => {
                let mut damage = ledger.damage;
                parse::rows(line, &mut damage, |row| self.row(row, ledger, seen));
                ledger.damage = damage;
            }
            Event::Skipped => ledger.damage.skipped_lines += 1,
            Event::Restarted => self.told_until_ms = self.newest_ms,
        }
    }

    fn row(&mut self, row: Row, ledger: &mut Ledger, seen: &mut Vec<Seen>) {
        let is_new = match &row.body {
            Body::Assistant(assistant) => ledger.count(&row, assistant),
            _ => false,
        };
        if row.sidechain {
            return;
        }
        let unix_ms = row.unix_ms;
        let told = unix_ms.is_some() && unix_ms <= self.told_until_ms;
        self.newest_ms = self.newest_ms.max(unix_ms);
        let unix_ms = match row.body {
            Body::QueuedCommand(_) => self.newest_ms,
            _ => unix_ms,
        };
        let mut tell = |fact: Fact| {
            if !told {
                seen.push(Seen { unix_ms, fact });
            }
        };
        match row.body {
            Body::Assistant(assistant) => self.assistant(*assistant, is_new, &mut tell),
            Body::User(user) => tell_user(user, &mut tell),
            Body::Enqueued(text) => tell(Fact::PromptArrived { text, how: Arrival::Queued }),
            Body::QueuedCommand(text) => tell(Fact::PromptArrived { text, how: Arrival::MidTurn }),
            Body::TurnDuration { background_agents } => {
                tell(Fact::TurnEnded(TurnEnd::Completed { background_agents }));
            }
            Body::CompactBoundary { trigger, pre_tokens, post_tokens } => {
                self.newest_response = None;
                self.newest_context = None;
                tell(Fact::Compacted { trigger, pre_tokens, post_tokens });
            }
            Body::CostState(bill) => tell(Fact::CostState(bill)),
            Body::ContinuedIn(session_id) => tell(Fact::Moved { session_id }),
            Body::Quiet | Body::Unknown => {}
        }
    }

    fn assistant(&mut self, row: Assistant, is_new: bool, tell: &mut impl FnMut(Fact)) {
        if let Some(failed) = row.api_error {
            let ApiError { error, status, limit } = failed;
            tell(Fact::TurnEnded(TurnEnd::ApiError { error, status, text: row.text, limit }));
            return;
        }
        if row.model == SYNTHETIC_MODEL {
            return;
        }
        let tokens = row.usage.as_ref().map_or(0, |usage| usage.prompt_tokens());
        let ids = Some((row.message_id, row.request_id.or(row.request_ref)));
        // After a compaction rows of old responses can come again, with the
        // context of their time.
        if tokens > 0 && (is_new || ids == self.newest_response || ids == Some((None, None))) {
            let model = row.requested_model.unwrap_or(row.model);
            let context = Some((tokens, model.clone()));
            if is_new || context != self.newest_context {
                tell(Fact::Context { tokens, model });
            }
            self.newest_context = context;
            self.newest_response = ids;
        }
        if !row.text.is_empty() {
            tell(Fact::AssistantText { text: row.text });
        }
        for call in row.tools {
            tell(Fact::ToolUse {
                id: call.id,
                name: call.name,
                summary: call.summary,
                file: call.file,
                changes_files: call.changes_files,
            });
        }
    }
}

fn tell_user(user: User, tell: &mut impl FnMut(Fact)) {
    for (id, is_error) in user.results {
        tell(Fact::ToolResult { id, is_error });
    }
    if user.interrupted {
        tell(Fact::TurnEnded(TurnEnd::Interrupted));
    }
    if let Some(text) = user.prompt {
        tell(Fact::PromptArrived { text, how: Arrival::Prompt });
    }
}
