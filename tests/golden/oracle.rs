//! What transcripts come to, by the rules of dev-docs/USAGE.md: simple and slow, on
//! whole JSON values, with sums in whole pico-dollars. It shares no line with longhaul.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::{Map, Value};

const QUARTER_MS: i64 = 15 * 60 * 1_000;

/// Sums of tokens and money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    pub input: u64,
    pub output: u64,
    pub cache_write_5m: u64,
    pub cache_write_1h: u64,
    pub cache_read: u64,
    /// 10⁻¹² dollars.
    pub cost_pico: u128,
    pub unpriced_tokens: u64,
    pub responses: u64,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.input += other.input;
        self.output += other.output;
        self.cache_write_5m += other.cache_write_5m;
        self.cache_write_1h += other.cache_write_1h;
        self.cache_read += other.cache_read;
        self.cost_pico += other.cost_pico;
        self.unpriced_tokens += other.unpriced_tokens;
        self.responses += other.responses;
    }

    /// Dollars, in whole billionths.
    pub fn cost_nano(&self) -> u64 {
        u64::try_from((self.cost_pico + 500) / 1_000).unwrap()
    }
}

/// What one request came to, and of whom.
#[derive(Debug)]
struct Entry {
    session: String,
    agent: String,
    project: String,
    model: String,
    quarter: Option<i64>,
    sums: Sums,
}

/// What all transcripts come to.
#[derive(Debug, Default)]
pub struct Truth {
    entries: Vec<Entry>,
    pub files: u64,
    pub bad_rows: u64,
    pub unidentified_rows: u64,
}

/// A row that counts.
#[derive(Debug, Clone)]
struct Telling {
    file: usize,
    message: String,
    request: Option<String>,
    unix_ms: Option<i64>,
    is_side: bool,
    /// Another session made the request.
    is_copy: bool,
    is_cut_off: bool,
    /// The requested one goes before the one that answered.
    model: (bool, String),
    usage: Used,
    advisors: Vec<(String, Used)>,
    block: u64,
    chars: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Used {
    /// Input, output, writes, writes for an hour, reads, searches.
    counts: [u64; 6],
    is_fast: bool,
    is_us: bool,
}

struct Transcript {
    session: String,
    agent: String,
    project: String,
}

impl Truth {
    /// Reads all transcripts below these configuration directories.
    pub fn of(config_dirs: &[PathBuf]) -> Truth {
        let mut truth = Truth::default();
        let (mut files, mut tellings) = (Vec::new(), Vec::new());
        for path in transcripts(config_dirs) {
            let rows = truth.rows(&fs::read(&path).unwrap());
            let own: Vec<Telling> =
                rows.iter().filter_map(|row| truth.telling(files.len(), row)).collect();
            tellings.extend(own);
            files.push(Transcript::new(&path, &rows));
        }
        truth.files = files.len() as u64;
        // A subagent works for the project of its session.
        let mains: BTreeMap<String, String> = files
            .iter()
            .filter(|file| file.agent == "main")
            .map(|file| (file.session.clone(), file.project.clone()))
            .collect();
        for file in files.iter_mut().filter(|file| file.agent != "main") {
            if let Some(project) = mains.get(&file.session) {
                file.project.clone_from(project);
            }
        }
        let mut messages: BTreeMap<&str, Vec<&Telling>> = BTreeMap::new();
        for telling in &tellings {
            messages.entry(&telling.message).or_default().push(telling);
        }
        let prices = Prices::read();
        for tellings in messages.values() {
            for response in responses(tellings) {
                truth.count(&response, &files, &prices);
            }
        }
        truth
    }

    /// The rows of a file, and how many pieces of it are none.
    fn rows(&mut self, bytes: &[u8]) -> Vec<Map<String, Value>> {
        let mut rows = Vec::new();
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        // Behind the last newline: nothing, or a line that may still grow.
        let last = lines.pop().unwrap_or_default();
        let has_id = |row: &Map<String, Value>| {
            let message = row.get("message").and_then(Value::as_object);
            message.and_then(|message| text(message, "id")).is_some()
                || text(row, "requestId").or(text(row, "requestRef")).is_some()
        };
        rows.extend(row(&String::from_utf8_lossy(unmarked(last))).filter(has_id));
        let mut before = Vec::new();
        for line in lines {
            let line = unmarked(line).trim_ascii();
            if line.contains(&0) {
                self.bad_rows += 1;
            }
            for piece in line.split(|byte| *byte == 0) {
                // Control characters within texts are no JSON, but harm nothing here.
                let piece = String::from_utf8_lossy(piece).replace(|c: char| c < ' ', " ");
                let piece = piece.trim_ascii();
                // What is long and speaks of no usage is taken for whole if it looks so.
                let first = piece.strip_prefix('{').unwrap_or_default().trim_ascii_start();
                let is_short = piece.len() <= 256;
                let looks_whole = piece.starts_with('{')
                    && piece.ends_with('}')
                    && (is_short || first.starts_with(['"', '}']))
                    && (!is_short || serde_json::from_str::<Value>(piece).is_ok());
                match row(piece) {
                    Some(row) => before.push(row),
                    None if looks_whole && !piece.contains("\"usage\"") => {}
                    None => self.take_apart(piece, &mut before),
                }
            }
        }
        before.append(&mut rows);
        before
    }

    /// Finds the rows in a line, and counts what is between them.
    fn take_apart(&mut self, text: &str, rows: &mut Vec<Map<String, Value>>) {
        let (mut at, mut is_junk) = (0, false);
        while at < text.len() {
            let rest = &text[at..];
            let length = rest.starts_with('{').then(|| whole(rest)).flatten();
            if let Some((length, found)) = length {
                self.bad_rows += u64::from(is_junk);
                is_junk = false;
                rows.push(found);
                at += length;
            } else {
                is_junk |= !rest.starts_with(|c: char| c.is_ascii_whitespace());
                at += rest.chars().next().map_or(1, char::len_utf8);
            }
        }
        self.bad_rows += u64::from(is_junk);
    }

    fn telling(&mut self, file: usize, row: &Map<String, Value>) -> Option<Telling> {
        let message = row.get("message")?.as_object()?;
        let is_error = row.get("isApiErrorMessage") == Some(&Value::Bool(true));
        let answered = text(message, "model").unwrap_or_default();
        if row["type"] != "assistant" || is_error || answered == "<synthetic>" {
            return None;
        }
        let usage = message.get("usage")?.as_object()?;
        let request = text(row, "requestId").or(text(row, "requestRef"));
        let Some(id) = text(message, "id").or(request.clone()) else {
            self.unidentified_rows += 1;
            return None;
        };
        let requested = text(row, "requestedModel");
        let model = requested.clone().unwrap_or(answered);
        let iterations = usage.get("iterations").and_then(Value::as_array).into_iter().flatten();
        let advisors = iterations
            .filter_map(Value::as_object)
            .filter(|part| text(part, "type").as_deref() == Some("advisor_message"))
            .filter_map(|part| Some((part.get("model")?.as_str()?.to_owned(), Used::of(part))));
        let stop = message.get("stop_reason");
        let content = message.get("content").and_then(Value::as_array).into_iter().flatten();
        Some(Telling {
            file,
            message: id,
            request,
            unix_ms: text(row, "timestamp")
                .and_then(|at| at.parse::<Timestamp>().ok())
                .map(Timestamp::as_millisecond),
            is_side: row.get("isSidechain") == Some(&Value::Bool(true)),
            is_copy: {
                let fork = row.get("forkedFrom").and_then(Value::as_object);
                let of = row.get("requestSessionId").filter(|of| of.is_string());
                let of = of.or(fork.and_then(|fork| fork.get("sessionId")));
                of.is_some_and(|of| of.is_string() && Some(of) != row.get("sessionId"))
            },
            is_cut_off: stop.is_some_and(|stop| !stop.is_string()),
            model: (requested.is_some(), if model.is_empty() { "unknown".into() } else { model }),
            usage: Used::of(usage),
            advisors: advisors.collect(),
            block: row.get("apiBlockIndex").map_or(0, count),
            chars: content.map(chars).sum(),
        })
    }

    fn count(&mut self, tellings: &[&Telling], files: &[Transcript], prices: &Prices) {
        let unix_ms = tellings.iter().filter_map(|telling| telling.unix_ms).min();
        // The first that told of it; at the same time who made the request, then the
        // main thread, then by path.
        let owner = tellings
            .iter()
            .min_by_key(|told| {
                let is_side = told.is_side || told.request.is_none();
                (told.unix_ms.unwrap_or(i64::MAX), told.is_copy, is_side, told.file)
            })
            .unwrap();
        let mut used = Used::default();
        for telling in tellings {
            used.grow(&telling.usage);
        }
        if tellings.iter().all(|telling| telling.is_cut_off) {
            let mut blocks: BTreeMap<u64, u64> = BTreeMap::new();
            for telling in tellings {
                let chars = blocks.entry(telling.block).or_default();
                *chars = (*chars).max(telling.chars);
            }
            let chars: u64 = blocks.values().sum();
            // A third, rounded to the nearest, in the place of a placeholder.
            if used.counts[1] <= 8 {
                used.counts[1] = used.counts[1].max((chars + 1) / 3);
            }
        }
        let model = &tellings.iter().max_by_key(|telling| &telling.model).unwrap().model.1;
        self.enter(&files[owner.file], model, unix_ms, &used, 1, prices);
        let most = tellings.iter().map(|telling| telling.advisors.len()).max().unwrap_or(0);
        for at in 0..most {
            let of = || tellings.iter().filter_map(|telling| telling.advisors.get(at));
            let mut advisor = Used { is_us: used.is_us, ..Used::default() };
            of().for_each(|(_, used)| advisor.grow(used));
            advisor.is_fast = false;
            let model = of().map(|(model, _)| model).max().unwrap();
            self.enter(&files[owner.file], model, unix_ms, &advisor, 0, prices);
        }
    }

    fn enter(
        &mut self,
        file: &Transcript,
        model: &str,
        unix_ms: Option<i64>,
        used: &Used,
        responses: u64,
        prices: &Prices,
    ) {
        let [input, output, writes, for_an_hour, cache_read, _] = used.counts;
        let cache_write_1h = for_an_hour.min(writes);
        let cache_write_5m = writes - cache_write_1h;
        let price = prices.price(model, unix_ms, used);
        let all = input + output + writes + cache_read;
        self.entries.push(Entry {
            session: file.session.clone(),
            agent: file.agent.clone(),
            project: file.project.clone(),
            model: model.to_owned(),
            quarter: unix_ms.map(|ms| ms.div_euclid(QUARTER_MS)),
            sums: Sums {
                input,
                output,
                cache_write_5m,
                cache_write_1h,
                cache_read,
                cost_pico: price.unwrap_or(0),
                unpriced_tokens: if price.is_none() { all } else { 0 },
                responses,
            },
        });
    }

    /// All of it.
    pub fn totals(&self) -> Sums {
        let mut sums = Sums::default();
        self.entries.iter().for_each(|entry| sums.add(&entry.sums));
        sums
    }

    /// By one thing, in days of `zone`.
    pub fn by(&self, view: &str, zone: &TimeZone) -> BTreeMap<String, Sums> {
        let blocks = self.blocks();
        let mut rows: BTreeMap<String, Sums> = BTreeMap::new();
        for entry in &self.entries {
            let of_time = |tell: &dyn Fn(Date) -> String| match entry.quarter {
                Some(quarter) => tell(day(quarter, zone)),
                None => "undated".into(),
            };
            let key = match view {
                "daily" => of_time(&|day| day.to_string()),
                "weekly" => of_time(&|day| {
                    let mut monday = day;
                    while monday.weekday() != jiff::civil::Weekday::Monday {
                        monday = monday.yesterday().unwrap();
                    }
                    monday.to_string()
                }),
                "monthly" => of_time(&|day| day.to_string()[..7].to_owned()),
                "blocks" => match entry.quarter {
                    None => "undated".into(),
                    Some(at) => {
                        let start = blocks.iter().rev().find(|start| **start <= at).unwrap();
                        let start = Timestamp::from_millisecond(start * QUARTER_MS).unwrap();
                        start.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
                    }
                },
                "session" => entry.session.clone(),
                "project" => entry.project.clone(),
                "agent" => entry.agent.clone(),
                "model" => entry.model.clone(),
                _ => panic!("no view {view}"),
            };
            rows.entry(key).or_default().add(&entry.sums);
        }
        rows
    }

    fn blocks(&self) -> Vec<i64> {
        let quarters: BTreeSet<i64> =
            self.entries.iter().filter_map(|entry| entry.quarter).collect();
        let mut starts: Vec<i64> = Vec::new();
        for quarter in quarters {
            if starts.last().is_none_or(|start| quarter >= start + 5 * 4) {
                starts.push(quarter - quarter.rem_euclid(4));
            }
        }
        starts
    }
}

fn day(quarter: i64, zone: &TimeZone) -> Date {
    let at = Timestamp::from_millisecond(quarter * QUARTER_MS).unwrap();
    at.checked_add(0.seconds()).unwrap().to_zoned(zone.clone()).date()
}

/// The tellings of each response of one message that counts.
fn responses<'t>(tellings: &[&'t Telling]) -> Vec<Vec<&'t Telling>> {
    let requests: BTreeSet<&String> =
        tellings.iter().filter_map(|telling| telling.request.as_ref()).collect();
    let of = |request: &String| -> Vec<&'t Telling> {
        tellings.iter().copied().filter(|t| t.request.as_ref() == Some(request)).collect()
    };
    let mut responses: Vec<Vec<&Telling>> = requests.into_iter().map(of).collect();
    // A message that the main thread has from one request, or from none, is one response:
    // the others are copies. From several, its id identifies nothing.
    let is_main = |told: &&Vec<&Telling>| told.iter().any(|telling| !telling.is_side);
    let main = responses.iter().filter(is_main).count();
    if main <= 1 && responses.len() <= 256 {
        return vec![tellings.to_vec()];
    }
    if main == 1 {
        responses.retain(|told| is_main(&told));
    }
    // Rows without a request are of the only one, or are all there is.
    let bare: Vec<&Telling> =
        tellings.iter().copied().filter(|telling| telling.request.is_none()).collect();
    match &mut responses[..] {
        [] => responses.push(bare),
        [only] => only.extend(bare),
        _ => {}
    }
    responses
}

impl Transcript {
    fn new(path: &Path, rows: &[Map<String, Value>]) -> Self {
        let first = |key: &str| rows.iter().find_map(|row| row.get(key)?.as_str());
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let parts: Vec<String> =
            path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let subagents = parts.iter().rposition(|part| part == "subagents");
        let id = stem.strip_prefix("agent-").unwrap_or(&stem).to_owned();
        let is_agent = subagents.is_some() || stem.starts_with("agent-");
        let session = match subagents {
            Some(at) => parts[at - 1].clone(),
            None if is_agent => first("sessionId").unwrap_or_default().to_owned(),
            None => stem,
        };
        let meta = fs::read(path.with_extension("meta.json")).unwrap_or_default();
        let meta: Value = serde_json::from_slice(&meta).unwrap_or_default();
        let agent = match is_agent {
            true => meta["agentType"].as_str().map_or(id, str::to_owned),
            false => "main".into(),
        };
        let projects = parts.iter().position(|part| part == "projects").unwrap();
        let project = first("cwd").unwrap_or(&parts[projects + 1]).to_owned();
        Self { session, agent, project }
    }
}

/// Files named `*.jsonl`, each once, by path.
fn transcripts(config_dirs: &[PathBuf]) -> Vec<PathBuf> {
    fn look(dir: &Path, seen: &mut BTreeSet<(u64, u64)>, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        // What lies there goes before what is only linked.
        paths.sort_by_key(|path| (path.is_symlink(), path.clone()));
        for path in paths {
            let Ok(meta) = fs::metadata(&path) else { continue };
            let is_transcript = meta.is_file() && path.extension().is_some_and(|e| e == "jsonl");
            if (!is_transcript && !meta.is_dir()) || !seen.insert((meta.dev(), meta.ino())) {
                continue;
            }
            match is_transcript {
                true => found.push(path),
                false => look(&path, seen, found),
            }
        }
    }
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    for dir in config_dirs {
        let projects = dir.join("projects");
        let Ok(meta) = fs::metadata(&projects) else { continue };
        if seen.insert((meta.dev(), meta.ino())) {
            look(&projects, &mut seen, &mut found);
        }
    }
    found.sort();
    found
}

/// Without the mark that some editors begin a file with.
fn unmarked(line: &[u8]) -> &[u8] {
    line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
}

/// A row, if this is one and nothing else.
fn row(text: &str) -> Option<Map<String, Value>> {
    // Lists in lists, however deep, say nothing here.
    let mut text = text.trim_ascii().to_owned();
    while text.contains("[[[[") {
        text = text.replace("[[", "[").replace("]]", "]");
    }
    let (length, row) = object(&text)?;
    (length == text.len() && row.get("type")?.is_string()).then_some(row)
}

/// A row at the beginning of this text: an object with a type, and with what only rows
/// have. Gives its length too.
fn whole(text: &str) -> Option<(usize, Map<String, Value>)> {
    let (length, row) = object(text)?;
    let is_row = ["message", "sessionId", "timestamp", "uuid"].iter().any(|k| row.contains_key(*k));
    (row.get("type")?.is_string() && is_row).then_some((length, row))
}

/// An object at the beginning of this text, and its length.
fn object(text: &str) -> Option<(usize, Map<String, Value>)> {
    // JavaScript writes halves of characters, which are no JSON to others.
    let mended = mend(text);
    let mut values = serde_json::Deserializer::from_str(&mended).into_iter::<Value>();
    let value = values.next()?.ok()?;
    let length = values.byte_offset();
    match value {
        Value::Object(object) => Some((length, object)),
        _ => None,
    }
}

/// Replaces escapes of half a surrogate pair; as many bytes as before.
fn mend(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        mended.push_str(&rest[..at]);
        rest = &rest[at..];
        let unit = |text: &str| u16::from_str_radix(text.get(2..6)?, 16).ok();
        let is_unit = rest.starts_with("\\u");
        let (first, second) = (unit(rest), rest.get(6..).filter(|s| s.starts_with("\\u")));
        let (length, as_is) = match first.filter(|_| is_unit) {
            Some(0xd800..=0xdbff) => match second.and_then(unit) {
                Some(0xdc00..=0xdfff) => (12, true),
                _ => (6, false),
            },
            Some(0xdc00..=0xdfff) => (6, false),
            Some(_) => (6, true),
            None => (rest.chars().take(2).map(char::len_utf8).sum(), true),
        };
        mended.push_str(if as_is { &rest[..length] } else { "\\ufffd" });
        rest = &rest[length..];
    }
    mended.push_str(rest);
    mended
}

/// A string that is not empty.
fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// What arrived in a block, in UTF-16 units.
fn chars(block: &Value) -> u64 {
    let units = |text: &str| text.encode_utf16().count() as u64;
    let of = |key: &str| units(block[key].as_str().unwrap_or_default());
    match block["type"].as_str() {
        Some("text") => of("text"),
        Some("thinking") => of("thinking"),
        Some("tool_use") => {
            of("name") + block.get("input").map_or(0, |input| units(&input.to_string()))
        }
        _ => 0,
    }
}

/// Whole, not negative, at most 10¹²; anything else is 0.
fn count(value: &Value) -> u64 {
    let Value::Number(number) = value else { return 0 };
    let count = number.as_f64().unwrap_or(0.0);
    if (0.0..=1e12).contains(&count) { count as u64 } else { 0 }
}

impl Used {
    fn of(usage: &Map<String, Value>) -> Self {
        let at = |object: Option<&Value>, key: &str| {
            object.and_then(|object| object.get(key)).map_or(0, count)
        };
        let own = |key: &str| usage.get(key).map_or(0, count);
        let split = usage.get("cache_creation");
        let long = at(split, "ephemeral_1h_input_tokens");
        let written = match own("cache_creation_input_tokens") {
            0 => long + at(split, "ephemeral_5m_input_tokens"),
            sum => sum,
        };
        Self {
            counts: [
                own("input_tokens"),
                own("output_tokens"),
                written,
                long,
                own("cache_read_input_tokens"),
                at(usage.get("server_tool_use"), "web_search_requests"),
            ],
            is_fast: text(usage, "speed").as_deref() == Some("fast"),
            is_us: text(usage, "inference_geo").as_deref() == Some("us"),
        }
    }

    fn grow(&mut self, other: &Used) {
        for (kept, more) in self.counts.iter_mut().zip(other.counts) {
            *kept = (*kept).max(more);
        }
        self.is_fast |= other.is_fast;
        self.is_us |= other.is_us;
    }
}

/// The table of prices, read anew.
struct Prices(toml::Table);

impl Prices {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/models.toml");
        Self(fs::read_to_string(path).unwrap().parse().unwrap())
    }

    fn price(&self, name: &str, unix_ms: Option<i64>, used: &Used) -> Option<u128> {
        let models = self.0["model"].as_array().unwrap();
        let model = models.iter().find(|model| {
            let aliases = model.get("aliases").and_then(toml::Value::as_array);
            std::iter::once(&model["id"])
                .chain(aliases.into_iter().flatten())
                .any(|known| is_name_of(name, known.as_str().unwrap()))
        })?;
        let [input, output, writes, for_an_hour, read, searches] = used.counts;
        let prompt = input + writes + read;
        let from = |price: &toml::Value| -> i64 {
            let Some(day) = price.get("from") else { return i64::MIN };
            let midnight = format!("{}T00:00:00Z", day.as_str().unwrap());
            midnight.parse::<Timestamp>().unwrap().as_millisecond()
        };
        let above = |price: &toml::Value| {
            price.get("prompt_above").map_or(-1, |at| at.as_integer().unwrap())
        };
        // The newest in force, and of those the highest that the prompt reaches.
        let price = model["price"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|price| from(price) <= unix_ms.unwrap_or(i64::MAX))
            .filter(|price| above(price) < prompt as i64)
            .max_by_key(|price| (from(price), above(price)))
            .unwrap();
        let long = for_an_hour.min(writes);
        let parts = [
            ("input", input),
            ("output", output),
            ("cache_write_5m", writes - long),
            ("cache_write_1h", long),
            ("cache_read", read),
        ];
        let mut pico: u128 =
            parts.iter().map(|(key, count)| pico(&price[*key], 6) * u128::from(*count)).sum();
        if used.is_fast {
            pico *= model.get("fast").map_or(1, |fast| fast.as_integer().unwrap() as u128);
        }
        let extras = &self.0["extras"];
        if used.is_us {
            pico = pico * extras["us_inference_percent"].as_integer().unwrap() as u128 / 100;
        }
        let search = self::pico(&extras["web_search_per_thousand"], 9);
        Some(pico + search * u128::from(searches))
    }
}

/// A decimal number times ten to the `places`, exactly.
fn pico(price: &toml::Value, places: usize) -> u128 {
    let text = price.as_float().unwrap().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}{fraction:0<places$}").parse().unwrap()
}

/// Is `name` this id, with what providers, dates and long windows put around it?
fn is_name_of(name: &str, id: &str) -> bool {
    let mut rest = name.strip_suffix("[1m]").unwrap_or(name);
    let Some(at) = rest.rfind(id) else { return false };
    let before = &rest[..at];
    rest = &rest[at + id.len()..];
    let is_date = |text: &str| text.len() == 8 && text.chars().all(|c| c.is_ascii_digit());
    let behind: Vec<&str> = rest.split(['-', '@']).collect();
    let is_version = |text: &str| {
        text.strip_prefix('v').is_some_and(|v| v.chars().all(|c| c.is_ascii_digit() || c == ':'))
    };
    let fits = match &behind[..] {
        [""] => true,
        ["", one] => *one == "latest" || is_date(one) || is_version(one),
        ["", date, version] => is_date(date) && is_version(version),
        _ => false,
    };
    fits && (before.is_empty() || before.ends_with('/') || before.ends_with("anthropic."))
}
