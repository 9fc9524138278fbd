//! What a session reads first and longhaul reads last: the command, the task file, the dev-docs.

use std::path::{Path, PathBuf};

use super::{Finding, Patient, shown};
use crate::ErrorKind;
use crate::claude_json::{Places, git_root, read_regular};
use crate::config::Config;
use crate::devdocs::proof::MAX_NOTES_BYTES;
use crate::devdocs::section;
use crate::devdocs::task_file::State;

/// The finding about what the task file says.
pub(super) const TASK_FILE: &str = "task-file";
/// A task file is a page of text.
const TASK_FILE_MAX_BYTES: u64 = 1 << 20;

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = init_command(patient).into_iter().collect();
    findings.push(task_file(patient));
    findings.push(checkpoint_files(patient));
    findings
}

/// The command named by an `init_prompt` that starts with `/`.
fn init_command(patient: &Patient<'_>) -> Option<Finding> {
    let id = "init-command";
    let prompt = &patient.config.session.init_prompt;
    let name = prompt.strip_prefix('/')?.split_whitespace().next()?;
    let shown_name = format!("/{}", name.escape_debug());
    let found = command_files(patient.project, patient.places.as_ref(), name)
        .into_iter()
        .find(|path| path.is_file());
    Some(match found {
        Some(path) => match read_regular(&path, TASK_FILE_MAX_BYTES) {
            Ok(Some(bytes)) if bytes.trim_ascii().is_empty() => {
                Finding::error(id, ErrorKind::Usage, format!("the command {shown_name} is empty"))
                    .detail(shown(&path, &patient.child_env))
                    .mend("write into it what a fresh session shall do first")
            }
            Err(why) => Finding::error(id, ErrorKind::Usage, format!("the command {shown_name} cannot be read"))
                .detail(format!("{}: {why}", shown(&path, &patient.child_env)))
                .mend("repair the file"),
            Ok(_) => Finding::ok(id, format!("{shown_name} is {}", shown(&path, &patient.child_env))),
        },
        None => Finding::error(id, ErrorKind::Usage, format!("there is no command {shown_name}"))
            .detail("every session starts with it (session.init_prompt); the CLI would only say \"Unknown command\"")
            .mend("`longhaul init` writes .claude/commands/session-init.md"),
    })
}

/// Is there a command that `session.init_prompt` names, in the project or elsewhere?
pub(super) fn has_init_command(config: &Config, project: &Path, places: Option<&Places>) -> bool {
    let prompt = &config.session.init_prompt;
    let Some(name) = prompt.strip_prefix('/').and_then(|rest| rest.split_whitespace().next())
    else {
        return true;
    };
    command_files(project, places, name).iter().any(|path| path.is_file())
}

/// Where the CLI would look: the project and its parents, then the user's folder.
fn command_files(project: &Path, places: Option<&Places>, name: &str) -> Vec<PathBuf> {
    if name.split([':', '/']).any(|part| part.is_empty() || part == "..") {
        return Vec::new();
    }
    let file = format!("commands/{}.md", name.replace(':', "/"));
    let skill = format!("skills/{name}/SKILL.md");
    let root = git_root(project);
    let mut dirs = Vec::new();
    for dir in project.ancestors() {
        dirs.push(dir.join(".claude"));
        if Some(dir) == root {
            break;
        }
    }
    dirs.extend(places.map(|places| places.config_dir.clone()));
    dirs.iter().flat_map(|dir| [dir.join(&file), dir.join(&skill)]).collect()
}

fn task_file(patient: &Patient<'_>) -> Finding {
    let id = TASK_FILE;
    let name = patient.config.task.file.display();
    let wrong =
        |why: &str| Finding::error(id, ErrorKind::Usage, format!("the task file {name} {why}"));
    let write = "write one `- [ ] task` line for each task into it, or `longhaul init --task TEXT`";
    let file = match section::read_whole(patient.project, &patient.config.task.file) {
        Ok(file) => file,
        Err(problem) => return wrong(&problem.to_string()).mend(write),
    };
    if file.total == 0 && file.status.is_none() {
        return wrong("has neither a checkbox nor a status line, so it can never be done")
            .mend(write);
    }
    match file.state() {
        State::Blocked { reason } => Finding::error(
            id,
            ErrorKind::NeedsPerson,
            format!("the task file {name} says `Status: blocked`"),
        )
        .detail(reason.unwrap_or_default())
        .mend("settle what it waits for and remove that line"),
        State::Done { .. } => {
            Finding::note(id, format!("the task file {name} is done: a run would end at once"))
                .mend("add open tasks")
        }
        State::Open => {
            let title = format!("{name}: {} of {} tasks done", file.ticked, file.total);
            let oddities = file.oddities();
            if oddities.is_empty() {
                return Finding::ok(id, title);
            }
            Finding::warning(id, title)
                .detail(oddities.join("; "))
                .mend("mend those lines of the task file")
        }
    }
}

fn checkpoint_files(patient: &Patient<'_>) -> Finding {
    let id = "dev-docs";
    let files = &patient.config.checkpoint.files;
    let problem = |file: &Path| match read_regular(&patient.project.join(file), MAX_NOTES_BYTES) {
        Ok(Some(bytes)) if bytes.trim_ascii().is_empty() => {
            Some(format!("{} is empty", file.display()))
        }
        Ok(Some(_)) => None,
        Ok(None) => Some(format!("{} does not exist", file.display())),
        Err(why) => Some(format!("{}: {why}", file.display())),
    };
    let problems: Vec<String> = files.iter().filter_map(|file| problem(file)).collect();
    if problems.is_empty() {
        return Finding::ok(id, format!("{} checkpoint files are there", files.len()));
    }
    Finding::warning(id, "not all checkpoint files are there")
        .detail(problems.join("; "))
        .mend("`longhaul init` writes what is missing; or name other files in checkpoint.files")
}
