//! On a dead stream the CLI's spinner turns for ever. What it draws does not keep
//! the turn alive.

use std::time::Duration;

use serde_json::json;

use crate::ledger::What;
use crate::support::{Arena, GONE_WITHIN, Running};

/// Ended after 7 s; the rest is for a machine that has other things to do.
const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_turn_with_nothing_but_a_spinner_is_ended() {
    let spins = json!([{"at": "reply", "do": {"hang": "spinner"}}]);
    let mut arena = Arena::new(2, &json!({"launches": [{"faults": spins}]}));
    // More than one look at the screen, which is drawn 20 times a second, fits in.
    arena.set("hang.warn", "5s");
    arena.set("hang.interrupt", "6s");
    arena.set("hang.end", "7s");
    let code = Running::start(&mut arena.run()).wait_at_most(BOUND);
    assert_eq!(code, Some(0), "{}", arena.dump());
    assert_eq!(arena.times(What::Fault), 1, "{}", arena.dump());
    assert_eq!(arena.report()["cycles"][0]["end_reason"], "hang", "{}", arena.dump());
    arena.assert_gone(GONE_WITHIN);
}
