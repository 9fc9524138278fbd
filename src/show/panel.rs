//! The few lines of state at the bottom of a terminal. Pure: the same run at
//! the same moment gives the same lines.

use jiff::tz::TimeZone;

use super::line::Tone;
use super::look::Look;
use crate::clock::Timestamp;
use crate::cycle::Snapshot;
use crate::cycle::pressure::{Pressure, WindowSource};
use crate::report::budgets::BudgetsView;
use crate::report::standstill::Standstill;
use crate::report::status::{CostOrigin, TaskView, cost_origin};
use crate::text;

/// Columns of the names on the left.
const NAME: usize = 9;
/// Bars are no longer than this, however wide the terminal is.
const LONGEST_BAR: usize = 40;
/// … and no shorter.
const SHORTEST_BAR: usize = 8;
/// On a wide terminal the time should not stand apart from the rest.
const LONGEST_TITLE: usize = 110;
/// From this share of the threshold on, the bar is yellow.
const NEAR_SHARE: f64 = 0.6;
/// An action younger than this needs no age.
const AGE_FROM_MS: u64 = 60_000;

/// What the snapshot does not keep.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moments {
    /// When the last action was reported.
    pub active_at: Option<Timestamp>,
}

/// How a piece of a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As the terminal has it.
    Plain,
    /// Names and rules.
    Dim,
    /// What the eye should find.
    Bold,
    /// Well.
    Green,
    /// Attention.
    Yellow,
    /// Alarm.
    Red,
}

impl From<Tone> for Style {
    fn from(tone: Tone) -> Self {
        match tone {
            Tone::Plain => Style::Plain,
            Tone::Good => Style::Green,
            Tone::Warn => Style::Yellow,
            Tone::Bad => Style::Red,
        }
    }
}

/// A line in pieces; foreign text in it is safe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    pieces: Vec<(Style, String)>,
}

impl Row {
    fn named(name: &str) -> Self {
        Self::default().and(Style::Dim, &text::pad(name, NAME, text::Side::Left))
    }

    /// With another piece.
    pub fn and(mut self, style: Style, words: &str) -> Self {
        self.pieces.push((style, text::safe(words).into_owned()));
        self
    }

    /// Its columns.
    pub fn width(&self) -> usize {
        self.pieces.iter().map(|(_, words)| text::width(words)).sum()
    }

    /// With the longest of `choices` that leaves it within `columns`; if none
    /// does, without.
    fn and_if_fits(self, columns: usize, style: Style, choices: &[&str]) -> Self {
        let room = columns.saturating_sub(self.width());
        match choices.iter().find(|words| text::width(words) <= room) {
            Some(words) => self.and(style, words),
            None => self,
        }
    }

    /// The line as it is written, cut to `columns`.
    pub fn paint(&self, columns: usize, look: Look) -> String {
        let mut out = String::new();
        let mut room = columns;
        for (style, words) in &self.pieces {
            let shown = text::clip(words, room);
            room = room.saturating_sub(text::width(&shown));
            let shown = if look.has_unicode {
                shown.into_owned()
            } else {
                shown.chars().map(ascii).collect()
            };
            let code = match style {
                Style::Plain => None,
                Style::Dim => Some("2"),
                Style::Bold => Some("1"),
                Style::Green => Some("32"),
                Style::Yellow => Some("33"),
                Style::Red => Some("1;31"),
            };
            match code.filter(|_| look.has_colour && !shown.is_empty()) {
                Some(code) => out.push_str(&format!("\x1b[{code}m{shown}\x1b[0m")),
                None => out.push_str(&shown),
            }
        }
        out
    }
}

/// Stand-ins for the glyphs of our own.
fn ascii(c: char) -> char {
    match c {
        '─' | '·' => '-',
        '█' => '#',
        '░' => '.',
        '│' => '|',
        '…' => '~',
        '–' => '-',
        other => other,
    }
}

/// The panel for `columns`, of at most `most` lines, with times local to `zone`.
pub fn rows(
    view: &Snapshot<'_>,
    now: Timestamp,
    moments: Moments,
    zone: &TimeZone,
    columns: usize,
    most: usize,
) -> Vec<Row> {
    // Each with its rank: what stays when there is little room, dearest first.
    let mut all = vec![
        (4, title(view, now, columns)),
        (2, context(view, columns)),
        (3, tasks(view, columns)),
        (6, cost(view, columns)),
        (0, state(view)),
    ];
    if let Some(task) = TaskView::of(view) {
        all.insert(1, (3, Row::named("task").and(Style::Plain, &task.words())));
    }
    if let Some(row) = budget(view, now) {
        all.insert(all.len() - 1, (5, row));
    }
    let held_up = Standstill::of(view, now).rows(now, zone);
    all.extend(held_up.iter().map(|(name, words)| (1, Row::named(name).and(Style::Yellow, words))));
    all.push((5, last(view, now, moments, columns)));
    let mut ranks: Vec<u8> = all.iter().map(|(rank, _)| *rank).collect();
    ranks.sort_unstable();
    while all.len() > most {
        let Some(least) = ranks.pop() else { break };
        if let Some(index) = all.iter().rposition(|(rank, _)| *rank == least) {
            all.remove(index);
        }
    }
    all.into_iter().map(|(_, row)| row).collect()
}

fn title(view: &Snapshot<'_>, now: Timestamp, columns: usize) -> Row {
    let columns = columns.min(LONGEST_TITLE);
    let clock = format!(" {} ─", text::stopwatch(view.elapsed_ms_at(now)));
    let room = columns.saturating_sub(text::width(&clock));
    let live = view.cycles().last();
    let mut row = Row::default().and(Style::Dim, "─ ");
    row = row.and(Style::Bold, "longhaul");
    row = match view.cycle() {
        0 => row.and(Style::Plain, " · no session yet"),
        cycle => row.and(Style::Plain, &format!(" · cycle {cycle}")),
    };
    if let Some(model) = live.and_then(|c| c.model.as_deref()) {
        let model = text::safe(model);
        let words = format!(" · {}", text::clip(&model, 40));
        row = row.and_if_fits(room.saturating_sub(2), Style::Plain, &[&words]);
    }
    let gap = room.saturating_sub(row.width() + 1);
    row.and(Style::Dim, &format!(" {}", "─".repeat(gap))).and(Style::Dim, &clock)
}

fn context(view: &Snapshot<'_>, columns: usize) -> Row {
    let row = Row::named("context");
    let Some(p) = view.pressure() else {
        let words = if view.alive() { "not known yet" } else { "no session is alive" };
        return row.and(Style::Dim, words);
    };
    let threshold = threshold_tokens(view, &p);
    let style = pressure_style(&p, threshold);
    let share = |tokens: f64| tokens / p.window.max(1) as f64;
    let row = bar(row, columns, share(p.tokens as f64), Some(share(threshold)), style);
    let source = match p.source {
        WindowSource::Config => "configured",
        WindowSource::Statusline => "by the CLI",
        WindowSource::Models => "by model table",
        WindowSource::Guess => "a guess",
    };
    let (used, window) = (text::tokens(p.tokens), text::tokens(p.window));
    row.and(style, &format!(" {:>3} %", p.percent())).and_if_fits(
        columns,
        Style::Plain,
        &[
            &format!("  {used} of {window} tokens · window {source}"),
            &format!("  {used} of {window} ({source})"),
            &format!("  {used}/{window}"),
        ],
    )
}

/// Where the checkpoint will be asked for.
fn threshold_tokens(view: &Snapshot<'_>, p: &Pressure) -> f64 {
    let params = view.params();
    let by_share = params.threshold_percent / 100.0 * p.window as f64;
    match params.threshold_tokens {
        Some(limit) => by_share.min(limit as f64),
        None => by_share,
    }
}

fn pressure_style(p: &Pressure, threshold: f64) -> Style {
    let tokens = p.tokens as f64;
    if tokens >= threshold {
        Style::Red
    } else if tokens >= NEAR_SHARE * threshold {
        Style::Yellow
    } else {
        Style::Green
    }
}

fn bar(row: Row, columns: usize, share: f64, mark: Option<f64>, style: Style) -> Row {
    // The figures after the bar need their room first.
    let length = (columns / 3).min(columns.saturating_sub(29)).clamp(SHORTEST_BAR, LONGEST_BAR);
    let cell = |share: f64| (share.clamp(0.0, 1.0) * length as f64).round() as usize;
    let filled = cell(share);
    let mark = mark.map(cell).filter(|at| *at < length);
    let piece = |from: usize, to: usize, glyph: &str| glyph.repeat(to.saturating_sub(from));
    let Some(mark) = mark else {
        return row.and(style, &piece(0, filled, "█")).and(Style::Dim, &piece(filled, length, "░"));
    };
    row.and(style, &piece(0, filled.min(mark), "█"))
        .and(Style::Dim, &piece(filled, mark, "░"))
        .and(Style::Bold, "│")
        .and(style, &piece(mark + 1, filled, "█"))
        .and(Style::Dim, &piece(filled.max(mark + 1), length, "░"))
}

fn tasks(view: &Snapshot<'_>, columns: usize) -> Row {
    let row = Row::named("tasks");
    let t = view.tasks();
    let Some(at_start) = t.done_at_start else {
        return row.and(Style::Dim, "not read yet");
    };
    if t.total == 0 {
        return row.and(Style::Dim, "the task file has no boxes");
    }
    let share = f64::from(t.done) / f64::from(t.total);
    let row = bar(row, columns, share, None, Style::Green);
    let row = row.and(Style::Plain, &format!("  {} of {}", t.done, t.total));
    match i64::from(t.done) - i64::from(at_start) {
        0 => row,
        n => row.and_if_fits(columns, Style::Dim, &[&format!("  ({n:+} in this run)")]),
    }
}

fn cost(view: &Snapshot<'_>, columns: usize) -> Row {
    let row = Row::named("cost");
    let Some(origin) = cost_origin(view) else {
        return row.and(Style::Dim, "nothing spent yet");
    };
    let whose = match origin {
        CostOrigin::Cli => ["by the CLI's count", "CLI"],
        CostOrigin::Transcript => ["computed from the transcript", "computed"],
        CostOrigin::Mixed => ["partly by the CLI, partly computed", "mixed"],
    };
    let tokens = text::tokens(view.tokens());
    row.and(Style::Plain, &text::usd(view.cost_usd())).and_if_fits(
        columns,
        Style::Dim,
        &[&format!(" {} · {tokens} tokens", whose[0]), &format!(" {} · {tokens} tokens", whose[1])],
    )
}

fn budget(view: &Snapshot<'_>, now: Timestamp) -> Option<Row> {
    let budgets = BudgetsView::of(view, now);
    let style = match budgets.worst_percent() {
        100.. => Style::Red,
        _ if budgets.is_near() => Style::Yellow,
        _ => Style::Plain,
    };
    Some(Row::named("budget").and(style, &budgets.words()?))
}

fn state(view: &Snapshot<'_>) -> Row {
    let row = Row::named("now");
    let style = match view.outcome() {
        Some(outcome) if outcome.exit_code() == 0 => Style::Green,
        Some(_) => Style::Yellow,
        None => Style::Plain,
    };
    let row = row.and(style, &view.explain());
    match view.verdict().filter(|_| view.outcome().is_none()) {
        Some(verdict) => row.and(
            Style::Yellow,
            &format!(" · then the run ends ({})", crate::report::words::outcome(verdict)),
        ),
        None => row,
    }
}

fn last(view: &Snapshot<'_>, now: Timestamp, moments: Moments, columns: usize) -> Row {
    let row = Row::named("last");
    let activity = view.last_activity();
    if activity.is_empty() {
        return row.and(Style::Dim, "nothing yet");
    }
    let age_ms = moments.active_at.map_or(0, |at| now.ms_since(at));
    let age = if age_ms >= AGE_FROM_MS && view.outcome().is_none() {
        format!(" · {} ago", text::about(age_ms))
    } else {
        String::new()
    };
    let room = columns.saturating_sub(NAME + text::width(&age));
    let activity = text::safe(activity);
    row.and(Style::Plain, &text::clip(&activity, room)).and(Style::Dim, &age)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::Params;
    use crate::cycle::budget::BudgetParams;
    use crate::report::staged::{self, Stage};

    #[test]
    fn a_budget_has_a_line_and_a_colour_by_how_much_of_it_is_spent() {
        let at = |task_usd, spent_usd| {
            let budget = BudgetParams { task_usd, ..BudgetParams::default() };
            let mut stage = Stage::new(Params { budget, ..staged::params() });
            stage.begin(0, 2).session(7, 200_000, 1_000).spend(spent_usd);
            budget_row(&stage)
        };
        assert_eq!(at(0.0, 7.0), None);
        let line = |words: &str| words.to_owned();
        assert_eq!(at(10.0, 7.9), Some((Style::Plain, line("task $7.90 of $10.00 (79 %)"))));
        assert_eq!(at(10.0, 8.0), Some((Style::Yellow, line("task $8.00 of $10.00 (80 %)"))));
        assert_eq!(at(10.0, 12.0), Some((Style::Red, line("task $12.00 of $10.00 (120 %)"))));
    }

    fn budget_row(stage: &Stage) -> Option<(Style, String)> {
        let moments = Moments::default();
        let rows = rows(&stage.view(), stage.now, moments, &TimeZone::UTC, 100, 20);
        let row = rows.into_iter().find(|row| row.pieces[0].1.trim() == "budget")?;
        row.pieces.last().cloned()
    }
}
