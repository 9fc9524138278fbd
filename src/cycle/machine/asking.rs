//! The checkpoint: asked for, proven, kept.

use super::{ANSWER_MS, DELIVERY_MS, Machine};
use crate::clock::Timestamp;
use crate::cycle::action::{Action, Notice, Timer};
use crate::cycle::record::CheckpointStatus;
use crate::cycle::state::{Ask, AskPhase, Between, EndReason, State};

impl Machine {
    pub(super) fn begin_ask(&mut self, reason: EndReason) {
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

    pub(super) fn ask(&mut self, attempt: u32, text: String) {
        let reason = self.reason.unwrap_or(EndReason::Threshold);
        self.held_at = None;
        self.out.push(Action::Type { text: text.clone() });
        self.tell(Notice::CheckpointRequested { attempt, reason });
        let heard = matches!(&self.state, State::Checkpointing { ask } if ask.heard);
        let ask = Ask { attempt, text, phase: AskPhase::Typed, retries: 0, heard };
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
    pub(super) fn ask_again_or_give_up(&mut self, missing: &str) {
        let State::Checkpointing { ask } = &self.state else {
            return;
        };
        if ask.attempt == 1 && self.verdict.is_none() {
            let text =
                format!("CHECKPOINT, second request: {missing}. {}", self.params.checkpoint_prompt);
            self.ask(2, text);
        } else {
            self.give_up_asking(missing);
        }
    }

    pub(super) fn give_up_asking(&mut self, missing: &str) {
        self.with_live(|c| c.checkpoint.trouble = Some(missing.to_owned()));
        self.tell(Notice::CheckpointFailed { reason: missing.to_owned() });
        self.end_session(self.reason.unwrap_or(EndReason::Threshold));
    }

    pub(super) fn on_proof(&mut self, changed: Vec<String>, shortfalls: &[String], digest: String) {
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
        self.failed = None;
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
    pub(super) fn prove(&mut self) {
        if let State::Checkpointing { ask } = &mut self.state {
            ask.phase = AskPhase::Proving;
            self.out.push(Action::Prove);
            self.timer(Timer::Answer, ANSWER_MS);
        }
    }

    pub(super) fn on_kept(&mut self, now: Timestamp, folder: String, trouble: Option<String>) {
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
    pub(super) fn go_on_from_keeping(&mut self, now: Timestamp) {
        self.keeping = None;
        match &self.state {
            State::Checkpointing { ask } if ask.phase == AskPhase::Keeping => {
                self.end_session(self.reason.unwrap_or(EndReason::Threshold));
            }
            State::Between { step: Between::Keeping } => self.enter_between(now),
            State::Checkpointing { .. }
            | State::Between { .. }
            | State::Starting
            | State::Working
            | State::Judging { .. }
            | State::Turnover
            | State::Held
            | State::Cooling { .. }
            | State::Ending { .. }
            | State::Finished { .. } => {}
        }
    }
}
