//! `longhaul __worker`: one run of the queue, started by `longhaul queue run`.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use uuid::Uuid;

use super::run::{self, Errand, Show};
use super::target::TargetArgs;
use crate::error::{Error, Result};
use crate::queue::chain::Chain;
use crate::queue::sqlite::SqliteStore;
use crate::state_dir;

/// The hidden subcommand.
pub const WORKER_COMMAND: &str = "__worker";

/// Arguments of a worker.
#[derive(Debug, clap::Args)]
pub struct WorkerArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The run's id.
    #[arg(long)]
    run_id: Uuid,
    /// The run before, in the same project and by the same process.
    #[arg(long)]
    after: Option<Uuid>,
    /// The process that started it, which it does not outlive.
    #[arg(long)]
    parent: i32,
    /// The process group that has the terminal in our place.
    #[arg(long)]
    group: Option<i64>,
    /// The day's limit of whoever runs the queue; the project's own does not count.
    #[arg(long)]
    max_cost_usd_per_day: f64,
    #[arg(long)]
    json: bool,
    /// The state directory.
    #[arg(long)]
    state: PathBuf,
    #[arg(last = true)]
    claude_args: Vec<String>,
}

/// Runs, and gives the exit code.
pub fn run(args: WorkerArgs) -> Result<u8> {
    die_with(args.parent)?;
    let (project, mut config) = args.target.resolve()?;
    if args.target.project.as_ref() != Some(&project) {
        let shown = project.display();
        let message = format!("the project's folder is a link by now, to {shown}");
        return Err(Error::usage(message).hint("its tasks belong to the folder itself"));
    }
    config.claude.args.extend(args.claude_args);
    state_dir::check(&args.state, &project)?;
    let store = Box::new(SqliteStore::open(&args.state)?);
    let (task_file, verify) = (&config.task.file, config.task.verify.clone());
    let chain =
        Chain::new(store, args.run_id, &project, task_file, verify, args.max_cost_usd_per_day);
    let show = Show { json: args.json, group: args.group };
    let errand = Errand::Queue { chain: Arc::new(chain), after: args.after };
    run::start(&project, config, &args.target, &args.state, show, errand)
}

/// Whoever kills the dispatcher kills its workers; their keepers end the sessions,
/// and the next `longhaul queue run` takes the tasks up again.
fn die_with(parent: i32) -> Result<()> {
    let failed = |e| Error::internal("cannot be tied to the queue's process").caused_by(e);
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    // It may have died before.
    if getppid().map(Pid::as_raw_nonzero).map(std::num::NonZero::get) != Some(parent) {
        return Err(Error::internal("the process that runs the queue is gone"));
    }
    Ok(())
}
