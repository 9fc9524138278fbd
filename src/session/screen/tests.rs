//! Every recorded screen is what its file's name says, and no conversation is
//! ever taken for a dialog.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::session::dialog::{answer_trust, is_open};

/// The corpus: `<kind>-<what>.txt`, in front of it `synthetic-` where the screen
/// was made up from the words in the program.
fn corpus() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/screens");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn screen(name: &str) -> String {
    corpus().remove(name).unwrap_or_else(|| panic!("no screen {name}"))
}

const NAMES: &[(&str, Kind)] = &[
    ("blank", Kind::Blank),
    ("idle", Kind::Idle),
    ("working", Kind::Working),
    ("retry", Kind::Working),
    ("limit", Kind::Working),
    ("unrecognised", Kind::Unrecognised),
    ("trust", Kind::Dialog(Dialog::Trust)),
    ("api-key", Kind::Dialog(Dialog::ApiKey)),
    ("bypass", Kind::Dialog(Dialog::Bypass)),
    ("theme", Kind::Dialog(Dialog::Theme)),
    ("login", Kind::Dialog(Dialog::Login)),
    ("onboarding-offline", Kind::Dialog(Dialog::NoConnection)),
    ("no-connection", Kind::Dialog(Dialog::NoConnection)),
    ("broken-config", Kind::Dialog(Dialog::BrokenConfig)),
    ("broken-settings", Kind::Dialog(Dialog::BrokenSettings)),
    ("mcp-servers", Kind::Dialog(Dialog::McpServers)),
    ("external-imports", Kind::Dialog(Dialog::ExternalImports)),
    ("permission", Kind::Dialog(Dialog::Permission)),
    ("question", Kind::Dialog(Dialog::Question)),
    ("plan", Kind::Dialog(Dialog::Plan)),
    ("usage-limit-menu", Kind::Dialog(Dialog::UsageLimitMenu)),
    ("resume", Kind::Dialog(Dialog::ResumeMenu)),
    ("survey", Kind::Dialog(Dialog::Survey)),
    ("fullscreen-offer", Kind::Dialog(Dialog::FullscreenOffer)),
    ("unknown", Kind::Dialog(Dialog::Unknown)),
];

fn expected(name: &str) -> Kind {
    let name = name.strip_prefix("synthetic-").unwrap_or(name);
    let of_kind = |kind: &str| {
        let rest = name.strip_prefix(kind);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let row = NAMES.iter().find(|(kind, _)| of_kind(kind));
    row.unwrap_or_else(|| panic!("{name} names no kind")).1
}

#[test]
fn every_screen_is_what_its_name_says() {
    let corpus = corpus();
    let wrong: Vec<String> = corpus
        .iter()
        .filter(|(name, text)| look(text).kind != expected(name))
        .map(|(name, text)| format!("{name} is {:?}, {:?}", look(text).kind, look(text).heading))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (kind, _) in NAMES {
        let is_there = |name: &String| name.trim_start_matches("synthetic-").starts_with(kind);
        assert!(corpus.keys().any(is_there), "no screen of {kind}");
    }
}

#[test]
fn only_a_dialog_is_open() {
    for (name, text) in corpus() {
        let is_dialog = matches!(expected(&name), Kind::Dialog(_));
        // A typed text that looks like an option counts as one, to be safe.
        let is_cautious = name == "idle-typed-like-option";
        assert_eq!(is_open(&text), is_dialog || is_cautious, "{name}");
    }
}

#[test]
fn only_trust_is_answered() {
    for (name, text) in corpus() {
        assert_eq!(answer_trust(&text).is_some(), name.starts_with("trust"), "{name}");
    }
}
