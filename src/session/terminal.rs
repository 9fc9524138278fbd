//! The terminal a CLI lives in: its pty, what its screen shows, and what is
//! still to be typed into it.
//!
//! Nothing here blocks. Typing is a queue, since a text and its Enter must be
//! apart in time and a CLI that does not read must not hold up anything else.

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};

use portable_pty::{CommandBuilder, PtySize};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::dialog;
use super::limits::spawn_limited;
use super::screen::{self, Kind};
use super::wire::{KeeperEvent, Key, Launch};
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// Between a text and its Enter: an Enter that comes with the text is taken
/// for part of a paste, and the text stays in the input line.
pub const ENTER_DELAY_MS: u64 = 150;

/// From this many characters on, or with a line end in it, a text is typed as
/// a bracketed paste, which the CLI takes in as one piece.
const PASTE_FROM_CHARS: usize = 200;

/// Read from the pty in one go.
const READ_BYTES: usize = 16 << 10;

/// How long a text waits for a question to go away, and how often it looks.
const HELD_MS: u64 = 45_000;
const HELD_LOOK_MS: u64 = 50;
/// It is typed when no question was seen for this long.
const CLEAR_MS: u64 = 200;

/// A frame that stood for this long was painted to its end.
const STOOD_MS: u64 = 20;

/// Most of what may wait to be typed.
const QUEUE_MAX_BYTES: usize = 1 << 20;

/// What is still to be done with the keyboard.
#[derive(Debug)]
enum Stroke {
    /// Write these bytes, from this offset on.
    Bytes(Vec<u8>, usize),
    /// The text of this submit is out: note when.
    TextDone { id: u32, like_option: bool },
    /// Nothing more before this moment.
    WaitUntil(u64),
    /// The Enter of this submit is due; its text was out at this time.
    Enter { id: u32, text_written_us: u64, like_option: bool },
    /// The Enter of this submit is out.
    EnterDone(u32, u64),
}

/// A pty with its screen model.
pub struct Terminal {
    /// Own duplicate of the pty's master side, non-blocking.
    master: OwnedFd,
    parser: vt100::Parser,
    bytes_seen: u64,
    last_output_ms: u64,
    closed: bool,
    queue: VecDeque<Stroke>,
    queued_bytes: usize,
    held: Option<Held>,
    /// The input line of this CLI was seen on the screen.
    knows_layout: bool,
}

/// A text that waits for a question to go away.
#[derive(Debug)]
struct Held {
    id: u32,
    /// Empty: only Enter.
    text: String,
    until_ms: u64,
    /// Since when no question is seen.
    clear_since_ms: Option<u64>,
}

impl Terminal {
    /// Opens a pty and starts the CLI in it, in a session of its own with the
    /// pty as its controlling terminal. Gives the terminal and the CLI's pid.
    ///
    /// # Errors
    /// The directory or the program cannot be used, or no pty is to be had.
    pub fn spawn(launch: &Launch) -> Result<(Self, u32)> {
        // portable-pty would silently go to the home directory instead.
        if !launch.cwd.is_dir() {
            return Err(Error::usage(format!("{} is not a directory", launch.cwd.display())));
        }
        let size =
            PtySize { rows: launch.rows, cols: launch.cols, pixel_width: 0, pixel_height: 0 };
        let pair = portable_pty::native_pty_system()
            .openpty(size)
            .map_err(|err| Error::internal("no pseudo-terminal is to be had").caused_by(err))?;
        let master = own_master(pair.master.as_ref())?;

        let mut command = CommandBuilder::new(&launch.program);
        command.env_clear();
        command.args(&launch.args);
        command.cwd(&launch.cwd);
        for (name, value) in &launch.env {
            command.env(name, value);
        }
        let child = spawn_limited(|| pair.slave.spawn_command(command)).map_err(|err| {
            Error::usage(format!("cannot start {}", launch.program.display())).caused_by(err)
        })?;
        let pid = child
            .process_id()
            .ok_or_else(|| Error::internal("the started CLI has no process id"))?;
        let terminal = Terminal {
            master,
            parser: vt100::Parser::new(launch.rows, launch.cols, 0),
            bytes_seen: 0,
            last_output_ms: 0,
            closed: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            held: None,
            knows_layout: false,
        };
        Ok((terminal, pid))
    }

    /// The descriptor to poll; `None` once the CLI's side is closed.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        (!self.closed).then(|| self.master.as_fd())
    }

    /// Takes in all the CLI has written, within reason.
    pub fn drain_up(&mut self) {
        const READS_MAX: u32 = 64;
        for _ in 0..READS_MAX {
            if self.drain() == 0 {
                break;
            }
        }
    }

    /// Takes in what the CLI wrote and gives the number of bytes: at most one
    /// read, so that a flood cannot starve the caller's other work.
    pub fn drain(&mut self) -> u64 {
        let mut buffer = [0; READ_BYTES];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(0) => self.closed = true,
            Ok(count) => {
                let now_ms = Timestamp::now().boot_ms;
                if now_ms.saturating_sub(self.last_output_ms) >= STOOD_MS {
                    self.learn_layout();
                }
                self.bytes_seen += count as u64;
                self.last_output_ms = now_ms;
                self.parser.process(&buffer[..count]);
                return count as u64;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // EIO: nobody has the other side open any more.
            Err(_) => self.closed = true,
        }
        0
    }

    /// Queues a text and its Enter; without a text, only Enter. While a question
    /// stands on the screen it is held back, in the place of one that was held
    /// already: a session that asks again and again, and is answered by a hook,
    /// would otherwise never hear it. Gives what is to be told then. Nothing is
    /// queued when too much is waiting.
    pub fn submit(&mut self, id: u32, text: &str) -> Option<KeeperEvent> {
        if self.held.is_none() && !self.is_asking() {
            self.queue_text(id, text);
            return None;
        }
        // Enter alone is meant for the text that still waits.
        if !text.is_empty() || self.held.is_none() {
            let until_ms = Timestamp::now().boot_ms + HELD_MS;
            let (text, clear_since_ms) = (text.to_owned(), None);
            self.held = Some(Held { id, text, until_ms, clear_since_ms });
        }
        Some(self.withheld(id))
    }

    fn queue_text(&mut self, id: u32, text: &str) {
        let typed = typed_text(text, self.parser.screen().bracketed_paste());
        if self.push_bytes(typed) {
            let like_option = dialog::is_like_an_option(text);
            self.queue.push_back(Stroke::TextDone { id, like_option });
        }
    }

    /// Types what was held back once the question is gone; gives up on it when the
    /// question stays.
    fn type_held(&mut self) -> Option<KeeperEvent> {
        self.held.as_ref()?;
        let is_asking = self.is_asking();
        let now_ms = Timestamp::now().boot_ms;
        let held = self.held.as_mut()?;
        // A frame painted by half shows no question either.
        held.clear_since_ms = held.clear_since_ms.or(Some(now_ms)).filter(|_| !is_asking);
        let is_clear = held.clear_since_ms.is_some_and(|since| now_ms - since >= CLEAR_MS);
        let until_ms = held.until_ms;
        let held = self.held.take_if(|_| is_clear || now_ms >= until_ms)?;
        if !is_clear {
            return Some(self.withheld(held.id));
        }
        self.queue_text(held.id, &held.text);
        None
    }

    fn withheld(&self, id: u32) -> KeeperEvent {
        KeeperEvent::Withheld { id, screen: self.parser.screen().contents() }
    }

    /// Whether Enter would answer a question instead of sending a text: nobody
    /// has said that longhaul may.
    fn is_asking(&mut self) -> bool {
        self.drain_up();
        self.learn_layout();
        let screen = self.parser.screen().contents();
        let look = screen::look(&screen);
        // Where the input line has been, something unknown may stand.
        let is_unknown = look.kind == Kind::Unrecognised && (self.knows_layout || look.names_keys);
        is_unknown || dialog::is_open(&screen)
    }

    /// A session may go from its input line to a question between two looks.
    fn learn_layout(&mut self) {
        if !self.knows_layout {
            let screen = self.parser.screen().contents();
            self.knows_layout = screen::look(&screen).has_input_line;
        }
    }

    /// Queues a key; false when too much is waiting already. What clears the
    /// input line is not pressed where there is none.
    pub fn press(&mut self, key: Key) -> bool {
        if key == Key::CtrlU && self.is_asking() {
            return true;
        }
        self.push_bytes(key.bytes().to_vec())
    }

    fn push_bytes(&mut self, bytes: Vec<u8>) -> bool {
        if self.queued_bytes + bytes.len() > QUEUE_MAX_BYTES {
            return false;
        }
        self.queued_bytes += bytes.len();
        self.queue.push_back(Stroke::Bytes(bytes, 0));
        true
    }

    /// Whether the pty must be polled for room to write.
    pub fn wants_to_write(&self) -> bool {
        matches!(self.queue.front(), Some(Stroke::Bytes(..)))
    }

    /// Milliseconds until [`Terminal::type_on`] has something to do; `None`
    /// when only room in the pty, or a new text, can give it something.
    pub fn due_in_ms(&self) -> Option<u64> {
        if self.held.is_some() {
            return Some(HELD_LOOK_MS);
        }
        match self.queue.front()? {
            Stroke::Bytes(..) => None,
            Stroke::WaitUntil(at_ms) => Some(at_ms.saturating_sub(Timestamp::now().boot_ms)),
            Stroke::TextDone { .. } | Stroke::Enter { .. } | Stroke::EnterDone(..) => Some(0),
        }
    }

    /// Types as much as can be typed now, and tells which texts are through and
    /// which are not going to be.
    pub fn type_on(&mut self) -> Vec<KeeperEvent> {
        let mut told: Vec<KeeperEvent> = self.type_held().into_iter().collect();
        while let Some(stroke) = self.queue.pop_front() {
            match stroke {
                Stroke::Bytes(bytes, from) => match rustix::io::write(&self.master, &bytes[from..])
                {
                    Ok(count) if from + count < bytes.len() => {
                        self.queue.push_front(Stroke::Bytes(bytes, from + count));
                    }
                    Ok(_) => self.queued_bytes -= bytes.len(),
                    Err(Errno::INTR) => self.queue.push_front(Stroke::Bytes(bytes, from)),
                    Err(Errno::AGAIN) => {
                        self.queue.push_front(Stroke::Bytes(bytes, from));
                        break;
                    }
                    Err(_) => {
                        self.closed = true;
                        self.queue.clear();
                        self.queued_bytes = 0;
                    }
                },
                Stroke::TextDone { id, like_option } => {
                    let text_written_us = boot_us();
                    let resume_ms = text_written_us.div_ceil(1000) + ENTER_DELAY_MS;
                    // In front of whatever was queued meanwhile.
                    self.queue.push_front(Stroke::Enter { id, text_written_us, like_option });
                    self.queue.push_front(Stroke::WaitUntil(resume_ms));
                }
                // The question may have come up just now. A text that itself
                // looks like one stands in the input line.
                Stroke::Enter { id, like_option: false, .. } if self.is_asking() => {
                    told.extend(self.submit(id, ""));
                }
                Stroke::Enter { id, text_written_us, .. } => {
                    self.queue.push_front(Stroke::EnterDone(id, text_written_us));
                    self.queue.push_front(Stroke::Bytes(Key::Enter.bytes().to_vec(), 0));
                    self.queued_bytes += Key::Enter.bytes().len();
                }
                Stroke::WaitUntil(at_ms) => {
                    if Timestamp::now().boot_ms < at_ms {
                        self.queue.push_front(Stroke::WaitUntil(at_ms));
                        break;
                    }
                }
                Stroke::EnterDone(id, text_written_us) => told.push(KeeperEvent::Submitted {
                    id,
                    text_written_us,
                    enter_written_us: boot_us(),
                }),
            }
        }
        told
    }

    /// What the screen shows, as an answer to the request `id`.
    pub fn screen(&mut self, id: u32) -> KeeperEvent {
        self.learn_layout();
        KeeperEvent::Screen {
            id,
            text: self.parser.screen().contents(),
            knows_layout: self.knows_layout,
            bytes_seen: self.bytes_seen,
            last_output_ms: self.last_output_ms,
        }
    }
}

/// A duplicate of the master side that this module owns, non-blocking and
/// closed on `exec`. portable-pty's own reader and writer are not used: they
/// block, and the writer sends an end-of-file character when it is dropped.
#[expect(unsafe_code, reason = "portable-pty hands its descriptor out as a bare number only")]
fn own_master(master: &dyn portable_pty::MasterPty) -> Result<OwnedFd> {
    let failed =
        |errno: Errno| Error::internal("cannot set up the pseudo-terminal").caused_by(errno);
    let raw = master.as_raw_fd().ok_or_else(|| failed(Errno::BADF))?;
    // SAFETY: `master` is borrowed for the whole call, so its descriptor stays
    // open for as long as this borrow of it lives.
    let borrowed = unsafe { BorrowedFd::borrow_raw(raw) };
    let owned = rustix::io::fcntl_dupfd_cloexec(borrowed, 3).map_err(failed)?;
    let flags = fcntl_getfl(&owned).map_err(failed)?;
    fcntl_setfl(&owned, flags | OFlags::NONBLOCK).map_err(failed)?;
    Ok(owned)
}

/// The bytes that bring `text` into the CLI's input line. Line ends become
/// line feeds and a tab a blank; every other control character is dropped, since
/// it could act as a key (and ESC could end the paste).
fn typed_text(text: &str, bracketed_paste: bool) -> Vec<u8> {
    let unix = text.replace("\r\n", "\n").replace('\r', "\n").replace('\t', " ");
    let clean: String =
        unix.trim_end_matches('\n').chars().filter(|c| !c.is_control() || *c == '\n').collect();
    let paste = clean.contains('\n') || clean.chars().count() > PASTE_FROM_CHARS;
    match (paste, bracketed_paste) {
        (false, _) => clean.into_bytes(),
        (true, true) => format!("\x1b[200~{clean}\x1b[201~").into_bytes(),
        // A program that did not ask for pastes would read the brackets as
        // keys, and each line end as Enter.
        (true, false) => clean.replace('\n', " ").into_bytes(),
    }
}

fn boot_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_line_is_typed_as_it_is() {
        assert_eq!(typed_text("go on, naïve ☃", true), "go on, naïve ☃".as_bytes());
    }

    #[test]
    fn a_text_with_lines_or_of_some_length_is_one_paste() {
        assert_eq!(typed_text("a\r\nb\rc\n", true), b"\x1b[200~a\nb\nc\x1b[201~");
        let long = "x".repeat(PASTE_FROM_CHARS + 1);
        assert_eq!(typed_text(&long, true), format!("\x1b[200~{long}\x1b[201~").into_bytes());
    }

    #[test]
    fn without_paste_support_lines_are_joined_instead_of_entered_one_by_one() {
        assert_eq!(typed_text("a\nb", false), b"a b");
        assert_eq!(typed_text("a\tb", true), b"a b", "words must not grow together");
    }

    #[test]
    fn no_text_can_press_a_key_or_end_the_paste() {
        let hostile = "one\x1b[201~\x03two\x04\x7f\nthree\u{9b}";
        assert_eq!(typed_text(hostile, true), b"\x1b[200~one[201~two\nthree\x1b[201~");
    }
}
