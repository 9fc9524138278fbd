//! Launching a session, ending it, and what is owed when it is gone.

use super::{ANSWER_MS, GONE_MS, Machine, READ_BRIEF, session_id};
use crate::clock::Timestamp;
use crate::cycle::action::{Action, Notice, Timer};
use crate::cycle::event::Exit;
use crate::cycle::failure::Class;
use crate::cycle::record::{CheckpointStatus, CycleRecord};
use crate::cycle::state::{AskPhase, Between, EndReason, State};

impl Machine {
    pub(super) fn launch(&mut self, now: Timestamp) {
        self.close_cycle();
        let cycle = self.past.len() as u32 + 1;
        let session_id = session_id(self.run_id, cycle);
        self.live =
            Some(CycleRecord::new(cycle, session_id, now, (self.tasks_done, self.tasks_total)));
        self.alive = true;
        self.announced = false;
        // The words of another session would explain this one wrongly.
        self.last_screen.clear();
        self.last_activity.clear();
        self.reason = None;
        self.nudges_in_a_row = 0;
        self.typed = None;
        self.judged_at = now;
        self.no_progress_before = self.no_progress_in_a_row;
        self.api_failures_in_a_row = 0;
        self.declined_in_a_row = 0;
        self.failed = None;
        self.replied_since_pause = false;
        self.held_at = None;
        let is_briefed =
            self.past.last().is_some_and(|c| c.checkpoint.status == CheckpointStatus::Handoff);
        let brief = is_briefed.then(|| READ_BRIEF.to_owned());
        // Whatever the init prompt is, the session must know of these.
        self.note_fresh_session();
        let task = self.assignment().map(|task| task.given.prompt.clone());
        let prompt = [Some(self.params.init_prompt.clone()), task, brief, self.note.take()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ");
        self.enter(State::Starting);
        // Beside the start of the session, which takes longer before it changes
        // anything, unless the tree is very large.
        self.out.push(Action::KeepTree { cycle });
        self.out.push(Action::Launch { cycle, session_id, prompt });
        self.watch_turn(now);
        self.timer(Timer::Start, self.params.start_timeout_ms);
    }

    pub(super) fn announce(&mut self) {
        if self.announced {
            return;
        }
        if let Some(CycleRecord { pid: Some(pid), session_id, model, .. }) = &self.live {
            let notice =
                Notice::SessionStarted { session_id: *session_id, pid: *pid, model: model.clone() };
            self.announced = true;
            self.tell(notice);
        }
    }

    pub(super) fn end_session(&mut self, reason: EndReason) {
        self.reason = Some(reason);
        self.enter(State::Ending { surely: false });
        self.out.push(Action::EndPolitely);
        self.timer(Timer::Exit, self.params.exit_timeout_ms);
    }

    /// Ends the session, but lets a copy of a proven checkpoint be finished: the
    /// session is ended right after it anyway.
    pub(super) fn end_unless_keeping(&mut self, reason: EndReason) {
        if matches!(&self.state, State::Checkpointing { ask } if ask.phase == AskPhase::Keeping) {
            self.reason = Some(reason);
        } else {
            self.cancel_judge();
            self.end_session(reason);
        }
    }

    pub(super) fn end_surely(&mut self) {
        self.enter(State::Ending { surely: true });
        self.out.push(Action::EndSurely);
        self.timer(Timer::Gone, GONE_MS);
    }

    pub(super) fn session_is_gone(
        &mut self,
        now: Timestamp,
        exit: Exit,
        killed: u32,
        survivors: u32,
    ) {
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
            c.survivors = c.survivors.saturating_add(survivors);
        });
        self.alive = false;
        if let Some(limit) = &mut self.limit {
            // Whoever would have gone on by itself is gone.
            limit.continues = false;
        }
        self.typed = None;
        self.book_cli_retries();
        if reason == EndReason::DeadStart {
            self.dead_starts_in_a_row += 1;
            self.fail(Class::DeadStart);
            self.failed = Some(Class::DeadStart);
        }
        self.tell(Notice::SessionEnded { reason, exit, killed, survivors });
        if survivors > 0 {
            let text = format!("{survivors} process(es) of the session could not be ended");
            self.tell(Notice::Warning { text });
        }
        self.enter_between(now);
    }

    /// Waits for the copy of the checkpoint, or writes the brief if the session
    /// left none; then asks what is next.
    pub(super) fn enter_between(&mut self, now: Timestamp) {
        if self.keeping.is_some() {
            self.enter(State::Between { step: Between::Keeping });
            self.timer(Timer::Answer, ANSWER_MS);
        } else if let Some(why) = self.needs_brief() {
            let cycle = self.live.as_ref().map_or(0, |c| c.cycle);
            self.enter(State::Between { step: Between::Briefing });
            self.out.push(Action::WriteHandoff { cycle, why });
            self.timer(Timer::Answer, ANSWER_MS);
        } else {
            self.judge_between(now);
        }
    }

    /// Why a brief is needed, if it is.
    pub(super) fn needs_brief(&self) -> Option<String> {
        let live = self.live.as_ref()?;
        // Of a session whose longhaul was killed only the record may know of a reply.
        let has_worked = live.gauge.tokens.is_some() || live.spend.tokens.total() > 0;
        if live.ended_at.is_none() || !has_worked {
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
                None => format!("the session ended without a checkpoint ({})", reason.as_str()),
            }),
        }
    }

    pub(super) fn on_handoff_written(&mut self, now: Timestamp, trouble: Option<String>) {
        // A late one would be booked to the next cycle.
        if !matches!(self.state, State::Between { step: Between::Briefing }) {
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

    pub(super) fn close_cycle(&mut self) {
        if let Some(live) = self.live.take() {
            self.past.push(live);
        }
    }
}
