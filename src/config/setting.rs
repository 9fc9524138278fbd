//! One value, one type: conversions that say key, place, what was expected and what was found.

use std::path::{Component, Path, PathBuf};

use toml::Value;

use super::duration::{format_duration, parse_duration};
use super::layers::{Origin, Settings, Typed, quoted, with_article};
use crate::{Error, Result};

/// Ten years.
const SPAN_MAX_MS: u64 = 3_650 * 86_400_000;
/// No wait of longhaul is longer than this; "0" or "for ever" would be no limit at all.
const WAIT_MAX_MS: u64 = 7 * 86_400_000;

/// A prompt is typed into a terminal; this is far beyond any that is read.
const TEXT_MAX_BYTES: usize = 64 * 1024;

/// Reads the value of one key.
pub(super) struct Reader<'a> {
    key: &'static str,
    typed: &'a Typed,
}

impl Settings {
    /// The reader of `key`.
    pub(super) fn read(&self, key: &'static str) -> Reader<'_> {
        Reader { key, typed: self.get(key) }
    }
}

impl Reader<'_> {
    /// An error about this value.
    pub fn wrong(&self, why: impl std::fmt::Display) -> Error {
        Error::usage(format!("{}: `{}` {why}", self.typed.origin, self.key))
    }

    /// Was it written by the person? Else it is the default.
    pub fn is_written(&self) -> bool {
        self.typed.origin != Origin::Default
    }

    /// The key with its value and where that stands, for a complaint about another key.
    pub fn named(&self, value: impl std::fmt::Display) -> String {
        match &self.typed.origin {
            Origin::Default => format!("`{}`, which is {value} by default", self.key),
            origin => format!("`{}`, which is {value} ({origin})", self.key),
        }
    }

    fn expected(&self, what: &str) -> Error {
        self.wrong(format!("must be {what}, not {}", found(&self.typed.value)))
    }

    /// true or false.
    pub fn boolean(&self) -> Result<bool> {
        self.typed.value.as_bool().ok_or_else(|| self.expected("true or false"))
    }

    /// Text without control characters other than tab and line feed.
    pub fn text(&self) -> Result<String> {
        let text = self.words().ok_or_else(|| self.expected("text in quotes"))?;
        self.check_text(&text)?;
        Ok(text)
    }

    /// Text with more in it than blanks.
    pub fn text_not_empty(&self) -> Result<String> {
        let text = self.text()?;
        if text.trim().is_empty() {
            return Err(self.wrong("must not be empty"));
        }
        Ok(text)
    }

    /// A prompt that is typed while a turn may run: plain text.
    pub fn plain_prompt(&self) -> Result<String> {
        let text = self.text_not_empty()?;
        if text.trim_start().starts_with('/') {
            return Err(self
                .wrong("must not be a slash command")
                .hint("the CLI keeps a slash command until the whole turn is over, which can take hours; plain text is heard at the next tool call"));
        }
        Ok(text)
    }

    fn words(&self) -> Option<String> {
        match (&self.typed.value, &self.typed.words) {
            (Value::String(text), _) => Some(text.clone()),
            (_, Some(words)) => Some(words.clone()),
            _ => None,
        }
    }

    fn check_text(&self, text: &str) -> Result<()> {
        // Typed into a terminal or handed to exec: a control character there is an
        // order to the terminal, and NUL cuts the text.
        if let Some(bad) = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            return Err(self.wrong(format!("holds the control character U+{:04X}", bad as u32)));
        }
        if text.len() > TEXT_MAX_BYTES {
            return Err(self.wrong(format!("is longer than {} KiB", TEXT_MAX_BYTES / 1024)));
        }
        Ok(())
    }

    /// A list of texts.
    pub fn list(&self) -> Result<Vec<String>> {
        let list = "a list of texts";
        let Value::Array(items) = &self.typed.value else {
            return Err(self
                .expected(list)
                .hint(format!("write `{} = [\"one\", \"two\"]`", self.leaf())));
        };
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            let text = item
                .as_str()
                .ok_or_else(|| self.wrong(format!("must be {list}; {} is in it", found(item))))?;
            self.check_text(text)?;
            out.push(text.to_string());
        }
        Ok(out)
    }

    /// Percentages from 1 to `max`; in rising order, each once.
    pub fn percents(&self, max: u16) -> Result<Vec<u16>> {
        let expected = format!("a list of whole numbers from 1 to {max}");
        let Value::Array(items) = &self.typed.value else {
            return Err(self
                .expected(&expected)
                .hint(format!("write `{} = [50, 80, 100]`", self.leaf())));
        };
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            let percent = item.as_integer().and_then(|n| u16::try_from(n).ok());
            let percent = percent.filter(|n| (1..=max).contains(n));
            out.push(
                percent
                    .ok_or_else(|| self.wrong(format!("must be {expected}; {item} is in it")))?,
            );
        }
        out.sort_unstable();
        out.dedup();
        Ok(out)
    }

    /// A program and its arguments; an empty list is none.
    pub fn argv(&self) -> Result<Vec<String>> {
        let argv = self.list()?;
        if argv.first().is_some_and(|program| program.trim().is_empty()) {
            return Err(self
                .wrong("must begin with a program, not with empty text")
                .hint(format!("write `{} = [\"/path/to/it\"]`", self.leaf())));
        }
        Ok(argv)
    }

    /// A whole number in `min..=max`, exact up to 2^53; `5e8` is one too.
    pub fn whole(&self, min: u64, max: u64) -> Result<u64> {
        let n = match self.typed.value {
            Value::Integer(n) => Some(n as f64),
            Value::Float(f) if f.fract() == 0.0 => Some(f),
            _ => None,
        };
        let n = n.ok_or_else(|| self.expected("a whole number"))?;
        if !(n >= min as f64 && n <= max as f64) {
            return Err(self.range(min, max));
        }
        Ok(n as u64)
    }

    /// A number in `min..=max`.
    pub fn number(&self, min: f64, max: f64) -> Result<f64> {
        let n = self.any_number()?;
        if !(n >= min && n <= max) {
            return Err(self.range(min, max));
        }
        Ok(n)
    }

    /// A number above 0 and up to `max`.
    pub fn positive(&self, max: f64) -> Result<f64> {
        let n = self.any_number()?;
        if !(n > 0.0 && n <= max) {
            let shown = bare(&self.typed.value);
            return Err(
                self.finite(self.wrong(format!("must be above 0 and at most {max}, not {shown}")))
            );
        }
        Ok(n)
    }

    fn any_number(&self) -> Result<f64> {
        match self.typed.value {
            Value::Integer(n) => Ok(n as f64),
            Value::Float(f) => Ok(f),
            _ => Err(self.expected("a number")),
        }
    }

    fn range(&self, min: impl std::fmt::Display, max: impl std::fmt::Display) -> Error {
        let shown = bare(&self.typed.value);
        self.finite(self.wrong(format!("must be from {min} to {max}, not {shown}")))
    }

    fn finite(&self, err: Error) -> Error {
        if self.key.starts_with("limits.") {
            return err.hint("every limit is finite on purpose: give the most you would accept");
        }
        err
    }

    /// A number of tokens; 0, "off" and "auto" are none.
    pub fn tokens_or_off(&self) -> Result<Option<u64>> {
        match &self.typed.value {
            Value::String(word) if word == "off" || word == "auto" => Ok(None),
            Value::String(_) => Err(self.expected("a number of tokens, or 0")),
            _ => Ok(Some(self.whole(0, 1_000_000_000)?).filter(|n| *n > 0)),
        }
    }

    /// A wait in milliseconds, longer than nothing and at most a week.
    pub fn wait_ms(&self) -> Result<u64> {
        self.wait_from_ms(1)
    }

    /// The same, but at least `min_ms`.
    pub fn wait_from_ms(&self, min_ms: u64) -> Result<u64> {
        let like = "a duration such as \"90s\", \"10m\" or \"1h30m\"";
        let text = match &self.typed.value {
            Value::String(text) => text,
            Value::Integer(n) => {
                let example = if *n > 0 { *n } else { 90 };
                return Err(self.expected(like).hint(format!("say the unit: `\"{example}s\"`")));
            }
            _ => return Err(self.expected(like)),
        };
        let ms = parse_duration(text).map_err(|why| {
            self.wrong(format!("must be {like}, not {}: {why}", found(&self.typed.value)))
        })?;
        if ms < min_ms || ms > WAIT_MAX_MS {
            let least = match min_ms {
                1 => "longer than 0".into(),
                ms => format!("at least {}", format_duration(ms)),
            };
            return Err(self.wrong(format!("must be {least} and at most 7d, not \"{text}\"")));
        }
        Ok(ms)
    }

    /// A span of days or years, in milliseconds; 0 is allowed.
    pub fn span_ms(&self) -> Result<u64> {
        let text = self.text()?;
        let ms = parse_duration(&text).map_err(|why| {
            self.wrong(format!("must be a duration such as \"7d\" or \"12h\": {why}"))
        })?;
        if ms > SPAN_MAX_MS {
            return Err(self.wrong(format!("must be at most 3650d, not \"{text}\"")));
        }
        Ok(ms)
    }

    /// One of a few words.
    pub fn one_of<'w>(&self, words: &[&'w str]) -> Result<&'w str> {
        let all: Vec<String> = words.iter().map(|w| format!("\"{w}\"")).collect();
        let given = self.typed.value.as_str();
        words
            .iter()
            .find(|word| given == Some(**word))
            .copied()
            .ok_or_else(|| self.expected(&format!("one of {}", all.join(", "))))
    }

    /// A file inside the project.
    pub fn file(&self) -> Result<PathBuf> {
        self.inside(&self.text()?)
    }

    /// Files inside the project: at least one, none twice.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = Vec::new();
        for text in self.list()? {
            let file = self.inside(&text)?;
            if files.contains(&file) {
                return Err(self.wrong(format!("names {} twice", quoted(&text))));
            }
            files.push(file);
        }
        if files.is_empty() {
            return Err(self.wrong("must name at least one file: a checkpoint is proven on them"));
        }
        Ok(files)
    }

    /// `text` as a path below the project, without `.` and without a way out.
    fn inside(&self, text: &str) -> Result<PathBuf> {
        let mut out = PathBuf::new();
        for part in Path::new(text).components() {
            match part {
                Component::Normal(name) => out.push(name),
                Component::CurDir => {}
                Component::ParentDir => {
                    return Err(self.wrong(format!(
                        "must stay inside the project; {} has `..` in it",
                        quoted(text)
                    )));
                }
                Component::RootDir | Component::Prefix(_) => {
                    return Err(self.wrong(format!(
                        "must be relative to the project; {} is absolute",
                        quoted(text)
                    )));
                }
            }
        }
        if out.as_os_str().is_empty() || text.ends_with('/') || text.contains('\n') {
            return Err(self.wrong(format!("must name a file, not {}", quoted(text))));
        }
        Ok(out)
    }

    fn leaf(&self) -> &'static str {
        self.key.rsplit('.').next().unwrap_or(self.key)
    }
}

/// What was found, in words: `the integer 5`.
fn found(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let mut short: String = text.chars().take(40).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            format!("the text \"{}\"", short.escape_debug())
        }
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => bare(value),
        other => with_article(other.type_str()),
    }
}

fn bare(value: &Value) -> String {
    match value {
        Value::Integer(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Boolean(b) => b.to_string(),
        other => with_article(other.type_str()),
    }
}
