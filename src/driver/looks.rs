//! When the settings are looked at, and what is made of it. Whoever looks does so
//! beside the loop, one at a time, and may never come back. Nothing here decides.

use crate::clock::Timestamp;
use crate::cycle::event::SessionReport;
use crate::guard::global;
use crate::guard::lookout::{ANSWER_LIMIT_MS, Returning};
use crate::guard::settings::{Allowed, Depth, Looker, Moment, Sight, Verdict};

use super::Driver;
use super::jobs::Done;
use super::prepare::{Found, in_one, later};

/// Shorter than the machine waits for a session that it had killed.
const LAST_LIMIT_MS: u64 = 10_000;
/// A round of the loop that took longer was no waiting: the machine slept.
const ROUND_MS: u64 = 2_000;
/// While a session lives everything is read again this often; in between, only
/// what changed by its times.
const THOROUGH_MS: u64 = 60_000;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    /// Did the live session change what the CLI obeys at once?
    Live,
    /// The session is gone: what it left counts before the run can end on it.
    Last,
    /// May the next one be launched?
    Launch,
}

/// What somebody brought back.
#[derive(Debug)]
pub struct Looked {
    errand: Errand,
    looker: Returning,
    sight: Sight,
    found: Option<Found>,
}

/// The look that is going on, and what waits for one.
#[derive(Debug, Default)]
pub struct Looks {
    out: Option<Errand>,
    /// Waiting: [`Errand::Last`] or [`Errand::Launch`].
    awaited: Option<Errand>,
    /// How long that, and the look that is out, have taken.
    awaited_ms: u64,
    out_ms: u64,
    round_at_ms: u64,
    thorough_at_ms: u64,
    /// It was told that the live session's settings cannot be seen.
    told: bool,
    /// The end of a session, to be reported after the last look.
    exit: Option<SessionReport>,
}

impl Driver {
    /// Looks at all that must hold before a launch.
    pub(super) fn prepare(&mut self) {
        // The machine has done with that session.
        self.report_exit();
        self.await_look(Errand::Launch);
    }

    /// What the session that is gone left is looked at before its `exit` is told.
    pub(super) fn look_at_settings_last(&mut self, exit: SessionReport) {
        self.looks.exit = Some(exit);
        if self.looks.awaited.is_some() {
            return self.report_exit();
        }
        self.await_look(Errand::Last);
    }

    /// Has the live session changed what the CLI obeys at once?
    pub(super) fn look_at_settings(&mut self) {
        if self.looks.out.is_none() && self.looks.awaited.is_none() {
            self.send_look(Errand::Live);
        }
    }

    fn await_look(&mut self, errand: Errand) {
        self.looks.awaited = Some(errand);
        self.looks.awaited_ms = 0;
        if self.looks.out.is_none() {
            self.send_look(errand);
        }
    }

    fn send_look(&mut self, errand: Errand) {
        let now = Timestamp::now();
        let looks = &mut self.looks;
        let is_due = now.boot_ms.saturating_sub(looks.thorough_at_ms) >= THOROUGH_MS;
        let depth = if errand != Errand::Live || is_due { Depth::Thorough } else { Depth::Changed };
        let (places, program) = (self.guard.places.clone(), self.guard.program.clone());
        let run_dir = self.setup.run.path().to_owned();
        let spot = self.guard.lookout.spot();
        let work = move |looker: &mut Looker| {
            let found = (errand == Errand::Launch).then(|| {
                spot.set(&program.path.to_string_lossy());
                let program = program.check();
                spot.set(&places.global_file.to_string_lossy());
                Found { global: global::check(&places, &run_dir), program }
            });
            (looker.look(depth), found)
        };
        let tell = self.jobs.teller();
        let back = move |looker, (sight, found)| {
            // The loop may be over; then nobody needs it.
            let _ = tell.send(Done::Looked(Box::new(Looked { errand, looker, sight, found })));
        };
        if self.guard.lookout.send(work, back) {
            looks.out = Some(errand);
            looks.out_ms = 0;
            if depth == Depth::Thorough {
                looks.thorough_at_ms = now.boot_ms;
            }
        }
    }

    /// Somebody came back.
    pub(super) fn on_looked(&mut self, looked: Looked) {
        let Looked { errand, looker, sight, found } = looked;
        self.guard.lookout.welcome(looker);
        self.looks.out = None;
        self.looks.told = false;
        let is_awaited = self.looks.awaited == Some(errand);
        if is_awaited {
            self.looks.awaited = None;
        }
        match (errand, found) {
            (Errand::Live, _) => self.judge(sight, Moment::Session),
            (Errand::Last, _) if is_awaited => {
                self.judge(sight, Moment::Launch);
                self.report_exit();
            }
            (Errand::Launch, Some(found)) if is_awaited => {
                self.finish_preparing(Ok((found, sight)))
            }
            // It came too late: that was told, and what it saw is old.
            (Errand::Last | Errand::Launch, _) => {}
        }
        if let Some(errand) = self.looks.awaited {
            self.send_look(errand);
        }
    }

    /// Once a round: nobody is waited for longer than agreed.
    pub(super) fn mind_looks(&mut self, now: Timestamp) {
        let looks = &mut self.looks;
        let round_ms = now.boot_ms.saturating_sub(looks.round_at_ms).min(ROUND_MS);
        looks.round_at_ms = now.boot_ms;
        looks.out_ms += if looks.out.is_some() { round_ms } else { 0 };
        looks.awaited_ms += if looks.awaited.is_some() { round_ms } else { 0 };
        let waited_ms = looks.out_ms.max(looks.awaited_ms);
        match looks.awaited {
            Some(errand) if looks.out.is_none() => self.send_look(errand),
            Some(Errand::Last) if waited_ms >= LAST_LIMIT_MS => {
                self.looks.awaited = None;
                // Unseen, it counts as changed: the next launch, or the next run,
                // compares again.
                let why = in_one(&self.guard.lookout.late());
                let allowed = self.guard.allowed == Allowed::ByPerson;
                self.report(SessionReport::SettingsChanged { why, allowed });
                self.report_exit();
            }
            Some(_) if waited_ms >= ANSWER_LIMIT_MS => {
                self.looks.awaited = None;
                self.finish_preparing(Err(in_one(&self.guard.lookout.late())));
            }
            None if looks.out_ms >= ANSWER_LIMIT_MS && !looks.told => {
                looks.told = true;
                // Nothing is known to have changed: told before the next launch, which
                // cannot be without a look.
                tracing::warn!(err = %self.guard.lookout.late(), "the settings cannot be seen");
            }
            Some(_) | None => {}
        }
    }

    fn report_exit(&mut self) {
        if let Some(exit) = self.looks.exit.take() {
            self.report(exit);
        }
    }

    fn judge(&mut self, sight: Sight, moment: Moment) {
        match self.guard.settings.check(sight, self.guard.allowed, moment) {
            Ok(Verdict::Refused(changes)) => {
                let why = in_one(&changes.into_error());
                self.report(SessionReport::SettingsChanged { why, allowed: false });
            }
            Ok(Verdict::Allowed(changes)) => {
                // It counts as known from now on: the next launch says nothing.
                let why = changes.sentence();
                self.report(SessionReport::SettingsChanged { why, allowed: true });
            }
            Ok(Verdict::Later(changes)) => self.guard.untold.push(later(&changes)),
            Ok(Verdict::Same) => {}
            Err(err) => tracing::warn!(%err, "the project's settings cannot be compared now"),
        }
    }
}
