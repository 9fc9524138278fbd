//! What an earlier run left in the task file, or somebody else ticked there, makes no
//! task done; and a task that cannot go on is not begun again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use longhaul::clock::Timestamp;
use longhaul::demo::api::{Gate, Reply, Request};
use longhaul::queue::{Store as _, Task, TaskId, TaskState};
use rustix::process::Signal;
use serde_json::json;

use super::support::{Lab, NIGHT, Worker, ticks_at_once};

/// Sessions work without end until this is set, and tick then.
type Ticks = Arc<AtomicBool>;

fn lab() -> (Lab, Ticks) {
    let ticks = Ticks::default();
    let ticked = ticks.clone();
    let lab = Lab::new(move |request: &Request| -> Reply {
        if request.side || ticked.load(SeqCst) {
            return ticks_at_once(request);
        }
        Reply::bash("echo step >> work.log", Worker::default().usage(0))
    });
    (lab, ticks)
}

fn task(lab: &Lab) -> Task {
    lab.store().task(&TaskId::parse("t1").unwrap()).unwrap().unwrap()
}

/// The task `t1` is begun, and goes back to the queue when the run is stopped.
fn begun_and_stopped(lab: &Lab) {
    lab.add(json!({"id": "t1", "description": "Do it"}));
    let run = lab.queue_run(&[]);
    run.wait_event("spent");
    run.signal(Signal::INT);
    run.wait_event("checkpoint_requested");
    run.signal(Signal::INT);
    let run = run.finished();
    assert_eq!(run.code(), 130, "{}", run.dump());
    assert_eq!(task(lab).state, TaskState::Queued);
    assert!(task(lab).spent_usd > 0.001);
}

fn task_file(lab: &Lab) -> String {
    std::fs::read_to_string(lab.project().join("dev-docs/tasks.md")).unwrap()
}

fn tick_all(lab: &Lab) {
    let ticked = task_file(lab).replace("- [ ]", "- [x]");
    std::fs::write(lab.project().join("dev-docs/tasks.md"), ticked).unwrap();
}

#[test]
fn a_box_that_was_ticked_before_the_run_is_looked_at() {
    let (lab, ticks) = lab();
    begun_and_stopped(&lab);
    tick_all(&lab);
    ticks.store(true, SeqCst);
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    assert_eq!(run.count("session_started"), 1, "{}", run.dump());
    assert_eq!(lab.result("t1").status, TaskState::Done);
}

#[test]
fn a_task_of_other_words_is_another_task() {
    let (lab, ticks) = lab();
    begun_and_stopped(&lab);
    tick_all(&lab);
    let said = lab.longhaul_output(&["task", "edit", "t1", "--description", "Paint the door"]);
    assert_eq!(said.code(), 0, "{}", said.dump());
    ticks.store(true, SeqCst);
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    assert_eq!(run.count("session_started"), 1, "{}", run.dump());
    let file = task_file(&lab);
    assert!(file.contains("> Paint the door") && file.contains("- [x] Paint the door"), "{file}");
    assert!(file.contains("> > Do it"), "what stood there is kept: {file}");
}

#[test]
fn a_task_that_may_spend_no_more_ends_in_error_and_is_not_begun() {
    let (lab, _ticks) = lab();
    begun_and_stopped(&lab);
    let said = lab.longhaul_output(&["task", "edit", "t1", "--budget", "0.001"]);
    assert_eq!(said.code(), 0, "{}", said.dump());
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 1, "{}", run.dump());
    assert_eq!(run.field("task_finished", "status"), ["error"]);
    assert_eq!(run.count("session_started"), 0, "{}", run.dump());
    assert_eq!(lab.result("t1").errors, ["the budget of the task is spent"]);
}

#[test]
fn a_run_that_the_queue_gave_up_does_not_hold_the_project() {
    let (lab, ticks) = lab();
    lab.add(json!({"id": "t1", "description": "Do it"}));
    let run = lab.queue_run(&[]);
    run.wait_event("spent");
    run.kill();
    drop(run);
    lab.wait_gone();
    let refused = lab.longhaul_output(&["run", "--json"]);
    assert_eq!(refused.code(), 40, "{}", refused.dump());
    // As when its folder was away for a while.
    let run_id = task(&lab).run_id.unwrap();
    lab.store().unclaim(Timestamp::now().unix_ms, run_id).unwrap();
    ticks.store(true, SeqCst);
    let own = lab.run().finished();
    assert_eq!(own.code(), 0, "{}", own.dump());
    assert_eq!(lab.alive(), []);
}

/// Longer than anybody waits for the store.
const HELD: Duration = Duration::from_secs(33);

#[test]
fn a_queue_that_somebody_holds_is_booked_when_it_is_free() {
    let gate = Gate::new();
    let held = gate.clone();
    let lab = Lab::new(move |request: &Request| -> Reply {
        let reply = ticks_at_once(request);
        if request.side { reply } else { reply.behind(&held) }
    });
    for id in ["t1", "t2"] {
        lab.add(json!({"id": id, "description": "Do it", "batch": "b"}));
    }
    let run = lab.queue_run(&[]).patient(NIGHT);
    lab.wait_session_request(0);
    let store = rusqlite::Connection::open(lab.state_dir().join("queue.db")).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    gate.open();
    run.wait_event_where("the first task to be done", |events| {
        let is_it = |e: &&serde_json::Value| e["event"] == "tasks" && e["done"] == 1;
        events.iter().any(|e| is_it(&e)).then_some(())
    });
    // The time is the matter here: the store gives up by itself.
    std::thread::sleep(HELD);
    store.execute_batch("ROLLBACK").unwrap();
    let run = run.finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    for id in ["t1", "t2"] {
        assert_eq!(lab.result(id).status, TaskState::Done, "{id}: {}", run.dump());
    }
    assert_eq!(run.words("session_ended", "reason"), ["done"; 2], "no session was cut off");
    assert_eq!(lab.alive(), []);
}
