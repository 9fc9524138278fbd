//! What the CLI does with the sink's answers: the session is never stuck at a
//! dialog, the model is told to decide by itself, longhaul hears of it, and a
//! compaction is held while it does.

use std::path::PathBuf;
use std::sync::Arc;

use longhaul::config::PermissionPolicy;
use longhaul::demo::api::{Reply, Request, Usage};
use longhaul::session::permission::{Answer, AnsweredBy, Permission};
use longhaul::session::settings::{SinkCommand, settings_json};
use longhaul::session::sink::{SinkEvent, SinkSocket};
use serde_json::{Value, json};

use super::support::{DEADLINE, Lab, Terminal, question};

const SESSION: &str = "5f0c4c4e-7a3e-4b0f-9d52-1d0f6a2b7c11";

/// A session on a terminal with longhaul's own settings, and the sink's end.
struct Session {
    lab: Lab,
    terminal: Terminal,
    runtime: tokio::runtime::Runtime,
    sink: SinkSocket,
}

impl Session {
    fn start(lab: Lab, policy: &PermissionPolicy, args: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = lab.root().join("sink");
        let sink = {
            let _inside = runtime.enter();
            SinkSocket::bind(&dir).unwrap()
        };
        let program = PathBuf::from(env!("CARGO_BIN_EXE_longhaul"));
        let bypass = args.contains(&BYPASS);
        let settings = settings_json(&SinkCommand { program, dir }, bypass, policy).unwrap();
        let mut command = lab.claude();
        command
            .args(["--session-id", SESSION, "--settings", &settings])
            .args(["--model", "claude-haiku-4-5"])
            .args(args)
            .args(["--", "go"]);
        Session { terminal: Terminal::start(&command), lab, runtime, sink }
    }

    /// The next report of the sink that is wanted.
    fn told<T>(&self, mut wanted: impl FnMut(SinkEvent) -> Option<T>) -> T {
        let next = async {
            loop {
                let report = self.sink.recv().await.unwrap();
                assert_eq!(report.session_id.as_deref().unwrap_or(SESSION), SESSION);
                if let Some(told) = wanted(report.event) {
                    return told;
                }
            }
        };
        self.runtime.block_on(async { tokio::time::timeout(DEADLINE, next).await }).unwrap()
    }

    fn permission(&self) -> Permission {
        self.told(|event| match event {
            SinkEvent::Permission(told) => Some(told),
            _ => None,
        })
    }

    /// The request in which the model reads the result of its first tool call.
    fn second_request(&self) -> Arc<Request> {
        self.lab.api.wait_for(DEADLINE, |r| !r.side && r.index_in_session == 1).unwrap()
    }

    fn end(self) -> String {
        let screen = self.terminal.end();
        self.lab.wait_for_no_survivors();
        screen
    }
}

fn usage() -> Usage {
    Usage::of_context(20_000, 20_000, 50)
}

/// Calls one tool and ends its turn when that has a result.
fn calling(tool: &'static str, input: Value) -> Lab {
    Lab::new(move |request: &Request| match request.index_in_session {
        0 => Reply::tool(tool, input.clone(), usage()),
        _ => Reply::text("so be it", usage()),
    })
}

/// A word that stands on the screen only while the question does.
const CHOICE: &str = "postgres";

/// In this mode nothing is asked, except questions.
const BYPASS: &str = "--dangerously-skip-permissions";

const ASK_FIRST: [&str; 2] = ["--permission-mode", "default"];

#[test]
fn a_permission_is_denied_and_the_session_goes_on() {
    let lab = calling("Bash", json!({"command": "rm -f work.log", "description": "tidy up"}));
    lab.write("work.log", "kept");
    let session = Session::start(lab, &PermissionPolicy::Deny, &ASK_FIRST);
    let result = session.second_request().tool_results[0].clone();
    assert!(result.is_error && result.text.contains("Nobody is watching"), "{}", result.text);
    assert!(result.text.contains("dev-docs/PROJECT_SUMMARY.md"), "{}", result.text);
    let told = session.permission();
    assert_eq!((told.tool.as_str(), told.what.as_str()), ("Bash", "rm -f work.log"));
    assert_eq!((told.answer, told.by), (Answer::Denied, AnsweredBy::Policy));
    assert_eq!(session.lab.read("work.log"), "kept");
    session.end();
}

#[test]
fn a_question_is_answered_before_its_dialog_is_painted() {
    let session =
        Session::start(calling("AskUserQuestion", question()), &PermissionPolicy::Deny, &[BYPASS]);
    let result = session.second_request().tool_results[0].clone();
    assert!(result.is_error && result.text.contains("Decide by yourself"), "{}", result.text);
    let told = session.permission();
    assert_eq!(told.tool, "AskUserQuestion");
    assert_eq!(told.what, "Which database? (sqlite, postgres)");
    let screen = session.end();
    assert!(!screen.contains(CHOICE), "the dialog was painted\n{screen}");
}

#[test]
fn the_way_into_plan_mode_is_not_offered_and_a_question_is() {
    let session = Session::start(
        calling("EnterPlanMode", json!({})),
        &PermissionPolicy::Deny,
        &["--permission-mode", "acceptEdits"],
    );
    let second = session.second_request();
    assert!(second.tool_results[0].is_error, "{}", second.tool_results[0].text);
    let tools = second.body["tools"].as_array().unwrap();
    let offers = |name: &str| tools.iter().any(|tool| tool["name"] == name);
    assert!(offers("AskUserQuestion") && !offers("ScheduleWakeup"));
    session.end();
}

#[test]
fn with_stop_longhaul_is_told_and_nothing_is_answered() {
    let lab = calling("AskUserQuestion", question());
    let session = Session::start(lab, &PermissionPolicy::Stop, &ASK_FIRST);
    let told = session.permission();
    assert_eq!((told.answer, told.by), (Answer::Stopped, AnsweredBy::Policy));
    assert_eq!(told.what, "Which database? (sqlite, postgres)");
    // The CLI itself says that it waits, some seconds later.
    session.told(|event| matches!(event, SinkEvent::Notification { .. }).then_some(()));
    assert_eq!(session.lab.api.requests().iter().filter(|r| !r.side).count(), 1);
    let screen = session.end();
    assert!(screen.contains(CHOICE), "the dialog was not painted\n{screen}");
}

#[test]
fn the_persons_command_allows_and_answers() {
    let lab = calling("Bash", json!({"command": "rm -f work.log", "description": "tidy up"}));
    lab.write("work.log", "to be removed");
    let script = lab.root().join("decide.sh");
    std::fs::write(&script, "grep -q 'rm -f work.log' && echo allow\n").unwrap();
    let argv = vec!["/bin/sh".to_owned(), script.to_string_lossy().into_owned()];
    let session = Session::start(lab, &PermissionPolicy::Command(argv), &ASK_FIRST);
    assert!(!session.second_request().tool_results[0].is_error);
    let answers = [session.permission().answer, session.permission().answer];
    assert_eq!(answers, [Answer::Asked, Answer::Allowed]);
    assert!(!session.lab.project().join("work.log").exists());
    session.end();

    let argv = ["/bin/sh", "-c", r#"echo '{"decision":"allow","message":"Take sqlite."}'"#];
    let session = Session::start(
        calling("AskUserQuestion", question()),
        &PermissionPolicy::Command(argv.map(str::to_owned).into()),
        &ASK_FIRST,
    );
    let result = session.second_request().tool_results[0].clone();
    assert!(result.text.contains("Take sqlite."), "{}", result.text);
    session.end();
}

#[test]
fn a_compaction_is_held_while_longhaul_listens() {
    // Beyond the point where it compacts from the first answer on.
    let lab = Lab::new(|request: &Request| {
        let usage = Usage::of_context(97_000, 20_000, 50);
        match request.index_in_session {
            0..3 => Reply::bash("echo more", usage),
            _ => Reply::text("that is all", usage),
        }
    });
    let args = ["--autocompact", "100000", "--allowedTools=Bash"];
    let session = Session::start(lab, &PermissionPolicy::Deny, &args);
    let trigger = session.told(|event| match event {
        SinkEvent::PreCompact { trigger } => trigger,
        _ => None,
    });
    assert_eq!(trigger, "auto");
    session.lab.api.wait_for(DEADLINE, |r| !r.side && r.index_in_session == 3).unwrap();
    // A compaction would have asked for a summary in between.
    let requests = session.lab.api.requests();
    for request in requests.iter().filter(|r| !r.side && r.index_in_session > 0) {
        assert_eq!(request.new_user_text, "");
        assert_eq!(request.tool_results[0].text, "more");
    }
    session.end();
}
