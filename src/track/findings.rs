//! What the tracker's own logs show over a period. Pure.

use std::collections::BTreeMap;

use super::daily::{Day, HEAVY_TOKENS, Task, tasks_of};
use super::models::{cheaper_for_light_work, fan_out};
use super::review::percent;
use super::sums::{self, Sum};
use crate::advice::{Advice, Advised, Basis, Measure, Topic};
use crate::text;

/// Less than this share of a model's tokens, in percent, is no pattern.
const MIN_LIGHT_PERCENT: u64 = 5;
/// More input to output than this is much.
const RATIO: u64 = 15;
/// Places that are named as evidence.
const MAX_EVIDENCE: usize = 5;

/// What was found.
pub(super) struct Found {
    /// Each a line.
    pub(super) findings: Vec<String>,
    pub(super) advised: Advised,
}

/// Looks at the logs of a period.
pub(super) fn of(logs: &Day) -> Found {
    let tasks = tasks_of(&logs.logs);
    let mut found = Found { findings: Vec::new(), advised: Advised::default() };
    found.overuse(logs);
    found.fan_out(&tasks);
    found.ratio(logs);
    if !logs.unreadable.is_empty() {
        let names: Vec<String> =
            logs.unreadable.iter().take(MAX_EVIDENCE).map(|name| sums::plain(name)).collect();
        found.findings.push(format!(
            "**Unreadable logs**: {} not counted: {}.",
            text::count(logs.unreadable.len() as u64, "task log is", "task logs are"),
            names.join(", ")
        ));
    }
    found
}

/// What a model did that a cheaper one does as well.
#[derive(Default)]
struct Light {
    sum: Sum,
    entries: u64,
    tasks: Vec<String>,
}

impl Found {
    fn overuse(&mut self, logs: &Day) {
        let mut models: BTreeMap<String, (Sum, u64)> = BTreeMap::new();
        let mut light: BTreeMap<(String, &'static str), Light> = BTreeMap::new();
        for log in &logs.logs {
            for entry in log.entries.iter().flatten() {
                let Some(model) = &entry.model else { continue };
                let all = models.entry(model.clone()).or_default();
                all.0.add(entry);
                all.1 += 1;
                if let Some(cheaper) = cheaper_for_light_work(entry) {
                    let light = light.entry((model.clone(), cheaper)).or_default();
                    light.sum.add(entry);
                    light.entries += 1;
                    light.tasks.extend(log.task_id.clone());
                }
            }
        }
        let tasks = tasks_of(&logs.logs).len().max(1) as f64;
        for (model, (all, entries)) in &models {
            let dearer = super::models::cheaper_than(model);
            let Some(cheaper) = dearer else { continue };
            let none = Light::default();
            let light = light.get(&(model.clone(), cheaper)).unwrap_or(&none);
            let key = format!("cheaper_model:{model}");
            self.advised.measures.push(Measure {
                topic: Topic::CheaperModel,
                key: key.clone(),
                value: light.sum.total.tokens as f64 / tasks,
                unit: "tokens of light work per task".into(),
            });
            let share = light.sum.total.tokens.saturating_mul(100);
            if share / all.total.tokens.max(1) < MIN_LIGHT_PERCENT || light.entries == 0 {
                continue;
            }
            let shown = sums::plain(model);
            self.findings.push(format!(
                "**Model overuse**: {cheaper}-suitable work using {shown} in {} of its entries \
                 ({} of {}; {} tokens, {}).",
                percent(light.entries, *entries),
                text::grouped(light.entries),
                text::grouped(*entries),
                light.sum.total.grouped(),
                light.sum.cost.said()
            ));
            self.advised.advice.push(overuse_advice(key, model, cheaper, light));
        }
    }

    fn fan_out(&mut self, tasks: &BTreeMap<String, Task<'_>>) {
        if tasks.is_empty() {
            return;
        }
        let key = "fan_out:agents";
        let agents: usize = tasks.values().map(Task::agents).sum();
        self.advised.measures.push(Measure {
            topic: Topic::FanOut,
            key: key.into(),
            value: agents as f64 / tasks.len() as f64,
            unit: "agents per task".into(),
        });
        let wide: Vec<(&String, &Task<'_>, usize)> = tasks
            .iter()
            .filter_map(|(id, task)| fan_out(task).map(|agents| (id, task, agents)))
            .collect();
        if wide.is_empty() {
            return;
        }
        let mut sum = Sum::default();
        wide.iter().for_each(|(_, task, _)| sum.merge(&task.sum));
        let named: Vec<String> = wide
            .iter()
            .take(MAX_EVIDENCE)
            .map(|(id, task, agents)| {
                format!("{id}: {agents} agents for {} tokens", task.sum.total.grouped())
            })
            .collect();
        let count = text::count(wide.len() as u64, "small task", "small tasks");
        let description = format!("{count} had many agents ({}).", named.join("; "));
        self.findings.push(format!("**Fan-out**: {}", sums::plain(&description)));
        self.advised.advice.push(Advice {
            topic: Topic::FanOut,
            key: key.into(),
            description,
            proposed_change: "Add to the delegation rules:\nDo not delegate a task that one agent \
                              finishes within 15,000 tokens; give it to one agent."
                .into(),
            tokens: sum.total.tokens,
            cost_usd: sum.cost.about_usd(),
            basis: basis_of(&sum),
            evidence: named,
        });
    }

    fn ratio(&mut self, logs: &Day) {
        let mut sum = Sum::default();
        logs.logs.iter().for_each(|log| sum.merge(&Sum::of(log)));
        let is_known = sum.input.is_known && sum.output.is_known;
        if !is_known || sum.output.tokens == 0 || sum.input.tokens < HEAVY_TOKENS {
            return;
        }
        let ratio = sum.input.tokens as f64 / sum.output.tokens as f64;
        self.advised.measures.push(Measure {
            topic: Topic::Reread,
            key: "reread:input_per_output".into(),
            value: ratio,
            unit: "input tokens per output token".into(),
        });
        let excess = sum.input.tokens.saturating_sub(sum.output.tokens.saturating_mul(RATIO));
        if excess > 0 {
            // At the average price of a token: which of them were read again is not told.
            let share = excess as f64 / sum.total.tokens.max(excess) as f64;
            let description = format!(
                "{} tokens were sent for {} of output: {ratio:.1} to 1, where {RATIO} to 1 is much.",
                sum.input.grouped(),
                sum.output.grouped()
            );
            self.findings.push(format!("**High context reread rate**: {description}"));
            self.advised.advice.push(Advice {
                topic: Topic::Reread,
                key: "reread:input_per_output".into(),
                description,
                proposed_change: "Add to the workflow:\nRead a file that was read before from its \
                                  summary; keep summaries of files that every task reads."
                    .into(),
                tokens: excess,
                cost_usd: sum.cost.about_usd() * share,
                basis: Basis::Estimated,
                evidence: Vec::new(),
            });
        }
    }
}

fn overuse_advice(key: String, model: &str, cheaper: &str, light: &Light) -> Advice {
    let mut tasks = light.tasks.clone();
    tasks.sort_unstable();
    tasks.dedup();
    Advice {
        topic: Topic::CheaperModel,
        key,
        description: format!(
            "{model} did light work (little in, little out) in {}: {cheaper} does it as well.",
            text::count(tasks.len() as u64, "task", "tasks")
        ),
        proposed_change: format!(
            "Add to the model selection rules:\nFor light work (file search, pattern matching, \
             single lookups) use {cheaper}, not {model}."
        ),
        tokens: light.sum.total.tokens,
        cost_usd: light.sum.cost.about_usd(),
        basis: basis_of(&light.sum),
        evidence: tasks.into_iter().take(MAX_EVIDENCE).collect(),
    }
}

/// A sum with prices of the table in it, or that is not all, is an estimate.
fn basis_of(sum: &Sum) -> Basis {
    let is_told = !sum.cost.is_partial && sum.cost.list_usd == 0.0 && !sum.total.is_partial;
    if is_told { Basis::Measured } else { Basis::Estimated }
}
