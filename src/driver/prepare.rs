//! What must hold before a session is launched, looked at; and the work tree,
//! kept. Nothing here decides.

use std::path::PathBuf;

use crate::claude_json::{Json, Places};
use crate::cycle::event::{Event, Refusal, SessionReport, Warning};
use crate::cycle::failure::Class;
use crate::guard::program::{Identity, Program};
use crate::guard::settings::{self, Allowed, Moment, Subject, Verdict};
use crate::guard::{global, worktree};

use super::Driver;
use super::jobs::Done;

/// What the person started with, to be compared with before each launch.
#[derive(Debug)]
pub struct Guard {
    /// The project's settings.
    pub settings: settings::Watch,
    /// The CLI's program.
    pub program: Identity,
    /// Where the CLI keeps its own.
    pub places: Places,
    /// What `--config` named.
    pub config_file: Option<PathBuf>,
    /// May the settings change?
    pub allowed: Allowed,
    /// What the person should hear of before the first launch.
    pub untold: Vec<String>,
    /// The CLI's own file, as last read sound.
    pub global: Json,
}

impl Driver {
    pub(super) fn prepare(&mut self) {
        let places = self.guard.places.clone();
        let run_dir = self.setup.run.path().to_owned();
        // It is read again for a second while it is damaged: another CLI may be
        // writing it.
        self.jobs.start(async move { Done::GlobalRead(global::check(&places, &run_dir).await) });
    }

    /// The CLI's own file was read; the rest takes no time.
    pub(super) fn go_on_preparing(&mut self, global: crate::Result<Json>) {
        let class = Some(Class::SettingsChanged);
        let untold = std::mem::take(&mut self.guard.untold);
        let mut warnings: Vec<Warning> =
            untold.into_iter().map(|text| Warning { class, text }).collect();
        let refusal = self.find_refusal(global, &mut warnings);
        self.queue.push_back(Event::Prepared { refusal, warnings });
    }

    fn find_refusal(
        &mut self,
        global: crate::Result<Json>,
        warnings: &mut Vec<Warning>,
    ) -> Option<Refusal> {
        let refuse = |class, why: String| Some(Refusal { class, why });
        match self.guard.program.check() {
            Program::Same => {}
            Program::Missing { why } => {
                let why = format!("the CLI is gone: {why}");
                return refuse(Class::CliMissing, why);
            }
            Program::Updated(update) => {
                let (class, text) = (Some(Class::CliUpdated), update.sentence());
                warnings.push(Warning { class, text });
                self.guard.program = update.identity;
            }
        }
        let global = match global {
            Ok(global) => global,
            Err(err) => return refuse(Class::ConfigCorrupt, in_one(&err)),
        };
        self.guard.global = global;
        let subject = Subject {
            project: &self.setup.project,
            config_file: self.guard.config_file.as_deref(),
            global: &self.guard.global,
        };
        match self.guard.settings.check(subject, self.guard.allowed, Moment::Launch) {
            Ok(Verdict::Same) => None,
            Ok(Verdict::Allowed(changes)) => {
                let (class, text) = (Some(Class::SettingsChanged), changes.sentence());
                warnings.push(Warning { class, text });
                None
            }
            Ok(Verdict::Later(changes)) => {
                let text = format!(
                    "{}; this run goes on with the configuration it was started with",
                    changes.sentence()
                );
                warnings.push(Warning { class: None, text });
                None
            }
            Ok(Verdict::Refused(changes)) => {
                refuse(Class::SettingsChanged, in_one(&changes.into_error()))
            }
            Err(err) => refuse(Class::SettingsChanged, in_one(&err)),
        }
    }

    /// The session is gone: what it left counts at the first look, and before the
    /// run can end on it.
    pub(super) fn look_at_settings_last(&mut self) {
        let subject = Subject {
            project: &self.setup.project,
            config_file: self.guard.config_file.as_deref(),
            global: &self.guard.global,
        };
        match self.guard.settings.check(subject, self.guard.allowed, Moment::Launch) {
            Ok(Verdict::Refused(changes)) => {
                let why = in_one(&changes.into_error());
                self.report(SessionReport::SettingsChanged { why, allowed: false });
            }
            Ok(Verdict::Allowed(changes)) => {
                let why = changes.sentence();
                self.report(SessionReport::SettingsChanged { why, allowed: true });
            }
            Ok(Verdict::Later(changes)) => self.guard.untold.push(changes.sentence()),
            Ok(Verdict::Same) => {}
            Err(err) => tracing::warn!(%err, "the project's settings cannot be compared now"),
        }
    }

    /// Has the live session changed what the CLI obeys at once?
    pub(super) fn look_at_settings(&mut self) {
        let subject = Subject {
            project: &self.setup.project,
            config_file: self.guard.config_file.as_deref(),
            global: &self.guard.global,
        };
        match self.guard.settings.check(subject, self.guard.allowed, Moment::Session) {
            Ok(Verdict::Refused(changes)) => {
                let why = in_one(&changes.into_error());
                self.report(SessionReport::SettingsChanged { why, allowed: false });
            }
            Ok(Verdict::Allowed(changes)) => {
                // It counts as known from now on: the next launch says nothing.
                let why = changes.sentence();
                self.report(SessionReport::SettingsChanged { why, allowed: true });
            }
            Ok(Verdict::Same | Verdict::Later(_)) => {}
            Err(err) => tracing::warn!(%err, "the project's settings cannot be compared now"),
        }
    }

    /// Keeps the work tree as the cycle finds it, beside the session's start.
    pub(super) fn keep_tree(&mut self, cycle: u32) {
        if !self.setup.config.checkpoint.git_refs {
            return;
        }
        let project = self.setup.project.clone();
        let run_id = self.machine.run_id().to_string();
        let folder = self.setup.run.path().to_owned();
        self.jobs.start(async move {
            let tree =
                worktree::Cycle { project: &project, run_id: &run_id, cycle, scratch: &folder };
            let (git_ref, trouble) = match worktree::keep(tree).await {
                worktree::Outcome::Kept(kept) => (Some(kept.ref_name), None),
                worktree::Outcome::NoRepository => (None, None),
                worktree::Outcome::Skipped { why } => {
                    (None, Some(format!("the work tree was not kept in git: {why}")))
                }
            };
            if cycle == 1
                && let Err(why) = worktree::forget_old(&project, &run_id, &folder).await
            {
                tracing::warn!(why, "old refs stay");
            }
            Done::Event(Box::new(Event::TreeKept { cycle, git_ref, trouble }))
        });
    }
}

/// An error and what to do about it, as one text.
fn in_one(err: &crate::Error) -> String {
    let mut text = err.to_string();
    for hint in err.hints() {
        text.push_str("; ");
        text.push_str(hint);
    }
    text
}
