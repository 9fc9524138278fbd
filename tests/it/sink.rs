//! The sink tells what the CLI reports, and never disturbs the CLI.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use longhaul::session::sink::{SinkEvent, SinkSocket};

const LONGHAUL: &str = env!("CARGO_BIN_EXE_longhaul");
const STATUSLINE: &str = include_str!("../data/sink/statusline.json");

fn report(kind: &str, dir: &Path, input: &[u8]) -> Output {
    let mut child = Command::new(LONGHAUL)
        .arg("__sink")
        .arg(kind)
        .arg(dir)
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
    let huge = format!("{{\"session_id\":\"{}\"}}", "x".repeat(3 << 20));
    for input in [&b""[..], b"\xff\x00", b"[", huge.as_bytes()] {
        for kind in ["Stop", "statusline", "Nonsense"] {
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
