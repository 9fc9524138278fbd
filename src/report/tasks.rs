//! The tasks of the queue in a run's report: what each added, and what it saved
//! that they shared their sessions.

use serde::Serialize;

use super::words;
use crate::cycle::assignment::{Assignment, End, Totals};
use crate::cycle::record::Tokens;
use crate::text::{self, Side, Usd};

/// What a run did for the queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueueReport {
    /// The tasks it had in hand, in order.
    pub tasks: Vec<TaskReport>,
    /// Tasks that began in a session which was at work already.
    pub shared: u64,
    /// What as many sessions of their own would have loaded first, tokens: measured at
    /// the first replies of the sessions that this run started.
    pub saved_tokens: u64,
    /// What those tasks read from the cache because the tasks before them stood in the
    /// context, tokens.
    pub extra_cache_read_tokens: u64,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskReport {
    /// Its id.
    pub task_id: String,
    /// Its first line.
    pub title: String,
    /// Its batch.
    pub batch_id: Option<String>,
    /// Its place in the batch, from 1.
    pub batch_position: Option<u32>,
    /// `done`, `error`, `blocked`; `queued` if it went back, `in_progress` without an end.
    pub status: &'static str,
    /// Why it is not done.
    pub reason: Option<String>,
    /// Milliseconds in hand.
    pub elapsed_ms: u64,
    /// Tokens it added.
    pub usage: Tokens,
    /// All of them together.
    pub tokens: u64,
    /// What they cost.
    pub cost_usd: Usd,
    /// Sessions that worked on it.
    pub sessions: u32,
    /// It began in a session which was at work already.
    pub shared_session: bool,
}

impl QueueReport {
    /// Of a run's tasks; `now` is what the one in hand has added so far.
    pub(super) fn of(tasks: &[Assignment], now: &Totals) -> Self {
        let shared = tasks.iter().filter(|task| task.is_shared);
        let sum = |of: fn(&Assignment) -> u64| shared.clone().map(of).fold(0, u64::saturating_add);
        Self {
            shared: shared.clone().count() as u64,
            saved_tokens: sum(|task| task.saved_tokens),
            extra_cache_read_tokens: sum(|task| task.extra_cache_read_tokens),
            tasks: tasks.iter().map(|task| TaskReport::of(task, now)).collect(),
        }
    }

    /// How many ended done.
    pub(super) fn done(&self) -> usize {
        self.tasks.iter().filter(|task| task.status == End::Done.as_str()).count()
    }

    /// The tasks as a table.
    pub(super) fn table(&self) -> Vec<String> {
        const HEAD: [(&str, Side); 6] = [
            ("task", Side::Left),
            ("status", Side::Left),
            ("took", Side::Right),
            ("sessions", Side::Right),
            ("tokens added", Side::Right),
            ("cost", Side::Right),
        ];
        let rows: Vec<[String; 6]> = self.tasks.iter().map(TaskReport::row).collect();
        let widths: [usize; 6] = std::array::from_fn(|i| {
            let cells = rows.iter().map(|row| text::width(&row[i])).max().unwrap_or(0);
            cells.max(text::width(HEAD[i].0))
        });
        let put = |cells: [&str; 6]| {
            let cells: Vec<String> = std::iter::zip(cells, std::iter::zip(widths, HEAD))
                .map(|(cell, (width, (_, side)))| text::pad(cell, width, side))
                .collect();
            cells.join("  ").trim_end().to_owned()
        };
        let mut lines = vec![put(HEAD.map(|(name, _)| name))];
        lines.extend(rows.iter().map(|row| put(std::array::from_fn(|i| row[i].as_str()))));
        lines
    }

    /// What sharing saved: `2 tasks began in a session that was at work: …`
    pub(super) fn saved(&self) -> Option<String> {
        let words = format!(
            "{} began in a session that was at work: {} tokens of loading saved against one \
             session a task (measured at the first replies of this run's sessions), for {} more \
             tokens read from the cache",
            text::count(self.shared, "task", "tasks"),
            text::grouped(self.saved_tokens),
            text::grouped(self.extra_cache_read_tokens)
        );
        (self.shared > 0).then_some(words)
    }
}

/// Columns of a task's id in the table.
const ID_COLUMNS: usize = 36;

impl TaskReport {
    fn of(task: &Assignment, now: &Totals) -> Self {
        let added = if task.end.is_some() { &task.added } else { now };
        Self {
            task_id: task.given.task_id.clone(),
            title: task.given.title.clone(),
            batch_id: task.given.batch_id.clone(),
            batch_position: task.given.batch_position,
            status: task.end.as_ref().map_or("in_progress", End::as_str),
            reason: task.end.as_ref().and_then(End::why).map(str::to_owned),
            elapsed_ms: added.elapsed_ms,
            usage: added.tokens,
            tokens: added.tokens.total(),
            cost_usd: Usd(added.cost_usd),
            sessions: task.sessions + u32::from(task.is_shared && task.end.is_none()),
            shared_session: task.is_shared,
        }
    }

    fn row(&self) -> [String; 6] {
        let id = text::safe(&self.task_id);
        [
            text::clip(&id, ID_COLUMNS).into_owned(),
            words::task_status(self.status).to_owned(),
            text::span(self.elapsed_ms),
            self.sessions.to_string(),
            text::grouped(self.tokens),
            text::usd(self.cost_usd.0),
        ]
    }
}
