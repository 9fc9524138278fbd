//! What the CLI runs for each statusline update and hook: the commands of
//! `--settings`, by `sh -c`, with JSON on standard input.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// The commands, and those still running.
pub struct Reports {
    settings: Value,
    /// Fields that are in every report.
    common: Value,
    running: Vec<Child>,
}

impl Reports {
    pub fn new(settings: Option<Value>, session: &str, transcript: &str, cwd: &str) -> Self {
        let common = json!({"session_id": session, "transcript_path": transcript, "cwd": cwd});
        Self { settings: settings.unwrap_or_default(), common, running: Vec::new() }
    }

    /// Runs the hooks of this name; waits for them, as the real one does.
    pub fn hook(&mut self, name: &str, fields: Value) {
        let groups = self.settings["hooks"][name].as_array().cloned().unwrap_or_default();
        for hook in groups.iter().flat_map(|group| group["hooks"].as_array().into_iter().flatten())
        {
            let mut fields = fields.clone();
            fields["hook_event_name"] = name.into();
            if let Some(mut child) = self.start(hook["command"].as_str().unwrap_or(":"), fields) {
                let _ = child.wait();
            }
        }
    }

    /// Runs the statusline command, unless the last one is still running.
    pub fn statusline(&mut self, fields: Value) {
        self.reap();
        if !self.running.is_empty() {
            return;
        }
        let Some(command) = self.settings["statusLine"]["command"].as_str().map(str::to_owned)
        else {
            return;
        };
        let child = self.start(&command, fields);
        self.running.extend(child);
    }

    pub fn reap(&mut self) {
        self.running.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    fn start(&self, command: &str, mut fields: Value) -> Option<Child> {
        for (name, value) in self.common.as_object().into_iter().flatten() {
            fields[name] = value.clone();
        }
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // A command that is gone already does not want it.
        let _ = child.stdin.take()?.write_all(fields.to_string().as_bytes());
        Some(child)
    }
}
