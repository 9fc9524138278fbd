//! What a session writes and what longhaul believes lie apart, or nothing is
//! started; and a run that would find no command is not begun.

use super::support::{Lab, Run, finisher};

#[test]
fn a_state_directory_in_the_project_is_refused() {
    let lab = Lab::new(finisher());
    let inside = lab.project().join("state");
    for args in [&["run", "--json"][..], &["doctor"]] {
        let mut command = lab.longhaul_command(args);
        command.env("LONGHAUL_STATE_DIR", &inside);
        let said = Run::start(&mut command).finished();
        assert_eq!(said.code(), 64, "{said:?}");
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(text.contains("set LONGHAUL_STATE_DIR to a directory outside"), "{text}");
        assert!(!inside.exists());
    }
}

#[test]
fn an_empty_path_is_refused() {
    let lab = Lab::new(finisher());
    for args in [&["run", "--json"][..], &["doctor"]] {
        let mut command = lab.longhaul_command(args);
        command.env("PATH", "");
        let said = Run::start(&mut command).finished();
        assert_eq!(said.code(), 64, "{said:?}");
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(text.contains("PATH is empty"), "{text}");
    }
}

#[test]
fn servers_of_a_folder_above_are_found_before_the_cli_asks() {
    let lab = Lab::new(finisher());
    let above = lab.project().parent().unwrap().join(".mcp.json");
    std::fs::write(&above, r#"{"mcpServers":{"above":{"command":"true"}}}"#).unwrap();
    let said = lab.longhaul_output(&["run", "--json"]);
    assert_eq!(said.code(), 10, "{said:?}");
    assert!(said.stderr.contains(".mcp.json: above"), "{}", said.stderr);
    std::fs::remove_file(&above).unwrap();
}
