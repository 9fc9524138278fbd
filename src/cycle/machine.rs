//! The state x event table.
//!
//! `step` is total: every event is answered in every state, and the answer to
//! what does not matter there is to do nothing (and to count it, where it
//! speaks of a session that is gone). `dev-docs/STATES.md` is generated from
//! this file by a test.

use uuid::Uuid;

use super::action::{Action, Notice, Timer};
use super::event::{Command, Event, Exit, SessionReport, TaskReading, TurnEnd};
use super::judge::{Judge, Verdict};
use super::params::Params;
use super::record::{Bill, CheckpointStatus, CostSource, CycleRecord, Spend};
use super::state::{Ask, AskPhase, Between, Budget, EndReason, Outcome, State};
use crate::clock::Timestamp;

/// A typed text should show in the transcript within this time; it does within
/// 50 ms when the CLI is well.
const DELIVERY_MS: u64 = 4_000;
/// Enter presses and retypes before a text counts as undeliverable.
const DELIVERY_RETRIES: u32 = 4;
/// After Esc a turn should end within this time.
const INTERRUPT_MS: u64 = 5_000;
/// After SIGKILL the keeper reports within this time; it needs milliseconds.
const GONE_MS: u64 = 20_000;
/// longhaul's own work on files reports within this time. It needs
/// milliseconds; a commit with hooks, or a disk that stalls, takes longer.
const ANSWER_MS: u64 = 120_000;
/// Second signal: how long the CLI may still take to write its bill.
const HURRIED_EXIT_MS: u64 = 2_000;
/// Sessions in a row that never answered, before a person is needed.
const MAX_DEAD_STARTS: u32 = 3;
/// Failed turns in a row before the session is cycled.
const MAX_API_FAILURES: u32 = 8;
/// First pause after an API failure; doubles each time.
const COOL_MS: u64 = 5_000;
/// First pause after a session that failed; doubles each time.
const BACKOFF_MS: u64 = 1_000;
/// No pause is longer than this.
const MAX_PAUSE_MS: u64 = 300_000;
/// Signal number that `longhaul stop` counts as.
const SIGTERM: i32 = 15;

/// The supervisor's decisions for one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    pub(super) params: Params,
    pub(super) run_id: Uuid,
    pub(super) started_at: Timestamp,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) state: State,
    /// Grows with each change of state; a deadline of an older epoch is void.
    pub(super) epoch: u64,
    /// A person wants nothing new started.
    pub(super) paused: bool,
    /// What the run will end with, once the session is down.
    pub(super) verdict: Option<Outcome>,
    /// Why the live session is ending (or being checkpointed).
    pub(super) reason: Option<EndReason>,
    /// Signals seen.
    signals: u32,
    /// The cycle whose session is alive, or was the last.
    pub(super) live: Option<CycleRecord>,
    /// A session of `live` exists (from launch to its exit report).
    pub(super) alive: bool,
    /// Was `SessionStarted` told for it?
    announced: bool,
    /// Cycles that are over.
    pub(super) past: Vec<CycleRecord>,
    pub(super) tasks_done: u32,
    pub(super) tasks_total: u32,
    pub(super) tasks_done_at_start: Option<u32>,
    tasks_digest: Option<String>,
    /// Prompts in a row without progress in the live session.
    nudges_in_a_row: u32,
    /// A text typed in `Working` that the transcript has not shown yet.
    typed: Option<Typed>,
    /// Progress counts from here when a turn is judged.
    judged_at: Timestamp,
    no_progress_in_a_row: u32,
    /// The same before the live cycle: it may be judged more than once.
    no_progress_before: u32,
    dead_starts_in_a_row: u32,
    api_failures_in_a_row: u32,
    /// Sessions in a row whose first reply was already over the threshold.
    born_full_in_a_row: u32,
    last_checkpoint_digest: Option<String>,
    /// The cycle whose proven checkpoint is being copied.
    keeping: Option<u32>,
    /// What the next prompt must carry (the verify command's output).
    note: Option<String>,
    pub(super) stale_reports: u64,
    pub(super) last_activity: String,
    elapsed_before_ms: u64,
    clock_base: Timestamp,
    pub(super) last_now: Timestamp,
    out: Vec<Action>,
}

/// A text on its way into the session.
#[derive(Debug, Clone, PartialEq)]
struct Typed {
    text: String,
    retries: u32,
}

impl Machine {
    /// A run that has not begun.
    pub fn new(run_id: Uuid, params: Params, now: Timestamp) -> Self {
        Self {
            params,
            run_id,
            started_at: now,
            ended_at: None,
            state: State::Between {
                step: Between::Held,
            },
            epoch: 0,
            paused: false,
            verdict: None,
            reason: None,
            signals: 0,
            live: None,
            alive: false,
            announced: false,
            past: Vec::new(),
            tasks_done: 0,
            tasks_total: 0,
            tasks_done_at_start: None,
            tasks_digest: None,
            nudges_in_a_row: 0,
            typed: None,
            judged_at: now,
            no_progress_in_a_row: 0,
            no_progress_before: 0,
            dead_starts_in_a_row: 0,
            api_failures_in_a_row: 0,
            born_full_in_a_row: 0,
            last_checkpoint_digest: None,
            keeping: None,
            note: None,
            stale_reports: 0,
            last_activity: String::new(),
            elapsed_before_ms: 0,
            clock_base: now,
            last_now: now,
            out: Vec::new(),
        }
    }

    /// Takes one event and says what to do about it.
    #[must_use = "the actions must be performed"]
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        let before = std::mem::replace(&mut self.last_now, now);
        if !matches!(self.state, State::Finished { .. }) {
            match event {
                Event::Started => self.on_started(now),
                Event::Recovered {
                    params,
                    spend,
                    bill,
                    killed,
                } => {
                    self.on_recovered(before, now, *params, spend, bill, killed);
                }
                Event::Session { cycle, report } => self.on_session(now, cycle, report),
                Event::TaskRead { reading } => self.on_task_read(now, &reading),
                Event::VerifyEnded { passed, tail } => self.on_verify_ended(now, passed, &tail),
                Event::ProgressWeighed { changed } => self.on_progress_weighed(now, changed),
                Event::Proof {
                    changed,
                    shortfalls,
                    digest,
                } => {
                    self.on_proof(changed, &shortfalls, digest);
                }
                Event::CheckpointKept { folder, trouble } => self.on_kept(now, folder, trouble),
                Event::HandoffWritten { trouble } => self.on_handoff_written(now, trouble),
                Event::Operator { command } => self.on_command(now, command),
                Event::Signal { number } => self.on_signal(now, number),
                Event::Deadline { timer, epoch } => self.on_deadline(now, timer, epoch),
            }
        }
        std::mem::take(&mut self.out)
    }

    // ---- the run -------------------------------------------------------

    fn on_started(&mut self, now: Timestamp) {
        self.tell(Notice::RunStarted);
        self.set_run_timer(now);
        self.enter_between(now);
    }

    fn on_recovered(
        &mut self,
        before: Timestamp,
        now: Timestamp,
        params: Params,
        spend: Option<Spend>,
        bill: Option<Bill>,
        killed: u32,
    ) {
        self.params = params;
        // Only the time in which longhaul lived counts for limits.max_hours: up
        // to the last thing the lost process noted, on the clock of its boot.
        self.elapsed_before_ms = self
            .elapsed_before_ms
            .saturating_add(before.ms_since(self.clock_base));
        self.clock_base = now;
        self.paused = false;
        self.verdict = None;
        self.signals = 0;
        let lost_cycle = self.live.as_ref().filter(|_| self.alive).map(|c| c.cycle);
        self.tell(Notice::RunResumed { lost_cycle, killed });
        self.set_run_timer(now);
        if let (Some(live), true) = (&mut self.live, self.alive) {
            if let Some(spend) = spend {
                live.spend = spend;
            }
            if bill.is_some() {
                live.bill = bill;
            }
            self.reason = Some(EndReason::SupervisorLost);
            self.session_is_gone(now, Exit::Unknown, killed, 0);
        } else {
            self.enter_between(now);
        }
        if let Some(cycle) = self.keeping {
            // The copy died with the process that made it.
            self.out.push(Action::KeepCheckpoint { cycle });
        }
    }

    /// Milliseconds this run has been supervised.
    pub fn elapsed_ms(&self, now: Timestamp) -> u64 {
        self.elapsed_before_ms
            .saturating_add(now.ms_since(self.clock_base))
    }

    fn set_run_timer(&mut self, now: Timestamp) {
        let left = self.params.max_ms.saturating_sub(self.elapsed_ms(now));
        self.out.push(Action::SetTimer {
            timer: Timer::Run,
            epoch: 0,
            after_ms: left,
        });
    }

    /// The run ends with `outcome`, after a checkpoint if one can be had.
    fn wind_down(&mut self, now: Timestamp, outcome: Outcome, reason: EndReason) {
        let was_hurried = self.verdict.is_some();
        let is_budget = matches!(outcome, Outcome::Budget { .. });
        self.settle(outcome);
        match &self.state {
            State::Working | State::Held | State::Judging { .. } => {
                self.cancel_judge();
                self.begin_ask(reason);
            }
            State::Starting | State::Cooling { .. } => self.end_session(reason),
            State::Checkpointing { .. } => {
                // The shorter deadline from now on, which a second reason to
                // hurry does not push back.
                self.reason = Some(reason);
                if !was_hurried {
                    let after_ms = self.params.stop_timeout_ms;
                    self.timer(Timer::Checkpoint, after_ms);
                }
            }
            State::Ending { .. } | State::Finished { .. } => {}
            State::Between { step } => match step {
                Between::Keeping | Between::Briefing => {}
                // The budget may run out on a task that is done.
                Between::Judging { .. } if is_budget => {}
                Between::Judging { .. } | Between::Backoff | Between::Held => {
                    self.cancel_judge();
                    self.finish_with_verdict(now);
                }
            },
        }
    }

    /// Ends the session and the run without asking for anything.
    fn end_now(&mut self, now: Timestamp, outcome: Outcome) {
        self.settle(outcome);
        match &self.state {
            State::Starting
            | State::Working
            | State::Held
            | State::Judging { .. }
            | State::Cooling { .. }
            | State::Checkpointing { .. } => {
                self.cancel_judge();
                self.end_session(EndReason::Stopped);
                self.timer(
                    Timer::Exit,
                    HURRIED_EXIT_MS.min(self.params.exit_timeout_ms),
                );
            }
            State::Ending { surely: false } => self.end_surely(),
            State::Ending { surely: true } | State::Finished { .. } => {}
            State::Between { step } => match step {
                Between::Keeping | Between::Briefing => {}
                Between::Judging { .. } | Between::Backoff | Between::Held => {
                    self.cancel_judge();
                    self.finish_with_verdict(now);
                }
            },
        }
    }

    /// What the run will end with. A task that was found done stays done,
    /// whatever comes while its session is being ended.
    fn settle(&mut self, outcome: Outcome) {
        if self.verdict != Some(Outcome::Done) {
            self.verdict = Some(outcome);
        }
    }

    fn finish_with_verdict(&mut self, now: Timestamp) {
        if let Some(outcome) = self.verdict.clone() {
            self.finish(now, outcome);
        }
    }

    fn finish(&mut self, now: Timestamp, outcome: Outcome) {
        self.close_cycle();
        self.ended_at = Some(now);
        self.elapsed_before_ms = self.elapsed_ms(now);
        self.clock_base = now;
        self.tell(Notice::RunFinished {
            outcome: outcome.clone(),
        });
        self.enter(State::Finished { outcome });
    }

    // ---- people ---------------------------------------------------------

    fn on_command(&mut self, now: Timestamp, command: Command) {
        match command {
            Command::Pause => {
                self.paused = true;
                self.obeyed("paused: nothing new is started after the present turn");
            }
            Command::Resume => {
                self.paused = false;
                self.obeyed("resumed");
                match &self.state {
                    State::Held => self.begin_judging(),
                    State::Between {
                        step: Between::Held,
                    } => self.judge_between(now),
                    State::Starting
                    | State::Working
                    | State::Judging { .. }
                    | State::Cooling { .. }
                    | State::Checkpointing { .. }
                    | State::Ending { .. }
                    | State::Finished { .. }
                    | State::Between {
                        step:
                            Between::Keeping
                            | Between::Briefing
                            | Between::Judging { .. }
                            | Between::Backoff,
                    } => {}
                }
            }
            Command::Cycle => match &self.state {
                State::Working | State::Judging { .. } | State::Held if self.has_replied() => {
                    self.cancel_judge();
                    self.obeyed("checkpoint asked for; a fresh session follows");
                    self.begin_ask(EndReason::Operator);
                }
                State::Starting
                | State::Cooling { .. }
                | State::Working
                | State::Judging { .. }
                | State::Held => {
                    self.cancel_judge();
                    self.obeyed("the session is ended; a fresh one follows");
                    self.end_session(EndReason::Operator);
                }
                State::Checkpointing { .. } | State::Ending { .. } => {
                    self.obeyed("the session is already being cycled");
                }
                State::Between { .. } | State::Finished { .. } => {
                    self.obeyed("no session is alive");
                }
            },
            Command::Stop => {
                self.obeyed("stopping: checkpoint, then the session is ended");
                self.on_signal(now, SIGTERM);
            }
            Command::StopNow => {
                self.obeyed("stopping now");
                self.end_now(now, Outcome::Stopped { signal: SIGTERM });
            }
        }
    }

    fn on_signal(&mut self, now: Timestamp, number: i32) {
        self.signals += 1;
        let outcome = Outcome::Stopped { signal: number };
        if self.signals == 1 {
            self.wind_down(now, outcome, EndReason::Stopped);
        } else {
            self.end_now(now, outcome);
        }
    }

    fn obeyed(&mut self, text: &str) {
        self.tell(Notice::Obeyed { text: text.into() });
    }

    // ---- reports about the session ----------------------------------------

    fn on_session(&mut self, now: Timestamp, cycle: u32, report: SessionReport) {
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
            SessionReport::Context {
                tokens,
                model,
                table_window,
            } => {
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
            SessionReport::Exited {
                exit,
                killed,
                survivors,
                screen,
            } => {
                self.on_exited(now, exit, killed, survivors, &screen);
            }
        }
    }

    fn on_window(&mut self, tokens: u64) {
        let known = self.live.as_ref().and_then(|c| c.gauge.statusline_window);
        if tokens == 0 || known == Some(tokens) {
            return;
        }
        self.with_live(|c| c.gauge.statusline_window = Some(tokens));
        self.on_pressure();
    }

    fn on_context(&mut self, tokens: u64, model: String, table_window: Option<u64>) {
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

    fn pressure(&self) -> Option<super::pressure::Pressure> {
        self.live
            .as_ref()
            .and_then(|c| c.gauge.pressure(&self.params))
    }

    /// The context or its window changed.
    fn on_pressure(&mut self) {
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

    fn check_budgets(&mut self, now: Timestamp) {
        let (tokens, cost_usd) = (self.tokens_total(), self.cost_total_usd());
        self.tell(Notice::Spent { tokens, cost_usd });
        if self.verdict.is_some() {
            return;
        }
        if let Some(which) = self.spent_budget() {
            let text = format!("the budget {} is spent", which.key());
            self.tell(Notice::Warning { text });
            self.wind_down(now, Outcome::Budget { which }, EndReason::Budget);
        }
    }

    fn spent_budget(&self) -> Option<Budget> {
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

    fn on_prompt(&mut self, text: &str, queued: bool) {
        if self
            .typed
            .as_ref()
            .is_some_and(|t| is_same_text(&t.text, text))
        {
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
        let attempt = ask.attempt;
        if before == AskPhase::Typed {
            self.tell(Notice::CheckpointDelivered { attempt });
        }
    }

    fn on_turn_ended(&mut self, end: TurnEnd) {
        if let TurnEnd::ApiError {
            error,
            status,
            text,
        } = &end
            && (error == "authentication_failed" || matches!(status, Some(401 | 403)))
            && !matches!(self.state, State::Ending { .. })
        {
            self.verdict
                .get_or_insert(Outcome::Authentication { why: text.clone() });
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

    fn on_api_error(&mut self, error: &str) {
        self.api_failures_in_a_row += 1;
        if self.api_failures_in_a_row > MAX_API_FAILURES {
            self.end_session(EndReason::ApiFailure);
            return;
        }
        let attempt = self.api_failures_in_a_row;
        let ms = doubling(COOL_MS, attempt - 1);
        self.tell(Notice::Waiting {
            reason: format!("API error ({error})"),
            ms,
        });
        self.enter(State::Cooling { attempt });
        self.timer(Timer::Cool, ms);
    }

    fn on_asks_person(&mut self, what: &str) {
        if matches!(self.state, State::Ending { .. }) {
            return;
        }
        self.verdict.get_or_insert_with(|| Outcome::NeedsPerson {
            why: format!("the CLI asks: {what}"),
        });
        self.end_unless_keeping(EndReason::NeedsPerson);
    }

    fn on_exited(&mut self, now: Timestamp, exit: Exit, killed: u32, survivors: u32, screen: &str) {
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

    // ---- launching and ending -----------------------------------------------

    fn launch(&mut self, now: Timestamp) {
        self.close_cycle();
        let cycle = self.past.len() as u32 + 1;
        let session_id = session_id(self.run_id, cycle);
        self.live = Some(CycleRecord::new(
            cycle,
            session_id,
            now,
            (self.tasks_done, self.tasks_total),
        ));
        self.alive = true;
        self.announced = false;
        self.reason = None;
        self.nudges_in_a_row = 0;
        self.typed = None;
        self.judged_at = now;
        self.no_progress_before = self.no_progress_in_a_row;
        self.api_failures_in_a_row = 0;
        let prompt = match self.note.take() {
            Some(note) => format!("{} {note}", self.params.init_prompt),
            None => self.params.init_prompt.clone(),
        };
        self.enter(State::Starting);
        self.out.push(Action::Launch {
            cycle,
            session_id,
            prompt,
        });
        self.timer(Timer::Start, self.params.start_timeout_ms);
    }

    fn announce(&mut self) {
        if self.announced {
            return;
        }
        if let Some(CycleRecord {
            pid: Some(pid),
            session_id,
            model,
            ..
        }) = &self.live
        {
            let notice = Notice::SessionStarted {
                session_id: *session_id,
                pid: *pid,
                model: model.clone(),
            };
            self.announced = true;
            self.tell(notice);
        }
    }

    fn end_session(&mut self, reason: EndReason) {
        self.reason = Some(reason);
        self.enter(State::Ending { surely: false });
        self.out.push(Action::EndPolitely);
        self.timer(Timer::Exit, self.params.exit_timeout_ms);
    }

    /// Ends the session, but lets a copy of a proven checkpoint be finished: the
    /// session is ended right after it anyway.
    fn end_unless_keeping(&mut self, reason: EndReason) {
        if matches!(&self.state, State::Checkpointing { ask } if ask.phase == AskPhase::Keeping) {
            self.reason = Some(reason);
        } else {
            self.cancel_judge();
            self.end_session(reason);
        }
    }

    fn end_surely(&mut self) {
        self.enter(State::Ending { surely: true });
        self.out.push(Action::EndSurely);
        self.timer(Timer::Gone, GONE_MS);
    }

    fn session_is_gone(&mut self, now: Timestamp, exit: Exit, killed: u32, survivors: u32) {
        self.announce();
        let reason = match self.reason.unwrap_or(EndReason::Exited) {
            // The reply came after all, while the session was being ended.
            EndReason::DeadStart if self.has_replied() => EndReason::NoProgress,
            reason => reason,
        };
        self.with_live(|c| {
            c.ended_at = Some(now);
            c.end_reason = Some(reason);
            c.exit = Some(exit);
            c.killed = killed;
            c.survivors = survivors;
        });
        self.alive = false;
        self.typed = None;
        if reason == EndReason::DeadStart {
            self.dead_starts_in_a_row += 1;
        }
        self.tell(Notice::SessionEnded {
            reason,
            exit,
            killed,
            survivors,
        });
        if survivors > 0 {
            let text = format!("{survivors} process(es) of the session could not be ended");
            self.tell(Notice::Warning { text });
        }
        self.enter_between(now);
    }

    /// Waits for the copy of the checkpoint, or writes the brief if the session
    /// left none; then asks what is next.
    fn enter_between(&mut self, now: Timestamp) {
        if self.keeping.is_some() {
            self.enter(State::Between {
                step: Between::Keeping,
            });
            self.timer(Timer::Answer, ANSWER_MS);
        } else if let Some(why) = self.needs_brief() {
            let cycle = self.live.as_ref().map_or(0, |c| c.cycle);
            self.enter(State::Between {
                step: Between::Briefing,
            });
            self.out.push(Action::WriteHandoff { cycle, why });
            self.timer(Timer::Answer, ANSWER_MS);
        } else {
            self.judge_between(now);
        }
    }

    /// Why a brief is needed, if it is.
    fn needs_brief(&self) -> Option<String> {
        let live = self.live.as_ref()?;
        if live.ended_at.is_none() || live.gauge.tokens.is_none() {
            return None;
        }
        match live.checkpoint.status {
            CheckpointStatus::Verified | CheckpointStatus::Handoff | CheckpointStatus::Failed => {
                return None;
            }
            CheckpointStatus::None | CheckpointStatus::Requested => {}
        }
        match live.end_reason? {
            // The task file itself tells all there is to tell.
            // Unless longhaul died before the run's end was noted.
            EndReason::Done | EndReason::Blocked if self.verdict.is_some() => None,
            reason => Some(match &live.checkpoint.trouble {
                Some(trouble) => trouble.clone(),
                None => format!(
                    "the session ended without a checkpoint ({})",
                    reason.as_str()
                ),
            }),
        }
    }

    fn on_handoff_written(&mut self, now: Timestamp, trouble: Option<String>) {
        // A late one would be booked to the next cycle.
        if !matches!(
            self.state,
            State::Between {
                step: Between::Briefing
            }
        ) {
            return;
        }
        let status = match trouble {
            None => CheckpointStatus::Handoff,
            Some(_) => CheckpointStatus::Failed,
        };
        self.with_live(|c| {
            c.checkpoint.status = status;
            if let Some(text) = &trouble {
                c.checkpoint.trouble = Some(text.clone());
            }
        });
        self.tell(Notice::HandoffWritten { trouble });
        self.judge_between(now);
    }

    fn close_cycle(&mut self) {
        if let Some(live) = self.live.take() {
            self.past.push(live);
        }
    }

    // ---- what next ----------------------------------------------------------

    fn begin_judging(&mut self) {
        let judge = Judge::new(self.judged_at, &mut self.out);
        self.enter(State::Judging { judge });
        self.timer(Timer::Answer, ANSWER_MS);
    }

    fn judge_between(&mut self, now: Timestamp) {
        let since = self.live.as_ref().map_or(now, |c| c.started_at);
        let judge = Judge::new(since, &mut self.out);
        self.enter(State::Between {
            step: Between::Judging { judge },
        });
        self.timer(Timer::Answer, ANSWER_MS);
    }

    fn cancel_judge(&mut self) {
        let judge = match &self.state {
            State::Judging { judge } => Some(judge),
            State::Between {
                step: Between::Judging { judge },
            } => Some(judge),
            State::Between {
                step: Between::Keeping | Between::Briefing | Between::Backoff | Between::Held,
            }
            | State::Starting
            | State::Working
            | State::Held
            | State::Cooling { .. }
            | State::Checkpointing { .. }
            | State::Ending { .. }
            | State::Finished { .. } => None,
        };
        if judge.is_some_and(Judge::is_verifying) {
            self.out.push(Action::CancelVerify);
        }
    }

    /// Runs `answer` on the judge in hand, if there is one.
    fn with_judge(
        &mut self,
        now: Timestamp,
        answer: impl FnOnce(&mut Judge, &mut Vec<Action>, u64) -> Option<Verdict>,
    ) {
        let epoch = self.epoch;
        let (verdict, alive) = match &mut self.state {
            State::Judging { judge } => (answer(judge, &mut self.out, epoch), true),
            State::Between {
                step: Between::Judging { judge },
            } => (answer(judge, &mut self.out, epoch), false),
            State::Between {
                step: Between::Keeping | Between::Briefing | Between::Backoff | Between::Held,
            }
            | State::Starting
            | State::Working
            | State::Held
            | State::Cooling { .. }
            | State::Checkpointing { .. }
            | State::Ending { .. }
            | State::Finished { .. } => return,
        };
        match (verdict, alive) {
            (Some(verdict), true) => self.on_verdict_alive(now, verdict),
            (Some(verdict), false) => self.on_verdict_between(now, verdict),
            (None, _) => {}
        }
    }

    fn on_task_read(&mut self, now: Timestamp, reading: &TaskReading) {
        if let TaskReading::Read {
            digest,
            ticked,
            total,
            ..
        } = reading
        {
            let (ticked, total) = (*ticked, *total);
            if self.tasks_digest.is_none() || (self.tasks_done, self.tasks_total) != (ticked, total)
            {
                self.tell(Notice::Tasks {
                    done: ticked,
                    total,
                });
            }
            let is_new = self.tasks_digest.as_ref().is_some_and(|old| old != digest);
            // The answer to a checkpoint request always touches the task file.
            if is_new && !matches!(self.state, State::Checkpointing { .. }) {
                self.mark_progress();
            }
            self.tasks_digest = Some(digest.clone());
            self.tasks_done = ticked;
            self.tasks_total = total;
            self.tasks_done_at_start.get_or_insert(ticked);
            self.with_live(|c| {
                if ticked > c.tasks_done_after {
                    c.progress = true;
                }
                c.tasks_done_after = ticked;
                c.tasks_total = total;
            });
        }
        // The run's end is settled, and a person who pressed Ctrl-C does not wait
        // for a verify command; only a spent budget may still meet a finished task.
        let settled = self
            .verdict
            .as_ref()
            .is_some_and(|v| !matches!(v, Outcome::Budget { .. }));
        if settled
            && matches!(
                self.state,
                State::Between {
                    step: Between::Judging { .. }
                }
            )
        {
            self.finish_with_verdict(now);
            return;
        }
        let verify = self.params.verify;
        self.with_judge(now, |judge, out, epoch| {
            judge.on_read(reading, verify, epoch, out)
        });
    }

    fn mark_progress(&mut self) {
        self.nudges_in_a_row = 0;
        if self.alive {
            self.with_live(|c| c.progress = true);
        }
    }

    fn on_verify_ended(&mut self, now: Timestamp, passed: bool, tail: &str) {
        let waiting = match &self.state {
            State::Judging { judge }
            | State::Between {
                step: Between::Judging { judge },
            } => judge.is_verifying(),
            State::Between {
                step: Between::Keeping | Between::Briefing | Between::Backoff | Between::Held,
            }
            | State::Starting
            | State::Working
            | State::Held
            | State::Cooling { .. }
            | State::Checkpointing { .. }
            | State::Ending { .. }
            | State::Finished { .. } => false,
        };
        if waiting {
            self.tell(Notice::Verified { passed });
            self.timer(Timer::Answer, ANSWER_MS);
        }
        self.with_judge(now, |judge, out, _| judge.on_verify(passed, tail, out));
    }

    fn on_progress_weighed(&mut self, now: Timestamp, changed: bool) {
        self.with_judge(now, |judge, _, _| judge.on_weighed(changed));
    }

    /// The turn ended and the session is idle.
    fn on_verdict_alive(&mut self, now: Timestamp, verdict: Verdict) {
        match verdict {
            Verdict::Done => {
                self.verdict = Some(Outcome::Done);
                self.end_session(EndReason::Done);
            }
            Verdict::Blocked { reason } => {
                self.verdict = Some(Outcome::NeedsPerson {
                    why: blocked(&reason),
                });
                self.end_session(EndReason::Blocked);
            }
            Verdict::Open { note, progress } => self.go_on(now, note, progress),
            Verdict::Unreadable { problem, progress } => {
                let note = format!(
                    "The task file cannot be read: {problem}. Put it right, then go on with the next open task."
                );
                self.go_on(now, Some(note), progress);
            }
        }
    }

    /// Work is left, and the session is idle.
    fn go_on(&mut self, now: Timestamp, note: Option<String>, progress: bool) {
        if progress {
            self.mark_progress();
        }
        self.judged_at = now;
        if let Some(pressure) = self.pressure().filter(|p| p.is_over(&self.params)) {
            self.note = note;
            self.tell(Notice::ThresholdReached(pressure));
            self.begin_ask(EndReason::Threshold);
        } else if self.paused {
            self.note = note;
            self.enter(State::Held);
        } else if self.nudges_in_a_row >= self.params.max_nudges {
            self.note = note;
            self.begin_ask(EndReason::NoProgress);
        } else {
            self.nudges_in_a_row += 1;
            let count = self.nudges_in_a_row;
            // Taken in any case: what an earlier verify run said is no news later.
            let kept = self.note.take();
            let text = note
                .or(kept)
                .unwrap_or_else(|| self.params.continue_prompt.clone());
            self.with_live(|c| c.nudges += 1);
            self.tell(Notice::Nudged { count });
            self.work_on(text);
        }
    }

    /// Types a prompt into the idle session.
    fn work_on(&mut self, text: String) {
        self.enter(State::Working);
        self.out.push(Action::Type { text: text.clone() });
        self.typed = Some(Typed { text, retries: 0 });
        self.timer(Timer::Delivery, DELIVERY_MS);
        if !self.has_replied() {
            self.timer(Timer::Start, self.params.start_timeout_ms);
        }
    }

    /// Did the model ever answer in the live session?
    fn has_replied(&self) -> bool {
        self.live.as_ref().is_some_and(|c| c.gauge.tokens.is_some())
    }

    /// No session is alive.
    fn on_verdict_between(&mut self, now: Timestamp, verdict: Verdict) {
        let (note, progress) = match verdict {
            Verdict::Done => return self.finish(now, Outcome::Done),
            Verdict::Blocked { reason } => {
                return self.finish(
                    now,
                    Outcome::NeedsPerson {
                        why: blocked(&reason),
                    },
                );
            }
            Verdict::Unreadable { problem, .. } => {
                let why = format!("the task file cannot be read: {problem}");
                return self.finish(
                    now,
                    self.verdict.clone().unwrap_or(Outcome::NeedsPerson { why }),
                );
            }
            Verdict::Open { note, progress } => (note, progress),
        };
        if note.is_some() {
            self.note = note;
        }
        self.count_progress(progress);
        if self.verdict.is_some() {
            return self.finish_with_verdict(now);
        }
        if let Some(outcome) = self.reason_to_stop() {
            return self.finish(now, outcome);
        }
        if self.paused {
            return self.enter(State::Between {
                step: Between::Held,
            });
        }
        let failures = self.live.as_ref().map_or(0, |c| match c.end_reason {
            Some(EndReason::DeadStart) => self.dead_starts_in_a_row,
            Some(EndReason::Exited | EndReason::ApiFailure) => self.no_progress_in_a_row.max(1),
            Some(_) | None => 0,
        });
        if failures > 0 {
            let ms = doubling(BACKOFF_MS, failures - 1);
            self.tell(Notice::Waiting {
                reason: "the session failed".into(),
                ms,
            });
            self.enter(State::Between {
                step: Between::Backoff,
            });
            self.timer(Timer::Backoff, ms);
        } else {
            self.launch(now);
        }
    }

    /// Books whether the cycle that ended made progress. A pause or a crash may
    /// have it judged again; it counts once. Dead starts have their own bound,
    /// which tells the person what the screen said.
    fn count_progress(&mut self, progress: bool) {
        let Some(live) = &mut self.live else { return };
        live.progress |= progress;
        if live.end_reason == Some(EndReason::DeadStart) {
            return;
        }
        // Sessions that are born full and tick nothing go round for ever, each
        // with a fresh checkpoint: that is no progress.
        let ticked = live.tasks_done_after > live.tasks_done_before;
        let idle = self.born_full_in_a_row > 1 && !ticked;
        if live.progress && !idle {
            self.no_progress_in_a_row = 0;
        } else {
            self.no_progress_in_a_row = self.no_progress_before + 1;
        }
    }

    fn reason_to_stop(&self) -> Option<Outcome> {
        if self.dead_starts_in_a_row >= MAX_DEAD_STARTS {
            let why = format!(
                "{} sessions in a row ended without one reply; the last thing seen: {}",
                self.dead_starts_in_a_row,
                if self.last_activity.is_empty() {
                    "nothing"
                } else {
                    &self.last_activity
                }
            );
            return Some(Outcome::NeedsPerson { why });
        }
        if self.no_progress_in_a_row >= self.params.no_progress_cycles {
            return Some(Outcome::NoProgress);
        }
        if let Some(which) = self.spent_budget() {
            return Some(Outcome::Budget { which });
        }
        let launched = self.past.len() + usize::from(self.live.is_some());
        if launched >= self.params.max_sessions as usize {
            return Some(Outcome::Budget {
                which: Budget::Sessions,
            });
        }
        None
    }

    // ---- the checkpoint -------------------------------------------------------

    fn begin_ask(&mut self, reason: EndReason) {
        if !self.has_replied() {
            // Nothing to hand over, and nobody there to ask.
            return self.end_session(match reason {
                EndReason::NoProgress => EndReason::DeadStart,
                reason => reason,
            });
        }
        self.reason = Some(reason);
        self.typed = None;
        self.with_live(|c| c.checkpoint.status = CheckpointStatus::Requested);
        self.out.push(Action::TakeBaseline);
        let text = self.params.checkpoint_prompt.clone();
        self.ask(1, text);
    }

    fn ask(&mut self, attempt: u32, text: String) {
        let reason = self.reason.unwrap_or(EndReason::Threshold);
        self.out.push(Action::Type { text: text.clone() });
        self.tell(Notice::CheckpointRequested { attempt, reason });
        let ask = Ask {
            attempt,
            text,
            phase: AskPhase::Typed,
            retries: 0,
        };
        self.enter(State::Checkpointing { ask });
        self.timer(Timer::Delivery, DELIVERY_MS);
        let after_ms = if self.verdict.is_some() {
            self.params.stop_timeout_ms
        } else {
            self.params.checkpoint_timeout_ms
        };
        self.timer(Timer::Checkpoint, after_ms);
    }

    /// A second request that names what is missing, or the end of asking.
    fn ask_again_or_give_up(&mut self, missing: &str) {
        let State::Checkpointing { ask } = &self.state else {
            return;
        };
        if ask.attempt == 1 && self.verdict.is_none() {
            let text = format!(
                "CHECKPOINT, second request: {missing}. {}",
                self.params.checkpoint_prompt
            );
            self.ask(2, text);
        } else {
            self.give_up_asking(missing);
        }
    }

    fn give_up_asking(&mut self, missing: &str) {
        self.with_live(|c| c.checkpoint.trouble = Some(missing.to_owned()));
        self.tell(Notice::CheckpointFailed {
            reason: missing.to_owned(),
        });
        self.end_session(self.reason.unwrap_or(EndReason::Threshold));
    }

    fn on_proof(&mut self, changed: Vec<String>, shortfalls: &[String], digest: String) {
        let State::Checkpointing { ask } = &mut self.state else {
            return;
        };
        if ask.phase != AskPhase::Proving {
            return;
        }
        if !shortfalls.is_empty() {
            return self.ask_again_or_give_up(&shortfalls.join("; "));
        }
        ask.phase = AskPhase::Keeping;
        let is_new = self.last_checkpoint_digest.as_ref() != Some(&digest);
        self.last_checkpoint_digest = Some(digest);
        let counts = is_new && self.reason != Some(EndReason::NoProgress);
        let cycle = self.live.as_ref().map_or(0, |c| c.cycle);
        self.with_live(|c| {
            c.checkpoint.status = CheckpointStatus::Verified;
            c.checkpoint.files.clone_from(&changed);
            c.progress |= counts;
        });
        self.tell(Notice::CheckpointVerified { files: changed });
        self.out.push(Action::KeepCheckpoint { cycle });
        self.keeping = Some(cycle);
        self.timer(Timer::Answer, ANSWER_MS);
    }

    /// The turn ended: looks at the files.
    fn prove(&mut self) {
        if let State::Checkpointing { ask } = &mut self.state {
            ask.phase = AskPhase::Proving;
            self.out.push(Action::Prove);
            self.timer(Timer::Answer, ANSWER_MS);
        }
    }

    fn on_kept(&mut self, now: Timestamp, folder: String, trouble: Option<String>) {
        let ours = self.live.as_ref().map(|c| c.cycle);
        if self.keeping.is_none() || self.keeping != ours {
            // Given up on: it would be booked to another cycle.
            return;
        }
        if let Some(text) = &trouble {
            self.tell(Notice::Warning { text: text.clone() });
        }
        self.with_live(|c| {
            c.checkpoint.folder = Some(folder).filter(|f| !f.is_empty());
            c.checkpoint.trouble = trouble;
        });
        self.go_on_from_keeping(now);
    }

    /// The copy is made, or given up on.
    fn go_on_from_keeping(&mut self, now: Timestamp) {
        self.keeping = None;
        match &self.state {
            State::Checkpointing { ask } if ask.phase == AskPhase::Keeping => {
                self.end_session(self.reason.unwrap_or(EndReason::Threshold));
            }
            State::Between {
                step: Between::Keeping,
            } => self.enter_between(now),
            State::Checkpointing { .. }
            | State::Between { .. }
            | State::Starting
            | State::Working
            | State::Judging { .. }
            | State::Held
            | State::Cooling { .. }
            | State::Ending { .. }
            | State::Finished { .. } => {}
        }
    }

    // ---- deadlines ------------------------------------------------------------

    fn on_deadline(&mut self, now: Timestamp, timer: Timer, epoch: u64) {
        if timer == Timer::Run {
            if self.verdict.is_none() {
                let which = Budget::Hours;
                self.wind_down(now, Outcome::Budget { which }, EndReason::Budget);
            }
            return;
        }
        if epoch != self.epoch {
            return;
        }
        match timer {
            Timer::Start => self.on_start_deadline(),
            Timer::Delivery => self.on_delivery_deadline(),
            Timer::Checkpoint => self.on_checkpoint_deadline(),
            Timer::Interrupt => {
                if matches!(&self.state, State::Checkpointing { ask } if ask.phase == AskPhase::Interrupting)
                {
                    self.ask_again_or_give_up("the first request was not answered in time");
                }
            }
            Timer::Reread => self.with_judge(now, |judge, out, _| {
                judge.on_reread(out);
                None
            }),
            Timer::Exit => {
                if matches!(self.state, State::Ending { surely: false }) {
                    self.end_surely();
                }
            }
            Timer::Gone => {
                if matches!(self.state, State::Ending { surely: true }) {
                    let why = "the session could not be ended; look for its processes".to_owned();
                    self.verdict = Some(Outcome::NeedsPerson { why });
                    self.session_is_gone(now, Exit::Unknown, 0, 1);
                }
            }
            Timer::Backoff => {
                if matches!(
                    self.state,
                    State::Between {
                        step: Between::Backoff
                    }
                ) {
                    if self.paused {
                        self.enter(State::Between {
                            step: Between::Held,
                        });
                    } else {
                        self.launch(now);
                    }
                }
            }
            Timer::Cool => self.on_cool_deadline(),
            Timer::Answer => self.on_answer_deadline(now),
            Timer::Run => {}
        }
    }

    /// longhaul's own work on files did not report: the run goes on without.
    fn on_answer_deadline(&mut self, now: Timestamp) {
        let late = |what: &str| format!("{what} took longer than {} s", ANSWER_MS / 1_000);
        match &self.state {
            State::Checkpointing { ask } => match ask.phase {
                AskPhase::Proving => self.ask_again_or_give_up("the files could not be compared"),
                AskPhase::Keeping => self.on_copy_late(now, late("the copy of the checkpoint")),
                AskPhase::Typed | AskPhase::Queued | AskPhase::Heard | AskPhase::Interrupting => {}
            },
            State::Between { step } => match step {
                Between::Keeping => self.on_copy_late(now, late("the copy of the checkpoint")),
                Between::Briefing => self.on_handoff_written(now, Some(late("writing the brief"))),
                Between::Judging { .. } => self.with_judge(now, |judge, _, _| judge.on_late()),
                Between::Backoff | Between::Held => {}
            },
            State::Judging { .. } => self.with_judge(now, |judge, _, _| judge.on_late()),
            State::Starting
            | State::Working
            | State::Held
            | State::Cooling { .. }
            | State::Ending { .. }
            | State::Finished { .. } => {}
        }
    }

    fn on_copy_late(&mut self, now: Timestamp, trouble: String) {
        self.tell(Notice::Warning {
            text: trouble.clone(),
        });
        self.with_live(|c| c.checkpoint.trouble = Some(trouble));
        self.go_on_from_keeping(now);
    }

    fn on_cool_deadline(&mut self) {
        if !matches!(self.state, State::Cooling { .. }) {
            return;
        }
        if let Some(pressure) = self.pressure().filter(|p| p.is_over(&self.params)) {
            // The window became known in the meantime.
            self.tell(Notice::ThresholdReached(pressure));
            self.begin_ask(EndReason::Threshold);
        } else if self.paused {
            self.enter(State::Held);
        } else {
            let text = self.params.continue_prompt.clone();
            self.work_on(text);
        }
    }

    fn on_start_deadline(&mut self) {
        // A first turn may end without a reply (an unknown slash command); then
        // the session is told to go on, and waits for its first reply in Working.
        if matches!(self.state, State::Starting | State::Working) && !self.has_replied() {
            self.end_session(EndReason::DeadStart);
        }
    }

    fn on_delivery_deadline(&mut self) {
        let (retries, text) = match &mut self.state {
            State::Checkpointing { ask } if ask.phase == AskPhase::Typed => {
                ask.retries += 1;
                (ask.retries, ask.text.clone())
            }
            State::Working => match &mut self.typed {
                Some(typed) => {
                    typed.retries += 1;
                    (typed.retries, typed.text.clone())
                }
                None => return,
            },
            State::Checkpointing { .. }
            | State::Starting
            | State::Judging { .. }
            | State::Held
            | State::Cooling { .. }
            | State::Ending { .. }
            | State::Between { .. }
            | State::Finished { .. } => return,
        };
        if retries > DELIVERY_RETRIES {
            let why = "the session takes no input: the typed text never showed in its transcript";
            return match self.state {
                State::Checkpointing { .. } => self.give_up_asking(why),
                _ if !self.has_replied() => self.end_session(EndReason::DeadStart),
                _ => {
                    self.with_live(|c| c.checkpoint.trouble = Some(why.to_owned()));
                    self.end_session(EndReason::NoProgress);
                }
            };
        }
        // The Enter may have been swallowed (odd tries), or the text too.
        if retries % 2 == 1 {
            self.out.push(Action::PressEnter);
        } else {
            self.out.push(Action::ClearInput);
            self.out.push(Action::Type { text });
        }
        self.timer(Timer::Delivery, DELIVERY_MS);
    }

    fn on_checkpoint_deadline(&mut self) {
        let hurried = self.verdict.is_some();
        let State::Checkpointing { ask } = &mut self.state else {
            return;
        };
        match ask.phase {
            AskPhase::Typed | AskPhase::Queued | AskPhase::Heard => {
                if ask.attempt == 1 && !hurried {
                    ask.phase = AskPhase::Interrupting;
                    self.out.push(Action::PressEscape);
                    self.timer(Timer::Interrupt, INTERRUPT_MS);
                } else {
                    self.give_up_asking("the request was not answered in time");
                }
            }
            AskPhase::Interrupting => self.give_up_asking("the request was not answered in time"),
            AskPhase::Proving | AskPhase::Keeping => {}
        }
    }

    // ---- small things -----------------------------------------------------------

    fn enter(&mut self, state: State) {
        self.epoch += 1;
        self.state = state;
    }

    fn timer(&mut self, timer: Timer, after_ms: u64) {
        self.out.push(Action::SetTimer {
            timer,
            epoch: self.epoch,
            after_ms,
        });
    }

    fn tell(&mut self, notice: Notice) {
        self.out.push(Action::Tell(notice));
    }

    fn with_live(&mut self, change: impl FnOnce(&mut CycleRecord)) {
        if let Some(live) = &mut self.live {
            change(live);
        }
    }

    /// All cycles, the live one last.
    pub fn cycles(&self) -> impl Iterator<Item = &CycleRecord> {
        self.past.iter().chain(self.live.as_ref())
    }

    /// Tokens of all kinds, of all cycles.
    pub fn tokens_total(&self) -> u64 {
        self.cycles()
            .map(|c| c.spend.tokens.total())
            .fold(0, u64::saturating_add)
    }

    /// Dollars of all cycles.
    pub fn cost_total_usd(&self) -> f64 {
        self.cycles().map(|c| c.cost().0).sum()
    }

    /// Where the run stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The time of the newest event.
    pub fn last_event_at(&self) -> Timestamp {
        self.last_now
    }

    /// The run's id.
    pub fn run_id(&self) -> Uuid {
        self.run_id
    }

    /// The cycle that is alive, or was the last.
    pub fn live(&self) -> Option<&CycleRecord> {
        self.live.as_ref()
    }

    /// Does this reading of the task file say anything new?
    pub fn is_news(&self, reading: &TaskReading) -> bool {
        match reading {
            TaskReading::Read { digest, .. } => self.tasks_digest.as_ref() != Some(digest),
            TaskReading::Unreadable { .. } => false,
        }
    }

    /// Is a session alive, as far as the machine knows?
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    /// How the run ended, if it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            State::Finished { outcome } => Some(outcome),
            State::Starting
            | State::Working
            | State::Judging { .. }
            | State::Held
            | State::Cooling { .. }
            | State::Checkpointing { .. }
            | State::Ending { .. }
            | State::Between { .. } => None,
        }
    }
}

/// The id of a cycle's session follows from run and cycle, so that a crash
/// between deciding and noting cannot lose it.
pub fn session_id(run_id: Uuid, cycle: u32) -> Uuid {
    Uuid::new_v5(&run_id, format!("cycle {cycle}").as_bytes())
}

/// Nothing more fits into the context: the session can only be replaced.
fn is_context_full(end: &TurnEnd) -> bool {
    matches!(end, TurnEnd::ApiError { error, text, .. }
        if error == "invalid_request" && text.to_ascii_lowercase().contains("prompt is too long"))
}

/// `base`, doubled `times` times, capped.
fn doubling(base_ms: u64, times: u32) -> u64 {
    base_ms
        .saturating_mul(1_u64 << times.min(20))
        .min(MAX_PAUSE_MS)
}

fn blocked(reason: &str) -> String {
    if reason.is_empty() {
        "the task file says 'Status: blocked'".into()
    } else {
        format!("the task file says blocked: {reason}")
    }
}

/// Is `shown` (from the transcript) the text we `typed`? White space may be
/// folded on the way, and a long paste may be shown cut.
fn is_same_text(typed: &str, shown: &str) -> bool {
    const ENOUGH: usize = 160;
    let fold = |s: &str| -> String {
        s.chars()
            .filter(|c| !c.is_whitespace() && !c.is_control())
            .take(ENOUGH)
            .collect()
    };
    let (typed, shown) = (fold(typed), fold(shown));
    !typed.is_empty() && typed == shown
}
