//! Tasks of different projects run at once; those of one never do.

use longhaul::clock::Timestamp;
use longhaul::demo::api::{Gate, Reply, Request};
use longhaul::queue::{Store as _, TaskId, TaskState};
use rustix::process::Signal;
use serde_json::json;

use super::support::{Lab, NIGHT, task_of, ticks_at_once};

#[test]
fn two_projects_at_once_and_never_two_tasks_of_one() {
    let gate = Gate::new();
    let held = gate.clone();
    let lab = Lab::new(move |request: &Request| -> Reply {
        // The first task of each project waits until both are at work.
        let waits = !request.side && ["a1", "b1"].contains(&task_of(request).as_str());
        let reply = ticks_at_once(request);
        if waits { reply.behind(&held) } else { reply }
    });
    let other = lab.another_project("other");
    for (id, project) in [("a1", &lab.project()), ("a2", &lab.project()), ("b1", &other)] {
        lab.add(json!({"id": id, "description": "Do it", "project": project}));
    }
    let run = lab.queue_run(&["--set", "queue.parallel=3"]);
    run.wait_event_where("both projects at work", |events| {
        let started =
            |id: &str| events.iter().any(|e| e["event"] == "task_started" && e["task_id"] == id);
        (started("a1") && started("b1")).then_some(())
    });
    assert_eq!(lab.store().in_progress().unwrap().len(), 2, "a2 waits for its project");
    gate.open();
    let run = run.finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    assert_eq!(run.count("task_finished"), 3);
    for id in ["a1", "a2", "b1"] {
        assert_eq!(lab.result(id).status, TaskState::Done);
    }
    let ids: std::collections::BTreeSet<_> =
        run.events.iter().filter_map(|e| e["run_id"].as_str()).collect();
    assert_eq!(ids.len(), 3, "each its own run");
    assert_eq!(lab.alive(), []);
}

/// One login: what one run waits for holds the others back too.
#[test]
fn a_usage_limit_that_one_run_meets_pauses_all() {
    let reset_s = Timestamp::now().unix_ms / 1_000 + 600;
    let gate = Gate::new();
    let held = gate.clone();
    let mut lab = Lab::new(move |request: &Request| -> Reply {
        let reply = ticks_at_once(request);
        let is_limited = Timestamp::now().unix_ms / 1_000 < reset_s;
        match task_of(request).as_str() {
            "a1" if !request.side && is_limited => Reply::usage_limit("five_hour", reset_s),
            "b1" if !request.side => reply.behind(&held),
            _ => reply,
        }
    });
    lab.set_env("ANTHROPIC_API_KEY", "");
    lab.set_env("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-made-up-for-the-tests");
    let other = lab.another_project("other");
    for (id, project) in [("a1", &lab.project()), ("b1", &other), ("b2", &other)] {
        lab.add(json!({"id": id, "description": "Do it", "project": project}));
    }
    let run = lab.queue_run(&["--set", "queue.parallel=2"]).patient(NIGHT);
    let waiting = run.wait_event("waiting");
    let paused = run.wait_event_where("the other run's pause", |events| {
        let paused = |e: &&serde_json::Value| {
            e["event"] == "obeyed" && e["text"].as_str().is_some_and(|t| t.starts_with("paused"))
        };
        events.iter().find(paused).cloned()
    });
    assert_ne!(paused["run_id"], waiting["run_id"]);
    gate.open();
    run.wait_event_where("the end of the task that was at work", |events| {
        events.iter().any(|e| e["event"] == "task_finished" && e["task_id"] == "b1").then_some(())
    });
    // Its project is free, and the limit holds for a while.
    run.wait_event("queue_warning");
    assert_eq!(state(&lab, "b2"), TaskState::Queued);
    run.signal(Signal::TERM);
    run.signal(Signal::TERM);
    assert_eq!(run.finished().code(), 143);
    assert_eq!(state(&lab, "a1"), TaskState::Queued, "it goes back, with what it cost");
}

fn state(lab: &Lab, id: &str) -> TaskState {
    lab.store().task(&TaskId::parse(id).unwrap()).unwrap().unwrap().state
}
