//! The queue as a list of tasks, simple and slow: what the engine is compared with.
//! Whatever is derived is worked out anew from the whole list each time.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::outcome;
use super::refusal::{Code, QueueError, Refusal};
use super::store::{
    Change, Counts, Filter, Keep, Result, ResultFilter, Spell, SpellEnd, Store, Taken,
};
use super::task::{BatchId, NewTask, Task, TaskId, TaskResult, TaskState};

#[derive(Debug, Clone)]
struct Entry {
    task: Task,
    by_dependency: bool,
    /// When it was taken up or ended.
    turn: u64,
}

#[derive(Debug, Clone)]
struct Stored {
    result: TaskResult,
    ended_unix_ms: i64,
    is_archived: bool,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    tasks: Vec<Entry>,
    results: Vec<Stored>,
    spells: Vec<Spell>,
    /// Project of each batch, and the positions given.
    batches: BTreeMap<BatchId, (PathBuf, u32)>,
    turns: u64,
    changes: u64,
}

fn refuse<T>(code: Code) -> Result<T> {
    Err(Refusal::new(code, "").into())
}

impl Model {
    /// All of it happens or nothing does.
    fn write<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mut copy = self.clone();
        let value = work(&mut copy)?;
        copy.changes += 1;
        *self = copy;
        Ok(value)
    }

    fn place(&self, id: &TaskId) -> Option<usize> {
        self.tasks.iter().position(|entry| entry.task.id == *id)
    }

    fn known(&self, id: &TaskId) -> Result<usize> {
        self.place(id).map_or_else(|| refuse(Code::UnknownTask), Ok)
    }

    fn of(&self, id: &TaskId) -> &Task {
        &self.tasks[self.place(id).unwrap()].task
    }

    fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    fn is_behind(&self, task: &Task) -> bool {
        self.tasks.iter().any(|other| {
            task.batch_id.is_some()
                && other.task.batch_id == task.batch_id
                && other.task.batch_position < task.batch_position
                && !other.task.state.is_over()
        })
    }

    fn has_all_it_waits_for(&self, task: &Task) -> bool {
        task.after.iter().all(|id| self.of(id).state == TaskState::Done)
    }

    fn is_ready(&self, task: &Task) -> bool {
        task.state == TaskState::Queued && self.has_all_it_waits_for(task) && !self.is_behind(task)
    }

    fn failed_dependency(&self, at: usize) -> Option<usize> {
        let after = self.tasks[at].task.after.iter().map(|id| self.place(id).unwrap());
        let failed = |&at: &usize| {
            let state = self.tasks[at].task.state;
            state.is_over() && state != TaskState::Done
        };
        after.into_iter().find(failed)
    }

    /// Does anybody wait for himself? A task waits for what it names and for all of
    /// its batch before it; what is done is waited for no more.
    fn has_cycle(&self) -> bool {
        let is_open = |entry: &&Entry| entry.task.state != TaskState::Done;
        let mut open: Vec<&Task> =
            self.tasks.iter().filter(is_open).map(|entry| &entry.task).collect();
        loop {
            let waits = |task: &&Task| {
                open.iter().any(|other| {
                    task.after.contains(&other.id)
                        || (task.batch_id.is_some()
                            && other.batch_id == task.batch_id
                            && other.batch_position < task.batch_position)
                })
            };
            let rest: Vec<&Task> = open.iter().copied().filter(waits).collect();
            if rest.len() == open.len() {
                return !rest.is_empty();
            }
            open = rest;
        }
    }

    fn join(&mut self, batch: &BatchId, project: &Path) -> Result<u32> {
        let new = || (project.to_owned(), 0);
        let (owner, positions) = self.batches.entry(batch.clone()).or_insert_with(new);
        if owner != project {
            return refuse(Code::BatchProject);
        }
        *positions += 1;
        Ok(*positions)
    }

    fn end(
        &mut self,
        now: i64,
        ended: i64,
        at: usize,
        state: TaskState,
        why: Option<&str>,
        by_dependency: bool,
    ) {
        let turn = self.next_turn();
        let entry = &mut self.tasks[at];
        let of_attempt =
            |spell: &&Spell| spell.task_id == entry.task.id && spell.attempt == entry.task.attempt;
        let spells: Vec<Spell> = self.spells.iter().filter(of_attempt).cloned().collect();
        let result = outcome::result_of(&entry.task, &spells, state, ended, why);
        self.results.push(Stored { result, ended_unix_ms: ended, is_archived: false });
        entry.task.state = state;
        entry.task.is_cancelling = false;
        entry.task.updated_unix_ms = now;
        entry.by_dependency = by_dependency;
        entry.turn = turn;
    }

    fn end_with_dependents(
        &mut self,
        now: i64,
        ended: i64,
        at: usize,
        state: TaskState,
        why: Option<&str>,
        by: bool,
    ) {
        self.end(now, ended, at, state, why, by);
        if state == TaskState::Done {
            return;
        }
        let root = self.root_of(at);
        let (root_id, root_state) = (self.tasks[root].task.id.clone(), self.tasks[root].task.state);
        let mut open = VecDeque::from([at]);
        while let Some(at) = open.pop_front() {
            let id = self.tasks[at].task.id.clone();
            for next in 0..self.tasks.len() {
                let task = &self.tasks[next].task;
                if task.state == TaskState::Queued && task.after.contains(&id) {
                    let why = outcome::dependency_error(id.as_str(), root_id.as_str(), root_state);
                    self.end(now, now, next, TaskState::Blocked, Some(&why), true);
                    open.push_back(next);
                }
            }
        }
    }

    fn root_of(&self, mut at: usize) -> usize {
        while self.tasks[at].by_dependency {
            match self.failed_dependency(at) {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }

    fn block_if_hopeless(&mut self, now: i64, at: usize) {
        let Some(direct) = self.failed_dependency(at) else { return };
        let root = &self.tasks[self.root_of(direct)].task;
        let direct = self.tasks[direct].task.id.as_str();
        let why = outcome::dependency_error(direct, root.id.as_str(), root.state);
        self.end_with_dependents(now, now, at, TaskState::Blocked, Some(&why), true);
    }

    fn begin_attempt(&mut self, at: usize) {
        let task = &mut self.tasks[at].task;
        task.attempt += 1;
        task.spent_usd = 0.0;
        task.started_unix_ms = None;
    }

    fn take(&mut self, now: i64, run_id: Uuid, at: usize) -> Task {
        let turn = self.next_turn();
        let entry = &mut self.tasks[at];
        entry.turn = turn;
        entry.task.state = TaskState::InProgress;
        entry.task.run_id = Some(run_id);
        entry.task.started_unix_ms.get_or_insert(now);
        entry.task.updated_unix_ms = now;
        entry.task.clone()
    }

    fn release(&mut self, now: i64, at: usize) {
        if self.tasks[at].task.is_cancelling {
            self.end_with_dependents(now, now, at, TaskState::Cancelled, None, false);
            return;
        }
        self.tasks[at].task.state = TaskState::Queued;
        self.tasks[at].task.updated_unix_ms = now;
    }

    fn edit_task(&mut self, now: i64, at: usize, change: &Change) -> Result<()> {
        let change = change.clone();
        let task = &mut self.tasks[at].task;
        if let Some(text) = change.description {
            task.description = text;
        }
        if let Some(text) = change.context {
            task.context = text;
        }
        if let Some(priority) = change.priority {
            task.priority = priority;
        }
        if let Some(text) = change.verify {
            task.verify = text;
        }
        if let Some(text) = change.model {
            task.model = text;
        }
        if let Some(usd) = change.budget_usd {
            task.budget_usd = usd;
        }
        task.updated_unix_ms = now;
        let project = task.project.clone();
        if let Some(batch) = change.batch_id.filter(|batch| *batch != task.batch_id) {
            let position = batch.as_ref().map(|id| self.join(id, &project)).transpose()?;
            self.tasks[at].task.batch_id = batch;
            self.tasks[at].task.batch_position = position;
        }
        if let Some(after) = change.after {
            if after.iter().any(|id| self.place(id).is_none()) {
                return refuse(Code::UnknownDependency);
            }
            self.tasks[at].task.after = after;
        }
        if self.has_cycle() {
            return refuse(Code::DependencyCycle);
        }
        if self.tasks[at].task.state == TaskState::Queued {
            self.block_if_hopeless(now, at);
        }
        Ok(())
    }
}

impl Store for Model {
    fn add_each(
        &mut self,
        now_unix_ms: i64,
        tasks: Vec<NewTask>,
        keep: Keep,
    ) -> Result<Vec<Result<Task, Refusal>>> {
        let before = self.clone();
        let mut answers: Vec<Option<Result<Task, Refusal>>> = vec![None; tasks.len()];
        // The first of those that wait for nothing open, time and again.
        let waits_for_open = |place: usize, answers: &[Option<_>]| {
            tasks[place].after.iter().any(|id| {
                let named = tasks.iter().position(|task| task.id.as_ref() == Some(id));
                named.is_some_and(|named| named != place && answers[named].is_none())
            })
        };
        while let Some(place) = (0..tasks.len())
            .find(|&place| answers[place].is_none() && !waits_for_open(place, &answers))
        {
            answers[place] = Some(match self.add(now_unix_ms, vec![tasks[place].clone()]) {
                Ok(mut added) => Ok(added.remove(0)),
                Err(QueueError::Refused(refusal)) => Err(refusal),
                Err(failed) => return Err(failed),
            });
        }
        if keep == Keep::Nothing {
            *self = before;
        }
        let circular = || Err(Refusal::new(Code::DependencyCycle, ""));
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(circular)).collect())
    }

    fn add_all(&mut self, now_unix_ms: i64, tasks: Vec<NewTask>, keep: Keep) -> Result<Vec<Task>> {
        if keep == Keep::Nothing {
            return self.clone().add(now_unix_ms, tasks);
        }
        self.write(|model| {
            let first = model.tasks.len();
            for (n, new) in tasks.iter().enumerate() {
                let id = new.id.clone().expect("the tests give each task an id");
                let before = tasks[..n].iter().any(|other| other.id.as_ref() == Some(&id));
                if before || model.place(&id).is_some() {
                    return refuse(Code::TaskExists);
                }
            }
            let is_new = |id: &TaskId| tasks.iter().any(|new| new.id.as_ref() == Some(id));
            let unknown = |id: &TaskId| !is_new(id) && model.place(id).is_none();
            if tasks.iter().flat_map(|new| &new.after).any(unknown) {
                return refuse(Code::UnknownDependency);
            }
            for (n, new) in tasks.into_iter().enumerate() {
                let batch = new.batch_id.as_ref();
                let batch_position = batch.map(|id| model.join(id, &new.project)).transpose()?;
                let task = Task {
                    seq: (first + n + 1) as u64,
                    id: new.id.expect("looked at above"),
                    description: new.description,
                    context: new.context,
                    priority: new.priority,
                    batch_id: new.batch_id,
                    batch_position,
                    project: new.project,
                    verify: new.verify,
                    after: new.after,
                    model: new.model,
                    budget_usd: new.budget_usd,
                    state: TaskState::Queued,
                    is_cancelling: false,
                    attempt: 1,
                    run_id: None,
                    spent_usd: 0.0,
                    created_unix_ms: now_unix_ms,
                    updated_unix_ms: now_unix_ms,
                    started_unix_ms: None,
                };
                model.tasks.push(Entry { task, by_dependency: false, turn: 0 });
            }
            if model.has_cycle() {
                return refuse(Code::DependencyCycle);
            }
            for at in first..model.tasks.len() {
                if model.tasks[at].task.state == TaskState::Queued {
                    model.block_if_hopeless(now_unix_ms, at);
                }
            }
            Ok(model.tasks[first..].iter().map(|entry| entry.task.clone()).collect())
        })
    }

    fn task(&mut self, id: &TaskId) -> Result<Option<Task>> {
        Ok(self.place(id).map(|at| self.tasks[at].task.clone()))
    }

    fn list(&mut self, filter: &Filter) -> Result<Vec<Task>> {
        let mut found: Vec<&Entry> = self
            .tasks
            .iter()
            .filter(|entry| filter.states.is_empty() || filter.states.contains(&entry.task.state))
            .filter(|entry| filter.project.as_ref().is_none_or(|p| entry.task.project == *p))
            .filter(|entry| filter.batch_id.is_none() || entry.task.batch_id == filter.batch_id)
            .collect();
        found.sort_by_key(|entry| match entry.task.state {
            TaskState::InProgress => (0, 0, entry.turn as i64),
            TaskState::Queued => (1, -entry.task.priority.rank(), entry.task.seq as i64),
            _ => (2, 0, -(entry.turn as i64)),
        });
        let part = found.into_iter().skip(filter.offset as usize).take(filter.limit as usize);
        Ok(part.map(|entry| entry.task.clone()).collect())
    }

    fn counts(&mut self, project: Option<&Path>) -> Result<Counts> {
        let mut counts = Counts::default();
        for Entry { task, .. } in &self.tasks {
            if project.is_some_and(|path| path != task.project) {
                continue;
            }
            match task.state {
                TaskState::Queued => counts.queued += 1,
                TaskState::InProgress => counts.in_progress += 1,
                TaskState::Done => counts.done += 1,
                TaskState::Error => counts.error += 1,
                TaskState::Cancelled => counts.cancelled += 1,
                TaskState::Blocked => counts.blocked += 1,
            }
            counts.ready += u64::from(self.is_ready(task));
        }
        Ok(counts)
    }

    fn has_batch(&mut self, id: &BatchId) -> Result<bool> {
        Ok(self.batches.contains_key(id))
    }

    fn edit(&mut self, now_unix_ms: i64, id: &TaskId, change: &Change) -> Result<Task> {
        self.write(|model| {
            let at = model.known(id)?;
            if !matches!(model.tasks[at].task.state, TaskState::Queued | TaskState::Blocked) {
                return refuse(Code::WrongState);
            }
            model.edit_task(now_unix_ms, at, change)?;
            Ok(model.tasks[at].task.clone())
        })
    }

    fn cancel(&mut self, now_unix_ms: i64, id: &TaskId) -> Result<Task> {
        self.write(|model| {
            let at = model.known(id)?;
            let cancelled = TaskState::Cancelled;
            match model.tasks[at].task.state {
                TaskState::Done | TaskState::Error => return refuse(Code::WrongState),
                TaskState::Cancelled => {}
                TaskState::InProgress if model.tasks[at].task.is_cancelling => {}
                TaskState::InProgress => {
                    model.tasks[at].task.is_cancelling = true;
                    model.tasks[at].task.updated_unix_ms = now_unix_ms;
                }
                TaskState::Queued => {
                    model.end_with_dependents(now_unix_ms, now_unix_ms, at, cancelled, None, false);
                }
                TaskState::Blocked => {
                    model.begin_attempt(at);
                    model.end_with_dependents(now_unix_ms, now_unix_ms, at, cancelled, None, false);
                }
            }
            Ok(model.tasks[at].task.clone())
        })
    }

    fn retry(&mut self, now_unix_ms: i64, id: &TaskId) -> Result<Task> {
        self.write(|model| {
            let first = model.known(id)?;
            let state = model.tasks[first].task.state;
            if !state.is_over() || state == TaskState::Done {
                return refuse(Code::WrongState);
            }
            if model.failed_dependency(first).is_some() {
                return refuse(Code::WrongState);
            }
            let mut open = vec![first];
            while let Some(at) = open.pop() {
                model.begin_attempt(at);
                model.tasks[at].task.state = TaskState::Queued;
                model.tasks[at].task.updated_unix_ms = now_unix_ms;
                model.tasks[at].by_dependency = false;
                let id = model.tasks[at].task.id.clone();
                let revived = (0..model.tasks.len()).filter(|&next| {
                    let entry = &model.tasks[next];
                    entry.by_dependency
                        && entry.task.state == TaskState::Blocked
                        && entry.task.after.contains(&id)
                        && model.failed_dependency(next).is_none()
                });
                let revived: Vec<usize> = revived.filter(|next| !open.contains(next)).collect();
                open.extend(revived);
            }
            Ok(model.tasks[first].task.clone())
        })
    }

    fn claim(
        &mut self,
        now_unix_ms: i64,
        run_id: Uuid,
        busy: &[PathBuf],
        only: Option<&Path>,
    ) -> Result<Option<Task>> {
        let next = (0..self.tasks.len())
            .filter(|&at| self.is_ready(&self.tasks[at].task))
            .filter(|&at| !busy.contains(&self.tasks[at].task.project))
            .filter(|&at| only.is_none_or(|path| path == self.tasks[at].task.project))
            .min_by_key(|&at| (-self.tasks[at].task.priority.rank(), at));
        let Some(at) = next else { return Ok(None) };
        self.write(|model| Ok(Some(model.take(now_unix_ms, run_id, at))))
    }

    fn next_in_batch(
        &mut self,
        now_unix_ms: i64,
        run_id: Uuid,
        current: &TaskId,
    ) -> Result<Option<Task>> {
        let current = self.tasks[self.known(current)?].clone();
        let state = current.task.state;
        if current.task.batch_id.is_none()
            || current.task.run_id != Some(run_id)
            || state == TaskState::Queued
        {
            return Ok(None);
        }
        let mut others: Vec<usize> = (0..self.tasks.len())
            .filter(|&at| self.tasks[at].task.batch_id == current.task.batch_id)
            .filter(|&at| self.tasks[at].task.id != current.task.id)
            .filter(|&at| !self.tasks[at].task.state.is_over())
            .collect();
        let is_taken = |&&at: &&usize| {
            let entry = &self.tasks[at];
            entry.task.state == TaskState::InProgress
                && entry.task.run_id == Some(run_id)
                && (state.is_over() || entry.turn > current.turn)
        };
        if let Some(&taken) = others.iter().filter(is_taken).min_by_key(|&&at| self.tasks[at].turn)
        {
            return Ok(Some(self.tasks[taken].task.clone()));
        }
        others.sort_by_key(|&at| self.tasks[at].task.batch_position);
        let Some(&at) = others.first() else { return Ok(None) };
        let next = &self.tasks[at].task;
        if next.state != TaskState::Queued
            || !self.has_all_it_waits_for(next)
            || next.model != current.task.model
        {
            return Ok(None);
        }
        self.write(|model| Ok(Some(model.take(now_unix_ms, run_id, at))))
    }

    fn unclaim(&mut self, now_unix_ms: i64, run_id: Uuid) -> Result<Vec<Task>> {
        let mut taken: Vec<usize> = (0..self.tasks.len())
            .filter(|&at| self.tasks[at].task.state == TaskState::InProgress)
            .filter(|&at| self.tasks[at].task.run_id == Some(run_id))
            .collect();
        taken.sort_by_key(|&at| self.tasks[at].turn);
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        self.write(|model| {
            for &at in &taken {
                let task = &model.tasks[at].task;
                let has_begun = model
                    .spells
                    .iter()
                    .any(|spell| spell.task_id == task.id && spell.attempt == task.attempt);
                if !has_begun {
                    model.tasks[at].task.started_unix_ms = None;
                }
                model.release(now_unix_ms, at);
            }
            Ok(taken.iter().map(|&at| model.tasks[at].task.clone()).collect())
        })
    }

    fn settle(&mut self, now_unix_ms: i64, spell: &Spell) -> Result<Option<TaskResult>> {
        let at = self.known(&spell.task_id)?;
        let task = &self.tasks[at].task;
        let is_booked = self.spells.iter().any(|other| {
            (&other.task_id, other.attempt, other.run_id, other.started_unix_ms)
                == (&spell.task_id, spell.attempt, spell.run_id, spell.started_unix_ms)
        });
        let is_at_work = task.state == TaskState::InProgress
            && (task.run_id, task.attempt) == (Some(spell.run_id), spell.attempt);
        if is_at_work && !is_booked {
            self.write(|model| {
                model.spells.push(spell.clone());
                let task = &mut model.tasks[at].task;
                task.spent_usd += spell.cost_usd;
                task.started_unix_ms = task.started_unix_ms.min(Some(spell.started_unix_ms));
                let state = match spell.end {
                    SpellEnd::Done => TaskState::Done,
                    SpellEnd::Error { .. } => TaskState::Error,
                    SpellEnd::Blocked { .. } => TaskState::Blocked,
                    SpellEnd::Released { .. } if task.is_cancelling => TaskState::Cancelled,
                    SpellEnd::Released { .. } => {
                        model.release(now_unix_ms, at);
                        return Ok(());
                    }
                };
                let ended = spell.ended_unix_ms;
                model.end_with_dependents(now_unix_ms, ended, at, state, None, false);
                Ok(())
            })?;
        }
        let same = |stored: &&Stored| {
            stored.result.task_id == spell.task_id && stored.result.attempt == spell.attempt
        };
        Ok(self.results.iter().find(same).map(|stored| stored.result.clone()))
    }

    fn in_progress(&mut self) -> Result<Vec<Task>> {
        self.list(&Filter {
            states: vec![TaskState::InProgress],
            limit: u32::MAX,
            ..Filter::default()
        })
    }

    fn result(&mut self, id: &TaskId) -> Result<Option<TaskResult>> {
        let of = self.results.iter().filter(|stored| stored.result.task_id == *id);
        Ok(of.max_by_key(|stored| stored.result.attempt).map(|stored| stored.result.clone()))
    }

    fn results(&mut self, filter: &ResultFilter) -> Result<Vec<TaskResult>> {
        let found = self
            .results
            .iter()
            .rev()
            .filter(|s| filter.project.as_ref().is_none_or(|path| s.result.project == *path))
            .filter(|s| filter.batch_id.is_none() || s.result.batch_id == filter.batch_id)
            .filter(|s| filter.archived.is_none_or(|archived| s.is_archived == archived))
            .skip(filter.offset as usize)
            .take(filter.limit as usize);
        let mut found: Vec<TaskResult> = found.map(|stored| stored.result.clone()).collect();
        found.reverse();
        Ok(found)
    }

    fn recent(&mut self, limit: u32) -> Result<Vec<Task>> {
        Ok(self.tasks.iter().rev().take(limit as usize).map(|entry| entry.task.clone()).collect())
    }

    fn projects(&mut self) -> Result<Vec<PathBuf>> {
        let mut projects: Vec<PathBuf> = Vec::new();
        for entry in &self.tasks {
            if !projects.contains(&entry.task.project) {
                projects.push(entry.task.project.clone());
            }
        }
        Ok(projects)
    }

    fn count_tasks(&mut self, filter: &Filter) -> Result<u64> {
        let all = Filter { limit: u32::MAX, offset: 0, ..filter.clone() };
        Ok(self.list(&all)?.len() as u64)
    }

    fn count_results(&mut self, filter: &ResultFilter) -> Result<u64> {
        let all = ResultFilter { limit: u32::MAX, offset: 0, ..filter.clone() };
        Ok(self.results(&all)?.len() as u64)
    }

    fn archive(&mut self, project: &Path, before_unix_ms: i64, keep_recent: u32) -> Result<u64> {
        let (mut newer, mut moved) = (0, 0);
        let of_project = self.results.iter_mut().filter(|s| s.result.project == project);
        for stored in of_project.rev() {
            let is_old = stored.ended_unix_ms < before_unix_ms && newer >= keep_recent;
            newer += 1;
            if is_old && !stored.is_archived {
                stored.is_archived = true;
                moved += 1;
            }
        }
        self.changes += u64::from(moved > 0);
        Ok(moved)
    }

    fn spent_since(&mut self, since_unix_ms: i64) -> Result<f64> {
        let since = self.spells.iter().filter(|spell| spell.ended_unix_ms >= since_unix_ms);
        Ok(since.fold(0.0, |sum, spell| sum + (spell.cost_usd + spell.unpriced_usd)))
    }

    fn unpriced_usd(&mut self, id: &TaskId) -> Result<f64> {
        let task = &self.tasks[self.known(id)?].task;
        let is_over = self
            .results
            .iter()
            .any(|stored| (&stored.result.task_id, stored.result.attempt) == (id, task.attempt));
        let of = |spell: &&Spell| !is_over && (&spell.task_id, spell.attempt) == (id, task.attempt);
        Ok(self.spells.iter().filter(of).fold(0.0, |sum, spell| sum + spell.unpriced_usd))
    }

    fn taken(&mut self) -> Result<Vec<Taken>> {
        let spells = self.spells.iter().map(|spell| Taken {
            from_unix_ms: spell.started_unix_ms,
            run_id: spell.run_id,
            task_id: spell.task_id.clone(),
            batch_id: self.of(&spell.task_id).batch_id.clone(),
        });
        let at_work = self.tasks.iter().map(|entry| &entry.task);
        let at_work = at_work.filter(|task| task.state == TaskState::InProgress).map(|task| {
            let of = self.spells.iter().filter(|spell| spell.task_id == task.id);
            let ended = of.map(|spell| spell.ended_unix_ms).max().unwrap_or(0);
            let started = task.started_unix_ms.unwrap_or(task.created_unix_ms);
            let run_id = task.run_id.expect("a task in progress has a run");
            let (task_id, batch_id) = (task.id.clone(), task.batch_id.clone());
            Taken { from_unix_ms: started.max(ended), run_id, task_id, batch_id }
        });
        let mut taken: Vec<Taken> = spells.chain(at_work).collect();
        taken.sort_by_key(|taken| (taken.from_unix_ms, self.place(&taken.task_id)));
        Ok(taken)
    }

    fn id(&mut self) -> Result<Uuid> {
        Ok(Uuid::nil())
    }

    fn version(&mut self) -> Result<u64> {
        Ok(self.changes)
    }
}
