//! `kill -9` of longhaul, the keeper, the CLI, the script around longhaul, or all
//! of them, at random moments and again and again: in the end every task is done, every
//! cycle and token is in the report once, never were two sessions alive at once,
//! and nothing lives on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::ledger::What;
use crate::procfs::{Life, Now};
use crate::script::Shape;
use crate::support::{
    Arena, Audit, DEADLINE, Dice, GONE_WITHIN, Running, Seed, audit, count, kill, share, wait_for,
};

/// What a person has around longhaul: it is started again until it is done.
/// 40 means that the one of an earlier, shot wrapper is still at work.
const WRAPPER: &str = r#"while :; do
    "$0" run --json
    code=$?
    echo "$code" >> ../codes
    case $code in
        0) exit 0 ;;
        137) ;;
        40) sleep 0.05 ;;
        *) exit "$code" ;;
    esac
done"#;

/// Sessions in a row that never replied before longhaul asks for a person;
/// one less may be shot before their first reply.
const DEAD_STARTS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Longhaul,
    Keeper,
    Cli,
    Wrapper,
    /// Longhaul and the keeper in one moment.
    Pair,
    /// Everything, as when the power fails.
    All,
}

/// By weight: longhaul itself has the most to lose.
const VICTIMS: [Victim; 10] = [
    Victim::Longhaul,
    Victim::Longhaul,
    Victim::Longhaul,
    Victim::Longhaul,
    Victim::Keeper,
    Victim::Cli,
    Victim::Cli,
    Victim::Wrapper,
    Victim::Pair,
    Victim::All,
];

#[test]
fn whoever_is_shot_whenever() {
    const TEST: &str = "whoever_is_shot_whenever";
    let (wanted, base) = (count(300, 10_000), Seed::base());
    let kills = AtomicU64::new(0);
    let (runs, sessions, replies) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    share(
        6,
        |_| kills.load(Ordering::Relaxed) >= wanted,
        |index| {
            let seed = Seed::of(TEST, base, index);
            let mut trial = Trial::begin(seed.dice());
            let audit = trial.shoot_and_carry_on();
            let before = kills.fetch_add(trial.kills, Ordering::Relaxed);
            if (before + trial.kills) / 1_000 > before / 1_000 {
                eprintln!("{} kills so far", before + trial.kills);
            }
            runs.fetch_add(1, Ordering::Relaxed);
            sessions.fetch_add(audit.sessions as u64, Ordering::Relaxed);
            replies.fetch_add(audit.replies, Ordering::Relaxed);
        },
    );
    eprintln!("{kills:?} kills in {runs:?} runs of {sessions:?} sessions with {replies:?} replies");
}

struct Trial {
    arena: Arena,
    dice: Dice,
    wrapper: Running,
    kills: u64,
    /// Shots at sessions without a reply since one with a reply was shot.
    shot_early: u32,
}

impl Trial {
    fn begin(mut dice: Dice) -> Self {
        let mut usual = json!({
            "reply_ms": dice.below(15),
            "tool_ms": dice.below(25),
            "damaged": dice.one_in(3),
            "subagent": dice.one_in(3),
        });
        if dice.one_in(3) {
            let shapes =
                [Shape::DoubleFork, Shape::Setsid, Shape::Deaf, Shape::HoldsPty, Shape::Stopped];
            usual["limbs"] = json!([dice.pick(&shapes)]);
        }
        let boxes = 4 + dice.below(6) as usize;
        let mut arena = Arena::new(boxes, &json!({"usual": usual}));
        if dice.one_in(3) {
            arena.set("task.verify", "sleep 0.05; test -e dev-docs/tasks.md");
        }
        if dice.one_in(4) {
            arena.git_init();
            arena.set("checkpoint.git", "commit");
        }
        let wrapper = wrapper(&arena);
        Self { arena, dice, wrapper, kills: 0, shot_early: 0 }
    }

    fn shoot_and_carry_on(&mut self) -> Audit {
        let shots = 4 + self.dice.below(12);
        for _ in 0..shots {
            self.aim();
            if self.wrapper.ended().is_some() {
                break;
            }
            self.shoot();
        }
        let code = self.wrapper.wait_at_most(DEADLINE);
        assert_eq!(code, Some(0), "{}", self.arena.dump());
        self.arena.assert_gone(GONE_WITHIN);
        audit(&self.arena)
    }

    /// Waits for a random moment: somewhere in the life of a session, or
    /// anywhere. The moment is the test, not a wait for a fact.
    fn aim(&mut self) {
        if self.dice.one_in(2) {
            let entries = self.arena.ledger().len() + self.dice.below(14) as usize;
            let arena = &self.arena;
            let wrapper = &mut self.wrapper;
            let came = wait_for(|| {
                (arena.ledger().len() >= entries || wrapper.ended().is_some()).then_some(())
            });
            assert!(came.is_some(), "nothing happens any more\n{}", arena.dump());
            std::thread::sleep(Duration::from_micros(self.dice.below(20_000)));
        } else {
            std::thread::sleep(Duration::from_micros(self.dice.below(400_000)));
        }
    }

    fn shoot(&mut self) {
        let victim = self.dice.pick(&VICTIMS);
        let hit = match victim {
            Victim::Wrapper => {
                self.wrapper.shoot();
                self.wrapper = wrapper(&self.arena);
                true
            }
            Victim::Longhaul => self.longhaul().is_some_and(kill),
            Victim::Keeper | Victim::Cli => self.shoot_session(victim),
            Victim::Pair => {
                let pair = [self.longhaul(), self.keeper()];
                pair.into_iter().flatten().filter(|life| kill(*life)).count() > 0
            }
            Victim::All => {
                for (life, _) in self.arena.alive() {
                    kill(life);
                }
                self.wrapper.shoot();
                self.wrapper = wrapper(&self.arena);
                true
            }
        };
        self.kills += u64::from(hit);
    }

    fn shoot_session(&mut self, victim: Victim) -> bool {
        let ledger = self.arena.ledger();
        let Some(start) = ledger.iter().rfind(|entry| entry.what == What::Start) else {
            return false;
        };
        let has_replied =
            ledger.iter().any(|e| e.what == What::Reply && e.session == start.session);
        if !has_replied && self.shot_early + 1 >= DEAD_STARTS {
            return false;
        }
        let shot = match victim {
            Victim::Keeper => self.keeper().is_some_and(kill),
            _ => kill(start.life()),
        };
        match (shot, has_replied) {
            (false, _) => {}
            (true, false) => self.shot_early += 1,
            (true, true) => self.shot_early = 0,
        }
        shot
    }

    /// The keeper of the newest session.
    fn keeper(&self) -> Option<Life> {
        let ledger = self.arena.ledger();
        let start = ledger.iter().rfind(|entry| entry.what == What::Start)?;
        let parent = Now::read(start.life().now()?.parent)?;
        // Orphaned, the CLI is init's or longhaul's child.
        is_keeper(parent.life.pid).then_some(parent.life)
    }

    /// The longhaul that holds the project, or another that waits for it.
    fn longhaul(&self) -> Option<Life> {
        let line = format!("{} run --json", env!("CARGO_BIN_EXE_longhaul"));
        let found = self.arena.alive().into_iter().find(|(_, its)| its.starts_with(&line));
        found.map(|(life, _)| life)
    }
}

fn is_keeper(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.windows(8).any(|part| part == b"__keeper")
}

fn wrapper(arena: &Arena) -> Running {
    let mut command = arena.command("sh");
    command.args(["-c", WRAPPER, env!("CARGO_BIN_EXE_longhaul")]);
    Running::start(&mut command)
}
