//! The process that makes one attempt to tell a person.
//!
//! It is a process so that a fault, a name that is resolved for minutes, or the
//! memory of a TLS handshake are not the supervisor's, and so that what the
//! person's command starts has somebody to end it: the courier adopts every
//! orphan below it, and kills all of them before it reports. It sits on a leash,
//! its standard input: when that hangs up, it does the same and ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use super::errand::Errand;
use super::order::{Order, Receipt, Way};
use super::post;
use crate::session::sweep;

/// The hidden subcommand that runs a courier.
pub const COURIER_COMMAND: &str = "__courier";

/// Longest order; a notification is bounded far below.
const ORDER_BYTES: u64 = 1 << 20;

/// A POST keeps its own time; this is for one that does not.
const POST_GRACE: Duration = Duration::from_secs(2);

/// What a courier hears while it waits.
pub(super) enum Heard {
    /// The attempt ended.
    Ended(Receipt),
    /// longhaul let go.
    Leash,
}

/// Runs a courier: one order on standard input, one receipt on standard output.
pub fn courier_main() -> ExitCode {
    // A session of its own: no key pressed for longhaul reaches it or the command.
    let _ = rustix::process::setsid();
    let receipt = match sweep::become_subreaper() {
        Ok(()) => attend(),
        Err(err) => Some(Receipt::never(err.to_string())),
    };
    if let Some(line) = receipt.and_then(|receipt| serde_json::to_string(&receipt).ok()) {
        // longhaul may be gone; nobody else is to be told.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    ExitCode::SUCCESS
}

/// Takes the order and makes the attempt; `None` if nobody wants to know.
fn attend() -> Option<Receipt> {
    let (says, heard) = mpsc::channel();
    let mut input = BufReader::new(std::io::stdin());
    let mut line = String::new();
    input.by_ref().take(ORDER_BYTES).read_line(&mut line).ok()?;
    let order: Order = serde_json::from_str(&line).ok()?;
    let leash = says.clone();
    std::thread::spawn(move || {
        // Nothing more is ever written to it: it ends when longhaul lets go.
        let _ = std::io::copy(&mut input, &mut std::io::sink());
        let _ = leash.send(Heard::Leash);
    });
    let limit = Duration::from_millis(order.limit_ms);
    match order.way {
        Way::Command(argv) => {
            let errand = match Errand::start(&argv, order.body, says) {
                Ok(errand) => errand,
                Err(err) => return Some(Receipt::never(format!("it cannot be started: {err}"))),
            };
            let ended = heard.recv_timeout(limit);
            sweep::end_all_below(0);
            match ended {
                Ok(Heard::Leash) => None,
                Ok(Heard::Ended(receipt)) => Some(errand.quote(receipt)),
                Err(_) => Some(errand.quote(Receipt::never(format!(
                    "it did not end within {} s and was killed",
                    limit.as_secs()
                )))),
            }
        }
        Way::Webhook(url) => {
            std::thread::spawn(move || {
                let _ = says.send(Heard::Ended(post::post(&url, &order.body, limit)));
            });
            match heard.recv_timeout(limit + POST_GRACE) {
                Ok(Heard::Leash) => None,
                Ok(Heard::Ended(receipt)) => Some(receipt),
                Err(_) => Some(Receipt::later("no answer in time")),
            }
        }
    }
}
