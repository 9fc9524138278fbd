//! The tracker as a whole, on real folders.

mod growing;
mod said;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::ErrorKind;
use crate::advice::{Advice, Advised, Basis, Measure, Topic};
use crate::models::TokenCounts;

/// 2025-11-28T15:00:00Z
const NOW: i64 = 1_764_342_000_000;
const DAY_MS: i64 = 86_400_000;

/// The seed's own example.
fn seed() -> Value {
    json!({
        "mode": "log_and_summarize",
        "task_id": "create-usage-tracker",
        "timestamp": "2025-11-28T14:30:00Z",
        "user_request_summary": "Create usage-tracker agent for token tracking and optimization.",
        "entries": [{
            "agent": "build-lead", "model": "opus", "input_tokens": 25000,
            "output_tokens": 8000, "total_tokens": 33000, "estimated_cost": 1.05
        }]
    })
}

struct Lab {
    dir: TempDir,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("project")).unwrap();
        Self { dir }
    }

    fn project(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("project")
    }

    fn tracker_at(&self, unix_ms: i64) -> Tracker {
        let state = self.dir.path().join("state");
        Tracker::open(&state, &self.project(), Path::new("token-usage")).unwrap().at(unix_ms)
    }

    fn take_at(&self, unix_ms: i64, request: &Value) -> crate::Result<Value> {
        self.ask(unix_ms, request, Advised::default())
    }

    fn ask(&self, unix_ms: i64, request: &Value, advised: Advised) -> crate::Result<Value> {
        let input = parse(request.to_string().as_bytes()).unwrap();
        let answer = self.tracker_at(unix_ms).take(&input, |_, _| advised)?;
        Ok(serde_json::to_value(answer).unwrap())
    }

    fn take(&self, request: &Value) -> Value {
        self.take_at(NOW, request).unwrap()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.project().join("token-usage").join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
    }

    fn tasks(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("tasks")) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The tracker's own folder.
    fn state(&self) -> PathBuf {
        let projects = fs::read_dir(self.dir.path().join("state/projects")).unwrap();
        projects.map(|entry| entry.unwrap().path()).next().unwrap().join("track")
    }

    fn pending(&self) -> usize {
        fs::read_dir(self.state().join("pending")).unwrap().count()
    }

    /// All tokens of all logs: input and output, read from the cache, micro-dollars.
    fn recorded(&self) -> (u64, u64, u64) {
        let mut sums = (0, 0, 0);
        for name in self.tasks() {
            let bytes = fs::read(self.path("tasks").join(&name)).unwrap();
            let log = TaskLog::from_bytes(&bytes).unwrap_or_else(|| panic!("{name}"));
            for entry in log.entries.unwrap() {
                sums.0 += entry.total_tokens.unwrap();
                sums.1 += entry.cache_read_tokens.unwrap_or(0);
                sums.2 += (entry.estimated_cost.unwrap_or(0.0) * 1e6).round() as u64;
            }
        }
        sums
    }
}

fn with(mut request: Value, changes: Value) -> Value {
    request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    request
}

#[test]
fn the_seeds_example_gives_the_seeds_files() {
    let lab = Lab::new();
    let said = lab.take(&seed());
    let summary = "create-usage-tracker used 33,000 tokens, $1.05. The day so far: 1 task, 33,000 \
                   tokens, $1.05.";
    let told = json!({"status": "recorded", "task_id": "create-usage-tracker", "summary": summary});
    assert_eq!(said, told);
    assert_eq!(
        lab.read("tasks/usage-2025-11-28-1430-create-usage-tracker.json"),
        r#"{
  "task_id": "create-usage-tracker",
  "timestamp": "2025-11-28T14:30:00Z",
  "user_request_summary": "Create usage-tracker agent for token tracking and optimization.",
  "entries": [
    {
      "agent": "build-lead",
      "model": "opus",
      "input_tokens": 25000,
      "output_tokens": 8000,
      "total_tokens": 33000,
      "estimated_cost": 1.05
    }
  ],
  "totals": {
    "total_tokens": 33000,
    "by_model": {
      "opus": 33000
    },
    "by_agent": {
      "build-lead": 33000
    },
    "estimated_cost": 1.05
  }
}
"#
    );
    assert!(!lab.path("errors-2025-11-28.md").exists(), "nothing was wrong");
    let said = lab.take(&with(seed(), json!({"mode": "log_only", "task_id": "x"})));
    assert_eq!(said, json!({"status": "recorded", "task_id": "x"}));
}

#[test]
fn a_sentence_says_what_is_known_and_no_more() {
    for (entries, words) in [
        (json!([]), "p used an unknown number of tokens, at an unknown cost."),
        (Value::Null, "p used an unknown number of tokens, at an unknown cost."),
        (
            json!([{"input_tokens": 100}]),
            "p used 100 input tokens (output unknown), at an unknown cost.",
        ),
        (
            json!([{"input_tokens": 1, "output_tokens": 2, "estimated_cost": 0.5}, {"agent": "a"}]),
            "p used at least 3 tokens, at least $0.50",
        ),
    ] {
        let lab = Lab::new();
        let request = json!({"mode": "log_and_summarize", "task_id": "p", "entries": entries});
        // As some programs write it.
        let bytes = [b"\xef\xbb\xbf", request.to_string().as_bytes()].concat();
        let input = parse(&bytes).unwrap();
        let said = lab.tracker_at(NOW).take(&input, |_, _| Advised::default()).unwrap();
        let said = serde_json::to_value(said).unwrap();
        assert!(said["summary"].as_str().unwrap().starts_with(words), "{said:#}");
    }
}

#[test]
fn the_summary_of_a_day_is_the_seeds_template() {
    let lab = Lab::new();
    let entry = |agent: &str, model: &str, input: u64, output: u64, cost: f64| {
        json!({"agent": agent, "model": model, "input_tokens": input, "output_tokens": output,
            "total_tokens": input + output, "estimated_cost": cost})
    };
    for (id, minute, entries) in [
        (
            "task-id-1",
            10,
            json!([
                entry("build-lead", "opus", 35_000, 10_000, 1.35),
                entry("ui-impl", "sonnet", 8_000, 1_000, 0.1)
            ]),
        ),
        (
            "task-id-2",
            20,
            json!([
                entry("build-lead", "opus", 15_000, 5_000, 0.6),
                entry("ui-impl", "sonnet", 22_000, 9_000, 0.5)
            ]),
        ),
    ] {
        lab.take(&json!({"mode": "log_only", "task_id": id, "entries": entries,
            "timestamp": format!("2025-11-28T14:{minute}:00Z"),
            "user_request_summary": "Brief\ndescription"}));
    }
    assert_eq!(
        lab.read("usage-2025-11-28.md"),
        "# Token Usage: 2025-11-28

## Totals

| Agent | Model | Input | Output | Total | Cost |
|-------|-------|-------|--------|-------|------|
| build-lead | opus | 50000 | 15000 | 65000 | $1.95 |
| ui-impl | sonnet | 30000 | 10000 | 40000 | $0.60 |

## Top Expensive Tasks

1. **task-id-1**: Brief description. 54000 tokens, $1.45.
2. **task-id-2**: Brief description. 51000 tokens, $1.10.

## Anomalies

- None detected.

## Optimization Candidates

- Consider using haiku for light work in task-id-1: 9000 tokens of sonnet with 1000 of output, $0.10.
"
    );
}

#[test]
fn a_review_is_the_seeds_template_and_the_next_says_whether_it_paid() {
    let lab = Lab::new();
    for day in 1..=28 {
        lab.take(&with(
            seed(),
            json!({"timestamp": format!("2025-11-{day:02}T14:30:00Z"), "task_id": format!("t{day}")}),
        ));
    }
    let advised = |value: f64| Advised {
        measures: vec![Measure {
            topic: Topic::Handoff,
            key: "handoff".into(),
            value,
            unit: "tokens per cycle".into(),
        }],
        advice: vec![Advice {
            topic: Topic::Handoff,
            key: "handoff".into(),
            description: "Each cycle reads 12,000 tokens before its first change.".into(),
            proposed_change: "Add to CLAUDE.md:\n# not a heading\nRead dev-docs/tasks.md first."
                .into(),
            tokens: Some(100_000),
            cost_usd: Some(2.0),
            basis: Basis::Measured,
            evidence: vec!["session a".into(), "session b".into()],
        }],
    };
    let review = |at: i64, value: f64| {
        lab.ask(at, &json!({"mode": "review_period", "days": 7}), advised(value)).unwrap()
    };
    let said = review(NOW, 12_000.0);
    assert_eq!(said["status"], "report_generated");
    assert_eq!(said["report_path"], "/token-usage/reports/usage-review-2025-11-28.md");
    let first = &said["recommendations"][0];
    assert_eq!(first["type"], "context_reuse");
    assert_eq!(first["description"], "Each cycle reads 12,000 tokens before its first change.");
    assert!(first["proposed_change"].as_str().unwrap().starts_with("Add to CLAUDE.md:"));
    assert_eq!(
        lab.read("reports/usage-review-2025-11-28.md"),
        "# Usage Review: 2025-11-28

Period: Last 7 days

## Overview

- Total tokens: 231,000
- Total cost: $7.35
- Most active agents: build-lead (100%)
- Models: opus ($7.35, 231,000 tokens)
- Recorded: 7 tasks in 7 logs, 2025-11-22 to 2025-11-28
- Most expensive tasks: t22 (33,000 tokens, $1.05), t23 (33,000 tokens, $1.05), t24 (33,000 tokens, $1.05), t25 (33,000 tokens, $1.05), t26 (33,000 tokens, $1.05)

## Findings

1. **handoff**: Each cycle reads 12,000 tokens before its first change. (session a; session b)

## Recommendations

1. # not a heading At stake: 100,000 tokens, $2.00 (measured).

## Proposed Changes

### For CLAUDE.md

Add to CLAUDE.md:

> # not a heading
> Read dev-docs/tasks.md first.

## Since the Last Review

There is no earlier review to compare with.
"
    );
    // The first one, made again on its day, has nothing to compare with either.
    let first = lab.read("reports/usage-review-2025-11-28.md");
    review(NOW + 60_000, 12_000.0);
    assert_eq!(lab.read("reports/usage-review-2025-11-28.md"), first);
    review(NOW + 7 * DAY_MS, 7_100.0);
    let compared = "\n## Since the Review of 2025-11-28\n\n- handoff: 12,000 tokens per cycle then, \
                    7,100 now: paid, about 40,833 tokens / $0.82 in 7 days.\n";
    let next = lab.read("reports/usage-review-2025-12-05.md");
    assert!(next.ends_with(compared), "{next}");
    assert!(next.contains("- Total tokens: 0\n") && next.contains("agents: none\n"), "{next}");
    // Made once more on its day it compares with the same review.
    review(NOW + 7 * DAY_MS + 60_000, 7_100.0);
    assert_eq!(lab.read("reports/usage-review-2025-12-05.md"), next);
    // With a time of its own a review ends on that day.
    let early = json!({"mode": "review_period", "timestamp": "2025-11-02T00:00:00Z"});
    let said = lab.take(&early);
    assert_eq!(said["report_path"], "/token-usage/reports/usage-review-2025-11-02.md");
    assert!(lab.read("reports/usage-review-2025-11-02.md").contains("2 tasks in 2 logs"));
}

#[test]
fn a_review_of_nothing_says_so_and_advises_nothing() {
    let lab = Lab::new();
    let said = lab.take(&json!({"mode": "review_period"}));
    assert_eq!(said["recommendations"], json!([]));
    let text = lab.read("reports/usage-review-2025-11-28.md");
    assert_eq!(text.matches("None detected.").count(), 3, "{text}");
}

#[test]
fn light_work_of_dear_models_and_many_agents_are_found_with_their_figures() {
    let lab = Lab::new();
    let entry = |agent: &str| {
        json!({"agent": agent, "model": "opus", "input_tokens": 5_000, "output_tokens": 500,
            "total_tokens": 5_500, "estimated_cost": 0.04})
    };
    let entries = ["a", "b", "c", "d"].map(entry);
    fs::create_dir_all(lab.project().join("claude/agents")).unwrap();
    fs::write(lab.project().join("claude/agents/build-lead.md"), "# build-lead\n").unwrap();
    lab.take(&json!({"mode": "log_only", "task_id": "small", "timestamp": "2025-11-28T10:00:00Z",
        "user_request_summary": "x", "entries": entries}));
    let said = lab.take(&json!({"mode": "review_period"}));
    let list = said["recommendations"].as_array().unwrap();
    let types: Vec<&str> = list.iter().map(|one| one["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["delegation_reduction", "model_selection"]);
    // All agents but one; and not what the work cost, but what it costs less: 20,000 in at 4
    // and 2,000 out at 20 dollars per million, at 0.10 and 0.50 in its place.
    let stakes: Vec<_> = list.iter().map(|one| (&one["tokens"], &one["cost_usd"])).collect();
    assert_eq!(stakes, [(&json!(16_500), &json!(0.12)), (&json!(22_000), &json!(0.117))]);
    assert!(list.iter().all(|one| one["basis"] == "estimated"), "{list:#?}");
    let text = lab.read("reports/usage-review-2025-11-28.md");
    for words in [
        "1. **Model overuse**: haiku-suitable work using opus in 100% of its entries (4 of 4; 22,000 tokens, $0.16).",
        "2. **Fan-out**: 1 small task had many agents, with 15,000 tokens or less for each (small: 4 agents for 22,000 tokens).",
        "Do not split a task among agents that would use 15,000 tokens or less each;",
        "\nThey overlap: the same tokens can stand in several of them,",
        "2. For light work (file search, pattern matching, single lookups) use haiku, not opus. At stake: 22,000 tokens, $0.12 (estimated).",
        "### For build-lead.md\n\nAdd to the delegation rules:\n\n> Do not split",
        "Add to the model selection rules:\n\n> For light work",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[test]
fn advice_that_was_followed_has_paid() {
    let lab = Lab::new();
    let of_model = |at: i64, model: &str| {
        lab.ask(
            at,
            &json!({"mode": "log_only", "task_id": format!("t-{model}"), "entries": [{
                "agent": "main", "model": model, "input_tokens": 5_000, "output_tokens": 500,
                "total_tokens": 5_500, "estimated_cost": 0.04}]}),
            Advised::default(),
        )
        .unwrap();
        let request = json!({"mode": "review_period", "days": 7});
        lab.ask(at, &request, Advised::default()).unwrap()
    };
    of_model(NOW, "sonnet");
    of_model(NOW + 8 * DAY_MS, "haiku");
    let text = lab.read("reports/usage-review-2025-12-06.md");
    let paid = "- cheaper_model:sonnet: 5,500 tokens of light work per task then, 0 now: paid, none \
                of it is left, about 5,500 tokens";
    assert!(text.contains(paid), "{text}");
    // Nothing was used in the week after: that says nothing.
    of_model(NOW, "sonnet");
    let request = json!({"mode": "review_period", "days": 3, "timestamp": "2025-12-03T00:00:00Z"});
    lab.take(&request);
    let text = lab.read("reports/usage-review-2025-12-03.md");
    assert!(
        text.contains("then, not measured since; whether it paid cannot be told yet"),
        "{text}"
    );
}

#[test]
fn advice_waits_for_its_verdict_until_there_was_a_session() {
    let lab = Lab::new();
    let measure = |topic, key: &str, value| {
        let (key, unit) = (key.to_owned(), "tokens per session".to_owned());
        Measure { topic, key, value, unit }
    };
    let advice = Advice {
        topic: Topic::Handoff,
        key: "handoff:p".into(),
        description: "Sessions read much.".into(),
        proposed_change: "Do not.".into(),
        tokens: Some(100_000),
        cost_usd: Some(2.0),
        basis: Basis::Measured,
        evidence: Vec::new(),
    };
    let sessions = |value| Advised {
        measures: vec![measure(Topic::Handoff, "handoff:p", value)],
        advice: Vec::new(),
    };
    // There are task logs, and no session: what has no key of its own is 0.
    let none =
        || Advised { measures: vec![measure(Topic::FanOut, "fan_out", 0.0)], advice: Vec::new() };
    let review = |days: i64, advised: Advised| {
        let at = NOW + days * DAY_MS;
        let time = crate::clock::rfc3339(at);
        lab.take_at(at, &with(seed(), json!({"timestamp": time}))).unwrap();
        lab.ask(at, &json!({"mode": "review_period"}), advised).unwrap();
        lab.read(&format!("reports/usage-review-{}.md", &time[..10]))
    };
    review(0, Advised { advice: vec![advice], ..sessions(54_500.0) });
    let told = "54,500 tokens per session then, not measured since;";
    assert!(review(7, none()).contains(&format!("\n- handoff:p: {told}")));
    assert!(review(14, none()).contains(&format!("\n- handoff:p on 2025-11-28: {told}")));
    let paid = "- handoff:p on 2025-11-28: 54,500 tokens per session then, 27,250 now: paid, about \
                50,000 tokens / $1.00 in 7 days.";
    assert!(review(21, sessions(27_250.0)).contains(paid));
    assert!(review(28, sessions(1.0)).contains("Nothing was advised."));
}

#[test]
fn much_input_for_little_output_is_told_as_that_and_files_by_name() {
    let lab = Lab::new();
    let mut request = seed();
    request["entries"][0]["input_tokens"] = json!(200_000);
    request["entries"][0]["total_tokens"] = json!(208_000);
    request["entries"][0]["estimated_cost"] = json!(2.08);
    lab.take(&request);
    let said = lab.take(&json!({"mode": "review_period"}));
    let list = said["recommendations"].as_array().unwrap();
    assert_eq!(list.len(), 1, "{said:#}");
    assert_eq!(
        (&list[0]["type"], &list[0]["basis"]),
        (&json!("context_reuse"), &json!("estimated"))
    );
    // Which of it was too much, nobody measured.
    assert_eq!((&list[0]["tokens"], &list[0]["cost_usd"]), (&json!(null), &json!(null)));
    let text = lab.read("reports/usage-review-2025-11-28.md");
    assert!(text.contains("**Much input for little output**: 200,000 tokens"), "{text}");
    assert!(text.contains("What is at stake cannot be told."), "{text}");
    // The transcripts name the file, with its own figures.
    let advised = Advised {
        measures: Vec::new(),
        advice: vec![Advice {
            topic: Topic::Reread,
            key: "reread:/home/p/src/a.rs".into(),
            description: "src/a.rs was read again.".into(),
            proposed_change: "Do not.".into(),
            tokens: Some(9_000),
            cost_usd: Some(0.05),
            basis: Basis::Measured,
            evidence: Vec::new(),
        }],
    };
    let said = lab.ask(NOW, &json!({"mode": "review_period"}), advised).unwrap();
    assert_eq!(said["recommendations"].as_array().unwrap().len(), 1, "{said:#}");
    let text = lab.read("reports/usage-review-2025-11-28.md");
    assert!(text.contains("1. **High context reread rate**: 200,000 tokens"), "{text}");
    assert!(text.contains("Read again unchanged: /home/p/src/a.rs."), "{text}");
}

#[test]
fn what_has_no_price_is_told_without_dollars() {
    let lab = Lab::new();
    lab.take(&seed());
    let advised = Advised {
        measures: Vec::new(),
        advice: vec![Advice {
            topic: Topic::Handoff,
            key: "handoff:/home/p".into(),
            description: "Sessions load much.".into(),
            proposed_change: "Load less.".into(),
            tokens: Some(9_000),
            cost_usd: None,
            basis: Basis::Measured,
            evidence: Vec::new(),
        }],
    };
    let said = lab.ask(NOW, &json!({"mode": "review_period"}), advised).unwrap();
    let one = &said["recommendations"][0];
    assert_eq!((&one["tokens"], &one["cost_usd"]), (&json!(9_000), &json!(null)));
    let text = lab.read("reports/usage-review-2025-11-28.md");
    assert!(text.contains("Load less. At stake: 9,000 tokens (measured)."), "{text}");
}

#[test]
fn the_same_is_recorded_once_and_nothing_of_another_is_written_over() {
    let lab = Lab::new();
    lab.take(&seed());
    let day = lab.read("usage-2025-11-28.md");
    // The same instant in other words.
    lab.take(&with(seed(), json!({"timestamp": "2025-11-28T15:30:00+01:00"})));
    assert_eq!((lab.tasks().len(), lab.read("usage-2025-11-28.md")), (1, day));
    // Another of the same task in the same minute.
    let second = with(seed(), json!({"timestamp": "2025-11-28T14:30:30Z"}));
    for _ in 0..2 {
        lab.take(&second);
        assert_eq!(lab.tasks().len(), 2);
    }
    let mut third = second.clone();
    third["entries"][0]["output_tokens"] = json!(9_000);
    lab.take(&third);
    assert_eq!(lab.tasks().len(), 3, "{:?}", lab.tasks());
    // Without a time nobody can tell: each is one.
    for count in 4..=6 {
        lab.take(&with(seed(), json!({"timestamp": null})));
        assert_eq!(lab.tasks().len(), count);
    }
    // What somebody else put there stays.
    let name = "tasks/usage-2025-11-28-1400-mine.json";
    fs::write(lab.path(name), "precious").unwrap();
    lab.take(&with(seed(), json!({"task_id": "mine", "timestamp": "2025-11-28T14:00:00Z"})));
    assert_eq!(lab.read(name), "precious");
    let day = lab.read("usage-2025-11-28.md");
    assert!(day.contains("- tasks/usage-2025-11-28-1400-mine.json is no task log"), "{day}");
}

#[test]
fn what_is_missing_is_null_noted_and_filled_in_when_it_comes() {
    let lab = Lab::new();
    let mut partial = seed();
    partial["entries"][0] = json!({"agent": "build-lead", "model": "unheard-of",
        "input_tokens": 25_000, "output_tokens": 8_000, "colour": "blue"});
    lab.take(&partial);
    let name = "usage-2025-11-28-1430-create-usage-tracker";
    let log: Value = serde_json::from_str(&lab.read(&format!("tasks/{name}.json"))).unwrap();
    assert_eq!(log["entries"][0]["total_tokens"], Value::Null);
    assert_eq!(log["totals"]["total_tokens"], 33_000, "the sum of what is known");
    assert_eq!(log["entries"][0]["estimated_cost"], Value::Null);
    assert_eq!(log["totals"]["estimated_cost"], Value::Null);
    assert_eq!(log["totals"]["partial"], json!(["estimated_cost"]));
    let errors = lab.read("errors-2025-11-28.md");
    for note in ["total_tokens is missing; recorded as null", "estimated_cost is missing"] {
        let line = format!("- [open] {name}: entries[0].{note}");
        assert!(errors.contains(&line), "{line}\n{errors}");
    }
    assert!(lab.read("usage-2025-11-28.md").contains("| 33000 | unavailable |"));
    let mut whole = seed();
    whole["entries"][0]["model"] = json!("unheard-of");
    lab.take(&whole);
    assert_eq!(lab.tasks().len(), 1);
    assert!(lab.read("usage-2025-11-28.md").contains("| 33000 | $1.05 |"));
    let errors = lab.read("errors-2025-11-28.md");
    assert!(
        !errors.contains("[open]") && errors.contains("[resolved 2025-11-28T15:00"),
        "{errors}"
    );
    // What says less afterwards takes nothing away.
    lab.take(&partial);
    assert_eq!(lab.tasks().len(), 1);
    assert!(lab.read("usage-2025-11-28.md").contains("| 33000 | $1.05 |"));
}

#[test]
fn a_price_of_the_table_is_told_apart_from_a_cost_that_was_told() {
    let lab = Lab::new();
    let mut request = seed();
    request["entries"][0]["model"] = json!("claude-opus-4-6");
    request["entries"][0]["estimated_cost"] = Value::Null;
    lab.take(&request);
    let name = "tasks/usage-2025-11-28-1430-create-usage-tracker.json";
    let log: Value = serde_json::from_str(&lab.read(name)).unwrap();
    assert_eq!(log["entries"][0]["estimated_cost"], Value::Null);
    // 25,000 at $5 and 8,000 at $25 a million.
    assert_eq!(log["entries"][0]["list_price_usd"], 0.325);
    assert!(lab.read("usage-2025-11-28.md").contains("| 33000 | ~$0.33 |"));
}

#[test]
fn a_total_that_differs_is_noted_and_the_sum_counts() {
    let lab = Lab::new();
    let mut request = seed();
    request["entries"][0]["total_tokens"] = json!(99);
    lab.take(&request);
    let name = "tasks/usage-2025-11-28-1430-create-usage-tracker.json";
    let log: Value = serde_json::from_str(&lab.read(name)).unwrap();
    let entry = &log["entries"][0];
    assert_eq!(
        (&entry["total_tokens"], &entry["stated_total_tokens"]),
        (&json!(33_000), &json!(99))
    );
    assert!(lab.read("errors-2025-11-28.md").contains("total_tokens is 99, but"));
    lab.take(&request);
    assert_eq!(lab.tasks().len(), 1, "read back it is the same");
}

#[test]
fn hostile_words_stay_words() {
    let lab = Lab::new();
    let mut request = seed();
    request["task_id"] = json!("../../../escaped");
    request["entries"][0]["agent"] = json!("a | b\n## Top `x` \u{1b}[2J <script>");
    request["user_request_summary"] = json!("# heading\n| cell | [x](http://h) **bold**");
    lab.take(&request);
    let names = lab.tasks();
    assert_eq!(names.len(), 1);
    assert!(names[0].starts_with("usage-2025-11-28-1430-escaped-"), "{names:?}");
    let outside = fs::read_dir(lab.project()).unwrap().count();
    assert_eq!(outside, 1, "nothing but token-usage");
    let day = lab.read("usage-2025-11-28.md");
    let rows: Vec<&str> = day.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 3, "{day}");
    assert!(
        rows[2].starts_with(r"| a \| b ## Top \`x\` \\u{1b}[2J \<script> | opus |"),
        "{}",
        rows[2]
    );
    assert_eq!(day.matches("\n## ").count(), 4, "{day}");
    assert!(day.contains(r"# heading \| cell \| [x]\(http://h) \*\*bold\*\*. 33000"), "{day}");
    assert!(!lab.read(&format!("tasks/{}", names[0])).contains('\u{1b}'));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (request, code) in [
        ("", "malformed_json"),
        ("nonsense", "malformed_json"),
        ("{}{}", "malformed_json"),
        (r#"{"mode": "log_only", "entries": [{"input_tokens": 1e999}]}"#, "malformed_json"),
        ("[]", "invalid_parameter"),
        ("{}", "missing_parameter"),
        (r#"{"unknown": 1}"#, "missing_parameter"),
        (r#"{"mode": "dance"}"#, "invalid_parameter"),
        (r#"{"mode": 7}"#, "invalid_parameter"),
        (r#"{"mode": "review_period", "days": 0}"#, "invalid_parameter"),
        (r#"{"mode": "review_period", "days": 3651}"#, "invalid_parameter"),
        (r#"{"mode": "review_period", "days": 1.5}"#, "invalid_parameter"),
        (r#"{"mode": "review_period", "days": "7"}"#, "invalid_parameter"),
    ] {
        let refused = parse(request.as_bytes()).unwrap_err();
        assert_eq!(refused.code, code, "{request}: {refused:?}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(parse(deep.as_bytes()).unwrap_err().code, "malformed_json");
    let many = json!({"task_id": "x", "entries": vec![json!({}); 5_001]}).to_string();
    assert_eq!(parse(many.as_bytes()).unwrap_err().code, "too_long");
    let large = vec![b' '; MAX_INPUT_BYTES + 1];
    assert_eq!(parse(&large).unwrap_err().code, "too_long");
    let long = |count: usize| json!({"task_id": "ä".repeat(count), "entries": []}).to_string();
    let refused = parse(long(257).as_bytes()).unwrap_err();
    assert_eq!((refused.code, refused.task_id), ("too_long", None));
    let whole = parse(long(256).as_bytes()).unwrap().task_id.unwrap();
    assert_eq!(whole.chars().count(), 256);
    let named = parse(br#"{"task_id": "t", "mode": "dance"}"#).unwrap_err();
    assert_eq!(named.task_id.as_deref(), Some("t"));
}

#[test]
fn a_number_is_an_id_as_its_text() {
    for (id, text) in [(json!(5), "5"), (json!(1.5), "1.5"), (json!(-7), "-7")] {
        let request = json!({"mode": "log_only", "task_id": id, "entries": []});
        let input = parse(request.to_string().as_bytes()).unwrap();
        assert_eq!(input.task_id.as_deref(), Some(text));
        assert!(!input.notes.iter().any(|note| note.contains("task_id")), "{:?}", input.notes);
    }
}

#[test]
fn light_work_is_counted_by_entries() {
    let lab = Lab::new();
    let entry = |input: u64, output: u64| {
        json!({"agent": "a", "model": "opus", "input_tokens": input, "output_tokens": output,
            "total_tokens": input + output, "estimated_cost": 0.04})
    };
    let mut entries = vec![entry(5_000, 500); 12];
    entries.push(entry(5_000_000, 2_000_000));
    lab.take(&with(seed(), json!({"entries": entries})));
    let said = lab.take(&json!({"mode": "review_period"}));
    assert_eq!(said["recommendations"][0]["type"], "model_selection", "{said}");
    let text = lab.read("reports/usage-review-2025-11-28.md");
    assert!(text.contains("haiku-suitable work using opus in 92% of its entries (12 of 13;"));
}

#[test]
fn fifteen_to_one_is_not_over_it() {
    for (input, output, is_over) in [(150_000, 10_000, false), (150_001, 10_000, true)] {
        let lab = Lab::new();
        let mut request = seed();
        let fields = json!({"input_tokens": input, "output_tokens": output, "total_tokens": null});
        request["entries"][0] = with(request["entries"][0].clone(), fields);
        lab.take(&request);
        let day = lab.read("usage-2025-11-28.md");
        assert_eq!(day.contains("more than 15 to 1"), is_over, "{day}");
        let errors = lab.read("errors-2025-11-28.md");
        assert_eq!(errors.contains("more than 15 to 1"), is_over, "{errors}");
        let said = lab.take(&json!({"mode": "review_period"}));
        let list = said["recommendations"].as_array().unwrap();
        assert_eq!(list.len(), usize::from(is_over), "{said}");
    }
}

#[test]
fn numbers_that_are_none_are_null() {
    let entry = |value: Value| {
        let request = json!({"mode": "log_only", "task_id": "x", "entries": [
            {"input_tokens": value, "estimated_cost": value}]});
        parse(request.to_string().as_bytes()).unwrap().entries.unwrap()[0].clone()
    };
    for value in [json!(-1), json!(1e300), json!("12"), json!([]), json!(true), json!(1e15)] {
        let entry = entry(value);
        assert_eq!((entry.input_tokens, entry.estimated_cost), (None, None));
    }
    let float = entry(json!(12_000.0));
    assert_eq!((float.input_tokens, float.estimated_cost), (Some(12_000), Some(12_000.0)));
    assert_eq!(entry(json!(0.5)).input_tokens, None);
}

#[test]
fn what_cannot_be_written_is_kept_and_recorded_once_with_the_next() {
    let lab = Lab::new();
    fs::write(lab.project().join("token-usage"), "in the way").unwrap();
    let error = lab.take_at(NOW, &seed()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disk);
    assert!(error.render().contains("a file is in the way"), "{}", error.render());
    // The same once more: both wait, and are one.
    lab.take_at(NOW, &seed()).unwrap_err();
    assert_eq!(lab.pending(), 2);
    fs::remove_file(lab.project().join("token-usage")).unwrap();
    let said = lab.take_at(NOW + 60_000, &with(seed(), json!({"task_id": "next"}))).unwrap();
    assert_eq!(said["reconciled"], 2);
    assert_eq!((lab.tasks().len(), lab.pending()), (2, 0));
    let errors = lab.read("errors-2025-11-28.md");
    let begin = "- [resolved 2025-11-28T15:01:00.000Z] usage-2025-11-28-1430-create-usage-tracker: \
                 cannot be written: a file is in the way of the folder\n";
    assert_eq!(errors.matches(begin).count(), 1, "{errors}");
    assert!(errors.contains(
        "## Recovery\n\n- [noted] usage-2025-11-28-1430-create-usage-tracker: recorded as tasks/"
    ));
    let said = lab.take(&with(seed(), json!({"task_id": "after"})));
    assert!(said.get("reconciled").is_none(), "{said}");
    assert_eq!(lab.tasks().len(), 3);
    assert!(lab.read("usage-2025-11-28.md").contains("| 99000 | $3.15 |"));
}

#[test]
fn those_that_cannot_be_recorded_for_long_keep_no_other() {
    let lab = Lab::new();
    lab.take(&with(seed(), json!({"task_id": "first"})));
    let session = lab.state().join("sessions/bad.json");
    fs::write(&session, "damaged").unwrap();
    for n in 0..6 {
        let mut poison = order("poison", NOW + n, &[10 + n.unsigned_abs()]);
        poison.source.session_id = "bad".into();
        let error = lab.tracker_at(NOW + n).feed(poison).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
    }
    let held = crate::lock::ProjectLock::take(&lab.tracker_at(NOW).lock_file()).unwrap();
    lab.take_at(NOW + 10, &with(seed(), json!({"task_id": "waits"}))).unwrap();
    drop(held);
    lab.take_at(NOW + 20, &with(seed(), json!({"task_id": "x"}))).unwrap();
    assert_eq!((lab.tasks().len(), lab.pending()), (2, 7));
    let said = lab.take_at(NOW + 30, &with(seed(), json!({"task_id": "y"}))).unwrap();
    assert_eq!((&said["reconciled"], lab.pending()), (&json!(1), 6));
    assert!(lab.tasks().iter().any(|name| name.contains("waits")));
    fs::remove_file(session).unwrap();
    lab.take_at(NOW + 40, &with(seed(), json!({"task_id": "z"}))).unwrap();
    assert_eq!(lab.pending(), 0);
    let poison: Vec<String> =
        lab.tasks().into_iter().filter(|name| name.contains("poison")).collect();
    let total: u64 = poison
        .iter()
        .map(|name| {
            let log: Value = serde_json::from_str(&lab.read(&format!("tasks/{name}"))).unwrap();
            log["totals"]["total_tokens"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(total, 15 * 11, "{poison:?}");
}

#[test]
fn what_cannot_be_read_of_a_session_is_not_nothing() {
    let lab = Lab::new();
    lab.tracker_at(NOW).feed(order("one", NOW, &[10])).unwrap();
    let session = lab.state().join("sessions/session.json");
    let good = fs::read(&session).unwrap();
    let too_large = fs::File::create(&session).unwrap();
    too_large.set_len(17 << 20).unwrap();
    lab.tracker_at(NOW).feed(order("two", NOW + 1, &[15])).unwrap_err();
    fs::write(&session, &good[..good.len() / 2]).unwrap();
    lab.tracker_at(NOW).feed(order("two", NOW + 2, &[16])).unwrap_err();
    fs::remove_file(&session).unwrap();
    fs::create_dir(&session).unwrap();
    lab.tracker_at(NOW).feed(order("two", NOW + 3, &[17])).unwrap_err();
    assert_eq!((lab.recorded().0, lab.pending()), (10 * 11, 3));
    fs::remove_dir(&session).unwrap();
    fs::write(&session, good).unwrap();
    lab.tracker_at(NOW).feed(order("two", NOW + 4, &[17])).unwrap();
    assert_eq!((lab.recorded().0, lab.pending()), (17 * 11, 0));
}

#[test]
fn neither_errors_nor_summary_hinder_a_record() {
    let lab = Lab::new();
    for name in ["errors-2025-11-28.md", "usage-2025-11-28.md"] {
        fs::create_dir_all(lab.path(name).join("x")).unwrap();
    }
    let mut partial = seed();
    partial["entries"][0]["estimated_cost"] = Value::Null;
    let said = lab.take(&partial);
    assert_eq!((&said["status"], said.get("pending")), (&json!("recorded"), None), "{said}");
    lab.tracker_at(NOW).feed(order("run", NOW, &[10])).unwrap();
    assert_eq!((lab.tasks().len(), lab.pending()), (2, 0));
    for name in ["errors-2025-11-28.md", "usage-2025-11-28.md"] {
        fs::remove_dir_all(lab.path(name)).unwrap();
    }
    let errors = fs::File::create(lab.path("errors-2025-11-28.md")).unwrap();
    errors.set_len(9 << 20).unwrap();
    lab.take(&with(partial, json!({"task_id": "after"})));
    let day = lab.read("usage-2025-11-28.md");
    assert!(day.contains("| build-lead | opus | 50000 | 16000 | 66000 |"), "{day}");
    assert_eq!(lab.pending(), 0);
}

#[test]
fn a_day_that_takes_too_long_to_read_holds_up_no_record() {
    let lab = Lab::new();
    lab.take(&seed());
    let day = lab.read("usage-2025-11-28.md");
    let request = with(seed(), json!({"task_id": "second"}));
    let input = parse(request.to_string().as_bytes()).unwrap();
    let tracker = lab.tracker_at(NOW).in_a_hurry();
    let said = serde_json::to_value(tracker.take(&input, |_, _| Advised::default()).unwrap());
    let said = said.unwrap();
    assert!(said["summary"].as_str().unwrap().ends_with("could not be made."), "{said}");
    assert_eq!((lab.tasks().len(), lab.pending()), (2, 0));
    assert_eq!(lab.read("usage-2025-11-28.md"), day);
    assert!(lab.read("errors-2025-11-28.md").contains("takes too long"));
    let folder = super::folder::Folder::open(&lab.project(), Path::new("token-usage")).unwrap();
    let read = |bytes| {
        let limit =
            super::logs::Limit { began: crate::clock::Timestamp::now(), limit_ms: u64::MAX, bytes };
        let day = super::names::day_of(NOW);
        super::logs::read_period(&folder, day, day, limit)
    };
    assert_eq!(read(1 << 20).unwrap().logs.len(), 2);
    assert!(read(100).unwrap_err().to_string().contains("MiB"));
}

#[test]
fn who_has_to_wait_long_is_put_by() {
    let lab = Lab::new();
    let held = crate::lock::ProjectLock::take(&lab.tracker_at(NOW).lock_file()).unwrap();
    let said = lab.take(&seed());
    assert_eq!((&said["status"], &said["pending"]), (&json!("recorded"), &json!(true)));
    assert!(said["summary"].as_str().unwrap().contains("with the next call"));
    assert!(lab.tasks().is_empty());
    drop(held);
    lab.take(&with(seed(), json!({"task_id": "next"})));
    assert_eq!(lab.tasks().len(), 2);
    assert!(lab.read("errors-2025-11-28.md").contains("skipped: others were recording"));
}

#[test]
fn much_more_than_usual_is_noted_once() {
    let lab = Lab::new();
    for (id, input) in [("a", 1_000), ("b", 2_000), ("c", 900_000)] {
        let mut request = with(seed(), json!({"task_id": id}));
        request["entries"][0]["input_tokens"] = json!(input);
        request["entries"][0]["total_tokens"] = json!(input + 8_000);
        lab.take(&request);
        lab.take(&request);
    }
    let errors = lab.read("errors-2025-11-28.md");
    let name = "usage-2025-11-28-1430-c";
    let expected = format!(
        "# Token Usage Errors: 2025-11-28\n\n## Anomalies\n\n\
         - [noted] {name}: 908000 tokens, more than five times the average of the other logs so far\n\
         - [noted] {name}: 900000 tokens were sent for 8000 of output, more than 15 to 1\n"
    );
    assert_eq!(errors, expected);
    let day = lab.read("usage-2025-11-28.md");
    assert!(day.contains("- c used 908000 tokens; the other 2 tasks of the day 9500 on average."));
}

#[test]
fn no_link_leads_out_of_the_project() {
    let lab = Lab::new();
    let outside = tempfile::tempdir().unwrap();
    let folder = lab.project().join("token-usage");
    symlink(outside.path(), &folder).unwrap();
    let error = lab.take_at(NOW, &seed()).unwrap_err();
    assert!(error.render().contains("symbolic link"), "{}", error.render());
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    symlink(outside.path(), folder.join("tasks")).unwrap();
    lab.take_at(NOW, &seed()).unwrap_err();
    fs::remove_file(folder.join("tasks")).unwrap();
    // A link in the place of a file is replaced, or left, and never followed.
    let precious = outside.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, folder.join("usage-2025-11-28.md")).unwrap();
    fs::create_dir(folder.join("tasks")).unwrap();
    symlink(&precious, folder.join("tasks/usage-2025-11-28-1430-create-usage-tracker.json"))
        .unwrap();
    lab.take(&seed());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    assert!(lab.read("usage-2025-11-28.md").contains("| 33000 |"));
}

#[test]
fn a_folder_that_longhaul_made_is_ignored_by_git() {
    let lab = Lab::new();
    lab.take(&seed());
    assert!(lab.read(".gitignore").ends_with("*\n"));
    fs::remove_file(lab.path(".gitignore")).unwrap();
    lab.take(&with(seed(), json!({"task_id": "x"})));
    assert!(!lab.path(".gitignore").exists(), "who removed it wants the records in git");
}

#[test]
fn the_day_is_that_of_utc() {
    let lab = Lab::new();
    lab.take(&with(seed(), json!({"timestamp": "2025-11-28T23:30:00-02:00"})));
    assert_eq!(lab.tasks(), ["usage-2025-11-29-0130-create-usage-tracker.json"]);
    for (text, name) in [
        ("2025-11-28", "usage-2025-11-28-0000-create-usage-tracker.json"),
        ("2025-11-28T14:30", "usage-2025-11-28-1430-create-usage-tracker.json"),
    ] {
        lab.take(&with(seed(), json!({"timestamp": text})));
        assert!(lab.tasks().contains(&name.to_owned()), "{text}: {:?}", lab.tasks());
    }
    for text in ["yesterday", "0001-01-01T00:00:00Z", "2025-13-01", "-000100-01-01"] {
        let input = parse(with(seed(), json!({"timestamp": text})).to_string().as_bytes()).unwrap();
        assert_eq!((input.unix_ms, &input.timestamp), (None, &None), "{text}");
        assert!(input.notes[0].contains("timestamp"), "{:?}", input.notes);
    }
}

/// A session with one main thread and some subagents, whose figures only grow.
fn parts(figures: &[u64]) -> Parts {
    let part = |(at, figure): (usize, &u64)| Part {
        agent: (at > 0).then(|| PathBuf::from(format!("/x/agent-{at}.jsonl"))),
        model: "claude-opus-5-5".into(),
        tokens: TokenCounts {
            input: *figure,
            output: figure * 2,
            cache_write_5m: figure * 3,
            cache_write_1h: figure * 5,
            cache_read: figure * 7,
        },
        cost_micro_usd: Some(figure * 11),
    };
    Parts(figures.iter().enumerate().map(part).collect())
}

fn order(task_id: &str, unix_ms: i64, figures: &[u64]) -> Order {
    let source = Source { run_id: "run".into(), cycle: 1, session_id: "session".into() };
    Order { source, task_id: task_id.into(), summary: None, unix_ms, parts: parts(figures) }
}

#[test]
fn a_run_records_what_is_new_of_its_session() {
    let lab = Lab::new();
    lab.tracker_at(NOW).feed(order("one", NOW, &[10, 1])).unwrap();
    lab.tracker_at(NOW).feed(order("two", NOW + 1, &[10, 1])).unwrap();
    assert_eq!(lab.tasks().len(), 1, "nothing is new");
    lab.tracker_at(NOW).feed(order("two", NOW + 2, &[15, 1, 4])).unwrap();
    assert_eq!(lab.recorded(), (20 * 11, 20 * 7, 20 * 11));
    let log: Value =
        serde_json::from_str(&lab.read("tasks/usage-2025-11-28-1500-two.json")).unwrap();
    let main = &log["entries"][0];
    assert_eq!((&main["agent"], &main["input_tokens"]), (&json!("main"), &json!(5 * 9)));
    assert_eq!((&main["output_tokens"], &main["total_tokens"]), (&json!(10), &json!(5 * 11)));
    assert_eq!(log["entries"][1]["agent"], "subagent");
    assert_eq!(log["source"], json!({"run_id": "run", "cycle": 1, "session_id": "session"}));
}

#[derive(Debug, Clone)]
enum Step {
    /// The session grows, and tells.
    Tell(usize, u64),
    /// It grows, and what it tells is lost.
    Lose(usize, u64),
    /// The last order comes once more.
    Again,
    /// The folder cannot be written any more, or again.
    Block(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, 0..9_u64).prop_map(|(at, by)| Step::Tell(at, by)),
        1 => (0..3_usize, 0..9_u64).prop_map(|(at, by)| Step::Lose(at, by)),
        1 => Just(Step::Again),
        2 => any::<bool>().prop_map(Step::Block),
    ]
}

/// A JSON value that may be anything, and often nearly a request.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..100_000_u64).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("2025-11-28T14:30:00Z")),
    ];
    let names = [
        "mode",
        "task_id",
        "timestamp",
        "user_request_summary",
        "entries",
        "agent",
        "model",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "estimated_cost",
        "cache_read_tokens",
        "stated_total_tokens",
        "list_price_usd",
        "other",
    ];
    leaf.prop_recursive(4, 40, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(names.to_vec()), inner), 0..9)
                .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_lost_repeated_or_blocked_a_session_is_recorded_once(
        steps in prop::collection::vec(step(), 1..12)
    ) {
        let lab = Lab::new();
        let folder = lab.project().join("token-usage");
        let (mut figures, mut now, mut last) = ([0_u64; 3], NOW, None);
        let mut is_blocked = false;
        let block = |want: bool, is: &mut bool| {
            let aside = lab.project().join("aside");
            if want && !*is {
                let _ = fs::rename(&folder, &aside);
                fs::write(&folder, "").unwrap();
            } else if !want && *is {
                fs::remove_file(&folder).unwrap();
                let _ = fs::rename(&aside, &folder);
            }
            *is = want;
        };
        for step in steps {
            now += 1_000;
            match step {
                Step::Tell(at, by) => {
                    figures[at] += by;
                    let order = order("task", now, &figures);
                    // Blocked or not: it is kept.
                    let _ = lab.tracker_at(now).feed(order.clone());
                    last = Some(order);
                }
                Step::Lose(at, by) => figures[at] += by,
                Step::Again => {
                    if let Some(order) = last.clone() {
                        let _ = lab.tracker_at(now).feed(order);
                    }
                }
                Step::Block(want) => block(want, &mut is_blocked),
            }
        }
        block(false, &mut is_blocked);
        lab.tracker_at(now + 1).feed(order("end", now + 1, &figures)).unwrap();
        let all: u64 = figures.iter().sum();
        prop_assert_eq!(lab.recorded(), (all * 11, all * 7, all * 11));
        prop_assert_eq!(lab.pending(), 0);
    }
}

proptest! {
    #[test]
    fn bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn what_is_recorded_reads_back_the_same_and_holds_numbers_alone(value in anything()) {
        if let Ok(input) = parse(value.to_string().as_bytes()) {
            let log = TaskLog::of(&input, NOW, crate::models::Models::builtin());
            let bytes = log.to_bytes();
            let back = TaskLog::from_bytes(&bytes);
            prop_assert_eq!(back.as_ref(), Some(&log));
            let text = String::from_utf8(bytes).unwrap();
            prop_assert!(!text.contains("NaN") && !text.contains("inf"));
            for entry in log.entries.iter().flatten() {
                let usd = entry.estimated_cost.unwrap_or(0.0);
                prop_assert!((0.0..=1e6).contains(&usd));
                prop_assert!(entry.total_tokens.unwrap_or(0) <= 20_000_000_000);
            }
            // The sums are those of the entries.
            let known = log.entries.iter().flatten().filter_map(|entry| entry.counted_tokens());
            prop_assert_eq!(log.totals.total_tokens.unwrap_or(0), known.sum::<u64>());
            let logs = super::daily::Day { logs: vec![log], unreadable: Vec::new() };
            let day = logs.render("2025-11-28".parse::<Date>().unwrap());
            prop_assert_eq!(day.matches("\n## ").count(), 4, "{}", day);
            let until = "2025-11-28".parse::<Date>().unwrap();
            let period = super::review::Period { since: until, until, days: 1 };
            let advised = Advised::default();
            let review = super::review::of(period, &logs, &advised, None, "CLAUDE.md").markdown;
            prop_assert_eq!(review.matches("\n## ").count(), 5, "{}", review);
        }
    }
}
