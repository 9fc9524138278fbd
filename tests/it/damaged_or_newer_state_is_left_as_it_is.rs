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
