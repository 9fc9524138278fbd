//! Actions, performed. Nothing here decides.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::cycle::assignment::{Assignment, Given};
use crate::cycle::budget::Scope;
use crate::cycle::event::{Event, SessionReport, TaskReading, TaskSays};
use crate::cycle::{Action, Notice, Snapshot};
use crate::devdocs::handoff::{self, Brief};
use crate::devdocs::proof::{self, Proof};
use crate::devdocs::task_file;
use crate::devdocs::{git, keep, read, section};
use crate::error::{ErrorKind, Result};
use crate::notify::{heard, occasions};
use crate::queue::{self, chain::Taken};
use crate::session::sweep::RUN_VARIABLE;
use crate::session::wire::{COLS, Ending, KeeperCommand, Key, Launch, ROWS};
use crate::session::{Keeper, env, settings};
use crate::transcript::SessionTranscript;
use crate::verify::{Verdict, Verification};
use crate::workspace::{self, Change, Head, Marker};

use super::jobs::Done;
use super::live::{LiveSession, Lost, Memory};
use super::{Driver, Setup};

/// Lines of `git status` quoted in a brief.
const MAX_STATUS_LINES: usize = 30;

impl Driver {
    pub(super) fn perform(&mut self, now: Timestamp, action: Action) -> Result<()> {
        tracing::debug!(?action, "performing");
        match action {
            Action::Prepare => self.prepare(),
            Action::KeepTree { cycle } => self.keep_tree(cycle),
            Action::Launch { cycle, session_id, prompt } => {
                self.launch(cycle, session_id, &prompt)?
            }
            Action::TakeBaseline => {
                let baseline = self.snapshot();
                if let Some(session) = &mut self.session {
                    session.baseline = Some(baseline);
                }
            }
            Action::SettleBaseline => self.settle_baseline(),
            Action::Type { text } => self.send(&KeeperCommand::Submit { id: 0, text })?,
            // Not as a bare key, which would answer a question as well.
            Action::PressEnter => {
                self.send(&KeeperCommand::Submit { id: 0, text: String::new() })?
            }
            Action::ClearInput => self.send(&KeeperCommand::Press(Key::CtrlU))?,
            Action::PressEscape => {
                if let Some(session) = &mut self.session {
                    session.senses.escaped(now);
                }
                self.send(&KeeperCommand::Press(Key::Escape))?;
            }
            Action::EndPolitely => self.send(&KeeperCommand::End(Ending::Terminate))?,
            Action::EndSurely => self.send(&KeeperCommand::End(Ending::Kill))?,
            Action::ReadTask => {
                let reading = self.read_task();
                self.queue.push_back(Event::TaskRead { reading });
            }
            Action::RunVerify => self.run_verify(),
            Action::CancelVerify => self.jobs.cancel_verify(),
            Action::WeighProgress { since } => self.weigh_progress(since),
            Action::TakeTask { after } => self.take_task(now, after)?,
            Action::SettleTask { assignment } => self.settle_task(&assignment),
            Action::Prove => self.prove(),
            Action::KeepCheckpoint { cycle } => self.keep_checkpoint(cycle),
            Action::WriteHandoff { cycle, why } => self.write_handoff(cycle, why),
            Action::SetTimer { timer, epoch, after_ms } => {
                self.timers.set(now, timer, epoch, after_ms)
            }
            Action::Tell(notice) => {
                tracing::info!(?notice, "told");
                let view = Snapshot::of(&self.machine);
                self.teller.tell(now, &notice, &view);
                if let Some(told) = occasions::from_notice(now, &notice, &view)
                    && self.is_news(&notice)
                {
                    self.notifier.tell(&told);
                }
                if matches!(notice, Notice::SessionEnded { .. }) {
                    self.spending.hurry();
                }
                self.tell_budgets(now);
            }
        }
        Ok(())
    }

    /// Has no other run told a person of it?
    fn is_news(&self, notice: &Notice) -> bool {
        match (notice, self.setup.state_root()) {
            (Notice::Budget(mark), Some(root)) => heard::is_news(root, mark),
            _ => true,
        }
    }

    /// To the live session, if there is one.
    pub(super) fn send(&mut self, command: &KeeperCommand) -> Result<()> {
        match self.session.as_mut().and_then(|s| s.keeper.as_mut()) {
            Some(keeper) => keeper.send(command),
            None => Ok(()),
        }
    }

    fn launch(&mut self, cycle: u32, session_id: Uuid, prompt: &str) -> Result<()> {
        self.mend_sink();
        let launch = launch_of(&self.setup, &self.machine.run_id(), session_id, prompt)?;
        let keeper = match Keeper::spawn(&launch) {
            Ok(keeper) => keeper,
            Err(err) => {
                // No process to be had right now: a failed start, not the end of the run.
                let report = SessionReport::SpawnFailed { message: err.to_string() };
                self.queue.push_back(Event::Session { cycle, report });
                return Ok(());
            }
        };
        let transcript =
            SessionTranscript::new(&self.setup.claude_dir, &self.setup.project, session_id);
        self.session = Some(LiveSession::new(cycle, session_id, keeper, transcript));
        let project = self.setup.project.clone();
        self.jobs
            .start(async move { Done::Marked { cycle, marker: workspace::mark(&project).await } });
        Ok(())
    }

    fn snapshot(&self) -> proof::Snapshot {
        let config = &self.setup.config;
        proof::Snapshot::take(&self.setup.project, &config.checkpoint.files, &config.task.file)
    }

    fn settle_baseline(&mut self) {
        let now = self.snapshot();
        if let Some(session) = &mut self.session
            && let (Some(baseline), Some(heard)) = (&mut session.baseline, session.prompted_unix_ms)
        {
            baseline.settle(&now, heard);
        }
    }

    pub(super) fn read_task(&self) -> TaskReading {
        let (project, file) = (&self.setup.project, &self.setup.config.task.file);
        match self.machine.assignments().last() {
            Some(task) => read_section(project, file, &task.given.task_id),
            // The first task of the queue is still being laid out.
            None if self.setup.chain.is_some() => {
                reading_of(file, read::read_task_file(project, file))
            }
            None => read_task(project, file),
        }
    }

    fn take_task(&mut self, now: Timestamp, after: Option<String>) -> Result<()> {
        let taken = match &self.setup.chain {
            Some(chain) => {
                let in_hand = self.machine.assignments().last().is_some_and(|t| t.end.is_none());
                let unbooked_usd = match in_hand {
                    true => Snapshot::of(&self.machine).measured(now).cost_ceiling_usd,
                    false => 0.0,
                };
                match chain.take(now, after.as_deref(), unbooked_usd) {
                    // The rest of the batch waits for the next run.
                    Err(err) if after.is_some() => {
                        tracing::warn!(%err, "the queue cannot be asked for the next task");
                        Taken::None
                    }
                    taken => taken?,
                }
            }
            None => Taken::None,
        };
        let (task, trouble) = match taken {
            Taken::Task(task) => (Some(self.with_told(task)), None),
            Taken::None => (None, None),
            Taken::Trouble(why) => (None, Some(why)),
        };
        self.queue.push_back(Event::TaskGiven { after, task, trouble });
        Ok(())
    }

    /// With what earlier runs told a person of its budget.
    fn with_told(&self, mut task: Box<Given>) -> Box<Given> {
        let budget_usd = self.setup.config.budget.of(Scope::Task);
        if let (Some(root), Some(usd)) = (self.setup.state_root(), budget_usd) {
            task.told_percent = heard::of_task(root, &task.task_id, task.attempt, usd);
        }
        task
    }

    /// Books what became of a task. A store that is held by somebody, or fails, is tried
    /// again; it ends no session, and whoever started this run books it all once more.
    fn settle_task(&mut self, task: &Assignment) {
        self.tell_tracker(Some((task.given.task_id.clone(), task.given.title.clone())));
        self.note_settled(task);
        self.settle_rest();
    }

    fn note_settled(&mut self, task: &Assignment) {
        let said = self.session.as_ref().and_then(|s| s.memory.messages.back());
        let said = said.map(|text| self.secrets.redact(text).into_owned()).unwrap_or_default();
        self.unsettled.push((task.clone(), said));
    }

    /// Books what could not be booked before.
    pub(super) fn settle_rest(&mut self) {
        let Some(chain) = self.setup.chain.clone() else { return self.unsettled.clear() };
        while let Some((task, said)) = self.unsettled.first() {
            match chain.settle(task, said) {
                Ok(()) => {}
                // Not of this queue any more.
                Err(err) if err.kind() == ErrorKind::Usage => {
                    tracing::warn!(%err, "what became of a task cannot be booked");
                }
                Err(err) => {
                    tracing::warn!(%err, "what became of a task is booked later");
                    return;
                }
            }
            self.unsettled.remove(0);
        }
    }

    /// What a run that was killed had decided on its tasks may not have reached the
    /// store.
    pub(super) fn settle_again(&mut self) {
        for task in self.machine.assignments().to_vec() {
            self.note_settled(&task);
        }
        self.settle_rest();
    }

    fn run_verify(&mut self) {
        // That of the task in hand, or the one of the configuration.
        let own = self.machine.assignments().last().filter(|task| task.end.is_none());
        let own = own.and_then(|task| task.given.verify.clone());
        let Some(command) = own.or_else(|| self.setup.config.task.verify.clone()) else {
            let event = Event::VerifyEnded { passed: true, tail: String::new(), survivors: 0 };
            return self.queue.push_back(event);
        };
        let project = self.setup.project.clone();
        let timeout_ms = self.setup.config.task.verify_timeout_ms;
        let scratch = Some(self.setup.scratch.clone());
        // Marked, so that should this longhaul be killed, the next one waits until
        // all of it is ended.
        let mark = (RUN_VARIABLE.into(), self.machine.run_id().to_string().into());
        let env = std::env::vars_os().chain([mark]).collect();
        self.jobs.start_verify(async move {
            let (project, command) = (&*project, &*command);
            let said = Verification { project, command, env, scratch, timeout_ms }.run().await;
            let Verdict { passed, tail, survivors } = said;
            Done::Event(Box::new(Event::VerifyEnded { passed, tail, survivors }))
        });
    }

    fn weigh_progress(&mut self, since: Timestamp) {
        let Some(session) = &self.session else {
            // Before the first launch there is nothing to weigh.
            return self.queue.push_back(Event::ProgressWeighed { changed: false });
        };
        let from_turn = session.keeper.is_some();
        let marker = if from_turn { &session.turn_marker } else { &session.cycle_marker };
        let marker = marker.clone().unwrap_or_else(|| Marker {
            unix_ms: since.unix_ms,
            head: Head::Unknown { why: "it was not looked at in time".into() },
        });
        let cycle = session.cycle;
        let project = self.setup.project.clone();
        let excluded = excluded(&self.setup);
        self.jobs.start(async move {
            let changed = match workspace::changed_since(&project, &marker, &excluded).await {
                Change::Nothing => false,
                Change::Unknown { why } => {
                    tracing::warn!(why, "cannot tell whether there was progress; assuming none");
                    false
                }
                Change::Commit { .. } | Change::File { .. } => true,
            };
            // The next turn is measured from here.
            let marker = if from_turn { Some(workspace::mark(&project).await) } else { None };
            Done::Weighed { cycle, changed, marker }
        });
    }

    fn prove(&mut self) {
        let now = self.snapshot();
        let baseline = self.session.as_ref().and_then(|s| s.baseline.clone());
        let event = match baseline {
            Some(baseline) => proof_event(&baseline, &now),
            None => Event::Proof {
                changed: Vec::new(),
                shortfalls: vec!["the files' state before the request is not known".into()],
                digest: String::new(),
            },
        };
        self.queue.push_back(event);
    }

    fn keep_checkpoint(&mut self, cycle: u32) {
        let setup = self.setup.clone();
        let run_id = self.machine.run_id();
        self.jobs.start(async move {
            let kept = {
                let setup = setup.clone();
                tokio::task::spawn_blocking(move || {
                    let mut files = setup.config.checkpoint.files.clone();
                    let brief = PathBuf::from(handoff::HANDOFF_FILE);
                    if setup.project.join(&brief).exists() {
                        files.push(brief);
                    }
                    let kept = keep::keep(&setup.project, &files, &setup.run.checkpoints(), cycle);
                    // Kept or not, an old brief would mislead the next session.
                    if let Err(problem) = handoff::retire(&setup.project) {
                        tracing::warn!(%problem, "the old handoff.md stays");
                    }
                    kept
                })
                .await
            };
            let (folder, mut trouble) = match kept {
                Ok(Ok(kept)) => (kept.folder.display().to_string(), None),
                Ok(Err(err)) => (String::new(), Some(err.to_string())),
                Err(err) => (String::new(), Some(format!("the copy failed: {err}"))),
            };
            if setup.config.checkpoint.git_commit {
                let message = format!("longhaul: checkpoint of cycle {cycle}\n\nRun {run_id}.");
                let outcome = git::commit_checkpoint(
                    &setup.project,
                    &setup.config.checkpoint.files,
                    &message,
                )
                .await;
                if let Some(problem) = commit_trouble(&outcome) {
                    trouble = Some(trouble.map_or(problem.clone(), |t| format!("{t}; {problem}")));
                }
            }
            Done::Event(Box::new(Event::CheckpointKept { folder, trouble }))
        });
    }

    fn write_handoff(&mut self, cycle: u32, why: String) {
        let memory = self.session.as_ref().map(|s| s.memory.clone()).unwrap_or_default();
        let session_id = self.machine.live().map(|c| c.session_id.to_string()).unwrap_or_default();
        let mut brief = brief_of(
            &self.setup,
            &self.machine.run_id().to_string(),
            cycle,
            session_id,
            why,
            memory,
        );
        let project = self.setup.project.clone();
        self.jobs.start(async move {
            brief.git_status = git::short_status(&project, MAX_STATUS_LINES).await;
            let written = tokio::task::spawn_blocking(move || {
                handoff::write(&project, &handoff::render(&brief))
            });
            let trouble = match written.await {
                Ok(Ok(_)) => None,
                Ok(Err(problem)) => Some(problem.to_string()),
                Err(err) => Some(err.to_string()),
            };
            Done::Event(Box::new(Event::HandoffWritten { trouble }))
        });
    }

    /// The session an earlier longhaul lost, for its brief.
    pub fn remember(&mut self, lost: Lost) {
        self.session = Some(LiveSession::lost(lost));
        self.tell_tracker(self.task_in_hand());
    }
}

/// The checkpoint files and the brief: changes there are no progress.
fn excluded(setup: &Setup) -> Vec<PathBuf> {
    let mut files = setup.config.checkpoint.files.clone();
    files.push(PathBuf::from(handoff::HANDOFF_FILE));
    files.push(setup.config.task.file.clone());
    files.push(PathBuf::from(".claude"));
    files.extend(setup.config.track.folder.clone());
    // The queue's own files.
    if let Some(folder) = &setup.config.queue.files {
        files.extend(queue::FILE_NAMES.map(|name| folder.join(name)));
    }
    files
}

fn launch_of(setup: &Setup, run_id: &Uuid, session_id: Uuid, prompt: &str) -> Result<Launch> {
    let own = &setup.config.claude.args;
    let sink = settings::SinkCommand::of_this_process(&setup.scratch);
    let bypass = setup.config.claude.allow_bypass && settings::bypass_argument(own).is_some();
    let json = settings::settings_json(&sink, bypass, &setup.config.permissions.policy)?;
    let marks =
        env::RunMarks { run_id: &run_id.to_string(), tmp_dir: &setup.scratch, cwd: &setup.project };
    Ok(Launch {
        program: setup.program.clone(),
        args: settings::arguments(&session_id.to_string(), &json, own, prompt),
        env: env::child_env(std::env::vars_os(), &setup.config.claude, &marks),
        cwd: setup.project.clone(),
        scratch: Some(setup.scratch.clone()),
        rows: ROWS,
        cols: COLS,
    })
}

/// The task file as the machine sees it.
pub fn read_task(project: &Path, file: &Path) -> TaskReading {
    reading_of(file, section::read_whole(project, file))
}

fn reading_of(file: &Path, read: Result<task_file::TaskFile, read::TaskProblem>) -> TaskReading {
    match read {
        Ok(parsed) => TaskReading::Read {
            says: says(parsed.state()),
            ticked: parsed.ticked,
            total: parsed.total,
            digest: parsed.digest,
        },
        Err(problem) => unreadable(file, &problem),
    }
}

/// What the task file says about one task of the queue.
fn read_section(project: &Path, file: &Path, id: &str) -> TaskReading {
    match section::read_file(project, file, id) {
        Ok(reading) => TaskReading::Read {
            says: says(reading.state),
            ticked: reading.ticked,
            total: reading.total,
            digest: reading.digest,
        },
        Err(problem) => unreadable(file, &problem),
    }
}

fn says(state: task_file::State) -> TaskSays {
    match state {
        task_file::State::Open => TaskSays::Open,
        task_file::State::Done { .. } => TaskSays::Done,
        task_file::State::Blocked { reason } => {
            TaskSays::Blocked { reason: reason.unwrap_or_default() }
        }
    }
}

fn unreadable(file: &Path, problem: &read::TaskProblem) -> TaskReading {
    TaskReading::Unreadable { problem: format!("{} {problem}", file.display()) }
}

fn proof_event(baseline: &proof::Snapshot, now: &proof::Snapshot) -> Event {
    let (changed, shortfalls) = match proof::prove(baseline, now) {
        Proof::Verified { changed } => {
            (changed.iter().map(|p| p.display().to_string()).collect(), Vec::new())
        }
        Proof::Failed { missing } => {
            (Vec::new(), missing.iter().map(ToString::to_string).collect())
        }
    };
    let digest = task_file::digest(&serde_json::to_vec(now).unwrap_or_default());
    Event::Proof { changed, shortfalls, digest }
}

fn commit_trouble(outcome: &git::CommitOutcome) -> Option<String> {
    use git::CommitOutcome as C;
    match outcome {
        C::Committed { .. } | C::NothingToCommit { .. } => None,
        C::NotARepository => {
            Some("checkpoint.git is \"commit\", but the project is no git repository".into())
        }
        C::NoGit => Some("checkpoint.git is \"commit\", but there is no git".into()),
        C::Busy => Some("the checkpoint was not committed: the git index stayed locked".into()),
        C::TimedOut => Some("the checkpoint was not committed: git did not end in time".into()),
        C::Refused { message } => Some(format!("the checkpoint was not committed: {message}")),
    }
}

fn brief_of(
    setup: &Setup,
    run_id: &str,
    cycle: u32,
    session_id: String,
    reason: String,
    memory: Memory,
) -> Brief {
    let file = &setup.config.task.file;
    let tasks = read::read_task_file(&setup.project, file).map_err(|problem| problem.to_string());
    Brief {
        run_id: run_id.to_owned(),
        cycle,
        session_id,
        written_unix_ms: Timestamp::now().unix_ms,
        reason,
        messages: memory.messages.into(),
        files_touched: memory.files,
        tool_calls: memory.tools.into(),
        git_status: Vec::new(),
        task_file: file.clone(),
        tasks: Some(tasks),
    }
}
