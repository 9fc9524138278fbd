//! A service that is overloaded for a while: whoever tries again, the run goes
//! on in the same session.

use longhaul::demo::api::Reply;

use super::support::{Lab, failures, troubled};

#[test]
fn while_the_cli_tries_again_its_screen_is_told() {
    let lab = Lab::new(troubled(|nth| (nth < 5).then(Reply::overloaded)));
    let run = lab.night(&[]).finished().ended(0, "done");
    assert_eq!(run.count("session_started"), 1);
    let attempts = run.field("retrying", "attempt");
    assert!(!attempts.is_empty(), "{}", run.dump());
    assert!(attempts.iter().map(|n| n.as_u64().unwrap()).is_sorted(), "{attempts:?}");
    assert!(run.words("retrying", "class").iter().all(|class| class == "overloaded"));
    assert_eq!(failures(&lab.report(), "overloaded"), 1);
}

#[test]
fn when_the_cli_gives_up_longhaul_tries_again() {
    let mut lab = Lab::new(troubled(|nth| (nth < 3).then(Reply::overloaded)));
    lab.set_env("CLAUDE_CODE_MAX_RETRIES", "0");
    let run = lab.night(&[]).finished().ended(0, "done");
    assert_eq!(run.count("session_started"), 1);
    let attempts = run.field("retrying", "attempt");
    assert_eq!(attempts, [1, 2, 3].map(serde_json::Value::from), "{}", run.dump());
    assert_eq!(failures(&lab.report(), "overloaded"), 3);
}
