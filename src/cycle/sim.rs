//! Thousands of simulated runs against a small, badly behaved model of the
//! CLI: each run is one seed, with crashes of longhaul and replay of its
//! journal in between. `LONGHAUL_SIM_SEED=n` replays one, `LONGHAUL_SIM_RUNS=n`
//! sets how many.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use uuid::Uuid;

use super::action::{Action, Notice};
use super::event::{Command, Event, Exit, SessionReport, TaskReading, TaskSays, TurnEnd};
use super::machine::Machine;
use super::params::Params;
use super::record::{Bill, CostSource, Spend, Tokens};
use super::state::{Outcome, State};
use crate::clock::Timestamp;

/// A policy for tests.
pub(super) fn params() -> Params {
    Params {
        threshold_percent: 70.0,
        threshold_tokens: None,
        window_tokens: None,
        init_prompt: "/session-init".into(),
        continue_prompt: "go on with the next open task".into(),
        checkpoint_prompt: "CHECKPOINT now".into(),
        max_nudges: 3,
        start_timeout_ms: 120_000,
        exit_timeout_ms: 10_000,
        checkpoint_timeout_ms: 600_000,
        stop_timeout_ms: 60_000,
        verify: false,
        max_sessions: 50,
        max_ms: 36_000_000,
        max_tokens: 500_000_000,
        max_cost_usd: 100.0,
        no_progress_cycles: 3,
    }
}

/// Splitmix64: small, seeded, good enough for choosing faults.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The model of one live CLI.
#[derive(Debug)]
struct Cli {
    cycle: u32,
    tokens: u64,
    busy: bool,
    /// Text typed while busy.
    queued: Vec<String>,
    /// The turn in progress answers a checkpoint request.
    checkpointing: bool,
    stubborn: bool,
    steps_left: u64,
    spend: Spend,
}

/// How badly this run's world behaves, in percent.
#[derive(Debug)]
struct Temper {
    refuses_checkpoint: u64,
    loses_typing: u64,
    dies: u64,
    dead_start: u64,
    ignores_term: u64,
    api_error: u64,
    idles: u64,
    step_tokens: u64,
    work_per_step: u64,
    crash: u64,
    verify_fails: u64,
}

struct World {
    rng: Rng,
    temper: Temper,
    now: Timestamp,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    cli: Option<Cli>,
    ticked: u32,
    total: u32,
    docs: u64,
    baseline: u64,
    launches: u32,
    ids: BTreeSet<Uuid>,
    spent: BTreeMap<u32, u64>,
    finished: Option<Outcome>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let nasty = rng.below(4);
        let pick = |rng: &mut Rng, most: u64| {
            if nasty == 0 {
                0
            } else {
                rng.below(most * nasty / 3 + 1)
            }
        };
        let temper = Temper {
            refuses_checkpoint: pick(&mut rng, 60),
            loses_typing: pick(&mut rng, 40),
            dies: pick(&mut rng, 6),
            dead_start: pick(&mut rng, 20),
            ignores_term: pick(&mut rng, 50),
            api_error: pick(&mut rng, 15),
            idles: pick(&mut rng, 30),
            step_tokens: 2_000 + rng.below(60_000),
            work_per_step: 5 + rng.below(60),
            crash: pick(&mut rng, 3),
            verify_fails: pick(&mut rng, 60),
        };
        let total = 1 + rng.below(12) as u32;
        Self {
            rng,
            temper,
            now: Timestamp {
                unix_ms: 1_800_000_000_000,
                boot_ms: 1_000,
            },
            queue: BinaryHeap::new(),
            events: Vec::new(),
            cli: None,
            ticked: 0,
            total,
            docs: 1,
            baseline: 0,
            launches: 0,
            ids: BTreeSet::new(),
            spent: BTreeMap::new(),
            finished: None,
        }
    }

    fn later(&mut self, ms: u64, event: Event) {
        let index = self.events.len();
        self.events.push(Some(event));
        self.queue
            .push(Reverse((self.now.boot_ms + ms, index as u64, index)));
    }

    fn report(&mut self, ms: u64, cycle: u32, report: SessionReport) {
        self.later(ms, Event::Session { cycle, report });
    }

    fn perform(&mut self, action: Action, params: &Params) {
        match action {
            Action::Launch {
                cycle, session_id, ..
            } => self.launch(cycle, session_id, params),
            Action::TakeBaseline => self.baseline = self.docs,
            Action::Type { text } => self.take_text(text),
            Action::PressEnter | Action::ClearInput => {}
            Action::PressEscape => self.escape(),
            Action::EndPolitely => {
                if self.cli.as_ref().is_some_and(|c| !c.stubborn) {
                    self.die(70, Exit::Code(143));
                }
            }
            Action::EndSurely => self.die(5, Exit::Signal(9)),
            Action::ReadTask => {
                let reading = self.reading();
                let ms = 1 + self.rng.below(4);
                self.later(ms, Event::TaskRead { reading });
            }
            Action::RunVerify => {
                let fails = self.temper.verify_fails;
                let passed = !self.rng.chance(fails);
                self.temper.verify_fails /= 2;
                let tail = if passed {
                    String::new()
                } else {
                    "1 test failed".into()
                };
                self.later(5_000, Event::VerifyEnded { passed, tail });
            }
            Action::CancelVerify => {}
            Action::WeighProgress { .. } => {
                let changed = self.rng.chance(30);
                self.later(8, Event::ProgressWeighed { changed });
            }
            Action::Prove => {
                let proven = self.docs != self.baseline;
                let event = Event::Proof {
                    changed: if proven {
                        vec!["dev-docs/tasks.md".into()]
                    } else {
                        vec![]
                    },
                    shortfalls: if proven {
                        vec![]
                    } else {
                        vec!["nothing changed".into()]
                    },
                    digest: self.docs.to_string(),
                };
                self.later(3, event);
            }
            Action::KeepCheckpoint { .. } => {
                self.later(
                    20,
                    Event::CheckpointKept {
                        folder: "c".into(),
                        trouble: None,
                    },
                );
            }
            Action::WriteHandoff { .. } => self.later(10, Event::HandoffWritten { trouble: None }),
            Action::SetTimer {
                timer,
                epoch,
                after_ms,
            } => {
                self.later(after_ms, Event::Deadline { timer, epoch });
            }
            Action::Tell(Notice::RunFinished { outcome }) => {
                assert!(
                    self.cli.is_none(),
                    "the run finished while a session lives: {:?}",
                    self.cli
                );
                self.finished = Some(outcome);
            }
            Action::Tell(_) => {}
        }
    }

    fn launch(&mut self, cycle: u32, session_id: Uuid, params: &Params) {
        assert!(self.cli.is_none(), "two sessions at once");
        assert!(self.ids.insert(session_id), "a session id was used twice");
        self.launches += 1;
        assert!(
            self.launches <= params.max_sessions,
            "more sessions than the budget allows"
        );
        let dead = self.temper.dead_start;
        let stubborn = self.temper.ignores_term;
        self.cli = Some(Cli {
            cycle,
            tokens: 15_000,
            busy: true,
            queued: Vec::new(),
            checkpointing: false,
            stubborn: self.rng.chance(stubborn),
            steps_left: 3 + self.rng.below(30),
            spend: Spend::default(),
        });
        self.report(5, cycle, SessionReport::Spawned { pid: 1_000 + cycle });
        if self.rng.chance(dead) {
            if self.rng.chance(50) {
                self.die(300, Exit::Code(1));
            }
        } else {
            self.report(
                200,
                cycle,
                SessionReport::Ready {
                    model: Some("m".into()),
                },
            );
            self.report(210, cycle, SessionReport::Window { tokens: 200_000 });
            self.schedule_step();
        }
    }

    /// The marker for "the CLI does its next step": a Tool report.
    fn schedule_step(&mut self) {
        if let Some(cli) = &self.cli {
            let cycle = cli.cycle;
            let ms = 300 + self.rng.below(20_000);
            self.report(
                ms,
                cycle,
                SessionReport::Tool {
                    summary: "step".into(),
                },
            );
        }
    }

    /// Called when the marker comes up: the CLI moves on.
    fn step_cli(&mut self, cycle: u32) {
        let Some(cli) = self.cli.as_mut().filter(|c| c.cycle == cycle && c.busy) else {
            return;
        };
        let grown = self.temper.step_tokens / 2 + self.rng.below(self.temper.step_tokens);
        cli.tokens += grown;
        cli.steps_left = cli.steps_left.saturating_sub(1);
        cli.spend.tokens.add(&Tokens {
            input: 10,
            output: 100,
            cache_read: cli.tokens,
            ..Tokens::default()
        });
        cli.spend.cost_usd += 0.01;
        cli.spend.responses += 1;
        let (tokens, spend) = (cli.tokens, cli.spend.clone());
        self.spent.insert(cycle, spend.tokens.total());
        let model = "m".to_owned();
        self.report(
            0,
            cycle,
            SessionReport::Context {
                tokens,
                model,
                table_window: None,
            },
        );
        self.report(0, cycle, SessionReport::Spent { spend });
        if self.rng.chance(self.temper.dies) {
            return self.die(1, Exit::Signal(11));
        }
        if self.rng.chance(self.temper.api_error) {
            let end = TurnEnd::ApiError {
                error: "server_error".into(),
                status: Some(529),
                text: "overloaded".into(),
            };
            return self.end_turn(end);
        }
        if self.rng.chance(self.temper.work_per_step) && self.ticked < self.total {
            self.ticked += 1;
        }
        self.hear_queue();
        let Some(cli) = self.cli.as_mut() else { return };
        let over = cli.checkpointing || cli.steps_left == 0 || self.ticked == self.total;
        if cli.checkpointing {
            let refuses = self.temper.refuses_checkpoint;
            if !self.rng.chance(refuses) {
                self.docs += 1;
            }
        }
        if over || self.rng.chance(self.temper.idles) {
            self.end_turn(TurnEnd::Completed);
        } else {
            self.schedule_step();
        }
    }

    fn end_turn(&mut self, end: TurnEnd) {
        let Some(cli) = self.cli.as_mut() else { return };
        cli.busy = false;
        cli.checkpointing = false;
        cli.steps_left = 2 + self.rng.below(10);
        let cycle = self.cli.as_ref().map_or(0, |c| c.cycle);
        self.report(0, cycle, SessionReport::TurnEnded { end });
        if self.cli.as_ref().is_some_and(|c| !c.queued.is_empty()) {
            self.hear_queue();
            self.begin_turn();
        }
    }

    fn hear_queue(&mut self) {
        let Some(cli) = self.cli.as_mut() else { return };
        let cycle = cli.cycle;
        let heard = std::mem::take(&mut cli.queued);
        cli.checkpointing |= heard.iter().any(|text| text.starts_with("CHECKPOINT"));
        for text in heard {
            self.report(
                0,
                cycle,
                SessionReport::PromptArrived {
                    text,
                    queued: false,
                },
            );
        }
    }

    fn begin_turn(&mut self) {
        if let Some(cli) = self.cli.as_mut() {
            cli.busy = true;
        }
        self.schedule_step();
    }

    fn take_text(&mut self, text: String) {
        let lost = self.temper.loses_typing;
        let lost = self.rng.chance(lost);
        let Some(cli) = self.cli.as_mut() else { return };
        if lost {
            return;
        }
        let cycle = cli.cycle;
        if cli.busy {
            cli.queued.push(text.clone());
            self.report(
                10,
                cycle,
                SessionReport::PromptArrived { text, queued: true },
            );
        } else {
            cli.checkpointing = text.starts_with("CHECKPOINT");
            self.report(
                10,
                cycle,
                SessionReport::PromptArrived {
                    text,
                    queued: false,
                },
            );
            self.begin_turn();
        }
    }

    fn escape(&mut self) {
        if self.cli.as_ref().is_some_and(|c| c.busy) {
            self.end_turn(TurnEnd::Interrupted);
        }
    }

    fn die(&mut self, ms: u64, exit: Exit) {
        if let Some(cli) = self.cli.take() {
            let bill = Bill {
                cost_usd: cli.spend.cost_usd,
                source: CostSource::CostState,
            };
            self.report(ms, cli.cycle, SessionReport::Billed { bill });
            self.report(
                ms,
                cli.cycle,
                SessionReport::Exited {
                    exit,
                    killed: 0,
                    survivors: 0,
                    screen: "blank".into(),
                },
            );
        }
    }

    fn reading(&mut self) -> TaskReading {
        if self.rng.chance(self.temper.dies) {
            return TaskReading::Unreadable {
                problem: "half-written".into(),
            };
        }
        TaskReading::Read {
            digest: format!("{}/{}", self.ticked, self.total),
            says: if self.ticked == self.total {
                TaskSays::Done
            } else {
                TaskSays::Open
            },
            ticked: self.ticked,
            total: self.total,
        }
    }
}

/// One seeded run. Panics tell the seed.
fn run(seed: u64) -> (Outcome, u32, u32) {
    let mut world = World::new(seed);
    let mut p = params();
    p.verify = world.rng.chance(40);
    p.max_sessions = 1 + world.rng.below(40) as u32;
    p.max_ms = 600_000 + world.rng.below(40_000_000);
    let run_id = Uuid::from_u128(u128::from(seed) + 1);
    let begun = world.now;
    let mut machine = Machine::new(run_id, p.clone(), begun);
    // The journal, and how much of it is durable.
    let mut journal: Vec<(Timestamp, Event)> = Vec::new();
    let mut durable = 0;
    let mut crashes = 0;
    let mut next = Some(Event::Started);
    for _ in 0..200_000 {
        let event = match next.take() {
            Some(event) => event,
            None => {
                let Some(Reverse((at, _, index))) = world.queue.pop() else {
                    let tail = journal.len().saturating_sub(12);
                    panic!(
                        "nothing will ever happen again, and the run has not finished: {:?} after {:#?}",
                        machine.state(),
                        &journal[tail..]
                    )
                };
                world.now = world.now.plus_ms(at.saturating_sub(world.now.boot_ms));
                world.events[index]
                    .take()
                    .expect("each event is taken once")
            }
        };
        if let Event::Session {
            cycle,
            report: SessionReport::Tool { .. },
        } = &event
        {
            let cycle = *cycle;
            world.step_cli(cycle);
        }
        journal.push((world.now, event.clone()));
        let actions = machine.step(world.now, event);
        if actions.iter().any(Action::is_external) {
            durable = journal.len();
        }
        let crash = world.temper.crash;
        // A crash may come between the note and the deed.
        if world.finished.is_none() && world.rng.below(1000) < crash {
            crashes += 1;
            journal
                .truncate(durable + world.rng.below((journal.len() - durable) as u64 + 1) as usize);
            (machine, next) = recover(&mut world, run_id, &p, begun, &journal);
            if let Some(outcome) = machine.outcome().cloned() {
                // It died between noting the end and telling it.
                check_end(&world, &mut machine, &p, run_id, begun, &journal, &outcome);
                return (outcome, world.launches, crashes);
            }
            continue;
        }
        for action in actions {
            world.perform(action, &p);
        }
        if world.rng.below(300) == 0 {
            let command = match world.rng.below(4) {
                0 => Command::Pause,
                1 | 2 => Command::Resume,
                _ => Command::Cycle,
            };
            let ms = world.rng.below(60_000);
            world.later(ms, Event::Operator { command });
            world.later(
                ms + 90_000,
                Event::Operator {
                    command: Command::Resume,
                },
            );
        }
        if let Some(outcome) = world.finished.clone() {
            check_end(&world, &mut machine, &p, run_id, begun, &journal, &outcome);
            return (outcome, world.launches, crashes);
        }
    }
    panic!("no end after 200,000 events: {:?}", machine.state());
}

fn recover(
    world: &mut World,
    run_id: Uuid,
    p: &Params,
    begun: Timestamp,
    journal: &[(Timestamp, Event)],
) -> (Machine, Option<Event>) {
    // The keeper ends the session when longhaul dies; the pending reports and
    // timers die with the process.
    let (killed, spend) = match world.cli.take() {
        Some(cli) => (1, Some(cli.spend)),
        None => (0, None),
    };
    world.queue.clear();
    let mut machine = Machine::new(run_id, p.clone(), begun);
    for (at, event) in journal {
        let _ = machine.step(*at, event.clone());
    }
    // A cycle whose launch was decided but never performed has no transcript.
    let spend = match spend {
        Some(spend) => Some(spend),
        None => machine.live().filter(|_| machine.is_alive()).map(|c| {
            let total = world.spent.get(&c.cycle).copied().unwrap_or(0);
            let mut spend = c.spend.clone();
            let known = spend.tokens.total();
            spend.tokens.input += total.saturating_sub(known);
            spend
        }),
    };
    world.now = world.now.plus_ms(5_000);
    let event = Event::Recovered {
        params: Box::new(p.clone()),
        spend,
        bill: None,
        killed,
    };
    (machine, Some(event))
}

fn check_end(
    world: &World,
    machine: &mut Machine,
    p: &Params,
    run_id: Uuid,
    begun: Timestamp,
    journal: &[(Timestamp, Event)],
    outcome: &Outcome,
) {
    if *outcome == Outcome::Done {
        assert_eq!(
            world.ticked, world.total,
            "done was claimed with open tasks"
        );
    }
    assert!(matches!(machine.state(), State::Finished { .. }));
    assert!(
        machine
            .step(world.now, Event::Signal { number: 2 })
            .is_empty(),
        "finished is final"
    );
    let cycles: Vec<u32> = machine.cycles().map(|c| c.cycle).collect();
    let expected: Vec<u32> = (1..=cycles.len() as u32).collect();
    assert_eq!(cycles, expected, "cycles are numbered without a gap");
    let spent: u64 = world.spent.values().sum();
    assert_eq!(
        machine.tokens_total(),
        spent,
        "tokens were lost or counted twice"
    );
    // Replay tells the same story as the live run.
    let mut replayed = Machine::new(run_id, p.clone(), begun);
    for (at, event) in journal {
        let _ = replayed.step(*at, event.clone());
    }
    let _ = replayed.step(world.now, Event::Signal { number: 2 });
    assert_eq!(&replayed, machine, "the replay differs from the run");
}

#[test]
fn thousands_of_runs_end_well() {
    let only: Option<u64> = std::env::var("LONGHAUL_SIM_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let runs: u64 = std::env::var("LONGHAUL_SIM_RUNS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(4_000);
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    let (mut launches, mut crashes) = (0, 0);
    let seeds = only.map_or(0..runs, |seed| seed..seed + 1);
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        match result {
            Ok((outcome, l, c)) => {
                *outcomes.entry(outcome.as_str().to_owned()).or_default() += 1;
                launches += l;
                crashes += c;
            }
            Err(_) => panic!(
                "seed {seed} failed; replay: LONGHAUL_SIM_SEED={seed} cargo test --lib thousands_of_runs"
            ),
        }
    }
    if only.is_none() && runs >= 1_000 {
        // The simulation must visit what it is there to check.
        for outcome in ["done", "budget", "no_progress", "needs_person"] {
            assert!(
                outcomes.contains_key(outcome),
                "no run ended with {outcome}: {outcomes:?}"
            );
        }
        assert!(
            launches > 2_000 && crashes > 200,
            "{launches} launches, {crashes} crashes"
        );
    }
}
