//! The first INT, TERM or HUP has the session write its state down and ends
//! it; the second does not wait for that. Nothing lives on.

use std::time::{Duration, Instant};

use longhaul::demo::api::{Gate, Reply, Request};
use rustix::process::Signal;
use serde_json::Value;

use super::support::{Checkpoint, Lab, Worker, endless, finisher, first_then};

/// What a second signal may still take.
const AT_ONCE: Duration = Duration::from_secs(3);

fn assert_stopped(lab: &Lab, code: i32, checkpoint: &str) -> Value {
    lab.wait_gone();
    let report = lab.report();
    assert_eq!(report["outcome"], "stopped", "{report:#}");
    assert_eq!(report["exit_code"], code, "{report:#}");
    let cycle = &report["cycles"][0];
    assert_eq!(cycle["end_reason"], "stopped", "{report:#}");
    assert_eq!(cycle["survivors"], 0, "{report:#}");
    assert_eq!(cycle["checkpoint"]["status"], checkpoint, "{report:#}");
    report
}

#[test]
fn while_a_session_works_each_signal_asks_for_a_checkpoint_first() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let lab = Lab::new(endless());
        let run = lab.run();
        run.wait_event("context");
        run.signal(signal);
        let finished = run.finished().ended(code, "stopped");
        assert_eq!(finished.event("checkpoint_requested")["reason"], "stopped");
        assert_eq!(finished.count("checkpoint_verified"), 1);
        assert_eq!(finished.event("session_ended")["exit"], 143, "it was ended politely");
        let report = assert_stopped(&lab, code, "verified");
        let session = report["cycles"][0]["session_id"].as_str().unwrap();
        let billed = lab.cost_usd(session).expect("it had time to write its bill");
        let cost = report["cycles"][0]["cost_usd"].as_f64().unwrap();
        assert!((cost - billed).abs() < 1e-6, "{cost} is not {billed}");
        assert!(lab.read("dev-docs/plan.md").contains("Checkpoint of session 1"));
    }
}

#[test]
fn a_checkpoint_that_is_not_written_is_waited_for_only_so_long() {
    let mut lab = Lab::new(Worker { checkpoint: Checkpoint::Ignore, ..endless() });
    lab.set("checkpoint.stop_timeout", "1s");
    let run = lab.run();
    run.wait_event("context");
    run.signal(Signal::TERM);
    let finished = run.finished().ended(143, "stopped");
    assert_eq!(finished.count("checkpoint_verified"), 0);
    assert_stopped(&lab, 143, "handoff");
    let brief = lab.read("dev-docs/handoff.md");
    assert!(brief.contains("one"), "{brief}");
}

#[test]
fn inside_a_long_tool_the_tool_is_ended_too() {
    let command = "setsid sleep 1000 & touch in-tool; sleep 1001".into();
    let mut lab = Lab::new(Worker { command, ..endless() });
    lab.set("checkpoint.stop_timeout", "1s");
    let run = lab.run();
    lab.wait_file("in-tool");
    run.signal(Signal::TERM);
    run.finished().ended(143, "stopped");
    lab.wait_gone();
}

#[test]
fn a_second_signal_does_not_wait_for_the_checkpoint() {
    let gate = Gate::new();
    let lab = Lab::new(Worker { checkpoint: Checkpoint::Slow(gate), ..endless() });
    let run = lab.run();
    run.wait_event("context");
    run.signal(Signal::TERM);
    run.wait_event("checkpoint_requested");
    let asked = Instant::now();
    run.signal(Signal::INT);
    run.wait_exit();
    let took = asked.elapsed();
    assert!(took < AT_ONCE, "it took {took:?}");
    run.finished().ended(130, "stopped");
    assert_stopped(&lab, 130, "handoff");
}

#[test]
fn before_the_first_answer_there_is_nothing_to_write_down() {
    let lab = Lab::new(|_: &Request| Reply::hang());
    let run = lab.run();
    lab.wait_session_request(0);
    run.signal(Signal::TERM);
    let finished = run.finished().ended(143, "stopped");
    assert_eq!(finished.count("checkpoint_requested"), 0);
    assert_stopped(&lab, 143, "none");
}

#[test]
fn a_session_that_rests_is_asked_too() {
    let lab = Lab::new(Worker { steps: Some(1), ..endless() });
    let run = lab.run();
    run.wait_event("session_started");
    lab.longhaul_output(&["pause"]);
    let session = lab.status()["session"]["session_id"].as_str().unwrap().to_owned();
    lab.wait_change("the end of the turn", || {
        lab.transcript(&session).iter().any(|row| row["subtype"] == "turn_duration")
    });
    run.signal(Signal::HUP);
    let finished = run.finished().ended(129, "stopped");
    assert_eq!(finished.count("nudged"), 0, "it was paused");
    assert_eq!(finished.count("checkpoint_verified"), 1);
    assert_stopped(&lab, 129, "verified");
}

#[test]
fn between_two_sessions_the_run_just_ends() {
    let mut lab = Lab::new(endless());
    let script =
        "#!/bin/sh\n[ \"$1\" = --version ] && echo '2.1.329 (Claude Code)' && exit\nexit 1\n";
    lab.program("broken", script);
    lab.set("claude.command", lab.root().join("broken").to_str().unwrap());
    let run = lab.run();
    run.wait_event("retrying");
    let asked = Instant::now();
    run.signal(Signal::TERM);
    run.wait_exit();
    assert!(asked.elapsed() < AT_ONCE, "it took {:?}", asked.elapsed());
    run.finished().ended(143, "stopped");
    lab.wait_gone();
}

#[test]
fn a_verify_command_in_progress_is_ended() {
    let mut lab = Lab::new(first_then(1, finisher(), endless()));
    lab.set("task.verify", "touch in-verify; sleep 1000");
    let run = lab.run();
    lab.wait_file("in-verify");
    run.signal(Signal::TERM);
    run.finished().ended(143, "stopped");
    lab.wait_gone();
}
