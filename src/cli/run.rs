//! `longhaul run`: settles what a run needs, takes up the last one if it was
//! cut off, and supervises to the end.

use std::path::Path;

use crate::claude_json::Env;
use crate::cli::begin::{self, Begun, Ground, LastRun};
use crate::cli::target::TargetArgs;
use crate::config::{Config, PermissionPolicy};
use crate::cycle::Snapshot;
use crate::cycle::failure::Class;
use crate::driver::{Driver, Setup};
use crate::error::{Error, Result};
use crate::guard;
use crate::lock::ProjectLock;
use crate::session::secrets::RedactingWriter;
use crate::session::sweep;
use crate::state_dir::{self, ProjectState};
use crate::{control, doctor, show, signals};

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
    start(&project, config, &args.target, &state_root, args.json)
}

/// Supervises `project` (its real path) with `config`, which came from `target`,
/// keeping its state below `state_root`.
pub fn start(
    project: &Path,
    mut config: Config,
    target: &TargetArgs,
    state_root: &Path,
    json: bool,
) -> Result<u8> {
    let env = Env::of_process();
    let state = ProjectState::open(state_root, project)?;
    // First of all: a second run must do nothing but say so.
    let lock = ProjectLock::take(&state.dir().join("lock")).map_err(|d| d.into_error(project))?;
    let mut ground = Ground::of(project, &config, target, &env)?;
    let last = LastRun::find(state.dir())?;
    // Before anything is started that a session may have written there: doctor
    // asks the CLI for its version.
    let watch = match last.as_ref().filter(|last| last.binds()) {
        Some(last) => Some(last.compare_settings(&mut ground)?),
        None => None,
    };
    let findings = doctor::examine(&config, project, &env);
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
    let ended = supervise(begun, state.dir(), json);
    if ended.as_ref().is_ok_and(|ended| !ended.needs_copy) {
        // A run without an end is taken up again, and may need it then.
        guard::global::discard_copy(&run_dir);
    }
    drop(lock);
    ended.map(|ended| ended.code)
}

/// A run that is over.
struct Ended {
    code: u8,
    /// A person was told to use the copy of the CLI's own file.
    needs_copy: bool,
}

fn supervise(begun: Begun, state: &Path, json: bool) -> Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_stack_size(256 << 10)
        .build()
        .map_err(|e| Error::internal("cannot start the event loop").caused_by(e))?;
    let scratch = begun.setup.scratch.clone();
    let outcome = runtime.block_on(async {
        let signals = signals::take()
            .map_err(|e| Error::internal("cannot take over the signals").caused_by(e))?;
        let control = control::listen(state)?;
        let teller = show::teller(json);
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
