//! Nobody answers at night: a question is declined, or answered by the person's
//! own command, and the run goes on; or it ends and tells what was asked.

use longhaul::demo::api::{Reply, Request, Usage};

use super::support::{Lab, Run, TICK_ALL, failures, question};

/// Asks for a permission, asks a question, ticks every box.
fn curious() -> Lab {
    let mut lab = Lab::new(|request: &Request| {
        let usage = Usage::of_context(20_000, 20_000, 50);
        match request.finished_tools().len() {
            _ if request.side => Reply::side(usage),
            0 => Reply::bash("rm -f work.log", usage),
            1 => Reply::tool("AskUserQuestion", question(), usage),
            2 => Reply::bash(TICK_ALL, usage),
            _ => Reply::text("That is it.", usage),
        }
    });
    lab.arguments(&[
        "--model=claude-haiku-4-5",
        "--permission-mode=default",
        "--allowedTools=Bash(sed:*)",
    ]);
    lab.write("work.log", "kept");
    lab
}

/// Asks a question.
fn curious_at_once() -> Lab {
    let mut lab = Lab::new(|_: &Request| {
        Reply::tool("AskUserQuestion", question(), Usage::of_context(20_000, 20_000, 50))
    });
    lab.arguments(&["--model=claude-haiku-4-5", "--permission-mode=default"]);
    lab
}

#[test]
fn by_the_clis_own_hook() {
    let lab = curious();
    let run = lab.night(&[]).finished().ended(0, "done");
    assert_eq!(run.words("dialog", "kind"), ["permission", "question"], "{}", run.dump());
    assert_eq!(run.words("dialog", "answer"), ["deny", "deny"]);
    assert!(run.words("dialog", "question")[0].contains("rm -f work.log"), "{}", run.dump());
    assert_eq!((run.count("session_started"), lab.read("work.log").as_str()), (1, "kept"));
    let report = lab.report();
    let counts = [failures(&report, "permission_prompt"), failures(&report, "question")];
    assert_eq!(counts, [1, 1], "{report:#}");
}

/// Esc ends the turn; the session is told to decide by itself.
#[test]
fn by_esc_where_hooks_are_switched_off() {
    let lab = curious();
    std::fs::write(lab.home.config_dir().join("settings.json"), r#"{"disableAllHooks": true}"#)
        .unwrap();
    let run = lab.night(&[]).finished().ended(0, "done");
    assert_eq!(run.words("dialog", "kind"), ["permission", "question"], "{}", run.dump());
    assert_eq!((run.count("session_started"), lab.read("work.log").as_str()), (1, "kept"));
    let told = |r: &Request| !r.side && r.new_user_text.contains("Decide by yourself");
    assert_eq!(lab.api.requests().iter().filter(|r| told(r)).count(), 2, "{}", run.dump());
}

#[test]
fn a_command_of_the_persons_may_allow_it() {
    let mut lab = curious();
    lab.program("decide", "#!/bin/sh\ngrep -q 'rm -f work.log' && echo allow || echo deny\n");
    let decide = lab.root().join("decide").to_string_lossy().into_owned();
    lab.set("permissions.policy", "command");
    lab.set("permissions.command", vec![decide]);
    let run = lab.night(&[]).finished().ended(0, "done");
    assert_eq!(run.words("dialog", "answer"), ["allow", "deny"], "{}", run.dump());
    assert!(!lab.project().join("work.log").exists());
}

/// Its answer would have been the other one.
#[test]
fn a_command_that_cannot_be_asked_is_warned_of() {
    let mut lab = curious();
    std::fs::write(lab.home.config_dir().join("settings.json"), r#"{"disableAllHooks": true}"#)
        .unwrap();
    lab.program("decide", "#!/bin/sh\necho allow\n");
    let decide = lab.root().join("decide").to_string_lossy().into_owned();
    lab.set("permissions.policy", "command");
    lab.set("permissions.command", vec![decide]);
    let run = lab.night(&[]).finished().ended(0, "done");
    let about = |text: &&String| text.contains("permissions.command");
    let told = run.words("warning", "text").iter().filter(about).count();
    assert_eq!((told, lab.read("work.log").as_str()), (1, "kept"), "{}", run.dump());
    let warned = run.at_ms("warning", |e| e["text"].to_string().contains("permissions.command"));
    assert!(warned < run.at_ms("dialog", |_| true), "{}", run.dump());
}

/// The run ends, and says in event and report what stood on the screen.
fn needs_a_person(lab: &Lab, run: Run, words: &str) {
    let run = run.finished().ended(10, "needs_person");
    assert_eq!(run.count("needs_person"), 1, "{}", run.dump());
    let told = run.event("needs_person");
    assert!(told["screen"].as_str().unwrap().contains(words), "{}", run.dump());
    lab.wait_gone();
    let report = lab.report();
    assert_eq!(report["needs_person"]["screen"], told["screen"], "{report:#}");
    assert_eq!(report["needs_person"]["reason"], told["reason"], "{report:#}");
}

#[test]
fn or_the_run_stops_and_shows_the_question() {
    let mut lab = curious();
    lab.set("permissions.policy", "stop");
    needs_a_person(&lab, lab.night(&[]), "Do you want to proceed?");
    // And where the session itself asks.
    let mut lab = curious_at_once();
    lab.set("permissions.policy", "stop");
    needs_a_person(&lab, lab.night(&[]), "1. sqlite");
}

#[test]
fn what_is_secret_in_the_question_is_not_shown() {
    let mut lab = curious();
    lab.set("permissions.policy", "stop");
    lab.set_env("WORK_TOKEN", "work.log");
    needs_a_person(&lab, lab.night(&[]), "rm -f [redacted]");
    let report = lab.report();
    assert!(!report["needs_person"].to_string().contains("work.log"), "{report:#}");
}

/// A dialog of a CLI to come.
#[test]
fn what_nobody_knows_is_left_to_a_person_within_a_minute() {
    let mut lab = curious();
    let rule = "\u{2500}".repeat(60);
    let paint = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec '{cli}' --version\n\
         printf '{rule}\\r\\n Would you like to upgrade your horse?\\r\\n\\r\\n\
         \u{276f} 1. Gallop\\r\\n   2. Trot\\r\\n\\r\\n Enter to confirm\\r\\n'\n\
         exec sleep 600\n",
        cli = lab.cli().program.display()
    );
    lab.program("painter", &paint);
    lab.set("claude.command", lab.root().join("painter").to_string_lossy().into_owned());
    let begun = std::time::Instant::now();
    needs_a_person(&lab, lab.night(&[]), "upgrade your horse");
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    assert_eq!(lab.api.requests().len(), 0);
}
