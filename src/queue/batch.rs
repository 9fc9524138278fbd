//! Batches that are not there yet: where `new` is given as a batch's id, one is made up.

use jiff::tz::TimeZone;

use super::refusal::{Code, QueueError, Refusal};
use super::store::Store;
use super::task::{BatchId, NEW_BATCH};

/// So many batches may be begun in one second, each named for one of the next.
const MAX_AHEAD: u32 = 1_000;

/// The batch that one call begins: all that ask for a new one in it share that.
pub struct NewBatch {
    now_unix_ms: i64,
    zone: TimeZone,
    id: Option<BatchId>,
}

impl NewBatch {
    /// None yet; the name will say this time, by the clocks of this zone.
    pub fn new(now_unix_ms: i64, zone: TimeZone) -> Self {
        Self { now_unix_ms, zone, id: None }
    }

    /// Puts its id in the place of the word `new`, and leaves any other as it is.
    ///
    /// # Errors
    /// As [`Self::id`].
    pub fn name(
        &mut self,
        store: &mut dyn Store,
        given: &mut Option<String>,
    ) -> Result<(), QueueError> {
        if given.as_deref() == Some(NEW_BATCH) {
            *given = Some(self.id(store)?.to_string());
        }
        Ok(())
    }

    /// Its id, which no batch had before: two that begin within one second are not the
    /// same one.
    ///
    /// # Errors
    /// `invalid_parameter`: too many began just now. Or the store failed.
    pub fn id(&mut self, store: &mut dyn Store) -> Result<BatchId, QueueError> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        for ahead in 0..MAX_AHEAD {
            let at = self.now_unix_ms.saturating_add(1_000 * i64::from(ahead));
            let id = BatchId::generate(at, &self.zone);
            if !store.has_batch(&id)? {
                self.id = Some(id.clone());
                return Ok(id);
            }
        }
        let message = "too many batches were begun just now; give this one an id of your own";
        Err(Refusal::new(Code::InvalidParameter, message).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::store::{Change, Filter};
    use crate::queue::{Draft, NewTask, SqliteStore};

    /// 2025-11-07, 12:00:00 UTC.
    const NOON_UNIX_MS: i64 = 1_762_516_800_000;

    struct Lab {
        dir: tempfile::TempDir,
        store: SqliteStore,
    }

    impl Lab {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("project")).unwrap();
            let store = SqliteStore::open(&dir.path().join("state")).unwrap();
            Self { dir, store }
        }

        fn task(&self, batch_id: Option<String>) -> NewTask {
            let draft = Draft { description: Some("x".into()), batch_id, ..Draft::default() };
            draft.check(&self.dir.path().join("project")).unwrap()
        }

        /// Adds a task to the batch that this call begins.
        fn begin(&mut self, batch: &mut NewBatch) -> Result<String, QueueError> {
            let mut given = Some(NEW_BATCH.to_owned());
            batch.name(&mut self.store, &mut given)?;
            self.store.add(NOON_UNIX_MS, vec![self.task(given.clone())])?;
            Ok(given.unwrap())
        }
    }

    #[test]
    fn a_call_has_one_new_batch_and_another_call_another() {
        let mut lab = Lab::new();
        let mut call = NewBatch::new(NOON_UNIX_MS, TimeZone::UTC);
        for _ in 0..2 {
            assert_eq!(lab.begin(&mut call).unwrap(), "batch_20251107_120000");
        }
        let mut next = NewBatch::new(NOON_UNIX_MS + 999, TimeZone::UTC);
        assert_eq!(lab.begin(&mut next).unwrap(), "batch_20251107_120001");
        for mut other in [None, Some("newer".to_owned())] {
            let before = other.clone();
            next.name(&mut lab.store, &mut other).unwrap();
            assert_eq!(other, before);
        }
    }

    #[test]
    fn a_batch_that_all_have_left_is_not_there_anew() {
        let mut lab = Lab::new();
        let mut call = NewBatch::new(NOON_UNIX_MS, TimeZone::UTC);
        let first = lab.begin(&mut call).unwrap();
        let left = lab.store.list(&Filter { limit: 1, ..Filter::default() }).unwrap();
        let alone = Change { batch_id: Some(None), ..Change::default() };
        lab.store.edit(NOON_UNIX_MS, &left[0].id, &alone).unwrap();
        assert!(lab.store.has_batch(&BatchId::parse(&first).unwrap()).unwrap());
        let mut next = NewBatch::new(NOON_UNIX_MS, TimeZone::UTC);
        assert_ne!(lab.begin(&mut next).unwrap(), first);
    }

    #[test]
    fn no_batch_is_named_for_a_time_far_ahead() {
        let mut lab = Lab::new();
        let tasks = (0..i64::from(MAX_AHEAD)).map(|n| {
            let id = BatchId::generate(NOON_UNIX_MS + 1_000 * n, &TimeZone::UTC);
            lab.task(Some(id.to_string()))
        });
        let tasks = tasks.collect();
        lab.store.add(NOON_UNIX_MS, tasks).unwrap();
        let begun = lab.begin(&mut NewBatch::new(NOON_UNIX_MS, TimeZone::UTC));
        let Err(QueueError::Refused(refusal)) = begun else { panic!("{begun:?}") };
        assert_eq!(refusal.code, Code::InvalidParameter);
    }

    #[test]
    fn what_was_called_new_before_that_was_a_word_is_still_had() {
        let mut lab = Lab::new();
        let mut task = lab.task(None);
        task.batch_id = Some(BatchId::stored(NEW_BATCH).unwrap());
        let id = lab.store.add(NOON_UNIX_MS, vec![task]).unwrap()[0].id.clone();
        lab.store.cancel(NOON_UNIX_MS, &id).unwrap();
        for batch_id in [
            lab.store.task(&id).unwrap().unwrap().batch_id,
            lab.store.result(&id).unwrap().unwrap().batch_id,
        ] {
            assert_eq!(batch_id.unwrap().as_str(), NEW_BATCH);
        }
    }
}
