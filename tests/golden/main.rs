//! Every trap of the golden corpus, by the built program, by an oracle of its own, and by
//! what stands beside the trap; and the same totals however the files grew.
#![allow(missing_docs, clippy::unwrap_used)]

mod corpus;
mod damage;
mod dice;
mod oracle;
mod replay;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use corpus::{Trap, traps};
use jiff::tz::{Offset, TimeZone};
use longhaul::models::Models;
use longhaul::usage::{Account, Only, View};
use oracle::{Sums, Truth};
use serde_json::{Value, json};

const VIEWS: [&str; 8] =
    ["daily", "weekly", "monthly", "session", "project", "model", "agent", "blocks"];

/// `longhaul usage VIEW --json` of these configuration directories.
fn longhaul(room: &Path, dirs: &[PathBuf], args: &[&str]) -> Value {
    let list: Vec<&str> = dirs.iter().map(|dir| dir.to_str().unwrap()).collect();
    let output = Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .arg("usage")
        .args(args)
        .arg("--json")
        .env_clear()
        .env("HOME", room.join("home"))
        .env("LONGHAUL_STATE_DIR", room.join("state"))
        .env("CLAUDE_CONFIG_DIR", list.join(","))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}{complained}");
    serde_json::from_str(&said).unwrap()
}

/// Sums as the program prints them.
fn printed(sums: &Sums) -> Value {
    json!({
        "input": sums.input, "output": sums.output,
        "cache_write_5m": sums.cache_write_5m, "cache_write_1h": sums.cache_write_1h,
        "cache_read": sums.cache_read, "cost_usd": sums.cost_nano() as f64 / 1e9,
        "unpriced_tokens": sums.unpriced_tokens, "responses": sums.responses,
    })
}

/// Sums of an answer, dollars to the billionth.
fn as_told(said: &Value) -> Value {
    let mut sums = said.clone();
    sums["cost_usd"] = json!((said["cost_usd"].as_f64().unwrap() * 1e9).round() / 1e9);
    sums
}

/// The rows of an answer by key.
fn rows(seen: &Value) -> BTreeMap<String, Value> {
    let row = |row: &Value| {
        let mut sums = as_told(row).as_object().unwrap().clone();
        let key = sums.remove("key").unwrap().as_str().unwrap().to_owned();
        (key, Value::Object(sums))
    };
    let rows: Vec<(String, Value)> = seen["rows"].as_array().unwrap().iter().map(row).collect();
    let count = rows.len();
    let rows: BTreeMap<String, Value> = rows.into_iter().collect();
    assert_eq!(rows.len(), count, "a key comes twice: {seen:#}");
    rows
}

/// What one trap has that is not as it should be, one line each.
fn wrongs(trap: &Trap) -> Vec<String> {
    let room = tempfile::tempdir().unwrap();
    let dirs = trap.lay_out(room.path());
    let truth = Truth::of(&dirs);
    let mut wrongs = Vec::new();
    let mut same = |what: &str, left: &Value, right: &Value| {
        if left != right {
            wrongs.push(format!("{}, {what}:\n   {left}\n   {right}", trap.name));
        }
    };
    let expected = &trap.expected;
    same("totals, expected and oracle", &expected["totals"], &printed(&truth.totals()));
    let told = json!([truth.files, truth.bad_rows, truth.unidentified_rows]);
    let counts = ["files", "bad_rows", "unidentified_rows"];
    let of = |seen: &Value| Value::Array(counts.map(|key| seen[key].clone()).to_vec());
    same("files, bad and unidentified rows, expected and oracle", &of(expected), &told);
    // One reading of 60 MB is enough.
    let views = if trap.name == "long_line" { &VIEWS[..1] } else { &VIEWS };
    for view in views {
        let seen = longhaul(room.path(), &dirs, &[view, "--timezone", "UTC"]);
        same(&format!("totals of {view}"), &expected["totals"], &as_told(&seen["totals"]));
        same(&format!("counts of {view}"), &of(expected), &of(&seen));
        let ours = rows(&seen);
        let theirs: BTreeMap<String, Value> = truth
            .by(view, &TimeZone::UTC)
            .into_iter()
            .map(|(key, sums)| (key, printed(&sums)))
            .collect();
        same(&format!("rows of {view}, oracle and longhaul"), &json!(theirs), &json!(ours));
        if let Some(wanted) = expected["views"].get(view) {
            same(&format!("rows of {view}, expected and longhaul"), wanted, &json!(ours));
        }
    }
    wrongs
}

#[test]
fn every_trap_comes_to_what_stands_beside_it() {
    let wrongs: Vec<String> = traps().iter().flat_map(wrongs).collect();
    assert!(wrongs.is_empty(), "{} wrongs\n{}", wrongs.len(), wrongs.join("\n"));
}

/// Days of other zones, half and quarter hours off among them; and a day asked for by
/// itself is that row of the days.
#[test]
fn days_are_those_of_the_zone_and_may_be_asked_for_alone() {
    let zones = [(0, 0), (5, 45), (-3, -30), (14, 0), (-12, 0)]
        .map(|(hours, minutes)| Offset::from_seconds((hours * 60 + minutes) * 60).unwrap());
    let mut days = 0;
    for trap in traps().iter().filter(|trap| trap.files().is_some()) {
        let room = tempfile::tempdir().unwrap();
        let dirs = trap.lay_out(room.path());
        let (truth, account) = (Truth::of(&dirs), Account::of(&dirs, Models::builtin()));
        for zone in zones.map(TimeZone::fixed) {
            let told = |view: View, only: &Only| {
                serde_json::to_value(account.view(view, only, &zone)).unwrap()
            };
            for view in [View::Daily, View::Weekly, View::Monthly, View::Blocks] {
                let ours = rows(&told(view, &Only::default()));
                for (key, sums) in truth.by(view.as_str(), &zone) {
                    assert_eq!(ours.get(&key), Some(&printed(&sums)), "{}: {key}", trap.name);
                }
            }
            for (key, sums) in truth.by("daily", &zone) {
                let Ok(day) = key.parse() else { continue };
                days += 1;
                let only = Only { since: Some(day), until: Some(day), project: None };
                let alone = told(View::Session, &only);
                assert_eq!(as_told(&alone["totals"]), printed(&sums), "{}: {key}", trap.name);
            }
        }
    }
    assert!(days > 400, "{days}");
}

/// Views that do not depend on the order of the rows within a file.
const OF_ANY_ORDER: [&str; 6] = ["daily", "weekly", "monthly", "blocks", "model", "session"];

#[test]
fn however_files_grow_the_library_says_the_same() {
    let look = |dirs: &[PathBuf], view: View| {
        let account = Account::of(dirs, Models::builtin());
        serde_json::to_value(account.view(view, &Only::default(), &TimeZone::UTC)).unwrap()
    };
    for seed in 1..=300 {
        replay::check(seed, |_, dirs, view| {
            look(dirs, View::from_str(view, false).expect("a view"))
        });
    }
}

/// The program keeps its state from one step to the next.
#[test]
fn however_files_grow_the_program_says_the_same() {
    for seed in 1_001..=1_025 {
        replay::check(seed, |room, dirs, view| longhaul(room, dirs, &[view, "--timezone", "UTC"]));
    }
}
