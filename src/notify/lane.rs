//! The queue of one way to a person, and the task that empties it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::courier::COURIER_COMMAND;
use super::order::{Order, Receipt, Way};
use super::patience::{Patience, chance};
use super::{Tally, lock};
use crate::session::sweep::{KEEPER_VARIABLE, RUN_VARIABLE};
use crate::text;

/// Notifications that may wait for one way; a night has fewer.
const MAX_WAITING: usize = 64;

/// Longest pause once the run is over.
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// What a courier gets beyond the limit of its order, to clear up and report.
const COURIER_GRACE_MS: u64 = 6_000;

/// Longest receipt; couriers bound what they quote.
const RECEIPT_BYTES: u64 = 16 << 10;

/// What a lane works with.
#[derive(Debug)]
pub(super) struct Means {
    pub way: Way,
    /// Longest time for one attempt, milliseconds.
    pub limit_ms: u64,
    /// The program that can be a courier, and its first arguments.
    pub program: Vec<OsString>,
    /// The mark every process of the run carries.
    pub run_id: String,
    pub patience: Patience,
    pub tally: Arc<Mutex<Tally>>,
    /// True once no more will come.
    pub closing: watch::Receiver<bool>,
}

/// One way to a person: takes notifications at once, delivers them in order.
#[derive(Debug)]
pub(super) struct Lane {
    queue: Arc<Queue>,
    tally: Arc<Mutex<Tally>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<String>,
    /// One was taken out and is being delivered.
    in_hand: bool,
}

impl Queue {
    fn take(&self) -> Option<String> {
        let mut state = lock(&self.state);
        let next = state.waiting.pop_front();
        state.in_hand = next.is_some();
        next
    }
}

impl Lane {
    pub(super) fn open(means: Means) -> Self {
        let queue = Arc::new(Queue::default());
        let tally = Arc::clone(&means.tally);
        let task = tokio::spawn(work(means, Arc::clone(&queue)));
        Self { queue, tally, task }
    }

    /// Puts one into the queue; never waits.
    pub(super) fn push(&self, body: String) {
        let mut state = lock(&self.queue.state);
        if state.waiting.len() == MAX_WAITING {
            state.waiting.pop_front();
            lock(&self.tally).dropped += 1;
            tracing::warn!("too many notifications wait; the oldest was thrown away");
        }
        state.waiting.push_back(body);
        drop(state);
        self.queue.filled.notify_one();
    }

    /// Returns when everything is delivered or given up, after closing.
    pub(super) async fn done(&mut self) {
        if !self.task.is_finished() {
            // It ends by itself or not at all.
            let _ = (&mut self.task).await;
        }
    }

    /// Ends it at once; the leash of a courier on its way is let go of. Says how
    /// many were not delivered.
    pub(super) fn abandon(self) -> u64 {
        if self.task.is_finished() {
            return 0;
        }
        self.task.abort();
        let state = lock(&self.queue.state);
        state.waiting.len() as u64 + u64::from(state.in_hand)
    }
}

async fn work(mut means: Means, queue: Arc<Queue>) {
    loop {
        if let Some(body) = queue.take() {
            deliver(&mut means, body).await;
        } else if *means.closing.borrow() {
            return;
        } else {
            tokio::select! {
                () = queue.filled.notified() => {}
                // An error means that the notifier is gone, and this task with it.
                _ = means.closing.changed() => {}
            }
        }
    }
}

/// As many attempts as patience allows.
async fn deliver(means: &mut Means, body: String) {
    let order = Order { way: means.way.clone(), body, limit_ms: means.limit_ms };
    let mut attempt = 0;
    let why = loop {
        let (why, after_ms) = match send(means, &order).await {
            Receipt::Delivered => {
                lock(&means.tally).delivered += 1;
                tracing::debug!(attempt, "told by {}", means.way);
                return;
            }
            Receipt::Never { why } => break why,
            Receipt::Later { why, after_ms } => (why, after_ms),
        };
        let Some(pause) = means.patience.pause(attempt, after_ms, chance()) else { break why };
        tracing::info!(attempt, ?pause, "{} was not reached: {}", means.way, text::safe(&why));
        attempt += 1;
        wait(&mut means.closing, pause).await;
    };
    lock(&means.tally).failed += 1;
    tracing::warn!(
        attempt,
        "a notification was not delivered by {}: {}",
        means.way,
        text::safe(&why)
    );
}

/// Waits so long, or shortly once the run is over.
async fn wait(closing: &mut watch::Receiver<bool>, pause: Duration) {
    let hurried = async {
        if closing.wait_for(|over| *over).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(LAST_PAUSE).await;
    };
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = hurried => {}
    }
}

/// One attempt, by a courier. Dropped in the middle it lets go of the leash.
async fn send(means: &Means, order: &Order) -> Receipt {
    let mut courier = match start(means) {
        Ok(courier) => courier,
        Err(err) => return Receipt::later(format!("no courier can be started: {err}")),
    };
    let limit = Duration::from_millis(order.limit_ms + COURIER_GRACE_MS);
    let receipt = match tokio::time::timeout(limit, converse(&mut courier, order)).await {
        Ok(receipt) => receipt,
        Err(_) => {
            // What it leaves behind falls to longhaul, which sweeps at its end.
            let _ = courier.start_kill();
            lost(&order.way, "the courier did not come back and was killed")
        }
    };
    // The leash was let go of; a courier ends at that.
    let _ = tokio::time::timeout(Duration::from_secs(1), courier.wait()).await;
    receipt
}

fn start(means: &Means) -> std::io::Result<Child> {
    let (program, first) = means.program.split_first().ok_or(std::io::ErrorKind::NotFound)?;
    Command::new(program)
        .args(first)
        .arg(COURIER_COMMAND)
        .env(RUN_VARIABLE, &means.run_id)
        .env(KEEPER_VARIABLE, &means.run_id)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// Nobody knows how far it came: a command may have run, and a second POST
/// does no harm.
fn lost(way: &Way, why: &str) -> Receipt {
    match way {
        Way::Command(_) => Receipt::never(why),
        Way::Webhook(_) => Receipt::later(why),
    }
}

async fn converse(courier: &mut Child, order: &Order) -> Receipt {
    let lost = || lost(&order.way, "the courier was lost");
    let (Some(mut leash), Some(said)) = (courier.stdin.take(), courier.stdout.take()) else {
        return lost();
    };
    let Ok(mut line) = serde_json::to_vec(order) else { return lost() };
    line.push(b'\n');
    // One that dies does not read; then it does not answer either.
    let _ = leash.write_all(&line).await;
    let mut answer = String::new();
    let read = BufReader::new(said.take(RECEIPT_BYTES)).read_line(&mut answer).await;
    drop(leash);
    match read.ok().and_then(|_| serde_json::from_str(&answer).ok()) {
        Some(receipt) => receipt,
        None => lost(),
    }
}
