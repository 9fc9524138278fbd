//! Made-up runs for tests of display, status and report: machines fed with
//! events as the driver would feed them.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::cycle::event::{Command, Exit, TaskReading, TaskSays, TurnEnd, UsageLimit};
use crate::cycle::record::{Bill, CostSource, Spend, Tokens};
use crate::cycle::{Action, Event, Machine, Notice, Params, SessionReport, Snapshot, Timer};

/// 2027-01-15 08:00:00 UTC
pub const DAWN_UNIX_MS: i64 = 1_800_000_000_000;

/// A run on a stage: a machine, its clock, and what it told.
pub struct Stage {
    pub machine: Machine,
    pub now: Timestamp,
    /// Everything told, with the moment and the machine after it.
    pub told: Vec<(Timestamp, Notice, Machine)>,
    /// The deadline set last, for [`Stage::pass`].
    deadline: Option<Event>,
}

pub fn params() -> Params {
    Params { checkpoint_prompt: "CHECKPOINT".into(), ..crate::cycle::sim::params() }
}

impl Stage {
    pub fn new(params: Params) -> Self {
        let now = Timestamp { unix_ms: DAWN_UNIX_MS, boot_ms: 5_000 };
        let run_id = Uuid::from_u128(0x1a2b_3c4d_0000_4000_8000_0000_0000_0001);
        Self { machine: Machine::new(run_id, params, now), now, told: Vec::new(), deadline: None }
    }

    pub fn view(&self) -> Snapshot<'_> {
        Snapshot::of(&self.machine)
    }

    pub fn wait(&mut self, ms: u64) -> &mut Self {
        self.now = self.now.plus_ms(ms);
        self
    }

    /// Time passes, and with it the deadline that was set last.
    pub fn pass(&mut self, ms: u64) -> &mut Self {
        self.wait(ms);
        let deadline = self.deadline.take().expect("a deadline was set");
        self.step(deadline)
    }

    pub fn step(&mut self, event: Event) -> &mut Self {
        let mut prepares = false;
        for action in self.machine.step(self.now, event) {
            match action {
                Action::Prepare => prepares = true,
                Action::SetTimer { timer: Timer::Hang, .. } => {}
                Action::Tell(notice) => {
                    self.told.push((self.now, notice, self.machine.clone()));
                }
                Action::SetTimer { timer, epoch, .. } => {
                    self.deadline = Some(Event::Deadline { timer, epoch });
                }
                _ => {}
            }
        }
        if prepares {
            self.step(Event::Prepared { refusal: None, warnings: Vec::new() });
        }
        self
    }

    pub fn report(&mut self, report: SessionReport) -> &mut Self {
        let cycle = self.machine.live().map_or(0, |c| c.cycle);
        self.step(Event::Session { cycle, report })
    }

    pub fn read_tasks(&mut self, ticked: u32, total: u32, says: TaskSays) -> &mut Self {
        let reading =
            TaskReading::Read { digest: format!("{ticked}/{total}"), says, ticked, total };
        self.step(Event::TaskRead { reading })
    }

    /// Started, task file read, first session launched.
    pub fn begin(&mut self, ticked: u32, total: u32) -> &mut Self {
        self.step(Event::Started)
            .read_tasks(ticked, total, TaskSays::Open)
            .step(Event::ProgressWeighed { changed: false })
    }

    /// The launched session comes up and answers.
    pub fn session(&mut self, pid: u32, window: u64, tokens: u64) -> &mut Self {
        self.report(SessionReport::Spawned { pid })
            .wait(900)
            .report(SessionReport::Ready { model: Some("claude-opus-4-5".into()) })
            .report(SessionReport::Window { tokens: window })
            .wait(4_000)
            .context(tokens)
    }

    pub fn context(&mut self, tokens: u64) -> &mut Self {
        self.report(SessionReport::Context {
            tokens,
            model: "claude-opus-4-5".into(),
            table_window: Some(200_000),
        })
    }

    pub fn tool(&mut self, summary: &str) -> &mut Self {
        let id = format!("call {}", self.told.len());
        self.report(SessionReport::Tool { id: id.clone(), summary: summary.into() })
            .report(SessionReport::ToolEnded { id })
    }

    pub fn spend(&mut self, cost_usd: f64) -> &mut Self {
        let spend = Spend {
            tokens: Tokens {
                input: 1_200,
                output: 45_000,
                cache_write_5m: 130_000,
                cache_write_1h: 0,
                cache_read: 2_400_000,
            },
            cost_usd,
            responses: 60,
            ..Spend::default()
        };
        self.report(SessionReport::Spent { spend })
    }

    pub fn bill(&mut self, cost_usd: f64, source: CostSource) -> &mut Self {
        self.report(SessionReport::Billed { bill: Bill { cost_usd, source } })
    }

    /// The checkpoint asked for is delivered, heard, proven and copied.
    pub fn checkpoint(&mut self) -> &mut Self {
        let cycle = self.machine.live().map_or(0, |c| c.cycle);
        for queued in [true, false] {
            self.wait(2_000)
                .report(SessionReport::PromptArrived { text: "CHECKPOINT".into(), queued });
        }
        self.wait(40_000)
            .turn_ended()
            .step(Event::Proof {
                changed: vec!["dev-docs/tasks.md".into(), "dev-docs/plan.md".into()],
                shortfalls: vec![],
                digest: format!("digest {cycle}"),
            })
            .step(Event::CheckpointKept { folder: format!("checkpoints/{cycle}"), trouble: None })
    }

    pub fn turn_ended(&mut self) -> &mut Self {
        self.report(SessionReport::TurnEnded { end: TurnEnd::Completed })
    }

    /// The turn ends with an error row of the API.
    pub fn fails(&mut self, error: &str, status: Option<u16>) -> &mut Self {
        let (error, text) = (error.to_owned(), String::new());
        let end = TurnEnd::ApiError { error, status, text, limit: None };
        self.report(SessionReport::TurnEnded { end })
    }

    /// The turn ends at the five-hour limit, which is reset after `ms`.
    pub fn fails_at_limit(&mut self, ms: i64) -> &mut Self {
        let limit = Some(UsageLimit {
            which: "five_hour".into(),
            resets_unix_ms: Some(self.now.unix_ms + ms),
            continues: false,
        });
        let (error, status, text) = ("rate_limit".into(), Some(429), String::new());
        let end = TurnEnd::ApiError { error, status, text, limit };
        self.report(SessionReport::TurnEnded { end })
    }

    /// So many minutes pass in which nothing moves; the turn is looked at every one.
    pub fn stands_still(&mut self, minutes: u32) -> &mut Self {
        for _ in 0..minutes {
            self.wait(60_000).step(Event::Deadline { timer: Timer::Hang, epoch: 0 });
        }
        self
    }

    pub fn exited(&mut self, exit: Exit, killed: u32, survivors: u32) -> &mut Self {
        self.wait(300).report(SessionReport::Exited {
            exit,
            killed,
            survivors,
            screen: String::new(),
            out_of_memory: None,
        })
    }

    /// The task file is read between sessions, with work left.
    pub fn open(&mut self, ticked: u32, total: u32, changed: bool) -> &mut Self {
        self.read_tasks(ticked, total, TaskSays::Open).step(Event::ProgressWeighed { changed })
    }

    pub fn done(&mut self, total: u32) -> &mut Self {
        self.turn_ended().read_tasks(total, total, TaskSays::Done).pass(700).read_tasks(
            total,
            total,
            TaskSays::Done,
        )
    }

    pub fn command(&mut self, command: Command) -> &mut Self {
        self.step(Event::Operator { command })
    }
}

/// Three sessions, two checkpoints, the task done; the CLI billed all of it.
pub fn good_night() -> Stage {
    let mut s = Stage::new(params());
    s.begin(2, 12);
    for (ticked, cost, peak) in [(6, 4.306, 142_000), (10, 3.9, 140_500)] {
        s.session(4_000 + ticked, 200_000, 18_000)
            .tool("Read dev-docs/tasks.md")
            .wait(2_400_000)
            .tool("Bash: cargo test --workspace")
            .spend(cost)
            .context(peak)
            .checkpoint()
            .bill(cost, CostSource::CostState)
            .exited(Exit::Code(143), 0, 0)
            .open(ticked, 12, true);
    }
    s.session(4_100, 200_000, 18_000)
        .wait(1_300_000)
        .spend(2.25)
        .context(90_000)
        .done(12)
        .bill(2.25, CostSource::CostState)
        .exited(Exit::Code(143), 0, 0)
        .read_tasks(12, 12, TaskSays::Done)
        .pass(700)
        .read_tasks(12, 12, TaskSays::Done);
    s
}

/// Everything that can go wrong and still leave a report.
pub fn bad_night() -> Stage {
    let mut s = Stage::new(Params { no_progress_cycles: 2, ..params() });
    s.begin(2, 12);
    // A checkpoint that is refused twice, a bill that differs, a survivor.
    s.session(4_000, 200_000, 18_000)
        .wait(3_000_000)
        .spend(4.0)
        .report(SessionReport::Compacted { trigger: "auto".into() })
        .context(150_000);
    for _ in 0..2 {
        let texts = s.machine.state().clone();
        let text = match texts {
            crate::cycle::State::Checkpointing { ask } => ask.text,
            _ => String::new(),
        };
        s.wait(3_000)
            .report(SessionReport::PromptArrived { text, queued: false })
            .turn_ended()
            .step(Event::Proof {
                changed: vec![],
                shortfalls: vec!["dev-docs/tasks.md did not change".into()],
                digest: "same".into(),
            });
    }
    s.bill(4.55, CostSource::CostState)
        .exited(Exit::Signal(9), 3, 1)
        .step(Event::HandoffWritten { trouble: None })
        .open(3, 12, false);
    // One that dies by itself, without a price and with an evil model name.
    s.session(4_001, 0, 18_000)
        .report(SessionReport::Context {
            tokens: 19_000,
            model: "evil\u{1b}[2J\u{202e}model".into(),
            table_window: None,
        })
        .report(SessionReport::Spent {
            spend: Spend {
                tokens: Tokens { input: 5_000, ..Tokens::default() },
                unpriced_tokens: 5_000,
                unpriced_ceiling_usd: 0.1,
                responses: 2,
                bad_rows: 3,
                ..Spend::default()
            },
        })
        .exited(Exit::Code(1), 0, 0)
        .step(Event::HandoffWritten { trouble: Some("No space left on device".into()) })
        .open(3, 12, false)
        .wait(1_000);
    s
}

/// The second session in the middle of its work.
pub fn mid_night() -> Stage {
    let mut s = Stage::new(params());
    s.begin(2, 12)
        .session(4_000, 200_000, 18_000)
        .wait(2_400_000)
        .spend(4.306)
        .context(142_000)
        .checkpoint()
        .bill(4.306, CostSource::CostState)
        .exited(Exit::Code(143), 0, 0)
        .open(6, 12, true)
        .session(4_001, 200_000, 18_000)
        .wait(600_000)
        .spend(1.5)
        .bill(1.52, CostSource::Statusline)
        .context(96_000)
        .tool("Bash: cargo test --workspace");
    s
}

/// A task of the queue that failed.
pub(crate) fn task() -> crate::cycle::assignment::Assignment {
    use crate::cycle::assignment::{Assignment, End, Given, Totals};
    use crate::cycle::record::Tokens;
    let given = Given {
        task_id: "t1".into(),
        attempt: 1,
        batch_id: None,
        batch_position: None,
        title: "do it".into(),
        prompt: "do it".into(),
        continue_prompt: "go on".into(),
        verify: Some("false".into()),
        budget_usd: None,
        spent_usd: 0.0,
        unpriced_usd: 0.0,
        told_percent: 0,
    };
    let tokens =
        Tokens { input: 1, output: 2, cache_write_5m: 3, cache_write_1h: 4, cache_read: 5 };
    let added = Totals { tokens, cost_usd: 0.25, elapsed_ms: 1_500, ..Totals::default() };
    let now = crate::clock::Timestamp { unix_ms: 1_800_000_000_000, boot_ms: 1_000 };
    let mut task = Assignment::new(given, now, Totals::default());
    task.ended_at = Some(now.plus_ms(1_500));
    task.end = Some(End::Error { why: "no".into() });
    (task.added, task.sessions, task.verified) = (added, 2, Some(false));
    task
}
