//! The sink tells what the CLI reports, and never disturbs the CLI.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use longhaul::session::permission::Answer;
use longhaul::session::sink::{SinkEvent, SinkSocket};

const LONGHAUL: &str = env!("CARGO_BIN_EXE_longhaul");
const STATUSLINE: &str = include_str!("../data/sink/statusline.json");

fn report(kind: &str, dir: &Path, input: &[u8]) -> Output {
    called(kind, dir, &[], input)
}

fn answer(dir: &Path, policy: &[&str], input: &[u8]) -> Output {
    called("PermissionRequest", dir, policy, input)
}

fn called(kind: &str, dir: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(LONGHAUL)
        .arg("__sink")
        .arg(kind)
        .arg(dir)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // An error here would be a pipe closed in the CLI's face.
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

#[test]
fn a_statusline_is_reported_and_shown() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let socket = SinkSocket::bind(dir.path()).unwrap();
        let output = report("statusline", dir.path(), STATUSLINE.as_bytes());
        assert!(output.status.success());
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(shown, "longhaul · context 6 % of 1000000\n");
        let got = tokio::time::timeout(Duration::from_secs(20), socket.recv()).await;
        match got.unwrap().unwrap().event {
            SinkEvent::Statusline(status) => {
                assert_eq!(status.context_tokens, Some(60_000));
                assert_eq!(status.window_tokens, Some(1_000_000));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn whatever_goes_wrong_the_cli_sees_success_and_no_words() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let huge = format!("{{\"session_id\":\"{}\"}}", "x".repeat(10 << 20));
    for input in [&b""[..], b"\xff\x00", b"[", huge.as_bytes()] {
        for kind in ["Stop", "statusline", "PreCompact", "PermissionRequest", "Nonsense"] {
            for dir in [dir.path(), &nowhere, Path::new("/dev/null"), Path::new("")] {
                let output = report(kind, dir, input);
                assert!(output.status.success(), "{kind}");
                assert_eq!(output.stderr, b"", "{kind}");
            }
        }
    }
    for args in [&["__sink"][..], &["__sink", "Stop"]] {
        let output = Command::new(LONGHAUL).args(args).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
    }
}

#[test]
fn a_cli_that_never_ends_its_words_is_not_waited_for_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(LONGHAUL)
        .args(["__sink", "Stop"])
        .arg(dir.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // The other end stays open until the sink has gone by itself.
    let held = child.stdin.take().unwrap();
    assert!(child.wait().unwrap().success());
    drop(held);
}

#[test]
fn a_compaction_is_held_by_exit_code_2_only_while_somebody_listens() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let auto = br#"{"trigger": "auto"}"#;
        assert_eq!(report("PreCompact", dir.path(), auto).status.code(), Some(0));
        let socket = SinkSocket::bind(dir.path()).unwrap();
        let held = report("PreCompact", dir.path(), auto);
        assert_eq!((held.status.code(), held.stdout, held.stderr), (Some(2), vec![], vec![]));
        drop(socket);
        assert_eq!(report("PreCompact", dir.path(), auto).status.code(), Some(0));
    });
}

#[test]
fn a_permission_is_answered_by_the_policy_on_the_command_line_whether_or_not_it_is_heard() {
    let input = br#"{"session_id": "s", "tool_name": "Bash", "tool_input": {"command": "ls"}}"#;
    let behavior = |dir: &Path, policy: &[&str]| {
        let output = answer(dir, policy, input);
        assert!(output.status.success() && output.stderr.is_empty());
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        json["hookSpecificOutput"]["decision"]["behavior"].as_str().map(str::to_owned)
    };
    let nowhere = Path::new("/nowhere");
    assert_eq!(behavior(nowhere, &["deny"]).as_deref(), Some("deny"));
    assert_eq!(behavior(nowhere, &["stop"]), None);
    assert_eq!(behavior(nowhere, &["command", "/bin/echo", "allow"]).as_deref(), Some("allow"));
    assert_eq!(behavior(nowhere, &["command", "/bin/false"]).as_deref(), Some("deny"));
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let socket = SinkSocket::bind(dir.path()).unwrap();
        behavior(dir.path(), &["stop"]);
        let got = tokio::time::timeout(Duration::from_secs(20), socket.recv()).await;
        let got = got.unwrap().unwrap();
        assert_eq!(got.session_id.as_deref(), Some("s"));
        match got.event {
            SinkEvent::Permission(told) => assert_eq!(told.answer, Answer::Stopped),
            other => panic!("{other:?}"),
        }
    });
}
