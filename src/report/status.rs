//! What `longhaul status` shows of a live run. It travels over the control
//! socket, so it is plain data; the words for people are made by the reader.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::budgets::BudgetsView;
use super::standstill::Standstill;
use super::words;
use crate::clock::Timestamp;
use crate::cycle::record::CostSource;
use crate::cycle::{Snapshot, pressure::WindowSource};
use crate::text;

/// One moment of a live run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// The run's id.
    pub run_id: String,
    /// When it began, milliseconds since the Unix epoch.
    pub started_at_unix_ms: i64,
    /// Milliseconds supervised so far.
    pub elapsed_ms: u64,
    /// The state's name.
    pub state: String,
    /// The state in words.
    pub explain: String,
    /// Did a person pause it?
    pub paused: bool,
    /// What it stands still for, and until when.
    #[serde(flatten)]
    pub standstill: Standstill,
    /// How it ended, if it just did.
    pub outcome: Option<String>,
    /// The newest cycle; 0 before the first.
    pub cycle: u32,
    /// The session of that cycle, while it is alive.
    pub session: Option<SessionView>,
    /// The task of the queue in hand; null for a run of the task file.
    pub task: Option<TaskView>,
    /// Boxes ticked when the run began, if the task file could be read.
    pub tasks_done_at_start: Option<u32>,
    /// Boxes ticked now.
    pub tasks_done: u32,
    /// All boxes; 0 when none is known.
    pub tasks_total: u32,
    /// Dollars of the whole run.
    pub cost_usd: f64,
    /// Who stated them; null before there are any.
    pub cost_source: Option<CostOrigin>,
    /// Tokens of all kinds of the whole run.
    pub tokens: u64,
    /// The last tool used, in one line.
    pub last_activity: String,
    /// What the limits still allow.
    pub left: LimitsLeft,
    /// How far budgets are spent; a run of an older longhaul has none.
    #[serde(default)]
    pub budgets: BudgetsView,
}

/// A task of the queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its id.
    pub task_id: String,
    /// Its first line.
    pub title: String,
    /// Its batch.
    pub batch_id: Option<String>,
    /// Its place in the batch, from 1.
    pub batch_position: Option<u32>,
}

impl TaskView {
    /// The task in hand.
    pub fn of(view: &Snapshot<'_>) -> Option<Self> {
        let task = view.assignments().last().filter(|task| task.end.is_none())?;
        Some(Self {
            task_id: task.given.task_id.clone(),
            title: task.given.title.clone(),
            batch_id: task.given.batch_id.clone(),
            batch_position: task.given.batch_position,
        })
    }

    /// `port_parser: Port the parser (2 of batch b)`
    pub fn words(&self) -> String {
        let batch = match (&self.batch_id, self.batch_position) {
            (Some(batch), Some(n)) => format!(" ({n} of batch {batch})"),
            _ => String::new(),
        };
        format!("{}{batch}: {}", self.task_id, self.title)
    }
}

/// The live session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id.
    pub session_id: String,
    /// Its process, once it runs.
    pub pid: Option<u32>,
    /// Its model, once known.
    pub model: Option<String>,
    /// When it was launched, milliseconds since the Unix epoch.
    pub started_at_unix_ms: i64,
    /// Its context, once there is a reading.
    pub context: Option<ContextView>,
}

/// A context reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContextView {
    /// Tokens in use.
    pub tokens: u64,
    /// Window in tokens.
    pub window: u64,
    /// Whole percent in use.
    pub percent: u64,
    /// Who stated the window.
    pub window_source: WindowSource,
}

/// What the limits still allow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitsLeft {
    /// Sessions that may still be started.
    pub sessions: u32,
    /// Milliseconds.
    pub ms: u64,
    /// Tokens of all kinds.
    pub tokens: u64,
    /// Dollars; models without a price count at the dearest known one.
    pub cost_usd: f64,
}

impl StatusView {
    /// The view of a run at `now`.
    pub fn of(view: &Snapshot<'_>, now: Timestamp) -> Self {
        let tasks = view.tasks();
        let live = view.cycles().last().filter(|_| view.alive());
        Self {
            run_id: view.run_id().to_string(),
            started_at_unix_ms: view.started_at().unix_ms,
            elapsed_ms: view.elapsed_ms_at(now),
            state: view.state().to_owned(),
            explain: view.explain(),
            paused: view.paused(),
            standstill: Standstill::of(view, now),
            outcome: view.outcome().map(|o| o.as_str().to_owned()),
            cycle: view.cycle(),
            session: live.map(|c| SessionView {
                session_id: c.session_id.to_string(),
                pid: c.pid,
                model: c.model.clone(),
                started_at_unix_ms: c.started_at.unix_ms,
                context: view.pressure().map(|p| ContextView {
                    tokens: p.tokens,
                    window: p.window,
                    percent: p.percent(),
                    window_source: p.source,
                }),
            }),
            task: TaskView::of(view),
            tasks_done_at_start: tasks.done_at_start,
            tasks_done: tasks.done,
            tasks_total: tasks.total,
            cost_usd: text::to_micros(view.cost_usd()),
            cost_source: cost_origin(view),
            tokens: view.tokens(),
            last_activity: view.last_activity().to_owned(),
            left: LimitsLeft::of(view, now),
            budgets: BudgetsView::of(view, now),
        }
    }

    /// The view in a few lines for a person.
    pub fn human(&self, now: Timestamp, zone: &TimeZone) -> String {
        let mut rows: Vec<(&str, String)> = Vec::new();
        let began = text::local(self.started_at_unix_ms, zone, "%Y-%m-%d %H:%M");
        rows.push((
            "run",
            format!(
                "{}, began {began}, {} so far",
                text::safe(&self.run_id),
                text::span(self.elapsed_ms)
            ),
        ));
        rows.push(("state", self.explain.clone()));
        rows.extend(self.standstill.rows(now, zone));
        match &self.session {
            Some(session) => {
                rows.push(("session", session.human(self.cycle, now)));
                rows.push(("context", session.context_words()));
            }
            None if self.cycle == 0 => rows.push(("session", "none yet".into())),
            None => rows.push(("session", format!("none alive; the last was {}", self.cycle))),
        }
        if let Some(task) = &self.task {
            rows.push(("task", task.words()));
        }
        rows.push((
            "tasks",
            words::tasks(self.tasks_done_at_start, self.tasks_done, self.tasks_total),
        ));
        let source = words::cost_origin(self.cost_source);
        rows.push((
            "cost",
            format!("{}{source}, {} tokens", text::usd(self.cost_usd), text::tokens(self.tokens)),
        ));
        rows.push((
            "left",
            format!(
                "{}, {}, {} tokens, {}",
                text::count(self.left.sessions.into(), "session", "sessions"),
                text::span(self.left.ms),
                text::tokens(self.left.tokens),
                text::usd(self.left.cost_usd)
            ),
        ));
        if let Some(words) = self.budgets.words() {
            rows.push(("budget", words));
        }
        if !self.last_activity.is_empty() {
            rows.push(("last", self.last_activity.clone()));
        }
        let mut out = String::new();
        for (name, words) in rows {
            let words = text::safe(&words);
            out.push_str(&format!("{name:<9}{}\n", text::clip(&words, 300)));
        }
        out
    }
}

impl SessionView {
    fn human(&self, cycle: u32, now: Timestamp) -> String {
        let model = self.model.as_deref().unwrap_or("model not known yet");
        let pid = match self.pid {
            Some(pid) => format!("pid {pid}"),
            None => "not started yet".into(),
        };
        let age = u64::try_from(now.unix_ms.saturating_sub(self.started_at_unix_ms)).unwrap_or(0);
        format!("{cycle}, {model}, {pid}, {} old, id {}", text::span(age), self.session_id)
    }

    fn context_words(&self) -> String {
        match &self.context {
            Some(c) => format!(
                "{} %, {} of {} tokens, window {}",
                c.percent,
                text::tokens(c.tokens),
                text::tokens(c.window),
                words::window_source(c.window_source)
            ),
            None => "not known yet".into(),
        }
    }
}

impl LimitsLeft {
    fn of(view: &Snapshot<'_>, now: Timestamp) -> Self {
        let params = view.params();
        let used = view.measured(now);
        let own = view.assignments().last().filter(|task| task.end.is_none());
        let own_usd = own.and_then(|task| task.given.budget_usd).unwrap_or(f64::INFINITY);
        let max_usd = params.max_cost_usd.min(own_usd);
        Self {
            sessions: params.max_sessions.saturating_sub(used.sessions),
            ms: params.max_ms.saturating_sub(used.elapsed_ms),
            tokens: params.max_tokens.saturating_sub(used.tokens.total()),
            cost_usd: text::to_micros((max_usd - used.cost_ceiling_usd).max(0.0)),
        }
    }
}

/// Whose figures a sum of costs is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostOrigin {
    /// All by the CLI itself.
    Cli,
    /// All computed from transcripts.
    Transcript,
    /// Some of each.
    Mixed,
}

/// Whose figures the run's cost is made of; none before there is any cost.
pub fn cost_origin(view: &Snapshot<'_>) -> Option<CostOrigin> {
    view.cycles()
        .filter(|c| c.bill.is_some() || c.spend.responses > 0 || c.cost().0 > 0.0)
        .map(|c| match c.cost().1 {
            CostSource::CostState | CostSource::Statusline => CostOrigin::Cli,
            CostSource::Transcript => CostOrigin::Transcript,
        })
        .reduce(|a, b| if a == b { a } else { CostOrigin::Mixed })
}
