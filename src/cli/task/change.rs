//! `longhaul task edit`, `cancel`, `retry` and `archive`.

use serde::Serialize;

use super::options::TaskOptions;
use super::{now_unix_ms, open, parse_id, print_json, print_task, usage};
use crate::cli::print::print;
use crate::cli::target::TargetArgs;
use crate::error::{Error, Result};
use crate::queue::store::Change;
use crate::queue::{Store, TaskState};
use crate::text;

/// Arguments of `longhaul task edit`.
#[derive(Debug, clap::Args)]
pub struct EditArgs {
    /// Which task
    id: String,
    /// What is to be done instead
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    description: Option<String>,
    #[command(flatten)]
    options: TaskOptions,
    /// JSON instead of text for people
    #[arg(long)]
    json: bool,
}

/// Arguments of `longhaul task cancel` and `retry`.
#[derive(Debug, clap::Args)]
pub struct OneArgs {
    /// Which task
    id: String,
    /// JSON instead of text for people
    #[arg(long)]
    json: bool,
}

/// Arguments of `longhaul task archive`.
#[derive(Debug, clap::Args)]
pub struct ArchiveArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// JSON instead of text for people
    #[arg(long)]
    json: bool,
}

/// `longhaul task edit`
pub fn edit(mut args: EditArgs) -> Result<()> {
    let id = parse_id(&args.id)?;
    let mut store = open()?;
    args.options.name_batch(&mut store)?;
    let change = args.options.change(args.description.as_deref()).map_err(usage)?;
    if change == Change::default() {
        return Err(Error::usage("nothing is to be changed")
            .hint("the options of `longhaul task edit --help` say what can be; \"\" takes away"));
    }
    let task = store.edit(now_unix_ms(), &id, &change)?;
    print_task(&task, args.json, &format!("changed {id}; it is {}", task.state.as_str()))
}

/// `longhaul task cancel`
pub fn cancel(args: &OneArgs) -> Result<()> {
    let id = parse_id(&args.id)?;
    let task = open()?.cancel(now_unix_ms(), &id)?;
    let sentence = match task.state {
        TaskState::InProgress => format!("{id} is in progress; its run ends it"),
        _ => format!("cancelled {id}"),
    };
    print_task(&task, args.json, &sentence)
}

/// `longhaul task retry`
pub fn retry(args: &OneArgs) -> Result<()> {
    let id = parse_id(&args.id)?;
    let task = open()?.retry(now_unix_ms(), &id)?;
    print_task(&task, args.json, &format!("queued {id} once more (attempt {})", task.attempt))
}

/// What was moved, as JSON.
#[derive(Serialize)]
struct Archived {
    archived: u64,
    keep_recent: u32,
    archive_after_seconds: u64,
}

/// `longhaul task archive`
pub fn archive(args: &ArchiveArgs) -> Result<()> {
    let (_, config) = args.target.resolve()?;
    let (after_ms, keep_recent) = (config.queue.archive_after_ms, config.queue.keep_recent);
    let age_ms = i64::try_from(after_ms).unwrap_or(i64::MAX);
    let moved = open()?.archive(now_unix_ms().saturating_sub(age_ms), keep_recent)?;
    if args.json {
        return print_json(&Archived {
            archived: moved,
            keep_recent,
            archive_after_seconds: after_ms / 1_000,
        });
    }
    print(&format!(
        "moved {} older than {} to the archive; the newest {keep_recent} of each project stay\n",
        text::count(moved, "result", "results"),
        text::about(after_ms)
    ))
}
