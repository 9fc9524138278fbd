//! What is said about the live session.

use super::{COOL_MS, MAX_API_FAILURES, Machine, doubling, is_context_full, is_same_text};
use crate::clock::Timestamp;
use crate::cycle::action::{Action, Notice, Timer};
use crate::cycle::event::{Exit, SessionReport, TurnEnd};
use crate::cycle::record::{CostSource, CycleRecord};
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
                self.on_context(tokens, model, table_window);
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
            SessionReport::PromptArrived { text, queued } => self.on_prompt(&text, queued),
            SessionReport::Tool { summary } => {
                self.last_activity.clone_from(&summary);
                self.tell(Notice::Activity { summary });
            }
            SessionReport::TurnEnded { end } => self.on_turn_ended(end),
            SessionReport::AsksPerson { what } => self.on_asks_person(&what),
            SessionReport::Compacted { trigger } => {
                self.with_live(|c| c.compactions += 1);
                let text = format!("the CLI compacted the context ({trigger}) before a checkpoint");
                self.tell(Notice::Warning { text });
            }
            SessionReport::Exited { exit, killed, survivors, screen } => {
                self.on_exited(now, exit, killed, survivors, &screen);
            }
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

    pub(super) fn on_context(&mut self, tokens: u64, model: String, table_window: Option<u64>) {
        self.api_failures_in_a_row = 0;
        self.dead_starts_in_a_row = 0;
        let is_first = self.live.as_ref().is_some_and(|c| c.gauge.tokens.is_none());
        self.with_live(|c| {
            c.gauge.read(tokens, table_window);
            c.model = Some(model);
        });
        self.announce();
        if matches!(self.state, State::Starting) {
            self.enter(State::Working);
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
        if self.verdict.is_some() {
            return;
        }
        if let Some(which) = self.spent_budget() {
            let text = format!("the budget {} is spent", which.key());
            self.tell(Notice::Warning { text });
            self.wind_down(now, Outcome::Budget { which }, EndReason::Budget);
        }
    }

    pub(super) fn spent_budget(&self) -> Option<Budget> {
        let ceiling: f64 = self.cycles().map(CycleRecord::cost_ceiling_usd).sum();
        if ceiling >= self.params.max_cost_usd {
            Some(Budget::Cost)
        } else if self.tokens_total() >= self.params.max_tokens {
            Some(Budget::Tokens)
        } else if self.elapsed_ms(self.last_now) >= self.params.max_ms {
            Some(Budget::Hours)
        } else {
            None
        }
    }

    pub(super) fn on_prompt(&mut self, text: &str, queued: bool) {
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

    pub(super) fn on_turn_ended(&mut self, end: TurnEnd) {
        if let TurnEnd::ApiError { error, status, text } = &end
            && (error == "authentication_failed" || matches!(status, Some(401 | 403)))
            && !matches!(self.state, State::Ending { .. })
        {
            self.verdict.get_or_insert(Outcome::Authentication { why: text.clone() });
            self.end_unless_keeping(EndReason::Authentication);
            return;
        }
        match &mut self.state {
            State::Starting | State::Working => match end {
                TurnEnd::Completed | TurnEnd::Interrupted => {
                    // A prompt of ours that is still on its way starts the next turn.
                    if self.typed.is_none() {
                        self.begin_judging();
                    }
                }
                end if is_context_full(&end) => self.end_session(EndReason::ContextFull),
                TurnEnd::ApiError { error, .. } => self.on_api_error(&error),
            },
            State::Checkpointing { ask } => match ask.phase {
                AskPhase::Typed | AskPhase::Queued | AskPhase::Heard | AskPhase::Interrupting
                    if is_context_full(&end) =>
                {
                    self.give_up_asking("the context is full: no request is answered any more");
                }
                AskPhase::Heard => self.prove(),
                // It ended by itself just as Esc was pressed.
                AskPhase::Interrupting if end == TurnEnd::Completed => self.prove(),
                AskPhase::Interrupting => self.ask_again_or_give_up(
                    "the first request was not answered in time; you were interrupted",
                ),
                // The old turn ended; the request starts the next one.
                AskPhase::Typed | AskPhase::Queued | AskPhase::Proving | AskPhase::Keeping => {}
            },
            State::Judging { .. }
            | State::Held
            | State::Cooling { .. }
            | State::Ending { .. }
            | State::Between { .. }
            | State::Finished { .. } => {}
        }
    }

    pub(super) fn on_api_error(&mut self, error: &str) {
        self.api_failures_in_a_row += 1;
        if self.api_failures_in_a_row > MAX_API_FAILURES {
            self.end_session(EndReason::ApiFailure);
            return;
        }
        let attempt = self.api_failures_in_a_row;
        let ms = doubling(COOL_MS, attempt - 1);
        self.tell(Notice::Waiting { reason: format!("API error ({error})"), ms });
        self.enter(State::Cooling { attempt });
        self.timer(Timer::Cool, ms);
    }

    pub(super) fn on_asks_person(&mut self, what: &str) {
        if matches!(self.state, State::Ending { .. }) {
            return;
        }
        self.verdict
            .get_or_insert_with(|| Outcome::NeedsPerson { why: format!("the CLI asks: {what}") });
        self.end_unless_keeping(EndReason::NeedsPerson);
    }

    pub(super) fn on_exited(
        &mut self,
        now: Timestamp,
        exit: Exit,
        killed: u32,
        survivors: u32,
        screen: &str,
    ) {
        if !matches!(self.state, State::Ending { .. }) {
            self.cancel_judge();
            let kept = matches!(&self.state, State::Checkpointing { ask } if ask.phase == AskPhase::Keeping);
            self.reason = Some(if kept {
                // It was about to be ended.
                self.reason.unwrap_or(EndReason::Threshold)
            } else if self.has_replied() {
                EndReason::Exited
            } else {
                EndReason::DeadStart
            });
        }
        // Also when it was ended for not answering: a dialog may stand there.
        if self.reason == Some(EndReason::DeadStart) {
            self.last_activity = screen.to_owned();
        }
        self.session_is_gone(now, exit, killed, survivors);
    }
}
