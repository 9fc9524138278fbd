//! One project with a home, a state directory and a ledger of its own, under a
//! temporary folder; everything started there is found again and ended.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use longhaul::demo::home::PrivateHome;
use serde_json::Value;
use tempfile::TempDir;
use toml::Table;

use crate::ledger::{self, Entry, LEDGER_VARIABLE, SCRIPT_VARIABLE, What};
use crate::procfs::{Life, Now};

use super::{kill, wait_for};

/// Marks every process of one arena.
const MARK_VARIABLE: &str = "LONGHAUL_TORTURE";

/// The stand-in, built by the first test that comes here: `cargo test --test
/// torture` builds no examples.
static STAND_IN: LazyLock<PathBuf> = LazyLock::new(|| {
    let own = std::env::current_exe().unwrap();
    let profile = own.parent().and_then(Path::parent).unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", "standin", "--target-dir"]);
    build.arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "the stand-in cannot be built");
    profile.join("examples/standin")
});

pub struct Arena {
    pub home: PrivateHome,
    mark: String,
    settings: Table,
    root: TempDir,
}

impl Arena {
    /// A trusted project with so many open boxes, and a stand-in that goes by
    /// this script.
    pub fn new(boxes: usize, script: &Value) -> Self {
        let root = tempfile::Builder::new().prefix("lht-").tempdir_in("/tmp").unwrap();
        let home = PrivateHome::create(root.path()).unwrap();
        let mark = uuid::Uuid::new_v4().to_string();
        let mut arena = Self { home, mark, settings: Table::new(), root };
        fs::create_dir(arena.path("state")).unwrap();
        arena.write("dev-docs/PROJECT_SUMMARY.md", "# Project summary\n\nA test.\n");
        arena.write("dev-docs/plan.md", "# Plan\n\nStep by step.\n");
        let list: String = (1..=boxes).map(|n| format!("- [ ] task {n}\n")).collect();
        arena.write("dev-docs/tasks.md", &format!("# Tasks\n\n{list}"));
        arena.write(".claude/commands/session-init.md", "Read dev-docs, then go on.\n");
        arena.home.trust(&arena.project()).unwrap();
        fs::write(arena.path("script.json"), script.to_string()).unwrap();
        let mut env: Table = arena
            .home
            .env("http://127.0.0.1:9")
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        for (name, value) in [(LEDGER_VARIABLE, "ledger"), (SCRIPT_VARIABLE, "script.json")] {
            env.insert(name.into(), arena.path(value).to_string_lossy().into_owned().into());
        }
        env.insert(MARK_VARIABLE.into(), arena.mark.clone().into());
        arena.set("claude.command", STAND_IN.to_string_lossy().into_owned());
        arena.set("claude.env", env);
        // What is counted here is counted by the oracle.
        arena.set("limits.no_progress_cycles", 1_000);
        arena.set("limits.max_sessions", 100_000);
        arena
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn project(&self) -> PathBuf {
        self.path("project")
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, text: &str) {
        let file = self.project().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// Makes the project a git repository with everything committed.
    pub fn git_init(&self) {
        let steps: [&[&str]; 5] = [
            &["init", "-q"],
            &["config", "user.name", "Arena"],
            &["config", "user.email", "arena@localhost"],
            &["add", "-A"],
            &["commit", "-qm", "Start"],
        ];
        for args in steps {
            assert!(self.command("git").args(args).status().unwrap().success(), "git {args:?}");
        }
    }

    /// Sets `section.key` in `longhaul.toml`.
    pub fn set(&mut self, key: &str, value: impl Into<toml::Value>) {
        let (section, key) = key.split_once('.').unwrap();
        let table = self.settings.entry(section).or_insert_with(|| Table::new().into());
        table.as_table_mut().unwrap().insert(key.to_owned(), value.into());
        fs::write(self.project().join("longhaul.toml"), self.settings.to_string()).unwrap();
    }

    /// A program in the project, marked, and with nothing of the environment
    /// of whoever runs the tests but `PATH`. Output goes to files.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let append =
            |name: &str| File::options().append(true).create(true).open(self.path(name)).unwrap();
        let mut command = Command::new(program);
        command
            .current_dir(self.project())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home.dir())
            .env("TMPDIR", self.home.tmp())
            .env("LONGHAUL_STATE_DIR", self.path("state"))
            .env(MARK_VARIABLE, &self.mark)
            .stdin(Stdio::null())
            .stdout(append("stdout"))
            .stderr(append("stderr"));
        command
    }

    /// `longhaul run --json`
    pub fn run(&self) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_longhaul"));
        command.args(["run", "--json"]);
        command
    }

    /// The stand-in itself, without longhaul, with all a session has.
    pub fn stand_in(&self) -> Command {
        let mut command = self.command(&*STAND_IN);
        command
            .envs(self.home.env("http://127.0.0.1:9"))
            .env(LEDGER_VARIABLE, self.path("ledger"))
            .env(SCRIPT_VARIABLE, self.path("script.json"));
        command
    }

    /// `longhaul report --json`
    pub fn report(&self) -> Value {
        let mut command = self.command(env!("CARGO_BIN_EXE_longhaul"));
        let said = command.args(["report", "--json"]).stdout(Stdio::piped()).output().unwrap();
        serde_json::from_slice(&said.stdout)
            .unwrap_or_else(|err| panic!("no report: {err}\n{}", self.dump()))
    }

    pub fn ledger(&self) -> Vec<Entry> {
        ledger::read(&self.path("ledger"))
    }

    /// The `nth` (from 1) entry of this kind.
    pub fn nth(&self, what: What, nth: usize) -> Option<Entry> {
        self.ledger().into_iter().filter(|entry| entry.what == what).nth(nth - 1)
    }

    /// Waits for it.
    pub fn wait_nth(&self, what: What, nth: usize) -> Entry {
        wait_for(|| self.nth(what, nth))
            .unwrap_or_else(|| panic!("no {what:?} {nth}\n{}", self.dump()))
    }

    /// How many entries of this kind there are.
    pub fn times(&self, what: What) -> usize {
        self.ledger().iter().filter(|entry| entry.what == what).count()
    }

    /// The folders of all runs, oldest first.
    pub fn runs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.path("state")];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.path().join("journal").is_file() {
                    found.push(entry.path());
                } else if entry.path().is_dir() {
                    open.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }

    /// Everything alive that was started here: by its mark, by a name of this
    /// folder among its arguments, by where it works, or by its run's id, which
    /// is all that a keeper carries.
    pub fn alive(&self) -> Vec<(Life, String)> {
        let runs: Vec<Vec<u8>> = self
            .runs()
            .iter()
            .filter_map(|run| {
                let text = fs::read_to_string(run.join("journal")).ok()?;
                let line = text.lines().next()?;
                let header: Value = serde_json::from_str(&line[line.find('{')?..]).ok()?;
                Some(header["run_id"].as_str()?.as_bytes().to_vec())
            })
            .collect();
        let own = std::process::id();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let now = Now::read(pid).filter(|now| pid != own && !now.zombie)?;
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let environment = environment(&entry.path());
            let works_here = fs::read_link(entry.path().join("cwd"))
                .is_ok_and(|cwd| cwd.starts_with(self.root.path()));
            let root = self.root.path().as_os_str().as_encoded_bytes();
            let is_ours = works_here
                || holds(&environment, self.mark.as_bytes())
                || holds(&line, root)
                || runs.iter().any(|run| holds(&environment, run));
            is_ours.then(|| (now.life, String::from_utf8_lossy(&line).replace('\0', " ")))
        })
        .collect()
    }

    /// What is left, dead or alive, of all that wrote into the ledger; what init
    /// has still to reap is init's.
    pub fn remains(&self) -> Vec<Now> {
        let lives: std::collections::HashSet<Life> =
            self.ledger().iter().map(Entry::life).collect();
        let left = lives.into_iter().filter_map(Life::now);
        left.filter(|now| !(now.zombie && now.parent == 1)).collect()
    }

    /// Nothing is alive here, and no zombie is left, within this time.
    pub fn assert_gone(&self, within: Duration) {
        let begun = Instant::now();
        loop {
            let (alive, remains) = (self.alive(), self.remains());
            if alive.is_empty() && remains.is_empty() {
                return;
            }
            assert!(begun.elapsed() < within, "left: {alive:?}, {remains:?}\n{}", self.dump());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What a person wants to see of a failure.
    pub fn dump(&self) -> String {
        let end_of = |name: &str| {
            let text = fs::read_to_string(self.path(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        ["codes", "stderr", "ledger", "stdout"]
            .map(|name| format!("--- {name}\n{}\n", end_of(name)))
            .concat()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for _ in 0..100 {
            let alive = self.alive();
            if alive.is_empty() {
                break;
            }
            for (life, _) in alive {
                kill(life);
            }
        }
        if std::thread::panicking() && std::env::var_os("LONGHAUL_TORTURE_KEEP").is_some() {
            self.root.disable_cleanup(true);
            eprintln!("kept: {}", self.root.path().display());
        }
    }
}

/// Empty for a moment in the middle of `exec`, and for good where it was cleared.
fn environment(process: &Path) -> Vec<u8> {
    for _ in 0..20 {
        match fs::read(process.join("environ")) {
            Ok(environment) if environment.is_empty() => std::thread::yield_now(),
            Ok(environment) => return environment,
            Err(_) => break,
        }
    }
    Vec::new()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
