//! Who may ask: the Host and Origin of every request, the token of those that
//! change anything, and the size and pace of bodies.
//!
//! A page in a browser on this machine can send requests here, and by rebinding
//! its name to 127.0.0.1 even read the answers. It cannot choose the Host and
//! Origin headers, so these are looked at in any case.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;

use super::Hub;
use super::answer::{Failure, Outcome};
use super::peer::Peer;

/// A body that is too large is read so far, so that its sender comes to read the
/// answer.
const MAX_DISCARDED_BYTES: u64 = 64 << 20;

/// Every request comes through here.
pub(super) async fn pass(State(hub): State<Hub>, request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        return Failure::internal("the connection is unknown").into_response();
    };
    let (parts, body) = request.into_parts();
    // Read in any case: a client that is still sending when it is refused may never
    // see why.
    let bytes = whole(&hub, &parts.headers, body).await;
    let answering = peer.answer();
    let response = match check_names(&parts.headers, &parts.uri, peer.local).and(bytes) {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(failure) => failure.into_response(),
    };
    answering.with(response)
}

/// The body, if it is small enough and comes in time.
async fn whole(hub: &Hub, headers: &HeaderMap, body: Body) -> Outcome<Bytes> {
    let most = hub.settings().max_body_bytes;
    let too_large = || {
        let message = format!("the body is larger than {} KiB (hub.max_body_kb)", most / 1024);
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let said = said.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let asks_first = headers.contains_key(header::EXPECT);
    let enough = MAX_DISCARDED_BYTES.max(2 * most as u64);
    if said > enough || (asks_first && said > most as u64) {
        // What is left of it is not read, so nothing can follow it.
        return Err(too_large().and_close());
    }
    let within = Duration::from_millis(hub.settings().body_timeout_ms);
    match tokio::time::timeout(within, read(body, most, enough)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(too_large().and_close()),
        Ok(Err(_)) => {
            let message = "the body broke off, or is not what its headers say";
            Err(Failure::new(StatusCode::BAD_REQUEST, "malformed_body", message).and_close())
        }
        Err(_) => {
            let message = format!("the body did not come within {} s", within.as_secs());
            let status = StatusCode::REQUEST_TIMEOUT;
            Err(Failure::new(status, "request_timeout", message).and_close())
        }
    }
}

/// Reads to the end, or until it was `enough`; keeps what is not larger than `most`.
async fn read(mut body: Body, most: usize, enough: u64) -> Result<Option<Bytes>, axum::Error> {
    let (mut kept, mut total) = (Vec::new(), 0_u64);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        total += data.len() as u64;
        if total > enough {
            return Ok(None);
        }
        if total > most as u64 {
            kept = Vec::new();
        } else {
            kept.extend_from_slice(&data);
        }
    }
    Ok((total <= most as u64).then(|| kept.into()))
}

/// Host, and Origin if there is one, must name the place that was listened on.
fn check_names(headers: &HeaderMap, uri: &Uri, local: SocketAddr) -> Outcome<()> {
    let one = |name: header::HeaderName| {
        let mut values = headers.get_all(name).iter();
        let first = values.next().map(|value| value.to_str().unwrap_or_default());
        (first, values.next().is_some())
    };
    let refuse = |code, message: &str| Err(Failure::new(StatusCode::FORBIDDEN, code, message));
    let (host, more_hosts) = one(header::HOST);
    let is_ours = |host: &str| names_us(host, local);
    // A request line with a whole URL has a second say.
    let target_is_ours = uri.authority().is_none_or(|authority| is_ours(authority.as_str()));
    if more_hosts || !host.is_some_and(is_ours) || !target_is_ours {
        let message = "the Host header must be the address listened on, 127.0.0.1, [::1] or \
                       localhost, with the port";
        return refuse("host_not_allowed", message);
    }
    let (origin, more_origins) = one(header::ORIGIN);
    let origin_is_ours = |origin: &str| origin.strip_prefix("http://").is_some_and(is_ours);
    if more_origins || !origin.is_none_or(origin_is_ours) {
        return refuse("origin_not_allowed", "pages of other origins may not use the hub");
    }
    Ok(())
}

/// Does `host` (with its port, which may be left out if it is 80) name this end?
fn names_us(host: &str, local: SocketAddr) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (name, port.parse::<u16>().ok())
        }
        Some((_, rest)) if !rest.ends_with(']') => return false,
        Some(_) | None => (host, Some(80)),
    };
    if port != Some(local.port()) {
        return false;
    }
    let known: &[&str] = &["127.0.0.1", "[::1]", "localhost"];
    let own = match local.ip().to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    known.iter().any(|k| k.eq_ignore_ascii_case(name)) || own.eq_ignore_ascii_case(name)
}

/// A request that may change things: it has the token, or needs none.
pub(super) struct MayChange;

/// A request that may read: on loopback each, elsewhere one with the token.
pub(super) struct MayRead;

/// Whether a request has the token; for those whose body says what they want.
#[derive(Debug, Clone, Copy)]
pub(super) struct Credentials {
    is_known: bool,
    listens_on_loopback: bool,
    was_given: bool,
}

impl Credentials {
    fn of(parts: &Parts, hub: &Hub) -> Self {
        let settings = hub.settings();
        let given = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let has_token = given.and_then(bearer).is_some_and(|token| hub.0.token.is(token));
        let peer = parts.extensions.get::<Peer>();
        let is_near = peer.is_some_and(|peer| peer.remote.ip().to_canonical().is_loopback());
        Self {
            is_known: has_token || (settings.allow_unauthenticated_loopback && is_near),
            listens_on_loopback: settings.address.ip().to_canonical().is_loopback(),
            was_given: given.is_some(),
        }
    }

    fn refuse(self) -> Failure {
        let message = if self.was_given {
            "the Authorization header does not hold the hub's token"
        } else {
            "this needs the hub's token: Authorization: Bearer <token>"
        };
        Failure::unauthorized(message)
    }

    /// May it change things?
    pub fn may_change(self) -> Outcome<MayChange> {
        if self.is_known { Ok(MayChange) } else { Err(self.refuse()) }
    }

    /// May it read what was done? Results hold code of the projects.
    pub fn may_read(self) -> Outcome<MayRead> {
        if self.is_known || self.listens_on_loopback { Ok(MayRead) } else { Err(self.refuse()) }
    }
}

/// The token of `Bearer <token>`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

impl FromRequestParts<Hub> for Credentials {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Outcome<Self> {
        Ok(Self::of(parts, hub))
    }
}

impl FromRequestParts<Hub> for MayChange {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Outcome<Self> {
        Credentials::of(parts, hub).may_change()
    }
}

impl FromRequestParts<Hub> for MayRead {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Outcome<Self> {
        Credentials::of(parts, hub).may_read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_hosts() {
        let local = "127.0.0.1:5001".parse().unwrap();
        for host in ["127.0.0.1:5001", "localhost:5001", "LOCALHOST:5001", "[::1]:5001"] {
            assert!(names_us(host, local), "{host}");
        }
        for host in [
            "",
            ":",
            ":5001",
            "localhost",
            "localhost:5002",
            "localhost:05001x",
            "localhost:",
            "evil.example:5001",
            "localhost.evil.example:5001",
            "127.0.0.1.nip.io:5001",
            "evil@localhost:5001",
            "localhost:5001:5001",
            "::1:5001",
            "0.0.0.0:5001",
            "127.0.0.2:5001",
            "[::1]",
            "localhost:70537",
        ] {
            assert!(!names_us(host, local), "{host}");
        }
        let wide = "192.0.2.7:80".parse().unwrap();
        assert!(names_us("192.0.2.7", wide) && names_us("localhost:80", wide));
        assert!(names_us("[::1]", wide) && !names_us("192.0.2.8", wide));
        let six = "[fe80::7]:81".parse().unwrap();
        assert!(names_us("[FE80::7]:81", six) && !names_us("[fe80::8]:81", six));
        let mapped = "[::ffff:192.0.2.7]:81".parse().unwrap();
        assert!(names_us("192.0.2.7:81", mapped));
    }

    #[test]
    fn a_bearer_is_recognised() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        for other in [&b"Basic abc"[..], b"Bearer", b"", b"Bearerabc", "Bear€rxx".as_bytes()] {
            assert_eq!(bearer(other), None);
        }
    }
}
