//! What the tracker's own logs show over a period. Pure.

use std::collections::BTreeMap;

use super::daily::{Day, HEAVY_TOKENS, Task, tasks_of};
use super::models::{FEW_TOKENS_EACH, RATIO, cheaper_for_light_work, fan_out, is_over_ratio};
use super::record::LogEntry;
use super::review::percent;
use super::sums::{self, Sum};
use crate::advice::{Advice, Advised, Basis, Measure, Topic};
use crate::models::Models;
use crate::text;

/// Less than this share of a model's entries, in percent, is no pattern.
const MIN_LIGHT_PERCENT: u64 = 5;
/// Places that are named as evidence.
const MAX_EVIDENCE: usize = 5;

const LIGHT_UNIT: &str = "tokens of light work per task";
const AGENTS_UNIT: &str = "agents per task";
const RATIO_UNIT: &str = "input tokens per output token";

/// Is it a figure of the tracker's own logs? Others come from transcripts.
pub(super) fn is_own(measure: &Measure) -> bool {
    [LIGHT_UNIT, AGENTS_UNIT, RATIO_UNIT].contains(&&*measure.unit)
}

/// What was found.
pub(super) struct Found {
    /// Each a line.
    pub(super) findings: Vec<String>,
    pub(super) advised: Advised,
}

/// Looks at the logs of a period. `transcripts` is what those of the same period show.
pub(super) fn of(logs: &Day, transcripts: &Advised, models: &Models) -> Found {
    let tasks = tasks_of(&logs.logs);
    let mut found = Found { findings: Vec::new(), advised: Advised::default() };
    found.overuse(logs, models);
    found.fan_out(&tasks);
    found.ratio(logs, transcripts);
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
    /// What the same tokens cost less at the cheaper model's list price, where both have one.
    saved_usd: Option<f64>,
}

impl Light {
    fn add(&mut self, entry: &LogEntry, cheaper: &str, unix_ms: i64, models: &Models) {
        self.sum.add(entry);
        self.entries += 1;
        let price = |model: &str| entry.price_as(model, unix_ms, models);
        // A model without a price may have been told with a cost.
        let own = entry.model.as_deref().and_then(price).or(entry.estimated_cost);
        if let (Some(own), Some(cheap)) = (own, price(cheaper)) {
            *self.saved_usd.get_or_insert(0.0) += (own - cheap).max(0.0);
        }
    }
}

impl Found {
    fn overuse(&mut self, logs: &Day, prices: &Models) {
        let mut models: BTreeMap<String, u64> = BTreeMap::new();
        let mut light: BTreeMap<(String, &'static str), Light> = BTreeMap::new();
        for log in &logs.logs {
            let unix_ms = log.unix_ms().unwrap_or(i64::MAX);
            for entry in log.entries.iter().flatten() {
                let Some(model) = &entry.model else { continue };
                *models.entry(model.clone()).or_default() += 1;
                if let Some(cheaper) = cheaper_for_light_work(entry) {
                    let light = light.entry((model.clone(), cheaper)).or_default();
                    light.add(entry, cheaper, unix_ms, prices);
                    light.tasks.extend(log.task_id.clone());
                }
            }
        }
        let tasks = tasks_of(&logs.logs).len().max(1) as f64;
        for (model, entries) in &models {
            let dearer = super::models::cheaper_than(model);
            let Some(cheaper) = dearer else { continue };
            let none = Light::default();
            let light = light.get(&(model.clone(), cheaper)).unwrap_or(&none);
            let key = format!("cheaper_model:{model}");
            self.advised.measures.push(Measure {
                topic: Topic::CheaperModel,
                key: key.clone(),
                value: light.sum.total.tokens as f64 / tasks,
                unit: LIGHT_UNIT.into(),
            });
            let share = light.entries.saturating_mul(100);
            if share < entries.saturating_mul(MIN_LIGHT_PERCENT) || light.entries == 0 {
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
            unit: AGENTS_UNIT.into(),
        });
        let wide: Vec<(&String, &Task<'_>, usize)> = tasks
            .iter()
            .filter_map(|(id, task)| fan_out(task).map(|agents| (id, task, agents)))
            .collect();
        if wide.is_empty() {
            return;
        }
        let (mut tokens, mut usd) = (0_u64, 0.0);
        for (_, task, _) in &wide {
            let beside = beside_the_busiest(task);
            tokens = tokens.saturating_add(beside.0);
            usd += beside.1;
        }
        let named: Vec<String> = wide
            .iter()
            .take(MAX_EVIDENCE)
            .map(|(id, task, agents)| {
                format!("{id}: {agents} agents for {} tokens", task.sum.total.grouped())
            })
            .collect();
        let count = text::count(wide.len() as u64, "small task", "small tasks");
        let few = text::grouped(FEW_TOKENS_EACH);
        let description = format!(
            "{count} had many agents, with {few} tokens or less for each ({}). At stake is at most \
             what all but the busiest agent of each used.",
            named.join("; ")
        );
        self.findings.push(format!("**Fan-out**: {}", sums::plain(&description)));
        self.advised.advice.push(Advice {
            topic: Topic::FanOut,
            key: key.into(),
            description,
            proposed_change: format!(
                "Add to the delegation rules:\nDo not split a task among agents that would use {few} \
                 tokens or less each; give it to one agent."
            ),
            tokens: Some(tokens),
            cost_usd: (usd > 0.0).then(|| text::to_micros(usd)),
            basis: Basis::Estimated,
            evidence: named,
        });
    }

    fn ratio(&mut self, logs: &Day, transcripts: &Advised) {
        const KEY: &str = "input_per_output";
        let mut sum = Sum::default();
        logs.logs.iter().for_each(|log| sum.merge(&Sum::of(log)));
        if !sum.input.is_known || !sum.output.is_known || sum.output.tokens == 0 {
            return;
        }
        let ratio = sum.input.tokens as f64 / sum.output.tokens as f64;
        self.advised.measures.push(Measure {
            topic: Topic::Reread,
            key: KEY.into(),
            value: ratio,
            unit: RATIO_UNIT.into(),
        });
        if sum.input.tokens < HEAVY_TOKENS || !is_over_ratio(sum.input.tokens, sum.output.tokens) {
            return;
        }
        let mut description = format!(
            "{} tokens were sent for {} of output: {ratio:.1} to 1, where {RATIO} to 1 is much.",
            sum.input.grouped(),
            sum.output.grouped()
        );
        let files = files_read_again(transcripts);
        let is_measured = !files.is_empty();
        if is_measured {
            // Each has a recommendation of its own, with what it comes to.
            let named: Vec<&str> = files.into_iter().take(MAX_EVIDENCE).collect();
            let named = named.join(", ");
            description.push_str(&format!(" Read again unchanged: {named}."));
        }
        let title = match is_measured {
            true => "High context reread rate",
            false => "Much input for little output",
        };
        self.findings.push(format!("**{title}**: {}", sums::plain(&description)));
        if !is_measured {
            self.advised.advice.push(Advice {
                topic: Topic::Reread,
                key: KEY.into(),
                description: description + " Which of them were needed, the logs do not tell.",
                proposed_change:
                    "Add to the workflow:\nRead of a long file only the lines that the \
                                  task needs (search first, then offset and limit), and no file \
                                  twice while it is as it was; write what the next task needs to \
                                  know of it into the project's summary."
                        .into(),
                tokens: None,
                cost_usd: None,
                basis: Basis::Estimated,
                evidence: Vec::new(),
            });
        }
    }
}

/// The files that transcripts show to be read again.
fn files_read_again(transcripts: &Advised) -> Vec<&str> {
    let files = transcripts.advice.iter().filter(|advice| advice.topic == Topic::Reread);
    files.filter_map(|advice| advice.key.strip_prefix("reread:")).collect()
}

/// Tokens and dollars of all agents of a task but the one that used most.
fn beside_the_busiest(task: &Task<'_>) -> (u64, f64) {
    let mut agents: BTreeMap<Option<&str>, Sum> = BTreeMap::new();
    for entry in task.logs.iter().flat_map(|log| log.entries.iter().flatten()) {
        agents.entry(entry.agent.as_deref()).or_default().add(entry);
    }
    let busiest = agents.values().max_by_key(|sum| sum.total.tokens).copied().unwrap_or_default();
    let tokens = task.sum.total.tokens.saturating_sub(busiest.total.tokens);
    (tokens, (task.sum.cost.about_usd() - busiest.cost.about_usd()).max(0.0))
}

fn overuse_advice(key: String, model: &str, cheaper: &str, light: &Light) -> Advice {
    let mut tasks = light.tasks.clone();
    tasks.sort_unstable();
    tasks.dedup();
    let less = light.saved_usd.map_or_else(String::new, |usd| {
        format!(", and at list prices the same tokens cost {} less", text::usd(usd))
    });
    Advice {
        topic: Topic::CheaperModel,
        key,
        description: format!(
            "{model} did light work (little in, little out) in {}: {cheaper} does it as well{less}.",
            text::count(tasks.len() as u64, "task", "tasks"),
        ),
        proposed_change: format!(
            "Add to the model selection rules:\nFor light work (file search, pattern matching, \
             single lookups) use {cheaper}, not {model}."
        ),
        tokens: Some(light.sum.total.tokens),
        cost_usd: light.saved_usd.map(text::to_micros),
        basis: Basis::Estimated,
        evidence: tasks.into_iter().take(MAX_EVIDENCE).collect(),
    }
}
