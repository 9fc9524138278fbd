//! Every reading, for models with small and large windows, with prices in
//! bands and none at all, beside what the CLI says of the same answer.

use longhaul::demo::api::{Reply, Request, Usage};
use serde_json::{Value, json};

use super::support::{Lab, Paced, Story, TICK_ALL};

/// A session whose answers claim these usages; the last but one ticks all.
fn session(model: &str, usages: &[Usage]) -> (Lab, Story) {
    let claimed = usages.to_vec();
    let mut lab = Paced::lab(move |request: &Request| {
        if request.side {
            return Reply::side(Usage::default());
        }
        let index = request.index_in_session as usize;
        let usage = claimed[index.min(claimed.len() - 1)];
        match claimed.len() - 1 - index.min(claimed.len() - 1) {
            0 => Reply::text("All is done.", usage),
            1 => Reply::bash(TICK_ALL, usage),
            _ => Reply::bash("echo a step", usage),
        }
    });
    lab.arguments(&["--model", model, "--allowedTools=Bash"]);
    let story = lab.story(&["--set", "context.threshold_percent=95"], 0);
    let id = &story.run.sessions()[0];
    assert_eq!(lab.stated(id), usages.len(), "the CLI stated each: {:#?}", lab.statusline(id));
    let told = told(&story, "tokens");
    let expected: Vec<_> = usages.iter().map(|usage| json!(usage.context_tokens())).collect();
    assert_eq!(told, expected, "{}", story.run.dump());
    (lab, story)
}

/// A field of the context events, repetitions left out.
fn told(story: &Story, field: &str) -> Vec<Value> {
    let mut values = story.run.field("context", field);
    values.dedup();
    values
}

fn usage(input: u64, write_5m: u64, write_1h: u64, read: u64, output: u64) -> Usage {
    Usage {
        input_tokens: input,
        output_tokens: output,
        cache_write_5m_tokens: write_5m,
        cache_write_1h_tokens: write_1h,
        cache_read_tokens: read,
    }
}

fn is_billed(story: &Story, usd: f64) {
    for field in ["cost_usd", "computed_cost_usd"] {
        let told = story.report["cycles"][0][field].as_f64().unwrap();
        assert!((told - usd).abs() < 1e-6, "{field}: {told}, expected {usd}");
    }
}

#[test]
fn a_window_of_200_000_with_both_kinds_of_cache_writes() {
    // 14.5 % is rounded down and 37.5 % up, as the CLI does it.
    let usages = [
        usage(9_000, 15_000, 5_000, 0, 321),
        usage(0, 46_000, 0, 29_000, 77),
        usage(3, 1, 24_996, 75_000, 1_000),
        usage(10, 20, 30, 139_940, 5),
    ];
    let (_, story) = session("claude-haiku-4-5", &usages);
    assert_eq!(told(&story, "percent"), [14, 38, 50, 70]);
    assert_eq!(told(&story, "window"), [200_000]);
    assert_eq!(
        story.report["cycles"][0]["usage"],
        json!({ "input": 9_013, "output": 1_403, "cache_write_5m": 61_021,
            "cache_write_1h": 30_026, "cache_read": 243_940 })
    );
    is_billed(&story, 0.009_013 + 0.007_015 + 0.076_276_25 + 0.060_052 + 0.024_394);
}

#[test]
fn a_window_of_1_000_000() {
    let usages = [
        usage(10, 250_000, 0, 0, 100),
        usage(10, 0, 300_000, 250_000, 100),
        usage(5, 0, 0, 650_000, 9),
    ];
    let (_, story) = session("claude-opus-5-5", &usages);
    assert_eq!(told(&story, "percent"), [25, 55, 65]);
    assert_eq!(told(&story, "window"), [1_000_000]);
    is_billed(&story, 0.000_1 + 0.004_18 + 1.25 + 2.4 + 0.18);
}

#[test]
fn a_price_that_depends_on_the_length_of_the_prompt() {
    let usages = [
        usage(0, 100_000, 0, 0, 1_000),
        usage(1, 0, 0, 100_000, 1_000),
        usage(0, 100_000, 100_000, 100_000, 1_000),
    ];
    let (_, story) = session("claude-haiku-5-5", &usages);
    assert_eq!(told(&story, "percent"), [10, 30], "100,001 is 10 % as well");
    let low = 0.012_5 + 0.000_5;
    let middle = 0.000_000_5 + 0.005 + 0.002_5;
    let high = 0.062_5 + 0.1 + 0.005 + 0.002_5;
    is_billed(&story, low + middle + high);
}

#[test]
fn a_model_nobody_knows_is_measured_by_the_clis_window_and_never_free() {
    let usages = [usage(10, 50_000, 0, 0, 100), usage(10, 0, 0, 90_000, 100)];
    let (_, story) = session("claude-marvel-9", &usages);
    let cycle = &story.report["cycles"][0];
    assert_eq!(cycle["window_source"], "statusline");
    assert_eq!(cycle["model"], "claude-marvel-9");
    assert_eq!(cycle["unpriced_tokens"], 140_220);
    assert_eq!(cycle["computed_cost_usd"], 0.0);
    let warnings = story.report["warnings"].to_string();
    assert!(warnings.contains("without a known price"), "{warnings}");
}

/// What a subagent uses is paid for, but fills a context of its own.
#[test]
fn a_subagent_is_billed_and_does_not_count_as_context() {
    let mut lab = Lab::new(|request: &Request| {
        if request.side {
            return Reply::side(Usage::default());
        }
        if request.turns[0].texts.iter().any(|text| text.starts_with("Count the beans")) {
            return match request.turns.len() {
                1 => Reply::bash("echo 7 beans", usage(10, 150_000, 0, 0, 200)),
                _ => Reply::text("There are 7.", usage(10, 10_000, 0, 150_000, 200)),
            };
        }
        let calls = request.turns.iter().flat_map(|turn| &turn.tool_uses).count();
        match calls {
            0 => {
                let input = json!({ "description": "Count beans", "prompt": "Count the beans.",
                    "subagent_type": "general-purpose", "run_in_background": false });
                Reply::tool("Agent", input, usage(10, 30_000, 0, 0, 100))
            }
            1 => Reply::bash(TICK_ALL, usage(10, 5_000, 0, 30_000, 100)),
            _ => Reply::text("Done.", usage(10, 1_000, 0, 35_000, 100)),
        }
    });
    lab.arguments(&["--model", "claude-haiku-4-5", "--allowedTools=Bash,Agent"]);
    let story = lab.story(&[], 0);
    let told = told(&story, "tokens");
    assert!(told.iter().all(|tokens| tokens.as_u64().unwrap() <= 36_010), "{told:?}");
    assert_eq!(told[0], 30_010);
    let cycle = &story.report["cycles"][0];
    assert_eq!(cycle["usage"]["cache_write_5m"], 196_000, "{cycle:#}\n{}", story.run.dump());
    assert_eq!(cycle["usage"]["cache_read"], 215_000);
    assert!(story.run.named("threshold_reached").is_empty());
}
