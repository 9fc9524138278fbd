//! longhaul's end of the line to a keeper: starting it, talking to it, and
//! noticing when it is lost.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::sweep::{KEEPER_VARIABLE, RUN_VARIABLE};
use super::wire::{FrameBuffer, KeeperCommand, KeeperEvent, Launch};
use crate::OWN_PROGRAM;
use crate::error::{Error, Result};

/// The hidden subcommand that runs a keeper.
pub const KEEPER_COMMAND: &str = "__keeper";

/// The hidden subcommand that runs a keeper for a command without a terminal.
pub const COMMAND_KEEPER_COMMAND: &str = "__keeper-command";

/// Commands waiting for a keeper that does not read.
const OUTGOING_MAX_BYTES: usize = 8 << 20;

/// A keeper process, and through it one live CLI.
///
/// Dropping it lets go of the leash: the keeper then ends the session on its
/// own, politely first.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
    pid: u32,
    stream: UnixStream,
    incoming: FrameBuffer,
    outgoing: Vec<u8>,
    line: Line,
}

/// How much is still to come from the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    /// The last event was given.
    Over,
    /// The keeper hung up before its last event.
    Broken,
}

impl Keeper {
    /// Starts a keeper of this program and has it start the CLI. Needs a tokio
    /// runtime with I/O. What becomes of the launch comes as an event.
    ///
    /// # Errors
    /// No process or socket is to be had.
    pub fn spawn(launch: &Launch) -> Result<Self> {
        Self::spawn_program(Path::new(OWN_PROGRAM), launch)
    }

    /// As [`Keeper::spawn`], from another copy of the program.
    pub fn spawn_program(program: &Path, launch: &Launch) -> Result<Self> {
        Self::start(program, KEEPER_COMMAND, launch, None)
    }

    /// Starts a keeper that has the launch's program run without a terminal: its
    /// input is empty, what it prints goes into `output`. The size of the terminal
    /// and the commands that type mean nothing to it. When the program has ended,
    /// when it is told to, or when it loses its longhaul, it ends all that is left
    /// below it. `from` is another copy of this program; `None` is this one.
    ///
    /// # Errors
    /// No process or socket is to be had.
    pub fn spawn_command(
        from: Option<&Path>,
        launch: &Launch,
        output: std::io::PipeWriter,
    ) -> Result<Self> {
        let from = from.unwrap_or(Path::new(OWN_PROGRAM));
        Self::start(from, COMMAND_KEEPER_COMMAND, launch, Some(output))
    }

    fn start(
        program: &Path,
        subcommand: &str,
        launch: &Launch,
        output: Option<std::io::PipeWriter>,
    ) -> Result<Self> {
        let failed = |err: io::Error| Error::internal("cannot start a keeper").caused_by(err);
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let mut command = Command::new(program);
        command
            .arg0("longhaul")
            .arg(subcommand)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // The CLI's environment travels in the launch. SHELL is there so
            // that portable-pty need not look one up in the user database.
            .env_clear()
            .env("SHELL", "/bin/sh");
        if let Some((_, run_id)) = launch.env.iter().find(|(name, _)| name == RUN_VARIABLE) {
            command.env(KEEPER_VARIABLE, run_id);
        }
        if let Some(output) = output {
            command.stdout(output.try_clone().map_err(failed)?).stderr(output);
        }
        let child = command.spawn().map_err(failed)?;
        // Its own copy of the keeper's end: kept, it would hide the hang-up.
        drop(command);
        let pid = child.id().ok_or_else(|| Error::internal("the keeper has no process id"))?;
        let mut keeper = Keeper {
            child,
            pid,
            stream: UnixStream::from_std(ours).map_err(failed)?,
            incoming: FrameBuffer::default(),
            outgoing: Vec::new(),
            line: Line::Open,
        };
        keeper.send(&KeeperCommand::Launch(launch.clone()))?;
        Ok(keeper)
    }

    /// The keeper's process id.
    pub fn keeper_pid(&self) -> u32 {
        self.pid
    }

    /// Sends a command without waiting; what the socket does not take at once
    /// goes out while [`Keeper::next`] is awaited. To a keeper that is gone
    /// nothing is sent and nothing is said: `next` tells.
    ///
    /// # Errors
    /// The keeper has not read for so long that the command does not fit.
    pub fn send(&mut self, command: &KeeperCommand) -> Result<()> {
        if self.line != Line::Open {
            return Ok(());
        }
        let frame = command.encode();
        if self.outgoing.len() + frame.len() > OUTGOING_MAX_BYTES {
            return Err(Error::internal("the keeper does not read its commands"));
        }
        self.outgoing.extend(frame);
        self.flush();
        Ok(())
    }

    /// The next event. After [`KeeperEvent::Swept`], [`KeeperEvent::Lost`], or
    /// a [`KeeperEvent::SpawnFailed`] that nothing follows, it waits for ever.
    ///
    /// Cancel safe: an event is either given or still there.
    pub async fn next(&mut self) -> KeeperEvent {
        loop {
            match self.line {
                Line::Open => {}
                Line::Over => return std::future::pending().await,
                Line::Broken => {
                    let message = match self.child.wait().await {
                        Ok(status) => format!("the keeper ended unexpectedly ({status})"),
                        Err(err) => format!("the keeper ended unexpectedly ({err})"),
                    };
                    self.line = Line::Over;
                    return KeeperEvent::Lost { message };
                }
            }
            match self
                .incoming
                .next_body()
                .and_then(|body| body.map(|b| KeeperEvent::decode(&b)).transpose())
            {
                Ok(Some(event)) => {
                    if matches!(event, KeeperEvent::Swept { .. } | KeeperEvent::SpawnFailed { .. })
                    {
                        self.line = Line::Over;
                    }
                    return event;
                }
                Ok(None) => self.exchange().await,
                Err(err) => {
                    // Out of step: an unreadable keeper is worse than none.
                    let _ = self.child.start_kill();
                    self.line = Line::Over;
                    return KeeperEvent::Lost { message: err.to_string() };
                }
            }
        }
    }

    /// Waits until the socket can be read or, if need be, written; does both.
    async fn exchange(&mut self) {
        let interest = if self.outgoing.is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        // Fails only when the runtime shuts down.
        let _ = self.stream.ready(interest).await;
        self.flush();
        let mut buffer = [0; 16 << 10];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => self.line = Line::Broken,
            Ok(count) => self.incoming.extend(&buffer[..count]),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.line = Line::Broken,
        }
    }

    fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            match self.stream.try_write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                // A broken line shows when it is read. Kept, what cannot be
                // written would have `exchange` try again without a pause, and
                // the runtime would never get to hear of the end.
                Err(_) => self.outgoing.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::sweep::Process;
    use rustix::process::Signal;
    use std::time::Duration;

    #[test]
    fn a_command_to_a_keeper_that_was_just_shot_does_not_hide_its_end() {
        // In a thread of its own: a loop without a pause hears no time-out.
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let _ = tell.send(runtime.unwrap().block_on(shoot_and_speak()));
        });
        let event = told.recv_timeout(Duration::from_secs(20)).expect("it never came back");
        assert!(matches!(event, KeeperEvent::Lost { .. }), "{event:?}");
    }

    async fn shoot_and_speak() -> KeeperEvent {
        let launch = Launch {
            program: "none".into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".into(),
            scratch: None,
            rows: 24,
            cols: 80,
        };
        // Stays, and neither reads nor says anything.
        let mut keeper = Keeper::spawn_program(Path::new("yes"), &launch).unwrap();
        // The runtime gets to know that there is room to write.
        let waited = tokio::time::timeout(Duration::from_millis(100), keeper.next()).await;
        assert!(waited.is_err(), "{waited:?}");
        let process = Process::read(keeper.keeper_pid()).unwrap();
        assert!(process.signal(Signal::KILL));
        while process.alive() {
            std::thread::yield_now();
        }
        keeper.send(&KeeperCommand::ScreenRequest { id: 1 }).unwrap();
        keeper.next().await
    }
}
