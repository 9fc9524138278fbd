//! What edges report, as events. Nothing here decides.

use jiff::tz::TimeZone;

use crate::cycle::event::{Event, Exit, QuestionKind, SessionReport, TurnEnd, UsageLimit};
use crate::cycle::record::{Bill, CostSource, Spend};
use crate::error::Result;
use crate::models::Models;
use crate::reset_time::{self, LimitKind};
use crate::session::permission::{Answer, Permission, QUESTION_TOOLS};
use crate::session::sink::{SinkEvent, SinkReport, Status};
use crate::session::wire::{KeeperCommand, KeeperEvent};
use crate::text;
use crate::transcript::{self, Arrival, Fact, Ledger, Seen, SessionTranscript};

use super::jobs::Done;
use super::{Driver, POLL_MS};
use crate::clock::Timestamp;

/// A transcript that cannot be read for so long hides what the session spends.
const UNREADABLE_MS: u64 = 10_000;
/// Longest account of a question; reports can be forged.
const ASKED_CHARS: usize = 600;

impl Driver {
    pub(super) fn report(&mut self, report: SessionReport) {
        if let Some(session) = &self.session {
            self.queue.push_back(Event::Session { cycle: session.cycle, report });
        }
    }

    pub(super) fn on_keeper(&mut self, event: KeeperEvent) -> Result<()> {
        match event {
            KeeperEvent::Spawned { pid, start_ticks } => {
                if let Some(session) = &mut self.session {
                    session.senses.cli = Some((pid, start_ticks));
                }
                self.report(SessionReport::Spawned { pid });
            }
            KeeperEvent::SpawnFailed { message } => {
                self.report(SessionReport::SpawnFailed { message });
                self.session = None;
            }
            KeeperEvent::Submitted { id, text_written_us, .. } => {
                tracing::info!(id, text_written_us, "text written to the pty");
            }
            KeeperEvent::Withheld { id, screen } => {
                tracing::warn!(id, screen, "not typed: a question is on the screen");
                self.report(SessionReport::TypingHeld);
            }
            KeeperEvent::Screen { text, knows_layout, .. } => {
                self.on_screen(text, knows_layout)?;
            }
            KeeperEvent::Exited { code, signal } => {
                let exit = match (code, signal) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    (None, None) => Exit::Unknown,
                };
                if let Some(session) = &mut self.session {
                    session.exit = Some(exit);
                }
            }
            KeeperEvent::Swept { killed, survivors } => self.session_is_gone(killed, survivors),
            KeeperEvent::Lost { message } => {
                tracing::error!(message, "the keeper was lost");
                // What it held is adopted by us now, or carries the run's mark; our own
                // bookkeepers are left out.
                let swept = crate::session::sweep::clear_lost(&self.machine.run_id().to_string());
                self.session_is_gone(swept.killed, swept.survivors);
            }
        }
        Ok(())
    }

    /// The last words of the transcript first, then the exit.
    fn session_is_gone(&mut self, killed: u32, survivors: u32) {
        self.read_transcript_with(SessionTranscript::finish);
        self.tell_tracker(self.task_in_hand());
        let Some(session) = &self.session else { return };
        let exit = session.exit.unwrap_or(Exit::Unknown);
        let screen = self.secrets.redact(&session.screen).into_owned();
        let out_of_memory = self.out_of_memory(exit);
        if let Some(session) = &mut self.session {
            session.keeper = None;
        }
        let exit = SessionReport::Exited { exit, killed, survivors, screen, out_of_memory };
        self.look_at_settings_last(exit);
    }

    pub(super) fn on_sink(&mut self, report: SinkReport) -> Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        // A late report of an earlier session says nothing about this one.
        // And one that names none is not the CLI's.
        if report.session_id != Some(session.session_id.to_string()) {
            tracing::debug!("a report of no session, or of another");
            return Ok(());
        }
        session.senses.hear(&report.event);
        match report.event {
            SinkEvent::Statusline(status) => self.on_status(*status),
            SinkEvent::SessionStart { model, .. } => {
                session.ready = true;
                self.report(SessionReport::Ready { model });
            }
            SinkEvent::Notification { notification_type, message } => {
                // A permission is answered by the hook for it. This one is of auto
                // mode, whose safety check the API does not serve.
                if notification_type.as_deref() == Some("agent_needs_input") {
                    let what = message.map_or_else(String::new, |text| format!(" ({text})"));
                    self.ask_person(QuestionKind::Permission, format!("for a permission{what}"));
                }
            }
            SinkEvent::PreCompact { trigger } => {
                tracing::warn!(?trigger, "the CLI is about to compact the context");
                if trigger.as_deref() == Some("auto") {
                    self.read_transcript();
                    self.report(SessionReport::CompactionHeld);
                }
            }
            SinkEvent::Permission(told) => self.on_permission(told)?,
            // The transcript says the same, and says it in order.
            SinkEvent::UserPromptSubmit
            | SinkEvent::Stop
            | SinkEvent::StopFailure { .. }
            | SinkEvent::SessionEnd { .. } => self.read_transcript(),
        }
        Ok(())
    }

    /// A question to a person came to the hook.
    fn on_permission(&mut self, told: Permission) -> Result<()> {
        let is_question = QUESTION_TOOLS.contains(&told.tool.as_str());
        let kind = if is_question { QuestionKind::Question } else { QuestionKind::Permission };
        let what = format!("{}: {}", told.tool, told.what);
        let what = text::clip(&self.secrets.redact(&what), ASKED_CHARS).into_owned();
        let Some(session) = &mut self.session else { return Ok(()) };
        if told.answer != Answer::Stopped && !session.senses.may_tell_answer(Timestamp::now()) {
            tracing::warn!(what, "too many questions in a minute to tell each");
            return Ok(());
        }
        let answer = match told.answer {
            Answer::Asked => {
                session.senses.command_asked(Timestamp::now());
                return Ok(());
            }
            Answer::Stopped => {
                let asked = match kind {
                    QuestionKind::Question => format!("a question of the session's own ({what})"),
                    _ => format!("for a permission ({what})"),
                };
                return self.ask_when_seen(kind, asked);
            }
            Answer::Denied => "deny",
            Answer::Allowed => "allow",
        };
        session.senses.command_answered(Timestamp::now());
        let what = match told.failure {
            Some(why) => {
                format!("{what} (permissions.command: {})", self.secrets.redact(&why))
            }
            None => what,
        };
        let kind = if is_question { "question" } else { "permission" }.to_owned();
        self.report(SessionReport::Answered { kind, what, answer: answer.to_owned() });
        Ok(())
    }

    fn on_status(&mut self, status: Status) {
        self.read_transcript();
        self.look_at_quota(&status);
        if let Some(tokens) = status.window_tokens {
            let known = self.machine.live().and_then(|c| c.gauge.statusline_window);
            if known != Some(tokens) {
                self.report(SessionReport::Window { tokens });
            }
        }
        if let Some(cost_usd) = status.cost_usd {
            let known = self.machine.live().and_then(|c| c.bill).map(|b| b.cost_usd);
            if known != Some(cost_usd) {
                let bill = Bill { cost_usd, source: CostSource::Statusline };
                self.report(SessionReport::Billed { bill });
            }
        }
    }

    pub(super) fn on_done(&mut self, done: Done) {
        match done {
            Done::Event(event) => self.queue.push_back(*event),
            Done::Looked(looked) => self.on_looked(*looked),
            Done::Spent(found) => self.on_spent(found),
            Done::Weighed { cycle, changed, marker } => {
                if let Some(session) = self.session.as_mut().filter(|s| s.cycle == cycle)
                    && marker.is_some()
                {
                    session.turn_marker = marker;
                }
                self.queue.push_back(Event::ProgressWeighed { changed });
            }
            Done::Marked { cycle, marker } => {
                if let Some(session) = self.session.as_mut().filter(|s| s.cycle == cycle) {
                    session.turn_marker = Some(marker.clone());
                    session.cycle_marker = Some(marker);
                }
            }
        }
    }

    /// Looks at everything that may have changed on disk.
    pub(super) fn look(&mut self) -> Result<()> {
        self.read_transcript();
        self.mend_sink();
        if self.session.as_ref().is_some_and(|s| !s.ready && s.exit.is_none()) {
            let _ = self.send(&KeeperCommand::ScreenRequest { id: 0 });
        }
        if let Some(session) = &self.session {
            let folders = session.transcript.watch_dirs();
            self.hints.watch_session(folders);
        }
        let now = Timestamp::now();
        if self.session.is_some() && now.boot_ms.saturating_sub(self.last_poll_ms) >= POLL_MS / 2 {
            self.last_poll_ms = now.boot_ms;
            self.look_at_tasks();
            self.look_at_note(now);
        }
        self.sense(now)?;
        self.tell_signs(now, false);
        Ok(())
    }

    /// The session may have removed its temporary folder and our socket with it.
    pub(super) fn mend_sink(&mut self) {
        match self.sink.mend(&self.setup.scratch) {
            Ok(false) => {}
            Ok(true) => tracing::warn!("the run's temporary folder was emptied; made anew"),
            Err(err) => tracing::warn!(%err, "the CLI cannot report: its socket is gone"),
        }
    }

    /// Shows ticked boxes as they are ticked.
    fn look_at_tasks(&mut self) {
        let reading = self.read_task();
        if self.machine.is_news(&reading) {
            self.queue.push_back(Event::TaskRead { reading });
        }
    }

    /// Reads what is new in the transcript and queues what it says.
    pub(super) fn read_transcript(&mut self) {
        self.read_transcript_with(SessionTranscript::poll);
    }

    fn read_transcript_with(
        &mut self,
        read: impl FnOnce(&mut SessionTranscript) -> std::io::Result<Vec<Seen>>,
    ) {
        let Some(session) = &mut self.session else { return };
        if session.keeper.is_none() {
            return;
        }
        let cycle = session.cycle;
        let zone = self.setup.zone();
        let fresh = match read(&mut session.transcript) {
            Ok(fresh) => fresh,
            Err(err) => {
                let now = Timestamp::now();
                if session.unreadable_since.is_none() {
                    tracing::warn!(%err, "the transcript cannot be read; trying again");
                }
                let since = *session.unreadable_since.get_or_insert(now);
                if now.ms_since(since) >= UNREADABLE_MS {
                    let why = format!(
                        "the session's transcript cannot be read any more ({err}), so nobody sees \
                         what it does and spends"
                    );
                    self.report(SessionReport::RecordLost { why });
                }
                return;
            }
        };
        if session.unreadable_since.take().is_some() {
            tracing::info!("the transcript can be read again");
        }
        session.ready |= !fresh.is_empty();
        for entry in fresh {
            session.memory.learn(&entry.fact);
            if let Fact::PromptArrived { how: Arrival::Prompt | Arrival::MidTurn, .. } = entry.fact
            {
                session.prompted_unix_ms = entry.unix_ms;
            }
            if matches!(entry.fact, Fact::Context { .. }) {
                session.senses.replied(Timestamp::now());
            }
            if matches!(entry.fact, Fact::PromptArrived { .. } | Fact::TurnEnded(_)) {
                session.senses.turn_told();
            }
            let written_unix_ms = entry.unix_ms.unwrap_or_else(|| Timestamp::now().unix_ms);
            if let Some(report) = report_of(entry.fact, written_unix_ms, &zone) {
                self.queue.push_back(Event::Session { cycle, report });
            }
        }
        let ledger = session.transcript.usage();
        let now = (ledger.responses(), *ledger.total());
        if session.told != now {
            session.told = now;
            let spend = spend_of(ledger);
            self.queue.push_back(Event::Session { cycle, report: SessionReport::Spent { spend } });
        }
        let overflows = session.transcript.overflows() && session.exit.is_none();
        self.note_growth();
        if overflows {
            let why = "the session has more files of subagents than any session needs, so nobody \
                       sees all it does and spends";
            self.report(SessionReport::RecordLost { why: why.to_owned() });
        }
    }
}

/// What a fact of the main thread means for the machine. It was written at that
/// time, by a CLI in that zone.
fn report_of(fact: Fact, written_unix_ms: i64, zone: &TimeZone) -> Option<SessionReport> {
    Some(match fact {
        Fact::PromptArrived { text, how } => {
            SessionReport::PromptArrived { text, queued: how == Arrival::Queued }
        }
        Fact::Context { tokens, model } => {
            let table_window = Models::in_force().window(&model);
            SessionReport::Context { tokens, model, table_window }
        }
        Fact::ToolUse { id, summary, .. } => SessionReport::Tool { id, summary },
        Fact::ToolResult { id, .. } => SessionReport::ToolEnded { id },
        Fact::TurnEnded(end) => SessionReport::TurnEnded {
            end: match end {
                // Its subagents still work, and start the next turn when they end.
                transcript::TurnEnd::Completed { background_agents: 1.. } => return None,
                transcript::TurnEnd::Completed { background_agents: 0 } => TurnEnd::Completed,
                transcript::TurnEnd::Interrupted => TurnEnd::Interrupted,
                transcript::TurnEnd::ApiError { error, status, text, limit } => {
                    let is_refusal = error == "rate_limit" || status == Some(429);
                    let limit = match limit.map(usage_limit) {
                        limit if !is_refusal => limit,
                        Some(limit) if limit.resets_unix_ms.is_some() => Some(limit),
                        said => worded_limit(said, &text, written_unix_ms, zone),
                    };
                    TurnEnd::ApiError { error, status, text, limit }
                }
            },
        },
        Fact::CostState(state) => SessionReport::Billed {
            bill: Bill { cost_usd: state.total_cost_usd, source: CostSource::CostState },
        },
        Fact::Compacted { trigger, .. } => SessionReport::Compacted { trigger },
        Fact::AssistantText { .. } | Fact::Moved { .. } => return None,
    })
}

fn usage_limit(limit: transcript::QuotaLimit) -> UsageLimit {
    UsageLimit {
        which: limit.which,
        resets_unix_ms: limit.resets_at_s.and_then(|s| s.checked_mul(1_000)),
        // The CLI of a subscriber, who alone gets such a row.
        continues: true,
    }
}

/// A limit whose row gives no time as data, completed from the row's words.
fn worded_limit(
    said: Option<UsageLimit>,
    text: &str,
    written_unix_ms: i64,
    zone: &TimeZone,
) -> Option<UsageLimit> {
    if said.is_none() && !reset_time::tells_of_limit(text) {
        return None;
    }
    let resets_unix_ms = reset_time::reset_at(text, written_unix_ms, zone);
    let (which, continues) = match said {
        Some(limit) => (limit.which, limit.continues),
        // It goes on by itself only where the API told it when.
        None => ("usage_limit".to_owned(), false),
    };
    let which = match LimitKind::of_text(text) {
        Some(kind) if which == "usage_limit" => kind.as_str().to_owned(),
        _ => which,
    };
    Some(UsageLimit { which, resets_unix_ms, continues })
}

/// The totals of a ledger, priced.
pub(super) fn spend_of(ledger: &Ledger) -> Spend {
    let cost = ledger.cost(Models::in_force());
    Spend {
        tokens: *ledger.total(),
        cost_usd: cost.usd,
        unpriced_tokens: cost.unpriced_tokens,
        unpriced_ceiling_usd: cost.at_most_usd - cost.usd,
        responses: ledger.responses(),
        bad_rows: ledger.damage().bad_rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::QuotaLimit;

    const AT: &str = "2026-11-21T05:10:00Z";

    fn ms(stamp: &str) -> i64 {
        stamp.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    /// The limit that a row is taken to tell of.
    fn limit_of(error: &str, text: &str, limit: Option<QuotaLimit>) -> Option<UsageLimit> {
        let status = Some(429).filter(|_| error == "rate_limit");
        let (error, text) = (error.to_owned(), text.to_owned());
        let end = transcript::TurnEnd::ApiError { error, status, text, limit };
        match report_of(Fact::TurnEnded(end), ms(AT), &TimeZone::UTC) {
            Some(SessionReport::TurnEnded { end: TurnEnd::ApiError { limit, .. } }) => limit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_limit_without_data_is_read_from_the_words_of_its_row() {
        for (text, which, resets) in [
            (
                "You've hit your 5-hour limit · resets 8am (UTC)",
                "five_hour",
                Some("2026-11-21T08:00:59Z"),
            ),
            (
                "You've hit your weekly limit · resets Nov 24, 8am (UTC)",
                "seven_day",
                Some("2026-11-24T08:00:59Z"),
            ),
            ("You've hit your usage limit", "usage_limit", None),
        ] {
            let limit = limit_of("rate_limit", text, None).unwrap();
            assert_eq!((limit.which.as_str(), limit.continues), (which, false), "{text}");
            let to_minute = |ms: i64| ms / 60_000;
            let (seen, meant) =
                (limit.resets_unix_ms.map(to_minute), resets.map(ms).map(to_minute));
            assert!(seen == meant || seen == meant.map(|m| m + 1), "{text}: {seen:?} {meant:?}");
        }
    }

    #[test]
    fn data_goes_before_words_and_words_make_no_limit_of_another_failure() {
        let text = "You've hit your 5-hour limit · resets 8am (UTC)";
        let quota = |resets_at_s| Some(QuotaLimit { which: "seven_day".into(), resets_at_s });
        let at_s = ms(AT) / 1_000 + 90;
        let limit = limit_of("rate_limit", text, quota(Some(at_s))).unwrap();
        assert_eq!((limit.resets_unix_ms, limit.continues), (Some(at_s * 1_000), true));
        let limit = limit_of("rate_limit", text, quota(None)).unwrap();
        assert!(limit.resets_unix_ms.is_some() && limit.continues);
        assert_eq!(limit.which, "seven_day");
        let busy = "API Error: Request rejected (429) · this may be a temporary capacity issue";
        assert_eq!(limit_of("rate_limit", busy, None), None);
        assert_eq!(limit_of("server_error", text, None), None);
    }
}
