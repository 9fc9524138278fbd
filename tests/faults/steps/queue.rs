//! Calls of the queue, one after the other. Each is all or nothing: what is found
//! afterwards is what the queue shows after so many whole calls.

use std::path::{Path, PathBuf};

use longhaul::Error;
use longhaul::queue::store::{Filter, ResultFilter, Spell, SpellEnd};
use longhaul::queue::task::{Sharing, TaskTokens};
use longhaul::queue::{BatchId, NewTask, Priority, SqliteStore, Store, TaskId};
use uuid::Uuid;

use super::acknowledge;

const RUN: Uuid = Uuid::from_u128(3);

/// One call; the time is its number.
type Call = fn(&mut SqliteStore, i64) -> longhaul::queue::store::Result<()>;

/// Among them those that change many rows: what is blocked with its culprit, and
/// what is queued again with it.
const CALLS: &[Call] = &[
    |store, now| {
        let after = [("a", None), ("b", Some("a")), ("c", Some("b"))];
        store.add(now, after.map(|(name, after)| task(name, after)).into()).map(drop)
    },
    |store, now| store.claim(now, RUN, &[], None).map(drop),
    |store, now| settle(store, now, SpellEnd::Error { why: "it broke".into() }),
    |store, now| store.retry(now, &id("a")).map(drop),
    |store, now| store.cancel(now, &id("b")).map(drop),
];

fn id(name: &str) -> TaskId {
    TaskId::parse(name).unwrap()
}

fn task(name: &str, after: Option<&str>) -> NewTask {
    NewTask {
        id: Some(id(name)),
        // More than one page.
        description: format!("do {name} {}", "at length ".repeat(450)),
        context: None,
        priority: Priority::Normal,
        batch_id: BatchId::parse("night").ok(),
        project: PathBuf::from("/p"),
        verify: None,
        after: after.map(id).into_iter().collect(),
        model: None,
        budget_usd: None,
    }
}

fn settle(store: &mut SqliteStore, now: i64, end: SpellEnd) -> longhaul::queue::store::Result<()> {
    let task = store.in_progress()?.remove(0);
    let spell = Spell {
        task_id: task.id,
        attempt: task.attempt,
        run_id: RUN,
        started_unix_ms: now - 1,
        ended_unix_ms: now,
        elapsed_ms: 1,
        tokens: TaskTokens::default(),
        cost_usd: 0.5,
        unpriced_tokens: 0,
        unpriced_usd: 0.0,
        sessions: 1,
        actions: Vec::new(),
        output: String::new(),
        errors: Vec::new(),
        warnings: Vec::new(),
        verify: None,
        sharing: Sharing::default(),
        end,
    };
    store.settle(now, &spell).map(drop)
}

fn state(dir: &Path) -> PathBuf {
    std::fs::canonicalize(dir).unwrap().join("state")
}

/// Makes the queue.
pub fn create(dir: &Path) -> Result<(), Error> {
    drop(SqliteStore::open(&state(dir))?);
    acknowledge();
    Ok(())
}

/// A queue is there or none is, never half of one; then it can be made and used.
pub fn check_created(dir: &Path, acknowledged: usize, told: &str) {
    let there = SqliteStore::open_existing(&state(dir)).expect(told);
    assert!(there.is_some() || acknowledged == 0, "{told}");
    drop(there);
    work(dir, 0).expect(told);
    assert_eq!(seen(dir), seen_after(CALLS.len()), "{told}");
}

/// Performs all calls.
pub fn perform(dir: &Path) -> Result<(), Error> {
    work(dir, 0)
}

fn work(dir: &Path, done: usize) -> Result<(), Error> {
    let mut store = SqliteStore::open(&state(dir))?;
    for (call, now) in CALLS.iter().zip(100..).skip(done) {
        call(&mut store, now)?;
        acknowledge();
    }
    Ok(())
}

fn seen(dir: &Path) -> String {
    let mut store = SqliteStore::open(&state(dir)).unwrap();
    let tasks = store.list(&Filter { limit: 99, ..Filter::default() }).unwrap();
    let results = store.results(&ResultFilter { limit: 99, ..ResultFilter::default() }).unwrap();
    let archived = ResultFilter { archived: Some(true), limit: 99, ..ResultFilter::default() };
    let archived = store.results(&archived).unwrap().len();
    let counts = store.counts(None).unwrap();
    let (spent_usd, version) = (store.spent_since(0).unwrap(), store.version().unwrap());
    format!("{tasks:?} {results:?} {archived} {counts:?} {spent_usd} {version}")
}

/// What the queue shows after so many calls.
fn seen_after(calls: usize) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(&state(dir.path())).unwrap();
    for (call, now) in CALLS.iter().zip(100..).take(calls) {
        call(&mut store, now).unwrap();
    }
    drop(store);
    seen(dir.path())
}

/// What was acknowledged is there, the next call is there or is not, and the rest can
/// be done.
pub fn check(dir: &Path, acknowledged: usize, told: &str) {
    let found = seen(dir);
    let next = (acknowledged + 1).min(CALLS.len());
    let done = (acknowledged..=next).find(|&calls| seen_after(calls) == found);
    let done = done.unwrap_or_else(|| panic!("neither {acknowledged} calls nor {next}: {told}"));
    work(dir, done).expect(told);
    assert_eq!(seen(dir), seen_after(CALLS.len()), "{told}");
}
