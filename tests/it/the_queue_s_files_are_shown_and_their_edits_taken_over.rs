//! The files in `data/`: they show the queue, a person's edit is taken over by the next
//! command, a bad one is put aside and told, and an old queue can be imported.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::support::{Finished, Lab, finisher};

fn task(lab: &Lab, args: &[&str]) -> Finished {
    let said = lab.longhaul_output(&[&["task"], args].concat());
    assert_eq!(said.code(), 0, "{args:?}: {said:#?}");
    said
}

fn queue(lab: &Lab) -> PathBuf {
    lab.project().join("data/claude_task_queue.json")
}

fn read(path: &PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn shown(lab: &Lab) -> Vec<String> {
    read(&queue(lab))["tasks"].as_object().unwrap().keys().cloned().collect()
}

fn put_aside(lab: &Lab) -> Vec<Value> {
    let entries = fs::read_dir(lab.project().join("data")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_str().unwrap().contains(".rejected-")).map(|p| read(&p)).collect()
}

#[test]
fn a_person_edits_the_file_and_the_next_command_knows() {
    let lab = Lab::new(finisher());
    task(&lab, &["list"]);
    assert!(!lab.project().join("data").exists(), "no tasks, no files");
    task(&lab, &["add", "Do a", "--id=a", "--verify=true"]);
    task(&lab, &["add", "Do b", "--id=b"]);
    assert_eq!(shown(&lab), ["a", "b"]);
    let mut file = read(&queue(&lab));
    file["tasks"]["a"]["description"] = json!("Do a, well");
    file["tasks"]["b"]["verify"] = json!("touch pwned");
    file["tasks"]["c"] = json!({"description": "Do c", "batch_id": "batch_20251107_120000"});
    fs::write(queue(&lab), file.to_string()).unwrap();
    let said = task(&lab, &["show", "c", "--json"]);
    let c: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(c["description"], "Do c");
    assert!(said.stderr.contains("warning: ") && said.stderr.contains("verify cannot be set"));
    assert_eq!(put_aside(&lab)[0]["entries"][0]["task_id"], "b");
    let said = task(&lab, &["list", "--json"]);
    assert_eq!(said.stderr, "", "told once");
    assert!(said.stdout.contains("Do a, well") && !said.stdout.contains("pwned"));

    fs::write(queue(&lab), "{\"tasks\": {\"a\":").unwrap();
    let said = task(&lab, &["cancel", "a"]);
    assert!(said.stderr.contains("cannot be understood"), "{said:?}");
    assert_eq!(shown(&lab), ["b", "c"]);
    assert_eq!(put_aside(&lab).len(), 2);
    let results = read(&lab.project().join("data/claude_task_results.json"));
    assert_eq!(results["results"]["a"]["status"], "cancelled");
    let said = task(&lab, &["archive"]);
    assert!(said.stdout.contains("queue and results to read: "), "{said:?}");
}

#[test]
fn the_queue_can_begin_with_a_file_by_hand() {
    let lab = Lab::new(finisher());
    fs::create_dir(lab.project().join("data")).unwrap();
    let file =
        json!({"tasks": {"my_task_id": {"description": "Do something", "status": "queued"}}});
    fs::write(queue(&lab), file.to_string()).unwrap();
    let said = task(&lab, &["list", "--json"]);
    let list: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(list[0]["task_id"], "my_task_id");
    assert!(said.stderr.contains("taken over"), "{said:?}");
}

#[test]
fn an_old_queue_is_imported_as_a_whole_or_not_at_all() {
    let lab = Lab::new(finisher());
    let old = lab.root().join("old.json");
    let file = json!({"tasks": {"died": {"description": "x", "status": "in_progress"},
        "over": {"description": "x", "status": "done"}, "a b": {"description": "x"}}});
    fs::write(&old, file.to_string()).unwrap();
    let old = old.to_str().unwrap();
    let said = lab.longhaul_output(&["task", "import", old]);
    assert_eq!(said.code(), 64);
    assert!(said.stderr.contains("invalid_id") && said.stderr.contains("--rename"), "{said:?}");
    assert!(!queue(&lab).exists());
    task(&lab, &["import", old, "--rename", "--dry-run"]);
    assert!(!queue(&lab).exists());
    let said = task(&lab, &["import", old, "--rename", "--json"]);
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(said["imported"], json!(["a_b", "died"]));
    assert_eq!(said["finished_left_out"], json!({"done": 1}));
    assert_eq!(shown(&lab), ["a_b", "died"]);
}
