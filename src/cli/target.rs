//! The arguments that say which project and which configuration.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::{Error, ErrorKind, Result};

/// Which project, which configuration.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TargetArgs {
    /// The project (default: the current directory)
    #[arg(long, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// The configuration file (default: longhaul.toml in the project, if there is one)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One key of the configuration; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

impl TargetArgs {
    /// The real path of the project, and the configuration.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`] when either cannot be used.
    pub fn resolve(&self) -> Result<(PathBuf, Config)> {
        let project = project_dir(self.project.as_deref())?;
        let config = Config::load(&project, self.config.as_deref(), &self.set)?;
        Ok((project, config))
    }

    /// The configuration file that was named, whatever the current directory will be.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`] when there is no current directory.
    pub fn config_file(&self) -> Result<Option<PathBuf>> {
        self.config.as_deref().map(std::path::absolute).transpose().map_err(|e| {
            Error::io(ErrorKind::Usage, "the path of the configuration cannot be told", e)
        })
    }

    /// `--config` and `--set` once more, for another process of this program.
    ///
    /// # Errors
    ///
    /// As [`TargetArgs::config_file`].
    pub fn settings(&self) -> Result<Vec<OsString>> {
        let file = self.config_file()?;
        let file = file.into_iter().flat_map(|file| ["--config".into(), file.into_os_string()]);
        let set = self.set.iter().flat_map(|set| ["--set".into(), set.into()]);
        Ok(file.chain(set).collect())
    }
}

/// The real path of the project directory.
///
/// # Errors
///
/// [`ErrorKind::Usage`] when there is none or it is not a directory.
pub fn project_dir(given: Option<&Path>) -> Result<PathBuf> {
    let path = given.unwrap_or(Path::new("."));
    let shown = path.display().to_string();
    let shown = shown.escape_debug();
    let real = std::fs::canonicalize(path).map_err(|err| {
        Error::io(ErrorKind::Usage, format!("cannot open the project directory {shown}"), err)
    })?;
    if !real.is_dir() {
        return Err(Error::usage(format!("the project {shown} is not a directory")));
    }
    Ok(real)
}
