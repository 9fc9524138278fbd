//! What a shell command does to files, told by its words. Pure, and no shell: what is not
//! plain is taken for something that may change files.

use super::checks;
use super::thread::Effect;

/// Programs that only look.
const LOOKS: &[&str] = &[
    "awk",
    "basename",
    "cat",
    "cd",
    "cmp",
    "column",
    "cut",
    "date",
    "df",
    "diff",
    "dirname",
    "du",
    "echo",
    "egrep",
    "env",
    "false",
    "fd",
    "fgrep",
    "file",
    "find",
    "grep",
    "head",
    "hostname",
    "id",
    "jq",
    "less",
    "ls",
    "md5sum",
    "more",
    "nl",
    "od",
    "printenv",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "rg",
    "sed",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "strings",
    "tac",
    "tail",
    "test",
    "tokei",
    "tr",
    "tree",
    "true",
    "type",
    "uname",
    "uniq",
    "wc",
    "which",
    "whoami",
    "xxd",
    "[",
];
/// Subcommands of git that only look.
const GIT_LOOKS: &[&str] = &[
    "blame",
    "branch",
    "cat-file",
    "config",
    "describe",
    "diff",
    "grep",
    "log",
    "ls-files",
    "ls-tree",
    "merge-base",
    "reflog",
    "remote",
    "rev-list",
    "rev-parse",
    "shortlog",
    "show",
    "status",
];
/// Programs that change files.
const CHANGES: &[&str] = &[
    "apply_patch",
    "chmod",
    "chown",
    "cp",
    "dd",
    "install",
    "ln",
    "mkdir",
    "mktemp",
    "mv",
    "patch",
    "rm",
    "rmdir",
    "rsync",
    "tar",
    "tee",
    "touch",
    "truncate",
    "unzip",
];
/// Subcommands of git that change the work tree or what is committed.
const GIT_CHANGES: &[&str] = &[
    "add",
    "am",
    "apply",
    "checkout",
    "cherry-pick",
    "clean",
    "commit",
    "merge",
    "mv",
    "pull",
    "rebase",
    "reset",
    "restore",
    "revert",
    "rm",
    "stash",
    "switch",
];
/// What stands before a command and is not it.
const BEFORE: &[&str] = &[
    "!", "command", "do", "elif", "else", "env", "exec", "if", "nice", "nohup", "sudo", "then",
    "time", "timeout", "until", "while",
];
/// Programs that ask for processes and places that may not be there.
const ASKS: &[&str] = &[
    "curl", "fuser", "kill", "killall", "lsof", "nc", "pgrep", "ping", "pkill", "source", "wait",
    "wget",
];
/// So many commands of one line are told apart.
const PARTS_MAX: usize = 16;
/// Programs that run the command that is one of their words.
const SHELLS: &[&str] = &["bash", "dash", "sh", "zsh"];

/// What `command` does; files that `is_note` knows are books that are kept.
pub(crate) fn effect(command: &str, is_note: impl Fn(&str) -> bool) -> Effect {
    parts(command).map(|part| effect_of_part(part, &is_note)).max().unwrap_or(Effect::Looks)
}

/// Does it run tests or checks?
pub(crate) fn is_check(command: &str) -> bool {
    parts(command).any(is_check_part)
}

fn is_check_part(part: &str) -> bool {
    match inner(part) {
        Some(command) => is_check(command),
        None => checks::is_check(&plain_words(part).collect::<Vec<_>>()),
    }
}

/// The command that a shell is given as a word: that of `bash -lc "cargo test"`.
fn inner(part: &str) -> Option<&str> {
    let mut words = plain_words(part);
    let program = words.next()?;
    if !SHELLS.contains(&checks::name(program)) {
        return None;
    }
    let flag = words.find(|word| !word.starts_with('-') || word.ends_with('c'))?;
    if !flag.starts_with('-') || flag.starts_with("--") {
        return None;
    }
    let from = part.find(&format!(" {flag} "))? + flag.len() + 2;
    let command = part[from..].trim_start();
    let quote = command.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    command[1..].split(quote).next()
}

/// What it runs that may do something, as names for it: another command of the same name
/// does the same again.
pub(crate) fn subjects(command: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in parts(command).take(PARTS_MAX) {
        if let Some(command) = inner(part) {
            found.extend(subjects(command));
        } else if !only_asks(part) && effect_of_part(part, &|_| false) > Effect::Looks {
            found.push(subject(part));
        }
    }
    found
}

/// Does it only ask for something, and fails where that is not there?
fn only_asks(part: &str) -> bool {
    let program = plain_words(part).next().map(checks::name);
    let words: Vec<&str> = part.split_whitespace().collect();
    program.is_none_or(|program| ASKS.contains(&program))
        || words.windows(2).any(|pair| matches!(pair, ["command", "-v" | "-V"]))
        || words.last().is_some_and(|word| ["--help", "--version", "-V"].contains(word))
}

/// `git commit`, `python main.py`, `make`.
fn subject(part: &str) -> String {
    let words: Vec<&str> = plain_words(part).collect();
    let words = checks::unwrapped(&words);
    let program = words.first().map_or("", |word| checks::name(word));
    let is_interpreter = SHELLS.contains(&program)
        || ["node", "perl", "php", "python", "python3", "ruby"].contains(&program);
    match words.get(1).filter(|file| is_interpreter && !file.starts_with('-')) {
        Some(file) => format!("{program} {}", checks::name(bare(file))),
        None => match head(part).as_str() {
            "cargo nextest" | "cargo t" => "cargo test".to_owned(),
            "cargo b" => "cargo build".to_owned(),
            "cargo c" => "cargo check".to_owned(),
            head => head.to_owned(),
        },
    }
}

/// Its first words, for people: the program and, where it has one, the subcommand. Of
/// several commands the one that checks something, if one does.
pub(crate) fn head(command: &str) -> String {
    let is_told = |part: &&str| plain_words(part).next().is_some_and(|word| word != "cd");
    let part = parts(command).find(|part| is_check_part(part));
    let part = part.or_else(|| parts(command).find(is_told)).unwrap_or_default();
    if let Some(command) = inner(part) {
        return head(command);
    }
    let words: Vec<&str> = plain_words(part).collect();
    let mut words = checks::unwrapped(&words).iter().copied();
    let program = words.next().unwrap_or("a command");
    let program = program.rsplit('/').next().unwrap_or(program);
    let is_plain = |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let has_subcommands =
        ["cargo", "git", "npm", "pnpm", "yarn", "go", "docker", "kubectl", "make", "just", "uv"];
    match words.next().filter(|word| is_plain(word) && !word.starts_with('-')) {
        Some(word) if has_subcommands.contains(&program) => format!("{program} {word}"),
        _ => program.to_owned(),
    }
}

/// The commands of a line, one after the other. Quotes keep together what is in them.
fn parts(command: &str) -> impl Iterator<Item = &str> {
    let mut found = Vec::new();
    let (mut from, mut quote, mut is_escaped) = (0, None, false);
    for (at, c) in command.char_indices() {
        if std::mem::take(&mut is_escaped) {
            continue;
        }
        match (quote, c) {
            (None | Some('"'), '\\') => is_escaped = true,
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ';' | '|' | '\n' | '(' | ')' | '{' | '}') => {
                found.push(&command[from..at]);
                from = at + c.len_utf8();
            }
            // `2>&1` and `&>` are redirections.
            (None, '&') if !command[..at].ends_with('>') && !command[at..].starts_with("&>") => {
                found.push(&command[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(&command[from..]);
    found.into_iter().map(str::trim).filter(|part| !part.is_empty())
}

/// The words from the program on: without variables and wrappers and their options.
fn plain_words(part: &str) -> impl Iterator<Item = &str> {
    let is_before = |word: &&str| {
        BEFORE.contains(word)
            || word.starts_with('-')
            || word.starts_with(|c: char| c.is_ascii_digit())
            || word.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            })
    };
    part.split_whitespace().skip_while(is_before)
}

fn effect_of_part(part: &str, is_note: &impl Fn(&str) -> bool) -> Effect {
    if let Some(command) = inner(part) {
        return parts(command)
            .map(|part| effect_of_part(part, is_note))
            .max()
            .unwrap_or(Effect::Looks);
    }
    let words: Vec<&str> = plain_words(part).collect();
    let Some(program) = words.first().map(|word| word.rsplit('/').next().unwrap_or(word)) else {
        return Effect::Looks;
    };
    let targets: Vec<&str> =
        words[1..].iter().map(|word| bare(word)).filter(|w| is_path(w)).collect();
    let kept = |effect| match !targets.is_empty() && targets.iter().all(|path| is_note(path)) {
        true => Effect::Notes,
        false => effect,
    };
    if let Some(to) = redirected(part) {
        return match to == "/dev/null" || to.is_empty() {
            true => effect_of_words(program, &words),
            false if is_note(to) => Effect::Notes,
            false => Effect::Changes,
        };
    }
    match effect_of_words(program, &words) {
        effect @ (Effect::Looks | Effect::Notes) => effect,
        effect => kept(effect),
    }
}

fn effect_of_words(program: &str, words: &[&str]) -> Effect {
    let has = |flag: &str| words[1..].iter().any(|word| word.starts_with(flag));
    match program {
        "sed" if has("-i") || has("--in-place") => Effect::Changes,
        "perl" if words[1..].iter().any(|w| w.starts_with('-') && w.contains('i')) => {
            Effect::Changes
        }
        "find" if has("-delete") || has("-exec") => Effect::May,
        "git" => {
            let sub = words[1..].iter().find(|word| !word.starts_with('-')).copied().unwrap_or("");
            match (GIT_LOOKS.contains(&sub), GIT_CHANGES.contains(&sub)) {
                (true, _) => Effect::Looks,
                (_, true) => Effect::Changes,
                _ => Effect::May,
            }
        }
        _ if LOOKS.contains(&program) => Effect::Looks,
        _ if CHANGES.contains(&program) => Effect::Changes,
        _ => Effect::May,
    }
}

/// The file that the output goes to, outside of quotes.
fn redirected(part: &str) -> Option<&str> {
    let mut found = None;
    for to in redirections(part) {
        found = Some(to);
        if to != "/dev/null" && !to.is_empty() {
            break;
        }
    }
    found
}

/// What its redirections name, each arrow looked at once however long it is.
fn redirections(part: &str) -> impl Iterator<Item = &str> {
    let (mut quote, mut behind) = (None, 0);
    part.char_indices().filter_map(move |(at, c)| {
        match (quote, c) {
            _ if at < behind => {}
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '>') if !part[..at].ends_with('-') => {
                let rest = part[at + 1..].trim_start_matches(['>', '|']).trim_start();
                behind = part.len() - rest.len();
                // To another stream is to no file.
                let word = (!rest.starts_with('&')).then(|| rest.split_whitespace().next());
                return word.map(|word| bare(word.unwrap_or("")));
            }
            _ => {}
        }
        None
    })
}

fn bare(word: &str) -> &str {
    word.trim_matches(['"', '\''])
}

fn is_path(word: &str) -> bool {
    !word.starts_with('-')
        && !word.contains(['*', '[', '\\', '^', '$'])
        && (word.contains('/') || word.contains('.'))
        && !word.starts_with("s/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &str) -> Effect {
        effect(command, |path| path.ends_with("dev-docs/tasks.md"))
    }

    #[test]
    fn what_a_command_does_is_told_by_its_words() {
        for looks in [
            "ls -la",
            "cat src/a.rs | head -20",
            "cd /p && git log --oneline; git -P diff",
            "grep -rn 'a > b' src 2>/dev/null",
            "sed -n 1,9p a.rs 2>&1",
            "/usr/bin/rg x",
            "LC_ALL=C sort a",
            "",
        ] {
            assert_eq!(of(looks), Effect::Looks, "{looks}");
        }
        for changes in [
            "echo x > a.txt",
            "bash -c 'cargo test; sed -i s/a/b/ a.rs'",
            "cat <<EOF >> a.txt",
            "cd /p && sed -i s/a/b/ a.rs",
            "git commit -qm x",
            "mv a b",
            "printf x | tee a",
            "sed -i s/a/b/ dev-docs/tasks.md src/a.rs",
        ] {
            assert_eq!(of(changes), Effect::Changes, "{changes}");
        }
        for may in ["cargo test", "./run.sh", "python3 x.py", "git push", "find . -delete"] {
            assert_eq!(of(may), Effect::May, "{may}");
        }
        for notes in [
            "sed -i 's/- \\[ \\]/- [x]/' dev-docs/tasks.md",
            "echo '- [x] a' >> dev-docs/tasks.md",
            "ls; echo done > /p/dev-docs/tasks.md",
        ] {
            assert_eq!(of(notes), Effect::Notes, "{notes}");
        }
    }

    #[test]
    fn an_arrow_is_looked_at_once_however_long_it_is() {
        let long = ">".repeat(1_000);
        for (part, targets) in [
            ("a > b", vec!["b"]),
            (&long, vec![""]),
            (&format!("a {long} b"), vec!["b"]),
            (&format!("a 2{long}&1"), vec![]),
            ("a >/dev/null 2> b x -> y", vec!["/dev/null", "b"]),
            ("a '> b' \"> c\" > d", vec!["d"]),
        ] {
            assert_eq!(redirections(part).collect::<Vec<_>>(), targets, "{part}");
        }
    }

    #[test]
    fn checks_are_known_wherever_they_stand_in_a_line() {
        for check in [
            "cargo test --lib",
            "cd x && RUST_LOG=1 cargo nextest run",
            "pytest -q | tail",
            "bash -lc \"cd x && cargo test 2>&1 | tail\"",
            "if ! timeout -k 5 60 npx jest; then echo no; fi",
            "source .venv/bin/activate; env A=1 pytest || true",
        ] {
            assert!(is_check(check), "{check}");
        }
        for other in [
            "cargo tests",
            "echo cargo test",
            "git commit -m 'cargo test'",
            "bash -c 'echo pytest'",
        ] {
            assert!(!is_check(other), "{other}");
        }
    }

    #[test]
    fn the_same_command_again_has_the_same_subjects() {
        for (command, names) in [
            ("make", vec!["make"]),
            ("cd /p && python3 src/main.py --x 2>&1 | tail", vec!["python3 main.py"]),
            ("python main.py", vec!["python main.py"]),
            ("git add -A && git commit -qm 'x; y'", vec!["git add", "git commit"]),
            ("bash -lc 'cargo nextest run; ls'", vec!["cargo test"]),
            ("uv run pytest -q; true", vec!["pytest"]),
            ("ls nowhere; grep x a; command -v rg; cargo --version; pkill x", vec![]),
        ] {
            assert_eq!(subjects(command), names, "{command}");
        }
    }

    #[test]
    fn the_head_names_program_and_subcommand() {
        for (command, name) in [
            ("cd /p && cargo test -q 2>&1 | tail", "cargo test"),
            ("/usr/bin/find . -name x", "find"),
            ("FOO=1 npm --silent run", "npm"),
            ("source a; bash -lc 'npx jest'", "jest"),
            ("uv run pytest -q", "pytest"),
            ("", "a command"),
        ] {
            assert_eq!(head(command), name, "{command}");
        }
    }
}
