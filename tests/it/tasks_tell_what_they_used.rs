//! `longhaul track`: one JSON object in, one out, and files in the project.

use std::fs;

use serde_json::{Value, json};

use super::support::{Finished, Lab, ticks_at_once, told};

const SEED: &str = include_str!("../data/track/seed.json");

fn track(lab: &Lab, request: &str) -> Finished {
    told(&mut lab.longhaul_command(&["track"]), request)
}

fn answer(said: &Finished) -> Value {
    serde_json::from_str(&said.stdout).unwrap_or_else(|err| panic!("{err}: {said:?}"))
}

#[test]
fn the_seeds_example_is_recorded_and_reviewed() {
    let lab = Lab::new(ticks_at_once);
    let said = track(&lab, SEED);
    assert_eq!(said.code(), 0, "{said:?}");
    // In the order of the seed.
    let begin = "{\"status\":\"recorded\",\"task_id\":\"create-usage-tracker\",\"summary\":\"create-usage-tracker used 33,000 tokens, $1.05. ";
    assert!(said.stdout.starts_with(begin), "{said:?}");
    assert_eq!(answer(&said).as_object().unwrap().len(), 3, "{said:?}");
    let log = lab.read("token-usage/tasks/usage-2025-11-28-1430-create-usage-tracker.json");
    assert_eq!(log, include_str!("../data/track/task-log.json"));
    let day = lab.read("token-usage/usage-2025-11-28.md");
    assert!(day.contains("| build-lead | opus | 25000 | 8000 | 33000 | $1.05 |"), "{day}");

    let review = r#"{"mode": "review_period", "days": 7, "timestamp": "2025-11-28T20:00:00Z"}"#;
    let said = track(&lab, review);
    assert_eq!(said.code(), 0, "{said:?}");
    let begin = "{\"status\":\"report_generated\",\"report_path\":\"/token-usage/reports/usage-review-2025-11-28.md\",\"recommendations\":[";
    assert!(said.stdout.starts_with(begin), "{said:?}");
    assert_eq!(said.stdout.lines().count(), 1, "{said:?}");
    let said = answer(&said);
    assert_eq!(said.as_object().unwrap().len(), 3, "{said}");
    let report = lab.read("token-usage/reports/usage-review-2025-11-28.md");
    assert!(report.starts_with("# Usage Review: 2025-11-28\n\nPeriod: Last 7 days\n\n## Overview\n\n- Total tokens: 33,000\n- Total cost: $1.05\n- Most active agents: build-lead (100%)\n"), "{report}");
    assert_eq!(lab.alive(), []);
}

#[test]
fn what_cannot_be_done_is_said_in_json_and_noted() {
    let lab = Lab::new(ticks_at_once);
    for (request, code) in [
        ("", "malformed_json"),
        ("[]", "invalid_parameter"),
        (r#"{"mode": "x"}"#, "invalid_parameter"),
    ] {
        let said = track(&lab, request).failed(64, &["error: "]);
        let said = answer(&said);
        assert_eq!((&said["status"], &said["error"]["code"]), (&json!("error"), &json!(code)));
    }
    let names = fs::read_dir(lab.project().join("token-usage")).unwrap();
    let names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let errors = names.iter().find(|name| name.starts_with("errors-")).unwrap();
    let errors = lab.read(&format!("token-usage/{errors}"));
    assert_eq!(errors.matches("- [noted] ").count(), 3, "{errors}");
    told(&mut lab.longhaul_command(&["track", "--project", "/none"]), SEED).failed(64, &[]);
}

#[test]
fn many_at_once_are_all_recorded_and_the_day_is_their_sum() {
    let lab = Lab::new(ticks_at_once);
    let children: Vec<_> = (0..12)
        .map(|n| {
            let mut request: Value = serde_json::from_str(SEED).unwrap();
            // Each comes twice.
            request["task_id"] = json!(format!("t{}", n / 2));
            let lab = &lab;
            let request = request.to_string();
            (lab.longhaul_command(&["track"]), request)
        })
        .collect();
    std::thread::scope(|scope| {
        for (mut command, request) in children {
            scope.spawn(move || assert_eq!(told(&mut command, &request).code(), 0));
        }
    });
    // Who had to wait for long is written with the next.
    assert_eq!(track(&lab, SEED).code(), 0);
    let tasks = fs::read_dir(lab.project().join("token-usage/tasks")).unwrap().count();
    assert_eq!(tasks, 7);
    let day = lab.read("token-usage/usage-2025-11-28.md");
    assert!(day.contains("| build-lead | opus | 175000 | 56000 | 231000 | $7.35 |"), "{day}");
}
