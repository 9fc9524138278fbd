//! What was counted stays: the index below the state directory, and what happens when it
//! cannot be had.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::support::{Lab, ticks_at_once};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.home().join(".claude/projects/-p")).unwrap();
        place
    }

    fn home(&self) -> PathBuf {
        self.0.path().join("home")
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn transcript(&self, name: &str) -> PathBuf {
        self.home().join(".claude/projects/-p").join(name)
    }

    /// Appends a response of 10 tokens in and so many out.
    fn append(&self, name: &str, message: &str, output: u64) -> u64 {
        let row = json!({
            "type": "assistant", "timestamp": "2026-11-20T10:00:00.000Z", "requestId": message,
            "message": {
                "id": message, "model": "claude-opus-5-5", "stop_reason": "end_turn",
                "usage": {"input_tokens": 10, "output_tokens": output},
            },
        });
        let line = row.to_string() + "\n";
        let mut file =
            File::options().append(true).create(true).open(self.transcript(name)).unwrap();
        file.write_all(line.as_bytes()).unwrap();
        line.len() as u64
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command.arg("usage").args(args).env_clear();
        command.env("HOME", self.home()).env("LONGHAUL_STATE_DIR", self.state());
        command
    }

    fn said(&self, args: &[&str]) -> (Value, String) {
        told(self.command(args).arg("--json").output().unwrap())
    }
}

fn told(output: Output) -> (Value, String) {
    let complained = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{complained}");
    (serde_json::from_slice(&output.stdout).unwrap(), complained)
}

fn output(seen: &Value) -> u64 {
    seen["totals"]["output"].as_u64().unwrap()
}

/// The index, of which there is one.
fn index(state: &Path) -> PathBuf {
    let all = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("usage-") && name.ends_with(".db")
    };
    let found: Vec<PathBuf> = all.filter(is_it).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn only_appended_bytes_are_read_and_totals_outlive_the_transcripts() {
    let place = Place::new();
    let bytes = place.append("a.jsonl", "m1", 5);
    let (first, complained) = place.said(&["session"]);
    assert_eq!((first["bytes_read"].as_u64(), complained.as_str()), (Some(bytes), ""));
    assert_eq!(place.said(&["session"]).0["bytes_read"], 0);
    let bytes = place.append("a.jsonl", "m2", 7);
    let (grown, _) = place.said(&["session"]);
    assert_eq!((grown["bytes_read"].as_u64(), output(&grown)), (Some(bytes), 12));
    fs::remove_file(place.transcript("a.jsonl")).unwrap();
    assert_eq!(output(&place.said(&["session"]).0), 12);
    assert_eq!(index(&place.state()).metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_damaged_index_is_told_of_left_as_it_is_and_done_without() {
    let place = Place::new();
    place.append("a.jsonl", "m1", 5);
    place.said(&[]);
    let index = index(&place.state());
    fs::write(&index, "no database").unwrap();
    let (seen, complained) = place.said(&[]);
    assert_eq!(output(&seen), 5);
    assert!(complained.starts_with("warning: the usage index"), "{complained}");
    assert!(complained.contains("mv ") && complained.contains("deleted ones are not"));
    assert_eq!(fs::read(&index).unwrap(), b"no database");
    // Who needs it is told, and nothing else.
    let output = place.command(&["--reprice"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(50), 0), "{output:?}");
}

#[test]
fn a_state_directory_that_cannot_be_written_does_not_keep_the_answer_back() {
    let place = Place::new();
    place.append("a.jsonl", "m1", 5);
    fs::create_dir(place.state()).unwrap();
    fs::set_permissions(place.state(), Permissions::from_mode(0o777)).unwrap();
    let (seen, complained) = place.said(&[]);
    assert_eq!(output(&seen), 5);
    assert!(complained.contains("can be written by others"), "{complained}");
    let mut without = place.command(&["--json"]);
    without.env_remove("HOME").env_remove("LONGHAUL_STATE_DIR");
    without.env("CLAUDE_CONFIG_DIR", place.home().join(".claude"));
    let (seen, complained) = told(without.output().unwrap());
    assert_eq!(output(&seen), 5);
    assert!(complained.contains("HOME is not set"), "{complained}");
    let nowhere = without.env_remove("CLAUDE_CONFIG_DIR").output().unwrap();
    assert_eq!(nowhere.status.code(), Some(64), "{nowhere:?}");
}

#[test]
fn a_persons_own_prices_hold_for_what_comes_and_for_all_when_told_so() {
    let place = Place::new();
    place.append("a.jsonl", "m1", 0);
    let cost = |seen: &Value| seen["totals"]["cost_usd"].as_f64().unwrap();
    assert_eq!(cost(&place.said(&[]).0), 0.00004);
    let own = place.home().join(".config/longhaul/models.toml");
    fs::create_dir_all(own.parent().unwrap()).unwrap();
    let table = "[[model]]\nid = \"claude-opus-5-5\"\n[[model.price]]\ninput = 100.0\n\
                 output = 0.0\ncache_write_5m = 0.0\ncache_write_1h = 0.0\ncache_read = 0.0\n";
    fs::write(&own, table).unwrap();
    place.append("a.jsonl", "m2", 0);
    assert_eq!(cost(&place.said(&[]).0), 0.00104);
    let (seen, complained) = place.said(&["--reprice"]);
    assert_eq!(cost(&seen), 0.002);
    assert!(complained.contains("everything was priced anew"), "{complained}");
    fs::write(&own, table.replace("100.0", "\"much\"")).unwrap();
    let refused = place.command(&[]).output().unwrap();
    let complained = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(64), 0), "{complained}");
    assert!(complained.contains("models.toml") && complained.contains("much"), "{complained}");
    let named = place.command(&[]).env("LONGHAUL_MODELS", "/not/there").output().unwrap();
    assert_eq!(named.status.code(), Some(64));
}

/// A table of one's own, saved a while ago: a dollar for each token that goes in.
fn own_table(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let table = "[[model]]\nid = \"claude-opus-5-5\"\n[[model.price]]\ninput = 1000000.0\n\
                 output = 0.0\ncache_write_5m = 0.0\ncache_write_1h = 0.0\ncache_read = 0.0\n";
    fs::write(path, table).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1)).unwrap();
}

/// The process beside a status line, which an editor started.
fn beside(place: &Place) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.arg("__spent").arg(place.state());
    for dir in [".claude", ".config/claude"] {
        command.arg(place.home().join(dir));
    }
    command.env_clear().env("HOME", place.home()).output().unwrap()
}

#[test]
fn prices_that_a_shell_names_hold_for_a_status_line_that_an_editor_starts() {
    let place = Place::new();
    let own = place.0.path().join("shell.toml");
    own_table(&own);
    let shell = || {
        let mut command = place.command(&["--json"]);
        told(command.env("LONGHAUL_MODELS", &own).output().unwrap()).0
    };
    place.append("a.jsonl", "m1", 0);
    assert_eq!(shell()["totals"]["cost_usd"], 10.0);
    // Whoever counts it first gives it its price.
    place.append("a.jsonl", "m2", 0);
    assert!(beside(&place).status.success());
    assert_eq!(shell()["totals"]["cost_usd"], 20.0);
    // In a shell that names none any more.
    assert_eq!(place.said(&[]).0["totals"]["cost_usd"], 20.0);
    place.append("a.jsonl", "m3", 0);
    assert!(beside(&place).status.success());
    assert_eq!(shell()["totals"]["cost_usd"], 20.00004);
}

#[test]
fn a_table_that_is_half_saved_prices_nothing_for_good() {
    let place = Place::new();
    let own = place.home().join(".config/longhaul/models.toml");
    own_table(&own);
    let whole = fs::read_to_string(&own).unwrap();
    place.append("a.jsonl", "m1", 0);
    for torn in [&whole[..whole.len() / 2], ""] {
        fs::write(&own, torn).unwrap();
        let said = beside(&place);
        assert_eq!((said.status.code(), said.stdout.len()), (Some(1), 0), "{torn:?}");
        assert!(!place.state().join("usage-now.json").exists());
    }
    own_table(&own);
    assert!(beside(&place).status.success());
    assert_eq!(place.said(&[]).0["totals"]["cost_usd"], 10.0);
}

#[test]
fn a_watch_tells_again_what_has_changed_and_ends_with_its_reader() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let place = Place::new();
    place.append("a.jsonl", "m1", 5);
    let mut child = place.command(&["--watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(output(&next()), 5);
    let bytes = place.append("b.jsonl", "m2", 7);
    let seen = next();
    assert_eq!((output(&seen), seen["bytes_read"].as_u64()), (12, Some(bytes)));
    drop(lines);
    place.append("b.jsonl", "m3", 7);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn runs_and_tasks_get_what_their_sessions_used() {
    let lab = Lab::new(ticks_at_once);
    lab.run().finished().ended(0, "done");
    let report = lab.report();
    let seen = |view: &str| -> Value {
        let said = lab.longhaul_output(&["usage", view, "--json"]);
        assert_eq!(said.code(), 0, "{}", said.dump());
        serde_json::from_str(&said.stdout).unwrap()
    };
    let runs = seen("run");
    assert_eq!(runs["rows"][0]["key"], report["run_id"], "{runs:#}");
    let [ours, theirs] = [&runs["rows"][0]["cost_usd"], &report["totals"]["cost_usd"]];
    assert!((ours.as_f64().unwrap() - theirs.as_f64().unwrap()).abs() < 1e-6, "{runs:#}");
    let tasks = seen("task");
    assert_eq!(tasks["rows"][0]["key"], "other", "it was no task of the queue");
    assert_eq!(tasks["totals"], runs["totals"]);
    let cycles = seen("cycle");
    let id = report["run_id"].as_str().unwrap();
    assert_eq!(cycles["rows"][0]["key"], format!("{id}-cycle-001"), "{cycles:#}");
    assert_eq!(seen("batch")["rows"][0]["key"], "other");
}
