//! What would stand in a dialog nobody answers, or in an error nobody reads, is
//! found before anything is started, and told by `run` as by `doctor`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::support::{Lab, Run, finisher};

#[test]
fn a_project_that_is_not_trusted() {
    let lab = Lab::new(finisher());
    lab.change_claude_json(|state| state["projects"] = serde_json::json!({}));
    let said = lab.refuses_as_doctor(&[], 10, "trust");
    assert!(said.stderr.contains("claude.trust_workspace = true"), "{}", said.stderr);
}

#[test]
fn longhaul_answers_the_trust_dialog_when_it_may() {
    let mut lab = Lab::new(finisher());
    lab.change_claude_json(|state| state["projects"] = serde_json::json!({}));
    lab.set("claude.trust_workspace", true);
    lab.run().finished().ended(0, "done");
    lab.wait_gone();
    lab.change_claude_json(|state| {
        let project = lab.project().canonicalize().unwrap();
        let trusted = &state["projects"][project.to_str().unwrap()]["hasTrustDialogAccepted"];
        assert_eq!(*trusted, true, "the CLI did not take it as a yes: {state:#}");
    });
}

#[test]
fn an_api_key_that_was_never_approved() {
    let lab = Lab::new(finisher());
    lab.change_claude_json(|state| {
        state.as_object_mut().unwrap().remove("customApiKeyResponses").unwrap();
    });
    lab.refuses_as_doctor(&[], 10, "login");
}

#[test]
fn a_cli_that_was_never_set_up() {
    let lab = Lab::new(finisher());
    lab.change_claude_json(|state| state["hasCompletedOnboarding"] = false.into());
    lab.refuses_as_doctor(&[], 10, "onboarding");
    std::fs::remove_file(lab.home.config_dir().join(".claude.json")).unwrap();
    lab.refuses_as_doctor(&[], 10, "onboarding");
}

#[test]
fn a_cli_without_a_login() {
    let mut lab = Lab::new(finisher());
    lab.set_env("ANTHROPIC_API_KEY", "");
    lab.refuses_as_doctor(&[], 30, "login");
}

#[test]
fn a_damaged_claude_json() {
    let lab = Lab::new(finisher());
    let file = lab.home.config_dir().join(".claude.json");
    std::fs::write(&file, "{\"hasCompleted").unwrap();
    lab.refuses_as_doctor(&[], 10, "claude-json");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"hasCompleted", "it was touched");
}

#[test]
fn a_cli_that_cannot_be_run() {
    let mut lab = Lab::new(finisher());
    for (command, word) in [
        ("no-such-claude", "is not on PATH"),
        ("/no/such/claude", "does not exist"),
        ("./dev-docs", "is a directory"),
        ("./dev-docs/plan.md", "is not executable"),
    ] {
        lab.set("claude.command", command);
        let said = lab.refuses_as_doctor(&[], 64, "cli");
        assert!(said.stderr.contains(word), "{command}: {}", said.stderr);
    }
    lab.program("project/text", "\u{1}\u{2}no program");
    lab.set("claude.command", "./text");
    lab.refuses_as_doctor(&[], 64, "cli");
}

#[test]
fn bypassing_permissions_that_was_not_allowed() {
    let mut lab = Lab::new(finisher());
    for args in [
        &["--", "--dangerously-skip-permissions"][..],
        &["--", "--permission-mode", "bypassPermissions"],
    ] {
        let said = lab.refuses_as_doctor(args, 64, "bypass");
        assert!(said.stderr.contains("claude.allow_bypass = true"), "{}", said.stderr);
    }
    lab.set("claude.allow_bypass", true);
    let run = lab.longhaul(&["run", "--json", "--", "--dangerously-skip-permissions"]);
    run.finished().ended(0, "done");
}

#[test]
fn a_first_prompt_that_is_no_command() {
    let lab = Lab::new(finisher());
    std::fs::remove_file(lab.project().join(".claude/commands/session-init.md")).unwrap();
    let said = lab.refuses_as_doctor(&[], 64, "init-command");
    assert!(said.stderr.contains("longhaul init"), "{}", said.stderr);
}

/// Hands everything through to the API and keeps the keys that are shown.
fn listen_in(api: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let keys = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&keys);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(api).unwrap();
            let (from_server, to_client) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || hand_on(from_server, to_client, |_| {}));
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || {
                hand_on(client, server, |bytes| {
                    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
                    let keys = text.lines().filter_map(|line| line.strip_prefix("x-api-key:"));
                    seen.lock().unwrap().extend(keys.map(|key| key.trim().to_owned()));
                });
            });
        }
    });
    (address, keys)
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, look: impl Fn(&[u8])) {
    let mut bytes = vec![0; 1 << 20];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        look(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[test]
fn a_stray_key_of_the_shell_pays_for_nothing() {
    let mut lab = Lab::new(finisher());
    let own = lab.home.env("")["ANTHROPIC_API_KEY"].clone();
    let (address, keys) = listen_in(lab.api.addr());
    lab.set_env("ANTHROPIC_BASE_URL", &format!("http://{address}"));
    let stray = "sk-ant-stray-99999999999999999999999999999999";
    let mut command = lab.longhaul_command(&["run", "--json"]);
    command.env("ANTHROPIC_API_KEY", stray).env("ANTHROPIC_AUTH_TOKEN", stray);
    Run::start(&mut command).finished().ended(0, "done");
    let keys = keys.lock().unwrap();
    assert!(!keys.is_empty(), "no key was seen at all");
    assert!(keys.iter().all(|key| *key == own), "{keys:?}");
}

#[test]
fn a_stray_key_is_no_login() {
    let mut lab = Lab::new(finisher());
    lab.set_env("ANTHROPIC_API_KEY", "");
    let stray = "sk-ant-stray-99999999999999999999999999999999";
    let mut command = lab.longhaul_command(&["run", "--json"]);
    let said = Run::start(command.env("ANTHROPIC_API_KEY", stray)).finished();
    let said = said.failed(30, &["ANTHROPIC_API_KEY is set, but not passed on"]);
    assert!(!said.stderr.contains(stray), "the key is shown");
    assert_eq!(lab.api.requests().len(), 0);
}
