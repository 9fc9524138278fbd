//! Usage is recorded whole and once, whatever call dies or fails.

use std::fs;
use std::path::{Path, PathBuf};

use longhaul::Error;
use longhaul::models::TokenCounts;
use longhaul::track::{Order, Part, Parts, Source, TaskLog, Tracker};

fn tracker(dir: &Path) -> Result<Tracker, Error> {
    Tracker::open(&dir.join("state"), &dir.join("project"), Path::new("token-usage"))
}

/// All that the session used so far: the main thread this, a subagent as much.
fn order(at: i64, figure: u64) -> Order {
    let part = |agent: Option<PathBuf>| Part {
        agent,
        model: "claude-opus-5-5".into(),
        tokens: TokenCounts { input: figure, output: figure, ..TokenCounts::default() },
        cost_micro_usd: Some(figure),
    };
    Order {
        source: Source { run_id: "run".into(), cycle: 1, session_id: "session".into() },
        task_id: "task".into(),
        summary: Some("Do it".into()),
        unix_ms: super::NOW.unix_ms + at,
        parts: Parts(vec![part(None), part(Some("/none/agent-1.jsonl".into()))]),
    }
}

/// One record waits: its folder could not be made.
pub fn prepare(dir: &Path) {
    let folder = dir.join("project/token-usage");
    fs::create_dir_all(dir.join("project")).unwrap();
    fs::write(&folder, "in the way").unwrap();
    tracker(dir).unwrap().feed(order(0, 3)).unwrap_err();
    fs::remove_file(folder).unwrap();
}

pub fn perform(dir: &Path) -> Result<(), Error> {
    for (at, figure) in [(1, 10), (2, 25)] {
        tracker(dir)?.feed(order(at, figure))?;
        super::acknowledge();
    }
    Ok(())
}

pub fn check(dir: &Path, acknowledged: usize, told: &str) {
    let recorded = recorded(dir, told);
    assert!(recorded >= [0, 10, 25][acknowledged] * 4, "{recorded}: {told}");
    tracker(dir).expect(told).feed(order(3, 40)).expect(told);
    assert_eq!(self::recorded(dir, told), 40 * 4, "{told}");
    tracker(dir).expect(told).feed(order(4, 40)).expect(told);
    assert_eq!(self::recorded(dir, told), 40 * 4, "{told}");
    let folder = dir.join("project/token-usage");
    let days: Vec<_> = names(&folder).into_iter().filter(|n| n.starts_with("usage-")).collect();
    assert_eq!(days.len(), 1, "{days:?}: {told}");
    let day = fs::read_to_string(folder.join(&days[0])).unwrap();
    assert!(day.contains("| main | claude-opus-5-5 | 40 | 40 | 80 | <$0.01 |"), "{day}\n{told}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Tokens of all logs; each is whole.
fn recorded(dir: &Path, told: &str) -> u64 {
    let folder = dir.join("project/token-usage/tasks");
    let logs = names(&folder).into_iter().filter(|name| !name.starts_with('.')).map(|name| {
        let log = TaskLog::from_bytes(&fs::read(folder.join(&name)).unwrap());
        log.unwrap_or_else(|| panic!("{name}: {told}"))
    });
    logs.map(|log| log.totals.total_tokens.unwrap()).sum()
}
