//! The store by itself: its file, its order, its races.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::SqliteStore;
use crate::clock::Timestamp;
use crate::cycle::assignment::{Assignment, End, Totals};
use crate::queue::chain::{self, Chain, Taken};
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
        unpriced_usd: 0.0,
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
    assert_eq!(code(store.retry(10, &id("b"))), Code::WrongState);
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
        (with(63, 3), "newer longhaul"),
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
    // What another longhaul has in its log is not written back either.
    fs::write(&file, &good).unwrap();
    let newer = SqliteStore::open(&root).unwrap();
    newer.db.execute_batch("PRAGMA user_version = 3").unwrap();
    let log = root.join("queue.db-wal");
    let before = (fs::read(&file).unwrap(), fs::read(&log).unwrap());
    let kept = keep_aside(&root);
    drop(newer);
    give_back(&root, kept);
    assert!(SqliteStore::open(&root).unwrap_err().message().contains("newer"));
    assert_eq!((fs::read(&file).unwrap(), fs::read(&log).unwrap()), before);
}

/// What a process that is killed leaves: the file and its log.
fn keep_aside(root: &Path) -> [Vec<u8>; 2] {
    ["queue.db", "queue.db-wal"].map(|name| fs::read(root.join(name)).unwrap())
}

fn give_back(root: &Path, kept: [Vec<u8>; 2]) {
    for (name, bytes) in ["queue.db", "queue.db-wal"].iter().zip(kept) {
        fs::write(root.join(name), bytes).unwrap();
    }
}

/// A file that is closed takes the locks of its process with it: a second store in
/// the same process must not loosen what the first one holds.
#[test]
fn a_second_store_of_the_process_leaves_the_locks_of_the_first() {
    let Place { root, _keep } = place();
    let mut store = SqliteStore::open(&root).unwrap();
    add(&mut store, &["a"]);
    let locks = || {
        let meta = fs::metadata(root.join("queue.db")).unwrap();
        let (pid, inode) = (std::process::id().to_string(), format!(":{}", meta.ino()));
        let held = |line: &&str| {
            line.split_whitespace().any(|word| word == pid)
                && line.split_whitespace().any(|word| word.ends_with(&inode))
        };
        // A line may be passed over where others come and go meanwhile, and its number
        // is its place among them.
        let mut found = BTreeSet::new();
        for _ in 0..10 {
            let all = fs::read_to_string("/proc/locks").unwrap();
            let lock = |line: &str| line.split_once(": ").unwrap().1.to_owned();
            found.extend(all.lines().filter(held).map(lock));
        }
        found
    };
    let before = locks();
    assert!(!before.is_empty(), "an open log is protected by a lock on the file");
    drop(SqliteStore::open(&root).unwrap());
    drop(SqliteStore::open_existing(&root).unwrap());
    assert_eq!(locks(), before);
}

fn open_and_use(root: &Path) -> crate::Result<()> {
    let mut store = SqliteStore::open(root)?;
    store.add(1, vec![task("a")])?;
    Ok(())
}

/// The state directory for a process that only claims; see below.
const CLAIM_IN: &str = "LONGHAUL_TEST_CLAIM_IN";

/// Claims until nothing is left, settles every other task, and says which it had.
fn claim_all(root: &Path) -> Vec<String> {
    let mut store = SqliteStore::open(root).unwrap();
    let mut mine = Vec::new();
    while let Some(task) = store.claim(10, Uuid::new_v4(), &[], None).unwrap() {
        if mine.len() % 2 == 0 {
            store.settle(20, &spell(&task, SpellEnd::Done)).unwrap().unwrap();
        }
        mine.push(task.id.to_string());
    }
    mine
}

#[test]
fn each_task_is_claimed_by_one_of_several_processes() {
    if let Some(root) = std::env::var_os(CLAIM_IN) {
        let mine = claim_all(Path::new(&root));
        return fs::write(
            Path::new(&root).join(format!("had-{}", std::process::id())),
            mine.join("\n"),
        )
        .unwrap();
    }
    const PROCESSES: usize = 4;
    const TASKS: usize = 120;
    let Place { root, _keep } = place();
    let mut store = SqliteStore::open(&root).unwrap();
    let names: Vec<String> = (0..TASKS).map(|n| format!("t{n}")).collect();
    add(&mut store, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let start = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "queue::sqlite::tests::each_task_is_claimed_by_one_of_several_processes",
            ])
            .env(CLAIM_IN, &root)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..PROCESSES).map(|_| start()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let mut had: Vec<String> = Vec::new();
    let mut takers = 0;
    for entry in fs::read_dir(&root).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("had-") {
            let text = fs::read_to_string(entry.path()).unwrap();
            takers += 1;
            had.extend(text.lines().map(str::to_owned));
        }
    }
    had.sort();
    let mut all = names;
    all.sort();
    assert_eq!((takers, had), (PROCESSES, all));
    let counts = store.counts(None).unwrap();
    assert_eq!(counts.queued, 0);
    assert_eq!(counts.done + counts.in_progress, TASKS as u64);
}

/// What is made up is made up once, also within one second and beside given ids.
#[test]
fn made_up_ids_count_within_the_second() {
    let Place { root, _keep } = place();
    let mut store = SqliteStore::open(&root).unwrap();
    let unnamed = || NewTask { id: None, ..task("x") };
    let first = store.add(0, vec![unnamed(), unnamed()]).unwrap();
    let stamp = first[0].id.as_str().strip_suffix("_1").unwrap().to_owned();
    assert!(stamp.starts_with("task_19"), "{stamp}: local time");
    assert_eq!(first[1].id.as_str(), format!("{stamp}_2"));
    let third = format!("{stamp}_3");
    let given = NewTask { id: Some(id(&third)), ..task("x") };
    let more = store.add(999, vec![unnamed(), given]).unwrap();
    assert_eq!(more[0].id.as_str(), format!("{stamp}_4"));
    let later = store.add(1_000, vec![unnamed()]).unwrap();
    assert!(later[0].id.as_str().ends_with("_1"), "{}", later[0].id);
}

#[test]
fn a_queue_whose_file_was_removed_says_so_and_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(dir.path()).unwrap();
    std::fs::remove_file(dir.path().join("queue.db")).unwrap();
    let refused = |store: &mut SqliteStore| match store.unclaim(1, uuid::Uuid::nil()) {
        Err(crate::queue::QueueError::Failed(err)) => err.message().to_owned(),
        other => panic!("{other:?}"),
    };
    assert!(refused(&mut store).contains("was removed or replaced"));
    SqliteStore::open(dir.path()).unwrap();
    assert!(refused(&mut store).contains("was removed or replaced"));
}

#[test]
fn a_queue_of_the_first_format_gets_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(dir.path()).unwrap();
    store.add(1, vec![task("a")]).unwrap();
    let first = "ALTER TABLE meta DROP COLUMN queue_id; PRAGMA user_version = 1";
    store.db.execute_batch(first).unwrap();
    let mut store = SqliteStore::open(dir.path()).unwrap();
    let id = store.id().unwrap();
    assert_eq!(SqliteStore::open(dir.path()).unwrap().id().unwrap(), id);
    assert_eq!(store.counts(None).unwrap().queued, 1);
}

#[test]
fn a_project_that_holds_the_state_is_refused() {
    let Place { root, _keep } = place();
    let mut store = SqliteStore::open(&root).unwrap();
    let around = NewTask { project: root.parent().unwrap().into(), ..task("x") };
    assert_eq!(code(store.add(1, vec![around])), Code::InvalidProject);
}

#[test]
fn refusals_say_which_task_they_mean_and_change_nothing() {
    let Place { root, _keep } = place();
    let mut store = SqliteStore::open(&root).unwrap();
    add(&mut store, &["old@b"]);
    let version = store.version().unwrap();
    let elsewhere = || NewTask { project: "/q".into(), ..task("d@b") };
    let cases = [
        (vec![task("a"), task("old")], Code::TaskExists, 1),
        (vec![task("a"), task("c"), task("a")], Code::TaskExists, 2),
        (vec![task("a"), task("c<nobody")], Code::UnknownDependency, 1),
        (vec![task("a"), task("c<c")], Code::DependencyCycle, 1),
        (vec![task("a"), task("c<d"), task("d<c")], Code::DependencyCycle, 1),
        (vec![task("a"), elsewhere()], Code::BatchProject, 1),
    ];
    for (tasks, code, index) in cases {
        match store.add(9, tasks.clone()) {
            Err(QueueError::Refused(refusal)) => {
                assert_eq!((refusal.code, refusal.index), (code, Some(index)), "{refusal}");
            }
            other => panic!("{tasks:?}: {other:?}"),
        }
    }
    assert_eq!(store.version().unwrap(), version);
    assert_eq!(store.list(&Filter { limit: 9, ..Filter::default() }).unwrap().len(), 1);
}

#[test]
fn a_run_that_takes_a_task_up_again_is_booked_again() {
    let Place { root, _keep } = place();
    let mut store = SqliteStore::open(&root).unwrap();
    add(&mut store, &["a"]);
    let run = Uuid::from_u128(8);
    let stopped = || SpellEnd::Released { why: "stopped".into() };
    let task = store.claim(1, run, &[], None).unwrap().unwrap();
    let first = spell(&task, stopped());
    assert_eq!(store.settle(2, &first).unwrap(), None);
    let again = store.claim(3, run, &[], None).unwrap().unwrap();
    assert_eq!((again.attempt, again.spent_usd), (1, 0.25));
    assert_eq!(store.settle(4, &first).unwrap(), None, "that was booked");
    assert_eq!(store.in_progress().unwrap().len(), 1);
    let started_unix_ms = 3_000;
    let second = Spell { started_unix_ms, unpriced_usd: 0.5, ..spell(&again, SpellEnd::Done) };
    let result = store.settle(5, &second).unwrap().unwrap();
    assert_eq!((result.cost_usd, result.sessions, result.runs.len()), (0.5, 2, 1));
    assert_eq!(store.settle(6, &second).unwrap(), Some(result));
    assert_eq!(store.spent_since(0).unwrap(), 1.0, "what has no price at the dearest");
}

#[test]
fn what_has_no_price_counts_in_the_next_run_of_the_task_too() {
    let Place { root, _keep } = place();
    let project = _keep.path().join("project");
    fs::create_dir(&project).unwrap();
    let mut store = SqliteStore::open(&root).unwrap();
    let draft = NewTask { project: project.clone(), budget_usd: Some(10.0), ..task("a") };
    store.add(1, vec![draft]).unwrap();
    let stopped = SpellEnd::Released { why: "stopped".into() };
    let a = store.claim(1, Uuid::from_u128(1), &[], None).unwrap().unwrap();
    let first = Spell { unpriced_usd: 4.0, ..spell(&a, stopped) };
    assert_eq!(store.settle(2, &first).unwrap(), None);
    let run = Uuid::from_u128(2);
    let a = store.claim(3, run, &[], None).unwrap().unwrap();
    assert_eq!((a.spent_usd, store.unpriced_usd(&a.id).unwrap()), (0.25, 4.0));
    let chain = Chain::new(Box::new(store), run, &project, Path::new("TASKS.md"), None, 100.0);
    let now = Timestamp { unix_ms: 4, boot_ms: 4 };
    let Taken::Task(given) = chain.take(now, None, 0.0).unwrap() else { panic!("not given") };
    assert_eq!(
        (given.spent_usd, given.unpriced_usd, given.budget_usd),
        (0.25, 4.0, Some(5.75)),
        "and in what is left of its own budget"
    );
    // This run's part, as it is booked.
    let mut assignment = Assignment::new(*given, now, Totals::default());
    assignment.added = Totals { cost_usd: 0.5, unpriced_ceiling_usd: 1.5, ..Totals::default() };
    (assignment.end, assignment.ended_at) = (Some(End::Done), Some(now));
    let booked = chain::spell(run, &assignment, "").unwrap().unwrap();
    assert_eq!((booked.cost_usd, booked.unpriced_usd), (0.5, 1.5));
    // What an older longhaul booked tells nothing of it.
    let mut old = serde_json::to_value(&booked).unwrap();
    old.as_object_mut().unwrap().remove("unpriced_usd");
    assert_eq!(serde_json::from_value::<Spell>(old).unwrap().unpriced_usd, 0.0);
}

#[test]
fn a_project_s_archive_leaves_the_results_of_others_where_they_are() {
    let place = place();
    let mut store = SqliteStore::open(&place.root).unwrap();
    for (name, project) in [("a", "/p"), ("b", "/q"), ("c", "/q")] {
        store.add(5, vec![NewTask { project: project.into(), ..task(name) }]).unwrap();
        store.cancel(6, &id(name)).unwrap();
    }
    assert_eq!(store.archive(Path::new("/nobody"), 100, 0).unwrap(), 0);
    assert_eq!(store.archive(Path::new("/p"), 100, 0).unwrap(), 1);
    let mut left = |project: &str| {
        let project = Some(project.into());
        let filter = ResultFilter { project, archived: Some(false), ..Default::default() };
        store.count_results(&filter).unwrap()
    };
    assert_eq!((left("/p"), left("/q")), (0, 2));
}
