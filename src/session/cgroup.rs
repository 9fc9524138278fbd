//! A control group around one CLI and all it starts, where there can be one.
//!
//! The kernel then ends the whole of it in one stroke, which no process can
//! outrun by forking and none leaves by `setsid` or by dropping its marks. It
//! needs version 2 of the hierarchy, the right to make a group below the
//! keeper's own (root, or one that systemd delegated), and Linux 5.14. No
//! controllers are enabled, so the keeper may stay where it is. A process with
//! the same rights can move itself out: the sweep, not the group, is the proof
//! that nothing is left. Whatever fails here fails in silence.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::event::{Timespec, poll};

use crate::clock::Timestamp;

/// What the kernel takes for the id of the process that writes it.
const THIS_PROCESS: u32 = 0;

const PREFIX: &str = "longhaul-";

/// Longest wait for the processes of a group that was told to end.
const END_LIMIT_MS: u64 = 2_000;

/// Groups within groups that are still removed.
const DEPTH_MAX: u32 = 16;

/// A group of our own, below that of this process.
#[derive(Debug)]
pub(super) struct Group {
    dir: PathBuf,
}

/// Calls `spawn` so that what it starts is in a group of its own from its first
/// moment on; without the group where there cannot be one.
pub(super) fn spawn_grouped<T>(
    run_id: Option<&str>,
    spawn: impl FnOnce() -> T,
) -> (T, Option<Group>) {
    let own = own_dir();
    let group = own.as_deref().and_then(|own| {
        remove_left_over(own);
        let dir = own.join(name(run_id.unwrap_or_default(), std::process::id()));
        Group::make(&dir, THIS_PROCESS)
            .inspect_err(|err| tracing::debug!(%err, dir = %dir.display(), "no control group"))
            .ok()
    });
    let spawned = spawn();
    // A group that this process cannot leave again must never be ended.
    let group = group.filter(|_| own.is_some_and(|own| move_to(&own, THIS_PROCESS).is_ok()));
    (spawned, group)
}

fn move_to(dir: &Path, pid: u32) -> io::Result<()> {
    write_at(dir, "cgroup.procs", &pid.to_string())
}

impl Group {
    /// Makes a group and moves a process into it, whose children are then born
    /// there.
    fn make(dir: &Path, pid: u32) -> io::Result<Self> {
        fs::create_dir(dir)?;
        let entered = match dir.join("cgroup.kill").exists() {
            true => move_to(dir, pid),
            false => Err(io::ErrorKind::Unsupported.into()),
        };
        entered.inspect_err(|_| drop(fs::remove_dir(dir)))?;
        Ok(Group { dir: dir.to_owned() })
    }

    /// Sends SIGKILL to all in the group; false when that failed.
    pub(super) fn kill(&self) -> bool {
        write_at(&self.dir, "cgroup.kill", "1").is_ok()
    }

    /// The processes in it, those of groups within left out.
    fn processes(&self) -> usize {
        fs::read_to_string(self.dir.join("cgroup.procs")).map_or(0, |list| list.lines().count())
    }

    fn has_processes(&self) -> bool {
        let events = fs::read_to_string(self.dir.join("cgroup.events"));
        events.is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// Removes the group, which must be empty, and those made within it.
    pub(super) fn remove(self) {
        if let Err(err) = remove_tree(&self.dir, 0) {
            tracing::debug!(%err, dir = %self.dir.display(), "the control group stays");
        }
    }
}

/// Ends what is in the groups of this run's keepers, which must be gone, as far
/// as those lie where this process would make them. Gives how many processes
/// were ended. Unlike marks, groups hold also what cleared its environment.
pub(super) fn end_run(run_id: &str) -> u32 {
    let Some(own) = own_dir() else { return 0 };
    let of_run = plain(run_id);
    sessions_in(&own).filter(|(run, _)| *run == of_run).map(|(_, group)| end(group)).sum()
}

/// Removes the empty groups of keepers that were killed. One that was made just
/// now may be hit; its keeper then does without.
fn remove_left_over(own: &Path) {
    for (_, group) in sessions_in(own).filter(|(_, group)| !group.has_processes()) {
        group.remove();
    }
}

/// The groups that keepers made in `own`, with their runs.
fn sessions_in(own: &Path) -> impl Iterator<Item = (String, Group)> {
    let entries = fs::read_dir(own).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name();
        let (run, keeper) = name.to_str()?.strip_prefix(PREFIX)?.split_once('-')?;
        keeper.parse::<u32>().ok()?;
        Some((run.to_owned(), Group { dir: entry.path() }))
    })
}

fn end(group: Group) -> u32 {
    let processes = group.processes();
    if group.has_processes() && group.kill() {
        let start = Timestamp::now();
        while group.has_processes() && Timestamp::now().ms_since(start) < END_LIMIT_MS {
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
        }
    }
    group.remove();
    processes as u32
}

/// A group's name: the keeper's id makes it unique, the run's makes it ours.
fn name(run_id: &str, keeper: u32) -> String {
    format!("{PREFIX}{}-{keeper}", plain(run_id))
}

fn plain(run_id: &str) -> String {
    run_id.chars().filter(char::is_ascii_alphanumeric).collect()
}

fn write_at(dir: &Path, file: &str, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(dir.join(file)).and_then(|mut file| {
        // One write: the kernel takes each for a request.
        io::Write::write_all(&mut file, text.as_bytes())
    })
}

/// The innermost first; only groups are folders, and the files in one cannot be
/// removed and need not be.
fn remove_tree(dir: &Path, depth: u32) -> io::Result<()> {
    if depth < DEPTH_MAX {
        for entry in fs::read_dir(dir)?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let _ = remove_tree(&entry.path(), depth + 1);
            }
        }
    }
    fs::remove_dir(dir)
}

/// The folder of the group this process is in; `None` without version 2.
fn own_dir() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    dir_of(&groups, &mounts)
}

fn dir_of(groups: &str, mounts: &str) -> Option<PathBuf> {
    // `0::` is version 2; the others are hierarchies of version 1 beside it.
    let path = Path::new(groups.lines().find_map(|line| line.strip_prefix("0::"))?);
    // A path outside of what this process's namespace shows.
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return None;
    }
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        // Blanks and the like are escaped; nobody mounts it there.
        let is_usable = kind.starts_with("cgroup2 ") && !at.contains('\\');
        is_usable.then(|| Some(Path::new(at).join(path.strip_prefix(root).ok()?)))?
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_own_group_is_found_wherever_version_2_is_mounted() {
        let only = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        let beside = "31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      32 23 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 none rw\n";
        let part = "33 23 0:26 /lxc/box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let user = "0::/user.slice/session.scope\n";
        let cases = [
            (user, only, Some("/sys/fs/cgroup/user.slice/session.scope")),
            ("5:memory:/x\n0::/\n", beside, Some("/sys/fs/cgroup/unified/")),
            ("0::/lxc/box/inner\n", part, Some("/sys/fs/cgroup/inner")),
            ("0::/lxc/other\n", part, None),
            ("0::/../other\n", only, None),
            ("5:memory:/x\n", beside, None),
            (user, "31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", None),
            (user, "30 23 0:26 / /odd\\040place rw - cgroup2 cgroup2 rw\n", None),
            ("", "", None),
        ];
        for (groups, mounts, dir) in cases {
            assert_eq!(dir_of(groups, mounts), dir.map(PathBuf::from), "{groups:?} {mounts:?}");
        }
    }

    #[test]
    fn a_folder_that_is_no_group_is_not_taken_for_one_and_not_left_behind() {
        let own = tempfile::tempdir().unwrap();
        assert!(Group::make(&own.path().join("longhaul-x-1"), THIS_PROCESS).is_err());
        assert_eq!(fs::read_dir(own.path()).unwrap().count(), 0);
        assert!(Group::make(&own.path().join("not/there"), THIS_PROCESS).is_err());
    }

    #[test]
    fn only_groups_that_keepers_made_are_taken_for_ours() {
        let own = tempfile::tempdir().unwrap();
        let others = ["longhaul-x.slice", "longhaul-a-b", "longhaul", "init.scope"];
        for dir in others.map(str::to_owned).into_iter().chain([name("0c4e-77", 12)]) {
            fs::create_dir(own.path().join(dir)).unwrap();
        }
        let found: Vec<_> = sessions_in(own.path()).map(|(run, group)| (run, group.dir)).collect();
        assert_eq!(found, [("0c4e77".to_owned(), own.path().join("longhaul-0c4e77-12"))]);
        remove_left_over(own.path());
        assert_eq!(fs::read_dir(own.path()).unwrap().count(), others.len());
        assert_eq!(name("../..", 12), "longhaul--12", "it is one name, not a path");
    }

    /// A group where this machine allows one; elsewhere there is nothing to try.
    /// `script` is one process: this one must not enter the group, in which
    /// other tests' children would be born, so it is moved afterwards.
    fn group_of(run_id: &str, script: &str) -> Option<(Group, std::process::Child)> {
        let own = own_dir()?;
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        match Group::make(&own.join(name(run_id, child.id())), child.id()) {
            Ok(group) => Some((group, child)),
            Err(_) => {
                child.kill().unwrap();
                child.wait().unwrap();
                None
            }
        }
    }

    #[test]
    fn a_group_is_ended_in_one_stroke_with_the_groups_within_it() {
        let run_id = uuid::Uuid::new_v4().to_string();
        let Some((group, mut child)) = group_of(&run_id, "exec sleep 600") else { return };
        assert!(group.has_processes());
        fs::create_dir(group.dir.join("inner")).unwrap();
        assert!(group.kill());
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        let dir = group.dir.clone();
        group.remove();
        assert!(!dir.exists());
    }

    #[test]
    fn what_a_lost_keeper_left_is_found_by_its_run_and_no_other_is_touched() {
        let (lost, other) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
        let script = "exec env -i sleep 600";
        let Some((group, mut child)) = group_of(&lost, script) else { return };
        let (other_group, mut other_child) = group_of(&other, script).unwrap();
        assert_eq!(end_run(&lost), 1);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(!group.dir.exists());
        assert!(other_group.has_processes());
        assert_eq!(end_run(&other), 1);
        assert_eq!(other_child.wait().unwrap().signal(), Some(9));
    }
}
