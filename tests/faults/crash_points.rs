//! Death and disk errors at every system call that changes the state.
//!
//! strace kills the process at the N-th such call, or makes the call fail. What
//! is promised for each path:
//!
//! - What is found afterwards is the old state or the new one, never something
//!   in between; what was acknowledged is there.
//! - Whatever is found, the same thing can be done again.
//! - A call that fails on a full or failing disk (`ENOSPC`, `EIO`) is reported
//!   as such (exit 51), and the state is the old one or the new one.
//!
//! A word behind `--` runs the paths that have it in their name. This program is
//! also the one that is killed: with a step in its environment it performs that.
//! With `LONGHAUL_TORTURE=long` the errors are also a full quota and a disk gone
//! read-only.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod steps;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use steps::{PATHS, Step};

/// The calls that change something, and `close`, which ends a change.
const CHANGES: &str = "openat,open,creat,write,writev,pwrite64,fsync,fdatasync,rename,renameat,renameat2,\
                       link,linkat,unlink,unlinkat,rmdir,ftruncate,mkdir,mkdirat,fchmod,flock,close";
/// Those that can fail for want of space or by a failing disk.
const FAILING: [&str; 15] = [
    "openat",
    "write",
    "writev",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "ftruncate",
    "mkdir",
    "mkdirat",
    "open",
];

/// So many points of one path, about, are made to fail.
const FAILURES_MAX: usize = 80;

/// One call: its name, and how many of that name came up to it.
type Point = (String, usize);

/// What is done to a call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Kill,
    Fail(&'static str),
}

/// Runs the driver with `step` in `dir` under strace.
fn strace(step: Step, dir: &Path, options: &[&str]) -> Output {
    Command::new("strace")
        .args(["-f", "-y", "-qq"])
        .args(options)
        .arg(std::env::current_exe().unwrap())
        .env("LONGHAUL_STEP", step.name)
        .env("LONGHAUL_STEP_DIR", dir)
        .output()
        .unwrap()
}

/// The calls of a step that change something below its folder, in order.
fn points(step: Step) -> Vec<Point> {
    let dir = steps::folder(step);
    let log = tempfile::NamedTempFile::new().unwrap();
    let trace = format!("trace={CHANGES}");
    let said = strace(step, dir.path(), &["-e", &trace, "-o", log.path().to_str().unwrap()]);
    assert!(said.status.success(), "{}: {said:?}", step.name);
    let log = fs::read_to_string(log.path()).unwrap();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut points = Vec::new();
    for line in log.lines() {
        let (pid, call) = line.split_once(' ').unwrap();
        let Some((name, arguments)) = call.trim_start().split_once('(') else { continue };
        // strace counts by thread and by call.
        let count = counts.entry((pid, name)).or_default();
        *count += 1;
        let changes = !name.starts_with("open") || arguments.contains("O_CREAT");
        if arguments.contains(dir.path().to_str().unwrap()) && changes {
            points.push((name.to_owned(), *count));
        }
    }
    points
}

/// One fault at one point; what is left must be as promised.
fn inflict(step: Step, (name, count): &Point, fault: Fault) {
    let dir = steps::folder(step);
    let what = match fault {
        Fault::Kill => format!("inject={name}:signal=KILL:when={count}"),
        Fault::Fail(error) => format!("inject={name}:error={error}:when={count}"),
    };
    let trace = format!("trace={name}");
    let log = dir.path().with_extension("strace");
    let said = strace(step, dir.path(), &["-e", &trace, "-e", &what, "-o", log.to_str().unwrap()]);
    let _ = fs::remove_file(&log);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let told = format!(
        "{} {what}: {:?}\n{text}{}",
        step.name,
        said.status,
        String::from_utf8_lossy(&said.stderr)
    );
    match fault {
        Fault::Kill => assert_eq!(said.status.signal(), Some(9), "not reached: {told}"),
        Fault::Fail(_) => {
            let was_passed_over = !step.is_reported && said.status.success();
            assert!(was_passed_over || said.status.code() == Some(51), "not reported: {told}");
        }
    }
    let acknowledged = text.matches("ack ").count();
    (step.check)(dir.path(), acknowledged, &told);
}

fn is_long() -> bool {
    std::env::var_os("LONGHAUL_TORTURE").is_some_and(|value| value == "long")
}

/// Is strace there, and may it trace?
fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    let can = traced.as_ref().is_ok_and(|said| said.status.success());
    assert!(can || std::env::var_os("LONGHAUL_NEEDS_STRACE").is_none(), "strace: {traced:?}");
    if !can {
        println!("skipped: strace is not there or may not trace ({traced:?})");
    }
    can
}

fn every_point(steps: &[Step], faults: &[Fault]) {
    let mut all = Vec::new();
    for step in steps {
        let points = points(*step);
        assert!(points.len() >= step.at_least, "{}: {points:?}", step.name);
        // Death comes everywhere; of many calls that could fail, some do.
        let every = if is_long() { 1 } else { points.len().div_ceil(FAILURES_MAX) };
        for (number, point) in points.into_iter().enumerate() {
            for fault in faults {
                let can_fail = FAILING.contains(&point.0.as_str()) && number % every == 0;
                if *fault == Fault::Kill || can_fail {
                    all.push((*step, point.clone(), *fault));
                }
            }
        }
    }
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, Into::into) {
            scope.spawn(|| {
                while let Some((step, point, fault)) = all.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let done = std::panic::AssertUnwindSafe(|| inflict(*step, point, *fault));
                    if std::panic::catch_unwind(done).is_err() {
                        failed
                            .lock()
                            .unwrap()
                            .push(format!("{} at {point:?}: {fault:?}", step.name));
                    }
                }
            });
        }
    });
    let mut by_step: BTreeMap<&str, usize> = BTreeMap::new();
    all.iter().for_each(|(step, ..)| *by_step.entry(step.name).or_default() += 1);
    println!("crash points: {} in all, {by_step:?}", all.len());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "replay: cargo test --test crash_points -- NAME; {failed:#?}");
}

fn main() -> std::process::ExitCode {
    let step = std::env::var("LONGHAUL_STEP").ok().zip(std::env::var_os("LONGHAUL_STEP_DIR"));
    if let Some((name, dir)) = step {
        return steps::perform(&name, Path::new(&dir)).into();
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        PATHS.iter().for_each(|step| println!("{}: test", step.name));
        return std::process::ExitCode::SUCCESS;
    }
    let words: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let is_asked = |step: &&Step| {
        words.is_empty() || words.iter().any(|word| step.name.contains(word.as_str()))
    };
    let steps: Vec<Step> = PATHS.iter().filter(is_asked).copied().collect();
    if !can_trace() {
        println!("test result: ok. 0 paths, all skipped");
        return std::process::ExitCode::SUCCESS;
    }
    let mut faults = vec![Fault::Kill, Fault::Fail("ENOSPC"), Fault::Fail("EIO")];
    if is_long() {
        faults.extend([Fault::Fail("EDQUOT"), Fault::Fail("EROFS")]);
    }
    every_point(&steps, &faults);
    println!("test result: ok. {} paths", steps.len());
    std::process::ExitCode::SUCCESS
}
