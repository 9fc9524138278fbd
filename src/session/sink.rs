//! What the CLI's statusline and hooks report: the small program the CLI runs
//! for each of them, and the socket its words arrive at.
//!
//! The program must never hold up or disturb the CLI, so it exits 0, says
//! nothing on failure, and gives up after a bounded time. Two things it does
//! answer: a permission or a question ([`super::permission`]), and a compaction
//! of the CLI's own accord, which it holds (exit 2) while a longhaul lives that
//! will take a checkpoint instead. Datagrams carry only the fields that are
//! used: a prompt or an answer never leaves the CLI.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::permission::{self, PERMISSION_HOOK, Permission, QUESTION_HOOK};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// The hidden subcommand the CLI runs: `__sink <kind> <dir>`, and for a
/// permission or a question `__sink <kind> <dir> deny | stop | command <argv>`.
pub const SINK_COMMAND: &str = "__sink";

/// The kind of a statusline report.
pub const STATUSLINE_KIND: &str = "statusline";

/// The hooks that longhaul has the CLI call. The sink understands the others as
/// well, but what they say stands in the transcript too, and each call costs a
/// process.
pub const HOOKS: &[&str] = &["SessionStart", "Notification", "PreCompact"];

/// The exit code of a hook by which it forbids what is about to happen.
const FORBID: u8 = 2;

const SOCKET_NAME: &str = "sink.sock";

/// More than this is not read from the CLI. A permission is asked with the
/// whole of the file that is to be written.
const INPUT_MAX_BYTES: usize = 8 << 20;

/// Longest wait for the CLI to hand its input over.
const INPUT_LIMIT_MS: u64 = 1_000;

/// Longest wait for room in the socket of a longhaul that does not keep up.
const SEND_LIMIT: Duration = Duration::from_millis(50);

/// Longest text of one field, in characters.
const FIELD_MAX_CHARS: usize = 500;

/// Larger than any report: its fields are few and bounded.
const REPORT_MAX_BYTES: usize = 12 << 10;

/// One report and when it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkReport {
    /// When the CLI made it.
    pub at: Timestamp,
    /// The session it speaks of.
    pub session_id: Option<String>,
    /// What it says.
    pub event: SinkEvent,
}

/// What a report says. A field the CLI did not send, or not as expected, is
/// `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SinkEvent {
    /// The state of the session, after each reply.
    Statusline(Box<Status>),
    /// A session began, or goes on after a compaction.
    SessionStart {
        /// Where its transcript is or will be.
        transcript_path: Option<PathBuf>,
        /// `startup`, `resume`, `clear`, `compact`.
        source: Option<String>,
        /// The model's id.
        model: Option<String>,
    },
    /// A prompt was taken in.
    UserPromptSubmit,
    /// A turn ended.
    Stop,
    /// A turn ended because the API refused.
    StopFailure {
        /// `rate_limit`, `server_error`, `authentication_failed`, `invalid_request`.
        error: Option<String>,
    },
    /// The CLI wants a person's attention.
    Notification {
        /// `permission_prompt`, `idle_prompt` …
        notification_type: Option<String>,
        /// The words a person would see.
        message: Option<String>,
    },
    /// The conversation is about to be compacted. With `auto`, this report is
    /// what holds it: the CLI goes on without, and asks again before each
    /// request. If the API itself found the prompt too long, the turn ends.
    PreCompact {
        /// `auto` or `manual`; the latter is let through.
        trigger: Option<String>,
    },
    /// A person's permission or answer was asked.
    Permission(Permission),
    /// The session ends.
    SessionEnd {
        /// `exit`, `clear`, `other` …
        reason: Option<String>,
    },
}

/// What the CLI tells its statusline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The transcript it writes.
    pub transcript_path: Option<PathBuf>,
    /// The model's id.
    pub model: Option<String>,
    /// The CLI's version.
    pub version: Option<String>,
    /// The CLI's own bill of this session so far.
    pub cost_usd: Option<f64>,
    /// Tokens in the context.
    pub context_tokens: Option<u64>,
    /// Size of the context window.
    pub window_tokens: Option<u64>,
    /// The CLI's own percentage.
    pub used_percent: Option<f64>,
    /// Whether the context is beyond 200,000 tokens.
    pub exceeds_200k: Option<bool>,
    /// A subscriber's use of the five-hour window.
    pub five_hour: Option<RateLimit>,
    /// A subscriber's use of the week.
    pub seven_day: Option<RateLimit>,
}

/// Use of a usage limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RateLimit {
    /// How much of it is used.
    pub used_percent: Option<f64>,
    /// When it begins anew, Unix time in seconds.
    pub resets_at_s: Option<i64>,
}

/// Runs `__sink <kind> <dir> …` with the arguments after the subcommand.
/// Succeeds, as far as the CLI can tell, unless it holds a compaction.
pub fn sink_main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(kind), Some(dir)) = (args.next(), args.next()) else { return ExitCode::SUCCESS };
    let dir = Path::new(&dir);
    let input = read_input();
    match kind.to_str() {
        Some(hook @ (PERMISSION_HOOK | QUESTION_HOOK)) => {
            let answer = permission::answer(hook, args, &input, |told| {
                // The answer does not depend on anybody hearing of it.
                let _ = send(dir, &permission_report(&input, told));
            });
            let _ = io::stdout().write_all(answer.as_bytes());
            ExitCode::SUCCESS
        }
        _ => tell(&kind, dir, &input),
    }
}

fn tell(kind: &OsStr, dir: &Path, input: &[u8]) -> ExitCode {
    let Some(report) = report(kind, input, Timestamp::now()) else { return ExitCode::SUCCESS };
    if let SinkEvent::Statusline(status) = &report.event {
        let _ = io::stdout().write_all(status_line(status).as_bytes());
    }
    // Nobody is there to be told of a failure, and the CLI must not be.
    let is_heard = send(dir, &report).is_ok();
    match &report.event {
        SinkEvent::PreCompact { trigger } if is_heard && trigger.as_deref() == Some("auto") => {
            ExitCode::from(FORBID)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn permission_report(input: &[u8], told: Permission) -> SinkReport {
    let json: Value = serde_json::from_slice(input).unwrap_or(Value::Null);
    SinkReport {
        at: Timestamp::now(),
        session_id: text(&json, "/session_id"),
        event: SinkEvent::Permission(told),
    }
}

/// Standard input up to its end; what is beyond the cap is read and dropped,
/// so that the CLI never meets a closed pipe.
pub(crate) fn read_input() -> Vec<u8> {
    let stdin = io::stdin();
    let start = Timestamp::now();
    let mut input = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let left_ms = INPUT_LIMIT_MS.saturating_sub(Timestamp::now().ms_since(start));
        let timeout = Timespec { tv_sec: 0, tv_nsec: (left_ms.min(999) * 1_000_000) as i64 };
        match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(_) => return input,
            Ok(_) => {}
        }
        match rustix::io::read(&stdin, &mut buffer[..]) {
            Ok(0) | Err(_) => return input,
            Ok(count) => {
                let room = INPUT_MAX_BYTES - input.len();
                input.extend_from_slice(&buffer[..count.min(room)]);
            }
        }
    }
}

/// The report of this kind in what the CLI sent; `None` for an unknown kind
/// and for a statusline that cannot be read.
fn report(kind: &OsStr, input: &[u8], at: Timestamp) -> Option<SinkReport> {
    let json: Option<Value> = serde_json::from_slice(input).ok();
    let kind = kind.to_str()?;
    if kind == STATUSLINE_KIND && json.is_none() {
        return None;
    }
    // That a hook fired is worth telling even when its words cannot be read.
    let json = json.unwrap_or(Value::Null);
    let event = match kind {
        STATUSLINE_KIND => SinkEvent::Statusline(Box::new(status(&json))),
        "SessionStart" => SinkEvent::SessionStart {
            transcript_path: text(&json, "/transcript_path").map(PathBuf::from),
            source: text(&json, "/source"),
            model: text(&json, "/model").or_else(|| text(&json, "/model/id")),
        },
        "UserPromptSubmit" => SinkEvent::UserPromptSubmit,
        "Stop" => SinkEvent::Stop,
        "StopFailure" => SinkEvent::StopFailure { error: text(&json, "/error") },
        "Notification" => SinkEvent::Notification {
            notification_type: text(&json, "/notification_type"),
            message: text(&json, "/message"),
        },
        "PreCompact" => SinkEvent::PreCompact { trigger: text(&json, "/trigger") },
        "SessionEnd" => SinkEvent::SessionEnd { reason: text(&json, "/reason") },
        _ => return None,
    };
    Some(SinkReport { at, session_id: text(&json, "/session_id"), event })
}

fn status(json: &Value) -> Status {
    let limit = |name: &str| {
        json.pointer(name).filter(|value| value.is_object()).map(|limit| RateLimit {
            used_percent: limit.pointer("/used_percentage").and_then(Value::as_f64),
            resets_at_s: limit.pointer("/resets_at").and_then(Value::as_i64),
        })
    };
    let tokens = |at: &str| json.pointer(at).and_then(Value::as_u64);
    let number = |at: &str| json.pointer(at).and_then(Value::as_f64);
    Status {
        transcript_path: text(json, "/transcript_path").map(PathBuf::from),
        model: text(json, "/model/id"),
        version: text(json, "/version"),
        cost_usd: number("/cost/total_cost_usd"),
        context_tokens: tokens("/context_window/total_input_tokens"),
        window_tokens: tokens("/context_window/context_window_size"),
        used_percent: number("/context_window/used_percentage"),
        exceeds_200k: json.pointer("/exceeds_200k_tokens").and_then(Value::as_bool),
        five_hour: limit("/rate_limits/five_hour"),
        seven_day: limit("/rate_limits/seven_day"),
    }
}

fn text(json: &Value, at: &str) -> Option<String> {
    let text = json.pointer(at)?.as_str()?;
    // A shortened path would be another path.
    let whole = at.ends_with("_path");
    let end =
        text.char_indices().nth(FIELD_MAX_CHARS).filter(|_| !whole).map_or(text.len(), |(i, _)| i);
    (text.len() <= 8 << 10 || !whole).then(|| text[..end].to_owned())
}

/// What stands in the CLI's own status line.
fn status_line(status: &Status) -> String {
    match (status.context_tokens, status.window_tokens) {
        (Some(tokens), Some(window)) if window > 0 => {
            let percent = tokens as f64 * 100.0 / window as f64;
            format!("longhaul · context {percent:.0} % of {window}\n")
        }
        _ => "longhaul\n".to_owned(),
    }
}

fn send(dir: &Path, report: &SinkReport) -> io::Result<()> {
    let dir = open_dir(dir)?;
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_LIMIT))?;
    let bytes = serde_json::to_vec(report)?;
    socket.send_to(&bytes, socket_path(&dir))?;
    Ok(())
}

/// Opened only to name what is in it. The CLI's own way to us may lead over
/// links, as `TMPDIR` may.
fn open_dir(dir: &Path) -> io::Result<File> {
    open_path(dir, OFlags::DIRECTORY)
}

/// The folder of that name itself, never what a link there leads to.
fn open_own_dir(dir: &Path) -> io::Result<File> {
    open_path(dir, OFlags::DIRECTORY | OFlags::NOFOLLOW)
}

fn open_path(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = (OFlags::PATH | OFlags::CLOEXEC | flags).bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

/// A socket's path may have 107 bytes; this one is short however long that of
/// the directory is.
fn socket_path(dir: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd()))
}

/// Where reports arrive.
#[derive(Debug)]
pub struct SinkSocket {
    socket: tokio::net::UnixDatagram,
    /// The folder it was bound in.
    dir: File,
    /// Device and inode of the folder and of the socket's file.
    ids: [(u64, u64); 2],
    /// Another one took its place in the same folder.
    is_replaced: bool,
}

impl SinkSocket {
    /// Binds the socket in `dir`, which is made if need be and closed to
    /// everybody else. What an earlier run left there is replaced, and so is a
    /// link or a file in the place of `dir`: nothing is touched beyond a link,
    /// since a session can put one there. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// The directory or the socket cannot be made, or the directory is somebody
    /// else's.
    pub fn bind(dir: &Path) -> Result<Self> {
        Self::try_bind(dir).map_err(|err| {
            Error::io(
                ErrorKind::State,
                format!("cannot listen for the CLI in {}", dir.display()),
                err,
            )
        })
    }

    fn try_bind(dir: &Path) -> io::Result<Self> {
        if std::fs::symlink_metadata(dir).is_ok_and(|meta| !meta.is_dir()) {
            std::fs::remove_file(dir)?;
        }
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // From here on all goes through this handle, whatever the name comes to mean.
        let handle = open_own_dir(dir)?;
        if handle.metadata()?.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is somebody else's"));
        }
        make_private(&handle, 0o700)?;
        match rustix::fs::unlinkat(&handle, SOCKET_NAME, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // A session made a folder of it.
            Err(Errno::ISDIR) => std::fs::remove_dir_all(socket_path(&handle))?,
            Err(err) => return Err(err.into()),
        }
        let socket = tokio::net::UnixDatagram::bind(socket_path(&handle))?;
        let file = open_path(&socket_path(&handle), OFlags::NOFOLLOW)?;
        if !file.metadata()?.file_type().is_socket() {
            return Err(io::Error::other("something else took the place of the socket"));
        }
        make_private(&file, 0o600)?;
        let ids = [id_of(&handle.metadata()?), id_of(&file.metadata()?)];
        Ok(SinkSocket { socket, dir: handle, ids, is_replaced: false })
    }

    /// Binds anew in `dir` when the socket's file is gone or the folder is another
    /// one: a session that tidies up its temporary folder takes it along, and
    /// without it nobody would hear of a window's size or of a question. True if
    /// it was.
    ///
    /// # Errors
    /// As for [`SinkSocket::bind`]; the old socket stays.
    pub fn mend(&mut self, dir: &Path) -> Result<bool> {
        // Another file of that name is somebody else's ear. And what lies in
        // another folder is measured by nobody.
        let file = dir.join(SOCKET_NAME);
        if id_at(dir) == Some(self.ids[0]) && id_at(&file) == Some(self.ids[1]) {
            return Ok(false);
        }
        let mut new = SinkSocket::bind(dir)?;
        // The old one, when it is dropped, must not remove the file of the new.
        self.is_replaced = new.ids[0] == self.ids[0];
        std::mem::swap(self, &mut new);
        Ok(true)
    }

    /// The next report; what cannot be read is passed over. Cancel safe.
    ///
    /// # Errors
    /// The socket itself fails.
    pub async fn recv(&self) -> Result<SinkReport> {
        let mut buffer = vec![0; REPORT_MAX_BYTES];
        loop {
            let count =
                self.socket.recv(&mut buffer).await.map_err(|err| {
                    Error::io(ErrorKind::State, "cannot read the CLI's reports", err)
                })?;
            match serde_json::from_slice(&buffer[..count]) {
                Ok(report) => return Ok(report),
                Err(err) => tracing::debug!(%err, count, "a report of the CLI cannot be read"),
            }
        }
    }
}

fn id_at(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|meta| id_of(&meta))
}

fn id_of(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// Sets the mode of exactly what is open: a handle that only names it takes no
/// `fchmod`.
fn make_private(file: &File, mode: u32) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

impl Drop for SinkSocket {
    fn drop(&mut self) {
        if !self.is_replaced {
            let _ = rustix::fs::unlinkat(&self.dir, SOCKET_NAME, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn at() -> Timestamp {
        Timestamp { unix_ms: 1, boot_ms: 2 }
    }

    fn read(kind: &str, json: &Value) -> SinkReport {
        report(OsStr::new(kind), json.to_string().as_bytes(), at()).unwrap()
    }

    #[tokio::test]
    async fn a_removed_socket_is_bound_anew_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = dir.path().join("scratch");
        let mut sink = SinkSocket::bind(&scratch).unwrap();
        assert!(!sink.mend(&scratch).unwrap());
        std::fs::remove_dir_all(&scratch).unwrap();
        assert!(sink.mend(&scratch).unwrap());
        assert!(!sink.mend(&scratch).unwrap());
        let said = SinkReport { at: Timestamp::now(), session_id: None, event: SinkEvent::Stop };
        send(&scratch, &said).unwrap();
        assert_eq!(sink.recv().await.unwrap(), said);
    }

    #[tokio::test]
    async fn nothing_is_touched_behind_a_link_in_the_folders_place() {
        let dir = tempfile::tempdir().unwrap();
        let (scratch, foreign) = (dir.path().join("scratch"), dir.path().join("foreign"));
        let mut sink = SinkSocket::bind(&scratch).unwrap();
        std::fs::create_dir(&foreign).unwrap();
        std::fs::set_permissions(&foreign, Permissions::from_mode(0o755)).unwrap();
        std::fs::write(foreign.join(SOCKET_NAME), "mine").unwrap();
        std::fs::remove_dir_all(&scratch).unwrap();
        std::os::unix::fs::symlink(&foreign, &scratch).unwrap();
        assert!(sink.mend(&scratch).unwrap());
        let mode = std::fs::metadata(&foreign).unwrap().mode() & 0o777;
        assert_eq!(
            (mode, std::fs::read_to_string(foreign.join(SOCKET_NAME)).unwrap()),
            (0o755, "mine".into())
        );
        assert!(std::fs::symlink_metadata(&scratch).unwrap().is_dir());
        let said = SinkReport { at: Timestamp::now(), session_id: None, event: SinkEvent::Stop };
        send(&scratch, &said).unwrap();
        assert_eq!(sink.recv().await.unwrap(), said);
    }

    #[tokio::test]
    async fn a_folder_that_was_moved_away_is_made_anew_even_behind_a_link_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let (scratch, moved) = (dir.path().join("scratch"), dir.path().join("moved"));
        let mut sink = SinkSocket::bind(&scratch).unwrap();
        std::fs::rename(&scratch, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &scratch).unwrap();
        assert!(sink.mend(&scratch).unwrap());
        assert!(std::fs::symlink_metadata(&scratch).unwrap().is_dir());
        assert!(!moved.join(SOCKET_NAME).exists(), "the old one takes its file along");
        drop(sink);
        assert!(!scratch.join(SOCKET_NAME).exists());
    }

    #[tokio::test]
    async fn whatever_stands_in_the_place_of_the_socket_gives_way() {
        let dir = tempfile::tempdir().unwrap();
        let (scratch, foreign) = (dir.path().join("scratch"), dir.path().join("foreign"));
        let mut sink = SinkSocket::bind(&scratch).unwrap();
        let file = scratch.join(SOCKET_NAME);
        std::fs::write(&foreign, "mine").unwrap();
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&foreign, &file).unwrap();
        assert!(sink.mend(&scratch).unwrap());
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        std::fs::write(file.join("x"), "").unwrap();
        assert!(sink.mend(&scratch).unwrap());
        assert!(!sink.mend(&scratch).unwrap());
        let mode = std::fs::metadata(&file).unwrap().mode() & 0o777;
        assert_eq!((mode, std::fs::read_to_string(foreign).unwrap()), (0o600, "mine".into()));
    }

    #[test]
    fn a_statusline_gives_window_tokens_and_cost() {
        let json: Value =
            serde_json::from_str(include_str!("../../tests/data/sink/statusline.json")).unwrap();
        let SinkEvent::Statusline(status) = read(STATUSLINE_KIND, &json).event else { panic!() };
        assert_eq!(status.model.as_deref(), Some("claude-opus-5-5"));
        assert_eq!(status.version.as_deref(), Some("2.1.329"));
        assert_eq!(status.context_tokens, json["context_window"]["total_input_tokens"].as_u64());
        assert_eq!(status.window_tokens, Some(1_000_000));
        assert_eq!(status.cost_usd, json["cost"]["total_cost_usd"].as_f64());
        assert!(status.cost_usd.is_some() && status.context_tokens.is_some());
        assert!(status.used_percent.is_some() && status.transcript_path.is_some());
    }

    #[test]
    fn a_subscribers_limits_are_read_when_they_are_there() {
        let json = json!({"rate_limits": {"five_hour": {"used_percentage": 97.5, "resets_at": 1795213621}}});
        let status = status(&json);
        let limit = RateLimit { used_percent: Some(97.5), resets_at_s: Some(1_795_213_621) };
        assert_eq!(status.five_hour, Some(limit));
        assert_eq!(status.seven_day, None);
    }

    #[test]
    fn every_hook_has_a_report() {
        for hook in HOOKS {
            let report = read(hook, &json!({"session_id": "s"}));
            assert_eq!(report.session_id.as_deref(), Some("s"), "{hook}");
        }
    }

    #[test]
    fn hooks_tell_their_reasons_and_never_the_conversation() {
        let json = json!({
            "session_id": "s", "transcript_path": "/t.jsonl", "source": "startup", "model": "m",
            "error": "rate_limit", "notification_type": "permission_prompt", "message": "needs you",
            "trigger": "auto", "reason": "other", "prompt": "secret", "last_assistant_message": "secret",
        });
        let hooks = [
            "SessionStart",
            "UserPromptSubmit",
            "Stop",
            "StopFailure",
            "Notification",
            "PreCompact",
            "SessionEnd",
        ];
        assert!(HOOKS.iter().all(|hook| hooks.contains(hook)));
        let all: Vec<SinkReport> = hooks.iter().map(|hook| read(hook, &json)).collect();
        insta::assert_snapshot!(
            all.iter().map(|r| serde_json::to_string(&r.event).unwrap()).collect::<Vec<_>>().join("\n"),
            @r#"
        {"kind":"session_start","transcript_path":"/t.jsonl","source":"startup","model":"m"}
        {"kind":"user_prompt_submit"}
        {"kind":"stop"}
        {"kind":"stop_failure","error":"rate_limit"}
        {"kind":"notification","notification_type":"permission_prompt","message":"needs you"}
        {"kind":"pre_compact","trigger":"auto"}
        {"kind":"session_end","reason":"other"}
        "#
        );
    }

    #[test]
    fn a_hook_with_unreadable_words_is_still_told_but_a_statusline_is_not() {
        let stop = report(OsStr::new("Stop"), b"\xff{", at()).unwrap();
        assert_eq!(stop, SinkReport { at: at(), session_id: None, event: SinkEvent::Stop });
        assert_eq!(report(OsStr::new(STATUSLINE_KIND), b"", at()), None);
        assert_eq!(report(OsStr::new("Nonsense"), b"{}", at()), None);
    }

    #[test]
    fn long_texts_are_cut_and_paths_are_not() {
        let long = "ü".repeat(2_000);
        let json = json!({"session_id": long, "transcript_path": long, "source": 7});
        let report = read("SessionStart", &json);
        assert_eq!(report.session_id.unwrap().chars().count(), FIELD_MAX_CHARS);
        let SinkEvent::SessionStart { transcript_path, source, .. } = report.event else {
            panic!()
        };
        assert_eq!(transcript_path.unwrap().to_str().unwrap().chars().count(), 2_000);
        assert_eq!(source, None);
    }

    #[test]
    fn the_status_line_shows_only_what_is_known() {
        let mut status = Status::default();
        assert_eq!(status_line(&status), "longhaul\n");
        status.context_tokens = Some(140_000);
        status.window_tokens = Some(200_000);
        assert_eq!(status_line(&status), "longhaul · context 70 % of 200000\n");
        status.window_tokens = Some(0);
        assert_eq!(status_line(&status), "longhaul\n");
    }

    fn run<F: Future>(test: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    #[test]
    fn reports_arrive_in_a_directory_with_a_very_long_path() {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let deep = dir.path().join("d".repeat(120)).join("e".repeat(120));
            let socket = SinkSocket::bind(&deep).unwrap();
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&deep), 0o700);
            assert_eq!(mode(&deep.join(SOCKET_NAME)), 0o600);
            let report = read("Stop", &json!({"session_id": "s"}));
            send(&deep, &report).unwrap();
            assert_eq!(socket.recv().await.unwrap(), report);
            drop(socket);
            assert!(!deep.join(SOCKET_NAME).exists());
        });
    }

    #[test]
    fn garbage_on_the_socket_is_passed_over_and_a_stale_socket_replaced() {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            std::mem::forget(SinkSocket::bind(dir.path()).unwrap());
            let socket = SinkSocket::bind(dir.path()).unwrap();
            let raw = UnixDatagram::unbound().unwrap();
            for garbage in [&b""[..], b"\xff", b"{}", b"[1]"] {
                raw.send_to(garbage, dir.path().join(SOCKET_NAME)).unwrap();
            }
            let report = read("SessionEnd", &json!({"reason": "other"}));
            send(dir.path(), &report).unwrap();
            assert_eq!(socket.recv().await.unwrap(), report);
        });
    }

    #[test]
    fn a_compaction_is_held_only_where_longhaul_hears_of_it() {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let input = |trigger: &str| json!({"trigger": trigger}).to_string();
            let hold = |trigger: &str| {
                let code = tell(OsStr::new("PreCompact"), dir.path(), input(trigger).as_bytes());
                code == ExitCode::from(FORBID)
            };
            assert!(!hold("auto"), "nobody would take a checkpoint");
            let socket = SinkSocket::bind(dir.path()).unwrap();
            assert!(hold("auto"));
            assert!(!hold("manual"), "somebody asked for it");
            for trigger in ["auto", "manual"] {
                let event = SinkEvent::PreCompact { trigger: Some(trigger.into()) };
                assert_eq!(socket.recv().await.unwrap().event, event);
            }
        });
    }

    #[test]
    fn a_permission_is_told_with_its_session() {
        let told = Permission {
            tool: "Bash".into(),
            what: "ls".into(),
            answer: permission::Answer::Denied,
            by: permission::AnsweredBy::Policy,
            failure: None,
        };
        let report = permission_report(br#"{"session_id": "s"}"#, told);
        assert_eq!(report.session_id.as_deref(), Some("s"));
        insta::assert_snapshot!(
            serde_json::to_string(&report.event).unwrap(),
            @r#"{"kind":"permission","tool":"Bash","what":"ls","answer":"denied","by":"policy","failure":null}"#
        );
    }

    #[test]
    fn sending_to_nobody_or_to_one_who_does_not_read_is_an_error_and_soon() {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let report = read("Stop", &json!({}));
            assert!(send(dir.path(), &report).is_err());
            let _socket = SinkSocket::bind(dir.path()).unwrap();
            let full = (0..5_000).any(|_| send(dir.path(), &report).is_err());
            assert!(full, "a full socket is an error and not a wait for ever");
        });
    }

    proptest! {
        #[test]
        fn any_input_is_taken_without_a_panic(
            kind in proptest::sample::select([&[STATUSLINE_KIND][..], HOOKS].concat()),
            input in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = report(OsStr::new(kind), &input, at());
        }

        #[test]
        fn what_is_sent_is_what_is_read(cost in any::<Option<f64>>(), tokens in any::<Option<u64>>()) {
            let cost_usd = cost.filter(|c| c.is_finite());
            let status = Status { cost_usd, context_tokens: tokens, ..Status::default() };
            let event = SinkEvent::Statusline(Box::new(status));
            let report = SinkReport { at: at(), session_id: None, event };
            let bytes = serde_json::to_vec(&report).unwrap();
            let back: SinkReport = serde_json::from_slice(&bytes).unwrap();
            let (SinkEvent::Statusline(a), SinkEvent::Statusline(b)) = (&report.event, &back.event) else { panic!() };
            prop_assert_eq!(a.context_tokens, b.context_tokens);
            prop_assert_eq!(a.cost_usd.is_some(), b.cost_usd.is_some());
        }
    }
}
