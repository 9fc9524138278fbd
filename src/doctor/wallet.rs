//! Keys that lie about and would bill an account nobody meant.

use super::{Finding, Patient, masked, shown};
use crate::claude_json::read_regular;
use crate::session::env::BILLING_VARIABLES;

/// Files from which tools take variables.
const ENV_FILES: [&str; 5] =
    [".env", ".env.local", ".env.development", ".env.production", ".envrc"];
/// More than this is no list of variables.
const ENV_FILE_MAX_BYTES: u64 = 1 << 20;

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = stray(patient);
    findings.extend(env_files(patient));
    findings.extend(project_settings(patient));
    findings
}

/// A key in longhaul's own environment that no session gets.
fn stray(patient: &Patient<'_>) -> Vec<Finding> {
    let strays = BILLING_VARIABLES.iter().filter(|name| {
        patient.own_env.get(name).is_some()
            && !patient.config.claude.pass_env.iter().any(|passed| passed == *name)
            && !patient.config.claude.env.contains_key(**name)
    });
    strays
        .map(|name| {
            let value = patient.own_env.text(name).unwrap_or_default();
            Finding::warning(
                "stray-key",
                format!("{name} {} is set here and not passed on to the sessions", masked(&value)),
            )
            .detail("it would bill that key instead of your login")
            .mend(format!("unset {name}; or, if it shall pay, claude.pass_env = [\"{name}\"]"))
        })
        .collect()
}

/// The CLI does not read these files, but commands a session runs do.
fn env_files(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in ENV_FILES {
        let path = patient.project.join(file);
        let Ok(Some(bytes)) = read_regular(&path, ENV_FILE_MAX_BYTES) else {
            continue;
        };
        for (name, value) in billing_lines(&String::from_utf8_lossy(&bytes)) {
            findings.push(
                Finding::warning("dotenv", format!("{file} sets {name} {}", masked(&value)))
                    .detail("the CLI itself does not read it, but commands in a session may, and bill that key")
                    .mend(format!("remove {name} from {file}, or keep it outside the project")),
            );
        }
    }
    findings
}

/// Assignments of a billing variable, as `.env` files write them.
fn billing_lines(text: &str) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    for line in text.lines().map(str::trim) {
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.trim().trim_matches(['"', '\'']);
        let name = BILLING_VARIABLES.into_iter().find(|name| *name == key.trim());
        out.extend(name.filter(|_| !value.is_empty()).map(|name| (name, value.to_string())));
    }
    out
}

/// Settings that come with the project and decide who pays, or who is talked to.
fn project_settings(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for layer in patient.settings.iter().filter(|layer| layer.of_project) {
        let place = shown(&layer.path, &patient.child_env);
        let names = BILLING_VARIABLES.iter().copied().chain(["ANTHROPIC_BASE_URL"]);
        let mut set: Vec<&str> =
            names.filter(|name| layer.json.text(&["env", name]).is_some()).collect();
        if layer.json.text(&["apiKeyHelper"]).is_some() {
            set.push("apiKeyHelper");
        }
        if !set.is_empty() {
            findings.push(
                Finding::warning("project-settings", format!("{place} sets {}", set.join(", ")))
                    .detail("every session takes it from there, before your own login")
                    .mend("remove it there unless it is yours"),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_assignments_count() {
        let text = "# ANTHROPIC_API_KEY=no\nexport ANTHROPIC_API_KEY=\"sk-1\"\nANTHROPIC_AUTH_TOKEN =  tok \n\
                    ANTHROPIC_API_KEY=\nMY_ANTHROPIC_API_KEY=x\nANTHROPIC_API_KEY_OLD=x\n";
        assert_eq!(
            billing_lines(text),
            [("ANTHROPIC_API_KEY", "sk-1".into()), ("ANTHROPIC_AUTH_TOKEN", "tok".into())]
        );
    }
}
