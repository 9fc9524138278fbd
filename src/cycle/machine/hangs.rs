//! A turn in which nothing moves: told, interrupted, ended.

use super::Machine;
use crate::clock::Timestamp;
use crate::cycle::action::{Action, Notice, Timer};
use crate::cycle::failure::Class;
use crate::cycle::liveness::{Hang, HangStep, Liveness, Pulse, Sign};
use crate::cycle::state::{EndReason, State};

impl Machine {
    /// A turn begins: its clock starts.
    pub(super) fn watch_turn(&mut self, now: Timestamp) {
        self.liveness = Liveness::new(now);
        self.look_at_pulse_later(now);
    }

    pub(super) fn look_at_pulse_later(&mut self, now: Timestamp) {
        let after_ms = self.liveness.due_in_ms(now, &self.params.hang);
        self.out.push(Action::SetTimer { timer: Timer::Hang, epoch: 0, after_ms });
    }

    pub(super) fn on_sign(&mut self, now: Timestamp, sign: Sign) {
        self.liveness.sign(now, sign);
    }

    pub(super) fn on_hang_deadline(&mut self, now: Timestamp) {
        // A request for a checkpoint has deadlines of its own, and idle is no hang.
        if !matches!(self.state, State::Starting | State::Working) {
            return;
        }
        if self.limit_until_ms(now).is_some() {
            // It waits for the limit, and rightly so.
            return self.watch_turn(now);
        }
        let is_same_hang = self.liveness.is_interrupted();
        let Pulse::Hung { step, signal, flat_ms } = self.liveness.look(now, &self.params.hang)
        else {
            return self.look_at_pulse_later(now);
        };
        let step = self.step_taken(step);
        self.tell(Notice::Hang { signal: signal.to_owned(), flat_ms, step });
        if step != HangStep::Warn && !is_same_hang {
            self.fail(Class::Hang);
            self.hung_in_a_row += 1;
        }
        match step {
            HangStep::Warn => {}
            HangStep::Interrupt => {
                self.note = Some(note(signal, flat_ms, &self.continue_text()));
                self.out.push(Action::PressEscape);
            }
            HangStep::End => {
                self.failed = Some(Class::Hang);
                return self.end_session(EndReason::Hang);
            }
        }
        self.look_at_pulse_later(now);
    }

    /// Esc did not help the last turn: what hangs again is replaced. So is what
    /// never replied: Esc would take the first prompt back.
    fn step_taken(&self, step: HangStep) -> HangStep {
        let is_hopeless = self.hung_in_a_row > 0 || matches!(self.state, State::Starting);
        match step {
            HangStep::Interrupt if is_hopeless => HangStep::End,
            step => step,
        }
    }

    /// The hang that was told, while it lasts.
    pub(in crate::cycle) fn hang(&self, now: Timestamp) -> Option<Hang> {
        let may_hang = matches!(self.state, State::Starting | State::Working);
        if !may_hang || self.limit_until_ms(now).is_some() {
            return None;
        }
        let hang = self.liveness.hang(now, &self.params.hang)?;
        Some(Hang { next: self.step_taken(hang.next), ..hang })
    }
}

/// What the session is told after Esc.
fn note(signal: &str, flat_ms: u64, go_on: &str) -> String {
    let minutes = ((flat_ms + 30_000) / 60_000).max(1);
    let what = match signal {
        "tool" => "Your last tool call did not come back",
        _ => "Nothing moved in your last turn",
    };
    format!(
        "{what} for {minutes} min, so it was interrupted. If you do the same again, do it in a \
         way that ends: with a time limit, or in smaller steps. {go_on}"
    )
}
