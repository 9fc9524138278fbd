//! How a run begins, winds down and ends.

use super::{HURRIED_EXIT_MS, Machine};
use crate::clock::Timestamp;
use crate::cycle::action::{Action, Notice, Timer};
use crate::cycle::event::Exit;
use crate::cycle::params::Params;
use crate::cycle::record::{Bill, Spend};
use crate::cycle::state::{Between, EndReason, Outcome, State};

impl Machine {
    pub(super) fn on_started(&mut self, now: Timestamp) {
        self.tell(Notice::RunStarted);
        self.set_run_timer(now);
        self.rates.restart(0, 0, 0.0);
        self.enter_between(now);
    }

    pub(super) fn on_recovered(
        &mut self,
        before: Timestamp,
        now: Timestamp,
        params: Params,
        spend: Option<Spend>,
        bill: Option<Bill>,
        killed: u32,
    ) {
        self.budgets.reconfigure(&self.params.budget, &params.budget);
        self.params = params;
        // Only the time in which longhaul lived counts for limits.max_hours: up
        // to the last thing the lost process noted, on the clock of its boot.
        self.elapsed_before_ms =
            self.elapsed_before_ms.saturating_add(before.ms_since(self.clock_base));
        self.clock_base = now;
        self.paused = None;
        self.verdict = None;
        // Nobody may have heard of it; and the fresh session may not ask again.
        self.asked = None;
        self.signals = 0;
        // What was waited for is waited for still, and told to whoever listens now.
        self.cut_pause = self.pause_in_hand().or(self.cut_pause);
        self.is_wait_untold = true;
        let lost_cycle = self.live.as_ref().filter(|_| self.alive).map(|c| c.cycle);
        self.tell(Notice::RunResumed { lost_cycle, killed });
        self.announce_task();
        self.set_run_timer(now);
        if let (Some(live), true) = (&mut self.live, self.alive) {
            if let Some(spend) = spend {
                live.spend = spend;
            }
            if bill.is_some() {
                live.bill = bill;
            }
            let (tokens, cost_usd) = (self.tokens_total(), self.cost_ceiling_usd());
            self.rates.restart(self.elapsed_ms(now), tokens, cost_usd);
            self.tell_budgets(now);
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
        self.elapsed_before_ms.saturating_add(now.ms_since(self.clock_base))
    }

    pub(super) fn set_run_timer(&mut self, now: Timestamp) {
        // The time of a task counts from when it was given.
        let before_ms = self.assignment().map_or(0, |task| task.mark.elapsed_ms);
        let used_ms = self.elapsed_ms(now).saturating_sub(before_ms);
        let left = self.params.max_ms.saturating_sub(used_ms);
        self.out.push(Action::SetTimer { timer: Timer::Run, epoch: 0, after_ms: left });
    }

    /// The run ends with `outcome`, after a checkpoint if one can be had.
    pub(super) fn wind_down(&mut self, now: Timestamp, outcome: Outcome, reason: EndReason) {
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
            // What is next is about to be known.
            State::Turnover | State::Ending { .. } | State::Finished { .. } => {}
            State::Between { step } => match step {
                Between::Keeping | Between::Briefing | Between::Turnover => {}
                // The budget may run out on a task that is done.
                Between::Judging { .. } if is_budget => {}
                Between::Judging { .. }
                | Between::Backoff { .. }
                | Between::Preparing
                | Between::Held => {
                    self.cancel_judge();
                    self.finish_with_verdict(now);
                }
            },
        }
    }

    /// Ends the session and the run without asking for anything.
    pub(super) fn end_now(&mut self, now: Timestamp, outcome: Outcome, reason: EndReason) {
        self.settle(outcome);
        match &self.state {
            State::Starting
            | State::Working
            | State::Turnover
            | State::Held
            | State::Judging { .. }
            | State::Cooling { .. }
            | State::Checkpointing { .. } => {
                self.cancel_judge();
                self.end_hurriedly(reason);
            }
            State::Ending { surely: false } => self.end_surely(),
            State::Ending { surely: true } | State::Finished { .. } => {}
            State::Between { step } => match step {
                Between::Keeping | Between::Briefing => {}
                Between::Judging { .. }
                | Between::Backoff { .. }
                | Between::Preparing
                | Between::Turnover
                | Between::Held => {
                    self.cancel_judge();
                    self.finish_with_verdict(now);
                }
            },
        }
    }

    /// Ends the session, with little time for its last words.
    pub(super) fn end_hurriedly(&mut self, reason: EndReason) {
        self.end_session(reason);
        self.timer(Timer::Exit, HURRIED_EXIT_MS.min(self.params.exit_timeout_ms));
    }

    /// What the run will end with. A task that was found done stays done,
    /// whatever comes while its session is being ended.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        if self.verdict != Some(Outcome::Done) {
            self.verdict = Some(outcome);
        }
    }

    pub(super) fn finish_with_verdict(&mut self, now: Timestamp) {
        if let Some(outcome) = self.verdict.clone() {
            self.finish(now, outcome);
        }
    }

    pub(super) fn finish(&mut self, now: Timestamp, outcome: Outcome) {
        self.close_cycle();
        self.end_wait(now);
        self.settle_last_task(now, &outcome);
        if let Outcome::NeedsPerson { why } = &outcome {
            // What stands in the way between sessions is on no screen, and the last
            // words of a session that is gone explain nothing.
            self.needs_person(why.clone(), String::new());
        }
        self.ended_at = Some(now);
        self.elapsed_before_ms = self.elapsed_ms(now);
        self.clock_base = now;
        self.tell(Notice::RunFinished { outcome: outcome.clone() });
        self.enter(State::Finished { outcome });
    }
}
