//! The words of a time, one after the other.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

use super::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, zone};

/// What is left of a lower-case text, split at spaces and commas.
#[derive(Debug, Clone)]
pub(super) struct Words<'t> {
    rest: &'t str,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

impl<'t> Words<'t> {
    pub(super) fn of(rest: &'t str) -> Self {
        Self { rest }
    }

    /// The next word; a line break is as good as a space, for a screen breaks
    /// lines where it must.
    pub(super) fn peek(&self) -> Option<&'t str> {
        let rest = self.trimmed();
        // "8pm(UTC)" is two.
        let ends = |(at, c): &(usize, char)| is_gap(*c) || *c == '(' && *at > 0;
        let end = rest.char_indices().find(ends).map_or(rest.len(), |(at, _)| at);
        (end > 0).then(|| &rest[..end])
    }

    pub(super) fn skip(&mut self) -> Option<&'t str> {
        let word = self.peek()?;
        self.rest = &self.trimmed()[word.len()..];
        Some(word)
    }

    fn trimmed(&self) -> &'t str {
        self.rest.trim_start_matches(is_gap)
    }

    /// Takes the next word if it is one of `these`.
    pub(super) fn take_any(&mut self, these: &[&str]) -> bool {
        let fits = self.peek().is_some_and(|word| these.contains(&bare(word)));
        if fits {
            self.skip();
        }
        fits
    }

    /// Takes the next word if `read` can make something of it.
    fn take<T>(&mut self, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let found = read(bare(self.peek()?))?;
        self.skip();
        Some(found)
    }

    pub(super) fn weekday(&mut self) -> Option<Weekday> {
        self.take(|word| {
            let fits = |(name, _): &&(&str, Weekday)| begins(name, word);
            WEEKDAYS.iter().find(fits).map(|(_, weekday)| *weekday)
        })
    }

    pub(super) fn month(&mut self) -> Option<i8> {
        self.take(|word| (1..).zip(MONTHS).find(|(_, name)| begins(name, word)).map(|(n, _)| n))
    }

    pub(super) fn day_of_month(&mut self) -> Option<i8> {
        self.take(|word| {
            let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let ordinal = &word[digits.len()..];
            if !["", "st", "nd", "rd", "th"].contains(&ordinal) {
                return None;
            }
            digits.parse().ok().filter(|day| (1..=31).contains(day))
        })
    }

    pub(super) fn year(&mut self) -> Option<i16> {
        self.take(|word| word.parse().ok().filter(|year| (2000..3000).contains(year)))
    }

    /// `8pm`, `8:30 p.m.`, `22:26`, `22:26:00`, `noon`, `midnight`.
    pub(super) fn time(&mut self) -> Option<Time> {
        if self.take_any(&["midnight"]) {
            return Some(Time::midnight());
        }
        if self.take_any(&["noon"]) {
            return Time::new(12, 0, 0, 0).ok();
        }
        let before = self.clone();
        let found = self.clock_time();
        if found.is_none() {
            *self = before;
        }
        found
    }

    fn clock_time(&mut self) -> Option<Time> {
        let word = bare(self.skip()?);
        let digits = word.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(word.len());
        let (clock, half) = word.split_at(digits);
        let mut fields = clock.split(':');
        let hour: i8 = fields.next()?.parse().ok()?;
        let minute = fields.next().map(two_digits);
        let second = fields.next().map(two_digits);
        if fields.next().is_some() {
            return None;
        }
        let half = match half {
            "" => self.take(half_of_day),
            half => Some(half_of_day(half)?),
        };
        let hour = match half {
            // A bare number is not a time.
            None => minute.map(|_| hour)?,
            Some(afternoon) if (1..=12).contains(&hour) => {
                hour % 12 + if afternoon { 12 } else { 0 }
            }
            Some(_) => return None,
        };
        let minute = minute.unwrap_or(Some(0))?;
        Time::new(hour, minute, second.unwrap_or(Some(0))?, 0).ok()
    }

    /// `(Europe/Berlin)` or a bare `UTC`: `None` if no zone is named,
    /// `Some(None)` if there is none of that name.
    pub(super) fn zone(&mut self) -> Option<Option<TimeZone>> {
        if self.take_any(&["utc", "gmt", "z"]) {
            return Some(Some(TimeZone::UTC));
        }
        let inner = self.trimmed().strip_prefix('(')?;
        let Some((name, rest)) = inner.split_once(')') else {
            return Some(None);
        };
        self.rest = rest;
        // A screen may have broken the name over two lines.
        let name: String = name.split_whitespace().collect();
        Some(zone(&name))
    }

    /// What stands in the parenthesis that comes next.
    pub(super) fn open_parenthesis(&mut self) -> Option<Words<'t>> {
        let inner = self.trimmed().strip_prefix('(')?;
        let end = inner.find(')')?;
        self.rest = &inner[end + 1..];
        Some(Words::of(&inner[..end]))
    }
}

/// `2h`, `15 minutes`, `an hour`: the number, and the unit in milliseconds.
/// Of `2h15m` only the first is taken.
pub(super) fn first_number_unit(words: &mut Words<'_>) -> Option<(i64, i64)> {
    let mut ahead = words.clone();
    if ahead.take_any(&["a", "an"]) {
        let unit = ahead.take(unit_ms)?;
        *words = ahead;
        return Some((1, unit));
    }
    let rest = ahead.trimmed();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let number: i64 = rest[..digits].parse().ok()?;
    // At most one space between the number and its unit.
    let unit_at = &rest[digits..];
    let unit_at = unit_at.strip_prefix(' ').unwrap_or(unit_at);
    let letters = unit_at.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit_at.len());
    let unit = unit_ms(&unit_at[..letters])?;
    words.rest = &unit_at[letters..];
    Some((number, unit))
}

fn unit_ms(word: &str) -> Option<i64> {
    match word {
        "s" | "sec" | "secs" | "second" | "seconds" => Some(SECOND_MS),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(MINUTE_MS),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some(HOUR_MS),
        "d" | "day" | "days" => Some(DAY_MS),
        _ => None,
    }
}

fn is_gap(c: char) -> bool {
    c.is_whitespace() || c == ','
}

/// Without the punctuation of the sentence it stands in.
fn bare(word: &str) -> &str {
    word.trim_end_matches(['.', ';', ')', '!', '·', '∙', '•'])
}

/// Is `word` the beginning of `name`, three letters at least?
fn begins(name: &str, word: &str) -> bool {
    word.len() >= 3 && name.starts_with(word) || word == "sept" && name == "september"
}

fn two_digits(field: &str) -> Option<i8> {
    (field.len() == 2).then(|| field.parse().ok())?
}

/// Is it the afternoon?
fn half_of_day(word: &str) -> Option<bool> {
    match word {
        "am" | "a.m" => Some(false),
        "pm" | "p.m" => Some(true),
        _ => None,
    }
}
