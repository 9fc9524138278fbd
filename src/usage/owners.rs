//! Which sessions are of which run, and of which task of the queue.

use std::collections::HashMap;
use std::path::Path;

use uuid::Uuid;

use crate::cycle::machine;
use crate::queue::{SqliteStore, Store, Taken};
use crate::runs::RunFolder;
use crate::{Result, journal};

/// A run has no session of a number so much higher than the last that is known: it may
/// have been allowed more sessions than when it began.
const FURTHER_SESSIONS: u32 = 200;
/// No run is taken to have had more.
const SESSIONS_MAX: u32 = 10_000;
/// So many are looked for where nobody says how many it was allowed.
const SESSIONS_UNKNOWN: u32 = 1_000;

/// Which sessions are of which run and task.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    /// Runs that left a journal, with the sessions they were allowed.
    runs: Vec<(Uuid, u32)>,
    /// What each run took up, in that order.
    tasks: HashMap<Uuid, Vec<Work>>,
}

/// A task that a run took up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Work {
    /// Unix milliseconds.
    pub(super) from_unix_ms: i64,
    pub(super) task: String,
    pub(super) batch: Option<String>,
}

/// What is known of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) run_id: Uuid,
    pub(super) cycle: u32,
    /// What it was at work on, in the order of time.
    pub(super) tasks: Vec<Work>,
}

impl Owners {
    /// As the journals of the runs and the queue below `state_root` say.
    ///
    /// # Errors
    /// [`crate::ErrorKind::State`], [`crate::ErrorKind::Disk`]: the queue cannot be read.
    pub fn of(state_root: &Path) -> Result<Self> {
        let origins = RunFolder::all(state_root);
        let origins = origins.iter().filter_map(|run| journal::origin(&run.journal()));
        let runs = origins.map(|origin| (origin.run_id, origin.params.max_sessions)).collect();
        let taken = match SqliteStore::open_existing(state_root)? {
            Some(mut queue) => queue.taken()?,
            None => Vec::new(),
        };
        Ok(Self { runs, ..Self::of_tasks(taken) })
    }

    fn of_tasks(taken: Vec<Taken>) -> Self {
        let mut owners = Self::default();
        for Taken { from_unix_ms, run_id, task_id, batch_id } in taken {
            let (task, batch) = (task_id.to_string(), batch_id.map(|batch| batch.to_string()));
            owners.tasks.entry(run_id).or_default().push(Work { from_unix_ms, task, batch });
        }
        owners
    }

    /// What is known of these sessions. The ids of a run's sessions follow from its own.
    pub(super) fn by_session<'s>(
        &self,
        sessions: impl Iterator<Item = &'s str>,
    ) -> HashMap<Uuid, Owner> {
        let sessions: std::collections::HashSet<Uuid> =
            sessions.filter_map(|id| id.parse().ok()).collect();
        let mut owners = HashMap::new();
        for (run_id, allowed) in &self.runs {
            let known = sessions_of(*run_id, Some(*allowed), |id| sessions.contains(id));
            for (cycle, session) in known {
                let tasks = self.tasks.get(run_id).cloned().unwrap_or_default();
                owners.insert(session, Owner { run_id: *run_id, cycle, tasks });
            }
        }
        owners
    }
}

/// Those sessions of a run that are there, by cycle: their ids follow from its own.
/// It was allowed so many of them; `None`: nobody says.
pub(crate) fn sessions_of(
    run_id: Uuid,
    allowed: Option<u32>,
    is_there: impl Fn(&Uuid) -> bool,
) -> Vec<(u32, Uuid)> {
    let mut found = Vec::new();
    let mut last = allowed.unwrap_or(SESSIONS_UNKNOWN).min(SESSIONS_MAX);
    let mut cycle = 1;
    while cycle <= last {
        let session = machine::session_id(run_id, cycle);
        if is_there(&session) {
            found.push((cycle, session));
            last = last.max(cycle + FURTHER_SESSIONS);
        }
        cycle += 1;
    }
    found
}

impl Owner {
    /// The place among its tasks of the one that it was at work on; before the first was
    /// taken up, it is that.
    pub(super) fn task_at(&self, unix_ms: i64) -> Option<usize> {
        let after = self.tasks.partition_point(|work| work.from_unix_ms <= unix_ms);
        (!self.tasks.is_empty()).then(|| after.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_of_the_task_that_was_taken_up_last() {
        let work = |from_unix_ms, task: &str| Work { from_unix_ms, task: task.into(), batch: None };
        let tasks = vec![work(10, "a"), work(20, "b")];
        let owner = Owner { tasks, ..Owner::default() };
        let at = [0, 10, 19, 20, i64::MAX].map(|at| owner.task_at(at));
        assert_eq!(at, [Some(0), Some(0), Some(0), Some(1), Some(1)]);
        assert_eq!(Owner::default().task_at(5), None);
    }

    #[test]
    fn a_session_is_of_the_run_that_its_id_follows_from() {
        let run = Uuid::from_u128(7);
        let ids = [3, 60, 261].map(|cycle| machine::session_id(run, cycle).to_string());
        let owners = Owners { runs: vec![(run, 50)], tasks: HashMap::new() };
        let known = owners.by_session(ids.iter().map(String::as_str).chain(["hand", ""]));
        let is_known = |id: &String| known.contains_key(&id.parse::<Uuid>().unwrap());
        assert_eq!(ids.iter().map(is_known).collect::<Vec<_>>(), [true, true, false]);
    }
}
