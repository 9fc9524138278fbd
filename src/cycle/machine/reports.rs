//! What is said about the live session.

use super::floods::memory_note;
use super::{Machine, is_context_full, is_same_text};
use crate::clock::Timestamp;
use crate::cycle::action::{Action, Notice};
use crate::cycle::event::{Exit, SessionReport, TurnEnd, UsageLimit};
use crate::cycle::failure::{Class, of_error_row};
use crate::cycle::record::CostSource;
use crate::cycle::state::{AskPhase, Budget, EndReason, Outcome, State};

impl Machine {
    pub(super) fn on_session(&mut self, now: Timestamp, cycle: u32, report: SessionReport) {
        let is_ours = self.alive && self.live.as_ref().is_some_and(|c| c.cycle == cycle);
        if !is_ours {
            self.stale_reports += 1;
            return;
        }
        match report {
            SessionReport::Spawned { pid } => self.with_live(|c| c.pid = Some(pid)),
            SessionReport::SpawnFailed { message } => {
                self.reason = Some(EndReason::DeadStart);
                self.last_activity = message;
                self.session_is_gone(now, Exit::Unknown, 0, 0);
            }
            SessionReport::Ready { model } => {
                self.with_live(|c| c.model = model.or(c.model.take()));
                self.announce();
            }
            SessionReport::Window { tokens } => self.on_window(tokens),
            SessionReport::Context { tokens, model, table_window } => {
                self.on_context(now, tokens, model, table_window);
            }
            SessionReport::Spent { spend } => {
                self.with_live(|c| c.spend = spend);
                self.check_budgets(now);
            }
            SessionReport::Billed { bill } => {
                self.with_live(|c| {
                    let is_final = c.bill.is_some_and(|b| b.source == CostSource::CostState);
                    if !is_final || bill.source == CostSource::CostState {
                        c.bill = Some(bill);
                    }
                });
                self.check_budgets(now);
            }
            SessionReport::PromptArrived { text, queued } => self.on_prompt(now, &text, queued),
            SessionReport::RecordLost { why } => self.on_record_lost(now, why),
            SessionReport::TypingHeld => {
                self.held_at.get_or_insert(now);
            }
            SessionReport::Tool { id, summary } => {
                self.last_activity.clone_from(&summary);
                self.with_assignment(|task| task.acted(&summary));
                self.tell(Notice::Activity { summary });
                self.liveness.tool_begins(id);
                self.look_at_pulse_later(now);
            }
            SessionReport::ToolEnded { id } => {
                self.liveness.tool_ends(&id);
                self.look_at_pulse_later(now);
            }
            SessionReport::Alive { sign } => self.on_sign(now, sign),
            SessionReport::Vitals { memory_mb, subagents, scratch_mb, written_mb } => {
                self.on_vitals(now, memory_mb, subagents, scratch_mb, written_mb);
            }
            SessionReport::QuotaUsed { five_hour, seven_day } => {
                self.on_quota(now, five_hour, seven_day);
            }
            SessionReport::Limited { limit } => self.on_limited(now, limit),
            SessionReport::Retrying { class, attempt, after_ms } => {
                self.on_cli_retries(now, class, attempt, after_ms);
            }
            SessionReport::Answered { kind, what, answer } => {
                self.on_answered(kind, what, answer);
            }
            SessionReport::CompactionHeld => self.on_compaction_held(),
            SessionReport::HooksSilent => self.on_hooks_silent(),
            SessionReport::SettingsChanged { why, allowed } => {
                self.on_settings_changed(now, why, allowed);
            }
            SessionReport::TurnEnded { end } => self.on_turn_ended(now, end),
            SessionReport::AsksPerson { kind, what, screen } => {
                self.on_asks_person(now, kind, &what, &screen);
            }
            SessionReport::Compacted { trigger } => {
                self.with_live(|c| c.compactions += 1);
                let text = format!("the CLI compacted the context ({trigger}) before a checkpoint");
                self.tell(Notice::Warning { text });
            }
            SessionReport::Exited { exit, killed, survivors, screen, out_of_memory } => {
                self.last_screen = screen;
                self.on_exited(now, exit, killed, survivors, out_of_memory);
            }
        }
    }

    /// The person counts on the command, and it is never asked.
    fn on_hooks_silent(&mut self) {
        if std::mem::replace(&mut self.hooks_told, true) {
            return;
        }
        let text = "the CLI calls no hooks (is disableAllHooks set in its settings?): \
                    permissions.command is not asked, and what the session asks is declined with \
                    Esc";
        self.warn(text.into());
    }

    /// Compaction would throw away what no checkpoint holds yet. It was held, so
    /// there is still room for one.
    fn on_compaction_held(&mut self) {
        if matches!(self.state, State::Working) && self.has_replied() {
            let text = "the CLI was about to compact the context; it was held, and the session is \
                        asked for a checkpoint at once";
            self.warn(text.into());
            self.begin_ask(EndReason::Compaction);
        }
    }

    pub(super) fn on_window(&mut self, tokens: u64) {
        let known = self.live.as_ref().and_then(|c| c.gauge.statusline_window);
        if tokens == 0 || known == Some(tokens) {
            return;
        }
        self.with_live(|c| c.gauge.statusline_window = Some(tokens));
        self.on_pressure();
    }

    pub(super) fn on_context(
        &mut self,
        now: Timestamp,
        tokens: u64,
        model: String,
        table_window: Option<u64>,
    ) {
        self.api_answers(now);
        let is_first = self.live.as_ref().is_some_and(|c| c.gauge.tokens.is_none());
        self.with_live(|c| {
            c.gauge.read(tokens, table_window);
            c.model = Some(model);
        });
        self.announce();
        self.note_load(tokens);
        match &self.state {
            State::Starting => self.enter(State::Working),
            State::Cooling { .. } => {
                // The CLI went on by itself.
                self.enter(State::Working);
                self.watch_turn(now);
            }
            State::Working
            | State::Judging { .. }
            | State::Turnover
            | State::Held
            | State::Checkpointing { .. }
            | State::Ending { .. }
            | State::Between { .. }
            | State::Finished { .. } => {}
        }
        if is_first {
            let full = self.pressure().is_some_and(|p| p.is_over(&self.params));
            self.born_full_in_a_row = if full { self.born_full_in_a_row + 1 } else { 0 };
        }
        self.on_pressure();
    }

    pub(super) fn pressure(&self) -> Option<crate::cycle::pressure::Pressure> {
        self.live.as_ref().and_then(|c| c.gauge.pressure(&self.params))
    }

    /// The context or its window changed.
    pub(super) fn on_pressure(&mut self) {
        let Some(pressure) = self.pressure() else {
            return;
        };
        let params = self.params.clone();
        self.with_live(|c| c.window = Some(c.gauge.window(&params)));
        self.tell(Notice::Context(pressure));
        // A judge in hand looks at the pressure itself when it is answered.
        if matches!(self.state, State::Working) && pressure.is_over(&self.params) {
            self.tell(Notice::ThresholdReached(pressure));
            self.begin_ask(EndReason::Threshold);
        }
    }

    pub(super) fn check_budgets(&mut self, now: Timestamp) {
        let (tokens, cost_usd) = (self.tokens_total(), self.cost_total_usd());
        if self.told_spend != (tokens, cost_usd) {
            self.told_spend = (tokens, cost_usd);
            self.tell(Notice::Spent { tokens, cost_usd });
        }
        self.tell_budgets(now);
        let rate = self.rates.take(self.elapsed_ms(now), tokens, self.cost_ceiling_usd());
        if self.verdict.is_some() {
            return;
        }
        if rate.tokens_per_minute > self.params.tokens_per_minute {
            let seen = format!("{} tokens were used within a minute", rate.tokens_per_minute);
            return self.breach(now, Budget::TokenRate, &seen);
        }
        if rate.cost_usd_per_hour > self.params.cost_usd_per_hour {
            let seen = format!("{:.2} dollars were spent within an hour", rate.cost_usd_per_hour);
            return self.breach(now, Budget::CostRate, &seen);
        }
        if let Some(which) = self.spent_budget() {
            let text = format!("the budget {} is spent", which.key());
            self.tell(Notice::Warning { text });
            self.wind_down(now, Outcome::Budget { which }, EndReason::Budget);
        }
    }

    pub(super) fn spent_budget(&self) -> Option<Budget> {
        let used = self.measured();
        let own = self.assignment().and_then(|task| task.given.budget_usd);
        if own.is_some_and(|budget_usd| used.cost_ceiling_usd >= budget_usd) {
            Some(Budget::Task)
        } else if used.cost_ceiling_usd >= self.params.max_cost_usd {
            Some(Budget::Cost)
        } else if used.tokens.total() >= self.params.max_tokens {
            Some(Budget::Tokens)
        } else if used.elapsed_ms >= self.params.max_ms {
            Some(Budget::Hours)
        } else {
            None
        }
    }

    pub(super) fn on_prompt(&mut self, now: Timestamp, text: &str, queued: bool) {
        if matches!(self.state, State::Cooling { class: Class::UsageLimit, .. }) {
            // Not one of ours: the CLI goes on by itself, and is left to it.
            self.enter(State::Working);
            self.watch_turn(now);
            return;
        }
        if self.typed.as_ref().is_some_and(|t| is_same_text(&t.text, text)) {
            self.typed = None;
        }
        let State::Checkpointing { ask } = &mut self.state else {
            return;
        };
        if !is_same_text(&ask.text, text) {
            return;
        }
        let before = ask.phase;
        match (before, queued) {
            (AskPhase::Typed, true) => ask.phase = AskPhase::Queued,
            (AskPhase::Typed | AskPhase::Queued, false) => ask.phase = AskPhase::Heard,
            (AskPhase::Queued, true)
            | (
                AskPhase::Heard | AskPhase::Interrupting | AskPhase::Proving | AskPhase::Keeping,
                _,
            ) => {}
        }
        let is_first_hearing = !queued && !ask.heard;
        ask.heard |= !queued;
        let attempt = ask.attempt;
        if is_first_hearing {
            self.out.push(Action::SettleBaseline);
        }
        if before == AskPhase::Typed {
            self.tell(Notice::CheckpointDelivered { attempt });
        }
    }

    /// The usage limit that an error row speaks of. Only the screen or the
    /// statusline may have told of it.
    fn limit_met(&self, now: Timestamp, class: Class, row: &TurnEnd) -> Option<UsageLimit> {
        let TurnEnd::ApiError { limit, .. } = row else { return None };
        let known = self.limit.as_ref().filter(|_| self.limit_until_ms(now).is_some());
        let is_ahead = |limit: &&UsageLimit| limit.resets_unix_ms.is_none_or(|at| at > now.unix_ms);
        let known = known.or(self.used_up.as_ref().filter(is_ahead));
        let known = known.filter(|_| limit.is_some() || class == Class::RateLimit);
        let timed = limit.as_ref().filter(|limit| limit.resets_unix_ms.is_some());
        timed.or(known).or(limit.as_ref()).cloned()
    }

    /// Which failure ended the turn, if one did; the limit in its row is put right.
    fn failure_of(&self, now: Timestamp, end: &mut TurnEnd) -> Option<Class> {
        let TurnEnd::ApiError { error, status, .. } = &*end else { return None };
        let class =
            if is_context_full(end) { Class::ContextFull } else { of_error_row(error, *status) };
        let met = self.limit_met(now, class, end);
        let class = if met.is_some() { Class::UsageLimit } else { class };
        if let TurnEnd::ApiError { limit, .. } = end {
            *limit = met;
        }
        Some(class)
    }

    pub(super) fn on_turn_ended(&mut self, now: Timestamp, mut end: TurnEnd) {
        let failure = self.failure_of(now, &mut end);
        if let (Some(Class::Authentication), TurnEnd::ApiError { text, .. }) = (failure, &end) {
            return self.on_login_refused(text);
        }
        match &self.state {
            State::Starting | State::Working => match failure {
                None => {
                    // A prompt of ours that is still on its way starts the next turn.
                    if self.typed.is_none() {
                        self.begin_judging();
                    }
                }
                Some(class) => self.on_turn_failed(now, class, end),
            },
            State::Cooling { .. } => {
                // The CLI went on by itself, and failed again.
                if let (Some(Class::UsageLimit), TurnEnd::ApiError { limit: Some(limit), .. }) =
                    (failure, end)
                {
                    self.note_limit(now, limit);
                    self.wait_for_limit(now);
                }
            }
            State::Checkpointing { ask } => {
                let phase = ask.phase;
                self.on_asked_turn_ended(now, phase, failure, end);
            }
            State::Judging { .. }
            | State::Turnover
            | State::Held
            | State::Ending { .. }
            | State::Between { .. }
            | State::Finished { .. } => {}
        }
    }

    /// A turn ended after a checkpoint was asked for: the one that answers the
    /// request, or the one before it.
    fn on_asked_turn_ended(
        &mut self,
        now: Timestamp,
        phase: AskPhase,
        failure: Option<Class>,
        end: TurnEnd,
    ) {
        match phase {
            AskPhase::Proving | AskPhase::Keeping => {}
            AskPhase::Typed | AskPhase::Queued | AskPhase::Heard | AskPhase::Interrupting
                if failure == Some(Class::ContextFull) =>
            {
                self.fail(Class::ContextFull);
                if self.verdict.is_none() {
                    self.reason = Some(EndReason::ContextFull);
                }
                self.give_up_asking("the context is full: no request is answered any more");
            }
            AskPhase::Typed | AskPhase::Queued | AskPhase::Heard | AskPhase::Interrupting
                if failure == Some(Class::UsageLimit) =>
            {
                if let TurnEnd::ApiError { limit: Some(limit), .. } = end {
                    self.note_limit(now, limit);
                }
                self.give_up_asking("a usage limit is reached: no request is answered now");
            }
            // The old turn ended; the request starts the next one.
            AskPhase::Typed | AskPhase::Queued => {}
            AskPhase::Heard | AskPhase::Interrupting if failure.is_some_and(Class::is_outage) => {
                self.on_api_fails_checkpoint(now, failure.unwrap_or(Class::Connection));
            }
            AskPhase::Heard => self.prove(),
            // It ended by itself just as Esc was pressed.
            AskPhase::Interrupting if end == TurnEnd::Completed => self.prove(),
            AskPhase::Interrupting => self.ask_again_or_give_up(
                "the first request was not answered in time; you were interrupted",
            ),
        }
    }

    /// The CLI itself has tried for minutes. One more request, and then the next
    /// session waits before it tries.
    fn on_api_fails_checkpoint(&mut self, now: Timestamp, class: Class) {
        self.fail(class);
        self.begin_outage(now);
        self.failed = Some(class);
        self.ask_again_or_give_up("the API failed while the request was answered");
    }

    fn on_login_refused(&mut self, why: &str) {
        if matches!(self.state, State::Ending { .. }) {
            return;
        }
        self.fail(Class::Authentication);
        self.verdict.get_or_insert_with(|| Outcome::Authentication { why: why.to_owned() });
        self.end_unless_keeping(EndReason::Authentication);
    }

    /// The turn ended with an error row, and the session is idle.
    fn on_turn_failed(&mut self, now: Timestamp, class: Class, end: TurnEnd) {
        let TurnEnd::ApiError { error, text, limit, .. } = end else { return };
        self.typed = None;
        match class {
            Class::ContextFull => {
                self.fail(class);
                self.end_session(EndReason::ContextFull);
            }
            Class::UsageLimit => {
                if let Some(limit) = limit {
                    self.note_limit(now, limit);
                }
                self.wait_for_limit(now);
            }
            Class::Refused if matches!(error.as_str(), "model_not_found" | "billing_error") => {
                self.fail(class);
                let why = format!("the API refuses: {text}");
                self.verdict.get_or_insert(Outcome::NeedsPerson { why });
                self.end_session(EndReason::NeedsPerson);
            }
            class => self.on_api_error(now, class),
        }
    }

    pub(super) fn on_exited(
        &mut self,
        now: Timestamp,
        exit: Exit,
        killed: u32,
        survivors: u32,
        out_of_memory: Option<String>,
    ) {
        if let Some(text) = &out_of_memory {
            self.warn(text.clone());
        }
        if !matches!(self.state, State::Ending { .. }) {
            self.cancel_judge();
            let kept = matches!(&self.state, State::Checkpointing { ask } if ask.phase == AskPhase::Keeping);
            self.reason = Some(if kept {
                // It was about to be ended.
                self.reason.unwrap_or(EndReason::Threshold)
            } else if self.has_replied() {
                let class = match out_of_memory {
                    Some(_) => Class::OutOfMemory,
                    None => Class::Crash,
                };
                if class == Class::OutOfMemory {
                    self.note = Some(memory_note());
                }
                self.fail(class);
                self.failed = Some(class);
                EndReason::Exited
            } else {
                EndReason::DeadStart
            });
        }
        // Also when it was ended for not answering: a dialog may stand there.
        if self.reason == Some(EndReason::DeadStart) {
            self.last_activity.clone_from(&self.last_screen);
        }
        self.session_is_gone(now, exit, killed, survivors);
    }
}
