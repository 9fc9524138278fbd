//! Does the output of a test or a check say that it failed? The exit status alone does not
//! tell it: that of `cargo test | tail` is the one of `tail`. Pure, and cautious: only
//! lines that runners end with, or name a failed test by, count.

/// So much of the end of an output is read, bytes.
const END_BYTES: usize = 64 << 10;
/// Words of summaries for what failed.
const BAD: &[&str] = &["failed", "failure", "failures", "error", "errors", "failing", "fail"];
/// What lines begin with that tell a failure, whatever follows.
const BEGINNINGS: &[&str] = &[
    "test result: FAILED",
    "error: test failed, to rerun",
    "error: could not compile ",
    "error: test run failed",
    "FAILED (failures=",
    "FAILED (errors=",
    "FAILED (unexpected successes=",
    "FAILED | ",
    "--- FAIL: ",
    "FAIL\t",
    "Failed!  - Failed:",
    "npm ERR! Test failed",
    "npm ERR! code ELIFECYCLE",
    "npm error Lifecycle script ",
    "ELIFECYCLE",
    "error Command failed with exit code ",
    "make: *** [",
    "BUILD FAILED",
    "[INFO] BUILD FAILURE",
    "[ERROR] BUILD FAILURE",
    "The following tests FAILED:",
];
/// Whole lines that tell a failure.
const LINES: &[&str] = &["FAIL", "FAILURES!", "ERRORS!", "BUILD FAILURE", "** TEST FAILED **"];
/// What a run begins with: what the one before it said counts no more.
const ANEW: &[&str] = &["Finished `test` profile", "test session starts"];

/// The last line that says that something failed, if nothing later in it begins anew.
pub(crate) fn failure(output: &str) -> Option<String> {
    let mut from = output.len().saturating_sub(END_BYTES);
    while !output.is_char_boundary(from) {
        from += 1;
    }
    let mut failed = None;
    for line in output[from..].lines() {
        let line = plain(line);
        let line = line.trim().trim_start_matches(['✖', '✘', 'ℹ', '#']).trim_start();
        if ANEW.iter().any(|anew| line.trim_start_matches(['=', ' ']).starts_with(anew)) {
            failed = None;
        }
        if is_failure(line) {
            failed = Some(line.to_owned());
        }
    }
    failed
}

fn is_failure(line: &str) -> bool {
    BEGINNINGS.iter().any(|beginning| line.starts_with(beginning))
        || LINES.contains(&line)
        || is_named(line)
        || is_diagnosis(line)
        || is_bad_sum(line)
        || is_bare_sum(line)
}

/// A single test or file that failed, by name.
fn is_named(line: &str) -> bool {
    let first_of = |head: &str| line.strip_prefix(head).and_then(|l| l.split_whitespace().next());
    (line.starts_with("test ") && line.ends_with(" ... FAILED"))
        || first_of("FAILED ").is_some_and(|name| name.contains("::"))
        || first_of("ERROR ").is_some_and(|name| name.contains(".py") && !name.ends_with(':'))
        || first_of("FAIL ").is_some_and(|file| file.contains(".test.") || file.contains(".spec."))
        || (line.starts_with("FAIL ") && line.ends_with("[build failed]"))
        || (line.starts_with("//") && line.contains(" FAILED in "))
}

/// What a compiler or a type checker found.
fn is_diagnosis(line: &str) -> bool {
    line.split_once("error TS").is_some_and(|(before, code)| {
        (before.is_empty() || before.ends_with(": ") || before.ends_with(" - "))
            && code.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// `1 failed, 2 passed`, and nothing else.
fn is_bare_sum(line: &str) -> bool {
    const OTHERS: &[&str] =
        &["deselected", "ignored", "passed", "pending", "skipped", "total", "warning", "warnings"];
    let is_part = |part: &str| {
        let (count, word) = part.trim().split_once(' ').unwrap_or_default();
        count.parse::<u64>().is_ok() && (BAD.contains(&word) || OTHERS.contains(&word))
    };
    line.contains(", ") && line.split(',').all(is_part) && counts_bad(line)
}

/// A sum of a run with something bad in it that is more than none.
fn is_bad_sum(line: &str) -> bool {
    let line = line.trim_matches(['=', ' ']);
    let rest = |heads: &[&str]| heads.iter().find_map(|head| line.strip_prefix(head));
    // mypy, tsc, ruff; what ruff mended itself is no error any more.
    if let Some(found) = rest(&["Found "]) {
        return counts_bad(found) && !found.contains(" 0 remaining") && !found.contains(", 0 rem");
    }
    // jest and vitest, cargo nextest, swift, maven, phpunit, eslint, ctest.
    let heads = ["Tests:", "Test Suites:", "Tests ", "Test Files ", "Summary [", "Executed "];
    if rest(&heads).is_some() || (line.contains(" problem") && line.contains(" (")) {
        return counts_bad(line);
    }
    if let Some((percent, _)) = line.split_once("% tests passed, ") {
        return percent.bytes().all(|byte| byte.is_ascii_digit()) && percent != "100";
    }
    // pytest: `1 failed, 3 passed in 0.12s`.
    let words: Vec<&str> = line.split_whitespace().collect();
    let has_time = words.iter().zip(words.iter().skip(1)).any(|(word, time)| {
        let seconds = time.strip_suffix('s').is_some_and(|time| time.parse::<f64>().is_ok());
        *word == "in" && seconds
    });
    // rspec and its like: `5 examples, 1 failure`; mocha and bun: `2 failing`, `1 fail`.
    let begins = words.first().is_some_and(|word| word.parse::<u64>().is_ok());
    let noun = words.get(1).map_or("", |word| word.trim_end_matches(','));
    let nouns = ["example", "examples", "runs", "tests", "test"];
    match words[..] {
        _ if !begins && words.first() != Some(&"fail") => false,
        ["fail", count] => count.parse::<u64>().is_ok_and(|count| count > 0),
        [_, "failing" | "fail"] => counts_bad(line),
        _ => (has_time || (nouns.contains(&noun) && line.contains(", "))) && counts_bad(line),
    }
}

/// `2 failed`, `1 tests failed`, `Failures: 1`: more than none of what is bad.
fn counts_bad(line: &str) -> bool {
    let words: Vec<&str> = line
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')' | '|' | '[' | ']'))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| !word.is_empty())
        .collect();
    let is_some = |word: &str| word.parse::<u64>().is_ok_and(|count| count > 0);
    words.windows(2).any(|pair| {
        (is_some(pair[0]) && BAD.contains(&pair[1]))
            || (matches!(pair[0], "Failures:" | "Errors:") && is_some(pair[1]))
    })
}

/// Without what colours it.
fn plain(line: &str) -> std::borrow::Cow<'_, str> {
    if !line.contains('\u{1b}') {
        return line.into();
    }
    let mut out = String::with_capacity(line.len());
    let mut pieces = line.split("\u{1b}[");
    out.push_str(pieces.next().unwrap_or(""));
    for piece in pieces {
        let end = piece.find(|c: char| ('@'..='~').contains(&c)).map_or(piece.len(), |at| at + 1);
        out.push_str(&piece[end..]);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tells_failure(output: &str) -> bool {
        failure(output).is_some()
    }

    #[test]
    fn what_runners_end_with_tells_a_failure() {
        for output in [
            "test a ... ok\ntest result: FAILED. 3 passed; 1 failed; 0 ignored; finished in 0.01s",
            "error: test failed, to rerun pass `--lib`\n",
            "test day::leap ... FAILED",
            "error: could not compile `x` (lib) due to 1 previous error",
            "     Summary [   0.1s] 10 tests run: 9 passed, 1 failed, 0 skipped",
            "===== 1 failed, 3 passed in 0.12s =====",
            "2 failed, 1 warning in 61.00s (0:01:01)",
            "1 error in 0.03s",
            "1 failed, 2 passed",
            "2 passed, 1 error",
            "FAILED tests/test_a.py::test_b - assert 1 == 2",
            "Ran 3 tests in 0.001s\n\nFAILED (failures=1)",
            "Tests:       1 failed, 2 passed, 3 total",
            "\u{1b}[1mTests:\u{1b}[22m  \u{1b}[31m1 failed\u{1b}[39m, 3 total",
            " Test Files  1 failed | 2 passed (3)\n",
            "      Tests  1 failed | 5 passed (6)",
            "FAIL src/a.test.ts",
            "--- FAIL: TestA (0.00s)",
            "FAIL\texample.com/a\t0.004s",
            "FAIL\nFAIL",
            "npm ERR! Test failed.  See above for more details.",
            "npm error Lifecycle script `test` failed with error:",
            " ELIFECYCLE  Test failed. See above for more details.",
            "FAILURES!\nTests: 3, Assertions: 5, Failures: 1.",
            "Tests: 3, Assertions: 5, Errors: 2, Skipped: 1.",
            "[ERROR] Tests run: 5\nTests run: 5, Failures: 1, Errors: 0, Skipped: 0",
            "5 examples, 1 failure, 1 pending",
            "10 runs, 20 assertions, 1 failures, 0 errors, 0 skips",
            "  3 passing (20ms)\n  2 failing",
            " 4 pass\n 1 fail",
            "ℹ fail 1",
            "src/a.ts(1,2): error TS2345: no",
            "src/a.ts:1:2 - error TS2345: no",
            "Found 3 errors in 2 files.",
            "✖ 3 problems (2 errors, 1 warning)",
            "Executed 3 tests, with 1 failure (0 unexpected) in 0.1 seconds",
            "//a:b   FAILED in 0.3s",
            "50% tests passed, 1 tests failed out of 2",
            "make: *** [Makefile:3: test] Error 1",
        ] {
            assert!(tells_failure(output), "{output}");
        }
    }

    #[test]
    fn what_only_speaks_of_failures_tells_none() {
        for output in [
            "",
            "test result: ok. 3 passed; 0 failed; 0 ignored",
            "test prints_failed ... ok",
            "test it_says_test_result_FAILED ... ok",
            "     Summary [   0.1s] 10 tests run: 10 passed, 0 skipped",
            "===== 3 passed, 1 xfailed in 0.12s =====",
            "3 passed, 1 warning in 0.1s",
            "Tests:       3 passed, 3 total",
            "Tests  6 passed (6)",
            "ok  \texample.com/a\t0.004s",
            "OK (3 tests, 5 assertions)",
            "Tests: 3, Assertions: 5, Failures: 0.",
            "Tests run: 5, Failures: 0, Errors: 0, Skipped: 0",
            "5 examples, 0 failures",
            "10 runs, 20 assertions, 0 failures, 0 errors, 0 skips",
            "3 passing (20ms)",
            " 4 pass\n 0 fail",
            "# fail 0",
            "Found 0 errors. Watching for file changes.",
            "Found 3 errors (3 fixed, 0 remaining).",
            "Success: no issues found in 3 source files",
            "0 problems (0 errors, 0 warnings)",
            "Executed 3 tests, with 0 failures (0 unexpected) in 0.1 seconds",
            "100% tests passed, 0 tests failed out of 2",
            "ERROR a.py: this is logged",
            "it logs: 1 failed login in 3s of the night",
            "handles error TSX",
            "make: [Makefile:3: lint] Error 1 (ignored)",
            "npm warn deprecated glob@7",
            "3 passed, 0 failed",
            "1 failed login, 2 passed",
            "2 errors, that is all",
        ] {
            assert!(!tells_failure(output), "{output}");
        }
    }

    #[test]
    fn a_later_run_in_the_same_output_clears_it() {
        let failed = "test result: FAILED. 0 passed; 1 failed";
        let anew = "    Finished `test` profile [unoptimized] target(s) in 1.0s\n";
        let passed = "test result: ok. 1 passed; 0 failed";
        assert!(!tells_failure(&format!("{failed}\n{anew}{passed}")));
        assert!(tells_failure(&format!("{failed}\n{anew}{failed}")));
        assert!(tells_failure(&format!("{failed}\n{passed}")), "another binary of one run");
    }

    #[test]
    fn only_the_end_of_much_output_is_read() {
        let much = "ä".repeat(END_BYTES);
        assert!(tells_failure(&format!("{much}\nFAIL\n")));
        assert!(!tells_failure(&format!("FAIL\n{much}x")));
    }
}
