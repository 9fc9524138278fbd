//! One error type for everything a person can meet: what happened, where, and
//! what to do next, with the one match from kind to exit code.

use std::fmt;

/// What went wrong, as far as the exit code is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A person has to do something first (exit 10).
    NeedsPerson,
    /// No working login, or a refused key (exit 30).
    Authentication,
    /// Another run holds the project (exit 40).
    Locked,
    /// The state directory holds something that cannot be read (exit 50).
    State,
    /// A disk error: full, read-only, failing (exit 51).
    Disk,
    /// Wrong arguments or configuration (exit 64).
    Usage,
    /// A fault of longhaul itself (exit 70).
    Internal,
}

impl ErrorKind {
    /// The documented exit code of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::NeedsPerson => 10,
            ErrorKind::Authentication => 30,
            ErrorKind::Locked => 40,
            ErrorKind::State => 50,
            ErrorKind::Disk => 51,
            ErrorKind::Usage => 64,
            ErrorKind::Internal => 70,
        }
    }
}

/// An error with its kind, its cause and hints for the person who reads it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    hints: Vec<String>,
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A new error; `message` says what happened and where.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, hints: Vec::new() }
    }

    /// Wrong arguments or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// A fault of longhaul itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// An I/O error while doing `what`: exit 51 when the disk is full,
    /// read-only or failing, else `otherwise`.
    pub fn io(otherwise: ErrorKind, what: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let failing_disk = matches!(
            source.kind(),
            Io::StorageFull | Io::QuotaExceeded | Io::ReadOnlyFilesystem | Io::FileTooLarge
        ) || source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
        let kind = if failing_disk { ErrorKind::Disk } else { otherwise };
        Self::new(kind, what).caused_by(source)
    }

    /// Adds the cause.
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what the person can do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The kind, which decides the exit code.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened, without cause and hints.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the person can do next.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The whole text as a person sees it on standard error.
    pub fn render(&self) -> String {
        let mut out = format!("error: {}", self.message);
        let mut cause = self.source.as_deref().map(|s| s as &dyn std::error::Error);
        while let Some(err) = cause {
            out.push_str(&format!("\n  cause: {err}"));
            cause = err.source();
        }
        for hint in &self.hints {
            out.push_str(&format!("\n  help: {hint}"));
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}
