//! How full a context is, and who said how large its window is.

use serde::{Deserialize, Serialize};

use super::params::Params;

/// Where the denominator of a percentage came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowSource {
    /// `context.window_tokens`.
    Config,
    /// The CLI's statusline.
    Statusline,
    /// `config/models.toml`.
    Models,
    /// Nobody knows this model: 200,000, or 1,000,000 once more was seen.
    Guess,
}

impl WindowSource {
    /// The word in events and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            WindowSource::Config => "config",
            WindowSource::Statusline => "statusline",
            WindowSource::Models => "models",
            WindowSource::Guess => "guess",
        }
    }
}

/// Window assumed for a model nobody knows.
const SMALL_WINDOW_TOKENS: u64 = 200_000;
/// The next size there is, once more than the small one was seen in use.
const LARGE_WINDOW_TOKENS: u64 = 1_000_000;

/// A context, its window, and the origin of that window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// Tokens in use.
    pub tokens: u64,
    /// Window size in tokens.
    pub window: u64,
    /// Who said so.
    pub source: WindowSource,
}

impl Pressure {
    /// Whole percent in use, rounded and capped as the CLI's own statusline
    /// does it (checked against 2.1.329).
    pub fn percent(&self) -> u64 {
        crate::models::used_percent(self.tokens, self.window)
    }

    /// Is it time for a checkpoint?
    pub fn is_over(&self, params: &Params) -> bool {
        let by_share = self.tokens as f64 * 100.0 >= params.threshold_percent * self.window as f64;
        let by_count = params.threshold_tokens.is_some_and(|limit| self.tokens >= limit);
        by_share || by_count
    }
}

/// What is known of one session's context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauge {
    /// Newest reading.
    pub tokens: Option<u64>,
    /// First reading.
    #[serde(default)]
    pub first_tokens: Option<u64>,
    /// Highest reading.
    pub peak_tokens: u64,
    /// Window by the statusline.
    pub statusline_window: Option<u64>,
    /// Window by the model table.
    pub table_window: Option<u64>,
}

impl Gauge {
    /// Takes a reading.
    pub fn read(&mut self, tokens: u64, table_window: Option<u64>) {
        self.tokens = Some(tokens);
        self.first_tokens.get_or_insert(tokens);
        self.peak_tokens = self.peak_tokens.max(tokens);
        self.table_window = table_window;
    }

    /// The window and its origin: config, statusline, table, guess.
    pub fn window(&self, params: &Params) -> (u64, WindowSource) {
        if let Some(window) = params.window_tokens {
            (window, WindowSource::Config)
        } else if let Some(window) = self.statusline_window {
            (window, WindowSource::Statusline)
        } else if let Some(window) = self.table_window {
            (window, WindowSource::Models)
        } else if self.peak_tokens > SMALL_WINDOW_TOKENS {
            (LARGE_WINDOW_TOKENS, WindowSource::Guess)
        } else {
            (SMALL_WINDOW_TOKENS, WindowSource::Guess)
        }
    }

    /// The present pressure, once there is a reading.
    pub fn pressure(&self, params: &Params) -> Option<Pressure> {
        let (window, source) = self.window(params);
        self.tokens.map(|tokens| Pressure { tokens, window, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_is_the_clis_own() {
        let p =
            |tokens| Pressure { tokens, window: 200_000, source: WindowSource::Config }.percent();
        assert_eq!((p(174_003), p(75_000), p(999), p(29_000)), (87, 38, 0, 14));
    }

    #[test]
    fn the_denominator_has_an_order_of_trust() {
        let mut params = super::super::sim::params();
        let mut gauge = Gauge::default();
        gauge.read(250_000, None);
        assert_eq!(gauge.window(&params), (1_000_000, WindowSource::Guess));
        gauge.table_window = Some(300_000);
        assert_eq!(gauge.window(&params), (300_000, WindowSource::Models));
        gauge.statusline_window = Some(400_000);
        assert_eq!(gauge.window(&params), (400_000, WindowSource::Statusline));
        params.window_tokens = Some(500_000);
        assert_eq!(gauge.window(&params), (500_000, WindowSource::Config));
    }
}
