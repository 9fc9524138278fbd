//! The demo's worker: what a model would do, scripted, on a real project.
//!
//! It is stateless. What it does next follows from the conversation it is
//! sent, which holds what the real tools showed it, and so from the files on
//! disk; a fresh session picks up where the last one stopped because the
//! dev-docs say so, not because this code remembers. Only the token figures
//! are made up: a real model's context grows as much in hours.

use std::time::Duration;

use serde_json::json;

use super::api::{Reply, Request, Script, ToolUse, Usage};

/// The task file of the demo, relative to the project.
pub(super) const TASKS_FILE: &str = "dev-docs/tasks.md";
/// Descriptions mark the worker's own calls, so that it knows them again.
const LOOK: &str = "Read the dev-docs";
const CHECKPOINT: &str = "Write the checkpoint";
const TICK: &str = "Tick off task";

/// How the worker behaves.
#[derive(Debug, Clone)]
pub struct Worker {
    /// A user text that starts with this asks for a checkpoint.
    pub checkpoint_marker: String,
    /// The window its figures are made for, in tokens.
    pub window_tokens: u64,
    /// Time taken for each answer.
    pub latency: Duration,
}

impl Worker {
    /// A worker that has 70 % of `window_tokens` in use after eight or nine
    /// tool calls.
    pub fn for_window(window_tokens: u64, checkpoint_marker: impl Into<String>) -> Self {
        Self {
            checkpoint_marker: checkpoint_marker.into(),
            window_tokens,
            latency: Duration::from_millis(200),
        }
    }
}

impl Script for Worker {
    fn reply(&self, request: &Request) -> Reply {
        if request.side {
            return Reply::side(Usage { input_tokens: 200, output_tokens: 12, ..Usage::default() });
        }
        let usage = self.usage(request);
        let reply = match next_move(request, &self.checkpoint_marker) {
            Move::Say(text) => Reply::text(text, usage),
            Move::Call { say, name, input } => Reply::tool(name, input, usage).saying(say),
        };
        reply.after(self.latency)
    }
}

impl Worker {
    /// Context by the calls made so far; the last step is what is newly cached.
    fn usage(&self, request: &Request) -> Usage {
        let mut fresh = self.window_tokens * FIRST_PERCENT / 100;
        let mut tokens = fresh;
        for (index, call) in calls(request).enumerate() {
            // A little uneven, as real steps are: between 92 % and 108 %.
            let uneven = 92 + (index as u64 * 7) % 17;
            fresh = self.window_tokens * growth_percent(call) * uneven / 10_000;
            tokens += fresh;
        }
        Usage::of_context(tokens, fresh, 400)
    }
}

/// Context of a session's first answer: instructions and tools.
const FIRST_PERCENT: u64 = 10;

/// What a call and its result add, in percent of the window. Small enough that
/// a checkpoint request which arrives three calls late still finds room.
fn growth_percent(call: &ToolUse) -> u64 {
    match call.input["description"].as_str() {
        None => 8,
        Some(LOOK) => 11,
        Some(CHECKPOINT) => 1,
        Some(text) if text.starts_with(TICK) => 4,
        Some(_) => 6,
    }
}

/// What the worker does next.
#[derive(Debug, PartialEq)]
enum Move {
    Say(String),
    Call { say: String, name: &'static str, input: serde_json::Value },
}

fn bash(say: impl Into<String>, command: String, description: &str) -> Move {
    Move::Call {
        say: say.into(),
        name: "Bash",
        input: json!({ "command": command, "description": description }),
    }
}

fn next_move(request: &Request, marker: &str) -> Move {
    let last_said = request.turns.iter().rposition(|turn| turn.is_said());
    let asked =
        last_said.filter(|index| request.turns[*index].texts.iter().any(|t| t.starts_with(marker)));
    if let Some(index) = asked {
        let written = request.turns[index..]
            .iter()
            .flat_map(|t| &t.tool_uses)
            .any(|call| described(call, CHECKPOINT));
        if written {
            return Move::Say(
                "The checkpoint is written; a fresh session can go on from dev-docs.".into(),
            );
        }
        return match tasks_shown(request) {
            Some(tasks) => checkpoint(request, &tasks),
            None => look(request),
        };
    }
    work(request)
}

fn look(request: &Request) -> Move {
    if calls(request).any(|call| described(call, LOOK)) {
        return Move::Say(format!("I looked, but {TASKS_FILE} shows no tasks."));
    }
    let command = format!(
        "cat dev-docs/PROJECT_SUMMARY.md dev-docs/plan.md {TASKS_FILE}; echo; ls pages/*.md"
    );
    bash("I read the dev-docs first.", command, LOOK)
}

fn work(request: &Request) -> Move {
    let Some(tasks) = tasks_shown(request) else { return look(request) };
    let Some(task) = tasks.iter().find(|task| !task.ticked) else {
        return Move::Say("Every task is ticked off. The guide is complete.".into());
    };
    let (number, path) = (task.number, &task.path);
    if !exists(request, path) {
        return Move::Call {
            say: format!("Task {number}: {path} is still to be written."),
            name: "Write",
            // Relative to the project, as the tasks are.
            input: json!({ "file_path": absolute(request, path), "content": page(path) }),
        };
    }
    if !calls(request).any(|call| described(call, &check_description(path))) {
        let command =
            format!("wc -w {path} && head -n 1 {path} | grep -q '^# ' && echo 'has a title'");
        return bash(format!("I check {path}."), command, &check_description(path));
    }
    let command = format!(
        r"sed -i 's|^- \[ \] {number}\. |- [x] {number}. |' {TASKS_FILE} && cat {TASKS_FILE}"
    );
    bash(format!("Task {number} is done; I tick it off."), command, &format!("{TICK} {number}"))
}

/// One shell call that brings all three files up to date.
fn checkpoint(request: &Request, tasks: &[Task]) -> Move {
    let done = tasks.iter().filter(|task| task.ticked).count();
    let next = match tasks.iter().find(|task| !task.ticked) {
        Some(task) if exists(request, &task.path) => {
            format!("check {}, then tick off task {}", task.path, task.number)
        }
        Some(task) => format!("task {}, write {}", task.number, task.path),
        None => "nothing is left".to_owned(),
    };
    let all = tasks.len();
    let command = format!(
        r#"n=$(($(grep -c '^## Checkpoint' dev-docs/PROJECT_SUMMARY.md) + 1))
cat >> dev-docs/PROJECT_SUMMARY.md <<EOF

## Checkpoint $n
{done} of {all} pages are written, checked and ticked off. Next: {next}.
EOF
sed -i "s|^Progress:.*|Progress: {done} of {all} at checkpoint $n.|" dev-docs/plan.md
sed -i "s|^Next step.*|Next step (checkpoint $n): {next}.|" {TASKS_FILE}
tail -n 3 dev-docs/PROJECT_SUMMARY.md"#
    );
    bash("I write the present state into dev-docs.", command, CHECKPOINT)
}

/// A line `- [ ] 3. Write pages/earth.md` of the task file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Task {
    number: u32,
    path: String,
    ticked: bool,
}

/// The tasks as the newest tool result that shows them has them.
fn tasks_shown(request: &Request) -> Option<Vec<Task>> {
    let shown = request
        .finished_tools()
        .into_iter()
        .rev()
        .map(|(_, result)| result.text.lines().filter_map(task_in).collect::<Vec<_>>());
    shown.into_iter().find(|tasks| !tasks.is_empty())
}

fn task_in(line: &str) -> Option<Task> {
    let (ticked, rest) = match (line.strip_prefix("- [x] "), line.strip_prefix("- [ ] ")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return None,
    };
    let (number, rest) = rest.split_once(". Write ")?;
    let path = rest.split_whitespace().next()?.trim_matches(['`', ':']);
    // It becomes part of a shell command: plain names only.
    let plain =
        path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_'));
    if !plain || path.contains("..") || path.starts_with(['/', '-']) {
        return None;
    }
    Some(Task { number: number.parse().ok()?, path: path.to_owned(), ticked })
}

/// Whether a tool has shown that `path` is there: written, or listed.
fn exists(request: &Request, path: &str) -> bool {
    request.finished_tools().iter().any(|(call, result)| {
        let wrote = call.name == "Write"
            && !result.is_error
            && call.input["file_path"].as_str().is_some_and(|file| file.ends_with(path));
        wrote || (described(call, LOOK) && result.text.lines().any(|line| line == path))
    })
}

fn check_description(path: &str) -> String {
    format!("Check {path}")
}

fn calls(request: &Request) -> impl Iterator<Item = &ToolUse> {
    request.turns.iter().flat_map(|turn| &turn.tool_uses)
}

fn described(call: &ToolUse, description: &str) -> bool {
    call.input["description"] == description
}

/// The project's own path, as Claude Code tells it in its remarks.
fn absolute(request: &Request, path: &str) -> String {
    const LABEL: &str = "Primary working directory: ";
    let body = request.body.to_string();
    let folder =
        body.split_once(LABEL).map(|(_, rest)| rest.split("\\n").next().unwrap_or_default());
    match folder {
        Some(folder) if folder.starts_with('/') => {
            format!("{}/{path}", folder.trim_end_matches('/'))
        }
        _ => path.to_owned(),
    }
}

/// The pages of the guide, and what they say. Three calls each: enough for
/// three sessions to fill up and a fourth to finish.
pub(super) const PAGES: [(&str, &str); 14] = [
    ("sun", "A middle-sized star; nearly all the mass of the solar system is in it."),
    (
        "mercury",
        "The smallest planet and the nearest to the Sun: a year of 88 days, and no air to keep the warmth.",
    ),
    (
        "venus",
        "Hotter than Mercury, under clouds of sulphuric acid; its day is longer than its year.",
    ),
    ("earth", "The only one known to carry liquid water on its surface, and readers."),
    ("moon", "It always shows Earth the same face, and moves away by a few centimetres a year."),
    ("mars", "Cold and dusty, with the highest volcano of all and two small moons."),
    ("ceres", "The largest body between Mars and Jupiter, with bright spots of salt."),
    (
        "jupiter",
        "More than twice as heavy as all other planets together; its red spot is a storm centuries old.",
    ),
    (
        "saturn",
        "Known for its rings of ice, thousands of kilometres wide and mostly less than a hundred metres thick.",
    ),
    ("uranus", "It lies on its side: each pole has 42 years of sun and 42 years of night."),
    ("neptune", "Found by calculation before it was seen; its winds are the fastest of all."),
    ("pluto", "A small world of ice with five moons, called a dwarf planet since 2006."),
    ("eris", "As large as Pluto and three times as far away; its discovery cost Pluto its rank."),
    ("halley", "A comet that comes by every 76 years, seen and written down since antiquity."),
];

fn page(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".md");
    let text = PAGES
        .iter()
        .find(|(page, _)| *page == name)
        .map_or("Not much is known about it.", |(_, text)| text);
    let title =
        name.chars().next().map(|c| c.to_ascii_uppercase().to_string() + &name[c.len_utf8()..]);
    format!("# {}\n\n{text}\n", title.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::project::lay_out;
    use super::*;
    use serde_json::Value;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    const TASKS: &str =
        "# Tasks\n- [x] 1. Write `pages/mercury.md`\n- [ ] 2. Write `pages/venus.md`\n";

    /// A conversation: what was said, then calls with their results.
    fn request(steps: &[(&str, Value, &str)], last_text: Option<&str>) -> Request {
        let mut messages = vec![json!({ "role": "user", "content": "/session-init" })];
        for (index, (name, input, result)) in steps.iter().enumerate() {
            let id = format!("t{index}");
            messages.push(json!({ "role": "assistant", "content": [{ "type": "tool_use", "id": id, "name": name, "input": input }] }));
            messages.push(json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": id, "content": result }] }));
        }
        if let Some(text) = last_text {
            messages.push(json!({ "role": "assistant", "content": "well" }));
            messages.push(json!({ "role": "user", "content": text }));
        }
        Request::parse(
            Some("s"),
            json!({ "model": "m", "tools": [{}], "messages": messages,
            "system": "Primary working directory: /p\nmore" }),
        )
    }

    fn looked(result: &str) -> (&'static str, Value, &str) {
        ("Bash", json!({ "command": "cat", "description": LOOK }), result)
    }

    fn description(got: Move) -> String {
        match got {
            Move::Call { input, .. } => input["description"].as_str().unwrap_or("Write").to_owned(),
            Move::Say(text) => text,
        }
    }

    #[test]
    fn it_goes_by_what_the_tools_showed() {
        let next = |steps: &[_]| description(next_move(&request(steps, None), "CHECKPOINT"));
        assert_eq!(next(&[]), LOOK);
        let written = ("Write", json!({ "file_path": "/p/pages/venus.md" }), "created");
        let checked =
            ("Bash", json!({ "description": "Check pages/venus.md" }), "20 pages/venus.md");
        let ticked = (
            "Bash",
            json!({ "description": "Tick off task 2" }),
            "- [x] 1. Write a\n- [x] 2. Write b",
        );
        assert_eq!(next(&[looked(TASKS)]), "Write");
        assert_eq!(next(&[looked(TASKS), written.clone()]), "Check pages/venus.md");
        assert_eq!(next(&[looked(TASKS), written.clone(), checked.clone()]), "Tick off task 2");
        assert!(
            next(&[looked(TASKS), written, checked, ticked]).starts_with("Every task is ticked")
        );
    }

    #[test]
    fn a_page_left_by_an_earlier_session_is_checked_and_not_written_again() {
        let shown = format!("{TASKS}\npages/mercury.md\npages/venus.md");
        let got = next_move(&request(&[looked(&shown)], None), "CHECKPOINT");
        assert_eq!(description(got), "Check pages/venus.md");
    }

    #[test]
    fn a_checkpoint_is_written_once_then_the_turn_ends_and_a_nudge_goes_on() {
        let wrote = ("Bash", json!({ "description": CHECKPOINT }), "## Checkpoint 1");
        let asked = request(&[looked(TASKS)], Some("CHECKPOINT: now"));
        assert_eq!(description(next_move(&asked, "CHECKPOINT")), CHECKPOINT);
        let mut messages = asked.body["messages"].as_array().unwrap().clone();
        messages.push(json!({ "role": "assistant", "content": [{ "type": "tool_use", "id": "c", "name": wrote.0, "input": wrote.1 }] }));
        messages.push(json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "c", "content": wrote.2 }] }));
        let body =
            |messages: &[Value]| json!({ "model": "m", "tools": [{}], "messages": messages });
        let after = Request::parse(None, body(&messages));
        assert!(matches!(next_move(&after, "CHECKPOINT"), Move::Say(_)));
        messages.push(json!({ "role": "assistant", "content": "written" }));
        messages.push(json!({ "role": "user", "content": "go on" }));
        let nudged = Request::parse(None, body(&messages));
        assert_eq!(description(next_move(&nudged, "CHECKPOINT")), "Write");
    }

    #[test]
    fn files_are_named_absolutely_and_only_plain_names_reach_the_shell() {
        assert_eq!(absolute(&request(&[], None), "pages/venus.md"), "/p/pages/venus.md");
        for bad in ["a;b", "../x", "/etc/x", "-rf", "$(x)"] {
            assert_eq!(task_in(&format!("- [ ] 1. Write `{bad}`")), None, "{bad}");
        }
        assert!(task_in("- [ ] 1. Write `pages/mars.md`: cold").is_some());
    }

    /// Runs one session on real files without the CLI: its peak context in
    /// percent. The checkpoint request arrives `late` calls after 70 % was seen.
    fn session(worker: &Worker, project: &Path, late: usize) -> u64 {
        let mut messages = vec![json!({ "role": "user", "content": "/session-init" })];
        let mut due = None;
        let mut peak = 0;
        for turn in 0.. {
            assert!(turn < 40, "the session does not end");
            let body = json!({ "model": "m", "tools": [{}], "messages": messages,
                "system": format!("Primary working directory: {}\n", project.display()) });
            let request = Request::parse(Some("s"), body);
            peak = peak.max(worker.usage(&request).context_tokens() * 100 / worker.window_tokens);
            let Move::Call { name, input, .. } = next_move(&request, "CHECKPOINT") else { break };
            let result = run_tool(name, &input, project);
            let id = format!("t{turn}");
            messages.push(json!({ "role": "assistant", "content": [{ "type": "tool_use", "id": id, "name": name, "input": input }] }));
            let mut content =
                vec![json!({ "type": "tool_result", "tool_use_id": id, "content": result })];
            if peak >= 70 && due.is_none() {
                due = Some(turn + late);
            }
            if due == Some(turn) {
                content.push(json!({ "type": "text", "text": "CHECKPOINT: now" }));
            }
            messages.push(json!({ "role": "user", "content": content }));
        }
        peak
    }

    fn run_tool(name: &str, input: &Value, project: &Path) -> String {
        let text = |key: &str| input[key].as_str().unwrap().to_owned();
        if name == "Write" {
            fs::create_dir_all(project.join("pages")).unwrap();
            fs::write(text("file_path"), text("content")).unwrap();
            return "File created successfully".into();
        }
        let output = Command::new("sh")
            .args(["-c", &text("command")])
            .current_dir(project)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn three_sessions_fill_up_and_all_is_done_however_late_the_request_comes() {
        let worker = Worker::for_window(200_000, "CHECKPOINT");
        for late in 0..=3 {
            let root = tempfile::tempdir().unwrap();
            lay_out(root.path()).unwrap();
            let mut peaks = vec![];
            while fs::read_to_string(root.path().join(TASKS_FILE)).unwrap().contains("- [ ]") {
                assert!(peaks.len() < 8, "late by {late}: {peaks:?}");
                peaks.push(session(&worker, root.path(), late));
            }
            assert!(
                peaks.iter().filter(|peak| **peak >= 70).count() >= 3,
                "late by {late}: {peaks:?}"
            );
            assert!(peaks.iter().all(|peak| *peak <= 95), "late by {late}: {peaks:?}");
            let summary =
                fs::read_to_string(root.path().join("dev-docs/PROJECT_SUMMARY.md")).unwrap();
            assert!(summary.contains("## Checkpoint 3\n"), "{summary}");
        }
    }

    #[test]
    fn the_first_answer_uses_a_tenth_of_the_window() {
        let worker = Worker::for_window(1_000_000, "CHECKPOINT");
        assert_eq!(worker.usage(&request(&[], None)).context_tokens(), 100_000);
    }
}
