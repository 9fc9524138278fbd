//! A session that waits for a person's answer would wait all night: the run
//! ends and says what was asked.

use super::support::{Lab, Story, Worker};

fn asks(mode: &str, model: &str) -> Story {
    let mut lab = Lab::new(Worker { command: "rm -f work.log".into(), ..Worker::brisk() });
    lab.arguments(&["--model", model, "--permission-mode", mode]);
    lab.set("permissions.policy", "stop");
    let story = lab.story(&[], 10);
    assert_eq!(story.run.reasons(), ["needs_person"]);
    assert_eq!(story.report["outcome"], "needs_person");
    story
}

#[test]
fn a_permission_to_run_a_command() {
    let story = asks("default", "claude-haiku-4-5");
    let message = story.report["message"].as_str().unwrap();
    assert!(message.contains("permission"), "{message}");
}

/// Auto mode asks the API's server to check each action; this one does not.
#[test]
fn a_safety_check_that_is_not_served() {
    let story = asks("auto", "claude-opus-5-5");
    let message = story.report["message"].as_str().unwrap();
    assert!(message.contains("Auto mode"), "{message}");
}

/// Then no hook tells that somebody is waited for, nor is there a statusline.
#[test]
fn a_permission_where_hooks_are_switched_off() {
    let mut lab = Lab::new(Worker { command: "rm -f work.log".into(), ..Worker::brisk() });
    std::fs::write(lab.home.config_dir().join("settings.json"), r#"{"disableAllHooks": true}"#)
        .unwrap();
    lab.arguments(&["--model", "claude-haiku-4-5", "--permission-mode", "default"]);
    lab.set("permissions.policy", "stop");
    let run = lab.run().finished().ended(10, "needs_person");
    let message = run.event("run_finished")["message"].as_str().unwrap();
    assert!(message.contains("permission"), "{message}");
    lab.wait_gone();
}

/// The request for a checkpoint is typed just when the question comes up: its
/// Enter must not be taken for a yes.
#[test]
fn a_question_is_never_answered_by_what_is_typed() {
    let worker = Worker { command: "touch made".into(), first_tokens: 150_000, ..Worker::brisk() };
    let mut lab = Lab::new(worker);
    lab.arguments(&["--model", "claude-haiku-4-5", "--permission-mode", "default"]);
    lab.set("permissions.policy", "stop");
    // With them the question is answered before anything is typed.
    std::fs::write(lab.home.config_dir().join("settings.json"), r#"{"disableAllHooks": true}"#)
        .unwrap();
    let run = lab.run().finished().ended(10, "needs_person");
    assert_eq!((run.count("threshold_reached"), run.count("checkpoint_delivered")), (1, 0));
    assert!(!lab.project().join("made").exists(), "longhaul gave a permission");
    lab.wait_gone();
}
