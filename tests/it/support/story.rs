//! What a run tells, and whether it agrees with what the CLI says of itself.

use serde_json::Value;

use super::Lab;
use super::run::Finished;

/// The events other programs are promised, without `context`, which comes as
/// often as the model answers.
const MILESTONES: [&str; 8] = [
    "session_started",
    "threshold_reached",
    "checkpoint_requested",
    "checkpoint_delivered",
    "checkpoint_verified",
    "checkpoint_failed",
    "session_ended",
    "run_finished",
];

impl Finished {
    /// All events of this name, in order.
    pub fn named(&self, name: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == name).collect()
    }

    /// One field of all events of this name.
    pub fn field(&self, name: &str, field: &str) -> Vec<Value> {
        self.named(name).iter().map(|event| event[field].clone()).collect()
    }

    /// The promised events of one cycle in order, `context` left out.
    pub fn milestones(&self, cycle: u64) -> Vec<&str> {
        self.events
            .iter()
            .filter(|event| event["cycle"] == cycle)
            .filter_map(|event| event["event"].as_str())
            .filter(|name| MILESTONES.contains(name))
            .collect()
    }

    /// The sessions' ids, one a cycle.
    pub fn sessions(&self) -> Vec<String> {
        let ids = self.field("session_started", "session_id");
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Why each session ended.
    pub fn reasons(&self) -> Vec<&str> {
        self.named("session_ended").iter().map(|e| e["reason"].as_str().unwrap()).collect()
    }

    /// Everything it said, for a failed assertion.
    pub fn dump(&self) -> String {
        format!("exit: {}\n{}\n{}", self.status, self.stdout, self.stderr)
    }
}

/// A finished run and the report on it.
pub struct Story {
    pub run: Finished,
    pub report: Value,
}

impl Story {
    /// One field of every cycle of the report (`a.b` for a field in a field).
    pub fn of_cycles(&self, field: &str) -> Vec<Value> {
        let pointer = format!("/{}", field.replace('.', "/"));
        let cycles = self.report["cycles"].as_array().unwrap();
        cycles.iter().map(|cycle| cycle.pointer(&pointer).unwrap().clone()).collect()
    }
}

impl Lab {
    /// `longhaul run --json` to its end, which must be `code`. Whatever the
    /// test is about: nothing may outlive the run, and percentages and costs
    /// must be the CLI's own.
    pub fn story(&mut self, args: &[&str], code: i32) -> Story {
        self.watch_statusline();
        let run = self.longhaul(&[&["run", "--json"], args].concat());
        self.story_of(run.finished(), code)
    }

    /// The same for a run that was watched by the test (which must have called
    /// `watch_statusline` before).
    pub fn story_of(&self, run: Finished, code: i32) -> Story {
        assert_eq!(run.code(), code, "{}", run.dump());
        self.wait_for_no_survivors();
        let finished = run.named("run_finished");
        assert_eq!(finished.len(), 1, "{}", run.dump());
        assert_eq!(finished[0]["exit_code"], code, "{}", run.dump());
        assert_eq!(run.events.last(), finished.first().copied(), "{}", run.dump());
        let said = self.longhaul_output(&["report", "--json"]);
        let report = serde_json::from_str(&said.stdout)
            .unwrap_or_else(|err| panic!("{err}: {}", said.dump()));
        let story = Story { run, report };
        self.agrees_with_the_cli(&story);
        story
    }

    /// Every percentage is the statusline's, every bill is the CLI's.
    fn agrees_with_the_cli(&self, story: &Story) {
        for cycle in story.report["cycles"].as_array().unwrap() {
            let id = cycle["session_id"].as_str().unwrap();
            if cycle["peak_context_tokens"].is_null() {
                continue;
            }
            self.percentages_agree(story, cycle, id);
            // Only a session that ended politely leaves a bill.
            if let Some(billed) = self.cost_usd(id) {
                let told = cycle["cost_usd"].as_f64().unwrap();
                assert!((told - billed).abs() < 1e-6, "cycle costs {told}, the CLI says {billed}");
                let computed = cycle["computed_cost_usd"].as_f64().unwrap();
                // An answer cut off by Esc is paid for and in no transcript.
                let least = if self.was_interrupted(id) { 0.0 } else { billed };
                if cycle["unpriced_tokens"] == 0 {
                    assert!(
                        (least - 0.005..billed + 0.005).contains(&computed),
                        "computed {computed}, the CLI says {billed}: {cycle:#}"
                    );
                }
            } else {
                assert_ne!(cycle["exit"], 143, "it ended politely without a bill: {cycle:#}");
            }
        }
    }

    fn percentages_agree(&self, story: &Story, cycle: &Value, id: &str) {
        let inputs: Vec<Value> =
            self.statusline(id).into_iter().map(|input| input["context_window"].clone()).collect();
        let told: Vec<&Value> = story
            .run
            .events
            .iter()
            .filter(|event| event["cycle"] == cycle["cycle"] && event["event"] == "context")
            .collect();
        assert!(!inputs.is_empty() && !told.is_empty(), "nothing to compare: {cycle:#}");
        // The CLI speaks only once nothing has happened for a moment, so it
        // leaves figures out; those it states must be ours.
        for own in inputs.iter().filter(|own| own["used_percentage"].is_u64()) {
            let tokens = &own["total_input_tokens"];
            let same: Vec<_> = told.iter().filter(|event| event["tokens"] == *tokens).collect();
            assert!(!same.is_empty(), "never told: {own}\n{told:#?}");
            for event in same.iter().filter(|event| event["window"] == own["context_window_size"]) {
                assert_eq!(event["percent"], own["used_percentage"], "{own}");
            }
            let same_window = cycle["window_tokens"] == own["context_window_size"];
            if same_window && cycle["peak_context_tokens"] == *tokens {
                assert_eq!(cycle["peak_context_percent"], own["used_percentage"], "{own}");
            }
        }
        for event in &told {
            if event["window_source"] == "statusline" {
                assert_eq!(event["window"], inputs[0]["context_window_size"], "{event}");
            }
            assert_eq!(event["percent"], percent(event), "{event}");
        }
        let tokens = |event: &&Value| event["tokens"].as_u64();
        assert_eq!(cycle["peak_context_tokens"].as_u64(), told.iter().filter_map(tokens).max());
        assert_eq!(told.last().and_then(tokens), self.context_tokens(id), "{cycle:#}");
    }

    /// Whether Esc ended a turn of this session.
    pub fn was_interrupted(&self, session_id: &str) -> bool {
        let rows = self.transcript(session_id);
        rows.iter().any(|row| row["message"].to_string().contains("[Request interrupted by user"))
    }

    /// How many of a session's readings the CLI itself stated.
    pub fn stated(&self, session_id: &str) -> usize {
        let inputs = self.statusline(session_id);
        let tokens = |input: &Value| input["context_window"]["total_input_tokens"].as_u64();
        let mut figures: Vec<_> = inputs.iter().filter_map(tokens).filter(|n| *n > 0).collect();
        figures.dedup();
        figures.len()
    }
}

/// What the person (longhaul, that is) said in a session, in order: the first
/// prompt, nudges, requests. Each is what a request to the API brought anew.
pub fn said(lab: &Lab, session: &str) -> Vec<String> {
    let requests = lab.api.requests();
    let ours = requests.iter().filter(|r| !r.side && r.session_id == session);
    ours.map(|r| r.new_user_text.clone()).filter(|text| !text.is_empty()).collect()
}

/// As the CLI rounds, for what it does not state.
fn percent(event: &Value) -> u64 {
    let (tokens, window) = (event["tokens"].as_f64().unwrap(), event["window"].as_f64().unwrap());
    (tokens / window * 100.0).round().min(100.0) as u64
}
