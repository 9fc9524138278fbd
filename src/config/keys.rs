//! The keys that exist, read from `default.toml` itself, and the nearest one to a slip.

use std::sync::OnceLock;

use super::DEFAULT_TOML;

/// One row of the configuration table: a key as the README shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDoc {
    /// The section and the key, such as `limits.max_hours`.
    pub key: String,
    /// The default as written in TOML.
    pub default: String,
    /// The comment above the key, on one line.
    pub comment: String,
}

/// Every key in the order of `default.toml`.
pub fn key_docs() -> &'static [KeyDoc] {
    static DOCS: OnceLock<Vec<KeyDoc>> = OnceLock::new();
    DOCS.get_or_init(|| read_docs(DEFAULT_TOML))
}

/// `default.toml` is ours and simple: one line a key, comments above it.
fn read_docs(text: &str) -> Vec<KeyDoc> {
    let mut docs = Vec::new();
    let mut section = "";
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix('#') {
            comment.push(words.trim());
        } else if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name;
            comment.clear();
        } else if let Some((key, value)) = line.split_once(" = ") {
            docs.push(KeyDoc {
                key: format!("{section}.{key}"),
                default: value.to_string(),
                comment: comment.join(" "),
            });
            comment.clear();
        } else {
            comment.clear();
        }
    }
    docs
}

/// Whether `section.key` exists.
pub(super) fn is_key(key: &str) -> bool {
    key_docs().iter().any(|doc| doc.key == key)
}

/// Whether `name` is a section.
pub(super) fn is_section(name: &str) -> bool {
    sections().any(|section| section == name)
}

/// The sections, with repeats.
fn sections() -> impl Iterator<Item = &'static str> {
    key_docs().iter().filter_map(|doc| doc.key.split_once('.').map(|(section, _)| section))
}

/// The key nearest to `given`: the same name in another section first, then
/// the one that takes the fewest changes.
pub(super) fn nearest_key(given: &str) -> &'static str {
    let leaf = |key: &str| key.rsplit('.').next().map(str::to_string).unwrap_or_default();
    let wanted = leaf(given).replace('-', "_");
    let score = |key: &str| {
        let whole = strsim::normalized_damerau_levenshtein(key, given);
        let name = strsim::normalized_damerau_levenshtein(&leaf(key), &wanted);
        // The name says more than the section: sections are mixed up, names mistyped.
        whole + 1.5 * name
    };
    key_docs()
        .iter()
        .map(|doc| doc.key.as_str())
        .max_by(|a, b| score(a).total_cmp(&score(b)))
        .expect("default.toml has keys")
}

/// The section nearest to `given`.
pub(super) fn nearest_section(given: &str) -> &'static str {
    let score = |name: &str| strsim::normalized_damerau_levenshtein(name, given);
    sections().max_by(|a, b| score(a).total_cmp(&score(b))).expect("default.toml has sections")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_defaults_has_a_comment() {
        for doc in key_docs() {
            assert!(doc.comment.len() > 8, "{} needs a comment", doc.key);
        }
    }

    #[test]
    fn the_table_holds_exactly_the_keys_toml_sees() {
        let table: toml::Table = DEFAULT_TOML.parse().unwrap();
        let mut seen: Vec<String> = Vec::new();
        for (section, keys) in &table {
            for (key, value) in keys.as_table().unwrap() {
                let name = format!("{section}.{key}");
                let doc = key_docs().iter().find(|d| d.key == name).unwrap();
                let row: toml::Table = format!("x = {}", doc.default).parse().unwrap();
                assert_eq!(&row["x"], value, "{name}");
                seen.push(name);
            }
        }
        assert_eq!(seen.len(), key_docs().len());
    }

    #[test]
    fn slips_find_their_key() {
        for (given, key) in [
            ("limits.max_hour", "limits.max_hours"),
            ("limit.max_hours", "limits.max_hours"),
            ("max_hours", "limits.max_hours"),
            ("threshold_percent", "context.threshold_percent"),
            ("session.threshold_percent", "context.threshold_percent"),
            ("checkpoint.fils", "checkpoint.files"),
            ("task.verfy", "task.verify"),
            ("limits.max-cost-usd", "limits.max_cost_usd"),
            ("claude.cmd", "claude.command"),
            ("claude.arguments", "claude.args"),
        ] {
            assert_eq!(nearest_key(given), key, "{given}");
        }
        assert_eq!(nearest_section("limit"), "limits");
        assert_eq!(nearest_section("checkpoints"), "checkpoint");
    }
}
