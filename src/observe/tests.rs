//! Days made by hand: which executions there are, and what is odd about them.

use std::path::{Path, PathBuf};

use jiff::civil::date;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::Value;

use super::fixture::{MIDNIGHT, Rows, Tokens, Tree, bash, edit, read};
use super::*;
use crate::config::{Config, InputKind};
use crate::models::Models;

fn day_with(tree: &Tree, project: Option<&Path>, set: &[&str]) -> Day {
    let set: Vec<String> = set.iter().map(ToString::to_string).collect();
    let config = Config::from_text("x", "", &set).unwrap();
    let places = tree.places();
    observe(&places, date(2026, 11, 20), &TimeZone::UTC, project, &config, Models::builtin())
}

fn day(tree: &Tree) -> Day {
    day_with(tree, None, &[])
}

fn of_kind(day: &Day, kind: AnomalyKind) -> Vec<&Anomaly> {
    day.anomalies.iter().filter(|anomaly| anomaly.kind == kind).collect()
}

/// One session with one response.
fn of_tokens(tokens: Tokens) -> Tree {
    let tree = Tree::new();
    let rows = Rows::new("s1").prompt(0, "What is in there?").says(100, tokens, "A parser.");
    tree.write("s1.jsonl", &rows.rows);
    tree
}

#[test]
fn a_session_by_hand_is_what_it_did_on_the_day() {
    let tree = Tree::new();
    let rows = Rows::new("s1")
        .prompt(-60, "Begin")
        .says(-30, Tokens(1, 2, 3, 4), "Yesterday.")
        .prompt(10, "Go on with the parser")
        .says(20, Tokens(10, 20, 30, 40), "Today.")
        .says(86_400, Tokens(5, 5, 5, 5), "Tomorrow.");
    tree.write("s1.jsonl", &rows.rows);
    let agent = Rows::agent("a").says(15, Tokens(100, 200, 300, 400), "Found.");
    tree.write("s1/subagents/agent-a.jsonl", &agent.rows);
    let day = day(&tree);
    let [execution] = &day.executions[..] else { panic!("{day:#?}") };
    assert_eq!((execution.kind, execution.id.as_str()), (Kind::Session, "session:s1"));
    assert_eq!(execution.title, "Go on with the parser");
    let used = Used { input: 110, output: 440, cache_write: 220, cache_read: 330 };
    assert_eq!(execution.usage, used);
    assert_eq!((execution.input, execution.tokens), (330, 770));
    assert_eq!(execution.duration_ms, 10_000);
    assert_eq!(execution.started_at.unix_ms, MIDNIGHT + 10_000);
    assert_eq!((day.totals.executions, day.totals.tokens), (1, 770));
}

#[test]
fn what_counts_as_input_is_configured() {
    let tree = of_tokens(Tokens(100, 1_000, 10_000, 7));
    for (kind, input) in
        [(InputKind::Uncached, 1_100), (InputKind::All, 11_100), (InputKind::Plain, 100)]
    {
        let set = format!("observe.input={}", kind.as_str());
        let day = day_with(&tree, None, &[&set]);
        assert_eq!((day.input, day.totals.input, day.totals.tokens), (kind, input, input + 7));
    }
}

#[test]
fn the_ratio_is_odd_above_its_threshold_however_little_it_is() {
    for (tokens, is_odd) in [
        (Tokens(0, 1_500, 0, 100), false),
        (Tokens(0, 1_501, 0, 100), true),
        (Tokens(0, 15, 0, 1), false),
        (Tokens(0, 16, 0, 1), true),
        (Tokens(0, 100, 90_000, 100), false),
        (Tokens(0, 1, 0, 0), true),
        (Tokens(0, 0, 0, 0), false),
    ] {
        let tree = of_tokens(tokens);
        let day = day(&tree);
        let found = of_kind(&day, AnomalyKind::InputOutputRatio);
        assert_eq!(found.len(), usize::from(is_odd), "{:?}", (tokens.1, tokens.3));
        for anomaly in found {
            assert_eq!(anomaly.threshold, Some(15.0));
            assert_eq!(anomaly.value.is_none(), tokens.3 == 0, "{anomaly:#?}");
            assert!(anomaly.evidence[1].contains("s1.jsonl"), "{anomaly:#?}");
        }
    }
    for (tokens, is_odd) in [(999, false), (1_000, true)] {
        let day = day_with(
            &of_tokens(Tokens(0, tokens, 0, 1)),
            None,
            &["observe.ratio_from_tokens=1_000"],
        );
        assert_eq!(of_kind(&day, AnomalyKind::InputOutputRatio).len(), usize::from(is_odd));
    }
}

#[test]
fn what_has_no_price_is_never_told_as_nothing() {
    let told = |models: &[&'static str]| {
        let tree = Tree::new();
        let mut rows = Rows::new("s1").prompt(0, "What is in there?");
        for (model, at_s) in models.iter().zip(100..) {
            rows = rows.model(model).says(at_s, Tokens(0, 11_000, 0, 100), "A parser.");
        }
        tree.write("s1.jsonl", &rows.rows);
        let day = day(&tree);
        let json = serde_json::to_value(&day).unwrap();
        let costs = (json["executions"][0]["cost_usd"].clone(), day.totals.unpriced_tokens);
        (day.human(&TimeZone::UTC), day.markdown(&TimeZone::UTC), costs)
    };
    let (human, markdown, costs) = told(&["some-model"]);
    assert_eq!(costs, (serde_json::json!(null), 11_100));
    for text in [&human, &markdown] {
        assert!(text.contains("11,100 tokens, unpriced"), "{text}");
        assert!(!text.contains("$0.00"), "{text}");
    }
    let (human, markdown, costs) = told(&["claude-opus-5-5", "some-model"]);
    assert_eq!(costs.1, 11_100);
    for text in [&human, &markdown] {
        assert!(text.contains(" + unpriced") && text.contains("22,200 tokens, $"), "{text}");
    }
    let (human, _, _) = told(&["claude-opus-5-5"]);
    assert!(!human.contains("unpriced"), "{human}");
}

#[test]
fn tokens_are_many_above_their_threshold() {
    for (tokens, is_odd) in [
        (Tokens(0, 9_000, 50_000, 999), false),
        (Tokens(0, 9_000, 50_000, 1_000), false),
        (Tokens(0, 9_000, 50_000, 1_001), true),
    ] {
        let found = day(&of_tokens(tokens));
        assert_eq!(of_kind(&found, AnomalyKind::ManyTokens).len(), usize::from(is_odd));
    }
    let high = day_with(&of_tokens(Tokens(0, 20_000, 0, 1)), None, &["observe.tokens=20_001"]);
    assert!(of_kind(&high, AnomalyKind::ManyTokens).is_empty());
}

#[test]
fn quick_and_heavy_is_both() {
    for (took_s, tokens, is_odd) in
        [(60, 10_001, true), (61, 10_001, false), (60, 10_000, false), (0, 90_000, true)]
    {
        let tree = Tree::new();
        let rows = Rows::new("s1").prompt(0, "What is in there?").says(
            took_s,
            Tokens(0, tokens - 5, 0, 5),
            "A parser.",
        );
        tree.write("s1.jsonl", &rows.rows);
        let day = day(&tree);
        let found = of_kind(&day, AnomalyKind::QuickAndHeavy);
        assert_eq!(found.len(), usize::from(is_odd), "{took_s} s, {tokens}");
    }
}

/// Two sessions with these prompts, so many seconds apart.
fn two(first: &str, then: &str, apart_s: i64) -> Tree {
    let tree = Tree::new();
    for (name, prompt, at_s) in [("s1", first, 10), ("s2", then, 10 + apart_s)] {
        let rows = Rows::new(name)
            .prompt(at_s, prompt)
            .calls(at_s + 1, Tokens(9, 0, 0, 9), &[edit("src/a.rs")])
            .says(at_s + 2, Tokens(9, 0, 0, 9), "Ok.");
        tree.write(&format!("{name}.jsonl"), &rows.rows);
    }
    tree
}

#[test]
fn the_same_prompt_within_an_hour_is_the_same_work_again() {
    const PROMPT: &str = "Fix the parser of dates";
    for (then, apart_s, is_odd) in [
        (PROMPT, 3_600, true),
        ("  Fix the\nparser of dates ", 5, true),
        (PROMPT, 3_601, false),
        ("Fix the parser of times", 5, false),
    ] {
        let day = day(&two(PROMPT, then, apart_s));
        let found = of_kind(&day, AnomalyKind::DuplicateExecution);
        assert_eq!(found.len(), usize::from(is_odd), "{then:?} after {apart_s} s");
        for anomaly in found {
            assert_eq!(
                (anomaly.execution.as_str(), anomaly.severity),
                ("session:s2", Severity::Medium)
            );
            assert!(
                anomaly.evidence.iter().any(|e| e.contains("src/a.rs and src/a.rs")),
                "{anomaly:#?}"
            );
        }
    }
    for short in ["/init", "go on", "/session-init"] {
        let day = day(&two(short, short, 60));
        assert!(of_kind(&day, AnomalyKind::DuplicateExecution).is_empty(), "{short}");
    }
}

#[test]
fn work_of_the_evening_before_is_remembered() {
    let tree = Tree::new();
    for (name, at_s) in [("s1", -1_800), ("s2", 1_799)] {
        let rows = Rows::new(name).prompt(at_s, "Fix the parser of dates").says(
            at_s + 2,
            Tokens(9, 0, 0, 9),
            "Ok.",
        );
        tree.write(&format!("{name}.jsonl"), &rows.rows);
    }
    let day = day(&tree);
    assert_eq!(day.executions.len(), 1, "{day:#?}");
    assert_eq!(of_kind(&day, AnomalyKind::DuplicateExecution).len(), 1);
}

/// A session that ends with these words after these calls.
fn ends(calls: &[(&str, Value, String, bool)], words: &str) -> Day {
    let tree = Tree::new();
    let mut rows = Rows::new("s1").prompt(0, "Fix the parser");
    if !calls.is_empty() {
        rows = rows.calls(100, Tokens(9, 0, 0, 9), calls);
    }
    tree.write("s1.jsonl", &rows.says(200, Tokens(9, 0, 0, 9), words).rows);
    day(&tree)
}

#[test]
fn a_claim_against_the_last_check_or_without_any_change_is_false() {
    let fails = || bash("cargo test", "Exit code 101", true);
    let passes = || bash("cargo test", "ok", false);
    let told = |day: &Day| {
        let found = of_kind(day, AnomalyKind::FalseCompletion);
        found.first().map(|anomaly| (anomaly.severity, anomaly.evidence[1].clone()))
    };
    let (severity, against) = told(&ends(&[edit("a.rs"), fails()], "All done.")).unwrap();
    assert_eq!(severity, Severity::High);
    assert!(against.starts_with("check: the last one, `cargo test`"), "{against}");
    let (severity, against) = told(&ends(&[read("a.rs", 9)], "I've fixed the parser.")).unwrap();
    assert_eq!((severity, against.starts_with("diff:")), (Severity::Medium, true));
    for (calls, words) in [
        (vec![edit("a.rs"), fails(), passes()], "All done."),
        (vec![edit("a.rs")], "I've fixed the parser."),
        // It says itself that it is not done.
        (vec![edit("a.rs"), fails()], "All done, but a test still fails."),
        // What a script did nobody knows.
        (vec![bash("./fix.sh", "", false)], "I've fixed the parser."),
        // An answer needs no change.
        (vec![read("a.rs", 9)], "The work is done: it parses dates."),
    ] {
        assert_eq!(told(&ends(&calls, words)), None, "{words}");
    }
    // The status of a pipe is that of its last command.
    let piped = |output| bash("cargo test 2>&1 | tail -3", output, false);
    let (failed, passed) = (
        piped("test result: FAILED. 3 passed; 1 failed"),
        piped("test result: ok. 4 passed; 0 failed"),
    );
    let (severity, against) =
        told(&ends(&[edit("a.rs"), failed.clone()], "The work is done.")).unwrap();
    assert_eq!(severity, Severity::High);
    assert!(against.starts_with("check: the last one, `cargo test`"), "{against}");
    assert_eq!(told(&ends(&[edit("a.rs"), failed.clone(), passed], "All done.")), None);
    // What is no check may speak of failures.
    let log = bash("cat night.log", "test result: FAILED. 3 passed; 1 failed", false);
    assert_eq!(told(&ends(&[edit("a.rs"), log], "All done.")), None);
    // A change that was refused is none.
    let refused = (edit("a.rs").0, edit("a.rs").1, "no such text".to_owned(), true);
    assert!(told(&ends(&[refused], "Fixed it.")).is_some());
}

/// What speaks against the claim of a session that ends so, and the errors that it left.
fn against(calls: &[(&str, Value, String, bool)], words: &str) -> (Vec<Severity>, Vec<String>) {
    let day = ends(calls, words);
    let found = of_kind(&day, AnomalyKind::FalseCompletion);
    let severities = found.iter().map(|anomaly| anomaly.severity).collect();
    (severities, day.executions[0].evidence.errors.clone())
}

#[test]
fn harmless_words_do_not_hide_a_claim_that_a_check_contradicts() {
    const OUTPUT: &str = "Exit code 101\nrunning 3 tests\ntest result: FAILED. 2 passed; 1 failed";
    let calls = [edit("a.rs"), bash("cargo test", OUTPUT, true)];
    for words in [
        "Done. I fixed the failing test; all tests pass.",
        "Done. All tests pass. Would you like me to commit?",
        "I've implemented the todo list. All tests pass.",
        "I've completed the task. You need to restart the server to see it.",
        "STATUS: DONE",
    ] {
        let (severities, errors) = against(&calls, words);
        assert_eq!(severities, [Severity::High], "{words}");
        let told = "`cargo test`: Exit code 101: test result: FAILED. 2 passed; 1 failed";
        assert_eq!(errors, [told], "{words}");
    }
    for words in ["I fixed the parser, but two tests still fail.", "Not done yet."] {
        assert_eq!(against(&calls, words).0, [], "{words}");
    }
}

#[test]
fn an_error_that_nothing_made_good_contradicts_a_claim() {
    const UNFOUND: &str = "<tool_use_error>String to replace not found in file.\nString: a";
    let refused = || (edit("a.rs").0, edit("a.rs").1, format!("{UNFOUND}</tool_use_error>"), true);
    for (calls, error) in [
        (vec![refused()], "Edit of /home/p/a.rs: String to replace not found in file."),
        (vec![edit("b.rs"), refused()], "Edit of /home/p/a.rs: String to replace"),
        (
            vec![bash("make", "Exit code 2\ncc a.c\na.c:1: error: x", true)],
            "`make`: Exit code 2: a.c:1",
        ),
        (
            vec![bash(
                "python main.py",
                "Exit code 1\nTraceback:\n  x\nValueError: \u{1b}[1mbad",
                true,
            )],
            "`python`: Exit code 1: ValueError: \\u{1b}[1mbad",
        ),
        (vec![bash("git commit -m x", "Exit code 1\nhook: no", true)], "`git commit`: Exit code 1"),
        (
            vec![bash("python main.py", "Exit code 1", true), bash("python b.py", "", false)],
            "`python`: Exit code 1",
        ),
    ] {
        for words in ["Done", "Task complete.", "Task completed successfully."] {
            let (severities, errors) = against(&calls, words);
            assert_eq!(severities, [Severity::Medium], "{words}: {error}");
            assert!(errors.len() == 1 && errors[0].starts_with(error), "{errors:?}");
        }
        assert_eq!(against(&calls, "I could not do it.").0, [], "{error}");
    }
    let said = "1 failed, 2 passed";
    let (severities, errors) = against(&[bash("pytest; true", said, false)], "Done.");
    assert_eq!((severities, errors), (vec![Severity::High], vec![format!("`pytest`: {said}")]));
}

#[test]
fn an_error_that_was_made_good_is_none() {
    let fails = |command| bash(command, "Exit code 1", true);
    let refused = || (edit("a.rs").0, edit("a.rs").1, "no such text".to_owned(), true);
    for calls in [
        vec![refused(), edit("a.rs")],
        vec![refused(), bash("sed -i s/a/b/ a.rs", "", false)],
        vec![fails("make"), bash("make -j2", "", false)],
        vec![fails("git add -A && git commit -m x"), bash("git commit -m x", "", false)],
        vec![fails("cargo test"), bash("cargo nextest run", "", false)],
        // Who looks may find nothing, and who is refused has not failed.
        vec![fails("grep -rn x src"), fails("ls nowhere"), fails("command -v rg")],
        vec![bash("make", "The user doesn't want to proceed with this tool use.", true)],
        vec![("Read", serde_json::json!({"file_path": "/x"}), "no such file".to_owned(), true)],
    ] {
        assert_eq!(against(&calls, "Done."), (vec![], vec![]), "{calls:?}");
    }
    // The other file was never changed.
    let (severities, _) =
        against(&[refused(), edit("b.rs"), bash("cargo test", "ok", false)], "Done.");
    assert_eq!(severities, [Severity::Medium]);
}

#[test]
fn an_answer_about_the_code_is_no_claim_of_work() {
    for words in [
        "The function was removed in commit abc123.",
        "Added in version 3 by Bob; see CHANGELOG.",
        "Updated dependencies are listed in Cargo.lock.",
        "I have created a plan for the work.",
    ] {
        assert_eq!(against(&[read("a.rs", 9)], words).0, [], "{words}");
    }
}

#[test]
fn only_the_project_is_observed_that_was_asked_for() {
    let tree = of_tokens(Tokens(0, 20_000, 0, 1));
    for (project, count) in [("/home", 1), ("/home/p", 1), ("/home/p/q", 0), ("/hom", 0)] {
        let day = day_with(&tree, Some(Path::new(project)), &[]);
        assert_eq!(day.executions.len(), count, "{project}");
    }
}

#[test]
fn a_fork_begins_where_it_left_the_conversation() {
    let tree = Tree::new();
    let first =
        Rows::new("s1").prompt(0, "Fix the parser of dates").says(10, Tokens(9, 0, 0, 9), "Ok.");
    tree.write("s1.jsonl", &first.rows);
    let mut fork = first.rows.clone();
    let more =
        Rows::new("s2").prompt(60, "Now write tests for it").says(70, Tokens(9, 0, 0, 9), "Ok.");
    fork.extend(more.rows);
    tree.write("s2.jsonl", &fork);
    let day = day(&tree);
    let titles: Vec<_> =
        day.executions.iter().map(|e| (e.title.as_str(), e.usage.output)).collect();
    assert_eq!(titles, [("Fix the parser of dates", 9), ("Now write tests for it", 9)]);
    assert!(of_kind(&day, AnomalyKind::DuplicateExecution).is_empty());
}

/// A run of one cycle, from second 100 to second 200, in the session `id`.
fn run_of(id: uuid::Uuid) -> journals::RunTold {
    let at = |s: u64| {
        let unix_ms = MIDNIGHT + i64::try_from(s).unwrap() * 1_000;
        crate::clock::Timestamp { unix_ms, boot_ms: s * 1_000 }
    };
    let mut cycle = crate::cycle::record::CycleRecord::new(1, id, at(100), (0, 3));
    cycle.ended_at = Some(at(200));
    cycle.end_reason = Some(crate::cycle::EndReason::Done);
    cycle.spend.tokens.output = 1_000;
    cycle.tasks_done_after = 3;
    journals::RunTold {
        run_id: uuid::Uuid::from_u128(7),
        project: PathBuf::from("/home/p"),
        journal: PathBuf::from("/state/journal"),
        is_for_queue: false,
        cycles: vec![cycle],
        tasks: Vec::new(),
        verified: Vec::new(),
        outcome: Some(crate::cycle::Outcome::Done),
        heard_unix_ms: MIDNIGHT + 200_000,
        task_file_digest: None,
    }
}

#[test]
fn a_copy_of_a_run_is_not_a_second_one() {
    let (one, other) = (run_of(uuid::Uuid::from_u128(9)), run_of(uuid::Uuid::from_u128(10)));
    let mut older = one.clone();
    older.heard_unix_ms -= 1;
    let other = journals::RunTold { run_id: uuid::Uuid::from_u128(8), ..other };
    let told = journals::each_once(vec![older, other, one.clone(), one]);
    let told: Vec<_> = told.iter().map(|run| (run.run_id.as_u128(), run.heard_unix_ms)).collect();
    assert_eq!(told, [(8, MIDNIGHT + 200_000), (7, MIDNIGHT + 200_000)]);
}

#[test]
fn what_a_cycle_did_is_no_session_and_what_came_after_it_is() {
    let tree = Tree::new();
    let id = uuid::Uuid::from_u128(9);
    let of_run = Rows::new(&id.to_string())
        .calls(110, Tokens(9, 0, 0, 500), &[edit("dev-docs/tasks.md")])
        .says(204, Tokens(9, 0, 0, 500), "All tasks are done.");
    let name = format!("{id}.jsonl");
    tree.write(&name, &of_run.rows);
    let runs = [run_of(id)];
    let executions = |tree: &Tree| {
        let threads = tree.threads().list;
        let (tasks, results) = (std::collections::HashMap::new(), []);
        let sources =
            gather::Sources { runs: &runs, threads: &threads, tasks: &tasks, results: &results };
        sources.executions(super::fixture::DAY, InputKind::Uncached)
    };
    let found = executions(&tree);
    let [cycle] = &found[..] else { panic!("{found:#?}") };
    assert_eq!((cycle.kind, cycle.usage.output, cycle.duration_ms), (Kind::Cycle, 1_000, 100_000));
    assert_eq!(cycle.evidence.claim.as_deref(), Some("the run ended done"));
    assert_eq!(cycle.evidence.changes, Some(0), "ticking boxes is no work");
    // Somebody goes on with it by hand.
    let more = of_run.prompt(300, "One more thing").says(310, Tokens(1, 0, 0, 77), "Ok.");
    tree.write(&name, &more.rows);
    let found = executions(&tree);
    let of_kind: Vec<(Kind, u64)> = found.iter().map(|e| (e.kind, e.usage.output)).collect();
    assert_eq!(of_kind, [(Kind::Cycle, 1_000), (Kind::Session, 77)]);
    assert_eq!(found[1].title, "One more thing");
}

#[test]
fn what_earlier_cycles_changed_is_work_of_the_run_that_ends_done() {
    let tree = Tree::new();
    let (first, last) = (uuid::Uuid::from_u128(8), uuid::Uuid::from_u128(9));
    let works = Rows::new(&first.to_string()).calls(50, Tokens(9, 0, 0, 5), &[edit("a.rs")]);
    tree.write(&format!("{first}.jsonl"), &works.rows);
    let ticks = Rows::new(&last.to_string())
        .calls(110, Tokens(9, 0, 0, 5), &[edit("dev-docs/tasks.md")])
        .says(120, Tokens(9, 0, 0, 5), "All tasks are done.");
    tree.write(&format!("{last}.jsonl"), &ticks.rows);
    let mut run = run_of(last);
    let mut earlier = run.cycles[0].clone();
    earlier.session_id = first;
    earlier.started_at.unix_ms -= 60_000;
    earlier.ended_at = Some(run.cycles[0].started_at);
    earlier.end_reason = Some(crate::cycle::EndReason::Threshold);
    run.cycles[0].cycle = 2;
    run.cycles.insert(0, earlier);
    let (threads, tasks) = (tree.threads().list, std::collections::HashMap::new());
    let sources = gather::Sources { runs: &[run], threads: &threads, tasks: &tasks, results: &[] };
    let found = sources.executions(super::fixture::DAY, InputKind::Uncached);
    assert_eq!(found[1].evidence.claim.as_deref(), Some("the run ended done"));
    assert_eq!(found[1].evidence.changes, Some(1), "{found:#?}");
    let odd = anomaly::find(&found, &[], &Config::defaults().observe);
    assert!(odd.iter().all(|o| o.kind != AnomalyKind::FalseCompletion), "{odd:#?}");
}

#[test]
fn how_a_run_ended_is_of_its_last_cycle() {
    let (first, last) = (uuid::Uuid::from_u128(8), uuid::Uuid::from_u128(9));
    let mut run = run_of(last);
    run.outcome = Some(crate::cycle::Outcome::Stopped { signal: 15 });
    let mut earlier = run.cycles[0].clone();
    earlier.session_id = first;
    run.cycles[0].cycle = 2;
    run.cycles.insert(0, earlier);
    let tasks = std::collections::HashMap::new();
    let sources = gather::Sources { runs: &[run], threads: &[], tasks: &tasks, results: &[] };
    let found = sources.executions(super::fixture::DAY, InputKind::Uncached);
    let errors: Vec<(&str, usize)> =
        found.iter().map(|e| (e.id.split('@').next().unwrap(), e.evidence.errors.len())).collect();
    assert_eq!(errors, [("cycle:1", 0), ("cycle:2", 1)], "{found:#?}");
    // A retry is told as one all the same, with the reason.
    assert!(found[0].failed && found[0].why_failed == found[1].why_failed, "{found:#?}");
}

#[test]
fn an_empty_day_says_so_in_every_form() {
    let day = day(&Tree::new());
    assert_eq!(day.human(&TimeZone::UTC), "2026-11-20 (UTC): nothing was executed.\n");
    assert!(day.markdown(&TimeZone::UTC).contains("Nothing was executed on this day."));
    let json = serde_json::to_value(&day).unwrap();
    assert_eq!(json["executions"], serde_json::json!([]));
    assert_eq!(json["totals"]["anomalies"]["many_tokens"], 0);
}

#[test]
fn what_could_not_be_read_is_not_taken_for_nothing() {
    let tree = Tree::new();
    let run = tree.0.path().join("state/projects/p/runs/r");
    std::fs::create_dir_all(&run).unwrap();
    std::fs::write(run.join("journal"), "no journal\n").unwrap();
    let mut day = day(&tree);
    assert_eq!(day.warnings.len(), 1, "{day:#?}");
    assert!(day.warnings[0].starts_with("a run is told without its journal"), "{day:#?}");
    for text in [day.human(&TimeZone::UTC), day.markdown(&TimeZone::UTC)] {
        assert!(text.contains("not all could be read"), "{text}");
        assert!(!text.to_lowercase().contains("nothing was executed"), "{text}");
    }
    day.warnings.clear();
    assert!(day.human(&TimeZone::UTC).contains("nothing was executed"));
}

#[test]
fn a_tired_person_reads_it_right() {
    let mut day = day(&two("Fix the parser of dates", "Fix the parser of dates", 60));
    let text = day.human(&TimeZone::UTC);
    assert!(text.contains("; not in it: read from the cache 0; "), "{text}");
    assert!(text.contains(" at list prices\n"), "{text}");
    assert!(text.contains("\n00:00  "), "{text}");
    // It is of the day on which it ended, and began the day before.
    day.executions[0].started_at.unix_ms = MIDNIGHT - 60_000;
    let text = day.human(&TimeZone::UTC);
    assert!(text.contains("\n11-19 23:59  "), "{text}");
    day.input = InputKind::All;
    let text = day.human(&TimeZone::UTC);
    assert!(text.contains("; of the input read from the cache 0; "), "{text}");
    let one = crate::advice::Advice {
        topic: crate::advice::Topic::Reread,
        key: "reread:a".to_owned(),
        description: "It was read again.".to_owned(),
        proposed_change: "Read it once.".to_owned(),
        tokens: Some(1),
        cost_usd: Some(1.0),
        basis: crate::advice::Basis::Measured,
        evidence: Vec::new(),
    };
    day.recommendations = vec![one; 8];
    let text = day.human(&TimeZone::UTC);
    assert!(text.contains("\n  … and 3 more (--output json has all)\n"), "{text}");
    day.recommendations.truncate(5);
    assert!(!day.human(&TimeZone::UTC).contains("… and"));
}

#[test]
fn foreign_text_is_harmless_in_every_form() {
    let tree = Tree::new();
    let rows = Rows::new("s1").prompt(0, "a|b `c` \u{1b}[31m\u{202e}x").says(
        10,
        Tokens(0, 20_000, 0, 1),
        "Ok.",
    );
    tree.write("s1.jsonl", &rows.rows);
    let day = day(&tree);
    for text in [day.human(&TimeZone::UTC), day.markdown(&TimeZone::UTC)] {
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    }
    assert!(
        day.markdown(&TimeZone::UTC).contains("a\\|b \\`c\\`"),
        "{}",
        day.markdown(&TimeZone::UTC)
    );
}

/// A session with everything in it.
fn rich() -> Vec<Value> {
    Rows::new("s1")
        .prompt(0, "Fix the parser of dates")
        .calls(1, Tokens(0, 20_000, 0, 100), &[read("src/a.rs", 40_000), bash("ls", "a", false)])
        .calls(5, Tokens(0, 10_100, 20_000, 100), &[read("src/a.rs", 40_000), edit("src/a.rs")])
        .calls(10, Tokens(0, 10_100, 30_100, 50), &[bash("cargo test", "Exit code 1", true)])
        .says(15, Tokens(0, 50, 40_200, 50), "All done.")
        .rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Rows come again and in any order; nothing changes.
    #[test]
    fn repeated_and_shuffled_rows_change_nothing(
        order in proptest::collection::vec(0_usize..1_000, 60),
    ) {
        let once = rich();
        let expected = Tree::new();
        expected.write("s1.jsonl", &once);
        let tree = Tree::new();
        let mut rows = once.clone();
        for place in &order {
            let row = once[place % once.len()].clone();
            rows.insert(place % (rows.len() + 1), row);
        }
        for (at, place) in order.iter().enumerate() {
            let len = rows.len();
            rows.swap(at % len, place % len);
        }
        tree.write("s1.jsonl", &rows);
        let without_paths = |tree: &Tree| {
            let mut list = tree.threads().list;
            list.iter_mut().for_each(|thread| thread.path.clear());
            list
        };
        prop_assert_eq!(without_paths(&tree), without_paths(&expected));
    }

    /// A torn, spliced or overwritten line costs what it touches, and never the rest.
    #[test]
    fn damage_is_survived(at in 0_usize..4_000, len in 1_usize..400, fill in 0_u8..=255) {
        let tree = Tree::new();
        let path = tree.write("s1.jsonl", &rich());
        let mut bytes = std::fs::read(&path).unwrap();
        let from = at.min(bytes.len() - 1);
        let to = (from + len).min(bytes.len());
        bytes[from..to].fill(fill);
        std::fs::write(&path, bytes).unwrap();
        let found = tree.threads();
        prop_assert!(found.list.len() <= 2);
        day(&tree);
    }
}
