//! Before a launch: nothing may stand in the way of a session.

use super::{ANSWER_MS, Machine};
use crate::clock::Timestamp;
use crate::cycle::action::{Action, Timer};
use crate::cycle::event::{Refusal, Warning};
use crate::cycle::failure::{Class, MISSING_LOOKS};
use crate::cycle::state::{Between, EndReason, Outcome, State};

impl Machine {
    /// Work is left: waits for a limit that still holds, else looks at all that
    /// must hold before a launch.
    pub(super) fn go_to_next_session(&mut self, now: Timestamp) {
        if self.waits_between(now) {
            return;
        }
        self.enter(State::Between { step: Between::Preparing });
        self.out.push(Action::Prepare);
        self.timer(Timer::Answer, ANSWER_MS);
    }

    pub(super) fn on_prepared(
        &mut self,
        now: Timestamp,
        refusal: Option<Refusal>,
        warnings: Vec<Warning>,
    ) {
        if !matches!(self.state, State::Between { step: Between::Preparing }) {
            return;
        }
        for Warning { class, text } in warnings {
            if let Some(class) = class {
                self.fail(class);
            }
            self.warn(text);
        }
        match refusal {
            None => {
                self.missing_in_a_row = 0;
                if self.paused.is_some() {
                    self.enter(State::Between { step: Between::Held });
                } else if !self.waits_between(now) {
                    // The clock may have been set back while it was looked.
                    self.launch(now);
                }
            }
            Some(refusal) => self.on_refused(now, refusal),
        }
    }

    /// The CLI obeys changed settings at once, so waiting for the next launch would
    /// be too late.
    pub(super) fn on_settings_changed(&mut self, now: Timestamp, why: String, allowed: bool) {
        if allowed {
            // It is what later looks compare with: each is a change of its own.
            self.fail(Class::SettingsChanged);
            return self.warn(why);
        }
        let is_new = self.count_settings(&why);
        if matches!(self.state, State::Ending { .. } | State::Between { .. }) {
            // Too late for this session; the next launch, or the next run, is refused.
            if is_new {
                self.warn(why);
            }
            return;
        }
        self.needs_person(why.clone(), String::new());
        self.end_now(now, Outcome::NeedsPerson { why }, EndReason::NeedsPerson);
    }

    /// Counts a change that nobody allowed, and that each look finds until a person
    /// has dealt with it; false if it is the one that was counted last.
    fn count_settings(&mut self, why: &str) -> bool {
        let is_new = self.settings_told.as_deref() != Some(why);
        if is_new {
            self.fail(Class::SettingsChanged);
            self.settings_told = Some(why.to_owned());
        }
        is_new
    }

    /// Budgets, threshold and progress are blind without the record.
    pub(super) fn on_record_lost(&mut self, now: Timestamp, why: String) {
        if !matches!(self.state, State::Ending { .. }) {
            self.needs_person(why.clone(), String::new());
            self.end_now(now, Outcome::NeedsPerson { why }, EndReason::NeedsPerson);
        }
    }

    fn on_refused(&mut self, now: Timestamp, Refusal { class, why }: Refusal) {
        if class == Class::SettingsChanged {
            self.count_settings(&why);
        } else {
            self.fail(class);
        }
        self.missing_in_a_row += u32::from(class == Class::CliMissing);
        if class == Class::CliMissing && self.missing_in_a_row < MISSING_LOOKS {
            let attempt = self.missing_in_a_row;
            let after_ms = self.pause_after(class, attempt);
            self.enter(State::Between { step: Between::Backoff { until_unix_ms: None } });
            return self.timer(Timer::Backoff, after_ms);
        }
        self.finish(now, Outcome::NeedsPerson { why });
    }

    pub(super) fn on_tree_kept(
        &mut self,
        cycle: u32,
        (git_ref, commit): (Option<String>, Option<String>),
        trouble: Option<String>,
    ) {
        let was_kept = self.cycles().any(|c| c.git_ref.is_some());
        let records = self.past.iter_mut().chain(self.live.as_mut());
        for record in records.filter(|c| c.cycle == cycle) {
            record.git_ref.clone_from(&git_ref);
            record.git_commit.clone_from(&commit);
        }
        if let Some(text) = trouble {
            self.warn(text);
        } else if git_ref.is_none() && was_kept {
            self.warn(
                "the project is no git repository any more: its work tree was not kept, and those \
                 of earlier cycles may be gone"
                    .into(),
            );
        }
    }
}
