//! Rules of thumb: when a cheaper model would do, and when there are too many agents. Pure.

use super::daily::Task;
use super::record::LogEntry;

/// An entry with no more output than this, and
const LIGHT_OUTPUT_TOKENS: u64 = 1_500;
/// no more in all, is light work.
const LIGHT_TOTAL_TOKENS: u64 = 20_000;
/// More input than this for one of output is much.
pub(super) const RATIO: u64 = 15;
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
        && entry.counted_tokens().is_some_and(|tokens| tokens <= LIGHT_TOTAL_TOKENS)
        && entry.cache_read_tokens.unwrap_or(0) <= LIGHT_TOTAL_TOKENS * 5;
    is_light.then(|| cheaper_than(entry.model.as_deref()?)).flatten()
}

/// Was more sent than [`RATIO`] to one? Exact: one token more decides.
pub(super) fn is_over_ratio(input_tokens: u64, output_tokens: u64) -> bool {
    u128::from(input_tokens) > u128::from(output_tokens) * u128::from(RATIO)
}

/// How many agents worked on a task, if they are many for what it used.
pub(super) fn fan_out(task: &Task<'_>) -> Option<usize> {
    let agents = task.agents();
    let few = task.sum.total.tokens <= FEW_TOKENS_EACH.saturating_mul(agents as u64);
    (agents >= MANY_AGENTS && few && !task.sum.total.is_partial).then_some(agents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_more_than_the_ratio_is_over_it() {
        for (input, output, is_over) in [
            (15_000, 1_000, false),
            (15_001, 1_000, true),
            (15_014, 1_000, true),
            (150_000, 10_000, false),
            (0, 0, false),
            (1, 0, true),
            (u64::MAX, u64::MAX, false),
            (u64::MAX, u64::MAX / 15, false),
            (u64::MAX, u64::MAX / 15 - 1, true),
        ] {
            assert_eq!(is_over_ratio(input, output), is_over, "{input} : {output}");
        }
    }
}
