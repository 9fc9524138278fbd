//! Telling of errors: in the errors file of a day, or, while that cannot be written, kept
//! until it can be. Only what is kept by nobody is lost.

use std::io;

use jiff::civil::Date;

use super::errors::{Edit, Kind, Line, Status};
use super::folder::Folder;
use super::logs::read_text;
use super::names;
use super::spool::Unread;
use super::tracker::Tracker;

impl Tracker {
    /// Says it, or keeps it. For whoever does not hold the lock.
    pub(super) fn tell(&self, day: Date, edit: Edit) {
        let Ok(_lock) = self.lock() else { return self.keep_said(day, &edit) };
        match self.folder() {
            Ok(folder) => self.say(&folder, day, &edit),
            Err(_) => self.keep_said(day, &edit),
        }
    }

    /// The same, for whoever holds the lock. What waits to be said of the day goes first.
    pub(super) fn say(&self, folder: &Folder, day: Date, edit: &Edit) {
        let mut waiting = Vec::new();
        let mut names = Vec::new();
        for (name, said) in self.spool.said(day) {
            match said {
                Ok(edit) => waiting.push(edit),
                Err(Unread::Failed(_)) => continue,
                Err(Unread::Damaged(_)) => {
                    let what = "what was to be said here cannot be read, and is lost";
                    waiting.push(Edit::line(Kind::Failure, Status::Noted, &name, what));
                }
            }
            names.push(name);
        }
        if edit.is_empty() && waiting.is_empty() {
            return;
        }
        match self.edit(folder, day, waiting.iter().chain([edit])) {
            Ok(()) => names.iter().for_each(|name| self.spool.forget_said(name)),
            Err(err) => {
                tracing::debug!(%err, "what there is to say of records of usage waits");
                // What only ends other lines has nothing to end, if none waits.
                if edit.has_words() || (!waiting.is_empty() && !edit.is_empty()) {
                    self.keep_said(day, edit);
                }
            }
        }
    }

    /// Says what waits, of all days.
    pub(super) fn say_what_waits(&self, folder: &Folder) {
        for day in self.spool.days_said() {
            self.say(folder, day, &Edit::default());
        }
    }

    pub(super) fn edit<'a>(
        &self,
        folder: &Folder,
        day: Date,
        edits: impl IntoIterator<Item = &'a Edit>,
    ) -> io::Result<()> {
        let name = names::errors(day);
        let old = read_text(folder, &name)?;
        let now = self.now.rfc3339();
        let apply = |text, edit: &Edit| edit.apply(text, day, &now);
        let new = edits.into_iter().fold(old.clone(), apply);
        match new.filter(|new| old.as_ref() != Some(new)) {
            Some(new) => folder.write("", &name, new.as_bytes()),
            None => Ok(()),
        }
    }

    fn keep_said(&self, day: Date, edit: &Edit) {
        if let Err(err) = self.spool.keep_said(self.now.unix_ms, day, edit) {
            tracing::warn!(%err, "what there is to say of records of usage is lost");
        }
    }
}

/// Lines about task logs that cannot be read.
pub(super) fn unreadable<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<Line> {
    let what = "is no task log that can be read, and is not counted";
    let line = |name: &String| {
        let about = format!("{}/{name}", names::TASKS);
        Line::new(Kind::Failure, Status::Noted, &about, what)
    };
    names.into_iter().map(line).collect()
}
