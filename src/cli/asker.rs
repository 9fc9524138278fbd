//! Who asks: a person, or a session that longhaul supervises.

use std::ffi::OsString;

use crate::error::{Error, Result};
use crate::session::sweep::RUN_VARIABLE;

/// A session must not give itself work, nor have longhaul start more: it may not do
/// `what`.
///
/// # Errors
/// [`crate::ErrorKind::Usage`]: this command was started below a run.
pub fn refuse_session(what: &str) -> Result<()> {
    check(|name| std::env::var_os(name), what)
}

fn check(env: impl Fn(&str) -> Option<OsString>, what: &str) -> Result<()> {
    if env(RUN_VARIABLE).is_none_or(|run| run.is_empty()) {
        return Ok(());
    }
    Err(Error::usage(format!("a session that longhaul supervises may not {what}"))
        .hint(format!("{RUN_VARIABLE} is set, so this command was started by such a session"))
        .hint("note in dev-docs what should be done; a person decides"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_changes_nothing() {
        let with =
            |value: &'static str| move |name: &str| (name == RUN_VARIABLE).then(|| value.into());
        assert!(check(|_| None, "run").is_ok());
        assert!(check(with(""), "run").is_ok());
        let err = check(with("7d2c"), "run").unwrap_err();
        assert_eq!(err.kind().exit_code(), 64);
    }
}
