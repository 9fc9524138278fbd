//! Which marks of budgets a person has heard of, from whatever run: a night of the queue
//! has many, and each finds most of the day's money spent; a task may have several.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cycle::budget::{Mark, Scope};
use crate::state_dir::{self, FILE_MODE, read_small_json};

/// Larger than the file can become.
const FILE_MAX_BYTES: u64 = 64 << 10;
/// Budgets of one scope that are remembered: each project may have another one.
const EACH_MAX: usize = 64;

/// The highest mark that was told of a budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Told {
    scope: Scope,
    period: Option<String>,
    #[serde(default)]
    attempt: u32,
    budget_usd: f64,
    percent: u16,
}

/// One for each budget of a scope, the newest last.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Heard {
    told: Vec<Told>,
}

impl Heard {
    /// Notes a mark. True if nobody has heard of it, nor of a higher one of this budget in
    /// this period.
    fn note(&mut self, mark: &Mark) -> bool {
        let new = Told {
            scope: mark.scope,
            period: mark.period.clone(),
            attempt: mark.attempt,
            budget_usd: mark.budget_usd,
            percent: mark.percent,
        };
        let is_same = |told: &Told| Told { percent: new.percent, ..told.clone() } == new;
        let is_known = self.told.iter().any(|told| is_same(told) && told.percent >= new.percent);
        if !is_known {
            // Nobody asks about a day, a month or an attempt that is over.
            let is_over = |told: &Told| {
                told.scope == new.scope
                    && match told.scope {
                        Scope::Task => told.period == new.period && told.attempt < new.attempt,
                        Scope::Day | Scope::Month => told.period < new.period,
                    }
            };
            self.told.retain(|told| !is_same(told) && !is_over(told));
            let of_scope = |told: &Told| told.scope == new.scope;
            if self.told.iter().filter(|told| of_scope(told)).count() >= EACH_MAX
                && let Some(oldest) = self.told.iter().position(of_scope)
            {
                self.told.remove(oldest);
            }
            self.told.push(new);
        }
        !is_known
    }
}

/// Is a person to hear of this mark? It is noted below `state_dir` that they did; where
/// that cannot be done, they hear of it once more.
pub fn is_news(state_dir: &Path, mark: &Mark) -> bool {
    if mark.scope == Scope::Task && mark.period.is_none() {
        // Another run has another one.
        return true;
    }
    let file = file(state_dir);
    let mut heard = read(&file);
    let is_news = heard.note(mark);
    if is_news && let Ok(text) = serde_json::to_vec(&heard) {
        let _ = state_dir::write_unsynced(&file, &text, FILE_MODE);
    }
    is_news
}

/// The highest mark that a person has heard of this budget of a task of the queue, from
/// this attempt at it; 0: none.
pub fn of_task(state_dir: &Path, task: &str, attempt: u32, budget_usd: f64) -> u16 {
    let is_it = |told: &&Told| {
        (told.scope, told.period.as_deref(), told.attempt) == (Scope::Task, Some(task), attempt)
            && told.budget_usd == budget_usd
    };
    read(&file(state_dir)).told.iter().find(is_it).map_or(0, |told| told.percent)
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("budgets-told.json")
}

fn read(file: &Path) -> Heard {
    read_small_json(file, FILE_MAX_BYTES).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::budget::Money;

    fn mark(scope: Scope, period: &str, percent: u16, budget_usd: f64) -> Mark {
        let (period, spent) = (Some(period.to_owned()), Money::default());
        Mark { scope, period, attempt: 0, percent, spent, budget_usd, is_highest: true }
    }

    #[test]
    fn a_mark_of_the_day_is_news_once_whichever_run_tells_it() {
        let dir = tempfile::tempdir().unwrap();
        let is_news = |scope, period, percent, usd| {
            super::is_news(dir.path(), &mark(scope, period, percent, usd))
        };
        assert!(is_news(Scope::Day, "2026-11-21", 80, 10.0));
        assert!(!is_news(Scope::Day, "2026-11-21", 80, 10.0));
        assert!(!is_news(Scope::Day, "2026-11-21", 50, 10.0), "a higher one was told");
        assert!(is_news(Scope::Day, "2026-11-21", 100, 10.0));
        assert!(is_news(Scope::Day, "2026-11-21", 50, 30.0), "another budget");
        assert!(is_news(Scope::Month, "2026-11", 50, 10.0));
        assert!(is_news(Scope::Day, "2026-11-22", 50, 30.0));
        assert!(!is_news(Scope::Month, "2026-11", 50, 10.0));
        let heard = read(&file(dir.path()));
        assert_eq!(heard.told.len(), 2, "what is over is forgotten: {heard:?}");
    }

    #[test]
    fn projects_with_budgets_of_their_own_do_not_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let is_news = |percent, usd| {
            super::is_news(dir.path(), &mark(Scope::Day, "2026-11-21", percent, usd))
        };
        assert!(is_news(80, 10.0) && is_news(50, 20.05));
        for _ in 0..2 {
            assert!(!is_news(80, 10.0) && !is_news(50, 20.05));
        }
        assert!(is_news(100, 10.0) && !is_news(50, 20.05));
        // It stays small, whatever is configured.
        for n in 0..1_000 {
            assert!(is_news(50, 100.0 + f64::from(n)));
        }
        assert_eq!(read(&file(dir.path())).told.len(), EACH_MAX);
        assert!(!is_news(50, 1_099.0), "the newest are kept");
    }

    #[test]
    fn a_mark_of_a_task_is_news_once_in_each_attempt_at_it() {
        let dir = tempfile::tempdir().unwrap();
        let of = |task: &str, attempt, percent, usd| Mark {
            attempt,
            ..mark(Scope::Task, task, percent, usd)
        };
        let is_news = |mark: &Mark| super::is_news(dir.path(), mark);
        let told = |task, attempt, usd| of_task(dir.path(), task, attempt, usd);
        assert!(is_news(&of("a", 1, 80, 1.0)) && is_news(&of("b", 1, 50, 1.0)));
        assert!(!is_news(&of("a", 1, 80, 1.0)) && !is_news(&of("a", 1, 50, 1.0)));
        assert_eq!((told("a", 1, 1.0), told("b", 1, 1.0), told("c", 1, 1.0)), (80, 50, 0));
        assert_eq!((told("a", 1, 2.0), told("a", 2, 1.0)), (0, 0), "another budget, another try");
        assert!(is_news(&of("a", 1, 50, 2.0)) && is_news(&of("a", 2, 50, 1.0)));
        assert_eq!((told("a", 2, 1.0), told("a", 1, 1.0), told("b", 1, 1.0)), (50, 0, 50));
        // Of a run without a queue: each has a budget of its own.
        let own = Mark { period: None, ..of("", 0, 50, 1.0) };
        assert!(is_news(&own) && is_news(&own));
    }

    #[test]
    fn what_cannot_be_noted_is_told_once_more() {
        let dir = tempfile::tempdir().unwrap();
        let of_day = mark(Scope::Day, "2026-11-21", 80, 10.0);
        for odd in ["", "{", "[]", r#"{"told":7}"#] {
            std::fs::write(dir.path().join("budgets-told.json"), odd).unwrap();
            assert!(is_news(dir.path(), &of_day), "{odd}");
        }
        assert!(!is_news(dir.path(), &of_day));
        let nowhere = dir.path().join("nowhere");
        assert!(is_news(&nowhere, &of_day) && is_news(&nowhere, &of_day));
    }
}
