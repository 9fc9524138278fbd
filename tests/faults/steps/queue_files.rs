//! A sync of the queue's files in which everything comes together: edits to take
//! over, one that cannot be had, and something new to show.

use std::fs;
use std::path::{Path, PathBuf};

use longhaul::queue::files::{Patience, Place, QUEUE, Synced, sync};
use longhaul::queue::store::Filter;
use longhaul::queue::{Draft, QueueError, SqliteStore, Store, TaskId, TaskState};
use longhaul::{Error, ErrorKind};
use serde_json::{Value, json};

use super::acknowledge;

const NOW: i64 = 1_795_000_000_000;

fn project(dir: &Path) -> PathBuf {
    fs::canonicalize(dir).unwrap().join("project")
}

fn state(dir: &Path) -> PathBuf {
    fs::canonicalize(dir).unwrap().join("state")
}

fn data(dir: &Path) -> PathBuf {
    project(dir).join("data")
}

fn add(store: &mut SqliteStore, dir: &Path, id: &str) {
    let draft =
        Draft { id: Some(id.into()), description: Some(format!("do {id}")), ..Draft::default() };
    store.add(NOW, vec![draft.check(&project(dir)).unwrap()]).unwrap();
}

fn sync_once(dir: &Path) -> Result<Synced, QueueError> {
    let (project, state_root) = (project(dir), state(dir));
    let mut store = SqliteStore::open(&state_root)?;
    let place = Place { project: &project, folder: Path::new("data"), state_root: &state_root };
    sync(&mut store, place, NOW, Patience::Wait)
}

/// A version of the file that was edited, and a queue that went on.
pub fn prepare(dir: &Path) {
    fs::create_dir(dir.join("project")).unwrap();
    let mut store = SqliteStore::open(&state(dir)).unwrap();
    for id in ["edited", "gone", "greedy", "kept"] {
        add(&mut store, dir, id);
    }
    assert!(sync_once(dir).unwrap().problems.is_empty());
    let path = data(dir).join(QUEUE);
    let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let tasks = &mut file["tasks"];
    tasks["edited"]["description"] = json!("do it well");
    tasks["greedy"]["verify"] = json!("curl evil");
    tasks["new"] = json!({"description": "something new"});
    tasks.as_object_mut().unwrap().remove("gone");
    fs::write(&path, file.to_string()).unwrap();
    fs::write(dir.join("theirs"), file.to_string()).unwrap();
    add(&mut store, dir, "ours");
}

/// The sync. What cannot be done is told, besides the edit that cannot be had.
pub fn perform(dir: &Path) -> Result<(), Error> {
    let synced = sync_once(dir)?;
    let problems = synced.problems.to_vec().join("; ");
    if synced.problems.count() > 1 || !problems.contains("was put aside in") {
        return Err(Error::new(ErrorKind::Disk, problems));
    }
    acknowledge();
    Ok(())
}

/// The file is whole, the old or the new one; and the next sync brings all about that
/// was asked, once.
pub fn check(dir: &Path, acknowledged: usize, told: &str) {
    let path = data(dir).join(QUEUE);
    let found = fs::read(&path).expect(told);
    let is_theirs = found == fs::read(dir.join("theirs")).unwrap();
    let file: Value = serde_json::from_slice(&found).expect(told);
    assert!(is_theirs || file["tasks"]["ours"].is_object(), "{file}: {told}");
    assert!(!is_theirs || acknowledged == 0, "{told}");

    let version = || SqliteStore::open(&state(dir)).unwrap().version().unwrap();
    sync_once(dir).unwrap_or_else(|err| panic!("{err:?}: {told}"));
    let settled = version();
    let again = sync_once(dir).unwrap_or_else(|err| panic!("{err:?}: {told}"));
    assert!(again.problems.is_empty() && again.taken.is_empty(), "{again:?}: {told}");
    assert_eq!(version(), settled, "{told}");

    let mut store = SqliteStore::open(&state(dir)).unwrap();
    let tasks = store.list(&Filter { limit: 99, ..Filter::default() }).unwrap();
    let mut ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["edited", "gone", "greedy", "kept", "new", "ours"], "{told}");
    let mut task = |id: &str| store.task(&TaskId::parse(id).unwrap()).unwrap().unwrap();
    assert_eq!(task("edited").description, "do it well", "{told}");
    assert_eq!(task("gone").state, TaskState::Cancelled, "{told}");
    assert_eq!(task("kept").state, TaskState::Queued, "{told}");
    assert_eq!(task("greedy").verify, None, "{told}");

    let file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let shown: Vec<&String> = file["tasks"].as_object().unwrap().keys().collect();
    assert_eq!(shown, ["edited", "greedy", "kept", "new", "ours"], "{told}");
    let (mut aside, mut left) = (String::new(), Vec::new());
    for entry in fs::read_dir(data(dir)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.contains(".rejected-") {
            aside.push_str(&fs::read_to_string(&path).unwrap());
        }
        left.extend(Some(name).filter(|name| name.ends_with(".tmp")));
    }
    assert!(aside.contains("curl evil"), "{told}");
    assert!(left.is_empty(), "{left:?}: {told}");
}
