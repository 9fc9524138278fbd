//! The way from a run to the tracker: a bounded queue, and a process for each order.
//!
//! The process is one so that a disk that hangs, a lock that is held or a fault in there
//! are not the supervisor's. It gets its order on standard input and has a bounded time.
//! Before that the order is kept in the spool, on a thread for blocking work: whoever is
//! killed from then on, it is recorded by whatever is recorded next. One that is lost
//! before is made good by the next order of its session, if one comes.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::feed::Order;
use super::tracker::Tracker;
use crate::OWN_PROGRAM;
use crate::devdocs::read;
use crate::session::sweep::{Own, RUN_VARIABLE};
use crate::text;

/// The hidden subcommand that takes one order.
pub const FEED_COMMAND: &str = "__track";

/// Orders that may wait to be kept, and as many to be handed over.
const MAX_WAITING: usize = 64;
/// How long keeping an order may take; then it is handed over as it is.
const KEEP_LIMIT: Duration = Duration::from_secs(5);
/// What one order may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Largest order.
const MAX_ORDER_BYTES: u64 = 32 << 20;
/// Of the scheduler: whatever else runs goes first.
const NICENESS: i32 = 10;
const TASK_COLUMNS: usize = 160;

/// What is the same for all orders of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    /// The project, its real path.
    pub project: PathBuf,
    /// The tracker's folder in it.
    pub folder: PathBuf,
    /// The state of the project.
    pub state: PathBuf,
    /// Where its tasks stand.
    pub task_file: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Errand {
    place: Place,
    order: Order,
    /// The name under which the spool has it; `None`: it could not be kept.
    kept: Option<String>,
}

/// Hands orders on. Dropping it ends the one on its way; what is kept stays.
#[derive(Debug)]
pub struct Feeder {
    orders: Option<mpsc::Sender<Order>>,
    task: JoinHandle<()>,
}

impl Feeder {
    /// A feeder of the run `run_id`. Needs a tokio runtime with I/O and time.
    pub fn start(place: Place, run_id: String) -> Self {
        let (orders, waiting) = mpsc::channel(MAX_WAITING);
        let task = tokio::spawn(async move {
            let (kept, errands) = mpsc::channel(MAX_WAITING);
            tokio::join!(keep_all(waiting, place, kept), hand_over_all(errands, run_id));
        });
        Self { orders: Some(orders), task }
    }

    /// Hands an order over and returns at once. If too many wait, it is left to the next
    /// order of the session.
    pub fn tell(&self, order: Order) {
        if let Some(orders) = &self.orders
            && orders.try_send(order).is_err()
        {
            tracing::warn!("too many records of usage wait; one is left to the next");
        }
    }

    /// No more will come: gives those that wait up to `limit`.
    pub async fn finish(&mut self, limit: Duration) {
        self.orders = None;
        if tokio::time::timeout(limit, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!("usage was not recorded before the run ended");
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps what comes, however slowly it is handed over.
async fn keep_all(mut orders: mpsc::Receiver<Order>, place: Place, errands: mpsc::Sender<Vec<u8>>) {
    // One that a disk holds up.
    let mut stuck: Option<JoinHandle<Option<String>>> = None;
    while let Some(order) = orders.recv().await {
        if stuck.as_ref().is_some_and(JoinHandle::is_finished) {
            stuck = None;
        }
        let mut kept = None;
        if stuck.is_none() {
            let (place, order) = (place.clone(), order.clone());
            let mut keeping = tokio::task::spawn_blocking(move || keep(&place, order));
            match tokio::time::timeout(KEEP_LIMIT, &mut keeping).await {
                Ok(name) => kept = name.ok().flatten(),
                Err(_) => stuck = Some(keeping),
            }
        }
        let is_kept = kept.is_some();
        let errand = Errand { place: place.clone(), order, kept };
        let Ok(bytes) = serde_json::to_vec(&errand) else { continue };
        if errands.try_send(bytes).is_err() && !is_kept {
            tracing::warn!("too many records of usage wait; one is left to the next");
        }
    }
}

fn keep(place: &Place, mut order: Order) -> Option<String> {
    // Whoever records it may not know of this run any more.
    order.summary.get_or_insert_with(|| format!("{}.", beginning(place, order.source.cycle)));
    let tracker = Tracker::in_state(&place.state, &place.project, &place.folder);
    let kept = tracker.and_then(|tracker| tracker.keep(order));
    kept.inspect_err(|err| tracing::warn!(%err, "a record of usage is not kept")).ok()
}

async fn hand_over_all(mut errands: mpsc::Receiver<Vec<u8>>, run_id: String) {
    while let Some(errand) = errands.recv().await {
        match tokio::time::timeout(PATIENCE, hand_over(&errand, &run_id)).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => tracing::warn!(%status, "usage was not recorded"),
            Ok(Err(err)) => tracing::warn!(%err, "usage was not recorded"),
            // Dropped, it is killed.
            Err(_) => tracing::warn!("recording usage took too long and was ended"),
        }
    }
}

async fn hand_over(errand: &[u8], run_id: &str) -> std::io::Result<std::process::ExitStatus> {
    let mut child = Command::new(OWN_PROGRAM)
        .arg(FEED_COMMAND)
        .env(RUN_VARIABLE, run_id)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let _own = Own::of(child.id());
    if let Some(mut input) = child.stdin.take() {
        // One that dies does not read; its status says so.
        let _ = input.write_all(errand).await;
    }
    child.wait().await
}

/// Takes one order from standard input.
pub fn feed_main() -> ExitCode {
    // A session of its own: no key pressed for longhaul reaches it.
    let _ = rustix::process::setsid();
    let _ = rustix::process::setpriority_process(None, NICENESS);
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_ORDER_BYTES).read_to_end(&mut bytes);
    let errand: Option<Errand> = read.ok().and_then(|_| serde_json::from_slice(&bytes).ok());
    match errand.map(record) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(err)) => ExitCode::from(err.kind().exit_code()),
        None => ExitCode::from(crate::ErrorKind::Usage.exit_code()),
    }
}

fn record(errand: Errand) -> crate::Result<()> {
    let Errand { place, mut order, kept } = errand;
    if order.summary.is_none() {
        order.summary = Some(summary(&place, order.source.cycle));
    }
    Tracker::in_state(&place.state, &place.project, &place.folder)?.feed_kept(order, kept)
}

/// What a cycle was about, as the task file says it now.
fn summary(place: &Place, cycle: u32) -> String {
    let begin = beginning(place, cycle);
    let Some(tasks) = read_tasks(&place.project, &place.task_file) else {
        return format!("{begin}.");
    };
    let open = tasks.items.iter().find(|item| !item.ticked);
    let done =
        format!("{} of {} done", tasks.ticked, text::count(tasks.total.into(), "task", "tasks"));
    match open {
        Some(item) => {
            let next = text::clip(&text::safe(&item.text), TASK_COLUMNS).into_owned();
            format!("{begin}: {done}. Next: {next}")
        }
        None => format!("{begin}: {done}."),
    }
}

fn beginning(place: &Place, cycle: u32) -> String {
    format!("Cycle {cycle} of {}", text::safe(&place.task_file.display().to_string()))
}

fn read_tasks(project: &Path, file: &Path) -> Option<crate::devdocs::task_file::TaskFile> {
    read::read_task_file(project, file).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::models::TokenCounts;
    use crate::track::{Part, Parts, Source};

    fn order(session_id: &str, input: u64) -> Order {
        let source = Source { run_id: "run".into(), cycle: 2, session_id: session_id.into() };
        let tokens = TokenCounts { input, ..TokenCounts::default() };
        let part = Part { agent: None, model: "m".into(), tokens, cost_micro_usd: Some(1) };
        let (task_id, parts) = (session_id.to_owned(), Parts(vec![part]));
        Order { source, task_id, summary: None, unix_ms: 1_764_342_000_000, parts }
    }

    /// In this program nobody takes an order: each is on its way for ever, or its process
    /// died.
    #[tokio::test]
    async fn the_last_order_of_a_session_survives_the_death_of_its_run() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (project, state) = (root.join("project"), root.join("state"));
        std::fs::create_dir(&project).unwrap();
        let (folder, task_file) = ("token-usage".into(), "dev-docs/tasks.md".into());
        let place = Place { project: project.clone(), folder, state: state.clone(), task_file };
        let feeder = Feeder::start(place, "run".into());
        feeder.tell(order("first", 40));
        feeder.tell(order("second", 2));
        let pending = state.join("track/pending");
        let count = || std::fs::read_dir(&pending).map_or(0, Iterator::count);
        let is_kept = async {
            while count() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), is_kept).await.expect("both are kept");
        // Killed between two sessions; no order of either comes again.
        drop(feeder);
        let tracker = Tracker::in_state(&state, &project, Path::new("token-usage")).unwrap();
        tracker.feed(order("third", 100)).unwrap();
        let tasks = std::fs::read_dir(project.join("token-usage/tasks")).unwrap();
        let logs: Vec<String> =
            tasks.map(|log| std::fs::read_to_string(log.unwrap().path()).unwrap()).collect();
        assert_eq!((logs.len(), count()), (3, 0), "{logs:#?}");
        for words in
            ["\"input_tokens\": 40", "\"input_tokens\": 2,", "Cycle 2 of dev-docs/tasks.md."]
        {
            assert!(logs.iter().any(|log| log.contains(words)), "{words}\n{logs:#?}");
        }
    }
}
