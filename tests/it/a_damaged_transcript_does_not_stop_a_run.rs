//! Rows no version writes whole do not stop a run; they are counted.

use std::fs::{self, OpenOptions};
use std::io::Write;

use super::support::{Lab, Run, endless, finisher, first_then};

/// A run in its first session, which goes on until it is told to cycle, and
/// the session's transcript.
fn working() -> (Lab, Run, std::path::PathBuf) {
    let lab = Lab::new(first_then(1, endless(), finisher()));
    let run = lab.run();
    let session = run.wait_event("session_started")["session_id"].as_str().unwrap().to_owned();
    run.wait_event("context");
    let file = lab.home.transcript(&lab.project(), &session);
    (lab, run, file)
}

#[test]
fn torn_spliced_and_unknown_rows_are_passed_over_and_counted() {
    let (lab, run, file) = working();
    let session = file.file_stem().unwrap().to_str().unwrap();
    let rows: [&[u8]; 6] = [
        b"\n{\"type\":\"assistant\",\"message\":{\"id\":\"torn\",\"usa",
        b"\n{\"type\":\"user\",\"mess{\"type\":\"assistant\",\"uuid\":\"spliced\"}",
        b"\n\0\0\0\0\0\0\0\0",
        b"\n\xff\xfe not text",
        b"\n{\"type\":\"brand-new-kind-of-row\",\"anything\":[1,2,3]}",
        b"\n{\"type\":\"assistant\",\"message\":{\"id\":7,\"usage\":\"much\"}}\n",
    ];
    OpenOptions::new().append(true).open(&file).unwrap().write_all(&rows.concat()).unwrap();
    let known = run.events().iter().filter(|event| event["event"] == "context").count();
    run.wait_event_nth("context", known + 3);
    assert_eq!(lab.longhaul_output(&["cycle"]).code(), 0);
    let finished = run.finished().ended(0, "done");
    assert_eq!(finished.count("checkpoint_verified"), 1);
    let report = lab.report();
    let first = &report["cycles"][0];
    assert!(first["bad_rows"].as_u64().unwrap() >= 4, "{first:#}");
    assert_eq!(report["cycles"][1]["bad_rows"], 0, "{report:#}");
    let (cost, billed) = (first["cost_usd"].as_f64().unwrap(), lab.cost_usd(session).unwrap());
    assert!((cost - billed).abs() < 1e-6, "{cost} is not {billed}");
    assert!((first["computed_cost_usd"].as_f64().unwrap() - billed).abs() < 1e-6, "{first:#}");
}

#[test]
fn a_transcript_deleted_in_the_middle_does_not_stop_the_run() {
    let (lab, run, file) = working();
    fs::remove_file(&file).unwrap();
    assert_eq!(lab.longhaul_output(&["cycle"]).code(), 0);
    let finished = run.finished().ended(0, "done");
    assert_eq!(finished.count("session_started"), 2);
    let report = lab.report();
    assert!(report["cycles"][0]["cost_usd"].as_f64().unwrap() > 0.0, "{report:#}");
    lab.wait_gone();
}
