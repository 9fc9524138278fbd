//! Which processes belong to a session, and ending them so that none is left.
//!
//! Two facts make this sure without control groups. A *subreaper* adopts every
//! orphan below it, so whatever the CLI started, however often it forked or
//! called `setsid`, has a chain of parents up to the subreaper. And a process
//! without children has no descendants, so "`wait` says there are no children"
//! is the kernel's own word, free of races, that nothing is left.
//!
//! A signal is only ever sent through a pidfd whose start time was compared
//! with the one seen in the scan, so a reused process id is never hit.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal};

use crate::clock::Timestamp;

/// The variable that marks every process of a run.
pub const RUN_VARIABLE: &str = "LONGHAUL_RUN";

/// The variable that marks the keepers of a run, and whatever else ends by itself
/// what is below it when its longhaul is gone.
pub const KEEPER_VARIABLE: &str = "LONGHAUL_KEEPER";

/// How long descendants of an ended CLI have between SIGTERM and SIGKILL.
pub const DESCENDANT_GRACE_MS: u64 = 500;

/// Longest time spent on SIGKILL rounds before survivors are reported.
pub const KILL_LIMIT_MS: u64 = 5_000;

/// Longest wait for a keeper that lost its longhaul: its CLI's grace, its
/// descendants' grace, the kill rounds, and a second to spare.
pub const KEEPER_LIMIT_MS: u64 = 8_500;

/// Pause between two looks at processes that were told to end.
const ROUND_MS: u64 = 5;

/// One process, as `/proc/<pid>/stat` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Parent's process id.
    pub parent: u32,
    /// Start time in clock ticks since boot; with the id it names one process for ever.
    pub start_ticks: u64,
    /// Dead but not yet waited for.
    pub zombie: bool,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Processes found alive and told to end.
    pub killed: u32,
    /// Processes still alive when the time was up.
    pub survivors: u32,
}

impl Process {
    /// The process with this id now; `None` when there is none.
    pub fn read(pid: u32) -> Option<Self> {
        read_stat(pid, |stat| stat.process)
    }

    /// A handle on exactly this process; `None` when it is gone.
    fn open(&self) -> Option<OwnedFd> {
        let fd = pidfd_open(raw_pid(self.pid)?, PidfdFlags::empty()).ok()?;
        // Compared after the handle is open: from here on the id cannot move.
        (Process::read(self.pid)?.start_ticks == self.start_ticks).then_some(fd)
    }

    /// Sends `signal` to exactly this process; false when it is gone.
    pub fn signal(&self, signal: Signal) -> bool {
        self.open().is_some_and(|fd| pidfd_send_signal(fd, signal).is_ok())
    }

    /// Whether exactly this process still runs.
    pub fn alive(&self) -> bool {
        Process::read(self.pid)
            .is_some_and(|now| now.start_ticks == self.start_ticks && !now.zombie)
    }
}

/// The process group of this process, by its leader's id. `getpgrp` cannot be
/// asked: its answer may be 0, which is no process id.
pub fn own_group() -> Option<i64> {
    read_stat(std::process::id(), |stat| stat.group)
}

/// The name the kernel shows for a process; it changes at `exec`.
pub(super) fn command_name(pid: u32) -> Option<Vec<u8>> {
    read_stat(pid, |stat| stat.name.to_vec())
}

fn raw_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// What `/proc/<pid>/stat` says of a process, as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat<'a> {
    /// Which process.
    pub process: Process,
    /// What it runs, 15 bytes at most.
    pub name: &'a [u8],
    /// Stopped by a signal or a debugger.
    pub is_stopped: bool,
    /// CPU time of its own threads, also of those that ended; clock ticks.
    pub own_ticks: u64,
    /// CPU time of its children that have ended and were waited for, and of
    /// what those had waited for themselves; clock ticks.
    pub waited_ticks: u64,
    /// Its threads, the first one also when it has ended.
    pub threads: u32,
    /// The process group it is in, by its leader's id; 0 when that leader is
    /// outside of this pid namespace, or is the kernel's own.
    pub group: i64,
    /// The session (`setsid`) it is in; as `group`.
    pub session: i64,
    /// Memory it has mapped and that is in memory; pages.
    pub resident_pages: u64,
}

/// Reads the line of process `pid` and gives what `take` makes of it; `None`
/// when there is no such process.
pub(super) fn read_stat<T>(pid: u32, take: impl FnOnce(Stat<'_>) -> T) -> Option<T> {
    // Fifty-two numbers and a name: never as long as this.
    let mut buffer = [0; 2048];
    let path = format!("/proc/{pid}/stat");
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // The kernel gives the whole line to one read.
    let count = rustix::io::read(&fd, &mut buffer).ok()?;
    parse_stat(&buffer[..count]).map(take)
}

/// `pid (name) state ppid …`; the name may hold blanks and parentheses.
fn parse_stat(line: &[u8]) -> Option<Stat<'_>> {
    let open = line.iter().position(|&b| b == b'(')?;
    let close = line.iter().rposition(|&b| b == b')')?;
    let pid = std::str::from_utf8(&line[..open]).ok()?.trim().parse().ok()?;
    let name = line.get(open + 1..close)?;
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    // The file counts its fields from 1; `state` is the third of them.
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let mut number = |skip: usize| fields.nth(skip)?.parse::<i64>().ok();
    let (group, session) = (number(0)?, number(0)?);
    let (user, system) = (number(7)?, number(0)?);
    let (waited_user, waited_system) = (number(0)?, number(0)?);
    let threads = number(2)?;
    let start_ticks = number(1)?.try_into().ok()?;
    let resident = number(1)?;
    // Also a process whose first thread alone has ended shows as a zombie.
    let zombie = matches!(state, "X" | "x") || (state == "Z" && threads <= 1);
    let sum = |a: i64, b: i64| a.max(0).saturating_add(b.max(0)) as u64;
    Some(Stat {
        process: Process { pid, parent, start_ticks, zombie },
        name,
        is_stopped: matches!(state, "T" | "t"),
        own_ticks: sum(user, system),
        waited_ticks: sum(waited_user, waited_system),
        threads: threads.try_into().ok()?,
        group,
        session,
        resident_pages: sum(resident, 0),
    })
}

/// The id of every process that can be seen.
pub(super) fn all_pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Every process that can be seen.
fn all_processes() -> Vec<Process> {
    all_pids().filter_map(Process::read).collect()
}

/// Every process below `root`, zombies included, except those in `except` and
/// whatever is below them.
pub fn descendants_of(root: u32, except: &[u32]) -> Vec<Process> {
    let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    for process in all_processes() {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            if !except.contains(&child.pid) {
                open.push(child.pid);
                found.push(child);
            }
        }
    }
    found
}

/// Every process below this one, except those in `except` and below them.
pub fn descendants_of_self(except: &[u32]) -> Vec<Process> {
    descendants_of(std::process::id(), except)
}

/// Every living process of this user whose environment, as it was at `exec`,
/// holds `variable=value`. This process and those above it are left out.
pub fn marked(variable: &str, value: &str) -> Vec<Process> {
    let wanted = format!("{variable}={value}").into_bytes();
    let uid = rustix::process::geteuid().as_raw();
    let above = self_and_ancestors();
    all_processes()
        .into_iter()
        .filter(|process| !process.zombie && !above.contains(&process.pid))
        .filter(|process| {
            let path = format!("/proc/{}", process.pid);
            std::fs::metadata(&path).is_ok_and(|meta| meta.uid() == uid)
                && std::fs::read(format!("{path}/environ"))
                    .is_ok_and(|environ| environ.split(|&b| b == 0).any(|entry| entry == wanted))
        })
        .collect()
}

fn self_and_ancestors() -> HashSet<u32> {
    let mut above = HashSet::new();
    let mut next = Some(std::process::id());
    while let Some(pid) = next {
        if pid == 0 || !above.insert(pid) {
            break;
        }
        next = Process::read(pid).map(|process| process.parent);
    }
    above
}

/// Ends every process `find` names, and asks again until it names none:
/// SIGTERM (with SIGCONT, so that a stopped one can act on it), `grace_ms` to
/// comply, then SIGKILL for up to [`KILL_LIMIT_MS`]. Zombies that are children
/// of this process are reaped when `find` names them. Blocks that long at worst.
pub fn kill_all(grace_ms: u64, find: impl FnMut() -> Vec<Process>) -> Swept {
    let (ended, left) = kill_rounds(grace_ms, find, || false);
    Swept { killed: ended.len() as u32, survivors: left.len() as u32 }
}

/// As [`kill_all`]; gives the processes that were signalled and those left.
/// When it comes to SIGKILL, `strike` is called first, once: it may send it to
/// all of them in one stroke, and says whether it did.
pub(super) fn kill_rounds(
    grace_ms: u64,
    mut find: impl FnMut() -> Vec<Process>,
    strike: impl FnOnce() -> bool,
) -> (HashSet<Process>, Vec<Process>) {
    let start = Timestamp::now();
    let mut ended: HashSet<Process> = HashSet::new();
    let mut strike = Some(strike);
    loop {
        let (zombies, living): (Vec<_>, Vec<_>) = find().into_iter().partition(|p| p.zombie);
        for pid in zombies.iter().filter_map(|zombie| raw_pid(zombie.pid)) {
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
        }
        let elapsed_ms = Timestamp::now().ms_since(start);
        let Some(first) = living.first() else { return (ended, living) };
        if elapsed_ms > grace_ms + KILL_LIMIT_MS {
            return (ended, living);
        }
        // A process may be adopted between two looks: compare without the parent.
        let name_of = |process: &Process| Process { parent: 0, ..*process };
        let mut missed = true;
        if elapsed_ms >= grace_ms && strike.take().is_some_and(|strike| strike()) {
            ended.extend(living.iter().map(name_of));
            missed = false;
        }
        for process in &living {
            let name = name_of(process);
            if elapsed_ms >= grace_ms {
                if process.signal(Signal::KILL) {
                    ended.insert(name);
                    missed = false;
                }
            } else if !ended.contains(&name) && process.signal(Signal::TERM) {
                process.signal(Signal::CONT);
                ended.insert(name);
            }
        }
        // One that forks and exits faster than a round is caught only by going
        // on at once.
        if !missed || elapsed_ms < grace_ms {
            pause(first, ROUND_MS);
        }
    }
}

/// As [`kill_all`] for all that is below this process, which must be a subreaper
/// and have nobody else wait for its children: the kernel's "no children" is the
/// proof that nothing is left.
pub fn end_all_below(grace_ms: u64) -> Swept {
    let mut swept = kill_all(grace_ms, living_below);
    swept.survivors = swept.survivors.max(u32::from(!is_childless()));
    swept
}

/// What lives below this process. A scan of `/proc` can miss a process that forks
/// while it is made, so one that finds nothing is made again while there are children.
fn living_below() -> Vec<Process> {
    let start = Timestamp::now();
    while !is_childless() && Timestamp::now().ms_since(start) < KILL_LIMIT_MS {
        let mut found = descendants_of_self(&[]);
        found.retain(|process| !process.zombie);
        if !found.is_empty() {
            return found;
        }
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
    }
    Vec::new()
}

/// Waits for every child that has ended; whether there are no others.
fn is_childless() -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

/// Waits until `process` is gone, at most `limit_ms`.
fn pause(process: &Process, limit_ms: u64) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: (limit_ms * 1_000_000) as i64 };
    match process.open() {
        Some(fd) => drop(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout))),
        None => drop(poll(&mut [], Some(&timeout))),
    }
}

/// Ends what an earlier longhaul of this run left behind, if anything.
///
/// The keepers of an earlier longhaul notice by themselves that it is gone and
/// end their sessions; they see even processes that dropped every mark, so they
/// get the time they need. What is still there afterwards and carries the run's
/// mark, or came to us as an orphan, is killed. Blocks at worst for
/// [`KEEPER_LIMIT_MS`] and the kill rounds.
pub fn clear_run(run_id: &str) -> Swept {
    let start = Timestamp::now();
    while let Some(keeper) = marked(KEEPER_VARIABLE, run_id).first() {
        if Timestamp::now().ms_since(start) > KEEPER_LIMIT_MS {
            break;
        }
        pause(keeper, 100);
    }
    clear_lost(run_id)
}

/// Processes that this one started for itself and that are no session's.
static OWN: Mutex<Vec<Process>> = Mutex::new(Vec::new());

/// Marks a child that this process started for its own books, for as long as it is
/// waited for. It may have the run's mark and a session (`setsid`) of its own, and yet
/// it is nothing that a lost keeper left.
#[derive(Debug)]
pub struct Own(Option<Process>);

impl Own {
    /// The child with this id, which must not have been waited for.
    pub fn of(pid: Option<u32>) -> Self {
        let process = pid.and_then(Process::read);
        own().extend(process);
        Self(process)
    }

    fn holds(process: &Process) -> bool {
        own().iter().any(|own| (own.pid, own.start_ticks) == (process.pid, process.start_ticks))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        own().retain(|other| Some(*other) != self.0);
    }
}

fn own() -> MutexGuard<'static, Vec<Process>> {
    // A list of numbers is sound whatever its holder did.
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`clear_run`], at once: for a keeper that is known to be gone. What else
/// this process runs for the person ends with it, but for [`Own`].
pub fn clear_lost(run_id: &str) -> Swept {
    let mut find = || {
        let mut found = marked(KEEPER_VARIABLE, run_id);
        found.extend(marked(RUN_VARIABLE, run_id));
        for process in adopted() {
            // Of one that is marked as well the other look may be older.
            if found.iter().all(|other| other.pid != process.pid) {
                found.push(process);
            }
        }
        found.retain(|process| !Own::holds(process));
        found
    };
    // A keeper that did not go by itself must not go on with what it has.
    let swept = kill_all(0, &mut find);
    Swept { killed: swept.killed + super::cgroup::end_run(run_id), ..swept }
}

/// Ends what fell to this process, the reaper of orphans, from children of its own that
/// were killed, and reaps it. The children in `own` live and are left alone with all
/// below them; so are keepers, which end what they hold by themselves.
pub fn end_orphans(own: &[u32]) -> Swept {
    kill_all(0, || {
        let this = std::process::id();
        let keepers = all_processes()
            .into_iter()
            .filter(|process| process.parent == this && !process.zombie && is_keeper(process.pid));
        let mut except = own.to_vec();
        except.extend(keepers.map(|process| process.pid));
        descendants_of_self(&except)
    })
}

fn is_keeper(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
    [super::KEEPER_COMMAND, super::COMMAND_KEEPER_COMMAND]
        .iter()
        .any(|name| command == name.as_bytes())
}

/// What a lost keeper left to this process, marked or not, and the zombies
/// among it, if this process is the reaper of orphans. Everything below a
/// keeper is in another session than this process; of what this process starts
/// itself, only [`Own`] and couriers of notifications are.
fn adopted() -> Vec<Process> {
    let is_reaper = matches!(rustix::process::child_subreaper(), Ok(Some(_)));
    // Not by `getsid`: its answer may be 0, which is no process id.
    let session = |pid| read_stat(pid, |stat| stat.session);
    let own = session(std::process::id());
    if !is_reaper || own.is_none() {
        return Vec::new();
    }
    let mut found = descendants_of_self(&[]);
    found.retain(|process| session(process.pid) != own);
    found
}

/// Whether a process is a descendant of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descent {
    /// Its chain of parents leads to the other.
    Below,
    /// Its chain of parents leads past it to the first process.
    Elsewhere,
    /// It is gone, or one above it went while we looked.
    Unknown,
}

/// Whether `pid` descends from `ancestor`, by the chain of parents as it is now.
pub fn descent(pid: u32, ancestor: u32) -> Descent {
    // Longer than any system's table of processes: the tree changes under our
    // feet, and the walk must end.
    const MAX_STEPS: u32 = 1 << 22;
    let mut at = pid;
    for _ in 0..MAX_STEPS {
        let Some(process) = Process::read(at) else { return Descent::Unknown };
        match process.parent {
            // A process of another pid namespace's outside has parent 0 as well.
            0 => return Descent::Elsewhere,
            parent if parent == ancestor => return Descent::Below,
            parent => at = parent,
        }
    }
    Descent::Unknown
}

/// Makes this process adopt whatever is orphaned below it.
///
/// # Errors
/// The kernel refuses, which none since 3.4 does.
pub fn become_subreaper() -> crate::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(|errno| {
        crate::Error::internal("cannot become the reaper of orphaned processes").caused_by(errno)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_even_when_the_name_tries_to_deceive() {
        let line =
            b"4242 (a) R 1 (b) T 17 4242 4243 0 -1 4194560 1 2 3 4 50 6 700 8 20 0 3 0 99887 10 11";
        let expected = Stat {
            process: Process { pid: 4242, parent: 17, start_ticks: 99887, zombie: false },
            name: b"a) R 1 (b",
            is_stopped: true,
            own_ticks: 56,
            waited_ticks: 708,
            threads: 3,
            group: 4242,
            session: 4243,
            resident_pages: 11,
        };
        assert_eq!(parse_stat(line), Some(expected));
    }

    #[test]
    fn a_process_that_lost_only_its_first_thread_is_no_zombie() {
        let line = |state: &str, threads: u32| {
            format!("7 (x) {state} 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 5 0 0")
        };
        let zombie =
            |state, threads| parse_stat(line(state, threads).as_bytes()).unwrap().process.zombie;
        assert!(zombie("Z", 1) && zombie("X", 0));
        assert!(!zombie("Z", 2) && !zombie("S", 1));
    }

    #[test]
    fn a_short_or_odd_stat_line_is_no_process() {
        let odd = [&b""[..], b"1", b"1 (x", b"1 (x) S", b"x (y) S 1", b") (", b"1 (x) S 1 2 3"];
        for stat in odd {
            assert_eq!(parse_stat(stat), None, "{}", String::from_utf8_lossy(stat));
        }
    }

    #[test]
    fn this_process_is_seen_alive_and_a_later_one_with_its_id_is_not_taken_for_it() {
        let me = Process::read(std::process::id()).unwrap();
        assert!(me.alive());
        let other = Process { start_ticks: me.start_ticks + 1, ..me };
        assert!(!other.alive());
        assert!(!other.signal(Signal::KILL), "a reused id must not be hit");
    }

    #[test]
    fn descent_is_told_however_deep_and_unknown_when_gone() {
        let me = std::process::id();
        let parent = Process::read(me).unwrap().parent;
        assert_eq!(descent(me, parent), Descent::Below);
        assert_eq!(descent(parent, me), Descent::Elsewhere);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(descent(child.id(), me), Descent::Unknown);

        // A hundred shells, each the child of the one before; the last says its pid.
        let nest =
            "n=$1; if [ $n -gt 0 ]; then sh -c \"$0\" \"$0\" $((n-1)); exit; fi; echo $$; cat";
        let mut deep = std::process::Command::new("sh")
            .args(["-c", nest, nest, "100"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = std::io::BufReader::new(deep.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        let deepest = line.trim().parse().unwrap();
        assert_eq!(descent(deepest, me), Descent::Below);
        assert_eq!(descent(deepest, deep.id()), Descent::Below);
        drop(deep.stdin.take());
        deep.wait().unwrap();
    }

    #[test]
    fn what_this_process_started_for_its_books_is_not_taken_for_what_a_keeper_left() {
        let run_id = uuid::Uuid::new_v4().to_string();
        let start = || {
            let mut command = std::process::Command::new("setsid");
            command.args(["sleep", "600"]).env(RUN_VARIABLE, &run_id).spawn().unwrap()
        };
        let (mut books, mut left) = (start(), start());
        // A child has its mark from `exec` on.
        while marked(RUN_VARIABLE, &run_id).len() < 2 {
            std::thread::yield_now();
        }
        let own = Own::of(Some(books.id()));
        assert_eq!(clear_lost(&run_id), Swept { killed: 1, survivors: 0 });
        assert!(!left.wait().unwrap().success());
        assert!(books.try_wait().unwrap().is_none(), "it goes on");
        drop(own);
        assert_eq!(clear_lost(&run_id), Swept { killed: 1, survivors: 0 });
        books.wait().unwrap();
    }

    #[test]
    fn neither_this_process_nor_its_ancestors_count_as_left_over() {
        let above = self_and_ancestors();
        assert!(above.contains(&std::process::id()));
        assert!(above.contains(&Process::read(std::process::id()).unwrap().parent));
    }
}
