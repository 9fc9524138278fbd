//! Tasks of the queue: one is done, which is next?
//!
//! A run of the queue has one task in hand at a time. When its section of the
//! task file says done, the next one of its batch is asked for; the live session
//! gets it as a prompt, unless its context is full by then. Where there is none
//! the run ends as any other does, and the last task is settled with the run's
//! last figures.

use super::{ANSWER_MS, Machine};
use crate::clock::Timestamp;
use crate::cycle::action::{Action, Notice, Timer};
use crate::cycle::assignment::{Assignment, End, Given, Totals};
use crate::cycle::state::{Between, EndReason, Outcome, State};
use crate::text;

impl Machine {
    /// The task in hand.
    pub(super) fn assignment(&self) -> Option<&Assignment> {
        self.assignments.last().filter(|task| task.end.is_none())
    }

    pub(super) fn with_assignment(&mut self, change: impl FnOnce(&mut Assignment)) {
        if let Some(task) = self.assignments.last_mut().filter(|task| task.end.is_none()) {
            change(task);
        }
    }

    /// The run's totals of now.
    pub(super) fn totals(&self) -> Totals {
        self.totals_at(self.last_now)
    }

    fn totals_at(&self, now: Timestamp) -> Totals {
        let mut totals = Totals {
            cost_usd: self.cost_total_usd(),
            cost_ceiling_usd: self.cost_ceiling_usd(),
            elapsed_ms: self.elapsed_ms(self.ended_at.unwrap_or(now)),
            failures: self.failures.iter().map(|(class, f)| (*class, f.count)).collect(),
            ..Totals::default()
        };
        for cycle in self.cycles() {
            totals.tokens.add(&cycle.spend.tokens);
            totals.unpriced_tokens =
                totals.unpriced_tokens.saturating_add(cycle.spend.unpriced_tokens);
            totals.unpriced_ceiling_usd += cycle.spend.unpriced_ceiling_usd;
            totals.sessions += 1;
        }
        totals
    }

    /// What limits are measured by: the whole run, or the task in hand.
    pub(super) fn measured(&self) -> Totals {
        self.measured_at(self.last_now)
    }

    /// The same at `now`.
    pub(in crate::cycle) fn measured_at(&self, now: Timestamp) -> Totals {
        let totals = self.totals_at(now);
        match self.assignment() {
            Some(task) => task.added(&totals),
            None => totals,
        }
    }

    /// Typed when a turn ends with work left.
    pub(super) fn continue_text(&self) -> String {
        let own = self.assignment().map(|task| task.given.continue_prompt.clone());
        own.unwrap_or_else(|| self.params.continue_prompt.clone())
    }

    /// Must a command agree before done counts?
    pub(super) fn must_verify(&self) -> bool {
        self.params.verify || self.assignment().is_some_and(|task| task.given.verify.is_some())
    }

    /// Asks for the next task. The one in hand, if there is one, is done.
    pub(super) fn take_task(&mut self) {
        let after = self.assignment().map(|task| task.given.task_id.clone());
        self.out.push(Action::TakeTask { after });
        let state = match self.alive {
            true => State::Turnover,
            false => State::Between { step: Between::Turnover },
        };
        self.enter(state);
        self.timer(Timer::Answer, ANSWER_MS);
    }

    /// The task file says done. True if there is a task of the queue in hand, and the
    /// next is being asked for.
    pub(super) fn is_turned_over(&mut self, now: Timestamp) -> bool {
        if self.assignment().is_none() {
            return false;
        }
        self.with_assignment(|task| task.is_done = true);
        match self.verdict {
            // Nothing more is begun.
            Some(_) => self.finish_or_end(now),
            None => self.take_task(),
        }
        true
    }

    fn finish_or_end(&mut self, now: Timestamp) {
        match self.alive {
            true => self.end_session(EndReason::Done),
            false => self.finish_with_verdict(now),
        }
    }

    pub(super) fn on_task_given(
        &mut self,
        now: Timestamp,
        after: Option<&str>,
        given: Option<Given>,
        trouble: Option<String>,
    ) {
        let is_asked =
            matches!(self.state, State::Turnover | State::Between { step: Between::Turnover });
        // The answer to an earlier question comes twice when longhaul was killed.
        if !is_asked || self.assignment().map(|task| task.given.task_id.as_str()) != after {
            return;
        }
        if let Some(why) = trouble {
            self.verdict.get_or_insert(Outcome::NeedsPerson { why });
            return self.finish_or_end(now);
        }
        let Some(given) = given else {
            // With a verdict, what was in the way of the run ends it; the task is done.
            self.verdict.get_or_insert(Outcome::Done);
            return self.finish_or_end(now);
        };
        if self.assignment().is_some() {
            self.settle_task(now, End::Done);
        }
        self.begin_task(now, given);
        if self.verdict.is_some() {
            // Stopped meanwhile: the task goes back as it came.
            return self.finish_or_end(now);
        }
        match self.alive {
            true => self.hand_over(now),
            false => self.judge_between(now),
        }
    }

    pub(super) fn on_taking_late(&mut self, now: Timestamp) {
        let after = self.assignment().map(|task| task.given.task_id.clone());
        let why = "taking the next task from the queue took too long".to_owned();
        self.on_task_given(now, after.as_deref(), None, Some(why));
    }

    /// Whoever listens hears which task is in hand.
    pub(super) fn announce_task(&mut self) {
        let Some(Given { task_id, attempt, batch_id, batch_position, title, .. }) =
            self.assignment().map(|task| task.given.clone())
        else {
            return;
        };
        self.tell(Notice::TaskStarted { task_id, attempt, batch_id, batch_position, title });
    }

    fn begin_task(&mut self, now: Timestamp, given: Given) {
        let mark = self.totals();
        self.begin_budget(&given);
        self.assignments.push(Assignment::new(given, now, mark));
        self.announce_task();
        self.tell_budgets(now);
        self.judged_at = now;
        self.nudges_in_a_row = 0;
        self.no_progress_in_a_row = 0;
        self.no_progress_before = 0;
        self.note = None;
        // The file has another section now: no progress of the session's.
        self.tasks_digest = None;
        self.tasks_done_at_start = None;
        self.set_run_timer(now);
    }

    /// The live session gets the task, or makes room for it.
    fn hand_over(&mut self, now: Timestamp) {
        let Some(prompt) = self.assignment().map(|task| task.given.prompt.clone()) else { return };
        if let Some(pressure) = self.pressure().filter(|p| p.is_over(&self.params)) {
            self.tell(Notice::ThresholdReached(pressure));
            return self.begin_ask(EndReason::Threshold);
        }
        let context = self.live.as_ref().and_then(|c| c.gauge.tokens).unwrap_or(0);
        let first = self.live.as_ref().and_then(|c| c.gauge.first_tokens).unwrap_or(0);
        let loaded = self.mean_first_context();
        self.with_assignment(|task| {
            task.is_shared = true;
            task.saved_tokens = loaded;
            task.carried_tokens = context.saturating_sub(first);
            task.last_context = Some(context);
        });
        if self.paused.is_some() {
            self.note = Some(prompt);
            return self.enter(State::Held);
        }
        self.work_on(now, prompt);
    }

    /// What a session of this run has in its context at its first reply, on average.
    fn mean_first_context(&self) -> u64 {
        let first: Vec<u64> = self.cycles().filter_map(|c| c.gauge.first_tokens).collect();
        let count = u64::try_from(first.len()).unwrap_or(u64::MAX).max(1);
        first.iter().fold(0, |sum: u64, tokens| sum.saturating_add(*tokens)) / count
    }

    /// A reply came, with that much in the context.
    pub(super) fn note_load(&mut self, tokens: u64) {
        let is_fresh = self.live.as_ref().is_some_and(|c| c.gauge.first_tokens == Some(tokens));
        let limit = self.params.warn_input_tokens;
        let mut load = None;
        self.with_assignment(|task| {
            if task.last_context == Some(tokens) {
                return;
            }
            let before = task.last_context.replace(tokens);
            task.extra_cache_read_tokens =
                task.extra_cache_read_tokens.saturating_add(task.carried_tokens);
            // What a task loads is seen at the first reply: of a fresh session all, of
            // one that was at work what came to it.
            let is_first = is_fresh || (task.is_shared && !task.has_reply);
            task.has_reply = true;
            let loaded = if is_fresh { tokens } else { tokens.saturating_sub(before.unwrap_or(0)) };
            if is_first && loaded > limit && !task.is_load_told {
                task.is_load_told = true;
                load = Some((task.given.task_id.clone(), loaded));
            }
        });
        let Some((task_id, loaded)) = load else { return };
        let text = format!(
            "task {task_id} loaded {} tokens of context (queue.warn_input_tokens = {}): break it \
             into smaller tasks, or reduce what its sessions read at the start",
            text::grouped(loaded),
            text::grouped(limit)
        );
        self.with_assignment(|task| task.warnings.push(text.clone()));
        self.warn(text);
    }

    /// A fresh session carries nothing of the tasks before.
    pub(super) fn note_fresh_session(&mut self) {
        self.with_assignment(|task| {
            task.sessions += 1;
            // It loaded one after all.
            task.saved_tokens = 0;
            task.carried_tokens = 0;
            task.last_context = None;
        });
    }

    /// The run is done with the task in hand.
    pub(super) fn settle_task(&mut self, now: Timestamp, end: End) {
        let totals = self.totals();
        let Some(task) = self.assignments.last_mut().filter(|task| task.end.is_none()) else {
            return;
        };
        task.added = task.added(&totals);
        task.sessions += u32::from(task.is_shared);
        task.ended_at = Some(now);
        task.end = Some(end);
        let settled = Box::new(task.clone());
        self.out.push(Action::SettleTask { assignment: settled.clone() });
        self.tell(Notice::TaskFinished { assignment: settled });
    }

    /// The task in hand as it would go back to the queue, if the run were not taken up any
    /// more: its project is gone.
    pub fn abandoned(&self, why: &str) -> Option<Assignment> {
        let mut end = self.clone();
        let last = end.last_now;
        end.settle_task(last, End::Released { why: why.to_owned() });
        let had = self.assignment().is_some();
        end.assignments.pop().filter(|_| had)
    }

    /// The run ends: what becomes of the task in hand?
    pub(super) fn settle_last_task(&mut self, now: Timestamp, outcome: &Outcome) {
        let Some(task) = self.assignment() else { return };
        let has_worked = task.sessions > 0 || task.is_shared;
        let end = match task {
            task if task.is_done => End::Done,
            task if task.is_cancelled => End::Cancelled,
            _ => End::of(outcome, has_worked),
        };
        self.settle_task(now, end);
    }
}
