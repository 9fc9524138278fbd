//! Before a command acts, what was changed in the queue's files is taken over; after
//! it, they show what it did. What is wrong with them is told and stops nobody.

use std::path::{Path, PathBuf};

use super::{TaskCommand, now_unix_ms, open, open_existing};
use crate::cli::print::complain;
use crate::cli::target::{TargetArgs, project_dir};
use crate::config::Config;
use crate::error::Result;
use crate::queue::files::{self, Patience, Place, Synced};
use crate::queue::{SqliteStore, Store, TaskId};
use crate::{state_dir, text};

/// A project with the folder of its files.
type Face = (PathBuf, PathBuf);

/// What a command is about.
pub(super) struct About {
    place: Where,
    id: Option<String>,
}

enum Where {
    Target(TargetArgs),
    Project(Option<PathBuf>),
}

impl About {
    /// What `command` is about.
    pub(super) fn of(command: &TaskCommand) -> Self {
        let target = |target: &TargetArgs| (Where::Target(target.clone()), None);
        let task = |id: &String| (Where::Project(None), Some(id.clone()));
        let (place, id) = match command {
            TaskCommand::Add(args) => target(&args.target),
            TaskCommand::Import(args) => target(&args.target),
            TaskCommand::Archive(args) => target(&args.target),
            TaskCommand::List(args) => (Where::Project(args.project.clone()), None),
            TaskCommand::Show(args) => task(&args.id),
            TaskCommand::Edit(args) => task(&args.id),
            TaskCommand::Cancel(args) | TaskCommand::Retry(args) => task(&args.id),
        };
        Self { place, id }
    }

    /// Syncs the files of the projects it is about.
    pub(super) fn sync(&self) {
        if let Err(err) = self.try_sync() {
            complain(&format!("warning: the queue's files were not synced\n{}", err.render()));
        }
    }

    fn try_sync(&self) -> Result<()> {
        let here = match &self.place {
            // What cannot be resolved is told by the command.
            Where::Target(target) => target.resolve().ok().and_then(face_of),
            Where::Project(project) => face(project.as_deref())?,
        };
        let Some(mut store) = store_for(here.as_ref())? else {
            return Ok(());
        };
        if let Some((project, folder)) = &here {
            sync_one(&mut store, project, folder)?;
        }
        let Some(Ok(id)) = self.id.as_deref().map(TaskId::parse) else {
            return Ok(());
        };
        let project = store.task(&id)?.map(|task| task.project);
        let is_elsewhere =
            |project: &PathBuf| here.as_ref().is_none_or(|(here, _)| here != project);
        // A project that was moved away has no files.
        let elsewhere = project.filter(|project| is_elsewhere(project) && project.is_dir());
        match elsewhere.map(|project| face(Some(&project))).transpose()?.flatten() {
            Some((project, folder)) => sync_one(&mut store, &project, &folder),
            None => Ok(()),
        }
    }
}

fn face_of((project, config): (PathBuf, Config)) -> Option<Face> {
    Some((project, config.queue.files?))
}

fn face(project: Option<&Path>) -> Result<Option<Face>> {
    let project = project_dir(project)?;
    let config = Config::load(&project, None, &[])?;
    Ok(face_of((project, config)))
}

/// The queue, which begins with the first task that somebody wrote into the file.
fn store_for(here: Option<&Face>) -> Result<Option<SqliteStore>> {
    if let Some(store) = open_existing()? {
        return Ok(Some(store));
    }
    let file = here.map(|(project, folder)| project.join(folder).join(files::QUEUE));
    match file.filter(|file| file.symlink_metadata().is_ok()) {
        Some(_) => open().map(Some),
        None => Ok(None),
    }
}

fn sync_one(store: &mut SqliteStore, project: &Path, folder: &Path) -> Result<()> {
    let state_root = state_dir::locate(|name| std::env::var_os(name))?;
    let place = Place { project, folder, state_root: &state_root };
    tell(&files::sync(store, place, now_unix_ms(), Patience::Wait)?);
    Ok(())
}

/// Tells on standard error what a sync had to say.
pub(super) fn tell(synced: &Synced) {
    for line in synced.taken.to_vec() {
        complain(&format!("taken over from {}: {}", files::QUEUE, text::safe(&line)));
    }
    for line in synced.notes.to_vec() {
        complain(&format!("note: {}", text::safe(&line)));
    }
    for line in synced.problems.to_vec() {
        complain(&format!("warning: {}", text::safe(&line)));
    }
}
