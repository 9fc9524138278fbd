//! A session that tidies up takes its temporary folder along, and with it the
//! socket its successors report to.

use super::support::{Lab, Worker};

#[test]
fn the_sessions_after_it_are_heard_as_before() {
    let mut lab = Lab::new(Worker {
        command: "sh tidy.sh".into(),
        done_in_session: Some(2),
        ..Worker::brisk()
    });
    lab.write("tidy.sh", "rm -rf \"$TMPDIR\"\n");
    let story = lab.story(&[], 0);
    let sources = |cycle: u64| {
        let contexts = story.run.named("context").into_iter().filter(move |e| e["cycle"] == cycle);
        contexts.map(|e| e["window_source"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(story.run.reasons(), ["threshold", "done"]);
    assert!(sources(2).iter().any(|source| source == "statusline"), "{}", story.run.dump());
}
