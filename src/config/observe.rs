//! `[observe]`: what counts as odd in an execution, and from where on a recommendation is
//! worth making.

use serde::Serialize;

use super::layers::Settings;
use crate::Result;
use crate::models::{Models, TokenCounts};

const TOKENS_MAX: u64 = 1_000_000_000_000;
const RATIO_MAX: f64 = 1_000_000.0;
const USD_MAX: f64 = 1_000_000.0;

/// Which prompt tokens count as input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// Those not read from the cache: plain input and cache writes.
    Uncached,
    /// All of them.
    All,
    /// Those neither written to the cache nor read from it.
    Plain,
}

impl InputKind {
    /// The word in the configuration and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            InputKind::Uncached => "uncached",
            InputKind::All => "all",
            InputKind::Plain => "plain",
        }
    }

    /// The tokens that count as input.
    pub fn of(self, tokens: &TokenCounts) -> u64 {
        match self {
            InputKind::Uncached => tokens.prompt().saturating_sub(tokens.cache_read),
            InputKind::All => tokens.prompt(),
            InputKind::Plain => tokens.input,
        }
    }
}

/// `[observe]`
#[derive(Debug, Clone, PartialEq)]
pub struct Observe {
    /// What counts as input.
    pub input: InputKind,
    /// Input over output, above which an execution is odd.
    pub ratio: f64,
    /// Executions with less input than this have no ratio worth telling, tokens; 0: all have.
    pub ratio_from_tokens: u64,
    /// Input and output, above which an execution is odd, tokens.
    pub tokens: u64,
    /// The same work begun again within this time is odd, milliseconds.
    pub duplicate_within_ms: u64,
    /// An execution no longer than this is quick, milliseconds.
    pub quick_ms: u64,
    /// Input and output, above which a quick execution is odd, tokens.
    pub quick_tokens: u64,
    /// Mean of what a session used before its first change, tokens.
    pub handoff_tokens: u64,
    /// What a file cost that was read again unchanged, tokens.
    pub reread_tokens: u64,
    /// The model to compare with where nothing was changed.
    pub cheap_model: String,
    /// What that would have saved, dollars.
    pub cheap_model_usd: f64,
    /// Share of all tokens that subagents used, percent.
    pub fan_out_percent: f64,
    /// Prompt tokens written to the cache again, for one cause.
    pub cache_miss_tokens: u64,
    /// Tasks that far apart could have shared a session, milliseconds.
    pub batch_within_ms: u64,
    /// A command's output beyond this is oversized, tokens.
    pub output_tokens: u64,
}

pub(super) fn observe(settings: &Settings) -> Result<Observe> {
    let tokens = |key| settings.read(key).whole(1, TOKENS_MAX);
    let kinds = [InputKind::Uncached, InputKind::All, InputKind::Plain];
    let word = settings.read("observe.input").one_of(&kinds.map(InputKind::as_str))?;
    let cheap = settings.read("observe.cheap_model");
    let cheap_model = cheap.text_not_empty()?;
    if Models::in_force().window(&cheap_model).is_none() {
        return Err(cheap
            .wrong(format!("names \"{}\", whose price is not known", cheap_model.escape_debug())));
    }
    Ok(Observe {
        input: kinds.into_iter().find(|kind| kind.as_str() == word).unwrap_or(kinds[0]),
        ratio: settings.read("observe.ratio").positive(RATIO_MAX)?,
        ratio_from_tokens: settings.read("observe.ratio_from_tokens").whole(0, TOKENS_MAX)?,
        tokens: tokens("observe.tokens")?,
        duplicate_within_ms: settings.read("observe.duplicate_within").span_ms()?,
        quick_ms: settings.read("observe.quick").span_ms()?,
        quick_tokens: tokens("observe.quick_tokens")?,
        handoff_tokens: tokens("observe.handoff_tokens")?,
        reread_tokens: tokens("observe.reread_tokens")?,
        cheap_model,
        cheap_model_usd: settings.read("observe.cheap_model_usd").number(0.0, USD_MAX)?,
        fan_out_percent: settings.read("observe.fan_out_percent").number(0.0, 100.0)?,
        cache_miss_tokens: tokens("observe.cache_miss_tokens")?,
        batch_within_ms: settings.read("observe.batch_within").span_ms()?,
        output_tokens: tokens("observe.output_tokens")?,
    })
}
