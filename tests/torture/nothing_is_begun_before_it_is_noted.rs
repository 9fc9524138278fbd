//! A session is in the journal, and the journal on the disk, before it is begun:
//! whenever longhaul dies, the next one knows of every session there was. strace
//! says in which order it went.

use std::fs;

use longhaul::cycle::Action;
use longhaul::journal;
use serde_json::json;

use crate::ledger::What;
use crate::support::{Arena, GONE_WITHIN};

#[test]
fn each_session_is_on_the_disk_before_its_keeper_is_started() {
    let arena = Arena::new(2, &json!({"usual": {"first_tokens": 150_000}}));
    let log = arena.path("calls");
    let mut traced = arena.command("strace");
    traced.args(["-f", "-y", "-qq", "-s", "32", "-e", "trace=execve,write,fdatasync", "-o"]);
    traced.arg(&log).arg(env!("CARGO_BIN_EXE_longhaul")).args(["run", "--json"]);
    // Without strace, or the right to use it, longhaul was never there.
    let code = traced.status().map_or(1, |status| status.code().unwrap_or(1));
    if arena.runs().is_empty() && std::env::var_os("LONGHAUL_NEEDS_STRACE").is_none() {
        eprintln!("skipped: strace is not there or may not trace");
        return;
    }
    assert_eq!(code, 0, "{}", arena.dump());
    let journal = fs::read(arena.runs()[0].join("journal")).unwrap();
    let (mut noted_bytes, mut durable_bytes, mut launches) = (0, 0, 0);
    for line in fs::read_to_string(&log).unwrap().lines() {
        if line.contains("write(") && line.contains("/journal") {
            noted_bytes += bytes_of(line);
        } else if line.contains("fdatasync(") && line.contains("/journal") {
            durable_bytes = noted_bytes;
        } else if line.contains("execve(") && line.contains("\"__keeper\"") {
            launches += 1;
            assert_eq!(noted_bytes, durable_bytes, "launch {launches} is not on the disk");
            assert!(ends_with_a_launch(&journal[..noted_bytes]), "launch {launches} is not noted");
        }
    }
    assert_eq!(noted_bytes, journal.len(), "the check saw all that was written");
    assert!(launches >= 2 && launches == arena.times(What::Start), "{launches}");
    arena.assert_gone(GONE_WITHIN);
}

/// `… write(9</state/…/journal>, "0123456789abcdef"..., 345) = 345`
fn bytes_of(line: &str) -> usize {
    let (_, count) = line.rsplit_once(", ").unwrap();
    let digits = count.find(|c: char| !c.is_ascii_digit()).unwrap_or(count.len());
    count[..digits].parse().unwrap()
}

/// Is a launch what comes of the last event?
fn ends_with_a_launch(journal: &[u8]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    fs::write(&path, journal).unwrap();
    let mut launches = false;
    let see = |_, actions: &[Action], _: &_| {
        launches = actions.iter().any(|action| matches!(action, Action::Launch { .. }));
    };
    journal::read_with(&path, see).unwrap();
    launches
}
