//! The review of a period: what was used, what stands out, what would cost less, and
//! whether what the last review advised paid. Pure.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::daily::{Day, tasks_of};
use super::findings;
use super::paid;
use super::sums::{self, Sum, name_of, ranked};
use crate::advice::{Advice, Advised, Basis, Measure, Topic};
use crate::models::Models;
use crate::text;

/// Agents that are named.
const TOP_AGENTS: usize = 5;
const TOP_MODELS: usize = 5;
const TOP_TASKS: usize = 5;
/// Pieces of evidence with a finding.
const MAX_EVIDENCE: usize = 3;
const EVIDENCE_COLUMNS: usize = 120;
/// Recommendations in a review: the most at stake.
const MAX_ADVICE: usize = 20;

/// Said below more than one recommendation.
const OVERLAP: &str = "
They overlap: the same tokens can stand in several of them, so what is at stake is not their sum.
";

/// The days of a review.
#[derive(Debug, Clone, Copy)]
pub struct Period {
    /// The first.
    pub since: Date,
    /// The last.
    pub until: Date,
    /// How many.
    pub days: u32,
}

/// A review.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// As its file holds it.
    pub markdown: String,
    /// What would cost less, the most at stake first.
    pub advice: Vec<Advice>,
    /// For the next review.
    pub figures: Figures,
}

/// What a review keeps for the next one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Days that it looked back.
    pub days: u32,
    /// All figures that a recommendation is to lower.
    pub measures: Vec<Measure>,
    /// What was advised.
    pub advice: Vec<Advice>,
    /// What earlier reviews advised, and of which nothing was measured since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unjudged: Vec<Earlier>,
    /// What this review compared with: when it is made again on its day, it compares with
    /// the same.
    #[serde(default)]
    pub compared_with: Option<Box<Last>>,
}

/// An earlier review.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Last {
    /// Its day, as `2025-11-28`.
    pub day: String,
    /// Days that it looked back.
    pub days: u32,
    /// Its figures.
    pub measures: Vec<Measure>,
    /// What it advised.
    pub advice: Vec<Advice>,
    /// What others before it advised, and of which nothing was measured since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unjudged: Vec<Earlier>,
}

/// A recommendation that no review could judge yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Earlier {
    /// The day of the review that gave it.
    pub day: String,
    /// Days that it looked back.
    pub days: u32,
    /// The figure then.
    pub measure: Measure,
    /// What was advised.
    pub advice: Advice,
}

impl Figures {
    /// What a review on `today` compares with, where the newest review there is, of `day`,
    /// said this. One that is made again on its day compares with what it compared with
    /// before: with nothing, if it was the first.
    pub(super) fn into_last(self, day: Date, today: Date) -> Option<Last> {
        if day == today {
            return self.compared_with.map(|last| *last);
        }
        let Self { days, measures, advice, unjudged, .. } = self;
        Some(Last { day: day.to_string(), days, measures, advice, unjudged })
    }
}

/// Reviews the logs of a period. `rules` is the file of the project in which such rules
/// stand.
pub(super) fn of(
    period: Period,
    logs: &Day,
    advised: &Advised,
    last: Option<&Last>,
    rules: &str,
) -> Review {
    let own = findings::of(logs, advised, Models::in_force());
    let mut advice: Vec<Advice> = own.advised.advice.clone();
    advice.extend(advised.advice.iter().cloned());
    advice.sort_by(Advice::by_stake);
    advice.truncate(MAX_ADVICE);
    let mut measures = own.advised.measures.clone();
    for measure in &advised.measures {
        if measure.value.is_finite() && !measures.iter().any(|own| own.key == measure.key) {
            measures.push(measure.clone());
        }
    }
    let Period { since, until, days } = period;
    let mut out = format!(
        "# Usage Review: {until}\n\nPeriod: Last {}\n\n## Overview\n\n",
        text::count(u64::from(days), "day", "days")
    );
    out.push_str(&overview(logs, since, until));
    out.push_str("\n## Findings\n\n");
    let mut found = own.findings;
    found.extend(advised.advice.iter().map(finding_of));
    out.push_str(&numbered(&found));
    out.push_str("\n## Recommendations\n\n");
    out.push_str(&numbered(&advice.iter().map(recommendation).collect::<Vec<_>>()));
    if advice.len() > 1 {
        out.push_str(OVERLAP);
    }
    out.push_str("\n## Proposed Changes\n\n");
    out.push_str(&changes(&advice, rules));
    let mut unjudged = Vec::new();
    match last {
        Some(last) => {
            let now = paid::Now { measures: &measures, ..measured(logs, advised) };
            out.push_str(&format!("\n## Since the Review of {}\n\n", sums::plain(&last.day)));
            let (lines, left) = paid::compare(last, now);
            out.push_str(&lines);
            unjudged = left;
        }
        None => out.push_str(
            "\n## Since the Last Review\n\nThere is no earlier review to compare with.\n",
        ),
    }
    let figures = Figures {
        days,
        measures,
        advice: advice.clone(),
        unjudged,
        compared_with: last.cloned().map(Box::new),
    };
    Review { markdown: out, advice, figures }
}

/// What of the period could be measured: its logs, its sessions.
fn measured(logs: &Day, advised: &Advised) -> paid::Now<'static> {
    // Of these there is a figure only where there was a session, whatever it is; of others
    // also where there was none, and then it is 0.
    let is_seen = |measure: &Measure| {
        measure.value > 0.0 || matches!(measure.topic, Topic::Handoff | Topic::Batching)
    };
    paid::Now {
        measures: &[],
        has_logs: logs.total().sum.total.tokens > 0,
        has_sessions: !advised.advice.is_empty() || advised.measures.iter().any(is_seen),
    }
}

fn overview(logs: &Day, since: Date, until: Date) -> String {
    let (mut all, mut agents, mut models, mut days) =
        (Sum::default(), BTreeMap::new(), BTreeMap::new(), std::collections::BTreeSet::new());
    for log in &logs.logs {
        all.merge(&Sum::of(log));
        days.extend(log.unix_ms().map(super::names::day_of));
        for entry in log.entries.iter().flatten() {
            let sums: &mut Sum = agents.entry(name_of(entry.agent.as_ref())).or_default();
            sums.add(entry);
            let sums: &mut Sum = models.entry(name_of(entry.model.as_ref())).or_default();
            sums.add(entry);
        }
    }
    let tasks = tasks_of(&logs.logs);
    let mut out =
        format!("- Total tokens: {}\n- Total cost: {}\n", all.total.grouped(), all.cost.said());
    let shares = |sums: BTreeMap<String, Sum>, count| shares(sums, all.total.tokens, count);
    out.push_str(&format!("- Most active agents: {}\n", shares(agents, TOP_AGENTS)));
    out.push_str(&format!("- Models: {}\n", costs(models)));
    let (from, to) =
        (days.first().copied().unwrap_or(since), days.last().copied().unwrap_or(until));
    out.push_str(&format!(
        "- Recorded: {} in {}, {from} to {to}\n",
        text::count(tasks.len() as u64, "task", "tasks"),
        text::count(logs.logs.len() as u64, "log", "logs"),
    ));
    let top = ranked(tasks.iter().map(|(id, task)| (id.clone(), task.sum)));
    let top = top.iter().take(TOP_TASKS).map(|(id, sum)| {
        format!("{} ({} tokens, {})", sums::plain(id), sum.total.grouped(), sum.cost.said())
    });
    let top: Vec<String> = top.collect();
    if !top.is_empty() {
        out.push_str(&format!("- Most expensive tasks: {}\n", top.join(", ")));
    }
    if all.total.is_partial || all.cost.is_partial {
        out.push_str("- Not all was told: sums with \"+?\" are partial.\n");
    }
    out
}

/// `build-lead (60%), ui-impl (25%)`, by tokens.
fn shares(sums: BTreeMap<String, Sum>, all_tokens: u64, count: usize) -> String {
    let mut list: Vec<(String, Sum)> = sums.into_iter().collect();
    list.sort_by(|(one, a), (two, b)| b.total.tokens.cmp(&a.total.tokens).then(one.cmp(two)));
    let parts = list.iter().filter(|(_, sum)| sum.total.tokens > 0).take(count);
    let parts: Vec<String> = parts
        .map(|(name, sum)| {
            format!("{} ({})", sums::plain(name), percent(sum.total.tokens, all_tokens))
        })
        .collect();
    if parts.is_empty() { "none".into() } else { parts.join(", ") }
}

/// `opus ($12.00, 400,000 tokens), sonnet (…)`
fn costs(sums: BTreeMap<String, Sum>) -> String {
    let parts = ranked(sums).into_iter().take(TOP_MODELS).map(|(name, sum)| {
        format!("{} ({}, {} tokens)", sums::plain(&name), sum.cost.said(), sum.total.grouped())
    });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "none".into() } else { parts.join(", ") }
}

/// A share in whole percent.
pub(super) fn percent(part: u64, all: u64) -> String {
    let percent = (u128::from(part) * 100 + u128::from(all / 2)) / u128::from(all.max(1));
    let is_little = part > 0 && percent == 0;
    if is_little { "<1%".into() } else { format!("{percent}%") }
}

fn numbered(lines: &[String]) -> String {
    if lines.is_empty() {
        return "None detected.\n".into();
    }
    lines.iter().enumerate().map(|(at, line)| format!("{}. {line}\n", at + 1)).collect()
}

/// With where it can be seen.
fn finding_of(advice: &Advice) -> String {
    let shown = advice.evidence.iter().take(MAX_EVIDENCE);
    let shown: Vec<String> = shown.map(|line| sums::clipped(line, EVIDENCE_COLUMNS)).collect();
    let shown = if shown.is_empty() { String::new() } else { format!(" ({})", shown.join("; ")) };
    format!("**{}**: {}{shown}", sums::plain(&advice.key), sums::plain(&advice.description))
}

/// What to do, and what is at stake.
fn recommendation(advice: &Advice) -> String {
    let what = sums::plain(instruction(advice));
    let Some(stake) = advice.stake_words(", ") else {
        return format!("{what} What is at stake cannot be told.");
    };
    let basis = match advice.basis {
        Basis::Measured => "measured",
        Basis::Estimated => "estimated",
    };
    format!("{what} At stake: {stake} ({basis}).")
}

/// The first sentence of the proposed change; of a diff, what was found.
fn instruction(advice: &Advice) -> &str {
    let is_diff = patched(advice).is_some();
    let says = |line: &&str| !line.is_empty() && !line.ends_with(':');
    let line = advice.proposed_change.lines().map(str::trim).find(says);
    line.filter(|_| !is_diff).unwrap_or(&advice.description)
}

/// The file that a diff changes.
fn patched(advice: &Advice) -> Option<&str> {
    let line = advice.proposed_change.lines().find_map(|line| line.strip_prefix("+++ "))?;
    let path = line.split('\t').next().unwrap_or(line).trim();
    Some(path.strip_prefix("b/").unwrap_or(path))
}

/// By file; each as a quotation: whatever its text is, it cannot become a part of the
/// report.
fn changes(advice: &[Advice], rules: &str) -> String {
    let mut files: Vec<(&str, Vec<&Advice>)> = Vec::new();
    for advice in advice {
        let file = patched(advice).unwrap_or(rules);
        match files.iter_mut().find(|(known, _)| *known == file) {
            Some((_, list)) => list.push(advice),
            None => files.push((file, vec![advice])),
        }
    }
    if files.is_empty() {
        return "None detected.\n".into();
    }
    let of_file = |(file, list): &(&str, Vec<&Advice>)| {
        let parts: Vec<String> = list.iter().map(|advice| change(advice)).collect();
        format!("### For {}\n\n{}", sums::plain(file), parts.join("\n"))
    };
    files.iter().map(of_file).collect::<Vec<_>>().join("\n")
}

/// Where it belongs, if its first line says so, and its words.
fn change(advice: &Advice) -> String {
    let mut lines = advice.proposed_change.lines().peekable();
    let place = lines.next_if(|line| line.ends_with(':') && !line.starts_with(['-', '+', '@']));
    let place = place.map_or_else(String::new, |place| format!("{}\n\n", sums::plain(place)));
    let lines: Vec<String> =
        lines.map(|line| format!("> {}", text::safe(line)).trim_end().to_owned()).collect();
    format!("{place}{}\n", lines.join("\n"))
}
