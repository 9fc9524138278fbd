//! The grammar of the task file, at work: what ends a run, and what does not.

use longhaul::demo::api::{Reply, Request, Script};

use super::support::{Lab, Story, Worker};

/// A session that runs this command, then ends its turn.
fn a_session_that_runs(command: &'static str) -> Lab {
    let worker = Worker { step_tokens: 2_000, ..Worker::default() };
    Lab::new(move |request: &Request| {
        let usage = worker.usage_now(request);
        match (worker.asked(request), request.turns.len()) {
            _ if request.side => worker.reply(request),
            (None, 1) => Reply::bash(command, usage),
            (None, _) => Reply::text("So be it.", usage),
            (Some(_), _) => worker.reply(request),
        }
    })
}

fn ended_in_one_session(story: &Story, reason: &str) {
    assert_eq!(story.run.reasons(), [reason], "{}", story.run.dump());
    assert!(story.run.named("nudged").is_empty(), "{}", story.run.dump());
    assert!(story.run.named("checkpoint_requested").is_empty());
}

#[test]
fn a_status_line_says_done_though_boxes_are_open() {
    let story =
        a_session_that_runs("echo; echo '**Status:** Done' >> dev-docs/tasks.md").story(&[], 0);
    ended_in_one_session(&story, "done");
    assert_eq!(story.of_cycles("tasks_done_after"), [0]);
}

#[test]
fn a_status_line_says_blocked_and_a_person_is_needed() {
    let command = "sed -i '1a Status: blocked: the key to the cellar is lost' dev-docs/tasks.md";
    let story = a_session_that_runs(command).story(&[], 10);
    ended_in_one_session(&story, "blocked");
    assert_eq!(story.report["outcome"], "needs_person");
    let message = story.run.named("run_finished")[0]["message"].as_str().unwrap();
    assert!(message.contains("the key to the cellar is lost"), "{message}");
}

#[test]
fn a_task_that_is_done_before_the_start_needs_no_session() {
    let lab = Lab::new(Worker::default());
    lab.write("dev-docs/tasks.md", "# Tasks\n\n- [x] one\n- [X] two\n");
    let run = lab.longhaul_output(&["run", "--json"]);
    assert_eq!(run.code(), 0, "{}", run.dump());
    assert!(run.named("session_started").is_empty(), "{}", run.dump());
    assert_eq!(run.field("run_finished", "outcome"), ["done"]);
    assert_eq!(lab.api.requests().len(), 0);
    let report: serde_json::Value =
        serde_json::from_str(&lab.longhaul_output(&["report", "--json"]).stdout).unwrap();
    assert_eq!(report["cycles"], serde_json::json!([]));
    assert_eq!(report["tasks_done_before"], 2);
    lab.wait_for_no_survivors();
}

#[test]
fn what_stands_in_a_fence_or_a_quote_says_nothing() {
    let command = r"printf '# Tasks\n\n```\n- [x] fenced\nStatus: done\n```\n> Status: done\n> - [x] quoted\n\n- [ ] the one task\n' > dev-docs/tasks.md";
    let mut lab = a_session_that_runs(command);
    lab.set("session.max_nudges", 0);
    lab.set("limits.no_progress_cycles", 1);
    lab.set("limits.max_sessions", 1);
    let run = lab.longhaul_output(&["run", "--json"]);
    assert!([20, 21].contains(&run.code()), "{}", run.dump());
    let last = run.named("tasks").last().copied().unwrap().clone();
    assert_eq!((last["done"].as_u64(), last["total"].as_u64()), (Some(0), Some(1)));
}
