//! No call gets slower with the length of the queue: counted in steps of SQLite's
//! machine, which do not depend on what else the machine does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use super::SqliteStore;
use crate::queue::store::{Change, Filter, ResultFilter, Spell, SpellEnd, Store};
use crate::queue::task::TaskState;
use crate::queue::task::{BatchId, NewTask, Priority, Sharing, Task, TaskId, TaskTokens};

const SHORT: usize = 400;
const LONG: usize = 12_000;
const PROJECTS: usize = 4;

fn id(n: usize) -> TaskId {
    TaskId::parse(&format!("t{n}")).unwrap()
}

/// A quarter in one batch, whose tasks wait for each other.
fn task(n: usize) -> NewTask {
    NewTask {
        id: Some(id(n)),
        description: "do it".into(),
        context: None,
        priority: Priority::Number(n as i32 % 5),
        batch_id: n.is_multiple_of(PROJECTS).then(|| BatchId::parse("b").unwrap()),
        project: format!("/p{}", n % PROJECTS).into(),
        verify: None,
        after: Vec::new(),
        model: None,
        budget_usd: None,
    }
}

fn spell(task: &Task) -> Spell {
    Spell {
        task_id: task.id.clone(),
        attempt: task.attempt,
        run_id: task.run_id.unwrap(),
        started_unix_ms: 1,
        ended_unix_ms: 2,
        elapsed_ms: 1,
        tokens: TaskTokens::default(),
        cost_usd: 0.0,
        unpriced_tokens: 0,
        unpriced_usd: 0.0,
        sessions: 1,
        actions: Vec::new(),
        output: String::new(),
        errors: Vec::new(),
        warnings: Vec::new(),
        verify: None,
        sharing: Sharing::default(),
        end: SpellEnd::Done,
    }
}

/// Steps of each call on a queue of `length` tasks, a tenth of them over.
fn steps(length: usize) -> Vec<(&'static str, u64)> {
    let keep = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let root = std::fs::canonicalize(keep.path()).unwrap();
    let mut store = SqliteStore::open(&root).unwrap();
    store.add(1, (0..length).map(task).collect()).unwrap();
    for n in (0..length).step_by(10) {
        store.cancel(2, &id(n)).unwrap();
    }
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    let tick = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    };
    store.db.progress_handler(1, Some(tick)).unwrap();
    let mut counted = Vec::new();
    let mut step = |name: &'static str, call: &mut dyn FnMut(&mut SqliteStore)| {
        let before = count.load(Ordering::Relaxed);
        call(&mut store);
        counted.push((name, count.load(Ordering::Relaxed) - before));
    };
    let page = || Filter { limit: 20, ..Filter::default() };
    let run = Uuid::from_u128(1);
    step("add", &mut |s| drop(s.add(3, vec![task(length)]).unwrap()));
    step("add waiting", &mut |s| {
        drop(s.add(3, vec![NewTask { after: vec![id(1)], ..task(length + 1) }]).unwrap());
    });
    step("list", &mut |s| assert_eq!(s.list(&page()).unwrap().len(), 20));
    step("list of a project", &mut |s| {
        let of = Filter { project: Some("/p1".into()), ..page() };
        assert_eq!(s.list(&of).unwrap().len(), 20);
    });
    step("list of a batch", &mut |s| {
        let of = Filter { batch_id: BatchId::parse("b").ok(), ..page() };
        assert_eq!(s.list(&of).unwrap().len(), 20);
    });
    step("list of what is over", &mut |s| {
        let of = Filter { states: vec![TaskState::Cancelled, TaskState::Done], ..page() };
        assert_eq!(s.list(&of).unwrap().len(), 20);
    });
    step("counts", &mut |s| assert!(s.counts(None).unwrap().queued > 300));
    step("claim", &mut |s| {
        let task = s.claim(4, run, &[], None).unwrap().unwrap();
        s.settle(5, &spell(&task)).unwrap().unwrap();
    });
    step("claim in a batch", &mut |s| {
        let task = s.claim(4, run, &[], Some("/p0".as_ref())).unwrap().unwrap();
        let next = s.next_in_batch(4, run, &task.id).unwrap().unwrap();
        s.settle(5, &spell(&task)).unwrap().unwrap();
        s.settle(5, &spell(&next)).unwrap().unwrap();
    });
    step("edit", &mut |s| {
        let change = Change {
            priority: Some(Priority::High),
            description: Some("other".into()),
            ..Change::default()
        };
        s.edit(6, &id(length - 1), &change).unwrap();
    });
    step("edit what waits", &mut |s| {
        let change = Change { after: Some(vec![id(3)]), ..Change::default() };
        s.edit(6, &id(length - 1), &change).unwrap();
    });
    step("cancel and retry", &mut |s| {
        s.cancel(7, &id(length)).unwrap();
        s.retry(8, &id(length)).unwrap();
    });
    step("unclaim", &mut |s| {
        s.claim(9, run, &[], None).unwrap().unwrap();
        assert_eq!(s.unclaim(10, run).unwrap().len(), 1);
    });
    step("results", &mut |s| {
        let of = ResultFilter { project: Some("/p0".into()), limit: 5, ..Default::default() };
        assert_eq!(s.results(&of).unwrap().len(), 5);
    });
    step("archive nothing", &mut |s| assert_eq!(s.archive("/p0".as_ref(), 0, 10).unwrap(), 0));
    step("spent", &mut |s| assert_eq!(s.spent_since(3).unwrap(), 0.0));
    step("version", &mut |s| assert!(s.version().unwrap() > 1));
    counted
}

#[test]
fn no_call_gets_slower_with_the_length_of_the_queue() {
    let (short, long) = (steps(SHORT), steps(LONG));
    let mut slower = Vec::new();
    for ((name, short), (_, long)) in short.into_iter().zip(long) {
        assert!(short > 0, "{name} was not counted");
        // A little more: whether a page has to be left is not the same each time.
        if long > short + short / 5 + 20 {
            slower.push(format!("{name}: {short} steps, then {long}"));
        }
    }
    assert!(slower.is_empty(), "{slower:#?}");
}

#[test]
fn claims_pass_over_busy_projects_and_then_leap() {
    let keep = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut store = SqliteStore::open(&std::fs::canonicalize(keep.path()).unwrap()).unwrap();
    // More of the busy project than are passed over, all of them before the other one.
    let urgent = |n| NewTask {
        priority: Priority::Urgent,
        project: "/busy".into(),
        batch_id: None,
        ..task(n)
    };
    let last = super::flow::PASSED_OVER_MAX + 5;
    let mut tasks: Vec<NewTask> = (0..last).map(urgent).collect();
    let other = |n, path: &str, priority| NewTask {
        project: path.into(),
        priority: Priority::Number(priority),
        batch_id: None,
        ..task(n)
    };
    tasks.extend([other(last, "/b", 1), other(last + 1, "/a", 2), other(last + 2, "/c", 2)]);
    store.add(1, tasks).unwrap();
    let busy = ["/busy".into()];
    let mut claim = |busy: &[std::path::PathBuf]| {
        store.claim(2, Uuid::from_u128(1), busy, None).unwrap().map(|task| task.id)
    };
    assert_eq!(claim(&busy), Some(id(last + 1)), "the highest, then the oldest");
    assert_eq!(claim(&busy), Some(id(last + 2)));
    assert_eq!(claim(&busy), Some(id(last)));
    assert_eq!(claim(&busy), None);
    assert_eq!(claim(&[]), Some(id(0)));
}
