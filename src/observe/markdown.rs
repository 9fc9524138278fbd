//! A day as a report in Markdown, as somebody files it.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use super::anomaly::AnomalyKind;
use super::day::Day;
use super::human::{at_stake, words};
use crate::text;

impl Day {
    /// The daily report.
    pub fn markdown(&self, zone: &TimeZone) -> String {
        let mut out = format!("# Token Telemetry Report - {}\n\n", cell(&self.date));
        self.summary(&mut out);
        if self.executions.is_empty() {
            out.push_str(match self.warnings.is_empty() {
                true => "Nothing was executed on this day.\n\n",
                false => "No execution of this day is known, and not all could be read.\n\n",
            });
        } else {
            self.anomalies_of(&mut out);
            self.recommendations_of(&mut out);
            self.executions_of(&mut out, zone);
        }
        if !self.warnings.is_empty() {
            out.push_str("## Warnings\n\n");
            for warning in &self.warnings {
                _ = writeln!(out, "- {}", cell(warning));
            }
            out.push('\n');
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }

    fn summary(&self, out: &mut String) {
        let totals = &self.totals;
        out.push_str("## Summary\n\n| | |\n|---|---|\n");
        let mut line = |name: &str, value: String| _ = writeln!(out, "| {name} | {value} |");
        line("Time zone", cell(&self.timezone));
        if let Some(project) = &self.project {
            line("Project", cell(project));
        }
        line("Executions", text::grouped(totals.executions));
        line(&format!("Input tokens ({})", self.input.as_str()), text::grouped(totals.input));
        line("Output tokens", text::grouped(totals.usage.output));
        line("Tokens read from the cache", text::grouped(totals.usage.cache_read));
        line("Cost at list prices", self.cost_words());
        if totals.unpriced_tokens > 0 {
            line("Tokens of models without a price", text::grouped(totals.unpriced_tokens));
        }
        line("Anomalies", text::grouped(self.anomalies.len() as u64));
        out.push('\n');
    }

    fn anomalies_of(&self, out: &mut String) {
        out.push_str("## Anomalies\n\n");
        if self.anomalies.is_empty() {
            out.push_str("None.\n\n");
        }
        for kind in AnomalyKind::ALL {
            let mut of_kind = self.anomalies.iter().filter(|a| a.kind == kind).peekable();
            if of_kind.peek().is_none() {
                continue;
            }
            _ = writeln!(out, "### {}\n", words(kind));
            for anomaly in of_kind {
                _ = writeln!(
                    out,
                    "- **{}** {}: {}",
                    anomaly.severity.as_str(),
                    cell(&anomaly.execution),
                    cell(&anomaly.message)
                );
                for evidence in &anomaly.evidence {
                    _ = writeln!(out, "  - {}", cell(evidence));
                }
            }
            out.push('\n');
        }
    }

    fn recommendations_of(&self, out: &mut String) {
        out.push_str("## Recommendations\n\n");
        if self.recommendations.is_empty() {
            out.push_str("None.\n\n");
        }
        for (advice, number) in self.recommendations.iter().zip(1..) {
            _ = writeln!(out, "{number}. **{}** {}\n", at_stake(advice), cell(&advice.description));
            _ = writeln!(out, "{}", block(&advice.proposed_change));
            for evidence in &advice.evidence {
                _ = writeln!(out, "   - {}", cell(evidence));
            }
            out.push('\n');
        }
    }

    fn executions_of(&self, out: &mut String, zone: &TimeZone) {
        out.push_str("## Executions\n\n");
        out.push_str(
            "| began | took | execution | what | tokens | input:output | cost | ended |\n",
        );
        out.push_str("|---|---:|---|---|---:|---:|---:|---|\n");
        for execution in &self.executions {
            _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                text::local(execution.started_at.unix_ms, zone, "%Y-%m-%d %H:%M:%S"),
                text::span(execution.duration_ms),
                cell(&execution.id),
                cell(&execution.title),
                text::grouped(execution.tokens),
                execution.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}:1")),
                execution.cost_words(),
                cell(execution.outcome.as_deref().unwrap_or("-")),
            );
        }
        out.push('\n');
    }
}

/// Foreign text as plain words on one line of Markdown.
pub(super) fn cell(words: &str) -> String {
    let safe = text::safe(words);
    let mut out = String::with_capacity(safe.len() + 8);
    for c in safe.chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '&') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Lines as they stand, in a fence that none of them closes.
fn block(lines: &str) -> String {
    let longest = lines.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let sort = if lines.starts_with("--- ") { "diff" } else { "text" };
    let mut out = format!("   {fence}{sort}\n");
    for line in lines.lines() {
        _ = writeln!(out, "   {}", text::safe(line));
    }
    out.push_str(&format!("   {fence}"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_words() {
        assert_eq!(
            cell("a|b\n`c` <d> [e](f) \u{1b}"),
            "a\\|b\\\\n\\`c\\` \\<d\\> \\[e\\](f) \\\\u{1b}"
        );
        assert!(block("a\n```\nb").starts_with("   ````text\n   a\n"));
    }
}
