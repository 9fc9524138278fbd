//! What each model can hold and what it costs: `config/models.toml`, read once.
//!
//! Money is counted in whole pico-dollars (10⁻¹² $), which hold every listed
//! price per token and every multiplier exactly. Sums therefore do not depend
//! on the order in which responses are read, and turn into a float only to be
//! shown.

mod own;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use own::{remember, use_own_beside};
use serde::{Deserialize, Serialize};

use crate::Error;

const TABLE: &str = include_str!("../config/models.toml");

/// A person's own table, and its file.
static OWN: OnceLock<(Models, PathBuf)> = OnceLock::new();
/// More is no table of prices.
const OWN_MAX_BYTES: u64 = 1 << 20;

/// Pico-dollars in a dollar.
const PICO_PER_USD: f64 = 1e12;
/// A price of $1 per million tokens, in pico-dollars per token.
const PICO_PER_TOKEN_AT_USD_PER_MTOK: f64 = 1e6;

/// Tokens of one response, or of many, by the rate they are billed at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Prompt tokens that were neither written to nor read from the cache.
    pub input: u64,
    /// Generated tokens.
    pub output: u64,
    /// Prompt tokens written to the five-minute cache.
    pub cache_write_5m: u64,
    /// Prompt tokens written to the one-hour cache.
    pub cache_write_1h: u64,
    /// Prompt tokens read from the cache.
    pub cache_read: u64,
}

impl TokenCounts {
    /// All that was sent: input, cache writes and cache reads.
    pub fn prompt(&self) -> u64 {
        self.input
            .saturating_add(self.cache_write_5m)
            .saturating_add(self.cache_write_1h)
            .saturating_add(self.cache_read)
    }

    /// Prompt and output together.
    pub fn total(&self) -> u64 {
        self.prompt().saturating_add(self.output)
    }

    /// True when nothing was counted.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Adds `other`, kind by kind.
    pub fn add(&mut self, other: &TokenCounts) {
        self.merge(other, u64::saturating_add);
    }

    /// Takes `other` out again, kind by kind.
    pub fn subtract(&mut self, other: &TokenCounts) {
        self.merge(other, u64::saturating_sub);
    }

    fn merge(&mut self, other: &TokenCounts, with: impl Fn(u64, u64) -> u64) {
        self.input = with(self.input, other.input);
        self.output = with(self.output, other.output);
        self.cache_write_5m = with(self.cache_write_5m, other.cache_write_5m);
        self.cache_write_1h = with(self.cache_write_1h, other.cache_write_1h);
        self.cache_read = with(self.cache_read, other.cache_read);
    }
}

/// An exact amount of money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usd {
    pico: u128,
}

impl Usd {
    /// Dollars, for showing and comparing.
    pub fn as_f64(self) -> f64 {
        self.pico as f64 / PICO_PER_USD
    }

    /// Whole pico-dollars.
    pub fn as_pico(self) -> u128 {
        self.pico
    }

    /// So many pico-dollars.
    pub fn from_pico(pico: u128) -> Self {
        Self { pico }
    }

    /// The sum; sticks at the largest amount instead of overflowing.
    pub fn plus(self, other: Usd) -> Usd {
        Usd { pico: self.pico.saturating_add(other.pico) }
    }

    /// The difference; nothing, where `other` is more.
    pub fn minus(self, other: Usd) -> Usd {
        Usd { pico: self.pico.saturating_sub(other.pico) }
    }
}

/// What one response is billed for, apart from its model and its time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Billable {
    /// Its tokens.
    pub tokens: TokenCounts,
    /// Server-side web searches it made.
    pub web_searches: u64,
    /// It ran with `speed: "fast"`.
    pub fast: bool,
    /// It ran with `inference_geo: "us"`.
    pub us_inference: bool,
}

/// How full a window is, in whole percent, exactly as the CLI's status line
/// says it: the quotient times 100 in double precision, halves up, at most 100.
/// (Of 200,000, 1,000 is 1 % and 75,000 is 38 %, but 29,000 is 14 %, since
/// 0.145 has no exact double.)
pub fn used_percent(tokens: u64, window_tokens: u64) -> u64 {
    let percent = tokens as f64 / window_tokens.max(1) as f64 * 100.0;
    let whole = percent.floor();
    let rounded = if percent - whole >= 0.5 { whole + 1.0 } else { whole };
    rounded.min(100.0) as u64
}

/// The table of windows and prices.
#[derive(Debug)]
pub struct Models {
    entries: Vec<Entry>,
    /// Position in `entries` by id and by alias.
    names: HashMap<String, usize>,
    web_search_pico: u128,
    us_inference_percent: u128,
    texts: Texts,
}

/// What a table of prices was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// The table that is built in, or was.
    pub builtin: String,
    /// The person's own, whose models go before; empty: there is none.
    pub own: String,
}

#[derive(Debug)]
struct Entry {
    window_tokens: u64,
    window_1m: Option<u64>,
    fast: u128,
    prices: Vec<Price>,
}

/// One price, in pico-dollars per token.
#[derive(Debug, Clone, Copy)]
struct Price {
    from_unix_ms: i64,
    prompt_above: u64,
    input: u128,
    output: u128,
    cache_write_5m: u128,
    cache_write_1h: u128,
    cache_read: u128,
}

impl Price {
    fn of(&self, tokens: &TokenCounts) -> u128 {
        let part = |count: u64, price: u128| u128::from(count).saturating_mul(price);
        part(tokens.input, self.input)
            .saturating_add(part(tokens.output, self.output))
            .saturating_add(part(tokens.cache_write_5m, self.cache_write_5m))
            .saturating_add(part(tokens.cache_write_1h, self.cache_write_1h))
            .saturating_add(part(tokens.cache_read, self.cache_read))
    }
}

/// Where a person's own table is, as the environment says it: `$LONGHAUL_MODELS`, which
/// must be there, else `longhaul/models.toml` below `$XDG_CONFIG_HOME` or `~/.config`.
fn own_table(env: impl Fn(&str) -> Option<OsString>) -> Option<(PathBuf, bool)> {
    let path = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = path("LONGHAUL_MODELS") {
        return Some((file, true));
    }
    let absolute = |dir: PathBuf| Some(dir).filter(|dir| dir.is_absolute());
    let config = path("XDG_CONFIG_HOME").and_then(absolute);
    let config = config.or_else(|| Some(path("HOME").and_then(absolute)?.join(".config")));
    config.map(|config| (config.join("longhaul/models.toml"), false))
}

impl Models {
    /// The table in force: the person's own before the one that is built in, once
    /// [`Models::use_own`] was called.
    pub fn in_force() -> &'static Models {
        OWN.get().map_or_else(Models::builtin, |(models, _)| models)
    }

    /// Takes a person's own table into use, if there is one.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`]: it cannot be read, or is not in the format of
    /// `config/models.toml`.
    pub fn use_own(env: impl Fn(&str) -> Option<OsString>) -> crate::Result<()> {
        let Some((path, is_named)) = own_table(env) else { return Ok(()) };
        if let Some(models) = Models::of_file(&path, is_named)? {
            // The first one stands: prices do not change under a run.
            let _ = OWN.set((models, path));
        }
        Ok(())
    }

    /// The table of that file; `None` where it is not there and need not be.
    fn of_file(path: &Path, must_be: bool) -> crate::Result<Option<Models>> {
        let shown = path.display();
        let text = std::fs::File::open(path).and_then(|file| {
            let mut text = String::new();
            file.take(OWN_MAX_BYTES).read_to_string(&mut text).map(|_| text)
        });
        let text = match text {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound && !must_be => return Ok(None),
            Err(err) => {
                return Err(Error::usage(format!("cannot read the prices in {shown}"))
                    .caused_by(err)
                    .hint(
                        "LONGHAUL_MODELS names it; unset it to use the prices that are built in",
                    ));
            }
        };
        let models = Models::with_own(text).map_err(|why| {
            Error::usage(format!("the prices in {shown} are wrong: {}", why.trim_end()))
                .hint("its format is that of config/models.toml; nothing was started or counted")
        })?;
        Ok(Some(models))
    }

    /// The table that is built in.
    pub fn builtin() -> &'static Models {
        static MODELS: OnceLock<Models> = OnceLock::new();
        MODELS.get_or_init(|| Models::parse(TABLE).expect("a test parses the built-in table"))
    }

    /// Parses a table in the format of `config/models.toml`. The error says
    /// which entry is wrong.
    pub fn parse(text: &str) -> Result<Models, String> {
        Models::of(Texts { builtin: text.to_owned(), own: String::new() })
    }

    /// The table that is built in, with a person's own before it: a model that is in
    /// there is as it is there, whatever else it is called here. The error says which
    /// entry is wrong.
    pub fn with_own(own: String) -> Result<Models, String> {
        Models::of(Texts { builtin: TABLE.to_owned(), own })
    }

    /// The table that was made from these texts.
    ///
    /// # Errors
    /// They are not in the format of `config/models.toml`.
    pub fn of(texts: Texts) -> Result<Models, String> {
        let mut own: RawOwn = toml::from_str(&texts.own).map_err(|err| err.to_string())?;
        let builtin: RawTable = toml::from_str(&texts.builtin).map_err(|err| err.to_string())?;
        for model in own.model.iter_mut().filter(|model| model.window_tokens.is_none()) {
            let is_it =
                |known: &&RawModel| known.id == model.id || known.aliases.contains(&model.id);
            if let Some(known) = builtin.model.iter().find(is_it) {
                (model.window_tokens, model.window_1m) = (known.window_tokens, known.window_1m);
            }
        }
        let extras = builtin.extras;
        let searches = own.extras.web_search_per_thousand.unwrap_or(extras.web_search_per_thousand);
        let percent = own.extras.us_inference_percent.unwrap_or(extras.us_inference_percent);
        let mut models = Models {
            entries: Vec::with_capacity(own.model.len() + builtin.model.len()),
            names: HashMap::new(),
            web_search_pico: pico(searches, 1e9)?,
            us_inference_percent: u128::from(percent),
            texts,
        };
        models.add(own.model, |name| Err(format!("{name} is listed twice")))?;
        let own: HashSet<String> = models.names.keys().cloned().collect();
        models.add(builtin.model, |name| match own.contains(name) {
            true => Ok(()),
            false => Err(format!("{name} is listed twice")),
        })?;
        Ok(models)
    }

    /// Adds models; `taken` judges a name that is there already.
    fn add(
        &mut self,
        raw: Vec<RawModel>,
        taken: impl Fn(&str) -> Result<(), String>,
    ) -> Result<(), String> {
        for model in raw {
            let position = self.entries.len();
            for name in std::iter::once(&model.id).chain(&model.aliases) {
                match self.names.get(name) {
                    Some(_) => taken(name)?,
                    None => drop(self.names.insert(name.clone(), position)),
                }
            }
            self.entries.push(model.check()?);
        }
        Ok(())
    }

    /// What it was made from.
    pub fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Is there a price for `model`?
    pub fn knows(&self, model: &str) -> bool {
        self.entry(model).is_some()
    }

    /// The context window of `model` in tokens; `None` if the model is unknown.
    ///
    /// Transcripts drop a `[1m]` suffix, so what they name may have a larger
    /// window than this says: what the CLI itself reports comes first.
    pub fn window(&self, model: &str) -> Option<u64> {
        let entry = self.entry(model)?;
        let long = model.trim_end().ends_with("[1m]");
        Some(entry.window_1m.filter(|_| long).unwrap_or(entry.window_tokens))
    }

    /// Dollars for one response of `model` at `unix_ms`; `None` if the model
    /// is unknown. Prompt-length bands need the response by itself: a sum over
    /// several would land in the wrong band.
    pub fn cost(&self, model: &str, unix_ms: i64, tokens: &TokenCounts) -> Option<f64> {
        let billable = Billable { tokens: *tokens, ..Billable::default() };
        self.price(model, unix_ms, &billable).map(Usd::as_f64)
    }

    /// The exact price of one response of `model` at `unix_ms`; `None` if the
    /// model is unknown.
    pub fn price(&self, model: &str, unix_ms: i64, billable: &Billable) -> Option<Usd> {
        let entry = self.entry(model)?;
        let mut pico = entry.price_at(unix_ms, billable.tokens.prompt()).of(&billable.tokens);
        if billable.fast {
            pico = pico.saturating_mul(entry.fast);
        }
        Some(self.with_extras(pico, billable))
    }

    /// Dollars for `tokens` at the highest token price of any known model: a
    /// bound for budgets that have to hold although the model is unknown.
    pub fn dearest_cost(&self, tokens: &TokenCounts) -> f64 {
        let billable = Billable { tokens: *tokens, ..Billable::default() };
        self.dearest_price(&billable).as_f64()
    }

    /// [`Models::dearest_cost`], exact and with searches and geography.
    pub fn dearest_price(&self, billable: &Billable) -> Usd {
        let prices = self.entries.iter().flat_map(|entry| {
            let factor = if billable.fast { entry.fast } else { 1 };
            entry.prices.iter().map(move |price| price.of(&billable.tokens).saturating_mul(factor))
        });
        self.with_extras(prices.max().unwrap_or(0), billable)
    }

    fn with_extras(&self, mut pico: u128, billable: &Billable) -> Usd {
        if billable.us_inference {
            pico = pico.saturating_mul(self.us_inference_percent) / 100;
        }
        let searches = u128::from(billable.web_searches).saturating_mul(self.web_search_pico);
        Usd { pico: pico.saturating_add(searches) }
    }

    fn entry(&self, model: &str) -> Option<&Entry> {
        self.names.get(canonical(model)).map(|&position| &self.entries[position])
    }
}

impl Entry {
    /// The latest price in force at `unix_ms` in the highest band that
    /// `prompt_tokens` reaches. Before the first date the first price holds:
    /// a clock that is wrong must not make spending look unpriced.
    fn price_at(&self, unix_ms: i64, prompt_tokens: u64) -> &Price {
        let first = self.prices.iter().map(|price| price.from_unix_ms).min().unwrap_or(i64::MIN);
        self.prices
            .iter()
            .filter(|price| price.from_unix_ms <= unix_ms.max(first))
            .filter(|price| price.prompt_above == 0 || prompt_tokens > price.prompt_above)
            .max_by_key(|price| (price.from_unix_ms, price.prompt_above))
            .unwrap_or(&self.prices[0])
    }
}

/// The id without what surrounds it: provider prefix, `[1m]`, date, version.
fn canonical(model: &str) -> &str {
    let mut name = model.trim();
    name = name.strip_suffix("[1m]").unwrap_or(name);
    name = name.rsplit('/').next().unwrap_or(name);
    name = name.rsplit_once("anthropic.").map_or(name, |(_, rest)| rest);
    name = name.split_once('@').map_or(name, |(id, _)| id);
    if let Some((id, version)) = name.rsplit_once("-v") {
        let digits = version.split_once(':').map_or(version, |(major, _)| major);
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            name = id;
        }
    }
    match name.rsplit_once('-') {
        Some((id, tail)) if tail == "latest" || is_date(tail) => id,
        _ => name,
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit())
}

/// Turns a decimal price into whole pico-dollars.
fn pico(price: f64, unit: f64) -> Result<u128, String> {
    let exact = price * unit;
    let whole = exact.round();
    if !price.is_finite() || price < 0.0 || (exact - whole).abs() > 1e-3 {
        return Err(format!("{price} is not a price in whole pico-dollars"));
    }
    Ok(whole as u128)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    extras: RawExtras,
    model: Vec<RawModel>,
}

/// A person's own table: what is not in there is as it is built in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOwn {
    #[serde(default)]
    extras: RawOwnExtras,
    #[serde(default)]
    model: Vec<RawModel>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOwnExtras {
    web_search_per_thousand: Option<f64>,
    us_inference_percent: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExtras {
    web_search_per_thousand: f64,
    us_inference_percent: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    id: String,
    #[serde(default)]
    aliases: Vec<String>,
    /// A person's own table may leave it to the one that is built in.
    window_tokens: Option<u64>,
    window_1m: Option<u64>,
    fast: Option<u32>,
    /// Provenance, for people and for the test that demands it of what is built in.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test demands it"))]
    source: Option<Source>,
    price: Vec<RawPrice>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    Cli,
    Docs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrice {
    from: Option<String>,
    #[serde(default)]
    prompt_above: u64,
    input: f64,
    output: f64,
    cache_write_5m: f64,
    cache_write_1h: f64,
    cache_read: f64,
}

impl RawModel {
    fn check(self) -> Result<Entry, String> {
        let at = |err: String| format!("{}: {err}", self.id);
        let prices: Vec<Price> =
            self.price.iter().map(RawPrice::check).collect::<Result<_, _>>().map_err(at)?;
        if !prices.iter().any(|price| price.prompt_above == 0) {
            return Err(at("has no price for short prompts".into()));
        }
        let window_tokens = self.window_tokens.ok_or_else(|| at("has no window_tokens".into()))?;
        Ok(Entry {
            window_tokens,
            window_1m: self.window_1m,
            fast: u128::from(self.fast.unwrap_or(1)),
            prices,
        })
    }
}

impl RawPrice {
    fn check(&self) -> Result<Price, String> {
        let from_unix_ms = match &self.from {
            None => i64::MIN,
            Some(day) => day
                .parse::<jiff::civil::Date>()
                .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC))
                .map_err(|err| format!("from = {day:?}: {err}"))?
                .timestamp()
                .as_millisecond(),
        };
        let per_token = |price: f64| pico(price, PICO_PER_TOKEN_AT_USD_PER_MTOK);
        Ok(Price {
            from_unix_ms,
            prompt_above: self.prompt_above,
            input: per_token(self.input)?,
            output: per_token(self.output)?,
            cache_write_5m: per_token(self.cache_write_5m)?,
            cache_write_1h: per_token(self.cache_write_1h)?,
            cache_read: per_token(self.cache_read)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_795_213_587_000; // 2026-11-20

    fn counts(input: u64, output: u64, write_5m: u64, write_1h: u64, read: u64) -> TokenCounts {
        TokenCounts {
            input,
            output,
            cache_write_5m: write_5m,
            cache_write_1h: write_1h,
            cache_read: read,
        }
    }

    fn usd(model: &str, tokens: TokenCounts) -> Option<f64> {
        Models::builtin().cost(model, NOW_MS, &tokens)
    }

    /// Bills of Claude Code 2.1.329 for the same tokens.
    #[test]
    fn equals_the_bills_of_the_cli() {
        let mixed = counts(1000, 2000, 1000, 2000, 4000);
        let bills = [
            ("claude-fable-5-2", mixed, 0.1308),
            ("claude-fable-5-1", mixed, 0.1635),
            ("claude-fable-5", mixed, 0.1665),
            ("claude-mythos-5", mixed, 0.1665),
            ("claude-mythos-5-1", mixed, 0.1635),
            ("claude-opus-5-5", mixed, 0.0658),
            ("claude-opus-5", mixed, 0.08325),
            ("claude-opus-4-8", mixed, 0.08325),
            ("claude-opus-4-7", mixed, 0.08325),
            ("claude-opus-4-6", mixed, 0.08325),
            ("claude-opus-4-5-20251101", mixed, 0.08325),
            ("claude-sonnet-5-5", mixed, 0.0329),
            ("claude-sonnet-5", mixed, 0.0333),
            ("claude-sonnet-4-6", mixed, 0.04995),
            ("claude-sonnet-4-5-20250929", mixed, 0.04995),
            ("claude-sonnet-4-20250514", mixed, 0.04995),
            ("claude-3-7-sonnet-20250219", mixed, 0.04995),
            ("claude-haiku-5-5", mixed, 0.001665),
            ("claude-haiku-4-5", mixed, 0.01665),
            ("claude-3-5-haiku-20241022", mixed, 0.01332),
            ("claude-opus-4-1-20250805", mixed, 0.0658),
            ("us.anthropic.claude-opus-4-6-v1", mixed, 0.08325),
            ("anthropic/claude-opus-5-5", mixed, 0.0658),
            ("claude-opus-5-5", counts(1234, 5678, 10_000, 20_000, 40_000), 0.336496),
            ("claude-sonnet-4-5", counts(280_000, 1000, 0, 0, 0), 0.855),
            ("claude-haiku-5-5", counts(100_000, 0, 0, 0, 0), 0.01),
            ("claude-haiku-5-5", counts(100_001, 0, 0, 0, 0), 0.0500005),
            ("claude-haiku-5-5", counts(60_000, 0, 0, 0, 60_000), 0.033),
            ("claude-haiku-5-5", counts(60_000, 0, 60_000, 0, 0), 0.0675),
            ("claude-haiku-5-5", counts(99_000, 50_000, 0, 0, 0), 0.0349),
        ];
        for (model, tokens, bill) in bills {
            assert_eq!(usd(model, tokens), Some(bill), "{model} {tokens:?}");
        }
    }

    #[test]
    fn fast_geography_and_searches_are_billed_as_the_cli_bills_them() {
        let bill = |model: &str, web_searches, fast, us_inference| {
            let tokens = counts(1000, 2000, 1000, 2000, 4000);
            let billable = Billable { tokens, web_searches, fast, us_inference };
            Models::builtin().price(model, NOW_MS, &billable).unwrap().as_f64()
        };
        assert_eq!(bill("claude-opus-5-5", 3, false, false), 0.0958);
        assert_eq!(bill("claude-opus-5-5", 0, true, false), 0.1316);
        assert_eq!(bill("claude-opus-4-7", 0, true, false), 0.4995);
        assert_eq!(bill("claude-sonnet-5-5", 0, true, false), 0.0329);
        assert_eq!(bill("claude-opus-5-5", 3, true, false), 0.1616);
        assert_eq!(bill("claude-opus-5-5", 3, false, true), 0.10238);
        assert_eq!(bill("claude-opus-5-5", 0, true, true), 0.14476);
    }

    #[test]
    fn windows_follow_the_id() {
        let models = Models::builtin();
        assert_eq!(models.window("claude-opus-5-5"), Some(1_000_000));
        assert_eq!(models.window("claude-opus-5-5[1m]"), Some(1_000_000));
        assert_eq!(models.window("claude-sonnet-4-5"), Some(200_000));
        assert_eq!(models.window("claude-sonnet-4-5-20250929"), Some(200_000));
        assert_eq!(models.window("claude-sonnet-4-5[1m]"), Some(1_000_000));
        assert_eq!(models.window("claude-sonnet-4-5-20250929[1m]"), Some(1_000_000));
        assert_eq!(models.window("haiku"), Some(1_000_000));
    }

    #[test]
    fn an_unknown_model_is_unpriced_and_never_free() {
        for model in ["", "<synthetic>", "claude-nova-9", "claude-opus-5-6", "claude-opus-5-5-1"] {
            assert_eq!(usd(model, counts(1, 1, 1, 1, 1)), None, "{model}");
            assert_eq!(Models::builtin().window(model), None, "{model}");
        }
    }

    #[test]
    fn percent_is_that_of_the_status_line() {
        let seen = [
            (1, 0),
            (800, 0),
            (999, 0),
            (1000, 1),
            (1001, 1),
            (2999, 1),
            (3000, 2),
            (5000, 3),
            (29_000, 14),
            (57_000, 28),
            (74_800, 37),
            (75_000, 38),
            (75_200, 38),
            (113_000, 56),
            (115_000, 57),
            (124_999, 62),
            (125_000, 63),
            (150_999, 75),
            (151_000, 76),
            (174_003, 87),
            (199_000, 100),
            (201_000, 100),
            (250_000, 100),
        ];
        for (tokens, percent) in seen {
            assert_eq!(used_percent(tokens, 200_000), percent, "{tokens}");
        }
        assert_eq!(used_percent(7, 0), 100);
    }

    #[test]
    fn the_dearest_price_bounds_every_model() {
        let models = Models::builtin();
        let tokens = counts(90_000, 1, 2, 3, 4);
        let bound = models.dearest_cost(&tokens);
        for name in models.names.keys() {
            assert!(models.cost(name, NOW_MS, &tokens).unwrap() <= bound, "{name}");
        }
    }

    #[test]
    fn a_price_holds_from_its_day() {
        let day_ms = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let at = |when: &str| {
            Models::builtin().cost("sonnet", day_ms(when), &counts(0, 0, 0, 0, 1_000_000))
        };
        assert_eq!(at("2026-10-06T23:59:59.999Z"), Some(0.2));
        assert_eq!(at("2026-10-07T00:00:00Z"), Some(0.1));
    }

    #[test]
    fn a_clock_before_the_first_price_still_has_a_price() {
        let table = TABLE.to_owned()
            + "[[model]]\nid = \"later\"\nwindow_tokens = 1\nsource = \"docs\"\n\
               [[model.price]]\nfrom = \"2026-12-01\"\ninput = 7.0\noutput = 0.0\n\
               cache_write_5m = 0.0\ncache_write_1h = 0.0\ncache_read = 0.0\n";
        let models = Models::parse(&table).unwrap();
        assert_eq!(models.cost("later", 0, &counts(1_000_000, 0, 0, 0, 0)), Some(7.0));
    }

    #[test]
    fn a_persons_own_table_goes_before_the_one_that_is_built_in() {
        let price = |input: f64| {
            format!(
                "[[model.price]]\ninput = {input}\noutput = 0.0\ncache_write_5m = 0.0\n\
                 cache_write_1h = 0.0\ncache_read = 0.0\n"
            )
        };
        let own = format!(
            "[[model]]\nid = \"claude-opus-5-5\"\n{}[[model]]\nid = \"of-tomorrow\"\n\
             window_tokens = 7\n{}",
            price(3.0),
            price(9.0)
        );
        let models = Models::with_own(own.clone()).unwrap();
        let million = counts(1_000_000, 0, 0, 0, 0);
        assert_eq!(models.cost("claude-opus-5-5", NOW_MS, &million), Some(3.0));
        assert_eq!(models.cost("of-tomorrow", NOW_MS, &million), Some(9.0));
        assert_eq!(models.window("claude-opus-5-5"), Models::builtin().window("claude-opus-5-5"));
        // An alias that the own table does not name is as it was.
        assert_eq!(models.cost("opus", NOW_MS, &million), usd("opus", million));
        assert_eq!(models.cost("haiku", NOW_MS, &million), usd("haiku", million));
        assert_eq!(models.texts().own, own);
        let windowless = own.replace("window_tokens = 7\n", "");
        assert!(Models::with_own(windowless).unwrap_err().contains("of-tomorrow"));
        assert!(Models::with_own("[extras]\nweb = 1".into()).is_err());
        assert!(Models::with_own(String::new()).is_ok());
    }

    #[test]
    fn the_own_table_is_where_the_environment_says() {
        let at = |vars: &'static [(&str, &str)]| {
            own_table(|name| {
                let value = vars.iter().find(|(known, _)| *known == name);
                value.map(|(_, value)| OsString::from(value))
            })
        };
        let here = |path: &str, is_named| Some((PathBuf::from(path), is_named));
        assert_eq!(at(&[("LONGHAUL_MODELS", "p.toml"), ("HOME", "/h")]), here("p.toml", true));
        assert_eq!(at(&[("HOME", "/h")]), here("/h/.config/longhaul/models.toml", false));
        let xdg = at(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]);
        assert_eq!(xdg, here("/x/longhaul/models.toml", false));
        assert_eq!(at(&[("XDG_CONFIG_HOME", "x")]), None);
    }

    #[test]
    fn every_model_that_is_built_in_says_where_its_price_is_from() {
        let table: RawTable = toml::from_str(TABLE).unwrap();
        let without: Vec<String> =
            table.model.into_iter().filter(|m| m.source.is_none()).map(|m| m.id).collect();
        assert_eq!(without, Vec::<String>::new());
    }

    #[test]
    fn a_wrong_table_names_its_entry() {
        let twice = format!(
            "{TABLE}\n[[model]]\nid = \"opus\"\nwindow_tokens = 1\nsource = \"cli\"\nprice = []\n"
        );
        assert!(Models::parse(&twice).unwrap_err().contains("opus"));
        let negative = TABLE.replacen("input = 8.0", "input = -8.0", 1);
        assert!(Models::parse(&negative).unwrap_err().contains("claude-fable-5-2"));
    }
}
