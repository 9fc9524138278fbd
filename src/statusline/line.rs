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
    // What gives way first when there is little room. How full the context is stays.
    const SHORTEN: [usize; 10] = [6, 2, 5, 4, 1, 0, 1, 3, 2, 0];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::look::Look;
    use proptest::prelude::*;

    fn session() -> Session {
        Session {
            model: Some("Opus 5.5".into()),
            context_tokens: Some(124_400),
            window_tokens: Some(200_000),
            cost_usd: Some(1.234),
            five_hour_percent: Some(41.0),
            seven_day_percent: Some(91.6),
            ..Session::default()
        }
    }

    fn today(cost_usd: f64, unpriced_bound_usd: f64, is_stale: bool) -> Option<Today> {
        Some(Today { spent: Amount { cost_usd, unpriced_bound_usd }, is_stale })
    }

    fn plain(session: &Session, today: Option<Today>, usd_per_hour: f64, columns: usize) -> String {
        let look = Look { has_colour: false, has_unicode: true };
        let pace = Some(Pace { usd_per_hour });
        line(session, today, pace, columns).paint(columns, look)
    }

    #[test]
    fn what_matters_least_goes_first() {
        let lines: Vec<_> = [120, 90, 80, 70, 60, 50, 40, 30, 20, 10, 4, 1]
            .map(|columns| plain(&session(), today(14.2, 0.0, false), 3.1, columns))
            .into();
        insta::assert_snapshot!(lines.join("\n"), @"
        Opus 5.5 · ██████░░░░ 62 % 124k/200k · session $1.23 · today $14.20 · $3.10/h · 5h 41 % · 7d 92 %
        Opus 5.5 · ██████░░░░ 62 % 124k/200k · session $1.23 · today $14.20 · $3.10/h · 5h 41 %
        Opus 5.5 · ██████░░░░ 62 % 124k/200k · $1.23 · today $14.20 · $3.10/h · 5h 41 %
        Opus 5.5 · ██████░░░░ 62 % 124k/200k · $1.23 · today $14.20 · $3.10/h
        Opus 5.5 · ██████░░░░ 62 % 124k/200k · $1.23 · today $14.20
        Opus 5.5 · 62 % 124k/200k · $1.23 · today $14.20
        Opus 5.5 · 62 % · $1.23 · today $14.20
        Opus 5.5 · 62 % · $1.23
        Opus 5.5 · 62 %
        62 %
        62 %
        …
        ");
    }

    #[test]
    fn what_is_not_known_is_a_dash_and_what_is_old_or_not_all_says_so() {
        let look = Look { has_colour: false, has_unicode: true };
        let empty = line(&Session::default(), None, None, 100).paint(100, look);
        assert_eq!(empty, "– · context – · session – · today – · –/h");
        let own = Session { used_percent: Some(12.4), ..Session::default() };
        let own = line(&own, today(0.004, 0.0, true), None, 100).paint(100, look);
        assert_eq!(own, "– · █░░░░░░░░░ 12 % · session – · today ~<$0.01 · –/h");
        let more = line(&Session::default(), today(0.0, 3.0, false), None, 100).paint(100, look);
        assert!(more.contains("today $0.00+"), "{more}");
        let ascii = Look { has_colour: false, has_unicode: false };
        let ascii = line(&session(), None, None, 100).paint(100, ascii);
        assert!(ascii.starts_with("Opus 5.5 - ######.... 62 % ") && ascii.is_ascii(), "{ascii}");
    }

    #[test]
    fn colours_say_how_near_the_end_is() {
        let look = Look { has_colour: true, has_unicode: true };
        let code = |tokens| {
            let session = Session { context_tokens: Some(tokens), ..session() };
            let line = line(&session, None, None, 100).paint(100, look);
            let from = line.find('█').unwrap();
            line[..from].rsplit("\x1b[").next().unwrap().to_owned()
        };
        assert_eq!([100_000, 139_000, 140_000, 170_000].map(code), ["32m", "32m", "33m", "1;31m"]);
    }

    proptest! {
        #[test]
        fn it_fits_and_steers_no_terminal(
            model in any::<String>(),
            tokens in any::<u64>(),
            window in 1..u64::MAX,
            cost in prop_oneof![any::<f64>(), 0.0..1e9],
            columns in 1_usize..200,
        ) {
            let session = Session {
                model: Some(model),
                context_tokens: Some(tokens),
                window_tokens: Some(window),
                cost_usd: Some(cost),
                ..session()
            };
            let shown = plain(&session, today(cost, 0.0, true), cost, columns);
            prop_assert!(text::width(&shown) <= columns, "{shown}");
            prop_assert!(!shown.chars().any(text::is_hazard), "{shown}");
        }
    }
}
