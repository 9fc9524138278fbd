//! `longhaul demo`: the main job on a temporary project, with the real CLI and
//! a scripted Messages API on loopback. Nothing of the person's is touched.

use std::path::PathBuf;

use crate::cli::target::TargetArgs;
use crate::cli::{ask, print, run};
use crate::config::Config;
use crate::demo::install;
use crate::demo::project::{Demo, WINDOW_TOKENS};
use crate::demo::scenario::Worker;
use crate::error::{Error, ErrorKind, Result};
use crate::state_dir;

/// What the checkpoint request of `config/default.toml` starts with.
const CHECKPOINT_MARKER: &str = "CHECKPOINT";

/// Arguments of `longhaul demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// One JSON object per event on standard output
    #[arg(long)]
    json: bool,
    /// Keep the temporary project and its state, and say where they are
    #[arg(long)]
    keep: bool,
    /// The CLI to use instead of the one on PATH or a private copy
    #[arg(long, value_name = "FILE")]
    claude: Option<PathBuf>,
}

/// Runs, and gives the exit code.
pub fn run(args: &DemoArgs) -> Result<u8> {
    let cache = cache_dir()?;
    if !args.json {
        print::print(
            "longhaul demo: looking for the Claude Code CLI (installed privately if there is none)\n",
        )?;
    }
    let cli =
        install::for_demo(args.claude.as_deref(), &cache, std::env::var_os("PATH").as_deref())?;
    let root = tempfile::Builder::new()
        .prefix("lh-demo-")
        .tempdir()
        .map_err(|e| Error::io(ErrorKind::Disk, "cannot make a temporary folder", e))?;
    let place = std::fs::canonicalize(root.path())
        .map_err(|e| Error::io(ErrorKind::Disk, "cannot find the temporary folder", e))?;
    let demo = Demo::prepare(&place, cli, Worker::for_window(WINDOW_TOKENS, CHECKPOINT_MARKER))?;
    if !args.json {
        print::print(&format!(
            "A scripted API answers on {}; the CLI is {} ({}). No account, no cost.\n",
            demo.api.base_url(),
            demo.cli.program.display(),
            demo.cli.version,
        ))?;
    }
    let set: Vec<String> = demo.settings().into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    let config = Config::load(&demo.project_dir, None, &set)?;
    let state_root = place.join("state");
    let show = run::Show { json: args.json, group: None };
    let target = TargetArgs::default();
    let errand = run::Errand::TaskFile;
    let code = run::start(&demo.project_dir, config, &target, &state_root, show, errand);
    if !args.json && code.is_ok() {
        print::print(&format!(
            "\n{}",
            ask::report_text(&demo.project_dir, &state_root, None, false)?
        ))?;
    }
    if args.keep {
        let kept = root.keep();
        print::complain(&format!("kept: {}", kept.display()));
    } else if !args.json {
        print::print("\nThe demo's files are removed again; `longhaul demo --keep` keeps them.\n")?;
    }
    code
}

/// Where a private copy of the CLI stays from one demo to the next.
fn cache_dir() -> Result<PathBuf> {
    Ok(state_dir::locate(|name| std::env::var_os(name))?.join("claude-cli"))
}
