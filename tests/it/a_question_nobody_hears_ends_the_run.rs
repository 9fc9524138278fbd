//! A session that waits for a person's answer would wait all night: the run
//! ends and says what was asked.

use super::support::{Lab, Story, Worker};

fn asks(mode: &str, model: &str) -> Story {
    let mut lab = Lab::new(Worker { command: "rm -f work.log".into(), ..Worker::brisk() });
    lab.arguments(&["--model", model, "--permission-mode", mode]);
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
