//! What the tests of a bad night have in common.

use std::time::Duration;

use longhaul::demo::api::{Reply, Request, Script};
use serde_json::{Value, json};

use super::{Finished, Lab, Run, TICK_ALL, Worker};

/// A run that has to wait itself is waited for this long.
pub const NIGHT: Duration = Duration::from_secs(170);

/// The main thread of the first session is answered with these, by the number of
/// the request; where there is none, and in later sessions, every box is ticked.
pub fn troubled(replies: impl Fn(u32) -> Option<Reply> + Send + Sync + 'static) -> impl Script {
    move |request: &Request| -> Reply {
        let is_first = !request.side && request.session_index == 0;
        let reply = is_first.then(|| replies(request.index_in_session)).flatten();
        reply.unwrap_or_else(|| ticks_once(request))
    }
}

/// Ticks every box if this conversation has not done so, and ends its turn.
pub fn ticks_once(request: &Request) -> Reply {
    let usage = Worker::default().usage(0);
    let ticks = |command: &serde_json::Value| command["command"] == TICK_ALL;
    let is_done = request.finished_tools().iter().any(|(call, _)| ticks(&call.input));
    match request.side || is_done {
        true => Reply::text("All done.", usage),
        false => Reply::bash(TICK_ALL, usage),
    }
}

/// Works without end; the first step of each session is this.
pub fn first_step(command: &str) -> impl Script + use<> {
    let command = command.to_owned();
    move |request: &Request| -> Reply {
        let worker = Worker { step_tokens: 100, ..Worker::default() };
        let is_first = !request.side && request.index_in_session == 0;
        let latency = Duration::from_millis(if request.side { 0 } else { 700 });
        match is_first {
            true => Reply::bash(command.clone(), worker.usage(0)),
            false => worker.reply(request).after(latency),
        }
    }
}

impl Lab {
    /// `longhaul run --json`, watched for as long as a night's trouble takes.
    pub fn night(&self, sets: &[&str]) -> Run {
        let mut args = vec!["run", "--json"];
        args.extend(sets.iter().flat_map(|set| ["--set", *set]));
        self.longhaul(&args).patient(NIGHT)
    }

    /// `git` in the project; what it prints.
    pub fn git(&self, args: &[&str]) -> String {
        let output = self.command("git").args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Finished {
    /// One word of all events of this name, in order.
    pub fn words(&self, name: &str, field: &str) -> Vec<String> {
        self.field(name, field).iter().map(|v| v.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// When the first event of this name came that is wanted, Unix milliseconds.
    pub fn at_ms(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> i64 {
        let event = self.named(name).into_iter().find(|event| wanted(event));
        unix_ms(&event.unwrap_or_else(|| panic!("no {name}\n{}", self.dump()))["ts"])
    }
}

/// A time of events and reports as Unix milliseconds.
pub fn unix_ms(time: &Value) -> i64 {
    time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// How often a class of failures stands in the report.
pub fn failures(report: &Value, class: &str) -> u64 {
    let list = report["failures"].as_array().unwrap();
    list.iter().find(|f| f["class"] == class).map_or(0, |f| f["count"].as_u64().unwrap())
}

/// What the session asks a person, as the input of `AskUserQuestion`.
pub fn question() -> Value {
    let options = json!([
        {"label": "sqlite", "description": "small"},
        {"label": "postgres", "description": "large"},
    ]);
    let question = "Which database?";
    json!({"questions": [
        {"question": question, "header": "DB", "multiSelect": false, "options": options},
    ]})
}
