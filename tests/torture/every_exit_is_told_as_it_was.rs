//! However the CLI ends, with each code and by each signal, before its first
//! reply and after: the report says how, and the run goes on. And each signal
//! that reaches longhaul itself ends it as documented, or not at all.

use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::ledger::What;
use crate::support::{Arena, GONE_WITHIN, Running, share, wait_until};

/// Sessions to a run: each costs a second of longhaul's own pause, so many runs
/// go on beside each other.
const LANES: usize = 16;

/// Not deadly by default: a CLI that gets one of these goes on, and the stand-in
/// then exits with 77. The three that would stop a process do nothing to one
/// whose group has no parent in its session.
const HARMLESS: [i32; 7] = [17, 18, 20, 21, 22, 23, 28];
/// Stops what it hits; nobody ever sees it end.
const SIGSTOP: i32 = 19;

#[derive(Debug, Clone, Copy)]
enum How {
    Code(i32),
    Signal(i32),
}

/// One end of one session, and what the report must say of it.
#[derive(Debug, Clone, Copy)]
struct End {
    how: How,
    replied: bool,
}

impl End {
    fn launch(self) -> Value {
        let deed = match self.how {
            How::Code(code) => json!({"exit": code}),
            How::Signal(number) => json!({"signal": number}),
        };
        let at = if self.replied { "reply" } else { "ready" };
        json!({"faults": [{"at": at, "do": deed}]})
    }

    fn exit(self) -> i32 {
        match self.how {
            How::Code(code) => code,
            How::Signal(number) if HARMLESS.contains(&number) => 77,
            How::Signal(number) => 128 + number,
        }
    }

    fn reason(self) -> &'static str {
        if self.replied { "exited" } else { "dead_start" }
    }
}

#[test]
fn each_code_and_signal_of_the_cli() {
    let signals = (1..=31).filter(|number| *number != SIGSTOP).map(How::Signal);
    let hows: Vec<How> = (0..=255).map(How::Code).chain(signals).collect();
    // One with a reply between two without: three dead starts in a row would
    // end the run.
    let ends: Vec<End> = hows
        .into_iter()
        .flat_map(|how| [true, false].map(|replied| End { how, replied }))
        .collect();
    let lanes: Vec<&[End]> = ends.chunks(ends.len().div_ceil(LANES)).collect();
    share(LANES, |index| index as usize >= lanes.len(), |index| run_through(lanes[index as usize]));
}

fn run_through(ends: &[End]) {
    let launches: Vec<Value> = ends.iter().map(|end| end.launch()).collect();
    // Each that replies ticks a box before it ends; one is left.
    let boxes = ends.iter().filter(|end| end.replied).count() + 1;
    let arena = Arena::new(boxes, &json!({"launches": launches}));
    let code = Running::start(&mut arena.run()).wait();
    assert_eq!(code, 0, "{ends:?}\n{}", arena.dump());
    arena.assert_gone(GONE_WITHIN);
    let report = arena.report();
    let cycles = report["cycles"].as_array().unwrap();
    assert_eq!(cycles.len(), ends.len() + 1, "{}", arena.dump());
    for (end, cycle) in ends.iter().zip(cycles) {
        assert_eq!(cycle["exit"], end.exit(), "{end:?}: {cycle:#}");
        assert_eq!(cycle["end_reason"], end.reason(), "{end:?}: {cycle:#}");
        assert_eq!(cycle["responses"], if end.replied { 2 } else { 0 }, "{end:?}: {cycle:#}");
        assert_eq!(cycle["survivors"], 0, "{end:?}: {cycle:#}");
    }
}

/// A stopped process does not end; it is ended when its time to start is over.
#[test]
fn a_stopped_cli_is_woken_to_be_ended() {
    let launch = json!({"faults": [{"at": "ready", "do": {"hang": "stopped"}}]});
    let mut arena = Arena::new(1, &json!({"launches": [launch]}));
    arena.set("session.start_timeout", "1s");
    assert_eq!(Running::start(&mut arena.run()).wait(), 0, "{}", arena.dump());
    arena.assert_gone(GONE_WITHIN);
    let first = &arena.report()["cycles"][0];
    assert_eq!((&first["exit"], &first["end_reason"]), (&143.into(), &"dead_start".into()));
}

/// What longhaul itself does on a signal.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    /// Ends the run and exits with 128 + n.
    Stops,
    /// Dies of it; the next longhaul carries on.
    Dies,
    /// Dies of the second: the first goes to Rust's check for a stack overflow,
    /// which expects the fault to come again.
    DiesOfSecond,
    /// Goes on, once it is continued.
    GoesOn,
}

fn answer(number: i32) -> Answer {
    match number {
        1 | 2 | 3 | 15 => Answer::Stops,
        // SIGPIPE: a reader that is gone is no matter.
        13 | 17..=23 | 28 => Answer::GoesOn,
        7 | 11 => Answer::DiesOfSecond,
        _ => Answer::Dies,
    }
}

#[test]
fn each_signal_to_longhaul_itself() {
    let ended = Mutex::new(Vec::new());
    share(
        8,
        |index| index >= 31,
        |index| {
            let number = index as i32 + 1;
            // It hangs before its first reply, so there is nothing to write down.
            let faults = json!([{"at": "prompt", "do": {"hang": "silent"}}]);
            let arena = Arena::new(1, &json!({"launches": [{"faults": faults}]}));
            let mut longhaul = Running::start(&mut arena.run());
            arena.wait_nth(What::Fault, 1);
            let signal = Signal::from_named_raw(number).unwrap();
            assert!(longhaul.signal(signal));
            let answer = answer(number);
            if answer == Answer::DiesOfSecond {
                wait_until("its end", || {
                    longhaul.signal(signal);
                    longhaul.wait_at_most(Duration::from_millis(10))
                });
            }
            if answer == Answer::GoesOn {
                assert!(longhaul.signal(Signal::CONT));
                assert_eq!(longhaul.wait_at_most(Duration::from_millis(300)), None, "{number}");
                let status = arena.command(env!("CARGO_BIN_EXE_longhaul")).arg("status").status();
                assert!(status.unwrap().success(), "{number}");
                assert!(longhaul.signal(Signal::TERM));
                assert_eq!(longhaul.wait(), 143, "{number}");
            } else {
                assert_eq!(longhaul.wait(), 128 + number, "{}", arena.dump());
            }
            arena.assert_gone(GONE_WITHIN);
            let outcome = arena.report()["outcome"].as_str().unwrap().to_owned();
            let dies = matches!(answer, Answer::Dies | Answer::DiesOfSecond);
            let wanted = if dies { "interrupted" } else { "stopped" };
            assert_eq!(outcome, wanted, "{number}");
            assert_eq!(Running::start(&mut arena.run()).wait(), 0, "{number}: {}", arena.dump());
            arena.assert_gone(GONE_WITHIN);
            ended.lock().unwrap().push(number);
        },
    );
    assert_eq!(ended.into_inner().unwrap().len(), 31);
}
