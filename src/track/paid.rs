//! Did it pay? What the last review advised, then and now. Pure.

use super::review::Last;
use super::sums;
use crate::advice::{Advice, Measure};
use crate::text;

/// A line for each thing that the last review advised. `now` is `None` where the period
/// has no usage at all: then nothing can be told.
pub(super) fn compare(last: &Last, now: Option<&[Measure]>) -> String {
    if last.advice.is_empty() {
        return "Nothing was advised.\n".into();
    }
    last.advice.iter().map(|advice| format!("- {}\n", line(advice, last, now))).collect()
}

fn line(advice: &Advice, last: &Last, now: Option<&[Measure]>) -> String {
    let key = sums::plain(&advice.key);
    let then = last.measures.iter().find(|measure| measure.key == advice.key);
    let Some(then) = then else {
        return format!("{key}: was not measured then; it cannot be told whether it paid.");
    };
    let cannot_tell = |why: &str| {
        let before = amount(then.value, &then.unit);
        format!("{key}: {before} then, {why}; it cannot be told whether it paid.")
    };
    let Some(now) = now else { return cannot_tell("nothing was used now") };
    let now = match now.iter().find(|measure| measure.key == then.key) {
        Some(now) if now.unit != then.unit => return cannot_tell("measured otherwise now"),
        Some(now) => now.value,
        // What is not there any more has no figure: a model nobody used, a file nobody read.
        None => 0.0,
    };
    let (before, after) = (amount(then.value, &then.unit), figure(now));
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
    let days = text::count(u64::from(last.days), "day", "days");
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
    use crate::advice::{Basis, Topic};

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
        let last = Last {
            day: "2025-11-21".into(),
            days: 7,
            measures: ["handoff", "more", "gone", "same", "unit"]
                .map(|key| measure(key, 12_000.0))
                .to_vec(),
            advice: ["handoff", "more", "gone", "same", "never", "unit"].map(advice).to_vec(),
        };
        let mut other = measure("unit", 3.0);
        other.unit = "files".into();
        let now = [
            measure("handoff", 7_100.0),
            measure("more", 13_000.0),
            measure("same", 12_000.0),
            other,
        ];
        insta::assert_snapshot!(compare(&last, Some(&now)), @r"
        - handoff: 12,000 tokens per cycle then, 7,100 now: paid, about 40,833 tokens / $0.82 in 7 days.
        - more: 12,000 tokens per cycle then, 13,000 now: not paid, it is more.
        - gone: 12,000 tokens per cycle then, 0 now: paid, none of it is left, about 100,000 tokens / $2.00 in 7 days.
        - same: 12,000 tokens per cycle then, 12,000 now: not paid so far.
        - never: was not measured then; it cannot be told whether it paid.
        - unit: 12,000 tokens per cycle then, measured otherwise now; it cannot be told whether it paid.
        ");
        let idle = compare(&last, None);
        assert_eq!(
            idle.matches("then, nothing was used now; it cannot be told").count(),
            5,
            "{idle}"
        );
    }

    #[test]
    fn what_looks_the_same_is_not_more() {
        let (then, now) = (measure("x", 31.210_000_1), measure("x", 31.210_000_2));
        let last = Last {
            day: "2025-11-21".into(),
            days: 7,
            measures: vec![then.clone()],
            advice: vec![advice("x")],
        };
        let line = "- x: 31.21 tokens per cycle then, 31.21 now: not paid so far.\n";
        assert_eq!(compare(&last, Some(std::slice::from_ref(&now))), line);
        let swapped = Last { measures: vec![now], ..last };
        assert_eq!(compare(&swapped, Some(&[then])), line);
    }

    #[test]
    fn what_nobody_measured_has_no_sum_that_it_paid() {
        let nothing = Advice { tokens: None, cost_usd: None, ..advice("x") };
        let (day, measures) = ("2025-11-21".into(), vec![measure("x", 30.0)]);
        let last = Last { day, days: 7, measures, advice: vec![nothing] };
        let line = "- x: 30 tokens per cycle then, 15 now: paid, how much cannot be told.\n";
        assert_eq!(compare(&last, Some(&[measure("x", 15.0)])), line);
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
