//! `kill -9` of the dispatcher, a worker, a keeper, the CLI, the script around
//! longhaul, or all of them, while a queue is worked off and grows: in the end every
//! accepted task has exactly one result, done, the tokens of the results are those
//! of all sessions, and nothing lives on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longhaul::clock::Timestamp;
use longhaul::queue::draft::Draft;
use longhaul::queue::store::{Filter, ResultFilter};
use longhaul::queue::task::TaskTokens;
use longhaul::queue::{SqliteStore, Store as _, TaskState};
use serde_json::json;

use crate::ledger::What;
use crate::procfs::{Life, Now};
use crate::script::Shape;
use crate::support::{
    Arena, DEADLINE, Dice, GONE_WITHIN, Running, Seed, count, kill, share, tokens_of_all_sessions,
    wait_for,
};

/// Started again until all is done. 40: an earlier one, whose wrapper was shot, is
/// still at work. 70: a worker of its was shot three times.
const WRAPPER: &str = r#"while :; do
    "$0" queue run --json
    code=$?
    echo "$code" >> ../codes
    case $code in
        0) exit 0 ;;
        70 | 137) ;;
        40) sleep 0.05 ;;
        *) exit "$code" ;;
    esac
done"#;

/// Sessions in a row that never replied before a person is asked for.
const DEAD_STARTS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Dispatcher,
    Worker,
    Keeper,
    Cli,
    Wrapper,
    /// A worker and its keeper in one moment: what they held falls to the dispatcher.
    Pair,
    All,
}

const VICTIMS: [Victim; 10] = [
    Victim::Dispatcher,
    Victim::Dispatcher,
    Victim::Dispatcher,
    Victim::Worker,
    Victim::Worker,
    Victim::Keeper,
    Victim::Cli,
    Victim::Wrapper,
    Victim::Pair,
    Victim::All,
];

#[test]
fn each_accepted_task_has_one_result_whoever_is_shot() {
    const TEST: &str = "each_accepted_task_has_one_result_whoever_is_shot";
    let (wanted, base) = (count(200, 5_000), Seed::base());
    let (kills, tasks) = (AtomicU64::new(0), AtomicU64::new(0));
    share(
        6,
        |_| kills.load(Ordering::Relaxed) >= wanted,
        |index| {
            let seed = Seed::of(TEST, base, index);
            let mut trial = Trial::begin(seed.dice());
            trial.shoot_and_carry_on();
            kills.fetch_add(trial.kills, Ordering::Relaxed);
            tasks.fetch_add(trial.accepted.len() as u64, Ordering::Relaxed);
        },
    );
    eprintln!("{kills:?} kills while {tasks:?} tasks were worked off");
}

struct Trial {
    arena: Arena,
    dice: Dice,
    wrapper: Running,
    accepted: Vec<String>,
    kills: u64,
    /// Shots at sessions without a reply since one with a reply was shot.
    shot_early: u32,
}

impl Trial {
    fn begin(mut dice: Dice) -> Self {
        let mut usual = json!({
            "reply_ms": dice.below(15),
            "tool_ms": dice.below(25),
            "subagent": dice.one_in(3),
        });
        if dice.one_in(3) {
            let shapes = [Shape::DoubleFork, Shape::Setsid, Shape::Deaf, Shape::HoldsPty];
            usual["limbs"] = json!([dice.pick(&shapes)]);
        }
        let mut arena = Arena::new(0, &json!({"usual": usual}));
        if dice.one_in(3) {
            arena.set("task.verify", "sleep 0.05; test -e dev-docs/tasks.md");
        }
        let wrapper = {
            let mut trial = Accepting { arena: &arena, accepted: Vec::new() };
            for _ in 0..1 + dice.below(3) {
                trial.accept(&mut dice);
            }
            (wrapper(&arena), trial.accepted)
        };
        let (wrapper, accepted) = wrapper;
        Self { arena, dice, wrapper, accepted, kills: 0, shot_early: 0 }
    }

    fn shoot_and_carry_on(&mut self) {
        let shots = 4 + self.dice.below(10);
        for _ in 0..shots {
            self.aim();
            if self.dice.one_in(3) {
                let accepted = std::mem::take(&mut self.accepted);
                let mut accepting = Accepting { arena: &self.arena, accepted };
                accepting.accept(&mut self.dice);
                self.accepted = accepting.accepted;
            }
            if self.wrapper.ended().is_some() {
                // More may have been accepted since.
                self.wrapper = wrapper(&self.arena);
            }
            self.shoot();
        }
        let code = self.wrapper.wait_at_most(DEADLINE);
        assert_eq!(code, Some(0), "{}", self.arena.dump());
        // One that was at its end when the last task was accepted.
        self.wrapper = wrapper(&self.arena);
        let code = self.wrapper.wait_at_most(DEADLINE);
        assert_eq!(code, Some(0), "{}", self.arena.dump());
        self.arena.assert_gone(GONE_WITHIN);
        self.audit();
    }

    fn audit(&self) {
        let dump = || self.arena.dump();
        let mut store = store(&self.arena);
        let all = Filter { limit: 1_000, ..Filter::default() };
        for task in store.list(&all).unwrap() {
            assert_eq!(task.state, TaskState::Done, "{task:?}\n{}", dump());
        }
        let all = ResultFilter { limit: 1_000, ..ResultFilter::default() };
        let results = store.results(&all).unwrap();
        let mut ids: Vec<&str> = results.iter().map(|r| r.task_id.as_str()).collect();
        ids.sort_unstable();
        let mut accepted: Vec<&str> = self.accepted.iter().map(String::as_str).collect();
        accepted.sort_unstable();
        assert_eq!(ids, accepted, "one result each\n{}", dump());
        let sum = results.iter().fold(TaskTokens::default(), |sum, r| sum.plus(r.tokens));
        let told = [sum.input, sum.output, sum.cache_write, sum.cache_read];
        assert_eq!(told, tokens_of_all_sessions(&self.arena), "tokens\n{results:#?}\n{}", dump());
        let overlaps = self.arena.times(What::Overlap);
        assert_eq!(overlaps, 0, "two sessions at once\n{}", dump());
    }

    /// Waits for a random moment. The moment is the test, not a wait for a fact.
    fn aim(&mut self) {
        if self.dice.one_in(2) {
            let entries = self.arena.ledger().len() + self.dice.below(10) as usize;
            let (arena, wrapper) = (&self.arena, &mut self.wrapper);
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
        let hit = match self.dice.pick(&VICTIMS) {
            Victim::Wrapper => {
                self.wrapper.shoot();
                self.wrapper = wrapper(&self.arena);
                true
            }
            Victim::Dispatcher => self.named(" queue run --json").is_some_and(kill),
            Victim::Worker => self.named("/proc/self/exe __worker").is_some_and(kill),
            victim @ (Victim::Keeper | Victim::Cli) => self.shoot_session(victim),
            Victim::Pair => {
                let pair = [self.named("/proc/self/exe __worker"), self.named("__keeper")];
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

    fn named(&self, part: &str) -> Option<Life> {
        let mut alive = self.arena.alive().into_iter();
        alive
            .find(|(_, line)| line.contains(part) && !line.starts_with("sh "))
            .map(|(life, _)| life)
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
            Victim::Keeper => {
                let parent = start.life().now().and_then(|now| Now::read(now.parent));
                parent.is_some_and(|now| is_keeper(now.life.pid) && kill(now.life))
            }
            _ => kill(start.life()),
        };
        match (shot, has_replied) {
            (false, _) => {}
            (true, false) => self.shot_early += 1,
            (true, true) => self.shot_early = 0,
        }
        shot
    }
}

/// Puts tasks into the queue, one by one or as a batch.
struct Accepting<'a> {
    arena: &'a Arena,
    accepted: Vec<String>,
}

impl Accepting<'_> {
    fn accept(&mut self, dice: &mut Dice) {
        let size = if dice.one_in(2) { 1 } else { 2 + dice.below(3) as usize };
        let first = self.accepted.len();
        let batch = (size > 1).then(|| format!("b{first}"));
        let tasks = (first..first + size).map(|n| {
            let task = json!({"id": format!("t{n}"), "description": "Do it", "batch": batch});
            let draft: Draft = serde_json::from_value(task).unwrap();
            draft.check(&self.arena.project()).unwrap()
        });
        let now = Timestamp::now().unix_ms;
        let added = store(self.arena).add(now, tasks.collect()).unwrap();
        self.accepted.extend(added.iter().map(|task| task.id.to_string()));
    }
}

fn store(arena: &Arena) -> SqliteStore {
    SqliteStore::open(&arena.path("state")).unwrap()
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
