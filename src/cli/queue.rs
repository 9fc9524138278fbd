//! `longhaul queue`: works off the queue, or says how it stands.

use std::io::{IsTerminal as _, stdout};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Serialize;

use super::print;
use super::target::TargetArgs;
use super::worker::WORKER_COMMAND;
use crate::OWN_PROGRAM;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{self, Denied, ProjectLock};
use crate::queue::QUEUE_LOCK;
use crate::queue::dispatch::{Dispatcher, Plan, Tally, Told};
use crate::queue::faces::Faces;
use crate::queue::sqlite::SqliteStore;
use crate::queue::store::{Counts, Store as _};
use crate::queue::task::{TaskId, TaskState};
use crate::queue::worker;
use crate::session::sweep;
use crate::{show, signals, state_dir, text};

const EXIT_CODES: &str = "\
Exit codes:
     0  every task that was taken ended done
     1  a task ended in error
    10  a task waits for a person           40  the queue is being run already
    20  queue.max_cost_usd_per_day is spent
Otherwise those of `longhaul run`; 128+n when ended by signal n.

Tasks that a queue run had in hand when it was cut off (kill -9, power) are taken
up again by the next one.";

/// `longhaul queue`
#[derive(Debug, clap::Args)]
pub struct QueueArgs {
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Debug, clap::Subcommand)]
enum QueueCommand {
    /// Work off the queue: each task, or each batch, is a supervised run
    Run(RunArgs),
    /// Say how many tasks there are, and who works them off
    Status(StatusArgs),
}

/// Arguments of `longhaul queue run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct RunArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Only tasks of this project; otherwise those of all projects are taken
    #[arg(long)]
    only: bool,
    /// Wait for more tasks when there are none left
    #[arg(long)]
    watch: bool,
    /// One JSON object per event on standard output
    #[arg(long)]
    json: bool,
    /// End when standard input ends
    #[arg(long, hide = true)]
    leash: bool,
    /// Arguments for every session of the CLI, after `--`
    #[arg(last = true, value_name = "CLAUDE_ARGS")]
    claude_args: Vec<String>,
}

/// Arguments of `longhaul queue status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Only tasks of this project
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command, and gives the exit code.
pub fn run(args: QueueArgs) -> Result<u8> {
    match args.command {
        QueueCommand::Run(args) => work(args),
        QueueCommand::Status(args) => status(&args).map(|()| 0),
    }
}

fn work(args: RunArgs) -> Result<u8> {
    super::asker::refuse_session("run the queue")?;
    let (project, config) = args.target.resolve()?;
    let root = state_dir::locate(|name| std::env::var_os(name))?;
    let root = state_dir::prepare(&root, &project)?;
    let store = SqliteStore::open(&root)?;
    let held = ProjectLock::take(&root.join(QUEUE_LOCK)).map_err(held_error)?;
    sweep::become_subreaper()?;
    let plan = plan(&args, &config, &project, &root)?;
    let runtime = super::event_loop()?;
    let file = args.target.config.as_deref();
    let faces = Faces::new(&root, &project, file, &args.target.set);
    let json = args.json;
    let lines = Rc::new(show::Lines::to_stdout());
    let (code, tally) = runtime.block_on(async {
        let signals = match args.leash {
            true => signals::take_with_leash(),
            false => signals::take(),
        };
        let signals =
            signals.map_err(|e| Error::internal("cannot take over the signals").caused_by(e))?;
        let out = lines.clone();
        let told = Box::new(move |told| tell(&out, json, told));
        Dispatcher::new(plan, Box::new(store), faces, told).run(signals).await
    })?;
    drop(held);
    lines.say(&last_words(json, code, &tally));
    lines.finish();
    Ok(code)
}

fn held_error(denied: Denied) -> Error {
    match denied {
        Denied::Held(holder) => {
            let who = lock::who(holder);
            Error::new(ErrorKind::Locked, format!("the queue is being run already ({who})")).hint(
                "what you add now is worked off by it; `longhaul queue status` shows how far it is",
            )
        }
        Denied::Io(e) => Error::io(ErrorKind::State, "cannot use the lock of the queue", e),
    }
}

fn plan(args: &RunArgs, config: &Config, project: &Path, root: &Path) -> Result<Plan> {
    let program = std::path::PathBuf::from(OWN_PROGRAM);
    let most_usd = config.queue.max_cost_usd_per_day;
    let mut before = vec![WORKER_COMMAND.into(), "--state".into(), root.into()];
    before.push(format!("--max-cost-usd-per-day={most_usd}").into());
    before.extend(args.target.settings()?);
    let is_alone = config.queue.parallel == 1;
    let inherits_output = is_alone && !args.json;
    if args.json {
        before.push("--json".into());
    } else if inherits_output
        && stdout().is_terminal()
        && let Some(group) = sweep::own_group()
    {
        before.extend(["--group".into(), group.to_string().into()]);
    }
    let mut after: Vec<std::ffi::OsString> = Vec::new();
    if !args.claude_args.is_empty() {
        after.push("--".into());
        after.extend(args.claude_args.iter().map(Into::into));
    }
    Ok(Plan {
        state_root: root.to_owned(),
        parallel: config.queue.parallel as usize,
        only: args.only.then(|| project.to_owned()),
        watch: args.watch,
        max_cost_usd_per_day: config.queue.max_cost_usd_per_day,
        worker: worker::Command { program, before, after, inherits_output },
    })
}

#[derive(Serialize)]
struct WarningLine<'a> {
    event: &'static str,
    ts: String,
    project: Option<&'a Path>,
    text: &'a str,
}

#[derive(Serialize)]
struct EndLine {
    event: &'static str,
    ts: String,
    exit_code: u8,
    done: u64,
    error: u64,
    blocked: u64,
    cancelled: u64,
    left: u64,
    blocked_behind: u64,
    not_done: Vec<String>,
}

/// Nobody may read: that must neither end the night's work nor hold it up.
fn tell(out: &show::Lines, json: bool, told: Told) {
    match told {
        Told::Line { text, .. } if json => {
            out.say(&format!("{text}\n"));
        }
        Told::Line { project, text } => {
            let name = project.file_name().unwrap_or_default().to_string_lossy();
            out.say(&format!("{}: {text}\n", text::safe(&name)));
        }
        Told::Warning { project, text } if json => {
            let project = project.as_deref();
            let ts = Timestamp::now().rfc3339();
            let line = WarningLine { event: "queue_warning", ts, project, text: &text };
            out.say(&format!("{}\n", text::json(&line, false).unwrap_or_default()));
        }
        Told::Warning { project, text } => {
            let place = project.map(|p| format!("{}: ", p.display())).unwrap_or_default();
            print::complain(&text::safe(&format!("warning: {place}{text}")));
        }
        Told::Note { project, text } if json => {
            let (project, ts) = (Some(project.as_path()), Timestamp::now().rfc3339());
            let line = WarningLine { event: "queue_note", ts, project, text: &text };
            out.say(&format!("{}\n", text::json(&line, false).unwrap_or_default()));
        }
        Told::Note { project, text } => {
            let place = project.display().to_string();
            out.say(&format!("{}: {}\n", text::safe(&place), text::safe(&text)));
        }
    }
}

fn last_words(json: bool, code: u8, tally: &Tally) -> String {
    let Tally { done, error, blocked, cancelled, left, blocked_behind, not_done } = tally;
    let named = |(id, state): &(TaskId, TaskState)| format!("{id}: {}", state.as_str());
    if json {
        let line = EndLine {
            event: "queue_finished",
            ts: Timestamp::now().rfc3339(),
            exit_code: code,
            done: *done,
            error: *error,
            blocked: *blocked,
            cancelled: *cancelled,
            left: *left,
            blocked_behind: *blocked_behind,
            not_done: not_done.iter().map(named).collect(),
        };
        return format!("{}\n", text::json(&line, false).unwrap_or_default());
    }
    let parts = [
        (*done, "done"),
        (*error, "in error"),
        (*blocked, "blocked"),
        (*cancelled, "cancelled"),
        (*left, "back in the queue or in progress"),
        (*blocked_behind, "blocked because they wait for one of these"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    let mut out = match parts.is_empty() {
        true if code == 0 => "queue: there was nothing to do\n".to_owned(),
        true => format!("queue: nothing was done (exit code {code})\n"),
        false => format!("queue: {} (exit code {code})\n", parts.join(", ")),
    };
    for task in not_done {
        out.push_str(&format!("  {}; see `longhaul task show {}`\n", named(task), task.0));
    }
    out
}

#[derive(Serialize)]
struct StatusLine {
    running: bool,
    pid: Option<u32>,
    #[serde(flatten)]
    counts: Counts,
}

fn status(args: &StatusArgs) -> Result<()> {
    let root = state_dir::locate(|name| std::env::var_os(name))?;
    let project =
        args.project.as_deref().map(|p| super::target::project_dir(Some(p))).transpose()?;
    let counts = match SqliteStore::open_existing(&root)? {
        Some(mut store) => store.counts(project.as_deref())?,
        None => Counts::default(),
    };
    let held = lock::is_held(&root.join(QUEUE_LOCK))?;
    let pid = held.as_ref().and_then(|holder| holder.as_ref().map(|h| h.pid));
    if args.json {
        let line = StatusLine { running: held.is_some(), pid, counts };
        return print::print(&format!("{}\n", text::json(&line, false).unwrap_or_default()));
    }
    let who = match (held.is_some(), pid) {
        (true, Some(pid)) => format!("is being run by process {pid}"),
        (true, None) => "is being run".into(),
        (false, _) => "is not being run (`longhaul queue run` works it off)".into(),
    };
    let Counts { queued, ready, in_progress, done, error, cancelled, blocked } = counts;
    print::print(&format!(
        "The queue {who}.\n\
         {queued} queued ({ready} ready), {in_progress} in progress, {done} done, {error} in error, \
         {blocked} blocked, {cancelled} cancelled\n"
    ))
}
