//! What is left after a run, or after it was shot: its report, its status, its
//! processes.

use std::io::{Seek, Write};
use std::time::{Duration, Instant};

use longhaul::demo::api::{Reply, Request, Script};
use rustix::process::Signal;
use serde_json::Value;

use super::process::{self, Survivor, with_variable};
use super::{DEADLINE, Finished, Lab, Run, Worker};

/// Within this time nothing of a session may live on.
pub const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Sessions before `last` (from 0) are answered by `early`, the others by `late`.
pub fn first_then(
    last: u32,
    early: impl Script + 'static,
    late: impl Script + 'static,
) -> impl Script + 'static {
    move |request: &Request| -> Reply {
        if request.session_index < last { early.reply(request) } else { late.reply(request) }
    }
}

/// Works without end, and its context hardly grows.
pub fn endless() -> Worker {
    Worker { step_tokens: 100, latency: Duration::from_millis(100), ..Worker::default() }
}

/// Ticks every box and ends its turn.
pub fn finisher() -> Worker {
    Worker { steps: Some(1), done_in_session: Some(1), ..Worker::default() }
}

/// Ticks every box after each prompt, whatever was before, and ends its turn.
pub fn ticks_at_once(request: &Request) -> Reply {
    let worker = finisher();
    if request.side {
        return worker.reply(request);
    }
    let usage = worker.usage(0);
    if request.tool_results.is_empty() {
        Reply::bash(r"sed -i 's/- \[ \]/- [x]/' dev-docs/tasks.md", usage)
    } else {
        Reply::text("All done.", usage)
    }
}

/// Runs a command to its end with this on its standard input.
pub fn told(command: &mut std::process::Command, input: &str) -> Finished {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input.as_bytes()).unwrap();
    file.rewind().unwrap();
    Run::start(command.stdin(file)).finished()
}

impl Lab {
    /// `longhaul run --json`
    pub fn run(&self) -> Run {
        self.longhaul(&["run", "--json"])
    }

    /// `longhaul run --json` with more arguments refuses with this exit code and
    /// these words on standard error, and starts nothing.
    pub fn refuses(&self, more: &[&str], code: i32, words: &[&str]) -> Finished {
        let args: Vec<&str> = ["run", "--json"].iter().chain(more).copied().collect();
        let runs = self.journals();
        let said = self.longhaul_output(&args).failed(code, words);
        assert_eq!(said.events, Vec::<Value>::new(), "it began");
        assert_eq!(self.journals(), runs, "it noted a run");
        assert_eq!(self.api.requests().len(), 0, "a session was started");
        assert_eq!(self.alive(), [], "something lives on");
        said
    }

    /// `run` refuses with the words in which `doctor` names this finding.
    pub fn refuses_as_doctor(&self, more: &[&str], code: i32, id: &str) -> Finished {
        let args: Vec<&str> = ["doctor", "--json"].iter().chain(more).copied().collect();
        let said = self.longhaul_output(&args);
        assert_eq!(said.code(), code, "doctor: {said:#?}");
        let findings: Value = serde_json::from_str(&said.stdout).unwrap();
        let list = findings["findings"].as_array().unwrap();
        let first = list.iter().find(|f| f["severity"] == "error").expect("an error");
        assert_eq!(first["id"], id, "{findings:#}");
        let words: Vec<&str> =
            ["title", "detail", "mend"].iter().map(|key| first[*key].as_str().unwrap()).collect();
        assert!(!words[0].is_empty() && !words[2].is_empty(), "{first:#}");
        self.refuses(more, code, &words)
    }

    /// Changes the CLI's own `.claude.json`.
    pub fn change_claude_json(&self, change: impl FnOnce(&mut Value)) {
        let file = self.home.config_dir().join(".claude.json");
        let mut state = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        change(&mut state);
        std::fs::write(&file, state.to_string()).unwrap();
    }

    /// The built `longhaul`, to be started in another way.
    pub fn longhaul_command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_longhaul"));
        command.args(args);
        command
    }

    /// `longhaul report --json`
    pub fn report(&self) -> Value {
        self.json(&["report", "--json"])
    }

    /// `longhaul status --json`
    pub fn status(&self) -> Value {
        self.json(&["status", "--json"])
    }

    /// A command that must succeed and print one JSON value.
    pub fn json(&self, args: &[&str]) -> Value {
        let said = self.longhaul_output(args);
        assert_eq!(said.code(), 0, "{args:?}: {said:?}");
        serde_json::from_str(&said.stdout).unwrap_or_else(|err| panic!("{err}: {said:?}"))
    }

    /// Everything alive that this test started: keepers too, which start with
    /// an empty environment, and whatever else dropped it but works here.
    pub fn alive(&self) -> Vec<Survivor> {
        let mut found = self.survivors();
        found.extend(process::working_below(self.root()));
        for run_id in self.run_ids() {
            found.extend(with_variable("LONGHAUL_KEEPER", &run_id));
        }
        found
    }

    /// The run ids in the journals, read without longhaul.
    pub fn run_ids(&self) -> Vec<String> {
        self.journals()
            .iter()
            .filter_map(|path| {
                let text = std::fs::read_to_string(path).ok()?;
                let header: Value = serde_json::from_str(text.lines().next()?.get(17..)?).ok()?;
                Some(header["run_id"].as_str()?.to_owned())
            })
            .collect()
    }

    /// The journals of all runs, oldest first.
    pub fn journals(&self) -> Vec<std::path::PathBuf> {
        fn look(dir: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    look(&entry.path(), found);
                } else if entry.file_name() == "journal" {
                    found.push(entry.path());
                }
            }
        }
        let mut found = Vec::new();
        look(&self.state_dir(), &mut found);
        found.sort();
        found
    }

    /// Nothing this test started, keepers included, lives longer than
    /// [`GONE_WITHIN`].
    pub fn wait_gone(&self) {
        let begun = Instant::now();
        let left = process::wait_for_end(|| self.alive(), GONE_WITHIN);
        assert!(left.is_empty(), "alive after {:?}: {left:?}", begun.elapsed());
    }

    /// The temporary folders of runs that are there.
    pub fn temporary_folders(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.home.tmp()).expect("the lab's TMPDIR");
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("longhaul-")).collect()
    }

    /// Waits until this file of the project is there.
    pub fn wait_file(&self, path: &str) {
        let file = self.project().join(path);
        self.wait_change(path, || file.exists());
    }

    /// Waits for the first main request of the `nth` session (from 0).
    pub fn wait_session_request(&self, nth: u32) {
        self.api.wait_for(DEADLINE, |r| !r.side && r.session_index == nth).expect("a request");
    }
}

impl Run {
    /// `kill -9`, and the process is gone.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.wait_exit();
    }
}

impl Finished {
    /// The first event of this name.
    pub fn event(&self, name: &str) -> &Value {
        self.events
            .iter()
            .find(|event| event["event"] == name)
            .unwrap_or_else(|| panic!("no {name}: {self:#?}"))
    }

    /// How many events of this name came.
    pub fn count(&self, name: &str) -> usize {
        self.events.iter().filter(|event| event["event"] == name).count()
    }

    /// It ended with this exit code, and its last event says so.
    pub fn ended(self, code: i32, outcome: &str) -> Self {
        assert_eq!(self.code(), code, "{self:#?}");
        let end = self.events.last().expect("events");
        assert_eq!(
            (&end["event"], &end["outcome"]),
            (&"run_finished".into(), &outcome.into()),
            "{self:#?}"
        );
        assert_eq!(end["exit_code"], code, "{self:#?}");
        self
    }

    /// It failed with this exit code, and every one of these words stands on
    /// standard error.
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code(), code, "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in\n{}", self.stderr);
        }
        self
    }
}

impl Lab {
    /// A program of this name and text under the laboratory's root.
    pub fn program(&self, name: &str, text: &str) {
        // Not written here: a descriptor open for writing could leak into a
        // child forked by another test, and the program would be "busy".
        let write = r#"printf %s "$1" > "$2" && chmod 755 "$2""#;
        let status = std::process::Command::new("sh")
            .args(["-c", write, "sh", text])
            .arg(self.root().join(name))
            .status();
        assert!(status.unwrap().success());
    }
}
