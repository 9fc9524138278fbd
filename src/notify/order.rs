//! What longhaul and a courier say to each other: one line of JSON each way.

use std::fmt;

use serde::{Deserialize, Serialize};
use ureq::http::Uri;

/// How a person is told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// A program and its arguments; the notification comes on its input.
    Command(Vec<String>),
    /// Where the notification is POSTed to. Often a secret in itself.
    Webhook(String),
}

impl fmt::Display for Way {
    /// What may stand in a log: never an argument, never the path of a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Command(argv) => {
                write!(f, "the command {}", argv.first().map_or("", String::as_str))
            }
            Way::Webhook(url) => write!(f, "the webhook at {}", origin(url)),
        }
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Scheme, host and port of a URL: the part that is no secret.
fn origin(url: &str) -> String {
    let Ok(uri) = url.parse::<Uri>() else { return "an unreadable URL".into() };
    let scheme = uri.scheme_str().unwrap_or("?");
    let host = uri.host().unwrap_or("?");
    match uri.port_u16() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

/// Why nothing can ever be POSTed to this URL, if so; never repeats it.
pub fn problem_with_url(url: &str) -> Option<&'static str> {
    let Ok(uri) = url.parse::<Uri>() else { return Some("it is not a URL") };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Some("it begins with neither http:// nor https://");
    }
    let Some(authority) = uri.authority().filter(|a| !a.host().is_empty()) else {
        return Some("it names no host");
    };
    // A port that is no number is no port to the parser.
    let after_host = authority.as_str().rsplit_once(authority.host()).map_or("", |(_, rest)| rest);
    let has_port = after_host.starts_with(':');
    (has_port && authority.port_u16().is_none_or(|port| port == 0)).then_some("its port is wrong")
}

/// One attempt to be made. Goes over the courier's input and not its arguments,
/// which every user of the machine can read.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// How.
    pub way: Way,
    /// What.
    pub body: String,
    /// Longest time for it, milliseconds.
    pub limit_ms: u64,
}

/// How the attempt went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Receipt {
    /// It arrived.
    Delivered,
    /// It did not, and another attempt may fare better.
    Later {
        /// What happened.
        why: String,
        /// The server asked for this pause, milliseconds.
        after_ms: Option<u64>,
    },
    /// It did not, and would not.
    Never {
        /// What happened.
        why: String,
    },
}

impl Receipt {
    pub(super) fn later(why: impl Into<String>) -> Self {
        Receipt::Later { why: why.into(), after_ms: None }
    }

    pub(super) fn never(why: impl Into<String>) -> Self {
        Receipt::Never { why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_used_is_known_before_it_is_needed() {
        for url in [
            "https://hooks.example/services/T0/B0/x",
            "http://127.0.0.1:8080/x?y=z#w",
            "HTTPS://Hooks.Example",
            "http://me:pw@[::1]:9/",
            "http://localhost",
        ] {
            assert_eq!(problem_with_url(url), None, "{url}");
        }
        for (url, why) in [
            ("", "not a URL"),
            ("https://a b/", "not a URL"),
            ("http:///x", "not a URL"),
            ("https://[/x", "not a URL"),
            ("ftp://host/", "neither http"),
            ("/just/a/path", "neither http"),
            ("http://h:99999999/", "port"),
            ("http://h:0/", "port"),
            ("http://h:/", "port"),
            ("http://me:pw@h:port/", "port"),
        ] {
            let problem = problem_with_url(url);
            assert!(problem.is_some_and(|p| p.contains(why)), "{url}: {problem:?}");
        }
    }

    #[test]
    fn what_is_logged_of_a_way_holds_no_secret() {
        for (url, shown) in [
            ("https://hooks.example/services/T0/B0/secret", "https://hooks.example"),
            ("http://me:secret@127.0.0.1:8080/x?key=secret#secret", "http://127.0.0.1:8080"),
            ("https://hooks.example?secret", "https://hooks.example"),
            ("http://[::1]:9/secret", "http://[::1]:9"),
            ("https://a b/secret", "an unreadable URL"),
        ] {
            let order = Order { way: Way::Webhook(url.into()), body: "{}".into(), limit_ms: 1 };
            let logged = format!("{order:?} {}", order.way);
            assert!(logged.contains(shown), "{logged}");
            assert!(!logged.contains("secret"), "{logged}");
        }
        let way = Way::Command(vec!["send".into(), "--token=secret".into()]);
        assert_eq!(format!("{way} {way:?}"), "the command send the command send");
    }
}
