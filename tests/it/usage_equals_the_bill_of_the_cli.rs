//! `longhaul usage` beside the CLI's own `cost-state`, to the cent: every model of the
//! table, both kinds of cache writes, subagents, retries, resumed and forked sessions.

use longhaul::demo::api::{Reply, Request, Usage};
use serde_json::{Value, json};

use super::support::Lab;

fn usage(input: u64, write_5m: u64, write_1h: u64, read: u64, output: u64) -> Usage {
    Usage {
        input_tokens: input,
        output_tokens: output,
        cache_write_5m_tokens: write_5m,
        cache_write_1h_tokens: write_1h,
        cache_read_tokens: read,
    }
}

/// Three answers to each prompt: of 29,000 tokens, of 100,000 and of 100,001, which is
/// another price with some models.
fn three_answers(request: &Request) -> Reply {
    match (request.side, request.tool_results.len(), request.turns.last()) {
        (true, ..) => Reply::side(Usage::default()),
        (_, 0, _) => Reply::bash("echo one", usage(9_000, 15_000, 5_000, 0, 321)),
        (_, _, Some(turn)) if turn.tool_results.iter().any(|r| r.text.contains("one")) => {
            Reply::bash("echo two", usage(3, 1, 24_996, 75_000, 1_000))
        }
        _ => Reply::text("All is done.", usage(1, 0, 0, 100_000, 7)),
    }
}

/// Runs the CLI without a terminal and gives what it says at the end.
fn claude(lab: &Lab, args: &[&str]) -> Value {
    let fixed = ["-p", "--output-format", "json", "--allowedTools=Bash,Agent"];
    let output = lab.claude().args(fixed).args(args).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    serde_json::from_str(&stdout).unwrap_or_else(|err| panic!("{err}\n{stdout}\n{stderr}"))
}

/// The bill of a session: dollars, and tokens in the order of [`told`].
fn bill(lab: &Lab, session: &str) -> (f64, [u64; 5]) {
    let state = lab.cost_state(session).expect("the CLI's own bill");
    assert_eq!(state["hasUnknownModelCost"], false, "{state:#}");
    let models = state["modelUsage"].as_object().unwrap();
    let sum = |key: &str| models.values().map(|bill| bill[key].as_u64().unwrap()).sum();
    let tokens = [
        "inputTokens",
        "outputTokens",
        "cacheCreationEphemeral5mInputTokens",
        "cacheCreationEphemeral1hInputTokens",
        "cacheReadInputTokens",
    ];
    (state["totalCostUSD"].as_f64().unwrap(), tokens.map(sum))
}

/// What longhaul says of a row or of the totals.
fn told(sums: &Value) -> (f64, [u64; 5]) {
    let tokens = ["input", "output", "cache_write_5m", "cache_write_1h", "cache_read"];
    assert_eq!(sums["unpriced_tokens"], 0, "{sums:#}");
    (sums["cost_usd"].as_f64().unwrap(), tokens.map(|key| sums[key].as_u64().unwrap()))
}

fn view(lab: &Lab, view: &str) -> Value {
    lab.json(&["usage", view, "--json"])
}

fn row(seen: &Value, key: &str) -> (f64, [u64; 5]) {
    let rows = seen["rows"].as_array().unwrap();
    told(rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("{key}: {seen:#}")))
}

/// `sign` is 1 or -1.
fn plus(a: (f64, [u64; 5]), b: (f64, [u64; 5]), sign: i64) -> (f64, [u64; 5]) {
    let tokens = |at: usize| a.1[at].checked_add_signed(sign * b.1[at] as i64).unwrap();
    (a.0 + sign as f64 * b.0, [0, 1, 2, 3, 4].map(tokens))
}

/// Equal: tokens exactly, dollars to the millionth that is printed.
#[track_caller]
fn equal(what: &str, ours: (f64, [u64; 5]), theirs: (f64, [u64; 5])) {
    assert_eq!(ours.1, theirs.1, "{what}");
    assert!((ours.0 - theirs.0).abs() < 1e-6, "{what}: {} and {}", ours.0, theirs.0);
}

/// The models whose row in the table says that a bill agreed with it.
fn models() -> Vec<String> {
    let table: toml::Table = include_str!("../../config/models.toml").parse().unwrap();
    let models = table["model"].as_array().unwrap();
    let billed = models.iter().filter(|model| model["source"].as_str() == Some("cli"));
    billed.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_model_of_the_table_costs_what_the_cli_bills() {
    let lab = Lab::new(three_answers);
    let models = models();
    assert!(models.len() > 15, "{models:?}");
    let sessions: Vec<String> = models
        .iter()
        .map(|model| claude(&lab, &["--model", model, "go"])["session_id"].as_str().unwrap().into())
        .collect();
    let (by_session, by_model) = (view(&lab, "session"), view(&lab, "model"));
    let mut sum = (0.0, [0; 5]);
    for (model, session) in models.iter().zip(&sessions) {
        let bill = bill(&lab, session);
        assert!(bill.0 > 0.0 && bill.1.iter().all(|tokens| *tokens > 0), "{model}: {bill:?}");
        equal(model, row(&by_session, session), bill);
        sum = plus(sum, bill, 1);
    }
    for model in &models {
        row(&by_model, model);
    }
    equal("all models", told(&by_model["totals"]), sum);
}

/// A failed request is billed nothing. A resumed session has one bill, and its
/// transcript goes on. The bill of a fork begins with that of its origin, whose rows it
/// repeats: of the sum of all bills, that part is there twice.
#[test]
fn retries_resumed_and_forked_sessions_cost_what_the_cli_bills() {
    let lab = Lab::new(|request: &Request| match request.index_in_session {
        0 if !request.side => Reply::overloaded(),
        1 if !request.side => Reply::server_error(),
        _ => three_answers(request),
    });
    let run =
        |args: &[&str]| -> String { claude(&lab, args)["session_id"].as_str().unwrap().to_owned() };
    let origin = run(&["--model", "claude-opus-5-5", "go"]);
    let first = bill(&lab, &origin);
    equal("after retries", row(&view(&lab, "session"), &origin), first);
    assert_eq!(run(&["--resume", &origin, "--model", "claude-sonnet-5-5", "more"]), origin);
    let resumed = bill(&lab, &origin);
    equal("resumed, in tokens", plus((0.0, resumed.1), (0.0, first.1), -1), (0.0, first.1));
    equal("resumed", row(&view(&lab, "session"), &origin), resumed);

    let fork = run(&["--resume", &origin, "--fork-session", "--model", "claude-haiku-5-5", "more"]);
    assert_ne!(fork, origin);
    let forked = plus(bill(&lab, &fork), resumed, -1);
    let seen = view(&lab, "session");
    equal("the origin of a fork", row(&seen, &origin), resumed);
    equal("a fork", row(&seen, &fork), forked);
    // Both go on, each with its own bill.
    run(&["--resume", &origin, "--model", "claude-opus-5-5", "more"]);
    run(&["--resume", &fork, "--model", "claude-haiku-4-5", "more"]);
    let (of_origin, of_fork) = (bill(&lab, &origin), bill(&lab, &fork));
    let seen = view(&lab, "session");
    equal("the origin, resumed", row(&seen, &origin), of_origin);
    equal("the fork, resumed", row(&seen, &fork), plus(of_fork, resumed, -1));
    let sum = plus(plus(of_origin, of_fork, 1), resumed, -1);
    equal("all of it", told(&seen["totals"]), sum);
    // A fork of the fork, and one that never asks anything.
    let second = run(&["--resume", &fork, "--fork-session", "--model", "claude-opus-5-5", "more"]);
    let of_second = plus(bill(&lab, &second), of_fork, -1);
    let seen = view(&lab, "session");
    equal("a fork of a fork", row(&seen, &second), of_second);
    equal("with it", told(&seen["totals"]), plus(sum, of_second, 1));
}

#[test]
fn subagents_cost_what_the_cli_bills_and_are_told_apart() {
    let lab = Lab::new(|request: &Request| {
        if request.side {
            return Reply::side(Usage::default());
        }
        if request.turns[0].texts.iter().any(|text| text.starts_with("Count the beans")) {
            return match request.turns.iter().flat_map(|turn| &turn.tool_uses).count() {
                0 => Reply::bash("echo 7 beans", usage(10, 150_000, 0, 0, 200)),
                _ => Reply::text("There are 7.", usage(10, 0, 10_000, 150_000, 200)),
            };
        }
        match request.turns.iter().flat_map(|turn| &turn.tool_uses).count() {
            0 => {
                let input = json!({ "description": "Count beans", "prompt": "Count the beans.",
                    "subagent_type": "general-purpose", "run_in_background": false });
                Reply::tool("Agent", input, usage(10, 0, 30_000, 0, 100))
            }
            _ => Reply::text("Done.", usage(10, 1_000, 0, 30_000, 100)),
        }
    });
    let said = claude(&lab, &["--model", "claude-opus-5-5", "Have the beans counted."]);
    let session = said["session_id"].as_str().unwrap();
    let bill = bill(&lab, session);
    equal("the session", row(&view(&lab, "session"), session), bill);
    let agents = view(&lab, "agent");
    let beans = row(&agents, "general-purpose");
    assert_eq!(beans.1, [20, 400, 150_000, 10_000, 150_000], "{agents:#}");
    equal("both", plus(row(&agents, "main"), beans, 1), bill);
}
