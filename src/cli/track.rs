//! `longhaul track`: takes what an agent tells of its usage, or looks back over it.

use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::print;
use super::target::TargetArgs;
use crate::advice::{self, Advised};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::models::Models;
use crate::observe::{Places, Span, day_span};
use crate::track::{self, Failed, MAX_INPUT_BYTES, Tracker};
use crate::usage::dirs_of_environment;
use crate::{state_dir, text};

const AFTER_HELP: &str = "\
Reads one JSON object on standard input and answers with one:
  {\"mode\": \"log_only\" or \"log_and_summarize\", \"task_id\", \"timestamp\",
   \"user_request_summary\", \"entries\": [{\"agent\", \"model\", \"input_tokens\",
   \"output_tokens\", \"total_tokens\", \"estimated_cost\"}]}
  {\"mode\": \"review_period\", \"days\": 7}
Files are written below token-usage/ in the project (`track.folder`).

Exit codes: 0 recorded, or put by because others record; 51 the folder cannot be written,
what was told is kept and recorded with the next call; 50 the state cannot be used;
64 the request or the configuration is wrong.";

/// Arguments of `longhaul track`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct TrackArgs {
    #[command(flatten)]
    target: TargetArgs,
}

/// Takes one request, and gives the exit code.
///
/// # Errors
/// The answer cannot be written.
pub fn run(args: &TrackArgs) -> Result<u8> {
    let mut bytes = Vec::new();
    // One byte more shows that there is more.
    let read = stdin().lock().take(MAX_INPUT_BYTES as u64 + 1).read_to_end(&mut bytes);
    if let Err(err) = read {
        let err = Error::io(ErrorKind::Usage, "standard input cannot be read", err);
        return fail(&Failed::of(&err, None), err.kind());
    }
    let parsed = track::parse(&bytes);
    let task_id = match &parsed {
        Ok(input) => input.task_id.clone(),
        Err(refused) => refused.task_id.clone(),
    };
    let Opened { tracker, state_root, project, config } = match open(args) {
        Ok(opened) => opened,
        Err(err) => return fail(&Failed::of(&err, task_id), err.kind()),
    };
    let input = match parsed {
        Ok(input) => input,
        Err(refused) => {
            tracker.note_refused(&refused.message);
            return fail(&Failed::refused(&refused), ErrorKind::Usage);
        }
    };
    let advised = |since, until| advised(&state_root, &project, &config, (since, until));
    match tracker.take(&input, advised) {
        Ok(answer) => {
            let line = text::json(&answer, false)
                .map_err(|err| Error::internal("the answer cannot be written").caused_by(err))?;
            print::print(&format!("{line}\n")).map(|()| 0)
        }
        Err(err) => fail(&Failed::of(&err, task_id), err.kind()),
    }
}

/// What the transcripts of the project advise for these days (UTC, as the tracker's are);
/// for reviews by the hub, too.
pub fn advised(
    state_root: &Path,
    project: &Path,
    config: &Config,
    (since, until): (Date, Date),
) -> Advised {
    let start = |day| day_span(day, &TimeZone::UTC);
    let span =
        Span { from_unix_ms: start(since).from_unix_ms, until_unix_ms: start(until).until_unix_ms };
    let places = Places { config_dirs: dirs_of_environment(), state_root: state_root.to_owned() };
    advice::advise(&places, span, Some(project), config, Models::in_force())
}

/// Where a request is taken to.
struct Opened {
    tracker: Tracker,
    state_root: PathBuf,
    project: PathBuf,
    config: Config,
}

fn open(args: &TrackArgs) -> Result<Opened> {
    let (project, config) = args.target.resolve()?;
    let state_root = state_dir::locate(|name| std::env::var_os(name))?;
    let tracker = tracker(&state_root, &project, &config)?;
    Ok(Opened { tracker, state_root, project, config })
}

/// The tracker of `project` (its real path).
///
/// # Errors
/// It wants none, or the state cannot be used.
pub fn tracker(state_root: &Path, project: &Path, config: &Config) -> Result<Tracker> {
    let Some(folder) = &config.track.folder else {
        return Err(Error::usage("`track.folder` is empty: nothing is tracked in this project"));
    };
    Tracker::open(state_root, project, folder)
}

/// The answer goes where answers go, and a word of it to the person.
fn fail(failed: &Failed, kind: ErrorKind) -> Result<u8> {
    let line = text::json(failed, false)
        .map_err(|err| Error::internal("the answer cannot be written").caused_by(err))?;
    print::print(&format!("{line}\n"))?;
    print::complain(&format!("error: {}", text::safe(&failed.error.message)));
    Ok(kind.exit_code())
}
