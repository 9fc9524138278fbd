//! Compaction before the checkpoint would throw away what no file holds yet: it
//! is held, a checkpoint is asked for, and a fresh session goes on.

use super::support::{Lab, Worker, finisher, first_then};

#[test]
fn the_held_compaction_is_a_reason_for_a_checkpoint() {
    let full = Worker { first_tokens: 97_000, step_tokens: 100, ..Worker::default() };
    let mut lab = Lab::new(first_then(1, full, finisher()));
    lab.arguments(&[
        "--model=claude-haiku-4-5",
        "--autocompact=100000",
        "--allowedTools=Bash,Edit,Read,Write",
    ]);
    let story = lab.story(&["--set", "context.threshold_percent=95"], 0);
    assert_eq!(story.run.reasons(), ["compaction", "done"], "{}", story.run.dump());
    assert_eq!(story.run.words("checkpoint_requested", "reason"), ["compaction"]);
    assert_eq!(story.of_cycles("checkpoint.status")[0], "verified");
    assert_eq!(story.of_cycles("compactions"), [0, 0]);
}
