//! Many at once: tasks, counts, results, and the archive.

use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Outcome, Trouble, rows};
use crate::queue::store::{Counts, Filter, ResultFilter, Taken};
use crate::queue::task::{BatchId, Task, TaskId, TaskResult, TaskState};

/// A task's place in a list: what is at work, what waits, what is over; then its
/// place within.
type Key = (u8, i64, i64, i64);

/// See [`crate::queue::Store::list`].
pub(super) fn list(db: &Connection, filter: &Filter) -> Outcome<Vec<Task>> {
    let Some((condition, of)) = owner(db, filter)? else { return Ok(Vec::new()) };
    let (limit, offset) = (filter.limit as usize, filter.offset as usize);
    // So many of each state are enough, however they mix.
    let enough = i64::from(filter.limit) + i64::from(filter.offset);
    let sql = format!(
        "SELECT place, turn, seq FROM tasks WHERE state = ?1 {condition}
         ORDER BY place, turn LIMIT ?2"
    );
    let mut statement = db.prepare(&sql)?;
    let mut keys: Vec<Key> = Vec::new();
    for state in TaskState::ALL {
        if !filter.states.is_empty() && !filter.states.contains(&state) {
            continue;
        }
        let mut bound = vec![Value::from(state.as_str().to_owned()), Value::from(enough)];
        bound.extend(of.map(Value::from));
        let mut found = statement.query(rusqlite::params_from_iter(bound))?;
        while let Some(row) = found.next()? {
            keys.push((group(state), row.get(0)?, row.get(1)?, row.get(2)?));
        }
    }
    keys.sort_unstable();
    rows::all(db, keys.into_iter().skip(offset).take(limit).map(|key| key.3))
}

fn group(state: TaskState) -> u8 {
    match state {
        TaskState::InProgress => 0,
        TaskState::Queued => 1,
        TaskState::Done | TaskState::Error | TaskState::Cancelled | TaskState::Blocked => 2,
    }
}

/// Whose tasks a list is about, as a condition with its number; `None`: nobody's.
fn owner(db: &Connection, filter: &Filter) -> Outcome<Option<(&'static str, Option<i64>)>> {
    let project = match &filter.project {
        Some(path) => match rows::project(db, path)? {
            Some(project) => Some(project),
            None => return Ok(None),
        },
        None => None,
    };
    let Some(batch_id) = &filter.batch_id else {
        return Ok(Some(project.map_or(("", None), |no| ("AND project = ?3", Some(no)))));
    };
    let sql = "SELECT no, project FROM batches WHERE id = ?1";
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let batch = db.query_row(sql, [batch_id.as_str()], read).optional()?;
    // A batch has one project.
    let batch = batch.filter(|(_, of)| project.is_none_or(|project| project == *of));
    Ok(batch.map(|(no, _)| ("AND batch = ?3", Some(no))))
}

/// See [`crate::queue::Store::recent`].
pub(super) fn recent(db: &rusqlite::Transaction<'_>, limit: u32) -> Outcome<Vec<Task>> {
    let seqs = rows::numbers(db, "SELECT seq FROM tasks ORDER BY seq DESC LIMIT ?1", [limit])?;
    rows::all(db, seqs)
}

/// See [`crate::queue::Store::projects`].
pub(super) fn projects(db: &rusqlite::Transaction<'_>) -> Outcome<Vec<PathBuf>> {
    let mut statement = db.prepare("SELECT path FROM projects ORDER BY no")?;
    let paths = statement.query_map([], |row| Ok(PathBuf::from(row.get::<_, String>(0)?)))?;
    Ok(paths.collect::<Result<_, _>>()?)
}

/// See [`crate::queue::Store::count_tasks`].
pub(super) fn count_tasks(db: &Connection, filter: &Filter) -> Outcome<u64> {
    let Some((condition, of)) = owner(db, filter)? else { return Ok(0) };
    // A state comes first in each index, and the condition is its third parameter.
    let sql = format!("SELECT count(*) FROM tasks WHERE state = ?1 AND ?2 IS NULL {condition}");
    let mut statement = db.prepare(&sql)?;
    let mut total = 0;
    for state in TaskState::ALL {
        if filter.states.is_empty() || filter.states.contains(&state) {
            let mut bound = vec![Value::from(state.as_str().to_owned()), Value::Null];
            bound.extend(of.map(Value::from));
            let bound = rusqlite::params_from_iter(bound);
            total += statement.query_row(bound, |row| row.get::<_, i64>(0))?.unsigned_abs();
        }
    }
    Ok(total)
}

/// See [`crate::queue::Store::in_progress`].
pub(super) fn in_progress(db: &rusqlite::Transaction<'_>) -> Outcome<Vec<Task>> {
    let sql = "SELECT seq FROM tasks WHERE state = 'in_progress' ORDER BY place, turn";
    let seqs = rows::numbers(db, sql, [])?;
    rows::all(db, seqs)
}

/// See [`crate::queue::Store::counts`].
pub(super) fn counts(db: &Connection, project: Option<&Path>) -> Outcome<Counts> {
    let of = match project {
        Some(path) => Some(rows::project(db, path)?.unwrap_or(-1)),
        None => None,
    };
    let sql = "SELECT state, sum(n) FROM counts WHERE ?1 IS NULL OR project = ?1 GROUP BY state";
    let mut statement = db.prepare(sql)?;
    let mut found = statement.query([of])?;
    let mut counts = Counts::default();
    while let Some(row) = found.next()? {
        let (state, n): (String, i64) = (row.get(0)?, row.get(1)?);
        let n = n.unsigned_abs();
        match TaskState::parse(&state) {
            Some(TaskState::Queued) => counts.queued = n,
            Some(TaskState::InProgress) => counts.in_progress = n,
            Some(TaskState::Done) => counts.done = n,
            Some(TaskState::Error) => counts.error = n,
            Some(TaskState::Cancelled) => counts.cancelled = n,
            Some(TaskState::Blocked) => counts.blocked = n,
            None => counts.ready = n,
        }
    }
    Ok(counts)
}

fn parsed(body: &str) -> Outcome<TaskResult> {
    serde_json::from_str(body).map_err(|err| Trouble::Damaged(format!("a result: {err}")))
}

/// See [`crate::queue::Store::result`].
pub(super) fn result(db: &Connection, id: &TaskId) -> Outcome<Option<TaskResult>> {
    let sql = "SELECT r.body FROM tasks t JOIN results r ON r.task = t.seq WHERE t.id = ?1
        ORDER BY r.attempt DESC LIMIT 1";
    let body: Option<String> = db.query_row(sql, [id.as_str()], |row| row.get(0)).optional()?;
    body.as_deref().map(parsed).transpose()
}

/// The result of one attempt.
pub(super) fn result_of_attempt(
    db: &Connection,
    seq: i64,
    attempt: u32,
) -> Outcome<Option<TaskResult>> {
    let sql = "SELECT body FROM results WHERE task = ?1 AND attempt = ?2";
    let body: Option<String> =
        db.query_row(sql, params![seq, attempt], |row| row.get(0)).optional()?;
    body.as_deref().map(parsed).transpose()
}

/// Which results, as a condition with its parameters; `None`: none at all.
fn chosen(db: &Connection, filter: &ResultFilter) -> Outcome<Option<(String, Vec<Value>)>> {
    let (mut condition, mut bound) = (String::from("1 = 1"), Vec::new());
    if let Some(path) = &filter.project {
        let Some(project) = rows::project(db, path)? else { return Ok(None) };
        condition.push_str(" AND project = ?");
        bound.push(project.into());
    }
    if let Some(batch) = &filter.batch_id {
        condition.push_str(" AND batch = (SELECT no FROM batches WHERE id = ?)");
        bound.push(batch.as_str().to_owned().into());
    }
    if let Some(archived) = filter.archived {
        condition.push_str(" AND archived = ?");
        bound.push(i64::from(archived).into());
    }
    Ok(Some((condition, bound)))
}

/// See [`crate::queue::Store::results`].
pub(super) fn results(db: &Connection, filter: &ResultFilter) -> Outcome<Vec<TaskResult>> {
    let Some((condition, mut bound)) = chosen(db, filter)? else { return Ok(Vec::new()) };
    let sql =
        format!("SELECT body FROM results WHERE {condition} ORDER BY no DESC LIMIT ? OFFSET ?");
    bound.extend([i64::from(filter.limit).into(), i64::from(filter.offset).into()]);
    let mut statement = db.prepare(&sql)?;
    let mut found = statement.query(rusqlite::params_from_iter(bound))?;
    let mut results = Vec::new();
    while let Some(row) = found.next()? {
        results.push(parsed(&row.get::<_, String>(0)?)?);
    }
    results.reverse();
    Ok(results)
}

/// See [`crate::queue::Store::count_results`].
pub(super) fn count_results(db: &Connection, filter: &ResultFilter) -> Outcome<u64> {
    let Some((condition, bound)) = chosen(db, filter)? else { return Ok(0) };
    let sql = format!("SELECT count(*) FROM results WHERE {condition}");
    let bound = rusqlite::params_from_iter(bound);
    Ok(db.query_row(&sql, bound, |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// See [`crate::queue::Store::archive`].
pub(super) fn archive(
    db: &Connection,
    project: &Path,
    before_unix_ms: i64,
    keep_recent: u32,
) -> Outcome<u64> {
    let Some(project) = rows::project(db, project)? else { return Ok(0) };
    // The oldest of those that stay in any case.
    let oldest_kept: Option<i64> = match keep_recent.checked_sub(1) {
        None => Some(i64::MAX),
        Some(newer) => db
            .query_row(
                "SELECT no FROM results WHERE project = ?1 ORDER BY no DESC LIMIT 1 OFFSET ?2",
                params![project, newer],
                |row| row.get(0),
            )
            .optional()?,
    };
    let Some(oldest_kept) = oldest_kept else { return Ok(0) };
    let moved = db.execute(
        "UPDATE results SET archived = 1
         WHERE project = ?1 AND archived = 0 AND ended_unix_ms < ?2 AND no < ?3",
        params![project, before_unix_ms, oldest_kept],
    )?;
    Ok(moved as u64)
}

/// See [`crate::queue::Store::taken`].
pub(super) fn taken(db: &Connection) -> Outcome<Vec<Taken>> {
    // What a task in progress did before its last spell ended is in its spells.
    let sql = "
        SELECT spells.started_unix_ms AS since, spells.run, tasks.id, batches.id, tasks.seq
        FROM spells CROSS JOIN tasks ON tasks.seq = spells.task
        LEFT JOIN batches ON batches.no = tasks.batch
        UNION ALL
        SELECT max(coalesce(started_unix_ms, created_unix_ms), coalesce(
            (SELECT max(ended_unix_ms) FROM spells WHERE spells.task = tasks.seq), 0)),
            run, tasks.id, batches.id, seq
        FROM tasks LEFT JOIN batches ON batches.no = tasks.batch
        WHERE state = 'in_progress'
        ORDER BY since, seq";
    let mut all = db.prepare(sql)?;
    let mut all = all.query([])?;
    let mut taken = Vec::new();
    while let Some(row) = all.next()? {
        let (run, id): (String, String) = (row.get(1)?, row.get(2)?);
        let batch: Option<String> = row.get(3)?;
        let damaged = || Trouble::Damaged(format!("the run {run} of the task {id} is none"));
        let batch = batch.map(|batch| BatchId::parse(&batch)).transpose();
        taken.push(Taken {
            from_unix_ms: row.get(0)?,
            run_id: run.parse().map_err(|_| damaged())?,
            task_id: TaskId::parse(&id).map_err(|_| damaged())?,
            batch_id: batch.map_err(|_| damaged())?,
        });
    }
    Ok(taken)
}
