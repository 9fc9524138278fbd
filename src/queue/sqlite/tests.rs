//! The store by itself: its file, its order, its races.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::SqliteStore;
use crate::queue::refusal::{Code, QueueError};
use crate::queue::store::{Change, Filter, ResultFilter, Spell, SpellEnd, Store};
use crate::queue::task::{
    BatchId, NewTask, Priority, Sharing, Task, TaskId, TaskState, TaskTokens,
};

fn id(text: &str) -> TaskId {
    TaskId::parse(text).unwrap()
}

/// `a<b,c` is a task `a` that waits for `b` and `c`; `a@b` one of the batch `b`.
fn task(text: &str) -> NewTask {
    let (name, after) = text.split_once('<').unwrap_or((text, ""));
    let (name, batch) = name.split_once('@').unwrap_or((name, ""));
    NewTask {
        id: Some(id(name)),
        description: format!("do {name}"),
        context: None,
        priority: Priority::Normal,
        batch_id: BatchId::parse(batch).ok(),
        project: PathBuf::from("/p"),
        verify: None,
        after: after.split(',').filter(|id| !id.is_empty()).map(id_of).collect(),
        model: None,
        budget_usd: None,
    }
}

fn id_of(text: &str) -> TaskId {
    id(text)
}

fn spell(task: &Task, end: SpellEnd) -> Spell {
    Spell {
        task_id: task.id.clone(),
        attempt: task.attempt,
        run_id: task.run_id.unwrap(),
        started_unix_ms: 1_000,
        ended_unix_ms: 2_000,
        elapsed_ms: 1_500,
        tokens: TaskTokens { input: 1, output: 2, cache_write: 3, cache_read: 4 },
        cost_usd: 0.25,
        unpriced_tokens: 0,
        sessions: 1,
        actions: vec!["Edit a".into()],
        output: "said".into(),
        errors: Vec::new(),
        warnings: Vec::new(),
        verify: None,
        sharing: Sharing::default(),
        end,
    }
}

struct Place {
    _keep: tempfile::TempDir,
    root: PathBuf,
}

fn place() -> Place {
    let keep = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(keep.path()).unwrap().join("state");
    Place { _keep: keep, root }
}

fn add(store: &mut SqliteStore, tasks: &[&str]) -> Vec<Task> {
    store.add(5, tasks.iter().map(|text| task(text)).collect()).unwrap()
}

fn states(store: &mut SqliteStore, ids: &[&str]) -> Vec<TaskState> {
    ids.iter().map(|text| store.task(&id(text)).unwrap().unwrap().state).collect()
}

fn code<T: std::fmt::Debug>(answer: Result<T, QueueError>) -> Code {
    match answer {
        Err(QueueError::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

fn error() -> SpellEnd {
    SpellEnd::Error { why: "it broke".into() }
}

#[test]
fn the_file_is_made_whole_and_for_the_owner_alone() {
    let Place { root, _keep } = place();
    assert!(SqliteStore::open_existing(&root).unwrap().is_none());
    assert!(!root.exists(), "looking makes nothing");
    let mut store = SqliteStore::open(&root).unwrap();
    add(&mut store, &["a"]);
    let mut names = Vec::new();
    for entry in fs::read_dir(&root).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["queue.db", "queue.db-shm", "queue.db-wal"]);
    assert_eq!(fs::metadata(&root).unwrap().mode() & 0o777, 0o700);
    drop(store);
    let mut again = SqliteStore::open_existing(&root).unwrap().unwrap();
    assert_eq!(states(&mut again, &["a"]), [TaskState::Queued]);
}

#[test]
fn what_ends_badly_blocks_what_waits_for_it_until_it_is_retried() {
    let Place { root, _keep } = place();
    let mut store = SqliteStore::open(&root).unwrap();
    add(&mut store, &["c<b", "b<a", "a", "d"]);
    let a = store.claim(7, Uuid::from_u128(1), &[], None).unwrap().unwrap();
    assert_eq!(a.id.as_str(), "a");
    let result = store.settle(9, &spell(&a, error())).unwrap().unwrap();
    assert_eq!((result.status, result.errors), (TaskState::Error, vec!["it broke".to_owned()]));
    use TaskState::{Blocked, Error, Queued};
    assert_eq!(states(&mut store, &["a", "b", "c", "d"]), [Error, Blocked, Blocked, Queued]);
    let c = store.result(&id("c")).unwrap().unwrap();
    assert_eq!(c.errors, ["the task waits for b, which is blocked because a ended in error"]);
    assert_eq!(code(store.retry(10, &id("b"))), Code::UnknownDependency);
    let a = store.retry(10, &id("a")).unwrap();
    assert_eq!((a.attempt, a.state), (2, Queued));
    assert_eq!(states(&mut store, &["a", "b", "c", "d"]), [Queued; 4]);
    assert_eq!(store.task(&id("c")).unwrap().unwrap().attempt, 2);
    // What comes later is blocked at once, too.
    store.cancel(11, &id("a")).unwrap();
    let late = add(&mut store, &["e<c"]);
    assert_eq!(late[0].state, Blocked);
    assert_eq!(
        store.result(&id("e")).unwrap().unwrap().errors,
        ["the task waits for c, which is blocked because a was cancelled"]
    );
    assert_eq!(store.results(&ResultFilter { limit: 9, ..Default::default() }).unwrap().len(), 7);
}

#[test]
fn the_order_within_a_batch_holds_against_after_and_priority() {
    let Place { root, _keep } = place();
    let mut store = SqliteStore::open(&root).unwrap();
    assert_eq!(code(store.add(1, vec![task("x@b<y"), task("y@b")])), Code::DependencyCycle);
    assert_eq!(store.version().unwrap(), 0);
    add(&mut store, &["x@b", "y@b", "z@b<x"]);
    let urgent = Change { priority: Some(Priority::Urgent), ..Change::default() };
    store.edit(2, &id("y"), &urgent).unwrap();
    let run = Uuid::from_u128(4);
    let x = store.claim(3, run, &[], None).unwrap().unwrap();
    assert_eq!(x.id.as_str(), "x");
    assert_eq!(store.claim(3, Uuid::from_u128(5), &[], None).unwrap(), None);
    let y = store.next_in_batch(4, run, &x.id).unwrap().unwrap();
    assert_eq!(y.id.as_str(), "y");
    assert_eq!(store.next_in_batch(5, run, &x.id).unwrap().unwrap(), y, "the same again");
    store.settle(6, &spell(&x, SpellEnd::Done)).unwrap();
    let z = store.next_in_batch(7, run, &y.id).unwrap().unwrap();
    assert_eq!(z.id.as_str(), "z");
    let listed = store.list(&Filter { limit: 9, ..Filter::default() }).unwrap();
    let ids: Vec<&str> = listed.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids, ["y", "z", "x"]);
}

#[test]
fn a_foreign_or_newer_file_is_left_as_it_is() {
    let Place { root, _keep } = place();
    drop(SqliteStore::open(&root).unwrap());
    let file = root.join("queue.db");
    let good = fs::read(&file).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let cases = [
        (Vec::new(), "not what longhaul writes"),
        (b"{}".to_vec(), "not what longhaul writes"),
        (with(68, 0), "not what longhaul writes"),
        (with(63, 2), "newer longhaul"),
        (with(63, 0), "names no format"),
        (good[..5_000].to_vec(), "damaged"),
    ];
    for (bytes, words) in cases {
        fs::write(&file, &bytes).unwrap();
        let err = open_and_use(&root).unwrap_err();
        assert_eq!(err.kind(), crate::ErrorKind::State, "{words}");
        assert!(err.message().contains(words), "{err}");
        assert_eq!(fs::read(&file).unwrap(), bytes, "{words}");
    }
}

fn open_and_use(root: &Path) -> crate::Result<()> {
    let mut store = SqliteStore::open(root)?;
    store.add(1, vec![task("a")])?;
    Ok(())
}
