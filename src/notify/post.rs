//! One POST to the webhook, with the certificates this machine trusts.

use std::sync::Arc;
use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Error};

use super::order::Receipt;
use crate::clock::Timestamp;

/// HTTP dates are those of mail, in GMT.
const HTTP_DATE: DateTimeParser = DateTimeParser::new();

/// Headers of an answer beyond this are an error.
const HEADER_BYTES: usize = 16 << 10;

/// POSTs `body` as JSON, once; no redirect is followed. Takes at most `limit`.
pub(super) fn post(url: &str, body: &str, limit: Duration) -> Receipt {
    let agent = match agent(url, limit) {
        Ok(agent) => agent,
        Err(why) => return Receipt::never(why),
    };
    let answer = agent
        .post(url)
        .header("content-type", "application/json")
        .header("connection", "close")
        .send(body);
    match answer {
        Ok(answer) => {
            let wish = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
            weigh(answer.status().as_u16(), wish, Timestamp::now())
        }
        Err(err) => explain(&err),
    }
}

fn agent(url: &str, limit: Duration) -> Result<Agent, String> {
    let mut config = Agent::config_builder()
        .timeout_global(Some(limit))
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(HEADER_BYTES)
        .user_agent(concat!("longhaul/", env!("CARGO_PKG_VERSION")));
    if url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:")) {
        config = config.tls_config(tls()?);
    }
    Ok(config.build().into())
}

fn tls() -> Result<TlsConfig, String> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |err| format!(" ({err})"));
        return Err(format!(
            "no trusted certificates were found on this machine{why}; install ca-certificates or set SSL_CERT_FILE"
        ));
    }
    let certs: Vec<_> =
        found.certs.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certs))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

/// What an answer means.
fn weigh(status: u16, retry_after: Option<&str>, now: Timestamp) -> Receipt {
    let why = format!("it answered {status}");
    match status {
        200..=299 => Receipt::Delivered,
        300..=399 => Receipt::never(format!("{why}, a redirect, which is not followed")),
        429 | 500..=599 => {
            let after_ms = retry_after.and_then(|wish| wish_ms(wish, now));
            Receipt::Later { why, after_ms }
        }
        _ => Receipt::Never { why },
    }
}

/// `Retry-After`: seconds, or a date.
fn wish_ms(wish: &str, now: Timestamp) -> Option<u64> {
    let wish = wish.trim();
    if let Ok(seconds) = wish.parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let date = HTTP_DATE.parse_timestamp(wish).ok()?;
    u64::try_from(date.as_millisecond().saturating_sub(now.unix_ms)).ok()
}

/// What went wrong, in words that never hold the URL.
fn explain(err: &Error) -> Receipt {
    match err {
        Error::Timeout(_) => Receipt::later("no answer in time"),
        Error::HostNotFound => Receipt::later("its host is not found"),
        Error::ConnectionFailed => Receipt::later("no connection"),
        // rustls speaks through here: a certificate does not become better.
        Error::Io(err) if err.kind() == std::io::ErrorKind::InvalidData => {
            Receipt::never(format!("no secure connection: {err}"))
        }
        Error::Rustls(err) => Receipt::never(format!("no secure connection: {err}")),
        Error::Io(err) => Receipt::later(format!("the connection failed: {err}")),
        Error::Protocol(_) => Receipt::later("its answer is not HTTP"),
        Error::InvalidProxyUrl | Error::ConnectProxyFailed(_) => {
            Receipt::later("the proxy named in the environment cannot be used")
        }
        Error::BadUri(_) | Error::Http(_) => Receipt::never("the URL cannot be used"),
        _ => Receipt::never("the request cannot be made"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        // 2027-01-15 08:00:00 UTC
        Timestamp { unix_ms: 1_800_000_000_000, boot_ms: 0 }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for status in [200, 201, 204] {
            assert_eq!(weigh(status, None, now()), Receipt::Delivered);
        }
        for status in [429, 500, 502, 503, 599] {
            let receipt = weigh(status, None, now());
            assert!(matches!(receipt, Receipt::Later { after_ms: None, .. }), "{receipt:?}");
        }
        for status in [100, 301, 302, 307, 308, 400, 401, 403, 404, 410, 600] {
            let receipt = weigh(status, Some("1"), now());
            assert!(matches!(receipt, Receipt::Never { .. }), "{receipt:?}");
        }
    }

    #[test]
    fn a_wish_to_wait_is_read_in_both_forms() {
        assert_eq!(wish_ms("120", now()), Some(120_000));
        assert_eq!(wish_ms(" 0 ", now()), Some(0));
        assert_eq!(wish_ms(&u64::MAX.to_string(), now()), Some(u64::MAX));
        assert_eq!(wish_ms("Fri, 15 Jan 2027 08:00:42 GMT", now()), Some(42_000));
        for nonsense in ["", "soon", "-5", "1.5", "Fri, 15 Jan 2027 07:00:00 GMT"] {
            assert_eq!(wish_ms(nonsense, now()), None, "{nonsense}");
        }
        assert_eq!(
            weigh(503, Some("7"), now()),
            Receipt::Later { why: "it answered 503".into(), after_ms: Some(7_000) }
        );
    }
}
