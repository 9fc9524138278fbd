//! `config/night.sh` takes up what was killed, begins again only when told to,
//! tells a person how it ended, and exits with longhaul's own code.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/night.sh");

/// In place of longhaul: each `run` ends with the next code of a list; a code
/// above 128 is a signal it dies of.
const STAND_IN: &str = r#"
cd "$(dirname "$0")" || exit 99
echo "$*" >>calls
[ "$1" = run ] || { echo "the report"; exit 0; }
code=$(head -n 1 codes)
sed -i 1d codes
[ "$code" -le 128 ] || kill -$((code - 128)) $$
exit "$code"
"#;

struct Night {
    root: TempDir,
}

impl Night {
    /// Runs of longhaul end with these codes.
    fn new(codes: &[u8]) -> Self {
        let root = TempDir::new().unwrap();
        let lines: Vec<String> = codes.iter().map(|code| format!("{code}\n")).collect();
        fs::write(root.path().join("codes"), lines.concat()).unwrap();
        // Not written here: a descriptor open for writing could leak into a
        // child forked by another test, and the program would be "busy".
        let write = r#"printf '#!/bin/sh\n%s' "$1" >"$2/longhaul" && chmod 755 "$2/longhaul" && mkdir "$2/project""#;
        let status =
            Command::new("sh").args(["-c", write, "sh", STAND_IN]).arg(root.path()).status();
        assert!(status.unwrap().success());
        Self { root }
    }

    fn command(&self, variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new("bash");
        command
            .arg(SCRIPT)
            .arg(self.root.path().join("project"))
            .args(["--", "--model", "x y"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("LONGHAUL", self.root.path().join("longhaul"))
            .env("NIGHT_LOGS", self.root.path().join("logs"))
            .env(
                "NIGHT_NOTIFY",
                format!(
                    "{{ echo \"$CODE $HEADLINE\"; cat; }} >{}/told",
                    self.root.path().display()
                ),
            )
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, variables: &[(&str, &str)]) -> Output {
        self.command(variables).output().unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join(name)).unwrap()
    }

    /// How often `longhaul run` was started.
    fn runs(&self) -> usize {
        self.read("calls").lines().filter(|line| line.starts_with("run ")).count()
    }
}

#[test]
fn every_end_is_passed_on_told_and_not_repeated() {
    for (code, headline) in [
        (0, "done"),
        (10, "needs you"),
        (20, "a budget is spent"),
        (21, "no progress"),
        (30, "the login was refused"),
        (31, "start it again later"),
        (40, "another run holds the project"),
        (50, "its state cannot be read"),
        (51, "the disk is full or failing"),
        (64, "wrong arguments"),
        (130, "stopped"),
        (143, "stopped"),
    ] {
        let night = Night::new(&[code, 0, 0]);
        let said = night.run(&[]);
        assert_eq!(said.status.code(), Some(code.into()), "{said:?}");
        assert_eq!(night.runs(), 1, "{code}");
        let told = night.read("told");
        assert!(told.starts_with(&format!("{code} longhaul, project: ")), "{told}");
        assert!(told.contains(headline), "{code}: {told}");
        let has_report = told.contains("the report");
        assert_eq!(has_report, ![40, 64].contains(&code), "{code}: {told}");
    }
    let night = Night::new(&[0]);
    night.run(&[]);
    let project = night.root.path().join("project");
    let call = format!("run --project {} -- --model x y\n", project.display());
    assert!(night.read("calls").starts_with(&call), "{}", night.read("calls"));
}

#[test]
fn a_killed_run_is_taken_up_a_few_times() {
    for kill in [70, 134, 137, 139] {
        let night = Night::new(&[kill, kill, 0]);
        assert_eq!(night.run(&[]).status.code(), Some(0), "{kill}");
        assert_eq!(night.runs(), 3, "{kill}");
    }
    let night = Night::new(&[137; 9]);
    assert_eq!(night.run(&[("NIGHT_RETRIES", "2")]).status.code(), Some(137));
    assert_eq!(night.runs(), 3);
}

#[test]
fn after_a_usage_limit_another_run_begins_only_if_asked_for() {
    let night = Night::new(&[31, 31, 0]);
    let said = night.run(&[("NIGHT_AGAIN", "5"), ("NIGHT_PAUSE", "0")]);
    assert_eq!((said.status.code(), night.runs()), (Some(0), 3), "{said:?}");
    let night = Night::new(&[31; 9]);
    let said = night.run(&[("NIGHT_AGAIN", "2"), ("NIGHT_PAUSE", "0")]);
    assert_eq!((said.status.code(), night.runs()), (Some(31), 3), "{said:?}");
    assert!(night.read("told").contains("start it again later"));
}

#[test]
fn a_signal_ends_the_pause_and_the_night() {
    let night = Night::new(&[31, 0]);
    let log = night.root.path().join("up");
    // The pause says that it has begun: its `sleep` is ours.
    let bin = night.root.path().join("bin");
    let write = r#"mkdir "$1" && mkfifo "$2" && printf '#!/bin/sh\necho up >"%s"\nexec tail -f /dev/null\n' "$2" >"$1/sleep" && chmod 755 "$1/sleep""#;
    let status = Command::new("sh").args(["-c", write, "sh"]).args([&bin, &log]).status();
    assert!(status.unwrap().success());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let script = night.command(&[("NIGHT_AGAIN", "1"), ("PATH", &path)]).spawn().unwrap();
    assert_eq!(fs::read_to_string(&log).unwrap(), "up\n");
    kill_process(Pid::from_child(&script), Signal::TERM).unwrap();
    let said = script.wait_with_output().unwrap();
    assert_eq!(said.status.code(), Some(143), "{said:?}");
    assert_eq!(said.status.signal(), None);
    assert_eq!(night.runs(), 1);
    assert!(night.read("told").contains("stopped"));
}

#[test]
fn numbers_that_are_none_are_refused() {
    for name in ["NIGHT_RETRIES", "NIGHT_AGAIN", "NIGHT_PAUSE"] {
        let night = Night::new(&[0]);
        let said = night.run(&[(name, "1h")]);
        assert_eq!(said.status.code(), Some(64), "{said:?}");
        assert!(!night.root.path().join("calls").exists());
    }
}
