//! INT, TERM, HUP and QUIT, as numbers on an async channel.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use tokio::sync::mpsc;

/// Takes over the signals that end a run; each arrives as its number. A HUP
/// that was ignored from the start (`nohup`) stays ignored.
///
/// A thread of its own waits for them, so that a signal is noted even while the
/// main loop is busy. SIGPIPE is ignored by Rust's runtime already.
pub fn take() -> io::Result<mpsc::UnboundedReceiver<i32>> {
    let (tell, told) = mpsc::unbounded_channel();
    let mut wanted = vec![SIGINT, SIGTERM, SIGQUIT];
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let mut signals = signal_hook::iterator::Signals::new(wanted)?;
    std::thread::Builder::new().name("signals".into()).stack_size(64 << 10).spawn(move || {
        for number in signals.forever() {
            if tell.send(number).is_err() {
                break;
            }
        }
    })?;
    Ok(told)
}

/// The same, and a TERM when standard input ends: whoever holds its other end wants
/// to be outlived by nothing.
pub fn take_with_leash() -> io::Result<mpsc::UnboundedReceiver<i32>> {
    let (tell, told) = mpsc::unbounded_channel();
    let mut signals = take()?;
    let by_leash = tell.clone();
    tokio::spawn(async move {
        while let Some(number) = signals.recv().await {
            if tell.send(number).is_err() {
                break;
            }
        }
    });
    std::thread::Builder::new().name("leash".into()).stack_size(64 << 10).spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut chunk = [0; 64];
        while matches!(io::Read::read(&mut stdin, &mut chunk), Ok(n) if n > 0) {}
        let _ = by_leash.send(SIGTERM);
    })?;
    Ok(told)
}

/// As the kernel shows it: `SigIgn` is a mask in hexadecimal, signal 1 its lowest bit.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
