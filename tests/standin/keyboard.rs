//! The pty's other end: raw mode, and keys out of the bytes that come.

use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Enter,
    Escape,
    ClearLine,
    Up,
    Down,
}

/// Reads keys. An Enter that comes in one read with text counts as a line end
/// of that text, as with the real CLI.
#[derive(Debug, Default)]
pub struct Keyboard {
    pending: Vec<u8>,
    in_paste: bool,
}

const PASTE_BEGINS: &[u8] = b"\x1b[200~";
const PASTE_ENDS: &[u8] = b"\x1b[201~";

impl Keyboard {
    /// Standard input in raw mode; nothing happens if it is no terminal.
    pub fn open() -> Self {
        let stdin = std::io::stdin();
        if let Ok(mut attributes) = tcgetattr(stdin.as_fd()) {
            attributes.make_raw();
            let _ = tcsetattr(stdin.as_fd(), OptionalActions::Now, &attributes);
        }
        Self::default()
    }

    /// The keys of one read.
    pub fn keys(&mut self, read: &[u8]) -> Vec<Key> {
        self.pending.extend(read);
        let bytes = std::mem::take(&mut self.pending);
        let has_text = bytes.iter().any(|byte| *byte >= b' ' && *byte != 0x7f);
        let mut keys = Vec::new();
        let mut rest: &[u8] = &bytes;
        while let Some((first, behind)) = rest.split_first() {
            if rest.starts_with(PASTE_BEGINS) {
                self.in_paste = true;
                rest = &rest[PASTE_BEGINS.len()..];
            } else if rest.starts_with(PASTE_ENDS) {
                self.in_paste = false;
                rest = &rest[PASTE_ENDS.len()..];
            } else if bytes.len() > 1
                && (PASTE_BEGINS.starts_with(rest) || PASTE_ENDS.starts_with(rest))
            {
                // Torn: the rest of it comes with the next read. An Esc comes alone.
                self.pending = rest.to_vec();
                break;
            } else if let Some(behind) = rest.strip_prefix(b"\x1b[A") {
                keys.push(Key::Up);
                rest = behind;
            } else if let Some(behind) = rest.strip_prefix(b"\x1b[B") {
                keys.push(Key::Down);
                rest = behind;
            } else {
                let length = match first {
                    0x00..=0x7f => 1,
                    0x80..=0xdf => 2,
                    0xe0..=0xef => 3,
                    _ => 4,
                };
                if rest.len() < length {
                    self.pending = rest.to_vec();
                    break;
                }
                match first {
                    b'\r' if !self.in_paste && !has_text => keys.push(Key::Enter),
                    b'\r' | b'\n' => keys.push(Key::Char('\n')),
                    0x1b => keys.push(Key::Escape),
                    0x15 => keys.push(Key::ClearLine),
                    0x00..=0x1f | 0x7f => {}
                    _ => {
                        keys.extend(String::from_utf8_lossy(&rest[..length]).chars().map(Key::Char))
                    }
                }
                rest = if length == 1 { behind } else { &rest[length..] };
            }
        }
        keys
    }
}
