//! Tasks of the queue that ran one soon after the other in one project, each in a session
//! of its own: what the later ones loaded before their first change.

use std::collections::{BTreeMap, HashMap};

use super::handoff;
use super::seen::{Found, NAMED_MAX, Seen, Stake};
use super::{Advised, Basis, Topic};
use crate::observe::thread::Thread;
use crate::observe::{Execution, Kind};
use crate::text;

#[derive(Default)]
struct Project {
    tasks: u64,
    stake: Stake,
    pairs: Vec<String>,
}

pub(super) fn look(seen: &Seen<'_>, advised: &mut Advised) {
    let mut tasks: Vec<&Execution> = seen
        .tasks
        .iter()
        .filter(|task| task.kind == Kind::Task && !task.sessions.is_empty())
        .collect();
    tasks.sort_by_key(|task| (&task.project, task.started_at.unix_ms, &task.id));
    let mut projects: BTreeMap<&str, Project> = BTreeMap::new();
    for task in &tasks {
        projects.entry(&task.project).or_default();
    }
    let mut main: HashMap<&str, &Thread> = HashMap::new();
    for thread in seen.threads.iter().filter(|thread| thread.agent.is_none()) {
        main.entry(&thread.session).or_insert(thread);
    }
    for pair in tasks.windows(2) {
        let (earlier, task) = (pair[0], pair[1]);
        if !could_share(earlier, task, seen.config.batch_within_ms) {
            continue;
        }
        let first = &task.sessions[0];
        let thread = main.get(first.as_str()).copied();
        let Some(loaded) = thread.and_then(handoff::of_thread) else { continue };
        let project = projects.entry(&task.project).or_default();
        project.tasks += 1;
        project.stake.add(loaded);
        project.pairs.push(format!(
            "{} after {}: {} tokens, session {first}",
            task.id,
            earlier.id,
            text::grouped(loaded.tokens)
        ));
    }
    for (name, project) in projects {
        tell(seen, name, project, advised);
    }
}

fn could_share(earlier: &Execution, task: &Execution, within_ms: u64) -> bool {
    let Some(ended) = earlier.ended_at else { return false };
    let is_near = match u64::try_from(task.started_at.unix_ms - ended.unix_ms) {
        Ok(after_ms) => after_ms <= within_ms,
        Err(_) => true,
    };
    let is_another = earlier.task_id != task.task_id;
    let is_apart = task.sessions.iter().all(|session| !earlier.sessions.contains(session));
    earlier.project == task.project && is_near && is_another && is_apart
}

fn tell(seen: &Seen<'_>, name: &str, project: Project, advised: &mut Advised) {
    let key = format!("batching:{name}");
    advised.measure(Topic::Batching, &key, project.tasks as f64, "tasks in sessions of their own");
    if project.stake.tokens == 0 {
        return;
    }
    advised.recommend(Found {
        topic: Topic::Batching,
        key,
        description: format!(
            "{} of {name} began in a session of its own within {} of the one before; in a batch \
             they share sessions and load once.",
            text::count(project.tasks, "task", "tasks"),
            text::about(seen.config.batch_within_ms)
        ),
        proposed_change: "Add tasks that belong together with the same batch: `longhaul task add \
                          --batch NAME \"...\"`."
            .to_owned(),
        stake: project.stake,
        basis: Basis::Estimated,
        evidence: project.pairs.into_iter().take(NAMED_MAX).collect(),
    });
}
