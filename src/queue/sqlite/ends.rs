//! How tasks end and begin anew, and what that means for those that wait for them.

use std::collections::VecDeque;

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{self, Found};
use super::{Outcome, Trouble, flow, lists};
use crate::queue::outcome;
use crate::queue::refusal::{Code, Refusal};
use crate::queue::store::{Spell, SpellEnd};
use crate::queue::task::{Task, TaskId, TaskResult, TaskState};

/// A task that is blocked through others is followed at most so far to the first
/// of them.
const ROOT_STEPS_MAX: usize = 100;

/// How a task ends.
pub(super) struct End {
    pub state: TaskState,
    /// What stands among the errors besides what the runs said.
    pub why: Option<String>,
    pub by_dependency: bool,
}

/// Ends the attempt at a task with its one result, and blocks or lets go those that
/// wait for it.
pub(super) fn end(
    db: &Connection,
    now_unix_ms: i64,
    ended_unix_ms: i64,
    seq: i64,
    end: End,
) -> Outcome<()> {
    let is_done = end.state == TaskState::Done;
    end_alone(db, now_unix_ms, ended_unix_ms, seq, end)?;
    if is_done {
        // The plus keeps SQLite from walking over all that is queued.
        db.execute(
            "UPDATE tasks SET waits_for = (SELECT count(*) FROM dependencies d
                CROSS JOIN tasks b ON b.seq = d.after WHERE d.task = tasks.seq AND b.state <> 'done')
             WHERE +state = 'queued' AND seq IN (SELECT task FROM dependencies WHERE after = ?1)",
            [seq],
        )?;
        return Ok(());
    }
    block_dependents(db, now_unix_ms, seq)
}

fn end_alone(
    db: &Connection,
    now_unix_ms: i64,
    ended_unix_ms: i64,
    seq: i64,
    end: End,
) -> Outcome<()> {
    let found = rows::at(db, seq)?;
    let task = &found.task;
    let spells = spells_of(db, seq, task.attempt)?;
    let result = outcome::result_of(task, &spells, end.state, ended_unix_ms, end.why.as_deref());
    db.execute(
        "INSERT INTO results (task, attempt, project, batch, ended_unix_ms, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![seq, task.attempt, found.project, found.batch, ended_unix_ms, json(&result)?],
    )?;
    db.execute(
        "UPDATE spells SET body = NULL WHERE task = ?1 AND attempt = ?2",
        params![seq, task.attempt],
    )?;
    let turn = rows::next_turn(db)?;
    db.execute(
        "UPDATE tasks SET state = ?2, place = 0, turn = ?3, by_dependency = ?4,
         is_cancelling = 0, updated_unix_ms = ?5 WHERE seq = ?1",
        params![seq, end.state.as_str(), -turn, end.by_dependency, now_unix_ms],
    )?;
    found.batch.map_or(Ok(()), |batch| flow::refresh_batch(db, batch))
}

fn json<T: serde::Serialize>(value: &T) -> Outcome<String> {
    serde_json::to_string(value).map_err(|err| Trouble::Damaged(err.to_string()))
}

fn spells_of(db: &Connection, seq: i64, attempt: u32) -> Outcome<Vec<Spell>> {
    let sql = "SELECT body FROM spells WHERE task = ?1 AND attempt = ?2 AND body IS NOT NULL
        ORDER BY no";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query(params![seq, attempt])?;
    let mut spells = Vec::new();
    while let Some(row) = rows.next()? {
        let body: String = row.get(0)?;
        let spell = serde_json::from_str(&body)
            .map_err(|err| Trouble::Damaged(format!("a spell of task number {seq}: {err}")))?;
        spells.push(spell);
    }
    Ok(spells)
}

/// See [`crate::queue::Store::unpriced_usd`].
pub(super) fn unpriced_usd(db: &Connection, id: &TaskId) -> Outcome<f64> {
    let task = rows::known(db, id)?.task;
    let spells = spells_of(db, task.seq.cast_signed(), task.attempt)?;
    Ok(spells.iter().fold(0.0, |sum, spell| sum + spell.unpriced_usd))
}

/// Blocks those queued tasks that wait for `culprit`, and those that wait for them.
fn block_dependents(db: &Connection, now_unix_ms: i64, culprit: i64) -> Outcome<()> {
    let sql = "SELECT t.seq FROM dependencies d CROSS JOIN tasks t ON t.seq = d.task
        WHERE d.after = ?1 AND t.state = 'queued' ORDER BY t.seq";
    if rows::numbers(db, sql, [culprit])?.is_empty() {
        return Ok(());
    }
    let root = root_of(db, rows::at(db, culprit)?)?.task;
    let mut open = VecDeque::from([culprit]);
    while let Some(seq) = open.pop_front() {
        let waiting = rows::numbers(db, sql, [seq])?;
        if waiting.is_empty() {
            continue;
        }
        let direct = rows::at(db, seq)?.task;
        let why = outcome::dependency_error(direct.id.as_str(), root.id.as_str(), root.state);
        for task in waiting {
            let end =
                End { state: TaskState::Blocked, why: Some(why.clone()), by_dependency: true };
            end_alone(db, now_unix_ms, now_unix_ms, task, end)?;
            open.push_back(task);
        }
    }
    Ok(())
}

/// The first thing a task waits for that is over and not done.
fn failed_dependency(db: &Connection, seq: i64) -> Outcome<Option<Found>> {
    let sql = "SELECT b.seq FROM dependencies d CROSS JOIN tasks b ON b.seq = d.after
        WHERE d.task = ?1 AND b.state IN ('error', 'cancelled', 'blocked')
        ORDER BY d.place LIMIT 1";
    let failed = db.query_row(sql, [seq], |row| row.get(0)).optional()?;
    failed.map(|seq| rows::at(db, seq)).transpose()
}

/// Whose end blocked `found`, if it was not its own.
fn root_of(db: &Connection, mut found: Found) -> Outcome<Found> {
    for _ in 0..ROOT_STEPS_MAX {
        if !found.by_dependency {
            break;
        }
        match failed_dependency(db, found.task.seq.cast_signed())? {
            Some(next) => found = next,
            None => break,
        }
    }
    Ok(found)
}

/// Blocks a queued task at once if something it waits for is over and not done.
pub(super) fn block_if_hopeless(db: &Connection, now_unix_ms: i64, seq: i64) -> Outcome<()> {
    let Some(direct) = failed_dependency(db, seq)? else { return Ok(()) };
    let direct_id = direct.task.id.clone();
    let root = root_of(db, direct)?.task;
    let why = outcome::dependency_error(direct_id.as_str(), root.id.as_str(), root.state);
    let this = End { state: TaskState::Blocked, why: Some(why), by_dependency: true };
    end(db, now_unix_ms, now_unix_ms, seq, this)
}

/// See [`crate::queue::Store::cancel`].
pub(super) fn cancel(db: &Connection, now_unix_ms: i64, id: &TaskId) -> Outcome<Task> {
    let found = rows::known(db, id)?;
    let seq = found.task.seq.cast_signed();
    let cancelled = || End { state: TaskState::Cancelled, why: None, by_dependency: false };
    match found.task.state {
        TaskState::Done | TaskState::Error => {
            let message = format!("the task {id} is over ({})", found.task.state.as_str());
            return Err(Refusal::new(Code::WrongState, message).into());
        }
        TaskState::Cancelled => {}
        TaskState::InProgress if found.task.is_cancelling => {}
        TaskState::InProgress => {
            db.execute(
                "UPDATE tasks SET is_cancelling = 1, updated_unix_ms = ?2 WHERE seq = ?1",
                params![seq, now_unix_ms],
            )?;
        }
        TaskState::Queued => end(db, now_unix_ms, now_unix_ms, seq, cancelled())?,
        TaskState::Blocked => {
            // The attempt that is blocked has its result; the cancelling is another one.
            begin_attempt(db, seq)?;
            end(db, now_unix_ms, now_unix_ms, seq, cancelled())?;
        }
    }
    Ok(rows::at(db, seq)?.task)
}

fn begin_attempt(db: &Connection, seq: i64) -> Outcome<()> {
    db.execute(
        "UPDATE tasks SET attempt = attempt + 1, spent_usd = 0, started_unix_ms = NULL
         WHERE seq = ?1",
        [seq],
    )?;
    Ok(())
}

/// See [`crate::queue::Store::retry`].
pub(super) fn retry(db: &Connection, now_unix_ms: i64, id: &TaskId) -> Outcome<Task> {
    let found = rows::known(db, id)?;
    let seq = found.task.seq.cast_signed();
    match found.task.state {
        TaskState::Error | TaskState::Cancelled | TaskState::Blocked => {}
        state @ (TaskState::Queued | TaskState::InProgress | TaskState::Done) => {
            let message = format!(
                "the task {id} is {}; only one that ended in error, blocked or cancelled can be \
                 tried once more",
                state.as_str()
            );
            return Err(Refusal::new(Code::WrongState, message).into());
        }
    }
    if let Some(failed) = failed_dependency(db, seq)? {
        let message = format!(
            "the task {id} waits for {}, which is {}; retry that one first, or take it out of \
             --after",
            failed.task.id,
            failed.task.state.as_str()
        );
        return Err(Refusal::new(Code::WrongState, message).into());
    }
    let mut open = VecDeque::from([seq]);
    while let Some(seq) = open.pop_front() {
        requeue(db, now_unix_ms, seq)?;
        let sql = "SELECT t.seq FROM dependencies d CROSS JOIN tasks t ON t.seq = d.task
            WHERE d.after = ?1 AND t.state = 'blocked' AND t.by_dependency = 1 ORDER BY t.seq";
        for waiting in rows::numbers(db, sql, [seq])? {
            if failed_dependency(db, waiting)?.is_none() {
                open.push_back(waiting);
            }
        }
    }
    Ok(rows::at(db, seq)?.task)
}

fn requeue(db: &Connection, now_unix_ms: i64, seq: i64) -> Outcome<()> {
    let found = rows::at(db, seq)?;
    // Two of those it waits for may have called it.
    if found.task.state == TaskState::Queued {
        return Ok(());
    }
    begin_attempt(db, seq)?;
    db.execute(
        "UPDATE tasks SET state = 'queued', place = ?2, turn = seq, by_dependency = 0,
         behind = ?3, updated_unix_ms = ?4,
         waits_for = (SELECT count(*) FROM dependencies d CROSS JOIN tasks b ON b.seq = d.after
             WHERE d.task = tasks.seq AND b.state <> 'done') WHERE seq = ?1",
        params![seq, flow::place(&found.task), found.batch.is_some(), now_unix_ms],
    )?;
    found.batch.map_or(Ok(()), |batch| flow::refresh_batch(db, batch))
}

/// See [`crate::queue::Store::settle`].
pub(super) fn settle(
    db: &Connection,
    now_unix_ms: i64,
    spell: &Spell,
) -> Outcome<Option<TaskResult>> {
    let found = rows::known(db, &spell.task_id)?;
    let (task, seq) = (&found.task, found.task.seq.cast_signed());
    let is_at_work = task.state == TaskState::InProgress
        && task.run_id == Some(spell.run_id)
        && task.attempt == spell.attempt;
    if is_at_work && book(db, seq, spell)? {
        let end_with = |state| End { state, why: None, by_dependency: false };
        let state = match spell.end {
            SpellEnd::Done => TaskState::Done,
            SpellEnd::Error { .. } => TaskState::Error,
            SpellEnd::Blocked { .. } => TaskState::Blocked,
            SpellEnd::Released { .. } if task.is_cancelling => TaskState::Cancelled,
            SpellEnd::Released { .. } => {
                flow::release(db, now_unix_ms, seq)?;
                return Ok(None);
            }
        };
        end(db, now_unix_ms, spell.ended_unix_ms, seq, end_with(state))?;
    }
    lists::result_of_attempt(db, seq, spell.attempt)
}

/// Writes a spell down; false if it was before.
fn book(db: &Connection, seq: i64, spell: &Spell) -> Outcome<bool> {
    let mut spell = spell.clone();
    for usd in [&mut spell.cost_usd, &mut spell.unpriced_usd] {
        if !usd.is_finite() {
            *usd = 0.0;
        }
    }
    let count = db.execute(
        "INSERT INTO spells (task, attempt, run, started_unix_ms, ended_unix_ms, cost_usd, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
        params![
            seq,
            spell.attempt,
            spell.run_id.to_string(),
            spell.started_unix_ms,
            spell.ended_unix_ms,
            spell.cost_usd + spell.unpriced_usd,
            json(&spell)?
        ],
    )?;
    if count == 0 {
        return Ok(false);
    }
    db.execute(
        "UPDATE tasks SET spent_usd = spent_usd + ?2,
         started_unix_ms = min(started_unix_ms, ?3) WHERE seq = ?1",
        params![seq, spell.cost_usd, spell.started_unix_ms],
    )?;
    Ok(true)
}
