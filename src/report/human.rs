//! The report as a tired person reads it at seven in the morning: what
//! happened and what to do on the first line, figures after it, then what went
//! wrong, and where everything lies.

use jiff::tz::TimeZone;

use super::{CycleReport, Ended, Report, Wait, words};
use crate::cycle::Outcome;
use crate::cycle::pressure::WindowSource;
use crate::cycle::record::CostSource;
use crate::cycle::state::Budget;
use crate::guard::worktree;
use crate::text::{self, Side};

/// As much of a commit's id as tells it from others.
const SHORT_ID: usize = 12;

/// Nothing but a path or an id is wider than this.
const COLUMNS: usize = 100;
/// A foreign text longer than this is cut; the JSON report has all of it.
const LONGEST: usize = 1_000;
/// Work trees that are named; the JSON report has all of them.
const TREES: usize = 3;
/// Rows of a terminal that are shown.
const SCREEN_ROWS: usize = 40;
/// Where the second column begins.
const LABEL: usize = 13;
/// The CLI's count and ours may differ by rounding; more than this is told.
const GAP_USD: f64 = 0.01;

impl Report {
    /// The report in words; times are local to `zone`.
    pub fn human(&self, zone: &TimeZone) -> String {
        let mut page = Page::default();
        page.paragraph(&self.headline(zone));
        page.blank();
        self.facts(&mut page, zone);
        if !self.cycles.is_empty() {
            page.blank();
            self.table(&mut page, zone);
        }
        if let Some(queue) = self.queue.as_ref().filter(|queue| !queue.tasks.is_empty()) {
            page.blank();
            for line in queue.table() {
                page.line(&line);
            }
            if let Some(words) = queue.saved() {
                page.paragraph(&words);
            }
        }
        if !self.warnings.is_empty() {
            page.blank();
            page.line("Look at this:");
            for warning in &self.warnings {
                page.item(warning);
            }
        }
        page.blank();
        self.places(&mut page);
        if let Some(asked) = self.needs_person.as_ref().filter(|a| !a.screen.trim().is_empty()) {
            page.blank();
            page.line("What the session's terminal showed:");
            let rows: Vec<&str> = asked.screen.lines().map(str::trim_end).collect();
            let rows = rows.iter().skip_while(|row| row.is_empty());
            for row in rows.take(SCREEN_ROWS) {
                page.line(format!("  | {row}").trim_end());
            }
        }
        page.text
    }

    /// How it ended, and whether the reader must do something.
    fn headline(&self, zone: &TimeZone) -> String {
        let tally = match (&self.queue, self.tasks_total) {
            (Some(queue), _) => {
                format!("{} of {} tasks of the queue done", queue.done(), queue.tasks.len())
            }
            (None, 0) => "no task boxes seen".to_owned(),
            (None, total) => format!("{} of {total} tasks ticked", self.tasks_done_after),
        };
        match &self.ended {
            Ended::With(Outcome::Done) if self.queue.is_some() => {
                format!("DONE: {tally}. {}", self.or_warn("There is nothing you must do."))
            }
            Ended::With(Outcome::Done) => {
                let proof = if self.verify { ", and the verify command passed" } else { "" };
                let after = self.or_warn("There is nothing you must do.");
                format!("DONE: the task file says done ({tally}){proof}. {after}")
            }
            Ended::With(Outcome::NeedsPerson { why }) => {
                format!("NOT DONE, YOU ARE NEEDED: {why} ({tally}).")
            }
            Ended::With(outcome @ Outcome::Budget { which }) => format!(
                "NOT DONE: {} ({tally}). {}",
                outcome.sentence(),
                match which {
                    Budget::Sessions
                    | Budget::Hours
                    | Budget::Tokens
                    | Budget::Cost
                    | Budget::Task => {
                        "Raise it to go on."
                    }
                    Budget::Quota => "Go on when there is quota to spend.",
                    Budget::TokenRate
                    | Budget::CostRate
                    | Budget::Subagents
                    | Budget::Scratch
                    | Budget::Written => "See what it was doing before you go on.",
                }
            ),
            Ended::With(Outcome::LimitPast { why, resets_unix_ms }) => {
                let until = resets_unix_ms.map(|ms| text::local(ms, zone, "%a %Y-%m-%d %H:%M"));
                let until = until.map_or_else(String::new, |at| format!(" until {at}"));
                format!(
                    "NOT DONE: longhaul does not wait longer than limits.max_wait_hours, and \
                     {why}{until} ({tally}). Go on then."
                )
            }
            Ended::With(Outcome::Disk { why }) => format!(
                "NOT DONE, YOU ARE NEEDED: too little room on a disk: {why} ({tally}). \
                 Make room, then go on."
            ),
            Ended::With(Outcome::NoProgress) => format!(
                "NOT DONE: the last sessions made no progress, so longhaul stopped ({tally}). \
                 See what they were stuck on before you go on."
            ),
            Ended::With(Outcome::Authentication { why }) => format!(
                "NOT DONE, YOU ARE NEEDED: the API refused the login: {why} ({tally}). \
                 Log in again, then go on."
            ),
            Ended::With(Outcome::Stopped { signal }) => format!(
                "STOPPED by {} before the task was done ({tally}). {}",
                signal_name(*signal),
                self.or_warn("Go on when you like.")
            ),
            Ended::Running => format!("RUNNING: {} ({tally}).", self.message),
            Ended::Interrupted => format!(
                "INTERRUPTED: {} ({tally}). The next `longhaul {}` carries on with this run.",
                self.message,
                if self.queue.is_some() { "queue run" } else { "run" }
            ),
        }
    }

    /// The git refs of the newest cycles that have one.
    fn trees(&self) -> impl Iterator<Item = (&CycleReport, &str)> {
        let all: Vec<_> =
            self.cycles.iter().filter_map(|c| Some((c, c.git_ref.as_deref()?))).collect();
        let older = all.len().saturating_sub(TREES);
        all.into_iter().skip(older)
    }

    /// What to say when all is well; else where to look.
    fn or_warn(&self, well: &'static str) -> &'static str {
        if self.warnings.is_empty() { well } else { "Look at the warnings below." }
    }

    fn facts(&self, page: &mut Page, zone: &TimeZone) {
        page.fact("project", &self.project);
        let began = text::local(self.started_at.unix_ms, zone, "%a %Y-%m-%d %H:%M");
        let ended = match self.ended_at {
            Some(at) => format!("to {}", text::local(at.unix_ms, zone, "%a %Y-%m-%d %H:%M")),
            None => "without an end so far".into(),
        };
        page.fact("time", &format!("{} ({began} {ended})", text::span(self.elapsed_ms)));
        if self.queue.is_none() {
            page.fact(
                "tasks",
                &words::tasks(self.tasks_done_before, self.tasks_done_after, self.tasks_total),
            );
        }
        page.fact("sessions", &self.session_words());
        if let Some(words) = self.window_words() {
            page.fact("window", &words);
        }
        let u = &self.totals.usage;
        page.fact(
            "tokens",
            &format!(
                "{}: input {}, output {}, cache read {}, cache write {} (5m) and {} (1h)",
                text::grouped(self.totals.tokens),
                text::grouped(u.input),
                text::grouped(u.output),
                text::grouped(u.cache_read),
                text::grouped(u.cache_write_5m),
                text::grouped(u.cache_write_1h)
            ),
        );
        page.fact("cost", &self.cost_words());
        for wait in &self.waits {
            page.fact("waited", &wait_words(wait, zone));
        }
        if !self.failures.is_empty() {
            page.fact("failures", &self.failure_words());
        }
    }

    /// `API overloaded (3 times, paused 35s), the CLI crashed (once)`
    fn failure_words(&self) -> String {
        let each: Vec<String> = self
            .failures
            .iter()
            .map(|failure| {
                let times = match failure.count {
                    1 => "once".to_owned(),
                    n => format!("{n} times"),
                };
                let paused = match failure.paused_ms {
                    0 => String::new(),
                    ms => format!(", paused {}", text::span(ms.next_multiple_of(1_000))),
                };
                format!("{} ({times}{paused})", words::class(failure.class))
            })
            .collect();
        each.join(", ")
    }

    fn session_words(&self) -> String {
        let mut words = self.totals.sessions.to_string();
        let models = self.models();
        if !models.is_empty() {
            words.push_str(&format!(" on {}", models.join(", ")));
        }
        let nudges: u32 = self.cycles.iter().map(|c| c.nudges).sum();
        if nudges > 0 {
            let times = text::count(nudges.into(), "time", "times");
            words.push_str(&format!("; told to go on {times}"));
        }
        words
    }

    /// What the percentages are of: `200k tokens from the CLI`
    fn window_words(&self) -> Option<String> {
        let mut windows: Vec<String> = Vec::new();
        for (tokens, source) in
            self.cycles.iter().filter_map(|c| Some((c.window_tokens?, c.window_source?)))
        {
            let origin = match source {
                WindowSource::Guess => "by a guess",
                source => words::window_source(source),
            };
            let words = format!("{} tokens {origin}", text::tokens(tokens));
            if !windows.contains(&words) {
                windows.push(words);
            }
        }
        (!windows.is_empty()).then(|| windows.join(", "))
    }

    fn models(&self) -> Vec<&str> {
        let mut models: Vec<&str> = Vec::new();
        for model in self.cycles.iter().filter_map(|c| c.model.as_deref()) {
            if !models.contains(&model) {
                models.push(model);
            }
        }
        models
    }

    fn cost_words(&self) -> String {
        let mut words = format!(
            "{}{}",
            text::usd(self.totals.cost_usd.0),
            words::cost_origin(self.totals.cost_source)
        );
        let apart: Vec<&CycleReport> = self.cycles.iter().filter(|c| c.gap_usd() != 0.0).collect();
        let gap: f64 = apart.iter().map(|c| c.gap_usd()).sum();
        if !apart.is_empty() {
            let numbers: Vec<String> = apart.iter().map(|c| c.cycle.to_string()).collect();
            let more_or_less = if gap < 0.0 { "more" } else { "less" };
            let noun = if apart.len() == 1 { "cycle" } else { "cycles" };
            words.push_str(&format!(
                "; our own count from the transcripts of {noun} {} is {} {more_or_less}",
                numbers.join(", "),
                text::usd(gap.abs())
            ));
        }
        let (guessed, left_out) = self.unpriced_tokens();
        if guessed > 0 {
            words.push_str(&format!(
                "; the CLI's count has a guess of its own in it for {} tokens of models without a known \
                 list price",
                text::grouped(guessed)
            ));
        }
        if left_out > 0 {
            words.push_str(&format!("; {} tokens have no known price", text::grouped(left_out)));
        }
        words
    }

    fn table(&self, page: &mut Page, zone: &TimeZone) {
        const HEAD: [(&str, Side); 9] = [
            ("#", Side::Right),
            ("began", Side::Left),
            ("took", Side::Right),
            ("ended because", Side::Left),
            ("peak context", Side::Right),
            ("tasks", Side::Right),
            ("tokens", Side::Right),
            ("cost", Side::Right),
            ("checkpoint", Side::Left),
        ];
        let rows: Vec<[String; 9]> = self.cycles.iter().map(|c| self.row(c, zone)).collect();
        let widths: [usize; 9] = std::array::from_fn(|i| {
            let cells = rows.iter().map(|r| text::width(&r[i])).max().unwrap_or(0);
            cells.max(text::width(HEAD[i].0))
        });
        let mut put = |cells: [&str; 9]| {
            let cells: Vec<String> = std::iter::zip(cells, std::iter::zip(widths, HEAD))
                .map(|(cell, (width, (_, side)))| text::pad(cell, width, side))
                .collect();
            page.line(cells.join("  ").trim_end());
        };
        put(HEAD.map(|(name, _)| name));
        for row in &rows {
            put(std::array::from_fn(|i| row[i].as_str()));
        }
        let is_computed = |c: &CycleReport| c.cost_source == Some(CostSource::Transcript);
        if self.cycles.iter().any(is_computed) {
            page.line("~ computed from the transcript; the CLI left no bill");
        }
        if self.cycles.iter().any(CycleReport::has_guess) {
            page.line("? with a guess of the CLI for tokens of models without a known list price");
        }
        if self.cycles.iter().any(|c| is_computed(c) && c.unpriced_tokens > 0) {
            page.line("+ and tokens of models without a known price on top");
        }
    }

    fn row(&self, c: &CycleReport, zone: &TimeZone) -> [String; 9] {
        let took = match c.ended_at {
            Some(end) => text::span(
                u64::try_from(end.unix_ms.saturating_sub(c.started_at.unix_ms)).unwrap_or(0),
            ),
            None => "-".into(),
        };
        let why = match (c.reason, &self.ended) {
            (Some(reason), _) => words::end_reason(reason),
            (None, Ended::Running) => "still runs",
            (None, Ended::Interrupted | Ended::With(_)) => "cut off",
        };
        let peak = match (c.peak_context_percent, c.window_tokens) {
            (Some(percent), Some(window)) => format!("{percent} % of {}", text::tokens(window)),
            _ => "-".into(),
        };
        let cost = match c.cost_source {
            Some(CostSource::Transcript) => {
                let more = if c.unpriced_tokens > 0 { "+" } else { "" };
                format!("~{}{more}", text::usd(c.cost_usd.0))
            }
            Some(CostSource::CostState | CostSource::Statusline) => {
                let guess = if c.has_guess() { "?" } else { "" };
                format!("{}{guess}", text::usd(c.cost_usd.0))
            }
            None => "-".into(),
        };
        [
            c.cycle.to_string(),
            text::local(c.started_at.unix_ms, zone, "%H:%M"),
            took,
            why.to_owned(),
            peak,
            format!("{}>{}", c.tasks_done_before, c.tasks_done_after),
            text::tokens(c.usage.total()),
            cost,
            words::checkpoint(&c.checkpoint.status).to_owned(),
        ]
    }

    fn places(&self, page: &mut Page) {
        page.fact("run", &self.run_id);
        let places = [
            ("journal", &self.places.journal),
            ("checkpoints", &self.places.checkpoints),
            ("transcripts", &self.places.transcripts),
        ];
        for (name, place) in places {
            if let Some(place) = place {
                page.path(name, place);
            }
        }
        for c in &self.cycles {
            page.path(&format!("session {}", c.cycle), &c.session_id);
        }
        // The work tree as the newest cycles found it.
        for (c, git_ref) in self.trees() {
            let commit = c.git_commit.as_deref().unwrap_or_default();
            let short: String = commit.chars().take(SHORT_ID).collect();
            page.path(&format!("files {}", c.cycle), format!("{git_ref} {short}").trim_end());
        }
        if let Some((_, git_ref)) = self.trees().last() {
            page.path("had back by", &worktree::restore_command(git_ref));
        }
        let (name, command) = match &self.ended {
            Ended::With(Outcome::Done) => return,
            Ended::Running => ("watch", "longhaul status"),
            Ended::Interrupted
            | Ended::With(
                Outcome::NeedsPerson { .. }
                | Outcome::Budget { .. }
                | Outcome::NoProgress
                | Outcome::Authentication { .. }
                | Outcome::LimitPast { .. }
                | Outcome::Disk { .. }
                | Outcome::Stopped { .. },
            ) => ("go on", "longhaul run"),
        };
        page.path(name, &format!("{command} --project {}", quoted(&self.project)));
    }
}

impl CycleReport {
    /// The CLI's bill less our own count, if they differ by more than rounding.
    fn gap_usd(&self) -> f64 {
        let is_final = self.cost_source == Some(CostSource::CostState);
        match self.billed_cost_usd {
            Some(bill) if is_final => {
                let gap = bill.0 - self.computed_cost_usd.0;
                if gap.abs() > GAP_USD { gap } else { 0.0 }
            }
            _ => 0.0,
        }
    }
}

/// `for the five-hour limit from 03:12 until 05:00`
fn wait_words(wait: &Wait, zone: &TimeZone) -> String {
    let time = |unix_ms| text::local(unix_ms, zone, "%a %H:%M");
    let end = match wait.ended_at {
        Some(at) => format!("until {}", time(at.unix_ms)),
        None => format!("and waits until {}", time(wait.until.unix_ms)),
    };
    format!("for {} from {} {end}", words::limit(&wait.reason), time(wait.at.unix_ms))
}

fn signal_name(number: i32) -> String {
    match number {
        1 => "SIGHUP".into(),
        2 => "SIGINT".into(),
        15 => "SIGTERM or `longhaul stop`".into(),
        other => format!("signal {other}"),
    }
}

/// The path as a shell takes it.
fn quoted(path: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%:,".contains(c);
    if !path.is_empty() && path.chars().all(is_plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

/// A text under construction; everything put on it is made safe.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn blank(&mut self) {
        self.text.push('\n');
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(&text::safe(line));
        self.text.push('\n');
    }

    fn paragraph(&mut self, words: &str) {
        self.wrapped(words, 0);
    }

    fn fact(&mut self, name: &str, words: &str) {
        self.wrapped(&format!("{name:<LABEL$}{words}"), LABEL);
    }

    /// On one line whatever its width, so that it can be copied.
    fn path(&mut self, name: &str, path: &str) {
        self.line(&format!("{name:<w$} {path}", w = LABEL - 1));
    }

    fn item(&mut self, words: &str) {
        self.wrapped(&format!("- {words}"), 2);
    }

    fn wrapped(&mut self, words: &str, indent: usize) {
        let words = text::safe(words);
        for line in text::wrap(&text::clip(&words, LONGEST), COLUMNS, indent) {
            self.line(&line);
        }
    }
}
