//! What the topics look at, and how they tell what they found. Pure.

use std::path::Path;

use super::agents::AgentFiles;
use super::{Advice, Advised, Basis, Measure, Topic};
use crate::config::Observe;
use crate::models::Models;
use crate::observe::thread::{Step, Thread};
use crate::observe::{Execution, Span};
use crate::text::to_micros;

/// Things of one sort that are told by name; of more, the largest.
pub(super) const NAMED_MAX: usize = 5;

/// The sessions of a time.
pub(super) struct Seen<'a> {
    pub threads: &'a [Thread],
    /// What was done for tasks of the queue.
    pub tasks: &'a [Execution],
    /// The files of their agents.
    pub agents: &'a AgentFiles,
    pub span: Span,
    pub config: &'a Observe,
    pub models: &'a Models,
}

impl Seen<'_> {
    /// Did this happen in the time that is asked for?
    pub(super) fn has(&self, step: &Step) -> bool {
        step.unix_ms.is_some_and(|at| self.span.has(at))
    }
}

/// Tokens, and dollars of those with a price.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Stake {
    pub tokens: u64,
    pub usd: f64,
    /// Some of them have no price.
    pub has_unpriced: bool,
}

impl Stake {
    /// What a step, or several, came to.
    pub(super) fn of(tokens: u64, usd: f64, has_unpriced: bool) -> Self {
        Self { tokens, usd, has_unpriced }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.usd += other.usd;
        self.has_unpriced |= other.has_unpriced;
    }

    /// What has no price is not for nothing.
    fn cost_usd(&self) -> Option<f64> {
        let usd = to_micros(self.usd);
        (usd > 0.0 || !self.has_unpriced).then_some(usd)
    }
}

/// One recommendation in the making.
pub(super) struct Found {
    pub topic: Topic,
    pub key: String,
    pub description: String,
    pub proposed_change: String,
    pub stake: Stake,
    pub basis: Basis,
    pub evidence: Vec<String>,
}

impl Advised {
    pub(super) fn measure(&mut self, topic: Topic, key: &str, value: f64, unit: &str) {
        let (key, unit) = (key.to_owned(), unit.to_owned());
        self.measures.push(Measure { topic, key, value: to_micros(value), unit });
    }

    pub(super) fn recommend(&mut self, found: Found) {
        self.advice.push(Advice {
            topic: found.topic,
            key: found.key,
            description: found.description,
            proposed_change: found.proposed_change,
            tokens: Some(found.stake.tokens),
            cost_usd: found.stake.cost_usd(),
            basis: found.basis,
            evidence: found.evidence,
        });
    }
}

/// A path as it is seen from the project.
pub(super) fn below(file: &str, project: &str) -> String {
    let short = Path::new(file).strip_prefix(project).ok();
    let short = short.filter(|path| !path.as_os_str().is_empty());
    short.map_or_else(|| file.to_owned(), |path| path.display().to_string())
}

/// A transcript as evidence.
pub(super) fn at(thread: &Thread) -> String {
    match &thread.agent {
        Some(agent) => {
            format!("session {}, subagent {agent}: {}", thread.session, thread.path.display())
        }
        None => format!("session {}: {}", thread.session, thread.path.display()),
    }
}
