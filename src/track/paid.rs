//! Did it pay? What earlier reviews advised, then and now. Pure.

use super::findings;
use super::review::{Earlier, Last};
use super::sums;
use crate::advice::{Advice, Measure, Topic};
use crate::text;

/// Recommendations that wait for a verdict; the newest.
const MAX_UNJUDGED: usize = 20;

/// What a period shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now<'a> {
    pub(super) measures: &'a [Measure],
    /// Are there task logs with tokens?
    pub(super) has_logs: bool,
    /// Are there sessions in the transcripts?
    pub(super) has_sessions: bool,
}

impl Now<'_> {
    /// The figure that `then` has now; `None`: nothing was measured.
    fn figure_of(&self, then: &Measure) -> Option<Measure> {
        let is_own = findings::is_own(then);
        if !if is_own { self.has_logs } else { self.has_sessions } {
            return None;
        }
        let there = self.measures.iter().find(|measure| measure.key == then.key);
        // Without anything to take the mean of there is none. Of other things that are not
        // there any more, a model nobody used, a file nobody read, there are 0.
        let is_mean = matches!(then.topic, Topic::Handoff | Topic::Batching)
            || is_own && then.topic == Topic::Reread;
        match there {
            Some(now) => Some(now.clone()),
            None if is_mean => None,
            None => Some(Measure { value: 0.0, ..then.clone() }),
        }
    }
}

/// A line for each thing that was advised and has no verdict yet, and what has none now
/// either.
pub(super) fn compare(last: &Last, now: Now<'_>) -> (String, Vec<Earlier>) {
    if last.advice.is_empty() && last.unjudged.is_empty() {
        return ("Nothing was advised.\n".into(), Vec::new());
    }
    let (mut lines, mut left) = (String::new(), Vec::new());
    for advice in &last.advice {
        let Some(measure) = last.measures.iter().find(|measure| measure.key == advice.key) else {
            let key = sums::plain(&advice.key);
            lines.push_str(&format!(
                "- {key}: was not measured then; it cannot be told whether it paid.\n"
            ));
            continue;
        };
        let (day, days) = (last.day.clone(), last.days);
        let given = Earlier { day, days, measure: measure.clone(), advice: advice.clone() };
        tell(given, "", now, &mut lines, &mut left);
    }
    for given in &last.unjudged {
        // What was advised again since is judged by that.
        if !last.advice.iter().any(|advice| advice.key == given.advice.key) {
            let since = format!(" on {}", sums::plain(&given.day));
            tell(given.clone(), &since, now, &mut lines, &mut left);
        }
    }
    left.truncate(MAX_UNJUDGED);
    (lines, left)
}

fn tell(given: Earlier, since: &str, now: Now<'_>, lines: &mut String, left: &mut Vec<Earlier>) {
    let now = now.figure_of(&given.measure);
    lines.push_str(&format!("- {}\n", line(&given, since, now.as_ref())));
    if now.is_none() {
        left.push(given);
    }
}

fn line(given: &Earlier, since: &str, now: Option<&Measure>) -> String {
    let Earlier { days, measure: then, advice, .. } = given;
    let key = format!("{}{since}", sums::plain(&advice.key));
    let before = amount(then.value, &then.unit);
    let now = match now {
        None => {
            return format!(
                "{key}: {before} then, not measured since; whether it paid cannot be told yet."
            );
        }
        Some(now) if now.unit != then.unit => {
            return format!(
                "{key}: {before} then, measured otherwise now; it cannot be told whether it paid."
            );
        }
        Some(now) => now.value,
    };
    let after = figure(now);
    let figures = format!("{key}: {before} then, {after} now");
    if now >= then.value || then.value <= 0.0 || figure(then.value) == after {
        // What looks the same is told as the same.
        let is_more = now > then.value && figure(then.value) != after;
        let word = if is_more { "not paid, it is more" } else { "not paid so far" };
        return format!("{figures}: {word}.");
    }
    // Of what was at stake in that period, as much as the figure fell.
    let share = 1.0 - now.max(0.0) / then.value;
    let none_left = if now <= 0.0 { "none of it is left, " } else { "" };
    let saved = Advice {
        tokens: advice.tokens.map(|tokens| (tokens as f64 * share).round() as u64),
        cost_usd: advice.cost_usd.map(|usd| usd * share),
        ..advice.clone()
    };
    let Some(saved) = saved.stake_words(" / ") else {
        return format!("{figures}: paid, {none_left}how much cannot be told.");
    };
    let days = text::count(u64::from(*days), "day", "days");
    format!("{figures}: paid, {none_left}about {saved} in {days}.")
}

fn amount(value: f64, unit: &str) -> String {
    format!("{} {}", figure(value), sums::plain(unit))
}

/// `12,000`, or `2.4` where the places matter.
fn figure(value: f64) -> String {
    if !value.is_finite() || value < 0.0 {
        return "unknown".into();
    }
    match value {
        100.0..=9e15 => text::grouped(value.round() as u64),
        _ => {
            let text = format!("{value:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::{Advice, Basis};

    fn last(measures: Vec<Measure>, advice: Vec<Advice>) -> Last {
        Last { day: "2025-11-21".into(), days: 7, measures, advice, unjudged: Vec::new() }
    }

    fn at(measures: &[Measure]) -> Now<'_> {
        Now { measures, has_logs: true, has_sessions: true }
    }

    fn measure(key: &str, value: f64) -> Measure {
        Measure { topic: Topic::Handoff, key: key.into(), value, unit: "tokens per cycle".into() }
    }

    fn advice(key: &str) -> Advice {
        Advice {
            topic: Topic::Handoff,
            key: key.into(),
            description: "d".into(),
            proposed_change: "c".into(),
            tokens: Some(100_000),
            cost_usd: Some(2.0),
            basis: Basis::Measured,
            evidence: Vec::new(),
        }
    }

    #[test]
    fn what_was_advised_is_compared_and_what_is_missing_is_said() {
        let keys = ["handoff", "more", "gone", "same", "unit", "mean"];
        let mut last = last(keys.map(|key| measure(key, 12_000.0)).to_vec(), Vec::new());
        last.measures[2].topic = Topic::Reread;
        last.advice =
            ["handoff", "more", "gone", "same", "never", "unit", "mean"].map(advice).to_vec();
        let mut other = measure("unit", 3.0);
        other.unit = "files".into();
        let now = [
            measure("handoff", 7_100.0),
            measure("more", 13_000.0),
            measure("same", 12_000.0),
            other,
        ];
        let (lines, left) = compare(&last, at(&now));
        assert_eq!(left.iter().map(|left| &*left.advice.key).collect::<Vec<_>>(), ["mean"]);
        insta::assert_snapshot!(lines, @r"
        - handoff: 12,000 tokens per cycle then, 7,100 now: paid, about 40,833 tokens / $0.82 in 7 days.
        - more: 12,000 tokens per cycle then, 13,000 now: not paid, it is more.
        - gone: 12,000 tokens per cycle then, 0 now: paid, none of it is left, about 100,000 tokens / $2.00 in 7 days.
        - same: 12,000 tokens per cycle then, 12,000 now: not paid so far.
        - never: was not measured then; it cannot be told whether it paid.
        - unit: 12,000 tokens per cycle then, measured otherwise now; it cannot be told whether it paid.
        - mean: 12,000 tokens per cycle then, not measured since; whether it paid cannot be told yet.
        ");
    }

    #[test]
    fn without_a_session_there_is_no_verdict_until_there_is_one() {
        let mut first = last(vec![measure("handoff", 54_500.0)], vec![advice("handoff")]);
        first.measures[0].topic = Topic::Reread;
        // Logs, and the figures that are 0 where there is nothing.
        let mut zero = measure("handoff", 0.0);
        zero.topic = Topic::Reread;
        let idle = Now { measures: &[zero], has_logs: true, has_sessions: false };
        let (lines, unjudged) = compare(&first, idle);
        let told = "54,500 tokens per cycle then, not measured since;";
        assert!(lines.starts_with(&format!("- handoff: {told}")), "{lines}");
        let second = Last { day: "2025-11-28".into(), unjudged, ..last(Vec::new(), Vec::new()) };
        let (lines, unjudged) = compare(&second, idle);
        assert!(lines.starts_with(&format!("- handoff on 2025-11-21: {told}")), "{lines}");
        let third = Last { unjudged, ..second };
        let measures = [measure("handoff", 27_250.0)];
        let (lines, unjudged) = compare(&third, at(&measures));
        assert!(
            lines.contains("27,250 now: paid, about 50,000 tokens / $1.00 in 7 days"),
            "{lines}"
        );
        assert_eq!(unjudged, []);
    }

    #[test]
    fn a_figure_of_the_logs_needs_logs() {
        let mut own = measure("cheaper_model:opus", 100.0);
        (own.topic, own.unit) = (Topic::CheaperModel, "tokens of light work per task".into());
        let last = last(vec![own], vec![advice("cheaper_model:opus")]);
        let sessions = Now { measures: &[], has_logs: false, has_sessions: true };
        assert!(compare(&last, sessions).0.contains("not measured since"));
        let logs = Now { has_logs: true, has_sessions: false, ..sessions };
        assert!(compare(&last, logs).0.contains("none of it is left"));
    }

    #[test]
    fn what_looks_the_same_is_not_more() {
        let (then, now) = (measure("x", 31.210_000_1), measure("x", 31.210_000_2));
        let last = last(vec![then.clone()], vec![advice("x")]);
        let line = "- x: 31.21 tokens per cycle then, 31.21 now: not paid so far.\n";
        assert_eq!(compare(&last, at(std::slice::from_ref(&now))).0, line);
        let swapped = Last { measures: vec![now], ..last };
        assert_eq!(compare(&swapped, at(&[then])).0, line);
    }

    #[test]
    fn what_nobody_measured_has_no_sum_that_it_paid() {
        let nothing = Advice { tokens: None, cost_usd: None, ..advice("x") };
        let last = last(vec![measure("x", 30.0)], vec![nothing]);
        let line = "- x: 30 tokens per cycle then, 15 now: paid, how much cannot be told.\n";
        assert_eq!(compare(&last, at(&[measure("x", 15.0)])).0, line);
    }

    #[test]
    fn figures_are_short_and_numbers() {
        for (value, text) in [
            (0.0, "0"),
            (2.4, "2.4"),
            (99.999, "100"),
            (1_234.5, "1,235"),
            (f64::NAN, "unknown"),
            (-1.0, "unknown"),
        ] {
            assert_eq!(figure(value), text);
        }
    }
}
