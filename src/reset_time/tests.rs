use proptest::prelude::*;

use super::*;

fn ms(rfc3339: &str) -> i64 {
    rfc3339.parse::<Timestamp>().unwrap().as_millisecond()
}

fn told(text: &str, now: &str, local: &str) -> Option<String> {
    let at = reset_at(text, ms(now), &zone(local).unwrap())?;
    Some(Timestamp::from_millisecond(at).unwrap().to_string())
}

/// Every row: text, now, the zone of the machine, the instant.
#[track_caller]
fn table(rows: &[(&str, &str, &str, &str)]) {
    for (text, now, local, expected) in rows {
        let expected = (*expected != "none").then(|| (*expected).to_owned());
        assert_eq!(told(text, now, local), expected, "{text:?} at {now} in {local}");
    }
}

#[test]
fn the_wordings_of_the_cli_are_understood() {
    let now = "2026-11-21T20:00:00Z"; // a Saturday, 15:00 in New York
    let ny = "America/New_York";
    #[rustfmt::skip]
    table(&[
        // 2.1.329: error rows and the screen.
        ("You've hit your 5-hour limit · resets 8pm (America/New_York)", now, "UTC", "2026-11-22T01:01:00Z"),
        ("You've hit your 5-hour limit · resets 8:30pm (America/New_York) · progress saved", now, "UTC", "2026-11-22T01:31:00Z"),
        ("You've hit your weekly limit · resets Nov 25, 9am (Europe/Berlin)", now, ny, "2026-11-25T08:01:00Z"),
        ("You've hit your Opus limit · resets Nov 25, 9:05am (Europe/Berlin)", now, ny, "2026-11-25T08:06:00Z"),
        ("5-hour limit reached · retrying in 3s (Nov 21, 10:26pm)", now, ny, "2026-11-22T03:27:00Z"),
        ("5-hour limit reached · retrying in 3s", now, ny, "2026-11-21T20:00:04Z"),
        ("Usage limit reached · continuing automatically at 10:26pm · esc to cancel", now, ny, "2026-11-22T03:27:00Z"),
        ("2. Wait here, then continue automatically at Nov 23, 10:26pm", now, ny, "2026-11-24T03:27:00Z"),
        ("5-hour limit reached · retrying in 33s (1:13am) · attempt 7/10", now, "UTC", "2026-11-22T01:14:00Z"),
        ("usage limit resets at 10:26pm", now, ny, "2026-11-22T03:27:00Z"),
        ("Paused · usage limit resets Nov 23, 10:26pm", now, ny, "2026-11-24T03:27:00Z"),
        ("Lower priority until your limit resets at 4pm (Asia/Kolkata)", now, ny, "2026-11-22T10:31:00Z"),
        ("You've used 95% of your weekly limit · resets Nov 24, 1am (America/New_York)", now, ny, "2026-11-24T06:01:00Z"),
        ("spend limit reached · resets Dec 1", now, ny, "2026-12-01T00:00:00Z"),
        ("You've hit your team's pooled group budget · resets Dec 1, 1am (UTC) · your weekly limit resets Nov 24, 9am (UTC)", now, ny, "2026-11-24T09:01:00Z"),
        ("try again after it resets on November 22 at 22:26 UTC.", now, ny, "2026-11-22T22:27:00Z"),
        ("You've hit your fast limit · resets in 2h 15m", now, ny, "2026-11-21T22:16:00Z"),
        ("daily new-artifact limit for your plan reached — resets at UTC midnight", now, ny, "2026-11-22T00:01:00Z"),
        // Earlier versions.
        ("Claude AI usage limit reached|1795316400", now, ny, "2026-11-22T03:00:00Z"),
        ("Claude AI usage limit reached|1795316400123", now, ny, "2026-11-22T03:00:00.123Z"),
        ("5-hour limit reached ∙ resets 8pm", now, ny, "2026-11-22T01:01:00Z"),
        ("Your limit will reset at 3pm (America/New_York).", now, "UTC", "2026-11-21T20:01:00Z"),
        ("Claude usage limit reached. Your limit will reset at 7pm.", now, ny, "2026-11-22T00:01:00Z"),
        // Forms nobody has seen yet, that mean one thing only.
        ("resets Mon 9am", now, ny, "2026-11-23T14:01:00Z"),
        ("resets Monday at 9:30 a.m.", now, ny, "2026-11-23T14:31:00Z"),
        ("resets Sat 9am", now, ny, "2026-11-28T14:01:00Z"),
        ("resets Sat, Nov 28 at 9am", now, ny, "2026-11-28T14:01:00Z"),
        ("reset at 3pm", now, ny, "2026-11-21T20:01:00Z"),
        ("resets tomorrow at noon", now, ny, "2026-11-22T17:01:00Z"),
        ("resets 9am tomorrow", now, ny, "2026-11-22T14:01:00Z"),
        ("resets 23:15", now, ny, "2026-11-22T04:16:00Z"),
        ("resets at 2026-11-21T22:26:00Z", now, ny, "2026-11-21T22:26:00Z"),
        ("resets at 2026-11-21T22:26:00.5004+02:00.", now, ny, "2026-11-21T20:26:00.501Z"),
        ("resets at 2026-11-21T22:26", now, ny, "2026-11-22T03:27:00Z"),
        ("resets at 2026-11-21 22:26:30 (UTC)", now, ny, "2026-11-21T22:26:30Z"),
        ("resets at 2026-11-22", now, ny, "2026-11-22T00:00:00Z"),
        ("resets in 1 day, 2 hours and 5 minutes", now, ny, "2026-11-22T22:06:00Z"),
        ("resets in 2h15m", now, ny, "2026-11-21T22:16:00Z"),
        ("try again in a minute", now, ny, "2026-11-21T20:02:00Z"),
        // As a screen breaks and shapes it.
        ("  ⎿  You've hit your 5-hour limit · resets\n     8:30pm (America/\n     New_York)", now, "UTC", "2026-11-22T01:31:00Z"),
        ("resets 8:30\u{202f}PM (america/new_york)", now, "UTC", "2026-11-22T01:31:00Z"),
        ("resets 8pm(America/New_York)", now, "UTC", "2026-11-22T01:01:00Z"),
    ]);
}

#[test]
fn nonsense_is_no_time() {
    let now = "2026-11-21T20:00:00Z";
    for text in [
        "",
        "You've hit your 5-hour limit",
        "resets",
        "resets soon",
        "This resets auto mode to its defaults",
        "resets 8pm (Mars/Olympus_Mons)",
        "resets 8pm (in the evening)",
        "resets 8pm (America/New_Yo",
        "resets 8",
        "resets 13pm",
        "resets 0pm",
        "resets 25:00",
        "resets 8:60pm",
        "resets 8:5pm",
        "resets 8:30:10:05",
        "resets Nov",
        "resets Nov 31, 9am",
        "resets Feb 29, 9am",
        "resets Jul 4, 9am",
        "resets Nov 21, 2025, 9am",
        "resets Nov 21, 2028, 9am",
        "resets in",
        "resets in 99999999999999999999h",
        "resets in 9223372036854775807d",
        "resets in 30 days",
        "limit reached|17",
        "limit reached|99999999999",
        "limit reached|99999999999999999999999",
        "resets at 2026-13-45T99:99:99Z",
        "resets at 2020-01-01T00:00:00Z",
        "resets (UTC)",
        "reset·8pm",
        "resets 8pm (../../etc/passwd)",
    ] {
        assert_eq!(told(text, now, "UTC"), None, "{text:?}");
    }
    assert_eq!(reset_at("resets 8pm", i64::MIN, &TimeZone::UTC), None);
    assert_eq!(reset_at("resets 8pm", i64::MAX, &TimeZone::UTC), None);
}

#[test]
fn a_time_that_passed_today_is_tomorrows_unless_it_just_passed() {
    #[rustfmt::skip]
    table(&[
        ("resets 8pm", "2026-11-21T19:59:59Z", "UTC", "2026-11-21T20:01:00Z"),
        ("resets 8pm", "2026-11-21T20:00:30Z", "UTC", "2026-11-21T20:01:00Z"),
        ("resets 8pm", "2026-11-21T20:05:59Z", "UTC", "2026-11-21T20:01:00Z"),
        ("resets 8pm", "2026-11-21T20:06:00Z", "UTC", "2026-11-22T20:01:00Z"),
        ("resets 8pm", "2026-11-21T23:00:00Z", "UTC", "2026-11-22T20:01:00Z"),
        ("resets 11:58pm", "2026-11-22T00:02:00Z", "UTC", "2026-11-21T23:59:00Z"),
        ("resets 12am", "2026-11-21T23:00:00Z", "UTC", "2026-11-22T00:01:00Z"),
        ("resets 12pm", "2026-11-21T11:00:00Z", "UTC", "2026-11-21T12:01:00Z"),
        ("resets Sat 8pm", "2026-11-21T20:05:00Z", "UTC", "2026-11-21T20:01:00Z"),
        ("resets Sat 8pm", "2026-11-21T20:07:00Z", "UTC", "2026-11-28T20:01:00Z"),
        ("resets Nov 21, 8pm", "2026-11-21T20:05:00Z", "UTC", "2026-11-21T20:01:00Z"),
        ("resets Nov 21, 8pm", "2026-11-21T20:07:00Z", "UTC", "none"),
        // A day that has begun: its end.
        ("resets Nov 21", "2026-11-21T10:00:00Z", "UTC", "2026-11-22T00:00:00Z"),
        // Local midnight is not UTC midnight.
        ("resets 1am", "2026-11-21T14:30:00Z", "Asia/Tokyo", "2026-11-21T16:01:00Z"),
        ("resets 1am (Asia/Tokyo)", "2026-11-21T14:30:00Z", "Pacific/Honolulu", "2026-11-21T16:01:00Z"),
    ]);
}

#[test]
fn the_ends_of_years_and_leap_days() {
    #[rustfmt::skip]
    table(&[
        ("resets Jan 2, 2027, 3:30pm (UTC)", "2026-12-30T12:00:00Z", "UTC", "2027-01-02T15:31:00Z"),
        ("resets Jan 2, 3:30pm", "2026-12-30T12:00:00Z", "UTC", "2027-01-02T15:31:00Z"),
        ("resets Dec 31, 11:59pm", "2027-01-01T00:01:00Z", "UTC", "2027-01-01T00:00:00Z"),
        ("resets 1am", "2026-12-31T23:00:00Z", "UTC", "2027-01-01T01:01:00Z"),
        // It is already next year there.
        ("resets Jan 1, 9am (Pacific/Auckland)", "2026-12-31T13:00:00Z", "UTC", "2026-12-31T20:01:00Z"),
        ("spend limit reached · resets Jan 1", "2026-12-02T00:00:00Z", "UTC", "2027-01-01T00:00:00Z"),
        ("resets Feb 29, 9am", "2028-02-25T12:00:00Z", "UTC", "2028-02-29T09:01:00Z"),
        ("resets Feb 29, 9am", "2027-02-25T12:00:00Z", "UTC", "none"),
        ("resets Mar 1, 9am", "2027-02-25T12:00:00Z", "UTC", "2027-03-01T09:01:00Z"),
        ("resets 9am", "2028-02-28T12:00:00Z", "UTC", "2028-02-29T09:01:00Z"),
        ("resets 9am", "2028-02-29T12:00:00Z", "UTC", "2028-03-01T09:01:00Z"),
    ]);
}

#[test]
fn when_clocks_are_changed_the_later_instant_is_taken() {
    #[rustfmt::skip]
    table(&[
        // New York: 8 March 2026, 2:00 becomes 3:00; 1 November, 2:00 becomes 1:00.
        ("resets 2:30am", "2026-03-08T05:00:00Z", "America/New_York", "2026-03-08T07:31:00Z"),
        ("resets 1:59am", "2026-03-08T05:00:00Z", "America/New_York", "2026-03-08T07:00:00Z"),
        ("resets 3am", "2026-03-08T05:00:00Z", "America/New_York", "2026-03-08T07:01:00Z"),
        ("resets 1:30am", "2026-11-01T04:00:00Z", "America/New_York", "2026-11-01T06:31:00Z"),
        ("resets 2am", "2026-11-01T04:00:00Z", "America/New_York", "2026-11-01T07:01:00Z"),
        // Seen between the two 1:30am: the second is meant.
        ("resets 1:30am", "2026-11-01T05:40:00Z", "America/New_York", "2026-11-01T06:31:00Z"),
        // Seen the evening before, 25 hours of day ahead.
        ("resets Nov 1, 11pm (America/New_York)", "2026-10-31T23:00:00Z", "UTC", "2026-11-02T04:01:00Z"),
        // Berlin: 29 March and 25 October 2026.
        ("resets 2:30am (Europe/Berlin)", "2026-03-28T23:00:00Z", "UTC", "2026-03-29T01:31:00Z"),
        ("resets 2:30am (Europe/Berlin)", "2026-10-24T23:00:00Z", "UTC", "2026-10-25T01:31:00Z"),
        // Lord Howe Island changes by half an hour.
        ("resets 2:15am (Australia/Lord_Howe)", "2026-10-03T12:00:00Z", "UTC", "2026-10-03T15:46:00Z"),
        ("resets 1:45am (Australia/Lord_Howe)", "2026-04-04T12:00:00Z", "UTC", "2026-04-04T15:16:00Z"),
        // Beirut changes at midnight, so a day can begin at 1:00.
        ("resets 12:30am (Asia/Beirut)", "2026-03-28T20:00:00Z", "UTC", "2026-03-28T22:31:00Z"),
        // Phoenix does not change at all.
        ("resets 2:30am (America/Phoenix)", "2026-03-08T05:00:00Z", "UTC", "2026-03-08T09:31:00Z"),
    ]);
}

#[test]
fn the_limit_is_named_after_what_ends_the_wait() {
    use LimitKind::*;
    for (text, expected) in [
        ("You've hit your 5-hour limit · resets 8pm", Some(FiveHour)),
        ("5-hour limit reached · retrying in 3s (Nov 21, 10:26pm)", Some(FiveHour)),
        ("You've hit your session limit · resets 8pm", Some(FiveHour)),
        ("You've hit your weekly limit · resets Nov 25, 9am", Some(Weekly)),
        ("You've hit your Opus limit · resets Nov 25, 9am", Some(WeeklyOpus)),
        ("Opus weekly limit reached ∙ resets Oct 6, 1pm", Some(WeeklyOpus)),
        ("You've hit your Sonnet limit", Some(WeeklySonnet)),
        ("You've hit your Fable limit · resets Nov 25, 9am", Some(WeeklyModel)),
        ("You've hit your monthly spend limit · raise it at claude.ai", Some(Spend)),
        (
            "You've hit your monthly spend limit · your 5-hour limit resets 8pm (UTC)",
            Some(FiveHour),
        ),
        ("You're out of usage credits · resets 8pm", Some(Spend)),
        ("Your org is out of usage · contact your admin", Some(Spend)),
        ("You've hit your team's pooled group budget · resets Dec 1", Some(Spend)),
        ("spend limit reached · resets Aug 8 · request an increase", Some(Spend)),
        ("You've hit your usage limit · resets 8pm", None),
        ("Claude AI usage limit reached|1763760000", None),
        ("API Error: Request rejected (429)", None),
        ("the five hours of Opus 61 by Beethoven", None),
    ] {
        assert_eq!(LimitKind::of_text(text), expected, "{text:?}");
    }
    for (claim, kind) in [
        ("five_hour", Some(FiveHour)),
        ("seven_day", Some(Weekly)),
        ("seven_day_opus", Some(WeeklyOpus)),
        ("seven_day_sonnet", Some(WeeklySonnet)),
        ("seven_day_overage_included", Some(WeeklyModel)),
        ("overage", Some(Spend)),
        ("", None),
    ] {
        assert_eq!(LimitKind::of_claim(claim), kind, "{claim:?}");
    }
    let json = serde_json::to_string(&WeeklyOpus).unwrap();
    assert_eq!(json, format!("{:?}", WeeklyOpus.as_str()));
}

const ZONES: [&str; 12] = [
    "UTC",
    "America/New_York",
    "America/St_Johns",
    "Europe/Berlin",
    "Africa/Casablanca",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "America/Havana",
];

/// From 2000 to 2100.
fn some_now() -> impl Strategy<Value = i64> {
    946_684_800_000_i64..4_102_444_800_000
}

fn some_zone() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&ZONES[..])
}

/// Pieces that texts of this kind are made of, and some that they are not.
fn some_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        proptest::sample::select(
            &[
                "resets",
                "reset",
                "retrying",
                "try again",
                "at",
                "in",
                "on",
                "8pm",
                "8:30pm",
                "12am",
                "24:00",
                "23:59",
                "Nov 21,",
                "Feb 29,",
                "Dec 31",
                "Mon",
                "sat",
                "2027,",
                "(UTC)",
                "(Europe/Berlin)",
                "(",
                ")",
                "|1763760000",
                "2h",
                "15m",
                "an hour",
                "·",
                "\n",
                "limit",
                "2026-11-21T22:26:00Z",
                "2026-11-21",
                "22:26",
                "midnight",
                "tomorrow",
                "spend",
                "(America/",
            ][..]
        )
        .prop_map(str::to_owned),
        "\\PC{0,6}",
        "[0-9:|apm. ]{0,8}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn never_a_panic_and_never_out_of_range(
        text in prop_oneof![some_text(), some_text().prop_map(|t| format!("resets {t}")), "\\PC*"],
        now in some_now(),
        local in some_zone(),
    ) {
        let kind = LimitKind::of_text(&text);
        let horizon = if kind == Some(LimitKind::Spend) { SPEND_HORIZON_MS } else { HORIZON_MS };
        if let Some(at) = reset_at(&text, now, &zone(local).unwrap()) {
            prop_assert!(at > now - JUST_PASSED_MS, "{at}");
            prop_assert!(at <= now + horizon, "{at}");
        }
    }

    #[test]
    fn any_time_and_any_now_are_no_panic(text in some_text(), now in any::<i64>(), local in some_zone()) {
        let _ = reset_at(&format!("resets {text}"), now, &zone(local).unwrap());
    }

    /// What the CLI prints of a reset within a week leads back to it: never
    /// before it, and at most the minute that was cut off and the hour of a
    /// change of clocks behind it. Left out is the one choice that is against
    /// waiting: the last five minutes of a day ahead are taken as just passed.
    #[test]
    fn what_the_cli_prints_leads_back(
        now in some_now(),
        ahead_s in prop_oneof![1..86_400 - 360_i64, 86_401..7 * 86_400_i64],
        local in some_zone(),
        names_zone in any::<bool>(),
    ) {
        let tz = zone(local).unwrap();
        let reset = now / 1000 * 1000 + ahead_s * 1000;
        // A day of 23 hours has the same time twice within 24: the same choice.
        let clock = |ms: i64| {
            let at = Timestamp::from_millisecond(ms).unwrap().to_zoned(tz.clone());
            i64::from(at.hour()) * 60 + i64::from(at.minute())
        };
        let passed_min = (clock(now) - clock(reset)).rem_euclid(24 * 60);
        let is_twice = passed_min <= 6 || passed_min >= 23 * 60 - 6;
        prop_assume!(!(22 * 3_600..86_400).contains(&ahead_s) || !is_twice);
        let text = format!("You've hit your limit · resets {}", printed(reset, now, &tz, names_zone.then_some(local)));
        let reader = if names_zone { TimeZone::UTC } else { tz };
        let at = reset_at(&text, now, &reader);
        prop_assert!(at.is_some(), "{text}");
        let late_ms = at.unwrap() - reset;
        prop_assert!((1..=HOUR_MS + MINUTE_MS).contains(&late_ms), "{text}: {late_ms} ms late");
    }
}

/// As 2.1.329 formats a time: `8pm`, `8:30pm`, `Nov 21, 8:30pm`, `Jan 2, 2027, 8pm`.
fn printed(reset_ms: i64, now_ms: i64, tz: &TimeZone, zone_name: Option<&str>) -> String {
    let at = |ms| Timestamp::from_millisecond(ms).unwrap().to_zoned(tz.clone());
    let (reset, now) = (at(reset_ms), at(now_ms));
    let mut text = String::new();
    if reset_ms - now_ms > DAY_MS {
        text += &reset.strftime("%b %-d, ").to_string();
        if reset.year() != now.year() {
            text += &reset.strftime("%Y, ").to_string();
        }
    }
    let clock = if reset.minute() == 0 { "%-I%P" } else { "%-I:%M%P" };
    text += &reset.strftime(clock).to_string();
    text + &zone_name.map(|name| format!(" ({name})")).unwrap_or_default()
}

#[test]
fn a_usage_limit_is_told_from_a_rate_limit() {
    for text in [
        "You've hit your 5-hour limit · resets 8am (UTC)",
        "You've hit your weekly limit · resets Nov 24, 8am (UTC)",
        "You've hit your usage limit",
        "You've hit your team's pooled group budget",
        "You're out of extra usage · resets 3pm",
        "Claude AI usage limit reached|1763760000",
        "5-hour limit reached ∙ resets 8pm",
        "spend limit reached · resets Aug 8",
    ] {
        assert!(tells_of_limit(text), "{text}");
    }
    for text in [
        "",
        "API Error: Request rejected (429) · Rate limited",
        "API Error: 429 This request would exceed your account's rate limit. Please try again later.",
        "API Error: Rate limit reached",
        "API Error: rate_limit_error: Number of request tokens has exceeded your per-minute rate limit",
        "API Error: Usage credits required for 1M context · run /model to switch",
    ] {
        assert!(!tells_of_limit(text), "{text}");
    }
}
