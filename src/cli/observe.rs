//! `longhaul observe`: what was odd about the executions of a day.

use std::path::PathBuf;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::cli::print::print;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::models::Models;
use crate::observe::{Places, observe};
use crate::usage::dirs_of_environment;
use crate::{state_dir, text};

const AFTER_HELP: &str = "\
An execution is what a run did for a task of the queue, else a session of a run, else what a
session did that somebody ran by hand. Thresholds are `observe.*` in longhaul.toml. The exit
code is 0 whether anything is odd or not.";

/// Arguments of `longhaul observe`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct ObserveArgs {
    /// Which day: today, yesterday, 2026-11-20 or 20261120
    #[arg(long, value_name = "DAY", value_parser = day, default_value = "today")]
    date: Day,
    /// For people, for programs, or to be filed
    #[arg(long, value_enum, value_name = "FORM", default_value = "text")]
    output: Output,
    /// Only executions in this directory, or below it (default: all projects)
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Days of this time zone: Europe/Berlin, UTC, +05:30 (default: that of this machine)
    #[arg(long, value_name = "NAME", value_parser = super::usage::zone, allow_hyphen_values = true)]
    timezone: Option<TimeZone>,
    /// The configuration file (default: longhaul.toml in the project or the current
    /// directory, if there is one)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One key of the configuration; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
enum Day {
    Today,
    Yesterday,
    On(Date),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
    Markdown,
}

fn day(word: &str) -> std::result::Result<Day, String> {
    match word {
        "today" => Ok(Day::Today),
        "yesterday" => Ok(Day::Yesterday),
        _ => super::usage::day(word)
            .map(Day::On)
            .map_err(|_| "a day is wanted: today, yesterday, or one such as 2026-11-20".to_owned()),
    }
}

impl Day {
    fn date(self, zone: &TimeZone) -> Result<Date> {
        let now = jiff::Timestamp::from_millisecond(Timestamp::now().unix_ms).unwrap_or_default();
        let today = now.to_zoned(zone.clone()).date();
        match self {
            Day::Today => Ok(today),
            Day::Yesterday => today
                .yesterday()
                .map_err(|err| Error::usage("there is no day before today").caused_by(err)),
            Day::On(date) => Ok(date),
        }
    }
}

/// Observes a day.
pub fn run(args: &ObserveArgs) -> Result<()> {
    let zone = args.timezone.clone().unwrap_or_else(TimeZone::system);
    let date = args.date.date(&zone)?;
    let project = args.project.as_deref().map(super::usage::real).map(PathBuf::from);
    let place = match &project {
        Some(project) => project.clone(),
        None => std::env::current_dir()
            .map_err(|err| Error::usage("there is no current directory").caused_by(err))?,
    };
    let config = Config::load(&place, args.config.as_deref(), &args.set)?;
    let places = Places {
        config_dirs: dirs_of_environment(),
        state_root: state_dir::locate(|name| std::env::var_os(name))?,
    };
    let day = observe(&places, date, &zone, project.as_deref(), &config, Models::in_force());
    match args.output {
        Output::Text => print(&day.human(&zone)),
        Output::Markdown => print(&day.markdown(&zone)),
        Output::Json => {
            let line = text::json(&day, false)
                .map_err(|err| Error::internal("the day cannot be written").caused_by(err))?;
            print(&format!("{line}\n"))
        }
    }
}
