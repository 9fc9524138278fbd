//! What `/proc` says about longhaul's processes, and the clock everything here
//! is measured on: `CLOCK_BOOTTIME`, the one the keeper reports in.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME` in microseconds.
pub fn boot_us() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// What to add to a wall-clock time in microseconds to have it on [`boot_us`].
pub fn wall_to_boot_us() -> i64 {
    let wall = clock_gettime(ClockId::Realtime);
    boot_us() as i64 - (wall.tv_sec * 1_000_000 + wall.tv_nsec / 1000)
}

/// The children of a process, of all its threads.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The program a process runs; `None` when it is gone or a zombie.
pub fn program(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The process below `supervisor` that runs `cli`, if one does: a child of a
/// keeper, past its `exec`.
pub fn cli_below(supervisor: u32, own: &Path, cli: &Path) -> Option<u32> {
    children(supervisor)
        .into_iter()
        .filter(|child| program(*child).is_some_and(|exe| exe == own))
        .flat_map(children)
        .find(|grandchild| program(*grandchild).is_some_and(|exe| exe == cli))
}

/// `root` and everything below it that runs `own`.
pub fn running(root: u32, own: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        open.extend(children(pid));
        if program(pid).is_some_and(|exe| exe == own) {
            found.push(pid);
        }
    }
    found
}

/// Memory of one process, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// `VmRSS`: pages shared with others counted in full.
    pub resident_kib: u64,
    /// Proportional share: a page shared by n counts 1/n.
    pub proportional_kib: u64,
    /// Of the resident: private memory that is no file's.
    pub anonymous_kib: u64,
}

/// `None` when the process is gone.
pub fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(Memory {
        resident_kib: kib(&status, "VmRSS:")?,
        proportional_kib: kib(&rollup, "Pss:")?,
        anonymous_kib: kib(&status, "RssAnon:")?,
    })
}

/// KiB in units of 10^6 bytes.
pub fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

/// The most a process ever had resident, in KiB.
pub fn peak_kib(pid: u32) -> Option<u64> {
    kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmHWM:")
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// CPU time of a process in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// Its own, threads that ended included.
    pub own_ms: f64,
    /// Of the children it waited for.
    pub waited_ms: f64,
}

/// `None` when the process is gone. Resolution: one clock tick, 10 ms.
pub fn cpu(pid: u32) -> Option<Cpu> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: Vec<f64> =
        fields.split_whitespace().skip(11).take(4).filter_map(|f| f.parse().ok()).collect();
    let [user, system, waited_user, waited_system] = ticks[..] else { return None };
    let tick_ms = 1000.0 / rustix::param::clock_ticks_per_second() as f64;
    Some(Cpu {
        own_ms: (user + system) * tick_ms,
        waited_ms: (waited_user + waited_system) * tick_ms,
    })
}

/// Voluntary and involuntary switches of all threads: how often it woke up.
pub fn switches(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .map(|status| kib(&status, "voluntary_ctxt_switches:").unwrap_or(0))
        .sum()
}
