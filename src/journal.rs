//! The append-only journal of one run: what happened, in order, durable before
//! it is acted upon.
//!
//! One line an entry: `<16 hex digits> <JSON>\n`, where the digits are the start
//! of SHA-256 over the digits of the line before and this line's JSON. A torn
//! last line (power cut while writing) is dropped; anything else that does not
//! fit means that the file was damaged, and a damaged journal is never guessed
//! at: the run refuses to start (exit 50), the file stays as it is, and a copy of
//! it is put aside.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::cycle::{Action, Event, Machine, Params};
use crate::damaged;
use crate::error::{Error, ErrorKind, Result};

/// The format this version writes and reads. An older machine decided otherwise on
/// the same events, so replaying its journal would tell another story.
pub const FORMAT: u32 = 2;
/// Longest line that is read: an event carries at most a screen and a few KiB of text.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Format number.
    pub format: u32,
    /// The run.
    pub run_id: Uuid,
    /// The project, as a real path.
    pub project: PathBuf,
    /// When the run began.
    pub started_at: Timestamp,
    /// Its policy when it began.
    pub params: Params,
    /// longhaul's version that wrote it.
    pub version: String,
}

/// Any further line.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    at: Timestamp,
    #[serde(flatten)]
    event: Event,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    chain: String,
    pending: Vec<u8>,
}

/// What a journal tells.
#[derive(Debug)]
pub struct Told {
    /// Its first line.
    pub header: Header,
    /// The machine after all entries.
    pub machine: Machine,
    /// How many entries.
    pub entries: u64,
    /// Where the good part ends, in bytes.
    good_bytes: u64,
    chain: String,
}

impl Journal {
    /// Starts the journal of a new run; the file must not exist. It appears
    /// under its name with its first line in it: one killed in between leaves no
    /// journal, rather than one that looks damaged.
    pub fn create(path: &Path, header: &Header) -> Result<Self> {
        let failed = |e| at(path, "cannot create the journal", e);
        let nascent = path.with_extension("new");
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(&nascent)
            .map_err(failed)?;
        let mut journal =
            Self { file, path: path.to_owned(), chain: String::new(), pending: Vec::new() };
        journal.push(header)?;
        journal.sync()?;
        // A link, unlike a rename, replaces nothing.
        std::fs::hard_link(&nascent, path).map_err(failed)?;
        std::fs::remove_file(&nascent).map_err(failed)?;
        if let Some(folder) = path.parent() {
            File::open(folder)
                .and_then(|f| f.sync_all())
                .map_err(|e| at(folder, "cannot sync the folder of the journal", e))?;
        }
        Ok(journal)
    }

    /// Goes on writing behind what was told; a torn last line is cut off and
    /// added to `journal.torn`.
    pub fn resume(path: &Path, told: &Told) -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|e| at(path, "cannot open the journal", e))?;
        keep_torn_line(&mut file, told.good_bytes, &path.with_extension("torn"))
            .map_err(|e| at(path, "cannot keep the torn line of the journal", e))?;
        file.set_len(told.good_bytes)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(|e| at(path, "cannot cut the torn line off the journal", e))?;
        Ok(Self { file, path: path.to_owned(), chain: told.chain.clone(), pending: Vec::new() })
    }

    /// Adds one entry; `durable` makes it and all before it survive a power cut.
    pub fn append(&mut self, now: Timestamp, event: &Event, durable: bool) -> Result<()> {
        self.push(&Entry { at: now, event: event.clone() })?;
        if durable { self.sync() } else { self.flush() }
    }

    /// Is the file still where it was? Somebody who tidies up may take the state
    /// directory away; then nothing that is written is ever found again, and the
    /// lock beside it holds nobody back.
    ///
    /// # Errors
    /// It is not ([`ErrorKind::State`]).
    pub fn check_in_place(&self) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let same =
            |a: &std::fs::Metadata, b: &std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        let gone = || {
            Error::new(
                ErrorKind::State,
                format!("the run's journal is no longer at {}", self.path.display()),
            )
            .hint("somebody removed or replaced the state directory while the run was live")
        };
        let (Ok(open), Ok(there)) = (self.file.metadata(), std::fs::symlink_metadata(&self.path))
        else {
            return Err(gone());
        };
        if same(&open, &there) { Ok(()) } else { Err(gone()) }
    }

    fn push(&mut self, value: &impl Serialize) -> Result<()> {
        let json = serde_json::to_string(value)
            .map_err(|e| Error::internal("cannot write an event as JSON").caused_by(e))?;
        self.chain = link(&self.chain, json.as_bytes());
        self.pending.extend_from_slice(self.chain.as_bytes());
        self.pending.push(b' ');
        self.pending.extend_from_slice(json.as_bytes());
        self.pending.push(b'\n');
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let written = self.file.write_all(&self.pending);
        self.pending.clear();
        written.map_err(|e| at(&self.path, "cannot write the journal", e))
    }

    fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.file.sync_data().map_err(|e| at(&self.path, "cannot make the journal durable", e))
    }
}

/// Appends what stands behind `good_bytes`, if anything does, to the file `aside`.
fn keep_torn_line(journal: &mut File, good_bytes: u64, aside: &Path) -> std::io::Result<()> {
    let mut torn = Vec::new();
    journal.seek(SeekFrom::Start(good_bytes))?;
    journal.take(MAX_LINE_BYTES).read_to_end(&mut torn)?;
    if torn.is_empty() {
        return Ok(());
    }
    let mut aside = OpenOptions::new().create(true).append(true).mode(0o600).open(aside)?;
    aside.write_all(&torn)?;
    aside.sync_all()
}

/// Reads a journal from its beginning and replays it.
pub fn read(path: &Path) -> Result<Told> {
    read_with(path, |_, _, _| ())
}

/// As [`read`]; `see` gets the actions of every step, and the machine after it.
pub fn read_with(path: &Path, mut see: impl FnMut(Timestamp, &[Action], &Machine)) -> Result<Told> {
    let file = open(path).map_err(|e| at(path, "cannot open the journal", e))?;
    let mut reader = BufReader::with_capacity(16 << 10, file);
    let mut line = Vec::new();
    let mut good_bytes = 0_u64;
    let mut chain = String::new();
    let mut told: Option<(Header, Machine)> = None;
    let mut entries = 0;
    loop {
        line.clear();
        let mut limited = Read::take(&mut reader, MAX_LINE_BYTES);
        let n = limited
            .read_until(b'\n', &mut line)
            .map_err(|e| at(path, "cannot read the journal", e))?;
        if n == 0 {
            break;
        }
        let Some(json) = check(&chain, &line) else {
            // A whole line was written as a whole: one that does not fit is damaged.
            let is_torn = !line.ends_with(b"\n") && is_last(&mut reader);
            if is_torn && told.is_some() {
                break;
            }
            return Err(damaged(path, entries + 1, "its check digits do not fit"));
        };
        match &mut told {
            None => told = Some(begin(path, json)?),
            Some((_, machine)) => {
                let entry: Entry = serde_json::from_slice(json)
                    .map_err(|e| damaged(path, entries + 1, "it is no known event").caused_by(e))?;
                let actions = machine.step(entry.at, entry.event);
                see(entry.at, &actions, machine);
                entries += 1;
            }
        }
        chain = link(&chain, json);
        good_bytes += n as u64;
    }
    let (header, machine) = told.ok_or_else(|| damaged(path, 0, "it is empty"))?;
    Ok(Told { header, machine, entries, good_bytes, chain })
}

/// Whose journal it is, of whatever format.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Origin {
    /// The run.
    pub run_id: Uuid,
    /// Its project, as a real path.
    pub project: PathBuf,
    /// Its policy when it began.
    pub params: OriginParams,
}

/// What is read of a run's policy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OriginParams {
    /// Most sessions it was to have.
    #[serde(default)]
    pub max_sessions: u32,
}

/// Reads the first line of a journal; `None` if it says nothing of that kind.
pub fn origin(path: &Path) -> Option<Origin> {
    let mut line = Vec::new();
    let file = BufReader::new(open(path).ok()?);
    Read::take(file, MAX_LINE_BYTES).read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice(check("", &line)?).ok()
}

/// A pipe in its place must not make anybody wait, and what a link points at must
/// not be written to later.
fn open(path: &Path) -> std::io::Result<File> {
    use rustix::fs::OFlags;
    let plain = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(plain).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a file")),
    }
}

fn begin(path: &Path, json: &[u8]) -> Result<(Header, Machine)> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(json)
        .map_err(|e| damaged(path, 0, "its first line names no format").caused_by(e))?;
    if format != FORMAT {
        let age = if format > FORMAT { "a newer" } else { "an older" };
        return Err(Error::new(
            ErrorKind::State,
            format!(
                "{} was written by {age} longhaul (format {format}, this one reads {FORMAT})",
                path.display()
            ),
        )
        .hint("use that longhaul, or set LONGHAUL_STATE_DIR to another folder to start afresh"));
    }
    let header: Header = serde_json::from_slice(json)
        .map_err(|e| damaged(path, 0, "its first line cannot be read").caused_by(e))?;
    if !is_at_home(path, header.run_id) {
        return Err(damaged(path, 0, "it is the journal of another run"));
    }
    let machine = Machine::new(header.run_id, header.params.clone(), header.started_at);
    Ok((header, machine))
}

/// A run's folder is named after it (`runs::RunFolder`): `<start>-<8 hex digits>`.
fn is_at_home(path: &Path, run_id: Uuid) -> bool {
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let Some((_, id)) = folder.and_then(|name| name.rsplit_once('-')) else {
        return true;
    };
    let is_id = id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit());
    !is_id || run_id.simple().to_string().starts_with(id)
}

/// The JSON of a whole line whose digits fit.
fn check<'l>(chain: &str, line: &'l [u8]) -> Option<&'l [u8]> {
    let line = line.strip_suffix(b"\n")?;
    let (digits, json) = (line.get(..16)?, line.get(17..)?);
    (line[16] == b' ' && digits == link(chain, json).as_bytes()).then_some(json)
}

fn link(chain: &str, json: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(chain.as_bytes());
    hash.update(json);
    hash.finalize()[..8].iter().map(|b| format!("{b:02x}")).collect()
}

fn is_last(reader: &mut BufReader<File>) -> bool {
    reader.fill_buf().is_ok_and(<[u8]>::is_empty)
}

fn damaged(path: &Path, entry: u64, why: &str) -> Error {
    let message = format!("the journal {} is damaged at entry {entry}: {why}", path.display());
    // The run's folder, out of `runs` into the folder of the project.
    let run = path.parent().unwrap_or(path);
    let project = run.parent().and_then(Path::parent).unwrap_or(run);
    damaged::refuse(path, message, run, &project.join(""))
}

fn at(path: &Path, what: &str, e: std::io::Error) -> Error {
    let err = Error::io(ErrorKind::State, format!("{what} ({})", path.display()), e);
    if err.kind() == ErrorKind::Disk {
        return err.hint("make room there, then `longhaul run` carries this run on");
    }
    err
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::sim::params;

    fn now(ms: u64) -> Timestamp {
        Timestamp { unix_ms: 1_800_000_000_000 + ms as i64, boot_ms: ms }
    }

    fn header() -> Header {
        Header {
            format: FORMAT,
            run_id: Uuid::from_u128(7),
            project: "/home/user/project".into(),
            started_at: now(0),
            params: params(),
            version: "0".into(),
        }
    }

    fn written() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::create(&path, &header()).unwrap();
        journal.append(now(1), &Event::Started, true).unwrap();
        journal.append(now(2), &Event::Signal { number: 2 }, true).unwrap();
        (dir, path)
    }

    #[test]
    fn what_is_written_is_told() {
        let (_dir, path) = written();
        let told = read(&path).unwrap();
        assert_eq!((told.entries, told.header), (2, header()));
        assert_eq!(told.machine.outcome().unwrap().exit_code(), 130);
    }

    #[test]
    fn a_torn_last_line_is_cut_off_at_every_byte() {
        let (_dir, path) = written();
        let whole = std::fs::read(&path).unwrap();
        let ends: Vec<usize> =
            whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
        for cut in ends[0]..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let told = read(&path).unwrap();
            let expected = ends.iter().filter(|e| **e <= cut).count() as u64 - 1;
            assert_eq!(told.entries, expected, "cut at {cut}");
            let mut journal = Journal::resume(&path, &told).unwrap();
            journal.append(now(3), &Event::Signal { number: 15 }, true).unwrap();
            assert_eq!(read(&path).unwrap().entries, expected + 1);
            let aside = path.with_extension("torn");
            let torn = std::fs::read(&aside).unwrap_or_default();
            assert_eq!(torn, whole[told.good_bytes as usize..cut]);
            let _ = std::fs::remove_file(aside);
        }
    }

    #[test]
    fn a_changed_byte_is_refused_in_every_line_the_last_included() {
        let (_dir, path) = written();
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() - 1 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let err = read(&path).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::State, "byte {at}");
        }
    }

    #[test]
    fn swapped_lines_are_refused() {
        let (_dir, path) = written();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.push(lines[2]);
        lines.swap(1, 2);
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::State);
    }

    #[test]
    fn the_journal_of_another_run_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (folder, is_ours) in [("now-00000000", true), ("now-00000001", false)] {
            let path = dir.path().join(folder).join("journal");
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            Journal::create(&path, &header()).unwrap();
            assert_eq!(read(&path).is_ok(), is_ours, "{folder}");
        }
    }

    #[test]
    fn a_journal_that_was_taken_away_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = Journal::create(&path, &header()).unwrap();
        journal.check_in_place().unwrap();
        std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        assert_eq!(journal.check_in_place().unwrap_err().kind(), ErrorKind::State);
        std::fs::copy(dir.path().join("elsewhere"), &path).unwrap();
        assert_eq!(journal.check_in_place().unwrap_err().kind(), ErrorKind::State);
    }

    #[test]
    fn another_format_is_refused_with_its_number() {
        for (format, words) in [(FORMAT + 1, "a newer longhaul"), (FORMAT - 1, "an older longhaul")]
        {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            Journal::create(&path, &Header { format, ..header() }).unwrap();
            let err = read(&path).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::State);
            assert!(err.message().contains(words), "{}", err.message());
        }
    }
}
