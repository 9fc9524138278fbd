//! A run of the queue: which task it has in hand, and where its deeds are booked.
//!
//! The store says which task is next; the task file of the project gets it as a
//! section; what the run did comes back as a [`Spell`].

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use super::refusal::QueueError;
use super::store::{Spell, SpellEnd, Store};
use super::task::{Sharing, Task, TaskId, TaskState, TaskTokens, VerifyResult};
use crate::clock::Timestamp;
use crate::cycle::assignment::{Assignment, End, Given};
use crate::devdocs::section::{self, Section};
use crate::error::{Error, Result};
use crate::text;

/// Longest text that is typed or given as an argument; more is read in the task file.
const PROMPT_BYTES_MAX: usize = 4 << 10;
/// What `queue.max_cost_usd_per_day` speaks of.
pub const DAY_MS: i64 = 86_400_000;
/// Longest last words that a result keeps.
const OUTPUT_BYTES_MAX: usize = 16 << 10;

/// The queue as one run sees it.
pub struct Chain {
    store: Mutex<Box<dyn Store>>,
    run_id: Uuid,
    project: PathBuf,
    task_file: PathBuf,
    /// `task.verify`, for tasks without a command of their own.
    verify: Option<String>,
    /// `queue.max_cost_usd_per_day`
    max_cost_usd_per_day: f64,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("run_id", &self.run_id).finish_non_exhaustive()
    }
}

/// What became of asking for a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// This one.
    Task(Box<Given>),
    /// There is none.
    None,
    /// It cannot be put before a session.
    Trouble(String),
}

impl Chain {
    /// The tasks of the run `run_id` in `project`.
    pub fn new(
        store: Box<dyn Store>,
        run_id: Uuid,
        project: &Path,
        task_file: &Path,
        verify: Option<String>,
        max_cost_usd_per_day: f64,
    ) -> Self {
        Self {
            store: Mutex::new(store),
            run_id,
            project: project.to_owned(),
            task_file: task_file.to_owned(),
            verify,
            max_cost_usd_per_day,
        }
    }

    /// The run.
    pub fn run_id(&self) -> Uuid {
        self.run_id
    }

    /// Takes the task after `after`, and puts it into the task file. Asked again with
    /// the same `after`, it gives the same task. `unbooked_usd` is what the run has spent
    /// on `after`: with it the day's limit may be reached, and nothing more is begun.
    /// Blocks on the store and the disk.
    ///
    /// # Errors
    /// The store fails.
    pub fn take(&self, now: Timestamp, after: Option<&str>, unbooked_usd: f64) -> Result<Taken> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let task = match after {
            None => self.first(store.as_mut())?,
            Some(_) if self.is_day_spent(store.as_mut(), now, unbooked_usd)? => None,
            Some(id) => {
                let id = TaskId::parse(id).map_err(QueueError::from)?;
                store.next_in_batch(now.unix_ms, self.run_id, &id)?
            }
        };
        let Some(task) = task else { return Ok(Taken::None) };
        let section = Section {
            id: task.id.as_str(),
            description: &task.description,
            context: task.context.as_deref(),
        };
        let is_over = |id: &str| Some(id) == after || is_settled(store.as_mut(), id);
        // At its first claim ever. What a retried task has there may be the answer that it
        // waited for.
        let is_first_claim = task.started_unix_ms == Some(task.updated_unix_ms);
        let is_new = task.attempt == 1 && is_first_claim;
        match section::put(&self.project, &self.task_file, &section, is_new, is_over) {
            Ok(()) => {
                let unpriced_usd = store.unpriced_usd(&task.id)?;
                Ok(Taken::Task(Box::new(self.given(&task, unpriced_usd))))
            }
            Err(why) => Ok(Taken::Trouble(why)),
        }
    }

    fn is_day_spent(
        &self,
        store: &mut dyn Store,
        now: Timestamp,
        unbooked_usd: f64,
    ) -> Result<bool> {
        let spent_usd = store.spent_since(now.unix_ms - DAY_MS)?;
        Ok(spent_usd + unbooked_usd >= self.max_cost_usd_per_day)
    }

    /// The task that the run has in hand, or begins with.
    ///
    /// # Errors
    /// The store fails.
    pub fn in_hand(&self) -> Result<Option<Task>> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        self.first(store.as_mut())
    }

    /// The first task that was taken for this run and is not settled.
    fn first(&self, store: &mut dyn Store) -> Result<Option<Task>> {
        let all = store.in_progress()?;
        Ok(all.into_iter().find(|task| task.run_id == Some(self.run_id)))
    }

    fn given(&self, task: &Task, unpriced_usd: f64) -> Given {
        let spent_usd = task.spent_usd + unpriced_usd;
        Given {
            task_id: task.id.to_string(),
            attempt: task.attempt,
            batch_id: task.batch_id.as_ref().map(ToString::to_string),
            batch_position: task.batch_position,
            title: section::title(&task.description),
            prompt: prompt(task, &self.task_file),
            continue_prompt: continue_prompt(task, &self.task_file),
            verify: task.verify.clone().or_else(|| self.verify.clone()),
            budget_usd: task.budget_usd.map(|usd| (usd - spent_usd).max(0.0)),
            spent_usd: task.spent_usd,
            unpriced_usd,
            // Whoever takes it knows the budget.
            told_percent: 0,
        }
    }

    /// Books what the run did for a task. The same once more changes nothing. Blocks
    /// on the store.
    ///
    /// # Errors
    /// The store fails.
    pub fn settle(&self, assignment: &Assignment, output: &str) -> Result<()> {
        let Some(spell) = spell(self.run_id, assignment, output)? else { return Ok(()) };
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.settle(spell.ended_unix_ms, &spell)?;
        Ok(())
    }
}

/// Is the task over, so that its section may go? One that waits for a person keeps it.
fn is_settled(store: &mut dyn Store, id: &str) -> bool {
    let Ok(id) = TaskId::parse(id) else { return false };
    // A store that fails now says so at the next call that matters.
    matches!(
        store.task(&id),
        Ok(Some(Task { state: TaskState::Done | TaskState::Cancelled | TaskState::Error, .. }))
    )
}

/// What the session is told of its task.
fn prompt(task: &Task, file: &Path) -> String {
    let (id, file) = (&task.id, file.display());
    let mut words = text::quoted(task.description.trim());
    if let Some(context) = &task.context {
        words.push_str("\n\nContext: ");
        words.push_str(&text::quoted(context.trim()));
    }
    if words.len() > PROMPT_BYTES_MAX {
        words = format!(
            "{} (all of it stands in {file}: read it there first)",
            text::quoted(&section::title(&task.description))
        );
    }
    format!(
        "Your task now is {id}, one of a queue: {words}\n\nIt stands in {file} as the section \
         \"Task {id}\". Tick its checkbox there when the task is done and checked, not before; \
         add boxes there if you split it. Other open boxes in that file are not yours now. If \
         only a person can help, write 'Status: blocked: ' and the reason into that section. \
         Nobody is watching: do not wait for an answer."
    )
}

/// What a session is told that stopped before the task was done.
fn continue_prompt(task: &Task, file: &Path) -> String {
    let (id, file) = (&task.id, file.display());
    format!(
        "Task {id} is not done: its section in {file} has an open checkbox, or is gone. Go on with \
         it, and tick the box there when it is done and checked (put the section back, ticked, if \
         you took it out). Do not wait for an answer: nobody is watching. If you cannot go on \
         without a person, write 'Status: blocked: ' and the reason into that section."
    )
}

/// What a run did for a task, as the store books it. `None` while it is in hand.
///
/// # Errors
/// The id cannot be one.
pub fn spell(run_id: Uuid, task: &Assignment, output: &str) -> Result<Option<Spell>> {
    let (Some(end), Some(ended_at)) = (&task.end, task.ended_at) else { return Ok(None) };
    let task_id = TaskId::parse(&task.given.task_id).map_err(|refusal| {
        Error::internal(format!("a run has a task in hand that cannot be one: {refusal}"))
    })?;
    let used = &task.added.tokens;
    let mut warnings = task.warnings.clone();
    warnings.extend(task.failures().map(|(class, count)| format!("{} ({count})", class.as_str())));
    if let End::Released { why } = end {
        warnings.push(format!("went back to the queue: {why}"));
    }
    Ok(Some(Spell {
        task_id,
        attempt: task.given.attempt,
        run_id,
        started_unix_ms: task.started_at.unix_ms,
        ended_unix_ms: ended_at.unix_ms,
        elapsed_ms: task.added.elapsed_ms,
        tokens: TaskTokens {
            input: used.input,
            output: used.output,
            cache_write: used.cache_write_5m.saturating_add(used.cache_write_1h),
            cache_read: used.cache_read,
        },
        cost_usd: text::to_micros(task.added.cost_usd),
        unpriced_tokens: task.added.unpriced_tokens,
        unpriced_usd: text::to_micros(task.added.unpriced_ceiling_usd),
        sessions: task.sessions,
        actions: actions(task),
        output: clipped(output),
        errors: match end {
            End::Error { why } | End::Blocked { why } => vec![why.clone()],
            End::Done | End::Released { .. } | End::Cancelled => Vec::new(),
        },
        warnings,
        verify: task
            .given
            .verify
            .clone()
            .map(|command| VerifyResult { command, passed: task.verified }),
        sharing: Sharing {
            is_shared: task.is_shared,
            saved_tokens: task.saved_tokens,
            extra_cache_read_tokens: task.extra_cache_read_tokens,
        },
        end: match end {
            End::Done => SpellEnd::Done,
            End::Error { why } => SpellEnd::Error { why: why.clone() },
            End::Blocked { why } => SpellEnd::Blocked { why: why.clone() },
            End::Released { why } => SpellEnd::Released { why: why.clone() },
            // The store knows that it is not wanted any more.
            End::Cancelled => SpellEnd::Released { why: "it was cancelled".into() },
        },
    }))
}

fn actions(task: &Assignment) -> Vec<String> {
    let left_out = (task.actions_left_out > 0).then(|| {
        let n = text::count(task.actions_left_out, "earlier action", "earlier actions");
        format!("… {n} left out")
    });
    left_out.into_iter().chain(task.actions.iter().cloned()).collect()
}

/// The end of what was said last: it is where the summary stands.
fn clipped(output: &str) -> String {
    let mut from = output.len().saturating_sub(OUTPUT_BYTES_MAX);
    while !output.is_char_boundary(from) {
        from += 1;
    }
    output[from..].to_owned()
}
