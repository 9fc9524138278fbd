//! What is found at a glance is what the careful reader finds, and the sums are those
//! of the ledger of a single session.

use proptest::prelude::*;

use super::glance::{Found, glance};
use super::reading::Reader;
use crate::models::TokenCounts;
use crate::transcript::parse::{self, Damage};
use crate::transcript::part::{SharedNames, Told, counted};
use crate::transcript::record::Body;
use crate::transcript::usage::Ledger;

const ROW: &str = r#"{"parentUuid":"46694460","isSidechain":false,"message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[{"type":"text","text":"I \"do\" {it} now \\."}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":3000,"cache_read_input_tokens":19000,"output_tokens":50,"output_tokens_details":{"thinking_tokens":0},"server_tool_use":{"web_search_requests":2,"web_fetch_requests":0},"service_tier":"standard","cache_creation":{"ephemeral_1h_input_tokens":7,"ephemeral_5m_input_tokens":0},"inference_geo":"","iterations":[],"speed":"standard","fallback_credit":null},"stop_details":null},"apiBlockIndex":0,"requestId":"req_1","requestRef":"8f2984ca","requestedModel":"claude-haiku-4-5","type":"assistant","uuid":"ec997b5a","timestamp":"2026-11-21T09:18:00.266Z","sessionId":"d0edc769","cwd":"/p","version":"2.1.329","gitBranch":"HEAD"}"#;

/// The totals of a text, by this reader and by the ledger of a session.
fn totals(text: &str) -> ((u64, TokenCounts, u64), (u64, TokenCounts, u64)) {
    let names = SharedNames::default();
    let reading = Reader::new(&names).read(text.as_bytes()).unwrap();
    let mut sum = TokenCounts::default();
    let mut responses = 0;
    let mut messages: Vec<_> = reading.parts.iter().map(|part| part.message).collect();
    messages.sort_unstable();
    messages.dedup();
    for message in messages {
        let of = reading.parts.iter().filter(|part| part.message == message);
        let told: Vec<Told<'_>> = of.map(|part| Told { file: 0, part }).collect();
        for (_, part) in counted(&told, &names.all()) {
            for bill in part.bills() {
                responses += u64::from(bill.is_response);
                sum.add(&bill.billable.tokens);
            }
        }
    }
    let (mut ledger, mut damage) = (Ledger::new(), Damage::default());
    for line in text.lines() {
        parse::rows(line.as_bytes(), &mut damage, |row| {
            if let Body::Assistant(assistant) = &row.body {
                ledger.count(&row, assistant);
            }
        });
    }
    (
        (responses, sum, reading.unidentified_rows),
        (ledger.responses(), *ledger.total(), ledger.unidentified().rows),
    )
}

#[test]
fn a_row_as_the_cli_writes_it_is_told_at_a_glance() {
    let seen = glance(ROW.as_bytes());
    let Found::Reply(reply) = seen.found else { panic!("{seen:?}") };
    assert_eq!((reply.message, reply.request), (Some(&b"msg_1"[..]), Some(&b"req_1"[..])));
    let used = reply.amounts;
    assert_eq!((used.input, used.output, used.cache_write), (10, 50, 3000));
    assert_eq!((used.cache_write_1h, used.cache_read, used.web_searches), (7, 19_000, 2));
    assert_eq!(reply.unix_ms, Some(1_795_252_680_266));
    assert_eq!((seen.session, seen.cwd), (Some(&b"\"d0edc769\""[..]), Some(&b"\"/p\""[..])));
    let spaced = ROW.replace("\":", "\" : ").replace(",\"", " , \"");
    assert!(matches!(glance(spaced.as_bytes()).found, Found::Reply(_)));
}

#[test]
fn what_is_odd_is_left_to_the_careful_reader() {
    for (from, to) in [
        ("\"stop_reason\":\"tool_use\"", "\"stop_reason\":null"),
        ("\"iterations\":[]", "\"iterations\":[{\"type\":\"advisor_message\"}]"),
        ("\"input_tokens\":10", "\"input_tokens\":-1"),
        ("\"input_tokens\":10", "\"input_tokens\":1e3"),
        ("\"input_tokens\":10", "\"input_tokens\":10,\"input_tokens\":11"),
        ("msg_1", "msg_\\u0031"),
        ("\"requestId\"", "\"request\\u0049d\""),
        ("2026-11-21T", "2026-11-21 "),
        ("\"gitBranch\":\"HEAD\"}", "\"gitBranch\":\"HEAD\""),
        ("\"gitBranch\":\"HEAD\"}", "\"gitBranch\":\"HEAD\"}{}"),
        ("\"content\":[", "\"content\":[,"),
        ("\"content\":[{", "\"content\":[{]"),
        ("\"stop_details\":null", "\"stop_details\":nul"),
    ] {
        assert!(ROW.contains(from), "{from}");
        let row = ROW.replacen(from, to, 1);
        assert_eq!(glance(row.as_bytes()).found, Found::Odd, "{to}");
    }
}

#[test]
fn the_last_line_counts_before_it_has_its_end() {
    let names = SharedNames::default();
    let mut reader = Reader::new(&names);
    let reading = reader.read(ROW.as_bytes()).unwrap();
    assert_eq!((reading.parts.len(), reading.whole_bytes), (1, 0));
    let torn = reader.read(&ROW.as_bytes()[..ROW.len() - 1]).unwrap();
    assert_eq!((torn.parts.len(), torn.damage.bad_rows), (0, 0));
}

fn line() -> impl Strategy<Value = String> {
    let number = || {
        prop_oneof![4 => (0..5_u32).prop_map(|n| n.to_string()), 1 => Just("null".into()),
        1 => prop_oneof![Just("-1"), Just("1.5"), Just("\"3\""), Just("[]")].prop_map(String::from)]
    };
    let id =
        prop_oneof![6 => (0..4_u8).prop_map(|n| format!("\"m{n}\"")), 1 => Just("null".into())];
    let request =
        prop_oneof![5 => (0..3_u8).prop_map(|n| format!("\"r{n}\"")), 1 => Just("null".into())];
    let stop = prop_oneof![4 => Just("\"end_turn\""), 1 => Just("null")];
    let iterations = prop_oneof![
        4 => Just("[]"),
        1 => Just(r#"[{"type":"advisor_message","model":"x","output_tokens":4}]"#)
    ];
    let model =
        prop_oneof![3 => Just("claude-opus-5-5"), 1 => Just("other"), 1 => Just("<synthetic>")];
    let flags = (any::<bool>(), prop::bool::weighted(0.1), 0..3_u8);
    (id, request, (number(), number(), number(), number(), number()), stop, iterations, model, flags)
        .prop_map(|(id, request, n, stop, iterations, model, (side, error, block))| {
            format!(
                r#"{{"type":"assistant","timestamp":"2026-11-2{block}T09:18:00.266Z","isSidechain":{side},"isApiErrorMessage":{error},"apiBlockIndex":{block},"requestId":{request},"message":{{"id":{id},"model":"{model}","stop_reason":{stop},"content":[{{"type":"text","text":"some words"}}],"usage":{{"input_tokens":{},"output_tokens":{},"cache_creation_input_tokens":{},"cache_read_input_tokens":{},"cache_creation":{{"ephemeral_1h_input_tokens":{}}},"iterations":{iterations}}}}}}}"#,
                n.0, n.1, n.2, n.3, n.4
            )
        })
}

proptest! {
    #[test]
    fn the_sums_are_those_of_a_session_s_ledger(lines in prop::collection::vec(line(), 0..30)) {
        let text = lines.concat_lines();
        let (is, should_be) = totals(&text);
        prop_assert_eq!(is, should_be);
    }

    /// Whatever byte is changed, put in or left out.
    #[test]
    fn a_glance_never_says_what_the_careful_reader_does_not(
        lines in prop::collection::vec(line(), 1..4),
        at in any::<prop::sample::Index>(),
        cut in 0..3_usize,
        put in "[ -~]{0,2}",
    ) {
        let mut text = lines.concat_lines();
        let at = at.index(text.len());
        text.replace_range(at..(at + cut).min(text.len()), &put);
        let (is, should_be) = totals(&(text + "\n"));
        prop_assert_eq!(is, should_be);
    }
}

trait Lines {
    fn concat_lines(&self) -> String;
}

impl Lines for Vec<String> {
    fn concat_lines(&self) -> String {
        self.iter().map(|line| line.clone() + "\n").collect()
    }
}
