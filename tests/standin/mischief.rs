//! The misdeeds of a script.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use serde_json::json;

use super::keyboard::Key;
use super::ledger::What;
use super::limb;
use super::rows::Usage;
use super::script::{Deed, Flood, Hang, Moment};
use super::session::{Session, Stop};

const TRUST_NO: &str = include_str!("../data/screens/trust-no-selected.txt");
const TRUST_YES: &str = include_str!("../data/screens/trust-yes-selected.txt");
const API_KEY: &str = include_str!("../data/screens/api-key.txt");
const BYPASS: &str = include_str!("../data/screens/bypass.txt");
const OFFLINE: &str = include_str!("../data/screens/onboarding-offline.txt");
const PERMISSION: &str = include_str!("../data/screens/permission.txt");
const UNKNOWN: &str = "\
────────────────────────────────────────────────────────────
 A new way to work is here

 Would you like to try the thing that did not exist when this
 was written?

 ❯ 1. Tell me more
   2. Not now

 Enter to confirm · Esc to cancel
";

/// Between two frames of a spinner.
const FRAME: Duration = Duration::from_millis(50);
const MIB: usize = 1 << 20;

impl Session {
    /// Does what the script has for this moment.
    pub fn fault(&mut self, moment: Moment) -> Result<(), Stop> {
        let is_early = matches!(moment, Moment::Start | Moment::Ready);
        let turn = self.turn;
        let due = |fault: &&super::script::Fault| {
            fault.at == moment && (is_early || fault.turn == 0 || fault.turn == turn)
        };
        let deeds: Vec<Deed> =
            self.behaviour.faults.iter().filter(due).map(|f| f.deed.clone()).collect();
        for deed in deeds {
            self.ledger.note(What::Fault, turn.into());
            self.misbehave(deed)?;
        }
        Ok(())
    }

    fn misbehave(&mut self, deed: Deed) -> Result<(), Stop> {
        match deed {
            Deed::Exit(code) => std::process::exit(code),
            Deed::Signal(number) => limb::die_by(number),
            Deed::Stall(ms) => self.pause(ms),
            Deed::Hang(how) => self.hang(how),
            Deed::ApiError { error, status, text } => Err(Stop::Failed { error, status, text }),
            Deed::Dialog(name) => self.ask(&name),
            Deed::Flood { what, amount } => {
                self.flood(what, amount);
                Ok(())
            }
        }
    }

    fn hang(&mut self, how: Hang) -> Result<(), Stop> {
        match how {
            Hang::Silent => loop {
                self.pause(60_000)?;
            },
            Hang::Spinner => {
                for frame in "✢✳✶✻✽".chars().cycle() {
                    self.paint(&format!("\r{frame} Thinking… (esc to interrupt)"));
                    // The stream is dead: keys change nothing.
                    self.wait_keys(Some(FRAME))?;
                }
                Ok(())
            }
            Hang::Busy => loop {
                self.wait_keys(Some(Duration::ZERO))?;
            },
            Hang::Deaf => loop {
                std::thread::sleep(Duration::from_secs(60));
            },
            Hang::Stopped => {
                kill_process(getpid(), Signal::STOP).expect("a signal to oneself");
                Ok(())
            }
        }
    }

    /// Waits for an answer, for ever if need be.
    fn ask(&mut self, name: &str) -> Result<(), Stop> {
        let screen = match name {
            "trust" => TRUST_NO,
            "api_key" => API_KEY,
            "bypass" => BYPASS,
            "offline" => OFFLINE,
            "permission" => PERMISSION,
            _ => UNKNOWN,
        };
        let show = |session: &Session, screen: &str| {
            session.paint(&format!("\x1b[2J\x1b[H{}", screen.replace('\n', "\r\n")));
        };
        show(self, screen);
        if name == "permission" {
            let message = "Claude needs your permission to use Bash";
            self.reports.hook(
                "Notification",
                json!({"notification_type": "permission_prompt", "message": message}),
            );
        }
        let mut is_yes = matches!(name, "permission" | "unknown");
        loop {
            for key in self.wait_keys(None)? {
                match key {
                    Key::Up | Key::Down if name == "trust" => {
                        is_yes = !is_yes;
                        show(self, if is_yes { TRUST_YES } else { TRUST_NO });
                    }
                    Key::Enter if is_yes => {
                        self.paint("\x1b[2J\x1b[H❯ ");
                        return Ok(());
                    }
                    // The default of the others is No, and No quits.
                    Key::Enter => return Err(Stop::End(1)),
                    Key::Escape if name == "permission" => return Err(Stop::Interrupted),
                    _ => {}
                }
            }
        }
    }

    fn flood(&mut self, what: Flood, amount: u64) {
        match what {
            Flood::Transcript => {
                for _ in 0..amount {
                    self.transcript.result("toolu_1", &"x".repeat(MIB));
                }
            }
            Flood::Subagents => {
                for _ in 0..amount {
                    self.transcript.subagent(3_000);
                }
            }
            Flood::Tokens => {
                let said = [json!({"type": "text", "text": "more"})];
                for _ in 0..amount {
                    self.transcript.subagent(1_000_000);
                    let usage = Usage::of_context(1_000_000, 10, 50);
                    for line in self.transcript.reply(&said, usage) {
                        self.transcript.raw((line + "\n").as_bytes());
                    }
                }
            }
            Flood::Memory => {
                // Written to, or the kernel would not hand it out; kept for good.
                let held: Vec<Vec<u8>> = (0..amount).map(|_| vec![1_u8; MIB]).collect();
                std::mem::forget(held);
            }
            Flood::Disk => {
                let mut file = File::create("flood").expect("a file");
                for _ in 0..amount {
                    file.write_all(&vec![b'x'; MIB]).expect("room");
                }
            }
            Flood::Screen => {
                for _ in 0..amount {
                    self.paint(&"x".repeat(MIB));
                }
            }
        }
    }
}
