//! `task.verify`: all boxes ticked is a claim, and this command's exit code
//! settles it.

use longhaul::demo::api::{Reply, Request, Script};
use serde_json::json;

use super::support::{Lab, TICK_ALL, Worker, said};

const VERIFY: &str = "test -e fixed || { echo the widget is upside down >&2; exit 3; }";

#[test]
fn its_last_words_go_back_to_the_session_until_it_passes() {
    let worker = Worker { first_tokens: 20_000, step_tokens: 5_000, ..Worker::default() };
    let mut lab = Lab::new(move |request: &Request| {
        let usage = worker.usage_now(request);
        let told = request.turns.iter().rfind(|turn| turn.is_said());
        let fails = told.is_some_and(|turn| turn.texts.iter().any(|t| t.contains("upside down")));
        match (worker.calls(request), fails) {
            _ if request.side => worker.reply(request),
            (0, true) => Reply::bash("touch fixed", usage),
            (0, false) => Reply::bash(TICK_ALL, usage),
            _ => Reply::text("All is done.", usage),
        }
    });
    lab.set("task.verify", VERIFY);
    let story = lab.story(&[], 0);
    assert_eq!(story.run.field("verified", "passed"), [false, true]);
    assert_eq!(story.run.milestones(1), ["session_started", "session_ended", "run_finished"]);
    let said = said(&lab, &story.run.sessions()[0]);
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[1].contains("the widget is upside down"), "{}", said[1]);
    assert!(said[1].contains("verify"), "it says what failed: {}", said[1]);
}

#[test]
fn it_is_run_in_the_project_and_passes_at_once() {
    let mut lab = Lab::new(Worker { done_in_session: Some(1), ..Worker::default() });
    lab.set("task.verify", "echo verified >> verified.log && test -e longhaul.toml");
    let story = lab.story(&[], 0);
    assert_eq!(story.run.field("verified", "passed"), [true]);
    assert_eq!(lab.read("verified.log"), "verified\n", "once");
}

#[test]
fn one_that_never_passes_ends_the_run_and_does_not_go_round_for_ever() {
    let worker = Worker { done_in_session: Some(1), step_tokens: 2_000, ..Worker::default() };
    let mut lab = Lab::new(move |request: &Request| {
        let usage = worker.usage_now(request);
        match (worker.asked(request), worker.calls(request)) {
            _ if request.side => worker.reply(request),
            // Told what fails, it only says again that all is well.
            (None, 0) if request.turns.len() > 1 => Reply::text("It is done, really.", usage),
            _ => worker.reply(request),
        }
    });
    lab.set("task.verify", VERIFY);
    lab.set("session.max_nudges", 1);
    lab.set("limits.no_progress_cycles", 1);
    let story = lab.story(&[], 21);
    assert_eq!(story.report["outcome"], "no_progress");
    let passed = story.run.field("verified", "passed");
    assert!(passed.len() >= 3 && passed.iter().all(|passed| *passed == json!(false)));
    let sessions = story.run.sessions();
    assert!(sessions.len() <= 3, "{}", story.run.dump());
    // A fresh session is told as well what fails.
    let first = &said(&lab, sessions.last().unwrap())[0];
    assert!(first.contains("session-init") && first.contains("upside down"), "{first}");
}

#[test]
fn what_it_leaves_behind_ends_with_the_run() {
    let mut lab = Lab::new(Worker { done_in_session: Some(1), ..Worker::default() });
    // Out of its process group, without a parent, and without a mark.
    lab.set("task.verify", "(env -i LAB_LEFT=$LAB_ID setsid sleep 600 >left 2>&1 &); setsid sleep 600 >left 2>&1 & true");
    let story = lab.story(&[], 0);
    assert_eq!(story.run.field("verified", "passed"), [true]);
    let left = super::support::with_variable("LAB_LEFT", &lab.id);
    assert!(left.is_empty(), "{left:?}");
    assert!(lab.survivors().is_empty(), "{:?}", lab.survivors());
}

#[test]
fn its_words_attach_no_file() {
    let worker = Worker { first_tokens: 20_000, step_tokens: 5_000, ..Worker::default() };
    let mut lab = Lab::new(move |request: &Request| {
        let usage = worker.usage_now(request);
        let told = request.turns.iter().rfind(|turn| turn.is_said());
        let fails = told.is_some_and(|turn| turn.texts.iter().any(|t| t.contains("upside down")));
        match (worker.calls(request), fails) {
            _ if request.side => worker.reply(request),
            (0, true) => Reply::bash("touch fixed", usage),
            (0, false) => Reply::bash(TICK_ALL, usage),
            _ => Reply::text("All is done.", usage),
        }
    });
    let secret = lab.root().join("secret");
    std::fs::write(&secret, "the crown jewels").unwrap();
    let verify =
        format!("test -e fixed || {{ echo upside down; echo @{}; exit 3; }}", secret.display());
    lab.set("task.verify", verify);
    let story = lab.story(&[], 0);
    let session = &story.run.sessions()[0];
    assert!(said(&lab, session)[1].contains("secret"), "{:#?}", said(&lab, session));
    let rows = format!("{:?}", lab.transcript(session));
    assert!(!rows.contains("the crown jewels"), "the file was attached");
}
