//! The morning report: one run, as the machine decided it. Pure; the caller
//! says where things lie and whether a run without an end is still alive.

pub mod budgets;
mod human;
#[cfg(test)]
pub(crate) mod staged;
pub mod standstill;
pub mod status;
mod tasks;
pub mod words;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use tasks::{QueueReport, TaskReport};

use crate::clock;
use crate::cycle::event::Exit;
use crate::cycle::failure::Class;
use crate::cycle::pressure::{Pressure, WindowSource};
use crate::cycle::record::{
    CheckpointStatus, CostSource, CycleRecord, FailureCount, Tokens, WaitRecord,
};
use crate::cycle::{EndReason, Outcome, Snapshot};
use crate::text::{self, Usd};

/// What the machine cannot know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The project's folder.
    pub project: String,
    /// Does the run's process live? Matters only for a run without an end.
    pub is_running: bool,
    /// The journal's path, if it is to be told.
    pub journal: Option<String>,
    /// The folder below which the checkpoint copies lie.
    pub checkpoints: Option<String>,
    /// The folder of the CLI's transcripts of this project.
    pub transcripts: Option<String>,
    /// Anything else the caller found worth a person's attention.
    pub warnings: Vec<String>,
}

/// A wait for a usage limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// Which limit: `five_hour`, `seven_day`, `usage_limit` …
    pub reason: String,
    /// When it began.
    pub at: Moment,
    /// Until when it was to last.
    pub until: Moment,
    /// When it was over; null while it lasts.
    pub ended_at: Option<Moment>,
}

/// Failures of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Which; `dev-docs/FAILURES.md` lists them.
    pub class: Class,
    /// How many.
    pub count: u32,
    /// Pauses after them, milliseconds.
    pub paused_ms: u64,
}

/// What a person was needed for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// What.
    pub reason: String,
    /// What the session's terminal showed.
    pub screen: String,
}

impl Wait {
    fn of(wait: &WaitRecord) -> Self {
        Self {
            reason: wait.reason.clone(),
            at: wait.since.into(),
            until: Moment { unix_ms: wait.until_unix_ms },
            ended_at: wait.ended.map(Moment::from),
        }
    }
}

/// A moment, written as RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&clock::rfc3339(self.unix_ms))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = String::deserialize(deserializer)?;
        let at: jiff::Timestamp = written.parse().map_err(serde::de::Error::custom)?;
        Ok(Self { unix_ms: at.as_millisecond() })
    }
}

impl From<clock::Timestamp> for Moment {
    fn from(at: clock::Timestamp) -> Self {
        Self { unix_ms: at.unix_ms }
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The run's id.
    pub run_id: String,
    /// The project's folder.
    pub project: String,
    /// `done`, `needs_person`, `budget`, `no_progress`, `authentication`, `limit`,
    /// `disk`, `stopped`; `running` or `interrupted` for a run without an end.
    pub outcome: &'static str,
    /// The documented exit code, once the run has ended.
    pub exit_code: Option<u8>,
    /// One sentence on how it ended or what goes on.
    pub message: String,
    /// When it began.
    pub started_at: Moment,
    /// When it ended.
    pub ended_at: Option<Moment>,
    /// Milliseconds it was supervised.
    pub elapsed_ms: u64,
    /// Boxes ticked when it began, if the task file could be read.
    pub tasks_done_before: Option<u32>,
    /// Boxes ticked at last.
    pub tasks_done_after: u32,
    /// All boxes at last.
    pub tasks_total: u32,
    /// Did a verify command have to agree for done?
    pub verify: bool,
    /// Sums over all cycles.
    pub totals: Totals,
    /// What it did for the queue; null for a run of the task file.
    pub queue: Option<QueueReport>,
    /// Every cycle, the first first.
    pub cycles: Vec<CycleReport>,
    /// What the run waited for.
    pub waits: Vec<Wait>,
    /// What failed, and how often.
    pub failures: Vec<Failure>,
    /// Processes of sessions that could not be ended, of all cycles.
    pub survivors: u32,
    /// What a person was needed for, if one was.
    pub needs_person: Option<Asked>,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// Where everything lies.
    pub places: Places,
    /// Reports of sessions that were already gone (ignored).
    pub stale_reports: u64,
    #[serde(skip)]
    ended: Ended,
}

/// The end in the form the human text decides by.
#[derive(Debug, Clone, PartialEq)]
enum Ended {
    Running,
    Interrupted,
    With(Outcome),
}

/// Where everything lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Places {
    /// The journal.
    pub journal: Option<String>,
    /// The checkpoint copies.
    pub checkpoints: Option<String>,
    /// The CLI's transcripts.
    pub transcripts: Option<String>,
}

/// Sums over all cycles.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Totals {
    /// Sessions started.
    pub sessions: u32,
    /// Tokens by kind.
    pub usage: Tokens,
    /// All kinds together.
    pub tokens: u64,
    /// Dollars, each cycle by its best source.
    pub cost_usd: Usd,
    /// Who stated them; null when nothing was spent.
    pub cost_source: Option<status::CostOrigin>,
    /// Dollars by the CLI's own word, of the cycles that have one.
    pub billed_cost_usd: Option<Usd>,
    /// Dollars computed from the transcripts.
    pub computed_cost_usd: Usd,
    /// Tokens of models without a price.
    pub unpriced_tokens: u64,
    /// Responses counted.
    pub responses: u64,
}

/// One cycle: one session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CycleReport {
    /// From 1.
    pub cycle: u32,
    /// The session's id.
    pub session_id: String,
    /// When it was launched.
    pub started_at: Moment,
    /// When it was gone.
    pub ended_at: Option<Moment>,
    /// Why.
    pub end_reason: Option<&'static str>,
    /// The code a shell would show, if known.
    pub exit: Option<i32>,
    /// Its model, if it ever answered.
    pub model: Option<String>,
    /// Highest context reading; null if there was none.
    pub peak_context_tokens: Option<u64>,
    /// The window it is measured against.
    pub window_tokens: Option<u64>,
    /// Who stated the window.
    pub window_source: Option<WindowSource>,
    /// Whole percent, rounded as the CLI rounds it.
    pub peak_context_percent: Option<u64>,
    /// Tokens by kind.
    pub usage: Tokens,
    /// Dollars by the best source.
    pub cost_usd: Usd,
    /// Which source that is; null when nothing was spent.
    pub cost_source: Option<CostSource>,
    /// Dollars by the CLI's own word.
    pub billed_cost_usd: Option<Usd>,
    /// Dollars computed from the transcripts.
    pub computed_cost_usd: Usd,
    /// Tokens of models without a price.
    pub unpriced_tokens: u64,
    /// Responses counted.
    pub responses: u64,
    /// Transcript rows that could not be read.
    pub bad_rows: u64,
    /// Boxes ticked when it began.
    pub tasks_done_before: u32,
    /// Boxes ticked when it ended.
    pub tasks_done_after: u32,
    /// All boxes when it ended.
    pub tasks_total: u32,
    /// The hand-over.
    pub checkpoint: CheckpointReport,
    /// Prompts to go on.
    pub nudges: u32,
    /// Compactions by the CLI.
    pub compactions: u32,
    /// Did it leave any work?
    pub progress: bool,
    /// Processes ended with it.
    pub killed: u32,
    /// Processes that outlived it.
    pub survivors: u32,
    /// The git ref that holds the work tree as the cycle found it.
    pub git_ref: Option<String>,
    /// The commit that it names.
    pub git_commit: Option<String>,
    #[serde(skip)]
    reason: Option<EndReason>,
}

/// The hand-over of a cycle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckpointReport {
    /// `none`, `requested`, `verified`, `handoff` or `failed`.
    pub status: CheckpointStatus,
    /// Files that changed after the request.
    pub files: Vec<String>,
    /// Where the copy lies.
    pub folder: Option<String>,
    /// What went wrong, if anything.
    pub trouble: Option<String>,
}

impl Report {
    /// The report on the run behind `view`.
    pub fn of(view: &Snapshot<'_>, around: Surroundings) -> Self {
        let ended = match view.outcome() {
            Some(outcome) => Ended::With(outcome.clone()),
            None if around.is_running => Ended::Running,
            None => Ended::Interrupted,
        };
        let cycles: Vec<CycleReport> = view.cycles().map(CycleReport::of).collect();
        let tasks = view.tasks();
        let totals = Totals::of(view);
        let mut report = Self {
            run_id: view.run_id().to_string(),
            project: around.project,
            outcome: match &ended {
                Ended::Running => "running",
                Ended::Interrupted => "interrupted",
                Ended::With(outcome) => outcome.as_str(),
            },
            exit_code: view.outcome().map(Outcome::exit_code),
            message: match &ended {
                Ended::Running => view.explain(),
                Ended::Interrupted => "longhaul was killed, or the machine went down, \
                                       before the run could end"
                    .into(),
                Ended::With(outcome) => outcome.sentence(),
            },
            started_at: view.started_at().into(),
            ended_at: view.outcome().and(view.ended_at()).map(Moment::from),
            elapsed_ms: view.elapsed_ms_at(view.last_event_at()),
            tasks_done_before: tasks.done_at_start,
            tasks_done_after: tasks.done,
            tasks_total: tasks.total,
            verify: view.params().verify
                || view.assignments().iter().any(|task| task.given.verify.is_some()),
            totals,
            queue: view
                .params()
                .queue
                .then(|| QueueReport::of(view.assignments(), &view.measured(view.last_event_at()))),
            waits: view.waits().iter().map(Wait::of).collect(),
            failures: view
                .failures()
                .map(|(class, FailureCount { count, paused_ms })| Failure {
                    class,
                    count,
                    paused_ms,
                })
                .collect(),
            survivors: view.cycles().map(|c| c.survivors).fold(0, u32::saturating_add),
            needs_person: view.asked().map(|(reason, screen)| Asked {
                reason: reason.to_owned(),
                screen: screen.to_owned(),
            }),
            warnings: Vec::new(),
            cycles,
            places: Places {
                journal: around.journal,
                checkpoints: around.checkpoints,
                transcripts: around.transcripts,
            },
            stale_reports: view.stale_reports(),
            ended,
        };
        report.warnings = report.find_warnings(view);
        report.warnings.extend(around.warnings);
        report
    }

    /// One JSON document; harmless on a terminal.
    pub fn json(&self) -> String {
        text::json(self, true).unwrap_or_else(|_| "{}".into())
    }

    /// What a person should look at, the gravest first.
    fn find_warnings(&self, view: &Snapshot<'_>) -> Vec<String> {
        let mut found = Vec::new();
        for c in view.cycles().filter(|c| c.survivors > 0) {
            found.push(format!(
                "cycle {}: {} of its session or verify command could not be ended and may still run",
                c.cycle,
                text::count(c.survivors.into(), "process", "processes")
            ));
        }
        if self.ended == Ended::Interrupted && view.alive() {
            found.push(format!(
                "cycle {}: its session was alive at the interruption; the next run ends what is left of it",
                view.cycle()
            ));
        }
        found.extend(view.cycles().filter_map(handover_warning));
        for c in view.cycles() {
            found.extend(cycle_warnings(c));
        }
        found.extend(view.noted().map(|(cycle, text)| match cycle {
            0 => text.to_owned(),
            _ => format!("cycle {cycle}: {text}"),
        }));
        let (guessed, left_out) = self.unpriced_tokens();
        if guessed > 0 {
            found.push(format!(
                "{} tokens are of models without a known price; the CLI's count has a guess of its \
                 own in it for them",
                text::grouped(guessed)
            ));
        }
        if left_out > 0 {
            found.push(format!(
                "{} tokens are of models without a known price; the computed cost leaves them out",
                text::grouped(left_out)
            ));
        }
        found
    }

    /// Tokens of models without a price: those for which the CLI's bill, which is the cost,
    /// has a guess of its own in it, and those that no cost has in it.
    fn unpriced_tokens(&self) -> (u64, u64) {
        self.cycles.iter().fold((0, 0), |(guessed, left_out): (u64, u64), c| match c.has_guess() {
            true => (guessed.saturating_add(c.unpriced_tokens), left_out),
            false => (guessed, left_out.saturating_add(c.unpriced_tokens)),
        })
    }
}

fn handover_warning(c: &CycleRecord) -> Option<String> {
    let because = |trouble: &Option<String>| match trouble {
        Some(trouble) => format!(": {trouble}"),
        None => String::new(),
    };
    let trouble = because(&c.checkpoint.trouble);
    let what = match c.checkpoint.status {
        CheckpointStatus::None => return None,
        CheckpointStatus::Requested if c.ended_at.is_none() => return None,
        CheckpointStatus::Verified if c.checkpoint.trouble.is_none() => return None,
        CheckpointStatus::Verified => format!("the checkpoint is proven, but{trouble}"),
        CheckpointStatus::Requested => {
            format!("a checkpoint was asked for and not proven{trouble}")
        }
        CheckpointStatus::Handoff => {
            format!("no proven checkpoint; longhaul wrote dev-docs/handoff.md itself{trouble}")
        }
        CheckpointStatus::Failed => {
            format!("NO CHECKPOINT, and longhaul could not write its own brief either{trouble}")
        }
    };
    Some(format!("cycle {}: {what}", c.cycle))
}

fn cycle_warnings(c: &CycleRecord) -> Vec<String> {
    let mut found = Vec::new();
    if c.end_reason == Some(EndReason::DeadStart) {
        found.push("the session never answered".to_owned());
    }
    if c.end_reason == Some(EndReason::Exited) {
        let how = c.exit.map_or("exit not seen".into(), words::exit);
        found.push(format!("the CLI exited by itself ({how})"));
    }
    if c.compactions > 0 {
        let n = text::count(c.compactions.into(), "compaction", "compactions");
        found.push(format!("{n} by the CLI; what was dropped may be in no checkpoint"));
    }
    if c.spend.bad_rows > 0 {
        let n = text::count(c.spend.bad_rows, "transcript row", "transcript rows");
        found.push(format!("{n} could not be read; tokens and cost may be too low"));
    }
    if matches!(c.window, Some((_, WindowSource::Guess))) {
        found.push("nobody stated the context window; its size is a guess".into());
    }
    found.into_iter().map(|text| format!("cycle {}: {text}", c.cycle)).collect()
}

impl Totals {
    fn of(view: &Snapshot<'_>) -> Self {
        let mut usage = Tokens::default();
        let (mut computed, mut unpriced, mut responses) = (0.0, 0_u64, 0_u64);
        let mut billed = None;
        for c in view.cycles() {
            usage.add(&c.spend.tokens);
            computed += c.spend.cost_usd;
            unpriced = unpriced.saturating_add(c.spend.unpriced_tokens);
            responses = responses.saturating_add(c.spend.responses);
            if let Some(bill) = c.bill {
                *billed.get_or_insert(0.0) += bill.cost_usd;
            }
        }
        Self {
            sessions: view.cycle(),
            usage,
            tokens: usage.total(),
            cost_usd: Usd(view.cost_usd()),
            cost_source: status::cost_origin(view),
            billed_cost_usd: billed.map(Usd),
            computed_cost_usd: Usd(computed),
            unpriced_tokens: unpriced,
            responses,
        }
    }
}

impl CycleReport {
    /// Is its cost the CLI's closing bill, with a guess in it for models without a known price?
    fn has_guess(&self) -> bool {
        self.unpriced_tokens > 0 && self.cost_source == Some(CostSource::CostState)
    }

    fn of(c: &CycleRecord) -> Self {
        let peak = c.gauge.tokens.map(|_| c.gauge.peak_tokens);
        let peak_percent = peak.zip(c.window).map(|(tokens, (window, source))| {
            let pressure = Pressure { tokens, window, source };
            pressure.percent()
        });
        let (cost, source) = c.cost();
        let has_cost = c.bill.is_some() || c.spend.responses > 0 || cost > 0.0;
        Self {
            cycle: c.cycle,
            session_id: c.session_id.to_string(),
            started_at: c.started_at.into(),
            ended_at: c.ended_at.map(Moment::from),
            end_reason: c.end_reason.map(EndReason::as_str),
            exit: c.exit.and_then(Exit::shell_code),
            model: c.model.clone(),
            peak_context_tokens: peak,
            window_tokens: c.window.map(|(tokens, _)| tokens),
            window_source: c.window.map(|(_, source)| source),
            peak_context_percent: peak_percent,
            usage: c.spend.tokens,
            cost_usd: Usd(cost),
            cost_source: has_cost.then_some(source),
            billed_cost_usd: c.bill.map(|b| Usd(b.cost_usd)),
            computed_cost_usd: Usd(c.spend.cost_usd),
            unpriced_tokens: c.spend.unpriced_tokens,
            responses: c.spend.responses,
            bad_rows: c.spend.bad_rows,
            tasks_done_before: c.tasks_done_before,
            tasks_done_after: c.tasks_done_after,
            tasks_total: c.tasks_total,
            checkpoint: CheckpointReport {
                status: c.checkpoint.status.clone(),
                files: c.checkpoint.files.clone(),
                folder: c.checkpoint.folder.clone(),
                trouble: c.checkpoint.trouble.clone(),
            },
            nudges: c.nudges,
            compactions: c.compactions,
            progress: c.progress,
            killed: c.killed,
            survivors: c.survivors,
            git_ref: c.git_ref.clone(),
            git_commit: c.git_commit.clone(),
            reason: c.end_reason,
        }
    }
}

#[cfg(test)]
mod tests;
