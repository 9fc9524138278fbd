//! Standard output: a closed pipe is the reader's choice, not an error; text of
//! others is made harmless before it reaches a terminal.

use std::io::{self, Write};

use crate::{Error, ErrorKind, Result};

/// Writes `text` to standard output.
///
/// # Errors
///
/// [`ErrorKind::Disk`] or [`ErrorKind::Internal`] when it is a file that
/// cannot be written; a reader that went away is no error.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io(ErrorKind::Internal, "cannot write to standard output", err))
        }
        _ => Ok(()),
    }
}

/// Writes an error to standard error. Nobody may be there to read it; the exit
/// code says enough.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// `text` with control characters, and characters that reorder or hide text,
/// written as escapes. Line feeds are escaped too.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hides = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || hides {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_to_the_terminal_become_text() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc\u{202e}d é ✓"), "a\\u{1b}[2Jb\\u{a}c\\u{202e}d é ✓");
    }
}
