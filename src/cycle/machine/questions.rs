//! Questions to a person: declined in the person's place, or the end of the run.

use super::Machine;
use crate::clock::Timestamp;
use crate::cycle::action::{Action, Notice};
use crate::cycle::event::QuestionKind;
use crate::cycle::failure::Class;
use crate::cycle::params::Answering;
use crate::cycle::state::{EndReason, Outcome, State};

/// Questions declined in a row, without a reply in between: a question that Esc
/// does not close is none that longhaul can answer.
const MAX_DECLINED: u32 = 3;

impl Machine {
    pub(super) fn on_asks_person(
        &mut self,
        now: Timestamp,
        kind: QuestionKind,
        what: &str,
        screen: &str,
    ) {
        if matches!(self.state, State::Ending { .. }) {
            return;
        }
        let (class, word) = match kind {
            QuestionKind::Permission => (Class::PermissionPrompt, "permission"),
            QuestionKind::Question => (Class::Question, "question"),
            QuestionKind::Known => (Class::UnknownDialog, "start"),
            QuestionKind::Unknown => (Class::UnknownDialog, "unknown"),
        };
        self.fail(class);
        let may_decline = matches!(kind, QuestionKind::Permission | QuestionKind::Question)
            && self.params.permissions == Answering::Deny
            && self.declined_in_a_row < MAX_DECLINED;
        if may_decline {
            self.declined_in_a_row += 1;
            self.out.push(Action::PressEscape);
            self.note = Some(note(what, &self.continue_text()));
            self.tell(Notice::Dialog {
                kind: word.into(),
                answer: "deny".into(),
                what: what.to_owned(),
            });
            return self.watch_turn(now);
        }
        let why = format!("the CLI asks {what}");
        if self.verdict.is_none() {
            self.needs_person(why.clone(), screen.to_owned());
        }
        self.verdict.get_or_insert(Outcome::NeedsPerson { why });
        self.end_unless_keeping(EndReason::NeedsPerson);
    }

    /// Answered in the person's place, outside of the machine's sight: by a hook,
    /// or because the configuration says so.
    pub(super) fn on_answered(&mut self, kind: String, what: String, answer: String) {
        match kind.as_str() {
            "permission" => self.fail(Class::PermissionPrompt),
            "question" => self.fail(Class::Question),
            _ => {}
        }
        self.tell(Notice::Dialog { kind, answer, what });
    }

    /// Tells once what a person is needed for.
    pub(super) fn needs_person(&mut self, reason: String, screen: String) {
        if self.asked.is_none() {
            self.asked = Some((reason.clone(), screen.clone()));
            self.tell(Notice::NeedsPerson { reason, screen });
        }
    }
}

/// What the session is told after its question was declined.
fn note(what: &str, go_on: &str) -> String {
    format!(
        "Nobody is watching, so your question was declined: {}. Decide by yourself, find another \
         way within what is allowed, and write the question and your decision into \
         dev-docs/PROJECT_SUMMARY.md. {go_on}",
        crate::text::quoted(what)
    )
}
