//! `longhaul doctor`: the findings, and how to mend each.

use serde_json::json;

use super::print::{harmless, print};
use super::target::TargetArgs;
use crate::claude_json::Env;
use crate::doctor::{Finding, Severity, examine};
use crate::{ErrorKind, Result};

/// `longhaul doctor`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DoctorArgs {
    /// Which project and configuration
    #[command(flatten)]
    pub target: TargetArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Arguments for the CLI, as `run` would get them
    #[arg(last = true, value_name = "CLAUDE_ARGS")]
    pub claude_args: Vec<String>,
}

/// Runs the command; the outcome is its exit code: 0, or that of the first error found.
///
/// # Errors
///
/// When project or configuration cannot be read at all.
pub fn run(args: &DoctorArgs) -> Result<u8> {
    let (project, mut config) = args.target.resolve()?;
    config.claude.args.extend(args.claude_args.iter().cloned());
    let findings = examine(&config, &project, &Env::of_process());
    let code = exit_code(&findings);
    if args.json {
        let list: Vec<_> = findings.iter().map(as_json).collect();
        let object =
            json!({"project": project.to_string_lossy(), "findings": list, "exit_code": code});
        print(&format!("{object}\n"))?;
    } else {
        print(&as_text(&findings))?;
    }
    Ok(code)
}

fn exit_code(findings: &[Finding]) -> u8 {
    let first = findings.iter().find(|finding| finding.severity == Severity::Error);
    first.map_or(0, |finding| finding.exit.unwrap_or(ErrorKind::Usage).exit_code())
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({
        "id": finding.id,
        "severity": finding.severity,
        "title": finding.title,
        "detail": finding.detail,
        "mend": finding.mend,
        "exit_code": finding.exit.map(ErrorKind::exit_code),
    })
}

fn as_text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.id.len()).max().unwrap_or(0);
    let mut out = String::new();
    for finding in findings {
        let mark = match finding.severity {
            Severity::Ok => '✓',
            Severity::Note => '·',
            Severity::Warning => '!',
            Severity::Error => '✗',
        };
        out.push_str(&format!("{mark} {:width$}  {}\n", finding.id, harmless(&finding.title)));
        let indent = " ".repeat(width + 4);
        if !finding.detail.is_empty() {
            out.push_str(&format!("{indent}{}\n", harmless(&finding.detail)));
        }
        if !finding.mend.is_empty() {
            out.push_str(&format!("{indent}-> {}\n", harmless(&finding.mend)));
        }
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    out.push_str(&match (errors, warnings) {
        (0, 0) => "\nready to run\n".into(),
        (0, warnings) => format!("\nready to run; {}\n", number(warnings, "warning")),
        (errors, 0) => format!("\n{}: a run is refused\n", number(errors, "error")),
        (errors, warnings) => {
            format!(
                "\n{}, {}: a run is refused\n",
                number(errors, "error"),
                number(warnings, "warning")
            )
        }
    });
    out
}

fn number(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &'static str, severity: Severity, exit: Option<ErrorKind>) -> Finding {
        Finding {
            id,
            severity,
            title: "a\u{1b}[31mb".into(),
            detail: String::new(),
            mend: "do x".into(),
            exit,
        }
    }

    #[test]
    fn the_list_is_aligned_counted_and_harmless() {
        let findings = [
            finding("one", Severity::Ok, None),
            finding("longer", Severity::Warning, None),
            finding("two", Severity::Error, Some(ErrorKind::NeedsPerson)),
            finding("three", Severity::Error, Some(ErrorKind::Usage)),
        ];
        insta::assert_snapshot!(as_text(&findings), @r"
        ✓ one     a\u{1b}[31mb
                  -> do x
        ! longer  a\u{1b}[31mb
                  -> do x
        ✗ two     a\u{1b}[31mb
                  -> do x
        ✗ three   a\u{1b}[31mb
                  -> do x

        2 errors, 1 warning: a run is refused
        ");
        assert_eq!(exit_code(&findings), 10, "the first error decides");
        assert_eq!(exit_code(&findings[..2]), 0);
        assert!(as_text(&findings[..2]).ends_with("\nready to run; 1 warning\n"));
    }
}
