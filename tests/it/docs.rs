//! What the documents say is so: tables, commands, flags, links, and no trace
//! of the machine they were written on.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use longhaul::ErrorKind;
use longhaul::config::key_docs;
use longhaul::cycle::Outcome;
use longhaul::cycle::state::Budget;

/// Set to rewrite what is generated instead of comparing it.
const BLESS: &str = "LONGHAUL_BLESS";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// Every file of the repository, apart from what builds and git leave there.
fn files() -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            if name == ".git" || name == "target" {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), found);
            } else {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.sort();
    assert!(found.len() > 100, "the repository was not found");
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The text between two comments of a document.
fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("{start} is missing"));
    rest.split_once(end).unwrap_or_else(|| panic!("{end} is missing")).0
}

const CONFIG_START: &str = "<!-- config table: LONGHAUL_BLESS=1 cargo test --test it docs -->\n";
const CONFIG_END: &str = "<!-- end of config table -->";

fn config_table() -> String {
    let mut table = String::from("| key | default | meaning |\n|---|---|---|\n");
    for doc in key_docs() {
        // A long text would make the table unreadable; the file has it.
        let default = match doc.default.char_indices().nth(80) {
            Some((at, _)) => format!("{}…", &doc.default[..at]),
            None => doc.default.clone(),
        };
        let comment = doc.comment.replace('|', "\\|");
        writeln!(table, "| `{}` | `{}` | {comment} |", doc.key, default.replace('|', "\\|"))
            .unwrap();
    }
    table
}

#[test]
fn the_config_table_of_the_readme_is_that_of_default_toml() {
    let readme = readme();
    let old = between(&readme, CONFIG_START, CONFIG_END);
    let new = config_table();
    if std::env::var_os(BLESS).is_some() {
        let text = readme.replace(
            &format!("{CONFIG_START}{old}{CONFIG_END}"),
            &format!("{CONFIG_START}{new}{CONFIG_END}"),
        );
        fs::write(root().join("README.md"), text).unwrap();
        return;
    }
    assert!(
        old == new,
        "README.md and config/default.toml differ; `{BLESS}=1 cargo test --test it docs` rewrites the table"
    );
}

/// The codes the program can end with. The matches have no default, so that a
/// new kind of error or outcome has to be put here, and so into the README.
fn exit_codes() -> BTreeSet<u8> {
    let kinds = [
        ErrorKind::NeedsPerson,
        ErrorKind::Authentication,
        ErrorKind::Locked,
        ErrorKind::State,
        ErrorKind::Disk,
        ErrorKind::Usage,
        ErrorKind::Internal,
    ];
    for kind in kinds {
        match kind {
            ErrorKind::NeedsPerson
            | ErrorKind::Authentication
            | ErrorKind::Locked
            | ErrorKind::State
            | ErrorKind::Disk
            | ErrorKind::Usage
            | ErrorKind::Internal => {}
        }
    }
    let outcomes = [
        Outcome::Done,
        Outcome::NeedsPerson { why: String::new() },
        Outcome::Budget { which: Budget::Hours },
        Outcome::NoProgress,
        Outcome::Authentication { why: String::new() },
        Outcome::LimitPast { why: String::new(), resets_unix_ms: None },
        Outcome::Disk { why: String::new() },
    ];
    for outcome in &outcomes {
        match outcome {
            Outcome::Done
            | Outcome::NeedsPerson { .. }
            | Outcome::Budget { .. }
            | Outcome::NoProgress
            | Outcome::Authentication { .. }
            | Outcome::LimitPast { .. }
            | Outcome::Disk { .. } => {}
            // 128 + n has a row of its own.
            Outcome::Stopped { .. } => unreachable!(),
        }
    }
    kinds
        .into_iter()
        .map(ErrorKind::exit_code)
        .chain(outcomes.iter().map(Outcome::exit_code))
        .collect()
}

#[test]
fn the_exit_codes_of_the_readme_are_those_of_the_program() {
    let readme = readme();
    let table = between(&readme, "<!-- exit codes -->\n", "<!-- end of exit codes -->");
    let rows: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| ")).collect();
    let mut codes = BTreeSet::new();
    for row in &rows {
        let (code, meaning) = row.split_once(" | ").unwrap();
        if let Ok(code) = code.parse::<u8>() {
            assert!(codes.insert(code), "{code} stands there twice");
            // Kept free for a later version, and said to be.
            if !exit_codes().contains(&code) {
                assert!(meaning.contains("not yet"), "no run ends with {code}: {meaning}");
            }
        }
    }
    assert!(codes.is_superset(&exit_codes()), "{codes:?} lacks some of {:?}", exit_codes());
    assert_eq!(Outcome::Stopped { signal: 15 }.exit_code(), 143);
    assert!(rows.iter().any(|row| row.starts_with("128 + n ")), "the row for signals is missing");
}

fn help(subcommand: Option<&str>) -> String {
    help_of(subcommand.as_slice())
}

fn help_of(subcommands: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args(subcommands)
        .arg("--help")
        .output()
        .unwrap();
    assert!(out.status.success(), "longhaul {subcommands:?} --help");
    String::from_utf8(out.stdout).unwrap()
}

/// Does this help list `word` among its commands?
fn is_listed(help: &str, word: &str) -> bool {
    let list = help.split_once("Commands:\n").map_or("", |(_, rest)| rest);
    let list = list.split("\n\n").next().unwrap_or_default();
    list.lines().any(|line| line.split_whitespace().next() == Some(word))
}

/// The subcommands `--help` lists.
fn subcommands() -> BTreeSet<String> {
    let help = help(None);
    let list = between(&help, "Commands:\n", "\n\n");
    list.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

/// `longhaul …` as documents show it: in code spans and in code blocks.
fn invocations(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fence = None;
    for line in text.lines() {
        if let Some(info) = line.strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(info.to_owned()) };
            continue;
        }
        match fence.as_deref() {
            Some("sh") => {
                let command = line.trim_start_matches("$ ");
                let command = command.split(" #").next().unwrap_or(command);
                found.extend(command.strip_prefix("longhaul ").map(str::to_owned));
                found.extend(command.strip_prefix("cargo run --release -- ").map(str::to_owned));
            }
            Some(_) => {}
            None => found.extend(
                line.split('`')
                    .skip(1)
                    .step_by(2)
                    .filter_map(|span| span.strip_prefix("longhaul "))
                    .map(str::to_owned),
            ),
        }
    }
    found
}

#[test]
fn every_command_and_flag_the_documents_name_exists() {
    let known = subcommands();
    let mut named = BTreeSet::new();
    for path in files().iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(path).unwrap();
        for line in invocations(&text) {
            let words: Vec<&str> =
                line.split_whitespace().take_while(|word| *word != "--").collect();
            let Some(command) = words.first() else { continue };
            if command.starts_with('_') || command.starts_with('-') {
                continue;
            }
            // `longhaul status | pause | resume` names several.
            for name in words
                .iter()
                .filter(|word| !word.starts_with('-'))
                .take_while(|word| **word == "|" || **word == *command || known.contains(**word))
            {
                if *name != "|" {
                    assert!(known.contains(*name), "{}: longhaul {line}", shown(path));
                    if path.ends_with("README.md") {
                        named.insert((*name).to_owned());
                    }
                }
            }
            let mut help = help(Some(command));
            // `longhaul task add`: the flags are those of the inner command.
            if let Some(inner) = words.get(1).filter(|word| is_listed(&help, word)) {
                help.push_str(&help_of(&[command, inner]));
            }
            for flag in words.iter().filter_map(|word| word.strip_prefix("--")) {
                let flag = flag.split('=').next().unwrap().trim_end_matches([']', ',', ')']);
                assert!(
                    help.contains(&format!("--{flag}")),
                    "{}: longhaul {command} knows no --{flag}",
                    shown(path)
                );
            }
        }
    }
    assert_eq!(named, known, "README.md names all commands");
}

#[test]
fn the_readme_and_the_checks_run_the_same_tests() {
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(readme().contains("\ncargo test\n"), "README.md shows the test command");
    assert!(ci.contains(" cargo test "), ".ci/run runs it");
}

#[test]
fn every_key_the_documents_name_exists() {
    let known: BTreeSet<&str> = key_docs().iter().map(|doc| doc.key.as_str()).collect();
    let sections: BTreeSet<&str> = known.iter().map(|key| key.split_once('.').unwrap().0).collect();
    for path in files().iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(path).unwrap();
        for span in text.split('`').skip(1).step_by(2) {
            let name = span.split([' ', '=']).next().unwrap_or(span);
            let Some((section, key)) = name.split_once('.') else { continue };
            let is_key = sections.contains(section)
                && !key.is_empty()
                && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                && !["rs", "md", "toml", "json", "jsonl", "txt", "sock"].contains(&key);
            assert!(!is_key || known.contains(name), "{}: no key `{name}`", shown(path));
        }
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut links = 0;
    for path in files().iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(path).unwrap();
        let mut fenced = false;
        for line in text.lines() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            // What stands in a code span is an example, not a link.
            let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
            for (_, rest) in prose.match_indices("](").map(|(at, _)| prose.split_at(at + 2)) {
                let target = rest.split(')').next().unwrap();
                let file = target.split('#').next().unwrap();
                if file.is_empty() || file.contains("://") {
                    continue;
                }
                links += 1;
                let there = path.parent().unwrap().join(file);
                assert!(there.exists(), "{}: {target} leads nowhere", shown(path));
            }
        }
    }
    assert!(links > 10, "only {links} links were found");
}

#[test]
fn every_decision_is_listed_and_has_its_four_parts() {
    let folder = root().join("dev-docs/decisions");
    let architecture = fs::read_to_string(root().join("dev-docs/ARCHITECTURE.md")).unwrap();
    let mut numbers = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = fs::read_to_string(folder.join(&name)).unwrap();
        numbers.push(name[..4].parse::<usize>().unwrap());
        assert!(
            architecture.contains(&format!("decisions/{name}")),
            "{name} is not in ARCHITECTURE.md"
        );
        for part in ["## Goal", "## Choice", "## Alternatives", "## Consequences"] {
            assert!(text.contains(&format!("\n{part}\n")), "{name} has no {part}");
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
}

#[test]
fn every_source_file_says_first_what_it_knows() {
    for path in files() {
        let name = shown(&path);
        // A `tests.rs` speaks for the module it stands beside.
        if name.ends_with(".rs") && name.starts_with("src/") && !name.ends_with("/tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("//! "), "{name} does not begin with `//! `");
        }
    }
}

/// A source file without its comments and its unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Source files of the program itself; `cycle` keeps some of its tests in files of their own.
fn program_files() -> impl Iterator<Item = (String, PathBuf)> {
    let tests_of_cycle =
        ["scenarios", "sim", "states_doc", "failures_doc", "nights", "scenarios_night", "story"];
    files().into_iter().map(|path| (shown(&path), path)).filter(move |(name, _)| {
        name.starts_with("src/")
            && name.ends_with(".rs")
            && !name.ends_with("/tests.rs")
            && !tests_of_cycle.iter().any(|t| *name == format!("src/cycle/{t}.rs"))
    })
}

#[test]
fn the_decisions_know_nothing_of_the_outside() {
    let outside =
        ["tokio", "std::fs", "std::env", "std::time", "std::net", "::now()", "new_v4", "rustix"];
    let mut looked_at = 0;
    for (name, path) in program_files().filter(|(name, _)| name.starts_with("src/cycle/")) {
        looked_at += 1;
        let code = code(&path);
        for word in outside {
            assert!(!code.contains(word), "{name} names {word}");
        }
    }
    assert!(looked_at >= 8, "only {looked_at} files");
}

#[test]
fn only_the_clock_reads_a_clock() {
    for (name, path) in program_files() {
        let code = code(&path);
        for word in ["Instant::now", "SystemTime::now", "clock_gettime"] {
            // `terminal` measures in microseconds; no decision hangs on it.
            let allowed = name == "src/clock.rs"
                || (name == "src/session/terminal.rs" && word == "clock_gettime");
            assert!(allowed || !code.contains(word), "{name} names {word}");
        }
    }
}

#[test]
fn every_module_stands_in_the_code_map() {
    let architecture = fs::read_to_string(root().join("dev-docs/ARCHITECTURE.md")).unwrap();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = if path.is_dir() { format!("{}/", shown(&path)) } else { shown(&path) };
        assert!(architecture.contains(&format!("`{name}`")), "{name} is not in ARCHITECTURE.md");
    }
}

#[test]
fn nothing_in_the_repository_speaks_of_the_machine_it_was_written_on() {
    // In two parts, so that this file passes its own test.
    let words = [
        concat!("/wo", "rk/"),
        concat!("/tmp/", "lab"),
        concat!("/ro", "ot/"),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X "),
    ];
    for path in files() {
        let name = shown(&path);
        let bytes = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for word in words {
            if let Some(at) = text.find(word) {
                let line = text[..at].lines().count();
                panic!("{name}:{line} holds {word:?}");
            }
        }
    }
}
