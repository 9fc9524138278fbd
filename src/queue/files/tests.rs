//! What the files show, each kind of edit, each bad thing that can stand there.

use std::fs;
use std::io::{Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::fake::Fake;
use super::*;
use crate::queue::Draft;
use crate::queue::task::{Task, TaskState};

/// 2027-01-15 08:00 UTC.
pub(super) const NOW: i64 = 1_800_000_000_000;

pub(super) struct Lab {
    _keep: tempfile::TempDir,
    pub(super) project: PathBuf,
    pub(super) state: PathBuf,
    pub(super) store: Fake,
    pub(super) now: i64,
}

impl Lab {
    pub(super) fn new() -> Self {
        let keep = tempfile::tempdir().unwrap();
        let base = keep.path().canonicalize().unwrap();
        let (project, state) = (base.join("project"), base.join("state"));
        fs::create_dir(&project).unwrap();
        fs::create_dir(&state).unwrap();
        Self { _keep: keep, project, state, store: Fake::default(), now: NOW }
    }

    pub(super) fn add(&mut self, id: &str, description: &str) -> Task {
        let draft = Draft {
            id: Some(id.into()),
            description: Some(description.into()),
            ..Draft::default()
        };
        let task = draft.check(&self.project).unwrap();
        self.store.add(self.now, vec![task]).unwrap().remove(0)
    }

    pub(super) fn try_sync(&mut self, patience: Patience) -> Result<Synced> {
        self.now += 1_000;
        let place =
            Place { project: &self.project, folder: Path::new("data"), state_root: &self.state };
        sync(&mut self.store, place, self.now, patience)
    }

    pub(super) fn sync(&mut self) -> Synced {
        self.try_sync(Patience::Wait).unwrap()
    }

    /// A sync that finds nothing wrong.
    pub(super) fn sync_well(&mut self) -> Synced {
        let synced = self.sync();
        assert_eq!(synced.problems, Lines::default());
        assert!(!synced.is_unsettled);
        synced
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.project.join("data").join(name)
    }

    pub(super) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// Changes the queue file as a script would: read, change, write.
    fn script(&self, change: impl FnOnce(&mut Value)) {
        let mut file = self.json(QUEUE);
        change(&mut file);
        self.write(&file);
    }

    fn write(&self, file: &Value) {
        fs::write(self.path(QUEUE), serde_json::to_vec(file).unwrap()).unwrap();
    }

    pub(super) fn ids(&self) -> Vec<String> {
        // serde_json sorts; the text has the order.
        let text = fs::read_to_string(self.path(QUEUE)).unwrap();
        let entries = shape::Theirs::parse(text.as_bytes()).unwrap().entries;
        entries.into_iter().map(|(id, _)| id).collect()
    }

    /// What was put aside, by what was told of it.
    fn aside(&self, synced: &Synced) -> PathBuf {
        let told = synced.problems.to_vec().join(" ");
        let all = fs::read_dir(self.path("")).unwrap().map(|entry| entry.unwrap());
        let mut found = all.filter(|entry| {
            let name = entry.file_name().into_string().unwrap();
            name.contains(".rejected-") && told.contains(&format!("data/{name}"))
        });
        let aside = found.next().unwrap_or_else(|| panic!("nothing was put aside: {told}"));
        assert!(found.next().is_none(), "{told}");
        aside.path()
    }

    fn rejected(&self, synced: &Synced) -> Value {
        serde_json::from_slice(&fs::read(self.aside(synced)).unwrap()).unwrap()
    }

    /// Writes something that is to be put aside; gives the reasons of its one entry.
    fn refused(&mut self, change: impl FnOnce(&mut Value)) -> Vec<(String, String)> {
        self.script(change);
        let synced = self.sync();
        let aside = self.rejected(&synced);
        let entries = aside["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 1, "{aside}");
        let text = |reason: &Value, key: &str| reason[key].as_str().unwrap().to_owned();
        let reasons = entries[0]["reasons"].as_array().unwrap();
        let reasons: Vec<_> =
            reasons.iter().map(|r| (text(r, "code"), text(r, "message"))).collect();
        for (_, message) in &reasons {
            assert!(synced.problems.to_vec()[0].contains(message.as_str()), "{synced:?}");
        }
        assert!(self.sync().problems.is_empty(), "told once");
        reasons
    }
}

#[test]
fn the_files_of_another_queue_are_left_to_it() {
    let mut lab = Lab::new();
    lab.add("theirs", "of the other");
    lab.sync_well();
    let before = fs::read(lab.path(QUEUE)).unwrap();
    // Another state directory, on another machine perhaps.
    let state = lab.state.with_file_name("other");
    fs::create_dir(&state).unwrap();
    let first = std::mem::replace(&mut lab.state, state);
    let id = uuid::Uuid::from_u128(7);
    let theirs = std::mem::take(&mut lab.store);
    lab.store.id = id;
    lab.add("ours", "of this one");
    for _ in 0..2 {
        let synced = lab.sync();
        assert!(synced.is_foreign, "{synced:?}");
        let told = synced.problems.to_vec();
        assert!(told[0].contains("task import data/claude_task_queue.json"), "{told:?}");
    }
    assert_eq!(lab.store.accepted, ["ours"]);
    assert_eq!(fs::read(lab.path(QUEUE)).unwrap(), before);
    assert!(lab.path(RESULTS).exists());
    // What a person is told to do helps.
    let plan = import::read(&before, &lab.project, false).unwrap();
    assert_eq!((plan.tasks.len(), plan.bad.len()), (1, 0));
    lab.store.add(lab.now, plan.tasks).unwrap();
    fs::remove_file(lab.path(QUEUE)).unwrap();
    lab.sync_well();
    assert_eq!(lab.ids(), ["ours", "theirs"]);
    // And the first does not take it for its own.
    (lab.state, lab.store) = (first, theirs);
    assert!(lab.sync().is_foreign);
    assert_eq!(lab.store.accepted, ["theirs"]);
}

#[test]
fn a_queue_that_was_lost_leaves_its_files_for_an_import() {
    let mut lab = Lab::new();
    for id in ["a", "b"] {
        lab.add(id, "work");
    }
    lab.store.finish("b", TaskState::Done, NOW);
    lab.sync_well();
    let before = [fs::read(lab.path(QUEUE)).unwrap(), fs::read(lab.path(RESULTS)).unwrap()];
    // In the same state directory, and in the same second.
    lab.store = Fake::default();
    lab.store.id = uuid::Uuid::from_u128(7);
    for add in [false, true] {
        if add {
            lab.add("c", "work");
        }
        assert!(lab.sync().problems.to_vec()[0].contains("is of another queue"));
        let after = [fs::read(lab.path(QUEUE)).unwrap(), fs::read(lab.path(RESULTS)).unwrap()];
        assert_eq!(after, before);
    }
    fs::remove_file(lab.path(QUEUE)).unwrap();
    lab.sync();
    assert_eq!(lab.ids(), ["c"]);
}

#[test]
fn what_is_missing_from_the_file_cancels_nothing_elsewhere() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    lab.store.tasks[0].project = lab.project.with_file_name("elsewhere");
    lab.write(&json!({"tasks": {}}));
    lab.sync();
    assert_eq!(lab.store.get("a").state, TaskState::Queued);
}

#[test]
fn a_project_that_became_a_link_is_left_alone() {
    let mut lab = Lab::new();
    lab.add("t1", "x");
    lab.sync_well();
    let moved = lab.project.with_file_name("moved");
    fs::rename(&lab.project, &moved).unwrap();
    symlink(&moved, &lab.project).unwrap();
    fs::write(lab.path(QUEUE), r#"{"tasks": {}}"#).unwrap();
    let synced = lab.sync();
    assert!(synced.problems.to_vec()[0].contains("is a link"), "{synced:?}");
    assert!(lab.store.cancels.is_empty(), "what another project's file lacks");
}

#[test]
fn a_project_without_tasks_gets_no_files() {
    let mut lab = Lab::new();
    assert_eq!(lab.sync_well(), Synced::default());
    assert_eq!(fs::read_dir(&lab.project).unwrap().count(), 0);
    fs::create_dir(lab.path("")).unwrap();
    fs::write(lab.path(RESULTS), "mine").unwrap();
    assert_eq!(lab.sync_well(), Synced::default());
    assert_eq!(fs::read_dir(lab.path("")).unwrap().count(), 1);
}

#[test]
fn the_files_show_the_queue_in_the_order_it_is_run() {
    let mut lab = Lab::new();
    for id in ["a", "b", "c", "d"] {
        lab.add(id, &format!("do {id}"));
    }
    lab.store.tasks[2].priority = crate::queue::Priority::High;
    lab.store.tasks[3].verify = Some("make test".into());
    lab.store.start("b");
    lab.store.finish("a", TaskState::Done, NOW);
    lab.sync_well();
    assert_eq!(lab.ids(), ["b", "c", "d"]);
    let file = lab.json(QUEUE);
    assert_eq!(
        file["tasks"]["d"],
        json!({
            "description": "do d", "context": null, "priority": "normal", "batch_id": null,
            "status": "queued", "created_at": "2027-01-15T08:00:00.000Z", "attempt": 1,
            "verify": "make test",
        })
    );
    assert_eq!(file["tasks"]["b"]["status"], "in_progress");
    assert!(
        fs::read_to_string(lab.path(QUEUE)).unwrap().starts_with("{\n  \"tasks\": {\n    \"b\"")
    );
    let results = lab.json(RESULTS);
    assert_eq!(results["results"]["a"]["status"], "done");
    assert!(!lab.path(ARCHIVE).exists());
    let ignored = fs::read_to_string(lab.path(".gitignore")).unwrap();
    assert!(ignored.contains(QUEUE) && ignored.contains("/.gitignore"));
    assert_eq!(fs::metadata(lab.path(QUEUE)).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn a_folder_that_was_there_gets_no_gitignore() {
    let mut lab = Lab::new();
    fs::create_dir(lab.path("")).unwrap();
    lab.add("a", "do a");
    lab.sync_well();
    assert!(!lab.path(".gitignore").exists());
}

#[test]
fn nothing_is_written_nor_asked_if_nothing_happened() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    // A file just written is looked at until its clock has moved on.
    while lab.sync_well() == Synced::default() && lab.store.lists > 0 {
        lab.store.lists = 0;
        std::thread::yield_now();
        lab.sync_well();
    }
    let before = fs::metadata(lab.path(QUEUE)).unwrap();
    assert_eq!(lab.sync_well(), Synced::default());
    let after = fs::metadata(lab.path(QUEUE)).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
    assert_eq!(lab.store.lists, 0);
}

#[test]
fn edits_of_a_script_are_taken_over_once() {
    let mut lab = Lab::new();
    for id in ["a", "b", "c", "d"] {
        lab.add(id, &format!("do {id}"));
    }
    lab.sync_well();
    lab.script(|file| {
        let tasks = &mut file["tasks"];
        tasks["a"]["description"] = json!("do a well");
        tasks["a"]["context"] = json!({"files": ["x.rs"]});
        tasks["a"]["priority"] = json!("HIGH");
        tasks["a"]["batch_id"] = json!("batch_1");
        tasks["b"]["status"] = json!("cancelled");
        tasks.as_object_mut().unwrap().remove("c");
        tasks["new"] = json!({"description": "something new", "status": "queued"});
        tasks["newer"] = json!({"description": "more", "priority": 5.0, "created_at": "today"});
    });
    let synced = lab.sync_well();
    assert_eq!(synced.taken.count(), 5, "{synced:?}");
    let a = lab.store.get("a");
    assert_eq!(a.description, "do a well");
    assert_eq!(a.context.as_deref(), Some("{\n  \"files\": [\n    \"x.rs\"\n  ]\n}"));
    assert_eq!(a.priority.to_string(), "high");
    assert_eq!(a.batch_id.as_ref().unwrap().as_str(), "batch_1");
    assert_eq!(lab.store.get("b").state, TaskState::Cancelled);
    assert_eq!(lab.store.get("c").state, TaskState::Cancelled);
    assert_eq!(lab.store.get("d").state, TaskState::Queued);
    assert_eq!(lab.ids(), ["a", "newer", "d", "new"]);
    assert_eq!(lab.json(RESULTS)["results"]["b"]["status"], "cancelled");
    assert_eq!(lab.sync_well().taken.count(), 0);
    lab.script(|file| {
        let a = file["tasks"]["a"].as_object_mut().unwrap();
        a.remove("context");
        a["batch_id"] = json!(null);
        a.remove("priority");
    });
    assert_eq!(lab.sync_well().taken.to_vec(), ["task a changed"]);
    let a = lab.store.get("a");
    assert_eq!((&a.context, &a.batch_id, a.priority.rank()), (&None, &None, 0));
}

#[test]
fn a_seed_style_file_written_by_hand_is_taken() {
    let mut lab = Lab::new();
    fs::create_dir(lab.path("")).unwrap();
    lab.write(&json!({"tasks": {"my_task_id": {"description": "Do something",
        "context": "", "priority": "medium", "batch_id": "batch_20251107_120000",
        "status": "queued", "created_at": "2025-11-07T12:00:00Z"}}}));
    assert_eq!(lab.sync_well().taken.to_vec(), ["task my_task_id added"]);
    assert_eq!(lab.ids(), ["my_task_id"]);
    // Written anew without the number: what is gone from it is cancelled.
    lab.write(&json!({"tasks": {"other": {"description": "x"}}}));
    assert_eq!(lab.sync_well().taken.count(), 2);
    assert_eq!(lab.store.get("my_task_id").state, TaskState::Cancelled);
}

#[test]
fn a_stale_script_takes_nothing_away_and_runs_nothing_twice() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.add("b", "do b");
    lab.sync_well();
    let mut old = lab.json(QUEUE);
    lab.store.finish("a", TaskState::Done, NOW);
    lab.add("c", "do c");
    lab.sync_well();
    old["tasks"]["d"] = json!({"description": "do d"});
    lab.write(&old);
    let synced = lab.sync_well();
    assert_eq!(synced.taken.to_vec(), ["task d added"]);
    assert!(synced.notes.to_vec()[0].contains("task a is over (done)"), "{synced:?}");
    assert_eq!(lab.ids(), ["b", "c", "d"]);
    // The same without the number.
    lab.write(&json!({"tasks": {"a": {"description": "do a", "status": "queued"},
        "b": old["tasks"]["b"], "c": {"description": "do c"}, "d": {"description": "do d"}}}));
    let synced = lab.sync_well();
    assert_eq!((synced.taken.count(), synced.notes.count()), (0, 1));
    assert_eq!(lab.store.accepted, ["a", "b", "c", "d"]);
    assert!(lab.store.edits.is_empty());
}

#[test]
fn what_cannot_be_had_is_put_aside_and_the_rest_taken() {
    let mut lab = Lab::new();
    for id in ["a", "b", "c", "over"] {
        lab.add(id, &format!("do {id}"));
    }
    lab.store.start("b");
    lab.store.finish("over", TaskState::Error, NOW);
    lab.sync_well();
    let reason = |lab: &mut Lab, id: &str, field: &str, value: Value| {
        let reasons = lab.refused(|file| file["tasks"][id][field] = value);
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        reasons.into_iter().next().unwrap()
    };
    for field in ["verify", "model", "after", "budget_usd", "project", "attempt", "created_at"] {
        let (code, message) = reason(&mut lab, "a", field, json!("touch /tmp/x"));
        assert_eq!(code, "invalid_parameter");
        assert!(message.starts_with(&format!("{field} cannot be set in this file")), "{message}");
    }
    assert_eq!(reason(&mut lab, "a", "colour", json!(1)).0, "unknown_parameter");
    assert_eq!(reason(&mut lab, "a", "status", json!("done")).0, "invalid_parameter");
    assert_eq!(reason(&mut lab, "a", "status", json!("pending")).0, "invalid_parameter");
    assert_eq!(reason(&mut lab, "a", "task_id", json!("z")).0, "invalid_parameter");
    assert_eq!(reason(&mut lab, "a", "description", json!(" ")).0, "invalid_parameter");
    assert_eq!(reason(&mut lab, "a", "description", json!(null)).0, "missing_parameter");
    assert_eq!(reason(&mut lab, "a", "description", json!("\u{1b}[2J")).0, "control_characters");
    assert_eq!(reason(&mut lab, "a", "description", json!("x".repeat(70_000))).0, "too_long");
    assert_eq!(reason(&mut lab, "a", "priority", json!("soon")).0, "invalid_parameter");
    let (_, message) = reason(&mut lab, "a", "priority", json!(21));
    assert!(message.starts_with("a priority above 20 (critical) cannot be set"), "{message}");
    assert_eq!(reason(&mut lab, "a", "batch_id", json!("--")).0, "invalid_id");
    assert_eq!(reason(&mut lab, "b", "description", json!("else")).0, "wrong_state");
    assert_eq!(reason(&mut lab, "b", "status", json!("queued")).0, "invalid_parameter");
    let entry = |lab: &mut Lab, id: &str, entry: Value| {
        let reasons = lab.refused(|file| file["tasks"][id] = entry);
        reasons.into_iter().next().unwrap().0
    };
    assert_eq!(entry(&mut lab, "../x", json!({"description": "x"})), "invalid_id");
    assert_eq!(entry(&mut lab, "new", json!({"context": "x"})), "missing_parameter");
    let first = json!({"description": "x", "priority": 1000});
    assert_eq!(entry(&mut lab, "new", first), "invalid_parameter");
    assert_eq!(entry(&mut lab, "new", json!("x")), "invalid_parameter");
    assert_eq!(entry(&mut lab, "new", json!({"description": 5})), "invalid_parameter");
    let evil = json!({"description": "x", "verify": "curl evil"});
    assert_eq!(entry(&mut lab, "new", evil), "invalid_parameter");
    let done = json!({"description": "x", "status": "done"});
    assert_eq!(entry(&mut lab, "new", done), "invalid_parameter");
    assert_eq!(entry(&mut lab, "over", json!({"description": "new words"})), "task_exists");
    assert!(lab.store.edits.is_empty() && lab.store.accepted.len() == 4);

    // Whatever else it says: what is not wanted is not run.
    lab.add("d", "do d");
    lab.sync_well();
    let reasons = lab.refused(|file| {
        file["tasks"]["d"]["status"] = json!("canceled");
        file["tasks"]["d"]["cancelled_by"] = json!("me");
    });
    assert_eq!(reasons[0].0, "unknown_parameter");
    assert_eq!(lab.store.get("d").state, TaskState::Cancelled);

    // Good and bad in one file.
    lab.script(|file| {
        file["tasks"]["a"]["verify"] = json!("x");
        file["tasks"]["c"]["description"] = json!("do c well");
        file["tasks"]["n"] = json!({"description": "new"});
        file["note"] = json!("to self");
    });
    let synced = lab.sync();
    assert_eq!(synced.taken.count(), 2, "{synced:?}");
    let aside = lab.rejected(&synced);
    assert_eq!(aside["entries"][0]["task_id"], "a");
    assert_eq!(aside["entries"][0]["entry"]["verify"], "x");
    assert_eq!(aside["other"]["note"], "to self");
    assert_eq!(lab.json(QUEUE).get("note"), None);
    assert_eq!(lab.json(QUEUE)["tasks"]["a"].get("verify"), None);
}

#[test]
fn what_is_put_aside_takes_no_more_room_than_it_did() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    let deep = (0..100).fold(json!(vec![0; 20_000]), |inner, _| json!([inner]));
    lab.write(&json!({"tasks": {"b": {"description": "do b", "context": deep}}, "x": deep}));
    let written = fs::metadata(lab.path(QUEUE)).unwrap().len();
    let synced = lab.sync();
    let aside = lab.rejected(&synced);
    assert_eq!(aside["entries"][0]["reasons"][0]["code"], "too_long");
    assert_eq!((&aside["entries"][0]["entry"]["context"], &aside["other"]["x"]), (&deep, &deep));
    let size = fs::metadata(lab.aside(&synced)).unwrap().len();
    assert!(size < written + 1_000, "{size} bytes of {written}");
}

#[test]
fn a_priority_that_was_given_by_command_stays_where_it_is() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.store.tasks[0].priority = crate::queue::Priority::Number(500);
    lab.sync_well();
    lab.script(|file| file["tasks"]["a"]["description"] = json!("other words"));
    assert_eq!(lab.sync_well().taken.to_vec(), ["task a changed"]);
    assert_eq!(lab.store.get("a").priority.rank(), 500);
}

#[test]
fn a_malformed_file_is_put_aside_as_a_whole() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    for bad in [
        &b"{\"tasks\": {\"a\": {\"descr"[..],
        b"",
        b"[]",
        b"{}",
        b"nonsense",
        b"{\"tasks\": [{\"id\": \"x\"}]}",
        b"{\"tasks\": {}, \"tasks\": {}}",
        b"{\"tasks\": {}} {}",
        b"\xff\xfe",
    ] {
        fs::write(lab.path(QUEUE), bad).unwrap();
        let synced = lab.sync();
        let aside = lab.rejected(&synced);
        match std::str::from_utf8(bad) {
            Ok(text) => assert_eq!(aside["text"], text),
            Err(_) => assert_eq!(aside["hex"], "fffe"),
        }
        assert_eq!(aside["reasons"][0]["code"], "malformed_json");
        assert!(synced.problems.to_vec()[0].contains("cannot be understood"), "{synced:?}");
        assert_eq!(lab.ids(), ["a"], "rewritten");
    }
    assert_eq!(lab.store.get("a").state, TaskState::Queued);
    assert_eq!(lab.store.accepted, ["a"]);
    // An id that stands there twice is ambiguous.
    fs::write(
        lab.path(QUEUE),
        r#"{"tasks": {"x": {"description": "1"}, "x": {"description": "2"},
        "a": {"description": "do a"}}}"#,
    )
    .unwrap();
    let synced = lab.sync();
    assert_eq!(lab.rejected(&synced)["entries"].as_array().unwrap().len(), 2);
    assert_eq!(lab.store.accepted, ["a"]);
}

#[test]
fn a_half_written_file_is_not_judged() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    let whole = json!({"tasks": {"a": {"description": "do a"}, "b": {"description": "do b"}}});
    let whole = whole.to_string();
    fs::write(lab.path(QUEUE), &whole[..30]).unwrap();
    let synced = lab.try_sync(Patience::Later).unwrap();
    assert!(synced.is_unsettled && synced.problems.is_empty(), "{synced:?}");
    assert_eq!(fs::read_to_string(lab.path(QUEUE)).unwrap(), whole[..30], "left alone");
    fs::write(lab.path(QUEUE), &whole).unwrap();
    let synced = lab.try_sync(Patience::Later).unwrap();
    assert_eq!(synced.taken.to_vec(), ["task b added"]);
    // One that stays as it is gets judged in the end.
    fs::write(lab.path(QUEUE), "{").unwrap();
    let began = Timestamp::now();
    let synced = loop {
        let synced = lab.try_sync(Patience::Later).unwrap();
        if !synced.is_unsettled {
            break synced;
        }
        std::thread::yield_now();
    };
    assert!(Timestamp::now().ms_since(began) >= 300);
    assert_eq!(lab.rejected(&synced)["text"], "{");
}

#[test]
fn a_file_that_is_gone_cancels_nothing() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    fs::remove_file(lab.path(QUEUE)).unwrap();
    lab.sync_well();
    assert_eq!(lab.ids(), ["a"]);
    fs::remove_dir_all(lab.path("")).unwrap();
    lab.sync_well();
    assert_eq!(lab.ids(), ["a"]);
    assert_eq!(lab.store.get("a").state, TaskState::Queued);
}

#[test]
fn what_stands_in_the_way_is_named_and_left_there() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    let outside = lab.state.with_file_name("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "precious").unwrap();
    symlink(&outside, lab.project.join("data")).unwrap();
    let problem = |lab: &mut Lab| {
        let synced = lab.sync();
        assert_eq!(synced.taken.count() + synced.notes.count(), 0);
        synced.problems.to_vec().join("\n")
    };
    assert!(problem(&mut lab).contains("data: it is reached through a symbolic link"));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    fs::remove_file(lab.project.join("data")).unwrap();
    fs::write(lab.project.join("data"), "x").unwrap();
    assert!(problem(&mut lab).contains("not a folder"));
    fs::remove_file(lab.project.join("data")).unwrap();
    lab.sync_well();

    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    for name in [QUEUE, RESULTS] {
        let path = lab.path(name);
        fs::remove_file(&path).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
        assert!(problem(&mut lab).contains("it is a FIFO"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(problem(&mut lab).contains("it is a directory"));
        fs::remove_dir(&path).unwrap();
        symlink(outside.join("precious"), &path).unwrap();
        assert!(problem(&mut lab).contains("symbolic link"));
        assert!(path.is_symlink());
        fs::remove_file(&path).unwrap();
        lab.sync_well();
    }
    assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "precious");

    let huge = fs::OpenOptions::new().write(true).open(lab.path(QUEUE)).unwrap();
    huge.set_len(1 << 30).unwrap();
    assert!(problem(&mut lab).contains("has 1073741824 bytes"));
    assert_eq!(fs::metadata(lab.path(QUEUE)).unwrap().len(), 1 << 30, "left as it is");
    fs::remove_file(lab.path(QUEUE)).unwrap();
    lab.sync_well();
    assert_eq!(lab.ids(), ["a"]);
    // A huge results file is none of ours and is moved, not read.
    let huge = fs::OpenOptions::new().write(true).open(lab.path(RESULTS)).unwrap();
    huge.set_len(1 << 30).unwrap();
    let synced = lab.sync();
    let aside = lab.aside(&synced);
    assert_eq!(fs::metadata(aside).unwrap().len(), 1 << 30);
    assert_eq!(lab.json(RESULTS), json!({"results": {}}));
}

#[test]
fn results_that_somebody_else_wrote_are_moved_out_of_the_way() {
    let mut lab = Lab::new();
    fs::create_dir(lab.path("")).unwrap();
    let seed = r#"{"results": {"old": {"status": "done"}}}"#;
    fs::write(lab.path(RESULTS), seed).unwrap();
    lab.add("a", "do a");
    lab.sync_well();
    assert_eq!(fs::read_to_string(lab.path(RESULTS)).unwrap(), seed, "in nobody's way yet");
    lab.store.finish("a", TaskState::Done, NOW);
    let synced = lab.sync();
    assert!(synced.problems.to_vec()[0].contains("written by longhaul alone"), "{synced:?}");
    let aside = lab.aside(&synced);
    assert!(aside.to_str().unwrap().contains("claude_task_results.rejected-20270115T"));
    assert_eq!(fs::read_to_string(aside).unwrap(), seed);
    assert_eq!(lab.json(RESULTS)["results"]["a"]["status"], "done");
    lab.store.add(NOW, vec![]).unwrap();
    lab.sync_well();
}

#[test]
fn only_so_many_are_shown_and_the_omitted_are_not_removed() {
    let mut lab = Lab::new();
    for n in 0..620 {
        lab.add(&format!("t{n}"), "work");
    }
    lab.sync_well();
    assert_eq!(lab.json(QUEUE)["omitted"], 420);
    assert_eq!(lab.ids().len(), 200);
    lab.script(|file| file["tasks"]["t7"]["description"] = json!("other work"));
    assert_eq!(lab.sync_well().taken.to_vec(), ["task t7 changed"]);
    assert!(lab.store.tasks.iter().all(|task| task.state == TaskState::Queued));
    for n in 0..610 {
        lab.store.finish(&format!("t{n}"), TaskState::Done, NOW + n);
    }
    lab.sync_well();
    assert_eq!(lab.ids().len(), 10);
    assert_eq!(lab.json(RESULTS)["omitted"], 110);
    assert_eq!(lab.json(RESULTS)["results"].as_object().unwrap().len(), 500);
    let text = fs::read_to_string(lab.path(RESULTS)).unwrap();
    assert!(text.rfind("\"t609\"") > text.rfind("\"t608\""), "the newest last");
    lab.store.archive(&lab.project, NOW + 605, 10).unwrap();
    lab.sync_well();
    assert_eq!(lab.json(RESULTS)["results"].as_object().unwrap().len(), 10);
    let archive = lab.json(ARCHIVE);
    assert_eq!(archive["tasks"]["t599"]["status"], "done");
    assert_eq!(archive["results"].as_object().unwrap().len(), 600);
    assert_eq!(archive.get("omitted"), None);
}

#[test]
fn a_version_that_did_not_get_there_is_remembered_once() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    let old = fs::read(lab.path(QUEUE)).unwrap();
    let inner = |path: PathBuf| fs::read_dir(path).unwrap().next().unwrap().unwrap().path();
    let memory = inner(inner(lab.state.join("queue-files")));
    let seen = fs::read(memory.join("seen.json")).unwrap();
    lab.add("b", "do b");
    for _ in 0..3 {
        fs::write(lab.path(QUEUE), &old).unwrap();
        fs::write(memory.join("seen.json"), &seen).unwrap();
        lab.sync_well();
        assert_eq!(lab.ids(), ["a", "b"]);
    }
    let names = fs::read_dir(&memory).unwrap().map(|entry| entry.unwrap().file_name());
    let bases = names.filter(|name| name.to_str().unwrap().starts_with("base-")).count();
    assert_eq!(bases, 2);
}

#[test]
fn what_was_changed_on_both_sides_stays_as_the_queue_has_it() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    let change =
        crate::queue::store::Change { description: Some("our words".into()), ..Default::default() };
    let id = crate::queue::TaskId::parse("a").unwrap();
    lab.store.edit(lab.now, &id, &change).unwrap();
    let reasons = lab.refused(|file| file["tasks"]["a"]["description"] = json!("their words"));
    assert_eq!(reasons[0].0, "wrong_state");
    assert_eq!(lab.store.get("a").description, "our words");
}

#[test]
fn a_cancellation_is_of_the_attempt_that_was_shown() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.add("b", "do b");
    lab.sync_well();
    let id = |id: &str| crate::queue::TaskId::parse(id).unwrap();
    for task in ["a", "b"] {
        lab.store.cancel(lab.now, &id(task)).unwrap();
        lab.store.retry(lab.now, &id(task)).unwrap();
    }
    lab.script(|file| {
        file["tasks"]["a"]["status"] = json!("cancelled");
        file["tasks"].as_object_mut().unwrap().remove("b");
    });
    let synced = lab.sync_well();
    assert_eq!((synced.taken.count(), synced.notes.count()), (0, 2), "{synced:?}");
    assert_eq!(lab.ids(), ["a", "b"]);
}

#[test]
fn a_version_nobody_remembers_takes_nothing_away() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    lab.write(&json!({"tasks": {"b": {"description": "do b"}}, "revision": 7}));
    assert_eq!(lab.sync_well().taken.to_vec(), ["task b added"]);
    assert_eq!(lab.ids(), ["a", "b"]);
}

#[test]
fn without_its_number_a_file_takes_away_what_surely_stood_there() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    let inner = |path: PathBuf| fs::read_dir(path).unwrap().next().unwrap().unwrap().path();
    let memory = inner(inner(lab.state.join("queue-files")));
    let (old, seen) = (lab.json(QUEUE), fs::read(memory.join("seen.json")).unwrap());
    lab.add("b", "do b");
    lab.sync_well();
    // As if longhaul had died before the second version stood there.
    fs::write(memory.join("seen.json"), seen).unwrap();
    lab.write(&json!({"tasks": {"a": old["tasks"]["a"]}}));
    assert_eq!(lab.sync_well().taken.count(), 0);
    assert_eq!(lab.ids(), ["a", "b"]);
}

#[test]
fn what_a_death_left_beside_the_file_is_taken_and_removed() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    let mut theirs = lab.json(QUEUE);
    theirs["tasks"]["b"] = json!({"description": "do b"});
    let beside = lab.path(&format!(".{QUEUE}.{:032x}.tmp", 10));
    fs::write(&beside, theirs.to_string()).unwrap();
    let half = lab.path(&format!(".{RESULTS}.{:032x}.tmp", 11));
    fs::write(&half, "{").unwrap();
    lab.add("c", "do c");
    assert_eq!(lab.sync_well().taken.to_vec(), ["task b added"]);
    assert!(!beside.exists() && !half.exists());
}

#[test]
fn the_temporary_files_of_others_are_theirs() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    let names = ["ab12", "0123456789ABCDEF0123456789abcdef", "x", ""];
    let paths = names.map(|name| lab.path(&format!(".{QUEUE}.{name}.tmp")));
    for path in &paths {
        fs::write(path, r#"{"tasks": {"#).unwrap();
    }
    lab.add("b", "do b");
    lab.sync_well();
    assert!(paths.iter().all(|path| path.exists()));
}

/// Opens the queue file as an editor does that writes in the same place.
fn open_in_place(lab: &Lab) -> (fs::File, Value) {
    let file = fs::File::options().read(true).write(true).open(lab.path(QUEUE)).unwrap();
    (file, lab.json(QUEUE))
}

fn temporary_files(lab: &Lab) -> usize {
    let names = fs::read_dir(lab.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().ends_with(".tmp")).count()
}

#[test]
fn who_has_an_old_version_open_is_waited_for() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    let (mut file, mut text) = open_in_place(&lab);
    lab.add("b", "do b");
    lab.sync_well();
    lab.add("c", "do c");
    assert_eq!(lab.sync_well().taken.count(), 0);
    assert_eq!((lab.ids().len(), temporary_files(&lab)), (3, 1));
    text["tasks"]["mine"] = json!({"description": "my edit"});
    // Written from scratch, it takes away what stood in that version alone.
    text.as_object_mut().unwrap().remove("revision");
    file.set_len(0).unwrap();
    file.write_all(b"{").unwrap();
    assert_eq!(lab.sync_well().taken.count(), 0, "half of it");
    file.write_all(&text.to_string().as_bytes()[1..]).unwrap();
    assert_eq!(lab.sync_well().taken.to_vec(), ["task mine added"]);
    assert_eq!(temporary_files(&lab), 1, "he may go on");
    text["tasks"].as_object_mut().unwrap().remove("a");
    file.set_len(0).unwrap();
    file.rewind().unwrap();
    file.write_all(text.to_string().as_bytes()).unwrap();
    drop(file);
    assert_eq!(lab.sync_well().taken.to_vec(), ["task a cancelled"]);
    assert_eq!(
        (lab.ids(), temporary_files(&lab)),
        (vec!["b".into(), "c".into(), "mine".into()], 0)
    );
}

#[test]
fn who_closes_an_old_version_without_a_word_leaves_nothing_behind() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    lab.script(|file| file["tasks"]["a"]["description"] = json!("their words"));
    let (file, _) = open_in_place(&lab);
    lab.sync_well();
    lab.store.finish("a", TaskState::Done, NOW);
    assert_eq!(lab.sync_well().notes.count(), 0);
    assert_eq!(temporary_files(&lab), 1);
    drop(file);
    let synced = lab.sync_well();
    assert_eq!((synced.taken.count() + synced.notes.count(), temporary_files(&lab)), (0, 0));
}

#[test]
fn nonsense_in_an_old_version_is_put_aside() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    let (mut file, _) = open_in_place(&lab);
    lab.add("b", "do b");
    lab.sync_well();
    file.write_all(b"nonsense").unwrap();
    drop(file);
    let synced = lab.sync();
    assert!(lab.rejected(&synced)["text"].as_str().unwrap().starts_with("nonsense"));
    assert_eq!((lab.ids().len(), temporary_files(&lab)), (2, 0));
}

#[test]
fn what_is_being_written_is_not_judged_by_how_long_it_takes() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    let mut text = lab.json(QUEUE);
    text["tasks"]["b"] = json!({"description": "do b"});
    // As a shell does for `(a slow command) > file`.
    let mut file = fs::File::create(lab.path(QUEUE)).unwrap();
    for patience in [Patience::Wait, Patience::Later, Patience::Wait] {
        let synced = lab.try_sync(patience).unwrap();
        assert!(synced.is_unsettled && synced.problems.is_empty(), "{synced:?}");
    }
    file.write_all(text.to_string().as_bytes()).unwrap();
    drop(file);
    assert_eq!(lab.sync_well().taken.to_vec(), ["task b added"]);
}

#[test]
fn each_folder_has_files_of_its_own() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    let other = lab.project.join("other");
    fs::create_dir(&other).unwrap();
    let file = json!({"tasks": {"b": {"description": "do b"}}});
    fs::write(other.join(QUEUE), file.to_string()).unwrap();
    let folder = Path::new("other");
    let place = Place { project: &lab.project, folder, state_root: &lab.state };
    let synced = sync(&mut lab.store, place, lab.now, Patience::Wait).unwrap();
    assert_eq!(synced.taken.to_vec(), ["task b added"], "nothing is cancelled");
}

#[test]
fn a_file_keeps_its_permissions() {
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    fs::set_permissions(lab.path(QUEUE), fs::Permissions::from_mode(0o600)).unwrap();
    lab.add("b", "do b");
    lab.sync_well();
    assert_eq!(lab.ids(), ["a", "b"]);
    assert_eq!(fs::metadata(lab.path(QUEUE)).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn the_lock_file_is_for_those_who_look_at_it() {
    let mut lab = Lab::new();
    let folder = Path::new("data");
    lockfile::write(&lab.project, folder, 17, NOW).unwrap();
    assert_eq!(lab.json(LOCK), json!({"pid": 17, "created_at": "2027-01-15T08:00:00.000Z"}));
    lockfile::remove(&lab.project, folder, 16).unwrap();
    assert!(lab.path(LOCK).exists(), "another's");
    lockfile::write(&lab.project, folder, 18, NOW).unwrap();
    lockfile::remove(&lab.project, folder, 18).unwrap();
    assert!(!lab.path(LOCK).exists());
    lockfile::remove(&lab.project, folder, 18).unwrap();
    // A stale one does not keep anybody from anything.
    fs::write(lab.path(LOCK), "stale").unwrap();
    lab.add("a", "do a");
    lab.sync_well();
    lockfile::write(&lab.project, folder, 19, NOW).unwrap();
    assert_eq!(lab.json(LOCK)["pid"], 19);
    fs::remove_file(lab.path(LOCK)).unwrap();
    fs::create_dir(lab.path(LOCK)).unwrap();
    assert!(lockfile::write(&lab.project, folder, 19, NOW).is_err());
}

#[test]
fn archiving_shows_what_it_saves() {
    let mut lab = Lab::new();
    for n in 0..30 {
        lab.add(&format!("t{n}"), "work");
        lab.store.finish(&format!("t{n}"), TaskState::Done, NOW - 8 * 86_400_000);
    }
    lab.add("open", "work");
    let cutoff = Cutoff { age_ms: 7 * 86_400_000, keep_recent: 10 };
    let folder = Some(Path::new("data"));
    let found = archive(&mut lab.store, &lab.project, folder, &lab.state, NOW, cutoff).unwrap();
    assert_eq!(found.moved, 20);
    let size = |name: &str| fs::read(lab.path(name)).unwrap();
    let after = [size(QUEUE), size(RESULTS)].concat();
    assert_eq!(found.after.bytes, after.len() as u64);
    assert_eq!(found.after.lines, after.iter().filter(|byte| **byte == b'\n').count() as u64);
    assert!(found.before.bytes > 2 * found.after.bytes, "{found:?}");
    assert!(found.before.estimated_tokens >= found.before.bytes / 4);
    assert_eq!(lab.json(RESULTS)["results"].as_object().unwrap().len(), 10);
    assert_eq!(lab.json(ARCHIVE)["results"].as_object().unwrap().len(), 20);
    let again = archive(&mut lab.store, &lab.project, None, &lab.state, NOW, cutoff).unwrap();
    assert_eq!(again, Reduction::default());
}
