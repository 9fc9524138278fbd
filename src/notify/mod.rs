//! Telling a person: notifications to a command and to a webhook.
//!
//! Nothing in here can hold up supervision. [`Notifier::tell`] puts the
//! notification into a bounded queue, one for each way, and a task of the event
//! loop takes them out one by one. Each attempt is made by a *courier*, a process
//! of this program that lives for seconds: TLS, name resolution and the person's
//! command happen in there, so neither their memory nor their faults are
//! longhaul's. longhaul holds the courier on a leash, like a keeper: when
//! longhaul lets go of it, however, the courier ends the command and itself.
//!
//! | file | knows |
//! |---|---|
//! | `notification` | what is told, and the JSON it becomes |
//! | `occasions` | which events of a run are worth telling |
//! | `heard` | which marks of day and month a person has heard of, from any run |
//! | `lane` | the queue of one way, and when to try again |
//! | `patience` | how long to wait between two attempts |
//! | `order` | what longhaul and a courier say to each other |
//! | `courier` | the process that makes one attempt |
//! | `errand` | the person's command, below a courier |
//! | `post` | the POST to the webhook |

mod courier;
mod errand;
pub mod heard;
mod lane;
mod notification;
pub mod occasions;
mod order;
mod patience;
mod post;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use crate::OWN_PROGRAM;
use crate::clock::Timestamp;
use crate::config;
use crate::config::Occasion;

pub use courier::{COURIER_COMMAND, courier_main};
pub use notification::Notification;
pub use order::problem_with_url;
pub use patience::Patience;

use lane::{Lane, Means};
use order::Way;

/// The same occasion in the same words is not told again so soon.
const REPEAT_MS: u64 = 10 * 60 * 1_000;

/// What is remembered of notifications told, to know a repetition.
const REMEMBERED: usize = 32;

/// What every notification of a run says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFacts {
    /// The run.
    pub run_id: Uuid,
    /// Its project, an absolute path.
    pub project: PathBuf,
}

/// What became of the notifications so far; both ways together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Delivered.
    pub delivered: u64,
    /// Tried and given up.
    pub failed: u64,
    /// Thrown away untried: the queue was full, or the run was over.
    pub dropped: u64,
}

/// Tells a person. Dropping it ends whatever is being delivered at once.
#[derive(Debug)]
pub struct Notifier {
    facts: RunFacts,
    on: Vec<Occasion>,
    lanes: Vec<Lane>,
    told: Vec<(Occasion, String, Timestamp)>,
    tally: Arc<Mutex<Tally>>,
    /// True once no more notifications will come.
    closing: watch::Sender<bool>,
}

impl Notifier {
    /// A notifier for one run. With neither command nor webhook it does nothing
    /// and starts nothing. Needs a tokio runtime with I/O and time.
    pub fn start(config: &config::Notify, facts: RunFacts) -> Self {
        Self::start_with(config, facts, &[OWN_PROGRAM.into()], Patience::default())
    }

    /// As [`Notifier::start`], with couriers started by `program` (a program and
    /// its first arguments) and another patience.
    pub fn start_with(
        config: &config::Notify,
        facts: RunFacts,
        program: &[OsString],
        patience: Patience,
    ) -> Self {
        let (closing, over) = watch::channel(false);
        let tally = Arc::new(Mutex::new(Tally::default()));
        let lane = |way: Way, limit: Duration| {
            let means = Means {
                way,
                limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                program: program.to_vec(),
                run_id: facts.run_id.to_string(),
                patience: patience.clone(),
                tally: Arc::clone(&tally),
                closing: over.clone(),
            };
            Lane::open(means)
        };
        let mut lanes = Vec::new();
        if !config.command.is_empty() {
            lanes.push(lane(Way::Command(config.command.clone()), patience.command));
        }
        if let Some(url) = &config.webhook {
            lanes.push(lane(Way::Webhook(url.clone()), patience.webhook));
        }
        Self { facts, on: config.on.clone(), lanes, told: Vec::new(), tally, closing }
    }

    /// Hands a notification over and returns at once. One whose occasion the
    /// person did not ask for, or that repeats itself, goes nowhere. If too many
    /// wait already, the oldest is thrown away and counted.
    pub fn tell(&mut self, notification: &Notification) {
        if self.lanes.is_empty() || !self.on.contains(&notification.occasion) {
            return;
        }
        if self.repeats(notification) {
            tracing::debug!(occasion = notification.occasion.as_str(), "told already");
            return;
        }
        let body = notification.to_json(&self.facts);
        for lane in &self.lanes {
            lane.push(body.clone());
        }
    }

    /// What became of the notifications so far.
    pub fn tally(&self) -> Tally {
        *lock(&self.tally)
    }

    /// No more will come: gives those that wait up to `limit`, without long
    /// pauses between attempts, then throws them away. Says how it went. To cut
    /// it short, drop the future and then the notifier.
    pub async fn finish(&mut self, limit: Duration) -> Tally {
        self.closing.send_replace(true);
        let all = async {
            for lane in &mut self.lanes {
                lane.done().await;
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            let left = self.abandon();
            tracing::warn!(left, "notifications were not delivered before the run ended");
        }
        self.tally()
    }

    /// Ends what is being delivered, throws away what waits, and counts both.
    fn abandon(&mut self) -> u64 {
        let left = self.lanes.drain(..).map(|lane| lane.abandon()).sum();
        lock(&self.tally).dropped += left;
        left
    }

    fn repeats(&mut self, new: &Notification) -> bool {
        // The end of a run is told whatever was told before.
        if matches!(new.occasion, Occasion::Finished | Occasion::Failed) {
            return false;
        }
        self.told.retain(|(_, _, at)| new.at.ms_since(*at) < REPEAT_MS);
        if self
            .told
            .iter()
            .any(|(occasion, text, _)| *occasion == new.occasion && *text == new.text)
        {
            return true;
        }
        if self.told.len() == REMEMBERED {
            self.told.remove(0);
        }
        self.told.push((new.occasion, new.text.clone(), new.at));
        false
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// Nothing panics while it holds one of these locks; if it did, what is counted
/// is still the best there is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
