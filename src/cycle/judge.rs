//! Is the task done? The two equal reads, the verify command, and whether
//! there was progress. Asked when a turn has ended and again when a session is
//! gone, by the same code.

use serde::{Deserialize, Serialize};

use super::action::{Action, Timer};
use super::event::{TaskReading, TaskSays};
use crate::clock::Timestamp;
use crate::text;

/// Between two reads of the task file: a file that is being written is seen
/// half-written, and a half-written file can look done.
pub const REREAD_MS: u64 = 700;
/// Reads of an unreadable file before it counts as unreadable.
const UNREADABLE_READS: u32 = 3;

/// The question, as far as it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    step: Step,
    /// Progress counts from here.
    since: Timestamp,
    /// Unreadable reads so far.
    unreadable_reads: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
enum Step {
    /// Reading; a first read said this.
    Reading {
        /// A read is under way; without one, an answer is somebody else's.
        asked: bool,
        unconfirmed: Option<(String, TaskSays)>,
    },
    /// The verify command runs.
    Verifying,
    /// The task is not done; looking for progress.
    Weighing { note: Option<String>, problem: Option<String> },
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Done, read twice, and the verify command agrees.
    Done,
    /// A person is needed, read twice.
    Blocked {
        /// As the file says.
        reason: String,
    },
    /// Work is left.
    Open {
        /// What the session should be told (the verify command's output).
        note: Option<String>,
        /// Was anything done?
        progress: bool,
    },
    /// The file cannot be read.
    Unreadable {
        /// Why.
        problem: String,
        /// Was anything done?
        progress: bool,
    },
}

impl Judge {
    /// Asks; `since` is where progress counts from.
    pub fn new(since: Timestamp, out: &mut Vec<Action>) -> Self {
        out.push(Action::ReadTask);
        Self { step: Step::Reading { asked: true, unconfirmed: None }, since, unreadable_reads: 0 }
    }

    /// Is the verify command running?
    pub fn is_verifying(&self) -> bool {
        matches!(self.step, Step::Verifying)
    }

    /// The task file was read.
    pub fn on_read(
        &mut self,
        reading: &TaskReading,
        verify: bool,
        epoch: u64,
        out: &mut Vec<Action>,
    ) -> Option<Verdict> {
        let Step::Reading { asked, unconfirmed } = &mut self.step else {
            return None;
        };
        // The answer to a read that an earlier judge asked for would make the
        // second of two equal reads come too early.
        if !std::mem::take(asked) {
            return None;
        }
        match reading {
            TaskReading::Unreadable { problem } => {
                self.unreadable_reads += 1;
                if self.unreadable_reads < UNREADABLE_READS {
                    *unconfirmed = None;
                    out.push(reread(epoch));
                } else {
                    self.weigh(None, Some(problem.clone()), out);
                }
                None
            }
            TaskReading::Read { says: TaskSays::Open, .. } => {
                self.weigh(None, None, out);
                None
            }
            TaskReading::Read { digest, says, .. } => {
                let confirmed = unconfirmed.as_ref().is_some_and(|(d, s)| d == digest && s == says);
                if !confirmed {
                    *unconfirmed = Some((digest.clone(), says.clone()));
                    out.push(reread(epoch));
                    return None;
                }
                match says {
                    TaskSays::Blocked { reason } => {
                        Some(Verdict::Blocked { reason: reason.clone() })
                    }
                    TaskSays::Done if verify => {
                        self.step = Step::Verifying;
                        out.push(Action::RunVerify);
                        None
                    }
                    TaskSays::Done => Some(Verdict::Done),
                    TaskSays::Open => None,
                }
            }
        }
    }

    /// The time for the second read has come.
    pub fn on_reread(&mut self, out: &mut Vec<Action>) {
        if let Step::Reading { asked, .. } = &mut self.step {
            *asked = true;
            out.push(Action::ReadTask);
        }
    }

    /// Reading or weighing did not come to an end. The verify command has a
    /// deadline of its own.
    pub fn on_late(&mut self) -> Option<Verdict> {
        match &self.step {
            Step::Reading { .. } => Some(Verdict::Unreadable {
                problem: "it could not be read twice alike".into(),
                progress: false,
            }),
            Step::Weighing { .. } => self.on_weighed(false),
            Step::Verifying => None,
        }
    }

    /// The verify command ended.
    pub fn on_verify(
        &mut self,
        passed: bool,
        tail: &str,
        out: &mut Vec<Action>,
    ) -> Option<Verdict> {
        if !self.is_verifying() {
            return None;
        }
        if passed {
            return Some(Verdict::Done);
        }
        let note = format!(
            "The task file says done, but the project's verify command fails. Mend what it shows, \
             keep the task file true, then end your turn. The end of its output:\n{}",
            text::quoted(tail)
        );
        self.weigh(Some(note), None, out);
        None
    }

    /// Progress was weighed.
    pub fn on_weighed(&mut self, changed: bool) -> Option<Verdict> {
        let Step::Weighing { note, problem } = &mut self.step else {
            return None;
        };
        Some(match problem.take() {
            Some(problem) => Verdict::Unreadable { problem, progress: changed },
            None => Verdict::Open { note: note.take(), progress: changed },
        })
    }

    fn weigh(&mut self, note: Option<String>, problem: Option<String>, out: &mut Vec<Action>) {
        self.step = Step::Weighing { note, problem };
        out.push(Action::WeighProgress { since: self.since });
    }
}

fn reread(epoch: u64) -> Action {
    Action::SetTimer { timer: Timer::Reread, epoch, after_ms: REREAD_MS }
}
