//! A project, a home, a state directory and a stand-in for the CLI, for real
//! `longhaul` processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use longhaul::demo::home::PrivateHome;

/// No fact a test waits for takes this long.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Notes that it was started, writes a few rows of a transcript, and waits.
const STAND_IN: &str = r#"#!/bin/sh
id=
for argument in "$@"; do
    case $previous in --session-id) id=$argument ;; esac
    case $argument in
        --version) echo "2.1.329 (Claude Code)"; exit 0 ;;
        --session-id=*) id=${argument#*=} ;;
    esac
    previous=$argument
done
echo "$id" >>"$LEDGER"
mkdir -p "$TRANSCRIPTS"
for n in 1 2 3 4 5; do
    echo '{"type":"assistant","timestamp":"2026-11-20T10:00:0'$n'.000Z","requestId":"req_'$n'","message":{"id":"msg_'$n'","model":"claude-opus-5-5","stop_reason":"end_turn","content":[{"type":"text","text":"step '$n'"}],"usage":{"input_tokens":'$n'000,"output_tokens":1}}}' >>"$TRANSCRIPTS/$id.jsonl"
done
exec sleep 1000
"#;

pub struct Place {
    pub root: tempfile::TempDir,
    home: PrivateHome,
}

impl Place {
    pub fn new() -> Self {
        // Short: the CLI's sockets lie below it.
        let root = tempfile::Builder::new().prefix("lhf-").tempdir_in("/tmp").unwrap();
        let home = PrivateHome::create(root.path()).unwrap();
        let place = Self { root, home };
        let project = place.project();
        fs::create_dir_all(project.join("dev-docs")).unwrap();
        fs::create_dir_all(project.join(".claude/commands")).unwrap();
        fs::write(project.join(".claude/commands/session-init.md"), "Go on.\n").unwrap();
        fs::write(project.join("dev-docs/PROJECT_SUMMARY.md"), "# Summary\n").unwrap();
        fs::write(project.join("dev-docs/plan.md"), "# Plan\n\nStep by step.\n").unwrap();
        fs::write(project.join("dev-docs/tasks.md"), "# Tasks\n\n- [ ] one\n- [ ] two\n").unwrap();
        place.home.trust(&project).unwrap();
        let program = place.path("claude");
        fs::write(&program, STAND_IN).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let mut env = place.home.env("http://127.0.0.1:1");
        env.insert("LEDGER".into(), place.path("ledger").display().to_string());
        let transcripts = place.home.transcript(&project, "x").parent().unwrap().to_owned();
        env.insert("TRANSCRIPTS".into(), transcripts.display().to_string());
        let env: String = env.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect();
        let config = format!("[claude]\ncommand = {program:?}\n[claude.env]\n{env}");
        fs::write(project.join("longhaul.toml"), config).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.root.path()).unwrap().join(name)
    }

    pub fn project(&self) -> PathBuf {
        self.path("project")
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// How many sessions were started.
    pub fn launches(&self) -> usize {
        fs::read_to_string(self.path("ledger")).map_or(0, |ledger| ledger.lines().count())
    }

    /// A program with nothing of the caller's environment but `PATH`, its output caught.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, state: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.project())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home.dir())
            .env("TMPDIR", self.home.tmp())
            .env("LONGHAUL_STATE_DIR", state)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the built `longhaul` to its end.
    pub fn longhaul(&self, state: &Path, args: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_longhaul"), state).args(args).output().unwrap()
    }

    /// Starts `longhaul run` and waits until the session and its transcript are in the journal.
    fn started(&self) -> (Child, PathBuf) {
        let before = self.journals();
        let child = self
            .command(env!("CARGO_BIN_EXE_longhaul"), &self.state())
            .args(["run", "--json"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let journal = wait("the session's context in the journal", || {
            let new = self.journals().into_iter().find(|journal| !before.contains(journal))?;
            fs::read_to_string(&new).ok()?.contains("\"tokens\":5000,").then_some(new)
        });
        (child, journal)
    }

    /// A run that is stopped by a person.
    pub fn finished_run(&self) -> PathBuf {
        let (mut child, journal) = self.started();
        let stopped = self.longhaul(&self.state(), &["stop", "--now"]);
        assert!(stopped.status.success(), "{stopped:?}");
        child.wait().unwrap();
        journal
    }

    /// A run that is killed.
    pub fn interrupted_run(&self) -> PathBuf {
        let (mut child, journal) = self.started();
        child.kill().unwrap();
        child.wait().unwrap();
        journal
    }

    /// The journals of all runs, in their order.
    pub fn journals(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for file in files_below(&self.state()) {
            if file.ends_with("journal") {
                found.push(file);
            }
        }
        found
    }
}

/// Every file below `folder` (links are not followed), sorted.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found
}

/// Waits until `find` finds something.
pub fn wait<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}
