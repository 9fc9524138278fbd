//! What all transcripts come to, in cells small enough for every view: a file, a quarter
//! of an hour, a model.
//!
//! A quarter of an hour because every time zone is a whole number of them from UTC.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::fetch::{self, Errand};
use crate::transcript::part::{Bill, Name, Part, SharedNames, Told, by_message, counted};
use uuid::Uuid;

use super::owners::{Owner, Owners, Work};
use super::places::{self, Listing};
use super::reading::Reading;
use crate::models::{Models, TokenCounts, Usd};

/// Milliseconds of a cell.
pub(super) const SLOT_MS: i64 = 15 * 60 * 1_000;

/// What belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct CellKey {
    /// The place of its file in the account.
    pub(super) file: u32,
    /// Quarters of an hour since 1970; `None`: its rows tell no time.
    pub(super) slot: Option<i64>,
    pub(super) model: Name,
}

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) tokens: TokenCounts,
    /// At list prices, of models with a price.
    pub(super) cost: Usd,
    /// Tokens of models without one.
    pub(super) unpriced_tokens: u64,
    /// What those come to at the dearest known price: no less for a budget.
    pub(super) unpriced_bound: Usd,
    pub(super) responses: u64,
}

impl Cell {
    /// Adds `other`.
    pub(super) fn add(&mut self, other: &Cell) {
        self.tokens.add(&other.tokens);
        self.cost = self.cost.plus(other.cost);
        self.unpriced_tokens = self.unpriced_tokens.saturating_add(other.unpriced_tokens);
        self.unpriced_bound = self.unpriced_bound.plus(other.unpriced_bound);
        self.responses = self.responses.saturating_add(other.responses);
    }

    /// Takes `other` out again.
    pub(super) fn subtract(&mut self, other: &Cell) {
        self.tokens.subtract(&other.tokens);
        self.cost = self.cost.minus(other.cost);
        self.unpriced_tokens = self.unpriced_tokens.saturating_sub(other.unpriced_tokens);
        self.unpriced_bound = self.unpriced_bound.minus(other.unpriced_bound);
        self.responses = self.responses.saturating_sub(other.responses);
    }
}

/// A transcript as the views see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) session: String,
    /// The kind of its agent, or its id; `None`: the main thread.
    pub(super) agent: Option<String>,
    /// The directory it worked in.
    pub(super) project: String,
    /// The run that it was a session of.
    pub(super) run_id: Option<Uuid>,
    /// Which of its sessions.
    pub(super) cycle: Option<u32>,
    /// The task of the queue that it was at work on.
    pub(super) work: Option<Work>,
}

/// What all transcripts come to.
#[derive(Debug, Default)]
pub struct Account {
    pub(super) sources: Vec<Source>,
    pub(super) models: Vec<String>,
    pub(super) cells: Vec<(CellKey, Cell)>,
    /// Transcripts that are in it.
    pub(super) files: u64,
    pub(super) bytes_read: u64,
    /// Pieces of lines that are no rows.
    pub(super) bad_rows: u64,
    /// Rows with usage and without any id.
    pub(super) unidentified_rows: u64,
    /// Transcripts that could not be read this time.
    pub(super) unreadable_files: u64,
    /// Folders that could not be looked into this time.
    pub(super) unreadable_folders: u64,
}

impl Account {
    /// Notes which sessions are of which run, and of which task. Gives the transcripts
    /// that are of several tasks, by their numbers.
    pub(super) fn own(&mut self, owners: &Owners) -> HashMap<u32, Owner> {
        let sessions = self.sources.iter().map(|source| source.session.as_str());
        let known = owners.by_session(sessions);
        let mut several = HashMap::new();
        for (source, file) in self.sources.iter_mut().zip(0..) {
            let id = source.session.parse::<Uuid>().ok();
            let Some(owner) = id.and_then(|id| known.get(&id)) else { continue };
            (source.run_id, source.cycle) = (Some(owner.run_id), Some(owner.cycle));
            match owner.tasks.as_slice() {
                [] => {}
                [only] => source.work = Some(only.clone()),
                _ => drop(several.insert(file, owner.clone())),
            }
        }
        several
    }

    /// A subagent works for the project of its session, wherever its own directory is.
    pub(super) fn give_subagents_their_projects(&mut self) {
        let is_main = |source: &&Source| source.agent.is_none();
        let mains = self.sources.iter().filter(is_main);
        let projects: HashMap<String, String> =
            mains.map(|source| (source.session.clone(), source.project.clone())).collect();
        for source in self.sources.iter_mut().filter(|source| source.agent.is_some()) {
            if let Some(project) = projects.get(&source.session) {
                source.project.clone_from(project);
            }
        }
    }

    /// Reads all transcripts below these directories, and keeps nothing of it. One that
    /// cannot be read counts among the damage.
    pub fn of(config_dirs: &[PathBuf], models: &Models) -> Self {
        let Listing { list: transcripts, unreadable_folders } = places::transcripts(config_dirs);
        let names = SharedNames::default();
        let errands: Vec<Errand<'_>> = transcripts.iter().map(|found| found.errand(None)).collect();
        let (fetched, bytes_read) = fetch::all(&errands, &names);
        let mut account = Account { bytes_read, unreadable_folders, ..Account::default() };
        let mut parts: Vec<Vec<Part>> = Vec::with_capacity(fetched.len());
        for (transcript, fetched) in transcripts.iter().zip(fetched) {
            let Some(fetched) = fetched else {
                account.unreadable_files += 1;
                continue;
            };
            let reading = fetched.reading;
            account.bad_rows += reading.bad_rows();
            account.unidentified_rows += reading.unidentified_rows;
            let said = Said::of(&transcript.path, &reading);
            account.files += 1;
            account.sources.push(Source::of(transcript.path.clone(), said));
            parts.push(reading.parts);
        }
        account.give_subagents_their_projects();
        account.models = names.all();
        account.cells = in_order(cells(&parts, &account.models, models));
        account
    }
}

/// What its rows, and the file beside it, say of a transcript.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The session of its first row.
    pub(super) session: Option<String>,
    /// The directory of its first row.
    pub(super) cwd: Option<String>,
    /// The kind of agent.
    pub(super) agent_type: Option<String>,
}

impl Said {
    /// As it is read from `path`.
    pub(super) fn of(path: &Path, reading: &Reading) -> Self {
        let is_agent = places::session_of(path).1.is_some();
        Self {
            session: reading.session.clone(),
            cwd: reading.cwd.clone(),
            agent_type: is_agent.then(|| places::agent_type(path)).flatten(),
        }
    }
}

impl Source {
    /// What is known of a transcript by its place and by what it says.
    pub(super) fn of(path: PathBuf, said: Said) -> Self {
        let (session, agent) = places::session_of(&path);
        let agent = agent.map(|id| said.agent_type.unwrap_or(id));
        let folder = || {
            let projects = path
                .ancestors()
                .find(|dir| dir.parent().is_some_and(|up| up.ends_with("projects")));
            let name = projects.and_then(|dir| dir.file_name()).unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        let project = said.cwd.unwrap_or_else(folder);
        // A fork begins with rows of the session it was forked from.
        let session = session.or(said.session).unwrap_or_default();
        Self { session, agent, project, path, run_id: None, cycle: None, work: None }
    }
}

/// What is used, by what belongs together.
pub(super) type Cells = HashMap<CellKey, Cell>;

/// What counts of all parts; `parts[file]` are those of a file.
fn cells(parts: &[Vec<Part>], names: &[String], models: &Models) -> Cells {
    let told = by_message(parts);
    let mut cells = Cells::default();
    for of_message in told.chunk_by(|a, b| a.part.message == b.part.message) {
        count(of_message, names, models, |key, cell, _| cells.entry(key).or_default().add(&cell));
    }
    cells
}

/// What counts of all that is told of one message, with its time (`i64::MAX`: none is told).
pub(super) fn count(
    told: &[Told<'_>],
    names: &[String],
    models: &Models,
    mut each: impl FnMut(CellKey, Cell, i64),
) {
    for (file, part) in counted(told, names) {
        for bill in part.bills() {
            let (key, cell) = priced(file, &bill, names, models);
            // An advisor that used nothing is no cell.
            if cell != Cell::default() {
                each(key, cell, bill.unix_ms);
            }
        }
    }
}

/// In the order of their keys.
pub(super) fn in_order(cells: Cells) -> Vec<(CellKey, Cell)> {
    let mut cells: Vec<(CellKey, Cell)> = cells.into_iter().collect();
    cells.sort_unstable_by_key(|(key, _)| *key);
    cells
}

/// Each request is priced by itself: bands of prompt length need that.
fn priced(file: u32, bill: &Bill, names: &[String], models: &Models) -> (CellKey, Cell) {
    let slot = (bill.unix_ms != i64::MAX).then(|| bill.unix_ms.div_euclid(SLOT_MS));
    let name = names.get(bill.model.0 as usize).map_or("", String::as_str);
    let price = models.price(name, bill.unix_ms, &bill.billable);
    let tokens = bill.billable.tokens;
    let cell = Cell {
        tokens,
        cost: price.unwrap_or_default(),
        unpriced_tokens: if price.is_none() { tokens.total() } else { 0 },
        unpriced_bound: match price {
            Some(_) => Usd::default(),
            None => models.dearest_price(&bill.billable),
        },
        responses: u64::from(bill.is_response),
    };
    (CellKey { file, slot, model: bill.model }, cell)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::super::view::{Line, Only, View};
    use super::*;

    /// A tree of transcripts.
    struct Tree(tempfile::TempDir);

    /// A row of a response.
    fn row(message: &str, request: &str, at: &str, output: u64, is_side: bool) -> String {
        let row = json!({
            "type": "assistant", "timestamp": at, "isSidechain": is_side, "cwd": "/home/p",
            "requestId": request,
            "message": {
                "id": message, "model": "claude-opus-5-5", "stop_reason": "end_turn",
                "usage": {"input_tokens": 10, "output_tokens": output},
            },
        });
        row.to_string()
    }

    impl Tree {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, path: &str, rows: &[String]) {
            let path = self.0.path().join("projects/-home-p").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, rows.iter().map(|row| row.clone() + "\n").collect::<String>()).unwrap();
        }

        fn rows(&self, view: View) -> Vec<(String, u64, u64)> {
            let account = Account::of(&[self.0.path().to_owned()], Models::builtin());
            let seen = account.view(view, &Only::default(), &TimeZone::UTC);
            let line = |line: Line| (line.key, line.sums.output, line.sums.responses);
            seen.rows.into_iter().map(line).collect()
        }
    }

    const EARLY: &str = "2026-11-20T10:00:00.000Z";
    const LATE: &str = "2026-11-21T10:00:00.000Z";

    #[test]
    fn a_response_counts_once_as_its_largest_row_for_the_transcript_that_told_it_first() {
        let tree = Tree::new();
        tree.write("a.jsonl", &[row("m1", "r1", EARLY, 5, false)]);
        // A fork repeats it, grown.
        let fork = [row("m1", "r1", LATE, 600, false), row("m2", "r2", LATE, 7, false)];
        tree.write("b.jsonl", &fork);
        let mut sessions = tree.rows(View::Session);
        sessions.sort();
        assert_eq!(sessions, [("a".into(), 600, 1), ("b".into(), 7, 1)]);
        assert_eq!(
            tree.rows(View::Daily),
            [("2026-11-20".into(), 600, 1), ("2026-11-21".into(), 7, 1)]
        );
    }

    #[test]
    fn what_subagents_used_is_of_the_session_and_of_the_agent() {
        let tree = Tree::new();
        tree.write("s.jsonl", &[row("m1", "r1", EARLY, 5, false)]);
        let agent = [row("m2", "r2", EARLY, 70, true), row("m1", "r9", EARLY, 5, true)];
        tree.write("s/subagents/agent-7.jsonl", &agent);
        assert_eq!(tree.rows(View::Session), [("s".into(), 75, 2)]);
        assert_eq!(tree.rows(View::Agent), [("7".into(), 70, 1), ("main".into(), 5, 1)]);
        let meta = r#"{"agentType":"Explore"}"#;
        let place = "projects/-home-p/s/subagents/agent-7.meta.json";
        fs::write(tree.0.path().join(place), meta).unwrap();
        assert_eq!(tree.rows(View::Agent)[0].0, "Explore");
        assert_eq!(tree.rows(View::Project), [("/home/p".into(), 75, 2)]);
    }

    #[test]
    fn damage_is_counted_and_stops_nothing() {
        let tree = Tree::new();
        let whole = row("m1", "r1", EARLY, 5, false);
        let torn = whole[..60].to_owned();
        let spliced = format!("{}{}", whole.replace("m1", "m2"), whole.replace("m1", "m3"));
        let nameless = whole.replace("\"m1\"", "null").replace("\"r1\"", "null");
        let rows = [torn, whole + "\r", spliced, nameless, "\0\0\0".into(), String::new()];
        tree.write("s.jsonl", &rows);
        let account = Account::of(&[tree.0.path().to_owned()], Models::builtin());
        let seen = account.view(View::Model, &Only::default(), &TimeZone::UTC);
        assert_eq!((seen.totals.responses, seen.totals.output), (3, 15));
        assert_eq!((seen.bad_rows, seen.unidentified_rows), (2, 1));
    }

    #[test]
    fn an_unknown_model_is_unpriced_and_not_free() {
        let tree = Tree::new();
        let unknown = row("m1", "r1", EARLY, 5, false).replace("claude-opus-5-5", "of-tomorrow");
        tree.write("s.jsonl", &[unknown, row("m2", "r2", EARLY, 1_000_000, false)]);
        let account = Account::of(&[tree.0.path().to_owned()], Models::builtin());
        let seen = account.view(View::Model, &Only::default(), &TimeZone::UTC);
        assert_eq!((seen.totals.unpriced_tokens, seen.totals.cost_usd), (15, 20.00004));
        assert_eq!(seen.rows[1].key, "of-tomorrow");
        // A budget counts what has no price at the dearest.
        let noon = EARLY.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let spent = account.spent(noon, &TimeZone::UTC);
        assert_eq!((spent.day.cost_usd, spent.month.cost_usd), (20.00004, 20.00004));
        assert!(spent.day.unpriced_bound_usd > 0.0);
        let eve = spent.day.unpriced_bound_usd;
        assert_eq!(account.spent(noon - 86_400_000, &TimeZone::UTC).day, Default::default());
        assert_eq!(account.spent(noon + 86_400_000, &TimeZone::UTC).month.unpriced_bound_usd, eve);
    }
}
