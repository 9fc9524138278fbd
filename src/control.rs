//! The control socket of a live run: one request line in, one JSON line out.
//!
//! The socket lies in the project's state folder (0700), so only the person
//! who started the run can reach it. Its path may be longer than the 108 bytes
//! a socket address holds; it is therefore always reached through
//! `/proc/self/fd/<folder>`.

use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::error::{Error, ErrorKind, Result};

/// The socket's name in the project's state folder.
const SOCKET_NAME: &str = "control.sock";
/// Clients served at a time: each holds a descriptor, and the run needs its own.
const MAX_CLIENTS: usize = 16;
/// A request is one short line.
const MAX_REQUEST_BYTES: u64 = 1024;
/// A client that says nothing is dropped after this long.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// How long a client waits for an answer; the run answers within milliseconds.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// An answer is one status.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// What can be asked of a live run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Where it stands.
    Status,
    /// See [`crate::cycle::Command`].
    Pause,
    /// See [`crate::cycle::Command`].
    Resume,
    /// See [`crate::cycle::Command`].
    Cycle,
    /// See [`crate::cycle::Command`].
    Stop,
    /// See [`crate::cycle::Command`].
    StopNow,
    /// See [`crate::cycle::Command`].
    CancelTask,
}

/// A request on its way to the run.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// The process that asks, if the kernel says.
    pub pid: Option<u32>,
    /// The way back for the answer (one JSON line, no newline).
    pub back: oneshot::Sender<String>,
}

/// Listens in `folder`; requests arrive on the channel. Must run inside a
/// tokio runtime; the socket's file goes when that runtime does. The caller
/// holds the project's lock, so a socket file that is already there belongs to
/// nobody.
pub fn listen(folder: &Path) -> Result<mpsc::Receiver<Asked>> {
    let broken = |e| {
        Error::io(
            ErrorKind::State,
            format!("cannot open the control socket in {}", folder.display()),
            e,
        )
    };
    let dir = File::open(folder).map_err(broken)?;
    let path = through(&dir);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(broken(e)),
        Ok(()) | Err(_) => {}
    }
    let listener = tokio::net::UnixListener::bind(&path).map_err(broken)?;
    let file = SocketFile(dir);
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(broken)?;
    let (tell, told) = mpsc::channel(8);
    let room = Arc::new(Semaphore::new(MAX_CLIENTS));
    tokio::spawn(async move {
        let _file = file;
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: the next client may have more luck.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let tell = tell.clone();
            tokio::spawn(async move {
                let _place = place;
                let _ = tokio::time::timeout(REQUEST_WAIT, serve(stream, tell)).await;
            });
        }
    });
    Ok(told)
}

/// The socket's name in this folder, taken away when the run is over.
struct SocketFile(File);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(through(&self.0));
    }
}

async fn serve(stream: tokio::net::UnixStream, tell: mpsc::Sender<Asked>) -> std::io::Result<()> {
    let pid = stream.peer_cred().ok().and_then(|c| c.pid()).and_then(|pid| u32::try_from(pid).ok());
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(read.take(MAX_REQUEST_BYTES)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Request>(line.trim()) {
        Ok(request) => {
            let (back, answer) = oneshot::channel();
            if tell.send(Asked { request, pid, back }).await.is_err() {
                return Ok(());
            }
            answer.await.unwrap_or_else(|_| r#"{"error":"the run is ending"}"#.into())
        }
        Err(_) => r#"{"error":"unknown request"}"#.into(),
    };
    write.write_all(answer.as_bytes()).await?;
    write.write_all(b"\n").await
}

/// Asks the live run of a project. `None`: nobody listens.
pub fn ask(folder: &Path, request: Request) -> Result<Option<String>> {
    let Ok(dir) = File::open(folder) else {
        return Ok(None);
    };
    let Ok(mut stream) = UnixStream::connect(through(&dir)) else {
        return Ok(None);
    };
    let broken =
        |e| Error::io(ErrorKind::Internal, "the run does not answer on its control socket", e);
    stream.set_read_timeout(Some(ANSWER_WAIT)).map_err(broken)?;
    let mut line = serde_json::to_string(&request)
        .map_err(|e| Error::internal("cannot write a request").caused_by(e))?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(broken)?;
    let mut answer = String::new();
    BufReader::new(stream).take(MAX_ANSWER_BYTES).read_line(&mut answer).map_err(broken)?;
    let answer = answer.trim_end().to_owned();
    match serde_json::from_str::<Refusal>(&answer) {
        Ok(Refusal { error }) => {
            Err(Error::new(ErrorKind::NeedsPerson, format!("the run refuses: {error}")))
        }
        Err(_) => Ok(Some(answer).filter(|a| !a.is_empty())),
    }
}

/// An answer that is none.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

fn through(dir: &File) -> PathBuf {
    format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reaches_the_run_through_a_path_of_any_length() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a-rather-long-name-".repeat(9));
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(ask(&folder, Request::Status).unwrap(), None, "nobody listens yet");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut asked = listen(&folder).unwrap();
            let client = tokio::task::spawn_blocking({
                let folder = folder.clone();
                move || ask(&folder, Request::Pause).unwrap()
            });
            let asked = asked.recv().await.unwrap();
            assert_eq!((asked.request, asked.pid), (Request::Pause, Some(std::process::id())));
            asked.back.send(r#"{"ok":true}"#.into()).unwrap();
            assert_eq!(client.await.unwrap(), Some(r#"{"ok":true}"#.into()));
        });
    }

    #[test]
    fn the_socket_is_the_persons_alone_and_goes_with_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(SOCKET_NAME);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = runtime.block_on(async { listen(dir.path()).unwrap() });
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop((told, runtime));
        assert!(!file.exists());
    }
}
