//! Rules of thumb: when a cheaper model would do, and when there are too many agents. Pure.

use super::daily::Task;
use super::record::LogEntry;

/// An entry with no more output than this, and
const LIGHT_OUTPUT_TOKENS: u64 = 1_500;
/// no more in all, is light work.
const LIGHT_TOTAL_TOKENS: u64 = 20_000;
/// So many agents on one task are a fan-out,
const MANY_AGENTS: usize = 4;
/// if it used no more than this for each of them.
pub(super) const FEW_TOKENS_EACH: u64 = 15_000;

/// The words by which models are told apart, from the dearest, each with what does for
/// light work in its place.
const CHEAPER: [(&str, &str); 5] = [
    ("fable", "sonnet"),
    ("mythos", "sonnet"),
    ("opus", "haiku"),
    ("best", "haiku"),
    ("sonnet", "haiku"),
];

/// What would do in the place of a model; `None` if there is nothing cheaper, or the model
/// is unknown.
pub(super) fn cheaper_than(model: &str) -> Option<&'static str> {
    let model = model.to_ascii_lowercase();
    CHEAPER.iter().find(|(word, _)| model.contains(word)).map(|(_, cheaper)| *cheaper)
}

/// The same, if what the entry tells of is light work.
pub(super) fn cheaper_for_light_work(entry: &LogEntry) -> Option<&'static str> {
    let is_light = entry.output_tokens.is_some_and(|tokens| tokens <= LIGHT_OUTPUT_TOKENS)
        && entry.total_tokens.is_some_and(|tokens| tokens <= LIGHT_TOTAL_TOKENS)
        && entry.cache_read_tokens.unwrap_or(0) <= LIGHT_TOTAL_TOKENS * 5;
    is_light.then(|| cheaper_than(entry.model.as_deref()?)).flatten()
}

/// How many agents worked on a task, if they are many for what it used.
pub(super) fn fan_out(task: &Task<'_>) -> Option<usize> {
    let agents = task.agents();
    let few = task.sum.total.tokens <= FEW_TOKENS_EACH.saturating_mul(agents as u64);
    (agents >= MANY_AGENTS && few && !task.sum.total.is_partial).then_some(agents)
}
