//! What one transcript tells of a session or a subagent: its responses, and what was
//! done in each. Pure.

use std::path::PathBuf;
use std::sync::Arc;

use crate::models::{Billable, Models, TokenCounts};

/// Characters that are taken for one token where nothing else tells.
pub(crate) const CHARS_PER_TOKEN: u64 = 4;
/// A size that usage tells is believed if it is within this factor of the size by
/// characters: more came into the context than results, or less of the reply stayed.
const BELIEVABLE: u64 = 3;
/// A prompt this much smaller than the one before is of a context that began anew.
const SHRUNK_PERCENT: u64 = 60;
/// No context that a session fills lives for more requests; a transcript that somebody made
/// up may say so of each of its results.
pub(crate) const CARRIED_MAX: usize = 4_096;

/// A transcript.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Thread {
    /// The file.
    pub path: PathBuf,
    /// Its session.
    pub session: String,
    /// The kind of its agent, or its id; `None`: the main thread.
    pub agent: Option<String>,
    /// The directory it worked in.
    pub project: String,
    /// It goes on with a conversation that another transcript told of first.
    pub is_continuation: bool,
    /// Its responses, in the order of time.
    pub steps: Vec<Step>,
    /// What it was told, in the order of time.
    pub prompts: Vec<Prompt>,
    /// The last words of its turns, in the order of time.
    pub words: Vec<Words>,
    /// Lines that could not be read.
    pub bad_rows: u64,
}

/// A response that counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// Unix milliseconds; `None`: its rows tell no time.
    pub unix_ms: Option<i64>,
    /// The model that is billed.
    pub model: Arc<str>,
    /// What it is billed for, its advisors aside.
    pub billable: Billable,
    /// Everything it came to, advisors included.
    pub tokens: TokenCounts,
    /// Dollars at list prices, of models with a price.
    pub cost_usd: f64,
    /// Tokens of models without one.
    pub unpriced_tokens: u64,
    /// Dollars for each token that it read from the cache.
    pub read_usd: f64,
    /// What it did.
    pub calls: Vec<Call>,
}

impl Step {
    /// Tokens that were not read from the cache: what a context is filled with, and output.
    pub fn fresh(&self) -> u64 {
        self.tokens.total().saturating_sub(self.tokens.cache_read)
    }

    /// Is any of it of a model without a price?
    pub fn has_unpriced(&self) -> bool {
        self.unpriced_tokens > 0
    }

    /// Dollars for a token that it read from the cache; 0 if it read none.
    pub(crate) fn price_of_a_read(&self, models: &Models) -> f64 {
        let used = self.billable.tokens;
        let less = TokenCounts { cache_read: used.cache_read.saturating_sub(1), ..used };
        self.cost_with(models, used) - self.cost_with(models, less)
    }

    /// Its list price with other tokens; 0 for a model without a price.
    pub fn cost_with(&self, models: &Models, tokens: TokenCounts) -> f64 {
        let billable = Billable { tokens, ..self.billable };
        let at = self.unix_ms.unwrap_or(i64::MAX);
        models.price(&self.model, at, &billable).map_or(0.0, |usd| usd.as_f64())
    }
}

/// A tool call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    /// A name for it, by which its result is found.
    pub id: u64,
    /// Its place in the response.
    pub block: u64,
    /// The tool's name.
    pub tool: Arc<str>,
    /// What it does to files.
    pub effect: Effect,
    /// The file it names.
    pub file: Option<Arc<str>>,
    /// Which part of the file: the same for the same part.
    pub part: u64,
    /// What was run: the first words of a command, or the kind of a subagent.
    pub what: Option<Arc<str>>,
    /// It runs tests or checks.
    pub is_check: bool,
    /// Names for what it does: a later call with one of them makes good that it failed. None:
    /// it only looks, and may fail.
    pub subjects: Box<[u64]>,
    /// What came back.
    pub output: Option<Output>,
    /// Why it failed, or what it says that failed: harmless, and short.
    pub error: Option<Box<str>>,
}

impl Call {
    /// Did it fail, by its status or by what it says of tests?
    pub fn has_failed(&self) -> bool {
        self.output.is_some_and(|said| said.is_error || (self.is_check && said.tells_failure))
    }
}

/// What a call does to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    /// It reads or searches.
    Looks,
    /// It keeps the books: the task file and what else is handed over.
    Notes,
    /// It may change files or not: a build, a script, a subagent.
    May,
    /// It changes files.
    Changes,
}

/// The result of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Output {
    /// Characters.
    pub chars: u64,
    /// The same for the same text.
    pub hash: u64,
    /// It failed.
    pub is_error: bool,
    /// Tokens that it put into the context.
    pub tokens: u64,
    /// Usage told that, and not the number of characters.
    pub is_measured: bool,
    /// It says that tests or checks failed, whatever the exit status was.
    pub tells_failure: bool,
}

/// Something that a session was told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prompt {
    /// Unix milliseconds.
    pub unix_ms: i64,
    /// The same for the same words, blanks aside.
    pub hash: u64,
    /// Characters, blanks at both ends aside.
    pub chars: u64,
    /// Its first line, cut.
    pub title: String,
}

/// What a turn ended with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Words {
    /// Unix milliseconds.
    pub unix_ms: i64,
    /// The beginning and the end of it.
    pub text: String,
}

/// What it cost to have something in the context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Carried {
    /// Dollars, of models with a price.
    pub usd: f64,
    /// Requests that had it.
    pub requests: u64,
    /// Some of them have no price.
    pub has_unpriced: bool,
}

impl Thread {
    /// The same transcript, without what it tells.
    pub(crate) fn clone_head(&self) -> Thread {
        Thread {
            path: self.path.clone(),
            session: self.session.clone(),
            agent: self.agent.clone(),
            project: self.project.clone(),
            is_continuation: self.is_continuation,
            ..Thread::default()
        }
    }

    /// Says of each result how many tokens it put into the context: what the prompt grew
    /// by until the next response, shared by characters, where that is believable.
    pub(crate) fn weigh(&mut self) {
        for at in 0..self.steps.len() {
            let grown = self.steps.get(at + 1).and_then(|next| {
                let (before, after) = (&self.steps[at].billable.tokens, &next.billable.tokens);
                after.prompt().checked_sub(before.prompt())?.checked_sub(before.output)
            });
            let outputs = self.steps[at].calls.iter_mut().filter_map(|call| call.output.as_mut());
            let outputs: Vec<&mut Output> = outputs.collect();
            let by_chars: u64 = outputs.iter().map(|o| estimated(o.chars)).sum();
            let grown = grown.filter(|grown| {
                by_chars > 0
                    && *grown <= by_chars.saturating_mul(BELIEVABLE)
                    && grown.saturating_mul(BELIEVABLE) >= by_chars
            });
            for output in outputs {
                let own = estimated(output.chars);
                output.is_measured = grown.is_some();
                output.tokens = match grown {
                    Some(grown) => {
                        let share = u128::from(grown) * u128::from(own) / u128::from(by_chars);
                        u64::try_from(share).unwrap_or(u64::MAX)
                    }
                    None => own,
                };
            }
        }
    }

    /// Does the context of the step `at` begin anew, for having been compacted or cleared?
    pub(crate) fn begins_anew(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1).and_then(|before| self.steps.get(before)) else {
            return true;
        };
        let (before, now) =
            (before.billable.tokens.prompt(), self.steps[at].billable.tokens.prompt());
        now.saturating_mul(100) < before.saturating_mul(SHRUNK_PERCENT)
    }

    /// What it cost that `tokens` came into the context after the step `at`: written by the
    /// next request, or sent as plain input, and read by those after it until the context
    /// begins anew; by [`CARRIED_MAX`] requests at most.
    pub(crate) fn carried(&self, at: usize, tokens: u64, models: &Models) -> Carried {
        let has_unpriced = self.steps.get(at).is_some_and(Step::has_unpriced);
        let mut carried = Carried { usd: 0.0, requests: 0, has_unpriced };
        for (next, step) in self.steps.iter().enumerate().skip(at + 1).take(CARRIED_MAX) {
            if next > at + 1 && self.begins_anew(next) {
                break;
            }
            let used = step.billable.tokens;
            carried.usd += match next == at + 1 {
                true => {
                    let without = without_fresh(used, tokens);
                    step.cost_with(models, used) - step.cost_with(models, without)
                }
                false => step.read_usd * used.cache_read.min(tokens) as f64,
            };
            carried.requests += 1;
            carried.has_unpriced |= step.has_unpriced();
        }
        carried
    }

    /// The first step that changes a file, what is only kept in the books aside.
    pub(crate) fn first_change(&self) -> Option<usize> {
        let changes = |step: &Step| step.calls.iter().any(|call| call.effect == Effect::Changes);
        self.steps.iter().position(changes)
    }
}

/// Tokens by characters.
pub(crate) fn estimated(chars: u64) -> u64 {
    chars.div_ceil(CHARS_PER_TOKEN)
}

/// The same less `tokens` of what is not read from the cache: writes first.
fn without_fresh(used: TokenCounts, tokens: u64) -> TokenCounts {
    let mut left = tokens;
    let mut less = |count: u64| {
        let taken = count.min(left);
        left -= taken;
        count - taken
    };
    let cache_write_5m = less(used.cache_write_5m);
    let cache_write_1h = less(used.cache_write_1h);
    TokenCounts { cache_write_5m, cache_write_1h, input: less(used.input), ..used }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::fixture::{Rows, Tokens, Tree, bash};

    #[test]
    fn what_a_result_costs_later_is_followed_only_so_far() {
        let tree = Tree::new();
        let calls = [bash("ls", "a", false)];
        let rows = Rows::new("s1").calls(0, Tokens(0, 9, 9_000, 1), &calls);
        tree.write("s1.jsonl", &rows.rows);
        let mut thread = tree.threads().list.remove(0);
        let step = thread.steps[0].clone();
        for (steps, requests) in [(1, 0), (3, 2), (CARRIED_MAX + 100, CARRIED_MAX as u64)] {
            thread.steps.resize(steps, step.clone());
            assert_eq!(thread.carried(0, 5, Models::builtin()).requests, requests);
        }
    }
}
