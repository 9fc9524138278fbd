//! Writes `dev-docs/STATES.md` from the machine itself: each place of
//! `story::places` is asked with each sample event, and what it does is the
//! table. A committed file that differs fails the test.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::action::{Action, Notice, Timer};
use super::event::{
    Command, DiskRoom, Event, QuestionKind, Quota, Refusal, SessionReport, TaskSays, TurnEnd,
    UsageLimit,
};
use super::failure::Class;
use super::state::{AskPhase, Between, State};
use super::story::{Story, places};

/// An event as the document names it, and how it happens.
struct Sample {
    name: &'static str,
    /// `false`: it cannot happen there (a timer that is not set, a report about
    /// a session that does not live).
    happens: fn(&Story) -> bool,
    step: for<'a> fn(&'a mut Story) -> &'a mut Story,
}

/// Samples of one kind.
struct Group {
    title: &'static str,
    samples: Vec<Sample>,
}

fn always(_: &Story) -> bool {
    true
}

fn alive(story: &Story) -> bool {
    story.m.is_alive()
}

fn has_typed(story: &Story) -> bool {
    alive(story) && story.all.iter().any(|a| matches!(a, Action::Type { .. }))
}

fn has_task(story: &Story) -> bool {
    !story.m.assignments().is_empty()
}

fn sample(
    name: &'static str,
    happens: fn(&Story) -> bool,
    step: for<'a> fn(&'a mut Story) -> &'a mut Story,
) -> Sample {
    Sample { name, happens, step }
}

fn groups() -> Vec<Group> {
    vec![
        Group {
            title: "The session reports",
            samples: vec![
                sample(
                    "cannot be started",
                    |s| s.is("starting"),
                    |s| {
                        let message = "permission denied".into();
                        s.report(SessionReport::SpawnFailed { message })
                    },
                ),
                sample("reply, below the threshold", alive, |s| s.replies(30_000)),
                sample("reply, above the threshold", alive, |s| s.is_full()),
                sample("typed text arrived", has_typed, |s| s.arrives(false)),
                sample("turn ended", alive, |s| s.turn_ends()),
                sample("turn interrupted", alive, |s| {
                    s.report(SessionReport::TurnEnded { end: TurnEnd::Interrupted })
                }),
                sample("API failed", alive, |s| s.turn_fails("server_error", 529, "overloaded")),
                sample("prompt is too long", alive, |s| {
                    s.turn_fails("invalid_request", 400, "Prompt is too long")
                }),
                sample("login refused", alive, |s| {
                    s.turn_fails("authentication_failed", 401, "log in")
                }),
                sample("usage limit reached", alive, |s| s.is_limited(3_600_000)),
                sample("usage limit reached, reset too far away", alive, |s| {
                    s.is_limited(100 * 3_600_000)
                }),
                sample("the CLI waits for a usage limit", alive, |s| {
                    let resets_unix_ms = Some(s.m.last_now.unix_ms + 3_600_000);
                    let limit =
                        UsageLimit { which: "five_hour".into(), resets_unix_ms, continues: false };
                    s.report(SessionReport::Limited { limit })
                }),
                sample("compaction held", alive, |s| s.report(SessionReport::CompactionHeld)),
                sample("asks for a permission", alive, |s| s.asks(QuestionKind::Permission, "rm?")),
                sample("asks something unknown", alive, |s| s.asks(QuestionKind::Unknown, "??")),
                sample("memory above the soft limit", alive, |s| {
                    s.report(SessionReport::Vitals {
                        memory_mb: 9_000,
                        subagents: 0,
                        scratch_mb: 0,
                        written_mb: 0,
                    })
                }),
                sample("memory above the hard limit", alive, |s| {
                    s.report(SessionReport::Vitals {
                        memory_mb: 17_000,
                        subagents: 0,
                        scratch_mb: 0,
                        written_mb: 0,
                    })
                }),
                sample("too many subagents", alive, |s| {
                    s.report(SessionReport::Vitals {
                        memory_mb: 0,
                        subagents: 33,
                        scratch_mb: 0,
                        written_mb: 0,
                    })
                }),
                sample("quota reserve reached", alive, |s| {
                    s.m.params.quota_reserve_percent = 10.0;
                    let used = Quota { used_percent: 91.0, resets_unix_ms: None };
                    s.report(SessionReport::QuotaUsed { five_hour: Some(used), seven_day: None })
                }),
                sample("budget spent", alive, |s| {
                    let mut spend = super::record::Spend::default();
                    spend.tokens.input = u64::MAX;
                    s.report(SessionReport::Spent { spend })
                }),
                sample("exited", alive, |s| s.exits()),
            ],
        },
        Group {
            title: "longhaul's own work answers",
            samples: vec![
                sample("task file: open", always, |s| s.reads(TaskSays::Open)),
                sample("task file: done", always, |s| s.reads(TaskSays::Done)),
                sample("task file: unreadable", always, |s| s.cannot_read()),
                sample("progress weighed: none", always, |s| s.weighs(false)),
                sample("progress weighed: some", always, |s| s.weighs(true)),
                sample("verify passed", always, |s| s.verify_ends(true)),
                sample("verify failed", always, |s| s.verify_ends(false)),
                sample("checkpoint proven", always, |s| s.proves(&[])),
                sample("checkpoint not proven", always, |s| s.proves(&["nothing changed"])),
                sample("checkpoint copied", always, |s| s.kept()),
                sample("brief written", always, |s| s.brief_written()),
                sample("nothing in the way of a launch", always, |s| s.prepared(None)),
                sample("the CLI's program is missing", always, |s| {
                    let why = "it is gone".into();
                    s.prepared(Some(Refusal { class: Class::CliMissing, why }))
                }),
                sample("the project's settings changed", always, |s| {
                    let why = "hooks changed".into();
                    s.prepared(Some(Refusal { class: Class::SettingsChanged, why }))
                }),
                sample("the queue gives the next task", has_task, |s| {
                    s.is_given(Some("t1"), Some("t2"))
                }),
                sample("the queue has no further task", has_task, |s| s.is_given(Some("t1"), None)),
                sample("too little room on a disk", always, |s| {
                    let room = DiskRoom { free_mb: 1, size_mb: 90_000, place: "/".into() };
                    s.event(Event::Disks { rooms: vec![room] })
                }),
            ],
        },
        Group {
            title: "A person, or a signal",
            samples: vec![
                sample("`pause`", always, |s| s.person(Command::Pause)),
                sample("`resume`", always, |s| s.person(Command::Resume)),
                sample("`cycle`", always, |s| s.person(Command::Cycle)),
                sample("a signal, `stop`", always, |s| s.signal(15)),
                sample("two signals", always, |s| s.signal(15).signal(15)),
                sample("stop now", always, |s| s.person(Command::StopNow)),
                sample("longhaul was killed and is back", always, |s| s.recovers()),
            ],
        },
        Group {
            title: "A deadline passes",
            samples: [
                Timer::Start,
                Timer::Delivery,
                Timer::Checkpoint,
                Timer::Interrupt,
                Timer::Reread,
                Timer::Exit,
                Timer::Gone,
                Timer::Answer,
                Timer::Backoff,
                Timer::Cool,
                Timer::Hang,
                Timer::Run,
            ]
            .map(deadline)
            .into(),
        },
    ]
}

fn deadline(timer: Timer) -> Sample {
    macro_rules! of {
        ($($name:literal $timer:ident),* $(,)?) => {
            match timer {
                $(Timer::$timer => sample(
                    $name,
                    |s| s.is_set(Timer::$timer),
                    |s| s.deadline(Timer::$timer),
                ),)*
            }
        };
    }
    of!(
        "⏲Start passes" Start,
        "⏲Delivery passes" Delivery,
        "⏲Checkpoint passes" Checkpoint,
        "⏲Interrupt passes" Interrupt,
        "⏲Reread passes" Reread,
        "⏲Exit passes" Exit,
        "⏲Gone passes" Gone,
        "⏲Answer passes" Answer,
        "⏲Backoff passes" Backoff,
        "⏲Cool passes" Cool,
        "⏲Hang passes" Hang,
        "⏲Run passes (the hours are spent)" Run,
    )
}

/// A state with its part, as the document names it.
fn place_of(state: &State) -> String {
    let part = match state {
        State::Judging { judge } if judge.is_verifying() => "verifying",
        State::Checkpointing { ask } => match ask.phase {
            AskPhase::Typed => "typed",
            AskPhase::Queued => "queued",
            AskPhase::Heard => "heard",
            AskPhase::Interrupting => "interrupting",
            AskPhase::Proving => "proving",
            AskPhase::Keeping => "keeping",
        },
        State::Ending { surely: true } => "killed",
        State::Between { step } => match step {
            Between::Keeping => "keeping",
            Between::Briefing => "briefing",
            Between::Judging { judge } if judge.is_verifying() => "verifying",
            Between::Judging { .. } => "judging",
            Between::Backoff { until_unix_ms: None } => "backoff",
            Between::Backoff { until_unix_ms: Some(_) } => "until a limit is reset",
            Between::Preparing => "preparing",
            Between::Turnover => "turnover",
            Between::Held => "held",
        },
        State::Finished { outcome } => outcome.as_str(),
        State::Cooling { until_unix_ms: Some(_), .. } => "until a limit is reset",
        State::Starting
        | State::Working
        | State::Judging { .. }
        | State::Turnover
        | State::Held
        | State::Cooling { until_unix_ms: None, .. }
        | State::Ending { surely: false } => return state.name().to_owned(),
    };
    format!("{}, {part}", state.name())
}

fn action_name(action: &Action) -> Option<String> {
    let name = match action {
        Action::Prepare => "Prepare",
        Action::KeepTree { .. } => "KeepTree",
        Action::Launch { .. } => "Launch",
        Action::TakeBaseline => "TakeBaseline",
        Action::SettleBaseline => "SettleBaseline",
        Action::Type { text } if text.contains("second request") => "Type (second request)",
        Action::Type { text } if text.starts_with("CHECKPOINT") => "Type (checkpoint request)",
        Action::Type { .. } => "Type (go on)",
        Action::PressEnter => "PressEnter",
        Action::ClearInput => "ClearInput",
        Action::PressEscape => "PressEscape",
        Action::EndPolitely => "EndPolitely",
        Action::EndSurely => "EndSurely",
        Action::ReadTask => "ReadTask",
        Action::RunVerify => "RunVerify",
        Action::CancelVerify => "CancelVerify",
        Action::WeighProgress { .. } => "WeighProgress",
        Action::TakeTask { .. } => "TakeTask",
        Action::SettleTask { .. } => "SettleTask",
        Action::Prove => "Prove",
        Action::KeepCheckpoint { .. } => "KeepCheckpoint",
        Action::WriteHandoff { .. } => "WriteHandoff",
        Action::SetTimer { timer, .. } => return Some(format!("⏲{timer:?}")),
        // What is told follows from what is done; only these decide something.
        Action::Tell(Notice::RunFinished { .. }) => "RunFinished",
        Action::Tell(_) => return None,
    };
    Some(name.to_owned())
}

/// What the actions are, each named once, the last time it counts.
fn actions(done: &[Action]) -> String {
    let mut names: Vec<String> = Vec::new();
    for name in done.iter().filter_map(action_name) {
        names.retain(|n| *n != name);
        names.push(name);
    }
    names.join(", ")
}

/// One line of the table: event, next state, actions. `None`: not here.
fn line(story: &Story, sample: &Sample) -> Option<(String, String)> {
    if !(sample.happens)(story) {
        return None;
    }
    let mut after = story.clone();
    (sample.step)(&mut after);
    let mut done = actions(&after.last);
    let mut intends = |text: String| {
        let _ = write!(done, "{}*{text}*", if done.is_empty() { "" } else { ", " });
    };
    if after.m.paused.is_some() != story.m.paused.is_some() {
        intends(if after.m.paused.is_some() { "paused" } else { "not paused" }.to_owned());
    }
    if let Some(outcome) = &after.m.verdict
        && after.m.verdict != story.m.verdict
        && after.m.outcome().is_none()
    {
        intends(format!("the run will end: {}", outcome.as_str()));
    }
    Some((place_of(after.m.state()), done))
}

fn document() -> String {
    let mut out = String::from(HEAD);
    let groups = groups();
    let mut edges = BTreeSet::new();
    let mut tables = String::new();
    for (place, story) in places() {
        let here = place_of(story.m.state());
        let _ = write!(tables, "\n## {place}\n\n{}.\n\n", explain(&story));
        if story.is("finished") {
            tables.push_str("Nothing happens on any event: a run that is over stays over.\n");
            continue;
        }
        tables.push_str("| event | next state | what is done |\n|---|---|---|\n");
        let mut ignored = Vec::new();
        for group in &groups {
            for sample in &group.samples {
                let Some((next, done)) = line(&story, sample) else {
                    continue;
                };
                if next == here && done.is_empty() {
                    ignored.push(sample.name);
                    continue;
                }
                edges.insert((family(&here), family(&next)));
                let next = if next == here { "(same)" } else { &next };
                let _ = writeln!(tables, "| {} | {next} | {done} |", sample.name);
            }
        }
        if !ignored.is_empty() {
            let _ = write!(tables, "\nNothing happens on: {}.\n", ignored.join(" · "));
        }
    }
    out.push_str("## The transitions seen\n\n```mermaid\nstateDiagram-v2\n    [*] --> between\n");
    for (from, to) in edges.iter().filter(|(from, to)| from != to) {
        let _ = writeln!(out, "    {from} --> {to}");
    }
    out.push_str("    finished --> [*]\n```\n\n## The events\n\n");
    for group in &groups {
        let names: Vec<&str> = group.samples.iter().map(|s| s.name).collect();
        let _ = writeln!(out, "- {}: {}.", group.title, names.join(" · "));
    }
    out.push_str(&tables);
    out
}

/// The state without its part.
fn family(place: &str) -> String {
    place.split(',').next().unwrap_or(place).to_owned()
}

fn explain(story: &Story) -> String {
    let text = super::snapshot::Snapshot::of(&story.m).explain();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => text,
    }
}

const HEAD: &str = "\
# States of a run

<!-- Generated by the test `states_doc` from the state machine in src/cycle.
     After a change there: LONGHAUL_BLESS=1 cargo test --lib states_doc -->

What a run does about each event in each state, as `Machine::step` answers it. The
policy is the default one, except that the verify command is set where a place says
\"verifying\". A place is a state with the part of it that answers differently. Events that
change nothing there are listed below its table; events that cannot happen there (a
report about a session that does not live, a timer that is not set) are left out.

\"⏲Name\" sets that timer: there is one deadline per name, and a deadline set in an earlier
state is void. Reports of an older cycle are counted and change nothing in any state.
Notices to the outside are left out, except the end of the run. What is only intended from
then on stands in italics. A deadline of the driver's own ends a verify command.

";

#[test]
fn states_doc_is_what_the_machine_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev-docs/STATES.md");
    let generated = document();
    if std::env::var_os("LONGHAUL_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("dev-docs");
        std::fs::write(&path, &generated).expect("dev-docs/STATES.md can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs =
        generated.lines().zip(committed.lines()).enumerate().find(|(_, (new, old))| new != old);
    assert!(
        generated == committed,
        "dev-docs/STATES.md is not what the machine does; first difference (line, now, in the \
         file): {differs:?}. If the change is meant: LONGHAUL_BLESS=1 cargo test --lib states_doc"
    );
}

#[test]
fn every_timer_and_every_event_is_met_somewhere_in_the_document() {
    let document = document();
    for group in groups() {
        for sample in group.samples {
            let row = format!("| {} |", sample.name);
            assert!(document.contains(&row), "{} does nothing anywhere", sample.name);
        }
    }
}
