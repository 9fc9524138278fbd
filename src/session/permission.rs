//! What the CLI is told when it wants a person's permission or answer while
//! nobody is there: by a policy that stands on the sink's command line, where
//! the session cannot change it.
//!
//! Two hooks lead here. `PreToolUse` is called for the tools that are a question
//! in themselves, before anything is painted. `PermissionRequest` is called for
//! everything else that needs a yes; it runs beside the dialog, which stands on
//! the screen until the answer arrives, and for ever if none does.

use std::ffi::OsString;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::text;

/// The hook that is called when a permission is asked.
pub const PERMISSION_HOOK: &str = "PermissionRequest";

/// The hook that is called before a tool runs.
pub const QUESTION_HOOK: &str = "PreToolUse";

/// The tools that do nothing but ask a person. A permission does not answer
/// them: the CLI ignores an `allow` and goes on waiting.
pub const QUESTION_TOOLS: &[&str] = &["AskUserQuestion", "ExitPlanMode"];

/// Longest run of the person's command, in milliseconds.
pub const COMMAND_LIMIT_MS: u64 = 60_000;

/// More than this of the command's output is not read.
const OUTPUT_MAX_BYTES: usize = 64 << 10;

/// Longest text the model is given, in characters.
const MESSAGE_MAX_CHARS: usize = 4_000;

/// Longest account of what was asked, in characters.
const WHAT_MAX_CHARS: usize = 500;

const NO_PERMISSION: &str = "Nobody is watching this session, so nobody can give this permission. \
     Do not wait for it. Decide by yourself: use another way within what is allowed, or leave this \
     step out. Note what you wanted and what you decided in dev-docs/PROJECT_SUMMARY.md, and go on \
     with the task.";

const NO_ANSWER: &str = "Nobody is watching this session, so nobody can answer. Do not wait and do \
     not ask again. Decide by yourself what serves the task best, note the question and your \
     decision in dev-docs/PROJECT_SUMMARY.md, and go on with the task.";

/// What was done about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The person's command is being asked; another report follows when it has
    /// answered, or after [`COMMAND_LIMIT_MS`]. Until then a dialog may stand
    /// on the screen, and the CLI may say that it waits.
    Asked,
    /// Refused, and the model was told why.
    Denied,
    /// Permitted.
    Allowed,
    /// Not answered: the CLI goes on waiting, and the run is to end.
    Stopped,
}

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnsweredBy {
    /// `permissions.policy`, without asking anybody.
    Policy,
    /// The person's `permissions.command`.
    Command,
}

/// One request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// The tool it is about: `Bash`, `Write`, `AskUserQuestion` …
    pub tool: String,
    /// What was asked, on one line: the command, the file, the question.
    pub what: String,
    /// What was done about it.
    pub answer: Answer,
    /// Who decided.
    pub by: AnsweredBy,
    /// Why the person's command could not decide, so that it was denied.
    pub failure: Option<String>,
}

/// The policy on the sink's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Policy {
    Deny,
    Stop,
    Command(Vec<OsString>),
}

impl Policy {
    /// From the arguments behind the directory. What cannot be read is a deny:
    /// it neither permits anything nor leaves the session waiting.
    fn from_args(args: impl IntoIterator<Item = OsString>) -> Self {
        let mut args = args.into_iter();
        match args.next().as_deref().and_then(|name| name.to_str()) {
            Some("stop") => Policy::Stop,
            Some("command") => Policy::Command(args.collect()),
            _ => Policy::Deny,
        }
    }
}

/// A decision on its way to the CLI.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    Allow,
    Deny(String),
}

/// Decides about the request `input` of `hook` by the policy in `args`, tells
/// `report` of it, and returns what the CLI reads on standard output: nothing
/// when the request is left open.
pub(super) fn answer(
    hook: &str,
    args: impl IntoIterator<Item = OsString>,
    input: &[u8],
    mut report: impl FnMut(Permission),
) -> String {
    // Unreadable input is denied like any other: a yes would be to something
    // unknown, and silence would leave the session waiting.
    let request: Value = serde_json::from_slice(input).unwrap_or(Value::Null);
    let tool = request["tool_name"].as_str().unwrap_or("unknown").to_owned();
    let is_question = QUESTION_TOOLS.contains(&tool.as_str());
    let default = if is_question { NO_ANSWER } else { NO_PERMISSION };
    let told = |answer, by, failure| Permission {
        tool: bounded(&tool, 100),
        what: what(&tool, &request["tool_input"]),
        answer,
        by,
        failure,
    };
    let (decision, told) = match Policy::from_args(args) {
        Policy::Stop => {
            report(told(Answer::Stopped, AnsweredBy::Policy, None));
            return String::new();
        }
        Policy::Deny => {
            (Decision::Deny(default.into()), told(Answer::Denied, AnsweredBy::Policy, None))
        }
        Policy::Command(argv) => {
            report(told(Answer::Asked, AnsweredBy::Command, None));
            let asked = ask(&argv, input, COMMAND_LIMIT_MS).and_then(|said| read_answer(&said));
            let failure = asked.as_ref().err().cloned();
            let decision = match asked {
                Ok(said) => said.decision(is_question, default),
                Err(why) => Decision::Deny(format!("{default} (permissions.command: {why})")),
            };
            let answer = if decision == Decision::Allow { Answer::Allowed } else { Answer::Denied };
            (decision, told(answer, AnsweredBy::Command, failure))
        }
    };
    report(told);
    output(hook, &decision)
}

/// A decision in the form that each of the two hooks has for it.
fn output(hook: &str, decision: &Decision) -> String {
    let specific = match (hook, decision) {
        (QUESTION_HOOK, Decision::Allow) => json!({"permissionDecision": "allow"}),
        (QUESTION_HOOK, Decision::Deny(message)) => {
            json!({"permissionDecision": "deny", "permissionDecisionReason": message})
        }
        (_, Decision::Allow) => json!({"decision": {"behavior": "allow"}}),
        (_, Decision::Deny(message)) => {
            json!({"decision": {"behavior": "deny", "message": message}})
        }
    };
    let mut output = json!({"hookSpecificOutput": specific});
    output["hookSpecificOutput"]["hookEventName"] = hook.into();
    output.to_string()
}

/// What is asked, as a person would put it, on one line.
fn what(tool: &str, input: &Value) -> String {
    let field = |name: &str| input[name].as_str().map(str::to_owned);
    let what = match tool {
        "AskUserQuestion" => questions(input),
        _ => ["command", "file_path", "notebook_path", "url", "query", "plan", "description"]
            .into_iter()
            .find_map(field),
    };
    let what = what.unwrap_or_else(|| match input {
        Value::Null => String::new(),
        other => other.to_string(),
    });
    bounded(&what, WHAT_MAX_CHARS)
}

/// "Which database? (sqlite, postgres)", several of them one behind the other.
fn questions(input: &Value) -> Option<String> {
    let one = |asked: &Value| {
        let labels: Vec<&str> = asked["options"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|option| option["label"].as_str())
            .collect();
        let question = asked["question"].as_str()?;
        Some(match labels.as_slice() {
            [] => question.to_owned(),
            labels => format!("{question} ({})", labels.join(", ")),
        })
    };
    let all: Vec<String> = input["questions"].as_array()?.iter().filter_map(one).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

/// One harmless line of at most `chars` characters.
fn bounded(foreign: &str, chars: usize) -> String {
    let cut: String = foreign.chars().take(chars).collect();
    let line = text::safe(cut.trim_end());
    // An escape is longer than what it stands for.
    line.chars().take(chars).collect()
}

/// What the person's command said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Said {
    decision: Word,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Allow,
    Deny,
}

impl Said {
    fn decision(self, is_question: bool, default: &str) -> Decision {
        // Only a message answers a question, so a yes carries one as well.
        if self.decision == Word::Allow && !is_question {
            return Decision::Allow;
        }
        let message = self.message.filter(|message| !message.trim().is_empty());
        let message = message.map_or_else(
            || default.to_owned(),
            |message| message.chars().take(MESSAGE_MAX_CHARS).collect(),
        );
        Decision::Deny(message)
    }
}

/// `allow`, `deny`, or `{"decision": "allow" | "deny", "message": …}`.
fn read_answer(output: &[u8]) -> Result<Said, String> {
    let output = output.trim_ascii();
    let word = match output {
        b"allow" => Some(Word::Allow),
        b"deny" => Some(Word::Deny),
        _ => None,
    };
    if let Some(decision) = word {
        return Ok(Said { decision, message: None });
    }
    if output.is_empty() {
        return Err("it said nothing".into());
    }
    serde_json::from_slice(output)
        .map_err(|_| "it said neither allow nor deny, nor JSON with such a decision".into())
}

/// Runs the person's command with `input` on its standard input, and returns
/// its output when it exits with 0. It and its group are killed after
/// `limit_ms`.
fn ask(argv: &[OsString], input: &[u8], limit_ms: u64) -> Result<Vec<u8>, String> {
    let start = Timestamp::now();
    let Some((program, args)) = argv.split_first() else {
        return Err("it is empty".into());
    };
    let cannot = |err: std::io::Error| format!("it cannot be run: {err}");
    let mut child = Command::new(program)
        .args(args)
        .stdin(as_file(input).map_err(cannot)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(cannot)?;
    let pid = Pid::from_child(&child);
    let output = follow(&mut child, start, limit_ms);
    // What it left behind in its group, and itself if it had its time.
    let _ = kill_process_group(pid, Signal::KILL);
    let status = child.wait().map_err(cannot)?;
    let output = output.map_err(cannot)?;
    match output {
        None => Err(format!("it took longer than {} s", limit_ms.div_ceil(1000))),
        Some(_) if !status.success() => Err(format!("it ended with {status}")),
        Some(output) if output.len() > OUTPUT_MAX_BYTES => Err("it said too much".into()),
        Some(output) => Ok(output),
    }
}

/// A file in memory: a command that does not read its input is not waited for,
/// and it meets no closed pipe.
fn as_file(input: &[u8]) -> std::io::Result<Stdio> {
    let mut file = std::fs::File::from(memfd_create("permission-request", MemfdFlags::CLOEXEC)?);
    file.write_all(input)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file.into())
}

/// The command's output up to its end; `None` if it is still at it after
/// `limit_ms`. A child that it left behind may hold its output open: its own
/// end decides.
fn follow(child: &mut Child, start: Timestamp, limit_ms: u64) -> std::io::Result<Option<Vec<u8>>> {
    let Some(mut stdout) = child.stdout.take() else { return Ok(Some(Vec::new())) };
    fcntl_setfl(&stdout, fcntl_getfl(&stdout)? | OFlags::NONBLOCK)?;
    let ended: OwnedFd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut output = Vec::new();
    let mut is_open = true;
    loop {
        let left_ms = limit_ms.saturating_sub(Timestamp::now().ms_since(start));
        if left_ms == 0 {
            return Ok(None);
        }
        let timeout = Timespec {
            tv_sec: (left_ms / 1000) as i64,
            tv_nsec: (left_ms % 1000 * 1_000_000) as i64,
        };
        let mut fds = vec![PollFd::new(&ended, PollFlags::IN)];
        if is_open {
            fds.push(PollFd::new(&stdout, PollFlags::IN));
        }
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
        let has_ended = !fds[0].revents().is_empty();
        if is_open {
            is_open = read_some(&mut stdout, &mut output) != Some(0);
        }
        if has_ended {
            // What it wrote just before.
            while is_open && output.len() <= OUTPUT_MAX_BYTES {
                is_open = read_some(&mut stdout, &mut output).is_some_and(|count| count > 0);
            }
            return Ok(Some(output));
        }
    }
}

/// Takes over one chunk and tells its size: 0 at the end, `None` if there is
/// nothing now. One byte above the bound is kept, to know that it was passed;
/// the rest is dropped, so that the command can end.
fn read_some(from: &mut impl Read, output: &mut Vec<u8>) -> Option<usize> {
    let mut chunk = [0; 8 << 10];
    match from.read(&mut chunk) {
        Ok(count) => {
            let room = (OUTPUT_MAX_BYTES + 1).saturating_sub(output.len());
            output.extend_from_slice(&chunk[..count.min(room)]);
            Some(count)
        }
        Err(err) => match err.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => None,
            _ => Some(0),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT_MS: u64 = 60_000;

    fn bash(command: &str) -> Vec<u8> {
        json!({"tool_name": "Bash", "tool_input": {"command": command}}).to_string().into_bytes()
    }

    fn question() -> Vec<u8> {
        let questions = json!([
            {"question": "Which database?", "options": [{"label": "sqlite"}, {"label": "none"}]},
            {"question": "Now?"},
        ]);
        json!({"tool_name": "AskUserQuestion", "tool_input": {"questions": questions}})
            .to_string()
            .into_bytes()
    }

    /// What the CLI reads, and what is reported.
    fn asked(hook: &str, policy: &[&str], input: &[u8]) -> (Value, Vec<Permission>) {
        let mut told = Vec::new();
        let args = policy.iter().map(OsString::from);
        let output = answer(hook, args, input, |permission| told.push(permission));
        let output = if output.is_empty() { Value::Null } else { output.parse().unwrap() };
        (output, told)
    }

    fn sh(script: &str) -> Vec<OsString> {
        ["/bin/sh", "-c", script].map(OsString::from).into()
    }

    fn by_command(script: &str, input: &[u8]) -> (Value, Vec<Permission>) {
        asked(PERMISSION_HOOK, &["command", "/bin/sh", "-c", script], input)
    }

    fn decision(output: &Value) -> &Value {
        &output["hookSpecificOutput"]["decision"]
    }

    #[test]
    fn denied_by_policy_in_the_form_of_each_hook() {
        let (output, told) = asked(PERMISSION_HOOK, &["deny"], &bash("curl x"));
        let expected = json!({"hookSpecificOutput": {
            "hookEventName": "PermissionRequest",
            "decision": {"behavior": "deny", "message": NO_PERMISSION},
        }});
        assert_eq!(output, expected);
        let expected = Permission {
            tool: "Bash".into(),
            what: "curl x".into(),
            answer: Answer::Denied,
            by: AnsweredBy::Policy,
            failure: None,
        };
        assert_eq!(told, [expected]);

        let (output, told) = asked(QUESTION_HOOK, &["deny"], &question());
        let expected = json!({"hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": NO_ANSWER,
        }});
        assert_eq!(output, expected);
        assert_eq!(told[0].what, "Which database? (sqlite, none) Now?");
    }

    #[test]
    fn stop_says_nothing_to_the_cli_and_tells_longhaul() {
        let (output, told) = asked(PERMISSION_HOOK, &["stop"], &question());
        assert_eq!(output, Value::Null);
        assert_eq!((told.len(), told[0].answer), (1, Answer::Stopped));
    }

    #[test]
    fn neither_unreadable_input_nor_a_missing_policy_permits_or_waits() {
        for input in [&b""[..], b"\xff", b"[1]", b"{\"tool_name\": 7}"] {
            for policy in [&["deny"][..], &[], &["nonsense"], &["command"]] {
                let (output, told) = asked(PERMISSION_HOOK, policy, input);
                assert_eq!(decision(&output)["behavior"], "deny", "{policy:?}");
                assert_eq!(told.last().unwrap().answer, Answer::Denied);
            }
        }
    }

    #[test]
    fn the_command_reads_the_request_and_decides() {
        let script = r#"grep -q '"command":"ls"' && echo allow || echo deny"#;
        let (output, told) = by_command(script, &bash("ls"));
        assert_eq!(decision(&output), &json!({"behavior": "allow"}));
        let answers: Vec<_> = told.iter().map(|told| (told.answer, told.by)).collect();
        let by = AnsweredBy::Command;
        assert_eq!(answers, [(Answer::Asked, by), (Answer::Allowed, by)]);

        let (output, told) = by_command(script, &bash("rm x"));
        assert_eq!(decision(&output), &json!({"behavior": "deny", "message": NO_PERMISSION}));
        assert_eq!((told[1].answer, &told[1].failure), (Answer::Denied, &None));
    }

    #[test]
    fn the_command_may_give_its_own_words() {
        let script = r#"echo '{"decision": "deny", "message": "use cp"}'"#;
        let (output, _) = by_command(script, &bash("mv a b"));
        assert_eq!(decision(&output)["message"], "use cp");
    }

    #[test]
    fn a_question_is_answered_by_words_and_not_by_a_yes() {
        let script = r#"echo '{"decision": "allow", "message": "sqlite"}'"#;
        let (output, told) = by_command(script, &question());
        assert_eq!(decision(&output), &json!({"behavior": "deny", "message": "sqlite"}));
        assert_eq!(told[1].answer, Answer::Denied);
        let (output, _) = by_command("echo allow", &question());
        assert_eq!(decision(&output)["message"], NO_ANSWER);
    }

    #[test]
    fn a_command_that_does_not_decide_denies_and_says_why() {
        for (script, why) in [
            ("true", "it said nothing"),
            ("echo yes", "neither allow nor deny"),
            ("echo '{\"decision\": \"perhaps\"}'", "neither allow nor deny"),
            ("echo allow; exit 3", "exit status: 3"),
            ("echo allow; kill -9 $$", "signal: 9"),
            ("echo allow; head -c 70000 /dev/zero", "said too much"),
        ] {
            let (output, told) = by_command(script, &bash("x"));
            let decision = decision(&output);
            assert_eq!(decision["behavior"], "deny", "{script}");
            assert!(decision["message"].as_str().unwrap().contains(why), "{script}: {decision}");
            assert!(told[1].failure.as_ref().unwrap().contains(why), "{script}");
        }
        let missing = [OsString::from("/nowhere/at/all")];
        assert!(ask(&missing, b"", LIMIT_MS).unwrap_err().contains("cannot be run"));
    }

    #[test]
    fn a_command_that_takes_too_long_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; echo allow; wait", pid_file.display());
        let why = ask(&sh(&script), b"", 500).unwrap_err();
        assert_eq!(why, "it took longer than 1 s");
        if let Ok(pid) = std::fs::read_to_string(&pid_file) {
            // Killed, though it may take a moment, and nobody may collect it.
            let is_dead = || {
                std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
                    .map_or(true, |stat| stat.contains(") Z"))
            };
            let start = Timestamp::now();
            while !is_dead() {
                assert!(Timestamp::now().ms_since(start) < 10_000, "{pid} lives");
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn neither_a_flood_nor_an_open_pipe_nor_unread_input_holds_it_up() {
        assert_eq!(
            ask(&sh("exec cat /dev/zero"), b"", 300).unwrap_err(),
            "it took longer than 1 s"
        );
        assert_eq!(ask(&sh("sleep 1000 & echo allow"), b"", LIMIT_MS).unwrap(), b"allow\n");
        let unread = vec![b' '; 4 << 20];
        assert_eq!(ask(&sh("echo allow"), &unread, LIMIT_MS).unwrap(), b"allow\n");
        assert_eq!(ask(&sh("wc -c"), &unread, LIMIT_MS).unwrap().trim_ascii(), b"4194304");
        let late = "exec 1>&-; sleep 0.1; exit 4";
        assert!(ask(&sh(late), b"", LIMIT_MS).unwrap_err().contains("exit status: 4"));
    }

    #[test]
    fn the_account_is_one_bounded_harmless_line() {
        for (tool, input, expected) in [
            ("Write", json!({"content": "secret", "file_path": "/a/b"}), "/a/b"),
            ("WebFetch", json!({"prompt": "p", "url": "https://x"}), "https://x"),
            ("Bash", json!({"command": "a\nb\u{1b}[2J", "description": "d"}), r"a\nb\u{1b}[2J"),
            ("ExitPlanMode", json!({}), "{}"),
            ("Odd", json!({"a": 1}), r#"{"a":1}"#),
            ("AskUserQuestion", json!({"questions": 7}), r#"{"questions":7}"#),
            ("Odd", Value::Null, ""),
        ] {
            assert_eq!(what(tool, &input), expected);
        }
        let long = what("Bash", &json!({"command": "\n".repeat(9_000)}));
        assert_eq!(long.chars().count(), 0, "blank lines are nothing");
        let long = what("Bash", &json!({"command": "\tx".repeat(9_000)}));
        assert_eq!(long.chars().count(), WHAT_MAX_CHARS);
    }

    proptest! {
        #[test]
        fn any_request_is_denied_and_told_in_bounds(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (output, told) = asked(PERMISSION_HOOK, &["deny"], &input);
            prop_assert_eq!(&decision(&output)["behavior"], "deny");
            prop_assert_eq!(told.len(), 1);
        }

        #[test]
        fn what_is_told_never_leaves_its_line(tool in ".{0,20}", command in any::<String>()) {
            let line = what(&tool, &json!({"command": command}));
            prop_assert!(line.chars().count() <= WHAT_MAX_CHARS);
            prop_assert!(!line.chars().any(text::is_hazard));
        }

        #[test]
        fn only_the_word_itself_permits(before in "[a-z\"' ]{0,3}", after in "[a-z\"' .]{0,3}") {
            let output = format!("{before}allow{after}");
            let is_word = output.trim() == "allow";
            prop_assert_eq!(read_answer(output.as_bytes()).is_ok(), is_word, "{}", output);
        }
    }
}
