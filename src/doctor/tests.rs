//! Each finding, in a made-up home that lacks exactly one thing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::{Value, json};

use super::*;

const KEY: &str = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz";

/// A home, a project and a CLI in which nothing is wrong.
struct World {
    _keep: tempfile::TempDir,
    base: PathBuf,
    project: PathBuf,
    env: Vec<(String, String)>,
    config: Config,
    is_root: bool,
    global: Value,
}

impl World {
    fn healthy() -> World {
        let keep = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(keep.path()).unwrap();
        let project = base.join("project");
        let text = |path: &Path| path.to_str().unwrap().to_string();
        let env = vec![
            ("HOME".into(), text(&base.join("home"))),
            ("PATH".into(), format!("{}:/usr/bin:/bin", text(&base.join("bin")))),
            ("TMPDIR".into(), text(&base)),
        ];
        let global = json!({
            "hasCompletedOnboarding": true,
            "projects": {text(&project): {"hasTrustDialogAccepted": true}},
        });
        let config = Config::defaults();
        let mut world = World { _keep: keep, base, project, env, config, is_root: false, global };
        world.write(
            "home/.claude/.credentials.json",
            &json!({"claudeAiOauth": {"accessToken": "t", "subscriptionType": "max"}}).to_string(),
        );
        world.write("project/.claude/commands/session-init.md", "Read dev-docs and go on.\n");
        world.write("project/dev-docs/tasks.md", "- [x] one\n- [ ] two\n");
        world.write("project/dev-docs/plan.md", "plan\n");
        world.write("project/dev-docs/PROJECT_SUMMARY.md", "summary\n");
        world.script("bin/claude", "echo '2.1.329 (Claude Code)'");
        world.set_global(|_| {});
        world
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.base.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.base.join(path)).unwrap();
    }

    /// Written by another process: a descriptor open for writing in this one
    /// could be inherited by a fork of another test, and exec refuses such files.
    fn script(&self, path: &str, body: &str) {
        let path = self.base.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        let status = Command::new("/bin/sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
            .arg(&path)
            .arg(body)
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn set_global(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.global);
        self.write("home/.claude.json", &self.global.to_string());
    }

    fn set_env(&mut self, name: &str, value: &str) {
        self.env.retain(|(key, _)| key != name);
        self.env.push((name.into(), value.into()));
    }

    fn child_env(&mut self, name: &str, value: &str) {
        self.config.claude.env.insert(name.into(), value.into());
    }

    fn args(&mut self, args: &[&str]) {
        self.config.claude.args = args.iter().map(ToString::to_string).collect();
    }

    fn examine(&self) -> Vec<Finding> {
        let env = Env::of(self.env.clone());
        examine_as(&self.config, &self.project, &env, self.is_root)
    }

    #[track_caller]
    fn find(&self, id: &str) -> Finding {
        let findings = self.examine();
        findings
            .iter()
            .find(|finding| finding.id == id)
            .unwrap_or_else(|| panic!("no {id} in {findings:#?}"))
            .clone()
    }

    /// Exactly one error, which is the one a run is refused with.
    #[track_caller]
    fn the_error(&self) -> (&'static str, ErrorKind, String) {
        let findings = self.examine();
        let errors: Vec<&Finding> =
            findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
        assert_eq!(errors.len(), 1, "{findings:#?}");
        assert!(!errors[0].mend.is_empty(), "{:#?}", errors[0]);
        let refused = refuse(&findings).unwrap();
        assert_eq!(Some(refused.kind()), errors[0].exit);
        (errors[0].id, refused.kind(), refused.render())
    }

    #[track_caller]
    fn no_error(&self) {
        let findings = self.examine();
        assert!(refuse(&findings).is_none(), "{findings:#?}");
    }
}

#[test]
fn a_healthy_world_has_no_complaint_and_leaves_no_trace() {
    let world = World::healthy();
    let findings = world.examine();
    let bad: Vec<&Finding> =
        findings.iter().filter(|f| f.severity > Severity::Note && f.id != "disk").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(!world.base.join("home/.local").exists(), "the state directory is only looked at");
    let ids: Vec<&str> = findings.iter().map(|finding| finding.id).collect();
    assert_eq!(
        ids,
        [
            "cli",
            "permissions",
            "onboarding",
            "trust",
            "login",
            "init-command",
            "task-file",
            "dev-docs",
            "state-dir",
            "disk"
        ]
    );
}

#[test]
fn the_cli_must_be_there_and_run() {
    let mut world = World::healthy();
    let absent = world.base.join("none");
    for (command, words) in [
        ("no-such-claude".to_string(), "is not on PATH"),
        (absent.to_str().unwrap().to_string(), "does not exist"),
        (world.project.to_str().unwrap().to_string(), "is a directory"),
        ("./dev-docs/plan.md".to_string(), "is not executable"),
    ] {
        world.config.claude.command = command;
        let (id, kind, shown) = world.the_error();
        assert_eq!((id, kind), ("cli", ErrorKind::Usage));
        assert!(shown.contains(words), "{shown}");
    }
    world.script("bin/broken", "exit 3");
    world.config.claude.command = "broken".into();
    let silent = world.find("cli");
    assert_eq!(silent.severity, Severity::Warning);
    assert!(silent.detail.contains("failed (exit status: 3)"));
    world.script("bin/old", "echo '2.1.100 (Claude Code)'");
    world.config.claude.command = "old".into();
    assert_eq!(world.find("cli").severity, Severity::Warning);
    world.write("bin/plain", "x");
    fs::set_permissions(world.base.join("bin/plain"), fs::Permissions::from_mode(0o644)).unwrap();
    world.config.claude.command = "plain".into();
    assert!(world.the_error().2.contains("plain is not executable"));
}

#[test]
fn a_cli_that_leaves_a_child_on_its_pipe_is_not_waited_for() {
    let mut world = World::healthy();
    // The sleeping child keeps standard output open for longer than any test may take.
    world.script("bin/lingering", "sleep 3600 & echo '2.1.329 (Claude Code)'");
    world.config.claude.command = "lingering".into();
    assert_eq!(world.find("cli").severity, Severity::Ok);
}

#[test]
fn onboarding_and_a_damaged_file_need_a_person() {
    let mut world = World::healthy();
    world.set_global(|global| global["hasCompletedOnboarding"] = json!(false));
    assert_eq!(world.the_error().0, "onboarding");
    world.write("home/.claude.json", "");
    assert!(world.find("onboarding").detail.contains("~/.claude.json is empty"));
    for text in ["{\"hasCompletedOnboarding\":tr", "[]"] {
        world.write("home/.claude.json", text);
        let (id, kind, _) = world.the_error();
        assert_eq!((id, kind), ("claude-json", ErrorKind::NeedsPerson), "{text:?}");
    }
    world.write("home/.claude/backups/.claude.json.backup.1", "{}");
    assert!(world.the_error().2.contains(".claude.json.backup.1"), "the CLI's own backup is named");
    world.remove("home/.claude.json");
    world.config.claude.trust_workspace = true;
    let (id, kind, shown) = world.the_error();
    assert_eq!((id, kind), ("onboarding", ErrorKind::NeedsPerson));
    assert!(shown.contains("there is no ~/.claude.json"), "{shown}");
    world.env.retain(|(name, _)| name != "HOME");
    world.set_env("LONGHAUL_STATE_DIR", "/nonexistent/state");
    assert_eq!(world.find("home").exit, Some(ErrorKind::Usage));
}

#[test]
fn an_untrusted_project_is_refused_unless_longhaul_may_answer() {
    let mut world = World::healthy();
    world.set_global(|global| global["projects"] = json!({}));
    let (id, kind, shown) = world.the_error();
    assert_eq!((id, kind), ("trust", ErrorKind::NeedsPerson));
    assert!(
        shown.contains("is not trusted") && shown.contains("claude.trust_workspace"),
        "{shown}"
    );
    world.config.claude.trust_workspace = true;
    world.no_error();
}

#[test]
fn another_home_and_config_dir_of_the_child_are_respected() {
    let mut world = World::healthy();
    let moved = world.base.join("moved");
    world.child_env("CLAUDE_CONFIG_DIR", moved.to_str().unwrap());
    assert_eq!(world.find("onboarding").severity, Severity::Error);
    world.write("moved/.claude.json", &world.global.to_string());
    world.write(
        "moved/.credentials.json",
        &json!({"claudeAiOauth": {"accessToken": "t"}}).to_string(),
    );
    world.no_error();
}

#[test]
fn some_login_is_needed() {
    let mut world = World::healthy();
    world.remove("home/.claude/.credentials.json");
    world.set_global(|global| global["oauthAccount"] = json!({"emailAddress": "a@example.org"}));
    assert_eq!(
        world.the_error().1,
        ErrorKind::Authentication,
        "a name without a token is no login"
    );
    world.write("home/.claude/.credentials.json", "{}");
    assert_eq!(world.the_error().0, "login");
    for (name, value) in [
        ("ANTHROPIC_AUTH_TOKEN", "tok"),
        ("CLAUDE_CODE_OAUTH_TOKEN", "tok"),
        ("CLAUDE_CODE_USE_BEDROCK", "1"),
        ("CLAUDE_CODE_USE_VERTEX", "true"),
    ] {
        world.config.claude.env.clear();
        world.child_env(name, value);
        assert_eq!(world.find("login").severity, Severity::Ok, "{name}");
    }
    world.config.claude.env.clear();
    world.child_env("CLAUDE_CODE_USE_BEDROCK", "0");
    assert_eq!(world.find("login").severity, Severity::Error);
    for path in ["home/.claude/settings.json", "project/.claude/settings.local.json"] {
        world.write(path, &json!({"apiKeyHelper": "pass show key"}).to_string());
        assert_eq!(world.find("login").severity, Severity::Ok, "{path}");
        world.remove(path);
    }
}

#[test]
fn a_key_must_have_been_approved() {
    let mut world = World::healthy();
    let tail = &KEY[KEY.len() - 20..];
    world.child_env("ANTHROPIC_API_KEY", KEY);
    let (id, kind, shown) = world.the_error();
    assert_eq!(
        (id, kind),
        ("login", ErrorKind::NeedsPerson),
        "the stored login does not keep the CLI from asking"
    );
    assert!(shown.contains("…wxyz") && !shown.contains("uvwxyz"), "{shown}");
    world.set_global(|global| {
        global["customApiKeyResponses"] = json!({"approved": [tail], "rejected": []})
    });
    assert!(world.find("login").title.contains("pays"));
    world.set_global(|global| {
        global["customApiKeyResponses"] = json!({"approved": [], "rejected": [tail]})
    });
    assert!(world.find("login").title.contains("max"), "a rejected key is as good as none");
    world.remove("home/.claude/.credentials.json");
    let (_, kind, shown) = world.the_error();
    assert_eq!(kind, ErrorKind::Authentication);
    assert!(shown.contains("answered with No"), "{shown}");
    // In the settings it counts the same.
    world.config.claude.env.clear();
    world.set_global(|global| global["customApiKeyResponses"] = json!({}));
    world.write(
        "home/.claude/settings.json",
        &json!({"env": {"ANTHROPIC_API_KEY": KEY}}).to_string(),
    );
    assert_eq!(world.the_error().1, ErrorKind::NeedsPerson);
}

#[test]
fn a_stray_key_is_told_and_never_shown() {
    let mut world = World::healthy();
    world.set_env("ANTHROPIC_API_KEY", KEY);
    let finding = world.find("stray-key");
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.mend.contains("pass_env"));
    world.no_error();
    world.remove("home/.claude/.credentials.json");
    let (_, kind, shown) = world.the_error();
    assert_eq!(kind, ErrorKind::Authentication);
    assert!(shown.contains("ANTHROPIC_API_KEY is set, but not passed on"), "{shown}");
    world.config.claude.pass_env = vec!["ANTHROPIC_API_KEY".into()];
    assert_eq!(world.the_error().1, ErrorKind::NeedsPerson, "passed on, it has to be approved");
    world.write("project/.env", &format!("ANTHROPIC_API_KEY={KEY}\n"));
    world.write(
        "project/.claude/settings.json",
        &json!({"env": {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "http://x"}}).to_string(),
    );
    assert_eq!(world.find("dotenv").severity, Severity::Warning);
    assert!(world.find("project-settings").title.contains("ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL"));
    for finding in world.examine() {
        assert!(!format!("{finding:?}").contains("qrstuv"), "{finding:?}");
    }
}

#[test]
fn settings_the_cli_would_stop_at_are_refused() {
    let world = World::healthy();
    for path in ["home/.claude/settings.json", "project/.claude/settings.json"] {
        for text in ["{bad", "[]", "{\"permissions\":{\"defaultMode\":\"nonsense\"}}"] {
            world.write(path, text);
            let (id, kind, _) = world.the_error();
            assert_eq!((id, kind), ("settings", ErrorKind::NeedsPerson), "{path} {text}");
        }
        world.write(path, "");
        world.no_error();
        world.remove(path);
    }
}

#[test]
fn settings_without_hooks_are_a_warning() {
    let world = World::healthy();
    world.write("home/.claude/settings.json", "{\"disableAllHooks\": true}");
    assert_eq!(world.find("hooks").severity, Severity::Warning);
    world.no_error();
}

#[test]
fn programs_of_the_person_must_be_there_and_the_place_of_the_key_is_named() {
    let mut world = World::healthy();
    let set = |world: &mut World, file: &str, flags: &[&str]| {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        world.config = Config::from_text("longhaul.toml", file, &flags).unwrap();
        refuse(&world.examine()).map(|err| (err.kind(), err.message().to_owned()))
    };
    let file = "[notify]\ncommand = [\"no-such-program\", \"x\"]\n";
    let missing = "longhaul.toml:2: `notify.command`: `no-such-program` is not on PATH";
    assert_eq!(set(&mut world, file, &[]), Some((ErrorKind::Usage, missing.into())));
    let flags = ["permissions.policy=command", "permissions.command=[\"/no/such/judge\"]"];
    let (kind, message) = set(&mut world, "", &flags).unwrap();
    assert_eq!(kind, ErrorKind::Usage);
    assert!(message.starts_with("--set: `permissions.command` `/no/such/judge` "), "{message}");
    world.script("bin/judge", "echo deny");
    let judge = world.base.join("bin/judge");
    let flags = [
        "permissions.policy=command",
        &format!("permissions.command=[\"{0}\"]", judge.display()),
        &format!("notify.command=[\"{0}\"]", judge.display()),
    ];
    assert_eq!(set(&mut world, "", &flags), None);
}

#[test]
fn arguments_that_a_run_refuses_are_found() {
    let mut world = World::healthy();
    for refused in ["--resume", "--settings=none.json", "-p"] {
        world.args(&[refused]);
        let (id, kind, shown) = world.the_error();
        assert_eq!((id, kind), ("arguments", ErrorKind::Usage), "{refused}");
        assert!(shown.contains(refused.split('=').next().unwrap()), "{shown}");
    }
}

#[test]
fn servers_of_the_project_must_have_been_answered() {
    let mut world = World::healthy();
    world.write("project/.mcp.json", &json!({"mcpServers": {"db": {}, "web": {}}}).to_string());
    assert!(world.the_error().2.contains("db, web"));
    world.write(
        "project/.claude/settings.local.json",
        &json!({"enabledMcpjsonServers": ["db"], "disabledMcpjsonServers": ["web"]}).to_string(),
    );
    world.no_error();
    world.write(
        "project/.claude/settings.local.json",
        &json!({"enableAllProjectMcpServers": true}).to_string(),
    );
    world.no_error();
    world.remove("project/.claude/settings.local.json");
    world.args(&["--strict-mcp-config"]);
    world.no_error();
    world.args(&[]);
    world.remove("project/.mcp.json");
    world.write(".mcp.json", &json!({"mcpServers": {"above": {}}}).to_string());
    let (_, kind, shown) = world.the_error();
    assert_eq!(kind, ErrorKind::NeedsPerson, "the CLI looks into the folders above too");
    assert!(shown.contains(".mcp.json: above"), "{shown}");
}

#[test]
fn an_empty_path_is_refused_and_one_into_the_project_is_told() {
    let mut world = World::healthy();
    let cli = world.base.join("bin/claude");
    world.config.claude.command = cli.to_str().unwrap().into();
    let path = world.env.iter().find(|(name, _)| name == "PATH").unwrap().1.clone();
    for inside in [".", "bin", "", world.project.join(".venv/bin").to_str().unwrap()] {
        world.set_env("PATH", &format!("{path}:{inside}"));
        assert_eq!(world.find("path").severity, Severity::Note, "{inside:?}");
        world.no_error();
    }
    for empty in [Some(""), None] {
        world.env.retain(|(name, _)| name != "PATH");
        world.env.extend(empty.map(|value| ("PATH".into(), value.into())));
        // Not even the made-up CLI, a script, needs a PATH.
        let (id, kind, shown) = world.the_error();
        assert_eq!((id, kind), ("path", ErrorKind::Usage));
        assert!(shown.contains("PATH is empty"), "{shown}");
    }
    world.child_env("PATH", &path);
    world.no_error();
}

#[test]
fn the_first_command_must_exist_where_the_cli_looks() {
    let mut world = World::healthy();
    world.remove("project/.claude/commands/session-init.md");
    let (id, kind, shown) = world.the_error();
    assert_eq!((id, kind), ("init-command", ErrorKind::Usage));
    assert!(shown.contains("longhaul init"), "{shown}");
    for path in [
        "home/.claude/commands/session-init.md",
        "home/.claude/skills/session-init/SKILL.md",
        "project/.claude/skills/session-init/SKILL.md",
    ] {
        world.write(path, "go on\n");
        world.no_error();
        world.write(path, " \n");
        assert_eq!(world.the_error().0, "init-command");
        world.remove(path);
    }
    world.config.session.init_prompt = "/team:start now".into();
    assert_eq!(world.the_error().0, "init-command");
    world.write("project/.claude/commands/team/start.md", "go on\n");
    world.no_error();
    world.config.session.init_prompt = "/../../x".into();
    assert_eq!(world.the_error().0, "init-command");
    world.config.session.init_prompt = "Read dev-docs and go on".into();
    assert!(world.examine().iter().all(|finding| finding.id != "init-command"));
}

#[test]
fn the_task_file_must_be_able_to_end_the_run() {
    let world = World::healthy();
    let path = "project/dev-docs/tasks.md";
    for text in ["", " \n", "only words\n"] {
        world.write(path, text);
        let (id, kind, _) = world.the_error();
        assert_eq!((id, kind), ("task-file", ErrorKind::Usage), "{text:?}");
    }
    fs::write(world.base.join(path), b"- [ ] \xff\n").unwrap();
    assert_eq!(world.find("task-file").severity, Severity::Error);
    world.write(path, "- [x] all\n");
    assert_eq!(world.find("task-file").severity, Severity::Note);
    world.no_error();
    world.write(path, "Status: blocked: no key\n- [ ] a\n");
    let (_, kind, shown) = world.the_error();
    assert_eq!(kind, ErrorKind::NeedsPerson);
    assert!(shown.contains("no key"), "{shown}");
    world.write(path, &"x".repeat((1 << 20) + 1));
    assert_eq!(world.find("task-file").exit, Some(ErrorKind::Usage));
    world.remove(path);
    assert!(world.the_error().2.contains("is missing"));
    fs::create_dir(world.base.join(path)).unwrap();
    assert!(world.the_error().2.contains("is a directory"));
}

#[test]
fn missing_checkpoint_files_are_a_warning() {
    let world = World::healthy();
    world.remove("project/dev-docs/plan.md");
    world.write("project/dev-docs/PROJECT_SUMMARY.md", "");
    let finding = world.find("dev-docs");
    assert_eq!(finding.severity, Severity::Warning);
    assert!(
        finding.detail.contains("plan.md does not exist")
            && finding.detail.contains("SUMMARY.md is empty"),
        "{finding:?}"
    );
    world.no_error();
}

#[test]
fn the_state_must_lie_outside_the_project_and_be_private() {
    let mut world = World::healthy();
    let inside = world.project.join("state");
    world.set_env("LONGHAUL_STATE_DIR", inside.to_str().unwrap());
    let (id, kind, _) = world.the_error();
    assert_eq!((id, kind), ("state-dir", ErrorKind::Usage));
    let open = world.base.join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    world.set_env("LONGHAUL_STATE_DIR", open.to_str().unwrap());
    assert_eq!(world.the_error().1, ErrorKind::State);
    let link = world.base.join("link");
    symlink(&world.project, &link).unwrap();
    world.set_env("LONGHAUL_STATE_DIR", link.join("s").to_str().unwrap());
    assert_eq!(world.the_error().1, ErrorKind::Usage);
}

#[test]
fn bypassing_permissions_takes_two_decisions() {
    let mut world = World::healthy();
    for args in [
        &["--dangerously-skip-permissions"][..],
        &["--permission-mode", "bypassPermissions"],
        &["--permission-mode=bypassPermissions"],
    ] {
        world.args(args);
        world.config.claude.allow_bypass = false;
        world.is_root = false;
        let (id, kind, shown) = world.the_error();
        assert_eq!((id, kind), ("bypass", ErrorKind::Usage));
        assert!(shown.contains("claude.allow_bypass"), "{shown}");
        world.config.claude.allow_bypass = true;
        world.no_error();
        world.is_root = true;
        assert!(world.the_error().2.contains("IS_SANDBOX"));
        world.child_env("IS_SANDBOX", "true");
        assert_eq!(world.the_error().0, "bypass", "the CLI takes nothing but 1");
        world.child_env("IS_SANDBOX", "1");
        world.no_error();
        world.config.claude.env.clear();
    }
    world.args(&[]);
    let mode = json!({"permissions": {"defaultMode": "bypassPermissions"}}).to_string();
    world.write("home/.claude/settings.json", &mode);
    assert_eq!(world.the_error().0, "bypass");
    world.remove("home/.claude/settings.json");
    // The CLI does not take it from the project; were it to, longhaul would be told by a question.
    fs::create_dir(world.base.join(".git")).unwrap();
    for project in [
        "project/.claude/settings.json",
        "project/.claude/settings.local.json",
        ".claude/settings.local.json",
    ] {
        world.write(project, &mode);
        world.config.claude.allow_bypass = false;
        assert_eq!(
            world.find("permissions").title,
            "permission mode manual asks, and nobody is there to answer"
        );
        world.remove(project);
    }
}

#[test]
fn modes_that_ask_are_told() {
    let mut world = World::healthy();
    assert_eq!(world.find("permissions").severity, Severity::Note);
    for (mode, severity) in [
        ("auto", Severity::Ok),
        ("dontAsk", Severity::Ok),
        ("plan", Severity::Warning),
        ("acceptEdits", Severity::Warning),
    ] {
        world.args(&["--permission-mode", mode]);
        assert_eq!(world.find("permissions").severity, severity, "{mode}");
    }
    world.args(&[]);
    let mode = |mode: &str| json!({"permissions": {"defaultMode": mode}}).to_string();
    world.write("home/.claude/settings.json", &mode("plan"));
    world.write("project/.claude/settings.json", &mode("auto"));
    assert_eq!(world.find("permissions").severity, Severity::Ok, "the project's settings win");
    world.write("project/.claude/settings.json", &mode("bypassPermissions"));
    assert_eq!(
        world.find("permissions").severity,
        Severity::Warning,
        "the CLI starts in manual mode"
    );
}
