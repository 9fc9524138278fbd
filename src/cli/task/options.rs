//! The options that say what a task is: the same for adding and editing.

use super::now_unix_ms;
use crate::queue::draft::{self, Draft, OneOrMany};
use crate::queue::store::Change;
use crate::queue::{BatchId, Code, NewBatch, Priority, QueueError, Refusal, Store};

/// What a task is.
#[derive(Debug, Default, clap::Args)]
pub struct TaskOptions {
    /// What helps to do it
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub context: Option<String>,
    /// low, normal, medium, high, urgent, critical, or a number; the higher goes first
    #[arg(long, value_name = "WORD|NUMBER", allow_hyphen_values = true)]
    pub priority: Option<String>,
    /// Tasks of one batch are done in the order they were added, in one chain of
    /// sessions; `new` makes up the id of a batch that is not there yet
    #[arg(long, alias = "batch-id", value_name = "ID|new")]
    pub batch: Option<String>,
    /// A command that must exit 0 before done counts
    #[arg(long, alias = "verify-command", value_name = "COMMAND", allow_hyphen_values = true)]
    pub verify: Option<String>,
    /// Tasks that must be done before; may be repeated
    #[arg(long, value_name = "ID,...", value_delimiter = ',')]
    pub after: Vec<String>,
    /// The model of its sessions
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Most that it may cost, US dollars at list prices
    #[arg(long, alias = "budget-usd", value_name = "USD", allow_hyphen_values = true)]
    pub budget: Option<String>,
}

impl TaskOptions {
    /// Gives `draft` what it does not say itself.
    pub fn fill(&self, draft: &mut Draft) -> Result<(), Refusal> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        draft.context = draft.context.take().or_else(|| given(&self.context).map(Into::into));
        let priority = given(&self.priority).as_deref().map(Priority::parse).transpose()?;
        draft.priority = draft.priority.or(priority);
        draft.batch_id = draft.batch_id.take().or_else(|| given(&self.batch));
        draft.verify = draft.verify.take().or_else(|| given(&self.verify));
        if draft.after.is_none() && !self.after.is_empty() {
            draft.after = Some(OneOrMany::Many(self.after_ids()));
        }
        draft.model = draft.model.take().or_else(|| given(&self.model));
        let budget = given(&self.budget).as_deref().map(dollars).transpose()?;
        draft.budget_usd = draft.budget_usd.or(budget);
        Ok(())
    }

    /// The change these options ask for; an empty text takes away.
    pub fn change(&self, description: Option<&str>) -> Result<Change, Refusal> {
        let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let text = |given: &Option<String>,
                    check: fn(String) -> Result<Option<String>, Refusal>| {
            let check = |text: &String| filled(text).map(check).transpose().map(Option::flatten);
            given.as_ref().map(check).transpose()
        };
        let empty = |what: &str| {
            let message = format!("the {what} cannot be taken away");
            Refusal::new(Code::InvalidParameter, message)
        };
        let priority = match self.priority.as_deref() {
            Some("") => return Err(empty("priority")),
            Some(word) => Some(Priority::parse(word)?),
            None => None,
        };
        let batch = |id: &String| filled(id).as_deref().map(BatchId::parse).transpose();
        let budget = |usd: &String| match filled(usd) {
            Some(usd) => dollars(&usd).and_then(draft::budget_of).map(Some),
            None => Ok(None),
        };
        Ok(Change {
            description: description.map(|text| draft::description_of(text.into())).transpose()?,
            context: text(&self.context, |text| draft::context_of(text.into()))?,
            priority,
            batch_id: self.batch.as_ref().map(batch).transpose()?,
            verify: text(&self.verify, draft::verify_of)?,
            after: match self.after.is_empty() {
                true => None,
                false => Some(draft::after_of(self.after_ids())?),
            },
            model: text(&self.model, draft::model_of)?,
            budget_usd: self.budget.as_ref().map(budget).transpose()?,
        })
    }

    /// Makes up a batch id where one is asked for.
    pub fn name_batch(&mut self, store: &mut dyn Store) -> Result<(), QueueError> {
        new_batch().name(store, &mut self.batch)
    }

    fn after_ids(&self) -> Vec<String> {
        let ids = self.after.iter().map(|id| id.trim().to_owned());
        ids.filter(|id| !id.is_empty()).collect()
    }
}

/// The batch that this command begins, if it is asked to.
pub fn new_batch() -> NewBatch {
    NewBatch::new(now_unix_ms(), jiff::tz::TimeZone::system())
}

fn dollars(text: &str) -> Result<f64, Refusal> {
    text.trim().trim_start_matches('$').parse().map_err(|_| {
        let message = format!("the budget {} is no number of dollars", crate::text::quoted(text));
        Refusal::new(Code::InvalidParameter, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_takes_away_and_what_is_not_given_stays() {
        let nothing = TaskOptions::default().change(None).unwrap();
        assert_eq!(nothing, Change::default());
        let options = TaskOptions {
            context: Some(String::new()),
            batch: Some(String::new()),
            verify: Some(String::new()),
            after: vec![String::new()],
            model: Some(String::new()),
            budget: Some(String::new()),
            priority: None,
        };
        let change = options.change(None).unwrap();
        let expected = Change {
            context: Some(None),
            batch_id: Some(None),
            verify: Some(None),
            after: Some(Vec::new()),
            model: Some(None),
            budget_usd: Some(None),
            ..Change::default()
        };
        assert_eq!(change, expected);
        assert!(options.change(Some(" ")).is_err(), "a description must remain");
    }

    #[test]
    fn what_a_line_says_itself_stands_before_the_options() {
        let options = TaskOptions {
            priority: Some("high".into()),
            budget: Some("$2.50".into()),
            after: vec!["a".into(), " b".into()],
            ..TaskOptions::default()
        };
        let mut draft = Draft { budget_usd: Some(1.0), ..Draft::default() };
        options.fill(&mut draft).unwrap();
        assert_eq!((draft.budget_usd, draft.priority), (Some(1.0), Some(Priority::High)));
        assert_eq!(draft.after.unwrap().into_vec(), ["a", "b"]);
        let mut empty = Draft::default();
        options.fill(&mut empty).unwrap();
        assert_eq!(empty.budget_usd, Some(2.5));
    }
}
