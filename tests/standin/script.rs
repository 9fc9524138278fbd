//! What the stand-in is to do, launch by launch. See `README.md` in this folder.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The file named by `LONGHAUL_STANDIN_SCRIPT`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Script {
    /// How it behaves at every launch.
    usual: serde_json::Map<String, Value>,
    /// What is different at the first, second … launch.
    launches: Vec<serde_json::Map<String, Value>>,
    /// After the last of these comes the first again, not `usual` alone.
    repeat: bool,
}

/// How one launch behaves.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    pub model: String,
    /// Size of the context window, in tokens.
    pub window_tokens: u64,
    /// Context of the first reply.
    pub first_tokens: u64,
    /// Growth with each further reply.
    pub step_tokens: u64,
    pub output_tokens: u64,
    /// Before each reply.
    pub reply_ms: u64,
    /// Between two rows of a reply.
    pub row_ms: u64,
    /// Each tool call.
    pub tool_ms: u64,
    /// Each turn ticks the next box of the task file.
    pub ticks: bool,
    pub checkpoint: Checkpoint,
    /// Torn, spliced, repeated and NUL lines among the rows.
    pub damaged: bool,
    /// Each turn has a subagent answer once.
    pub subagent: bool,
    /// Signals that do nothing: `TERM`, `HUP`, `INT`.
    pub ignores: Vec<String>,
    /// Descendants that stand before the first row is written.
    pub limbs: Vec<Shape>,
    pub faults: Vec<Fault>,
}

impl Default for Behaviour {
    /// Two turns to a session: 70 % of the window is crossed with the fourth reply.
    fn default() -> Self {
        Self {
            model: "claude-haiku-4-5".into(),
            window_tokens: 200_000,
            first_tokens: 50_000,
            step_tokens: 32_000,
            output_tokens: 50,
            reply_ms: 2,
            row_ms: 0,
            tool_ms: 2,
            ticks: true,
            checkpoint: Checkpoint::Comply,
            damaged: false,
            subagent: false,
            ignores: Vec::new(),
            limbs: Vec::new(),
            faults: Vec::new(),
        }
    }
}

/// What it does when it is asked for a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checkpoint {
    /// Writes the three files and ends the turn.
    Comply,
    /// Ends the turn without.
    Refuse,
    /// Works on as if nothing had been said.
    Ignore,
}

/// The shape of what a session leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Its parent is gone; same session.
    DoubleFork,
    /// A session of its own.
    Setsid,
    /// Started by `nohup`; same session.
    Nohup,
    /// A session of its own, deaf to TERM, HUP and INT.
    Deaf,
    /// On TERM it starts two more and ends.
    ForksOnTerm,
    /// A session of its own, with the pty still open.
    HoldsPty,
    /// A session of its own and an empty environment.
    Cleared,
    /// 200 of them, each a session of its own.
    TwoHundred,
    /// A session of its own, stopped.
    Stopped,
    /// Just sits there; what the others are made of.
    Leaf,
}

impl Shape {
    /// The name in scripts.
    pub fn name(self) -> String {
        let name = serde_json::to_value(self).expect("a name");
        name.as_str().expect("a name").to_owned()
    }

    /// How many processes stand when it does.
    pub fn limbs(self) -> u64 {
        if self == Shape::TwoHundred { 200 } else { 1 }
    }
}

/// A misdeed and its moment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub at: Moment,
    /// In this turn of the launch only, from 1; 0: in each.
    #[serde(default = "first")]
    pub turn: u32,
    #[serde(rename = "do")]
    pub deed: Deed,
}

fn first() -> u32 {
    1
}

/// When a misdeed is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before anything is said or written.
    Start,
    /// After the `SessionStart` hook; no row is written yet.
    Ready,
    /// The prompt stands in the transcript.
    Prompt,
    /// The first reply stands there, its tool runs.
    Tool,
    /// The tool is done and the last reply stands there; the turn goes on.
    Reply,
    /// The turn is over.
    Idle,
    /// The checkpoint request was heard.
    Asked,
    /// The three files are written; the turn goes on.
    Written,
}

/// A misdeed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Exits at once with this code.
    Exit(i32),
    /// Dies by this signal. If that does not kill, exits with 77.
    Signal(i32),
    /// Nothing for so many milliseconds, then goes on. Esc ends the turn.
    Stall(u64),
    /// Nothing more, in one of these ways.
    Hang(Hang),
    /// The request fails after the CLI's own retries.
    ApiError { error: String, status: Option<u16>, text: String },
    /// Paints this dialog and waits: `trust`, `api_key`, `bypass`, `offline`,
    /// `permission`, `unknown`.
    Dialog(String),
    /// Much too much, so many times.
    Flood { what: Flood, amount: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hang {
    /// A spinner goes on; Esc does nothing (a dead stream).
    Spinner,
    /// A still screen; signals and Esc are heard.
    Silent,
    /// Signals and keys stay unread; only KILL helps.
    Deaf,
    /// A core is kept busy.
    Busy,
    /// SIGSTOP.
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flood {
    /// Mebibytes of rows in the transcript.
    Transcript,
    /// Subagents, each with one reply.
    Subagents,
    /// Replies with a million tokens each.
    Tokens,
    /// Mebibytes of memory.
    Memory,
    /// Mebibytes in a file of the project.
    Disk,
    /// Mebibytes on the screen.
    Screen,
}

/// The behaviour of the `launch`th launch, from 1.
pub fn behaviour(file: Option<&Path>, launch: u64) -> Behaviour {
    let script: Script = file.map_or_else(Script::default, |path| {
        let text = std::fs::read_to_string(path).expect("the script");
        serde_json::from_str(&text).expect("a script")
    });
    let mut fields = script.usual;
    let listed = script.launches.len() as u64;
    let index = if script.repeat && listed > 0 { (launch - 1) % listed } else { launch - 1 };
    if let Some(other) = script.launches.get(index as usize) {
        fields.extend(other.clone());
    }
    serde_json::from_value(Value::Object(fields)).expect("a behaviour")
}
