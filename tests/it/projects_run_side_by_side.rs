//! Tasks of different projects run at once; those of one never do.

use std::time::{Duration, Instant};

use longhaul::clock::Timestamp;
use longhaul::demo::api::{Gate, Reply, Request};
use longhaul::queue::{Store as _, TaskState};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::support::{Lab, NIGHT, task_of, ticks_at_once, unix_ms, with_argument};

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

/// A run whose process was stopped answers nobody.
#[test]
fn a_run_that_stands_still_does_not_hold_up_the_others() {
    let gate = Gate::new();
    let held = gate.clone();
    let lab = Lab::new(move |request: &Request| -> Reply {
        let reply = ticks_at_once(request);
        if request.side { reply } else { reply.behind(&held) }
    });
    let other = lab.another_project("other");
    for (id, project) in [("a1", &lab.project()), ("b1", &other)] {
        lab.add(json!({"id": id, "description": "Do it", "project": project}));
    }
    let run = lab.queue_run(&["--set", "queue.parallel=2"]);
    run.wait_event_nth("session_started", 1);
    let of_a = run.wait_event_where("the run of a1", |events| {
        events.iter().find(|e| e["event"] == "task_started" && e["task_id"] == "a1").cloned()
    });
    let run_id = of_a["run_id"].as_str().unwrap();
    let mut named = with_argument(run_id).into_iter();
    let worker = named.find(|process| process.command_line.contains("__worker")).unwrap();
    let worker = Pid::from_raw(worker.pid).unwrap();
    kill_process(worker, Signal::STOP).unwrap();
    let asked = Instant::now();
    let said = lab.longhaul_output(&["task", "cancel", "b1"]);
    assert_eq!(said.code(), 0, "{}", said.dump());
    run.wait_event_where("the end of b1", |events| {
        events.iter().any(|e| e["event"] == "task_finished" && e["task_id"] == "b1").then_some(())
    });
    // It would have been asked after a1, which says nothing for ten seconds.
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    kill_process(worker, Signal::CONT).unwrap();
    gate.open();
    let run = run.finished();
    assert_eq!(
        (lab.result("a1").status, lab.result("b1").status),
        (TaskState::Done, TaskState::Cancelled)
    );
    assert_eq!(lab.alive(), [], "{}", run.dump());
}

/// One login: what one run waits for holds the others back too, and no longer.
#[test]
fn a_usage_limit_that_one_run_meets_pauses_all_until_it_is_reset() {
    let reset_s = Timestamp::now().unix_ms / 1_000 + 25;
    let (ends, goes_on) = (Gate::new(), Gate::new());
    let (held, held_longer) = (ends.clone(), goes_on.clone());
    let mut lab = Lab::new(move |request: &Request| -> Reply {
        let reply = ticks_at_once(request);
        let is_limited = Timestamp::now().unix_ms / 1_000 < reset_s;
        match task_of(request).as_str() {
            "a1" if !request.side && is_limited => Reply::usage_limit("five_hour", reset_s),
            "b1" if !request.side => reply.behind(&held),
            "c1" if !request.side => reply.behind(&held_longer),
            _ => reply,
        }
    });
    lab.set_env("ANTHROPIC_API_KEY", "");
    lab.set_env("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-made-up-for-the-tests");
    // Otherwise the CLI tries on by itself, less and less often.
    let settings = r#"{"autoContinueAtUsageLimit": false}"#;
    std::fs::write(lab.home.config_dir().join("settings.json"), settings).unwrap();
    let (b, c) = (lab.another_project("b"), lab.another_project("c"));
    for (id, project) in [("a1", &lab.project()), ("b1", &b), ("b2", &b), ("c1", &c)] {
        lab.add(json!({"id": id, "description": "Do it", "project": project}));
    }
    let run = lab.queue_run(&["--set", "queue.parallel=3"]).patient(NIGHT);
    run.wait_event("waiting");
    for id in ["b1", "c1"] {
        run.wait_event_where("the pause of the other runs", |events| {
            obeyed(events, id, "paused").then_some(())
        });
    }
    // The project of the one is free then, and nothing is begun there; the other is at
    // work still when the limit is over.
    ends.open();
    run.wait_event_where("the run that goes on", |events| {
        obeyed(events, "c1", "resumed").then_some(())
    });
    goes_on.open();
    let run = run.finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    let is_b2 = |e: &&Value| e["event"] == "task_started" && e["task_id"] == "b2";
    let begun = run.events.iter().find(is_b2).unwrap();
    assert!(unix_ms(&begun["ts"]) >= reset_s * 1_000, "{}", run.dump());
    assert!(!obeyed(&run.events, "a1", "paused"), "it waits by itself");
    for id in ["a1", "b1", "b2", "c1"] {
        assert_eq!(lab.result(id).status, TaskState::Done, "{id}");
    }
    assert_eq!(run.count("queue_warning"), 1, "one limit is told once: {}", run.dump());
    assert_eq!(lab.alive(), []);
}

/// Has the run that has this task in hand done what it was told?
fn obeyed(events: &[Value], task_id: &str, word: &str) -> bool {
    let is_start = |e: &&Value| e["event"] == "task_started" && e["task_id"] == task_id;
    let Some(start) = events.iter().find(is_start) else { return false };
    let is_so = |e: &Value| {
        e["event"] == "obeyed"
            && e["run_id"] == start["run_id"]
            && e["text"].as_str().is_some_and(|text| text.starts_with(word))
    };
    events.iter().any(is_so)
}
