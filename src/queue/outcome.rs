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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::task::{Priority, TaskId, VerifyResult};
    use uuid::Uuid;

    fn task() -> Task {
        Task {
            seq: 1,
            id: TaskId::parse("a").unwrap(),
            description: "do it".into(),
            context: None,
            priority: Priority::Normal,
            batch_id: None,
            batch_position: None,
            project: "/p".into(),
            verify: None,
            after: Vec::new(),
            model: None,
            budget_usd: None,
            state: TaskState::InProgress,
            is_cancelling: false,
            attempt: 2,
            run_id: None,
            spent_usd: 0.0,
            created_unix_ms: 0,
            updated_unix_ms: 0,
            started_unix_ms: Some(500),
        }
    }

    fn spell(n: u32, end: SpellEnd) -> Spell {
        Spell {
            task_id: task().id,
            attempt: 2,
            run_id: Uuid::from_u128(1),
            started_unix_ms: 1_000 * i64::from(n),
            ended_unix_ms: 1_000 * i64::from(n) + 900,
            elapsed_ms: 500,
            tokens: TaskTokens { input: 1, output: 2, cache_write: 3, cache_read: 4 },
            cost_usd: 0.5,
            unpriced_tokens: 7,
            unpriced_usd: 0.0,
            sessions: n,
            actions: (0..600).map(|at| format!("{n}/{at}")).collect(),
            output: if n == 2 { " ".into() } else { "the words".into() },
            errors: vec![format!("error {n}")],
            warnings: vec![format!("warning {n}")],
            verify: (n == 1).then(|| VerifyResult { command: "true".into(), passed: Some(false) }),
            sharing: Sharing {
                is_shared: n == 1,
                saved_tokens: 10,
                extra_cache_read_tokens: u64::from(n),
            },
            end,
        }
    }

    #[test]
    fn a_result_is_the_sum_of_its_spells() {
        let spells = [
            spell(1, SpellEnd::Released { why: "stopped".into() }),
            spell(2, SpellEnd::Error { why: "it broke".into() }),
        ];
        let result = result_of(&task(), &spells, TaskState::Error, 2_900, None);
        assert_eq!((result.status, result.attempt), (TaskState::Error, 2));
        assert_eq!(result.started_at.as_deref(), Some("1970-01-01T00:00:01.000Z"));
        assert_eq!(result.ended_at.as_deref(), Some("1970-01-01T00:00:02.900Z"));
        assert_eq!((result.execution_time_seconds, result.cost_usd), (1.0, 1.0));
        assert_eq!((result.sessions, result.unpriced_tokens), (3, 14));
        let tokens = TaskTokens { input: 2, output: 4, cache_write: 6, cache_read: 8 };
        assert_eq!(result.tokens, tokens);
        assert_eq!(result.actions_taken.len(), MAX_ACTIONS);
        assert_eq!(result.actions_taken.last().map(String::as_str), Some("2/599"), "the newest");
        assert_eq!(result.output, "the words", "blank words are none");
        assert_eq!(result.errors, ["error 1", "error 2", "it broke"]);
        assert_eq!(result.warnings, ["warning 1", "warning 2"]);
        assert_eq!(result.verify.and_then(|said| said.passed), Some(false));
        let sharing = Sharing { is_shared: true, saved_tokens: 20, extra_cache_read_tokens: 3 };
        assert_eq!(result.sharing, sharing);
        assert_eq!(result.runs, [Uuid::from_u128(1)], "each once");
    }

    #[test]
    fn what_never_ran_has_an_empty_result() {
        let never = Task { started_unix_ms: None, ..task() };
        let result = result_of(&never, &[], TaskState::Blocked, 7, Some("it waits"));
        assert_eq!((result.started_at, result.cost_usd), (None, 0.0));
        assert_eq!((result.errors, result.runs.len()), (vec!["it waits".to_owned()], 0));
    }

    #[test]
    fn the_first_of_those_that_failed_is_named() {
        assert_eq!(
            dependency_error("a", "a", TaskState::Error),
            "the task waits for a, which ended in error"
        );
        assert_eq!(
            dependency_error("b", "a", TaskState::Cancelled),
            "the task waits for b, which is blocked because a was cancelled"
        );
    }
}
