//! Do words admit that something is open? Pure. Only what plainly says so counts: a test that
//! was failing and is fixed, a failed login, a list of todos are no admissions.

use super::claims::{CHECKS, DONE, IF, MENDED, PASSING, Sentence, adverbs, passes, words};

/// They admit it wherever they stand. `*` is any ending.
const PHRASES: &[&str] = &[
    "all but",
    "are blocked by",
    "could not",
    "couldn't",
    "didn't run",
    "did not run",
    "first part",
    "gave up",
    "half done",
    "half finished",
    "have not run",
    "haven't run",
    "i am blocked",
    "i can't",
    "i cannot",
    "i failed",
    "i'm blocked",
    "i have to stop",
    "i stopped",
    "i'm stuck",
    "i need to fix",
    "i will continue",
    "i will fix",
    "i'll fix",
    "is blocked by",
    "is blocked on",
    "keep failing",
    "keeps failing",
    "needs work",
    "needs more",
    "need* to be fixed",
    "no longer build*",
    "no longer compile*",
    "no longer pass*",
    "not able",
    "not been run",
    "only half",
    "only part",
    "only some",
    "out of time",
    "not yet",
    "still broken",
    "still crash*",
    "still do",
    "still error*",
    "still fail*",
    "still has to",
    "still have to",
    "still incomplete",
    "still left",
    "still missing",
    "still open",
    "still red",
    "still to",
    "the exception",
    "unable to",
    "what remains",
    "yet to be",
];
/// They admit it as the whole of a clause.
const ALONE: &[&str] =
    &["blocked", "broken", "incomplete", "partial", "partially", "unfinished", "wip"];
/// They admit it of what is so: "the build is broken".
const OPEN: &[&str] = &[
    "broken",
    "failing",
    "flaky",
    "incomplete",
    "missing",
    "partial",
    "red",
    "remaining",
    "undone",
    "unfinished",
    "unfixed",
    "unresolved",
    "untested",
];
/// They head a list of what is open, unless it is empty.
const LABELS: &[&str] = &[
    "blockers",
    "failing",
    "failures",
    "incomplete",
    "outstanding",
    "remaining",
    "todo",
    "todos",
    "undone",
    "unfinished",
    "unresolved",
];
const FAIL: &[&str] = &["fail", "failed", "failing", "fails"];
/// "Two tests", "some".
const COUNTS: &[&str] = &[
    "all", "both", "few", "five", "four", "half", "many", "most", "one", "several", "some", "ten",
    "these", "those", "three", "two",
];
/// What stands behind a failure that is told: "two failed with a timeout", no "failed logins".
const BEHIND: &[&str] = &[
    "again", "as", "at", "because", "due", "for", "here", "in", "now", "on", "on", "since", "so",
    "there", "to", "with",
];
/// It is so only then: "the tests fail without the fix".
const ONLY: &[&str] = &["before", "if", "unless", "when", "without"];
/// They say that something is not so.
const NOT: &[&str] =
    &["0", "neither", "never", "no", "nobody", "none", "not", "nothing", "without", "zero"];
/// They do so for as many words.
const NOT_WORDS: usize = 4;
/// They may stand between "not" and what is not.
const FILLERS: &[&str] = &[
    "able",
    "all",
    "be",
    "been",
    "completely",
    "currently",
    "entirely",
    "even",
    "everything",
    "fully",
    "get",
    "it",
    "make",
    "manage",
    "quite",
    "really",
    "the",
    "to",
    "yet",
];
/// What is not so where it is open.
const WORK: &[&str] = &[
    "build",
    "builds",
    "compile",
    "compiles",
    "finish",
    "fix",
    "green",
    "implement",
    "ready",
    "resolve",
    "tested",
    "verified",
    "verify",
    "working",
];

/// Do they admit anywhere that something is open?
pub(super) fn admits(sentences: &[Sentence<'_>]) -> bool {
    sentences.iter().enumerate().any(|(at, sentence)| {
        let rest = &sentences[at + 1..];
        let passes_later = rest.iter().flat_map(|later| &later.clauses).any(|c| passes(&words(c)));
        sentence.text == "[ ]"
            || ends_with_but(sentence.text)
            || heads_a_list(sentence.text, rest.first().map(|next| next.text))
            || (sentence.is_question && asks_to_go_on(sentence.text))
            || sentence.clauses.iter().zip(1..).any(|(clause, next)| {
                let passes_next = sentence.clauses[next..].iter().any(|c| passes(&words(c)));
                is_open(&words(clause), passes_later || passes_next)
            })
    })
}

/// "Remaining: the docs", and not "Remaining: none".
fn heads_a_list(text: &str, next: Option<&str>) -> bool {
    let Some((label, value)) = text.split_once(':') else { return false };
    let label = label.to_lowercase();
    let mut label = label.split_whitespace().filter(|word| !["still", "the"].contains(word));
    let is_label = label.next().is_some_and(|word| LABELS.contains(&word)) && label.count() < 3;
    let bare = |text: &str| {
        let text = text.trim_start_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
    };
    let value = match bare(value) {
        value if value.is_empty() => next.map(bare).unwrap_or_default(),
        value => value,
    };
    is_label && !value.is_empty() && !NOT.contains(&value.as_str()) && value != "n"
}

/// "All tests pass but one."
fn ends_with_but(text: &str) -> bool {
    let text = text.trim_end_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    ["but one", "but two", "but three", "but a few"].iter().any(|end| text.ends_with(end))
}

fn asks_to_go_on(question: &str) -> bool {
    let question = question.to_lowercase();
    ["go on", "continue", "proceed", "keep going"].iter().any(|words| question.contains(words))
}

/// Does a clause admit it? Tests that failed and pass later do not.
fn is_open(clause: &[&str], passes_later: bool) -> bool {
    let until = clause.iter().position(|word| IF.contains(word)).unwrap_or(clause.len());
    let admitted = |at: &usize| {
        says_phrase(&clause[*at..until])
            || is_not(clause, *at)
            || is_so(clause, *at)
            || fails(clause, *at, passes_later)
            || is_partly(clause, *at)
            || is_but_for(clause, *at)
    };
    let is_told = |at: &usize| !is_denied(&clause[..*at]) && !is_mended(&clause[..*at]);
    (clause.len() == 1 && ALONE.contains(&clause[0]))
        || (0..until).filter(is_told).any(|at| admitted(&at))
        || there_is(&clause[..until])
        || passes_in_part(&clause[..until])
}

fn says_phrase(words: &[&str]) -> bool {
    PHRASES.iter().any(|phrase| {
        let mut words = words.iter();
        phrase.split(' ').all(|part| {
            words.next().is_some_and(|word| match part.strip_suffix('*') {
                Some(stem) => word.starts_with(stem),
                None => *word == part,
            })
        })
    })
}

/// "Not done", "do not pass", "isn't fully implemented".
fn is_not(clause: &[&str], at: usize) -> bool {
    if clause[at] != "not" && clause[at] != "never" && !clause[at].ends_with("n't") {
        return false;
    }
    let rest = &clause[at + 1..];
    let fillers = rest.iter().take_while(|word| FILLERS.contains(*word)).count();
    rest.get(fillers)
        .is_some_and(|word| [DONE, MENDED, PASSING, WORK].iter().any(|list| list.contains(word)))
}

/// "Is broken", "are still missing", "is left", "remain".
fn is_so(clause: &[&str], at: usize) -> bool {
    let next = clause.get(at + 1).copied();
    let leads_on = next.is_none_or(|word| OPEN.contains(&word) || ["open", "to"].contains(&word));
    let before =
        clause[..at].iter().rev().find(|w| !["currently", "now", "only", "still"].contains(w));
    let is = before.is_some_and(|word| matches!(*word, "am" | "are" | "is" | "it's" | "remains"));
    match clause[at] {
        "remain" | "remains" => at > 0 && leads_on,
        "left" => is && leads_on,
        word => is && OPEN.contains(&word),
    }
}

/// "Tests fail", "the build failed", "2 failed", "two of them are failing".
fn fails(clause: &[&str], at: usize, passes_later: bool) -> bool {
    let is_named = clause[at].starts_with("test_") || clause[at].ends_with("_test");
    let is_check = CHECKS.contains(&clause[at]) || is_named;
    let is_count =
        COUNTS.contains(&clause[at]) || clause[at].parse::<u64>().is_ok_and(|count| count > 0);
    let mut rest = &clause[at + 1..];
    if is_count && rest.starts_with(&["of", "them"]) {
        rest = &rest[2..];
    }
    rest = &rest[rest.iter().take_while(|word| ["still", "tests"].contains(*word)).count()..];
    rest = &rest[adverbs(rest)..];
    // "The test foo fails", and not "a test that fails".
    let has_name = rest.get(1) == Some(&"fails") && !["that", "which"].contains(&rest[0]);
    if clause[at] == "test" && has_name {
        rest = &rest[1..];
    }
    let Some((word, rest)) = rest.split_first().filter(|(word, _)| FAIL.contains(word)) else {
        return false;
    };
    let next = rest.first();
    let is_verb = next.is_none_or(|next| BEHIND.contains(next));
    let only_then = next.is_some_and(|next| ONLY.contains(next));
    let is_mended = *word == "failed" && passes_later;
    ((is_check && *word != "failing") || is_count || is_check && is_verb)
        && (is_check || is_verb)
        && !only_then
        && !is_mended
}

/// "Partially done", "mostly works".
fn is_partly(clause: &[&str], at: usize) -> bool {
    ["almost", "mostly", "nearly", "partially", "partly"].contains(&clause[at])
        && clause
            .get(at + 1)
            .is_none_or(|word| [DONE, MENDED, PASSING, WORK].iter().any(|list| list.contains(word)))
}

/// "Done except for the docs", "fixed most of them".
fn is_but_for(clause: &[&str], at: usize) -> bool {
    let is_made = at > 0 && [DONE, MENDED].iter().any(|list| list.contains(&clause[at - 1]));
    let next = clause.get(at + 1).copied().unwrap_or("");
    match clause[at] {
        "except" => at == 0 || is_made,
        "apart" | "aside" => next == "from" && (at == 0 || is_made),
        "most" | "some" | "half" | "part" => is_made && next == "of",
        _ => false,
    }
}

/// "There are two failing tests "there is one todo left".
fn there_is(clause: &[&str]) -> bool {
    let there = clause.iter().position(|word| matches!(*word, "there" | "there's"));
    there.is_some_and(|at| {
        let rest = &clause[at + 1..];
        let is_open = rest.iter().any(|word| OPEN.contains(word) || *word == "left");
        is_open && !rest.iter().any(|word| NOT.contains(word))
    })
}

/// "Most tests pass", "9 of 10 tests pass", "nothing works".
fn passes_in_part(clause: &[&str]) -> bool {
    let is_made = |word: &&str| [DONE, MENDED, PASSING].iter().any(|list| list.contains(word));
    if matches!(clause.first(), Some(&("nothing" | "none" | "neither"))) {
        return clause.iter().any(is_made);
    }
    const PART: &[&str] = &["except", "few", "half", "most", "no", "none", "only", "some"];
    let differ = |part: &str, of: &str| {
        let number = |word: &str| word.parse::<u64>().ok();
        number(part).zip(number(of)).is_some_and(|(part, of)| part != of)
    };
    let numbers: Vec<&str> = clause.iter().copied().filter(|word| *word != "the").collect();
    let is_fraction = numbers.windows(3).any(|of| of[1] == "of" && differ(of[0], of[2]))
        || clause.iter().any(|w| w.split_once('/').is_some_and(|(part, of)| differ(part, of)));
    let up_to = clause.iter().position(|word| PASSING.contains(word)).unwrap_or(0);
    if !passes(clause) {
        return is_fraction && clause.iter().any(is_made);
    }
    is_fraction
        || clause[..up_to].iter().any(|word| PART.contains(word))
        || clause[up_to..].contains(&"except")
}

/// Do the words before something deny it: "none of the todos remain"?
fn is_denied(before: &[&str]) -> bool {
    before.iter().rev().take(NOT_WORDS).any(|word| NOT.contains(word))
}

/// Do they say that this is what was mended: "fixed the bug where it could not parse"?
fn is_mended(before: &[&str]) -> bool {
    const NOUNS: &[&str] = &["bug", "error", "fixes", "issue", "problem"];
    let relative = before.iter().enumerate().position(|(at, word)| {
        at > 0
            && ["because", "that", "where", "which", "why"].contains(word)
            && !["is", "was"].contains(&before[at - 1])
    });
    relative.is_some_and(|at| {
        before[..at].iter().any(|word| MENDED.contains(word) || NOUNS.contains(word))
    })
}
