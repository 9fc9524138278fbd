//! The live session as the loop sees it: its keeper, its transcript, and what
//! must be remembered of it for a brief.

use std::collections::VecDeque;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::cycle::event::Exit;
use crate::cycle::record::{Bill, CostSource, Spend, Tokens};
use crate::devdocs::proof;
use crate::session::Keeper;
use crate::transcript::{Fact, SessionTranscript};
use crate::workspace::Marker;

use super::senses::Senses;
use super::translate::spend_of;

/// What is kept of the assistant's words and deeds.
const MAX_REMEMBERED: usize = 12;
/// Files remembered as touched.
const MAX_FILES: usize = 100;
/// Bytes kept of one message.
const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// One live CLI.
pub struct LiveSession {
    /// The cycle it belongs to.
    pub cycle: u32,
    /// Its id.
    pub session_id: Uuid,
    /// None once it is swept.
    pub keeper: Option<Keeper>,
    /// Its own record.
    pub transcript: SessionTranscript,
    /// Set when the CLI is gone and the sweep is going on.
    pub exit: Option<Exit>,
    /// The CLI said it is ready, or wrote its first row.
    pub ready: bool,
    /// The newest screen.
    pub screen: String,
    /// When the trust dialog was last given a key, `boot_ms`; 0 = never.
    pub trust_key_ms: u64,
    /// What was said and done last.
    pub memory: Memory,
    /// The checkpoint files at the first request.
    pub baseline: Option<proof::Snapshot>,
    /// When the model got its newest prompt, Unix milliseconds, by its record.
    pub prompted_unix_ms: Option<i64>,
    /// Where the work tree stood at the start, and at the last judgement.
    pub cycle_marker: Option<Marker>,
    /// Since when its record cannot be read.
    pub unreadable_since: Option<Timestamp>,
    /// What was seen of it from outside.
    pub senses: Senses,
    /// See `cycle_marker`.
    pub turn_marker: Option<Marker>,
    /// Responses and tokens as told last: a reply that is still written grows
    /// without a new one.
    pub told: (u64, Tokens),
    /// The same as the usage tracker was told last.
    pub tracked: (u64, Tokens),
}

impl LiveSession {
    /// A session that was just launched.
    pub fn new(
        cycle: u32,
        session_id: Uuid,
        keeper: Keeper,
        transcript: SessionTranscript,
    ) -> Self {
        Self { keeper: Some(keeper), ..Self::unheard_of(cycle, session_id, transcript) }
    }

    /// A session that an earlier longhaul lost: only its record is left.
    pub fn lost(lost: Lost) -> Self {
        Self {
            exit: Some(Exit::Unknown),
            ready: true,
            memory: lost.memory,
            ..Self::unheard_of(lost.cycle, lost.session_id, lost.transcript)
        }
    }

    /// One without a keeper, of which nothing is known yet.
    fn unheard_of(cycle: u32, session_id: Uuid, transcript: SessionTranscript) -> Self {
        Self {
            cycle,
            session_id,
            keeper: None,
            transcript,
            exit: None,
            ready: false,
            screen: String::new(),
            trust_key_ms: 0,
            memory: Memory::default(),
            baseline: None,
            prompted_unix_ms: None,
            cycle_marker: None,
            unreadable_since: None,
            senses: Senses::default(),
            turn_marker: None,
            told: (0, Tokens::default()),
            tracked: (0, Tokens::default()),
        }
    }

    /// Not ready, or its transcript is not there yet.
    pub fn is_early(&self) -> bool {
        self.exit.is_none() && (!self.ready || !self.transcript.path().exists())
    }
}

/// What the record of a lost session says.
pub struct Lost {
    cycle: u32,
    session_id: Uuid,
    transcript: SessionTranscript,
    memory: Memory,
    /// What it used; nothing if there is no record.
    pub spend: Option<Spend>,
    /// Its own bill, if it could still write one.
    pub bill: Option<Bill>,
}

impl Lost {
    /// Reads the record to its end.
    pub fn read(cycle: u32, session_id: Uuid, mut transcript: SessionTranscript) -> Self {
        let mut memory = Memory::default();
        let mut bill = None;
        let facts = match transcript.finish() {
            Ok(facts) => facts,
            Err(err) => {
                tracing::warn!(%err, "the record of the lost session cannot be read");
                Vec::new()
            }
        };
        for entry in &facts {
            memory.learn(&entry.fact);
            if let Fact::CostState(state) = &entry.fact {
                bill = Some(Bill { cost_usd: state.total_cost_usd, source: CostSource::CostState });
            }
        }
        let spend = (transcript.usage().responses() > 0).then(|| spend_of(transcript.usage()));
        Self { cycle, session_id, transcript, memory, spend, bill }
    }
}

/// The last words and deeds of a session, for the brief.
#[derive(Debug, Default, Clone)]
pub struct Memory {
    /// The newest assistant messages.
    pub messages: VecDeque<String>,
    /// The newest tool calls.
    pub tools: VecDeque<String>,
    /// Files that tools wrote.
    pub files: Vec<String>,
}

impl Memory {
    /// Takes one fact in.
    pub fn learn(&mut self, fact: &Fact) {
        match fact {
            Fact::AssistantText { text } => {
                push(&mut self.messages, end_of(text, MAX_MESSAGE_BYTES))
            }
            Fact::ToolUse { summary, file, changes_files, .. } => {
                push(&mut self.tools, summary.clone());
                if let (true, Some(file)) = (*changes_files, file)
                    && self.files.len() < MAX_FILES
                    && !self.files.contains(file)
                {
                    self.files.push(file.clone());
                }
            }
            Fact::PromptArrived { .. }
            | Fact::Context { .. }
            | Fact::ToolResult { .. }
            | Fact::TurnEnded(_)
            | Fact::CostState(_)
            | Fact::Compacted { .. }
            | Fact::Moved { .. } => {}
        }
    }
}

fn push(list: &mut VecDeque<String>, entry: String) {
    if list.len() == MAX_REMEMBERED {
        list.pop_front();
    }
    list.push_back(entry);
}

fn end_of(text: &str, bytes: usize) -> String {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].to_owned()
}
