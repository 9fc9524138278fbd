//! Adding and editing tasks, and refusing what makes no sense.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use jiff::tz::TimeZone;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::{self, Found};
use super::{Outcome, Trouble, ends, flow};
use crate::queue::order;
use crate::queue::refusal::{Code, Refusal};
use crate::queue::store::Change;
use crate::queue::task::{BatchId, NewTask, Task, TaskId, TaskState};

/// See [`crate::queue::Store::add`].
pub(super) fn add(
    db: &Connection,
    root: &Path,
    now_unix_ms: i64,
    tasks: &[NewTask],
) -> Outcome<Vec<Task>> {
    for (index, task) in tasks.iter().enumerate() {
        if root.starts_with(&task.project) {
            let message = format!(
                "the state directory {} lies in the project {}, where a session could write to it",
                root.display(),
                task.project.display()
            );
            return Err(Refusal::new(Code::InvalidProject, message).at(index).into());
        }
    }
    let ids = ids_of(db, now_unix_ms, tasks)?;
    let place_of: HashMap<&TaskId, usize> = ids.iter().zip(0..).collect();
    check_known(db, tasks, &ids, &place_of)?;
    let mut projects = Vec::with_capacity(tasks.len());
    let mut batches = Vec::with_capacity(tasks.len());
    for (index, task) in tasks.iter().enumerate() {
        let project = project_no(db, &task.project)?;
        projects.push(project);
        let batch = task.batch_id.as_ref().map(|id| batch_no(db, id, project)).transpose();
        batches.push(batch.map_err(|trouble| at(trouble, index))?);
    }
    if let Some(cycle) = order::cycle(tasks, &place_of) {
        let index = cycle.first().copied().unwrap_or_default();
        let names = cycle.iter().map(|&i| ids[i].as_str());
        return Err(cycle_refusal(names).at(index).into());
    }
    let mut seqs = Vec::with_capacity(tasks.len());
    for (((task, id), project), batch) in tasks.iter().zip(&ids).zip(projects).zip(&batches) {
        seqs.push(insert(db, now_unix_ms, id, task, project, *batch)?);
    }
    for (task, &seq) in tasks.iter().zip(&seqs) {
        set_dependencies(db, seq, &task.after)?;
    }
    for batch in batches.iter().flatten().collect::<HashSet<_>>() {
        flow::refresh_batch(db, *batch)?;
    }
    for (task, &seq) in tasks.iter().zip(&seqs) {
        if !task.after.is_empty() && rows::at(db, seq)?.task.state == TaskState::Queued {
            ends::block_if_hopeless(db, now_unix_ms, seq)?;
        }
    }
    rows::all(db, seqs)
}

fn at(trouble: Trouble, index: usize) -> Trouble {
    match trouble {
        Trouble::Refused(refusal) => Trouble::Refused(refusal.at(index)),
        other => other,
    }
}

/// What became of one of several tasks.
type Answer = Result<Task, Refusal>;

/// See [`crate::queue::Store::add_each`].
pub(super) fn add_each(
    db: &Connection,
    root: &Path,
    now_unix_ms: i64,
    tasks: &[NewTask],
) -> Outcome<Vec<Answer>> {
    let mut answers: Vec<Option<Answer>> = vec![None; tasks.len()];
    let ids = tasks.iter().enumerate().filter_map(|(place, task)| Some((task.id.as_ref()?, place)));
    // Of two with one id the first is meant.
    let place_of: HashMap<&TaskId, usize> = ids.rev().collect();
    // Those that wait for an answer about another one, by its place.
    let mut waiting: HashMap<usize, Vec<usize>> = HashMap::new();
    for first in 0..tasks.len() {
        let mut next = BTreeSet::from([first]);
        while let Some(place) = next.pop_first() {
            let task = &tasks[place];
            let named = task.after.iter().filter_map(|id| place_of.get(id).copied());
            let mut open = named.filter(|&at| at != place && answers[at].is_none());
            if let Some(before) = open.next() {
                waiting.entry(before).or_default().push(place);
                continue;
            }
            answers[place] = Some(add_one(db, root, now_unix_ms, task)?);
            next.extend(waiting.remove(&place).into_iter().flatten());
        }
    }
    // Whatever waits still does so in a circle, or for one that does.
    let circular = || {
        let message = "it waits for a task that waits, in the end, for itself";
        Err(Refusal::new(Code::DependencyCycle, message))
    };
    Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(circular)).collect())
}

fn add_one(db: &Connection, root: &Path, now_unix_ms: i64, task: &NewTask) -> Outcome<Answer> {
    db.execute_batch("SAVEPOINT one")?;
    match add(db, root, now_unix_ms, std::slice::from_ref(task)) {
        Ok(added) => {
            db.execute_batch("RELEASE one")?;
            let missing = || Trouble::Damaged("a task that was added is not there".into());
            added.into_iter().next().map(Ok).ok_or_else(missing)
        }
        Err(Trouble::Refused(refusal)) => {
            db.execute_batch("ROLLBACK TO one; RELEASE one")?;
            Ok(Err(refusal))
        }
        Err(other) => Err(other),
    }
}

/// The ids of new tasks, those that were given and those that are made up.
fn ids_of(db: &Connection, now_unix_ms: i64, tasks: &[NewTask]) -> Outcome<Vec<TaskId>> {
    let mut given: HashSet<&TaskId> = HashSet::new();
    for (index, task) in tasks.iter().enumerate() {
        let Some(id) = &task.id else { continue };
        let is_new = given.insert(id);
        if !is_new || number_of(db, id)?.is_some() {
            let message =
                format!("there is a task {id} already; every task needs an id of its own");
            return Err(Refusal::new(Code::TaskExists, message).at(index).into());
        }
    }
    if given.len() == tasks.len() {
        return Ok(tasks.iter().filter_map(|task| task.id.clone()).collect());
    }
    let stamp = crate::text::local(now_unix_ms, &TimeZone::system(), "task_%Y%m%d_%H%M%S");
    let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
    let (last, stamped) = db.query_row("SELECT stamp, stamped FROM meta", [], read)?;
    let mut n = if last == stamp { stamped } else { 0 };
    let mut ids = Vec::with_capacity(tasks.len());
    for task in tasks {
        if let Some(id) = &task.id {
            ids.push(id.clone());
            continue;
        }
        ids.push(loop {
            n += 1;
            let id = TaskId::parse(&format!("{stamp}_{n}"))?;
            if !given.contains(&id) && number_of(db, &id)?.is_none() {
                break id;
            }
        });
    }
    db.execute("UPDATE meta SET stamp = ?1, stamped = ?2", params![stamp, n])?;
    Ok(ids)
}

fn number_of(db: &Connection, id: &TaskId) -> Outcome<Option<i64>> {
    let sql = "SELECT seq FROM tasks WHERE id = ?1";
    Ok(db.query_row(sql, [id.as_str()], |row| row.get(0)).optional()?)
}

fn check_known(
    db: &Connection,
    tasks: &[NewTask],
    ids: &[TaskId],
    place_of: &HashMap<&TaskId, usize>,
) -> Outcome<()> {
    for (index, (task, id)) in tasks.iter().zip(ids).enumerate() {
        for before in &task.after {
            if before != id && !place_of.contains_key(before) && number_of(db, before)?.is_none() {
                return Err(unknown_dependency(id, before).at(index).into());
            }
        }
    }
    Ok(())
}

fn unknown_dependency(id: &TaskId, before: &TaskId) -> Refusal {
    let message = format!("the task {id} waits for {before}, and no task has that id");
    Refusal::new(Code::UnknownDependency, message)
}

fn cycle_refusal<'a>(names: impl Iterator<Item = &'a str>) -> Refusal {
    /// More names would help nobody.
    const NAMES_MAX: usize = 10;
    let names: Vec<&str> = names.collect();
    let mut shown = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>();
    if names.len() > NAMES_MAX {
        shown.push("…");
    }
    shown.extend(names.first());
    let message = format!(
        "these tasks would wait for each other, counting that a task of a batch waits for those \
         before it: {}",
        shown.join(" -> ")
    );
    Refusal::new(Code::DependencyCycle, message)
}

fn project_no(db: &Connection, path: &Path) -> Outcome<i64> {
    if let Some(no) = rows::project(db, path)? {
        return Ok(no);
    }
    let sql = "INSERT INTO projects (path) VALUES (?1)";
    db.execute(sql, [rows::path_text(path)?])?;
    Ok(db.last_insert_rowid())
}

/// See [`crate::queue::Store::has_batch`].
pub(super) fn has_batch(db: &Connection, id: &BatchId) -> Outcome<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM batches WHERE id = ?1)";
    Ok(db.query_row(sql, [id.as_str()], |row| row.get(0))?)
}

/// The number of a batch, which is made if it is new.
fn batch_no(db: &Connection, id: &BatchId, project: i64) -> Outcome<i64> {
    let sql = "SELECT b.no, b.project, p.path FROM batches b JOIN projects p ON p.no = b.project
        WHERE b.id = ?1";
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?));
    match db.query_row(sql, [id.as_str()], read).optional()? {
        Some((no, of, _)) if of == project => Ok(no),
        Some((_, _, path)) => {
            let path = crate::text::quoted(&path);
            let message =
                format!("the batch {id} belongs to the project {path}, and has one alone");
            Err(Refusal::new(Code::BatchProject, message).into())
        }
        None => {
            let sql = "INSERT INTO batches (id, project, positions) VALUES (?1, ?2, 0)";
            db.execute(sql, params![id.as_str(), project])?;
            Ok(db.last_insert_rowid())
        }
    }
}

fn next_position(db: &Connection, batch: i64) -> Outcome<i64> {
    let sql = "UPDATE batches SET positions = positions + 1 WHERE no = ?1 RETURNING positions";
    Ok(db.query_row(sql, [batch], |row| row.get(0))?)
}

fn insert(
    db: &Connection,
    now_unix_ms: i64,
    id: &TaskId,
    task: &NewTask,
    project: i64,
    batch: Option<i64>,
) -> Outcome<i64> {
    let position = batch.map(|batch| next_position(db, batch)).transpose()?;
    let sql = "INSERT INTO tasks (id, state, project, batch, position, place, turn, waits_for,
        behind, created_unix_ms, updated_unix_ms, priority, model, budget_usd, after, verify,
        description, context)
        VALUES (?1, 'queued', ?2, ?3, ?4, ?5, (SELECT coalesce(max(seq), 0) + 1 FROM tasks), 0,
        ?6, ?7, ?7, ?8, ?9, ?10, '', ?11, ?12, ?13)";
    db.execute(
        sql,
        params![
            id.as_str(),
            project,
            batch,
            position,
            -i64::from(task.priority.rank()),
            batch.is_some(),
            now_unix_ms,
            task.priority.to_string(),
            task.model,
            task.budget_usd,
            task.verify,
            task.description,
            task.context,
        ],
    )?;
    Ok(db.last_insert_rowid())
}

/// Writes down what `seq` waits for; all of it is known.
fn set_dependencies(db: &Connection, seq: i64, after: &[TaskId]) -> Outcome<()> {
    if after.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO dependencies (task, place, after)
        SELECT ?1, ?2, seq FROM tasks WHERE id = ?3";
    let mut statement = db.prepare(sql)?;
    for (id, place) in after.iter().zip(1_i64..) {
        statement.execute(params![seq, place, id.as_str()])?;
    }
    let words: Vec<&str> = after.iter().map(TaskId::as_str).collect();
    db.execute(
        "UPDATE tasks SET after = ?2, waits_for = (SELECT count(*) FROM dependencies d
            CROSS JOIN tasks b ON b.seq = d.after WHERE d.task = tasks.seq AND b.state <> 'done')
         WHERE seq = ?1",
        params![seq, words.join(" ")],
    )?;
    Ok(())
}

/// See [`crate::queue::Store::edit`].
pub(super) fn edit(
    db: &Connection,
    now_unix_ms: i64,
    id: &TaskId,
    change: &Change,
) -> Outcome<Task> {
    let found = rows::known(db, id)?;
    let seq = found.task.seq.cast_signed();
    match found.task.state {
        TaskState::Queued | TaskState::Blocked => {}
        state @ (TaskState::InProgress
        | TaskState::Done
        | TaskState::Error
        | TaskState::Cancelled) => {
            let message = format!(
                "the task {id} is {}; only one that is queued or blocked can be changed",
                state.as_str()
            );
            return Err(Refusal::new(Code::WrongState, message).into());
        }
    }
    edit_fields(db, &found, change)?;
    let is_moved = match &change.batch_id {
        Some(batch) => edit_batch(db, &found, batch.as_ref())?,
        None => false,
    };
    if let Some(after) = &change.after {
        edit_after(db, &found, after)?;
    }
    if (is_moved || change.after.is_some())
        && is_waited_for(db, seq)?
        && let Some(cycle) = order::cycle_through(seq, |task| undone_before(db, task))?
    {
        let names = rows::all(db, cycle)?;
        return Err(cycle_refusal(names.iter().map(|task| task.id.as_str())).into());
    }
    db.execute("UPDATE tasks SET updated_unix_ms = ?2 WHERE seq = ?1", params![seq, now_unix_ms])?;
    if found.task.state == TaskState::Queued {
        ends::block_if_hopeless(db, now_unix_ms, seq)?;
    }
    Ok(rows::at(db, seq)?.task)
}

fn edit_fields(db: &Connection, found: &Found, change: &Change) -> Outcome<()> {
    let seq = found.task.seq.cast_signed();
    if let Some(text) = &change.description {
        db.execute("UPDATE tasks SET description = ?2 WHERE seq = ?1", params![seq, text])?;
    }
    if let Some(text) = &change.context {
        db.execute("UPDATE tasks SET context = ?2 WHERE seq = ?1", params![seq, text])?;
    }
    if let Some(text) = &change.verify {
        db.execute("UPDATE tasks SET verify = ?2 WHERE seq = ?1", params![seq, text])?;
    }
    if let Some(name) = &change.model {
        db.execute("UPDATE tasks SET model = ?2 WHERE seq = ?1", params![seq, name])?;
    }
    if let Some(usd) = change.budget_usd {
        db.execute("UPDATE tasks SET budget_usd = ?2 WHERE seq = ?1", params![seq, usd])?;
    }
    if let Some(priority) = change.priority {
        // A blocked task gets its place when it is queued again.
        db.execute(
            "UPDATE tasks SET priority = ?2, place = iif(state = 'queued', ?3, place)
             WHERE seq = ?1",
            params![seq, priority.to_string(), -i64::from(priority.rank())],
        )?;
    }
    Ok(())
}

/// Moves a task to the end of another batch, or out of its own; false if it is there.
fn edit_batch(db: &Connection, found: &Found, batch: Option<&BatchId>) -> Outcome<bool> {
    if batch == found.task.batch_id.as_ref() {
        return Ok(false);
    }
    let seq = found.task.seq.cast_signed();
    let batch = batch.map(|id| batch_no(db, id, found.project)).transpose()?;
    let position = batch.map(|batch| next_position(db, batch)).transpose()?;
    db.execute(
        "UPDATE tasks SET batch = ?2, position = ?3, behind = ?4 WHERE seq = ?1",
        params![seq, batch, position, batch.is_some()],
    )?;
    for batch in [found.batch, batch].into_iter().flatten() {
        flow::refresh_batch(db, batch)?;
    }
    Ok(true)
}

fn edit_after(db: &Connection, found: &Found, after: &[TaskId]) -> Outcome<()> {
    let seq = found.task.seq.cast_signed();
    for before in after {
        if number_of(db, before)?.is_none() {
            return Err(unknown_dependency(&found.task.id, before).into());
        }
    }
    db.execute("DELETE FROM dependencies WHERE task = ?1", [seq])?;
    db.execute("UPDATE tasks SET after = '', waits_for = 0 WHERE seq = ?1", [seq])?;
    set_dependencies(db, seq, after)
}

/// Could a task be part of a circle? Most are waited for by nobody.
fn is_waited_for(db: &Connection, seq: i64) -> Outcome<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM dependencies WHERE after = ?1) OR EXISTS
        (SELECT 1 FROM tasks t JOIN tasks n ON n.batch = t.batch AND n.position > t.position
            AND n.batch IS NOT NULL AND n.state <> 'done' WHERE t.seq = ?1)";
    Ok(db.query_row(sql, [seq], |row| row.get(0))?)
}

/// What a task has to wait for: what it names, and the one before it in its batch.
/// What is done never stands in the way; anything else may once more.
fn undone_before(db: &Connection, seq: i64) -> Outcome<Vec<i64>> {
    let sql = "SELECT b.seq FROM dependencies d CROSS JOIN tasks b ON b.seq = d.after
        WHERE d.task = ?1 AND b.state <> 'done' ORDER BY d.place";
    let mut before = rows::numbers(db, sql, [seq])?;
    let sql = "SELECT p.seq FROM tasks t JOIN tasks p ON p.batch = t.batch
        AND p.position < t.position AND p.batch IS NOT NULL AND p.state <> 'done'
        WHERE t.seq = ?1 ORDER BY p.position DESC LIMIT 1";
    before.extend(rows::numbers(db, sql, [seq])?);
    Ok(before)
}
