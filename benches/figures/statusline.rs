//! `longhaul statusline` as the CLI calls it: from the start of the process to its end,
//! with what the real CLI says on its input.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::world::longhaul;

/// Calls of each kind.
const CALLS: usize = 300;
/// Calls that find an old figure, each of which has it made anew.
const STALE_CALLS: usize = 50;
/// How much older than now the old figure is, milliseconds.
const OLD_MS: i64 = 600_000;
/// A figure of so few transcripts is there in a moment.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Measured {
    /// With a figure of the day at hand.
    pub fresh_ms: Vec<f64>,
    /// With an old one: the call starts the process that makes it anew.
    pub stale_ms: Vec<f64>,
    /// Where nothing can be kept.
    pub bare_ms: Vec<f64>,
    /// A process of this program that does nothing but print its version, for comparison.
    pub version_ms: Vec<f64>,
}

pub fn measure() -> Measured {
    let root = tempfile::tempdir().unwrap();
    let home = root.path().join("home");
    fs::create_dir_all(home.join(".claude/projects")).unwrap();
    let input =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sink/statusline.json"));
    let input = input.unwrap();
    let call = |args: &[&str], state: Option<&Path>| {
        let mut command = Command::new(longhaul());
        command
            .args(args)
            .env_clear()
            .env("HOME", &home)
            .env("TERM", "xterm-256color")
            .env("COLUMNS", "120")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        match state {
            Some(state) => command.env("LONGHAUL_STATE_DIR", state),
            None => command.env_remove("HOME"),
        };
        let begun = Instant::now();
        let mut child = command.spawn().unwrap();
        // The one it is compared with does not read it.
        let _ = child.stdin.take().unwrap().write_all(&input);
        let mut line = String::new();
        child.stdout.take().unwrap().read_to_string(&mut line).unwrap();
        assert!(child.wait().unwrap().success());
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        assert!(line.contains("longhaul 0") || line.contains("Opus 5.5"), "{line}");
        ms
    };
    let state = root.path().join("state");
    let line = &["statusline"][..];
    call(line, Some(&state));
    let file = state.join("usage-now.json");
    let first = wait_for_another(&file, None);
    let fresh_ms = (0..CALLS).map(|_| call(line, Some(&state))).collect();
    let mut found = first;
    let stale_ms = (0..STALE_CALLS)
        .map(|_| {
            let mut old = found.clone();
            old["at_unix_ms"] = (found["at_unix_ms"].as_i64().unwrap() - OLD_MS).into();
            fs::write(&file, old.to_string()).unwrap();
            // As if the last one had been begun a while ago.
            fs::remove_file(state.join("usage-now.lock")).unwrap();
            let ms = call(line, Some(&state));
            found = wait_for_another(&file, Some(&old));
            ms
        })
        .collect();
    let bare_ms = (0..CALLS).map(|_| call(line, None)).collect();
    let version_ms = (0..CALLS).map(|_| call(&["--version"], None)).collect();
    Measured { fresh_ms, stale_ms, bare_ms, version_ms }
}

/// The file, once it is another than `old`.
fn wait_for_another(file: &Path, old: Option<&Value>) -> Value {
    let begun = Instant::now();
    loop {
        let text = fs::read(file).unwrap_or_default();
        if let Ok(found) = serde_json::from_slice::<Value>(&text)
            && Some(&found) != old
        {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "the day's figure was not made anew");
        std::thread::sleep(Duration::from_millis(2));
    }
}
