//! What goes wrong within minutes is ended within seconds: memory, subagents,
//! tokens and dollars at a time, room on the disk.

use std::time::Duration;

use longhaul::demo::api::{Block, Reply, Request, Script, Usage};
use serde_json::json;

use super::support::{Finished, Lab, Worker, endless, finisher, first_step, first_then, said};

/// Holds so much memory for as long as it lives.
fn eater(megabytes: u32) -> String {
    let hold = format!("import time; held = b\"x\" * ({megabytes} << 20); time.sleep(600)");
    format!("nohup python3 -c '{hold}' >/dev/null 2>&1 </dev/null &")
}

#[test]
fn memory_above_the_hard_limit_ends_the_session_and_the_next_is_told() {
    let lab = Lab::new(first_then(1, first_step(&eater(900)), finisher()));
    let sets = ["limits.tree_memory_soft_mb=800", "limits.tree_memory_hard_mb=900"];
    let run = lab.night(&sets).finished().ended(0, "done");
    assert_eq!(run.reasons(), ["memory", "done"], "{}", run.dump());
    let second = said(&lab, &run.sessions()[1]).join("\n");
    assert!(second.contains("too much memory"), "{second}");
    lab.wait_gone();
}

#[test]
fn memory_above_the_soft_limit_is_a_reason_for_a_checkpoint() {
    let lab = Lab::new(first_then(1, first_step(&eater(900)), finisher()));
    let sets = ["limits.tree_memory_soft_mb=800", "limits.tree_memory_hard_mb=8000"];
    let run = lab.night(&sets).finished().ended(0, "done");
    assert_eq!(run.words("checkpoint_requested", "reason"), ["memory"], "{}", run.dump());
    assert_eq!(run.reasons(), ["memory", "done"], "{}", run.dump());
    lab.wait_gone();
    assert_eq!(lab.report()["cycles"][0]["checkpoint"]["status"], "verified");
}

/// From the breach to the end, and nothing is left.
fn is_dammed(lab: &Lab, run: Finished, key: &str) {
    let run = run.ended(20, "budget");
    lab.wait_gone();
    let breach = run.at_ms("warning", |e| e["text"].as_str().unwrap().contains(key));
    let gone = run.at_ms("session_ended", |_| true);
    assert!(gone - breach <= 10_000, "{} ms\n{}", gone - breach, run.dump());
    assert_eq!(run.reasons(), ["budget"], "{}", run.dump());
    let report = lab.report();
    assert!(report["message"].to_string().contains(key), "{report:#}");
    assert_eq!(report["survivors"], 0);
}

#[test]
fn more_subagents_than_allowed_end_the_run() {
    let lab = Lab::new(|request: &Request| {
        let usage = Usage::of_context(20_000, 20_000, 50);
        let first = request.turns.iter().find(|turn| turn.is_said());
        if first.is_some_and(|turn| turn.texts.iter().any(|text| text.contains("SUBTASK"))) {
            return Reply::bash("sleep 1; echo counted", usage).after(Duration::from_millis(500));
        }
        if request.side || !request.turns.iter().all(|turn| turn.tool_uses.is_empty()) {
            return endless().reply(request).after(Duration::from_secs(1));
        }
        let agent = |n: u32| Block::ToolUse {
            name: "Agent".into(),
            input: json!({
                "description": format!("Count {n}"), "prompt": "SUBTASK: count",
                "subagent_type": "general-purpose", "run_in_background": true,
            }),
        };
        Reply::new((0..4).map(agent).collect(), usage)
    });
    let run = lab.night(&["limits.max_subagents=2"]).finished();
    is_dammed(&lab, run, "limits.max_subagents");
}

#[test]
fn tokens_and_dollars_come_with_a_time() {
    let leaves = "(setsid sleep 600 &) >/dev/null 2>&1 </dev/null";
    for (set, key) in [
        ("limits.tokens_per_minute=90000", "limits.tokens_per_minute"),
        ("limits.cost_usd_per_hour=0.03", "limits.cost_usd_per_hour"),
    ] {
        let lab = Lab::new(first_step(leaves));
        let run = lab.night(&[set]).finished();
        is_dammed(&lab, run, key);
    }
}

/// A file as large as allowed but for a little, again and again, outside of
/// everything that longhaul knows of.
#[test]
fn what_is_written_counts_wherever_it_lies() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().display();
    let write = format!(
        "import time; [open(\"{path}/%d\" % n, \"wb\").write(bytes(100 << 20)) for n in range(3)]; time.sleep(600)"
    );
    let lab =
        Lab::new(first_step(&format!("nohup python3 -c '{write}' >/dev/null 2>&1 </dev/null &")));
    let run = lab.night(&["limits.written_mb=250"]).finished();
    let told = run.words("warning", "text").join("\n");
    assert!(told.contains("250 MB are allowed"), "{told}");
    let warnings = lab.report()["warnings"].to_string();
    assert!(warnings.contains("250 MB are allowed"), "{warnings}");
    is_dammed(&lab, run, "limits.written_mb");
}

#[test]
fn without_room_on_the_disk_nothing_is_launched() {
    let lab = Lab::new(Worker::default());
    let run = lab.longhaul_output(&["run", "--json", "--set", "limits.disk_floor_mb=900000000"]);
    assert_eq!(run.code(), 51, "{}", run.dump());
    assert_eq!(run.count("session_started"), 0, "{}", run.dump());
    assert_eq!(lab.api.requests().len(), 0);
    assert_eq!(lab.alive(), []);
}
