//! inotify as a hint: something changed, look now. Never the truth: events can
//! be lost and watches can fail, so the loop looks by itself every so often.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::config::Config;

/// Watched folders and the one bell they ring.
pub struct Hints {
    watcher: Option<notify::RecommendedWatcher>,
    bell: Arc<Notify>,
    watched: BTreeSet<PathBuf>,
    of_session: BTreeSet<PathBuf>,
}

impl Hints {
    /// Watches the folders of the task file and the checkpoint files.
    pub fn new(project: &Path, config: &Config) -> Self {
        let bell = Arc::new(Notify::new());
        let ring = bell.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // A read of ours is no news; an error may hide news.
            let is_read = matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. }));
            if !is_read {
                ring.notify_one();
            }
        });
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(err) => {
                tracing::warn!(%err, "no file watcher; the files are looked at every {} ms", super::POLL_MS);
                None
            }
        };
        let mut hints =
            Self { watcher, bell, watched: BTreeSet::new(), of_session: BTreeSet::new() };
        let files = config.checkpoint.files.iter().chain([&config.task.file]);
        let folders: BTreeSet<PathBuf> =
            files.filter_map(|f| project.join(f).parent().map(Path::to_path_buf)).collect();
        for folder in folders {
            hints.watch(&folder);
        }
        hints
    }

    /// Watches the session's folders as well, and no longer those of an earlier one.
    pub fn watch_session(&mut self, folders: Vec<PathBuf>) {
        let wanted: BTreeSet<PathBuf> = folders.into_iter().collect();
        if wanted == self.of_session {
            return;
        }
        let gone: Vec<PathBuf> = self.of_session.difference(&wanted).cloned().collect();
        for folder in gone {
            self.watched.remove(&folder);
            if let Some(watcher) = &mut self.watcher {
                let _ = watcher.unwatch(&folder);
            }
        }
        for folder in &wanted {
            self.watch(folder);
        }
        self.of_session = wanted;
    }

    fn watch(&mut self, folder: &Path) {
        if self.watched.contains(folder) {
            return;
        }
        let Some(watcher) = &mut self.watcher else { return };
        match watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(folder.to_owned());
            }
            Err(err) => tracing::debug!(%err, folder = %folder.display(), "cannot watch"),
        }
    }

    /// Something changed since the last call.
    pub async fn changed(&self) {
        self.bell.notified().await;
    }
}
