//! Whatever a session started, in whichever of nine shapes, is gone when the
//! session is: ended politely, shot, or robbed of its keeper or of longhaul.
//! And the same trees do outlive a supervisor that ends a process group only.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;

use crate::ledger::{Entry, What};
use crate::procfs::{Life, Now};
use crate::script::Shape;
use crate::support::{Arena, GONE_WITHIN, Running, Seed, count, kill, share, wait_until};

/// From the shot, or the moment the session's end is decided. It takes a second;
/// the rest is for a machine that has other things to do.
const BOUND: Duration = Duration::from_secs(10);

const SHAPES: [Shape; 9] = [
    Shape::DoubleFork,
    Shape::Setsid,
    Shape::Nohup,
    Shape::Deaf,
    Shape::ForksOnTerm,
    Shape::HoldsPty,
    Shape::Cleared,
    Shape::TwoHundred,
    Shape::Stopped,
];

/// How a session comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// At the threshold, by SIGTERM.
    Polite,
    CliShot,
    KeeperShot,
    LonghaulShot,
    /// The keeper and longhaul: what is left is found by the next longhaul.
    BothShot,
}

const ENDINGS: [Ending; 5] =
    [Ending::Polite, Ending::CliShot, Ending::KeeperShot, Ending::LonghaulShot, Ending::BothShot];

#[test]
fn whatever_its_shape_and_end() {
    let (each, base) = (count(10, 200) as usize, Seed::base());
    // One arena for each shape and ending, with its share of the rounds.
    let trials: Vec<(Shape, Ending, usize)> = SHAPES
        .into_iter()
        .enumerate()
        .flat_map(|(s, shape)| {
            ENDINGS.into_iter().enumerate().map(move |(e, ending)| {
                // Dealt out in turn, so that the shares add up to `each`.
                (shape, ending, (each + (s + e) % ENDINGS.len()) / ENDINGS.len())
            })
        })
        .collect();
    let rounds: usize = trials.iter().map(|(_, _, rounds)| rounds).sum();
    assert_eq!(rounds, each * SHAPES.len());
    share(
        4,
        |index| index as usize >= trials.len(),
        |index| {
            let _seed = Seed::of("whatever_its_shape_and_end", base, index);
            let (shape, ending, rounds) = trials[index as usize];
            fell(shape, ending, rounds);
        },
    );
}

/// So many sessions with this tree, each brought to this end.
fn fell(shape: Shape, ending: Ending, rounds: usize) {
    // Waits in its first tool, or crosses the threshold with its first reply.
    let ending = if (shape, ending) == (Shape::Cleared, Ending::BothShot) {
        // Without keeper, longhaul and mark nobody but a control group knows it.
        Ending::KeeperShot
    } else {
        ending
    };
    let (tool_ms, first_tokens) =
        if ending == Ending::Polite { (2, 150_000) } else { (600_000, 50_000) };
    let usual = json!({"limbs": [shape], "tool_ms": tool_ms, "first_tokens": first_tokens});
    let mut arena = Arena::new(rounds + 1, &json!({"usual": usual}));
    // The last session is in its tool and will not answer.
    arena.set("checkpoint.stop_timeout", "1s");
    let mut longhaul = Running::start(&mut arena.run());
    for round in 1..=rounds {
        let what = |what: &str| format!("{shape:?}, {ending:?}, round {round}: {what}");
        let cli = arena.wait_nth(What::Start, round);
        let began = match ending {
            Ending::Polite => {
                let checkpoint = arena.wait_nth(What::Checkpoint, round);
                assert_eq!(checkpoint.session, cli.session, "{}", arena.dump());
                Instant::now()
            }
            Ending::CliShot | Ending::KeeperShot | Ending::LonghaulShot | Ending::BothShot => {
                arena.wait_nth(What::Limbs, round);
                // Its reply is seen, or it would count as a dead start.
                wait_until(&what("a reply"), || {
                    let mut entries = arena.ledger().into_iter();
                    entries.find(|e| e.what == What::Reply && e.session == cli.session)
                });
                let keeper = cli.life().now().expect("it waits in its tool").parent;
                let keeper = Now::read(keeper).unwrap().life;
                let victims = match ending {
                    Ending::KeeperShot => vec![keeper],
                    Ending::LonghaulShot => vec![longhaul.life],
                    Ending::BothShot => vec![longhaul.life, keeper],
                    Ending::Polite | Ending::CliShot => vec![cli.life()],
                };
                let began = Instant::now();
                // The second may be gone by itself, for the loss of the first.
                let hits: Vec<bool> = victims.into_iter().map(kill).collect();
                assert!(hits[0]);
                if is_over(ending) {
                    longhaul.wait();
                }
                if ending == Ending::BothShot {
                    longhaul = Running::start(&mut arena.run());
                }
                began
            }
        };
        let all = lives(&arena, &cli.session);
        assert!(all.len() as u64 > shape.limbs(), "{}", what("the tree did not stand"));
        wait_gone(&all, began, &what("left over"), &arena);
        // What grew while it was felled is in the ledger by now.
        wait_gone(&lives(&arena, &cli.session), began, &what("grown anew"), &arena);
        if ending == Ending::LonghaulShot {
            longhaul = Running::start(&mut arena.run());
        }
    }
    // The one that is still going.
    arena.wait_nth(What::Limbs, rounds + 1);
    assert!(longhaul.signal(Signal::TERM));
    assert_eq!(longhaul.wait(), 143, "{}", arena.dump());
    arena.assert_gone(GONE_WITHIN);
    assert_eq!(arena.times(What::Overlap) + arena.times(What::Leftover), 0, "{}", arena.dump());
}

/// Does it end longhaul itself?
fn is_over(ending: Ending) -> bool {
    matches!(ending, Ending::LonghaulShot | Ending::BothShot)
}

/// All that wrote into the ledger for this session.
fn lives(arena: &Arena, session: &str) -> Vec<Life> {
    let of_session = |entry: &Entry| entry.session == session;
    let mut lives: Vec<Life> =
        arena.ledger().iter().filter(|e| of_session(e)).map(Entry::life).collect();
    lives.sort_by_key(|life| life.pid);
    lives.dedup();
    lives
}

/// Nothing is left of these, not even zombies.
fn wait_gone(lives: &[Life], began: Instant, what: &str, arena: &Arena) {
    loop {
        let mut left: Vec<Now> = lives.iter().filter_map(|life| life.now()).collect();
        // Of longhaul's orphans the zombies are for init to reap.
        left.retain(|now| !(now.zombie && now.parent == 1));
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < BOUND, "{what}: {left:?}\n{}", arena.dump());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The control: what makes this suite worth anything. A supervisor that ends
/// the process group, as most do, leaves every tree standing that left the group.
#[test]
fn without_a_subreaper_they_would() {
    let mut survived = BTreeMap::new();
    for shape in SHAPES {
        let arena = Arena::new(1, &json!({"usual": {"limbs": [shape], "tool_ms": 600_000}}));
        let pair = native_pty_system()
            .openpty(PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 })
            .unwrap();
        let own = arena.stand_in();
        let mut command = CommandBuilder::new(own.get_program());
        command.env_clear();
        for (name, value) in own.get_envs() {
            command.env(name, value.unwrap());
        }
        command.cwd(arena.project());
        command.args(["--session-id", "no-keeper", "--settings", "{}", "--", "go"]);
        let mut cli = pair.slave.spawn_command(command).unwrap();
        arena.wait_nth(What::Limbs, 1);
        let group = Pid::from_raw(cli.process_id().unwrap() as i32).unwrap();
        kill_process_group(group, Signal::TERM).unwrap();
        // It may be over with that already.
        let _ = kill_process_group(group, Signal::KILL);
        cli.wait().unwrap();
        drop(pair);
        let left = || lives(&arena, "no-keeper").iter().filter(|life| life.is_alive()).count();
        if matches!(shape, Shape::DoubleFork | Shape::Nohup) {
            // They stayed in the group; SIGKILL is on its way.
            wait_until("the group ends", || (left() == 0).then_some(()));
        }
        survived.insert(shape, left() as u64);
    }
    let expected: BTreeMap<Shape, u64> = SHAPES
        .into_iter()
        .map(|shape| match shape {
            Shape::DoubleFork | Shape::Nohup => (shape, 0),
            _ => (shape, shape.limbs()),
        })
        .collect();
    assert_eq!(survived, expected);
}
