//! One test's world, under a short temporary path, gone when dropped.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Instant;

use longhaul::demo::api::{Api, Script};
use longhaul::demo::home::PrivateHome;
use longhaul::demo::install::{self, Cli};
use notify::{RecursiveMode, Watcher};
use tempfile::TempDir;
use toml::{Table, Value};

use super::process::{self, Survivor};
use super::run::{Finished, Run};

/// The CLI all tests share: `LONGHAUL_TEST_CLAUDE`, else the pinned version,
/// installed by the first test that comes here.
static CLI: LazyLock<Result<Cli, String>> = LazyLock::new(|| {
    let chosen = std::env::var_os("LONGHAUL_TEST_CLAUDE").map(PathBuf::from);
    // Beside `target/tmp`, so that `cargo clean` removes it.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("claude-cli");
    let path = std::env::var_os("PATH");
    install::for_tests(chosen.as_deref(), &dir, path.as_deref()).map_err(|err| err.render())
});

/// That CLI; without it no test can say anything, so each fails and says why.
fn cli() -> &'static Cli {
    CLI.as_ref().unwrap_or_else(|err| panic!("the integration tests need the claude CLI\n{err}"))
}

pub struct Lab {
    // Dropped in this order: everything alive is killed first (see Drop).
    pub api: Api,
    pub home: PrivateHome,
    pub id: String,
    settings: Table,
    root: TempDir,
}

impl Lab {
    /// A trusted project with `dev-docs` and three open tasks, and an API that
    /// answers from `script`.
    pub fn new(script: impl Script + 'static) -> Self {
        // Short, and not cargo's: the CLI binds a socket under it.
        let root = tempfile::Builder::new().prefix("lh-").tempdir_in("/tmp").unwrap();
        let home = PrivateHome::create(root.path()).unwrap();
        let api = Api::start(Arc::new(script)).unwrap();
        let id = root.path().file_name().unwrap().to_string_lossy().into_owned();
        let mut lab = Self { api, home, id, settings: Table::new(), root };
        fs::create_dir(lab.state_dir()).unwrap();
        lab.write("dev-docs/PROJECT_SUMMARY.md", "# Project summary\n\nA test.\n");
        lab.write("dev-docs/plan.md", "# Plan\n\nStep by step.\n");
        lab.write("dev-docs/tasks.md", "# Tasks\n\n- [ ] one\n- [ ] two\n- [ ] three\n");
        lab.write(
            ".claude/commands/session-init.md",
            "Read dev-docs/PROJECT_SUMMARY.md, dev-docs/plan.md and dev-docs/tasks.md, then go on.\n",
        );
        lab.home.trust(&lab.project()).unwrap();
        let env: Table = lab
            .home
            .env(&lab.api.base_url())
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        lab.set("claude.command", cli().program.to_string_lossy().into_owned());
        lab.set("claude.env", env);
        lab.arguments(&["--model", "claude-haiku-4-5", "--allowedTools=Bash,Edit,Read,Write"]);
        lab
    }

    /// The temporary folder that holds everything.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.root.path().join("state")
    }

    /// The CLI under test.
    pub fn cli(&self) -> &'static Cli {
        cli()
    }

    /// Writes a file of the project, with its folders.
    pub fn write(&self, path: &str, text: &str) {
        let file = self.project().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// Reads a file of the project.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.project().join(path)).unwrap()
    }

    /// Makes the project a git repository with everything committed.
    pub fn git_init(&self) {
        for args in [&["init", "-q"][..], &["add", "-A"], &["commit", "-qm", "Start"]] {
            let status = self
                .command("git")
                .args(["-c", "user.name=Lab", "-c", "user.email=lab@localhost"])
                .args(args)
                .status()
                .unwrap();
            assert!(status.success(), "git {args:?}");
        }
    }

    /// Sets `section.key` in the project's `longhaul.toml`.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let (section, key) = key.split_once('.').unwrap();
        let table = self.settings.entry(section).or_insert_with(|| Table::new().into());
        table.as_table_mut().unwrap().insert(key.to_owned(), value.into());
        fs::write(self.project().join("longhaul.toml"), self.settings.to_string()).unwrap();
    }

    /// Sets one variable of `claude.env`.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let mut env = self.settings["claude"]["env"].as_table().unwrap().clone();
        env.insert(name.to_owned(), value.into());
        self.set("claude.env", env);
    }

    /// Replaces `claude.args`.
    pub fn arguments(&mut self, args: &[&str]) {
        self.set("claude.args", args.iter().map(|arg| Value::from(*arg)).collect::<Vec<_>>());
    }

    /// A command in the project with a clean environment: nothing of the
    /// person who runs the tests reaches it but `PATH`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.project())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home.dir())
            .env("TMPDIR", self.home.tmp())
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env("LONGHAUL_STATE_DIR", self.state_dir())
            .env("LAB_ID", &self.id)
            .stdin(Stdio::null());
        command
    }

    /// The CLI itself, without longhaul.
    pub fn claude(&self) -> Command {
        let mut command = self.command(&cli().program);
        command.envs(self.home.env(&self.api.base_url()));
        command
    }

    /// Starts the built `longhaul` in the project.
    pub fn longhaul(&self, args: &[&str]) -> Run {
        Run::start(self.command(env!("CARGO_BIN_EXE_longhaul")).args(args))
    }

    /// Runs a `longhaul` command to its end.
    pub fn longhaul_output(&self, args: &[&str]) -> Finished {
        self.longhaul(args).finished()
    }

    /// Waits until something is true that a change of a file under the
    /// laboratory's root (any depth) brings about.
    pub fn wait_change(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let (sender, changes) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(move |_| {
            let _ = sender.send(());
        })
        .unwrap();
        // Watched before the first look: no change can fall in between.
        watcher.watch(self.root(), RecursiveMode::Recursive).unwrap();
        let deadline = Instant::now() + super::DEADLINE;
        while !is_so() {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(changes.recv_timeout(left).is_ok(), "{what} did not come");
        }
    }

    /// Everything alive that this test started, however deep.
    pub fn survivors(&self) -> Vec<Survivor> {
        process::with_variable("LAB_ID", &self.id)
    }

    /// Waits until nothing this test started is alive.
    pub fn wait_for_no_survivors(&self) {
        let left = process::wait_for_end(|| self.survivors(), super::DEADLINE);
        assert!(left.is_empty(), "still alive: {left:?}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        process::kill_all(|| self.survivors());
        if std::thread::panicking() && std::env::var_os("LAB_KEEP").is_some() {
            self.root.disable_cleanup(true);
            eprintln!("the laboratory is kept in {}", self.root.path().display());
        }
    }
}
