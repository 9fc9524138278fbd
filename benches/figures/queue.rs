//! The task queue by itself: each call on a long queue, on the disk that holds the
//! temporary files, with every change synced as in use.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use longhaul::queue::store::{Change, Filter, ResultFilter, Spell, SpellEnd, Store};
use longhaul::queue::task::{Sharing, TaskTokens};
use longhaul::queue::{BatchId, NewTask, Priority, SqliteStore, Task, TaskId};
use uuid::Uuid;

use super::world::longhaul;

/// Calls of each kind.
const CALLS: usize = 200;
/// Commands of each kind: each is a process of its own.
const COMMANDS: usize = 40;
/// Tasks accepted at a time while it is filled.
const AT_ONCE: u32 = 10_000;
const PROJECTS: u32 = 20;

#[derive(Debug)]
pub struct Measured {
    pub tasks: u32,
    pub calls_ms: Vec<(&'static str, Vec<f64>)>,
    pub commands_ms: Vec<(&'static str, Vec<f64>)>,
    /// Resident memory after all calls, less that after the same on an empty queue.
    pub growth_mb: f64,
    pub fill_ms: f64,
    pub file_mb: f64,
}

pub fn measure(tasks: u32) -> Measured {
    let keep = tempfile::tempdir().unwrap();
    let root = keep.path().canonicalize().unwrap();
    let begun = Instant::now();
    fill(&root, tasks);
    let fill_ms = begun.elapsed().as_secs_f64() * 1e3 / f64::from(tasks);
    let empty = tempfile::tempdir().unwrap();
    let small = empty.path().canonicalize().unwrap();
    calls(&small, 0);
    let before_mb = resident_mb();
    let calls_ms = calls(&root, tasks);
    let growth_mb = resident_mb() - before_mb;
    let commands_ms = commands(&root);
    let file_mb = std::fs::metadata(root.join("state/queue.db")).unwrap().len() as f64 / 1e6;
    Measured { tasks, calls_ms, commands_ms, growth_mb, fill_ms, file_mb }
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e6
}

fn task(root: &Path, n: u32) -> NewTask {
    NewTask {
        id: Some(TaskId::parse(&format!("task-{n}")).unwrap()),
        description: format!("Task {n}: port one more part of the parser to the new grammar"),
        context: Some("The old one is in src/old; keep its tests passing.".into()),
        priority: Priority::Number(n as i32 % 7),
        // A tenth in batches of fifty.
        batch_id: n
            .is_multiple_of(10)
            .then(|| BatchId::parse(&format!("batch-{}-{}", n / 10_000, n % PROJECTS)).unwrap()),
        project: root.join(format!("projects/{}", n % PROJECTS)),
        verify: None,
        after: Vec::new(),
        model: None,
        budget_usd: None,
    }
}

/// Fills it by another process: what that takes of memory is no matter here.
fn fill(root: &Path, tasks: u32) {
    for n in 0..PROJECTS {
        std::fs::create_dir_all(root.join(format!("projects/{n}"))).unwrap();
    }
    for first in (0..tasks).step_by(AT_ONCE as usize) {
        let mut command = Command::new(longhaul());
        command.args(["task", "add", "-"]).current_dir(root.join("projects/0"));
        command.env("LONGHAUL_STATE_DIR", root.join("state")).env_remove("LONGHAUL_RUN");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut input = BufWriter::new(child.stdin.take().unwrap());
        for n in first..tasks.min(first + AT_ONCE) {
            let task = task(root, n);
            let line = serde_json::json!({
                "id": task.id,
                "description": task.description,
                "context": task.context,
                "priority": task.priority,
                "batch_id": task.batch_id,
                "project": task.project,
            });
            writeln!(input, "{line}").unwrap();
        }
        drop(input);
        assert!(child.wait().unwrap().success());
    }
}

fn timed<T>(samples_ms: &mut Vec<f64>, call: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let value = call();
    samples_ms.push(begun.elapsed().as_secs_f64() * 1e3);
    value
}

fn calls(root: &Path, first: u32) -> Vec<(&'static str, Vec<f64>)> {
    let mut store = SqliteStore::open(&root.join("state")).unwrap();
    let [mut add, mut claim, mut list, mut edit, mut settle, mut cancel, mut counts, mut results] =
        std::array::from_fn(|_| Vec::with_capacity(CALLS));
    let page = Filter { limit: 50, ..Filter::default() };
    let last = ResultFilter { limit: 10, ..ResultFilter::default() };
    let change = Change { priority: Some(Priority::High), ..Change::default() };
    for n in 0..CALLS as u32 {
        let new = task(root, first + n + 1);
        let added = timed(&mut add, || store.add(2, vec![new]).unwrap()).remove(0);
        timed(&mut edit, || store.edit(3, &added.id, &change).unwrap());
        timed(&mut list, || store.list(&page).unwrap());
        timed(&mut counts, || store.counts(None).unwrap());
        let taken = timed(&mut claim, || store.claim(4, Uuid::new_v4(), &[], None).unwrap());
        let spell = spell(&taken.unwrap());
        timed(&mut settle, || store.settle(5, &spell).unwrap());
        timed(&mut results, || store.results(&last).unwrap());
        if n.is_multiple_of(2) {
            let new = task(root, first + CALLS as u32 + n + 1);
            let added = store.add(6, vec![new]).unwrap().remove(0);
            timed(&mut cancel, || store.cancel(7, &added.id).unwrap());
        }
    }
    vec![
        ("add", add),
        ("claim", claim),
        ("list, first 50", list),
        ("edit", edit),
        ("settle", settle),
        ("cancel", cancel),
        ("counts", counts),
        ("last 10 results", results),
    ]
}

fn spell(task: &Task) -> Spell {
    Spell {
        task_id: task.id.clone(),
        attempt: task.attempt,
        run_id: task.run_id.unwrap(),
        started_unix_ms: 4,
        ended_unix_ms: 5,
        elapsed_ms: 1,
        tokens: TaskTokens { input: 10, output: 2_000, cache_write: 30_000, cache_read: 400_000 },
        cost_usd: 0.5,
        unpriced_tokens: 0,
        unpriced_usd: 0.0,
        sessions: 1,
        actions: (0..50).map(|n| format!("Edit src/part-{n}.rs")).collect(),
        output: "All of it is ported and the tests pass. ".repeat(20),
        errors: Vec::new(),
        warnings: Vec::new(),
        verify: None,
        sharing: Sharing::default(),
        end: SpellEnd::Done,
    }
}

fn commands(root: &Path) -> Vec<(&'static str, Vec<f64>)> {
    let project = tempfile::tempdir().unwrap();
    let mut measured = Vec::new();
    for (name, arguments) in [
        ("task add", &["task", "add", "one more"][..]),
        ("task list", &["task", "list"]),
        ("task show", &["task", "show", "task-77"]),
    ] {
        let mut samples_ms = Vec::new();
        for _ in 0..COMMANDS {
            let mut command = Command::new(longhaul());
            command.args(arguments).current_dir(project.path());
            command.env("LONGHAUL_STATE_DIR", root.join("state")).env_remove("LONGHAUL_RUN");
            command.stdout(Stdio::null());
            assert!(timed(&mut samples_ms, || command.status().unwrap().success()), "{name}");
        }
        measured.push((name, samples_ms));
    }
    measured
}
