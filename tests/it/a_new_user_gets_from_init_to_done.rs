//! From an empty folder: `init`, `doctor`, `run`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::support::{Lab, finisher};

const SCAFFOLD: [&str; 5] = [
    ".claude/commands/session-init.md",
    "dev-docs/PROJECT_SUMMARY.md",
    "dev-docs/plan.md",
    "dev-docs/tasks.md",
    "longhaul.toml",
];

/// A laboratory whose project is an empty folder, and what was in its
/// `longhaul.toml`, as `--set` arguments.
fn empty() -> (Lab, Vec<String>) {
    let lab = Lab::new(finisher());
    let settings: toml::Table = toml::from_str(&lab.read("longhaul.toml")).unwrap();
    let claude = settings["claude"].as_table().unwrap();
    let set = claude
        .iter()
        .flat_map(|(key, value)| ["--set".to_owned(), format!("claude.{key}={value}")]);
    let set = set.collect();
    fs::remove_dir_all(lab.project()).unwrap();
    fs::create_dir(lab.project()).unwrap();
    (lab, set)
}

fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn look(root: &Path, dir: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    look(root, root, &mut found);
    found
}

#[test]
fn from_an_empty_folder_to_done() {
    let (lab, set) = empty();
    let with = |command: &[&str]| {
        let args: Vec<&str> =
            command.iter().copied().chain(set.iter().map(String::as_str)).collect();
        lab.longhaul_output(&args)
    };
    with(&["run"]).failed(64, &["longhaul init"]);
    let said =
        lab.longhaul_output(&["init", "--task", "Count the \"moons\" of Mars.\nTwo, I think."]);
    assert_eq!(said.code(), 0, "{said:#?}");
    assert!(files(&lab.project()).keys().eq(SCAFFOLD.iter()), "{said:#?}");
    assert!(lab.read("dev-docs/tasks.md").contains("- [ ] "), "{}", lab.read("dev-docs/tasks.md"));
    assert!(lab.read("dev-docs/plan.md").contains("Count the \"moons\" of Mars."));
    // What every session starts with must stay small: tokens of about 4 bytes.
    let read = files(&lab.project()).into_iter().filter(|(name, _)| name.ends_with(".md"));
    let tokens = read.map(|(_, bytes)| bytes.len()).sum::<usize>() / 4;
    assert!((100..800).contains(&tokens), "{tokens}");

    let doctor = with(&["doctor"]);
    assert_eq!(doctor.code(), 0, "{}", doctor.stdout);
    let run = with(&["run", "--json"]).ended(0, "done");
    assert_eq!(run.count("session_started"), 1);
    let first = lab.api.requests().iter().find(|r| !r.side).unwrap().new_user_text.clone();
    assert!(first.contains("dev-docs/tasks.md"), "the session read something else: {first}");
    let report = with(&["report"]);
    assert!(report.code() == 0 && report.stdout.contains("done"), "{}", report.stdout);
    // A run that is over is not run again.
    let again = with(&["run", "--json"]).ended(0, "done");
    assert_eq!(again.count("session_started"), 0);
}

#[test]
fn init_overwrites_nothing() {
    let (lab, _) = empty();
    for name in SCAFFOLD {
        lab.write(name, &format!("mine: {name}"));
    }
    let before = files(&lab.project());
    assert_eq!(lab.longhaul_output(&["init"]).code(), 0);
    assert_eq!(files(&lab.project()), before);
    // A task that would be lost is refused, and nothing is half done.
    lab.longhaul_output(&["init", "--task", "something"]).failed(64, &["plan.md exists"]);
    fs::remove_file(lab.project().join("longhaul.toml")).unwrap();
    lab.longhaul_output(&["init", "--task", "something"]).failed(64, &["nothing was written"]);
    assert!(!lab.project().join("longhaul.toml").exists());
    // What is missing is added, twice is as once.
    for _ in 0..2 {
        assert_eq!(lab.longhaul_output(&["init"]).code(), 0);
        let mut after = files(&lab.project());
        assert!(after.insert("longhaul.toml".into(), before["longhaul.toml"].clone()).is_some());
        assert_eq!(after, before);
    }
}
