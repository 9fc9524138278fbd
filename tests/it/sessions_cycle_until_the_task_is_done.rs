//! The main job: three sessions, each asked for a checkpoint at 70 %, each
//! followed by a fresh one, until the task file says done.

use std::collections::HashSet;
use std::fs;

use serde_json::{Value, json};

use super::support::{Lab, Story, Worker};

const CYCLE: [&str; 6] = [
    "session_started",
    "threshold_reached",
    "checkpoint_requested",
    "checkpoint_delivered",
    "checkpoint_verified",
    "session_ended",
];

#[test]
fn three_sessions_hand_over_and_the_fourth_finishes() {
    let mut lab = Lab::new(Worker {
        done_in_session: Some(4),
        tick_one_per_session: true,
        ..Worker::brisk()
    });
    lab.write("dev-docs/tasks.md", "# Tasks\n\n- [ ] 1\n- [ ] 2\n- [ ] 3\n- [ ] 4\n- [ ] 5\n");
    let own_settings = lab.home.config_dir().join("settings.json");
    fs::write(&own_settings, "{\"theme\": \"light\"}\n").unwrap();
    let story = lab.story(&[], 0);

    events(&story);
    sessions(&lab, &story);
    checkpoints(&story);
    report(&lab, &story);
    assert_eq!(fs::read_to_string(own_settings).unwrap(), "{\"theme\": \"light\"}\n");
}

fn events(story: &Story) {
    let run = &story.run;
    for cycle in 1..=3 {
        assert_eq!(run.milestones(cycle), CYCLE, "{}", run.dump());
    }
    assert_eq!(run.milestones(4), ["session_started", "session_ended", "run_finished"]);
    assert_eq!(run.reasons(), ["threshold", "threshold", "threshold", "done"]);
    for event in &run.events {
        assert_eq!(event["run_id"], run.events[0]["run_id"], "{event}");
        let ts: jiff::Timestamp = event["ts"].as_str().unwrap().parse().unwrap();
        assert!(ts.as_millisecond() > 0 && event["cycle"].is_u64(), "{event}");
        fields(event);
    }
    let times: Vec<_> = run.events.iter().map(|e| e["ts"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let finished = run.named("run_finished")[0];
    assert_eq!((&finished["outcome"], &finished["exit_code"]), (&json!("done"), &json!(0)));
    for event in run.named("threshold_reached") {
        // The third answer, on a window of 200,000.
        assert_eq!((&event["tokens"], &event["percent"]), (&json!(140_000), &json!(70)));
    }
    assert_eq!(run.field("session_ended", "exit"), vec![json!(143); 4]);
    let files = json!(["dev-docs/PROJECT_SUMMARY.md", "dev-docs/plan.md", "dev-docs/tasks.md"]);
    assert_eq!(run.field("checkpoint_verified", "files"), vec![files; 3]);
}

/// The promised fields of an event, with their types.
fn fields(event: &Value) {
    let name = event["event"].as_str().unwrap();
    let (strings, numbers): (&[&str], &[&str]) = match name {
        "session_started" => (&["session_id", "model"], &["pid"]),
        "context" => (&["window_source"], &["tokens", "window", "percent"]),
        "session_ended" => (&["reason"], &["exit"]),
        "run_finished" => (&["outcome"], &["exit_code"]),
        _ => (&[], &[]),
    };
    assert!(strings.iter().all(|field| event[*field].is_string()), "{event}");
    assert!(numbers.iter().all(|field| event[*field].is_u64()), "{event}");
}

/// Fresh sessions, each begun with the init command, none resumed.
fn sessions(lab: &Lab, story: &Story) {
    let ids = story.run.sessions();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 4, "{ids:?}");
    let told = story.run.field("session_started", "model");
    assert_eq!(told, vec![json!("claude-haiku-4-5"); 4]);
    let requests = lab.api.requests();
    for id in &ids {
        let first = requests.iter().find(|r| !r.side && r.session_id == *id).unwrap();
        assert!(first.new_user_text.contains("<command-name>/session-init</command-name>"));
        assert!(first.new_user_text.contains("Read dev-docs/PROJECT_SUMMARY.md"));
        // Nothing of an earlier session comes along.
        assert!(first.turns.iter().all(|turn| turn.tool_uses.is_empty()), "{id} was resumed");
    }
    let asked: HashSet<_> = requests.iter().map(|r| r.session_id.clone()).collect();
    assert_eq!(asked.len(), 4, "a session longhaul did not start");
}

/// Each is copied as it was; the last copy is the last session's start.
fn checkpoints(story: &Story) {
    let folders = story.of_cycles("checkpoint.folder");
    for (index, folder) in folders[..3].iter().enumerate() {
        let read = |name: &str| {
            fs::read_to_string(format!("{}/dev-docs/{name}", folder.as_str().unwrap())).unwrap()
        };
        let session = index + 1;
        for name in ["PROJECT_SUMMARY.md", "plan.md", "tasks.md"] {
            let text = read(name);
            assert_eq!(text.matches("Checkpoint of session").count(), session, "{text}");
            assert!(text.contains(&format!("Checkpoint of session {session},")), "{text}");
        }
        assert_eq!(read("tasks.md").matches("- [x]").count(), session);
    }
    assert_eq!(folders[3], Value::Null);
}

const RUN_FIELDS: [&str; 6] =
    ["run_id", "outcome", "exit_code", "started_at", "ended_at", "cycles"];
const CYCLE_FIELDS: [&str; 15] = [
    "cycle",
    "session_id",
    "started_at",
    "ended_at",
    "end_reason",
    "model",
    "peak_context_tokens",
    "window_tokens",
    "peak_context_percent",
    "usage",
    "cost_usd",
    "tasks_done_before",
    "tasks_done_after",
    "tasks_total",
    "checkpoint",
];

fn report(lab: &Lab, story: &Story) {
    let report = &story.report;
    assert!(RUN_FIELDS.iter().all(|field| !report[*field].is_null()), "{report:#}");
    for cycle in report["cycles"].as_array().unwrap() {
        assert!(CYCLE_FIELDS.iter().all(|field| !cycle[*field].is_null()), "{cycle:#}");
    }
    for (key, value) in [
        ("run_id", story.run.events[0]["run_id"].clone()),
        ("outcome", json!("done")),
        ("exit_code", json!(0)),
        ("tasks_done_before", json!(0)),
        ("tasks_done_after", json!(5)),
    ] {
        assert_eq!(report[key], value, "{key}");
    }
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time(&report["started_at"]) < time(&report["ended_at"]));
    assert_eq!(story.of_cycles("cycle"), [1, 2, 3, 4]);
    assert_eq!(story.of_cycles("session_id"), story.run.sessions());
    assert_eq!(story.of_cycles("end_reason"), ["threshold", "threshold", "threshold", "done"]);
    assert_eq!(story.of_cycles("model"), ["claude-haiku-4-5"; 4]);
    assert_eq!(story.of_cycles("window_tokens"), [200_000; 4]);
    assert_eq!(story.of_cycles("tasks_done_before"), [0, 1, 2, 3]);
    assert_eq!(story.of_cycles("tasks_done_after"), [1, 2, 3, 5]);
    assert_eq!(story.of_cycles("tasks_total"), [5; 4]);
    let status = story.of_cycles("checkpoint.status");
    assert_eq!(status, ["verified", "verified", "verified", "none"]);
    for cycle in report["cycles"].as_array().unwrap() {
        assert!(time(&cycle["started_at"]) < time(&cycle["ended_at"]), "{cycle:#}");
        let id = cycle["session_id"].as_str().unwrap();
        assert_eq!(cycle["usage"], usage_in(&lab.transcript(id)), "{cycle:#}");
        assert!(cycle["checkpoint"]["files"].is_array());
    }
}

/// Tokens by kind, each message once, counted without longhaul's code.
fn usage_in(rows: &[Value]) -> Value {
    let mut seen = HashSet::new();
    let mut sum = [0; 5];
    for row in rows.iter().filter(|row| row["type"] == "assistant") {
        let message = &row["message"];
        if !seen.insert(message["id"].to_string()) {
            continue;
        }
        let usage = &message["usage"];
        for (total, pointer) in sum.iter_mut().zip([
            "/input_tokens",
            "/output_tokens",
            "/cache_creation/ephemeral_5m_input_tokens",
            "/cache_creation/ephemeral_1h_input_tokens",
            "/cache_read_input_tokens",
        ]) {
            *total += usage.pointer(pointer).unwrap().as_u64().unwrap();
        }
    }
    json!({ "input": sum[0], "output": sum[1], "cache_write_5m": sum[2],
        "cache_write_1h": sum[3], "cache_read": sum[4] })
}
