//! A stand-in for the Claude Code CLI, for the torture suite: it writes, shows,
//! says and obeys what the real one does, and misbehaves by a script. Built for
//! tests only; `README.md` beside this file has the script's words.
#![allow(missing_docs, clippy::unwrap_used, clippy::exit, clippy::print_stdout)]

mod keyboard;
mod ledger;
mod limb;
mod mischief;
mod procfs;
mod reports;
mod rows;
mod script;
mod session;

use std::path::PathBuf;

use ledger::{LEDGER_VARIABLE, Ledger, SCRIPT_VARIABLE};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--version") => println!("{} (Claude Code)", rows::VERSION),
        Some(limb::LIMB_COMMAND) => limb::live(&args[1..]),
        _ => {
            let (mut session_id, mut settings, mut prompt) = (None, None, None);
            let mut rest = args.into_iter();
            while let Some(arg) = rest.next() {
                match arg.as_str() {
                    "--session-id" => session_id = rest.next(),
                    "--settings" => settings = rest.next(),
                    "--" => prompt = rest.next(),
                    _ => {}
                }
            }
            let session_id = session_id.expect("--session-id");
            let path: PathBuf =
                std::env::var_os(LEDGER_VARIABLE).expect("LONGHAUL_STANDIN_LEDGER").into();
            let ledger = Ledger::open(&path, &session_id);
            let script = std::env::var_os(SCRIPT_VARIABLE).map(PathBuf::from);
            let behaviour = script::behaviour(script.as_deref(), ledger.note_start());
            let settings = settings.map(|text| serde_json::from_str(&text).expect("JSON"));
            let code = session::Session::new(&session_id, settings, behaviour, ledger)
                .live(prompt.unwrap_or_default());
            std::process::exit(code);
        }
    }
}
