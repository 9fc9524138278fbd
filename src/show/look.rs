//! What the terminal on standard output can do.

use std::io::stdout;

use rustix::termios;

use crate::session::sweep;

/// Colour and glyphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// May colours be used?
    pub has_colour: bool,
    /// Can it show more than ASCII?
    pub has_unicode: bool,
}

/// Columns and rows of a terminal that does not say.
const UNKNOWN_SIZE: (usize, usize) = (80, 24);

impl Look {
    /// As the environment says; `None` for a terminal that cannot redraw.
    pub fn of_environment() -> Option<Self> {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::of(get)
    }

    /// As the variables that `get` finds say; an empty one counts as unset.
    fn of(get: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let look = Self::of_any(&get);
        (get("TERM")? != "dumb").then_some(look)
    }

    /// For a single line that another program shows: no colour where the terminal is not
    /// known to have any.
    pub fn of_line() -> Self {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let look = Self::of_any(get);
        let is_plain = get("TERM").is_none_or(|term| term == "dumb");
        Self { has_colour: look.has_colour && !is_plain, ..look }
    }

    fn of_any(get: impl Fn(&str) -> Option<String>) -> Self {
        // In the order in which the C library looks.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(&get);
        let has_unicode = locale.is_none_or(|name| {
            let name = name.to_ascii_lowercase();
            name.contains("utf-8") || name.contains("utf8")
        });
        Self { has_colour: get("NO_COLOR").is_none(), has_unicode }
    }
}

/// Columns and rows at this moment.
pub fn size() -> (usize, usize) {
    match termios::tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        Ok(_) | Err(_) => UNKNOWN_SIZE,
    }
}

/// May we draw? Not while a shell has us in the background: its prompt stands
/// where the panel would be. `group` is asked for in the place of our own.
pub fn is_foreground(group: Option<i64>) -> bool {
    match termios::tcgetpgrp(stdout()) {
        Ok(front) => group.or_else(sweep::own_group) == Some(front.as_raw_nonzero().get().into()),
        // Not our controlling terminal: nobody else has a job there.
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vars: &[(&str, &str)]) -> Option<Look> {
        Look::of(|name| {
            let found = vars.iter().find(|(n, _)| *n == name)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn a_terminal_that_cannot_redraw_gets_no_panel() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("TERM", "dumb")]), None);
    }

    #[test]
    fn colour_and_glyphs_follow_the_environment() {
        let look = |has_colour, has_unicode| Some(Look { has_colour, has_unicode });
        let term = ("TERM", "xterm-256color");
        assert_eq!(of(&[term]), look(true, true));
        assert_eq!(of(&[term, ("NO_COLOR", "1")]), look(false, true));
        assert_eq!(of(&[term, ("LANG", "C")]), look(true, false));
        assert_eq!(of(&[term, ("LANG", "de_DE.UTF-8")]), look(true, true));
        let both = [term, ("LC_ALL", "POSIX"), ("LANG", "de_DE.UTF-8")];
        assert_eq!(of(&both), look(true, false));
    }
}
