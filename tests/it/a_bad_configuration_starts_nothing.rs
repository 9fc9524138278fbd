//! A configuration that is not understood is refused, with the key it speaks of.

use std::fs;

use super::support::{Lab, finisher};

#[test]
fn each_mistake_is_named_and_nothing_is_started() {
    let lab = Lab::new(finisher());
    for (set, words) in [
        (
            "context.threshold_precent=60",
            &["context.threshold_precent", "context.threshold_percent"][..],
        ),
        ("contxt.threshold_percent=60", &["contxt", "context"]),
        ("context.threshold_percent=\"much\"", &["context.threshold_percent", "number"]),
        ("context.threshold_percent=0", &["context.threshold_percent"]),
        ("context.threshold_percent=101", &["context.threshold_percent"]),
        ("checkpoint.timeout=\"ten minutes\"", &["checkpoint.timeout"]),
        ("checkpoint.timeout=-1", &["checkpoint.timeout"]),
        ("checkpoint.git=\"push\"", &["checkpoint.git", "commit"]),
        ("checkpoint.files=[]", &["checkpoint.files"]),
        ("checkpoint.files=[\"../outside.md\"]", &["checkpoint.files"]),
        ("limits.max_sessions=0", &["limits.max_sessions"]),
        ("limits.max_sessions=99999999999999999999", &["limits.max_sessions"]),
        ("limits.max_cost_usd=-5", &["limits.max_cost_usd"]),
        ("limits.max_cost_usd=nan", &["limits.max_cost_usd"]),
        ("task.file=\"/etc/passwd\"", &["task.file"]),
        ("task.file=\"\"", &["task.file"]),
        ("claude.args=\"--model\"", &["claude.args"]),
        ("claude.env={A=1}", &["claude.env"]),
        ("limits.tree_memory_soft_mb=99999", &["--set", "limits.tree_memory_hard_mb"]),
        ("hang.warn=\"999ms\"", &["--set: `hang.warn`", "1s"]),
        ("hang.interrupt=\"2h\"", &["--set: `hang.interrupt`", "hang.end"]),
        ("notify.command=[\"/no/such/program\"]", &["--set: `notify.command`", "/no/such"]),
        ("notify.command=[\"no-such-program\"]", &["--set: `notify.command`", "PATH"]),
        ("notify.command=[\"\"]", &["--set: `notify.command`", "empty"]),
        ("notify.on=[\"done\"]", &["--set: `notify.on`", "finished", "done"]),
        ("notify.webhook=\"ftp://x\"", &["--set: `notify.webhook`", "HTTP"]),
        ("permissions.policy=\"command\"", &["--set: `permissions.policy`", "is empty"]),
        ("permissions.policy=\"ask\"", &["--set: `permissions.policy`", "stop"]),
        ("nonsense", &["nonsense"]),
    ] {
        eprintln!("--set {set}");
        lab.refuses(&["--set", set], 64, words);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_refused_and_named() {
    let lab = Lab::new(finisher());
    let file = lab.project().join("longhaul.toml");
    lab.write("longhaul.toml", "[context]\nthreshold_percent = = 3\n");
    lab.refuses(&[], 64, &["longhaul.toml", "longhaul.toml:2"]);
    fs::write(&file, b"[claude]\ncommand = \"\xff\"\n").unwrap();
    lab.refuses(&[], 64, &["longhaul.toml"]);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    lab.refuses(&[], 64, &["longhaul.toml"]);
    fs::remove_dir(&file).unwrap();
    assert!(lab.command("mkfifo").arg(&file).status().unwrap().success());
    lab.refuses(&[], 64, &["longhaul.toml"]);
    fs::remove_file(&file).unwrap();
    fs::File::create(&file).unwrap().set_len(1 << 30).unwrap();
    lab.refuses(&[], 64, &["longhaul.toml"]);
    lab.refuses(&["--config", "/no/such/file.toml"], 64, &["/no/such/file.toml"]);
    lab.refuses(&["--project", "/no/such/project"], 64, &["/no/such/project"]);
}

#[test]
fn arguments_that_longhaul_needs_for_itself_are_refused() {
    let lab = Lab::new(finisher());
    for argument in ["--resume", "--continue", "-p", "--session-id=x", "--settings={}"] {
        lab.refuses(&["--", argument], 64, &[argument.split('=').next().unwrap()]);
    }
}
