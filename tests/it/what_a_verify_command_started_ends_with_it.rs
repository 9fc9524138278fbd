//! A verify command runs below a keeper of its own: its verdict is taken, and
//! whatever it started ends with it, however it or longhaul ends.

use std::path::Path;
use std::time::Duration;

use longhaul::verify::{Verdict, Verification};

use super::support::{
    GONE_WITHIN, Lab, Survivor, finisher, first_then, wait_for_end, with_argument,
};

/// Longer than a command needs, shorter than a test may take.
const LONG_MS: u64 = 60_000;

/// Digits that `sleep` takes for a very long time and nobody else uses.
fn new_tag() -> String {
    format!("9{:012}", uuid::Uuid::new_v4().as_u128() % 1_000_000_000_000)
}

/// Detached in every way: without a parent, a session, a mark, or an open pipe.
fn daemon(tag: &str) -> String {
    format!("(setsid env -i sleep {tag} </dev/null >/dev/null 2>&1 &)")
}

fn left_of(tag: &str) -> Vec<Survivor> {
    with_argument(tag)
}

fn in_runtime<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

async fn verify(command: &str, timeout_ms: u64) -> Verdict {
    let env = std::env::vars_os().filter(|(name, _)| name == "PATH").collect();
    let project = std::env::temp_dir();
    let verification = Verification { project: &project, command, env, timeout_ms, scratch: None };
    verification.run_by(Some(Path::new(env!("CARGO_BIN_EXE_longhaul")))).await
}

fn verify_now(command: &str, timeout_ms: u64) -> Verdict {
    in_runtime(verify(command, timeout_ms))
}

#[test]
fn zero_passes_and_anything_else_shows_its_end() {
    assert_eq!(
        verify_now("true", LONG_MS),
        Verdict { passed: true, tail: String::new(), survivors: 0 }
    );
    let verdict = verify_now("seq 1 5000; echo broken >&2; exit 3", LONG_MS);
    assert!(!verdict.passed);
    let end = "5000\nbroken\n[the verify command ended with exit status: 3]";
    assert!(verdict.tail.ends_with(end), "{}", verdict.tail);
    assert!(verdict.tail.len() < 4 * 1024 + 100);
}

#[test]
fn a_signal_and_a_project_that_is_gone_are_told() {
    assert_eq!(
        verify_now("kill -SEGV $$", LONG_MS).tail,
        "\n[the verify command ended by signal 11]"
    );
    let project = Path::new("/nonexistent");
    let none = Verification {
        project,
        command: "true",
        env: Vec::new(),
        timeout_ms: LONG_MS,
        scratch: None,
    };
    let verdict = in_runtime(none.run_by(Some(Path::new(env!("CARGO_BIN_EXE_longhaul")))));
    assert!(!verdict.passed && verdict.tail.contains("cannot start sh"), "{}", verdict.tail);
}

#[test]
fn the_command_does_not_notice_its_keeper() {
    let look = "sleep 0 & wait; cat; echo \"[$1]\"; readlink /proc/self/fd/3; kill 0";
    let verdict = verify_now(look, LONG_MS);
    assert_eq!(verdict.tail, "[]\n[the verify command ended by signal 15]");
    assert!(verify_now("test -z \"$LONGHAUL_KEEPER\"", LONG_MS).passed);
}

#[test]
fn a_keeper_that_is_shot_is_no_verdict() {
    let verdict = verify_now("kill -KILL $PPID; sleep 1; exit 0", LONG_MS);
    assert!(!verdict.passed && verdict.tail.contains("was lost"), "{}", verdict.tail);
}

#[test]
fn nothing_is_left_when_it_has_ended_by_itself() {
    let tag = new_tag();
    let stubborn = format!("(setsid sh -c 'trap \"\" TERM; sleep {tag}; :' &)");
    let verdict = verify_now(&format!("{}; {stubborn}; sleep 600 & exit 0", daemon(&tag)), LONG_MS);
    assert!(verdict.passed && verdict.survivors == 0, "{verdict:?}");
    assert_eq!(left_of(&tag), []);
}

#[test]
fn nothing_is_left_when_it_took_too_long() {
    let tag = new_tag();
    let verdict = verify_now(&format!("{}; sleep {tag} & sleep {tag}", daemon(&tag)), 500);
    assert!(!verdict.passed && verdict.tail.contains("did not end within"), "{}", verdict.tail);
    assert_eq!(left_of(&tag), []);
}

#[test]
fn nothing_is_left_when_nobody_waits_for_it_any_more() {
    let tag = new_tag();
    in_runtime(async {
        let command = format!("{}; sleep {tag}", daemon(&tag));
        let started = async {
            while left_of(&tag).len() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            verdict = verify(&command, LONG_MS) => panic!("{verdict:?}"),
            () = started => {}
        }
    });
    assert_eq!(wait_for_end(|| left_of(&tag), GONE_WITHIN), []);
}

#[test]
fn nothing_is_left_when_longhaul_is_killed() {
    let tag = new_tag();
    let mut lab = Lab::new(first_then(1, finisher(), finisher()));
    // The daemon says by itself that it is there.
    let daemon = format!("(setsid env -i sh -c 'touch in-verify; exec sleep {tag}' &)");
    let begin = format!("{daemon}; exec sleep {tag}");
    lab.set("task.verify", format!("if [ -e in-verify ]; then exit 0; fi; {begin}"));
    let run = lab.run();
    lab.wait_file("in-verify");
    assert!(!left_of(&tag).is_empty());
    run.kill();
    assert_eq!(wait_for_end(|| left_of(&tag), GONE_WITHIN), []);
    lab.run().finished().ended(0, "done");
}
