//! `data/` shows the queue while it is worked off, and takes what is written there.

use longhaul::demo::api::{Gate, Reply, Request};
use longhaul::queue::TaskState;
use serde_json::{Value, json};

use super::support::{Lab, task_of, ticks_at_once};

fn file(lab: &Lab, name: &str) -> Value {
    serde_json::from_str(&lab.read(&format!("data/{name}"))).unwrap()
}

#[test]
fn a_task_written_into_the_file_is_run_and_its_result_shows() {
    let gate = Gate::new();
    let held = gate.clone();
    let lab = Lab::new(move |request: &Request| -> Reply {
        let reply = ticks_at_once(request);
        if task_of(request) == "first" { reply.behind(&held) } else { reply }
    });
    lab.write(
        "data/claude_task_queue.json",
        &json!({"tasks": {"first": {
            "description": "Do it", "priority": "high", "status": "queued",
            "created_at": "2025-11-07T12:00:00Z",
        }}})
        .to_string(),
    );
    let run = lab.queue_run(&[]);
    run.wait_event("task_started");
    lab.wait_change("the state of the task in the file", || {
        file(&lab, "claude_task_queue.json")["tasks"]["first"]["status"] == "in_progress"
    });
    let lock = file(&lab, "execute_queue.lock");
    assert_eq!(lock["pid"], run.pid());
    // Somebody's script adds one, as the seed's programs do.
    let mut queue = file(&lab, "claude_task_queue.json");
    queue["tasks"]["second"] = json!({"description": "And this", "status": "queued"});
    lab.write("data/claude_task_queue.json", &queue.to_string());
    gate.open();
    let run = run.finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    assert_eq!(run.field("task_finished", "task_id"), ["first", "second"]);
    assert_eq!(file(&lab, "claude_task_queue.json")["tasks"], json!({}), "finished ones leave");
    let results = file(&lab, "claude_task_results.json");
    assert_eq!(results["results"]["first"]["status"], "done", "{results:#}");
    assert_eq!(results["results"]["second"]["tokens"]["output"], 100, "{results:#}");
    assert!(!lab.project().join("data/execute_queue.lock").exists());
    assert_eq!(lab.result("second").status, TaskState::Done);
}
