//! The usage that one line of a transcript speaks of, found without looking into
//! anything else. Pure.
//!
//! Nearly all bytes of a transcript are contents that say nothing here; they are
//! passed over at the speed of a search for quotes. What is not exactly as Claude Code
//! writes it is [`Found::Odd`], and for the careful reader of `transcript::parse`.
//! Where this one says something, that one says the same (`usage::tests`).

use memchr::memchr2;

use crate::transcript::part::Amounts;

/// Deeper nesting is odd.
const MAX_DEPTH: u32 = 100;
/// Longer numbers are odd.
const MAX_DIGITS: usize = 12;

/// What a line says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Glance<'a> {
    /// `sessionId`, as JSON
    pub(super) session: Option<&'a [u8]>,
    /// `agentId`, as JSON
    pub(super) agent: Option<&'a [u8]>,
    /// `cwd`, as JSON
    pub(super) cwd: Option<&'a [u8]>,
    /// Its usage.
    pub(super) found: Found<'a>,
}

/// The usage of a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// It has none that counts.
    #[default]
    Nothing,
    /// This.
    Reply(Reply<'a>),
    /// It cannot be told at a glance.
    Odd,
}

/// A row of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reply<'a> {
    /// `message.id`
    pub(super) message: Option<&'a [u8]>,
    /// `requestId`, or the CLI's own reference.
    pub(super) request: Option<&'a [u8]>,
    /// The model that answered.
    pub(super) model: &'a [u8],
    /// The model that was asked for.
    pub(super) requested: Option<&'a [u8]>,
    /// Unix milliseconds.
    pub(super) unix_ms: Option<i64>,
    pub(super) is_side: bool,
    /// Another session made the request.
    pub(super) is_copy: bool,
    pub(super) amounts: Amounts,
}

/// Looks at a line, without its newline.
pub(super) fn glance(line: &[u8]) -> Glance<'_> {
    let mut glance = Glance::default();
    let mut row = Fields::default();
    let mut at = Cursor { bytes: line, at: 0 };
    let is_whole = at.object(|key, at| row.take(&mut glance, key, at)).is_some() && at.is_at_end();
    glance.found = if is_whole { row.found() } else { Found::Odd };
    glance
}

/// A string as it stands, if it has no escapes and no odd characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Text<'a> {
    #[default]
    None,
    Plain(&'a [u8]),
    Odd,
}

impl<'a> Text<'a> {
    fn of(value: &'a [u8]) -> Self {
        match value {
            b"null" => Text::None,
            [b'"', inner @ .., b'"']
                if inner.iter().all(|b| (0x20..0x7f).contains(b) && *b != b'\\') =>
            {
                Text::Plain(inner)
            }
            [b'"', ..] => Text::Odd,
            // Another type is as good as absent.
            _ => Text::None,
        }
    }

    /// What names something: an empty text does not.
    fn name(self) -> Result<Option<&'a [u8]>, Odd> {
        Ok(self.plain()?.filter(|name| !name.is_empty()))
    }

    fn plain(self) -> Result<Option<&'a [u8]>, Odd> {
        match self {
            Text::None => Ok(None),
            Text::Plain(text) => Ok(Some(text)),
            Text::Odd => Err(Odd),
        }
    }
}

/// Something that only the careful reader can tell.
struct Odd;

/// The fields of a row that say what it used.
#[derive(Debug, Default)]
struct Fields<'a> {
    seen: u32,
    is_odd: bool,
    kind: Text<'a>,
    timestamp: Text<'a>,
    cache_write_5m: u64,
    is_side: bool,
    is_error: bool,
    is_fork: bool,
    request_id: Text<'a>,
    request_ref: Text<'a>,
    requested: Text<'a>,
    session: Text<'a>,
    of_session: Text<'a>,
    message_id: Text<'a>,
    model: Text<'a>,
    stop_reason: Text<'a>,
    has_usage: bool,
    amounts: Amounts,
}

/// One bit each: a key that comes twice is odd.
mod key {
    pub(super) const TYPE: u32 = 1;
    pub(super) const TIMESTAMP: u32 = 1 << 1;
    pub(super) const SIDE: u32 = 1 << 2;
    pub(super) const ERROR: u32 = 1 << 3;
    pub(super) const REQUEST_ID: u32 = 1 << 4;
    pub(super) const REQUEST_REF: u32 = 1 << 5;
    pub(super) const REQUESTED: u32 = 1 << 6;
    pub(super) const MESSAGE: u32 = 1 << 7;
    pub(super) const ID: u32 = 1 << 8;
    pub(super) const MODEL: u32 = 1 << 9;
    pub(super) const STOP: u32 = 1 << 10;
    pub(super) const USAGE: u32 = 1 << 11;
    pub(super) const INPUT: u32 = 1 << 12;
    pub(super) const OUTPUT: u32 = 1 << 13;
    pub(super) const WRITE: u32 = 1 << 14;
    pub(super) const READ: u32 = 1 << 15;
    pub(super) const SPLIT: u32 = 1 << 16;
    pub(super) const WRITE_1H: u32 = 1 << 17;
    pub(super) const TOOLS: u32 = 1 << 18;
    pub(super) const SEARCHES: u32 = 1 << 19;
    pub(super) const SPEED: u32 = 1 << 20;
    pub(super) const GEO: u32 = 1 << 21;
    pub(super) const ITERATIONS: u32 = 1 << 22;
    pub(super) const CONTENT: u32 = 1 << 23;
    pub(super) const SESSION: u32 = 1 << 24;
    pub(super) const OF_SESSION: u32 = 1 << 25;
    pub(super) const FORK: u32 = 1 << 26;
    pub(super) const WRITE_5M: u32 = 1 << 27;
}

impl<'a> Fields<'a> {
    fn once(&mut self, key: u32) {
        self.is_odd |= self.seen & key != 0;
        self.seen |= key;
    }

    fn take(&mut self, glance: &mut Glance<'a>, name: &[u8], at: &mut Cursor<'a>) -> Option<()> {
        match name {
            b"type" => {
                self.once(key::TYPE);
                self.kind = Text::of(at.value()?);
            }
            b"timestamp" => {
                self.once(key::TIMESTAMP);
                self.timestamp = Text::of(at.value()?);
            }
            b"isSidechain" => {
                self.once(key::SIDE);
                self.is_side = at.value()? == b"true";
            }
            b"isApiErrorMessage" => {
                self.once(key::ERROR);
                self.is_error = at.value()? == b"true";
            }
            b"requestId" => {
                self.once(key::REQUEST_ID);
                self.request_id = Text::of(at.value()?);
            }
            b"requestRef" => {
                self.once(key::REQUEST_REF);
                self.request_ref = Text::of(at.value()?);
            }
            b"requestedModel" => {
                self.once(key::REQUESTED);
                self.requested = Text::of(at.value()?);
            }
            b"sessionId" => {
                self.once(key::SESSION);
                let session = at.value()?;
                glance.session = Some(session);
                self.session = Text::of(session);
            }
            b"requestSessionId" => {
                self.once(key::OF_SESSION);
                self.of_session = Text::of(at.value()?);
            }
            b"forkedFrom" => {
                // Whose the request was stands within it, if not beside it.
                self.once(key::FORK);
                self.is_fork = at.value()? != b"null";
            }
            b"agentId" => glance.agent = Some(at.value()?),
            b"cwd" => glance.cwd = Some(at.value()?),
            b"message" => {
                self.once(key::MESSAGE);
                match at.peek() {
                    b'{' => at.object(|name, at| self.take_message(name, at))?,
                    _ => drop(at.value()?),
                }
            }
            _ => {
                self.is_odd |= name.contains(&b'\\');
                at.value()?;
            }
        }
        Some(())
    }

    fn take_message(&mut self, name: &[u8], at: &mut Cursor<'a>) -> Option<()> {
        match name {
            b"id" => {
                self.once(key::ID);
                self.message_id = Text::of(at.value()?);
            }
            b"model" => {
                self.once(key::MODEL);
                self.model = Text::of(at.value()?);
            }
            b"stop_reason" => {
                self.once(key::STOP);
                self.stop_reason = Text::of(at.value()?);
            }
            b"content" => {
                self.once(key::CONTENT);
                at.value()?;
            }
            b"usage" => {
                self.once(key::USAGE);
                match at.peek() {
                    b'{' => {
                        self.has_usage = true;
                        at.object(|name, at| self.take_usage(name, at))?;
                    }
                    b'n' => drop(at.value()?),
                    _ => {
                        self.is_odd = true;
                        at.value()?;
                    }
                }
            }
            _ => {
                self.is_odd |= name.contains(&b'\\');
                at.value()?;
            }
        }
        Some(())
    }

    fn take_usage(&mut self, name: &[u8], at: &mut Cursor<'a>) -> Option<()> {
        match name {
            b"input_tokens" => self.amounts.input = self.number(key::INPUT, at)?,
            b"output_tokens" => self.amounts.output = self.number(key::OUTPUT, at)?,
            b"cache_creation_input_tokens" => {
                self.amounts.cache_write = self.number(key::WRITE, at)?;
            }
            b"cache_read_input_tokens" => self.amounts.cache_read = self.number(key::READ, at)?,
            b"cache_creation" => {
                self.once(key::SPLIT);
                self.inner(at, |fields, name, at| {
                    match name {
                        b"ephemeral_1h_input_tokens" => {
                            fields.amounts.cache_write_1h = fields.number(key::WRITE_1H, at)?;
                        }
                        b"ephemeral_5m_input_tokens" => {
                            fields.cache_write_5m = fields.number(key::WRITE_5M, at)?;
                        }
                        _ => drop(at.value()?),
                    }
                    Some(())
                })?;
            }
            b"server_tool_use" => {
                self.once(key::TOOLS);
                self.inner(at, |fields, name, at| {
                    match name {
                        b"web_search_requests" => {
                            fields.amounts.web_searches = fields.number(key::SEARCHES, at)?;
                        }
                        _ => drop(at.value()?),
                    }
                    Some(())
                })?;
            }
            b"speed" => {
                self.once(key::SPEED);
                let speed = self.text(at)?;
                self.amounts.is_fast = speed == Some(b"fast");
            }
            b"inference_geo" => {
                self.once(key::GEO);
                let geo = self.text(at)?;
                self.amounts.is_us = geo == Some(b"us");
            }
            b"iterations" => {
                self.once(key::ITERATIONS);
                // Another model may have answered on the way.
                self.is_odd |= !matches!(at.value()?, b"[]" | b"null");
            }
            _ => {
                self.is_odd |= name.contains(&b'\\');
                at.value()?;
            }
        }
        Some(())
    }

    fn inner(
        &mut self,
        at: &mut Cursor<'a>,
        mut take: impl FnMut(&mut Self, &[u8], &mut Cursor<'a>) -> Option<()>,
    ) -> Option<()> {
        match at.peek() {
            b'{' => at.object(|name, at| {
                self.is_odd |= name.contains(&b'\\');
                take(self, name, at)
            }),
            b'n' => at.value().map(drop),
            _ => {
                self.is_odd = true;
                at.value().map(drop)
            }
        }
    }

    fn number(&mut self, key: u32, at: &mut Cursor<'a>) -> Option<u64> {
        self.once(key);
        let value = at.value()?;
        let is_plain = value.len() <= MAX_DIGITS && value.iter().all(u8::is_ascii_digit);
        if !is_plain && value != b"null" {
            self.is_odd = true;
        }
        let digits = value.iter().filter(|_| is_plain);
        Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    fn text(&mut self, at: &mut Cursor<'a>) -> Option<Option<&'a [u8]>> {
        let text = Text::of(at.value()?).plain();
        self.is_odd |= text.is_err();
        Some(text.unwrap_or(None))
    }

    fn found(self) -> Found<'a> {
        self.reply().unwrap_or(Found::Odd)
    }

    fn reply(self) -> Result<Found<'a>, Odd> {
        if self.is_odd {
            return Err(Odd);
        }
        match self.kind.plain()? {
            Some(b"assistant") => {}
            Some(_) => return Ok(Found::Nothing),
            None => return Err(Odd),
        }
        if !self.has_usage || self.is_error {
            return Ok(Found::Nothing);
        }
        // Cut off: what it generated has to be estimated from its content.
        if self.seen & key::STOP != 0 && self.stop_reason.plain()?.is_none() {
            return Err(Odd);
        }
        let model = self.model.plain()?.unwrap_or_default();
        if model == super::SYNTHETIC {
            return Ok(Found::Nothing);
        }
        let request_ref = self.request_ref.name()?;
        let (of_session, session) = (self.of_session.plain()?, self.session.plain()?);
        if of_session.is_none() && self.is_fork {
            return Err(Odd);
        }
        let is_copy = of_session.is_some_and(|of| Some(of) != session);
        let mut amounts = self.amounts;
        if amounts.cache_write == 0 {
            amounts.cache_write = self.cache_write_5m + amounts.cache_write_1h;
        }
        Ok(Found::Reply(Reply {
            message: self.message_id.name()?,
            request: self.request_id.name()?.or(request_ref),
            model,
            requested: self.requested.name()?,
            unix_ms: self.timestamp.plain()?.map(unix_ms).transpose()?,
            is_side: self.is_side,
            is_copy,
            amounts,
        }))
    }
}

/// `2026-11-20T10:00:00.000Z`, as the CLI writes it.
fn unix_ms(text: &[u8]) -> Result<i64, Odd> {
    let pattern = b"dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = |(byte, wanted): (&u8, &u8)| match wanted {
        b'd' => byte.is_ascii_digit(),
        _ => byte == wanted,
    };
    if text.len() != pattern.len() || !text.iter().zip(pattern).all(fits) {
        return Err(Odd);
    }
    let number = |from: usize, to: usize| {
        text[from..to].iter().fold(0_i64, |n, d| n * 10 + i64::from(d - b'0'))
    };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    let is_real = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=28).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    // The careful reader knows the lengths of months and leap seconds.
    if !is_real {
        let text = std::str::from_utf8(text).map_err(|_| Odd)?;
        return text
            .parse::<jiff::Timestamp>()
            .map(jiff::Timestamp::as_millisecond)
            .map_err(|_| Odd);
    }
    Ok((days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000
        + number(20, 23))
}

/// Days since 1970-01-01 in the Gregorian calendar, counted in years that begin in
/// March, so that a leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    // Of March to February, five months at a time have 153 days.
    year * 365 + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// A place in a line of JSON. Whatever is passed over is looked at closely enough to
/// know that it is JSON, but for control characters in strings.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
    }

    fn is_at_end(&mut self) -> bool {
        self.blanks();
        self.at == self.bytes.len()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        let is_there = self.peek() == byte;
        self.at += usize::from(is_there);
        is_there.then_some(())
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let from = self.at;
        self.expect(b'"')?;
        loop {
            self.at += memchr2(b'"', b'\\', self.bytes.get(self.at..)?)?;
            if self.peek() == b'"' {
                self.at += 1;
                return Some(&self.bytes[from..self.at]);
            }
            match self.bytes.get(self.at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
                b'u' if self
                    .bytes
                    .get(self.at + 2..self.at + 6)?
                    .iter()
                    .all(u8::is_ascii_hexdigit) =>
                {
                    self.at += 6;
                }
                _ => return None,
            }
        }
    }

    /// A key with the colon behind it; gives it without its quotes.
    fn key(&mut self) -> Option<&'a [u8]> {
        self.blanks();
        let key = self.string()?;
        self.blanks();
        self.expect(b':')?;
        self.blanks();
        Some(&key[1..key.len() - 1])
    }

    /// An object, whose values `each` takes.
    fn object(&mut self, mut each: impl FnMut(&'a [u8], &mut Self) -> Option<()>) -> Option<()> {
        self.blanks();
        self.expect(b'{')?;
        self.blanks();
        if self.expect(b'}').is_some() {
            return Some(());
        }
        loop {
            let key = self.key()?;
            each(key, self)?;
            self.blanks();
            match self.peek() {
                b',' => self.at += 1,
                _ => return self.expect(b'}'),
            }
        }
    }

    /// Any value, as it stands.
    fn value(&mut self) -> Option<&'a [u8]> {
        self.blanks();
        let from = self.at;
        match self.peek() {
            b'"' => drop(self.string()?),
            b'{' | b'[' => self.nested()?,
            _ => self.scalar()?,
        }
        Some(&self.bytes[from..self.at])
    }

    fn scalar(&mut self) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
        let length = rest.iter().position(is_end).unwrap_or(rest.len());
        let is_value = match &rest[..length] {
            b"true" | b"false" | b"null" => true,
            number => is_number(number),
        };
        self.at += length;
        is_value.then_some(())
    }

    /// An object or a list, without recursion.
    fn nested(&mut self) -> Option<()> {
        // A bit for each level: is it an object?
        let (mut objects, mut depth) = (0_u128, 0_u32);
        loop {
            self.blanks();
            let is_object = self.peek() == b'{';
            match self.peek() {
                b'{' | b'[' => {
                    self.at += 1;
                    self.blanks();
                    let end = if is_object { b'}' } else { b']' };
                    if self.expect(end).is_none() {
                        if depth == MAX_DEPTH {
                            return None;
                        }
                        objects = objects << 1 | u128::from(is_object);
                        depth += 1;
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => drop(self.string()?),
                _ => self.scalar()?,
            }
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.blanks();
                let is_object = objects & 1 == 1;
                match self.peek() {
                    b',' => {
                        self.at += 1;
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    b'}' if is_object => self.at += 1,
                    b']' if !is_object => self.at += 1,
                    _ => return None,
                }
                objects >>= 1;
                depth -= 1;
            }
        }
    }
}

/// Is it a number of JSON?
fn is_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text[0] == b'0') {
        return false;
    }
    let mut rest = &text[whole..];
    if let [b'.', fraction @ ..] = rest {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = &fraction[length..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', digits @ ..] => digits,
            all => all,
        };
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}
