//! What others changed, looked at once a second: the files, cancelled tasks, a usage
//! limit that one run waits for.

use uuid::Uuid;

use super::limit::Stand;
use super::{Dispatcher, LOOK_MS};
use crate::clock::Timestamp;
use crate::control::Request;
use crate::queue::faces::Heard;
use crate::queue::store::Result;
use crate::queue::task::Task;
use crate::queue::worker::Worker;
use crate::report::status::StatusView;
use crate::session::sweep;
use crate::state_dir::ProjectState;

impl Dispatcher {
    /// What others changed: a task was cancelled, a run waits for a limit. False if it is
    /// not yet time to look again.
    pub(super) fn look(&mut self) -> Result<bool> {
        self.book()?;
        let now = Timestamp::now();
        let is_due = |at: u64| now.boot_ms.saturating_sub(at) >= LOOK_MS;
        if !self.looked_ms.is_none_or(is_due) {
            return Ok(false);
        }
        self.looked_ms = Some(now.boot_ms);
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
            self.ask_all();
        }
        Ok(true)
    }

    /// The files of the projects.
    pub(super) fn sync(&mut self) -> Result<()> {
        let now = Timestamp::now();
        let heard = self.faces.sync(self.store.as_mut(), now.unix_ms, now.boot_ms)?;
        self.hear(heard);
        Ok(())
    }

    /// What is to be told of the files.
    pub(super) fn hear(&mut self, heard: Heard) {
        for (project, text) in heard {
            self.warn(Some(&project), text);
        }
    }

    pub(super) fn end_cancelled(&mut self) -> Result<()> {
        for task in self.store.in_progress()? {
            let Task { is_cancelling: true, run_id: Some(run_id), .. } = task else {
                continue;
            };
            if self.cancelled.insert(run_id) {
                self.ask(run_id, Request::CancelTask);
            }
        }
        Ok(())
    }

    /// Asks the runs where they stand: what one waits for, the others would run into.
    fn ask_all(&mut self) {
        let run_ids: Vec<Uuid> = self.workers.keys().copied().collect();
        for run_id in run_ids {
            self.ask(run_id, Request::Status);
        }
    }

    /// Asks a run, unless it was asked that already and has not answered.
    fn ask(&mut self, run_id: Uuid, request: Request) {
        let Some(worker) = self.workers.get(&run_id) else { return };
        if self.asked.contains(&(run_id, request)) {
            return;
        }
        let state = ProjectState::dir_of(&self.plan.state_root, &worker.project);
        if Worker::ask(run_id, state, request, self.tell.clone()) {
            self.asked.insert((run_id, request));
        } else {
            self.on_answer(run_id, request, None);
        }
    }

    pub(super) fn on_answer(&mut self, run_id: Uuid, request: Request, answer: Option<String>) {
        self.asked.remove(&(run_id, request));
        if !self.workers.contains_key(&run_id) {
            return;
        }
        match (request, answer) {
            (Request::Status, Some(answer)) => {
                if let Ok(view) = serde_json::from_str::<StatusView>(&answer) {
                    self.on_status(run_id, Stand::from(&view));
                }
            }
            (Request::Pause | Request::Resume, Some(_)) => self.limit.obeyed(run_id, request),
            // One that does not listen yet is asked again at the next look.
            (Request::CancelTask, None) => {
                self.cancelled.remove(&run_id);
                self.version = None;
            }
            _ => {}
        }
    }

    fn on_status(&mut self, run_id: Uuid, stand: Stand) {
        let now = Timestamp::now();
        if self.limit.hear(run_id, stand)
            && let Some(until_unix_ms) = self.limit.until(now.unix_ms)
        {
            let at = crate::text::local(until_unix_ms, &jiff::tz::TimeZone::system(), "%a %H:%M");
            let text = format!("a usage limit holds until {at}: nothing is begun, all runs pause");
            self.warn(None, text);
        }
        if let Some(request) = self.limit.request(run_id, stand, now.unix_ms) {
            self.ask(run_id, request);
        }
    }
}
