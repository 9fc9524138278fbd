//! What the journals of runs tell: every run of every project that was heard of since a
//! time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use uuid::Uuid;

use crate::clock;
use crate::cycle::assignment::Assignment;
use crate::cycle::record::CycleRecord;
use crate::cycle::{Action, Notice, Outcome, Snapshot};
use crate::error::Result;
use crate::journal;
use crate::runs::RunFolder;

/// The first reading of the task file stands among so many lines.
const HEAD_LINES: usize = 200;

/// A run.
#[derive(Debug, Clone)]
pub(crate) struct RunTold {
    pub run_id: Uuid,
    pub project: PathBuf,
    pub journal: PathBuf,
    /// It works off tasks of the queue.
    pub is_for_queue: bool,
    pub cycles: Vec<CycleRecord>,
    pub tasks: Vec<Assignment>,
    /// What the verify command said: when, in which cycle, and whether it passed.
    pub verified: Vec<(i64, u32, bool)>,
    pub outcome: Option<Outcome>,
    /// The newest event, Unix milliseconds.
    pub heard_unix_ms: i64,
    /// The task file as the run found it.
    pub task_file_digest: Option<String>,
}

/// The runs below a state directory whose journals were written to since then, by start;
/// and what could not be read.
pub(crate) fn runs(state_root: &Path, since_unix_ms: i64) -> (Vec<RunTold>, Vec<String>) {
    let (mut runs, mut warnings) = (Vec::new(), Vec::new());
    for path in RunFolder::all(state_root).iter().map(RunFolder::journal) {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if clock::file_unix_ms(meta.mtime(), meta.mtime_nsec()) < since_unix_ms {
            continue;
        }
        match run_told(path) {
            Ok(told) => runs.push(told),
            Err(err) => warnings
                .push(format!("a run is told without its journal, as far as it is known: {err}")),
        }
    }
    (each_once(runs), warnings)
}

/// A run may be there twice, by a link or as a copy that somebody put aside: the one that
/// tells more is it.
pub(super) fn each_once(mut runs: Vec<RunTold>) -> Vec<RunTold> {
    let mut newest: HashMap<Uuid, (i64, usize)> = HashMap::new();
    for (run, at) in runs.iter().zip(0..) {
        let known = newest.entry(run.run_id).or_insert((run.heard_unix_ms, at));
        if known.0 < run.heard_unix_ms {
            *known = (run.heard_unix_ms, at);
        }
    }
    let mut at = 0..;
    runs.retain(|run| at.next() == newest.get(&run.run_id).map(|(_, at)| *at));
    runs
}

fn run_told(path: PathBuf) -> Result<RunTold> {
    let mut verified = Vec::new();
    let told = journal::read_with(&path, |at, actions, machine| {
        for action in actions {
            if let Action::Tell(Notice::Verified { passed }) = action {
                verified.push((at.unix_ms, Snapshot::of(machine).cycle(), *passed));
            }
        }
    })?;
    let view = Snapshot::of(&told.machine);
    Ok(RunTold {
        run_id: told.header.run_id,
        project: told.header.project.clone(),
        is_for_queue: view.params().queue,
        cycles: view.cycles().cloned().collect(),
        tasks: view.assignments().to_vec(),
        verified,
        outcome: view.outcome().cloned(),
        heard_unix_ms: view.last_event_at().unix_ms,
        task_file_digest: task_file_digest(&path),
        journal: path,
    })
}

/// Of the first reading that the journal holds.
fn task_file_digest(path: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Entry {
        event: String,
        reading: Option<Reading>,
    }
    #[derive(Deserialize)]
    struct Reading {
        digest: Option<String>,
    }
    let lines = BufReader::new(File::open(path).ok()?).lines();
    let entries = lines.map_while(std::result::Result::ok).take(HEAD_LINES);
    let read = entries.filter_map(|line| {
        let (_, json) = line.split_once(' ')?;
        serde_json::from_str::<Entry>(json).ok().filter(|entry| entry.event == "task_read")
    });
    read.filter_map(|entry| entry.reading?.digest).next()
}
