//! The five anomalies, each with what was compared. Pure.

use std::collections::HashMap;

use serde::Serialize;

use super::execution::Execution;
use crate::clock;
use crate::config::Observe;
use crate::text;

/// What is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// Claimed done, and something says it is not.
    FalseCompletion,
    /// The same work, begun again soon.
    DuplicateExecution,
    /// Much input for little output.
    InputOutputRatio,
    /// Short, and many tokens all the same.
    QuickAndHeavy,
    /// Many tokens.
    ManyTokens,
}

impl AnomalyKind {
    /// All of them, the gravest first.
    pub const ALL: [AnomalyKind; 5] = [
        AnomalyKind::FalseCompletion,
        AnomalyKind::DuplicateExecution,
        AnomalyKind::InputOutputRatio,
        AnomalyKind::QuickAndHeavy,
        AnomalyKind::ManyTokens,
    ];

    /// Its name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            AnomalyKind::FalseCompletion => "false_completion",
            AnomalyKind::DuplicateExecution => "duplicate_execution",
            AnomalyKind::InputOutputRatio => "input_output_ratio",
            AnomalyKind::QuickAndHeavy => "quick_and_heavy",
            AnomalyKind::ManyTokens => "many_tokens",
        }
    }
}

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Work is not what it seems.
    High,
    /// Money was spent that need not have been.
    Medium,
    /// Good to know.
    Low,
}

/// So many digits behind the point tell any two ratios of whole tokens apart.
const RATIO_DIGITS: usize = 12;

impl Severity {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::High => "high",
            Severity::Medium => "medium",
            Severity::Low => "low",
        }
    }
}

/// Something odd about an execution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Anomaly {
    /// What.
    pub kind: AnomalyKind,
    /// How grave.
    pub severity: Severity,
    /// The `id` of the execution.
    pub execution: String,
    /// In one sentence.
    pub message: String,
    /// What `value` was compared with, in `unit`; `None`: not by a number.
    pub threshold: Option<f64>,
    /// What was found; `None`: nothing to divide by.
    pub value: Option<f64>,
    /// What both count: `input tokens for each output token`, `tokens`, `seconds`.
    pub unit: &'static str,
    /// What was compared, and behind that where it stands.
    pub evidence: Vec<String>,
    /// So many lines of it say what was compared.
    #[serde(skip)]
    pub compared: usize,
}

/// What is odd about `executions`, the gravest first. Those of `before` are there only to
/// be compared with.
pub fn find(executions: &[Execution], before: &[Execution], config: &Observe) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for execution in executions {
        found.extend(ratio(execution, config));
        found.extend(many_tokens(execution, config));
        found.extend(quick_and_heavy(execution, config));
        found.extend(false_completion(execution));
    }
    found.extend(duplicates(executions, before, config));
    found.sort_by(|a, b| {
        let weight = |anomaly: &Anomaly| anomaly.value.unwrap_or(f64::INFINITY);
        (a.severity, a.kind)
            .cmp(&(b.severity, b.kind))
            .then(weight(b).total_cmp(&weight(a)))
            .then_with(|| a.execution.cmp(&b.execution))
    });
    found
}

fn ratio(execution: &Execution, config: &Observe) -> Option<Anomaly> {
    let (input, output) = (execution.input, execution.usage.output);
    // In whole numbers there is no doubt at the threshold.
    let is_above = input as f64 > config.ratio * output as f64;
    if input < config.ratio_from_tokens || !is_above {
        return None;
    }
    let message = match execution.ratio {
        Some(ratio) => {
            format!("{} tokens of input for each token of output", times(ratio, config.ratio))
        }
        None => format!("{} tokens of input and no output", text::grouped(input)),
    };
    let floor = match config.ratio_from_tokens {
        0 => String::new(),
        tokens => format!(", from {} input tokens on", text::grouped(tokens)),
    };
    let evidence = vec![
        format!(
            "input {} ({}), output {}; compared: input > {} x output{floor}",
            text::grouped(input),
            input_words(execution, config),
            text::grouped(output),
            config.ratio,
        ),
        where_it_is(execution),
    ];
    Some(Anomaly {
        kind: AnomalyKind::InputOutputRatio,
        severity: Severity::Medium,
        execution: execution.id.clone(),
        message,
        threshold: Some(config.ratio),
        value: execution.ratio,
        unit: "input tokens for each output token",
        evidence,
        compared: 1,
    })
}

/// With as many digits as it takes to see that it is above `threshold`.
fn times(ratio: f64, threshold: f64) -> String {
    let is_seen = |digits: &usize| {
        format!("{ratio:.digits$}").parse::<f64>().is_ok_and(|told| told > threshold)
    };
    let fewest = if ratio < 100.0 { 1 } else { 0 };
    match (fewest..=RATIO_DIGITS).find(is_seen).unwrap_or(RATIO_DIGITS) {
        0 => text::grouped(ratio.round() as u64),
        digits => format!("{ratio:.digits$}"),
    }
}

/// The sum that counts as input, in its parts.
fn input_words(execution: &Execution, config: &Observe) -> String {
    use crate::config::InputKind;
    let used = &execution.usage;
    let plain = format!("{} plain", text::grouped(used.input));
    let written = format!("{} written to the cache", text::grouped(used.cache_write));
    let read = format!("{} read from the cache", text::grouped(used.cache_read));
    match config.input {
        InputKind::Uncached => format!("{plain} + {written}"),
        InputKind::All => format!("{plain} + {written} + {read}"),
        InputKind::Plain => plain,
    }
}

fn many_tokens(execution: &Execution, config: &Observe) -> Option<Anomaly> {
    if execution.tokens <= config.tokens {
        return None;
    }
    let evidence = vec![
        format!(
            "input {} ({}) + output {} = {}; compared: more than {}",
            text::grouped(execution.input),
            input_words(execution, config),
            text::grouped(execution.usage.output),
            text::grouped(execution.tokens),
            text::grouped(config.tokens)
        ),
        where_it_is(execution),
    ];
    Some(Anomaly {
        kind: AnomalyKind::ManyTokens,
        severity: Severity::Low,
        execution: execution.id.clone(),
        message: format!("{} tokens, {}", text::grouped(execution.tokens), execution.cost_words()),
        threshold: Some(config.tokens as f64),
        value: Some(execution.tokens as f64),
        unit: "tokens",
        evidence,
        compared: 1,
    })
}

fn quick_and_heavy(execution: &Execution, config: &Observe) -> Option<Anomaly> {
    // What has not ended yet has not been quick.
    let is_quick = execution.ended_at.is_some() && execution.duration_ms <= config.quick_ms;
    if !is_quick || execution.tokens <= config.quick_tokens {
        return None;
    }
    let evidence = vec![
        format!(
            "{} from {} to {}; compared: no longer than {}, and more than {} tokens (it used {})",
            text::span(execution.duration_ms),
            clock::rfc3339(execution.started_at.unix_ms),
            execution.ended_at.map_or_else(String::new, |at| clock::rfc3339(at.unix_ms)),
            text::span(config.quick_ms),
            text::grouped(config.quick_tokens),
            text::grouped(execution.tokens)
        ),
        where_it_is(execution),
    ];
    Some(Anomaly {
        kind: AnomalyKind::QuickAndHeavy,
        severity: Severity::Medium,
        execution: execution.id.clone(),
        message: format!(
            "{} tokens in {}",
            text::grouped(execution.tokens),
            text::span(execution.duration_ms)
        ),
        threshold: Some(config.quick_tokens as f64),
        value: Some(execution.tokens as f64),
        unit: "tokens",
        evidence,
        compared: 1,
    })
}

/// What contradicts a claim, the gravest first.
fn contradictions(execution: &Execution) -> Vec<(Severity, String)> {
    let evidence = &execution.evidence;
    let mut found = Vec::new();
    let mut refused = evidence.verify.iter().filter(|verified| !verified.passed);
    let (count, last) = (refused.clone().count(), refused.next_back());
    if let Some(refused) = last {
        let command = evidence.verify_command.as_deref().unwrap_or("the verify command");
        let is_mended = evidence.verify.last().is_some_and(|verified| verified.passed);
        let words = format!(
            "verify: `{command}` failed {} of {} times, last at {}{}",
            count,
            evidence.verify.len(),
            clock::rfc3339(refused.at.unix_ms),
            if is_mended { ", and passed after that" } else { "" }
        );
        found.push((if is_mended { Severity::Low } else { Severity::High }, words));
    }
    if let Some((open, all)) = evidence.boxes.filter(|(open, _)| *open > 0) {
        found.push((Severity::High, format!("task file: {open} of {all} boxes were open")));
    }
    if let Some(check) = evidence.last_check.as_ref().filter(|check| check.failed) {
        let at =
            check.at.map_or_else(String::new, |at| format!(" at {}", clock::rfc3339(at.unix_ms)));
        let words = format!("check: the last one, `{}`{at}, failed", check.command);
        found.push((Severity::High, words));
    }
    // Why something ended that did not end done is no word against what was claimed on the way.
    let is_done = execution.outcome.as_deref() == Some("done");
    let (standing, others) = evidence.errors.split_at(evidence.standing.min(evidence.errors.len()));
    for error in others.iter().filter(|_| is_done) {
        found.push((Severity::High, format!("error: {error}")));
    }
    for error in standing {
        found.push((Severity::Medium, format!("error: never made good: {error}")));
    }
    if evidence.claims_changes && evidence.changes == Some(0) {
        let words = "diff: no call changed a file, but for those kept for the next session";
        found.push((Severity::Medium, words.to_owned()));
    }
    found
}

fn false_completion(execution: &Execution) -> Option<Anomaly> {
    let evidence = &execution.evidence;
    let claim = evidence.claim.as_ref()?;
    let mut against = contradictions(execution);
    against.sort_by_key(|(severity, _)| *severity);
    let severity = against.first().map(|(severity, _)| *severity)?;
    let what: Vec<&str> = against.iter().filter_map(|(_, words)| words.split(':').next()).collect();
    let what = what.join(", ");
    let mut told = vec![match &evidence.claim_words {
        Some(words) => format!("claim: {claim}: \"{words}\""),
        None => format!("claim: {claim}"),
    }];
    let count = against.len();
    told.extend(against.into_iter().map(|(_, words)| words));
    let compared = told.len();
    told.push(where_it_is(execution));
    Some(Anomaly {
        kind: AnomalyKind::FalseCompletion,
        severity,
        execution: execution.id.clone(),
        message: format!("claimed done; against it: {what}"),
        threshold: None,
        value: Some(count as f64),
        unit: "contradictions",
        evidence: told,
        compared,
    })
}

/// Each execution against the one of the same work that began last before it.
fn duplicates(executions: &[Execution], before: &[Execution], config: &Observe) -> Vec<Anomaly> {
    let mut all: Vec<(&Execution, bool)> =
        before.iter().map(|execution| (execution, false)).collect();
    all.extend(executions.iter().map(|execution| (execution, true)));
    all.sort_by(|(a, _), (b, _)| (a.started_at.unix_ms, &a.id).cmp(&(b.started_at.unix_ms, &b.id)));
    let mut found = Vec::new();
    let mut latest: HashMap<Same<'_>, usize> = HashMap::new();
    for (at, (execution, is_wanted)) in all.iter().enumerate() {
        let names = names(execution);
        let earlier = names.clone().filter_map(|name| latest.get(&name).copied()).max();
        latest.extend(names.map(|name| (name, at)));
        let Some(earlier) = earlier.filter(|_| *is_wanted).map(|earlier| all[earlier].0) else {
            continue;
        };
        let Some(words) = same_work(earlier, execution) else { continue };
        let after_ms = execution.started_at.unix_ms.abs_diff(earlier.started_at.unix_ms);
        if after_ms <= config.duplicate_within_ms {
            found.push(duplicate(execution, earlier, &words, after_ms, config));
        }
    }
    found
}

/// What executions of the same work have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Same<'a> {
    Task(&'a str),
    /// Its name and the project.
    Work(&'a str, &'a str),
}

fn names(execution: &Execution) -> impl Iterator<Item = Same<'_>> + Clone {
    let task = execution.task_id.as_deref().map(Same::Task);
    let work = execution.work.as_ref().map(|work| Same::Work(&work.name, &execution.project));
    task.into_iter().chain(work)
}

/// In which words both are the same work, if they are.
fn same_work(earlier: &Execution, execution: &Execution) -> Option<String> {
    if let Some(task) =
        execution.task_id.as_ref().filter(|id| Some(*id) == earlier.task_id.as_ref())
    {
        return Some(format!("the task {task}"));
    }
    let (known, work) = (earlier.work.as_ref()?, execution.work.as_ref()?);
    let is_same = known.name == work.name && earlier.project == execution.project;
    is_same.then(|| work.words.clone())
}

fn duplicate(
    execution: &Execution,
    earlier: &Execution,
    work: &str,
    after_ms: u64,
    config: &Observe,
) -> Anomaly {
    let after = text::about(after_ms);
    let outcome = |execution: &Execution| execution.outcome.clone().unwrap_or("unknown".into());
    let (message, severity) = match earlier.failed {
        true => {
            (format!("{work} once more after {after}: a retry, since it had failed"), Severity::Low)
        }
        false => (format!("{work} once more after {after}"), Severity::Medium),
    };
    let files = |execution: &Execution| match execution.evidence.changed_files.as_slice() {
        [] => "none known".to_owned(),
        files => files.join(", "),
    };
    let is_same_outcome = execution.outcome == earlier.outcome;
    let (files_now, files_then) =
        (&execution.evidence.changed_files, &earlier.evidence.changed_files);
    let result = match is_same_outcome {
        true if !files_now.is_empty() && files_now == files_then => "the same result both times",
        true => "ended alike",
        false => "another result",
    };
    let mut evidence = vec![
        format!(
            "began {} and {}; compared: {work}, no more than {} apart",
            clock::rfc3339(earlier.started_at.unix_ms),
            clock::rfc3339(execution.started_at.unix_ms),
            text::about(config.duplicate_within_ms)
        ),
        format!("{result}: ended {} and {}", outcome(earlier), outcome(execution)),
        match files_then.is_empty() && files_now.is_empty() {
            true => "changed files: none known of either".to_owned(),
            false => format!("changed files: {} and {}", files(earlier), files(execution)),
        },
        format!("first: {}", where_it_is(earlier)),
        format!("then: {}", where_it_is(execution)),
    ];
    let why = earlier.why_failed.as_ref().or(earlier.evidence.errors.last());
    if let Some(error) = why.filter(|_| earlier.failed) {
        evidence.insert(1, format!("the first one failed: {error}"));
    }
    Anomaly {
        kind: AnomalyKind::DuplicateExecution,
        severity,
        execution: execution.id.clone(),
        message,
        threshold: Some(config.duplicate_within_ms as f64 / 1_000.0),
        value: Some(after_ms as f64 / 1_000.0),
        unit: "seconds",
        compared: evidence.len() - 2,
        evidence,
    }
}

/// Execution, sessions and files.
fn where_it_is(execution: &Execution) -> String {
    let mut words = execution.id.clone();
    if !execution.sessions.is_empty() {
        words.push_str(&format!("; session {}", execution.sessions.join(", ")));
    }
    for source in &execution.sources {
        words.push_str(&format!("; {source}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::execution::{Check, Evidence, Kind, Verified};
    use super::*;
    use crate::config::Config;
    use crate::report::Moment;

    const AT: Moment = Moment { unix_ms: 1_000 };

    fn task(id: &str, at_s: i64, outcome: &str) -> Execution {
        Execution {
            id: format!("task:{id}#{at_s}"),
            kind: Kind::Task,
            project: "/p".into(),
            task_id: Some(id.into()),
            started_at: Moment { unix_ms: at_s * 1_000 },
            ended_at: Some(Moment { unix_ms: at_s * 1_000 + 500 }),
            outcome: Some(outcome.into()),
            failed: outcome != "done",
            ..Execution::blank()
        }
    }

    fn of(executions: &[Execution]) -> Vec<Anomaly> {
        find(executions, &[], &Config::defaults().observe)
    }

    fn claimed(evidence: Evidence) -> Option<Anomaly> {
        let evidence = Evidence { claim: Some("the task ended done".into()), ..evidence };
        let mut found = of(&[Execution { evidence, ..task("t", 0, "done") }]);
        assert!(found.len() <= 1, "{found:#?}");
        found.pop()
    }

    fn verified(passed: &[bool]) -> Vec<Verified> {
        passed.iter().map(|passed| Verified { at: AT, passed: *passed }).collect()
    }

    /// Everything that can speak against a claim, and the same where it does not.
    #[test]
    fn a_claim_is_false_by_each_kind_of_evidence_and_never_without() {
        let check = |failed| Some(Check { command: "cargo test".into(), at: Some(AT), failed });
        let blank = Evidence::default;
        let cases = [
            ("verify", Severity::High, Evidence { verify: verified(&[true, false]), ..blank() }),
            ("verify", Severity::Low, Evidence { verify: verified(&[false, true]), ..blank() }),
            ("task file", Severity::High, Evidence { boxes: Some((1, 3)), ..blank() }),
            ("check", Severity::High, Evidence { last_check: check(true), ..blank() }),
            ("error", Severity::High, Evidence { errors: vec!["it broke".into()], ..blank() }),
            (
                "diff",
                Severity::Medium,
                Evidence { changes: Some(0), claims_changes: true, ..blank() },
            ),
        ];
        for (what, severity, evidence) in cases {
            let found = claimed(evidence.clone()).unwrap_or_else(|| panic!("{what}"));
            assert_eq!((found.kind, found.severity), (AnomalyKind::FalseCompletion, severity));
            assert_eq!(found.message, format!("claimed done; against it: {what}"));
            assert_eq!(found.value, Some(1.0), "{what}");
            assert!(found.evidence[1].starts_with(&format!("{what}:")), "{found:#?}");
            assert!(found.evidence.last().unwrap().starts_with("task:t#0"), "{found:#?}");
            let unclaimed = Execution { evidence, ..task("t", 0, "done") };
            assert_eq!(of(&[unclaimed]), [], "nothing was claimed: {what}");
        }
        for evidence in [
            blank(),
            Evidence { verify: verified(&[true]), ..blank() },
            Evidence { boxes: Some((0, 3)), ..blank() },
            Evidence { last_check: check(false), ..blank() },
            Evidence { changes: None, claims_changes: true, ..blank() },
            Evidence { changes: Some(1), claims_changes: true, ..blank() },
            Evidence { changes: Some(0), claims_changes: false, ..blank() },
        ] {
            assert_eq!(claimed(evidence.clone()), None, "{evidence:#?}");
        }
    }

    #[test]
    fn a_ratio_is_told_with_the_digits_that_show_it_to_be_odd() {
        for (ratio, threshold, told) in [
            (15.01, 15.0, "15.01"),
            (15.000_2, 15.0, "15.0002"),
            (15.2, 15.0, "15.2"),
            (99.96, 15.0, "100.0"),
            (1_234.4, 15.0, "1,234"),
            (200.3, 200.0, "200.3"),
        ] {
            assert_eq!(times(ratio, threshold), told);
        }
    }

    #[test]
    fn all_that_contradicts_is_told_the_gravest_first() {
        let found = claimed(Evidence {
            verify: verified(&[false, true]),
            changes: Some(0),
            claims_changes: true,
            errors: vec!["it broke".into()],
            ..Evidence::default()
        });
        let found = found.unwrap();
        assert_eq!(found.severity, Severity::High);
        assert_eq!(found.message, "claimed done; against it: error, diff, verify");
        assert_eq!((found.value, found.compared, found.evidence.len()), (Some(3.0), 4, 5));
    }

    #[test]
    fn why_something_failed_is_no_word_against_what_was_claimed_on_the_way() {
        let evidence = Evidence {
            claim: Some("the task file said done, read twice".into()),
            errors: vec!["a budget is spent".into()],
            ..Evidence::default()
        };
        assert_eq!(of(&[Execution { evidence, ..task("t", 0, "error") }]), []);
    }

    #[test]
    fn a_retry_after_a_failure_is_told_as_one() {
        for (first, then, severity, words) in [
            ("error", "done", Severity::Low, "a retry, since it had failed"),
            ("queued", "done", Severity::Low, "a retry, since it had failed"),
            ("done", "done", Severity::Medium, "once more after 60 s"),
        ] {
            let mut executions = [task("t", 0, first), task("t", 60, then), task("u", 61, then)];
            let found = of(&executions);
            let [found] = &found[..] else { panic!("{found:#?}") };
            assert_eq!((found.severity, found.execution.as_str()), (severity, "task:t#60"));
            assert!(found.message.contains(words), "{found:#?}");
            assert_eq!((found.value, found.threshold), (Some(60.0), Some(3_600.0)));
            executions.reverse();
            assert_eq!(of(&executions), std::slice::from_ref(found), "the order does not matter");
        }
    }

    #[test]
    fn of_three_each_is_compared_with_the_one_before() {
        let executions = [task("t", 0, "done"), task("t", 3_600, "done"), task("t", 7_201, "done")];
        let found = of(&executions);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0].execution, "task:t#3600");
        let (before, now) = executions.split_at(1);
        let found = find(now, before, &Config::defaults().observe);
        assert_eq!(found.len(), 1, "what was before the day is compared with: {found:#?}");
        assert_eq!(find(before, now, &Config::defaults().observe), []);
    }
}
