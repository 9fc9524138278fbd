//! `longhaul run`: settles what a run needs, takes up the last one if it was
//! cut off, and supervises to the end.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::claude_json::{Env, Places};
use crate::cli::target::TargetArgs;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::cycle::{Event, Machine, Params};
use crate::driver::{self, Driver, Setup};
use crate::error::{Error, ErrorKind, Result};
use crate::journal::{self, Header, Journal};
use crate::lock::ProjectLock;
use crate::runs::RunFolder;
use crate::session::sweep;
use crate::state_dir::{self, ProjectState};
use crate::transcript::SessionTranscript;
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
    start(&project, config, &state_root, args.json)
}

/// Supervises `project` (its real path) with `config`, keeping its state below
/// `state_root`.
pub fn start(project: &Path, config: Config, state_root: &Path, json: bool) -> Result<u8> {
    let env = Env::of_process();
    let state = ProjectState::open(state_root, project)?;
    // First of all: a second run must do nothing but say so.
    let lock = ProjectLock::take(&state.dir().join("lock")).map_err(|d| d.into_error(project))?;
    let findings = doctor::examine(&config, project, &env);
    if let Some(refusal) = doctor::refuse(&findings) {
        return Err(refusal);
    }
    sweep::become_subreaper()?;
    let params = Params::from(&config);
    let begun = begin(state.dir(), project, &config, &env, params)?;
    log_to(&begun.setup.run);
    let code = supervise(begun, state.dir(), json);
    drop(lock);
    code
}

/// A run about to be supervised.
struct Begun {
    setup: Setup,
    machine: Machine,
    journal: Journal,
    first: Event,
    lost: Option<driver::Lost>,
}

/// Takes up the newest run if it was cut off, else begins a new one.
fn begin(
    state: &Path,
    project: &Path,
    config: &Config,
    env: &Env,
    params: Params,
) -> Result<Begun> {
    let child_env = env.for_child(config);
    let program = doctor::find_program(&config.claude.command, project, &child_env)?;
    let places = Places::of(&child_env)
        .ok_or_else(|| Error::usage("HOME is not set, so the CLI's folder is not known"))?;
    let claude_dir = places.config_dir;
    let setup = |run: RunFolder, run_id: Uuid| -> Result<Setup> {
        Ok(Setup {
            config: config.clone(),
            project: project.to_owned(),
            program: program.clone(),
            claude_dir: claude_dir.clone(),
            scratch: scratch(run_id)?,
            run,
        })
    };
    if let Some(run) = RunFolder::newest(state)? {
        let told = journal::read(&run.journal())?;
        if told.machine.outcome().is_none() {
            let run_id = told.header.run_id;
            let journal = Journal::resume(&run.journal(), &told)?;
            let setup = setup(run, run_id)?;
            let (first, lost) = take_up(&told.machine, params, &setup);
            return Ok(Begun { setup, machine: told.machine, journal, first, lost });
        }
    }
    let (run_id, now) = (Uuid::new_v4(), Timestamp::now());
    let run = RunFolder::create(state, run_id, now)?;
    let header = Header {
        format: journal::FORMAT,
        run_id,
        project: project.to_owned(),
        started_at: now,
        params: params.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    let journal = Journal::create(&run.journal(), &header)?;
    let machine = Machine::new(run_id, params, now);
    Ok(Begun { setup: setup(run, run_id)?, machine, journal, first: Event::Started, lost: None })
}

/// What became of the session that was live when longhaul was killed: ended by
/// its keeper; its transcript has the last word on what it used.
fn take_up(machine: &Machine, params: Params, setup: &Setup) -> (Event, Option<driver::Lost>) {
    let swept = sweep::clear_run(&machine.run_id().to_string());
    let live = machine.live().filter(|_| machine.is_alive() || machine.owes_brief());
    let lost = live.map(|cycle| {
        let transcript =
            SessionTranscript::new(&setup.claude_dir, &setup.project, cycle.session_id);
        driver::Lost::read(cycle.cycle, cycle.session_id, transcript)
    });
    let first = Event::Recovered {
        params: Box::new(params),
        spend: lost.as_ref().and_then(|l| l.spend.clone()),
        bill: lost.as_ref().and_then(|l| l.bill),
        killed: swept.killed,
    };
    (first, lost)
}

fn supervise(begun: Begun, state: &Path, json: bool) -> Result<u8> {
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
        let mut driver =
            Driver::new(begun.setup, begun.machine, begun.journal, control, signals, teller)?;
        if let Some(lost) = begun.lost {
            driver.remember(lost);
        }
        driver.run(begun.first).await
    });
    // A blocked disk must not keep a finished run from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    // What the verify command or a filter of git left behind was adopted by us.
    let left = sweep::kill_all(sweep::DESCENDANT_GRACE_MS, || sweep::descendants_of_self(&[]));
    if left.killed > 0 {
        tracing::warn!(left.killed, left.survivors, "processes were left when the run ended");
    }
    if let Err(err) = std::fs::remove_dir_all(&scratch) {
        tracing::warn!(%err, folder = %scratch.display(), "cannot remove the run's temporary folder");
    }
    outcome.map(|(outcome, _)| outcome.exit_code())
}

/// A folder for the run's sockets and temporary files. Short, because the CLI
/// puts sockets into it, and a socket's address holds 108 bytes.
fn scratch(run_id: Uuid) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let name = format!("longhaul-{}", &run_id.simple().to_string()[..12]);
    let path = std::env::temp_dir().join(name);
    // One left behind by a killed longhaul of this run is ours to replace; the
    // name of a new run cannot be guessed.
    let _ = std::fs::remove_dir_all(&path);
    std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(|e| {
        Error::io(ErrorKind::Disk, format!("cannot create {}", path.display()), e)
            .hint("TMPDIR names another place for temporary files")
    })?;
    Ok(path)
}

/// longhaul's own log goes to the run's folder: standard error stays the person's.
fn log_to(run: &RunFolder) {
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
    let file = options.create(true).append(true).mode(0o600).custom_flags(plain).open(run.log());
    if let Ok(file) = file {
        let _ = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_target(false)
            .with_writer(std::sync::Mutex::new(file))
            .try_init();
    }
}
