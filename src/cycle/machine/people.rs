//! What a person orders: commands and signals.

use super::{Machine, SIGTERM};
use crate::clock::Timestamp;
use crate::cycle::action::Notice;
use crate::cycle::event::Command;
use crate::cycle::state::{Between, EndReason, Outcome, State};

impl Machine {
    pub(super) fn on_command(&mut self, now: Timestamp, command: Command) {
        match command {
            Command::Pause => {
                self.paused.get_or_insert(now);
                self.obeyed("paused: nothing new is started after the present turn");
            }
            Command::Resume => {
                self.paused = None;
                self.obeyed("resumed");
                match &self.state {
                    State::Held => {
                        // The person's pause was no wait for the API.
                        self.outage_since_ms = None;
                        self.begin_judging();
                    }
                    State::Between { step: Between::Held } => {
                        self.outage_since_ms = None;
                        self.judge_between(now);
                    }
                    State::Starting
                    | State::Working
                    | State::Judging { .. }
                    | State::Turnover
                    | State::Cooling { .. }
                    | State::Checkpointing { .. }
                    | State::Ending { .. }
                    | State::Finished { .. }
                    | State::Between {
                        step:
                            Between::Keeping
                            | Between::Briefing
                            | Between::Judging { .. }
                            | Between::Preparing
                            | Between::Turnover
                            | Between::Backoff { .. },
                    } => {}
                }
            }
            Command::Cycle => match &self.state {
                State::Working | State::Judging { .. } | State::Turnover | State::Held
                    if self.has_replied() =>
                {
                    self.cancel_judge();
                    self.obeyed("checkpoint asked for; a fresh session follows");
                    self.begin_ask(EndReason::Operator);
                }
                State::Starting
                | State::Cooling { .. }
                | State::Working
                | State::Judging { .. }
                | State::Turnover
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
            Command::CancelTask => {
                self.with_assignment(|task| task.is_cancelled = true);
                self.obeyed("the task is cancelled: its session is ended");
                self.end_now(now, Outcome::Stopped { signal: SIGTERM }, EndReason::Stopped);
            }
            Command::StopNow => {
                self.obeyed("stopping now");
                self.end_now(now, Outcome::Stopped { signal: SIGTERM }, EndReason::Stopped);
            }
        }
    }

    pub(super) fn on_signal(&mut self, now: Timestamp, number: i32) {
        self.signals += 1;
        let outcome = Outcome::Stopped { signal: number };
        if self.signals == 1 {
            self.wind_down(now, outcome, EndReason::Stopped);
        } else {
            self.end_now(now, outcome, EndReason::Stopped);
        }
    }

    pub(super) fn obeyed(&mut self, text: &str) {
        self.tell(Notice::Obeyed { text: text.into() });
    }
}
