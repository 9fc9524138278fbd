//! The summary of a day, made of its task logs. Pure.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::models::RATIO;
use super::record::TaskLog;
use super::sums::{self, Sum, name_of, ranked};
use crate::text;

/// Tasks among the most expensive.
const TOP_TASKS: usize = 5;
/// Rows of the table; the rest is one row.
const MAX_ROWS: usize = 200;
/// Lines of anomalies, and of candidates.
const MAX_LINES: usize = 10;
const DESCRIPTION_COLUMNS: usize = 120;

/// The logs of a day.
#[derive(Debug, Clone, Default)]
pub struct Day {
    /// Those that could be read.
    pub logs: Vec<TaskLog>,
    /// The names of those that could not.
    pub unreadable: Vec<String>,
}

/// What was used by day and task, for a sentence.
#[derive(Debug, Clone, Copy)]
pub(super) struct DayTotal {
    pub(super) tasks: u64,
    pub(super) sum: Sum,
}

/// The logs of one task.
pub(super) struct Task<'a> {
    pub(super) sum: Sum,
    pub(super) logs: Vec<&'a TaskLog>,
}

impl Day {
    /// All of it.
    pub(super) fn total(&self) -> DayTotal {
        let mut sum = Sum::default();
        self.logs.iter().for_each(|log| sum.merge(&Sum::of(log)));
        DayTotal { tasks: tasks_of(&self.logs).len() as u64, sum }
    }

    /// The summary as its file holds it.
    pub fn render(&self, day: Date) -> String {
        let tasks = tasks_of(&self.logs);
        let mut out = format!("# Token Usage: {day}\n\n## Totals\n\n{}", self.table());
        out.push_str("\n## Top Expensive Tasks\n\n");
        let top: Vec<String> = ranked(tasks.iter().map(|(id, task)| (id.clone(), task.sum)))
            .into_iter()
            .take(TOP_TASKS)
            .enumerate()
            .map(|(at, (id, sum))| {
                let described = tasks.get(&id).map_or_else(String::new, Task::description);
                format!(
                    "{}. **{}**: {described} {} tokens, {}.\n",
                    at + 1,
                    sums::plain(&id),
                    sum.total.plain(),
                    sum.cost.said()
                )
            })
            .collect();
        out.push_str(&top.concat());
        if top.is_empty() {
            out.push_str("None.\n");
        }
        out.push_str("\n## Anomalies\n\n");
        out.push_str(&bullets(self.anomalies(&tasks)));
        out.push_str("\n## Optimization Candidates\n\n");
        out.push_str(&bullets(candidates(&tasks)));
        out
    }

    fn table(&self) -> String {
        let mut out = String::from(
            "| Agent | Model | Input | Output | Total | Cost |\n\
             |-------|-------|-------|--------|-------|------|\n",
        );
        let mut rows: BTreeMap<(String, String), Sum> = BTreeMap::new();
        let mut agents: BTreeMap<String, Sum> = BTreeMap::new();
        for entry in self.logs.iter().flat_map(|log| log.entries.iter().flatten()) {
            let key = (name_of(entry.agent.as_ref()), name_of(entry.model.as_ref()));
            agents.entry(key.0.clone()).or_default().add(entry);
            rows.entry(key).or_default().add(entry);
        }
        let places: BTreeMap<String, usize> =
            ranked(agents).into_iter().enumerate().map(|(at, (name, _))| (name, at)).collect();
        let mut list = ranked(rows);
        list.sort_by_key(|((agent, _), _)| places.get(agent).copied());
        let rest = list.split_off(list.len().min(MAX_ROWS));
        for ((agent, model), sum) in &list {
            out.push_str(&row(&sums::plain(agent), &sums::plain(model), sum));
        }
        if !rest.is_empty() {
            let mut sum = Sum::default();
            rest.iter().for_each(|(_, part)| sum.merge(part));
            out.push_str(&row(&format!("{} more", rest.len()), "", &sum));
        }
        out
    }

    /// What is unusual about a log of this day. The words do not change when others come.
    pub(super) fn anomalies_of(&self, log: &TaskLog) -> Vec<String> {
        let Sum { input, output, total, .. } = Sum::of(log);
        let mut found = Vec::new();
        if total.tokens <= HEAVY_TOKENS {
            return found;
        }
        let others = self.logs.iter().filter(|other| other.task_id != log.task_id);
        let others: Vec<u64> = others.map(|other| Sum::of(other).total.tokens).collect();
        let sum = others.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
        let mean = sum.checked_div(others.len() as u64).unwrap_or(0);
        if others.len() >= 2 && total.tokens / 5 > mean {
            found.push(format!(
                "{} tokens, more than five times the average of the other logs so far",
                total.plain()
            ));
        }
        if output.is_known && super::models::is_over_ratio(input.tokens, output.tokens) {
            found.push(format!(
                "{} tokens were sent for {} of output, more than {RATIO} to 1",
                input.plain(),
                output.plain()
            ));
        }
        found
    }

    fn anomalies(&self, tasks: &BTreeMap<String, Task<'_>>) -> Vec<String> {
        let mut found = Vec::new();
        let known: Vec<u64> = tasks.values().map(|task| task.sum.total.tokens).collect();
        for (id, task) in tasks {
            let id = sums::plain(id);
            let Sum { input, output, total, .. } = task.sum;
            let others = known.len() as u64 - 1;
            let rest = known.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
            let mean = rest.saturating_sub(total.tokens).checked_div(others).unwrap_or(0);
            if others >= 2 && total.tokens > HEAVY_TOKENS && total.tokens / 5 > mean {
                found.push(format!(
                    "{id} used {} tokens; the other {others} tasks of the day {} on average.",
                    total.plain(),
                    mean
                ));
            }
            if total.tokens > HEAVY_TOKENS
                && output.is_known
                && super::models::is_over_ratio(input.tokens, output.tokens)
            {
                found.push(format!(
                    "{id} sent {} tokens for {} of output, more than {RATIO} to 1.",
                    input.plain(),
                    output.plain()
                ));
            }
        }
        let partial = |task: &&Task<'_>| task.sum.total.is_partial || task.sum.cost.is_partial;
        let partial = tasks.values().filter(partial).count() as u64;
        if partial > 0 {
            found.push(format!(
                "{} without all tokens or costs: sums with \"+?\" are not all.",
                text::count(partial, "task is", "tasks are")
            ));
        }
        for name in &self.unreadable {
            found.push(format!(
                "tasks/{} is no task log that can be read, and is not counted.",
                sums::plain(name)
            ));
        }
        found
    }
}

/// Fewer tokens than these are not worth a line.
pub(super) const HEAVY_TOKENS: u64 = 10_000;
/// Light work of fewer tokens is not worth a line either.
const WORTH_TOKENS: u64 = 1_000;

impl Task<'_> {
    /// What it was about, as a sentence.
    fn description(&self) -> String {
        let said = self.logs.iter().find_map(|log| log.user_request_summary.as_deref());
        let said = said.map(|said| sums::clipped(said, DESCRIPTION_COLUMNS));
        let said = said.filter(|said| !said.is_empty());
        let said = said.unwrap_or_else(|| "No description.".into());
        if said.ends_with(['.', '!', '?', '…', ':']) { said } else { format!("{said}.") }
    }

    /// Different agents.
    pub(super) fn agents(&self) -> usize {
        let entries = self.logs.iter().flat_map(|log| log.entries.iter().flatten());
        let names: std::collections::BTreeSet<_> = entries.map(|entry| &entry.agent).collect();
        names.len()
    }
}

/// The logs by task; those without an id are one.
pub(super) fn tasks_of<'a>(
    logs: impl IntoIterator<Item = &'a TaskLog>,
) -> BTreeMap<String, Task<'a>> {
    let mut tasks: BTreeMap<String, Task<'_>> = BTreeMap::new();
    for log in logs {
        let task = tasks.entry(name_of(log.task_id.as_ref()));
        let task = task.or_insert_with(|| Task { sum: Sum::default(), logs: Vec::new() });
        task.sum.merge(&Sum::of(log));
        task.logs.push(log);
    }
    tasks
}

fn row(agent: &str, model: &str, sum: &Sum) -> String {
    let Sum { input, output, total, cost } = sum;
    format!(
        "| {agent} | {model} | {} | {} | {} | {} |\n",
        input.plain(),
        output.plain(),
        total.plain(),
        cost.said()
    )
}

fn bullets(lines: Vec<String>) -> String {
    if lines.is_empty() {
        return "- None detected.\n".into();
    }
    let more = lines.len().saturating_sub(MAX_LINES);
    let mut out: String = lines.iter().take(MAX_LINES).map(|line| format!("- {line}\n")).collect();
    if more > 0 {
        out.push_str(&format!("- {more} more.\n"));
    }
    out
}

/// Light work of a dear model, and many agents on a small task.
fn candidates(tasks: &BTreeMap<String, Task<'_>>) -> Vec<String> {
    let mut found = Vec::new();
    for (id, task) in tasks {
        let id = sums::plain(id);
        let entries = task.logs.iter().flat_map(|log| log.entries.iter().flatten());
        let mut light: BTreeMap<(&str, &'static str), Sum> = BTreeMap::new();
        for entry in entries {
            if let Some(model) = entry.model.as_deref()
                && let Some(cheaper) = super::models::cheaper_for_light_work(entry)
            {
                light.entry((model, cheaper)).or_default().add(entry);
            }
        }
        let light = light.into_iter().filter(|(_, sum)| sum.total.tokens >= WORTH_TOKENS);
        for ((model, cheaper), sum) in light {
            found.push(format!(
                "Consider using {cheaper} for light work in {id}: {} tokens of {} with {} of \
                 output, {}.",
                sum.total.plain(),
                sums::plain(model),
                sum.output.plain(),
                sum.cost.said()
            ));
        }
        if let Some(agents) = super::models::fan_out(task) {
            found.push(format!(
                "Consider fewer agents for {id}: {agents} of them for {} tokens.",
                task.sum.total.plain()
            ));
        }
    }
    found
}
