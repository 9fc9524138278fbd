//! What the hub does with the queue, whichever way it was asked. The store is used
//! on a thread for blocking work: neither a slow disk nor a large answer holds up
//! other connections.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::answer::{Failure, Outcome};
use super::ask::Fields;
use super::views::ResultView;
use super::{Hub, Queue, Started};
use crate::clock::Timestamp;
use crate::queue::draft::{self, OneOrMany};
use crate::queue::files::{self, Cutoff, Reduction};
use crate::queue::store::{Change, Counts, Filter, ResultFilter};
use crate::queue::task::NEW_BATCH;
use crate::queue::{
    BatchId, Code, Draft, NewBatch, Priority, QueueError, Refusal, Store, Task, TaskId, TaskResult,
    TaskState,
};

/// Most tasks or results in one answer.
pub(super) const MAX_LIMIT: u32 = 1_000;
/// Most tasks in one request.
pub(super) const MAX_TASKS: usize = 1_000;
/// Largest age that may be asked for: a hundred years.
const MAX_AGE_MS: u64 = 36_500 * 24 * 60 * 60 * 1_000;

/// An answer holds about so many bytes of tasks or results, and at least one of them:
/// many clients that take theirs slowly must not fill the memory.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// As many are taken out of the store at a time.
const CHUNK: u32 = 100;

/// Some of many.
pub(super) struct Page<T> {
    /// No more than `limit`, and fewer if they are large.
    pub items: Vec<T>,
    /// How many there are.
    pub total: u64,
    pub limit: u32,
    pub offset: u32,
}

/// What was moved to the archive, and by what rule.
pub(super) struct Archived {
    pub done: Reduction,
    pub keep_recent: u32,
}

impl Hub {
    /// Looks into the store, where it may block.
    pub(super) async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Store) -> Result<T, QueueError> + Send + 'static,
    ) -> Outcome<T> {
        self.on_queue(move |queue| work(queue.store.as_mut())).await
    }

    /// Changes something in the store, and shows it wherever it is shown.
    async fn change_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Store) -> Result<T, QueueError> + Send + 'static,
    ) -> Outcome<T> {
        self.on_queue(move |queue| {
            let done = work(queue.store.as_mut())?;
            queue.reflect();
            Ok(done)
        })
        .await
    }

    async fn on_queue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Queue) -> Result<T, QueueError> + Send + 'static,
    ) -> Outcome<T> {
        let hub = self.clone();
        match tokio::task::spawn_blocking(move || work(&mut hub.lock())).await {
            Ok(result) => Ok(result?),
            Err(err) => Err(Failure::internal(format!("the store's thread failed: {err}"))),
        }
    }

    /// Accepts tasks, all or none. Their batches may be `new`: one for all of them.
    pub(super) async fn add(&self, drafts: Vec<Draft>) -> Outcome<Vec<Task>> {
        let (project, zone) =
            (self.settings().default_project.clone(), self.settings().zone.clone());
        let are_many = drafts.len() > 1;
        let accept = move |store: &mut dyn Store| {
            let now = Timestamp::now().unix_ms;
            let mut batch = NewBatch::new(now, zone);
            let mut tasks = Vec::with_capacity(drafts.len());
            for (index, mut draft) in drafts.into_iter().enumerate() {
                batch.name(store, &mut draft.batch_id)?;
                // Where this program was started is nothing to those who ask.
                draft.project = draft.project.map(|given| project.join(given));
                tasks.push(draft.check(&project).map_err(|refusal| refusal.at(index))?);
            }
            store.add(now, tasks)
        };
        self.change_store(move |store| {
            accept(store).map_err(|err| match err {
                QueueError::Refused(refusal) if are_many => match refusal.index {
                    Some(index) => refusal.of(format_args!("task {} of the list", index + 1)),
                    None => refusal,
                }
                .into(),
                other => other,
            })
        })
        .await
    }

    /// One task.
    pub(super) async fn task(&self, id: TaskId) -> Outcome<Task> {
        let wanted = id.clone();
        let found = self.with_store(move |store| store.task(&wanted)).await?;
        found.ok_or_else(|| unknown(&id).into()).map_err(|f: Failure| f.of_task(id.as_str()))
    }

    /// What became of a task, or where it stands.
    pub(super) async fn result(&self, id: TaskId) -> Outcome<ResultView> {
        let name = id.to_string();
        self.with_store(move |store| {
            let task = store.task(&id)?;
            // The result of an earlier attempt says nothing of one that was queued again.
            match (&task, store.result(&id)?) {
                (Some(task), _) if !task.state.is_over() => Ok(ResultView::pending(task)),
                (_, Some(result)) => Ok(result.into()),
                (Some(task), None) => Ok(ResultView::pending(task)),
                (None, None) => Err(unknown(&id).into()),
            }
        })
        .await
        .map_err(|failure| failure.of_task(name))
    }

    /// Does something with one task that may be refused.
    pub(super) async fn change(
        &self,
        id: TaskId,
        work: impl FnOnce(&mut dyn Store, i64, &TaskId) -> Result<Task, QueueError> + Send + 'static,
    ) -> Outcome<Task> {
        let name = id.to_string();
        self.change_store(move |store| work(store, Timestamp::now().unix_ms, &id))
            .await
            .map_err(|failure| failure.of_task(name))
    }

    /// Changes what a task says.
    pub(super) async fn edit(&self, id: TaskId, edit: Edit) -> Outcome<Task> {
        let zone = self.settings().zone.clone();
        self.change(id, move |store, now, id| {
            let Edit { mut change, begins_batch } = edit;
            if begins_batch {
                change.batch_id = Some(Some(NewBatch::new(now, zone).id(store)?));
            }
            store.edit(now, id, &change)
        })
        .await
    }

    /// Tasks, and how many there are of the kind.
    pub(super) async fn tasks(&self, mut filter: Filter) -> Outcome<Page<Task>> {
        let own = self.settings().default_project.clone();
        self.with_store(move |store| {
            filter.project = filter.project.map(|given| real(&own, &given));
            let items = gather(filter.limit, filter.offset, task_bytes, |limit, offset| {
                store.list(&Filter { limit, offset, ..filter.clone() })
            })?;
            let total = total_of(store, &filter)?;
            Ok(Page { items, total, limit: filter.limit, offset: filter.offset })
        })
        .await
    }

    /// The tasks accepted last, the newest first.
    pub(super) async fn recent(&self, limit: u32) -> Outcome<Vec<Task>> {
        let mut tasks = self.with_store(move |store| store.recent(limit)).await?;
        let mut bytes = 0;
        let end = tasks.iter().position(|task| {
            bytes += task_bytes(task);
            bytes > MAX_ANSWER_BYTES
        });
        tasks.truncate(end.map_or(tasks.len(), |end| end.max(1)));
        Ok(tasks)
    }

    /// Results, the newest last, and how many there are of the kind.
    pub(super) async fn results(&self, mut filter: ResultFilter) -> Outcome<Page<ResultView>> {
        let own = self.settings().default_project.clone();
        self.with_store(move |store| {
            filter.project = filter.project.map(|given| real(&own, &given));
            // The store gives the newest last.
            let newest_first = |limit, offset| {
                let mut part = store.results(&ResultFilter { limit, offset, ..filter.clone() })?;
                part.reverse();
                Ok(part)
            };
            let items = gather(filter.limit, filter.offset, result_bytes, newest_first)?;
            let items = items.into_iter().rev().map(ResultView::from).collect();
            let total = store.count_results(&filter)?;
            Ok(Page { items, total, limit: filter.limit, offset: filter.offset })
        })
        .await
    }

    /// How many tasks there are.
    pub(super) async fn counts(&self) -> Outcome<Counts> {
        self.with_store(|store| store.counts(None)).await
    }

    /// Moves old results to the archive.
    pub(super) async fn archive(&self, mut fields: Fields) -> Outcome<Archived> {
        let older_than = fields.text("older_than")?;
        let keep_recent = fields.number("keep_recent", MAX_KEEP)?;
        fields.end()?;
        let age_ms = older_than.as_deref().map(age_ms).transpose()?;
        let age_ms = age_ms.unwrap_or(self.settings().archive_after_ms);
        let keep_recent = keep_recent.unwrap_or(self.settings().keep_recent);
        let cutoff = Cutoff { age_ms, keep_recent };
        let project = self.settings().default_project.clone();
        self.on_queue(move |queue| {
            let (store, now) = (queue.store.as_mut(), Timestamp::now().unix_ms);
            let done = match &mut queue.mirror {
                Some(mirror) => mirror.archive(store, &project, cutoff)?,
                None => files::archive(store, &project, None, Path::new(""), now, cutoff)?,
            };
            queue.reflect();
            Ok(Archived { done, keep_recent })
        })
        .await
    }

    /// Has the queue worked off. With the number of tasks that are not over: those in
    /// progress are taken up again if nobody is at them any more.
    pub(super) async fn execute(&self) -> Outcome<(Started, u64)> {
        self.reflect().await;
        let counts = self.counts().await?;
        let open = counts.queued + counts.in_progress;
        let started = match open {
            0 if self.0.runner.is_running() => Started::AlreadyRunning,
            0 => Started::Started,
            _ => self.0.runner.start(),
        };
        Ok((started, open))
    }
}

/// The path by which the store knows a project; a relative one begins at the hub's `own`.
/// One that nobody knows has no tasks. Looks at the disk.
fn real(own: &Path, given: &Path) -> PathBuf {
    let path = own.join(given);
    path.canonicalize().unwrap_or(path)
}

/// Loads up to `limit` from `offset` on, as long as they fit into an answer.
fn gather<T>(
    limit: u32,
    offset: u32,
    bytes_of: impl Fn(&T) -> usize,
    mut load: impl FnMut(u32, u32) -> Result<Vec<T>, QueueError>,
) -> Result<Vec<T>, QueueError> {
    let (mut items, mut bytes) = (Vec::new(), 0);
    let mut taken = 0;
    while taken < limit {
        let wanted = CHUNK.min(limit - taken);
        let part = load(wanted, offset.saturating_add(taken))?;
        let is_last = part.len() < wanted as usize;
        for item in part {
            bytes += bytes_of(&item);
            if bytes > MAX_ANSWER_BYTES && !items.is_empty() {
                return Ok(items);
            }
            items.push(item);
        }
        if is_last {
            break;
        }
        taken += wanted;
    }
    Ok(items)
}

/// About what a task takes in an answer.
fn task_bytes(task: &Task) -> usize {
    let texts = [&task.context, &task.verify, &task.model];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let after: usize = task.after.iter().map(|id| id.as_str().len()).sum();
    1_000 + task.description.len() + texts + after
}

/// About what a result takes in an answer.
fn result_bytes(result: &TaskResult) -> usize {
    let lines = [&result.actions_taken, &result.errors, &result.warnings];
    let lines: usize = lines.into_iter().flatten().map(String::len).sum();
    1_000 + result.output.len() + lines
}

/// Most results that may be asked to stay.
pub(super) const MAX_KEEP: u32 = 1_000_000;

/// No task has that id.
fn unknown(id: &TaskId) -> Refusal {
    Refusal::new(Code::UnknownTask, format!("no task has the id {id}"))
}

/// "7d", "12h".
fn age_ms(text: &str) -> Result<u64, Refusal> {
    crate::config::parse_duration(text).ok().filter(|ms| *ms <= MAX_AGE_MS).ok_or_else(|| {
        let message = "the parameter `older_than` must be a duration such as \"7d\" or \"12h\"";
        Refusal::new(Code::InvalidParameter, message)
    })
}

/// How many tasks satisfy the filter, its limit and offset aside.
fn total_of(store: &mut dyn Store, filter: &Filter) -> Result<u64, QueueError> {
    if filter.batch_id.is_some() {
        return store.count_tasks(filter);
    }
    let counts = store.counts(filter.project.as_deref())?;
    let states = if filter.states.is_empty() { &TaskState::ALL[..] } else { &filter.states };
    let wanted = TaskState::ALL.into_iter().filter(|state| states.contains(state));
    Ok(wanted.map(|state| counts.of(state)).sum())
}

/// What is to be changed of a task.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Edit {
    change: Change,
    /// It moves to a batch that is not there yet.
    begins_batch: bool,
}

/// What is to be changed of a task, from the parameters of a request: a field that
/// is not named stays as it is, `null` takes it away.
pub(super) fn edit_of(mut fields: Fields) -> Result<Edit, Refusal> {
    let names: Vec<String> = fields.names().cloned().collect();
    let mut edit = Edit::default();
    for name in &names {
        let value = fields.value(name).unwrap_or_default();
        set(&mut edit, name, value)?;
    }
    if edit == Edit::default() {
        let message = "there is nothing to change: name at least one of description, context, \
                       priority, batch_id, verify, after, model, budget_usd";
        return Err(Refusal::new(Code::MissingParameter, message));
    }
    Ok(edit)
}

fn set(Edit { change, begins_batch }: &mut Edit, name: &str, value: Value) -> Result<(), Refusal> {
    let wrong = |what: &str| {
        Refusal::new(Code::InvalidParameter, format!("the parameter `{name}` must be {what}"))
    };
    let text = |value: Value| match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(wrong("a text")),
    };
    match name {
        "description" => {
            let given = text(value)?.ok_or_else(|| wrong("a text"))?;
            change.description = Some(draft::description_of(given)?);
        }
        "context" => change.context = Some(draft::context_of(value)?),
        "priority" => {
            change.priority = Some(priority_of(value).ok_or_else(|| {
                wrong("low, normal, medium, high, urgent, critical, or a number from -1000 to 1000")
            })?)
        }
        "batch_id" | "batch" => {
            let given = text(value)?;
            *begins_batch = given.as_deref() == Some(NEW_BATCH);
            let id = given.filter(|_| !*begins_batch);
            change.batch_id = Some(id.map(|id| BatchId::parse(&id)).transpose()?);
        }
        "verify" | "verify_command" => {
            change.verify = Some(text(value)?.map(draft::verify_of).transpose()?.flatten());
        }
        "after" | "depends_on" | "dependencies" => {
            let ids: Option<OneOrMany> = serde_json::from_value(value)
                .map_err(|_| wrong("the id of a task or a list of them"))?;
            let ids = ids.map(OneOrMany::into_vec).unwrap_or_default();
            change.after = Some(draft::after_of(ids)?);
        }
        "model" => change.model = Some(text(value)?.map(draft::model_of).transpose()?.flatten()),
        "budget_usd" | "budget" | "max_cost_usd" => {
            let usd: Option<f64> = serde_json::from_value(value).map_err(|_| wrong("a number"))?;
            change.budget_usd = Some(usd.map(draft::budget_of).transpose()?);
        }
        "project" | "status" | "id" => {
            let message = format!(
                "the parameter `{name}` of a task cannot be changed; cancel it, retry it, or add \
                 another task"
            );
            return Err(Refusal::new(Code::InvalidParameter, message));
        }
        other => {
            let shown = crate::text::safe(other);
            let message = format!("the parameter `{}` is unknown", crate::text::clip(&shown, 60));
            return Err(Refusal::new(Code::UnknownParameter, message));
        }
    }
    Ok(())
}

/// `null` is the default.
fn priority_of(value: Value) -> Option<Priority> {
    match value {
        Value::Null => Some(Priority::default()),
        other => serde_json::from_value(other).ok(),
    }
}

/// The states that a filter names, with commas between them.
pub(super) fn states_of(text: &str) -> Result<Vec<TaskState>, Refusal> {
    text.split(',')
        .map(|word| {
            TaskState::parse(word.trim()).ok_or_else(|| {
                let message = "the parameter `state` must be one or more, with commas between \
                               them, of queued, in_progress, done, error, cancelled, blocked";
                Refusal::new(Code::InvalidParameter, message)
            })
        })
        .collect()
}

/// The part of a list that is wanted, and of which project and batch.
pub(super) struct Wanted {
    /// As it was given.
    pub project: Option<PathBuf>,
    pub batch_id: Option<BatchId>,
    pub limit: u32,
    pub offset: u32,
}

impl Wanted {
    /// Takes it out of the parameters.
    pub fn of(fields: &mut Fields, default_limit: u32) -> Result<Self, Refusal> {
        let project = fields.path("project")?;
        let batch_id = fields.text("batch_id")?.map(|id| BatchId::parse(&id)).transpose()?;
        let limit = fields.number("limit", MAX_LIMIT)?.unwrap_or(default_limit);
        let offset = fields.number("offset", u32::MAX)?.unwrap_or(0);
        Ok(Self { project, batch_id, limit, offset })
    }
}
