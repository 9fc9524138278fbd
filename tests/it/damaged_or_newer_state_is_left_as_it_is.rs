//! State that this longhaul cannot read is never guessed at and never changed.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::{Lab, endless};

/// A project whose run was killed.
fn interrupted() -> (Lab, PathBuf) {
    let lab = Lab::new(endless());
    let run = lab.run();
    run.wait_event("context");
    run.kill();
    lab.wait_gone();
    let journal = lab.journals().pop().unwrap();
    (lab, journal)
}

/// `run`, `doctor`, `report` and `status` refuse, and not a byte of `file` is changed.
fn is_left_as_it_is(lab: &Lab, file: &Path, words: &[&str]) {
    let before = fs::read(file).unwrap();
    let requests = lab.api.requests().len();
    for command in ["run", "report", "status"] {
        let said = lab.longhaul_output(&[command, "--json"]).failed(50, words);
        assert_eq!(said.events, Vec::<Value>::new());
    }
    let doctor = lab.longhaul_output(&["doctor"]);
    assert_eq!(doctor.code(), 50, "{}", doctor.stdout);
    for word in words {
        assert!(doctor.stdout.contains(word), "{word}: {}", doctor.stdout);
    }
    assert_eq!(fs::read(file).unwrap(), before, "{} was changed", file.display());
    assert_eq!(lab.api.requests().len(), requests, "a session was started");
    assert_eq!(lab.alive(), []);
}

/// The copies of `file` that were put aside.
fn copies(file: &Path) -> Vec<PathBuf> {
    let prefix = format!("{}.damaged-", file.display());
    let beside = fs::read_dir(file.parent().unwrap()).unwrap();
    let beside = beside.map(|entry| entry.unwrap().path());
    beside.filter(|path| path.to_str().unwrap().starts_with(&prefix)).collect()
}

#[test]
fn a_project_of_a_newer_longhaul() {
    let (lab, journal) = interrupted();
    let file = journal.ancestors().nth(3).unwrap().join("project.json");
    let mut project: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    project["format"] = 999.into();
    project["something"] = "new".into();
    fs::write(&file, project.to_string()).unwrap();
    is_left_as_it_is(&lab, &file, &["newer longhaul", "format 999", "LONGHAUL_STATE_DIR"]);
    fs::write(&file, "{").unwrap();
    is_left_as_it_is(&lab, &file, &["project.json", "is not valid JSON"]);
}

#[test]
fn a_journal_of_a_newer_longhaul() {
    use sha2::{Digest, Sha256};
    let (lab, journal) = interrupted();
    let header = r#"{"format":999,"something":"new"}"#;
    let digits: String =
        Sha256::digest(header).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    fs::write(&journal, format!("{digits} {header}\n")).unwrap();
    is_left_as_it_is(&lab, &journal, &["newer longhaul", "format 999"]);
}

#[test]
fn a_damaged_journal() {
    let (lab, journal) = interrupted();
    let good = fs::read(&journal).unwrap();
    let shown = journal.to_str().unwrap();
    for at in [20, good.len() / 2] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&journal, &bad).unwrap();
        is_left_as_it_is(&lab, &journal, &[shown, "is damaged at entry"]);
    }
    let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
    fs::write(&journal, [&lines[..2], &lines[3..]].concat().concat()).unwrap();
    is_left_as_it_is(&lab, &journal, &["is damaged at entry 2"]);
    fs::write(&journal, "").unwrap();
    is_left_as_it_is(&lab, &journal, &["is empty"]);
    assert_eq!(copies(&journal).len(), 4, "one of each, however often it is found");
}

/// What the refusal says is enough to go on with, and nothing is lost.
#[test]
fn a_copy_is_put_aside_and_the_command_that_is_named_starts_afresh() {
    for name in ["journal", "project.json", "started-with.json"] {
        let (lab, journal) = interrupted();
        let run_id = lab.run_ids().pop().unwrap();
        let file = match name {
            "project.json" => journal.ancestors().nth(3).unwrap().join(name),
            _ => journal.with_file_name(name),
        };
        let mut bytes = fs::read(&file).unwrap();
        bytes.truncate(bytes.len() / 2);
        bytes.extend(b"\n");
        fs::write(&file, &bytes).unwrap();
        let refused = lab.longhaul_output(&["run", "--json"]).failed(50, &["start afresh"]);
        let copy = copies(&file).pop().unwrap();
        assert_eq!(fs::read(&copy).unwrap(), bytes);
        assert_eq!(fs::read(&file).unwrap(), bytes);
        assert!(refused.stderr.contains(copy.to_str().unwrap()), "{}", refused.stderr);
        let command = refused.stderr.split('`').find(|words| words.starts_with("mv ")).unwrap();
        assert!(lab.command("sh").args(["-c", command]).status().unwrap().success(), "{command}");
        let run = lab.run();
        let began = run.wait_event("run_started");
        assert_ne!(began["run_id"], run_id.as_str(), "{name}: it is a new run");
        let kept = files_below(&lab.state_dir());
        assert!(kept.iter().any(|kept| fs::read(kept).unwrap() == bytes), "{name}: it is kept");
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let nested = entries.map(|path| match path.is_dir() {
        true => files_below(&path),
        false => vec![path],
    });
    let files: Vec<PathBuf> = nested.flatten().collect();
    files.into_iter().filter(|path| path.is_file()).collect()
}

#[test]
fn a_last_line_torn_by_a_power_cut_is_no_damage() {
    let (lab, journal) = interrupted();
    let good = fs::read(&journal).unwrap();
    fs::write(&journal, &good[..good.len() - 5]).unwrap();
    let run = lab.run();
    run.wait_event("run_resumed");
    run.wait_event("context");
}
