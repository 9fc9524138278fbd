//! A program that a session started and that took care not to be found does not
//! outlive it.

use super::support::{Lab, first_step, first_then, ticks_at_once};

const ESCAPES: [&str; 3] = [
    "setsid sh -c 'sleep 600 & sleep 600' >/dev/null 2>&1 < /dev/null &",
    "env -i setsid sh -c '(trap \"\" TERM HUP; /bin/sleep 600; :) &' >/dev/null 2>&1 < /dev/null",
    "python3 -c 'import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(600)'",
];

#[test]
fn however_far_it_forked() {
    let mut lab = Lab::new(first_then(1, first_step(&ESCAPES.join("\n")), ticks_at_once));
    let story = lab.story(&["--set", "context.threshold_tokens=20300"], 0);
    assert_eq!(story.run.reasons(), ["threshold", "done"], "{}", story.run.dump());
    let killed = story.run.field("session_ended", "killed")[0].as_u64().unwrap();
    assert!(killed >= 4, "{}", story.run.dump());
    assert_eq!(story.report["survivors"], 0);
    lab.wait_gone();
}
