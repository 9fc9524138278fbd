//! `longhaul task`: what is added is listed and shown, what makes no sense is refused
//! with the reason and changes nothing, and a session may only look.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::support::{Finished, Lab, Run, finisher};

fn task(lab: &Lab, args: &[&str]) -> Finished {
    lab.longhaul_output(&[&["task"], args].concat())
}

fn done(lab: &Lab, args: &[&str]) -> String {
    let said = task(lab, args);
    assert_eq!((said.code(), said.stderr.as_str()), (0, ""), "{args:?}: {said:#?}");
    said.stdout
}

fn json(lab: &Lab, args: &[&str]) -> Value {
    serde_json::from_str(&done(lab, &[args, &["--json"]].concat())).unwrap()
}

/// `task add -` with these lines on standard input.
fn add_lines(lab: &Lab, lines: &str, args: &[&str]) -> Finished {
    let file = lab.root().join("lines");
    fs::write(&file, lines).unwrap();
    let mut command = lab.command(env!("CARGO_BIN_EXE_longhaul"));
    command.args(["task", "add", "-"]).args(args).stdin(File::open(&file).unwrap());
    Run::start(&mut command).finished()
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|task| task["task_id"].as_str().unwrap()).collect()
}

#[test]
fn what_is_added_is_listed_shown_changed_and_cancelled() {
    let lab = Lab::new(finisher());
    assert_eq!(json(&lab, &["list"]), json!([]));
    assert!(!lab.state_dir().join("queue.db").exists(), "looking makes nothing");
    let added = json(
        &lab,
        &[
            "add",
            "Port the lexer",
            "--id=lexer",
            "--context=It is in src/lex.rs",
            "--priority=-10",
            "--batch=new",
            "--verify=cargo test lexer",
            "--model=claude-haiku-4-5",
            "--budget=2.5",
        ],
    );
    let batch = added["batch_id"].as_str().unwrap().to_owned();
    assert!(
        batch.starts_with("batch_2") && batch.len() == "batch_20261121_080910".len(),
        "{batch}"
    );
    let project = fs::canonicalize(lab.project()).unwrap();
    for (key, value) in [
        ("task_id", json!("lexer")),
        ("status", json!("queued")),
        ("description", json!("Port the lexer")),
        ("context", json!("It is in src/lex.rs")),
        ("priority", json!(-10)),
        ("batch_position", json!(1)),
        ("project", json!(project)),
        ("verify", json!("cargo test lexer")),
        ("model", json!("claude-haiku-4-5")),
        ("budget_usd", json!(2.5)),
        ("after", json!([])),
        ("attempt", json!(1)),
    ] {
        assert_eq!(added[key], value, "{key}");
    }
    assert_ne!(json(&lab, &["add", "x", "--batch=new"])["batch_id"], json!(batch), "a new one");
    done(
        &lab,
        &["add", "--description", "- Port the parser", "--task-id", "parser", "--after", "lexer"],
    );
    let made_up = json(&lab, &["add", "Do it", "--priority", "urgent", "--after", "lexer,parser"]);
    assert!(made_up["task_id"].as_str().unwrap().starts_with("task_2"), "{made_up}");
    assert_eq!(made_up["after"], json!(["lexer", "parser"]));

    let all = json(&lab, &["list"]);
    assert_eq!(ids(&all)[0], made_up["task_id"].as_str().unwrap(), "by priority");
    assert_eq!(ids(&all).last(), Some(&"lexer"));
    let table = done(&lab, &["list", "--limit", "2"]);
    assert!(table.contains("2 of 4 tasks: 4 queued (2 ready)"), "{table}");
    assert_eq!(ids(&json(&lab, &["list", "--batch", &batch])), ["lexer"]);

    let changed = json(&lab, &["edit", "lexer", "--budget=", "--context=", "--priority=high"]);
    assert_eq!((&changed["budget_usd"], &changed["context"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&changed["priority"], &changed["verify"]),
        (&json!("high"), &json!("cargo test lexer"))
    );
    assert_eq!(json(&lab, &["edit", "parser", "--after="])["after"], json!([]));
    done(&lab, &["edit", "parser", "--after=lexer"]);

    assert!(done(&lab, &["cancel", "lexer"]).contains("cancelled lexer"));
    done(&lab, &["cancel", "lexer"]);
    let blocked = json(&lab, &["show", "parser"]);
    assert_eq!(blocked["status"], "blocked");
    assert_eq!(blocked["result"]["status"], "blocked");
    assert_eq!(
        blocked["result"]["errors"],
        json!(["the task waits for lexer, which was cancelled"])
    );
    let shown = done(&lab, &["show", "parser"]);
    assert!(
        shown.contains("- Port the parser") && shown.contains("which was cancelled"),
        "{shown}"
    );
    assert_eq!(ids(&json(&lab, &["list", "--state", "cancelled"])), ["lexer"]);
    assert_eq!(json(&lab, &["retry", "lexer"])["attempt"], 2);
    assert_eq!(json(&lab, &["show", "parser"])["status"], "queued");
    let result = json(&lab, &["show", "lexer"])["result"].clone();
    assert_eq!((&result["attempt"], &result["status"]), (&json!(1), &json!("cancelled")));
    assert_eq!(json(&lab, &["archive"])["archived"], 0);
    let mode = fs::metadata(lab.state_dir().join("queue.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn lines_are_added_all_or_none_and_the_bad_one_is_named() {
    let lab = Lab::new(finisher());
    let good = "{\"id\":\"b\",\"description\":\"B\",\"after\":[\"a\"]}\n\n\
                {\"task_id\":\"a\",\"description\":\"A\",\"priority\":\"high\"}\n";
    for (line, words) in [
        ("{\"id\":\"c\"", "line 4: it is not valid JSON"),
        ("{\"id\":\"c\"}", "line 4: the description is missing"),
        ("{\"id\":\"a\",\"description\":\"C\"}", "line 4: there is a task a already"),
        ("{\"id\":\"c\",\"description\":\"C\",\"after\":\"z\"}", "line 4: the task c waits for z"),
        ("{\"id\":\"c\",\"description\":\"C\",\"after\":\"c\"}", "line 4: these tasks would wait"),
        ("{\"id\":\"c\",\"description\":\"a\\u0007\"}", "line 4: the description holds"),
        ("{\"id\":\"c\",\"description\":\"C\",\"project\":\"/no/such\"}", "line 4: the project"),
    ] {
        let said = add_lines(&lab, &format!("{good}{line}"), &[]);
        said.failed(64, &[words, "none of the tasks was added"]);
    }
    assert_eq!(json(&lab, &["list", "--all"]), json!([]));
    // The order of a batch is that of the lines, and the first waits against it.
    add_lines(&lab, good, &["--batch=night"]).failed(64, &["b -> a -> b", "none of the tasks"]);
    let said = add_lines(&lab, good, &["--priority=low", "--verify=true", "--json"]);
    assert_eq!(said.code(), 0, "{said:#?}");
    let added: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(ids(&added), ["b", "a"]);
    assert_eq!((&added[0]["priority"], &added[1]["priority"]), (&json!("low"), &json!("high")));
    assert_eq!(added[1]["verify"], "true");
    add_lines(&lab, "\n", &[]).failed(64, &["no task on standard input"]);
    add_lines(&lab, good, &["--id=x"]).failed(64, &["--id"]);
}

#[test]
fn the_word_new_is_one_batch_of_its_own_in_each_call() {
    let lab = Lab::new(finisher());
    let lines = "{\"id\":\"a\",\"description\":\"A\",\"batch_id\":\"new\"}\n\
                 {\"id\":\"b\",\"description\":\"B\",\"batch_id\":\"other\"}\n\
                 {\"id\":\"c\",\"description\":\"C\"}\n\
                 {\"id\":\"d\",\"description\":\"D\",\"batch\":\"new\"}\n";
    let said = add_lines(&lab, lines, &["--json"]);
    let batches_of = |said: &Finished| -> Vec<Value> {
        let added: Value = serde_json::from_str(&said.stdout).unwrap();
        added.as_array().unwrap().iter().map(|task| task["batch_id"].clone()).collect()
    };
    let batches = batches_of(&said);
    let first = batches[0].clone();
    assert!(first.as_str().unwrap().starts_with("batch_2"), "{first}");
    assert_eq!(batches, [first.clone(), json!("other"), Value::Null, first.clone()]);
    // The option speaks for the lines that do not say, and means the same batch.
    let lines = lines.replace("\"id\":\"", "\"id\":\"2");
    let batches = batches_of(&add_lines(&lab, &lines, &["--json", "--batch=new"]));
    let second = batches[0].clone();
    assert_ne!(second, first);
    assert_eq!(batches, [second.clone(), json!("other"), second.clone(), second.clone()]);
    let edited = json(&lab, &["edit", "c", "--batch=new"])["batch_id"].clone();
    assert!(edited != first && edited != second, "{edited}");
    let said = task(&lab, &["list", "--batch=new"]);
    assert_eq!(said.code(), 64, "{said:#?}");
    assert!(said.stderr.contains("asks `longhaul task` and the hub to make one up"), "{said:#?}");
    // A file of tasks has ids, not wishes.
    let file = lab.root().join("queue.json");
    fs::write(&file, r#"{"e": {"description": "E", "batch_id": "new"}}"#).unwrap();
    let said = task(&lab, &["import", file.to_str().unwrap()]);
    assert_eq!(said.code(), 64, "{said:#?}");
    assert!(said.stderr.contains("asks `longhaul task` and the hub to make one up"), "{said:#?}");
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let lab = Lab::new(finisher());
    done(&lab, &["add", "A", "--id=a", "--batch=night"]);
    done(&lab, &["add", "B", "--id=b", "--after=a"]);
    let before = json(&lab, &["list", "--all"]);
    let other = lab.root().join("other");
    fs::create_dir(&other).unwrap();
    let other = other.to_str().unwrap();
    let state = lab.root().to_str().unwrap().to_owned();
    for (args, words) in [
        (&["add"][..], &["DESCRIPTION"][..]),
        (&["add", " "], &["blank"]),
        (&["add", "again", "--id=a"], &["a already"]),
        (&["add", "x", "--id=../x"], &["task id"]),
        (&["add", "x", "--after=nobody"], &["nobody"]),
        (&["add", "x", "--id=x", "--after=x"], &["x -> x"]),
        (&["add", "x", "--batch=night", "--project", other], &["night", "project"]),
        (&["add", "x", "--project=/no/such/folder"], &["/no/such/folder"]),
        (&["add", "x", "--project", &state], &["state directory"]),
        (&["add", "x", "--priority=soon"], &["soon", "urgent"]),
        (&["add", "x", "--budget=0"], &["budget"]),
        (&["add", "x", "--budget=much"], &["much"]),
        (&["add", "x", "--model=-p"], &["model"]),
        (&["add", "x", "--set", "queue.parallel=0"], &["queue.parallel"]),
        (&["edit", "a", "--after=b"], &["a -> b -> a"]),
        (&["edit", "a"], &["nothing"]),
        (&["edit", "nobody", "--priority=low"], &["nobody"]),
        (&["edit", "a", "--description="], &["blank"]),
        (&["cancel", "nobody"], &["nobody"]),
        (&["retry", "a"], &["a is queued"]),
        (&["show", "nobody"], &["nobody"]),
        (&["list", "--state=asleep"], &["asleep", "in_progress"]),
    ] {
        task(&lab, args).failed(64, words);
    }
    assert_eq!(json(&lab, &["list", "--all"]), before);
}

#[test]
fn a_session_may_look_and_change_nothing() {
    let lab = Lab::new(finisher());
    done(&lab, &["add", "A", "--id=a"]);
    let before = json(&lab, &["show", "a"]);
    let below = |args: &[&str]| {
        let mut command = lab.command(env!("CARGO_BIN_EXE_longhaul"));
        command.arg("task").args(args).env("LONGHAUL_RUN", "7d2c");
        Run::start(&mut command).finished()
    };
    for args in [
        &["add", "B"][..],
        &["edit", "a", "--priority=high"],
        &["cancel", "a"],
        &["retry", "a"],
        &["archive"],
    ] {
        below(args).failed(64, &["session", "LONGHAUL_RUN"]);
    }
    for args in [&["list"][..], &["show", "a"]] {
        assert_eq!(below(args).code(), 0, "{args:?}");
    }
    assert_eq!(json(&lab, &["show", "a"]), before);
}

#[test]
fn a_queue_that_is_damaged_or_newer_is_left_as_it_is() {
    let lab = Lab::new(finisher());
    done(&lab, &["add", "A", "--id=a"]);
    let file = lab.state_dir().join("queue.db");
    let good = fs::read(&file).unwrap();
    let mut newer = good.clone();
    newer[63] += 1;
    for (bytes, word) in
        [(b"not a database".to_vec(), "not what longhaul writes"), (newer, "newer")]
    {
        fs::write(&file, &bytes).unwrap();
        for args in [&["list"][..], &["add", "B"], &["show", "a"], &["cancel", "a"]] {
            task(&lab, args).failed(50, &[word]);
        }
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
    fs::write(&file, &good).unwrap();
    assert_eq!(ids(&json(&lab, &["list"])), ["a"]);
}
