//! What the CLI is started with: its settings for this session alone, its
//! arguments, and which of a person's own arguments cannot be used.
//!
//! `--settings` adds to the person's settings: their hooks go on firing next
//! to these, and only the statusline is replaced.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::permission::{COMMAND_LIMIT_MS, PERMISSION_HOOK, QUESTION_HOOK, QUESTION_TOOLS};
use super::sink::{HOOKS, SINK_COMMAND, STATUSLINE_KIND};
use crate::config::PermissionPolicy;
use crate::error::{Error, Result};

/// The CLI gives up on a hook after this long. The sink needs milliseconds,
/// but on a machine that is short of everything they can become seconds, and
/// a hook that was given up has let the compaction happen.
const HOOK_TIMEOUT_S: u64 = 20;

/// The same where an answer is waited for. Given up, it leaves a dialog that
/// nobody answers, so it is longer than the sink can take.
const ANSWER_TIMEOUT_S: u64 = COMMAND_LIMIT_MS / 1000 + 30;

/// How the CLI reaches the sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkCommand {
    /// The program to run, found by the CLI's shell.
    pub program: PathBuf,
    /// Where the sink's socket is.
    pub dir: PathBuf,
}

impl SinkCommand {
    /// The sink of this very process. The path goes on working when the
    /// program's file is replaced during the run, and ends with the process.
    pub fn of_this_process(dir: &Path) -> Self {
        let program = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
        SinkCommand { program, dir: dir.to_owned() }
    }

    /// The shell command for one kind of report.
    fn shell(&self, kind: &str) -> Result<String> {
        Ok(format!("{} {SINK_COMMAND} {kind} {}", path_word(&self.program)?, path_word(&self.dir)?))
    }

    /// The shell command for a hook that answers by the policy. It stands here
    /// and not in a file, where the session could change it.
    fn answering(&self, hook: &str, policy: &PermissionPolicy) -> Result<String> {
        let mut command = self.shell(hook)?;
        let argv: &[String] = match policy {
            PermissionPolicy::Deny => {
                command.push_str(" deny");
                &[]
            }
            PermissionPolicy::Stop => {
                command.push_str(" stop");
                &[]
            }
            PermissionPolicy::Command(argv) => {
                command.push_str(" command");
                argv
            }
        };
        for word in argv {
            command.push(' ');
            command.push_str(&shell_word(word));
        }
        Ok(command)
    }
}

fn check_policy(policy: &PermissionPolicy) -> Result<()> {
    let PermissionPolicy::Command(argv) = policy else { return Ok(()) };
    let refuse = |why: &str| {
        Err(Error::usage(format!("permissions.command {why}"))
            .hint("give the program by its full path, outside the project, and then its arguments"))
    };
    match argv.first() {
        None => refuse("is empty, and permissions.policy is \"command\""),
        Some(program) if !program.starts_with('/') => refuse("does not begin with a full path"),
        _ if argv.iter().any(|word| word.contains('\0')) => refuse("holds a NUL byte"),
        _ => Ok(()),
    }
}

/// The JSON for `--settings`. `bypass` answers the bypass-permissions warning
/// in advance: only when the person asked for the mode and allowed it.
///
/// # Errors
/// A path is not UTF-8, which JSON cannot carry; the policy's command is empty
/// or not named by a full path.
pub fn settings_json(
    sink: &SinkCommand,
    bypass: bool,
    permissions: &PermissionPolicy,
) -> Result<String> {
    check_policy(permissions)?;
    let hook = |matcher: Option<&str>, command: String, timeout_s: u64| {
        let mut entry =
            json!({"hooks": [{"type": "command", "command": command, "timeout": timeout_s}]});
        if let Some(matcher) = matcher {
            entry["matcher"] = matcher.into();
        }
        json!([entry])
    };
    let mut hooks = serde_json::Map::new();
    for name in HOOKS {
        hooks.insert((*name).to_owned(), hook(None, sink.shell(name)?, HOOK_TIMEOUT_S));
    }
    let answering = sink.answering(PERMISSION_HOOK, permissions)?;
    hooks.insert(PERMISSION_HOOK.to_owned(), hook(None, answering, ANSWER_TIMEOUT_S));
    // A question is answered before its dialog is painted. Without an answer
    // it comes to the hook above, which is enough to tell of it.
    if *permissions != PermissionPolicy::Stop {
        let matcher = QUESTION_TOOLS.join("|");
        let answering = sink.answering(QUESTION_HOOK, permissions)?;
        hooks.insert(QUESTION_HOOK.to_owned(), hook(Some(&matcher), answering, ANSWER_TIMEOUT_S));
    }
    let mut settings = json!({
        // No refresh interval: a report after each reply is enough, and each
        // one costs a process.
        "statusLine": {"type": "command", "command": sink.shell(STATUSLINE_KIND)?},
        "hooks": hooks,
        // Denied, a tool is not offered to the model at all. The first ends the
        // turn to wake up later, which is our part; the second is a way into
        // plan mode that asks nobody, while the way out asks a person.
        // AskUserQuestion stays: without it the model asks in words and ends
        // its turn; with it, it is told at once to decide by itself, and what
        // it wanted to know is reported.
        "permissions": {"deny": ["ScheduleWakeup", "EnterPlanMode"]},
        // Ending must end, not leave the session on a screen of agents.
        "disableAgentView": true,
    });
    if bypass {
        settings["skipDangerousModePermissionPrompt"] = Value::Bool(true);
    }
    Ok(settings.to_string())
}

/// The arguments of one session. The prompt goes last and behind `--`: an
/// option that takes several values would swallow it otherwise, and one that
/// begins with a dash would be taken for an option.
pub fn arguments(session_id: &str, settings: &str, own: &[String], prompt: &str) -> Vec<OsString> {
    let mut args: Vec<OsString> =
        ["--session-id", session_id, "--settings", settings].map(OsString::from).into();
    args.extend(own.iter().map(OsString::from));
    if !prompt.is_empty() {
        args.extend(["--", prompt].map(OsString::from));
    }
    args
}

/// The permission mode that runs everything unasked.
pub const BYPASS_MODE: &str = "bypassPermissions";

/// Options that cannot be passed on, and why.
const REFUSED: &[(&[&str], &str)] = &[
    (&["--session-id"], "longhaul chooses the session id, to know the transcript before it starts"),
    (
        &["--resume", "-r", "--continue", "-c", "--fork-session", "--from-pr", "--teleport"],
        "every session starts fresh; the state is handed over in dev-docs",
    ),
    (
        &["--print", "-p", "--output-format", "--input-format", "--no-session-persistence"],
        "longhaul runs the interactive session",
    ),
    (
        &["--bg", "--background", "--cloud", "--environment", "--desktop", "--tmux"],
        "the session must run in longhaul's own terminal to be supervised",
    ),
    (&["--worktree", "-w"], "longhaul works in the project directory; start it in the worktree"),
    (
        &["--settings"],
        "longhaul passes its own; put yours into .claude/settings.local.json or ~/.claude/settings.json",
    ),
    (&["--bare", "--safe-mode"], "they turn off the hooks that longhaul listens to"),
    (&["--disable-slash-commands"], "it turns off the command that starts a session"),
    (&["--help", "-h", "--version", "-v"], "it starts no session"),
];

/// Options that take the argument behind them, and no further one.
const ONE_VALUE: &[&str] = &[
    "--agent",
    "--agents",
    "--append-system-prompt",
    "--autocompact",
    "--debug-file",
    "--effort",
    "--fallback-model",
    "--model",
    "--name",
    "-n",
    "--permission-mode",
    "--plugin-dir",
    "--plugin-url",
    "--setting-sources",
    "--system-prompt",
];

/// Options that take none.
const NO_VALUE: &[&str] = &[
    "--allow-dangerously-skip-permissions",
    "--brief",
    "--chrome",
    "--dangerously-skip-permissions",
    "--ide",
    "--no-chrome",
    "--strict-mcp-config",
    "--verbose",
];

/// Refuses arguments that would take the session out of longhaul's hands.
///
/// # Errors
/// [`crate::ErrorKind::Usage`], naming the argument and the reason.
pub fn check_args(own: &[String]) -> Result<()> {
    let refuse = |arg: &str, why: &str| {
        let name = arg.split('=').next().unwrap_or(arg);
        Err(Error::usage(format!("the CLI argument {name} cannot be used: {why}"))
            .hint("take it out of claude.args or from behind `--`"))
    };
    if let Some(prompt) = stray_prompt(own) {
        return refuse(
            prompt,
            "a prompt or a subcommand; longhaul gives the prompt (session.init_prompt)",
        );
    }
    for arg in own {
        if arg == "--" {
            return refuse(arg, "longhaul gives the prompt (session.init_prompt)");
        }
        for (names, why) in REFUSED {
            if names.iter().any(|name| is_option(arg, name)) {
                return refuse(arg, why);
            }
        }
        if arg.contains('\0') {
            return Err(Error::usage("an argument of the CLI holds a NUL byte"));
        }
    }
    Ok(())
}

/// The first argument that belongs to no option: the CLI would take it for the
/// first prompt, in the place of longhaul's own. Behind an option that is not
/// known here it may be a value.
fn stray_prompt(own: &[String]) -> Option<&str> {
    let mut may_be_value = false;
    let mut args = own.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        if ONE_VALUE.contains(&arg) {
            args.next();
            may_be_value = false;
        } else if arg.starts_with('-') {
            may_be_value = !arg.contains('=') && !NO_VALUE.contains(&arg);
        } else if !may_be_value {
            return Some(arg);
        }
    }
    None
}

/// Whether `arg` is the option `name`: alone, with `=value`, or, when it is a
/// single letter, with more letters behind it.
fn is_option(arg: &str, name: &str) -> bool {
    match arg.strip_prefix(name) {
        Some("") => true,
        Some(rest) => rest.starts_with('=') || !name.starts_with("--"),
        None => false,
    }
}

/// The argument that asks for the mode that runs everything unasked, if one
/// does.
pub fn bypass_argument(own: &[String]) -> Option<String> {
    const FLAGS: [&str; 2] =
        ["--dangerously-skip-permissions", "--allow-dangerously-skip-permissions"];
    let flag = own.iter().find_map(|arg| FLAGS.into_iter().find(|flag| is_option(arg, flag)));
    flag.map(str::to_owned).or_else(|| {
        permission_modes(own)
            .find(|mode| mode.trim() == BYPASS_MODE)
            .map(|mode| format!("--permission-mode {}", mode.trim()))
    })
}

/// The values of `--permission-mode`, in order; the CLI takes the last.
pub fn permission_modes(own: &[String]) -> impl Iterator<Item = &str> {
    own.iter().enumerate().filter_map(|(at, arg)| match arg.strip_prefix("--permission-mode")? {
        "" => own.get(at + 1).map(String::as_str),
        rest => rest.strip_prefix('='),
    })
}

/// `path` as one word for a POSIX shell.
fn path_word(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| {
        Error::usage(format!(
            "{} is not UTF-8, which the CLI's settings cannot carry",
            path.display()
        ))
        .hint("choose another state directory with LONGHAUL_STATE_DIR")
    })?;
    Ok(shell_word(text))
}

/// `text` as one word for a POSIX shell.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    fn strings(args: &[&str]) -> Vec<String> {
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    #[test]
    fn settings_name_the_sink_for_the_statusline_and_every_hook() {
        let sink = SinkCommand { program: "/proc/17/exe".into(), dir: "/run/it's here".into() };
        let json: Value =
            serde_json::from_str(&settings_json(&sink, false, &PermissionPolicy::Deny).unwrap())
                .unwrap();
        assert_eq!(
            json["statusLine"]["command"],
            r"/proc/17/exe __sink statusline '/run/it'\''s here'"
        );
        assert_eq!(
            json["hooks"]["PreCompact"][0]["hooks"][0]["command"],
            r"/proc/17/exe __sink PreCompact '/run/it'\''s here'"
        );
        assert_eq!(json["hooks"].as_object().unwrap().len(), HOOKS.len() + 2);
        assert_eq!(json["permissions"]["deny"], json!(["ScheduleWakeup", "EnterPlanMode"]));
        assert_eq!(json.get("skipDangerousModePermissionPrompt"), None);
    }

    fn hook_commands(policy: &PermissionPolicy) -> (Value, String) {
        let sink = SinkCommand { program: "/p".into(), dir: "/d".into() };
        let json: Value =
            serde_json::from_str(&settings_json(&sink, false, policy).unwrap()).unwrap();
        let command = &json["hooks"][PERMISSION_HOOK][0]["hooks"][0]["command"];
        (json["hooks"][QUESTION_HOOK][0].clone(), command.as_str().unwrap().to_owned())
    }

    #[test]
    fn the_policy_stands_on_the_command_line_of_the_answering_hooks() {
        let (questions, permission) = hook_commands(&PermissionPolicy::Deny);
        assert_eq!(permission, "/p __sink PermissionRequest /d deny");
        assert_eq!(questions["matcher"], "AskUserQuestion|ExitPlanMode");
        assert_eq!(questions["hooks"][0]["command"], "/p __sink PreToolUse /d deny");

        let (questions, permission) = hook_commands(&PermissionPolicy::Stop);
        assert_eq!(permission, "/p __sink PermissionRequest /d stop");
        assert_eq!(questions, Value::Null, "one report of a question is enough");

        let argv = strings(&["/bin/ask", "it's", "", "$HOME"]);
        let (questions, permission) = hook_commands(&PermissionPolicy::Command(argv));
        let words = r"command /bin/ask 'it'\''s' '' '$HOME'";
        assert_eq!(permission, format!("/p __sink PermissionRequest /d {words}"));
        let timeout_s = questions["hooks"][0]["timeout"].as_u64().unwrap();
        assert!(timeout_s * 1000 > COMMAND_LIMIT_MS, "the CLI would give up first");
    }

    #[test]
    fn a_command_that_the_session_could_replace_is_refused() {
        let sink = SinkCommand { program: "/p".into(), dir: "/d".into() };
        for argv in [&[][..], &["ask"], &["./ask"], &["ask", "/x"], &["/ask", "\0"]] {
            let policy = PermissionPolicy::Command(strings(argv));
            let err = settings_json(&sink, false, &policy).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Usage, "{argv:?}");
        }
    }

    #[test]
    fn the_bypass_warning_is_answered_only_when_allowed() {
        let sink = SinkCommand { program: "/p".into(), dir: "/d".into() };
        let json: Value =
            serde_json::from_str(&settings_json(&sink, true, &PermissionPolicy::Deny).unwrap())
                .unwrap();
        assert_eq!(json["skipDangerousModePermissionPrompt"], true);
    }

    #[test]
    fn the_prompt_is_last_and_cannot_be_swallowed_or_taken_for_an_option() {
        let own = strings(&["--allowedTools", "Bash", "Read"]);
        let args = arguments("u-u-i-d", "{}", &own, "-v is what I want");
        let expected = [
            "--session-id",
            "u-u-i-d",
            "--settings",
            "{}",
            "--allowedTools",
            "Bash",
            "Read",
            "--",
            "-v is what I want",
        ];
        assert_eq!(args, expected.map(OsString::from));
        assert_eq!(arguments("u", "{}", &[], "").len(), 4);
    }

    #[test]
    fn arguments_that_take_the_session_away_are_refused_by_name() {
        for refused in [
            &["--session-id", "x"][..],
            &["--resume"],
            &["--resume=abc"],
            &["-r", "abc"],
            &["-rabc"],
            &["-c"],
            &["--model", "opus", "-p"],
            &["-pc"],
            &["--print"],
            &["--bg"],
            &["--settings", "x.json"],
            &["--settings={}"],
            &["--worktree"],
            &["--bare"],
            &["--model", "opus", "--", "hello"],
            &["hello"],
            &["mcp", "list"],
            &["--allowedTools=Bash,Read", "hello"],
            &["--model", "opus", "hello"],
            &["--dangerously-skip-permissions", "hello"],
        ] {
            let err = check_args(&strings(refused)).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Usage, "{refused:?}");
            assert!(!err.hints().is_empty(), "{refused:?}");
        }
        let err = check_args(&strings(&["--resume=secret"])).unwrap_err();
        assert!(err.message().contains("--resume cannot"), "{}", err.message());
    }

    #[test]
    fn other_arguments_pass() {
        for allowed in [
            &[][..],
            &["--model", "opus"],
            &["--setting-sources", "user"],
            &["--permission-mode", "plan"],
            &["--allowedTools", "Bash(git *)", "Read"],
            &["--append-system-prompt", "be brief"],
            &["--continue-on-nothing"],
            &["--debug-file", "/tmp/x"],
            &["--append-system-prompt", "-- x=y", "--verbose", "--add-dir", "../a", "../b"],
            &["--some-new-option", "value"],
        ] {
            assert!(check_args(&strings(allowed)).is_ok(), "{allowed:?}");
        }
    }

    #[test]
    fn every_spelling_of_bypass_is_seen() {
        for bypass in [
            &["--dangerously-skip-permissions"][..],
            &["--model", "opus", "--allow-dangerously-skip-permissions"],
            &["--permission-mode", "bypassPermissions"],
            &["--permission-mode=bypassPermissions"],
            &["--dangerously-skip-permissions=true"],
            &["--permission-mode", "bypassPermissions", "--permission-mode", "plan"],
        ] {
            assert!(bypass_argument(&strings(bypass)).is_some(), "{bypass:?}");
        }
        for tame in [
            &[][..],
            &["--permission-mode", "plan"],
            &["--permission-mode"],
            &["--append-system-prompt", "bypassPermissions"],
        ] {
            assert_eq!(bypass_argument(&strings(tame)), None, "{tame:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_shell_reads_back_any_path(path in "[^\\x00]{1,40}") {
            let word = shell_word(&path);
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {word}")])
                .output()
                .unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), path);
        }
    }
}
