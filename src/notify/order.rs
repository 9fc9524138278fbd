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
