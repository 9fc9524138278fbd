//! The queue of a laboratory.

use std::path::PathBuf;

use longhaul::clock::Timestamp;
use longhaul::demo::api::Request;
use longhaul::queue::draft::Draft;
use longhaul::queue::{SqliteStore, Store, Task, TaskId, TaskResult};
use serde_json::Value;

use super::{Lab, Run};

impl Lab {
    /// The queue itself.
    pub fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.state_dir()).unwrap()
    }

    /// Adds a task, given as its JSON.
    pub fn add(&self, task: Value) -> Task {
        let draft: Draft = serde_json::from_value(task).unwrap();
        let new = draft.check(&self.project()).unwrap();
        self.store().add(Timestamp::now().unix_ms, vec![new]).unwrap().remove(0)
    }

    /// `longhaul queue run --json`, with more arguments.
    pub fn queue_run(&self, more: &[&str]) -> Run {
        let project = self.project().display().to_string();
        let mut args = vec!["queue", "run", "--json", "--project", &project];
        args.extend(more);
        self.longhaul(&args)
    }

    /// The result of a task.
    pub fn result(&self, id: &str) -> TaskResult {
        self.store().result(&TaskId::parse(id).unwrap()).unwrap().expect("it has no result")
    }

    /// Another project like the first, trusted as well.
    pub fn another_project(&self, name: &str) -> PathBuf {
        let place = self.root().join(name);
        copy(&self.project(), &place);
        self.home.trust(&place).unwrap();
        place
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &place),
            false => {
                std::fs::copy(entry.path(), place).unwrap();
            }
        }
    }
}

/// The id of the task that this conversation was told last.
pub fn task_of(request: &Request) -> String {
    const BEFORE: &str = "Your task now is ";
    let texts = request.turns.iter().flat_map(|turn| &turn.texts);
    let told = texts.filter_map(|text| text.split_once(BEFORE)).next_back();
    let rest = told.map_or("", |(_, rest)| rest);
    rest.split_once(',').map_or("", |(id, _)| id).to_owned()
}
