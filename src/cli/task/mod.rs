//! `longhaul task`: what a person does with the queue.

use crate::cli::asker;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::queue::{Refusal, SqliteStore, Task, TaskId};
use crate::state_dir;

mod add;
mod change;
mod faces;
mod import;
mod list;
mod options;
mod view;

pub use view::TaskView;

/// Arguments of `longhaul task`.
#[derive(Debug, clap::Args)]
pub struct TaskArgs {
    #[command(subcommand)]
    command: TaskCommand,
}

#[derive(Debug, clap::Subcommand)]
enum TaskCommand {
    /// Put a task into the queue, or many as JSON lines
    Add(Box<add::AddArgs>),
    /// List tasks: those in progress, then the queued ones by priority and age
    List(list::ListArgs),
    /// Show all about one task, and its result
    Show(list::ShowArgs),
    /// Change a task that is queued or blocked
    Edit(Box<change::EditArgs>),
    /// End a task that is not over: at once, or by its run if it is in progress
    Cancel(change::OneArgs),
    /// Queue a task once more that ended in error, blocked or cancelled
    Retry(change::OneArgs),
    /// Take over a queue of the seed's shape: queued tasks, and those whose session died
    Import(import::ImportArgs),
    /// Move old results to the archive (queue.archive_after, queue.keep_recent)
    Archive(change::ArchiveArgs),
}

/// `longhaul task`
pub fn run(args: TaskArgs) -> Result<u8> {
    let is_reading = matches!(args.command, TaskCommand::List(_) | TaskCommand::Show(_));
    if !is_reading {
        asker::refuse_session("change the queue")?;
    }
    let about = faces::About::of(&args.command);
    // What is about to be imported may be the queue file itself.
    if !matches!(args.command, TaskCommand::Import(_)) {
        about.sync();
    }
    match args.command {
        TaskCommand::Add(args) => add::add(*args),
        TaskCommand::List(args) => list::list(&args),
        TaskCommand::Show(args) => list::show(&args),
        TaskCommand::Edit(args) => change::edit(*args),
        TaskCommand::Cancel(args) => change::cancel(&args),
        TaskCommand::Retry(args) => change::retry(&args),
        TaskCommand::Import(args) => import::import(&args),
        TaskCommand::Archive(args) => change::archive(&args),
    }?;
    if !is_reading {
        about.sync();
    }
    Ok(0)
}

/// The queue, made if there is none.
fn open() -> Result<SqliteStore> {
    SqliteStore::open(&state_dir::locate(|name| std::env::var_os(name))?)
}

/// The queue, if there is one.
fn open_existing() -> Result<Option<SqliteStore>> {
    SqliteStore::open_existing(&state_dir::locate(|name| std::env::var_os(name))?)
}

fn now_unix_ms() -> i64 {
    Timestamp::now().unix_ms
}

fn parse_id(text: &str) -> Result<TaskId> {
    TaskId::parse(text).map_err(usage)
}

/// A refusal at the command line; it may quote what was given.
fn usage(refusal: Refusal) -> Error {
    Error::usage(crate::text::safe(&refusal.message))
}

/// Prints `value` as JSON on one line.
fn print_json<T: serde::Serialize>(value: &T) -> Result<()> {
    let line = crate::text::json(value, false)
        .map_err(|err| Error::internal("cannot write the answer").caused_by(err))?;
    super::print::print(&format!("{line}\n"))
}

/// What became of a task, for people or as JSON.
fn print_task(task: &Task, json: bool, sentence: &str) -> Result<()> {
    if json {
        return print_json(&TaskView::of(task));
    }
    super::print::print(&format!("{sentence}\n"))
}
