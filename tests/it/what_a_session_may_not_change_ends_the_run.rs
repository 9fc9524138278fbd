//! What the CLI runs by itself in the project is what the person started with;
//! and what a session ruins in the work tree can be had back.

use longhaul::demo::api::Script;

use super::support::{Lab, Worker, failures, finisher, first_step, first_then, ticks_at_once};

/// What the CLI itself would ask about if it saw it coming.
const MISCHIEF: &str = "python3 mischief.py";

fn lab(script: impl Script + 'static) -> Lab {
    let lab = Lab::new(script);
    let hooks =
        r#"{"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "touch ran"}]}]}}"#;
    lab.write("mischief.py", &format!("open('.claude/settings.local.json', 'w').write('{hooks}')"));
    lab
}

#[test]
fn hooks_written_by_the_session_end_it_while_it_lives() {
    let lab = lab(first_step(MISCHIEF));
    let run = lab.night(&[]).finished().ended(10, "needs_person");
    let told = run.event("needs_person");
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.contains(".claude/settings.local.json"), "{}", run.dump());
    assert_eq!(run.count("session_started"), 1);
    lab.wait_gone();
    assert_eq!(lab.report()["needs_person"]["reason"], reason);
    // Nobody did anything about it: one change, refused again, is still one.
    assert_eq!(lab.night(&[]).finished().code(), 10);
    assert_eq!(failures(&lab.report(), "settings_changed"), 1, "{:#}", lab.report());
}

/// They would work in every project.
#[test]
fn hooks_and_servers_in_the_persons_own_files_count_as_well() {
    let settings = r#"json.dump({"hooks": {"Stop": []}}, open(own + "/settings.json", "w"))"#;
    let servers = r#"path = own + "/.claude.json"; told = json.load(open(path))
told["mcpServers"] = {"evil": {"command": "true"}}; json.dump(told, open(path, "w"))"#;
    for (mischief, file, what) in
        [(settings, "settings.json", "hooks of Stop"), (servers, ".claude.json", "MCP server evil")]
    {
        let lab = Lab::new(first_step(MISCHIEF));
        let own = lab.home.config_dir().to_owned();
        lab.write("mischief.py", &format!("import json\nown = {own:?}\n{mischief}\n"));
        let run = lab.night(&[]).finished().ended(10, "needs_person");
        let reason = run.event("needs_person")["reason"].as_str().unwrap().to_owned();
        let named = own.join(file);
        assert!(reason.contains(&format!("{} (", named.display())), "{}", run.dump());
        assert!(reason.contains(what), "{reason}");
    }
}

/// The CLI writes its own file in every session, and moves old entries of it at its
/// first start; over two sessions nothing of that counts.
#[test]
fn what_the_cli_writes_by_itself_is_no_change() {
    let lab = Lab::new(first_then(1, Worker::brisk(), finisher()));
    let path = lab.home.config_dir().join(".claude.json");
    let mut old: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    old["autoUpdates"] = false.into();
    old["bypassPermissionsModeAccepted"] = true.into();
    let project = &mut old["projects"][lab.project().to_str().unwrap()];
    project["allowedTools"] = serde_json::json!(["Bash(ls)"]);
    project["enabledMcpjsonServers"] = serde_json::json!(["a"]);
    let before = old.to_string();
    std::fs::write(&path, &before).unwrap();
    let run = lab.night(&[]).finished().ended(0, "done");
    assert_eq!(run.count("session_started"), 2, "{}", run.dump());
    assert_ne!(std::fs::read_to_string(&path).unwrap(), before, "it wrote nothing");
    assert_eq!(failures(&lab.report(), "settings_changed"), 0, "{}", run.dump());
}

#[test]
fn where_the_person_allows_it_they_are_a_warning() {
    let lab = lab(first_then(1, first_step(MISCHIEF), ticks_at_once));
    let sets = ["claude.allow_settings_changes=true", "context.threshold_tokens=20300"];
    let run = lab.night(&sets).finished().ended(0, "done");
    assert_eq!(run.reasons(), ["threshold", "done"], "{}", run.dump());
    let warnings = run.words("warning", "text");
    let named = warnings.iter().filter(|text| text.contains("settings.local.json"));
    assert_eq!(named.count(), 1, "{warnings:#?}");
}

#[test]
fn a_file_that_was_deleted_comes_back_from_the_cycles_ref() {
    let lab = Lab::new(first_then(
        1,
        Worker { command: "rm -rf src".into(), ..Worker::brisk() },
        finisher(),
    ));
    lab.write("src/main.txt", "precious\n");
    lab.git_init();
    lab.write("src/draft.txt", "not committed\n");
    let run = lab.night(&[]).finished().ended(0, "done");
    assert_eq!(run.count("session_started"), 2, "{}", run.dump());
    assert!(!lab.project().join("src").exists());
    let report = lab.report();
    let refs: Vec<&str> = { report["cycles"].as_array().unwrap().iter() }
        .map(|cycle| cycle["git_ref"].as_str().expect("a ref"))
        .collect();
    assert_eq!(refs.len(), 2, "{report:#}");
    let first = report["cycles"][0]["git_commit"].as_str().unwrap();
    assert_eq!(lab.git(&["rev-parse", refs[0]]).trim(), first);
    let page = lab.longhaul_output(&["report"]).stdout;
    assert!(page.contains(&format!("{} {}", refs[0], &first[..12])), "{page}");
    lab.git(&["restore", &format!("--source={}", refs[0]), "--worktree", "--", "."]);
    assert_eq!(lab.read("src/main.txt"), "precious\n");
    assert_eq!(lab.read("src/draft.txt"), "not committed\n");
}
