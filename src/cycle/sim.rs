//! Thousands of simulated runs against a small, badly behaved model of the
//! CLI: each run is one seed, with crashes of longhaul and replay of its
//! journal in between. `LONGHAUL_SIM_SEED=n` replays one, `LONGHAUL_SIM_RUNS=n`
//! sets how many.
//!
//! The world loses typing, answers and exit reports, repeats reports late,
//! fires deadlines late and after they were replaced, tears the task file while
//! it is written, moves the wall clock, reboots, and lets people and signals
//! in at any time. `Watch` holds what must be true all the same.
//!
//! Tried by putting the mistake back into the machine; the simulation and the
//! scenario named after it failed:
//! - no epoch check: `a_deadline_of_an_older_state_is_void_in_every_state`
//! - reports of an older cycle taken: `a_report_of_an_older_cycle_changes_nothing_in_any_state`
//! - nudges unbounded: `a_session_without_progress_is_told_to_go_on_so_often_and_then_cycled`
//! - no second read: `done_needs_two_equal_reads`
//! - recovered spend forgotten: `a_recovered_run_counts_what_the_lost_session_spent`
//! - hours before a crash forgotten: `the_hours_before_a_crash_count_and_those_after_it_do_not`
//! - launched although paused: `a_pause_outlasts_every_wait`
//! - the next launch does not wait for the copy: `an_exit_during_the_copy_waits_for_it_before_the_next_session`
//! - no deadline for the brief: `every_state_has_a_way_out_by_deadlines_alone`

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use uuid::Uuid;

use super::action::{Action, Notice, Timer};
use super::assignment::{Assignment, End, Given};
use super::budget::{BudgetParams, Money, Reading};
use super::event::{
    Command, DiskRoom, Event, Exit, QuestionKind, Refusal, SessionReport, TaskReading, TaskSays,
    TurnEnd, UsageLimit,
};
use super::failure::Class;
use super::judge::REREAD_MS;
use super::liveness::Sign;
use super::machine::Machine;
use super::params::{Answering, HangParams, Params};
use super::record::{Bill, CheckpointStatus, CostSource, CycleRecord, Spend, Tokens};
use super::state::{Outcome, State};
use crate::clock::Timestamp;

/// A policy for tests.
pub(crate) fn params() -> Params {
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
        max_wait_ms: 21_600_000,
        quota_reserve_percent: 0.0,
        tokens_per_minute: 1_000_000_000_000,
        cost_usd_per_hour: 1_000_000.0,
        max_subagents: 32,
        tree_memory_soft_mb: 8_192,
        tree_memory_hard_mb: 16_384,
        disk_floor_mb: 1_024,
        scratch_mb: 20_480,
        written_mb: 51_200,
        hang: HangParams {
            warn_ms: 600_000,
            interrupt_ms: 1_200_000,
            end_ms: 1_800_000,
            tool_ms: 3_600_000,
        },
        permissions: Answering::Deny,
        queue: false,
        warn_input_tokens: u64::MAX,
        budget: BudgetParams::default(),
    }
}

/// Splitmix64: small, seeded, good enough for choosing faults.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The model of one live CLI.
#[derive(Debug)]
struct Cli {
    cycle: u32,
    tokens: u64,
    busy: bool,
    /// Grows with each turn; steps of an interrupted one are void.
    turn: u32,
    /// Text typed while busy.
    queued: Vec<String>,
    /// The turn in progress answers a checkpoint request.
    checkpointing: bool,
    stubborn: bool,
    /// Turns that will end without a reply.
    silent_turns: u32,
    steps_left: u64,
    spend: Spend,
}

/// How badly this run's world behaves, in percent.
#[derive(Debug)]
struct Temper {
    refuses_checkpoint: u64,
    loses_typing: u64,
    loses_turn_end: u64,
    loses_answer: u64,
    loses_exit: u64,
    repeats: u64,
    late_deadline: u64,
    dies: u64,
    hangs: u64,
    dead_start: u64,
    silent: u64,
    ignores_term: u64,
    ignores_escape: u64,
    api_error: u64,
    asks_person: u64,
    /// Per thousand replies.
    floods: u64,
    /// Looks before a launch that find something.
    refuses: u64,
    idles: u64,
    torn_file: u64,
    step_tokens: u64,
    work_per_step: u64,
    verify_fails: u64,
    /// Per thousand events.
    crash: u64,
    people: u64,
    wall_jump: u64,
}

impl Temper {
    fn pick(rng: &mut Rng) -> Self {
        let nasty = rng.below(4);
        let mut pick = |most: u64| match nasty {
            0 => 0,
            _ => rng.below(most * nasty / 3 + 1),
        };
        Self {
            refuses_checkpoint: pick(60),
            loses_typing: pick(40),
            loses_turn_end: pick(10),
            loses_answer: pick(3),
            loses_exit: pick(4),
            repeats: pick(20),
            late_deadline: pick(30),
            dies: pick(6),
            hangs: pick(2),
            dead_start: pick(20),
            silent: pick(20),
            ignores_term: pick(50),
            ignores_escape: pick(50),
            api_error: pick(15),
            asks_person: pick(2),
            floods: pick(4),
            refuses: pick(8),
            idles: pick(30),
            torn_file: pick(15),
            verify_fails: pick(60),
            crash: pick(4),
            people: pick(6),
            wall_jump: pick(20),
            step_tokens: 2_000 + rng.below(60_000),
            // One in ten never gets anything done.
            work_per_step: match rng.below(10) {
                0 => 0,
                _ => 5 + rng.below(60),
            },
        }
    }
}

/// What comes up in the world's queue.
#[derive(Debug, Clone)]
enum Item {
    /// The machine hears of it.
    Event(Event),
    /// The CLI moves on by itself.
    Step { cycle: u32, turn: u32 },
}

/// What the world has seen, to hold the machine to.
#[derive(Debug, Default)]
struct Watch {
    ids: BTreeSet<Uuid>,
    launches: u32,
    /// Since when a proven checkpoint is being copied.
    copying_since: Option<u64>,
    /// Since when the session has been asked to end.
    polite_since: Option<u64>,
    /// Cycles whose proven checkpoint was copied.
    copied: BTreeSet<u32>,
    /// Cycles for which a brief was written.
    briefs: BTreeSet<u32>,
    /// The look before the next launch found nothing.
    prepared: bool,
    /// The task file said open (or verify failed) since the last session.
    read_open: bool,
    /// Signals and stops heard since the process began.
    stops: u32,
    /// Somebody said stop-now, or signalled twice.
    hurried: bool,
    /// More was taken than is allowed, so that a session may be ended hurriedly.
    flooded: bool,
    /// Time supervised by processes that are gone, and when this one began.
    supervised_ms: u64,
    process_since: u64,
    /// What this process found in the journal.
    journal_found: usize,
}

impl Watch {
    /// Time supervised, as far as the journal tells.
    fn supervised_ms(&self, journal: &[(Timestamp, Event)]) -> u64 {
        let by_this_process = journal[self.journal_found..]
            .last()
            .map_or(0, |(at, _)| at.boot_ms - self.process_since);
        self.supervised_ms + by_this_process
    }
}

struct World {
    rng: Rng,
    temper: Temper,
    now: Timestamp,
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    items: Vec<Option<Item>>,
    /// One deadline per timer: a later one replaces the earlier.
    timers: BTreeMap<Timer, (u64, u64)>,
    cli: Option<Cli>,
    ticked: u32,
    total: u32,
    /// The task file reads as done until then.
    torn_until: u64,
    docs: u64,
    baseline: u64,
    spent: BTreeMap<u32, Spend>,
    finished: Option<Outcome>,
    /// Boxes of the queue's tasks; none in a run without a queue.
    tasks: Vec<u32>,
    /// The task whose section stands in the task file.
    in_file: Option<usize>,
    /// What was booked of each task.
    settled: BTreeMap<usize, End>,
    watch: Watch,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let temper = Temper::pick(&mut rng);
        let total = 1 + rng.below(12) as u32;
        Self {
            rng,
            temper,
            now: Timestamp { unix_ms: 1_800_000_000_000, boot_ms: 1_000 },
            queue: BinaryHeap::new(),
            items: Vec::new(),
            timers: BTreeMap::new(),
            cli: None,
            ticked: 0,
            total,
            torn_until: 0,
            docs: 1,
            baseline: 0,
            spent: BTreeMap::new(),
            finished: None,
            tasks: Vec::new(),
            in_file: None,
            settled: BTreeMap::new(),
            watch: Watch { process_since: 1_000, ..Watch::default() },
        }
    }

    fn later(&mut self, ms: u64, event: Event) {
        self.item(ms, Item::Event(event));
    }

    fn item(&mut self, ms: u64, item: Item) {
        let index = self.items.len();
        self.items.push(Some(item));
        self.queue.push(Reverse((self.now.boot_ms + ms, index)));
    }

    fn report(&mut self, ms: u64, cycle: u32, report: SessionReport) {
        if self.rng.chance(self.temper.repeats) {
            // Counts are told in order; anything else may come again late.
            let late = match report {
                SessionReport::Spent { .. } | SessionReport::Billed { .. } => 0,
                _ => self.rng.below(60_000),
            };
            let report = report.clone();
            self.later(ms + late, Event::Session { cycle, report });
        }
        self.later(ms, Event::Session { cycle, report });
    }

    /// An answer of longhaul's own work; it may be late or lost.
    fn answer(&mut self, ms: u64, event: Event) {
        if self.rng.chance(self.temper.loses_answer) {
            // A read tells of its moment; the driver never keeps one back.
            let may_be_late = !matches!(event, Event::TaskRead { .. });
            if may_be_late && self.rng.chance(50) {
                let late = self.rng.below(300_000);
                self.later(late, event);
            }
        } else {
            self.later(ms, event);
        }
    }

    fn set_timer(&mut self, timer: Timer, epoch: u64, after_ms: u64) {
        let late =
            if self.rng.chance(self.temper.late_deadline) { self.rng.below(3_000) } else { 0 };
        let at = self.now.boot_ms + after_ms + late;
        let old = self.timers.insert(timer, (at, epoch));
        if let Some((_, old)) = old.filter(|(_, old)| *old != epoch)
            && self.rng.chance(self.temper.late_deadline)
        {
            // It had fired already, and the machine hears of it late.
            let ms = self.rng.below(30_000);
            self.later(ms, Event::Deadline { timer, epoch: old });
        }
    }

    /// The next thing that happens.
    fn next(&mut self) -> Option<Item> {
        let queued = self.queue.peek().map(|Reverse((at, _))| *at);
        let timer = self.timers.iter().map(|(t, (at, _))| (*at, *t)).min();
        let (at, item) = match (queued, timer) {
            (None, None) => return None,
            (queued, Some((at, timer))) if queued.is_none_or(|q| at < q) => {
                let (_, epoch) = self.timers.remove(&timer)?;
                (at, Item::Event(Event::Deadline { timer, epoch }))
            }
            _ => {
                let Reverse((at, index)) = self.queue.pop()?;
                (at, self.items[index].take()?)
            }
        };
        self.now = self.now.plus_ms(at.saturating_sub(self.now.boot_ms));
        if self.rng.below(1_000) < self.temper.wall_jump {
            self.now.unix_ms += self.rng.below(200_000_000) as i64 - 100_000_000;
        }
        Some(item)
    }

    fn perform(&mut self, action: Action, machine: &Machine, params: &Params) {
        match action {
            Action::Prepare => {
                assert!(self.cli.is_none(), "prepared while a session lives");
                let class = match self.rng.below(20) {
                    0 => Class::SettingsChanged,
                    _ => Class::CliMissing,
                };
                let why = "it is not as it was".to_owned();
                let refusal =
                    self.rng.chance(self.temper.refuses).then_some(Refusal { class, why });
                self.watch.prepared = refusal.is_none();
                self.answer(2, Event::Prepared { refusal, warnings: Vec::new() });
            }
            Action::KeepTree { .. } => {}
            Action::Launch { cycle, session_id, .. } => {
                self.watch_launch(machine, session_id, params);
                self.launch(cycle);
            }
            Action::TakeBaseline => self.baseline = self.docs,
            // No tool writes to the files while a request waits here.
            Action::SettleBaseline => {}
            Action::Type { text } => {
                assert!(
                    machine.verdict.is_none() || text.starts_with("CHECKPOINT"),
                    "typed after the verdict {:?}: {text}",
                    machine.verdict
                );
                self.take_text(text);
            }
            Action::PressEnter | Action::ClearInput => {}
            Action::PressEscape => self.escape(),
            Action::EndPolitely => {
                self.watch_end();
                self.watch.polite_since = Some(self.now.boot_ms);
                if self.cli.as_ref().is_some_and(|c| !c.stubborn) {
                    self.die(70, Exit::Code(143));
                }
            }
            Action::EndSurely => {
                let since = self.watch.polite_since.take();
                let since = since.expect("SIGKILL without SIGTERM before it");
                assert!(
                    self.watch.hurried
                        || self.watch.flooded
                        || self.now.boot_ms >= since + params.exit_timeout_ms,
                    "SIGKILL before the time for SIGTERM was over"
                );
                self.die(5, Exit::Signal(9));
            }
            Action::ReadTask => {
                let reading = self.reading();
                let ms = 1 + self.rng.below(4);
                self.answer(ms, Event::TaskRead { reading });
            }
            Action::RunVerify => {
                let fails = self.temper.verify_fails;
                let passed = !self.rng.chance(fails);
                self.temper.verify_fails /= 2;
                let tail = if passed { "" } else { "1 test failed" };
                let tail = tail.to_owned();
                self.later(5_000, Event::VerifyEnded { passed, tail, survivors: 0 });
            }
            Action::CancelVerify => {}
            Action::TakeTask { after } => self.give_task(after),
            Action::SettleTask { assignment } => self.settle(&assignment),
            Action::WeighProgress { .. } => {
                let changed = self.rng.chance(30);
                self.answer(8, Event::ProgressWeighed { changed });
            }
            Action::Prove => {
                let proven = self.docs != self.baseline;
                let only_if = |yes: bool, text: &str| match yes {
                    true => vec![text.to_owned()],
                    false => vec![],
                };
                let event = Event::Proof {
                    changed: only_if(proven, "dev-docs/tasks.md"),
                    shortfalls: only_if(!proven, "nothing changed"),
                    digest: self.docs.to_string(),
                };
                self.answer(3, event);
            }
            Action::KeepCheckpoint { cycle } => {
                self.watch.copying_since = Some(self.now.boot_ms);
                self.watch.copied.insert(cycle);
                // Just then something else happens to the session.
                if self.rng.chance(self.temper.asks_person) {
                    self.ask_person(10, cycle);
                }
                if self.rng.chance(self.temper.dies) {
                    self.die(10, Exit::Code(0));
                }
                let event = Event::CheckpointKept { folder: "c".into(), trouble: None };
                self.answer(20, event);
            }
            Action::WriteHandoff { cycle, .. } => {
                self.watch.briefs.insert(cycle);
                self.answer(10, Event::HandoffWritten { trouble: None });
            }
            Action::SetTimer { timer, epoch, after_ms } => self.set_timer(timer, epoch, after_ms),
            Action::Tell(Notice::RunFinished { outcome }) => {
                assert!(
                    self.cli.is_none(),
                    "the run finished while a session lives: {:?}",
                    self.cli
                );
                self.finished = Some(outcome);
            }
            Action::Tell(Notice::Nudged { count }) => {
                assert!(count <= params.max_nudges, "nudged {count} times in a row");
            }
            Action::Tell(_) => {}
        }
    }

    // ---- the queue ------------------------------------------------------------

    /// As the store: asked again, it gives the same task.
    fn give_task(&mut self, after: Option<String>) {
        let number = |id: &String| id[1..].parse::<usize>().unwrap();
        let next = after.as_ref().map_or(0, |id| number(id) + 1);
        let task = self.tasks.get(next).copied().map(|total| {
            if self.in_file != Some(next) {
                (self.in_file, self.ticked, self.total) = (Some(next), 0, total);
            }
            Box::new(Given {
                task_id: format!("t{next}"),
                attempt: 1,
                batch_id: Some("b".into()),
                batch_position: Some(next as u32 + 1),
                title: "a task".into(),
                prompt: format!("task t{next}"),
                continue_prompt: format!("go on with t{next}"),
                verify: None,
                budget_usd: self.rng.chance(10).then_some(0.5),
                spent_usd: 0.0,
                unpriced_usd: 0.0,
                told_percent: 0,
            })
        });
        self.answer(3, Event::TaskGiven { after, task, trouble: None });
    }

    fn settle(&mut self, task: &Assignment) {
        let number = task.given.task_id[1..].parse().unwrap();
        let end = task.end.clone().expect("settled without an end");
        let was = self.settled.insert(number, end.clone());
        assert!(was.is_none_or(|was| was == end), "a task was settled in two ways");
    }

    // ---- what must be true ------------------------------------------------

    fn watch_launch(&mut self, machine: &Machine, session_id: Uuid, params: &Params) {
        assert!(self.cli.is_none(), "two sessions at once");
        let watch = &mut self.watch;
        assert!(watch.ids.insert(session_id), "a session id was used twice");
        watch.launches += 1;
        // Limits count for each task of a queue.
        let tasks = self.tasks.len().max(1) as u64;
        let most = tasks.saturating_mul(params.max_sessions.into());
        assert!(u64::from(watch.launches) <= most, "more sessions than the budget allows");
        assert!(machine.measured_at(self.now).sessions <= params.max_sessions, "of one task");
        assert!(watch.read_open, "launched without having read that work is left");
        assert!(watch.stops == 0, "launched after a stop");
        assert!(machine.paused.is_none(), "launched while paused");
        assert!(std::mem::take(&mut watch.prepared), "launched without a look before");
        let limit = machine.limit.as_ref().and_then(|l| l.resets_unix_ms);
        assert!(
            limit.is_none_or(|resets| resets <= self.now.unix_ms),
            "launched while a usage limit holds"
        );
        watch.read_open = false;
        let gave_up = |since: u64| self.now.boot_ms >= since + 120_000;
        assert!(
            watch.copying_since.is_none_or(gave_up),
            "launched while a checkpoint was being copied"
        );
        let proven = |c: &&CycleRecord| c.checkpoint.status == CheckpointStatus::Verified;
        for cycle in machine.past.iter().filter(proven) {
            assert!(
                watch.copied.contains(&cycle.cycle),
                "the checkpoint of cycle {} was never copied",
                cycle.cycle
            );
        }
        if let Some(last) = machine.past.last().filter(|c| c.gauge.tokens.is_some()) {
            assert!(
                last.checkpoint.status == CheckpointStatus::Verified
                    || watch.briefs.contains(&last.cycle),
                "cycle {} handed nothing over: {:?}",
                last.cycle,
                last.checkpoint
            );
        }
        let tokens: u64 = self.spent.values().map(|s| s.tokens.total()).sum();
        assert!(
            tokens < params.max_tokens.saturating_mul(tasks),
            "launched with the token budget spent"
        );
    }

    /// A session is told to end.
    fn watch_end(&self) {
        if let Some(since) = self.watch.copying_since {
            let gave_up = self.now.boot_ms >= since + 120_000;
            assert!(
                gave_up || self.watch.hurried || self.watch.flooded || self.cli.is_none(),
                "ended while a proven checkpoint was being copied"
            );
        }
    }

    /// Looks at what the machine is about to hear.
    fn watch_event(&mut self, event: &Event, machine: &Machine, params: &Params) {
        let ours = machine.is_alive();
        match event {
            Event::TaskRead { reading } if !ours => {
                self.watch.read_open |=
                    matches!(reading, TaskReading::Read { says: TaskSays::Open, .. });
            }
            Event::VerifyEnded { passed, .. } if !ours => self.watch.read_open |= !passed,
            Event::Disks { .. } | Event::Session { report: SessionReport::Vitals { .. }, .. } => {
                self.watch.flooded = true;
            }
            Event::CheckpointKept { .. } => self.watch.copying_since = None,
            Event::Signal { .. } | Event::Operator { command: Command::Stop } => {
                self.watch.stops += 1;
                self.watch.hurried |= self.watch.stops > 1;
            }
            Event::Operator { command: Command::StopNow } => {
                self.watch.stops += 1;
                self.watch.hurried = true;
            }
            Event::Session { report: SessionReport::Exited { .. }, cycle }
                if machine.live().is_some_and(|c| c.cycle == *cycle) =>
            {
                self.watch.polite_since = None;
            }
            _ => {}
        }
        if let Some(since) = self.watch.polite_since {
            assert!(
                self.now.boot_ms <= since + params.exit_timeout_ms + 3_000,
                "SIGTERM was followed neither by an exit nor by SIGKILL"
            );
        }
    }

    // ---- the CLI ---------------------------------------------------------------

    fn launch(&mut self, cycle: u32) {
        let dead = self.rng.chance(self.temper.dead_start);
        let stubborn = self.rng.chance(self.temper.ignores_term);
        let silent = self.rng.chance(self.temper.silent);
        self.cli = Some(Cli {
            cycle,
            tokens: 15_000,
            busy: true,
            turn: 1,
            queued: Vec::new(),
            checkpointing: false,
            stubborn,
            silent_turns: if silent { 1 + self.rng.below(5) as u32 } else { 0 },
            steps_left: 3 + self.rng.below(30),
            spend: Spend::default(),
        });
        self.report(5, cycle, SessionReport::Spawned { pid: 1_000 + cycle });
        if dead {
            if self.rng.chance(50) {
                self.die(300, Exit::Code(1));
            }
            return;
        }
        let model = Some("m".into());
        self.report(200, cycle, SessionReport::Ready { model });
        let ms = self.rng.below(60_000);
        self.report(ms, cycle, SessionReport::Window { tokens: 200_000 });
        self.schedule_step();
    }

    fn schedule_step(&mut self) {
        if let Some(cli) = &self.cli {
            let (cycle, turn) = (cli.cycle, cli.turn);
            let ms = 300 + self.rng.below(20_000);
            self.item(ms, Item::Step { cycle, turn });
        }
    }

    fn step_cli(&mut self, cycle: u32, turn: u32) {
        let is_current = |c: &&mut Cli| c.cycle == cycle && c.turn == turn && c.busy;
        let Some(cli) = self.cli.as_mut().filter(is_current) else {
            return;
        };
        if cli.silent_turns > 0 {
            cli.silent_turns -= 1;
            return self.end_turn(TurnEnd::Completed);
        }
        self.reply(cycle);
        if self.rng.chance(self.temper.dies) {
            return self.die(1, Exit::Signal(11));
        }
        if self.rng.chance(self.temper.hangs) {
            return;
        }
        if self.rng.chance(self.temper.asks_person) {
            return self.ask_person(0, cycle);
        }
        if self.rng.chance(self.temper.api_error) {
            let end = self.api_error();
            return self.end_turn(end);
        }
        if self.rng.chance(self.temper.work_per_step) && self.ticked < self.total {
            self.ticked += 1;
        }
        self.hear_queue();
        let refuses = self.rng.chance(self.temper.refuses_checkpoint);
        let Some(cli) = self.cli.as_mut() else { return };
        let over = cli.checkpointing || cli.steps_left == 0 || self.ticked == self.total;
        if cli.checkpointing && !refuses {
            self.docs += 1;
        }
        if over || self.rng.chance(self.temper.idles) {
            self.end_turn(TurnEnd::Completed);
        } else {
            self.schedule_step();
        }
    }

    /// One response of the model.
    fn reply(&mut self, cycle: u32) {
        let grown = self.temper.step_tokens / 2 + self.rng.below(self.temper.step_tokens);
        let Some(cli) = self.cli.as_mut() else { return };
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
        self.spent.insert(cycle, spend.clone());
        let context = SessionReport::Context { tokens, model: "m".to_owned(), table_window: None };
        self.report(0, cycle, context);
        self.report(0, cycle, SessionReport::Spent { spend });
        let (id, summary) = (format!("call {}", self.items.len()), "Bash".to_owned());
        self.report(0, cycle, SessionReport::Alive { sign: Sign::Transcript });
        self.report(0, cycle, SessionReport::Tool { id: id.clone(), summary });
        if !self.rng.chance(self.temper.hangs) {
            self.report(100, cycle, SessionReport::ToolEnded { id });
        }
        self.strain(cycle);
    }

    fn spending(&mut self) -> Reading {
        let mut money = || Money { usd: self.rng.below(60) as f64, unpriced_usd: 0.0 };
        let (day_spent, month_spent) = (money(), money());
        let day = 1 + self.now.unix_ms.div_euclid(3_600_000) % 28;
        Reading {
            day: format!("2026-11-{day:02}"),
            day_ends_unix_ms: self.now.unix_ms + 3_600_000,
            month_ends_unix_ms: self.now.unix_ms + 36_000_000,
            day_spent,
            month_spent,
        }
    }

    /// What the session takes of the machine and of the subscription.
    fn strain(&mut self, cycle: u32) {
        if self.rng.below(1_000) < self.temper.floods {
            let memory_mb = self.rng.below(20_000);
            let subagents = self.rng.below(34) as u32;
            let vitals =
                SessionReport::Vitals { memory_mb, subagents, scratch_mb: 1, written_mb: 1 };
            self.report(0, cycle, vitals);
        }
        if self.rng.below(1_000) < self.temper.floods {
            let free_mb = self.rng.below(100_000);
            let room = DiskRoom { free_mb, size_mb: 200_000, place: "/".into() };
            self.later(0, Event::Disks { rooms: vec![room] });
        }
        if self.rng.chance(20) {
            let reading = self.rng.chance(80).then(|| self.spending());
            self.later(0, Event::SpendingRead { reading });
        }
        if self.rng.below(1_000) < self.temper.floods {
            self.report(0, cycle, SessionReport::CompactionHeld);
        }
        if self.rng.chance(self.temper.api_error) && self.rng.chance(20) {
            let limit = self.limit();
            let report = match self.rng.below(2) {
                0 => SessionReport::Limited { limit },
                _ => {
                    SessionReport::Retrying { class: Class::Overloaded, attempt: 1, after_ms: 500 }
                }
            };
            self.report(0, cycle, report);
        }
    }

    /// A limit that is reset soon, late, never as far as is known, or was already.
    fn limit(&mut self) -> UsageLimit {
        let resets_unix_ms = match self.rng.below(4) {
            0 => None,
            1 => Some(self.now.unix_ms - 60_000),
            2 => Some(self.now.unix_ms + self.rng.below(3_600_000) as i64),
            _ => Some(self.now.unix_ms + self.rng.below(36_000_000) as i64),
        };
        UsageLimit { which: "five_hour".into(), resets_unix_ms, continues: false }
    }

    fn ask_person(&mut self, ms: u64, cycle: u32) {
        let kind = match self.rng.below(3) {
            0 => QuestionKind::Unknown,
            1 => QuestionKind::Question,
            _ => QuestionKind::Permission,
        };
        let what = "may I?".into();
        self.report(ms, cycle, SessionReport::AsksPerson { kind, what, screen: "?".into() });
    }

    fn api_error(&mut self) -> TurnEnd {
        let (error, status, text) = match self.rng.below(30) {
            0 => ("authentication_failed", 401, "log in again"),
            1..4 => ("invalid_request", 400, "Prompt is too long"),
            4 => ("invalid_request", 413, "too large"),
            5..12 => ("rate_limit", 429, "slow down"),
            _ => ("server_error", 529, "overloaded"),
        };
        let limit = (status == 429 && self.rng.chance(50)).then(|| self.limit());
        TurnEnd::ApiError { error: error.into(), status: Some(status), text: text.into(), limit }
    }

    fn end_turn(&mut self, end: TurnEnd) {
        let steps_left = 2 + self.rng.below(10);
        let lost = self.rng.chance(self.temper.loses_turn_end);
        let Some(cli) = self.cli.as_mut() else { return };
        cli.busy = false;
        let lost = lost && std::mem::take(&mut cli.checkpointing);
        cli.checkpointing = false;
        cli.steps_left = steps_left;
        let (cycle, waiting) = (cli.cycle, !cli.queued.is_empty());
        if !lost {
            self.report(0, cycle, SessionReport::TurnEnded { end });
        }
        if waiting {
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
            let queued = false;
            self.report(0, cycle, SessionReport::PromptArrived { text, queued });
        }
    }

    fn begin_turn(&mut self) {
        if let Some(cli) = self.cli.as_mut() {
            cli.busy = true;
            cli.turn += 1;
        }
        self.schedule_step();
    }

    fn take_text(&mut self, text: String) {
        let lost = self.rng.chance(self.temper.loses_typing);
        let Some(cli) = self.cli.as_mut().filter(|_| !lost) else {
            return;
        };
        let (cycle, queued) = (cli.cycle, cli.busy);
        if queued {
            cli.queued.push(text.clone());
        } else {
            cli.checkpointing = text.starts_with("CHECKPOINT");
        }
        self.report(10, cycle, SessionReport::PromptArrived { text, queued });
        if !queued {
            self.begin_turn();
        }
    }

    fn escape(&mut self) {
        let ignored = self.rng.chance(self.temper.ignores_escape);
        if self.cli.as_ref().is_some_and(|c| c.busy && !ignored) {
            self.end_turn(TurnEnd::Interrupted);
        }
    }

    fn die(&mut self, ms: u64, exit: Exit) {
        let Some(cli) = self.cli.take() else { return };
        let bill = Bill { cost_usd: cli.spend.cost_usd, source: CostSource::CostState };
        self.report(ms, cli.cycle, SessionReport::Billed { bill });
        if self.watch.polite_since.is_some() && self.rng.chance(self.temper.loses_exit) {
            return; // The keeper was lost: nobody reports the exit.
        }
        let exited = SessionReport::Exited {
            exit,
            killed: 0,
            survivors: 0,
            screen: "blank".into(),
            out_of_memory: None,
        };
        self.report(ms, cli.cycle, exited);
    }

    fn reading(&mut self) -> TaskReading {
        if self.rng.chance(self.temper.dies) {
            return TaskReading::Unreadable { problem: "no such file".into() };
        }
        let (ticked, total) = (self.ticked, self.total);
        if self.now.boot_ms >= self.torn_until && self.rng.chance(self.temper.torn_file) {
            self.torn_until = self.now.boot_ms + REREAD_MS - 1;
        }
        if self.now.boot_ms < self.torn_until {
            // Half of the file is there, and in that half all is ticked.
            return TaskReading::Read {
                digest: format!("half at {}", self.torn_until),
                says: TaskSays::Done,
                ticked: 0,
                total,
            };
        }
        TaskReading::Read {
            digest: format!("{ticked}/{total}"),
            says: if ticked == total { TaskSays::Done } else { TaskSays::Open },
            ticked,
            total,
        }
    }

    /// Somebody does something.
    fn people(&mut self) {
        let command = match self.rng.below(24) {
            0..6 => Command::Pause,
            6..12 => Command::Resume,
            12..20 => Command::Cycle,
            20 => Command::Stop,
            21 => Command::StopNow,
            _ => {
                let ms = self.rng.below(60_000);
                self.later(ms, Event::Signal { number: 2 });
                if self.rng.chance(50) {
                    let ms = ms + self.rng.below(5_000);
                    self.later(ms, Event::Signal { number: 15 });
                }
                return;
            }
        };
        let ms = self.rng.below(60_000);
        self.later(ms, Event::Operator { command });
        let command = Command::Resume;
        self.later(ms + 90_000, Event::Operator { command });
    }
}

/// What one seeded run showed.
struct Seen {
    outcome: Outcome,
    launches: u32,
    crashes: u32,
}

/// The policy of one seed.
fn policy(world: &mut World) -> Params {
    let mut p = params();
    p.budget = BudgetParams {
        task_usd: 5.0,
        day_usd: 40.0,
        month_usd: 60.0,
        warn_percent: vec![50, 80, 100],
    };
    p.verify = world.rng.chance(40);
    p.queue = world.rng.chance(50);
    if p.queue {
        let count = world.rng.below(6);
        world.tasks = (0..count).map(|_| 1 + world.rng.below(6) as u32).collect();
        world.total = 0;
    }
    p.max_sessions = 1 + world.rng.below(40) as u32;
    p.max_ms = 600_000 + world.rng.below(40_000_000);
    if world.rng.chance(20) {
        p.max_tokens = 100_000 + world.rng.below(20_000_000);
    }
    if world.rng.chance(20) {
        p.max_cost_usd = 0.05 + world.rng.below(200) as f64 / 100.0;
    }
    p
}

/// One seeded run. Panics tell the seed.
fn run(seed: u64) -> Seen {
    let mut world = World::new(seed);
    let p = policy(&mut world);
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
            None => match world.next() {
                Some(Item::Event(event)) => event,
                Some(Item::Step { cycle, turn }) => {
                    world.step_cli(cycle, turn);
                    continue;
                }
                None => panic!("nothing will ever happen again: {:?}", machine.state()),
            },
        };
        world.watch_event(&event, &machine, &p);
        journal.push((world.now, event.clone()));
        let actions = machine.step(world.now, event);
        if actions.iter().any(Action::is_external) {
            durable = journal.len();
        }
        // A crash may come between the note and the deed.
        if world.finished.is_none() && world.rng.below(1_000) < world.temper.crash {
            crashes += 1;
            let kept = durable + world.rng.below((journal.len() - durable) as u64 + 1) as usize;
            journal.truncate(kept);
            durable = kept;
            machine = replay(run_id, &p, begun, &journal);
            if let Some(outcome) = machine.outcome() {
                // It died between noting the end and telling it.
                world.finished = Some(outcome.clone());
            } else {
                next = Some(recover(&mut world, &p, &machine, &journal));
                continue;
            }
        } else {
            for action in actions {
                world.perform(action, &machine, &p);
            }
        }
        if world.rng.below(1_000) < world.temper.people {
            world.people();
        }
        if let Some(outcome) = world.finished.clone() {
            check_end(&world, &mut machine, &p, begun, &journal, &outcome);
            return Seen { outcome, launches: world.watch.launches, crashes };
        }
    }
    panic!("no end after 200,000 events: {:?}", machine.state());
}

fn replay(run_id: Uuid, p: &Params, begun: Timestamp, journal: &[(Timestamp, Event)]) -> Machine {
    let mut machine = Machine::new(run_id, p.clone(), begun);
    for (at, event) in journal {
        let _ = machine.step(*at, event.clone());
    }
    machine
}

/// longhaul was killed. The keeper ends the session; pending reports and
/// timers die with the process. A new process has read the transcripts.
fn recover(
    world: &mut World,
    p: &Params,
    machine: &Machine,
    journal: &[(Timestamp, Event)],
) -> Event {
    let killed = u32::from(world.cli.take().is_some());
    world.queue.clear();
    world.timers.clear();
    let mut watch = std::mem::take(&mut world.watch);
    watch.supervised_ms = watch.supervised_ms(journal);
    watch.journal_found = journal.len();
    (watch.stops, watch.hurried) = (0, false);
    (watch.copying_since, watch.polite_since) = (None, None);
    world.now = world.now.plus_ms(5_000);
    if world.rng.chance(20) {
        // The machine was booted anew: its clock begins at nought.
        world.now.boot_ms = 1_000 + world.rng.below(5_000);
        world.torn_until = 0;
    }
    watch.process_since = world.now.boot_ms;
    world.watch = watch;
    // A cycle whose launch was decided but never performed has no transcript.
    let live = machine.live().filter(|_| machine.is_alive());
    let spend = live.and_then(|c| world.spent.get(&c.cycle).cloned());
    Event::Recovered { params: Box::new(p.clone()), spend, bill: None, killed }
}

/// Each task that was given has one end, and what they added is what the run used.
fn check_tasks(world: &World, machine: &Machine, outcome: &Outcome) {
    let given = machine.assignments();
    for (number, task) in given.iter().enumerate() {
        assert_eq!(task.given.task_id, format!("t{number}"), "given in order, each once");
        let is_last = number + 1 == given.len();
        let end = task.end.clone().expect("a task was left in hand");
        assert!(is_last || end == End::Done, "went on after a task that is not done");
        // A crash between note and deed leaves it to the next start to book.
        assert!(world.settled.get(&number).is_none_or(|booked| *booked == end));
    }
    if *outcome == Outcome::Done {
        assert_eq!(given.len(), world.tasks.len(), "done, and a task was never given");
        assert!(given.iter().all(|task| task.end == Some(End::Done)));
    }
    let added: u64 = given.iter().map(|task| task.added.tokens.total()).sum();
    assert_eq!(added, machine.tokens_total(), "tokens of the tasks are those of the run");
    let added_usd: f64 = given.iter().map(|task| task.added.cost_usd).sum();
    assert!((added_usd - machine.cost_total_usd()).abs() < 1e-6, "and so are the dollars");
    let added_ms: u64 = given.iter().map(|task| task.added.elapsed_ms).sum();
    assert!(added_ms <= machine.elapsed_ms(world.now), "time was counted twice");
}

fn check_end(
    world: &World,
    machine: &mut Machine,
    p: &Params,
    begun: Timestamp,
    journal: &[(Timestamp, Event)],
    outcome: &Outcome,
) {
    if p.queue {
        check_tasks(world, machine, outcome);
    }
    if *outcome == Outcome::Done {
        assert_eq!(world.ticked, world.total, "done was claimed with open tasks");
    }
    assert!(matches!(machine.state(), State::Finished { .. }));
    let late = Event::Signal { number: 2 };
    assert!(machine.step(world.now, late.clone()).is_empty(), "finished is final");
    let cycles: Vec<u32> = machine.cycles().map(|c| c.cycle).collect();
    let expected: Vec<u32> = (1..=cycles.len() as u32).collect();
    assert_eq!(cycles, expected, "cycles are numbered without a gap");
    let spent: u64 = world.spent.values().map(|s| s.tokens.total()).sum();
    assert_eq!(machine.tokens_total(), spent, "tokens were lost or counted twice");
    let cost: f64 = world.spent.values().map(|s| s.cost_usd).sum();
    assert!((machine.cost_total_usd() - cost).abs() < 1e-6, "dollars were lost or counted twice");
    // The time is up, a last checkpoint, the end of the session, and the
    // deadlines of the work on files in between.
    let supervised = world.watch.supervised_ms(journal);
    assert!(
        supervised <= (p.max_ms + 15 * 60_000) * world.tasks.len().max(1) as u64,
        "{supervised} ms supervised, {} allowed",
        p.max_ms
    );
    assert_eq!(machine.elapsed_ms(world.now), supervised, "hours");
    // Replay tells the same story as the live run.
    let mut replayed = replay(machine.run_id(), p, begun, journal);
    let _ = replayed.step(world.now, late);
    assert_eq!(&replayed, machine, "the replay differs from the run");
}

#[test]
fn thousands_of_runs_end_well() {
    let number = |name: &str| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
    let only = number("LONGHAUL_SIM_SEED");
    let runs = number("LONGHAUL_SIM_RUNS").unwrap_or(4_000);
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    let (mut launches, mut crashes) = (0, 0);
    let seeds = only.map_or(0..runs, |seed| seed..seed + 1);
    for seed in seeds {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(seen) => {
                *outcomes.entry(seen.outcome.as_str().to_owned()).or_default() += 1;
                launches += seen.launches;
                crashes += seen.crashes;
            }
            Err(_) => panic!(
                "seed {seed} failed; replay: LONGHAUL_SIM_SEED={seed} cargo test --lib thousands_of_runs"
            ),
        }
    }
    if only.is_none() && runs >= 1_000 {
        // The simulation must visit what it is there to check.
        for outcome in
            ["done", "budget", "no_progress", "needs_person", "authentication", "stopped"]
        {
            assert!(
                outcomes.get(outcome).is_some_and(|n| *n > 5),
                "too few runs ended with {outcome}: {outcomes:?}"
            );
        }
        assert!(launches > 2_000 && crashes > 200, "{launches} launches, {crashes} crashes");
    }
}
