//! How long an unknown dialog may stand before it is said that a person is
//! needed. Pure: fed with looks, and with the time.

use super::{Kind, Look};
use crate::session::dialog::Dialog;

/// An unknown dialog that stands unchanged for this long waits for a person.
pub const UNKNOWN_WAIT_MS: u64 = 20_000;

/// So does one that changes all the time (a countdown), after this long. With
/// the time between two looks and the end of the session, that leaves a margin
/// to the minute within which such a run has to end.
pub const CHANGING_WAIT_MS: u64 = 40_000;

/// A CLI that shows the same unrecognised text for this long waits for something,
/// too: at its start, or when the input line it had is gone.
pub const START_WAIT_MS: u64 = 30_000;

/// Something that longhaul does not know has waited for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Seconds since it appeared.
    pub seconds: u64,
    /// Its first line, for people.
    pub heading: Option<String>,
}

/// Tells once when an unknown dialog keeps a session waiting. Feed it every
/// look at the screen, some seconds apart at most; one for each session.
#[derive(Debug, Default)]
pub struct Watch {
    standing: Option<Standing>,
}

#[derive(Debug)]
struct Standing {
    /// When something unknown came up.
    since_ms: u64,
    /// Since when the screen is the same.
    same_since_ms: u64,
    fingerprint: u64,
    is_told: bool,
}

impl Watch {
    /// Takes in one look, at `now_ms` on the boot clock. `knows_layout`: the input
    /// line of this CLI was seen, so that a screen without one is no matter of
    /// another layout. `is_ready`: the CLI has begun to work. `grew`: the main transcript grew since the last look; then
    /// the session goes on, and nothing on the screen holds it up.
    ///
    /// Known dialogs are never told of here: they can be acted on at once.
    pub fn feed(
        &mut self,
        now_ms: u64,
        look: &Look,
        knows_layout: bool,
        is_ready: bool,
        grew: bool,
    ) -> Option<Waiting> {
        let may_wait = match look.kind {
            Kind::Dialog(Dialog::Unknown) => true,
            Kind::Unrecognised => !is_ready || knows_layout || look.names_keys,
            // A turn that really runs has an input line, and a line that counts.
            Kind::Working => is_ready && knows_layout && !look.has_input_line,
            Kind::Blank | Kind::Idle | Kind::Dialog(_) => false,
        };
        if !may_wait {
            self.standing = None;
            return None;
        }
        let fresh = Standing {
            since_ms: now_ms,
            same_since_ms: now_ms,
            fingerprint: look.fingerprint,
            is_told: self.standing.as_ref().is_some_and(|standing| standing.is_told),
        };
        let standing = match &mut self.standing {
            Some(standing) if !grew => standing,
            other => other.insert(fresh),
        };
        if standing.fingerprint != look.fingerprint {
            standing.fingerprint = look.fingerprint;
            standing.same_since_ms = now_ms;
        }
        let stood_ms = now_ms.saturating_sub(standing.since_ms);
        let same_ms = now_ms.saturating_sub(standing.same_since_ms);
        let is_due = match look.kind {
            Kind::Dialog(_) => same_ms >= UNKNOWN_WAIT_MS || stood_ms >= CHANGING_WAIT_MS,
            Kind::Unrecognised if is_ready => {
                same_ms >= START_WAIT_MS || stood_ms >= CHANGING_WAIT_MS
            }
            _ => same_ms >= START_WAIT_MS,
        };
        if !is_due || standing.is_told {
            return None;
        }
        standing.is_told = true;
        Some(Waiting { seconds: stood_ms / 1000, heading: look.heading.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::look;
    use super::*;
    use proptest::prelude::*;

    const RULE: &str = "────────────────────";

    fn unknown(words: &str) -> Look {
        let look = look(&format!("{RULE}\n {words}\n\n ❯ Got it\n\n Enter to confirm\n"));
        assert_eq!(look.kind, Kind::Dialog(Dialog::Unknown));
        look
    }

    fn unrecognised() -> Look {
        let look = look("Something starts\n");
        assert_eq!(look.kind, Kind::Unrecognised);
        look
    }

    fn working() -> Look {
        look(&format!("✻ Forming… (3s)\n\n{RULE}\n❯ \n{RULE}\n"))
    }

    #[test]
    fn an_unknown_dialog_is_told_of_once_after_its_time() {
        let (mut watch, dialog) = (Watch::default(), unknown("News"));
        assert_eq!(watch.feed(1_000, &dialog, false, true, false), None);
        assert_eq!(watch.feed(20_999, &dialog, false, true, false), None);
        let waiting = Waiting { seconds: 20, heading: Some("News".into()) };
        assert_eq!(watch.feed(21_000, &dialog, false, true, false), Some(waiting));
        assert_eq!(watch.feed(90_000, &dialog, false, true, false), None);
        assert_eq!(watch.feed(91_000, &dialog, false, true, true), None);
        assert_eq!(watch.feed(191_000, &dialog, false, true, false), None, "still the same one");
    }

    #[test]
    fn the_next_one_is_told_of_again() {
        let (mut watch, dialog) = (Watch::default(), unknown("News"));
        assert_eq!(watch.feed(0, &dialog, false, true, false), None);
        assert!(watch.feed(20_000, &dialog, false, true, false).is_some());
        assert_eq!(watch.feed(21_000, &working(), false, true, true), None);
        assert_eq!(watch.feed(22_000, &dialog, false, true, false), None);
        assert!(watch.feed(42_000, &dialog, false, true, false).is_some());
    }

    #[test]
    fn one_that_changes_has_longer_and_one_that_lets_the_session_go_on_for_ever() {
        let mut watch = Watch::default();
        for s in 0..40 {
            let look = unknown(&format!("in {s} seconds"));
            assert_eq!(watch.feed(s * 1000, &look, false, true, false), None, "{s}");
        }
        assert!(watch.feed(40_000, &unknown("in 40 seconds"), false, true, false).is_some());

        let mut watch = Watch::default();
        for s in 0..1000 {
            assert_eq!(
                watch.feed(s * 1000, &unknown("News"), false, true, s % 15 == 0),
                None,
                "{s}"
            );
        }
    }

    #[test]
    fn unrecognised_text_waits_at_the_start_and_in_the_place_of_a_known_input_line() {
        let mut watch = Watch::default();
        assert_eq!(watch.feed(0, &unrecognised(), false, false, false), None);
        assert_eq!(watch.feed(29_999, &unrecognised(), false, false, false), None);
        assert!(watch.feed(30_000, &unrecognised(), false, false, false).is_some());

        // A CLI that paints otherwise is not taken for one that waits.
        let mut watch = Watch::default();
        for s in 0..1000 {
            assert_eq!(watch.feed(s * 1000, &unrecognised(), false, true, false), None);
        }

        let mut watch = Watch::default();
        assert_eq!(watch.feed(1_000, &unrecognised(), true, true, false), None);
        assert_eq!(watch.feed(30_999, &unrecognised(), true, true, false), None);
        assert!(watch.feed(31_000, &unrecognised(), true, true, false).is_some());

        // Nor is it in doubt that something waits where it names a key.
        let mut watch = Watch::default();
        let asks = look("● ok\n\n   The connection was lost. Reconnect? [Y/n]\n");
        assert_eq!((asks.kind, asks.names_keys), (Kind::Unrecognised, true));
        assert_eq!(watch.feed(0, &asks, false, true, false), None);
        assert!(watch.feed(30_000, &asks, false, true, false).is_some());
    }

    #[test]
    fn a_spinner_that_stands_still_above_no_input_line_is_what_was_painted_over() {
        let frozen = look("● ok\n\n✽ Forming… (3s)\n\n  Sign in again\n");
        assert_eq!((frozen.kind, frozen.has_input_line), (Kind::Working, false));
        let mut watch = Watch::default();
        assert_eq!(watch.feed(0, &frozen, true, true, false), None);
        assert!(watch.feed(30_000, &frozen, true, true, false).is_some());

        let mut watch = Watch::default();
        for s in 0..1000 {
            let counting = look(&format!("● ok\n\n✽ Forming… ({s}s)\n"));
            assert_eq!(watch.feed(s * 1000, &counting, true, true, false), None, "{s}");
            assert_eq!(watch.feed(s * 1000, &working(), true, true, false), None, "{s}");
        }
    }

    #[test]
    fn nothing_else_ever_waits() {
        let trust = "─────\n Accessing workspace:\n ❯ No, exit\n   Yes, I trust this folder\n";
        for screen in [look(""), look("\n \n"), working(), look(trust)] {
            let mut watch = Watch::default();
            for s in 0..100 {
                assert_eq!(watch.feed(s * 1000, &screen, false, false, false), None, "{screen:?}");
            }
        }
    }

    proptest! {
        /// Whatever changes on it: with a look each second or two, an unknown
        /// dialog that holds up the session is told of once within a minute.
        #[test]
        fn it_is_told_of_within_a_minute(changes in prop::collection::vec((any::<bool>(), 500..2_000_u64), 120)) {
            let mut watch = Watch::default();
            let (mut now_ms, mut version, mut told_ms) = (7_000, 0, Vec::new());
            for (changed, step_ms) in changes {
                version += u32::from(changed);
                if watch.feed(now_ms, &unknown(&format!("News {version}")), false, true, false).is_some() {
                    told_ms.push(now_ms - 7_000);
                }
                now_ms += step_ms;
            }
            prop_assert_eq!(told_ms.len(), 1);
            prop_assert!((20_000..45_000).contains(&told_ms[0]), "{:?}", told_ms);
        }
    }
}
