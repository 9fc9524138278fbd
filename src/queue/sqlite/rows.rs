//! From rows to tasks.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::{Outcome, Trouble};
use crate::queue::refusal::{Code, Refusal};
use crate::queue::task::{BatchId, Priority, Task, TaskId, TaskState};

/// A task with what only the store knows of it.
#[derive(Debug)]
pub(super) struct Found {
    pub task: Task,
    pub project: i64,
    pub batch: Option<i64>,
    pub by_dependency: bool,
    /// When it was taken up or ended, as against others.
    pub turn: i64,
}

const SELECT: &str = "SELECT t.seq, t.id, t.state, t.project, t.batch, t.position, t.turn,
    t.by_dependency, t.is_cancelling, t.attempt, t.run, t.spent_usd, t.created_unix_ms,
    t.updated_unix_ms, t.started_unix_ms, t.priority, t.model, t.budget_usd, t.after, t.verify,
    t.description, t.context, p.path, b.id
    FROM tasks t JOIN projects p ON p.no = t.project LEFT JOIN batches b ON b.no = t.batch";

/// The task of that id.
pub(super) fn find(db: &Connection, id: &TaskId) -> Outcome<Option<Found>> {
    one(db, "t.id = ?1", id.as_str())
}

/// The task of that id, which is meant to be there.
pub(super) fn known(db: &Connection, id: &TaskId) -> Outcome<Found> {
    let unknown = || {
        let message = format!("no task has the id {id}; `longhaul task list --all` shows them");
        Refusal::new(Code::UnknownTask, message)
    };
    Ok(find(db, id)?.ok_or_else(unknown)?)
}

/// The task with that number, which somebody just saw.
pub(super) fn at(db: &Connection, seq: i64) -> Outcome<Found> {
    let gone = || Trouble::Damaged(format!("task number {seq} is gone"));
    one(db, "t.seq = ?1", seq)?.ok_or_else(gone)
}

/// Those tasks, in that order.
pub(super) fn all(db: &Connection, seqs: impl IntoIterator<Item = i64>) -> Outcome<Vec<Task>> {
    let mut statement = db.prepare(&format!("{SELECT} WHERE t.seq = ?1"))?;
    let mut tasks = Vec::new();
    for seq in seqs {
        let mut rows = statement.query([seq])?;
        let row = rows.next()?;
        let row = row.ok_or_else(|| Trouble::Damaged(format!("task number {seq} is gone")))?;
        tasks.push(read(row)?.task);
    }
    Ok(tasks)
}

fn one(db: &Connection, condition: &str, key: impl rusqlite::ToSql) -> Outcome<Option<Found>> {
    let mut statement = db.prepare(&format!("{SELECT} WHERE {condition}"))?;
    let mut rows = statement.query([key])?;
    rows.next()?.map(read).transpose()
}

fn read(row: &Row<'_>) -> Outcome<Found> {
    let id: String = row.get(1)?;
    let odd = |what: &str| Trouble::Damaged(format!("{what} of the task {id}"));
    let state: String = row.get(2)?;
    let run: Option<String> = row.get(10)?;
    let priority: String = row.get(15)?;
    let after: String = row.get(18)?;
    let batch_id: Option<String> = row.get(23)?;
    let after = after.split(' ').filter(|id| !id.is_empty()).map(TaskId::parse);
    let task = Task {
        seq: row.get::<_, i64>(0)?.unsigned_abs(),
        id: TaskId::parse(&id).map_err(|_| odd("the id"))?,
        description: row.get(20)?,
        context: row.get(21)?,
        priority: Priority::parse(&priority).map_err(|_| odd("the priority"))?,
        batch_id: batch_id
            .as_deref()
            .map(BatchId::stored)
            .transpose()
            .map_err(|_| odd("the batch"))?,
        batch_position: row.get(5)?,
        project: PathBuf::from(row.get::<_, String>(22)?),
        verify: row.get(19)?,
        after: after.collect::<Result<_, _>>().map_err(|_| odd("what is before it"))?,
        model: row.get(16)?,
        budget_usd: row.get(17)?,
        state: TaskState::parse(&state).ok_or_else(|| odd("the state"))?,
        is_cancelling: row.get(8)?,
        attempt: row.get(9)?,
        run_id: run.as_deref().map(Uuid::parse_str).transpose().map_err(|_| odd("the run"))?,
        spent_usd: row.get(11)?,
        created_unix_ms: row.get(12)?,
        updated_unix_ms: row.get(13)?,
        started_unix_ms: row.get(14)?,
    };
    Ok(Found {
        task,
        project: row.get(3)?,
        batch: row.get(4)?,
        turn: row.get(6)?,
        by_dependency: row.get(7)?,
    })
}

/// The number of a project that has, or had, tasks.
pub(super) fn project(db: &Connection, path: &Path) -> Outcome<Option<i64>> {
    let sql = "SELECT no FROM projects WHERE path = ?1";
    Ok(db.query_row(sql, [path_text(path)?], |row| row.get(0)).optional()?)
}

/// A project's path as text; drafts let no other pass.
pub(super) fn path_text(path: &Path) -> Outcome<&str> {
    let refuse = || {
        let message = format!("the project {} has a name that is not UTF-8", path.display());
        Refusal::new(Code::InvalidProject, message)
    };
    Ok(path.to_str().ok_or_else(refuse)?)
}

/// The numbers that a statement gives in its first column.
pub(super) fn numbers(
    db: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Outcome<Vec<i64>> {
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map(params, |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The next number in the order in which tasks are taken up and end.
pub(super) fn next_turn(db: &Connection) -> Outcome<i64> {
    let sql = "UPDATE meta SET turns = turns + 1 RETURNING turns";
    Ok(db.query_row(sql, [], |row| row.get(0))?)
}
