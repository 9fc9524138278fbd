//! Settings -> [`Config`]: which key has which type and which range.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::duration::format_duration;
use super::layers::{Settings, Typed};
use super::setting::Reader;
use super::{
    Checkpoint, Claude, Config, Context, Hang, Hub, Limits, Notify, Occasion, PermissionPolicy,
    Permissions, Queue, Session, Task, Track, observe,
};
use crate::cycle::budget::BudgetParams;
use crate::notify::problem_with_url;
use crate::{Error, Result};

/// A full window. Whoever sets it that high relies on the tokens limit, or wants none.
const THRESHOLD_MAX_PERCENT: f64 = 100.0;

/// Bounds of what is still a limit; beyond them the number is a slip.
const SESSIONS_MAX: u64 = 100_000;
const HOURS_MAX: f64 = 24.0 * 366.0;
const TOKENS_MAX: u64 = 1_000_000_000_000;
const COST_MAX_USD: f64 = 1_000_000.0;
const WAIT_HOURS_MAX: f64 = 24.0 * 14.0;
const SUBAGENTS_MAX: u64 = 10_000;
const MB_MAX: u64 = 1 << 30;
/// Ten times a budget: who wants to hear of that wants another budget.
const WARN_PERCENT_MAX: u16 = 1_000;
const PARALLEL_MAX: u64 = 16;
const KEEP_RECENT_MAX: u64 = 10_000;
const BODY_KB_MIN: u64 = 64;
const BODY_KB_MAX: u64 = 64 << 10;
const MS_PER_HOUR: f64 = 3_600_000.0;
/// A session is looked at about once a second; below that all would hang.
const HANG_MIN_MS: u64 = 1_000;

/// The validated configuration.
pub(super) fn config(settings: &Settings) -> Result<Config> {
    Ok(Config {
        claude: claude(settings)?,
        context: context(settings)?,
        session: session(settings)?,
        checkpoint: checkpoint(settings)?,
        task: task(settings)?,
        limits: limits(settings)?,
        budget: budget(settings)?,
        hang: hang(settings)?,
        permissions: permissions(settings)?,
        notify: notify(settings)?,
        queue: queue(settings)?,
        track: track(settings)?,
        hub: hub(settings)?,
        observe: observe::observe(settings)?,
        places: settings.places(),
    })
}

fn claude(settings: &Settings) -> Result<Claude> {
    let pass_env = settings.read("claude.pass_env");
    let names = pass_env.list()?;
    if let Some(bad) = names.iter().find(|name| !is_variable_name(name)) {
        return Err(
            pass_env.wrong(format!("holds \"{}\", which is no variable name", bad.escape_debug()))
        );
    }
    Ok(Claude {
        command: settings.read("claude.command").text_not_empty()?,
        args: settings.read("claude.args").list()?,
        env: env(settings.env())?,
        pass_env: names,
        trust_workspace: settings.read("claude.trust_workspace").boolean()?,
        allow_bypass: settings.read("claude.allow_bypass").boolean()?,
        allow_settings_changes: settings.read("claude.allow_settings_changes").boolean()?,
    })
}

fn env(entries: &BTreeMap<String, Typed>) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for (name, typed) in entries {
        let wrong = |why: &str| {
            Error::usage(format!("{}: `claude.env.{}` {why}", typed.origin, name.escape_debug()))
        };
        if !is_variable_name(name) {
            return Err(wrong("is no variable name: letters, digits and _ only, no digit first"));
        }
        // The value may be a secret: no message repeats it.
        let value = match (&typed.value, &typed.words) {
            (toml::Value::String(text), _) => text,
            (_, Some(words)) => words,
            _ => {
                return Err(
                    wrong("must be text").hint(format!("write `{name} = \"...\"`, in quotes"))
                );
            }
        };
        if value.contains('\0') {
            return Err(wrong("holds a NUL, which no variable can"));
        }
        out.insert(name.clone(), value.clone());
    }
    Ok(out)
}

fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn context(settings: &Settings) -> Result<Context> {
    Ok(Context {
        threshold_percent: settings
            .read("context.threshold_percent")
            .number(1.0, THRESHOLD_MAX_PERCENT)?,
        threshold_tokens: settings.read("context.threshold_tokens").tokens_or_off()?,
        window_tokens: settings.read("context.window_tokens").tokens_or_off()?,
    })
}

fn session(settings: &Settings) -> Result<Session> {
    let init = settings.read("session.init_prompt");
    let init_prompt = init.text_not_empty()?;
    if init_prompt.starts_with('-') {
        // It is a positional argument of the CLI, which would read it as a flag.
        return Err(init.wrong("must not start with `-`"));
    }
    Ok(Session {
        init_prompt,
        continue_prompt: settings.read("session.continue_prompt").text_not_empty()?,
        max_nudges: small(settings.read("session.max_nudges").whole(0, 1000)?),
        start_timeout_ms: settings.read("session.start_timeout").wait_ms()?,
        exit_timeout_ms: settings.read("session.exit_timeout").wait_ms()?,
    })
}

fn checkpoint(settings: &Settings) -> Result<Checkpoint> {
    Ok(Checkpoint {
        prompt: settings.read("checkpoint.prompt").plain_prompt()?,
        files: settings.read("checkpoint.files").files()?,
        timeout_ms: settings.read("checkpoint.timeout").wait_ms()?,
        stop_timeout_ms: settings.read("checkpoint.stop_timeout").wait_ms()?,
        git_commit: settings.read("checkpoint.git").one_of(&["off", "commit"])? == "commit",
        git_refs: settings.read("checkpoint.git_refs").boolean()?,
    })
}

fn task(settings: &Settings) -> Result<Task> {
    let verify = settings.read("task.verify").text()?;
    Ok(Task {
        file: settings.read("task.file").file()?,
        verify: Some(verify).filter(|command| !command.trim().is_empty()),
        verify_timeout_ms: settings.read("task.verify_timeout").wait_ms()?,
    })
}

fn limits(settings: &Settings) -> Result<Limits> {
    let (tree_memory_soft_mb, tree_memory_hard_mb) = tree_memory(settings)?;
    let hours = settings.read("limits.max_hours").positive(HOURS_MAX)?;
    Ok(Limits {
        max_sessions: small(settings.read("limits.max_sessions").whole(1, SESSIONS_MAX)?),
        max_ms: (hours * MS_PER_HOUR).ceil() as u64,
        max_tokens: settings.read("limits.max_tokens").whole(1, TOKENS_MAX)?,
        max_cost_usd: settings.read("limits.max_cost_usd").positive(COST_MAX_USD)?,
        no_progress_cycles: small(settings.read("limits.no_progress_cycles").whole(1, 1000)?),
        max_wait_ms: (settings.read("limits.max_wait_hours").number(0.0, WAIT_HOURS_MAX)?
            * MS_PER_HOUR)
            .ceil() as u64,
        quota_reserve_percent: settings.read("limits.quota_reserve_percent").number(0.0, 100.0)?,
        tokens_per_minute: settings.read("limits.tokens_per_minute").whole(1, TOKENS_MAX)?,
        cost_usd_per_hour: settings.read("limits.cost_usd_per_hour").positive(COST_MAX_USD)?,
        max_subagents: small(settings.read("limits.max_subagents").whole(0, SUBAGENTS_MAX)?),
        tree_memory_soft_mb,
        tree_memory_hard_mb,
        disk_floor_mb: settings.read("limits.disk_floor_mb").whole(0, MB_MAX)?,
        scratch_mb: settings.read("limits.scratch_mb").whole(1, MB_MAX)?,
        written_mb: settings.read("limits.written_mb").whole(1, MB_MAX)?,
    })
}

fn budget(settings: &Settings) -> Result<BudgetParams> {
    let usd = |key| settings.read(key).number(0.0, COST_MAX_USD);
    Ok(BudgetParams {
        task_usd: usd("budget.task_usd")?,
        day_usd: usd("budget.day_usd")?,
        month_usd: usd("budget.month_usd")?,
        warn_percent: settings.read("budget.warn_percent").percents(WARN_PERCENT_MAX)?,
    })
}

/// The soft and the hard limit, MiB. What was written is not changed in silence; a
/// default gives way to it.
fn tree_memory(settings: &Settings) -> Result<(u64, u64)> {
    let soft = settings.read("limits.tree_memory_soft_mb");
    let hard = settings.read("limits.tree_memory_hard_mb");
    let (soft_mb, hard_mb) = (soft.whole(1, MB_MAX)?, hard.whole(1, MB_MAX)?);
    if soft_mb > hard_mb && soft.is_written() {
        let why = format!("is {soft_mb}, above {}", hard.named(hard_mb));
        return Err(soft.wrong(why).hint(
            "at the soft limit a session is asked for a checkpoint, at the hard one it is ended",
        ));
    }
    Ok((soft_mb.min(hard_mb), hard_mb))
}

/// A step that was written later than the next is refused; a default comes forward.
fn hang(settings: &Settings) -> Result<Hang> {
    let end = settings.read("hang.end");
    let interrupt = settings.read("hang.interrupt");
    let warn = settings.read("hang.warn");
    let end_ms = end.wait_from_ms(HANG_MIN_MS)?;
    let interrupt_ms = step_before(&interrupt, &end, end_ms)?;
    let warn_ms = step_before(&warn, &interrupt, interrupt_ms)?;
    let tool_ms = settings.read("hang.tool").wait_from_ms(HANG_MIN_MS)?;
    Ok(Hang { warn_ms, interrupt_ms, end_ms, tool_ms })
}

fn step_before(step: &Reader<'_>, next: &Reader<'_>, next_ms: u64) -> Result<u64> {
    let ms = step.wait_from_ms(HANG_MIN_MS)?;
    if ms > next_ms && step.is_written() {
        let next = next.named(format_duration(next_ms));
        return Err(step.wrong(format!("is {}, later than {next}", format_duration(ms))).hint(
            "a hang is told (`hang.warn`), then interrupted (`hang.interrupt`), then ended (`hang.end`)",
        ));
    }
    Ok(ms.min(next_ms))
}

fn permissions(settings: &Settings) -> Result<Permissions> {
    let command = settings.read("permissions.command");
    let argv = command.argv()?;
    let policy = match settings.read("permissions.policy").one_of(&["deny", "stop", "command"])? {
        "stop" => PermissionPolicy::Stop,
        "command" if argv.is_empty() => {
            return Err(settings
                .read("permissions.policy")
                .wrong("is \"command\", but `permissions.command` is empty")
                .hint("name the program that decides: `command = [\"/path/to/it\"]`"));
        }
        "command" => PermissionPolicy::Command(argv),
        _ => PermissionPolicy::Deny,
    };
    Ok(Permissions { policy })
}

fn notify(settings: &Settings) -> Result<Notify> {
    let webhook = settings.read("notify.webhook");
    let url = webhook.text()?;
    if !url.is_empty()
        && let Some(why) = problem_with_url(&url)
    {
        // The URL itself may hold a secret: no message repeats it.
        return Err(webhook.wrong(format!("must be a URL for HTTP: {why}")));
    }
    let on = settings.read("notify.on");
    let mut occasions = Vec::new();
    for word in on.list()? {
        let known = Occasion::ALL.into_iter().find(|o| o.as_str() == word).ok_or_else(|| {
            let all: Vec<_> = Occasion::ALL.iter().map(|o| format!("\"{}\"", o.as_str())).collect();
            on.wrong(format!("knows {}, not \"{}\"", all.join(", "), word.escape_debug()))
        })?;
        if !occasions.contains(&known) {
            occasions.push(known);
        }
    }
    Ok(Notify {
        command: settings.read("notify.command").argv()?,
        webhook: Some(url).filter(|url| !url.is_empty()),
        on: occasions,
    })
}

fn queue(settings: &Settings) -> Result<Queue> {
    let files = settings.read("queue.files");
    Ok(Queue {
        parallel: small(settings.read("queue.parallel").whole(1, PARALLEL_MAX)?),
        files: if files.text()?.is_empty() { None } else { Some(files.file()?) },
        keep_recent: small(settings.read("queue.keep_recent").whole(0, KEEP_RECENT_MAX)?),
        archive_after_ms: settings.read("queue.archive_after").span_ms()?,
        auto_cleanup: settings.read("queue.auto_cleanup").boolean()?,
        warn_input_tokens: settings.read("queue.warn_input_tokens").whole(1, TOKENS_MAX)?,
        max_cost_usd_per_day: settings.read("queue.max_cost_usd_per_day").positive(COST_MAX_USD)?,
    })
}

fn track(settings: &Settings) -> Result<Track> {
    let folder = settings.read("track.folder");
    Ok(Track { folder: if folder.text()?.is_empty() { None } else { Some(folder.file()?) } })
}

fn hub(settings: &Settings) -> Result<Hub> {
    let address = settings.read("hub.address");
    let parsed: SocketAddr = address
        .text()?
        .parse()
        .map_err(|_| address.wrong("must be an address and a port such as \"127.0.0.1:5001\""))?;
    Ok(Hub {
        address: parsed,
        allow_unauthenticated_loopback: settings
            .read("hub.allow_unauthenticated_loopback")
            .boolean()?,
        auto_execute: settings.read("hub.auto_execute").boolean()?,
        max_body_kb: settings.read("hub.max_body_kb").whole(BODY_KB_MIN, BODY_KB_MAX)?,
    })
}

fn small(n: u64) -> u32 {
    u32::try_from(n).expect("its range was checked above")
}
