//! `longhaul statusline`: a line for whatever the CLI says of a session, and never an
//! error, nor a file in the project.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use longhaul::demo::api::{Reply, Request, Usage};
use serde_json::{Value, json};

use super::support::{Lab, Terminal, ticks_at_once};

/// What the line is for that input.
fn line_of(command: &mut Command, input: &[u8]) -> String {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    // It may have drawn already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success(), "{said:?}");
    assert_eq!(said.stderr, b"", "{said:?}");
    let line = String::from_utf8(said.stdout).unwrap();
    assert_eq!((line.matches('\n').count(), line.ends_with('\n')), (1, true), "{line:?}");
    line.trim_end().to_owned()
}

fn statusline(lab: &Lab) -> Command {
    let mut command = lab.longhaul_command(&["statusline"]);
    command.env("NO_COLOR", "1");
    command
}

fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => found.push(entry.path().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn of_what_the_real_cli_says_and_all_sessions_spent_today() {
    let mut lab = Lab::new(ticks_at_once);
    lab.watch_statusline();
    lab.run().finished().ended(0, "done");
    let report = lab.report();
    let id = report["cycles"][0]["session_id"].as_str().unwrap();
    let said = lab.statusline(id).pop().unwrap().to_string();
    let before = files_below(&lab.project());

    // Nobody has looked at the account yet; this has it looked at.
    let first = line_of(&mut statusline(&lab), said.as_bytes());
    assert!(first.contains("today –") && first.contains("Haiku 4.5"), "{first}");
    lab.wait_change("the account", || lab.state_dir().join("usage-now.json").exists());
    let line = line_of(&mut statusline(&lab), said.as_bytes());
    let usd = format!("${:.2}", report["totals"]["cost_usd"].as_f64().unwrap());
    assert!(line.contains(&format!("today {usd}")), "{line}\n{report:#}");
    assert!(line.contains("% 20.") && line.contains("/200k"), "{line}");
    assert_eq!(files_below(&lab.project()), before, "nothing is left in the project");
    lab.wait_for_no_survivors();
}

#[test]
fn a_session_with_it_in_the_persons_settings_shows_it() {
    let lab = Lab::new(|request: &Request| match request.side {
        true => Reply::side(Usage::default()),
        false => Reply::text("Hello.", Usage::of_context(20_000, 20_000, 50)),
    });
    let command = format!("{} statusline", env!("CARGO_BIN_EXE_longhaul"));
    let settings = json!({ "statusLine": { "type": "command", "command": command } });
    let file = lab.home.config_dir().join("settings.json");
    fs::write(file, settings.to_string()).unwrap();
    let memory = |id: &str| lab.state_dir().join(format!("statusline/{id}.json"));

    let id = "5e551011-0000-4000-8000-000000000001";
    let mut command = lab.claude();
    command.args(["--session-id", id, "--model", "claude-haiku-4-5", "--", "hello"]);
    let terminal = Terminal::start(&command);
    lab.wait_change("the line's memory", || memory(id).exists());
    // With directories that were named it has a name of its own.
    let is_account = |file: &String| file.contains("/usage-now-") && file.ends_with(".json");
    lab.wait_change("the account", || files_below(&lab.state_dir()).iter().any(is_account));
    let screen = terminal.end();
    assert!(screen.contains("Haiku"), "{screen}");

    // A supervised session draws longhaul's own, and neither disturbs the other.
    let run = lab.run();
    let context = run.wait_event_where("the CLI's word on the window", |events| {
        let of = events
            .iter()
            .find(|event| event["event"] == "context" && event["window_source"] == "statusline");
        of.cloned()
    });
    assert_eq!(context["window"], 200_000);
    assert_eq!(lab.longhaul_output(&["stop", "--now"]).code(), 0);
    let ended = run.finished().ended(143, "stopped");
    let own = ended.event("session_started")["session_id"].as_str().unwrap();
    let memories = fs::read_dir(lab.state_dir().join("statusline")).unwrap().count();
    assert_eq!((memories, own == id), (1, false), "the person's line was not drawn");
}

#[test]
fn of_anything_at_all() {
    let lab = Lab::new(ticks_at_once);
    let hostile = json!({
        "session_id": "../../project/x",
        "model": { "display_name": "\u{1b}]0;owned\u{7}\u{1b}[2J漢字\u{202e}\nevil" },
        "cost": { "total_cost_usd": "much", "total_duration_ms": -5 },
        "context_window": { "total_input_tokens": 1e300, "context_window_size": 200_000 },
        "rate_limits": { "five_hour": { "used_percentage": 41.4 }, "seven_day": 7 },
    })
    .to_string();
    let before = files_below(&lab.project());
    for input in ["", "{", "[[[[", "null", "\u{0}\u{ff}", &hostile, &"[".repeat(100_000)] {
        for columns in ["1", "20", "80", "200", "x"] {
            let line = line_of(statusline(&lab).env("COLUMNS", columns), input.as_bytes());
            assert!(!line.chars().any(longhaul::text::is_hazard), "{line:?}");
            let most = columns.parse().unwrap_or(200);
            assert!(longhaul::text::width(&line) <= most, "{columns}: {line:?}");
        }
    }
    assert_eq!(files_below(&lab.project()), before);
    let coloured = line_of(&mut lab.longhaul_command(&["statusline"]), hostile.as_bytes());
    let escapes: Vec<&str> = coloured.split('\u{1b}').skip(1).collect();
    let is_colour =
        |rest: &&str| rest.starts_with('[') && rest[1..].starts_with(|c: char| c.is_ascii_digit());
    assert!(!escapes.is_empty() && escapes.iter().all(is_colour), "{coloured:?}");
    let dumb = line_of(lab.longhaul_command(&["statusline"]).env("TERM", "dumb"), b"{}");
    assert!(!dumb.contains('\u{1b}'), "{dumb:?}");
    lab.wait_for_no_survivors();
}

#[test]
fn wherever_nothing_can_be_kept() {
    let lab = Lab::new(ticks_at_once);
    let said = fs::read("tests/data/sink/statusline.json").unwrap();
    let is_whole = |line: &str| {
        assert!(line.contains("Opus 5.5") && line.contains("$0.21"), "{line}");
        assert!(line.contains("today –"), "{line}");
    };
    is_whole(&line_of(statusline(&lab).env_remove("HOME").env_remove("LONGHAUL_STATE_DIR"), &said));
    is_whole(&line_of(statusline(&lab).env("LONGHAUL_STATE_DIR", "relative"), &said));
    is_whole(&line_of(statusline(&lab).env("LONGHAUL_STATE_DIR", "/proc/nothing"), &said));
    // The state in the project: nothing is written there.
    let mut inside: Value = serde_json::from_slice(&said).unwrap();
    inside["workspace"]["project_dir"] = json!(lab.project());
    let state = lab.project().join("state");
    let before = files_below(&lab.project());
    is_whole(&line_of(
        statusline(&lab).env("LONGHAUL_STATE_DIR", &state),
        inside.to_string().as_bytes(),
    ));
    assert_eq!(files_below(&lab.project()), before);
    lab.wait_for_no_survivors();
}

#[test]
fn yesterdays_figure_is_not_todays_and_an_old_one_says_so() {
    let lab = Lab::new(ticks_at_once);
    let said = fs::read("tests/data/sink/statusline.json").unwrap();
    line_of(&mut statusline(&lab), &said);
    let file = lab.state_dir().join("usage-now.json");
    lab.wait_change("the account", || file.exists());
    lab.wait_for_no_survivors();
    let found: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let lines = |change: &dyn Fn(&mut Value)| {
        let mut changed = found.clone();
        changed["spent"]["day"]["cost_usd"] = json!(14.2);
        change(&mut changed);
        fs::write(&file, changed.to_string()).unwrap();
        line_of(&mut statusline(&lab), &said)
    };
    let moved = |key: &str, ms: i64| json!(found[key].as_i64().unwrap() + ms);
    assert!(lines(&|_| {}).contains("today $14.20"));
    assert!(lines(&|f| f["at_unix_ms"] = moved("at_unix_ms", -90_000)).contains("today ~$14.20"));
    let line = lines(&|f| f["day_ends_unix_ms"] = moved("at_unix_ms", -1));
    assert!(line.contains("today –"), "{line}");
    let line = lines(&|f| f["spent"]["day"]["unpriced_bound_usd"] = json!(1.0));
    assert!(line.contains("today $14.20+"), "{line}");
    for odd in ["", "{", "[]", r#"{"format":2}"#] {
        fs::write(&file, odd).unwrap();
        assert!(line_of(&mut statusline(&lab), &said).contains("today –"), "{odd}");
    }
    lab.wait_for_no_survivors();
}

#[test]
fn an_argument_that_it_does_not_know_is_let_be() {
    let lab = Lab::new(ticks_at_once);
    let mut command = lab.longhaul_command(&["statusline", "--bogus", "x"]);
    assert!(line_of(command.env("NO_COLOR", "1"), b"{}").contains("context"));
    let help = lab.longhaul_output(&["statusline", "--help"]);
    assert!(help.code() == 0 && help.stdout.contains("Usage: "), "{help:#?}");
}
