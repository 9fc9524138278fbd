//! The router and the OpenAPI document, from the same handlers: what each says of
//! itself, and what holds for all of them.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Ref, RefOr};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Answer, ErrorAnswer, Failure, Outcome};
use super::{Hub, actions, gate, rest, usage};
use crate::queue::draft;
use crate::queue::task::{MAX_ID_BYTES, MAX_PRIORITY};

/// Where the document is served.
const DOCUMENT_PATH: &str = "/api/v1/openapi.json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "The hub of longhaul",
        description = "The task queue of longhaul, for programs on this machine. Every answer is JSON with `status`; every error has `error.code`, which does not change, and `error.message` for people."
    ),
    components(schemas(ErrorAnswer)),
    tags(
        (name = "tool", description = "One tool and its actions"),
        (name = "tasks", description = "Tasks"),
        (name = "results", description = "Results and the archive"),
        (name = "queue", description = "The queue as a whole"),
        (name = "usage", description = "What tasks used"),
        (name = "health", description = "Is all well?"),
    )
)]
struct Base;

/// What every operation can answer, besides what it says itself.
const COMMON: [(&str, &str); 5] = [
    ("400", "The request makes no sense; the code says why"),
    ("403", "The Host or Origin header names another place"),
    ("408", "The body did not come in time"),
    ("413", "The body is too large"),
    ("500", "The queue's store failed, or longhaul did"),
];

fn parts() -> (Router<Hub>, utoipa::openapi::OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(Base::openapi())
        .routes(routes!(actions::execute_task))
        .routes(routes!(actions::get_supported_actions))
        .routes(routes!(rest::list_tasks, rest::add_tasks))
        .routes(routes!(rest::get_task, rest::change_task, rest::delete_task))
        .routes(routes!(rest::cancel_task))
        .routes(routes!(rest::retry_task))
        .routes(routes!(rest::get_result))
        .routes(routes!(rest::list_results))
        .routes(routes!(rest::get_queue))
        .routes(routes!(rest::run_queue))
        .routes(routes!(rest::archive))
        .routes(routes!(usage::track))
        .routes(routes!(rest::healthz))
        .routes(routes!(get_document))
        .split_for_parts();
    complete(&mut document);
    link(&mut document);
    (router, document)
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    parts().1
}

/// All that the hub answers. Each request needs a [`super::Peer`] as extension.
pub fn router(hub: Hub) -> Router {
    parts()
        .0
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        // The gate has its own.
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state(hub.clone(), gate::pass))
        .with_state(hub)
}

/// This document
#[utoipa::path(
    get, path = DOCUMENT_PATH, tag = "health", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
async fn get_document() -> Outcome {
    Answer::ok(&document())
}

async fn unknown_path(uri: Uri) -> Failure {
    let path = crate::text::safe(uri.path()).into_owned();
    let message = format!("there is nothing at {}", crate::text::clip(&path, 100));
    Failure::new(StatusCode::NOT_FOUND, "unknown_path", message)
}

async fn unknown_method(method: Method, uri: Uri) -> Failure {
    let path = crate::text::safe(uri.path()).into_owned();
    let message = format!(
        "{} is not possible at {}",
        crate::text::clip(method.as_str(), 20),
        crate::text::clip(&path, 100)
    );
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// Adds what holds for all operations.
fn complete(document: &mut utoipa::openapi::OpenApi) {
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("Kept in `hub.token` below the state directory of longhaul"))
        .build();
    if let Some(components) = &mut document.components {
        components.add_security_scheme("token", SecurityScheme::Http(token));
    }
    for item in document.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete].into_iter();
        for operation in operations.flatten() {
            let mut add = |status: &str, what: &str| {
                let of_its_own = operation.responses.responses.contains_key(status);
                if !of_its_own {
                    let body = Ref::from_schema_name("ErrorAnswer");
                    let content = ContentBuilder::new().schema(Some(body)).build();
                    let response = ResponseBuilder::new()
                        .description(what)
                        .content("application/json", content)
                        .build();
                    operation.responses.responses.insert(status.into(), response.into());
                }
            };
            for (status, what) in COMMON {
                add(status, what);
            }
            if operation.security.is_some() {
                add("401", "The token is needed");
            }
        }
    }
}

/// What can be done with a task that was just accepted, or with one that was asked for.
/// Not with whatever `/execute_task` calls `task_id`: that of a log is free text.
fn link(document: &mut utoipa::openapi::OpenApi) {
    const FROM: [(&str, &str); 2] = [("/api/v1/tasks", "201"), ("/execute_task", "200")];
    const NEXT: [&str; 6] =
        ["get_task", "change_task", "delete_task", "cancel_task", "retry_task", "get_result"];
    for (path, status) in FROM {
        let asked = document.paths.paths.get_mut(path).and_then(|item| item.post.as_mut());
        let answered = asked.and_then(|post| post.responses.responses.get_mut(status));
        let Some(RefOr::T(response)) = answered else { continue };
        for operation in NEXT {
            let link = LinkBuilder::new()
                .operation_id(operation)
                .parameter("id", "$response.body#/tasks/0/task_id")
                .build();
            response.links.insert(operation.into(), link.into());
        }
    }
}

fn schema(value: Value) -> RefOr<Schema> {
    serde_json::from_value(value).expect("the schemas here are ones")
}

/// What [`crate::queue::TaskId`] accepts.
const ID: &str = "^[A-Za-z0-9_:@+](-?[A-Za-z0-9_:@+.])*-?$";

/// Characters that a text may not hold, as a part of a class: [`crate::text::is_hazard`]
/// but for tab and line ends.
const HAZARDS: &str = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb";

fn text_pattern() -> String {
    format!("^[^{HAZARDS}{TAGS}]*$")
}

/// The hazards beyond the basic plane, as they are: no escape is the same in every
/// dialect.
const TAGS: &str = "\u{E0000}-\u{E007F}";

pub(super) fn id() -> RefOr<Schema> {
    schema(json!({ "type": "string", "pattern": ID, "maxLength": MAX_ID_BYTES }))
}

pub(super) fn optional_id() -> RefOr<Schema> {
    schema(json!({ "type": ["string", "null"], "pattern": ID, "maxLength": MAX_ID_BYTES }))
}

pub(super) fn description() -> RefOr<Schema> {
    let class = format!("[^{HAZARDS}{TAGS}]");
    // Something in it has to be seen; U+0085 and the like are hazards already.
    let pattern = format!(r"^{class}*[^\s{HAZARDS}{TAGS}]{class}*$");
    schema(json!({
        "type": "string", "pattern": pattern, "maxLength": draft::MAX_TEXT_BYTES,
        "description": "What is to be done: at most 65,536 bytes, not blank, without control characters",
    }))
}

pub(super) fn context() -> RefOr<Schema> {
    schema(json!({
        "type": ["string", "null"], "pattern": text_pattern(), "maxLength": draft::MAX_TEXT_BYTES,
        "description": "What helps to do it: at most 65,536 bytes. Other JSON is accepted, too, and kept as its text",
    }))
}

pub(super) fn priority() -> RefOr<Schema> {
    let words = ["low", "normal", "medium", "high", "urgent", "critical"];
    schema(json!({
        "oneOf": [
            { "type": "string", "enum": words },
            { "type": "integer", "minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY },
            { "type": "null" },
        ],
        "description": "The higher goes first; low is -10, normal 0, high 10, urgent 20",
    }))
}

pub(super) fn command() -> RefOr<Schema> {
    schema(json!({
        "type": ["string", "null"], "pattern": text_pattern(), "maxLength": draft::MAX_COMMAND_BYTES,
        "description": "Must exit with 0 before done counts (`sh -c`)",
    }))
}

pub(super) fn after() -> RefOr<Schema> {
    schema(json!({
        "oneOf": [
            { "type": "string", "pattern": ID, "maxLength": MAX_ID_BYTES },
            {
                "type": "array", "maxItems": draft::MAX_AFTER,
                "items": { "type": "string", "pattern": ID, "maxLength": MAX_ID_BYTES },
            },
            { "type": "null" },
        ],
        "description": "Tasks that must be done before",
    }))
}

pub(super) fn model() -> RefOr<Schema> {
    let pattern = format!(r"^[^\s\-{HAZARDS}{TAGS}][^\s{HAZARDS}{TAGS}]*$");
    schema(json!({
        "type": ["string", "null"], "pattern": pattern, "maxLength": draft::MAX_MODEL_BYTES,
        "description": "Of its sessions; default is the CLI's own choice",
    }))
}

pub(super) fn budget() -> RefOr<Schema> {
    schema(json!({
        "type": ["number", "null"], "exclusiveMinimum": 0, "maximum": draft::MAX_BUDGET_USD,
        "description": "Most that it may cost, US dollars",
    }))
}

pub(super) fn states() -> RefOr<Schema> {
    let one = "(queued|in_progress|done|error|cancelled|blocked)";
    schema(json!({ "type": "string", "pattern": format!("^{one}(,{one})*$") }))
}

/// How a log is told; [`crate::track::Mode`].
pub(super) fn log_mode() -> RefOr<Schema> {
    schema(json!({
        "type": ["string", "null"], "enum": ["log_only", "log_and_summarize", null],
        "description": "Default is `log_only`",
    }))
}

/// A text that is not blank: what [`str::trim`] takes away, spelt out, as no two dialects
/// mean the same by a space.
const NOT_BLANK: &str =
    r"[^\u0009-\u000d \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]";

pub(super) fn tracked_task() -> RefOr<Schema> {
    schema(json!({
        "type": ["string", "number"], "pattern": NOT_BLANK, "maxLength": MAX_TASK_CHARS,
        "description": "The task; a number is taken as its text. It need not be one of the queue",
    }))
}

/// The same, where it may be anything.
pub(super) fn any_task() -> RefOr<Schema> {
    schema(json!({
        "type": null, "maxLength": MAX_TASK_CHARS,
        "description": "The task: a text, or a number, which is taken as its text. It need not be one of the queue",
    }))
}

/// Most characters of a task that is tracked.
const MAX_TASK_CHARS: u64 = 256;

/// A list would be of the other kind.
pub(super) fn no_entries() -> RefOr<Schema> {
    schema(json!({
        "type": ["null", "boolean", "number", "string", "object"],
        "description": "No list: recorded as `null`",
    }))
}

/// One of the `entries`. Whatever it is, it is taken: `null` stands for no type.
pub(super) fn track_entry() -> RefOr<Schema> {
    let any = |what: &str| json!({ "type": null, "description": what });
    schema(json!({
        "type": null,
        "properties": {
            "agent": any("Who: a text"),
            "model": any("Which model: a text"),
            "input_tokens": any("What was not read from the cache, a whole number"),
            "output_tokens": any("A whole number"),
            "total_tokens": any("Both: if it is another number than their sum, the sum is recorded"),
            "cache_write_tokens": any("Written to the cache, a part of `input_tokens`"),
            "cache_read_tokens": any("Read from the cache, beside `input_tokens`"),
            "estimated_cost": any("US dollars"),
        },
        "description": "What one agent used of one model: an object. What is missing or cannot be is recorded as `null`, and noted",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_is_what_trim_takes_away() {
        let class = NOT_BLANK.strip_prefix("[^").unwrap().strip_suffix(']').unwrap();
        let mut blank = Vec::new();
        let mut rest = class.chars();
        let mut is_range = false;
        while let Some(c) = rest.next() {
            let char = match c {
                '-' => {
                    is_range = true;
                    continue;
                }
                '\\' => {
                    let hex: String = rest.by_ref().skip(1).take(4).collect();
                    char::from_u32(u32::from_str_radix(&hex, 16).unwrap()).unwrap()
                }
                c => c,
            };
            let first = if std::mem::take(&mut is_range) { blank.pop().unwrap() } else { char };
            blank.extend(first..=char);
        }
        let mut white: Vec<char> = ('\0'..=char::MAX).filter(|c| c.is_whitespace()).collect();
        blank.sort_unstable();
        white.sort_unstable();
        assert_eq!(blank, white);
    }
}
