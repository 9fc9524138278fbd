//! Each misdeed that a script can ask for is done, and longhaul gets past it as
//! it does today: the ground that tests of hangs, failures and floods stand on.

use std::fs;

use serde_json::{Value, json};

use crate::ledger::What;
use crate::support::{Arena, GONE_WITHIN, Running, share};

/// One launch does this; the next behaves.
fn after(launch: Value) -> Arena {
    let mut arena = Arena::new(2, &json!({"launches": [launch]}));
    arena.set("session.start_timeout", "1s");
    arena.set("session.exit_timeout", "1s");
    arena.set("checkpoint.timeout", "1s");
    arena
}

/// The run ends with this code, and nothing is left of it.
fn ends(arena: &Arena, code: i32) -> Value {
    assert_eq!(Running::start(&mut arena.run()).wait(), code, "{}", arena.dump());
    arena.assert_gone(GONE_WITHIN);
    arena.report()
}

fn fault(at: &str, deed: Value) -> Value {
    json!({"faults": [{"at": at, "do": deed}]})
}

fn each<T: Copy + Sync>(cases: &[T], trial: impl Fn(T) + Sync) {
    share(4, |index| index as usize >= cases.len(), |index| trial(cases[index as usize]));
}

#[test]
fn it_hangs_before_its_first_reply() {
    // How it ends when it is told to: by its own hand where it can hear that.
    let cases = [("silent", 143), ("spinner", 143), ("busy", 143), ("deaf", 137), ("stopped", 143)];
    each(&cases, |(how, exit)| {
        let arena = after(fault("prompt", json!({"hang": how})));
        let report = ends(&arena, 0);
        assert_eq!(arena.times(What::Fault), 1, "{how}");
        let first = &report["cycles"][0];
        assert_eq!((&first["end_reason"], &first["exit"]), (&"dead_start".into(), &exit.into()));
    });
}

#[test]
fn it_stalls_and_goes_on() {
    let arena = after(fault("tool", json!({"stall": 300})));
    let report = ends(&arena, 0);
    assert_eq!(report["cycles"].as_array().unwrap().len(), 1, "{report:#}");
}

#[test]
fn it_hears_no_signal_but_kill() {
    let arena = after(json!({"ignores": ["TERM", "HUP", "INT"], "first_tokens": 150_000}));
    let report = ends(&arena, 0);
    assert_eq!(report["cycles"][0]["exit"], 137, "{report:#}");
}

#[test]
fn it_answers_a_request_for_a_checkpoint_with_something_else() {
    each(&["refuse", "ignore"], |how| {
        let arena = after(json!({"checkpoint": how, "first_tokens": 150_000}));
        let report = ends(&arena, 0);
        assert!(arena.times(What::Asked) >= 1, "{how}");
        assert_eq!(report["cycles"][0]["checkpoint"]["status"], "handoff", "{how}: {report:#}");
    });
}

#[test]
fn its_dialogs_are_known_for_what_they_are() {
    each(&["trust", "api_key", "bypass", "permission"], |name| {
        let at = if name == "permission" { "tool" } else { "start" };
        let arena = after(fault(at, json!({"dialog": name})));
        ends(&arena, 10);
    });
}

#[test]
fn its_api_errors_end_the_turn() {
    let cases = [
        ("authentication_failed", 401, "Please run /login", 30),
        ("invalid_request", 400, "Prompt is too long", 0),
    ];
    each(&cases, |(error, status, text, code)| {
        let deed = json!({"api_error": {"error": error, "status": status, "text": text}});
        let arena = after(fault("tool", deed));
        let report = ends(&arena, code);
        let session = report["cycles"][0]["session_id"].as_str().unwrap();
        let path = arena.home.transcript(&arena.project(), session);
        let rows = fs::read_to_string(path).unwrap();
        assert!(rows.contains("\"isApiErrorMessage\":true"), "{rows}");
        assert!(rows.contains(error), "{rows}");
    });
}

#[test]
fn its_floods_are_as_large_as_asked() {
    let floods = ["transcript", "subagents", "tokens", "memory", "disk", "screen"];
    each(&floods, |what| {
        let arena = after(fault("tool", json!({"flood": {"what": what, "amount": 3}})));
        let report = ends(&arena, 0);
        let first = &report["cycles"][0];
        let session = first["session_id"].as_str().unwrap();
        let path = arena.home.transcript(&arena.project(), session);
        match what {
            "transcript" => assert!(fs::metadata(&path).unwrap().len() > 3 << 20),
            "disk" => {
                assert_eq!(fs::metadata(arena.project().join("flood")).unwrap().len(), 3 << 20);
            }
            "subagents" => {
                let folder = path.with_extension("").join("subagents");
                assert_eq!(fs::read_dir(folder).unwrap().count(), 3);
            }
            "tokens" => {
                let total: u64 =
                    first["usage"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
                assert!(total > 6_000_000, "{first:#}");
            }
            _ => assert_eq!(arena.times(What::Fault), 1),
        }
    });
}
