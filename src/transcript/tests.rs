//! The room against transcripts of the real CLI (2.1.329), and `SessionTranscript` as a whole.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::models::{Models, TokenCounts};

fn golden(name: &str) -> (Vec<Seen>, SessionTranscript) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/transcripts").join(name);
    let mut transcript = SessionTranscript::with_path(folder.join("main.jsonl"));
    let seen = transcript.poll().unwrap();
    assert_eq!(transcript.usage().damage(), Default::default(), "{name}");
    (seen, transcript)
}

fn bill(seen: &[Seen]) -> &CostState {
    let bills = seen.iter().rev().filter_map(|seen| match &seen.fact {
        Fact::CostState(bill) => Some(bill),
        _ => None,
    });
    { bills }.next().expect("the session ended with a bill")
}

fn lines(seen: &[Seen]) -> String {
    let line = |seen: &Seen| match &seen.fact {
        Fact::PromptArrived { text, how } if text.len() > 100 => {
            let (start, end) = (&text[..20], &text[text.len() - 20..]);
            format!("PromptArrived {how:?} {} bytes {start:?}…{end:?}\n", text.len())
        }
        Fact::CostState(bill) => format!("CostState {}\n", bill.total_cost_usd),
        fact => format!("{fact:?}\n"),
    };
    seen.iter().map(line).collect()
}

#[test]
fn our_cost_equals_the_bill_of_the_cli() {
    for name in [
        "advisor_fast_us",
        "advisor_prompt_band",
        "background_subagent",
        "constant_message_ids",
        "error_rate_limit",
        "haiku_above_band",
        "interrupted_after_thinking",
        "interrupted_and_queued",
        "interrupted_in_mid_reply",
        "long_window_requested",
        "other_model_answers",
        "slash_command",
        "typed_and_pasted_prompts",
        "web_searches",
    ] {
        let (seen, transcript) = golden(name);
        let bill = bill(&seen);
        let cost = transcript.usage().cost(Models::builtin());
        assert!((cost.usd - bill.total_cost_usd).abs() < 1e-9, "{name}: {cost:?} {bill:?}");
        assert_eq!(cost.unpriced_tokens, 0, "{name}");
        assert_eq!(cost.at_most_usd, cost.usd, "{name}");
        assert!(!bill.has_unknown_model_cost, "{name}");

        let total = transcript.usage().total();
        let (input, output) =
            bill.models.iter().fold((0, 0), |(i, o), m| (i + m.input, o + m.output));
        assert_eq!((total.input, total.output), (input, output), "{name}");
    }
}

#[test]
fn an_unknown_model_is_reported_as_unpriced() {
    let (seen, transcript) = golden("unknown_model");
    assert!(bill(&seen).has_unknown_model_cost);
    let cost = transcript.usage().cost(Models::builtin());
    assert_eq!((cost.usd, cost.unpriced_tokens), (0.0, 10_000));
    assert!(cost.at_most_usd > bill(&seen).total_cost_usd);
}

/// The request that writes the summary is billed and leaves no row.
#[test]
fn a_compaction_costs_what_no_row_shows() {
    let (seen, transcript) = golden("compacted_then_interrupted_in_tool");
    let unseen = bill(&seen).total_cost_usd - transcript.usage().cost(Models::builtin()).usd;
    let summary = TokenCounts { input: 10, output: 500, cache_read: 90_000, ..Default::default() };
    let price = Models::builtin().cost("claude-opus-5-5", 0, &summary).unwrap();
    assert!((unseen - price).abs() < 1e-9, "{unseen} {price}");
}

#[test]
fn facts_of_the_golden_transcripts() {
    for name in [
        "background_subagent",
        "compacted_then_interrupted_in_tool",
        "error_authentication",
        "error_billing",
        "error_invalid_request",
        "error_overloaded",
        "error_rate_limit",
        "interrupted_and_queued",
        "interrupted_in_mid_reply",
        "long_window_requested",
        "other_model_answers",
        "slash_command",
        "typed_and_pasted_prompts",
    ] {
        insta::assert_snapshot!(name, lines(&golden(name).0));
    }
}

#[test]
fn subagents_count_for_usage_and_not_for_context() {
    let (seen, transcript) = golden("background_subagent");
    assert_eq!(transcript.usage().responses(), 5);
    assert_eq!(transcript.usage().total().cache_write_5m, 2000);
    for seen in seen {
        if let Fact::Context { tokens, .. } = seen.fact {
            assert_eq!(tokens, 20_010);
        }
    }
}

fn project() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("projects/-home-user-project");
    fs::create_dir_all(&path).unwrap();
    (dir, path)
}

fn assistant(id: &str, context: u64, ms: u64) -> String {
    format!(
        r#"{{"type":"assistant","timestamp":"2026-11-20T10:00:00.{ms:03}Z","requestId":"req_{id}","message":{{"id":"{id}","model":"claude-opus-5-5","stop_reason":"end_turn","content":[{{"type":"text","text":"hi"}}],"usage":{{"input_tokens":{context},"output_tokens":1}}}}}}"#
    ) + "\n"
}

#[test]
fn a_file_that_is_not_there_yet_is_fine() {
    let (dir, folder) = project();
    let id = Uuid::new_v4();
    let mut transcript = SessionTranscript::new(dir.path(), Path::new("/home/user/project"), id);
    assert_eq!(transcript.poll().unwrap(), vec![]);
    assert_eq!(transcript.watch_dirs(), vec![folder.clone()]);
    fs::write(folder.join(format!("{id}.jsonl")), assistant("a", 7, 1)).unwrap();
    assert_eq!(transcript.poll().unwrap().len(), 2);
    assert_eq!(transcript.poll().unwrap(), vec![]);
    assert_eq!(transcript.usage().total().input, 7);
}

#[test]
fn a_file_under_another_folder_is_found() {
    let (dir, folder) = project();
    let id = Uuid::new_v4();
    let mut transcript = SessionTranscript::new(dir.path(), Path::new("/elsewhere"), id);
    assert_eq!(transcript.poll().unwrap(), vec![]);
    fs::write(folder.join(format!("{id}.jsonl")), assistant("a", 7, 1)).unwrap();
    assert_eq!(transcript.poll().unwrap().len(), 2);
    assert_eq!(transcript.path(), folder.join(format!("{id}.jsonl")));
}

#[test]
fn a_rewritten_file_counts_nothing_twice_and_tells_nothing_twice() {
    let (dir, folder) = project();
    let path = folder.join("s.jsonl");
    let first = assistant("a", 7, 1) + &assistant("b", 8, 2);
    fs::write(&path, &first).unwrap();
    let mut transcript = SessionTranscript::with_path(path.clone());
    assert_eq!(transcript.poll().unwrap().len(), 4);

    fs::write(dir.path().join("new"), first + &assistant("c", 9, 3)).unwrap();
    fs::rename(dir.path().join("new"), &path).unwrap();
    let seen = transcript.poll().unwrap();
    assert_eq!(seen[0].fact, Fact::Context { tokens: 9, model: "claude-opus-5-5".into() });
    assert_eq!(seen.len(), 2);
    assert_eq!(transcript.usage().total().input, 24);
}

#[test]
fn old_rows_behind_a_compaction_do_not_set_the_context() {
    let (_dir, folder) = project();
    let path = folder.join("s.jsonl");
    let boundary = r#"{"type":"system","subtype":"compact_boundary","timestamp":"2026-11-20T10:00:00.003Z","compactMetadata":{"trigger":"auto","preTokens":900,"postTokens":50}}"#;
    let rows = [assistant("a", 700, 1), assistant("b", 900, 2), format!("{boundary}\n")];
    fs::write(&path, rows.concat() + &assistant("b", 900, 4) + &assistant("c", 60, 5)).unwrap();
    let seen = SessionTranscript::with_path(path).poll().unwrap();
    let contexts: Vec<u64> = seen
        .iter()
        .filter_map(|seen| match seen.fact {
            Fact::Context { tokens, .. } => Some(tokens),
            Fact::Compacted { post_tokens, .. } => post_tokens,
            _ => None,
        })
        .collect();
    assert_eq!(contexts, [700, 900, 50, 60]);
}

#[test]
fn a_last_line_without_a_newline_counts_once_the_writer_is_gone() {
    let (_dir, folder) = project();
    let path = folder.join("s.jsonl");
    fs::write(&path, assistant("a", 7, 1).trim_end()).unwrap();
    let mut transcript = SessionTranscript::with_path(path);
    assert_eq!(transcript.poll().unwrap(), vec![]);
    assert_eq!(transcript.finish().unwrap().len(), 2);
    assert_eq!(transcript.usage().total().input, 7);
}

#[test]
fn nested_subagent_files_are_found_as_they_appear() {
    let (_dir, folder) = project();
    let path = folder.join("s.jsonl");
    let mut transcript = SessionTranscript::with_path(path.clone());
    fs::write(&path, assistant("a", 1, 1)).unwrap();
    transcript.poll().unwrap();
    let nested = folder.join("s/subagents/workflows/w1");
    for (at, id) in ["b", "c", "d"].into_iter().enumerate() {
        fs::create_dir_all(&nested).unwrap();
        fs::write(nested.join(format!("agent-{id}.jsonl")), assistant(id, 10, 2)).unwrap();
        assert_eq!(transcript.poll().unwrap(), vec![]);
        assert_eq!(transcript.usage().total().input, 11 + 10 * at as u64);
    }
    // The parent's rows again, as a fork of the conversation writes them.
    fs::write(nested.join("agent-e.jsonl"), assistant("a", 1, 1)).unwrap();
    transcript.poll().unwrap();
    assert_eq!(transcript.usage().total().input, 31);
    assert!(transcript.watch_dirs().contains(&nested));
}

#[test]
fn folder_names_are_those_of_the_cli() {
    let slug = |path: &str| super::slug(Path::new(path));
    assert_eq!(slug("/home/user/project"), "-home-user-project");
    assert_eq!(slug("/srv/pläin ü"), "-srv-pl-in--");
    assert_eq!(slug("/srv/em😀ji_x.y"), "-srv-em--ji-x-y");
    let long = format!("/tmp/L{}/{}/é", "o".repeat(120), "n".repeat(120));
    let cut = format!("-tmp-L{}-{}", "o".repeat(120), "n".repeat(73));
    assert_eq!(slug(&long), format!("{cut}-5wfh24"));
}

#[test]
fn an_error_loses_no_facts() {
    let (dir, folder) = project();
    let path = folder.join("s.jsonl");
    fs::write(&path, assistant("a", 7, 1)).unwrap();
    let mut transcript = SessionTranscript::with_path(path.clone());
    assert_eq!(transcript.poll().unwrap().len(), 2);
    fs::write(&path, assistant("a", 7, 1) + &assistant("b", 8, 2)).unwrap();
    fs::rename(&path, dir.path().join("aside")).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(transcript.poll().is_err());
    fs::remove_dir(&path).unwrap();
    let seen = transcript.poll().unwrap();
    let context = Fact::Context { tokens: 8, model: "claude-opus-5-5".into() };
    assert_eq!(seen.first().map(|seen| &seen.fact), Some(&context));
}

#[test]
fn unfinished_lines_of_subagents_take_a_bounded_room_and_the_main_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("5f3c.jsonl");
    let folder = dir.path().join("5f3c/subagents");
    std::fs::create_dir_all(&folder).unwrap();
    // Sparse: they take no room on the disk.
    for n in 0..6 {
        let file = std::fs::File::create(folder.join(format!("agent-{n}.jsonl"))).unwrap();
        file.set_len(40 << 20).unwrap();
    }
    std::fs::write(&path, "{\"type\":\"user\",\"message\":{\"content\":\"hello\"}}\n").unwrap();
    let mut transcript = SessionTranscript::with_path(path);
    assert_eq!(transcript.poll().unwrap().len(), 1, "the main file first");
    assert!(transcript.is_behind());
    while transcript.is_behind() {
        transcript.poll().unwrap();
    }
    assert!(transcript.subagents.held_bytes() <= 128 << 20);
    assert!(transcript.usage().damage().skipped_lines >= 3);
}

/// A row that used this many tokens, under an id of its own.
fn spending(id: u32, output_tokens: u64) -> String {
    format!(
        "{{\"type\":\"assistant\",\"requestId\":\"r{id}\",\"message\":{{\"id\":\"m{id}\",\
         \"model\":\"claude-opus-5-5\",\"role\":\"assistant\",\"stop_reason\":\"end_turn\",\
         \"content\":[],\"usage\":{{\"output_tokens\":{output_tokens}}}}}}}\n"
    )
}

/// A session with an empty folder for its subagents.
fn session_with_subagents() -> (tempfile::TempDir, PathBuf, SessionTranscript) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("5f3c/subagents");
    fs::create_dir_all(&folder).unwrap();
    let transcript = SessionTranscript::with_path(dir.path().join("5f3c.jsonl"));
    (dir, folder, transcript)
}

#[test]
fn a_subagent_file_that_cannot_be_read_is_tried_again_and_counts() {
    let (_dir, folder, mut transcript) = session_with_subagents();
    let (file, elsewhere) = (folder.join("agent-a.jsonl"), folder.join("elsewhere"));
    fs::write(&file, spending(1, 5)).unwrap();
    transcript.poll().unwrap();
    assert_eq!(transcript.usage().total().output, 5);
    // What is behind a link is not read.
    fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    let mut writer = fs::OpenOptions::new().append(true).open(&elsewhere).unwrap();
    std::io::Write::write_all(&mut writer, spending(2, 7).as_bytes()).unwrap();
    for _ in 0..3 {
        transcript.poll().unwrap();
        assert_eq!(transcript.usage().damage().unreadable_files, 1, "once, not once a look");
    }
    assert_eq!(transcript.usage().total().output, 5);
    fs::rename(&elsewhere, &file).unwrap();
    transcript.poll().unwrap();
    assert_eq!(transcript.usage().total().output, 12);
    assert_eq!(transcript.usage().damage().unreadable_files, 0);
}

#[test]
fn a_link_from_the_beginning_shows_as_a_file_that_cannot_be_read() {
    let (_dir, folder, mut transcript) = session_with_subagents();
    std::os::unix::fs::symlink("elsewhere", folder.join("agent-a.jsonl")).unwrap();
    fs::write(folder.join("elsewhere"), spending(1, 5)).unwrap();
    transcript.poll().unwrap();
    assert_eq!(transcript.usage().damage().unreadable_files, 1);
}

#[test]
fn a_flood_in_one_file_holds_back_no_other() {
    let (dir, folder, mut transcript) = session_with_subagents();
    // More than one poll reads, in the main file and in the first subagent's.
    for flooded in [dir.path().join("5f3c.jsonl"), folder.join("agent-a.jsonl")] {
        fs::File::create(flooded).unwrap().set_len(10 * POLL_BYTES).unwrap();
    }
    fs::write(folder.join("agent-b.jsonl"), spending(1, 5)).unwrap();
    for _ in 0..2 {
        transcript.poll().unwrap();
    }
    assert!(transcript.is_behind());
    assert_eq!(transcript.usage().total().output, 5);
}

#[test]
fn more_files_than_are_followed_are_told_and_removed_ones_make_room() {
    let (_dir, folder, mut transcript) = session_with_subagents();
    for n in 0..10_000 {
        fs::File::create(folder.join(format!("agent-{n}.jsonl"))).unwrap();
    }
    transcript.poll().unwrap();
    assert!(!transcript.overflows());
    fs::write(folder.join("agent-z.jsonl"), spending(1, 5)).unwrap();
    for _ in 0..2 {
        transcript.poll().unwrap();
        assert!(transcript.overflows(), "as long as it is so");
    }
    fs::remove_file(folder.join("agent-17.jsonl")).unwrap();
    transcript.poll().unwrap();
    assert!(!transcript.overflows());
    assert_eq!(transcript.usage().total().output, 5);
}

#[test]
fn a_bill_that_is_no_amount_of_money_counts_as_nothing() {
    for amount in ["-1000000", "1e300", "\"x\"", "null"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("5f3c.jsonl");
        let row =
            format!("{{\"type\":\"cost-state\",\"totalCostUSD\":{amount},\"modelUsage\":{{}}}}\n");
        std::fs::write(&path, row).unwrap();
        let seen = SessionTranscript::with_path(path).poll().unwrap();
        let Fact::CostState(state) = &seen[0].fact else { panic!("{seen:?}") };
        assert_eq!(state.total_cost_usd, 0.0, "{amount}");
    }
}
