//! Both programs on each trap of the golden corpus: where they differ, and why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::traps::{Trap, traps};

/// Where the table stands.
const PAGE: &str = "dev-docs/USAGE_GOLDEN.md";
const START: &str =
    "<!-- differences: LONGHAUL_BLESS=1 cargo bench --bench usage -- --golden -->\n";
const END: &str = "<!-- end of differences -->";

/// What a program finds: input, output, cache writes, cache reads, and millionths of a
/// dollar.
type Found = [u64; 5];

/// Compares, and says whether each difference has its reason beside the trap and the page
/// has the table. `LONGHAUL_BLESS` writes the page instead.
pub fn compare(ours: &Path, theirs: &Path) -> Result<(), String> {
    let mut table =
        String::from("| trap | longhaul | ccusage | why, and who is right |\n|---|---|---|---|\n");
    let (mut equal, mut without_reason) = (0, Vec::new());
    let traps = traps();
    for trap in &traps {
        let room = tempfile::tempdir().unwrap();
        let dirs = trap.lay_out(room.path());
        let args = ["usage", "daily", "--json", "--timezone", "UTC"];
        let own = found(
            &run(ours, &args, &dirs, room.path())?,
            ["input", "output", "cache_write_5m", "cache_write_1h", "cache_read", "cost_usd"],
        );
        let args = ["claude", "daily", "--offline", "--json", "--timezone", "UTC"];
        let names = ["inputTokens", "outputTokens", "cacheCreationTokens", "", "cacheReadTokens"];
        let [input, output, write, none, read] = names;
        let other = run(theirs, &args, &dirs, room.path())
            .map(|said| found(&said, [input, output, write, none, read, "totalCost"]));
        let reason = trap.expected["ccusage"].as_str();
        let is_equal = other.as_ref().is_ok_and(|other| *other == own);
        equal += usize::from(is_equal);
        if is_equal != reason.is_none() {
            let other = other.as_ref().map_or_else(String::clone, shown);
            without_reason.push(format!("{}: {} {other} {reason:?}", trap.name, shown(&own)));
        }
        if !is_equal {
            table.push_str(&line(trap, &own, &other, reason.unwrap_or_default()));
        }
    }
    table.push_str(&format!("\nOn the other {equal} of {} traps they agree.\n", traps.len()));
    println!("{table}");
    if !without_reason.is_empty() {
        return Err(format!(
            "differences and the reasons in expected.json do not match:\n{}",
            without_reason.join("\n")
        ));
    }
    keep(&table)
}

/// Puts the table into its page, or says that it is another one.
fn keep(table: &str) -> Result<(), String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(START).ok_or("the page has no place for the table")?;
    let (old, after) = rest.split_once(END).ok_or("the page has no place for the table")?;
    if std::env::var_os("LONGHAUL_BLESS").is_some() {
        fs::write(&page, format!("{before}{START}{table}{END}{after}")).unwrap();
    } else if old != table {
        return Err(format!("{PAGE} has another table; LONGHAUL_BLESS=1 writes this one"));
    }
    Ok(())
}

fn line(trap: &Trap, own: &Found, other: &Result<Found, String>, reason: &str) -> String {
    let other = other.as_ref().map_or_else(String::clone, |other| {
        if other[..4] == own[..4] { dollars(other[4]) } else { shown(other) }
    });
    let own_shown = match other.starts_with('$') {
        true => dollars(own[4]),
        false => shown(own),
    };
    format!("| `{}` | {own_shown} | {other} | {reason} |\n", trap.name)
}

fn shown(found: &Found) -> String {
    let [input, output, write, read, cost] = found;
    format!("{input} in, {output} out, {write} written, {read} read, {}", dollars(*cost))
}

fn dollars(micro: u64) -> String {
    format!("${}.{:06}", micro / 1_000_000, micro % 1_000_000)
}

fn found(said: &Value, names: [&str; 6]) -> Found {
    let of = |name: &str| said["totals"][name].as_u64().unwrap_or(0);
    let [input, output, write, write_1h, read, cost] = names;
    let usd = said["totals"][cost].as_f64().unwrap_or(0.0);
    let micro = (usd * 1e6).round() as u64;
    [of(input), of(output), of(write) + of(write_1h), of(read), micro]
}

fn run(program: &Path, args: &[&str], dirs: &[PathBuf], room: &Path) -> Result<Value, String> {
    let list: Vec<&str> = dirs.iter().map(|dir| dir.to_str().unwrap()).collect();
    let output = Command::new(program)
        .args(args)
        .env_clear()
        .env("HOME", room.join("home"))
        .env("LONGHAUL_STATE_DIR", room.join("state"))
        .env("CLAUDE_CONFIG_DIR", list.join(","))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(format!("fails, {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|_| "says nothing".to_owned())
}
