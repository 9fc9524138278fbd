//! The paths that change the state, one by one, as a process of its own that can
//! be killed; and what must be true of what it leaves.

mod queue;
mod queue_files;
mod track;

use std::fs;
use std::path::{Path, PathBuf};

use longhaul::clock::Timestamp;
use longhaul::config::Config;
use longhaul::cycle::{Event, Params};
use longhaul::devdocs::handoff::{self, HANDOFF_FILE, WriteProblem};
use longhaul::devdocs::keep::{self, Kept};
use longhaul::journal::{self, Header, Journal};
use longhaul::lock::{self, ProjectLock};
use longhaul::runs::RunFolder;
use longhaul::state_dir::ProjectState;
use longhaul::{Error, ErrorKind};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// One path.
#[derive(Clone, Copy)]
pub struct Step {
    pub name: &'static str,
    /// Calls that change something, at the least.
    pub at_least: usize,
    /// Does each call that fails make it fail? (Otherwise it may do without.)
    pub is_reported: bool,
    prepare: fn(&Path),
    perform: fn(&Path) -> Result<(), Error>,
    /// Told the folder, how much was acknowledged, and the story for a failure.
    pub check: fn(&Path, usize, &str),
}

pub const PATHS: &[Step] = &[
    Step {
        name: "journal_new",
        at_least: 12,
        is_reported: true,
        prepare: |_| {},
        perform: journal_new,
        check: |dir, acknowledged, told| check_journal(dir, acknowledged, 0, told),
    },
    Step {
        name: "journal_resumed",
        at_least: 9,
        is_reported: true,
        prepare: journal_torn,
        perform: journal_resumed,
        check: |dir, acknowledged, told| check_journal(dir, acknowledged, 2, told),
    },
    Step {
        name: "run_folder",
        at_least: 2,
        is_reported: true,
        prepare: |_| {},
        perform: |dir| RunFolder::create(dir, RUN, NOW).map(|_| ()),
        check: |dir, _, told| {
            RunFolder::create(dir, RUN, NOW).expect(told);
            assert_eq!(RunFolder::newest(dir).expect(told), None, "{told}");
        },
    },
    Step {
        name: "project",
        at_least: 8,
        is_reported: true,
        prepare: |_| {},
        perform: |dir| ProjectState::open(&dir.join("state"), &dir.join("project")).map(|_| ()),
        check: |dir, _, told| {
            let (root, project) = (dir.join("state"), dir.join("project"));
            ProjectState::open_existing(&root, &project).expect(told);
            ProjectState::open(&root, &project).expect(told);
            assert!(ProjectState::open_existing(&root, &project).expect(told).is_some(), "{told}");
        },
    },
    Step {
        name: "lock",
        at_least: 4,
        is_reported: true,
        prepare: |dir| fs::write(dir.join("lock"), OLD_HOLDER).unwrap(),
        perform: |dir| {
            let lock = ProjectLock::take(&dir.join("lock")).map_err(|d| d.into_error(dir))?;
            drop(lock);
            Ok(())
        },
        check: |dir, _, told| {
            let path = dir.join("lock");
            let text = fs::read_to_string(&path).unwrap();
            let is_whole = serde_json::from_str::<lock::Holder>(&text).is_ok();
            assert!(text.is_empty() || is_whole, "{text:?}: {told}");
            assert_eq!(lock::is_held(&path).expect(told), None, "{told}");
            ProjectLock::take(&path).unwrap_or_else(|denied| panic!("{denied:?}: {told}"));
        },
    },
    Step {
        name: "checkpoint_copy",
        at_least: 25,
        is_reported: true,
        prepare: project,
        perform: |dir| copy(dir).map(|()| acknowledge()),
        check: |dir, acknowledged, told| check_copies(dir, acknowledged, 0, told),
    },
    Step {
        name: "checkpoint_copy_after_a_crash",
        at_least: 25,
        is_reported: true,
        prepare: |dir| {
            project(dir);
            copy(dir).unwrap();
            let left = dir.join("checkpoints/.unfinished/dev-docs");
            fs::create_dir_all(&left).unwrap();
            fs::write(left.join("plan.md"), "half a pl").unwrap();
        },
        perform: |dir| copy(dir).map(|()| acknowledge()),
        check: |dir, acknowledged, told| check_copies(dir, acknowledged, 1, told),
    },
    Step {
        name: "handoff_over_an_earlier_one",
        at_least: 6,
        is_reported: true,
        prepare: |dir| write(dir, HANDOFF_FILE, EARLIER_BRIEF),
        perform: brief,
        check: |dir, acknowledged, told| {
            check_brief(dir, acknowledged, EARLIER_BRIEF, told);
        },
    },
    Step {
        name: "handoff_over_somebody_elses",
        at_least: 7,
        is_reported: true,
        prepare: |dir| write(dir, HANDOFF_FILE, SOMEBODYS),
        perform: brief,
        check: |dir, acknowledged, told| {
            let aside = fs::read_to_string(dir.join(HANDOFF_FILE).with_extension("md.1"));
            if let Ok(aside) = aside {
                assert_eq!(aside, SOMEBODYS, "{told}");
                check_brief(dir, acknowledged, "", told);
            } else {
                check_brief(dir, acknowledged, SOMEBODYS, told);
            }
        },
    },
    Step {
        name: "handoff_in_a_new_folder",
        at_least: 7,
        is_reported: true,
        prepare: |_| {},
        perform: brief,
        check: |dir, acknowledged, told| check_brief(dir, acknowledged, "", told),
    },
    Step {
        name: "handoff_retired",
        at_least: 2,
        is_reported: true,
        prepare: |dir| write(dir, HANDOFF_FILE, EARLIER_BRIEF),
        perform: |dir| handoff::retire(dir).map(|_| ()).map_err(problem),
        check: |dir, _, told| {
            let left = fs::read_to_string(dir.join(HANDOFF_FILE)).unwrap_or_default();
            assert!(left.is_empty() || left == EARLIER_BRIEF, "{left}: {told}");
            handoff::retire(dir).expect(told);
            assert!(!dir.join(HANDOFF_FILE).exists(), "{told}");
        },
    },
    Step {
        name: "queue_new",
        at_least: 12,
        is_reported: false,
        prepare: |_| {},
        perform: queue::create,
        check: queue::check_created,
    },
    Step {
        name: "queue_calls",
        at_least: 40,
        is_reported: false,
        prepare: |dir| queue::create(dir).unwrap(),
        perform: queue::perform,
        check: queue::check,
    },
    Step {
        name: "queue_files",
        at_least: 60,
        is_reported: false,
        prepare: queue_files::prepare,
        perform: queue_files::perform,
        check: queue_files::check,
    },
    Step {
        name: "track",
        at_least: 60,
        is_reported: false,
        prepare: track::prepare,
        perform: track::perform,
        check: track::check,
    },
];

const RUN: Uuid = Uuid::from_u128(7);
const NOW: Timestamp = Timestamp { unix_ms: 1_795_000_000_000, boot_ms: 5_000 };
const OLD_HOLDER: &str = r#"{"pid":4194999,"since":{"unix_ms":1,"boot_ms":1}}"#;
const EARLIER_BRIEF: &str = "<!-- longhaul handoff: run r, cycle 1 -->\nearlier\n";
const NEW_BRIEF: &str = "<!-- longhaul handoff: run r, cycle 2 -->\nnew\n";
const SOMEBODYS: &str = "# My own notes\n";
const FILES: [&str; 3] = ["dev-docs/plan.md", "dev-docs/tasks.md", "dev-docs/more/notes.md"];

/// A folder prepared for the step.
pub fn folder(step: Step) -> tempfile::TempDir {
    // No dash: nothing here is named after a run.
    let dir = tempfile::Builder::new().prefix("step").tempdir().unwrap();
    (step.prepare)(dir.path());
    dir
}

/// Performs the step `name` in `dir`; gives the exit code, as longhaul does.
pub fn perform(name: &str, dir: &Path) -> u8 {
    let step = PATHS.iter().find(|step| step.name == name).unwrap();
    match (step.perform)(dir) {
        Ok(()) => 0,
        Err(err) => {
            eprintln!("{}", err.render());
            err.kind().exit_code()
        }
    }
}

fn acknowledge() {
    println!("ack ");
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn header() -> Header {
    Header {
        format: journal::FORMAT,
        run_id: RUN,
        project: "/home/user/project".into(),
        started_at: NOW,
        params: Params::from(&Config::defaults()),
        version: "0".into(),
    }
}

fn journal_new(dir: &Path) -> Result<(), Error> {
    let mut journal = Journal::create(&dir.join("journal"), &header())?;
    acknowledge();
    journal.append(NOW, &Event::Started, true)?;
    acknowledge();
    journal.append(NOW, &Event::ProgressWeighed { changed: false }, false)?;
    journal.append(NOW, &Event::Signal { number: 15 }, true)?;
    acknowledge();
    acknowledge();
    Ok(())
}

const TORN: &str = "0123456789abcdef {\"at\":{\"unix";

fn journal_torn(dir: &Path) {
    let path = dir.join("journal");
    let mut journal = Journal::create(&path, &header()).unwrap();
    journal.append(NOW, &Event::Started, true).unwrap();
    journal.append(NOW, &Event::ProgressWeighed { changed: false }, true).unwrap();
    drop(journal);
    fs::write(&path, fs::read_to_string(&path).unwrap() + TORN).unwrap();
}

fn journal_resumed(dir: &Path) -> Result<(), Error> {
    let path = dir.join("journal");
    let told = journal::read(&path)?;
    let mut journal = Journal::resume(&path, &told)?;
    acknowledge();
    journal.append(NOW, &Event::Signal { number: 15 }, true)?;
    acknowledge();
    Ok(())
}

/// The acknowledged entries are there; `before` were there to begin with.
fn check_journal(dir: &Path, acknowledged: usize, before: u64, told: &str) {
    let path = dir.join("journal");
    if !path.exists() {
        assert_eq!((acknowledged, before), (0, 0), "{told}");
        return;
    }
    let read = journal::read(&path).expect(told);
    assert_eq!(read.header, header(), "{told}");
    let durable = (acknowledged as u64).saturating_sub(1) + before;
    assert!((durable..=before + 3).contains(&read.entries), "{}: {told}", read.entries);
    let mut journal = Journal::resume(&path, &read).expect(told);
    journal.append(NOW, &Event::Signal { number: 2 }, true).expect(told);
    assert_eq!(journal::read(&path).expect(told).entries, read.entries + 1, "{told}");
    if before > 0 {
        // Kept aside, maybe twice: once before the crash and once behind it.
        let aside = fs::read_to_string(path.with_extension("torn")).expect(told);
        assert!(aside == TORN || aside == TORN.repeat(2), "{aside}: {told}");
    }
}

fn project(dir: &Path) {
    for (name, text) in FILES.iter().zip(["# Plan\n", "- [ ] one\n", "notes\n"]) {
        write(dir, name, text);
    }
}

fn copy(dir: &Path) -> Result<(), Error> {
    keep::keep(dir, &FILES.map(PathBuf::from), &dir.join("checkpoints"), 1).map(|_| ())
}

/// Every copy that can be seen is whole, and the acknowledged one is there.
fn check_copies(dir: &Path, acknowledged: usize, before: usize, told: &str) {
    let copies = || {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir.join("checkpoints")).into_iter().flatten().flatten() {
            if entry.file_name() != ".unfinished" {
                found.push(entry.path());
            }
        }
        found
    };
    let check_each = |least: usize| {
        let found = copies();
        assert!(found.len() >= least, "{found:?}: {told}");
        for copy in found {
            let kept = Kept::load(&copy).expect(told);
            assert_eq!(kept.files.len(), FILES.len(), "{told}");
            for file in &kept.files {
                let bytes = fs::read(copy.join(&file.path)).expect(told);
                assert_eq!(bytes, fs::read(dir.join(&file.path)).unwrap(), "{told}");
                let sum: String =
                    Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
                assert_eq!(sum, file.sha256, "{told}");
            }
        }
    };
    check_each(before + acknowledged);
    let found = copies().len();
    copy(dir).expect(told);
    check_each(found + 1);
    assert!(!dir.join("checkpoints/.unfinished").exists(), "{told}");
}

fn brief(dir: &Path) -> Result<(), Error> {
    handoff::write(dir, NEW_BRIEF).map_err(problem)?;
    acknowledge();
    Ok(())
}

fn problem(problem: WriteProblem) -> Error {
    let kind = match problem {
        WriteProblem::Disk { .. } => ErrorKind::Disk,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, problem.to_string())
}

/// The old text (empty: none) or the new one; then it is written again.
fn check_brief(dir: &Path, acknowledged: usize, old: &str, told: &str) {
    let found = fs::read_to_string(dir.join(HANDOFF_FILE)).unwrap_or_default();
    assert!(found == NEW_BRIEF || (acknowledged == 0 && found == old), "{found:?}: {told}");
    let written = handoff::write(dir, NEW_BRIEF).expect(told);
    assert_eq!(written.moved_aside.is_some(), found == SOMEBODYS, "{told}");
    assert_eq!(fs::read_to_string(dir.join(HANDOFF_FILE)).unwrap(), NEW_BRIEF, "{told}");
}
