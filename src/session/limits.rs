//! What every process of a session is born with: the first place in line when
//! memory runs out, and an end to how large a file may grow.
//!
//! Both are inherited, so the keeper takes them on before it starts the CLI:
//! set from outside afterwards, they would miss what was started meanwhile.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Largest file a process of a session can write. Outputs of tasks were seen to
/// grow to hundreds of gigabytes and fill the disk.
pub const FILE_MAX_BYTES: u64 = 20 << 30;

/// Added to how readily the kernel kills a process of a session, out of 1,000,
/// so that it takes one of those before longhaul or the keeper.
pub const OOM_SCORE_RISE: i32 = 300;

const OOM_SCORE: &str = "/proc/self/oom_score_adj";
const OOM_SCORE_MAX: i32 = 1_000;

/// Calls `spawn`; what it starts is limited, and this process is as before but
/// for the size of the files it can write. What the kernel refuses is left out:
/// a session without these is still a session.
pub(super) fn spawn_limited<T>(spawn: impl FnOnce() -> T) -> T {
    // Kept: the way back is barred to all but root, and a keeper writes no file.
    let _ = setrlimit(Resource::Fsize, file_limit(getrlimit(Resource::Fsize)));
    let score: Option<i32> =
        fs::read_to_string(OOM_SCORE).ok().and_then(|text| text.trim().parse().ok());
    if let Some(score) = score {
        let _ = fs::write(OOM_SCORE, (score + OOM_SCORE_RISE).min(OOM_SCORE_MAX).to_string());
    }
    let spawned = spawn();
    if let Some(score) = score {
        let _ = fs::write(OOM_SCORE, score.to_string());
    }
    spawned
}

/// The limit to set where `inherited` holds: never a looser one.
fn file_limit(inherited: Rlimit) -> Rlimit {
    let least = |limit: Option<u64>| Some(limit.map_or(FILE_MAX_BYTES, |l| l.min(FILE_MAX_BYTES)));
    Rlimit { current: least(inherited.current), maximum: least(inherited.maximum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inherited_limit_is_only_ever_tightened() {
        let limit = |current, maximum| Rlimit { current, maximum };
        let ours = Some(FILE_MAX_BYTES);
        assert_eq!(file_limit(limit(None, None)), limit(ours, ours));
        assert_eq!(file_limit(limit(Some(5), None)), limit(Some(5), ours));
        assert_eq!(file_limit(limit(Some(5), Some(9))), limit(Some(5), Some(9)));
        assert_eq!(file_limit(limit(Some(1 << 40), Some(1 << 41))), limit(ours, ours));
    }
}
