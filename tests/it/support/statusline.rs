//! The CLI's own statusline figures, taken on their way to longhaul.
//!
//! longhaul hands the CLI its statusline command through `--settings`. A shell
//! wrapper in the place of the CLI puts a copying command before it. JSON is
//! not rewritten in shell: the wrapper calls this test binary for that, and
//! `rewrite_settings` below is no test but that helper.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::Lab;

/// Replaces `--settings X` (or `--settings=X`) and becomes the real CLI.
const WRAPPER: &str = r#"#!/bin/sh
rewrite() {
    file=$(mktemp "@ROOT@/settings-XXXXXX") || exit 1
    LAB_SETTINGS=$1 LAB_REWRITTEN=$file LAB_COPY="@ROOT@/statusline.jsonl" \
        "@TEST@" --exact support::statusline::rewrite_settings --ignored --quiet >/dev/null || exit 1
    printf %s "$file"
}
count=$#
while [ "$count" -gt 0 ]; do
    argument=$1; shift; count=$((count - 1))
    case $argument in
        --settings) set -- "$@" --settings "$(rewrite "$1")"; shift; count=$((count - 1)) ;;
        --settings=*) set -- "$@" --settings "$(rewrite "${argument#--settings=}")" ;;
        *) set -- "$@" "$argument" ;;
    esac
done
exec "@CLAUDE@" "$@"
"#;

impl Lab {
    /// From now on every statusline input is kept. Call it before `longhaul`.
    pub fn watch_statusline(&mut self) {
        let test = std::env::current_exe().unwrap();
        let text = WRAPPER
            .replace("@ROOT@", self.root().to_str().unwrap())
            .replace("@TEST@", test.to_str().unwrap())
            .replace("@CLAUDE@", self.cli().program.to_str().unwrap());
        let wrapper = self.root().join("claude");
        // Not written here: a descriptor open for writing could leak into a
        // child forked by another test, and the wrapper would be "busy".
        let write = r#"printf %s "$1" > "$2" && chmod 755 "$2""#;
        let status = Command::new("sh")
            .args(["-c", write, "sh", &text])
            .arg(&wrapper)
            .stdin(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        assert!(fs::metadata(&wrapper).unwrap().permissions().mode() & 0o100 != 0);
        self.set("claude.command", wrapper.to_str().unwrap());
    }

    /// The program `claude.command` names when the statusline is watched.
    pub fn wrapped_claude(&self) -> std::path::PathBuf {
        self.root().join("claude")
    }

    /// Waits for a statusline input of a session that satisfies `wanted`.
    pub fn wait_statusline(&self, session_id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        self.wait_change("a statusline input", || {
            found = self.statusline(session_id).into_iter().find(|input| wanted(input));
            found.is_some()
        });
        found.unwrap()
    }

    /// The statusline inputs of a session so far, oldest first.
    pub fn statusline(&self, session_id: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.root().join("statusline.jsonl")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|input| input["session_id"] == session_id)
            .collect()
    }
}

#[test]
#[ignore = "the wrapper's helper, not a test"]
fn rewrite_settings() {
    let variable = |name| std::env::var(name).unwrap();
    let given = variable("LAB_SETTINGS");
    let text = if given.trim_start().starts_with('{') {
        given
    } else {
        fs::read_to_string(given).unwrap()
    };
    let mut settings: Value = serde_json::from_str(&text).unwrap();
    if let Some(command) = settings["statusLine"]["command"].as_str() {
        let copy = variable("LAB_COPY");
        let both = format!(
            r#"d=$(cat); printf '%s\n' "$d" >> '{copy}'; printf '%s\n' "$d" | {{ {command}; }}"#
        );
        settings["statusLine"]["command"] = both.into();
    }
    fs::write(variable("LAB_REWRITTEN"), settings.to_string()).unwrap();
}
