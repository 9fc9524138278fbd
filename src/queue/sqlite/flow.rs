//! Claiming tasks and giving them back; which task of a batch is next.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::rows::{self, Found};
use super::{Outcome, ends};
use crate::queue::task::{Task, TaskId, TaskState};

/// Ready tasks of busy projects that are passed over one by one; after so many,
/// project after project is asked.
pub(super) const PASSED_OVER_MAX: usize = 1_000;

/// See [`crate::queue::Store::claim`].
pub(super) fn claim(
    db: &Connection,
    now_unix_ms: i64,
    run_id: Uuid,
    busy: &[PathBuf],
    only: Option<&Path>,
) -> Outcome<Option<Task>> {
    let mut busy_projects = HashSet::new();
    for path in busy {
        busy_projects.extend(rows::project(db, path)?);
    }
    let next = match only {
        Some(path) => match rows::project(db, path)? {
            Some(project) if !busy_projects.contains(&project) => first_of_project(db, project)?,
            _ => None,
        },
        None => first_of_all(db, &busy_projects)?,
    };
    let Some((_, _, seq)) = next else { return Ok(None) };
    take(db, now_unix_ms, run_id, seq).map(Some)
}

/// Place, turn and number of a task: the order in which they are claimed.
type Place = (i64, i64, i64);

fn first_of_project(db: &Connection, project: i64) -> Outcome<Option<Place>> {
    let sql = "SELECT place, turn, seq FROM tasks INDEXED BY tasks_ready_of_project
        WHERE state = 'queued' AND waits_for = 0 AND behind = 0 AND project = ?1
        ORDER BY place, turn LIMIT 1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    Ok(db.query_row(sql, [project], read).optional()?)
}

fn first_of_all(db: &Connection, busy: &HashSet<i64>) -> Outcome<Option<Place>> {
    let mut statement = db.prepare(
        "SELECT place, turn, seq, project FROM tasks INDEXED BY tasks_ready
         WHERE state = 'queued' AND waits_for = 0 AND behind = 0 ORDER BY place, turn",
    )?;
    let mut ready = statement.query([])?;
    for _ in 0..PASSED_OVER_MAX {
        let Some(row) = ready.next()? else { return Ok(None) };
        if !busy.contains(&row.get(3)?) {
            return Ok(Some((row.get(0)?, row.get(1)?, row.get(2)?)));
        }
    }
    drop(ready);
    let mut best = None;
    for project in ready_projects(db)?.into_iter().filter(|p| !busy.contains(p)) {
        let first = first_of_project(db, project)?;
        best = best.into_iter().chain(first).min();
    }
    Ok(best)
}

/// Projects with a ready task, found by leaping from one to the next.
fn ready_projects(db: &Connection) -> Outcome<Vec<i64>> {
    let mut statement = db.prepare(
        "SELECT project FROM tasks INDEXED BY tasks_ready_of_project
         WHERE state = 'queued' AND waits_for = 0 AND behind = 0 AND project > ?1
         ORDER BY project LIMIT 1",
    )?;
    let mut found = Vec::new();
    let mut last = i64::MIN;
    while let Some(project) = statement.query_row([last], |row| row.get(0)).optional()? {
        found.push(project);
        last = project;
    }
    Ok(found)
}

fn take(db: &Connection, now_unix_ms: i64, run_id: Uuid, seq: i64) -> Outcome<Task> {
    let turn = rows::next_turn(db)?;
    db.execute(
        "UPDATE tasks SET state = 'in_progress', place = 0, turn = ?2, run = ?3,
         started_unix_ms = coalesce(started_unix_ms, ?4), updated_unix_ms = ?4 WHERE seq = ?1",
        params![seq, turn, run_id.to_string(), now_unix_ms],
    )?;
    Ok(rows::at(db, seq)?.task)
}

/// See [`crate::queue::Store::next_in_batch`].
pub(super) fn next_in_batch(
    db: &Connection,
    now_unix_ms: i64,
    run_id: Uuid,
    current: &TaskId,
) -> Outcome<Option<Task>> {
    let current = rows::known(db, current)?;
    let Some(batch) = current.batch.filter(|_| current.task.run_id == Some(run_id)) else {
        return Ok(None);
    };
    // A task that was queued again is in nobody's hand.
    if current.task.state == TaskState::Queued {
        return Ok(None);
    }
    if let Some(seq) = taken_after(db, batch, run_id, &current)? {
        return Ok(Some(rows::at(db, seq)?.task));
    }
    let sql = "SELECT seq FROM tasks INDEXED BY tasks_open_of_batch
        WHERE batch = ?1 AND state IN ('queued', 'in_progress') AND seq <> ?2 ORDER BY position LIMIT 1";
    let first = db.query_row(sql, params![batch, number(&current)], |row| row.get(0)).optional()?;
    let Some(seq) = first else { return Ok(None) };
    let next = rows::at(db, seq)?;
    let waits_for: i64 =
        db.query_row("SELECT waits_for FROM tasks WHERE seq = ?1", [seq], |row| row.get(0))?;
    let is_free = next.task.state == TaskState::Queued && waits_for == 0;
    if !is_free || next.task.model != current.task.model {
        return Ok(None);
    }
    take(db, now_unix_ms, run_id, seq).map(Some)
}

/// What the run took after `current`, which itself is not settled.
fn taken_after(db: &Connection, batch: i64, run_id: Uuid, current: &Found) -> Outcome<Option<i64>> {
    // An ended task has its turn of the end: whatever the run still has is its next.
    let after = if current.task.state == TaskState::InProgress { current.turn } else { i64::MIN };
    let sql = "SELECT seq FROM tasks INDEXED BY tasks_of_batch
        WHERE batch = ?1 AND state = 'in_progress' AND run = ?2 AND turn > ?3 AND seq <> ?4 ORDER BY turn LIMIT 1";
    let params = params![batch, run_id.to_string(), after, number(current)];
    Ok(db.query_row(sql, params, |row| row.get(0)).optional()?)
}

fn number(found: &Found) -> i64 {
    found.task.seq.cast_signed()
}

/// See [`crate::queue::Store::unclaim`].
pub(super) fn unclaim(db: &Connection, now_unix_ms: i64, run_id: Uuid) -> Outcome<Vec<Task>> {
    let sql = "SELECT seq FROM tasks WHERE state = 'in_progress' AND run = ?1 ORDER BY place, turn";
    let seqs = rows::numbers(db, sql, [run_id.to_string()])?;
    for &seq in &seqs {
        // Begun only if an earlier run had begun.
        db.execute(
            "UPDATE tasks SET started_unix_ms = NULL WHERE seq = ?1 AND NOT EXISTS
             (SELECT 1 FROM spells WHERE task = tasks.seq AND attempt = tasks.attempt)",
            [seq],
        )?;
        release(db, now_unix_ms, seq)?;
    }
    rows::all(db, seqs)
}

/// Puts a task in progress back into the queue, or ends it if that is wanted.
pub(super) fn release(db: &Connection, now_unix_ms: i64, seq: i64) -> Outcome<()> {
    let found = rows::at(db, seq)?;
    if found.task.is_cancelling {
        let end = ends::End { state: TaskState::Cancelled, why: None, by_dependency: false };
        return ends::end(db, now_unix_ms, now_unix_ms, seq, end);
    }
    db.execute(
        "UPDATE tasks SET state = 'queued', place = ?2, turn = seq, updated_unix_ms = ?3
         WHERE seq = ?1",
        params![seq, place(&found.task), now_unix_ms],
    )?;
    Ok(())
}

/// The place of a queued task: the higher its rank, the smaller.
pub(super) fn place(task: &Task) -> i64 {
    -i64::from(task.priority.rank())
}

/// Finds out which task of a batch is the first that is not over, and lets it go ahead.
pub(super) fn refresh_batch(db: &Connection, batch: i64) -> Outcome<()> {
    let head: Option<i64> = db
        .query_row(
            "SELECT seq FROM tasks INDEXED BY tasks_open_of_batch
             WHERE batch = ?1 AND state IN ('queued', 'in_progress') ORDER BY position LIMIT 1",
            [batch],
            |row| row.get(0),
        )
        .optional()?;
    let sql = "SELECT head FROM batches WHERE no = ?1";
    let old: Option<i64> = db.query_row(sql, [batch], |row| row.get(0))?;
    if old != head {
        db.execute(
            "UPDATE tasks SET behind = 1 WHERE seq = ?1 AND batch = ?2 AND behind = 0",
            params![old, batch],
        )?;
        db.execute("UPDATE batches SET head = ?2 WHERE no = ?1", params![batch, head])?;
    }
    db.execute("UPDATE tasks SET behind = 0 WHERE seq = ?1 AND behind <> 0", [head])?;
    Ok(())
}
