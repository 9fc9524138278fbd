//! Every recorded screen is what its file's name says, and no conversation is
//! ever taken for a dialog.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::session::dialog::{answer_trust, is_open};
use crate::session::wire::{COLS, ROWS};

/// The corpus: `<kind>-<what>.txt`, in front of it `synthetic-` where the screen
/// was made up from the words in the program.
fn corpus() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/screens");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
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

#[test]
fn a_running_turn_tells_how_far_it_is() {
    let counts = |name| {
        let look = look(&screen(name));
        (look.elapsed_s, look.stream_tokens, look.background_agents)
    };
    assert_eq!(counts("working-start"), (None, None, None));
    assert_eq!(counts("working-streaming"), (Some(9), Some(211), None));
    assert_eq!(counts("working-thinking"), (Some(3), Some(192), None));
    assert_eq!(counts("working-no-answer"), (Some(106), None, None));
    assert_eq!(counts("working-agents"), (None, None, Some(2)));
    assert_eq!(counts("working-compacting"), (Some(2), None, None));
    assert_eq!(counts("working-fake-limit"), (Some(4), Some(50), None));
    assert_eq!(counts("idle-fake-limit"), (None, None, None));
}

#[test]
fn a_retry_tells_why_and_when() {
    let retry = |name| {
        let retry = look(&screen(name)).retry.unwrap_or_else(|| panic!("{name}"));
        (retry.class, retry.attempt, retry.of, retry.in_seconds)
    };
    let of_ten = |class: &str, attempt, s| (class.to_owned(), Some(attempt), Some(10), s);
    assert_eq!(retry("retry-529"), of_ten("529 Overloaded", 5, Some(6)));
    assert_eq!(retry("retry-500"), of_ten("500 Internal server error", 5, Some(8)));
    assert_eq!(retry("retry-401"), of_ten("401 invalid x-api-key", 5, Some(10)));
    assert_eq!(retry("retry-429-after"), of_ten("API error", 1, Some(16)));
    assert_eq!(retry("retry-timeout"), of_ten("API error", 1, None));
    assert_eq!(retry("limit-weekly"), of_ten("Weekly limit reached", 5, Some(8)));
    for (name, text) in corpus() {
        let look = look(&text);
        let kind = name.strip_prefix("synthetic-").unwrap_or(&name);
        let retries = kind.starts_with("retry") || kind.starts_with("limit");
        assert_eq!(look.retry.is_some(), retries, "{name}");
        let connection = ["retry-refused", "retry-stalled-connection", "retry-no-response"];
        assert_eq!(look.connection_trouble, connection.contains(&kind), "{name}");
    }
}

#[test]
fn a_usage_limit_is_told_with_its_reset() {
    let five_hours = look(&screen("limit-five-hour"));
    let line = "5-hour limit reached · retrying in 8s (2:17am) · attempt 5/10";
    assert_eq!(five_hours.limit.as_deref(), Some(line));
    let waiting = look(&screen("idle-limit-continuing"));
    assert_eq!(waiting.limit.as_deref(), Some("Usage limit reached · limit resets 2:33am"));
    for (name, text) in corpus() {
        let is_limit = name.starts_with("limit") || name.starts_with("idle-limit-continuing");
        assert_eq!(look(&text).limit.is_some(), is_limit, "{name}");
        let continues = name.starts_with("idle-limit-continuing");
        assert_eq!(look(&text).continues_itself, continues, "{name}");
    }
}

#[test]
fn the_heading_is_what_a_person_would_look_for() {
    let heading = |name| look(&screen(name)).heading;
    assert_eq!(
        heading("permission-agent").unwrap(),
        "Bash command · from the general-purpose agent"
    );
    assert_eq!(heading("unknown-menu-model").unwrap(), "Select model");
    assert_eq!(heading("onboarding-offline").unwrap(), "Unable to connect to Anthropic services");
    assert_eq!(heading("question-chat-selected").unwrap(), "☐ Yes");
    assert_eq!(heading("idle-fresh"), None);
    let framed = "╭──────────╮\n│ New terms   │\n│ [ Accept ]  │\n╰──────────╯\n";
    assert_eq!(look(framed).heading.unwrap(), "New terms");
}

#[test]
fn who_waits_for_an_unknown_answer_is_told_from_what_runs() {
    let dialog = screen("synthetic-unknown-cost");
    let (_, dialog) = dialog.split_once("\n─").unwrap();
    let below = |line: &str| look(&format!("● ok\n\n{line}\n\n─{dialog}")).kind;
    assert_eq!(below("✻ Waiting for 1 background agent to finish"), Kind::Dialog(Dialog::Unknown));
    assert_eq!(below("✽ Forming… (3s)"), Kind::Working);
    assert_eq!(below("✻ 529 Overloaded · retrying in 6s · attempt 5/10"), Kind::Working);
}

#[test]
fn a_screen_without_any_rule_is_no_permission_by_what_was_said_on_it() {
    let talk = screen("idle-fake-permission");
    let (talk, _) = talk.split_once("✻").unwrap();
    assert!(talk.contains("   ❯ 1. Yes"), "{talk}");
    assert_eq!(look(talk).kind, Kind::Unrecognised, "an input line not yet painted");
    let waits = format!("{talk}\n Press Enter to continue…\n");
    assert_eq!(look(&waits).kind, Kind::Dialog(Dialog::Unknown));
}

/// Every kind that shows while a recorded session paints, looked at between any
/// two writes of `step` bytes: half-painted screens, too.
fn kinds_while_painting(recording: &str, step: usize) -> Vec<Kind> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/screens/recordings");
    let bytes = fs::read(folder.join(recording)).unwrap();
    let mut parser = vt100::Parser::new(ROWS, COLS, 0);
    let mut kinds: Vec<Kind> = Vec::new();
    for chunk in bytes.chunks(step) {
        parser.process(chunk);
        let kind = look(&parser.screen().contents()).kind;
        if kinds.last() != Some(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

/// The session said and was told all it could think of to look like dialogs,
/// spinners and limits.
#[test]
fn no_half_painted_conversation_is_a_dialog() {
    for step in [64, 331, 4096] {
        let kinds = kinds_while_painting("conversation.pty", step);
        assert!(kinds.contains(&Kind::Working) && kinds.ends_with(&[Kind::Idle]), "{kinds:?}");
        let dialog = kinds.iter().find(|kind| matches!(kind, Kind::Dialog(_)));
        assert_eq!(dialog, None, "in steps of {step}");
    }
}

#[test]
fn a_dialog_is_taken_for_no_other_while_it_is_painted() {
    for step in [64, 331] {
        let kinds = kinds_while_painting("permission.pty", step);
        assert!(kinds.contains(&Kind::Dialog(Dialog::Permission)), "{kinds:?}");
        // Half of it is unknown, for as long as that lasts.
        let own = [Dialog::Permission, Dialog::Unknown].map(Kind::Dialog);
        let other = |kind: &&Kind| matches!(kind, Kind::Dialog(_)) && !own.contains(kind);
        assert_eq!(kinds.iter().find(other), None, "in steps of {step}");
        assert!(kinds.ends_with(&[Kind::Idle]), "{kinds:?}");
    }
}

/// What a conversation can have in one line: a prompt or a reply begins in
/// column 0, behind its sign; everything else two columns further right.
fn conversation_line() -> impl Strategy<Value = String> {
    let fakes: Vec<String> = corpus()
        .iter()
        .filter(|(name, _)| matches!(expected(name), Kind::Dialog(_)))
        .flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| !line.trim().is_empty())
        .collect();
    let words = prop_oneof![3 => prop::sample::select(fakes), 1 => "[^\\r\\n]{0,60}"];
    let sign = prop::sample::select(vec!["  ", "  ", "  ", "● ", "❯ ", "  ⎿  "]);
    (sign, words).prop_map(|(sign, words)| format!("{sign}{words}\n"))
}

fn conversation() -> impl Strategy<Value = String> {
    prop::collection::vec(conversation_line(), 0..40).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn any_text_is_looked_at_without_a_panic(text in "\\PC{0,400}", lines in "[ ❯─▔●✻…·(0-9.km\n⚠]{0,400}") {
        let _ = look(&text);
        let _ = look(&lines);
    }

    #[test]
    fn no_conversation_above_an_input_line_is_a_dialog(talk in conversation(), typed in "[^\\r\\n]{0,60}") {
        let rule = "─".repeat(120);
        let idle = format!("{talk}\n{rule}\n❯ {typed}\n{rule}\n  ⏵⏵ accept edits on\n");
        prop_assert_eq!(look(&idle).kind, Kind::Idle, "{}", idle);
        let spinner = "✽ Forming… (3s · ↓ 50 tokens)";
        let working = format!("{talk}\n{spinner}\n\n{rule}\n❯ {typed}\n{rule}\n");
        let working = look(&working);
        prop_assert_eq!(working.kind, Kind::Working);
        prop_assert_eq!((working.elapsed_s, working.stream_tokens), (Some(3), Some(50)));
        prop_assert_eq!((working.retry, working.limit), (None, None));
    }

    #[test]
    fn no_conversation_above_a_dialog_hides_or_changes_it(talk in conversation(), at in any::<prop::sample::Index>()) {
        let rule = "─".repeat(120);
        let screens: Vec<_> = corpus()
            .into_iter()
            .filter(|(name, _)| matches!(expected(name), Kind::Dialog(_)))
            .collect();
        let (name, text) = at.get(&screens);
        // What was there before goes with the dialog's own rule, if it has one.
        if let Some(from) = text.find(&rule).filter(|_| !text.starts_with("Welcome")) {
            let screen = format!("{talk}{}", &text[from..]);
            prop_assert_eq!(look(&screen).kind, expected(name), "{}", screen);
        }
    }
}
