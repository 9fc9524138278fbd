//! What lies beside the queue file under a temporary name of ours: what a crash left
//! there, and old versions that somebody has open and may still write to. Whoever opens
//! the file, reads it, and writes to it in the same place a moment later, has the old
//! one in hand if the file was replaced meanwhile: his edit is looked for there.

use super::memory::Kept;
use super::place::{ARCHIVE, Folder, QUEUE, RESULTS};
use super::take::AT_REST_MS;
use super::writer::Writer;
use super::{Sync, shape};
use crate::clock::Timestamp;
use crate::queue::store::Result;

/// Old versions that are kept for those who have them open.
const MAX_KEPT: usize = 16;

impl Sync<'_> {
    /// An old version stays beside the file for the time being.
    pub(super) fn keep(&mut self, name: String, digest: String, revision: Option<u64>) {
        let since_unix_ms = Timestamp::now().unix_ms;
        self.memory.last.kept.push(Kept { name, digest, revision, since_unix_ms });
    }

    /// Takes over what lies beside the files, and removes what nobody needs any more.
    /// False if something could not be put aside.
    pub(super) fn leftovers(&mut self, folder: &Folder) -> Result<bool> {
        let names = match folder.leftovers(QUEUE) {
            Ok(names) => names,
            Err(err) => {
                self.cannot("look through the folder", err);
                return Ok(false);
            }
        };
        self.memory.last.kept.retain(|kept| names.contains(&kept.name));
        let excess = names.len().saturating_sub(MAX_KEPT);
        for (nth, name) in names.iter().enumerate() {
            if !self.leftover(folder, name, nth < excess)? {
                return Ok(false);
            }
        }
        for name in [RESULTS, ARCHIVE] {
            // Ours alone.
            for name in folder.leftovers(name).unwrap_or_default() {
                self.remove(folder, &name);
            }
        }
        Ok(true)
    }

    fn leftover(&mut self, folder: &Folder, name: &str, is_excess: bool) -> Result<bool> {
        let at = self.memory.last.kept.iter().position(|kept| kept.name == name);
        let kept = at.map(|at| self.memory.last.kept.swap_remove(at));
        // Asked before it is read: what nobody can write to any more was read to its end.
        let writer = folder.writer(name);
        let file = match folder.read(name) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(true),
            Err(problem) => {
                self.cannot_read(Some(name), &problem);
                self.memory.last.kept.extend(kept);
                return Ok(true);
            }
        };
        let since_unix_ms = kept.as_ref().map_or(0, |kept| kept.since_unix_ms);
        let is_held = !is_excess
            && match writer {
                Writer::None => false,
                Writer::Some => true,
                Writer::Unknown => {
                    Timestamp::now().unix_ms.saturating_sub(since_unix_ms) < AT_REST_MS
                }
            };
        let digest = shape::digest(&file.bytes);
        let is_taken = kept.as_ref().is_some_and(|kept| kept.digest == digest);
        let is_half = is_held && shape::Theirs::parse(&file.bytes).is_err();
        if !is_taken && !is_half && !self.take_leftover(folder, &file, kept.as_ref())? {
            self.memory.last.kept.extend(kept);
            return Ok(false);
        }
        if is_held {
            let revision = kept.as_ref().and_then(|kept| kept.revision);
            let digest = kept.filter(|_| is_half).map_or(digest, |kept| kept.digest);
            let name = name.to_owned();
            self.memory.last.kept.push(Kept { name, digest, revision, since_unix_ms });
        } else {
            self.remove(folder, name);
        }
        Ok(true)
    }

    fn remove(&mut self, folder: &Folder, name: &str) {
        if let Err(err) = folder.remove(name) {
            self.cannot("remove a temporary file", err);
        }
    }
}
