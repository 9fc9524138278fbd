//! The one loop: everything that happens outside becomes an event, the machine
//! decides, and what it decides is performed.
//!
//! ```text
//! select! -> Input -> events -> journal -> Machine::step -> actions -> perform
//! ```
//!
//! There is one `select!`, in `next_input`. Nothing in this folder decides:
//! `translate` turns reports into events, `perform` turns actions into deeds.

mod hints;
mod jobs;
mod live;
mod looks;
mod perform;
mod prepare;
mod senses;
mod spending;
mod tally;
mod timers;
mod translate;
mod watchdog;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::mpsc;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::control::{Asked, Request};
use crate::cycle::assignment::Assignment;
use crate::cycle::event::DiskRoom;
use crate::cycle::{Command, Event, Machine, Outcome, Snapshot, Timer};
use crate::error::Result;
use crate::journal::Journal;
use crate::notify::occasions::{self, BudgetMarks};
use crate::notify::{Notifier, RunFacts, Tally};
use crate::queue::chain::Chain;
use crate::reset_time;
use crate::runs::RunFolder;
use crate::session::secrets::Secrets;
use crate::session::sink::{SinkReport, SinkSocket};
use crate::session::wire::KeeperEvent;
use crate::session::{Keeper, sweep};
use crate::show::Teller;
use crate::track::Feeder;

use hints::Hints;
use jobs::Done;
use live::LiveSession;
pub use live::Lost;
pub use prepare::Guard;
use timers::Timers;

/// The file system is asked at least this often; inotify is only a hint.
const POLL_MS: u64 = 1_500;
/// The same until the session's transcript is there, and its folder can be watched.
const EARLY_POLL_MS: u64 = 100;
/// The same while a change of the project's settings is suspected.
const SUSPECT_MS: u64 = 200;
/// Reports taken in a second; the CLI makes a few. Whoever sends more, and any
/// process of the session can, waits: neither the journal nor the loop is theirs.
const REPORTS_PER_SECOND: u32 = 100;
/// How long notifications may take when the run is over.
const NOTIFY_LAST: Duration = Duration::from_secs(10);
/// How long the keeper may take when longhaul itself must give up.
const GIVE_UP: Duration = Duration::from_secs(15);

/// What one run needs of the outside, settled before it begins.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The configuration; `claude.args` already holds those after `--`.
    pub config: Config,
    /// The project's real path.
    pub project: PathBuf,
    /// The CLI's program file.
    pub program: PathBuf,
    /// The CLI's config directory.
    pub claude_dir: PathBuf,
    /// A folder for the sink's socket and the run's temporary files.
    pub scratch: PathBuf,
    /// This run's folder in the state directory.
    pub run: RunFolder,
    /// The queue, if the run works off its tasks.
    pub chain: Option<Arc<Chain>>,
}

impl Setup {
    /// The state directory of all projects.
    fn state_root(&self) -> Option<&Path> {
        // <root>/projects/<project>/runs/<run>
        self.run.path().ancestors().nth(4)
    }

    /// The time zone in which the CLI tells times.
    fn zone(&self) -> TimeZone {
        let own = self.config.claude.env.get("TZ").and_then(|name| reset_time::zone(name));
        own.unwrap_or_else(TimeZone::system)
    }

    /// What the session could show and nobody is to read: the secrets of longhaul's
    /// environment and of the one that is configured for the CLI.
    pub fn secrets(&self) -> Secrets {
        let configured = self.config.claude.env.iter();
        let configured = configured.map(|(name, value)| (name.into(), value.into()));
        Secrets::among(std::env::vars_os().chain(configured))
    }
}

/// One run in progress.
pub struct Driver {
    setup: Setup,
    machine: Machine,
    journal: Journal,
    timers: Timers,
    session: Option<LiveSession>,
    sink: SinkSocket,
    control: mpsc::Receiver<Asked>,
    signals: mpsc::UnboundedReceiver<i32>,
    jobs: jobs::Jobs,
    hints: Hints,
    guard: Guard,
    secrets: Secrets,
    looks: looks::Looks,
    notifier: Notifier,
    /// The way to the usage tracker.
    feeder: Option<Feeder>,
    marks: BudgetMarks,
    spending: spending::Spending,
    teller: Box<dyn Teller>,
    /// Events that one input led to, in order.
    queue: VecDeque<Event>,
    last_poll_ms: u64,
    last_look_ms: u64,
    disks_at_ms: u64,
    /// When memory was given back last.
    released_at_ms: u64,
    /// Free room as told last, in grains and exactly.
    free_told: Vec<u64>,
    rooms_told: Vec<DiskRoom>,
    /// The second that is being counted in, and how many reports came in it.
    reports: (u64, u32),
    last_tick_ms: u64,
    /// What became of tasks and is not in the store yet, with their last words.
    unsettled: Vec<(Assignment, String)>,
}

/// One thing that came in.
enum Input {
    Signal(i32),
    Asked(Asked),
    Keeper(KeeperEvent),
    Sink(Box<SinkReport>),
    Done(Done),
    /// Something changed on disk, or it is time to look.
    Look,
}

impl Driver {
    /// A driver for `machine`; needs a tokio runtime.
    pub fn new(
        setup: Setup,
        guard: Guard,
        machine: Machine,
        journal: Journal,
        control: mpsc::Receiver<Asked>,
        signals: mpsc::UnboundedReceiver<i32>,
        teller: Box<dyn Teller>,
    ) -> Result<Self> {
        let sink = SinkSocket::bind(&setup.scratch)?;
        let facts = RunFacts { run_id: machine.run_id(), project: setup.project.clone() };
        Ok(Self {
            notifier: Notifier::start(&setup.config.notify, facts),
            feeder: tally::feeder(&setup, machine.run_id().to_string()),
            marks: BudgetMarks::default(),
            spending: spending::Spending::default(),
            guard,
            secrets: setup.secrets(),
            looks: looks::Looks::default(),
            disks_at_ms: 0,
            released_at_ms: 0,
            free_told: Vec::new(),
            rooms_told: Vec::new(),
            hints: Hints::new(&setup.project, &setup.config),
            setup,
            machine,
            journal,
            timers: Timers::default(),
            session: None,
            sink,
            control,
            signals,
            jobs: jobs::Jobs::new(),
            teller,
            queue: VecDeque::new(),
            last_poll_ms: 0,
            last_look_ms: 0,
            reports: (0, 0),
            last_tick_ms: 0,
            unsettled: Vec::new(),
        })
    }

    /// Something that happens right after the first event.
    pub fn hear(&mut self, event: Event) {
        self.queue.push_back(event);
    }

    /// Runs from `first` to the end.
    ///
    /// # Errors
    /// Only what makes supervision impossible: the journal cannot be written
    /// (exit 51), a session cannot be spoken to. The session is ended first.
    pub async fn run(mut self, first: Event) -> Result<(Outcome, Machine)> {
        // What an interrupted run told of its budgets is not told again.
        self.marks.catch_up(Timestamp::now(), &Snapshot::of(&self.machine));
        self.settle_again();
        let ended = self.supervise(first).await;
        self.settle_rest();
        match ended {
            Ok(outcome) => {
                self.teller.finish(Timestamp::now(), &Snapshot::of(&self.machine));
                self.notify_the_rest().await;
                Ok((outcome, self.machine))
            }
            Err(err) => {
                tracing::error!(%err, "giving up");
                self.give_up().await;
                let now = Timestamp::now();
                let view = Snapshot::of(&self.machine);
                self.teller.give_up(now, &view, &err);
                self.notifier.tell(&occasions::from_error(now, &err, &view));
                self.notify_the_rest().await;
                Err(err)
            }
        }
    }

    /// Gives notifications a moment to be delivered; another signal cuts it short.
    async fn notify_the_rest(&mut self) {
        let feeder = self.feeder.take();
        let tracked = async {
            if let Some(mut feeder) = feeder {
                feeder.finish(tally::LAST).await;
            }
        };
        tokio::select! {
            (tally, ()) = async { tokio::join!(self.notifier.finish(NOTIFY_LAST), tracked) } => {
                if tally != Tally::default() {
                    tracing::info!(?tally, "notifications");
                }
            }
            _ = self.signals.recv() => tracing::warn!("a signal; undelivered notifications are dropped"),
        }
    }

    async fn supervise(&mut self, first: Event) -> Result<Outcome> {
        self.queue.push_front(first);
        let rounds = watchdog::Rounds::default();
        let _watching = rounds.watch();
        loop {
            rounds.count();
            while let Some(event) = self.queue.pop_front() {
                self.feed(event)?;
                if let Some(outcome) = self.machine.outcome() {
                    return Ok(outcome.clone());
                }
            }
            let input = self.next_input().await;
            self.handle(input)?;
            let now = Timestamp::now();
            self.mind_looks(now);
            self.mind_spending(now);
            while let Some(event) = self.timers.pop_due(now) {
                if matches!(event, Event::Deadline { timer: Timer::Hang, .. }) {
                    // What has come in the meantime counts.
                    self.read_transcript();
                    self.tell_signs(now, true);
                }
                self.queue.push_back(event);
            }
            self.tell_budgets(now);
            self.tick(now);
        }
    }

    /// Hours pass in silence, too.
    pub(in crate::driver) fn tell_budgets(&mut self, now: Timestamp) {
        for told in self.marks.look(now, &Snapshot::of(&self.machine)) {
            self.notifier.tell(&told);
        }
    }

    /// One event: noted, decided, done.
    fn feed(&mut self, event: Event) -> Result<()> {
        let now = Timestamp::now();
        let actions = self.machine.step(now, event.clone());
        let durable = actions.iter().any(crate::cycle::Action::is_external);
        self.journal.append(now, &event, durable)?;
        for action in actions {
            self.perform(now, action)?;
        }
        Ok(())
    }

    /// None of the sources can hold up another, however much it brings: they
    /// are taken in no order, and a look that is due comes first.
    async fn next_input(&mut self) -> Input {
        let now = Timestamp::now();
        let wait_ms = self.wait_ms(now);
        if self.look_in_ms(now) == 0 {
            return Input::Look;
        }
        let has_room_for_report =
            self.reports.0 != now.boot_ms / 1_000 || self.reports.1 < REPORTS_PER_SECOND;
        let keeper = async {
            match self.session.as_mut().and_then(|s| s.keeper.as_mut()) {
                Some(keeper) => Keeper::next(keeper).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(number) = self.signals.recv() => Input::Signal(number),
            event = keeper => Input::Keeper(event),
            Some(asked) = self.control.recv() => Input::Asked(asked),
            Ok(report) = self.sink.recv(), if has_room_for_report => Input::Sink(Box::new(report)),
            done = self.jobs.next() => Input::Done(done),
            () = self.hints.changed() => Input::Look,
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => Input::Look,
        }
    }

    /// How long nothing needs to be looked at. Never long: tokio's clock stands
    /// still while the machine is suspended, ours does not.
    fn wait_ms(&self, now: Timestamp) -> u64 {
        let display_ms = self.teller.tick_ms().unwrap_or(u64::MAX);
        let timer_ms = self.timers.due_in_ms(now).unwrap_or(u64::MAX);
        let is_behind = self.session.as_ref().is_some_and(|s| s.transcript.is_behind());
        let look_ms = if is_behind { 0 } else { self.look_in_ms(now) };
        look_ms.min(timer_ms).min(display_ms).max(1)
    }

    /// When the files are to be looked at again, whatever else goes on.
    fn look_in_ms(&self, now: Timestamp) -> u64 {
        let every_ms = match &self.session {
            Some(session) if session.is_early() => EARLY_POLL_MS,
            Some(_) | None => POLL_MS,
        };
        // A change of the settings that is seen for the first time is looked at
        // again before it can be taken back.
        let every_ms = if self.guard.settings.suspects() { SUSPECT_MS } else { every_ms };
        (self.last_look_ms + every_ms).saturating_sub(now.boot_ms)
    }

    fn handle(&mut self, input: Input) -> Result<()> {
        match input {
            Input::Signal(number) => self.queue.push_back(Event::Signal { number }),
            Input::Asked(asked) => {
                let answer = self.answer(asked.request, asked.pid);
                // A client that hung up does not want it.
                let _ = asked.back.send(answer);
            }
            Input::Keeper(event) => self.on_keeper(event)?,
            Input::Sink(report) => {
                let second = Timestamp::now().boot_ms / 1_000;
                let so_far = if self.reports.0 == second { self.reports.1 } else { 0 };
                self.reports = (second, so_far + 1);
                self.on_sink(*report)?;
            }
            Input::Done(done) => self.on_done(done),
            Input::Look => {
                self.look()?;
                // From its end: one that takes long must leave room for the rest.
                self.last_look_ms = Timestamp::now().boot_ms;
            }
        }
        Ok(())
    }

    fn answer(&mut self, request: Request, pid: Option<u32>) -> String {
        if request != Request::Status
            && let Some(refusal) = refuse_to_obey(pid)
        {
            tracing::warn!(?request, pid, refusal, "not obeyed");
            return format!(r#"{{"error":"{refusal}"}}"#);
        }
        let command = match request {
            Request::Status => {
                let view = crate::report::status::StatusView::of(
                    &Snapshot::of(&self.machine),
                    Timestamp::now(),
                );
                return serde_json::to_string(&view)
                    .unwrap_or_else(|_| r#"{"error":"the status cannot be written"}"#.into());
            }
            Request::Pause => Command::Pause,
            Request::Resume => Command::Resume,
            Request::Cycle => Command::Cycle,
            Request::Stop => Command::Stop,
            Request::StopNow => Command::StopNow,
            Request::CancelTask => Command::CancelTask,
        };
        self.queue.push_back(Event::Operator { command });
        r#"{"ok":true}"#.into()
    }

    fn tick(&mut self, now: Timestamp) {
        let Some(every_ms) = self.teller.tick_ms() else { return };
        if now.boot_ms.saturating_sub(self.last_tick_ms) >= every_ms {
            self.last_tick_ms = now.boot_ms;
            self.teller.tick(now, &Snapshot::of(&self.machine));
        }
    }

    /// longhaul cannot go on: the keeper ends the session when the leash drops.
    async fn give_up(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        let Some(mut keeper) = session.keeper.take() else { return };
        let _ = keeper.send(&crate::session::wire::KeeperCommand::End(
            crate::session::wire::Ending::Terminate,
        ));
        let ended = async {
            loop {
                match keeper.next().await {
                    KeeperEvent::Swept { .. } | KeeperEvent::Lost { .. } => break,
                    KeeperEvent::Spawned { .. }
                    | KeeperEvent::SpawnFailed { .. }
                    | KeeperEvent::Submitted { .. }
                    | KeeperEvent::Withheld { .. }
                    | KeeperEvent::Screen { .. }
                    | KeeperEvent::Exited { .. } => {}
                }
            }
        };
        let _ = tokio::time::timeout(GIVE_UP, ended).await;
    }
}

/// Why the process that asks may not steer the run: what the session, the verify
/// command or git started lives below this process, even detached. Who asked and
/// went, not waiting for the answer, may be one of them.
fn refuse_to_obey(pid: Option<u32>) -> Option<&'static str> {
    // 0: outside of our pid namespace, so not of our making.
    let pid = pid.filter(|pid| *pid != 0)?;
    match sweep::descent(pid, std::process::id()) {
        sweep::Descent::Elsewhere => None,
        sweep::Descent::Below => Some("a process of the session itself cannot steer the run"),
        sweep::Descent::Unknown => Some("it is not known who asks"),
    }
}
