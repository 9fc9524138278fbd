//! `longhaul observe`: runs, tasks and sessions on the real CLI, each once, and what was
//! claimed of them against what is known.

use longhaul::demo::api::{Reply, Request, Script as _};
use serde_json::{Value, json};

use super::support::{Lab, TICK_ALL, Worker, ticks_at_once};

fn observed(lab: &Lab, args: &[&str]) -> Value {
    let args = [&["observe", "--output", "json"], args].concat();
    let said = lab.longhaul_output(&args);
    assert_eq!(said.code(), 0, "{}", said.dump());
    serde_json::from_str(&said.stdout).unwrap()
}

fn of_kind<'a>(day: &'a Value, kind: &str) -> Vec<&'a Value> {
    day["anomalies"].as_array().unwrap().iter().filter(|found| found["kind"] == kind).collect()
}

/// Ticks all boxes in its first call and says so, however often it is told that the
/// verify command fails.
fn says_done(request: &Request) -> Reply {
    let worker = Worker { step_tokens: 2_000, ..Worker::default() };
    let usage = worker.usage_now(request);
    match worker.calls(request) {
        _ if request.side => worker.reply(request),
        0 => Reply::bash(TICK_ALL, usage),
        _ => Reply::text("All tasks are done.", usage),
    }
}

#[test]
fn a_run_that_claims_done_while_verify_fails_is_a_false_completion() {
    let mut lab = Lab::new(says_done);
    lab.set("task.verify", "exit 3");
    lab.set("session.max_nudges", 1);
    lab.set("limits.no_progress_cycles", 1);
    lab.story(&[], 21);
    let day = observed(&lab, &[]);
    let report = lab.report();
    let cycles = report["cycles"].as_array().unwrap();
    let executions = day["executions"].as_array().unwrap();
    assert_eq!(executions.len(), cycles.len(), "each session once: {day:#}");
    for (execution, cycle) in executions.iter().zip(cycles) {
        assert_eq!(execution["kind"], "cycle");
        assert_eq!(execution["sessions"], json!([cycle["session_id"]]));
        assert_eq!(execution["cost_usd"], cycle["cost_usd"]);
        assert_eq!(execution["usage"]["output"], cycle["usage"]["output"]);
    }
    let found = of_kind(&day, "false_completion");
    assert!(!found.is_empty(), "{day:#}");
    let first = found[0];
    assert_eq!(first["severity"], "high", "{first:#}");
    let evidence = first["evidence"].to_string();
    assert!(evidence.contains("verify: `task.verify` failed"), "{first:#}");
    assert!(evidence.contains("diff: no call changed a file"), "ticking is no work: {first:#}");
    let session = cycles[0]["session_id"].as_str().unwrap();
    assert!(evidence.contains(session) && evidence.contains("/journal"), "{first:#}");
    assert_eq!(observed(&lab, &["--project", "/elsewhere"])["executions"], json!([]));
    assert_eq!(observed(&lab, &["--date", "yesterday"])["executions"], json!([]));
}

#[test]
fn a_task_is_one_execution_and_a_session_by_hand_another() {
    let lab = Lab::new(ticks_at_once);
    lab.add(json!({"id": "t1", "description": "Do it", "verify": "true"}));
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    let by_hand = ["-p", "What is in this project?", "--model", "claude-haiku-4-5"];
    let said = lab.claude().args(by_hand).arg("--allowedTools=Bash").output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let day = observed(&lab, &[]);
    let executions = day["executions"].as_array().unwrap();
    let kinds: Vec<&Value> = executions.iter().map(|execution| &execution["kind"]).collect();
    assert_eq!(kinds, ["task", "session"], "{day:#}");
    let (task, session) = (&executions[0], &executions[1]);
    assert_eq!((&task["task_id"], &task["outcome"]), (&json!("t1"), &json!("done")));
    assert_eq!(task["evidence"]["verify"][0]["passed"], true);
    assert_eq!(session["title"], "What is in this project?");
    let result = lab.result("t1");
    assert_eq!(task["usage"]["output"], result.tokens.output);
    assert_eq!(task["usage"]["cache_write"], result.tokens.cache_write);
    let usage = lab.longhaul_output(&["usage", "daily", "--json"]);
    let usage: Value = serde_json::from_str(&usage.stdout).unwrap();
    assert_eq!(day["totals"]["usage"]["output"], usage["totals"]["output"], "nothing twice");
    assert_eq!(day["totals"]["usage"]["cache_read"], usage["totals"]["cache_read"]);
    // The figures are the queue's own where no journal can be read, and nothing comes twice.
    let sums = &day["totals"]["usage"];
    let damaged = |lab: &Lab| std::fs::write(&lab.journals()[0], "no journal\n").unwrap();
    let gone = |lab: &Lab| std::fs::remove_file(&lab.journals()[0]).unwrap();
    for (break_it, warnings) in [(&damaged as &dyn Fn(&Lab), 1), (&gone, 0)] {
        break_it(&lab);
        let day = observed(&lab, &[]);
        let executions = day["executions"].as_array().unwrap();
        let kinds: Vec<&Value> = executions.iter().map(|execution| &execution["kind"]).collect();
        assert_eq!(kinds, ["task", "session"], "{day:#}");
        assert_eq!(executions[0]["usage"]["output"], result.tokens.output, "{day:#}");
        assert_eq!(executions[0]["sessions"], task["sessions"], "{day:#}");
        assert_eq!(executions[1], *session);
        assert_eq!(&day["totals"]["usage"], sums, "{day:#}");
        assert_eq!(day["warnings"].as_array().unwrap().len(), warnings, "{day:#}");
    }
}

#[test]
fn a_task_that_is_done_again_within_the_hour_is_a_duplicate() {
    let lab = Lab::new(ticks_at_once);
    for id in ["t1", "t2"] {
        lab.add(json!({"id": id, "description": "Count the widgets of the shop"}));
    }
    let run = lab.queue_run(&[]).finished();
    assert_eq!(run.code(), 0, "{}", run.dump());
    let day = observed(&lab, &[]);
    let found = of_kind(&day, "duplicate_execution");
    let [found] = found[..] else { panic!("{day:#}") };
    assert!(found["execution"].as_str().unwrap().starts_with("task:t2#1@"), "{found:#}");
    assert_eq!(found["severity"], "medium");
    assert!(found["evidence"].to_string().contains("ended done and done"), "{found:#}");
}

#[test]
fn every_form_can_be_had_and_what_makes_no_sense_is_refused() {
    let lab = Lab::new(ticks_at_once);
    lab.run().finished().ended(0, "done");
    let text = lab.longhaul_output(&["observe", "--date", "today"]);
    assert!(text.stdout.contains("1 execution\n") && text.stdout.contains("cycle:1@"), "{text:?}");
    let markdown = lab.longhaul_output(&["observe", "--output", "markdown"]).stdout;
    for heading in ["# Token Telemetry Report - 2", "## Anomalies", "## Executions"] {
        assert!(markdown.contains(heading), "{markdown}");
    }
    for args in [
        &["--date", "soon"][..],
        &["--date", "2026-13-01"],
        &["--output", "html"],
        &["--timezone", "Mars"],
        &["--set", "observe.ratio=0"],
        &["--set", "observe.input=most"],
        &["--set", "observe.cheap_model=nobody"],
    ] {
        let args = [&["observe"], args].concat();
        lab.longhaul_output(&args).failed(64, &[]);
    }
}
