//! The frames between longhaul and a keeper: what may be said, and its bytes.
//!
//! A frame is a little-endian `u32` length followed by that many bytes: a tag
//! and its fields. Paths, arguments and variables are arbitrary bytes on Linux,
//! so the encoding is by hand: JSON would have to bend them. Both ends are
//! always the same build of the same program, so there is no version field.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Longest frame either end accepts. An environment plus arguments is bounded
/// by the kernel at about 2 MiB; a screen is a few KiB.
pub const FRAME_MAX_BYTES: usize = 4 << 20;

/// The id of the screen that comes unasked, just before the CLI's exit is told.
pub const LAST_SCREEN: u32 = 0;

/// Height of the terminal a session gets.
pub const ROWS: u16 = 40;

/// Width of the terminal a session gets: wide enough that dialogs do not wrap.
pub const COLS: u16 = 120;

/// What to run under the pty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program; a bare name is looked up on the `PATH` of `env`.
    pub program: PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<OsString>,
    /// Its whole environment: nothing else is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory, absolute.
    pub cwd: PathBuf,
    /// The run's temporary folder, which the keeper removes when longhaul is gone.
    pub scratch: Option<PathBuf>,
    /// Height of the terminal.
    pub rows: u16,
    /// Width of the terminal.
    pub cols: u16,
}

/// A key as a terminal sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Interrupts a turn, leaves a dialog.
    Escape,
    /// Carriage return.
    Enter,
    /// Cursor up.
    Up,
    /// Cursor down.
    Down,
    /// Tab.
    Tab,
    /// Clears the input line.
    CtrlU,
    /// Interrupt character.
    CtrlC,
}

impl Key {
    /// Every key, in tag order.
    pub const ALL: [Key; 7] =
        [Key::Escape, Key::Enter, Key::Up, Key::Down, Key::Tab, Key::CtrlU, Key::CtrlC];

    /// The bytes a terminal sends for it.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Key::Escape => b"\x1b",
            Key::Enter => b"\r",
            Key::Up => b"\x1b[A",
            Key::Down => b"\x1b[B",
            Key::Tab => b"\t",
            Key::CtrlU => b"\x15",
            Key::CtrlC => b"\x03",
        }
    }
}

/// How the CLI is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM to the CLI alone: it cleans up and writes its bill.
    Terminate,
    /// SIGINT to the CLI alone.
    Interrupt,
    /// SIGKILL to the CLI and to everything below the keeper, at once.
    Kill,
}

/// longhaul to keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeeperCommand {
    /// Start the CLI. The first frame, and only the first.
    Launch(Launch),
    /// Type this text and, a moment later, Enter.
    Submit {
        /// Comes back in [`KeeperEvent::Submitted`].
        id: u32,
        /// The text; control characters other than line ends are dropped.
        text: String,
    },
    /// Press one key.
    Press(Key),
    /// End the CLI.
    End(Ending),
    /// Ask for [`KeeperEvent::Screen`].
    ScreenRequest {
        /// Comes back in the answer.
        id: u32,
    },
}

/// Keeper to longhaul.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeeperEvent {
    /// The CLI runs.
    Spawned {
        /// Its process id.
        pid: u32,
        /// Its start time in clock ticks since boot, which tells it from a
        /// later process with the same id.
        start_ticks: u64,
    },
    /// The CLI could not be started; the keeper ends.
    SpawnFailed {
        /// Why, for a person.
        message: String,
    },
    /// A text and its Enter were written to the terminal.
    Submitted {
        /// That of the request.
        id: u32,
        /// `CLOCK_BOOTTIME` when the last byte of the text was written.
        text_written_us: u64,
        /// `CLOCK_BOOTTIME` when Enter was written.
        enter_written_us: u64,
    },
    /// A text, or the Enter behind it, was not written, because a question is
    /// on the screen that it would have answered. It will not be made up for.
    Withheld {
        /// That of the request.
        id: u32,
        /// What the screen shows.
        screen: String,
    },
    /// What the terminal shows.
    Screen {
        /// That of the request.
        id: u32,
        /// The rows, without trailing blanks.
        text: String,
        /// The input line of this CLI was seen, now or before.
        knows_layout: bool,
        /// Bytes the CLI has written so far.
        bytes_seen: u64,
        /// `CLOCK_BOOTTIME` of the newest of them; 0 = none yet.
        last_output_ms: u64,
    },
    /// The CLI ended: exactly one of the two is set.
    Exited {
        /// Its exit code.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
    },
    /// Nothing of the session is left below the keeper, or `survivors` is not
    /// 0. The last frame.
    Swept {
        /// Processes that outlived the CLI and were ended.
        killed: u32,
        /// Processes that could not be ended.
        survivors: u32,
    },
    /// The keeper itself ended without a [`KeeperEvent::Swept`]. Never on the
    /// wire: made by [`super::Keeper`].
    Lost {
        /// What is known of it.
        message: String,
    },
}

impl KeeperCommand {
    /// The frame, length included.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            KeeperCommand::Launch(launch) => {
                out.u8(1);
                out.bytes(launch.program.as_os_str().as_bytes());
                out.u32(launch.args.len() as u32);
                for arg in &launch.args {
                    out.bytes(arg.as_bytes());
                }
                out.u32(launch.env.len() as u32);
                for (name, value) in &launch.env {
                    out.bytes(name.as_bytes());
                    out.bytes(value.as_bytes());
                }
                out.bytes(launch.cwd.as_os_str().as_bytes());
                // No folder has an empty name.
                let scratch = launch.scratch.as_deref().unwrap_or(Path::new(""));
                out.bytes(scratch.as_os_str().as_bytes());
                out.u32(u32::from(launch.rows));
                out.u32(u32::from(launch.cols));
            }
            KeeperCommand::Submit { id, text } => {
                out.u8(2);
                out.u32(*id);
                out.bytes(text.as_bytes());
            }
            KeeperCommand::Press(key) => {
                out.u8(3);
                let tag = Key::ALL.iter().position(|k| k == key);
                out.u8(tag.expect("ALL lists every key") as u8);
            }
            KeeperCommand::End(ending) => {
                out.u8(4);
                out.u8(match ending {
                    Ending::Terminate => 0,
                    Ending::Interrupt => 1,
                    Ending::Kill => 2,
                });
            }
            KeeperCommand::ScreenRequest { id } => {
                out.u8(5);
                out.u32(*id);
            }
        }
        out.finish()
    }

    /// Reads the body of a frame.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let mut body = Reader(body);
        let command = match body.u8()? {
            1 => {
                let program = PathBuf::from(body.os_string()?);
                let mut args = Vec::new();
                for _ in 0..body.u32()? {
                    args.push(body.os_string()?);
                }
                let mut env = Vec::new();
                for _ in 0..body.u32()? {
                    env.push((body.os_string()?, body.os_string()?));
                }
                let cwd = PathBuf::from(body.os_string()?);
                let scratch = PathBuf::from(body.os_string()?);
                let scratch = (!scratch.as_os_str().is_empty()).then_some(scratch);
                let (rows, cols) = (body.u32()? as u16, body.u32()? as u16);
                KeeperCommand::Launch(Launch { program, args, env, cwd, scratch, rows, cols })
            }
            2 => KeeperCommand::Submit { id: body.u32()?, text: body.text()? },
            3 => match Key::ALL.get(usize::from(body.u8()?)) {
                Some(key) => KeeperCommand::Press(*key),
                None => return Err(malformed()),
            },
            4 => KeeperCommand::End(match body.u8()? {
                0 => Ending::Terminate,
                1 => Ending::Interrupt,
                2 => Ending::Kill,
                _ => return Err(malformed()),
            }),
            5 => KeeperCommand::ScreenRequest { id: body.u32()? },
            _ => return Err(malformed()),
        };
        body.end()?;
        Ok(command)
    }
}

impl KeeperEvent {
    /// The frame, length included.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            KeeperEvent::Spawned { pid, start_ticks } => {
                out.u8(1);
                out.u32(*pid);
                out.u64(*start_ticks);
            }
            KeeperEvent::SpawnFailed { message } => {
                out.u8(2);
                out.bytes(message.as_bytes());
            }
            KeeperEvent::Submitted { id, text_written_us, enter_written_us } => {
                out.u8(3);
                out.u32(*id);
                out.u64(*text_written_us);
                out.u64(*enter_written_us);
            }
            KeeperEvent::Screen { id, text, knows_layout, bytes_seen, last_output_ms } => {
                out.u8(4);
                out.u32(*id);
                out.bytes(text.as_bytes());
                out.u8(u8::from(*knows_layout));
                out.u64(*bytes_seen);
                out.u64(*last_output_ms);
            }
            KeeperEvent::Exited { code, signal } => {
                out.u8(5);
                out.optional_i32(*code);
                out.optional_i32(*signal);
            }
            KeeperEvent::Swept { killed, survivors } => {
                out.u8(6);
                out.u32(*killed);
                out.u32(*survivors);
            }
            KeeperEvent::Lost { message } => {
                out.u8(7);
                out.bytes(message.as_bytes());
            }
            KeeperEvent::Withheld { id, screen } => {
                out.u8(8);
                out.u32(*id);
                out.bytes(screen.as_bytes());
            }
        }
        out.finish()
    }

    /// Reads the body of a frame.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let mut body = Reader(body);
        let event = match body.u8()? {
            1 => KeeperEvent::Spawned { pid: body.u32()?, start_ticks: body.u64()? },
            2 => KeeperEvent::SpawnFailed { message: body.text()? },
            3 => KeeperEvent::Submitted {
                id: body.u32()?,
                text_written_us: body.u64()?,
                enter_written_us: body.u64()?,
            },
            4 => KeeperEvent::Screen {
                id: body.u32()?,
                text: body.text()?,
                knows_layout: body.u8()? != 0,
                bytes_seen: body.u64()?,
                last_output_ms: body.u64()?,
            },
            5 => KeeperEvent::Exited { code: body.optional_i32()?, signal: body.optional_i32()? },
            6 => KeeperEvent::Swept { killed: body.u32()?, survivors: body.u32()? },
            7 => KeeperEvent::Lost { message: body.text()? },
            8 => KeeperEvent::Withheld { id: body.u32()?, screen: body.text()? },
            _ => return Err(malformed()),
        };
        body.end()?;
        Ok(event)
    }
}

/// Collects bytes as they arrive and cuts them into frame bodies.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
}

impl FrameBuffer {
    /// Adds what was read.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The body of the next whole frame; `None` until there is one.
    ///
    /// # Errors
    /// The length is beyond [`FRAME_MAX_BYTES`]: the stream is out of step.
    pub fn next_body(&mut self) -> Result<Option<Vec<u8>>> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > FRAME_MAX_BYTES {
            return Err(malformed());
        }
        if rest.len() < length {
            return Ok(None);
        }
        let body = rest[..length].to_vec();
        self.bytes.drain(..4 + length);
        if self.bytes.is_empty() && self.bytes.capacity() > 64 << 10 {
            self.bytes = Vec::new();
        }
        Ok(Some(body))
    }
}

fn malformed() -> Error {
    Error::internal("a frame between longhaul and its keeper cannot be read")
}

struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        Writer(vec![0; 4])
    }

    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn optional_i32(&mut self, value: Option<i32>) {
        self.u8(u8::from(value.is_some()));
        self.u32(value.unwrap_or(0) as u32);
    }

    fn bytes(&mut self, value: &[u8]) {
        self.u32(value.len() as u32);
        self.0.extend_from_slice(value);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() - 4) as u32;
        self.0[..4].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or_else(malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn optional_i32(&mut self) -> Result<Option<i32>> {
        let present = self.u8()? != 0;
        let value = self.u32()? as i32;
        Ok(present.then_some(value))
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn text(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| malformed())
    }

    fn os_string(&mut self) -> Result<OsString> {
        Ok(OsString::from_vec(self.bytes()?.to_vec()))
    }

    fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(malformed()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn os_string() -> impl Strategy<Value = OsString> {
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(OsString::from_vec)
    }

    fn command() -> impl Strategy<Value = KeeperCommand> {
        let launch = (
            os_string(),
            proptest::collection::vec(os_string(), 0..4),
            proptest::collection::vec((os_string(), os_string()), 0..4),
            os_string(),
            proptest::option::of("/[a-z/]{0,9}"),
            any::<(u16, u16)>(),
        )
            .prop_map(|(program, args, env, cwd, scratch, (rows, cols))| {
                KeeperCommand::Launch(Launch {
                    program: program.into(),
                    args,
                    env,
                    cwd: cwd.into(),
                    scratch: scratch.map(PathBuf::from),
                    rows,
                    cols,
                })
            });
        prop_oneof![
            launch,
            (any::<u32>(), any::<String>())
                .prop_map(|(id, text)| KeeperCommand::Submit { id, text }),
            proptest::sample::select(&Key::ALL[..]).prop_map(KeeperCommand::Press),
            proptest::sample::select(vec![Ending::Terminate, Ending::Interrupt, Ending::Kill])
                .prop_map(KeeperCommand::End),
            any::<u32>().prop_map(|id| KeeperCommand::ScreenRequest { id }),
        ]
    }

    fn event() -> impl Strategy<Value = KeeperEvent> {
        prop_oneof![
            any::<(u32, u64)>()
                .prop_map(|(pid, start_ticks)| KeeperEvent::Spawned { pid, start_ticks }),
            any::<String>().prop_map(|message| KeeperEvent::SpawnFailed { message }),
            any::<(u32, u64, u64)>().prop_map(|(id, text_written_us, enter_written_us)| {
                KeeperEvent::Submitted { id, text_written_us, enter_written_us }
            }),
            any::<(u32, String, bool, u64, u64)>().prop_map(
                |(id, text, knows_layout, bytes_seen, last_output_ms)| {
                    KeeperEvent::Screen { id, text, knows_layout, bytes_seen, last_output_ms }
                }
            ),
            any::<(Option<i32>, Option<i32>)>()
                .prop_map(|(code, signal)| KeeperEvent::Exited { code, signal }),
            any::<(u32, u32)>()
                .prop_map(|(killed, survivors)| KeeperEvent::Swept { killed, survivors }),
            any::<String>().prop_map(|message| KeeperEvent::Lost { message }),
            any::<(u32, String)>().prop_map(|(id, screen)| KeeperEvent::Withheld { id, screen }),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_the_trip_however_they_are_cut(
            commands in proptest::collection::vec(command(), 0..6),
            events in proptest::collection::vec(event(), 0..6),
            step in 1usize..9,
        ) {
            let mut stream = Vec::new();
            commands.iter().for_each(|c| stream.extend(c.encode()));
            events.iter().for_each(|e| stream.extend(e.encode()));
            let mut buffer = FrameBuffer::default();
            let mut bodies = Vec::new();
            for piece in stream.chunks(step) {
                buffer.extend(piece);
                while let Some(body) = buffer.next_body().unwrap() {
                    bodies.push(body);
                }
            }
            prop_assert_eq!(bodies.len(), commands.len() + events.len());
            for (body, command) in bodies.iter().zip(&commands) {
                prop_assert_eq!(&KeeperCommand::decode(body).unwrap(), command);
            }
            for (body, event) in bodies[commands.len()..].iter().zip(&events) {
                prop_assert_eq!(&KeeperEvent::decode(body).unwrap(), event);
            }
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = KeeperCommand::decode(&body);
            let _ = KeeperEvent::decode(&body);
            let mut buffer = FrameBuffer::default();
            buffer.extend(&body);
            let _ = buffer.next_body();
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_awaited() {
        let mut buffer = FrameBuffer::default();
        buffer.extend(&u32::MAX.to_le_bytes());
        assert!(buffer.next_body().is_err());
    }

    #[test]
    fn a_body_with_bytes_left_over_is_refused() {
        assert!(KeeperCommand::decode(&[3, 0, 0]).is_err());
    }
}
