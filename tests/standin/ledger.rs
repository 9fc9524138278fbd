//! The ledger: what the stand-in and everything it started did, each line
//! written by the one who did it, in one append. The oracle of the torture
//! suite; longhaul knows nothing of it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::procfs::{Life, Now};

/// The variable that names the ledger's file.
pub const LEDGER_VARIABLE: &str = "LONGHAUL_STANDIN_LEDGER";
/// The variable that names the script.
pub const SCRIPT_VARIABLE: &str = "LONGHAUL_STANDIN_SCRIPT";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub pid: u32,
    /// See [`Life`].
    pub start: u64,
    /// The session it belongs to.
    pub session: String,
    pub what: What,
    /// The how-manieth; for an overlap, the process id of the other.
    pub n: u64,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A CLI began; `n` is the launch, from 1.
    Start,
    /// Another CLI was alive at that moment.
    Overlap,
    /// Something of an earlier session was alive at that moment.
    Leftover,
    /// A turn began.
    Turn,
    /// The `n`th reply stands in the transcript.
    Reply,
    /// A box was ticked; `n` are ticked now.
    Tick,
    /// The checkpoint request was heard.
    Asked,
    /// The three files are written.
    Checkpoint,
    /// A descendant stands.
    Limb,
    /// All `n` descendants asked for stand.
    Limbs,
    /// A misdeed of the script is about to be done.
    Fault,
    /// The CLI ends politely with code `n`.
    End,
}

impl Entry {
    pub fn life(&self) -> Life {
        Life { pid: self.pid, start: self.start }
    }
}

/// One writer's access.
pub struct Ledger {
    file: File,
    path: PathBuf,
    session: String,
    me: Life,
}

impl Ledger {
    pub fn open(path: &Path, session: &str) -> Self {
        let file = File::options().append(true).create(true).open(path).expect("the ledger");
        let me = Now::read(std::process::id()).expect("this process").life;
        Self { file, path: path.to_owned(), session: session.to_owned(), me }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn session(&self) -> &str {
        &self.session
    }

    pub fn note(&self, what: What, n: u64) {
        let Life { pid, start } = self.me;
        let entry = Entry { pid, start, session: self.session.clone(), what, n };
        let line = serde_json::to_string(&entry).expect("plain fields") + "\n";
        // One write, so that lines of two processes never mix.
        (&self.file).write_all(line.as_bytes()).expect("the ledger");
    }

    /// Notes the start of a CLI, and who else is alive. Of two that start
    /// together at least one sees the other. Gives the number of the launch.
    pub fn note_start(&self) -> u64 {
        let launch = 1 + read(&self.path).iter().filter(|e| e.what == What::Start).count() as u64;
        self.note(What::Start, launch);
        let others = read(&self.path);
        for entry in others.iter().rev().filter(|e| e.life() != self.me) {
            let what = match entry.what {
                What::Start => What::Overlap,
                What::Limb => What::Leftover,
                _ => continue,
            };
            if entry.life().is_alive() {
                self.note(what, entry.pid.into());
            }
        }
        launch
    }
}

/// All lines so far.
pub fn read(path: &Path) -> Vec<Entry> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect("a ledger line")).collect()
}
