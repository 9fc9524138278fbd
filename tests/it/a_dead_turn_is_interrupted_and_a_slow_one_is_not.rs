//! What moves is left alone however slow it is; what does not is interrupted,
//! and replaced when that does not help.

use std::time::Duration;

use longhaul::demo::api::{Reply, Request, Usage};

use super::support::{Lab, failures, said, ticks_at_once, troubled};

/// Long enough for a CLI to start on a busy machine.
const HANG: [&str; 4] = ["hang.warn=9s", "hang.interrupt=13s", "hang.end=20s", "hang.tool=10m"];

fn usage() -> Usage {
    Usage::of_context(20_000, 20_000, 50)
}

/// The first event of a stream, and then nothing.
fn stalled() -> Reply {
    let mut reply = Reply::text("never heard", usage());
    reply.chunk_delay = Duration::from_secs(3_600);
    reply
}

#[test]
fn an_answer_that_never_comes_is_interrupted() {
    let lab = Lab::new(troubled(|nth| match nth {
        0 => Some(Reply::bash("echo begun", usage())),
        1 => Some(Reply::hang()),
        _ => None,
    }));
    let run = lab.night(&HANG);
    let warned = run.wait_event("hang");
    let status = lab.status();
    assert_eq!(status["hang"]["signal"], warned["signal"], "{status:#}");
    assert_ne!(status["explain"], "the session works");
    let run = run.finished().ended(0, "done");
    assert_eq!(run.words("hang", "step"), ["warn", "interrupt"], "{}", run.dump());
    assert_eq!(run.reasons(), ["done"], "{}", run.dump());
    assert_eq!(failures(&lab.report(), "hang"), 1);
}

/// Esc takes a prompt back to which nothing was replied, and says so nowhere.
#[test]
fn a_prompt_that_esc_took_back_is_not_typed_with_the_next() {
    let lab = Lab::new(troubled(|nth| match nth {
        0 => Some(Reply::text("Shall I?", usage())),
        1 => Some(stalled()),
        _ => None,
    }));
    let run = lab.night(&HANG).finished().ended(0, "done");
    assert_eq!(run.words("hang", "step"), ["warn", "interrupt"], "{}", run.dump());
    assert_eq!(run.reasons(), ["done"], "{}", run.dump());
    let prompts = said(&lab, &run.sessions()[0]);
    assert_eq!(prompts.len(), 3, "{prompts:#?}");
    assert!(prompts[2].starts_with("Nothing moved in your last turn"), "{prompts:#?}");
}

#[test]
fn a_second_dead_answer_in_a_row_ends_the_session() {
    let lab = Lab::new(troubled(|nth| match nth {
        0 => Some(Reply::bash("echo begun", usage())),
        _ => Some(stalled()),
    }));
    let run = lab.night(&HANG).finished().ended(0, "done");
    assert_eq!(run.words("hang", "step"), ["warn", "interrupt", "warn", "end"], "{}", run.dump());
    assert_eq!(run.reasons(), ["hang", "done"], "{}", run.dump());
    let seconds = run.field("hang", "seconds");
    assert!(seconds.iter().all(|s| (9..60).contains(&s.as_u64().unwrap())), "{seconds:?}");
}

/// There is nothing in it to be saved.
#[test]
fn a_session_without_any_answer_is_replaced() {
    let lab = Lab::new(troubled(|_| Some(Reply::hang())));
    let run = lab.night(&HANG).finished().ended(0, "done");
    assert_eq!(run.words("hang", "step"), ["warn", "end"], "{}", run.dump());
    assert_eq!(run.reasons(), ["hang", "done"], "{}", run.dump());
    assert_eq!(failures(&lab.report(), "hang"), 1);
}

/// Its rows come minutes apart; the tokens on the screen tell that it lives.
#[test]
fn an_answer_that_trickles_is_left_alone() {
    let lab = Lab::new(|request: &Request| {
        let mut reply = ticks_at_once(request);
        if !request.side && request.index_in_session == 0 {
            reply = reply.saying("step by step, slowly. ".repeat(75));
            reply.chunk_delay = Duration::from_millis(500);
        }
        reply
    });
    let run = lab.night(&HANG).finished().ended(0, "done");
    assert!(!run.words("hang", "step").contains(&"interrupt".to_owned()), "{}", run.dump());
    assert_eq!(run.count("session_started"), 1);
}

fn sleeper(seconds: u32) -> Lab {
    Lab::new(troubled(move |nth| {
        let sleep = format!("python3 -c 'import time; time.sleep({seconds})'");
        (nth == 0).then(|| Reply::bash(sleep, usage()))
    }))
}

#[test]
fn a_silent_tool_call_has_a_limit_of_its_own() {
    let lab = sleeper(24);
    let run = lab.night(&HANG).finished().ended(0, "done");
    assert_eq!(run.count("hang"), 0, "{}", run.dump());
}

#[test]
fn a_tool_call_that_never_ends_is_interrupted() {
    let lab = sleeper(600);
    let run = lab.night(&[&HANG[..3], &["hang.tool=12s"]].concat()).finished().ended(0, "done");
    let hangs = run.named("hang");
    let last = hangs.last().expect("a hang");
    assert_eq!((&last["signal"], &last["step"]), (&"tool".into(), &"interrupt".into()));
    assert_eq!(run.count("session_started"), 1, "{}", run.dump());
    lab.wait_gone();
}
