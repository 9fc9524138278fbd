//! A well-behaved stand-in takes a run through its cycles as the CLI would.

use serde_json::json;

use crate::ledger::What;
use crate::support::{Arena, GONE_WITHIN, Running, audit};

#[test]
fn five_boxes_take_three_sessions_with_two_proven_checkpoints() {
    for (damaged, subagent) in [(false, false), (true, true)] {
        let usual = json!({"damaged": damaged, "subagent": subagent});
        let arena = Arena::new(5, &json!({"usual": usual}));
        let code = Running::start(&mut arena.run()).wait();
        assert_eq!(code, 0, "{}", arena.dump());
        arena.assert_gone(GONE_WITHIN);
        let audit = audit(&arena);
        assert_eq!(audit.sessions, 3, "{}", arena.dump());
        assert_eq!(arena.times(What::Checkpoint), 2, "{}", arena.dump());
        let report = arena.report();
        for (index, cycle) in report["cycles"].as_array().unwrap().iter().enumerate() {
            let (reason, status) =
                if index < 2 { ("threshold", "verified") } else { ("done", "none") };
            assert_eq!(cycle["end_reason"], reason, "{report:#}");
            assert_eq!(cycle["checkpoint"]["status"], status, "{report:#}");
            assert_eq!(cycle["exit"], 143, "{report:#}");
            assert_eq!(cycle["window_source"], "statusline", "{report:#}");
            let (billed, computed) = (&cycle["billed_cost_usd"], &cycle["computed_cost_usd"]);
            assert!(
                (billed.as_f64().unwrap() - computed.as_f64().unwrap()).abs() < 1e-6,
                "{report:#}"
            );
            assert_eq!(cycle["bad_rows"] == 0, !damaged, "{report:#}");
        }
    }
}

/// The rows of one reply come one by one, each with greater figures; the last
/// one counts, also when nothing comes behind it but the end.
#[test]
fn a_reply_that_grows_is_counted_as_it_was_at_last() {
    let usual = json!({"row_ms": 250});
    let ends = json!({"faults": [{"at": "tool", "do": {"exit": 3}}]});
    let arena = Arena::new(2, &json!({"usual": usual, "launches": [ends]}));
    assert_eq!(Running::start(&mut arena.run()).wait(), 0, "{}", arena.dump());
    arena.assert_gone(GONE_WITHIN);
    assert_eq!(audit(&arena).sessions, 2);
}
