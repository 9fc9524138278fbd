//! `status`, `pause`, `resume`, `cycle`, `stop` and `report` from another shell.

use longhaul::demo::api::{Gate, Reply, Request};

use super::support::{
    Checkpoint, DEADLINE, Lab, Worker, endless, finisher, first_then, ticks_at_once, unix_ms,
};

#[test]
fn without_a_run_every_word_is_answered_with_a_clear_error() {
    let lab = Lab::new(finisher());
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["pause"],
        &["resume"],
        &["cycle"],
        &["stop"],
        &["stop", "--now"],
        &["report"],
        &["report", "--json"],
    ] {
        let said = lab.longhaul_output(command).failed(64, &["no run", "longhaul run"]);
        assert_eq!(said.stdout, "", "{command:?}");
    }
    lab.run().finished().ended(0, "done");
    for command in ["pause", "resume", "cycle", "stop"] {
        lab.longhaul_output(&[command]).failed(64, &["no run", "active", "longhaul status"]);
    }
}

#[test]
fn status_and_report_tell_where_a_live_run_stands() {
    let lab = Lab::new(endless());
    let run = lab.run();
    let context = run.wait_event("context");
    let status = lab.status();
    assert_eq!(status["run_id"], context["run_id"]);
    assert_eq!((&status["state"], &status["cycle"]), (&"working".into(), &1.into()), "{status:#}");
    let session = status["session"]["session_id"].as_str().unwrap();
    assert!(lab.home.transcript(&lab.project(), session).exists(), "{status:#}");
    assert_eq!(status["session"]["context"]["window"], 200_000, "{status:#}");
    assert!(status["session"]["context"]["tokens"].as_u64().unwrap() >= 20_000, "{status:#}");
    assert_eq!(status["tasks_total"], 3);
    let human = lab.longhaul_output(&["status"]);
    assert_eq!(human.code(), 0);
    for word in ["10 %", "0 of 3"] {
        let squeezed = human.stdout.replace('\u{a0}', " ");
        let joined = squeezed.replace("%", " %").replace("  ", " ").replace("0/3", "0 of 3");
        assert!(joined.contains(word), "{word}: {}", human.stdout);
    }
    let report = lab.report();
    assert_eq!((&report["outcome"], &report["exit_code"]), (&"running".into(), &().into()));
    assert_eq!(lab.longhaul_output(&["report"]).code(), 0);
    // Looking at it changes nothing.
    assert!(run.events().iter().all(|e| e["event"] != "obeyed" && e["event"] != "session_ended"));
    assert_eq!(lab.longhaul_output(&["stop", "--now"]).code(), 0);
    run.finished().ended(143, "stopped");
    let after = lab.longhaul_output(&["status"]);
    assert!(after.code() == 0 && after.stdout.contains("No run is active"), "{after:#?}");
    assert_eq!(lab.status()["outcome"], "stopped");
    assert_eq!(lab.report()["outcome"], "stopped");
}

#[test]
fn a_paused_run_starts_nothing_new_until_it_is_resumed() {
    let gate = Gate::new();
    let held = gate.clone();
    let lab = Lab::new(move |request: &Request| {
        if request.side || request.index_in_session > 0 {
            ticks_at_once(request)
        } else {
            // The first turn ends when the gate opens, with everything undone.
            Reply::text("So far, so good.", finisher().usage(0)).behind(&held)
        }
    });
    let run = lab.run();
    lab.wait_session_request(0);
    assert_eq!(lab.longhaul_output(&["pause"]).code(), 0);
    run.wait_event("obeyed");
    gate.open();
    // The turn is judged; what follows a judgement would be a nudge.
    let begun = std::time::Instant::now();
    while lab.status()["state"] != "held" {
        assert!(begun.elapsed() < DEADLINE, "{:#}", lab.status());
    }
    let status = lab.status();
    assert_eq!(status["paused"], true);
    let since = unix_ms(&status["pause"]["since"]);
    assert_eq!(since, unix_ms(&run.wait_event("obeyed")["ts"]), "{status:#}");
    let human = lab.longhaul_output(&["status"]).stdout;
    assert!(human.contains("\npaused   since "), "{human}");
    assert!(run.events().iter().all(|event| event["event"] != "nudged"));
    let before = lab.api.requests().iter().filter(|request| !request.side).count();
    assert_eq!(before, 1, "the session is idle");
    assert_eq!(lab.longhaul_output(&["resume"]).code(), 0);
    let finished = run.finished().ended(0, "done");
    assert_eq!(finished.count("nudged"), 1);
    assert_eq!(finished.count("session_started"), 1);
}

#[test]
fn cycle_hands_over_to_a_fresh_session() {
    let lab = Lab::new(first_then(1, endless(), finisher()));
    let run = lab.run();
    run.wait_event("context");
    assert_eq!(lab.longhaul_output(&["cycle"]).code(), 0);
    let finished = run.finished().ended(0, "done");
    assert_eq!(finished.event("checkpoint_requested")["reason"], "operator");
    assert_eq!(finished.count("checkpoint_verified"), 1);
    assert_eq!(finished.event("session_ended")["reason"], "operator");
    assert_eq!(finished.count("session_started"), 2);
}

#[test]
fn stop_waits_for_the_checkpoint_and_stop_now_does_not() {
    let lab = Lab::new(endless());
    let run = lab.run();
    run.wait_event("context");
    let said = lab.longhaul_output(&["stop"]);
    assert!(said.code() == 0 && said.stdout.contains("stopping"), "{said:#?}");
    let finished = run.finished().ended(143, "stopped");
    assert_eq!(finished.count("checkpoint_verified"), 1);
    lab.wait_gone();

    let lab = Lab::new(Worker { checkpoint: Checkpoint::Slow(Gate::new()), ..endless() });
    let run = lab.run();
    run.wait_event("context");
    lab.longhaul_output(&["stop"]);
    run.wait_event("checkpoint_delivered");
    let asked = std::time::Instant::now();
    assert_eq!(lab.longhaul_output(&["stop", "--now"]).code(), 0);
    run.wait_exit();
    assert!(asked.elapsed().as_secs() < 3, "it took {:?}", asked.elapsed());
    run.finished().ended(143, "stopped");
    lab.wait_gone();
}
