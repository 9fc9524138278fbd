//! Keeping secrets out of what longhaul writes down: the values of secret
//! variables of the environment, and keys of the API by their looks.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, Write};

/// Names that hold one of these words are taken for those of secrets.
const SECRET_WORDS: [&str; 5] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL"];

/// Shorter values (`true`, `32000`) are hardly secret, and part of other words.
const VALUE_MIN_CHARS: usize = 8;

/// How keys and login tokens of the API begin.
const API_KEY_START: &str = "sk-ant-";

/// What follows the end of a line is taken for the rest of a key above it from
/// this length on.
const KEY_TAIL_MIN_BYTES: usize = 16;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Secrets that are known by their words.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Each on one line.
    values: Vec<String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.values.len())
    }
}

impl Secrets {
    /// The secrets among the variables of an environment.
    pub fn among(env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut values = Vec::new();
        for (name, value) in env {
            let name = name.to_string_lossy().to_ascii_uppercase();
            if SECRET_WORDS.iter().any(|word| name.contains(word)) {
                let value = value.to_string_lossy();
                // A private key has several lines.
                let lines = value.lines().map(str::trim);
                let lines = lines.filter(|line| line.chars().count() >= VALUE_MIN_CHARS);
                for line in lines {
                    // The log shows some texts as they would be quoted.
                    let quoted = line.escape_debug().to_string();
                    values.extend(Some(quoted).filter(|quoted| quoted != line));
                    values.push(line.to_owned());
                }
            }
        }
        Self { values }
    }

    /// The text with [`REDACTED`] for each secret in it, also for one that was
    /// wrapped into the next line.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut out = String::new();
        let (mut at, mut kept_to) = (0, 0);
        while let Some(first) = text[at..].chars().next() {
            match self.secret_bytes(&text[at..]) {
                Some(bytes) => {
                    out.push_str(&text[kept_to..at]);
                    out.push_str(REDACTED);
                    at += bytes;
                    kept_to = at;
                }
                None => at += first.len_utf8(),
            }
        }
        if kept_to == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[kept_to..]);
        Cow::Owned(out)
    }

    /// The bytes of the longest secret at the beginning of `text`.
    fn secret_bytes(&self, text: &str) -> Option<usize> {
        let known = self.values.iter().filter_map(|value| value_bytes(text, value)).max();
        known.max(api_key_bytes(text))
    }
}

fn value_bytes(text: &str, value: &str) -> Option<usize> {
    let (mut at, mut matched) = (0, 0);
    for wanted in value.chars() {
        // The rest was cut off.
        if matched >= VALUE_MIN_CHARS && matches!(&text[at..], "" | "…") {
            return Some(at);
        }
        if !text[at..].starts_with(wanted) && at > 0 {
            at += wrap_bytes(&text[at..])?;
        }
        if !text[at..].starts_with(wanted) {
            return None;
        }
        matched += 1;
        at += wanted.len_utf8();
    }
    Some(at)
}

fn api_key_bytes(text: &str) -> Option<usize> {
    let rest = text.strip_prefix(API_KEY_START)?;
    let mut at = API_KEY_START.len() + key_run_bytes(rest);
    // The CLI shows some keys with dots for their middle, and wraps long ones.
    while let Some(wrap) = wrap_bytes(&text[at..]) {
        let tail = key_run_bytes(&text[at + wrap..]);
        if tail < KEY_TAIL_MIN_BYTES {
            break;
        }
        at += wrap + tail;
    }
    (at > API_KEY_START.len()).then_some(at)
}

fn key_run_bytes(text: &str) -> usize {
    let is_outside = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '…'));
    text.find(is_outside).unwrap_or(text.len())
}

/// The end of a line, with what frames it on a screen; `None` if there is none.
fn wrap_bytes(text: &str) -> Option<usize> {
    let is_frame = |c: char| matches!(c, ' ' | '│' | '┃' | '|');
    let behind = text.trim_start_matches(is_frame);
    // The log writes it as an escape.
    let behind = behind.strip_prefix('\n').or_else(|| behind.strip_prefix("\\n"))?;
    Some(text.len() - behind.trim_start_matches(is_frame).len())
}

/// Writes on without the secrets. What is written at once is looked at as one:
/// a line of a log comes whole.
#[derive(Debug)]
pub struct RedactingWriter<W> {
    to: W,
    secrets: Secrets,
}

impl<W: Write> RedactingWriter<W> {
    /// A writer to `to`.
    pub fn new(to: W, secrets: Secrets) -> Self {
        Self { to, secrets }
    }
}

impl<W: Write> Write for RedactingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.to.write_all(self.secrets.redact(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets(env: &[(&str, &str)]) -> Secrets {
        Secrets::among(env.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn the_values_of_secret_variables_are_left_out_and_nothing_else() {
        let secrets = secrets(&[
            ("GITHUB_TOKEN", "ghp_0123456789"),
            ("db_password", "correct horse"),
            ("AWS_SECRET", "ghp_01234567"),
            ("MAX_TOKENS", "32000"),
            ("EDITOR", "longer-than-eight"),
            ("SIGNING_KEY", "-----BEGIN-----\nMIIabcdefgh\nx=\n"),
        ]);
        for (text, wanted) in [
            ("git clone https://ghp_0123456789@host", "git clone https://[redacted]@host"),
            ("ghp_01234567 only", "[redacted] only"),
            ("a correct horse, ghp_0123456789", "a [redacted], [redacted]"),
            ("MIIabcdefgh x=", "[redacted] x="),
            ("32000 longer-than-eight ghp_0123.", "32000 longer-than-eight ghp_0123."),
            ("", ""),
        ] {
            assert_eq!(secrets.redact(text), wanted);
        }
        assert_eq!(format!("{secrets:?}"), "Secrets(5)");
    }

    #[test]
    fn a_value_that_is_wrapped_on_the_screen_is_found() {
        let secrets = secrets(&[("API_TOKEN", "abcdefghij")]);
        assert_eq!(secrets.redact("│ cat abcdef │\n│ ghij now │"), "│ cat [redacted] now │");
        // As the log writes it.
        assert_eq!(secrets.redact("abcdef\\n  ghij"), "[redacted]");
        assert_eq!(secrets.redact("abcdef ghij"), "abcdef ghij");
    }

    #[test]
    fn what_is_left_of_a_value_at_a_cut_is_found_and_so_is_one_in_quotes() {
        let secrets = secrets(&[("A_TOKEN", r#"pa"ss\word-and-more"#)]);
        assert_eq!(secrets.redact(r#"x pa"ss\wor…"#), "x [redacted]…");
        assert_eq!(secrets.redact(r#"x pa"ss\wo"#), "x [redacted]");
        assert_eq!(secrets.redact(r#"x pa"ss"#), r#"x pa"ss"#, "too short to tell");
        assert_eq!(secrets.redact(r#"x="pa\"ss\\word-and-more""#), r#"x="[redacted]""#);
    }

    #[test]
    fn a_key_of_the_api_is_known_by_its_looks() {
        let none = Secrets::default();
        for (text, wanted) in [
            ("key: sk-ant-api03-AbC_d-9, then", "key: [redacted], then"),
            ("ANTHROPIC_API_KEY: sk-ant-...0123456789abcdefghij", "ANTHROPIC_API_KEY: [redacted]"),
            ("│ sk-ant-api03-aaaa │\n│ bbbbbbbbbbbbbbbbbbbb │", "│ [redacted] │"),
            ("sk-ant-api03-aaaa\nDo you want to proceed?", "[redacted]\nDo you want to proceed?"),
            ("the prefix sk-ant- alone", "the prefix sk-ant- alone"),
        ] {
            assert_eq!(none.redact(text), wanted);
        }
    }

    #[test]
    fn the_writer_leaves_them_out_of_each_line() {
        let mut out = Vec::new();
        let secrets = secrets(&[("K_TOKEN", "abcdefgh")]);
        let mut writer = RedactingWriter::new(&mut out, secrets);
        writer.write_all(b"WARN abcdefgh\n").unwrap();
        writer.write_all(b"INFO \xff sk-ant-x\n").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "WARN [redacted]\nINFO \u{fffd} [redacted]\n");
    }

    proptest! {
        #[test]
        fn no_secret_is_left_whatever_stands_around_it(
            before in "[ab│\n é]{0,20}", value in "[abé]{8,12}", behind in "[ab│\n é]{0,20}",
        ) {
            let secrets = secrets(&[("TOKEN", &value)]);
            let text = format!("{before}{value}{behind}");
            prop_assert!(!secrets.redact(&text).contains(&value));
        }
    }
}
