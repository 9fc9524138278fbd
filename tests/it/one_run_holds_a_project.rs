//! One run per project: the second says at once who holds it, and a lock does
//! not outlive its holder.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::{Lab, Run, endless};

#[test]
fn a_second_run_names_the_holder_at_once() {
    let lab = Lab::new(endless());
    let first = lab.run();
    first.wait_event("session_started");
    let begun = Instant::now();
    let second = lab.run();
    second.wait_exit();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    let pid = first.pid().to_string();
    let said = second.finished().failed(40, &[&pid, "holds the project", "longhaul status"]);
    assert_eq!(said.events, Vec::<serde_json::Value>::new());
    assert_eq!(lab.run_ids().len(), 1);
    assert!(
        first.events().iter().all(|event| event["event"] != "session_ended"),
        "it was disturbed"
    );
}

#[test]
fn another_path_to_the_same_project_is_the_same_project() {
    let lab = Lab::new(endless());
    let first = lab.run();
    first.wait_event("session_started");
    let link = lab.root().join("link");
    std::os::unix::fs::symlink(lab.project(), &link).unwrap();
    let pid = first.pid().to_string();
    lab.longhaul_output(&["run", "--project", link.to_str().unwrap()]).failed(40, &[&pid]);
}

#[test]
fn a_killed_holder_holds_nothing() {
    let lab = Lab::new(endless());
    let first = lab.run();
    first.wait_event("session_started");
    first.kill();
    // At once: nobody has to wait for a lock to go stale.
    let second = lab.run();
    second.wait_event("run_resumed");
    second.signal(Signal::TERM);
    second.finished().ended(143, "stopped");
}

#[test]
fn of_two_that_start_together_one_wins() {
    let lab = Lab::new(endless());
    for _ in 0..3 {
        let runs = [lab.run(), lab.run()];
        let is_winner = |run: &Run| run.events().iter().any(|e| e["event"] == "session_started");
        // The loser ends by itself; the winner does not.
        let loser = loop_until_one_ends(&runs);
        let [first, second] = runs;
        let (winner, loser) = if loser == 0 { (second, first) } else { (first, second) };
        let pid = winner.pid().to_string();
        loser.finished().failed(40, &[&pid]);
        winner.wait_event("session_started");
        assert!(is_winner(&winner));
        winner.signal(Signal::TERM);
        winner.finished().ended(143, "stopped");
    }
}

fn loop_until_one_ends(runs: &[Run; 2]) -> usize {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for (index, run) in runs.iter().enumerate() {
            let tell = tell.clone();
            scope.spawn(move || {
                run.wait_event_or_exit("session_started");
                let _ = tell.send((index, run.has_exited()));
            });
        }
        let ended: Vec<usize> =
            told.iter().take(2).filter(|(_, exited)| *exited).map(|(index, _)| index).collect();
        assert_eq!(ended.len(), 1, "one loses and one wins");
        ended[0]
    })
}
