//! The traps of `tests/data/usage`: where they lie, what they come to, and how they are
//! laid out before somebody reads them.

use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One trap.
#[derive(Debug)]
pub struct Trap {
    pub name: String,
    /// `expected.json`
    pub expected: Value,
    stored: PathBuf,
}

/// All of them, by name.
pub fn traps() -> Vec<Trap> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/usage");
    let mut traps: Vec<Trap> = fs::read_dir(all)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|stored| {
            let name = stored.file_name().unwrap().to_str().unwrap().to_owned();
            let text = fs::read(stored.join("expected.json")).unwrap();
            let expected =
                serde_json::from_slice(&text).unwrap_or_else(|err| panic!("{name}: {err}"));
            Trap { name, expected, stored }
        })
        .collect();
    traps.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(traps.len() > 80, "the golden corpus was not found");
    traps
}

impl Trap {
    /// Lays it out below `room`, with what cannot be stored: links, long lines. Gives its
    /// configuration directories.
    pub fn lay_out(&self, room: &Path) -> Vec<PathBuf> {
        copy(&self.stored, room);
        for made in self.expected["make"].as_array().into_iter().flatten() {
            let path = |key: &str| made[key].as_str().map(|path| room.join(path));
            if let Some(link) = path("link") {
                symlink(made["to"].as_str().unwrap(), link).unwrap();
            } else if let Some(link) = path("hard_link") {
                fs::hard_link(path("to").unwrap(), link).unwrap();
            } else {
                lengthen(&path("long_line").unwrap(), made);
            }
        }
        config_dirs(room)
    }

    /// Its files, below the configuration directory, as they are stored. None if it needs
    /// more than that.
    #[allow(dead_code, reason = "the benchmark lays traps out as they are")]
    pub fn files(&self) -> Option<Vec<(PathBuf, Vec<u8>)>> {
        fn look(dir: &Path, root: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => look(&path, root, found),
                    false => found.push((
                        path.strip_prefix(root).unwrap().to_owned(),
                        fs::read(&path).unwrap(),
                    )),
                }
            }
        }
        let mut found = Vec::new();
        look(&self.stored.join("config"), &self.stored.join("config"), &mut found);
        found.sort();
        let is_simple = self.expected.get("make").is_none() && self.expected["bad_rows"] == 0;
        is_simple.then_some(found)
    }
}

/// `config`, `config-2`, …: those that are there.
fn config_dirs(room: &Path) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = fs::read_dir(room)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("config"))
        .collect();
    dirs.sort();
    dirs
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Appends a row of so many bytes, and then the given ones.
fn lengthen(path: &Path, made: &Value) {
    let file = fs::OpenOptions::new().append(true).open(path).unwrap();
    let mut file = BufWriter::new(file);
    file.write_all(br#"{"type":"user","message":{"role":"user","content":""#).unwrap();
    let words = br#"one \"usage\":{\"input_tokens\":7} \\ two "#;
    for _ in 0..made["bytes"].as_u64().unwrap() / words.len() as u64 {
        file.write_all(words).unwrap();
    }
    file.write_all(b"\"},\"sessionId\":\"s1\"}\n").unwrap();
    for row in made["then"].as_array().unwrap() {
        writeln!(file, "{}", row.as_str().unwrap()).unwrap();
    }
    file.flush().unwrap();
}
