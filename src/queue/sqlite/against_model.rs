//! Random histories on the engine and on the model: every answer and all that can be
//! seen must be the same, also when the database is closed and opened between steps.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use super::SqliteStore;
use crate::queue::model::Model;
use crate::queue::refusal::QueueError;
use crate::queue::store::{Change, Filter, Keep, ResultFilter, Spell, SpellEnd, Store};
use crate::queue::task::{
    BatchId, NewTask, Priority, Sharing, Task, TaskId, TaskState, TaskTokens, VerifyResult,
};

const IDS: usize = 12;
/// So many are there from the beginning, if they make sense.
const FIRST: usize = 8;
const PROJECTS: [&str; 2] = ["/one", "/two"];
const BATCHES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Op {
    Add(Vec<NewTask>, Keep),
    AddEach(Vec<NewTask>, Keep),
    Edit(TaskId, Box<Change>),
    Cancel(TaskId),
    /// One of those in progress.
    CancelAtWork(prop::sample::Index),
    Retry(TaskId),
    Claim {
        run: u8,
        busy: Vec<usize>,
        only: Option<usize>,
    },
    /// The next of the batch after one of those in progress, or after any task.
    Next {
        current: prop::sample::Index,
        any: Option<TaskId>,
    },
    Unclaim(u8),
    /// One of those in progress.
    Settle {
        which: prop::sample::Index,
        end: SpellEnd,
        cost_quarters: u8,
    },
    /// What was booked before, once more.
    SettleAgain(prop::sample::Index),
    /// What no run could say.
    SettleOdd {
        which: prop::sample::Index,
        task: Option<TaskId>,
        later: u32,
        run: Option<u8>,
    },
    Archive {
        project: usize,
        age_ms: i64,
        keep_recent: u32,
    },
    Reopen,
}

fn id() -> impl Strategy<Value = TaskId> {
    (0..IDS).prop_map(|n| TaskId::parse(&format!("t{n}")).unwrap())
}

fn after() -> impl Strategy<Value = Vec<TaskId>> {
    vec(id(), 0..3).prop_map(|mut ids| {
        ids.sort();
        ids.dedup();
        ids
    })
}

fn batch() -> impl Strategy<Value = BatchId> {
    prop::sample::select(&BATCHES[..]).prop_map(|id| BatchId::parse(id).unwrap())
}

fn priority() -> impl Strategy<Value = Priority> {
    prop_oneof![
        Just(Priority::Normal),
        Just(Priority::Medium),
        Just(Priority::Urgent),
        (-3..3).prop_map(Priority::Number)
    ]
}

fn model() -> impl Strategy<Value = Option<String>> {
    prop_oneof![4 => Just(None), 1 => Just(Some("small".to_owned()))]
}

/// A task of that id that waits for some of `before`. Its batch mostly fits its
/// project: most of what is asked for must be possible.
fn task_of(
    id: TaskId,
    before: impl Strategy<Value = Vec<TaskId>>,
) -> impl Strategy<Value = NewTask> {
    let project = option::weighted(0.05, 0..2_usize);
    (priority(), option::of(batch()), project, before, model()).prop_map(
        move |(priority, batch_id, project, after, model)| {
            let fitting = usize::from(batch_id.as_ref().is_some_and(|id| id.as_str() == "c"));
            NewTask {
                id: Some(id.clone()),
                description: "do it".into(),
                context: None,
                priority,
                batch_id,
                project: PROJECTS[project.unwrap_or(fitting)].into(),
                verify: None,
                after,
                model,
                budget_usd: None,
            }
        },
    )
}

fn new_task() -> impl Strategy<Value = NewTask> {
    let after = || prop_oneof![2 => Just(Vec::new()), 1 => after()];
    id().prop_flat_map(move |id| task_of(id, after()))
}

/// What there is to begin with: most tasks wait, if at all, for those before them.
fn first_tasks() -> impl Strategy<Value = Vec<NewTask>> {
    let task = |n: usize| {
        let earlier = vec(0..n.max(1), 0..3).prop_map(move |places| {
            let mut places: Vec<usize> = places.into_iter().filter(|at| *at < n).collect();
            places.sort_unstable();
            places.dedup();
            places.iter().map(|at| TaskId::parse(&format!("t{at}")).unwrap()).collect()
        });
        let before = prop_oneof![1 => Just(Vec::new()), 1 => earlier];
        task_of(TaskId::parse(&format!("t{n}")).unwrap(), before)
    };
    (0..FIRST).map(task).collect::<Vec<_>>()
}

fn change() -> impl Strategy<Value = Change> {
    (
        option::of(option::of("[a-z]{0,3}")),
        option::of(priority()),
        option::of(option::of(batch())),
        option::of(after()),
        option::of(model()),
        option::of(option::of(1.0..9.0)),
    )
        .prop_map(|(context, priority, batch_id, after, model, budget_usd)| Change {
            description: context.as_ref().map(|text| format!("do {text:?}")),
            verify: context.clone(),
            context,
            priority,
            batch_id,
            after,
            model,
            budget_usd,
        })
}

fn end() -> impl Strategy<Value = SpellEnd> {
    prop_oneof![
        5 => Just(SpellEnd::Done),
        2 => Just(SpellEnd::Error { why: "it broke".into() }),
        1 => Just(SpellEnd::Blocked { why: "who knows?".into() }),
        3 => Just(SpellEnd::Released { why: "stopped".into() }),
    ]
}

fn keep() -> impl Strategy<Value = Keep> {
    prop_oneof![3 => Just(Keep::Tasks), 1 => Just(Keep::Nothing)]
}

fn op() -> impl Strategy<Value = Op> {
    use prop::sample::Index;
    prop_oneof![
        3 => (vec(new_task(), 1..3), keep()).prop_map(|(tasks, keep)| Op::Add(tasks, keep)),
        2 => (vec(new_task(), 1..6), keep()).prop_map(|(tasks, keep)| Op::AddEach(tasks, keep)),
        3 => (id(), change()).prop_map(|(id, change)| Op::Edit(id, Box::new(change))),
        2 => id().prop_map(Op::Cancel),
        1 => any::<Index>().prop_map(Op::CancelAtWork),
        6 => id().prop_map(Op::Retry),
        6 => (0..3_u8, vec(0..2_usize, 0..2), option::weighted(0.2, 0..2_usize))
            .prop_map(|(run, busy, only)| Op::Claim { run, busy, only }),
        3 => (any::<Index>(), option::weighted(0.2, id()))
            .prop_map(|(current, any)| Op::Next { current, any }),
        1 => (0..3_u8).prop_map(Op::Unclaim),
        6 => (any::<Index>(), end(), 0..5_u8)
            .prop_map(|(which, end, cost_quarters)| Op::Settle { which, end, cost_quarters }),
        1 => any::<Index>().prop_map(Op::SettleAgain),
        1 => (any::<Index>(), option::of(id()), 0..2_u32, option::of(0..3_u8))
            .prop_map(|(which, task, later, run)| Op::SettleOdd { which, task, later, run }),
        1 => (0..PROJECTS.len(), 0..300_i64, 0..4_u32).prop_map(
            |(project, age_ms, keep_recent)| Op::Archive { project, age_ms, keep_recent }
        ),
        2 => Just(Op::Reopen),
    ]
}

fn run_id(run: u8) -> Uuid {
    Uuid::from_u128(0xa000 + u128::from(run))
}

fn spell(task: &Task, now: i64, end: SpellEnd, cost_quarters: u8) -> Spell {
    let n = u64::from(cost_quarters);
    Spell {
        task_id: task.id.clone(),
        attempt: task.attempt,
        run_id: task.run_id.unwrap(),
        started_unix_ms: now - 5,
        ended_unix_ms: now - 1,
        elapsed_ms: 4,
        tokens: TaskTokens { input: n, output: 1, cache_write: 2, cache_read: 3 },
        cost_usd: f64::from(cost_quarters) / 4.0,
        unpriced_tokens: n,
        unpriced_usd: f64::from(cost_quarters) / 8.0,
        sessions: 1,
        actions: vec![format!("Edit at {now}")],
        output: if n == 0 { String::new() } else { format!("said at {now}") },
        errors: Vec::new(),
        warnings: vec![format!("warned at {now}")],
        verify: (n == 1).then(|| VerifyResult { command: "true".into(), passed: Some(true) }),
        sharing: Sharing { is_shared: n > 2, saved_tokens: n, extra_cache_read_tokens: 1 },
        end,
    }
}

/// An answer without the words of a refusal, which the model does not have.
fn shown<T: Debug>(answer: Result<T, QueueError>) -> String {
    match answer {
        Ok(value) => format!("{value:?}"),
        Err(QueueError::Refused(refusal)) => format!("refused: {:?}", refusal.code),
        Err(QueueError::Failed(err)) => panic!("{}", err.render()),
    }
}

fn project(at: usize) -> PathBuf {
    PROJECTS[at].into()
}

/// Performs one step and gives the answer; `booked` is what was settled so far.
fn perform(store: &mut dyn Store, op: &Op, now: i64, booked: &[Spell]) -> String {
    let at_work = store.in_progress().unwrap();
    match op {
        Op::Add(tasks, keep) => shown(store.add_all(now, tasks.clone(), *keep)),
        Op::AddEach(tasks, keep) => {
            let answers = store.add_each(now, tasks.clone(), *keep).unwrap();
            format!(
                "{:?}",
                answers
                    .into_iter()
                    .map(|answer| shown(answer.map_err(Into::into)))
                    .collect::<Vec<_>>()
            )
        }
        Op::Edit(id, change) => shown(store.edit(now, id, change)),
        Op::Cancel(id) => shown(store.cancel(now, id)),
        Op::Retry(id) => shown(store.retry(now, id)),
        Op::Claim { run, busy, only } => {
            let busy: Vec<PathBuf> = busy.iter().map(|&at| project(at)).collect();
            let only = only.map(project);
            shown(store.claim(now, run_id(*run), &busy, only.as_deref()))
        }
        Op::Next { any: Some(id), .. } => shown(store.next_in_batch(now, run_id(1), id)),
        Op::Next { .. } | Op::Settle { .. } | Op::CancelAtWork(_) if at_work.is_empty() => {
            String::new()
        }
        Op::Next { current, .. } => {
            let current = current.get(&at_work);
            shown(store.next_in_batch(now, current.run_id.unwrap(), &current.id))
        }
        Op::CancelAtWork(which) => shown(store.cancel(now, &which.get(&at_work).id)),
        Op::Unclaim(run) => shown(store.unclaim(now, run_id(*run))),
        Op::Settle { which, end, cost_quarters } => {
            let spell = spell(which.get(&at_work), now, end.clone(), *cost_quarters);
            shown(store.settle(now, &spell))
        }
        Op::SettleAgain(_) if booked.is_empty() => String::new(),
        Op::SettleAgain(which) => shown(store.settle(now, which.get(booked))),
        Op::SettleOdd { which, task, later, run } => {
            let any = task.as_ref().and_then(|id| store.task(id).unwrap());
            let at_work = || (!at_work.is_empty()).then(|| which.get(&at_work).clone());
            let Some(mut task) = any.or_else(at_work) else { return String::new() };
            task.run_id = run.map(run_id).or(task.run_id).or(Some(run_id(0)));
            task.attempt += later;
            shown(store.settle(now, &spell(&task, now, SpellEnd::Done, 1)))
        }
        Op::Archive { project: of, age_ms, keep_recent } => {
            shown(store.archive(&project(*of), now - age_ms, *keep_recent))
        }
        Op::Reopen => String::new(),
    }
}

/// All that can be seen.
fn seen(store: &mut dyn Store, now: i64) -> Vec<String> {
    let all = u32::MAX;
    let mut seen = Vec::new();
    let mut filters = vec![
        Filter { limit: all, ..Filter::default() },
        Filter { limit: 3, offset: 2, ..Filter::default() },
        Filter {
            states: vec![TaskState::Error, TaskState::Queued, TaskState::Done],
            limit: 4,
            offset: 1,
            ..Filter::default()
        },
    ];
    for path in PROJECTS {
        filters.push(Filter { project: Some(path.into()), limit: all, ..Filter::default() });
        seen.push(shown(store.counts(Some(Path::new(path)))));
    }
    for id in BATCHES {
        seen.push(shown(store.has_batch(&BatchId::parse(id).unwrap())));
        filters.push(Filter {
            batch_id: BatchId::parse(id).ok(),
            project: (id == "a").then(|| project(0)),
            limit: 5,
            ..Filter::default()
        });
    }
    seen.extend(filters.iter().map(|filter| shown(store.list(filter))));
    let results = [
        ResultFilter { limit: all, ..ResultFilter::default() },
        ResultFilter { limit: 2, offset: 1, archived: Some(false), ..ResultFilter::default() },
        ResultFilter { limit: all, archived: Some(true), ..ResultFilter::default() },
        ResultFilter { limit: 3, project: Some(project(0)), ..ResultFilter::default() },
        ResultFilter { limit: 3, batch_id: BatchId::parse("a").ok(), ..ResultFilter::default() },
    ];
    seen.extend(results.iter().map(|filter| shown(store.results(filter))));
    seen.push(shown(store.counts(None)));
    seen.push(shown(store.recent(4)));
    seen.extend(filters.iter().map(|filter| shown(store.count_tasks(filter))));
    seen.extend(results.iter().map(|filter| shown(store.count_results(filter))));
    seen.push(shown(store.projects()));
    seen.push(shown(store.in_progress()));
    seen.push(shown(store.spent_since(now - 200)));
    seen.push(shown(store.taken()));
    // The lists have all of them; these are for the ways to one.
    for n in [now / 10, now / 10 + 5] {
        let id = TaskId::parse(&format!("t{}", n % IDS as i64)).unwrap();
        seen.push(shown(store.task(&id)));
        seen.push(shown(store.result(&id)));
        seen.push(shown(store.unpriced_usd(&id)));
    }
    seen
}

/// What must hold whatever happened.
fn check(store: &mut SqliteStore) {
    let results = store.results(&ResultFilter { limit: u32::MAX, ..Default::default() }).unwrap();
    let mut keys: Vec<(TaskId, u32)> =
        results.iter().map(|r| (r.task_id.clone(), r.attempt)).collect();
    keys.sort();
    let count = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), count, "two results of one attempt");
    for task in store.list(&Filter { limit: u32::MAX, ..Filter::default() }).unwrap() {
        let has_result = keys.binary_search(&(task.id.clone(), task.attempt)).is_ok();
        assert_eq!(has_result, task.state.is_over(), "{task:?}");
    }
    let said: String = store.db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(said, "ok");
}

/// In memory where that can be: nobody pulls the plug here.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn cases() -> u32 {
    let is_long = std::env::var_os("LONGHAUL_TORTURE").is_some_and(|value| value == "long");
    if is_long { 3_000 } else { 128 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn the_engine_does_what_the_model_does(first in first_tasks(), ops in vec(op(), 1..80)) {
        let keep = folder();
        let root = std::fs::canonicalize(keep.path()).unwrap();
        let mut store = SqliteStore::open(&root).unwrap();
        let mut model = Model::default();
        let mut booked: Vec<Spell> = Vec::new();
        let mut now = 1_000;
        let first = Op::Add(first, Keep::Tasks);
        for op in std::iter::once(&first).chain(&ops) {
            now += 10;
            let version = store.version().unwrap();
            let before = seen(&mut model, now);
            if let (Op::Settle { which, end, cost_quarters }, at_work) = (op, model.in_progress().unwrap())
                && !at_work.is_empty()
            {
                booked.push(spell(which.get(&at_work), now, end.clone(), *cost_quarters));
            }
            if matches!(op, Op::Reopen) {
                drop(store);
                store = SqliteStore::open(&root).unwrap();
            }
            let expected = perform(&mut model, op, now, &booked);
            prop_assert_eq!(perform(&mut store, op, now, &booked), expected, "{:?}", op);
            let after = seen(&mut model, now);
            for (is, should_be) in seen(&mut store, now).iter().zip(&after) {
                prop_assert_eq!(is, should_be, "{:?}", op);
            }
            if before != after {
                prop_assert_ne!(store.version().unwrap(), version, "{:?}", op);
            }
        }
        check(&mut store);
    }
}
