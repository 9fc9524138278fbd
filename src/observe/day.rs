//! A day: its executions, what was odd, what would cost less.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::anomaly::{self, Anomaly};
use super::execution::{Execution, Used, told_usd};
use super::gather::{Sources, Span, day_span};
use super::journals::{self, RunTold};
use super::reading::{self, Notes, Threads};
use super::thread::Thread;
use crate::advice::agents::AgentFiles;
use crate::advice::{self, Advice};
use crate::config::{Config, InputKind};
use crate::error::Error;
use crate::models::Models;
use crate::queue::store::ResultFilter;
use crate::queue::{QueueError, SqliteStore, Store, Task, TaskId, TaskResult};
use crate::text::{self, Usd};
use crate::transcript::parse::Damage;

/// Results are looked at so many at a time, the newest first.
const RESULTS_PAGE: u32 = 100;

/// Where things are.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The configuration directories of Claude Code.
    pub config_dirs: Vec<PathBuf>,
    /// The state directory.
    pub state_root: PathBuf,
}

/// Sums of a day.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Executions.
    pub executions: u64,
    /// Tokens by kind.
    pub usage: Used,
    /// What counts as input of them.
    pub input: u64,
    /// Input and output.
    pub tokens: u64,
    /// Dollars at list prices; `None`: all of it is of models without one.
    pub cost_usd: Option<Usd>,
    /// Tokens of models without a price.
    pub unpriced_tokens: u64,
    /// Anomalies by kind.
    pub anomalies: BTreeMap<&'static str, u64>,
}

/// A day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Day {
    /// Which.
    pub date: String,
    /// In the days of which zone.
    pub timezone: String,
    /// What counts as input.
    pub input: InputKind,
    /// The project, if only one was asked for.
    pub project: Option<String>,
    /// By start.
    pub executions: Vec<Execution>,
    /// The gravest first.
    pub anomalies: Vec<Anomaly>,
    /// What would cost less, the most at stake first.
    pub recommendations: Vec<Advice>,
    /// Of all executions.
    pub totals: Totals,
    /// What could not be read.
    pub warnings: Vec<String>,
}

/// Observes a day, of one project or of all.
pub fn observe(
    places: &Places,
    date: Date,
    zone: &TimeZone,
    project: Option<&Path>,
    config: &Config,
    models: &Models,
) -> Day {
    let span = day_span(date, zone);
    let settings = &config.observe;
    let margin = i64::try_from(settings.duplicate_within_ms).unwrap_or(i64::MAX);
    let from_unix_ms = span.from_unix_ms.saturating_sub(margin);
    let before = Span { from_unix_ms, until_unix_ms: span.from_unix_ms };
    let watched = Watched::read(places, before.from_unix_ms, project, config, models);
    let executions = watched.executions(span, settings.input);
    let earlier = watched.executions(before, settings.input);
    let anomalies = anomaly::find(&executions, &earlier, settings);
    let threads = watched.threads();
    let agents = AgentFiles::of(threads, &places.config_dirs);
    let advised = advice::of_threads(threads, &executions, &agents, span, settings, models);
    Day {
        date: date.to_string(),
        timezone: zone_name(zone),
        input: settings.input,
        project: project.map(|project| project.display().to_string()),
        totals: totals(&executions, &anomalies),
        executions,
        anomalies,
        recommendations: advised.advice,
        warnings: watched.warnings,
    }
}

/// All that was heard of since a time.
pub(crate) struct Watched {
    runs: Vec<RunTold>,
    threads: Threads,
    tasks: HashMap<String, Task>,
    results: Vec<TaskResult>,
    warnings: Vec<String>,
}

impl Watched {
    /// Reads journals, transcripts and the queue; what cannot be read is a warning.
    pub(crate) fn read(
        places: &Places,
        since_unix_ms: i64,
        project: Option<&Path>,
        config: &Config,
        models: &Models,
    ) -> Self {
        let notes = notes(config);
        let threads = reading::threads(&places.config_dirs, since_unix_ms, project, &notes, models);
        let (mut runs, mut warnings) = journals::runs(&places.state_root, since_unix_ms);
        runs.retain(|run| project.is_none_or(|project| run.project.starts_with(project)));
        let (tasks, results) =
            queue(&places.state_root, project, since_unix_ms, &runs, &mut warnings);
        warnings.extend(damage_words(&threads.damage));
        Self { runs, threads, tasks, results, warnings }
    }

    /// The executions of a time, by start.
    pub(crate) fn executions(&self, span: Span, input: InputKind) -> Vec<Execution> {
        let Self { runs, threads, tasks, results, .. } = self;
        Sources { runs, threads: &threads.list, tasks, results }.executions(span, input)
    }

    /// The transcripts.
    pub(crate) fn threads(&self) -> &[Thread] {
        &self.threads.list
    }
}

fn damage_words(damage: &Damage) -> Vec<String> {
    let mut found = Vec::new();
    if damage.unreadable_files > 0 {
        let files = text::count(damage.unreadable_files, "transcript", "transcripts");
        found.push(format!("{files} could not be read"));
    }
    if damage.bad_rows > 0 {
        let rows = text::count(damage.bad_rows, "piece", "pieces");
        found.push(format!("{rows} of transcripts could not be read; no sum has them"));
    }
    found
}

/// Files that are kept for the next session, and the records of usage: no work.
fn notes(config: &Config) -> Notes {
    let handoff = PathBuf::from("dev-docs/handoff.md");
    let files = config.checkpoint.files.iter().cloned();
    Notes::new(files.chain([config.task.file.clone(), handoff]))
        .and_below(config.track.folder.clone())
}

fn zone_name(zone: &TimeZone) -> String {
    let offset = || zone.to_fixed_offset().map_or_else(|_| "local".into(), |at| at.to_string());
    zone.iana_name().map_or_else(offset, str::to_owned)
}

/// The tasks that the runs had in hand, and the newest results.
fn queue(
    state_root: &Path,
    project: Option<&Path>,
    since_unix_ms: i64,
    runs: &[RunTold],
    warnings: &mut Vec<String>,
) -> (HashMap<String, Task>, Vec<TaskResult>) {
    let mut tasks = HashMap::new();
    let mut store = match SqliteStore::open_existing(state_root) {
        Ok(Some(store)) => store,
        Ok(None) => return (tasks, Vec::new()),
        Err(err) => {
            warnings.push(format!("the task queue is left out: {err}"));
            return (tasks, Vec::new());
        }
    };
    let mut results = results_since(&mut store, since_unix_ms).unwrap_or_else(|err| {
        warnings.push(format!("the results of the task queue are left out: {}", Error::from(err)));
        Vec::new()
    });
    results.retain(|result| project.is_none_or(|project| result.project.starts_with(project)));
    let of_runs = runs.iter().flat_map(|run| &run.tasks).map(|task| task.given.task_id.clone());
    let of_results = results.iter().map(|result| result.task_id.as_str().to_owned());
    for id in of_runs.chain(of_results) {
        if tasks.contains_key(&id) {
            continue;
        }
        let Ok(known) = TaskId::parse(&id) else { continue };
        if let Ok(Some(task)) = store.task(&known) {
            tasks.insert(id, task);
        }
    }
    (tasks, results)
}

/// Results that ended since then. What they hold beside figures is dropped: it can be much.
fn results_since(
    store: &mut SqliteStore,
    since_unix_ms: i64,
) -> Result<Vec<TaskResult>, QueueError> {
    let mut found = Vec::new();
    let mut filter = ResultFilter { limit: RESULTS_PAGE, ..ResultFilter::default() };
    loop {
        let page = store.results(&filter)?;
        let count = page.len();
        let mut is_through = count < RESULTS_PAGE as usize;
        for mut result in page {
            let ended = result.ended_at.as_ref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
            if ended.is_some_and(|at| at.as_millisecond() < since_unix_ms) {
                is_through = true;
                continue;
            }
            (result.actions_taken, result.output) = (Vec::new(), String::new());
            found.push(result);
        }
        if is_through {
            return Ok(found);
        }
        filter.offset += RESULTS_PAGE;
    }
}

fn totals(executions: &[Execution], anomalies: &[Anomaly]) -> Totals {
    let mut totals = Totals { executions: executions.len() as u64, ..Totals::default() };
    let mut usd = 0.0;
    for execution in executions {
        totals.usage.add(&execution.usage);
        totals.input = totals.input.saturating_add(execution.input);
        totals.tokens = totals.tokens.saturating_add(execution.tokens);
        usd += execution.cost_usd.map_or(0.0, |usd| usd.0);
        totals.unpriced_tokens = totals.unpriced_tokens.saturating_add(execution.unpriced_tokens);
    }
    totals.cost_usd = told_usd(usd, totals.unpriced_tokens);
    for kind in anomaly::AnomalyKind::ALL {
        totals.anomalies.insert(kind.as_str(), 0);
    }
    for anomaly in anomalies {
        *totals.anomalies.entry(anomaly.kind.as_str()).or_default() += 1;
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_and_the_records_of_usage_are_no_work() {
        let mut config = Config::defaults();
        let told = notes(&config);
        for path in ["token-usage/usage-2026-11-21.md", "./token-usage/tasks/a.json"] {
            assert!(told.has(path) && told.has(&format!("/home/x/p/{path}")), "{path}");
        }
        assert!(told.has("/home/x/p/dev-docs/handoff.md"));
        for path in ["src/token-usage.rs", "my-token-usage/a.rs", "/p/src/lib.rs", "token-usage"] {
            assert!(!told.has(path), "{path}");
        }
        config.track.folder = None;
        assert!(!notes(&config).has("token-usage/usage-2026-11-21.md"));
    }
}
