//! A second, independent watcher of the CLI's transcripts, which says when the
//! row that crosses the threshold was written.
//!
//! That moment is the file's modification time, which the kernel sets when the
//! write begins and rounds down to its tick (4 ms at most): the reaction
//! measured from it is never too short. It is read in the same wake-up that
//! finds the row, before a later row can move it on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use serde_json::Value;

use super::process::{boot_us, wall_to_boot_us};

/// What was seen of one session.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// The row across the threshold was written, boot clock.
    pub crossed_us: Option<u64>,
    /// The same row was found by the watcher.
    pub found_us: u64,
    /// The CLI noted that it took the text in.
    pub enqueued_us: Option<u64>,
}

#[derive(Default)]
struct Tail {
    file: Option<File>,
    rest: Vec<u8>,
    seen: Seen,
}

pub struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Seen>>,
}

impl Watcher {
    /// Watches `folder` for rows of at least `threshold_tokens`.
    pub fn start(folder: PathBuf, threshold_tokens: u64) -> Self {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&fd, &folder, WatchFlags::MODIFY).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || watch(&fd, &folder, threshold_tokens, &stopped));
        Self { stop, thread }
    }

    /// The sessions in the order of their first row.
    pub fn finish(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn watch(fd: &OwnedFd, folder: &std::path::Path, threshold: u64, stop: &AtomicBool) -> Vec<Seen> {
    let mut tails: BTreeMap<String, Tail> = BTreeMap::new();
    let mut order = Vec::new();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    while !stop.load(Ordering::Relaxed) {
        let timeout = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        let _ = poll(&mut [PollFd::new(&fd.as_fd(), PollFlags::IN)], Some(&timeout));
        let now_us = boot_us();
        let mut reader = Reader::new(fd, &mut buffer);
        while let Ok(event) = reader.next() {
            let Some(name) = event.file_name().and_then(|name| name.to_str().ok()) else {
                continue;
            };
            if !name.ends_with(".jsonl") {
                continue;
            }
            if !tails.contains_key(name) {
                order.push(name.to_owned());
            }
            let tail = tails.entry(name.to_owned()).or_default();
            if tail.file.is_none() {
                tail.file = File::open(folder.join(name)).ok();
            }
            tail.read(threshold, now_us);
        }
    }
    order.iter().map(|name| tails[name].seen).collect()
}

impl Tail {
    fn read(&mut self, threshold: u64, now_us: u64) {
        let Some(file) = &mut self.file else { return };
        // Before the read: a write in between would only make it later.
        let modified = file.metadata().unwrap();
        let modified_us = modified.mtime() * 1_000_000 + modified.mtime_nsec() / 1000;
        let modified_us = (modified_us + wall_to_boot_us()) as u64;
        file.read_to_end(&mut self.rest).unwrap();
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return };
        let rows: Vec<u8> = self.rest.drain(..=end).collect();
        for row in rows.split(|byte| *byte == b'\n') {
            let Ok(row) = serde_json::from_slice::<Value>(row) else { continue };
            if self.seen.crossed_us.is_none() && context_of(&row) >= threshold {
                self.seen.crossed_us = Some(modified_us.min(now_us));
                self.seen.found_us = now_us;
            }
            if row["type"] == "queue-operation" && row["operation"] == "enqueue" {
                self.seen.enqueued_us.get_or_insert(now_us);
            }
        }
    }
}

fn context_of(row: &Value) -> u64 {
    if row["type"] != "assistant" || row["isSidechain"] == true {
        return 0;
    }
    let usage = &row["message"]["usage"];
    ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]
        .iter()
        .filter_map(|key| usage[*key].as_u64())
        .sum()
}
