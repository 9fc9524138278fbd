//! A turn that ends with work left: the session is told to go on, as often as
//! there is progress, and not for ever without.

use super::support::{Lab, Worker, said};

const GO_ON: &str = "Keep walking; the river is not far.";

#[test]
fn without_progress_it_is_told_so_often_then_cycled_and_at_last_the_run_stops() {
    let worker =
        Worker { steps: Some(1), command: "true".into(), step_tokens: 2_000, ..Worker::default() };
    let mut lab = Lab::new(worker);
    lab.set("session.continue_prompt", GO_ON);
    lab.set("session.max_nudges", 2);
    lab.set("limits.no_progress_cycles", 2);
    let story = lab.story(&[], 21);
    assert_eq!(story.report["outcome"], "no_progress");
    assert_eq!(story.run.reasons(), ["no_progress", "no_progress"]);
    assert_eq!(story.run.field("nudged", "count"), [1, 2, 1, 2], "{}", story.run.dump());
    assert_eq!(story.of_cycles("nudges"), [2, 2]);
    for session in story.run.sessions() {
        let said = said(&lab, &session);
        assert_eq!(said[1..3], [GO_ON, GO_ON]);
        assert!(said[3].starts_with("CHECKPOINT") && said.len() == 4, "{said:#?}");
    }
    assert_eq!(story.of_cycles("checkpoint.status"), ["verified", "verified"]);
}

#[test]
fn with_progress_it_is_told_until_its_context_is_full() {
    let worker = Worker {
        steps: Some(1),
        step_tokens: 16_000,
        done_in_session: Some(2),
        ..Worker::default()
    };
    let mut lab = Lab::new(worker);
    lab.set("session.continue_prompt", GO_ON);
    lab.set("session.max_nudges", 1);
    let story = lab.story(&[], 0);
    assert_eq!(story.run.reasons(), ["threshold", "done"]);
    let counts = story.run.field("nudged", "count");
    assert!(counts.len() >= 3 && counts.iter().all(|count| *count == 1), "{}", story.run.dump());
}

#[test]
fn the_default_prompt_names_the_task_file_as_the_way_out() {
    let mut lab = Lab::new(Worker {
        steps: Some(1),
        command: "true".into(),
        step_tokens: 1_000,
        ..Worker::default()
    });
    lab.set("session.max_nudges", 1);
    lab.set("limits.no_progress_cycles", 1);
    let story = lab.story(&[], 21);
    let said = said(&lab, &story.run.sessions()[0]);
    assert!(said[1].contains("Status: blocked") && said[1].contains("next open"), "{}", said[1]);
}
