//! The configuration as text for logs and reports, without secrets.

use toml::{Table, Value};

use super::{Config, MASK, PermissionPolicy, format_duration};

/// TOML that [`Config::from_text`] would read, but for what is masked.
pub(super) fn redacted_toml(config: &Config) -> String {
    let claude = &config.claude;
    let mut root = Table::new();
    let mut section = |name: &str, keys: Vec<(&str, Value)>| {
        let body = keys.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
        root.insert(name.to_string(), Value::Table(body));
    };
    let env = claude.env.keys().map(|name| (name.clone(), text(MASK))).collect();
    section(
        "claude",
        vec![
            ("command", text(&claude.command)),
            ("args", list(claude.args.iter().map(|arg| redact(arg)))),
            ("env", Value::Table(env)),
            ("pass_env", list(claude.pass_env.iter().cloned())),
            ("trust_workspace", Value::Boolean(claude.trust_workspace)),
            ("allow_bypass", Value::Boolean(claude.allow_bypass)),
            ("allow_settings_changes", Value::Boolean(claude.allow_settings_changes)),
        ],
    );
    let context = &config.context;
    section(
        "context",
        vec![
            ("threshold_percent", Value::Float(context.threshold_percent)),
            ("threshold_tokens", whole(context.threshold_tokens.unwrap_or(0))),
            ("window_tokens", whole(context.window_tokens.unwrap_or(0))),
        ],
    );
    let session = &config.session;
    section(
        "session",
        vec![
            ("init_prompt", text(&redact(&session.init_prompt))),
            ("continue_prompt", text(&redact(&session.continue_prompt))),
            ("max_nudges", whole(session.max_nudges.into())),
            ("start_timeout", duration(session.start_timeout_ms)),
            ("exit_timeout", duration(session.exit_timeout_ms)),
        ],
    );
    let checkpoint = &config.checkpoint;
    section(
        "checkpoint",
        vec![
            ("prompt", text(&redact(&checkpoint.prompt))),
            ("files", list(checkpoint.files.iter().map(|file| file.display().to_string()))),
            ("timeout", duration(checkpoint.timeout_ms)),
            ("stop_timeout", duration(checkpoint.stop_timeout_ms)),
            ("git", text(if checkpoint.git_commit { "commit" } else { "off" })),
            ("git_refs", Value::Boolean(checkpoint.git_refs)),
        ],
    );
    let task = &config.task;
    section(
        "task",
        vec![
            ("file", text(&task.file.display().to_string())),
            ("verify", text(&redact(task.verify.as_deref().unwrap_or("")))),
            ("verify_timeout", duration(task.verify_timeout_ms)),
        ],
    );
    let limits = &config.limits;
    section(
        "limits",
        vec![
            ("max_sessions", whole(limits.max_sessions.into())),
            ("max_hours", Value::Float(limits.max_ms as f64 / 3_600_000.0)),
            ("max_tokens", whole(limits.max_tokens)),
            ("max_cost_usd", Value::Float(limits.max_cost_usd)),
            ("no_progress_cycles", whole(limits.no_progress_cycles.into())),
            ("max_wait_hours", Value::Float(limits.max_wait_ms as f64 / 3_600_000.0)),
            ("quota_reserve_percent", Value::Float(limits.quota_reserve_percent)),
            ("tokens_per_minute", whole(limits.tokens_per_minute)),
            ("cost_usd_per_hour", Value::Float(limits.cost_usd_per_hour)),
            ("max_subagents", whole(limits.max_subagents.into())),
            ("tree_memory_soft_mb", whole(limits.tree_memory_soft_mb)),
            ("tree_memory_hard_mb", whole(limits.tree_memory_hard_mb)),
            ("disk_floor_mb", whole(limits.disk_floor_mb)),
            ("scratch_mb", whole(limits.scratch_mb)),
            ("written_mb", whole(limits.written_mb)),
        ],
    );
    let hang = &config.hang;
    section(
        "hang",
        vec![
            ("warn", duration(hang.warn_ms)),
            ("interrupt", duration(hang.interrupt_ms)),
            ("end", duration(hang.end_ms)),
            ("tool", duration(hang.tool_ms)),
        ],
    );
    let (policy, command) = match &config.permissions.policy {
        PermissionPolicy::Deny => ("deny", &[][..]),
        PermissionPolicy::Stop => ("stop", &[][..]),
        PermissionPolicy::Command(argv) => ("command", &argv[..]),
    };
    section(
        "permissions",
        vec![("policy", text(policy)), ("command", list(command.iter().map(|word| redact(word))))],
    );
    let notify = &config.notify;
    section(
        "notify",
        vec![
            ("command", list(notify.command.iter().map(|word| redact(word)))),
            // The URL of a webhook is its key.
            ("webhook", text(if notify.webhook.is_some() { MASK } else { "" })),
            ("on", list(notify.on.iter().map(|occasion| occasion.as_str().to_string()))),
        ],
    );
    toml::to_string(&root).expect("texts and numbers are always TOML")
}

fn text(words: &str) -> Value {
    Value::String(words.to_string())
}

fn list(items: impl Iterator<Item = String>) -> Value {
    Value::Array(items.map(Value::String).collect())
}

fn whole(n: u64) -> Value {
    Value::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

fn duration(ms: u64) -> Value {
    Value::String(format_duration(ms))
}

/// Masks what looks like an API key or token of the vendor.
fn redact(words: &str) -> String {
    const KEY_START: &str = "sk-";
    let mut out = String::with_capacity(words.len());
    let mut rest = words;
    while let Some(at) = rest.find(KEY_START) {
        let (before, key) = rest.split_at(at);
        let end = key
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
            .unwrap_or(key.len());
        out.push_str(before);
        // Shorter than this is a word with "sk-" in it, such as "task-1".
        out.push_str(if end >= 20 { MASK } else { &key[..end] });
        rest = &key[end..];
    }
    out.push_str(rest);
    out
}
