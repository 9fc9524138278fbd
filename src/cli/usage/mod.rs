//! `longhaul usage`: where tokens and money went.

mod table;
mod watch;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::TimeZone;

use crate::cli::print::{complain, print};
use crate::error::{Error, Result};
use crate::models::{self, Models};
use crate::text;
use crate::usage::{self, Account, Index, Only, Owners, Repriced, Seen, View, dirs_of_environment};
use crate::{show, state_dir};

const AFTER_HELP: &str = "\
Of all transcripts below the directories that CLAUDE_CONFIG_DIR lists (commas between
them), else below ~/.claude and ~/.config/claude, whoever ran the sessions. Dollars are
list prices; tokens of a model without a known price are told apart and never free.";

/// Arguments of `longhaul usage`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct UsageArgs {
    /// By what
    #[arg(value_enum, default_value = "daily")]
    view: View,
    /// From this day on: 2026-11-20, or 20261120
    #[arg(long, value_name = "DAY", value_parser = day)]
    since: Option<Date>,
    /// Up to this day, and with it
    #[arg(long, value_name = "DAY", value_parser = day)]
    until: Option<Date>,
    /// Only sessions that worked in this directory, or below it
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Days of this time zone: Europe/Berlin, UTC, +05:30 (default: that of this machine)
    #[arg(long, value_name = "NAME", value_parser = zone, allow_hyphen_values = true)]
    timezone: Option<TimeZone>,
    /// First price everything anew by today's table, also what had a price before
    #[arg(long)]
    reprice: bool,
    /// Go on, and tell it again whenever it has changed; with --json, a line each time
    #[arg(long, conflicts_with = "csv")]
    watch: bool,
    /// Print one JSON object
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print a line of values with commas between for each row
    #[arg(long)]
    csv: bool,
}

pub(super) fn day(text: &str) -> std::result::Result<Date, String> {
    let compact = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    let spelled = match compact {
        true => format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..]),
        false => text.to_owned(),
    };
    spelled.parse().map_err(|_| "a day is wanted, such as 2026-11-20".into())
}

pub(super) fn zone(name: &str) -> std::result::Result<TimeZone, String> {
    let wanted = || "a time zone is wanted, such as Europe/Berlin, UTC or +05:30".to_owned();
    if !name.starts_with(['+', '-']) {
        return TimeZone::get(name).map_err(|_| wanted());
    }
    let zone = DateTimeParser::new().parse_time_zone(name).map_err(|_| wanted())?;
    // As every zone's there is: what was used is kept by quarters of an hour.
    let is_whole = zone.to_fixed_offset().is_ok_and(|offset| offset.seconds() % (15 * 60) == 0);
    if is_whole { Ok(zone) } else { Err(format!("{}, in quarters of an hour", wanted())) }
}

/// Tells where tokens and money went.
pub fn run(args: &UsageArgs) -> Result<()> {
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since > until
    {
        return Err(Error::usage(format!("--since {since} is after --until {until}")));
    }
    let asked = Asked::of(args)?;
    if let Ok(root) = state_root().and_then(|root| state_dir::prepare_root(&root)) {
        models::remember(&root);
    }
    if args.reprice {
        let mut index = Index::open(&state_root()?, &asked.dirs)?;
        let Repriced { before_usd, after_usd } = index.reprice(Models::in_force())?;
        let (before, after) = (text::usd(before_usd), text::usd(after_usd));
        complain(&format!("everything was priced anew: {before} before, {after} now"));
    }
    if args.watch {
        return watch::watch(&asked);
    }
    if args.view.is_of_runs() {
        let root = state_root()?;
        let seen = asked.seen(&mut Index::open(&root, &asked.dirs)?, Some(&root))?;
        return print(&asked.told(&seen, usize::MAX)?);
    }
    let root = state_root();
    let (account, trouble) = usage::account(root, &asked.dirs, Models::in_force());
    if let Some(err) = trouble {
        let err = err.hint("all transcripts were read instead; deleted ones are not in the sums");
        complain(&err.render().replacen("error", "warning", 1));
    }
    warn_of_unreadable(&account);
    print(&asked.told(&account.view(asked.view, &asked.only, &asked.zone), usize::MAX)?)
}

fn warn_of_unreadable(account: &Account) {
    let (files, folders) = account.unreadable();
    if files + folders == 0 {
        return;
    }
    let files = text::count(files, "transcript", "transcripts");
    let folders = text::count(folders, "folder", "folders");
    complain(&format!(
        "warning: {files} and {folders} could not be read; what was counted of them before stays"
    ));
}

/// As wide as a table may be; what is no terminal has room for all of it.
fn columns() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    match std::io::stdout().is_terminal() {
        true => show::size().0,
        false => told.unwrap_or(usize::MAX),
    }
}

fn state_root() -> Result<PathBuf> {
    state_dir::locate(|name| std::env::var_os(name))
}

/// What somebody wants to know, and how.
struct Asked {
    view: View,
    only: Only,
    zone: TimeZone,
    dirs: Vec<PathBuf>,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Csv,
    Table,
}

impl Asked {
    fn of(args: &UsageArgs) -> Result<Self> {
        let dirs = dirs_of_environment();
        if dirs.is_empty() {
            return Err(Error::usage("no place to look for transcripts: HOME is not set")
                .hint("set HOME or CLAUDE_CONFIG_DIR"));
        }
        let project = args.project.as_deref().map(real);
        Ok(Self {
            view: args.view,
            only: Only { since: args.since, until: args.until, project },
            zone: args.timezone.clone().unwrap_or_else(TimeZone::system),
            dirs,
            form: match (args.json, args.csv) {
                (true, _) => Form::Json,
                (_, true) => Form::Csv,
                _ => Form::Table,
            },
        })
    }

    /// What the index says. `runs`: the state directory, where runs and tasks matter.
    fn seen(&self, index: &mut Index, runs: Option<&Path>) -> Result<Seen> {
        let models = Models::in_force();
        let account = match runs {
            Some(root) => index.account_of_tasks(models, &Owners::of(root)?)?,
            None => index.account(models)?,
        };
        warn_of_unreadable(&account);
        Ok(account.view(self.view, &self.only, &self.zone))
    }

    /// The answer in the form that was asked for; of a table no more than so many rows, the
    /// newest or the dearest.
    fn told(&self, seen: &Seen, most_rows: usize) -> Result<String> {
        match self.form {
            Form::Json => text::json(seen, false)
                .map(|line| line + "\n")
                .map_err(|err| Error::internal("the account cannot be written").caused_by(err)),
            Form::Csv => Ok(table::csv(seen)),
            Form::Table if seen.files == 0 => {
                let places: Vec<String> =
                    self.dirs.iter().map(|dir| dir.display().to_string()).collect();
                let places = text::safe(&places.join(", ")).into_owned();
                Ok(format!("There are no transcripts below projects/ in {places}.\n"))
            }
            Form::Table => {
                let count = seen.rows.len().min(most_rows);
                let rows = match self.view.is_of_time() {
                    true => &seen.rows[seen.rows.len() - count..],
                    false => &seen.rows[..count],
                };
                Ok(table::table(seen, rows, columns()))
            }
        }
    }
}

/// The real path, if there is one: transcripts outlive the directories they tell of.
pub(super) fn real(dir: &Path) -> String {
    let absolute = || std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let path = std::fs::canonicalize(dir).unwrap_or_else(|_| absolute());
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_zones_are_read_as_people_write_them() {
        assert_eq!(day("20261120"), day("2026-11-20"));
        assert!(day("2026-13-01").is_err() && day("yesterday").is_err() && day("202611").is_err());
        assert!(zone("UTC").is_ok() && zone("Mars/Crater").is_err());
        let of = |name| zone(name).unwrap().to_fixed_offset().unwrap().seconds();
        assert_eq!((of("+05:30"), of("-0945")), (19_800, -35_100));
        assert!(zone("+05:20").is_err() && zone("+5 o'clock").is_err());
    }
}
