//! Transcripts as the CLI writes them, with totals that are known.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

/// What all transcripts come to, each response once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub input: u64,
    pub output: u64,
    pub cache_write: u64,
    pub cache_read: u64,
}

/// Projects that the sessions are of.
const PROJECTS: u32 = 40;
const MODELS: [&str; 3] = ["claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-4-5-20251001"];
/// 1 November 2026.
const BEGIN_UNIX_S: u64 = 1_793_491_200;

/// A sequence of numbers, the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        // xorshift64*, G. Marsaglia and S. Vigna.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn pick<'a>(&mut self, of: &'a [String]) -> &'a str {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// Text of about so many bytes, with what JSON escapes.
fn words(dice: &mut Dice, bytes: usize) -> String {
    const WORDS: [&str; 12] = [
        "fn",
        "main()",
        "{",
        "}",
        "let",
        "the",
        "tests",
        "\\\"quoted\\\"",
        "pass",
        "\\n",
        "\\\\d",
        "été",
    ];
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        text.push_str(WORDS[dice.below(WORDS.len() as u64) as usize]);
        text.push(' ');
    }
    text
}

/// Writes `sessions` transcripts of `bytes` bytes together below `config_dir`.
pub fn make(config_dir: &Path, sessions: u32, bytes: u64) -> Totals {
    let mut dice = Dice(7);
    let texts: Vec<String> = [400_usize; 40]
        .iter()
        .chain(&[1_500; 30])
        .chain(&[6_000; 15])
        .chain(&[20_000; 3])
        .map(|bytes| words(&mut dice, *bytes))
        .collect();
    let mut totals = Totals::default();
    for session in 0..sessions {
        let project = config_dir.join(format!("projects/-home-p{}", session % PROJECTS));
        fs::create_dir_all(&project).unwrap();
        let id = format!("{:08x}-0000-4000-8000-{:012x}", session, dice.next() >> 16);
        let file = fs::File::create(project.join(format!("{id}.jsonl"))).unwrap();
        let mut file = BufWriter::new(file);
        write(&mut file, &mut dice, &texts, session, &id, bytes / u64::from(sessions), &mut totals);
        file.flush().unwrap();
    }
    totals
}

/// Appends a response to `sessions` transcripts, and gives the bytes of it.
pub fn append(config_dir: &Path, round: u32, sessions: u32, totals: &mut Totals) -> u64 {
    let mut dice = Dice(1_000 + u64::from(round));
    let texts = [words(&mut dice, 2_000)];
    let mut bytes = 0;
    for session in 0..sessions {
        let project = config_dir.join(format!("projects/-home-p{}", session % PROJECTS));
        let first = |entry: &fs::DirEntry| {
            entry.file_name().to_string_lossy().starts_with(&format!("{session:08x}"))
        };
        let all = fs::read_dir(project).unwrap().map(Result::unwrap);
        let path = all.into_iter().find(first).unwrap().path();
        let mut file = fs::File::options().append(true).open(path).unwrap();
        let mut lines = Vec::new();
        write(&mut lines, &mut dice, &texts, session, "appended", 1, totals);
        file.write_all(&lines).unwrap();
        bytes += lines.len() as u64;
    }
    bytes
}

fn write(
    file: &mut impl Write,
    dice: &mut Dice,
    texts: &[String],
    session: u32,
    id: &str,
    bytes: u64,
    totals: &mut Totals,
) {
    let (mut written, mut at_s) = (0, BEGIN_UNIX_S + dice.below(20 * 86_400));
    let mut context = 15_000;
    let of = format!(
        r#""isSidechain":false,"userType":"external","cwd":"/home/p{}","sessionId":"{id}","version":"2.1.329","gitBranch":"main""#,
        session % PROJECTS
    );
    while written < bytes {
        at_s += 2 + dice.below(40);
        let at = jiff::Timestamp::from_second(at_s as i64).unwrap();
        let at = at.strftime("%Y-%m-%dT%H:%M:%S.000Z");
        let (result, output) = (dice.pick(texts), dice.pick(texts));
        let mut lines = format!(
            "{{{of},\"type\":\"user\",\"message\":{{\"role\":\"user\",\"content\":[{{\"tool_use_id\":\"toolu_{:x}\",\"type\":\"tool_result\",\"content\":\"{result}\"}}]}},\"uuid\":\"{:x}\",\"timestamp\":\"{at}\",\"toolUseResult\":{{\"stdout\":\"{output}\"}}}}\n",
            dice.next(),
            dice.next()
        );
        let (message, request) = (dice.next(), dice.next());
        let model = MODELS[dice.below(3) as usize];
        let (input, write) = (2 + dice.below(7), 200 + dice.below(2_800));
        let (output, read) = (30 + dice.below(900), context);
        context += write;
        totals.input += input;
        totals.output += output;
        totals.cache_write += write;
        totals.cache_read += read;
        for _ in 0..1 + dice.below(3) {
            let text = dice.pick(texts);
            lines.push_str(&format!(
                "{{{of},\"message\":{{\"model\":\"{model}\",\"id\":\"msg_{message:x}\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}],\"stop_reason\":\"tool_use\",\"stop_sequence\":null,\"usage\":{{\"input_tokens\":{input},\"cache_creation_input_tokens\":{write},\"cache_read_input_tokens\":{read},\"cache_creation\":{{\"ephemeral_5m_input_tokens\":{write},\"ephemeral_1h_input_tokens\":0}},\"output_tokens\":{output},\"service_tier\":\"standard\",\"inference_geo\":\"not_available\"}}}},\"requestId\":\"req_{request:x}\",\"type\":\"assistant\",\"uuid\":\"{:x}\",\"timestamp\":\"{at}\"}}\n",
                dice.next()
            ));
        }
        file.write_all(lines.as_bytes()).unwrap();
        written += lines.len() as u64;
    }
}
