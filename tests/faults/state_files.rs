//! Damaged state: bits flipped, files cut, swapped, gone, or something else in
//! their place.
//!
//! What is promised:
//!
//! - Never a panic, and never exit 70.
//! - What cannot be read is refused with exit 50 and named, by `run`, `report`,
//!   `status` and `doctor`; nothing is started and not a byte of it is changed.
//! - Of a damaged file a copy lies beside it, of these very bytes, for the owner
//!   alone, and the refusal names it and the command that starts afresh.
//! - What is read is exactly what was written, up to the end or up to a last
//!   line that is torn, which has no newline. When the run goes on, it is kept
//!   aside. A journal in the folder of another run is refused.
//! - A link in the place of a file is refused, and what it points at left alone.
//! - What says nothing about the work stops nobody: the text in the lock, the
//!   log, the copies of checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use longhaul::ErrorKind;
use longhaul::clock::Timestamp;
use longhaul::cycle::Event;
use longhaul::devdocs::keep::{self, Kept};
use longhaul::journal::{self, Journal};
use longhaul::lock::ProjectLock;
use longhaul::runs::RunFolder;
use longhaul::state_dir::ProjectState;
use sha2::{Digest, Sha256};

use super::place::{Place, files_below};
use super::rounds::{Rng, rounds};

/// The state of a project with a finished run and one that was killed.
struct Original {
    place: Place,
    /// By their path below the state directory.
    files: BTreeMap<PathBuf, Vec<u8>>,
    journals: Vec<Truth>,
}

/// A journal and the machine after each of its entries.
struct Truth {
    folder: PathBuf,
    bytes: Vec<u8>,
    machines: Vec<String>,
}

fn original() -> &'static Original {
    static ORIGINAL: OnceLock<Original> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let place = Place::new();
        let finished = place.finished_run();
        let interrupted = place.interrupted_run();
        for journal in [&finished, &interrupted] {
            let files = ["plan.md", "tasks.md"].map(|name| Path::new("dev-docs").join(name));
            let copies = journal.with_file_name("checkpoints");
            keep::keep(&place.project(), &files, &copies, 1).unwrap();
        }
        let mut files = BTreeMap::new();
        for file in files_below(&place.state()) {
            if !file.ends_with("control.sock") {
                let name = file.strip_prefix(place.state()).unwrap().to_owned();
                files.insert(name, fs::read(&file).unwrap());
            }
        }
        assert!(files.len() >= 12, "{:?}", files.keys());
        let truth = |journal: &PathBuf| {
            let mut machines = Vec::new();
            journal::read_with(journal, |_, _, machine| machines.push(format!("{machine:?}")))
                .unwrap();
            assert!(machines.len() >= 8, "{machines:?}");
            let folder = journal.parent().unwrap().file_name().unwrap().into();
            Truth { folder, bytes: fs::read(journal).unwrap(), machines }
        };
        let journals = [&finished, &interrupted].map(truth).into();
        Original { place, files, journals }
    })
}

/// In memory, if there is such a place: much is synced here.
fn fast_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// A copy of the original below `root`.
fn copy_to(root: &Path) {
    for (name, bytes) in &original().files {
        let file = root.join(name);
        let folder = file.parent().unwrap();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).unwrap();
        fs::write(&file, bytes).unwrap();
    }
}

/// Damages the state below `root` in one way. The files that matter are hit
/// more often than the others.
fn damage(root: &Path, rng: &mut Rng) {
    let names: Vec<&PathBuf> = original().files.keys().collect();
    let journals: Vec<&PathBuf> =
        names.iter().copied().filter(|n| n.ends_with("journal")).collect();
    let name = if rng.one_in(2) { rng.pick(&journals) } else { rng.pick(&names) };
    let path = root.join(name);
    let other = root.join(rng.pick(&names));
    // An earlier damage may have taken it away.
    if !path.is_file() {
        return;
    }
    let mut bytes = fs::read(&path).unwrap();
    match rng.below(15) {
        0..4 if !bytes.is_empty() => {
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(bytes.len());
                bytes[at] ^= 1 << rng.below(8);
            }
            fs::write(&path, bytes).unwrap();
        }
        4..6 => fs::write(&path, &bytes[..rng.below(bytes.len() + 1)]).unwrap(),
        6 => {
            let more = match rng.below(3) {
                0 => vec![0; 1 + rng.below(5000)],
                1 => (0..1 + rng.below(300)).map(|_| rng.next() as u8).collect(),
                _ => bytes.clone(),
            };
            fs::write(&path, [bytes, more].concat()).unwrap();
        }
        7 => {
            let from = rng.below(bytes.len() + 1);
            let to = (from + rng.below(4096)).min(bytes.len());
            bytes[from..to].fill(0);
            fs::write(&path, bytes).unwrap();
        }
        8 if other.is_file() => {
            // Two files change places.
            let theirs = fs::read(&other).unwrap();
            fs::write(&other, bytes).unwrap();
            fs::write(&path, theirs).unwrap();
        }
        9 => {
            let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
            if lines.is_empty() {
                return;
            }
            let (one, two) = (rng.below(lines.len()), rng.below(lines.len()));
            match rng.below(3) {
                0 => lines.swap(one, two),
                1 => drop(lines.remove(one)),
                _ => lines.insert(one, lines[two]),
            }
            fs::write(&path, lines.concat()).unwrap();
        }
        10 => fs::remove_file(&path).unwrap(),
        11 => {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }
        12 => {
            fs::remove_file(&path).unwrap();
            let to = if rng.one_in(2) { Path::new("nowhere") } else { &other };
            symlink(to, &path).unwrap();
        }
        13 => {
            fs::remove_file(&path).unwrap();
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
        }
        _ => {
            const NONSENSE: &[&[u8]] = &[b"", b"\n", b"{}", b"null", b"\0", b"\xff\xfe", b"[]\n"];
            fs::write(&path, rng.pick(NONSENSE)).unwrap();
        }
    }
}

/// Everything below `root`, as far as it must not change: what files hold, where
/// links point.
fn snapshot(root: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let content = |file: &Path| match fs::read_link(file) {
        Ok(target) => Some(target.into_os_string().into_encoded_bytes()),
        Err(_) => file.is_file().then(|| fs::read(file).unwrap()),
    };
    let files = files_below(root).into_iter().filter(|f| !f.ends_with("lock") && !is_copy(f));
    files.map(|file| (file.clone(), content(&file))).collect()
}

/// Was it put aside because it is damaged?
fn is_copy(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().contains(".damaged-"))
}

/// Every copy that was put aside holds what the file beside it holds, and is named
/// after it. Gives the files there is a copy of.
fn copies_below(root: &Path) -> Vec<PathBuf> {
    let copies = files_below(root).into_iter().filter(|file| is_copy(file));
    let file_of = |copy: PathBuf| {
        let name = copy.file_name().unwrap().to_str().unwrap();
        let (name, digest) = name.rsplit_once(".damaged-").unwrap();
        let file = copy.with_file_name(name);
        let bytes = fs::read(&copy).unwrap();
        let wanted: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(digest, &wanted[..12]);
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(bytes == fs::read(&file).unwrap(), "{} is another", copy.display());
        file
    };
    copies.map(file_of).collect()
}

/// What the commands have to do.
#[derive(Debug, PartialEq)]
struct Verdict {
    run_refuses: bool,
    report_refuses: bool,
}

/// Reads the state as the commands do, and checks every promise.
fn judge(root: &Path) -> Verdict {
    let before = snapshot(root);
    let refuse = Verdict { run_refuses: true, report_refuses: true };
    let project = original().place.project();
    let state = match ProjectState::open_existing(root, &project) {
        Ok(Some(state)) => state,
        // No project.json: never used, as far as anybody can tell.
        Ok(None) => {
            assert_eq!(snapshot(root), before);
            return Verdict { run_refuses: false, report_refuses: false };
        }
        Err(err) => {
            let dir = ProjectState::dir_of(root, &project);
            is_state(&err, &dir);
            is_kept_aside(&err, &dir.join("project.json"));
            assert_eq!(ProjectState::open(root, &project).unwrap_err().kind(), ErrorKind::State);
            assert_eq!(snapshot(root), before);
            return refuse;
        }
    };
    let run = RunFolder::newest(state.dir()).unwrap();
    let told = run.as_ref().map(|run| (run, journal::read(&run.journal())));
    for file in files_below(state.dir()).iter().filter(|file| file.ends_with("manifest.json")) {
        if let Err(err) = Kept::load(file.parent().unwrap()) {
            is_state(&err, file);
        }
    }
    assert_eq!(snapshot(root), before);
    match told {
        Some((run, Err(err))) => {
            is_state(&err, &run.journal());
            is_kept_aside(&err, &run.journal());
            return refuse;
        }
        Some((run, Ok(told))) => is_the_truth(&run.journal(), &told),
        None => {}
    }
    let lock = ProjectLock::take(&state.dir().join("lock")).map_err(|d| d.into_error(&project));
    if let Err(err) = &lock {
        is_state(err, &project);
    }
    Verdict { run_refuses: lock.is_err(), report_refuses: false }
}

#[track_caller]
fn is_state(err: &longhaul::Error, names: &Path) {
    assert_eq!(err.kind(), ErrorKind::State, "{err}");
    assert!(err.render().contains(names.to_str().unwrap()), "{} names no {names:?}", err.render());
}

/// The refusal names the copy, if there can be one, and what to type.
#[track_caller]
fn is_kept_aside(err: &longhaul::Error, file: &Path) {
    let said = err.render();
    let is_file = fs::symlink_metadata(file).is_ok_and(|meta| meta.is_file());
    if !is_file || said.contains("newer longhaul") {
        return;
    }
    assert!(said.contains(&format!("{}.damaged-", file.display())), "{said}");
    assert!(said.contains("start afresh: `mv "), "{said}");
    let root = file.parent().unwrap();
    assert_eq!(copies_below(root), [file], "{said}");
}

/// What was read is what was written, as far as it goes; and it goes on from there.
fn is_the_truth(path: &Path, told: &journal::Told) {
    let entries = told.entries as usize;
    let truth = original()
        .journals
        .iter()
        .find(|truth| path.parent().unwrap().ends_with(&truth.folder))
        .unwrap();
    let lines: Vec<&[u8]> = truth.bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let good = lines[..=entries].concat();
    let found = fs::read(path).unwrap();
    let torn = found.strip_prefix(&good[..]).expect("the entries that were read are those written");
    let newlines = torn.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(newlines, 0, "a whole line was dropped");
    if let Some(machine) = entries.checked_sub(1).map(|last| &truth.machines[last]) {
        assert_eq!(&format!("{:?}", told.machine), machine);
    }
    let now = Timestamp { unix_ms: 1_900_000_000_000, boot_ms: 1 << 40 };
    let mut resumed = Journal::resume(path, told).unwrap();
    resumed.append(now, &Event::Signal { number: 15 }, true).unwrap();
    assert_eq!(journal::read(path).unwrap().entries, told.entries + 1);
    let aside = path.with_extension("torn");
    assert_eq!(fs::read(&aside).unwrap_or_default(), torn, "the torn line is kept aside");
}

#[test]
fn damaged_state_is_refused_or_read_as_it_was_written() {
    let refused = std::sync::atomic::AtomicU64::new(0);
    rounds(
        "state_files::damaged_state_is_refused_or_read_as_it_was_written",
        2_000,
        100_000,
        |rng| {
            let root = fast_folder();
            copy_to(root.path());
            for _ in 0..1 + rng.below(3) {
                damage(root.path(), rng);
            }
            if judge(root.path()).run_refuses {
                refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        },
    );
    println!("refused: {refused:?}");
}

#[test]
fn damaged_state_starts_nothing() {
    rounds("state_files::damaged_state_starts_nothing", 40, 1_000, |rng| {
        let place = &original().place;
        let (root, judged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut same = Rng::new(rng.next());
        let mut again = same.clone();
        for (root, rng) in [(&root, &mut same), (&judged, &mut again)] {
            copy_to(root.path());
            (0..1 + rng.below(2)).for_each(|_| damage(root.path(), rng));
        }
        let verdict = judge(judged.path());
        let before = snapshot(root.path());
        let launches = place.launches();
        let ask = |args: &[&str]| {
            let said = place.longhaul(root.path(), args);
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            let why = String::from_utf8_lossy(&said.stderr).into_owned();
            (said.status.code(), text, why)
        };
        for command in ["report", "status"] {
            let (code, text, why) = ask(&[command, "--json"]);
            let expected: &[i32] = match (verdict.report_refuses, verdict.run_refuses) {
                (true, _) => &[50],
                // Who wants to know whether a run is alive asks the lock.
                (false, true) => &[0, 50, 64],
                (false, false) => &[0, 64],
            };
            assert!(
                code.is_some_and(|code| expected.contains(&code)),
                "{command}: {code:?} {text}{why}"
            );
            assert!(code == Some(0) || why.starts_with("error: "), "{why}");
        }
        if verdict.run_refuses {
            let (code, text, why) = ask(&["run", "--json"]);
            assert_eq!((code, text.as_str()), (Some(50), ""), "{why}");
            assert!(why.contains(root.path().to_str().unwrap()) || why.contains("lock"), "{why}");
            let (code, text, _) = ask(&["doctor"]);
            assert!(code == Some(50) || !verdict.report_refuses, "{text}");
            assert_eq!(place.launches(), launches, "a session was started");
        }
        copies_below(root.path());
        assert_eq!(snapshot(root.path()), before, "something was changed");
    });
}
