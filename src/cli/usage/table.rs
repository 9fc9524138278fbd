//! A view as people and spreadsheets read it.

use crate::text::{self, Side};
use crate::usage::{Line, Seen, Sums};

/// Width of the longest bar.
const BAR_COLUMNS: usize = 20;
/// Longest key in a table.
const KEY_COLUMNS: usize = 48;

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
    ("written 5m", Side::Right),
    ("written 1h", Side::Right),
    ("read", Side::Right),
    ("cost", Side::Right),
    ("", Side::Left),
];

/// A table of these of its rows, with a bar for the money of each.
pub(super) fn table(seen: &Seen, shown: &[Line]) -> String {
    if seen.rows.is_empty() {
        return format!("Nothing was used ({}).\n", found(seen));
    }
    let most = seen.rows.iter().map(|line| line.sums.cost_usd).fold(0.0, f64::max);
    let mut rows: Vec<[String; 8]> = shown
        .iter()
        .map(|line| {
            let key = text::safe(&line.key);
            let mut row = cells(&text::clip(&key, KEY_COLUMNS), &line.sums);
            row[7] = bar(line.sums.cost_usd, most);
            row
        })
        .collect();
    rows.push(cells("total", &seen.totals));
    let widths: [usize; 8] = std::array::from_fn(|at| {
        let widest = rows.iter().map(|row| text::width(&row[at])).max().unwrap_or(0);
        widest.max(text::width(HEAD[at].0))
    });
    let put = |cells: [&str; 8]| {
        let padded = std::iter::zip(cells, std::iter::zip(widths, HEAD))
            .map(|(cell, (width, (_, side)))| text::pad(cell, width, side));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
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
    // What is not all must not look so.
    let cost = if sums.unpriced_tokens > 0 { format!("{cost} +?") } else { cost };
    let counts =
        [sums.input, sums.output, sums.cache_write_5m, sums.cache_write_1h, sums.cache_read];
    let [input, output, short, long, read] = counts.map(text::tokens);
    [key.to_owned(), input, output, short, long, read, cost, String::new()]
}

fn bar(cost_usd: f64, most_usd: f64) -> String {
    if most_usd <= 0.0 || cost_usd <= 0.0 {
        return String::new();
    }
    let columns = (cost_usd / most_usd * BAR_COLUMNS as f64).round().max(1.0);
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
    fn a_value_is_no_formula_and_no_escape() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("=cmd()"), "'=cmd()");
        assert!(!quoted("\u{1b}[2J").contains('\u{1b}'));
    }
}
