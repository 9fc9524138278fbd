//! What a person who mistypes something gets to read.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

fn load(text: &str) -> Result<Config> {
    Config::from_text("longhaul.toml", text, &[])
}

fn set(flags: &[&str]) -> Result<Config> {
    let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
    Config::from_text("longhaul.toml", "", &flags)
}

#[track_caller]
fn refused(outcome: Result<Config>) -> String {
    let err = outcome.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Usage, "{}", err.render());
    err.render()
}

#[test]
fn the_defaults_are_the_ones_documented() {
    let config = Config::defaults();
    assert_eq!(config.claude.command, "claude");
    assert!(
        config.claude.args.is_empty()
            && config.claude.env.is_empty()
            && config.claude.pass_env.is_empty()
    );
    assert!(!config.claude.trust_workspace && !config.claude.allow_bypass);
    assert_eq!(
        config.context,
        Context { threshold_percent: 70.0, threshold_tokens: None, window_tokens: None }
    );
    assert_eq!(config.session.init_prompt, "/session-init");
    assert_eq!(config.checkpoint.files.len(), 3);
    assert_eq!(config.checkpoint.timeout_ms, 600_000);
    assert!(!config.checkpoint.git_commit);
    assert_eq!(config.task.file, PathBuf::from("dev-docs/tasks.md"));
    assert_eq!(config.task.verify, None);
    assert_eq!(config.limits.max_ms, 36_000_000);
    assert_eq!(config.limits.max_tokens, 500_000_000);
}

/// A changed value of each key changes the [`Config`]: no key is decoration.
#[test]
fn every_key_of_the_defaults_is_read() {
    let defaults = Config::defaults();
    for doc in key_docs() {
        let other = match doc.key.as_str() {
            "claude.args" | "claude.pass_env" | "checkpoint.files" | "notify.command" => "[\"x\"]",
            // It says something only together with its policy.
            "permissions.command" => continue,
            "permissions.policy" => "\"stop\"",
            "notify.webhook" => "\"http://127.0.0.1/x\"",
            "notify.on" => "[\"failed\"]",
            "budget.warn_percent" => "[7]",
            "claude.env" => "{ X = \"1\" }",
            "hub.address" => "\"127.0.0.1:0\"",
            "hub.max_body_kb" => "77",
            "queue.archive_after" => "\"77h\"",
            "observe.input" => "\"all\"",
            "observe.cheap_model" => "\"sonnet\"",
            "observe.duplicate_within" | "observe.quick" | "observe.batch_within" => "\"77m\"",
            "checkpoint.git" => "\"commit\"",
            key if key.ends_with("timeout") || key.starts_with("hang.") => "\"77s\"",
            _ if doc.default == "false" => "true",
            _ if doc.default == "true" => "false",
            _ if doc.default.starts_with('"') => "\"other\"",
            _ => "7",
        };
        let config = set(&[&format!("{}={other}", doc.key)]).unwrap();
        assert_ne!(config, defaults, "{} is not read", doc.key);
    }
}

#[test]
fn a_command_decides_only_when_there_is_one() {
    insta::assert_snapshot!(refused(load("[permissions]\npolicy = \"command\"\n")), @r#"
    error: longhaul.toml:2: `permissions.policy` is "command", but `permissions.command` is empty
      help: name the program that decides: `command = ["/path/to/it"]`
    "#);
    let both = ["permissions.policy=command", "permissions.command=[\"\", \"-v\"]"];
    insta::assert_snapshot!(refused(set(&both)), @r#"
    error: --set: `permissions.command` must begin with a program, not with empty text
      help: write `command = ["/path/to/it"]`
    "#);
    insta::assert_snapshot!(refused(load("\n[notify]\ncommand = [\" \"]\n")), @r#"
    error: longhaul.toml:3: `notify.command` must begin with a program, not with empty text
      help: write `command = ["/path/to/it"]`
    "#);
    let both = ["permissions.policy=command", "permissions.command=[\"/bin/decide\", \"-v\"]"];
    assert_eq!(
        set(&both).unwrap().permissions.policy,
        PermissionPolicy::Command(vec!["/bin/decide".into(), "-v".into()])
    );
}

#[test]
fn each_step_of_a_hang_is_at_most_the_next() {
    // A default gives way to what was written …
    let hang = set(&["hang.end=10s"]).unwrap().hang;
    assert_eq!((hang.warn_ms, hang.interrupt_ms, hang.end_ms), (10_000, 10_000, 10_000));
    let hang = set(&["hang.interrupt=5m"]).unwrap().hang;
    assert_eq!((hang.warn_ms, hang.interrupt_ms, hang.end_ms), (300_000, 300_000, 1_800_000));
    // … and what was written is not changed in silence.
    let file = "[hang]\nwarn = \"90s\"\ninterrupt = \"1m\"\n";
    insta::assert_snapshot!(refused(load(file)), @r"
    error: longhaul.toml:2: `hang.warn` is 1m30s, later than `hang.interrupt`, which is 1m (longhaul.toml:3)
      help: a hang is told (`hang.warn`), then interrupted (`hang.interrupt`), then ended (`hang.end`)
    ");
    insta::assert_snapshot!(refused(set(&["hang.interrupt=45m"])), @r"
    error: --set: `hang.interrupt` is 45m, later than `hang.end`, which is 30m by default
      help: a hang is told (`hang.warn`), then interrupted (`hang.interrupt`), then ended (`hang.end`)
    ");
    for step in ["warn", "interrupt", "end", "tool"] {
        let refusal = refused(set(&[&format!("hang.{step}=999ms")]));
        assert!(refusal.contains(&format!("--set: `hang.{step}`")), "{refusal}");
        assert!(refusal.contains("at least 1s"), "{refusal}");
        set(&[&format!("hang.{step}=1s")]).unwrap_or_else(|err| panic!("{step}: {err}"));
    }
}

#[test]
fn the_soft_limit_of_memory_is_at_most_the_hard_one() {
    let memory = |sets: &[&str]| {
        let limits = set(sets).unwrap().limits;
        (limits.tree_memory_soft_mb, limits.tree_memory_hard_mb)
    };
    assert_eq!(memory(&["limits.tree_memory_hard_mb=900"]), (900, 900));
    assert_eq!(memory(&["limits.tree_memory_soft_mb=900"]), (900, 16_384));
    insta::assert_snapshot!(refused(set(&["limits.tree_memory_soft_mb=16385"])), @r"
    error: --set: `limits.tree_memory_soft_mb` is 16385, above `limits.tree_memory_hard_mb`, which is 16384 by default
      help: at the soft limit a session is asked for a checkpoint, at the hard one it is ended
    ");
    let flags = ["limits.tree_memory_hard_mb=4096".to_owned()];
    let file = "[limits]\ntree_memory_soft_mb = 8192\n";
    insta::assert_snapshot!(refused(Config::from_text("longhaul.toml", file, &flags)), @r"
    error: longhaul.toml:2: `limits.tree_memory_soft_mb` is 8192, above `limits.tree_memory_hard_mb`, which is 4096 (--set)
      help: at the soft limit a session is asked for a checkpoint, at the hard one it is ended
    ");
}

#[test]
fn the_place_of_a_key_is_known_later() {
    let flags = ["notify.webhook=http://127.0.0.1/x".to_owned()];
    let file = "[notify]\ncommand = [\"x\"]\n";
    let config = Config::from_text("longhaul.toml", file, &flags).unwrap();
    let places = ["notify.command", "notify.webhook", "notify.on"].map(|key| config.places.of(key));
    assert_eq!(places, ["longhaul.toml:2", "--set", "config/default.toml"]);
}

#[test]
fn a_webhook_is_a_url_and_is_never_repeated() {
    for bad in ["ftp://secret/x", "secret", "http://", "https://a b/secret"] {
        let refusal = refused(set(&[&format!("notify.webhook={bad}")]));
        assert!(!refusal.contains("secret"), "{refusal}");
    }
    set(&["notify.webhook=https://hooks.example/secret"]).unwrap();
    let refusal = refused(set(&["notify.on=[\"done\"]"]));
    assert!(refusal.contains("\"finished\"") && refusal.contains("\"done\""), "{refusal}");
}

#[test]
fn later_layers_win_and_env_comes_together() {
    let text =
        "[limits]\nmax_hours = 0.5\nmax_sessions = 3\n[claude]\nenv = { A = \"1\", B = \"2\" }\n";
    let flags =
        ["limits.max_sessions=4", "claude.env.B=3", "claude.env.C=a = b", "limits.max_sessions=5"];
    let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
    let config = Config::from_text("f", text, &flags).unwrap();
    assert_eq!(config.limits.max_ms, 1_800_000);
    assert_eq!(config.limits.max_sessions, 5);
    let env: Vec<_> = config.claude.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(env, [("A", "1"), ("B", "3"), ("C", "a = b")]);
}

#[test]
fn flags_take_toml_or_plain_text() {
    let config = set(&[
        "task.verify=true",
        "claude.command=/opt/my claude/bin",
        "claude.args=[\"--model\", \"opus\"]",
        "checkpoint.timeout=600s",
        "context.threshold_percent=70.5",
        "context.threshold_tokens=off",
        "context.window_tokens=\"auto\"",
        "claude.env.N=1",
        "claude.env.Q=\"quoted\"",
        "limits.max_tokens=5e8",
    ])
    .unwrap();
    assert_eq!(config.task.verify.as_deref(), Some("true"));
    assert_eq!(config.claude.command, "/opt/my claude/bin");
    assert_eq!(config.claude.args, ["--model", "opus"]);
    assert_eq!(config.checkpoint.timeout_ms, 600_000);
    assert_eq!(config.context.threshold_percent, 70.5);
    assert_eq!(config.claude.env["N"], "1");
    assert_eq!(config.claude.env["Q"], "quoted");
}

#[test]
fn unknown_keys_name_the_nearest() {
    insta::assert_snapshot!(refused(load("\n[limits]\nmax_hour = 1\n")), @"
    error: longhaul.toml:3: unknown key `limits.max_hour`
      help: the nearest key is `limits.max_hours`
    ");
    insta::assert_snapshot!(refused(load("threshold_percent = 70\n")), @"
    error: longhaul.toml:1: unknown key `threshold_percent`
      help: the nearest key is `context.threshold_percent`
    ");
    insta::assert_snapshot!(refused(load("[limit]\nmax_hours = 1\n")), @"
    error: longhaul.toml:1: unknown section [limit]
      help: the nearest section is [limits]; its keys are max_sessions, max_hours, max_tokens, max_cost_usd, no_progress_cycles, max_wait_hours, quota_reserve_percent, tokens_per_minute, cost_usd_per_hour, max_subagents, tree_memory_soft_mb, tree_memory_hard_mb, disk_floor_mb, scratch_mb, written_mb
    ");
    insta::assert_snapshot!(refused(set(&["claude.cmd=x"])), @"
    error: --set: unknown key `claude.cmd`
      help: the nearest key is `claude.command`
    ");
}

#[test]
fn wrong_types_say_what_was_expected_and_found() {
    insta::assert_snapshot!(refused(load("[limits]\nmax_sessions = \"many\"\n")), @r#"error: longhaul.toml:2: `limits.max_sessions` must be a whole number, not the text "many""#);
    insta::assert_snapshot!(refused(load("[claude]\ncommand = 5\n")), @"error: longhaul.toml:2: `claude.command` must be text in quotes, not 5");
    insta::assert_snapshot!(refused(load("[claude]\nargs = \"--model opus\"\n")), @r#"
    error: longhaul.toml:2: `claude.args` must be a list of texts, not the text "--model opus"
      help: write `args = ["one", "two"]`
    "#);
    insta::assert_snapshot!(refused(load("[checkpoint]\ntimeout = 600\n")), @r#"
    error: longhaul.toml:2: `checkpoint.timeout` must be a duration such as "90s", "10m" or "1h30m", not 600
      help: say the unit: `"600s"`
    "#);
    insta::assert_snapshot!(refused(load("[claude]\nenv = [\"A=1\"]\n")), @r#"
    error: longhaul.toml:2: `claude.env` must be a table of variables, not a list
      help: write `env = { NAME = "value" }`, or `--set claude.env.NAME=value`
    "#);
    insta::assert_snapshot!(refused(load("claude = \"claude\"\n")), @"
    error: longhaul.toml:1: `claude` is a section, not text
      help: write [claude] on a line of its own, and its keys below it
    ");
    insta::assert_snapshot!(refused(set(&["checkpoint.git=push"])), @r#"error: --set: `checkpoint.git` must be one of "off", "commit", not the text "push""#);
    insta::assert_snapshot!(refused(load("[claude]\nallow_bypass = \"yes\"\n")), @r#"error: longhaul.toml:2: `claude.allow_bypass` must be true or false, not the text "yes""#);
}

#[test]
fn out_of_range_is_refused() {
    for flag in [
        "limits.max_sessions=0",
        "limits.max_sessions=-1",
        "limits.max_sessions=1.5",
        "limits.max_hours=0",
        "limits.max_hours=inf",
        "limits.max_hours=nan",
        "limits.max_tokens=0",
        "limits.max_tokens=9223372036854775807",
        "limits.max_cost_usd=0",
        "limits.max_cost_usd=inf",
        "limits.no_progress_cycles=0",
        "context.threshold_percent=0",
        "context.threshold_percent=101",
        "context.threshold_percent=-5",
        "context.threshold_tokens=-1",
        "context.threshold_tokens=soon",
        "checkpoint.timeout=0s",
        "checkpoint.timeout=8d",
        "checkpoint.timeout=10",
        "checkpoint.files=[]",
        "checkpoint.files=[\"\"]",
        "checkpoint.files=[\"/etc/passwd\"]",
        "checkpoint.files=[\"a/../b\"]",
        "checkpoint.files=[\"a\", \"./a\"]",
        "checkpoint.files=[\".\"]",
        "checkpoint.files=[\"dir/\"]",
        "task.file=",
        "task.file=../tasks.md",
        "task.file=/tasks.md",
        "claude.command=",
        "session.init_prompt=",
        "session.init_prompt=--help",
        "checkpoint.prompt=\"a\\u001bb\"",
        "checkpoint.prompt=/checkpoint",
        "claude.env.A B=1",
        "claude.env.=1",
        "claude.env.1A=1",
        "claude.pass_env=[\"A=B\"]",
        "limits",
        "limits=1",
        "=1",
    ] {
        assert!(set(&[flag]).is_err(), "{flag} was accepted");
        refused(set(&[flag]));
    }
    insta::assert_snapshot!(refused(set(&["limits.max_cost_usd=0"])), @"
    error: --set: `limits.max_cost_usd` must be above 0 and at most 1000000, not 0
      help: every limit is finite on purpose: give the most you would accept
    ");
}

#[test]
fn errors_never_repeat_a_variable_of_the_environment() {
    let shown = refused(load("[claude]\nenv = { KEY = [\"sk-secret\"] }\n"));
    assert!(!shown.contains("sk-secret"), "{shown}");
}

#[test]
fn broken_toml_names_its_line() {
    let shown = refused(load("[limits]\nmax_hours = 1\nmax_hours = 2\n"));
    assert!(shown.contains("longhaul.toml:3: not valid TOML: duplicate key"), "{shown}");
    let shown = refused(load("[limits\n"));
    assert!(shown.contains("longhaul.toml:1: not valid TOML"), "{shown}");
}

#[test]
fn files_that_cannot_be_a_configuration_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path();
    assert_eq!(Config::load(project, None, &[]).unwrap(), Config::defaults());
    let with = |path: &Path| Config::load(project, Some(path), &[]);
    assert!(
        refused(with(&project.join("none.toml"))).contains("there is no configuration file at")
    );
    assert!(refused(with(project)).contains("is a directory"));
    let fifo = project.join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    assert!(refused(with(&fifo)).contains("is not a regular file"));
    let own = project.join(FILE_NAME);
    std::fs::write(&own, b"[limits]\nmax_hours = 1 # \xff\n").unwrap();
    assert!(
        refused(Config::load(project, None, &[]))
            .contains("longhaul.toml:2: the configuration file is not UTF-8")
    );
    std::fs::write(&own, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(refused(Config::load(project, None, &[])).contains("larger than 1 MiB"));
    std::fs::write(&own, "[limits]\nmax_hours = 1\n").unwrap();
    assert_eq!(Config::load(project, None, &[]).unwrap().limits.max_ms, 3_600_000);
}

proptest! {
    /// Whatever is in the file or on the command line: a configuration or an error of usage.
    #[test]
    fn no_input_panics(
        text in "(\\[(limits|claude|task|x)\\]\n)?([a-z_.]{1,12} ?= ?[\"\\[\\{0-9a-z.,\\-]{0,8}\n){0,4}.*",
        flag in "(claude\\.env\\.|limits\\.max_hours|checkpoint\\.files)?[a-z.]{0,8}=?.{0,12}",
    ) {
        if let Err(err) = Config::from_text("f", &text, &[flag]) {
            prop_assert_eq!(err.kind(), ErrorKind::Usage);
        }
    }

    /// Every number of a limit is taken as it is or refused; none becomes unlimited.
    #[test]
    fn limits_stay_finite(n in any::<f64>(), key in 0usize..5) {
        let name = ["max_sessions", "max_hours", "max_tokens", "max_cost_usd", "no_progress_cycles"][key];
        if let Ok(config) = set(&[&format!("limits.{name}={n:?}")]) {
            let limits = &config.limits;
            prop_assert!(limits.max_ms > 0 && limits.max_ms < 400 * 86_400_000);
            prop_assert!(limits.max_cost_usd > 0.0 && limits.max_cost_usd.is_finite());
            prop_assert!(limits.max_sessions > 0 && limits.max_tokens > 0 && limits.no_progress_cycles > 0);
        }
    }
}
