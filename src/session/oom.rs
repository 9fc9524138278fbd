//! Whether a session that was killed was killed for want of memory.
//!
//! Nobody signs a SIGKILL. But the kernel counts the processes it kills because
//! memory ran out, those at the limit of a control group included. A daemon that
//! does the same before it comes to that counts nothing; then the session's
//! share of the machine speaks.

/// SIGKILL, and the exit code by which a shell that wraps the CLI passes it on.
const KILLED: i32 = 9;
const KILLED_BELOW_A_SHELL: i32 = 128 + KILLED;

/// What is known of the end of a session that longhaul did not kill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Exit code of the CLI.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// [`kills`] when it was last seen alive; the later, the more it proves.
    pub kills_before: Option<u64>,
    /// [`kills`] after its end.
    pub kills_after: Option<u64>,
    /// Memory its tree was last seen to use, MiB.
    pub tree_memory_mb: Option<u64>,
    /// [`machine_memory_mb`].
    pub machine_memory_mb: u64,
}

/// An answer and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether memory ran out, as far as can be told.
    pub was_out_of_memory: bool,
    /// Why so, for a person.
    pub reason: String,
}

/// Processes the kernel has killed for want of memory since it was started;
/// `None` when it does not say.
pub fn kills() -> Option<u64> {
    kills_in(&std::fs::read_to_string("/proc/vmstat").ok()?)
}

fn kills_in(vmstat: &str) -> Option<u64> {
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Memory of the machine, MiB.
pub fn machine_memory_mb() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit.max(1))) >> 20
}

/// Judges the end of a session that longhaul did not kill.
pub fn judge(evidence: &Evidence) -> Finding {
    let no = |reason: &str| Finding { was_out_of_memory: false, reason: reason.to_owned() };
    let was_killed = evidence.signal == Some(KILLED) || evidence.code == Some(KILLED_BELOW_A_SHELL);
    if !was_killed {
        return no("it was not killed");
    }
    let used = match evidence.tree_memory_mb {
        Some(mb) => format!("the session last used {mb} MiB of {}", evidence.machine_memory_mb),
        None => String::from("what the session used is not known"),
    };
    let yes = |reason: String| Finding { was_out_of_memory: true, reason };
    match (evidence.kills_before, evidence.kills_after) {
        (Some(before), Some(after)) if after > before => {
            let count = match after - before {
                1 => String::from("a process"),
                many => format!("{many} processes"),
            };
            yes(format!("the kernel killed {count} for want of memory; {used}"))
        }
        _ if evidence.tree_memory_mb.is_some_and(|mb| mb >= evidence.machine_memory_mb / 2) => {
            yes(format!("it was killed, not by longhaul, and {used}"))
        }
        (Some(_), Some(_)) => no(&format!("the kernel killed nothing for want of memory; {used}")),
        _ => no(&format!("the kernel does not say whether it ran out of memory; {used}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED_BY_KERNEL: Evidence = Evidence {
        code: None,
        signal: Some(9),
        kills_before: Some(4),
        kills_after: Some(5),
        tree_memory_mb: Some(700),
        machine_memory_mb: 8_000,
    };

    #[test]
    fn a_kill_that_the_kernel_counted_is_want_of_memory() {
        let reason = "the kernel killed a process for want of memory; \
                      the session last used 700 MiB of 8000";
        let expected = Finding { was_out_of_memory: true, reason: reason.into() };
        assert_eq!(judge(&KILLED_BY_KERNEL), expected);
        let below_a_shell = Evidence { code: Some(137), signal: None, ..KILLED_BY_KERNEL };
        assert_eq!(judge(&below_a_shell), expected);
    }

    #[test]
    fn an_end_of_its_own_is_not_however_full_the_machine() {
        for (code, signal) in [(Some(1), None), (None, Some(15)), (Some(0), None), (None, None)] {
            let evidence = Evidence { code, signal, ..KILLED_BY_KERNEL };
            assert!(!judge(&evidence).was_out_of_memory, "{evidence:?}");
        }
    }

    #[test]
    fn a_kill_that_nobody_counted_is_judged_by_what_was_used() {
        for kills_after in [Some(4), None] {
            let small = Evidence { kills_after, ..KILLED_BY_KERNEL };
            assert!(!judge(&small).was_out_of_memory, "a person may have sent it");
            let large = Evidence { tree_memory_mb: Some(4_000), ..small };
            assert!(judge(&large).was_out_of_memory);
            let unknown = Evidence { tree_memory_mb: None, ..small };
            assert!(!judge(&unknown).was_out_of_memory);
        }
    }

    #[test]
    fn the_kernels_count_is_found_among_others() {
        assert_eq!(kills_in("pgfault 1\noom_kill 12\noom_kill_x 3\n"), Some(12));
        assert_eq!(kills_in("pgfault 1\nxoom_kill 12\noom_kill\n"), None);
        // Since Linux 4.13.
        assert!(kills().is_some());
        assert!(machine_memory_mb() > 64);
    }
}
