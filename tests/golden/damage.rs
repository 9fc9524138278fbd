//! The files of the traps, damaged at random: what a fuzzer does, on any compiler.

use super::corpus::traps;
use super::dice::Dice;

/// Damaged files with every change; `LONGHAUL_TORTURE=long` makes it this often so many.
const FILES: u64 = 3_000;
const LONG: u64 = 20;

/// What damage can put in.
const WORDS: [&str; 14] = [
    "\"usage\":{",
    "\"message\":{",
    "\"id\":null,",
    "\"requestId\":\"req_1\",",
    "\"stop_reason\":null,",
    "\"iterations\":[{\"type\":\"advisor_message\",\"model\":\"x\",\"output_tokens\":4}],",
    "\"isSidechain\":true,",
    "{\"type\":\"assistant\",",
    "\\u0022",
    "\\ud83d",
    "}",
    "\u{feff}",
    "\0\0",
    "\n",
];

fn damage(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = dice.below(bytes.len() + 1);
    let end = (at + dice.below(40)).min(bytes.len());
    match dice.below(6) {
        0 => drop(bytes.drain(at..end)),
        1 => drop(bytes.splice(at..end, WORDS[dice.below(WORDS.len())].bytes())),
        2 => drop(bytes.splice(at..at, WORDS[dice.below(WORDS.len())].bytes())),
        3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
        4 => {
            let from = dice.below(other.len() + 1);
            let piece = other[from..(from + dice.below(900)).min(other.len())].to_vec();
            drop(bytes.splice(at..at, piece));
        }
        _ => bytes.truncate(at),
    }
}

#[test]
fn whatever_is_damaged_the_two_readers_agree() {
    let files: Vec<Vec<u8>> = traps()
        .iter()
        .filter_map(|trap| trap.files())
        .flatten()
        .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "jsonl"))
        .map(|(_, bytes)| bytes)
        .collect();
    assert!(files.len() > 80, "the golden corpus was not found");
    let is_long = std::env::var("LONGHAUL_TORTURE").is_ok_and(|how| how == "long");
    for seed in 0..if is_long { FILES * LONG } else { FILES } {
        let mut dice = Dice(seed);
        let mut bytes = files[dice.below(files.len())].clone();
        for _ in 0..1 + dice.below(5) {
            let other = dice.below(files.len());
            damage(&mut dice, &mut bytes, &files[other]);
        }
        let agreed = std::panic::catch_unwind(|| longhaul::usage::fuzz::row(&bytes));
        assert!(agreed.is_ok(), "seed {seed}: {:?}", String::from_utf8_lossy(&bytes));
    }
}
