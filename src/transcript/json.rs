//! JSON values taken as they come: a field that is missing or of another type
//! is as good as absent.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapDeserializer;
use serde::de::{Deserializer, Visitor};
use serde_json::value::RawValue;

/// Counts above this are damage, not tokens.
const MAX_COUNT: f64 = 1e12;

/// Dollars above this are damage, not a bill.
const MAX_USD: f64 = 1e6;

/// A field that has not been looked into: skipped over without a copy.
pub(crate) type Raw<'a> = Option<&'a RawValue>;

/// The fields of an object; of one that stands there twice the last, as `JSON.parse`
/// has it.
pub(crate) fn object<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Option<T> {
    fields(raw?.get())
}

pub(super) fn fields<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    // A list would be taken for the fields in their order.
    if !text.starts_with('{') {
        return None;
    }
    let last_of_each = || {
        let fields: BTreeMap<String, &'a RawValue> = serde_json::from_str(text).ok()?;
        T::deserialize(MapDeserializer::new(fields.into_iter())).ok()
    };
    serde_json::from_str(text).ok().or_else(last_of_each)
}

pub(crate) fn array<'a>(raw: Raw<'a>) -> Vec<&'a RawValue> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// A field that is there, even if it is null.
pub(super) fn even_null<'de: 'a, 'a, D>(from: D) -> Result<Raw<'a>, D::Error>
where
    D: Deserializer<'de>,
{
    <&'a RawValue>::deserialize(from).map(Some)
}

/// A string that is not empty.
pub(super) fn word(raw: Raw<'_>) -> Option<String> {
    string(raw).filter(|word| !word.is_empty())
}

pub(crate) fn is_true(raw: Raw<'_>) -> bool {
    raw.is_some_and(|raw| raw.get() == "true")
}

/// A count: whole, not negative, within reason. JSON has no NaN; fractions are
/// cut off.
pub(crate) fn number(raw: Raw<'_>) -> Option<u64> {
    let text = raw?.get();
    let value: f64 = match text.parse::<u64>() {
        Ok(whole) if (whole as f64) <= MAX_COUNT => return Some(whole),
        _ => text.parse().ok()?,
    };
    (0.0..=MAX_COUNT).contains(&value).then_some(value as u64)
}

/// An amount of money; nothing for what is negative or beyond reason.
pub(super) fn dollars(raw: Raw<'_>) -> f64 {
    let usd = raw.and_then(|raw| raw.get().parse::<f64>().ok());
    usd.filter(|usd| (0.0..=MAX_USD).contains(usd)).unwrap_or(0.0)
}

/// A JSON string, even with unpaired surrogates, which JavaScript writes when
/// it cuts text in the middle of a character.
pub(crate) fn string(raw: Raw<'_>) -> Option<String> {
    struct Lossy;
    impl Visitor<'_> for Lossy {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<String, E> {
            Ok(String::from_utf8_lossy(bytes).into_owned())
        }
    }
    let text = raw?.get();
    if !text.starts_with('"') {
        return None;
    }
    serde_json::Deserializer::from_str(text).deserialize_bytes(Lossy).ok()
}
