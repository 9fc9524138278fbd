//! The main job, offline, as a person who only wants to see it would run it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::support::{Lab, Run, finisher};

fn everything_below(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        found.insert(entry.path().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            found.extend(everything_below(&entry.path()));
        }
    }
    found
}

#[test]
fn three_sessions_and_nothing_is_left() {
    let lab = Lab::new(finisher());
    let before = everything_below(lab.root());
    let claude = fs::read(lab.home.config_dir().join(".claude.json")).unwrap();
    let program = lab.cli().program.to_str().unwrap();
    let mut command = lab.longhaul_command(&["demo", "--json", "--claude", program]);
    // What a person has in the shell must not reach it either.
    command.env("ANTHROPIC_API_KEY", "sk-ant-real").env("CLAUDE_CONFIG_DIR", lab.home.config_dir());
    let finished = Run::start(&mut command).finished().ended(0, "done");
    assert!(finished.count("session_started") >= 3, "{finished:#?}");
    assert!(finished.count("threshold_reached") >= 2, "{finished:#?}");
    assert!(finished.count("checkpoint_verified") >= 2, "{finished:#?}");
    for event in finished.events.iter().filter(|event| event["event"] == "threshold_reached") {
        assert!(event["percent"].as_u64().unwrap() >= 70, "{event}");
    }
    assert!(finished.stdout.lines().all(|line| line.starts_with('{')), "{}", finished.stdout);
    lab.wait_gone();
    let mut new: Vec<_> = everything_below(lab.root()).difference(&before).cloned().collect();
    // The folder in which a privately installed CLI would stay.
    new.retain(|path| !path.starts_with(lab.state_dir().to_str().unwrap()));
    assert_eq!(new, Vec::<String>::new());
    assert_eq!(fs::read(lab.home.config_dir().join(".claude.json")).unwrap(), claude);
    assert_eq!(lab.api.requests().len(), 0);
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing_either() {
    let lab = Lab::new(finisher());
    let before = everything_below(lab.root());
    let program = lab.cli().program.to_str().unwrap();
    let run = lab.longhaul(&["demo", "--json", "--claude", program]);
    run.wait_event("context");
    run.signal(rustix::process::Signal::INT);
    run.finished().ended(130, "stopped");
    lab.wait_gone();
    let mut new: Vec<_> = everything_below(lab.root()).difference(&before).cloned().collect();
    new.retain(|path| !path.starts_with(lab.state_dir().to_str().unwrap()));
    assert_eq!(new, Vec::<String>::new());
}
