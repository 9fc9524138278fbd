//! A task file that cannot be used is told: before the start to the person, in
//! the middle to the session, and if that does not help to the person again.
//! It is never a reason to start sessions without end.

use std::fs;

use longhaul::demo::api::{Block, Reply, Request, Script, Usage};

use super::support::{Checkpoint, Lab, Worker, finisher};

const FILE: &str = "dev-docs/tasks.md";

fn usage() -> Usage {
    Usage::of_context(20_000, 20_000, 50)
}

#[test]
fn before_the_start_it_is_refused() {
    let lab = Lab::new(finisher());
    let file = lab.project().join(FILE);
    let refuses = |word: &str| {
        let said = lab.refuses_as_doctor(&[], 64, "task-file");
        assert!(said.stderr.contains(word), "{word}: {}", said.stderr);
        assert!(said.stderr.contains(FILE), "{}", said.stderr);
    };
    fs::remove_file(&file).unwrap();
    refuses("is missing");
    fs::create_dir(&file).unwrap();
    refuses("directory");
    fs::remove_dir(&file).unwrap();
    assert!(lab.command("mkfifo").arg(&file).status().unwrap().success());
    refuses("a FIFO");
    fs::remove_file(&file).unwrap();
    fs::File::create(&file).unwrap().set_len(1 << 30).unwrap();
    refuses("more than");
    fs::write(&file, b"- [ ] caf\xe9\n").unwrap();
    refuses("UTF-8");
    fs::write(&file, "- [ ] one\0\n").unwrap();
    refuses("NUL");
    fs::write(&file, "").unwrap();
    refuses("empty");
    fs::write(&file, "Nothing that could ever be ticked.\n").unwrap();
    refuses("checkbox");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    refuses("outside the project");
}

#[test]
fn carriage_returns_are_no_harm() {
    let lab = Lab::new(|request: &Request| match request.index_in_session {
        0 => Reply::bash("sed -i 's/- \\[ \\]/- [x]/' dev-docs/tasks.md", usage()),
        _ => Reply::text("Done.", usage()),
    });
    lab.write(FILE, "\u{feff}# Tasks\r\n\r\n- [ ] one\r\n- [ ] two\r\n");
    let finished = lab.run().finished().ended(0, "done");
    assert_eq!(finished.count("session_started"), 1);
    assert_eq!(lab.report()["tasks_total"], 2);
    assert!(lab.read(FILE).ends_with("- [x] two\r\n"), "longhaul changed it");
}

/// Spoils the file first; mends it, all ticked, once it is told.
fn spoils(command: &'static str, mends: bool) -> impl Script {
    let refuse = Worker { checkpoint: Checkpoint::Refuse, steps: Some(0), ..Worker::default() };
    move |request: &Request| {
        if request.side {
            return refuse.reply(request);
        }
        let told = request.new_user_text.contains("The task file cannot be read");
        if mends && told {
            let mend = "rm -rf dev-docs/tasks.md; echo '- [x] one' > dev-docs/tasks.md";
            return Reply::bash(mend, usage());
        }
        if request.session_index == 0 && request.index_in_session == 0 {
            return Reply::bash(command, usage());
        }
        Reply::new(vec![Block::Text("That is all.".into())], usage())
    }
}

const SPOILING: [(&str, &str); 4] = [
    ("rm dev-docs/tasks.md", "is missing"),
    ("rm dev-docs/tasks.md; mkdir dev-docs/tasks.md", "is a directory"),
    ("rm dev-docs/tasks.md; mkfifo dev-docs/tasks.md", "not a file"),
    ("head -c 100 /dev/urandom > dev-docs/tasks.md; printf '\\377' >> dev-docs/tasks.md", "not"),
];

#[test]
fn in_the_middle_the_session_is_told_and_can_mend_it() {
    for (command, word) in SPOILING {
        let lab = Lab::new(spoils(command, true));
        let finished = lab.run().finished().ended(0, "done");
        assert_eq!(finished.count("session_started"), 1, "{command}");
        let requests = lab.api.requests();
        let told = requests.iter().find(|r| r.new_user_text.contains("cannot be read")).unwrap();
        assert!(told.new_user_text.contains(word), "{command}: {}", told.new_user_text);
        assert!(told.new_user_text.contains(FILE), "{}", told.new_user_text);
    }
}

#[test]
fn if_the_session_does_not_mend_it_a_person_is_asked() {
    for (command, word) in &SPOILING[..2] {
        let mut lab = Lab::new(spoils(command, false));
        lab.set("session.max_nudges", 1);
        let finished = lab.run().finished().ended(10, "needs_person");
        assert_eq!(finished.count("session_started"), 1, "{command}: {finished:#?}");
        let message = finished.events.last().unwrap()["message"].as_str().unwrap();
        assert!(
            message.contains("task file cannot be read") && message.contains(word),
            "{message}"
        );
        lab.wait_gone();
    }
}
