//! `longhaul task edit`, `cancel`, `retry` and `archive`.

use serde::Serialize;

use super::options::TaskOptions;
use super::{now_unix_ms, open, parse_id, print_json, print_task, usage};
use crate::cli::print::print;
use crate::cli::target::TargetArgs;
use crate::error::{Error, Result};
use crate::queue::files::{self, Cutoff, Size};
use crate::queue::store::Change;
use crate::queue::{Store, TaskState};
use crate::{state_dir, text};

/// Arguments of `longhaul task edit`.
#[derive(Debug, clap::Args)]
pub struct EditArgs {
    /// Which task
    pub(super) id: String,
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
    pub(super) id: String,
    /// JSON instead of text for people
    #[arg(long)]
    json: bool,
}

/// Arguments of `longhaul task archive`.
#[derive(Debug, clap::Args)]
pub struct ArchiveArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
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
    /// What there is to read in this project's queue and results.
    before: Size,
    after: Size,
}

/// `longhaul task archive`
pub fn archive(args: &ArchiveArgs) -> Result<()> {
    let (project, config) = args.target.resolve()?;
    let (age_ms, keep_recent) = (config.queue.archive_after_ms, config.queue.keep_recent);
    let mut store = open()?;
    let state_root = state_dir::locate(|name| std::env::var_os(name))?;
    let done = files::archive(
        &mut store,
        &project,
        config.queue.files.as_deref(),
        &state_root,
        now_unix_ms(),
        Cutoff { age_ms, keep_recent },
    )?;
    done.synced.iter().for_each(super::faces::tell);
    if args.json {
        return print_json(&Archived {
            archived: done.moved,
            keep_recent,
            archive_after_seconds: age_ms / 1_000,
            before: done.before,
            after: done.after,
        });
    }
    let mut out = format!(
        "moved {} older than {} to the archive; the newest {keep_recent} stay\n",
        text::count(done.moved, "result", "results"),
        text::about(age_ms)
    );
    if config.queue.files.is_some() {
        out.push_str(&format!("{}\n", done.sentence()));
    }
    print(&out)
}
