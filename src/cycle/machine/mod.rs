//! The state x event table.
//!
//! `step` is total: every event is answered in every state, and the answer to
//! what does not matter there is to do nothing (and to count it, where it
//! speaks of a session that is gone). `dev-docs/STATES.md` is generated from
//! this file by a test.

mod asking;
mod budgets;
mod deadlines;
mod floods;
mod hangs;
mod limits;
mod next;
mod people;
mod prepare;
mod questions;
mod reports;
mod run;
mod sessions;
mod turnover;

use std::collections::BTreeMap;

use uuid::Uuid;

use super::action::{Action, Notice, Timer};
use super::assignment::Assignment;
use super::budget::Budgets;
use super::event::{Event, TaskReading, TurnEnd, UsageLimit};
use super::failure::Class;
use super::liveness::Liveness;
use super::params::Params;
use super::rates::Rates;
use super::record::{CycleRecord, FailureCount, Noted, Pause, WaitRecord};
use super::state::{Between, EndReason, Outcome, State};
use crate::clock::Timestamp;

/// A typed text should show in the transcript within this time; it does within
/// 50 ms when the CLI is well.
const DELIVERY_MS: u64 = 4_000;
/// Enter presses and retypes before a text counts as undeliverable.
const DELIVERY_RETRIES: u32 = 4;
/// A question that keeps a text from being typed has this long to be answered or
/// found out; until then the text does not count as undeliverable.
const HELD_MS: u64 = 50_000;
/// After Esc a turn should end within this time.
const INTERRUPT_MS: u64 = 5_000;
/// After SIGKILL the keeper reports within this time; it needs milliseconds.
const GONE_MS: u64 = 20_000;
/// longhaul's own work on files reports within this time. It needs
/// milliseconds; a commit with hooks, or a disk that stalls, takes longer.
const ANSWER_MS: u64 = 120_000;
/// A wait until a time of day looks at the clock this often: the wall clock can
/// be set, and a deadline is only as right as the clock was.
const LOOK_AT_CLOCK_MS: u64 = 30_000;
/// Second signal: how long the CLI may still take to write its bill.
const HURRIED_EXIT_MS: u64 = 2_000;
/// A deadline that comes so much later than it was due was slept through.
const SLEPT_MS: u64 = 60_000;
/// Warnings kept for the report; a night that has more is told by the first ones.
const NOTED_MAX: usize = 100;
/// Added to the first prompt after a session that left no checkpoint.
const READ_BRIEF: &str = "The session before this one ended without writing down its state: \
                          read dev-docs/handoff.md first, and check it against the code.";
/// Signal number that `longhaul stop` counts as.
const SIGTERM: i32 = 15;

/// The supervisor's decisions for one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    pub(super) params: Params,
    pub(super) run_id: Uuid,
    pub(super) started_at: Timestamp,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) state: State,
    /// Grows with each change of state; a deadline of an older epoch is void.
    pub(super) epoch: u64,
    /// Since when a person wants nothing new started.
    pub(super) paused: Option<Timestamp>,
    /// What the run will end with, once the session is down.
    pub(super) verdict: Option<Outcome>,
    /// Why the live session is ending (or being checkpointed).
    pub(super) reason: Option<EndReason>,
    /// Signals seen.
    signals: u32,
    /// The cycle whose session is alive, or was the last.
    pub(super) live: Option<CycleRecord>,
    /// A session of `live` exists (from launch to its exit report).
    pub(super) alive: bool,
    /// Was `SessionStarted` told for it?
    announced: bool,
    /// Cycles that are over.
    pub(super) past: Vec<CycleRecord>,
    pub(super) tasks_done: u32,
    pub(super) tasks_total: u32,
    pub(super) tasks_done_at_start: Option<u32>,
    tasks_digest: Option<String>,
    /// Prompts in a row without progress in the live session.
    nudges_in_a_row: u32,
    /// A text typed in `Working` that the transcript has not shown yet.
    typed: Option<Typed>,
    /// Progress counts from here when a turn is judged.
    judged_at: Timestamp,
    pub(super) no_progress_in_a_row: u32,
    /// The same before the live cycle: it may be judged more than once.
    no_progress_before: u32,
    dead_starts_in_a_row: u32,
    /// Failures of the API since it answered last, in whatever session: pauses
    /// grow by it. Waiting for a known time is no attempt.
    failures_in_a_row: u32,
    /// Turns in a row that failed in the live session: by it a fresh one is tried.
    api_failures_in_a_row: u32,
    /// Sessions in a row whose first reply was already over the threshold.
    born_full_in_a_row: u32,
    /// What ended the last session, if it was a failure.
    failed: Option<Class>,
    /// Turns in a row in which nothing moved, without a reply in between.
    pub(super) hung_in_a_row: u32,
    /// Questions in a row that were declined, without a reply in between.
    declined_in_a_row: u32,
    /// Looks in a row for a program that is gone.
    missing_in_a_row: u32,
    /// The change of settings, allowed by nobody, that was counted last.
    settings_told: Option<String>,
    /// It was told that no hook calls.
    hooks_told: bool,
    /// Warnings that the report repeats.
    pub(super) noted: Vec<Noted>,
    /// When a text was last held back by a question.
    held_at: Option<Timestamp>,
    /// The model replied since the last pause after a failure.
    replied_since_pause: bool,
    /// The usage limit that was reached last.
    pub(super) limit: Option<UsageLimit>,
    /// The limit of the subscription that is used up, as the statusline says.
    used_up: Option<UsageLimit>,
    /// Why the CLI tries a request again by itself, since its last reply.
    pub(super) cli_retries: Option<Class>,
    /// The pause after a failure that was told last.
    pub(super) pause: Option<Pause>,
    /// The pause that was cut short when longhaul was killed.
    cut_pause: Option<Pause>,
    /// Whoever listens since the restart does not know of the wait that goes on.
    is_wait_untold: bool,
    /// Since when the API gives no reply, in milliseconds supervised.
    outage_since_ms: Option<u64>,
    /// When each deadline is due, by the clock of the boot.
    due_ms: BTreeMap<Timer, u64>,
    /// When the machine woke last, by the same clock.
    woke_ms: Option<u64>,
    pub(super) liveness: Liveness,
    rates: Rates,
    pub(super) budgets: Budgets,
    /// Failures by class.
    pub(super) failures: BTreeMap<Class, FailureCount>,
    /// Waits for usage limits.
    pub(super) waits: Vec<WaitRecord>,
    /// What a person was needed for, and what the screen showed.
    pub(super) asked: Option<(String, String)>,
    /// What the newest session's terminal showed at its end.
    last_screen: String,
    last_checkpoint_digest: Option<String>,
    /// Tasks of the queue that the run had in hand; the last may be in hand still.
    pub(super) assignments: Vec<Assignment>,
    /// The cycle whose proven checkpoint is being copied.
    keeping: Option<u32>,
    /// What the next prompt must carry (the verify command's output).
    note: Option<String>,
    /// Tokens and dollars as told last.
    told_spend: (u64, f64),
    pub(super) stale_reports: u64,
    pub(super) last_activity: String,
    elapsed_before_ms: u64,
    clock_base: Timestamp,
    pub(super) last_now: Timestamp,
    out: Vec<Action>,
}

/// A text on its way into the session.
#[derive(Debug, Clone, PartialEq)]
struct Typed {
    text: String,
    retries: u32,
}

impl Machine {
    /// A run that has not begun.
    pub fn new(run_id: Uuid, params: Params, now: Timestamp) -> Self {
        Self {
            params,
            run_id,
            started_at: now,
            ended_at: None,
            state: State::Between { step: Between::Held },
            epoch: 0,
            paused: None,
            verdict: None,
            reason: None,
            signals: 0,
            live: None,
            alive: false,
            announced: false,
            past: Vec::new(),
            tasks_done: 0,
            tasks_total: 0,
            tasks_done_at_start: None,
            tasks_digest: None,
            nudges_in_a_row: 0,
            typed: None,
            judged_at: now,
            no_progress_in_a_row: 0,
            no_progress_before: 0,
            dead_starts_in_a_row: 0,
            failures_in_a_row: 0,
            api_failures_in_a_row: 0,
            born_full_in_a_row: 0,
            failed: None,
            hung_in_a_row: 0,
            declined_in_a_row: 0,
            missing_in_a_row: 0,
            settings_told: None,
            hooks_told: false,
            noted: Vec::new(),
            held_at: None,
            replied_since_pause: false,
            limit: None,
            used_up: None,
            cli_retries: None,
            pause: None,
            cut_pause: None,
            is_wait_untold: false,
            outage_since_ms: None,
            due_ms: BTreeMap::new(),
            woke_ms: None,
            liveness: Liveness::new(now),
            rates: Rates::default(),
            budgets: Budgets::default(),
            failures: BTreeMap::new(),
            waits: Vec::new(),
            asked: None,
            last_screen: String::new(),
            last_checkpoint_digest: None,
            assignments: Vec::new(),
            keeping: None,
            note: None,
            told_spend: (0, 0.0),
            stale_reports: 0,
            last_activity: String::new(),
            elapsed_before_ms: 0,
            clock_base: now,
            last_now: now,
            out: Vec::new(),
        }
    }

    /// Takes one event and says what to do about it.
    #[must_use = "the actions must be performed"]
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        let before = std::mem::replace(&mut self.last_now, now);
        self.note_sleep(now, &event);
        if !matches!(self.state, State::Finished { .. }) {
            match event {
                Event::Started => self.on_started(now),
                Event::Recovered { params, spend, bill, killed } => {
                    self.on_recovered(before, now, *params, spend, bill, killed);
                }
                Event::Prepared { refusal, warnings } => self.on_prepared(now, refusal, warnings),
                Event::TreeKept { cycle, git_ref, commit, trouble } => {
                    self.on_tree_kept(cycle, (git_ref, commit), trouble);
                }
                Event::Disks { rooms } => self.on_disks(now, &rooms),
                Event::SpendingRead { reading } => self.on_spending_read(now, reading),
                Event::Session { cycle, report } => self.on_session(now, cycle, report),
                Event::TaskRead { reading } => self.on_task_read(now, &reading),
                Event::VerifyEnded { passed, tail, survivors } => {
                    self.on_verify_survivors(survivors);
                    self.on_verify_ended(now, passed, &tail);
                }
                Event::TaskGiven { after, task, trouble } => {
                    let task = task.map(|given| *given);
                    self.on_task_given(now, after.as_deref(), task, trouble);
                }
                Event::ProgressWeighed { changed } => self.on_progress_weighed(now, changed),
                Event::Proof { changed, shortfalls, digest } => {
                    self.on_proof(changed, &shortfalls, digest);
                }
                Event::CheckpointKept { folder, trouble } => self.on_kept(now, folder, trouble),
                Event::HandoffWritten { trouble } => self.on_handoff_written(now, trouble),
                Event::Operator { command } => self.on_command(now, command),
                Event::Signal { number } => self.on_signal(now, number),
                Event::Deadline { timer, epoch } => self.on_deadline(now, timer, epoch),
            }
        }
        let out = std::mem::take(&mut self.out);
        for action in &out {
            if let Action::SetTimer { timer, after_ms, .. } = action {
                self.due_ms.insert(*timer, now.boot_ms.saturating_add(*after_ms));
            }
        }
        out
    }

    fn enter(&mut self, state: State) {
        self.epoch += 1;
        self.state = state;
    }

    fn timer(&mut self, timer: Timer, after_ms: u64) {
        self.out.push(Action::SetTimer { timer, epoch: self.epoch, after_ms });
    }

    fn tell(&mut self, notice: Notice) {
        self.out.push(Action::Tell(notice));
    }

    /// Tells a warning and keeps it for the report: what no figure or outcome of
    /// the report says by itself.
    fn warn(&mut self, text: String) {
        self.note(text.clone());
        self.tell(Notice::Warning { text });
    }

    /// Books a failure.
    fn fail(&mut self, class: Class) {
        self.failures.entry(class).or_default().count += 1;
    }

    /// Books and tells a pause after a failure, and gives its length.
    fn pause_after(&mut self, class: Class, attempt: u32) -> u64 {
        let after_ms = class.pause_ms(self.run_id, attempt);
        let booked = &mut self.failures.entry(class).or_default().paused_ms;
        *booked = booked.saturating_add(after_ms);
        self.tell_pause(class, attempt, after_ms);
        after_ms
    }

    /// The pause after a failure that longhaul waits out at present.
    fn pause_in_hand(&self) -> Option<Pause> {
        let lasts = match &self.state {
            State::Cooling { class, .. } => *class != Class::UsageLimit,
            State::Between { step: Between::Backoff { until_unix_ms } } => until_unix_ms.is_none(),
            State::Starting
            | State::Working
            | State::Checkpointing { .. }
            | State::Judging { .. }
            | State::Turnover
            | State::Held
            | State::Ending { .. }
            | State::Between { .. }
            | State::Finished { .. } => false,
        };
        self.pause.filter(|_| lasts)
    }

    /// The failure that is tried again: by longhaul after a pause, or by the CLI.
    pub(super) fn retrying(&self) -> Option<Pause> {
        let by_cli = match &self.state {
            State::Starting | State::Working | State::Checkpointing { .. } => {
                self.pause.filter(|_| self.cli_retries.is_some())
            }
            State::Cooling { .. }
            | State::Judging { .. }
            | State::Turnover
            | State::Held
            | State::Ending { .. }
            | State::Between { .. }
            | State::Finished { .. } => None,
        };
        by_cli.or_else(|| self.pause_in_hand())
    }

    fn tell_pause(&mut self, class: Class, attempt: u32, after_ms: u64) {
        self.pause = Some(Pause { class, attempt, after_ms, since: self.last_now });
        self.tell(Notice::Retrying { class, attempt, after_ms });
    }

    /// Tasks of the queue that the run had in hand, in order.
    pub fn assignments(&self) -> &[Assignment] {
        &self.assignments
    }

    fn with_live(&mut self, change: impl FnOnce(&mut CycleRecord)) {
        if let Some(live) = &mut self.live {
            change(live);
        }
    }

    /// All cycles, the live one last.
    pub fn cycles(&self) -> impl Iterator<Item = &CycleRecord> {
        self.past.iter().chain(self.live.as_ref())
    }

    /// Tokens of all kinds, of all cycles.
    pub fn tokens_total(&self) -> u64 {
        self.cycles().map(|c| c.spend.tokens.total()).fold(0, u64::saturating_add)
    }

    /// What budgets must assume of all cycles, dollars.
    fn cost_ceiling_usd(&self) -> f64 {
        self.cycles().map(CycleRecord::cost_ceiling_usd).sum()
    }

    /// Dollars of all cycles.
    pub fn cost_total_usd(&self) -> f64 {
        self.cycles().map(|c| c.cost().0).sum()
    }

    /// Where the run stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The time of the newest event.
    pub fn last_event_at(&self) -> Timestamp {
        self.last_now
    }

    /// The run's id.
    pub fn run_id(&self) -> Uuid {
        self.run_id
    }

    /// The cycle that is alive, or was the last.
    pub fn live(&self) -> Option<&CycleRecord> {
        self.live.as_ref()
    }

    /// Does this reading of the task file say anything new?
    pub fn is_news(&self, reading: &TaskReading) -> bool {
        match reading {
            TaskReading::Read { digest, .. } => self.tasks_digest.as_ref() != Some(digest),
            TaskReading::Unreadable { .. } => false,
        }
    }

    /// Is the brief of a session that is gone still to be written?
    pub fn owes_brief(&self) -> bool {
        matches!(self.state, State::Between { step: Between::Briefing })
    }

    /// Is a session alive, as far as the machine knows?
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    /// How the run ended, if it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            State::Finished { outcome } => Some(outcome),
            State::Starting
            | State::Working
            | State::Judging { .. }
            | State::Turnover
            | State::Held
            | State::Cooling { .. }
            | State::Checkpointing { .. }
            | State::Ending { .. }
            | State::Between { .. } => None,
        }
    }
}

/// The id of a cycle's session follows from run and cycle, so that a crash
/// between deciding and noting cannot lose it.
pub fn session_id(run_id: Uuid, cycle: u32) -> Uuid {
    Uuid::new_v5(&run_id, format!("cycle {cycle}").as_bytes())
}

/// Nothing more fits into the context: the session can only be replaced.
fn is_context_full(end: &TurnEnd) -> bool {
    let TurnEnd::ApiError { error, text, .. } = end else { return false };
    let words = match error.as_str() {
        "invalid_request" => "prompt is too long",
        // The reply was cut off because the window is full.
        "max_output_tokens" => "context window limit",
        _ => return false,
    };
    text.to_ascii_lowercase().contains(words)
}

fn blocked(reason: &str) -> String {
    if reason.is_empty() {
        "the task file says 'Status: blocked'".into()
    } else {
        format!("the task file says blocked: {reason}")
    }
}

/// Is `shown` (from the transcript) the text we `typed`? White space may be
/// folded on the way, and a long paste may be shown cut.
fn is_same_text(typed: &str, shown: &str) -> bool {
    const ENOUGH: usize = 160;
    let fold = |s: &str| -> String {
        s.chars().filter(|c| !c.is_whitespace() && !c.is_control()).take(ENOUGH).collect()
    };
    let (typed, shown) = (fold(typed), fold(shown));
    !typed.is_empty() && typed == shown
}
