//! Does one list of entries say all that another does? Pure.

use std::collections::HashMap;

use super::record::LogEntry;

/// Pairs that are compared; lists that need more are taken for different.
const MAX_PAIRS: u32 = 4_000_000;

/// Does `newer` have for each entry of `older` one of its own that says at least as much,
/// in whatever order?
pub(super) fn covers(newer: &[LogEntry], older: &[LogEntry]) -> bool {
    if older.len() > newer.len() {
        return false;
    }
    let (newer, older) = without_equal(newer, older);
    let mut search = Search {
        owners: vec![None; newer.len()],
        reached: vec![None; newer.len()],
        newer,
        older,
        pairs: 0,
    };
    (0..search.older.len()).all(|at| search.place(at))
}

/// The rest of both when what is equal is paired. Whatever else could be paired with one
/// of two equal entries can be with the other's partner.
fn without_equal<'a>(
    newer: &'a [LogEntry],
    older: &'a [LogEntry],
) -> (Vec<&'a LogEntry>, Vec<&'a LogEntry>) {
    let mut by_words: HashMap<Words<'_>, Vec<usize>> = HashMap::new();
    for (at, entry) in newer.iter().enumerate().rev() {
        by_words.entry(words(entry)).or_default().push(at);
    }
    let mut is_paired = vec![false; newer.len()];
    let mut old_rest = Vec::new();
    for entry in older {
        match by_words.get_mut(&words(entry)).and_then(Vec::pop) {
            Some(at) => is_paired[at] = true,
            None => old_rest.push(entry),
        }
    }
    let rest = newer.iter().zip(is_paired).filter(|(_, is_paired)| !is_paired);
    (rest.map(|(entry, _)| entry).collect(), old_rest)
}

type Words<'a> = (Option<&'a str>, Option<&'a str>, [Option<u64>; 6]);

/// What [`LogEntry::completes`] compares.
fn words(entry: &LogEntry) -> Words<'_> {
    let cost = entry.estimated_cost.map(f64::to_bits);
    let numbers = [
        entry.input_tokens,
        entry.output_tokens,
        entry.total_tokens,
        cost,
        entry.cache_read_tokens,
        entry.cache_write_tokens,
    ];
    (entry.agent.as_deref(), entry.model.as_deref(), numbers)
}

/// A search for partners: who finds none that is free has others move on.
struct Search<'a> {
    newer: Vec<&'a LogEntry>,
    older: Vec<&'a LogEntry>,
    /// The old entry that has this new one.
    owners: Vec<Option<usize>>,
    /// Which old entry reached this new one in which turn.
    reached: Vec<Option<(usize, usize)>>,
    pairs: u32,
}

impl Search<'_> {
    /// Finds a partner for the old entry `turn`.
    fn place(&mut self, turn: usize) -> bool {
        let mut asking = std::collections::VecDeque::from([turn]);
        while let Some(old) = asking.pop_front() {
            // Most often an entry has its place of before.
            for step in 0..self.newer.len() {
                let new = (old + step) % self.newer.len();
                self.pairs += 1;
                if self.pairs > MAX_PAIRS {
                    return false;
                }
                let was_reached = self.reached[new].is_some_and(|(in_turn, _)| in_turn == turn);
                if was_reached || !self.newer[new].completes(self.older[old]) {
                    continue;
                }
                self.reached[new] = Some((turn, old));
                match self.owners[new] {
                    Some(owner) => asking.push_back(owner),
                    None => {
                        self.hand_over(new, turn);
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Gives the free entry `new` to who reached it, whose own goes on, until `turn` has one.
    fn hand_over(&mut self, mut new: usize, turn: usize) {
        while let Some((_, old)) = self.reached[new] {
            let had = self.owners.iter().position(|owner| *owner == Some(old));
            self.owners[new] = Some(old);
            match had.filter(|_| old != turn) {
                Some(had) => new = had,
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(agent: Option<u64>, model: Option<u64>, input_tokens: Option<u64>) -> LogEntry {
        let named = |name: Option<u64>| name.map(|name| name.to_string());
        LogEntry { agent: named(agent), model: named(model), input_tokens, ..LogEntry::default() }
    }

    /// The same by trying everything.
    fn covers_plainly(newer: &[&LogEntry], older: &[LogEntry]) -> bool {
        let Some((first, rest)) = older.split_first() else { return true };
        (0..newer.len()).any(|at| {
            let mut others = newer.to_vec();
            others.remove(at).completes(first) && covers_plainly(&others, rest)
        })
    }

    fn some() -> impl Strategy<Value = Vec<LogEntry>> {
        let value = || prop::option::of(0..2_u64);
        prop::collection::vec((value(), value(), value()), 0..6)
            .prop_map(|list| list.into_iter().map(|(a, b, c)| entry(a, b, c)).collect())
    }

    #[test]
    fn partners_move_on_for_one_that_has_no_other() {
        let (any, one) = (entry(None, None, Some(1)), entry(Some(1), None, Some(1)));
        let new = [entry(Some(1), Some(1), Some(1)), entry(Some(2), Some(1), Some(1))];
        assert!(covers(&new, &[any.clone(), one.clone()]));
        assert!(!covers(&new, &[one.clone(), one, any]));
    }

    #[test]
    fn as_many_as_may_come_are_compared_at_once() {
        let of = |model| {
            let list = (0..5_000).rev().map(move |n| entry(Some(n), model, Some(n)));
            list.collect::<Vec<_>>()
        };
        assert!(covers(&of(Some(1)), &of(None)));
        assert!(!covers(&of(None), &of(Some(1))));
    }

    proptest! {
        #[test]
        fn it_is_what_trying_everything_finds(new in some(), old in some()) {
            let refs: Vec<&LogEntry> = new.iter().collect();
            prop_assert_eq!(covers(&new, &old), covers_plainly(&refs, &old));
        }
    }
}
