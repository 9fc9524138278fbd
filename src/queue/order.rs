//! Do tasks wait for each other? Pure.

use std::collections::HashMap;
use std::hash::Hash;

use super::task::{BatchId, NewTask, TaskId};

/// A circle among new tasks, by their places: each waits for the next, and the last
/// for the first. A task waits for what it names and for the one before it in its
/// batch. Tasks that were there before cannot wait for new ones.
pub(super) fn cycle(tasks: &[NewTask], place_of: &HashMap<&TaskId, usize>) -> Option<Vec<usize>> {
    let mut last_of_batch: HashMap<&BatchId, usize> = HashMap::new();
    let mut before: Vec<Vec<usize>> = Vec::with_capacity(tasks.len());
    for (place, task) in tasks.iter().enumerate() {
        let mut edges: Vec<usize> =
            task.after.iter().filter_map(|id| place_of.get(id).copied()).collect();
        if let Some(batch) = &task.batch_id {
            edges.extend(last_of_batch.insert(batch, place));
        }
        before.push(edges);
    }
    let mut search = Search::default();
    (0..tasks.len()).find_map(|start| {
        let found = search.from(start, |place| Ok::<_, ()>(before[place].clone()));
        found.unwrap_or_default()
    })
}

/// A circle through `start`, the only one that may have a new edge.
pub(super) fn cycle_through<K: Copy + Eq + Hash, E>(
    start: K,
    before: impl FnMut(K) -> Result<Vec<K>, E>,
) -> Result<Option<Vec<K>>, E> {
    Search::default().from(start, before)
}

/// A search in depth, without recursion: a chain may be as long as the queue.
struct Search<K> {
    /// Seen; true as long as it is on the way.
    seen: HashMap<K, bool>,
}

impl<K> Default for Search<K> {
    fn default() -> Self {
        Self { seen: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash> Search<K> {
    fn from<E>(
        &mut self,
        start: K,
        mut before: impl FnMut(K) -> Result<Vec<K>, E>,
    ) -> Result<Option<Vec<K>>, E> {
        if self.seen.contains_key(&start) {
            return Ok(None);
        }
        self.seen.insert(start, true);
        let mut way = vec![(start, before(start)?.into_iter())];
        while let Some((here, rest)) = way.last_mut() {
            let here = *here;
            let Some(next) = rest.next() else {
                self.seen.insert(here, false);
                way.pop();
                continue;
            };
            match self.seen.get(&next) {
                Some(false) => {}
                Some(true) => {
                    let on_the_way = way.iter().map(|(at, _)| *at);
                    return Ok(Some(on_the_way.skip_while(|at| *at != next).collect()));
                }
                None => {
                    self.seen.insert(next, true);
                    way.push((next, before(next)?.into_iter()));
                }
            }
        }
        Ok(None)
    }
}
