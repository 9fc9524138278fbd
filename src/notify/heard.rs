//! Which marks of the budgets of day and month a person has heard of, from whatever run:
//! a night of the queue has many, and each finds most of the day's money spent.

use std::path::Path;

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
            budget_usd: mark.budget_usd,
            percent: mark.percent,
        };
        let is_same = |told: &Told| Told { percent: new.percent, ..told.clone() } == new;
        let is_known = self.told.iter().any(|told| is_same(told) && told.percent >= new.percent);
        if !is_known {
            // Nobody asks about a day or a month that is over.
            let is_over = |told: &Told| told.scope == new.scope && told.period < new.period;
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
    if mark.scope == Scope::Task {
        // Another run has another one, or begins where this one ended.
        return true;
    }
    let file = state_dir.join("budgets-told.json");
    let mut heard: Heard = read_small_json(&file, FILE_MAX_BYTES).unwrap_or_default();
    let is_news = heard.note(mark);
    if is_news && let Ok(text) = serde_json::to_vec(&heard) {
        let _ = state_dir::write_unsynced(&file, &text, FILE_MODE);
    }
    is_news
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::budget::Money;

    fn mark(scope: Scope, period: &str, percent: u16, budget_usd: f64) -> Mark {
        let (period, spent) = (Some(period.to_owned()), Money::default());
        Mark { scope, period, percent, spent, budget_usd, is_highest: true }
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
        assert!(is_news(Scope::Task, "t", 50, 1.0) && is_news(Scope::Task, "t", 50, 1.0));
        let file = dir.path().join("budgets-told.json");
        let heard: Heard = read_small_json(&file, FILE_MAX_BYTES).unwrap();
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
        let file = dir.path().join("budgets-told.json");
        let heard: Heard = read_small_json(&file, FILE_MAX_BYTES).unwrap();
        assert_eq!(heard.told.len(), EACH_MAX);
        assert!(!is_news(50, 1_099.0), "the newest are kept");
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
