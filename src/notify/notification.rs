//! One notification, and the JSON object that `dev-docs/RUNNING.md` promises.

use serde::Serialize;

use super::RunFacts;
use super::occasions::BudgetMark;
use crate::clock::{self, Timestamp};
use crate::config::Occasion;
use crate::text;

/// Most characters of the text; chats cut longer ones anyway.
const TEXT_CHARS: usize = 1_000;

/// Most characters of a screen, from its end: what asks stands at the bottom.
const SCREEN_CHARS: usize = 8_000;

/// One thing a person should hear of.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// What kind of thing.
    pub occasion: Occasion,
    /// One sentence, without the name of the project.
    pub text: String,
    /// When it happened.
    pub at: Timestamp,
    /// The cycle it speaks of; 0 before the first session.
    pub cycle: u32,
    /// What `longhaul run` exits with, if the run is over.
    pub exit_code: Option<u8>,
    /// What the session's screen shows, if it asks for a person.
    pub screen: Option<String>,
    /// Until when the run waits, wall clock, milliseconds since the Unix epoch.
    pub until_unix_ms: Option<i64>,
    /// How much of which budget is spent.
    pub budget: Option<BudgetMark>,
}

impl Notification {
    /// A notification that says only this.
    pub fn new(occasion: Occasion, text: impl Into<String>, at: Timestamp, cycle: u32) -> Self {
        Self {
            occasion,
            text: text.into(),
            at,
            cycle,
            exit_code: None,
            screen: None,
            until_unix_ms: None,
            budget: None,
        }
    }

    /// The JSON object that command and webhook get, on one line.
    pub(super) fn to_json(&self, facts: &RunFacts) -> String {
        let project = facts.project.to_string_lossy();
        let name =
            facts.project.file_name().map_or_else(|| project.clone(), |n| n.to_string_lossy());
        let said = format!("longhaul, {name}: {}", self.text);
        let body = Body {
            text: head(&text::safe(&said), TEXT_CHARS).to_owned(),
            occasion: self.occasion.as_str(),
            at: self.at.rfc3339(),
            run_id: facts.run_id.to_string(),
            project: &project,
            cycle: self.cycle,
            exit_code: self.exit_code,
            screen: self.screen.as_deref().map(|screen| tail(screen, SCREEN_CHARS)),
            until: self.until_unix_ms.map(clock::rfc3339),
            budget: self.budget.as_ref(),
            report: format!("longhaul report --project {}", text::shell_word(&project)),
        };
        // Serialising plain data into a string cannot fail.
        text::json(&body, false).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Body<'a> {
    text: String,
    occasion: &'static str,
    at: String,
    run_id: String,
    project: &'a str,
    cycle: u32,
    exit_code: Option<u8>,
    screen: Option<&'a str>,
    until: Option<String>,
    budget: Option<&'a BudgetMark>,
    report: String,
}

fn head(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(at, _)| &text[..at])
}

fn tail(text: &str, chars: usize) -> &str {
    let skipped = text.chars().count().saturating_sub(chars);
    text.char_indices().nth(skipped).map_or("", |(at, _)| &text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use uuid::Uuid;

    fn facts(project: &str) -> RunFacts {
        RunFacts { run_id: Uuid::nil(), project: project.into() }
    }

    fn at() -> Timestamp {
        Timestamp { unix_ms: 1_800_000_000_000, boot_ms: 7 }
    }

    #[test]
    fn every_field_is_there_and_null_when_it_does_not_apply() {
        let bare = Notification::new(Occasion::Finished, "done", at(), 3);
        let body: Value = serde_json::from_str(&bare.to_json(&facts("/home/me/parser"))).unwrap();
        assert_eq!(
            body,
            json!({
                "text": "longhaul, parser: done",
                "occasion": "finished",
                "at": "2027-01-15T08:00:00.000Z",
                "run_id": "00000000-0000-0000-0000-000000000000",
                "project": "/home/me/parser",
                "cycle": 3,
                "exit_code": null,
                "screen": null,
                "until": null,
                "budget": null,
                "report": "longhaul report --project /home/me/parser",
            })
        );
    }

    #[test]
    fn foreign_text_stays_on_one_line_and_bounded() {
        let evil = Notification {
            screen: Some(format!("{}\u{1b}[2Jend", "é".repeat(20_000))),
            ..Notification::new(
                Occasion::NeedsPerson,
                format!("a\nb\u{202e}{}", "x".repeat(5_000)),
                at(),
                1,
            )
        };
        let line = evil.to_json(&facts("/home/me/it's here"));
        assert!(!line.contains(['\n', '\u{1b}', '\u{202e}']), "{line}");
        assert!(line.len() < 20_000, "it fits a pipe: {}", line.len());
        let body: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(body["text"].as_str().unwrap().chars().count(), TEXT_CHARS);
        assert!(body["screen"].as_str().unwrap().ends_with("\u{1b}[2Jend"));
        assert_eq!(body["screen"].as_str().unwrap().chars().count(), SCREEN_CHARS);
        assert_eq!(body["report"], r"longhaul report --project '/home/me/it'\''s here'");
    }

    #[test]
    fn short_screens_are_whole() {
        assert_eq!(tail("abc", 3), "abc");
        assert_eq!(tail("abc", 2), "bc");
        assert_eq!(tail("", 2), "");
        assert_eq!(head("äbc", 1), "ä");
    }
}
