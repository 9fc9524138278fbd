//! Making a review: what it reads, where it is written, and what is said if it cannot be.

use std::collections::BTreeMap;
use std::io;

use jiff::civil::Date;

use super::answer::Report;
use super::daily::Day;
use super::errors::{Edit, Kind, Line, Status};
use super::folder::Folder;
use super::input::Input;
use super::logs::{Limit, last_review, read_period};
use super::names;
use super::review::{self, Period};
use super::saying::unreadable;
use super::tracker::Tracker;
use crate::advice::Advised;
use crate::error::{Error, ErrorKind, Result};

/// The rules of the agent that gives out work, in projects that have one.
const LEAD: &str = "build-lead.md";

impl Tracker {
    pub(super) fn review(
        &self,
        input: &Input,
        days: u32,
        advised: impl FnOnce(Date, Date) -> Advised,
    ) -> Result<Report> {
        let reviewed = self.make_review(input, days, advised);
        if let Err(err) = &reviewed {
            let what = err.to_string();
            let edit = Edit::line(Kind::Failure, Status::Noted, "review_period", &what);
            self.tell(self.today(), edit);
        }
        reviewed
    }

    fn make_review(
        &self,
        input: &Input,
        days: u32,
        advised: impl FnOnce(Date, Date) -> Advised,
    ) -> Result<Report> {
        let reconciled = self.lock().map_or(0, |_lock| self.reconcile());
        let until = names::day_of(input.unix_ms.unwrap_or(self.now.unix_ms));
        let since = until.saturating_sub(jiff::Span::new().days(i64::from(days) - 1));
        let period = Period { since, until, days };
        let cannot = |what: &str, err: io::Error| {
            let shown = self.project.join(&self.folder);
            Error::new(ErrorKind::Disk, format!("{what} below {}", shown.display())).caused_by(err)
        };
        let folder = self.folder().map_err(|err| cannot("usage cannot be read", err))?;
        let logs = read_period(&folder, since, until, Limit::of_period()).map_err(|err| {
            cannot("usage cannot be read", err).hint("a review of fewer days reads less")
        })?;
        let advised = advised(since, until);
        let (last, damaged) = last_review(&folder, until);
        let review = review::of(period, &logs, &advised, last.as_ref(), self.rules());
        let write = || {
            let _lock = self.lock().map_err(|_| io::Error::other("others are recording"))?;
            folder.write(names::REPORTS, &names::review(until), review.markdown.as_bytes())?;
            let figures = serde_json::to_string_pretty(&review.figures)? + "\n";
            folder.write(names::REPORTS, &names::review_figures(until), figures.as_bytes())?;
            self.say_what_is_damaged(&folder, &logs, &damaged);
            Ok(())
        };
        write().map_err(|err| cannot("the review cannot be written", err))?;
        let path = self.folder.join(names::REPORTS).join(names::review(until));
        Ok(Report::of(&path, review, reconciled))
    }

    /// Each in the errors file of the day in its name: so it is said once, however many
    /// reviews come upon it.
    fn say_what_is_damaged(&self, folder: &Folder, logs: &Day, reviews: &[String]) {
        let mut days: BTreeMap<Date, Edit> = BTreeMap::new();
        for name in &logs.unreadable {
            if let Some(day) = names::day_of_task_file(name) {
                days.entry(day).or_default().lines.extend(unreadable([name]));
            }
        }
        for name in reviews {
            if let Some(day) = names::day_of_review_figures(name) {
                let about = format!("{}/{name}", names::REPORTS);
                let what = "cannot be read, and no review compares with it";
                let line = Line::new(Kind::Failure, Status::Noted, &about, what);
                days.entry(day).or_default().lines.push(line);
            }
        }
        for (day, edit) in days {
            self.say(folder, day, &edit);
        }
    }

    /// The file with the rules by which the project's agents work.
    fn rules(&self) -> &'static str {
        let folders = ["claude/agents", ".claude/agents"].map(|path| self.project.join(path));
        let is_there = |name: &str| folders.iter().any(|folder| folder.join(name).is_file());
        if is_there(LEAD) { LEAD } else { "CLAUDE.md" }
    }
}
