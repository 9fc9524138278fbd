//! The machine: a private place for the state, and room on the disks.

use std::path::{Path, PathBuf};

use super::{Finding, Patient, shown};
use crate::runs::RunFolder;
use crate::state_dir::ProjectState;
use crate::{ErrorKind, Result, journal, state_dir};

const MIB: u64 = 1 << 20;
/// With less no session is started: the checkpoint itself could fail.
const FREE_MIN_BYTES: u64 = 200 * MIB;
/// With less a long night may end early.
const FREE_WARN_BYTES: u64 = 2048 * MIB;

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let own = |name: &str| patient.own_env.get(name).map(ToOwned::to_owned);
    let mut places: Vec<(&str, PathBuf)> = vec![("project", patient.project.to_path_buf())];
    let state = state_dir::locate(own).and_then(|root| {
        state_dir::check(&root, patient.project)?;
        past(&root, patient.project)?;
        Ok(root)
    });
    let mut findings = Vec::new();
    match state {
        Ok(root) => {
            findings.push(writable(patient, &root));
            places.push(("state directory", nearest_existing(&root).to_path_buf()));
        }
        Err(err) => findings.push(Finding::of_error("state-dir", &err)),
    }
    let temp = patient.child_env.get("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    places.push(("temporary directory", temp));
    findings.extend(disks(&places));
    findings
}

/// Whether a run can read what the last one left: it goes on from there.
fn past(root: &Path, project: &Path) -> Result<()> {
    if !root.exists() {
        return Ok(());
    }
    if let Some(state) = ProjectState::open_existing(root, project)?
        && let Some(run) = RunFolder::newest(state.dir())?
    {
        journal::read(&run.journal())?;
    }
    Ok(())
}

fn writable(patient: &Patient<'_>, root: &Path) -> Finding {
    let id = "state-dir";
    let dir = nearest_existing(root);
    match rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Ok(()) => Finding::ok(id, format!("state is kept in {}", shown(root, patient.own_env))),
        Err(err) => {
            let kind =
                if err == rustix::io::Errno::ROFS { ErrorKind::Disk } else { ErrorKind::State };
            Finding::error(
                id,
                kind,
                format!("the state directory {} cannot be written", root.display()),
            )
            .detail(format!("{}: {err}", dir.display()))
            .mend("make it writable, or set LONGHAUL_STATE_DIR")
        }
    }
}

fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"))
}

/// The fullest of the disks speaks for all.
fn disks(places: &[(&str, PathBuf)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut least: Option<(u64, &str)> = None;
    for (name, path) in places {
        match rustix::fs::statvfs(path) {
            Ok(stat) => {
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                if least.is_none_or(|(bytes, _)| free < bytes) {
                    least = Some((free, name));
                }
            }
            Err(err) => findings.push(
                Finding::error(
                    "disk",
                    ErrorKind::Disk,
                    format!("the {name} {} cannot be used", path.display()),
                )
                .detail(err.to_string())
                .mend("create it, or name another"),
            ),
        }
    }
    findings.extend(least.map(|(free, name)| judge(free, name)));
    findings
}

fn judge(free: u64, name: &str) -> Finding {
    let id = "disk";
    let title = format!("{} free on the disk of the {name}", amount(free));
    let mend = "free some space";
    if free < FREE_MIN_BYTES {
        Finding::error(id, ErrorKind::Disk, title)
            .detail("at least 200 MiB are needed to start")
            .mend(mend)
    } else if free < FREE_WARN_BYTES {
        Finding::warning(id, title)
            .detail("a long run may fill it; 2 GiB are a good start")
            .mend(mend)
    } else {
        Finding::ok(id, title)
    }
}

fn amount(bytes: u64) -> String {
    let mib = bytes / MIB;
    if mib < 10_240 { format!("{mib} MiB") } else { format!("{} GiB", mib / 1024) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn room_is_judged() {
        for (mib, severity) in [
            (0, Severity::Error),
            (199, Severity::Error),
            (200, Severity::Warning),
            (2047, Severity::Warning),
            (2048, Severity::Ok),
        ] {
            assert_eq!(judge(mib * MIB, "project").severity, severity, "{mib} MiB");
        }
        assert_eq!(amount(3 * MIB), "3 MiB");
        assert_eq!(amount(20_480 * MIB), "20 GiB");
    }

    #[test]
    fn a_place_that_is_gone_is_an_error() {
        let findings = disks(&[("temporary directory", "/nonexistent/tmp".into())]);
        assert_eq!(findings[0].exit, Some(ErrorKind::Disk));
    }
}
