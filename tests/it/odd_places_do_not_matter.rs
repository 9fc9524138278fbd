//! Blanks, quotes, other scripts, links and very long names in the paths of
//! home, project, state and temporary files.

use std::fs;
use std::path::Path;

use super::support::{Lab, Run, Worker, endless, finisher, first_then};

/// Moves the project there, trusts it, and has two sessions get the work done.
fn gets_done_in(lab: &Lab, place: &Path, reached_by: &Path, more: &[(&str, &Path)]) {
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::rename(lab.project(), place).unwrap();
    // The laboratory's commands start in the project.
    std::os::unix::fs::symlink(place, lab.project()).unwrap();
    lab.home.trust(place).unwrap();
    let mut command =
        lab.longhaul_command(&["run", "--json", "--project", reached_by.to_str().unwrap()]);
    command.current_dir("/").envs(more.iter().copied());
    let finished = Run::start(&mut command).finished().ended(0, "done");
    assert_eq!(finished.count("session_started"), 2);
    assert_eq!(finished.count("checkpoint_verified"), 1);
    assert_eq!(
        finished.event("context")["window_source"],
        "statusline",
        "the sink was not reached"
    );
    lab.wait_gone();
    let mut report =
        lab.longhaul_command(&["report", "--json", "--project", place.to_str().unwrap()]);
    let said = Run::start(report.current_dir("/").envs(more.iter().copied())).finished();
    assert_eq!(said.code(), 0, "{said:#?}");
    let report: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["outcome"], "done");
}

fn lab() -> Lab {
    Lab::new(first_then(1, Worker { first_tokens: 150_000, ..endless() }, finisher()))
}

#[test]
fn a_project_with_blanks_quotes_and_other_scripts_in_its_path() {
    let lab = lab();
    let place = lab.root().join("my \"big\" project's $HOME `x`; 数据 ünï ✓\\");
    gets_done_in(&lab, &place, &place, &[]);
}

#[test]
fn a_project_with_a_very_long_path() {
    let lab = lab();
    let place = lab.root().join("a-rather-long-name/".repeat(12));
    assert!(place.as_os_str().len() > 200);
    gets_done_in(&lab, &place, &place, &[]);
}

#[test]
fn a_project_that_is_reached_by_a_link() {
    let lab = lab();
    let (place, link) = (lab.root().join("real"), lab.root().join("link to it"));
    std::os::unix::fs::symlink(&place, &link).unwrap();
    gets_done_in(&lab, &place, &link, &[]);
}

#[test]
fn long_and_blank_places_for_state_and_temporary_files() {
    let lab = lab();
    let place = lab.root().join("p");
    let tmp = lab.root().join("a tmp that is long/".repeat(8));
    let state = lab.root().join("a state that is long/".repeat(8));
    fs::create_dir_all(&tmp).unwrap();
    gets_done_in(&lab, &place, &place, &[("TMPDIR", &tmp), ("LONGHAUL_STATE_DIR", &state)]);
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0, "something was left behind");
}

#[test]
fn a_home_with_blanks() {
    let mut lab = lab();
    let home = lab.root().join("my home");
    fs::rename(lab.home.dir(), &home).unwrap();
    // A plain home as a person has it: nothing moves the CLI's folder.
    lab.set_env("HOME", home.to_str().unwrap());
    lab.set_env("CLAUDE_CONFIG_DIR", home.join(".claude").to_str().unwrap());
    let finished =
        Run::start(lab.longhaul_command(&["run", "--json"]).env("HOME", &home)).finished();
    finished.ended(0, "done");
    lab.wait_gone();
}
