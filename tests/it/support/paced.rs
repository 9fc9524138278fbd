//! Answers only after the CLI's statusline has shown the answer before: then
//! every reading of the context has a figure of the CLI to be compared with.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use longhaul::demo::api::{Gate, Reply, Request, Script};
use notify::{RecursiveMode, Watcher};
use serde_json::Value;

use super::Lab;

/// A script, slowed down to the pace of the statusline.
#[derive(Clone)]
pub struct Paced<S> {
    script: S,
    /// Where the statusline inputs are kept, known once there is a laboratory.
    file: Arc<OnceLock<PathBuf>>,
}

impl<S: Script + Clone + 'static> Paced<S> {
    /// A laboratory that answers from `script` at that pace.
    pub fn lab(script: S) -> Lab {
        let paced = Self { script, file: Arc::default() };
        let file = Arc::clone(&paced.file);
        let lab = Lab::new(paced);
        file.set(lab.root().join("statusline.jsonl")).unwrap();
        lab
    }
}

impl<S: Script> Script for Paced<S> {
    fn reply(&self, request: &Request) -> Reply {
        let reply = self.script.reply(request);
        let count = request.index_in_session as usize;
        if request.side || count == 0 {
            return reply;
        }
        let (file, session) = (self.file.get().unwrap().clone(), request.session_id.clone());
        let gate = Gate::new();
        let opened = gate.clone();
        std::thread::spawn(move || {
            wait_for_figures(&file, &session, count);
            opened.open();
        });
        reply.behind(&gate)
    }
}

/// Returns once the statusline of `session` has shown `count` different
/// figures, or at the deadline: the comparison will then fail.
fn wait_for_figures(file: &Path, session: &str, count: usize) {
    let (sender, changes) = std::sync::mpsc::channel();
    let changed = move |_| {
        let _ = sender.send(());
    };
    let Ok(mut watcher) = notify::recommended_watcher(changed) else { return };
    if watcher.watch(file.parent().unwrap(), RecursiveMode::NonRecursive).is_err() {
        return;
    }
    while figures(file, session) < count {
        if changes.recv_timeout(super::DEADLINE).is_err() {
            return;
        }
    }
}

fn figures(file: &Path, session: &str) -> usize {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut found: Vec<_> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|input| input["session_id"] == session)
        .filter_map(|input| input["context_window"]["total_input_tokens"].as_u64())
        .filter(|tokens| *tokens > 0)
        .collect();
    found.dedup();
    found.len()
}
