//! What the CLI notes of itself in `<config dir>/sessions/<pid>.json`: whether
//! it waits for a person.
//!
//! The `Notification` hook tells sooner and in better words, but not where
//! hooks are switched off (`disableAllHooks` in anybody's settings). The file
//! is undocumented; if it is not there or reads otherwise, nothing is said.

use std::path::Path;

use serde::Deserialize;

use crate::claude_json::read_regular;
use crate::clock::Timestamp;

/// The hook has this long to tell it in its own words.
const HOOK_LEAD_MS: i64 = 10_000;

/// The file has a few hundred bytes.
const MAX_BYTES: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    session_id: String,
    status: String,
    #[serde(default)]
    waiting_for: String,
    status_updated_at: i64,
}

/// What the CLI `pid` asks, if it has waited for a person for a while. It names
/// no more than the kind: "permission prompt", "dialog open", …
pub fn waits_for(config_dir: &Path, pid: u32, session_id: &str, now: Timestamp) -> Option<String> {
    let path = config_dir.join("sessions").join(format!("{pid}.json"));
    let bytes = read_regular(&path, MAX_BYTES).ok()??;
    let note: Note = serde_json::from_slice(&bytes).ok()?;
    // One of an earlier process with this id says nothing about ours.
    let is_ours = note.session_id == session_id;
    let is_waiting = note.status == "waiting" && !note.waiting_for.is_empty();
    let waited_ms = now.unix_ms.saturating_sub(note.status_updated_at);
    (is_ours && is_waiting && waited_ms >= HOOK_LEAD_MS).then_some(note.waiting_for)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(note: &str, at_ms: i64) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sessions")).unwrap();
        std::fs::write(dir.path().join("sessions/17.json"), note).unwrap();
        waits_for(dir.path(), 17, "s", Timestamp { unix_ms: at_ms, boot_ms: 0 })
    }

    #[test]
    fn a_session_that_has_waited_for_a_while_says_for_what() {
        let note = r#"{"pid":17,"sessionId":"s","status":"waiting","updatedAt":1000,
            "statusUpdatedAt":1000,"waitingFor":"dialog open"}"#;
        assert_eq!(said(note, 11_000), Some("dialog open".into()));
        assert_eq!(said(note, 10_999), None, "the hook tells it better");
        assert_eq!(said(&note.replace("\"s\"", "\"other\""), 11_000), None);
        assert_eq!(said(&note.replace("waiting\"", "busy\""), 11_000), None);
    }

    #[test]
    fn a_note_that_reads_otherwise_says_nothing() {
        for note in ["", "{", "[]", "{\"sessionId\":\"s\",\"status\":\"waiting\"}", "\u{0}"] {
            assert_eq!(said(note, 99_000), None, "{note}");
        }
        let now = Timestamp { unix_ms: 0, boot_ms: 0 };
        assert_eq!(waits_for(Path::new("/nonexistent"), 1, "s", now), None);
    }
}
