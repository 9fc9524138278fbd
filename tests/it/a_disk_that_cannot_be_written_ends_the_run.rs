//! A state directory that is read-only or full: exit 51, the session ended,
//! and nothing left running.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::support::{Lab, Run, endless, finisher};

/// A little more than a run asks for.
const ROOMY_MIB: u32 = 210;

/// A small file system of its own, gone when dropped.
struct Disk {
    path: PathBuf,
}

impl Disk {
    /// `None`, said aloud: this user may not mount.
    fn mount(path: &Path, mib: u32) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let options = format!("size={mib}m,mode=0700");
        let said = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "longhaul-test"])
            .arg(path)
            .output();
        match said {
            Ok(said) if said.status.success() => Some(Self { path: path.to_owned() }),
            Ok(said) => {
                let why = String::from_utf8_lossy(&said.stderr).into_owned();
                eprintln!("NOT TESTED: a small disk cannot be mounted here: {why}");
                None
            }
            Err(why) => {
                eprintln!("NOT TESTED: a small disk cannot be mounted here: {why}");
                None
            }
        }
    }

    fn fill(&self) {
        use std::io::Write;
        let mut file = fs::File::create(self.path.join("ballast")).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.path).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

fn run_on(lab: &Lab, disk: &Disk) -> Run {
    let state = disk.path.join("state");
    Run::start(lab.longhaul_command(&["run", "--json"]).env("LONGHAUL_STATE_DIR", state))
}

#[test]
fn full_from_the_start() {
    let lab = Lab::new(finisher());
    let Some(disk) = Disk::mount(&lab.root().join("disk"), 1) else { return };
    disk.fill();
    let said = run_on(&lab, &disk).finished().failed(51, &[disk.path.to_str().unwrap()]);
    assert_eq!(said.count("session_started"), 0);
    assert_eq!(lab.api.requests().len(), 0, "a session was started");
    assert_eq!(lab.alive(), []);
}

#[test]
fn read_only_from_the_start() {
    let lab = Lab::new(finisher());
    let Some(disk) = Disk::mount(&lab.root().join("disk"), 1) else { return };
    disk.make_read_only();
    run_on(&lab, &disk).finished().failed(51, &[disk.path.to_str().unwrap()]);
    assert_eq!(lab.api.requests().len(), 0, "a session was started");
    assert_eq!(lab.alive(), []);
}

#[test]
fn full_in_the_middle() {
    let lab = Lab::new(endless());
    let Some(disk) = Disk::mount(&lab.root().join("disk"), ROOMY_MIB) else { return };
    let run = run_on(&lab, &disk);
    let session = run.wait_event("session_started")["session_id"].as_str().unwrap().to_owned();
    run.wait_event("context");
    disk.fill();
    let finished = run.finished().failed(51, &[]);
    // The last page of the journal has room for some more entries: on a slow machine the
    // look at the disks may come before it is full.
    if finished.event("run_finished")["outcome"] != "disk" {
        for words in ["journal", "longhaul run"] {
            assert!(finished.stderr.contains(words), "{}", finished.stderr);
        }
    }
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    lab.wait_gone();
    assert!(lab.cost_usd(&session).is_some(), "it was not ended politely");
}

#[test]
fn what_was_written_before_the_disk_was_full_is_taken_up_again() {
    let lab = Lab::new(super::support::first_then(1, endless(), finisher()));
    let Some(disk) = Disk::mount(&lab.root().join("disk"), ROOMY_MIB) else { return };
    let run = run_on(&lab, &disk);
    run.wait_event("context");
    disk.fill();
    let first = run.finished().failed(51, &[]);
    lab.wait_gone();
    fs::remove_file(disk.path.join("ballast")).unwrap();
    let second = run_on(&lab, &disk).finished().ended(0, "done");
    // The look at the disks may come while the journal's last page still has room for the
    // end of the session, or of the run: that much of it then stands there.
    if first.event("run_finished")["outcome"] == "disk" {
        assert_eq!(second.count("run_resumed"), 0, "a run that has ended goes on");
        return;
    }
    let is_in_the_middle = first.count("session_ended") == 0;
    let resumed = second.event("run_resumed");
    assert_eq!(resumed["run_id"], first.event("run_started")["run_id"]);
    assert_eq!(resumed["lost_cycle"], if is_in_the_middle { json!(1) } else { Value::Null });
}
