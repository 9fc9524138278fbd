//! What happens when a deadline passes.

use super::limits::left_ms;
use super::{
    ANSWER_MS, DELIVERY_MS, DELIVERY_RETRIES, GONE_MS, HELD_MS, INTERRUPT_MS, LOOK_AT_CLOCK_MS,
    Machine, SLEPT_MS,
};
use crate::clock::Timestamp;
use crate::cycle::action::{Action, Notice, Timer};
use crate::cycle::event::{Event, Exit};
use crate::cycle::state::{AskPhase, Between, Budget, EndReason, Outcome, State};

impl Machine {
    /// A deadline comes long after it was due: the machine was suspended, or longhaul
    /// stopped. Nobody waited in that time. What else comes first after the sleep
    /// shows it by the look that was due in the turn.
    pub(super) fn note_sleep(&mut self, now: Timestamp, event: &Event) {
        let due_ms = match event {
            Event::Recovered { .. } => {
                // Deadlines died with the process, and the clock may be another one.
                self.due_ms.clear();
                self.woke_ms = None;
                None
            }
            Event::Deadline { timer, .. } => self.due_ms.remove(timer),
            _ => self.due_ms.get(&Timer::Hang).copied(),
        };
        let Some(due_ms) = due_ms else { return };
        // Each deadline that was slept through says so.
        let since_ms = self.woke_ms.map_or(due_ms, |woke| woke.max(due_ms));
        let late_ms = now.boot_ms.saturating_sub(since_ms);
        if late_ms > SLEPT_MS {
            self.woke_ms = Some(now.boot_ms);
            self.outage_since_ms = self.outage_since_ms.map(|since| since.saturating_add(late_ms));
        }
    }

    /// The machine woke just now, and the session with it.
    fn just_woke(&self, now: Timestamp) -> bool {
        self.woke_ms.is_some_and(|woke| now.boot_ms.saturating_sub(woke) < SLEPT_MS)
    }

    pub(super) fn on_deadline(&mut self, now: Timestamp, timer: Timer, epoch: u64) {
        if timer == Timer::Run {
            if self.verdict.is_none() {
                let which = Budget::Hours;
                self.wind_down(now, Outcome::Budget { which }, EndReason::Budget);
            }
            return;
        }
        if timer == Timer::Hang {
            return self.on_hang_deadline(now);
        }
        if epoch != self.epoch {
            return;
        }
        match timer {
            Timer::Start => self.on_start_deadline(now),
            Timer::Delivery => self.on_delivery_deadline(now),
            Timer::Checkpoint => self.on_checkpoint_deadline(now),
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
                    if self.just_woke(now) {
                        return self.timer(Timer::Gone, GONE_MS);
                    }
                    let why = "the session could not be ended; look for its processes".to_owned();
                    self.verdict = Some(Outcome::NeedsPerson { why });
                    self.session_is_gone(now, Exit::Unknown, 0, 1);
                }
            }
            Timer::Backoff => self.on_backoff_deadline(now),
            Timer::Cool => self.on_cool_deadline(now),
            Timer::Answer => self.on_answer_deadline(now),
            Timer::Run | Timer::Hang => {}
        }
    }

    /// longhaul's own work on files did not report: the run goes on without.
    pub(super) fn on_answer_deadline(&mut self, now: Timestamp) {
        if self.just_woke(now) {
            return self.timer(Timer::Answer, ANSWER_MS);
        }
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
                Between::Preparing => {
                    let why = late("looking at the project's settings");
                    self.finish(now, Outcome::NeedsPerson { why });
                }
                Between::Turnover => self.on_taking_late(now),
                Between::Backoff { .. } | Between::Held => {}
            },
            State::Turnover => self.on_taking_late(now),
            State::Judging { .. } => self.with_judge(now, |judge, _, _| judge.on_late()),
            State::Starting
            | State::Working
            | State::Held
            | State::Cooling { .. }
            | State::Ending { .. }
            | State::Finished { .. } => {}
        }
    }

    pub(super) fn on_copy_late(&mut self, now: Timestamp, trouble: String) {
        self.tell(Notice::Warning { text: trouble.clone() });
        self.with_live(|c| c.checkpoint.trouble = Some(trouble));
        self.go_on_from_keeping(now);
    }

    pub(super) fn on_backoff_deadline(&mut self, now: Timestamp) {
        let State::Between { step: Between::Backoff { until_unix_ms } } = &self.state else {
            return;
        };
        if let Some(left_ms) = left_ms(now, *until_unix_ms) {
            return self.wait_on(now, Timer::Backoff, left_ms);
        }
        if self.paused.is_some() {
            self.enter(State::Between { step: Between::Held });
        } else {
            self.go_to_next_session(now);
        }
    }

    /// The time of day is still to come. Somebody may have set the clock back: what
    /// bounds the wait is how long it really took.
    fn wait_on(&mut self, now: Timestamp, timer: Timer, left_ms: u64) {
        if self.is_past_waiting(now, 0) {
            return self.give_up_waiting(now);
        }
        self.timer(timer, left_ms.min(LOOK_AT_CLOCK_MS));
    }

    pub(super) fn on_cool_deadline(&mut self, now: Timestamp) {
        let State::Cooling { until_unix_ms, .. } = &self.state else {
            return;
        };
        if let Some(left_ms) = left_ms(now, *until_unix_ms) {
            return self.wait_on(now, Timer::Cool, left_ms);
        }
        if let Some(pressure) = self.pressure().filter(|p| p.is_over(&self.params)) {
            // The window became known in the meantime.
            self.tell(Notice::ThresholdReached(pressure));
            self.begin_ask(EndReason::Threshold);
        } else if self.paused.is_some() {
            self.enter(State::Held);
        } else if !std::mem::take(&mut self.replied_since_pause) {
            let text = self.continue_text();
            self.work_on(now, text);
        } else {
            // The model worked until then: is the task done, was there progress?
            // Turns that fail for ever after one reply must not go on for ever.
            self.begin_judging();
        }
    }

    pub(super) fn on_start_deadline(&mut self, now: Timestamp) {
        // A first turn may end without a reply (an unknown slash command); then
        // the session is told to go on, and waits for its first reply in Working.
        if !matches!(self.state, State::Starting | State::Working) || self.has_replied() {
            return;
        }
        if self.just_woke(now) {
            let after_ms = self.params.start_timeout_ms;
            return self.timer(Timer::Start, after_ms);
        }
        if self.limit_until_ms(now).is_some()
            || self.cli_retries.is_some()
            || self.outage_since_ms.is_some()
        {
            // The session is well; it is the API that does not answer.
            if self.is_past_waiting(now, 0) {
                return self.give_up_waiting(now);
            }
            let after_ms = self.params.start_timeout_ms;
            return self.timer(Timer::Start, after_ms);
        }
        self.end_session(EndReason::DeadStart);
    }

    pub(super) fn on_delivery_deadline(&mut self, now: Timestamp) {
        let is_held = self.held_at.is_some_and(|at| now.ms_since(at) < HELD_MS);
        if is_held {
            // The keeper types it as soon as it may.
            return self.timer(Timer::Delivery, DELIVERY_MS);
        }
        let is_asking = matches!(self.state, State::Checkpointing { .. });
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
            | State::Turnover
            | State::Held
            | State::Cooling { .. }
            | State::Ending { .. }
            | State::Between { .. }
            | State::Finished { .. } => return,
        };
        if retries > DELIVERY_RETRIES {
            let why = "the session takes no input: the typed text never showed in its transcript";
            if is_asking {
                self.give_up_asking(why);
            } else if !self.has_replied() {
                self.end_session(EndReason::DeadStart);
            } else {
                self.with_live(|c| c.checkpoint.trouble = Some(why.to_owned()));
                self.end_session(EndReason::NoProgress);
            }
            return;
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

    pub(super) fn on_checkpoint_deadline(&mut self, now: Timestamp) {
        let hurried = self.verdict.is_some();
        if self.just_woke(now) && !hurried {
            let after_ms = self.params.checkpoint_timeout_ms;
            return self.timer(Timer::Checkpoint, after_ms);
        }
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
}
