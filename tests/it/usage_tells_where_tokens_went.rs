//! `longhaul usage` over what the real CLI wrote: its own bill, by every view.

use serde_json::{Value, json};

use super::support::{Lab, ticks_at_once};

fn usage(lab: &Lab, args: &[&str]) -> Value {
    let args = [&["usage"], args, &["--json"]].concat();
    let said = lab.longhaul_output(&args);
    assert_eq!(said.code(), 0, "{}", said.dump());
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn every_view_adds_up_to_the_bill_of_the_cli() {
    let lab = Lab::new(ticks_at_once);
    lab.run().finished().ended(0, "done");
    let report = lab.report();
    let all = usage(&lab, &["session"]);
    let cost = report["totals"]["cost_usd"].as_f64().unwrap();
    assert!(cost > 0.0);
    let sum = all["totals"]["cost_usd"].as_f64().unwrap();
    assert!((sum - cost).abs() < 1e-6, "{all:#}\n{report:#}");
    assert_eq!(all["totals"]["unpriced_tokens"], 0);
    assert_eq!(all["rows"][0]["key"], report["cycles"][0]["session_id"]);
    let sums = |view: &Value| {
        let rows = view["rows"].as_array().unwrap().clone();
        let of = |key: &str| rows.iter().map(|row| row[key].as_u64().unwrap()).sum::<u64>();
        ["input", "output", "cache_write_5m", "cache_write_1h", "cache_read", "responses"].map(of)
    };
    for view in ["daily", "weekly", "monthly", "session", "project", "model", "agent", "blocks"] {
        let seen = usage(&lab, &[view]);
        assert_eq!(seen["view"], view);
        assert_eq!(sums(&seen), sums(&all), "{view}: {seen:#}");
        assert_eq!(seen["totals"], all["totals"], "{view}");
    }
    let project = lab.project().display().to_string();
    assert_eq!(usage(&lab, &["project"])["rows"][0]["key"], json!(project));
    assert_eq!(usage(&lab, &["--project", &project])["totals"], all["totals"]);
    assert_eq!(usage(&lab, &["--project", "/elsewhere"])["rows"], json!([]));
    assert_eq!(usage(&lab, &["--since", "2099-01-01"])["totals"]["responses"], 0);
}

#[test]
fn people_get_a_table_and_spreadsheets_values() {
    let lab = Lab::new(ticks_at_once);
    lab.run().finished().ended(0, "done");
    let table = lab.longhaul_output(&["usage", "model"]);
    assert!(
        table.stdout.contains("claude-haiku-4-5") && table.stdout.contains("total"),
        "{table:?}"
    );
    let csv = lab.longhaul_output(&["usage", "model", "--csv"]);
    let mut lines = csv.stdout.lines();
    assert!(lines.next().unwrap().starts_with("key,input,output,cache_write_5m,"), "{csv:?}");
    assert_eq!(lines.next().unwrap().split(',').count(), 9);
    for args in
        [&["--since", "soon"][..], &["--timezone", "Mars"], &["yearly"], &["--json", "--csv"]]
    {
        let args = [&["usage"], args].concat();
        lab.longhaul_output(&args).failed(64, &[]);
    }
}
