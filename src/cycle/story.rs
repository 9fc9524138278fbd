//! For tests: `Story` leads a machine through events in the driver's place, and
//! `places` brings one into every state there is.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::action::{Action, Notice, Timer};
use super::assignment::Given;
use super::budget::{Money, Reading};
use super::event::{
    Command, DiskRoom, Event, Exit, QuestionKind, Quota, Refusal, SessionReport, TaskReading,
    TaskSays, TurnEnd, UsageLimit,
};
use super::failure::Class;
use super::liveness::{HangStep, Sign};
use super::machine::Machine;
use super::params::Params;
use super::record::{Bill, CostSource, Spend};
use super::state::{AskPhase, Between, EndReason, Outcome, State};
use crate::clock::Timestamp;

/// A machine and what it wants.
#[derive(Clone)]
pub(super) struct Story {
    pub(super) m: Machine,
    now: Timestamp,
    /// One deadline per timer, as the driver keeps them.
    timers: BTreeMap<Timer, (u64, u64)>,
    /// Answer to the last event.
    pub(super) last: Vec<Action>,
    /// Everything so far.
    pub(super) all: Vec<Action>,
    pub(super) boxes: (u32, u32),
    /// Whether the look before a launch finds nothing, at once.
    finds_nothing: bool,
    /// What a turn that failed is judged by when its pause is over: some work was
    /// done before it. Work is left in any case.
    pub(super) works: bool,
}

/// A run that has been started, and reads the task file.
pub(super) fn story() -> Story {
    story_with(|_| {})
}

pub(super) fn story_with(change: impl FnOnce(&mut Params)) -> Story {
    let mut params = super::sim::params();
    change(&mut params);
    let now = Timestamp { unix_ms: 1_800_000_000_000, boot_ms: 50_000 };
    let mut story = Story {
        m: Machine::new(Uuid::from_u128(7), params, now),
        now,
        timers: BTreeMap::new(),
        last: Vec::new(),
        all: Vec::new(),
        boxes: (0, 4),
        finds_nothing: true,
        works: false,
    };
    story.event(Event::Started);
    story
}

/// A session that works, at 10 % of its window.
pub(super) fn working() -> Story {
    working_with(|_| {})
}

pub(super) fn working_with(change: impl FnOnce(&mut Params)) -> Story {
    let mut story = story_with(change);
    story.launches().replies(20_000);
    story
}

/// The same, with a verify command.
pub(super) fn verified() -> Story {
    working_with(|p| p.verify = true)
}

/// A run of the queue, whose first task is in hand and whose session works on it.
pub(super) fn queued() -> Story {
    let mut story = story_with(|p| p.queue = true);
    story.is_given(None, Some("t1")).reads_open().weighs(true);
    story.report(SessionReport::Spawned { pid: 4711 }).replies(20_000);
    story
}

/// A session that has heard the request for a checkpoint.
pub(super) fn asked() -> Story {
    working().and(|s| s.is_full().arrives(false))
}

/// What earlier runs did for a task of the queue.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Before {
    pub(super) spent_usd: f64,
    pub(super) unpriced_usd: f64,
    pub(super) told_percent: u16,
}

// The given and when.
impl Story {
    pub(super) fn and(mut self, lead: impl for<'a> FnOnce(&'a mut Self) -> &'a mut Self) -> Self {
        lead(&mut self);
        self
    }

    pub(super) fn event(&mut self, event: Event) -> &mut Self {
        self.now = self.now.plus_ms(10);
        self.last = self.m.step(self.now, event);
        for action in &self.last {
            if let Action::SetTimer { timer, epoch, after_ms } = action {
                let at = self.now.boot_ms + after_ms;
                self.timers.insert(*timer, (at, *epoch));
            }
        }
        self.all.extend(self.last.iter().cloned());
        if self.finds_nothing && self.last.contains(&Action::Prepare) {
            let before = std::mem::take(&mut self.last);
            self.prepared(None);
            self.last.splice(0..0, before);
        }
        self
    }

    /// The queue answers.
    pub(super) fn is_given(&mut self, after: Option<&str>, id: Option<&str>) -> &mut Self {
        self.is_given_with(after, id, Before::default())
    }

    /// The same, of a task that earlier runs spent on.
    pub(super) fn is_given_with(
        &mut self,
        after: Option<&str>,
        id: Option<&str>,
        before: Before,
    ) -> &mut Self {
        let task = id.map(|id| {
            Box::new(Given {
                task_id: id.into(),
                attempt: 1,
                batch_id: Some("b".into()),
                batch_position: None,
                title: format!("title of {id}"),
                prompt: format!("do {id}"),
                continue_prompt: format!("go on with {id}"),
                verify: None,
                budget_usd: None,
                spent_usd: before.spent_usd,
                unpriced_usd: before.unpriced_usd,
                told_percent: before.told_percent,
            })
        });
        self.event(Event::TaskGiven { after: after.map(str::to_owned), task, trouble: None })
    }

    /// All sessions of the machine have spent that, in dollars; the day ends after a day.
    pub(super) fn reads_spending(&mut self, day: &str, day_usd: f64, month_usd: f64) -> &mut Self {
        let money = |usd| Money { usd, unpriced_usd: 0.0 };
        let reading = Reading {
            day: day.to_owned(),
            day_ends_unix_ms: self.now.unix_ms + 86_400_000,
            month_ends_unix_ms: self.now.unix_ms + 20 * 86_400_000,
            day_spent: money(day_usd),
            month_spent: money(month_usd),
        };
        self.event(Event::SpendingRead { reading: Some(reading) })
    }

    /// The look before a launch is over.
    pub(super) fn prepared(&mut self, refusal: Option<Refusal>) -> &mut Self {
        self.event(Event::Prepared { refusal, warnings: Vec::new() })
    }

    /// From now on the look before a launch is answered by the test.
    pub(super) fn looks(&mut self) -> &mut Self {
        self.finds_nothing = false;
        self
    }

    pub(super) fn report(&mut self, report: SessionReport) -> &mut Self {
        let cycle = self.m.live().map_or(0, |c| c.cycle);
        self.event(Event::Session { cycle, report })
    }

    pub(super) fn passes(&mut self, ms: u64) -> &mut Self {
        self.now = self.now.plus_ms(ms);
        self
    }

    /// The deadline passes.
    pub(super) fn deadline(&mut self, timer: Timer) -> &mut Self {
        let (at, epoch) = self.timers.remove(&timer).expect("that timer was set");
        // Looks at the turn, and deadlines that are void, come before, as in a live run.
        while let Some((t, (before, epoch))) = self.passed_over(timer, at) {
            self.timers.remove(&t);
            self.passes(before.saturating_sub(self.now.boot_ms));
            self.event(Event::Deadline { timer: t, epoch });
        }
        self.passes(at.saturating_sub(self.now.boot_ms));
        self.event(Event::Deadline { timer, epoch });
        if timer == Timer::Cool && self.is("judging") {
            let before = std::mem::take(&mut self.last);
            let works = self.works;
            self.reads_open().weighs(works);
            self.last.splice(0..0, before);
        }
        self
    }

    /// The deadline passes, and nothing is answered to what it asks.
    pub(super) fn event_of(&mut self, timer: Timer) -> &mut Self {
        let (at, epoch) = self.timers.remove(&timer).expect("that timer was set");
        self.passes(at.saturating_sub(self.now.boot_ms));
        self.event(Event::Deadline { timer, epoch })
    }

    fn passed_over(&self, timer: Timer, at: u64) -> Option<(Timer, (u64, u64))> {
        let is_void = |t: Timer, epoch: u64| match t {
            Timer::Hang => timer != Timer::Run,
            Timer::Run => false,
            _ => epoch != self.m.epoch,
        };
        let set = self.timers.iter().map(|(t, set)| (*t, *set));
        set.filter(|(t, (due, epoch))| *t != timer && *due < at && is_void(*t, *epoch))
            .min_by_key(|(_, (due, _))| *due)
    }

    /// Reads the task file between sessions, and launches.
    pub(super) fn launches(&mut self) -> &mut Self {
        let cycle = self.m.past.len() as u32 + u32::from(self.m.live().is_some()) + 1;
        self.reads_open().weighs(true);
        if self.is("between") {
            self.deadline(Timer::Backoff);
        }
        assert!(self.is("starting"), "{:?}", self.m.state());
        self.report(SessionReport::Spawned { pid: 100 + cycle });
        self.report(SessionReport::Ready { model: Some("m".into()) })
    }

    pub(super) fn replies(&mut self, tokens: u64) -> &mut Self {
        self.report(SessionReport::Context {
            tokens,
            model: "m".into(),
            table_window: Some(200_000),
        })
    }

    pub(super) fn turn_ends(&mut self) -> &mut Self {
        self.report(SessionReport::TurnEnded { end: TurnEnd::Completed })
    }

    pub(super) fn turn_fails(&mut self, error: &str, status: u16, text: &str) -> &mut Self {
        self.report(SessionReport::TurnEnded {
            end: TurnEnd::ApiError {
                error: error.into(),
                status: Some(status),
                text: text.into(),
                limit: None,
            },
        })
    }

    /// The transcript adds up to so many dollars.
    pub(super) fn costs(&mut self, cost_usd: f64) -> &mut Self {
        let spend = Spend { cost_usd, responses: 1, ..Spend::default() };
        self.report(SessionReport::Spent { spend })
    }

    /// The CLI's closing bill.
    pub(super) fn bills(&mut self, cost_usd: f64) -> &mut Self {
        let bill = Bill { cost_usd, source: CostSource::CostState };
        self.report(SessionReport::Billed { bill })
    }

    /// The context passes the threshold.
    pub(super) fn is_full(&mut self) -> &mut Self {
        self.replies(150_000)
    }

    /// The turn ends with work left, and nothing was done.
    pub(super) fn is_nudged(&mut self) -> &mut Self {
        self.turn_ends().reads_open().weighs(false)
    }

    pub(super) fn reads(&mut self, says: TaskSays) -> &mut Self {
        let (ticked, total) = self.boxes;
        self.event(Event::TaskRead {
            reading: TaskReading::Read {
                digest: format!("{ticked}/{total} {says:?}"),
                says,
                ticked,
                total,
            },
        })
    }

    pub(super) fn reads_open(&mut self) -> &mut Self {
        self.reads(TaskSays::Open)
    }

    pub(super) fn reads_done(&mut self) -> &mut Self {
        self.reads(TaskSays::Done)
    }

    pub(super) fn cannot_read(&mut self) -> &mut Self {
        self.event(Event::TaskRead {
            reading: TaskReading::Unreadable { problem: "it is a directory".into() },
        })
    }

    /// The task file is read twice, and says done both times.
    pub(super) fn reads_done_twice(&mut self) -> &mut Self {
        self.reads_done().deadline(Timer::Reread).reads_done()
    }

    pub(super) fn weighs(&mut self, changed: bool) -> &mut Self {
        self.event(Event::ProgressWeighed { changed })
    }

    pub(super) fn verify_ends(&mut self, passed: bool) -> &mut Self {
        let tail = if passed { "" } else { "1 test failed" };
        self.event(Event::VerifyEnded { passed, tail: tail.into(), survivors: 0 })
    }

    /// The newest text that was typed shows in the transcript.
    pub(super) fn arrives(&mut self, queued: bool) -> &mut Self {
        let text = self.typed().to_owned();
        self.report(SessionReport::PromptArrived { text, queued })
    }

    pub(super) fn proves(&mut self, shortfalls: &[&str]) -> &mut Self {
        self.event(Event::Proof {
            changed: vec!["dev-docs/tasks.md".into()],
            shortfalls: shortfalls.iter().map(|s| (*s).to_owned()).collect(),
            digest: format!("docs of {}", self.m.past.len()),
        })
    }

    pub(super) fn kept(&mut self) -> &mut Self {
        self.event(Event::CheckpointKept { folder: "checkpoints/1".into(), trouble: None })
    }

    pub(super) fn brief_written(&mut self) -> &mut Self {
        self.event(Event::HandoffWritten { trouble: None })
    }

    /// A checkpoint that goes well, from the request to the copy.
    pub(super) fn checkpoints(&mut self) -> &mut Self {
        self.arrives(false).turn_ends().proves(&[]).kept()
    }

    pub(super) fn exits(&mut self) -> &mut Self {
        self.exits_with("")
    }

    pub(super) fn exits_with(&mut self, screen: &str) -> &mut Self {
        self.report(SessionReport::Exited {
            exit: Exit::Code(143),
            killed: 0,
            survivors: 0,
            screen: screen.into(),
            out_of_memory: None,
        })
    }

    pub(super) fn person(&mut self, command: Command) -> &mut Self {
        self.event(Event::Operator { command })
    }

    pub(super) fn signal(&mut self, number: i32) -> &mut Self {
        self.event(Event::Signal { number })
    }

    pub(super) fn asks_person(&mut self) -> &mut Self {
        self.asks(QuestionKind::Known, "do you accept?")
    }

    pub(super) fn asks(&mut self, kind: QuestionKind, what: &str) -> &mut Self {
        let screen = format!("the screen asks: {what}");
        self.report(SessionReport::AsksPerson { kind, what: what.into(), screen })
    }

    /// The turn fails at a usage limit that is reset after that time.
    pub(super) fn is_limited(&mut self, resets_in_ms: i64) -> &mut Self {
        let resets_unix_ms = Some(self.now.unix_ms + resets_in_ms);
        self.report(SessionReport::TurnEnded {
            end: TurnEnd::ApiError {
                error: "rate_limit".into(),
                status: Some(429),
                text: "You've hit your limit".into(),
                limit: Some(UsageLimit {
                    which: "five_hour".into(),
                    resets_unix_ms,
                    continues: false,
                }),
            },
        })
    }

    /// The CLI (its screen) tells of a limit that is reset after that time.
    pub(super) fn tells_limit(&mut self, resets_in_ms: i64) -> &mut Self {
        let resets_unix_ms = Some(self.now.unix_ms + resets_in_ms);
        let limit = UsageLimit { which: "five_hour".into(), resets_unix_ms, continues: false };
        self.report(SessionReport::Limited { limit })
    }

    /// The turn fails at a usage limit of which no time is known.
    pub(super) fn is_limited_for_unknown_time(&mut self) -> &mut Self {
        let limit =
            UsageLimit { which: "usage_limit".into(), resets_unix_ms: None, continues: false };
        self.report(SessionReport::TurnEnded {
            end: TurnEnd::ApiError {
                error: "rate_limit".into(),
                status: Some(429),
                text: "limit reached".into(),
                limit: Some(limit),
            },
        })
    }

    /// The statusline tells how much of the five hours is used.
    pub(super) fn has_used(&mut self, used_percent: f64, resets_in_ms: i64) -> &mut Self {
        let resets_unix_ms = Some(self.now.unix_ms + resets_in_ms);
        let five_hour = Some(Quota { used_percent, resets_unix_ms });
        self.report(SessionReport::QuotaUsed { five_hour, seven_day: None })
    }

    /// The CLI tries a failed request again by itself.
    pub(super) fn tries_again(&mut self, class: Class, attempt: u32) -> &mut Self {
        self.report(SessionReport::Retrying { class, attempt, after_ms: 1_000 })
    }

    /// The API is overloaded.
    pub(super) fn overloads(&mut self) -> &mut Self {
        self.turn_fails("server_error", 529, "overloaded")
    }

    pub(super) fn interrupted(&mut self) -> &mut Self {
        self.report(SessionReport::TurnEnded { end: TurnEnd::Interrupted })
    }

    pub(super) fn shows(&mut self, sign: Sign) -> &mut Self {
        self.report(SessionReport::Alive { sign })
    }

    pub(super) fn calls(&mut self, id: &str) -> &mut Self {
        self.shows(Sign::Transcript)
            .report(SessionReport::Tool { id: id.into(), summary: "Bash".into() })
    }

    pub(super) fn takes(&mut self, memory_mb: u64, subagents: u32, scratch_mb: u64) -> &mut Self {
        self.report(SessionReport::Vitals { memory_mb, subagents, scratch_mb, written_mb: 0 })
    }

    pub(super) fn has_written(&mut self, written_mb: u64) -> &mut Self {
        let (memory_mb, subagents, scratch_mb) = (1, 0, 0);
        self.report(SessionReport::Vitals { memory_mb, subagents, scratch_mb, written_mb })
    }

    pub(super) fn has_free(&mut self, free_mb: u64) -> &mut Self {
        let room = DiskRoom { free_mb, size_mb: 500_000, place: "/state".into() };
        self.event(Event::Disks { rooms: vec![room] })
    }

    /// Somebody sets the wall clock.
    pub(super) fn clock_is_moved(&mut self, by_ms: i64) -> &mut Self {
        self.now.unix_ms += by_ms;
        self
    }

    /// One deadline after the other for that long.
    pub(super) fn sits_for(&mut self, ms: u64) -> &mut Self {
        let end = self.now.boot_ms + ms;
        while let Some((at, timer)) = self.timers.iter().map(|(t, (at, _))| (*at, *t)).min() {
            if at > end || self.is("finished") {
                break;
            }
            self.deadline(timer);
        }
        self.passes(end.saturating_sub(self.now.boot_ms))
    }

    /// One deadline after the other, until that state is reached.
    pub(super) fn waits_for(&mut self, state: &str) -> &mut Self {
        for _ in 0..10_000 {
            if self.is(state) {
                return self;
            }
            let timer = self.next_timer();
            self.deadline(timer);
        }
        panic!("never {state}: {:?}", self.m.state());
    }

    /// longhaul was killed, and comes again.
    pub(super) fn recovers(&mut self) -> &mut Self {
        self.recovers_with(|_| {}, None)
    }

    pub(super) fn recovers_with(
        &mut self,
        change: impl FnOnce(&mut Params),
        spend: Option<Spend>,
    ) -> &mut Self {
        let mut params = self.m.params.clone();
        change(&mut params);
        self.timers.clear();
        self.event(Event::Recovered { params: Box::new(params), spend, bill: None, killed: 1 })
    }

    /// Is that timer set, by the state the machine stands in?
    pub(super) fn is_set(&self, timer: Timer) -> bool {
        let set = self.timers.get(&timer);
        set.is_some_and(|(_, epoch)| {
            *epoch == self.m.epoch || matches!(timer, Timer::Run | Timer::Hang)
        })
    }

    /// The timer that is next.
    pub(super) fn next_timer(&self) -> Timer {
        let next = self.timers.iter().map(|(t, (at, _))| (*at, *t)).min();
        next.expect("a timer is set").1
    }

    /// Nobody says anything any more, but for the driver's word on a verify
    /// command (which it ends itself): only deadlines pass.
    pub(super) fn silence(&mut self) -> &mut Self {
        for _ in 0..10_000 {
            if self.is("finished") {
                return self;
            }
            let next = self.timers.iter().map(|(t, (at, _))| (*at, *t)).min();
            match next {
                Some((_, timer)) => self.deadline(timer),
                None => self.verify_ends(false),
            };
        }
        panic!("for ever in {:?}", self.m.state());
    }
}

// The then.
impl Story {
    pub(super) fn is(&self, state: &str) -> bool {
        self.m.state().name() == state
    }

    #[track_caller]
    pub(super) fn stands_in(&mut self, state: &str) -> &mut Self {
        assert_eq!(self.m.state().name(), state, "{:?}", self.m.state());
        self
    }

    pub(super) fn phase(&self) -> Option<AskPhase> {
        match self.m.state() {
            State::Checkpointing { ask } => Some(ask.phase),
            _ => None,
        }
    }

    pub(super) fn between(&self) -> Option<&Between> {
        match self.m.state() {
            State::Between { step } => Some(step),
            _ => None,
        }
    }

    /// The newest text typed.
    pub(super) fn typed(&self) -> &str {
        let text = self.all.iter().rev().find_map(|a| match a {
            Action::Type { text } => Some(text.as_str()),
            _ => None,
        });
        text.expect("something was typed")
    }

    pub(super) fn did(&self, wanted: &Action) -> bool {
        self.last.contains(wanted)
    }

    pub(super) fn told(&self, wanted: impl Fn(&Notice) -> bool) -> bool {
        let is_it = |a: &Action| matches!(a, Action::Tell(n) if wanted(n));
        self.last.iter().any(is_it)
    }

    pub(super) fn count(&self, wanted: impl Fn(&Action) -> bool) -> usize {
        self.all.iter().filter(|a| wanted(a)).count()
    }

    /// How often something was told.
    pub(super) fn times_told(&self, wanted: impl Fn(&Notice) -> bool) -> usize {
        self.count(|a| matches!(a, Action::Tell(n) if wanted(n)))
    }

    /// The steps that were taken against hangs.
    pub(super) fn hang_steps(&self) -> Vec<HangStep> {
        let step = |a: &Action| match a {
            Action::Tell(Notice::Hang { step, .. }) => Some(*step),
            _ => None,
        };
        self.all.iter().filter_map(step).collect()
    }

    /// Texts typed into sessions.
    pub(super) fn prompts(&self) -> usize {
        self.count(|a| matches!(a, Action::Type { .. }))
    }

    /// How long the last event set that timer for; the later setting counts.
    pub(super) fn set_for(&self, timer: Timer) -> Option<u64> {
        self.last.iter().rev().find_map(|a| match a {
            Action::SetTimer { timer: t, after_ms, .. } if *t == timer => Some(*after_ms),
            _ => None,
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn failures(&self, class: Class) -> u32 {
        self.m.failures.get(&class).map_or(0, |f| f.count)
    }

    pub(super) fn launched(&self) -> usize {
        self.count(|a| matches!(a, Action::Launch { .. }))
    }

    pub(super) fn prompt(&self) -> &str {
        let prompt = self.last.iter().find_map(|a| match a {
            Action::Launch { prompt, .. } => Some(prompt.as_str()),
            _ => None,
        });
        prompt.expect("the last event launched")
    }

    pub(super) fn reason(&self) -> Option<EndReason> {
        self.m.cycles().last().and_then(|c| c.end_reason)
    }

    #[track_caller]
    pub(super) fn ends_with(&self, outcome: &Outcome, code: u8) {
        assert_eq!(self.m.outcome(), Some(outcome), "{:?}", self.m.state());
        assert_eq!(outcome.exit_code(), code);
        let told = Action::Tell(Notice::RunFinished { outcome: outcome.clone() });
        assert_eq!(self.all.iter().filter(|a| **a == told).count(), 1);
    }

    #[track_caller]
    pub(super) fn needs_person(&self, because: &str) {
        match self.m.outcome() {
            Some(outcome @ Outcome::NeedsPerson { why }) => {
                assert!(why.contains(because), "{why}");
                assert_eq!(outcome.exit_code(), 10);
            }
            other => panic!("{other:?} in {:?}", self.m.state()),
        }
    }
}

/// A machine in each state, and in each part of it that answers differently.
pub(super) fn places() -> Vec<(&'static str, Story)> {
    vec![
        ("starting", story().and(|s| s.launches())),
        ("working", working()),
        ("working, told to go on", working().and(|s| s.is_nudged())),
        ("working, never replied", story().and(|s| s.launches().is_nudged().arrives(false))),
        ("judging, reading", working().and(|s| s.turn_ends())),
        ("judging, read once", working().and(|s| s.turn_ends().reads_done())),
        ("judging, verifying", verified().and(|s| s.turn_ends().reads_done_twice())),
        ("judging, weighing", working().and(|s| s.turn_ends().reads_open())),
        ("turnover", queued().and(|s| s.turn_ends().reads_done_twice())),
        ("held", working().and(|s| s.person(Command::Pause).turn_ends().reads_open().weighs(true))),
        ("cooling", working().and(|s| s.turn_fails("server_error", 529, "overloaded"))),
        ("cooling, until a limit is reset", working().and(|s| s.is_limited(3_600_000))),
        ("checkpointing, typed", working().and(|s| s.is_full())),
        ("checkpointing, queued", working().and(|s| s.is_full().arrives(true))),
        ("checkpointing, heard", asked()),
        ("checkpointing, interrupting", asked().and(|s| s.deadline(Timer::Checkpoint))),
        ("checkpointing, proving", asked().and(|s| s.turn_ends())),
        ("checkpointing, keeping", asked().and(|s| s.turn_ends().proves(&[]))),
        (
            "checkpointing, second request heard",
            asked().and(|s| s.turn_ends().proves(&["nothing changed"]).arrives(false)),
        ),
        ("checkpointing, run is stopping", working().and(|s| s.signal(15).arrives(false))),
        ("ending", working().and(|s| s.is_full().checkpoints())),
        ("ending, killed", working().and(|s| s.is_full().checkpoints().deadline(Timer::Exit))),
        ("ending, task done", working().and(|s| s.turn_ends().reads_done_twice())),
        ("between, keeping", asked().and(|s| s.turn_ends().proves(&[]).exits())),
        ("between, briefing", working().and(|s| s.exits())),
        ("between, reading", working().and(|s| s.exits().brief_written())),
        ("between, verifying", verified().and(|s| s.exits().brief_written().reads_done_twice())),
        ("between, weighing", working().and(|s| s.exits().brief_written().reads_open())),
        ("between, turnover", queued().and(|s| s.exits().brief_written().reads_done_twice())),
        (
            "between, backoff",
            working().and(|s| s.exits().brief_written().reads_open().weighs(true)),
        ),
        (
            "between, until a limit is reset",
            working()
                .and(|s| s.is_limited(3_600_000).exits().brief_written().reads_open().weighs(true)),
        ),
        (
            "between, preparing",
            working().and(|s| s.looks().is_full().checkpoints().exits().reads_open().weighs(true)),
        ),
        (
            "between, held",
            working().and(|s| {
                s.person(Command::Pause).exits().brief_written();
                s.reads_open().weighs(true)
            }),
        ),
        ("finished", story().and(|s| s.reads_done_twice())),
    ]
}
