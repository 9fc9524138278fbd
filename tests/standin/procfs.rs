//! Processes as `/proc` shows them, read without longhaul's code.

use std::fs;

/// One process; the start time tells it from a later one with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Life {
    pub pid: u32,
    /// Clock ticks since boot.
    pub start: u64,
}

/// What the kernel says of a process id now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub life: Life,
    pub parent: u32,
    /// Ended, and not waited for.
    pub zombie: bool,
}

impl Now {
    /// `None`: there is no process with this id.
    pub fn read(pid: u32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything; the fields stand behind it.
        let close = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let start = fields.get(19)?.parse().ok()?;
        Some(Self {
            life: Life { pid, start },
            parent: fields.get(1)?.parse().ok()?,
            zombie: matches!(*fields.first()?, "Z" | "X"),
        })
    }
}

impl Life {
    /// Exactly this process, if there is anything left of it.
    pub fn now(self) -> Option<Now> {
        Now::read(self.pid).filter(|now| now.life == self)
    }

    /// Exactly this process runs.
    pub fn is_alive(self) -> bool {
        self.now().is_some_and(|now| !now.zombie)
    }
}
