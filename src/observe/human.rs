//! A day for somebody at a terminal.

use jiff::tz::TimeZone;

use super::anomaly::{Anomaly, AnomalyKind};
use super::day::Day;
use super::execution::{self, Execution, Kind};
use crate::advice::{Advice, Basis};
use crate::config::InputKind;
use crate::text::{self, Side};

/// Findings of a kind that are told one by one, the grave ones and the others.
const GRAVE_MAX: usize = 5;
const EACH_MAX: usize = 3;
/// Executions in the table; of more, the dearest.
const ROWS_MAX: usize = 20;
/// Recommendations that are told.
const ADVICE_MAX: usize = 5;
/// Lines are so long at most.
const COLUMNS: usize = 100;
/// Longest name of an execution, and of what it was to do, columns.
const NAME_COLUMNS: usize = 34;

impl Day {
    /// In short lines, harmless on a terminal.
    pub fn human(&self, zone: &TimeZone) -> String {
        let mut lines = vec![self.headline()];
        if !self.executions.is_empty() {
            lines.push(self.sums());
            lines.extend(self.findings());
            lines.extend(self.table(zone));
            lines.extend(self.advice());
        }
        for warning in &self.warnings {
            lines.extend(text::wrap(&format!("warning: {}", text::safe(warning)), COLUMNS, 9));
        }
        lines.join("\n") + "\n"
    }

    fn headline(&self) -> String {
        let of =
            self.project.as_ref().map_or(String::new(), |dir| format!(", {}", text::safe(dir)));
        let when = format!("{} ({}){of}", self.date, text::safe(&self.timezone));
        match self.executions.len() {
            0 if self.warnings.is_empty() => format!("{when}: nothing was executed."),
            0 => format!("{when}: no execution is known, and not all could be read:"),
            n => format!("{when}: {}", text::count(n as u64, "execution", "executions")),
        }
    }

    fn sums(&self) -> String {
        let totals = &self.totals;
        let unpriced = match totals.unpriced_tokens {
            0 => String::new(),
            n => format!(" ({} tokens of models without a known list price)", text::grouped(n)),
        };
        let read = match self.input {
            InputKind::All => "of the input read from the cache",
            InputKind::Uncached | InputKind::Plain => "not in it: read from the cache",
        };
        format!(
            "{} tokens: input {} ({}), output {}; {read} {}; {} at list prices{unpriced}",
            text::grouped(totals.tokens),
            text::grouped(totals.input),
            self.input.as_str(),
            text::grouped(totals.usage.output),
            text::grouped(totals.usage.cache_read),
            self.cost_words()
        )
    }

    /// What all of it cost.
    pub(super) fn cost_words(&self) -> String {
        let is_list_price = self.executions.iter().all(|of| of.kind == Kind::Session);
        let totals = &self.totals;
        let (usd, unpriced) = (totals.cost_usd.map_or(0.0, |usd| usd.0), totals.unpriced_tokens);
        execution::cost_words(usd, unpriced, &totals.usage, is_list_price)
    }

    fn findings(&self) -> Vec<String> {
        let mut lines = vec![String::new()];
        if self.anomalies.is_empty() {
            lines.push("Nothing odd.".to_owned());
            return lines;
        }
        for kind in AnomalyKind::ALL {
            let of_kind: Vec<&Anomaly> = self.anomalies.iter().filter(|a| a.kind == kind).collect();
            if of_kind.is_empty() {
                continue;
            }
            lines.push(format!("{}: {}", words(kind), share(of_kind.len(), self.executions.len())));
            // Nearly every execution may be large; the largest say it for all.
            let each_max = match kind {
                AnomalyKind::ManyTokens => 1,
                _ if is_grave(kind) => GRAVE_MAX,
                _ => EACH_MAX,
            };
            for anomaly in of_kind.iter().take(each_max) {
                lines.extend(self.finding(anomaly));
            }
            if let Some(more) = of_kind.len().checked_sub(each_max).filter(|more| *more > 0) {
                lines.push(format!(
                    "  … and {} more (--output json has all)",
                    text::grouped(more as u64)
                ));
            }
        }
        lines
    }

    fn finding(&self, anomaly: &Anomaly) -> Vec<String> {
        let first = format!(
            "  {:<6} {}: {}",
            anomaly.severity.as_str(),
            text::safe(&anomaly.execution),
            text::safe(&anomaly.message)
        );
        let mut lines = text::wrap(&first, COLUMNS, 9);
        if !is_grave(anomaly.kind) {
            return lines;
        }
        for line in &anomaly.evidence[..anomaly.compared.min(anomaly.evidence.len())] {
            lines.extend(text::wrap(&format!("         {}", text::safe(line)), COLUMNS, 11));
        }
        let of = self.executions.iter().find(|execution| execution.id == anomaly.execution);
        lines.extend(of.map(|execution| format!("         see: {}", where_to_look(execution))));
        lines
    }

    fn table(&self, zone: &TimeZone) -> Vec<String> {
        const HEAD: [(&str, Side); 8] = [
            ("began", Side::Left),
            ("took", Side::Right),
            ("execution", Side::Left),
            ("tokens", Side::Right),
            ("in:out", Side::Right),
            ("cost", Side::Right),
            ("ended", Side::Left),
            ("what", Side::Left),
        ];
        let mut shown: Vec<&Execution> = self.executions.iter().collect();
        let left_out = shown.len().saturating_sub(ROWS_MAX);
        if left_out > 0 {
            let usd = |of: &Execution| of.cost_usd.map_or(0.0, |usd| usd.0);
            shown.sort_by(|a, b| usd(b).total_cmp(&usd(a)));
            shown.truncate(ROWS_MAX);
            shown.sort_by_key(|execution| execution.started_at.unix_ms);
        }
        let rows: Vec<[String; 8]> =
            shown.into_iter().map(|execution| row(execution, &self.date, zone)).collect();
        let widths: [usize; 8] = std::array::from_fn(|at| {
            let widest = rows.iter().map(|row| text::width(&row[at])).max().unwrap_or(0);
            widest.max(text::width(HEAD[at].0))
        });
        let put = |cells: [&str; 8]| {
            let cells: Vec<String> = std::iter::zip(cells, std::iter::zip(widths, HEAD))
                .map(|(cell, (width, (_, side)))| text::pad(cell, width, side))
                .collect();
            cells.join("  ").trim_end().to_owned()
        };
        let mut lines = vec![String::new(), put(HEAD.map(|(name, _)| name))];
        lines.extend(rows.iter().map(|row| put(std::array::from_fn(|at| row[at].as_str()))));
        if left_out > 0 {
            lines.push(format!("… and {} cheaper ones", text::grouped(left_out as u64)));
        }
        lines
    }

    fn advice(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (advice, number) in self.recommendations.iter().take(ADVICE_MAX).zip(1..) {
            if number == 1 {
                lines.extend([String::new(), "What would cost less:".to_owned()]);
            }
            let first =
                format!("  {number}. {} {}", at_stake(advice), text::safe(&advice.description));
            lines.extend(text::wrap(&first, COLUMNS, 5));
            for line in advice.proposed_change.lines() {
                lines.extend(text::wrap(&format!("       {}", text::safe(line)), COLUMNS, 9));
            }
        }
        let left_out = self.recommendations.len().saturating_sub(ADVICE_MAX);
        if left_out > 0 {
            let left_out = text::grouped(left_out as u64);
            lines.push(format!("  … and {left_out} more (--output json has all)"));
        }
        lines
    }
}

/// What is wrong with work, and not only with its price.
fn is_grave(kind: AnomalyKind) -> bool {
    matches!(kind, AnomalyKind::FalseCompletion | AnomalyKind::DuplicateExecution)
}

/// A command, or the transcript.
fn where_to_look(execution: &Execution) -> String {
    match (&execution.task_id, execution.sources.first()) {
        (Some(task), _) => format!("longhaul task show {}", text::safe(&text::shell_word(task))),
        (None, Some(transcript)) => text::safe(transcript).into_owned(),
        (None, None) => execution.id.clone(),
    }
}

/// `$0.42, 1,000 tokens (measured):`
pub(super) fn at_stake(advice: &Advice) -> String {
    let basis = match advice.basis {
        Basis::Measured => "measured",
        Basis::Estimated => "estimated",
    };
    let usd = advice.cost_usd.filter(|usd| *usd > 0.0).map(text::usd);
    let tokens = advice.tokens.map(|tokens| format!("{} tokens", text::grouped(tokens)));
    let parts: Vec<String> = usd.into_iter().chain(tokens).collect();
    format!("{} ({basis}):", parts.join(", "))
}

/// A kind of anomaly in words.
pub(super) fn words(kind: AnomalyKind) -> &'static str {
    match kind {
        AnomalyKind::FalseCompletion => "Claimed done, with something against it",
        AnomalyKind::DuplicateExecution => "The same work again",
        AnomalyKind::InputOutputRatio => "Much input for little output",
        AnomalyKind::QuickAndHeavy => "Quick, but heavy",
        AnomalyKind::ManyTokens => "Many tokens",
    }
}

fn share(n: usize, all: usize) -> String {
    format!("{} of {}", text::grouped(n as u64), text::count(all as u64, "execution", "executions"))
}

fn row(execution: &Execution, date: &str, zone: &TimeZone) -> [String; 8] {
    let began = |format: &str| text::local(execution.started_at.unix_ms, zone, format);
    let name = text::safe(&execution.id).into_owned();
    let title = text::safe(&execution.title).into_owned();
    [
        // It is of the day on which it ended.
        match began("%Y-%m-%d") == date {
            true => began("%H:%M"),
            false => began("%m-%d %H:%M"),
        },
        text::span(execution.duration_ms),
        text::clip(&name, NAME_COLUMNS).into_owned(),
        text::tokens(execution.tokens),
        execution.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}")),
        execution.cost_words(),
        execution.outcome.clone().unwrap_or_else(|| "-".to_owned()),
        match execution.kind {
            Kind::Task | Kind::Session => text::clip(&title, NAME_COLUMNS).into_owned(),
            Kind::Cycle => String::new(),
        },
    ]
}
