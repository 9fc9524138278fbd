//! `longhaul usage`: where tokens and money went.

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::cli::print::print;
use crate::error::{Error, Result};
use crate::models::Models;
use crate::text::{self, Side};
use crate::usage::{Account, Only, Seen, Sums, View, config_dirs};

const AFTER_HELP: &str = "\
Of all transcripts below the directories that CLAUDE_CONFIG_DIR lists (commas between
them), else below ~/.claude and ~/.config/claude, whoever ran the sessions. Dollars are
list prices; tokens of a model without a known price are told apart and never free.";

/// Width of the longest bar.
const BAR_COLUMNS: usize = 20;
/// Longest key in a table.
const KEY_COLUMNS: usize = 48;

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
    /// Days of this time zone: Europe/Berlin, UTC (default: the one of this machine)
    #[arg(long, value_name = "NAME", value_parser = zone)]
    timezone: Option<TimeZone>,
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
    TimeZone::get(name).map_err(|_| "a time zone is wanted, such as Europe/Berlin or UTC".into())
}

/// Tells where tokens and money went.
pub fn run(args: &UsageArgs) -> Result<()> {
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since > until
    {
        return Err(Error::usage(format!("--since {since} is after --until {until}")));
    }
    let listed = std::env::var("CLAUDE_CONFIG_DIR").ok();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let dirs = config_dirs(listed.as_deref(), home.as_deref());
    let only =
        Only { since: args.since, until: args.until, project: args.project.as_deref().map(real) };
    let zone = args.timezone.clone().unwrap_or_else(TimeZone::system);
    let seen = Account::of(&dirs, Models::builtin()).view(args.view, &only, &zone);
    if args.json {
        let line = text::json(&seen, false)
            .map_err(|err| Error::internal("the account cannot be written").caused_by(err))?;
        return print(&format!("{line}\n"));
    }
    if args.csv {
        return print(&csv(&seen));
    }
    if seen.files == 0 {
        let places: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        let places = text::safe(&places.join(", ")).into_owned();
        return print(&format!("There are no transcripts below projects/ in {places}.\n"));
    }
    print(&table(&seen))
}

/// The real path, if there is one: transcripts outlive the directories they tell of.
pub(super) fn real(dir: &Path) -> String {
    let absolute = || std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let path = std::fs::canonicalize(dir).unwrap_or_else(|_| absolute());
    path.to_string_lossy().into_owned()
}

fn csv(seen: &Seen) -> String {
    let mut out = String::from(
        "key,input,output,cache_write_5m,cache_write_1h,cache_read,cost_usd,unpriced_tokens,responses\n",
    );
    for line in &seen.rows {
        let Sums { input, output, cache_write_5m, cache_write_1h, cache_read, .. } = line.sums;
        let Sums { cost_usd, unpriced_tokens, responses, .. } = line.sums;
        out.push_str(&format!(
            "{},{input},{output},{cache_write_5m},{cache_write_1h},{cache_read},{cost_usd},\
             {unpriced_tokens},{responses}\n",
            quoted(&line.key)
        ));
    }
    out
}

/// A value as RFC 4180 wants it. What a spreadsheet would take for a formula is none.
fn quoted(value: &str) -> String {
    let value = text::safe(value);
    let is_formula = value.starts_with(['=', '+', '-', '@']);
    let value = if is_formula { format!("'{value}") } else { value.into_owned() };
    match value.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", value.replace('"', "\"\"")),
        false => value,
    }
}

const HEAD: [(&str, Side); 8] = [
    ("", Side::Left),
    ("input", Side::Right),
    ("output", Side::Right),
    ("written 5m", Side::Right),
    ("written 1h", Side::Right),
    ("read", Side::Right),
    ("cost", Side::Right),
    ("", Side::Left),
];

fn table(seen: &Seen) -> String {
    if seen.rows.is_empty() {
        return format!("Nothing was used ({}).\n", found(seen));
    }
    let most = seen.rows.iter().map(|line| line.sums.cost_usd).fold(0.0, f64::max);
    let mut rows: Vec<[String; 8]> = seen
        .rows
        .iter()
        .map(|line| {
            let key = text::safe(&line.key);
            let mut row = cells(&text::clip(&key, KEY_COLUMNS), &line.sums);
            row[7] = bar(line.sums.cost_usd, most);
            row
        })
        .collect();
    rows.push(cells("total", &seen.totals));
    let widths: [usize; 8] = std::array::from_fn(|at| {
        let widest = rows.iter().map(|row| text::width(&row[at])).max().unwrap_or(0);
        widest.max(text::width(HEAD[at].0))
    });
    let put = |cells: [&str; 8]| {
        let padded = std::iter::zip(cells, std::iter::zip(widths, HEAD))
            .map(|(cell, (width, (_, side)))| text::pad(cell, width, side));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut out = put(std::array::from_fn(|at| match at {
        0 => seen.view,
        _ => HEAD[at].0,
    }));
    for row in &rows {
        out.push_str(&put(std::array::from_fn(|at| row[at].as_str())));
    }
    let totals = &seen.totals;
    if totals.unpriced_tokens > 0 {
        out.push_str(&format!(
            "{} tokens are of models without a known price, and in no cost.\n",
            text::grouped(totals.unpriced_tokens)
        ));
    }
    out.push_str(&format!(
        "{} ({})\n",
        text::count(totals.responses, "response", "responses"),
        found(seen)
    ));
    out
}

fn cells(key: &str, sums: &Sums) -> [String; 8] {
    let cost = text::usd(sums.cost_usd);
    // What is not all must not look so.
    let cost = if sums.unpriced_tokens > 0 { format!("{cost} +?") } else { cost };
    let counts =
        [sums.input, sums.output, sums.cache_write_5m, sums.cache_write_1h, sums.cache_read];
    let [input, output, short, long, read] = counts.map(text::tokens);
    [key.to_owned(), input, output, short, long, read, cost, String::new()]
}

fn bar(cost_usd: f64, most_usd: f64) -> String {
    if most_usd <= 0.0 || cost_usd <= 0.0 {
        return String::new();
    }
    let columns = (cost_usd / most_usd * BAR_COLUMNS as f64).round().max(1.0);
    "#".repeat(columns as usize)
}

fn found(seen: &Seen) -> String {
    let mut parts = vec![text::count(seen.files, "transcript", "transcripts")];
    if seen.bad_rows > 0 {
        parts.push(text::count(seen.bad_rows, "damaged row", "damaged rows"));
    }
    if seen.unidentified_rows > 0 {
        let rows = text::count(seen.unidentified_rows, "row", "rows");
        parts.push(format!("{rows} without an id, not counted"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_zones_are_read_as_people_write_them() {
        assert_eq!(day("20261120"), day("2026-11-20"));
        assert!(day("2026-13-01").is_err() && day("yesterday").is_err() && day("202611").is_err());
        assert!(zone("UTC").is_ok() && zone("Mars/Crater").is_err());
    }

    #[test]
    fn a_value_is_no_formula_and_no_escape() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("=cmd()"), "'=cmd()");
        assert!(!quoted("\u{1b}[2J").contains('\u{1b}'));
    }
}
