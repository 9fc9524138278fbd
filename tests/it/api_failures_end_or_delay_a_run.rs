//! What the API refuses for good ends the run, what it refuses for now delays
//! it, and what it refuses because of its length hands over.

use longhaul::demo::api::{Reply, Request, Script};

use super::support::{Lab, Worker, endless, finisher, first_then, ticks_at_once};

fn lab(script: impl Script + 'static) -> Lab {
    let mut lab = Lab::new(script);
    // Without this the CLI itself tries again for minutes, and says nothing.
    lab.set_env("CLAUDE_CODE_MAX_RETRIES", "0");
    lab
}

#[test]
fn a_refused_key_ends_the_run() {
    let lab = lab(|_: &Request| Reply::unauthorized());
    let finished = lab.run().finished().ended(30, "authentication");
    assert_eq!(finished.count("session_started"), 1);
    lab.wait_gone();
    let report = lab.report();
    assert_eq!(report["outcome"], "authentication");
    assert_eq!(report["cycles"][0]["end_reason"], "authentication");
}

#[test]
fn a_key_refused_in_the_middle_ends_the_run_with_a_brief() {
    let lab = lab(|request: &Request| match request.index_in_session {
        0 => endless().reply(request),
        _ => Reply::unauthorized(),
    });
    lab.run().finished().ended(30, "authentication");
    lab.wait_gone();
    assert_eq!(lab.report()["cycles"][0]["checkpoint"]["status"], "handoff");
    lab.read("dev-docs/handoff.md");
}

#[test]
fn an_overload_is_waited_out() {
    let lab = lab(|request: &Request| match request.index_in_session {
        1 => Reply::overloaded(),
        0 => endless().reply(request),
        _ => ticks_at_once(request),
    });
    let run = lab.run();
    let retrying = run.wait_event("retrying");
    assert_eq!((&retrying["class"], &retrying["attempt"]), (&"overloaded".into(), &1.into()));
    assert!(retrying["after_seconds"].as_f64().unwrap() >= 1.0, "{retrying}");
    let finished = run.finished().ended(0, "done");
    assert_eq!(finished.count("session_started"), 1, "it went on in the same session");
}

#[test]
fn a_context_that_is_full_hands_over() {
    let lab = lab(first_then(
        1,
        |request: &Request| {
            let worker = Worker { first_tokens: 100_000, ..endless() };
            match request.index_in_session {
                _ if request.side => worker.reply(request),
                0 | 1 => worker.reply(request),
                _ => Reply::prompt_too_long(213_000, 200_000),
            }
        },
        finisher(),
    ));
    let finished = lab.run().finished().ended(0, "done");
    assert_eq!(finished.count("session_started"), 2);
    assert_eq!(finished.event("session_ended")["reason"], "context_full");
    let report = lab.report();
    assert_eq!(report["cycles"][0]["checkpoint"]["status"], "handoff", "{report:#}");
    assert_eq!(report["cycles"][0]["compactions"], 0, "{report:#}");
    let first = report["cycles"][0]["session_id"].as_str().unwrap();
    assert!(lab.read("dev-docs/handoff.md").contains(first));
}
