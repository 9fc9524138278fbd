//! The names of the tracker's files. Pure.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::record::UNAVAILABLE;
use crate::text;

/// Longest part of a task's id in a file name, characters.
const SHORT_ID_CHARS: usize = 40;

/// The folder of the task logs.
pub const TASKS: &str = "tasks";
/// The folder of the reviews.
pub const REPORTS: &str = "reports";

/// The day of a time, in UTC.
pub fn day_of(unix_ms: i64) -> Date {
    let at = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.to_zoned(TimeZone::UTC).date()
}

/// `usage-2025-11-28-1430-<short id>`, without its ending.
pub fn task_stem(unix_ms: i64, task_id: Option<&str>) -> String {
    let minute = text::local(unix_ms, &TimeZone::UTC, "%Y-%m-%d-%H%M");
    format!("usage-{minute}-{}", short_id(task_id))
}

/// The day in the name of a task log; `None` if it is none.
pub fn day_of_task_file(name: &str) -> Option<Date> {
    let rest = name.strip_prefix("usage-")?.strip_suffix(".json")?;
    let day = rest.get(..10)?;
    rest.get(10..11).filter(|dash| *dash == "-")?;
    day.parse().ok()
}

/// `usage-2025-11-28.md`
pub fn summary(day: Date) -> String {
    format!("usage-{day}.md")
}

/// `errors-2025-11-28.md`
pub fn errors(day: Date) -> String {
    format!("errors-{day}.md")
}

/// `usage-review-2025-11-28.md`
pub fn review(day: Date) -> String {
    format!("usage-review-{day}.md")
}

/// `usage-review-2025-11-28.json`: what the next review compares with.
pub fn review_figures(day: Date) -> String {
    format!("usage-review-{day}.json")
}

/// The day in the name of a review's figures.
pub fn day_of_review_figures(name: &str) -> Option<Date> {
    name.strip_prefix("usage-review-")?.strip_suffix(".json")?.parse().ok()
}

/// `cdf0b917-cycle-003` of a run's own id for a cycle, which is too long for a name. Two
/// runs that meet in it get digits of what they say, as all do that meet in a name.
fn short_cycle(id: &str) -> Option<String> {
    let (run, cycle) = id.split_once("-cycle-")?;
    let run = uuid::Uuid::try_parse(run).ok().filter(|id| id.to_string() == run)?;
    let is_number = (1..=10).contains(&cycle.len()) && cycle.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| format!("{}-cycle-{cycle}", &run.to_string()[..8]))
}

/// A task's id as a part of a file name: letters, digits, `-` and `_`. One that is
/// changed for it gets a few digits of its hash, so that two do not become one.
fn short_id(task_id: Option<&str>) -> String {
    let Some(id) = task_id else { return UNAVAILABLE.into() };
    if let Some(short) = short_cycle(id) {
        return short;
    }
    let mut short = String::new();
    for c in id.chars() {
        let c = if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        if short.len() == SHORT_ID_CHARS {
            break;
        }
        if c != '-' || !short.ends_with('-') {
            short.push(c);
        }
    }
    let short = short.trim_matches('-');
    if short == id && !short.is_empty() {
        return short.to_owned();
    }
    let hash: String =
        Sha256::digest(id.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    match short.is_empty() {
        true => hash,
        false => format!("{short}-{hash}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_is_named_by_minute_and_task() {
        // 2025-11-28T14:30:59Z
        let at = 1_764_340_259_000;
        assert_eq!(
            task_stem(at, Some("create-usage-tracker")),
            "usage-2025-11-28-1430-create-usage-tracker"
        );
        assert_eq!(task_stem(at, None), "usage-2025-11-28-1430-unavailable");
        assert_eq!(day_of(at).to_string(), "2025-11-28");
        let name = format!("{}.json", task_stem(at, Some("x")));
        assert_eq!(day_of_task_file(&name), Some(day_of(at)));
        for other in ["usage-2025-11-28.md", "usage-2025-11-28.json", "x.json", "usage-é2025.json"]
        {
            assert_eq!(day_of_task_file(other), None, "{other}");
        }
    }

    #[test]
    fn ids_that_would_lead_elsewhere_are_names_and_stay_apart() {
        let short = |id: &str| short_id(Some(id));
        assert!(short("../../x").starts_with("x-"), "{}", short("../../x"));
        assert_ne!(short("../../x"), short("x"));
        assert_ne!(short("a/b"), short("a b"));
        assert_ne!(short(&"a".repeat(99)), short(&"a".repeat(98)));
        assert_eq!(short(&"a".repeat(40)), "a".repeat(40));
    }

    #[test]
    fn a_cycle_of_a_run_keeps_its_number() {
        let run = "cdf0b917-52a4-4c3e-9f10-0123456789ab";
        let short = |id: String| short_id(Some(&id));
        assert_eq!(short(format!("{run}-cycle-003")), "cdf0b917-cycle-003");
        for odd in ["", "x", "../3", "99999999999"] {
            let name = short(format!("{run}-cycle-{odd}"));
            assert!(name.starts_with("cdf0b917-52a4-"), "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_id_makes_a_plain_and_bounded_name(id in any::<String>()) {
            let short = short_id(Some(&id));
            prop_assert!(!short.is_empty() && short.len() <= SHORT_ID_CHARS + 9);
            prop_assert!(short.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        }
    }
}
