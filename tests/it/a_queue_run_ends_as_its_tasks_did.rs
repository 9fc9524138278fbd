//! Each task ends in its own way, the others go on, and the exit code says the worst.

use longhaul::demo::api::{Gate, Reply, Request};
use longhaul::queue::{Store as _, TaskId, TaskState};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::{Lab, TICK_ALL, Worker, task_of, ticks_at_once};

/// What the model does follows from the beginning of the task's id.
fn by_name(gate: Gate) -> impl Fn(&Request) -> Reply {
    move |request: &Request| {
        let task = task_of(request);
        let worker = Worker::default();
        if request.side || worker.asked(request).is_some() {
            return longhaul::demo::api::Script::reply(&worker, request);
        }
        let usage = worker.usage(0);
        let is_new = request.tool_results.is_empty();
        match task.split('-').next().unwrap_or_default() {
            "block" if is_new => Reply::bash(
                "sed -i 's/^- \\[ \\]/Status: blocked: no key\\n\\n- [ ]/' dev-docs/tasks.md",
                usage,
            ),
            "wait" if is_new => Reply::bash(TICK_ALL, usage).behind(&gate),
            "work" => Reply::bash("echo step >> work.log", usage),
            _ => ticks_at_once(request),
        }
    }
}

fn lab() -> (Lab, Gate) {
    let gate = Gate::new();
    (Lab::new(by_name(gate.clone())), gate)
}

fn state(lab: &Lab, id: &str) -> TaskState {
    lab.store().task(&TaskId::parse(id).unwrap()).unwrap().unwrap().state
}

#[test]
fn a_task_that_fails_is_an_error_and_the_next_one_runs() {
    let (lab, _) = lab();
    lab.add(json!({"id": "work-1", "description": "Do it", "budget": 0.001}));
    lab.add(json!({"id": "plain", "description": "Do it"}));
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 1, "{}", run.dump());
    assert_eq!(run.field("task_finished", "status"), ["error", "done"]);
    let failed = lab.result("work-1");
    assert_eq!(failed.errors, ["the budget of the task is spent"]);
    assert!(failed.cost_usd > 0.001, "{failed:?}");
    assert_eq!(run.event("queue_finished")["not_done"], json!(["work-1: error"]));
    assert_eq!(lab.alive(), []);
}

#[test]
fn a_blocked_task_blocks_those_after_it_and_no_other() {
    let (lab, _) = lab();
    lab.add(json!({"id": "block-1", "description": "Do it"}));
    lab.add(json!({"id": "after", "description": "Do it", "after": "block-1"}));
    lab.add(json!({"id": "plain", "description": "Do it"}));
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 10, "{}", run.dump());
    assert_eq!(run.field("task_finished", "task_id"), ["block-1", "plain"]);
    assert_eq!(lab.result("block-1").errors, ["the task file says blocked: no key"]);
    assert_eq!(state(&lab, "after"), TaskState::Blocked);
    assert!(lab.result("after").errors[0].contains("block-1"), "{:?}", lab.result("after"));
    // What was blocked is tried again when a person says so.
    let said = lab.longhaul_output(&["task", "retry", "block-1"]);
    assert_eq!(said.code(), 0, "{}", said.dump());
    assert_eq!(state(&lab, "after"), TaskState::Queued);
}

#[test]
fn a_task_is_done_when_its_own_verify_command_agrees() {
    let (lab, _) = lab();
    lab.add(json!({
        "id": "checked",
        "description": "Do it",
        "verify": "test -e seen || { touch seen; echo not yet; exit 1; }",
    }));
    let run = lab.queue_run(&["--set", "task.verify=false"]).finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    assert_eq!(run.field("verified", "passed"), [json!(false), json!(true)]);
    let verify = lab.result("checked").verify.unwrap();
    assert_eq!(verify.passed, Some(true));
}

#[test]
fn a_stopped_queue_gives_its_task_back_and_the_next_run_ends_it() {
    let (lab, gate) = lab();
    lab.add(json!({"id": "wait-1", "description": "Do it"}));
    let run = lab.queue_run(&[]);
    run.wait_event("session_started");
    lab.wait_session_request(0);
    run.signal(Signal::INT);
    run.signal(Signal::INT);
    let run = run.finished();
    assert_eq!(run.code(), 130, "{}", run.dump());
    assert_eq!(run.field("task_finished", "status"), ["queued"]);
    assert_eq!(state(&lab, "wait-1"), TaskState::Queued);
    assert_eq!(lab.alive(), []);
    gate.open();
    let again = lab.queue_run(&[]).finished();
    assert_eq!(again.code(), 0, "{}", again.dump());
    let result = lab.result("wait-1");
    assert_eq!((result.status, result.runs.len()), (TaskState::Done, 2));
    assert_eq!(result.errors, Vec::<String>::new(), "a stop is no error of the task");
    assert_eq!(result.warnings, ["went back to the queue: stopped (signal 2)"]);
}

#[test]
fn a_task_that_is_cancelled_at_work_ends_and_the_others_go_on() {
    let (lab, _gate) = lab();
    lab.add(json!({"id": "wait-1", "description": "Do it"}));
    lab.add(json!({"id": "plain", "description": "Do it"}));
    let run = lab.queue_run(&[]);
    run.wait_event("session_started");
    let said = lab.longhaul_output(&["task", "cancel", "wait-1"]);
    assert_eq!(said.code(), 0, "{}", said.dump());
    let run = run.finished();
    assert_eq!(run.field("task_started", "task_id"), ["wait-1", "plain"], "{}", run.dump());
    assert_eq!(
        (state(&lab, "wait-1"), state(&lab, "plain")),
        (TaskState::Cancelled, TaskState::Done)
    );
    assert_eq!(lab.result("wait-1").status, TaskState::Cancelled);
    assert_eq!(run.field("task_finished", "status"), ["cancelled", "done"]);
    assert_eq!(run.code(), 143, "{}", run.dump());
}

#[test]
fn a_queue_that_was_shot_goes_on_where_it_was() {
    let (lab, gate) = lab();
    lab.add(json!({"id": "plain", "description": "Do it", "batch": "b"}));
    lab.add(json!({"id": "wait-1", "description": "Do it", "batch": "b"}));
    let run = lab.queue_run(&[]);
    run.wait_event_nth("task_started", 1);
    run.kill();
    drop(run);
    lab.wait_gone();
    // A person's own run is not mixed with the queue's.
    let refused = lab.longhaul_output(&["run", "--json"]);
    assert_eq!(refused.code(), 40, "{}", refused.dump());
    assert!(refused.stderr.contains("longhaul queue run"), "{}", refused.stderr);
    gate.open();
    let again = lab.queue_run(&[]).finished();
    assert_eq!(again.code(), 0, "{}", again.dump());
    assert_eq!(again.count("run_resumed"), 1, "{}", again.dump());
    assert_eq!(again.field("task_started", "task_id"), ["wait-1"]);
    assert!(!lab.project().join("data/execute_queue.lock").exists());
    assert_eq!((lab.result("plain").runs.len(), lab.result("wait-1").runs.len()), (1, 1));
    assert_eq!(lab.alive(), []);
}

#[test]
fn one_process_runs_the_queue() {
    let (lab, gate) = lab();
    lab.add(json!({"id": "wait-1", "description": "Do it"}));
    let run = lab.queue_run(&[]);
    run.wait_event("task_started");
    let second = lab.queue_run(&[]).finished();
    assert_eq!(second.code(), 40, "{}", second.dump());
    assert!(second.stderr.contains("the queue is being run already"), "{}", second.stderr);
    let status: Value = lab.json(&["queue", "status", "--json"]);
    assert_eq!((&status["running"], &status["in_progress"]), (&json!(true), &json!(1)));
    gate.open();
    assert_eq!(run.finished().code(), 0);
}

#[test]
fn a_project_that_cannot_run_is_left_alone_and_its_tasks_stay_queued() {
    let (lab, _) = lab();
    let other = lab.another_project("other");
    std::fs::write(other.join("longhaul.toml"), "[claude]\ncommand = \"no-such-cli\"\n").unwrap();
    lab.add(json!({"id": "theirs", "description": "Do it", "project": other}));
    lab.add(json!({"id": "plain", "description": "Do it"}));
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 64, "{}", run.dump());
    assert_eq!((state(&lab, "theirs"), state(&lab, "plain")), (TaskState::Queued, TaskState::Done));
}

#[test]
fn a_project_without_notes_gets_what_a_task_needs() {
    let (lab, _) = lab();
    std::fs::remove_dir_all(lab.project().join("dev-docs")).unwrap();
    std::fs::remove_dir_all(lab.project().join(".claude")).unwrap();
    lab.add(json!({"id": "plain", "description": "Do it"}));
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    assert!(lab.read("dev-docs/PROJECT_SUMMARY.md").starts_with("# Project summary"));
    assert_eq!(lab.result("plain").status, TaskState::Done);
}

#[test]
fn a_watched_queue_takes_what_comes() {
    let (lab, _) = lab();
    let run = lab.queue_run(&["--watch"]);
    lab.wait_change("the queue's lock", || lab.state_dir().join("queue.lock").exists());
    lab.add(json!({"id": "late", "description": "Do it"}));
    run.wait_event("task_finished");
    run.signal(Signal::TERM);
    assert_eq!(run.finished().code(), 143);
    assert_eq!(lab.result("late").status, TaskState::Done);
}

#[test]
fn without_tasks_there_is_nothing_to_do() {
    let (lab, _) = lab();
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    assert_eq!(run.event("queue_finished")["done"], 0);
    assert_eq!(lab.api.requests().len(), 0);
}

/// Nobody looks at the project between two tasks: a session could otherwise have the
/// next run verify with a command of its own.
#[test]
fn what_a_session_changed_in_the_configuration_is_not_taken_for_the_next_task() {
    let lab = Lab::new(|request: &Request| -> Reply {
        let usage = Worker::default().usage(0);
        match task_of(request) == "sly" && request.tool_results.is_empty() {
            true => Reply::bash(
                format!(
                    "printf '\\n[task]\\nverify = \"touch pwned\"\\n' >> longhaul.toml; {TICK_ALL}"
                ),
                usage,
            ),
            false => ticks_at_once(request),
        }
    });
    lab.add(json!({"id": "sly", "description": "Do it"}));
    lab.add(json!({"id": "next", "description": "Do it"}));
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 10, "{}", run.dump());
    assert!(run.stderr.contains("longhaul.toml"), "{}", run.stderr);
    assert_eq!((state(&lab, "sly"), state(&lab, "next")), (TaskState::Done, TaskState::Queued));
    assert!(!lab.project().join("pwned").exists());
}

#[test]
fn a_task_that_loads_much_says_so() {
    let (lab, _) = lab();
    lab.add(json!({"id": "large", "description": "Do it"}));
    let run = lab.queue_run(&["--set", "queue.warn_input_tokens=19999"]).finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    let warning = &lab.result("large").warnings[0];
    assert!(warning.starts_with("task large loaded 20,000 tokens of context"), "{warning}");
    assert!(warning.contains("break it into smaller tasks"), "{warning}");
    assert!(run.words("warning", "text").contains(warning), "{}", run.dump());
}

#[test]
fn the_limit_of_a_day_holds_within_a_batch() {
    let (lab, _) = lab();
    for n in 1..=3 {
        lab.add(json!({"id": format!("plain-{n}"), "description": "Do it", "batch": "b"}));
    }
    let run = lab.queue_run(&["--set", "queue.max_cost_usd_per_day=0.001"]).finished();
    assert_eq!(run.code(), 20, "{}", run.dump());
    assert_eq!(run.field("task_finished", "task_id"), ["plain-1"]);
    assert_eq!(state(&lab, "plain-2"), TaskState::Queued);
}

/// Shoots the queue while `wait-1` is at work.
fn shot_at_work(lab: &Lab) {
    let run = lab.queue_run(&[]);
    run.wait_event("session_started");
    run.kill();
    drop(run);
    lab.wait_gone();
}

#[test]
fn a_task_cancelled_after_a_shot_is_cancelled_by_the_next_run_and_the_others_go_on() {
    let (lab, _gate) = lab();
    lab.add(json!({"id": "wait-1", "description": "Do it"}));
    lab.add(json!({"id": "plain", "description": "Do it"}));
    shot_at_work(&lab);
    assert_eq!(lab.longhaul_output(&["task", "cancel", "wait-1"]).code(), 0);
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 143, "{}", run.dump());
    assert_eq!(
        (state(&lab, "wait-1"), state(&lab, "plain")),
        (TaskState::Cancelled, TaskState::Done)
    );
    assert_eq!(lab.result("wait-1").status, TaskState::Cancelled);
}

#[test]
fn a_task_whose_project_is_gone_goes_back_and_can_be_cancelled() {
    let (lab, _gate) = lab();
    let other = lab.another_project("other");
    lab.add(json!({"id": "wait-1", "description": "Do it", "project": other}));
    shot_at_work(&lab);
    std::fs::remove_dir_all(&other).unwrap();
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 64, "{}", run.dump());
    assert_eq!(state(&lab, "wait-1"), TaskState::Queued);
    assert_eq!(lab.longhaul_output(&["task", "cancel", "wait-1"]).code(), 0);
    assert_eq!(state(&lab, "wait-1"), TaskState::Cancelled);
}

/// The same id was ticked before: in another queue, or by a session that looks ahead.
#[test]
fn a_section_that_stood_there_before_does_not_make_a_task_done() {
    let (lab, _) = lab();
    let forged = "<!-- longhaul task plain: begin -->\n- [x] Do it\n\
                  <!-- longhaul task plain: end -->\n";
    lab.write("dev-docs/tasks.md", forged);
    lab.add(json!({"id": "plain", "description": "Do it"}));
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    assert_eq!(lab.result("plain").sessions, 1);
}
