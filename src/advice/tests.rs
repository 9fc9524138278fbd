//! Each topic on small transcripts, with tokens and dollars worked out by hand. Opus 5.5
//! costs, in dollars per million tokens: 4 in, 20 out, 5 written, 0.20 read.

use jiff::civil::date;
use serde_json::json;

use super::*;
use crate::observe::fixture::{DAY, PROJECT, Rows, Tokens, Tree, bash, edit, read};
use crate::observe::{Kind, observe};

fn advised(tree: &Tree, tasks: &[Execution]) -> Advised {
    let config = Config::defaults().observe;
    let threads = tree.threads().list;
    let agents = AgentFiles::of(&threads, &tree.places().config_dirs);
    of_threads(&threads, tasks, &agents, DAY, &config, Models::builtin())
}

/// What is recommended under this key.
fn only<'a>(advised: &'a Advised, key: &str) -> &'a Advice {
    let found: Vec<&Advice> = advised.advice.iter().filter(|advice| advice.key == key).collect();
    let [only] = found[..] else { panic!("{key}: {:#?}", advised.advice) };
    assert!(!only.proposed_change.is_empty() && !only.evidence.is_empty(), "{only:#?}");
    only
}

fn has(advised: &Advised, key: &str) -> bool {
    advised.advice.iter().any(|advice| advice.key == key)
}

fn measure(advised: &Advised, key: &str) -> f64 {
    let found = advised.measures.iter().find(|measure| measure.key == key);
    found.unwrap_or_else(|| panic!("{key}: {:#?}", advised.measures)).value
}

/// A session that loads so much, reads a file, and then changes it.
fn changes_after(name: &str, at_s: i64, written: u64) -> Rows {
    Rows::new(name)
        .prompt(at_s, "Do the thing")
        .calls(at_s + 1, Tokens(10, written, 0, 200), &[read("src/a.rs", 400)])
        .calls(at_s + 9, Tokens(10, 5_000, written, 300), &[edit("src/a.rs")])
        .says(at_s + 20, Tokens(10, 50, written + 5_000, 30), "Done.")
}

#[test]
fn the_handoff_is_what_comes_before_the_first_change() {
    let tree = Tree::new();
    tree.write("s1.jsonl", &changes_after("s1", 0, 30_000).rows);
    tree.write("s2.jsonl", &changes_after("s2", 600, 60_000).rows);
    let advised = advised(&tree, &[]);
    let found = only(&advised, "handoff:/home/p");
    // 10 + 30,000 + 200 and 10 + 60,000 + 200.
    assert_eq!((found.tokens, found.basis), (Some(90_420), Basis::Measured));
    // 90,000 written at 5, 20 in at 4, 400 out at 20.
    assert_eq!(found.cost_usd, Some(0.458_08));
    assert_eq!(measure(&advised, "handoff:/home/p"), 45_210.0);
    assert!(found.description.contains("src/a.rs"), "read before, too: {found:#?}");
    assert!(found.proposed_change.contains("+++ b/.claude/commands/session-init.md"), "{found:#?}");
}

#[test]
fn a_small_handoff_is_measured_and_not_told() {
    let tree = Tree::new();
    // The mean of both is exactly the threshold: 39,790 + 10 + 200.
    tree.write("s1.jsonl", &changes_after("s1", 0, 39_790).rows);
    tree.write("s2.jsonl", &changes_after("s2", 600, 39_790).rows);
    // Nothing was changed here, so there is no first change.
    let asks = Rows::new("s3").calls(900, Tokens(0, 900_000, 0, 9), &[bash("ls", "a", false)]);
    tree.write("s3.jsonl", &asks.rows);
    let advised = advised(&tree, &[]);
    assert_eq!(measure(&advised, "handoff:/home/p"), 40_000.0);
    assert!(!has(&advised, "handoff:/home/p"), "{:#?}", advised.advice);
}

#[test]
fn a_tick_in_the_task_file_is_no_first_change() {
    let tree = Tree::new();
    for (name, at_s) in [("s1", 0), ("s2", 600)] {
        let rows = Rows::new(name)
            .calls(at_s, Tokens(0, 50_000, 0, 0), &[edit("dev-docs/tasks.md")])
            .calls(at_s + 1, Tokens(0, 50_000, 50_000, 0), &[bash("echo x > a.txt", "", false)]);
        tree.write(&format!("{name}.jsonl"), &rows.rows);
    }
    assert_eq!(measure(&advised(&tree, &[]), "handoff:/home/p"), 50_000.0);
}

/// Reads a file of 40,000 characters in each of two steps; usage says 10,000 tokens.
fn reads_twice(name: &str, second: &str) -> Rows {
    Rows::new(name)
        .calls(0, Tokens(0, 20_000, 0, 100), &[read("src/a.rs", 40_000)])
        .calls(5, Tokens(0, 10_100, 20_000, 100), &[read(second, 40_000)])
        .calls(10, Tokens(0, 10_100, 30_100, 50), &[bash("ls", "", false)])
        .says(15, Tokens(0, 50, 40_200, 50), "I see.")
}

#[test]
fn a_file_read_again_unchanged_costs_its_tokens_and_their_carrying() {
    let tree = Tree::new();
    tree.write("s1.jsonl", &reads_twice("s1", "src/a.rs").rows);
    let advised = advised(&tree, &[]);
    let found = only(&advised, "reread:/home/p/src/a.rs");
    assert_eq!((found.tokens, found.basis), (Some(10_000), Basis::Measured));
    // Written once at 5, read once at 0.20.
    assert_eq!(found.cost_usd, Some(0.052));
    assert_eq!(measure(&advised, "reread"), 50.0);
    assert!(found.proposed_change.starts_with("--- a/CLAUDE.md"), "{found:#?}");
}

#[test]
fn another_file_and_a_changed_one_are_no_reading_again() {
    let other = reads_twice("s1", "src/b.rs").rows;
    let mut changed = reads_twice("s1", "src/a.rs").rows;
    // Somebody else changed it in between.
    let second = changed.iter_mut().filter(|row| row["type"] == "user").nth(1).unwrap();
    second["message"]["content"][0]["content"] = json!("y".repeat(40_000));
    for rows in [other, changed] {
        let tree = Tree::new();
        tree.write("s1.jsonl", &rows);
        let advised = advised(&tree, &[]);
        assert_eq!(measure(&advised, "reread"), 0.0);
        assert!(!advised.advice.iter().any(|a| a.topic == Topic::Reread), "{:#?}", advised.advice);
    }
}

#[test]
fn a_later_session_that_reads_the_same_is_told_to_have_it_in_the_summary() {
    let tree = Tree::new();
    for (name, at_s) in [("s1", 0), ("s2", 600)] {
        let rows = Rows::new(name).calls(at_s, Tokens(0, 9_000, 0, 100), &[read("a.rs", 40_000)]);
        tree.write(&format!("{name}.jsonl"), &rows.rows);
    }
    let advised = advised(&tree, &[]);
    let found = only(&advised, "reread:/home/p/a.rs");
    // By characters, since no request follows; so nothing carried it either.
    assert_eq!(
        (found.tokens, found.basis, found.cost_usd),
        (Some(10_000), Basis::Estimated, Some(0.0))
    );
    assert!(found.proposed_change.contains("PROJECT_SUMMARY.md"), "{found:#?}");
}

#[test]
fn a_cheap_model_is_compared_where_nothing_was_changed() {
    let tree = Tree::new();
    let looks = [read("a.rs", 40), bash("cd /home/p && git log | head", "x", false)];
    let looks = Rows::agent("a1").calls(9, Tokens(0, 100_000, 0, 1_000), &looks);
    tree.write("s1/subagents/agent-a1.jsonl", &looks.rows);
    let writes = Rows::agent("a2").calls(9, Tokens(0, 100_000, 0, 1_000), &[edit("a.rs")]);
    tree.write("s1/subagents/agent-a2.jsonl", &writes.rows);
    let found = advised(&tree, &[]);
    let found = only(&found, "cheaper_model:claude-opus-5-5:a1");
    assert_eq!((found.tokens, found.basis), (Some(101_000), Basis::Estimated));
    // 0.5 + 0.02 on Opus, 0.0125 + 0.0005 on Haiku 5.5 up to 100,000 tokens.
    assert_eq!(found.cost_usd, Some(0.507));
    let change = &found.proposed_change;
    assert!(change.contains("`model: haiku`") && !change.contains("a1"), "{found:#?}");
}

#[test]
fn a_file_of_an_agent_is_changed_only_where_there_is_one() {
    let change = |of_project: Option<&str>, of_person: Option<&str>| {
        let tree = Tree::new();
        let project = tree.0.path().join("p");
        let write = |dir: std::path::PathBuf, text: &str| {
            std::fs::create_dir_all(dir.join("agents")).unwrap();
            std::fs::write(dir.join("agents/Explore.md"), text).unwrap();
        };
        if let Some(text) = of_project {
            write(project.join(".claude"), text);
        }
        if let Some(text) = of_person {
            write(tree.places().config_dirs[0].clone(), text);
        }
        let looks = [read("a.rs", 40)];
        let mut rows = Rows::agent("a1").calls(9, Tokens(0, 100_000, 0, 1_000), &looks).rows;
        rows.iter_mut().for_each(|row| row["cwd"] = json!(project.join("src")));
        let path = tree.write("s1/subagents/agent-a1.jsonl", &rows);
        let meta = json!({"agentType": "Explore"}).to_string();
        std::fs::write(path.with_extension("meta.json"), meta).unwrap();
        let found = advised(&tree, &[]);
        only(&found, "cheaper_model:claude-opus-5-5:Explore").proposed_change.clone()
    };
    let told = change(None, None);
    assert!(told.contains("Explore") && told.contains("`model: haiku`"), "{told}");
    assert!(!told.contains(".md") && !told.contains("+++"), "{told}");
    let head = "---\nname: Explore\ntools: Read\n---\nLook.\n";
    let told = change(Some(head), None);
    assert!(told.starts_with("--- a/.claude/agents/Explore.md\n"), "{told}");
    assert!(told.ends_with("@@\n name: Explore\n+model: haiku"), "{told}");
    let told = change(Some("---\nname: Explore\nmodel: opus\n---\n"), Some(head));
    assert!(told.ends_with("@@\n-model: opus\n+model: haiku"), "{told}");
    let told = change(None, Some(head));
    assert!(told.contains("claude/agents/Explore.md") && !told.contains("+++"), "{told}");
}

#[test]
fn subagents_are_told_with_what_their_beginnings_cost() {
    let tree = Tree::new();
    let main = Rows::new("s1").says(0, Tokens(0, 10_000, 0, 0), "Go.");
    tree.write("s1.jsonl", &main.rows);
    for name in ["a1", "a2"] {
        let agent = Rows::agent(name)
            .calls(5, Tokens(0, 20_000, 0, 100), &[read("src/a.rs", 40_000)])
            .calls(9, Tokens(0, 100, 20_000, 100), &[edit("src/a.rs")]);
        tree.write(&format!("s1/subagents/agent-{name}.jsonl"), &agent.rows);
    }
    let advised = advised(&tree, &[]);
    let found = only(&advised, "fan_out");
    assert_eq!((found.tokens, found.basis), (Some(40_000), Basis::Measured));
    assert_eq!(found.cost_usd, Some(0.2));
    // 40,600 of 50,600.
    assert_eq!(measure(&advised, "fan_out"), 80.237_154);
    assert_eq!(measure(&advised, "fan_out:subagents"), 2.0);
    let twice = only(&advised, "fan_out:duplicate_reads");
    // What usage grew by is not believable, so it is by characters.
    assert_eq!((twice.tokens, twice.basis), (Some(10_000), Basis::Estimated));
    // Only 100 tokens were written after it.
    assert_eq!(twice.cost_usd, Some(0.000_5));
    assert!(!advised.advice.iter().any(|advice| advice.topic == Topic::Reread));
}

#[test]
fn what_is_written_again_after_a_pause_is_a_cache_miss() {
    for (gap_s, model, key) in [
        (299, "claude-opus-5-5", "cache_misses:prompt_changed"),
        (300, "claude-opus-5-5", "cache_misses:prompt_changed"),
        (301, "claude-opus-5-5", "cache_misses:pause_over_5m"),
        (3_601, "claude-opus-5-5", "cache_misses:pause_over_1h"),
        (10, "claude-opus-5", "cache_misses:model_switch"),
    ] {
        let tree = Tree::new();
        let mut rows = Rows::new("s1").says(0, Tokens(0, 50_000, 0, 10), "a").rows;
        let mut after = Rows::new("s1").says(0, Tokens(0, 0, 0, 0), "x").model(model);
        after.rows.clear();
        rows.extend(after.says(gap_s, Tokens(5, 50_200, 0, 10), "b").rows);
        tree.write("s1.jsonl", &rows);
        let advised = advised(&tree, &[]);
        let found = only(&advised, key);
        assert_eq!((found.tokens, found.basis), (Some(50_000), Basis::Measured), "{gap_s}");
        // Written instead of read: 5 - 0.20, and 6.25 - 0.50 on Opus 5.
        let usd = if model == "claude-opus-5" { 0.2875 } else { 0.24 };
        assert_eq!(found.cost_usd, Some(usd), "{gap_s}");
        assert_eq!(advised.advice.iter().filter(|a| a.topic == Topic::CacheMisses).count(), 1);
        assert_eq!(measure(&advised, key), 50_000.0);
    }
}

#[test]
fn what_is_read_and_what_is_compacted_is_no_cache_miss() {
    let tree = Tree::new();
    let rows = Rows::new("s1")
        .says(0, Tokens(0, 90_000, 0, 10), "a")
        .says(900, Tokens(0, 500, 90_000, 10), "b")
        .says(2_000, Tokens(0, 40_000, 0, 10), "after a compaction");
    tree.write("s1.jsonl", &rows.rows);
    let advised = advised(&tree, &[]);
    assert!(!advised.advice.iter().any(|a| a.topic == Topic::CacheMisses), "{:#?}", advised.advice);
}

#[test]
fn what_a_command_prints_beyond_the_bound_is_carried_by_all_that_follows() {
    let tree = Tree::new();
    let long = "x".repeat(40_000);
    let rows = Rows::new("s1")
        .calls(0, Tokens(0, 20_000, 0, 100), &[bash("cd /home/p && cargo test -q", &long, false)])
        .calls(5, Tokens(0, 10_100, 20_000, 100), &[bash("ls", "", false)])
        .calls(9, Tokens(0, 100, 30_100, 50), &[edit("a.rs")])
        .says(15, Tokens(0, 50, 30_200, 50), "Done.");
    tree.write("s1.jsonl", &rows.rows);
    let advised = advised(&tree, &[]);
    let found = only(&advised, "oversized_output:Bash cargo test");
    assert_eq!((found.tokens, found.basis), (Some(5_000), Basis::Estimated));
    // 5,000 written at 5, read twice at 0.20.
    assert_eq!(found.cost_usd, Some(0.027));
    assert!(found.description.contains("carried by 3 requests"), "{found:#?}");
    assert!(found.proposed_change.contains("BASH_MAX_OUTPUT_LENGTH = \"20000\""), "{found:#?}");
    let fine = Tree::new();
    let at_bound = "x".repeat(20_000);
    let rows = Rows::new("s1").calls(0, Tokens(0, 9, 0, 1), &[bash("ls", &at_bound, false)]);
    fine.write("s1.jsonl", &rows.rows);
    let none = self::advised(&fine, &[]);
    assert_eq!(measure(&none, "oversized_output"), 0.0);
}

/// Executions for tasks that ran in these sessions, from a day's own.
fn as_tasks(tree: &Tree, tasks: &[(&str, &str)]) -> Vec<Execution> {
    let mut config = Config::defaults();
    config.observe.tokens = u64::MAX;
    let utc = jiff::tz::TimeZone::UTC;
    let day = observe(&tree.places(), date(2026, 11, 20), &utc, None, &config, Models::builtin());
    let mut found = Vec::new();
    for (session, task) in tasks {
        let of = |execution: &&Execution| execution.sessions == [(*session).to_owned()];
        let mut execution = day.executions.iter().find(of).unwrap().clone();
        execution.kind = Kind::Task;
        execution.task_id = Some((*task).to_owned());
        execution.id = format!("task:{task}#1");
        found.push(execution);
    }
    found
}

#[test]
fn tasks_near_each_other_could_have_shared_a_session() {
    let tree = Tree::new();
    tree.write("s1.jsonl", &changes_after("s1", 0, 30_000).rows);
    tree.write("s2.jsonl", &changes_after("s2", 20 + 1_800, 30_000).rows);
    tree.write("s3.jsonl", &changes_after("s3", 2 * (20 + 1_800) + 1, 30_000).rows);
    let tasks = as_tasks(&tree, &[("s1", "t1"), ("s2", "t2"), ("s3", "t3")]);
    let found = advised(&tree, &tasks);
    let found = only(&found, "batching:/home/p");
    // Half an hour after the first, a second more after the next.
    assert_eq!((found.tokens, found.basis), (Some(30_210), Basis::Estimated));
    assert_eq!(found.cost_usd, Some(0.154_04));
    assert!(found.evidence[0].contains("task:t2#1 after task:t1#1"), "{found:#?}");
    let again = as_tasks(&tree, &[("s1", "t1"), ("s2", "t1")]);
    assert!(!has(&advised(&tree, &again), "batching:/home/p"), "a retry shares nothing");
}

#[test]
fn a_model_without_a_price_is_told_in_tokens() {
    let tree = Tree::new();
    let rows = |name, at_s| {
        Rows::new(name)
            .model("of-tomorrow")
            .calls(at_s, Tokens(0, 50_000, 0, 0), &[bash("ls", "", false)])
            .calls(at_s + 1, Tokens(0, 50_000, 50_000, 0), &[edit("a.rs")])
    };
    tree.write("s1.jsonl", &rows("s1", 0).rows);
    tree.write("s2.jsonl", &rows("s2", 60).rows);
    let advised = advised(&tree, &[]);
    let found = only(&advised, "handoff:/home/p");
    assert_eq!((found.tokens, found.cost_usd), (Some(100_000), None));
}

#[test]
fn other_days_are_not_told_and_the_dearest_comes_first() {
    let tree = Tree::new();
    tree.write("s1.jsonl", &changes_after("s1", -7_200, 90_000).rows);
    tree.write("s2.jsonl", &changes_after("s2", -3_600, 90_000).rows);
    let of_yesterday = advised(&tree, &[]);
    assert!(of_yesterday.advice.is_empty(), "{of_yesterday:#?}");
    tree.write("s3.jsonl", &changes_after("s3", 600, 90_000).rows);
    tree.write("s4.jsonl", &changes_after("s4", 900, 90_000).rows);
    tree.write("s5.jsonl", &reads_twice("s5", "src/a.rs").rows);
    let advised = advised(&tree, &[]);
    let costs: Vec<f64> =
        advised.advice.iter().map(|advice| advice.cost_usd.unwrap_or(0.0)).collect();
    assert!(costs.len() > 1 && costs.is_sorted_by(|a, b| a >= b), "{costs:?}");
    assert_eq!(only(&advised, "handoff:/home/p").tokens, Some(2 * 90_210));
    assert_eq!(PROJECT, "/home/p");
}
