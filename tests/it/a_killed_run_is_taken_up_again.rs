//! `kill -9` of longhaul, whatever it was doing: nothing of the session lives
//! on, and the next `longhaul run` carries the same run on at the next cycle,
//! with everything the lost session cost.

use longhaul::demo::api::{Gate, Reply, Request, Script};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::support::{
    Checkpoint, Finished, Lab, Run, Worker, endless, finisher, first_then, with_variable,
};

/// Waits until everything is gone, carries on, and checks what must hold
/// whatever was killed when.
fn carries_on_to_the_end(lab: &Lab, shot: &Run) -> (Finished, Value) {
    let run_id = lab.run_ids().pop().expect("a journal");
    shot.kill();
    lab.wait_gone();
    let finished = lab.run().finished().ended(0, "done");
    assert_eq!(finished.event("run_resumed")["run_id"], run_id.as_str());
    lab.wait_gone();
    (finished, assert_sound(lab, &run_id))
}

/// One run, its cycles numbered without gap or repetition, its costs those
/// the CLI itself states.
fn assert_sound(lab: &Lab, run_id: &str) -> Value {
    assert_eq!(lab.run_ids(), [run_id], "it is one run");
    let report = lab.report();
    assert_eq!(report["run_id"], run_id);
    let cycles = report["cycles"].as_array().unwrap();
    let mut sessions = std::collections::BTreeSet::new();
    for (index, cycle) in cycles.iter().enumerate() {
        assert_eq!(cycle["cycle"], index + 1, "{report:#}");
        let session = cycle["session_id"].as_str().unwrap();
        assert!(sessions.insert(session), "a session twice: {report:#}");
        if let Some(billed) = lab.cost_usd(session) {
            let cost = cycle["cost_usd"].as_f64().unwrap();
            assert!((cost - billed).abs() < 1e-6, "cycle {}: {cost} is not {billed}", index + 1);
        }
    }
    let sum: f64 = cycles.iter().map(|cycle| cycle["cost_usd"].as_f64().unwrap()).sum();
    let total = report["totals"]["cost_usd"].as_f64().unwrap();
    assert!((sum - total).abs() < 1e-5, "{sum} is not {total}");
    report
}

fn assert_first_was_lost(report: &Value, cycles: usize) {
    assert_eq!(report["cycles"].as_array().unwrap().len(), cycles, "{report:#}");
    assert_eq!(report["cycles"][0]["end_reason"], "supervisor_lost", "{report:#}");
}

fn assert_briefed(lab: &Lab, report: &Value) {
    assert_eq!(report["cycles"][0]["checkpoint"]["status"], "handoff", "{report:#}");
    let session = report["cycles"][0]["session_id"].as_str().unwrap();
    let brief = lab.read("dev-docs/handoff.md");
    assert!(brief.contains(session), "{brief}");
    assert!(report["cycles"][0]["cost_usd"].as_f64().unwrap() > 0.0, "{report:#}");
    assert!(lab.cost_usd(session).is_some(), "the keeper ends it politely, so it leaves a bill");
}

#[test]
fn killed_while_the_session_starts() {
    let lab = Lab::new(first_then(1, |_: &Request| Reply::hang(), finisher()));
    let run = lab.run();
    lab.wait_session_request(0);
    let (_, report) = carries_on_to_the_end(&lab, &run);
    assert_first_was_lost(&report, 2);
}

#[test]
fn killed_while_the_session_works() {
    let lab = Lab::new(first_then(1, endless(), finisher()));
    let run = lab.run();
    run.wait_event("context");
    let (finished, report) = carries_on_to_the_end(&lab, &run);
    assert_eq!(finished.event("session_started")["cycle"], 2);
    assert_first_was_lost(&report, 2);
    assert_briefed(&lab, &report);
}

#[test]
fn what_lay_in_its_temporary_folder_goes_with_it() {
    let lab = Lab::new(first_then(1, endless(), finisher()));
    let run = lab.run();
    run.wait_event("context");
    assert_eq!(lab.temporary_folders().len(), 1);
    run.kill();
    lab.wait_gone();
    assert_eq!(lab.temporary_folders(), [""; 0]);
}

#[test]
fn killed_in_a_long_tool_that_left_children_everywhere() {
    let command = "setsid sh -c 'touch runaway; exec sleep 1000' & nohup sleep 1001 >/dev/null 2>&1 & \
                   env -i setsid sleep 1002 & sleep 1003";
    let lab = Lab::new(first_then(1, Worker { command: command.into(), ..endless() }, finisher()));
    let run = lab.run();
    lab.wait_file("runaway");
    let (_, report) = carries_on_to_the_end(&lab, &run);
    assert_first_was_lost(&report, 2);
    assert_briefed(&lab, &report);
}

#[test]
fn killed_while_a_checkpoint_is_waited_for() {
    let worker =
        Worker { first_tokens: 150_000, checkpoint: Checkpoint::Slow(Gate::new()), ..endless() };
    let lab = Lab::new(first_then(1, worker, finisher()));
    let run = lab.run();
    run.wait_event("checkpoint_delivered");
    let (_, report) = carries_on_to_the_end(&lab, &run);
    assert_first_was_lost(&report, 2);
    assert_briefed(&lab, &report);
}

#[test]
fn killed_when_the_checkpoint_was_just_proven() {
    let worker = Worker { first_tokens: 150_000, ..endless() };
    let lab = Lab::new(first_then(1, worker, finisher()));
    let run = lab.run();
    run.wait_event("checkpoint_verified");
    let (_, report) = carries_on_to_the_end(&lab, &run);
    assert_eq!(report["cycles"][0]["checkpoint"]["status"], "verified", "{report:#}");
    let folder = report["cycles"][0]["checkpoint"]["folder"].as_str().expect("it was kept");
    let kept = lab.longhaul_output(&["report"]).stdout;
    assert!(std::path::Path::new(folder).join("dev-docs/plan.md").exists(), "{folder}\n{kept}");
}

#[test]
fn killed_while_the_session_is_being_ended() {
    let worker = Worker { first_tokens: 150_000, ..endless() };
    let lab = Lab::new(first_then(1, worker, finisher()));
    let hook = r#"{"hooks":{"SessionEnd":[{"hooks":[{"type":"command","command":"touch ending; sleep 1"}]}]}}"#;
    lab.write(".claude/settings.json", hook);
    let run = lab.run();
    lab.wait_file("ending");
    let (_, report) = carries_on_to_the_end(&lab, &run);
    assert_eq!(report["cycles"][0]["checkpoint"]["status"], "verified", "{report:#}");
    assert_eq!(report["cycles"].as_array().unwrap().len(), 2);
}

#[test]
fn killed_between_two_sessions() {
    let lab = Lab::new(first_then(1, endless(), finisher()));
    let run = lab.run();
    let pid = run.wait_event("session_started")["pid"].as_i64().unwrap();
    run.wait_event("context");
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    run.wait_event("session_ended");
    let (_, report) = carries_on_to_the_end(&lab, &run);
    assert_eq!(report["cycles"][0]["end_reason"], "exited", "{report:#}");
}

#[test]
fn killed_while_the_verify_command_runs() {
    let mut lab = Lab::new(first_then(1, finisher(), finisher()));
    // It passes the second time.
    lab.set("task.verify", "if [ -e in-verify ]; then exit 0; fi; touch in-verify; sleep 1000");
    let run = lab.run();
    lab.wait_file("in-verify");
    let (_, report) = carries_on_to_the_end(&lab, &run);
    assert_first_was_lost(&report, report["cycles"].as_array().unwrap().len());
}

#[test]
fn killed_again_and_again() {
    let lab = Lab::new(first_then(3, endless(), finisher()));
    for cycle in 1..=3 {
        let run = lab.run();
        assert_eq!(run.wait_event("context")["cycle"], cycle);
        run.kill();
        lab.wait_gone();
    }
    let run_id = lab.run_ids().pop().unwrap();
    lab.run().finished().ended(0, "done");
    let report = assert_sound(&lab, &run_id);
    let reasons: Vec<_> = report["cycles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["end_reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons, ["supervisor_lost", "supervisor_lost", "supervisor_lost", "done"]);
}

#[test]
fn a_cli_that_is_shot_costs_one_session() {
    let lab = Lab::new(first_then(1, endless(), finisher()));
    let run = lab.run();
    let pid = run.wait_event("session_started")["pid"].as_i64().unwrap();
    run.wait_event("context");
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    let finished = run.finished().ended(0, "done");
    assert_eq!(finished.event("session_ended")["reason"], "exited");
    assert_eq!(finished.event("session_ended")["exit"], 137);
    lab.wait_gone();
    let report = assert_sound(&lab, &lab.run_ids()[0]);
    assert_eq!(report["cycles"].as_array().unwrap().len(), 2);
    assert_eq!(report["cycles"][0]["checkpoint"]["status"], "handoff");
    assert!(report["cycles"][0]["cost_usd"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_keeper_that_is_shot_costs_one_session() {
    let command = "setsid sleep 1000 & touch in-tool; sleep 1001".into();
    let lab = Lab::new(first_then(1, Worker { command, ..endless() }, finisher()));
    let run = lab.run();
    let run_id = run.wait_event("run_started")["run_id"].as_str().unwrap().to_owned();
    lab.wait_file("in-tool");
    // The row of the reply may be written after its tool has begun.
    run.wait_event("context");
    let keepers = with_variable("LONGHAUL_KEEPER", &run_id);
    assert_eq!(keepers.len(), 1, "{keepers:?}");
    kill_process(Pid::from_raw(keepers[0].pid).unwrap(), Signal::KILL).unwrap();
    let finished = run.finished().ended(0, "done");
    assert_eq!(finished.event("session_ended")["survivors"], 0);
    lab.wait_gone();
    let report = assert_sound(&lab, &run_id);
    assert_eq!(report["cycles"].as_array().unwrap().len(), 2, "{report:#}");
    assert_eq!(report["cycles"][0]["checkpoint"]["status"], "handoff");
}

/// Splitmix64: the same moments for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % limit
    }
}

/// `LAB_SEED=n` repeats a failure, `LAB_KILLS=n` goes on for longer.
#[test]
fn killed_at_random_moments() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("LAB_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u128() as u64);
    let kills = number("LAB_KILLS").unwrap_or(5);
    eprintln!("LAB_SEED={seed}");
    let mut dice = Dice(seed);
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_done = done.clone();
    // A session reaches the threshold with its third answer.
    let worker = Worker { first_tokens: 100_000, ..Worker::default() };
    let last = finisher();
    let mut lab = Lab::new(move |request: &Request| {
        if is_done.load(std::sync::atomic::Ordering::SeqCst) {
            last.reply(request)
        } else {
            worker.reply(request)
        }
    });
    lab.set("limits.no_progress_cycles", 100);
    for _ in 0..kills {
        let run = lab.run();
        if dice.below(2) == 0 {
            // At one of the events, which is where states change.
            let events = dice.below(30) as usize;
            run.wait_event_where("events", |seen| (seen.len() >= events).then_some(()));
        }
        // The moment is the test, not a wait for a fact.
        std::thread::sleep(std::time::Duration::from_millis(dice.below(500)));
        run.kill();
        lab.wait_gone();
    }
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    lab.run().finished().ended(0, "done");
    lab.wait_gone();
    // The very first may have been killed before there was a journal.
    let run_id = lab.run_ids().pop().expect("a journal");
    assert_sound(&lab, &run_id);
}

#[test]
fn being_killed_is_not_held_against_the_sessions() {
    let lab = Lab::new(first_then(4, |_: &Request| Reply::hang(), finisher()));
    for session in 0..4 {
        let run = lab.run();
        lab.wait_session_request(session);
        run.kill();
        lab.wait_gone();
    }
    let run_id = lab.run_ids().pop().unwrap();
    lab.run().finished().ended(0, "done");
    let report = assert_sound(&lab, &run_id);
    assert_eq!(report["cycles"].as_array().unwrap().len(), 5, "{report:#}");
}
