//! What sessions used, told to the usage tracker. Nothing here can hold up or fail a run.

use std::time::Duration;

use super::{Driver, Setup};
use crate::clock::Timestamp;
use crate::cycle::record::Tokens;
use crate::models::Models;
use crate::track::{Feeder, Order, Part, Parts, Place, Source};
use crate::transcript::Ledger;

/// What records that wait may take when the run is over.
pub(super) const LAST: Duration = Duration::from_secs(5);

/// The way to the tracker, if the configuration wants one.
pub(super) fn feeder(setup: &Setup, run_id: String) -> Option<Feeder> {
    let folder = setup.config.track.folder.clone()?;
    // <project's state>/runs/<run>
    let state = setup.run.path().parent()?.parent()?.to_owned();
    let (project, task_file) = (setup.project.clone(), setup.config.task.file.clone());
    Some(Feeder::start(Place { project, folder, state, task_file }, run_id))
}

impl Driver {
    /// Tells what the session in hand used so far. What is new of it since it was told
    /// last was for `task`, an id and what it is about; or for the cycle.
    pub(super) fn tell_tracker(&mut self, task: Option<(String, String)>) {
        let Some(feeder) = &self.feeder else { return };
        let Some(session) = &mut self.session else { return };
        let ledger = session.transcript.usage();
        let now: (u64, Tokens) = (ledger.responses(), *ledger.total());
        if std::mem::replace(&mut session.tracked, now) == now {
            return;
        }
        let run_id = self.machine.run_id().to_string();
        let cycle = session.cycle;
        let (task_id, summary) = match task {
            Some((id, title)) => (id, Some(title)),
            None => (format!("{run_id}-cycle-{cycle:03}"), None),
        };
        let session_id = session.session_id.to_string();
        feeder.tell(Order {
            source: Source { run_id, cycle, session_id },
            task_id,
            summary,
            unix_ms: Timestamp::now().unix_ms,
            parts: parts_of(ledger),
        });
    }

    /// The task of the queue that the session works on.
    pub(super) fn task_in_hand(&self) -> Option<(String, String)> {
        let task = self.machine.assignments().last().filter(|task| task.end.is_none())?;
        Some((task.given.task_id.clone(), task.given.title.clone()))
    }
}

fn parts_of(ledger: &Ledger) -> Parts {
    let shares = ledger.shares(Models::in_force()).into_iter().map(|share| Part {
        agent: share.agent.map(ToOwned::to_owned),
        model: share.model.to_owned(),
        tokens: share.tokens,
        cost_micro_usd: share.usd.map(|usd| (usd.as_f64() * 1e6).round() as u64),
    });
    Parts(shares.collect())
}
