//! What was spent today and this month, for whoever watches a budget.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use super::account::{Account, Cell, SLOT_MS};
use crate::text::to_micros;

/// Money of a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Amount {
    /// Dollars at list prices, of models with a price.
    pub cost_usd: f64,
    /// Dollars that the rest comes to at the dearest price known: a budget counts both.
    pub unpriced_bound_usd: f64,
}

impl Amount {
    /// What a budget has to count.
    pub fn bound_usd(&self) -> f64 {
        self.cost_usd + self.unpriced_bound_usd
    }
}

/// What all sessions of this machine have spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Since midnight.
    pub day: Amount,
    /// Since midnight of the first.
    pub month: Amount,
}

impl Account {
    /// What was spent on the day and in the month of `now_unix_ms` in `zone`.
    pub fn spent(&self, now_unix_ms: i64, zone: &TimeZone) -> Spent {
        let now = Timestamp::from_millisecond(now_unix_ms).unwrap_or_default();
        let today = Zoned::new(now, zone.clone()).date();
        let slot_of = |day: jiff::civil::Date| {
            let start = day.to_zoned(zone.clone()).map_or(0, |at| at.timestamp().as_millisecond());
            start.div_euclid(SLOT_MS)
        };
        let after = today.tomorrow().map_or(i64::MAX, slot_of);
        let sum = |from: i64| {
            let within = |slot: Option<i64>| slot.is_some_and(|slot| from <= slot && slot < after);
            let mut sum = Cell::default();
            self.cells.iter().filter(|(key, _)| within(key.slot)).for_each(|(_, c)| sum.add(c));
            Amount {
                cost_usd: to_micros(sum.cost.as_f64()),
                unpriced_bound_usd: to_micros(sum.unpriced_bound.as_f64()),
            }
        };
        Spent { day: sum(slot_of(today)), month: sum(slot_of(today.first_of_month())) }
    }
}
