//! A task of the queue as a section of the task file, between two marks of
//! longhaul's own.
//!
//! Pure but for [`put`]. The marks are HTML comments, so the grammar of the task
//! file does not see them; the description is a block quote, so nothing in it
//! counts as a checkbox or a status. What counts is the one checkbox below, and
//! those that sessions add to it.

use std::path::Path;

use rustix::fs::{AtFlags, Mode};

use super::beneath;
use super::handoff::WriteProblem;
use super::read::{self, ReadProblem, TaskProblem};
use super::task_file::{DoneBy, MAX_TASK_FILE_BYTES, State, Status, TaskFile};
use crate::text;

const BEGIN: &str = ": begin -->";
const END: &str = ": end -->";
const MARK: &str = "<!-- longhaul task ";
const CONTEXT: &str = "\nContext:";
/// A line that said the whole file is done or blocked, and what it said.
const PUT_RIGHT: &str = "Status: in progress <!-- before this task: ";
/// Longest text of the checkbox, in columns.
const TITLE_COLUMNS: usize = 120;
/// Status lines that are put right in one file.
const STATUS_LINES_MAX: usize = 100;
/// Said above what a section held before the words of its task were changed.
const WORDS_CHANGED: &str = "The words of this task were changed. What stood here before:";
/// The box of a section that was ticked before anybody took the task up again.
const LOOK_AGAIN: &str = "All boxes above were ticked before this run: see whether it is done";
/// Times that somebody may write the task file while it is being written.
const WRITE_TRIES: u32 = 5;
/// A task file that is not there yet.
const EMPTY_FILE: &str = "# Tasks\n\nStatus: in progress\n";

/// What a section says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    /// The task's id.
    pub id: &'a str,
    /// What is to be done.
    pub description: &'a str,
    /// What helps.
    pub context: Option<&'a str>,
}

/// The first line of a description that says something, on one line, cut.
pub fn title(description: &str) -> String {
    let line = description.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
    let line = text::safe(line).replace("<!--", "<! --");
    text::clip(&line, TITLE_COLUMNS).into_owned()
}

impl Section<'_> {
    fn render(&self) -> String {
        format!("{}\n- [ ] {}\n\n{}\n", self.head(), title(self.description), self.end())
    }

    /// Its mark, its heading, and the words of the task.
    fn head(&self) -> String {
        let id = self.id;
        let mut head = format!("{MARK}{id}{BEGIN}\n## Task {id}\n\n{}", quote(self.description));
        if let Some(context) = self.context {
            head.push_str(CONTEXT);
            head.push_str("\n\n");
            head.push_str(&quote(context));
        }
        head
    }

    fn end(&self) -> String {
        format!("{MARK}{}{END}", self.id)
    }

    /// What stands in the section `text`, without its marks and its heading.
    fn without_marks<'t>(&self, text: &'t str) -> &'t str {
        let inner = text.split_once('\n').map_or("", |(_, inner)| inner);
        let inner = inner.rsplit_once(&self.end()).map_or(inner, |(inner, _)| inner);
        let heading = format!("## Task {}\n", self.id);
        inner.strip_prefix(&heading).unwrap_or(inner).trim_matches('\n')
    }
}

fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.trim_matches('\n').lines() {
        out.push_str(if line.is_empty() { ">" } else { "> " });
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// Where the section of `id` begins, and where its closing mark ends if it has one:
/// offsets in bytes.
fn find(file: &str, id: &str) -> Option<(usize, Option<usize>)> {
    let (begin, end) = (format!("{MARK}{id}{BEGIN}"), format!("{MARK}{id}{END}"));
    let (mut at, mut from) = (0, None);
    for line in file.split_inclusive('\n') {
        match from {
            None if line.trim() == begin => from = Some(at),
            Some(from) if line.trim() == end => return Some((from, Some(at + line.len()))),
            _ => {}
        }
        at += line.len();
    }
    from.map(|from| (from, None))
}

/// The ids of the sections in a file, in order.
pub fn ids(file: &str) -> Vec<String> {
    let id = |line: &str| Some(line.trim().strip_prefix(MARK)?.strip_suffix(BEGIN)?.to_owned());
    file.lines().filter_map(id).collect()
}

/// The file without the section of `id`. A section whose end somebody removed loses
/// its mark alone: what follows may be theirs.
pub fn without(file: &str, id: &str) -> String {
    let Some((from, to)) = find(file, id) else { return file.to_owned() };
    let rest = match to {
        Some(to) => &file[to..],
        None => file[from..].split_once('\n').map_or("", |(_, rest)| rest),
    };
    let (before, rest) = (file[..from].trim_end_matches('\n'), rest.trim_start_matches('\n'));
    match (before.is_empty(), rest.is_empty()) {
        (true, _) => rest.to_owned(),
        (false, true) => format!("{before}\n"),
        (false, false) => format!("{before}\n\n{rest}"),
    }
}

/// The file with the section in it, before the other tasks; as it is if it holds the
/// section already. Lines that say the whole file is done or blocked are put right,
/// and keep what they said.
pub fn with(file: &str, section: &Section<'_>) -> String {
    let file = opened(file);
    if find(&file, section.id).is_some() {
        return file;
    }
    let text = section.render();
    let placed = insert(&file, place(&file), &text);
    let is_seen = of(placed.as_bytes(), section.id).is_some_and(|part| part.total > 0)
        && TaskFile::parse(placed.as_bytes()).is_ok_and(|whole| whole.state() == State::Open);
    // A fence or a comment that is never closed hides what stands below it.
    if is_seen { placed } else { insert(&file, 0, &text) }
}

/// The offset before the first task, and before the heading it stands under.
fn place(file: &str) -> usize {
    let first_mark = ids(file).first().and_then(|id| find(file, id)).map(|(from, _)| from);
    let before_boxes = place_before_boxes(file);
    first_mark.map_or(before_boxes, |mark| mark.min(before_boxes))
}

fn place_before_boxes(file: &str) -> usize {
    let Some(first) = TaskFile::parse(file.as_bytes()).ok().and_then(|f| f.items.first().cloned())
    else {
        return file.len();
    };
    let lines: Vec<&str> = file.split_inclusive('\n').collect();
    let mut line = (first.line as usize).saturating_sub(1).min(lines.len());
    while line > 0 {
        let above = lines[line - 1].trim();
        let is_heading = above.starts_with("##");
        let is_blank_below_heading =
            above.is_empty() && line > 1 && lines[line - 2].trim().starts_with("##");
        if !is_heading && !is_blank_below_heading {
            break;
        }
        line -= 1;
    }
    lines[..line].iter().map(|line| line.len()).sum()
}

fn insert(file: &str, at: usize, text: &str) -> String {
    let (before, after) = (file[..at].trim_end_matches('\n'), file[at..].trim_start_matches('\n'));
    let mut out = String::with_capacity(file.len() + text.len() + 4);
    if !before.is_empty() {
        out.push_str(before);
        out.push_str("\n\n");
    }
    out.push_str(text);
    if !after.is_empty() {
        out.push('\n');
        out.push_str(after);
    }
    out
}

/// The file with no status line that says done or blocked: a task was added to it.
fn opened(file: &str) -> String {
    let mut file = file.to_owned();
    for _ in 0..STATUS_LINES_MAX {
        let line = match TaskFile::parse(file.as_bytes()).ok().and_then(|parsed| parsed.status) {
            Some(Status::Done { line } | Status::Blocked { line, .. }) => line,
            Some(Status::Other { contradicts: Some(line), .. }) => line,
            Some(Status::Other { .. }) | None => break,
        };
        let mut lines: Vec<String> = file.split_inclusive('\n').map(str::to_owned).collect();
        let Some(old) = lines.get_mut((line as usize).saturating_sub(1)) else { break };
        let said = old.trim().replace("--", "- -");
        let ending = if old.ends_with('\n') { "\n" } else { "" };
        *old = format!("{PUT_RIGHT}{said} -->{ending}");
        file = lines.concat();
    }
    file
}

/// The task file as it is without the queue: what a person said of the whole, and was put
/// right for a task of the queue, holds again.
///
/// # Errors
/// It cannot be read, or is no task file.
pub fn read_whole(project: &Path, relative: &Path) -> Result<TaskFile, TaskProblem> {
    let bytes = read::read_project_file(project, relative, MAX_TASK_FILE_BYTES)
        .map_err(TaskProblem::Read)?;
    match std::str::from_utf8(&bytes) {
        Ok(file) if file.contains(PUT_RIGHT) => TaskFile::parse(restored(file).as_bytes()),
        Ok(_) | Err(_) => TaskFile::parse(&bytes),
    }
    .map_err(TaskProblem::Parse)
}

/// The opposite of [`opened`], but for the sections of tasks: what is said there is said
/// of them.
fn restored(file: &str) -> String {
    let mut is_in_section = false;
    let restore = |line: &str| {
        let said = line.trim();
        if said.starts_with(MARK) {
            is_in_section = said.ends_with(BEGIN);
        }
        let old = said.strip_prefix(PUT_RIGHT).and_then(|said| said.strip_suffix(" -->"));
        let ending = if line.ends_with('\n') { "\n" } else { "" };
        match old.filter(|_| !is_in_section) {
            Some(old) => format!("{}{ending}", old.replace("- -", "--")),
            None => line.to_owned(),
        }
    };
    file.split_inclusive('\n').map(restore).collect()
}

/// The section of `id` as a task file of its own, if it is there. One that is never
/// closed reaches to the end.
pub fn of(bytes: &[u8], id: &str) -> Option<TaskFile> {
    let file = std::str::from_utf8(bytes).ok()?;
    let (from, to) = find(file, id)?;
    TaskFile::parse(&file.as_bytes()[from..to.unwrap_or(file.len())]).ok()
}

/// What the task file says about the task `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Done, blocked or open.
    pub state: State,
    /// Ticked boxes, of the section where there is one.
    pub ticked: u32,
    /// All boxes there.
    pub total: u32,
    /// Of the whole file.
    pub digest: String,
}

/// What the bytes of a task file say about the task `id`: blocked if the file says
/// so; done if all boxes of its section are ticked, or the whole file is done.
///
/// # Errors
/// The bytes are no task file.
pub fn read(bytes: &[u8], id: &str) -> Result<Reading, super::task_file::TaskFileError> {
    let whole = TaskFile::parse(bytes)?;
    let Some(part) = of(bytes, id) else {
        let state = whole.state();
        let (ticked, total, digest) = (whole.ticked, whole.total, whole.digest);
        return Ok(Reading { state, ticked, total, digest });
    };
    let is_ticked = part.total > 0 && part.ticked == part.total && part.unclosed_at.is_none();
    let state = match whole.state() {
        State::Blocked { reason } => State::Blocked { reason },
        State::Done { by } => State::Done { by },
        State::Open if is_ticked => State::Done { by: DoneBy::Checkboxes },
        State::Open => State::Open,
    };
    Ok(Reading { state, ticked: part.ticked, total: part.total, digest: whole.digest })
}

/// Reads what the task file says about the task `id`.
///
/// # Errors
/// It cannot be read, or is no task file.
pub fn read_file(project: &Path, relative: &Path, id: &str) -> Result<Reading, TaskProblem> {
    let bytes = read::read_project_file(project, relative, MAX_TASK_FILE_BYTES)
        .map_err(TaskProblem::Read)?;
    read(&bytes, id).map_err(TaskProblem::Parse)
}

/// Puts the section into the task file, and takes those out that `is_over` names.
///
/// A section of the same id that stands there is the task's own from before, if it was
/// begun before (`is_new`: it was not, and whatever stands there is not its own). It is
/// kept: an answer of a person, boxes a session split it into. But it does not make the
/// task done: who knows who ticked it, and for which words?
///
/// The file is written whole or not at all, beneath the project, and only if it changes.
/// One that is not there is begun; a link in the project stays one.
///
/// # Errors
/// Why not, for a person. The file is as it was.
pub fn put(
    project: &Path,
    relative: &Path,
    section: &Section<'_>,
    is_new: bool,
    mut is_over: impl FnMut(&str) -> bool,
) -> Result<(), String> {
    let shown = relative.display();
    for _ in 0..WRITE_TRIES {
        let old = match read::read_project_file(project, relative, MAX_TASK_FILE_BYTES) {
            Ok(bytes) => Some(
                String::from_utf8(bytes)
                    .map_err(|_| format!("the task file {shown} is not UTF-8 text"))?,
            ),
            Err(ReadProblem::Missing) => None,
            Err(problem) => return Err(format!("the task file {shown} cannot be read: {problem}")),
        };
        let new = laid_out(old.as_deref().unwrap_or_default(), section, is_new, &mut is_over);
        if new.len() as u64 > MAX_TASK_FILE_BYTES {
            return Err(format!("the task file {shown} has no room for the task"));
        }
        if Some(&new) == old.as_ref() {
            return Ok(());
        }
        match write(project, relative, &new, old.as_deref()) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(problem) => {
                return Err(format!("the task file {shown} cannot be written: {problem}"));
            }
        }
    }
    Err(format!("the task file {shown} is being written by somebody else, again and again"))
}

/// The file with the section in it, as [`put`] says.
fn laid_out(
    old: &str,
    section: &Section<'_>,
    is_new: bool,
    is_over: &mut impl FnMut(&str) -> bool,
) -> String {
    let mut new = if old.trim().is_empty() { EMPTY_FILE } else { old }.to_owned();
    for id in ids(&new) {
        // Without its end nobody knows what of the rest was the section's.
        let is_cut = || find(&new, &id).is_some_and(|(_, to)| to.is_none());
        let goes = if id == section.id { is_new || is_cut() } else { is_over(&id) };
        if goes {
            new = without(&new, &id);
        }
    }
    taken_up(&with(&new, section), section)
}

/// The file with a section of the task that says what its words are now, and has an open
/// box. Where its words were changed, what stood there is kept as a quotation.
fn taken_up(file: &str, section: &Section<'_>) -> String {
    let Some((from, Some(to))) = find(file, section.id) else { return file.to_owned() };
    let text = &file[from..to];
    // Blanks at the ends of lines are lost to editors.
    let mut lines = text.lines().map(str::trim_end);
    let begins_so = section.head().lines().all(|line| lines.next() == Some(line.trim_end()));
    let has_context = lines.find(|line| !line.is_empty()) == Some(CONTEXT.trim_start());
    let is_as_laid_out = begins_so && !(section.context.is_none() && has_context);
    if !is_as_laid_out {
        let old: String = quote(section.without_marks(text));
        let new = section.render().replacen(
            &section.end(),
            &format!("{WORDS_CHANGED}\n\n{old}\n{}", section.end()),
            1,
        );
        return format!("{}{new}{}", &file[..from], &file[to..]);
    }
    let is_open = TaskFile::parse(text.as_bytes()).is_ok_and(|part| part.ticked < part.total);
    if is_open {
        return file.to_owned();
    }
    let end = text.rfind(&section.end()).unwrap_or(text.len());
    let text = format!("{}\n\n- [ ] {LOOK_AGAIN}\n\n{}", text[..end].trim_end(), &text[end..]);
    format!("{}{text}{}", &file[..from], &file[to..])
}

/// Writes the file if it still says `old`; false if it does not.
fn write(
    project: &Path,
    relative: &Path,
    text: &str,
    old: Option<&str>,
) -> Result<bool, WriteProblem> {
    let root = beneath::open_root(project)?;
    // A link that stays within the project was followed when it was read.
    let real = std::fs::canonicalize(project.join(relative)).ok();
    let real = real.as_deref().and_then(|real| real.strip_prefix(project).ok());
    let relative = real.unwrap_or(relative);
    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    let folder = relative.parent().unwrap_or(Path::new(""));
    let folder = beneath::open_or_create_folder(&root, folder, mode)?;
    let name = relative.file_name().unwrap_or_default();
    let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW);
    let mode = match stat {
        Ok(stat) => Mode::from_raw_mode(stat.st_mode & 0o777),
        Err(_) => Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH,
    };
    let old = old.map(str::as_bytes);
    Ok(beneath::replace_atomically(&folder, name, text.as_bytes(), mode, old)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::templates;
    use super::*;

    fn task(id: &'static str) -> Section<'static> {
        Section { id, description: "Do it\n- [ ] not a box\nStatus: done\n", context: None }
    }

    fn state(file: &str, id: &str) -> State {
        read(file.as_bytes(), id).unwrap().state
    }

    #[test]
    fn a_task_is_one_open_box_before_the_others_and_done_when_it_is_ticked() {
        let scaffold = templates::TASKS.replacen("{tasks}", "- [ ] theirs", 1);
        let file = with(&scaffold, &task("t1"));
        insta::assert_snapshot!(file.split_once("-->\n\n").unwrap().1, @r"
        <!-- longhaul task t1: begin -->
        ## Task t1

        > Do it
        > - [ ] not a box
        > Status: done

        - [ ] Do it

        <!-- longhaul task t1: end -->

        - [ ] theirs
        ");
        let reading = read(file.as_bytes(), "t1").unwrap();
        assert_eq!((reading.state, reading.ticked, reading.total), (State::Open, 0, 1));
        let ticked = file.replacen("- [ ] Do it", "- [x] Do it", 1);
        assert_eq!(state(&ticked, "t1"), State::Done { by: DoneBy::Checkboxes });
        assert_eq!(
            state(&ticked.replace("[ ] theirs", "[x] theirs"), "gone"),
            State::Done { by: DoneBy::Checkboxes }
        );
        assert_eq!(without(&ticked, "t1"), scaffold);
    }

    #[test]
    fn a_box_that_a_session_adds_counts_and_so_does_a_status() {
        let file = with("- [ ] theirs\n", &task("t1"));
        let more = file.replacen("- [ ] Do it", "- [x] Do it\n  - [ ] and this", 1);
        assert_eq!(state(&more, "t1"), State::Open);
        let done = format!("{file}\nStatus: done\n");
        assert_eq!(state(&done, "t1"), State::Done { by: DoneBy::StatusLine });
        let blocked = file.replacen("- [ ] Do it", "Status: blocked: no key", 1);
        assert_eq!(state(&blocked, "t1"), State::Blocked { reason: Some("no key".into()) });
    }

    #[test]
    fn what_was_done_or_blocked_before_is_open_again_and_keeps_its_words() {
        for said in ["Status: done", "**Status:** blocked: needs a --key"] {
            let file = with(&format!("# T\n\n{said}\n\n- [x] old\n"), &task("t1"));
            assert_eq!(state(&file, "t1"), State::Open, "{file}");
            assert!(file.contains("Status: in progress <!-- before this task: "), "{file}");
        }
    }

    #[test]
    fn what_a_person_said_of_the_whole_file_holds_again_without_the_queue() {
        let dir = tempfile::tempdir().unwrap();
        let file = with("# T\n\nStatus: blocked: ask --key of Bo\n\n- [ ] a\n", &task("t1"));
        let file = file.replacen("- [ ] Do it", "- [x] Do it\nStatus: done", 1);
        let file = with(&file, &task("t2")).replacen("- [ ] Do it", "- [x] Do it", 1);
        std::fs::write(dir.path().join("tasks.md"), &file).unwrap();
        let whole = || read_whole(dir.path(), Path::new("tasks.md")).unwrap();
        assert_eq!(whole().state(), State::Blocked { reason: Some("ask --key of Bo".into()) });
        std::fs::write(dir.path().join("tasks.md"), file.replace("blocked", "later")).unwrap();
        assert_eq!(whole().state(), State::Open, "what a task's section says is its own");
    }

    #[test]
    fn the_section_goes_above_the_heading_of_the_first_task() {
        let file = with("# T\n\nwords\n\n## Phase\n\n- [ ] a\n", &task("t1"));
        let order: Vec<_> = file.lines().filter(|l| l.starts_with('#')).collect();
        assert_eq!(order, ["# T", "## Task t1", "## Phase"]);
    }

    #[test]
    fn a_fence_that_is_never_closed_does_not_hide_it() {
        for file in ["# T\n```\nnever closed\n", "# T\n<!-- never closed\n", "- [x] a\n```\n"] {
            let file = with(file, &task("t1"));
            assert_eq!(state(&file, "t1"), State::Open, "{file}");
            assert_eq!(of(file.as_bytes(), "t1").unwrap().total, 1);
        }
    }

    #[test]
    fn without_its_end_a_section_loses_its_mark_alone() {
        let file = with("# T\n", &task("t1"));
        let cut = file.replace("<!-- longhaul task t1: end -->\n", "\n- [ ] theirs\n");
        assert!(without(&cut, "t1").contains("- [ ] theirs"));
        assert!(!without(&cut, "t1").contains("longhaul task"));
    }

    #[test]
    fn it_is_written_beneath_the_project_and_only_if_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (project, file) = (dir.path(), Path::new("dev-docs/tasks.md"));
        put(project, file, &task("t1"), false, |_| false).unwrap();
        let first = std::fs::read_to_string(project.join(file)).unwrap();
        put(project, file, &task("t2"), false, |id| id == "t1").unwrap();
        let second = std::fs::read_to_string(project.join(file)).unwrap();
        assert_eq!((ids(&first), ids(&second)), (vec!["t1".to_owned()], vec!["t2".to_owned()]));
        let before = std::fs::metadata(project.join(file)).unwrap().modified().unwrap();
        put(project, file, &task("t2"), false, |_| true).unwrap();
        let after = std::fs::metadata(project.join(file)).unwrap().modified().unwrap();
        assert_eq!(before, after);
        std::fs::remove_file(project.join(file)).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", project.join(file)).unwrap();
        let why = put(project, file, &task("t1"), false, |_| false).unwrap_err();
        assert!(why.contains("outside the project"), "{why}");
    }

    #[test]
    fn a_section_goes_before_others_and_never_into_one() {
        let kept = with("# T\n\n- [ ] theirs\n", &task("t0"));
        let both = with(&kept, &task("t1"));
        assert_eq!(ids(&both), ["t1", "t0"]);
        assert_eq!(of(both.as_bytes(), "t0").unwrap().total, 1);
        assert_eq!(without(&both, "t0"), with("# T\n\n- [ ] theirs\n", &task("t1")));
    }

    #[test]
    fn what_stands_there_of_a_task_that_nobody_began_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let (project, file) = (dir.path(), Path::new("tasks.md"));
        let forged = with("", &task("t1")).replace("- [ ] Do it", "- [x] Do it");
        std::fs::write(project.join(file), &forged).unwrap();
        put(project, file, &task("t1"), true, |_| false).unwrap();
        assert_eq!(read_file(project, file, "t1").unwrap().state, State::Open);
        assert!(!std::fs::read_to_string(project.join(file)).unwrap().contains("[x]"));
    }

    /// Taken up once more: what a person or a session wrote there stays, and ticks of
    /// before do not make it done.
    fn again(before: &str, section: &Section<'_>) -> String {
        let after = laid_out(before, section, false, &mut |_| false);
        assert_eq!(state(&after, section.id), State::Open, "{after}");
        assert_eq!(laid_out(&after, section, false, &mut |_| false), after, "once");
        after
    }

    #[test]
    fn a_section_that_is_taken_up_again_keeps_what_was_written_and_is_open() {
        let file = with("", &task("t1"));
        let split = file.replacen("- [ ] Do it", "- [x] Do it\n- [ ] more\n\nThe key is 7.", 1);
        assert_eq!(again(&split, &task("t1")), split);
        let ticked = split.replace("[ ] more", "[x] more");
        let after = again(&ticked, &task("t1"));
        assert!(after.contains("The key is 7.\n\n- [ ] All boxes above"), "{after}");
        assert_eq!(after.matches("[x]").count(), 2);
        let blocked = file.replacen("- [ ] Do it", "- [x] Do it\nStatus: blocked: no key", 1);
        assert!(again(&blocked, &task("t1")).contains("blocked: no key -->"));
        // Whoever takes its end away has not ticked all that follows.
        let cut = ticked.replace("<!-- longhaul task t1: end -->\n", "");
        assert!(again(&cut, &task("t1")).contains("The key is 7."));
    }

    #[test]
    fn blanks_at_the_ends_of_lines_are_no_words() {
        let section = Section { description: "Do it  \n\tthen that ", ..task("t1") };
        let file = with("", &section).replacen("- [ ]", "- [x] a part\n- [ ]", 1);
        for end in ["\n", "\r\n"] {
            let lines: Vec<&str> = file.lines().map(str::trim_end).collect();
            let edited = lines.join(end) + end;
            assert_eq!(again(&edited, &section), edited);
        }
    }

    #[test]
    fn other_words_make_another_task_of_it() {
        let file = with("# T\n", &task("t1")).replace("- [ ] Do it", "- [x] Do it\n\nA note.");
        let context = Section { context: Some("with care"), ..task("t1") };
        for section in [Section { description: "Do that", ..task("t1") }, context] {
            let after = again(&file, &section);
            assert!(after.contains(&section.head()) && after.contains("\n> A note.\n"), "{after}");
            assert!(
                after.contains(WORDS_CHANGED) && after.contains("\n> - [x] Do it\n"),
                "{after}"
            );
        }
        let with_context = with("# T\n", &context);
        assert!(again(&with_context, &task("t1")).contains(WORDS_CHANGED));
    }

    #[test]
    fn a_link_stays_one_and_the_permissions_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().canonicalize().unwrap();
        std::fs::create_dir(project.join("notes")).unwrap();
        let target = project.join("notes/real.md");
        std::fs::write(&target, "# T\n").unwrap();
        std::fs::set_permissions(&target, PermissionsExt::from_mode(0o664)).unwrap();
        symlink("notes/real.md", project.join("tasks.md")).unwrap();
        put(&project, Path::new("tasks.md"), &task("t1"), true, |_| false).unwrap();
        let kind = std::fs::symlink_metadata(project.join("tasks.md")).unwrap().file_type();
        assert!(kind.is_symlink());
        assert_eq!(ids(&std::fs::read_to_string(&target).unwrap()), ["t1"]);
        let mode = std::fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o664, "the umask is for new files");
    }

    proptest! {
        /// Whatever stands in the file: the task is open, once, and taking it out again
        /// gives back what was there.
        #[test]
        fn any_file_takes_a_task(
            file in "(# T\n)?((- \\[[ x]\\] a|## H|```|<!-- c|-->|Status: (done|blocked: x|y)|> q|words|    code|)\n){0,12}",
            words in "[ -~\n]{1,60}",
        ) {
            prop_assume!(!words.trim().is_empty());
            let section = Section { id: "t1", description: &words, context: Some(&words) };
            let with_it = with(&file, &section);
            prop_assert_eq!(ids(&with_it), vec!["t1".to_owned()]);
            let reading = read(with_it.as_bytes(), "t1").unwrap();
            prop_assert_eq!(&reading.state, &State::Open, "{}", with_it);
            prop_assert_eq!((reading.ticked, reading.total), (0, 1), "{}", with_it);
            prop_assert_eq!(&with(&with_it, &section), &with_it, "once");
            let squeezed = |text: &str| text.split('\n').filter(|l| !l.is_empty()).map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(squeezed(&without(&with_it, "t1")), squeezed(&opened(&file)));
        }
    }
}
