//! A view as people and spreadsheets read it.

use crate::text::{self, Side};
use crate::usage::{Line, Seen, Sums};

/// Width of the longest bar.
const BAR_COLUMNS: usize = 20;
/// Shorter ones say nothing.
const BAR_MIN_COLUMNS: usize = 4;
/// Longest key in a table, and what is left of it however narrow the terminal.
const KEY_COLUMNS: usize = 48;
const KEY_MIN_COLUMNS: usize = 10;
/// Between two columns.
const GAP: &str = "  ";

/// Lines of values with commas between, as RFC 4180 has them.
pub(super) fn csv(seen: &Seen) -> String {
    let mut out = String::from(
        "key,input,output,cache_write_5m,cache_write_1h,cache_read,cost_usd,unpriced_tokens,responses\n",
    );
    for line in &seen.rows {
        let Sums { input, output, cache_write_5m, cache_write_1h, cache_read, .. } = line.sums;
        let Sums { cost_usd, unpriced_tokens, responses, .. } = line.sums;
        out.push_str(&format!(
            "{},{input},{output},{cache_write_5m},{cache_write_1h},{cache_read},{cost_usd},\
             {unpriced_tokens},{responses}\n",
            quoted(&line.key)
        ));
    }
    out
}

/// A value as RFC 4180 wants it. What a spreadsheet would take for a formula is none.
fn quoted(value: &str) -> String {
    let value = text::safe(value);
    let is_formula = value.starts_with(['=', '+', '-', '@']);
    let value = if is_formula { format!("'{value}") } else { value.into_owned() };
    match value.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", value.replace('"', "\"\"")),
        false => value,
    }
}

const HEAD: [(&str, Side); 8] = [
    ("", Side::Left),
    ("input", Side::Right),
    ("output", Side::Right),
    ("5m write", Side::Right),
    ("1h write", Side::Right),
    ("read", Side::Right),
    ("cost", Side::Right),
    ("", Side::Left),
];

/// A table of these of its rows, with a bar for the money of each, in so many columns
/// where that can be.
pub(super) fn table(seen: &Seen, shown: &[Line], columns: usize) -> String {
    if seen.rows.is_empty() {
        return format!("Nothing was used ({}).\n", found(seen));
    }
    let most = seen.rows.iter().map(|line| line.sums.cost_usd).fold(0.0, f64::max);
    let mut rows: Vec<[String; 8]> =
        shown.iter().map(|line| cells(&text::safe(&line.key), &line.sums)).collect();
    rows.push(cells("total", &seen.totals));
    let mut widths: [usize; 8] = std::array::from_fn(|at| {
        let widest = rows.iter().map(|row| text::width(&row[at])).max().unwrap_or(0);
        widest.max(text::width(HEAD[at].0))
    });
    // What the numbers leave is for the keys, and then for the bars.
    let numbers: usize = widths[1..7].iter().map(|width| width + GAP.len()).sum();
    let left = columns.saturating_sub(numbers);
    let longest = left.clamp(KEY_MIN_COLUMNS, KEY_COLUMNS);
    widths[0] = widths[0].min(longest).max(text::width(seen.view));
    let bars = left.saturating_sub(widths[0] + GAP.len()).min(BAR_COLUMNS);
    for (row, line) in rows.iter_mut().zip(shown) {
        row[7] = bar(line.sums.cost_usd, most, bars);
    }
    for row in &mut rows {
        row[0] = text::clip(&row[0], widths[0]).into_owned();
    }
    let put = |cells: [&str; 8]| {
        let padded = std::iter::zip(cells, std::iter::zip(widths, HEAD))
            .map(|(cell, (width, (_, side)))| text::pad(cell, width, side));
        padded.collect::<Vec<_>>().join(GAP).trim_end().to_owned() + "\n"
    };
    let mut out = put(std::array::from_fn(|at| match at {
        0 => seen.view,
        _ => HEAD[at].0,
    }));
    for row in &rows {
        out.push_str(&put(std::array::from_fn(|at| row[at].as_str())));
    }
    let totals = &seen.totals;
    if totals.unpriced_tokens > 0 {
        out.push_str(&format!(
            "{} tokens are of models without a known price, and in no cost.\n",
            text::grouped(totals.unpriced_tokens)
        ));
    }
    out.push_str(&format!(
        "{} ({})\n",
        text::count(totals.responses, "response", "responses"),
        found(seen)
    ));
    out
}

fn cells(key: &str, sums: &Sums) -> [String; 8] {
    let cost = text::usd(sums.cost_usd);
    // What is not all must not look so, nor what nobody knows like nothing.
    let cost = match (sums.unpriced_tokens, sums.cost_usd > 0.0) {
        (0, _) => cost,
        (_, true) => format!("{cost} +?"),
        (_, false) => "unpriced".into(),
    };
    let counts =
        [sums.input, sums.output, sums.cache_write_5m, sums.cache_write_1h, sums.cache_read];
    let [input, output, short, long, read] = counts.map(text::tokens);
    [key.to_owned(), input, output, short, long, read, cost, String::new()]
}

fn bar(cost_usd: f64, most_usd: f64, most_columns: usize) -> String {
    if most_usd <= 0.0 || cost_usd <= 0.0 || most_columns < BAR_MIN_COLUMNS {
        return String::new();
    }
    let columns = (cost_usd / most_usd * most_columns as f64).round().max(1.0);
    "#".repeat(columns as usize)
}

fn found(seen: &Seen) -> String {
    let mut parts = vec![text::count(seen.files, "transcript", "transcripts")];
    if seen.bad_rows > 0 {
        parts.push(text::count(seen.bad_rows, "damaged row", "damaged rows"));
    }
    if seen.unidentified_rows > 0 {
        let rows = text::count(seen.unidentified_rows, "row", "rows");
        parts.push(format!("{rows} without an id, not counted"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_the_terminal() {
        let sums = Sums { input: 1_234_567, cost_usd: 12.5, responses: 3, ..Sums::default() };
        let unknown = Sums { unpriced_tokens: 5, ..Sums::default() };
        let row = |key: &str, sums| Line { key: key.into(), sums };
        let seen = Seen {
            view: "session",
            rows: vec![row("5e551011-0000-4000-8000-000000000001", sums), row("x", unknown)],
            totals: Sums { unpriced_tokens: 5, ..sums },
            files: 1,
            bytes_read: 0,
            bad_rows: 0,
            unidentified_rows: 0,
        };
        for columns in [70, 80, 100, 200] {
            let text = table(&seen, &seen.rows, columns);
            let widest = text.lines().map(text::width).max().unwrap();
            assert!(widest <= columns, "{columns}: {text}");
            assert!(text.contains("5e551011") && text.contains("unpriced"), "{text}");
        }
        let wide = table(&seen, &seen.rows, 200);
        assert!(wide.contains("000000000001") && wide.contains(&"#".repeat(20)), "{wide}");
        assert!(wide.contains("$12.50 +?"), "{wide}");
    }

    #[test]
    fn a_value_is_no_formula_and_no_escape() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("=cmd()"), "'=cmd()");
        assert!(!quoted("\u{1b}[2J").contains('\u{1b}'));
    }
}
