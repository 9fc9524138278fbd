//! The index says what reading everything says, however the transcripts came about.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::super::view::{Only, Seen, View};
use super::*;
use crate::transcript::part::SYNTHETIC_MODEL;

/// Transcripts, and the index beside them.
struct Place {
    keep: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let keep = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        fs::create_dir_all(keep.path().join("claude/projects/-p")).unwrap();
        Self { keep }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.keep.path().join("claude/projects/-p").join(name)
    }

    fn dirs(&self) -> Vec<PathBuf> {
        vec![self.keep.path().join("claude")]
    }

    fn append(&self, name: &str, bytes: &[u8]) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = File::options().append(true).create(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn index(&self) -> Index {
        Index::open(&self.keep.path().join("state"), &self.dirs()).unwrap()
    }

    fn account(&self) -> Account {
        self.index().account(Models::builtin()).unwrap()
    }

    /// What the index says in `view`.
    fn seen(&self, view: View) -> Seen {
        self.account().view(view, &Only::default(), &TimeZone::UTC)
    }

    /// What it comes to if nothing is remembered.
    fn afresh(&self) -> Account {
        Account::of(&self.dirs(), Models::builtin())
    }
}

/// What the cells say, by transcript, slot and model; and how much else there was.
type Told = (BTreeMap<(PathBuf, Option<i64>, String), String>, [u64; 3]);

/// All that an account says, whatever its numbers for files and models.
fn told(account: &Account) -> Told {
    let cell = |(key, cell): &(super::super::account::CellKey, super::super::account::Cell)| {
        let source = &account.sources[key.file as usize];
        let model = account.models[key.model.0 as usize].clone();
        let said = format!("{:?} {:?} {:?} {cell:?}", source.session, source.agent, source.project);
        ((source.path.clone(), key.slot, model), said)
    };
    let cells: BTreeMap<_, _> = account.cells.iter().map(cell).collect();
    assert_eq!(cells.len(), account.cells.len());
    let counts = [account.bad_rows, account.unidentified_rows, account.sources.len() as u64];
    (cells, counts)
}

fn row(message: &str, request: &str, at: &str, model: &str, output: u64) -> String {
    let row = json!({
        "type": "assistant", "timestamp": at, "cwd": "/home/p", "sessionId": "s",
        "requestId": request,
        "message": {
            "id": message, "model": model, "stop_reason": "end_turn",
            "usage": {"input_tokens": 10, "output_tokens": output},
        },
    });
    row.to_string() + "\n"
}

const AT: &str = "2026-11-20T10:00:00.000Z";
const OPUS: &str = "claude-opus-5-5";

#[test]
fn only_what_was_appended_is_read() {
    let place = Place::new();
    place.append("a.jsonl", row("m1", "r1", AT, OPUS, 5).as_bytes());
    place.append("b.jsonl", row("m2", "r2", AT, OPUS, 5).as_bytes());
    let all = fs::metadata(place.file("a.jsonl")).unwrap().len() * 2;
    let mut index = place.index();
    assert_eq!(index.account(Models::builtin()).unwrap().bytes_read, all);
    assert_eq!(index.account(Models::builtin()).unwrap().bytes_read, 0);
    let more = row("m1", "r1", AT, OPUS, 700);
    place.append("a.jsonl", more.as_bytes());
    let account = index.account(Models::builtin()).unwrap();
    assert_eq!(account.bytes_read, more.len() as u64);
    // So does another process.
    assert_eq!(place.account().bytes_read, 0);
    assert_eq!(place.seen(View::Daily).totals.output, 705);
}

#[test]
fn a_line_counts_while_it_is_written_and_once_when_it_is_whole() {
    let place = Place::new();
    let line = row("m1", "r1", AT, OPUS, 5);
    place.append("a.jsonl", &line.as_bytes()[..50]);
    let seen = place.seen(View::Daily);
    assert_eq!((seen.totals.responses, seen.bytes_read), (0, 50));
    place.append("a.jsonl", &line.as_bytes()[50..line.len() - 1]);
    let seen = place.seen(View::Daily);
    assert_eq!((seen.totals.responses, seen.bytes_read), (1, line.len() as u64 - 51));
    place.append("a.jsonl", b"\n");
    let seen = place.seen(View::Daily);
    assert_eq!((seen.totals.responses, seen.totals.output, seen.bad_rows), (1, 5, 0));
    assert_eq!(seen.bytes_read, 1);
    place.append("a.jsonl", &line.as_bytes()[..9]);
    assert_eq!(place.seen(View::Daily).bytes_read, 9);
    place.append("a.jsonl", &line.as_bytes()[9..]);
    assert_eq!(place.seen(View::Daily).bytes_read, line.len() as u64 - 9);
}

#[test]
fn what_was_counted_stays_when_the_transcript_goes_or_is_written_anew() {
    let place = Place::new();
    place.append("a.jsonl", row("m1", "r1", AT, OPUS, 5).as_bytes());
    place.append("b.jsonl", row("m2", "r2", AT, OPUS, 7).as_bytes());
    assert_eq!(place.seen(View::Session).totals.output, 12);
    fs::remove_file(place.file("a.jsonl")).unwrap();
    fs::write(place.file("b.jsonl"), row("m3", "r3", AT, OPUS, 100)).unwrap();
    let seen = place.seen(View::Session);
    assert_eq!((seen.totals.output, seen.files), (112, 2));
    // Again there, it is what it was.
    place.append("a.jsonl", row("m1", "r1", AT, OPUS, 5).as_bytes());
    assert_eq!(place.seen(View::Session).totals.output, 112);
}

#[test]
fn what_was_written_anew_and_is_longer_is_read_whole() {
    let place = Place::new();
    // The last bytes are the same in all of them.
    let of = |id: &str| {
        let row = row(id, id, AT, OPUS, 5);
        let same = format!(r#","text":"{}"}}"#, "x".repeat(300));
        format!("{}{same}\n", row.trim_end().strip_suffix('}').unwrap())
    };
    place.append("a.jsonl", (of("m1") + &of("m2")).as_bytes());
    assert_eq!(place.seen(View::Daily).totals.responses, 2);
    let anew = of("m3") + &of("m4") + &of("m5");
    fs::write(place.file("a.jsonl"), &anew).unwrap();
    let seen = place.seen(View::Daily);
    assert_eq!((seen.totals.responses, seen.bytes_read), (5, anew.len() as u64));
}

#[test]
fn a_transcript_that_moved_is_not_another() {
    let place = Place::new();
    place.append("a.jsonl", row("m1", "r1", AT, OPUS, 5).as_bytes());
    place.account();
    fs::rename(place.file("a.jsonl"), place.file("x.jsonl")).unwrap();
    let account = place.account();
    assert_eq!((account.bytes_read, account.sources.len()), (0, 1));
    assert_eq!(place.seen(View::Session).rows[0].key, "x");
    // Another one in its inode's stead, at yet another place, is one of its own.
    let other = row("m2", "r2", AT, OPUS, 50) + &row("m3", "r3", AT, OPUS, 50);
    let file = File::options().write(true).truncate(true).open(place.file("x.jsonl")).unwrap();
    (&file).write_all(other.as_bytes()).unwrap();
    fs::rename(place.file("x.jsonl"), place.file("y.jsonl")).unwrap();
    let seen = place.seen(View::Session);
    assert_eq!((seen.totals.output, seen.files), (105, 2));
}

#[test]
fn other_directories_have_an_index_of_their_own() {
    let (one, two) = (Place::new(), Place::new());
    one.append("a.jsonl", row("m1", "r1", AT, OPUS, 5).as_bytes());
    two.append("b.jsonl", row("m1", "r1", AT, OPUS, 5).as_bytes());
    let state = one.keep.path().join("state");
    for dirs in [one.dirs(), two.dirs(), [one.dirs(), two.dirs()].concat()] {
        let account = Index::open(&state, &dirs).unwrap().account(Models::builtin()).unwrap();
        assert_eq!(told(&account), told(&Account::of(&dirs, Models::builtin())));
    }
    let turned = [two.dirs(), one.dirs()].concat();
    let account = Index::open(&state, &turned).unwrap().account(Models::builtin()).unwrap();
    assert_eq!(account.bytes_read, 0, "the order of directories does not matter");
}

#[test]
fn what_is_gone_stays_when_a_directory_comes_to_the_list_or_goes() {
    let (one, two) = (Place::new(), Place::new());
    let lines = row("m1", "r1", AT, OPUS, 5) + &row("m3", "r3", AT, "unheard", 7);
    one.append("a.jsonl", lines.as_bytes());
    two.append("b.jsonl", row("m2", "r2", AT, OPUS, 70).as_bytes());
    let state = one.keep.path().join("state");
    let output = |dirs: &[PathBuf]| {
        let account = Index::open(&state, dirs).unwrap().account(Models::builtin()).unwrap();
        let totals = account.view(View::Daily, &Only::default(), &TimeZone::UTC).totals;
        (totals.output, totals.unpriced_tokens)
    };
    assert_eq!(output(&two.dirs()), (70, 0));
    assert_eq!(output(&one.dirs()), (12, 17));
    fs::remove_file(one.file("a.jsonl")).unwrap();
    let both = [one.dirs(), two.dirs()].concat();
    assert_eq!(output(&both), (82, 17));
    fs::remove_file(two.file("b.jsonl")).unwrap();
    fs::remove_dir_all(one.keep.path().join("claude/projects")).unwrap();
    assert_eq!(output(&both), (82, 17));
    let nowhere = vec![one.keep.path().join("none")];
    assert_eq!(output(&[two.dirs(), nowhere].concat()), (70, 0));
}

fn models(id: &str, input: f64) -> Models {
    Models::with_own(format!(
        "[[model]]\nid = \"{id}\"\nwindow_tokens = 1\n[[model.price]]\ninput = {input}\n\
         output = 0.0\ncache_write_5m = 0.0\ncache_write_1h = 0.0\ncache_read = 0.0\n"
    ))
    .unwrap()
}

#[test]
fn a_price_that_was_paid_stays_until_everything_is_priced_anew() {
    let place = Place::new();
    let two = row("m1", "r1", AT, OPUS, 0) + &row("m2", "r2", AT, "of-tomorrow", 0);
    place.append("a.jsonl", two.as_bytes());
    let total = |account: Account| {
        let totals = account.view(View::Daily, &Only::default(), &TimeZone::UTC).totals;
        (totals.cost_usd, totals.unpriced_tokens)
    };
    let mut index = place.index();
    // 10 tokens at $4 a million.
    assert_eq!(total(index.account(Models::builtin()).unwrap()), (0.00004, 10));
    // A model gets its first price as soon as it is known.
    let tomorrow = models("of-tomorrow", 7.0);
    assert_eq!(total(index.account(&tomorrow).unwrap()), (0.00011, 0));
    // What had a price keeps it; what comes has the new one.
    let dearer = models(OPUS, 8.0);
    place.append("a.jsonl", row("m3", "r3", AT, OPUS, 0).as_bytes());
    assert_eq!(total(index.account(&dearer).unwrap()), (0.00019, 0));
    // A row that grows is priced as it was.
    place.append("a.jsonl", row("m1", "r1", AT, OPUS, 1_000_000).as_bytes());
    assert_eq!(total(index.account(&dearer).unwrap()), (20.00019, 0));
    let repriced = index.reprice(&dearer).unwrap();
    assert_eq!((repriced.before_usd, repriced.after_usd), (20.00019, 0.00016));
    // The price of the model of tomorrow went with its table.
    assert_eq!(total(index.account(&dearer).unwrap()), (0.00016, 10));
    assert_eq!(total(index.account(&tomorrow).unwrap()), (0.00023, 0));
    let kept: i64 =
        index.db.query_row("SELECT count(*) FROM repricings", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 1);
}

#[test]
fn a_table_that_nobody_can_read_any_more_leaves_no_trace_in_the_sums() {
    let place = Place::new();
    place.append("a.jsonl", row("m1", "r1", AT, OPUS, 5).as_bytes());
    let mut index = place.index();
    index.account(&models(OPUS, 100.0)).unwrap();
    index.db.execute("UPDATE prices SET own = 'of tomorrow ='", []).unwrap();
    place.append("a.jsonl", row("m1", "r1", AT, OPUS, 700).as_bytes());
    let account = index.account(Models::builtin()).unwrap();
    assert_eq!(told(&account), told(&place.afresh()));
}

#[test]
fn other_rules_count_everything_anew() {
    let place = Place::new();
    place.append("a.jsonl", row("m1", "r1", AT, OPUS, 5).as_bytes());
    let mut index = place.index();
    index.account(Models::builtin()).unwrap();
    index.db.execute_batch("UPDATE meta SET rules = 99; UPDATE cells SET output = 99;").unwrap();
    assert_eq!(place.seen(View::Daily).totals.output, 5);
}

#[test]
fn several_processes_count_each_response_once() {
    let place = Place::new();
    for n in 0..40 {
        place.append(&format!("{n}.jsonl"), row(&format!("m{n}"), "r", AT, OPUS, 1).as_bytes());
    }
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| place.account())).collect();
        for account in all {
            assert_eq!(told(&account.join().unwrap()), told(&place.afresh()));
        }
    });
}

/// A row of one of a few messages, in one of many manners.
fn any_row() -> impl Strategy<Value = Vec<u8>> {
    let message = prop::sample::select(vec!["m1", "m2", "m3", "m4"]);
    let request = prop::sample::select(vec![Some("r1"), Some("r2"), None]);
    let model = prop::sample::select(vec![OPUS, "claude-haiku-4-5", "unheard", SYNTHETIC_MODEL]);
    let at = 0..4_u32;
    let used = (0..3_u64, 0..900_u64, 0..3_u64, any::<bool>(), any::<bool>(), 0..4_u8);
    (message, request, model, at, used).prop_map(|(message, request, model, at, used)| {
        let (input, output, write, is_side, is_cut, odd) = used;
        let mut row = json!({
            "type": "assistant", "timestamp": format!("2026-11-20T10:{:02}:00.000Z", at * 10),
            "isSidechain": is_side, "cwd": "/home/p", "sessionId": "s", "apiBlockIndex": at,
            "message": {
                "id": message, "model": model, "stop_reason": "end_turn",
                "content": [{"type": "text", "text": "x".repeat(output as usize)}],
                "usage": {
                    "input_tokens": input, "output_tokens": output,
                    "cache_creation_input_tokens": write * 10,
                    "cache_creation": {"ephemeral_1h_input_tokens": write * 5},
                },
            },
        });
        if let Some(request) = request {
            row["requestId"] = request.into();
        }
        if is_cut {
            row["message"]["stop_reason"] = serde_json::Value::Null;
        }
        if odd == 1 {
            row["requestSessionId"] = "other".into();
        }
        if odd == 2 {
            row["message"]["usage"]["iterations"] = json!([
                {"type": "advisor_message", "model": "claude-fable-5-1", "input_tokens": output},
            ]);
        }
        (row.to_string() + "\n").into_bytes()
    })
}

#[derive(Debug, Clone)]
enum Step {
    Append(u8, Vec<u8>),
    /// All that this file holds, once more.
    Repeat(u8),
    Look,
    Reopen,
    Move(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let junk = prop::sample::select(vec![
        &b"{\"torn\": "[..],
        b"\n",
        b"\0\0\0\n",
        b"{\"type\":\"user\"}\r\n",
        b"not json\n",
        b"{\"type\":\"assistant\",\"message\":{\"usage\":{\"output_tokens\":9}}}\n",
    ]);
    prop_oneof![
        6 => (0..4_u8, any_row()).prop_map(|(file, row)| Step::Append(file, row)),
        // In pieces.
        3 => (0..4_u8, any_row(), any::<prop::sample::Index>()).prop_map(|(file, row, cut)| {
            let cut = cut.index(row.len());
            Step::Append(file, row[..cut].to_vec())
        }),
        2 => (0..4_u8, junk).prop_map(|(file, junk)| Step::Append(file, junk.to_vec())),
        1 => (0..4_u8).prop_map(Step::Repeat),
        1 => (0..4_u8).prop_map(Step::Move),
        4 => Just(Step::Look),
        1 => Just(Step::Reopen),
    ]
}

fn name(file: u8) -> &'static str {
    ["b.jsonl", "a.jsonl", "a/subagents/agent-7.jsonl", "agent-8.jsonl"][usize::from(file)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// However files grow, and whenever somebody looks, it is what one look at the end
    /// would see.
    #[test]
    fn appended_in_whatever_pieces_it_is_the_same(steps in vec(step(), 1..30)) {
        let place = Place::new();
        let mut index = place.index();
        for step in steps {
            match step {
                Step::Append(file, bytes) => place.append(name(file), &bytes),
                Step::Repeat(file) => {
                    let bytes = fs::read(place.file(name(file))).unwrap_or_default();
                    place.append(name(file), &bytes);
                }
                Step::Look => {
                    let account = index.account(Models::builtin()).unwrap();
                    prop_assert_eq!(told(&account), told(&place.afresh()));
                }
                Step::Reopen => index = place.index(),
                // Within the same file system, and back: the same file as before.
                Step::Move(file) => {
                    let aside = place.file("aside");
                    if fs::rename(place.file(name(file)), &aside).is_ok() {
                        index.account(Models::builtin()).unwrap();
                        fs::rename(&aside, place.file(name(file))).unwrap();
                    }
                }
            }
        }
        let account = index.account(Models::builtin()).unwrap();
        prop_assert_eq!(told(&account), told(&place.afresh()));
        index.reprice(Models::builtin()).unwrap();
        let account = index.account(Models::builtin()).unwrap();
        prop_assert_eq!(told(&account), told(&place.afresh()));
    }
}
