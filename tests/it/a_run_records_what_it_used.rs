//! Every run tells the usage tracker what each cycle and each task used: its files in the
//! project come to what the run's report says, whatever becomes of the run.

use std::fs;

use longhaul::demo::api::{Reply, Request, Usage};
use serde_json::{Value, json};

use super::support::{Lab, TICK_ALL, Worker, endless, finisher, first_then, ticks_at_once, told};

/// The task logs, by name.
fn logs(lab: &Lab) -> Vec<Value> {
    let Ok(entries) = fs::read_dir(lab.project().join("token-usage/tasks")) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}

/// Sums over the entries of logs: input with cache writes, output, cache reads, dollars.
fn sums<'a>(logs: impl IntoIterator<Item = &'a Value>) -> ([u64; 3], f64) {
    let (mut tokens, mut usd) = ([0; 3], 0.0);
    for entry in logs.into_iter().flat_map(|log| log["entries"].as_array().unwrap()) {
        let of = |key: &str| entry[key].as_u64().unwrap();
        tokens[0] += of("input_tokens");
        tokens[1] += of("output_tokens");
        tokens[2] += of("cache_read_tokens");
        assert_eq!(of("total_tokens"), of("input_tokens") + of("output_tokens"));
        usd += entry["estimated_cost"].as_f64().unwrap();
    }
    (tokens, usd)
}

/// The files come to what the report says.
fn agree(lab: &Lab) -> Vec<Value> {
    let logs = logs(lab);
    let report = lab.report();
    let (tokens, usd) = sums(&logs);
    let used = &report["totals"]["usage"];
    let of = |key: &str| used[key].as_u64().unwrap();
    let written = of("cache_write_5m") + of("cache_write_1h");
    assert_eq!(tokens, [of("input") + written, of("output"), of("cache_read")], "{report:#}");
    let total = report["totals"]["cost_usd"].as_f64().unwrap();
    assert!((usd - total).abs() < 1e-5, "{usd} is not {total}: {report:#}");
    logs
}

#[test]
fn each_cycle_is_a_record_and_together_they_are_the_report() {
    let lab = Lab::new(Worker {
        done_in_session: Some(3),
        tick_one_per_session: true,
        cache_1h_percent: 50,
        ..Worker::brisk()
    });
    lab.run().finished().ended(0, "done");
    let logs = agree(&lab);
    let report = lab.report();
    let run_id = report["run_id"].as_str().unwrap();
    let mut ids: Vec<&str> = logs.iter().map(|log| log["task_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3].map(|n| format!("{run_id}-cycle-{n:03}")), "{logs:#?}");
    for log in &logs {
        let cycle = log["source"]["cycle"].as_u64().unwrap();
        let of_report = &report["cycles"][cycle as usize - 1];
        assert_eq!(log["source"]["session_id"], of_report["session_id"]);
        let (_, usd) = sums([log]);
        assert!((usd - of_report["cost_usd"].as_f64().unwrap()).abs() < 1e-5, "{log:#}");
        assert_eq!(log["entries"][0]["agent"], "main");
        let summary = log["user_request_summary"].as_str().unwrap();
        assert!(summary.starts_with(&format!("Cycle {cycle} of dev-docs/tasks.md")), "{summary}");
    }
    let day = logs[0]["timestamp"].as_str().unwrap()[..10].to_owned();
    let text = lab.read(&format!("token-usage/usage-{day}.md"));
    assert!(text.starts_with(&format!("# Token Usage: {day}\n\n## Totals\n")), "{text}");
    // The scripted model says little: that may be called unusual, and nothing else is.
    let errors = lab.project().join(format!("token-usage/errors-{day}.md"));
    let errors = fs::read_to_string(errors).unwrap_or_default();
    assert!(!errors.contains("[open]") && !errors.contains("[pending]"), "{errors}");
    assert_eq!(lab.alive(), []);
}

#[test]
fn each_task_of_a_batch_has_what_it_added() {
    let lab = Lab::new(ticks_at_once);
    for n in 1..=3 {
        lab.add(
            json!({"id": format!("t{n}"), "description": format!("Do part {n}"), "batch": "b"}),
        );
    }
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    let logs = agree(&lab);
    for n in 1..=3 {
        let id = format!("t{n}");
        let own: Vec<&Value> = logs.iter().filter(|log| log["task_id"] == *id).collect();
        let result = lab.result(&id).tokens;
        let (tokens, _) = sums(own.iter().copied());
        assert_eq!(tokens, [result.input + result.cache_write, result.output, result.cache_read]);
        assert_eq!(own[0]["user_request_summary"], format!("Do part {n}"));
    }
}

#[test]
fn a_run_does_not_care_whether_it_can_be_recorded_and_it_is_recorded_later() {
    let lab = Lab::new(ticks_at_once);
    lab.write("token-usage", "in the way");
    lab.run().finished().ended(0, "done");
    assert_eq!(lab.read("token-usage"), "in the way");
    fs::remove_file(lab.project().join("token-usage")).unwrap();
    let mut track = lab.longhaul_command(&["track"]);
    let said = told(&mut track, r#"{"mode": "review_period"}"#);
    assert_eq!(said.code(), 0, "{said:?}");
    let logs = agree(&lab);
    assert_eq!(logs.len(), 1);
    let day = &logs[0]["timestamp"].as_str().unwrap()[..10];
    let errors = lab.read(&format!("token-usage/errors-{day}.md"));
    assert!(errors.contains("- [resolved ") && errors.contains("a file is in the way"), "{errors}");
}

#[test]
fn a_run_that_was_shot_is_recorded_whole_and_nothing_twice() {
    let lab = Lab::new(first_then(1, endless(), finisher()));
    let run = lab.run();
    lab.wait_file("work.log");
    run.kill();
    lab.wait_gone();
    lab.run().finished().ended(0, "done");
    let logs = agree(&lab);
    assert_eq!(logs.len(), 2, "{logs:#?}");
}

#[test]
fn records_are_no_work() {
    let idle = Worker { steps: Some(0), ..Worker::default() };
    let mut lab = Lab::new(idle);
    lab.set("limits.no_progress_cycles", 2);
    lab.set("session.max_nudges", 1);
    lab.git_init();
    // One that a person made, and keeps in git.
    fs::create_dir_all(lab.project().join("token-usage/tasks")).unwrap();
    let run = lab.run().finished();
    assert_eq!(run.code(), 21, "{}", run.dump());
    assert_eq!(agree(&lab).len(), 2);
    assert!(!lab.project().join("token-usage/.gitignore").exists());
}

#[test]
fn who_wants_no_records_gets_none() {
    let mut lab = Lab::new(ticks_at_once);
    lab.set("track.folder", "");
    lab.run().finished().ended(0, "done");
    assert!(!lab.project().join("token-usage").exists());
    let mut track = lab.longhaul_command(&["track", "--set", "track.folder="]);
    told(&mut track, r#"{"task_id": "x"}"#).failed(64, &["track.folder"]);
}

#[test]
fn a_subagent_is_told_apart() {
    let usage = |write: u64, read: u64| Usage {
        input_tokens: 10,
        output_tokens: 100,
        cache_write_5m_tokens: write,
        cache_read_tokens: read,
        ..Usage::default()
    };
    let mut lab = Lab::new(move |request: &Request| -> Reply {
        if request.side {
            return Reply::side(Usage::default());
        }
        if request.turns[0].texts.iter().any(|text| text.starts_with("Count the beans")) {
            return Reply::text("There are 7.", usage(10_000, 0));
        }
        match request.turns.iter().flat_map(|turn| &turn.tool_uses).count() {
            0 => {
                let input = json!({ "description": "Count beans", "prompt": "Count the beans.",
                    "subagent_type": "general-purpose", "run_in_background": false });
                Reply::tool("Agent", input, usage(30_000, 0))
            }
            1 => Reply::bash(TICK_ALL, usage(5_000, 30_000)),
            _ => Reply::text("Done.", usage(1_000, 35_000)),
        }
    });
    lab.arguments(&["--model", "claude-haiku-4-5", "--allowedTools=Bash,Agent"]);
    lab.run().finished().ended(0, "done");
    let logs = agree(&lab);
    let agent = |name: &str| {
        let entries = logs.iter().flat_map(|log| log["entries"].as_array().unwrap());
        let own: Vec<&Value> = entries.filter(|entry| entry["agent"] == name).collect();
        assert_eq!(own.len(), 1, "{logs:#?}");
        own[0].clone()
    };
    assert_eq!(agent("general-purpose")["input_tokens"], 10_010);
    assert_eq!(agent("general-purpose")["cache_write_tokens"], 10_000);
    assert_eq!(agent("main")["cache_read_tokens"], 65_000);
}
