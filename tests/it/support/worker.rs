//! A scripted worker with knobs, for tests of longhaul's reactions.

use std::time::Duration;

use longhaul::demo::api::{Block, Gate, Reply, Request, Role, Script, Turn, Usage};
use serde_json::json;

/// What it does when it is asked for a checkpoint.
#[derive(Debug, Clone)]
pub enum Checkpoint {
    /// Updates the three dev-docs files and ends the turn.
    Comply,
    /// Ends the turn without writing anything.
    Refuse,
    /// Updates only these files.
    Partial(Vec<&'static str>),
    /// Refuses the first request of each session and complies with the next.
    SecondTime,
    /// Complies, but its answer is held back until the gate opens.
    Slow(Gate),
    /// Writes nothing and goes on working as if nothing had been said.
    Ignore,
}

/// The worker. `..Worker::default()` fills in what a test does not care for.
#[derive(Debug, Clone)]
pub struct Worker {
    /// What a checkpoint request starts with.
    pub marker: &'static str,
    /// Tool calls after each prompt before the turn ends; `None`: it never does.
    pub steps: Option<u32>,
    /// The shell command of a step. `%n` is the number of the step.
    pub command: String,
    /// Context of a session's first answer, in tokens.
    pub first_tokens: u64,
    /// Growth with each answer, in tokens.
    pub step_tokens: u64,
    /// Share of what is newly cached that goes to the one-hour cache, percent.
    pub cache_1h_percent: u64,
    /// Output tokens of each answer.
    pub output_tokens: u64,
    /// Latency of each answer.
    pub latency: Duration,
    pub checkpoint: Checkpoint,
    /// The session (from 1) whose first step ticks every box and ends the turn.
    pub done_in_session: Option<u32>,
    /// Whether each session's first step ticks one box.
    pub tick_one_per_session: bool,
}

impl Default for Worker {
    /// On a window of 200,000: 70 % is crossed with the seventh answer.
    fn default() -> Self {
        Self {
            marker: "CHECKPOINT",
            steps: None,
            command: "echo step %n >> work.log".into(),
            first_tokens: 20_000,
            step_tokens: 20_000,
            cache_1h_percent: 0,
            output_tokens: 50,
            latency: Duration::from_millis(20),
            checkpoint: Checkpoint::Comply,
            done_in_session: None,
            tick_one_per_session: false,
        }
    }
}

impl Worker {
    /// The same with fewer answers to a session: 70 % is crossed with the third.
    pub fn brisk() -> Self {
        Self { first_tokens: 40_000, step_tokens: 50_000, ..Self::default() }
    }
}

const ALL_FILES: [&str; 3] =
    ["dev-docs/PROJECT_SUMMARY.md", "dev-docs/plan.md", "dev-docs/tasks.md"];

/// The shell command that ticks every box.
pub const TICK_ALL: &str = r"sed -i 's/- \[ \]/- [x]/' dev-docs/tasks.md";
const TICK_ONE: &str = r"sed -i '0,/- \[ \]/s//- [x]/' dev-docs/tasks.md";

#[test]
fn boxes_are_ticked_one_by_one_or_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("dev-docs")).unwrap();
    let file = dir.path().join("dev-docs/tasks.md");
    std::fs::write(&file, "- [ ] a\n- [ ] b\n- [ ] c\n").unwrap();
    let ticked = |command: &str| {
        assert!(
            std::process::Command::new("sh")
                .args(["-c", command])
                .current_dir(dir.path())
                .status()
                .unwrap()
                .success()
        );
        std::fs::read_to_string(&file).unwrap()
    };
    assert_eq!(ticked(TICK_ONE), "- [x] a\n- [ ] b\n- [ ] c\n");
    assert_eq!(ticked(TICK_ALL), "- [x] a\n- [x] b\n- [x] c\n");
}

impl Script for Worker {
    fn reply(&self, request: &Request) -> Reply {
        if request.side {
            return Reply::side(Usage { input_tokens: 100, output_tokens: 7, ..Usage::default() });
        }
        self.act(request).after(self.latency)
    }
}

impl Worker {
    /// The number of the checkpoint request that was said last, from 1.
    pub fn asked(&self, request: &Request) -> Option<usize> {
        let asks = |turn: &&Turn| turn.texts.iter().any(|text| text.starts_with(self.marker));
        let said = request.turns.iter().rfind(|turn| turn.is_said());
        said.filter(asks).map(|_| request.turns.iter().filter(asks).count())
    }

    /// Tool calls since the person last said something.
    pub fn calls(&self, request: &Request) -> usize {
        let said = request.turns.iter().rposition(|turn| turn.is_said()).unwrap_or(0);
        request.turns[said..].iter().flat_map(|turn| &turn.tool_uses).count()
    }

    /// The usage it claims with its answer to this request.
    pub fn usage_now(&self, request: &Request) -> Usage {
        self.usage(request.turns.iter().filter(|t| t.role == Role::Assistant).count() as u64)
    }

    /// The usage this worker claims with its `answers + 1`th answer of a session.
    pub fn usage(&self, answers: u64) -> Usage {
        let fresh = if answers == 0 { self.first_tokens } else { self.step_tokens };
        let mut usage = Usage::of_context(
            self.first_tokens + answers * self.step_tokens,
            fresh,
            self.output_tokens,
        );
        let written = usage.cache_write_5m_tokens;
        usage.cache_write_1h_tokens = written * self.cache_1h_percent / 100;
        usage.cache_write_5m_tokens = written - usage.cache_write_1h_tokens;
        usage
    }

    fn act(&self, request: &Request) -> Reply {
        let answers =
            request.turns.iter().filter(|turn| turn.role == Role::Assistant).count() as u64;
        let usage = self.usage(answers);
        let said = request.turns.iter().rposition(|turn| turn.is_said()).unwrap_or(0);
        let asks = |index: usize| {
            request.turns[index].texts.iter().any(|text| text.starts_with(self.marker))
        };
        let calls = request.turns[said..].iter().flat_map(|turn| &turn.tool_uses).count() as u32;
        if !request.turns.is_empty() && asks(said) {
            let asked = (0..=said).filter(|index| asks(*index)).count();
            match (&self.checkpoint, asked) {
                (Checkpoint::Ignore, _) => {}
                (Checkpoint::Refuse, _) | (Checkpoint::SecondTime, 1) => {
                    return Reply::text("I would rather not.", usage);
                }
                (Checkpoint::Partial(files), _) => {
                    return self.write_down(files, calls, usage, request);
                }
                (Checkpoint::Slow(gate), _) => {
                    return self.write_down(&ALL_FILES, calls, usage, request).behind(gate);
                }
                (Checkpoint::Comply | Checkpoint::SecondTime, _) => {
                    return self.write_down(&ALL_FILES, calls, usage, request);
                }
            }
        }
        let is_done = self.done_in_session.is_some_and(|done| request.session_index + 1 >= done);
        if self.steps.is_some_and(|steps| calls >= steps) || (is_done && calls > 0) {
            return Reply::text("That is it for now.", usage);
        }
        Reply::bash(self.step(request, answers), usage).saying("working")
    }

    fn step(&self, request: &Request, answers: u64) -> String {
        let session = request.session_index + 1;
        if answers == 0 && self.done_in_session.is_some_and(|done| session >= done) {
            return TICK_ALL.into();
        }
        if answers == 0 && self.tick_one_per_session {
            return TICK_ONE.into();
        }
        self.command.replace("%n", &(answers + 1).to_string())
    }

    fn write_down(&self, files: &[&str], calls: u32, usage: Usage, request: &Request) -> Reply {
        if calls > 0 {
            return Reply::text("Written down.", usage);
        }
        let line = format!(
            "Checkpoint of session {}, request {}.",
            request.session_index + 1,
            request.index_in_session
        );
        let command = format!("for f in {}; do echo '{line}' >> $f; done", files.join(" "));
        let input = json!({ "command": command, "description": "Write the checkpoint" });
        Reply::new(vec![Block::ToolUse { name: "Bash".into(), input }], usage)
    }
}
