//! The file of what went wrong on a day. Pure.
//!
//! Each line names the task log it is about, and its status: `open` until the missing
//! data came, `pending` until what could not be written is, `noted` for good.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::sums;

/// Largest file; what comes after is not noted any more.
const MAX_BYTES: usize = 1 << 20;
const FULL: &str = "- [noted] the file is full: what follows is left out\n";

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Nothing, or not all, could be recorded.
    Failure,
    /// Something was not told.
    MissingData,
    /// Much more was used than is usual.
    Anomaly,
    /// What was done about an earlier line.
    Recovery,
}

impl Kind {
    fn heading(self) -> &'static str {
        match self {
            Kind::Failure => "## Tracking Failures",
            Kind::MissingData => "## Missing Data",
            Kind::Anomaly => "## Anomalies",
            Kind::Recovery => "## Recovery",
        }
    }
}

const KINDS: [Kind; 4] = [Kind::Failure, Kind::MissingData, Kind::Anomaly, Kind::Recovery];

/// What stands in a line before what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Open,
    Pending,
    Noted,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Open => "open",
            Status::Pending => "pending",
            Status::Noted => "noted",
        }
    }
}

/// A line to be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) kind: Kind,
    pub(super) status: Status,
    /// The task log it is about, or what was asked for.
    pub(super) about: String,
    pub(super) what: String,
}

impl Line {
    pub(super) fn new(kind: Kind, status: Status, about: &str, what: &str) -> Self {
        Self { kind, status, about: about.to_owned(), what: what.to_owned() }
    }

    fn tail(&self) -> String {
        format!("{}: {}\n", sums::plain(&self.about), sums::plain(&self.what))
    }
}

/// What there is to say of a day. Said twice, it changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Edit {
    pub(super) lines: Vec<Line>,
    /// What is missing of task logs: all of it. What was before and is not here has come.
    pub(super) open: BTreeMap<String, Vec<String>>,
    /// What is written by now: what was pending about it is over.
    pub(super) written: Vec<String>,
}

impl Edit {
    /// One line.
    pub(super) fn line(kind: Kind, status: Status, about: &str, what: &str) -> Self {
        Self { lines: vec![Line::new(kind, status, about, what)], ..Self::default() }
    }

    /// Has it words of its own, and does not only end others?
    pub(super) fn has_words(&self) -> bool {
        !self.lines.is_empty() || self.open.values().any(|missing| !missing.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.open.is_empty() && self.written.is_empty()
    }

    /// The file with it; `None`: there is none, and need not be.
    pub(super) fn apply(&self, old: Option<String>, day: Date, now: &str) -> Option<String> {
        let missing = self.open.iter().flat_map(|(about, missing)| {
            missing.iter().map(|what| Line::new(Kind::MissingData, Status::Open, about, what))
        });
        let lines: Vec<Line> = self.lines.iter().cloned().chain(missing).collect();
        let mut text = match lines.is_empty() {
            true => old?,
            false => with(old.as_deref(), day, &lines),
        };
        for (about, missing) in &self.open {
            if let Some(new) = resolved(&text, about, Status::Open, missing, now) {
                text = new;
            }
        }
        for about in &self.written {
            if let Some(new) = resolved(&text, about, Status::Pending, &[], now) {
                text = new;
            }
        }
        Some(text)
    }
}

/// The file with these lines in it; one that is there stays as it is, but if it was
/// resolved and is so again.
fn with(old: Option<&str>, day: Date, lines: &[Line]) -> String {
    let mut text = match old {
        Some(old) if !old.trim().is_empty() => old.to_owned(),
        _ => format!("# Token Usage Errors: {day}\n"),
    };
    for line in lines {
        let tail = line.tail();
        let put = format!("- [{}] {tail}", line.status.word());
        if let Some(there) = place_of(&text, &tail) {
            let was_resolved = text[there.clone()].starts_with("- [resolved ");
            if was_resolved && line.status != Status::Noted {
                text.replace_range(there, &put);
            }
            continue;
        }
        if text.contains(FULL) {
            continue;
        }
        let put = if text.len() + put.len() > MAX_BYTES { FULL.to_owned() } else { put };
        insert(&mut text, line.kind, &put);
    }
    text
}

/// Where the line with these words is, whatever its status.
fn place_of(text: &str, tail: &str) -> Option<std::ops::Range<usize>> {
    let mut begin = 0;
    text.split_inclusive('\n').find_map(|line| {
        let place = begin..begin + line.len();
        begin = place.end;
        said_of(line).is_some_and(|(_, said)| said == tail).then_some(place)
    })
}

/// The file with the lines about `about` that had this status, but those of `still`, told
/// as resolved; `None` if there is none.
fn resolved(old: &str, about: &str, status: Status, still: &[String], how: &str) -> Option<String> {
    let begins = format!("{}: ", sums::plain(about));
    let still: Vec<String> =
        still.iter().map(|what| format!("{begins}{}\n", sums::plain(what))).collect();
    let mut is_changed = false;
    let lines = old.split_inclusive('\n').map(|line| match said_of(line) {
        Some((word, tail))
            if word == status.word()
                && tail.starts_with(&begins)
                && !still.iter().any(|line| line == tail) =>
        {
            is_changed = true;
            format!("- [resolved {how}] {tail}")
        }
        _ => line.to_owned(),
    });
    let text: String = lines.collect();
    is_changed.then_some(text)
}

/// The status of a line, and the rest of it.
fn said_of(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("- [")?.split_once("] ")
}

/// Puts a line at the end of its section, which is made if need be.
fn insert(text: &mut String, kind: Kind, line: &str) {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let heading = format!("{}\n", kind.heading());
    let begin_of = |text: &str, heading: &str| match text.starts_with(heading) {
        true => Some(0),
        false => text.find(&format!("\n{heading}")).map(|at| at + 1),
    };
    let Some(begin) = begin_of(text, &heading) else {
        // Before the first of the sections that follow it.
        let after = KINDS.iter().skip_while(|other| **other != kind).skip(1);
        let next = after.filter_map(|k| begin_of(text, &format!("{}\n", k.heading()))).min();
        let at = next.unwrap_or(text.len());
        let section = match next {
            Some(_) => format!("{heading}\n{line}\n"),
            None => format!("\n{heading}\n{line}"),
        };
        return text.insert_str(at, &section);
    };
    let body = begin + heading.len();
    let end = text[body..].find("\n## ").map_or(text.len(), |at| body + at);
    let end = body + text[body..end].trim_end().len();
    text.insert_str(end, &format!("\n{}", line.trim_end()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day() -> Date {
        "2025-11-28".parse().unwrap()
    }

    fn line(kind: Kind, status: Status, what: &str) -> Line {
        Line::new(kind, status, "usage-2025-11-28-1430-x", what)
    }

    #[test]
    fn lines_go_into_their_sections_once_and_can_be_resolved() {
        let missing = line(Kind::MissingData, Status::Open, "timestamp is missing");
        let text = with(None, day(), std::slice::from_ref(&missing));
        let failed = line(Kind::Failure, Status::Pending, "no space\nleft | here");
        let recovered = line(Kind::Recovery, Status::Noted, "recorded");
        let more = line(Kind::MissingData, Status::Open, "entries is missing");
        let lines = [recovered, failed.clone(), missing.clone(), more, failed];
        let text = with(Some(&text), day(), &lines);
        insta::assert_snapshot!(text, @r"
        # Token Usage Errors: 2025-11-28

        ## Tracking Failures

        - [pending] usage-2025-11-28-1430-x: no space left \| here

        ## Missing Data

        - [open] usage-2025-11-28-1430-x: timestamp is missing
        - [open] usage-2025-11-28-1430-x: entries is missing

        ## Recovery

        - [noted] usage-2025-11-28-1430-x: recorded
        ");
        let about = "usage-2025-11-28-1430-x";
        let done = resolved(&text, about, Status::Pending, &[], "2025-11-28T15:00:00Z").unwrap();
        assert!(
            done.contains("- [resolved 2025-11-28T15:00:00Z] usage-2025-11-28-1430-x: no space")
        );
        assert_eq!(resolved(&done, about, Status::Pending, &[], "later"), None, "once");
        assert_eq!(with(Some(&done), day(), std::slice::from_ref(&missing)), done, "it is there");
        assert_eq!(resolved(&text, "usage-2025-11-28-1430-xy", Status::Open, &[], "x"), None);
        let still = ["entries is missing".to_owned()];
        let done = resolved(&text, about, Status::Open, &still, "now").unwrap();
        assert!(done.contains("- [resolved now] usage-2025-11-28-1430-x: timestamp"), "{done}");
        assert!(done.contains("- [open] usage-2025-11-28-1430-x: entries"), "{done}");
        assert_eq!(with(Some(&done), day(), &[missing]), text, "it is missing again");
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let lines: Vec<Line> = (0..2_000)
            .map(|n| line(Kind::Failure, Status::Noted, &format!("{n} {}", "x".repeat(1_000))))
            .collect();
        let text = with(None, day(), &lines);
        assert!(text.len() <= MAX_BYTES + FULL.len() && text.ends_with(FULL));
        assert_eq!(with(Some(&text), day(), &lines), text);
    }
}
