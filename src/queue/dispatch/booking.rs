//! A worker has ended: what is booked, and what its end means for the others.

use std::path::Path;

use uuid::Uuid;

use super::{Dispatcher, ORPHANS_MS, REFUSED_AGAIN_MS, STARTS_MAX, Told};
use crate::clock::Timestamp;
use crate::cycle::assignment::{Assignment, End};
use crate::cycle::state::Budget;
use crate::cycle::{Machine, Outcome};
use crate::error::ErrorKind;
use crate::journal;
use crate::queue::chain;
use crate::queue::store::Result;
use crate::queue::task::{TaskId, TaskState};
use crate::runs::RunFolder;
use crate::state_dir::ProjectState;

impl Dispatcher {
    /// Runs that have ended are booked; one that cannot be is tried again.
    pub(super) fn book(&mut self) -> Result<()> {
        while let Some((run_id, project, code)) = self.unbooked.last().cloned() {
            self.settle_run(run_id, &project, code)?;
            self.unbooked.pop();
        }
        Ok(())
    }

    /// Books what the run's journal says, whoever wrote it. `code` is how the worker
    /// ended; `None`: it was of an earlier process.
    pub(super) fn settle_run(
        &mut self,
        run_id: Uuid,
        project: &Path,
        code: Option<u8>,
    ) -> Result<()> {
        let state = ProjectState::dir_of(&self.plan.state_root, project);
        let told = match RunFolder::find(&state, run_id)? {
            Some(run) => match journal::read(&run.journal()) {
                Ok(told) => Some(told),
                Err(err) => {
                    self.warn(Some(project), err.render());
                    self.set_aside(project, err.kind().exit_code());
                    let in_hand = self.store.in_progress()?.into_iter();
                    let in_hand = in_hand.filter(|task| task.run_id == Some(run_id));
                    self.taken.extend(in_hand.map(|task| task.id));
                    return Ok(());
                }
            },
            None => None,
        };
        let now = Timestamp::now().unix_ms;
        let Some(told) = told else {
            // It never began: refused by what stands in the project, or killed before.
            self.store.unclaim(now, run_id)?;
            if let Some(code) = code {
                self.on_not_begun(project, code);
            }
            return Ok(());
        };
        self.early_deaths.remove(project);
        if code.is_some() {
            self.last_run.insert(project.to_owned(), run_id);
        }
        for task in told.machine.assignments() {
            if let Some(spell) = chain::spell(run_id, task, "")? {
                self.taken.insert(spell.task_id.clone());
                self.store.settle(spell.ended_unix_ms, &spell)?;
            }
        }
        let (saved, heard) = self.faces.tidy(self.store.as_mut(), project, now)?;
        self.hear(heard);
        if let Some(saved) = saved {
            (self.told)(Told::Note { project: project.to_owned(), text: saved });
        }
        if told.machine.outcome().is_none() && !project.is_dir() {
            return self.give_up_project(run_id, project, &told.machine);
        }
        match told.machine.outcome() {
            Some(outcome) => {
                self.starts.remove(&run_id);
                // Taken for it, and never put before a session.
                self.store.unclaim(now, run_id)?;
                let was_cancelled = self.was_cancelled(&told.machine)?;
                self.weigh(project, outcome, told.machine.assignments().last(), was_cancelled);
            }
            None => self.on_cut_off(run_id, project, code),
        }
        Ok(())
    }

    /// A worker ended before its run began: it was refused, or shot.
    fn on_not_begun(&mut self, project: &Path, code: u8) {
        if self.is_out_of_disk(code) {
            return;
        }
        let deaths = self.early_deaths.entry(project.to_owned()).or_default();
        *deaths += 1;
        if !is_refusal(code) && *deaths < STARTS_MAX {
            return;
        }
        let is_ours = is_refusal(code) || code == ErrorKind::State.exit_code();
        let code = if is_ours { code } else { ErrorKind::Internal.exit_code() };
        self.warn(Some(project), format!("left alone: its run could not begin (exit code {code})"));
        self.set_aside(project, code);
    }

    /// The run has an end. What does it mean for the others?
    fn weigh(
        &mut self,
        project: &Path,
        outcome: &Outcome,
        last: Option<&Assignment>,
        was_cancelled: bool,
    ) {
        let code = outcome.exit_code();
        let is_of_the_task = last.is_some_and(|task| task.is_declared_blocked);
        let goes_back =
            last.is_none_or(|task| matches!(task.end, Some(End::Released { .. }) | None));
        match outcome {
            Outcome::Budget { which: Budget::Quota } => self.halt(code, outcome),
            // Whatever ended it without any work would end the next one, too, for ever.
            Outcome::Done | Outcome::NoProgress | Outcome::Budget { .. } if goes_back => {
                let why = outcome.sentence();
                self.warn(Some(project), format!("left alone from now on: {why}"));
                self.set_aside(project, code);
            }
            Outcome::Done | Outcome::NoProgress | Outcome::Budget { .. } => {}
            Outcome::NeedsPerson { .. } if is_of_the_task => {}
            Outcome::NeedsPerson { why } => {
                let why = why.clone();
                self.warn(Some(project), format!("left alone from now on: {why}"));
                self.set_aside(project, code);
            }
            // What stands in the way of this one stands in the way of all.
            Outcome::Authentication { .. } | Outcome::LimitPast { .. } | Outcome::Disk { .. } => {
                self.halt(code, outcome);
            }
            Outcome::Stopped { .. } if was_cancelled || self.signals.0 > 0 => {}
            Outcome::Stopped { .. } => {
                let text = "its run was stopped: left alone from now on".to_owned();
                self.warn(Some(project), text);
                self.set_aside(project, code);
            }
        }
    }

    /// Did somebody cancel the task that the run had in hand last?
    fn was_cancelled(&mut self, machine: &Machine) -> Result<bool> {
        let Some(last) = machine.assignments().last() else { return Ok(false) };
        let Ok(id) = TaskId::parse(&last.given.task_id) else { return Ok(false) };
        Ok(self.store.task(&id)?.is_some_and(|task| task.state == TaskState::Cancelled))
    }

    /// The folder is gone, so the run cannot be taken up: its tasks go back.
    fn give_up_project(&mut self, run_id: Uuid, project: &Path, machine: &Machine) -> Result<()> {
        let why = "its project is no folder any more";
        if let Some(task) = machine.abandoned(why)
            && let Some(spell) = chain::spell(run_id, &task, "")?
        {
            self.taken.insert(spell.task_id.clone());
            self.store.settle(spell.ended_unix_ms, &spell)?;
        }
        self.store.unclaim(Timestamp::now().unix_ms, run_id)?;
        self.warn(Some(project), format!("left alone from now on: {why}"));
        self.set_aside(project, ErrorKind::Usage.exit_code());
        Ok(())
    }

    fn halt(&mut self, code: u8, outcome: &Outcome) {
        self.warn(None, format!("nothing more is begun: {}", outcome.sentence()));
        self.halted.get_or_insert(code);
    }

    /// The run has no end: its process was killed, or gave up.
    fn on_cut_off(&mut self, run_id: Uuid, project: &Path, code: Option<u8>) {
        let starts = self.starts.get(&run_id).copied().unwrap_or(0);
        self.orphans_until_ms = Timestamp::now().boot_ms.saturating_add(ORPHANS_MS);
        match code {
            Some(code) if self.is_out_of_disk(code) => {}
            Some(code) if is_refusal(code) => {
                self.warn(Some(project), "its run cannot be taken up now".into());
                self.set_aside(project, code);
            }
            Some(_) if starts >= STARTS_MAX => {
                let text = format!("its run died {starts} times: left alone from now on");
                self.warn(Some(project), text);
                self.set_aside(project, ErrorKind::Internal.exit_code());
            }
            Some(_) | None => {}
        }
        // Whenever the project is looked at again, this comes first.
        self.cut_off.push((run_id, project.to_owned()));
    }

    /// A full disk stands in the way of all.
    fn is_out_of_disk(&mut self, code: u8) -> bool {
        let is_so = code == ErrorKind::Disk.exit_code();
        if is_so && self.halted.is_none() {
            self.warn(None, "nothing more is begun: the disk is full or failing".to_owned());
            self.halted = Some(code);
        }
        is_so
    }

    pub(super) fn set_aside(&mut self, project: &Path, code: u8) {
        self.codes.push(code);
        // Nothing was spent on one that could not begin.
        let is_locked_or_wrong =
            [ErrorKind::Locked, ErrorKind::Usage].iter().any(|kind| kind.exit_code() == code);
        let may_change = self.plan.watch && is_locked_or_wrong;
        let until_ms = match may_change {
            true => Timestamp::now().boot_ms.saturating_add(REFUSED_AGAIN_MS),
            false => u64::MAX,
        };
        self.aside.insert(project.to_owned(), until_ms);
    }
}

/// A run that was refused with this code will be refused again.
fn is_refusal(code: u8) -> bool {
    // State is none: the store may have been held by somebody for too long.
    use ErrorKind::{Authentication, Locked, NeedsPerson, Usage};
    [NeedsPerson, Authentication, Locked, Usage].iter().any(|kind| kind.exit_code() == code)
}
