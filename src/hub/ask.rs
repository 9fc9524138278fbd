//! From a request to values: JSON bodies, queries, ids in paths. Whatever is wrong
//! with them is said in the words and codes of the queue.

use std::path::PathBuf;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Hub;
use super::answer::{Failure, Outcome};
use crate::queue::{Code, Draft, Refusal, TaskId, draft};

/// A JSON body.
pub(super) struct Json(pub Value);

impl FromRequest<Hub> for Json {
    type Rejection = Failure;

    async fn from_request(request: Request, hub: &Hub) -> Outcome<Self> {
        let is_json = is_json(request.headers());
        let bytes = bytes(request, hub).await?;
        value(is_json, &bytes).map(Self)
    }
}

/// A JSON body, which may be left out.
pub(super) struct MaybeJson(pub Option<Value>);

impl FromRequest<Hub> for MaybeJson {
    type Rejection = Failure;

    async fn from_request(request: Request, hub: &Hub) -> Outcome<Self> {
        let is_json = is_json(request.headers());
        match bytes(request, hub).await? {
            bytes if bytes.is_empty() => Ok(Self(None)),
            bytes => value(is_json, &bytes).map(|value| Self(Some(value))),
        }
    }
}

async fn bytes(request: Request, hub: &Hub) -> Outcome<Bytes> {
    let failed =
        |e: BytesRejection| Failure::new(StatusCode::BAD_REQUEST, "malformed_body", e.body_text());
    Bytes::from_request(request, hub).await.map_err(failed)
}

fn value(is_json: bool, bytes: &[u8]) -> Outcome<Value> {
    if !is_json {
        let message = "the Content-Type must be application/json";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Failure::new(status, "unsupported_media_type", message));
    }
    if weight_bytes(bytes) > MAX_WEIGHT_BYTES {
        let message = "the body holds too many values; send fewer in each of several requests";
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message));
    }
    let malformed =
        |e| Refusal::new(Code::MalformedJson, format!("the body is no JSON: {e}")).into();
    serde_json::from_slice(bytes).map_err(malformed)
}

/// Most that the values of a body may take in memory, bytes: two megabytes of `{"":0}`
/// would be two hundred.
const MAX_WEIGHT_BYTES: usize = 24 << 20;

/// About what the values of this JSON take in memory besides their texts: rather too much.
fn weight_bytes(json: &[u8]) -> usize {
    let (mut total, mut is_text, mut is_escaped) = (0, false, false);
    for byte in json {
        total += match byte {
            _ if std::mem::take(&mut is_escaped) => 0,
            b'\\' if is_text => {
                is_escaped = true;
                0
            }
            // A text begins and ends.
            b'"' => {
                is_text = !is_text;
                16
            }
            _ if is_text => 0,
            // A map of one entry has room for eleven.
            b'{' => 640,
            b'[' => 128,
            b',' => 96,
            _ => 0,
        };
    }
    total
}

/// Whatever the charset: JSON is UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// The `{id}` of a path.
pub(super) struct Id(pub TaskId);

impl FromRequestParts<Hub> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Outcome<Self> {
        let path: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, hub).await;
        let Path(text) = path.map_err(|e| {
            let message = format!("the path cannot be read: {}", e.body_text());
            Failure::new(StatusCode::BAD_REQUEST, "malformed_path", message)
        })?;
        Ok(Self(TaskId::parse(&text)?))
    }
}

/// The query of a URL, as parameters.
pub(super) struct Asked(pub Fields);

impl FromRequestParts<Hub> for Asked {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Outcome<Self> {
        let Query(pairs): Query<Vec<(String, String)>> = Query::from_request_parts(parts, hub)
            .await
            .map_err(|e| Refusal::new(Code::InvalidParameter, e.body_text()))?;
        let mut fields = Map::new();
        for (name, text) in pairs {
            if fields.contains_key(&name) {
                let message = format!("{} is given twice", named(&name));
                return Err(Refusal::new(Code::InvalidParameter, message).into());
            }
            fields.insert(name, Value::String(text));
        }
        Ok(Self(Fields { fields, are_texts: true }))
    }
}

fn named(name: &str) -> String {
    format!("the parameter `{}`", crate::text::clip(&crate::text::safe(name), 60))
}

fn invalid(name: &str, why: &str) -> Refusal {
    Refusal::new(Code::InvalidParameter, format!("{} {why}", named(name)))
}

/// Named parameters, taken out one by one; what is left at the end is unknown.
pub(super) struct Fields {
    fields: Map<String, Value>,
    /// Is each a text, as in a query?
    are_texts: bool,
}

impl Fields {
    /// Those of a JSON object; `null` and nothing at all are an empty one.
    pub fn of(what: &str, value: Option<Value>) -> Result<Self, Refusal> {
        match value {
            Some(Value::Object(fields)) => Ok(Self { fields, are_texts: false }),
            None | Some(Value::Null) => Ok(Self { fields: Map::new(), are_texts: false }),
            Some(_) => {
                let message = format!("{what} must be a JSON object");
                Err(Refusal::new(Code::InvalidParameter, message))
            }
        }
    }

    /// Takes out one as it is.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name)
    }

    /// A text.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(name, "must be a text")),
        }
    }

    /// A text that has to be there.
    pub fn needed_text(&mut self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// The id of a task, which has to be there.
    pub fn task_id(&mut self) -> Result<TaskId, Refusal> {
        TaskId::parse(&self.needed_text("task_id")?)
    }

    /// The id that was given, if it can be said back.
    pub fn id_if_any(&self) -> Option<String> {
        let given = self.fields.get("task_id").or_else(|| self.fields.get("id"))?.as_str()?;
        TaskId::parse(given).ok().map(|id| id.to_string())
    }

    /// Yes or no.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(Value::String(text)) if self.are_texts && (text == "true" || text == "false") => {
                Ok(Some(text == "true"))
            }
            Some(_) => Err(invalid(name, "must be true or false")),
        }
    }

    /// A whole number up to `most`.
    pub fn number(&mut self, name: &str, most: u32) -> Result<Option<u32>, Refusal> {
        let number = match self.fields.remove(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => whole(&number),
            Some(Value::String(text)) if self.are_texts => decimal(&text),
            Some(_) => None,
        };
        match number.filter(|n| *n <= u64::from(most)).and_then(|n| u32::try_from(n).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(invalid(name, &format!("must be a whole number from 0 to {most}"))),
        }
    }

    /// A folder; not looked at.
    pub fn path(&mut self, name: &str) -> Result<Option<PathBuf>, Refusal> {
        Ok(self.text(name)?.map(PathBuf::from))
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), Refusal> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => {
                Err(Refusal::new(Code::UnknownParameter, format!("{} is unknown", named(name))))
            }
        }
    }

    /// What is left, as a task somebody wrote down.
    pub fn draft(mut self) -> Result<Draft, Refusal> {
        // It may be large, and is a text from here on: nobody keeps two of it.
        let context = self.fields.remove("context").map(draft::context_of).transpose()?;
        let context = context.flatten().map(Value::String);
        Ok(Draft { context, ..read_fields(self.fields)? })
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.fields.keys()
    }
}

/// 5 and 5.0 are the same number to JSON.
fn whole(number: &serde_json::Number) -> Option<u64> {
    number.as_u64().or_else(|| {
        let float = number.as_f64()?;
        // Above this not every whole number is one of f64, and none is meant.
        (float.fract() == 0.0 && (0.0..=9e15).contains(&float)).then_some(float as u64)
    })
}

fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A parameter that has to be there is not.
fn missing(name: &str) -> Refusal {
    Refusal::new(Code::MissingParameter, format!("{} is missing", named(name)))
}

/// An object as a value of `T`, each field named that does not fit.
fn read_fields<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Refusal> {
    let whole = Value::Object(fields);
    let err = match T::deserialize(&whole) {
        Ok(value) => return Ok(value),
        Err(err) => err,
    };
    // serde does not say which field it was: each is tried alone.
    let Value::Object(fields) = whole else { return Err(of_serde(None, &err)) };
    for (name, value) in fields {
        let alone = Value::Object(Map::from_iter([(name.clone(), value)]));
        if let Err(err) = T::deserialize(&alone) {
            return Err(of_serde(Some(&name), &err));
        }
    }
    Err(of_serde(None, &err))
}

fn of_serde(name: Option<&str>, err: &serde_json::Error) -> Refusal {
    let said = err.to_string();
    let code = if said.starts_with("unknown field") {
        Code::UnknownParameter
    } else {
        Code::InvalidParameter
    };
    match (name, code) {
        (Some(name), Code::UnknownParameter) => {
            Refusal::new(code, format!("{} is unknown", named(name)))
        }
        // The words of serde may quote what was sent.
        (Some(name), _) => invalid(name, &format!("is not right: {}", crate::text::safe(&said))),
        (None, _) => Refusal::new(code, crate::text::safe(&said).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        Fields::of("params", Some(value)).unwrap()
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (value, code, name) in [
            (json!({"description": 5}), Code::InvalidParameter, "`description`"),
            (json!({"description": "x", "when": 1}), Code::UnknownParameter, "`when`"),
            (json!({"priority": "now"}), Code::InvalidParameter, "`priority`"),
            (json!({"after": [1]}), Code::InvalidParameter, "`after`"),
            (json!({"id": "a", "task_id": "b"}), Code::InvalidParameter, "duplicate field"),
        ] {
            let refusal = fields(value).draft().unwrap_err();
            assert_eq!(refusal.code, code, "{refusal}");
            assert!(refusal.message.contains(name), "{refusal}");
        }
    }

    #[test]
    fn parameters_have_their_types() {
        let mut given = fields(json!({"a": 5, "b": 5.0, "c": 5.5, "d": -1, "e": "5", "f": true,
            "g": "true", "h": null, "i": 11, "j": 1e300}));
        assert_eq!(
            (given.number("a", 10).unwrap(), given.number("b", 10).unwrap()),
            (Some(5), Some(5))
        );
        for name in ["c", "d", "e", "f", "i", "j"] {
            assert_eq!(given.number(name, 10).unwrap_err().code, Code::InvalidParameter, "{name}");
        }
        assert!(given.flag("g").is_err());
        assert_eq!(given.text("h").unwrap(), None);
        given.end().unwrap();
        let left = fields(json!({"x\u{1b}": 1})).end().unwrap_err();
        assert_eq!((left.code, left.message.contains('\u{1b}')), (Code::UnknownParameter, false));
        assert!(Fields::of("params", Some(json!([]))).is_err());
        assert!(Fields::of("params", Some(Value::Null)).unwrap().end().is_ok());
    }

    #[test]
    fn a_body_is_weighed_before_it_is_read() {
        assert_eq!(weight_bytes(br#"["a\"{[,", {"b": 1}]"#), 128 + 32 + 96 + 640 + 32);
        let nested = |depth: usize, what: &str| {
            let inner = vec![what; 400_000].join(",");
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            format!(r#"{{"description": "x", "context": {open}{inner}{close}}}"#)
        };
        for body in [nested(1, "0"), nested(100, "0"), nested(1, "{}"), nested(1, r#"{"":0}"#)] {
            let failure = value(true, body.as_bytes()).unwrap_err();
            let code = (failure.status, failure.code);
            assert_eq!(code, (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
        }
        // A large text is no weight, nor are as many tasks as there may be.
        let text = serde_json::json!({ "description": "[{,\"\\".repeat(100_000) });
        assert_eq!(weight_bytes(text.to_string().as_bytes()), 640 + 4 * 16);
        let task = r#"{"description": "x", "context": {"a": [1, 2], "b": {"c": "d"}}, "after": "a",
            "batch_id": "b", "priority": 5, "verify": "make", "model": "m", "budget_usd": 1.5}"#;
        let tasks = format!("[{}]", vec![task; 1_000].join(","));
        value(true, tasks.as_bytes()).unwrap();
    }

    #[test]
    fn json_is_json_whatever_its_charset() {
        for (given, is) in [
            (Some("application/json"), true),
            (Some("Application/JSON; charset=latin-1"), true),
            (Some("application/json;"), true),
            (Some("text/plain"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (Some("application/jsonx"), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            given.map(|text| headers.insert(header::CONTENT_TYPE, text.parse().unwrap()));
            assert_eq!(is_json(&headers), is, "{given:?}");
        }
    }
}
