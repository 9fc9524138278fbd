//! The demo's worker on the real CLI: every session starts from disk.

use std::time::Duration;

use longhaul::demo::project::{Demo, MODEL, WINDOW_TOKENS};
use longhaul::demo::scenario;

use super::support::{Lab, Worker};

#[test]
fn the_worker_does_all_tasks_and_ticks_them() {
    let lab = Lab::new(Worker::default());
    let worker = scenario::Worker {
        latency: Duration::ZERO,
        ..scenario::Worker::for_window(WINDOW_TOKENS, "CHECKPOINT")
    };
    let demo = Demo::prepare(&lab.root().join("demo"), lab.cli().clone(), worker).unwrap();
    let run = |prompt: &str| {
        let output = lab
            .command(&demo.cli.program)
            .current_dir(&demo.project_dir)
            .envs(demo.home.env(&demo.api.base_url()))
            .args(["-p", "--model", MODEL, "--allowedTools=Bash,Edit,Read,Write", prompt])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let docs =
        |name: &str| std::fs::read_to_string(demo.project_dir.join("dev-docs").join(name)).unwrap();

    assert!(run("CHECKPOINT: write it down").contains("checkpoint is written"));
    assert!(
        docs("PROJECT_SUMMARY.md").contains("## Checkpoint 1"),
        "{}",
        docs("PROJECT_SUMMARY.md")
    );
    assert!(docs("plan.md").contains("Progress: 0 of 14 at checkpoint 1"));
    assert!(docs("tasks.md").contains("(checkpoint 1): task 1, write pages/sun.md"));
    assert_eq!(docs("tasks.md").matches("- [ ] ").count(), 14);

    assert!(run("/session-init").contains("Every task is ticked off"));
    assert_eq!(docs("tasks.md").matches("- [x] ").count(), 14, "{}", docs("tasks.md"));
    assert!(
        std::fs::read_to_string(demo.project_dir.join("pages/mars.md"))
            .unwrap()
            .starts_with("# Mars\n")
    );
}
