//! Which commands test or check something, told by their words. Pure.

/// Programs that do nothing else.
const PROGRAMS: &[&str] = &[
    "ava", "ctest", "eslint", "flake8", "jest", "karma", "mocha", "mypy", "nox", "pest", "phpstan",
    "phpunit", "py.test", "pylint", "pyright", "pytest", "rspec", "rubocop", "ruff", "tox", "tsc",
    "unittest", "vitest", "vue-tsc",
];
/// Programs that do it with one of these as their first word.
const SUBCOMMANDS: &[(&[&str], &[&str])] = &[
    (&["cargo"], &["b", "bench", "build", "c", "check", "clippy", "nextest", "t", "test"]),
    (&["go"], &["build", "test", "vet"]),
    (&["bazel", "bazelisk", "dotnet", "stack", "swift", "zig"], &["build", "test"]),
    (&["deno"], &["check", "lint", "test"]),
    (&["cabal", "dart", "flutter", "lein", "meson", "mix", "rails", "sbt"], &["test"]),
    (&["artisan", "composer", "manage.py", "playwright"], &["test"]),
    (&["golangci-lint"], &["run"]),
];
/// Programs that take several goals.
const WITH_GOALS: &[&str] = &[
    "gradle",
    "gradlew",
    "gmake",
    "just",
    "make",
    "mvn",
    "mvnw",
    "ninja",
    "rake",
    "task",
    "xcodebuild",
];
/// Goals and scripts that test or check; `test-unit` and `test:unit` are some too.
const GOALS: &[&str] = &["check", "lint", "test", "tests", "typecheck", "verify"];
/// Programs that run scripts of a package by name.
const PACKAGES: &[&str] = &["bun", "npm", "pnpm", "yarn"];
/// Programs that run another one, with the words between.
const RUNNERS: &[&[&str]] = &[
    &["npx"],
    &["bunx"],
    &["uvx"],
    &["npm", "exec"],
    &["pnpm", "exec"],
    &["pnpm", "dlx"],
    &["yarn", "dlx"],
    &["yarn", "exec"],
    &["bundle", "exec"],
    &["poetry", "run"],
    &["uv", "run"],
    &["pipenv", "run"],
    &["pdm", "run"],
    &["hatch", "run"],
    &["rye", "run"],
    &["coverage", "run"],
];
/// Programs that run the file or the module that follows.
const INTERPRETERS: &[&str] = &["bash", "node", "php", "python", "python3", "ruby", "sh", "zsh"];
/// Options whose value is the next word.
const WITH_VALUE: &[&str] = &[
    "--config",
    "--cwd",
    "--dir",
    "--extra",
    "--filter",
    "--group",
    "--manifest-path",
    "--package",
    "--prefix",
    "--python",
    "--with",
    "--workspace",
    "-C",
    "-F",
    "-Z",
    "-f",
    "-p",
    "-w",
];
/// With one of these nothing is run.
const ONLY_TELLS: &[&str] = &["--collect-only", "--help", "--version", "-h"];
/// What the name of a script that runs tests is made of.
const SCRIPT_WORDS: &[&str] =
    &["all", "check", "checks", "e2e", "integration", "run", "runtests", "test", "tests", "unit"];

/// Do the words of one command, the program first, run tests or checks?
pub(super) fn is_check(words: &[&str]) -> bool {
    let words = unwrapped(words);
    let Some((program, rest)) = words.split_first() else { return false };
    if rest.iter().any(|word| ONLY_TELLS.contains(word)) {
        return false;
    }
    let (has_path, program) = (program.contains('/'), name(program));
    let first = arguments(rest).next().unwrap_or("");
    if PROGRAMS.contains(&program) || (has_path && is_script(program)) {
        return true;
    }
    if PACKAGES.contains(&program) {
        let mut named = arguments(rest).skip_while(|word| matches!(*word, "run" | "run-script"));
        let script = named.next().unwrap_or("");
        return is_goal(script)
            || (script == "t" && program == "npm")
            || (script == "build" && rest.contains(&"run"))
            || PROGRAMS.contains(&script);
    }
    if WITH_GOALS.contains(&program) {
        return arguments(rest).any(|word| is_goal(word.trim_start_matches(':')));
    }
    if INTERPRETERS.contains(&program) {
        let file = name(first);
        let is_test = file.starts_with("test_") && file.ends_with(".py");
        return is_script(file) || (is_test && program.starts_with("python"));
    }
    let of = SUBCOMMANDS.iter().find(|(programs, _)| programs.contains(&program));
    of.is_some_and(|(_, subcommands)| subcommands.contains(&first))
}

/// The words without what only runs them: `npx`, `uv run`, `python -m`, `php artisan`.
pub(super) fn unwrapped<'a, 'w>(words: &'a [&'w str]) -> &'a [&'w str] {
    let Some((program, rest)) = words.split_first() else { return words };
    let program = name(program);
    let runner = RUNNERS.iter().find(|runner| {
        runner[0] == program
            && rest.iter().zip(&runner[1..]).all(|(word, own)| word == own)
            && rest.len() >= runner.len()
    });
    if let Some(runner) = runner {
        return unwrapped(without_options(&rest[runner.len() - 1..]));
    }
    match rest {
        ["-m", module, ..] if program.starts_with("python") => unwrapped(&rest[1..]),
        [file, ..]
            if INTERPRETERS.contains(&program)
                && (["artisan", "manage.py"].contains(&name(file))
                    || PROGRAMS.contains(&name(file))) =>
        {
            rest
        }
        _ => words,
    }
}

/// The last part of a path.
pub(super) fn name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

fn without_options<'a, 'w>(mut words: &'a [&'w str]) -> &'a [&'w str] {
    while let Some((word, rest)) = words.split_first().filter(|(word, _)| word.starts_with('-')) {
        words = match WITH_VALUE.contains(word) {
            true => rest.get(1..).unwrap_or(&[]),
            false => rest,
        };
    }
    words
}

/// What is no option, nor the value of one, nor the choice of a toolchain.
fn arguments<'a>(words: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    let mut is_value = false;
    words.iter().copied().filter(move |word| {
        let was_value = std::mem::replace(&mut is_value, WITH_VALUE.contains(word));
        !was_value && !word.starts_with(['-', '+'])
    })
}

fn is_goal(word: &str) -> bool {
    GOALS.iter().any(|goal| {
        word.strip_prefix(goal).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with([':', '-', '_']) && *goal != "check"
        })
    })
}

/// `run_tests.sh`, `test-all`, `runtests.py`.
fn is_script(file: &str) -> bool {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let mut words = stem.split(['_', '-']);
    words.clone().all(|word| SCRIPT_WORDS.contains(&word))
        && words.any(|word| word.contains("test") || word.contains("check"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &str) -> bool {
        is_check(&command.split_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn runners_of_every_sort_are_known() {
        for check in [
            "cargo test --lib",
            "cargo +nightly --offline test",
            "cargo nextest run",
            "npx jest",
            "npx --yes vitest run",
            "npx tsc --noEmit",
            "./node_modules/.bin/jest",
            "bundle exec rspec",
            "bundle exec rake test",
            "poetry run pytest -q",
            "poetry run python -m pytest",
            "uv run pytest",
            "uv run --extra dev pytest",
            "python -m pytest",
            "python3 -m unittest discover",
            ".venv/bin/pytest",
            "vendor/bin/phpunit",
            "php vendor/bin/phpunit",
            "php artisan test",
            "phpunit",
            "python manage.py test app",
            "./manage.py test",
            "bazel test //...",
            "swift test",
            "./run_tests.sh",
            "bash scripts/test-all.sh",
            "python runtests.py",
            "python tests/test_parser.py",
            "make test",
            "make -C sub -j4 test-unit",
            "./gradlew clean test",
            "mvn -q verify",
            "npm test",
            "npm t",
            "npm run test:unit",
            "npm --prefix web run lint",
            "pnpm vitest",
            "yarn jest",
            "go test ./...",
        ] {
            assert!(of(check), "{check}");
        }
        for other in [
            "",
            "cargo tests",
            "cargo add test",
            "cargo run test",
            "echo cargo test",
            "npm install jest",
            "npx prettier .",
            "uv run",
            "uv run main.py",
            "pytest --version",
            "cargo test --help",
            "make clean",
            "make testimonials",
            "./fix.sh",
            "./tests/fixture.sh",
            "python main.py",
            "python",
            "test -f a",
            "git checkout test",
        ] {
            assert!(!of(other), "{other}");
        }
    }
}
