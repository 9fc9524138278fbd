//! What takes longer than a moment runs beside the loop and reports back.

use std::future::Future;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cycle::Event;
use crate::usage::Now;
use crate::workspace::Marker;

/// What a job brings back.
#[derive(Debug)]
pub enum Done {
    /// An event for the machine.
    Event(Box<Event>),
    /// The settings were looked at.
    Looked(Box<super::looks::Looked>),
    /// What all sessions of the machine have spent was asked for; why not, if it cannot
    /// be told.
    Spent(std::result::Result<Box<Now>, String>),
    /// Where the work tree stood when the cycle began.
    Marked {
        /// The cycle.
        cycle: u32,
        /// The marker.
        marker: Marker,
    },
    /// Whether there was progress, and where the work tree stands now.
    Weighed {
        /// The cycle.
        cycle: u32,
        /// There was.
        changed: bool,
        /// For the next turn of the same session.
        marker: Option<Marker>,
    },
}

/// The jobs in progress.
#[derive(Debug)]
pub struct Jobs {
    tell: mpsc::UnboundedSender<Done>,
    told: mpsc::UnboundedReceiver<Done>,
    verify: Option<JoinHandle<()>>,
}

impl Jobs {
    /// None yet.
    pub fn new() -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self { tell, told, verify: None }
    }

    /// Runs one.
    pub fn start(&self, job: impl Future<Output = Done> + Send + 'static) -> JoinHandle<()> {
        let tell = self.tell.clone();
        tokio::spawn(async move {
            // The loop may be over; then nobody needs it.
            let _ = tell.send(job.await);
        })
    }

    /// For what runs in a thread of its own.
    pub fn teller(&self) -> mpsc::UnboundedSender<Done> {
        self.tell.clone()
    }

    /// Runs the verify command; an earlier one is stopped.
    pub fn start_verify(&mut self, job: impl Future<Output = Done> + Send + 'static) {
        self.cancel_verify();
        self.verify = Some(self.start(job));
    }

    /// Stops the verify command: its keeper ends it when the future is dropped.
    pub fn cancel_verify(&mut self) {
        if let Some(running) = self.verify.take() {
            running.abort();
        }
    }

    /// The next that is done. Safe to drop and call again.
    pub async fn next(&mut self) -> Done {
        match self.told.recv().await {
            Some(done) => done,
            // Never: we hold a sender ourselves.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.cancel_verify();
    }
}
