//! Nights of nothing but one failure, in virtual time: how often is it tried,
//! what is typed, how does it end? And turns that hang, and turns that are quiet
//! and well. The bounds are computed from the policies of `failure` and from
//! `Params`. A failure prints its seed: `LONGHAUL_NIGHT_SEED=n cargo test --lib
//! nights` replays it; `LONGHAUL_TORTURE=long` runs the large counts.
//!
//! In half of the nights of failures longhaul is killed again and again, loses
//! what its journal had not made durable, and replays the rest.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::action::{Action, Notice, Timer};
use super::event::{
    Event, Exit, QuestionKind, Quota, Refusal, SessionReport, TaskReading, TaskSays, TurnEnd,
    UsageLimit, Warning,
};
use super::failure::{API_FAILURES, Class, DEAD_STARTS, LIMIT_MARGIN_MS, MISSING_LOOKS, REFUSALS};
use super::liveness::{HangStep, Sign};
use super::machine::Machine;
use super::params::{Answering, Params};
use super::sim::Rng;
use super::state::{Between, Outcome, State};
use crate::clock::Timestamp;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// How long a night of failures is looked at.
const NIGHT: u64 = 24 * HOUR;
/// A subscription's limit is reset this often.
const WINDOW: u64 = 5 * HOUR;
/// What longhaul's own work and the CLI's last words may take beside a bound.
const MARGIN: u64 = MINUTE;
/// A turn is looked at this often: that computing alone is no sign of life any
/// more is seen at the next look.
const LOOK: u64 = 5 * MINUTE;
/// Processes of the tree are looked at this often.
const SAMPLE: u64 = 5 * SECOND;

/// What goes wrong again and again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Ends, or stays silent, without a reply.
    DeadStart { silent: bool },
    /// Replies, then dies.
    Crash,
    /// Replies, then the kernel ends it, or it takes too much.
    OutOfMemory { by_kernel: bool },
    /// 401.
    Authentication { after_replies: u32 },
    /// The API does not answer, from then on, for that long.
    Outage { class: Class, from_ms: u64, lasts_ms: u64, cli_retries: bool },
    /// The subscription is used up after so many milliseconds of each window.
    Limit { known: Known, works_ms: u64 },
    /// HTTP 400 to every request.
    Refused,
    /// An unknown model.
    UnknownModel,
    /// Replies, then the prompt is too long.
    ContextFull,
    /// Replies, then hangs.
    Hang(Hang),
    /// Something unknown waits after so many replies.
    Dialog { after_replies: u32 },
    /// Asks after each reply.
    Question { kind: QuestionKind, closes: bool },
    /// The program is gone before that launch, for so many looks.
    Missing { before: u32, looks: u32 },
    /// The program is another one before every launch.
    Updated,
    /// Refused before that launch.
    Stands { class: Class, before: u32 },
}

/// What is known about a usage limit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    /// The error row tells the time.
    Row,
    /// Only the statusline tells it.
    Statusline,
    /// The CLI's screen tells it, and the CLI goes on by itself.
    Screen,
    /// Nobody tells it.
    Nothing,
    /// The row tells a time that has passed.
    Past,
}

/// How a turn stops moving.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hang {
    /// No answer ever comes; Esc helps.
    DeadStream,
    /// The same, and the CLI redraws its statusline after Esc.
    SpinnerOnly,
    /// The CLI reads nothing that is typed.
    StopsReading,
    /// The CLI itself computes for ever: no key, no SIGTERM.
    CpuSpin,
    /// Stopped: no key, no SIGTERM.
    Stopped,
    /// A tool call that never comes back; Esc helps.
    DeadTool,
    /// A tool waits for input, and Esc does not help.
    StdinBlock,
    /// The turn is dead, and something it left behind computes.
    BusyChild,
}

impl Hang {
    const ALL: [Hang; 8] = [
        Hang::DeadStream,
        Hang::SpinnerOnly,
        Hang::StopsReading,
        Hang::CpuSpin,
        Hang::Stopped,
        Hang::DeadTool,
        Hang::StdinBlock,
        Hang::BusyChild,
    ];

    fn in_tool(self) -> bool {
        matches!(self, Hang::DeadTool | Hang::StdinBlock)
    }

    fn hears_escape(self) -> bool {
        matches!(self, Hang::DeadStream | Hang::SpinnerOnly | Hang::DeadTool | Hang::BusyChild)
    }

    fn hears_term(self) -> bool {
        !matches!(self, Hang::CpuSpin | Hang::Stopped)
    }

    /// From the last sign of life until Esc.
    fn interrupt_bound_ms(self, p: &Params) -> u64 {
        let hang = p.hang;
        match self {
            _ if self.in_tool() => hang.tool_ms,
            Hang::BusyChild => {
                hang.tool_ms.max(hang.end_ms) + LOOK + hang.interrupt_ms - hang.warn_ms
            }
            _ => hang.interrupt_ms,
        }
    }

    /// From the last sign of life until the session is told to end.
    fn end_bound_ms(self, p: &Params) -> u64 {
        self.interrupt_bound_ms(p) + p.hang.end_ms - p.hang.interrupt_ms
    }
}

/// The model of one CLI.
#[derive(Debug, Default)]
struct Cli {
    cycle: u32,
    turn: u32,
    busy: bool,
    replies: u32,
    /// Replies in this turn.
    said: u32,
    tokens: u64,
    /// The turn answers a request for a checkpoint.
    checkpointing: bool,
    queued: Vec<String>,
    deaf: bool,
    unkillable: bool,
    /// When the hang began.
    hung_at: Option<u64>,
}

#[derive(Debug, Clone)]
enum Item {
    Event(Event),
    Act {
        cycle: u32,
        turn: u32,
    },
    /// The tree computes.
    Cpu {
        cycle: u32,
        turn: u32,
    },
}

/// What was seen.
#[derive(Debug, Default)]
struct Tally {
    launches: u32,
    typed: u32,
    looks: u32,
    escapes: u32,
    ends: u32,
    crashes: u32,
    needs_person: u32,
    waits: u32,
    /// Requests that were made: when, and after how many crashes.
    requests: Vec<(u64, u32)>,
    /// Turns that ended with an error row.
    failed: u32,
    /// Requests refused at a limit, by window.
    refused: BTreeMap<u64, u32>,
    steps: Vec<HangStep>,
    /// Hangs that were over: how long until Esc or the end.
    handled_ms: Vec<u64>,
}

struct Night {
    rng: Rng,
    fault: Fault,
    p: Params,
    run_id: Uuid,
    begun: Timestamp,
    now: Timestamp,
    m: Machine,
    journal: Vec<(Timestamp, Event)>,
    durable: usize,
    /// Per thousand events.
    crash: u64,
    timers: BTreeMap<Timer, (u64, u64)>,
    queue: BTreeMap<(u64, u64), Item>,
    serial: u64,
    cli: Option<Cli>,
    docs: u64,
    baseline: u64,
    ticked: u32,
    worked_at: Option<u64>,
    missing_looks: u32,
    tally: Tally,
}

/// Tasks enough for every night.
const TASKS: u32 = 1_000_000;

impl Night {
    fn new(seed: u64, fault: Fault, p: Params, crash: u64) -> Self {
        let begun = Timestamp { unix_ms: 1_800_000_000_000, boot_ms: 1_000 };
        let run_id = Uuid::from_u128(u128::from(seed) + 1);
        Self {
            rng: Rng(seed ^ 0x4e49_4748_5453),
            fault,
            m: Machine::new(run_id, p.clone(), begun),
            p,
            run_id,
            begun,
            now: begun,
            journal: Vec::new(),
            durable: 0,
            crash,
            timers: BTreeMap::new(),
            queue: BTreeMap::new(),
            serial: 0,
            cli: None,
            docs: 0,
            baseline: 0,
            ticked: 0,
            worked_at: None,
            missing_looks: 0,
            tally: Tally::default(),
        }
    }

    fn age_ms(&self) -> u64 {
        self.now.ms_since(self.begun)
    }

    fn later(&mut self, ms: u64, item: Item) {
        self.serial += 1;
        self.queue.insert((self.now.boot_ms + ms, self.serial), item);
    }

    fn event(&mut self, ms: u64, event: Event) {
        self.later(ms, Item::Event(event));
    }

    fn report(&mut self, ms: u64, report: SessionReport) {
        if let Some(cli) = &self.cli {
            let cycle = cli.cycle;
            self.event(ms, Event::Session { cycle, report });
        }
    }

    fn next(&mut self) -> Item {
        let queued = self.queue.keys().next().copied();
        let timer = self.timers.iter().map(|(t, (at, _))| (*at, *t)).min();
        let (at, item) = match (queued, timer) {
            (Some(key), timer) if timer.is_none_or(|(at, _)| key.0 <= at) => {
                (key.0, self.queue.remove(&key).expect("it is the first"))
            }
            (_, Some((at, timer))) => {
                let (_, epoch) = self.timers.remove(&timer).expect("it is the first");
                (at, Item::Event(Event::Deadline { timer, epoch }))
            }
            (_, None) => panic!("nothing will ever happen again: {:?}", self.m.state()),
        };
        self.now = self.now.plus_ms(at.saturating_sub(self.now.boot_ms));
        item
    }

    /// Goes on until the run or that time is over.
    fn goes_on_until(&mut self, end_ms: u64) {
        for _ in 0..3_000_000 {
            if self.m.outcome().is_some() || self.age_ms() >= end_ms {
                return;
            }
            match self.next() {
                Item::Event(event) => self.hears(event),
                Item::Act { cycle, turn } => self.acts(cycle, turn),
                Item::Cpu { cycle, turn } => self.computes(cycle, turn),
            }
        }
        panic!("too much happens in {:?}", self.m.state());
    }

    fn hears(&mut self, event: Event) {
        self.journal.push((self.now, event.clone()));
        let actions = self.m.step(self.now, event);
        if actions.iter().any(Action::is_external) {
            self.durable = self.journal.len();
        }
        let may_crash = self.m.outcome().is_none() && self.tally.crashes < 12;
        if may_crash && self.rng.below(1_000) < self.crash {
            return self.crashes();
        }
        for action in actions {
            self.performs(action);
        }
    }

    /// longhaul is killed between the note and the deed, and the keeper ends the
    /// session; what was not durable is lost.
    fn crashes(&mut self) {
        self.tally.crashes += 1;
        let rest = (self.journal.len() - self.durable) as u64;
        self.journal.truncate(self.durable + self.rng.below(rest + 1) as usize);
        self.durable = self.journal.len();
        let mut m = Machine::new(self.run_id, self.p.clone(), self.begun);
        for (at, event) in &self.journal {
            let _ = m.step(*at, event.clone());
        }
        self.m = m;
        let killed = u32::from(self.cli.take().is_some());
        self.queue.clear();
        self.timers.clear();
        self.now = self.now.plus_ms(5_000);
        if self.m.outcome().is_none() {
            let params = Box::new(self.p.clone());
            self.hears(Event::Recovered { params, spend: None, bill: None, killed });
        }
    }

    fn performs(&mut self, action: Action) {
        match action {
            Action::Prepare => {
                self.tally.looks += 1;
                let event = self.looks();
                self.event(2, event);
            }
            Action::Launch { cycle, .. } => self.launches(cycle),
            Action::TakeBaseline => self.baseline = self.docs,
            Action::Type { text } => {
                self.tally.typed += 1;
                self.is_typed(text);
            }
            Action::PressEscape => self.is_interrupted(),
            Action::EndPolitely => {
                self.tally.ends += 1;
                self.is_handled();
                if self.cli.as_ref().is_some_and(|c| !c.unkillable) {
                    self.exits(70, Exit::Code(143), None);
                }
            }
            Action::EndSurely => self.exits(5, Exit::Signal(9), None),
            Action::ReadTask => {
                let reading = TaskReading::Read {
                    digest: self.ticked.to_string(),
                    says: TaskSays::Open,
                    ticked: self.ticked,
                    total: TASKS,
                };
                self.event(2, Event::TaskRead { reading });
            }
            Action::WeighProgress { since } => {
                let changed = self.worked_at.is_some_and(|at| at >= since.boot_ms);
                self.event(5, Event::ProgressWeighed { changed });
            }
            Action::Prove => {
                let shortfalls = match self.docs > self.baseline {
                    true => Vec::new(),
                    false => vec!["nothing changed".to_owned()],
                };
                let digest = self.docs.to_string();
                self.event(5, Event::Proof { changed: Vec::new(), shortfalls, digest });
            }
            Action::KeepCheckpoint { .. } => {
                self.event(20, Event::CheckpointKept { folder: "c".into(), trouble: None });
            }
            Action::WriteHandoff { .. } => {
                self.event(10, Event::HandoffWritten { trouble: None });
            }
            Action::SetTimer { timer, epoch, after_ms } => {
                self.timers.insert(timer, (self.now.boot_ms + after_ms, epoch));
            }
            Action::Tell(Notice::NeedsPerson { .. }) => self.tally.needs_person += 1,
            Action::Tell(Notice::Waiting { .. }) => self.tally.waits += 1,
            Action::Tell(Notice::Hang { step, .. }) => self.tally.steps.push(step),
            Action::Tell(_)
            | Action::KeepTree { .. }
            | Action::SettleBaseline
            | Action::PressEnter
            | Action::ClearInput
            | Action::RunVerify
            | Action::CancelVerify => {}
        }
    }

    fn looks(&mut self) -> Event {
        let next = self.tally.launches + 1;
        let refusal = |class| Some(Refusal { class, why: "not as it was".into() });
        let mut warnings = Vec::new();
        let refusal = match self.fault {
            Fault::Missing { before, looks } if next >= before && self.missing_looks < looks => {
                self.missing_looks += 1;
                refusal(Class::CliMissing)
            }
            Fault::Stands { class, before } if next >= before => refusal(class),
            Fault::Updated => {
                warnings.push(Warning { class: Some(Class::CliUpdated), text: "other".into() });
                None
            }
            _ => None,
        };
        Event::Prepared { refusal, warnings }
    }

    fn launches(&mut self, cycle: u32) {
        assert!(self.cli.is_none(), "two sessions at once");
        let limit = self.m.limit.as_ref().and_then(|l| l.resets_unix_ms);
        assert!(limit.is_none_or(|at| at <= self.now.unix_ms), "launched while a limit holds");
        self.tally.launches += 1;
        self.cli = Some(Cli { cycle, tokens: 10_000, ..Cli::default() });
        self.report(5, SessionReport::Spawned { pid: 1_000 + cycle });
        if !matches!(self.fault, Fault::DeadStart { .. }) {
            self.report(200, SessionReport::Ready { model: Some("m".into()) });
        }
        self.begins_turn();
    }

    fn begins_turn(&mut self) {
        self.tally.requests.push((self.now.boot_ms, self.tally.crashes));
        let Some(cli) = self.cli.as_mut() else { return };
        cli.busy = true;
        cli.turn += 1;
        cli.said = 0;
        self.acts_later();
    }

    fn acts_later(&mut self) {
        let ms = 500 + self.rng.below(30 * SECOND);
        self.acts_after(ms);
    }

    fn acts_after(&mut self, ms: u64) {
        if let Some(Cli { cycle, turn, .. }) = self.cli {
            self.later(ms, Item::Act { cycle, turn });
        }
    }

    fn is_typed(&mut self, text: String) {
        let Some(cli) = self.cli.as_mut().filter(|c| !c.deaf) else { return };
        let queued = cli.busy;
        if queued {
            cli.queued.push(text.clone());
        } else {
            cli.checkpointing = text.starts_with("CHECKPOINT");
        }
        self.report(10, SessionReport::PromptArrived { text, queued });
        if !queued {
            self.begins_turn();
        }
    }

    fn hears_queue(&mut self) {
        let Some(cli) = self.cli.as_mut() else { return };
        let heard = std::mem::take(&mut cli.queued);
        cli.checkpointing |= heard.iter().any(|t| t.starts_with("CHECKPOINT"));
        for text in heard {
            self.report(0, SessionReport::PromptArrived { text, queued: false });
        }
    }

    fn ends_turn(&mut self, end: TurnEnd) {
        let Some(cli) = self.cli.as_mut() else { return };
        cli.busy = false;
        cli.turn += 1;
        cli.checkpointing = false;
        let waiting = !cli.queued.is_empty();
        self.report(0, SessionReport::TurnEnded { end });
        if waiting {
            self.hears_queue();
            self.begins_turn();
        }
    }

    fn fails_turn(&mut self, error: &str, status: Option<u16>, limit: Option<UsageLimit>) {
        self.tally.failed += 1;
        let text = "it failed".to_owned();
        self.report(0, SessionReport::Alive { sign: Sign::Transcript });
        self.ends_turn(TurnEnd::ApiError { error: error.into(), status, text, limit });
    }

    fn exits(&mut self, ms: u64, exit: Exit, out_of_memory: Option<String>) {
        let exited = SessionReport::Exited {
            exit,
            killed: 0,
            survivors: 0,
            screen: "the last screen".into(),
            out_of_memory,
        };
        self.report(ms, exited);
        self.cli = None;
    }

    /// A hang was answered.
    fn is_handled(&mut self) {
        let now = self.now.boot_ms;
        let hung_at = self.cli.as_mut().and_then(|c| c.hung_at.take());
        self.tally.handled_ms.extend(hung_at.map(|at| now - at));
    }

    fn is_interrupted(&mut self) {
        self.tally.escapes += 1;
        let Fault::Hang(hang) = self.fault else {
            let closes = !matches!(self.fault, Fault::Question { closes: false, .. });
            if closes && self.cli.as_ref().is_some_and(|c| c.busy) {
                self.ends_turn(TurnEnd::Interrupted);
            }
            return;
        };
        if hang.hears_escape() {
            self.is_handled();
            return self.ends_turn(TurnEnd::Interrupted);
        }
        for n in 1..20 {
            // None of these says that the turn goes on.
            let sign = if hang == Hang::StopsReading { Sign::Hook } else { Sign::Statusline };
            self.report(n * 20 * SECOND, SessionReport::Alive { sign });
        }
    }

    // ---- what the CLI does ----------------------------------------------------

    fn acts(&mut self, cycle: u32, turn: u32) {
        let is_now = |c: &&Cli| c.cycle == cycle && c.turn == turn && c.busy;
        let Some(cli) = self.cli.as_ref().filter(is_now) else { return };
        let (said, replies) = (cli.said, cli.replies);
        match self.fault {
            Fault::DeadStart { silent: true } => {}
            Fault::DeadStart { silent: false } => self.exits(1, Exit::Code(1), None),
            Fault::Authentication { after_replies } if replies >= after_replies => {
                self.fails_turn("authentication_failed", Some(401), None);
            }
            Fault::Outage { class, from_ms, lasts_ms, cli_retries }
                if (from_ms..from_ms.saturating_add(lasts_ms)).contains(&self.age_ms()) =>
            {
                self.meets_outage(class, cli_retries, said);
            }
            Fault::Limit { known, works_ms } if self.is_used_up(works_ms) => {
                self.meets_limit(known);
            }
            Fault::Refused => self.fails_turn("unknown", Some(400), None),
            Fault::UnknownModel => self.fails_turn("model_not_found", Some(404), None),
            _ if said == 0 => self.replies(false),
            Fault::Crash => self.exits(1, Exit::Signal(11), None),
            Fault::OutOfMemory { by_kernel: true } => {
                self.exits(1, Exit::Signal(9), Some("oom_kill rose".into()));
            }
            Fault::OutOfMemory { by_kernel: false } => {
                let memory_mb = self.p.tree_memory_hard_mb;
                self.report(0, SessionReport::Vitals { memory_mb, subagents: 0, scratch_mb: 0 });
            }
            Fault::ContextFull => self.is_full(),
            Fault::Hang(hang) => self.hangs(hang),
            Fault::Dialog { after_replies } if replies >= after_replies => {
                self.asks(QuestionKind::Unknown);
            }
            Fault::Question { kind, .. } => self.asks(kind),
            Fault::Authentication { .. }
            | Fault::Outage { .. }
            | Fault::Limit { .. }
            | Fault::Dialog { .. }
            | Fault::Missing { .. }
            | Fault::Updated
            | Fault::Stands { .. } => self.works(),
        }
    }

    /// A reply; with work done, or without.
    fn replies(&mut self, works: bool) {
        if works {
            self.worked_at = Some(self.now.boot_ms);
            self.ticked += u32::from(self.rng.chance(20));
        }
        self.hears_queue();
        let step = 1_000 + self.rng.below(10_000);
        let Some(cli) = self.cli.as_mut() else { return };
        cli.replies += 1;
        cli.said += 1;
        cli.tokens += step;
        let tokens = cli.tokens;
        self.docs += u64::from(works && cli.checkpointing);
        let table_window = Some(200_000);
        self.report(0, SessionReport::Alive { sign: Sign::Transcript });
        self.report(0, SessionReport::Context { tokens, model: "m".into(), table_window });
        let ms = if works { MINUTE + self.rng.below(4 * MINUTE) } else { 500 };
        self.acts_after(ms);
    }

    /// What a session does on a good day.
    fn works(&mut self) {
        let ends = self.rng.chance(10);
        let Some(cli) = &self.cli else { return };
        if (cli.checkpointing && cli.said > 1) || ends {
            return self.ends_turn(TurnEnd::Completed);
        }
        self.replies(true);
    }

    fn meets_outage(&mut self, class: Class, cli_retries: bool, said: u32) {
        if cli_retries && said < 3 {
            let retrying = SessionReport::Retrying { class, attempt: said + 1, after_ms: 5_000 };
            self.report(0, SessionReport::Alive { sign: Sign::Transcript });
            self.report(0, retrying);
            if let Some(cli) = self.cli.as_mut() {
                cli.said += 1;
            }
            return self.acts_later();
        }
        match class {
            Class::RateLimit => self.fails_turn("rate_limit", Some(429), None),
            Class::Overloaded => self.fails_turn("server_error", Some(529), None),
            _ => self.fails_turn("unknown", None, None),
        }
    }

    fn window(&self) -> u64 {
        self.age_ms() / WINDOW
    }

    fn is_used_up(&self, works_ms: u64) -> bool {
        self.age_ms() % WINDOW >= works_ms
    }

    fn meets_limit(&mut self, known: Known) {
        let resets = self.begun.unix_ms + ((self.window() + 1) * WINDOW) as i64;
        let (window, is_row) = (self.window(), known != Known::Screen);
        let limit = |resets_unix_ms| UsageLimit {
            which: "five_hour".into(),
            resets_unix_ms,
            continues: false,
        };
        if is_row {
            *self.tally.refused.entry(window).or_default() += 1;
        }
        let row = match known {
            Known::Row => Some(limit(Some(resets))),
            Known::Nothing => Some(limit(None)),
            Known::Past => Some(limit(Some(self.now.unix_ms - MINUTE as i64))),
            Known::Statusline => {
                let five_hour = Some(Quota { used_percent: 100.0, resets_unix_ms: Some(resets) });
                self.report(0, SessionReport::QuotaUsed { five_hour, seven_day: None });
                None
            }
            Known::Screen => {
                self.report(0, SessionReport::Limited { limit: limit(Some(resets)) });
                let left = (resets - self.now.unix_ms) as u64 + self.rng.below(10 * SECOND);
                return self.acts_after(left);
            }
        };
        self.fails_turn("rate_limit", Some(429), row);
    }

    fn is_full(&mut self) {
        self.report(0, SessionReport::Alive { sign: Sign::Transcript });
        self.ends_turn(TurnEnd::ApiError {
            error: "invalid_request".into(),
            status: Some(400),
            text: "Prompt is too long".into(),
            limit: None,
        });
    }

    fn asks(&mut self, kind: QuestionKind) {
        let screen = "it asks".to_owned();
        self.report(0, SessionReport::AsksPerson { kind, what: "may I?".into(), screen });
        // What stays on the screen is seen again.
        self.acts_later();
    }

    fn hangs(&mut self, hang: Hang) {
        let now = self.now.boot_ms;
        if hang.in_tool() {
            let id = format!("call {now}");
            self.report(0, SessionReport::Alive { sign: Sign::Transcript });
            self.report(0, SessionReport::Tool { id, summary: "Bash".into() });
        }
        let Some(cli) = self.cli.as_mut() else { return };
        cli.deaf = !hang.hears_escape();
        cli.unkillable = !hang.hears_term();
        cli.hung_at = Some(now);
        let (cycle, turn) = (cli.cycle, cli.turn);
        if hang == Hang::BusyChild {
            self.later(SAMPLE, Item::Cpu { cycle, turn });
        }
    }

    fn computes(&mut self, cycle: u32, turn: u32) {
        if self.cli.as_ref().is_some_and(|c| c.cycle == cycle && c.turn == turn) {
            self.report(0, SessionReport::Alive { sign: Sign::Cpu });
            self.later(SAMPLE, Item::Cpu { cycle, turn });
        }
    }
}

// ---- what must hold --------------------------------------------------------------

impl Night {
    fn code(&self) -> Option<u8> {
        self.m.outcome().map(Outcome::exit_code)
    }

    #[track_caller]
    fn ends_with(&self, code: u8) {
        assert_eq!(self.code(), Some(code), "{:?} in {:?}", self.m.outcome(), self.m.state());
    }

    /// Still at it, or waiting for what passes.
    #[track_caller]
    fn goes_on(&self) {
        assert_eq!(self.code(), None, "{:?}", self.m.outcome());
        if let State::Cooling { class, .. } = self.m.state() {
            assert!(class.is_outage(), "waits for {class:?}");
        }
        let held = matches!(self.m.state(), State::Held | State::Between { step: Between::Held });
        assert!(!held && self.m.live().is_some());
    }

    /// So many launches, and one more for each time longhaul was killed.
    #[track_caller]
    fn launched(&self, launches: u32) {
        let Tally { launches: seen, crashes, .. } = self.tally;
        let is_right = if crashes == 0 { seen == launches } else { seen <= launches + crashes };
        assert!(is_right, "{seen} launches instead of {launches}, {crashes} crashes");
    }

    /// Between one request and the next lies at least half of the pause.
    #[track_caller]
    fn paused(&self, class: Class) {
        self.paused_for(class, u64::MAX);
    }

    /// The same for the requests that failed before that age.
    #[track_caller]
    fn paused_for(&self, class: Class, until_ms: u64) {
        // After a crash the next session is begun at once.
        let calm = self.tally.requests.iter().filter(|_| self.tally.crashes == 0);
        let end = self.begun.boot_ms.saturating_add(until_ms);
        let requests: Vec<_> = calm.take_while(|(at, _)| *at < end).collect();
        for (n, pair) in requests.windows(2).enumerate() {
            let gap = pair[1].0 - pair[0].0;
            let least = full_pause_ms(class, n) / 2;
            assert!(gap >= least, "request {n} came {gap} ms after the one before, not {least}");
        }
    }

    #[track_caller]
    fn booked(&self, class: Class, count: u32) {
        let booked = self.m.failures.get(&class).map_or(0, |f| f.count);
        let is_right = if self.tally.crashes == 0 { booked == count } else { booked > 0 };
        assert!(is_right, "{booked} of {class:?} booked, {count} happened");
    }

    /// Replay tells the same story.
    fn replays(&self) {
        let mut m = Machine::new(self.run_id, self.p.clone(), self.begun);
        for (at, event) in &self.journal {
            let _ = m.step(*at, event.clone());
        }
        assert_eq!(m, self.m, "the replay differs from the run");
    }

    fn holds(&self) {
        self.replays();
        let t = &self.tally;
        assert!(t.needs_person <= 1 + t.crashes, "told {} times", t.needs_person);
        if self.code() == Some(10) {
            assert!(t.needs_person >= 1 || t.crashes > 0, "nobody was told");
        }
        let sessions = self.p.no_progress_cycles;
        // A session is begun, told to go on, and asked for a checkpoint twice.
        let requests_each = 1 + self.p.max_nudges + 2;
        let requests = t.requests.len() as u32;
        match self.fault {
            Fault::DeadStart { .. } => {
                self.ends_with(10);
                self.launched(DEAD_STARTS);
                self.paused(Class::DeadStart);
                self.booked(Class::DeadStart, DEAD_STARTS);
                assert_eq!(t.typed, 0);
            }
            Fault::Crash | Fault::OutOfMemory { .. } => {
                self.ends_with(21);
                self.launched(sessions);
                let class = match self.fault {
                    Fault::Crash => Class::Crash,
                    _ => Class::OutOfMemory,
                };
                self.paused(class);
                self.booked(class, sessions);
                assert_eq!(t.typed, 0);
            }
            Fault::ContextFull => {
                self.ends_with(21);
                self.launched(sessions);
                self.booked(Class::ContextFull, sessions);
                assert_eq!(t.typed, 0);
            }
            Fault::Authentication { .. } => {
                self.ends_with(30);
                self.launched(1);
                assert!(t.failed <= 1 + t.crashes, "tried {} times", t.failed);
                self.booked(Class::Authentication, 1);
            }
            Fault::Refused => {
                self.ends_with(21);
                self.launched(sessions);
                assert!(t.failed <= (REFUSALS + 1) * (sessions + t.crashes), "{}", t.failed);
                self.booked(Class::Refused, t.failed);
                self.paused(Class::Refused);
            }
            Fault::UnknownModel => {
                self.ends_with(10);
                self.launched(1);
                assert!(t.failed <= 1 + t.crashes, "tried {} times", t.failed);
            }
            Fault::Hang(hang) => {
                // A day may be too short for it, if longhaul is killed as well.
                if t.crashes == 0 || self.code().is_some() {
                    self.ends_with(21);
                }
                self.launched(sessions);
                assert!(requests <= requests_each * (sessions + t.crashes), "{requests}");
                self.handled(hang);
            }
            Fault::Dialog { after_replies } => {
                self.ends_with(10);
                self.launched(1);
                assert_eq!(t.escapes, 0, "something was pressed");
                assert!(after_replies > 1 || t.typed == 0, "something was typed");
            }
            Fault::Question { kind, closes } => self.asked(kind, closes, requests_each),
            Fault::Missing { before, looks } if looks >= MISSING_LOOKS => {
                self.ends_with(10);
                assert_eq!(t.launches, before - 1);
                assert!(self.missing_looks <= MISSING_LOOKS + t.crashes);
                self.booked(Class::CliMissing, MISSING_LOOKS);
            }
            Fault::Missing { looks, .. } => {
                self.goes_on();
                self.booked(Class::CliMissing, looks);
            }
            Fault::Updated => {
                self.goes_on();
                self.booked(Class::CliUpdated, t.looks);
            }
            Fault::Stands { class, before } => {
                self.ends_with(10);
                assert_eq!(t.launches, before - 1);
                self.booked(class, 1);
            }
            Fault::Outage { class, from_ms, lasts_ms, .. } => {
                self.outlasted(class, from_ms, lasts_ms);
            }
            Fault::Limit { known, works_ms } => self.limited(known, works_ms),
        }
    }

    fn handled(&self, hang: Hang) {
        let bound = match hang.hears_escape() {
            true => hang.interrupt_bound_ms(&self.p),
            false => hang.end_bound_ms(&self.p),
        };
        assert!(!self.tally.handled_ms.is_empty() || self.tally.crashes > 0);
        // A request for a checkpoint has its own time.
        let bound = bound.max(self.p.checkpoint_timeout_ms);
        for ms in &self.tally.handled_ms {
            assert!(*ms <= bound + MARGIN, "{hang:?} was left alone for {ms} ms, not {bound}");
        }
    }

    fn asked(&self, kind: QuestionKind, closes: bool, requests_each: u32) {
        let t = &self.tally;
        let class = match kind {
            QuestionKind::Permission => Class::PermissionPrompt,
            _ => Class::Question,
        };
        assert!(self.m.failures.contains_key(&class));
        let denies = self.p.permissions == Answering::Deny;
        if denies && closes {
            self.ends_with(21);
            let sessions = self.p.no_progress_cycles;
            self.launched(sessions);
            let requests = t.requests.len() as u32;
            assert!(requests <= requests_each * (sessions + t.crashes), "{requests}");
        } else {
            self.ends_with(10);
            self.launched(1);
            assert_eq!(t.typed, 0);
            assert!(t.escapes <= if denies { 3 * (1 + t.crashes) } else { 0 });
        }
    }

    fn outlasted(&self, class: Class, from_ms: u64, lasts_ms: u64) {
        let t = &self.tally;
        let within = (from_ms..from_ms.saturating_add(lasts_ms)).contains(&self.age_ms());
        let since = |ms: u64| ms - self.begun.boot_ms;
        let during =
            |at: &&(u64, u32)| (from_ms..from_ms.saturating_add(lasts_ms)).contains(&since(at.0));
        let requests = t.requests.iter().filter(during).count() as u32;
        let tries = most_tries(class, lasts_ms.min(self.p.max_wait_ms));
        // A checkpoint may be asked for twice as it begins.
        assert!(requests <= tries + 3 + 2 * t.crashes, "{requests} requests, {tries} allowed");
        if from_ms == 0 {
            self.paused_for(class, lasts_ms);
        }
        if lasts_ms < NIGHT {
            return self.goes_on();
        }
        assert!(within);
        self.ends_with(31);
        let ended = self.age_ms() - from_ms;
        let (max, cap) = (self.p.max_wait_ms, class.policy().cap_ms);
        let slack = 10 * MINUTE + u64::from(t.crashes) * 3 * MINUTE;
        assert!(ended <= max + slack, "gave up after {ended}, {max} allowed");
        assert!(ended + cap + MARGIN >= max, "gave up after {ended} of {max}");
        if from_ms == 0 {
            let most = 1 + requests / (API_FAILURES + 1) + t.crashes;
            assert!(t.launches <= most, "{} launches, {most} allowed", t.launches);
        }
    }

    fn limited(&self, known: Known, works_ms: u64) {
        let t = &self.tally;
        let holds_ms = WINDOW - works_ms;
        for (window, refused) in &t.refused {
            let allowed = match known {
                Known::Row | Known::Statusline | Known::Screen => 1,
                // Asked for a checkpoint twice, as far as nobody knows of a limit.
                Known::Nothing | Known::Past => {
                    most_tries(Class::UsageLimit, holds_ms.min(self.p.max_wait_ms))
                }
            };
            assert!(
                *refused <= allowed + t.crashes,
                "{refused} requests in window {window} while the limit held, {allowed} allowed"
            );
        }
        // A request for a checkpoint has its own time, also while the CLI waits.
        let asked = if known == Known::Screen { t.waits } else { 0 };
        assert!(t.escapes <= asked, "a wait is no hang: {}", t.escapes);
        assert!(!t.steps.contains(&HangStep::Interrupt), "a wait is no hang");
        assert!(self.m.failures.contains_key(&Class::UsageLimit));
        if holds_ms > self.p.max_wait_ms {
            self.ends_with(31);
            let is_known = !matches!(known, Known::Nothing | Known::Past);
            let longest = if is_known { 0 } else { self.p.max_wait_ms };
            let slack = 10 * MINUTE + u64::from(t.crashes) * 2 * MINUTE;
            assert!(self.age_ms() <= works_ms + longest + slack, "{}", self.age_ms());
            return;
        }
        self.goes_on();
        assert!(self.m.waits.len() >= 4, "{:?}", self.m.waits);
        for wait in &self.m.waits {
            let Some(ended) = wait.ended else { continue };
            let late = ended.unix_ms - wait.until_unix_ms;
            let is_told = !matches!(known, Known::Nothing | Known::Past);
            // Until the model has answered; or longhaul was just dead.
            assert!(!is_told || late <= 120_000, "{late} ms too late: {wait:?}");
            assert!(t.crashes > 0 || late >= -LIMIT_MARGIN_MS, "{late} ms too early: {wait:?}");
        }
    }
}

/// The whole pause after failure number `n` in a row, from 0.
fn full_pause_ms(class: Class, n: usize) -> u64 {
    let policy = class.policy();
    policy.first_ms.saturating_mul(1 << n.min(20)).min(policy.cap_ms)
}

/// How many requests fit into that time, if every pause is as short as it may be.
fn most_tries(class: Class, within_ms: u64) -> u32 {
    let (mut sum, mut tries) = (0, 1);
    while sum <= within_ms {
        sum += full_pause_ms(class, tries as usize - 1) / 2;
        tries += 1;
    }
    tries
}

/// What goes wrong in the night of that seed.
fn fault(class: Class, rng: &mut Rng, p: &mut Params) -> Fault {
    let coin = rng.chance(50);
    let kind = match class {
        Class::Question => QuestionKind::Question,
        _ => QuestionKind::Permission,
    };
    match class {
        Class::DeadStart => Fault::DeadStart { silent: coin },
        Class::Crash => Fault::Crash,
        Class::OutOfMemory => Fault::OutOfMemory { by_kernel: coin },
        Class::Authentication => Fault::Authentication { after_replies: rng.below(5) as u32 },
        Class::RateLimit | Class::Overloaded | Class::Connection => Fault::Outage {
            class,
            from_ms: if coin { 0 } else { rng.below(3 * HOUR) },
            lasts_ms: match rng.below(2) {
                0 => u64::MAX,
                _ => rng.below(p.max_wait_ms - p.max_wait_ms / 4),
            },
            cli_retries: rng.chance(50),
        },
        Class::UsageLimit => {
            let known = [Known::Row, Known::Statusline, Known::Screen, Known::Nothing, Known::Past]
                [rng.below(5) as usize];
            p.max_wait_ms = match rng.below(4) {
                0 => HOUR + rng.below(2 * HOUR),
                _ => 6 * HOUR,
            };
            Fault::Limit { known, works_ms: 40 * MINUTE + rng.below(HOUR) }
        }
        Class::Refused if coin => Fault::Refused,
        Class::Refused => Fault::UnknownModel,
        Class::ContextFull => Fault::ContextFull,
        Class::Hang => Fault::Hang(Hang::ALL[rng.below(8) as usize]),
        Class::UnknownDialog => Fault::Dialog { after_replies: rng.below(5) as u32 },
        Class::PermissionPrompt | Class::Question => {
            if rng.chance(33) {
                p.permissions = Answering::Stop;
            }
            Fault::Question { kind, closes: coin }
        }
        Class::CliMissing => Fault::Missing {
            before: 1 + rng.below(4) as u32,
            looks: if coin { u32::MAX } else { 1 + rng.below(u64::from(MISSING_LOOKS) - 1) as u32 },
        },
        Class::CliUpdated => Fault::Updated,
        Class::ConfigCorrupt | Class::SettingsChanged => {
            Fault::Stands { class, before: 1 + rng.below(4) as u32 }
        }
    }
}

/// The policy of that seed, with nothing but the failures' own bounds in the way.
fn policy(rng: &mut Rng) -> Params {
    let mut p = super::sim::params();
    p.max_ms = 10 * NIGHT;
    p.max_sessions = 100_000;
    p.no_progress_cycles = 2 + rng.below(3) as u32;
    p.max_nudges = 1 + rng.below(3) as u32;
    p.max_wait_ms = HOUR + rng.below(8 * HOUR);
    if rng.chance(50) {
        p.hang.warn_ms = MINUTE + rng.below(10 * MINUTE);
        p.hang.interrupt_ms = p.hang.warn_ms + MINUTE + rng.below(10 * MINUTE);
        p.hang.end_ms = p.hang.interrupt_ms + MINUTE + rng.below(10 * MINUTE);
        p.hang.tool_ms = p.hang.end_ms + rng.below(40 * MINUTE);
    }
    p
}

fn night(class: Class, seed: u64) -> Night {
    let mut rng = Rng(seed.wrapping_mul(0x1000_0001) ^ class as u64);
    let mut p = policy(&mut rng);
    let fault = fault(class, &mut rng, &mut p);
    // In every other night longhaul is killed again and again.
    let crash = if seed % 2 == 1 { 5 + rng.below(40) } else { 0 };
    Night::new(rng.below(u64::MAX), fault, p, crash)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|s| s.parse().ok())
}

fn is_long() -> bool {
    std::env::var("LONGHAUL_TORTURE").is_ok_and(|s| s == "long")
}

/// The seeds of a test: all of them, or the one asked for.
fn seeds(all: u64) -> std::ops::Range<u64> {
    number("LONGHAUL_NIGHT_SEED").map_or(0..all, |seed| seed..seed + 1)
}

/// Runs that failed, each with the line that runs it again.
#[derive(Default)]
struct Failed(Vec<String>);

impl Failed {
    fn run(&mut self, test: &str, seed: u64, night: &mut Night, run: impl FnOnce(&mut Night)) {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(night)));
        if let Err(cause) = ran {
            let cause = match cause.downcast::<String>() {
                Ok(text) => *text,
                Err(_) => "a panic".to_owned(),
            };
            self.0.push(format!(
                "{cause}\n  {:?}, {:?}\n  LONGHAUL_NIGHT_SEED={seed} cargo test --lib {test}",
                night.fault, night.tally
            ));
        }
    }

    #[track_caller]
    fn is_empty(&self) {
        let first = self.0.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(self.0.is_empty(), "{} nights went wrong:\n{first}", self.0.len());
    }
}

#[test]
fn a_night_of_nothing_but_one_failure_costs_what_the_table_says() {
    let nights = if is_long() { 50 } else { 20 };
    let mut totals: BTreeMap<Class, [u64; 6]> = BTreeMap::new();
    let mut failed = Failed::default();
    for seed in seeds(nights) {
        for class in Class::ALL {
            let mut night = night(class, seed);
            failed.run("a_night_of_nothing", seed, &mut night, |night| {
                night.hears(Event::Started);
                night.goes_on_until(NIGHT);
                night.holds();
            });
            let t = &night.tally;
            let ended = u32::from(night.code().is_some());
            let seen = [1, t.launches, t.typed, t.waits, t.crashes, ended];
            for (sum, n) in std::iter::zip(totals.entry(class).or_default(), seen) {
                *sum += u64::from(n);
            }
        }
    }
    failed.is_empty();
    if is_long() {
        println!("class: nights, launches, prompts typed, waits, crashes, ended");
        for (class, total) in totals {
            println!("{}: {total:?}", class.as_str());
        }
    }
}

// ---- turns that hang ---------------------------------------------------------------

/// One hang at some time in a working session; longhaul is done with it, and the
/// run works on.
fn hung_night(kind: Hang, seed: u64) -> Night {
    let mut rng = Rng(seed.wrapping_mul(0x2000_0003) ^ kind as u64);
    let mut p = policy(&mut rng);
    p.no_progress_cycles = 3;
    Night::new(rng.below(u64::MAX), Fault::Updated, p, 0)
}

impl Night {
    fn meets_one_hang(&mut self, kind: Hang) {
        self.hears(Event::Started);
        let from = 10 * MINUTE + self.rng.below(3 * HOUR);
        self.goes_on_until(from);
        self.fault = Fault::Hang(kind);
        while self.cli.as_ref().is_none_or(|c| c.hung_at.is_none()) {
            self.goes_on_until(self.age_ms() + 1);
            assert!(self.age_ms() < from + 2 * HOUR, "it never hung");
        }
        let hung_at = self.age_ms();
        let sessions = self.tally.launches;
        let checkpointing = matches!(self.m.state(), State::Checkpointing { .. });
        while self.tally.handled_ms.is_empty() {
            self.goes_on_until(self.age_ms() + 1);
            assert!(self.age_ms() < hung_at + 5 * HOUR, "it was left alone");
        }
        self.fault = Fault::Updated;
        if let Some(cli) = self.cli.as_mut() {
            cli.deaf = false;
        }
        self.handled(kind);
        // All of it is gone in time, and work goes on.
        let handled_at = self.age_ms();
        self.goes_on_until(handled_at + HOUR);
        self.goes_on();
        let worked_at = self.worked_at.map_or(0, |at| at - self.begun.boot_ms);
        assert!(worked_at > handled_at, "nothing was done after it");
        assert!(self.m.failures.contains_key(&Class::Hang) || checkpointing);
        if !checkpointing {
            let is_kept = self.tally.launches == sessions;
            assert!(is_kept || !kind.hears_escape() || self.m.past.len() as u32 > sessions - 1);
        }
        self.replays();
    }
}

#[test]
fn every_hang_is_handled_within_its_bound() {
    let each = if is_long() { 50 } else { 5 };
    let mut failed = Failed::default();
    for seed in seeds(each) {
        for kind in Hang::ALL {
            let mut night = hung_night(kind, seed);
            failed.run("every_hang", seed, &mut night, |night| night.meets_one_hang(kind));
        }
    }
    failed.is_empty();
}

// ---- turns that are quiet and well ------------------------------------------------------

/// A quiet piece of a turn: how long it lasts, what moves in it and how often.
#[derive(Debug, Clone, Copy)]
struct Piece {
    tool: bool,
    lasts_ms: u64,
    sign: Option<(Sign, u64)>,
}

fn piece(rng: &mut Rng, p: &Params) -> Piece {
    let hang = p.hang;
    match rng.below(7) {
        // A silent build.
        0 => Piece { tool: true, lasts_ms: 40 * MINUTE, sign: None },
        // One that computes.
        1 => Piece { tool: true, lasts_ms: 40 * MINUTE, sign: Some((Sign::Cpu, SAMPLE)) },
        // A long thought whose tokens are counted.
        2 => Piece {
            tool: false,
            lasts_ms: 25 * MINUTE,
            sign: Some((Sign::Stream, SECOND + rng.below(MINUTE))),
        },
        // A stall that recovers by itself.
        3 => Piece { tool: false, lasts_ms: 405 * SECOND, sign: None },
        // Nothing but subagents.
        4 => Piece {
            tool: true,
            lasts_ms: 30 * MINUTE + rng.below(90 * MINUTE),
            sign: Some((Sign::Subagent, MINUTE + rng.below(hang.interrupt_ms - 2 * MINUTE))),
        },
        // A long call of an MCP server.
        5 => Piece { tool: true, lasts_ms: rng.below(hang.tool_ms - MINUTE), sign: None },
        // Something of the session computes in the background.
        _ => Piece {
            tool: false,
            lasts_ms: rng.below(hang.tool_ms - MINUTE),
            sign: Some((Sign::Cpu, SAMPLE)),
        },
    }
}

impl Night {
    /// Everything until then; a machine that sleeps wakes in it `asleep_ms` later.
    fn passes_until(&mut self, at_ms: u64, asleep: &mut Option<(u64, u64)>) {
        let mut at_ms = at_ms;
        loop {
            let sleep = asleep.filter(|(from, _)| *from <= at_ms);
            self.runs_until(sleep.map_or(at_ms, |(from, _)| from));
            let Some((_, ms)) = sleep else { return };
            *asleep = None;
            self.now = self.now.plus_ms(ms);
            // What the session had still to do it does after it woke.
            at_ms += ms;
        }
    }

    /// Goes on exactly until that age.
    fn runs_until(&mut self, at_ms: u64) {
        let end = self.begun.boot_ms + at_ms;
        loop {
            let queued = self.queue.keys().next().map(|(at, _)| *at);
            let timer = self.timers.values().map(|(at, _)| *at).min();
            let next = [queued, timer].into_iter().flatten().min();
            if next.is_none_or(|at| at > end) || self.m.outcome().is_some() {
                break;
            }
            match self.next() {
                Item::Event(event) => self.hears(event),
                // The turn is led by the test.
                Item::Act { .. } | Item::Cpu { .. } => {}
            }
        }
        let left = end.saturating_sub(self.now.boot_ms);
        self.now = self.now.plus_ms(left);
    }

    fn is_quiet_and_well(&mut self) -> u64 {
        self.hears(Event::Started);
        self.runs_until(MINUTE);
        self.replies(true);
        let mut asleep = Some((self.age_ms() + self.rng.below(8 * HOUR), 8 * HOUR));
        let mut pieces = 0;
        while self.age_ms() < 8 * HOUR || asleep.is_some() {
            let p = self.p.clone();
            let piece = piece(&mut self.rng, &p);
            self.lives_through(piece, &mut asleep);
            let t = &self.tally;
            assert_eq!((t.escapes, t.ends), (0, 0), "a false kill in {piece:?}");
            pieces += 1;
        }
        assert_eq!(self.tally.launches, 1);
        self.replays();
        pieces
    }

    fn lives_through(&mut self, piece: Piece, asleep: &mut Option<(u64, u64)>) {
        let id = format!("call {}", self.age_ms());
        self.report(0, SessionReport::Alive { sign: Sign::Transcript });
        if piece.tool {
            let id = id.clone();
            self.report(0, SessionReport::Tool { id, summary: "quiet".into() });
        }
        let mut left = piece.lasts_ms;
        while left > 0 {
            let part = piece.sign.map_or(left, |(_, every)| every.min(left));
            self.passes_until(self.age_ms() + part, asleep);
            left -= part;
            if let Some((sign, _)) = piece.sign {
                self.report(0, SessionReport::Alive { sign });
            }
        }
        self.report(0, SessionReport::Alive { sign: Sign::Transcript });
        if piece.tool {
            self.report(0, SessionReport::ToolEnded { id });
        }
        let table_window = Some(1_000_000);
        self.report(0, SessionReport::Context { tokens: 20_000, model: "m".into(), table_window });
        self.runs_until(self.age_ms());
    }
}

#[test]
fn a_turn_that_is_quiet_and_well_is_never_touched() {
    let nights = if is_long() { 1_000 } else { 100 };
    let mut failed = Failed::default();
    let mut pieces = 0;
    for seed in seeds(nights) {
        let mut rng = Rng(seed.wrapping_mul(0x3000_0005));
        let mut p = super::sim::params();
        p.max_ms = 10 * NIGHT;
        let mut night = Night::new(rng.below(u64::MAX), Fault::Updated, p, 0);
        failed.run("a_turn_that_is_quiet", seed, &mut night, |night| {
            pieces += night.is_quiet_and_well();
        });
    }
    failed.is_empty();
    assert!(pieces >= 8 || nights == 1, "{pieces}");
}
