//! The queue's files in the projects that are worked on: synced while the queue is
//! run, tidied when a task has ended. What goes wrong with them is told, and holds
//! nothing up.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::files::{self, Cutoff, Patience, Place, Reduction, Synced, lockfile};
use super::store::{Result, Store};
use crate::config::{Config, Queue};

/// Projects with tasks are looked for, and a configuration is read, this often.
const READ_EVERY_MS: u64 = 5_000;
/// Projects that are looked at in one go; where there are more they take turns.
const AT_ONCE: usize = 100;

/// The files of several projects.
#[derive(Debug)]
pub struct Faces {
    state_root: PathBuf,
    /// `--config` and `--set`, which hold for every project.
    config_file: Option<PathBuf>,
    set: Vec<String>,
    projects: BTreeMap<PathBuf, Face>,
    /// The project whose turn was last.
    last: PathBuf,
    /// Projects in which `execute_queue.lock` was written, and the folders.
    locked: Vec<(PathBuf, PathBuf)>,
}

/// What is known of one project.
#[derive(Debug, Default)]
struct Face {
    /// Its `[queue]` as it could be read last; `None`: never.
    queue: Option<Queue>,
    /// Why its configuration cannot be used now.
    misconfigured: Option<String>,
    /// When it was read, since boot.
    read_ms: Option<u64>,
    /// What was wrong at the last look: what lasts is told once.
    told: Vec<String>,
}

/// What a person should hear.
pub type Heard = Vec<(PathBuf, String)>;

impl Faces {
    /// Of `home` and of every project that has tasks.
    pub fn new(state_root: &Path, home: &Path, config_file: Option<&Path>, set: &[String]) -> Self {
        let mut faces = Self {
            state_root: state_root.to_owned(),
            config_file: config_file.map(Path::to_owned),
            set: set.to_vec(),
            projects: BTreeMap::new(),
            last: PathBuf::new(),
            locked: Vec::new(),
        };
        faces.know(home);
        faces
    }

    fn know(&mut self, project: &Path) {
        let face = self.projects.entry(project.to_owned()).or_default();
        if face.read_ms.is_none() && face.queue.is_none() {
            self.configure(project);
        }
    }

    /// Reads the configuration of a project. One that cannot be used is perhaps being
    /// edited: what it said before holds until it can.
    fn configure(&mut self, project: &Path) {
        let Some(face) = self.projects.get_mut(project) else { return };
        // One that was moved away has none.
        if !project.is_dir() {
            return;
        }
        match Config::load(project, self.config_file.as_deref(), &self.set) {
            Ok(config) => {
                face.queue = Some(config.queue);
                face.misconfigured = None;
            }
            Err(err) => {
                let what = match &face.queue {
                    Some(_) => "what it said before holds for",
                    None => "this queue is neither shown nor taken over in",
                };
                face.misconfigured =
                    Some(format!("its configuration cannot be used: {what} its files ({err})"));
            }
        }
    }

    fn configure_again(&mut self, project: &Path, now_boot_ms: u64) {
        let Some(face) = self.projects.get_mut(project) else { return };
        if is_due(face.read_ms, now_boot_ms) {
            face.read_ms = Some(now_boot_ms);
            self.configure(project);
        }
    }

    /// Takes over what was edited, and shows what has changed. Cheap when nothing has.
    ///
    /// # Errors
    /// The store fails.
    pub fn sync(
        &mut self,
        store: &mut dyn Store,
        now_unix_ms: i64,
        now_boot_ms: u64,
    ) -> Result<Heard> {
        for project in store.projects()? {
            self.projects.entry(project).or_default();
        }
        let mut heard = Heard::new();
        for project in self.whose_turn() {
            self.configure_again(&project, now_boot_ms);
            let Some(face) = self.projects.get_mut(&project) else { continue };
            let folder = face.queue.as_ref().and_then(|queue| queue.files.as_deref());
            let synced = match folder.filter(|_| project.is_dir()) {
                Some(folder) => {
                    let place = Place { project: &project, folder, state_root: &self.state_root };
                    files::sync(store, place, now_unix_ms, Patience::Later)?
                }
                None => Synced::default(),
            };
            face.hear(&project, &synced, &mut heard);
        }
        Ok(heard)
    }

    /// Those that are being worked on, and as many of the others as can be looked at in
    /// one go.
    fn whose_turn(&mut self) -> Vec<PathBuf> {
        let after = (Bound::Excluded(self.last.as_path()), Bound::Unbounded);
        let upto = (Bound::Unbounded, Bound::Included(self.last.as_path()));
        let later = self.projects.range::<Path, _>(after);
        let in_turn = later.chain(self.projects.range::<Path, _>(upto)).take(AT_ONCE);
        let mut turn: Vec<PathBuf> = in_turn.map(|(project, _)| project.clone()).collect();
        if let Some(last) = turn.last() {
            self.last.clone_from(last);
        }
        let at_work = self.locked.iter().map(|(project, _)| project);
        let missing: Vec<PathBuf> = at_work.filter(|p| !turn.contains(p)).cloned().collect();
        turn.extend(missing);
        turn
    }

    /// Moves old results to the archive, where `queue.auto_cleanup` says so. Gives what
    /// that saved, if it moved any.
    ///
    /// # Errors
    /// The store fails.
    pub fn tidy(
        &mut self,
        store: &mut dyn Store,
        project: &Path,
        now_unix_ms: i64,
    ) -> Result<(Option<String>, Heard)> {
        self.know(project);
        let queue = self.projects.get(project).and_then(|face| face.queue.as_ref());
        let Some(queue) = queue.filter(|queue| queue.auto_cleanup) else {
            return Ok((None, Heard::new()));
        };
        let cutoff = Cutoff { age_ms: queue.archive_after_ms, keep_recent: queue.keep_recent };
        let (done, heard) = self.archive(store, project, now_unix_ms, cutoff)?;
        let moved = crate::text::count(done.moved, "result was", "results were");
        let saved = format!("{moved} archived; {}", done.sentence());
        Ok(((done.moved > 0).then_some(saved), heard))
    }

    /// Moves results of a project to the archive. What was taken over or put aside on
    /// the way is not told again by [`Faces::sync`].
    ///
    /// # Errors
    /// The store fails.
    pub fn archive(
        &mut self,
        store: &mut dyn Store,
        project: &Path,
        now_unix_ms: i64,
        cutoff: Cutoff,
    ) -> Result<(Reduction, Heard)> {
        self.know(project);
        let folder = self.folder(project);
        let folder = folder.as_deref();
        let done = files::archive(store, project, folder, &self.state_root, now_unix_ms, cutoff)?;
        let face = self.projects.entry(project.to_owned()).or_default();
        let mut heard = Heard::new();
        for synced in &done.synced {
            face.hear(project, synced, &mut heard);
        }
        Ok((done, heard))
    }

    /// Shows in a project that the queue is being worked off.
    pub fn lock(&mut self, project: &Path, now_unix_ms: i64) {
        self.know(project);
        let Some(folder) = self.folder(project) else { return };
        if self.locked.iter().any(|(locked, _)| locked == project) {
            return;
        }
        match lockfile::write(project, &folder, std::process::id(), now_unix_ms) {
            Ok(()) => self.locked.push((project.to_owned(), folder)),
            Err(err) => tracing::warn!(%err, "no lock file"),
        }
    }

    /// Nobody works the queue off any more.
    pub fn unlock(&mut self) {
        for (project, folder) in std::mem::take(&mut self.locked) {
            if let Err(err) = lockfile::remove(&project, &folder, std::process::id()) {
                tracing::warn!(%err, "the lock file stays");
            }
        }
    }

    fn folder(&self, project: &Path) -> Option<PathBuf> {
        self.projects.get(project)?.queue.as_ref()?.files.clone()
    }
}

impl Face {
    /// What a sync had to say. What lasts is told once, whatever is taken over is told.
    fn hear(&mut self, project: &Path, synced: &Synced, heard: &mut Heard) {
        for line in synced.taken.to_vec() {
            heard.push((project.to_owned(), format!("taken over from {}: {line}", files::QUEUE)));
        }
        let mut wrong: Vec<String> = self.misconfigured.iter().cloned().collect();
        wrong.extend(synced.notes.to_vec().into_iter().chain(synced.problems.to_vec()));
        let news = wrong.iter().filter(|text| !self.told.contains(text));
        heard.extend(news.map(|text| (project.to_owned(), text.clone())));
        self.told = wrong;
    }
}

fn is_due(read_ms: Option<u64>, now_boot_ms: u64) -> bool {
    read_ms.is_none_or(|at| now_boot_ms.saturating_sub(at) >= READ_EVERY_MS)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::queue::task::{TaskId, TaskState};
    use crate::queue::{Draft, SqliteStore};

    struct Lab {
        keep: tempfile::TempDir,
        store: SqliteStore,
        faces: Faces,
        now: i64,
    }

    impl Lab {
        fn new() -> Self {
            let keep = tempfile::tempdir().unwrap();
            let base = keep.path().canonicalize().unwrap();
            for name in ["home", "other"] {
                fs::create_dir(base.join(name)).unwrap();
            }
            let state = base.join("state");
            let store = SqliteStore::open(&state).unwrap();
            let faces = Faces::new(&state, &base.join("home"), None, &[]);
            Self { keep, store, faces, now: 1_800_000_000_000 }
        }

        fn project(&self, name: &str) -> PathBuf {
            self.keep.path().canonicalize().unwrap().join(name)
        }

        fn add(&mut self, project: &str, id: &str) {
            let (id, description) = (Some(id.into()), Some("words".into()));
            let draft = Draft { id, description, ..Draft::default() };
            let task = draft.check(&self.project(project)).unwrap();
            self.store.add(self.now, vec![task]).unwrap();
        }

        fn configure(&self, project: &str, text: &str) {
            fs::write(self.project(project).join("longhaul.toml"), text).unwrap();
        }

        /// Looks after so many seconds, and gives what it heard.
        fn look(&mut self, after_s: i64) -> Vec<String> {
            self.now += after_s * 1_000;
            let boot_ms = (self.now - 1_700_000_000_000).unsigned_abs();
            let heard = self.faces.sync(&mut self.store, self.now, boot_ms).unwrap();
            heard.into_iter().map(|(_, text)| text).collect()
        }

        fn edit(&self, project: &str, change: impl FnOnce(&mut Value)) {
            let path = self.project(project).join("data").join(files::QUEUE);
            let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            change(&mut file);
            fs::write(path, file.to_string()).unwrap();
        }

        fn state(&mut self, id: &str) -> TaskState {
            self.store.task(&TaskId::parse(id).unwrap()).unwrap().unwrap().state
        }
    }

    #[test]
    fn an_edit_is_taken_over_in_a_project_whose_tasks_are_over() {
        let mut lab = Lab::new();
        lab.add("other", "a");
        lab.store.cancel(lab.now, &TaskId::parse("a").unwrap()).unwrap();
        assert_eq!(lab.look(0), [""; 0]);
        lab.edit("other", |file| file["tasks"]["b"] = json!({"description": "x"}));
        assert_eq!(lab.look(1), ["taken over from claude_task_queue.json: task b added"]);
        assert_eq!(lab.state("b"), TaskState::Queued);
    }

    #[test]
    fn a_configuration_counts_as_soon_as_it_can_be_used() {
        let mut lab = Lab::new();
        lab.configure("other", "broken = [");
        lab.add("other", "a");
        let told = lab.look(0);
        assert!(
            told.len() == 1 && told[0].contains("its configuration cannot be used"),
            "{told:?}"
        );
        assert_eq!(lab.look(10), [""; 0], "told once");
        assert!(!lab.project("other").join("data").exists());
        lab.configure("other", "[queue]\nfiles = \"shown\"\n");
        assert_eq!(lab.look(5), [""; 0]);
        assert!(lab.project("other").join("shown").join(files::QUEUE).exists());
        // While somebody edits it, what it said before holds.
        lab.configure("other", "[que");
        lab.add("other", "b");
        assert_eq!(lab.look(5).len(), 1, "it came again");
        let shown = fs::read_to_string(lab.project("other").join("shown").join(files::QUEUE));
        assert!(shown.unwrap().contains("\"b\""));
    }

    #[test]
    fn each_edit_is_told_and_so_is_a_problem_that_comes_back() {
        let mut lab = Lab::new();
        lab.add("home", "a");
        lab.look(0);
        for words in ["one", "two"] {
            lab.edit("home", |file| file["tasks"]["a"]["description"] = json!(words));
            assert_eq!(lab.look(1), ["taken over from claude_task_queue.json: task a changed"]);
        }
        let (data, aside) = (lab.project("home").join("data"), lab.project("home").join("aside"));
        for _ in 0..2 {
            fs::rename(&data, &aside).unwrap();
            std::os::unix::fs::symlink("aside", &data).unwrap();
            assert_eq!(lab.look(1).len(), 1);
            assert_eq!(lab.look(1), [""; 0], "told once as long as it lasts");
            fs::remove_file(&data).unwrap();
            fs::rename(&aside, &data).unwrap();
            assert_eq!(lab.look(1), [""; 0]);
        }
    }

    #[test]
    fn many_projects_take_turns() {
        let mut lab = Lab::new();
        let names: Vec<String> = (0..AT_ONCE + 20).map(|n| format!("many{n}")).collect();
        for name in &names {
            fs::create_dir(lab.project(name)).unwrap();
            lab.add(name, name);
        }
        let shown = |lab: &Lab| {
            let has_files = |name: &&String| lab.project(name).join("data").exists();
            names.iter().filter(has_files).count()
        };
        lab.look(0);
        assert!((AT_ONCE - 2..=AT_ONCE).contains(&shown(&lab)), "{}", shown(&lab));
        lab.look(1);
        assert_eq!(shown(&lab), names.len());
    }

    #[test]
    fn tidying_up_in_one_project_leaves_the_results_of_the_others() {
        let mut lab = Lab::new();
        lab.configure("home", "[queue]\narchive_after = \"1s\"\nkeep_recent = 0\n");
        for (project, id) in [("home", "a"), ("other", "b")] {
            lab.add(project, id);
            lab.store.cancel(lab.now, &TaskId::parse(id).unwrap()).unwrap();
        }
        lab.look(60);
        let (home, now) = (lab.project("home"), lab.now);
        let saved = lab.faces.tidy(&mut lab.store, &home, now).unwrap();
        assert!(saved.0.is_some_and(|saved| saved.starts_with("1 result was archived")));
        let results = |lab: &Lab, project: &str| {
            let path = lab.project(project).join("data").join(files::RESULTS);
            let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            file["results"].as_object().unwrap().len()
        };
        lab.look(1);
        assert_eq!((results(&lab, "home"), results(&lab, "other")), (0, 1));
    }
}
