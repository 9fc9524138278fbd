//! A store of a few lines, as far as the files need one.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::queue::refusal::{Code, QueueError, Refusal};
use crate::queue::store::{
    Change, Counts, Filter, Keep, Result, ResultFilter, Spell, Store, Taken,
};
use crate::queue::task::{
    BatchId, NewTask, Sharing, Task, TaskId, TaskResult, TaskState, TaskTokens,
};

#[derive(Debug, Clone, Default)]
pub(super) struct Fake {
    pub(super) tasks: Vec<Task>,
    /// With the time each ended at and whether it was archived.
    pub(super) results: Vec<(TaskResult, i64, bool)>,
    version: u64,
    pub(super) id: Uuid,
    /// Calls until one fails.
    pub(super) fuse: Option<u32>,
    /// Every id that was accepted, as often as it was.
    pub(super) accepted: Vec<String>,
    /// Every edit that was made.
    pub(super) edits: Vec<(String, Change)>,
    /// Every cancellation that was made, with the attempt.
    pub(super) cancels: Vec<(String, u32)>,
    pub(super) lists: u32,
}

fn refused<T>(code: Code, message: &str) -> Result<T> {
    Err(Refusal::new(code, message).into())
}

impl Fake {
    fn tick(&mut self) -> Result<()> {
        if let Some(left) = &mut self.fuse {
            if *left == 0 {
                return Err(crate::Error::internal("the crash of the test").into());
            }
            *left -= 1;
        }
        Ok(())
    }

    fn change(&mut self) {
        self.version += 1;
    }

    fn find(&mut self, id: &TaskId) -> Result<&mut Task> {
        match self.tasks.iter_mut().find(|task| task.id == *id) {
            Some(task) => Ok(task),
            None => refused(Code::UnknownTask, "unknown"),
        }
    }

    pub(super) fn get(&self, id: &str) -> &Task {
        self.tasks.iter().find(|task| task.id.as_str() == id).unwrap()
    }

    pub(super) fn start(&mut self, id: &str) {
        let id = TaskId::parse(id).unwrap();
        let task = self.find(&id).unwrap();
        task.state = TaskState::InProgress;
        task.started_unix_ms = Some(7);
        self.version += 1;
    }

    pub(super) fn finish(&mut self, id: &str, state: TaskState, unix_ms: i64) {
        let id = TaskId::parse(id).unwrap();
        let task = self.find(&id).unwrap();
        task.state = state;
        let result = result_of(task, unix_ms);
        self.results.push((result, unix_ms, false));
        self.version += 1;
    }
}

pub(super) fn result_of(task: &Task, unix_ms: i64) -> TaskResult {
    TaskResult {
        task_id: task.id.clone(),
        status: task.state,
        batch_id: task.batch_id.clone(),
        batch_position: task.batch_position,
        started_at: None,
        ended_at: Some(crate::clock::rfc3339(unix_ms)),
        execution_time_seconds: 1.0,
        tokens: TaskTokens::default(),
        cost_usd: 0.5,
        unpriced_tokens: 0,
        sessions: 1,
        actions_taken: vec!["Edit a.rs".into()],
        output: "did it".into(),
        errors: Vec::new(),
        warnings: Vec::new(),
        verify: None,
        sharing: Sharing::default(),
        attempt: task.attempt,
        project: task.project.clone(),
        runs: Vec::new(),
    }
}

impl Store for Fake {
    fn add_each(
        &mut self,
        now: i64,
        tasks: Vec<NewTask>,
        keep: Keep,
    ) -> Result<Vec<Result<Task, Refusal>>> {
        let one_by_one = tasks.into_iter().map(|task| match self.add_all(now, vec![task], keep) {
            Ok(mut added) => Ok(Ok(added.remove(0))),
            Err(QueueError::Refused(refusal)) => Ok(Err(refusal)),
            Err(failed) => Err(failed),
        });
        one_by_one.collect()
    }

    fn add_all(&mut self, now: i64, tasks: Vec<NewTask>, keep: Keep) -> Result<Vec<Task>> {
        assert_eq!(keep, Keep::Tasks, "the files rehearse nothing");
        self.tick()?;
        for (nth, task) in tasks.iter().enumerate() {
            let id = task.id.as_ref().unwrap();
            let twice = tasks[..nth].iter().any(|other| other.id == task.id);
            if twice || self.tasks.iter().any(|other| other.id == *id) {
                return refused(Code::TaskExists, "exists");
            }
            let other =
                self.tasks.iter().find(|t| t.batch_id.is_some() && t.batch_id == task.batch_id);
            if other.is_some_and(|other| other.project != task.project) {
                return refused(Code::BatchProject, "a batch over two projects");
            }
        }
        self.change();
        let first = self.tasks.len();
        for task in tasks {
            let id = task.id.unwrap();
            self.accepted.push(id.to_string());
            self.tasks.push(Task {
                seq: self.tasks.len() as u64 + 1,
                id,
                description: task.description,
                context: task.context,
                priority: task.priority,
                batch_id: task.batch_id,
                batch_position: None,
                project: task.project,
                verify: task.verify,
                after: task.after,
                model: task.model,
                budget_usd: task.budget_usd,
                state: TaskState::Queued,
                is_cancelling: false,
                attempt: 1,
                run_id: None,
                spent_usd: 0.0,
                created_unix_ms: now,
                updated_unix_ms: now,
                started_unix_ms: None,
            });
        }
        Ok(self.tasks[first..].to_vec())
    }

    fn task(&mut self, id: &TaskId) -> Result<Option<Task>> {
        self.tick()?;
        Ok(self.tasks.iter().find(|task| task.id == *id).cloned())
    }

    fn list(&mut self, filter: &Filter) -> Result<Vec<Task>> {
        self.tick()?;
        self.lists += 1;
        let fits = |task: &&Task| {
            (filter.states.is_empty() || filter.states.contains(&task.state))
                && filter.project.as_ref().is_none_or(|project| task.project == *project)
        };
        let mut tasks: Vec<Task> = self.tasks.iter().filter(fits).cloned().collect();
        let place = |state| u32::from(state != TaskState::InProgress);
        tasks.sort_by_key(|task| (place(task.state), -task.priority.rank(), task.seq));
        Ok(tasks.into_iter().skip(filter.offset as usize).take(filter.limit as usize).collect())
    }

    fn counts(&mut self, project: Option<&Path>) -> Result<Counts> {
        self.tick()?;
        let count = |state| {
            let fits = |task: &&Task| {
                task.state == state && project.is_none_or(|project| task.project == project)
            };
            self.tasks.iter().filter(fits).count() as u64
        };
        Ok(Counts {
            queued: count(TaskState::Queued),
            in_progress: count(TaskState::InProgress),
            ..Counts::default()
        })
    }

    fn has_batch(&mut self, _: &BatchId) -> Result<bool> {
        unimplemented!("the files begin no batch")
    }

    fn edit(&mut self, now: i64, id: &TaskId, change: &Change) -> Result<Task> {
        self.tick()?;
        if !matches!(self.find(id)?.state, TaskState::Queued | TaskState::Blocked) {
            return refused(Code::WrongState, "not queued");
        }
        self.change();
        self.edits.push((id.to_string(), change.clone()));
        let task = self.find(id)?;
        if let Some(description) = &change.description {
            task.description.clone_from(description);
        }
        if let Some(context) = &change.context {
            task.context.clone_from(context);
        }
        task.priority = change.priority.unwrap_or(task.priority);
        if let Some(batch_id) = &change.batch_id {
            task.batch_id.clone_from(batch_id);
        }
        task.updated_unix_ms = now;
        Ok(task.clone())
    }

    fn cancel(&mut self, now: i64, id: &TaskId) -> Result<Task> {
        self.tick()?;
        if matches!(self.find(id)?.state, TaskState::Done | TaskState::Error) {
            return refused(Code::WrongState, "over");
        }
        self.change();
        let attempt = self.find(id)?.attempt;
        self.cancels.push((id.to_string(), attempt));
        let task = self.find(id)?;
        task.updated_unix_ms = now;
        match task.state {
            TaskState::InProgress => task.is_cancelling = true,
            _ => {
                task.state = TaskState::Cancelled;
                let result = result_of(task, now);
                self.results.push((result, now, false));
            }
        }
        Ok(self.find(id)?.clone())
    }

    fn retry(&mut self, now: i64, id: &TaskId) -> Result<Task> {
        self.tick()?;
        if matches!(
            self.find(id)?.state,
            TaskState::Queued | TaskState::InProgress | TaskState::Done
        ) {
            return refused(Code::WrongState, "not over");
        }
        self.change();
        let task = self.find(id)?;
        task.state = TaskState::Queued;
        task.is_cancelling = false;
        task.attempt += 1;
        task.updated_unix_ms = now;
        Ok(task.clone())
    }

    fn claim(&mut self, _: i64, _: Uuid, _: &[PathBuf], _: Option<&Path>) -> Result<Option<Task>> {
        unimplemented!("the files claim nothing")
    }

    fn next_in_batch(&mut self, _: i64, _: Uuid, _: &TaskId) -> Result<Option<Task>> {
        unimplemented!("the files claim nothing")
    }

    fn unclaim(&mut self, _: i64, _: Uuid) -> Result<Vec<Task>> {
        unimplemented!("the files claim nothing")
    }

    fn settle(&mut self, _: i64, _: &Spell) -> Result<Option<TaskResult>> {
        unimplemented!("the files settle nothing")
    }

    fn in_progress(&mut self) -> Result<Vec<Task>> {
        unimplemented!("the files ask for the list")
    }

    fn result(&mut self, id: &TaskId) -> Result<Option<TaskResult>> {
        self.tick()?;
        Ok(self.results.iter().rev().find(|(r, ..)| r.task_id == *id).map(|(r, ..)| r.clone()))
    }

    fn results(&mut self, filter: &ResultFilter) -> Result<Vec<TaskResult>> {
        self.tick()?;
        let fits = |(result, _, is_archived): &&(TaskResult, i64, bool)| {
            filter.project.as_ref().is_none_or(|project| result.project == *project)
                && filter.archived.is_none_or(|archived| archived == *is_archived)
        };
        let newest = self.results.iter().rev().filter(fits).skip(filter.offset as usize);
        let mut results: Vec<TaskResult> =
            newest.take(filter.limit as usize).map(|(result, ..)| result.clone()).collect();
        results.reverse();
        Ok(results)
    }

    fn recent(&mut self, _: u32) -> Result<Vec<Task>> {
        unimplemented!("the files ask for the list")
    }

    fn projects(&mut self) -> Result<Vec<PathBuf>> {
        unimplemented!("the files are those of one project")
    }

    fn count_tasks(&mut self, _: &Filter) -> Result<u64> {
        unimplemented!("the files ask for the counts")
    }

    fn count_results(&mut self, filter: &ResultFilter) -> Result<u64> {
        let all = ResultFilter { limit: u32::MAX, offset: 0, ..filter.clone() };
        Ok(self.results(&all)?.len() as u64)
    }

    fn archive(&mut self, project: &Path, before: i64, keep_recent: u32) -> Result<u64> {
        assert!(self.results.iter().all(|(result, ..)| result.project == project), "one project");
        self.tick()?;
        self.change();
        let old = self.results.len().saturating_sub(keep_recent as usize);
        let old = self.results[..old].iter_mut().filter(|(_, at, done)| *at < before && !done);
        let mut moved = 0;
        for (_, _, is_archived) in old {
            *is_archived = true;
            moved += 1;
        }
        Ok(moved)
    }

    fn spent_since(&mut self, _: i64) -> Result<f64> {
        Ok(0.0)
    }

    fn unpriced_usd(&mut self, _: &TaskId) -> Result<f64> {
        Ok(0.0)
    }

    fn taken(&mut self) -> Result<Vec<Taken>> {
        Ok(Vec::new())
    }

    fn id(&mut self) -> Result<Uuid> {
        Ok(self.id)
    }

    fn version(&mut self) -> Result<u64> {
        self.tick()?;
        Ok(self.version)
    }
}
