//! Descendants in the shapes that outlive careless supervisors. Each is the
//! stand-in's own program, started as `standin __limb <shape> <ledger> <session>`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::process::{Signal, getpid, kill_process, setsid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::ledger::{self, Ledger, What};
use super::script::Shape;

/// The hidden subcommand.
pub const LIMB_COMMAND: &str = "__limb";
/// No test needs one for longer; a leak must not live for ever.
const LIFE: Duration = Duration::from_secs(300);
/// 200 of them stand sooner than this on any machine.
const STANDS_WITHIN: Duration = Duration::from_secs(60);

/// Starts descendants of these shapes and waits until all of them stand.
pub fn grow(shapes: &[Shape], ledger: &Ledger) {
    for shape in shapes {
        for _ in 0..shape.limbs() {
            start(*shape, ledger.path(), ledger.session());
        }
    }
    let wanted: u64 = shapes.iter().map(|shape| shape.limbs()).sum();
    let stand = || {
        let limb = |e: &ledger::Entry| e.what == What::Limb && e.session == ledger.session();
        ledger::read(ledger.path()).iter().filter(|e| limb(e)).count() as u64
    };
    let begun = Instant::now();
    while stand() < wanted {
        assert!(begun.elapsed() < STANDS_WITHIN, "the limbs do not stand");
        std::thread::sleep(Duration::from_millis(2));
    }
    ledger.note(What::Limbs, wanted);
}

#[expect(clippy::zombie_processes, reason = "left to whoever reaps: that is the test")]
fn start(shape: Shape, ledger: &Path, session: &str) {
    let own = std::env::current_exe().expect("this program");
    let mut command = match shape {
        Shape::Nohup => {
            let mut command = Command::new("nohup");
            command.arg(own);
            command
        }
        _ => Command::new(own),
    };
    command.arg(LIMB_COMMAND).arg(shape.name()).arg(ledger).arg(session);
    if shape == Shape::Cleared {
        command.env_clear();
    }
    if shape != Shape::HoldsPty {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    }
    command.spawn().expect("a limb");
}

/// Lives as the descendant that the arguments name.
pub fn live(args: &[String]) {
    let [shape, ledger, session] = args else { panic!("__limb <shape> <ledger> <session>") };
    let name = serde_json::Value::from(shape.as_str());
    let shape: Shape = serde_json::from_value(name).expect("a shape");
    let path = Path::new(ledger);
    if shape == Shape::DoubleFork {
        return start(Shape::Leaf, path, session);
    }
    if !matches!(shape, Shape::Leaf | Shape::Nohup) {
        let _ = setsid();
    }
    let told = Arc::new(AtomicBool::new(false));
    if matches!(shape, Shape::Deaf | Shape::ForksOnTerm) {
        for signal in [SIGTERM, SIGHUP, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&told)).expect("a handler");
        }
    }
    Ledger::open(path, session).note(What::Limb, 0);
    if shape == Shape::Stopped {
        kill_process(getpid(), Signal::STOP).expect("a signal to oneself");
    }
    let begun = Instant::now();
    while begun.elapsed() < LIFE {
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
        if shape == Shape::ForksOnTerm && told.load(Ordering::Relaxed) {
            start(Shape::Setsid, path, session);
            start(Shape::Setsid, path, session);
            return;
        }
    }
}

/// Becomes a shell that dies by `signal`, or exits with 77 if that does not kill.
pub fn die_by(signal: i32) -> ! {
    let script = format!("ulimit -c 0; kill -{signal} $$; exit 77");
    // A shell has the default answer to every signal, this program has not.
    let err = Command::new("sh").args(["-c", &script]).exec();
    panic!("no shell: {err}")
}
