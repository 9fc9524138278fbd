//! `longhaul serve`: what listens for other programs, in one process. The hub is the
//! first of it; each comes with a router or a listener of its own and is put together
//! here.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;

use crate::OWN_PROGRAM;
use crate::cli::print;
use crate::cli::target::TargetArgs;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::hub::{self, Hub, QueueChild, Settings, TOKEN_FILE, Token};
use crate::queue::faces::{self, Faces};
use crate::queue::files::{Cutoff, Reduction};
use crate::queue::{QueueError, SqliteStore, Store};
use crate::{signals, state_dir, text, track};

/// Shown below `longhaul serve --help`.
const AFTER_HELP: &str = "\
It serves until a signal ends it, with exit code 128 + its number; a run of the queue
that it began is told to stop, and waited for. 64: the address cannot be listened on;
50, 51: the state cannot be read, or the disk not be written.

Whatever changes anything needs the token in <state directory>/hub.token:
    curl -H \"Authorization: Bearer $(cat ~/.local/state/longhaul/hub.token)\" …";

/// How often the queue's files are looked at.
const REFLECT_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `longhaul serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct ServeArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Where the hub listens (default: hub.address; port 0: a free one), or `off`
    #[arg(long, value_name = "ADDR:PORT|off")]
    hub: Option<Place>,
    /// One JSON object per event on standard output
    #[arg(long)]
    json: bool,
}

/// Where something listens, if anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Off,
    At(SocketAddr),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "off" {
            return Ok(Place::Off);
        }
        let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        let address = match local {
            Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            None => text.parse().ok(),
        };
        address.map(Place::At).ok_or_else(|| {
            "an address with its port is wanted, such as 127.0.0.1:5001 or [::1]:0, or off".into()
        })
    }
}

/// What listens.
struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    app: axum::Router,
    hub: Hub,
    token: Token,
}

/// Serves until a signal comes, and gives the exit code.
pub fn run(args: &ServeArgs) -> Result<u8> {
    crate::cli::asker::refuse_session("serve the queue")?;
    let (project, config) = args.target.resolve()?;
    let root = state_dir::locate(|name| std::env::var_os(name))?;
    let root = state_dir::prepare(&root, &project)?;
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // One for a review of usage, one for a log, and the queue is never without.
        .max_blocking_threads(4)
        .build()
        .map_err(|e| Error::internal("cannot start the event loop").caused_by(e))?;
    let code = runtime.block_on(serve(args, &project, &config, &root));
    // A blocked disk must not keep it from ending.
    runtime.shutdown_timeout(Duration::from_secs(2));
    code
}

async fn serve(args: &ServeArgs, project: &Path, config: &Config, root: &Path) -> Result<u8> {
    let mut signals = signals::take()
        .map_err(|e| Error::internal("cannot take over the signals").caused_by(e))?;
    let place = args.hub.unwrap_or(Place::At(config.hub.address));
    let runner = Arc::new(QueueChild::new(OWN_PROGRAM, run_arguments(args)?, project, root));
    let hub = match place {
        Place::At(address) => {
            let faces = Faces::new(root, project, args.target.config.as_deref(), &args.target.set);
            let books = Books { root: root.to_owned(), target: args.target.clone() };
            Some(listen(address, project, config, root, &runner, faces, books).await?)
        }
        Place::Off => None,
    };
    announce(args.json, hub.as_ref(), root)?;
    let open = async {
        let Some(hub) = hub else { return std::future::pending().await };
        let door = hub::door::serve(hub.listener, hub.app, Default::default());
        tokio::select! {
            never = door => match never {},
            never = reflect(hub.hub) => match never {},
        }
    };
    let number = tokio::select! {
        number = signals.recv() => number,
        () = open => None,
    };
    // From here on nobody can ask for anything; a run of the queue is ended as a
    // signal would end it, and hears of further ones.
    let Some(number) = number else {
        return Err(Error::internal("the thread that waits for signals ended"));
    };
    let mut next = Some(number);
    loop {
        if let Some(number) = next {
            runner.end(number);
        }
        tokio::select! {
            () = runner.ended() => break,
            number = signals.recv() => next = number,
        }
    }
    let code = 128_u8.saturating_add(u8::try_from(number).unwrap_or_default());
    if args.json {
        say(&json!({ "event": "stopped", "signal": number, "exit_code": code }))?;
    }
    Ok(code)
}

async fn listen(
    address: SocketAddr,
    project: &Path,
    config: &Config,
    root: &Path,
    runner: &Arc<QueueChild>,
    faces: Faces,
    books: Books,
) -> Result<Listening> {
    let failed = |e: std::io::Error| {
        Error::usage(format!("the hub cannot listen on {address}"))
            .caused_by(e)
            .hint("`--hub 127.0.0.1:0` takes a free port; `hub.address` sets another one")
    };
    let store = SqliteStore::open(root)?;
    let token = Token::of(root)?;
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let settings = Settings::of(config, project.to_owned(), address);
    let runner = Arc::clone(runner) as Arc<dyn hub::Runner>;
    let hub = Hub::new(Box::new(store), runner, token.clone(), settings);
    hub.set_mirror(Box::new(Shown { faces, trouble: None }));
    hub.set_bookkeeper(Arc::new(books));
    let app = hub::router(hub.clone());
    Ok(Listening { listener, address, app, hub, token })
}

/// Records usage in any project, as `longhaul track` does there.
struct Books {
    root: PathBuf,
    target: TargetArgs,
}

impl Books {
    fn resolve(&self, project: &Path) -> Result<(PathBuf, Config)> {
        TargetArgs { project: Some(project.to_owned()), ..self.target.clone() }.resolve()
    }

    fn tracker(&self, project: &Path) -> Result<track::Tracker> {
        let (project, config) = self.resolve(project)?;
        super::track::tracker(&self.root, &project, &config)
    }
}

impl hub::Bookkeeper for Books {
    fn take(&self, project: &Path, input: &track::Input) -> Result<track::Answer> {
        let (project, config) = self.resolve(project)?;
        let advised =
            |since, until| super::track::advised(&self.root, &project, &config, (since, until));
        super::track::tracker(&self.root, &project, &config)?.take(input, advised)
    }

    fn note_refused(&self, project: &Path, message: &str) {
        if let Ok(tracker) = self.tracker(project) {
            tracker.note_refused(message);
        }
    }
}

/// The queue's files in all projects.
struct Shown {
    faces: Faces,
    /// What the store said last, while it fails.
    trouble: Option<String>,
}

impl Shown {
    fn tell(heard: faces::Heard) {
        for (project, text) in heard {
            tracing::warn!(project = %project.display(), "{}", text::safe(&text));
        }
    }
}

impl hub::Mirror for Shown {
    fn reflect(&mut self, store: &mut dyn Store) {
        let now = Timestamp::now();
        match self.faces.sync(store, now.unix_ms, now.boot_ms) {
            Ok(heard) => {
                Self::tell(heard);
                self.trouble = None;
            }
            Err(err) => {
                let err = Error::from(err).to_string();
                // One that lasts is told once.
                if self.trouble.replace(err.clone()) != Some(err.clone()) {
                    tracing::error!("the queue's files: {}", text::safe(&err));
                }
            }
        }
    }

    fn archive(
        &mut self,
        store: &mut dyn Store,
        project: &Path,
        cutoff: Cutoff,
    ) -> std::result::Result<Reduction, QueueError> {
        let (done, heard) = self.faces.archive(store, project, Timestamp::now().unix_ms, cutoff)?;
        Self::tell(heard);
        Ok(done)
    }
}

/// What others change, in the queue or in its files, is shown and taken over as well.
async fn reflect(hub: Hub) -> std::convert::Infallible {
    loop {
        hub.reflect().await;
        tokio::time::sleep(REFLECT_EVERY).await;
    }
}

/// How the queue is run: as this command was, for all projects.
fn run_arguments(args: &ServeArgs) -> Result<Vec<OsString>> {
    let mut run: Vec<OsString> = ["queue", "run", "--json", "--leash"].map(Into::into).into();
    run.extend(args.target.settings()?);
    Ok(run)
}

fn announce(json: bool, hub: Option<&Listening>, root: &Path) -> Result<()> {
    if json {
        return say(&json!({
            "event": "listening",
            "hub": hub.map(|hub| format!("http://{}", hub.address)),
            "token": hub.map(|hub| hub.token.as_str()),
        }));
    }
    let text = match hub {
        Some(hub) => format!(
            "the hub listens on http://{}\n\
             its token is in {}; whatever changes anything needs it\n\
             what can be asked: http://{}/api/v1/openapi.json\n\
             Ctrl-C ends it\n",
            hub.address,
            print::harmless(&root.join(TOKEN_FILE).display().to_string()),
            hub.address,
        ),
        None => "the hub is off: nothing listens\nCtrl-C ends it\n".into(),
    };
    print::print(&text)
}

fn say(event: &serde_json::Value) -> Result<()> {
    let line = crate::text::json(event, false)
        .map_err(|e| Error::internal("an event cannot be written").caused_by(e))?;
    print::print(&(line + "\n"))
}

/// What goes wrong while it serves is for the person, or for the service manager.
fn log_to_stderr() {
    let level = match std::env::var("LONGHAUL_LOG").as_deref() {
        Ok("debug") => tracing::Level::DEBUG,
        Ok("trace") => tracing::Level::TRACE,
        Ok(_) | Err(_) => tracing::Level::WARN,
    };
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false)
        .with_writer(std::io::stderr)
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_or_off() {
        let at = |text: &str| Ok(Place::At(text.parse().unwrap()));
        assert_eq!("off".parse(), Ok(Place::Off));
        assert_eq!("127.0.0.1:0".parse(), at("127.0.0.1:0"));
        assert_eq!("[::1]:5001".parse(), at("[::1]:5001"));
        assert_eq!("localhost:80".parse(), at("127.0.0.1:80"));
        for text in ["", "5001", "127.0.0.1", "localhost", "localhost:x", "OFF", "a.b:1", ":1"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
