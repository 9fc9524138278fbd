//! The transcript reader against a model, whatever is done to the file between
//! two polls.
//!
//! What is promised, and nothing else is tested here:
//!
//! - As long as a file only grows, each line is told once, whole, in order,
//!   however the writes are cut and whenever somebody polls.
//! - A file that takes the place of another (a rename over it, or deleted and made
//!   again) is read from its beginning; a reader that keeps files open reads the
//!   rest of the old one first. An unfinished line of the old one is dropped.
//! - A file that was cut or written anew in place is read from its beginning
//!   when it is shorter than what was read of it, or when the last 64 bytes of
//!   that are others now. Otherwise it counts as grown. What was cut off before
//!   anybody polled is lost, and nothing else.
//! - After such a beginning, usage already counted is not counted again, and
//!   facts already told, by their time, are not told again.
//! - A new reader at any moment comes to the totals of what then stands there.

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use longhaul::transcript::tail::{Event, MAX_LINE_BYTES, Tail};
use longhaul::transcript::{Fact, Seen, SessionTranscript};

use super::rounds::{Rng, rounds};

/// The bytes before the offset that must still be the same.
const MARK_BYTES: usize = 64;
/// Budgets are kept to within one of these.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a tail says, in words of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Line(Vec<u8>),
    Skipped,
    Restarted,
}

fn poll(tail: &mut Tail, budget: u64) -> Vec<Said> {
    let mut said = Vec::new();
    tail.poll(&mut { budget }, |event| {
        said.push(match event {
            Event::Line(line) => Said::Line(line.to_vec()),
            Event::Skipped => Said::Skipped,
            Event::Restarted => Said::Restarted,
        });
    })
    .unwrap();
    said
}

/// A file system of one path: what stands there, and what each inode holds.
struct World {
    dir: tempfile::TempDir,
    path: PathBuf,
    /// Inode numbers are given again as soon as nobody holds them, so a content
    /// here is that of the newest file of the number.
    content: HashMap<u64, Vec<u8>>,
    at_path: Option<u64>,
    /// Moved away from the path, with its inode.
    aside: Option<u64>,
}

impl World {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        Self { dir, path, content: HashMap::new(), at_path: None, aside: None }
    }

    fn bytes(&mut self) -> Option<&mut Vec<u8>> {
        self.content.get_mut(&self.at_path?)
    }

    fn len(&mut self) -> usize {
        self.bytes().map_or(0, |bytes| bytes.len())
    }

    fn append(&mut self, new: &[u8]) {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).unwrap();
        file.write_all(new).unwrap();
        if self.at_path.is_none() {
            self.appeared();
        }
        self.bytes().unwrap().extend_from_slice(new);
    }

    fn appeared(&mut self) {
        let inode = fs::metadata(&self.path).unwrap().ino();
        self.content.insert(inode, Vec::new());
        self.at_path = Some(inode);
    }

    /// `truncate`, shorter or longer.
    fn set_len(&mut self, len: usize) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        file.set_len(len as u64).unwrap();
        self.bytes().unwrap().resize(len, 0);
    }

    /// As `cp` over it does: cut to nothing, then written, the inode stays.
    fn rewrite(&mut self, new: &[u8]) {
        fs::write(&self.path, new).unwrap();
        if self.at_path.is_none() {
            self.appeared();
        }
        *self.bytes().unwrap() = new.to_vec();
    }

    /// Some bytes in the middle are others now.
    fn overwrite(&mut self, at: usize, new: &[u8]) {
        let mut file = OpenOptions::new().write(true).open(&self.path).unwrap();
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(new).unwrap();
        self.bytes().unwrap()[at..at + new.len()].copy_from_slice(new);
    }

    /// A new file is renamed over it.
    fn replace(&mut self, new: &[u8]) {
        let other = self.dir.path().join("other");
        fs::write(&other, new).unwrap();
        fs::rename(&other, &self.path).unwrap();
        self.appeared();
        *self.bytes().unwrap() = new.to_vec();
    }

    fn remove(&mut self) {
        if self.at_path.take().is_some() {
            fs::remove_file(&self.path).unwrap();
        }
    }

    /// Moves it away, or what was moved away back (over what stands there).
    fn swap_aside(&mut self) {
        let aside = self.dir.path().join("aside");
        if let Some(inode) = self.aside.take() {
            fs::rename(&aside, &self.path).unwrap();
            self.at_path = Some(inode);
        } else if let Some(inode) = self.at_path.take() {
            fs::rename(&self.path, &aside).unwrap();
            self.aside = Some(inode);
        }
    }
}

/// What a tail has to say, by the promises above.
#[derive(Default)]
struct Model {
    keeps_open: bool,
    inode: Option<u64>,
    /// What was read of the file since it was begun.
    read: Vec<u8>,
    /// How much of it is behind the last newline.
    unfinished: usize,
    /// The beginning of the unfinished line was changed, and its last 64 bytes
    /// were not: the line that comes of it stands in no file.
    made_up: bool,
}

impl Model {
    fn poll(&mut self, world: &World, mut budget: u64) -> Vec<Said> {
        let mut said = Vec::new();
        if world.at_path.is_none() || world.at_path != self.inode {
            if self.keeps_open {
                self.grow(world, &mut budget, &mut said);
            }
            if world.at_path.is_none() || (budget == 0) {
                return said;
            }
            if self.inode.is_some() {
                said.push(Said::Restarted);
            }
            self.inode = world.at_path;
            self.begin();
        }
        self.grow(world, &mut budget, &mut said);
        said
    }

    fn begin(&mut self) {
        self.read.clear();
        self.unfinished = 0;
    }

    fn grow(&mut self, world: &World, budget: &mut u64, said: &mut Vec<Said>) {
        let Some(inode) = self.inode else { return };
        let content = &world.content[&inode];
        let (len, mark) = (self.read.len(), self.read.len().min(MARK_BYTES));
        if content.len() < len || content[len - mark..len] != self.read[len - mark..] {
            said.push(Said::Restarted);
            self.begin();
        }
        let (from, to) = (self.read.len() - self.unfinished, self.read.len());
        self.made_up |= content[from..to] != self.read[from..to];
        while *budget > 0 && self.read.len() < content.len() {
            let end = content.len().min(self.read.len() + CHUNK_BYTES);
            let new = &content[self.read.len()..end];
            *budget = budget.saturating_sub(new.len() as u64);
            for byte in new {
                self.read.push(*byte);
                self.unfinished += 1;
                if *byte == b'\n' {
                    let line = &self.read[self.read.len() - self.unfinished..self.read.len() - 1];
                    said.push(Said::Line(line.to_vec()));
                    self.unfinished = 0;
                }
            }
        }
    }

    /// What stands behind the last newline, once the writer is gone.
    fn finish(&mut self) -> Option<Vec<u8>> {
        let line = self.read[self.read.len() - self.unfinished..].to_vec();
        self.unfinished = 0;
        (!line.is_empty()).then_some(line)
    }
}

/// Something to append: lines, parts of lines, and what damages look like.
fn some_bytes(rng: &mut Rng, counter: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rng.below(4) {
        *counter += 1;
        match rng.below(16) {
            0 => bytes.extend(vec![0; 1 + rng.below(100)]),
            1 => bytes.extend(b"\n"),
            2 => bytes.extend(b"\r\n"),
            3 => bytes.extend(vec![b'a'; rng.below(140)]),
            4 if rng.one_in(8) => {
                // Around the size of a read.
                let len = CHUNK_BYTES * (1 + rng.below(2)) + rng.below(5) - 2;
                bytes.extend(vec![b'x'; len]);
            }
            5 => bytes.extend([0xff, 0xc3]),
            _ => {
                bytes.extend(format!("line {counter}").bytes());
                bytes.extend(vec![b'.'; rng.below(24)]);
                if !rng.one_in(3) {
                    bytes.push(b'\n');
                }
            }
        }
    }
    bytes
}

/// Does something to the file.
fn disturb(world: &mut World, rng: &mut Rng, bytes: Vec<u8>) {
    let len = world.len();
    let is_there = world.at_path.is_some();
    match rng.below(24) {
        0 if is_there => world.set_len(0),
        1 if is_there => world.set_len(rng.below(len + 1)),
        2 if is_there => world.set_len(len + rng.below(300)),
        3 => world.rewrite(&bytes),
        4 => {
            // The same again, and a little more or less.
            let mut same = world.bytes().cloned().unwrap_or_default();
            same.truncate(len - rng.below(len + 1).min(10));
            same.extend(bytes);
            world.rewrite(&same);
        }
        5 if len > 0 => {
            let at = rng.below(len);
            let to = (at + 1 + rng.below(8)).min(len);
            world.overwrite(at, &vec![0; to - at]);
        }
        6 => world.replace(&bytes),
        7 => {
            let mut same = world.bytes().cloned().unwrap_or_default();
            same.extend(bytes);
            world.replace(&same);
        }
        8 => world.remove(),
        9 => {
            world.remove();
            world.append(&bytes);
        }
        10 => world.swap_aside(),
        _ => world.append(&bytes),
    }
}

/// One tail with its model.
struct Pair {
    tail: Tail,
    model: Model,
}

impl Pair {
    fn new(path: &Path, keeps_open: bool) -> Self {
        let tail = if keeps_open { Tail::new(path.into()) } else { Tail::closing(path.into()) };
        Self { tail, model: Model { keeps_open, ..Model::default() } }
    }

    fn poll(&mut self, world: &World, budget: u64) {
        assert_eq!(poll(&mut self.tail, budget), self.model.poll(world, budget));
    }
}

#[test]
fn the_tail_says_what_the_model_says() {
    rounds("tailer::the_tail_says_what_the_model_says", 7_000, 70_000, |rng| {
        let mut world = World::new("t");
        let mut pairs = [true, false].map(|keeps_open| Pair::new(&world.path, keeps_open));
        let mut counter = 0;
        for _ in 0..2 + rng.below(28) {
            match rng.below(8) {
                0..4 => {
                    let bytes = some_bytes(rng, &mut counter);
                    disturb(&mut world, rng, bytes);
                }
                4 if rng.one_in(4) => {
                    let keeps_open = rng.one_in(2);
                    pairs[usize::from(!keeps_open)] = Pair::new(&world.path, keeps_open);
                }
                _ => {
                    let budget = *rng.pick(&[u64::MAX, u64::MAX, 1, 70_000]);
                    pairs[rng.below(2)].poll(&world, budget);
                }
            }
        }
        for mut pair in pairs {
            for _ in 0..8 {
                pair.poll(&world, u64::MAX);
            }
            let mut rest = None;
            pair.tail.finish(|event| {
                let Event::Line(line) = event else { panic!("{event:?}") };
                rest = Some(line.to_vec());
            });
            assert_eq!(rest, pair.model.finish());
        }
    });
}

/// A row as the CLI writes them, with what it has to be counted as.
#[derive(Debug, Clone)]
struct Row {
    text: String,
    id: u64,
    unix_ms: u64,
    input: u64,
    output: u64,
    says: String,
    sidechain: bool,
}

/// All rows ever written, to be found again in any line.
#[derive(Default)]
struct Rows {
    all: Vec<Row>,
}

impl Rows {
    /// The next row: mostly of a response of its own, else one more of an
    /// earlier response, grown or not.
    fn next(&mut self, rng: &mut Rng, sidechain: bool) -> Row {
        let number = self.all.len() as u64;
        let earlier = self.all.last().filter(|_| rng.one_in(4)).cloned();
        let (id, input) = match &earlier {
            Some(row) => (row.id, row.input),
            None => (number, 1 + rng.below(1000) as u64),
        };
        let output = earlier.map_or(1, |row| row.output) + rng.below(2) as u64 * 5;
        let unix_ms = 1_795_000_000_000 + number;
        // Some text that looks like damage, or like another row.
        let says = format!(
            "w{number}{}",
            rng.pick(&["", " {\\\"type\\\": ", " ü€😀", " }{", " \\u0000", " \\n\\r\\n"])
        );
        let stamp = stamp_of(unix_ms);
        let text = format!(
            r#"{{"type":"assistant","isSidechain":{sidechain},"timestamp":"{stamp}","requestId":"req_{id}","message":{{"id":"msg_{id}","model":"claude-opus-5-5","stop_reason":"end_turn","content":[{{"type":"text","text":"{says}"}}],"usage":{{"input_tokens":{input},"output_tokens":{output}}}}},"uuid":"u{number}"}}"#
        );
        let says: String = serde_json::from_str(&format!("\"{says}\"")).unwrap();
        let row = Row { text, id, unix_ms, input, output, says, sidechain };
        self.all.push(row.clone());
        row
    }

    /// The rows that a line has to give: those that stand whole in it, at its
    /// beginning, behind one another, or in front of the next row or the end.
    fn of_line(&self, line: &[u8]) -> Vec<&Row> {
        let mut found = Vec::new();
        for part in line.split(|byte| *byte == 0) {
            let mut places: Vec<(usize, &Row)> = Vec::new();
            for at in 0..part.len() {
                if part[at..].starts_with(ROW_START) {
                    let whole = |row: &&Row| part[at..].starts_with(row.text.as_bytes());
                    places.extend(self.all.iter().find(whole).map(|row| (at, row)));
                }
            }
            let mut good_to = 0;
            for (at, row) in places {
                let end = at + row.text.len();
                let behind = part[end..].trim_ascii_start();
                let follows_on = part[good_to..at].trim_ascii().is_empty();
                if follows_on || behind.is_empty() || behind[0] == b'{' {
                    found.push(row);
                    good_to = end;
                }
            }
        }
        found
    }
}

/// How each row here begins.
const ROW_START: &[u8] = b"{\"type\":\"assistant\"";

/// RFC 3339; all of these times lie within a few seconds.
fn stamp_of(unix_ms: u64) -> String {
    longhaul::clock::rfc3339(unix_ms as i64)
}

/// Everything that the reader above the tail has to say.
#[derive(Debug, Default, Clone, PartialEq)]
struct Told {
    facts: Vec<String>,
    input: u64,
    output: u64,
    responses: u64,
}

/// The room's promises, row by row.
#[derive(Default)]
struct Reader {
    usage: HashMap<u64, (u64, u64)>,
    in_main: HashSet<u64>,
    told: Told,
    newest: Option<u64>,
    newest_context: Option<u64>,
    newest_ms: Option<u64>,
    told_until: Option<u64>,
}

impl Reader {
    fn hear(&mut self, said: &[Said], rows: &Rows, is_main: bool) {
        for said in said {
            match said {
                Said::Restarted if is_main => self.told_until = self.newest_ms,
                Said::Restarted | Said::Skipped => {}
                Said::Line(line) => {
                    for row in rows.of_line(line) {
                        self.row(row, is_main && !row.sidechain);
                    }
                }
            }
        }
        self.told.input = self.usage.values().map(|(input, _)| input).sum();
        self.told.output = self.usage.values().map(|(_, output)| output).sum();
        self.told.responses = self.usage.len() as u64;
    }

    fn row(&mut self, row: &Row, is_main: bool) {
        let usage = self.usage.entry(row.id).or_default();
        *usage = (usage.0.max(row.input), usage.1.max(row.output));
        if !is_main {
            return;
        }
        let is_new = self.in_main.insert(row.id);
        let is_told = self.told_until.is_some_and(|until| row.unix_ms <= until);
        self.newest_ms = self.newest_ms.max(Some(row.unix_ms));
        if is_new || self.newest == Some(row.id) {
            if !is_told && (is_new || self.newest_context != Some(row.input)) {
                self.told.facts.push(format!("context {}", row.input));
            }
            self.newest = Some(row.id);
            self.newest_context = Some(row.input);
        }
        if !is_told {
            self.told.facts.push(format!("text {}", row.says));
        }
    }
}

fn add_facts(facts: &mut Vec<String>, seen: Vec<Seen>) {
    facts.extend(seen.into_iter().map(|seen| match seen.fact {
        Fact::Context { tokens, .. } => format!("context {tokens}"),
        Fact::AssistantText { text } => format!("text {text}"),
        other => panic!("nobody wrote {other:?}"),
    }));
}

fn totals(transcript: &SessionTranscript, facts: Vec<String>) -> Told {
    let total = transcript.usage().total();
    Told {
        facts,
        input: total.input,
        output: total.output,
        responses: transcript.usage().responses(),
    }
}

/// Rows and their damages, as bytes to append.
fn some_rows(rng: &mut Rng, rows: &mut Rows, sidechain: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..1 + rng.below(4) {
        let row = rows.next(rng, sidechain).text.into_bytes();
        let cut = rng.below(row.len());
        match rng.below(16) {
            // Torn: what comes next stands behind it, a newline or a row.
            0 | 1 => bytes.extend(&row[..cut]),
            2 => bytes.extend([&row[..cut], b"\n"].concat()),
            // Two without a newline between them.
            3 => bytes.extend(&row),
            4 => bytes.extend([&row[..], b"\r\n"].concat()),
            5 => bytes.extend([&vec![0; 1 + rng.below(70)][..], &row, b"\n"].concat()),
            6 => bytes.extend([&row[..cut], &[0; 9], &row[cut..], b"\n"].concat()),
            7 => bytes.extend([&row[..], &[0; 5], b"\n", b"\n"].concat()),
            8 => bytes.extend([b" \t", &row[..], b" \n\n"].concat()),
            9 => bytes.extend([b"\xff\xfe junk", &row[..], b"\n"].concat()),
            10 => bytes.extend([&row[..], b"\n", &row[..], b"\n"].concat()),
            _ => bytes.extend([&row[..], b"\n"].concat()),
        }
    }
    bytes
}

/// A transcript under test, with its model.
struct Watched {
    transcript: SessionTranscript,
    facts: Vec<String>,
    main: Model,
    side: Model,
    reader: Reader,
    /// What a line made up of two says is not in the rows here.
    is_past_knowing: bool,
}

impl Watched {
    fn new(path: &Path) -> Self {
        Self {
            transcript: SessionTranscript::with_path(path.into()),
            facts: Vec::new(),
            main: Model { keeps_open: true, ..Model::default() },
            side: Model::default(),
            reader: Reader::default(),
            is_past_knowing: false,
        }
    }

    fn poll(&mut self, main: &World, side: &World, rows: &Rows) {
        add_facts(&mut self.facts, self.transcript.poll().unwrap());
        // Beyond any file here.
        self.reader.hear(&self.main.poll(main, u64::MAX), rows, true);
        self.reader.hear(&self.side.poll(side, u64::MAX), rows, false);
        self.is_past_knowing |= self.main.made_up;
        if !self.is_past_knowing {
            assert_eq!(totals(&self.transcript, self.facts.clone()), self.reader.told);
        }
    }

    fn finish(mut self, main: &World, side: &World, rows: &Rows) {
        self.poll(main, side, rows);
        add_facts(&mut self.facts, self.transcript.finish().unwrap());
        for (rest, is_main) in [(self.main.finish(), true), (self.side.finish(), false)] {
            self.reader.hear(&rest.map(Said::Line).into_iter().collect::<Vec<_>>(), rows, is_main);
        }
        if self.is_past_knowing {
            return;
        }
        assert_eq!(totals(&self.transcript, self.facts.clone()), self.reader.told);
    }
}

#[test]
fn the_records_are_those_of_the_model() {
    let past_knowing = AtomicU64::new(0);
    rounds("tailer::the_records_are_those_of_the_model", 3_000, 30_000, |rng| {
        let mut main = World::new("5f3c.jsonl");
        let folder = main.dir.path().join("5f3c/subagents");
        fs::create_dir_all(&folder).unwrap();
        let mut side = World::new("unused");
        side.path = folder.join("agent-1.jsonl");
        let mut rows = Rows::default();
        let mut watched = Watched::new(&main.path);
        for _ in 0..2 + rng.below(16) {
            match rng.below(8) {
                0 => side.append(&some_rows(rng, &mut rows, true)),
                1..4 => {
                    let bytes = some_rows(rng, &mut rows, false);
                    main.append(&bytes);
                }
                4 => {
                    let bytes = some_rows(rng, &mut rows, false);
                    disturb(&mut main, rng, bytes);
                }
                5 if rng.one_in(3) => watched = Watched::new(&main.path),
                _ => watched.poll(&main, &side, &rows),
            }
            if watched.is_past_knowing {
                past_knowing.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        watched.finish(&main, &side, &rows);
        is_the_same_from_any_byte(&mut main, &rows, rng);
    });
    println!("ended early, at a line made up of two: {past_knowing:?}");
}

/// A reader that sees the file in two parts, cut anywhere, and one that is
/// begun anew behind the first part, tell and count what one does that sees the whole.
fn is_the_same_from_any_byte(main: &mut World, rows: &Rows, rng: &mut Rng) {
    let bytes = main.bytes().cloned().unwrap_or_default();
    let none = World::new("none");
    let path = main.dir.path().join("again/s.jsonl");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let mut cuts = vec![rng.below(bytes.len() + 1), rng.below(bytes.len() + 1)];
    cuts.sort_unstable();
    let mut growing = World::new("unused");
    growing.path = path;
    let mut old = Watched::new(&growing.path);
    let mut from = 0;
    for to in cuts {
        growing.append(&bytes[from..to]);
        from = to;
        old.poll(&growing, &none, rows);
        Watched::new(&growing.path).poll(&growing, &none, rows);
    }
    growing.append(&bytes[from..]);
    old.finish(&growing, &none, rows);
    Watched::new(&growing.path).finish(&growing, &none, rows);
}

#[test]
fn a_line_of_64_mib_is_read_and_a_longer_one_is_left_out() {
    rounds("tailer::a_line_of_64_mib_is_read_and_a_longer_one_is_left_out", 3, 30, |rng| {
        let mut world = World::new("t");
        let mut pair = Pair::new(&world.path, rng.one_in(2));
        world.append(b"before\n");
        let longer = rng.below(3);
        let mut line = vec![b'x'; MAX_LINE_BYTES - 1 + longer];
        line[rng.below(100)] = 0;
        let cut = rng.below(line.len());
        let is_read = line.len() <= MAX_LINE_BYTES;
        world.append(&line[..cut]);
        assert_eq!(poll(&mut pair.tail, u64::MAX), [Said::Line(b"before".to_vec())]);
        world.append(&line[cut..]);
        assert_eq!(
            poll(&mut pair.tail, u64::MAX),
            if is_read { vec![] } else { vec![Said::Skipped] }
        );
        world.append(b"\nbehind\n");
        let mut expected = vec![Said::Line(b"behind".to_vec())];
        if is_read {
            expected.insert(0, Said::Line(line));
        }
        assert!(poll(&mut pair.tail, u64::MAX) == expected);
        assert!(pair.tail.held_bytes() <= CHUNK_BYTES);
    });
}
