//! The laboratory's own tools: events are told from noise, and whatever a test
//! starts, however far it runs away, is found and killed.

use longhaul::demo::api::{Reply, Request};
use rustix::process::Signal;

use super::support::{Lab, Run};

fn lab() -> Lab {
    Lab::new(|_: &Request| Reply::hang())
}

#[test]
fn a_grandchild_in_a_session_of_its_own_is_found_and_killed() {
    let lab = lab();
    let script = r#"setsid sh -c 'echo "{\"event\":\"started\"}"; exec sleep 1000' & wait"#;
    let run = Run::start(lab.command("sh").args(["-c", script]));
    run.wait_event("started");
    run.signal(Signal::KILL);
    run.wait_exit();
    assert_eq!(lab.survivors().len(), 1, "{:?}", lab.survivors());
    let id = lab.id.clone();
    drop(lab);
    assert_eq!(super::support::with_variable("LAB_ID", &id), []);
}

#[test]
fn events_come_in_order_with_noise_left_out_and_the_exit_code_is_told() {
    let lab = lab();
    let script = "echo noise; echo '{\"event\":\"a\",\"n\":1}'; echo '{\"event\":\"a\",\"n\":2}'; echo oops >&2; kill -TERM $$";
    let run = Run::start(lab.command("sh").args(["-c", script]));
    assert_eq!(run.wait_event_nth("a", 1)["n"], 2);
    let finished = run.finished();
    assert_eq!(
        (finished.code(), finished.events.len(), finished.stderr.as_str()),
        (143, 2, "oops\n")
    );
    assert!(finished.stdout.starts_with("noise\n"));
}
