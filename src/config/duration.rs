//! Durations as people write them: `90s`, `10m`, `1h30m`.

/// The units, largest first, with their length in milliseconds.
const UNITS_MS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Milliseconds of a duration such as `90s` or `1h30m`: whole numbers, each
/// with its unit, larger units first, each unit at most once.
///
/// # Errors
///
/// What is wrong with the text, in a few words.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty".into());
    }
    let mut total: u64 = 0;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() {
            return Err("a whole number is expected before each unit".into());
        }
        if unit.is_empty() {
            return Err("the unit is missing".into());
        }
        let Some(place) = UNITS_MS.iter().position(|(name, _)| *name == unit) else {
            return Err("the units are d, h, m, s and ms".into());
        };
        if place < next_unit {
            return Err("larger units come first, each once".into());
        }
        next_unit = place + 1;
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(UNITS_MS[place].1))
            .and_then(|ms| total.checked_add(ms))
            .ok_or("it is too long")?;
        rest = tail;
    }
    Ok(total)
}

/// The same duration in the shortest form [`parse_duration`] reads.
pub fn format_duration(ms: u64) -> String {
    if ms == 0 {
        return "0s".into();
    }
    let mut rest = ms;
    let mut out = String::new();
    for (unit, length) in UNITS_MS {
        let n = rest / length;
        rest %= length;
        if n > 0 {
            out.push_str(&format!("{n}{unit}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [
            ("90s", 90_000),
            ("10m", 600_000),
            ("600s", 600_000),
            ("2h", 7_200_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("250ms", 250),
            (" 5m ", 300_000),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_unclear() {
        for text in [
            "",
            "90",
            "m",
            "1h30",
            "30m1h",
            "1m1m",
            "1.5h",
            "-5s",
            "10 m",
            "5min",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn formatting_and_reading_agree(ms in 0u64..10_000_000_000) {
            prop_assert_eq!(parse_duration(&format_duration(ms)), Ok(ms));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_duration(&text);
        }
    }
}
