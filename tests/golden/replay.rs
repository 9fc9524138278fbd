//! The same rows in files that grow in another way each time: in pieces that end anywhere,
//! in turns, written again, in another order. Whoever reads them, once or after each step,
//! has to come to what the oracle says of the end.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::corpus::traps;
use super::dice::Dice;
use super::oracle::Truth;
use super::{OF_ANY_ORDER, VIEWS, as_told, printed, rows};

/// What happens to the rows of a file before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    AsTheyAre,
    SomeTwice,
    Shuffled,
}

/// Writes the files of some traps in steps and calls `look` with the room, the
/// configuration directories and a view after some of them; at the end `look` has to say
/// what the oracle says, in all views.
///
/// # Panics
/// It does not; the seed is told.
pub fn check(seed: u64, mut look: impl FnMut(&Path, &[PathBuf], &str) -> Value) {
    let mut dice = Dice(seed);
    let room = tempfile::tempdir().unwrap();
    let dirs = [room.path().join("config")];
    let order = [Order::AsTheyAre, Order::SomeTwice, Order::Shuffled][dice.below(3)];
    let files = files(&mut dice, order);
    let mut left: Vec<(PathBuf, Vec<Vec<u8>>)> = files
        .into_iter()
        .map(|(path, bytes)| {
            // The last piece comes first.
            let mut pieces = pieces(&mut dice, bytes);
            pieces.reverse();
            (dirs[0].join(path), pieces)
        })
        .collect();
    while !left.is_empty() {
        let at = dice.below(left.len());
        let (path, pieces) = &mut left[at];
        append(path, &pieces.pop().expect("not taken out before it is empty"));
        if pieces.is_empty() {
            left.swap_remove(at);
        }
        if dice.below(6) == 0 {
            let view = VIEWS[dice.below(VIEWS.len())];
            look(room.path(), &dirs, view);
        }
    }
    let truth = Truth::of(&dirs);
    let views = if order == Order::AsTheyAre { &VIEWS[..] } else { &OF_ANY_ORDER };
    for view in views {
        let seen = look(room.path(), &dirs, view);
        let theirs: BTreeMap<String, Value> = truth
            .by(view, &TimeZone::UTC)
            .into_iter()
            .map(|(key, sums)| (key, printed(&sums)))
            .collect();
        let what = format!("seed {seed}, {order:?}, {view}");
        assert_eq!(json!(rows(&seen)), json!(theirs), "{what}");
        assert_eq!(as_told(&seen["totals"]), printed(&truth.totals()), "{what}");
        let told = ["files", "bad_rows", "unidentified_rows"].map(|key| seen[key].as_u64());
        let true_counts = [truth.files, truth.bad_rows, truth.unidentified_rows];
        assert_eq!(told, true_counts.map(Some), "{what}");
    }
}

/// The files of some traps, each trap a project of its own, so that the same responses
/// stand in several.
fn files(dice: &mut Dice, order: Order) -> Vec<(PathBuf, Vec<u8>)> {
    let traps: Vec<_> =
        traps().into_iter().filter_map(|trap| Some((trap.files()?, trap))).collect();
    let mut files = Vec::new();
    for _ in 0..1 + dice.below(4) {
        let (stored, trap) = &traps[dice.below(traps.len())];
        for (path, bytes) in stored {
            let below: PathBuf = path.iter().skip(2).collect();
            let project = format!("projects/{}-{}", trap.name, files.len());
            let is_whole = path.extension().is_some_and(|e| e == "jsonl") && bytes.ends_with(b"\n");
            let bytes = match is_whole {
                true => in_order(dice, bytes, order),
                false => bytes.clone(),
            };
            files.push((Path::new(&project).join(below), bytes));
        }
    }
    files
}

fn in_order(dice: &mut Dice, bytes: &[u8], order: Order) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    match order {
        Order::AsTheyAre => {}
        Order::SomeTwice => {
            let again: Vec<&[u8]> = lines.iter().copied().filter(|_| dice.below(2) == 0).collect();
            lines.extend(again);
        }
        Order::Shuffled => dice.shuffle(&mut lines),
    }
    lines.concat()
}

/// Cut anywhere, in the middle of rows and of characters too.
fn pieces(dice: &mut Dice, bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = (0..dice.below(5)).map(|_| dice.below(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| bytes[cut[0]..cut[1]].to_vec()).collect()
}

fn append(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}
