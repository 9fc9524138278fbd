//! `status`, `pause`, `resume`, `cycle`, `stop` and `report`: on the live run of
//! a project through its control socket, or on the last one through its journal.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use crate::claude_json::{Env, Places};
use crate::cli::print::print;
use crate::cli::target::TargetArgs;
use crate::clock::Timestamp;
use crate::control::{self, Request};
use crate::cycle::Snapshot;
use crate::error::{Error, Result};
use crate::journal::{self, Told};
use crate::report::status::StatusView;
use crate::report::{Report, Surroundings};
use crate::runs::RunFolder;
use crate::state_dir::{self, ProjectState};
use crate::transcript::SessionTranscript;
use crate::usage::dirs_of_environment;
use crate::usage::now::Now;
use crate::{lock, text};

/// Which project, and for whom.
#[derive(Debug, clap::Args)]
pub struct AskArgs {
    /// The project (default: the current directory)
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// JSON instead of text for people
    #[arg(long)]
    json: bool,
}

/// Arguments of `longhaul stop`.
#[derive(Debug, clap::Args)]
pub struct StopArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// End the session at once instead of asking it for a checkpoint first
    #[arg(long)]
    now: bool,
}

/// Arguments of `longhaul report`.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// JSON instead of text for people
    #[arg(long)]
    json: bool,
}

/// `longhaul status`
pub fn status(args: &AskArgs) -> Result<u8> {
    let (project, state) = open(args.project.as_deref())?;
    let now = Timestamp::now();
    if let Some(answer) = control::ask(state.dir(), Request::Status)? {
        if args.json {
            return print(&format!("{answer}\n")).map(|()| 0);
        }
        let view: StatusView = serde_json::from_str(&answer).map_err(|e| {
            Error::internal("the run's status cannot be read; is it of another version?")
                .caused_by(e)
        })?;
        return print(&view.human(now, &TimeZone::system())).map(|()| 0);
    }
    let told = last_run(&project, &state)?;
    let snapshot = Snapshot::of(&told.machine);
    let mut view = StatusView::of(&snapshot, told.machine.last_event_at());
    let root = state_dir::locate(|name| std::env::var_os(name))?;
    let read = Now::read(&root, &dirs_of_environment());
    let (budgets, is_now) = view.budgets.renewed(read.as_ref(), now.unix_ms);
    view.budgets = budgets;
    if args.json {
        let line = text::json(&view, false)
            .map_err(|e| Error::internal("cannot write the status").caused_by(e))?;
        return print(&format!("{line}\n")).map(|()| 0);
    }
    let end = match snapshot.outcome() {
        Some(outcome) => outcome.sentence(),
        None if snapshot.params().queue => {
            "it was cut off; `longhaul queue run` takes it up again".into()
        }
        None => "it was cut off; `longhaul run` takes it up again".into(),
    };
    let when = if is_now { "Budgets" } else { "Budgets when it ended" };
    let budgets = view.budgets.words().map(|words| format!("{when}: {}\n", text::safe(&words)));
    print(&format!(
        "No run is active. The last one: {}\n{}See `longhaul report`.\n",
        text::safe(&end),
        budgets.unwrap_or_default()
    ))
    .map(|()| 0)
}

/// `longhaul pause | resume | cycle`
pub fn tell(args: &AskArgs, request: Request) -> Result<u8> {
    let (_, state) = open(args.project.as_deref())?;
    let Some(answer) = control::ask(state.dir(), request)? else {
        return Err(Error::usage("no run of this project is active")
            .hint("`longhaul status` shows the last one, `longhaul run` starts one"));
    };
    if args.json {
        return print(&format!("{answer}\n")).map(|()| 0);
    }
    let word = match request {
        Request::Pause => "paused: nothing new is started after the present turn",
        Request::Resume => "resumed",
        Request::Cycle => "a checkpoint is asked for, then a fresh session starts",
        Request::Stop => "stopping: a checkpoint is asked for, then the session and the run end",
        Request::StopNow => "stopping now",
        Request::Status | Request::CancelTask => "",
    };
    print(&format!("{word}\n")).map(|()| 0)
}

/// `longhaul stop`
pub fn stop(args: &StopArgs) -> Result<u8> {
    tell(&args.ask, if args.now { Request::StopNow } else { Request::Stop })
}

/// `longhaul report`
pub fn report(args: &ReportArgs) -> Result<u8> {
    let (project, config) = args.target.resolve()?;
    let root = state_dir::locate(|name| std::env::var_os(name))?;
    let places = Places::of(&Env::of_process().for_child(&config));
    print(&report_text(&project, &root, places.as_ref(), args.json)?).map(|()| 0)
}

/// The report on the newest run of `project` (its real path), with a line end.
pub fn report_text(
    project: &Path,
    state_root: &Path,
    places: Option<&Places>,
    json: bool,
) -> Result<String> {
    let state = ProjectState::open_existing(state_root, project)?.ok_or_else(|| no_run(project))?;
    let is_running = lock::is_held(&state.dir().join("lock"))?.is_some();
    let run = RunFolder::newest(state.dir())?.ok_or_else(|| no_run(project))?;
    let told = journal::read(&run.journal())?;
    let snapshot = Snapshot::of(&told.machine);
    let transcripts = places.zip(snapshot.cycles().last()).and_then(|(places, cycle)| {
        let transcript = SessionTranscript::new(&places.config_dir, project, cycle.session_id);
        Some(transcript.path().parent()?.display().to_string())
    });
    let around = Surroundings {
        project: project.display().to_string(),
        is_running,
        journal: Some(run.journal().display().to_string()),
        checkpoints: Some(run.checkpoints().display().to_string()),
        transcripts,
        warnings: Vec::new(),
    };
    let report = Report::of(&snapshot, around);
    Ok(if json { report.json() + "\n" } else { report.human(&TimeZone::system()) })
}

fn open(project: Option<&Path>) -> Result<(PathBuf, ProjectState)> {
    let project = crate::cli::target::project_dir(project)?;
    let state = existing(&project)?;
    Ok((project, state))
}

fn existing(project: &Path) -> Result<ProjectState> {
    let root = state_dir::locate(|name| std::env::var_os(name))?;
    ProjectState::open_existing(&root, project)?.ok_or_else(|| no_run(project))
}

fn last_run(project: &Path, state: &ProjectState) -> Result<Told> {
    let run = RunFolder::newest(state.dir())?.ok_or_else(|| no_run(project))?;
    journal::read(&run.journal())
}

fn no_run(project: &Path) -> Error {
    Error::usage(format!("there is no run of {} yet", project.display()))
        .hint("`longhaul run` starts one; LONGHAUL_STATE_DIR must be the same as it was then")
}
