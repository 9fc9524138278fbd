//! What all sessions of the machine spend, for budgets of the day and the month. Asked
//! of a process of its own, one at a time, that may take long, fail, or never come back.
//! Nothing here decides.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::OWN_PROGRAM;
use crate::clock::Timestamp;
use crate::cycle::Event;
use crate::cycle::budget::{Money, Reading};
use crate::session::sweep::{Own, RUN_VARIABLE};
use crate::usage::Amount;
use crate::usage::now::{self, Now, SPENT_LIMIT};

use super::Driver;
use super::jobs::Done;

/// While a session lives it is asked again after this long.
const EVERY_MS: u64 = 60_000;
/// Longest answer; it is one short line.
const ANSWER_BYTES: u64 = 64 << 10;

/// When it was asked, and what was answered.
#[derive(Debug, Default)]
pub struct Spending {
    is_out: bool,
    /// On the clock of the boot; 0: never.
    asked_at_ms: u64,
    /// A session has ended since.
    is_hurried: bool,
    /// The answer that the machine has; `None`: it knows that there is none.
    told: Option<Option<Reading>>,
    /// That it cannot be told was logged.
    is_logged: bool,
}

impl Spending {
    /// A session ended: its closing bill counts.
    pub(super) fn hurry(&mut self) {
        self.is_hurried = true;
    }

    fn is_due(&self, now: Timestamp, is_alive: bool) -> bool {
        let is_yesterdays = self
            .told
            .as_ref()
            .and_then(Option::as_ref)
            .is_some_and(|reading| now.unix_ms >= reading.day_ends_unix_ms);
        let is_old = now.boot_ms.saturating_sub(self.asked_at_ms) >= EVERY_MS;
        !self.is_out
            && (self.asked_at_ms == 0 || self.is_hurried || (is_old && (is_alive || is_yesterdays)))
    }
}

impl Driver {
    /// Asks when it is time to. Without a budget of day or month nobody does.
    pub(super) fn mind_spending(&mut self, now: Timestamp) {
        if !self.setup.config.budget.needs_reading()
            || !self.spending.is_due(now, self.machine.is_alive())
        {
            return;
        }
        let Some(root) = self.setup.state_root() else { return };
        let args = now::attended(root, &self.transcript_dirs());
        self.spending.is_out = true;
        self.spending.is_hurried = false;
        self.spending.asked_at_ms = now.boot_ms.max(1);
        let run_id = self.machine.run_id().to_string();
        self.jobs.start(async move { Done::Spent(ask(args, run_id).await.map(Box::new)) });
    }

    /// Those of this machine, and the one that the sessions of this run use.
    fn transcript_dirs(&self) -> Vec<PathBuf> {
        let mut dirs = crate::usage::dirs_of_environment();
        if !dirs.contains(&self.setup.claude_dir) {
            dirs.push(self.setup.claude_dir.clone());
        }
        dirs
    }

    pub(super) fn on_spent(&mut self, found: Result<Box<Now>, String>) {
        self.spending.is_out = false;
        let reading = match found {
            Ok(now) => Some(reading_of(&now)),
            Err(why) => {
                if !std::mem::replace(&mut self.spending.is_logged, true) {
                    tracing::warn!(why, "what all sessions have spent is not known");
                }
                None
            }
        };
        // The journal has no use for the same again.
        if self.spending.told.as_ref() != Some(&reading) {
            self.spending.told = Some(reading.clone());
            self.queue.push_back(Event::SpendingRead { reading });
        }
    }
}

async fn ask(args: Vec<OsString>, run_id: String) -> Result<Now, String> {
    let mut child = Command::new(OWN_PROGRAM)
        .args(args)
        // Should this longhaul be killed, the next one ends what is left.
        .env(RUN_VARIABLE, run_id)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|err| err.to_string())?;
    let _own = Own::of(child.id());
    let said = child.stdout.take().ok_or("it has no output")?;
    let answer = async {
        let mut line = String::new();
        said.take(ANSWER_BYTES).read_to_string(&mut line).await.map_err(|err| err.to_string())?;
        let status = child.wait().await.map_err(|err| err.to_string())?;
        serde_json::from_str(&line).map_err(|_| format!("no answer came ({status})"))
    };
    match tokio::time::timeout(SPENT_LIMIT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer came within {} s", SPENT_LIMIT.as_secs())),
    }
}

fn reading_of(now: &Now) -> Reading {
    let money =
        |amount: Amount| Money { usd: amount.bound_usd(), unpriced_usd: amount.unpriced_bound_usd };
    Reading {
        day: now.day.clone(),
        day_ends_unix_ms: now.day_ends_unix_ms,
        month_ends_unix_ms: now.month_ends_unix_ms,
        day_spent: money(now.spent.day),
        month_spent: money(now.spent.month),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp { unix_ms: 0, boot_ms: 5_000 }.plus_ms(ms)
    }

    fn told(day_ends_unix_ms: i64) -> Option<Option<Reading>> {
        let (day_spent, month_spent) = (Money::default(), Money::default());
        let (day, month_ends_unix_ms) = ("2026-11-21".into(), i64::MAX);
        Some(Some(Reading { day, day_ends_unix_ms, month_ends_unix_ms, day_spent, month_spent }))
    }

    #[test]
    fn it_is_asked_at_once_then_every_minute_of_a_session_and_when_one_ends() {
        let mut spending = Spending::default();
        assert!(spending.is_due(at(0), false), "at the start of the run");
        spending.asked_at_ms = at(0).boot_ms;
        spending.is_out = true;
        assert!(!spending.is_due(at(900_000), true), "one at a time");
        spending.is_out = false;
        spending.told = told(3_600_000);
        assert!(!spending.is_due(at(59_999), true));
        assert!(spending.is_due(at(60_000), true));
        assert!(!spending.is_due(at(600_000), false), "no session spends anything");
        spending.hurry();
        assert!(spending.is_due(at(10), false), "the closing bill of a session");
    }

    #[test]
    fn a_day_that_is_over_is_asked_for_anew_even_while_nothing_runs() {
        let asked_at_ms = at(0).boot_ms;
        let spending = Spending { asked_at_ms, told: told(100_000), ..Spending::default() };
        assert!(!spending.is_due(at(99_999), false));
        assert!(spending.is_due(at(100_000), false));
        let failed = Spending { asked_at_ms, told: Some(None), ..Spending::default() };
        assert!(!failed.is_due(at(900_000), false) && failed.is_due(at(900_000), true));
    }
}
