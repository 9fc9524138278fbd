//! Sixteen longhauls race for one project, its holder is shot, and process ids
//! come again: always exactly one supervises, and nobody innocent is hit.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::ledger::What;
use crate::procfs::{Life, Now};
use crate::support::{
    Arena, DEADLINE, Dice, GONE_WITHIN, Running, Seed, count, kill, share, wait_until,
};

const RACERS: usize = 16;
/// Who is turned away is told so within this time, however many race.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn sixteen_race_and_the_holder_is_shot() {
    let (rounds, base) = (count(100, 1_000), Seed::base());
    // A journal grows with every round, so an arena has a few of them.
    const EACH: u64 = 10;
    share(
        2,
        |index| index * EACH >= rounds,
        |index| {
            let seed = Seed::of("sixteen_race_and_the_holder_is_shot", base, index);
            race(&mut seed.dice(), EACH.min(rounds - index * EACH) as usize);
        },
    );
}

fn race(dice: &mut Dice, rounds: usize) {
    let hang = json!([{"at": "prompt", "do": {"hang": "silent"}}]);
    let arena = Arena::new(1, &json!({"usual": {"faults": hang}}));
    let mut holder: Option<Running> = None;
    for round in 1..=rounds {
        // Some begin while the holder of the last round still lives.
        let early = if holder.is_some() { dice.below(RACERS as u64) as usize } else { 0 };
        let mut racers: Vec<Running> =
            (0..early).map(|_| Running::start(&mut arena.run())).collect();
        if let Some(mut holder) = holder.take() {
            std::thread::sleep(Duration::from_micros(dice.below(30_000)));
            holder.shoot();
        }
        racers.extend((early..RACERS).map(|_| Running::start(&mut arena.run())));
        let began = Instant::now();
        wait_until("one winner", || {
            racers.retain_mut(|racer| match racer.ended() {
                None => true,
                Some(code) => {
                    assert_eq!(code, 40, "{}", arena.dump());
                    false
                }
            });
            assert!(!racers.is_empty(), "nobody holds it\n{}", arena.dump());
            (racers.len() == 1).then_some(())
        });
        assert!(began.elapsed() < TOLD_WITHIN, "told after {:?}", began.elapsed());
        let winner = racers.remove(0);
        let start = arena.wait_nth(What::Fault, round);
        let longhaul = longhaul_of(start.life());
        assert_eq!(longhaul, Some(winner.life), "{}", arena.dump());
        assert_eq!(arena.times(What::Start), round, "{}", arena.dump());
        assert_eq!(arena.times(What::Overlap), 0, "{}", arena.dump());
        holder = Some(winner);
    }
    drop(holder);
    arena.assert_gone(GONE_WITHIN);
}

/// The grandparent of the CLI.
fn longhaul_of(cli: Life) -> Option<Life> {
    let keeper = Now::read(cli.now()?.parent)?;
    Some(Now::read(keeper.parent)?.life)
}

/// The ids of longhaul, keeper and CLI come again, for processes that have
/// nothing to do with them. The lock file, the journal and the CLI's own note
/// still name them.
#[test]
fn an_id_that_came_again_is_neither_believed_nor_hit() {
    let rounds = count(5, 50) as usize;
    let hang = json!([{"at": "prompt", "do": {"hang": "silent"}}]);
    let arena = Arena::new(1, &json!({"usual": {"faults": hang}}));
    let mut reused = 0;
    let mut longhaul = Running::start(&mut arena.run());
    for round in 1..=rounds {
        let cli = arena.wait_nth(What::Fault, round).life();
        let keeper = Now::read(cli.now().unwrap().parent).unwrap().life;
        let lost = [longhaul.life, keeper, cli];
        longhaul.shoot();
        kill(keeper);
        kill(cli);
        wait_until("their end", || lost.iter().all(|life| life.now().is_none()).then_some(()));
        let innocent: Vec<Running> = lost.iter().filter_map(|life| as_pid(life.pid)).collect();
        reused += innocent.len();
        longhaul = Running::start(&mut arena.run());
        arena.wait_nth(What::Fault, round + 1);
        assert_eq!(longhaul.ended(), None, "{}", arena.dump());
        for bystander in &innocent {
            assert!(bystander.life.is_alive(), "{:?} was hit\n{}", bystander.life, arena.dump());
        }
    }
    longhaul.shoot();
    arena.assert_gone(GONE_WITHIN);
    eprintln!("{reused} ids used again");
}

/// A process with exactly this id, if this machine allows to ask for it.
fn as_pid(pid: u32) -> Option<Running> {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    for _ in 0..50 {
        fs::write(LAST, (pid - 1).to_string()).ok()?;
        let mut command = Command::new("sleep");
        command.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running::start(&mut command);
        if running.life.pid == pid {
            return Some(running);
        }
    }
    None
}

/// The same without any right to choose ids: the lock file names a process that
/// lives, and holds nothing.
#[test]
fn a_name_in_the_lock_file_is_no_lock() {
    let arena = Arena::new(1, &json!({}));
    assert_eq!(Running::start(&mut arena.run()).wait(), 0, "{}", arena.dump());
    let lock = arena.runs()[0].parent().unwrap().with_file_name("lock");
    let bystander = Running::start(Command::new("sleep").arg("600"));
    let name = json!({"pid": bystander.life.pid, "since": {"unix_ms": 0, "boot_ms": 0}});
    fs::write(lock, name.to_string()).unwrap();
    let code = Running::start(&mut arena.run()).wait_at_most(DEADLINE);
    assert_eq!(code, Some(0), "{}", arena.dump());
    assert!(bystander.life.is_alive());
}
