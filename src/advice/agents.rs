//! The files that define the kinds of agents that threads name, of their projects and of the
//! person. Kinds that Claude Code brings along have none.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::observe::thread::Thread;

/// The head of such a file is not longer, bytes.
const HEAD_BYTES: u64 = 16 << 10;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentFile {
    pub path: PathBuf,
    /// It belongs to the project, and not to the person.
    pub is_of_project: bool,
    /// The lines of its head that say so, as they stand.
    pub name_line: Option<String>,
    pub model_line: Option<String>,
}

/// All of them, by project and name.
#[derive(Debug, Clone, Default)]
pub(crate) struct AgentFiles(HashMap<(String, String), AgentFile>);

impl AgentFiles {
    /// Those of the agents of these threads. `config_dirs` are those of Claude Code.
    pub(crate) fn of(threads: &[Thread], config_dirs: &[PathBuf]) -> Self {
        let mut files = HashMap::new();
        for thread in threads {
            let Some(name) = thread.agent.as_deref().filter(|name| is_name(name)) else { continue };
            let key = (thread.project.clone(), name.to_owned());
            if files.contains_key(&key) {
                continue;
            }
            if let Some(file) = find(Path::new(&thread.project), name, config_dirs) {
                files.insert(key, file);
            }
        }
        Self(files)
    }

    pub(super) fn get(&self, project: &str, name: &str) -> Option<&AgentFile> {
        self.0.get(&(project.to_owned(), name.to_owned()))
    }
}

/// Can it be the name of a file?
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// A session may work below the root of its project.
fn find(project: &Path, name: &str, config_dirs: &[PathBuf]) -> Option<AgentFile> {
    let is_of_person = |dir: &PathBuf| config_dirs.contains(dir);
    let above = project.ancestors().filter(|_| project.is_absolute());
    let of_project = above.map(|dir| dir.join(".claude")).filter(|dir| !is_of_person(dir));
    let of_person = config_dirs.iter().cloned();
    let all = of_project.map(|dir| (dir, true)).chain(of_person.map(|dir| (dir, false)));
    all.into_iter().find_map(|(dir, is_of_project)| {
        let path = dir.join("agents").join(format!("{name}.md"));
        if !path.is_file() {
            return None;
        }
        let mut head = Vec::new();
        File::open(&path).ok()?.take(HEAD_BYTES).read_to_end(&mut head).ok()?;
        let head = String::from_utf8_lossy(&head);
        let lines = head.lines().skip(1).take_while(|line| line.trim_end() != "---");
        let line = |key: &str| lines.clone().find(|line| line.starts_with(key)).map(str::to_owned);
        let (name_line, model_line) = (line("name:"), line("model:"));
        Some(AgentFile { path, is_of_project, name_line, model_line })
    })
}
