//! Turns that hang, and turns that are quiet and well.

use super::*;

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
    let mut handled = 0;
    for seed in seeds(each) {
        for kind in Hang::ALL {
            let mut night = hung_night(kind, seed);
            failed.run("every_hang", seed, &mut night, |night| night.meets_one_hang(kind));
            handled += night.tally.handled_ms.len();
        }
    }
    failed.is_empty();
    tell(&format!("hangs: {handled} handled within their bounds"));
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
        while self.age_ms() < 16 * HOUR || asleep.is_some() {
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
        let mut p = crate::cycle::sim::params();
        p.max_ms = 10 * NIGHT;
        let mut night = Night::new(rng.below(u64::MAX), Fault::Updated, p, 0);
        failed.run("a_turn_that_is_quiet", seed, &mut night, |night| {
            pieces += night.is_quiet_and_well();
        });
    }
    failed.is_empty();
    assert!(pieces >= 8, "{pieces}");
    tell(&format!("quiet: {nights} nights, {pieces} quiet pieces, 0 touched"));
}
