//! From the queue file into the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::judge::{self, BaseEntry, Known, Verdict};
use super::memory::{Kept, Unsettled};
use super::place::{Folder, QUEUE, Seen};
use super::shape::{self, Theirs};
use super::writer::Writer;
use super::{Patience, Sync};
use crate::clock::Timestamp;
use crate::queue::refusal::{Code, QueueError, Refusal};
use crate::queue::store::{Keep, Result};
use crate::queue::task::{NewTask, TaskId};

/// A file that was left alone this long is not being written.
pub(super) const AT_REST_MS: i64 = 2_000;
/// Who has the file open and wrote nothing for so long is not writing it.
const HELD_OPEN_MS: i64 = 60_000;
/// Between two looks at one that cannot be understood.
const SETTLE_MS: u64 = 300;
/// Reasons that are told in one sentence; all are in the file put aside.
const MAX_REASONS: usize = 5;

/// What became of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Whatever there was to take is in the store or was put aside.
    All,
    /// It may be half written.
    Unsettled,
    /// It changed; look at it again.
    Again,
    /// It is of another queue, whose tasks are not ours.
    Foreign,
    /// What cannot be had could not be put aside: it must not be written over.
    Failed,
}

/// An entry that could not be taken over.
#[derive(Debug, Serialize)]
struct Rejected {
    task_id: String,
    reasons: Vec<Reason>,
    /// In one line: indenting what is nested deeply makes a hundred times of it.
    entry: Box<RawValue>,
}

#[derive(Debug, Serialize)]
struct Reason {
    code: &'static str,
    message: String,
}

impl From<&Refusal> for Reason {
    fn from(refusal: &Refusal) -> Self {
        Self { code: refusal.code.as_str(), message: refusal.message.clone() }
    }
}

/// What is put aside.
#[derive(Debug, Default, Serialize)]
struct Aside {
    rejected_at: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Reason>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entries: Vec<Rejected>,
    /// Beside `tasks`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    other: BTreeMap<String, Box<RawValue>>,
    /// The whole file, if it could not be understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The same where it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

/// The version of the file that an edit is compared with.
struct Basis {
    entries: HashMap<String, BaseEntry>,
    /// Those of it that count as removed if they are gone.
    removable: BTreeSet<String>,
    is_stale: bool,
}

impl Sync<'_> {
    /// Takes over what is in the file.
    pub(super) fn take_over(&mut self, folder: &Folder, file: Option<&Seen>) -> Result<Taken> {
        // A file that is gone asks for nothing: editors remove before they write,
        // and tidying up cancels no tasks.
        let Some(file) = file else {
            return Ok(Taken::All);
        };
        let digest = shape::digest(&file.bytes);
        if let Some(ours) = self.memory.candidates().iter().find(|base| base.digest == digest) {
            self.memory.last.revision = Some(ours.revision);
            return Ok(Taken::All);
        }
        let theirs = match Theirs::parse(&file.bytes) {
            Ok(theirs) => theirs,
            Err(why) => match self.settle(folder, file, digest)? {
                Taken::All => {
                    let told = format!("it cannot be understood ({why})");
                    return Ok(self.put_file_aside(folder, file, &why, &told));
                }
                other => return Ok(other),
            },
        };
        self.memory.last.unsettled = None;
        if self.is_foreign(&theirs) {
            self.tell_foreign();
            return Ok(Taken::Foreign);
        }
        let rejected = self.take_entries(&theirs)?;
        let other = theirs.unknown.into_iter();
        let other = other.map(|(key, raw)| (key, in_one_line(&raw))).collect();
        Ok(self.put_entries_aside(folder, rejected, other))
    }

    /// As [`Sync::take_over`], for what lies beside the file. Of a file that was `kept`
    /// it is known that somebody else wrote there. False if it must not go yet.
    pub(super) fn take_leftover(
        &mut self,
        folder: &Folder,
        file: &Seen,
        kept: Option<&Kept>,
    ) -> Result<bool> {
        let digest = shape::digest(&file.bytes);
        let is_ours = |base: &super::memory::Base| base.digest == digest;
        match Theirs::parse(&file.bytes) {
            Err(why) if kept.is_some() => {
                let told =
                    format!("what was written to an old version cannot be understood ({why})");
                Ok(self.put_file_aside(folder, file, &why, &told) == Taken::All)
            }
            // Ours, half written: what is put there by exchange was whole.
            Err(_) => Ok(true),
            Ok(_) if self.memory.candidates().iter().any(is_ours) => Ok(true),
            Ok(theirs) if self.is_foreign(&theirs) => {
                let why = "it is of another queue";
                Ok(self.put_file_aside(folder, file, why, why) == Taken::All)
            }
            Ok(mut theirs) => {
                // What was shown since is not missing there.
                theirs.revision = theirs.revision.or(kept.and_then(|kept| kept.revision));
                let rejected = self.take_entries(&theirs)?;
                let aside = self.put_entries_aside(folder, rejected, BTreeMap::new());
                Ok(aside == Taken::All)
            }
        }
    }

    fn is_foreign(&self, theirs: &Theirs) -> bool {
        theirs.queue_id.is_some_and(|id| id != self.queue_id)
    }

    /// Is the queue file, as it stands, another queue's?
    pub(super) fn is_foreign_file(&self, folder: &Folder) -> bool {
        let file = folder.read(QUEUE).ok().flatten();
        let theirs = file.and_then(|file| Theirs::parse(&file.bytes).ok());
        theirs.is_some_and(|theirs| self.is_foreign(&theirs))
    }

    pub(super) fn tell_foreign(&mut self) {
        self.synced.is_foreign = true;
        let path = self.place.folder.join(QUEUE);
        let path = path.display();
        self.synced.problems.push(format!(
            "{path} is of another queue (of another state directory or machine), so nothing in it \
             is run and this queue is not shown there; if nobody runs that queue any more, \
             `longhaul task import {path}` takes its tasks over, and then remove the file"
        ));
    }

    /// Is a file that cannot be understood as its writer wants it?
    fn settle(&mut self, folder: &Folder, file: &Seen, digest: String) -> Result<Taken> {
        let now = Timestamp::now();
        let age_ms = now.unix_ms.saturating_sub(file.print.changed_unix_ms());
        let is_held = || folder.writer(QUEUE) == Writer::Some;
        if age_ms < HELD_OPEN_MS && is_held() {
            if self.patience == Patience::Later {
                return Ok(Taken::Unsettled);
            }
            pause();
            return Ok(match folder.read(QUEUE) {
                Ok(Some(again)) if again == *file && is_held() => Taken::Unsettled,
                _ => Taken::Again,
            });
        }
        if age_ms >= AT_REST_MS {
            return Ok(Taken::All);
        }
        let last = self.memory.last.unsettled.take();
        let is_same = |last: &Unsettled| last.digest == digest;
        if last
            .as_ref()
            .filter(|last| is_same(last))
            .is_some_and(|last| now.ms_since(last.since) >= SETTLE_MS)
        {
            return Ok(Taken::All);
        }
        if self.patience == Patience::Later {
            let first = Unsettled { digest, since: now };
            self.memory.last.unsettled = last.filter(is_same_as(&first)).or(Some(first));
            return Ok(Taken::Unsettled);
        }
        pause();
        match folder.read(QUEUE) {
            Ok(Some(again)) if again == *file => Ok(Taken::All),
            _ => Ok(Taken::Again),
        }
    }

    fn basis(&self, theirs: &Theirs) -> Basis {
        let candidates = self.memory.candidates();
        let newest = candidates.first().map(|base| base.revision);
        let known = theirs.revision.and_then(|revision| self.memory.base(revision));
        if let Some(base) = known {
            let is_stale = newest.is_some_and(|newest| base.revision < newest);
            let removable = base.entries.keys().cloned().collect();
            return Basis { entries: base.entries.into_iter().collect(), removable, is_stale };
        }
        let is_known = theirs.revision.is_none() && !candidates.is_empty();
        let mut entries = HashMap::new();
        let mut removable = BTreeSet::new();
        // Without the number it may have been made from any of those that may have
        // stood there: removed is what none of them lacks.
        for (nth, base) in candidates.into_iter().filter(|_| is_known).enumerate() {
            if nth == 0 {
                removable.extend(base.entries.keys().cloned());
            }
            removable.retain(|id| base.entries.contains_key(id));
            for (id, entry) in base.entries {
                entries.entry(id).or_insert(entry);
            }
        }
        Basis { entries, removable, is_stale: !is_known }
    }

    fn take_entries(&mut self, theirs: &Theirs) -> Result<Vec<Rejected>> {
        let basis = self.basis(theirs);
        let mut times: HashMap<&str, u32> = HashMap::new();
        for (id, _) in &theirs.entries {
            *times.entry(id).or_default() += 1;
        }
        let mut rejected = Vec::new();
        let mut new = Vec::new();
        for (id, raw) in &theirs.entries {
            let mut reject = |reasons: &[Refusal]| {
                let reasons = reasons.iter().map(Reason::from).collect();
                rejected.push(Rejected { task_id: id.clone(), reasons, entry: in_one_line(raw) });
            };
            if times[id.as_str()] > 1 {
                let message = "the id stands in the file more than once";
                reject(&[Refusal::new(Code::InvalidParameter, message)]);
                continue;
            }
            match self.take_entry(id, raw, &basis)? {
                Ok(None) => {}
                Ok(Some(task)) => new.push((task, &**raw)),
                Err(reasons) => reject(&reasons),
            }
        }
        for id in basis.removable.iter().filter(|id| !times.contains_key(id.as_str())) {
            self.take_removal(id, &basis.entries[id])?;
        }
        self.add(new, &mut rejected)?;
        Ok(rejected)
    }

    /// Does what one entry asks for; gives a new task, or why it cannot be had.
    fn take_entry(
        &mut self,
        id: &str,
        raw: &RawValue,
        basis: &Basis,
    ) -> Result<std::result::Result<Option<NewTask>, Vec<Refusal>>> {
        let fields =
            shape::fields(raw).map_err(|message| Refusal::new(Code::InvalidParameter, message));
        let (id, fields) = match TaskId::parse(id).and_then(|id| Ok((id, fields?))) {
            Ok(read) => read,
            Err(refusal) => return Ok(Err(vec![refusal])),
        };
        let base = basis.entries.get(id.as_str());
        let task = self.store.task(&id)?;
        // An id is used once, in whichever project: the other's task is not ours.
        if task.as_ref().is_some_and(|task| task.project != self.place.project) {
            let message = format!("there is a task {id} already, in another project");
            return Ok(Err(vec![Refusal::new(Code::TaskExists, message)]));
        }
        let known = Known {
            base,
            task: task.as_ref(),
            project: self.place.project,
            is_stale: basis.is_stale,
        };
        let (verdict, wrong) = judge::judge(&id, &fields, &known);
        let done = self.follow(&id, verdict)?;
        Ok(if wrong.is_empty() { done } else { Err(wrong) })
    }

    fn take_removal(&mut self, id: &str, base: &BaseEntry) -> Result<()> {
        let Ok(id) = TaskId::parse(id) else {
            return Ok(());
        };
        let task = self.store.task(&id)?.filter(|task| task.project == self.place.project);
        let verdict = judge::judge_removed(&id, base, task.as_ref());
        if let Err(refusals) = self.follow(&id, verdict)? {
            for refusal in refusals {
                self.synced.notes.push(format!("task {id} was not cancelled: {refusal}"));
            }
        }
        Ok(())
    }

    fn follow(
        &mut self,
        id: &TaskId,
        verdict: Verdict,
    ) -> Result<std::result::Result<Option<NewTask>, Vec<Refusal>>> {
        let now = self.now_unix_ms;
        let (done, what) = match verdict {
            Verdict::Nothing => return Ok(Ok(None)),
            Verdict::Told(note) => {
                self.synced.notes.push(note);
                return Ok(Ok(None));
            }
            Verdict::Add(task) => return Ok(Ok(Some(*task))),
            Verdict::Change(change) => (self.store.edit(now, id, &change), "changed"),
            Verdict::Cancel => (self.store.cancel(now, id), "cancelled"),
        };
        match done {
            Ok(_) => {
                self.synced.taken.push(format!("task {id} {what}"));
                Ok(Ok(None))
            }
            Err(QueueError::Refused(refusal)) => Ok(Err(vec![refusal])),
            Err(failed) => Err(failed),
        }
    }

    /// Adds what is new, in the order of the file.
    fn add(&mut self, new: Vec<(NewTask, &RawValue)>, rejected: &mut Vec<Rejected>) -> Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        let (tasks, entries): (Vec<NewTask>, Vec<&RawValue>) = new.into_iter().unzip();
        let id_of = |task: &NewTask| task.id.as_ref().map(TaskId::to_string).unwrap_or_default();
        let ids: Vec<String> = tasks.iter().map(id_of).collect();
        let answers = self.store.add_each(self.now_unix_ms, tasks, Keep::Tasks)?;
        for ((answer, task_id), entry) in answers.into_iter().zip(ids).zip(entries) {
            match answer {
                Ok(task) => self.synced.taken.push(format!("task {} added", task.id)),
                Err(refusal) => {
                    let reasons = vec![Reason::from(&refusal)];
                    rejected.push(Rejected { task_id, reasons, entry: in_one_line(entry) });
                }
            }
        }
        Ok(())
    }

    fn put_file_aside(&mut self, folder: &Folder, file: &Seen, why: &str, told: &str) -> Taken {
        let reason = Reason { code: Code::MalformedJson.as_str(), message: why.to_owned() };
        let mut aside = Aside { reasons: vec![reason], ..Aside::default() };
        match std::str::from_utf8(&file.bytes) {
            Ok(text) => aside.text = Some(text.to_owned()),
            Err(_) => aside.hex = Some(file.bytes.iter().map(|b| format!("{b:02x}")).collect()),
        }
        self.put_aside(folder, aside, &format!("{told} and"))
    }

    fn put_entries_aside(
        &mut self,
        folder: &Folder,
        entries: Vec<Rejected>,
        other: BTreeMap<String, Box<RawValue>>,
    ) -> Taken {
        if entries.is_empty() && other.is_empty() {
            return Taken::All;
        }
        let reason = |key: &String| Reason {
            code: Code::UnknownParameter.as_str(),
            message: format!("nobody knows {} beside \"tasks\"", crate::text::safe(key)),
        };
        let aside = Aside {
            reasons: other.keys().map(reason).collect(),
            entries,
            other,
            ..Aside::default()
        };
        let told = told(&aside);
        self.put_aside(folder, aside, &told)
    }

    fn put_aside(&mut self, folder: &Folder, mut aside: Aside, told: &str) -> Taken {
        aside.rejected_at = crate::clock::rfc3339(self.now_unix_ms);
        let bytes = shape::render(&aside);
        let path = folder.name(QUEUE);
        match folder.put_aside(QUEUE, &bytes, self.now_unix_ms) {
            Ok(to) => {
                let line = format!("{}: {told} was put aside in {}", path.display(), to.display());
                self.synced.problems.push(line);
                Taken::All
            }
            Err(err) => {
                let line = format!(
                    "{}: {told} could not be put aside ({err}), so the file was left as it is",
                    path.display()
                );
                self.synced.problems.push(line);
                Taken::Failed
            }
        }
    }
}

fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(SETTLE_MS));
}

fn is_same_as(first: &Unsettled) -> impl Fn(&Unsettled) -> bool {
    |last| last.digest == first.digest
}

fn in_one_line(raw: &RawValue) -> Box<RawValue> {
    let value: serde_json::Result<Value> = serde_json::from_str(raw.get());
    // What is nested too deeply is kept as its text.
    let value = value.unwrap_or_else(|_| Value::String(raw.get().to_owned()));
    serde_json::value::to_raw_value(&value).unwrap_or_else(|_| raw.to_owned())
}

/// The reasons in one sentence.
fn told(aside: &Aside) -> String {
    let of_entries = aside.entries.iter().flat_map(|entry| {
        let id = crate::text::safe(&entry.task_id);
        entry.reasons.iter().map(move |reason| format!("{id}: {}", reason.message))
    });
    let of_file = aside.reasons.iter().map(|reason| reason.message.clone());
    let all: Vec<String> = of_file.chain(of_entries).collect();
    let mut told = all.iter().take(MAX_REASONS).cloned().collect::<Vec<_>>().join("; ");
    if all.len() > MAX_REASONS {
        told.push_str(&format!("; and {} more", all.len() - MAX_REASONS));
    }
    told.push_str(if aside.entries.len() + aside.other.len() == 1 { ": it" } else { ": this" });
    told
}
