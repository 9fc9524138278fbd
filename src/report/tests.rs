//! What the report says, in words and as JSON, of runs on a stage.

use jiff::tz::TimeZone;

use super::staged::{self, Stage};
use super::status::StatusView;
use super::*;
use crate::cycle::event::{Command, Exit};
use crate::cycle::{Event, Params};

fn around() -> Surroundings {
    Surroundings {
        project: "/home/me/my project".into(),
        journal: Some("/home/me/.local/state/longhaul/p-1/run.jsonl".into()),
        checkpoints: Some("/home/me/.local/state/longhaul/p-1/checkpoints".into()),
        transcripts: Some("/home/me/.claude/projects/-home-me-my-project".into()),
        ..Surroundings::default()
    }
}

fn human(stage: &Stage, around: Surroundings) -> String {
    Report::of(&stage.view(), around).human(&TimeZone::UTC)
}

fn headline(stage: &Stage, around: Surroundings) -> String {
    let text = human(stage, around);
    let head: Vec<&str> = text.lines().take_while(|l| !l.is_empty()).collect();
    head.join("\n")
}

fn value(stage: &Stage, around: Surroundings) -> serde_json::Value {
    serde_json::from_str(&Report::of(&stage.view(), around).json()).unwrap()
}

#[test]
fn a_good_night_in_words() {
    insta::assert_snapshot!(human(&staged::good_night(), around()), @r"
    DONE: the task file says done (12 of 12 tasks ticked). There is nothing you must do.

    project      /home/me/my project
    time         1h 43m (Fri 2027-01-15 08:00 to Fri 2027-01-15 09:43)
    tasks        12 of 12 (+10 in this run)
    sessions     3 on claude-opus-4-5
    window       200k tokens from the CLI
    tokens       7,728,600: input 3,600, output 135,000, cache read 7,200,000, cache write 390,000 (5m)
                 and 0 (1h)
    cost         $10.46 by the CLI's own count

    #  began     took  ended because        peak context  tasks  tokens   cost  checkpoint
    1  08:00  40m 49s  context full enough  71 % of 200k    2>6   2.58M  $4.31  verified
    2  08:40  40m 49s  context full enough  70 % of 200k   6>10   2.58M  $3.90  verified
    3  09:21  21m 45s  task done            45 % of 200k  10>12   2.58M  $2.25  -

    run          1a2b3c4d-0000-4000-8000-000000000001
    journal      /home/me/.local/state/longhaul/p-1/run.jsonl
    checkpoints  /home/me/.local/state/longhaul/p-1/checkpoints
    transcripts  /home/me/.claude/projects/-home-me-my-project
    session 1    955ae9b3-d123-558d-8563-9443f3818d2c
    session 2    b3e59d93-5b9c-59db-b216-84dc274c0f8a
    session 3    6e747daf-4a8f-5ac0-b78c-b79c8e15472e
    ");
}

#[test]
fn a_bad_night_in_words() {
    let mut around = around();
    around.warnings.push("the journal's last line was torn".into());
    insta::assert_snapshot!(human(&staged::bad_night(), around), @r"
    INTERRUPTED: longhaul was killed, or the machine went down, before the run could end (3 of 12 tasks
    ticked). The next `longhaul run` carries on with this run.

    project      /home/me/my project
    time         50m 16s (Fri 2027-01-15 08:00 without an end so far)
    tasks        3 of 12 (+1 in this run)
    sessions     2 on claude-opus-4-5, evil\u{1b}[2J\u{202e}model
    window       200k tokens from the CLI, 200k tokens by a guess
    tokens       2,581,200: input 6,200, output 45,000, cache read 2,400,000, cache write 130,000 (5m)
                 and 0 (1h)
    cost         $4.55 (partly the CLI's count, partly computed); our own count from the transcripts of
                 cycle 1 is $0.55 less; 5,000 tokens have no known price
    failures     the CLI crashed (once, paused 1s)

    #  began     took  ended because        peak context  tasks  tokens     cost  checkpoint
    1  08:00  50m 11s  context full enough  75 % of 200k    2>3   2.58M    $4.55  handoff
    2  08:50       5s  exited by itself     10 % of 200k    3>3    5.0k  ~$0.00+  FAILED
    ~ computed from the transcript; the CLI left no bill
    + and tokens of models without a known price on top

    Look at this:
    - cycle 1: 1 process of its session or verify command could not be ended and may still run
    - cycle 1: no proven checkpoint; longhaul wrote dev-docs/handoff.md itself: dev-docs/tasks.md did
      not change
    - cycle 2: NO CHECKPOINT, and longhaul could not write its own brief either: No space left on device
    - cycle 1: 1 compaction by the CLI; what was dropped may be in no checkpoint
    - cycle 2: the CLI exited by itself (exit code 1)
    - cycle 2: 3 transcript rows could not be read; tokens and cost may be too low
    - cycle 2: nobody stated the context window; its size is a guess
    - 5,000 tokens are of models without a known price; the computed cost leaves them out
    - the journal's last line was torn

    run          1a2b3c4d-0000-4000-8000-000000000001
    journal      /home/me/.local/state/longhaul/p-1/run.jsonl
    checkpoints  /home/me/.local/state/longhaul/p-1/checkpoints
    transcripts  /home/me/.claude/projects/-home-me-my-project
    session 1    955ae9b3-d123-558d-8563-9443f3818d2c
    session 2    b3e59d93-5b9c-59db-b216-84dc274c0f8a
    go on        longhaul run --project '/home/me/my project'
    ");
}

#[test]
fn a_run_before_its_first_session_in_words() {
    let mut stage = Stage::new(staged::params());
    stage.step(Event::Started);
    let around = Surroundings { project: "/p".into(), is_running: true, ..Surroundings::default() };
    insta::assert_snapshot!(human(&stage, around), @r"
    RUNNING: between sessions: reading the task file (no task boxes seen).

    project      /p
    time         0s (Fri 2027-01-15 08:00 without an end so far)
    tasks        the task file has not been read yet
    sessions     0
    tokens       0: input 0, output 0, cache read 0, cache write 0 (5m) and 0 (1h)
    cost         $0.00

    run          1a2b3c4d-0000-4000-8000-000000000001
    watch        longhaul status --project /p
    ");
}

#[test]
fn the_first_line_says_how_it_ended_and_what_to_do() {
    let mut lines = Vec::new();
    let mut say = |stage: &Stage, is_running| {
        let around = Surroundings { is_running, ..around() };
        lines.push(headline(stage, around));
    };
    let running = staged::mid_night();
    say(&running, true);
    say(&running, false);

    let mut stopped = staged::mid_night();
    stopped
        .command(Command::StopNow)
        .exited(Exit::Code(143), 0, 0)
        .step(Event::HandoffWritten { trouble: None })
        .open(6, 12, false);
    say(&stopped, false);

    let mut asked = staged::mid_night();
    asked
        .report(crate::cycle::SessionReport::AsksPerson {
            kind: crate::cycle::event::QuestionKind::Unknown,
            what: "Do you want to proceed?\u{1b}[0m".into(),
            screen: "Do you want to proceed?\n\u{1b}[0m > 1. Yes".into(),
        })
        .exited(Exit::Code(143), 0, 0)
        .step(Event::HandoffWritten { trouble: None })
        .open(6, 12, false);
    say(&asked, false);

    let mut refused = staged::mid_night();
    refused
        .report(crate::cycle::SessionReport::TurnEnded {
            end: crate::cycle::event::TurnEnd::ApiError {
                error: "authentication_failed".into(),
                status: Some(401),
                text: "OAuth token revoked".into(),
                limit: None,
            },
        })
        .exited(Exit::Code(143), 0, 0)
        .step(Event::HandoffWritten { trouble: None })
        .open(6, 12, false);
    say(&refused, false);

    let mut idle = Stage::new(Params { no_progress_cycles: 1, ..staged::params() });
    idle.begin(6, 12)
        .session(4_000, 200_000, 18_000)
        .exited(Exit::Code(1), 0, 0)
        .step(Event::HandoffWritten { trouble: None })
        .open(6, 12, false);
    say(&idle, false);

    let mut spent = Stage::new(Params { max_sessions: 1, verify: true, ..staged::params() });
    spent
        .begin(6, 12)
        .session(4_000, 200_000, 18_000)
        .context(150_000)
        .checkpoint()
        .exited(Exit::Code(143), 0, 0)
        .open(7, 12, true);
    say(&spent, false);
    insta::assert_snapshot!(lines.join("\n\n"), @r"
    RUNNING: the session works (6 of 12 tasks ticked).

    INTERRUPTED: longhaul was killed, or the machine went down, before the run could end (6 of 12 tasks
    ticked). The next `longhaul run` carries on with this run.

    STOPPED by SIGTERM or `longhaul stop` before the task was done (6 of 12 tasks ticked). Look at the
    warnings below.

    NOT DONE, YOU ARE NEEDED: the CLI asks Do you want to proceed?\u{1b}[0m (6 of 12 tasks ticked).

    NOT DONE, YOU ARE NEEDED: the API refused the login: OAuth token revoked (6 of 12 tasks ticked). Log
    in again, then go on.

    NOT DONE: the last sessions made no progress, so longhaul stopped (6 of 12 tasks ticked). See what
    they were stuck on before you go on.

    NOT DONE: the budget limits.max_sessions is spent (7 of 12 tasks ticked). Raise it to go on.
    ");
}

#[test]
fn a_closing_bill_has_the_cli_s_guess_for_models_without_a_price_in_it() {
    let mut stage = Stage::new(staged::params());
    let spend = crate::cycle::record::Spend {
        tokens: Tokens { input: 5_000, ..Tokens::default() },
        unpriced_tokens: 5_000,
        responses: 2,
        ..crate::cycle::record::Spend::default()
    };
    stage
        .begin(2, 12)
        .session(4_000, 200_000, 18_000)
        .report(crate::cycle::SessionReport::Spent { spend });
    let computed = human(&stage, around());
    assert!(computed.contains("+ and tokens of models without a known price"), "{computed}");
    stage.bill(0.21, crate::cycle::record::CostSource::CostState);
    let billed = human(&stage, around());
    let plain = billed.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        plain.contains(
            "$0.21 by the CLI's own count; our own count from the transcripts of cycle 1 is $0.21 \
             less; the CLI's count has a guess of its own in it for 5,000 tokens of models \
             without a known list price"
        ),
        "{billed}"
    );
    assert!(billed.contains("$0.21?"), "{billed}");
    for wrong in ["on top", "no known price", "leaves them out"] {
        assert!(!billed.contains(wrong), "{billed}");
    }
}

#[test]
fn a_cost_without_a_known_price_is_never_nothing() {
    for (usd, unpriced, words) in [
        (1.5, 0, "$1.50"),
        (0.0, 0, "$0.00"),
        (0.0, 40, "unpriced"),
        (1.5, 40, "$1.50, partly unpriced"),
        (1.5, 100, "$1.50, a guess of the CLI"),
    ] {
        assert_eq!(words::cost(usd, unpriced, 100), words);
    }
}

#[test]
fn the_json_has_the_promised_fields() {
    let report = value(&staged::good_night(), around());
    for field in ["run_id", "outcome", "exit_code", "started_at", "ended_at", "cycles"] {
        assert!(report.get(field).is_some(), "{field}");
    }
    assert_eq!(report["outcome"], "done");
    assert_eq!(report["exit_code"], 0);
    assert_eq!(report["cycles"].as_array().unwrap().len(), 3);
    insta::assert_snapshot!(serde_json::to_string_pretty(&report["cycles"][0]).unwrap(), @r#"
    {
      "bad_rows": 0,
      "billed_cost_usd": 4.306,
      "checkpoint": {
        "files": [
          "dev-docs/tasks.md",
          "dev-docs/plan.md"
        ],
        "folder": "checkpoints/1",
        "status": "verified",
        "trouble": null
      },
      "compactions": 0,
      "computed_cost_usd": 4.306,
      "cost_source": "cost_state",
      "cost_usd": 4.306,
      "cycle": 1,
      "end_reason": "threshold",
      "ended_at": "2027-01-15T08:40:49.200Z",
      "exit": 143,
      "git_commit": null,
      "git_ref": null,
      "killed": 0,
      "model": "claude-opus-4-5",
      "nudges": 0,
      "peak_context_percent": 71,
      "peak_context_tokens": 142000,
      "progress": true,
      "responses": 60,
      "session_id": "955ae9b3-d123-558d-8563-9443f3818d2c",
      "started_at": "2027-01-15T08:00:00.000Z",
      "survivors": 0,
      "tasks_done_after": 6,
      "tasks_done_before": 2,
      "tasks_total": 12,
      "unpriced_tokens": 0,
      "usage": {
        "cache_read": 2400000,
        "cache_write_1h": 0,
        "cache_write_5m": 130000,
        "input": 1200,
        "output": 45000
      },
      "window_source": "statusline",
      "window_tokens": 200000
    }
    "#);
    insta::assert_snapshot!(serde_json::to_string_pretty(&report["totals"]).unwrap(), @r#"
    {
      "billed_cost_usd": 10.456,
      "computed_cost_usd": 10.456,
      "cost_source": "cli",
      "cost_usd": 10.456,
      "responses": 180,
      "sessions": 3,
      "tokens": 7728600,
      "unpriced_tokens": 0,
      "usage": {
        "cache_read": 7200000,
        "cache_write_1h": 0,
        "cache_write_5m": 390000,
        "input": 3600,
        "output": 135000
      }
    }
    "#);
}

#[test]
fn every_field_is_documented() {
    let doc = include_str!("../../dev-docs/REPORT.md");
    let report = value(&staged::good_night(), around());
    let stage = staged::mid_night();
    let status = serde_json::to_value(StatusView::of(&stage.view(), stage.now)).unwrap();
    let sections = [
        ("The run", &report),
        ("`totals`", &report["totals"]),
        ("A cycle", &report["cycles"][0]),
        ("The status", &status),
    ];
    for (title, object) in sections {
        let section = doc.split("\n## ").find(|s| s.starts_with(title)).unwrap();
        let mut documented: Vec<&str> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
            .map(|(name, _)| name)
            .collect();
        documented.sort_unstable();
        let mut written: Vec<&str> =
            object.as_object().unwrap().keys().map(String::as_str).collect();
        written.sort_unstable();
        assert_eq!(documented, written, "{title}");
    }
}

#[test]
fn a_run_without_an_end_has_no_exit_code() {
    for (is_running, word) in [(true, "running"), (false, "interrupted")] {
        let around = Surroundings { is_running, ..around() };
        let report = value(&staged::mid_night(), around);
        assert_eq!(report["outcome"], word);
        assert!(report["exit_code"].is_null());
        assert!(report["ended_at"].is_null());
        assert!(report["cycles"][1]["ended_at"].is_null());
        assert!(report["cycles"][1]["end_reason"].is_null());
    }
    // Whether its process lives does not matter once a run has ended.
    let around = Surroundings { is_running: true, ..around() };
    assert_eq!(value(&staged::good_night(), around)["outcome"], "done");
}

#[test]
fn a_session_cut_off_by_an_interruption_is_named() {
    let text = human(&staged::mid_night(), around());
    assert!(text.contains("  cut off  "), "{text}");
    assert!(text.contains("- cycle 2: its session was alive at the interruption"), "{text}");
    let around = Surroundings { is_running: true, ..around() };
    let text = human(&staged::mid_night(), around);
    assert!(text.contains("  still runs  ") && !text.contains("Look at this"), "{text}");
}

#[test]
fn a_session_that_never_answered_has_no_invented_figures() {
    let mut stage = Stage::new(staged::params());
    stage.begin(0, 3).exited(Exit::Code(1), 0, 0);
    let report = value(&stage, around());
    let cycle = &report["cycles"][0];
    for field in
        ["peak_context_tokens", "window_tokens", "peak_context_percent", "model", "cost_source"]
    {
        assert!(cycle[field].is_null(), "{field}");
    }
    assert_eq!(cycle["end_reason"], "dead_start");
    assert_eq!(cycle["cost_usd"], 0.0);
}

#[test]
fn nothing_foreign_reaches_the_terminal_raw() {
    let bad = staged::bad_night();
    let report = Report::of(&bad.view(), around());
    let is_raw = |c: char| c != '\n' && crate::text::is_hazard(c);
    assert!(!report.human(&TimeZone::UTC).contains(is_raw));
    assert!(!report.json().contains(is_raw));
    let status = StatusView::of(&bad.view(), bad.now);
    assert!(!status.human(bad.now, &TimeZone::UTC).contains(is_raw));
    // … but a program gets it unchanged.
    let model = value(&bad, around())["cycles"][1]["model"].clone();
    assert_eq!(model, "evil\u{1b}[2J\u{202e}model");
}

#[test]
fn the_table_fits_a_hundred_columns_with_fifty_long_cycles() {
    let mut stage = Stage::new(staged::params());
    stage.begin(0, 9_999);
    for ticked in 1..=50 {
        stage
            .session(1, 1_000_000, 18_000)
            .wait(36_000_000 / 51)
            .spend(1.99)
            .context(999_999)
            .checkpoint()
            .exited(Exit::Code(143), 0, 0)
            .open(ticked * 100, 9_999, true);
    }
    let text = human(&stage, around());
    let widest = text.lines().map(crate::text::width).max().unwrap();
    assert!(widest <= 100, "{widest}: {text}");
    assert!(text.lines().count() > 100, "{text}");
}

#[test]
fn status_in_words_and_over_the_socket() {
    let stage = staged::mid_night();
    let view = StatusView::of(&stage.view(), stage.now.plus_ms(90_000));
    let sent = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<StatusView>(&sent).unwrap(), view);
    insta::assert_snapshot!(view.human(stage.now.plus_ms(90_000), &TimeZone::UTC), @r"
    run      1a2b3c4d-0000-4000-8000-000000000001, began 2027-01-15 08:00, 52m 24s so far
    state    the session works
    session  2, claude-opus-4-5, pid 4001, 11m 34s old, id b3e59d93-5b9c-59db-b216-84dc274c0f8a
    context  48 %, 96.0k of 200k tokens, window from the CLI
    tasks    6 of 12 (+4 in this run)
    cost     $5.83 by the CLI's own count, 5.15M tokens
    left     48 sessions, 9h 07m, 495M tokens, $94.17
    last     Bash: cargo test --workspace
    ");

    let mut paused = Stage::new(staged::params());
    paused.step(Event::Started).command(Command::Pause);
    let view = StatusView::of(&paused.view(), paused.now);
    insta::assert_snapshot!(view.human(paused.now, &TimeZone::UTC), @r"
    run      1a2b3c4d-0000-4000-8000-000000000001, began 2027-01-15 08:00, 0s so far
    state    between sessions: reading the task file
    paused   since 08:00 (0 s ago), by `longhaul pause`; `longhaul resume` goes on
    session  none yet
    tasks    the task file has not been read yet
    cost     $0.00, 0 tokens
    left     50 sessions, 10h 00m, 500M tokens, $100.00
    ");
}

/// The rows of `status` on what holds a run up, and the same as JSON.
fn held_up(stage: &Stage) -> String {
    let view = StatusView::of(&stage.view(), stage.now);
    let sent = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<StatusView>(&sent).unwrap(), view);
    let json: serde_json::Value = serde_json::from_str(&sent).unwrap();
    let mut out = String::new();
    for line in view.human(stage.now, &TimeZone::UTC).lines() {
        if ["state", "waits", "retries", "hangs", "paused"].iter().any(|n| line.starts_with(n)) {
            out.push_str(&format!("{line}\n"));
        }
    }
    for key in ["waiting", "retrying", "hang", "pause"] {
        if !json[key].is_null() {
            out.push_str(&format!("  {key} {}\n", json[key]));
        }
    }
    out
}

#[test]
fn status_says_what_a_run_waits_for_and_until_when() {
    assert_eq!(held_up(&staged::mid_night()), "state    the session works\n");

    // The session is idle until the limit is reset; then a person pauses.
    let mut limited = staged::mid_night();
    limited.fails_at_limit(4_300_000);
    let alone = held_up(&limited);
    limited.command(Command::Pause).wait(720_000);
    insta::assert_snapshot!(alone + &held_up(&limited), @r#"
    state    waiting for a usage limit to be reset
    waits    five-hour limit, until 10:02 (in 1 h 12 min)
      waiting {"reason":"five_hour","until":"2027-01-15T10:02:49.100Z"}
    state    waiting for a usage limit to be reset
    waits    five-hour limit, until 10:02 (in 1 h)
    paused   since 08:50 (12 min ago), by `longhaul pause`; `longhaul resume` goes on
      waiting {"reason":"five_hour","until":"2027-01-15T10:02:49.100Z"}
      pause {"reason":"by `longhaul pause`","since":"2027-01-15T08:50:54.100Z"}
    "#);

    // The CLI tries by itself; and the same once longhaul has to pause.
    let mut overloaded = staged::mid_night();
    overloaded.report(crate::cycle::SessionReport::Retrying {
        class: crate::cycle::failure::Class::Overloaded,
        attempt: 4,
        after_ms: 17_000,
    });
    let by_cli = held_up(&overloaded);
    overloaded.wait(18_000);
    let tries = held_up(&overloaded);
    overloaded.fails("overloaded", Some(529)).wait(1_000);
    insta::assert_snapshot!(by_cli + &tries + &held_up(&overloaded), @r#"
    state    the API fails; the CLI tries again by itself
    retries  API overloaded, attempt 4, goes on at 08:51 (in 17 s)
      retrying {"after_seconds":17.0,"attempt":4,"class":"overloaded","until":"2027-01-15T08:51:11.100Z"}
    state    the API fails; the CLI tries again by itself
    retries  API overloaded, attempt 4, is being tried now
      retrying {"after_seconds":17.0,"attempt":4,"class":"overloaded","until":"2027-01-15T08:51:11.100Z"}
    state    the API failed (overloaded); going on after a pause (failure 1)
    retries  API overloaded, attempt 1, goes on at 08:51 (in 2 s)
      retrying {"after_seconds":2.768,"attempt":1,"class":"overloaded","until":"2027-01-15T08:51:14.868Z"}
    "#);
    overloaded.context(96_500);
    assert_eq!(held_up(&overloaded), "state    the session works\n");

    // Between sessions: the last one crashed.
    let mut crashed = staged::bad_night();
    let backoff = held_up(&crashed);
    crashed.command(Command::Stop);
    insta::assert_snapshot!(backoff + &held_up(&crashed), @r#"
    state    the last session failed; waiting before the next
    retries  the CLI crashed, attempt 1, is being tried now
      retrying {"after_seconds":0.99,"attempt":1,"class":"crash","until":"2027-01-15T08:50:17.390Z"}
    state    stopped (signal 15)
    "#);
}

#[test]
fn status_says_how_long_nothing_moves_and_what_comes_next() {
    let mut stage = staged::mid_night();
    stage.stands_still(2);
    let warned = held_up(&stage);
    stage.stands_still(10);
    let interrupted = held_up(&stage);
    stage.report(crate::cycle::SessionReport::Alive {
        sign: crate::cycle::liveness::Sign::Transcript,
    });
    insta::assert_snapshot!(warned + &interrupted + &held_up(&stage), @r#"
    state    nothing moves in the session's turn: it may hang
    hangs    for 12 min (last sign: prompt); interrupted at 09:01 (in 9 min)
      hang {"next_at":"2027-01-15T09:01:54.100Z","next_step":"interrupt","seconds":724,"signal":"prompt","step":"warn"}
    state    nothing moved in the session's turn: it was interrupted
    hangs    for 22 min (last sign: prompt); ended at 09:11 (in 9 min)
      hang {"next_at":"2027-01-15T09:11:54.100Z","next_step":"end","seconds":1324,"signal":"prompt","step":"interrupt"}
    state    the session works
    "#);
}

#[test]
fn elapsed_time_stands_still_after_the_end() {
    let stage = staged::good_night();
    let later = stage.now.plus_ms(3_600_000);
    let at_end = StatusView::of(&stage.view(), stage.now).elapsed_ms;
    assert_eq!(StatusView::of(&stage.view(), later).elapsed_ms, at_end);
    let stage = staged::mid_night();
    let then = StatusView::of(&stage.view(), stage.now).elapsed_ms;
    let later = stage.now.plus_ms(1_000);
    assert_eq!(StatusView::of(&stage.view(), later).elapsed_ms, then + 1_000);
}
