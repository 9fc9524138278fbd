//! What the CLI itself wrote about a session, read without longhaul's code.

use std::fs;

use serde_json::Value;

use super::Lab;

impl Lab {
    /// The rows of a session's transcript that are whole; empty if there is none.
    pub fn transcript(&self, session_id: &str) -> Vec<Value> {
        let file = self.home.transcript(&self.project(), session_id);
        let text = fs::read(file).unwrap_or_default();
        text.split(|b| *b == b'\n').filter_map(|row| serde_json::from_slice(row).ok()).collect()
    }

    /// The CLI's own bill: its last `cost-state` row; only a session that
    /// ended politely has one.
    pub fn cost_state(&self, session_id: &str) -> Option<Value> {
        self.transcript(session_id).into_iter().rfind(|row| row["type"] == "cost-state")
    }

    /// Its total in dollars.
    pub fn cost_usd(&self, session_id: &str) -> Option<f64> {
        find_number(&self.cost_state(session_id)?, "totalCostUSD")
    }

    /// Context in use at the newest main-thread answer, in tokens.
    pub fn context_tokens(&self, session_id: &str) -> Option<u64> {
        let rows = self.transcript(session_id);
        let newest = rows.iter().rfind(|row| {
            row["type"] == "assistant"
                && row["isSidechain"] != true
                && row["message"]["model"] != "<synthetic>"
        })?;
        let usage = &newest["message"]["usage"];
        ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]
            .iter()
            .map(|key| usage[*key].as_u64())
            .sum()
    }
}

fn find_number(value: &Value, key: &str) -> Option<f64> {
    match value {
        Value::Object(map) => map
            .get(key)
            .and_then(Value::as_f64)
            .or_else(|| map.values().find_map(|inner| find_number(inner, key))),
        _ => None,
    }
}
