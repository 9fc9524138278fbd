//! A usage limit is waited for until it is reset, and the run goes on; one that
//! holds for longer than the person allows ends it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longhaul::demo::api::{Reply, Request, Script};

use super::support::{Lab, TICK_ALL, Worker, endless, failures, said, unix_ms};

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// Refuses everything but the first answer until `reset_s`; then ticks every box.
fn limited(reset_s: i64) -> impl Script {
    move |request: &Request| -> Reply {
        let worker = endless();
        match request.finished_tools().len() {
            0 => worker.reply(request),
            _ if now_s() < reset_s => Reply::usage_limit("five_hour", reset_s),
            1 => Reply::bash(TICK_ALL, worker.usage(1)),
            _ => Reply::text("All done.", worker.usage(2)),
        }
    }
}

/// A lab whose CLI takes itself for a subscriber's.
fn subscriber(script: impl Script + 'static) -> Lab {
    let mut lab = Lab::new(script);
    lab.set_env("ANTHROPIC_API_KEY", "");
    lab.set_env("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-made-up-for-the-tests");
    lab
}

/// The CLI tries on by itself, and only its screen tells of the limit.
#[test]
fn while_the_cli_tries_on_by_itself() {
    let reset_s = now_s() + 40;
    let lab = Lab::new(limited(reset_s));
    let run = lab.night(&[]).finished().ended(0, "done");
    let waiting = run.event("waiting");
    assert_eq!(waiting["reason"], "five_hour", "{}", run.dump());
    // The screen tells the minute; the margin comes on top.
    let late_s = unix_ms(&waiting["until"]) / 1000 - reset_s;
    assert!((0..=75).contains(&late_s), "{late_s}: {waiting}");
    assert_eq!(run.count("session_started"), 1);
    let report = lab.report();
    assert_eq!(report["waits"].as_array().unwrap().len(), 1, "{report:#}");
    assert!(report["waits"][0]["ended_at"].is_string(), "{report:#}");
    assert_eq!(failures(&report, "usage_limit"), 1, "{report:#}");
    // Nobody typed into a session that goes on by itself.
    assert_eq!(said(&lab, &run.sessions()[0]).len(), 1);
}

/// Without attempts of its own the CLI says nothing of the reset: it is tried
/// again, less and less often.
#[test]
fn when_the_cli_gives_up_at_once() {
    let mut lab = Lab::new(limited(now_s() + 20));
    lab.set_env("CLAUDE_CODE_MAX_RETRIES", "0");
    let run = lab.night(&[]).finished().ended(0, "done");
    assert_eq!(run.count("session_started"), 1);
    let retrying = run.event("retrying");
    assert_eq!(retrying["class"], "rate_limit", "{}", run.dump());
    assert!(failures(&lab.report(), "rate_limit") >= 1);
}

/// Its screen has told of the limit by then: longhaul waits, and types.
#[test]
fn when_the_cli_gives_up_after_a_while() {
    // The screen tells the minute only.
    let reset_s = (now_s() + 20) / 60 * 60 + 58;
    let mut lab = Lab::new(limited(reset_s));
    lab.set_env("CLAUDE_CODE_MAX_RETRIES", "4");
    let run = lab.night(&[]).finished().ended(0, "done");
    assert_eq!(run.words("waiting", "reason"), ["five_hour"], "{}", run.dump());
    assert_eq!(run.count("session_started"), 1);
    let report = lab.report();
    let (until, ended) = (&report["waits"][0]["until"], &report["waits"][0]["ended_at"]);
    assert!(unix_ms(ended) >= unix_ms(until), "{report:#}");
    assert_eq!(said(&lab, &run.sessions()[0]).len(), 2, "{}", run.dump());
}

/// The CLI asks what to do, as it does at a limit that holds for days.
#[test]
fn the_menu_of_a_limit_is_left_and_the_session_goes_on() {
    let lab = subscriber(limited(now_s() + 15));
    let settings = r#"{"autoContinueAtUsageLimit": false}"#;
    std::fs::write(lab.home.config_dir().join("settings.json"), settings).unwrap();
    let run = lab.night(&[]);
    let waiting = run.wait_event("waiting");
    assert_eq!(lab.status()["waiting"]["reason"], waiting["reason"]);
    let human = lab.longhaul_output(&["status"]).stdout;
    assert!(human.contains("\nwaits    five-hour limit, until "), "{human}");
    let run = run.finished().ended(0, "done");
    assert_eq!(lab.status()["waiting"], serde_json::Value::Null);
    // Told anew, as the CLI is not going to go on by itself.
    assert_eq!(run.words("waiting", "reason"), ["five_hour"; 2], "{}", run.dump());
    assert_eq!(lab.report()["waits"].as_array().unwrap().len(), 1, "{}", run.dump());
    assert_eq!(run.words("dialog", "kind"), ["usage_limit_menu"], "{}", run.dump());
    assert_eq!(run.count("session_started"), 1, "{}", run.dump());
    assert_eq!(said(&lab, &run.sessions()[0]).len(), 2, "{}", run.dump());
}

/// Whoever starts it again hears until when, and the morning hears of one wait.
#[test]
fn a_wait_is_taken_up_again_after_a_kill() {
    let reset_s = now_s() + 20;
    let lab = subscriber(limited(reset_s));
    let settings = r#"{"autoContinueAtUsageLimit": false}"#;
    std::fs::write(lab.home.config_dir().join("settings.json"), settings).unwrap();
    let shot = lab.night(&[]);
    let first = shot.wait_event("waiting");
    shot.wait_event("dialog");
    shot.kill();
    lab.wait_gone();
    let run = lab.night(&[]);
    let again = run.wait_event("waiting");
    let late_s = unix_ms(&again["until"]) / 1_000 - reset_s;
    assert!((0..=30).contains(&late_s), "{late_s}: {again}");
    assert_eq!(lab.status()["waiting"]["until"], again["until"]);
    let run = run.finished().ended(0, "done");
    assert_eq!(run.words("waiting", "reason"), ["five_hour"], "{}", run.dump());
    assert!(unix_ms(&run.event("session_started")["ts"]) >= reset_s * 1_000, "{}", run.dump());
    let report = lab.report();
    let (waits, since) = (report["waits"].as_array().unwrap(), &report["waits"][0]["at"]);
    assert_eq!(waits.len(), 1, "{report:#}");
    assert_eq!(unix_ms(since), unix_ms(&first["ts"]), "it began before the kill");
    assert_eq!(failures(&report, "usage_limit"), 1, "{report:#}");
}

#[test]
fn a_reset_beyond_what_the_person_allows_ends_the_run_at_once() {
    let lab = subscriber(limited(now_s() + 3_600));
    let run = lab.night(&["limits.max_wait_hours=0.001"]).finished().ended(31, "limit");
    assert_eq!((run.count("session_started"), run.count("waiting")), (1, 0));
    lab.wait_gone();
    let report = lab.report();
    assert_eq!(report["cycles"][0]["checkpoint"]["status"], "handoff", "{report:#}");
    lab.read("dev-docs/handoff.md");
}

/// The CLI of a subscriber goes on by itself; then nothing may be typed.
#[test]
#[ignore = "3 min: `cargo nextest run a_subscribers_cli_goes_on --run-ignored only`"]
fn a_subscribers_cli_goes_on_by_itself() {
    let reset_s = now_s() + 25;
    let lab = subscriber(limited(reset_s));
    let run = lab.night(&[]).patient(Duration::from_secs(280)).finished().ended(0, "done");
    let waiting = run.event("waiting");
    assert_eq!(waiting["reason"], "five_hour");
    let late_s = unix_ms(&waiting["until"]) / 1000 - reset_s;
    assert!((0..=150).contains(&late_s), "{late_s}: {waiting}");
    let prompts = said(&lab, &run.sessions()[0]);
    assert_eq!(prompts.len(), 2, "{prompts:#?}");
    assert!(prompts[1].contains("usage limit has reset"), "{prompts:#?}");
    let report = lab.report();
    assert!(report["waits"][0]["ended_at"].is_string(), "{report:#}");
}

#[test]
fn some_of_the_quota_is_left_to_the_person() {
    let lab = subscriber(|request: &Request| {
        let reset = (now_s() + 3_600).to_string();
        let worker = Worker { latency: Duration::from_secs(1), ..endless() };
        worker
            .reply(request)
            .header("anthropic-ratelimit-unified-status", "allowed")
            .header("anthropic-ratelimit-unified-5h-utilization", "0.85")
            .header("anthropic-ratelimit-unified-5h-reset", &reset)
            .header("anthropic-ratelimit-unified-7d-utilization", "0.10")
            .header("anthropic-ratelimit-unified-7d-reset", &reset)
    });
    let run = lab.night(&["limits.quota_reserve_percent=20"]).finished().ended(20, "budget");
    assert_eq!(run.words("checkpoint_requested", "reason"), ["budget"], "{}", run.dump());
    let report = lab.report();
    assert_eq!(report["cycles"][0]["checkpoint"]["status"], "verified", "{report:#}");
    assert!(report["message"].to_string().contains("limits.quota_reserve_percent"), "{report:#}");
}
