//! Started from a script, cron or a closed shell: the streams may be closed or
//! read by nobody, and wrappers may stand in between.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::support::{Lab, Run, endless, finisher, first_then};

/// Runs `longhaul` inside a line of shell; `$LONGHAUL` is the program.
fn by_shell(lab: &Lab, line: &str) -> Command {
    let mut command = lab.command("sh");
    command.args(["-c", line]).env("LONGHAUL", env!("CARGO_BIN_EXE_longhaul"));
    command
}

fn only_child(pid: i32) -> Pid {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}

fn gets_done(lines: &[&str]) {
    for line in lines {
        let lab = Lab::new(finisher());
        let finished = Run::start(&mut by_shell(&lab, line)).finished();
        assert_eq!(finished.code(), 0, "{line}: {finished:#?}");
        let report = lab.report();
        assert_eq!(report["outcome"], "done", "{line}: {report:#}");
        lab.wait_gone();
    }
}

#[test]
fn closed_standard_output_does_not_matter() {
    gets_done(&["\"$LONGHAUL\" run --json >&-", "\"$LONGHAUL\" run --json >/dev/full"]);
}

#[test]
fn closed_standard_input_and_error_do_not_matter() {
    gets_done(&["\"$LONGHAUL\" run <&- 2>&-", "\"$LONGHAUL\" run <&- >&- 2>&-"]);
}

#[test]
fn wrappers_do_not_matter() {
    gets_done(&["nohup setsid --wait timeout 50s \"$LONGHAUL\" run"]);
}

/// What is started into a pid namespace, by a container or as the first process
/// of a machine, has a session whose id there is 0.
#[test]
fn a_session_that_has_no_id_here_does_not_matter() {
    let ways = ["unshare --pid", "unshare --user --map-current-user --pid"];
    let way =
        ways.map(|way| format!("{way} --fork --kill-child --mount-proc")).into_iter().find(|way| {
            Command::new("sh")
                .args(["-c", &format!("{way} true")])
                .output()
                .unwrap()
                .status
                .success()
        });
    let Some(way) = way else {
        // Not every machine lets everybody have namespaces.
        return assert!(std::env::var_os("LONGHAUL_NEEDS_UNSHARE").is_none(), "no pid namespace");
    };
    let lab = Lab::new(first_then(1, endless(), finisher()));
    let killed = lab.run();
    killed.wait_event("context");
    killed.kill();
    lab.wait_gone();
    let line = format!("{way} \"$LONGHAUL\" run --json");
    Run::start(&mut by_shell(&lab, &line)).finished().ended(0, "done").event("run_resumed");
    lab.wait_gone();
}

#[test]
fn another_locale_or_none_does_not_matter() {
    gets_done(&[
        "LC_ALL=de_DE.ISO-8859-1 LANG=C \"$LONGHAUL\" run",
        "env -u TERM -u LANG \"$LONGHAUL\" run",
    ]);
}

#[test]
fn a_reader_that_went_away_does_not_stop_the_run() {
    for json in ["", "--json"] {
        let lab = Lab::new(first_then(
            1,
            super::support::Worker { first_tokens: 150_000, ..endless() },
            finisher(),
        ));
        let line = format!("{{ \"$LONGHAUL\" run {json}; echo $? > ../code; }} | head -1");
        let finished = Run::start(&mut by_shell(&lab, &line)).finished();
        assert_eq!(finished.stdout.lines().count(), 1, "{finished:#?}");
        assert_eq!(lab.read("../code"), "0\n", "{finished:#?}");
        assert_eq!(lab.report()["cycles"].as_array().unwrap().len(), 2);
        lab.wait_gone();
    }
}

#[test]
fn a_reader_that_never_reads_does_not_hold_up_the_run() {
    // The pipe is full long before the end: a page is all it holds.
    let lab = Lab::new(finisher());
    let line = "\"$LONGHAUL\" run --json | sh -c 'while [ ! -e ../go ]; do sleep 0.1; done; cat >/dev/null' & \
                wait_for=$!; wait $wait_for";
    let run = Run::start(&mut by_shell(&lab, line));
    lab.wait_change("the end of the run", || {
        lab.journals().first().is_some_and(|journal| {
            std::fs::read_to_string(journal).is_ok_and(|text| text.contains("\"exited\""))
        })
    });
    std::fs::write(lab.root().join("go"), "").unwrap();
    assert_eq!(run.finished().code(), 0);
    assert_eq!(lab.report()["outcome"], "done");
}

#[test]
fn timeout_ends_it_as_a_signal_does() {
    let lab = Lab::new(endless());
    let finished =
        Run::start(&mut by_shell(&lab, "timeout 5s \"$LONGHAUL\" run --json")).finished();
    // 124 is timeout's own word for "it was I who ended it".
    assert_eq!(finished.code(), 124, "{finished:#?}");
    let end = finished.events.last().unwrap();
    assert_eq!((&end["event"], &end["exit_code"]), (&"run_finished".into(), &143.into()));
    assert_eq!(finished.event("session_ended")["reason"], "stopped");
    lab.wait_gone();
}

/// `timeout` sends its signal to its child and then to the child's group: that
/// is not a second signal.
#[test]
fn a_signal_that_comes_by_way_of_timeout_is_one_signal() {
    let lab = Lab::new(endless());
    let run = Run::start(&mut by_shell(&lab, "exec timeout 1000s \"$LONGHAUL\" run --json"));
    run.wait_event("context");
    let longhaul = only_child(run.pid());
    run.signal(Signal::TERM);
    run.wait_event("checkpoint_requested");
    // As when the second of the two is late.
    kill_process(longhaul, Signal::TERM).unwrap();
    let finished = run.finished();
    assert_eq!(finished.events.last().unwrap()["exit_code"], 143, "{finished:#?}");
    assert_eq!(finished.count("checkpoint_verified"), 1, "{finished:#?}");
    lab.wait_gone();
}

#[test]
fn nohup_keeps_a_run_alive_when_the_shell_is_closed() {
    let lab = Lab::new(first_then(1, endless(), finisher()));
    let mut command = by_shell(&lab, "exec nohup \"$LONGHAUL\" run --json");
    let run = Run::start(&mut command);
    run.wait_event("context");
    run.signal(Signal::HUP);
    // Were it obeyed, the run would end; so a cycle that is asked for is reached.
    assert_eq!(lab.longhaul_output(&["cycle"]).code(), 0);
    run.finished().ended(0, "done");
}
