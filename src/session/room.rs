//! The keeper process: it holds one live CLI and outlives longhaul by just as
//! long as it takes to end that CLI. Another holds, without a terminal, a command
//! that longhaul runs for the person.
//!
//! ```text
//!  longhaul ──socketpair (fd 0: commands, events, leash)── keeper ──pty── CLI ── its children
//!                                                          └ subreaper: adopts whatever the CLI leaves
//! ```
//!
//! One thread, `poll`, no runtime: it must stay small and hardly ever wake up.
//! It decides nothing but how to end what is below it, because it is the only
//! one left to do so when longhaul is gone, however longhaul went.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, getppid, pidfd_open, waitid,
};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM};

use super::cgroup::{Group, spawn_grouped};
use super::sweep::{self, DESCENDANT_GRACE_MS, KEEPER_VARIABLE, Process};
use super::terminal::Terminal;
use super::wire::{Ending, FrameBuffer, KeeperCommand, KeeperEvent, LAST_SCREEN, Launch};
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// The keeper's name in process lists, 15 bytes at most. A child of it that
/// still carries this name never got as far as running the CLI.
const PROCESS_NAME: &std::ffi::CStr = c"longhaul-keeper";

/// How long the CLI has to clean up and write its bill when longhaul is gone.
pub const LEASH_GRACE_MS: u64 = 2_000;

/// After a small piece of output the terminal is left alone this long: a
/// spinner redraws many times a second and nobody needs each frame. The
/// kernel's buffer holds what comes meanwhile.
const DRAIN_PAUSE_MS: u64 = 100;

/// Output in one read that counts as a flood, which is drained without pause.
const FLOOD_BYTES: u64 = 2_048;

/// Events waiting for a longhaul that does not read; beyond it screens are dropped.
const OUTGOING_MAX_BYTES: usize = 256 << 10;

/// How long after its hang-up longhaul may take to end if it was killed.
const DEATH_MS: u64 = 500;

/// How long the last events may take to be handed over.
const FAREWELL_MS: u64 = 1_000;

/// What a keeper holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// The CLI, on a pty.
    Session,
    /// A command of the person's, which prints to the keeper's own output.
    Command,
}

/// Runs the keeper with its control socket as standard input. Always exits 0:
/// whatever is worth knowing was said through the socket.
pub fn keeper_main(holds: Holds) -> ExitCode {
    // The socket is what failures are reported through, so without it there is
    // nothing to say and, nothing being launched yet, nothing to end.
    if let Ok(mut room) = Room::open(holds) {
        room.live();
        room.tidy_up();
    }
    ExitCode::SUCCESS
}

/// Whether anything may still be below this process.
#[derive(PartialEq, Eq)]
enum Below {
    Nothing,
    Something,
}

struct Cli {
    process: Process,
    /// Set once it has ended.
    gone: bool,
}

struct Room {
    holds: Holds,
    control: Control,
    signals: Signals,
    terminal: Option<Terminal>,
    cli: Option<Cli>,
    /// Around the CLI and all it starts, where that can be.
    group: Option<Group>,
    /// To be removed when longhaul is gone.
    scratch: Option<PathBuf>,
    /// longhaul, as a handle that tells when it has ended.
    parent: Option<OwnedFd>,
    /// When the tree is killed because longhaul is gone; boot clock.
    kill_at_ms: Option<u64>,
    /// Not before this moment is the terminal read again; boot clock.
    drain_at_ms: u64,
}

impl Room {
    fn open(holds: Holds) -> Result<Self> {
        // Out of the reach of a Ctrl-C at longhaul's terminal. Fails only for
        // a group leader, which then is out of reach already.
        let _ = rustix::process::setsid();
        let _ = rustix::thread::set_name(PROCESS_NAME);
        let parent = getppid().and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        sweep::become_subreaper()?;
        let signals = Signals::register()?;
        let control = Control::open()?;
        Ok(Room {
            holds,
            control,
            signals,
            terminal: None,
            cli: None,
            group: None,
            scratch: None,
            parent,
            kill_at_ms: None,
            drain_at_ms: 0,
        })
    }

    /// Serves until the CLI has ended and nothing is left of it.
    fn live(&mut self) {
        loop {
            self.await_something();
            self.control.receive();
            loop {
                match self
                    .control
                    .incoming
                    .next_body()
                    .map(|b| b.map(|b| KeeperCommand::decode(&b)))
                {
                    Ok(None) => break,
                    Ok(Some(Ok(command))) => {
                        if self.obey(command).is_break() {
                            return self.control.farewell();
                        }
                    }
                    // Out of step with longhaul: as good as gone.
                    Ok(Some(Err(_))) | Err(_) => {
                        self.control.open = false;
                        break;
                    }
                }
            }
            if self.signals.told_to_end() {
                self.control.open = false;
            }
            if !self.control.open && self.leash_lost().is_break() {
                return self.control.farewell();
            }
            if let Some(terminal) = &mut self.terminal {
                for event in terminal.type_on() {
                    self.control.say(&event);
                }
            }
            self.drain_if_due();
            self.reap();
            if self.cli.as_ref().is_some_and(|cli| cli.gone) {
                self.sweep(DESCENDANT_GRACE_MS);
                return self.control.farewell();
            }
            self.control.flush();
        }
    }

    /// Removes the run's temporary folder if longhaul can do so no more. One that
    /// let go of the leash and lives on still needs it.
    fn tidy_up(&self) {
        let (Some(scratch), Some(parent)) = (&self.scratch, &self.parent) else { return };
        if !self.control.hung_up {
            return;
        }
        // A process that is killed hangs up a moment before it has ended.
        let timeout = Timespec { tv_sec: 0, tv_nsec: (DEATH_MS * 1_000_000) as i64 };
        if let Ok(1..) = poll(&mut [PollFd::new(parent, PollFlags::IN)], Some(&timeout)) {
            // No link in it is followed. What cannot be removed stays for the next
            // run, and there is nobody to tell.
            let _ = std::fs::remove_dir_all(scratch);
        }
    }

    /// Sleeps until there is something to do.
    fn await_something(&mut self) {
        let now_ms = Timestamp::now().boot_ms;
        let mut control_wants = PollFlags::empty();
        if self.control.open {
            control_wants |= PollFlags::IN;
            if !self.control.outgoing.is_empty() {
                control_wants |= PollFlags::OUT;
            }
        }
        let mut fds = vec![PollFd::new(&self.signals.wake, PollFlags::IN)];
        if self.control.open {
            fds.push(PollFd::new(&self.control.fd, control_wants));
        }
        let mut wait_ms = self.kill_at_ms.map(|at_ms| at_ms.saturating_sub(now_ms));
        let mut at_most = |ms: u64| wait_ms = Some(wait_ms.map_or(ms, |other| other.min(ms)));
        let terminal_fd = self.terminal.as_ref().and_then(Terminal::fd);
        if let (Some(terminal), Some(fd)) = (&self.terminal, &terminal_fd) {
            let mut wants = PollFlags::empty();
            if now_ms >= self.drain_at_ms {
                wants |= PollFlags::IN;
            } else {
                at_most(self.drain_at_ms - now_ms);
            }
            if terminal.wants_to_write() {
                wants |= PollFlags::OUT;
            }
            if let Some(ms) = terminal.due_in_ms() {
                at_most(ms);
            }
            if !wants.is_empty() {
                fds.push(PollFd::new(fd, wants));
            }
        }
        let timeout = wait_ms.map(|ms| Timespec {
            tv_sec: (ms / 1000) as i64,
            tv_nsec: (ms % 1000 * 1_000_000) as i64,
        });
        // An interrupted poll is a wake-up like any other.
        let _ = poll(&mut fds, timeout.as_ref());
    }

    fn obey(&mut self, command: KeeperCommand) -> std::ops::ControlFlow<()> {
        use std::ops::ControlFlow::{Break, Continue};
        match command {
            KeeperCommand::Launch(launch) => return self.launch(&launch),
            KeeperCommand::Submit { id, text } => {
                if let Some(event) = self.terminal.as_mut().and_then(|t| t.submit(id, &text)) {
                    self.control.say(&event);
                }
            }
            KeeperCommand::Press(key) => {
                if let Some(terminal) = &mut self.terminal {
                    terminal.press(key);
                }
            }
            KeeperCommand::End(Ending::Terminate) => self.signal_cli(Signal::TERM),
            KeeperCommand::End(Ending::Interrupt) => self.signal_cli(Signal::INT),
            KeeperCommand::End(Ending::Kill) => {
                self.sweep(0);
                return Break(());
            }
            KeeperCommand::ScreenRequest { id } => self.show_screen(id),
        }
        Continue(())
    }

    fn launch(&mut self, launch: &Launch) -> std::ops::ControlFlow<()> {
        use std::ops::ControlFlow::{Break, Continue};
        // A longhaul that died right after asking must not get a CLI that is
        // only there to be killed; a second launch would lose the first.
        if !self.control.open || self.cli.is_some() {
            return if self.cli.is_some() { Continue(()) } else { Break(()) };
        }
        self.scratch.clone_from(&launch.scratch);
        let run_id = std::env::var(KEEPER_VARIABLE).ok();
        let (spawned, group) = spawn_grouped(run_id.as_deref(), || match self.holds {
            Holds::Session => Terminal::spawn(launch).map(|(terminal, pid)| (Some(terminal), pid)),
            Holds::Command => spawn_command(launch).map(|pid| (None, pid)),
        });
        self.group = group;
        match spawned {
            Ok((terminal, pid)) => {
                // Not waited for yet, so it is there even if it has ended.
                let process = Process::read(pid).unwrap_or(Process {
                    pid,
                    parent: std::process::id(),
                    start_ticks: 0,
                    zombie: false,
                });
                self.control.say(&KeeperEvent::Spawned { pid, start_ticks: process.start_ticks });
                self.terminal = terminal;
                self.cli = Some(Cli { process, gone: false });
                // From here on it waits, for hours.
                crate::memory::release_program();
                Continue(())
            }
            Err(err) => {
                if let Some(group) = self.group.take() {
                    group.remove();
                }
                self.control.say(&KeeperEvent::SpawnFailed { message: err.to_string() });
                Break(())
            }
        }
    }

    /// Ends everything because nobody holds the leash any more.
    fn leash_lost(&mut self) -> std::ops::ControlFlow<()> {
        use std::ops::ControlFlow::{Break, Continue};
        if self.cli.is_none() {
            return Break(());
        }
        if self.holds == Holds::Command {
            self.sweep(DESCENDANT_GRACE_MS);
            return Break(());
        }
        let now_ms = Timestamp::now().boot_ms;
        match self.kill_at_ms {
            None => {
                self.signal_cli(Signal::TERM);
                self.kill_at_ms = Some(now_ms + LEASH_GRACE_MS);
                Continue(())
            }
            Some(at_ms) if now_ms >= at_ms => {
                self.sweep(0);
                Break(())
            }
            Some(_) => Continue(()),
        }
    }

    fn signal_cli(&self, signal: Signal) {
        if let Some(cli) = &self.cli {
            cli.process.signal(signal);
            // A stopped process acts on nothing.
            cli.process.signal(Signal::CONT);
        }
    }

    fn drain_if_due(&mut self) {
        let now_ms = Timestamp::now().boot_ms;
        let Some(terminal) = &mut self.terminal else { return };
        // Nothing read is no reason to wake up again later: `poll` will tell.
        if now_ms >= self.drain_at_ms && (1..FLOOD_BYTES).contains(&terminal.drain()) {
            self.drain_at_ms = now_ms + DRAIN_PAUSE_MS;
        }
    }

    /// Tells what the terminal shows now.
    fn show_screen(&mut self, id: u32) {
        if let Some(terminal) = &mut self.terminal {
            terminal.drain_up();
            self.control.say(&terminal.screen(id));
        }
    }

    /// Waits for every child that has ended, the CLI among them.
    fn reap(&mut self) -> Below {
        loop {
            // The CLI first, and without taking it away yet: see `cli_ended`.
            if let Some(cli) = self.cli.as_ref().filter(|cli| !cli.gone)
                && let Some(pid) = Pid::from_raw(cli.process.pid as i32)
            {
                let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
                if let Ok(Some(status)) = waitid(WaitId::Pid(pid), look) {
                    self.cli_ended(status.exit_status(), status.terminating_signal());
                }
            }
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let ended_just_now = self
                        .cli
                        .as_ref()
                        .is_some_and(|cli| !cli.gone && cli.process.pid == pid.as_raw_pid() as u32);
                    if ended_just_now {
                        self.cli_ended(status.exit_status(), status.terminating_signal());
                    }
                }
                Ok(None) => return Below::Something,
                Err(Errno::INTR) => {}
                Err(_) => return Below::Nothing,
            }
        }
    }

    /// The CLI is a zombie now: say so, while its name can still be read.
    fn cli_ended(&mut self, code: Option<i32>, signal: Option<i32>) {
        self.show_screen(LAST_SCREEN);
        let Some(cli) = &mut self.cli else { return };
        cli.gone = true;
        // portable-pty closes the pipe through which a failed exec would be
        // reported. But a process that kept our name never ran the program.
        if sweep::command_name(cli.process.pid).as_deref() == Some(PROCESS_NAME.to_bytes()) {
            let message =
                "the program could not be executed: wrong format, or its interpreter is missing";
            self.control.say(&KeeperEvent::SpawnFailed { message: message.to_owned() });
        } else {
            self.control.say(&KeeperEvent::Exited { code, signal });
        }
    }

    /// Ends whatever is below, and says so.
    fn sweep(&mut self, grace_ms: u64) {
        let group = self.group.take();
        let find = || {
            // Whoever writes its last words must not block on a full pty.
            if let Some(terminal) = &mut self.terminal {
                terminal.drain_up();
            }
            self.living_below()
        };
        let strike = || group.as_ref().is_some_and(Group::kill);
        let (mut ended, left) = sweep::kill_rounds(grace_ms, find, strike);
        if let Some(cli) = &self.cli {
            ended.retain(|process| process.pid != cli.process.pid);
        }
        let unseen = u32::from(left.is_empty() && self.reap() == Below::Something);
        if let Some(group) = group {
            group.remove();
        }
        self.control.say(&KeeperEvent::Swept {
            killed: ended.len() as u32,
            survivors: left.len() as u32 + unseen,
        });
    }

    /// What lives below. The kernel's "no children" is the only proof that
    /// nothing does; a scan of `/proc` can miss a process that forks while it
    /// is made, so an empty one is made again.
    fn living_below(&mut self) -> Vec<Process> {
        let start = Timestamp::now();
        while Timestamp::now().ms_since(start) < sweep::KILL_LIMIT_MS {
            if self.reap() == Below::Nothing {
                break;
            }
            let mut found = sweep::descendants_of_self(&[]);
            found.retain(|process| !process.zombie);
            if !found.is_empty() {
                return found;
            }
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
        }
        Vec::new()
    }
}

/// Starts a command in a process group of its own, so that none it sends to its
/// group reaches the keeper, and lets go of the output: it ends when the last
/// process below does.
fn spawn_command(launch: &Launch) -> Result<u32> {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    let spawned = Command::new(&launch.program)
        .args(&launch.args)
        .env_clear()
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&launch.cwd)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn();
    let child = spawned.map_err(|err| {
        Error::usage(format!("cannot start {}", launch.program.display())).caused_by(err)
    })?;
    if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    Ok(child.id())
}

/// The socket to longhaul.
struct Control {
    fd: OwnedFd,
    incoming: FrameBuffer,
    outgoing: Vec<u8>,
    /// False from the moment longhaul is known to be gone, or as good as that.
    open: bool,
    /// Nobody holds the other end any more.
    hung_up: bool,
}

impl Control {
    fn open() -> Result<Self> {
        let failed = |errno: Errno| Error::internal("no control socket").caused_by(errno);
        let fd = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3).map_err(failed)?;
        let flags = fcntl_getfl(&fd).map_err(failed)?;
        fcntl_setfl(&fd, flags | OFlags::NONBLOCK).map_err(failed)?;
        Ok(Control {
            fd,
            incoming: FrameBuffer::default(),
            outgoing: Vec::new(),
            open: true,
            hung_up: false,
        })
    }

    /// Reads whatever is there, up to the end of the stream: a launch and the
    /// end right behind it are seen together.
    fn receive(&mut self) {
        let mut buffer = [0; 8 << 10];
        while self.open {
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(0) => self.hang_up(),
                Ok(count) => self.incoming.extend(&buffer[..count]),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.hang_up(),
            }
        }
    }

    fn hang_up(&mut self) {
        self.open = false;
        self.hung_up = true;
    }

    /// Queues an event. A screen is dropped when longhaul does not keep up.
    fn say(&mut self, event: &KeeperEvent) {
        let dispensable = matches!(event, KeeperEvent::Screen { .. });
        if !dispensable || self.outgoing.len() < OUTGOING_MAX_BYTES {
            self.outgoing.extend(event.encode());
        }
        self.flush();
    }

    /// Writes what can be written now. A failure is left to the reading side.
    fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            match rustix::io::write(&self.fd, &self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Writes the rest, for as long as a slow reader may take.
    fn farewell(&mut self) {
        let start = Timestamp::now();
        self.flush();
        while self.open && !self.outgoing.is_empty() {
            let left_ms = FAREWELL_MS.saturating_sub(Timestamp::now().ms_since(start));
            if left_ms == 0 {
                return;
            }
            let timeout = Timespec { tv_sec: 0, tv_nsec: (left_ms.min(999) * 1_000_000) as i64 };
            let _ = poll(&mut [PollFd::new(&self.fd, PollFlags::OUT)], Some(&timeout));
            self.flush();
        }
    }
}

/// Signals as wake-ups of the loop.
struct Signals {
    wake: UnixStream,
    end: Arc<AtomicBool>,
}

impl Signals {
    fn register() -> Result<Self> {
        let failed = |err: std::io::Error| Error::internal("cannot watch signals").caused_by(err);
        let (wake, write) = UnixStream::pair().map_err(failed)?;
        wake.set_nonblocking(true).map_err(failed)?;
        let end = Arc::new(AtomicBool::new(false));
        let ending = [SIGTERM, SIGHUP, SIGINT, SIGQUIT];
        for signal in ending {
            signal_hook::flag::register(signal, Arc::clone(&end)).map_err(failed)?;
        }
        for signal in ending.into_iter().chain([SIGCHLD]) {
            let write = write.try_clone().map_err(failed)?;
            signal_hook::low_level::pipe::register(signal, write).map_err(failed)?;
        }
        // An ignored signal stays ignored across exec, a handled one does not:
        // handling what longhaul's parent ignored gives the CLI clean defaults.
        // SIGPIPE is set right by std.
        let never_mind = Arc::new(AtomicBool::new(false));
        for signal in ignored_signals() {
            if signal != SIGPIPE && !signal_hook::consts::FORBIDDEN.contains(&signal) {
                let _ = signal_hook::flag::register(signal, Arc::clone(&never_mind));
            }
        }
        Ok(Signals { wake, end })
    }

    /// Empties the wake-up pipe; true from the first ending signal on.
    fn told_to_end(&mut self) -> bool {
        let mut buffer = [0; 64];
        while matches!(rustix::io::read(self.wake.as_fd(), &mut buffer), Ok(count) if count > 0) {}
        self.end.load(Ordering::Relaxed)
    }
}

/// The standard signals this process ignores.
fn ignored_signals() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    (1..32).filter(|signal| mask & (1 << (signal - 1)) != 0).collect()
}
