//! Nights of nothing but one failure, in virtual time: how often is it tried,
//! what is typed, how does it end? And turns that hang, and turns that are quiet
//! and well. The bounds are computed from the policies of `failure` and from
//! `Params`. A failure prints its seed: `LONGHAUL_NIGHT_SEED=n cargo test --lib
//! nights` replays it; `LONGHAUL_TORTURE=long` runs the large counts.
//!
//! In half of the nights of failures longhaul is killed again and again, loses
//! what its journal had not made durable, and replays the rest.

mod failures;
mod hangs;

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
    /// Each reply is cut off at its longest.
    OutputLimit,
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
            | Action::TakeTask { .. }
            | Action::SettleTask { .. }
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
            Fault::OutputLimit => self.fails_turn("max_output_tokens", None, None),
            Fault::UnknownModel => self.fails_turn("model_not_found", Some(404), None),
            _ if said == 0 => self.replies(false),
            Fault::Crash => self.exits(1, Exit::Signal(11), None),
            Fault::OutOfMemory { by_kernel: true } => {
                self.exits(1, Exit::Signal(9), Some("oom_kill rose".into()));
            }
            Fault::OutOfMemory { by_kernel: false } => {
                let memory_mb = self.p.tree_memory_hard_mb;
                self.report(
                    0,
                    SessionReport::Vitals { memory_mb, subagents: 0, scratch_mb: 0, written_mb: 0 },
                );
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

// ---- what must hold of every night ---------------------------------------------

impl Night {
    fn code(&self) -> Option<u8> {
        self.m.outcome().map(Outcome::exit_code)
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

    /// Replay tells the same story.
    fn replays(&self) {
        let mut m = Machine::new(self.run_id, self.p.clone(), self.begun);
        for (at, event) in &self.journal {
            let _ = m.step(*at, event.clone());
        }
        assert_eq!(m, self.m, "the replay differs from the run");
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

/// What a long run reached, for the person who ordered it (`--nocapture`).
#[expect(clippy::print_stdout, reason = "the counts go into dev-docs/reliability.md")]
fn tell(line: &str) {
    if is_long() {
        println!("{line}");
    }
}
