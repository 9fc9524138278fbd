//! The seed's flow over HTTP: tasks of one batch are assigned, the queue is
//! executed, the results are asked for.

use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::{Lab, ticks_at_once};

/// What `curl` prints, as the seed's documents call it.
fn curl(url: &str, body: Option<Value>) -> Value {
    let mut command = Command::new("curl");
    command.args(["-sS", url]);
    if let Some(body) = body {
        command.args(["-X", "POST", "-H", "Content-Type: application/json", "-d"]);
        command.arg(body.to_string());
    }
    let said = command.output().unwrap();
    serde_json::from_slice(&said.stdout).unwrap_or_else(|err| panic!("{err}: {said:?}"))
}

#[test]
fn a_batch_is_assigned_executed_and_asked_for() {
    let lab = Lab::new(ticks_at_once);
    let project = lab.project().display().to_string();
    let serve = lab.longhaul(&[
        "serve",
        "--project",
        &project,
        "--hub",
        "127.0.0.1:0",
        "--json",
        "--set",
        "hub.allow_unauthenticated_loopback=true",
    ]);
    let hub = serve.wait_event("listening")["hub"].as_str().unwrap().to_owned();
    let act = |action: &str, params: Value| {
        let body = json!({"tool_name": "claude_assistant", "action": action, "params": params});
        curl(&format!("{hub}/execute_task"), Some(body))
    };
    for n in 1..=3 {
        let said = act(
            "assign_task",
            json!({"task_id": format!("t{n}"), "description": "Do it", "batch_id": "batch_1"}),
        );
        assert_eq!(
            (&said["status"], &said["task_id"]),
            (&json!("success"), &json!(format!("t{n}")))
        );
    }
    let file =
        || -> Value { serde_json::from_str(&lab.read("data/claude_task_queue.json")).unwrap() };
    assert_eq!(file()["tasks"].as_object().unwrap().len(), 3, "the file shows them at once");

    assert_eq!(act("execute_queue", json!({}))["status"], "success");
    assert_eq!(act("execute_queue", json!({}))["status"], "already_running");
    let mut last = Value::Null;
    lab.wait_change("the last result", || {
        last = act("get_task_result", json!({"task_id": "t3"}));
        last["result"]["status"] == "done"
    });
    let result = &last["result"];
    assert_eq!(result["batch_position"], 3, "{result:#}");
    assert_eq!((&result["sessions"], &result["output"]), (&json!(1), &json!("All done.")));
    assert!(result["tokens"]["cache_write"].as_u64().unwrap() > 0, "{result:#}");
    assert_eq!(result["errors"], json!([]));
    let sessions: std::collections::BTreeSet<_> =
        lab.api.requests().iter().filter(|r| !r.side).map(|r| r.session_id.clone()).collect();
    assert_eq!(sessions.len(), 1, "one session for the batch");

    lab.wait_change("the empty queue file", || file()["tasks"] == json!({}));
    serve.signal(Signal::TERM);
    assert_eq!(serve.finished().code(), 143);
    lab.wait_gone();
}
