//! The layers as typed: each value with the place it was written at, so that a
//! complaint can name it; unknown keys are refused here.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{DEFAULT_TOML, Places, keys};
use crate::{Error, ErrorKind, Result};

/// A configuration file is a page of text; more is a mistake in the path.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The one key that holds a table, whose entries come together from all layers.
const ENV: &str = "claude.env";

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// `default.toml`.
    Default,
    /// A file and its line.
    File { name: String, line: usize },
    /// `--set`.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("config/default.toml"),
            Origin::File { name, line } => write!(f, "{name}:{line}"),
            Origin::Flag => f.write_str("--set"),
        }
    }
}

/// One value as typed.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    /// Where.
    pub origin: Origin,
    /// What.
    pub value: toml::Value,
    /// The words after `=` of a `--set`, for keys that hold text: `--set
    /// task.verify=true` means the command `true`.
    pub words: Option<String>,
}

/// All layers put together, the later over the earlier.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    values: BTreeMap<String, Typed>,
    env: BTreeMap<String, Typed>,
}

impl Settings {
    /// The first layer.
    pub fn defaults() -> Settings {
        let mut settings = Settings { values: BTreeMap::new(), env: BTreeMap::new() };
        settings
            .add_toml(DEFAULT_TOML, &|_| Origin::Default)
            .expect("default.toml is checked by a test");
        settings
    }

    /// The value of a key of `default.toml`.
    pub fn get(&self, key: &'static str) -> &Typed {
        self.values.get(key).expect("a test reads every key of default.toml")
    }

    /// Where each key was written that does not have its default.
    pub fn places(&self) -> Places {
        let written = self.values.iter().filter(|(_, typed)| typed.origin != Origin::Default);
        Places(written.map(|(key, typed)| (key.clone(), typed.origin.to_string())).collect())
    }

    /// The entries of `claude.env`.
    pub fn env(&self) -> &BTreeMap<String, Typed> {
        &self.env
    }

    /// Adds a file; `name` is what messages call it.
    pub fn add_file(&mut self, name: &str, text: &str) -> Result<()> {
        let at =
            |offset: usize| Origin::File { name: name.to_string(), line: line_of(text, offset) };
        self.add_toml(text, &at)
    }

    /// Adds one `section.key=value`.
    pub fn add_flag(&mut self, flag: &str) -> Result<()> {
        let shape = || {
            Error::usage(format!("--set {}: expected section.key=value", quoted(flag)))
                .hint("for example `--set limits.max_hours=8`")
        };
        let (key, words) = flag.split_once('=').ok_or_else(shape)?;
        let key = key.trim();
        if key.is_empty()
            || !key.contains('.') && !keys::is_section(key) && key.contains(char::is_whitespace)
        {
            return Err(shape());
        }
        let value = parse_words(words);
        let typed = Typed { origin: Origin::Flag, value, words: Some(words.to_string()) };
        if let Some(name) = key.strip_prefix(ENV).and_then(|rest| rest.strip_prefix('.')) {
            self.env.insert(name.to_string(), typed);
            return Ok(());
        }
        if keys::is_section(key) {
            return Err(Error::usage(format!("--set: `{key}` is a section; name a key in it"))
                .hint(format!("the keys are {}", section_keys(key))));
        }
        self.put(key, typed)
    }

    fn add_toml(&mut self, text: &str, at: &dyn Fn(usize) -> Origin) -> Result<()> {
        let table = DeTable::parse(text).map_err(|err| {
            let origin = at(err.span().map_or(0, |span| span.start));
            Error::usage(format!("{origin}: not valid TOML: {}", err.message().trim()))
        })?;
        for (section, body) in table.get_ref() {
            let origin = at(section.span().start);
            let name: &str = section.get_ref();
            let keys_of = match body.get_ref() {
                DeValue::Table(inner) if keys::is_section(name) => inner,
                DeValue::Table(_) => return Err(unknown_section(&origin, name)),
                other if keys::is_section(name) => {
                    return Err(Error::usage(format!(
                        "{origin}: `{name}` is a section, not {}",
                        with_article(other.type_str())
                    ))
                    .hint(format!("write [{name}] on a line of its own, and its keys below it")));
                }
                _ => return Err(unknown_key(&origin, name)),
            };
            for (key, value) in keys_of {
                let origin = at(key.span().start);
                let key = format!("{name}.{}", key.get_ref());
                let value = plain(value)
                    .map_err(|why| Error::usage(format!("{origin}: `{key}`: {why}")))?;
                self.put(&key, Typed { origin, value, words: None })?;
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &str, typed: Typed) -> Result<()> {
        if !keys::is_key(key) {
            return Err(unknown_key(&typed.origin, key));
        }
        if key != ENV {
            self.values.insert(key.to_string(), typed);
            return Ok(());
        }
        let toml::Value::Table(entries) = typed.value else {
            return Err(Error::usage(format!(
                "{}: `{ENV}` must be a table of variables, not {}",
                typed.origin,
                with_article(typed.value.type_str())
            ))
            .hint("write `env = { NAME = \"value\" }`, or `--set claude.env.NAME=value`"));
        };
        for (name, value) in entries {
            self.env.insert(name, Typed { origin: typed.origin.clone(), value, words: None });
        }
        Ok(())
    }
}

/// The text of a configuration file; `None` if there is none.
pub(super) fn read_file(path: &Path) -> Result<Option<String>> {
    use rustix::fs::{Mode, OFlags};
    let shown = path.display();
    let cannot = |err: rustix::io::Errno| {
        Error::io(
            ErrorKind::Usage,
            format!("cannot read the configuration file {shown}"),
            err.into(),
        )
    };
    // A FIFO must not hang the start: it is opened without waiting, then refused.
    let file = match rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(fd) => std::fs::File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(err) => return Err(cannot(err)),
    };
    let read = |err| {
        Error::io(ErrorKind::Usage, format!("cannot read the configuration file {shown}"), err)
    };
    let kind = file.metadata().map_err(read)?.file_type();
    if kind.is_dir() {
        return Err(Error::usage(format!("the configuration file {shown} is a directory")));
    }
    if !kind.is_file() {
        return Err(Error::usage(format!("the configuration file {shown} is not a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(Error::usage(format!("the configuration file {shown} is larger than 1 MiB"))
            .hint("is this the file you meant?"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(err) => {
            let good = err.utf8_error().valid_up_to();
            let line = err.as_bytes()[..good].iter().filter(|b| **b == b'\n').count() + 1;
            Err(Error::usage(format!("{shown}:{line}: the configuration file is not UTF-8"))
                .hint("save it as UTF-8 text"))
        }
    }
}

/// `--set` values are TOML if they read as TOML, else text.
fn parse_words(words: &str) -> toml::Value {
    DeValue::parse(words)
        .ok()
        .and_then(|value| plain(&value).ok())
        .unwrap_or_else(|| toml::Value::String(words.to_string()))
}

/// Without places. Numbers that TOML can write but no field can hold are refused.
fn plain(value: &Spanned<DeValue<'_>>) -> Result<toml::Value, &'static str> {
    Ok(match value.get_ref() {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix())
            .map(toml::Value::Integer)
            .map_err(|_| "the number is too large")?,
        DeValue::Float(n) => {
            n.as_str().parse().map(toml::Value::Float).map_err(|_| "the number cannot be read")?
        }
        DeValue::Boolean(b) => toml::Value::Boolean(*b),
        DeValue::Datetime(d) => toml::Value::Datetime(*d),
        DeValue::Array(items) => {
            toml::Value::Array(items.iter().map(plain).collect::<Result<_, _>>()?)
        }
        DeValue::Table(items) => toml::Value::Table(
            items
                .iter()
                .map(|(key, value)| Ok((key.get_ref().to_string(), plain(value)?)))
                .collect::<Result<_, &'static str>>()?,
        ),
    })
}

fn unknown_key(origin: &Origin, key: &str) -> Error {
    Error::usage(format!("{origin}: unknown key {}", quoted(key)))
        .hint(format!("the nearest key is `{}`", keys::nearest_key(key)))
}

fn unknown_section(origin: &Origin, name: &str) -> Error {
    let nearest = keys::nearest_section(name);
    Error::usage(format!("{origin}: unknown section [{}]", name.escape_debug()))
        .hint(format!("the nearest section is [{nearest}]; its keys are {}", section_keys(nearest)))
}

fn section_keys(section: &str) -> String {
    let keys: Vec<&str> = keys::key_docs()
        .iter()
        .filter_map(|doc| doc.key.strip_prefix(section)?.strip_prefix('.'))
        .collect();
    keys.join(", ")
}

/// What the user typed, safe to print.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", text.escape_debug())
}

/// `integer` -> `an integer`.
pub(super) fn with_article(type_name: &str) -> String {
    match type_name {
        "string" => "text".into(),
        "integer" => "an integer".into(),
        "array" => "a list".into(),
        "boolean" => "true or false".into(),
        other => format!("a {other}"),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    text.as_bytes()[..end].iter().filter(|b| **b == b'\n').count() + 1
}
