//! `longhaul run`: settles what a run needs, takes up the last one if it was
//! cut off, and supervises to the end.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use crate::claude_json::Env;
use crate::cli::begin::{self, Begun, Ground, LastRun};
use crate::cli::init;
use crate::cli::target::TargetArgs;
use crate::clock::Timestamp;
use crate::config::{Config, PermissionPolicy};
use crate::cycle::failure::Class;
use crate::cycle::{Command, Event, Snapshot};
use crate::driver::{Driver, Setup};
use crate::error::{Error, ErrorKind, Result};
use crate::guard;
use crate::lock::ProjectLock;
use crate::queue::chain::{Chain, Taken};
use crate::queue::{SqliteStore, Store as _};
use crate::session::secrets::RedactingWriter;
use crate::session::sweep;
use crate::state_dir::{self, ProjectState};
use crate::{control, doctor, models, show, signals};

/// Shown below `longhaul run --help`.
const EXIT_CODES: &str = "\
Exit codes:
    0  done                        30  the API refused the login
   10  a person is needed          31  usage limit past the deadline
   20  a budget is spent           40  another run holds the project
   21  no progress                 50  the state cannot be read
   64  wrong usage or config       51  disk full or failing
   70  a fault of longhaul      128+n  ended by signal n (`longhaul stop`: 143)

A run that was cut off (kill -9, power) is taken up again by the next `longhaul run`.";

/// Arguments of `longhaul run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct RunArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// One JSON object per event on standard output
    #[arg(long)]
    json: bool,
    /// Arguments for every session of the CLI, after `--`
    #[arg(last = true, value_name = "CLAUDE_ARGS")]
    claude_args: Vec<String>,
}

/// Runs, and gives the exit code.
pub fn run(args: RunArgs) -> Result<u8> {
    let (project, mut config) = args.target.resolve()?;
    config.claude.args.extend(args.claude_args);
    let state_root = state_dir::locate(|name| std::env::var_os(name))?;
    let show = Show { json: args.json, group: None };
    start(&project, config, &args.target, &state_root, show, Errand::TaskFile)
}

/// What a run is there for.
#[derive(Debug)]
pub enum Errand {
    /// The task file as it is.
    TaskFile,
    /// Tasks of the queue.
    Queue {
        /// The way to them and back.
        chain: Arc<Chain>,
        /// The run before this one, which the same `longhaul queue run` started here.
        after: Option<Uuid>,
    },
}

/// How a run is shown.
#[derive(Debug, Clone, Copy)]
pub struct Show {
    /// As events.
    pub json: bool,
    /// The process group that may draw on the terminal in the place of ours.
    pub group: Option<i64>,
}

/// Supervises `project` (its real path) with `config`, which came from `target`,
/// keeping its state below `state_root`.
pub fn start(
    project: &Path,
    mut config: Config,
    target: &TargetArgs,
    state_root: &Path,
    show: Show,
    errand: Errand,
) -> Result<u8> {
    let env = Env::of_process();
    let state = ProjectState::open(state_root, project)?;
    models::remember(state_root);
    // First of all: a second run must do nothing but say so.
    let lock = ProjectLock::take(&state.dir().join("lock")).map_err(|d| d.into_error(project))?;
    let last = match errand.look_at(errand.last_run(state.dir())?, project, state_root)? {
        Before::Nothing => None,
        Before::Run(last) => Some(*last),
        Before::Over(code) => return Ok(code),
    };
    let is_cancelled = errand.prepare(&mut config, project, last.as_ref(), &env)?;
    let mut ground = Ground::of(project, &config, target, &env, &errand)?;
    // Before anything is started that a session may have written there: doctor
    // asks the CLI for its version.
    let watch = match last.as_ref().filter(|last| last.binds() || errand.follows(last)) {
        Some(last) => Some(last.compare_settings(&mut ground)?),
        None => None,
    };
    let mut findings = doctor::examine(&config, project, &env);
    // The task itself may say blocked by now: the run is there to book it.
    findings.retain(|finding| !(errand.is_queue() && finding.is_about_task_file()));
    if let Some(refusal) = doctor::refuse(&findings) {
        return Err(refusal);
    }
    if let PermissionPolicy::Command(argv) = &mut config.permissions.policy {
        *argv = doctor::find_decider(argv, &config.places, &env)?;
    }
    sweep::become_subreaper()?;
    let program = doctor::find_program(&config.claude.command, project, &ground.child_env)?;
    let last_dir = last.as_ref().map(|last| last.path().to_owned());
    let begun = match last.filter(LastRun::is_cut_off).zip(watch) {
        Some((last, watch)) => last.take_up(config, program, ground, watch)?,
        None => begin::begin(state.dir(), config, program, ground)?,
    };
    let run_dir = begun.setup.run.path().to_owned();
    log_to(&begun.setup);
    if let Some(old) = last_dir.filter(|old| *old != run_dir) {
        // What its end told a person to use was used, or is not needed.
        guard::global::discard_copy(&old);
    }
    let ended = supervise(begun, state.dir(), show, is_cancelled);
    if ended.as_ref().is_ok_and(|ended| !ended.needs_copy) {
        // A run without an end is taken up again, and may need it then.
        guard::global::discard_copy(&run_dir);
    }
    drop(lock);
    ended.map(|ended| ended.code)
}

/// Has the queue a task in progress for that run?
fn has_in_hand(state_root: &Path, run_id: Uuid) -> Result<bool> {
    let Some(mut store) = SqliteStore::open_existing(state_root)? else { return Ok(false) };
    Ok(store.in_progress()?.iter().any(|task| task.run_id == Some(run_id)))
}

/// What was found of an earlier run.
enum Before {
    /// Nothing that matters.
    Nothing,
    /// This, which may have to be taken up.
    Run(Box<LastRun>),
    /// The run that was asked for is over already, with that exit code.
    Over(u8),
}

impl Errand {
    fn is_queue(&self) -> bool {
        matches!(self, Errand::Queue { .. })
    }

    /// The run to be taken up, or the newest: the clock may have been set back since.
    fn last_run(&self, state: &Path) -> Result<Option<LastRun>> {
        let own = match self {
            Errand::TaskFile => None,
            Errand::Queue { chain, .. } => LastRun::of(state, chain.run_id())?,
        };
        match own {
            Some(own) => Ok(Some(own)),
            None => LastRun::find(state),
        }
    }

    /// A run of the queue and one of the task file are not mixed: each takes up its own.
    fn look_at(&self, last: Option<LastRun>, project: &Path, state_root: &Path) -> Result<Before> {
        let Some(last) = last else { return Ok(Before::Nothing) };
        let shown = project.display();
        match self {
            Errand::TaskFile
                if last.is_cut_off()
                    && last.is_for_queue()
                    && has_in_hand(state_root, last.run_id())? =>
            {
                Err(Error::new(
                    ErrorKind::Locked,
                    format!("the last run of {shown} works for the queue, and was cut off"),
                )
                .hint("`longhaul queue run` takes it up again"))
            }
            Errand::Queue { chain, .. } if chain.run_id() == last.run_id() => {
                match last.exit_code() {
                    Some(code) => Ok(Before::Over(code)),
                    None => Ok(Before::Run(Box::new(last))),
                }
            }
            Errand::Queue { .. } if last.is_cut_off() && !last.is_for_queue() => Err(Error::new(
                ErrorKind::Locked,
                format!("a run of {shown} that was cut off waits to be taken up"),
            )
            .hint("`longhaul run` there takes it up; the queue can go on after it")),
            Errand::TaskFile | Errand::Queue { .. } if last.is_cut_off() && last.is_for_queue() => {
                // None of its tasks is in progress any more.
                sweep::clear_run(&last.run_id().to_string());
                Ok(Before::Nothing)
            }
            Errand::TaskFile | Errand::Queue { .. } => Ok(Before::Run(Box::new(last))),
        }
    }

    /// Must what that run began with still stand? Nobody looked at the project since, so
    /// what a session changed there would be taken for what the person wants.
    fn follows(&self, last: &LastRun) -> bool {
        match self {
            Errand::TaskFile => false,
            Errand::Queue { after, .. } => *after == Some(last.run_id()),
        }
    }

    /// Lays out what the task in hand needs. True if nobody wants it any more.
    fn prepare(
        &self,
        config: &mut Config,
        project: &Path,
        last: Option<&LastRun>,
        env: &Env,
    ) -> Result<bool> {
        let Errand::Queue { chain, .. } = self else { return Ok(false) };
        init::complete(project, config, env)?;
        // One that is taken up has its task in the file; what it ticked there counts.
        let has_task = last.is_some_and(|l| l.run_id() == chain.run_id() && l.has_begun_tasks());
        if !has_task && let Taken::Trouble(why) = chain.take(Timestamp::now(), None, 0.0)? {
            return Err(Error::new(ErrorKind::NeedsPerson, why));
        }
        let Some(task) = chain.in_hand()? else { return Ok(false) };
        if let Some(model) = task.model {
            config.claude.args.extend(["--model".into(), model]);
        }
        Ok(task.is_cancelling)
    }
}

/// A run that is over.
struct Ended {
    code: u8,
    /// A person was told to use the copy of the CLI's own file.
    needs_copy: bool,
}

fn supervise(begun: Begun, state: &Path, show: Show, is_cancelled: bool) -> Result<Ended> {
    let runtime = super::event_loop()?;
    let scratch = begun.setup.scratch.clone();
    let outcome = runtime.block_on(async {
        let signals = signals::take()
            .map_err(|e| Error::internal("cannot take over the signals").caused_by(e))?;
        let control = control::listen(state)?;
        let teller = show::teller(show.json, show.group);
        let mut driver = Driver::new(
            begun.setup,
            begun.guard,
            begun.machine,
            begun.journal,
            control,
            signals,
            teller,
        )?;
        if let Some(lost) = begun.lost {
            driver.remember(lost);
        }
        if is_cancelled {
            // Taken up only to be booked and ended.
            driver.hear(Event::Operator { command: Command::CancelTask });
        }
        driver.run(begun.first).await
    });
    // A blocked disk must not keep a finished run from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    // What a filter of git left behind was adopted by us, and so was what hung on
    // a keeper that was killed.
    let left = sweep::kill_all(sweep::DESCENDANT_GRACE_MS, || sweep::descendants_of_self(&[]));
    if left.killed > 0 {
        tracing::warn!(left.killed, left.survivors, "processes were left when the run ended");
    }
    if let Err(err) = std::fs::remove_dir_all(&scratch) {
        tracing::warn!(%err, folder = %scratch.display(), "cannot remove the run's temporary folder");
    }
    outcome.map(|(outcome, machine)| Ended {
        code: outcome.exit_code(),
        needs_copy: Snapshot::of(&machine).failures().any(|(c, _)| c == Class::ConfigCorrupt),
    })
}

/// longhaul's own log goes to the run's folder: standard error stays the person's.
fn log_to(setup: &Setup) {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt;
    let level = match std::env::var("LONGHAUL_LOG").as_deref() {
        Ok("debug") => tracing::Level::DEBUG,
        Ok("trace") => tracing::Level::TRACE,
        Ok(_) | Err(_) => tracing::Level::INFO,
    };
    // A pipe in its place must not make the run wait.
    let plain = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let mut options = std::fs::OpenOptions::new();
    let file =
        options.create(true).append(true).mode(0o600).custom_flags(plain).open(setup.run.log());
    if let Ok(file) = file {
        let _ = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_target(false)
            .with_writer(std::sync::Mutex::new(RedactingWriter::new(file, setup.secrets())))
            .try_init();
    }
}
