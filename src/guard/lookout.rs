//! Looks at what a session can keep one waiting for: a file system that never
//! answers, brought about by a mount or a link.
//!
//! One look at a time, in a thread of its own that nobody has to wait for. Not
//! in the runtime's pool, where one that hangs would take the place of others.

use std::sync::mpsc;
use std::time::Duration;

use super::look::{Looker, Spot, Subject};
use crate::text::safe;
use crate::{Error, ErrorKind, Result};

/// A look takes milliseconds; one that takes this long may take for ever.
pub const ANSWER_LIMIT_MS: u64 = 20_000;

/// Sends out the one who looks.
#[derive(Debug)]
pub struct Lookout {
    /// Nobody while a look is going on.
    looker: Option<Box<Looker>>,
    spot: Spot,
}

/// One who looked, on the way back.
#[derive(Debug)]
pub struct Returning(Box<Looker>);

impl Lookout {
    /// A lookout that has not looked yet.
    pub fn new(subject: Subject) -> Lookout {
        let looker = Box::new(Looker::new(subject));
        Lookout { spot: looker.spot(), looker: Some(looker) }
    }

    /// Does `work` in a thread, unless a look is going on; there `back` is given
    /// what came of it, and the looker, who has to be [welcomed](Self::welcome).
    /// False if nothing was begun.
    pub fn send<T: 'static>(
        &mut self,
        work: impl FnOnce(&mut Looker) -> T + Send + 'static,
        back: impl FnOnce(Returning, T) + Send + 'static,
    ) -> bool {
        let Some(looker) = self.looker.take() else { return false };
        // It is given to the thread behind this, so that it is not lost without one.
        let (give, take) = mpsc::sync_channel::<Box<Looker>>(1);
        let run = move || {
            let Ok(mut looker) = take.recv() else { return };
            let found = work(&mut looker);
            back(Returning(looker), found);
        };
        let thread = std::thread::Builder::new().name("lookout".into()).stack_size(512 << 10);
        if let Err(err) = thread.spawn(run) {
            tracing::warn!(%err, "no thread to look at the settings");
            self.looker = Some(looker);
            return false;
        }
        if let Err(mpsc::SendError(looker)) = give.send(looker) {
            self.looker = Some(looker);
            return false;
        }
        true
    }

    /// The look is over.
    pub fn welcome(&mut self, Returning(looker): Returning) {
        self.looker = Some(looker);
    }

    /// Is a look going on?
    pub fn is_out(&self) -> bool {
        self.looker.is_none()
    }

    /// Where the one who looks tells what is being read.
    pub fn spot(&self) -> Spot {
        self.spot.clone()
    }

    /// Does `work` and waits for it, not longer than [`ANSWER_LIMIT_MS`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NeedsPerson`], naming what could not be read in time.
    pub fn ask<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Looker) -> T + Send + 'static,
    ) -> Result<T> {
        self.ask_within(work, ANSWER_LIMIT_MS)
    }

    fn ask_within<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Looker) -> T + Send + 'static,
        limit_ms: u64,
    ) -> Result<T> {
        let (tell, told) = mpsc::channel();
        let back = move |looker, found| {
            // Nobody waits any more: it came too late.
            let _ = tell.send((looker, found));
        };
        if self.is_out() || !self.send(work, back) {
            return Err(self.late());
        }
        match told.recv_timeout(Duration::from_millis(limit_ms)) {
            Ok((looker, found)) => {
                self.welcome(looker);
                Ok(found)
            }
            Err(_) => Err(self.late()),
        }
    }

    /// What the look hangs at, as an error; the same words however long it was
    /// waited for, since one hanging place is one trouble.
    pub fn late(&self) -> Error {
        let spot = self.spot.name();
        let what = if spot.is_empty() { "what the CLI obeys unasked" } else { spot.as_str() };
        let what = format!(
            "{} could not be read in time, so nobody knows whether the settings that the CLI \
             obeys unasked were changed",
            safe(what)
        );
        Error::new(ErrorKind::NeedsPerson, what)
            .hint("look at what lies there: a link, a mount, a slow disk; then `longhaul run`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claude_json::Places;
    use crate::guard::look::Depth;

    fn lookout(dir: &std::path::Path) -> Lookout {
        let places =
            Places { config_dir: dir.join("home"), global_file: dir.join("home/.claude.json") };
        Lookout::new(Subject::new(dir, None, &places))
    }

    #[test]
    fn whoever_does_not_come_back_is_not_waited_for_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let mut lookout = lookout(dir.path());
        assert!(lookout.ask(|looker| looker.look(Depth::Thorough)).is_ok());
        let (go, wait) = mpsc::channel::<()>();
        let (end, ended) = mpsc::channel::<()>();
        let hang = move |looker: &mut Looker| {
            looker.spot().set(".claude/hooks");
            let _ = wait.recv();
            drop(end);
        };
        let err = lookout.ask_within(hang, 50).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::NeedsPerson);
        assert!(err.message().starts_with(".claude/hooks could not be read"), "{err}");
        assert!(lookout.is_out());
        assert!(!lookout.send(|_| (), |_, ()| ()), "never a second one");
        assert!(lookout.ask(|_| ()).is_err(), "at once, for it is known to be late");
        drop(go);
        assert!(ended.recv().is_err(), "it came to its end");
        assert!(lookout.is_out(), "and is not followed");
    }

    #[test]
    fn whoever_comes_back_can_be_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut lookout = lookout(dir.path());
        for _ in 0..3 {
            let (back, came) = mpsc::channel();
            let tell = move |looker, found| back.send((looker, found)).unwrap();
            assert!(lookout.send(|looker| looker.look(Depth::Changed), tell));
            assert!(lookout.is_out());
            let (looker, _) = came.recv().unwrap();
            lookout.welcome(looker);
            assert!(!lookout.is_out());
        }
    }
}
