//! Processes of a test, told by a variable in their environment.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    pub pid: i32,
    pub command_line: String,
}

impl Survivor {
    fn id(&self) -> Pid {
        Pid::from_raw(self.pid).unwrap()
    }

    /// `None`: it is gone already.
    fn handle(&self) -> Option<OwnedFd> {
        pidfd_open(self.id(), PidfdFlags::empty()).ok()
    }
}

/// All processes whose environment says `name=value`, this one excepted.
pub fn with_variable(name: &str, value: &str) -> Vec<Survivor> {
    let found = scan(name, value);
    // A child forked behind the scan's back shows in a second one.
    if found.is_empty() { scan(name, value) } else { found }
}

/// A process in the middle of `exec` has no environment for a moment; one
/// started with an empty environment has none for good.
const EXEC_READS: u32 = 200;

/// `None`: it ended meanwhile, is a zombie, a kernel thread or not ours to read.
fn environment_of(process: &Path) -> Option<Vec<u8>> {
    for _ in 0..EXEC_READS {
        let environment = fs::read(process.join("environ")).ok()?;
        if !environment.is_empty() {
            return Some(environment);
        }
        fs::read_link(process.join("exe")).ok()?;
        std::thread::yield_now();
    }
    None
}

fn scan(name: &str, value: &str) -> Vec<Survivor> {
    let wanted = format!("{name}={value}").into_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Some(environment) = environment_of(&entry.path()) else { continue };
        if pid as u32 == std::process::id()
            || !environment.split(|b| *b == 0).any(|pair| pair == wanted)
        {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command_line = String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned();
        found.push(Survivor { pid, command_line });
    }
    found
}

/// All processes with `text` in their command line, this one excepted.
pub fn with_argument(text: &str) -> Vec<Survivor> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command_line = String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned();
        if command_line.contains(text) && pid as u32 != std::process::id() {
            found.push(Survivor { pid, command_line });
        }
    }
    found
}

/// All processes whose working directory is `folder` or below it, this one
/// excepted; it need not exist any more.
pub fn working_below(folder: &Path) -> Vec<Survivor> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let here = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if here && pid as u32 != std::process::id() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command_line = String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned();
            found.push(Survivor { pid, command_line });
        }
    }
    found
}

/// Waits until `list` is empty; what is left at the deadline is returned.
pub fn wait_for_end(list: impl Fn() -> Vec<Survivor>, within: Duration) -> Vec<Survivor> {
    let deadline = Instant::now() + within;
    loop {
        let left = list();
        let Some(first) = left.first() else { return left };
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return left;
        }
        if let Some(handle) = first.handle() {
            let mut fds = [PollFd::new(&handle, PollFlags::IN)];
            let timeout = Timespec::try_from(remaining).unwrap();
            // Readable once the process has ended; an interruption only loops.
            let _ = poll(&mut fds, Some(&timeout));
        }
    }
}

/// Kills everything in `list` until nothing is left.
pub fn kill_all(list: impl Fn() -> Vec<Survivor>) {
    for _ in 0..100 {
        let left = list();
        if left.is_empty() {
            return;
        }
        for survivor in &left {
            let handle = survivor.handle();
            let _ = kill_process(survivor.id(), Signal::KILL);
            if let Some(handle) = handle {
                let mut fds = [PollFd::new(&handle, PollFlags::IN)];
                let _ = poll(&mut fds, Some(&Timespec { tv_sec: 5, tv_nsec: 0 }));
            }
        }
    }
}
