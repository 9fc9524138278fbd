//! Sessions that refuse, forget or spoil their checkpoint, and sessions that
//! never come to an end with it.

use std::fs;
use std::process::Command;

use longhaul::demo::api::{Reply, Request, Script};
use serde_json::json;

use super::support::{Checkpoint, Lab, Story, Worker, said};

const ASKED_TWICE: [&str; 8] = [
    "session_started",
    "threshold_reached",
    "checkpoint_requested",
    "checkpoint_delivered",
    "checkpoint_requested",
    "checkpoint_delivered",
    "checkpoint_failed",
    "session_ended",
];

fn second_request(lab: &Lab, story: &Story) -> String {
    let said = said(lab, &story.run.sessions()[0]);
    let requests: Vec<_> = said.iter().filter(|text| text.contains("CHECKPOINT")).collect();
    assert_eq!(requests.len(), 2, "{said:#?}");
    requests[1].clone()
}

#[test]
fn a_session_that_refuses_is_asked_twice_and_then_longhaul_writes_the_brief() {
    let worker =
        Worker { checkpoint: Checkpoint::Refuse, done_in_session: Some(2), ..Worker::brisk() };
    let mut lab = Lab::new(move |request: &Request| {
        if !request.side && request.session_index == 0 && request.index_in_session == 0 {
            let input = json!({ "file_path": "widget.txt", "content": "half a widget" });
            return Reply::tool("Write", input, worker.usage(0)).saying("I begin with the widget.");
        }
        worker.reply(request)
    });
    let story = lab.story(&[], 0);
    assert_eq!(story.run.milestones(1), ASKED_TWICE, "{}", story.run.dump());
    assert_eq!(story.run.field("checkpoint_requested", "attempt"), [1, 2]);
    let missing = "none of dev-docs/PROJECT_SUMMARY.md, dev-docs/plan.md, dev-docs/tasks.md \
                   has changed since the request";
    assert!(second_request(&lab, &story).contains(missing));
    assert_eq!(story.run.field("checkpoint_failed", "reason"), [missing]);

    let brief = lab.read("dev-docs/handoff.md");
    for part in ["I would rather not.", "widget.txt", "0 of 3 ticked", "one", "two", "three"] {
        assert!(brief.contains(part), "{part}: {brief}");
    }
    let next = &said(&lab, &story.run.sessions()[1])[0];
    assert!(next.contains("dev-docs/handoff.md"), "it is not told to read the brief: {next}");

    let checkpoint = &story.report["cycles"][0]["checkpoint"];
    assert_eq!(
        (&checkpoint["status"], &checkpoint["trouble"]),
        (&json!("handoff"), &json!(missing))
    );
    let warnings = story.report["warnings"].to_string();
    assert!(warnings.contains("longhaul wrote dev-docs/handoff.md itself"), "{warnings}");
    let human = lab.longhaul_output(&["report"]).stdout;
    assert!(human.contains("handoff.md"), "{human}");
}

#[test]
fn what_the_tool_at_work_writes_before_the_request_is_heard_proves_nothing() {
    let worker =
        Worker { checkpoint: Checkpoint::Refuse, done_in_session: Some(2), ..Worker::brisk() };
    let mut lab = Lab::new(move |request: &Request| {
        if !request.side && request.session_index == 0 && request.index_in_session == 2 {
            // Returns when somebody opens the other end, then ticks a task.
            let command = r"cat whistle; sed -i '0,/\[ \]/s//[x]/' dev-docs/tasks.md";
            return Reply::bash(command, worker.usage_now(request));
        }
        worker.reply(request)
    });
    let whistle = lab.project().join("whistle");
    assert!(Command::new("mkfifo").arg(&whistle).status().unwrap().success());
    lab.watch_statusline();
    let run = lab.longhaul(&["run", "--json"]);
    run.wait_event("checkpoint_delivered");
    fs::write(&whistle, "go").unwrap();
    let story = lab.story_of(run.finished(), 0);
    assert_eq!(story.run.milestones(1), ASKED_TWICE, "{}", story.run.dump());
    assert_eq!(story.of_cycles("tasks_done_after")[0], 1);
    assert_eq!(story.report["cycles"][0]["checkpoint"]["status"], "handoff");
}

/// The first request is answered with `spoil`, the second properly.
fn spoiled_once(spoil: &'static str, mend: &'static str) -> (Lab, Story) {
    let worker = Worker { done_in_session: Some(2), ..Worker::brisk() };
    let mut lab = Lab::new(move |request: &Request| {
        let usage = worker.usage_now(request);
        match (worker.asked(request), worker.calls(request)) {
            _ if request.side => worker.reply(request),
            (Some(1), 0) => Reply::bash(spoil, usage),
            (Some(2), 0) => Reply::bash(mend, usage),
            (Some(_), _) => Reply::text("Written down.", usage),
            (None, _) => worker.reply(request),
        }
    });
    let story = lab.story(&[], 0);
    let mut expected = ASKED_TWICE;
    expected[6] = "checkpoint_verified";
    assert_eq!(story.run.milestones(1), expected, "{}", story.run.dump());
    assert_eq!(story.of_cycles("checkpoint.status"), ["verified", "none"]);
    assert!(!lab.project().join("dev-docs/handoff.md").exists());
    (lab, story)
}

#[test]
fn an_emptied_file_is_no_checkpoint_until_it_is_mended() {
    let (lab, story) = spoiled_once(
        "echo news >> dev-docs/PROJECT_SUMMARY.md; : > dev-docs/plan.md",
        "echo '# Plan' > dev-docs/plan.md",
    );
    assert!(second_request(&lab, &story).contains("dev-docs/plan.md is empty"));
    let files = &story.run.field("checkpoint_verified", "files")[0];
    assert_eq!(*files, json!(["dev-docs/PROJECT_SUMMARY.md", "dev-docs/plan.md"]));
}

#[test]
fn a_task_file_that_lost_its_boxes_is_no_checkpoint_until_it_is_mended() {
    let (lab, story) = spoiled_once(
        "echo '# Tasks' > dev-docs/tasks.md",
        r"printf -- '- [x] one\n- [ ] two\n- [ ] three\n' > dev-docs/tasks.md",
    );
    assert!(second_request(&lab, &story).contains("dev-docs/tasks.md has lost its 3 checkboxes"));
    assert_eq!(story.of_cycles("tasks_done_after"), [1, 3]);
}

fn never_ends(answer: impl Fn(&Worker, &Request) -> Reply + Send + Sync + 'static) {
    let worker = Worker { done_in_session: Some(2), ..Worker::brisk() };
    let mut lab = Lab::new(move |request: &Request| {
        let asked = if request.side { None } else { worker.asked(request) };
        if asked.is_some() { answer(&worker, request) } else { worker.reply(request) }
    });
    lab.set("checkpoint.timeout", "2s");
    let story = lab.story(&[], 0);
    assert_eq!(story.run.milestones(1), ASKED_TWICE, "{}", story.run.dump());
    assert!(second_request(&lab, &story).contains("was not answered in time"));
    let reasons = story.run.field("checkpoint_failed", "reason");
    assert!(reasons[0].as_str().unwrap().contains("in time"), "{reasons:?}");
    assert!(lab.was_interrupted(&story.run.sessions()[0]), "Esc ended the turn");
    assert_eq!(story.of_cycles("checkpoint.status"), ["handoff", "none"]);
    assert!(fs::exists(lab.project().join("dev-docs/handoff.md")).unwrap());
}

#[test]
fn an_answer_that_never_comes_is_interrupted_asked_again_and_given_up() {
    never_ends(|_, _| Reply::hang());
}

#[test]
fn a_session_that_works_on_is_interrupted_asked_again_and_given_up() {
    never_ends(|worker, request| {
        Reply::bash("echo more", worker.usage(3))
            .after(std::time::Duration::from_millis(100 + u64::from(request.index_in_session)))
    });
}
