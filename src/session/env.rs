//! The environment of the CLI: longhaul's own, without what would mislead the
//! CLI or bill somebody else, plus the marks of the run.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::sweep::RUN_VARIABLE;
use crate::config;

/// What belongs to this run.
#[derive(Debug, Clone, Copy)]
pub struct RunMarks<'a> {
    /// The run's id; every process of the run carries it.
    pub run_id: &'a str,
    /// A directory for temporary files of this run alone. The CLI puts sockets
    /// there, so it should be short: about 60 bytes at most.
    pub tmp_dir: &'a Path,
    /// The project, where the CLI is started.
    pub cwd: &'a Path,
}

/// Variables that decide who pays: passed on only when named in `claude.pass_env`.
pub const BILLING_VARIABLES: [&str; 2] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"];

/// Variables of a surrounding CLI session: inherited, they make the new one
/// take itself for a part of it.
const SURROUNDING_SESSION: &[&str] = &[
    "CLAUDECODE",
    "CLAUDE_CODE_CHILD_SESSION",
    "CLAUDE_CODE_SESSION_ID",
    "CLAUDE_CODE_ENTRYPOINT",
    // The editor longhaul was started from.
    "CLAUDE_CODE_SSE_PORT",
    "_",
];

/// Variables that describe the terminal longhaul was started in. The CLI runs
/// in another one, and draws and answers differently for each.
const TERMINAL: &[&str] = &[
    "COLORTERM",
    "COLUMNS",
    "LINES",
    "LC_TERMINAL",
    "LC_TERMINAL_VERSION",
    "SSH_TTY",
    "STY",
    "TERMCAP",
    "TERMINAL_EMULATOR",
    "TERMINFO",
    "TERM_PROGRAM",
    "TERM_PROGRAM_VERSION",
    "TERM_SESSION_ID",
    "VTE_VERSION",
    "WINDOW",
    "WINDOWID",
    "WT_SESSION",
];

/// The same, by prefix.
const TERMINAL_PREFIXES: &[&str] = &[
    "ALACRITTY_",
    "GHOSTTY_",
    "ITERM_",
    "KITTY_",
    "KONSOLE_",
    "TMUX",
    "VSCODE_",
    "WEZTERM_",
    "ZELLIJ",
];

/// The whole environment for the CLI. The configuration's variables come last
/// and win over everything.
pub fn child_env(
    parent: impl IntoIterator<Item = (OsString, OsString)>,
    config: &config::Claude,
    run: &RunMarks<'_>,
) -> Vec<(OsString, OsString)> {
    let mut env: BTreeMap<OsString, OsString> =
        parent.into_iter().filter(|(name, _)| is_passed_on(name, &config.pass_env)).collect();
    let own: [(&str, &OsStr); 7] = [
        ("TERM", OsStr::new("xterm-256color")),
        ("PWD", run.cwd.as_os_str()),
        ("TMPDIR", run.tmp_dir.as_os_str()),
        // An update in mid-run changes the CLI under the supervisor's feet.
        ("DISABLE_AUTOUPDATER", OsStr::new("1")),
        // A session with work in the background has no clear end.
        ("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", OsStr::new("1")),
        // A survey waits for an answer on the input line.
        ("CLAUDE_CODE_DISABLE_FEEDBACK_SURVEY", OsStr::new("1")),
        (RUN_VARIABLE, OsStr::new(run.run_id)),
    ];
    env.extend(own.map(|(name, value)| (name.into(), value.to_owned())));
    env.extend(config.env.iter().map(|(name, value)| (name.into(), value.into())));
    env.into_iter().collect()
}

/// Whether a session gets to see this variable of longhaul's own environment.
pub fn is_passed_on(name: &OsStr, pass_env: &[String]) -> bool {
    // A name that is not text is none of those below.
    let Some(name) = name.to_str() else { return true };
    if BILLING_VARIABLES.contains(&name) {
        return pass_env.iter().any(|passed| passed == name);
    }
    !(SURROUNDING_SESSION.contains(&name)
        || TERMINAL.contains(&name)
        || TERMINAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || name.starts_with("LONGHAUL_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn config(env: &[(&str, &str)], pass_env: &[&str]) -> config::Claude {
        config::Claude {
            command: "claude".into(),
            args: Vec::new(),
            env: env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            pass_env: pass_env.iter().map(|name| (*name).into()).collect(),
            trust_workspace: false,
            allow_bypass: false,
            allow_settings_changes: false,
        }
    }

    fn child(parent: &[(&str, &str)], config: &config::Claude) -> BTreeMap<String, String> {
        let run = RunMarks {
            run_id: "run-1",
            tmp_dir: Path::new("/tmp/lh"),
            cwd: Path::new("/home/me/project"),
        };
        let parent = parent.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
        child_env(parent, config, &run)
            .into_iter()
            .map(|(k, v)| (k.into_string().unwrap(), v.into_string().unwrap()))
            .collect()
    }

    #[test]
    fn what_would_mislead_the_cli_is_dropped_and_the_rest_passed_on() {
        let parent = [
            ("HOME", "/home/me"),
            ("PATH", "/bin"),
            ("ANTHROPIC_BASE_URL", "http://127.0.0.1:1"),
            ("ANTHROPIC_API_KEY", "k"),
            ("ANTHROPIC_AUTH_TOKEN", "t"),
            ("CLAUDECODE", "1"),
            ("CLAUDE_CODE_SESSION_ID", "s"),
            ("CLAUDE_CONFIG_DIR", "/c"),
            ("LONGHAUL_STATE_DIR", "/s"),
            ("LONGHAUL_RUN", "another"),
            ("TMUX", "x"),
            ("TMUX_PANE", "x"),
            ("TERM", "screen"),
            ("TERM_PROGRAM", "x"),
            ("COLUMNS", "80"),
            ("PWD", "/elsewhere"),
            ("_", "/usr/bin/longhaul"),
        ];
        let env = child(&parent, &config(&[], &[]));
        let expected = [
            ("ANTHROPIC_BASE_URL", "http://127.0.0.1:1"),
            ("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1"),
            ("CLAUDE_CODE_DISABLE_FEEDBACK_SURVEY", "1"),
            ("CLAUDE_CONFIG_DIR", "/c"),
            ("DISABLE_AUTOUPDATER", "1"),
            ("HOME", "/home/me"),
            ("LONGHAUL_RUN", "run-1"),
            ("PATH", "/bin"),
            ("PWD", "/home/me/project"),
            ("TERM", "xterm-256color"),
            ("TMPDIR", "/tmp/lh"),
        ];
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        assert_eq!(env, expected);
    }

    #[test]
    fn a_billing_variable_passes_only_when_named_or_set() {
        let parent = [("ANTHROPIC_API_KEY", "theirs"), ("ANTHROPIC_AUTH_TOKEN", "token")];
        let named = child(&parent, &config(&[], &["ANTHROPIC_API_KEY"]));
        assert_eq!(named.get("ANTHROPIC_API_KEY").map(String::as_str), Some("theirs"));
        assert_eq!(named.get("ANTHROPIC_AUTH_TOKEN"), None);
        let set = child(&parent, &config(&[("ANTHROPIC_API_KEY", "ours")], &[]));
        assert_eq!(set.get("ANTHROPIC_API_KEY").map(String::as_str), Some("ours"));
    }

    #[test]
    fn the_configuration_has_the_last_word() {
        let env = child(&[], &config(&[("TERM", "dumb"), ("DISABLE_AUTOUPDATER", "0")], &[]));
        assert_eq!(env["TERM"], "dumb");
        assert_eq!(env["DISABLE_AUTOUPDATER"], "0");
    }

    #[test]
    fn bytes_that_are_no_text_come_through() {
        let name = OsString::from_vec(vec![b'X', 0xff]);
        let value = OsString::from_vec(vec![0xfe]);
        let run = RunMarks { run_id: "r", tmp_dir: Path::new("/t"), cwd: Path::new("/p") };
        let env = child_env([(name.clone(), value.clone())], &config(&[], &[]), &run);
        assert!(env.contains(&(name, value)));
    }
}
