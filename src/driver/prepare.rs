//! What must hold before a session is launched, looked at; and the work tree,
//! kept. Nothing here decides.

use crate::claude_json::Places;
use crate::cycle::event::{Event, Refusal, Warning};
use crate::cycle::failure::Class;
use crate::guard::lookout::Lookout;
use crate::guard::program::{Identity, Program};
use crate::guard::settings::{self, Allowed, Moment, Sight, Verdict};
use crate::guard::worktree;

use super::Driver;
use super::jobs::Done;

/// What the person started with, to be compared with before each launch.
#[derive(Debug)]
pub struct Guard {
    /// The project's settings.
    pub settings: settings::Watch,
    /// Who looks at them.
    pub lookout: Lookout,
    /// The CLI's program.
    pub program: Identity,
    /// Where the CLI keeps its own.
    pub places: Places,
    /// May the settings change?
    pub allowed: Allowed,
    /// What the person should hear of before the first launch.
    pub untold: Vec<Warning>,
}

/// What was found before a launch.
#[derive(Debug)]
pub struct Found {
    /// Can the CLI read its own file?
    pub global: crate::Result<()>,
    /// The CLI's program.
    pub program: Program,
}

impl Driver {
    /// All was looked at; or it could not be, in time.
    pub(super) fn finish_preparing(&mut self, found: Result<(Found, Sight), String>) {
        let mut warnings = std::mem::take(&mut self.guard.untold);
        let refusal = match found {
            Ok((found, sight)) => self.find_refusal(found, sight, &mut warnings),
            Err(why) => Some(Refusal { class: Class::SettingsChanged, why }),
        };
        self.queue.push_back(Event::Prepared { refusal, warnings });
    }

    fn find_refusal(
        &mut self,
        found: Found,
        sight: Sight,
        warnings: &mut Vec<Warning>,
    ) -> Option<Refusal> {
        let refuse = |class, why: String| Some(Refusal { class, why });
        match found.program {
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
        if let Err(err) = found.global {
            return refuse(Class::ConfigCorrupt, in_one(&err));
        }
        match self.guard.settings.check(sight, self.guard.allowed, Moment::Launch) {
            Ok(Verdict::Same) => None,
            Ok(Verdict::Allowed(changes)) => {
                let (class, text) = (Some(Class::SettingsChanged), changes.sentence());
                warnings.push(Warning { class, text });
                None
            }
            Ok(Verdict::Later(changes)) => {
                warnings.push(later(&changes));
                None
            }
            Ok(Verdict::Refused(changes)) => {
                refuse(Class::SettingsChanged, in_one(&changes.into_error()))
            }
            Err(err) => refuse(Class::SettingsChanged, in_one(&err)),
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
            let (git_ref, commit, trouble) = match worktree::keep(tree).await {
                worktree::Outcome::Kept(kept) => (Some(kept.ref_name), Some(kept.commit), None),
                worktree::Outcome::NoRepository => (None, None, None),
                worktree::Outcome::Skipped { why } => {
                    (None, None, Some(format!("the work tree was not kept in git: {why}")))
                }
            };
            if cycle == 1
                && let Err(why) = worktree::forget_old(&project, &run_id, &folder).await
            {
                tracing::warn!(why, "old refs stay");
            }
            Done::Event(Box::new(Event::TreeKept { cycle, git_ref, commit, trouble }))
        });
    }
}

/// longhaul's own configuration was changed, which is the person's to do: no failure.
pub(super) fn later(changes: &settings::Changes) -> Warning {
    let text = format!(
        "{}; this run goes on with the configuration it was started with",
        changes.sentence()
    );
    Warning { class: None, text }
}

/// An error and what to do about it, as one text.
pub(super) fn in_one(err: &crate::Error) -> String {
    let mut text = err.to_string();
    for hint in err.hints() {
        text.push_str("; ");
        text.push_str(hint);
    }
    text
}
