//! The files that `longhaul init` puts into a project.
//!
//! What is written here is read by every session, so it is short; and it is
//! the first task file that longhaul reads, so the tests hold it to the grammar.

use crate::error::{Error, Result};

use super::handoff::fenced;
use super::task_file::TaskFile;

/// `dev-docs/PROJECT_SUMMARY.md`
pub const PROJECT_SUMMARY: &str = include_str!("templates/PROJECT_SUMMARY.md");
/// `dev-docs/plan.md`, with `{goal}`.
pub const PLAN: &str = include_str!("templates/plan.md");
/// `dev-docs/tasks.md`, with `{tasks}`.
pub const TASKS: &str = include_str!("templates/tasks.md");
/// `.claude/commands/session-init.md`: what every session is told first.
pub const SESSION_INIT: &str = include_str!("templates/session-init.md");

/// Longest text of `--task`. It stands in the plan, which every session reads,
/// so more than this would eat the context it is meant to save.
pub const MAX_TASK_TEXT_BYTES: usize = 64 * 1024;
/// A task on one line of at most this length is a task as it stands.
const MAX_ONE_TASK_BYTES: usize = 200;

const NO_GOAL: &str = "Not written yet: what should be true when the work is done?";
const PLAN_FIRST: &str = "- [ ] Break the goal in dev-docs/plan.md down into tasks below this one";
const CONFIG_HEAD: &str = "\
# Settings of longhaul for this project. Every key stands here with its default;
# remove the `#` directly before a key to change it.
# Durations are written \"90s\", \"10m\", \"2h\".
";

/// One file of the scaffold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFile {
    /// Where it belongs, relative to the project.
    pub path: &'static str,
    /// Its content.
    pub content: String,
}

/// All files of the scaffold, in the order in which a person hears of them.
/// `default_config` is the text of the compiled-in defaults; `task` seeds the
/// plan and the task file.
///
/// # Errors
/// `Usage` if `task` is blank or longer than [`MAX_TASK_TEXT_BYTES`].
pub fn scaffold(default_config: &str, task: Option<&str>) -> Result<Vec<TemplateFile>> {
    let task = task.map(clean).transpose()?;
    let goal = task.as_deref().map_or_else(|| NO_GOAL.to_owned(), fenced);
    let tasks = task.as_deref().map_or_else(|| PLAN_FIRST.to_owned(), first_tasks);
    let file = |path, content| TemplateFile { path, content };
    Ok(vec![
        file("longhaul.toml", commented_config(default_config)),
        file("dev-docs/PROJECT_SUMMARY.md", PROJECT_SUMMARY.to_owned()),
        file("dev-docs/plan.md", PLAN.replacen("{goal}", &goal, 1)),
        file("dev-docs/tasks.md", TASKS.replacen("{tasks}", &tasks, 1)),
        file(".claude/commands/session-init.md", SESSION_INIT.to_owned()),
    ])
}

/// The text of `--task` with plain line ends and without control characters.
fn clean(task: &str) -> Result<String> {
    if task.len() > MAX_TASK_TEXT_BYTES {
        let message = format!(
            "the text of --task has {} bytes, more than the {MAX_TASK_TEXT_BYTES} allowed",
            task.len()
        );
        return Err(Error::usage(message)
            .hint("put the text into a file of the project and name that file in --task"));
    }
    let lines = task.replace("\r\n", "\n").replace('\r', "\n");
    let keep = |c: &char| matches!(c, '\n' | '\t') || !(c.is_control() || *c == '\u{feff}');
    let text: String = lines.chars().filter(keep).collect();
    // The ends only: the first line may be indented on purpose.
    let text = text.trim_end().trim_start_matches('\n').to_owned();
    if text.trim().is_empty() {
        return Err(Error::usage("the text of --task is blank")
            .hint("say what should be done, as in --task \"port the parser to Rust\""));
    }
    Ok(text)
}

/// The tasks to start with: the checkboxes of the text if it has open ones, the
/// text itself if it is one short line, else the task to plan.
fn first_tasks(text: &str) -> String {
    if let Ok(list) = TaskFile::parse(text.as_bytes())
        && list.open_items().next().is_some()
    {
        return copied_list(&list);
    }
    let line = text.trim();
    if line.contains('\n') || line.len() > MAX_ONE_TASK_BYTES {
        return PLAN_FIRST.to_owned();
    }
    format!("- [ ] {line}")
}

fn copied_list(list: &TaskFile) -> String {
    let mut depth = 0;
    let lines = list.items.iter().enumerate().map(|(index, item)| {
        // Below plain list items a depth can be skipped; here that would be code.
        depth = if index == 0 { 0 } else { item.depth.min(depth + 1) };
        let mark = if item.ticked { 'x' } else { ' ' };
        let line = format!("{}- [{mark}] {}", "  ".repeat(depth as usize), item.text);
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The defaults as a file in which nothing is set: section heads and comments
/// stay, every key is commented out.
fn commented_config(default_config: &str) -> String {
    let body = default_config.find("\n[").map_or(default_config, |at| &default_config[at..]);
    let mut out = String::from(CONFIG_HEAD);
    for line in body.lines() {
        let is_key = !(line.is_empty() || line.starts_with('[') || line.starts_with('#'));
        out.push_str(if is_key { "#" } else { "" });
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::task_file::State;
    use super::*;

    const DEFAULTS: &str = include_str!("../../config/default.toml");

    fn content(task: Option<&str>, path: &str) -> String {
        let files = scaffold(DEFAULTS, task).unwrap();
        files.into_iter().find(|file| file.path == path).unwrap().content
    }

    fn tasks(task: Option<&str>) -> TaskFile {
        TaskFile::parse(content(task, "dev-docs/tasks.md").as_bytes()).unwrap()
    }

    #[test]
    fn the_scaffold_is_open_and_has_a_first_task() {
        let file = tasks(None);
        assert_eq!((file.ticked, file.total), (0, 1));
        assert_eq!(file.state(), State::Open);
        assert_eq!(file.oddities(), Vec::<String>::new());
    }

    #[test]
    fn the_first_task_is_the_text_its_list_or_the_plan() {
        assert_eq!(tasks(Some("port the parser\n")).items[0].text, "port the parser");
        let list = tasks(Some("Do this:\n- [x] a\n- b\n  - c\n    - [ ] d\n      - [ ] e\n"));
        let shown: Vec<_> =
            list.items.iter().map(|i| (i.text.as_str(), i.ticked, i.depth)).collect();
        assert_eq!(shown, [("a", true, 0), ("d", false, 1), ("e", false, 2)]);
        let text = content(Some("- [x] a\n- b\n  - c\n    - [ ] d\n"), "dev-docs/tasks.md");
        assert!(text.ends_with("\n- [x] a\n  - [ ] d\n"), "no depth is skipped: {text}");
        for text in ["two\nlines", &"long ".repeat(50), "- [x] all\n- [x] ticked"] {
            assert!(tasks(Some(text)).items[0].text.starts_with("Break the goal"), "{text}");
        }
    }

    #[test]
    fn the_goal_is_quoted_whole_and_cannot_leave_its_fence() {
        let text = "# Port\n```sh\ncargo test\n```\nStatus: done\n{goal} {tasks}";
        let plan = content(Some(text), "dev-docs/plan.md");
        assert!(plan.contains(&format!("````text\n{text}\n````")), "{plan}");
        assert_eq!(TaskFile::parse(plan.as_bytes()).unwrap().status, None);
    }

    #[test]
    fn a_blank_or_huge_task_is_refused() {
        for text in ["", " \n\t", "\u{1b}", &"x".repeat(MAX_TASK_TEXT_BYTES + 1)] {
            let err = scaffold(DEFAULTS, Some(text)).unwrap_err();
            assert_eq!(err.kind(), crate::ErrorKind::Usage);
            assert!(!err.hints().is_empty());
        }
    }

    #[test]
    fn the_config_sets_nothing_and_shows_every_default() {
        let config = commented_config(DEFAULTS);
        let set: toml::Table = config.parse().unwrap();
        assert!(set.values().all(|section| section.as_table().is_some_and(toml::Table::is_empty)));
        let uncomment = |line: &str| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => key.to_owned(),
            _ => line.to_owned(),
        };
        let all: Vec<_> = config.lines().map(uncomment).collect();
        let all: toml::Table = all.join("\n").parse().unwrap();
        assert_eq!(all, DEFAULTS.parse::<toml::Table>().unwrap());
    }

    #[test]
    fn the_session_is_told_what_it_must_know_in_few_words() {
        // Four bytes a token is the usual estimate for English.
        let tokens = SESSION_INIT.len() / 4;
        assert!((300..=500).contains(&tokens), "about {tokens} tokens");
        for part in [
            "PROJECT_SUMMARY.md",
            "plan.md",
            "tasks.md",
            "handoff.md",
            "CHECKPOINT",
            "Status: blocked",
        ] {
            assert!(SESSION_INIT.contains(part), "{part}");
        }
        assert_eq!(TaskFile::parse(SESSION_INIT.as_bytes()).unwrap().total, 0);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_scaffold_that_is_done(text in "([ \t-]{0,3}[-*1.]{0,2} \\[[ xX-]\\] |```|<!--|-->|Status: (done|blocked)|[\n> #]|\\PC){0,40}") {
            let Ok(files) = scaffold(DEFAULTS, Some(&text)) else { return Ok(()) };
            let file = TaskFile::parse(files[3].content.as_bytes()).unwrap();
            prop_assert_eq!(file.state(), State::Open);
            prop_assert!(file.oddities().is_empty());
        }
    }
}
