//! Do the last words of a session claim that the work is done? Pure, and cautious.
//!
//! Words are judged clause by clause. A claim is one that says so of the task, of all of it
//! or of the tests, or in the first person; not a question, a condition or what somebody
//! else did long ago. Where the words admit anywhere that something is open (`admissions`),
//! nothing was claimed.

use super::admissions;

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

/// What was done to a thing that is changed.
const CHANGED: &[&str] = &[
    "added",
    "changed",
    "cleaned",
    "committed",
    "converted",
    "corrected",
    "created",
    "deleted",
    "extended",
    "fixed",
    "implemented",
    "improved",
    "introduced",
    "migrated",
    "moved",
    "patched",
    "ported",
    "refactored",
    "removed",
    "renamed",
    "repaired",
    "replaced",
    "resolved",
    "rewrote",
    "rewritten",
    "simplified",
    "solved",
    "updated",
    "wired",
    "wrote",
    "written",
];
/// What is done then.
pub(super) const DONE: &[&str] = &["complete", "completed", "done", "finished"];
/// What is mended then, or made.
pub(super) const MENDED: &[&str] =
    &["fixed", "implemented", "mended", "repaired", "resolved", "solved"];
/// What is made to think of work and is none: "I have created a plan".
const THOUGHTS: &[&str] = &[
    "analysis", "draft", "list", "outline", "overview", "plan", "plans", "proposal", "report",
    "summary", "task", "tasks", "todo", "todos",
];
/// What thoughts are made by.
const THINKING: &[&str] = &["added", "created", "updated", "wrote", "written"];
/// What tests are that pass.
pub(super) const PASSING: &[&str] = &[
    "green",
    "pass",
    "passed",
    "passes",
    "passing",
    "succeed",
    "succeeded",
    "succeeds",
    "work",
    "working",
    "works",
];
/// What passes.
pub(super) const CHECKS: &[&str] = &[
    "build",
    "check",
    "checks",
    "ci",
    "clippy",
    "everything",
    "lint",
    "lints",
    "suite",
    "test",
    "tests",
];
/// Words that change nothing of what is said.
const ADVERBS: &[&str] = &[
    "all",
    "again",
    "also",
    "am",
    "are",
    "been",
    "both",
    "completely",
    "correctly",
    "entirely",
    "fully",
    "has",
    "have",
    "is",
    "just",
    "now",
    "successfully",
    "then",
];
/// What begins a condition: what follows is not said to be so.
pub(super) const IF: &[&str] = &[
    "assuming", "ensure", "ensures", "if", "must", "once", "provided", "should", "sure", "unless",
    "until", "verify", "when", "whenever", "whether",
];
/// So does this at the beginning of a sentence.
const IF_FIRST: &[&str] = &["after", "as", "before", "please", "to"];
/// Where one of these stands, the past of the code is told.
const PAST: &[&str] = &[
    "ago",
    "already",
    "by",
    "changelog",
    "commit",
    "historically",
    "originally",
    "pr",
    "previously",
    "release",
    "released",
    "since",
    "version",
    "year",
    "years",
];
/// What follows on a word such as "added" where no object does: "Added in version 3".
const NO_OBJECT: &[&str] =
    &["at", "before", "by", "during", "files", "from", "in", "on", "since", "when", "with"];
/// A clause of no more words may do without a verb: "Bug fixed".
const SHORT_WORDS: usize = 4;
/// Words with which it is no such clause.
const VERBS: &[&str] =
    &["are", "be", "been", "has", "i", "is", "it", "to", "was", "were", "what", "who"];
/// What begins an object.
const ARTICLES: &[&str] =
    &["a", "all", "an", "both", "each", "it", "its", "that", "the", "them", "these", "this"];

/// The claim in the last words of a turn.
pub(crate) fn claim(text: &str) -> Option<Claim> {
    let sentences = sentences(text);
    if admissions::admits(&sentences) {
        return None;
    }
    let mut found: Option<Claim> = None;
    for sentence in sentences.iter().filter(|sentence| !sentence.is_question) {
        let Some(of_change) = said(sentence) else { continue };
        match &mut found {
            Some(claim) => claim.of_change |= of_change,
            None => {
                let words = sentence.text.trim_end_matches('.');
                let words = words.chars().take(WORDS_CHARS).collect();
                found = Some(Claim { words, of_change });
            }
        }
    }
    found
}

/// A sentence, or a line without an end.
pub(super) struct Sentence<'a> {
    /// As it stands.
    pub text: &'a str,
    /// Its words in small letters, clause by clause.
    pub clauses: Vec<Vec<String>>,
    pub is_question: bool,
}

/// What is no code.
fn sentences(text: &str) -> Vec<Sentence<'_>> {
    let mut found = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            continue;
        }
        if is_code {
            continue;
        }
        let mut rest = line;
        while !rest.is_empty() {
            let end = sentence_end(rest);
            found.extend(sentence(&rest[..end]));
            rest = &rest[end..];
        }
    }
    found
}

/// Behind the first mark that ends a sentence: a point in `a.rs` does not.
fn sentence_end(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let ends = chars.peek().is_none_or(|(_, next)| {
            next.is_whitespace() || matches!(next, '*' | '_' | '"' | ')' | '!' | '?')
        });
        if matches!(c, '.' | '!' | '?') && ends {
            return at + 1;
        }
    }
    text.len()
}

fn sentence(text: &str) -> Option<Sentence<'_>> {
    let text = text.trim();
    let is_mark = |c: char| !c.is_alphanumeric() && !matches!(c, '[' | '"' | '`' | '(');
    let bare = text.trim_start_matches(is_mark);
    let is_open_box = text.trim_start_matches(['-', '*', ' ']).starts_with("[ ]");
    let bare = if is_open_box { "[ ]" } else { bare };
    let clauses: Vec<Vec<String>> = clauses(bare);
    let is_question = text.ends_with('?');
    (!clauses.is_empty()).then_some(Sentence { text: bare, clauses, is_question })
}

/// What is said in a sentence, one after the other.
fn clauses(sentence: &str) -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    for word in sentence.split_whitespace() {
        if matches!(word, "-" | "–" | "—" | "|") {
            found.push(Vec::new());
            continue;
        }
        let ends = word.ends_with([',', ';', ':']);
        let is_fraction = word.starts_with(|c: char| c.is_ascii_digit());
        for piece in word.split(|c| c == '—' || (c == '/' && !is_fraction)) {
            let trimmed = piece.trim_matches(|c: char| !c.is_alphanumeric() && !"[]".contains(c));
            let word = trimmed.to_lowercase().replace('’', "'");
            match word.as_str() {
                "" => {}
                "and" | "but" | "however" | "though" | "although" | "while" => {
                    // "all but one" is one clause.
                    let is_all_but =
                        word == "but" && found.last().is_some_and(|c| last_is(c, "all"));
                    if is_all_but {
                        found.last_mut().expect("it is never empty").push(word);
                    } else {
                        found.push(Vec::new());
                    }
                }
                _ => found.last_mut().expect("it is never empty").push(word),
            }
        }
        if ends {
            found.push(Vec::new());
        }
    }
    found.retain(|clause| !clause.is_empty());
    found
}

fn last_is(clause: &[String], word: &str) -> bool {
    clause.last().is_some_and(|last| last == word)
}

/// Does a sentence claim something, and a change?
fn said(sentence: &Sentence<'_>) -> Option<bool> {
    let first = sentence.clauses.first()?.first()?.as_str();
    if IF.contains(&first) || IF_FIRST.contains(&first) {
        return None;
    }
    let mut words_of_all = sentence.clauses.iter().flatten();
    let is_past = words_of_all.any(|word| PAST.contains(&word.as_str()) || is_version(word));
    let mut found: Option<bool> = None;
    let mut is_told_by_me = false;
    for (clause, at) in sentence.clauses.iter().zip(0..) {
        let clause = words(clause);
        let until = clause.iter().position(|word| IF.contains(word)).unwrap_or(clause.len());
        let begins = at == 0 || is_told_by_me || found.is_some();
        // "Status: done"
        let begins = begins || (clause.len() == 1 && DONE.contains(&clause[0]));
        // "I went through all files and updated them"
        is_told_by_me |= matches!(clause[0], "i" | "i've")
            && !clause.iter().any(|word| ["how", "that", "what", "which", "who"].contains(word));
        if let Some(of_change) = said_in(&clause[..until], begins, is_past) {
            found = Some(found.unwrap_or(false) || of_change);
        }
    }
    found
}

fn said_in(clause: &[&str], begins: bool, is_past: bool) -> Option<bool> {
    let first_person = in_first_person(clause, is_past);
    let bare = if begins && !is_past { without_person(clause) } else { None };
    let of_thing = if is_past { None } else { of_thing(clause) };
    let of_tests = passes(clause).then_some(false);
    let all = [first_person, bare, of_thing, of_tests];
    all.into_iter().flatten().reduce(|any, of_change| any || of_change)
}

/// "I've fixed the parser", "we have now completed it".
fn in_first_person(clause: &[&str], is_past: bool) -> Option<bool> {
    let at = clause
        .iter()
        .position(|word| matches!(*word, "i" | "i'm" | "i've" | "we" | "we're" | "we've"))?;
    if is_past && clause[at].starts_with('w') {
        return None;
    }
    let at = at + 1 + adverbs(&clause[at + 1..]);
    let (verb, rest) = (*clause.get(at)?, &clause[at + 1..]);
    if CHANGED.contains(&verb) {
        return (!is_thought(verb, rest)).then_some(true);
    }
    let has_changes = rest.iter().take(4).any(|word| ["change", "changes"].contains(word));
    if verb == "made" && has_changes {
        return Some(true);
    }
    DONE.contains(&verb).then_some(false)
}

/// "Done", "Completed the port", "Fixed it", "All finished".
fn without_person(clause: &[&str]) -> Option<bool> {
    let at = clause.iter().take_while(|word| matches!(**word, "all" | "now" | "successfully"));
    let rest = &clause[at.count()..];
    let (verb, rest) = rest.split_first()?;
    let next = rest.first().copied().unwrap_or("");
    if DONE.contains(verb) {
        return (next != "in").then_some(false);
    }
    if clause == ["success"] || clause.ends_with(&["all", "set"]) {
        return Some(false);
    }
    // "Bug fixed", "All todos resolved".
    let is_short = clause.len() <= SHORT_WORDS && !clause.iter().any(|word| VERBS.contains(word));
    let end = clause.last().filter(|_| is_short && clause.len() > 1);
    if end.is_some_and(|end| DONE.contains(end) || MENDED.contains(end)) {
        return Some(end.is_some_and(|end| MENDED.contains(end)));
    }
    if !CHANGED.contains(verb) || NO_OBJECT.contains(&next) || is_thought(verb, rest) {
        return None;
    }
    // "Updated dependencies are listed in Cargo.lock."
    let is_adjective = !ARTICLES.contains(&next)
        && rest.iter().any(|word| matches!(*word, "are" | "can" | "is" | "was" | "were" | "will"));
    (!is_adjective).then_some(true)
}

/// "The bug is fixed", "Task complete", "Marked task as done", "The fix is in place".
fn of_thing(clause: &[&str]) -> Option<bool> {
    if clause.contains(&"successfully") {
        return Some(false);
    }
    let marked = clause.iter().position(|word| *word == "marked");
    if marked.is_some() && clause.last().is_some_and(|word| DONE.contains(word)) {
        return Some(false);
    }
    for (at, word) in clause.iter().enumerate().skip(1) {
        let before = &clause[..at];
        let has_been = before.ends_with(&["been"]);
        let is = before.iter().rev().take(3).any(|word| {
            matches!(*word, "is" | "are" | "it's" | "that's" | "everything's") || has_been
        });
        let rest = &clause[at + 1..];
        if DONE.contains(word) && (is || is_task(before)) {
            return Some(false);
        }
        let is_end = rest.first().is_none_or(|word| ["now", "properly", "too"].contains(word));
        if is && (MENDED.contains(word) || (has_been && CHANGED.contains(word))) {
            return Some(has_been || is_end);
        }
        if has_been && *word == "made" && before.contains(&"changes") {
            return Some(true);
        }
        if is && *word == "in" && rest == ["place"] {
            return Some(false);
        }
    }
    None
}

/// "Task", "The implementation", "All tasks", "Everything".
fn is_task(before: &[&str]) -> bool {
    const WORK: &[&str] = &[
        "everything",
        "feature",
        "fix",
        "implementation",
        "job",
        "migration",
        "port",
        "refactoring",
        "steps",
        "task",
        "tasks",
        "work",
    ];
    let end = before.len() - before.iter().rev().take_while(|w| ADVERBS.contains(*w)).count();
    before[..end].last().is_some_and(|word| WORK.contains(word)) && end <= 4
}

/// "All tests pass", "the build is green", "it now works".
pub(super) fn passes(clause: &[&str]) -> bool {
    let tells = |at: usize| {
        let next = at + 1 + adverbs(&clause[at + 1..]);
        clause.get(next).is_some_and(|word| PASSING.contains(word))
    };
    let of_checks = (0..clause.len()).any(|at| CHECKS.contains(&clause[at]) && tells(at));
    let now = clause
        .windows(2)
        .any(|pair| matches!(pair, ["now", "work" | "works"] | ["work" | "works", "now"]));
    of_checks || now || matches!(clause, ["all", "green", ..])
}

/// `2.0`, `v3`.
fn is_version(word: &str) -> bool {
    let digits = word.strip_prefix('v').unwrap_or(word);
    (digits.len() < word.len() || word.contains('.'))
        && digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// "A plan for the work" is none.
fn is_thought(verb: &str, object: &[&str]) -> bool {
    const BEHIND: &[&str] = &["for", "from", "in", "into", "of", "on", "that", "to", "with"];
    let head = object.iter().take_while(|word| !BEHIND.contains(word));
    THINKING.contains(&verb) && head.last().is_some_and(|word| THOUGHTS.contains(word))
}

/// As they are compared.
pub(super) fn words(clause: &[String]) -> Vec<&str> {
    clause.iter().map(String::as_str).collect()
}

/// How many words at the beginning change nothing.
pub(super) fn adverbs(words: &[&str]) -> usize {
    words.iter().take_while(|word| ADVERBS.contains(*word)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<bool> {
        claim(text).map(|claim| claim.of_change)
    }

    #[test]
    fn what_says_that_the_work_is_done_is_a_claim() {
        for text in [
            "Done.",
            "Done",
            "All done.",
            "\u{2705} Done",
            "**Done!**",
            "STATUS: DONE",
            "Status: complete.",
            "Task done.",
            "Task complete.",
            "Task Complete! \u{1f389}",
            "Task completed successfully.",
            "Marked task as done.",
            "Implementation complete.",
            "Implementation is now complete.",
            "All tasks are done.",
            "All tasks completed.",
            "The port is complete",
            "Ok!\nEverything works.",
            "I have completed the task.",
            "We're done.",
            "It\u{2019}s done.",
            "Completed all tasks.",
            "Completed the port.",
            "Finished.",
            "All set.",
            "All tests pass now. Note: none of the todos remain.",
            "All tests pass: 12 passed, 0 failed. Nothing is left.",
            "The work is done and no tests fail.",
            "The fix is in place and tests are green.",
            "Done. All tests pass. Would you like me to commit?",
            "All done. The API will now return 404.",
            "All tests pass. Failed logins are now retried.",
            "Done. All tests pass now, and the handler still accepts the old format.",
            "I've completed the task. You need to restart the server to see it.",
            "Everything is done. Let me know if something does not work.",
            "Done. Incomplete input is rejected.",
            "The build is green.",
            "All 12 tests pass; the two failing tests were wrong.",
            "10/10 tests pass.",
            "Remaining todos: none. All done.",
            "Remaining: none\nAll done.",
            "Done.\n\n```\n2 tests failed\n```",
            "One test failed at first. All tests pass now.",
            "All done. If the tests fail, run make clean.",
            "Done. The flag remains supported.",
            "Everything is working as expected.",
            "I am done.",
            "Task marked as complete.",
            "You're all set!",
        ] {
            assert_eq!(of(text), Some(false), "{text}");
        }
    }

    #[test]
    fn a_claim_may_say_that_something_was_changed() {
        for text in [
            "I've fixed the parser. All tests pass.",
            "The bug is fixed.",
            "The feature is implemented.",
            "The parser has been fixed.",
            "Fixed the bug in a.rs",
            "Fixed it.",
            "- Added a test\n- Fixed the parser",
            "Done.\n\nI added a test",
            "Done. I fixed the failing test; all tests pass.",
            "Done! The failing test is now fixed and all tests pass.",
            "I've implemented the todo list. All tests pass.",
            "The bug is fixed and all tests pass. Next steps: none.",
            "I fixed the bug where the parser could not read dates.",
            "I fixed the issue that made two tests fail.",
            "I've fixed the problem: the tests no longer fail.",
            "Successfully implemented the cache.",
            "I have now also updated the docs.",
            "Bug fixed.",
            "I've gone ahead and fixed the bug.",
            "I went through all files and updated the imports.",
            "I've implemented partial updates. Old tests pass, including those that failed.",
            "All todos resolved.",
            "All changes have been made.",
            "I've made the changes you asked for.",
            "Done. I added a test that fails without it.",
            "I've added the endpoint, updated the docs, and all tests pass.",
        ] {
            assert_eq!(of(text), Some(true), "{text}");
        }
    }

    #[test]
    fn what_admits_something_open_is_no_claim() {
        for text in [
            "I fixed the parser, but two tests still fail.",
            "The tests fail; I could not find out why.",
            "Not done yet: the build is broken.",
            "Done with the parser. Two tests are still failing.",
            "Implemented, but tests do not pass.",
            "All but one test pass.",
            "I was unable to finish.",
            "Partially done.",
            "The task is not complete.",
            "The port is done, but two tests still fail.",
            "I fixed one; the other is left",
            "Shall I go on? The first part is done.",
            "The tests could not be run. Everything is done otherwise.",
            "Done: no progress, two tests still fail.",
            "All done. Nothing works and some tests fail.",
            "All done. 10 failed.",
            "All done. 8 passed, 2 failed.",
            "Finished. Some todos remain.",
            "All done. Todo: handle leap years.",
            "Done.\n\nRemaining:\n- the docs",
            "Done.\n- [x] the parser\n- [ ] the docs",
            "I've fixed the parser. The build still fails.",
            "The bug isn\u{2019}t fixed. Done for today.",
            "Most tests pass.",
            "9 of 10 tests pass.",
            "9/10 tests pass.",
            "None of the tests pass.",
            "All tests pass except one.",
            "All tests pass but one.",
            "All tests pass with the exception of test_a.",
            "All done. However, one test is flaky.",
            "All done. There are two failing tests.",
            "Everything is done, but the docs are missing.",
            "I have completed the task. I did not run the tests.",
            "Almost done.",
            "Done, but clippy fails.",
            "I fixed it. The problem is that two tests fail now.",
            "Done, except for the docs.",
            "I've fixed most of the tests.",
            "I fixed 3 of the 5 bugs.",
            "All done. There's one failing test left.",
            "All done. The test `foo` fails.",
            "Done. I ran out of time.",
            "The tests passed. Then I changed the parser and the tests failed.",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_word_of_the_work_is_no_claim() {
        for text in [
            "",
            "Here is what the parser does.",
            "Should I go on?",
            "Is the task done?",
            "Once this is done, run the tests.",
            "Once the task has ended, look at it.",
            "If everything works, the task is done.",
            "Please make sure all tests pass.",
            "It returns true when all tests pass.",
            "The abandoned parser",
            "The function was removed in commit abc123.",
            "The function has been removed in version 3.",
            "Added in version 3 by Bob; see CHANGELOG.",
            "Updated dependencies are listed in Cargo.lock.",
            "I have created a plan for the work.",
            "I've written a summary of the code.",
            "The feature is already implemented.",
            "Removed files are kept for a day.",
            "Bob fixed it.",
            "I see that Bob added it and removed the flag.",
            "We removed that in 2.0.",
            "I've updated the plan.",
            "The tests should pass now.",
            "There is nothing left to do.",
            "The todos are listed in todo.md.",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn the_sentence_that_claims_is_told() {
        let claim = claim("Well. I fixed it. Done").unwrap();
        assert_eq!(claim.words, "I fixed it");
        let long = claim_of(&format!("I fixed {}", "\u{e4}".repeat(500)));
        assert_eq!(long.chars().count(), WORDS_CHARS);
    }

    fn claim_of(text: &str) -> String {
        claim(text).unwrap().words
    }

    #[test]
    fn whatever_is_said_is_survived() {
        for text in [
            "...",
            "?!",
            "- [ ]",
            ":",
            "```",
            "and but",
            "i",
            "not",
            "all",
            "of of of",
            "\u{1b}[0m",
        ] {
            of(text);
            of(&text.repeat(1_000));
        }
    }
}
