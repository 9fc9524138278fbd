//! The account by one thing at a time: days, sessions, models.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use serde::Serialize;

use super::account::{Account, Cell, CellKey, SLOT_MS, Source};

/// Hours of a block, after which a subscription's limit begins anew.
const BLOCK_HOURS: i64 = 5;
/// The key of what no row dates.
const UNDATED: &str = "undated";
/// The key of what no subagent did.
const MAIN: &str = "main";
/// The key of what no run, or no task, did.
const OTHER: &str = "other";

/// By what an account is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum View {
    /// By day
    Daily,
    /// By week, from Monday
    Weekly,
    /// By month
    Monthly,
    /// By session
    Session,
    /// By the directory that sessions worked in
    Project,
    /// By model
    Model,
    /// By kind of agent; `main` is the main thread
    Agent,
    /// By task of the queue; `other` is what was of none
    Task,
    /// By batch of the queue's tasks; `other` is what was of none
    Batch,
    /// By run of longhaul; `other` is what was of none
    Run,
    /// By session of a run; `other` is what was of none
    Cycle,
    /// By five hours, from the first hour with a request
    Blocks,
}

impl View {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            View::Daily => "daily",
            View::Weekly => "weekly",
            View::Monthly => "monthly",
            View::Session => "session",
            View::Project => "project",
            View::Model => "model",
            View::Agent => "agent",
            View::Task => "task",
            View::Batch => "batch",
            View::Run => "run",
            View::Cycle => "cycle",
            View::Blocks => "blocks",
        }
    }

    /// It needs to know which sessions are of which run.
    pub fn is_of_runs(self) -> bool {
        matches!(self, View::Task | View::Batch | View::Run | View::Cycle)
    }

    /// Its rows follow each other in time.
    pub fn is_of_time(self) -> bool {
        matches!(self, View::Daily | View::Weekly | View::Monthly | View::Blocks)
    }
}

/// What is left out of a view.
#[derive(Debug, Clone, Default)]
pub struct Only {
    /// Days before.
    pub since: Option<Date>,
    /// Days after.
    pub until: Option<Date>,
    /// Other directories than this and those below it.
    pub project: Option<String>,
}

/// Sums of tokens and dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sums {
    /// Prompt tokens neither written to nor read from the cache.
    pub input: u64,
    /// Generated tokens.
    pub output: u64,
    /// Prompt tokens written to the five-minute cache.
    pub cache_write_5m: u64,
    /// Prompt tokens written to the one-hour cache.
    pub cache_write_1h: u64,
    /// Prompt tokens read from the cache.
    pub cache_read: u64,
    /// Dollars at list prices, of models with a price.
    pub cost_usd: f64,
    /// Tokens of models without a price, which `cost_usd` leaves out.
    pub unpriced_tokens: u64,
    /// Responses.
    pub responses: u64,
}

impl From<&Cell> for Sums {
    fn from(cell: &Cell) -> Self {
        Self {
            input: cell.tokens.input,
            output: cell.tokens.output,
            cache_write_5m: cell.tokens.cache_write_5m,
            cache_write_1h: cell.tokens.cache_write_1h,
            cache_read: cell.tokens.cache_read,
            cost_usd: cell.cost.as_f64(),
            unpriced_tokens: cell.unpriced_tokens,
            responses: cell.responses,
        }
    }
}

/// A line of a view.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// What it is about.
    pub key: String,
    /// What was used.
    #[serde(flatten)]
    pub sums: Sums,
}

/// A view as programs read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seen {
    /// Its name.
    pub view: &'static str,
    /// In time, or the dearest first.
    pub rows: Vec<Line>,
    /// Of all rows.
    pub totals: Sums,
    /// Transcripts that were found.
    pub files: u64,
    /// Bytes that had to be read.
    pub bytes_read: u64,
    /// Pieces of lines that are no rows.
    pub bad_rows: u64,
    /// Rows with usage and without any id, in no sum.
    pub unidentified_rows: u64,
}

impl Account {
    /// Transcripts, and folders of them, that could not be read this time.
    pub fn unreadable(&self) -> (u64, u64) {
        (self.unreadable_files, self.unreadable_folders)
    }

    /// The account by `view`, in the days of `zone`.
    pub fn view(&self, view: View, only: &Only, zone: &TimeZone) -> Seen {
        let mut clock = Clock { zone, days: BTreeMap::new() };
        let wanted: Vec<&(CellKey, Cell)> =
            self.cells.iter().filter(|(key, _)| self.is_wanted(key, only, &mut clock)).collect();
        let blocks = match view {
            // What is left out changes nothing about when a limit began anew.
            View::Blocks => blocks(self.cells.iter().filter_map(|(key, _)| key.slot)),
            _ => Vec::new(),
        };
        let mut rows: BTreeMap<String, Cell> = BTreeMap::new();
        let mut total = Cell::default();
        for (key, cell) in wanted {
            let name = self.key(view, key, &mut clock, &blocks);
            rows.entry(name).or_default().add(cell);
            total.add(cell);
        }
        let mut rows: Vec<(String, Cell)> = rows.into_iter().collect();
        if !view.is_of_time() {
            let weight = |cell: &Cell| (cell.cost, cell.tokens.total());
            rows.sort_by_key(|(_, cell)| std::cmp::Reverse(weight(cell)));
        }
        let line = |(key, cell): (String, Cell)| Line { key, sums: Sums::from(&cell) };
        Seen {
            view: view.as_str(),
            rows: rows.into_iter().map(line).collect(),
            totals: Sums::from(&total),
            files: self.files,
            bytes_read: self.bytes_read,
            bad_rows: self.bad_rows,
            unidentified_rows: self.unidentified_rows,
        }
    }

    fn source(&self, key: &CellKey) -> Option<&Source> {
        self.sources.get(key.file as usize)
    }

    fn is_wanted(&self, key: &CellKey, only: &Only, clock: &mut Clock<'_>) -> bool {
        let is_there = |dir: &String| {
            self.source(key).is_some_and(|source| Path::new(&source.project).starts_with(dir))
        };
        if !only.project.as_ref().is_none_or(is_there) {
            return false;
        }
        if only.since.is_none() && only.until.is_none() {
            return true;
        }
        let Some(slot) = key.slot else { return false };
        let day = clock.day(slot);
        only.since.is_none_or(|since| day >= since) && only.until.is_none_or(|until| day <= until)
    }

    fn key(&self, view: View, key: &CellKey, clock: &mut Clock<'_>, blocks: &[i64]) -> String {
        let of_time = |tell: &mut dyn FnMut(i64) -> String| match key.slot {
            Some(slot) => tell(slot),
            None => UNDATED.to_owned(),
        };
        let source = self.source(key);
        match view {
            View::Daily => of_time(&mut |slot| clock.day(slot).to_string()),
            View::Weekly => of_time(&mut |slot| {
                let day = clock.day(slot);
                let after_monday = i32::from(day.weekday().to_monday_zero_offset());
                day.saturating_sub(after_monday.days()).to_string()
            }),
            View::Monthly => of_time(&mut |slot| {
                let day = clock.day(slot);
                format!("{:04}-{:02}", day.year(), day.month())
            }),
            View::Blocks => of_time(&mut |slot| {
                let at = blocks.partition_point(|start| *start <= slot);
                let start = at.checked_sub(1).map_or(slot, |at| blocks[at]);
                crate::clock::rfc3339(start * SLOT_MS)
            }),
            View::Session => source.map(|source| source.session.clone()).unwrap_or_default(),
            View::Project => source.map(|source| source.project.clone()).unwrap_or_default(),
            View::Agent => {
                source.and_then(|source| source.agent.clone()).unwrap_or_else(|| MAIN.to_owned())
            }
            View::Task => other(source.and_then(|source| Some(source.work.as_ref()?.task.clone()))),
            View::Batch => other(source.and_then(|source| source.work.as_ref()?.batch.clone())),
            View::Cycle => {
                other(source.and_then(|s| Some(format!("{}-cycle-{:03}", s.run_id?, s.cycle?))))
            }
            View::Run => other(source.and_then(|source| Some(source.run_id?.to_string()))),
            View::Model => self.models.get(key.model.0 as usize).cloned().unwrap_or_default(),
        }
    }
}

fn other(owner: Option<String>) -> String {
    owner.unwrap_or_else(|| OTHER.to_owned())
}

/// Days by quarters of an hour, each asked of the time zone once.
struct Clock<'z> {
    zone: &'z TimeZone,
    days: BTreeMap<i64, Date>,
}

impl Clock<'_> {
    fn day(&mut self, slot: i64) -> Date {
        *self.days.entry(slot).or_insert_with(|| {
            let at = Timestamp::from_millisecond(slot * SLOT_MS).unwrap_or_default();
            Zoned::new(at, self.zone.clone()).date()
        })
    }
}

/// Where blocks begin: at the full hour of the first request, and of the first one more
/// than five hours after that, or after the one before.
fn blocks(slots: impl Iterator<Item = i64>) -> Vec<i64> {
    const SLOTS_AN_HOUR: i64 = 60 * 60 * 1_000 / SLOT_MS;
    const LENGTH: i64 = BLOCK_HOURS * SLOTS_AN_HOUR;
    let mut slots: Vec<i64> = slots.collect();
    slots.sort_unstable();
    slots.dedup();
    let mut starts: Vec<i64> = Vec::new();
    let mut last = i64::MIN;
    for slot in slots {
        let is_within = starts.last().is_some_and(|start| slot - start < LENGTH);
        if !is_within || slot.saturating_sub(last) > LENGTH {
            starts.push(slot.div_euclid(SLOTS_AN_HOUR) * SLOTS_AN_HOUR);
        }
        last = slot;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_begin_at_full_hours_and_last_five() {
        let at = |hour: i64, quarter: i64| hour * 4 + quarter;
        let slots = [at(100, 3), at(101, 0), at(104, 3), at(105, 0), at(111, 2), at(112, 1)];
        assert_eq!(blocks(slots.into_iter()), [at(100, 0), at(105, 0), at(111, 0)]);
        assert_eq!(blocks(std::iter::empty()), [0_i64; 0]);
    }
}
