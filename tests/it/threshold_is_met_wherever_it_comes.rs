//! The threshold is crossed in the middle of a turn, with its last words, and
//! with a tool call that takes long: the request is heard as soon as the CLI
//! can hear one.

use std::fs;
use std::process::Command;

use longhaul::demo::api::{Gate, Reply, Request, Script};

use super::support::{DEADLINE, Lab, Run, Story, Worker, said};

fn start(lab: &mut Lab) -> Run {
    lab.watch_statusline();
    lab.longhaul(&["run", "--json"])
}

/// The request has reached the CLI's queue.
fn wait_until_queued(lab: &Lab, run: &Run) {
    let started = run.wait_event("session_started");
    run.wait_event("checkpoint_requested");
    lab.wait_change("the request in the CLI's queue", || {
        lab.transcript(started["session_id"].as_str().unwrap())
            .iter()
            .any(|row| row["type"] == "queue-operation" && row["operation"] == "enqueue")
    });
}

fn is_verified_in_cycle_1(story: &Story) {
    let expected = [
        "session_started",
        "threshold_reached",
        "checkpoint_requested",
        "checkpoint_delivered",
        "checkpoint_verified",
        "session_ended",
    ];
    assert_eq!(story.run.milestones(1), expected, "{}", story.run.dump());
    assert_eq!(story.run.reasons(), ["threshold", "done"]);
}

fn request_with_the_request(lab: &Lab, story: &Story) -> std::sync::Arc<Request> {
    let id = &story.run.sessions()[0];
    lab.api
        .wait_for(DEADLINE, |r| r.session_id == *id && r.new_user_text.starts_with("CHECKPOINT"))
        .unwrap()
}

#[test]
fn in_the_middle_of_a_turn_it_is_heard_at_the_next_tool_boundary() {
    let worker = Worker { done_in_session: Some(2), ..Worker::brisk() };
    let gate = Gate::new();
    let held = gate.clone();
    let mut lab = Lab::new(move |request: &Request| {
        let reply = worker.reply(request);
        // After the crossing answer: held until the request is in the queue.
        let is_next = request.session_index == 0 && request.index_in_session == 3;
        if is_next { reply.behind(&held) } else { reply }
    });
    let run = start(&mut lab);
    lab.api.wait_for(DEADLINE, |r| r.index_in_session == 3).unwrap();
    wait_until_queued(&lab, &run);
    gate.open();
    let story = lab.story_of(run.finished(), 0);
    is_verified_in_cycle_1(&story);
    let told = request_with_the_request(&lab, &story);
    // With the held one if it was typed before that was sent, else the next.
    assert!(told.queued && told.index_in_session <= 4, "{}", told.index_in_session);
    assert_eq!(told.tool_results.len(), 1, "with the result of a call of the same turn");
}

#[test]
fn with_the_last_words_of_a_turn_it_starts_the_next_one() {
    let worker = Worker { steps: Some(2), done_in_session: Some(2), ..Worker::brisk() };
    let mut lab = Lab::new(worker);
    let story = lab.story(&[], 0);
    is_verified_in_cycle_1(&story);
    assert!(story.run.named("nudged").is_empty(), "{}", story.run.dump());
    let told = request_with_the_request(&lab, &story);
    assert_eq!((told.index_in_session, told.queued), (3, false));
    assert_eq!(said(&lab, &story.run.sessions()[0]).len(), 2, "the first prompt and the request");
}

#[test]
fn inside_a_long_tool_call_it_waits_in_the_queue_and_is_heard_after_it() {
    let worker = Worker { done_in_session: Some(2), ..Worker::brisk() };
    let mut lab = Lab::new(move |request: &Request| {
        if request.session_index == 0 && !request.side && request.index_in_session == 2 {
            // Returns when somebody opens the other end.
            return Reply::bash("cat whistle", worker.usage_now(request));
        }
        worker.reply(request)
    });
    let whistle = lab.project().join("whistle");
    assert!(Command::new("mkfifo").arg(&whistle).status().unwrap().success());
    let run = start(&mut lab);
    wait_until_queued(&lab, &run);
    run.wait_event("checkpoint_delivered");
    fs::write(&whistle, "go").unwrap();
    let story = lab.story_of(run.finished(), 0);
    is_verified_in_cycle_1(&story);
    let told = request_with_the_request(&lab, &story);
    assert_eq!((told.index_in_session, told.queued), (3, true));
    assert_eq!(told.tool_results[0].text, "go");
}

#[test]
fn together_with_the_end_of_the_task_no_further_session_is_started() {
    let worker = Worker { done_in_session: Some(1), first_tokens: 40_000, ..Worker::default() };
    let full = Worker { first_tokens: 150_000, ..worker.clone() };
    let mut lab = Lab::new(move |request: &Request| {
        let is_last = !request.side && request.index_in_session > 0;
        if is_last { full.reply(request) } else { worker.reply(request) }
    });
    let story = lab.story(&[], 0);
    assert_eq!(story.run.sessions().len(), 1, "{}", story.run.dump());
    assert_eq!(story.of_cycles("tasks_done_after"), [3]);
    assert_eq!(story.report["outcome"], "done");
}
