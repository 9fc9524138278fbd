//! What comes next when a turn or a session has ended.

use super::{ANSWER_MS, DELIVERY_MS, Machine, Typed, blocked};
use crate::clock::Timestamp;
use crate::cycle::action::{Action, Notice, Timer};
use crate::cycle::event::TaskReading;
use crate::cycle::failure::{Class, DEAD_STARTS};
use crate::cycle::judge::{Judge, Verdict};
use crate::cycle::record::Pause;
use crate::cycle::state::{Between, Budget, EndReason, Outcome, State};

impl Machine {
    pub(super) fn begin_judging(&mut self) {
        let judge = Judge::new(self.judged_at, &mut self.out);
        self.enter(State::Judging { judge });
        self.timer(Timer::Answer, ANSWER_MS);
    }

    pub(super) fn judge_between(&mut self, now: Timestamp) {
        if self.params.queue && self.assignment().is_none_or(|task| task.is_done) {
            return match self.verdict {
                Some(_) => self.finish_with_verdict(now),
                None => self.take_task(),
            };
        }
        let since = self.live.as_ref().map_or(now, |c| c.started_at);
        let judge = Judge::new(since, &mut self.out);
        self.enter(State::Between { step: Between::Judging { judge } });
        self.timer(Timer::Answer, ANSWER_MS);
    }

    pub(super) fn cancel_judge(&mut self) {
        if self.state.judge().is_some_and(Judge::is_verifying) {
            self.out.push(Action::CancelVerify);
        }
    }

    /// Runs `answer` on the judge in hand, if there is one.
    pub(super) fn with_judge(
        &mut self,
        now: Timestamp,
        answer: impl FnOnce(&mut Judge, &mut Vec<Action>, u64) -> Option<Verdict>,
    ) {
        let epoch = self.epoch;
        let alive = matches!(self.state, State::Judging { .. });
        let Some(judge) = self.state.judge_mut() else { return };
        let verdict = answer(judge, &mut self.out, epoch);
        match (verdict, alive) {
            (Some(verdict), true) => self.on_verdict_alive(now, verdict),
            (Some(verdict), false) => self.on_verdict_between(now, verdict),
            (None, _) => {}
        }
    }

    pub(super) fn on_task_read(&mut self, now: Timestamp, reading: &TaskReading) {
        if let TaskReading::Read { digest, ticked, total, .. } = reading {
            let (ticked, total) = (*ticked, *total);
            if self.tasks_digest.is_none() || (self.tasks_done, self.tasks_total) != (ticked, total)
            {
                self.tell(Notice::Tasks { done: ticked, total });
            }
            let is_new = self.tasks_digest.as_ref().is_some_and(|old| old != digest);
            // The answer to a checkpoint request always touches the task file; it
            // may be read only when the session is being ended already.
            let may_be_checkpoint =
                matches!(self.state, State::Checkpointing { .. } | State::Ending { .. });
            if is_new && !may_be_checkpoint {
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
        // for a verify command; only a spent budget, or a limit, may still meet a finished task.
        let settled = self.verdict.as_ref().is_some_and(|verdict| {
            !matches!(verdict, Outcome::Budget { .. } | Outcome::LimitPast { .. })
        });
        if settled && matches!(self.state, State::Between { step: Between::Judging { .. } }) {
            self.finish_with_verdict(now);
            return;
        }
        let verify = self.must_verify();
        self.with_judge(now, |judge, out, epoch| judge.on_read(reading, verify, epoch, out));
    }

    pub(super) fn mark_progress(&mut self) {
        self.nudges_in_a_row = 0;
        if self.alive {
            self.with_live(|c| c.progress = true);
        }
    }

    pub(super) fn on_verify_ended(&mut self, now: Timestamp, passed: bool, tail: &str) {
        if self.state.judge().is_some_and(Judge::is_verifying) {
            self.tell(Notice::Verified { passed });
            self.timer(Timer::Answer, ANSWER_MS);
            self.with_assignment(|task| task.verified = Some(passed));
        }
        self.with_judge(now, |judge, out, _| judge.on_verify(passed, tail, out));
    }

    /// Also those of a verify command that nobody waits for any more.
    pub(super) fn on_verify_survivors(&mut self, survivors: u32) {
        if survivors > 0 {
            self.with_live(|c| c.survivors = c.survivors.saturating_add(survivors));
            let text = format!("{survivors} process(es) of the verify command could not be ended");
            self.tell(Notice::Warning { text });
        }
    }

    pub(super) fn on_progress_weighed(&mut self, now: Timestamp, changed: bool) {
        self.with_judge(now, |judge, _, _| judge.on_weighed(changed));
    }

    /// The turn ended and the session is idle.
    pub(super) fn on_verdict_alive(&mut self, now: Timestamp, verdict: Verdict) {
        match verdict {
            Verdict::Done if self.is_turned_over(now) => {}
            Verdict::Done => {
                self.verdict = Some(Outcome::Done);
                self.end_session(EndReason::Done);
            }
            Verdict::Blocked { reason } => {
                self.with_assignment(|task| task.is_declared_blocked = true);
                self.verdict = Some(Outcome::NeedsPerson { why: blocked(&reason) });
                self.end_session(EndReason::Blocked);
            }
            Verdict::Open { note, progress } => self.go_on(now, note, progress),
            Verdict::Unreadable { problem, progress } => {
                let note = format!(
                    "The task file cannot be read: {}. Put it right, then go on with the next open task.",
                    crate::text::quoted(&problem)
                );
                self.go_on(now, Some(note), progress);
            }
        }
    }

    /// Work is left, and the session is idle.
    pub(super) fn go_on(&mut self, now: Timestamp, note: Option<String>, progress: bool) {
        if progress {
            self.mark_progress();
        }
        self.judged_at = now;
        if let Some(pressure) = self.pressure().filter(|p| p.is_over(&self.params)) {
            self.note = note;
            self.tell(Notice::ThresholdReached(pressure));
            self.begin_ask(EndReason::Threshold);
        } else if self.paused.is_some() {
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
            let text = note.or(kept).unwrap_or_else(|| self.continue_text());
            self.with_live(|c| c.nudges += 1);
            self.tell(Notice::Nudged { count });
            self.work_on(now, text);
        }
    }

    /// Types a prompt into the idle session.
    pub(super) fn work_on(&mut self, now: Timestamp, text: String) {
        self.enter(State::Working);
        self.watch_turn(now);
        self.held_at = None;
        self.out.push(Action::Type { text: text.clone() });
        self.typed = Some(Typed { text, retries: 0 });
        self.timer(Timer::Delivery, DELIVERY_MS);
        if !self.has_replied() {
            self.timer(Timer::Start, self.params.start_timeout_ms);
        }
    }

    /// Did the model ever answer in the live session?
    pub(super) fn has_replied(&self) -> bool {
        self.live.as_ref().is_some_and(|c| c.gauge.tokens.is_some())
    }

    /// No session is alive.
    pub(super) fn on_verdict_between(&mut self, now: Timestamp, verdict: Verdict) {
        let (note, progress) = match verdict {
            Verdict::Done if self.is_turned_over(now) => return,
            Verdict::Done => return self.finish(now, Outcome::Done),
            Verdict::Blocked { reason } => {
                self.with_assignment(|task| task.is_declared_blocked = true);
                return self.finish(now, Outcome::NeedsPerson { why: blocked(&reason) });
            }
            Verdict::Unreadable { problem, .. } => {
                let why = format!("the task file cannot be read: {problem}");
                return self
                    .finish(now, self.verdict.clone().unwrap_or(Outcome::NeedsPerson { why }));
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
            if let Outcome::NeedsPerson { why } = &outcome {
                // The screen of the sessions that never answered is what there is to see.
                self.needs_person(why.clone(), self.last_screen.clone());
            }
            return self.finish(now, outcome);
        }
        if self.paused.is_some() {
            return self.enter(State::Between { step: Between::Held });
        }
        let cut_pause = self.cut_pause.take();
        match self.failed.take() {
            Some(class) => {
                let attempt = match class {
                    Class::DeadStart => self.dead_starts_in_a_row,
                    Class::Hang => self.hung_in_a_row,
                    Class::Refused | Class::OutputLimit => self.failures_in_a_row,
                    class if class.is_outage() => self.failures_in_a_row,
                    _ => self.no_progress_in_a_row,
                };
                let attempt = attempt.max(1);
                let ms = class.pause_ms(self.run_id, attempt);
                if class.is_outage() && self.is_past_waiting(now, ms) {
                    return self.give_up_waiting(now);
                }
                let after_ms = self.pause_after(class, attempt);
                self.enter(State::Between { step: Between::Backoff { until_unix_ms: None } });
                self.timer(Timer::Backoff, after_ms);
            }
            None if self.waits_out(now, cut_pause) => {}
            None => self.go_to_next_session(now),
        }
    }

    /// Waits out what is left of a pause that was cut short. True if there is any.
    fn waits_out(&mut self, now: Timestamp, cut: Option<Pause>) -> bool {
        // A look whether the program is back costs nothing.
        let Some(pause) = cut.filter(|pause| pause.class != Class::CliMissing) else {
            return false;
        };
        let left_ms = pause.left_ms(now);
        // A limit that holds says itself until when.
        if left_ms == 0 || self.limit_until_ms(now).is_some() {
            return false;
        }
        self.tell_pause(pause.class, pause.attempt, left_ms);
        self.enter(State::Between { step: Between::Backoff { until_unix_ms: None } });
        self.timer(Timer::Backoff, left_ms);
        true
    }

    /// Books whether the cycle that ended made progress. A pause or a crash may
    /// have it judged again; it counts once. Dead starts have their own bound,
    /// which tells the person what the screen said.
    pub(super) fn count_progress(&mut self, progress: bool) {
        let Some(live) = &mut self.live else { return };
        live.progress |= progress;
        if live.end_reason == Some(EndReason::DeadStart) {
            return;
        }
        // That longhaul was killed is not the session's fault.
        if live.end_reason == Some(EndReason::SupervisorLost) && !live.progress {
            return;
        }
        // Nor that the API gave it no reply; limits.max_wait_hours bounds that.
        let never_replied = live.gauge.tokens.is_none();
        if never_replied && self.outage_since_ms.is_some() {
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

    pub(super) fn reason_to_stop(&self) -> Option<Outcome> {
        if self.dead_starts_in_a_row >= DEAD_STARTS {
            let why = format!(
                "{} sessions in a row ended without one reply; the last thing seen: {}",
                self.dead_starts_in_a_row,
                if self.last_activity.is_empty() { "nothing" } else { &self.last_activity }
            );
            return Some(Outcome::NeedsPerson { why });
        }
        if self.no_progress_in_a_row >= self.params.no_progress_cycles {
            return Some(Outcome::NoProgress);
        }
        if self.outage_since_ms.is_some() && self.is_past_waiting(self.last_now, 0) {
            let why = "the API gives no reply".to_owned();
            return Some(Outcome::LimitPast { why, resets_unix_ms: None });
        }
        if let Some(which) = self.spent_budget() {
            return Some(Outcome::Budget { which });
        }
        if self.measured().sessions >= self.params.max_sessions {
            return Some(Outcome::Budget { which: Budget::Sessions });
        }
        None
    }
}
