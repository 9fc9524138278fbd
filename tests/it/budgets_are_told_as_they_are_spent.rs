//! Marks of a budget reach the log, the status, the report and a person, each once,
//! and end nothing. Day and month are of all sessions of the machine.

use std::fs;

use longhaul::clock::{Timestamp, rfc3339};
use serde_json::{Value, json};

use super::support::{Finished, Lab, Run, endless, finisher, first_then};

/// Scope and percent of each mark told, in order.
fn told(events: &[Value]) -> Vec<(String, u64)> {
    let marks = events.iter().filter(|event| event["event"] == "budget");
    marks
        .map(|mark| (mark["scope"].as_str().unwrap().to_owned(), mark["percent"].as_u64().unwrap()))
        .collect()
}

/// A session that somebody else had just now, without longhaul: two dollars.
fn somebody_spends_two_dollars(lab: &Lab, session: &str) {
    let folder = lab.home.config_dir().join("projects/-elsewhere");
    fs::create_dir_all(&folder).unwrap();
    let row = json!({
        "type": "assistant", "sessionId": session, "timestamp": rfc3339(Timestamp::now().unix_ms),
        "requestId": format!("req_{session}"),
        "message": {
            "id": format!("msg_{session}"), "type": "message", "role": "assistant",
            "model": "claude-opus-5-5", "content": [],
            "usage": { "input_tokens": 0, "output_tokens": 100_000,
                "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0 },
        },
    });
    fs::write(folder.join(format!("{session}.jsonl")), format!("{row}\n")).unwrap();
}

fn stop(lab: &Lab, run: Run) -> Finished {
    assert_eq!(lab.longhaul_output(&["stop", "--now"]).code(), 0);
    run.finished().ended(143, "stopped")
}

#[test]
fn the_task_by_the_run_that_works_on_it() {
    let mut lab = Lab::new(endless());
    let heard = lab.root().join("heard");
    lab.set("budget.task_usd", 0.03);
    let tell = format!("cat >> {0}; echo >> {0}", heard.display());
    lab.set("notify.command", vec!["sh".to_owned(), "-c".into(), tell]);
    let run = lab.run();
    run.wait_event_where("all marks", |events| (told(events).len() == 3).then_some(()));
    let status = lab.status();
    let task = &status["budgets"]["task"];
    assert_eq!((&task["budget_usd"], &task["period"]), (&json!(0.03), &Value::Null), "{task}");
    assert!(task["percent"].as_u64().unwrap() >= 100, "{task}");
    assert_eq!(
        (&status["budgets"]["day"], &status["budgets"]["month"]),
        (&Value::Null, &Value::Null)
    );
    let human = lab.longhaul_output(&["status"]).stdout;
    let line = human.lines().find(|line| line.starts_with("budget ")).unwrap_or_default();
    assert!(line.contains("of $0.03 (1") && !line.contains("today"), "{human}");
    lab.wait_change("a notification of all of it", || {
        fs::read_to_string(&heard).unwrap_or_default().contains(r#""percent":100"#)
    });
    let said = stop(&lab, run);
    assert_eq!(told(&said.events), [50, 80, 100].map(|n| ("task".to_owned(), n)));
    let heard = fs::read_to_string(&heard).unwrap();
    let marks: Vec<Value> = heard.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let marks: Vec<_> = marks
        .iter()
        .map(|n| (&n["occasion"], &n["budget"]["key"], &n["budget"]["limit"]))
        .collect();
    assert!(!marks.is_empty() && marks.len() <= 3, "{marks:?}");
    let expected = (&json!("budget"), &json!("budget.task_usd"), &json!(0.03));
    assert!(marks.iter().all(|mark| *mark == expected), "{marks:?}");
    let warnings = lab.report()["warnings"].to_string();
    assert!(warnings.contains("100 % of the run's budget"), "{warnings}");
}

#[test]
fn day_and_month_with_what_others_spend() {
    let mut lab = Lab::new(endless());
    lab.set("budget.day_usd", 2.02);
    lab.set("budget.month_usd", 4.1);
    somebody_spends_two_dollars(&lab, "0b0b0b0b-0000-4000-8000-000000000001");
    let run = lab.run();
    // At the first look most is spent, and the run itself soon spends the rest.
    run.wait_event_where("all of the day", |events| {
        told(events).contains(&("day".to_owned(), 100)).then_some(())
    });
    let said = told(&run.events());
    let of =
        |scope: &str| said.iter().filter(|(s, _)| s == scope).map(|(_, n)| *n).collect::<Vec<_>>();
    assert_eq!((of("day"), of("task")), (vec![50, 80, 100], vec![]), "{said:?}");
    assert!(matches!(of("month")[..], [] | [50]), "{said:?}");
    let budgets = &lab.status()["budgets"];
    let spent = |scope: &str| budgets[scope]["spent_usd"].as_f64().unwrap();
    assert!((2.02..2.2).contains(&spent("day")) && spent("month") >= spent("day"), "{budgets}");
    assert_eq!(budgets["month"]["period"].as_str().map(str::len), Some(7), "{budgets}");
    let human = lab.longhaul_output(&["status"]).stdout;
    assert!(human.contains("today $2.0") && human.contains("of $2.02 (10"), "{human}");
    stop(&lab, run);
    assert!(lab.state_dir().join("usage-now.json").exists());
}

#[test]
fn what_was_told_before_a_kill_is_not_told_again() {
    let mut lab = Lab::new(first_then(1, endless(), finisher()));
    lab.set("budget.task_usd", 0.02);
    lab.set("budget.day_usd", 2.0);
    somebody_spends_two_dollars(&lab, "0b0b0b0b-0000-4000-8000-000000000002");
    let run = lab.run();
    run.wait_event_where("marks of both", |events| {
        let told = told(events);
        let has = |scope: &str, n| told.contains(&(scope.to_owned(), n));
        (has("task", 50) && has("day", 100)).then_some(())
    });
    run.kill();
    let before = told(&run.events());
    let again = lab.run().finished().ended(0, "done");
    let after = told(&again.events);
    assert!(after.iter().all(|mark| !before.contains(mark)), "{before:?}, then {after:?}");
}

#[test]
fn a_figure_that_does_not_come_is_unknown_and_holds_up_nothing() {
    let mut lab = Lab::new(endless());
    lab.set("budget.day_usd", 1.0);
    let lock = fs::File::create(lab.state_dir().join("usage-now.lock")).unwrap();
    lock.lock().unwrap();
    let run = lab.run();
    run.wait_event_nth("spent", 3);
    let status = lab.status();
    let day = json!({ "period": null, "spent_usd": null, "unpriced_usd": null,
        "budget_usd": 1.0, "percent": null });
    assert_eq!(status["budgets"]["day"], day, "{status:#}");
    let human = lab.longhaul_output(&["status"]).stdout;
    assert!(human.contains("today not known of $1.00"), "{human}");
    let said = stop(&lab, run);
    assert_eq!(told(&said.events), []);
    // Who waited for the answer ended with the run.
    lab.wait_for_no_survivors();
}
