//! How a run begins: on new ground, or where the last one was cut off.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::claude_json::{Env, Places};
use crate::cli::run::Errand;
use crate::cli::target::TargetArgs;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::cycle::event::Warning;
use crate::cycle::failure::Class;
use crate::cycle::{Event, Machine, Outcome, Params, Snapshot};
use crate::driver::{self, Guard, Setup};
use crate::error::{Error, ErrorKind, Result};
use crate::guard;
use crate::guard::lookout::Lookout;
use crate::guard::program::Identity;
use crate::guard::settings::{self, Allowed, Depth, Looker, Moment, Subject, Verdict};
use crate::journal::{self, Header, Journal};
use crate::queue::chain::Chain;
use crate::runs::RunFolder;
use crate::session::sweep;
use crate::transcript::SessionTranscript;

/// A run about to be supervised.
pub(super) struct Begun {
    pub setup: Setup,
    pub guard: Guard,
    pub machine: Machine,
    pub journal: Journal,
    pub first: Event,
    pub lost: Option<driver::Lost>,
}

/// What a run stands on, before anything of the project was started.
pub(super) struct Ground {
    project: PathBuf,
    /// The environment of the CLI.
    pub child_env: Env,
    places: Places,
    /// Who looks at the settings.
    lookout: Lookout,
    /// May the project's settings change?
    allowed: Allowed,
    /// What the person should hear of before the first launch.
    untold: Vec<Warning>,
    /// The queue, if the run works off its tasks.
    chain: Option<Arc<Chain>>,
}

impl Ground {
    pub fn of(
        project: &Path,
        config: &Config,
        target: &TargetArgs,
        env: &Env,
        errand: &Errand,
    ) -> Result<Self> {
        let child_env = env.for_child(config);
        let places = Places::of(&child_env)
            .ok_or_else(|| Error::usage("HOME is not set, so the CLI's folder is not known"))?;
        let config_file = target.config_file()?;
        let subject = Subject::new(project, config_file.as_deref(), &places);
        let allowed = Allowed::of(config.claude.allow_settings_changes, &target.set, &subject);
        let project = project.to_owned();
        let lookout = Lookout::new(subject);
        let chain = match errand {
            Errand::TaskFile => None,
            Errand::Queue { chain, .. } => Some(chain.clone()),
        };
        Ok(Self { project, child_env, places, lookout, allowed, untold: Vec::new(), chain })
    }

    /// The part of the configuration that decisions need.
    fn params(&self, config: &Config) -> Params {
        Params { queue: self.chain.is_some(), ..Params::from(config) }
    }

    fn begin_watch(&mut self, run: &Path) -> Result<settings::Watch> {
        let (run, allowed) = (run.to_owned(), self.allowed);
        self.lookout.ask(move |looker| settings::Watch::begin(&run, looker, allowed))?
    }

    fn setup_and_guard(
        self,
        config: Config,
        program: PathBuf,
        run: RunFolder,
        run_id: Uuid,
        settings: settings::Watch,
    ) -> Result<(Setup, Guard)> {
        let identity = Identity::of(&program)
            .map_err(|why| Error::usage(format!("the Claude Code CLI cannot be used: {why}")))?;
        let setup = Setup {
            config,
            project: self.project,
            program,
            claude_dir: self.places.config_dir.clone(),
            scratch: scratch(run_id)?,
            run,
            chain: self.chain,
        };
        let guard = Guard {
            settings,
            program: identity,
            lookout: self.lookout,
            places: self.places,
            allowed: self.allowed,
            untold: self.untold,
        };
        Ok((setup, guard))
    }
}

/// The newest run, where it matters to the next one.
pub(super) struct LastRun {
    run: RunFolder,
    told: journal::Told,
}

impl LastRun {
    pub fn find(state: &Path) -> Result<Option<Self>> {
        let Some(run) = RunFolder::newest(state)? else { return Ok(None) };
        let told = journal::read(&run.journal())?;
        Ok(Some(Self { run, told }))
    }

    /// The run `run_id`, if it ever began.
    pub fn of(state: &Path, run_id: Uuid) -> Result<Option<Self>> {
        let Some(run) = RunFolder::find(state, run_id)? else { return Ok(None) };
        let told = journal::read(&run.journal())?;
        Ok(Some(Self { run, told }))
    }

    /// Did it ever have a task of the queue in hand?
    pub fn has_begun_tasks(&self) -> bool {
        !self.told.machine.assignments().is_empty()
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.run.path()
    }

    /// Its id.
    pub fn run_id(&self) -> Uuid {
        self.told.header.run_id
    }

    /// Did it work off tasks of the queue?
    pub fn is_for_queue(&self) -> bool {
        self.told.header.params.queue
    }

    /// What it ended with, if it did.
    pub fn exit_code(&self) -> Option<u8> {
        self.told.machine.outcome().map(Outcome::exit_code)
    }

    /// Was it cut off, to be taken up again?
    pub fn is_cut_off(&self) -> bool {
        self.told.machine.outcome().is_none()
    }

    /// Must what it began with still stand? Where a session changed that, a new run
    /// would otherwise take the change for what the person wants.
    pub fn binds(&self) -> bool {
        let view = Snapshot::of(&self.told.machine);
        self.is_cut_off() || view.failures().any(|(class, _)| class == Class::SettingsChanged)
    }

    /// What the run began with, compared with what is there now.
    ///
    /// # Errors
    /// Something is different, and nobody has allowed it.
    pub fn compare_settings(&self, ground: &mut Ground) -> Result<settings::Watch> {
        let Some(mut watch) = settings::Watch::resume(self.run.path())? else {
            return ground.begin_watch(self.run.path());
        };
        let sight = ground.lookout.ask(|looker: &mut Looker| looker.look(Depth::Thorough))?;
        match watch.check(sight, ground.allowed, Moment::TakenUp)? {
            Verdict::Same => {}
            Verdict::Allowed(changes) | Verdict::Later(changes) => {
                let (class, text) = (Some(Class::SettingsChanged), changes.sentence());
                ground.untold.push(Warning { class, text });
            }
            Verdict::Refused(changes) => return Err(changes.into_error()),
        }
        Ok(watch)
    }

    pub fn take_up(
        self,
        config: Config,
        program: PathBuf,
        ground: Ground,
        watch: settings::Watch,
    ) -> Result<Begun> {
        let Self { run, told } = self;
        let params = ground.params(&config);
        let journal = Journal::resume(&run.journal(), &told)?;
        let run_id = told.header.run_id;
        // Before the temporary folder is made: a keeper that is still at it removes
        // the one of its longhaul.
        let swept = sweep::clear_run(&run_id.to_string());
        let (setup, guard) = ground.setup_and_guard(config, program, run, run_id, watch)?;
        let (first, lost) = take_up(&told.machine, params, &setup, swept);
        Ok(Begun { setup, guard, machine: told.machine, journal, first, lost })
    }
}

/// Begins a new run.
pub(super) fn begin(
    state: &Path,
    config: Config,
    program: PathBuf,
    mut ground: Ground,
) -> Result<Begun> {
    let run_id = ground.chain.as_ref().map_or_else(Uuid::new_v4, |chain| chain.run_id());
    let now = Timestamp::now();
    let params = ground.params(&config);
    let run = RunFolder::create(state, run_id, now)?;
    let header = Header {
        format: journal::FORMAT,
        run_id,
        project: ground.project.clone(),
        started_at: now,
        params: params.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    // Before the journal, so that a run that can be taken up always has them.
    let watch = ground.begin_watch(run.path())?;
    guard::global::keep_copy(&ground.places, run.path())?;
    let journal = Journal::create(&run.journal(), &header)?;
    let machine = Machine::new(run_id, params, now);
    let (setup, guard) = ground.setup_and_guard(config, program, run, run_id, watch)?;
    Ok(Begun { setup, guard, machine, journal, first: Event::Started, lost: None })
}

/// What became of the session that was live when longhaul was killed: ended by
/// its keeper; its transcript has the last word on what it used.
fn take_up(
    machine: &Machine,
    params: Params,
    setup: &Setup,
    swept: sweep::Swept,
) -> (Event, Option<driver::Lost>) {
    let live = machine.live().filter(|_| machine.is_alive() || machine.owes_brief());
    let lost = live.map(|cycle| {
        let transcript =
            SessionTranscript::new(&setup.claude_dir, &setup.project, cycle.session_id);
        driver::Lost::read(cycle.cycle, cycle.session_id, transcript)
    });
    let first = Event::Recovered {
        params: Box::new(params),
        spend: lost.as_ref().and_then(|l| l.spend.clone()),
        bill: lost.as_ref().and_then(|l| l.bill),
        killed: swept.killed,
    };
    (first, lost)
}

/// A folder for the run's sockets and temporary files. Short, because the CLI
/// puts sockets into it, and a socket's address holds 108 bytes.
fn scratch(run_id: Uuid) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let name = format!("longhaul-{}", &run_id.simple().to_string()[..12]);
    let path = std::env::temp_dir().join(name);
    // One left behind by a longhaul of this run that was killed with its keeper is ours to replace; the
    // name of a new run cannot be guessed.
    let _ = std::fs::remove_dir_all(&path);
    std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(|e| {
        Error::io(ErrorKind::Disk, format!("cannot create {}", path.display()), e)
            .hint("TMPDIR names another place for temporary files")
    })?;
    Ok(path)
}
