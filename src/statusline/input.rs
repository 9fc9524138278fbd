//! What the CLI hands to a status line. A field that is missing, or not as expected, is
//! none; others are not asked for.

use std::path::PathBuf;

use serde_json::Value;

/// Longest name that is looked at; the line shows less of it.
const NAME_CHARS: usize = 200;
/// More than this is no percentage of anything that can be full.
const MAX_PERCENT: f64 = 200.0;

/// A session at the moment its line is drawn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Session {
    /// Its id.
    pub session_id: Option<String>,
    /// Its model, as a person calls it.
    pub model: Option<String>,
    /// Tokens in its context.
    pub context_tokens: Option<u64>,
    /// Size of the window, tokens.
    pub window_tokens: Option<u64>,
    /// The CLI's own percentage, for where it does not say the tokens.
    pub used_percent: Option<f64>,
    /// Dollars, by the CLI's own count.
    pub cost_usd: Option<f64>,
    /// Since it began, milliseconds.
    pub duration_ms: Option<u64>,
    /// Used of the five-hour limit, percent.
    pub five_hour_percent: Option<f64>,
    /// Used of the weekly limit, percent.
    pub seven_day_percent: Option<f64>,
    /// Where it works: nothing is written there.
    pub folders: Vec<PathBuf>,
}

impl Session {
    /// What stands in `input`; nothing, where that is no JSON.
    pub fn of(input: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(input).unwrap_or_default();
        let text = |at: &str| {
            let text = json.pointer(at)?.as_str()?.trim();
            let short: String = text.chars().take(NAME_CHARS).collect();
            (!short.is_empty()).then_some(short)
        };
        let number = |at: &str| {
            json.pointer(at)?.as_f64().filter(|number| number.is_finite() && *number >= 0.0)
        };
        let whole = |at: &str| number(at).map(|number| number as u64);
        // A little over full is full; what is far beyond is no percentage.
        let percent =
            |at: &str| number(at).filter(|n| *n <= MAX_PERCENT).map(|n| f64::min(n, 100.0));
        let folders = ["/workspace/project_dir", "/workspace/current_dir", "/cwd"];
        let folder = |at: &str| json.pointer(at)?.as_str().map(PathBuf::from);
        Self {
            session_id: text("/session_id"),
            model: text("/model/display_name").or_else(|| text("/model/id")),
            context_tokens: whole("/context_window/total_input_tokens"),
            window_tokens: whole("/context_window/context_window_size").filter(|size| *size > 0),
            used_percent: percent("/context_window/used_percentage"),
            cost_usd: number("/cost/total_cost_usd"),
            duration_ms: whole("/cost/total_duration_ms"),
            five_hour_percent: percent("/rate_limits/five_hour/used_percentage"),
            seven_day_percent: percent("/rate_limits/seven_day/used_percentage"),
            folders: folders.into_iter().filter_map(folder).collect(),
        }
    }

    /// How full its context is, percent: of tokens and window where the CLI says them,
    /// since its own percentage is wrong for some models.
    pub fn context_percent(&self) -> Option<f64> {
        let ratio = self.context_tokens.zip(self.window_tokens);
        let ratio = ratio.map(|(tokens, window)| tokens as f64 * 100.0 / window as f64);
        ratio.filter(|percent| *percent <= MAX_PERCENT).or(self.used_percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_cli_says_is_understood() {
        let said = include_bytes!("../../tests/data/sink/statusline.json");
        let session = Session::of(said);
        assert_eq!(session.model.as_deref(), Some("Opus 5.5"));
        assert_eq!(session.context_percent(), Some(6.0));
        assert_eq!(session.cost_usd, Some(0.214_076));
        assert_eq!(session.duration_ms, Some(4_483));
        assert_eq!(session.folders[0], PathBuf::from("/home/me/project"));
        assert_eq!(session.five_hour_percent, None);
    }

    #[test]
    fn anything_else_says_nothing() {
        let none = Session::default();
        for said in
            ["", "{", "null", "[]", "3", "\u{0}", r#"{"model":7,"cost":{"total_cost_usd":"x"}}"#]
        {
            assert_eq!(Session::of(said.as_bytes()), none, "{said}");
        }
        let odd = r#"{"model":{"display_name":"  ","id":"m"},"cost":{"total_cost_usd":-1},
            "context_window":{"context_window_size":0,"total_input_tokens":5,"used_percentage":3.5}}"#;
        let odd = Session::of(odd.as_bytes());
        assert_eq!((odd.model.as_deref(), odd.cost_usd), (Some("m"), None));
        assert_eq!(odd.context_percent(), Some(3.5));
    }

    #[test]
    fn what_is_no_percentage_is_none() {
        for (said, percent) in
            [(1e9, None), (201.0, None), (104.0, Some(100.0)), (99.5, Some(99.5))]
        {
            let input = serde_json::json!({"context_window": {"used_percentage": said},
                "rate_limits": {"five_hour": {"used_percentage": said}}});
            let session = Session::of(input.to_string().as_bytes());
            assert_eq!((session.context_percent(), session.five_hour_percent), (percent, percent));
        }
        let odd = br#"{"context_window":{"total_input_tokens":900000,"context_window_size":1}}"#;
        assert_eq!(Session::of(odd).context_percent(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Session::of(&bytes);
        }
    }
}
