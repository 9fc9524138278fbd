//! The line above the input line that says what the turn does: the spinner
//! with its counters, or why a request is being retried.

use super::layout::POINTER;
use crate::config::parse_duration;

/// What the spinner shows in turn, without motion `●`.
const SPINNER: [char; 7] = ['·', '✢', '✳', '✶', '✻', '✽', '*'];

/// A reply or tool call in the conversation.
const REPLY: char = '●';

/// Why and how the CLI tries a request again, or waits for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The CLI's words for what went wrong: "529 Overloaded", "5-hour limit
    /// reached". For most classes "API error" until the third attempt.
    pub class: String,
    /// The attempt that comes next, from 1. Where no attempts are counted, `None`.
    pub attempt: Option<u32>,
    /// Most attempts it makes, if it says.
    pub of: Option<u32>,
    /// Seconds until the next attempt, or until it gives up waiting; `None`
    /// while the attempt is under way.
    pub in_seconds: Option<u64>,
    /// All of the line, without the spinner.
    pub text: String,
}

impl Retry {
    /// Whether it is the way to the API that fails, and not the API.
    pub(super) fn is_connection(&self) -> bool {
        const WORDS: [&str; 11] = [
            "timed out",
            "connect",
            "network",
            "ECONN",
            "ENOTFOUND",
            "ETIMEDOUT",
            "EAI_AGAIN",
            "SSL",
            "DNS",
            "No response from the API",
            "Waiting for API response",
        ];
        let class = self.class.to_lowercase();
        WORDS.iter().any(|word| class.contains(&word.to_lowercase()))
            || self.text.contains("check your network")
    }
}

/// What the live line says.
#[derive(Debug, Default)]
pub(super) struct Activity {
    pub(super) is_running: bool,
    /// Nothing but the background is waited for.
    is_background: bool,
    pub(super) elapsed_s: Option<u64>,
    pub(super) stream_tokens: Option<u64>,
    pub(super) background_agents: Option<u64>,
    pub(super) retry: Option<Retry>,
}

impl Activity {
    /// Of the conversation's lines, the live one comes last in column 0; tips,
    /// tasks and hints may follow it, further to the right.
    pub(super) fn of(lines: &[&str]) -> Self {
        let live = lines
            .iter()
            .rev()
            .filter(|line| !line.trim().is_empty() && !line.starts_with(char::is_whitespace))
            .map_while(|line| {
                let rest = line.strip_prefix(SPINNER).and_then(|rest| rest.strip_prefix(' '));
                let is_conversation = line.starts_with([REPLY, POINTER]);
                (!is_conversation).then_some(rest.map(str::trim_end))
            })
            .flatten()
            .find_map(Self::read);
        live.unwrap_or_default()
    }

    fn read(line: &str) -> Option<Self> {
        let running = Activity { is_running: true, ..Activity::default() };
        if let Some(retry) = read_retry(line) {
            return Some(Activity { retry: Some(retry), ..running });
        }
        // "Waiting for 2 background agents to finish"; workflows are waited for, too.
        let what =
            line.strip_prefix("Waiting for ").and_then(|rest| rest.strip_suffix(" to finish"));
        if let Some(what) = what {
            let count = what.split_once(" background agent").map(|(count, _)| count.parse());
            let background_agents = count.and_then(Result::ok);
            return Some(Activity { is_background: true, background_agents, ..running });
        }
        // "Forming… (3s · ↓ 50 tokens · thinking)"; an ended turn has no dots.
        let counters = match line.rsplit_once("… (") {
            Some((_, counters)) => counters.strip_suffix(')')?,
            None => line.strip_suffix('…').map(|_| "")?,
        };
        let parts = || counters.split(" · ").map(str::trim);
        Some(Activity {
            elapsed_s: parts().find_map(seconds),
            stream_tokens: parts().find_map(tokens),
            ..running
        })
    }

    /// Whether a turn of the main thread runs.
    pub(super) fn is_turn(&self) -> bool {
        self.is_running && !self.is_background
    }

    /// The line about a usage limit, without the spinner.
    pub(super) fn limit(&self) -> Option<String> {
        let retry = self.retry.as_ref()?;
        retry.class.ends_with("limit reached").then(|| retry.text.clone())
    }
}

/// "529 Overloaded · retrying in 6s · attempt 5/10" and its kin.
fn read_retry(line: &str) -> Option<Retry> {
    // What went wrong may itself have dots in it.
    const VERBS: [&str; 3] = [" · retrying", " · will retry in ", " · next try in "];
    let (class, rest) = VERBS.iter().find_map(|verb| {
        let at = line.rfind(verb)?;
        Some((&line[..at], &line[at + " · ".len()..]))
    })?;
    let mut parts = rest.split(" · ").map(str::trim);
    let in_seconds = parts.next().and_then(|verb| {
        let from = verb.find(|c: char| c.is_ascii_digit())?;
        let time = verb[from..].split('(').next()?;
        seconds(time)
    });
    let attempt = parts.find_map(|part| part.strip_prefix("attempt "));
    let (attempt, of) = match attempt.and_then(|counts| counts.split_once('/')) {
        Some((attempt, of)) => (attempt.parse().ok(), of.parse().ok()),
        None => (attempt.and_then(|count| count.parse().ok()), None),
    };
    Some(Retry { class: class.to_owned(), attempt, of, in_seconds, text: line.to_owned() })
}

/// Seconds of "1m 20s".
fn seconds(text: &str) -> Option<u64> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    parse_duration(&text).ok().map(|ms| ms / 1000)
}

/// Tokens of "↓ 1.2k tokens".
fn tokens(text: &str) -> Option<u64> {
    let number = text.strip_suffix(" tokens")?.trim_start_matches(['↓', '↑', ' ']);
    let (number, factor) = match number.char_indices().next_back()? {
        (at, 'k' | 'K') => (&number[..at], 1e3),
        (at, 'm' | 'M') => (&number[..at], 1e6),
        _ => (number, 1.0),
    };
    let number: f64 = number.parse().ok()?;
    (0.0..1e9).contains(&number).then(|| (number * factor).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Activity {
        Activity::of(&["● before", line, "  ⎿  Tip: something", ""])
    }

    fn retry(line: &str) -> (String, Option<u32>, Option<u32>, Option<u64>) {
        let retry = read(line).retry.unwrap_or_else(|| panic!("{line}"));
        (retry.class, retry.attempt, retry.of, retry.in_seconds)
    }

    #[test]
    fn counters_are_read_in_all_their_shapes() {
        for (line, elapsed_s, stream_tokens) in [
            ("· Whirring… ", None, None),
            ("✶ Whirring… (9s · ↓ 211 tokens)", Some(9), Some(211)),
            ("✽ Levitating… (1m 20s · ↑ 1.2k tokens · thinking)", Some(80), Some(1200)),
            ("✻ Compacting conversation… (2h 0m 3s)", Some(7203), None),
            ("* Baking… (12s · ↓ 2m tokens · esc to interrupt)", Some(12), Some(2_000_000)),
            ("✢ Reading 3 files… (thinking)", None, None),
        ] {
            let activity = read(line);
            assert!(activity.is_running, "{line}");
            assert_eq!((activity.elapsed_s, activity.stream_tokens), (elapsed_s, stream_tokens));
        }
    }

    #[test]
    fn an_ended_turn_and_the_conversation_do_not_run() {
        for line in [
            "✻ Brewed for 9s · done 1:14 AM",
            "✻ Conversation compacted… once (ctrl+o for the summary)",
            "● Wait… (3s · ↓ 50 tokens)",
            "❯ * do this… (3s)",
            "  ✻ Waiting… (12s · ↓ 999 tokens · esc to interrupt)",
            "  ✻ Overloaded · retrying in 7s · attempt 5/10",
            "…",
            "",
        ] {
            assert!(!read(line).is_running, "{line}");
        }
        let old = ["✻ Forming… (3s)", "● done", ""];
        assert!(!Activity::of(&old).is_running);
    }

    #[test]
    fn a_retry_tells_class_and_counts() {
        let plain = retry("✻ 529 Overloaded · retrying in 6s · attempt 5/10");
        assert_eq!(plain, ("529 Overloaded".into(), Some(5), Some(10), Some(6)));
        let now = retry("✻ API error · retrying… · attempt 1/10");
        assert_eq!(now, ("API error".into(), Some(1), Some(10), None));
        let dotted = retry("✻ 500 a · b · retrying in 1m 4s · attempt 5/10");
        assert_eq!(dotted, ("500 a · b".into(), Some(5), Some(10), Some(64)));
        let low = retry("✻ Lower priority · next try in 5m · attempt 3 · esc to interrupt");
        assert_eq!(low, ("Lower priority".into(), Some(3), None, Some(300)));
    }

    #[test]
    fn a_limit_keeps_its_reset_time() {
        let line = "✻ 5-hour limit reached · retrying in 3s (Nov 21, 10:26pm) · attempt 4/10";
        let activity = read(line);
        assert_eq!(activity.limit().as_deref(), line.strip_prefix("✻ "));
        assert_eq!(activity.retry.and_then(|retry| retry.in_seconds), Some(3));
        assert_eq!(read("✻ 529 Overloaded · retrying in 6s · attempt 5/10").limit(), None);
    }

    #[test]
    fn a_broken_way_to_the_api_is_told_from_a_failing_api() {
        for (line, is_connection) in [
            ("✻ Waiting for API response · will retry in 5s · check your network", true),
            ("✻ No response from the API after 2m · retrying once, waiting up to 5m", true),
            ("✻ Connection refused (ECONNREFUSED) · retrying in 8s · attempt 5/10", true),
            ("✻ 529 Overloaded · retrying in 6s · attempt 5/10", false),
        ] {
            let retry = read(line).retry.unwrap_or_else(|| panic!("{line}"));
            assert_eq!(retry.is_connection(), is_connection, "{line}");
        }
    }
}
