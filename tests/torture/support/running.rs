//! Processes under test: started, watched, shot.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::procfs::{Life, Now};

use super::DEADLINE;

/// Between two looks at a fact that nobody announces.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Waits for a fact; `what` names it when it does not come.
pub fn wait_until<T>(what: &str, fact: impl FnMut() -> Option<T>) -> T {
    wait_for(fact).unwrap_or_else(|| panic!("{what} did not come"))
}

/// Waits for a fact; `None` if it does not come.
pub fn wait_for<T>(mut fact: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        if let Some(found) = fact() {
            return Some(found);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    None
}

/// SIGKILL for exactly this process; false if it is gone.
pub fn kill(life: Life) -> bool {
    send(life, Signal::KILL)
}

fn send(life: Life, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(life.pid as i32) else { return false };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // Compared with the handle open: the id cannot move any more.
    life.is_alive() && pidfd_send_signal(&handle, signal).is_ok()
}

/// A child of this test; killed when dropped.
pub struct Running {
    child: Child,
    pub life: Life,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn().unwrap();
        let life = Now::read(child.id()).expect("a child that is not waited for").life;
        Self { child, life }
    }

    pub fn signal(&self, signal: Signal) -> bool {
        send(self.life, signal)
    }

    /// The exit code as a shell shows it, if it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.child.try_wait().unwrap()?;
        Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap()))
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> i32 {
        self.wait_at_most(DEADLINE).expect("it did not end")
    }

    pub fn wait_at_most(&mut self, limit: Duration) -> Option<i32> {
        let pid = Pid::from_raw(self.life.pid as i32).unwrap();
        if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) {
            let timeout = Timespec::try_from(limit).unwrap();
            let _ = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout));
        }
        self.ended()
    }

    /// SIGKILL, and it is gone.
    pub fn shoot(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shoot();
    }
}
