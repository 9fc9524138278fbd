//! INT, TERM, HUP and QUIT, as numbers on an async channel.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use tokio::sync::mpsc;

use crate::clock::Timestamp;

/// A signal that comes again so soon from `timeout` is the same.
const ECHO_MS: u64 = 1_000;

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
        let mut last = None;
        for number in signals.forever() {
            let now_ms = Timestamp::now().boot_ms;
            let is_echo = last.is_some_and(|(same, at_ms)| {
                same == number && now_ms.saturating_sub(at_ms) <= ECHO_MS && is_below_timeout()
            });
            last = Some((number, now_ms));
            if !is_echo && tell.send(number).is_err() {
                break;
            }
        }
    })?;
    Ok(told)
}

/// `timeout` sends a signal to its child and then to its whole process group, in which that
/// is: the child has it twice, most often but not always before it looks.
fn is_below_timeout() -> bool {
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero());
    let name = parent.and_then(|pid| std::fs::read(format!("/proc/{pid}/comm")).ok());
    name.is_some_and(|name| name.trim_ascii_end() == b"timeout")
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
