//! The CLI and the scripted API, without longhaul: if this fails, the
//! laboratory is broken, not the supervisor.

use longhaul::demo::api::{Gate, Reply, Request, Usage};
use serde_json::Value;

use super::support::{DEADLINE, Lab, Terminal, Worker};

fn print(lab: &Lab, args: &[&str]) -> Value {
    let output = lab.claude().args(["-p", "--output-format", "json"]).args(args).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    serde_json::from_str(&stdout).unwrap_or_else(|err| panic!("{err}\n{stdout}\n{stderr}"))
}

/// claude-haiku-4-5, dollars per million tokens.
fn haiku_usd(usage: Usage) -> f64 {
    (usage.input_tokens as f64
        + 5.0 * usage.output_tokens as f64
        + 1.25 * usage.cache_write_5m_tokens as f64
        + 2.0 * usage.cache_write_1h_tokens as f64
        + 0.1 * usage.cache_read_tokens as f64)
        / 1e6
}

#[test]
fn the_cli_runs_the_tools_it_is_told_to_and_bills_what_the_api_claims() {
    let worker = Worker { steps: Some(2), cache_1h_percent: 25, ..Worker::default() };
    let lab = Lab::new(worker.clone());
    let session = "6f1f9a52-6f0e-4d7a-9a70-0a4e1d3c5b21";
    let args =
        ["--session-id", session, "--model", "claude-haiku-4-5", "--allowedTools=Bash", "go"];
    let result = print(&lab, &args);

    let main: Vec<_> = lab.api.requests().into_iter().filter(|request| !request.side).collect();
    assert_eq!(main.len(), 3, "two steps and the last word");
    assert!(main.iter().all(|request| request.session_id == session));
    assert_eq!(main[0].new_user_text, "go");
    assert_eq!(lab.read("work.log"), "step 1\nstep 2\n");

    let expected: f64 = (0..3).map(|answers| haiku_usd(worker.usage(answers))).sum();
    let billed = result["total_cost_usd"].as_f64().unwrap();
    assert!((billed - expected).abs() < 1e-9, "billed {billed}, expected {expected}");
    assert_eq!(lab.context_tokens(session), Some(60_000));
    assert_eq!(result["modelUsage"]["claude-haiku-4-5"]["contextWindow"], 200_000);
    lab.wait_for_no_survivors();
}

#[test]
fn nothing_is_written_outside_the_private_home_and_the_project() {
    let lab = Lab::new(Worker { steps: Some(1), ..Worker::default() });
    print(&lab, &["--model", "claude-haiku-4-5", "--allowedTools=Bash", "go"]);
    let mut found: Vec<_> =
        std::fs::read_dir(lab.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
    found.sort();
    assert_eq!(found, ["home", "project", "state", "tmp"]);
    assert!(
        !lab.home.dir().join(".claude.json").exists(),
        "its state belongs into the configuration folder"
    );
}

#[test]
fn the_cli_tries_again_after_an_overload_and_after_a_cut_stream() {
    let lab = Lab::new(|request: &Request| {
        let mut reply = Reply::text("at last", Usage::of_context(20_000, 20_000, 50));
        match request.index_in_session {
            0 => return Reply::overloaded(),
            1 => reply.cut_after = Some(2),
            _ => {}
        }
        reply
    });
    let result = print(&lab, &["--model", "claude-haiku-4-5", "go"]);
    assert_eq!(result["result"], "at last");
    assert!(lab.api.requests().len() >= 3);
    assert!(lab.api.requests().iter().all(|request| request.new_user_text == "go"));
}

#[test]
fn a_refused_key_ends_the_turn_with_an_error() {
    let lab = Lab::new(|_: &Request| Reply::unauthorized());
    let mut command = lab.claude();
    // Without this the CLI tries a refused key ten times, for three minutes.
    command.env("CLAUDE_CODE_MAX_RETRIES", "0");
    let output = command.args(["-p", "--output-format", "json", "go"]).output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!output.status.success() && result["is_error"] == true, "{result}");
    assert_eq!(result["api_error_status"], 401, "{result}");
}

/// A session on a terminal, its statusline watched.
fn on_terminal(lab: &mut Lab, session: &str, model: &str) -> Terminal {
    lab.watch_statusline();
    let mut command = lab.command(lab.wrapped_claude());
    command
        .envs(lab.home.env(&lab.api.base_url()))
        .args(["--session-id", session, "--model", model, "--allowedTools=Bash"])
        .args([
            "--settings",
            r#"{"statusLine":{"type":"command","command":"cat > /dev/null"}}"#,
            "/session-init",
        ]);
    Terminal::start(&command)
}

/// Both forms in which a message typed in mid-turn travels.
#[test]
fn a_message_typed_in_mid_turn_reaches_the_script_whatever_the_model() {
    for model in ["claude-haiku-4-5", "claude-opus-5-5"] {
        // The second answer waits until the message is queued, and so is seen
        // to come at the next tool boundary.
        let gate = Gate::new();
        let held = gate.clone();
        let mut lab = Lab::new(move |request: &Request| match request.index_in_session {
            0 => Reply::bash("echo one", Usage::of_context(20_000, 20_000, 50)),
            1 => Reply::bash("echo two", Usage::of_context(40_000, 20_000, 50)).behind(&held),
            _ => Reply::text("that is all", Usage::of_context(60_000, 20_000, 50)),
        });
        let session = "0b1c5a34-32c0-4f7e-8d5c-5f5a0c9f1e01";
        let mut terminal = on_terminal(&mut lab, session, model);
        let first = lab.api.wait_for(DEADLINE, |r| !r.side).unwrap();
        assert!(first.new_user_text.contains("session-init"), "{}", first.new_user_text);
        lab.api.wait_for(DEADLINE, |r| r.index_in_session == 1).unwrap();
        terminal.say("CHECKPOINT: now");
        lab.wait_change("the queue-operation row", || {
            lab.transcript(session).iter().any(|row| row["type"] == "queue-operation")
        });
        gate.open();
        let told = lab.api.wait_for(DEADLINE, |r| r.index_in_session == 2).unwrap();
        assert_eq!(
            (told.new_user_text.as_str(), told.queued),
            ("CHECKPOINT: now", true),
            "{model}"
        );
        assert_eq!(told.tool_results[0].text, "two", "{model}");
        let input =
            lab.wait_statusline(session, |i| i["context_window"]["total_input_tokens"] == 60_000);
        assert_eq!(input["model"]["id"], model);
        terminal.end();
        assert_eq!(lab.context_tokens(session), Some(60_000));
        assert!(
            lab.cost_usd(session).is_some_and(|usd| usd > 0.0),
            "it ended politely, so it left its bill"
        );
        lab.wait_for_no_survivors();
    }
}
