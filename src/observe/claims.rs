//! Does a session's last word claim that the work is done? Pure, and cautious: where the
//! words admit that something is open, nothing was claimed.

/// What a claim says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The sentence.
    pub words: String,
    /// It says that something was made or changed.
    pub of_change: bool,
}

/// Longest sentence that is told, characters.
const WORDS_CHARS: usize = 160;

/// They say that work is done.
const DONE: &[&str] = &[
    "all done",
    "all tasks are done",
    "all tests pass",
    "all tests are passing",
    "completed all",
    "everything is done",
    "everything works",
    "finished all",
    "i completed",
    "i finished",
    "i have completed",
    "i have finished",
    "i've completed",
    "i've finished",
    "is fixed",
    "is now fixed",
    "are fixed",
    "are now fixed",
    "is complete",
    "is completed",
    "is done",
    "is finished",
    "are complete",
    "are completed",
    "are done",
    "are finished",
    "has been completed",
    "have been completed",
    "now works",
    "successfully",
    "task complete",
    "tests pass",
    "work is done",
];
/// They say that something was changed.
const CHANGED: &[&str] = &[
    "added",
    "changed",
    "created",
    "deleted",
    "fixed",
    "implemented",
    "migrated",
    "moved",
    "ported",
    "refactored",
    "removed",
    "renamed",
    "replaced",
    "resolved",
    "rewrote",
    "updated",
    "wrote",
];
/// Sentences that are a claim as a whole.
const WHOLE: &[&str] =
    &["all finished", "all set", "complete", "completed", "done", "finished", "task finished"];
/// What a sentence ends with that says of something that it was mended.
const MENDED: &[&str] = &["is fixed", "is now fixed", "are fixed", "are now fixed"];
/// Where one of these stands, something is left open.
const OPEN: &[&str] = &[
    "?",
    "almost",
    "blocked",
    "cannot",
    "can't",
    "could not",
    "couldn't",
    "did not",
    "didn't",
    "fail",
    "incomplete",
    "is left",
    "mostly",
    "need to",
    "needs to",
    "next step",
    "not done",
    "not yet",
    "partial",
    "partly",
    "remain",
    "still",
    "todo",
    "to do",
    "unable",
    "unfinished",
    "will ",
    "would ",
];

/// Of those, what a word before it can deny: "none of the todos remain".
const DENIABLE: &[&str] =
    &["fail", "incomplete", "is left", "next step", "remain", "todo", "to do", "unfinished"];
/// What denies.
const NOT: &[&str] = &["0", "no", "none", "nothing", "without", "zero"];
/// It does so for as many words.
const NOT_WORDS: usize = 4;

/// The claim in the last words of a turn.
pub(crate) fn claim(text: &str) -> Option<Claim> {
    if leaves_open(&text.to_lowercase()) {
        return None;
    }
    let sentences = text.split(['\n', '!']).flat_map(|line| line.split(". "));
    let mut found: Option<Claim> = None;
    for sentence in sentences.map(|sentence| sentence.trim().trim_end_matches('.')) {
        let lower = sentence.to_lowercase();
        let is_done = WHOLE.contains(&lower.as_str())
            || lower.starts_with("completed the ")
            || lower.starts_with("finished the ")
            || lower.starts_with("done:")
            || lower.starts_with("done,")
            || DONE.iter().any(|done| lower.contains(done));
        let of_change = CHANGED.iter().any(|word| says(&lower, word))
            || MENDED.iter().any(|end| lower.ends_with(end));
        if (is_done || of_change) && !sentence.is_empty() {
            let words: String = sentence.chars().take(WORDS_CHARS).collect();
            match &mut found {
                Some(claim) => claim.of_change |= of_change,
                None => found = Some(Claim { words, of_change }),
            }
        }
    }
    found
}

/// Does it admit that something is open?
fn leaves_open(lower: &str) -> bool {
    OPEN.iter().any(|open| {
        lower
            .match_indices(open)
            .any(|(at, _)| !(DENIABLE.contains(open) && is_denied(&lower[..at])))
    })
}

/// Do the words before something deny it, in the same clause?
fn is_denied(before: &str) -> bool {
    let clause = before.rsplit(['.', ',', ';', ':', '!', '?', '\n', '(', '—']).next().unwrap_or("");
    let mut words = clause.split_whitespace().rev().take(NOT_WORDS);
    words
        .by_ref()
        .take_while(|word| !matches!(*word, "and" | "but"))
        .any(|word| NOT.contains(&word))
}

/// "I've fixed", "Fixed the", "was fixed": done by the session, as it says.
fn says(lower: &str, word: &str) -> bool {
    let before =
        ["i ", "i have ", "i've ", "has been ", "have been ", "was ", "were ", "we ", "and "];
    lower.starts_with(word)
        || before.iter().any(|before| lower.contains(&format!("{before}{word}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_what_leaves_nothing_open() {
        let of = |text: &str| claim(text).map(|claim| claim.of_change);
        for text in [
            "Done.",
            "All tasks are done.",
            "The port is complete",
            "Ok!\nEverything works.",
            "I have completed the task.",
            "Completed all tasks.",
            "Completed the port.",
            "Finished.",
            "All tests pass now. Note: none of the todos remain.",
            "All tests pass: 12 passed, 0 failed. Nothing is left.",
            "The work is done and no tests fail.",
        ] {
            assert_eq!(of(text), Some(false), "{text}");
        }
        for text in [
            "I've fixed the parser. All tests pass.",
            "The bug is fixed.",
            "Fixed the bug in a.rs",
            "Done.\n\nI added a test",
        ] {
            assert_eq!(of(text), Some(true), "{text}");
        }
        for text in [
            "",
            "Here is what the parser does.",
            "The port is done, but two tests still fail.",
            "I fixed one; the other is left",
            "Shall I go on? The first part is done.",
            "The tests could not be run. Everything is done otherwise.",
            "The abandoned parser",
            "Done: no progress, two tests still fail.",
            "All done. Nothing works and some tests fail.",
            "All done. 10 failed.",
            "Finished. Some todos remain.",
            "Once the task has ended, look at it.",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn the_sentence_that_claims_is_told() {
        let claim = claim("Well. I fixed it. Done").unwrap();
        assert_eq!(claim.words, "I fixed it");
    }
}
