//! The person's command, run below a courier.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::courier::Heard;
use super::lock;
use super::order::Receipt;
use crate::session::sweep::KEEPER_VARIABLE;

/// How much of the end of its output is quoted when it fails.
const QUOTE_BYTES: usize = 300;

/// Once everything is killed its output ends; this is for a pipe that somebody
/// outside was given.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);

/// A command under way. Whoever waits for it ends what is left of it.
pub(super) struct Errand {
    /// The end of what it printed, both streams.
    printed: Arc<Mutex<Vec<u8>>>,
    /// Hangs up when its output has ended.
    output_over: mpsc::Receiver<()>,
}

impl Errand {
    /// Starts it: the notification on its input, a process group of its own. Its
    /// end is told on `says`.
    pub(super) fn start(
        argv: &[String],
        body: String,
        says: mpsc::Sender<Heard>,
    ) -> std::io::Result<Self> {
        let (program, arguments) = argv.split_first().ok_or(std::io::ErrorKind::NotFound)?;
        let (output, theirs) = std::io::pipe()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            // The courier's own mark.
            .env_remove(KEEPER_VARIABLE)
            .stdin(Stdio::piped())
            .stdout(theirs.try_clone()?)
            .stderr(theirs)
            .process_group(0);
        let mut child = command.spawn()?;
        // Its own copies of the pipe's end: kept, they would hide the end.
        drop(command);
        if let Some(mut input) = child.stdin.take() {
            std::thread::spawn(move || {
                // A command may well not care to read it.
                let _ = input.write_all(body.as_bytes());
            });
        }
        let printed = Arc::new(Mutex::new(Vec::new()));
        let output_over = follow(output, Arc::clone(&printed));
        std::thread::spawn(move || {
            let receipt = match child.wait() {
                Ok(status) if status.success() => Receipt::Delivered,
                Ok(status) => Receipt::never(format!("it ended with {status}")),
                Err(err) => Receipt::never(format!("it was lost: {err}")),
            };
            // The courier may have decided by the clock.
            let _ = says.send(Heard::Ended(receipt));
        });
        Ok(Self { printed, output_over })
    }

    /// Adds the end of what it printed to why it failed.
    pub(super) fn quote(self, receipt: Receipt) -> Receipt {
        let Receipt::Never { why } = receipt else { return receipt };
        let _ = self.output_over.recv_timeout(OUTPUT_GRACE);
        let printed = lock(&self.printed);
        let text = String::from_utf8_lossy(&printed);
        match text.trim() {
            "" => Receipt::Never { why },
            said => Receipt::never(format!("{why}; it said: {said}")),
        }
    }
}

fn follow(mut output: std::io::PipeReader, printed: Arc<Mutex<Vec<u8>>>) -> mpsc::Receiver<()> {
    let (open, over) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _open = open;
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = output.read(&mut chunk) {
            let mut printed = lock(&printed);
            printed.extend_from_slice(&chunk[..n]);
            let excess = printed.len().saturating_sub(QUOTE_BYTES);
            printed.drain(..excess);
        }
    });
    over
}
