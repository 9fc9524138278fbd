//! What the CLI's screen means, from its text alone.
//!
//! Seen with 2.1.329 on 120 columns and 40 rows. Two facts carry everything:
//!
//! - Column 0 belongs to the CLI. What the model says, tool output and pasted
//!   prompts begin in column 2 or further right, so a session can paint neither
//!   a rule nor a spinner.
//! - While a dialog is open there is no input line. A rule, `❯` or `!` in column
//!   0 below it and a second rule are the input line, and no screen that ends in
//!   one is a dialog, whatever stands above.
//!
//! Nothing here acts. The only answer ever given to a dialog is in
//! [`super::dialog`].

mod activity;
mod layout;
mod marks;
mod watch;

#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};

pub use activity::Retry;
pub use watch::{CHANGING_WAIT_MS, START_WAIT_MS, UNKNOWN_WAIT_MS, Waiting, Watch};

use super::dialog::Dialog;
use activity::Activity;
use layout::Layout;

/// What stands on the screen, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing at all: the CLI has not painted yet, or has cleared the screen.
    Blank,
    /// A turn runs, is being retried, or waits for subagents in the background.
    Working,
    /// An input line, and nothing runs.
    Idle,
    /// A question stands where the input line would be.
    Dialog(Dialog),
    /// Neither an input line nor anything that asks: a start, an end, half a
    /// repaint, or a view nobody told longhaul about.
    Unrecognised,
}

/// One look at the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What stands there.
    pub kind: Kind,
    /// Is there an input line, as this CLI paints it?
    pub has_input_line: bool,
    /// Do the last lines name keys to press, where there is no input line? The
    /// session may have said it.
    pub names_keys: bool,
    /// Seconds the spinner counts for this turn. It shows none at first, and
    /// none while a request is retried.
    pub elapsed_s: Option<u64>,
    /// Tokens the spinner counts for this turn. An estimate of the CLI's, rounded
    /// from 1,000 on; good for telling whether the answer still flows.
    pub stream_tokens: Option<u64>,
    /// Subagents in the background that the ended turn waits for.
    pub background_agents: Option<u64>,
    /// The request is being retried, or waited for.
    pub retry: Option<Retry>,
    /// The line about a usage limit, while the CLI waits for it: "5-hour limit
    /// reached · retrying in 3s (Nov 21, 10:26pm)", or "Usage limit reached ·
    /// limit resets 2:33am". The time is when the limit is lifted, on the local
    /// clock.
    pub limit: Option<String>,
    /// The turn has ended at the limit, and the CLI will go on by itself.
    pub continues_itself: bool,
    /// The CLI has trouble to reach the API, by its own words.
    pub connection_trouble: bool,
    /// The first line of what stands where the input line would be; for people.
    pub heading: Option<String>,
    /// Equal for equal screens, within one run of longhaul.
    pub fingerprint: u64,
}

impl Look {
    /// The dialog that is open, if any.
    pub fn dialog(&self) -> Option<Dialog> {
        match self.kind {
            Kind::Dialog(dialog) => Some(dialog),
            _ => None,
        }
    }
}

/// What the screen with this text means.
pub fn look(screen: &str) -> Look {
    let layout = Layout::of(screen);
    let activity = Activity::of(layout.above());
    let kind = kind(&layout, &activity);
    let heading = match kind {
        Kind::Dialog(_) | Kind::Unrecognised => layout.heading().map(str::to_owned),
        Kind::Blank | Kind::Working | Kind::Idle => None,
    };
    let mut hasher = DefaultHasher::new();
    screen.hash(&mut hasher);
    Look {
        kind,
        has_input_line: layout.footer().is_some(),
        names_keys: layout.footer().is_none() && marks::names_keys(&layout),
        elapsed_s: activity.elapsed_s,
        stream_tokens: activity.stream_tokens,
        background_agents: activity.background_agents,
        limit: activity.limit().or_else(|| layout.footer().and_then(limit_below)),
        continues_itself: layout.footer().is_some_and(continues_itself),
        connection_trouble: activity.retry.as_ref().is_some_and(Retry::is_connection),
        retry: activity.retry,
        heading,
        fingerprint: hasher.finish(),
    }
}

fn kind(layout: &Layout<'_>, activity: &Activity) -> Kind {
    if layout.is_blank() {
        return Kind::Blank;
    }
    if let Some(footer) = layout.footer() {
        let runs = activity.is_running || footer.iter().any(|line| line.contains(INTERRUPT_HINT));
        return if runs { Kind::Working } else { Kind::Idle };
    }
    if let Some(dialog) = marks::known(layout) {
        return Kind::Dialog(dialog);
    }
    // With a dialog open, the spinner is gone. Only the line that waits for
    // subagents stays, and one of them may be who asks.
    let is_asked = marks::asks(layout) && !activity.is_turn();
    match (is_asked, activity.is_running) {
        (true, _) => Kind::Dialog(Dialog::Unknown),
        (false, true) => Kind::Working,
        (false, false) => Kind::Unrecognised,
    }
}

/// What the lines below the input line say of a limit the CLI waits for.
fn limit_below(footer: &[&str]) -> Option<String> {
    let warnings = footer.iter().filter_map(|line| line.trim().strip_prefix('⚠'));
    { warnings }.map(str::trim).find(|line| line.contains("limit reached")).map(str::to_owned)
}

fn continues_itself(footer: &[&str]) -> bool {
    footer.iter().any(|line| line.trim().starts_with("Continuing "))
}

/// In the line below the input line, while a turn runs and nothing is typed.
const INTERRUPT_HINT: &str = "esc to interrupt";
