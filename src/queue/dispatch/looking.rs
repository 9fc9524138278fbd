//! What others changed, looked at once a second: the files, cancelled tasks, a usage
//! limit that one run waits for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{Dispatcher, LOOK_MS, SAME_LIMIT_MS};
use crate::clock::Timestamp;
use crate::control;
use crate::control::Request;
use crate::queue::store::Result;
use crate::queue::task::Task;
use crate::report::status::StatusView;
use crate::session::sweep;
use crate::state_dir::ProjectState;

impl Dispatcher {
    /// What others changed: a task was cancelled, a run waits for a limit.
    pub(super) fn look(&mut self) -> Result<()> {
        self.book()?;
        let now = Timestamp::now();
        if now.boot_ms.saturating_sub(self.looked_ms) < LOOK_MS {
            return Ok(());
        }
        self.looked_ms = now.boot_ms;
        if now.boot_ms < self.orphans_until_ms {
            let own: Vec<u32> = self.workers.values().map(|worker| worker.pid).collect();
            let swept = sweep::end_orphans(&own);
            if swept.killed > 0 {
                tracing::warn!(?swept, "a worker that died left processes");
            }
        }
        self.sync()?;
        let version = self.store.version()?;
        if self.version.replace(version) != Some(version) {
            self.end_cancelled()?;
        }
        if self.plan.parallel > 1 {
            self.share_limit(now);
        }
        Ok(())
    }

    /// The files of the projects.
    pub(super) fn sync(&mut self) -> Result<()> {
        let now = Timestamp::now();
        let heard = self.faces.sync(self.store.as_mut(), now.unix_ms, now.boot_ms)?;
        for (project, text) in heard {
            self.warn(Some(&project), text);
        }
        Ok(())
    }

    pub(super) fn end_cancelled(&mut self) -> Result<()> {
        for task in self.store.in_progress()? {
            let Task { is_cancelling: true, run_id: Some(run_id), project, .. } = task else {
                continue;
            };
            if self.workers.contains_key(&run_id) && self.cancelled.insert(run_id) {
                // One that does not listen yet is asked again at the next look.
                if !self.ask(&project, Request::CancelTask) {
                    self.cancelled.remove(&run_id);
                    self.version = None;
                }
            }
        }
        Ok(())
    }

    fn ask(&self, project: &Path, request: Request) -> bool {
        let folder = ProjectState::dir_of(&self.plan.state_root, project);
        matches!(control::ask(&folder, request), Ok(Some(_)))
    }

    /// All runs share one login: what one waits for, the others would run into.
    fn share_limit(&mut self, now: Timestamp) {
        let mut until_unix_ms = self.limit.until_unix_ms;
        let mut waits_itself = BTreeSet::new();
        let mut by_person = BTreeSet::new();
        for (run_id, worker) in &self.workers {
            let folder = ProjectState::dir_of(&self.plan.state_root, &worker.project);
            let Ok(Some(answer)) = control::ask(&folder, Request::Status) else { continue };
            let Ok(view) = serde_json::from_str::<StatusView>(&answer) else { continue };
            if view.paused {
                by_person.insert(*run_id);
            }
            if let Some(wait) = view.standstill.waiting {
                waits_itself.insert(*run_id);
                until_unix_ms = until_unix_ms.max(wait.until.unix_ms);
            }
        }
        if until_unix_ms > self.limit.until_unix_ms.saturating_add(SAME_LIMIT_MS) {
            let at = crate::text::local(until_unix_ms, &jiff::tz::TimeZone::system(), "%a %H:%M");
            let text = format!("a usage limit holds until {at}: nothing is begun, all runs pause");
            self.warn(None, text);
        }
        self.limit.until_unix_ms = until_unix_ms;
        let holds = until_unix_ms > now.unix_ms;
        let ids: Vec<(Uuid, PathBuf)> =
            self.workers.iter().map(|(id, w)| (*id, w.project.clone())).collect();
        for (run_id, project) in ids {
            let is_paused = self.limit.paused.contains(&run_id);
            if holds
                && !is_paused
                && !waits_itself.contains(&run_id)
                && !by_person.contains(&run_id)
                && self.ask(&project, Request::Pause)
            {
                self.limit.paused.insert(run_id);
            } else if !holds && is_paused && self.ask(&project, Request::Resume) {
                self.limit.paused.remove(&run_id);
            }
        }
    }
}
