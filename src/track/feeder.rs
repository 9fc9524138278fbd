//! The way from a run to the tracker: a bounded queue, and a process for each order.
//!
//! The process is one so that a disk that hangs, a lock that is held or a fault in there
//! are not the supervisor's. It gets its order on standard input and has a bounded time.
//! An order that is lost is no loss: the next of its session tells of all it used.

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
use crate::devdocs::read;
use crate::session::sweep::RUN_VARIABLE;
use crate::text;

/// The hidden subcommand that takes one order.
pub const FEED_COMMAND: &str = "__track";

/// This very program, even when its file has been replaced since it started.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// Orders that may wait.
const MAX_WAITING: usize = 64;
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
}

/// Hands orders on. Dropping it ends the one on its way.
#[derive(Debug)]
pub struct Feeder {
    place: Place,
    orders: Option<mpsc::Sender<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Feeder {
    /// A feeder of the run `run_id`. Needs a tokio runtime with I/O and time.
    pub fn start(place: Place, run_id: String) -> Self {
        let (orders, waiting) = mpsc::channel(MAX_WAITING);
        Self { place, orders: Some(orders), task: tokio::spawn(work(waiting, run_id)) }
    }

    /// Hands an order over and returns at once. If too many wait, it is left to the next
    /// order of the session.
    pub fn tell(&self, order: Order) {
        let errand = Errand { place: self.place.clone(), order };
        let Ok(bytes) = serde_json::to_vec(&errand) else { return };
        if let Some(orders) = &self.orders
            && orders.try_send(bytes).is_err()
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

async fn work(mut waiting: mpsc::Receiver<Vec<u8>>, run_id: String) {
    while let Some(errand) = waiting.recv().await {
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
    let Errand { place, mut order } = errand;
    if order.summary.is_none() {
        order.summary = Some(summary(&place, order.source.cycle));
    }
    Tracker::in_state(&place.state, &place.project, &place.folder)?.feed(order)
}

/// What a cycle was about, as the task file says it now.
fn summary(place: &Place, cycle: u32) -> String {
    let file = &place.task_file;
    let shown = text::safe(&file.display().to_string()).into_owned();
    let begin = format!("Cycle {cycle} of {shown}");
    let Some(tasks) = read_tasks(&place.project, file) else { return format!("{begin}.") };
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

fn read_tasks(project: &Path, file: &Path) -> Option<crate::devdocs::task_file::TaskFile> {
    read::read_task_file(project, file).ok()
}
