//! From the spells of an attempt to its one result. Pure.

use super::store::{Spell, SpellEnd};
use super::task::{Sharing, Task, TaskResult, TaskState, TaskTokens};
use crate::clock;

/// Most lines of `actions_taken`; the oldest go first.
const MAX_ACTIONS: usize = 1_000;

/// The result of the present attempt at `task`, which ended as `status`; `why` is
/// what nobody else has said among the errors.
pub(super) fn result_of(
    task: &Task,
    spells: &[Spell],
    status: TaskState,
    ended_unix_ms: i64,
    why: Option<&str>,
) -> TaskResult {
    let started = spells.iter().map(|s| s.started_unix_ms).min().or(task.started_unix_ms);
    let elapsed_ms = spells.iter().fold(0_u64, |sum, s| sum.saturating_add(s.elapsed_ms));
    let mut actions: Vec<String> = spells.iter().flat_map(|s| s.actions.iter().cloned()).collect();
    actions.drain(..actions.len().saturating_sub(MAX_ACTIONS));
    let mut errors: Vec<String> = spells.iter().flat_map(|s| s.errors.iter().cloned()).collect();
    let said = why.or(spells.last().and_then(|s| why_of(&s.end)));
    errors.extend(said.filter(|why| !errors.iter().any(|e| e == why)).map(str::to_owned));
    let output = spells.iter().rev().map(|s| &s.output).find(|text| !text.trim().is_empty());
    let mut runs = Vec::new();
    for spell in spells {
        if !runs.contains(&spell.run_id) {
            runs.push(spell.run_id);
        }
    }
    TaskResult {
        task_id: task.id.clone(),
        status,
        batch_id: task.batch_id.clone(),
        batch_position: task.batch_position,
        started_at: started.map(clock::rfc3339),
        ended_at: Some(clock::rfc3339(ended_unix_ms)),
        execution_time_seconds: elapsed_ms as f64 / 1_000.0,
        tokens: spells.iter().fold(TaskTokens::default(), |sum, s| sum.plus(s.tokens)),
        cost_usd: spells.iter().map(|s| s.cost_usd).sum::<f64>() + 0.0,
        unpriced_tokens: spells.iter().fold(0, |sum: u64, s| sum.saturating_add(s.unpriced_tokens)),
        sessions: spells.iter().fold(0, |sum: u32, s| sum.saturating_add(s.sessions)),
        actions_taken: actions,
        output: output.cloned().unwrap_or_default(),
        errors,
        warnings: spells.iter().flat_map(|s| s.warnings.iter().cloned()).collect(),
        verify: spells.iter().rev().find_map(|s| s.verify.clone()),
        sharing: sharing_of(spells),
        attempt: task.attempt,
        project: task.project.clone(),
        runs,
    }
}

fn why_of(end: &SpellEnd) -> Option<&str> {
    match end {
        SpellEnd::Done | SpellEnd::Released { .. } => None,
        SpellEnd::Error { why } | SpellEnd::Blocked { why } => {
            Some(why.as_str()).filter(|why| !why.trim().is_empty())
        }
    }
}

fn sharing_of(spells: &[Spell]) -> Sharing {
    let sum = |of: fn(&Sharing) -> u64| {
        spells.iter().fold(0_u64, |sum, s| sum.saturating_add(of(&s.sharing)))
    };
    Sharing {
        is_shared: spells.first().is_some_and(|s| s.sharing.is_shared),
        saved_tokens: sum(|s| s.saved_tokens),
        extra_cache_read_tokens: sum(|s| s.extra_cache_read_tokens),
    }
}

/// Why a task is blocked that waits for `direct`, because `root` ended as `state`.
pub(super) fn dependency_error(direct: &str, root: &str, state: TaskState) -> String {
    let how = match state {
        TaskState::Error => "ended in error",
        TaskState::Cancelled => "was cancelled",
        _ => "is blocked",
    };
    if direct == root {
        format!("the task waits for {root}, which {how}")
    } else {
        format!("the task waits for {direct}, which is blocked because {root} {how}")
    }
}
