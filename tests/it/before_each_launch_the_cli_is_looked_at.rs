//! Between two sessions the CLI may have been updated, be gone for a moment, or
//! have lost its own file.

use super::support::{Lab, Worker, failures, finisher, first_then};

/// A CLI that can be replaced: a script that becomes it.
fn lab() -> Lab {
    let mut lab = Lab::new(first_then(1, Worker::brisk(), finisher()));
    let cli = lab.root().join("claude").to_string_lossy().into_owned();
    install(&lab, "");
    lab.set("claude.command", cli);
    lab
}

/// Puts the script in its place at once, as an update does.
fn install(lab: &Lab, comment: &str) {
    let cli = lab.cli().program.display();
    lab.program("fresh", &format!("#!/bin/sh\n{comment}\nexec '{cli}' \"$@\"\n"));
    std::fs::rename(lab.root().join("fresh"), lab.root().join("claude")).unwrap();
}

#[test]
fn one_that_was_updated_is_told_of() {
    let lab = lab();
    let run = lab.night(&[]);
    run.wait_event("threshold_reached");
    install(&lab, "# newer");
    let run = run.finished().ended(0, "done");
    assert_eq!(run.count("session_started"), 2);
    assert_eq!(failures(&lab.report(), "cli_updated"), 1, "{}", run.dump());
    assert_eq!(run.count("warning"), 1, "{}", run.dump());
}

#[test]
fn one_that_is_gone_is_looked_for_again() {
    let lab = lab();
    let run = lab.night(&[]);
    run.wait_event("threshold_reached");
    let (here, away) = (lab.root().join("claude"), lab.root().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let retrying = run.wait_event("retrying");
    assert_eq!(retrying["class"], "cli_missing", "{retrying}");
    std::fs::rename(&away, &here).unwrap();
    let run = run.finished().ended(0, "done");
    assert_eq!(run.count("session_started"), 2);
    assert!(failures(&lab.report(), "cli_missing") >= 1, "{}", run.dump());
}

/// The CLI would begin from nothing, or overwrite what can still be saved.
#[test]
fn with_a_broken_file_of_its_own_nothing_is_launched() {
    let lab = lab();
    let ruined = lab.home.config_dir().join(".claude.json");
    // Ruined by the session's last breath, so that it cannot mend it.
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec '{cli}' --version\n\
         trap 'kill -TERM $child' TERM\n'{cli}' \"$@\" <&0 &\nchild=$!\nwait $child\nwait $child\n\
         code=$?\nprintf '{{\"proj' > '{ruined}'\nexit $code\n",
        cli = lab.cli().program.display(),
        ruined = ruined.display(),
    );
    lab.program("claude", &script);
    let run = lab.night(&[]).finished().ended(10, "needs_person");
    assert_eq!(run.count("session_started"), 1, "{}", run.dump());
    let message = run.event("run_finished")["message"].as_str().unwrap();
    assert!(message.contains(".claude.json"), "{message}");
    // What it says to use is there, and is what the run began with.
    let hint = message.split("a copy from the start of this run: cp -f '").nth(1);
    let copy = std::path::Path::new(hint.and_then(|hint| hint.split('\'').next()).unwrap());
    let text = std::fs::read_to_string(copy).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap().is_object());
    assert_eq!(failures(&lab.report(), "config_corrupt"), 1);
    assert_eq!(std::fs::read_to_string(ruined).unwrap(), "{\"proj");
    lab.wait_gone();
    // It holds secrets: the run after the mending removes it.
    std::fs::copy(copy, lab.home.config_dir().join(".claude.json")).unwrap();
    install(&lab, "");
    lab.night(&[]).finished().ended(0, "done");
    assert!(!copy.exists());
}
