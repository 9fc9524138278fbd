//! The line itself. Pure: the same session and the same columns give the same line.

use super::input::Session;
use super::rate::Pace;
use crate::show::panel::{Row, Style};
use crate::text;
use crate::usage::Amount;

/// Columns of the bar.
const BAR: usize = 10;
/// Columns of a model's name.
const MODEL: usize = 28;
/// From here on the bar is yellow: a checkpoint would be asked for.
const NEAR_PERCENT: f64 = 70.0;
/// From here on it is red: the CLI compacts soon.
const FULL_PERCENT: f64 = 85.0;
/// What is not known.
const UNKNOWN: &str = "–";

/// What all sessions spent today.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Today {
    /// Dollars.
    pub spent: Amount,
    /// It is from a while ago.
    pub is_stale: bool,
}

/// A part of the line in its forms, the longest first.
type Forms = Vec<Vec<(Style, String)>>;

/// The line for at most `columns`.
pub fn line(session: &Session, today: Option<Today>, pace: Option<Pace>, columns: usize) -> Row {
    let mut parts = [
        model(session),
        context(session),
        cost(session),
        day(today),
        rate(pace),
        quota("5h", session.five_hour_percent),
        quota("7d", session.seven_day_percent),
    ];
    // What goes first when there is little room. Context stays to the end.
    const SHORTEN: [usize; 12] = [6, 5, 4, 2, 1, 0, 1, 3, 3, 2, 0, 1];
    let mut steps = SHORTEN.into_iter();
    loop {
        let row = join(&parts);
        if row.width() <= columns {
            return row;
        }
        let Some(part) = steps.next() else { return row };
        if !parts[part].is_empty() {
            parts[part].remove(0);
        }
    }
}

fn join(parts: &[Forms]) -> Row {
    let mut row = Row::default();
    for pieces in parts.iter().filter_map(|forms| forms.first()) {
        if row.width() > 0 {
            row = row.and(Style::Dim, " · ");
        }
        for (style, words) in pieces {
            row = row.and(*style, words);
        }
    }
    row
}

fn plain(words: String) -> Vec<(Style, String)> {
    vec![(Style::Plain, words)]
}

fn model(session: &Session) -> Forms {
    let name = text::safe(session.model.as_deref().unwrap_or(UNKNOWN));
    vec![plain(text::clip(&name, MODEL).into_owned()), plain(text::clip(&name, 12).into_owned())]
}

fn context(session: &Session) -> Forms {
    let Some(percent) = session.context_percent() else {
        return vec![plain(format!("context {UNKNOWN}")), plain(UNKNOWN.to_owned())];
    };
    let style = match percent {
        percent if percent >= FULL_PERCENT => Style::Red,
        percent if percent >= NEAR_PERCENT => Style::Yellow,
        _ => Style::Green,
    };
    let filled = ((percent / 100.0).clamp(0.0, 1.0) * BAR as f64).round() as usize;
    let bar = [(style, "█".repeat(filled)), (Style::Dim, "░".repeat(BAR - filled))];
    let short = (style, format!("{percent:.0} %"));
    let tokens = match (session.context_tokens, session.window_tokens) {
        (Some(tokens), Some(window)) => {
            format!(" {}/{}", text::tokens(tokens), text::tokens(window))
        }
        _ => String::new(),
    };
    let tokens = (Style::Plain, tokens);
    let [full, empty] = bar;
    let blank = (Style::Plain, " ".to_owned());
    vec![
        vec![full, empty, blank, short.clone(), tokens.clone()],
        vec![short.clone(), tokens],
        vec![short],
    ]
}

fn cost(session: &Session) -> Forms {
    let usd = session.cost_usd.map_or(UNKNOWN.to_owned(), text::usd);
    vec![plain(format!("session {usd}")), plain(usd)]
}

fn day(today: Option<Today>) -> Forms {
    let usd = match today {
        Some(Today { spent, is_stale }) => {
            let old = if is_stale { "~" } else { "" };
            // Models without a known price are not free, and cost nobody knows what.
            let more = if spent.unpriced_bound_usd > 0.0 { "+" } else { "" };
            format!("{old}{}{more}", text::usd(spent.cost_usd))
        }
        None => UNKNOWN.to_owned(),
    };
    vec![plain(format!("today {usd}"))]
}

fn rate(pace: Option<Pace>) -> Forms {
    let usd = pace.map_or(UNKNOWN.to_owned(), |pace| text::usd(pace.usd_per_hour));
    vec![plain(format!("{usd}/h"))]
}

fn quota(name: &str, percent: Option<f64>) -> Forms {
    let Some(percent) = percent else { return Vec::new() };
    let style = match percent {
        percent if percent >= 90.0 => Style::Red,
        percent if percent >= 75.0 => Style::Yellow,
        _ => Style::Plain,
    };
    vec![vec![(Style::Plain, format!("{name} ")), (style, format!("{percent:.0} %"))]]
}
