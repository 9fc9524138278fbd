//! Writing that never waits and never fails.
//!
//! A terminal stopped with Ctrl-S, or a pipe whose reader sleeps, would stop
//! the supervisor with it. So a thread does the writing, and what it has not
//! written yet is bounded. Once a write fails (the reader is gone, the disk is
//! full) the outlet is silent for good.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that may wait: minutes of events for a reader that sleeps.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// The writing thread needs no more.
const STACK_BYTES: usize = 64 * 1024;
/// Longest wait for the reader when the run is over.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// One way out, shared with the thread that writes.
pub struct Outlet {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    is_silent: bool,
    is_closed: bool,
}

impl Shared {
    // Nothing panics while it holds the lock; if it did, the display is the
    // last thing to die of it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet {
    /// An outlet into `sink`.
    pub fn new(sink: Box<dyn Write + Send>) -> Self {
        let shared =
            Arc::new(Shared { state: Mutex::new(State::default()), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let spawned = std::thread::Builder::new()
            .name("longhaul-tell".into())
            .stack_size(STACK_BYTES)
            .spawn(move || write_all(&theirs, sink));
        if spawned.is_err() {
            shared.lock().is_silent = true;
        }
        Self { shared }
    }

    /// Takes the text, or says that too much waits already; then nothing of
    /// it is kept. A silent outlet takes everything.
    pub fn offer(&self, text: &str) -> bool {
        let mut state = self.shared.lock();
        if state.is_silent {
            return true;
        }
        if state.waiting.len() + text.len() > MAX_WAITING_BYTES {
            return false;
        }
        state.waiting.extend_from_slice(text.as_bytes());
        drop(state);
        self.shared.changed.notify_all();
        true
    }

    /// Has everything been written?
    pub fn is_idle(&self) -> bool {
        self.shared.lock().is_idle()
    }

    /// Did a write fail?
    pub fn is_silent(&self) -> bool {
        self.shared.lock().is_silent
    }

    /// Waits until everything is written, but not for a reader that sleeps.
    pub fn drain(&self) {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, LAST_WAIT, |s| !s.is_idle());
        drop(waited);
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.drain();
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.is_silent || (self.waiting.is_empty() && !self.is_writing)
    }
}

fn write_all(shared: &Shared, mut sink: Box<dyn Write + Send>) {
    let mut batch = Vec::new();
    let mut state = shared.lock();
    loop {
        if state.waiting.is_empty() {
            if state.is_closed {
                return;
            }
            state = match shared.changed.wait(state) {
                Ok(state) => state,
                Err(poisoned) => poisoned.into_inner(),
            };
            continue;
        }
        std::mem::swap(&mut batch, &mut state.waiting);
        state.is_writing = true;
        drop(state);
        let written = sink.write_all(&batch).and_then(|()| sink.flush());
        batch.clear();
        batch.shrink_to(16 * 1024);
        state = shared.lock();
        state.is_writing = false;
        if written.is_err() {
            state.is_silent = true;
            state.waiting = Vec::new();
        }
        shared.changed.notify_all();
        if state.is_silent {
            return;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::{Error, ErrorKind, Result};
    use std::sync::mpsc;

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> Result<usize> {
            Err(Error::from(ErrorKind::BrokenPipe))
        }
        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// Passes each write on, and takes none before it is let.
    pub struct Sleepy {
        gate: mpsc::Receiver<()>,
        out: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Sleepy {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            self.gate.recv().map_err(|_| ErrorKind::BrokenPipe)?;
            self.out.send(bytes.to_vec()).map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// An outlet whose reader reads as often as it is let, and what it read.
    pub fn sleepy() -> (Outlet, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let (let_through, gate) = mpsc::channel();
        let (out, written) = mpsc::channel();
        (Outlet::new(Box::new(Sleepy { gate, out })), let_through, written)
    }

    #[test]
    fn a_reader_that_is_gone_makes_it_silent_and_harms_nothing() {
        let outlet = Outlet::new(Box::new(Broken));
        assert!(outlet.offer("one\n"));
        outlet.drain();
        assert!(outlet.is_silent());
        assert!(outlet.offer(&"x".repeat(2 * MAX_WAITING_BYTES)));
        assert!(outlet.is_idle());
    }

    #[test]
    fn a_reader_that_sleeps_is_not_waited_for_and_gets_everything_in_order() {
        let (outlet, let_through, written) = sleepy();
        assert!(outlet.offer("first\n"));
        // The thread may or may not have taken the first one yet.
        while outlet.offer(&"x".repeat(MAX_WAITING_BYTES / 4)) {}
        assert!(!outlet.is_idle());
        assert!(!outlet.is_silent());
        for _ in 0..8 {
            // The thread ends when the outlet does; then nobody listens.
            let _ = let_through.send(());
        }
        outlet.drain();
        assert!(outlet.is_idle());
        drop(outlet);
        let all: Vec<u8> = written.into_iter().flatten().collect();
        assert!(all.starts_with(b"first\nxxx"));
        assert_eq!((all.len() - 6) % (MAX_WAITING_BYTES / 4), 0);
    }
}
