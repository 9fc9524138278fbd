//! INT, TERM, HUP and QUIT, as numbers on an async channel.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use tokio::sync::mpsc;

/// Takes over the signals that end a run; each arrives as its number.
///
/// A thread of its own waits for them, so that a signal is noted even while the
/// main loop is busy. SIGPIPE is ignored by Rust's runtime already.
pub fn take() -> io::Result<mpsc::UnboundedReceiver<i32>> {
    let (tell, told) = mpsc::unbounded_channel();
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
    std::thread::Builder::new().name("signals".into()).stack_size(64 << 10).spawn(move || {
        for number in signals.forever() {
            if tell.send(number).is_err() {
                break;
            }
        }
    })?;
    Ok(told)
}
