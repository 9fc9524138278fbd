//! Each class of failure for a day: what it costs, and how it ends.

use super::*;

impl Night {
    #[track_caller]
    fn ends_with(&self, code: u8) {
        assert_eq!(self.code(), Some(code), "{:?} in {:?}", self.m.outcome(), self.m.state());
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
            Fault::Refused | Fault::OutputLimit => {
                self.ends_with(21);
                self.launched(sessions);
                assert!(t.failed <= (REFUSALS + 1) * (sessions + t.crashes), "{}", t.failed);
                let class = match self.fault {
                    Fault::Refused => Class::Refused,
                    _ => Class::OutputLimit,
                };
                self.booked(class, t.failed);
                self.paused(class);
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
                // A power cut forgets the looks since the last thing synced.
                assert!(self.missing_looks <= MISSING_LOOKS * (1 + t.crashes));
                self.booked(Class::CliMissing, MISSING_LOOKS);
            }
            Fault::Missing { looks, .. } => {
                self.goes_on();
                // As above: a power cut may forget all of them.
                if t.crashes == 0 {
                    self.booked(Class::CliMissing, looks);
                }
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
        Class::OutputLimit => Fault::OutputLimit,
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

fn night(class: Class, seed: u64) -> Night {
    let mut rng = Rng(seed.wrapping_mul(0x1000_0001) ^ class as u64);
    let mut p = policy(&mut rng);
    let fault = fault(class, &mut rng, &mut p);
    // In every other night longhaul is killed again and again.
    let crash = if seed % 2 == 1 { 5 + rng.below(40) } else { 0 };
    Night::new(rng.below(u64::MAX), fault, p, crash)
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
    tell("class: nights, launches, prompts typed, waits, crashes, ended");
    for (class, total) in totals {
        tell(&format!("{}: {total:?}", class.as_str()));
    }
}
