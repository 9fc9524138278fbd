//! Is the session alive in its turn? Bytes on the terminal are no sign of life:
//! a spinner turns on a dead stream for hours. Signs are what only a working
//! session makes. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::params::HangParams;
use crate::clock::Timestamp;

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// A turn was begun: the clock starts here.
    Prompt,
    /// The session's transcript grew.
    Transcript,
    /// A subagent's transcript grew.
    Subagent,
    /// The CLI called its statusline, with something new.
    Statusline,
    /// The CLI called a hook, with something new.
    Hook,
    /// The screen counts tokens that arrive: the answer is streaming.
    Stream,
    /// The CLI tries a request again by itself, and says so.
    Retry,
    /// Processes below the CLI compute. The CLI's own spinner does not count.
    Cpu,
}

impl Sign {
    /// The word in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Sign::Prompt => "prompt",
            Sign::Transcript => "transcript",
            Sign::Subagent => "subagent",
            Sign::Statusline => "statusline",
            Sign::Hook => "hook",
            Sign::Stream => "stream",
            Sign::Retry => "retry",
            Sign::Cpu => "cpu",
        }
    }

    /// After Esc only what the model or its tools wrote is a sign that the turn
    /// goes on: the CLI redraws its statusline for less.
    fn is_work(self) -> bool {
        match self {
            Sign::Prompt | Sign::Transcript | Sign::Subagent | Sign::Stream | Sign::Retry => true,
            Sign::Statusline | Sign::Hook | Sign::Cpu => false,
        }
    }
}

/// A look that comes so much later than it was due was slept through.
const SLEPT_MS: u64 = 60_000;
/// A turn is looked at this often, so that no longer sleep can hide in it.
const LOOK_MS: u64 = 5 * 60_000;

/// How far the answer to a hang has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HangStep {
    /// The person is told.
    Warn,
    /// Esc is pressed.
    Interrupt,
    /// The session is ended.
    End,
}

impl HangStep {
    /// The word in events.
    pub fn as_str(self) -> &'static str {
        match self {
            HangStep::Warn => "warn",
            HangStep::Interrupt => "interrupt",
            HangStep::End => "end",
        }
    }
}

/// What the clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing yet; look again after this many milliseconds.
    Later(u64),
    /// The next step is due.
    Hung {
        /// Which.
        step: HangStep,
        /// What decided: the last sign of life, or a tool call in flight.
        signal: &'static str,
        /// How long nothing moved.
        flat_ms: u64,
    },
}

/// A hang that was told and lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hang {
    /// What decided: the last sign of life, or a tool call in flight.
    pub signal: &'static str,
    /// How long nothing moved.
    pub flat_ms: u64,
    /// The step taken last.
    pub step: HangStep,
    /// The next one …
    pub next: HangStep,
    /// … and when it is due, from now.
    pub next_in_ms: u64,
}

/// The clock of one turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Liveness {
    /// The newest sign other than computing.
    moved_at: Timestamp,
    moved_by: Sign,
    /// The newest computing.
    computed_at: Option<Timestamp>,
    /// Tool calls in flight.
    tools: BTreeSet<String>,
    /// The step taken last.
    step: Option<HangStep>,
    /// When it was taken.
    stepped_at: Timestamp,
    /// When the next look is due, by the clock of the boot.
    look_due_ms: Option<u64>,
}

impl Liveness {
    /// A turn that begins at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self {
            moved_at: now,
            moved_by: Sign::Prompt,
            computed_at: None,
            tools: BTreeSet::new(),
            step: None,
            stepped_at: now,
            look_due_ms: None,
        }
    }

    /// Was Esc pressed for the hang that lasts?
    pub fn is_interrupted(&self) -> bool {
        self.step == Some(HangStep::Interrupt)
    }

    /// A sign was seen.
    pub fn sign(&mut self, now: Timestamp, sign: Sign) {
        if self.step == Some(HangStep::Interrupt) && !sign.is_work() {
            return;
        }
        if sign == Sign::Cpu {
            self.computed_at = Some(now);
            return;
        }
        self.moved_at = now;
        self.moved_by = sign;
        self.step = None;
    }

    /// A tool call begins.
    pub fn tool_begins(&mut self, id: String) {
        self.tools.insert(id);
    }

    /// A tool call came back.
    pub fn tool_ends(&mut self, id: &str) {
        self.tools.remove(id);
    }

    /// After how many milliseconds to look again.
    pub fn due_in_ms(&mut self, now: Timestamp, limits: &HangParams) -> u64 {
        let left_ms = self.next(now, limits).1.min(LOOK_MS);
        self.look_due_ms = Some(now.boot_ms.saturating_add(left_ms));
        left_ms
    }

    /// What is due at `now`; a step that is given counts as taken.
    pub fn look(&mut self, now: Timestamp, limits: &HangParams) -> Pulse {
        self.allow_for_sleep(now);
        let (step, left_ms) = self.next(now, limits);
        if left_ms > 0 {
            return Pulse::Later(self.due_in_ms(now, limits));
        }
        let (flat_ms, signal, _) = self.flat(now, limits);
        self.step = Some(step);
        self.stepped_at = now;
        Pulse::Hung { step, signal, flat_ms }
    }

    /// The hang as it stands; none once something moves again.
    pub fn hang(&self, now: Timestamp, limits: &HangParams) -> Option<Hang> {
        let step = self.step?;
        let (flat_ms, signal, at) = self.flat(now, limits);
        let (next, next_in_ms) = self.next(now, limits);
        // What computes again has not been taken for a new turn, but it moves.
        let lasts = step == HangStep::Interrupt || flat_ms >= at(step);
        lasts.then_some(Hang { signal, flat_ms, step, next, next_in_ms })
    }

    /// Nobody looked when it was due: the machine was suspended, or longhaul stopped.
    /// The session slept as well, and may have worked on until then: its clock
    /// begins anew, whatever had been done about it.
    fn allow_for_sleep(&mut self, now: Timestamp) {
        let due_ms = self.look_due_ms.take();
        if due_ms.is_some_and(|due| now.boot_ms.saturating_sub(due) > SLEPT_MS) {
            self.moved_at = now;
            self.computed_at = None;
            self.stepped_at = now;
        }
    }

    fn next(&self, now: Timestamp, limits: &HangParams) -> (HangStep, u64) {
        let (flat_ms, _, at) = self.flat(now, limits);
        let next = match self.step {
            None => HangStep::Warn,
            Some(HangStep::Warn) => HangStep::Interrupt,
            Some(HangStep::Interrupt | HangStep::End) => HangStep::End,
        };
        // More than one may be due at once (what computes is taken for a sign only
        // for so long): the mildest comes first, and between them is all their time.
        let since_step_ms = now.ms_since(self.stepped_at);
        let gap_ms = self.step.map_or(0, |step| at(next).saturating_sub(at(step)));
        (next, at(next).saturating_sub(flat_ms).max(gap_ms.saturating_sub(since_step_ms)))
    }

    /// How long nothing moved, by which signal that is decided, and after how long
    /// each step is due.
    fn flat(
        &self,
        now: Timestamp,
        limits: &HangParams,
    ) -> (u64, &'static str, impl Fn(HangStep) -> u64 + use<>) {
        let HangParams { warn_ms, interrupt_ms, end_ms, tool_ms } = *limits;
        let still_ms = now.ms_since(self.moved_at);
        let in_tool = !self.tools.is_empty();
        let at = move |step| match (step, in_tool) {
            (HangStep::Warn, false) => warn_ms,
            (HangStep::Interrupt, false) => interrupt_ms,
            (HangStep::End, false) => end_ms,
            (HangStep::Warn, true) => warn_ms.max(tool_ms / 2).min(tool_ms),
            (HangStep::Interrupt, true) => tool_ms,
            (HangStep::End, true) => tool_ms + (end_ms - interrupt_ms.min(end_ms)),
        };
        if in_tool {
            return (still_ms, "tool", at);
        }
        // Something the session left running computes for ever: alone it is a sign
        // of life only as long as a tool call may take.
        let computed = self.computed_at.filter(|_| still_ms < tool_ms.max(end_ms));
        match computed.map(|at| now.ms_since(at)).filter(|ms| *ms < still_ms) {
            Some(idle_ms) => (idle_ms, Sign::Cpu.as_str(), at),
            None => (still_ms, self.moved_by.as_str(), at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: u64 = 60_000;
    const LIMITS: HangParams = HangParams {
        warn_ms: 10 * MIN,
        interrupt_ms: 20 * MIN,
        end_ms: 30 * MIN,
        tool_ms: 60 * MIN,
    };

    fn at(ms: u64) -> Timestamp {
        Timestamp { unix_ms: 1_800_000_000_000 + ms as i64, boot_ms: 1_000 + ms }
    }

    /// The steps taken until `until_ms`, looking when told to.
    fn steps(mut clock: Liveness, signs: &[(u64, Sign)], until_ms: u64) -> Vec<(u64, HangStep)> {
        let (mut now, mut taken, mut signs) = (0, Vec::new(), signs.iter().peekable());
        loop {
            let next = match clock.look(at(now), &LIMITS) {
                Pulse::Later(ms) => now + ms,
                Pulse::Hung { step, .. } => {
                    taken.push((now / MIN, step));
                    if step == HangStep::End {
                        return taken;
                    }
                    now
                }
            };
            match signs.peek() {
                Some((when, sign)) if *when <= next => {
                    now = *when;
                    clock.sign(at(now), *sign);
                    signs.next();
                }
                _ => now = next,
            }
            if now > until_ms {
                return taken;
            }
        }
    }

    #[test]
    fn a_turn_in_which_nothing_moves_is_warned_interrupted_and_ended() {
        assert_eq!(
            steps(Liveness::new(at(0)), &[], 200 * MIN),
            [(10, HangStep::Warn), (20, HangStep::Interrupt), (30, HangStep::End)]
        );
    }

    #[test]
    fn a_stall_that_recovers_is_left_alone() {
        let stall: Vec<_> = (1..40).map(|n| (n * 405_000, Sign::Transcript)).collect();
        assert_eq!(steps(Liveness::new(at(0)), &stall, 39 * 405_000), []);
    }

    #[test]
    fn a_long_thought_whose_tokens_are_counted_is_left_alone() {
        let thought: Vec<_> = (1..50).map(|n| (n * 30_000, Sign::Stream)).collect();
        assert_eq!(steps(Liveness::new(at(0)), &thought, 25 * MIN), []);
    }

    #[test]
    fn a_silent_build_is_a_tool_call_with_a_limit_of_its_own() {
        let mut clock = Liveness::new(at(0));
        clock.tool_begins("build".into());
        assert_eq!(steps(clock.clone(), &[], 29 * MIN), []);
        assert_eq!(
            steps(clock, &[], 200 * MIN),
            [(30, HangStep::Warn), (60, HangStep::Interrupt), (70, HangStep::End)]
        );
    }

    #[test]
    fn a_tool_call_that_computes_for_ever_is_interrupted_all_the_same() {
        let mut clock = Liveness::new(at(0));
        clock.tool_begins("spin".into());
        let busy: Vec<_> = (1..2_000).map(|n| (n * 5_000, Sign::Cpu)).collect();
        let taken = steps(clock, &busy, 200 * MIN);
        assert!(taken.contains(&(60, HangStep::Interrupt)), "{taken:?}");
    }

    #[test]
    fn what_was_left_running_keeps_a_dead_turn_alive_only_for_so_long() {
        let busy: Vec<_> = (1..4_000).map(|n| (n * 5_000, Sign::Cpu)).collect();
        let taken = steps(Liveness::new(at(0)), &busy, 300 * MIN);
        assert_eq!(taken.first(), Some(&(60, HangStep::Warn)), "{taken:?}");
        assert_eq!(taken.last().map(|(_, step)| *step), Some(HangStep::End));
    }

    #[test]
    fn after_esc_only_work_is_a_sign_of_life() {
        let mut clock = Liveness::new(at(0));
        clock.look(at(10 * MIN), &LIMITS);
        clock.look(at(20 * MIN), &LIMITS);
        clock.sign(at(21 * MIN), Sign::Statusline);
        clock.sign(at(21 * MIN), Sign::Cpu);
        assert!(matches!(
            clock.look(at(30 * MIN), &LIMITS),
            Pulse::Hung { step: HangStep::End, signal: "prompt", flat_ms: 1_800_000 }
        ));
        let mut clock = Liveness::new(at(0));
        clock.look(at(10 * MIN), &LIMITS);
        clock.look(at(20 * MIN), &LIMITS);
        clock.sign(at(21 * MIN), Sign::Subagent);
        assert_eq!(clock.look(at(22 * MIN), &LIMITS), Pulse::Later(LOOK_MS));
        assert_eq!(clock.look(at(27 * MIN), &LIMITS), Pulse::Later(4 * MIN));
    }

    #[test]
    fn a_machine_that_slept_gives_the_session_all_its_time_again() {
        // Before any step, and after each of them.
        for (quiet, step) in [
            (5, HangStep::Warn),
            (10, HangStep::Interrupt),
            (15, HangStep::Interrupt),
            (20, HangStep::End),
        ] {
            let mut clock = Liveness::new(at(0));
            let mut now = 0;
            while now <= quiet * MIN {
                now += match clock.look(at(now), &LIMITS) {
                    Pulse::Later(ms) => ms,
                    Pulse::Hung { .. } => clock.due_in_ms(at(now), &LIMITS),
                };
            }
            let woke = now + 8 * 60 * MIN;
            let due = match step {
                HangStep::Warn => 10,
                HangStep::Interrupt => 20,
                HangStep::End => 30,
            };
            let mut now = woke;
            let seen = loop {
                match clock.look(at(now), &LIMITS) {
                    Pulse::Later(ms) => now += ms,
                    Pulse::Hung { step, .. } => break step,
                }
            };
            assert_eq!((now - woke, seen), (due * MIN, step), "asleep after {quiet} min");
        }
    }

    #[test]
    fn a_nap_too_short_to_be_seen_is_shorter_than_the_time_between_two_looks() {
        let mut clock = Liveness::new(at(0));
        assert!(matches!(clock.look(at(0), &LIMITS), Pulse::Later(LOOK_MS)));
        let woke = LOOK_MS + SLEPT_MS + 1;
        assert_eq!(clock.look(at(woke), &LIMITS), Pulse::Later(LOOK_MS));
        assert_eq!(clock.look(at(woke + LOOK_MS), &LIMITS), Pulse::Later(LOOK_MS));
        let warned = clock.look(at(woke + 10 * MIN), &LIMITS);
        assert!(matches!(warned, Pulse::Hung { step: HangStep::Warn, flat_ms: 600_000, .. }));
    }
}
