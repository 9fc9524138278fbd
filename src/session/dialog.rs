//! The questions the CLI asks on its screen, and the one answer longhaul may
//! give.
//!
//! How they are recognised is the matter of [`super::screen`].

use std::cmp::Ordering;

use super::screen::{self, Kind};
use super::wire::Key;

/// What stands where the input line would be, and waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialog {
    /// "Is this a project you created or one you trust?"
    Trust,
    /// "Detected a custom API key in your environment."
    ApiKey,
    /// "Claude Code running in Bypass Permissions mode."
    Bypass,
    /// The first start on this machine: a theme is to be chosen.
    Theme,
    /// Nobody is logged in.
    Login,
    /// The first start cannot reach the vendor.
    NoConnection,
    /// `~/.claude.json` is not JSON.
    BrokenConfig,
    /// A settings file cannot be read, or has values that are not valid.
    BrokenSettings,
    /// `.mcp.json` names servers nobody has answered about.
    McpServers,
    /// `CLAUDE.md` imports files from outside the project.
    ExternalImports,
    /// A tool call needs a permission; bypassing permissions does not spare the
    /// removal of a critical path this question.
    Permission,
    /// The session asks a question of its own (`AskUserQuestion`).
    Question,
    /// A plan is to be approved, or plan mode to be entered or left.
    Plan,
    /// A usage limit is reached: wait, upgrade or pay.
    UsageLimitMenu,
    /// A session is to be resumed: which, or with how much of its past.
    ResumeMenu,
    /// "How is Claude doing this session?", in place of the input line.
    Survey,
    /// "Try the new fullscreen renderer?"
    FullscreenOffer,
    /// It waits for a choice or a key, and is none of these. Give it time before
    /// it counts: [`super::screen::Watch`].
    Unknown,
}

impl Dialog {
    /// What it asks, for the person who has to answer it.
    pub fn question(self) -> &'static str {
        match self {
            Dialog::Trust => {
                "whether this folder is trusted (or set claude.trust_workspace = true)"
            }
            Dialog::ApiKey => "whether to use the API key in its environment",
            Dialog::Bypass => "whether to bypass all permissions",
            Dialog::Theme => "for a theme: it was never started on this machine",
            Dialog::Login => "for a login",
            Dialog::NoConnection => "nothing: it cannot reach its service",
            Dialog::BrokenConfig => "what to do about its configuration file, which is not JSON",
            Dialog::BrokenSettings => "what to do about a settings file it cannot use",
            Dialog::McpServers => "which MCP servers of .mcp.json it may use",
            Dialog::ExternalImports => "whether CLAUDE.md may import files from elsewhere",
            Dialog::Permission => "for a permission",
            Dialog::Question => "a question of its own",
            Dialog::Plan => "for a plan to be approved",
            Dialog::UsageLimitMenu => "what to do about a usage limit",
            Dialog::ResumeMenu => "how to resume a session",
            Dialog::Survey => "how it is doing",
            Dialog::FullscreenOffer => "whether to try another renderer",
            Dialog::Unknown => "something longhaul does not know",
        }
    }

    /// The name for logs and events, as in `permission`.
    pub fn name(self) -> &'static str {
        match self {
            Dialog::Trust => "trust",
            Dialog::ApiKey => "api_key",
            Dialog::Bypass => "bypass",
            Dialog::Theme => "theme",
            Dialog::Login => "login",
            Dialog::NoConnection => "no_connection",
            Dialog::BrokenConfig => "broken_config",
            Dialog::BrokenSettings => "broken_settings",
            Dialog::McpServers => "mcp_servers",
            Dialog::ExternalImports => "external_imports",
            Dialog::Permission => "permission",
            Dialog::Question => "question",
            Dialog::Plan => "plan",
            Dialog::UsageLimitMenu => "usage_limit_menu",
            Dialog::ResumeMenu => "resume_menu",
            Dialog::Survey => "survey",
            Dialog::FullscreenOffer => "fullscreen_offer",
            Dialog::Unknown => "unknown",
        }
    }
}

/// Between two keys given to a dialog. One that has just appeared ignores keys
/// for a moment, and keys that follow each other faster than about a fifth of
/// a second are taken for a paste and never confirm anything.
pub const KEY_PAUSE_MS: u64 = 500;

/// The mark in front of the option Enter would take.
const POINTER: char = '❯';

/// The dialog this screen shows, if it is one with a name. One without may be
/// half a repaint, and is told of by [`screen::Watch`] after a while.
pub fn classify(screen: &str) -> Option<Dialog> {
    screen::look(screen).dialog().filter(|dialog| *dialog != Dialog::Unknown)
}

/// The one key that brings a trust dialog nearer to "Yes, I trust this folder";
/// `None` when the screen is not exactly understood.
///
/// One key at a time, [`KEY_PAUSE_MS`] apart and each on a fresh screen, since
/// any of them may be ignored. The default is "No, exit", so Enter is given only
/// on a screen that shows "Yes" selected.
pub fn answer_trust(screen: &str) -> Option<Key> {
    if classify(screen) != Some(Dialog::Trust) {
        return None;
    }
    let options: Vec<(bool, Answer)> = screen.lines().filter_map(option_line).collect();
    let only = |wanted: &dyn Fn(&(bool, Answer)) -> bool| {
        let mut at = options.iter().enumerate().filter(|(_, o)| wanted(o)).map(|(i, _)| i);
        at.next().filter(|_| at.next().is_none())
    };
    let selected = only(&|(selected, _)| *selected)?;
    let yes = only(&|(_, answer)| *answer == Answer::Yes)?;
    Some(match yes.cmp(&selected) {
        Ordering::Greater => Key::Down,
        Ordering::Less => Key::Up,
        Ordering::Equal => Key::Enter,
    })
}

#[derive(PartialEq, Eq)]
enum Answer {
    Yes,
    No,
}

/// Whether this line is one of the two options, and selected.
fn option_line(line: &str) -> Option<(bool, Answer)> {
    let line = line.trim();
    let selected = line.starts_with(POINTER);
    let label = without_blanks(line.trim_start_matches(POINTER));
    // Options may come numbered.
    let label = label.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    match label {
        "Yes,Itrustthisfolder" => Some((selected, Answer::Yes)),
        "No,exit" => Some((selected, Answer::No)),
        _ => None,
    }
}

fn without_blanks(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// Whether a question stands where the input line would be. Text typed now would
/// not reach the conversation, and Enter would answer, usually with yes.
///
/// Errs on the side of a question: a lowest pointer in front of a numbered
/// option is one, too, whatever else is on the screen.
pub fn is_open(screen: &str) -> bool {
    let lowest = screen.lines().rev().find_map(|line| {
        line.trim_start_matches(|c: char| c.is_whitespace() || c == '│').strip_prefix(POINTER)
    });
    lowest.is_some_and(is_like_an_option) || matches!(screen::look(screen).kind, Kind::Dialog(_))
}

/// Whether `text` begins as a numbered option does: `1. Yes`.
pub fn is_like_an_option(text: &str) -> bool {
    let text = text.trim_start();
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < text.len() && rest.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRUST_NO: &str = include_str!("../../tests/data/screens/trust-no-selected.txt");
    const TRUST_YES: &str = include_str!("../../tests/data/screens/trust-yes-selected.txt");
    const API_KEY: &str = include_str!("../../tests/data/screens/api-key.txt");
    const BYPASS: &str = include_str!("../../tests/data/screens/bypass.txt");
    const OFFLINE: &str = include_str!("../../tests/data/screens/onboarding-offline.txt");
    const PERMISSION: &str = include_str!("../../tests/data/screens/permission.txt");
    const WORKING: &str = include_str!("../../tests/data/screens/working.txt");

    #[test]
    fn captured_screens_are_told_apart() {
        assert_eq!(classify(TRUST_NO), Some(Dialog::Trust));
        assert_eq!(classify(TRUST_YES), Some(Dialog::Trust));
        assert_eq!(classify(API_KEY), Some(Dialog::ApiKey));
        assert_eq!(classify(BYPASS), Some(Dialog::Bypass));
        assert_eq!(classify(OFFLINE), Some(Dialog::NoConnection));
        assert_eq!(classify(WORKING), None);
        assert_eq!(classify(""), None);
    }

    #[test]
    fn trust_is_answered_step_by_step_from_either_option() {
        assert_eq!(answer_trust(TRUST_NO), Some(Key::Down));
        assert_eq!(answer_trust(TRUST_YES), Some(Key::Enter));
    }

    #[test]
    fn options_in_another_order_or_numbered_are_answered_too() {
        let yes_first = TRUST_NO
            .replace("   Yes, I trust this folder", "   @")
            .replace(" ❯ No, exit", "   1. Yes, I trust this folder")
            .replace("   @", " ❯ 2. No, exit");
        assert_eq!(answer_trust(&yes_first), Some(Key::Up), "{yes_first}");
        let numbered = TRUST_YES.replace("❯ Yes", "❯ 2. Yes");
        assert_eq!(answer_trust(&numbered), Some(Key::Enter));
    }

    #[test]
    fn nothing_else_is_ever_answered() {
        for screen in [API_KEY, BYPASS, OFFLINE, WORKING, ""] {
            assert_eq!(answer_trust(screen), None);
        }
        let none_selected = TRUST_NO.replace('❯', " ");
        assert_eq!(answer_trust(&none_selected), None);
        let both_selected = TRUST_NO.replace("   Yes, I trust", " ❯ Yes, I trust");
        assert_eq!(answer_trust(&both_selected), None);
    }

    #[test]
    fn a_question_in_place_of_the_input_line_is_seen() {
        assert!(is_open(PERMISSION));
        let chosen_no = PERMISSION.replace(" ❯ 1.", "   1.").replace("   3. No", " ❯ 3. No");
        assert!(is_open(&chosen_no), "{chosen_no}");
        let answered = format!("{PERMISSION}\n────\n❯ \n────\n");
        for shut in [WORKING, "", "❯ 1. an old prompt\n● ok\n────\n❯ Try \"fix it\"\n", &answered]
        {
            assert!(!is_open(shut), "{shut}");
        }
    }

    #[test]
    fn wrapping_does_not_hide_a_dialog() {
        let narrow: String = TRUST_NO
            .chars()
            .enumerate()
            .flat_map(|(i, c)| [Some(c), (i % 17 == 0).then_some('\n')])
            .flatten()
            .collect();
        assert_eq!(classify(&narrow), Some(Dialog::Trust));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_a_panic(text in any::<String>()) {
            let _ = classify(&text);
            let _ = answer_trust(&text);
            let _ = is_open(&text);
        }
    }
}
