//! Tasks of one batch are given to one session, one after the other.

use longhaul::demo::api::{Reply, Request, Script, Usage};
use longhaul::queue::TaskState;
use serde_json::json;

use super::support::{Lab, TICK_ALL, Worker, task_of, ticks_at_once};

#[test]
fn five_tasks_of_a_batch_run_in_one_session() {
    let lab = Lab::new(ticks_at_once);
    for n in 1..=5 {
        lab.add(
            json!({"id": format!("t{n}"), "description": format!("Do part {n}"), "batch": "b"}),
        );
    }
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    assert_eq!(run.count("session_started"), 1, "{}", run.dump());
    assert_eq!(run.field("task_started", "task_id"), ["t1", "t2", "t3", "t4", "t5"]);
    assert_eq!(run.field("task_finished", "status"), vec![json!("done"); 5]);

    let results: Vec<_> = (1..=5).map(|n| lab.result(&format!("t{n}"))).collect();
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.status, TaskState::Done);
        assert_eq!(result.batch_position, Some(n as u32 + 1));
        assert_eq!(result.sessions, 1);
        assert_eq!(result.output, "All done.");
        assert_eq!(result.sharing.is_shared, n > 0);
        assert_eq!(result.actions_taken, ["Bash: Work on the task"]);
        assert_eq!(result.errors, Vec::<String>::new());
    }
    // What the tasks added is what the run used, to the token and to the cent.
    let report = lab.report();
    let sum = |of: fn(&longhaul::queue::task::TaskTokens) -> u64| -> u64 {
        results.iter().map(|r| of(&r.tokens)).sum()
    };
    let used = &report["totals"]["usage"];
    assert_eq!(json!(sum(|t| t.input)), used["input"], "{report:#}");
    assert_eq!(json!(sum(|t| t.output)), used["output"]);
    assert_eq!(json!(sum(|t| t.cache_read)), used["cache_read"]);
    let cost: f64 = results.iter().map(|r| r.cost_usd).sum();
    let total = report["totals"]["cost_usd"].as_f64().unwrap();
    assert!((cost - total).abs() < 1e-5, "{cost} {total}");

    // So is what the transcripts say, task by task.
    let seen = lab.longhaul_output(&["usage", "task", "--json"]);
    let seen: serde_json::Value = serde_json::from_str(&seen.stdout).unwrap();
    let rows = seen["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5, "{seen:#}");
    for row in rows {
        let result = results.iter().find(|r| row["key"] == r.task_id.as_str()).unwrap();
        assert_eq!(row["output"], result.tokens.output, "{seen:#}");
        assert_eq!(row["cache_read"], result.tokens.cache_read, "{seen:#}");
        assert!((row["cost_usd"].as_f64().unwrap() - result.cost_usd).abs() < 1e-5, "{seen:#}");
    }

    let seen = lab.longhaul_output(&["usage", "batch", "--json"]);
    let seen: serde_json::Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!((&seen["rows"][0]["key"], seen["rows"].as_array().unwrap().len()), (&json!("b"), 1));

    let queue = &report["queue"];
    assert_eq!(queue["shared"], 4);
    // Four sessions of their own would have loaded what this one did.
    assert_eq!(queue["saved_tokens"], 4 * 20_000, "{queue:#}");
    let added: u64 =
        queue["tasks"].as_array().unwrap().iter().map(|t| t["tokens"].as_u64().unwrap()).sum();
    assert_eq!(report["totals"]["tokens"], added);
    let told = lab.longhaul_output(&["report"]).stdout;
    assert!(told.starts_with("DONE: 5 of 5 tasks of the queue done."), "{told}");
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("80,000 tokens of loading saved against one session a task"), "{told}");

    let tasks = lab.read("dev-docs/tasks.md");
    assert!(tasks.contains("Task t5") && !tasks.contains("Task t4"), "{tasks}");
    assert_eq!(lab.alive(), []);
}

/// The third task fills the context: a checkpoint, and a fresh session for it.
#[test]
fn a_batch_that_crosses_the_threshold_in_its_third_task_goes_on_in_a_fresh_session() {
    let lab = Lab::new(|request: &Request| -> Reply {
        let worker = Worker::default();
        if request.side || worker.asked(request).is_some() {
            return worker.reply(request);
        }
        // In the first session the third task takes three quarters of the window.
        let is_large = request.session_index == 0 && task_of(request) == "t3";
        let tokens = if is_large { 150_000 } else { 20_000 };
        let usage = Usage::of_context(tokens, 1_000, 20);
        match request.tool_results.is_empty() {
            true if is_large => Reply::bash("sleep 3; echo half of it >> work.txt", usage),
            true => Reply::bash(TICK_ALL, usage),
            false => Reply::text("All done.", usage),
        }
    });
    for n in 1..=5 {
        lab.add(
            json!({"id": format!("t{n}"), "description": format!("Do part {n}"), "batch": "b"}),
        );
    }
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    assert_eq!(run.count("session_started"), 2, "{}", run.dump());
    assert_eq!(run.field("session_ended", "reason"), ["threshold", "done"]);
    assert_eq!(run.field("task_finished", "status"), vec![json!("done"); 5]);
    let sessions: Vec<u32> = (1..=5).map(|n| lab.result(&format!("t{n}")).sessions).collect();
    assert_eq!(sessions, [1, 1, 2, 1, 1]);
    assert_eq!(lab.alive(), []);
}
