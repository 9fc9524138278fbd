//! When a usage limit ends, read from what the CLI says about it.
//!
//! Text is the fallback for when no structured time is at hand. It is made
//! absolute once, when it is first seen: "resets 8pm" means something else
//! tomorrow. Where a text leaves a choice, the later instant is taken, since a
//! wait that is too short costs an attempt and one that is too long costs minutes.
//!
//! The CLI prints local time without seconds, `8pm` or `10:26pm`, with the day
//! in front (`Nov 21, 10:26pm`) when it is further off than 24 h, with the year
//! when it is another one, and mostly with the zone behind: `(Europe/Berlin)`.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

mod words;

use words::{Words, first_number_unit};

/// How long after a reset to try again, in milliseconds.
///
/// The server's clock decides, and ours may be ahead of it: clocks kept by NTP
/// differ by less than a second, badly kept ones by some. The CLI itself waits
/// 30 to 90 s; half a minute is the least that it thinks safe.
pub const MARGIN_MS: i64 = 30_000;

/// A time of day, or a date, that passed at most this long ago is one that has
/// just passed, not the next one: the text may be a little older than `now`.
pub const JUST_PASSED_MS: i64 = 5 * 60_000;

/// No usage window is longer than a week. What is further off is no time that
/// was understood.
pub const HORIZON_MS: i64 = 8 * DAY_MS;

/// Spend limits end with the month.
pub const SPEND_HORIZON_MS: i64 = 33 * DAY_MS;

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Nothing the CLI says about a limit is longer.
const MAX_TEXT_BYTES: usize = 4 << 10;

/// Which limit was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// The five-hour window, "session limit" in older versions.
    FiveHour,
    /// The weekly window over all models.
    #[serde(rename = "seven_day")]
    Weekly,
    /// The weekly window of Opus.
    #[serde(rename = "seven_day_opus")]
    WeeklyOpus,
    /// The weekly window of Sonnet.
    #[serde(rename = "seven_day_sonnet")]
    WeeklySonnet,
    /// The weekly window of some other model.
    #[serde(rename = "seven_day_model")]
    WeeklyModel,
    /// Money: usage credits, or a spend limit of the account, the
    /// organisation or a group.
    #[serde(rename = "overage")]
    Spend,
}

impl LimitKind {
    /// What the text of an error or a screen names, `None` if it names none.
    ///
    /// A text can name two, as in "monthly spend limit · your weekly limit
    /// resets Mon 9am". What counts is the one whose end is told: when that
    /// is over, work goes on.
    pub fn of_text(text: &str) -> Option<Self> {
        let text = normal(text);
        let parts = || text.split(['·', '∙', '•', '\n', '|']);
        let resets = parts().filter(|part| part.contains("reset")).find_map(Self::named);
        resets.or_else(|| parts().find_map(Self::named)).or_else(|| Self::named(&text))
    }

    fn named(part: &str) -> Option<Self> {
        let has = |words: &[&str]| words.iter().any(|word| part.contains(word));
        if !has(&["limit", "usage", "credit", "budget"]) {
            return None;
        }
        if has(&["spend", "credit", "budget", "extra usage", "monthly", "out of usage"]) {
            Some(Self::Spend)
        } else if has(&["opus"]) {
            Some(Self::WeeklyOpus)
        } else if has(&["sonnet"]) {
            Some(Self::WeeklySonnet)
        } else if has(&["fable", "haiku", "mythos"]) {
            Some(Self::WeeklyModel)
        } else if has(&["5-hour", "5 hour", "five-hour", "five hour", "session limit"]) {
            Some(Self::FiveHour)
        } else if has(&["weekly", "7-day", "seven-day"]) {
            Some(Self::Weekly)
        } else {
            None
        }
    }

    /// The API's own word for it: the header
    /// `anthropic-ratelimit-unified-representative-claim`, and the keys below
    /// `rate_limits` of the statusline.
    pub fn of_claim(claim: &str) -> Option<Self> {
        match claim {
            "five_hour" => Some(Self::FiveHour),
            "seven_day" => Some(Self::Weekly),
            "seven_day_opus" => Some(Self::WeeklyOpus),
            "seven_day_sonnet" => Some(Self::WeeklySonnet),
            "overage" => Some(Self::Spend),
            other => other.starts_with("seven_day_").then_some(Self::WeeklyModel),
        }
    }

    /// As the events and the report name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FiveHour => "five_hour",
            Self::Weekly => "seven_day",
            Self::WeeklyOpus => "seven_day_opus",
            Self::WeeklySonnet => "seven_day_sonnet",
            Self::WeeklyModel => "seven_day_model",
            Self::Spend => "overage",
        }
    }
}

/// The zone of an IANA name, `None` if this machine knows none of that name.
pub fn zone(name: &str) -> Option<TimeZone> {
    // A bare container has no zone files, and this is what it runs on.
    if ["utc", "gmt", "etc/utc", "etc/gmt"].iter().any(|utc| name.eq_ignore_ascii_case(utc)) {
        return Some(TimeZone::UTC);
    }
    // jiff would take a POSIX rule and a path of its own too.
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_-+".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        return None;
    }
    TimeZone::get(name).ok()
}

/// When the limit that `text` tells of ends, in Unix milliseconds.
///
/// `now_unix_ms` is when the text was written, not when it is looked at again;
/// `local` is the zone of the CLI's process, used where the text names none.
/// Without seconds in the text, the end of that minute. A local time that does
/// not exist or exists twice, because clocks are changed, is the later instant.
/// A date alone is midnight UTC, which is what the CLI prints for spend limits.
/// Of several times the first to come.
///
/// The result is later than `now_unix_ms` − [`JUST_PASSED_MS`] and not later than
/// [`HORIZON_MS`] ahead, [`SPEND_HORIZON_MS`] for a spend limit. `None` if there is
/// no time in the text, its zone is unknown, or it makes no sense.
/// [`MARGIN_MS`] is not in it.
pub fn reset_at(text: &str, now_unix_ms: i64, local: &TimeZone) -> Option<i64> {
    let text = normal(text);
    let horizon = match LimitKind::of_text(&text) {
        Some(LimitKind::Spend) => SPEND_HORIZON_MS,
        _ => HORIZON_MS,
    };
    let now = Now { unix_ms: now_unix_ms, local };
    let from = now_unix_ms.checked_sub(JUST_PASSED_MS)?;
    let to = now_unix_ms.checked_add(horizon)?;
    moments(&text, &now).filter(|at| *at > from && *at <= to).min()
}

/// Does `text`, of an error, say that a usage limit is reached? What it does not
/// call so is a rate limit, which is over in seconds.
pub fn tells_of_limit(text: &str) -> bool {
    let text = normal(text).replace("rate limit", "").replace("rate_limit", "");
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let used_up = has(&["hit your", "reached your", "out of extra", "out of usage"])
        && has(&["limit", "usage", "credit", "budget"]);
    used_up || has(&["limit reached", "usage limit"]) || has(&["limit"]) && has(&["reset"])
}

/// Lower case, plain spaces, and not longer than anything that makes sense.
fn normal(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_TEXT_BYTES);
    text[..end]
        .chars()
        .map(|c| if matches!(c, '\u{a0}' | '\u{202f}' | '\t' | '\r') { ' ' } else { c })
        .flat_map(char::to_lowercase)
        .collect()
}

/// Every time that the text tells, in any order.
fn moments<'a>(text: &'a str, now: &'a Now<'a>) -> impl Iterator<Item = i64> + 'a {
    let behind = |mark: &'static str| text.match_indices(mark).map(|(at, m)| &text[at + m.len()..]);
    let epochs = behind("|").filter_map(epoch);
    let resets = behind("reset").filter_map(|rest| now.reset(rest));
    let tries = ["retrying ", "try again ", "automatically "].into_iter().flat_map(behind);
    epochs.chain(resets).chain(tries.filter_map(|rest| now.retry(rest)))
}

/// `|1763760000`: Unix seconds, or milliseconds when that many digits.
fn epoch(rest: &str) -> Option<i64> {
    let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
    let number: i64 = digits.parse().ok()?;
    match digits.len() {
        9..=11 => number.checked_mul(SECOND_MS),
        12..=14 => Some(number),
        _ => None,
    }
}

/// The time that texts are relative to.
struct Now<'a> {
    unix_ms: i64,
    local: &'a TimeZone,
}

/// A time as it is written, before it is known which day is meant.
#[derive(Debug, PartialEq)]
struct Written {
    day: Day,
    /// `None`: only a day is written.
    time: Option<Time>,
    zone: Option<TimeZone>,
}

#[derive(Debug, PartialEq)]
enum Day {
    Unsaid,
    Tomorrow,
    Weekday(Weekday),
    OfMonth { month: i8, day: i8, year: Option<i16> },
}

impl Now<'_> {
    /// What stands behind "reset": `s 8pm (Europe/Berlin)`, `s in 2h`, ` at 3pm`.
    fn reset(&self, rest: &str) -> Option<i64> {
        let rest = rest.strip_prefix('s').unwrap_or(rest);
        let rest = rest.strip_prefix([' ', ':', '\n'])?;
        self.told(&mut Words::of(rest))
    }

    /// What stands behind "retrying" or "continuing automatically": `at 8pm`,
    /// `in 3s (Nov 21, 10:26pm)`. The time in parentheses is the whole one.
    fn retry(&self, rest: &str) -> Option<i64> {
        let mut words = Words::of(rest);
        let relative = self.told(&mut words);
        words.open_parenthesis().and_then(|mut inner| self.told(&mut inner)).or(relative)
    }

    fn told(&self, words: &mut Words<'_>) -> Option<i64> {
        while words.take_any(&["at", "on", "by", "your", "limit", "around"]) {}
        if words.take_any(&["in"]) {
            return self.unix_ms.checked_add(duration(words)?);
        }
        if let Some(iso) = words.peek().filter(|w| w.len() >= 10 && w.as_bytes()[4] == b'-') {
            return self.iso(iso, words);
        }
        self.resolve(&written(words)?)
    }

    /// `2026-11-21T22:26:00Z`, with an offset, or without either in the local zone.
    fn iso(&self, first: &str, words: &mut Words<'_>) -> Option<i64> {
        words.skip();
        let mut text = first.trim_end_matches(['.', ',', ';', ')']).to_ascii_uppercase();
        if !text.contains('T') && words.peek().is_some_and(|w| w.contains(':')) {
            let time = words.skip()?.trim_end_matches(['.', ',', ';', ')']);
            text = format!("{text}T{}", time.to_ascii_uppercase());
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return ceil_ms(at);
        }
        let zone = match words.zone() {
            Some(named) => Some(named?),
            None => None,
        };
        if !text.contains('T') {
            return self.resolve(&Written { day: month_day(text.parse().ok()?), time: None, zone });
        }
        let civil: DateTime = text.parse().ok()?;
        let at = later(zone.as_ref().unwrap_or(self.local), civil)?;
        // Without seconds: the end of the minute.
        let said_seconds = text.matches(':').count() >= 2;
        at.checked_add(if said_seconds { 0 } else { MINUTE_MS })
    }

    /// The first instant that `written` can mean and that did not pass long ago.
    fn resolve(&self, written: &Written) -> Option<i64> {
        let zone = match (&written.zone, written.time) {
            (Some(zone), _) => zone.clone(),
            (None, Some(_)) => self.local.clone(),
            (None, None) => TimeZone::UTC,
        };
        let today = Timestamp::from_millisecond(self.unix_ms).ok()?.to_zoned(zone.clone()).date();
        let from = self.unix_ms.saturating_sub(JUST_PASSED_MS);
        let instant = |date: Date| match written.time {
            Some(time) => later(&zone, date.to_datetime(time))?.checked_add(MINUTE_MS),
            // A day that has begun is over at its end.
            None => {
                let start = later(&zone, date.to_datetime(Time::midnight()))?;
                if start > from {
                    return Some(start);
                }
                later(&zone, date.tomorrow().ok()?.to_datetime(Time::midnight()))
            }
        };
        candidates(&written.day, today)
            .into_iter()
            .flatten()
            .filter_map(instant)
            .find(|at| *at > from)
    }
}

/// The days that can be meant, seen from `today`, the earliest first.
fn candidates(day: &Day, today: Date) -> Vec<Option<Date>> {
    match day {
        // Yesterday: five minutes to midnight, seen at midnight.
        Day::Unsaid => vec![today.yesterday().ok(), Some(today), today.tomorrow().ok()],
        Day::Tomorrow => vec![today.tomorrow().ok()],
        Day::Weekday(weekday) => {
            let near = std::iter::successors(today.yesterday().ok(), |day| day.tomorrow().ok());
            near.take(9).filter(|day| day.weekday() == *weekday).map(Some).collect()
        }
        Day::OfMonth { month, day, year: Some(year) } => {
            vec![Date::new(*year, *month, *day).ok()]
        }
        Day::OfMonth { month, day, year: None } => {
            let years = today.year().saturating_sub(1)..=today.year().saturating_add(1);
            years.map(|year| Date::new(year, *month, *day).ok()).collect()
        }
    }
}

/// The later instant, where the local time exists twice or not at all.
fn later(zone: &TimeZone, civil: DateTime) -> Option<i64> {
    zone.to_ambiguous_zoned(civil).later().ok().and_then(|at| ceil_ms(at.timestamp()))
}

fn ceil_ms(at: Timestamp) -> Option<i64> {
    let more = at.subsec_nanosecond() % 1_000_000 > 0;
    at.as_millisecond().checked_add(i64::from(more))
}

fn month_day(date: Date) -> Day {
    Day::OfMonth { month: date.month(), day: date.day(), year: Some(date.year()) }
}

/// `[mon | nov 21[, 2026]][,] [at] 8:30pm [(Europe/Berlin)]`
fn written(words: &mut Words<'_>) -> Option<Written> {
    let mut day = Day::Unsaid;
    if words.take_any(&["tomorrow"]) {
        day = Day::Tomorrow;
    } else if !words.take_any(&["today"]) {
        if let Some(weekday) = words.weekday() {
            day = Day::Weekday(weekday);
        }
        if let Some(month) = words.month() {
            let number = words.day_of_month()?;
            day = Day::OfMonth { month, day: number, year: words.year() };
        }
    }
    words.take_any(&["at"]);
    let utc_first = words.take_any(&["utc"]);
    let time = words.time();
    if time.is_none() && !matches!(day, Day::OfMonth { .. }) {
        return None;
    }
    if matches!(day, Day::Unsaid) && words.take_any(&["tomorrow"]) {
        day = Day::Tomorrow;
    }
    let zone = match words.zone() {
        Some(named) => Some(named?),
        None => utc_first.then_some(TimeZone::UTC),
    };
    Some(Written { day, time, zone })
}

/// `2h 15m`, `2 hours and 15 minutes`, `an hour`; up to a minute more, since
/// the smaller units may have been left out.
fn duration(words: &mut Words<'_>) -> Option<i64> {
    let (mut total, mut smallest) = (0_i64, None);
    loop {
        if smallest.is_some() {
            words.take_any(&["and"]);
        }
        let Some((number, unit_ms)) = first_number_unit(words) else {
            break;
        };
        total = total.checked_add(number.checked_mul(unit_ms)?)?;
        smallest = Some(unit_ms.min(MINUTE_MS));
    }
    total.checked_add(smallest?)
}

#[cfg(test)]
mod tests;
