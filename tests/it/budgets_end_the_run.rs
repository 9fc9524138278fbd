//! Sessions, tokens, dollars and hours: each ends the run with 20, after a
//! checkpoint, and without spending much more than was granted.

use std::time::Duration;

use super::support::{Lab, Story, Worker};

/// Never full and never done.
fn wanderer() -> Worker {
    Worker { step_tokens: 1_000, latency: Duration::from_millis(100), ..Worker::default() }
}

fn is_spent(story: &Story, key: &str) {
    assert_eq!(story.report["outcome"], "budget", "{}", story.run.dump());
    let message = story.report["message"].to_string();
    assert!(message.contains(key), "{message}");
    assert_eq!(story.run.reasons().last(), Some(&"budget"));
    assert_eq!(story.of_cycles("checkpoint.status"), ["verified"]);
    assert!(story.run.named("threshold_reached").is_empty());
}

#[test]
fn so_many_sessions() {
    let mut lab = Lab::new(Worker::brisk());
    let story = lab.story(&["--set", "limits.max_sessions=2"], 20);
    assert_eq!(story.report["outcome"], "budget");
    assert_eq!(story.run.sessions().len(), 2);
    assert_eq!(story.run.reasons(), ["threshold", "threshold"]);
    assert_eq!(story.of_cycles("checkpoint.status"), ["verified", "verified"]);
    assert!(story.report["message"].to_string().contains("limits.max_sessions"));
}

#[test]
fn so_many_tokens() {
    let mut lab = Lab::new(wanderer());
    let story = lab.story(&["--set", "limits.max_tokens=150000"], 20);
    is_spent(&story, "limits.max_tokens");
    let tokens = story.report["totals"]["tokens"].as_u64().unwrap();
    // The answers in flight, the checkpoint's two, and no more.
    let at_most = 150_000 + 6 * 30_000;
    assert!((150_000..at_most).contains(&tokens), "{tokens}");
}

#[test]
fn so_many_dollars() {
    let mut lab = Lab::new(wanderer());
    let story = lab.story(&["--set", "limits.max_cost_usd=0.04"], 20);
    is_spent(&story, "limits.max_cost_usd");
    let usd = story.report["totals"]["cost_usd"].as_f64().unwrap();
    // An answer costs half a cent or less.
    assert!((0.04..0.04 + 6.0 * 0.005).contains(&usd), "{usd}");
}

#[test]
fn a_model_without_a_price_does_not_escape_the_dollars() {
    let mut lab = Lab::new(wanderer());
    lab.arguments(&[
        "--model=claude-marvel-9",
        "--permission-mode=acceptEdits",
        "--allowedTools=Bash,Edit,Read,Write",
    ]);
    let story = lab.story(&["--set", "limits.max_cost_usd=0.5"], 20);
    is_spent(&story, "limits.max_cost_usd");
}

#[test]
fn so_many_hours() {
    let mut lab = Lab::new(wanderer());
    let story = lab.story(&["--set", "limits.max_hours=0.0015"], 20);
    is_spent(&story, "limits.max_hours");
    let ms = story.report["elapsed_ms"].as_u64().unwrap();
    assert!(ms >= 5_400, "{ms}");
}
