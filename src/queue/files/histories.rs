//! Random histories: they edit the file, we change the queue, and longhaul dies
//! between any two steps of a sync. No task is lost, none is accepted or cancelled
//! twice, and each edit is made once or put aside.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::Lab;
use super::{Patience, QUEUE, RESULTS, shape};
use crate::queue::store::{Change, Filter, Store};
use crate::queue::task::{TaskId, TaskState};

#[derive(Debug, Clone)]
enum Op {
    TheyAdd,
    TheyEdit(usize),
    TheyCancel(usize),
    TheyRemove(usize),
    TheyAskTooMuch(usize),
    TheyTear,
    TheyDelete,
    TheyDropTheNumber,
    TheyCopy,
    /// The copy comes back, with a new task in it.
    TheyWriteTheCopy,
    /// Somebody opens the file and reads it.
    TheyOpen,
    /// He writes what he read, and a new task, in the same place, and closes it.
    TheyWriteInPlace,
    WeAdd,
    WeEdit(usize),
    WeStart(usize),
    WeFinish(usize),
    WeCancel(usize),
    WeRetry(usize),
    WeArchive,
    Sync,
    Crash(Crash),
}

/// Where longhaul dies.
#[derive(Debug, Clone, Copy)]
enum Crash {
    /// At the so manieth call of the store.
    AtCall(u32),
    /// The new version was remembered, and does not stand there yet.
    BeforeTheFile,
    /// The same, half of it written beside the file.
    WithHalfAFile,
    /// The same, all of it.
    WithAWholeFile,
    /// The new file stands there, and nobody noted it.
    AfterTheFile,
    /// The same, and what was there before lies beside it.
    WithTheOldFile,
}

fn op() -> impl Strategy<Value = Op> {
    // Few, so that all that happens happens to the same tasks.
    let n = 0_usize..3;
    let crash = prop_oneof![
        4 => (0_u32..24).prop_map(Crash::AtCall),
        1 => Just(Crash::BeforeTheFile),
        1 => Just(Crash::WithHalfAFile),
        1 => Just(Crash::WithAWholeFile),
        1 => Just(Crash::AfterTheFile),
        1 => Just(Crash::WithTheOldFile),
    ];
    prop_oneof![
        1 => Just(Op::TheyAdd),
        4 => n.clone().prop_map(Op::TheyEdit),
        2 => n.clone().prop_map(Op::TheyCancel),
        2 => n.clone().prop_map(Op::TheyRemove),
        1 => n.clone().prop_map(Op::TheyAskTooMuch),
        1 => Just(Op::TheyTear),
        1 => Just(Op::TheyDelete),
        1 => Just(Op::TheyDropTheNumber),
        1 => Just(Op::TheyCopy),
        2 => Just(Op::TheyWriteTheCopy),
        2 => Just(Op::TheyOpen),
        2 => Just(Op::TheyWriteInPlace),
        1 => Just(Op::WeAdd),
        2 => n.clone().prop_map(Op::WeEdit),
        2 => n.clone().prop_map(Op::WeStart),
        3 => n.clone().prop_map(Op::WeFinish),
        1 => n.clone().prop_map(Op::WeCancel),
        2 => n.prop_map(Op::WeRetry),
        1 => Just(Op::WeArchive),
        6 => Just(Op::Sync),
        6 => crash.prop_map(Op::Crash),
    ]
}

/// What they did to the file since the last sync that came to its end.
#[derive(Debug, Clone)]
enum Asked {
    New(String),
    Words(String, String),
    Gone(String, u64),
}

struct History {
    lab: Lab,
    next: u32,
    /// All ids that ever stood in a whole file before a sync, or were added by us.
    accepted: BTreeSet<String>,
    may_be_cancelled: BTreeSet<String>,
    pending: Vec<Asked>,
    /// The file lost its number in a moment when it was not known which one it had:
    /// what is gone from it may never have stood there.
    is_doubtful: bool,
    copy: Option<Value>,
    open: Option<(fs::File, Value)>,
}

impl History {
    fn new() -> Self {
        Self {
            lab: Lab::new(),
            next: 0,
            accepted: BTreeSet::new(),
            may_be_cancelled: BTreeSet::new(),
            pending: Vec::new(),
            is_doubtful: false,
            copy: None,
            open: None,
        }
    }

    fn fresh(&mut self, what: &str) -> String {
        self.next += 1;
        format!("{what}{}", self.next)
    }

    /// The file as a script reads it, if it can.
    fn file(&self) -> Option<Value> {
        let file: Value = serde_json::from_slice(&fs::read(self.lab.path(QUEUE)).ok()?).ok()?;
        file["tasks"].as_object()?;
        Some(file)
    }

    fn edit_file(&mut self, edit: impl FnOnce(&mut Self, &mut Value)) {
        if let Some(mut file) = self.file() {
            edit(self, &mut file);
            fs::write(self.lab.path(QUEUE), file.to_string()).unwrap();
        }
    }

    fn pick(file: &Value, n: usize) -> Option<String> {
        let ids: Vec<&String> = file["tasks"].as_object()?.keys().collect();
        ids.get(n % ids.len().max(1)).map(|id| (*id).clone())
    }

    fn ours(&self, n: usize, state: TaskState) -> Option<String> {
        let of: Vec<_> = self.lab.store.tasks.iter().filter(|t| t.state == state).collect();
        of.get(n % of.len().max(1)).map(|task| task.id.to_string())
    }

    fn forget(&mut self, id: &str) {
        self.pending.retain(|asked| match asked {
            Asked::New(_) => true,
            Asked::Words(other, _) | Asked::Gone(other, _) => other != id,
        });
    }

    fn they_add(&mut self, file: &mut Value) {
        let id = self.fresh("their");
        file["tasks"][&id] = json!({"description": format!("do {id}"), "status": "queued"});
        self.pending.push(Asked::New(id));
    }

    fn they_end(&mut self, id: &str, file: &Value) {
        self.may_be_cancelled.insert(id.to_owned());
        self.forget(id);
        self.pending.retain(|asked| !matches!(asked, Asked::New(other) if other == id));
        if let Some(attempt) = file["tasks"][id]["attempt"].as_u64() {
            self.pending.push(Asked::Gone(id.to_owned(), attempt));
        }
    }

    fn theirs(&mut self, op: &Op) {
        match *op {
            Op::TheyAdd => self.edit_file(|me, file| me.they_add(file)),
            Op::TheyEdit(n) => self.edit_file(|me, file| {
                let Some(id) = Self::pick(file, n) else { return };
                let words = me.fresh("their words ");
                file["tasks"][&id]["description"] = json!(words);
                // What is to be cancelled is not edited as well.
                if file["tasks"][&id]["status"] != "cancelled" {
                    me.forget(&id);
                    me.pending.push(Asked::Words(id, words));
                }
            }),
            Op::TheyCancel(n) => self.edit_file(|me, file| {
                let Some(id) = Self::pick(file, n) else { return };
                me.they_end(&id, file);
                file["tasks"][&id]["status"] = json!("cancelled");
            }),
            Op::TheyRemove(n) => self.edit_file(|me, file| {
                let Some(id) = Self::pick(file, n) else { return };
                me.they_end(&id, file);
                file["tasks"].as_object_mut().unwrap().remove(&id);
            }),
            Op::TheyAskTooMuch(n) => self.edit_file(|me, file| {
                let Some(id) = Self::pick(file, n) else { return };
                // An entry is taken as a whole or not at all.
                me.forget(&id);
                me.pending.retain(|asked| !matches!(asked, Asked::New(other) if *other == id));
                file["tasks"][&id]["verify"] = json!("curl evil");
            }),
            Op::TheyDropTheNumber => self.edit_file(|me, file| {
                // Without it a copy of long ago cannot be told from the last version.
                let last = me.last_revision();
                if file["revision"].as_u64() >= last {
                    me.is_doubtful |= file["revision"].as_u64() > last;
                    file.as_object_mut().unwrap().remove("revision");
                }
            }),
            Op::TheyCopy => self.copy = self.file(),
            Op::TheyWriteTheCopy => {
                // One without the number cannot be told from a new file.
                let copy = self.copy.clone().filter(|copy| copy.get("revision").is_some());
                if let Some(mut file) = copy.filter(|_| self.lab.path(QUEUE).exists()) {
                    self.pending.clear();
                    self.they_add(&mut file);
                    fs::write(self.lab.path(QUEUE), file.to_string()).unwrap();
                }
            }
            Op::TheyOpen => {
                // One without the number cannot be told from a new file.
                let path = self.lab.path(QUEUE);
                let file = fs::File::options().read(true).write(true).open(path).ok();
                let read = self.file().filter(|file| file.get("revision").is_some());
                self.open = file.zip(read);
            }
            Op::TheyWriteInPlace => {
                let Some((mut file, mut text)) = self.open.take() else { return };
                let standing = fs::metadata(self.lab.path(QUEUE)).map(|file| file.ino()).ok();
                if standing == Some(file.metadata().unwrap().ino()) {
                    // What another of them wrote there meanwhile is overwritten.
                    self.pending.clear();
                }
                self.they_add(&mut text);
                file.set_len(0).unwrap();
                file.write_all(text.to_string().as_bytes()).unwrap();
            }
            Op::TheyTear => {
                self.open = None;
                if let Ok(text) = fs::read(self.lab.path(QUEUE)) {
                    self.pending.clear();
                    fs::write(self.lab.path(QUEUE), &text[..text.len() / 2]).unwrap();
                }
            }
            _ => {
                self.open = None;
                self.pending.clear();
                let _ = fs::remove_file(self.lab.path(QUEUE));
            }
        }
    }

    fn ourselves(&mut self, op: &Op) {
        let now = self.lab.now;
        let id = |id: String| TaskId::parse(&id).unwrap();
        match *op {
            Op::WeAdd => {
                let name = self.fresh("our");
                self.lab.add(&name, &format!("do {name}"));
                self.accepted.insert(name);
            }
            Op::WeEdit(n) => {
                if let Some(task) = self.ours(n, TaskState::Queued) {
                    let description = Some(self.fresh("our words "));
                    let change = Change { description, ..Change::default() };
                    self.lab.store.edit(now, &id(task), &change).unwrap();
                }
            }
            Op::WeStart(n) => {
                if let Some(task) = self.ours(n, TaskState::Queued) {
                    self.lab.store.start(&task);
                }
            }
            Op::WeFinish(n) => {
                if let Some(task) = self.ours(n, TaskState::InProgress) {
                    let is_ended = self.lab.store.get(&task).is_cancelling;
                    let states = [TaskState::Done, TaskState::Error, TaskState::Blocked];
                    let state = if is_ended { TaskState::Cancelled } else { states[n % 3] };
                    self.lab.store.finish(&task, state, now);
                }
            }
            Op::WeCancel(n) => {
                if let Some(task) = self.ours(n, TaskState::Queued) {
                    self.may_be_cancelled.insert(task.clone());
                    self.lab.store.cancel(now, &id(task)).unwrap();
                }
            }
            Op::WeRetry(n) => {
                let over = [TaskState::Error, TaskState::Cancelled, TaskState::Blocked];
                if let Some(task) = self.ours(n, over[n % 3]) {
                    self.lab.store.retry(now, &id(task)).unwrap();
                }
            }
            _ => {
                self.lab.store.archive(&self.lab.project, now, 3).unwrap();
            }
        }
    }

    fn seen(&self) -> PathBuf {
        let inner = |path: PathBuf| fs::read_dir(path).unwrap().next().unwrap().unwrap().path();
        inner(inner(self.lab.state.join("queue-files"))).join("seen.json")
    }

    fn last_revision(&self) -> Option<u64> {
        let seen: Value = serde_json::from_slice(&fs::read(self.seen()).ok()?).ok()?;
        seen["revision"].as_u64()
    }

    fn crash(&mut self, crash: Crash) {
        if let Crash::AtCall(calls) = crash {
            self.lab.store.fuse = Some(calls);
            let synced = self.lab.try_sync(Patience::Wait);
            self.lab.store.fuse = None;
            if synced.is_ok() {
                self.settled();
            }
            return;
        }
        let path = self.lab.path(QUEUE);
        let Ok(old) = fs::read(&path) else { return self.sync() };
        let seen = self.lab.state.join("queue-files").exists().then(|| self.seen());
        let seen = seen.and_then(|path| Some((fs::read(&path).ok()?, path)));
        self.lab.sync();
        match seen {
            Some((seen, path)) => fs::write(path, seen).unwrap(),
            None => fs::remove_file(self.seen()).unwrap(),
        }
        let new = fs::read(&path).unwrap();
        let beside = path.with_file_name(format!(".{QUEUE}.{:032x}.tmp", 10));
        match crash {
            Crash::AtCall(_) | Crash::AfterTheFile => {}
            Crash::BeforeTheFile => fs::write(&path, old).unwrap(),
            Crash::WithHalfAFile => {
                fs::write(&path, old).unwrap();
                fs::write(beside, &new[..new.len() / 2]).unwrap();
            }
            Crash::WithAWholeFile => {
                fs::write(&path, old).unwrap();
                fs::write(beside, new).unwrap();
            }
            Crash::WithTheOldFile => fs::write(beside, old).unwrap(),
        }
    }

    fn sync(&mut self) {
        let synced = self.lab.sync();
        assert!(!synced.is_unsettled, "{synced:?}");
        self.settled();
    }

    fn put_aside(&self) -> String {
        let mut all = String::new();
        for entry in fs::read_dir(self.lab.path("")).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.to_str().unwrap().contains(".rejected-") {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
        all
    }

    /// A sync came to its end: whatever was asked has been answered.
    fn settled(&mut self) {
        let put_aside = self.put_aside();
        let is_doubtful = std::mem::take(&mut self.is_doubtful);
        for asked in std::mem::take(&mut self.pending) {
            match asked {
                Asked::New(id) => {
                    assert!(self.lab.store.accepted.contains(&id), "{id} is lost");
                    self.accepted.insert(id);
                }
                Asked::Words(id, words) => {
                    let is_new = self.lab.store.tasks.iter().any(|t| t.description == words);
                    let is_made = self.edits_of(&words) == 1 || is_new;
                    assert!(is_made || put_aside.contains(&words), "{id}: {words} are lost");
                }
                Asked::Gone(..) if is_doubtful => {}
                Asked::Gone(id, attempt) => {
                    let task = self.lab.store.get(&id);
                    let is_over = task.state.is_over() || task.is_cancelling;
                    assert!(
                        is_over || u64::from(task.attempt) != attempt,
                        "{id} was not cancelled"
                    );
                }
            }
        }
        self.check();
    }

    fn edits_of(&self, words: &str) -> usize {
        let edits = self.lab.store.edits.iter();
        edits.filter(|(_, change)| change.description.as_deref() == Some(words)).count()
    }

    fn check(&self) {
        let store = &self.lab.store;
        let all: BTreeSet<&String> = store.accepted.iter().collect();
        assert_eq!(all.len(), store.accepted.len(), "accepted twice");
        for id in &self.accepted {
            assert!(all.contains(id), "{id} is lost");
        }
        let cancels: BTreeSet<_> = store.cancels.iter().collect();
        assert_eq!(cancels.len(), store.cancels.len(), "cancelled twice: {:?}", store.cancels);
        for (id, _) in &store.cancels {
            assert!(self.may_be_cancelled.contains(id), "nobody wanted {id} cancelled");
        }
        let words: BTreeSet<_> = store.edits.iter().map(|(_, c)| &c.description).collect();
        assert_eq!(words.len(), store.edits.len(), "edited twice: {:?}", store.edits);
    }

    fn end(&mut self) {
        self.open = None;
        self.sync();
        self.sync();
        if self.lab.store.tasks.is_empty() {
            return;
        }
        let open = vec![TaskState::InProgress, TaskState::Queued];
        let filter = Filter { states: open, limit: 500, ..Filter::default() };
        let tasks = self.lab.store.list(&filter).unwrap();
        let shown: Vec<String> = tasks.iter().map(|task| task.id.to_string()).collect();
        assert_eq!(self.lab.ids(), shown);
        for task in &tasks {
            let entry = &self.lab.json(QUEUE)["tasks"][task.id.as_str()];
            assert_eq!(entry["description"], *task.description);
        }
        let results = self.lab.json(RESULTS);
        for (result, _, archived) in &self.lab.store.results {
            let is_shown = results["results"].get(result.task_id.as_str()).is_some();
            assert!(is_shown || *archived, "the result of {}", result.task_id);
        }
        let left = fs::read_dir(self.lab.path("")).unwrap().map(|entry| entry.unwrap().path());
        let left: Vec<_> =
            left.filter(|path| path.extension().is_some_and(|e| e == "tmp")).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    fn play(&mut self, op: &Op) {
        match op {
            Op::Sync => self.sync(),
            Op::Crash(crash) => self.crash(*crash),
            Op::WeAdd
            | Op::WeEdit(_)
            | Op::WeStart(_)
            | Op::WeFinish(_)
            | Op::WeCancel(_)
            | Op::WeRetry(_)
            | Op::WeArchive => self.ourselves(op),
            _ => self.theirs(op),
        }
    }
}

fn cases(many: u32) -> ProptestConfig {
    let long = std::env::var_os("LONGHAUL_TORTURE").is_some_and(|word| word == "long");
    ProptestConfig { cases: if long { many * 50 } else { many }, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn nothing_is_lost_and_nothing_happens_twice(ops in prop::collection::vec(op(), 1..50)) {
        let mut history = History::new();
        for op in &ops {
            history.play(op);
        }
        history.end();
    }
}

/// Something like a queue file, of any depth.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        prop::sample::select(vec!["queued", "cancelled", "done", "low", "batch_1", "a", ""])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let names = vec![
            "tasks",
            "a",
            "description",
            "context",
            "priority",
            "batch_id",
            "status",
            "revision",
            "verify",
            "after",
            "budget_usd",
            "task_id",
            "omitted",
            "attempt",
            "model",
        ];
        let name =
            prop_oneof![4 => prop::sample::select(names).prop_map(str::to_owned), 1 => ".{0,6}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(name, inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Mostly tasks; what is something else has to be waited for.
fn tasks() -> impl Strategy<Value = Value> {
    let id = prop::sample::select(vec!["a", "b", "c", "--", ""]).prop_map(str::to_owned);
    let by_id = prop::collection::hash_map(id, any_json(), 0..5);
    prop_oneof![
        9 => by_id.prop_map(|map| Value::Object(map.into_iter().collect())),
        1 => any_json(),
    ]
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn whatever_is_written_is_answered(tasks in tasks(), is_marked in any::<bool>(), cut in 0_usize..400) {
        let mut lab = Lab::new();
        lab.add("a", "do a");
        lab.sync_well();
        let revision = lab.json(QUEUE)["revision"].clone();
        let mut file = json!({"tasks": tasks});
        if is_marked {
            file["revision"] = revision;
        }
        let mut text = file.to_string().into_bytes();
        if cut < 40 {
            text.truncate(text.len() * cut / 40);
        }
        fs::write(lab.path(QUEUE), &text).unwrap();
        let synced = lab.sync();
        prop_assert!(!synced.is_unsettled);
        prop_assert!(lab.sync().problems.is_empty(), "told once");
        prop_assert!(lab.store.tasks.iter().all(|task| task.verify.is_none()));
        prop_assert!(lab.store.tasks.iter().all(|task| task.after.is_empty()));
        let dir = lab.project.clone();
        let _ = super::import::read(&text, &dir, cut % 2 == 0);
    }

    #[test]
    fn bytes_that_are_nothing_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = shape::Theirs::parse(&bytes);
        let _ = super::import::read(&bytes, std::path::Path::new("/"), true);
    }
}

#[test]
fn depth_and_number_are_bounded() {
    let deep = format!("{{\"tasks\": {{\"a\": {}{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
    let many: Vec<String> = (0..20_001).map(|n| format!("\"{n}\": {{}}")).collect();
    let many = format!("{{\"tasks\": {{{}}}}}", many.join(","));
    assert!(shape::Theirs::parse(many.as_bytes()).unwrap_err().contains("more than 20000"));
    let mut lab = Lab::new();
    lab.add("a", "do a");
    lab.sync_well();
    fs::write(lab.path(QUEUE), deep).unwrap();
    let synced = lab.sync();
    assert!(synced.problems.to_vec()[0].contains("a: the entry is no JSON object"), "{synced:?}");
    let long =
        json!({"tasks": {"b": {"description": "x".repeat(2 << 20)}, "a": {"description": "do a"}}});
    fs::write(lab.path(QUEUE), long.to_string()).unwrap();
    let synced = lab.sync();
    assert!(synced.problems.to_vec()[0].contains("more than 1048576"), "{synced:?}");
    assert_eq!(lab.ids(), ["a"]);
}
