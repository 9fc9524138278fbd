//! By what a dialog is known. Never by one word: by how its block begins, and
//! by an option or a key it offers further down.

use super::layout::{Layout, POINTER, indent, option, squeezed};
use crate::session::dialog::Dialog;

/// Dialogs with fixed wording. Blanks are left out.
struct Marks {
    dialog: Dialog,
    /// How the block begins: one of these. So the content of another dialog
    /// (the command a permission is asked for) cannot pass for this one.
    begins: &'static [&'static str],
    /// What else is in it: one of these.
    offers: &'static [&'static str],
}

const fn marks(
    dialog: Dialog,
    begins: &'static [&'static str],
    offers: &'static [&'static str],
) -> Marks {
    Marks { dialog, begins, offers }
}

const MARKS: &[Marks] = &[
    marks(Dialog::Trust, &["Accessingworkspace:"], &["Yes,Itrustthisfolder"]),
    marks(Dialog::ApiKey, &["DetectedacustomAPIkey"], &["DoyouwanttousethisAPIkey"]),
    marks(Dialog::Bypass, &["WARNING:ClaudeCoderunninginBypassPermissionsmode"], &["Yes,Iaccept"]),
    marks(
        Dialog::Theme,
        &["ThemeChoosethetextstyle", "Let'sgetstarted.Choosethetextstyle"],
        &["Darkmode"],
    ),
    marks(
        Dialog::Login,
        &[
            "LoginClaudeCodecanbeused",
            "ClaudeCodecanbeused",
            "Selectloginmethod",
            "Browserdidn'topen?",
            "LoginBrowserdidn'topen?",
        ],
        &["Claudeaccountwithsubscription", "AnthropicConsoleaccount", "Pastecodehere"],
    ),
    marks(
        Dialog::NoConnection,
        &["UnabletoconnecttoAnthropicservices"],
        &["Checkyourinternetconnection"],
    ),
    marks(
        Dialog::Plan,
        &["Readytocode?", "Exitplanmode?", "Enterplanmode?"],
        &["1.Yes", "2.No", "Wouldyouliketoproceed?"],
    ),
    marks(
        Dialog::UsageLimitMenu,
        &["Whatdoyouwanttodo?"],
        &["Stopandwaitforlimittoreset", "1.Stop", "2.Stop", "Upgradeyourplan", "usagecredits"],
    ),
    marks(
        Dialog::ResumeMenu,
        &["Thissessionis", "Resumesession"],
        &["Resumefullsession", "Entertoresume"],
    ),
    marks(Dialog::Survey, &["HowisClaudedoingthissession?"], &["0:Dismiss", "1:Bad"]),
    marks(Dialog::FullscreenOffer, &["Trythenewfullscreenrenderer?"], &["Flicker-free", "Notnow"]),
    marks(Dialog::BrokenConfig, &["Configurationerror"], &["Resettodefaultconfiguration"]),
    marks(
        Dialog::BrokenSettings,
        &["SettingsError", "SettingsWarning"],
        &["Exitandfixmanually", "FixwithClaude"],
    ),
    marks(
        Dialog::ExternalImports,
        &["AllowexternalCLAUDE.mdfileimports?"],
        &["No,disableexternalimports"],
    ),
];

/// The dialog this screen shows, if it is one of those with a name.
pub(super) fn known(layout: &Layout<'_>) -> Option<Dialog> {
    let block = block_text(layout);
    let has_marks = |marks: &&Marks| {
        marks.begins.iter().any(|sign| block.starts_with(sign))
            && marks.offers.iter().any(|sign| block.contains(sign))
    };
    if let Some(marks) = MARKS.iter().find(has_marks) {
        return Some(marks.dialog);
    }
    if is_mcp(&block) {
        return Some(Dialog::McpServers);
    }
    if is_question(layout, &block) {
        return Some(Dialog::Question);
    }
    is_permission(layout).then_some(Dialog::Permission)
}

/// All of the block without blanks, and without the rules it begins with.
fn block_text(layout: &Layout<'_>) -> String {
    let text = squeezed(&layout.block().concat());
    text.trim_start_matches(|c: char| !c.is_alphanumeric() && !TABS.contains(&c)).to_owned()
}

/// Signs in front of the tabs of a question.
const TABS: [char; 4] = ['☐', '☒', '✔', '←'];

/// "New MCP server found in this project: one", "2 new MCP servers found …".
fn is_mcp(block: &str) -> bool {
    let title = block.trim_start_matches(|c: char| c.is_ascii_digit());
    ["NewMCPserver", "newMCPserver"].iter().any(|sign| title.starts_with(sign))
        && title.contains("MCPserversmayexecutecode")
}

/// A question of the session's own: the tabs of its questions, and the answers
/// that every question has; or the review of the answers at its end.
fn is_question(layout: &Layout<'_>, block: &str) -> bool {
    let has_tabs = block.starts_with(TABS);
    let answers = ["Chataboutthis", "1.Submitanswers"];
    let keys = "Entertoselect·";
    // Its tabs may have left the screen.
    let is_cut = !layout.is_bounded() && block.contains(keys);
    (has_tabs || is_cut) && answers.iter().any(|sign| block.contains(sign))
}

/// "Do you want to …?" above numbered options from "Yes" to "No".
fn is_permission(layout: &Layout<'_>) -> bool {
    let block = layout.block();
    let Some(first) = (0..block.len())
        .rev()
        .find(|at| option(block[*at]).is_some_and(|option| option.number == 1))
    else {
        return false;
    };
    // One too long for the screen has lost its rule. The conversation keeps
    // further to the right.
    if !layout.is_bounded() && (indent(block[first]) > 1 || !has_keys(layout)) {
        return false;
    }
    let options: Vec<_> = block[first..].iter().filter_map(|line| option(line)).collect();
    let is_answerable = options.iter().filter(|option| option.is_selected).count() == 1
        && options.first().is_some_and(|option| option.label.starts_with("Yes"))
        && options.last().is_some_and(|option| option.label.starts_with("No"));
    let question = squeezed(&block[first.saturating_sub(QUESTION_LINES)..first].concat());
    is_answerable && question.contains("Doyouwantto") && question.ends_with('?')
}

/// Most lines the question of a permission takes.
const QUESTION_LINES: usize = 3;

/// Whether something waits for a choice or a key.
pub(super) fn asks(layout: &Layout<'_>) -> bool {
    // In column 0 it may be an input line that is not painted to its end.
    let is_pointer = |line: &&str| {
        let points = line.trim_start().starts_with(POINTER);
        points && (indent(line) > 0 || option(line).is_some())
    };
    has_keys(layout) || layout.is_bounded() && layout.block().iter().any(is_pointer)
}

/// Lines at the end of a block that may name its keys.
const KEY_LINES: usize = 4;

/// Whether the block ends with the keys it takes: "Enter to confirm · Esc to
/// cancel", "Press Enter to continue", "(y/n)".
fn has_keys(layout: &Layout<'_>) -> bool {
    last_lines(layout).any(|line| (layout.is_bounded() || indent(line) <= 1) && names_a_key(line))
}

/// As [`has_keys`], wherever on its line they stand.
pub(super) fn names_keys(layout: &Layout<'_>) -> bool {
    last_lines(layout).any(names_a_key)
}

fn last_lines<'a>(layout: &Layout<'a>) -> impl Iterator<Item = &'a str> {
    let lines = layout.block().iter().rev().filter(|line| !line.trim().is_empty());
    lines.take(KEY_LINES).copied()
}

fn names_a_key(line: &str) -> bool {
    const KEYS: [&str; 5] = ["enterto", "escto", "returnto", "spaceto", "pressenter"];
    const ANSWERS: [&str; 4] = ["(y/n)", "[y/n]", "pressanykey", "anykeyto"];
    let line = squeezed(line).to_lowercase().replace("esctointerrupt", "");
    KEYS.iter().chain(&ANSWERS).any(|sign| line.contains(sign))
}
