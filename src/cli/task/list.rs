//! `longhaul task list` and `show`.

use std::path::PathBuf;

use jiff::tz::TimeZone;
use serde::Serialize;

use super::view::{self, TaskView};
use super::{open_existing, parse_id, print_json, usage};
use crate::cli::print::print;
use crate::cli::target::project_dir;
use crate::error::{Error, Result};
use crate::queue::store::{Counts, Filter};
use crate::queue::{BatchId, Store, Task, TaskResult, TaskState};
use crate::text;

/// Rows for people unless they ask for more.
const ROWS: u32 = 50;
/// Tasks that are over and shown without --all.
const RECENT: u32 = 10;

/// Arguments of `longhaul task list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Also all those that are over: done, error, cancelled (otherwise the newest 10)
    #[arg(long)]
    all: bool,
    /// Only those that are so: queued, in_progress, done, error, cancelled, blocked
    #[arg(long, visible_alias = "status", value_name = "STATE,...", value_delimiter = ',')]
    state: Vec<String>,
    /// Only those of this batch
    #[arg(long, alias = "batch-id", value_name = "ID")]
    batch: Option<String>,
    /// Only those of this project (otherwise of all)
    #[arg(long, value_name = "DIR")]
    pub(super) project: Option<PathBuf>,
    /// At most so many (50; no limit with --json)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// A JSON array instead of text for people
    #[arg(long)]
    json: bool,
}

/// Arguments of `longhaul task show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Which task
    pub(super) id: String,
    /// JSON instead of text for people
    #[arg(long)]
    json: bool,
}

/// `longhaul task list`
pub fn list(args: &ListArgs) -> Result<()> {
    let states = args.state.iter().map(|word| state(word)).collect::<Result<Vec<_>>>()?;
    let batch_id = args.batch.as_deref().map(BatchId::parse).transpose();
    let project = args.project.as_deref().map(|dir| project_dir(Some(dir))).transpose()?;
    let limit = args.limit.unwrap_or(if args.json { u32::MAX } else { ROWS });
    let filter = Filter { states, batch_id: batch_id.map_err(usage)?, project, limit, offset: 0 };
    let Some(mut store) = open_existing()? else {
        return if args.json { print("[]\n") } else { print("No task was ever queued.\n") };
    };
    let is_whole = args.all || !filter.states.is_empty() || filter.batch_id.is_some();
    let tasks = if is_whole { store.list(&filter)? } else { present(&mut store, &filter)? };
    if args.json {
        return print_json(&tasks.iter().map(TaskView::of).collect::<Vec<_>>());
    }
    let counts = store.counts(filter.project.as_deref())?;
    let table = if tasks.is_empty() { String::new() } else { view::table(&tasks) };
    print(&format!("{table}{}\n", footer(&tasks, &filter, &counts)))
}

fn state(word: &str) -> Result<TaskState> {
    let word = word.trim().to_ascii_lowercase().replace('-', "_");
    TaskState::parse(&word).ok_or_else(|| {
        let all: Vec<&str> = TaskState::ALL.into_iter().map(TaskState::as_str).collect();
        let word = text::safe(&word).into_owned();
        Error::usage(format!("{word} is no state of a task; there are {}", all.join(", ")))
    })
}

/// What is not done with, and the newest of what is.
fn present(store: &mut impl Store, filter: &Filter) -> Result<Vec<Task>> {
    use TaskState::{Blocked, Cancelled, Done, Error, InProgress, Queued};
    let open = vec![InProgress, Queued, Blocked];
    let mut tasks = store.list(&Filter { states: open, ..filter.clone() })?;
    let room = filter.limit.saturating_sub(u32::try_from(tasks.len()).unwrap_or(u32::MAX));
    let over = vec![Done, Error, Cancelled];
    let limit = room.min(RECENT);
    tasks.extend(store.list(&Filter { states: over, limit, ..filter.clone() })?);
    Ok(tasks)
}

/// How much of the whole was shown.
fn footer(tasks: &[Task], filter: &Filter, counts: &Counts) -> String {
    let total: u64 = TaskState::ALL.into_iter().map(|state| counts.of(state)).sum();
    if let Some(batch) = &filter.batch_id {
        let is_cut = tasks.len() as u64 >= u64::from(filter.limit);
        let more = if is_cut { "; there may be more (--limit)" } else { "" };
        let shown = text::count(tasks.len() as u64, "task", "tasks");
        return format!("{shown} of the batch {batch}{more}");
    }
    let mut parts: Vec<String> = Vec::new();
    for state in TaskState::ALL {
        let n = counts.of(state);
        if n > 0 {
            let word = state.as_str().replace('_', " ");
            let ready = if state == TaskState::Queued && counts.ready < n {
                format!(" ({} ready)", text::grouped(counts.ready))
            } else {
                String::new()
            };
            parts.push(format!("{} {word}{ready}", text::grouped(n)));
        }
    }
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!(
        "{} of {}{parts}",
        text::grouped(tasks.len() as u64),
        text::count(total, "task", "tasks")
    )
}

/// A task with its result, as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    task: TaskView,
    result: Option<&'a TaskResult>,
}

/// `longhaul task show`
pub fn show(args: &ShowArgs) -> Result<()> {
    let id = parse_id(&args.id)?;
    let unknown = || {
        Error::usage(format!("no task has the id {id}"))
            .hint("`longhaul task list --all` shows them; LONGHAUL_STATE_DIR must be the same")
    };
    let mut store = open_existing()?.ok_or_else(unknown)?;
    let task = store.task(&id)?.ok_or_else(unknown)?;
    let result = store.result(&id)?;
    if args.json {
        return print_json(&Shown { task: TaskView::of(&task), result: result.as_ref() });
    }
    print(&view::details(&task, result.as_ref(), &TimeZone::system()))
}
