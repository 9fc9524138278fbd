//! Counting what a session used: each response once, by the rules of `part`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::parse::Damage;
use super::part::{Bill, COPIES_MAX, Key, Name, Names, Part, Telling, Told, counted};
use super::record::{Assistant, Row};
use crate::models::{Models, TokenCounts, Usd};

/// What a session, or several, used.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// What each file tells of each response, by message and request.
    told: HashMap<ResponseKey, Vec<(u32, Part)>>,
    messages: HashMap<Key, Message>,
    names: Names,
    total: TokenCounts,
    by_model: HashMap<Name, TokenCounts>,
    /// The files of subagents; what is read now is of the file with this number, 0 being
    /// the main one.
    agents: Vec<PathBuf>,
    agent: u32,
    responses: u64,
    unidentified: Unidentified,
    pub(super) damage: Damage,
}

/// Usage in rows without any id: it cannot be told from a repetition, so it is
/// kept apart from the totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Unidentified {
    /// Rows.
    pub rows: u64,
    /// Their tokens, repetitions included.
    pub tokens: TokenCounts,
}

/// What the responses of a [`Ledger`] cost at list price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Dollars for the responses of known models.
    pub usd: f64,
    /// Tokens of unknown models, which `usd` leaves out.
    pub unpriced_tokens: u64,
    /// `usd` and, for the unpriced tokens, the dearest price known: what a
    /// budget should count.
    pub at_most_usd: f64,
}

/// What one agent used of one model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share<'a> {
    /// The subagent's file; `None`: the main thread.
    pub agent: Option<&'a Path>,
    /// The model that is billed.
    pub model: &'a str,
    /// Tokens.
    pub tokens: TokenCounts,
    /// Dollars at list price; `None`: the model is unknown.
    pub usd: Option<Usd>,
}

/// A message, and the request within it.
type ResponseKey = (Key, Option<Key>);

/// The requests of a message.
#[derive(Debug, Clone, Default)]
struct Message {
    requests: Vec<Option<Key>>,
    /// The one that came to the main thread last.
    main: Option<Key>,
    counts: Counts,
}

/// What decides which requests of a message count.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// Requests that rows name.
    named: u32,
    /// Those of them that are in the main thread.
    main: u32,
}

impl Counts {
    /// While this stays, what counts of one request says nothing of the others.
    fn rule(self) -> (bool, bool, bool) {
        (self.main == 1, self.named > 1, self.are_copies())
    }

    /// All that is told of it is one response.
    fn are_copies(self) -> bool {
        self.main <= 1 && self.named as usize <= COPIES_MAX
    }
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a row. True if it speaks of a response not seen before, or seen
    /// only outside the main thread.
    pub fn count(&mut self, row: &Row, assistant: &Assistant) -> bool {
        let new = match Telling::of(row, assistant, |model| self.names.of(model)) {
            Telling::Nothing => return false,
            Telling::Unidentified(tokens) => {
                self.unidentified.rows += 1;
                self.unidentified.tokens.add(&tokens);
                return false;
            }
            Telling::Of(part) => part,
        };
        let key = (new.message, new.request);
        let mut message = self.messages.remove(&key.0).unwrap_or_default();
        let then = message.counts;
        let known = self.told.get(&key).map(|told| told.iter().any(|(_, part)| part.is_main));
        let is_new_in_main = new.is_main && !known.unwrap_or(false);
        let now = Counts {
            named: then.named + u32::from(known.is_none() && key.1.is_some()),
            main: then.main + u32::from(is_new_in_main),
        };
        // Thousands of requests under one message must not be gone through for each row.
        let is_steady = then.rule() == now.rule() && now.named > 1 && !now.are_copies();
        let all = |message: &Message| message.requests.clone();
        let touched = match (is_steady, now.main == 1) {
            (false, _) => None,
            // Each counts by itself, and rows without a request do not.
            (true, false) => Some(Vec::from_iter(key.1.map(Some))),
            (true, true) if key.1.is_none() || key.1 == message.main => {
                Some(vec![message.main, None])
            }
            // Copies of the one in the main thread.
            (true, true) => Some(Vec::new()),
        };
        self.put(key.0, &touched.clone().unwrap_or_else(|| all(&message)), false);
        if known.is_none() {
            message.requests.push(key.1);
        }
        if is_new_in_main {
            message.main = key.1;
        }
        self.take_in(key, new);
        self.put(key.0, &touched.unwrap_or_else(|| all(&message)), true);
        message.counts = now;
        self.messages.insert(key.0, message);
        known.is_none() || is_new_in_main
    }

    fn take_in(&mut self, key: ResponseKey, new: Part) {
        let told = self.told.entry(key).or_default();
        match told.iter_mut().find(|(file, _)| *file == self.agent) {
            Some((_, known)) => known.merge(&new, self.names.all()),
            None => {
                told.reserve_exact(1);
                told.push((self.agent, new));
            }
        }
    }

    /// Tokens of all responses.
    pub fn total(&self) -> &TokenCounts {
        &self.total
    }

    /// Tokens by billed model, by name.
    pub fn by_model(&self) -> impl Iterator<Item = (&str, &TokenCounts)> {
        let named = self.by_model.iter().map(|(model, tokens)| (self.names.name(*model), tokens));
        named.collect::<BTreeMap<_, _>>().into_iter()
    }

    /// How many different responses were counted.
    pub fn responses(&self) -> u64 {
        self.responses
    }

    /// Usage that could not be attributed to a response.
    pub fn unidentified(&self) -> Unidentified {
        self.unidentified
    }

    /// What was wrong with the rows.
    pub fn damage(&self) -> Damage {
        self.damage
    }

    /// Prices every response by itself, at its own time.
    pub fn cost(&self, models: &Models) -> Cost {
        let mut priced = Usd::default();
        let mut bound = Usd::default();
        let mut unpriced_tokens: u64 = 0;
        self.each_bill(|_, bill| {
            match models.price(self.names.name(bill.model), bill.unix_ms, &bill.billable) {
                Some(price) => priced = priced.plus(price),
                None => {
                    bound = bound.plus(models.dearest_price(&bill.billable));
                    unpriced_tokens = unpriced_tokens.saturating_add(bill.billable.tokens.total());
                }
            }
        });
        Cost { usd: priced.as_f64(), unpriced_tokens, at_most_usd: priced.plus(bound).as_f64() }
    }

    /// What each agent used of each model, priced.
    pub fn shares(&self, models: &Models) -> Vec<Share<'_>> {
        let mut shares = BTreeMap::new();
        self.each_bill(|file, bill| {
            let agent = (file as usize).checked_sub(1);
            let agent = agent.and_then(|at| self.agents.get(at)).map(PathBuf::as_path);
            let model = self.names.name(bill.model);
            let price = models.price(model, bill.unix_ms, &bill.billable);
            let tokens = TokenCounts::default();
            let share =
                shares.entry((agent, model)).or_insert(Share { agent, model, tokens, usd: None });
            share.tokens.add(&bill.billable.tokens);
            // Of one model, so all of it has a price or none.
            share.usd = price.map(|price| price.plus(share.usd.unwrap_or_default()));
        });
        shares.into_values().collect()
    }

    /// What is counted from now on is of the main file.
    pub(super) fn read_main(&mut self) {
        self.agent = 0;
    }

    /// What is counted from now on is of the file with this number. One that has none
    /// gets one.
    pub(super) fn read_agent(&mut self, number: &mut Option<u32>, file: &Path) {
        self.agent = *number.get_or_insert_with(|| {
            self.agents.push(file.to_owned());
            u32::try_from(self.agents.len()).unwrap_or(0)
        });
    }

    fn each_bill(&self, mut each: impl FnMut(u32, &Bill)) {
        for (id, message) in &self.messages {
            let told = self.told_of(*id, &message.requests);
            for (file, part) in counted(&told, self.names.all()) {
                part.bills().for_each(|bill| each(file, &bill));
            }
        }
    }

    fn told_of(&self, message: Key, requests: &[Option<Key>]) -> Vec<Told<'_>> {
        let told = requests.iter().filter_map(|request| self.told.get(&(message, *request)));
        told.flatten().map(|(file, part)| Told { file: *file, part }).collect()
    }

    /// Puts what counts of these requests of a message into the totals, or takes it out.
    fn put(&mut self, id: Key, requests: &[Option<Key>], is_in: bool) {
        let counted = counted(&self.told_of(id, requests), self.names.all());
        for (_, part) in counted {
            for bill in part.bills() {
                let tokens = &bill.billable.tokens;
                let responses = u64::from(bill.is_response);
                let of_model = self.by_model.entry(bill.model).or_default();
                if is_in {
                    self.responses += responses;
                    self.total.add(tokens);
                    of_model.add(tokens);
                    continue;
                }
                self.responses -= responses;
                self.total.subtract(tokens);
                of_model.subtract(tokens);
                if of_model.is_zero() {
                    self.by_model.remove(&bill.model);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::part::SYNTHETIC_MODEL;
    use super::super::record::{ApiError, Body, Usage};
    use super::*;

    #[derive(Debug, Clone)]
    struct Line {
        id: Option<u8>,
        request: Option<u8>,
        /// The main file is 0.
        file: u8,
        sidechain: bool,
        finished: bool,
        block: u64,
        chars: u64,
        counts: [u64; 5],
    }

    impl Line {
        /// What groups it; without a message id the request stands for it.
        fn group(&self) -> Option<u8> {
            self.id.or(self.request.map(|request| 100 + request))
        }
    }

    fn line() -> impl Strategy<Value = Line> {
        let some = proptest::option::weighted;
        let ids = (some(0.95, 0..6_u8), some(0.9, 0..3_u8));
        let flags =
            (proptest::bool::weighted(0.7), proptest::bool::weighted(0.8), 0..3_u64, 0..900_u64);
        let numbers = (0..4_u8, proptest::array::uniform5(0..1000_u64));
        (ids, flags, numbers).prop_map(|(ids, flags, (file, counts))| Line {
            id: ids.0,
            request: ids.1,
            file,
            sidechain: flags.0 || file > 0,
            finished: flags.1,
            block: flags.2,
            chars: flags.3,
            // A placeholder now and then.
            counts: match flags.2 {
                0 => [counts[0], counts[1] % 12, counts[2], counts[3], counts[4]],
                _ => counts,
            },
        })
    }

    fn count(ledger: &mut Ledger, line: &Line) {
        let usage = Usage {
            input: line.counts[0],
            output: line.counts[1],
            cache_write: line.counts[2],
            cache_write_1h: line.counts[3],
            cache_read: line.counts[4],
            ..Usage::default()
        };
        let request = line.request.map(|id| format!("req_{id}"));
        let assistant = Assistant {
            message_id: line.group().filter(|_| line.id.is_some()).map(|id| format!("msg_{id}")),
            request_id: request,
            model: "claude-opus-5-5".into(),
            finished: line.finished,
            block: line.block,
            visible_chars: line.chars,
            usage: Some(usage),
            ..Assistant::default()
        };
        let row = Row { unix_ms: Some(0), sidechain: line.sidechain, body: Body::Quiet };
        ledger.agent = line.file.into();
        ledger.count(&row, &assistant);
    }

    fn ledger<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Ledger {
        let mut ledger = Ledger::new();
        lines.into_iter().for_each(|line| count(&mut ledger, line));
        ledger
    }

    /// The rules, told by looking at all rows at once.
    fn reference(lines: &[Line]) -> (u64, TokenCounts) {
        let mut keys: Vec<(u8, Option<u8>)> =
            lines.iter().filter_map(|line| Some((line.group()?, line.request))).collect();
        keys.sort_unstable();
        keys.dedup();
        let of = |id: u8, request: Option<u8>| {
            lines.iter().filter(move |l| l.group() == Some(id) && l.request == request)
        };
        let in_main = |id, request: Option<u8>| of(id, request).any(|line| !line.sidechain);
        let mut sum = (0, TokenCounts::default());
        let mut ids: Vec<u8> = keys.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        for id in ids {
            let mut named: Vec<Option<u8>> =
                keys.iter().filter(|key| key.0 == id && key.1.is_some()).map(|key| key.1).collect();
            let all = || lines.iter().filter(|l| l.group() == Some(id));
            if named.iter().filter(|request| in_main(id, **request)).count() <= 1 {
                named.clear();
            }
            let are_copies = named.is_empty();
            // Rows without a request are of the only one, or are all there is.
            let bare: Vec<&Line> = all().filter(|l| are_copies || l.request.is_none()).collect();
            let mut responses: Vec<Vec<&Line>> =
                named.iter().map(|request| of(id, *request).collect()).collect();
            match &mut responses[..] {
                [] => responses.push(bare),
                [only] => only.extend(bare),
                _ => {}
            }
            for told in responses {
                let max = |field: usize| told.iter().map(|l| l.counts[field]).max().unwrap_or(0);
                let mut output = max(1);
                if output <= 8 && !told.iter().any(|line| line.finished) {
                    let block = |b| told.iter().filter(|l| l.block == b).map(|l| l.chars).max();
                    let chars: u64 = (0..3).filter_map(block).sum();
                    output = output.max((chars as f64 / 3.0).round() as u64);
                }
                let long = max(3).min(max(2));
                sum.0 += 1;
                sum.1.add(&TokenCounts {
                    input: max(0),
                    output,
                    cache_write_5m: max(2) - long,
                    cache_write_1h: long,
                    cache_read: max(4),
                });
            }
        }
        sum
    }

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(
            (lines, shuffled) in proptest::collection::vec(line(), 0..40)
                .prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle())),
        ) {
            let (responses, total) = reference(&lines);
            let once = ledger(&lines);
            prop_assert_eq!(once.responses(), responses);
            prop_assert_eq!(once.total(), &total);
            let again = ledger(shuffled.iter().chain(&lines).chain(shuffled.iter().rev()));
            prop_assert_eq!(again.responses(), responses);
            prop_assert_eq!(again.total(), &total);
            let models = Models::builtin();
            prop_assert_eq!(again.cost(models), once.cost(models));
            let by_model: u64 = again.by_model().map(|(_, tokens)| tokens.total()).sum();
            prop_assert_eq!(by_model, total.total());
        }
    }

    /// Somebody may write such rows on purpose: gone through for each other they would
    /// take hours.
    #[test]
    fn requests_by_the_thousand_under_one_message_are_no_trouble() {
        let row = |sidechain| Row { unix_ms: Some(0), sidechain, body: Body::Quiet };
        let of = |request: u32| Assistant {
            message_id: Some("m".into()),
            request_id: Some(format!("r{request}")),
            finished: true,
            usage: Some(Usage { input: 1, ..Usage::default() }),
            ..Assistant::default()
        };
        let mut ledger = Ledger::new();
        for request in 0..50_000 {
            assert!(ledger.count(&row(true), &of(request)));
            if request as usize + 1 == COPIES_MAX {
                assert_eq!(ledger.responses(), 1, "as many may be copies");
            }
        }
        assert_eq!((ledger.responses(), ledger.total().input), (50_000, 50_000));
        // Once one is in the main thread, the others are its copies.
        assert!(ledger.count(&row(false), &of(7)));
        assert_eq!((ledger.responses(), ledger.total().input), (1, 1));
        for request in 50_000..100_000 {
            assert!(ledger.count(&row(true), &of(request)));
        }
        assert_eq!(ledger.responses(), 1);
        // With two of them, message ids say nothing.
        assert!(ledger.count(&row(false), &of(8)));
        assert_eq!(ledger.responses(), 100_000);
    }

    #[test]
    fn failed_and_made_up_rows_count_nothing() {
        let row = Row { unix_ms: None, sidechain: false, body: Body::Quiet };
        let counted = Assistant {
            message_id: Some("m".into()),
            usage: Some(Usage { input: 5, ..Usage::default() }),
            ..Assistant::default()
        };
        let api_error = Some(ApiError { error: "x".into(), status: None, limit: None });
        let failed = Assistant { api_error, ..counted.clone() };
        let made_up = Assistant { model: SYNTHETIC_MODEL.into(), ..counted.clone() };
        let mut ledger = Ledger::new();
        assert!(!ledger.count(&row, &failed));
        assert!(!ledger.count(&row, &made_up));
        assert_eq!((ledger.responses(), ledger.total().total()), (0, 0));
        assert!(ledger.count(&row, &counted));
        assert_eq!((ledger.responses(), ledger.total().total()), (1, 5));
    }

    #[test]
    fn rows_without_any_id_stand_apart() {
        let line = Line {
            id: None,
            request: None,
            file: 0,
            sidechain: false,
            finished: true,
            block: 0,
            chars: 0,
            counts: [1, 2, 0, 0, 0],
        };
        let ledger = ledger([&line, &line]);
        assert_eq!(ledger.responses(), 0);
        assert_eq!((ledger.unidentified().rows, ledger.unidentified().tokens.total()), (2, 6));
    }
}
