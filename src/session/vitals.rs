//! How a live session is: the memory and the CPU time of its tree, what it wrote,
//! and whether the kernel ran out of memory.
//!
//! *Memory* is the sum of what each process has resident. That counts pages
//! that processes share once for each of them, so it is never too small, and it
//! stands in the line that is read anyway. Only when the sum reaches the figure
//! from which somebody might act is the proportional share (PSS) taken instead,
//! which the kernel has to walk the page tables for. Address space is no
//! measure at all: the CLI maps twenty times what it uses.
//!
//! *CPU time* below the CLI is a sign of life, that of the CLI itself is none:
//! its spinner goes on over a dead connection. A process that ended between two
//! looks is not lost: whoever waited for it has its time from then on.
//!
//! *What was written* is the sum of `write_bytes` less `cancelled_write_bytes` of
//! `/proc/<pid>/io`. The kernel counts where a page becomes dirty, so it is there
//! at once and wherever the file lies; what is rewritten or removed before it
//! reached the disk counts once or not, and memory files (tmpfs) do not count.
//! Whoever waits for a child has its sum from then on, and a zombie still has its
//! own, so the sum over the tree, keeper included, is whole. All of this was seen
//! by trying (Linux 6.18, ext4). What is missing: a child whose parent ignores
//! SIGCHLD counts only while it lives, and one of another user's until it is
//! waited for.

use std::collections::HashMap;

use super::sweep::{self, Stat};

/// Processes looked at in one sample, at some 10 µs each. A tree of more is no
/// longer a session but a fork bomb: memory and CPU time are then those of its
/// first so many.
pub const LOOKS_MAX: usize = 2_048;

/// Processes, the largest first, whose proportional share is asked for, at some
/// 4 ms for each GiB.
const EXACT_MAX: usize = 256;

/// Samples for which a process that was not seen is remembered: the kernel's
/// list of children may skip one while another ends.
const REMEMBERED_SAMPLES: u8 = 2;

const BYTES_PER_MB: u64 = 1 << 20;

/// How a session is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Memory of everything below the keeper, the CLI included, MiB.
    pub tree_memory_mb: u64,
    /// CPU time since the last sample of everything below the keeper but the
    /// CLI itself; 0 in the first.
    pub below_cli_cpu_ms: u64,
    /// CPU time of the CLI itself since the last sample; 0 in the first.
    pub cli_cpu_ms: u64,
    /// What the tree wrote to disks since it began, MiB.
    pub written_mb: u64,
    /// Living processes below the keeper, the CLI included. Above
    /// [`LOOKS_MAX`] there are at least so many.
    pub processes: u32,
    /// Whether the CLI is stopped, by a signal or a debugger.
    pub is_stopped: bool,
}

/// Looks at one live session again and again.
#[derive(Debug)]
pub struct Sampler {
    keeper: u32,
    cli: Name,
    exact_from_mb: u64,
    walk: Walk,
    ledger: Ledger,
    /// The most that was seen: a sum can miss a child that is being waited for.
    written_bytes: u64,
}

/// Process id and start time: one process for ever.
type Name = (u32, u64);

/// What one look at one process gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    name: Name,
    parent: u32,
    threads: u32,
    zombie: bool,
    is_stopped: bool,
    own_ticks: u64,
    waited_ticks: u64,
    resident_pages: u64,
}

impl Row {
    fn read(pid: u32) -> Option<Self> {
        sweep::read_stat(pid, |stat: Stat<'_>| Row {
            name: (stat.process.pid, stat.process.start_ticks),
            parent: stat.process.parent,
            threads: stat.threads,
            zombie: stat.process.zombie,
            is_stopped: stat.is_stopped,
            own_ticks: stat.own_ticks,
            waited_ticks: stat.waited_ticks,
            resident_pages: stat.resident_pages,
        })
    }
}

impl Sampler {
    /// For the session of this keeper and this CLI. Memory is measured exactly
    /// from `exact_from_mb` on, the least figure that somebody would act on.
    pub fn new(keeper: u32, cli: u32, cli_start_ticks: u64, exact_from_mb: u64) -> Self {
        Sampler {
            keeper,
            cli: (cli, cli_start_ticks),
            exact_from_mb,
            walk: Walk::best(),
            ledger: Ledger::default(),
            written_bytes: 0,
        }
    }

    /// How the session is now. When nothing of it is there, all zeros but for what
    /// was written.
    pub fn sample(&mut self) -> Vitals {
        let Tree { mut rows, unseen } = self.walk.tree(self.keeper);
        let cpu = self.ledger.book(&rows, self.keeper, self.cli);
        self.written_bytes = self.written_bytes.max(written_bytes(&rows));
        rows.retain(|row| row.name.0 != self.keeper && !row.zombie);
        Vitals {
            written_mb: self.written_bytes / BYTES_PER_MB,
            tree_memory_mb: memory_bytes(&mut rows, self.exact_from_mb) / BYTES_PER_MB,
            below_cli_cpu_ms: in_ms(cpu.below_ticks),
            cli_cpu_ms: in_ms(cpu.cli_ticks),
            processes: (rows.len() + unseen) as u32,
            is_stopped: rows.iter().any(|row| row.name == self.cli && row.is_stopped),
        }
    }
}

fn in_ms(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000) / rustix::param::clock_ticks_per_second().max(1)
}

/// How the processes below another are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// By the lists of children that the kernel keeps; costs what the tree costs.
    Children,
    /// By looking at every process there is.
    Scan,
}

/// What a walk found.
struct Tree {
    /// At most [`LOOKS_MAX`].
    rows: Vec<Row>,
    /// Processes known to be there and not looked at.
    unseen: usize,
}

impl Walk {
    /// The lists exist only in a kernel built with `CONFIG_PROC_CHILDREN`.
    fn best() -> Self {
        let has_lists = std::path::Path::new("/proc/thread-self/children").exists();
        if has_lists { Walk::Children } else { Walk::Scan }
    }

    /// `root` and everything below it, zombies included.
    fn tree(self, root: u32) -> Tree {
        match self {
            Walk::Children => by_lists(root),
            Walk::Scan => by_scan(root),
        }
    }
}

/// Parents before their children: what a child did is then seen either in the
/// child or, at the next look, in who waited for it, and never in both.
fn by_lists(root: u32) -> Tree {
    let mut rows: Vec<Row> = Vec::new();
    let mut pids = vec![root];
    let mut at = 0;
    while let Some(&pid) = pids.get(at).filter(|_| rows.len() < LOOKS_MAX) {
        at += 1;
        let Some(row) = Row::read(pid) else { continue };
        if !row.zombie {
            add_children(&row, &mut pids);
        }
        rows.push(row);
    }
    Tree { rows, unseen: pids.len() - at }
}

/// Each thread has a list of its own: of those that it started.
fn add_children(row: &Row, pids: &mut Vec<u32>) {
    let pid = row.name.0;
    let mut add = |thread: &str| {
        let list = std::fs::read(format!("/proc/{pid}/task/{thread}/children"));
        let list = list.unwrap_or_default();
        let words = list.split(|byte| *byte == b' ');
        pids.extend(words.filter_map(|word| std::str::from_utf8(word).ok()?.parse::<u32>().ok()));
    };
    if row.threads == 1 {
        return add(&pid.to_string());
    }
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return };
    for thread in threads.flatten() {
        if let Some(thread) = thread.file_name().to_str() {
            add(thread);
        }
    }
}

fn by_scan(root: u32) -> Tree {
    let mut children: HashMap<u32, Vec<Row>> = HashMap::new();
    let mut rows = Vec::new();
    for row in sweep::all_pids().filter_map(Row::read) {
        if row.name.0 == root {
            rows.push(row);
        } else {
            children.entry(row.parent).or_default().push(row);
        }
    }
    let mut at = 0;
    while let Some(row) = rows.get(at) {
        rows.extend(children.remove(&row.name.0).unwrap_or_default());
        at += 1;
    }
    let unseen = rows.len().saturating_sub(LOOKS_MAX);
    rows.truncate(LOOKS_MAX);
    Tree { rows, unseen }
}

/// The memory of `rows`, the proportional share where it matters.
fn memory_bytes(rows: &mut [Row], exact_from_mb: u64) -> u64 {
    let page_bytes = rustix::param::page_size() as u64;
    let resident = |rows: &[Row]| -> u64 {
        rows.iter().map(|row| row.resident_pages.saturating_mul(page_bytes)).sum()
    };
    let all = resident(rows);
    if all / BYTES_PER_MB < exact_from_mb {
        return all;
    }
    rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.resident_pages));
    let (large, small) = rows.split_at(rows.len().min(EXACT_MAX));
    let shares = large.iter().map(|row| {
        share_bytes(row.name.0).unwrap_or(row.resident_pages.saturating_mul(page_bytes))
    });
    shares.sum::<u64>() + resident(small)
}

/// What `rows` wrote and caused to be written. Parents before their children: a
/// child that is waited for meanwhile is then missed, never counted twice.
fn written_bytes(rows: &[Row]) -> u64 {
    let (mut written, mut cancelled) = (0_u64, 0_u64);
    for row in rows {
        let text = std::fs::read_to_string(format!("/proc/{}/io", row.name.0)).unwrap_or_default();
        let figure = |key: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
        };
        written = written.saturating_add(figure("write_bytes:"));
        cancelled = cancelled.saturating_add(figure("cancelled_write_bytes:"));
    }
    written.saturating_sub(cancelled)
}

/// The proportional share of a process; `None` when it is not ours to know.
fn share_bytes(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// CPU time since the last booking, clock ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cpu {
    below_ticks: u64,
    cli_ticks: u64,
}

/// What each process was seen to have used, so that nothing counts twice.
///
/// A process's time is in its own row while it lives or lies there dead, and
/// afterwards in the row of whoever waited for it, where it comes as one sum
/// with everything else that one waited for. So what a vanished process was
/// already counted with is owed by the next such sums.
#[derive(Debug, Default)]
struct Ledger {
    known: HashMap<Name, Known>,
    /// Owed from the sample before: the wait may be seen a sample late.
    owed_ticks: u64,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    own_ticks: u64,
    waited_ticks: u64,
    /// Samples since it was last seen.
    missed: u8,
}

impl Ledger {
    fn book(&mut self, rows: &[Row], keeper: u32, cli: Name) -> Cpu {
        let is_first = self.known.is_empty();
        let mut cpu = Cpu::default();
        let mut waited_ticks = 0;
        for known in self.known.values_mut() {
            known.missed += 1;
        }
        for row in rows {
            let now = Known { own_ticks: row.own_ticks, waited_ticks: row.waited_ticks, missed: 0 };
            let before = self.known.insert(row.name, now);
            if is_first {
                continue;
            }
            if let Some(back) = before.filter(|known| known.missed > 1) {
                self.owed_ticks = self.owed_ticks.saturating_sub(back.total_ticks());
            }
            let (own, waited) = before.map_or((0, 0), |was| (was.own_ticks, was.waited_ticks));
            waited_ticks += row.waited_ticks.saturating_sub(waited);
            let own_ticks = row.own_ticks.saturating_sub(own);
            if row.name == cli {
                cpu.cli_ticks += own_ticks;
            } else if row.name.0 != keeper {
                cpu.below_ticks += own_ticks;
            }
        }
        let vanished = self.known.values().filter(|known| known.missed == 1);
        let newly_owed_ticks: u64 = vanished.map(Known::total_ticks).sum();
        self.known.retain(|_, known| known.missed <= REMEMBERED_SAMPLES);

        let left_ticks = waited_ticks.saturating_sub(self.owed_ticks);
        cpu.below_ticks += left_ticks.saturating_sub(newly_owed_ticks);
        // What stays owed after that was never waited for: its parent ignores
        // SIGCHLD, and the kernel then counts a child's time for nobody.
        self.owed_ticks = newly_owed_ticks.saturating_sub(left_ticks);
        cpu
    }
}

impl Known {
    fn total_ticks(&self) -> u64 {
        self.own_ticks.saturating_add(self.waited_ticks)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;

    const KEEPER: u32 = 1;
    const CLI: Name = (2, 2);

    /// A process of the model.
    #[derive(Debug, Clone, Copy)]
    struct Model {
        parent: u32,
        own: u64,
        waited: u64,
        dead: bool,
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Fork(usize),
        Burn(usize, u64),
        Exit(usize),
        Wait(usize),
        Look,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => any::<usize>().prop_map(Step::Fork),
            3 => (any::<usize>(), 0..50u64).prop_map(|(who, ticks)| Step::Burn(who, ticks)),
            2 => any::<usize>().prop_map(Step::Exit),
            2 => any::<usize>().prop_map(Step::Wait),
            2 => Just(Step::Look),
        ]
    }

    /// A keeper, a CLI and what they start, as the kernel would account for it.
    struct World {
        tree: BTreeMap<u32, Model>,
        next: u32,
        /// Burned by others than keeper and CLI.
        below: u64,
        by_cli: u64,
    }

    impl World {
        fn new() -> Self {
            let model = |parent| Model { parent, own: 0, waited: 0, dead: false };
            let tree = BTreeMap::from([(KEEPER, model(0)), (CLI.0, model(KEEPER))]);
            World { tree, next: 3, below: 0, by_cli: 0 }
        }

        fn pick(&self, at: usize, wanted: impl Fn(u32, &Model) -> bool) -> Option<u32> {
            let pids: Vec<u32> =
                self.tree.iter().filter(|(p, m)| wanted(**p, m)).map(|(p, _)| *p).collect();
            (!pids.is_empty()).then(|| pids[at % pids.len()])
        }

        /// `is_waited_for` is false where the parent ignores SIGCHLD.
        fn take(&mut self, step: Step, is_waited_for: bool) {
            match step {
                Step::Fork(at) => {
                    let parent = self.pick(at, |pid, m| pid != KEEPER && !m.dead);
                    let Some(parent) = parent else { return };
                    self.tree.insert(self.next, Model { parent, own: 0, waited: 0, dead: false });
                    self.next += 1;
                }
                Step::Burn(at, ticks) => {
                    let Some(pid) = self.pick(at, |_, m| !m.dead) else { return };
                    self.tree.get_mut(&pid).unwrap().own += ticks;
                    match pid {
                        KEEPER => {}
                        pid if pid == CLI.0 => self.by_cli += ticks,
                        _ => self.below += ticks,
                    }
                }
                Step::Exit(at) => {
                    let Some(pid) = self.pick(at, |pid, m| pid > CLI.0 && !m.dead) else { return };
                    self.tree.get_mut(&pid).unwrap().dead = true;
                    for orphan in self.tree.values_mut().filter(|m| m.parent == pid) {
                        orphan.parent = KEEPER;
                    }
                }
                Step::Wait(at) => {
                    let Some(pid) = self.pick(at, |_, m| m.dead) else { return };
                    let gone = self.tree.remove(&pid).unwrap();
                    if is_waited_for {
                        self.tree.get_mut(&gone.parent).unwrap().waited += gone.own + gone.waited;
                    }
                }
                Step::Look => {}
            }
        }

        fn rows(&self) -> Vec<Row> {
            let row = |(pid, model): (&u32, &Model)| Row {
                name: (*pid, u64::from(*pid)),
                parent: model.parent,
                threads: 1,
                zombie: model.dead,
                is_stopped: false,
                own_ticks: model.own,
                waited_ticks: model.waited,
                resident_pages: 0,
            };
            self.tree.iter().map(row).collect()
        }
    }

    proptest! {
        #[test]
        fn what_was_used_is_counted_once_however_processes_come_and_go(
            steps in proptest::collection::vec(step(), 0..200),
        ) {
            let mut world = World::new();
            let mut ledger = Ledger::default();
            let (mut below, mut by_cli) = (0, 0);
            ledger.book(&world.rows(), KEEPER, CLI);
            for step in steps.into_iter().chain([Step::Look]) {
                world.take(step, true);
                if matches!(step, Step::Look) {
                    let cpu = ledger.book(&world.rows(), KEEPER, CLI);
                    below += cpu.below_ticks;
                    by_cli += cpu.cli_ticks;
                    prop_assert_eq!((below, by_cli), (world.below, world.by_cli));
                }
            }
        }

        #[test]
        fn nothing_is_made_up_when_children_vanish_uncounted_or_are_overlooked_at_times(
            steps in proptest::collection::vec((step(), any::<bool>(), any::<usize>()), 0..200),
        ) {
            let mut world = World::new();
            let mut ledger = Ledger::default();
            let mut below = 0;
            let mut looks_since_skip = 0;
            ledger.book(&world.rows(), KEEPER, CLI);
            for (step, is_waited_for, skip) in steps {
                world.take(step, is_waited_for);
                if matches!(step, Step::Look) {
                    let mut rows = world.rows();
                    let skip = rows[skip % rows.len()].name;
                    looks_since_skip += 1;
                    if skip.0 > CLI.0 && looks_since_skip > u32::from(REMEMBERED_SAMPLES) {
                        rows.retain(|row| row.name != skip);
                        looks_since_skip = 0;
                    }
                    below += ledger.book(&rows, KEEPER, CLI).below_ticks;
                    prop_assert!(below <= world.below, "{below} of {}", world.below);
                }
            }
        }
    }

    #[test]
    fn a_process_that_was_overlooked_owes_nothing_once_it_is_back() {
        let mut world = World::new();
        let mut ledger = Ledger::default();
        world.take(Step::Fork(0), true);
        ledger.book(&world.rows(), KEEPER, CLI);
        let child = world.tree.keys().next_back().copied().unwrap();
        world.tree.get_mut(&child).unwrap().own += 100;
        assert_eq!(ledger.book(&world.rows(), KEEPER, CLI).below_ticks, 100);
        let without: Vec<Row> =
            world.rows().into_iter().filter(|row| row.name.0 != child).collect();
        assert_eq!(ledger.book(&without, KEEPER, CLI).below_ticks, 0);
        // Back again, while the CLI has waited for something short.
        world.tree.get_mut(&CLI.0).unwrap().waited += 50;
        assert_eq!(ledger.book(&world.rows(), KEEPER, CLI).below_ticks, 50);
    }

    #[test]
    fn a_child_is_found_whichever_thread_started_it() {
        // A test is never the first thread of its process.
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let is_there = |walk: Walk| {
            let rows = walk.tree(std::process::id()).rows;
            rows.iter().any(|row| row.name.0 == child.id())
        };
        let found = (is_there(Walk::best()), is_there(Walk::Scan));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, (true, true));
    }

    /// A shell that stands for a keeper, with a shell below it that stands for
    /// the CLI and runs `script`.
    struct Stand {
        keeper: Child,
        cli: Row,
        said: BufReader<ChildStdout>,
        keys: ChildStdin,
    }

    impl Stand {
        /// Until `script` says READY.
        fn grow(script: &str) -> Self {
            let mut keeper = Command::new("sh")
                .args(["-c", r#"exec 3<&0; sh -c "$0" <&3 & exec 3<&-; wait"#, script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let said = BufReader::new(keeper.stdout.take().unwrap());
            let keys = keeper.stdin.take().unwrap();
            let mut tree =
                Stand { keeper, cli: Row::read(std::process::id()).unwrap(), said, keys };
            assert_eq!(tree.line(), "READY");
            let rows = Walk::Scan.tree(tree.keeper.id()).rows;
            tree.cli = *rows.iter().find(|row| row.parent == tree.keeper.id()).unwrap();
            tree
        }

        fn sampler(&self, exact_from_mb: u64) -> Sampler {
            let (pid, start_ticks) = self.cli.name;
            Sampler::new(self.keeper.id(), pid, start_ticks, exact_from_mb)
        }

        fn line(&mut self) -> String {
            let mut line = String::new();
            self.said.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        }

        fn go(&mut self) {
            self.keys.write_all(b"go\n").unwrap();
        }

        /// What was said up to and with the line that ends the script's work,
        /// while `look` is called again and again.
        fn look_until_done(&mut self, mut look: impl FnMut()) -> Vec<String> {
            std::thread::scope(|scope| {
                let said = scope.spawn(|| {
                    let lines = self.said.by_ref().lines().map_while(Result::ok);
                    let mut lines = lines.take_while(|line| line != "DONE");
                    lines.by_ref().collect::<Vec<_>>()
                });
                while !said.is_finished() {
                    look();
                }
                said.join().unwrap()
            })
        }
    }

    impl Drop for Stand {
        fn drop(&mut self) {
            let below = |id| sweep::descendants_of(id, &[]);
            let id = self.keeper.id();
            sweep::kill_all(0, || below(id).into_iter().filter(|p| !p.zombie).collect());
            let _ = self.keeper.kill();
            let _ = self.keeper.wait();
        }
    }

    /// Waits for a fact that nobody announces.
    fn until(mut fact: impl FnMut() -> bool) {
        let start = Timestamp::now();
        while !fact() {
            assert!(Timestamp::now().ms_since(start) < 20_000, "it never came true");
        }
    }

    /// `0m1.25s` as milliseconds.
    fn shell_ms(text: &str) -> u64 {
        let (minutes, seconds) = text.strip_suffix('s').unwrap().split_once('m').unwrap();
        let seconds: f64 = seconds.parse().unwrap();
        minutes.parse::<u64>().unwrap() * 60_000 + (seconds * 1_000.0) as u64
    }

    #[test]
    fn both_ways_to_walk_find_the_same_tree() {
        let tree = Stand::grow(
            "sleep 600 & sh -c 'sleep 600 & sleep 600 & wait' & sleep 600 & \
             while [ $(cat /proc/*/stat 2>/dev/null | grep -c \"(sleep) S\") -lt 4 ]; do :; done; \
             echo READY; read go",
        );
        let names = |walk: Walk| {
            let mut names: Vec<Name> =
                walk.tree(tree.keeper.id()).rows.iter().map(|row| row.name).collect();
            names.sort_unstable();
            names
        };
        let by_scan = names(Walk::Scan);
        assert!(by_scan.len() >= 6, "{by_scan:?}");
        if Walk::best() == Walk::Children {
            assert_eq!(names(Walk::Children), by_scan);
        }
    }

    #[test]
    fn the_time_of_many_short_lives_is_not_lost() {
        // `times` is the shell's own account of what it waited for.
        let mut tree = Stand::grow(
            "echo READY; read go; i=0; while [ $i -lt 400 ]; do /bin/true; i=$((i+1)); done; \
             times; echo DONE; read go",
        );
        let mut sampler = tree.sampler(u64::MAX);
        sampler.sample();
        let (mut below_ms, mut samples) = (0, 0);
        tree.go();
        let said = tree.look_until_done(|| {
            below_ms += sampler.sample().below_cli_cpu_ms;
            samples += 1;
        });
        below_ms += sampler.sample().below_cli_cpu_ms;
        let (user, system) = said.last().unwrap().split_once(' ').unwrap();
        let expected_ms = shell_ms(user) + shell_ms(system);
        assert!(
            expected_ms >= 50 && samples > 3,
            "{expected_ms} ms in {samples} samples: {said:?}"
        );
        // Each look may cut off a part of a clock tick that the next one has.
        assert!(below_ms.abs_diff(expected_ms) <= 50, "{below_ms} of {expected_ms} ms");
    }

    #[test]
    fn a_busy_child_is_seen_and_a_busy_cli_is_not_taken_for_one() {
        let burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let mut tree = Stand::grow(&format!(
            "echo READY; read go; {burn}; echo DONE; read go; ({burn}; :); echo DONE; read go"
        ));
        let mut sampler = tree.sampler(u64::MAX);
        assert_eq!(sampler.sample().below_cli_cpu_ms, 0);
        let mut sum = Vitals::default();
        for is_child in [false, true] {
            tree.go();
            let mut look = || {
                let vitals = sampler.sample();
                sum.below_cli_cpu_ms += vitals.below_cli_cpu_ms;
                sum.cli_cpu_ms += vitals.cli_cpu_ms;
            };
            tree.look_until_done(&mut look);
            look();
            let (busy, idle) = match is_child {
                false => (sum.cli_cpu_ms, sum.below_cli_cpu_ms),
                true => (sum.below_cli_cpu_ms, sum.cli_cpu_ms),
            };
            assert!(busy >= 50 && idle <= 20, "child: {is_child}, busy {busy} ms, idle {idle} ms");
            sum = Vitals::default();
        }
    }

    #[test]
    fn a_stopped_cli_shows_and_a_stopped_child_is_not_taken_for_it() {
        let tree = Stand::grow("sleep 600 & kill -STOP $!; echo READY; read go");
        let mut sampler = tree.sampler(u64::MAX);
        assert!(!sampler.sample().is_stopped);
        let cli = sweep::Process::read(tree.cli.name.0).unwrap();
        assert!(cli.signal(rustix::process::Signal::STOP));
        until(|| sampler.sample().is_stopped);
        // Another process with the CLI's id is not the CLI.
        let (pid, start_ticks) = tree.cli.name;
        let mut other = Sampler::new(tree.keeper.id(), pid, start_ticks + 1, u64::MAX);
        assert!(!other.sample().is_stopped);
    }

    #[test]
    fn memory_that_is_shared_counts_once_where_it_matters() {
        // Four shells with the same 32 MiB, which none of them writes to.
        let tree = Stand::grow(
            "x=$(head -c 33554432 /dev/zero | tr '\\0' x); for i in 1 2 3; do (sleep 600; :) & done; \
             echo READY; read go",
        );
        let mut sampler = tree.sampler(u64::MAX);
        // Until it is `sleep`, a child has the memory of its shell, too.
        until(|| {
            let seen = sampler.sample();
            seen.processes == 7 && seen.tree_memory_mb < 5 * 32
        });
        let greedy = sampler.sample();
        let at_once = tree.sampler(greedy.tree_memory_mb + 1).sample();
        assert_eq!(at_once.tree_memory_mb, greedy.tree_memory_mb, "nobody would act on it yet");
        let exact = tree.sampler(greedy.tree_memory_mb).sample();
        assert!(greedy.tree_memory_mb >= 4 * 32, "{greedy:?}");
        assert!((32..greedy.tree_memory_mb / 2).contains(&exact.tree_memory_mb), "{exact:?}");
    }

    #[test]
    fn what_was_written_counts_below_whoever_waited_for_its_writer() {
        // Beside the test's own program: temporary folders may be memory.
        let program = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let write = |mb: u64, name: &str| {
            let file = folder.path().join(name);
            format!("head -c {} /dev/zero >'{}'", mb << 20, file.display())
        };
        let mut tree = Stand::grow(&format!(
            "{}; echo READY; read go; ({}; echo BELOW; read go); echo DONE; read go",
            write(32, "by a child"),
            write(64, "by a grandchild"),
        ));
        let mut sampler = tree.sampler(u64::MAX);
        // Folders and the like are a few KiB on top.
        let seen = sampler.sample();
        assert!((32..34).contains(&seen.written_mb), "{seen:?}");
        for line in ["BELOW", "DONE"] {
            tree.go();
            assert_eq!(tree.line(), line);
            for seen in [sampler.sample(), tree.sampler(u64::MAX).sample()] {
                assert!((96..98).contains(&seen.written_mb), "{line}: {seen:?}");
            }
        }
        drop(tree);
        assert!(sampler.sample().written_mb >= 96, "what is written stays written");
    }

    #[test]
    fn a_session_that_is_gone_has_nothing() {
        let tree = Stand::grow("echo READY; read go");
        let mut sampler = tree.sampler(0);
        assert_eq!(sampler.sample().processes, 1);
        drop(tree);
        assert_eq!(sampler.sample(), Vitals::default());
    }
}
